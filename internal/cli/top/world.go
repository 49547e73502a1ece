package top

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	clusterdv1 "clusterd/api/clusterd/v1"
	mesos "clusterd/api/mesos/v1"
	"clusterd/api/mesos/v1/master"
	"clusterd/internal/cli/console"
)

// amounts are scalar resources: CPUs, MB of memory, MB of disk, GPUs.
type amounts struct{ cpus, mem, disk, gpus float64 }

func (a *amounts) add(b amounts) {
	a.cpus += b.cpus
	a.mem += b.mem
	a.disk += b.disk
	a.gpus += b.gpus
}

func amountsOf(rs []*mesos.Resource) amounts {
	return amounts{console.Scalar(rs, "cpus"), console.Scalar(rs, "mem"), console.Scalar(rs, "disk"), console.Scalar(rs, "gpus")}
}

// agent, framework and task are rows. They are never changed once they are in a snapshot.
type agent struct {
	id, host, state, version string
	total, used              amounts // used by tasks
	tasks                    int     // that live
	since                    time.Time
}

type framework struct {
	id, name, user, state string
	roles                 []string
	used                  amounts
	tasks                 int
	since                 time.Time
}

type task struct {
	id, name, framework, agent, state, role string // ids
	executor, health                        string
	uses                                    amounts
	started, updated                        time.Time
	live                                    bool

	at string // see key
}

// key tells tasks apart: their ids are unique within a framework only.
func (t *task) key() string {
	if t.at == "" {
		t.at = t.framework + "\x00" + t.id
	}
	return t.at
}

// proto is what of it says where its sandbox is.
func (t *task) proto() *mesos.Task {
	p := &mesos.Task{TaskId: &mesos.TaskID{Value: &t.id}, FrameworkId: console.FrameworkID(t.framework), AgentId: console.AgentID(t.agent)}
	if t.executor != "" {
		p.ExecutorId = &mesos.ExecutorID{Value: &t.executor}
	}
	return p
}

// world is what is known of the cluster. It is the feed's alone.
type world struct {
	token, cluster, leader string
	agents                 map[string]*agent
	frameworks             map[string]*framework
	tasks                  map[string]*task
	recent                 []string // the newest last
}

// snapshot is the world at a moment: it is never changed.
type snapshot struct {
	cluster, leader string
	agents          []*agent
	frameworks      []*framework
	tasks           []*task
	recent          []string
	hosts, names    map[string]string // of agents and frameworks by id
}

// maxRecent is how many events are remembered.
const maxRecent = 200

// summary is the leader's, as far as it is needed.
type summary struct {
	Token   string `json:"token"`
	Cluster string `json:"cluster"`
	Leader  struct {
		Hostname string `json:"hostname"`
		Port     int    `json:"port"`
	} `json:"leader"`
	States []string `json:"states"`
	Agents []struct {
		ID           string             `json:"id"`
		Hostname     string             `json:"hostname"`
		State        string             `json:"state"`
		Version      string             `json:"version"`
		Total        map[string]float64 `json:"total"`
		Registered   float64            `json:"registered"`
		Reregistered float64            `json:"reregistered"`
	} `json:"agents"`
	Frameworks []struct {
		ID         string   `json:"id"`
		Name       string   `json:"name"`
		User       string   `json:"user"`
		Roles      []string `json:"roles"`
		Active     bool     `json:"active"`
		Connected  bool     `json:"connected"`
		Completed  bool     `json:"completed"`
		Registered float64  `json:"registered"`
	} `json:"frameworks"`
	Tasks console.TaskColumns `json:"tasks"`
}

func seconds(s float64) time.Time {
	if s == 0 {
		return time.Time{}
	}
	return time.UnixMicro(int64(s * 1e6))
}

