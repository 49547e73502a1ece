package core

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	clusterdv1 "clusterd/api/clusterd/v1"
	mesos "clusterd/api/mesos/v1"
	"clusterd/api/mesos/v1/master"
	"clusterd/api/mesos/v1/scheduler"
	"clusterd/api/mesosjson"
	"clusterd/internal/authz"
)

// grant is the permission of an action on an object; "" is any.
type grant struct {
	action authz.Action
	object string
}

// objectsKey is the key of an action's objects in the file.
var objectsKey = map[authz.Action]string{
	authz.RunTasks: "users", authz.UnreserveResources: "reserver_principals",
	authz.DestroyVolumes: "creator_principals", authz.TeardownFrameworks: "framework_principals",
	authz.RegisterAgents: "agents", authz.MarkAgentsGone: "agents", authz.DrainAgents: "agents",
	authz.DeactivateAgents: "agents", authz.ReactivateAgents: "agents",
	authz.UpdateMaintenanceSchedules: "machines", authz.StartMaintenances: "machines", authz.StopMaintenances: "machines",
}

// rules makes rules that permit exactly some actions to a principal, or with deny all but
// these to everybody.
func rules(t failer, principal string, deny bool, grants ...grant) *authz.ACLs {
	t.Helper()
	lists := map[authz.Action][]string{}
	for _, g := range grants {
		key := objectsKey[g.action]
		if key == "" {
			key = "roles"
		}
		objects, principals := `{"type":"ANY"}`, fmt.Sprintf(`{"values":[%q]}`, principal)
		if g.object != "" {
			objects = fmt.Sprintf(`{"values":[%q]}`, g.object)
		}
		if deny {
			principals = `{"type":"NONE"}`
		}
		lists[g.action] = append(lists[g.action], fmt.Sprintf(`{"principals":%s,%q:%s}`, principals, key, objects))
	}
	text := fmt.Sprintf(`{"permissive":%t`, deny)
	for _, a := range authz.Actions() {
		if l := lists[a]; l != nil {
			text += fmt.Sprintf(`,%q:[%s]`, a, strings.Join(l, ","))
		}
	}
	acls, err := authz.Parse([]byte(text + "}"))
	if err != nil {
		t.Fatalf("rules %s: %v", text, err)
	}
	return acls
}

// as makes an operator's call in a principal's name.
func (h *harness) as(principal, text string) Respond {
	h.t.Helper()
	call := new(master.Call)
	if err := mesosjson.Unmarshal([]byte(text), call); err != nil {
		h.t.Fatalf("call %s: %v", text, err)
	}
	h.request++
	h.feed(Operate{Request: h.request, Principal: &authz.Principal{Value: principal}, Call: call})
	return h.answers[h.request]
}

// onlyAnswers fails if the effects since the last take are more than answers, logs and
// counters.
func (h *harness) onlyAnswers() {
	h.t.Helper()
	for line := range strings.Lines(h.take()) {
		if !strings.HasPrefix(line, "respond ") {
			h.t.Fatalf("a denied call had the effect %s", line)
		}
	}
}

// operatorRow is an operator's call and all that it needs.
type operatorRow struct {
	name    string
	needs   []grant
	prepare []string // calls before
	call    string
	status  int // if it is permitted
}

// owned puts the principal of reservations and volumes into a resource.
func owned(text string) string {
	text = strings.ReplaceAll(text, `"type":"DYNAMIC"`, `"type":"DYNAMIC","principal":"op"`)
	return strings.Replace(text, `"persistence":{`, `"persistence":{"principal":"op",`, 1)
}

