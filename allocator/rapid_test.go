package allocator

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"clusterd/allocator/resources"
	mesos "clusterd/api/mesos/v1"
)

// history drives the allocator and the reference through the same random
// history, playing master and frameworks.
type history struct {
	t          *rapid.T
	h          *hierarchical
	ref        *maintained
	now        time.Time
	frameworks []string
	agents     map[string]Agent
	// held is who was given what and has not returned it.
	held   []Offer
	serial int
	offers int
}

var testRoles = []string{"a", "a/x", "a/x/y", "a/z", "b", "c"}

func (s *history) pick(label string, from []string) string {
	return rapid.SampledFrom(from).Draw(s.t, label)
}

func (s *history) both(f func(Allocator)) {
	f(s.h)
	f(s.ref)
}

func (s *history) framework() Framework {
	f := Framework{
		Roles:                 rapid.SliceOfNDistinct(rapid.SampledFrom(testRoles), 1, 3, rapid.ID).Draw(s.t, "roles"),
		Revocable:             rapid.Bool().Draw(s.t, "revocable"),
		GPU:                   rapid.Bool().Draw(s.t, "gpu"),
		Shared:                rapid.Bool().Draw(s.t, "shared"),
		ReservationRefinement: rapid.Bool().Draw(s.t, "refinement"),
		RegionAware:           rapid.Bool().Draw(s.t, "region"),
		MultiRole:             rapid.Bool().Draw(s.t, "multi"),
		Active:                rapid.IntRange(0, 5).Draw(s.t, "active") > 0,
	}
	f.Constraints = s.constraints()
	if rapid.IntRange(0, 4).Draw(s.t, "suppress") == 0 {
		f.Suppressed = f.Roles[:1]
	}
	switch rapid.IntRange(0, 5).Draw(s.t, "minimum") {
	case 0:
		f.MinAllocatable = map[string][]resources.Quantities{f.Roles[0]: {}}
	case 1:
		f.MinAllocatable = map[string][]resources.Quantities{
			f.Roles[0]: {resources.NewQuantities(map[string]float64{"cpus": 2, "mem": 100})},
		}
	}
	return f
}

func (s *history) total() resources.Resources {
	text := fmt.Sprintf("cpus:%d;mem:%d;ports:[1-%d]", rapid.IntRange(0, 4).Draw(s.t, "cpus"),
		128*rapid.IntRange(0, 4).Draw(s.t, "mem"), rapid.IntRange(1, 9).Draw(s.t, "ports"))
	if rapid.IntRange(0, 3).Draw(s.t, "gpus") == 0 {
		text += ";gpus:1"
	}
	if rapid.IntRange(0, 2).Draw(s.t, "reserved") == 0 {
		text += ";cpus(" + s.pick("for", testRoles) + "):1;mem(" + s.pick("for", testRoles) + "):64"
	}
	total := resources.MustParse(text)
	scalar := func(r *mesos.Resource, v float64) *mesos.Resource {
		r.Type, r.Scalar = mesos.Value_SCALAR.Enum(), &mesos.Value_Scalar{Value: &v}
		return r
	}
	if rapid.IntRange(0, 3).Draw(s.t, "revocable") == 0 {
		total = total.Add(resources.MustFromProto([]*mesos.Resource{scalar(&mesos.Resource{
			Name: new("cpus"), Revocable: &mesos.Resource_RevocableInfo{},
		}, 2)}))
	}
	if rapid.IntRange(0, 3).Draw(s.t, "volume") == 0 {
		disk := &mesos.Resource{
			Name:         new("disk"),
			Reservations: []*mesos.Resource_ReservationInfo{resources.Reservation{Dynamic: true, Role: "a"}.Proto()},
			Disk:         &mesos.Resource_DiskInfo{Persistence: &mesos.Resource_DiskInfo_Persistence{Id: new("v")}},
		}
		if rapid.Bool().Draw(s.t, "share") {
			disk.Shared = &mesos.Resource_SharedInfo{}
		}
		if rapid.Bool().Draw(s.t, "refine") {
			disk.Reservations = append(disk.Reservations, resources.Reservation{Dynamic: true, Role: "a/x"}.Proto())
		}
		total = total.Add(resources.MustFromProto([]*mesos.Resource{scalar(disk, 10)}))
	}
	return total
}

func (s *history) agent() Agent {
	a := Agent{
		Unavailability: s.unavailability(), Attributes: s.attributes(),
		Hostname: s.pick("host", []string{"h1", "h2", "h3"}), Total: s.total(),
		MultiRole:        rapid.IntRange(0, 5).Draw(s.t, "multi") > 0,
		HierarchicalRole: rapid.IntRange(0, 5).Draw(s.t, "hierarchical") > 0,
		Active:           rapid.IntRange(0, 5).Draw(s.t, "active") > 0,
	}
	if rapid.IntRange(0, 4).Draw(s.t, "domain") == 0 {
		a.Domain = testDomain(s.pick("region", []string{"here", "there"}))
	}
	return a
}

