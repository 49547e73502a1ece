package work

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"slices"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	"clusterd/api/client"
	"clusterd/api/client/scheduler"
	mesos "clusterd/api/mesos/v1"
	pb "clusterd/api/mesos/v1/scheduler"
	"clusterd/internal/cli/console"
)

const (
	// maxBackoff bounds the wait before a new subscription: somebody waits.
	maxBackoff = 2 * time.Second
	// electing is how long a cluster without a leader is tried before it is an error.
	electing = 15 * time.Second
	// hurry is after how long without a fitting offer something is said of it.
	hurry = 5 * time.Second
	// afterGrace is how long an agent has, after a task's own time to end, to say that it has.
	afterGrace = 7 * time.Second
	// relaunches is how often a task is launched again that was dropped on the way.
	relaunches = 5
	// defaultGrace is Mesos's grace period (src/slave/constants.hpp).
	defaultGrace = 3 * time.Second
	// never is longer than any detached task runs, and fits into Mesos's durations.
	never = 10 * 365 * 24 * time.Hour
)

var (
	// errTasksEnded ends the framework: all is done.
	errTasksEnded = errors.New("the tasks have ended")
	// errLeft ends this process, not the tasks.
	errLeft = errors.New("the tasks go on")
	// errGaveUp ends the framework after an interrupt that the agents do not answer.
	errGaveUp = errors.New("given up")
)

// running is a task that was launched, or is about to be.
type running struct {
	id, name string
	label    string // before its lines; empty: none
	index    int
	agent    string
	executor string // of its group
	grace    time.Duration
	launched bool
	dropped  int               // times
	last     *mesos.TaskStatus // the newest
	follows  bool
	ran      bool
	ended    chan struct{} // closed at the terminal update
	killer   *time.Timer   // of --kill_after
}

func (r *running) over() bool { return r.last != nil && console.Terminal(r.last.GetState()) }

// runOptions are what a runner does besides launching.
type runOptions struct {
	quiet, detach bool
	interactive   bool
	// resume: the framework is one that was left behind.
	resume    bool
	killAfter time.Duration
	// failover is how long the framework's tasks live on without this process.
	failover time.Duration
}

// runner is the framework behind `clusterd run`.
type runner struct {
	console.Env
	runOptions
	cluster *console.Cluster
	client  *scheduler.Client
	job     *job
	placer  placer
	info    *mesos.FrameworkInfo
	lines   *lines
	wg      sync.WaitGroup

	// ctx ends with the framework.
	ctx    context.Context
	cancel context.CancelCauseFunc
	// output ends when nobody waits for the rest of it.
	output    context.Context
	interrupt context.Context
	// cancelOutput ends it.
	cancelOutput context.CancelFunc

	mu      sync.Mutex // mu guards what follows.
	tasks   map[string]*running
	order   []*running
	pending []*unit
	stopped bool // interrupted: nothing more is launched
	why     string
	offers  int
	ended   chan struct{} // closed when all tasks have ended

	// ends are of tasks that had ended before the framework was taken over.
	ends []*mesos.TaskStatus
}

func newRunner(e console.Env, cl *console.Cluster, j *job, o runOptions) *runner {
	r := &runner{
		Env: e, runOptions: o, cluster: cl, job: j, lines: &lines{out: e.OutTerminal()},
		tasks: map[string]*running{}, pending: slices.Clone(j.units), ended: make(chan struct{}),
	}
	many := len(j.units) > 1 || len(j.units) == 1 && len(j.units[0].tasks) > 1
	for i, u := range j.units {
		for _, t := range u.tasks {
			label := ""
			if many {
				label = t.GetName()
				if len(j.units) > 1 {
					label = fmt.Sprintf("%s-%d", t.GetName(), i)
				}
			}
			r.add(&running{
				id: t.GetTaskId().GetValue(), name: t.GetName(), label: label, executor: u.executor.GetExecutorId().GetValue(),
				grace: graceOf(t),
			})
		}
	}
	return r
}

func graceOf(t *mesos.TaskInfo) time.Duration {
	if g := t.GetKillPolicy().GetGracePeriod(); g != nil {
		return time.Duration(g.GetNanoseconds())
	}
	return defaultGrace
}