func operatorRows() []operatorRow {
	const id = "M-S0"
	reserved := owned(reservedJSON("disk", "50", "eng"))
	volume := owned(diskJSON("v", "10", "eng"))
	reserve := resourcesCall("RESERVE_RESOURCES", id, reserved)
	create := resourcesCall("CREATE_VOLUMES", id, volume)
	resize := func(kind, rest string) string {
		return `{"type":"` + kind + `","` + strings.ToLower(kind) + `":{"agent_id":{"value":"` + id + `"},"volume":` + volume + `,` + rest + `}}`
	}
	// The machines of what is scheduled have no agents, so that the agent can be drained.
	window := windowJSON(1, "far 10.0.0.9")
	return []operatorRow{
		{"reserve", []grant{{authz.ReserveResources, "eng"}}, nil, reserve, 202},
		{"unreserve", []grant{{authz.UnreserveResources, "op"}}, []string{reserve}, resourcesCall("UNRESERVE_RESOURCES", id, reserved), 202},
		{
			"reserve anew",
			[]grant{{authz.UnreserveResources, "op"}, {authz.ReserveResources, "ops"}, {authz.ReserveResources, "ops/web"}},
			[]string{reserve},
			`{"type":"RESERVE_RESOURCES","reserve_resources":{"agent_id":{"value":"` + id + `"},"source":[` + reserved + `],"resources":[` +
				owned(reservedJSON("disk", "50", "ops", "ops/web")) + `]}}`, 202,
		},
		{
			"refine",
			[]grant{{authz.ReserveResources, "eng/web"}},
			[]string{reserve},
			`{"type":"RESERVE_RESOURCES","reserve_resources":{"agent_id":{"value":"` + id + `"},"source":[` + reserved + `],"resources":[` +
				owned(reservedJSON("disk", "50", "eng", "eng/web")) + `]}}`, 202,
		},
		{"create", []grant{{authz.CreateVolumes, "eng"}}, []string{reserve}, create, 202},
		{"destroy", []grant{{authz.DestroyVolumes, "op"}}, []string{reserve, create}, resourcesCall("DESTROY_VOLUMES", id, volume), 202},
		{"grow", []grant{{authz.ResizeVolumes, "eng"}}, []string{reserve, create}, resize("GROW_VOLUME", `"addition":`+owned(reservedJSON("disk", "5", "eng"))), 202},
		{"shrink", []grant{{authz.ResizeVolumes, "eng"}}, []string{reserve, create}, resize("SHRINK_VOLUME", `"subtract":{"value":5}`), 202},
		{"update quota", []grant{{authz.UpdateQuotas, "eng"}, {authz.UpdateQuotas, "ops"}}, nil, quotaJSON(true, "eng cpus=1 cpus=2", "ops cpus=1 cpus=2"), 200},
		{"set quota", []grant{{authz.UpdateQuotas, "eng"}}, nil, setQuota("eng", 1), 200},
		{"set too large a quota", []grant{{authz.UpdateQuotas, "eng"}}, nil, setQuota("eng", 1000), 409},
		{"remove quota", []grant{{authz.UpdateQuotas, "eng"}}, []string{setQuota("eng", 1)}, `{"type":"REMOVE_QUOTA","remove_quota":{"role":"eng"}}`, 200},
		{"update weights", []grant{{authz.UpdateWeights, "eng"}, {authz.UpdateWeights, "ops"}}, nil, weightsJSON("eng=2", "ops=3"), 200},
		{"update no weights", []grant{{authz.UpdateWeights, ""}}, nil, weightsJSON(), 200},
		{"schedule", []grant{{authz.UpdateMaintenanceSchedules, ""}}, nil, scheduleCall(window), 200},
		{"empty the schedule", []grant{{authz.UpdateMaintenanceSchedules, ""}}, []string{scheduleCall(window)}, scheduleCall(), 200},
		{"start maintenance", []grant{{authz.StartMaintenances, ""}}, []string{scheduleCall(window)}, machinesCall("START_MAINTENANCE", "far 10.0.0.9"), 200},
		{
			"stop maintenance",
			[]grant{{authz.StopMaintenances, ""}},
			[]string{scheduleCall(window), machinesCall("START_MAINTENANCE", "far 10.0.0.9")},
			machinesCall("STOP_MAINTENANCE", "far 10.0.0.9"), 200,
		},
		{"drain", []grant{{authz.DrainAgents, ""}}, nil, agentCall("DRAIN_AGENT", id), 200},
		{"drain and mark gone", []grant{{authz.DrainAgents, ""}, {authz.MarkAgentsGone, ""}}, nil, agentCall("DRAIN_AGENT", id, `"mark_gone":true`), 200},
		{"deactivate", []grant{{authz.DeactivateAgents, ""}}, nil, agentCall("DEACTIVATE_AGENT", id), 200},
		{"reactivate", []grant{{authz.ReactivateAgents, ""}}, []string{agentCall("DEACTIVATE_AGENT", id)}, agentCall("REACTIVATE_AGENT", id), 200},
		{"mark gone", []grant{{authz.MarkAgentsGone, ""}}, nil, agentCall("MARK_AGENT_GONE", id), 200},
		{"teardown", []grant{{authz.TeardownFrameworks, "fp"}}, nil, `{"type":"TEARDOWN","teardown":{"framework_id":{"value":"M-0000"}}}`, 200},
	}
}

