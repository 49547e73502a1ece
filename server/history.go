package server

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	mesos "clusterd/api/mesos/v1"
	"clusterd/internal/authn"
	"clusterd/internal/httpapi"
	"clusterd/server/core"
	"clusterd/server/events"
	"clusterd/server/render"
)

const (
	// historyInterval lies between two samples, of which historyLength are kept: an hour.
	historyInterval = 5 * time.Second
	historyLength   = 720
	// notables is how many notable events of tasks are kept, and how many others.
	notables = 100
)

// history is what a leading master remembers of the cluster, for pages that have just been
// opened. It begins with the term.
type history struct {
	mu sync.Mutex
	// mu guards what follows.
	samples []render.Sample
	// tasks holds what happened to tasks, others everything else: a framework whose tasks
	// fail all the time must not hide that agents are lost.
	tasks, others []render.Notable

	// What follows belongs to the goroutine of the core. It tells whether an event is news.
	agents     map[string]seenAgent
	frameworks map[string]bool // connected
}

// seenAgent is what was last told of an agent.
type seenAgent struct{ hostname, state string }

func newHistory(t *term) *history {
	h := &history{agents: map[string]seenAgent{}, frameworks: map[string]bool{}}
	h.others = append(h.others, render.Notable{
		At: t.elected, Type: "LEADER_ELECTED", Text: "Master " + t.info.GetHostname() + " was elected",
	})
	return h
}

// historyRoute is GET /api/clusterd/v1/history: samples of the last hour as columns, and the
// last notable events. ?samples=N is the last N samples only, ?recent=N likewise.
func (s *Server) historyRoute(rt *httpapi.Router) {
	rt.Handle("/api/clusterd/v1/history", httpapi.In(authn.MasterReadonly), exactly(func(w http.ResponseWriter, r *http.Request) error {
		if err := httpapi.RequireMethod(r, http.MethodGet); err != nil {
			return err
		}
		t, err := s.leading(r)
		if err != nil {
			return err
		}
		var n [2]int
		for i, name := range []string{"samples", "recent"} {
			n[i] = historyLength
			if text := r.URL.Query().Get(name); text != "" {
				if n[i], err = strconv.Atoi(text); err != nil || n[i] < 0 {
					return httpapi.BadRequest("'%s' is a number, not %q.\n", name, text)
				}
			}
		}
		samples, recent := t.history.last(n[0], n[1])
		who := s.policy.Load().Viewer(httpapi.PrincipalOf(r))
		return httpapi.WriteJSON(w, r, render.History(samples, s.historyInterval(), recent, who))
	}))
}

func (s *Server) historyInterval() time.Duration {
	if s.opts.historyInterval > 0 {
		return s.opts.historyInterval
	}
	return historyInterval
}

// last returns the latest samples, oldest first, and the latest notable events, newest first.
func (h *history) last(samples, recent int) ([]render.Sample, []render.Notable) {
	h.mu.Lock()
	defer h.mu.Unlock()
	all := slices.Concat(h.tasks, h.others)
	slices.SortStableFunc(all, func(a, b render.Notable) int { return b.At.Compare(a.At) })
	return slices.Clone(h.samples[max(0, len(h.samples)-samples):]), all[:min(len(all), recent)]
}

// remember takes samples until the term is over.
func (t *term) remember() {
	tick := time.NewTicker(t.s.historyInterval())
	defer tick.Stop()
	for {
		v, err := t.view(t.ctx)
		if err != nil {
			return // it is over
		}
		t.history.add(render.NewSample(v, time.Now(), t.endedTasks()))
		select {
		case <-tick.C:
		case <-t.ctx.Done():
			return
		case <-t.done:
			return
		}
	}
}

func (h *history) add(s render.Sample) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.samples) == historyLength {
		h.samples = append(h.samples[:0], h.samples[1:]...)
	}
	h.samples = append(h.samples, s)
}

// endedTasks counts tasks that have ended, as the metrics do.
func (t *term) endedTasks() map[mesos.TaskState]int64 {
	out := map[mesos.TaskState]int64{}
	for n, name := range mesos.TaskState_name {
		if state := mesos.TaskState(n); core.Terminal(state) {
			out[state] = t.s.metrics.Counter("master/" + strings.ToLower(strings.Replace(name, "TASK_", "tasks_", 1))).Value()
		}
	}
	return out
}

