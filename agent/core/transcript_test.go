package core_test

import (
	"errors"
	"fmt"
	"sort"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
	"google.golang.org/protobuf/proto"

	"clusterd/agent/checkpoint"
	"clusterd/agent/core"
	clusterdv1 "clusterd/api/clusterd/v1"
	mesos "clusterd/api/mesos/v1"
	"clusterd/api/mesos/v1/executor"
)

// world is a core with a disk, which outlives it, and a clock.
type world struct {
	cfg    core.Config
	core   *core.Core
	disk   checkpoint.Memory
	now    time.Time
	seed   byte
	names  map[string]string // container ids and uuids, as they are printed
	uuids  map[string]string // printed name to uuid
	cids   map[string]string
	stream core.StreamID
	req    core.RequestID
	link   core.LinkID
	raw    []core.Effect // of the last line
}

var epoch = time.Unix(1_700_000_000, 0)

func newWorld() *world {
	return &world{
		now: epoch, names: map[string]string{}, uuids: map[string]string{}, cids: map[string]string{},
		cfg: core.Config{
			Info: &mesos.AgentInfo{
				Hostname: new("h"), Port: proto.Int32(5051),
				Resources: []*mesos.Resource{plain("cpus", 8), plain("mem", 8192), plain("disk", 1000)},
			},
			IP: "10.0.0.1", BuildVersion: "1.12.0", LinkVersion: 1, WorkDir: "/w",
			RegistrationBackoffFactor: time.Second, ExecutorRegistrationTimeout: time.Minute,
			ExecutorReregistrationTimeout: 2 * time.Second, ExecutorShutdownGracePeriod: 5 * time.Second,
			RecoveryTimeout: 15 * time.Minute, ReconfigurationPolicy: "equal", Recover: "reconnect", SwitchUser: true,
			MaxCompletedFrameworks: 2, MaxCompletedExecutors: 2, MaxCompletedTasks: 2,
		},
	}
}

func plain(name string, v float64) *mesos.Resource {
	return &mesos.Resource{Name: &name, Type: mesos.Value_SCALAR.Enum(), Scalar: &mesos.Value_Scalar{Value: &v}}
}

func allocated(name string, v float64) *mesos.Resource {
	r := plain(name, v)
	r.AllocationInfo = &mesos.Resource_AllocationInfo{Role: new("r")}
	return r
}

// name gives ids short names in the order they show up.
func (w *world) name(kind, id string) string {
	if n, ok := w.names[id]; ok {
		return n
	}
	n := 1
	for _, v := range w.names {
		if strings.HasPrefix(v, kind) {
			n++
		}
	}
	short := kind + strconv.Itoa(n)
	w.names[id] = short
	if kind == "u" {
		w.uuids[short] = id
	} else {
		w.cids[short] = id
	}
	return short
}

// start makes a core from what the disk holds.
func (w *world) start() error {
	kept, _, err := w.disk.Load(true)
	if err != nil {
		return err
	}
	w.seed++
	w.cfg.Seed[0] = w.seed
	w.core, err = core.New(w.cfg, kept, w.now)
	return err
}

// do hands an input to the core, keeps what is to be kept, and prints the rest.
func (w *world) do(in core.Input) string {
	effects := w.core.Handle(w.now, in)
	w.raw = append(w.raw, effects...)
	var records []core.Record
	var b strings.Builder
	for _, e := range effects {
		if p, ok := e.(core.Persist); ok {
			records = append(records, p.Record)
		}
		if s := w.print(e); s != "" {
			fmt.Fprintln(&b, s)
		}
	}
	if err := w.disk.Write(records); err != nil {
		fmt.Fprintln(&b, "WRITE FAILED:", err)
	}
	return b.String()
}

