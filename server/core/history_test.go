package core

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"clusterd/allocator/resources"
	clusterdv1 "clusterd/api/clusterd/v1"
	mesos "clusterd/api/mesos/v1"
	"clusterd/api/mesos/v1/scheduler"
)

// world is a small cluster around a core: agents that run what they are told,
// and frameworks that remember what they launched.
type world struct {
	h          *harness
	alloc      *auditor
	agents     []*fakeAgent
	frameworks []*fakeFramework
	nextLink   LinkID
	nextStream int
	nextTask   int
	inputs     []recordedInput
	masters    int
	checks     int
	automatic  bool // maintenance
	hosts      int
	operated   []RequestID // operators' calls to the present master
}

type recordedInput struct {
	now time.Time
	in  Input
}

// fakeAgent does what an agent does, at once or later. It outlives masters.
type fakeAgent struct {
	w            *world
	host         string
	id           string
	link         LinkID // 0: none
	heard        int    // messages of the link that it has acted on
	tasks        map[string]*fakeTask
	executors    map[string]*clusterdv1.AgentExecutor
	infos        map[string]*mesos.FrameworkInfo
	checkpointed resources.Resources
	dead         bool
	draining     bool // it drops what is launched on it
	nextUUID     int
}

type fakeTask struct {
	fw, id, executor string
	resources        []*mesos.Resource
	state            mesos.TaskState
	pending          []*mesos.TaskStatus // unacknowledged, oldest first
	known            []*mesos.TaskStatus
}

type fakeFramework struct {
	w        *world
	info     *mesos.FrameworkInfo
	stream   string
	heard    int
	offers   []*mesos.Offer
	launched map[string]mesos.TaskState // what it last heard
	agentOf  map[string]string
	unacked  []*mesos.TaskStatus
	ended    bool
}

func newWorld(t failer) *world {
	w := &world{}
	w.start(t, testConfig(), Recovered{})
	return w
}

// start puts a master at the head of the world.
func (w *world) start(t failer, cfg Config, rec Recovered) {
	old := w.h
	w.alloc = newAuditor()
	w.h = newHarness(t, cfg, Recovered{})
	if old != nil {
		w.h.now, w.h.log, w.h.registry = old.now, old.log, old.registry
	}
	w.h.core = New(cfg, rec, w.alloc, w.h.now)
	w.inputs, w.operated = nil, nil
	w.h.record = func(in Input) { w.inputs = append(w.inputs, recordedInput{w.h.now, cloneInput(in)}) }
}

func cloneInput(in Input) Input {
	switch in := in.(type) {
	case Subscribe:
		in.Call = proto.CloneOf(in.Call)
		return in
	case Call:
		in.Call = proto.CloneOf(in.Call)
		return in
	case AgentMessage:
		in.Message = proto.CloneOf(in.Message)
		return in
	case Operate:
		in.Call = proto.CloneOf(in.Call)
		return in
	default:
		return in
	}
}

// failover kills the master; the next one knows what the registry has.
func (w *world) failover(t failer) {
	w.masters++
	cfg := testConfig()
	cfg.AutomaticMaintenance = w.automatic
	cfg.MasterInfo.Id = new(fmt.Sprintf("M%d", w.masters))
	w.start(t, cfg, w.h.recovered())
	for _, a := range w.agents {
		a.link, a.heard = 0, 0
	}
	for _, f := range w.frameworks {
		f.stream, f.heard, f.offers = "", 0, nil
	}
}

func (w *world) agentInfo(a *fakeAgent) *clusterdv1.RegisterAgent {
	m := registerMessage(a.id, a.host, "cpus:8;mem:4096;disk:1000;ports:[1000-1009]")
	for _, id := range sortedKeys(a.infos) {
		m.Frameworks = append(m.Frameworks, a.infos[id])
	}
	for _, key := range sortedKeys(a.executors) {
		m.Executors = append(m.Executors, a.executors[key])
	}
	for _, key := range sortedKeys(a.tasks) {
		t := a.tasks[key]
		p := &mesos.Task{
			Name:        &t.id,
			TaskId:      &mesos.TaskID{Value: &t.id},
			FrameworkId: &mesos.FrameworkID{Value: &t.fw},
			AgentId:     &mesos.AgentID{Value: &a.id},
			State:       t.state.Enum(),
			Resources:   t.resources,
			Statuses:    t.known,
		}
		if t.executor != "" {
			p.ExecutorId = &mesos.ExecutorID{Value: &t.executor}
		}
		if len(t.pending) > 0 {
			p.StatusUpdateState = t.pending[0].State
			p.StatusUpdateUuid = t.pending[0].Uuid
		}
		m.Tasks = append(m.Tasks, p)
	}
	m.CheckpointedResources = a.checkpointed.Proto()
	if a.draining {
		m.DrainConfig = &mesos.DrainConfig{}
	}
	return m
}