func setQuota(role string, cpus int) string {
	return fmt.Sprintf(`{"type":"SET_QUOTA","set_quota":{"quota_request":{"role":%q,"guarantee":[{"name":"cpus","type":"SCALAR","scalar":{"value":%d}}]}}}`, role, cpus)
}

// guardedHarness has an agent and a framework of principal fp, user alice.
func guardedHarness(t *testing.T) (*harness, *auditor) {
	t.Helper()
	h, a := audited(t)
	h.subscribe("s", guardedFramework())
	if id := h.register(1, registerMessage("", "a1", "cpus:8;mem:1000;disk:100")); id != "M-S0" {
		t.Fatalf("the agent is %q", id)
	}
	return h, a
}

func guardedFramework() *mesos.FrameworkInfo {
	info := refining("f", "eng")
	info.Principal, info.User = new("fp"), new("alice")
	return info
}

// TestOperatorsPermissions makes each call without each of the permissions that it needs,
// which must change nothing, and then with all of them and no others.
func TestOperatorsPermissions(t *testing.T) {
	for _, row := range operatorRows() {
		t.Run(row.name, func(t *testing.T) {
			h, a := guardedHarness(t)
			for _, call := range row.prepare {
				if got := h.as("op", call); got.Status/100 != 2 {
					t.Fatalf("%s: %+v", call, got)
				}
			}
			h.take()
			before, commands := h.core.View(), len(h.log)
			denied := func(why string, acls *authz.ACLs) {
				t.Helper()
				h.feed(Policy{ACLs: acls})
				got := h.as("op", row.call)
				if got.Status != 403 || got.Body != "" {
					t.Errorf("%s: %+v, want 403", why, got)
				}
				h.onlyAnswers()
				if h.core.View() != before || len(h.log) != commands {
					t.Errorf("%s: the view or the registry has changed", why)
				}
				h.checkBooks(a)
			}
			for i, g := range row.needs {
				denied(g.action.String()+" is denied on "+g.object, rules(t, "op", true, g))
				others := append(append([]grant{}, row.needs[:i]...), row.needs[i+1:]...)
				denied(g.action.String()+" is missing on "+g.object, rules(t, "op", false, others...))
				if g.object != "" {
					denied(g.action.String()+" is for another object", rules(t, "op", false, append(others, grant{g.action, "else"})...))
				}
			}
			denied("another principal may", rules(t, "other", false, row.needs...))
			h.feed(Policy{ACLs: rules(t, "op", false, row.needs...)})
			if got := h.as("op", row.call); got.Status != row.status {
				t.Errorf("with all permissions: %+v, want %d", got, row.status)
			}
			h.checkBooks(a)
		})
	}
}

// TestOperatorWithoutPrincipal has the permissions of everybody.
func TestOperatorWithoutPrincipal(t *testing.T) {
	h, _ := guardedHarness(t)
	h.feed(Policy{ACLs: rules(t, "op", false, grant{authz.UpdateWeights, "eng"})})
	if got := h.operate(weightsJSON("eng=2")); got.Status != 403 {
		t.Errorf("nobody is told %+v, want 403", got)
	}
	h.feed(Policy{})
	h.wantAnswer(weightsJSON("eng=2"), 200, "")
}

