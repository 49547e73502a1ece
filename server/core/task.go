package core

import (
	"strconv"

	"google.golang.org/protobuf/proto"

	"clusterd/allocator/resources"
	mesos "clusterd/api/mesos/v1"
)

// Task is what the master remembers of a task: a compact, immutable form of
// mesos.Task. A change makes a new one. With two statuses it takes about 700
// bytes where the generated message takes 3,000.
type Task struct {
	ID, Name string
	// FrameworkID and AgentID share the memory of the framework's and agent's.
	FrameworkID, AgentID string
	// ExecutorID is empty for a command task.
	ExecutorID string
	// User that it runs as, if its command or executor names one.
	User string
	// State is the newest that the agent knows; StatusUpdateState that of the
	// newest update that was forwarded to the framework, whose uuid is
	// StatusUpdateUUID. They differ while updates wait for acknowledgements.
	State             mesos.TaskState
	StatusUpdateState mesos.TaskState
	StatusUpdateUUID  string // 16 bytes; empty until the first update
	Resources         resources.Resources
	// Statuses it went through, one per run of equal states, oldest first.
	Statuses []Status
	// Extra holds what few tasks have; nil if this one has none of it.
	Extra *TaskExtra
	// killed: a KILL was asked for and is asked for again when the agent
	// registers again without having ended the task.
	killed     bool
	killPolicy *mesos.KillPolicy
}

// TaskExtra are members of mesos.Task as they came in the TaskInfo.
type TaskExtra struct {
	Labels      *mesos.Labels
	Discovery   *mesos.DiscoveryInfo
	Container   *mesos.ContainerInfo
	HealthCheck *mesos.HealthCheck
	KillPolicy  *mesos.KillPolicy
	Limits      map[string]*mesos.Value_Scalar
}

// Status is a compact mesos.TaskStatus without its data. Members that are not
// set have their zero value, HasX where zero means something.
type Status struct {
	State     mesos.TaskState
	Source    mesos.TaskStatus_Source
	Reason    mesos.TaskStatus_Reason
	HasSource bool
	HasReason bool
	HasHealth bool
	Healthy   bool
	Timestamp float64
	UUID      string // 16 bytes
	Message   string
	// ExecutorID as in the status; agents set it for command tasks too.
	ExecutorID string
	// The container, if the status names one. HasNetwork with an empty IP is a
	// network info without addresses.
	ContainerID, ParentContainerID string
	HasNetwork                     bool
	IP                             string
	ExecutorPID                    uint32 // 0: none
	// Full is the whole status when there is more to it than fits above; the
	// members above are set all the same.
	Full *mesos.TaskStatus
}

// Terminal reports whether a task in this state has ended for good.
// UNREACHABLE and UNKNOWN are not terminal.
func Terminal(s mesos.TaskState) bool {
	switch s {
	case mesos.TaskState_TASK_FINISHED, mesos.TaskState_TASK_FAILED, mesos.TaskState_TASK_KILLED,
		mesos.TaskState_TASK_LOST, mesos.TaskState_TASK_ERROR, mesos.TaskState_TASK_DROPPED,
		mesos.TaskState_TASK_GONE, mesos.TaskState_TASK_GONE_BY_OPERATOR:
		return true
	default:
		return false
	}
}

// Terminal reports whether the task has ended; its resources are then free.
func (t *Task) Terminal() bool { return Terminal(t.State) }

// removable reports whether a task holds nothing: terminal, or unreachable.
func removable(s mesos.TaskState) bool {
	return Terminal(s) || s == mesos.TaskState_TASK_UNREACHABLE
}

// Role is the role that the task's resources are allocated to.
func (t *Task) Role() string {
	if t.Resources.Empty() {
		return ""
	}
	return t.Resources.At(0).Role()
}

// Latest is the newest status, nil if there is none yet.
func (t *Task) Latest() *Status {
	if len(t.Statuses) == 0 {
		return nil
	}
	return &t.Statuses[len(t.Statuses)-1]
}

// clone copies the record for a change; the slices stay shared.
func (t *Task) clone() *Task {
	c := *t
	return &c
}