func (a *fakeAgent) connect() {
	w := a.w
	w.nextLink++
	a.link, a.heard = w.nextLink, 0
	raw, err := proto.Marshal(&clusterdv1.AgentMessage{Message: &clusterdv1.AgentMessage_Register{Register: w.agentInfo(a)}})
	if err != nil {
		panic(err)
	}
	m, err := DecodeAgentMessage(raw)
	if err != nil {
		panic(err)
	}
	w.h.agentSays(a.link, m)
}

// disconnect cuts the link; the master notices.
func (a *fakeAgent) disconnect() {
	if a.link != 0 {
		l := a.link
		a.link = 0
		a.w.h.feed(LinkClosed{Link: l, Reason: "test"})
	}
}

// restart is the agent's process ending and starting again: tasks of frameworks
// that do not checkpoint end with it.
func (a *fakeAgent) restart() {
	a.disconnect()
	for _, key := range sortedKeys(a.tasks) {
		t := a.tasks[key]
		if info := a.infos[t.fw]; info != nil && !info.GetCheckpoint() {
			delete(a.tasks, key)
		}
	}
	for _, key := range sortedKeys(a.executors) {
		if info := a.infos[a.executors[key].GetFrameworkId().GetValue()]; info != nil && !info.GetCheckpoint() {
			delete(a.executors, key)
		}
	}
}

// work acts on what the master said.
func (a *fakeAgent) work() {
	for a.link != 0 && a.heard < len(a.w.h.links[a.link]) {
		m := a.w.h.links[a.link][a.heard]
		a.heard++
		a.hear(proto.CloneOf(m))
	}
	if a.link != 0 && a.w.h.cut[a.link] {
		a.link = 0
	}
}

func (a *fakeAgent) hear(m *clusterdv1.MasterMessage) {
	switch m := m.Message.(type) {
	case *clusterdv1.MasterMessage_Registered:
		a.id = m.Registered.GetAgentId().GetValue()
		for _, r := range m.Registered.ReconcileTasks {
			key := r.GetFrameworkId().GetValue() + "/" + r.GetTaskId().GetValue()
			if a.tasks[key] == nil {
				t := &fakeTask{fw: r.GetFrameworkId().GetValue(), id: r.GetTaskId().GetValue(), state: mesos.TaskState_TASK_LOST}
				a.tasks[key] = t
				a.update(t, mesos.TaskState_TASK_LOST)
			}
		}
		for _, key := range sortedKeys(a.tasks) {
			a.resend(a.tasks[key])
		}
	case *clusterdv1.MasterMessage_Refused:
		if m.Refused.GetShutdown() {
			a.die()
		}
	case *clusterdv1.MasterMessage_RunTasks:
		a.run(m.RunTasks)
	case *clusterdv1.MasterMessage_KillTask:
		key := m.KillTask.GetFrameworkId().GetValue() + "/" + m.KillTask.GetTaskId().GetValue()
		if t := a.tasks[key]; t != nil && !Terminal(t.state) {
			a.update(t, mesos.TaskState_TASK_KILLED)
		}
	case *clusterdv1.MasterMessage_ShutdownFramework:
		a.shutdown(m.ShutdownFramework.GetFrameworkId().GetValue())
	case *clusterdv1.MasterMessage_AcknowledgeTask:
		key := m.AcknowledgeTask.GetFrameworkId().GetValue() + "/" + m.AcknowledgeTask.GetTaskId().GetValue()
		a.acknowledged(key, m.AcknowledgeTask.Uuid)
	case *clusterdv1.MasterMessage_ApplyOperation:
		a.apply(m.ApplyOperation)
	case *clusterdv1.MasterMessage_CancelDrain:
		a.draining = false
	case *clusterdv1.MasterMessage_Drain:
		a.draining = len(a.tasks)+len(a.executors) > 0
		for _, key := range sortedKeys(a.tasks) {
			if t := a.tasks[key]; !Terminal(t.state) {
				a.update(t, mesos.TaskState_TASK_KILLED)
			}
		}
	case *clusterdv1.MasterMessage_Ping:
		a.w.h.agentSays(a.link, &clusterdv1.AgentMessage{Message: &clusterdv1.AgentMessage_Pong{Pong: &clusterdv1.Pong{}}})
		if !m.Ping.GetConnected() {
			a.disconnect()
		}
	}
}

