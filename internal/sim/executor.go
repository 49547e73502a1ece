package sim

import (
	"encoding/binary"
	"strconv"
	"strings"
	"time"

	"clusterd/agent/core"
	mesos "clusterd/api/mesos/v1"
	execapi "clusterd/api/mesos/v1/executor"
)

// executor is an executor's process in its container: the built-in one of a command
// task, or one of a framework's own that runs several tasks. It does what api/client
// executors do: subscribes again and again, repeats what was not acknowledged.
type executor struct {
	w          *World
	c          *container
	framework  string
	id         string
	command    bool
	checkpoint bool
	recovery   time.Duration
	dead       bool
	stream     *execStream // of the present subscription
	subscribed bool
	connecting bool
	hangs      bool
	lostAt     time.Time
	everUp     bool
	shutting   bool
	tasks      []*execTask
	unacked    []*mesos.TaskStatus // oldest first
	outbox     []*mesos.TaskStatus // not accepted by the agent yet
	calling    bool
}

// execTask is a task that the executor runs or ran.
type execTask struct {
	info    *mesos.TaskInfo
	truth   *taskTruth
	acked   bool // some update of it was acknowledged
	ended   bool
	killing bool
}

func newExecutor(c *container, e *core.LaunchContainer) *executor {
	x := &executor{
		w: c.m.w, c: c, framework: e.FrameworkID.GetValue(), id: e.ExecutorID.GetValue(),
		command: e.CommandExecutor, checkpoint: e.Environment["MESOS_CHECKPOINT"] == "1",
	}
	// Some programs never come to talk to the agent.
	x.hangs = x.w.troubled() && x.w.rng.IntN(40) == 0
	x.recovery = x.w.cfg.Agent.RecoveryTimeout
	x.later(x.w.between(time.Millisecond, 20*time.Millisecond), x.connect)
	return x
}

func (x *executor) later(d time.Duration, f func()) {
	x.w.clock.After(d, func() {
		if !x.dead {
			f()
		}
	})
}

// local is how long something takes on the way between executor and agent.
func (x *executor) local() time.Duration {
	return x.w.between(30*time.Microsecond, 500*time.Microsecond)
}

// die is the end of the process, and of all tasks in it.
func (x *executor) die() {
	if x.dead {
		return
	}
	x.dead = true
	for _, t := range x.tasks {
		t.truth.stopped()
	}
	if x.stream != nil {
		x.stream.lost()
	}
}

// exit ends the process from within.
func (x *executor) exit() {
	x.later(0, func() { x.c.end(0) })
}

// execStream is a subscription, seen from both sides.
type execStream struct {
	a    *agent
	x    *executor
	id   core.StreamID
	at   time.Time
	over bool // for the agent
}

// send queues an event of the agent.
func (s *execStream) send(e *execapi.Event) { s.after(func() { s.x.receive(s, e) }) }

// finish ends the stream after what is queued.
func (s *execStream) finish() {
	s.after(func() { s.cut() })
}

// after does f on the executor's side after all that was sent before.
func (s *execStream) after(f func()) {
	at := s.a.w.clock.Now().Add(s.x.local())
	if at.Before(s.at) {
		at = s.at
	}
	s.at = at
	s.a.w.clock.At(at, f)
}

// cut tells the executor that the stream is over.
func (s *execStream) cut() {
	x := s.x
	s.a.w.clock.After(x.local(), func() {
		if !x.dead && x.stream == s {
			x.disconnected()
		}
	})
	s.lost()
}

// lost tells the agent.
func (s *execStream) lost() {
	if s.over {
		return
	}
	s.over = true
	s.a.later(s.x.local(), func() {
		delete(s.a.streams, s.id)
		s.a.post(core.StreamClosed{Stream: s.id})
	})
}

