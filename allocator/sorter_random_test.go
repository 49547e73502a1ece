package allocator

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
)

// chance is a client of the random sorter and the chance that it has to be
// first.
type chance struct {
	name string
	p    float64
}

// orders returns how likely each order of the clients is, joined by blanks: one
// after the other is drawn, with the chances that they have among those left.
func orders(clients []chance) map[string]float64 {
	out := map[string]float64{}
	var draw func(left []chance, drawn []string, p float64)
	draw = func(left []chance, drawn []string, p float64) {
		if len(left) == 0 {
			out[strings.Join(drawn, " ")] = p
			return
		}
		var sum float64
		for _, c := range left {
			sum += c.p
		}
		for i, c := range left {
			rest := slices.Delete(slices.Clone(left), i, i+1)
			draw(rest, append(slices.Clone(drawn), c.name), p*c.p/sum)
		}
	}
	draw(clients, nil, 1)
	return out
}

// checkChances compares counts with what is expected of them by Pearson's test.
// The bound is passed by one seed in ten thousand, were the chances right.
func checkChances(t *testing.T, what string, got map[string]int, want map[string]float64) {
	t.Helper()
	n := 0
	for name, c := range got {
		if want[name] == 0 {
			t.Errorf("%s: %q cannot be", what, name)
		}
		n += c
	}
	var chi float64
	for name, p := range want {
		d := float64(got[name]) - p*float64(n)
		chi += d * d / (p * float64(n))
	}
	// Wilson and Hilferty's approximation of the quantile.
	df, z := float64(len(want)-1), 3.72
	bound := df * math.Pow(1-2/(9*df)+z*math.Sqrt(2/(9*df)), 3)
	if chi > bound {
		t.Errorf("%s: chi squared is %.1f, more than %.1f\ngot %v of %d\nwant %v", what, chi, bound, got, n, want)
	}
}

// drawn has the sorters put their clients in order, for 20,000 agents.
func drawn(h *hierarchical) map[string]int {
	got := map[string]int{}
	for seq := range 20000 {
		a := &agent{seq: uint64(seq)}
		var names []string
		h.eachRole(a, func(r *role) bool {
			h.eachLeaf(a, r, func(l *leaf) bool {
				names = append(names, l.name)
				return true
			})
			return true
		})
		got[strings.Join(names, " ")]++
	}
	return got
}

func randomSorters(seed uint64) *hierarchical {
	opts := DefaultOptions()
	opts.RoleSorter, opts.FrameworkSorter, opts.Seed = SorterRandom, SorterRandom, seed
	return newHierarchical(opts)
}

// inRole adds a framework that is named like its role.
func inRole(h *hierarchical, role string, suppressed bool) {
	f := testFramework(role)
	if suppressed {
		f.Suppressed = f.Roles
	}
	h.AddFramework(role, f, nil)
}

// TestRandomSorter draws roles with the weights 1 to 5
// (WeightedShuffleTest.ProbabilityDistribution and
// RandomSorterTest.ProbabilityDistribution), all orders being compared, not only
// how often one has a place.
func TestRandomSorter(t *testing.T) {
	var clients []chance
	h := randomSorters(1)
	for i := range 5 {
		c := chance{fmt.Sprint(i), float64(i+1) / 15}
		clients = append(clients, c)
		inRole(h, c.name, false)
		h.UpdateWeights(map[string]float64{c.name: float64(i + 1)})
	}
	got := drawn(h)
	checkChances(t, "orders", got, orders(clients))

	// Mesos's table: the chance of each to come at each place.
	table := [5][5]float64{
		{0.07, 0.08, 0.12, 0.20, 0.54},
		{0.13, 0.16, 0.20, 0.28, 0.23},
		{0.20, 0.22, 0.24, 0.22, 0.12},
		{0.27, 0.26, 0.23, 0.17, 0.07},
		{0.33, 0.28, 0.21, 0.13, 0.04},
	}
	checkPlaces(t, got, []string{"0", "1", "2", "3", "4"}, func(i, at int) float64 { return table[i][at] })
}

