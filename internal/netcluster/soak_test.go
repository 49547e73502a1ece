package netcluster

import (
	"flag"
	"math/rand/v2"
	"testing"
	"time"
)

var soak = flag.Duration("soak", 0, "how long TestSoak does harm to a cluster; 0: not at all")

// TestSoak does harm of all kinds in random order for as long as -soak says (make
// soak-ha).
func TestSoak(t *testing.T) {
	if *soak == 0 {
		t.Skip("-soak=DURATION says for how long; make soak-ha")
	}
	all := []scenario{
		{"leader alone", cutLeader},
		{"leader cut from masters", cutLeaderFromMasters},
		{"deaf leader", deafLeader},
		{"silent leader", silentLeader},
		{"every master alone", scatter},
		{"slow network", slowNetwork},
		{"kill the leader", killLeader},
		{"stop the leader", stopLeader},
		{"lose the majority", loseMajority},
		{"kill all masters", killAllMasters},
		{"restart masters", restartMasters},
		{"restart agents", restartAgents},
		{"cut an agent off", cutAgent(func(r *run) error { return r.w.AwaitWork(2) })},
		{"cut an agent off, fail over", cutAgent(killLeader)},
		{"cut an agent off, restart masters", cutAgent(restartMasters)},
		{"slow network, kill the leader", slowly(killLeader)},
		{"slow network, leader alone", slowly(cutLeader)},
	}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	var picked []scenario
	// A scenario takes a second at least: there is always another one.
	for range int(*soak / time.Second) {
		picked = append(picked, all[random.IntN(len(all))])
	}
	until := time.Now().Add(*soak)
	for i, s := range picked {
		picked[i].do = func(r *run) error {
			if time.Now().After(until) {
				r.t.SkipNow()
			}
			return s.do(r)
		}
	}
	c := Start(t, Options{Masters: 3, Agents: 3, MasterFlags: []string{"--agent_ping_timeout=1secs", "--max_agent_ping_timeouts=2"}})
	scenarios(t, c, WorkloadOptions{Long: 9, Short: 3, Unreachable: true}, picked...)
}

// slowly lets something happen while the masters' network is slow.
func slowly(do func(r *run) error) func(r *run) error {
	return func(r *run) error {
		all := Hosts(r.c.Running()...)
		r.c.Net.Between(all, all, Fault{Delay: 10 * time.Millisecond, Jitter: 10 * time.Millisecond})
		defer r.c.Net.Heal()
		return do(r)
	}
}