// TestCancelDrainPermission is that of reactivating agents.
func TestCancelDrainPermission(t *testing.T) {
	h, _ := guardedHarness(t)
	h.mustOperate(agentCall("DRAIN_AGENT", "M-S0"))
	cancel := func() Respond {
		h.request++
		h.feed(CancelDrain{Request: h.request, Principal: &authz.Principal{Value: "op"}, AgentID: "M-S0"})
		return h.answers[h.request]
	}
	h.feed(Policy{ACLs: rules(t, "op", true, grant{authz.ReactivateAgents, ""})})
	h.take()
	before := h.core.View()
	if got := cancel(); got.Status != 403 {
		t.Errorf("the answer is %+v, want 403", got)
	}
	h.onlyAnswers()
	if h.core.View() != before {
		t.Error("the view has changed")
	}
	h.feed(Policy{ACLs: rules(t, "op", false, grant{authz.ReactivateAgents, ""})})
	if got := cancel(); got.Status != 200 {
		t.Errorf("the answer is %+v, want 200", got)
	}
}

// frameworkRow is an operation in an ACCEPT and all that it needs.
type frameworkRow struct {
	name      string
	needs     []grant
	prepare   []string // operators' calls before
	operation string
	refused   string // what the framework hears, without its principal's part
}

func frameworkRows() []frameworkRow {
	mine := func(text string) string {
		return strings.ReplaceAll(strings.ReplaceAll(text, `"principal":"op"`, `"principal":"fp"`),
			`"name":`, `"allocation_info":{"role":"eng"},"name":`)
	}
	theirs := func(text string) string { return strings.ReplaceAll(text, `"principal":"op"`, `"principal":"fp"`) }
	const id = "M-S0"
	reserved, volume := owned(reservedJSON("disk", "50", "eng")), owned(diskJSON("v", "10", "eng"))
	reserve, create := theirs(resourcesCall("RESERVE_RESOURCES", id, reserved)), theirs(resourcesCall("CREATE_VOLUMES", id, volume))
	task := func(id, command string) string {
		return `{"name":"t","task_id":{"value":"` + id + `"},"agent_id":{"value":"M-S0"},"resources":[{"name":"cpus","type":"SCALAR","scalar":{"value":1}}],` + command + `}`
	}
	launch := func(tasks ...string) string {
		return `{"type":"LAUNCH","launch":{"task_infos":[` + strings.Join(tasks, ",") + `]}}`
	}
	executor := func(more string) string {
		return `"executor":{"executor_id":{"value":"e"},"command":{"value":"true"` + more + `},"resources":[{"name":"cpus","type":"SCALAR","scalar":{"value":1}},{"name":"mem","type":"SCALAR","scalar":{"value":64}},{"name":"disk","type":"SCALAR","scalar":{"value":1}}]}`
	}
	group := `{"type":"LAUNCH_GROUP","launch_group":{"executor":{"type":"DEFAULT","framework_id":{"value":"M-0000"},"executor_id":{"value":"d"},` +
		`"resources":[{"name":"cpus","type":"SCALAR","scalar":{"value":1}},{"name":"mem","type":"SCALAR","scalar":{"value":64}},{"name":"disk","type":"SCALAR","scalar":{"value":1}}]},` +
		`"task_group":{"tasks":[` + task("g1", `"command":{"value":"true"}`) + `,` + task("g2", `"command":{"value":"true","user":"bob"}`) + `]}}}`
	operation := func(kind, member string) string {
		return `{"type":"` + kind + `","id":{"value":"op1"},"` + strings.ToLower(kind) + `":{` + member + `}}`
	}
	object := func(action, value string) string {
		return "perform action " + action + ` on object {"value":"` + value + `","resource":`
	}
	rows := []frameworkRow{
		{
			"launch as the framework's user",
			[]grant{{authz.RunTasks, "alice"}},
			nil, launch(task("t1", `"command":{"value":"true"}`)),
			"TASK_ERROR REASON_TASK_UNAUTHORIZED Principal 'fp' not authorized to launch task t1 of framework M-0000 under user 'alice'",
		},
		{
			"launch as the command's user",
			[]grant{{authz.RunTasks, "bob"}},
			nil, launch(task("t1", `"command":{"value":"true","user":"bob"}`)),
			"TASK_ERROR REASON_TASK_UNAUTHORIZED Principal 'fp' not authorized to launch task t1 of framework M-0000 under user 'bob'",
		},
		{
			"launch as the executor's user",
			[]grant{{authz.RunTasks, "root"}},
			nil, launch(task("t1", executor(`,"user":"root"`))),
			"TASK_ERROR REASON_TASK_UNAUTHORIZED Principal 'fp' not authorized to launch task t1 of framework M-0000 under user 'root'",
		},
		{
			"launch of a group",
			[]grant{{authz.RunTasks, "alice"}, {authz.RunTasks, "bob"}},
			nil, group,
			"TASK_ERROR REASON_TASK_GROUP_UNAUTHORIZED Task '",
		},
		{"reserve", []grant{{authz.ReserveResources, "eng"}}, nil, operation("RESERVE", `"resources":[`+mine(reserved)+`]`), object("RESERVE_RESOURCES", "eng")},
		{"unreserve", []grant{{authz.UnreserveResources, "fp"}}, []string{reserve}, operation("UNRESERVE", `"resources":[`+mine(reserved)+`]`), object("UNRESERVE_RESOURCES", "fp")},
		{"create", []grant{{authz.CreateVolumes, "eng"}}, []string{reserve}, operation("CREATE", `"volumes":[`+mine(volume)+`]`), object("CREATE_VOLUME", "eng")},
		{"destroy", []grant{{authz.DestroyVolumes, "fp"}}, []string{reserve, create}, operation("DESTROY", `"volumes":[`+mine(volume)+`]`), object("DESTROY_VOLUME", "fp")},
		{
			"grow",
			[]grant{{authz.ResizeVolumes, "eng"}},
			[]string{reserve, create},
			operation("GROW_VOLUME", `"volume":`+mine(volume)+`,"addition":`+mine(owned(reservedJSON("disk", "5", "eng")))), object("RESIZE_VOLUME", "eng"),
		},
		{
			"shrink",
			[]grant{{authz.ResizeVolumes, "eng"}},
			[]string{reserve, create},
			operation("SHRINK_VOLUME", `"volume":`+mine(volume)+`,"subtract":{"value":5}`), object("RESIZE_VOLUME", "eng"),
		},
	}
	for _, d := range []struct {
		action         authz.Action
		name, kind, to string
	}{
		{authz.CreateMountDisks, "CREATE_MOUNT_DISK", "RAW", "MOUNT"},
		{authz.CreateBlockDisks, "CREATE_BLOCK_DISK", "RAW", "BLOCK"},
		{authz.DestroyMountDisks, "DESTROY_MOUNT_DISK", "MOUNT", ""},
		{authz.DestroyBlockDisks, "DESTROY_BLOCK_DISK", "BLOCK", ""},
		{authz.DestroyRawDisks, "DESTROY_RAW_DISK", "RAW", ""},
	} {
		text := diskSource(d.kind)
		op := operation("DESTROY_DISK", `"source":`+mine(text))
		if d.to != "" {
			op = operation("CREATE_DISK", `"source":`+mine(text)+`,"target_type":"`+d.to+`"`)
		}
		rows = append(rows, frameworkRow{strings.ToLower(d.name), []grant{{d.action, "*"}}, []string{"disk " + d.kind}, op, object(d.name, "*")})
	}
	return rows
}

