package netcluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"clusterd/api/client"
	"clusterd/api/client/scheduler"
	mesos "clusterd/api/mesos/v1"
	pb "clusterd/api/mesos/v1/scheduler"
	"clusterd/internal/testcluster"
)

// role that workloads subscribe with.
const role = "work"

// WorkloadOptions say what a workload does.
type WorkloadOptions struct {
	// Long is how many tasks are to run that never end.
	Long int
	// Short is how many tasks that end after half a second are under way at a time.
	Short int
	// LaterMasters is how many masters the framework knows that are not there yet.
	LaterMasters int
	// Unreachable says that tasks may be unreachable for a while.
	Unreachable bool
}

// Workload is a framework that keeps tasks running through whatever happens to the
// cluster. Every task writes its process id into a file when it starts, outside of
// any sandbox, so that the files tell what has really been started.
type Workload struct {
	opts   WorkloadOptions
	dir    string // a file for each task
	client *scheduler.Client
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu sync.Mutex
	// mu guards what follows.
	tasks         map[string]*task
	names         int
	subscriptions int
	offers        map[string]*mesos.Offer // declined at the next subscription
	wrong         []error                 // what must not happen and did
	ended         error                   // why the subscription ended for good
	paused        bool
	statuses      int
}

// task is what the framework knows of one.
type task struct {
	id    string
	long  bool
	agent *mesos.AgentID
	state mesos.TaskState
	ran   bool // it was heard of as starting or running
	since time.Time
	told  bool // its state is but the answer to a question: updates of before may follow
}

// Subscribe starts a framework with a workload, which ends with the test. It waits until
// its first tasks run.
func (c *Cluster) Subscribe(t testing.TB, opts WorkloadOptions) *Workload {
	t.Helper()
	w := &Workload{
		opts: opts, dir: filepath.Join(c.Dir, "starts"),
		tasks: map[string]*task{}, offers: map[string]*mesos.Offer{},
	}
	if err := os.Mkdir(w.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	var addrs []string
	for _, m := range c.Masters {
		addrs = append(addrs, m.Addr)
	}
	for i := range opts.LaterMasters {
		addrs = append(addrs, fmt.Sprintf("%s%d:5050", prefix, c.next+i))
	}
	if err := w.start(t, c.Client, addrs); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.stop)
	if err := w.Await(w.settled); err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *Workload) start(t testing.TB, from *Host, masters []string) error {
	hc := from.HTTP()
	var err error
	w.client, err = scheduler.New(scheduler.Options{
		Masters: masters,
		Framework: &mesos.FrameworkInfo{
			User: new("root"), Name: new("workload"), Roles: []string{role},
			Checkpoint: new(true), FailoverTimeout: proto.Float64(3600),
			Capabilities: []*mesos.FrameworkInfo_Capability{
				{Type: mesos.FrameworkInfo_Capability_MULTI_ROLE.Enum()},
				{Type: mesos.FrameworkInfo_Capability_PARTITION_AWARE.Enum()},
			},
		},
		HTTP:       client.Options{HTTPClient: hc, CallTimeout: 2 * time.Second},
		MaxBackoff: time.Second,
		OnDisconnect: func(err error) {
			t.Logf("%s workload: %v", time.Now().UTC().Format(time.TimeOnly), err)
		},
	})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	w.cancel = func() { cancel(); hc.CloseIdleConnections() }
	w.wg.Go(func() {
		err := w.client.Run(ctx, func(e *scheduler.Event) error { w.handle(ctx, e); return nil })
		w.mu.Lock()
		defer w.mu.Unlock()
		if ctx.Err() == nil {
			w.ended = err
		}
	})
	w.wg.Go(func() { w.ask(ctx) })
	return nil
}

func (w *Workload) stop() {
	w.cancel()
	w.wg.Wait()
	w.cancel()
}

