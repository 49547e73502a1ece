package state

import (
	"errors"
	"fmt"
	"math"

	"google.golang.org/protobuf/proto"

	clusterdv1 "clusterd/api/clusterd/v1"
	"clusterd/api/mesos/v1/quota"
)

func (s *State) admitFramework(m *clusterdv1.AdmitFramework) error {
	id := m.FrameworkInfo.GetId().GetValue()
	switch {
	case id == "":
		return errNoID
	case has(s.removed, id):
		return fmt.Errorf("framework %s has been removed", id)
	}
	if had := get(s.frameworks, id); had != nil {
		if proto.Equal(had.FrameworkInfo, m.FrameworkInfo) {
			return nil
		}
		return fmt.Errorf("framework %s is already admitted", id)
	}
	s.frameworks.Set(id, &clusterdv1.RegisteredFramework{FrameworkInfo: m.FrameworkInfo})
	return nil
}

func (s *State) updateFramework(m *clusterdv1.UpdateRegisteredFramework) error {
	id := m.FrameworkInfo.GetId().GetValue()
	had := get(s.frameworks, id)
	if had == nil {
		return fmt.Errorf("framework %s is not admitted", id)
	}
	s.frameworks.Set(id, &clusterdv1.RegisteredFramework{FrameworkInfo: m.FrameworkInfo, Deadline: had.Deadline})
	return nil
}

func (s *State) setFrameworkDeadline(m *clusterdv1.SetFrameworkDeadline) error {
	id := m.FrameworkId.GetValue()
	had := get(s.frameworks, id)
	if had == nil {
		return fmt.Errorf("framework %s is not admitted", id)
	}
	s.frameworks.Set(id, &clusterdv1.RegisteredFramework{FrameworkInfo: had.FrameworkInfo, Deadline: m.Deadline})
	return nil
}

// removeFramework also takes an id that was never admitted: a framework that is
// known only from what agents report may be torn down as well.
func (s *State) removeFramework(m *clusterdv1.RemoveFramework) error {
	id := m.FrameworkId.GetValue()
	if id == "" {
		return errNoID
	}
	if has(s.removed, id) {
		return nil
	}
	s.frameworks.Delete(id)
	s.removed.Set(id, &clusterdv1.RemovedFramework{FrameworkId: m.FrameworkId, Time: m.RemovedTime})
	return nil
}

// updateWeights follows src/master/weights.cpp.
func (s *State) updateWeights(m *clusterdv1.UpdateWeights) error {
	for _, w := range m.Weights {
		if w.GetRole() == "" {
			return errors.New("weight without a role")
		}
		if !(w.GetWeight() > 0) || math.IsInf(w.GetWeight(), 1) {
			return fmt.Errorf("weight %v of role %s is not positive", w.GetWeight(), w.GetRole())
		}
	}
	for _, w := range m.Weights {
		s.weights.Set(w.GetRole(), w)
	}
	return nil
}

// updateQuota follows src/master/quota.cpp: a quota that says nothing is erased.
func (s *State) updateQuota(m *clusterdv1.UpdateQuota) error {
	for _, q := range m.Configs {
		if q.GetRole() == "" {
			return errors.New("quota without a role")
		}
	}
	for _, q := range m.Configs {
		if isDefaultQuota(q) {
			s.quotas.Delete(q.GetRole())
		} else {
			s.quotas.Set(q.GetRole(), q)
		}
	}
	return nil
}

// isDefaultQuota says whether a quota guarantees nothing and limits nothing; a
// limit of zero does limit.
func isDefaultQuota(q *quota.QuotaConfig) bool {
	for _, v := range q.Guarantees {
		if v.GetValue() != 0 {
			return false
		}
	}
	return len(q.Limits) == 0
}