func (a *fakeAgent) run(m *clusterdv1.RunTasks) {
	fw := m.Framework.GetId().GetValue()
	a.draining = a.draining && len(a.tasks)+len(a.executors) > 0
	if a.draining {
		a.w.h.t.Fatalf("tasks are launched on agent %s, which drains", a.id)
	}
	a.infos[fw] = m.Framework
	executor := ""
	if m.Executor != nil {
		executor = m.Executor.GetExecutorId().GetValue()
		key := fw + "/" + executor
		if a.executors[key] == nil {
			if !m.GetLaunchExecutor() {
				for _, ti := range m.Tasks {
					t := &fakeTask{fw: fw, id: ti.GetTaskId().GetValue()}
					a.tasks[fw+"/"+t.id] = t
					a.update(t, mesos.TaskState_TASK_DROPPED)
				}
				return
			}
			a.executors[key] = &clusterdv1.AgentExecutor{FrameworkId: m.Framework.Id, ExecutorInfo: m.Executor}
		}
	}
	for _, ti := range m.Tasks {
		t := &fakeTask{fw: fw, id: ti.GetTaskId().GetValue(), executor: executor, resources: ti.Resources}
		a.tasks[fw+"/"+t.id] = t
		a.update(t, mesos.TaskState_TASK_RUNNING)
	}
}

func (a *fakeAgent) update(t *fakeTask, state mesos.TaskState) {
	a.nextUUID++
	uuid := make([]byte, 16)
	copy(uuid, fmt.Sprintf("%s-%d", a.host, a.nextUUID))
	t.state = state
	s := &mesos.TaskStatus{
		TaskId:    &mesos.TaskID{Value: new(t.id)},
		State:     state.Enum(),
		Source:    mesos.TaskStatus_SOURCE_EXECUTOR.Enum(),
		AgentId:   &mesos.AgentID{Value: new(a.id)},
		Timestamp: proto.Float64(1),
		Uuid:      uuid,
	}
	t.known = append(t.known, s)
	t.pending = append(t.pending, s)
	if len(t.pending) == 1 {
		a.resend(t)
	}
}

// resend sends the oldest unacknowledged update.
func (a *fakeAgent) resend(t *fakeTask) {
	if a.link == 0 || a.w.h.cut[a.link] || len(t.pending) == 0 {
		return
	}
	a.w.h.agentSays(a.link, &clusterdv1.AgentMessage{Message: &clusterdv1.AgentMessage_UpdateTask{UpdateTask: &clusterdv1.UpdateTask{
		FrameworkId: &mesos.FrameworkID{Value: new(t.fw)},
		Status:      proto.CloneOf(t.pending[0]),
		LatestState: t.state.Enum(),
	}}})
}

func (a *fakeAgent) acknowledged(key string, uuid []byte) {
	t := a.tasks[key]
	if t == nil || len(t.pending) == 0 || string(t.pending[0].Uuid) != string(uuid) {
		return
	}
	t.pending = t.pending[1:]
	if len(t.pending) > 0 {
		a.resend(t)
	} else if Terminal(t.state) {
		delete(a.tasks, key)
	}
}

func (a *fakeAgent) shutdown(fw string) {
	for _, key := range sortedKeys(a.tasks) {
		if a.tasks[key].fw == fw {
			delete(a.tasks, key)
		}
	}
	for _, key := range sortedKeys(a.executors) {
		if strings.HasPrefix(key, fw+"/") {
			delete(a.executors, key)
		}
	}
	delete(a.infos, fw)
}

func (a *fakeAgent) apply(m *clusterdv1.ApplyOperation) {
	bare := proto.CloneOf(m.Operation)
	for _, rs := range operationResources(bare) {
		for _, r := range rs {
			r.AllocationInfo = nil
		}
	}
	total := resources.MustParse("cpus:8;mem:4096;disk:1000;ports:[1000-1009]")
	total, err := total.ApplyCheckpointed(a.checkpointed)
	if err != nil {
		panic(err)
	}
	if total, _, err = total.Apply(bare); err != nil {
		panic(fmt.Sprintf("the agent cannot apply %v: %v", bare, err))
	}
	a.checkpointed = total.Filter(resources.Item.NeedsCheckpoint)
	a.w.h.agentSays(a.link, &clusterdv1.AgentMessage{Message: &clusterdv1.AgentMessage_UpdateOperation{
		UpdateOperation: &clusterdv1.UpdateOperation{
			FrameworkId:   m.FrameworkId,
			OperationUuid: m.OperationUuid,
			Status:        &mesos.OperationStatus{State: mesos.OperationState_OPERATION_FINISHED.Enum()},
		},
	}})
}

