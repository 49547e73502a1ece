package allocator

import (
	"fmt"
	"testing"
	"time"

	"clusterd/allocator/resources"
	mesos "clusterd/api/mesos/v1"
	"clusterd/api/mesosjson"
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

func anyJSON(text string) (resources.Resources, error) {
	rs, err := mesosjson.UnmarshalList[mesos.Resource]([]byte(text))
	if err != nil {
		return resources.Resources{}, err
	}
	return resources.FromProto(rs)
}

// TestDeterminism runs the same history twice: the offers are the same, in the
// same order.
func TestDeterminism(t *testing.T) {
	for _, sorter := range []string{SorterDRF, SorterRandom} {
		history := func() string {
			opts := DefaultOptions()
			opts.RoleSorter, opts.FrameworkSorter, opts.Seed = sorter, sorter, 7
			h := New(opts)
			out := ""
			for i := range 20 {
				h.AddFramework(fmt.Sprint("f", i), testFramework(fmt.Sprint("r", i%5), "all"), nil)
			}
			for round := range 5 {
				for i := range 30 {
					id := fmt.Sprint("s", round, "-", i)
					h.AddAgent(id, testAgent("cpus:2;mem:64"), nil)
				}
				a := h.Allocate(epoch)
				out += describe(a)
				for i, o := range a.Offers {
					if i%2 == 0 {
						h.RecoverResources(epoch, o.FrameworkID, o.AgentID, o.Resources, &Filter{RefuseFor: time.Hour})
					}
				}
			}
			return out
		}
		a, b := history(), history()
		if a == "" || a != b {
			t.Errorf("sorter %s: got\n%s\nand then\n%s", sorter, a, b)
		}
	}
}

// TestRandomSorterWeights draws often enough for the chances to show.
func TestRandomSorterWeights(t *testing.T) {
	opts := DefaultOptions()
	opts.RoleSorter = SorterRandom
	h := newHierarchical(opts)
	h.UpdateWeights(map[string]float64{"a": 3, "b/x": 1, "b/y": 9})
	for _, role := range []string{"a", "b/x", "b/y"} {
		h.AddFramework(role, testFramework(role), nil)
	}
	got := map[string]int{}
	const n = 4000
	for i := range n {
		h.AddAgent(fmt.Sprint(i), testAgent("cpus:1"), nil)
	}
	for _, o := range h.Allocate(epoch).Offers {
		got[o.FrameworkID]++
	}
	// a : b is 3 : 1, and x : y within b 1 : 9.
	for id, want := range map[string]int{"a": n * 3 / 4, "b/x": n / 40, "b/y": n * 9 / 40} {
		if d := got[id] - want; d < -n/20 || d > n/20 {
			t.Errorf("%s: got %d of %d, want about %d", id, got[id], n, want)
		}
	}
}

// TestFiltersAreForgotten refuses for a year and revives, over and over.
func TestFiltersAreForgotten(t *testing.T) {
	h := newHierarchical(DefaultOptions())
	h.AddFramework("f", testFramework("a"), nil)
	for i := range 100 {
		h.AddAgent(fmt.Sprint(i), testAgent("cpus:1"), nil)
	}
	year := &Filter{RefuseFor: 365 * 24 * time.Hour}
	for i := range 200 {
		offers := h.Allocate(epoch.Add(time.Duration(i))).Offers
		if len(offers) != 100 {
			t.Fatalf("round %d: got %d offers, want 100", i, len(offers))
		}
		for _, o := range offers {
			h.RecoverResources(epoch, o.FrameworkID, o.AgentID, o.Resources, year)
		}
		if i%2 == 0 {
			h.ReviveOffers("f", nil)
		} else {
			h.DeactivateFramework("f")
			h.ActivateFramework("f")
		}
	}
	if len(h.expiries) > 2048 {
		t.Errorf("%d expiries are kept for no filter", len(h.expiries))
	}
	if at, ok := h.NextDeadline(); ok {
		t.Errorf("got the deadline %v, want none", at)
	}
}

func TestOptions(t *testing.T) {
	got, err := ParseMinAllocatable("cpus:0.01|mem:32;cpus:1")
	if err != nil || len(got) != 2 || got[1].String() != "cpus:1; mem:32" {
		t.Errorf("got %v, %v", got, err)
	}
	if _, err := ParseMinAllocatable("cpus"); err == nil {
		t.Error("ParseMinAllocatable(cpus): want an error")
	}
	if got := newHierarchical(Options{}).opts.Interval; got != time.Second {
		t.Errorf("got the interval %v, want 1s", got)
	}
}

func TestBrokenInvariantsPanic(t *testing.T) {
	h := New(DefaultOptions())
	h.AddFramework("f", testFramework("a"), nil)
	h.AddAgent("s", testAgent("cpus:1"), nil)
	one := resources.MustParse("cpus:1").Allocate("a")
	for name, f := range map[string]func(){
		"framework twice":   func() { h.AddFramework("f", Framework{}, nil) },
		"agent twice":       func() { h.AddAgent("s", Agent{}, nil) },
		"unknown framework": func() { h.RemoveFramework("g") },
		"unknown agent":     func() { h.RemoveAgent("g") },
		"not held":          func() { h.RecoverResources(epoch, "f", "s", one, nil) },
		"weight":            func() { h.UpdateWeights(map[string]float64{"a": 0}) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: want a panic", name)
				}
			}()
			f()
		}()
	}
	// These may be gone already.
	h.RecoverResources(epoch, "g", "s", one, nil)
	h.RecoverResources(epoch, "f", "g", one, nil)
	h.RequestResources("f", nil)
	h.UpdateUnavailability("s", nil)
	h.UpdateInverseOffer(epoch, "f", "s", true, nil)
}
