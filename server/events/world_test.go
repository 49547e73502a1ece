package events

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"

	"clusterd/allocator/resources"
	clusterdv1 "clusterd/api/clusterd/v1"
	mesos "clusterd/api/mesos/v1"
	"clusterd/api/mesos/v1/maintenance"
	"clusterd/api/mesos/v1/master"
	"clusterd/api/mesos/v1/quota"
	"clusterd/api/mesosjson"
	"clusterd/api/recordio"
	"clusterd/internal/authn"
	"clusterd/internal/authz"
	"clusterd/internal/httpapi"
	"clusterd/server/core"
	"clusterd/server/render"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	leader = "87b62806-7648-48b9-adfb-e17ef857b670"
	// patience is how long a test waits for what must happen.
	patience = 60 * time.Second
)

// world stands for the core: it has a state, changes it, and announces each change.
type world struct {
	mu         sync.Mutex
	rand       *rand.Rand
	hub        *Hub
	serial     uint64
	views      int
	agents     map[string]*core.Agent
	frameworks map[string]*core.Framework
	tasks      map[string]*core.Task // by framework/id
	quotas     map[string]*quota.QuotaConfig
	weights    map[string]float64
	schedule   *maintenance.Schedule
	machines   map[string]*mesos.MachineInfo
	// slow makes a view take its time.
	slow func()
}

func newWorld(seed uint64) *world {
	return &world{
		rand: rand.New(rand.NewPCG(seed, 5)), agents: map[string]*core.Agent{}, frameworks: map[string]*core.Framework{},
		tasks: map[string]*core.Task{}, quotas: map[string]*quota.QuotaConfig{}, weights: map[string]float64{},
		machines: map[string]*mesos.MachineInfo{},
	}
}

func (w *world) announceLocked(e *core.Event) {
	w.serial++
	e.Serial = w.serial
	w.hub.Announce(e)
}

// touch changes an agent: much is said, and nothing remembered.
func (w *world) touch() {
	w.mu.Lock()
	defer w.mu.Unlock()
	a := *w.agents[pick(w.rand, w.agents)]
	w.announceLocked(&core.Event{Type: core.AgentUpdated, AgentID: a.ID, Agent: &a})
}

var users = []string{"alice", "bob", "root"}

// step changes one thing at random.
func (w *world) step() {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch n := w.rand.IntN(100); {
	case n < 4 || len(w.frameworks) == 0:
		w.frameworkLocked()
	case n < 10 || len(w.agents) == 0:
		w.agentLocked()
	case n < 14:
		role := "role" + string(rune('a'+w.rand.IntN(4)))
		q := &quota.QuotaConfig{Role: &role, Limits: map[string]*mesos.Value_Scalar{"cpus": {Value: new(float64(w.rand.IntN(100)))}}}
		w.quotas[role] = q
		w.announceLocked(&core.Event{Type: core.QuotasUpdated, Quotas: []*quota.QuotaConfig{q}})
	case n < 18:
		role := "role" + string(rune('a'+w.rand.IntN(4)))
		w.weights[role] = float64(1 + w.rand.IntN(9))
		w.announceLocked(&core.Event{Type: core.WeightsUpdated, Weights: []*mesos.WeightInfo{{Role: &role, Weight: new(w.weights[role])}}})
	case n < 20:
		w.maintenanceLocked()
	case n < 50 || len(w.tasks) == 0:
		w.launchLocked()
	default:
		w.updateLocked()
	}
}

func (w *world) frameworkLocked() {
	if len(w.frameworks) > 4 {
		id := pick(w.rand, w.frameworks)
		f := w.frameworks[id]
		delete(w.frameworks, id)
		for key, t := range w.tasks {
			if t.FrameworkID == id {
				delete(w.tasks, key)
			}
		}
		w.announceLocked(&core.Event{Type: core.FrameworkRemoved, Framework: f, FrameworkInfo: f.Info})
		return
	}
	id := fmt.Sprintf("%s-%04d", leader, w.serial)
	f := &core.Framework{
		ID: id, Roles: []string{"rolea"}, Active: true, Connected: true, RegisteredAt: time.Unix(1795359924, 0),
		Info: &mesos.FrameworkInfo{
			Id: &mesos.FrameworkID{Value: &id}, Name: new("f"), User: new(users[w.rand.IntN(len(users))]), Roles: []string{"rolea"},
		},
	}
	w.frameworks[id] = f
	w.announceLocked(&core.Event{Type: core.FrameworkAdded, Framework: f, FrameworkInfo: f.Info})
}

