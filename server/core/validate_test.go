package core

import (
	"math"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"clusterd/allocator/resources"
	mesos "clusterd/api/mesos/v1"
	"clusterd/api/mesos/v1/scheduler"
	"clusterd/api/mesosjson"
	"clusterd/internal/authz"
)

// fixture is a framework on an agent with an executor "e" and a task "taken".
func fixture(t *testing.T) (*Core, *framework, *agent) {
	t.Helper()
	h := newHarness(t, testConfig(), Recovered{})
	h.subscribe("s", &mesos.FrameworkInfo{
		User: new("u"), Name: new("f"), Roles: []string{"eng"},
		Capabilities: []*mesos.FrameworkInfo_Capability{{Type: mesos.FrameworkInfo_Capability_MULTI_ROLE.Enum()}},
	})
	h.register(1, registerMessage("", "a1", "cpus:8;mem:4096;disk:1000;ports:[1000-1010];gpus:2"))
	fw, ag := h.core.framework("M-0000"), h.core.agent("M-S0")
	if fw == nil || ag == nil {
		t.Fatal("no framework or agent")
	}
	e := parse[mesos.ExecutorInfo](t, groupExecutor)
	allocateTo("eng", e.Resources)
	h.core.addExecutor(fw, ag, e)
	h.core.addTask(&Task{ID: "taken", AgentID: ag.id, ExecutorID: "e"}, fw, ag, false)
	return h.core, fw, ag
}

const groupExecutor = `{"type":"DEFAULT","executor_id":{"value":"e"},"framework_id":{"value":"M-0000"},
 "resources":[{"name":"cpus","type":"SCALAR","scalar":{"value":0.1}},{"name":"mem","type":"SCALAR","scalar":{"value":32}},{"name":"disk","type":"SCALAR","scalar":{"value":5}}]}`

func parse[T any, PT interface {
	*T
	proto.Message
}](t *testing.T, text string) PT {
	t.Helper()
	m := PT(new(T))
	if err := mesosjson.Unmarshal([]byte(text), m); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return m
}

// wantError compares an error's text with the beginning that is expected; "" is
// no error.
func wantError(t *testing.T, got error, want string) {
	t.Helper()
	switch {
	case want == "" && got != nil:
		t.Errorf("got error %q, want none", got)
	case want != "" && got == nil:
		t.Errorf("got no error, want %q", want)
	case want != "" && !strings.HasPrefix(got.Error(), want):
		t.Errorf("got error %q, want %q", got, want)
	}
}

