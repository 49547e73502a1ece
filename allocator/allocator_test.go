package allocator

import (
	"fmt"
	"testing"
	"time"

	"clusterd/allocator/resources"
)

var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func testFramework(roles ...string) Framework {
	return Framework{Roles: roles, Active: true, MultiRole: true, ReservationRefinement: true}
}

func testAgent(text string) Agent {
	return Agent{
		Hostname: "host", Total: resources.MustParse(text), MultiRole: true,
		HierarchicalRole: true, Active: true,
	}
}

func TestOffersGoToTheSmallestShare(t *testing.T) {
	h := New(DefaultOptions())
	h.AddFramework("f1", testFramework("a"), nil)
	h.AddFramework("f2", testFramework("b"), nil)
	got := map[string]int{}
	for i := range 6 {
		h.AddAgent(fmt.Sprint("agent", i), testAgent("cpus:2;mem:1024;ports:[1-10]"), nil)
		for _, o := range h.Allocate(epoch).Offers {
			got[o.FrameworkID]++
			if want := "ports(allocated: " + o.Role + "):[1-10]; cpus(allocated: " + o.Role + "):2; mem(allocated: " + o.Role + "):1024"; o.Resources.String() != want {
				t.Errorf("got resources %s, want %s", o.Resources, want)
			}
		}
	}
	if got["f1"] != 3 || got["f2"] != 3 {
		t.Errorf("got offers %v, want 3 each", got)
	}
}
