package server

import (
	"fmt"
	"slices"
	"strings"

	"clusterd/registry"
	"clusterd/registry/gossip"
)

// How several masters found one cluster, and never two.
//
// A master that has never had to do with a cluster says in gossip how many it
// expects (Expect) and whom it lets found the cluster (Endorses). Once it sees as
// many as it expects it endorses the one whose name sorts first. It may change its
// mind only where nothing can have come of it: from itself, while it has founded
// nothing, and from one who endorses another itself. A master that endorses itself,
// and that as many endorse as it expects, founds the cluster with just those; the
// others hear of it from Raft. So two can only found when one's endorsers have lost
// it from sight and chosen anew; and then the first still needs the votes of a
// majority of them, who give one vote in a term and none when they have founded.

// foundingView is what a master decides by.
type foundingView struct {
	self gossip.Node
	// pristine says that this master has never had to do with a cluster.
	pristine bool
	// masters are the live ones, this one among them.
	masters []gossip.Node
}

// founding is what follows from it.
type founding struct {
	// endorse is whom this master endorses, empty if nobody.
	endorse string
	// found is who founds the cluster, this master first among them; nil if it is
	// not for this one to do, or not yet.
	found []registry.Member
	// wait says why nothing happens.
	wait string
}

// decideFounding says what a master that expects to found a cluster does now.
func decideFounding(v foundingView) founding {
	if !v.pristine || v.self.ClusterID != "" || v.self.Expect < 2 {
		return founding{}
	}
	var candidates []gossip.Node
	for _, m := range v.masters {
		switch {
		case m.ClusterID != "":
			return founding{wait: fmt.Sprintf("there is a cluster already, %s, which master %s at %s belongs to: waiting to be added to it", m.ClusterID, m.Name, m.HTTP)}
		case m.Expect == 0:
			// It joins, or has founded already; Raft will tell.
		case m.Expect != v.self.Expect:
			return founding{wait: fmt.Sprintf("master %s at %s has --bootstrap_expect=%d, this one has %d: they must be the same", m.Name, m.HTTP, m.Expect, v.self.Expect)}
		default:
			candidates = append(candidates, m)
		}
	}
	slices.SortFunc(candidates, func(a, b gossip.Node) int { return strings.Compare(a.Name, b.Name) })
	f := founding{endorse: endorse(v, candidates)}
	if f.endorse == "" {
		f.wait = fmt.Sprintf("%d of %d masters to be expected are there", len(candidates), v.self.Expect)
		return f
	}
	f.wait = "master " + f.endorse + " is to found the cluster"
	if f.endorse != v.self.Name {
		return f
	}
	var members []registry.Member
	for _, m := range candidates {
		endorses := m.Endorses
		if m.Name == v.self.Name {
			endorses = f.endorse
		}
		if endorses == v.self.Name && len(members) < v.self.Expect {
			members = append(members, registry.Member{ID: m.Name, Addr: m.Raft})
		}
	}
	if len(members) == v.self.Expect && slices.ContainsFunc(members, func(m registry.Member) bool { return m.ID == v.self.Name }) {
		f.found = members
	}
	return f
}

// endorse says whom a master lets found the cluster, by name; nobody if too few
// are there. Who endorses another does so because that one's name sorts before
// its own, so that following ends.
func endorse(v foundingView, candidates []gossip.Node) string {
	live := make(map[string]gossip.Node, len(v.masters))
	for _, m := range v.masters {
		live[m.Name] = m
	}
	if now, ok := live[v.self.Endorses]; ok && now.Name != v.self.Name {
		if next, ok := live[now.Endorses]; ok && now.ClusterID == "" {
			return next.Name // itself, or the one that it endorses
		}
		return now.Name
	}
	if len(candidates) < v.self.Expect {
		return ""
	}
	return candidates[0].Name
}