func (f *fakeFramework) subscribe() {
	w := f.w
	if f.stream != "" && f.id() == "" {
		w.h.feed(StreamClosed{StreamID: f.stream}) // it gives up waiting for its id
	}
	w.nextStream++
	f.stream = fmt.Sprintf("stream-%d", w.nextStream)
	f.heard, f.offers = 0, nil
	if id := w.h.subscribe(f.stream, f.info); id != "" {
		f.info.Id = &mesos.FrameworkID{Value: new(id)}
	}
}

func (f *fakeFramework) id() string { return f.info.GetId().GetValue() }

// listen takes in the events of its stream.
func (f *fakeFramework) listen() {
	for f.stream != "" && f.heard < len(f.w.h.streams[f.stream]) {
		e := f.w.h.streams[f.stream][f.heard]
		f.heard++
		switch e.GetType() {
		case scheduler.Event_SUBSCRIBED:
			f.info.Id = proto.CloneOf(e.Subscribed.FrameworkId)
		case scheduler.Event_OFFERS:
			f.offers = append(f.offers, e.Offers.Offers...)
		case scheduler.Event_RESCIND:
			f.offers = slices.DeleteFunc(f.offers, func(o *mesos.Offer) bool {
				return o.Id.GetValue() == e.Rescind.OfferId.GetValue()
			})
		case scheduler.Event_UPDATE:
			s := e.Update.Status
			if _, ok := f.launched[s.TaskId.GetValue()]; ok {
				f.launched[s.TaskId.GetValue()] = s.GetState()
			}
			if s.Uuid != nil {
				f.unacked = append(f.unacked, s)
			}
		case scheduler.Event_ERROR:
			if strings.Contains(e.Error.GetMessage(), "removed") {
				f.ended = true
			}
		default:
		}
	}
	if f.stream != "" && f.w.h.closed[f.stream] {
		f.stream = ""
	}
}

func (f *fakeFramework) call(c *scheduler.Call) {
	c.FrameworkId = &mesos.FrameworkID{Value: new(f.id())}
	f.w.h.call(f.stream, c)
}

// settle lets everybody act on what they have heard until nothing moves.
func (w *world) settle() {
	for range 1000 {
		before := len(w.inputs)
		for _, a := range w.agents {
			a.work()
		}
		for _, f := range w.frameworks {
			f.listen()
		}
		if len(w.inputs) == before {
			return
		}
	}
	w.h.t.Fatalf("the world does not settle")
}

func (w *world) check(t failer) {
	t.Helper()
	if err := w.h.core.audit(w.alloc); err != nil {
		t.Fatalf("%v", err)
	}
	if w.h.mirrored != w.h.core {
		return // it has had no input
	}
	v := w.h.core.View()
	for _, m := range w.h.mirrors {
		if err := m.Differs(v); err != nil {
			t.Fatalf("whoever heard all events does not know what is:\n%v", err)
		}
	}
	w.checks++
	if i := 1 + w.checks/7%2; w.checks%7 == 0 {
		w.h.mirrors[i] = NewMirror(v)
	}
}

func pick[T any](t *rapid.T, what string, from []T, ok func(T) bool) (T, bool) {
	var fit []T
	for _, x := range from {
		if ok(x) {
			fit = append(fit, x)
		}
	}
	if len(fit) == 0 {
		var zero T
		return zero, false
	}
	return fit[rapid.IntRange(0, len(fit)-1).Draw(t, what)], true
}

func (w *world) addAgent(*rapid.T) {
	if w.living() >= 3 {
		return
	}
	w.hosts++
	a := &fakeAgent{
		w: w, host: fmt.Sprintf("a%d", w.hosts),
		tasks: map[string]*fakeTask{}, executors: map[string]*clusterdv1.AgentExecutor{},
		infos: map[string]*mesos.FrameworkInfo{},
	}
	w.agents = append(w.agents, a)
	a.connect()
}

func (w *world) addFramework(t *rapid.T) {
	if len(w.frameworks) >= 4 {
		return
	}
	info := &mesos.FrameworkInfo{
		User:            new("u"),
		Name:            new(fmt.Sprintf("f%d", len(w.frameworks))),
		FailoverTimeout: new(rapid.SampledFrom([]float64{0, 100, 1000}).Draw(t, "failover")),
		Checkpoint:      new(rapid.Bool().Draw(t, "checkpoint")),
	}
	caps := rapid.SampledFrom([][]mesos.FrameworkInfo_Capability_Type{
		nil,
		{mesos.FrameworkInfo_Capability_MULTI_ROLE, mesos.FrameworkInfo_Capability_RESERVATION_REFINEMENT},
		{mesos.FrameworkInfo_Capability_MULTI_ROLE, mesos.FrameworkInfo_Capability_PARTITION_AWARE, mesos.FrameworkInfo_Capability_RESERVATION_REFINEMENT},
	}).Draw(t, "capabilities")
	for _, c := range caps {
		info.Capabilities = append(info.Capabilities, &mesos.FrameworkInfo_Capability{Type: c.Enum()})
	}
	if caps != nil {
		info.Roles = rapid.SampledFrom([][]string{{"eng"}, {"eng", "ops"}, {"ops/web"}}).Draw(t, "roles")
	} else {
		info.Role = new("eng")
	}
	f := &fakeFramework{w: w, info: info, launched: map[string]mesos.TaskState{}, agentOf: map[string]string{}}
	w.frameworks = append(w.frameworks, f)
	f.subscribe()
}

