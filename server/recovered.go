package server

import (
	"time"

	mesos "clusterd/api/mesos/v1"
	"clusterd/registry"
	"clusterd/server/core"
)

// Recovered is what the registry holds in the words of the core, as a new leader
// starts from it. Simulations start their masters so too.
func Recovered(s *registry.State) core.Recovered {
	var r core.Recovered
	for a := range s.Agents() {
		r.Agents = append(r.Agents, core.RecoveredAgent{
			Info: a.GetAgentInfo(), DrainInfo: a.GetDrainInfo(), Deactivated: a.GetDeactivated(),
		})
	}
	for d := range s.Unreachable() {
		r.Unreachable = append(r.Unreachable, core.Departed{
			ID: d.GetAgentId().GetValue(), Time: goTime(d.GetTime()),
			DrainInfo: d.GetDrainInfo(), Deactivated: d.GetDeactivated(),
		})
	}
	for d := range s.Gone() {
		r.Gone = append(r.Gone, core.Departed{ID: d.GetAgentId().GetValue(), Time: goTime(d.GetTime())})
	}
	for f := range s.Frameworks() {
		r.Frameworks = append(r.Frameworks, core.RecoveredFramework{Info: f.GetFrameworkInfo(), Deadline: goTime(f.Deadline)})
	}
	for d := range s.RemovedFrameworks() {
		r.RemovedFrameworks = append(r.RemovedFrameworks, core.Departed{ID: d.GetFrameworkId().GetValue(), Time: goTime(d.GetTime())})
	}
	r.Weights = make(map[string]float64)
	for w := range s.Weights() {
		r.Weights[w.GetRole()] = w.GetWeight()
	}
	for q := range s.Quotas() {
		r.Quotas = append(r.Quotas, q)
	}
	r.Schedule = s.Schedule()
	for m := range s.Machines() {
		r.Machines = append(r.Machines, m)
	}
	return r
}

func goTime(t *mesos.TimeInfo) time.Time {
	if t == nil {
		return time.Time{}
	}
	return time.Unix(0, t.GetNanoseconds())
}