func (w *world) status(st *mesos.TaskStatus) string {
	s := st.GetTaskId().GetValue() + " " + strings.TrimPrefix(st.GetState().String(), "TASK_")
	if st.Reason != nil {
		s += " " + strings.TrimPrefix(st.GetReason().String(), "REASON_")
	}
	if st.Message != nil {
		s += fmt.Sprintf(" %q", st.GetMessage())
	}
	if cs := st.GetContainerStatus(); cs != nil {
		s += " in " + w.name("c", cs.GetContainerId().GetValue())
	}
	return s + " " + w.name("u", string(st.GetUuid()))
}

func amounts(rs []*mesos.Resource) string {
	var out []string
	for _, r := range rs {
		out = append(out, fmt.Sprintf("%s:%g", r.GetName(), r.GetScalar().GetValue()))
	}
	return strings.Join(out, ";")
}

func limits(m map[string]*mesos.Value_Scalar) string {
	var out []string
	for k, v := range m {
		out = append(out, fmt.Sprintf(" limit %s:%g", k, v.GetValue()))
	}
	sort.Strings(out)
	return strings.Join(out, "")
}

func (w *world) print(e core.Effect) string {
	cid := func(id *mesos.ContainerID) string { return w.name("c", id.GetValue()) }
	switch e := e.(type) {
	case core.Log, core.Count, core.AttachFiles:
		return ""
	case core.Persist:
		return "persist " + w.printRecord(e.Record)
	case core.ConnectMaster:
		return "connect"
	case core.LearnMasters:
		return fmt.Sprintf("learn cluster=%s masters=%s", e.ClusterID, strings.Join(e.Masters, ","))
	case core.CloseLink:
		return fmt.Sprintf("close link %d: %s", e.Link, e.Reason)
	case core.SendMaster:
		return fmt.Sprintf("master %d <- %s", e.Link, w.printAgentMessage(e.Message))
	case core.Respond:
		return fmt.Sprintf("respond %d %s", e.Status, e.Body)
	case core.OpenStream:
		return fmt.Sprintf("open stream %d", e.Stream)
	case core.SendExecutor:
		return fmt.Sprintf("executor %d <- %s", e.Stream, w.printEvent(e.Event))
	case core.CloseStream:
		return fmt.Sprintf("close stream %d", e.Stream)
	case core.LaunchContainer:
		builtin := ""
		if e.DefaultExecutor {
			builtin = " (the default executor)"
		}
		return fmt.Sprintf("launch %s for %s%s user=%s %s%s", cid(e.ContainerID), e.ExecutorID.GetValue(), builtin, e.User,
			amounts(e.Resources), limits(e.Limits))
	case core.UpdateContainer:
		return fmt.Sprintf("resize %s #%d %s%s", cid(e.ContainerID), e.Token, amounts(e.Resources), limits(e.Limits))
	case core.DestroyContainer:
		return "destroy " + cid(e.ContainerID)
	case core.WatchContainer:
		return "watch " + cid(e.ContainerID)
	case core.RemoveContainer:
		return "remove " + cid(e.ContainerID)
	case core.CollectSandbox:
		return "collect sandbox of " + w.name("c", e.Directory[strings.LastIndex(e.Directory, "/")+1:])
	case core.MakeVolume:
		return "make volume " + e.Path
	case core.RemoveVolume:
		return fmt.Sprintf("remove volume %s keeproot=%v", e.Path, e.KeepRoot)
	case core.Exit:
		return fmt.Sprintf("exit error=%v %s", e.Err, e.Reason)
	default:
		return fmt.Sprintf("%T", e)
	}
}

