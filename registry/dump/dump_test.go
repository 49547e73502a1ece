package dump

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"

	clusterdv1 "clusterd/api/clusterd/v1"
	mesos "clusterd/api/mesos/v1"
	"clusterd/api/mesos/v1/maintenance"
	"clusterd/api/mesos/v1/quota"
	"clusterd/registry/state"
)

func apply(t *testing.T, s *state.State, cmds ...*clusterdv1.Command) *state.State {
	t.Helper()
	data, err := state.EncodeEntry(time.Unix(1, 0), "test", cmds)
	if err != nil {
		t.Fatal(err)
	}
	e, err := state.DecodeEntry(data)
	if err != nil {
		t.Fatal(err)
	}
	next, results, err := s.Apply(e)
	if err != nil {
		t.Fatal(err)
	}
	for i, err := range results {
		if err != nil {
			t.Fatalf("command %d: %v", i, err)
		}
	}
	return next
}

func agent(id string) *mesos.AgentInfo {
	return &mesos.AgentInfo{Id: &mesos.AgentID{Value: new(id)}, Hostname: new("host-" + id)}
}

func full(t *testing.T) *state.State {
	machine := &mesos.MachineID{Hostname: new("host-a1")}
	draining := &mesos.DrainInfo{
		State:  mesos.DrainState_DRAINING.Enum(),
		Config: &mesos.DrainConfig{MarkGone: new(true)},
	}
	framework := &mesos.FrameworkInfo{Id: &mesos.FrameworkID{Value: new("f1")}, User: new("u"), Name: new("first [")}
	gone := &mesos.FrameworkInfo{Id: &mesos.FrameworkID{Value: new("f2")}, User: new("u"), Name: new("second")}
	return apply(t, state.New(),
		state.ElectMaster(&mesos.MasterInfo{Id: new("m1"), Ip: proto.Uint32(1), Port: proto.Uint32(5050), Hostname: new("master")}, "raft-1", "cluster-1"),
		state.AdmitAgent(agent("a1")), state.AdmitAgent(agent("a2")), state.AdmitAgent(agent("a3")), state.AdmitAgent(agent("a4")),
		state.SetAgentDrain("a2", draining), state.SetAgentDeactivated("a2", true),
		state.MarkAgentUnreachable("a3", time.Unix(5, 0)), state.MarkAgentGone("a4", time.Unix(6, 0)),
		state.AdmitFramework(framework), state.AdmitFramework(gone),
		state.SetFrameworkDeadline("f1", time.Unix(7, 0)), state.RemoveFramework("f2", time.Unix(8, 0)),
		state.UpdateWeights([]*mesos.WeightInfo{{Role: new("dev"), Weight: new(2.5)}}),
		state.UpdateQuota([]*quota.QuotaConfig{{Role: new("dev"), Limits: map[string]*mesos.Value_Scalar{"cpus": {Value: new(3.0)}}}}),
		state.UpdateMaintenanceSchedule(&maintenance.Schedule{Windows: []*maintenance.Window{{
			MachineIds:     []*mesos.MachineID{machine},
			Unavailability: &mesos.Unavailability{Start: &mesos.TimeInfo{Nanoseconds: proto.Int64(9)}},
		}}}),
	)
}

func TestCount(t *testing.T) {
	want := Counts{Agents: 2, Unreachable: 1, Gone: 1, Frameworks: 1, RemovedFrameworks: 1, Weights: 1, Quotas: 1, Windows: 1, Machines: 1}
	got := Count(full(t))
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("counts (-want +got):\n%s", diff)
	}
	sum := 0
	for _, e := range got.Entries() {
		sum += e.N
	}
	if sum != 10 {
		t.Errorf("entries sum up to %d, want 10: one is missing", sum)
	}
}

func TestAppendJSON(t *testing.T) {
	tests := []struct {
		name  string
		state *state.State
		want  string
	}{
		{"empty", state.New(), `{"cluster_id":"","epoch":0}`},
		{"full", full(t), `{
			"master": {"info": {"id":"m1","ip":1,"port":5050,"hostname":"master"}},
			"slaves": {"slaves": [
				{"info": {"id":{"value":"a1"},"hostname":"host-a1"}, "deactivated": false},
				{"info": {"id":{"value":"a2"},"hostname":"host-a2"}, "deactivated": true,
				 "drain_info": {"state":"DRAINING","config":{"mark_gone":true}}}
			]},
			"unreachable": {"slaves": [{"id":{"value":"a3"},"timestamp":{"nanoseconds":5000000000},"deactivated":false}]},
			"gone": {"slaves": [{"id":{"value":"a4"},"timestamp":{"nanoseconds":6000000000}}]},
			"machines": {"machines": [{"info":{"id":{"hostname":"host-a1"},"mode":"DRAINING","unavailability":{"start":{"nanoseconds":9}}}}]},
			"schedules": [{"windows":[{"machine_ids":[{"hostname":"host-a1"}],"unavailability":{"start":{"nanoseconds":9}}}]}],
			"quota_configs": [{"role":"dev","limits":{"cpus":{"value":3.0}}}],
			"weights": [{"info":{"role":"dev","weight":2.5}}],
			"minimum_capabilities": [{"capability":"AGENT_DRAINING"},{"capability":"QUOTA_V2"}],
			"cluster_id": "cluster-1", "epoch": 1,
			"frameworks": [{"framework_info":{"id":{"value":"f1"},"user":"u","name":"first ["},"deadline":{"nanoseconds":7000000000}}],
			"removed_frameworks": [{"framework_id":{"value":"f2"},"time":{"nanoseconds":8000000000}}]
		}`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := AppendJSON(nil, tt.state)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(decode(t, tt.want), prune(decode(t, string(got)))); diff != "" {
				t.Errorf("JSON (-want +got):\n%s\n%s", diff, got)
			}
		})
	}
}

func decode(t *testing.T, text string) any {
	t.Helper()
	var v any
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	return v
}

// prune drops the defaults that Mesos's mapping writes into infos.
func prune(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for _, key := range []string{"checkpoint", "failover_timeout", "role", "version"} {
			if v[key] == false || v[key] == 0.0 || v[key] == "*" {
				delete(v, key)
			}
		}
		if p, ok := v["port"]; ok && p == 5051.0 {
			delete(v, "port")
		}
		for _, e := range v {
			prune(e)
		}
	case []any:
		for _, e := range v {
			prune(e)
		}
	}
	return v
}
