package core

import (
	"errors"
	"fmt"
	"slices"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"clusterd/allocator/resources"
	clusterdv1 "clusterd/api/clusterd/v1"
	mesos "clusterd/api/mesos/v1"
)

// After a failover twenty thousand agents send all that they have at once. Decoded as a
// protobuf message a task of five labels takes some two hundred allocations, nearly all
// of which the core throws away when it makes its own record of it; that was two thirds
// of the work of a failover. So frameworks and tasks stay in their wire form until the
// core looks at them, and it reads the usual ones straight into its records.
//
// Whatever is not usual (members that few tasks have, repeated or unknown ones, states
// that this build does not know) is decoded like any message: the short way only has to
// be right about what it takes. wire_test.go compares the two.

// Members of AgentMessage, RegisterAgent, Task and TaskStatus in link.proto and
// mesos.proto.
const (
	fieldRegister   = 1
	fieldFrameworks = 7
	fieldTasks      = 9
)

var errNotPlain = errors.New("not of the plain kind")

// DecodeAgentMessage decodes what came over an agent's link. Frameworks and tasks of a
// RegisterAgent stay in their wire form, among its unknown fields, for the core to read.
func DecodeAgentMessage(raw []byte) (*clusterdv1.AgentMessage, error) {
	if m := decodeRegister(raw); m != nil {
		return m, nil
	}
	m := new(clusterdv1.AgentMessage)
	if err := proto.Unmarshal(raw, m); err != nil {
		return nil, err
	}
	// Unmarshal overlooks some required members that are missing below a oneof
	// (protobuf-go v1.36).
	if err := proto.CheckInitialized(m); err != nil {
		return nil, err
	}
	return m, nil
}

// decodeRegister is nil for what is not a RegisterAgent, or not a sound one.
func decodeRegister(raw []byte) *clusterdv1.AgentMessage {
	num, typ, n := protowire.ConsumeTag(raw)
	if n < 0 || num != fieldRegister || typ != protowire.BytesType {
		return nil
	}
	body, size := protowire.ConsumeBytes(raw[n:])
	if size < 0 || n+size != len(raw) {
		return nil
	}
	lazySize := 0
	rest := make([]byte, 0, min(len(body), 1024))
	sc := scan(body)
	for sc.next() {
		if sc.lazy() {
			lazySize += sc.end - sc.start
		} else {
			rest = append(rest, sc.record()...)
		}
	}
	reg := new(clusterdv1.RegisterAgent)
	if sc.err != nil || proto.Unmarshal(rest, reg) != nil || proto.CheckInitialized(reg) != nil {
		return nil
	}
	unknown := reg.ProtoReflect().GetUnknown()
	lazy := append(make([]byte, 0, lazySize+len(unknown)), unknown...)
	for sc = scan(body); sc.next(); {
		if sc.lazy() {
			lazy = append(lazy, sc.record()...)
		}
	}
	reg.ProtoReflect().SetUnknown(lazy)
	return &clusterdv1.AgentMessage{Message: &clusterdv1.AgentMessage_Register{Register: reg}}
}

// scanner walks over the fields of a message in its wire form. There is one for each
// message within a message, and there are many: it allocates nothing.
type scanner struct {
	raw []byte
	err error

	// Of the field that next has come to.
	num        protowire.Number
	typ        protowire.Type
	start, end int    // in raw, with its tag
	value      []byte // of a BytesType
	number     uint64 // of a VarintType or Fixed64Type
}

func scan(raw []byte) scanner { return scanner{raw: raw} }

// next goes to the next field; it is false at the end, and when err is set.
func (s *scanner) next() bool {
	if s.end >= len(s.raw) || s.err != nil {
		return false
	}
	s.start = s.end
	var n, size int
	s.num, s.typ, n = protowire.ConsumeTag(s.raw[s.start:])
	if n < 0 {
		s.err = protowire.ParseError(n)
		return false
	}
	rest := s.raw[s.start+n:]
	switch s.typ {
	case protowire.BytesType:
		s.value, size = protowire.ConsumeBytes(rest)
	case protowire.VarintType:
		s.number, size = protowire.ConsumeVarint(rest)
	case protowire.Fixed64Type:
		s.number, size = protowire.ConsumeFixed64(rest)
	default:
		size = protowire.ConsumeFieldValue(s.num, s.typ, rest)
	}
	if size < 0 {
		s.err = protowire.ParseError(size)
		return false
	}
	s.end = s.start + n + size
	return true
}

// record is the field, tag and all.
func (s *scanner) record() []byte { return s.raw[s.start:s.end] }

func (s *scanner) lazy() bool {
	return s.typ == protowire.BytesType && (s.num == fieldFrameworks || s.num == fieldTasks)
}

