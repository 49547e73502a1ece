package core

import (
	"time"

	clusterdv1 "clusterd/api/clusterd/v1"
	mesos "clusterd/api/mesos/v1"
	"clusterd/registry/state"
)

// apply commits commands. The core must not propose what the registry refuses: a
// master of which the registry refuses something stops.
func (h *harness) apply(cmds ...*clusterdv1.Command) {
	h.t.Helper()
	next, refused, err := h.registry.Apply(&clusterdv1.Entry{Format: new(uint32(state.Format)), Commands: cmds, ProposedAt: new(h.now.UnixNano())})
	if err != nil {
		h.t.Fatalf("the registry cannot read %v: %v", cmds, err)
	}
	for i, err := range refused {
		if err != nil {
			h.t.Fatalf("command %s: %v", cmds[i].GetKind(), err)
		}
	}
	h.registry = next
}

// seed puts into the registry what a master is said to have found there.
func (h *harness) seed(rec Recovered) {
	h.t.Helper()
	h.registry = state.New()
	for _, a := range rec.Agents {
		h.apply(state.AdmitAgent(a.Info))
		h.seedWill(a.Info.GetId().GetValue(), a.DrainInfo, a.Deactivated)
	}
	for _, d := range rec.Unreachable {
		h.apply(state.AdmitAgent(&mesos.AgentInfo{Hostname: new("h"), Id: &mesos.AgentID{Value: new(d.ID)}}), state.MarkAgentUnreachable(d.ID, d.Time))
		h.seedWill(d.ID, d.DrainInfo, d.Deactivated)
	}
	for _, d := range rec.Gone {
		h.apply(state.AdmitAgent(&mesos.AgentInfo{Hostname: new("h"), Id: &mesos.AgentID{Value: new(d.ID)}}), state.MarkAgentGone(d.ID, d.Time))
	}
	for _, f := range rec.Frameworks {
		h.apply(state.AdmitFramework(f.Info), state.SetFrameworkDeadline(f.Info.GetId().GetValue(), f.Deadline))
	}
	for _, d := range rec.RemovedFrameworks {
		h.apply(state.RemoveFramework(d.ID, d.Time))
	}
	for _, role := range sortedKeys(rec.Weights) {
		h.apply(state.UpdateWeights([]*mesos.WeightInfo{{Role: &role, Weight: new(rec.Weights[role])}}))
	}
	h.apply(state.UpdateQuota(rec.Quotas))
	if rec.Schedule != nil {
		h.apply(state.UpdateMaintenanceSchedule(rec.Schedule))
	}
}

func (h *harness) seedWill(id string, drain *mesos.DrainInfo, deactivated bool) {
	h.t.Helper()
	if drain != nil {
		h.apply(state.SetAgentDrain(id, drain))
	}
	if deactivated {
		h.apply(state.SetAgentDeactivated(id, true))
	}
}

// recovered is what the next master finds in the registry, as package server reads it.
func (h *harness) recovered() Recovered {
	at := func(i *mesos.TimeInfo) time.Time {
		if i == nil {
			return time.Time{}
		}
		return time.Unix(0, i.GetNanoseconds())
	}
	s := h.registry
	rec := Recovered{Weights: map[string]float64{}, Schedule: s.Schedule()}
	for a := range s.Agents() {
		rec.Agents = append(rec.Agents, RecoveredAgent{Info: a.AgentInfo, DrainInfo: a.DrainInfo, Deactivated: a.GetDeactivated()})
	}
	for d := range s.Unreachable() {
		rec.Unreachable = append(rec.Unreachable, Departed{
			ID: d.AgentId.GetValue(), Time: at(d.Time), DrainInfo: d.DrainInfo, Deactivated: d.GetDeactivated(),
		})
	}
	for d := range s.Gone() {
		rec.Gone = append(rec.Gone, Departed{ID: d.AgentId.GetValue(), Time: at(d.Time)})
	}
	for f := range s.Frameworks() {
		rec.Frameworks = append(rec.Frameworks, RecoveredFramework{Info: f.FrameworkInfo, Deadline: at(f.Deadline)})
	}
	for d := range s.RemovedFrameworks() {
		rec.RemovedFrameworks = append(rec.RemovedFrameworks, Departed{ID: d.FrameworkId.GetValue(), Time: at(d.Time)})
	}
	for w := range s.Weights() {
		rec.Weights[w.GetRole()] = w.GetWeight()
	}
	for q := range s.Quotas() {
		rec.Quotas = append(rec.Quotas, q)
	}
	for m := range s.Machines() {
		rec.Machines = append(rec.Machines, m)
	}
	return rec
}
