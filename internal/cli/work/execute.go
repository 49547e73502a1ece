package work

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/user"
	"slices"
	"strings"
	"sync"
	"time"

	cliv2 "github.com/urfave/cli/v2"
	"google.golang.org/protobuf/proto"

	"clusterd/allocator/resources"
	"clusterd/api/client"
	"clusterd/api/client/scheduler"
	mesos "clusterd/api/mesos/v1"
	"clusterd/api/mesosjson"
	"clusterd/internal/cli/console"
	"clusterd/internal/units"
)

// ExecuteApp is mesos-execute: what the binary is when it is called by that name. Its flags,
// their names and meaning, and what it prints are Mesos's (src/cli/execute.cpp), for the
// scripts that use it.
func ExecuteApp(e console.Env) *cliv2.App {
	return &cliv2.App{
		Name: "mesos-execute", Usage: "run a command or a task group on a cluster, as Mesos's tool does", HideVersion: true,
		Reader: e.In, Writer: e.Out, ErrWriter: e.Err, DisableSliceFlagSeparator: true,
		ExitErrHandler: func(*cliv2.Context, error) {},
		OnUsageError: func(_ *cliv2.Context, err error, _ bool) error {
			return fmt.Errorf("%w: %w", console.ErrUsage, err)
		},
		Flags: executeFlags(), Action: func(c *cliv2.Context) error { return runExecute(c, e) },
	}
}

// executeCommand is the same as a command of clusterd.
func executeCommand(e console.Env) *cliv2.Command {
	return &cliv2.Command{
		Name: "mesos-execute", Usage: "run a command or a task group as Mesos's mesos-execute does",
		Description: "For scripts that were written for Mesos's tool; clusterd run does more. Linked under the name\n" +
			"mesos-execute, clusterd is this command.",
		Flags: executeFlags(), Action: func(c *cliv2.Context) error { return runExecute(c, e) },
	}
}

// executeFlags are all flags of Mesos's. Names with _ are taken with - as well, and bools as
// --no-NAME.
func executeFlags() []cliv2.Flag {
	text := func(name, value, usage string) cliv2.Flag {
		f := &cliv2.StringFlag{Name: name, Value: value, Usage: usage}
		if strings.Contains(name, "_") {
			f.Aliases = []string{strings.ReplaceAll(name, "_", "-")}
		}
		return f
	}
	both := func(name string, value bool, usage string) []cliv2.Flag {
		yes := &cliv2.BoolFlag{Name: name, Value: value, Usage: usage}
		no := &cliv2.BoolFlag{Name: "no-" + strings.ReplaceAll(name, "_", "-"), Hidden: true}
		if strings.Contains(name, "_") {
			yes.Aliases = []string{strings.ReplaceAll(name, "_", "-")}
			no.Aliases = []string{"no-" + name}
		}
		return []cliv2.Flag{yes, no}
	}
	own := []cliv2.Flag{
		text("task", "", "`TASK` as JSON (TaskInfo), or the path of a file with it"),
		text("task_group", "", "`GROUP` as JSON (TaskGroupInfo), or the path of a file with it"),
		text("name", "", "`NAME` of the task, and its id"),
		text("command", "", "`COMMAND` to run"),
		text("env", "", "variables as `JSON` ({\"NAME\": \"VALUE\"}), or file:///path to it"),
		text("resources", "cpus:1;mem:128", "`RESOURCES` of the task"),
		text("hadoop", "hadoop", "`PATH` of the hadoop program, for --package"),
		text("hdfs", "localhost:9000", "`ADDRESS` of the NameNode that agents find --package at"),
		text("package", "", "`FILE` to upload into HDFS, which the task finds in its sandbox; agents need the hadoop program, too. Without HDFS: clusterd run --uri"),
		text("appc_image", "", "`IMAGE` of appc"),
		text("docker_image", "", "`IMAGE` as docker names it"),
		text("framework_capabilities", "", "`NAMES` of capabilities with commas between them: GPU_RESOURCES"),
		text("containerizer", "mesos", "`CONTAINERIZER`: mesos or docker"),
		text("effective_capabilities", "", "Linux capabilities as `JSON` (CapabilityInfo)"),
		text("bounding_capabilities", "", "Linux capabilities as `JSON` (CapabilityInfo)"),
		text("rlimits", "", "limits of processes as `JSON` (RLimitInfo)"),
		text("role", "*", "`ROLE` of the framework"),
		text("kill_after", "", "kill the task after this `DURATION` (10secs, 2mins)"),
		text("networks", "", "`NETWORKS` to join, with commas between them"),
		text("volumes", "", "volumes as `JSON` ([Volume, ...]), or the path of a file with them"),
		text("content_type", "protobuf", "`FORMAT` of calls: protobuf or json"),
	}
	own = append(own, both("shell", true, "COMMAND is for a shell")...)
	own = append(own, both("overwrite", false, "replace the package if it is in HDFS already")...)
	own = append(own, both("checkpoint", false, "let the task live on when its agent restarts")...)
	own = append(own, both("tty", false, "give the task a terminal")...)
	own = append(own, both("partition_aware", true, "be told of agents that are unreachable")...)
	return console.Flags(own...)
}