// connect subscribes with all that the agent may have missed.
func (x *executor) connect() {
	if x.connecting || x.stream != nil || x.hangs {
		return
	}
	x.connecting = true
	x.later(x.local(), func() {
		a := x.c.m.agent
		if a == nil || !a.up || !a.started {
			x.retry()
			return
		}
		sub := &execapi.Call_Subscribe{}
		for _, t := range x.tasks {
			if !t.acked {
				sub.UnacknowledgedTasks = append(sub.UnacknowledgedTasks, t.info)
			}
		}
		for _, u := range x.unacked {
			sub.UnacknowledgedUpdates = append(sub.UnacknowledgedUpdates, &execapi.Call_Update{Status: u})
		}
		s := &execStream{a: a, x: x, id: core.StreamID(a.id())}
		req := core.RequestID(a.id())
		a.streams[s.id] = s
		a.requests[req] = func(_ int, open bool) {
			if open {
				return
			}
			delete(a.streams, s.id)
			x.later(x.local(), func() {
				if x.stream == s {
					x.stream = nil
					x.retry()
				}
			})
		}
		x.stream = s
		x.connecting = false
		a.post(core.Subscribe{Request: req, Stream: s.id, Call: clone(&execapi.Call{
			Type:        execapi.Call_SUBSCRIBE.Enum(),
			FrameworkId: &mesos.FrameworkID{Value: new(x.framework)},
			ExecutorId:  &mesos.ExecutorID{Value: new(x.id)},
			Subscribe:   sub,
		})})
	})
}

func (x *executor) retry() {
	x.connecting = false
	x.later(x.w.between(50*time.Millisecond, time.Second), x.connect)
}

// disconnected waits for the agent to come back, if its framework checkpoints.
func (x *executor) disconnected() {
	x.stream, x.subscribed = nil, false
	x.hangs = x.w.troubled() && x.w.rng.IntN(30) == 0
	if !x.checkpoint && x.everUp {
		x.c.end(0)
		return
	}
	lostAt := x.w.clock.Now()
	x.lostAt = lostAt
	x.later(x.recovery, func() {
		if !x.subscribed && x.lostAt.Equal(lostAt) {
			x.c.end(0)
		}
	})
	x.retry()
}

// receive takes an event of the agent.
func (x *executor) receive(s *execStream, e *execapi.Event) {
	if x.dead || x.stream != s {
		return
	}
	switch e.GetType() {
	case execapi.Event_SUBSCRIBED:
		x.subscribed, x.everUp = true, true
		x.send()
	case execapi.Event_LAUNCH:
		x.launch(e.GetLaunch().GetTask())
	case execapi.Event_LAUNCH_GROUP:
		for _, t := range e.GetLaunchGroup().GetTaskGroup().GetTasks() {
			x.launch(t)
		}
	case execapi.Event_KILL:
		x.kill(e.GetKill().GetTaskId().GetValue())
	case execapi.Event_ACKNOWLEDGED:
		x.acknowledged(e.GetAcknowledged().GetUuid())
	case execapi.Event_SHUTDOWN:
		x.shutdown()
	case execapi.Event_MESSAGE:
		x.message()
	default:
	}
}

// message sends one back.
func (x *executor) message() {
	a := x.c.m.agent
	if a == nil || !a.up || !a.started {
		return
	}
	a.post(core.Call{Request: core.RequestID(a.id()), Call: &execapi.Call{
		Type:        execapi.Call_MESSAGE.Enum(),
		FrameworkId: &mesos.FrameworkID{Value: new(x.framework)},
		ExecutorId:  &mesos.ExecutorID{Value: new(x.id)},
		Message:     &execapi.Call_Message{Data: []byte("m")},
	}})
}

func (x *executor) task(id string) *execTask {
	for _, t := range x.tasks {
		if t.info.GetTaskId().GetValue() == id {
			return t
		}
	}
	return nil
}

func (x *executor) launch(info *mesos.TaskInfo) {
	id := info.GetTaskId().GetValue()
	if x.task(id) != nil || x.shutting {
		return
	}
	t := &execTask{info: clone(info), truth: x.w.truth(x.framework, id)}
	x.tasks = append(x.tasks, t)
	t.truth.started(x.c)
	if x.w.cfg.Break == BreakStartTwice && x.w.rng.IntN(10) == 0 {
		t.truth.started(x.c)
	}
	if x.command {
		x.update(t, mesos.TaskState_TASK_STARTING)
	}
	x.update(t, mesos.TaskState_TASK_RUNNING)
	seconds, fails := taskPlan(info)
	x.later(time.Duration(seconds*float64(time.Second)), func() {
		if t.ended {
			return
		}
		state := mesos.TaskState_TASK_FINISHED
		if fails {
			state = mesos.TaskState_TASK_FAILED
		}
		x.finish(t, state)
	})
}

