package e2e

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"clusterd/api/client/scheduler"
	mesos "clusterd/api/mesos/v1"
	pb "clusterd/api/mesos/v1/scheduler"
	"clusterd/internal/testcluster"
)

// rounds of TestKillAnywhere; each kills one process at one point.
const rounds = 24

// script is the life of a task under test: it says that it began, works for a
// moment, says that it is done, and exits with 7.
const script = `echo > began; sleep 0.05; echo > done; exit 7`

// points at which a process is killed: when an event of the task's life was seen,
// or some time after the launch.
var points = []string{"launch", "TASK_STARTING", "TASK_RUNNING", "TASK_FAILED", "random"}

// TestKillAnywhere launches a task, kills -9 the master, the agent or the task's
// executor at a point that the seed picks, starts what was killed again, and
// wants two things: the framework learns the true last state of the task, and
// nothing is leaked, neither resources nor processes.
func TestKillAnywhere(t *testing.T) {
	if testing.Short() {
		t.Skip("kills processes for some 30 s")
	}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	c := testcluster.Start(t, testcluster.Options{AgentFlags: []string{
		"--resources=cpus:2;mem:1024;disk:1024;ports:[31000-31100]",
		"--registration_backoff_factor=50ms", "--executor_reregistration_timeout=2secs",
	}})
	f := subscribe(t, c, "kill-anywhere")
	for i := range rounds {
		victim := []string{"master", "agent", "executor"}[i%3]
		point := points[(i/3)%len(points)]
		delay := time.Duration(random.IntN(120)) * time.Millisecond
		name := fmt.Sprintf("%02d-%s-at-%s", i, victim, point)
		ok := t.Run(name, func(t *testing.T) {
			k := &killer{t: t, c: c, f: f, victim: victim, point: point, delay: delay, task: fmt.Sprintf("t%02d", i)}
			k.run()
		})
		if !ok {
			t.Fatalf("round %s failed; seed %d", name, seed)
		}
	}
}

// killer is one round.
type killer struct {
	t             *testing.T
	c             *testcluster.Cluster
	f             *framework
	victim, point string
	delay         time.Duration
	task          string

	launched, killed bool
	agent            *mesos.AgentID
	last             *mesos.TaskStatus
	at               <-chan time.Time
}

func (k *killer) run() {
	k.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), testcluster.Patience)
	defer cancel()
	if err := k.f.client.Revive(ctx); err != nil && !errors.Is(err, scheduler.ErrNotSubscribed) {
		k.t.Fatalf("REVIVE: %v", err)
	}
	// Asking again heals what a crash swallowed, as frameworks do.
	reconcile := time.NewTicker(2 * time.Second)
	defer reconcile.Stop()
	for k.last == nil || !terminal(k.last.GetState()) || !k.killed {
		select {
		case <-ctx.Done():
			k.t.Fatalf("%s: no last state (launched %v, killed %v, last %v)", k.task, k.launched, k.killed, k.last)
		case e := <-k.f.events:
			k.handle(ctx, e)
		case <-k.at:
			k.at = nil
			k.kill()
		case <-reconcile.C:
			if k.launched {
				k.call(k.f.client.Reconcile(ctx, &pb.Call_Reconcile_Task{
					TaskId: &mesos.TaskID{Value: &k.task}, AgentId: k.agent,
				}))
			}
		}
	}
	k.checkTruth()
	k.checkLeaks(ctx)
}

// call wants no error but that of a master that is away.
func (k *killer) call(err error) {
	k.t.Helper()
	if err != nil && !k.killed {
		k.t.Fatal(err)
	}
}