// handle takes one event. Calls that fail are made good by the next reconciliation.
func (w *Workload) handle(ctx context.Context, e *scheduler.Event) {
	switch e.GetType() {
	case scheduler.SUBSCRIBED:
		w.mu.Lock()
		w.subscriptions++
		w.mu.Unlock()
		w.reconcile(ctx, func(*task) bool { return true })
	case scheduler.OFFERS:
		for _, o := range e.GetOffers().GetOffers() {
			tasks := w.toLaunch(o)
			if len(tasks) == 0 {
				_ = w.client.Decline(ctx, scheduler.Refuse(0.2), o.GetId())
				continue
			}
			_ = w.client.Accept(ctx, []*mesos.OfferID{o.GetId()}, []*mesos.Offer_Operation{{
				Type: mesos.Offer_Operation_LAUNCH.Enum(), Launch: &mesos.Offer_Operation_Launch{TaskInfos: tasks},
			}}, scheduler.Refuse(0.2))
		}
	case scheduler.UPDATE:
		s := e.GetUpdate().GetStatus()
		w.update(s)
		_ = w.client.Acknowledge(ctx, s)
	default:
	}
}

// stuckAfter is when a short task of which nothing is heard, since its agent is away,
// no longer keeps others from being launched.
const stuckAfter = 3 * time.Second

// perOffer is how many tasks are launched on one offer, so that all agents get some.
const perOffer = 3

// toLaunch makes the tasks that are wanted on an offer.
func (w *Workload) toLaunch(o *mesos.Offer) []*mesos.TaskInfo {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.paused {
		return nil
	}
	long, short := 0, 0
	for _, t := range w.tasks {
		switch {
		case over(t.state):
		case t.long:
			long++
		case time.Since(t.since) < stuckAfter:
			short++
		}
	}
	var infos []*mesos.TaskInfo
	for len(infos) < perOffer && (long < w.opts.Long || short < w.opts.Short) {
		w.names++
		t := &task{
			id: fmt.Sprintf("t%04d", w.names), long: long < w.opts.Long, agent: o.GetAgentId(),
			state: mesos.TaskState_TASK_STAGING, since: time.Now(),
		}
		script := fmt.Sprintf("echo $$ >> %s/%s; ", w.dir, t.id)
		if t.long {
			long++
			script += "exec sleep 100000"
		} else {
			short++
			script += "sleep 0.5; echo done >> " + filepath.Join(w.dir, t.id)
		}
		w.tasks[t.id] = t
		infos = append(infos, &mesos.TaskInfo{
			Name: &t.id, TaskId: &mesos.TaskID{Value: &t.id}, AgentId: o.GetAgentId(),
			Resources: []*mesos.Resource{scalar("cpus", 0.1), scalar("mem", 32)},
			Command:   &mesos.CommandInfo{Value: &script},
		})
	}
	return infos
}

func scalar(name string, value float64) *mesos.Resource {
	return &mesos.Resource{
		Name: &name, Type: mesos.Value_SCALAR.Enum(), Scalar: &mesos.Value_Scalar{Value: &value},
		AllocationInfo: &mesos.Resource_AllocationInfo{Role: new(role)},
	}
}

// over says whether a task in the state does not run and never will. UNKNOWN is
// the answer for a task that no master has heard of.
func over(s mesos.TaskState) bool {
	return ended(s) || neverStarted(s)
}

func ended(s mesos.TaskState) bool {
	switch s {
	case mesos.TaskState_TASK_FINISHED, mesos.TaskState_TASK_FAILED, mesos.TaskState_TASK_KILLED,
		mesos.TaskState_TASK_GONE_BY_OPERATOR:
		return true
	default:
		return false
	}
}

func neverStarted(s mesos.TaskState) bool {
	switch s {
	case mesos.TaskState_TASK_DROPPED, mesos.TaskState_TASK_GONE, mesos.TaskState_TASK_ERROR,
		mesos.TaskState_TASK_LOST, mesos.TaskState_TASK_UNKNOWN:
		return true
	default:
		return false
	}
}

