package registry

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"clusterd/registry/state"
)

// Whatever bbolt writes passes the check: small and large entries, branches, pages
// that overflow, and what truncation leaves.
func TestWholeLogFilesPass(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 6))
	dir := t.TempDir()
	opts := single(dir)
	opts.SnapshotThreshold = 64
	n := 0
	for range 6 {
		r := openT(t, opts)
		l := leadT(t, r)
		for range rnd.IntN(150) {
			info := agentInfo(fmt.Sprint("a", n))
			n++
			if rnd.IntN(8) == 0 {
				info.Hostname = new(strings.Repeat("x", rnd.IntN(1<<rnd.IntN(18))))
			}
			applyT(t, l, state.AdmitAgent(info))
		}
		if rnd.IntN(3) > 0 {
			poll(t, func() bool { return r.Snapshot() == nil }) // not while an address is being corrected
		}
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if got := leadT(t, openT(t, opts)).State().AgentCount(); got != n {
		t.Errorf("%d agents of %d", got, n)
	}
}