func TestValidateTask(t *testing.T) {
	const base = `{"name":"t","task_id":{"value":"t"},"agent_id":{"value":"M-S0"},"command":{"value":"true"},
	 "resources":[{"name":"cpus","type":"SCALAR","scalar":{"value":1}},{"name":"mem","type":"SCALAR","scalar":{"value":64}}]`
	custom := func(rest string) string {
		return base + `,"command":null,"executor":{"executor_id":{"value":"c"},"framework_id":{"value":"M-0000"},"command":{"value":"x"},
		 "resources":[{"name":"cpus","type":"SCALAR","scalar":{"value":0.1}},{"name":"mem","type":"SCALAR","scalar":{"value":32}}]` + rest + `}}`
	}
	tests := []struct{ name, task, want string }{
		{"plain", base + `}`, ""},
		{"empty id", base + `,"task_id":{"value":""}}`, "ID must not be empty"},
		{"dot", base + `,"task_id":{"value":".."}}`, "'..' is disallowed"},
		{"slash", base + `,"task_id":{"value":"a/b"}}`, "'a/b' contains invalid characters"},
		{"control character", base + `,"task_id":{"value":"a\u0001"}}`, "'a\x01' contains invalid characters"},
		{"255 characters", base + `,"task_id":{"value":"` + strings.Repeat("x", 255) + `"}}`, ""},
		{"256 characters", base + `,"task_id":{"value":"` + strings.Repeat("x", 256) + `"}}`, "ID must not be greater than 255 characters"},
		{"taken", base + `,"task_id":{"value":"taken"}}`, "Task has duplicate ID: taken"},
		{"other agent", base + `,"agent_id":{"value":"x"}}`, "Task uses invalid agent x while agent M-S0 is expected"},
		{"grace period", base + `,"kill_policy":{"grace_period":{"nanoseconds":-1}}}`, "Task's 'kill_policy.grace_period' must be non-negative"},
		{"completion time", base + `,"max_completion_time":{"nanoseconds":-1}}`, "Task's `max_completion_time` must be non-negative"},
		{"check without type", base + `,"check":{}}`, "Task uses invalid check: CheckInfo must specify 'type'"},
		{"check without command", base + `,"check":{"type":"COMMAND"}}`, "Task uses invalid check: Expecting 'command' to be set for COMMAND check"},
		{"check of nothing", base + `,"check":{"type":"COMMAND","command":{"command":{}}}}`, "Task uses invalid check: Command check must contain 'shell command'"},
		{"check path", base + `,"check":{"type":"HTTP","http":{"port":80,"path":"x"}}}`, "Task uses invalid check: The path 'x' of HTTP check must start with '/'"},
		{"check delay", base + `,"check":{"type":"TCP","tcp":{"port":80},"delay_seconds":-1}}`, "Task uses invalid check: Expecting 'delay_seconds' to be non-negative"},
		{"health without type", base + `,"health_check":{}}`, "Task uses invalid health check: HealthCheck must specify 'type'"},
		{"health scheme", base + `,"health_check":{"type":"HTTP","http":{"port":80,"scheme":"ftp"}}}`, "Task uses invalid health check: Unsupported HTTP health check scheme: 'ftp'"},
		{"health tcp", base + `,"health_check":{"type":"TCP"}}`, "Task uses invalid health check: Expecting 'tcp' to be set for TCP health check"},
		{"health command", base + `,"health_check":{"type":"COMMAND","command":{"shell":false}}}`, "Task uses invalid health check: Command health check must contain 'executable path'"},
		{"health timeout", base + `,"health_check":{"type":"TCP","tcp":{"port":1},"timeout_seconds":-0.5}}`, "Task uses invalid health check: Expecting 'timeout_seconds' to be non-negative"},
		{"no resources", base + `,"resources":[]}`, "Task uses no resources"},
		{"negative", base + `,"resources":[{"name":"cpus","type":"SCALAR","scalar":{"value":-1}}]}`, "Task uses invalid resources: Invalid resources: "},
		{"half a gpu", base + `,"resources":[{"name":"gpus","type":"SCALAR","scalar":{"value":0.5}}]}`, "Task uses invalid resources: Invalid 'gpus' resource: The 'gpus' resource must be an unsigned integer"},
		{
			"volume of nobody", base + `,"resources":[{"name":"disk","type":"SCALAR","scalar":{"value":1},"disk":{"persistence":{"id":"v"},"volume":{"container_path":"p","mode":"RW"}}}]}`,
			"Task uses invalid resources: Invalid DiskInfo: Persistent volumes cannot be created from unreserved resources",
		},
		{
			"volume without persistence", base + `,"resources":[{"name":"disk","type":"SCALAR","scalar":{"value":1},"disk":{"volume":{"container_path":"p","mode":"RW"}}}]}`,
			"Task uses invalid resources: Invalid DiskInfo: Non-persistent volume not supported",
		},
		{"empty disk", base + `,"resources":[{"name":"disk","type":"SCALAR","scalar":{"value":1},"disk":{}}]}`, "Task uses invalid resources: Invalid DiskInfo: DiskInfo is set but empty"},
		{
			"two roles", base + `,"resources":[{"name":"cpus","type":"SCALAR","scalar":{"value":1},"allocation_info":{"role":"a"}},{"name":"mem","type":"SCALAR","scalar":{"value":1},"allocation_info":{"role":"b"}}]}`,
			"Invalid task resources: The resources have multiple allocation roles ('b' and 'a') but only one allocation role is allowed",
		},
		{
			"revocable and not", base + `,"resources":[{"name":"cpus","type":"SCALAR","scalar":{"value":1}},{"name":"cpus","type":"SCALAR","scalar":{"value":1},"revocable":{}}]}`,
			"Task mixes revocable and non-revocable resources: Cannot use both revocable and non-revocable 'cpus' at the same time",
		},
		{"same volume twice", base + `,"resources":[` + volumeJSON("v", "p") + `,` + volumeJSON("v", "q") + `]}`, "Task uses duplicate persistence ID: Persistence ID 'v' is not unique"},
		{"environment", base + `,"command":{"value":"x","environment":{"variables":[{"name":"A"}]}}}`, "Task's `CommandInfo` is invalid: Environment variable 'A' of type 'VALUE' must have a value set"},
		{"secret", base + `,"command":{"value":"x","environment":{"variables":[{"name":"A","type":"SECRET","value":"x"}]}}}`, "Task's `CommandInfo` is invalid: Environment variable 'A' of type 'SECRET' must have a secret set"},
		{"docker without docker", base + `,"container":{"type":"DOCKER"}}`, "Task's `ContainerInfo` is invalid: DockerInfo 'docker' is not set for DOCKER typed ContainerInfo"},
		{"docker name", base + `,"container":{"type":"DOCKER","docker":{"image":"i","parameters":[{"key":"name","value":"x"}]}}}`, "Task's `ContainerInfo` is invalid: Parameter in DockerInfo must not be 'name'"},
		{"volume of two kinds", base + `,"container":{"type":"MESOS","volumes":[{"mode":"RW","container_path":"p"}]}}`, "Task's `ContainerInfo` is invalid: Invalid volume: Only one of them should be set"},
		{"volume source", base + `,"container":{"type":"MESOS","volumes":[{"mode":"RW","container_path":"p","source":{"type":"SECRET"}}]}}`, "Task's `ContainerInfo` is invalid: Invalid volume: 'source.secret' is not set for SECRET volume"},
		{"limits", base + `,"limits":{"cpus":{"value":2},"mem":{"value":"Infinity"}}}`, ""},
		{"limit below request", base + `,"limits":{"cpus":{"value":0.5}}}`, "The cpu limit must be greater than or equal to the cpu request"},
		{"memory limit below request", base + `,"limits":{"mem":{"value":32}}}`, "The memory limit must be greater than or equal to the memory request"},
		{"limit of disk", base + `,"limits":{"disk":{"value":1}}}`, "Only cpus and mem may be included in a task's resource limits"},
		{"limit without request", base + `,"resources":[{"name":"mem","type":"SCALAR","scalar":{"value":1}}],"limits":{"cpus":{"value":1}}}`, "When a CPU limit is specified, a CPU request must also be specified"},
		{"neither command nor executor", base + `,"command":null}`, "Task should have at least one (but not both) of CommandInfo or ExecutorInfo present"},
		{"more than offered", base + `,"resources":[{"name":"cpus","type":"SCALAR","scalar":{"value":9}}]}`, "Total resources cpus(allocated: eng):9 required by task and its executor is more than available "},
		{"share_cgroups", base + `,"container":{"type":"MESOS","linux_info":{"share_cgroups":false}}}`, "Only tasks in a task group may have 'share_cgroups' set to 'false'"},
		{"custom executor", custom(""), ""},
		{"executor of another", custom(`,"framework_id":{"value":"x"}`), "ExecutorInfo has an invalid FrameworkID (Actual: x vs Expected: M-0000)"},
		{"executor id", custom(`,"executor_id":{"value":"a/b"}`), "'a/b' contains invalid characters"},
		{"default executor", custom(`,"type":"DEFAULT","command":null`), "'ExecutorInfo.type' must be 'CUSTOM'"},
		{"default executor with command", custom(`,"type":"DEFAULT"`), "'ExecutorInfo.command' must not be set for 'DEFAULT' executor"},
		{"executor without command", custom(`,"command":null`), "'ExecutorInfo.command' must be set"},
		{"executor grace", custom(`,"shutdown_grace_period":{"nanoseconds":-1}`), "ExecutorInfo's 'shutdown_grace_period' must be non-negative"},
		{"known executor that differs", custom(`,"executor_id":{"value":"e"}`), "ExecutorInfo is not compatible with existing ExecutorInfo with same ExecutorID.\n"},
		{"executor with all", custom(`,"resources":[{"name":"cpus","type":"SCALAR","scalar":{"value":7.5}}]`), "Total resources "},
		{"same port", custom(`,"resources":[{"name":"ports","type":"RANGES","ranges":{"range":[{"begin":1000,"end":1001}]}}]`), ""},
		{"executor share_cgroups", custom(`,"container":{"type":"MESOS","linux_info":{"share_cgroups":true}}`), "The 'share_cgroups' field cannot be set to 'true' on executor containers"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c, fw, ag := fixture(t)
			task := parse[mesos.TaskInfo](t, tt.task)
			allocateTo("eng", task.Resources, task.GetExecutor().GetResources())
			wantError(t, c.validateTask(task, fw, ag, ag.total.Allocate("eng")), tt.want)
		})
	}
}

