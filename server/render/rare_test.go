package render

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"

	"clusterd/allocator/resources"
	mesos "clusterd/api/mesos/v1"
	"clusterd/api/mesos/v1/master"
	"clusterd/api/mesos/v1/scheduler"
	"clusterd/server/core"
)

// rareView has what the recorded answers of Mesos do not: a domain, an agent that drains,
// recovered agents, constraints, disks, a completed framework, an unreachable task.
func rareView() (*core.View, *Master) {
	domain := &mesos.DomainInfo{FaultDomain: &mesos.DomainInfo_FaultDomain{
		Region: &mesos.DomainInfo_FaultDomain_RegionInfo{Name: new("r")}, Zone: &mesos.DomainInfo_FaultDomain_ZoneInfo{Name: new("z")},
	}}
	infoOf := func(id string) *mesos.AgentInfo {
		return &mesos.AgentInfo{Id: &mesos.AgentID{Value: &id}, Hostname: new("h"), Port: proto.Int32(5051), Domain: domain}
	}
	disk := resources.MustFromProto([]*mesos.Resource{{
		Name: new("disk"), Type: mesos.Value_SCALAR.Enum(), Scalar: &mesos.Value_Scalar{Value: new(32.0)},
		Reservations: []*mesos.Resource_ReservationInfo{{Role: new("r"), Type: mesos.Resource_ReservationInfo_DYNAMIC.Enum(), Principal: new("p")}},
		Disk: &mesos.Resource_DiskInfo{
			Persistence: &mesos.Resource_DiskInfo_Persistence{Id: new("v"), Principal: new("p")},
			Volume:      &mesos.Volume{Mode: mesos.Volume_RW.Enum(), ContainerPath: new("path")},
		},
	}})
	agent := &core.Agent{
		ID: "S0", IP: "10.0.0.1", Version: "1.12.0", Info: infoOf("S0"), RegisteredAt: time.Unix(1, 5e8), ReregisteredAt: time.Unix(2, 0),
		Total: resources.MustParse("cpus:4").Add(disk), Deactivated: true, Capabilities: []mesos.AgentInfo_Capability_Type{mesos.AgentInfo_Capability_AGENT_DRAINING},
		DrainInfo: &mesos.DrainInfo{State: mesos.DrainState_DRAINING.Enum(), Config: &mesos.DrainConfig{
			MaxGracePeriod: &mesos.DurationInfo{Nanoseconds: proto.Int64(5e9)}, MarkGone: new(true),
		}},
		DrainStart: time.Unix(3, 25e7),
	}
	away := &core.Task{ID: "t", Name: "n", FrameworkID: "f0", AgentID: "S1", State: mesos.TaskState_TASK_UNREACHABLE, Statuses: []core.Status{
		{State: mesos.TaskState_TASK_UNREACHABLE, Timestamp: 4, HasHealth: true, Healthy: true},
	}}
	past := &core.Framework{
		ID: "f0", Info: &mesos.FrameworkInfo{Id: &mesos.FrameworkID{Value: new("f0")}, Name: new("past"), User: new("u"), Role: new("r"), Principal: new("p")},
		RegisteredAt: time.Unix(1, 0), ReregisteredAt: time.Unix(2, 0), Unregistered: time.Unix(5, 0),
		UnreachableTasks: core.MapOf(map[string]*core.Task{"t": away}),
		Constraints: &scheduler.OfferConstraints{RoleConstraints: map[string]*scheduler.OfferConstraints_RoleConstraints{
			"r": {Groups: []*scheduler.OfferConstraints_RoleConstraints_Group{{AttributeConstraints: []*scheduler.AttributeConstraint{{
				Selector: &scheduler.AttributeConstraint_Selector{Selector: &scheduler.AttributeConstraint_Selector_AttributeName{AttributeName: "rack"}},
				Predicate: &scheduler.AttributeConstraint_Predicate{Predicate: &scheduler.AttributeConstraint_Predicate_Exists_{
					Exists: &scheduler.AttributeConstraint_Predicate_Exists{},
				}},
			}}}}},
		}},
	}
	info := &mesos.MasterInfo{
		Id: new("m"), Ip: proto.Uint32(1), Port: proto.Uint32(5050), Pid: new("master@h:5050"), Hostname: new("h"), Domain: domain,
		Capabilities: []*mesos.MasterInfo_Capability{{Type: mesos.MasterInfo_Capability_AGENT_UPDATE.Enum()}},
	}
	v := &core.View{
		Agents: core.MapOf(map[string]*core.Agent{"S0": agent}), RecoveredAgents: core.MapOf(map[string]*mesos.AgentInfo{"S2": infoOf("S2")}),
		CompletedFrameworks: []*core.Framework{past}, Counts: core.Counts{AgentsInactive: 1, AgentsUnreachable: 1},
	}
	return v, &Master{
		Version: &mesos.VersionInfo{Version: new("1.12.0"), GitTag: new("tag")}, Info: info, Leader: info, Start: time.Unix(1, 0),
		Cluster: "c", LogDir: "/l", ExternalLogFile: "/e",
	}
}

