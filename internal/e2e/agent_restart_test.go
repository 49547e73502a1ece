package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"
	"google.golang.org/protobuf/proto"

	"clusterd/api/client/scheduler"
	mesos "clusterd/api/mesos/v1"
	"clusterd/internal/testcluster"
)

// seen is an agent as the master shows it.
type seen struct {
	ID, Hostname, PID string
	Active            bool
	Resources         struct{ CPUs float64 }
	Attributes        map[string]any
}

// agents returns those that are registered.
func agents(t *testing.T, c *testcluster.Cluster) []seen {
	t.Helper()
	body, err := testcluster.Get("http://" + c.Master.Addr + "/state")
	if err != nil {
		t.Fatal(err)
	}
	var state struct{ Slaves []seen }
	if err := json.Unmarshal([]byte(body), &state); err != nil {
		t.Fatal(err)
	}
	return slices.DeleteFunc(state.Slaves, func(a seen) bool { return !a.Active })
}

// settled waits until the master knows one agent, and it is as ok wants it.
func settled(t *testing.T, c *testcluster.Cluster, what string, ok func(seen) bool) seen {
	t.Helper()
	var last []seen
	err := testcluster.Poll(func() error {
		last = agents(t, c)
		if len(last) != 1 || !ok(last[0]) {
			return fmt.Errorf("%s: got %+v", what, last)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return last[0]
}

// again starts a process that was stopped, or wants its refusal.
func again(t *testing.T, p *testcluster.Process, refusal string, flags ...string) {
	t.Helper()
	p.SetFlags(flags...)
	before := len(p.Log())
	err := p.Start()
	switch {
	case refusal == "" && err != nil:
		t.Fatal(err)
	case refusal != "" && (err == nil || !strings.Contains(p.Log()[before:], refusal)):
		t.Fatalf("started with %q: got %v, want a refusal that says %q", flags, err, refusal)
	case refusal != "":
		p.Kill()
	}
}

// waits is a task that counts its starts and ends with a status when told to.
type waits struct{ starts, end string }

func newWaits(t *testing.T) waits {
	dir := t.TempDir()
	return waits{starts: filepath.Join(dir, "starts"), end: filepath.Join(dir, "end")}
}

func (w waits) command(status int) string {
	return fmt.Sprintf("echo >> %s; until [ -e %s ]; do sleep 0.05; done; exit %d", w.starts, w.end, status)
}

func (w waits) finish(t *testing.T) {
	t.Helper()
	if err := os.WriteFile(w.end, nil, 0o600); err != nil {
		t.Fatal(err)
	}
}

// keeper is a framework that keeps the offers that come while it waits for
// something else.
type keeper struct {
	*framework
	offers []*mesos.Offer
}

func (k *keeper) next(ctx context.Context, want any) *scheduler.Event {
	k.t.Helper()
	for {
		e := k.event(ctx, want)
		switch e.GetType() {
		case scheduler.OFFERS:
			k.offers = append(k.offers, e.GetOffers().GetOffers()...)
		case scheduler.RESCIND:
			k.offers = slices.DeleteFunc(k.offers, func(o *mesos.Offer) bool {
				return o.GetId().GetValue() == e.GetRescind().GetOfferId().GetValue()
			})
		default:
		}
		if any(e.GetType()) == want {
			return e
		}
	}
}

// launch launches a task on an offer with room for it.
func (k *keeper) launch(ctx context.Context, task *mesos.TaskInfo) *mesos.Offer {
	k.t.Helper()
	for {
		for i, o := range k.offers {
			if amount(o, "cpus") >= 0.1 && amount(o, "mem") >= 32 {
				k.offers = slices.Delete(k.offers, i, i+1)
				if err := k.client.Launch(ctx, o, task); err != nil {
					k.t.Fatal(err)
				}
				return o
			}
		}
		k.next(ctx, scheduler.OFFERS)
	}
}

// update returns the next update of a task that ok wants, acknowledging all.
func (k *keeper) update(ctx context.Context, task, what string, ok func(mesos.TaskState) bool) *mesos.TaskStatus {
	k.t.Helper()
	for {
		s := k.next(ctx, scheduler.UPDATE).GetUpdate().GetStatus()
		if len(s.GetUuid()) > 0 {
			if err := k.client.Acknowledge(ctx, s); err != nil {
				k.t.Logf("acknowledge: %v", err)
			}
		}
		k.t.Logf("%s %s %s", s.GetTaskId().GetValue(), s.GetState(), s.GetMessage())
		if s.GetTaskId().GetValue() == task {
			if ok(s.GetState()) {
				return s
			}
			if terminal(s.GetState()) {
				k.t.Fatalf("%s: got %v, want %s", task, s, what)
			}
		}
	}
}

func (k *keeper) await(ctx context.Context, task string, want mesos.TaskState) *mesos.TaskStatus {
	k.t.Helper()
	return k.update(ctx, task, want.String(), func(s mesos.TaskState) bool { return s == want })
}

// end returns the last update of a task.
func (k *keeper) end(ctx context.Context, task string) *mesos.TaskStatus {
	k.t.Helper()
	return k.update(ctx, task, "its end", terminal)
}

func keep(t *testing.T, c *testcluster.Cluster, name string) *keeper {
	t.Helper()
	return &keeper{framework: subscribe(t, c, name)}
}

// once wants that the task was started once.
func (w waits) once(t *testing.T) {
	t.Helper()
	if b, err := os.ReadFile(w.starts); err != nil || string(b) != "\n" {
		t.Errorf("the task was started %d times (%v), want once", strings.Count(string(b), "\n"), err)
	}
}

func single(t *testing.T, flags ...string) (*testcluster.Cluster, *testcluster.Process) {
	t.Helper()
	c := testcluster.Start(t, testcluster.Options{AgentFlags: append([]string{
		"--registration_backoff_factor=50ms", "--resources=cpus:2;mem:1024;disk:1024", "--executor_reregistration_timeout=10secs",
	}, flags...)})
	return c, c.Agents[0]
}

// registered waits until an agent knows that it is, and has kept it.
func registered(t *testing.T, agent *testcluster.Process) {
	t.Helper()
	err := testcluster.Poll(func() error {
		body, err := testcluster.Get("http://" + agent.Addr + "/metrics/snapshot")
		if err == nil && !strings.Contains(body, `"slave/registered":1`) {
			err = errors.New("the agent is not registered")
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestAgentUpgrade replaces the binary of an agent under its tasks: one goes on,
// one ends meanwhile and its true end is known, and the old binary is not needed.
func TestAgentUpgrade(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*testcluster.Patience)
	defer cancel()
	current, err := testcluster.Binary()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	older, newer := filepath.Join(dir, "older"), filepath.Join(dir, "newer")
	copyFile(t, current, older, "")
	copyFile(t, current, newer, "another build")
	c, agent := single(t)
	agent.Signal(syscall.SIGTERM, true)
	agent.Binary = older
	again(t, agent, "")
	f := keep(t, c, "upgrade")
	long, short := newWaits(t), newWaits(t)
	offer := f.launch(ctx, shellTask("long", long.command(7)))
	f.await(ctx, "long", mesos.TaskState_TASK_RUNNING)
	f.launch(ctx, shellTask("short", short.command(5)))
	f.await(ctx, "short", mesos.TaskState_TASK_RUNNING)

	agent.Signal(syscall.SIGTERM, true)
	if err := os.Remove(older); err != nil {
		t.Fatal(err)
	}
	short.finish(t)
	agent.Binary = newer
	again(t, agent, "")
	if s := f.await(ctx, "short", mesos.TaskState_TASK_FAILED); !strings.Contains(s.GetMessage(), "exited with status 5") {
		t.Errorf("got %v, want the truth", s)
	}
	settled(t, c, "the same agent", func(a seen) bool { return a.ID == offer.GetAgentId().GetValue() })
	if exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", agent.PID())); err != nil || exe != newer {
		t.Errorf("it runs %s, %v", exe, err)
	}
	long.finish(t)
	if s := f.await(ctx, "long", mesos.TaskState_TASK_FAILED); !strings.Contains(s.GetMessage(), "exited with status 7") {
		t.Errorf("got %v, want the truth", s)
	}
	long.once(t)
	short.once(t)
}

// copyFile copies a program; what is appended does not change what it does.
func copyFile(t *testing.T, from, to, appended string) {
	t.Helper()
	in, err := os.Open(from)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(out, in); err != nil {
		t.Fatal(err)
	}
	if _, err := out.WriteString(appended); err != nil {
		t.Fatal(err)
	}
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestReconfiguration changes what an agent is under a running task, as each
// policy permits.
func TestReconfiguration(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*testcluster.Patience)
	defer cancel()
	c, agent := single(t)
	f := keep(t, c, "reconfigure")
	w := newWaits(t)
	offer := f.launch(ctx, shellTask("task", w.command(7)))
	f.await(ctx, "task", mesos.TaskState_TASK_RUNNING)
	id := offer.GetAgentId().GetValue()

	agent.Signal(syscall.SIGTERM, true)
	again(t, agent, "not permitted under --reconfiguration_policy=equal", "--resources=cpus:4;mem:1024;disk:1024")
	again(t, agent, "", "--reconfiguration_policy=additive", "--attributes=rack:r1")
	settled(t, c, "more of it", func(a seen) bool { return a.ID == id && a.Resources.CPUs == 4 && a.Attributes["rack"] == "r1" })
	registered(t, agent)

	agent.Kill()
	again(t, agent, "not permitted under --reconfiguration_policy=additive", "--resources=cpus:2;mem:1024;disk:1024")
	again(t, agent, "not permitted under --reconfiguration_policy=additive", "--resources=cpus:4;mem:1024;disk:1024", "--attributes=rack:r2")
	// Less than the task has, another name and another place.
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	agent.Addr = l.Addr().String()
	_, port, _ := net.SplitHostPort(agent.Addr)
	l.Close()
	again(t, agent, "", "--reconfiguration_policy=any", "--resources=cpus:0.05;mem:1024;disk:1024", "--hostname=elsewhere", "--port="+port)
	settled(t, c, "less of it, elsewhere", func(a seen) bool {
		return a.ID == id && a.Resources.CPUs == 0.05 && a.Hostname == "elsewhere" && strings.HasSuffix(a.PID, ":"+port)
	})
	if log := agent.Log(); !strings.Contains(log, "resources_overcommitted") {
		t.Error("the agent does not say that it promised more than it has")
	}
	w.finish(t)
	if s := f.await(ctx, "task", mesos.TaskState_TASK_FAILED); !strings.Contains(s.GetMessage(), "exited with status 7") {
		t.Errorf("got %v, want the truth", s)
	}
	w.once(t)
	// What it has now is offered, and no more.
	whole := func(o *mesos.Offer) bool { return amount(o, "cpus") == 0.05 && amount(o, "mem") == 1024 }
	for !slices.ContainsFunc(f.offers, whole) {
		for _, o := range f.offers {
			if amount(o, "cpus") > 0.05 {
				t.Fatalf("offered %v, want 0.05 cpus at most", o.GetResources())
			}
			if err := f.client.Decline(ctx, scheduler.Refuse(0), o.GetId()); err != nil {
				t.Fatal(err)
			}
		}
		f.offers = nil
		f.next(ctx, scheduler.OFFERS)
	}
}

// TestReboot takes all processes of a machine away and changes its boot id: the
// agent keeps its id and says what became of its tasks. If its configuration
// changed with the boot it is a new agent.
func TestReboot(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*testcluster.Patience)
	defer cancel()
	c, agent := single(t)
	f := keep(t, c, "reboot")
	reboot := func() {
		agent.Kill()
		for range 2 {
			for _, pid := range testcluster.Processes(agent.WorkDir) {
				_ = syscall.Kill(pid, syscall.SIGKILL)
			}
		}
		if err := os.WriteFile(filepath.Join(agent.WorkDir, "meta", "boot_id"), []byte("an earlier one"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	offer := f.launch(ctx, shellTask("first", "sleep 1000"))
	f.await(ctx, "first", mesos.TaskState_TASK_RUNNING)
	reboot()
	again(t, agent, "")
	f.await(ctx, "first", mesos.TaskState_TASK_FAILED)
	settled(t, c, "the same agent", func(a seen) bool { return a.ID == offer.GetAgentId().GetValue() })

	f.launch(ctx, shellTask("second", "sleep 1000"))
	f.await(ctx, "second", mesos.TaskState_TASK_RUNNING)
	reboot()
	again(t, agent, "", "--resources=cpus:1;mem:512;disk:1024")
	settled(t, c, "a new agent", func(a seen) bool { return a.ID != offer.GetAgentId().GetValue() })
	if s := f.end(ctx, "second"); s.GetState() != mesos.TaskState_TASK_GONE && s.GetState() != mesos.TaskState_TASK_LOST {
		t.Errorf("got %v, want that it is gone with its agent", s)
	}
}

// TestRecoverCleanup starts an agent to clean up: what ran there ends, it exits by
// itself and well, and the next run is a new agent.
func TestRecoverCleanup(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*testcluster.Patience)
	defer cancel()
	c, agent := single(t, "--executor_shutdown_grace_period=1secs")
	f := keep(t, c, "cleanup")
	offer := f.launch(ctx, shellTask("task", "sleep 1000"))
	f.await(ctx, "task", mesos.TaskState_TASK_RUNNING)
	agent.Signal(syscall.SIGTERM, true)
	agent.SetFlags("--recover=cleanup")
	// It may end before it answers anybody.
	if err := agent.Start(); err != nil && !strings.Contains(err.Error(), "exit status 0") {
		t.Fatal(err)
	}
	select {
	case <-agent.Done():
	case <-ctx.Done():
		t.Fatal("it does not end")
	}
	agent.Kill()
	if left := testcluster.Processes(agent.WorkDir); len(left) != 0 {
		t.Errorf("processes %v are left", left)
	}
	again(t, agent, "", "--recover=reconnect")
	settled(t, c, "a new agent", func(a seen) bool { return a.ID != offer.GetAgentId().GetValue() })
	if s := f.end(ctx, "task"); s.GetState() != mesos.TaskState_TASK_GONE && s.GetState() != mesos.TaskState_TASK_LOST {
		t.Errorf("got %v, want that it is gone with its agent", s)
	}
}

// TestRecoveryTimeout leaves executors without an agent for longer than they
// wait: the task is ended, and the agent says so when it is back.
func TestRecoveryTimeout(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*testcluster.Patience)
	defer cancel()
	c, agent := single(t, "--recovery_timeout=1secs")
	f := keep(t, c, "recovery-timeout")
	f.launch(ctx, shellTask("task", "sleep 1000"))
	f.await(ctx, "task", mesos.TaskState_TASK_RUNNING)
	agent.Signal(syscall.SIGTERM, true)
	err := testcluster.Poll(func() error {
		if left := testcluster.Processes(agent.WorkDir); len(left) > 0 {
			return fmt.Errorf("processes %v go on", left)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	again(t, agent, "")
	if s := f.end(ctx, "task"); s.GetState() != mesos.TaskState_TASK_FAILED && s.GetState() != mesos.TaskState_TASK_KILLED {
		t.Errorf("got %v, want that it has ended", s)
	}
	if found, _ := filepath.Glob(filepath.Join(sandbox(c, "task"), "stderr")); len(found) == 1 {
		if b, err := os.ReadFile(found[0]); err != nil || !strings.Contains(string(b), "the agent did not come back within 1s") {
			t.Errorf("the sandbox says %q, %v", b, err)
		}
	} else {
		t.Error("the sandbox is gone")
	}
}

// TestDamagedCheckpoint spoils what is kept of one of two tasks: the agent
// refuses to start and names it, or, told to take what it can, goes on with the
// other and tells the truth about the one it knows nothing of.
func TestDamagedCheckpoint(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*testcluster.Patience)
	defer cancel()
	c, agent := single(t)
	f := keep(t, c, "damaged")
	good, bad := newWaits(t), newWaits(t)
	offer := f.launch(ctx, shellTask("good", good.command(7)))
	f.await(ctx, "good", mesos.TaskState_TASK_RUNNING)
	f.launch(ctx, shellTask("bad", bad.command(5)))
	f.await(ctx, "bad", mesos.TaskState_TASK_RUNNING)
	agent.Kill()

	db, err := bolt.Open(filepath.Join(agent.WorkDir, "meta", "clusterd.db"), 0o600, &bolt.Options{Timeout: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	spoilt := 0
	err = db.Update(func(tx *bolt.Tx) error {
		for _, name := range []string{"executors", "tasks"} {
			b := tx.Bucket([]byte(name))
			var keys [][]byte
			_ = b.ForEach(func(k, _ []byte) error {
				if strings.HasSuffix(string(k), "\x00bad") {
					keys = append(keys, slices.Clone(k))
				}
				return nil
			})
			for _, k := range keys {
				spoilt++
				if err := b.Put(k, []byte("no protobuf")); err != nil {
					return err
				}
			}
		}
		return nil
	})
	if err := errors.Join(err, db.Close()); err != nil || spoilt != 2 {
		t.Fatalf("spoilt %d records, want 2: %v", spoilt, err)
	}
	again(t, agent, "the checkpoint is corrupt")
	again(t, agent, "", "--strict=false")
	settled(t, c, "the same agent", func(a seen) bool { return a.ID == offer.GetAgentId().GetValue() })
	if s := f.end(ctx, "bad"); s.GetState() != mesos.TaskState_TASK_DROPPED && s.GetState() != mesos.TaskState_TASK_GONE {
		t.Errorf("got %v, want that nobody knows of it", s)
	}
	if !strings.Contains(agent.Log(), "unreadable records of the checkpoint were left out") {
		t.Error("the log does not say that something is missing")
	}
	good.finish(t)
	if s := f.await(ctx, "good", mesos.TaskState_TASK_FAILED); !strings.Contains(s.GetMessage(), "exited with status 7") {
		t.Errorf("got %v, want the truth", s)
	}
	good.once(t)
	// What is told to be gone must not run on.
	err = testcluster.Poll(func() error {
		for _, pid := range testcluster.Processes(agent.WorkDir) {
			if b, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid)); err == nil && strings.Contains(string(b), "MESOS_EXECUTOR_ID=bad\x00") {
				return fmt.Errorf("process %d runs on", pid)
			}
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// cable is a TCP proxy between agents and their master that can be cut.
type cable struct {
	l  net.Listener
	to string

	mu    sync.Mutex
	conns []net.Conn
	cut   bool
	wg    sync.WaitGroup
}

func newCable(t *testing.T, to string) *cable {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &cable{l: l, to: to}
	p.wg.Go(func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			p.wg.Go(func() { p.carry(in) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		p.sever(true)
		p.wg.Wait()
	})
	return p
}

func (p *cable) carry(in net.Conn) {
	defer in.Close()
	out, err := new(net.Dialer).DialContext(context.Background(), "tcp", p.to)
	if err != nil {
		return
	}
	defer out.Close()
	p.mu.Lock()
	if p.cut {
		p.mu.Unlock()
		return
	}
	p.conns = append(p.conns, in, out)
	p.mu.Unlock()
	p.wg.Go(func() { _, _ = io.Copy(out, in); _ = out.Close() })
	_, _ = io.Copy(in, out)
}

// sever ends all connections; with for good set, new ones too until it is called
// without.
func (p *cable) sever(forGood bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cut = forGood
	for _, c := range p.conns {
		_ = c.Close()
	}
	p.conns = nil
}

// TestNonCheckpointing: the tasks of a framework that does not checkpoint survive
// a broken link, and end with the agent's process.
func TestNonCheckpointing(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*testcluster.Patience)
	defer cancel()
	c, err := testcluster.New(testcluster.Options{Dir: shortDir(t), AgentFlags: []string{
		"--registration_backoff_factor=50ms", "--resources=cpus:2;mem:1024;disk:1024",
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.Stop()
		if t.Failed() {
			c.DumpLogs(t.Output())
		}
	})
	agent := c.Agents[0]
	line := newCable(t, c.Master.Addr)
	agent.SetFlags("--master=" + line.l.Addr().String())
	_, port, _ := net.SplitHostPort(line.l.Addr().String())
	c.Master.SetFlags("--advertise_port=" + port) // what it tells the agent of itself
	if err := c.Up(); err != nil {
		t.Fatal(err)
	}
	f := &keeper{framework: start(t, scheduler.Options{Masters: []string{c.Master.Addr}, Framework: &mesos.FrameworkInfo{
		User: new("root"), Name: new("forgetful"), Roles: []string{role}, FailoverTimeout: proto.Float64(600),
		Capabilities: []*mesos.FrameworkInfo_Capability{{Type: mesos.FrameworkInfo_Capability_MULTI_ROLE.Enum()}},
	}})}
	w := newWaits(t)
	offer := f.launch(ctx, shellTask("task", w.command(7)))
	f.await(ctx, "task", mesos.TaskState_TASK_RUNNING)
	id := offer.GetAgentId().GetValue()

	line.sever(true)
	err = testcluster.Poll(func() error {
		if got := agents(t, c); len(got) != 0 {
			return fmt.Errorf("the master does not notice: %+v", got)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	line.sever(false)
	settled(t, c, "the agent is back", func(a seen) bool { return a.ID == id })
	if err := testcluster.Poll(func() error { return sameCluster(c, id, f.client.FrameworkID().GetValue(), "task") }); err != nil {
		t.Fatal(err)
	}
	w.once(t)

	agent.Kill()
	err = testcluster.Poll(func() error {
		if left := testcluster.Processes(agent.WorkDir); len(left) > 0 {
			return fmt.Errorf("processes %v outlive the agent", left)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	again(t, agent, "")
	settled(t, c, "the agent is back", func(a seen) bool { return a.ID == id })
	if s := f.end(ctx, "task"); s.GetState() != mesos.TaskState_TASK_LOST {
		t.Errorf("got %v, want TASK_LOST", s)
	}
	w.once(t)
}

func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "cd") //nolint:usetesting // t.TempDir is too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// TestKilledWhileRegistering kills -9 a new agent at moments around its
// registration, again and again: at the end the cluster has one agent, which
// works, and remembers no other.
func TestKilledWhileRegistering(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*testcluster.Patience)
	defer cancel()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	c, err := testcluster.New(testcluster.Options{Dir: shortDir(t), AgentFlags: []string{
		"--registration_backoff_factor=10ms", "--resources=cpus:2;mem:1024;disk:1024",
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.Stop()
		if t.Failed() {
			c.DumpLogs(t.Output())
		}
	})
	agent := c.Agents[0]
	if err := c.Master.Start(); err != nil {
		t.Fatal(err)
	}
	for range 12 {
		timer := time.NewTimer(time.Duration(random.IntN(250)) * time.Millisecond)
		if err := agent.Launch(); err != nil {
			t.Fatal(err)
		}
		<-timer.C
		agent.Kill()
	}
	again(t, agent, "")
	a := settled(t, c, "one agent", func(seen) bool { return true })
	body, err := testcluster.Get("http://" + c.Master.Addr + "/metrics/snapshot")
	if err != nil {
		t.Fatal(err)
	}
	var metrics map[string]float64
	if err := json.Unmarshal([]byte(body), &metrics); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"master/slaves_inactive", "master/slaves_disconnected", "master/slaves_unreachable"} {
		if metrics[name] != 0 {
			t.Errorf("%s is %v, want 0", name, metrics[name])
		}
	}
	f := keep(t, c, "registering")
	offer := f.launch(ctx, shellTask("task", "true"))
	if got := offer.GetAgentId().GetValue(); got != a.ID {
		t.Errorf("offered %s, want %s", got, a.ID)
	}
	f.await(ctx, "task", mesos.TaskState_TASK_FINISHED)
	if _, err := os.Stat(filepath.Join(agent.WorkDir, "slaves", a.ID)); errors.Is(err, fs.ErrNotExist) {
		t.Error("the agent works under another id than the master knows")
	}
}