// note remembers an event if people want to hear of it. It is called by the core's
// goroutine, for every event.
func (h *history) note(e *core.Event) {
	n, ok := h.notable(e)
	if !ok {
		return
	}
	n.At, n.Type = time.Now(), events.TypeName(e.Type)
	to := &h.others
	if n.TaskID != "" {
		to = &h.tasks
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(*to) == notables {
		*to = append((*to)[:0], (*to)[1:]...)
	}
	*to = append(*to, n)
}

func (h *history) notable(e *core.Event) (render.Notable, bool) {
	switch e.Type {
	case core.TaskUpdated:
		return failedTask(e)
	case core.AgentAdded, core.AgentUpdated, core.AgentRemoved:
		return h.agentNews(e)
	case core.FrameworkAdded, core.FrameworkUpdated, core.FrameworkRemoved:
		return h.frameworkNews(e)
	case core.QuotasUpdated:
		if len(e.Quotas) > 0 {
			return render.Notable{Role: e.Quotas[0].GetRole(), OfQuota: true, Text: "Quota of " + andMore(e.Quotas[0].GetRole(), len(e.Quotas)) + " was changed"}, true
		}
	case core.WeightsUpdated:
		if len(e.Weights) > 0 {
			return render.Notable{Role: e.Weights[0].GetRole(), Text: "Weight of " + andMore(e.Weights[0].GetRole(), len(e.Weights)) + " was changed"}, true
		}
	case core.MaintenanceUpdated:
		return render.Notable{Text: "Maintenance was changed: " + count(len(e.Machines), "machine") + " in the schedule"}, true
	default:
	}
	return render.Notable{}, false
}

// failedTask tells of tasks that ended badly, or that nobody knows how they are.
func failedTask(e *core.Event) (render.Notable, bool) {
	switch e.Task.State {
	case mesos.TaskState_TASK_FAILED, mesos.TaskState_TASK_LOST, mesos.TaskState_TASK_ERROR, mesos.TaskState_TASK_DROPPED,
		mesos.TaskState_TASK_UNREACHABLE, mesos.TaskState_TASK_GONE, mesos.TaskState_TASK_GONE_BY_OPERATOR:
	default:
		return render.Notable{}, false
	}
	n := render.Notable{
		AgentID: e.Task.AgentID, FrameworkID: e.Task.FrameworkID, TaskID: e.Task.ID, State: e.Task.State.String(),
		FrameworkUser: e.FrameworkInfo.GetUser(), TaskUser: e.FrameworkInfo.GetUser(),
	}
	if e.Task.User != "" {
		n.TaskUser = e.Task.User
	}
	n.Text = "Task " + e.Task.Name + " of " + e.FrameworkInfo.GetName() + " is " + n.State
	if m := e.Status.GetMessage(); m != "" {
		n.Text += ": " + m[:min(len(m), 200)]
	}
	return n, true
}

func (h *history) agentNews(e *core.Event) (render.Notable, bool) {
	id := e.AgentID
	if id == "" && e.Agent != nil {
		id = e.Agent.ID
	}
	before, known := h.agents[id]
	n := render.Notable{AgentID: id}
	if e.Type == core.AgentRemoved {
		delete(h.agents, id)
		name := id
		if known {
			name = before.hostname
		}
		n.Text, n.State = "Agent "+name+" was removed", "REMOVED"
		return n, true
	}
	now := seenAgent{e.Agent.Info.GetHostname(), render.AgentState(e.Agent)}
	h.agents[id] = now
	n.State = now.state
	switch {
	case e.Type == core.AgentAdded:
		n.Text = "Agent " + now.hostname + " has registered"
	case now.state == before.state:
		return n, false // only what it has is different
	case now.state == "ACTIVE" && before.state == "DISCONNECTED":
		n.Text = "Agent " + now.hostname + " is connected again"
	default:
		n.Text = "Agent " + now.hostname + " is " + strings.ToLower(now.state)
	}
	return n, true
}

func (h *history) frameworkNews(e *core.Event) (render.Notable, bool) {
	f := e.Framework
	before, known := h.frameworks[f.ID]
	n := render.Notable{FrameworkID: f.ID, FrameworkUser: f.Info.GetUser()}
	name := "Framework " + f.Info.GetName()
	if e.Type == core.FrameworkRemoved {
		delete(h.frameworks, f.ID)
		n.Text = name + " was removed"
		return n, true
	}
	h.frameworks[f.ID] = f.Connected
	switch {
	case e.Type == core.FrameworkAdded && f.Connected:
		n.Text = name + " has subscribed"
	case e.Type == core.FrameworkAdded:
		n.Text = name + " is expected back"
	case known && before == f.Connected:
		return n, false
	case f.Connected:
		n.Text = name + " has subscribed again"
	default:
		n.Text = name + " is disconnected"
	}
	return n, true
}

// andMore names the first of some.
func andMore(first string, n int) string {
	if n > 1 {
		return first + " and " + strconv.Itoa(n-1) + " more"
	}
	return first
}

func count(n int, what string) string {
	if n != 1 {
		what += "s"
	}
	return strconv.Itoa(n) + " " + what
}
