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
	fieldRegister     = 1
	fieldInfo         = 2
	fieldCapabilities = 4
	fieldFrameworks   = 7
	fieldTasks        = 9
	// Of AgentInfo.
	fieldAgentID = 6
)

var errNotPlain = errors.New("not of the plain kind")

// DecodeAgentMessage decodes what came over an agent's link. The info, capabilities,
// frameworks and tasks of a RegisterAgent stay in their wire form, among its unknown
// fields, for the core to read.
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
	lazySize, infos := 0, 0
	rest := make([]byte, 0, min(len(body), 1024))
	sc := scan(body)
	for sc.next() {
		if sc.lazy() {
			lazySize += sc.end - sc.start
			if sc.num == fieldInfo {
				infos++
			}
		} else {
			rest = append(rest, sc.record()...)
		}
	}
	if sc.err != nil || infos != 1 {
		return nil
	}
	reg := &clusterdv1.RegisterAgent{AgentInfo: anyInfo}
	partial := proto.UnmarshalOptions{AllowPartial: true, Merge: true}
	if partial.Unmarshal(rest, reg) != nil || proto.CheckInitialized(reg) != nil {
		return nil
	}
	reg.AgentInfo = nil // it is among the unknown fields
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

// anyInfo stands for one that is not read yet, where one is required.
var anyInfo = &mesos.AgentInfo{Hostname: new("")}

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
	if s.typ != protowire.BytesType {
		return false
	}
	switch s.num {
	case fieldInfo, fieldCapabilities, fieldFrameworks, fieldTasks:
		return true
	default:
		return false
	}
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
	frameworks   map[string]*reportedFramework
	resources    map[string]resources.Resources
	labels       map[string]*mesos.Labels
	capabilities map[string][]mesos.AgentInfo_Capability_Type
	scratch      [2][]byte
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
	w.capabilities = map[string][]mesos.AgentInfo_Capability_Type{}
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

// read fills in what a registration is about, from whichever form its message has it in.
// known gives the info of an agent that the master knows already, or nil.
func (w *wireReader) read(reg *registration, known func(id string) *mesos.AgentInfo) error {
	for _, c := range reg.msg.Capabilities {
		reg.capabilities = append(reg.capabilities, c.GetType())
	}
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
	capabilities := w.scratch[0][:0]
	sc := scan(unknown)
	for sc.next() {
		switch {
		case !sc.lazy():
		case sc.num == fieldTasks:
			n++
		case sc.num == fieldCapabilities:
			capabilities = append(capabilities, sc.record()...)
		case sc.num == fieldInfo:
			info, err := w.agentInfo(sc.value, known)
			if err != nil {
				return fmt.Errorf("agent info cannot be read: %w", err)
			}
			reg.msg.AgentInfo = info
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
	w.scratch[0] = capabilities
	if err := w.readCapabilities(reg, capabilities); err != nil {
		return fmt.Errorf("capabilities cannot be read: %w", err)
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

// agentInfo reads what an agent says of itself; if that is what the master knows, they
// share it.
func (w *wireReader) agentInfo(raw []byte, known func(id string) *mesos.AgentInfo) (*mesos.AgentInfo, error) {
	for sc := scan(raw); sc.next(); {
		if sc.num != fieldAgentID || sc.typ != protowire.BytesType {
			continue
		}
		id, err := idOf(sc.value, "")
		if err != nil {
			break
		}
		have := known(id)
		if have == nil {
			break
		}
		w.scratch[1], err = proto.MarshalOptions{AllowPartial: true}.MarshalAppend(w.scratch[1][:0], have)
		if err == nil && string(w.scratch[1]) == string(raw) {
			return have, nil
		}
		break
	}
	info := new(mesos.AgentInfo)
	return info, proto.Unmarshal(raw, info)
}

func (w *wireReader) readCapabilities(reg *registration, raw []byte) error {
	if known, ok := w.capabilities[string(raw)]; ok && reg.capabilities == nil {
		reg.capabilities = known
		return nil
	}
	m := new(clusterdv1.RegisterAgent)
	if err := (proto.UnmarshalOptions{AllowPartial: true}).Unmarshal(raw, m); err != nil {
		return err
	}
	fresh := reg.capabilities == nil
	for _, c := range m.Capabilities {
		reg.capabilities = append(reg.capabilities, c.GetType())
	}
	if fresh {
		remember(w.capabilities, raw, reg.capabilities)
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
	if a == b {
		return true
	}
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