// update takes what the master says of a task.
func (w *Workload) update(s *mesos.TaskStatus) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.statuses++
	t := w.tasks[s.GetTaskId().GetValue()]
	state := s.GetState()
	switch {
	case t == nil:
		w.fault("an update of a task that was never launched: %v", s)
		return
	case ended(t.state) && t.told && (state == mesos.TaskState_TASK_STARTING || state == mesos.TaskState_TASK_RUNNING):
		return // it was not acknowledged, and comes again before the last one does
	case neverStarted(t.state) && neverStarted(state):
		return // the master has never heard of it, and then the agent says the same
	case over(t.state) && state != t.state:
		w.fault("%s was %s and now is %v", t.id, t.state, s)
	case neverStarted(state) && t.ran:
		w.fault("%s ran and is lost: %v", t.id, s)
	case ended(state) && (t.long || state != mesos.TaskState_TASK_FINISHED):
		w.fault("%s ended: %v", t.id, s)
	case state == mesos.TaskState_TASK_UNREACHABLE:
		if !w.opts.Unreachable {
			w.fault("%s became unreachable: %v", t.id, s)
		}
	case state == mesos.TaskState_TASK_STARTING || state == mesos.TaskState_TASK_RUNNING:
		t.ran = true
	}
	if t.state != state {
		t.state, t.since = state, time.Now()
	}
	t.told = len(s.GetUuid()) == 0
}

// fault notes what must not happen.
func (w *Workload) fault(format string, args ...any) {
	w.wrong = append(w.wrong, fmt.Errorf(format, args...))
}

// ask reconciles tasks that have been on the way for long, as frameworks do, and one
// at least: a master that is frozen shows by not answering.
func (w *Workload) ask(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			n := 0
			w.reconcile(ctx, func(t *task) bool {
				n++
				return n == 1 || t.state != mesos.TaskState_TASK_RUNNING && time.Since(t.since) > time.Second
			})
		}
	}
}

// reconcile asks for the tasks that are not over and that which picks.
func (w *Workload) reconcile(ctx context.Context, which func(*task) bool) {
	w.mu.Lock()
	var ask []*pb.Call_Reconcile_Task
	for _, id := range slices.Sorted(maps.Keys(w.tasks)) {
		if t := w.tasks[id]; !over(t.state) && which(t) {
			ask = append(ask, &pb.Call_Reconcile_Task{TaskId: &mesos.TaskID{Value: &id}, AgentId: t.agent})
		}
	}
	w.mu.Unlock()
	if len(ask) > 0 {
		_ = w.client.Reconcile(ctx, ask...)
	}
}

// Await waits until a condition holds, which is called with the workload locked,
// or something went wrong.
func (w *Workload) Await(condition func() error) error {
	var wrong error
	err := testcluster.Poll(func() error {
		w.mu.Lock()
		defer w.mu.Unlock()
		if wrong = errors.Join(append(w.wrong, w.ended)...); wrong != nil {
			return nil
		}
		return condition()
	})
	return errors.Join(wrong, err)
}

// settled says whether all the long tasks run.
func (w *Workload) settled() error {
	running := 0
	for _, t := range w.tasks {
		if t.long && t.state == mesos.TaskState_TASK_RUNNING {
			running++
		}
	}
	if running != w.opts.Long {
		return fmt.Errorf("%d of %d tasks run: %s", running, w.opts.Long, w.describe())
	}
	return nil
}

// describe lists the tasks that neither run nor are over.
func (w *Workload) describe() string {
	var b strings.Builder
	for _, id := range slices.Sorted(maps.Keys(w.tasks)) {
		if t := w.tasks[id]; !over(t.state) && t.state != mesos.TaskState_TASK_RUNNING {
			fmt.Fprintf(&b, " %s %s", id, t.state)
		}
	}
	return b.String()
}

// Subscriptions is how often the framework was subscribed.
func (w *Workload) Subscriptions() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.subscriptions
}

// AwaitSubscription waits until the framework was subscribed more than so many times.
func (w *Workload) AwaitSubscription(more int) error {
	return w.Await(func() error {
		if w.subscriptions <= more {
			return fmt.Errorf("%d subscriptions", w.subscriptions)
		}
		return nil
	})
}