// scalar makes a resource.
func scalar(name string, v float64) *mesos.Resource {
	return &mesos.Resource{Name: new(name), Type: mesos.Value_SCALAR.Enum(), Scalar: &mesos.Value_Scalar{Value: &v}}
}

func (w *world) accept(t *rapid.T) {
	f, ok := pick(t, "framework", w.frameworks, func(f *fakeFramework) bool { return f.stream != "" && len(f.offers) > 0 })
	if !ok {
		return
	}
	i := rapid.IntRange(0, len(f.offers)-1).Draw(t, "offer")
	o := f.offers[i]
	f.offers = slices.Delete(f.offers, i, i+1)
	call := &scheduler.Call_Accept{OfferIds: []*mesos.OfferID{o.Id}}
	if rapid.Bool().Draw(t, "no filter") {
		call.Filters = &mesos.Filters{RefuseSeconds: proto.Float64(0)}
	}
	for range rapid.IntRange(0, 3).Draw(t, "operations") {
		call.Operations = append(call.Operations, w.operation(t, f, o))
	}
	f.call(&scheduler.Call{Type: scheduler.Call_ACCEPT.Enum(), Accept: call})
}

func (w *world) task(t *rapid.T, f *fakeFramework, o *mesos.Offer) *mesos.TaskInfo {
	w.nextTask++
	id := fmt.Sprintf("t%d", w.nextTask)
	if rapid.IntRange(0, 9).Draw(t, "reuse id") == 0 && w.nextTask > 1 {
		id = fmt.Sprintf("t%d", w.nextTask-1)
	}
	f.launched[id] = mesos.TaskState_TASK_STAGING
	f.agentOf[id] = o.AgentId.GetValue()
	ti := &mesos.TaskInfo{
		Name:    new(id),
		TaskId:  &mesos.TaskID{Value: new(id)},
		AgentId: o.AgentId,
		Resources: []*mesos.Resource{
			scalar("cpus", rapid.SampledFrom([]float64{0.5, 1, 3, 9}).Draw(t, "cpus")),
			scalar("mem", 64),
		},
	}
	if port := rapid.IntRange(0, 11).Draw(t, "port"); port < 10 {
		ti.Resources = append(ti.Resources, &mesos.Resource{
			Name: new("ports"), Type: mesos.Value_RANGES.Enum(),
			Ranges: &mesos.Value_Ranges{Range: []*mesos.Value_Range{{Begin: new(uint64(1000 + port)), End: new(uint64(1000 + port))}}},
		})
	}
	return ti
}