func (k *killer) handle(ctx context.Context, e *scheduler.Event) {
	switch e.GetType() {
	case scheduler.OFFERS:
		for _, o := range e.GetOffers().GetOffers() {
			if k.launched {
				k.call(k.f.client.Decline(ctx, scheduler.Refuse(0), o.GetId()))
				continue
			}
			k.launched, k.agent = true, o.GetAgentId()
			k.call(k.f.client.Launch(ctx, o, shellTask(k.task, script)))
			switch k.point {
			case "launch":
				k.kill()
			case "random":
				k.at = time.After(k.delay)
			}
		}
	case scheduler.UPDATE:
		s := e.GetUpdate().GetStatus()
		if s.GetTaskId().GetValue() != k.task {
			return // a late echo of an earlier round
		}
		if k.last != nil && terminal(k.last.GetState()) && s.GetState() != k.last.GetState() &&
			s.GetReason() != mesos.TaskStatus_REASON_RECONCILIATION {
			k.t.Errorf("%s went from %s to %s", k.task, k.last.GetState(), s.GetState())
		}
		if k.last == nil || !terminal(k.last.GetState()) {
			k.last = s
		}
		if s.GetState().String() == k.point && !k.killed {
			k.kill() // before the acknowledgement: it must come again
		}
		k.call(k.f.client.Acknowledge(ctx, s))
		if terminal(s.GetState()) && !k.killed && k.at == nil {
			k.killed = true // the point was never reached, as with a task that is too quick
		}
	default:
	}
}

// kill ends the victim with SIGKILL and, unless it is an executor, starts it again.
func (k *killer) kill() {
	k.killed = true
	var p *testcluster.Process
	switch k.victim {
	case "master":
		p = k.c.Master
	case "agent":
		p = k.c.Agents[0]
	default:
		k.killExecutor()
		return
	}
	p.Kill()
	if err := p.Start(); err != nil {
		k.t.Fatalf("start the %s again: %v", k.victim, err)
	}
}

// killExecutor kills the process that the supervisor above the container started.
func (k *killer) killExecutor() {
	for _, pid := range testcluster.Processes(k.c.Agents[0].WorkDir) {
		environ, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
		if err != nil || !strings.Contains(string(environ), "MESOS_EXECUTOR_ID="+k.task+"\x00") {
			continue
		}
		cmdline, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		if err == nil && strings.Contains(string(cmdline), "command-executor") {
			_ = syscall.Kill(pid, syscall.SIGKILL)
			return
		}
	}
}

// checkTruth compares the state that the framework was told with what the task
// left in its sandbox.
func (k *killer) checkTruth() {
	k.t.Helper()
	dir := sandbox(k.c, k.task)
	exists := func(name string) bool {
		_, err := os.Stat(filepath.Join(dir, name))
		return dir != "" && err == nil
	}
	state, message := k.last.GetState(), k.last.GetMessage()
	exited := state == mesos.TaskState_TASK_FAILED && strings.Contains(message, "exited with status 7")
	switch {
	case exited:
		if !exists("done") {
			k.t.Errorf("told %q, but the command did not get that far", message)
		}
	case k.victim == "executor":
		if state != mesos.TaskState_TASK_FAILED {
			k.t.Errorf("executor killed: got %s (%s, %s), want TASK_FAILED", state, k.last.GetReason(), message)
		}
	case state == mesos.TaskState_TASK_DROPPED || state == mesos.TaskState_TASK_LOST || state == mesos.TaskState_TASK_GONE:
		if exists("began") {
			k.t.Errorf("told %s (%s, %s), but the command ran", state, k.last.GetReason(), message)
		}
	default:
		k.t.Errorf("got %s (%s, %s), want the truth", state, k.last.GetReason(), message)
	}
	k.t.Logf("%s: %s %s", k.task, state, message)
}

// checkLeaks wants all resources offered again and no process left.
func (k *killer) checkLeaks(ctx context.Context) {
	k.t.Helper()
	revive := time.NewTicker(500 * time.Millisecond)
	defer revive.Stop()
	for whole := false; !whole; {
		select {
		case <-ctx.Done():
			k.t.Fatalf("%s: the agent's resources were not offered whole again", k.task)
		case <-revive.C:
			k.call(k.f.client.Revive(ctx))
		case e := <-k.f.events:
			if e.GetType() != scheduler.OFFERS {
				k.handle(ctx, e)
				continue
			}
			for _, o := range e.GetOffers().GetOffers() {
				whole = amount(o, "cpus") == 2 && amount(o, "mem") == 1024
				k.call(k.f.client.Decline(ctx, scheduler.Refuse(0), o.GetId()))
			}
		}
	}
	err := testcluster.Poll(func() error {
		for _, pid := range testcluster.Processes(k.c.Agents[0].WorkDir) {
			if pid != k.c.Agents[0].PID() {
				cmdline, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
				return fmt.Errorf("process %d is left: %q", pid, cmdline)
			}
		}
		return nil
	})
	if err != nil {
		k.t.Error(err)
	}
}