func volumeJSON(id, path string) string {
	return `{"name":"disk","type":"SCALAR","scalar":{"value":1},"reservations":[{"type":"DYNAMIC","role":"eng"}],
	 "disk":{"persistence":{"id":"` + id + `"},"volume":{"container_path":"` + path + `","mode":"RW"}}}`
}

func TestValidateTaskOverlap(t *testing.T) {
	c, fw, ag := fixture(t)
	ports := `{"name":"ports","type":"RANGES","ranges":{"range":[{"begin":1000,"end":1001}]}}`
	task := parse[mesos.TaskInfo](t, `{"name":"t","task_id":{"value":"t"},"agent_id":{"value":"M-S0"},"resources":[`+ports+`],
	 "executor":{"executor_id":{"value":"c"},"framework_id":{"value":"M-0000"},"command":{"value":"x"},"resources":[`+ports+`]}}`)
	allocateTo("eng", task.Resources, task.Executor.Resources)
	wantError(t, c.validateTask(task, fw, ag, ag.total.Allocate("eng")), "There are overlapping resources in the task resources ")
}

func TestValidateTaskWithoutCapability(t *testing.T) {
	c, fw, ag := fixture(t)
	ag.capabilities = nil
	task := parse[mesos.TaskInfo](t, `{"name":"t","task_id":{"value":"t"},"agent_id":{"value":"M-S0"},"command":{"value":"x"},
	 "limits":{"cpus":{"value":2}},"resources":[{"name":"cpus","type":"SCALAR","scalar":{"value":1},"allocation_info":{"role":"eng"}}]}`)
	wantError(t, c.validateTask(task, fw, ag, ag.total.Allocate("eng")), "Agent is not capable of handling task resource limits")
}

