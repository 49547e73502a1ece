package work

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"math"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/google/uuid"
	cliv2 "github.com/urfave/cli/v2"
	"google.golang.org/protobuf/proto"

	"clusterd/allocator/resources"
	mesos "clusterd/api/mesos/v1"
	"clusterd/internal/cli/console"
)

// unit is what is launched on one agent: a task, or a group of them in one executor.
type unit struct {
	tasks    []*mesos.TaskInfo
	executor *mesos.ExecutorInfo // of a group
	// What a task gets of the offer; a group's file says all by itself.
	container *container
	health    *healthCheck
}

// job is what one run is to launch.
type job struct {
	name        string
	role        string
	user        string
	units       []*unit
	constraints []*constraint
	gpus        bool // some are wanted
}

// jobOf makes what the flags describe.
func jobOf(c *cliv2.Context, in io.Reader) (*job, error) {
	j := &job{role: c.String("role"), user: c.String("user")}
	for _, text := range c.StringSlice("constraint") {
		one, err := parseConstraint(text)
		if err != nil {
			return nil, err
		}
		j.constraints = append(j.constraints, one)
	}
	u, err := unitOf(c, in)
	if err != nil {
		return nil, err
	}
	j.name = u.tasks[0].GetName()
	if u.executor != nil {
		j.name = cmp.Or(c.String("name"), strings.TrimSuffix(filepath.Base(c.String("group")), filepath.Ext(c.String("group"))))
		if j.name == "-" {
			j.name = "group"
		}
	}
	n := c.Int("count")
	if n < 1 || n > 10_000 {
		return nil, console.Usagef("--count=%d", n)
	}
	j.units = []*unit{u}
	if n > 1 {
		j.units = u.copies(n)
	}
	for _, u := range j.units {
		for _, t := range u.tasks {
			j.gpus = j.gpus || scalarOf(t.GetResources(), "gpus") > 0
		}
		if u.container != nil && len(u.container.volumes) > 0 && j.role == "*" {
			return nil, console.Hint(console.Usagef("a persistent volume belongs to a role"), "--role ROLE")
		}
	}
	return j, nil
}

// unitOf makes the unit that the flags describe: from a file, or of the command.
func unitOf(c *cliv2.Context, in io.Reader) (*unit, error) {
	group, task := c.String("group"), c.String("task")
	if group == "" && task == "" {
		return commandUnit(c)
	}
	if group != "" && task != "" {
		return nil, console.Usagef("--group and --task both say what to run: give one of them")
	}
	if c.NArg() > 0 {
		return nil, console.Hint(console.Usagef("a command and a file both say what to run"), "flags come before --")
	}
	for _, name := range slices.Concat(flagNames(taskFlags()), flagNames(containerFlags()), flagNames(healthFlags())) {
		if c.IsSet(name) && !slices.Contains([]string{"tty", "interactive"}, name) {
			return nil, console.Usagef("--%s does not go with a file, which says it itself", name)
		}
	}
	if group != "" {
		return groupUnit(group, in)
	}
	return taskUnit(task, in)
}

func flagNames(fs []cliv2.Flag) (names []string) {
	for _, f := range fs {
		names = append(names, f.Names()[0])
	}
	return names
}