// newTask makes the record of a task that is being launched (Mesos:
// src/common/protobuf_utils.cpp createTask).
func newTask(info *mesos.TaskInfo, frameworkID, agentID string, r resources.Resources) *Task {
	t := &Task{
		ID:          info.GetTaskId().GetValue(),
		Name:        info.GetName(),
		FrameworkID: frameworkID,
		AgentID:     agentID,
		ExecutorID:  info.GetExecutor().GetExecutorId().GetValue(),
		State:       mesos.TaskState_TASK_STAGING,
		Resources:   r,
	}
	if t.Name == t.ID {
		t.Name = t.ID // one string for both
	}
	switch {
	case info.Command != nil && info.Command.User != nil:
		t.User = info.Command.GetUser()
	case info.GetExecutor().GetCommand() != nil:
		t.User = info.Executor.Command.GetUser()
	}
	extra := TaskExtra{
		Labels:      info.Labels,
		Discovery:   info.Discovery,
		Container:   info.Container,
		HealthCheck: info.HealthCheck,
		KillPolicy:  info.KillPolicy,
		Limits:      info.Limits,
	}
	t.setExtra(extra)
	return t
}

func (t *Task) setExtra(e TaskExtra) {
	if e.Labels != nil || e.Discovery != nil || e.Container != nil ||
		e.HealthCheck != nil || e.KillPolicy != nil || len(e.Limits) > 0 {
		t.Extra = &e
	}
}

// taskFromProto makes the record of a task that an agent reports.
func taskFromProto(p *mesos.Task, frameworkID, agentID string, r resources.Resources) *Task {
	t := &Task{
		ID:                p.GetTaskId().GetValue(),
		Name:              p.GetName(),
		FrameworkID:       frameworkID,
		AgentID:           agentID,
		ExecutorID:        p.GetExecutorId().GetValue(),
		User:              p.GetUser(),
		State:             p.GetState(),
		StatusUpdateState: p.GetStatusUpdateState(),
		StatusUpdateUUID:  string(p.GetStatusUpdateUuid()),
		Resources:         r,
	}
	if t.Name == t.ID {
		t.Name = t.ID
	}
	if p.StatusUpdateState == nil {
		t.StatusUpdateState = t.State
	}
	for _, s := range p.Statuses {
		t.Statuses = append(t.Statuses, compactStatus(s))
	}
	t.setExtra(TaskExtra{
		Labels:      p.Labels,
		Discovery:   p.Discovery,
		Container:   p.Container,
		HealthCheck: p.HealthCheck,
		KillPolicy:  p.KillPolicy,
		Limits:      p.Limits,
	})
	return t
}

// Proto renders the task as the operator API shows it.
func (t *Task) Proto() *mesos.Task {
	p := &mesos.Task{
		Name:        &t.Name,
		TaskId:      &mesos.TaskID{Value: &t.ID},
		FrameworkId: &mesos.FrameworkID{Value: &t.FrameworkID},
		AgentId:     &mesos.AgentID{Value: &t.AgentID},
		State:       t.State.Enum(),
		Resources:   t.Resources.Proto(),
	}
	if t.ExecutorID != "" {
		p.ExecutorId = &mesos.ExecutorID{Value: &t.ExecutorID}
	}
	if t.User != "" {
		p.User = &t.User
	}
	if t.StatusUpdateUUID != "" {
		p.StatusUpdateState = t.StatusUpdateState.Enum()
		p.StatusUpdateUuid = []byte(t.StatusUpdateUUID)
	}
	for i := range t.Statuses {
		p.Statuses = append(p.Statuses, t.Statuses[i].Proto(t))
	}
	if e := t.Extra; e != nil {
		p.Labels, p.Discovery, p.Container = e.Labels, e.Discovery, e.Container
		p.HealthCheck, p.KillPolicy, p.Limits = e.HealthCheck, e.KillPolicy, e.Limits
	}
	return p
}

// withStatus returns the statuses with one more. Of a run of equal states only
// the last is kept (Mesos: Master::updateTask), which bounds the list for tasks
// that report their health for years.
func (t *Task) withStatus(s Status) []Status {
	old := t.Statuses
	if n := len(old); n > 0 && old[n-1].State == s.State {
		old = old[:n-1]
	}
	out := make([]Status, len(old), len(old)+1)
	copy(out, old)
	return append(out, s)
}

