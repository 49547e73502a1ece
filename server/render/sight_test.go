package render

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"clusterd/allocator/resources"
	mesos "clusterd/api/mesos/v1"
	"clusterd/api/mesos/v1/allocator"
	"clusterd/api/mesos/v1/maintenance"
	"clusterd/api/mesos/v1/master"
	"clusterd/api/mesos/v1/quota"
	"clusterd/internal/authz"
	"clusterd/internal/flags"
	"clusterd/server/core"
)

// What is hidden from some has one of these in each of its strings.
const (
	fwMark, taskMark, execMark = "HIDDENFW", "HIDDENTASK", "HIDDENEXEC"
	roleMark, quotaMark        = "HIDDENROLE", "HIDDENQUOTA"
	flagMark                   = "HIDDENFLAG"
)

// markedTask is a task all of whose strings have a mark.
func markedTask(mark, framework, user string, state mesos.TaskState) *core.Task {
	return &core.Task{
		ID: mark + "-task-" + state.String(), Name: mark + "-name", FrameworkID: framework, AgentID: "S0",
		ExecutorID: mark + "-in", User: user, State: state, Resources: resources.MustParse("cpus:1;mem:32").Allocate("seen"),
		Statuses: []core.Status{{State: state, Message: mark, Timestamp: 1, ContainerID: mark + "-c", Full: &mesos.TaskStatus{
			TaskId: &mesos.TaskID{Value: new(mark)}, State: state.Enum(),
			Labels: &mesos.Labels{Labels: []*mesos.Label{{Key: new(mark), Value: new(mark)}}},
		}}},
		Extra: &core.TaskExtra{
			Labels:    &mesos.Labels{Labels: []*mesos.Label{{Key: new(mark), Value: new(mark)}}},
			Discovery: &mesos.DiscoveryInfo{Visibility: mesos.DiscoveryInfo_CLUSTER.Enum(), Name: new(mark)},
		},
	}
}

func markedExecutor(mark, framework string, user *string) *core.Executor {
	return &core.Executor{FrameworkID: framework, AgentID: "S0", Resources: resources.MustParse("cpus:1").Allocate("seen"), Info: &mesos.ExecutorInfo{
		ExecutorId: &mesos.ExecutorID{Value: new(mark + "-executor")}, Name: new(mark), Source: new(mark), Data: []byte(mark),
		Command: &mesos.CommandInfo{User: user, Value: new(mark), Arguments: []string{mark}},
		Labels:  &mesos.Labels{Labels: []*mesos.Label{{Key: new(mark)}}},
	}}
}

func markedFramework(mark, id, user, role string, tasks []*core.Task, executors ...*core.Executor) *core.Framework {
	f := &core.Framework{
		ID: mark + id, Active: true, Connected: true, RegisteredAt: time.Unix(1, 0), Roles: []string{role},
		Info: &mesos.FrameworkInfo{
			Id: &mesos.FrameworkID{Value: new(mark + id)}, Name: new(mark), User: &user, Principal: new(mark), Hostname: new(mark), WebuiUrl: new(mark),
			Roles: []string{role}, Capabilities: []*mesos.FrameworkInfo_Capability{{Type: mesos.FrameworkInfo_Capability_MULTI_ROLE.Enum()}},
			Labels: &mesos.Labels{Labels: []*mesos.Label{{Key: new(mark), Value: new(mark)}}},
		},
		Offers: []*core.Offer{{ID: mark + "-offer", FrameworkID: mark + id, AgentID: "S0", Role: role, Resources: resources.MustParse("cpus:1").Allocate(role)}},
		InverseOffers: []*core.InverseOffer{{
			ID: mark + "-inverse", FrameworkID: mark + id, AgentID: "S0",
			Unavailability: &mesos.Unavailability{Start: &mesos.TimeInfo{Nanoseconds: proto.Int64(1)}},
		}},
	}
	live, gone := map[string]*core.Task{}, map[string]*core.Task{}
	for _, t := range tasks {
		switch t.State {
		case mesos.TaskState_TASK_RUNNING:
			live[t.ID] = t
		case mesos.TaskState_TASK_UNREACHABLE:
			gone[t.ID] = t
		default:
			f.CompletedTasks = append(f.CompletedTasks, t)
		}
	}
	f.Tasks, f.UnreachableTasks = core.MapOf(live), core.MapOf(gone)
	byID := map[string]*core.Executor{}
	for _, e := range executors {
		byID[e.AgentID+"\x00"+e.Info.GetExecutorId().GetValue()] = e // as the core has them
	}
	f.Executors = core.MapOf(byID)
	return f
}