// boolean is a flag that --no-NAME turns off.
func boolean(c *cliv2.Context, name string) bool {
	return c.Bool(name) && !c.Bool("no-"+strings.ReplaceAll(name, "_", "-"))
}

// checkExecute refuses what does not go together, in Mesos's order.
func checkExecute(c *cliv2.Context) error {
	task, group := c.String("task") != "", c.String("task_group") != ""
	switch {
	case task && group:
		return console.Usagef("Either task or task group should be set but not both. Provide either '--task' OR '--task_group'")
	case !task && !group:
		if c.String("name") == "" {
			return console.Usagef("Missing required option --name")
		}
		if boolean(c, "shell") && c.String("command") == "" {
			return console.Usagef("Missing required option --command")
		}
	default:
		for _, name := range []string{"name", "command", "env", "appc_image", "docker_image", "volumes"} {
			if c.String(name) != "" {
				return console.Usagef("'--name, --command, --env, --appc_image, --docker_image, --volumes' can only be set when both '--task' and '--task_group' are not set")
			}
		}
		if task && c.String("networks") != "" {
			return console.Usagef("'--networks' can only be set when '--task' is not set")
		}
	}
	switch {
	case !slices.Contains([]string{"json", "protobuf", "application/json", "application/x-protobuf"}, c.String("content_type")):
		return console.Usagef("Invalid content type '%s'", c.String("content_type"))
	case c.String("package") != "" && (task || group):
		return console.Usagef("'--package' can only be set when both '--task' and '--task_group' are not set")
	case c.String("appc_image") != "" && c.String("docker_image") != "":
		return console.Usagef("Flags '--docker-image' and '--appc-image' are both set")
	}
	return nil
}

func runExecute(c *cliv2.Context, e console.Env) error {
	if c.NArg() > 0 {
		return console.Usagef("Failed to parse: unexpected argument '%s'", c.Args().First())
	}
	if err := checkExecute(c); err != nil {
		return err
	}
	u, err := user.Current()
	if err != nil {
		return fmt.Errorf("no username for the current user: %w", err)
	}
	info, err := executeFramework(c, u.Username)
	if err != nil {
		return err
	}
	x := &execute{Env: e, role: c.String("role")}
	if text := c.String("kill_after"); text != "" {
		if x.killAfter, err = units.ParseDuration(text); err != nil {
			return console.Usagef("--kill_after: %w", err)
		}
	}
	if x.unit, err = executeUnit(c, console.Input(c.Context, e.In)); err != nil {
		return err
	}
	cl, err := console.Connect(c)
	if err != nil {
		return err
	}
	if c.String("package") != "" {
		uri, err := upload(c.Context, c, u.Username)
		if err != nil {
			return err
		}
		command := x.unit.tasks[0].Command
		command.Uris = append(command.Uris, &mesos.CommandInfo_URI{Value: &uri})
	}
	if p := cl.Principal(); p != "" {
		info.Principal = &p
	}
	return x.run(c.Context, cl, info, strings.Contains(c.String("content_type"), "json"))
}