func (w *world) printRecord(r core.Record) string {
	switch r := r.(type) {
	case core.PutAgent:
		return "agent " + r.Info.GetId().GetValue()
	case core.ForgetAgent:
		return "nothing any more"
	case core.PutCluster:
		return "cluster " + r.Cluster.GetClusterId() + " of " + strings.Join(r.Cluster.GetMasters(), ",")
	case core.PutResources:
		return "resources " + amounts(r.Resources.GetResources())
	case core.PutDrain:
		if r.Config == nil {
			return "no drain"
		}
		return "drain"
	case core.PutFramework:
		return "framework " + r.Info.GetId().GetValue()
	case core.DeleteFramework:
		return "no framework " + r.FrameworkID
	case core.PutExecutor:
		x := r.Executor
		s := fmt.Sprintf("executor %s in %s", x.GetExecutorInfo().GetExecutorId().GetValue(), w.name("c", x.GetContainerId().GetValue()))
		if x.GetTerminated() {
			s += " terminated"
		}
		if x.GetSentTask() {
			s += " sent-task"
		}
		return s
	case core.DeleteExecutor:
		return "no executor " + r.ExecutorID
	case core.PutTask:
		return "task " + r.Task.GetTask().GetTaskId().GetValue()
	case core.DeleteTask:
		return "no task " + r.TaskID
	case core.AppendUpdate:
		if u := r.Update.GetStatus(); u != nil {
			return fmt.Sprintf("update #%d %s %s", r.Seq, r.TaskID, w.name("u", string(u.GetUuid())))
		}
		return fmt.Sprintf("ack #%d %s %s", r.Seq, r.TaskID, w.name("u", string(r.Update.GetAcknowledged())))
	case core.PutOperation:
		return "operation " + r.Operation.GetOperation().GetInfo().GetId().GetValue()
	case core.DeleteOperation:
		return "no operation"
	default:
		return fmt.Sprintf("%T", r)
	}
}

func (w *world) printAgentMessage(m *clusterdv1.AgentMessage) string {
	switch m := m.GetMessage().(type) {
	case *clusterdv1.AgentMessage_Register:
		r := m.Register
		s := "register id=" + r.GetAgentInfo().GetId().GetValue()
		for _, f := range r.GetFrameworks() {
			s += " framework=" + f.GetId().GetValue()
		}
		for _, e := range r.GetExecutors() {
			s += " executor=" + e.GetExecutorInfo().GetExecutorId().GetValue()
		}
		for _, t := range r.GetTasks() {
			s += " task=" + t.GetTaskId().GetValue() + ":" + strings.TrimPrefix(t.GetState().String(), "TASK_")
		}
		for _, o := range r.GetOperations() {
			s += " operation=" + o.GetInfo().GetId().GetValue()
		}
		if len(r.GetCheckpointedResources()) > 0 {
			s += " checkpointed=" + amounts(r.GetCheckpointedResources())
		}
		if r.DrainConfig != nil {
			s += " draining"
		}
		if r.ClusterId != nil {
			s += " cluster=" + r.GetClusterId()
		}
		return s
	case *clusterdv1.AgentMessage_UpdateTask:
		s := "update " + w.status(m.UpdateTask.GetStatus())
		if m.UpdateTask.LatestState != nil {
			s += " latest " + strings.TrimPrefix(m.UpdateTask.GetLatestState().String(), "TASK_")
		}
		return s
	case *clusterdv1.AgentMessage_UpdateOperation:
		st := m.UpdateOperation.GetStatus()
		return fmt.Sprintf("operation %s %s %s", st.GetOperationId().GetValue(), st.GetState(), w.name("u", string(st.GetUuid().GetValue())))
	case *clusterdv1.AgentMessage_ExecutorMessage:
		return fmt.Sprintf("message of %s %q", m.ExecutorMessage.GetExecutorId().GetValue(), m.ExecutorMessage.GetData())
	case *clusterdv1.AgentMessage_ExitedExecutor:
		return fmt.Sprintf("exited %s status %d", m.ExitedExecutor.GetExecutorId().GetValue(), m.ExitedExecutor.GetStatus())
	case *clusterdv1.AgentMessage_Pong:
		return "pong"
	case *clusterdv1.AgentMessage_Unregister:
		return "unregister"
	default:
		return fmt.Sprintf("%T", m)
	}
}