const (
	rareDomain = `"domain":{"fault_domain":{"region":{"name":"r"},"zone":{"name":"z"}}}`
	rareAgent  = `"id":"S0","hostname":"h","port":5051,"attributes":{},` + rareDomain + `,"pid":"slave(1)@10.0.0.1:5051","registered_time":1.5,"reregistered_time":2.0,` +
		`"resources":{"disk":32.0,"mem":0.0,"gpus":0.0,"cpus":4.0},"used_resources":{"disk":0.0,"mem":0.0,"gpus":0.0,"cpus":0.0},` +
		`"offered_resources":{"disk":0.0,"mem":0.0,"gpus":0.0,"cpus":0.0},"reserved_resources":{"r":{"disk":32.0,"mem":0.0,"gpus":0.0,"cpus":0.0}},` +
		`"unreserved_resources":{"disk":0.0,"mem":0.0,"gpus":0.0,"cpus":4.0},"active":false,"deactivated":true,"version":"1.12.0","capabilities":["AGENT_DRAINING"],` +
		`"drain_info":{"state":"DRAINING","config":{"max_grace_period":{"nanoseconds":5000000000},"mark_gone":true}},"estimated_drain_start_time_seconds":3.25`
	rareRecovered = `"recovered_slaves":[{"id":"S2","hostname":"h","port":5051,"attributes":{},` + rareDomain + `}]`
	rareTask      = `{"id":"t","name":"n","framework_id":"f0","executor_id":"","slave_id":"S1","state":"TASK_UNREACHABLE",` +
		`"resources":{"disk":0.0,"mem":0.0,"gpus":0.0,"cpus":0.0},"role":"","statuses":[{"state":"TASK_UNREACHABLE","timestamp":4.0,"healthy":true}]}`
	rareNone        = `{"disk":0.0,"mem":0.0,"gpus":0.0,"cpus":0.0}`
	rareConstraints = `{"role_constraints":{"r":{"groups":[{"attribute_constraints":[{"selector":{"attribute_name":"rack"},"predicate":{"exists":{}}}]}]}}}`
	rareFrameworks  = `"frameworks":[],"completed_frameworks":[{"id":"f0","name":"past","used_resources":` + rareNone + `,"offered_resources":` + rareNone +
		`,"capabilities":[],"hostname":"","webui_url":"","active":false,"connected":false,"recovered":false,"user":"u","failover_timeout":0.0,"checkpoint":false,` +
		`"registered_time":1.0,"unregistered_time":5.0,"principal":"p","resources":` + rareNone + `,"reregistered_time":2.0,"role":"r","tasks":[],` +
		`"unreachable_tasks":[` + rareTask + `],"completed_tasks":[],"offers":[],"executors":[],"offer_constraints":` + rareConstraints + `}]`
	rareVolume = `{"name":"disk","type":"SCALAR","scalar":{"value":32.0},"role":"r","reservation":{"principal":"p"},` +
		`"reservations":[{"type":"DYNAMIC","role":"r","principal":"p"}],` +
		`"disk":{"persistence":{"id":"v","principal":"p"},"volume":{"mode":"RW","container_path":"path"}}}`
)

