package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"os/user"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/google/uuid"
	cliv2 "github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"

	"clusterd/api/client"
	"clusterd/api/client/scheduler"
	mesos "clusterd/api/mesos/v1"
	"clusterd/internal/cli/console"
)

func runCommand(e env) *cliv2.Command {
	return &cliv2.Command{
		Name:      "run",
		Usage:     "run a command on the cluster, follow its output and pass on its exit code",
		ArgsUsage: "-- COMMAND [ARGUMENT...]",
		Description: "clusterd run is a framework: it takes an offer, launches the command, copies its\n" +
			"output here and ends when it ends. ^C kills the task; a second ^C leaves at once.\n" +
			"Exit code: the command's; 128+n if signal n ended it; 1 if it could not run.",
		Flags: clientFlags(
			&cliv2.StringFlag{Name: "name", Usage: "`NAME` of the task; default: of the command"},
			&cliv2.Float64Flag{Name: "cpus", Usage: "`CPUS` to use", Value: 0.1},
			&cliv2.Float64Flag{Name: "mem", Usage: "`MB` of memory to use", Value: 64},
			&cliv2.Float64Flag{Name: "disk", Usage: "`MB` of disk to use"},
			&cliv2.Float64Flag{Name: "gpus", Usage: "number of GPUs to use"},
			&cliv2.StringFlag{Name: "role", Usage: "`ROLE` to be offered resources in", Value: "*"},
			&cliv2.StringFlag{Name: "user", Usage: "`USER` to run as; default: the current one"},
			&cliv2.BoolFlag{Name: "shell", Usage: "run COMMAND by sh -c"},
			&cliv2.StringSliceFlag{Name: "env", Aliases: []string{"e"}, Usage: "set a variable: `NAME=VALUE`; repeatable"},
			&cliv2.StringSliceFlag{Name: "uri", Usage: "`URI` to fetch into the sandbox first; repeatable"},
			&cliv2.DurationFlag{Name: "timeout", Usage: "end the command after this `DURATION`"},
			&cliv2.DurationFlag{Name: "grace", Usage: "`DURATION` between SIGTERM and SIGKILL", Value: 3 * time.Second},
			&cliv2.BoolFlag{Name: "quiet", Aliases: []string{"q"}, Usage: "say nothing but the command's output"},
		),
		Action: func(c *cliv2.Context) error {
			if c.NArg() == 0 {
				return console.Hint(fmt.Errorf("%w: no command given", console.ErrUsage), "clusterd run -- echo hello")
			}
			task, err := taskOf(c)
			if err != nil {
				return err
			}
			return runTask(c, e, task)
		},
	}
}

// taskOf makes the TaskInfo that the flags describe; agent_id and the role of the
// resources are filled in from the offer.
func taskOf(c *cliv2.Context) (*mesos.TaskInfo, error) {
	name := cmp.Or(c.String("name"), filepath.Base(c.Args().First()))
	task := &mesos.TaskInfo{
		Name:       &name,
		TaskId:     &mesos.TaskID{Value: new(taskID(name))},
		Command:    &mesos.CommandInfo{Shell: new(false), Value: new(c.Args().First()), Arguments: c.Args().Slice()},
		KillPolicy: &mesos.KillPolicy{GracePeriod: &mesos.DurationInfo{Nanoseconds: new(int64(c.Duration("grace")))}},
	}
	if c.Bool("shell") {
		task.Command = &mesos.CommandInfo{Shell: new(true), Value: new(strings.Join(c.Args().Slice(), " "))}
	}
	if d := c.Duration("timeout"); d > 0 {
		task.MaxCompletionTime = &mesos.DurationInfo{Nanoseconds: new(int64(d))}
	}
	for _, kv := range c.StringSlice("env") {
		k, v, ok := strings.Cut(kv, "=")
		if !ok {
			return nil, fmt.Errorf("%w: --env %q is not NAME=VALUE", console.ErrUsage, kv)
		}
		if task.Command.Environment == nil {
			task.Command.Environment = &mesos.Environment{}
		}
		task.Command.Environment.Variables = append(task.Command.Environment.Variables, &mesos.Environment_Variable{Name: &k, Value: &v})
	}
	for _, uri := range c.StringSlice("uri") {
		task.Command.Uris = append(task.Command.Uris, &mesos.CommandInfo_URI{Value: &uri})
	}
	for _, name := range []string{"cpus", "mem", "disk", "gpus"} {
		if v := c.Float64(name); v > 0 {
			task.Resources = append(task.Resources, &mesos.Resource{
				Name: &name, Type: mesos.Value_SCALAR.Enum(), Scalar: &mesos.Value_Scalar{Value: &v},
				AllocationInfo: &mesos.Resource_AllocationInfo{Role: new(c.String("role"))},
			})
		}
	}
	return task, nil
}