func (w *world) agentLocked() {
	if len(w.agents) > 3 {
		id := pick(w.rand, w.agents)
		if w.rand.IntN(2) == 0 {
			delete(w.agents, id)
			w.announceLocked(&core.Event{Type: core.AgentRemoved, AgentID: id})
			return
		}
		a := *w.agents[id]
		a.Deactivated = !a.Deactivated
		a.Active = !a.Deactivated
		w.agents[id] = &a
		w.announceLocked(&core.Event{Type: core.AgentUpdated, AgentID: id, Agent: &a})
		return
	}
	id := fmt.Sprintf("%s-S%d", leader, w.serial)
	total := resources.MustParse("cpus:4;mem:2048;cpus(rolea):1;cpus(roleb):2")
	a := &core.Agent{
		ID: id, IP: "127.0.0.1", Version: "1.12.0", Connected: true, Active: true, Total: total,
		RegisteredAt: time.Unix(1795359924, 0),
		Info: &mesos.AgentInfo{
			Id: &mesos.AgentID{Value: &id}, Hostname: new("localhost"), Port: proto.Int32(5051), Resources: total.Proto(),
		},
	}
	w.agents[id] = a
	w.announceLocked(&core.Event{Type: core.AgentAdded, AgentID: id, Agent: a})
}

func (w *world) maintenanceLocked() {
	host := "host" + string(rune('a'+w.rand.IntN(3)))
	m := &mesos.MachineInfo{Id: &mesos.MachineID{Hostname: &host}, Mode: mesos.MachineInfo_DRAINING.Enum()}
	w.machines = map[string]*mesos.MachineInfo{host: m}
	w.schedule = &maintenance.Schedule{Windows: []*maintenance.Window{{
		MachineIds: []*mesos.MachineID{m.Id}, Unavailability: &mesos.Unavailability{Start: &mesos.TimeInfo{Nanoseconds: new(int64(1))}},
	}}}
	w.announceLocked(&core.Event{Type: core.MaintenanceUpdated, Schedule: w.schedule, Machines: []*mesos.MachineInfo{m}})
}

func (w *world) launchLocked() {
	f := w.frameworks[pick(w.rand, w.frameworks)]
	t := &core.Task{
		ID: fmt.Sprintf("t%d", w.serial), Name: "t", FrameworkID: f.ID, AgentID: leader + "-S0",
		State: mesos.TaskState_TASK_STAGING, Resources: resources.MustParse("cpus:0.5;mem:64").Allocate("rolea"),
	}
	if w.rand.IntN(2) == 0 {
		t.User = users[w.rand.IntN(len(users))]
	}
	w.tasks[t.FrameworkID+"/"+t.ID] = t
	w.announceLocked(&core.Event{Type: core.TaskAdded, Task: t, FrameworkInfo: f.Info})
}

func (w *world) updateLocked() {
	key := pick(w.rand, w.tasks)
	t := *w.tasks[key]
	t.State = mesos.TaskState_TASK_RUNNING
	if w.rand.IntN(3) == 0 {
		t.State = mesos.TaskState_TASK_FAILED
	}
	w.tasks[key] = &t
	w.announceLocked(&core.Event{
		Type: core.TaskUpdated, Task: &t, Status: status(&t), FrameworkInfo: w.frameworks[t.FrameworkID].Info,
	})
}

// status is one as a command executor sends it.
func status(t *core.Task) *mesos.TaskStatus {
	return &mesos.TaskStatus{
		TaskId: &mesos.TaskID{Value: &t.ID}, State: t.State.Enum(), Source: mesos.TaskStatus_SOURCE_EXECUTOR.Enum(),
		AgentId: &mesos.AgentID{Value: &t.AgentID}, ExecutorId: &mesos.ExecutorID{Value: &t.ID},
		Timestamp: new(1795359925.026412), Uuid: []byte("0123456789abcdef"),
		ContainerStatus: &mesos.ContainerStatus{
			ContainerId: &mesos.ContainerID{Value: new("7d35c001-399d-4c3a-8750-677ff59d8fb9")},
			NetworkInfos: []*mesos.NetworkInfo{{IpAddresses: []*mesos.NetworkInfo_IPAddress{{
				Protocol: mesos.NetworkInfo_IPv4.Enum(), IpAddress: new("127.0.0.1"),
			}}}},
			ExecutorPid: proto.Uint32(14840),
		},
	}
}

// pick takes a key at random, the same one for the same seed.
func pick[V any](r *rand.Rand, m map[string]V) string {
	i := r.IntN(len(m))
	for k := range core.MapOf(m).All() {
		if i == 0 {
			return k
		}
		i--
	}
	panic("empty")
}

