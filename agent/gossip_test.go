package agent

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"clusterd/registry/gossip"
)

// gossiping makes a scripted master known by gossip.
func gossiping(t *testing.T, name string, m *scriptedMaster, cluster string, epoch uint64, join ...string) *gossip.Gossip {
	t.Helper()
	g, err := gossip.Open(t.Context(), gossip.Options{
		Self: gossip.Node{Name: name, Role: gossip.Master, HTTP: m.addr(), ClusterID: cluster, Epoch: epoch},
		Bind: "127.0.0.1:0", Join: join,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = g.Close() })
	return g
}

// TestJoin starts an agent that knows nothing but a follower's gossip address: it
// finds the leader, says of which cluster it is once it knows, and follows the
// next leader although the first, which hangs, never closes the link.
func TestJoin(t *testing.T) {
	a, b := newScriptedMaster(t), newScriptedMaster(t)
	a.set(inCluster("C", 1))
	b.set(leadsNot("none"))
	ga := gossiping(t, "a", a, "C", 1)
	gb := gossiping(t, "b", b, "C", 0, ga.Addr())

	h := newMachine(t, a)
	joined := func(o *Options) {
		o.Masters, o.Join, o.GossipBind = nil, []string{gb.Addr()}, "127.0.0.1:0"
	}
	ag := h.start(joined)
	a.waitRegistered(1)
	eventually(t, "the others know the agent and its cluster", func() bool {
		for _, n := range gb.Nodes() {
			if n.Role == gossip.Agent && n.ClusterID == "C" && n.HTTP == ag.Addr() {
				return true
			}
		}
		return false
	})
	name, err := os.ReadFile(filepath.Join(h.work, "meta", "node_id"))
	if err != nil || len(name) == 0 {
		t.Fatalf("got name %q, %v", name, err)
	}

	a.set(func(m *scriptedMaster) { m.mute = true })
	b.set(inCluster("C", 2))
	if err := ga.Update(func(n *gossip.Node) { n.Epoch = 0 }); err != nil {
		t.Fatal(err)
	}
	if err := gb.Update(func(n *gossip.Node) { n.Epoch = 2 }); err != nil {
		t.Fatal(err)
	}
	b.waitRegistered(1)

	h.stop(ag)
	ag = h.start(joined)
	if reg := b.waitRegistered(2); reg.GetAgentInfo().GetId().GetValue() != "M-S0" {
		t.Errorf("came back as %v", reg.GetAgentInfo().GetId())
	}
	h.leave(ag)
}

// TestJoinFails: an agent that cannot gossip says so at its start, and leaves
// nothing open.
func TestJoinFails(t *testing.T) {
	m := newScriptedMaster(t)
	h := newMachine(t, m)
	for name, change := range map[string]func(*Options){
		"short key":     func(o *Options) { o.GossipKeys = [][]byte{{1, 2, 3}} },
		"no such place": func(o *Options) { o.GossipBind = "192.0.2.1:0" },
	} {
		o := h.options()
		o.Join, o.GossipBind = []string{"127.0.0.1:1"}, "127.0.0.1:0"
		change(&o)
		a, err := New(o)
		if err != nil {
			t.Fatal(err)
		}
		if err := a.Start(t.Context()); err == nil {
			t.Errorf("%s: it starts", name)
		}
		if err := a.Stop(context.Background()); err != nil {
			t.Errorf("%s: stop: %v", name, err)
		}
	}
}