// taskID makes a task id of a name: readable, unique, valid.
func taskID(name string) string {
	clean := regexp.MustCompile(`[^A-Za-z0-9_.-]+`).ReplaceAllString(name, "-")
	return clean[:min(len(clean), 64)] + "." + uuid.NewString()[:8]
}

// runner is the framework behind `clusterd run`.
type runner struct {
	env
	client *scheduler.Client
	opts   client.Options // for agents
	task   *mesos.TaskInfo
	quiet  bool

	launched bool
	agent    string // address of the agent that runs the task
	last     *mesos.TaskStatus
	output   *output
	ended    chan struct{} // closed at the terminal update
	wg       sync.WaitGroup
}

func runTask(c *cliv2.Context, e env, task *mesos.TaskInfo) error {
	owner := c.String("user")
	if owner == "" {
		u, err := user.Current()
		if err != nil {
			return err
		}
		owner = u.Username
	}
	framework := &mesos.FrameworkInfo{
		User: &owner, Name: new("clusterd run " + task.GetName()), Hostname: new(hostname()),
		Roles: []string{c.String("role")}, Checkpoint: new(true),
		// Long enough for a restart of the master or of this connection.
		FailoverTimeout: proto.Float64(60),
	}
	capabilities := []mesos.FrameworkInfo_Capability_Type{
		mesos.FrameworkInfo_Capability_MULTI_ROLE, mesos.FrameworkInfo_Capability_PARTITION_AWARE,
		mesos.FrameworkInfo_Capability_RESERVATION_REFINEMENT, mesos.FrameworkInfo_Capability_TASK_KILLING_STATE,
	}
	if c.Float64("gpus") > 0 {
		capabilities = append(capabilities, mesos.FrameworkInfo_Capability_GPU_RESOURCES)
	}
	for _, t := range capabilities {
		framework.Capabilities = append(framework.Capabilities, &mesos.FrameworkInfo_Capability{Type: t.Enum()})
	}
	opts, err := clientOptions(c)
	if err != nil {
		return err
	}
	framework.Principal = principalOf(opts)
	r := &runner{env: e, opts: opts, task: task, quiet: c.Bool("quiet"), ended: make(chan struct{})}
	// The first failure to reach a master is final: somebody waits for an answer.
	ctx, cancel := context.WithCancelCause(context.WithoutCancel(c.Context))
	defer cancel(nil)
	subscribed := false
	client, err := scheduler.New(scheduler.Options{
		Masters: masters(c), Framework: framework, HTTP: opts,
		OnDisconnect: func(err error) {
			if !subscribed {
				cancel(explain(err, c))
				return
			}
			r.say("disconnected: %v", err)
		},
	})
	if err != nil {
		return err
	}
	r.client = client
	err = r.client.Run(ctx, func(event *scheduler.Event) error {
		if event.GetType() == scheduler.SUBSCRIBED && !subscribed {
			subscribed = true
			r.wg.Go(func() { r.killOnInterrupt(c.Context, ctx, cancel) })
		}
		return r.handle(ctx, event)
	})
	cancel(err)
	r.wg.Wait()
	if !errors.Is(err, errTaskEnded) {
		return err
	}
	return r.exit()
}

// principalOf is whom a framework must say that it is: who is authenticated by a
// credential. Of a token the master knows it.
func principalOf(o client.Options) *string {
	if o.Credential == nil {
		return nil
	}
	return &o.Credential.Principal
}

// errTaskEnded ends the framework.
var errTaskEnded = errors.New("the task has ended")

func (r *runner) say(format string, args ...any) {
	if !r.quiet {
		fmt.Fprintf(r.Err, "clusterd: "+format+"\n", args...)
	}
}

// killOnInterrupt kills the task when the user interrupts, or gives up if there
// is none yet.
func (r *runner) killOnInterrupt(interrupted, ctx context.Context, cancel context.CancelCauseFunc) {
	select {
	case <-interrupted.Done():
	case <-r.ended:
		return
	case <-ctx.Done():
		return
	}
	r.say("killing %s (^C again to leave at once)", r.task.GetTaskId().GetValue())
	if err := r.client.Kill(ctx, r.task.GetTaskId(), nil, nil); err != nil {
		r.teardown()
		cancel(err)
		return
	}
	select {
	case <-r.ended:
	case <-ctx.Done():
	}
}

