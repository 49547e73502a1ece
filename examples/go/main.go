// Command go is a framework for clusterd (or any Mesos v1 master) on the client
// library: it runs a command a number of times, follows the tasks, and ends when
// all have ended.
//
//	go run ./examples/go --master=127.0.0.1:5050 --tasks=3 -- echo hello
//
// Exit code 0 if every task finished, 1 if one did not.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"os/user"

	"google.golang.org/protobuf/proto"

	"clusterd/api/client/scheduler"
	mesos "clusterd/api/mesos/v1"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, os.Args[1:])
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "framework:", err)
		os.Exit(1)
	}
}

// framework is what we know of our tasks.
type framework struct {
	client  *scheduler.Client
	role    string
	command []string
	cpus    float64
	memMB   float64
	// waiting tasks are not launched yet; ended ones had their last update.
	waiting []string
	ended   map[string]mesos.TaskState
	total   int
}

func run(ctx context.Context, args []string) error {
	fs := flag.NewFlagSet("framework", flag.ExitOnError)
	master := fs.String("master", "127.0.0.1:5050", "host:port of a master")
	tasks := fs.Int("tasks", 3, "how many tasks to run")
	f := &framework{ended: map[string]mesos.TaskState{}}
	fs.StringVar(&f.role, "role", "examples", "role to subscribe with")
	fs.Float64Var(&f.cpus, "cpus", 0.1, "cpus of a task")
	fs.Float64Var(&f.memMB, "mem", 32, "memory of a task, MB")
	if err := fs.Parse(args); err != nil {
		return err
	}
	if f.command = fs.Args(); len(f.command) == 0 {
		f.command = []string{"echo", "hello"}
	}
	f.total = *tasks
	for i := range f.total {
		f.waiting = append(f.waiting, fmt.Sprintf("task-%d", i))
	}
	me, err := user.Current()
	if err != nil {
		return err
	}
	f.client, err = scheduler.New(scheduler.Options{
		Masters: []string{*master},
		Framework: &mesos.FrameworkInfo{
			User: &me.Username, Name: new("go-example"), Roles: []string{f.role},
			// The agent keeps our tasks over its own restart, the master keeps us
			// for a minute while we are away.
			Checkpoint: new(true), FailoverTimeout: proto.Float64(60),
			Capabilities: []*mesos.FrameworkInfo_Capability{
				{Type: mesos.FrameworkInfo_Capability_MULTI_ROLE.Enum()},
				{Type: mesos.FrameworkInfo_Capability_PARTITION_AWARE.Enum()},
				{Type: mesos.FrameworkInfo_Capability_RESERVATION_REFINEMENT.Enum()},
			},
		},
		OnDisconnect: func(err error) { fmt.Fprintln(os.Stderr, "disconnected:", err) },
	})
	if err != nil {
		return err
	}
	for event, err := range f.client.Subscribe(ctx) {
		if err == nil {
			err = f.handle(ctx, event)
		}
		if err != nil {
			return err
		}
		if len(f.ended) == f.total {
			// While subscribed: a call goes to the master that holds the stream.
			if err := f.client.Teardown(ctx); err != nil {
				return err
			}
			break
		}
	}
	return f.result()
}

// handle takes one event. An error ends the framework.
func (f *framework) handle(ctx context.Context, event *scheduler.Event) error {
	switch event.GetType() {
	case scheduler.SUBSCRIBED:
		fmt.Println("subscribed as", event.GetSubscribed().GetFrameworkId().GetValue())
		// After a reconnection, updates may have passed us by: ask for all.
		return f.client.Reconcile(ctx)
	case scheduler.OFFERS:
		for _, offer := range event.GetOffers().GetOffers() {
			if err := f.offered(ctx, offer); err != nil {
				return err
			}
		}
	case scheduler.UPDATE:
		return f.update(ctx, event.GetUpdate().GetStatus())
	default:
	}
	return nil
}

// offered launches as many tasks as fit into an offer; the rest goes back.
func (f *framework) offered(ctx context.Context, offer *mesos.Offer) error {
	cpus, mem := amount(offer, "cpus"), amount(offer, "mem")
	var tasks []*mesos.TaskInfo
	for len(f.waiting) > 0 && cpus >= f.cpus && mem >= f.memMB {
		id := f.waiting[0]
		f.waiting, cpus, mem = f.waiting[1:], cpus-f.cpus, mem-f.memMB
		tasks = append(tasks, &mesos.TaskInfo{
			Name: &id, TaskId: &mesos.TaskID{Value: &id},
			Resources: []*mesos.Resource{f.resource("cpus", f.cpus), f.resource("mem", f.memMB)},
			Command: &mesos.CommandInfo{
				Shell: new(false), Value: &f.command[0], Arguments: f.command,
			},
		})
	}
	if len(tasks) == 0 {
		return f.client.Decline(ctx, scheduler.Refuse(3600), offer.GetId())
	}
	return f.client.Launch(ctx, offer, tasks...)
}

func (f *framework) update(ctx context.Context, status *mesos.TaskStatus) error {
	id, state := status.GetTaskId().GetValue(), status.GetState()
	fmt.Println(id, state, status.GetMessage())
	switch state {
	case mesos.TaskState_TASK_FINISHED, mesos.TaskState_TASK_FAILED, mesos.TaskState_TASK_KILLED, mesos.TaskState_TASK_ERROR,
		mesos.TaskState_TASK_LOST, mesos.TaskState_TASK_DROPPED, mesos.TaskState_TASK_GONE:
		f.ended[id] = state
	default:
	}
	return f.client.Acknowledge(ctx, status)
}

// result says whether all went well.
func (f *framework) result() error {
	for id, state := range f.ended {
		if state != mesos.TaskState_TASK_FINISHED {
			return fmt.Errorf("%s ended in %s", id, state)
		}
	}
	return nil
}

func (f *framework) resource(name string, value float64) *mesos.Resource {
	return &mesos.Resource{
		Name: &name, Type: mesos.Value_SCALAR.Enum(), Scalar: &mesos.Value_Scalar{Value: &value},
		AllocationInfo: &mesos.Resource_AllocationInfo{Role: &f.role},
	}
}

// amount sums a scalar resource of an offer.
func amount(offer *mesos.Offer, name string) float64 {
	var sum float64
	for _, r := range offer.GetResources() {
		if r.GetName() == name {
			sum += r.GetScalar().GetValue()
		}
	}
	return sum
}
