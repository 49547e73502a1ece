package registry

import (
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"clusterd/registry/state"
)

// rumours is what gossip would tell: the masters that run, and that others have run.
type rumours struct {
	mu    sync.Mutex
	peers map[string]Peer
}

func (g *rumours) tell(p Peer) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.peers[p.ID] = p
}

func (g *rumours) all() []Peer {
	g.mu.Lock()
	defer g.mu.Unlock()
	var all []Peer
	for _, p := range g.peers {
		all = append(all, p)
	}
	return all
}

// piloted founds a cluster of n whose members hear rumours, and returns a
// function that starts a master that is to be added.
func piloted(t *testing.T, n int) (*cluster, *rumours, func(name string) *Registry) {
	t.Helper()
	g := &rumours{peers: map[string]Peer{}}
	c := newCluster(t, n, func(o *Options) {
		o.Peers = g.all
		o.Autopilot = AutopilotOptions{StabilizationTime: 200 * time.Millisecond, DeadAfter: 2 * patientHeartbeat, Interval: 50 * time.Millisecond}
	})
	for _, r := range c.running() {
		g.tell(Peer{Member: r.Self(), Alive: true, Format: state.Format, Build: "test"})
	}
	return c, g, func(name string) *Registry {
		c.names = append(c.names, name)
		c.dirs[name] = t.TempDir()
		r := c.start(name, "")
		g.tell(Peer{Member: r.Self(), Alive: true, Format: state.Format, Build: "test"})
		return r
	}
}

// voters describes who votes, and who does not yet, as seen by a member.
func voters(t *testing.T, r *Registry) string {
	t.Helper()
	members, err := r.Members()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, m := range members {
		if !m.Voter {
			m.ID = "(" + m.ID + ")"
		}
		names = append(names, m.ID)
	}
	slices.SortFunc(names, func(a, b string) int { return strings.Compare(strings.Trim(a, "()"), strings.Trim(b, "()")) })
	return strings.Join(names, " ")
}

func pollVoters(t *testing.T, c *cluster, want string) {
	t.Helper()
	got := ""
	defer func() {
		if t.Failed() {
			t.Logf("members are %s, want %s", got, want)
		}
	}()
	poll(t, func() bool {
		got = voters(t, c.leader().r)
		return got == want
	})
}

// One master grows to three and five while it is written to.
func TestOneGrowsToFive(t *testing.T) {
	t.Parallel() // it waits more than it works
	c, _, add := piloted(t, 1)
	l := c.leader()
	applyT(t, l, state.AdmitAgent(agentInfo("a0")))
	add("m1")
	add("m2")
	pollVoters(t, c, "m0 m1 m2")
	add("m3")
	add("m4")
	pollVoters(t, c, "m0 m1 m2 m3 m4")
	l = c.leader()
	poll(t, func() bool {
		s, err := l.r.Status()
		return err == nil && len(s.Health) == 5 && s.Tolerates == 2
	})
	s, err := l.r.Status()
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range s.Health {
		if h.Build != "test" || h.Format != state.Format || h.LastIndex == 0 {
			t.Errorf("got %+v", h)
		}
	}
	// Two may fail now, the founder among them.
	c.crash("m0")
	c.crash("m1")
	next := c.leader()
	applyT(t, next, state.AdmitAgent(agentInfo("a1")))
	if next.r.State().Agent("a0") == nil {
		t.Error("an agent is lost")
	}
}

// A dead master stays a member until another has come in its place.
func TestDeadMasterIsReplaced(t *testing.T) {
	t.Parallel() // it waits more than it works
	c, g, add := piloted(t, 3)
	l := c.leader()
	applyT(t, l, state.AdmitAgent(agentInfo("a0")))
	dead := c.names[0]
	if string(l.r.id) == dead {
		dead = c.names[1]
	}
	self := c.get(dead).Self()
	c.crash(dead)
	g.tell(Peer{Member: self})
	begun := time.Now()
	for time.Since(begun) < 3*patientHeartbeat {
		if got := voters(t, l.r); got != "m0 m1 m2" {
			t.Fatalf("with nobody to replace the dead one, members are %s", got)
		}
	}
	add("m3")
	pollVoters(t, c, strings.Replace("m0 m1 m2 m3", dead+" ", "", 1))
	c.admit("a1")
}

