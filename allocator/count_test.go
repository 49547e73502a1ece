package allocator

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"testing"
	"time"

	"clusterd/allocator/resources"
)

// filtersByHand counts the filters of the roles one by one.
func filtersByHand(h *hierarchical) map[string]int {
	counts := make(map[string]int)
	for _, f := range h.frameworks {
		for _, l := range f.leaves {
			if l.subscribed {
				counts[l.role.path] += 0
			}
		}
	}
	for _, f := range h.frameworks {
		for _, l := range f.leaves {
			if _, shown := counts[l.role.path]; !shown {
				continue
			}
			for a, fs := range l.filters {
				if fs[0].era == a.era {
					counts[l.role.path] += len(fs)
				}
			}
		}
	}
	return counts
}

// TestOfferFilters counts filters by hand in random histories, now and then, and makes
// sure that to ask changes nothing that is decided.
func TestOfferFilters(t *testing.T) {
	for _, kind := range worldKinds {
		t.Run(kind.name, func(t *testing.T) {
			rng, ask := rand.New(rand.NewPCG(3, 4)), rand.New(rand.NewPCG(5, 6))
			w := newWorld(kind, func(_ string, n int) int { return rng.IntN(n) }, t.Fatalf)
			h := w.a.(*hierarchical)
			most := 0
			for step := range 2000 {
				w.step()
				if ask.IntN(4) > 0 {
					continue
				}
				want := filtersByHand(h)
				got := h.OfferFilters()
				if !maps.Equal(got, want) {
					t.Fatalf("step %d: got %v, want %v", step, got, want)
				}
				for _, n := range got {
					most = max(most, n)
				}
			}
			if most < 3 && !kind.plain {
				t.Errorf("never more than %d filters: nothing was tested", most)
			}
			w.replay() // without questions
		})
	}
}

// TestOfferFiltersUnasked has agents change that nobody asks about: what waits to be
// swept stays bounded.
func TestOfferFiltersUnasked(t *testing.T) {
	h := newHierarchical(Options{})
	h.AddFramework("f", Framework{Roles: []string{"r"}, Active: true}, nil)
	now := time.Unix(0, 0)
	total := resources.MustParse("cpus:4;mem:1024")
	const n = 3 * maxUnswept
	for i := range n {
		id := fmt.Sprint(i)
		h.AddAgent(id, Agent{Total: total, Active: true, MultiRole: true, HierarchicalRole: true}, nil)
		for _, o := range h.Allocate(now).Offers {
			h.RecoverResources(now, o.FrameworkID, o.AgentID, o.Resources, &Filter{RefuseFor: time.Hour})
		}
	}
	if got := h.OfferFilters(); got["r"] != n {
		t.Fatalf("got %v, want %d", got, n)
	}
	for i := range n {
		h.RemoveAgent(fmt.Sprint(i))
	}
	if len(h.unswept) > maxUnswept {
		t.Errorf("%d agents wait", len(h.unswept))
	}
	if got := h.OfferFilters(); got["r"] != 0 {
		t.Errorf("after all are gone: %v", got)
	}
}