func TestValidateGroup(t *testing.T) {
	task := func(id, rest string) string {
		return `{"name":"t","task_id":{"value":"` + id + `"},"agent_id":{"value":"M-S0"},"command":{"value":"x"},
		 "resources":[{"name":"cpus","type":"SCALAR","scalar":{"value":1}}]` + rest + `}`
	}
	group := func(executor string, tasks ...string) string {
		return `{"executor":` + executor + `,"task_group":{"tasks":[` + strings.Join(tasks, ",") + `]}}`
	}
	with := func(rest string) string { return strings.TrimSuffix(groupExecutor, "}") + rest + "}" }
	isolated := `,"container":{"type":"MESOS","linux_info":{"share_cgroups":false}}`
	fresh := `,"executor_id":{"value":"new"}`
	tests := []struct{ name, group, want string }{
		{"plain", group(groupExecutor, task("t1", ""), task("t2", "")), ""},
		{"no tasks", group(groupExecutor), "Task group has no tasks"},
		{"same id", group(groupExecutor, task("t1", ""), task("t1", "")), "Task 't1' is invalid: Task has duplicate ID: t1"},
		{"bad task", group(groupExecutor, task("t1", ""), task("..", "")), "Task '..' is invalid: '..' is disallowed"},
		{"docker task", group(groupExecutor, task("t1", `,"container":{"type":"DOCKER","docker":{"image":"i"}}`)), "Task 't1' is invalid: Docker ContainerInfo is not supported on the task"},
		{
			"http health", group(groupExecutor, task("t1", `,"container":{"type":"MESOS","network_infos":[{}]},"health_check":{"type":"HTTP","http":{"port":1}}`)),
			"Task 't1' is invalid: HTTP and TCP health checks are not supported for nested containers not joining parent's network",
		},
		{"limits", group(groupExecutor, task("t1", `,"limits":{"cpus":{"value":2}}`)), "Task 't1' is invalid: Resource limits may only be set for tasks within a task group when"},
		{"limits of its own", group(with(fresh), task("t1", `,"limits":{"cpus":{"value":2}}`+isolated)), ""},
		{"no type", group(with(fresh+`,"type":null`), task("t1", "")), "'ExecutorInfo.type' must be set"},
		{"image", group(with(`,"container":{"type":"MESOS","mesos":{"image":{"type":"DOCKER"}}}`), task("t1", "")), "'ExecutorInfo.container.mesos.image' must not be set for 'DEFAULT' executor"},
		{"docker executor", group(with(`,"container":{"type":"DOCKER","docker":{"image":"i"}}`), task("t1", "")), "'ExecutorInfo.container.type' must be 'MESOS' for 'DEFAULT' executor"},
		{"another executor", group(groupExecutor, task("t1", `,"executor":`+with(`,"name":"x"`))), "The `ExecutorInfo` of task 't1' is different from executor 'e'"},
		{"no cpus", group(with(fresh+`,"resources":[{"name":"mem","type":"SCALAR","scalar":{"value":32}}]`), task("t1", "")), "Executor 'new' uses less CPUs (None) than the minimum required (0.01)"},
		{
			"little memory", group(with(fresh+`,"resources":[{"name":"cpus","type":"SCALAR","scalar":{"value":1}},{"name":"mem","type":"SCALAR","scalar":{"value":31}}]`), task("t1", "")),
			"Executor 'new' uses less memory (31MB) than the minimum required (32MB)",
		},
		{"no disk", group(with(fresh+`,"resources":[{"name":"cpus","type":"SCALAR","scalar":{"value":1}},{"name":"mem","type":"SCALAR","scalar":{"value":32}}]`), task("t1", "")), "Executor 'new' uses no disk"},
		{"too much", group(groupExecutor, task("t1", ""), task("t2", `,"resources":[{"name":"cpus","type":"SCALAR","scalar":{"value":7.5}}]`)), "Total resources cpus(allocated: eng):8.5 required by task group and its executor are more than available"},
		{"mixed cgroups", group(with(fresh), task("t1", ""), task("t2", isolated)), "If set, the value of 'share_cgroups' must be the same for all tasks"},
		{"other cgroups than the executor's", group(groupExecutor, task("t1", isolated)), "If set, the value of 'share_cgroups' must be the same for all tasks"},
		{
			"overlapping ports", group(groupExecutor,
				task("t1", `,"resources":[{"name":"ports","type":"RANGES","ranges":{"range":[{"begin":1000,"end":1000}]}}]`),
				task("t2", `,"resources":[{"name":"ports","type":"RANGES","ranges":{"range":[{"begin":1000,"end":1000}]}}]`)),
			"There are overlapping resources in the task group's task resources",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c, fw, ag := fixture(t)
			op := &mesos.Offer_Operation{
				Type:        mesos.Offer_Operation_LAUNCH_GROUP.Enum(),
				LaunchGroup: parse[mesos.Offer_Operation_LaunchGroup](t, tt.group),
			}
			normalize(op, fw, "eng")
			wantError(t, c.validateGroup(op.LaunchGroup, fw, ag, ag.total.Allocate("eng")), tt.want)
		})
	}
}