// AwaitWork waits until n short tasks more have finished: the cluster does its work.
func (w *Workload) AwaitWork(n int) error {
	w.mu.Lock()
	before := w.finished()
	w.mu.Unlock()
	return w.Await(func() error {
		if now := w.finished(); now < before+n {
			return fmt.Errorf("%d tasks have finished since, want %d:%s", now-before, n, w.describe())
		}
		return nil
	})
}

func (w *Workload) finished() int {
	n := 0
	for _, t := range w.tasks {
		if t.state == mesos.TaskState_TASK_FINISHED {
			n++
		}
	}
	return n
}

// Check lets what is under way end, and compares what the framework was told, what the
// leader says, and what was really started: no task is lost, started twice or
// forgotten. The workload goes on after it.
func (w *Workload) Check(c *Cluster) error {
	w.pause(true)
	defer w.pause(false)
	err := w.Await(func() error {
		if err := w.settled(); err != nil {
			return err
		}
		for _, t := range w.tasks {
			if !over(t.state) && !t.long {
				return fmt.Errorf("tasks are under way:%s", w.describe())
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	w.mu.Lock()
	errs := slices.Clone(w.wrong)
	var running []string
	for _, id := range slices.Sorted(maps.Keys(w.tasks)) {
		t := w.tasks[id]
		if t.state == mesos.TaskState_TASK_RUNNING {
			running = append(running, id)
		}
		if err := w.checkStarts(t); err != nil {
			errs = append(errs, err)
		}
	}
	w.mu.Unlock()
	leader, err := c.Leader()
	if err != nil {
		return errors.Join(append(errs, err)...)
	}
	// The last acknowledgements are on their way.
	err = testcluster.Poll(func() error { return w.compare(leader, running) })
	return errors.Join(append(errs, err)...)
}

func (w *Workload) pause(p bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.paused = p
}

// checkStarts compares a task's state with what it wrote.
func (w *Workload) checkStarts(t *task) error {
	b, err := os.ReadFile(filepath.Join(w.dir, t.id))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	lines := strings.Fields(string(b))
	switch {
	case neverStarted(t.state):
		if len(lines) > 0 {
			return fmt.Errorf("%s is said to be %s, but was started: %q", t.id, t.state, lines)
		}
	case t.state == mesos.TaskState_TASK_FINISHED:
		if len(lines) != 2 || lines[1] != "done" {
			return fmt.Errorf("%s has finished, but wrote %q", t.id, lines)
		}
	default:
		if len(lines) != 1 {
			return fmt.Errorf("%s is %s, but was started %d times", t.id, t.state, len(lines))
		}
		pid, err := strconv.Atoi(lines[0])
		if err != nil {
			return err
		}
		if err := syscall.Kill(pid, 0); err != nil {
			return fmt.Errorf("%s is %s, but its process %d: %w", t.id, t.state, pid, err)
		}
		if b, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid)); err != nil || !bytes.HasPrefix(b, []byte("sleep\x00")) {
			return fmt.Errorf("%s is %s, but its process %d is %q, %w", t.id, t.state, pid, b, err)
		}
	}
	return nil
}

// compare wants the leader to list those tasks as running, and no others.
func (w *Workload) compare(leader *Node, running []string) error {
	l, err := leader.asLeader()
	if err != nil {
		return err
	}
	if len(l.Frameworks) != 1 || !l.Frameworks[0].Connected {
		return fmt.Errorf("frameworks at %s: %+v", leader.name, l.Frameworks)
	}
	var listed []string
	for _, t := range l.Frameworks[0].Tasks {
		if t.State == "TASK_RUNNING" {
			listed = append(listed, t.ID)
			continue
		}
		listed = append(listed, t.ID+" "+t.State)
	}
	slices.Sort(listed)
	if !slices.Equal(listed, running) {
		return fmt.Errorf("%s lists the tasks %q, want %q", leader.name, listed, running)
	}
	return nil
}

// String says what has happened so far.
func (w *Workload) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	states := map[mesos.TaskState]int{}
	for _, t := range w.tasks {
		states[t.state]++
	}
	return fmt.Sprintf("%d tasks, %d subscriptions, %d updates, states %v", len(w.tasks), w.subscriptions, w.statuses, states)
}
