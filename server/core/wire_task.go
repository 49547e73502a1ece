package core

import (
	"math"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"clusterd/allocator/resources"
	mesos "clusterd/api/mesos/v1"
)

// taskReader reads the tasks of one agent.
type taskReader struct {
	*wireReader
	agentID    string
	frameworks []*reportedFramework
}

// task reads a task in its wire form.
func (r *taskReader) task(raw []byte) (reportedTask, error) {
	if t, err := r.plainTask(raw); err == nil {
		return t, nil
	}
	p := new(mesos.Task)
	if err := proto.Unmarshal(raw, p); err != nil {
		return reportedTask{}, err
	}
	if err := proto.CheckInitialized(p); err != nil {
		return reportedTask{}, err
	}
	return reportedFromProto(p), nil
}

// Members of mesos.Task that a plain one may have, and the required ones.
const (
	taskName, taskID, taskFramework, taskExecutor, taskAgent        = 1, 2, 3, 4, 5
	taskState, taskResources, taskStatuses, taskUpdateState         = 6, 7, 8, 9
	taskUpdateUUID, taskLabels, taskUser                            = 10, 11, 14
	requiredOfTask                                           fields = 1<<taskName | 1<<taskID | 1<<taskFramework | 1<<taskAgent | 1<<taskState
)

// fields is a set of field numbers below 64.
type fields uint64

// once adds a field; a plain message has each at most once.
func (s *fields) once(n protowire.Number) error {
	if n >= 64 || *s>>n&1 == 1 {
		return errNotPlain
	}
	*s |= 1 << n
	return nil
}

// plainTask reads a task straight into a record. Any error means that it must be read
// the long way.
func (r *taskReader) plainTask(raw []byte) (reportedTask, error) {
	t := reportedTask{Task: new(Task)}
	var (
		seen       fields
		name       []byte
		begin, end int // the fields of its resources, which follow one another
		statuses   int
		err        error
	)
	sc := scan(raw)
	for err == nil && sc.next() {
		switch sc.num {
		case taskResources:
			if end == 0 {
				begin = sc.start
			} else if end != sc.start {
				return t, errNotPlain
			}
			end = sc.end
			continue
		case taskStatuses:
			statuses++
			continue
		default:
		}
		if err = seen.once(sc.num); err != nil {
			break
		}
		switch {
		case sc.num == taskState && sc.typ == protowire.VarintType:
			t.State, err = taskStateOf(sc.number)
		case sc.num == taskUpdateState && sc.typ == protowire.VarintType:
			t.StatusUpdateState, err = taskStateOf(sc.number)
		case sc.typ != protowire.BytesType:
			err = errNotPlain
		case sc.num == taskName:
			name = sc.value
		case sc.num == taskID:
			t.ID, err = idOf(sc.value, "")
		case sc.num == taskFramework:
			t.FrameworkID, err = r.frameworkID(sc.value)
		case sc.num == taskExecutor:
			t.named = true
			t.ExecutorID, err = idOf(sc.value, "")
		case sc.num == taskAgent:
			t.AgentID, err = idOf(sc.value, r.agentID)
		case sc.num == taskUpdateUUID:
			t.StatusUpdateUUID = string(sc.value)
		case sc.num == taskLabels:
			t.Extra = new(TaskExtra)
			t.Extra.Labels, err = r.labelsOf(sc.value)
		case sc.num == taskUser:
			t.User = string(sc.value)
		default:
			err = errNotPlain
		}
	}
	if err == nil {
		err = sc.err
	}
	if err != nil {
		return t, err
	}
	if seen&requiredOfTask != requiredOfTask {
		return t, errNotPlain
	}
	t.Name = alike(name, t.ID)
	if seen>>taskUpdateState&1 == 0 {
		t.StatusUpdateState = t.State
	}
	if t.Resources, err = r.resourcesOf(raw[begin:end]); err != nil {
		return t, err
	}
	return t, r.plainStatuses(t.Task, raw, statuses)
}

// alike is the text of b, in the memory of s if that is the same.
func alike(b []byte, s string) string {
	if string(b) == s {
		return s
	}
	return string(b)
}

// idOf reads a message that has one member, a string.
func idOf(raw []byte, usual string) (string, error) {
	num, typ, n := protowire.ConsumeTag(raw)
	if n < 0 || num != 1 || typ != protowire.BytesType {
		return "", errNotPlain
	}
	v, size := protowire.ConsumeBytes(raw[n:])
	if size < 0 || n+size != len(raw) {
		return "", errNotPlain
	}
	return alike(v, usual), nil
}