// reportedFramework is a framework as an agent reports it. Agents that run the same
// frameworks share them, as long as they say the same.
type reportedFramework struct {
	info *mesos.FrameworkInfo
	// valid: info has been checked. same: it is equal to this one.
	valid bool
	same  *mesos.FrameworkInfo
}

// reportedTask is a task as an agent reports it: its framework and agent are what the
// agent says, its resources may lack their role.
type reportedTask struct {
	*Task
	named bool // it has an executor_id
	err   error
}

// wireReader reads what agents report. It keeps what many of them say alike.
type wireReader struct {
	frameworks map[string]*reportedFramework
	resources  map[string]resources.Resources
	labels     map[string]*mesos.Labels
	scratch    [2][]byte
}

// Bounds of what a wireReader keeps: entries, and bytes of the key of one.
const (
	maxAlike    = 4096
	maxAlikeKey = 4096
)

func (w *wireReader) init() {
	w.frameworks = map[string]*reportedFramework{}
	w.resources = map[string]resources.Resources{}
	w.labels = map[string]*mesos.Labels{}
}

// remember keeps a value for others that say the same. When there are too many the
// newest count: what was said before may not be said again.
func remember[V any](m map[string]V, key []byte, v V) {
	if len(key) > maxAlikeKey {
		return
	}
	if len(m) >= maxAlike {
		clear(m)
	}
	m[string(key)] = v
}

// read fills in the frameworks and tasks of a registration, from whichever form its
// message has them in.
func (w *wireReader) read(reg *registration) error {
	for _, info := range reg.msg.Frameworks {
		reg.frameworks = append(reg.frameworks, &reportedFramework{info: info})
	}
	for _, t := range reg.msg.Tasks {
		reg.tasks = append(reg.tasks, reportedFromProto(t))
	}
	unknown := reg.msg.ProtoReflect().GetUnknown()
	if len(unknown) == 0 {
		return nil
	}
	n := 0
	sc := scan(unknown)
	for sc.next() {
		switch {
		case !sc.lazy():
		case sc.num == fieldTasks:
			n++
		default:
			fw, err := w.framework(sc.value)
			if err != nil {
				return fmt.Errorf("framework cannot be read: %w", err)
			}
			reg.frameworks = append(reg.frameworks, fw)
		}
	}
	if sc.err != nil {
		return sc.err
	}
	tr := taskReader{wireReader: w, agentID: reg.id(), frameworks: reg.frameworks}
	reg.tasks = slices.Grow(reg.tasks, n)
	for sc = scan(unknown); sc.next(); {
		if !sc.lazy() || sc.num != fieldTasks {
			continue
		}
		t, err := tr.task(sc.value)
		if err != nil {
			return fmt.Errorf("task cannot be read: %w", err)
		}
		reg.tasks = append(reg.tasks, t)
	}
	return nil
}

func (w *wireReader) framework(raw []byte) (*reportedFramework, error) {
	if fw := w.frameworks[string(raw)]; fw != nil {
		return fw, nil
	}
	fw := &reportedFramework{info: new(mesos.FrameworkInfo)}
	if err := proto.Unmarshal(raw, fw.info); err != nil {
		return nil, err
	}
	remember(w.frameworks, raw, fw)
	return fw, nil
}

// validate checks the framework, once for all that report it.
func (fw *reportedFramework) validate() error {
	if fw.valid {
		return nil
	}
	err := validateFrameworkInfo(fw.info)
	fw.valid = err == nil
	return err
}

// equal reports whether a framework is as an agent knows it.
func (fw *reportedFramework) equal(info *mesos.FrameworkInfo) bool {
	if fw.same != info && proto.Equal(fw.info, info) {
		fw.same = info // a FrameworkInfo never changes, it is replaced
	}
	return fw.same == info
}

// sameInfo reports whether two agent infos are equal. Encoding both is much cheaper than
// comparing them member by member; only if the encodings differ is it worth a look.
func (w *wireReader) sameInfo(a, b *mesos.AgentInfo) bool {
	opts := proto.MarshalOptions{AllowPartial: true}
	var err [2]error
	w.scratch[0], err[0] = opts.MarshalAppend(w.scratch[0][:0], a)
	w.scratch[1], err[1] = opts.MarshalAppend(w.scratch[1][:0], b)
	if err[0] == nil && err[1] == nil && string(w.scratch[0]) == string(w.scratch[1]) {
		return true
	}
	return proto.Equal(a, b)
}

// reportedFromProto reads a task that has been decoded.
func reportedFromProto(p *mesos.Task) reportedTask {
	r, err := readResources(p.Resources)
	return reportedTask{
		Task:  taskFromProto(p, p.GetFrameworkId().GetValue(), p.GetAgentId().GetValue(), r),
		named: p.ExecutorId != nil,
		err:   err,
	}
}