func (w *world) operation(t *rapid.T, f *fakeFramework, o *mesos.Offer) *mesos.Offer_Operation {
	role := "eng"
	if o.AllocationInfo != nil {
		role = o.AllocationInfo.GetRole()
	}
	reserved := func(r *mesos.Resource) *mesos.Resource {
		r.Reservations = []*mesos.Resource_ReservationInfo{{Type: mesos.Resource_ReservationInfo_DYNAMIC.Enum(), Role: &role}}
		return r
	}
	volume := func() *mesos.Resource {
		v := reserved(scalar("disk", 10))
		v.Disk = &mesos.Resource_DiskInfo{
			Persistence: &mesos.Resource_DiskInfo_Persistence{Id: new(fmt.Sprintf("v%d", rapid.IntRange(0, 3).Draw(t, "volume")))},
			Volume:      &mesos.Volume{ContainerPath: new("data"), Mode: mesos.Volume_RW.Enum()},
		}
		return v
	}
	switch rapid.IntRange(0, 7).Draw(t, "operation") {
	case 0, 1:
		ti := w.task(t, f, o)
		ti.Command = &mesos.CommandInfo{Value: new("true")}
		return &mesos.Offer_Operation{Type: mesos.Offer_Operation_LAUNCH.Enum(), Launch: &mesos.Offer_Operation_Launch{TaskInfos: []*mesos.TaskInfo{ti}}}
	case 2:
		ti := w.task(t, f, o)
		ti.Executor = &mesos.ExecutorInfo{
			ExecutorId: &mesos.ExecutorID{Value: new(fmt.Sprintf("e%d", rapid.IntRange(0, 1).Draw(t, "executor")))},
			Command:    &mesos.CommandInfo{Value: new("exec")},
			Resources:  []*mesos.Resource{scalar("cpus", 0.1), scalar("mem", 32)},
		}
		return &mesos.Offer_Operation{Type: mesos.Offer_Operation_LAUNCH.Enum(), Launch: &mesos.Offer_Operation_Launch{TaskInfos: []*mesos.TaskInfo{ti}}}
	case 3:
		g := &mesos.Offer_Operation_LaunchGroup{
			Executor: &mesos.ExecutorInfo{
				Type:        mesos.ExecutorInfo_DEFAULT.Enum(),
				ExecutorId:  &mesos.ExecutorID{Value: new("default")},
				FrameworkId: &mesos.FrameworkID{Value: new(f.id())},
				Resources:   []*mesos.Resource{scalar("cpus", 0.1), scalar("mem", 32), scalar("disk", 5)},
			},
			TaskGroup: &mesos.TaskGroupInfo{},
		}
		for range rapid.IntRange(1, 2).Draw(t, "group") {
			ti := w.task(t, f, o)
			ti.Command = &mesos.CommandInfo{Value: new("true")}
			g.TaskGroup.Tasks = append(g.TaskGroup.Tasks, ti)
		}
		return &mesos.Offer_Operation{Type: mesos.Offer_Operation_LAUNCH_GROUP.Enum(), LaunchGroup: g}
	case 4:
		return &mesos.Offer_Operation{Type: mesos.Offer_Operation_RESERVE.Enum(), Reserve: &mesos.Offer_Operation_Reserve{
			Resources: []*mesos.Resource{reserved(scalar("disk", 10)), reserved(scalar("cpus", 1))},
		}}
	case 5:
		return &mesos.Offer_Operation{Type: mesos.Offer_Operation_UNRESERVE.Enum(), Unreserve: &mesos.Offer_Operation_Unreserve{
			Resources: []*mesos.Resource{reserved(scalar("cpus", 1))},
		}}
	case 6:
		return &mesos.Offer_Operation{Type: mesos.Offer_Operation_CREATE.Enum(), Create: &mesos.Offer_Operation_Create{Volumes: []*mesos.Resource{volume()}}}
	default:
		return &mesos.Offer_Operation{Type: mesos.Offer_Operation_DESTROY.Enum(), Destroy: &mesos.Offer_Operation_Destroy{Volumes: []*mesos.Resource{volume()}}}
	}
}

// frameworkCall makes one of the smaller calls.
func (w *world) frameworkCall(t *rapid.T) {
	f, ok := pick(t, "framework", w.frameworks, func(f *fakeFramework) bool { return f.stream != "" })
	if !ok {
		return
	}
	id, agent := "t1", "M-S0"
	if ids := sortedKeys(f.launched); len(ids) > 0 {
		id = ids[rapid.IntRange(0, len(ids)-1).Draw(t, "task")]
		agent = f.agentOf[id]
	}
	switch rapid.IntRange(0, 7).Draw(t, "call") {
	case 0:
		f.call(&scheduler.Call{Type: scheduler.Call_KILL.Enum(), Kill: &scheduler.Call_Kill{TaskId: &mesos.TaskID{Value: &id}}})
	case 1:
		if len(f.offers) > 0 {
			o := f.offers[0]
			f.offers = f.offers[1:]
			f.call(&scheduler.Call{Type: scheduler.Call_DECLINE.Enum(), Decline: &scheduler.Call_Decline{OfferIds: []*mesos.OfferID{o.Id}}})
		}
	case 2:
		f.call(&scheduler.Call{Type: scheduler.Call_REVIVE.Enum()})
	case 3:
		f.call(&scheduler.Call{Type: scheduler.Call_SUPPRESS.Enum()})
	case 4:
		f.call(&scheduler.Call{Type: scheduler.Call_RECONCILE.Enum(), Reconcile: &scheduler.Call_Reconcile{}})
	case 5:
		f.call(&scheduler.Call{Type: scheduler.Call_RECONCILE.Enum(), Reconcile: &scheduler.Call_Reconcile{
			Tasks: []*scheduler.Call_Reconcile_Task{{TaskId: &mesos.TaskID{Value: &id}, AgentId: &mesos.AgentID{Value: &agent}}},
		}})
	case 6:
		f.call(&scheduler.Call{Type: scheduler.Call_ACCEPT.Enum(), Accept: &scheduler.Call_Accept{
			OfferIds: []*mesos.OfferID{{Value: new("nosuch")}},
		}})
	case 7:
		f.acknowledge()
	}
}

