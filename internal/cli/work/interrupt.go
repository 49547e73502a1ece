package work

import (
	"context"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	mesos "clusterd/api/mesos/v1"
)

// attend kills the tasks when the user interrupts. Whoever does not answer is not waited for
// for ever: the framework is torn down then, and its agents kill the tasks when they hear
// of it.
func (r *runner) attend(interrupt context.Context) {
	select {
	case <-interrupt.Done():
	case <-r.ended:
		return
	case <-r.ctx.Done():
		return
	}
	if r.resume {
		r.say("the tasks go on")
		r.cancel(errLeft)
		return
	}
	second := make(chan os.Signal, 1)
	signal.Notify(second, os.Interrupt, syscall.SIGTERM)
	defer signal.Stop(second)
	r.mu.Lock()
	r.stopped = true
	r.mu.Unlock()
	alive := r.alive()
	if len(alive) == 0 {
		r.giveUp("")
		return
	}
	var grace time.Duration
	ids := make([]string, len(alive))
	for i, t := range alive {
		grace = max(grace, t.grace)
		ids[i] = t.id
	}
	r.say("killing %s (^C again to leave at once)", strings.Join(ids, ", "))
	r.kill(alive)
	deadline := time.NewTimer(grace + afterGrace)
	defer deadline.Stop()
	again := time.NewTicker(time.Second)
	defer again.Stop()
	for {
		select {
		case <-r.ended:
			return
		case <-r.ctx.Done():
			return
		case <-second:
			r.giveUp("not waited for")
			return
		case <-deadline.C:
			r.giveUp("no answer")
			return
		case <-again.C:
			left := r.alive()
			if len(left) > 0 && !slices.ContainsFunc(left, func(t *running) bool { return !r.unreachable(t) }) {
				r.giveUp("its agent cannot be reached")
				return
			}
			r.kill(left) // a kill may be lost on its way
		}
	}
}

func (r *runner) unreachable(t *running) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return t.last.GetState() == mesos.TaskState_TASK_UNREACHABLE
}

func (r *runner) kill(tasks []*running) {
	for _, t := range tasks {
		_ = r.client.Kill(r.ctx, &mesos.TaskID{Value: &t.id}, &mesos.AgentID{Value: &t.agent}, nil) // it is repeated
	}
}

// giveUp tears the framework down and ends this process.
func (r *runner) giveUp(why string) {
	if why != "" {
		for _, t := range r.alive() {
			r.say("%s: %s; the framework is torn down, its agent kills the task when it hears of it", t.id, why)
		}
	}
	r.teardown()
	r.cancel(errGaveUp)
}

func (r *runner) teardown() {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.ctx), 5*time.Second)
	defer cancel()
	if err := r.client.Teardown(ctx); err != nil {
		r.say("teardown: %v", err)
	}
}