func TestValidateOperation(t *testing.T) {
	reserved := `"reservations":[{"type":"DYNAMIC","role":"eng"}]`
	cpus := `"name":"cpus","type":"SCALAR","scalar":{"value":1}`
	disk := `{"name":"disk","type":"SCALAR","scalar":{"value":5},` + reserved
	vol := func(rest string) string { return strings.TrimSuffix(volumeJSON("v", "p"), "}") + rest + "}" }
	raw := `"source":{"name":"disk","type":"SCALAR","scalar":{"value":1},"provider_id":{"value":"p"},"disk":{"source":{"type":"RAW"`
	tests := []struct{ name, op, want string }{
		{"reserve", `{"type":"RESERVE","reserve":{"resources":[{` + cpus + `,` + reserved + `}]}}`, ""},
		{"reserve unreserved", `{"type":"RESERVE","reserve":{"resources":[{` + cpus + `}]}}`, "Resource cpus(allocated: eng):1 is not dynamically reserved"},
		{
			"reserve for a role of others", `{"type":"RESERVE","reserve":{"resources":[{` + cpus + `,"allocation_info":{"role":"ops"},"reservations":[{"type":"DYNAMIC","role":"ops"}]}]}}`,
			"A reserve operation was attempted for a resource allocated to role 'ops', but the framework only has roles '{ eng }'",
		},
		{"reserve revocable", `{"type":"RESERVE","reserve":{"resources":[{` + cpus + `,"revocable":{},` + reserved + `}]}}`, "Invalid resources: Invalid"},
		{
			"reserve of two providers", `{"type":"RESERVE","reserve":{"resources":[{` + cpus + `,` + reserved + `},{` + cpus + `,"provider_id":{"value":"p"},` + reserved + `}]}}`,
			"Invalid resources: Some resources have a resource provider and some do not",
		},
		{"unreserve", `{"type":"UNRESERVE","unreserve":{"resources":[{` + cpus + `,` + reserved + `}]}}`, ""},
		{"unreserve static", `{"type":"UNRESERVE","unreserve":{"resources":[{` + cpus + `,"reservations":[{"type":"STATIC","role":"eng"}]}]}}`, "Resource "},
		{"unreserve a volume", `{"type":"UNRESERVE","unreserve":{"resources":[` + vol("") + `]}}`, "A dynamically reserved persistent volume "},
		{"create", `{"type":"CREATE","create":{"volumes":[` + vol("") + `]}}`, ""},
		{"create no volume", `{"type":"CREATE","create":{"volumes":[` + disk + `}]}}`, "Not a persistent volume: Resource "},
		{"create read-only", `{"type":"CREATE","create":{"volumes":[` + disk + `,"disk":{"persistence":{"id":"v"},"volume":{"container_path":"p","mode":"RO"}}}]}}`, "Not a persistent volume: Read-only persistent volume not supported"},
		{
			"create with host path", `{"type":"CREATE","create":{"volumes":[` + disk + `,"disk":{"persistence":{"id":"v"},"volume":{"container_path":"p","host_path":"/x","mode":"RW"}}}]}}`,
			"Invalid resources: Invalid DiskInfo: Expecting 'host_path' to be unset for persistent volume",
		},
		{
			"create with a bad id", `{"type":"CREATE","create":{"volumes":[` + disk + `,"disk":{"persistence":{"id":"a/b"},"volume":{"container_path":"p","mode":"RW"}}}]}}`,
			"Invalid resources: Invalid DiskInfo: Invalid persistence ID for persistent volume: 'a/b' contains invalid characters",
		},
		{"create what is there", `{"type":"CREATE","create":{"volumes":[` + volumeJSON("there", "p") + `]}}`, "Persistence ID 'there' is not unique"},
		{"create shared", `{"type":"CREATE","create":{"volumes":[` + vol(`,"shared":{}`) + `]}}`, "Create volume operation for '"},
		{"destroy", `{"type":"DESTROY","destroy":{"volumes":[` + volumeJSON("there", "p") + `]}}`, ""},
		{"destroy what is not there", `{"type":"DESTROY","destroy":{"volumes":[` + vol("") + `]}}`, "Persistent volumes not found"},
		{"destroy what is used", `{"type":"DESTROY","destroy":{"volumes":[` + volumeJSON("used", "p") + `]}}`, "Persistent volumes in use"},
		{"grow by nothing", `{"type":"GROW_VOLUME","grow_volume":{"volume":` + vol("") + `,"addition":` + strings.Replace(disk, `5`, `0`, 1) + `}}}`, "The size of 'GrowVolume.addition' field must be greater than zero"},
		{"grow by cpus", `{"type":"GROW_VOLUME","grow_volume":{"volume":` + vol("") + `,"addition":{` + cpus + `,` + reserved + `}}}`, "Incompatible resources in the 'GrowVolume.volume' and 'GrowVolume.addition' fields"},
		{"grow", `{"type":"GROW_VOLUME","grow_volume":{"volume":` + vol("") + `,"addition":` + disk + `}}}`, ""},
		{"grow shared", `{"type":"GROW_VOLUME","grow_volume":{"volume":` + vol(`,"shared":{}`) + `,"addition":` + disk + `}}}`, "Growing a shared persistent volume is not supported"},
		{"shrink", `{"type":"SHRINK_VOLUME","shrink_volume":{"volume":` + vol("") + `,"subtract":{"value":0.5}}}`, ""},
		{"shrink to nothing", `{"type":"SHRINK_VOLUME","shrink_volume":{"volume":` + vol("") + `,"subtract":{"value":1}}}`, "Value of 'ShrinkVolume.subtract' must be smaller than the size of 'ShrinkVolume.volume'"},
		{"shrink by nothing", `{"type":"SHRINK_VOLUME","shrink_volume":{"volume":` + vol("") + `,"subtract":{"value":-1}}}`, "Value of 'ShrinkVolume.subtract' must be greater than zero"},
		{"create disk", `{"type":"CREATE_DISK","create_disk":{` + raw + `}}},"target_type":"MOUNT","target_profile":"p"}}`, ""},
		{"create disk without profile", `{"type":"CREATE_DISK","create_disk":{` + raw + `}}},"target_type":"MOUNT"}}`, "'target_profile' must be set when 'source' has no profile"},
		{"create disk with two profiles", `{"type":"CREATE_DISK","create_disk":{` + raw + `,"profile":"x"}}},"target_type":"BLOCK","target_profile":"p"}}`, "'target_profile' must not be set when 'source' has a profile"},
		{"create disk path", `{"type":"CREATE_DISK","create_disk":{` + raw + `}}},"target_type":"PATH"}}`, "'target_type' is neither MOUNT or BLOCK"},
		{"destroy disk", `{"type":"DESTROY_DISK","destroy_disk":{` + raw + `,"id":"i"}}}}}`, ""},
		{"destroy disk without id", `{"type":"DESTROY_DISK","destroy_disk":{` + raw + `}}}}}`, "'source' is not backed by a CSI volume"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, fw, ag := fixture(t)
			there := parse[mesos.Resource](t, volumeJSON("there", "p"))
			used := parse[mesos.Resource](t, volumeJSON("used", "p"))
			ag.total = ag.total.Add(resources.MustFromProto([]*mesos.Resource{there, used}))
			ag.used = ag.used.Add(resources.MustFromProto([]*mesos.Resource{used}).Allocate("eng"))
			op := parse[mesos.Offer_Operation](t, tt.op)
			allocateOperation(op, "eng")
			wantError(t, validateOperation(op, fw, ag), tt.want)
		})
	}
}