// add makes a task known; called before anything runs.
func (r *runner) add(t *running) {
	t.index, t.ended = len(r.order), make(chan struct{})
	r.tasks[t.id] = t
	r.order = append(r.order, t)
}

// capabilities of a framework that knows all that a run may meet.
var capabilities = []mesos.FrameworkInfo_Capability_Type{
	mesos.FrameworkInfo_Capability_MULTI_ROLE, mesos.FrameworkInfo_Capability_PARTITION_AWARE,
	mesos.FrameworkInfo_Capability_RESERVATION_REFINEMENT, mesos.FrameworkInfo_Capability_TASK_KILLING_STATE,
}

// framework is what the job is registered as.
func (r *runner) framework() *mesos.FrameworkInfo {
	out := &mesos.FrameworkInfo{
		User: &r.job.user, Name: new("clusterd run " + r.job.name), Hostname: new(hostname()),
		Roles: []string{r.job.role}, Checkpoint: new(true), FailoverTimeout: new(r.failover.Seconds()),
	}
	if p := r.cluster.Principal(); p != "" {
		out.Principal = &p // of a token the master knows it
	}
	all := capabilities
	if r.job.gpus {
		all = append(slices.Clone(all), mesos.FrameworkInfo_Capability_GPU_RESOURCES)
	}
	for _, t := range all {
		out.Capabilities = append(out.Capabilities, &mesos.FrameworkInfo_Capability{Type: t.Enum()})
	}
	return out
}

// run subscribes, launches, and waits for the end. interrupt is done when the user wants it.
func (r *runner) run(interrupt context.Context, info *mesos.FrameworkInfo) error {
	r.info = info
	r.placer = placer{role: r.job.role, principal: info.Principal}
	r.ctx, r.cancel = context.WithCancelCause(context.WithoutCancel(interrupt))
	defer r.cancel(nil)
	r.interrupt = interrupt
	r.output, r.cancelOutput = context.WithCancel(r.ctx)
	defer r.cancelOutput()
	began, subscribed := time.Now(), false
	var suppressed []string
	if r.resume {
		suppressed = info.GetRoles() // all is launched
	}
	c, err := scheduler.New(scheduler.Options{
		SuppressedRoles: suppressed,
		Masters:         []string{r.cluster.Address()}, Framework: info, HTTP: r.cluster.Options(), MaxBackoff: maxBackoff,
		OfferConstraints: offerConstraints(r.job.role, r.job.constraints),
		OnDisconnect: func(err error) {
			switch {
			case subscribed:
				r.say("disconnected: %v", err)
			case interrupt.Err() != nil:
				r.cancel(console.ExitError(interrupted))
			// Somebody waits for an answer: only an election is waited for.
			case client.StatusCode(err) != http.StatusServiceUnavailable || time.Since(began) > electing:
				r.cancel(r.cluster.Explain(err))
			}
		},
	})
	if err != nil {
		return err
	}
	r.client = c
	err = c.Run(r.ctx, func(event *scheduler.Event) error {
		first := event.GetType() == scheduler.SUBSCRIBED && !subscribed
		if first {
			subscribed = true
			r.wg.Go(func() { r.attend(interrupt) })
			r.wg.Go(r.complain)
		}
		err := r.handle(event, first)
		if err != nil && !errors.Is(err, errTasksEnded) && !errors.Is(err, errLeft) {
			r.teardown() // or the tasks would outlive the one who knows of them
		}
		return err
	})
	r.cancel(err)
	r.wg.Wait()
	switch {
	case errors.Is(err, errTasksEnded):
		return r.result()
	case errors.Is(err, errLeft):
		return nil
	case errors.Is(err, errGaveUp):
		return console.ExitError(interrupted)
	}
	return r.cluster.Explain(err)
}

func (r *runner) say(format string, args ...any) {
	if !r.quiet {
		fmt.Fprintf(r.Err, "clusterd: "+format+"\n", args...)
	}
}