// taskPlan reads what a scheduler of the simulation wants its task to do.
func taskPlan(info *mesos.TaskInfo) (seconds float64, fails bool) {
	text, fails := strings.CutSuffix(info.GetName(), " fails")
	seconds, err := strconv.ParseFloat(text, 64)
	if err != nil {
		return 1, false
	}
	return seconds, fails
}

func (x *executor) finish(t *execTask, state mesos.TaskState) {
	t.ended = true
	t.truth.stopped()
	x.update(t, state)
}

func (x *executor) kill(id string) {
	t := x.task(id)
	if t == nil || t.ended || t.killing {
		return
	}
	t.killing = true
	x.later(x.w.between(0, 2*time.Second), func() {
		if !t.ended {
			x.finish(t, mesos.TaskState_TASK_KILLED)
		}
	})
}

func (x *executor) shutdown() {
	if x.shutting {
		return
	}
	x.shutting = true
	for _, t := range x.tasks {
		if !t.ended {
			x.finish(t, mesos.TaskState_TASK_KILLED)
		}
	}
	x.later(time.Second, func() { x.exit() })
	if len(x.unacked) == 0 {
		x.exit()
	}
}

// update reports a state of a task; it is kept until the agent has it.
func (x *executor) update(t *execTask, state mesos.TaskState) {
	uuid := make([]byte, 16)
	binary.LittleEndian.PutUint64(uuid, x.w.rng.Uint64())
	binary.LittleEndian.PutUint64(uuid[8:], x.w.rng.Uint64())
	x.w.reports[string(uuid)] = len(x.w.reports) + 1
	now := float64(x.c.m.host.now().UnixMicro()) / 1e6
	st := &mesos.TaskStatus{
		TaskId: t.info.GetTaskId(), State: state.Enum(), Source: mesos.TaskStatus_SOURCE_EXECUTOR.Enum(),
		Uuid: uuid, Timestamp: &now,
	}
	x.unacked = append(x.unacked, st)
	x.outbox = append(x.outbox, st)
	x.send()
}

// send hands updates to the agent, one at a time.
func (x *executor) send() {
	if x.calling || !x.subscribed || len(x.outbox) == 0 {
		return
	}
	st := x.outbox[0]
	x.calling = true
	done := func(ok bool) {
		if x.dead {
			return
		}
		x.calling = false
		if ok {
			if len(x.outbox) > 0 && x.outbox[0] == st {
				x.outbox = x.outbox[1:]
			}
			x.send()
			return
		}
		x.later(x.w.between(200*time.Millisecond, time.Second), x.send)
	}
	a := x.c.m.agent
	x.later(x.local(), func() {
		if a == nil || !a.up || !a.started {
			done(false)
			return
		}
		req := core.RequestID(a.id())
		a.requests[req] = func(status int, _ bool) {
			x.w.clock.After(x.local(), func() { done(status == 202) })
		}
		a.post(core.Call{Request: req, Call: clone(&execapi.Call{
			Type:        execapi.Call_UPDATE.Enum(),
			FrameworkId: &mesos.FrameworkID{Value: new(x.framework)},
			ExecutorId:  &mesos.ExecutorID{Value: new(x.id)},
			Update:      &execapi.Call_Update{Status: st},
		})})
	})
}

// acknowledged: the agent keeps the update. A command executor ends with its task's
// last one.
func (x *executor) acknowledged(uuid []byte) {
	for i, st := range x.unacked {
		if string(st.GetUuid()) != string(uuid) {
			continue
		}
		x.unacked = append(x.unacked[:i:i], x.unacked[i+1:]...)
		for j, o := range x.outbox {
			if o == st {
				x.outbox = append(x.outbox[:j:j], x.outbox[j+1:]...)
				break
			}
		}
		t := x.task(st.GetTaskId().GetValue())
		if t == nil {
			return
		}
		t.acked = true
		if t.ended && terminal(st.GetState()) {
			t.truth.durable(st.GetState())
			if x.command {
				x.exit()
			}
		}
		if x.shutting && len(x.unacked) == 0 {
			x.exit()
		}
		return
	}
}