// commandUnit makes a task of the command line's command.
func commandUnit(c *cliv2.Context) (*unit, error) {
	if c.NArg() == 0 && c.String("image") == "" {
		return nil, console.Hint(console.Usagef("no command given"), "clusterd run -- echo hello")
	}
	in, err := containerOf(c)
	if err != nil {
		return nil, err
	}
	health, err := healthOf(c)
	if err != nil {
		return nil, err
	}
	name := c.String("name")
	if name == "" {
		name = filepath.Base(cmp.Or(c.Args().First(), strings.SplitN(filepath.Base(c.String("image")), ":", 2)[0]))
	}
	task := &mesos.TaskInfo{
		Name: &name, TaskId: &mesos.TaskID{Value: new(taskID(name))}, AgentId: &mesos.AgentID{Value: new("")},
		Command:    commandOf(c),
		KillPolicy: &mesos.KillPolicy{GracePeriod: &mesos.DurationInfo{Nanoseconds: new(int64(c.Duration("grace")))}},
	}
	if in.info != nil {
		task.Container = in.info
	}
	if d := c.Duration("timeout"); d > 0 {
		task.MaxCompletionTime = &mesos.DurationInfo{Nanoseconds: new(int64(d))}
	}
	if err := environmentOf(c.StringSlice("env"), task); err != nil {
		return nil, err
	}
	for _, uri := range c.StringSlice("uri") {
		task.Command.Uris = append(task.Command.Uris, &mesos.CommandInfo_URI{Value: &uri})
	}
	if task.Labels, err = labelsOf(c.StringSlice("label")); err != nil {
		return nil, err
	}
	if task.Resources, err = resourcesOf(c); err != nil {
		return nil, err
	}
	if task.Limits, err = limitsOf(c.StringSlice("limit")); err != nil {
		return nil, err
	}
	return &unit{tasks: []*mesos.TaskInfo{task}, container: in, health: health}, nil
}

// commandOf is the command: what is after --, run as it is, by a shell, or as arguments of
// the image's entry point.
func commandOf(c *cliv2.Context) *mesos.CommandInfo {
	args := c.Args().Slice()
	switch {
	case c.Bool("shell"):
		return &mesos.CommandInfo{Shell: new(true), Value: new(strings.Join(args, " "))}
	case len(args) == 0:
		return &mesos.CommandInfo{Shell: new(false)}
	case c.Bool("entrypoint"), c.String("containerizer") == "docker":
		// The engine gives a value and arguments to the entry point, one after the other
		// (Docker::RunOptions::create in Mesos's src/docker/docker.cpp): argv[0] is not apart.
		return &mesos.CommandInfo{Shell: new(false), Arguments: args}
	}
	return &mesos.CommandInfo{Shell: new(false), Value: &args[0], Arguments: args}
}

// environmentOf reads NAME=VALUE pairs into the command of a task.
func environmentOf(pairs []string, task *mesos.TaskInfo) error {
	for _, kv := range pairs {
		k, v, ok := strings.Cut(kv, "=")
		if !ok || k == "" {
			return console.Usagef("--env %q is not NAME=VALUE", kv)
		}
		setenv(task, k, v)
	}
	return nil
}

func setenv(task *mesos.TaskInfo, name, value string) {
	if task.Command == nil {
		task.Command = &mesos.CommandInfo{}
	}
	if task.Command.Environment == nil {
		task.Command.Environment = &mesos.Environment{}
	}
	task.Command.Environment.Variables = append(task.Command.Environment.Variables, &mesos.Environment_Variable{Name: &name, Value: &value})
}

func labelsOf(texts []string) (*mesos.Labels, error) {
	if len(texts) == 0 {
		return nil, nil //nolint:nilnil // nil are no labels
	}
	out := &mesos.Labels{}
	for _, text := range texts {
		k, v, ok := strings.Cut(text, "=")
		if k == "" {
			return nil, console.Usagef("--label %q is not KEY=VALUE", text)
		}
		l := &mesos.Label{Key: &k}
		if ok {
			l.Value = &v
		}
		out.Labels = append(out.Labels, l)
	}
	return out, nil
}