// compactStatus makes the compact form. A status with anything unusual in it is
// kept whole besides.
func compactStatus(p *mesos.TaskStatus) Status {
	s := Status{
		State:      p.GetState(),
		Source:     p.GetSource(),
		Reason:     p.GetReason(),
		HasSource:  p.Source != nil,
		HasReason:  p.Reason != nil,
		HasHealth:  p.Healthy != nil,
		Healthy:    p.GetHealthy(),
		Timestamp:  p.GetTimestamp(),
		UUID:       string(p.GetUuid()),
		Message:    p.GetMessage(),
		ExecutorID: p.GetExecutorId().GetValue(),
	}
	plain := p.CheckStatus == nil && p.Labels == nil && p.UnreachableTime == nil && p.Limitation == nil
	if cs := p.ContainerStatus; cs != nil {
		s.ContainerID = cs.GetContainerId().GetValue()
		s.ParentContainerID = cs.GetContainerId().GetParent().GetValue()
		s.ExecutorPID = cs.GetExecutorPid()
		plain = plain && plainContainer(cs) && s.compactNetwork(cs.NetworkInfos)
	}
	if !plain {
		full := proto.CloneOf(p)
		full.Data = nil
		s.Full = full
	}
	return s
}

// plainContainer reports whether a Status can hold all of cs but its networks.
func plainContainer(cs *mesos.ContainerStatus) bool {
	id := cs.ContainerId
	if id == nil || id.GetValue() == "" || cs.CgroupInfo != nil {
		return false
	}
	if id.Parent != nil && (id.Parent.Parent != nil || id.Parent.GetValue() == "") {
		return false
	}
	return cs.ExecutorPid == nil || *cs.ExecutorPid != 0
}

func (s *Status) compactNetwork(infos []*mesos.NetworkInfo) bool {
	if len(infos) == 0 {
		return true
	}
	n := infos[0]
	if len(infos) > 1 || n.Name != nil || len(n.Groups) > 0 || n.Labels != nil || len(n.PortMappings) > 0 {
		return false
	}
	if len(n.IpAddresses) != 1 {
		return false
	}
	ip := n.IpAddresses[0]
	if ip.Protocol == nil || ip.GetProtocol() != mesos.NetworkInfo_IPv4 || ip.GetIpAddress() == "" {
		return false
	}
	s.HasNetwork, s.IP = true, ip.GetIpAddress()
	return true
}

// ContainerStatus renders the container's part; nil if there is none.
func (s *Status) ContainerStatus() *mesos.ContainerStatus {
	if s.Full != nil {
		return s.Full.ContainerStatus
	}
	if s.ContainerID == "" {
		return nil
	}
	cs := &mesos.ContainerStatus{ContainerId: &mesos.ContainerID{Value: &s.ContainerID}}
	if s.ParentContainerID != "" {
		cs.ContainerId.Parent = &mesos.ContainerID{Value: &s.ParentContainerID}
	}
	if s.HasNetwork {
		cs.NetworkInfos = []*mesos.NetworkInfo{{IpAddresses: []*mesos.NetworkInfo_IPAddress{{
			Protocol:  mesos.NetworkInfo_IPv4.Enum(),
			IpAddress: &s.IP,
		}}}}
	}
	if s.ExecutorPID != 0 {
		cs.ExecutorPid = &s.ExecutorPID
	}
	return cs
}

// Labels of the status, nil if it has none.
func (s *Status) Labels() *mesos.Labels { return s.Full.GetLabels() }

// Proto renders the status of t.
func (s *Status) Proto(t *Task) *mesos.TaskStatus {
	if s.Full != nil {
		return s.Full
	}
	p := &mesos.TaskStatus{
		TaskId:          &mesos.TaskID{Value: &t.ID},
		State:           s.State.Enum(),
		AgentId:         &mesos.AgentID{Value: &t.AgentID},
		Timestamp:       &s.Timestamp,
		ContainerStatus: s.ContainerStatus(),
	}
	if s.HasSource {
		p.Source = s.Source.Enum()
	}
	if s.HasReason {
		p.Reason = s.Reason.Enum()
	}
	if s.HasHealth {
		p.Healthy = &s.Healthy
	}
	if s.UUID != "" {
		p.Uuid = []byte(s.UUID)
	}
	if s.Message != "" {
		p.Message = &s.Message
	}
	if s.ExecutorID != "" {
		p.ExecutorId = &mesos.ExecutorID{Value: &s.ExecutorID}
	}
	return p
}

// agentPID is an agent's address in the form of libprocess.
func agentPID(ip string, port int32) string {
	return "slave(1)@" + ip + ":" + strconv.Itoa(int(port))
}