// view is for Options.View.
func (w *world) view(context.Context) (*core.View, error) {
	if w.slow != nil {
		w.slow()
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.views++
	frameworks := make(map[string]*core.Framework)
	for id, f := range w.frameworks {
		tasks := make(map[string]*core.Task)
		for _, t := range w.tasks {
			if t.FrameworkID == id {
				tasks[t.ID] = t
			}
		}
		frameworks[id] = &core.Framework{
			ID: id, Info: f.Info, Roles: f.Roles, Active: true, Connected: true, RegisteredAt: f.RegisteredAt, Tasks: core.MapOf(tasks),
		}
	}
	return &core.View{
		Serial: w.serial + 1, Events: w.serial,
		Agents: core.MapOf(w.agents), Frameworks: core.MapOf(frameworks),
		Quotas: core.MapOf(w.quotas), Weights: core.MapOf(w.weights), Schedule: w.schedule, Machines: core.MapOf(w.machines),
	}, nil
}

// facts are what a subscriber knows; equal facts are equal knowledge.
type facts map[string]string

// truth is what there is to know on a stream.
func (w *world) truth(f face) facts {
	w.mu.Lock()
	defer w.mu.Unlock()
	all := facts{}
	for _, t := range w.tasks {
		all["task/"+t.FrameworkID+"/"+t.ID] = t.State.String()
	}
	for id, a := range w.agents {
		all["agent/"+id] = ""
		if f == ownFace {
			all["agent/"+id] = fmt.Sprint(a.Active)
		}
	}
	for id := range w.frameworks {
		all["framework/"+id] = ""
	}
	if f == mesosFace {
		return all
	}
	for role, q := range w.quotas {
		all["quota/"+role] = fmt.Sprint(q.GetLimits()["cpus"].GetValue())
	}
	for role, weight := range w.weights {
		all["weight/"+role] = fmt.Sprint(weight)
	}
	for host := range w.machines {
		all["machine/"+host] = ""
	}
	return all
}

// delta is what both streams' events have in common.
type delta interface {
	GetTaskAdded() *master.Event_TaskAdded
	GetTaskUpdated() *master.Event_TaskUpdated
	GetAgentAdded() *master.Event_AgentAdded
	GetAgentRemoved() *master.Event_AgentRemoved
	GetFrameworkAdded() *master.Event_FrameworkAdded
	GetFrameworkRemoved() *master.Event_FrameworkRemoved
}

// learn folds an event into what is known. It returns an error if the event
// contradicts that: then something was missed, or came twice.
func (k facts) learn(e delta) error {
	own, _ := e.(*clusterdv1.OperatorEvent)
	switch {
	case e.GetTaskAdded() != nil:
		t := e.GetTaskAdded().GetTask()
		return k.add("task/"+t.GetFrameworkId().GetValue()+"/"+t.GetTaskId().GetValue(), t.GetState().String())
	case e.GetTaskUpdated() != nil:
		u := e.GetTaskUpdated()
		key := "task/" + u.GetFrameworkId().GetValue() + "/" + u.GetStatus().GetTaskId().GetValue()
		if _, ok := k[key]; !ok {
			return fmt.Errorf("update of the unknown %s", key)
		}
		k[key] = u.GetState().String()
	case e.GetAgentAdded() != nil:
		active := ""
		if own != nil {
			active = fmt.Sprint(e.GetAgentAdded().GetAgent().GetActive())
		}
		return k.add("agent/"+e.GetAgentAdded().GetAgent().GetAgentInfo().GetId().GetValue(), active)
	case e.GetAgentRemoved() != nil:
		return k.remove("agent/" + e.GetAgentRemoved().GetAgentId().GetValue())
	case e.GetFrameworkAdded() != nil:
		return k.add("framework/"+e.GetFrameworkAdded().GetFramework().GetFrameworkInfo().GetId().GetValue(), "")
	case e.GetFrameworkRemoved() != nil:
		id := e.GetFrameworkRemoved().GetFrameworkInfo().GetId().GetValue()
		for key := range k {
			if strings.HasPrefix(key, "task/"+id+"/") {
				delete(k, key)
			}
		}
		return k.remove("framework/" + id)
	case own.GetAgentUpdated() != nil:
		k["agent/"+own.GetAgentUpdated().GetAgent().GetAgentInfo().GetId().GetValue()] = fmt.Sprint(own.GetAgentUpdated().GetAgent().GetActive())
	case own.GetQuotasUpdated() != nil:
		k.quotas(own.GetQuotasUpdated().GetQuotas())
	case own.GetWeightsUpdated() != nil:
		k.weights(own.GetWeightsUpdated().GetWeights())
	case own.GetMaintenanceUpdated() != nil:
		k.machines(own.GetMaintenanceUpdated().GetMachines())
	}
	return nil
}

func (k facts) add(key, value string) error {
	if _, ok := k[key]; ok {
		return fmt.Errorf("%s was added twice", key)
	}
	k[key] = value
	return nil
}

func (k facts) remove(key string) error {
	if _, ok := k[key]; !ok {
		return fmt.Errorf("%s was removed, but is unknown", key)
	}
	delete(k, key)
	return nil
}

func (k facts) quotas(all []*quota.QuotaConfig) {
	for _, q := range all {
		k["quota/"+q.GetRole()] = fmt.Sprint(q.GetLimits()["cpus"].GetValue())
	}
}

func (k facts) weights(all []*mesos.WeightInfo) {
	for _, w := range all {
		k["weight/"+w.GetRole()] = fmt.Sprint(w.GetWeight())
	}
}

func (k facts) machines(all []*mesos.MachineInfo) {
	for key := range k {
		if strings.HasPrefix(key, "machine/") {
			delete(k, key)
		}
	}
	for _, m := range all {
		k["machine/"+m.GetId().GetHostname()] = ""
	}
}

// begin replaces what is known by a snapshot.
func (k facts) begin(state *master.Response_GetState, own *clusterdv1.OperatorEvent_Subscribed) {
	clear(k)
	for _, t := range state.GetGetTasks().GetTasks() {
		k["task/"+t.GetFrameworkId().GetValue()+"/"+t.GetTaskId().GetValue()] = t.GetState().String()
	}
	for _, a := range state.GetGetAgents().GetAgents() {
		key := "agent/" + a.GetAgentInfo().GetId().GetValue()
		if k[key] = ""; own != nil {
			k[key] = fmt.Sprint(a.GetActive())
		}
	}
	for _, f := range state.GetGetFrameworks().GetFrameworks() {
		k["framework/"+f.GetFrameworkInfo().GetId().GetValue()] = ""
	}
	k.quotas(own.GetQuotas())
	k.weights(own.GetWeights())
	k.machines(own.GetMachines())
}

// byHeader takes the word of the header "Principal" for who sends a request.
type byHeader struct{}

func (byHeader) Authenticate(r *http.Request, _ authn.Realm) (*authz.Principal, error) {
	if name := r.Header.Get("Principal"); name != "" {
		return &authz.Principal{Value: name}, nil
	}
	return nil, nil
}

// house is a hub with a world, served on a real socket.
type house struct {
	*world
	hub  *Hub
	http *httptest.Server
}

func newHouse(t testing.TB, seed uint64, change ...func(*Options)) *house {
	t.Helper()
	w := newWorld(seed)
	opts := Options{
		MasterID: leader, View: w.view,
		State: func(f render.Format, v *core.View, viewer *authz.Viewer) (render.Body, error) {
			body, _, err := render.Operator(f, v, &render.Master{}, master.Call_GET_STATE, viewer)
			return body, err
		},
		Logger: zerolog.New(zerolog.NewTestWriter(t)).Level(zerolog.ErrorLevel),
	}
	for _, f := range change {
		f(&opts)
	}
	h := &house{world: w, hub: New(opts)}
	w.hub = h.hub
	rt := httpapi.NewRouter()
	rt.Guards = httpapi.Guards{Realms: authn.Realms{authn.MasterReadwrite: byHeader{}}}
	rt.Handle(Path, httpapi.In(authn.MasterReadwrite), h.hub.ServeClusterd)
	rt.Handle("/api/v1", httpapi.In(authn.MasterReadwrite), func(w http.ResponseWriter, r *http.Request) error {
		m, err := httpapi.ResponseMedia(r)
		if err != nil {
			return err
		}
		return h.hub.ServeMesos(w, r, m)
	})
	h.http = httptest.NewUnstartedServer(rt)
	h.http.Config.Protocols = new(http.Protocols)
	h.http.Config.Protocols.SetHTTP1(true)
	h.http.Config.Protocols.SetUnencryptedHTTP2(true)
	h.http.Start()
	t.Cleanup(func() {
		h.hub.Close(nil)
		h.hub.Wait()
		h.http.Close()
	})
	return h
}

// reader reads a stream.
type reader struct {
	format format
	body   io.ReadCloser
	next   func() ([]byte, error) // a record
	known  facts
	token  string // of the last record
	name   string // of the last server-sent event
}

// subscribe asks for a stream. The header and query are ours only.
func (h *house) subscribe(t testing.TB, f format, query string, header ...string) *reader {
	t.Helper()
	r, err := h.trySubscribe(t.Context(), f, query, header...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.body.Close() })
	return r
}

