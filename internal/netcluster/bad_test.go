package netcluster

import (
	"fmt"
	"strings"
	"testing"

	"clusterd/internal/testcluster"
)

// said waits until a node has logged a line that holds all of the texts.
func said(t *testing.T, n *Node, texts ...string) {
	t.Helper()
	err := testcluster.Poll(func() error {
	lines:
		for line := range strings.Lines(n.Log()) {
			for _, text := range texts {
				if !strings.Contains(line, text) {
					continue lines
				}
			}
			return nil
		}
		return fmt.Errorf("%s has not said %q", n.name, texts)
	})
	if err != nil {
		t.Error(err)
	}
}

// bad starts a master that founds a cluster alone, and one that does not fit beside it.
func bad(t *testing.T, prepare func(c *Cluster, other *Node)) (*Cluster, *Node) {
	t.Helper()
	if err := Supported(); err != nil {
		t.Skip(err)
	}
	t.Parallel()
	c := newT(t, Options{Masters: 1})
	other, err := c.AddMaster(c.Masters[0])
	if err != nil {
		t.Fatal(err)
	}
	prepare(c, other)
	if err := c.Masters[0].Start(); err != nil {
		t.Fatal(err)
	}
	if err := awaitVoters(c, c.Masters[0]); err != nil {
		t.Fatal(err)
	}
	if err := other.Launch(); err != nil {
		t.Fatal(err)
	}
	return c, other
}

// aloneStill wants the first master to go on as the only member.
func aloneStill(t *testing.T, c *Cluster) {
	t.Helper()
	s, err := c.Masters[0].registry()
	if err != nil {
		t.Fatal(err)
	}
	if !s.Leads || len(s.Members) != 1 {
		t.Errorf("the first master leads: %v, members %+v", s.Leads, s.Members)
	}
}

// keys of AES-256.
const (
	oneKey     = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
	anotherKey = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh4="
)

func TestWrongGossipKey(t *testing.T) {
	c, other := bad(t, func(c *Cluster, other *Node) {
		c.Masters[0].SetFlag("gossip_key", oneKey)
		other.SetFlag("gossip_key", anotherKey)
	})
	const what = "with a key that this node does not have: --gossip_key differs"
	said(t, c.Masters[0], what, other.IP())
	said(t, other, what, c.Masters[0].IP())
	aloneStill(t, c)
}

func TestNoGossipKey(t *testing.T) {
	c, other := bad(t, func(c *Cluster, _ *Node) { c.Masters[0].SetFlag("gossip_key", oneKey) })
	said(t, c.Masters[0], "it has no --gossip_key", other.IP())
	said(t, other, "it has a --gossip_key, this node has none", c.Masters[0].IP())
	aloneStill(t, c)
}

// TestClustersMeet joins a master that has a cluster of its own.
func TestClustersMeet(t *testing.T) {
	c, other := bad(t, func(_ *Cluster, other *Node) { other.SetFlag("bootstrap_expect", "1") })
	const what = "met a node of another cluster by gossip: the clusters stay apart"
	said(t, c.Masters[0], what, other.name)
	said(t, other, what, c.Masters[0].name)
	aloneStill(t, c)
	one, err := c.Masters[0].registry()
	if err != nil {
		t.Fatal(err)
	}
	two, err := other.registry()
	if err != nil {
		t.Fatal(err)
	}
	if !two.Leads || len(two.Members) != 1 || two.ClusterID == one.ClusterID || two.ClusterID == "" {
		t.Errorf("clusters %q and %q, the second leads: %v, members %+v", one.ClusterID, two.ClusterID, two.Leads, two.Members)
	}
}

// TestDuplicateName joins a master with the name of one that is there.
func TestDuplicateName(t *testing.T) {
	c, other := bad(t, func(c *Cluster, other *Node) { other.SetFlag("node_id", c.Masters[0].name) })
	const what = "another live node has the name of this one"
	said(t, other, what, c.Masters[0].IP())
	said(t, c.Masters[0], what, other.IP())
	aloneStill(t, c)
}

// TestRaftUnreachable joins a master whose Raft nobody can dial.
func TestRaftUnreachable(t *testing.T) {
	const nowhere = prefix + "99:5052"
	c, other := bad(t, func(_ *Cluster, other *Node) { other.SetFlag("raft_advertise", nowhere) })
	said(t, c.Masters[0], nowhere, "dial tcp")
	said(t, other, "it has not added this master", nowhere)
	if _, err := c.Leader(); err != nil {
		t.Error(err)
	}
}

// TestAgentOfAnotherCluster starts an agent again with the address of another cluster's master:
// both say so, and it stays with its own, whose masters it has kept.
func TestAgentOfAnotherCluster(t *testing.T) {
	t.Parallel()
	c := Start(t, Options{Masters: 1, Agents: 1})
	other, err := c.AddMaster()
	if err != nil {
		t.Fatal(err)
	}
	other.SetFlag("bootstrap_expect", "1")
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	id, err := agentID(c, c.Agents[0])
	if err != nil {
		t.Fatal(err)
	}
	a := c.Agents[0]
	a.Kill()
	a.SetFlag("join", other.IP())
	if err := a.Start(); err != nil {
		t.Fatal(err)
	}
	const what = "met a node of another cluster by gossip: the clusters stay apart"
	said(t, a, what, other.name)
	said(t, other, what, a.name)
	err = testcluster.Poll(func() error {
		l, err := c.Masters[0].asLeader()
		if err == nil && (l.Activated != 1 || len(l.Slaves) != 1 || l.Slaves[0].ID != id) {
			err = fmt.Errorf("%g agents are active, %+v", l.Activated, l.Slaves)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
	if l, err := other.asLeader(); err != nil || len(l.Slaves) > 0 {
		t.Errorf("the other cluster has agents %+v, %v", l, err)
	}
}
