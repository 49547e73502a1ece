package registry

import (
	"fmt"
	"os"
	"testing"
	"time"
)

// A member that lost its disk and comes back under its old id must not elect one
// that has not seen what the lost disk had acknowledged.
func TestLostDiskLosesNothing(t *testing.T) {
	t.Parallel() // it waits more than it works
	c := newCluster(t, 3, nil)
	behind := c.names[0]
	if string(c.admit("all know").r.id) == behind {
		behind = c.names[1]
	}
	addrs := map[string]string{}
	for _, name := range c.names {
		addrs[name] = c.get(name).Self().Addr
		poll(t, func() bool {
			return c.get(name).State().AgentCount() == 1 && c.get(name).guard.newcomer.stage() == established
		})
	}
	c.crash(behind)
	var leader, lost string
	for i := range 10 {
		leader = string(c.admit(fmt.Sprint("a", i)).r.id)
	}
	for _, name := range c.names {
		if name != leader && name != behind {
			lost = name
		}
	}
	c.crash(leader)
	c.crash(lost)
	if err := os.RemoveAll(c.dirs[lost]); err != nil {
		t.Fatal(err)
	}
	c.start(behind, addrs[behind])
	r := c.start(lost, addrs[lost])
	begun := time.Now()
	for time.Since(begun) < 4*patientHeartbeat {
		for _, m := range c.running() {
			if got := m.leadership(); got != nil {
				t.Fatalf("%s leads with %d of 11 agents", m.id, got.State().AgentCount())
			}
		}
		pause(t.Context(), 10*time.Millisecond)
	}
	c.start(leader, addrs[leader])
	if got := c.leader().State().AgentCount(); got != 11 {
		t.Errorf("%d agents of 11 are left", got)
	}
	next := c.admit("b")
	poll(t, func() bool { return r.guard.newcomer.stage() == established && r.State().AgentCount() == 12 })
	// It counts again.
	c.crash(string(next.r.id))
	c.admit("c")
}