// errStatus is an answer other than 200.
var errStatus = errors.New("status")

func (h *house) trySubscribe(ctx context.Context, f format, query string, header ...string) (*reader, error) {
	method, path := http.MethodPost, "/api/v1"
	if f.face == ownFace {
		method, path = http.MethodGet, Path+query
	}
	req, err := http.NewRequestWithContext(ctx, method, h.http.URL+path, http.NoBody)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", f.media.String())
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	// A connection of its own for each.
	tr := &http.Transport{DisableKeepAlives: true}
	res, err := tr.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	if res.StatusCode != http.StatusOK {
		b, _ := io.ReadAll(res.Body)
		_ = res.Body.Close()
		return nil, fmt.Errorf("%w %d: %s", errStatus, res.StatusCode, b)
	}
	return newReader(f, res.Body), nil
}

func newReader(f format, body io.ReadCloser) *reader {
	r := &reader{format: f, body: body, known: facts{}}
	if f.media != asSSE {
		r.next = recordio.NewReader(body, 0).Next
		return r
	}
	lines := bufio.NewReaderSize(body, 1<<20)
	r.next = func() ([]byte, error) { // as a browser does it
		var data []byte
		r.name = ""
		for {
			line, err := lines.ReadBytes('\n')
			if err != nil {
				return nil, err
			}
			key, value, _ := bytes.Cut(bytes.TrimSuffix(line, []byte("\n")), []byte(": "))
			switch string(key) {
			case "id":
				r.token = string(value)
			case "event":
				r.name = string(value)
			case "data":
				data = append(data, value...)
			case "":
				if len(data) > 0 {
					return data, nil
				}
			}
		}
	}
	return r
}

