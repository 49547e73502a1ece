package work

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"strings"

	"google.golang.org/protobuf/proto"

	mesos "clusterd/api/mesos/v1"
	"clusterd/internal/cli/console"
)

// attach is what --interactive does: the task's terminal is this one.
func (r *runner) attach(t *running, container *mesos.ContainerID) {
	joint := &joint{to: r.Out}
	s := &session{
		Env: console.Env{In: r.In, Out: joint, Err: r.Err}, cluster: r.cluster, agent: t.agent, container: container,
		terminal: true, input: true, lenient: true, say: r.say,
	}
	// The task ran before anybody looked: its file has what it printed by then.
	s.begun = func() {
		r.wg.Go(func() {
			before, err := r.printed(t)
			if err != nil && r.ctx.Err() == nil {
				before = nil // it is only the beginning that is not seen
			}
			joint.begin(before)
		})
	}
	err := s.run(r.output, attachCall(container))
	joint.begin(nil)
	switch {
	case errors.Is(err, errDetached):
		r.detached(t)
	case err != nil && r.output.Err() == nil:
		r.say("%v", err)
	}
}

// detached leaves the task to itself: what it was to be killed with is not to end any more
// when this process does.
func (r *runner) detached(t *running) {
	info := proto.CloneOf(r.info)
	info.FailoverTimeout = new(never.Seconds())
	if err := r.client.UpdateFramework(r.ctx, info, nil, nil); err != nil {
		r.say("detached; the task is killed after %s: %v", r.failover, err)
	} else {
		r.leave()
		r.say("clusterd attach %s comes back to its terminal", t.id)
	}
	r.cancel(errLeft)
}

// printed is what a task has printed so far.
func (r *runner) printed(t *running) ([]byte, error) {
	var out bytes.Buffer
	task := &console.Task{Task: &mesos.Task{TaskId: &mesos.TaskID{Value: &t.id}, FrameworkId: r.client.FrameworkID()}}
	one := &tail{files: r.cluster.AgentFiles(t.agent), path: task.Sandbox() + "/stdout", to: unchanged{&out}}
	ctx, cancel := context.WithTimeout(r.output, aside)
	defer cancel()
	_, err := one.drain(ctx)
	return out.Bytes(), err
}

// joint puts two parts of one output together of which the end of the first may be the
// beginning of the second.
type joint struct {
	to    io.Writer
	lines lines // for its lock

	begun bool
	held  bytes.Buffer
}

// Write implements io.Writer: what comes is held until the beginning is known.
func (j *joint) Write(p []byte) (int, error) {
	j.lines.mu.Lock()
	defer j.lines.mu.Unlock()
	if j.begun {
		return j.to.Write(p)
	}
	return j.held.Write(p)
}

// begin writes the first part, and what is held without what is in both. Only the first
// call counts.
func (j *joint) begin(first []byte) {
	j.lines.mu.Lock()
	defer j.lines.mu.Unlock()
	if j.begun {
		return
	}
	j.begun = true
	held := j.held.Bytes()
	n := min(len(first), len(held))
	for ; n > 0; n-- {
		if bytes.Equal(first[len(first)-n:], held[:n]) {
			break
		}
	}
	_, _ = j.to.Write(first) // a writer that fails is found by the next Write
	_, _ = j.to.Write(held[n:])
	j.held = bytes.Buffer{}
}

func termName() string {
	if t := os.Getenv("TERM"); t != "" {
		return t
	}
	return "xterm"
}

func joined(args []string) string { return strings.Join(args, " ") }
