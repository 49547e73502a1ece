package core

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"clusterd/allocator"
	"clusterd/allocator/resources"
	clusterdv1 "clusterd/api/clusterd/v1"
	mesos "clusterd/api/mesos/v1"
	"clusterd/api/mesos/v1/master"
	"clusterd/api/mesos/v1/scheduler"
	"clusterd/api/mesosjson"
	"clusterd/registry/state"
)

// epoch is when the tests' virtual time begins.
var epoch = time.Unix(1_700_000_000, 0)

// harness runs a Core with the real allocator on virtual time. Its registry
// commits at once unless told to hold back, and remembers what a later master
// would recover.
type harness struct {
	t       failer
	record  func(Input) // sees every input first
	core    *Core
	now     time.Time
	request RequestID
	// hold keeps proposals back; commit releases them.
	hold    bool
	waiting []uint64
	// trace has the effects since the last call of take.
	trace []Effect
	// streams collect the events of each stream, links the messages to each agent.
	streams map[string][]*scheduler.Event
	links   map[LinkID][]*clusterdv1.MasterMessage
	closed  map[string]bool // streams
	cut     map[LinkID]bool
	answers map[RequestID]Respond
	log     []*clusterdv1.Command
	// mirrors hear the events of the core that they are mirrors of, announced has them.
	// One begins with the core's first view, the others with later ones.
	mirrors   [3]*Mirror
	mirrored  *Core
	announced []*Event
	// registry is the real one; it must not refuse anything.
	registry *state.State
}

func testConfig() Config {
	return Config{
		MasterInfo: &mesos.MasterInfo{
			Id:   new("M"),
			Ip:   proto.Uint32(16777343),
			Port: proto.Uint32(5050),
		},
		Seed:                   1,
		AllocationInterval:     time.Second,
		AgentPingTimeout:       15 * time.Second,
		MaxAgentPingTimeouts:   5,
		AgentReregisterTimeout: 10 * time.Minute,
		RootSubmissions:        true,
		MaxCompletedFrameworks: 50,
		MaxCompletedTasks:      1000,
		MaxUnreachableTasks:    1000,
		HeartbeatInterval:      15 * time.Second,
		RegistryGCInterval:     15 * time.Minute,
		RegistryMaxAgentAge:    14 * 24 * time.Hour,
		RegistryMaxAgentCount:  102400,

		AllocatorAgentRecoveryFactor: 0.8,
		AllocatorRecoveryTimeout:     10 * time.Minute,
	}
}

// failer is what the harness needs of *testing.T and *rapid.T.
type failer interface {
	Helper()
	Fatalf(format string, args ...any)
}

func newHarness(t failer, cfg Config, rec Recovered) *harness {
	t.Helper()
	h := &harness{
		t:       t,
		now:     epoch,
		streams: map[string][]*scheduler.Event{},
		links:   map[LinkID][]*clusterdv1.MasterMessage{},
		closed:  map[string]bool{},
		cut:     map[LinkID]bool{},
		answers: map[RequestID]Respond{},
	}
	h.seed(rec)
	h.core = New(cfg, rec, allocator.New(allocator.DefaultOptions()), h.now)
	return h
}

// feed hands the core an input and performs what follows.
func (h *harness) feed(in Input) {
	h.t.Helper()
	if h.record != nil {
		h.record(in)
	}
	if h.mirrored != h.core {
		for i := range h.mirrors {
			h.mirrors[i] = NewMirror(h.core.View())
		}
		h.mirrored, h.announced = h.core, nil
	}
	h.perform(h.core.Handle(h.now, in))
	if _, tick := in.(Tick); h.core.allocation == allocationDue && !tick {
		h.feed(Tick{}) // as the shell does when nothing else waits
	}
}

func (h *harness) perform(effects []Effect) {
	h.t.Helper()
	h.trace = append(h.trace, effects...)
	for _, e := range effects {
		switch e := e.(type) {
		case Respond:
			h.answers[e.Request] = e
		case SendEvent:
			if _, err := proto.Marshal(e.Event); err != nil {
				h.t.Fatalf("event %v lacks a required member: %v", e.Event, err)
			}
			h.streams[e.StreamID] = append(h.streams[e.StreamID], e.Event)
		case CloseStream:
			h.closed[e.StreamID] = true
		case SendAgent:
			if _, err := proto.Marshal(e.Message); err != nil {
				h.t.Fatalf("message %v lacks a required member: %v", e.Message, err)
			}
			h.links[e.Link] = append(h.links[e.Link], e.Message)
		case CloseLink:
			h.cut[e.Link] = true
		case Announce:
			h.announced = append(h.announced, e.Event)
			for _, m := range h.mirrors {
				if err := m.Hear(e.Event); err != nil {
					h.t.Fatalf("%v", err)
				}
			}
		case Propose:
			h.log = append(h.log, e.Commands...)
			h.apply(e.Commands...)
			h.waiting = append(h.waiting, e.Proposal)
		}
	}
	if !h.hold {
		h.commit()
	}
}

// commit lets all waiting proposals succeed.
func (h *harness) commit() {
	h.t.Helper()
	for len(h.waiting) > 0 {
		p := h.waiting[0]
		h.waiting = h.waiting[1:]
		h.feed(Committed{Proposal: p})
	}
}

// advance lets time pass, waking the core whenever it wants to be.
func (h *harness) advance(d time.Duration) {
	h.t.Helper()
	until := h.now.Add(d)
	for range 100_000 {
		wake, ok := h.core.NextWake()
		if !ok || wake.After(until) {
			h.now = until
			return
		}
		if wake.After(h.now) {
			h.now = wake
		}
		h.feed(Tick{})
	}
	h.t.Fatalf("the core wants to be woken without end, next at %v", h.now)
}

