package server

import (
	"context"
	"fmt"
	"sync"
	"time"

	"clusterd/internal/diskcheck"
	"clusterd/internal/httpapi"
)

const (
	// healthInterval is how often the core is asked whether it lives, and
	// diskInterval how often it is tried to write.
	healthInterval = time.Second
	diskInterval   = 10 * time.Second
	// corePatience is how long the core may be silent, leaderPatience how long there
	// may be no leader.
	corePatience   = 5 * time.Second
	leaderPatience = 30 * time.Second
	// askPatience bounds one question.
	askPatience = 2 * time.Second
)

// health is what was last seen of this master. /health reads it and asks nobody: it
// must answer when nothing else does.
type health struct {
	disk *diskcheck.Disk // nil: the registry is in memory

	mu sync.Mutex
	// mu guards what follows.
	answered   time.Time // when the core, or the registry, last answered
	err        error     // of the last question, nil if it was answered
	leaderless time.Time // since when no leader is known; zero: one is
	leader     string    // what Summary says
	pristine   bool
}

// beginHealth prepares what New can.
func (s *Server) beginHealth() {
	if dir := s.opts.raftDir(); dir != "" {
		s.health.disk = diskcheck.NewDisk(s.opts.WorkDir)
	}
	s.steps = append(s.steps, step{"diagnostics", func(context.Context) error {
		s.debug.Close()
		return nil
	}})
}

// watchHealth looks after the health until the server stops.
func (s *Server) watchHealth() {
	if s.health.disk != nil {
		s.health.disk.Sweep()
		s.wg.Go(func() { s.health.disk.Watch(s.ctx, diskInterval) })
	}
	t := time.NewTicker(healthInterval)
	defer t.Stop()
	for {
		s.lookAfter()
		select {
		case <-t.C:
		case <-s.ctx.Done():
			return
		}
	}
}

// lookAfter asks once.
func (s *Server) lookAfter() {
	// Not bound to the server's context: what Raft is asked just before it shuts down it
	// never answers.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(s.ctx), askPatience)
	defer cancel()
	err := s.Alive(ctx)
	leads := false
	if t := s.term.Load(); t != nil {
		leads = t.lead.Holds()
	}
	leader, known := s.registry.Leader()
	known = leads || known && hostPort(leader) != hostPort(s.info)
	summary, pristine := s.Summary(), s.registry.Pristine()

	h := &s.health
	h.mu.Lock()
	defer h.mu.Unlock()
	now := time.Now()
	h.err, h.leader, h.pristine = err, summary, pristine
	if err == nil {
		h.answered = now
	}
	switch {
	case known:
		h.leaderless = time.Time{}
	case h.leaderless.IsZero():
		h.leaderless = now
	}
}

// checkHealth says how this master is; see httpapi.Common.
func (s *Server) checkHealth() []httpapi.Check {
	now := time.Now()
	h := &s.health
	h.mu.Lock()
	checks := []httpapi.Check{h.coreLocked(s.start, now), h.leaderLocked(now)}
	h.mu.Unlock()
	registry := httpapi.Check{Name: "registry"}
	if r := s.registryIfOpen(); r == nil {
		registry.Status, registry.Reason = httpapi.Unhealthy, "The registry is not open yet."
	} else if err := r.Err(); err != nil {
		registry.Status, registry.Reason = httpapi.Unhealthy, fmt.Sprintf("The registry has failed: %v.", err)
	}
	checks = append(checks, registry)
	if h.disk != nil {
		checks = append(checks, h.disk.Check("disk", now))
	}
	return checks
}

// coreLocked says whether what decides answers: the core if this master leads, else Raft.
func (h *health) coreLocked(start, now time.Time) httpapi.Check {
	last := h.answered
	if last.IsZero() {
		last = start
	}
	c := httpapi.Check{Name: "core"}
	if silent := now.Sub(last); silent > corePatience {
		c.Status, c.Since = httpapi.Unhealthy, last
		c.Reason = fmt.Sprintf("It has not answered for %s.", silent.Round(time.Second))
		if h.err != nil {
			c.Reason = fmt.Sprintf("It has not answered for %s: %v.", silent.Round(time.Second), h.err)
		}
	}
	return c
}

// leaderLocked says whether a leader is known. A follower is as healthy as a leader; one
// that waits for its cluster to be founded is just not there yet.
func (h *health) leaderLocked(now time.Time) httpapi.Check {
	c := httpapi.Check{Name: "leader", Reason: h.leader, Since: h.leaderless}
	switch {
	case h.leaderless.IsZero():
	case h.pristine || now.Sub(h.leaderless) <= leaderPatience:
		c.Status = httpapi.Degraded
	default:
		c.Status = httpapi.Unhealthy
		c.Reason = fmt.Sprintf("No master has led for %s, as far as is known here.", now.Sub(h.leaderless).Round(time.Second))
	}
	return c
}

// healthy says in one word what checkHealth finds, for GET_HEALTH.
func (s *Server) healthy() bool { return httpapi.AllHealthy(s.checkHealth()) }