// diskSource is a disk of a resource provider.
func diskSource(kind string) string {
	return `{"name":"disk","type":"SCALAR","scalar":{"value":30},"provider_id":{"value":"p"},"disk":{"source":{"type":"` + kind + `","id":"x","profile":"q"}}}`
}

// accepted lets the framework accept its newest offers with one operation, and returns what
// it hears about it.
func (h *harness) accepted(t *testing.T, text string) (heard []string) {
	t.Helper()
	op := new(mesos.Offer_Operation)
	if err := mesosjson.Unmarshal([]byte(text), op); err != nil {
		t.Fatalf("operation %s: %v", text, err)
	}
	var ids []*mesos.OfferID
	for _, o := range h.core.streams["s"].offers.Values() {
		ids = append(ids, &mesos.OfferID{Value: &o.ID})
	}
	from := len(h.streams["s"])
	h.call("s", &scheduler.Call{
		Type: scheduler.Call_ACCEPT.Enum(), FrameworkId: &mesos.FrameworkID{Value: new("M-0000")},
		Accept: &scheduler.Call_Accept{OfferIds: ids, Operations: []*mesos.Offer_Operation{op}},
	})
	for _, e := range h.streams["s"][from:] {
		if s := e.GetUpdate().GetStatus(); s != nil {
			heard = append(heard, fmt.Sprint(s.GetState(), " ", s.GetReason(), " ", s.GetMessage()))
		}
		if s := e.GetUpdateOperationStatus().GetStatus(); s != nil {
			heard = append(heard, fmt.Sprint(s.GetState(), " ", s.GetMessage()))
		}
	}
	return heard
}