func (w *world) printEvent(e *executor.Event) string {
	s := e.GetType().String()
	switch e.GetType() {
	case executor.Event_LAUNCH:
		s += " " + e.GetLaunch().GetTask().GetTaskId().GetValue()
	case executor.Event_LAUNCH_GROUP:
		for _, t := range e.GetLaunchGroup().GetTaskGroup().GetTasks() {
			s += " " + t.GetTaskId().GetValue()
		}
	case executor.Event_KILL:
		s += " " + e.GetKill().GetTaskId().GetValue()
		if g := e.GetKill().GetKillPolicy().GetGracePeriod(); g != nil {
			s += " within " + time.Duration(g.GetNanoseconds()).String()
		}
	case executor.Event_ACKNOWLEDGED:
		s += " " + e.GetAcknowledged().GetTaskId().GetValue() + " " + w.name("u", string(e.GetAcknowledged().GetUuid()))
	case executor.Event_MESSAGE:
		s += fmt.Sprintf(" %q", e.GetMessage().GetData())
	default:
	}
	return s
}

// args of a line of a script: name=value, name alone.
type args map[string]string

func parseArgs(line string) (cmd string, a args) {
	a = args{}
	fields := strings.Fields(line)
	for _, f := range fields[1:] {
		k, v, _ := strings.Cut(f, "=")
		a[k] = v
	}
	return fields[0], a
}

func (a args) has(k string) bool { _, ok := a[k]; return ok }

func (a args) or(k, def string) string {
	if v, ok := a[k]; ok {
		return v
	}
	return def
}

func fwID(id string) *mesos.FrameworkID  { return &mesos.FrameworkID{Value: &id} }
func execID(id string) *mesos.ExecutorID { return &mesos.ExecutorID{Value: &id} }
func taskID(id string) *mesos.TaskID     { return &mesos.TaskID{Value: &id} }

func frameworkInfo(a args) *mesos.FrameworkInfo {
	info := &mesos.FrameworkInfo{
		Id: fwID(a.or("fw", "F")), Name: new("n"), User: new("u"), Roles: []string{"r"},
		Checkpoint: new(!a.has("nocheckpoint")),
	}
	if !a.has("unaware") {
		info.Capabilities = append(info.Capabilities, &mesos.FrameworkInfo_Capability{Type: mesos.FrameworkInfo_Capability_PARTITION_AWARE.Enum()})
	}
	return info
}

func executorInfo(id string) *mesos.ExecutorInfo {
	return &mesos.ExecutorInfo{
		ExecutorId: execID(id), Type: mesos.ExecutorInfo_CUSTOM.Enum(), Command: &mesos.CommandInfo{Value: new("x")},
		Resources: []*mesos.Resource{allocated("cpus", 0.5), allocated("mem", 64)},
	}
}

func (w *world) runTasks(a args) *clusterdv1.MasterMessage {
	m := &clusterdv1.RunTasks{Framework: frameworkInfo(a), Group: new(a.has("group"))}
	if a.has("executor") {
		m.Executor = executorInfo(a["executor"])
		if a["type"] == "default" {
			m.Executor.Type, m.Executor.Command = mesos.ExecutorInfo_DEFAULT.Enum(), nil
		}
		m.LaunchExecutor = new(!a.has("existing"))
	}
	for id := range strings.SplitSeq(a["task"], ",") {
		t := &mesos.TaskInfo{
			Name: new(id), TaskId: taskID(id), AgentId: &mesos.AgentID{Value: new(a.or("agent", "S0"))},
			Resources: []*mesos.Resource{allocated("cpus", 1), allocated("mem", 128)},
		}
		if d, err := time.ParseDuration(a["grace"]); err == nil {
			t.KillPolicy = &mesos.KillPolicy{GracePeriod: &mesos.DurationInfo{Nanoseconds: new(int64(d))}}
		}
		if a.has("limit") {
			t.Limits = map[string]*mesos.Value_Scalar{"mem": {Value: proto.Float64(512)}, "cpus": {Value: proto.Float64(4)}}
		}
		if a.has("volume") {
			r := allocated("disk", 10)
			r.Reservations = []*mesos.Resource_ReservationInfo{{Type: mesos.Resource_ReservationInfo_DYNAMIC.Enum(), Role: new("r")}}
			r.Disk = &mesos.Resource_DiskInfo{
				Persistence: &mesos.Resource_DiskInfo_Persistence{Id: new("v")},
				Volume:      &mesos.Volume{ContainerPath: new("data"), Mode: mesos.Volume_RW.Enum()},
			}
			t.Resources = append(t.Resources, r)
		}
		if m.Executor == nil {
			t.Command = &mesos.CommandInfo{Value: new("true")}
		} else {
			t.Executor = m.Executor
		}
		m.Tasks = append(m.Tasks, t)
	}
	return &clusterdv1.MasterMessage{Message: &clusterdv1.MasterMessage_RunTasks{RunTasks: m}}
}