func (f *fakeFramework) acknowledge() {
	for _, s := range f.unacked {
		f.call(&scheduler.Call{Type: scheduler.Call_ACKNOWLEDGE.Enum(), Acknowledge: &scheduler.Call_Acknowledge{
			AgentId: s.AgentId, TaskId: s.TaskId, Uuid: s.Uuid,
		}})
	}
	f.unacked = nil
}

// connection breaks or makes a framework's connection.
func (w *world) connection(t *rapid.T) {
	f, ok := pick(t, "framework", w.frameworks, func(f *fakeFramework) bool { return !f.ended })
	if !ok {
		return
	}
	switch {
	case f.stream == "", rapid.IntRange(0, 3).Draw(t, "steal") == 0:
		f.subscribe()
	case rapid.IntRange(0, 3).Draw(t, "teardown") == 0:
		f.call(&scheduler.Call{Type: scheduler.Call_TEARDOWN.Enum()})
		f.ended = true
	default:
		f.w.h.feed(StreamClosed{StreamID: f.stream})
		f.stream = ""
	}
}

// agentEvent lets something happen to an agent.
func (w *world) agentEvent(t *rapid.T) {
	a, ok := pick(t, "agent", w.agents, func(a *fakeAgent) bool { return !a.dead })
	if !ok {
		return
	}
	switch rapid.IntRange(0, 5).Draw(t, "agent event") {
	case 0:
		a.disconnect()
	case 1:
		a.restart()
	case 2:
		a.connect() // a new link, perhaps before the master has noticed the end of the old one
	case 3, 4:
		if a.link == 0 {
			return
		}
		keys := slices.DeleteFunc(sortedKeys(a.tasks), func(k string) bool { return Terminal(a.tasks[k].state) })
		if len(keys) > 0 {
			key := keys[rapid.IntRange(0, len(keys)-1).Draw(t, "ending task")]
			a.update(a.tasks[key], rapid.SampledFrom([]mesos.TaskState{
				mesos.TaskState_TASK_FINISHED, mesos.TaskState_TASK_FAILED, mesos.TaskState_TASK_RUNNING,
			}).Draw(t, "state"))
		}
	case 5:
		keys := sortedKeys(a.executors)
		if a.link == 0 || len(keys) == 0 {
			return
		}
		e := a.executors[keys[0]]
		for _, key := range sortedKeys(a.tasks) {
			task := a.tasks[key]
			if task.fw == e.GetFrameworkId().GetValue() && task.executor == e.ExecutorInfo.ExecutorId.GetValue() && !Terminal(task.state) {
				a.update(task, mesos.TaskState_TASK_FAILED)
			}
		}
		delete(a.executors, keys[0])
		w.h.agentSays(a.link, &clusterdv1.AgentMessage{Message: &clusterdv1.AgentMessage_ExitedExecutor{ExitedExecutor: &clusterdv1.ExitedExecutor{
			FrameworkId: e.FrameworkId, ExecutorId: e.ExecutorInfo.ExecutorId, Status: proto.Int32(0),
		}}})
	}
}

// TestRandomHistories plays random histories, master failovers included, and
// audits the books after every step. At the end everybody reconnects, and every
// task must have an end or an agent that runs it, and nothing may have leaked.
func TestRandomHistories(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t)
		if w.automatic = rapid.Bool().Draw(t, "automatic maintenance"); w.automatic {
			w.failover(t)
		}
		w.addAgent(t)
		w.addFramework(t)
		t.Repeat(map[string]func(*rapid.T){
			"":           func(t *rapid.T) { w.check(t) },
			"settle":     func(*rapid.T) { w.settle() },
			"accept":     w.accept,
			"accept2":    func(t *rapid.T) { w.settle(); w.accept(t) },
			"call":       w.frameworkCall,
			"agent":      w.agentEvent,
			"connection": w.connection,
			"addAgent":   w.addAgent,
			"addFw":      w.addFramework,
			"operator":   w.operator,
			"inverse":    w.answerInverse,
			"time": func(t *rapid.T) {
				w.h.advance(time.Duration(rapid.SampledFrom([]int{1, 7, 20, 100, 700}).Draw(t, "seconds")) * time.Second)
			},
			"failover": func(t *rapid.T) {
				if rapid.IntRange(0, 4).Draw(t, "really") == 0 {
					w.failover(t)
				}
			},
			"registry": func(t *rapid.T) {
				w.h.hold = !w.h.hold
				if !w.h.hold {
					w.h.commit()
				}
			},
		})
		w.finish(t)
	})
}