// newWorld reads a summary.
func newWorld(s *summary) (*world, error) {
	w := &world{
		token: s.Token, cluster: s.Cluster, leader: fmt.Sprintf("%s:%d", s.Leader.Hostname, s.Leader.Port),
		agents: map[string]*agent{}, frameworks: map[string]*framework{}, tasks: map[string]*task{},
	}
	for _, a := range s.Agents {
		w.agents[a.ID] = &agent{
			id: a.ID, host: a.Hostname, state: strings.ToLower(a.State), version: a.Version,
			total: amounts{a.Total["cpus"], a.Total["mem"], a.Total["disk"], a.Total["gpus"]}, since: seconds(max(a.Registered, a.Reregistered)),
		}
	}
	for _, f := range s.Frameworks {
		w.frameworks[f.ID] = &framework{id: f.ID, name: f.Name, user: f.User, roles: f.Roles, state: stateOf(f.Active, f.Connected, f.Completed), since: seconds(f.Registered)}
	}
	for i := range s.Tasks.Rows {
		t, err := s.task(i)
		if err != nil {
			return nil, err
		}
		w.tasks[t.key()] = t
	}
	return w, nil
}

func stateOf(active, connected, completed bool) string {
	switch {
	case completed:
		return "completed"
	case !connected:
		return "disconnected"
	case !active:
		return "inactive"
	}
	return "active"
}

func short(state string) string { return strings.ToLower(strings.TrimPrefix(state, "TASK_")) }

func health(h *bool) string {
	switch {
	case h == nil:
		return ""
	case *h:
		return "healthy"
	}
	return "unhealthy"
}

// apply changes the world as an event says. It returns false if the event says that too
// much was missed: the summary must be read again.
func (w *world) apply(e *clusterdv1.OperatorEvent, now time.Time) bool {
	if e.GetToken() != "" {
		w.token = e.GetToken()
	}
	switch e.GetType() {
	case clusterdv1.OperatorEvent_SUBSCRIBED:
		return e.GetSubscribed().GetResumed()
	case clusterdv1.OperatorEvent_TASK_ADDED:
		w.taskAdded(e.GetTaskAdded().GetTask(), now)
	case clusterdv1.OperatorEvent_TASK_UPDATED:
		w.taskUpdated(e.GetTaskUpdated(), now)
	case clusterdv1.OperatorEvent_AGENT_ADDED:
		w.agentSeen(e.GetAgentAdded().GetAgent())
		w.tell(now, "agent %s came", e.GetAgentAdded().GetAgent().GetAgentInfo().GetHostname())
	case clusterdv1.OperatorEvent_AGENT_UPDATED:
		w.agentSeen(e.GetAgentUpdated().GetAgent())
		if e.GetAgentUpdated().Connected != nil && !e.GetAgentUpdated().GetConnected() {
			w.tell(now, "agent %s is disconnected", e.GetAgentUpdated().GetAgent().GetAgentInfo().GetHostname())
		}
	case clusterdv1.OperatorEvent_AGENT_REMOVED:
		id := e.GetAgentRemoved().GetAgentId().GetValue()
		if a := w.agents[id]; a != nil {
			w.tell(now, "agent %s was removed", a.host)
			delete(w.agents, id)
		}
	case clusterdv1.OperatorEvent_FRAMEWORK_ADDED:
		w.frameworkSeen(e.GetFrameworkAdded().GetFramework())
		w.tell(now, "framework %s came", e.GetFrameworkAdded().GetFramework().GetFrameworkInfo().GetName())
	case clusterdv1.OperatorEvent_FRAMEWORK_UPDATED:
		w.frameworkSeen(e.GetFrameworkUpdated().GetFramework())
	case clusterdv1.OperatorEvent_FRAMEWORK_REMOVED:
		info := e.GetFrameworkRemoved().GetFrameworkInfo()
		if f := w.frameworks[info.GetId().GetValue()]; f != nil {
			gone := *f
			gone.state = "completed"
			w.frameworks[gone.id] = &gone
		}
		w.tell(now, "framework %s was removed", info.GetName())
	default: // nothing that is shown
	}
	return true
}

func (w *world) tell(now time.Time, format string, args ...any) {
	w.recent = append(w.recent, now.Format("15:04:05")+"  "+fmt.Sprintf(format, args...))
	if n := len(w.recent) - maxRecent; n > 0 {
		w.recent = slices.Clone(w.recent[n:])
	}
}