func (w *world) execStatus(a args) *mesos.TaskStatus {
	uuid := a["uuid"] + strings.Repeat("-", 16-len(a["uuid"]))
	w.names[uuid] = a["uuid"]
	w.uuids[a["uuid"]] = uuid
	st := &mesos.TaskStatus{
		TaskId: taskID(a["task"]), Source: mesos.TaskStatus_SOURCE_EXECUTOR.Enum(), Uuid: []byte(uuid),
		State: mesos.TaskState(mesos.TaskState_value["TASK_"+a["state"]]).Enum(),
	}
	if a.has("message") {
		st.Message = new(a["message"])
	}
	return st
}

func (w *world) operation(a args) *mesos.Offer_Operation {
	op := &mesos.Offer_Operation{}
	if a.has("id") {
		op.Id = &mesos.OperationID{Value: new(a["id"])}
	}
	disk := allocated("disk", 10)
	disk.Reservations = []*mesos.Resource_ReservationInfo{{Type: mesos.Resource_ReservationInfo_DYNAMIC.Enum(), Role: new("r")}}
	volume := proto.CloneOf(disk)
	volume.Disk = &mesos.Resource_DiskInfo{
		Persistence: &mesos.Resource_DiskInfo_Persistence{Id: new("v")},
		Volume:      &mesos.Volume{ContainerPath: new("data"), Mode: mesos.Volume_RW.Enum()},
	}
	switch a["type"] {
	case "reserve":
		op.Type = mesos.Offer_Operation_RESERVE.Enum()
		op.Reserve = &mesos.Offer_Operation_Reserve{Resources: []*mesos.Resource{disk}}
	case "unreserve":
		op.Type = mesos.Offer_Operation_UNRESERVE.Enum()
		op.Unreserve = &mesos.Offer_Operation_Unreserve{Resources: []*mesos.Resource{disk}}
	case "create":
		op.Type = mesos.Offer_Operation_CREATE.Enum()
		op.Create = &mesos.Offer_Operation_Create{Volumes: []*mesos.Resource{volume}}
	case "destroy":
		op.Type = mesos.Offer_Operation_DESTROY.Enum()
		op.Destroy = &mesos.Offer_Operation_Destroy{Volumes: []*mesos.Resource{volume}}
	}
	return op
}