// frameworkID shares the memory of the agent's frameworks.
func (r *taskReader) frameworkID(raw []byte) (string, error) {
	for _, fw := range r.frameworks {
		id := fw.info.GetId().GetValue()
		// One byte of tag, one or two of length.
		if n := len(raw) - len(id); n > 0 && n <= 3 && string(raw[n:]) == id {
			return idOf(raw, id)
		}
	}
	return idOf(raw, "")
}

func taskStateOf(v uint64) (mesos.TaskState, error) {
	s := mesos.TaskState(int32(v)) //nolint:gosec // as protobuf does; what is no state is refused below
	if _, ok := mesos.TaskState_name[int32(s)]; !ok {
		return 0, errNotPlain
	}
	return s, nil
}

// resourcesOf reads the resources of a task, given as its fields of that number.
func (r *taskReader) resourcesOf(own []byte) (resources.Resources, error) {
	if known, ok := r.resources[string(own)]; ok {
		return known, nil
	}
	p := new(mesos.Task)
	if err := (proto.UnmarshalOptions{AllowPartial: true}).Unmarshal(own, p); err != nil {
		return resources.Resources{}, err
	}
	for _, one := range p.Resources {
		if err := proto.CheckInitialized(one); err != nil {
			return resources.Resources{}, err
		}
	}
	v, err := readResources(p.Resources)
	if err == nil {
		remember(r.resources, own, v)
	}
	return v, err
}

// labelsOf reads labels; those of one application are mostly the same.
func (r *taskReader) labelsOf(raw []byte) (*mesos.Labels, error) {
	if known := r.labels[string(raw)]; known != nil {
		return known, nil
	}
	n := 0
	sc := scan(raw)
	for ; sc.next(); n++ {
		if sc.num != 1 || sc.typ != protowire.BytesType {
			return nil, errNotPlain
		}
	}
	if sc.err != nil {
		return nil, sc.err
	}
	// All of them live and die together: one piece of memory for each kind of thing.
	text, labels, texts, list := string(raw), make([]mesos.Label, n), make([]string, 2*n), make([]*mesos.Label, n)
	sc = scan(raw)
	for i := 0; sc.next(); i++ {
		list[i] = &labels[i]
		if err := plainLabel(list[i], texts[2*i:2*i+2], text[sc.end-len(sc.value):sc.end], sc.value); err != nil {
			return nil, err
		}
	}
	out := &mesos.Labels{Labels: list}
	if n == 0 {
		out.Labels = nil
	}
	remember(r.labels, raw, out)
	return out, nil
}

// plainLabel reads a label; its strings are cut out of text, which is the same as raw.
func plainLabel(l *mesos.Label, texts []string, text string, raw []byte) error {
	var seen fields
	sc := scan(raw)
	for sc.next() {
		if err := seen.once(sc.num); err != nil || sc.typ != protowire.BytesType || sc.num > 2 {
			return errNotPlain
		}
		s := &texts[sc.num-1]
		*s = text[sc.end-len(sc.value) : sc.end]
		if sc.num == 1 {
			l.Key = s
		} else {
			l.Value = s
		}
	}
	if sc.err != nil || l.Key == nil {
		return errNotPlain
	}
	return nil
}

// plainStatuses reads the statuses of a task.
func (r *taskReader) plainStatuses(t *Task, raw []byte, n int) error {
	if n == 0 {
		return nil
	}
	t.Statuses = make([]Status, 0, n)
	sc := scan(raw)
	for sc.next() {
		if sc.num != taskStatuses {
			continue
		}
		if sc.typ != protowire.BytesType {
			return errNotPlain
		}
		t.Statuses = append(t.Statuses, Status{})
		s := &t.Statuses[len(t.Statuses)-1]
		last := s // what it says like the one before shares its memory
		if len(t.Statuses) > 1 {
			last = &t.Statuses[len(t.Statuses)-2]
		}
		if err := plainStatus(t, s, last, sc.value); err != nil {
			return err
		}
	}
	return sc.err
}

// Members of mesos.TaskStatus that a plain one may have.
const (
	statusTask, statusState, statusData, statusMessage, statusAgent        = 1, 2, 3, 4, 5
	statusTimestamp, statusExecutor, statusHealthy, statusSource           = 6, 7, 8, 9
	statusReason, statusUUID, statusContainer                              = 10, 11, 13
	requiredOfStatus                                                fields = 1<<statusTask | 1<<statusState
)