func markedTasks(mark, framework, user string) []*core.Task {
	var all []*core.Task
	for _, s := range []mesos.TaskState{mesos.TaskState_TASK_RUNNING, mesos.TaskState_TASK_UNREACHABLE, mesos.TaskState_TASK_FINISHED} {
		all = append(all, markedTask(mark, framework, user, s))
	}
	return all
}

func reservation(role string) *mesos.Resource {
	return &mesos.Resource{
		Name: new("cpus"), Type: mesos.Value_SCALAR.Enum(), Scalar: &mesos.Value_Scalar{Value: new(1.0)},
		Reservations: []*mesos.Resource_ReservationInfo{{Role: &role, Type: mesos.Resource_ReservationInfo_DYNAMIC.Enum(), Principal: new(role)}},
	}
}

// markedView is a cluster with one of everything, seen and hidden.
func markedView() (*core.View, *Master) {
	seenTasks := append(markedTasks("seen", "seen-0", ""), markedTasks(taskMark, "seen-0", "u-"+taskMark)...)
	seen := markedFramework("seen", "-0", "alice", "seen", seenTasks,
		markedExecutor("seen", "seen-0", nil), markedExecutor(execMark, "seen-0", new("u-"+execMark)))
	hidden := markedFramework(fwMark, "-1", "u-"+fwMark, "seen", markedTasks(fwMark, fwMark+"-1", ""), markedExecutor(fwMark, fwMark+"-1", nil))
	past := markedFramework(fwMark, "-2", "u-"+fwMark, "seen", markedTasks(fwMark, fwMark+"-2", ""))

	total := resources.MustParse("cpus:8;mem:1024;ports:[1-10]")
	total = total.Add(resources.MustFromProto([]*mesos.Resource{reservation("seen"), reservation(roleMark), reservation(roleMark + "/child")}))
	used := resources.MustParse("cpus:1").Allocate("seen").Add(resources.MustFromProto([]*mesos.Resource{reservation(roleMark)}).Allocate(roleMark))
	agent := func(id string) *core.Agent {
		return &core.Agent{
			ID: id, IP: "10.0.0.1", Version: "1.12.0", Active: true, Connected: true, RegisteredAt: time.Unix(1, 0),
			Info: &mesos.AgentInfo{
				Id: &mesos.AgentID{Value: &id}, Hostname: new("h"), Port: proto.Int32(5051),
				Resources: append(resources.MustParse("cpus:8").Proto(), &mesos.Resource{
					Name: new("mem"), Type: mesos.Value_SCALAR.Enum(), Scalar: &mesos.Value_Scalar{Value: new(1.0)}, Role: new(roleMark),
				}, reservation(roleMark)),
			},
			Total: total, Used: used, Offered: resources.MustParse("cpus:1").Allocate(roleMark),
			InverseOfferStatuses: []*allocator.InverseOfferStatus{{
				Status: allocator.InverseOfferStatus_ACCEPT.Enum(), FrameworkId: &mesos.FrameworkID{Value: new(fwMark + "-1")},
				Timestamp: &mesos.TimeInfo{Nanoseconds: proto.Int64(1)},
			}},
		}
	}
	recovered := agent("S9").Info
	operation := func(uuid, framework string, consumed, made *mesos.Resource) *core.Operation {
		return &core.Operation{
			UUID: uuid, FrameworkID: framework, AgentID: "S0", Consumed: resources.MustFromProto([]*mesos.Resource{consumed}),
			Info: &mesos.Offer_Operation{
				Type: mesos.Offer_Operation_RESERVE.Enum(), Id: &mesos.OperationID{Value: new(framework)},
				Reserve: &mesos.Offer_Operation_Reserve{Resources: []*mesos.Resource{made}},
			},
			Latest: &mesos.OperationStatus{State: mesos.OperationState_OPERATION_PENDING.Enum()},
		}
	}
	plainCPU := resources.MustParse("cpus:1").Proto()[0]
	machine := &mesos.MachineID{Hostname: new("h"), Ip: new("10.0.0.1")}
	v := &core.View{
		Serial: 1, Agents: core.MapOf(map[string]*core.Agent{"S0": agent("S0")}),
		RecoveredAgents:     core.MapOf(map[string]*mesos.AgentInfo{"S9": recovered}),
		Frameworks:          core.MapOf(map[string]*core.Framework{seen.ID: seen, hidden.ID: hidden}),
		CompletedFrameworks: []*core.Framework{past},
		Operations: core.MapOf(map[string]*core.Operation{
			"0000000000000001": operation("0000000000000001", "seen-0", plainCPU, reservation("seen")),
			"0000000000000002": operation("0000000000000002", "", plainCPU, reservation(roleMark)),
			"0000000000000003": operation("0000000000000003", "", reservation(roleMark), reservation("seen")),
			"0000000000000004": operation("0000000000000004", fwMark+"-1", plainCPU, reservation("seen")),
			"0000000000000005": operation("0000000000000005", fwMark+"-2", plainCPU, reservation("seen")),
			"0000000000000006": operation("0000000000000006", fwMark+"-forgotten", plainCPU, reservation("seen")),
		}),
		Weights: core.MapOf(map[string]float64{"seen": 2, roleMark: 3, roleMark + "/weight": 4}),
		Quotas: core.MapOf(map[string]*quota.QuotaConfig{
			"seen": {Role: new("seen")}, quotaMark: {Role: new(quotaMark)}, roleMark: {Role: new(roleMark)},
		}),
		// Two running, two unreachable of the framework that is seen, one each of the hidden one.
		Counts:   core.Counts{Tasks: map[mesos.TaskState]int{mesos.TaskState_TASK_RUNNING: 3, mesos.TaskState_TASK_UNREACHABLE: 3}},
		Schedule: &maintenance.Schedule{},
		Machines: core.MapOf(map[string]*mesos.MachineInfo{
			core.MachineKey("h", "10.0.0.1"): {Id: machine, Mode: mesos.MachineInfo_DRAINING.Enum()},
		}),
	}
	info := &mesos.MasterInfo{Id: new("m"), Ip: proto.Uint32(1), Port: proto.Uint32(5050)}
	return v, &Master{
		Version: &mesos.VersionInfo{Version: new("1.12.0")}, Info: info, Leader: info, Cluster: "c",
		LogDir: flagMark, ExternalLogFile: flagMark, Flags: []flags.Pair{{Name: "flag", Value: flagMark}},
	}
}

