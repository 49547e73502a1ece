package state

import (
	"bytes"
	"errors"
	"fmt"

	clusterdv1 "clusterd/api/clusterd/v1"
	mesos "clusterd/api/mesos/v1"
)

// The rules of this file follow src/master/registry_operations.cpp, except that
// repetitions succeed and that an agent which is gone stays gone.

var errNoID = errors.New("id is missing")

func (s *State) electMaster(m *clusterdv1.ElectMaster) error {
	if s.clusterID == "" {
		if m.GetClusterId() == "" {
			return errors.New("the first leader gave no cluster id")
		}
		s.clusterID = m.GetClusterId()
	}
	s.master, s.serverID = m.MasterInfo, m.GetServerId()
	s.epoch++
	return nil
}

// putAgent stores an agent. Encoding cannot fail for what was decoded.
func (s *State) putAgent(id string, a *clusterdv1.RegisteredAgent) error {
	raw, err := encodeAgent(a)
	if err != nil {
		return err
	}
	s.agents.Set(id, raw)
	return nil
}

func (s *State) admitAgent(m *clusterdv1.AdmitAgent) error {
	id := m.AgentInfo.GetId().GetValue()
	switch {
	case id == "":
		return errNoID
	case has(s.gone, id):
		return fmt.Errorf("agent %s is gone", id)
	case has(s.unreachable, id):
		return fmt.Errorf("agent %s is unreachable", id)
	}
	raw, err := encodeAgent(&clusterdv1.RegisteredAgent{AgentInfo: m.AgentInfo})
	if err != nil {
		return err
	}
	if had, ok := s.agents.Get(id); ok {
		if bytes.Equal(had, raw) {
			return nil
		}
		return fmt.Errorf("agent %s is already admitted", id)
	}
	s.agents.Set(id, raw)
	return nil
}

func (s *State) updateAgent(m *clusterdv1.UpdateRegisteredAgent) error {
	id := m.AgentInfo.GetId().GetValue()
	a := s.Agent(id)
	if a == nil {
		return fmt.Errorf("agent %s is not admitted", id)
	}
	a.AgentInfo = m.AgentInfo
	return s.putAgent(id, a)
}

func (s *State) markAgentUnreachable(m *clusterdv1.MarkAgentUnreachable) error {
	id := m.AgentId.GetValue()
	if has(s.unreachable, id) {
		return nil
	}
	a := s.Agent(id)
	if a == nil {
		return fmt.Errorf("agent %s is not admitted", id)
	}
	s.agents.Delete(id)
	s.unreachable.Set(id, &clusterdv1.DepartedAgent{
		AgentId: m.AgentId, Time: m.UnreachableTime, DrainInfo: a.DrainInfo, Deactivated: a.Deactivated,
	})
	return nil
}

func (s *State) markAgentReachable(m *clusterdv1.MarkAgentReachable) error {
	id := m.AgentInfo.GetId().GetValue()
	switch {
	case id == "":
		return errNoID
	case has(s.gone, id):
		return fmt.Errorf("agent %s is gone", id)
	case has(s.agents, id):
		return nil
	}
	a := &clusterdv1.RegisteredAgent{AgentInfo: m.AgentInfo}
	if u := get(s.unreachable, id); u != nil { // else it was pruned, or another cluster's
		a.DrainInfo, a.Deactivated = u.DrainInfo, u.Deactivated
	}
	if err := s.putAgent(id, a); err != nil {
		return err
	}
	s.unreachable.Delete(id)
	return nil
}

func (s *State) markAgentGone(m *clusterdv1.MarkAgentGone) error {
	id := m.AgentId.GetValue()
	if has(s.gone, id) {
		return nil
	}
	if !has(s.agents, id) && !has(s.unreachable, id) {
		return fmt.Errorf("agent %s is neither admitted nor unreachable", id)
	}
	s.agents.Delete(id)
	s.unreachable.Delete(id)
	s.gone.Set(id, &clusterdv1.DepartedAgent{AgentId: m.AgentId, Time: m.GoneTime})
	return nil
}

func (s *State) removeAgent(m *clusterdv1.RemoveAgent) error {
	id := m.AgentId.GetValue()
	if _, ok := s.agents.Delete(id); !ok {
		return fmt.Errorf("agent %s is not admitted", id)
	}
	return nil
}

func (s *State) setAgentDrain(m *clusterdv1.SetAgentDrain) error {
	return s.changeAgent(m.AgentId, func(drain *mesos.DrainInfo, deactivated *bool) (*mesos.DrainInfo, *bool) {
		if m.DrainInfo != nil {
			deactivated = new(true)
		}
		return m.DrainInfo, deactivated
	})
}

func (s *State) setAgentDeactivated(m *clusterdv1.SetAgentDeactivated) error {
	return s.changeAgent(m.AgentId, func(drain *mesos.DrainInfo, _ *bool) (*mesos.DrainInfo, *bool) {
		if !m.GetDeactivated() {
			return drain, nil
		}
		return drain, m.Deactivated
	})
}

// changeAgent changes the operator's will about an agent, admitted or unreachable.
func (s *State) changeAgent(agent *mesos.AgentID, change func(*mesos.DrainInfo, *bool) (*mesos.DrainInfo, *bool)) error {
	id := agent.GetValue()
	if a := s.Agent(id); a != nil {
		a.DrainInfo, a.Deactivated = change(a.DrainInfo, a.Deactivated)
		return s.putAgent(id, a)
	}
	u := get(s.unreachable, id)
	if u == nil {
		return fmt.Errorf("agent %s is neither admitted nor unreachable", id)
	}
	changed := &clusterdv1.DepartedAgent{AgentId: u.AgentId, Time: u.Time}
	changed.DrainInfo, changed.Deactivated = change(u.DrainInfo, u.Deactivated)
	s.unreachable.Set(id, changed)
	return nil
}

func (s *State) prune(m *clusterdv1.PruneAgents) error {
	for _, id := range m.Unreachable {
		s.unreachable.Delete(id.GetValue())
	}
	for _, id := range m.Gone {
		s.gone.Delete(id.GetValue())
	}
	for _, id := range m.RemovedFrameworks {
		s.removed.Delete(id.GetValue())
	}
	return nil
}
