package core

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
	"google.golang.org/protobuf/proto"

	"clusterd/allocator"
	clusterdv1 "clusterd/api/clusterd/v1"
	mesos "clusterd/api/mesos/v1"
	"clusterd/api/mesos/v1/scheduler"
	"clusterd/api/mesosjson"
)

// TestTranscripts runs the scripts in testdata. Each command's output is the
// effects that it had; -rewrite writes them anew.
func TestTranscripts(t *testing.T) {
	datadriven.Walk(t, "testdata/transcripts", func(t *testing.T, path string) {
		s := &script{}
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			return s.run(t, d)
		})
	})
}

// script is the state of one file.
type script struct{ h *harness }

func (s *script) run(t *testing.T, d *datadriven.TestData) string {
	t.Helper()
	if d.Cmd == "new" {
		s.h = newHarness(t, scriptConfig(d), Recovered{})
		return ""
	}
	s.h.t = t
	h := s.h
	var link uint64
	var stream string
	d.MaybeScanArgs(t, "link", &link)
	d.MaybeScanArgs(t, "stream", &stream)
	switch d.Cmd {
	case "subscribe":
		info := &mesos.FrameworkInfo{}
		mustUnmarshal(t, d, info)
		var suppressed []string
		if d.HasArg("suppressed") {
			var one string
			d.ScanArgs(t, "suppressed", &one)
			suppressed = strings.Split(one, ",")
		}
		h.subscribe(stream, info, suppressed...)
	case "register":
		var host, id, res, checkpointed string
		d.ScanArgs(t, "host", &host)
		d.ScanArgs(t, "resources", &res)
		d.MaybeScanArgs(t, "id", &id)
		d.MaybeScanArgs(t, "checkpointed", &checkpointed)
		m := registerMessage(id, host, res)
		if d.Input != "" {
			extra := &clusterdv1.RegisterAgent{}
			mustUnmarshalPartial(t, d, extra)
			m.Frameworks, m.Tasks, m.Executors = extra.Frameworks, extra.Tasks, extra.Executors
			m.Operations, m.CheckpointedResources = extra.Operations, extra.CheckpointedResources
			if extra.Capabilities != nil {
				m.Capabilities = extra.Capabilities
			}
			if extra.Ip != nil {
				m.Ip = extra.Ip
			}
		}
		h.register(LinkID(link), m)
	case "call":
		call := &scheduler.Call{}
		mustUnmarshal(t, d, call)
		h.call(stream, call)
	case "agent":
		m := &clusterdv1.AgentMessage{}
		mustUnmarshal(t, d, m)
		h.agentSays(LinkID(link), m)
	case "close-stream":
		h.feed(StreamClosed{StreamID: stream})
	case "close-link":
		h.feed(LinkClosed{Link: LinkID(link), Reason: "cut"})
	case "advance":
		var text string
		d.ScanArgs(t, "by", &text)
		by, err := time.ParseDuration(text)
		if err != nil {
			t.Fatal(err)
		}
		h.advance(by)
	case "hold":
		h.hold = true
	case "commit":
		h.hold = false
		h.commit()
	case "fail-commit":
		p := h.waiting[0]
		h.waiting = h.waiting[1:]
		h.feed(Committed{Proposal: p, Err: errors.New("no longer the leader")})
	case "failover":
		s.h = h.failover(testConfig())
		return ""
	case "describe":
		return describe(h.core.View())
	default:
		t.Fatalf("%s: unknown command %q", d.Pos, d.Cmd)
	}
	out := h.take()
	if !d.HasArg("heartbeats") {
		out = withoutHeartbeats(out)
	}
	return out
}

func scriptConfig(d *datadriven.TestData) Config {
	cfg := testConfig()
	for _, a := range d.CmdArgs {
		switch a.Key {
		case "offer-timeout":
			cfg.OfferTimeout, _ = time.ParseDuration(a.Vals[0])
		case "roles":
			cfg.Roles = a.Vals
		case "no-root":
			cfg.RootSubmissions = false
		case "removal-rate":
			cfg.AgentRemovalRateLimit = &RateLimit{N: 1, Per: time.Minute}
		}
	}
	return cfg
}

