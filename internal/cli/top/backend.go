package top

import (
	"context"
	"fmt"

	tea "charm.land/bubbletea/v2"

	"clusterd/api/mesos/v1/master"
	"clusterd/internal/cli/console"
)

// backend is what the model asks the world for; tests have one of their own.
type backend interface {
	// kill, drain and read do something and tell the model what came of it.
	kill(t *task) tea.Cmd
	drain(a *agent) tea.Cmd
	// read reads a file of a task's sandbox from an offset on; a negative one means the
	// end of the file.
	read(t *task, file string, offset int64) tea.Cmd
}

// doneMsg tells what came of an act.
type doneMsg struct {
	text string
	err  error
}

// logMsg brings more of a file, or why it cannot be read.
type logMsg struct {
	task, file string
	data       []byte
	// next is where to go on from; restarted says that the file has been replaced, so that
	// what is shown is of the past.
	next      int64
	restarted bool
	err       error
}

// remote acts on the cluster.
type remote struct {
	ctx     context.Context //nolint:containedctx // of the program, whose commands have no other
	cluster *console.Cluster
}

func (r *remote) kill(t *task) tea.Cmd {
	return func() tea.Msg {
		in := map[string]any{"framework_id": map[string]string{"value": t.framework}, "task_id": map[string]string{"value": t.id}}
		return doneMsg{fmt.Sprintf("asked the agent to kill %s", t.id), r.cluster.Post(r.ctx, console.OwnPath+"tasks/kill", in, nil)}
	}
}

func (r *remote) drain(a *agent) tea.Cmd {
	return func() tea.Msg {
		_, err := r.cluster.Call(r.ctx, &master.Call{
			Type: master.Call_DRAIN_AGENT.Enum(), DrainAgent: &master.Call_DrainAgent{AgentId: console.AgentID(a.id)},
		})
		return doneMsg{fmt.Sprintf("%s drains", a.host), err}
	}
}

// chunk is how much of a file is read at once, and how much of its end at first.
const chunk = 64 << 10

func (r *remote) read(t *task, file string, offset int64) tea.Cmd {
	return func() tea.Msg {
		msg := logMsg{task: t.key(), file: file}
		files, path := r.cluster.AgentFiles(t.agent), r.sandbox(t)+"/"+file
		size := uint64(0)
		if offset < 0 {
			if _, size, msg.err = files.ReadFile(r.ctx, path, 0, 1); msg.err != nil {
				msg.err = r.cluster.Explain(msg.err)
				return msg
			}
			offset = max(int64(size)-chunk, 0) //nolint:gosec // no file is that large
		}
		msg.data, size, msg.err = files.ReadFile(r.ctx, path, uint64(offset), chunk)
		msg.err = r.cluster.Explain(msg.err)
		msg.next = offset + int64(len(msg.data))
		if msg.err == nil && int64(size) < offset { //nolint:gosec // no file is that large
			msg.next, msg.restarted = 0, true
		}
		return msg
	}
}

// sandbox is where a task's output is: that of its executor, or one of its own below it, as
// tasks of groups have.
func (r *remote) sandbox(t *task) string {
	row := console.Task{Task: t.proto()}
	own := row.Sandbox() + "/tasks/" + t.id
	if t.executor != "" && t.executor != t.id {
		if _, err := r.cluster.AgentFiles(t.agent).ListFiles(r.ctx, own); err == nil {
			return own
		}
	}
	return row.Sandbox()
}
