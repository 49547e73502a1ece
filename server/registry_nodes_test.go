package server

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"clusterd/internal/registryapi"
	"clusterd/registry/gossip"
)

func TestNodesOf(t *testing.T) {
	seen := func(name string, role gossip.Role, alive bool) gossip.Seen {
		return gossip.Seen{Node: gossip.Node{Name: name, Role: role}, Addr: name + ":1", Alive: alive, Since: time.Unix(10, 5e8)}
	}
	nodes, left := nodesOf([]gossip.Seen{
		seen("a2", gossip.Agent, true), seen("a1", gossip.Agent, false), seen("m2", gossip.Master, false), seen("a0", gossip.Agent, true), seen("m1", gossip.Master, true),
	})
	want := []registryapi.Node{
		{Name: "m1", Role: "master", Address: "m1:1", Alive: true, Since: 10.5},
		{Name: "m2", Role: "master", Address: "m2:1", Since: 10.5},
		{Name: "a1", Role: "agent", Address: "a1:1", Since: 10.5},
		{Name: "a0", Role: "agent", Address: "a0:1", Alive: true, Since: 10.5},
		{Name: "a2", Role: "agent", Address: "a2:1", Alive: true, Since: 10.5},
	}
	if diff := cmp.Diff(want, nodes); diff != "" || left != 0 {
		t.Errorf("%d left out (-want +got):\n%s", left, diff)
	}
	var many []gossip.Seen
	for i := range registryapi.MaxNodes + 3 {
		many = append(many, seen(fmt.Sprintf("a%04d", i), gossip.Agent, true))
	}
	if nodes, left := nodesOf(many); len(nodes) != registryapi.MaxNodes || left != 3 {
		t.Errorf("got %d nodes and %d left out, want %d and 3", len(nodes), left, registryapi.MaxNodes)
	}
}

// TestAutopilotShown: the leader says how it finds itself.
func TestAutopilotShown(t *testing.T) {
	s := startMaster(t)
	eventually(t, "the leader finds itself healthy", func() bool {
		st := registryStatus(t, s)
		return len(st.Autopilot) == 1 && st.Autopilot[0].ID == st.ID && st.Autopilot[0].Healthy && st.Autopilot[0].LastIndex > 0
	})
}