func executeFramework(c *cliv2.Context, owner string) (*mesos.FrameworkInfo, error) {
	info := &mesos.FrameworkInfo{
		User: &owner, Name: new("mesos-execute instance"), Role: new(c.String("role")), Checkpoint: new(boolean(c, "checkpoint")),
	}
	if p := c.String("principal"); p != "" {
		info.Principal = &p
	}
	add := func(t mesos.FrameworkInfo_Capability_Type) {
		info.Capabilities = append(info.Capabilities, &mesos.FrameworkInfo_Capability{Type: t.Enum()})
	}
	add(mesos.FrameworkInfo_Capability_RESERVATION_REFINEMENT)
	add(mesos.FrameworkInfo_Capability_TASK_KILLING_STATE)
	add(mesos.FrameworkInfo_Capability_REVOCABLE_RESOURCES)
	if boolean(c, "partition_aware") {
		add(mesos.FrameworkInfo_Capability_PARTITION_AWARE)
	}
	for name := range strings.FieldsFuncSeq(c.String("framework_capabilities"), func(r rune) bool { return r == ',' || r == ' ' }) {
		v, ok := mesos.FrameworkInfo_Capability_Type_value[name]
		if !ok {
			return nil, console.Usagef("Flags '--framework_capabilities' specifies an unknown capability '%s'", name)
		}
		if mesos.FrameworkInfo_Capability_Type(v) != mesos.FrameworkInfo_Capability_GPU_RESOURCES {
			return nil, console.Usagef("Flags '--framework_capabilities' specifies an unsupported capability '%s'", name)
		}
		add(mesos.FrameworkInfo_Capability_GPU_RESOURCES)
	}
	return info, nil
}

// executeUnit is what is to be launched.
func executeUnit(c *cliv2.Context, in io.Reader) (*unit, error) {
	switch {
	case c.String("task") != "":
		return taskUnit(c.String("task"), in)
	case c.String("task_group") != "":
		u, err := groupUnit(c.String("task_group"), in)
		if err != nil {
			return nil, err
		}
		// Mesos's tool has no other executor.
		if u.executor, err = executorIn("--task_group", map[string]any{"executor_id": map[string]any{"value": "default-executor"}}); err != nil {
			return nil, err
		}
		if names := networksOf(c); len(names) > 0 {
			u.executor.Container = &mesos.ContainerInfo{Type: mesos.ContainerInfo_MESOS.Enum(), NetworkInfos: names}
		}
		return u, nil
	}
	name := c.String("name")
	rs, err := parseResources(c.String("resources"))
	if err != nil {
		return nil, console.Usagef("Failed to parse resources '%s': %w", c.String("resources"), err)
	}
	task := &mesos.TaskInfo{
		Name: &name, TaskId: &mesos.TaskID{Value: &name}, AgentId: &mesos.AgentID{Value: new("")}, Resources: rs,
		Command: &mesos.CommandInfo{Shell: new(boolean(c, "shell"))},
	}
	if command := c.String("command"); command != "" && boolean(c, "shell") {
		task.Command.Value = &command
	}
	if err := executeEnvironment(c.String("env"), task); err != nil {
		return nil, err
	}
	task.Container, err = executeContainer(c)
	return &unit{tasks: []*mesos.TaskInfo{task}}, err
}

func networksOf(c *cliv2.Context) (out []*mesos.NetworkInfo) {
	for name := range strings.SplitSeq(c.String("networks"), ",") {
		if name != "" {
			out = append(out, &mesos.NetworkInfo{Name: &name})
		}
	}
	return out
}

func executeEnvironment(text string, task *mesos.TaskInfo) error {
	if text == "" {
		return nil
	}
	object, err := readDescription(text, strings.NewReader(""))
	if err != nil {
		return fmt.Errorf("--env: %w", err)
	}
	names := make([]string, 0, len(object))
	for name := range object {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		value, ok := object[name].(string)
		if !ok {
			return console.Usagef("--env: the value of %s is no string", name)
		}
		setenv(task, name, value)
	}
	return nil
}

