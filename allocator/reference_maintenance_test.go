package allocator

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"clusterd/allocator/resources"
	mesos "clusterd/api/mesos/v1"
	allocatorpb "clusterd/api/mesos/v1/allocator"
)

// maintained adds inverse offers to the reference: what was asked and answered, by
// agent and framework, and a look at everybody in every run.
type maintained struct {
	*reference
	outstanding map[[2]string]bool
	refusals    map[[2]string]refRefusal
	answers     map[[2]string]bool
}

type refRefusal struct {
	ends  time.Time
	brief bool
}

func newMaintained(opts Options) *maintained {
	return &maintained{
		reference: newReference(opts), outstanding: map[[2]string]bool{},
		refusals: map[[2]string]refRefusal{}, answers: map[[2]string]bool{},
	}
}

// drop forgets what the arguments choose of an agent, a framework (both: "*" is
// any).
func (m *maintained) drop(agent, framework string, outstanding, refusals, answers bool) {
	match := func(k [2]string) bool {
		return (agent == "*" || k[0] == agent) && (framework == "*" || k[1] == framework)
	}
	maps.DeleteFunc(m.outstanding, func(k [2]string, _ bool) bool { return outstanding && match(k) })
	maps.DeleteFunc(m.refusals, func(k [2]string, _ refRefusal) bool { return refusals && match(k) })
	maps.DeleteFunc(m.answers, func(k [2]string, _ bool) bool { return answers && match(k) })
}

func (m *maintained) UpdateFramework(id string, f Framework) {
	m.reference.UpdateFramework(id, f)
	m.drop("*", id, !f.Active, true, false)
}

func (m *maintained) RemoveFramework(id string) {
	m.reference.RemoveFramework(id)
	m.drop("*", id, true, true, true)
}

func (m *maintained) DeactivateFramework(id string) {
	m.reference.DeactivateFramework(id)
	m.drop("*", id, true, true, false)
}

func (m *maintained) ReviveOffers(id string, roles []string) {
	m.reference.ReviveOffers(id, roles)
	m.drop("*", id, !m.frameworks[id].Active, true, false)
}

func (m *maintained) UpdateAgent(id string, a Agent) {
	old := m.agents[id].Agent
	m.reference.UpdateAgent(id, a)
	if !proto.Equal(old.Unavailability, a.Unavailability) {
		m.drop(id, "*", true, true, true)
	}
	if !old.Total.Equal(a.Total) || fmt.Sprint(old.Attributes) != fmt.Sprint(a.Attributes) {
		m.drop(id, "*", false, true, false)
	}
	if !a.Active {
		m.drop(id, "*", true, false, false)
	}
}

func (m *maintained) DeactivateAgent(id string) {
	m.reference.DeactivateAgent(id)
	m.drop(id, "*", true, false, false)
}

func (m *maintained) RemoveAgent(id string) {
	m.reference.RemoveAgent(id)
	m.drop(id, "*", true, true, true)
}

func (m *maintained) UpdateUnavailability(id string, u *mesos.Unavailability) {
	m.agents[id].Unavailability = u
	m.drop(id, "*", true, true, true)
}

func (m *maintained) RescindInverseOffer(framework, agent string) {
	delete(m.outstanding, [2]string{agent, framework})
}

func (m *maintained) UpdateInverseOffer(now time.Time, framework, agent string, accepted bool, f *Filter) {
	k := [2]string{agent, framework}
	if !m.outstanding[k] {
		return
	}
	delete(m.outstanding, k)
	m.answers[k] = accepted
	if f != nil {
		m.refusals[k] = refRefusal{
			ends:  now.Add(max(min(f.RefuseFor, 365*24*time.Hour), m.opts.Interval)),
			brief: f.RefuseFor <= 0,
		}
	}
}

func (m *maintained) InverseOfferStatuses(agent string) []*allocatorpb.InverseOfferStatus {
	var out []*allocatorpb.InverseOfferStatus
	for k, accepted := range m.answers {
		if k[0] == agent {
			status := allocatorpb.InverseOfferStatus_DECLINE
			if accepted {
				status = allocatorpb.InverseOfferStatus_ACCEPT
			}
			out = append(out, &allocatorpb.InverseOfferStatus{
				Status: &status, FrameworkId: &mesos.FrameworkID{Value: new(k[1])},
			})
		}
	}
	slices.SortFunc(out, func(a, b *allocatorpb.InverseOfferStatus) int {
		return strings.Compare(a.FrameworkId.GetValue(), b.FrameworkId.GetValue())
	})
	return out
}

func (m *maintained) NextDeadline() (time.Time, bool) {
	first, ok := m.reference.NextDeadline()
	for _, x := range m.refusals {
		if !x.brief && (!ok || x.ends.Before(first)) {
			first, ok = x.ends, true
		}
	}
	return first, ok
}

func (m *maintained) Allocate(now time.Time) Allocation {
	out := m.reference.Allocate(now)
	m.expire(now, false)
	out.InverseOffers = m.inverseOffers()
	return out
}

func (m *maintained) AllocateAll(now time.Time) Allocation {
	out := m.reference.AllocateAll(now)
	m.expire(now, true)
	out.InverseOffers = m.inverseOffers()
	return out
}