// call sends a call of the framework on its stream and returns the answer.
func (h *harness) call(stream string, call *scheduler.Call) Respond {
	h.t.Helper()
	h.request++
	h.feed(Call{Request: h.request, StreamID: stream, Call: call})
	a, ok := h.answers[h.request]
	if !ok {
		h.t.Fatalf("call %s was not answered", call.GetType())
	}
	return a
}

// operate sends an operator's call, given as JSON, and returns the answer; the zero
// value if there is none yet.
func (h *harness) operate(text string) Respond {
	h.t.Helper()
	call := new(master.Call)
	if err := mesosjson.Unmarshal([]byte(text), call); err != nil {
		h.t.Fatalf("call %s: %v", text, err)
	}
	h.request++
	h.feed(Operate{Request: h.request, Call: call})
	return h.answers[h.request]
}

// subscribe opens a stream for a framework and returns its id, empty if refused.
func (h *harness) subscribe(stream string, info *mesos.FrameworkInfo, suppressed ...string) string {
	h.t.Helper()
	h.request++
	h.feed(Subscribe{Request: h.request, StreamID: stream, Call: &scheduler.Call{
		Type:        scheduler.Call_SUBSCRIBE.Enum(),
		FrameworkId: info.Id,
		Subscribe:   &scheduler.Call_Subscribe{FrameworkInfo: proto.CloneOf(info), SuppressedRoles: suppressed},
	}})
	for _, e := range h.streams[stream] {
		if e.GetType() == scheduler.Event_SUBSCRIBED {
			return e.Subscribed.GetFrameworkId().GetValue()
		}
	}
	return ""
}

// allCapabilities are what a current agent has.
func allCapabilities() []*mesos.AgentInfo_Capability {
	var all []*mesos.AgentInfo_Capability
	for t := mesos.AgentInfo_Capability_MULTI_ROLE; t <= mesos.AgentInfo_Capability_TASK_RESOURCE_LIMITS; t++ {
		all = append(all, &mesos.AgentInfo_Capability{Type: t.Enum()})
	}
	return all
}

// registerMessage makes the message of an agent; id is empty for a new one.
func registerMessage(id, host, text string) *clusterdv1.RegisterAgent {
	r, err := resources.Parse(text, "*")
	if err != nil {
		panic(err)
	}
	info := &mesos.AgentInfo{
		Hostname:  new(host),
		Port:      proto.Int32(5051),
		Resources: r.Proto(),
	}
	if id != "" {
		info.Id = &mesos.AgentID{Value: new(id)}
	}
	return &clusterdv1.RegisterAgent{
		LinkVersion:  proto.Uint32(1),
		AgentInfo:    info,
		BuildVersion: new("1.0.0"),
		Capabilities: allCapabilities(),
		Ip:           new("10.0.0." + strings.TrimLeft(host, "abcdefghijklmnopqrstuvwxyz")),
	}
}

func (h *harness) agentSays(l LinkID, m *clusterdv1.AgentMessage) {
	h.t.Helper()
	h.feed(AgentMessage{Link: l, Message: m})
}

// register lets an agent register and returns its id, empty if refused.
func (h *harness) register(l LinkID, m *clusterdv1.RegisterAgent) string {
	h.t.Helper()
	h.agentSays(l, &clusterdv1.AgentMessage{Message: &clusterdv1.AgentMessage_Register{Register: m}})
	for _, m := range h.links[l] {
		if r := m.GetRegistered(); r != nil {
			return r.GetAgentId().GetValue()
		}
	}
	return ""
}

// offers returns all offers that came on stream s.
func (h *harness) offers() []*mesos.Offer {
	var offers []*mesos.Offer
	for _, e := range h.streams["s"] {
		offers = append(offers, e.GetOffers().GetOffers()...)
	}
	return offers
}

// take returns the effects since the last call, one a line, without logs and
// counters.
func (h *harness) take() string {
	var b strings.Builder
	for _, e := range h.trace {
		if line := describeEffect(e); line != "" {
			b.WriteString(line)
			b.WriteByte('\n')
		}
	}
	h.trace = nil
	return b.String()
}

func describeEffect(e Effect) string {
	switch e := e.(type) {
	case Respond:
		return strings.TrimSpace(fmt.Sprintf("respond %d %s", e.Status, e.Body))
	case OpenStream:
		return "open stream " + e.StreamID
	case SendEvent:
		return "event " + e.StreamID + " " + jsonText(e.Event)
	case CloseStream:
		return "close stream " + e.StreamID
	case SendAgent:
		return fmt.Sprintf("agent %d %s", e.Link, agentText(e.Message))
	case CloseLink:
		return fmt.Sprintf("close link %d: %s", e.Link, e.Reason)
	case Propose:
		var kinds []string
		for _, c := range e.Commands {
			kinds = append(kinds, c.GetKind().String())
		}
		return "propose " + strings.Join(kinds, " ")
	case Stop:
		return "stop " + e.Reason
	default:
		return ""
	}
}

func jsonText(m proto.Message) string {
	b, err := mesosjson.Marshal(m)
	if err != nil {
		return "unprintable: " + err.Error()
	}
	return string(b)
}

// agentText prints the member that is set.
func agentText(m *clusterdv1.MasterMessage) string {
	return jsonText(m)
}

// TestMain keeps rapid from leaving files in testdata: a failure prints its seed,
// which is enough to see it again.
func TestMain(m *testing.M) {
	if err := flag.Set("rapid.nofailfile", "true"); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}