// message makes what the master says in one line.
func (w *world) message(cmd string, a args) *clusterdv1.MasterMessage {
	fw := fwID(a.or("fw", "F"))
	switch cmd {
	case "registered":
		r := &clusterdv1.Registered{
			AgentId:     &mesos.AgentID{Value: new(a.or("id", "S0"))},
			MasterInfo:  &mesos.MasterInfo{Id: new("M")},
			PingTimeout: &mesos.DurationInfo{Nanoseconds: proto.Int64(int64(75 * time.Second))},
		}
		if a.has("unknown") {
			r.ReconcileTasks = []*clusterdv1.ReconcileTask{{FrameworkId: fw, TaskId: taskID(a["unknown"]), PartitionAware: new(true)}}
		}
		if a.has("cluster") {
			r.ClusterId = new(a["cluster"])
		}
		if a.has("masters") {
			r.Masters = strings.Split(a["masters"], ",")
		}
		if a.has("epoch") {
			r.Epoch = new(epochOf(a))
		}
		return &clusterdv1.MasterMessage{Message: &clusterdv1.MasterMessage_Registered{Registered: r}}
	case "masters":
		return &clusterdv1.MasterMessage{Message: &clusterdv1.MasterMessage_Masters{Masters: &clusterdv1.Masters{
			Addresses: strings.Split(a["are"], ","),
		}}}
	case "refused":
		return &clusterdv1.MasterMessage{Message: &clusterdv1.MasterMessage_Refused{Refused: &clusterdv1.Refused{
			Message: new("no"), Shutdown: new(a.has("shutdown")),
		}}}
	case "run":
		return w.runTasks(a)
	case "kill":
		return &clusterdv1.MasterMessage{Message: &clusterdv1.MasterMessage_KillTask{KillTask: &clusterdv1.KillTask{FrameworkId: fw, TaskId: taskID(a["task"])}}}
	case "cancel-drain":
		return &clusterdv1.MasterMessage{Message: &clusterdv1.MasterMessage_CancelDrain{CancelDrain: &clusterdv1.CancelDrain{}}}
	case "drain":
		config := &mesos.DrainConfig{MarkGone: new(a.has("gone"))}
		if d, err := time.ParseDuration(a["grace"]); err == nil {
			config.MaxGracePeriod = &mesos.DurationInfo{Nanoseconds: new(int64(d))}
		}
		return &clusterdv1.MasterMessage{Message: &clusterdv1.MasterMessage_Drain{Drain: &clusterdv1.Drain{Config: config}}}
	case "ack":
		return &clusterdv1.MasterMessage{Message: &clusterdv1.MasterMessage_AcknowledgeTask{AcknowledgeTask: &clusterdv1.AcknowledgeTask{
			FrameworkId: fw, TaskId: taskID(a["task"]), Uuid: []byte(w.uuids[a["uuid"]]),
		}}}
	case "shutdown-executor":
		return &clusterdv1.MasterMessage{Message: &clusterdv1.MasterMessage_ShutdownExecutor{ShutdownExecutor: &clusterdv1.ShutdownExecutor{
			FrameworkId: fw, ExecutorId: execID(a["executor"]),
		}}}
	case "shutdown-framework":
		return &clusterdv1.MasterMessage{Message: &clusterdv1.MasterMessage_ShutdownFramework{ShutdownFramework: &clusterdv1.ShutdownFramework{FrameworkId: fw}}}
	case "ping":
		return &clusterdv1.MasterMessage{Message: &clusterdv1.MasterMessage_Ping{Ping: &clusterdv1.Ping{Connected: new(!a.has("disconnected"))}}}
	case "operation":
		return &clusterdv1.MasterMessage{Message: &clusterdv1.MasterMessage_ApplyOperation{ApplyOperation: &clusterdv1.ApplyOperation{
			FrameworkId: fw, Operation: w.operation(a), OperationUuid: []byte(a["uuid"] + strings.Repeat("-", 16-len(a["uuid"]))),
		}}}
	case "ack-operation":
		return &clusterdv1.MasterMessage{Message: &clusterdv1.MasterMessage_AcknowledgeOperation{AcknowledgeOperation: &clusterdv1.AcknowledgeOperation{
			FrameworkId: fw, OperationUuid: []byte(a["uuid"] + strings.Repeat("-", 16-len(a["uuid"]))), StatusUuid: []byte(w.uuids[a["status"]]),
		}}}
	default:
		return nil
	}
}

func epochOf(a args) uint64 {
	n, _ := strconv.ParseUint(a["epoch"], 10, 64)
	return n
}

