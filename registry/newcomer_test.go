package registry

import (
	"fmt"
	"os"
	"testing"
	"time"

	"clusterd/registry/state"
)

// A member that lost its disk and comes back under its old id must not elect one
// that has not seen what the lost disk had acknowledged.
func TestLostDiskLosesNothing(t *testing.T) {
	t.Parallel() // it waits more than it works
	c := newCluster(t, 3, nil)
	l := c.leader()
	leader := string(l.r.id)
	var lost, behind string
	for _, name := range c.names {
		switch {
		case name == leader:
		case lost == "":
			lost = name
		default:
			behind = name
		}
	}
	applyT(t, l, state.AdmitAgent(agentInfo("all know")))
	addrs := map[string]string{}
	for _, name := range c.names {
		addrs[name] = c.get(name).Self().Addr
		poll(t, func() bool {
			return c.get(name).State().AgentCount() == 1 && c.get(name).guard.newcomer.stage() == established
		})
	}
	c.crash(behind)
	for i := range 10 {
		applyT(t, l, state.AdmitAgent(agentInfo(fmt.Sprint("a", i))))
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
	next := c.leader()
	if got := next.State().AgentCount(); got != 11 {
		t.Errorf("%d agents of 11 are left", got)
	}
	applyT(t, next, state.AdmitAgent(agentInfo("b")))
	poll(t, func() bool { return r.guard.newcomer.stage() == established && r.State().AgentCount() == 12 })
	// It counts again.
	c.crash(string(next.r.id))
	applyT(t, c.leader(), state.AdmitAgent(agentInfo("c")))
}