func withoutHeartbeats(text string) string {
	var out strings.Builder
	for line := range strings.Lines(text) {
		if !strings.Contains(line, `"HEARTBEAT"`) && !strings.Contains(line, `"ping"`) {
			out.WriteString(line)
		}
	}
	return out.String()
}

func mustUnmarshal(t *testing.T, d *datadriven.TestData, m proto.Message) {
	t.Helper()
	if err := mesosjson.Unmarshal([]byte(d.Input), m); err != nil {
		t.Fatalf("%s: %v", d.Pos, err)
	}
}

// mustUnmarshalPartial reads a RegisterAgent that lacks what the script gives by
// arguments.
func mustUnmarshalPartial(t *testing.T, d *datadriven.TestData, m *clusterdv1.RegisterAgent) {
	t.Helper()
	base := `{"link_version":1,"agent_info":{"hostname":"x"},"build_version":"1",`
	if !strings.Contains(d.Input, `"ip"`) {
		base += `"ip":"",`
	}
	noIP := !strings.Contains(d.Input, `"ip"`)
	if err := mesosjson.Unmarshal([]byte(base+strings.TrimPrefix(strings.TrimSpace(d.Input), "{")), m); err != nil {
		t.Fatalf("%s: %v", d.Pos, err)
	}
	if noIP {
		m.Ip = nil
	}
}

// failover starts the mind of the next master from what the registry has heard.
func (h *harness) failover(cfg Config) *harness {
	h.t.Helper()
	cfg.MasterInfo = proto.CloneOf(cfg.MasterInfo)
	cfg.MasterInfo.Id = new("N")
	next := newHarness(h.t, cfg, Recovered{})
	next.log, next.now, next.registry = h.log, h.now, h.registry
	next.core = New(cfg, h.recovered(), allocator.New(allocator.DefaultOptions()), h.now)
	return next
}

// describe prints a view for people.
func describe(v *View) string {
	var b strings.Builder
	for a := range v.Agents.Values() {
		fmt.Fprintf(&b, "agent %s connected=%t active=%t total=[%s] used=[%s] offered=[%s]\n",
			a.ID, a.Connected, a.Active, a.Total, a.Used, a.Offered)
	}
	for id := range v.RecoveredAgents.All() {
		fmt.Fprintf(&b, "agent %s recovered\n", id)
	}
	for id := range v.Unreachable.All() {
		fmt.Fprintf(&b, "agent %s unreachable\n", id)
	}
	for f := range v.Frameworks.Values() {
		describeFramework(&b, "framework", f)
	}
	for _, f := range v.CompletedFrameworks {
		describeFramework(&b, "completed framework", f)
	}
	for op := range v.Operations.Values() {
		fmt.Fprintf(&b, "operation %s of %s on %s: %s\n", op.Info.GetType(), op.FrameworkID, op.AgentID, op.Latest.GetState())
	}
	return b.String()
}

func describeFramework(b *strings.Builder, what string, f *Framework) {
	fmt.Fprintf(b, "%s %s roles=%v suppressed=%v connected=%t active=%t recovered=%t\n",
		what, f.ID, f.Roles, f.Suppressed, f.Connected, f.Active, f.Recovered)
	for t := range f.Tasks.Values() {
		fmt.Fprintf(b, "  task %s on %s: %s\n", t.ID, t.AgentID, t.State)
	}
	for t := range f.UnreachableTasks.Values() {
		fmt.Fprintf(b, "  unreachable task %s on %s: %s\n", t.ID, t.AgentID, t.State)
	}
	for _, t := range f.CompletedTasks {
		fmt.Fprintf(b, "  completed task %s on %s: %s\n", t.ID, t.AgentID, t.State)
	}
	for e := range f.Executors.Values() {
		fmt.Fprintf(b, "  executor %s on %s [%s]\n", e.Info.GetExecutorId().GetValue(), e.AgentID, e.Resources)
	}
	for _, o := range f.Offers {
		fmt.Fprintf(b, "  offer %s of %s to %s [%s]\n", o.ID, o.AgentID, o.Role, o.Resources)
	}
}