// finish brings the world to rest and looks for what is lost.
func (w *world) finish(t *rapid.T) {
	w.h.hold = false
	w.h.commit()
	w.settle()
	for range 3 {
		for _, a := range w.agents {
			if !a.dead && a.link == 0 {
				a.connect()
			}
		}
		w.settle()
	}
	for _, f := range w.frameworks {
		if f.stream == "" && !f.ended {
			f.subscribe()
		}
	}
	w.settle()
	for range 50 {
		for _, a := range w.agents {
			for _, key := range sortedKeys(a.tasks) {
				a.resend(a.tasks[key])
			}
		}
		w.settle()
		for _, f := range w.frameworks {
			if f.stream != "" {
				f.acknowledge()
			}
		}
		w.settle()
	}
	w.check(t)
	w.checkOperators(t)
	for _, f := range w.frameworks {
		if f.ended || f.stream == "" {
			continue
		}
		w.accountFor(t, f)
	}
	w.drain(t)
}

// accountFor asks for the state of every task that a framework launched.
func (w *world) accountFor(t *rapid.T, f *fakeFramework) {
	for _, id := range sortedKeys(f.launched) {
		agent := f.agentOf[id]
		if _, away := w.h.core.recovered.Get(agent); away {
			continue // there is no answer until it is back, or has been waited for (its machine is down)
		}
		f.call(&scheduler.Call{Type: scheduler.Call_RECONCILE.Enum(), Reconcile: &scheduler.Call_Reconcile{
			Tasks: []*scheduler.Call_Reconcile_Task{{TaskId: &mesos.TaskID{Value: new(id)}, AgentId: &mesos.AgentID{Value: &agent}}},
		}})
		f.listen()
		running := false
		for _, a := range w.agents {
			task := a.tasks[f.id()+"/"+id]
			running = running || task != nil && !Terminal(task.state)
		}
		if state := f.launched[id]; running != !Terminal(state) && state != mesos.TaskState_TASK_UNREACHABLE &&
			state != mesos.TaskState_TASK_UNKNOWN {
			t.Fatalf("framework %s believes task %s to be %s; it is on an agent and runs: %t", f.id(), id, state, running)
		}
	}
}

// drain ends all frameworks; what is free must then be all there is.
func (w *world) drain(t *rapid.T) {
	for _, f := range w.frameworks {
		if f.stream != "" {
			f.call(&scheduler.Call{Type: scheduler.Call_TEARDOWN.Enum()})
		}
	}
	w.settle()
	w.h.advance(30 * time.Minute) // frameworks that nobody brought back
	w.settle()
	w.check(t)
	v := w.h.core.View()
	if n := v.Frameworks.Len(); n > 0 {
		t.Fatalf("%d frameworks are left", n)
	}
	for a := range v.Agents.Values() {
		if !a.Used.Empty() || !a.Offered.Empty() {
			t.Fatalf("agent %s uses [%s] and offers [%s] without any framework", a.ID, a.Used, a.Offered)
		}
	}
}

// TestDeterminism plays one history's inputs to two cores: their effects, logs
// and counters included, must be the same byte for byte.
func TestDeterminism(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t)
		w.addAgent(t)
		w.addFramework(t)
		t.Repeat(map[string]func(*rapid.T){
			"accept":     func(t *rapid.T) { w.settle(); w.accept(t) },
			"call":       w.frameworkCall,
			"agent":      w.agentEvent,
			"connection": w.connection,
			"addAgent":   w.addAgent,
			"addFw":      w.addFramework,
			"operator":   w.operator,
			"inverse":    w.answerInverse,
			"time":       func(*rapid.T) { w.h.advance(20 * time.Second) },
		})
		first, second := w.replay(), w.replay()
		for i := range min(len(first), len(second)) {
			if first[i] != second[i] {
				t.Fatalf("effects of input %d differ:\n%s\n%s", i, first[i], second[i])
			}
		}
	})
}

func (w *world) replay() []string {
	cfg := testConfig()
	cfg.PublishFrameworkMetrics = true
	core := New(cfg, Recovered{}, newAuditor(), epoch)
	var out []string
	for _, r := range w.inputs {
		var b strings.Builder
		for _, e := range core.Handle(r.now, cloneInput(r.in)) {
			switch e := e.(type) {
			case Log, Count:
				fmt.Fprintf(&b, "%+v\n", e)
			case Announce:
				fmt.Fprintf(&b, "announce %s\n", eventText(e.Event))
			case Propose:
				for _, c := range e.Commands {
					fmt.Fprintf(&b, "propose %d %x\n", e.Proposal, c.Payload)
				}
			default:
				b.WriteString(describeEffect(e) + "\n")
			}
		}
		out = append(out, b.String())
	}
	return out
}