func TestValidateOperationPrincipal(t *testing.T) {
	_, fw, ag := fixture(t)
	fw.info.Principal = new("p")
	reserve := func(principal string) *mesos.Offer_Operation {
		op := parse[mesos.Offer_Operation](t, `{"type":"RESERVE","reserve":{"resources":[{"name":"cpus","type":"SCALAR","scalar":{"value":1},
		 "reservations":[{"type":"DYNAMIC","role":"eng"`+principal+`}]}]}}`)
		allocateOperation(op, "eng")
		return op
	}
	wantError(t, validateOperation(reserve(""), fw, ag), "A reserve operation was attempted by principal 'p', but there is a reserved resource in the request with no principal set")
	wantError(t, validateOperation(reserve(`,"principal":"q"`), fw, ag), "A reserve operation was attempted by authenticated principal 'p', which does not match")
	wantError(t, validateOperation(reserve(`,"principal":"p"`), fw, ag), "")
}

func TestValidateOperationWithoutCapabilities(t *testing.T) {
	_, fw, ag := fixture(t)
	ag.capabilities = nil
	fw.roles = []string{"eng", "eng/web"}
	op := parse[mesos.Offer_Operation](t, `{"type":"RESERVE","reserve":{"resources":[{"name":"cpus","type":"SCALAR","scalar":{"value":1},
	 "allocation_info":{"role":"eng/web"},"reservations":[{"type":"DYNAMIC","role":"eng/web"}]}]}}`)
	wantError(t, validateOperation(op, fw, ag), "Resource cpus(allocated: eng/web)(reservations: [(DYNAMIC,eng/web)]):1 with reservation for hierarchical role")
}