// executeContainer makes the ContainerInfo; nil where none is needed.
func executeContainer(c *cliv2.Context) (*mesos.ContainerInfo, error) {
	out := &mesos.ContainerInfo{Type: mesos.ContainerInfo_MESOS.Enum()}
	if text := c.String("volumes"); text != "" {
		if err := listInto(text, "volumes", out); err != nil {
			return nil, fmt.Errorf("%w: Failed to convert '--volumes' to protobuf: %w", console.ErrUsage, err)
		}
	}
	switch c.String("containerizer") {
	case "":
		return nil, nil //nolint:nilnil // nil is none
	case "docker":
		return executeDocker(c, out)
	case "mesos":
	default:
		return nil, console.Usagef("Unsupported containerizer: %s", c.String("containerizer"))
	}
	switch docker, appc := c.String("docker_image"), c.String("appc_image"); {
	case docker != "":
		out.Mesos = &mesos.ContainerInfo_MesosInfo{Image: imageOf(docker)}
	case appc != "":
		out.Mesos = &mesos.ContainerInfo_MesosInfo{Image: &mesos.Image{Type: mesos.Image_APPC.Enum(), Appc: &mesos.Image_Appc{
			Name: &appc, Labels: &mesos.Labels{Labels: []*mesos.Label{
				{Key: new("os"), Value: new("linux")}, {Key: new("arch"), Value: new("amd64")},
			}},
		}}}
	}
	out.NetworkInfos = networksOf(c)
	for _, set := range []struct {
		flag string
		to   func() proto.Message
	}{
		{"effective_capabilities", func() proto.Message { return linuxOf(out).EffectiveCapabilities }},
		{"bounding_capabilities", func() proto.Message { return linuxOf(out).BoundingCapabilities }},
		{"rlimits", func() proto.Message {
			out.RlimitInfo = &mesos.RLimitInfo{}
			return out.RlimitInfo
		}},
	} {
		text := c.String(set.flag)
		if text == "" {
			continue
		}
		if set.flag == "effective_capabilities" {
			linuxOf(out).EffectiveCapabilities = &mesos.CapabilityInfo{}
		}
		if set.flag == "bounding_capabilities" {
			linuxOf(out).BoundingCapabilities = &mesos.CapabilityInfo{}
		}
		object, err := readDescription(text, strings.NewReader(""))
		if err != nil {
			return nil, fmt.Errorf("--%s: %w", set.flag, err)
		}
		if err := decode("--"+set.flag, object, set.to()); err != nil {
			return nil, err
		}
	}
	if boolean(c, "tty") {
		out.TtyInfo = &mesos.TTYInfo{}
	}
	if plain(out) {
		return nil, nil //nolint:nilnil // nil is none
	}
	return out, nil
}

func linuxOf(i *mesos.ContainerInfo) *mesos.LinuxInfo {
	if i.LinuxInfo == nil {
		i.LinuxInfo = &mesos.LinuxInfo{}
	}
	return i.LinuxInfo
}

func executeDocker(c *cliv2.Context, out *mesos.ContainerInfo) (*mesos.ContainerInfo, error) {
	image := c.String("docker_image")
	names := networksOf(c)
	switch {
	case image == "":
		return nil, console.Usagef("'Docker' containerizer requires docker image name")
	case len(names) > 1:
		return nil, console.Usagef("'Docker' containerizer can only support a single network")
	case boolean(c, "tty"):
		return nil, console.Usagef("'Docker' containerizer does not allow attaching a TTY")
	}
	out.Type = mesos.ContainerInfo_DOCKER.Enum()
	out.Docker = &mesos.ContainerInfo_DockerInfo{Image: &image}
	if len(names) == 1 {
		out.Docker.Network = mesos.ContainerInfo_DockerInfo_USER.Enum()
		out.NetworkInfos = names
	}
	return out, nil
}

// listInto reads a list, or a file with it, into a repeated field.
func listInto(text, field string, m proto.Message) error {
	b := []byte(text)
	if !strings.HasPrefix(strings.TrimSpace(text), "[") {
		var err error
		if b, err = readFile(strings.TrimPrefix(text, "file://")); err != nil {
			return err
		}
	}
	var list []any
	if err := json.Unmarshal(b, &list); err != nil {
		return err
	}
	// The message is completed only then: its type is there already.
	whole, err := json.Marshal(map[string]any{"type": "MESOS", field: list})
	if err != nil {
		return err
	}
	return mesosjson.Unmarshal(whole, m)
}

// execute is the framework of mesos-execute.
type execute struct {
	console.Env
	role      string
	killAfter time.Duration
	unit      *unit
	client    *scheduler.Client
	launched  bool
	ended     map[string]bool

	mu sync.Mutex // mu guards Out: kills are told of by timers.
}

func (x *execute) print(format string, args ...any) {
	x.mu.Lock()
	defer x.mu.Unlock()
	fmt.Fprintf(x.Out, format+"\n", args...)
}