func testDomain(region string) *mesos.DomainInfo {
	return &mesos.DomainInfo{FaultDomain: &mesos.DomainInfo_FaultDomain{
		Region: &mesos.DomainInfo_FaultDomain_RegionInfo{Name: &region},
		Zone:   &mesos.DomainInfo_FaultDomain_ZoneInfo{Name: new("z")},
	}}
}

// How many there are at the most in a history.
const (
	maxAgents     = 8
	maxFrameworks = 8
)

// step does one random thing.
func (s *history) step() {
	kinds := map[string]func(){
		"addFramework": func() {
			s.serial++
			id := fmt.Sprint("f", s.serial)
			s.frameworks = append(s.frameworks, id)
			f := s.framework()
			s.both(func(a Allocator) { a.AddFramework(id, f, nil) })
		},
		"addAgent": func() {
			s.serial++
			id := fmt.Sprint("s", s.serial)
			a := s.agent()
			used := s.used(id, a)
			s.agents[id] = a
			s.both(func(al Allocator) { al.AddAgent(id, a, used) })
		},
		"weights": func() {
			w := map[string]float64{s.pick("role", testRoles): float64(rapid.IntRange(1, 3).Draw(s.t, "weight"))}
			s.both(func(a Allocator) { a.UpdateWeights(w) })
		},
		"quota": func() {
			// Those that have a quota already once more, that it may be changed.
			role := s.pick("role", slices.Concat([]string{"a/x/y/z"}, testRoles, slices.Sorted(maps.Keys(s.ref.quotas))))
			var q *Quota
			if rapid.IntRange(0, 2).Draw(s.t, "set") > 0 {
				q = &Quota{}
				if rapid.Bool().Draw(s.t, "guarantee") {
					q.Guarantees = resources.NewQuantities(map[string]float64{
						"cpus": float64(rapid.IntRange(1, 5).Draw(s.t, "g")), "mem": float64(64 * rapid.IntRange(0, 3).Draw(s.t, "gm")),
					})
				}
				if rapid.Bool().Draw(s.t, "limit") {
					q.Limits = resources.NewLimits(map[string]float64{"cpus": float64(rapid.IntRange(0, 6).Draw(s.t, "l"))})
				}
			}
			s.both(func(a Allocator) { a.UpdateQuota(role, q) })
		},
		"whitelist": func() {
			list := [][]string{nil, nil, {}, {"h1"}, {"h1", "h2"}}[rapid.IntRange(0, 4).Draw(s.t, "list")]
			s.both(func(a Allocator) { a.SetWhitelist(list) })
		},
		"recovery": func() {
			if rapid.IntRange(0, 2).Draw(s.t, "start") == 0 {
				s.both(Allocator.StartRecovery)
			} else {
				s.both(Allocator.FinishRecovery)
			}
		},
		"allocate": func() { s.allocate(false) },
		"later": func() {
			s.now = s.now.Add(time.Duration(rapid.IntRange(1, 30).Draw(s.t, "later")) * 200 * time.Millisecond)
			s.allocate(rapid.Bool().Draw(s.t, "all"))
		},
	}
	kinds["quota2"] = kinds["quota"]
	// The reference is slow.
	if len(s.agents) == maxAgents {
		delete(kinds, "addAgent")
	}
	if len(s.frameworks) == maxFrameworks {
		delete(kinds, "addFramework")
	}
	kinds["maintain"] = s.maintain
	if len(s.frameworks) > 0 {
		id := s.pick("framework", s.frameworks)
		role := []string{s.pick("role", testRoles)}
		if rapid.IntRange(0, 2).Draw(s.t, "all roles") == 0 {
			role = nil
		}
		kinds["suppress"] = func() { s.both(func(a Allocator) { a.SuppressOffers(id, role) }) }
		kinds["revive"] = func() { s.both(func(a Allocator) { a.ReviveOffers(id, role) }) }
		kinds["activate"] = func() { s.both(func(a Allocator) { a.ActivateFramework(id) }) }
		kinds["deactivate"] = func() { s.both(func(a Allocator) { a.DeactivateFramework(id) }) }
		kinds["request"] = func() {
			requests := s.requests()
			s.both(func(a Allocator) { a.RequestResources(id, requests) })
		}
		kinds["update"] = func() {
			f := s.framework()
			s.both(func(a Allocator) { a.UpdateFramework(id, f) })
		}
		kinds["remove"] = func() {
			s.both(func(a Allocator) { a.RemoveFramework(id) })
			s.frameworks = slices.DeleteFunc(s.frameworks, func(f string) bool { return f == id })
			s.held = slices.DeleteFunc(s.held, func(o Offer) bool { return o.FrameworkID == id })
		}
	}
	if len(s.agents) > 0 {
		id := s.pick("agent", slices.Sorted(maps.Keys(s.agents)))
		kinds["onAgent"] = func() { s.onAgent(id) }
	}
	if len(s.held) > 0 {
		kinds["decline"] = s.recover
		kinds["decline2"] = s.recover
		kinds["reserve"] = s.reserve
	}
	kinds[s.pick("kind", slices.Sorted(maps.Keys(kinds)))]()
}