// Alive for the leader, dead for gossip: the leader is right.
func TestRumourOfADeathIsNotEnough(t *testing.T) {
	t.Parallel() // it waits more than it works
	c, g, add := piloted(t, 3)
	l := c.leader()
	for _, r := range c.running() {
		g.tell(Peer{Member: r.Self()})
	}
	add("m3")
	pollVoters(t, c, "m0 m1 m2 m3")
	begun := time.Now()
	for time.Since(begun) < 3*patientHeartbeat {
		if got := voters(t, l.r); got != "m0 m1 m2 m3" {
			t.Fatalf("members are %s", got)
		}
	}
}

// A master that lost its disk comes back under another id at the same address.
func TestMasterWithAnEmptyDiskReplacesItself(t *testing.T) {
	c, g, _ := piloted(t, 3)
	l := c.leader()
	lost := c.names[0]
	if string(l.r.id) == lost {
		lost = c.names[1]
	}
	self := c.get(lost).Self()
	c.crash(lost)
	g.tell(Peer{Member: self})
	c.names = append(c.names, "new")
	c.dirs["new"] = t.TempDir()
	r := c.start("new", self.Addr)
	g.tell(Peer{Member: r.Self(), Alive: true, Format: state.Format})
	pollVoters(t, c, strings.Replace("m0 m1 m2", lost+" ", "", 1)+" new")
}

// A master that moves is found at its new address, also when all move at once.
func TestMastersMove(t *testing.T) {
	t.Parallel() // it waits more than it works
	c, g, _ := piloted(t, 3)
	l := c.leader()
	applyT(t, l, state.AdmitAgent(agentInfo("a0")))
	for _, name := range c.names {
		c.crash(name)
	}
	for _, name := range c.names {
		g.tell(Peer{Member: c.start(name, "").Self(), Alive: true, Format: state.Format})
	}
	next := c.leader()
	applyT(t, next, state.AdmitAgent(agentInfo("a1")))
	poll(t, func() bool {
		members, err := c.leader().r.Members()
		if err != nil {
			return false
		}
		for _, m := range members {
			if m.Addr != c.get(m.ID).Self().Addr {
				return false
			}
		}
		return len(members) == 3
	})
}

// A master of an older build is not added while the leader writes what it cannot
// read, and gets no vote if an operator adds it.
func TestOlderBuildGetsNoVote(t *testing.T) {
	log := new(syncBuffer)
	g := &rumours{peers: map[string]Peer{}}
	c := newCluster(t, 1, func(o *Options) {
		o.Peers = g.all
		o.Autopilot = AutopilotOptions{StabilizationTime: 50 * time.Millisecond, Interval: 20 * time.Millisecond}
		o.Logger = zerolog.New(log)
		if o.ServerID == "m0" {
			o.format = state.Format + 1
		}
	})
	l := c.leader()
	c.names = append(c.names, "old")
	c.dirs["old"] = t.TempDir()
	old := c.start("old", "")
	g.tell(Peer{Member: old.Self(), Alive: true, Format: state.Format, Build: "test"})
	why := "understands registry format 1, the leader writes format 2"
	poll(t, func() bool {
		return strings.Contains(log.String(), "master is not added to the registry") && strings.Contains(log.String(), why)
	})
	if got := voters(t, l.r); got != "m0" {
		t.Errorf("members are %s", got)
	}
	if err := l.r.AddMember(t.Context(), old.Self()); err != nil {
		t.Fatal(err)
	}

	poll(t, func() bool { return strings.Contains(log.String(), "master gets no vote in the registry") })
	if got := voters(t, l.r); got != "m0 (old)" {
		t.Errorf("members are %s", got)
	}
}
