package agent

import (
	"context"
	"fmt"
	"sync"
	"time"

	"clusterd/internal/diskcheck"
	"clusterd/internal/httpapi"
)

const (
	// healthInterval is how often the loop is asked whether it lives, and diskInterval
	// how often it is tried to write.
	healthInterval = time.Second
	diskInterval   = 10 * time.Second
	// loopPatience is how long the loop may be silent.
	loopPatience = 5 * time.Second
	// askPatience bounds one question.
	askPatience = 2 * time.Second
)

// health is what was last seen of this agent. /health reads it and asks nobody: it must
// answer when nothing else does.
type health struct {
	disk *diskcheck.Disk

	mu sync.Mutex
	// mu guards what follows.
	answered time.Time // when the loop last answered
	phase    string    // what it said
	alone    time.Time // since when it is registered with no master; zero: it is
}

// watchHealth looks after the health until the agent ends.
func (a *Agent) watchHealth() {
	a.health.disk.Sweep()
	a.wg.Go(func() { a.health.disk.Watch(a.ctx, diskInterval) })
	t := time.NewTicker(healthInterval)
	defer t.Stop()
	for {
		a.lookAfter()
		select {
		case <-t.C:
		case <-a.ctx.Done():
			return
		}
	}
}

// lookAfter asks once.
func (a *Agent) lookAfter() {
	ctx, cancel := context.WithTimeout(a.ctx, askPatience)
	defer cancel()
	v, err := a.View(ctx)
	h := &a.health
	h.mu.Lock()
	defer h.mu.Unlock()
	if err != nil {
		return
	}
	h.answered, h.phase = time.Now(), v.Phase
	switch {
	case v.Phase == "RUNNING":
		h.alone = time.Time{}
	case h.alone.IsZero():
		h.alone = h.answered
	}
}

// checkHealth says how this agent is; see httpapi.Common. That no master knows it is no
// reason to restart it: its tasks go on, and a new process would find no master either.
func (a *Agent) checkHealth() []httpapi.Check {
	now := time.Now()
	loop, master := httpapi.Check{Name: "core"}, httpapi.Check{Name: "master"}
	h := &a.health
	h.mu.Lock()
	last := h.answered
	if last.IsZero() {
		last = a.started
	}
	if silent := now.Sub(last); silent > loopPatience {
		loop.Status, loop.Since = httpapi.Unhealthy, last
		loop.Reason = fmt.Sprintf("It has not answered for %s.", silent.Round(time.Second))
	}
	if !h.alone.IsZero() {
		master.Status, master.Since = httpapi.Degraded, h.alone
		master.Reason = fmt.Sprintf("Not registered with a master for %s (%s).", now.Sub(h.alone).Round(time.Second), h.phase)
	}
	h.mu.Unlock()
	recovery := httpapi.Check{Name: "recovery"}
	if !a.recovered.Load() {
		recovery.Status, recovery.Reason = httpapi.Unhealthy, "It has not finished."
	}
	return []httpapi.Check{loop, master, recovery, h.disk.Check("disk", now)}
}

// healthy says in one word what checkHealth finds, for GET_HEALTH.
func (a *Agent) healthy() bool { return httpapi.AllHealthy(a.checkHealth()) }