func (w *world) subscribe(a args) core.Input {
	w.stream++
	w.req++
	sub := &executor.Call_Subscribe{}
	if a.has("tasks") {
		for id := range strings.SplitSeq(a["tasks"], ",") {
			sub.UnacknowledgedTasks = append(sub.UnacknowledgedTasks, &mesos.TaskInfo{TaskId: taskID(id)})
		}
	}
	if a.has("updates") { // task:STATE:uuid,...
		for u := range strings.SplitSeq(a["updates"], ",") {
			p := strings.Split(u, ":")
			sub.UnacknowledgedUpdates = append(sub.UnacknowledgedUpdates, &executor.Call_Update{
				Status: w.execStatus(args{"task": p[0], "state": p[1], "uuid": p[2]}),
			})
		}
	}
	return core.Subscribe{Request: w.req, Stream: w.stream, Call: &executor.Call{
		Type: executor.Call_SUBSCRIBE.Enum(), FrameworkId: fwID(a.or("fw", "F")), ExecutorId: execID(a["executor"]), Subscribe: sub,
	}}
}

// input makes an input of one line; nil if the line is none.
func (w *world) input(cmd string, a args) core.Input {
	switch cmd {
	case "recovered":
		return core.Recovered{}
	case "up":
		w.link++
		return core.LinkUp{Link: w.link}
	case "down":
		return core.LinkDown{Link: w.link, Reason: "cut"}
	case "leader":
		return core.LeaderKnown{Epoch: epochOf(a)}
	case "nomaster":
		return core.LinkDown{Reason: "no master"}
	case "subscribe":
		return w.subscribe(a)
	case "update":
		w.req++
		return core.Call{Request: w.req, Call: &executor.Call{
			Type: executor.Call_UPDATE.Enum(), FrameworkId: fwID(a.or("fw", "F")), ExecutorId: execID(a["executor"]),
			Update: &executor.Call_Update{Status: w.execStatus(a)},
		}}
	case "message":
		w.req++
		return core.Call{Request: w.req, Call: &executor.Call{
			Type: executor.Call_MESSAGE.Enum(), FrameworkId: fwID(a.or("fw", "F")), ExecutorId: execID(a["executor"]),
			Message: &executor.Call_Message{Data: []byte("hi")},
		}}
	case "closed":
		n, _ := strconv.Atoi(a["stream"])
		return core.StreamClosed{Stream: core.StreamID(n)}
	case "launched":
		in := core.ContainerLaunched{ContainerID: w.cids[a["container"]], Status: &mesos.ContainerStatus{ExecutorPid: proto.Uint32(7)}}
		if a.has("error") {
			in.Err = errors.New(a["error"])
		}
		return in
	case "resized":
		n, _ := strconv.ParseUint(a["token"], 10, 64)
		in := core.ContainerUpdated{ContainerID: w.cids[a["container"]], Token: n}
		if a.has("error") {
			in.Err = errors.New(a["error"])
		}
		return in
	case "terminated":
		t := core.Termination{StatusKnown: a.has("status"), Message: a["message"], Failure: a["failure"]}
		t.Status, _ = strconv.Atoi(a["status"])
		if a.has("oom") {
			t.Reason = mesos.TaskStatus_REASON_CONTAINER_LIMITATION_MEMORY.Enum()
			t.Limited = []*mesos.Resource{plain("mem", 128)}
		}
		return core.ContainerTerminated{ContainerID: w.cids[a["container"]], Termination: t}
	case "leave":
		return core.Shutdown{Message: "asked"}
	default:
		return nil
	}
}