func (r *runner) handle(event *scheduler.Event, first bool) error {
	switch event.GetType() {
	case scheduler.SUBSCRIBED:
		if first && !r.resume {
			return nil
		}
		if first {
			for _, s := range r.ends {
				if err := r.update(s); err != nil {
					return err
				}
			}
		}
		return r.retry(r.reconcile())
	case scheduler.OFFERS:
		for _, offer := range event.GetOffers().GetOffers() {
			if err := r.retry(r.offered(offer)); err != nil {
				return err
			}
		}
	case scheduler.UPDATE:
		return r.update(event.GetUpdate().GetStatus())
	default:
	}
	return nil
}

// retry swallows errors of calls that a new subscription makes good.
func (r *runner) retry(err error) error {
	if err != nil && client.StatusCode(err) == 0 && !errors.Is(err, console.ErrUsage) {
		return nil
	}
	return err
}

// reconcile asks for the tasks that were launched: what happened to them, or to the launch,
// while nobody listened.
func (r *runner) reconcile() error {
	var ask []*pb.Call_Reconcile_Task
	for _, t := range r.alive() {
		one := &pb.Call_Reconcile_Task{TaskId: &mesos.TaskID{Value: &t.id}}
		if t.agent != "" {
			one.AgentId = &mesos.AgentID{Value: &t.agent}
		}
		ask = append(ask, one)
	}
	if len(ask) == 0 {
		return nil
	}
	return r.client.Reconcile(r.ctx, ask...)
}

// alive are the tasks that were launched and have not ended.
func (r *runner) alive() []*running {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []*running
	for _, t := range r.order {
		if t.launched && !t.over() {
			out = append(out, t)
		}
	}
	return out
}

// offered launches on an offer as many of the units as fit.
func (r *runner) offered(offer *mesos.Offer) error {
	const soon, late = 5, 3600
	operations, launched, err := r.choose(offer)
	if err != nil && !errors.Is(err, console.ErrUsage) {
		err = fmt.Errorf("%w: %w", console.ErrUsage, err) // no other offer would change it
	}
	if err != nil {
		return err
	}
	r.mu.Lock()
	done := len(r.pending) == 0 || r.stopped
	r.mu.Unlock()
	refuse := scheduler.Refuse(soon)
	if done {
		refuse = scheduler.Refuse(late)
	}
	if len(operations) == 0 {
		return r.client.Decline(r.ctx, refuse, offer.GetId())
	}
	// Whether or not the answer comes: the tasks may have been launched. A new subscription
	// asks for them.
	if err := r.client.Accept(r.ctx, []*mesos.OfferID{offer.GetId()}, operations, refuse); err != nil {
		return err
	}
	for _, t := range launched {
		r.say("launched %s on %s", t.id, offer.GetHostname())
	}
	if done {
		return r.client.Suppress(r.ctx)
	}
	return nil
}

// choose takes units from those that wait, and makes the operations for them.
func (r *runner) choose(offer *mesos.Offer) (operations []*mesos.Offer_Operation, launched []*running, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.stopped || len(r.pending) == 0 {
		return nil, nil, nil
	}
	r.offers++
	for _, c := range r.job.constraints {
		if !c.holds(offer) {
			r.why = fmt.Sprintf("%s does not fit %s", offer.GetHostname(), c)
			return nil, nil, nil
		}
	}
	pool, err := poolOf(offer)
	if err != nil {
		return nil, nil, err
	}
	var plain []*mesos.TaskInfo
	rest := r.pending[:0:0]
	for _, u := range r.pending {
		p, why, err := r.placer.place(u, offer.GetAgentId(), pool)
		if err != nil {
			return nil, nil, err
		}
		if why != "" {
			r.why = fmt.Sprintf("%s has not %s", offer.GetHostname(), why)
			rest = append(rest, u)
			continue
		}
		pool = p.left
		for _, op := range p.operations {
			if op.GetType() == mesos.Offer_Operation_LAUNCH {
				plain = append(plain, op.GetLaunch().GetTaskInfos()...)
				continue
			}
			if e := op.GetLaunchGroup().GetExecutor(); e != nil {
				e.FrameworkId = r.client.FrameworkID()
			}
			operations = append(operations, op)
		}
		for _, t := range p.tasks {
			at := r.tasks[t.GetTaskId().GetValue()]
			at.launched, at.agent, at.last = true, offer.GetAgentId().GetValue(), nil
			launched = append(launched, at)
		}
	}
	r.pending = rest
	if len(plain) > 0 {
		operations = append(operations, &mesos.Offer_Operation{
			Type: mesos.Offer_Operation_LAUNCH.Enum(), Launch: &mesos.Offer_Operation_Launch{TaskInfos: plain},
		})
	}
	return operations, launched, nil
}