// TestFrameworksPermissions accepts offers with each operation, first without each of the
// permissions that it needs, and then with all of them and no others.
func TestFrameworksPermissions(t *testing.T) {
	for _, row := range frameworkRows() {
		t.Run(row.name, func(t *testing.T) {
			for _, missing := range append(row.needs, grant{}) {
				h, a := guardedHarness(t)
				for _, call := range row.prepare {
					if kind, ok := strings.CutPrefix(call, "disk "); ok {
						h.addDisk(t, diskSource(kind))
					} else if got := h.operate(call); got.Status/100 != 2 {
						t.Fatalf("%s: %+v", call, got)
					}
				}
				h.advance(10 * time.Second)
				denied := missing.action != 0
				if denied {
					h.feed(Policy{ACLs: rules(t, "fp", true, missing)})
				} else {
					h.feed(Policy{ACLs: rules(t, "fp", false, row.needs...)})
				}
				before, told := h.total("M-S0"), len(h.links[1])
				heard := h.accepted(t, row.operation)
				if denied || !strings.Contains(row.operation, "_DISK") {
					h.checkBooks(a) // which does not know of disks in the making
				}
				if !denied {
					if len(h.links[1]) != told+1 || len(heard) != 0 {
						t.Errorf("permitted: the agent heard %d messages, the framework %q", len(h.links[1])-told, heard)
					}
					continue
				}
				if len(heard) == 0 || !strings.Contains(heard[0], row.refused) {
					t.Errorf("denied %s: the framework heard %q, want %q", missing.action, heard, row.refused)
				}
				if got := h.total("M-S0"); got != before || len(h.links[1]) != told {
					t.Errorf("denied %s: the agent has %s, before %s; it heard %v", missing.action, got, before, h.links[1][told:])
				}
				fw := h.core.framework("M-0000")
				if len(fw.cells) != 0 || fw.executors.Len() != 0 || len(fw.operationIDs) != 0 {
					t.Errorf("denied %s: there are tasks, executors or operations", missing.action)
				}
			}
		})
	}
}

// addDisk lets the agent report a disk of a resource provider.
func (h *harness) addDisk(t *testing.T, text string) {
	t.Helper()
	r := new(mesos.Resource)
	if err := mesosjson.Unmarshal([]byte(text), r); err != nil {
		t.Fatal(err)
	}
	total := registerMessage("", "a1", "cpus:8;mem:1000;disk:100").AgentInfo.Resources
	total = append(total, r)
	h.agentSays(1, &clusterdv1.AgentMessage{Message: &clusterdv1.AgentMessage_UpdateAgent{UpdateAgent: &clusterdv1.UpdateAgent{TotalResources: total}}})
}

// TestExecutorsUser is asked for, too, beside the user of the task.
func TestExecutorsUser(t *testing.T) {
	h, _ := guardedHarness(t)
	h.feed(Policy{ACLs: rules(t, "fp", true, grant{authz.RunTasks, "root"})})
	fw := h.core.framework("M-0000")
	task := &mesos.TaskInfo{
		TaskId: &mesos.TaskID{Value: new("t")}, Command: &mesos.CommandInfo{User: new("bob")},
		Executor: &mesos.ExecutorInfo{Command: &mesos.CommandInfo{User: new("root")}},
	}
	wantError(t, h.core.authorizeLaunch(fw, task), "Principal 'fp' not authorized to launch task t of framework M-0000 under user 'root'")
	task.Executor.Command.User = nil
	wantError(t, h.core.authorizeLaunch(fw, task), "")
}