func (w *world) taskAdded(t *mesos.Task, now time.Time) {
	row := &task{
		id: t.GetTaskId().GetValue(), name: t.GetName(), framework: t.GetFrameworkId().GetValue(), agent: t.GetAgentId().GetValue(),
		state: short(t.GetState().String()), executor: t.GetExecutorId().GetValue(), uses: amountsOf(t.GetResources()), updated: now,
		live: !console.Terminal(t.GetState()),
	}
	for _, r := range t.GetResources() {
		row.role = r.GetAllocationInfo().GetRole()
	}
	w.tasks[row.key()] = row
}

func (w *world) taskUpdated(e *master.Event_TaskUpdated, now time.Time) {
	old := w.tasks[(&task{framework: e.GetFrameworkId().GetValue(), id: e.GetStatus().GetTaskId().GetValue()}).key()]
	if old == nil {
		return // who looks may not see it
	}
	row := *old
	row.state, row.updated = short(e.GetState().String()), now
	row.live = !console.Terminal(e.GetState())
	row.health = health(e.GetStatus().Healthy)
	if row.started.IsZero() && e.GetState() == mesos.TaskState_TASK_RUNNING {
		row.started = now
	}
	w.tasks[row.key()] = &row
	if row.state != old.state {
		w.tell(now, "task %s is %s", row.id, row.state)
	}
}

func (w *world) agentSeen(a *master.Response_GetAgents_Agent) {
	info := a.GetAgentInfo()
	row := &agent{
		id: info.GetId().GetValue(), host: info.GetHostname(), version: a.GetVersion(), total: amountsOf(a.GetTotalResources()),
		since: time.Unix(0, max(a.GetRegisteredTime().GetNanoseconds(), a.GetReregisteredTime().GetNanoseconds())),
	}
	row.state = console.AgentState(a)
	w.agents[row.id] = row
}

func (w *world) frameworkSeen(f *master.Response_GetFrameworks_Framework) {
	info := f.GetFrameworkInfo()
	roles := info.GetRoles()
	if len(roles) == 0 {
		roles = []string{info.GetRole()} // what frameworks without MULTI_ROLE have
	}
	id := info.GetId().GetValue()
	w.frameworks[id] = &framework{
		id: id, name: info.GetName(), user: info.GetUser(), roles: roles,
		state: stateOf(f.GetActive(), f.GetConnected(), false), since: time.Unix(0, f.GetRegisteredTime().GetNanoseconds()),
	}
}

// snapshot adds up what tasks use and hands out everything, tasks in no order.
func (w *world) snapshot() *snapshot {
	s := &snapshot{cluster: w.cluster, leader: w.leader, recent: w.recent, hosts: map[string]string{}, names: map[string]string{}}
	agents, frameworks := map[string]*agent{}, map[string]*framework{}
	for id, a := range w.agents {
		row := *a
		row.used, row.tasks = amounts{}, 0
		agents[id], s.hosts[id] = &row, a.host
	}
	for id, f := range w.frameworks {
		row := *f
		row.used, row.tasks = amounts{}, 0
		frameworks[id], s.names[id] = &row, f.name
	}
	s.tasks = make([]*task, 0, len(w.tasks))
	for _, t := range w.tasks {
		s.tasks = append(s.tasks, t)
		if !t.live || t.state == "unreachable" {
			continue
		}
		if a := agents[t.agent]; a != nil {
			a.used.add(t.uses)
			a.tasks++
		}
		if f := frameworks[t.framework]; f != nil {
			f.used.add(t.uses)
			f.tasks++
		}
	}
	s.agents = slices.SortedFunc(maps.Values(agents), func(a, b *agent) int { return strings.Compare(a.id, b.id) })
	s.frameworks = slices.SortedFunc(maps.Values(frameworks), func(a, b *framework) int { return strings.Compare(a.id, b.id) })
	return s
}