// complain says why nothing is launched, once, when it takes long.
func (r *runner) complain() {
	select {
	case <-r.ctx.Done():
		return
	case <-r.ended:
		return
	case <-time.After(hurry):
	}
	r.mu.Lock()
	n, why, offers := len(r.pending), r.why, r.offers
	wants := ""
	if n > 0 {
		wants = r.pending[0].wants()
	}
	r.mu.Unlock()
	if n == 0 {
		return
	}
	text := "no offer came"
	if offers > 0 {
		text = why
	}
	r.say("waiting for an offer of %s for %d tasks or groups: %s", wants, n, text)
	r.say("clusterd framework explain %s says why", r.client.FrameworkID().GetValue())
}

// update takes note of a task's status.
func (r *runner) update(status *mesos.TaskStatus) error {
	if err := r.retry(r.client.Acknowledge(r.ctx, status)); err != nil {
		return err
	}
	r.mu.Lock()
	t := r.tasks[status.GetTaskId().GetValue()]
	if t == nil || t.over() {
		r.mu.Unlock()
		return nil
	}
	before := t.last.GetState()
	t.last = proto.CloneOf(status)
	again := r.dropped(t, status)
	r.mu.Unlock()
	if again {
		r.say("%s was dropped and is launched again: %s", t.id, status.GetMessage())
		return r.retry(r.client.Revive(r.ctx))
	}
	switch state := status.GetState(); {
	case state == mesos.TaskState_TASK_UNREACHABLE && before != state:
		r.say("%s: its agent does not answer the master", t.id)
	case before == mesos.TaskState_TASK_UNREACHABLE && before != state:
		r.say("%s: its agent is back", t.id)
	}
	if err := r.begun(t, status); err != nil {
		return err
	}
	if console.Terminal(status.GetState()) {
		r.finished(t)
	}
	return r.settled()
}

// dropped puts the unit of a task back that never reached its agent. It is called with the
// lock held. Of a group the first of its tasks does it for all.
func (r *runner) dropped(t *running, status *mesos.TaskStatus) bool {
	if status.GetState() != mesos.TaskState_TASK_DROPPED || t.dropped >= relaunches || r.stopped {
		return false
	}
	// Of a reconciliation it only says that nobody knows the task.
	if status.GetReason() == mesos.TaskStatus_REASON_RECONCILIATION {
		return false
	}
	for _, u := range r.job.units {
		if !slices.ContainsFunc(u.tasks, func(x *mesos.TaskInfo) bool { return x.GetTaskId().GetValue() == t.id }) {
			continue
		}
		t.last = nil
		if slices.Contains(r.pending, u) {
			return true
		}
		for _, x := range u.tasks {
			one := r.tasks[x.GetTaskId().GetValue()]
			one.launched, one.dropped, one.last = false, one.dropped+1, nil
		}
		r.pending = append(r.pending, u)
		return true
	}
	return false
}

// begun does what is to be done once a task runs, or has ended without.
func (r *runner) begun(t *running, status *mesos.TaskStatus) error {
	running := status.GetState() == mesos.TaskState_TASK_RUNNING
	if !running && !console.Terminal(status.GetState()) || t.follows || t.agent == "" {
		return nil
	}
	t.follows, t.ran = true, running
	if running && r.killAfter > 0 {
		r.mu.Lock()
		t.killer = time.AfterFunc(r.killAfter, func() {
			r.say("killing %s after %s", t.id, r.killAfter)
			_ = r.client.Kill(r.ctx, &mesos.TaskID{Value: &t.id}, nil, nil) // unsent, the task goes on, and so does this
		})
		r.mu.Unlock()
	}
	switch {
	case r.detach:
	case r.interactive && running:
		r.wg.Go(func() { r.attach(t, status.GetContainerStatus().GetContainerId()) })
	case status.GetSource() == mesos.TaskStatus_SOURCE_MASTER && !running:
		// It never reached an agent: there is nothing to show.
	default:
		r.wg.Go(func() { r.show(t) })
	}
	return nil
}