// resourcesOf are --resources, overridden by the flags of single ones.
func resourcesOf(c *cliv2.Context) ([]*mesos.Resource, error) {
	out, err := parseResources(c.String("resources"))
	if err != nil {
		return nil, fmt.Errorf("%w: --resources: %w", console.ErrUsage, err)
	}
	for _, name := range []string{"cpus", "mem", "disk", "gpus"} {
		v := c.Float64(name)
		if !c.IsSet(name) && (v <= 0 || slices.ContainsFunc(out, func(r *mesos.Resource) bool { return r.GetName() == name })) {
			continue
		}
		if v < 0 || math.IsNaN(v) || name == "gpus" && v != math.Trunc(v) {
			return nil, console.Usagef("--%s=%v", name, v)
		}
		out = slices.DeleteFunc(out, func(r *mesos.Resource) bool { return r.GetName() == name })
		if v > 0 {
			out = append(out, &mesos.Resource{Name: &name, Type: mesos.Value_SCALAR.Enum(), Scalar: &mesos.Value_Scalar{Value: &v}})
		}
	}
	return out, nil
}

func parseResources(text string) ([]*mesos.Resource, error) {
	if strings.TrimSpace(text) == "" {
		return nil, nil
	}
	rs, err := resources.Parse(text, "*")
	if err != nil {
		return nil, err
	}
	return rs.Proto(), nil
}

// limitsOf reads cpus=2,mem=512 or cpus=inf.
func limitsOf(texts []string) (map[string]*mesos.Value_Scalar, error) {
	out := map[string]*mesos.Value_Scalar{}
	for _, text := range texts {
		for part := range strings.FieldsFuncSeq(text, func(r rune) bool { return r == ',' || r == ';' }) {
			name, value, ok := strings.Cut(part, "=")
			v, err := strconv.ParseFloat(value, 64) // takes inf and infinity
			if !ok || err != nil || math.IsNaN(v) || v < 0 || !slices.Contains([]string{"cpus", "mem"}, name) {
				return nil, console.Hint(console.Usagef("--limit %q", part), "cpus=2,mem=512; inf for no limit")
			}
			out[name] = &mesos.Value_Scalar{Value: &v}
		}
	}
	if len(out) == 0 {
		return nil, nil //nolint:nilnil // nil are no limits
	}
	return out, nil
}

// taskID makes a task id of a name: readable, unique, valid.
func taskID(name string) string { return cleanID(name) + "." + uuid.NewString()[:8] }

var notInID = regexp.MustCompile(`[^A-Za-z0-9_.-]+`)

func cleanID(name string) string {
	clean := notInID.ReplaceAllString(name, "-")
	return clean[:min(len(clean), 64)]
}

// copies are n units like u, with ids of their own.
func (u *unit) copies(n int) []*unit {
	out := make([]*unit, n)
	for i := range out {
		one := &unit{container: u.container, health: u.health, executor: proto.CloneOf(u.executor)}
		suffix := "-" + strconv.Itoa(i)
		for _, t := range u.tasks {
			t = proto.CloneOf(t)
			t.TaskId.Value = new(t.GetTaskId().GetValue() + suffix)
			if u.executor == nil {
				setenv(t, "CLUSTERD_TASK_INDEX", strconv.Itoa(i))
			}
			one.tasks = append(one.tasks, t)
		}
		if one.executor != nil {
			one.executor.ExecutorId.Value = new(one.executor.GetExecutorId().GetValue() + suffix)
		}
		out[i] = one
	}
	return out
}

func scalarOf(rs []*mesos.Resource, name string) (sum float64) {
	for _, r := range rs {
		if r.GetName() == name {
			sum += r.GetScalar().GetValue()
		}
	}
	return sum
}

// wants is what a unit asks for, for messages.
func (u *unit) wants() string {
	sum := map[string]float64{}
	add := func(rs []*mesos.Resource) {
		for _, r := range rs {
			if r.GetType() == mesos.Value_SCALAR {
				sum[r.GetName()] += r.GetScalar().GetValue()
			}
		}
	}
	for _, t := range u.tasks {
		add(t.GetResources())
	}
	add(u.executor.GetResources())
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(sum)) {
		parts = append(parts, name+":"+strconv.FormatFloat(sum[name], 'f', -1, 64))
	}
	if u.container != nil && len(u.container.ports) > 0 {
		parts = append(parts, fmt.Sprintf("%d ports", len(u.container.ports)))
	}
	return strings.Join(parts, " ")
}