// TestSubscribePermission opens the stream of a framework that may not have its roles, says
// so, and closes it.
func TestSubscribePermission(t *testing.T) {
	h, a := audited(t)
	for _, acls := range []*authz.ACLs{
		rules(t, "fp", true, grant{authz.RegisterFrameworks, "eng"}),
		rules(t, "fp", false, grant{authz.RegisterFrameworks, "ops"}),
		rules(t, "fp", false, grant{authz.RegisterFrameworks, "eng"}),   // ops is missing
		rules(t, "fp", false, grant{authz.RegisterFrameworks, "eng/%"}), // not eng itself
	} {
		h.feed(Policy{ACLs: acls})
		h.take()
		before := h.core.View()
		info := guardedFramework()
		info.Roles = []string{"ops", "eng"}
		if id := h.subscribe("x", info); id != "" {
			t.Fatalf("it is framework %s", id)
		}
		want := "open stream x\n" +
			`event x {"type":"ERROR","error":{"message":"Not authorized to register framework  with roles { eng, ops }"}}` + "\n" +
			"close stream x\n"
		if got := h.take(); got != want {
			t.Errorf("the effects are\n%swant\n%s", got, want)
		}
		if h.core.View() != before || len(h.log) != 0 {
			t.Error("the view or the registry has changed")
		}
	}
	h.feed(Policy{ACLs: rules(t, "fp", false, grant{authz.RegisterFrameworks, "eng"}, grant{authz.RegisterFrameworks, "ops"})})
	info := guardedFramework()
	info.Roles = []string{"ops", "eng"}
	if id := h.subscribe("s", info); id != "M-0000" {
		t.Errorf("it is framework %q, want M-0000", id)
	}
	// One that comes back is asked again.
	h.feed(Policy{ACLs: rules(t, "fp", false, grant{authz.RegisterFrameworks, "eng"})})
	info.Id = &mesos.FrameworkID{Value: new("M-0000")}
	if h.subscribe("y", info) != "" || !h.core.framework("M-0000").connected() {
		t.Error("a framework that may not have its roles any more came back, or lost its old connection")
	}
	h.checkBooks(a)
}

// TestUpdateFrameworkPermission refuses roles that the framework may not have.
func TestUpdateFrameworkPermission(t *testing.T) {
	h, a := guardedHarness(t)
	update := func() Respond {
		info := guardedFramework()
		info.Id, info.Roles = &mesos.FrameworkID{Value: new("M-0000")}, []string{"eng", "ops"}
		return h.call("s", &scheduler.Call{
			Type: scheduler.Call_UPDATE_FRAMEWORK.Enum(), FrameworkId: info.Id,
			UpdateFramework: &scheduler.Call_UpdateFramework{FrameworkInfo: info},
		})
	}
	h.feed(Policy{ACLs: rules(t, "fp", true, grant{authz.RegisterFrameworks, "ops"})})
	h.take()
	before := h.core.View()
	if got := update(); got.Status != 403 || got.Body != "Not authorized to register framework M-0000 with roles { eng, ops }" {
		t.Errorf("the answer is %+v", got)
	}
	h.onlyAnswers()
	if h.core.View() != before {
		t.Error("the view has changed")
	}
	h.feed(Policy{})
	if got := update(); got.Status != 200 || !h.core.framework("M-0000").hasRole("ops") {
		t.Errorf("the answer is %+v, want 200 and the role", got)
	}
	h.checkBooks(a)
}

