package server

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"clusterd/registry"
	"clusterd/registry/gossip"
)

func candidate(name string, expect int) gossip.Node {
	return gossip.Node{Name: name, Role: gossip.Master, Expect: expect, Raft: name + ":1", HTTP: name + ":2"}
}

func TestDecideFounding(t *testing.T) {
	a, b, c := candidate("a", 3), candidate("b", 3), candidate("c", 3)
	by := func(n gossip.Node, endorses string) gossip.Node { n.Endorses = endorses; return n }
	member := by(candidate("m", 0), "")
	member.ClusterID = "X"
	for _, test := range []struct {
		name          string
		self          gossip.Node
		others        []gossip.Node
		used          bool
		endorse, wait string
		found         string
	}{
		{"alone", a, nil, false, "", "1 of 3", ""},
		{"too few", a, []gossip.Node{b}, false, "", "2 of 3", ""},
		{"enough: the first founds", b, []gossip.Node{a, c}, false, "a", "master a is to found", ""},
		{"nobody endorses yet", a, []gossip.Node{b, c}, false, "a", "", ""},
		{"one is missing", a, []gossip.Node{by(b, "a"), c}, false, "a", "", ""},
		{"all endorse", a, []gossip.Node{by(b, "a"), by(c, "a")}, false, "a", "", "a b c"},
		{"a smaller name comes late", by(b, "b"), []gossip.Node{a, by(c, "b")}, false, "a", "", ""},
		{"the endorsed one endorses another", by(c, "b"), []gossip.Node{by(a, "a"), by(b, "a")}, false, "a", "", ""},
		{"a smaller name comes late to another", by(c, "b"), []gossip.Node{a, by(b, "b")}, false, "b", "", ""},
		{"the endorsed one has died", by(b, "a"), []gossip.Node{c, candidate("d", 3)}, false, "b", "", ""},
		{"more than expected", a, []gossip.Node{by(b, "a"), by(c, "a"), by(candidate("d", 3), "a")}, false, "a", "", "a b c"},
		{"there is a cluster", a, []gossip.Node{by(b, "a"), by(c, "a"), member}, false, "", "there is a cluster already, X", ""},
		{"they expect different numbers", a, []gossip.Node{b, candidate("c", 5)}, false, "", "must be the same", ""},
		{"who only joins does not count", a, []gossip.Node{b, candidate("c", 0)}, false, "", "2 of 3", ""},
		{"has a past", a, []gossip.Node{by(b, "a"), by(c, "a")}, true, "", "", ""},
		{"joins", candidate("a", 0), []gossip.Node{b, c}, false, "", "", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := decideFounding(foundingView{self: test.self, pristine: !test.used, masters: append([]gossip.Node{test.self}, test.others...)})
			if got.endorse != test.endorse || !strings.Contains(got.wait, test.wait) || names(got.found) != test.found {
				t.Errorf("got %+v, want %q, %q, %q", got, test.endorse, test.wait, test.found)
			}
		})
	}
}

func names(members []registry.Member) string {
	var ids []string
	for _, m := range members {
		ids = append(ids, m.ID)
	}
	return strings.Join(ids, " ")
}

// TestOneCluster lets masters meet in random orders, with news that are late:
// at most one of them founds, and in the end one has.
func TestOneCluster(t *testing.T) {
	for seed := range uint64(500) {
		rng := rand.New(rand.NewPCG(seed, 1))
		n, expect := 3+rng.IntN(3), 3
		nodes := make([]gossip.Node, n)
		knows := make([]map[string]gossip.Node, n)
		for i := range nodes {
			nodes[i] = candidate(fmt.Sprintf("m%d", i), expect)
			knows[i] = map[string]gossip.Node{}
		}
		founders := 0
		founded := ""
		for range 400 {
			i, j := rng.IntN(n), rng.IntN(n)
			knows[i][nodes[j].Name] = nodes[j] // news arrive
			knows[i][nodes[i].Name] = nodes[i]
			v := foundingView{self: nodes[i], pristine: founded == "" || nodes[i].Name != founded}
			for _, m := range knows[i] {
				v.masters = append(v.masters, m)
			}
			got := decideFounding(v)
			if v.pristine {
				nodes[i].Endorses = got.endorse
			}
			if got.found != nil {
				founders++
				founded = nodes[i].Name
				nodes[i].Expect = 0
			}
		}
		if founders != 1 {
			t.Fatalf("seed %d: %d of %d masters found a cluster", seed, founders, n)
		}
	}
}