func TestValidateFrameworkInfo(t *testing.T) {
	const multi = `"capabilities":[{"type":"MULTI_ROLE"}]`
	tests := []struct{ name, info, want string }{
		{"default role", `{"user":"u","name":"f"}`, ""},
		{"roles", `{"user":"u","name":"f","roles":["a","b/c"],` + multi + `}`, ""},
		{"roles without capability", `{"user":"u","name":"f","roles":["a"]}`, "'FrameworkInfo.roles' must not be set when the framework is not MULTI_ROLE capable"},
		{"role with capability", `{"user":"u","name":"f","role":"a",` + multi + `}`, "'FrameworkInfo.role' must not be set when the framework is MULTI_ROLE capable"},
		{"role twice", `{"user":"u","name":"f","roles":["a","b","a"],` + multi + `}`, "'FrameworkInfo.roles' contains duplicate items: { a }"},
		{"bad role", `{"user":"u","name":"f","roles":["/a"],` + multi + `}`, "'FrameworkInfo.roles' contains invalid role: Role '/a' cannot start with a slash"},
		{"bad single role", `{"user":"u","name":"f","role":"a b"}`, "'FrameworkInfo.role' is not a valid role: "},
		{"bad id", `{"user":"u","name":"f","id":{"value":"a/b"}}`, "'a/b' contains invalid characters"},
		{"timeout", `{"user":"u","name":"f","failover_timeout":1e20}`, "The framework failover_timeout (1e+20) is invalid"},
		{"empty quantities", `{"user":"u","name":"f","offer_filters":{"*":{"min_allocatable_resources":{"quantities":[{}]}}}}`, "Resource quantities must contain at least one quantity"},
		{
			"negative quantity", `{"user":"u","name":"f","offer_filters":{"*":{"min_allocatable_resources":{"quantities":[{"quantities":{"cpus":{"value":-1}}}]}}}}`,
			"Invalid resource quantity for 'cpus': Negative values not supported",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			wantError(t, validateFrameworkInfo(parse[mesos.FrameworkInfo](t, tt.info)), tt.want)
		})
	}
	info := &mesos.FrameworkInfo{FailoverTimeout: new(math.NaN())}
	wantError(t, validateFrameworkInfo(info), "The framework failover_timeout (NaN) is invalid")
}

func TestValidateConstraints(t *testing.T) {
	one := func(constraint string) string {
		return `{"role_constraints":{"a":{"groups":[{"attribute_constraints":[` + constraint + `]}]}}}`
	}
	tests := []struct{ name, constraints, want string }{
		{"none", `{}`, ""},
		{"exists", one(`{"selector":{"attribute_name":"x"},"predicate":{"exists":{}}}`), ""},
		{"regex", one(`{"selector":{"pseudoattribute_type":"HOSTNAME"},"predicate":{"text_not_matches":{"regex":"a.*"}}}`), ""},
		{"unknown role", `{"role_constraints":{"b":{"groups":[]}}}`, "Offer constraints specify `role_constraints` for a role 'b'"},
		{"no groups", `{"role_constraints":{"a":{}}}`, "Offer constraints are not valid: 'OfferConstraints::role_constraints' has an empty 'RoleConstraints::groups' for role a"},
		{"empty group", `{"role_constraints":{"a":{"groups":[{}]}}}`, "Offer constraints are not valid: 'OfferConstraints::RoleConstraints::groups' for role a"},
		{"no selector", one(`{"selector":{},"predicate":{"exists":{}}}`), "Offer constraints are not valid: A role a has an invalid 'AttributeConstraint': Exactly one of"},
		{"no predicate", one(`{"selector":{"attribute_name":"x"},"predicate":{}}`), "Offer constraints are not valid: A role a has an invalid 'AttributeConstraint': Unknown predicate type"},
		{"long regex", one(`{"selector":{"attribute_name":"x"},"predicate":{"text_matches":{"regex":"` + strings.Repeat("a", 1001) + `"}}}`), "Offer constraints are not valid: A role a has an invalid 'AttributeConstraint': Regex of 1001 characters"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := newHarness(t, testConfig(), Recovered{}).core.readWishes([]string{"a"}, nil, parse[scheduler.OfferConstraints](t, tt.constraints))
			wantError(t, err, tt.want)
		})
	}
}