func (r *runner) handle(ctx context.Context, event *scheduler.Event) error {
	switch event.GetType() {
	case scheduler.SUBSCRIBED:
		if !r.launched {
			return nil
		}
		return r.retry(r.client.Reconcile(ctx))
	case scheduler.OFFERS:
		for _, offer := range event.GetOffers().GetOffers() {
			if err := r.retry(r.offered(ctx, offer)); err != nil {
				return err
			}
		}
	case scheduler.UPDATE:
		return r.update(ctx, event.GetUpdate().GetStatus())
	default:
	}
	return nil
}

// retry swallows errors of calls that a new subscription makes good.
func (r *runner) retry(err error) error {
	if err != nil && client.StatusCode(err) == 0 {
		return nil
	}
	return err
}

func (r *runner) offered(ctx context.Context, offer *mesos.Offer) error {
	if r.launched || !fits(r.task.GetResources(), offer.GetResources()) {
		refuse := 5.0
		if r.launched {
			refuse = 3600
		}
		return r.client.Decline(ctx, scheduler.Refuse(refuse), offer.GetId())
	}
	r.task.AgentId = offer.GetAgentId()
	address := offer.GetUrl().GetAddress()
	r.agent = net.JoinHostPort(cmp.Or(address.GetIp(), address.GetHostname()), strconv.Itoa(int(address.GetPort())))
	if offer.GetUrl().GetScheme() == "https" {
		r.agent = "https://" + r.agent
	}
	if err := r.client.Launch(ctx, offer, r.task); err != nil {
		return err
	}
	r.launched = true
	r.say("launched %s on %s", r.task.GetTaskId().GetValue(), offer.GetHostname())
	return r.client.Suppress(ctx)
}

// fits reports whether an offer holds the scalars that are wanted.
func fits(want, offered []*mesos.Resource) bool {
	for _, w := range want {
		var plain []*mesos.Resource
		for _, o := range offered {
			if o.GetRevocable() == nil && o.GetDisk() == nil && len(o.GetReservations()) == 0 {
				plain = append(plain, o)
			}
		}
		if scalar(plain, w.GetName()) < w.GetScalar().GetValue() {
			return false
		}
	}
	return true
}

func (r *runner) update(ctx context.Context, status *mesos.TaskStatus) error {
	if err := r.retry(r.client.Acknowledge(ctx, status)); err != nil {
		return err
	}
	r.last = status
	if status.GetState() == mesos.TaskState_TASK_RUNNING && r.output == nil {
		if err := r.showOutput(ctx); err != nil {
			return err
		}
	}
	if !terminal(status.GetState()) {
		return nil
	}
	close(r.ended)
	r.wg.Wait() // the rest of the output, while the framework still stands
	r.teardown()
	return errTaskEnded
}

// showOutput begins to copy the task's output here.
func (r *runner) showOutput(ctx context.Context) error {
	out, err := newOutput(r.agent, r.opts, r.client.FrameworkID().GetValue(), r.task.GetTaskId().GetValue())
	if err != nil {
		return err
	}
	out.both(r.Out, r.Err)
	r.output = out
	r.wg.Go(func() {
		err := out.follow(ctx, func() (bool, error) {
			select {
			case <-r.ended:
				return true, nil
			default:
				return false, nil
			}
		})
		if err != nil && ctx.Err() == nil {
			r.say("output: %v", err)
		}
	})
	return nil
}

func (r *runner) teardown() {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if err := r.client.Teardown(ctx); err != nil {
		r.say("teardown: %v", err)
	}
}

// exit turns the task's last status into the exit code of this process. The
// contract has no field for it: the message of the command executor does.
func (r *runner) exit() error {
	message := r.last.GetMessage()
	if m := regexp.MustCompile(`^Command exited with status (\d+)`).FindStringSubmatch(message); m != nil {
		code, err := strconv.Atoi(m[1])
		if err == nil {
			if code == 0 {
				return nil
			}
			return console.ExitError(code)
		}
	}
	r.say("%s: %s %s", r.task.GetTaskId().GetValue(), r.last.GetState(), message)
	if m := regexp.MustCompile(`^Command terminated with signal (.+?)( \(core dumped\))?$`).FindStringSubmatch(message); m != nil {
		for n := syscall.Signal(1); n < 65; n++ {
			if strings.EqualFold(n.String(), m[1]) || unix.SignalName(n) == m[1] {
				return console.ExitError(128 + int(n))
			}
		}
	}
	if r.last.GetState() == mesos.TaskState_TASK_FINISHED {
		return nil
	}
	return console.ExitError(console.ExitFailed)
}
