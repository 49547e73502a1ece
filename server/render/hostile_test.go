package render

import (
	"encoding/json"
	"math"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/proto"

	"clusterd/allocator/resources"
	mesos "clusterd/api/mesos/v1"
	"clusterd/api/mesos/v1/maintenance"
	"clusterd/api/mesos/v1/master"
	"clusterd/api/mesos/v1/quota"
	"clusterd/server/core"
)

// hostileView has one string and one number in every place that comes from outside.
func hostileView(s string, n float64) (*core.View, *Master) {
	labels := &mesos.Labels{Labels: []*mesos.Label{{Key: &s, Value: &s}, {Key: &s}}}
	status := core.Status{State: mesos.TaskState_TASK_RUNNING, Timestamp: n, Message: s, UUID: s, ContainerID: s, ParentContainerID: s, ExecutorID: s, HasNetwork: true, IP: s}
	full := status
	full.Full = &mesos.TaskStatus{
		TaskId: &mesos.TaskID{Value: &s}, State: mesos.TaskState_TASK_RUNNING.Enum(), Message: &s, Timestamp: &n, Labels: labels, Data: []byte(s),
		ContainerStatus: &mesos.ContainerStatus{ContainerId: &mesos.ContainerID{Value: &s}, NetworkInfos: []*mesos.NetworkInfo{{
			Groups: []string{s}, Labels: labels, Name: &s, IpAddresses: []*mesos.NetworkInfo_IPAddress{{IpAddress: &s}},
			PortMappings: []*mesos.NetworkInfo_PortMapping{{HostPort: proto.Uint32(1), ContainerPort: proto.Uint32(2), Protocol: &s}},
		}}},
	}
	task := &core.Task{
		ID: s, Name: s, FrameworkID: s, AgentID: s, ExecutorID: s, User: s, State: mesos.TaskState_TASK_RUNNING, StatusUpdateUUID: s,
		Resources: resources.MustParse("cpus:1;ports:[1-2];zones:{a,b}").Allocate("r"), Statuses: []core.Status{status, full},
		Extra: &core.TaskExtra{
			Labels: labels, Discovery: &mesos.DiscoveryInfo{Visibility: mesos.DiscoveryInfo_CLUSTER.Enum(), Name: &s, Environment: &s, Labels: labels},
			Container:   &mesos.ContainerInfo{Type: mesos.ContainerInfo_MESOS.Enum(), Hostname: &s},
			HealthCheck: &mesos.HealthCheck{Type: mesos.HealthCheck_COMMAND.Enum(), DelaySeconds: &n, Command: &mesos.CommandInfo{Value: &s}},
			Limits:      map[string]*mesos.Value_Scalar{s: {Value: &n}},
		},
	}
	executor := &core.Executor{FrameworkID: s, AgentID: s, Info: &mesos.ExecutorInfo{
		ExecutorId: &mesos.ExecutorID{Value: &s}, Name: &s, Source: &s, Data: []byte(s), Labels: labels,
		Command: &mesos.CommandInfo{
			Value: &s, Arguments: []string{s, ""}, User: &s, Uris: []*mesos.CommandInfo_URI{{Value: &s, OutputFile: &s}},
			Environment: &mesos.Environment{Variables: []*mesos.Environment_Variable{{Name: &s, Value: &s}}},
		},
	}}
	framework := &core.Framework{
		ID: s, Roles: []string{s}, Tasks: core.MapOf(map[string]*core.Task{s: task}), CompletedTasks: []*core.Task{task},
		UnreachableTasks: core.MapOf(map[string]*core.Task{s: task}), Executors: core.MapOf(map[string]*core.Executor{s: executor}),
		Info: &mesos.FrameworkInfo{
			Id: &mesos.FrameworkID{Value: &s}, Name: &s, User: &s, Principal: &s, Hostname: &s, WebuiUrl: &s, Role: &s, Labels: labels,
			FailoverTimeout: &n,
		},
		Offers: []*core.Offer{{ID: s, FrameworkID: s, AgentID: s, Role: s, Resources: resources.MustParse("cpus:1")}},
	}
	agent := &core.Agent{
		ID: s, IP: s, Version: s, Total: resources.MustParse("cpus:1"), RegisteredAt: time.Unix(1, 0), DrainStart: time.Unix(2, 0),
		Info: &mesos.AgentInfo{
			Id: &mesos.AgentID{Value: &s}, Hostname: &s,
			Attributes: []*mesos.Attribute{
				{Name: &s, Type: mesos.Value_TEXT.Enum(), Text: &mesos.Value_Text{Value: &s}},
				{Name: &s, Type: mesos.Value_SCALAR.Enum(), Scalar: &mesos.Value_Scalar{Value: &n}},
				{Name: &s, Type: mesos.Value_SET.Enum(), Set: &mesos.Value_Set{Item: []string{s, s}}},
				{Name: &s, Type: mesos.Value_RANGES.Enum(), Ranges: &mesos.Value_Ranges{Range: []*mesos.Value_Range{{Begin: proto.Uint64(0), End: proto.Uint64(math.MaxUint64)}}}},
			},
			Domain: &mesos.DomainInfo{FaultDomain: &mesos.DomainInfo_FaultDomain{
				Region: &mesos.DomainInfo_FaultDomain_RegionInfo{Name: &s}, Zone: &mesos.DomainInfo_FaultDomain_ZoneInfo{Name: &s},
			}},
		},
		DrainInfo: &mesos.DrainInfo{State: mesos.DrainState_DRAINING.Enum(), Config: &mesos.DrainConfig{MaxGracePeriod: &mesos.DurationInfo{Nanoseconds: proto.Int64(math.MinInt64)}}},
	}
	v := &core.View{
		Agents: core.MapOf(map[string]*core.Agent{s: agent}), RecoveredAgents: core.MapOf(map[string]*mesos.AgentInfo{s: agent.Info}),
		Frameworks: core.MapOf(map[string]*core.Framework{s: framework}), CompletedFrameworks: []*core.Framework{framework},
		Schedule: new(maintenance.Schedule),
		Weights:  core.MapOf(map[string]float64{s: n}),
		Quotas: core.MapOf(map[string]*quota.QuotaConfig{s: {
			Role: &s, Guarantees: map[string]*mesos.Value_Scalar{s: {Value: &n}}, Limits: map[string]*mesos.Value_Scalar{s: {Value: &n}},
		}}),
	}
	info := &mesos.MasterInfo{Id: &s, Ip: proto.Uint32(1), Port: proto.Uint32(5050), Hostname: &s}
	return v, &Master{Version: &mesos.VersionInfo{Version: &s}, Info: info, Leader: info, Cluster: s, LogDir: s}
}