// TestAgentPermission refuses agents that may not register or hold what they say is
// reserved, and tells them why.
func TestAgentPermission(t *testing.T) {
	register, forEng := grant{authz.RegisterAgents, ""}, grant{authz.ReserveResources, "eng"}
	tests := []struct {
		name      string
		acls      *authz.ACLs
		principal *authz.Principal
		resources string
		want      string // why not
	}{
		{"everybody", nil, nil, "cpus:4", ""},
		{"permitted", rules(t, "ap", false, register), &authz.Principal{Value: "ap"}, "cpus:4", ""},
		{
			"denied", rules(t, "ap", true, register), &authz.Principal{Value: "ap"}, "cpus:4",
			"Not authorized to register agent providing resources 'cpus:4' with principal 'ap'",
		},
		{
			"another", rules(t, "ap", false, register), &authz.Principal{Value: "other"}, "cpus:4",
			"Not authorized to register agent providing resources 'cpus:4' with principal 'other'",
		},
		{"nobody", rules(t, "ap", false, register), nil, "cpus:4", "Not authorized to register agent providing resources 'cpus:4' without a principal"},
		{
			"an executor", rules(t, "ap", true), &authz.Principal{Claims: map[string]string{"cid": "c"}}, "cpus:4",
			"Not authorized to register agent providing resources 'cpus:4' with principal '(claims)'",
		},
		{
			"reservations", rules(t, "ap", false, register), &authz.Principal{Value: "ap"}, "cpus:4;mem(eng):100",
			"Not authorized to register agent providing resources 'cpus:4; mem(reservations: [(STATIC,eng)]):100' with principal 'ap'",
		},
		{"permitted reservations", rules(t, "ap", false, register, forEng), &authz.Principal{Value: "ap"}, "cpus:4;mem(eng):100", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h, a := audited(t)
			h.feed(Policy{ACLs: tt.acls})
			before := h.core.View()
			h.feed(AgentMessage{Link: 1, Principal: tt.principal, Message: &clusterdv1.AgentMessage{
				Message: &clusterdv1.AgentMessage_Register{Register: registerMessage("", "a1", tt.resources)},
			}})
			last := h.links[1][len(h.links[1])-1]
			if tt.want == "" {
				if last.GetRegistered() == nil {
					t.Errorf("the agent heard %v, want that it is registered", last)
				}
				return
			}
			if r := last.GetRefused(); r.GetMessage() != tt.want || r.GetShutdown() || !h.cut[1] {
				t.Errorf("the agent heard %v, want %q, and is cut off: %t", last, tt.want, h.cut[1])
			}
			if h.core.View() != before || len(h.log) != 0 {
				t.Error("the view or the registry has changed")
			}
			h.checkBooks(a)
		})
	}
}

// TestAgentPermissionOnReturn asks agents that come back, too.
func TestAgentPermissionOnReturn(t *testing.T) {
	h, a := guardedHarness(t)
	h.feed(LinkClosed{Link: 1, Reason: "cut"})
	h.feed(Policy{ACLs: rules(t, "ap", false, grant{authz.RegisterAgents, ""})})
	if id := h.register(2, registerMessage("M-S0", "a1", "cpus:8;mem:1000;disk:100")); id != "" || !h.cut[2] {
		t.Error("an agent came back that may not")
	}
	want := "Not authorized to reregister agent providing resources 'cpus:8; mem:1000; disk:100' without a principal"
	if got := h.links[2][0].GetRefused().GetMessage(); got != want {
		t.Errorf("it heard %q, want %q", got, want)
	}
	h.feed(Policy{})
	if id := h.register(3, registerMessage("M-S0", "a1", "cpus:8;mem:1000;disk:100")); id != "M-S0" {
		t.Errorf("it came back as %q, want M-S0", id)
	}
	h.checkBooks(a)
}

// TestEveryGuardIsTested holds the actions that the sources of this package name against
// those that the tests above deny.
func TestEveryGuardIsTested(t *testing.T) {
	tested := map[authz.Action]bool{authz.RegisterFrameworks: true, authz.RegisterAgents: true}
	for _, r := range operatorRows() {
		for _, g := range r.needs {
			tested[g.action] = true
		}
	}
	for _, r := range frameworkRows() {
		for _, g := range r.needs {
			tested[g.action] = true
		}
	}
	sources, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	named := map[string]bool{}
	for _, file := range sources {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`authz\.([A-Z]\w+)`).FindAllStringSubmatch(string(text), -1) {
			named[strings.ToLower(m[1])] = true
		}
	}
	for _, a := range authz.Actions() {
		in := named[strings.ReplaceAll(a.String(), "_", "")]
		if in != tested[a] {
			t.Errorf("%s: the core asks for it: %t, a test denies it: %t", a, in, tested[a])
		}
	}
}