// everyBody renders all that there is, by name.
func everyBody(t *testing.T, v *core.View, m *Master, who *authz.Viewer) map[string][]byte {
	t.Helper()
	all := map[string][]byte{
		"/state":              State(v, m, who).Bytes(),
		"/state-summary":      Summary(v, m, who).Bytes(),
		"/slaves":             Agents(v, "", who).Bytes(),
		"/slaves?slave_id":    Agents(v, "S0", who).Bytes(),
		"/frameworks":         Frameworks(v, "", who).Bytes(),
		"/frameworks?hidden":  Frameworks(v, fwMark+"-1", who).Bytes(),
		"/tasks":              Tasks(v, TaskQuery{Limit: 1000}, who, nil).Bytes(),
		"/tasks?hidden":       Tasks(v, TaskQuery{Limit: 1000, FrameworkID: fwMark + "-1"}, who, nil).Bytes(),
		"/tasks?hidden task":  Tasks(v, TaskQuery{Limit: 1000, TaskID: taskMark + "-task-TASK_RUNNING"}, who, nil).Bytes(),
		"/roles":              Roles(v, nil, who).Bytes(),
		"/roles, whitelist":   Roles(v, []string{"seen", roleMark}, who).Bytes(),
		"/quota":              Quota(v, who).Bytes(),
		"/weights":            Weights(v, who).Bytes(),
		"/maintenance/status": MaintenanceStatus(v, who).Bytes(),
		"/summary":            Cluster(v, m, ClusterOptions{Token: "m:1"}, who).Bytes(),
		"/summary, bare":      Cluster(v, m, ClusterOptions{Bare: true}, who).Bytes(),
		"/totals":             Totals(v, m, who).Bytes(),
		"/offers":             Offers(v, OfferQuery{}, who).Bytes(),
	}
	for _, n := range slices.Sorted(func(yield func(int32) bool) {
		for n := range master.Call_Type_name {
			if !yield(n) {
				return
			}
		}
	}) {
		for _, f := range []Format{JSON, Protobuf} {
			call := master.Call_Type(n)
			body, ok, err := Operator(f, v, m, call, who)
			if err != nil {
				t.Fatalf("%s: %v", call, err)
			}
			if !ok {
				continue
			}
			all[call.String()+[]string{" json", " protobuf"}[f]] = body.Bytes()
			if err := unmarshal(f, body.Bytes(), new(master.Response)); err != nil {
				t.Errorf("%s: %v in %.300s", call, err, body.Bytes())
			}
		}
	}
	for name, body := range all {
		if strings.HasPrefix(name, "/") && !json.Valid(body) {
			t.Errorf("%s is not JSON: %.300s", name, body)
		}
	}
	return all
}