func (s *history) requests() []*mesos.Request {
	var out []*mesos.Request
	for range rapid.IntRange(0, 2).Draw(s.t, "requests") {
		r := &mesos.Request{Resources: resources.MustParse(s.pick("need", []string{
			"cpus:2", "cpus:4;mem:64", "mem:200;ports:[2-4]", "gpus:1",
		})).Proto()}
		if len(s.agents) > 0 && rapid.IntRange(0, 3).Draw(s.t, "one") == 0 {
			r.AgentId = &mesos.AgentID{Value: new(s.pick("agent", slices.Sorted(maps.Keys(s.agents))))}
		}
		out = append(out, r)
	}
	return out
}

// used says that a part of a new agent is held, perhaps by a framework that
// comes later.
func (s *history) used(agent string, a Agent) map[string]resources.Resources {
	if len(s.frameworks) == 0 || rapid.IntRange(0, 3).Draw(s.t, "used") > 0 {
		return nil
	}
	fw := s.pick("user", append([]string{fmt.Sprint("f", s.serial+1)}, s.frameworks...))
	role := s.pick("role", testRoles)
	r := resources.MustParse("cpus:1;mem:32;ports:[1-1]").Allocate(role)
	if !a.Total.Contains(r.Unallocate()) {
		return nil
	}
	s.held = append(s.held, Offer{fw, role, agent, r})
	return map[string]resources.Resources{fw: r}
}

func (s *history) onAgent(id string) {
	switch s.pick("do", []string{"remove", "update", "activate", "deactivate", "reserve"}) {
	case "remove":
		s.both(func(a Allocator) { a.RemoveAgent(id) })
		delete(s.agents, id)
		s.held = slices.DeleteFunc(s.held, func(o Offer) bool { return o.AgentID == id })
	case "update":
		a := s.h.agents[id].info
		a.Active = rapid.Bool().Draw(s.t, "active")
		if rapid.Bool().Draw(s.t, "grow") {
			a.Total = a.Total.Add(resources.MustParse("cpus:1;mem:64"))
		}
		s.both(func(al Allocator) { al.UpdateAgent(id, a) })
	case "activate":
		s.both(func(a Allocator) { a.ActivateAgent(id) })
	case "deactivate":
		s.both(func(a Allocator) { a.DeactivateAgent(id) })
	case "reserve":
		from := resources.MustParse("cpus:1")
		to := resources.MustParse("cpus(b):1")
		if rapid.Bool().Draw(s.t, "unreserve") {
			from, to = to, from
		}
		a, b := s.h.UpdateAvailable(id, from, to), s.ref.UpdateAvailable(id, from, to)
		if a != b {
			s.t.Fatalf("UpdateAvailable(%s): got %v, reference %v", id, a, b)
		}
	}
}

// recover returns all or a part of what is held.
func (s *history) recover() {
	i := rapid.IntRange(0, len(s.held)-1).Draw(s.t, "held")
	o := s.held[i]
	part := o.Resources
	if rapid.Bool().Draw(s.t, "part") {
		part = part.Filter(func(it resources.Item) bool { return it.Name() != "mem" })
	}
	s.held[i].Resources = o.Resources.Sub(part)
	if s.held[i].Resources.Empty() {
		s.held = slices.Delete(s.held, i, i+1)
	}
	var f *Filter
	if rapid.IntRange(0, 3).Draw(s.t, "filter") > 0 {
		f = &Filter{RefuseFor: time.Duration(rapid.IntRange(0, 5).Draw(s.t, "refuse")) * time.Second}
	}
	s.both(func(a Allocator) { a.RecoverResources(s.now, o.FrameworkID, o.AgentID, part, f) })
}

