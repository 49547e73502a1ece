package server

import (
	"context"
	"fmt"
)

// Alive returns once this master's mind has answered: the core if it leads, else
// the registry, through which it would come to lead. It is for systemd's
// watchdog. A core that is stuck while Raft beneath it goes on would otherwise
// lead for ever.
func (s *Server) Alive(ctx context.Context) error {
	t := s.term.Load()
	if t == nil {
		return s.registry.Ping(ctx)
	}
	t.views.changed() // or the answer would be the view that readers had last
	_, err := t.view(ctx)
	select {
	case <-t.done: // just now: the next question shows who leads
		return nil
	default:
	}
	if err != nil {
		return fmt.Errorf("the core does not answer: %w", err)
	}
	return nil
}

// Summary says in a few words what this master is doing.
func (s *Server) Summary() string {
	if t := s.term.Load(); t != nil {
		return fmt.Sprintf("leads cluster %s, epoch %d, at %s", t.lead.State().ClusterID(), t.lead.Epoch(), hostPort(t.info))
	}
	switch leader, ok := s.registry.Leader(); {
	case s.registry.Pristine():
		return "belongs to no cluster yet"
	case !ok || hostPort(leader) == hostPort(s.info):
		return "knows no leader"
	default:
		return fmt.Sprintf("follows %s in cluster %s", hostPort(leader), s.registry.State().ClusterID())
	}
}