func viewerOf(t *testing.T, rules, principal string) *authz.Viewer {
	t.Helper()
	acls, err := authz.Parse([]byte(rules))
	if err != nil {
		t.Fatal(err)
	}
	return acls.Viewer(&authz.Principal{Value: principal})
}

// hides are rules under which everybody is refused one thing.
func hides(list, kind string, values ...string) string {
	quoted, _ := json.Marshal(values)
	return fmt.Sprintf(`{"permissive": true, %q: [{"principals": {"type": "NONE"}, %q: {"values": %s}}]}`, list, kind, quoted)
}

func TestNothingHiddenIsRendered(t *testing.T) {
	v, m := markedView()
	everything := everyBody(t, v, m, nil)
	if len(everything) < 30 {
		t.Fatalf("only %d bodies", len(everything))
	}
	for _, c := range []struct {
		mark, rules string
		// in is how many of the bodies must have it for those who see everything.
		in int
		// only are the bodies to look at; none: all.
		only []string
	}{
		{fwMark, hides("view_frameworks", "users", "u-"+fwMark), 16, nil},
		{taskMark, hides("view_tasks", "users", "u-"+taskMark), 8, nil},
		{execMark, hides("view_executors", "users", "u-"+execMark), 8, nil},
		// A quota is seen by get_quotas alone, as in Mesos.
		{roleMark, hides("view_roles", "roles", roleMark, roleMark+"/%"), 14, nil},
		{quotaMark, hides("get_quotas", "roles", quotaMark), 3, []string{"/quota", "GET_QUOTA json", "GET_QUOTA protobuf"}},
		{flagMark, `{"view_flags": [{"principals": {"type": "NONE"}, "flags": {"type": "ANY"}}]}`, 1, nil},
	} {
		t.Run(c.mark, func(t *testing.T) {
			looked := func(name string) bool {
				if c.only == nil {
					return c.mark != roleMark || !strings.HasPrefix(name, "/quota") && !strings.HasPrefix(name, "GET_QUOTA")
				}
				return slices.Contains(c.only, name)
			}
			n := 0
			for name, body := range everything {
				if looked(name) && bytes.Contains(body, []byte(c.mark)) {
					n++
				}
			}
			if n < c.in {
				t.Errorf("%d bodies have it for who sees everything, want %d at least", n, c.in)
			}
			who := viewerOf(t, c.rules, "p")
			if who == nil {
				t.Fatal("who must not see everything does")
			}
			seen := false
			for name, body := range everyBody(t, v, m, who) {
				if i := bytes.Index(body, []byte(c.mark)); i >= 0 && looked(name) {
					t.Errorf("%s shows it: %q", name, body[max(0, i-60):min(len(body), i+60)])
				}
				seen = seen || bytes.Contains(body, []byte("seen-task-TASK_RUNNING"))
			}
			if !seen {
				t.Error("nothing is seen at all")
			}
		})
	}
}