// decode reads one event into m.
func (r *reader) decode(m proto.Message) error {
	b, err := r.next()
	if err != nil {
		return err
	}
	if r.format.media == asProtobuf {
		return proto.Unmarshal(b, m)
	}
	if !json.Valid(b) {
		return fmt.Errorf("no JSON: %.200s", b)
	}
	return mesosjson.Unmarshal(b, m)
}

// read reads one event and learns it. Heartbeats are events without anything.
func (r *reader) read() (delta, error) {
	if r.format.face == mesosFace {
		e := &master.Event{}
		if err := r.decode(e); err != nil {
			return nil, err
		}
		if e.GetType() == master.Event_SUBSCRIBED {
			r.known.begin(e.GetSubscribed().GetGetState(), nil)
		}
		return e, r.known.learn(e)
	}
	e := &clusterdv1.OperatorEvent{}
	id := r.token
	if err := r.decode(e); err != nil {
		return nil, err
	}
	if r.format.media == asSSE && (r.token != e.GetToken() || r.name != e.GetType().String()) {
		return nil, fmt.Errorf("id %q (before %q), event %q, but data %v", r.token, id, r.name, e)
	}
	r.token = e.GetToken()
	if s := e.GetSubscribed(); s != nil && !s.GetResumed() && s.GetState != nil {
		r.known.begin(s.GetGetState(), s)
	}
	return e, r.known.learn(e)
}

// until reads events until a condition holds.
func (r *reader) until(t testing.TB, what string, holds func(delta) bool) delta {
	t.Helper()
	watch := time.AfterFunc(patience, func() { _ = r.body.Close() })
	defer watch.Stop()
	for {
		e, err := r.read()
		if err != nil {
			t.Fatalf("while waiting until %s: %v", what, err)
		}
		if holds(e) {
			return e
		}
	}
}

// first reads the SUBSCRIBED of our stream.
func (r *reader) first(t testing.TB) *clusterdv1.OperatorEvent_Subscribed {
	t.Helper()
	e := r.until(t, "the stream begins", func(delta) bool { return true })
	s := e.(*clusterdv1.OperatorEvent).GetSubscribed()
	if s == nil {
		t.Fatalf("the first event is %v", e)
	}
	return s
}

// eventually polls until a condition holds.
func eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !holds(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited in vain until %s", what)
		}
	}
}

// dial opens a bare connection.
func (h *house) dial(t testing.TB) net.Conn {
	t.Helper()
	return h.dialTo(t, h.http.Listener.Addr().String())
}

func (h *house) dialTo(t testing.TB, address string) net.Conn {
	t.Helper()
	c, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}
