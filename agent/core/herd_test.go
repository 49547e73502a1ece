package core_test

import (
	"encoding/binary"
	"testing"
	"time"

	"clusterd/agent/core"
)

// TestHerd loses the leader of many agents at once. Their first attempts fill
// registration_backoff_factor evenly; while nobody leads each asks again within
// two seconds; and once gossip names a leader all of them try within the factor
// again, whatever they waited for.
func TestHerd(t *testing.T) {
	const agents, parts = 2000, 10
	var first, second, third [parts]int
	bucket := func(counts *[parts]int, wait, span time.Duration) {
		t.Helper()
		if wait < 0 || wait >= span {
			t.Fatalf("waits %s, want less than %s", wait, span)
		}
		counts[int(wait*parts/span)]++
	}
	for i := range uint64(agents) {
		w := newWorld()
		w.cfg.Seed = [32]byte{1}
		binary.LittleEndian.PutUint64(w.cfg.Seed[1:], i)
		c, err := core.New(w.cfg, nil, w.now)
		if err != nil {
			t.Fatal(err)
		}
		w.core = c
		next := func() time.Duration {
			at, ok := c.NextWake()
			if !ok {
				t.Fatal("the agent waits for nothing")
			}
			return at.Sub(w.now)
		}
		for _, line := range []string{"recovered", "up", "registered cluster=C epoch=1", "down"} {
			w.line(line)
		}
		bucket(&first, next(), time.Second)
		w.line("advance by=1s")
		for range 3 {
			w.line("nomaster")
			w.line("advance by=2s")
		}
		w.line("nomaster")
		bucket(&second, next(), 2*time.Second)
		w.line("leader epoch=2")
		bucket(&third, next(), time.Second)
	}
	t.Logf("after the loss %v, while nobody leads %v, with a new leader %v", first, second, third)
	// With a new leader whoever would have been quicker stays so: it is not even.
	for name, counts := range map[string][parts]int{"after the loss": first, "while nobody leads": second} {
		for i, n := range counts {
			if n < agents/parts*7/10 || n > agents/parts*13/10 {
				t.Errorf("%s: %d of %d agents in part %d of the time, want about %d: %v", name, n, agents, i, agents/parts, counts)
			}
		}
	}
}