// A hidden executor leaves {} in /state, as in Mesos, and nothing in GET_EXECUTORS.
func TestHiddenExecutorIsEmpty(t *testing.T) {
	v, m := markedView()
	who := viewerOf(t, hides("view_executors", "users", "u-"+execMark), "p")
	var state struct {
		Frameworks []struct {
			ID        string
			Executors []map[string]any
		}
	}
	if err := json.Unmarshal(State(v, m, who).Bytes(), &state); err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(state.Frameworks, func(f struct {
		ID        string
		Executors []map[string]any
	},
	) bool {
		return f.ID == "seen-0"
	})
	if i < 0 || len(state.Frameworks[i].Executors) != 2 {
		t.Fatalf("got %+v", state)
	}
	empty := 0
	for _, e := range state.Frameworks[i].Executors {
		if len(e) == 0 {
			empty++
		}
	}
	if empty != 1 {
		t.Errorf("%d executors are {}, want 1", empty)
	}
	body, _, err := Operator(Protobuf, v, m, master.Call_GET_EXECUTORS, who)
	if err != nil {
		t.Fatal(err)
	}
	r := new(master.Response)
	if err := proto.Unmarshal(body.Bytes(), r); err != nil {
		t.Fatal(err)
	}
	if n := len(r.GetGetExecutors().GetExecutors()); n != 2 { // of the seen and the hidden framework
		t.Errorf("%d executors, want 2", n)
	}
}

// Who may see all that there is, by rules that name it, gets what those get who are not
// asked at all.
func TestWhoMaySeeAllSeesAll(t *testing.T) {
	v, m := markedView()
	var rules []string
	for _, list := range []string{"view_frameworks", "view_tasks", "view_executors"} {
		rules = append(rules, fmt.Sprintf(`%q: [{"principals": {"values": ["p"]}, "users": {"values": ["alice", "u-%s", "u-%s", "u-%s"]}}]`, list, fwMark, taskMark, execMark))
	}
	for _, list := range []string{"view_roles", "get_quotas"} {
		rules = append(rules, fmt.Sprintf(`%q: [{"principals": {"values": ["p"]}, "roles": {"values": ["*", "seen", %q, "%s/%%", %q]}}]`, list, roleMark, roleMark, quotaMark))
	}
	rules = append(rules, `"view_flags": [{"principals": {"values": ["p"]}, "flags": {"type": "ANY"}}]`)
	text := `{"permissive": false, ` + strings.Join(rules, ", ") + "}"
	who, nobody := viewerOf(t, text, "p"), viewerOf(t, text, "q")
	if who == nil || nobody == nil || who.Key() == nobody.Key() {
		t.Fatal("viewers do not tell")
	}
	want := everyBody(t, v, m, nil)
	for name, body := range everyBody(t, v, m, who) {
		// The operation of a framework that nobody knows is hidden from all for whom
		// there are rules.
		if strings.HasPrefix(name, "GET_OPERATIONS") {
			continue
		}
		if !bytes.Equal(body, want[name]) {
			t.Errorf("%s differs:\n got %s\nwant %s", name, body, want[name])
		}
	}
	for name, body := range everyBody(t, v, m, nobody) {
		for _, mark := range []string{"seen-", "alice", fwMark, taskMark, execMark, roleMark, quotaMark, flagMark} {
			if bytes.Contains(body, []byte(mark)) {
				t.Errorf("%s shows %s to who sees nothing", name, mark)
			}
		}
	}
}