func (m *maintained) expire(now time.Time, all bool) {
	maps.DeleteFunc(m.refusals, func(_ [2]string, x refRefusal) bool {
		return x.brief && all || !x.brief && !x.ends.After(now)
	})
}

func (m *maintained) inverseOffers() []InverseOffer {
	var out []InverseOffer
	agents := slices.SortedFunc(maps.Keys(m.agents), func(x, y string) int {
		return cmp.Compare(m.agents[x].seq, m.agents[y].seq)
	})
	for _, id := range agents {
		a := m.agents[id]
		if a.Unavailability == nil || !a.Active {
			continue
		}
		for _, fw := range slices.Sorted(maps.Keys(m.frameworks)) {
			k := [2]string{id, fw}
			_, refused := m.refusals[k]
			if !m.holdsOn(id, fw) || !m.frameworks[fw].Active || m.outstanding[k] || refused {
				continue
			}
			m.outstanding[k] = true
			out = append(out, InverseOffer{fw, id, a.Unavailability})
		}
	}
	return out
}

func (m *maintained) holdsOn(agent, framework string) bool {
	var all resources.Resources
	for h, res := range m.holds {
		if h.agent == agent && h.framework == framework {
			all = all.Add(res)
		}
	}
	return !all.Empty()
}

// unavailability draws one, mostly none.
func (s *history) unavailability() *mesos.Unavailability {
	start := rapid.Int64Range(-3, 2).Draw(s.t, "unavailable")
	if start <= 0 {
		return nil
	}
	return &mesos.Unavailability{Start: &mesos.TimeInfo{Nanoseconds: &start}}
}

// maintain does one random thing to do with maintenance.
func (s *history) maintain() {
	if len(s.agents) == 0 {
		return
	}
	id := s.pick("leaving", slices.Sorted(maps.Keys(s.agents)))
	switch s.pick("maintain", []string{"schedule", "schedule", "update", "answer", "answer", "answer", "answer", "rescind"}) {
	case "schedule":
		u := s.unavailability()
		s.both(func(a Allocator) { a.UpdateUnavailability(id, u) })
	case "update":
		info := s.h.agents[id].info
		switch rapid.IntRange(0, 4).Draw(s.t, "what") {
		case 0:
			info.Unavailability = s.unavailability()
		case 1:
			info.Attributes = s.attributes()
		case 2:
			info.Hostname = s.pick("host", []string{"h1", "h2", "h3"})
		case 3:
			info.Domain = testDomain(s.pick("region", []string{"here", "there"}))
		case 4:
			info.Active = !info.Active
		}
		s.both(func(a Allocator) { a.UpdateAgent(id, info) })
	case "answer":
		k, ok := s.outstanding()
		if !ok {
			return
		}
		accepted := rapid.Bool().Draw(s.t, "accepted")
		var f *Filter
		if rapid.IntRange(0, 3).Draw(s.t, "filter") > 0 {
			f = &Filter{RefuseFor: time.Duration(rapid.IntRange(0, 5).Draw(s.t, "refuse")) * time.Second}
		}
		s.both(func(a Allocator) { a.UpdateInverseOffer(s.now, k[1], k[0], accepted, f) })
	case "rescind":
		if k, ok := s.outstanding(); ok {
			s.both(func(a Allocator) { a.RescindInverseOffer(k[1], k[0]) })
		}
	}
}

// outstanding draws an inverse offer that is.
func (s *history) outstanding() ([2]string, bool) {
	all := slices.SortedFunc(maps.Keys(s.ref.outstanding), func(x, y [2]string) int {
		return slices.Compare(x[:], y[:])
	})
	if len(all) == 0 {
		return [2]string{}, false
	}
	return rapid.SampledFrom(all).Draw(s.t, "outstanding"), true
}

// describeInverse prints inverse offers.
func describeInverse(a Allocation) string {
	var b strings.Builder
	for _, o := range a.InverseOffers {
		fmt.Fprintf(&b, "%s leave %s at %d\n", o.FrameworkID, o.AgentID, o.Unavailability.GetStart().GetNanoseconds())
	}
	return b.String()
}

// checkMaintenance compares the answers that are kept, and looks for what is kept
// in vain.
func (s *history) checkMaintenance() {
	timed := 0
	for id := range s.agents {
		var got, want []string
		for _, a := range s.h.InverseOfferStatuses(id) {
			got = append(got, a.GetFrameworkId().GetValue()+" "+a.GetStatus().String())
		}
		for _, a := range s.ref.InverseOfferStatuses(id) {
			want = append(want, a.GetFrameworkId().GetValue()+" "+a.GetStatus().String())
		}
		if !slices.Equal(got, want) {
			s.t.Fatalf("answers for agent %s: got %v, reference %v", id, got, want)
		}
	}
	for _, x := range s.ref.refusals {
		if !x.brief {
			timed++
		}
	}
	if m := &s.h.maintenance; len(m.ends) != timed || len(m.agents) > len(s.agents) {
		s.t.Fatalf("%d refusals are kept, want %d; %d agents leave of %d", len(m.ends), timed, len(m.agents), len(s.agents))
	}
}