func plainStatus(t *Task, s, last *Status, raw []byte) error {
	var seen fields
	var err error
	sc := scan(raw)
	for err == nil && sc.next() {
		if err := seen.once(sc.num); err != nil {
			return err
		}
		want := protowire.BytesType
		switch sc.num {
		case statusState, statusHealthy, statusSource, statusReason:
			want = protowire.VarintType
		case statusTimestamp:
			want = protowire.Fixed64Type
		default:
		}
		if sc.typ != want {
			return errNotPlain
		}
		switch sc.num {
		case statusTask:
			_, err = idOf(sc.value, t.ID)
		case statusAgent:
			_, err = idOf(sc.value, t.AgentID)
		case statusData: // is not kept
		case statusState:
			s.State, err = taskStateOf(sc.number)
		case statusHealthy:
			s.HasHealth, s.Healthy = true, sc.number != 0
		case statusSource:
			s.HasSource, s.Source = true, mesos.TaskStatus_Source(int32(sc.number)) //nolint:gosec // checked below
			if _, ok := mesos.TaskStatus_Source_name[int32(s.Source)]; !ok {
				err = errNotPlain
			}
		case statusReason:
			s.HasReason, s.Reason = true, mesos.TaskStatus_Reason(int32(sc.number)) //nolint:gosec // checked below
			if _, ok := mesos.TaskStatus_Reason_name[int32(s.Reason)]; !ok {
				err = errNotPlain
			}
		case statusTimestamp:
			s.Timestamp = math.Float64frombits(sc.number)
		case statusMessage:
			s.Message = alike(sc.value, last.Message)
		case statusUUID:
			s.UUID = alike(sc.value, t.StatusUpdateUUID)
		case statusExecutor:
			s.ExecutorID, err = idOf(sc.value, t.ID)
		case statusContainer:
			err = plainContainerStatus(s, last, sc.value)
		default:
			err = errNotPlain
		}
	}
	if err == nil {
		err = sc.err
	}
	if err == nil && seen&requiredOfStatus != requiredOfStatus {
		err = errNotPlain
	}
	return err
}

// plainContainerStatus reads what compactNetwork and plainContainer take for plain.
func plainContainerStatus(s, last *Status, raw []byte) error {
	var seen fields
	var err error
	sc := scan(raw)
	for err == nil && sc.next() {
		if err = seen.once(sc.num); err != nil {
			break
		}
		switch {
		case sc.num == 4 && sc.typ == protowire.BytesType: // container_id
			err = plainContainerID(s, last, sc.value)
		case sc.num == 1 && sc.typ == protowire.BytesType: // network_infos, one of them
			err = plainNetwork(s, last, sc.value)
		case sc.num == 3 && sc.typ == protowire.VarintType && sc.number != 0 && sc.number <= math.MaxUint32: // executor_pid
			s.ExecutorPID = uint32(sc.number)
		default:
			err = errNotPlain
		}
	}
	if err == nil {
		err = sc.err
	}
	if err == nil && s.ContainerID == "" {
		err = errNotPlain
	}
	return err
}

func plainContainerID(s, last *Status, raw []byte) error {
	var seen fields
	sc := scan(raw)
	for sc.next() {
		if err := seen.once(sc.num); err != nil || sc.typ != protowire.BytesType {
			return errNotPlain
		}
		switch sc.num {
		case 1:
			s.ContainerID = alike(sc.value, last.ContainerID)
		case 2:
			id, err := idOf(sc.value, last.ParentContainerID)
			if err != nil || id == "" {
				return errNotPlain
			}
			s.ParentContainerID = id
		default:
			return errNotPlain
		}
	}
	return sc.err
}

// plainNetwork reads a NetworkInfo that has one address and nothing else.
func plainNetwork(s, last *Status, raw []byte) error {
	sc := scan(raw)
	if !sc.next() || sc.num != 5 || sc.typ != protowire.BytesType || sc.end != len(raw) {
		return errNotPlain
	}
	var seen fields
	for sc = scan(sc.value); sc.next(); {
		if err := seen.once(sc.num); err != nil {
			return err
		}
		switch {
		case sc.num == 1 && sc.typ == protowire.VarintType && sc.number == uint64(mesos.NetworkInfo_IPv4):
		case sc.num == 2 && sc.typ == protowire.BytesType && len(sc.value) > 0:
			s.HasNetwork, s.IP = true, alike(sc.value, last.IP)
		default:
			return errNotPlain
		}
	}
	if sc.err != nil || seen != 1<<1|1<<2 {
		return errNotPlain
	}
	return nil
}