// reserve turns a held cpu into a reserved one.
func (s *history) reserve() {
	i := rapid.IntRange(0, len(s.held)-1).Draw(s.t, "held")
	o := s.held[i]
	from := resources.MustParse("cpus:1").Allocate(o.Role)
	if !o.Resources.Contains(from) || !slices.Contains(s.frameworks, o.FrameworkID) {
		return
	}
	to, err := from.PushReservation(resources.Reservation{Dynamic: true, Role: o.Role}.Proto())
	if err != nil {
		s.t.Fatal(err)
	}
	s.both(func(a Allocator) { a.UpdateAllocation(o.FrameworkID, o.AgentID, from, to) })
	s.held[i].Resources = o.Resources.Sub(from).Add(to)
}

func (s *history) allocate(all bool) {
	var got, want Allocation
	if all {
		got, want = s.h.AllocateAll(s.now), s.ref.AllocateAll(s.now)
	} else {
		got, want = s.h.Allocate(s.now), s.ref.Allocate(s.now)
	}
	if g, w := describe(got), describe(want); g != w {
		s.t.Fatalf("got offers\n%swant\n%sstate:\n%s", g, w, s.h.describe())
	}
	s.held = append(s.held, got.Offers...)
	s.offers += len(got.Offers)
	s.check()
}

// describe prints offers, their items sorted: order of items within an offer is
// not the reference's concern.
func describe(a Allocation) string {
	var b strings.Builder
	for _, o := range a.Offers {
		var items []string
		for i := range o.Resources.Len() {
			items = append(items, o.Resources.At(i).String())
		}
		slices.Sort(items)
		fmt.Fprintf(&b, "%s %s %s: %s\n", o.FrameworkID, o.Role, o.AgentID, strings.Join(items, "; "))
	}
	return b.String() + describeInverse(a)
}

// check holds the invariants: nothing is given twice, and what the allocator
// believes to be held is what was given.
func (s *history) check() {
	s.checkMaintenance()
	given := map[string]resources.Resources{}
	for _, o := range s.held {
		given[o.AgentID] = given[o.AgentID].Add(o.Resources.Unallocate())
	}
	for id, a := range s.h.agents {
		if over := given[id].NonShared(); !a.info.Total.Contains(over) {
			s.t.Fatalf("agent %s with %s is given out as %s", id, a.info.Total, over)
		}
		var believed resources.Resources
		for _, hd := range a.held {
			believed = believed.Add(hd.res)
		}
		for _, r := range a.orphans {
			believed = believed.Add(r.Unallocate())
		}
		if !believed.Equal(given[id]) {
			s.t.Fatalf("agent %s: believed to be held %s, given %s", id, believed, given[id])
		}
	}
	d1, ok1 := s.h.NextDeadline()
	d2, ok2 := s.ref.NextDeadline()
	if ok1 != ok2 || !d1.Equal(d2) {
		s.t.Fatalf("NextDeadline: got %v %v, reference %v %v", d1, ok1, d2, ok2)
	}
}

func testOptions(t *rapid.T) Options {
	opts := DefaultOptions()
	opts.Seed = rapid.Uint64().Draw(t, "seed")
	opts.Domain = testDomain("here")
	opts.RoleSorter = rapid.SampledFrom([]string{SorterDRF, SorterDRF, SorterRandom}).Draw(t, "role sorter")
	opts.FrameworkSorter = rapid.SampledFrom([]string{SorterDRF, SorterDRF, SorterRandom}).Draw(t, "framework sorter")
	opts.Placement = rapid.SampledFrom([]string{"", PlacementRandom, PlacementSpread, PlacementPack}).Draw(t, "placement")
	if rapid.IntRange(0, 3).Draw(t, "exclude") == 0 {
		opts.FairnessExclude = []string{"gpus", "mem"}
	}
	return opts
}

// TestLongHistory is TestAgainstReference with one history of thousands of steps:
// what goes wrong by and by, such as counts, does so here.
func TestLongHistory(t *testing.T) {
	for seed := range 2 {
		offers := rapid.Custom(func(t *rapid.T) int { return againstReference(t, 2500) }).Example(seed)
		t.Logf("history %d: %d offers", seed, offers)
	}
}

// TestAgainstReference gives random histories to the allocator and to the
// reference: they must make the same offers in the same order.
func TestAgainstReference(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) { againstReference(t, rapid.IntRange(1, 60).Draw(t, "steps")) })
}

func againstReference(t *rapid.T, steps int) (offers int) {
	opts := testOptions(t)
	s := &history{
		t: t, h: newHierarchical(opts), ref: newMaintained(opts), now: epoch,
		agents: map[string]Agent{},
	}
	for range steps {
		s.step()
		if rapid.IntRange(0, 2).Draw(t, "look") == 0 {
			s.allocate(false)
		}
	}
	s.now = s.now.Add(time.Minute)
	s.allocate(true)
	return s.offers
}