// checkPlaces compares how often the clients come at each place with a table,
// whose two decimals allow for no more than 0.015.
func checkPlaces(t *testing.T, got map[string]int, names []string, table func(client, place int) float64) {
	t.Helper()
	counts, n := map[string][]float64{}, 0.0
	for order, c := range got {
		for at, name := range strings.Fields(order) {
			if counts[name] == nil {
				counts[name] = make([]float64, len(names))
			}
			counts[name][at] += float64(c)
		}
		n += float64(c)
	}
	for i, name := range names {
		for at := range names {
			if p, want := counts[name][at]/n, table(i, at); math.Abs(p-want) > 0.015 {
				t.Errorf("%s comes at place %d in %.3f of all orders, want %.2f", name, at, p, want)
			}
		}
	}
}

// TestRandomSorterHierarchy draws from the tree
//
//	      root
//	    /      \
//	  a (1)   c (2)
//	  /   \    /   \
//	. (1) b(2) d(1) e(2)
//
// where chances are relative to the siblings at every level
// (RandomSorterTest.HierarchicalProbabilityDistribution).
func TestRandomSorterHierarchy(t *testing.T) {
	clients := []chance{{"a", 1. / 9}, {"a/b", 2. / 9}, {"c/d", 2. / 9}, {"c/e", 4. / 9}}
	h := randomSorters(2)
	for _, c := range clients {
		inRole(h, c.name, false)
	}
	h.UpdateWeights(map[string]float64{"a": 1, "a/b": 2, "c": 2, "c/d": 1, "c/e": 2})
	got := drawn(h)
	checkChances(t, "orders", got, orders(clients))
	table := [4][4]float64{
		{0.11, 0.15, 0.23, 0.51},
		{0.22, 0.27, 0.30, 0.21},
		{0.22, 0.27, 0.30, 0.21},
		{0.44, 0.31, 0.18, 0.07},
	}
	checkPlaces(t, got, []string{"a", "a/b", "c/d", "c/e"}, func(i, at int) float64 { return table[i][at] })

	// Siblings that are suppressed take nobody's chances, whatever their weight.
	inRole(h, "c/x", true)
	inRole(h, "z", true)
	h.UpdateWeights(map[string]float64{"c/x": 100, "z": 50})
	checkChances(t, "with suppressed siblings", drawn(h), orders(clients))

	// When they wake up, they do; and back.
	h.ReviveOffers("z", nil)
	woken := []chance{{"z", 50. / 53}}
	for _, c := range clients {
		woken = append(woken, chance{c.name, c.p * 3 / 53})
	}
	first := map[string]int{}
	for order, n := range drawn(h) {
		first[strings.Fields(order)[0]] += n
	}
	want := map[string]float64{}
	for _, c := range woken {
		want[c.name] = c.p
	}
	checkChances(t, "the first, with all", first, want)
	h.SuppressOffers("z", nil)
	checkChances(t, "with suppressed siblings again", drawn(h), orders(clients))
}

// TestRandomSorterFrameworks draws frameworks of one role: all have the same
// chance, whatever they hold.
func TestRandomSorterFrameworks(t *testing.T) {
	h := randomSorters(3)
	var clients []chance
	h.AddAgent("s", testAgent("cpus:100;mem:100"), nil)
	for i := range 4 {
		name := fmt.Sprint("f", i)
		clients = append(clients, chance{name, 0.25})
		h.AddFramework(name, testFramework("role"), nil)
		h.hold(h.agent("s"), h.framework(name).leaf("role"), testAgent(fmt.Sprintf("cpus:%d", 1+i)).Total)
	}
	checkChances(t, "orders", drawn(h), orders(clients))
}

// TestRandomSorterOffers counts who is offered 10,000 agents: that is by weight,
// not by what they hold already.
func TestRandomSorterOffers(t *testing.T) {
	h := randomSorters(4)
	want := map[string]float64{}
	for i := range 5 {
		role := fmt.Sprint(i)
		inRole(h, role, false)
		h.UpdateWeights(map[string]float64{role: float64(i + 1)})
		want[role] = float64(i+1) / 15
	}
	for i := range 10000 {
		h.AddAgent(fmt.Sprint("s", i), testAgent("cpus:1;mem:64"), nil)
	}
	got := map[string]int{}
	for _, o := range h.Allocate(epoch).Offers {
		got[o.Role]++
	}
	checkChances(t, "offers", got, want)
}