func checkHostile(t *testing.T, s string, n float64) {
	t.Helper()
	v, m := hostileView(s, n)
	for name, body := range everyBody(t, v, m, nil) { // which checks that they can be read
		if strings.HasSuffix(name, "protobuf") {
			continue
		}
		if !json.Valid(body) || !utf8.Valid(body) {
			t.Errorf("%.100q, %v: %s is not JSON: %.300q", s, n, name, body)
		}
	}
	// As many tasks as there are, whatever is in them.
	body, _, err := Operator(Protobuf, v, m, master.Call_GET_TASKS, nil)
	if err != nil {
		t.Fatal(err)
	}
	r := new(master.Response)
	if err := proto.Unmarshal(body.Bytes(), r); err != nil {
		t.Fatal(err)
	}
	if got := r.GetGetTasks(); len(got.GetTasks()) != 2 || len(got.GetCompletedTasks()) != 2 || got.Tasks[0].GetName() != s {
		t.Errorf("%.100q: got %.1000v", s, got)
	}
}

func TestHostileContent(t *testing.T) {
	for _, s := range []string{
		"", "\x00", "\xff\xfe", "a\xc3", "\"\\\n\r\t\b\f\x7f", "</script><!--", "\u2028\u2029", "\xed\xa0\x80", strings.Repeat("long ", 2*pieceRoom/5), "}],\"x\":[{",
	} {
		checkHostile(t, s, 1.5)
	}
	for _, n := range []float64{math.NaN(), math.Inf(1), math.Inf(-1), math.MaxFloat64, -math.MaxFloat64, math.SmallestNonzeroFloat64, math.Copysign(0, -1), 1e300, -1} {
		checkHostile(t, "s", n)
	}
}

// What is larger than a piece of memory stays whole.
func TestHugeContent(t *testing.T) {
	s := strings.Repeat("x", pieceSize+5)
	v, m := hostileView(s, 1)
	for range 3 { // the memory of the one before is used again
		body := State(v, m, nil)
		if b := body.Bytes(); !json.Valid(b) || strings.Count(string(b), s) < 20 {
			t.Fatalf("%d bytes", len(b))
		}
		body.Release()
		for _, f := range []Format{JSON, Protobuf} {
			body, _, err := Operator(f, v, m, master.Call_GET_TASKS, nil)
			if err != nil {
				t.Fatal(err)
			}
			r := new(master.Response)
			if err := unmarshal(f, body.Bytes(), r); err != nil {
				t.Fatal(err)
			}
			if got := r.GetGetTasks(); len(got.GetTasks()) != 2 || got.Tasks[1].GetName() != s {
				t.Errorf("format %d: %d tasks", f, len(got.GetTasks()))
			}
			body.Release()
		}
	}
}

func FuzzRender(f *testing.F) {
	f.Add("text", 1.5)
	f.Add("\xff", math.Inf(1))
	f.Fuzz(func(t *testing.T, s string, n float64) { checkHostile(t, s, n) })
}