// TestRareMembers writes out what Mesos's sources say (src/master/readonly_handler.cpp,
// src/common/http.cpp), for no answer with these was recorded.
func TestRareMembers(t *testing.T) {
	v, m := rareView()
	for name, c := range map[string]struct {
		got  Body
		want string
	}{
		"state": {State(v, m, nil), `{"version":"1.12.0","git_tag":"tag","build_date":"","build_time":0.0,"build_user":"","start_time":1.0,` +
			`"id":"m","pid":"master@h:5050","hostname":"h","capabilities":["AGENT_UPDATE"],"activated_slaves":0.0,"deactivated_slaves":1.0,"unreachable_slaves":1.0,` +
			rareDomain + `,"leader":"master@h:5050","leader_info":{"id":"m","pid":"master@h:5050","port":5050,"hostname":"h",` + rareDomain + `},` +
			`"cluster":"c","log_dir":"/l","external_log_file":"/e","flags":{},"slaves":[{` + rareAgent + `}],` + rareRecovered + `,` + rareFrameworks +
			`,"orphan_tasks":[],"unregistered_frameworks":[]}`},
		"frameworks": {Frameworks(v, "f0", nil), `{` + rareFrameworks + `,"unregistered_frameworks":[]}`},
		"no such":    {Frameworks(v, "f1", nil), `{"frameworks":[],"completed_frameworks":[],"unregistered_frameworks":[]}`},
		"tasks":      {Tasks(v, TaskQuery{Limit: 5}, nil, nil), `{"tasks":[` + rareTask + `]}`},
		"slaves": {Agents(v, "", nil), `{"slaves":[{` + rareAgent + `,"reserved_resources_full":{"r":[` + rareVolume + `]},` +
			`"unreserved_resources_full":[{"name":"cpus","type":"SCALAR","scalar":{"value":4.0},"role":"*"}],"used_resources_full":[],"offered_resources_full":[]}],` +
			rareRecovered + `}`},
		"one recovered": {Agents(v, "S2", nil), `{"slaves":[],` + rareRecovered + `}`},
		"no such agent": {Agents(v, "S7", nil), `{"slaves":[],"recovered_slaves":[]}`},
	} {
		t.Run(name, func(t *testing.T) {
			got := string(c.got.Bytes())
			if !json.Valid([]byte(got)) {
				t.Error("not JSON")
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// The operator API has the same, as messages.
func TestRareMessages(t *testing.T) {
	v, m := rareView()
	for _, f := range []Format{JSON, Protobuf} {
		body, _, err := Operator(f, v, m, master.Call_GET_STATE, nil)
		if err != nil {
			t.Fatal(err)
		}
		r := new(master.Response)
		if err := unmarshal(f, body.Bytes(), r); err != nil {
			t.Fatal(err)
		}
		s := r.GetGetState()
		a, _ := v.Agents.Get("S0")
		want := &master.Response_GetState{
			GetTasks:      &master.Response_GetTasks{UnreachableTasks: []*mesos.Task{TaskProto(first(v.CompletedFrameworks[0].UnreachableTasks))}},
			GetExecutors:  &master.Response_GetExecutors{},
			GetFrameworks: &master.Response_GetFrameworks{CompletedFrameworks: []*master.Response_GetFrameworks_Framework{FrameworkProto(v, v.CompletedFrameworks[0], nil)}},
			GetAgents: &master.Response_GetAgents{
				Agents: []*master.Response_GetAgents_Agent{AgentProto(a, nil)}, RecoveredAgents: []*mesos.AgentInfo{first(v.RecoveredAgents)},
			},
		}
		back := new(master.Response_GetState) // JSON adds defaults, as Mesos's does
		if err := unmarshal(f, f.encode(nil, want), back); err != nil {
			t.Fatal(err)
		}
		if !proto.Equal(back, s) {
			t.Errorf("format %d:\n got %v\nwant %v", f, s, back)
		}
		got := s.GetGetAgents().GetAgents()[0]
		if got.GetDrainInfo().GetState() != mesos.DrainState_DRAINING || got.GetEstimatedDrainStartTime().GetNanoseconds() != 325e7 || !got.GetDeactivated() {
			t.Errorf("format %d: %v", f, got)
		}
	}
}

func first[V any](m core.Map[V]) V { return values(m)[0] }
