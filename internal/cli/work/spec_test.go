package work

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	cliv2 "github.com/urfave/cli/v2"
	"google.golang.org/protobuf/testing/protocmp"

	"clusterd/allocator/resources"
	mesos "clusterd/api/mesos/v1"
	"clusterd/internal/cli/console"
)

// parsed is the job of a command line of run.
func parsed(t *testing.T, args ...string) (*job, error) {
	t.Helper()
	var j *job
	cmd := runCommand(console.Env{In: strings.NewReader(""), Out: io.Discard, Err: io.Discard})
	cmd.Action = func(c *cliv2.Context) (err error) {
		j, err = jobOf(c, strings.NewReader(""))
		return err
	}
	app := &cliv2.App{
		Name: "clusterd", Writer: io.Discard, ErrWriter: io.Discard, DisableSliceFlagSeparator: true,
		Commands: []*cliv2.Command{cmd}, ExitErrHandler: func(*cliv2.Context, error) {},
	}
	return j, app.RunContext(t.Context(), append([]string{"clusterd", "run"}, args...))
}

func mustParse(t *testing.T, args ...string) *job {
	t.Helper()
	j, err := parsed(t, args...)
	if err != nil {
		t.Fatalf("%v: %v", args, err)
	}
	return j
}

func TestCommand(t *testing.T) {
	for name, c := range map[string]struct {
		args []string
		want *mesos.CommandInfo
	}{
		"as it is":    {[]string{"--", "echo", "a b"}, &mesos.CommandInfo{Shell: new(false), Value: new("echo"), Arguments: []string{"echo", "a b"}}},
		"shell":       {[]string{"--shell", "--", "echo", "$X"}, &mesos.CommandInfo{Shell: new(true), Value: new("echo $X")}},
		"image's own": {[]string{"--image", "busybox"}, &mesos.CommandInfo{Shell: new(false)}},
		"image":       {[]string{"--image", "busybox", "--", "ls"}, &mesos.CommandInfo{Shell: new(false), Value: new("ls"), Arguments: []string{"ls"}}},
		"engine":      {[]string{"--containerizer", "docker", "--image", "busybox", "--", "ls", "/"}, &mesos.CommandInfo{Shell: new(false), Arguments: []string{"ls", "/"}}},
		"entry point": {[]string{"--image", "busybox", "--entrypoint", "--", "ls"}, &mesos.CommandInfo{Shell: new(false), Arguments: []string{"ls"}}},
	} {
		got := mustParse(t, c.args...).units[0].tasks[0].GetCommand()
		if diff := cmp.Diff(c.want, got, protocmp.Transform()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func TestTaskFlags(t *testing.T) {
	task := mustParse(t, "--name", "n", "--cpus", "2", "--resources", "cpus:1;mem:100;ports:[1-2]", "--limit", "cpus=inf,mem=200",
		"--label", "a=b", "--label", "c", "--env", "X=1,2", "--uri", "http://h/f", "--timeout", "2s", "--grace", "1s", "--", "true").units[0].tasks[0]
	rs := resources.MustFromProto(task.GetResources())
	if got := rs.String(); got != "mem:100; ports:[1-2]; cpus:2" {
		t.Errorf("resources %s", got)
	}
	if l := task.GetLimits(); l["cpus"].String() == "" || !(l["cpus"].GetValue() > 1e300) || l["mem"].GetValue() != 200 {
		t.Errorf("limits %v", l)
	}
	want := &mesos.Labels{Labels: []*mesos.Label{{Key: new("a"), Value: new("b")}, {Key: new("c")}}}
	if diff := cmp.Diff(want, task.GetLabels(), protocmp.Transform()); diff != "" {
		t.Errorf("labels (-want +got):\n%s", diff)
	}
	if v := task.GetCommand().GetEnvironment().GetVariables(); len(v) != 1 || v[0].GetValue() != "1,2" {
		t.Errorf("environment %v", v)
	}
	if task.GetMaxCompletionTime().GetNanoseconds() != 2e9 || task.GetKillPolicy().GetGracePeriod().GetNanoseconds() != 1e9 {
		t.Errorf("times %v %v", task.GetMaxCompletionTime(), task.GetKillPolicy())
	}
	if task.Container != nil {
		t.Errorf("a container that nobody asked for: %v", task.Container)
	}
}

func TestContainerFlags(t *testing.T) {
	got := mustParse(t, "--image", "alpine:3", "-v", "/host:/in:ro", "-v", "rel:/rel", "--network", "net1", "--network", "net2",
		"--capability", "net_raw", "--capability", "CAP_CHOWN", "--rlimit", "nofile=10:20", "--rlimit", "CORE=unlimited", "--hostname", "h", "-t", "--", "sh").
		units[0].tasks[0].GetContainer()
	set := &mesos.CapabilityInfo{Capabilities: []mesos.CapabilityInfo_Capability{mesos.CapabilityInfo_NET_RAW, mesos.CapabilityInfo_CHOWN}}
	want := &mesos.ContainerInfo{
		Type: mesos.ContainerInfo_MESOS.Enum(), Hostname: new("h"), TtyInfo: &mesos.TTYInfo{},
		Mesos: &mesos.ContainerInfo_MesosInfo{Image: imageOf("alpine:3")},
		Volumes: []*mesos.Volume{
			{Mode: mesos.Volume_RO.Enum(), ContainerPath: new("/in"), Source: &mesos.Volume_Source{
				Type: mesos.Volume_Source_HOST_PATH.Enum(), HostPath: &mesos.Volume_Source_HostPath{Path: new("/host")},
			}},
			{Mode: mesos.Volume_RW.Enum(), ContainerPath: new("/rel"), Source: &mesos.Volume_Source{
				Type:        mesos.Volume_Source_SANDBOX_PATH.Enum(),
				SandboxPath: &mesos.Volume_Source_SandboxPath{Type: mesos.Volume_Source_SandboxPath_SELF.Enum(), Path: new("rel")},
			}},
		},
		NetworkInfos: []*mesos.NetworkInfo{{Name: new("net1")}, {Name: new("net2")}},
		LinuxInfo:    &mesos.LinuxInfo{EffectiveCapabilities: set, BoundingCapabilities: set},
		RlimitInfo: &mesos.RLimitInfo{Rlimits: []*mesos.RLimitInfo_RLimit{
			{Type: mesos.RLimitInfo_RLimit_RLMT_NOFILE.Enum(), Soft: new(uint64(10)), Hard: new(uint64(20))},
			{Type: mesos.RLimitInfo_RLimit_RLMT_CORE.Enum()},
		}},
	}
	if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	d := mustParse(t, "--containerizer", "docker", "--image", "i", "--network", "bridge", "--", "sh").units[0].tasks[0].GetContainer()
	if d.GetType() != mesos.ContainerInfo_DOCKER || d.GetDocker().GetNetwork() != mesos.ContainerInfo_DockerInfo_BRIDGE || d.GetDocker().GetImage() != "i" {
		t.Errorf("docker: %v", d)
	}
}

func TestVolumes(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("s3"), 0o600); err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]*volume{
		"type=persistent,id=a,path=data,size=2GB": {persistent: &persistent{id: "a", path: "data", size: 2048}},
		"type=persistent,id=a,path=data":          {persistent: &persistent{id: "a", path: "data"}},
		"type=secret,path=p,file=" + secret: {mount: &mesos.Volume{Mode: mesos.Volume_RW.Enum(), ContainerPath: new("p"), Source: &mesos.Volume_Source{
			Type: mesos.Volume_Source_SECRET.Enum(), Secret: &mesos.Secret{Type: mesos.Secret_VALUE.Enum(), Value: &mesos.Secret_Value{Data: []byte("s3")}},
		}}},
		"type=secret,path=p,name=n,key=k,ro": {mount: &mesos.Volume{Mode: mesos.Volume_RO.Enum(), ContainerPath: new("p"), Source: &mesos.Volume_Source{
			Type: mesos.Volume_Source_SECRET.Enum(), Secret: &mesos.Secret{
				Type: mesos.Secret_REFERENCE.Enum(), Reference: &mesos.Secret_Reference{Name: new("n"), Key: new("k")},
			},
		}}},
		"path=p,type=sandbox,source=d,parent": {mount: &mesos.Volume{Mode: mesos.Volume_RW.Enum(), ContainerPath: new("p"), Source: &mesos.Volume_Source{
			Type:        mesos.Volume_Source_SANDBOX_PATH.Enum(),
			SandboxPath: &mesos.Volume_Source_SandboxPath{Type: mesos.Volume_Source_SandboxPath_PARENT.Enum(), Path: new("d")},
		}}},
		"type=docker,path=p,driver=x,name=n": {mount: &mesos.Volume{Mode: mesos.Volume_RW.Enum(), ContainerPath: new("p"), Source: &mesos.Volume_Source{
			Type: mesos.Volume_Source_DOCKER_VOLUME.Enum(), DockerVolume: &mesos.Volume_Source_DockerVolume{Driver: new("x"), Name: new("n")},
		}}},
		"type=image,path=p,image=i": {mount: &mesos.Volume{Mode: mesos.Volume_RW.Enum(), ContainerPath: new("p"), Image: imageOf("i")}},
	} {
		got, err := parseVolume(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if diff := cmp.Diff(want.mount, got.mount, protocmp.Transform()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", text, diff)
		}
		if diff := cmp.Diff(want.persistent, got.persistent, cmp.AllowUnexported(persistent{})); diff != "" {
			t.Errorf("%s (-want +got):\n%s", text, diff)
		}
	}
	for _, text := range []string{
		"", "a", ":b", "a:", "a:b:c", "type=none,path=p", "type=host,path=p,source=rel", "type=host,source=/a", "type=persistent,path=p", "type=persistent,id=a,path=/p",
		"type=persistent,id=a,path=p,size=many", "type=secret,path=p", "type=secret,path=p,name=n,file=f", "type=sandbox,path=p,id=x", "type=image,path=p", "type=host,type=host",
	} {
		if v, err := parseVolume(text); err == nil || console.Code(err) != console.ExitUsage {
			t.Errorf("%q: got %v, %v, want a usage error", text, v, err)
		}
	}
}

func TestConstraints(t *testing.T) {
	offer := &mesos.Offer{
		Hostname: new("web1.example.com"),
		Attributes: []*mesos.Attribute{
			{Name: new("rack"), Type: mesos.Value_TEXT.Enum(), Text: &mesos.Value_Text{Value: new("r=1")}},
			{Name: new("level"), Type: mesos.Value_SCALAR.Enum(), Scalar: &mesos.Value_Scalar{Value: new(7.5)}},
			{Name: new("slots"), Type: mesos.Value_RANGES.Enum(), Ranges: &mesos.Value_Ranges{Range: []*mesos.Value_Range{{Begin: new(uint64(3)), End: new(uint64(5))}}}},
		},
		Domain: &mesos.DomainInfo{FaultDomain: &mesos.DomainInfo_FaultDomain{
			Region: &mesos.DomainInfo_FaultDomain_RegionInfo{Name: new("eu")}, Zone: &mesos.DomainInfo_FaultDomain_ZoneInfo{Name: new("a")},
		}},
	}
	for text, want := range map[string]bool{
		"rack=r=1": true, "rack=r1": false, "rack!=r1": true, "rack!=r=1": false, "rack": true, "!rack": false, "none": false, "!none": true,
		"rack~r.1": true, "rack~r": false, "rack!~r": true, "rack~.*1|x": true, "level=7.5": true, "level=7.50": true, "level=8": false, "level!=8": true,
		"level~7.*": true, "slots=4": true, "slots=6": false, "hostname~web[0-9].*": true, "hostname=web1": false, "@hostname!=x": true,
		"@zone=a": true, "@region!=eu": false, "zone=a": false, "none!=a": true, "none=a": false, "none!~a": true, "none~.*": false,
	} {
		c, err := parseConstraint(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if got := c.holds(offer); got != want {
			t.Errorf("%s: got %t, want %t", text, got, want)
		}
		if c.String() != text {
			t.Errorf("%s is written %s", text, c)
		}
	}
	for _, text := range []string{"", "=x", "!", "a b=c", "@none=x", "a~(", "!=x"} {
		if c, err := parseConstraint(text); err == nil {
			t.Errorf("%q is taken: %v", text, c)
		}
	}
	c, err := parseConstraint("rack~r.*")
	if err != nil {
		t.Fatal(err)
	}
	all := offerConstraints("ops", []*constraint{c})
	one := all.GetRoleConstraints()["ops"].GetGroups()[0].GetAttributeConstraints()[0]
	if one.GetSelector().GetAttributeName() != "rack" || one.GetPredicate().GetTextMatches().GetRegex() != "r.*" {
		t.Errorf("the master is told %v", all)
	}
}

func TestPorts(t *testing.T) {
	for text, want := range map[string]port{
		"0": {0, 0, "tcp"}, "80": {80, 0, "tcp"}, "0:80": {0, 80, "tcp"}, "8080:80/udp": {8080, 80, "udp"},
	} {
		if got, err := parsePort(text); err != nil || got != want {
			t.Errorf("%s: got %v, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "x", "70000", "80:0", "80:x", "80/sctp"} {
		if got, err := parsePort(text); err == nil {
			t.Errorf("%s: got %v", text, got)
		}
	}
	for text, want := range map[string]uint32{"80": 80, "PORT0": 31000, "$PORT1": 31005, "PORT": 31000} {
		if got, err := portNumber(text, []uint64{31000, 31005}); err != nil || got != want {
			t.Errorf("%s: got %d, %v", text, got, err)
		}
	}
	for _, text := range []string{"PORT2", "PORTx", "0", ""} {
		if got, err := portNumber(text, []uint64{31000, 31005}); err == nil {
			t.Errorf("%s: got %d", text, got)
		}
	}
}

// offered is what an offer in a role has.
func offered(text string) resources.Resources { return resources.MustParse(text) }

func TestPlace(t *testing.T) {
	agent := &mesos.AgentID{Value: new("a1")}
	j := mustParse(t, "--role", "ops", "--cpus", "2", "--mem", "100", "-p", "0", "-p", "31002", "--health_tcp", "PORT0", "--", "true")
	p := placer{role: "ops"}
	got, why, err := p.place(j.units[0], agent, offered("cpus:1;cpus(ops):1.5;mem:200;ports:[31000-31002]"))
	if err != nil || why != "" {
		t.Fatal(why, err)
	}
	// Its own come first, and what is left is what the next one may have.
	if s := got.left.String(); s != "cpus:0.5; mem:100; ports:[31001-31001]" {
		t.Errorf("left: %s", s)
	}
	task := got.tasks[0]
	if task.GetAgentId().GetValue() != "a1" || task.GetHealthCheck().GetTcp().GetPort() != 31000 {
		t.Errorf("task: %v", task)
	}
	rs := resources.MustFromProto(task.GetResources())
	if rs.CPUs() != 2 || rs.Reserved("ops").CPUs() != 1.5 || len(rs.Allocations()) != 1 || rs.Allocations()[0].Role != "ops" {
		t.Errorf("resources: %s", rs)
	}
	env := map[string]string{}
	for _, v := range task.GetCommand().GetEnvironment().GetVariables() {
		env[v.GetName()] = v.GetValue()
	}
	if diff := cmp.Diff(map[string]string{"PORT": "31000", "PORT0": "31000", "PORT1": "31002"}, env); diff != "" {
		t.Errorf("environment (-want +got):\n%s", diff)
	}
	if len(j.units[0].tasks[0].GetCommand().GetEnvironment().GetVariables()) != 0 {
		t.Error("the unit itself was changed: a second attempt would find that")
	}
	for pool, want := range map[string]string{
		"cpus:1;mem:200;ports:[31000-31002]": "cpus",
		"cpus:2;mem:99;ports:[31000-31002]":  "mem",
		"cpus:2;mem:100;ports:[31000-31001]": "31002-31002] of ports:[31000-31001]",
		"cpus:2;mem:100;ports:[31002-31002]": "2 ports",
		"":                                   "none",
	} {
		if _, why, err := p.place(j.units[0], agent, offered(pool)); err != nil || !strings.Contains(why, want) {
			t.Errorf("%s: got %q, %v, want %s", pool, why, err, want)
		}
	}
}

func TestPlaceVolume(t *testing.T) {
	agent := &mesos.AgentID{Value: new("a1")}
	j := mustParse(t, "--role", "ops", "--volume", "type=persistent,id=v,path=data,size=10", "--", "true")
	p := placer{role: "ops", principal: new("me")}
	got, why, err := p.place(j.units[0], agent, offered("cpus:1;mem:200;disk:100"))
	if err != nil || why != "" {
		t.Fatal(why, err)
	}
	var kinds []string
	for _, op := range got.operations {
		kinds = append(kinds, op.GetType().String())
	}
	if diff := cmp.Diff([]string{"RESERVE", "CREATE", "LAUNCH"}, kinds); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	// What the operations make of the offer holds what the task wants.
	pool := offered("cpus:1;mem:200;disk:100").Allocate("ops")
	for _, op := range got.operations[:2] {
		if pool, _, err = pool.Apply(op); err != nil {
			t.Fatal(err)
		}
	}
	if want := resources.MustFromProto(got.tasks[0].GetResources()); !pool.Contains(want) {
		t.Errorf("%s does not hold %s", pool, want)
	}
	// It is there already: then it is taken as it is.
	again, why, err := p.place(j.units[0], agent, pool.Unallocate())
	if err != nil || why != "" || len(again.operations) != 1 {
		t.Errorf("again: %v, %q, %v", again, why, err)
	}
	if _, why, _ := p.place(j.units[0], agent, offered("cpus:1;mem:200;disk:9")); !strings.Contains(why, "disk:10 of disk:9") {
		t.Errorf("too small: %q", why)
	}
}

func TestGroupFiles(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	yaml := write("g.yaml", "tasks:\n- name: a\n  command: echo a\n  resources: cpus:0.5;mem:32\n- name: a\n  task_id: own\n  command: {value: echo b}\n")
	u := mustParse(t, "--group", yaml).units[0]
	if len(u.tasks) != 2 || u.executor.GetType() != mesos.ExecutorInfo_DEFAULT || scalarOf(u.executor.GetResources(), "mem") != 32 {
		t.Errorf("got %v, %v", u.tasks, u.executor)
	}
	if u.tasks[0].GetCommand().GetValue() != "echo a" || scalarOf(u.tasks[0].GetResources(), "cpus") != 0.5 || u.tasks[1].GetTaskId().GetValue() != "own" {
		t.Errorf("got %v", u.tasks)
	}
	// As in LAUNCH_GROUP, and as many as are wanted.
	whole := write("g.json", `{"executor":{"executor_id":{"value":"e"}},"task_group":{"tasks":[{"name":"x","command":"true"}]}}`)
	j := mustParse(t, "--group", whole, "--count", "2")
	if len(j.units) != 2 || j.units[1].executor.GetExecutorId().GetValue() != "e-1" || !strings.HasSuffix(j.units[1].tasks[0].GetTaskId().GetValue(), "-1") {
		t.Errorf("got %v", j.units[1])
	}
	for text, want := range map[string]string{
		"tasks: 3":   "no tasks",
		"tasks: [3]": "no TaskInfo",
		"[":          "neither JSON nor YAML",
		"":           "no object",
		"tasks: [{name: a, resources: 'cpus:x'}]": "task 0",
		"tasks: [{task_id: a}, {task_id: a}]":     "two tasks have the id a",
	} {
		if _, err := parsed(t, "--group", write("bad", text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %q", text, err, want)
		}
	}
}

// TestExamples reads the examples that the documentation names.
func TestExamples(t *testing.T) {
	files, err := filepath.Glob("../../../examples/groups/*")
	if err != nil || len(files) == 0 {
		t.Fatal("no examples", err)
	}
	for _, f := range files {
		if _, err := groupUnit(f, strings.NewReader("")); err != nil {
			t.Error(err)
		}
	}
}