func (x *execute) run(ctx context.Context, cl *console.Cluster, info *mesos.FrameworkInfo, asJSON bool) error {
	x.ended = map[string]bool{}
	opts := cl.Options()
	if asJSON {
		opts.Format = client.JSON
	}
	var err error
	x.client, err = scheduler.New(scheduler.Options{Masters: []string{cl.Address()}, Framework: info, HTTP: opts, MaxBackoff: maxBackoff})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	err = x.client.Run(ctx, func(event *scheduler.Event) error {
		switch event.GetType() {
		case scheduler.SUBSCRIBED:
			x.print("Subscribed with ID %s", event.GetSubscribed().GetFrameworkId().GetValue())
		case scheduler.OFFERS:
			for _, o := range event.GetOffers().GetOffers() {
				if err := x.offered(ctx, o); err != nil && client.StatusCode(err) != 0 {
					return err
				}
			}
		case scheduler.UPDATE:
			return x.update(ctx, event.GetUpdate().GetStatus())
		case scheduler.ERROR:
			return fmt.Errorf("received an ERROR event: %s", event.GetError().GetMessage())
		default:
		}
		return nil
	})
	switch {
	case errors.Is(err, errTasksEnded):
		return nil // whatever became of them, as Mesos's
	case ctx.Err() != nil:
		return console.ExitError(interrupted)
	}
	return cl.Explain(err)
}

func (x *execute) offered(ctx context.Context, offer *mesos.Offer) error {
	if !x.launched {
		rs, err := resources.FromProto(offer.GetResources())
		if err != nil {
			return err
		}
		p, why, err := (&placer{role: x.role}).place(x.unit, offer.GetAgentId(), rs.Unallocate())
		if err != nil {
			return err
		}
		if why == "" {
			return x.launch(ctx, offer, p)
		}
	}
	if err := x.client.Decline(ctx, nil, offer.GetId()); err != nil || !x.launched {
		return err
	}
	return x.client.Suppress(ctx)
}

func (x *execute) launch(ctx context.Context, offer *mesos.Offer, p *placement) error {
	for _, op := range p.operations {
		if e := op.GetLaunchGroup().GetExecutor(); e != nil {
			e.FrameworkId = x.client.FrameworkID()
		}
	}
	x.launched = true
	if x.unit.executor == nil {
		x.print("Submitted task '%s' to agent '%s'", p.tasks[0].GetName(), offer.GetAgentId().GetValue())
	} else {
		ids := make([]string, len(p.tasks))
		for i, t := range p.tasks {
			ids[i] = t.GetTaskId().GetValue()
		}
		x.print("Submitted task group with tasks [ %s ] to agent '%s'", strings.Join(ids, ", "), offer.GetAgentId().GetValue())
	}
	return x.client.Accept(ctx, []*mesos.OfferID{offer.GetId()}, p.operations, nil)
}

// update prints a status, line by line as Mesos's tool does.
func (x *execute) update(ctx context.Context, s *mesos.TaskStatus) error {
	id := s.GetTaskId().GetValue()
	x.print("Received status update %s for task '%s'", s.GetState(), id)
	if s.Message != nil {
		x.print("  message: '%s'", s.GetMessage())
	}
	if s.Source != nil {
		x.print("  source: %s", s.GetSource())
	}
	if s.Reason != nil {
		x.print("  reason: %s", s.GetReason())
	}
	if s.Healthy != nil {
		x.print("  healthy?: %d", map[bool]int{true: 1}[s.GetHealthy()])
	}
	if s.CheckStatus != nil {
		b, err := mesosjson.Marshal(s.CheckStatus)
		if err != nil {
			return err
		}
		x.print("  check status: %s", b)
	}
	if rs := s.GetLimitation().GetResources(); len(rs) > 0 {
		texts := make([]string, len(rs))
		for i, r := range rs {
			texts[i] = resources.Text(r)
		}
		x.print("  resource limit violation: %s", strings.Join(texts, "; "))
	}
	if err := x.client.Acknowledge(ctx, s); err != nil && client.StatusCode(err) != 0 {
		return err
	}
	if x.killAfter > 0 && s.GetState() == mesos.TaskState_TASK_RUNNING {
		time.AfterFunc(x.killAfter, func() {
			if ctx.Err() != nil {
				return
			}
			x.print("Asked to kill task '%s' on agent '%s'", id, s.GetAgentId().GetValue())
			if err := x.client.Kill(ctx, s.GetTaskId(), s.GetAgentId(), nil); err != nil && ctx.Err() == nil {
				fmt.Fprintf(x.Err, "mesos-execute: %v\n", err)
			}
		})
	}
	if console.Terminal(s.GetState()) {
		x.ended[id] = true
	}
	if len(x.ended) == len(x.unit.tasks) {
		return errTasksEnded
	}
	return nil
}