func TestValidateCall(t *testing.T) {
	const id = `"framework_id":{"value":"f"}`
	tests := []struct{ name, call, want string }{
		{"no type", `{}`, "Expecting 'type' to be present"},
		{"no subscribe", `{"type":"SUBSCRIBE"}`, "Expecting 'subscribe' to be present"},
		{"subscribe", `{"type":"SUBSCRIBE","subscribe":{"framework_info":{"user":"u","name":"f"}}}`, ""},
		{"ids differ", `{"type":"SUBSCRIBE",` + id + `,"subscribe":{"framework_info":{"user":"u","name":"f","id":{"value":"g"}}}}`, "'framework_id' differs from 'subscribe.framework_info.id'"},
		{"no framework", `{"type":"TEARDOWN"}`, "Expecting 'framework_id' to be present"},
		{"teardown", `{"type":"TEARDOWN",` + id + `}`, ""},
		{"revive", `{"type":"REVIVE",` + id + `}`, ""},
		{"unknown", `{"type":"UNKNOWN",` + id + `}`, ""},
		{"accept", `{"type":"ACCEPT",` + id + `}`, "Expecting 'accept' to be present"},
		{"decline", `{"type":"DECLINE",` + id + `}`, "Expecting 'decline' to be present"},
		{"accept inverse", `{"type":"ACCEPT_INVERSE_OFFERS",` + id + `}`, "Expecting 'accept_inverse_offers' to be present"},
		{"decline inverse", `{"type":"DECLINE_INVERSE_OFFERS",` + id + `}`, "Expecting 'decline_inverse_offers' to be present"},
		{"kill", `{"type":"KILL",` + id + `}`, "Expecting 'kill' to be present"},
		{"shutdown", `{"type":"SHUTDOWN",` + id + `}`, "Expecting 'shutdown' to be present"},
		{"acknowledge", `{"type":"ACKNOWLEDGE",` + id + `}`, "Expecting 'acknowledge' to be present"},
		{"uuid", `{"type":"ACKNOWLEDGE",` + id + `,"acknowledge":{"agent_id":{"value":"a"},"task_id":{"value":"t"},"uuid":"AAAA"}}`, "Not a valid UUID"},
		{"acknowledge operation", `{"type":"ACKNOWLEDGE_OPERATION_STATUS",` + id + `}`, "Expecting 'acknowledge_operation_status' to be present"},
		{"acknowledge operation of no agent", `{"type":"ACKNOWLEDGE_OPERATION_STATUS",` + id + `,"acknowledge_operation_status":{"uuid":"AAAAAAAAAAAAAAAAAAAAAA==","operation_id":{"value":"o"}}}`, "Expecting 'agent_id' to be present"},
		{"reconcile", `{"type":"RECONCILE",` + id + `}`, "Expecting 'reconcile' to be present"},
		{"reconcile operations", `{"type":"RECONCILE_OPERATIONS",` + id + `}`, "Expecting 'reconcile_operations' to be present"},
		{"message", `{"type":"MESSAGE",` + id + `}`, "Expecting 'message' to be present"},
		{"request", `{"type":"REQUEST",` + id + `}`, "Expecting 'request' to be present"},
		{"update", `{"type":"UPDATE_FRAMEWORK",` + id + `}`, "Expecting 'update_framework' to be present"},
		{"update another", `{"type":"UPDATE_FRAMEWORK",` + id + `,"update_framework":{"framework_info":{"user":"u","name":"f"}}}`, "'framework_id' differs from 'update_framework.framework_info.id'"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			wantError(t, ValidateCall(parse[scheduler.Call](t, tt.call)), tt.want)
		})
	}
	call := parse[scheduler.Call](t, `{"type":"SUBSCRIBE","subscribe":{"framework_info":{"user":"u","name":"f","principal":"other"}}}`)
	wantError(t, ValidatePrincipal(call, &authz.Principal{Value: "foo"}), "Authenticated principal 'foo' does not match principal 'other' set in `FrameworkInfo`")
	wantError(t, ValidatePrincipal(call, nil), "")
}