// show copies a task's output until it ends.
func (r *runner) show(t *running) {
	files := r.cluster.AgentFiles(t.agent)
	id, framework := t.id, r.client.FrameworkID()
	task := &console.Task{Task: &mesos.Task{TaskId: &mesos.TaskID{Value: &id}, FrameworkId: framework}}
	sandbox := task.Sandbox()
	if t.executor != "" {
		task.ExecutorId = &mesos.ExecutorID{Value: &t.executor}
		sandbox = task.Sandbox() + "/tasks/" + id
	}
	f := &follower{agent: t.agent, say: r.say}
	out, errOut := r.Out, r.Err
	for _, s := range []struct {
		name string
		tail *tail
	}{{"stdout", &tail{to: unchanged{out}}}, {"stderr", &tail{to: unchanged{errOut}}}} {
		s.tail.files, s.tail.path = files, sandbox+"/"+s.name
		if t.label != "" {
			s.tail.to = r.lines.prefixed(s.tail.to, t.index, t.label)
		}
		f.tails = append(f.tails, s.tail)
	}
	err := f.follow(r.output, t.ended)
	if _, gone := errors.AsType[*writeError](err); gone {
		// As any program whose reader has gone: nobody wants the rest.
		r.kill(r.alive())
		return
	}
	if client.StatusCode(err) == http.StatusNotFound && !t.ran {
		return // it ended before it had a sandbox
	}
	if err != nil && r.output.Err() == nil {
		r.say("output of %s: %v", t.id, err)
	}
}

// finished takes note of a task's end.
func (r *runner) finished(t *running) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if t.killer != nil {
		t.killer.Stop()
	}
	close(t.ended)
}

// settled ends the framework when all tasks have ended, or this process, when they are to
// go on without.
func (r *runner) settled() error {
	r.mu.Lock()
	over, up, waits := true, true, len(r.pending) > 0 && !r.stopped
	for _, t := range r.order {
		if !t.launched && r.stopped {
			continue
		}
		over = over && t.over()
		up = up && (t.over() || t.last.GetState() == mesos.TaskState_TASK_RUNNING)
	}
	r.mu.Unlock()
	switch {
	case over && !waits:
		close(r.ended)
		// The rest of the output, while the framework still stands; ^C does without.
		stop := context.AfterFunc(r.interrupt, r.cancelOutput)
		r.wg.Wait()
		stop()
		if r.detach {
			r.printIDs()
		}
		r.teardown()
		return errTasksEnded
	case r.detach && up && !waits && !r.stopped:
		r.leave()
		close(r.ended)
		return errLeft
	}
	return nil
}

// leave says what goes on without this process.
func (r *runner) leave() {
	r.printIDs()
	id := r.client.FrameworkID().GetValue()
	r.say("framework %s goes on without this process", id)
	r.say("clusterd wait %s follows it to its end; clusterd framework teardown %s ends it", id, id)
}

func (r *runner) printIDs() {
	for _, t := range r.order {
		fmt.Fprintln(r.Out, t.id)
	}
}

func (r *runner) endsLocked() []*mesos.TaskStatus {
	var out []*mesos.TaskStatus
	for _, t := range r.order {
		if t.over() {
			out = append(out, t.last)
		}
	}
	return out
}

// result turns the last statuses of all tasks into the exit code of this process.
func (r *runner) result() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, t := range r.order {
		if !t.over() {
			continue
		}
		if code, told := codeOf(t.last); !told || code != 0 && t.label != "" {
			r.say("%s: %s %s", t.id, t.last.GetState(), t.last.GetMessage())
		}
	}
	code := worst(r.endsLocked())
	if r.stopped {
		code = cmp.Or(code, interrupted)
	}
	if code != 0 {
		return console.ExitError(code)
	}
	return nil
}

// hostname of this machine, for frameworks that the command line makes.
func hostname() string {
	h, err := os.Hostname()
	if err != nil {
		return ""
	}
	return h
}
