package core

import (
	"hash/fnv"
	"testing"

	"clusterd/allocator"
)

// TestSeed: no two leaderships make the same UUIDs, also when the shell has mixed the
// master's id into the seed with the very hash that the core uses. It once took the
// id out again: an agent that held an operation of the last leader took the next
// one's for the same, and the reservation was never made. The simulation found that.
func TestSeed(t *testing.T) {
	seen := map[string]string{}
	for _, mixed := range []bool{false, true} {
		for _, id := range []string{"M1", "M2", "0c6ea5e4-5cbb-4d0c-9c7c-7b1c1b1b1b1b"} {
			cfg := testConfig()
			cfg.MasterInfo.Id = &id
			cfg.Seed = 0
			if mixed {
				h := fnv.New64a()
				_, _ = h.Write([]byte(id))
				cfg.Seed = h.Sum64()
			}
			c := New(cfg, Recovered{}, allocator.New(allocator.DefaultOptions()), epoch)
			uuid := c.newUUID()
			if other, ok := seen[uuid]; ok && other != id {
				t.Errorf("masters %s and %s make the same UUID (mixed: %t)", other, id, mixed)
			}
			seen[uuid] = id
		}
	}
}