func (w *world) line(line string) string {
	w.raw = nil
	cmd, a := parseArgs(line)
	switch cmd {
	case "new":
		*w = *newWorld()
		w.cfg.Recover = a.or("recover", "reconnect")
		fallthrough
	case "crash":
		w.cfg.Rebooted = a.has("rebooted")
		if a.has("recover") {
			w.cfg.Recover = a["recover"]
		}
		if a.has("hostname") {
			w.cfg.Info.Hostname = new(a["hostname"])
		}
		if err := w.start(); err != nil {
			return err.Error() + "\n"
		}
		var out strings.Builder
		for _, l := range w.core.Containers() {
			fmt.Fprintf(&out, "recover %s of %s\n", w.name("c", l.ContainerID.GetValue()), l.ExecutorID.GetValue())
		}
		return out.String()
	case "advance":
		return w.advance(a)
	case "state":
		return describe(w.core.View())
	}
	if m := w.message(cmd, a); m != nil {
		return w.do(core.MasterMessage{Link: w.link, Message: m})
	}
	if in := w.input(cmd, a); in != nil {
		return w.do(in)
	}
	return "unknown command " + cmd + "\n"
}

// advance lets time pass, ticking whenever the core wants.
func (w *world) advance(a args) string {
	d, err := time.ParseDuration(a["by"])
	if err != nil {
		return err.Error() + "\n"
	}
	var b strings.Builder
	end := w.now.Add(d)
	for {
		at, ok := w.core.NextWake()
		if !ok || at.After(end) {
			break
		}
		w.now = at
		if out := w.do(core.Tick{}); out != "" {
			fmt.Fprintf(&b, "+%s\n%s", w.now.Sub(epoch).Round(time.Millisecond), out)
		}
	}
	w.now = end
	return b.String()
}

// describe prints the state of a view.
func describe(v *core.View) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s total %s\n", v.Phase, v.Info.GetId().GetValue(), v.Total)
	if v.DrainConfig != nil {
		fmt.Fprintf(&b, "draining since +%s\n", v.DrainStart.Sub(epoch))
	}
	for _, kind := range []struct {
		name string
		fws  []*core.FrameworkView
	}{{"framework", v.Frameworks}, {"completed framework", v.Completed}} {
		for _, fw := range kind.fws {
			fmt.Fprintf(&b, "%s %s\n", kind.name, fw.Info.GetId().GetValue())
			for i, e := range append(append([]*core.ExecutorView(nil), fw.Executors...), fw.CompletedExecutors...) {
				state := e.State
				if i >= len(fw.Executors) {
					state = "completed"
				}
				fmt.Fprintf(&b, "  executor %s %s %s:", e.Info.GetExecutorId().GetValue(), state, e.Allocated)
				for _, t := range e.Queued {
					fmt.Fprintf(&b, " %s queued", t.GetTaskId().GetValue())
				}
				for _, l := range []struct {
					name  string
					tasks []*mesos.Task
				}{{"", e.Launched}, {" terminated", e.Terminated}, {" completed", e.Completed}} {
					for _, t := range l.tasks {
						fmt.Fprintf(&b, " %s %s%s", t.GetTaskId().GetValue(), strings.TrimPrefix(t.GetState().String(), "TASK_"), l.name)
					}
				}
				fmt.Fprintln(&b)
			}
		}
	}
	for _, o := range v.Operations {
		fmt.Fprintf(&b, "operation %s %s\n", o.GetInfo().GetId().GetValue(), o.GetLatestStatus().GetState())
	}
	return b.String()
}

// TestTranscripts plays the scripts in testdata: each line is an input, or a
// command of the harness; what is printed are the effects, in order. "persist"
// is what must be on the disk before anything else of the same input is done.
func TestTranscripts(t *testing.T) {
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		w := newWorld()
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			if d.Cmd != "do" {
				t.Fatalf("%s: unknown directive %q", d.Pos, d.Cmd)
			}
			var b strings.Builder
			for line := range strings.SplitSeq(d.Input, "\n") {
				if line = strings.TrimSpace(line); line == "" || line[0] == '#' {
					continue
				}
				out := w.line(line)
				if strings.Count(d.Input, "\n") > 0 && line != "state" {
					fmt.Fprintf(&b, "> %s\n", line)
				}
				b.WriteString(out)
			}
			return b.String()
		})
	})
}
