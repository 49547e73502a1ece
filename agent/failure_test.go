package agent

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"clusterd/agent/checkpoint"
	"clusterd/agent/core"
	mesos "clusterd/api/mesos/v1"
	"clusterd/api/mesos/v1/executor"
)

// TestFullDisk fails the write of an update: the executor gets no
// acknowledgement, the master hears nothing, the agent ends with a clear error,
// and the next run is told the update again.
func TestFullDisk(t *testing.T) {
	m := newScriptedMaster(t)
	h := newMachine(t, m)
	var failing atomic.Pointer[error]
	a := h.start(func(o *Options) {
		o.wrapStore = func(s checkpoint.Store) checkpoint.Store { return fillable{s, &failing} }
	})
	m.waitRegistered(1)
	m.send(runTasks(framework("M-0000"), customTask("t", "e")))
	e := &testExecutor{t: t, a: a, fw: "M-0000", id: "e"}
	eventually(t, "executor is known", func() bool {
		v, err := a.View(t.Context())
		return err == nil && len(v.Frameworks) == 1
	})
	e.subscribe(&executor.Call_Subscribe{})
	e.expect(executor.Event_SUBSCRIBED)
	task := e.expect(executor.Event_LAUNCH).GetLaunch().GetTask()

	// From here on nothing can be written.
	full := errors.New("no space left on device")
	failing.Store(&full)
	st := e.status("t", mesos.TaskState_TASK_RUNNING, "0123456789abcdef")
	e.update(st)
	select {
	case <-a.Done():
	case <-time.After(patience):
		t.Fatal("the agent goes on without a checkpoint")
	}
	if err := a.Err(); !errors.Is(err, full) || !errors.Is(err, errCheckpoint) {
		t.Errorf("got %v, want the disk's error", err)
	}
	for ev := range e.events {
		if ev.GetType() == executor.Event_ACKNOWLEDGED {
			t.Error("acknowledged what was not written")
		}
	}
	if got := m.states("t"); len(got) != 0 {
		t.Errorf("the master was told %v, which was not written", got)
	}
	h.stop(a)

	a = h.start(func(o *Options) { o.ExecutorReregistrationTimeout = 15 * time.Second })
	defer h.leave(a)
	e = &testExecutor{t: t, a: a, fw: "M-0000", id: "e"}
	e.subscribe(&executor.Call_Subscribe{
		UnacknowledgedTasks:   []*mesos.TaskInfo{task},
		UnacknowledgedUpdates: []*executor.Call_Update{{Status: st}},
	})
	if got := e.next(); got.GetType() != executor.Event_ACKNOWLEDGED {
		t.Errorf("got %v first, want the acknowledgement", got)
	}
	e.expect(executor.Event_SUBSCRIBED)
	m.waitState("t", "RUNNING")
}

// fillable is a store whose disk fills up when told to.
type fillable struct {
	checkpoint.Store
	err *atomic.Pointer[error]
}

func (f fillable) Write(records []core.Record) error {
	if err := f.err.Load(); err != nil {
		return *err
	}
	return f.Store.Write(records)
}

func TestExecutorThatDoesNotComeBack(t *testing.T) {
	m := newScriptedMaster(t)
	h := newMachine(t, m)
	a := h.start()
	m.waitRegistered(1)
	m.send(runTasks(framework("M-0000"), customTask("t", "e")))
	e := &testExecutor{t: t, a: a, fw: "M-0000", id: "e"}
	eventually(t, "executor is known", func() bool {
		v, err := a.View(t.Context())
		return err == nil && len(v.Frameworks) == 1
	})
	e.subscribe(&executor.Call_Subscribe{})
	e.expect(executor.Event_SUBSCRIBED)
	e.expect(executor.Event_LAUNCH)
	e.update(e.status("t", mesos.TaskState_TASK_RUNNING, "0123456789abcdef"))
	m.waitState("t", "RUNNING")
	h.stop(a)
	a = h.start(func(o *Options) { o.ExecutorReregistrationTimeout = 50 * time.Millisecond })
	defer h.leave(a)
	st := m.waitState("t", "GONE")
	if st.GetReason() != mesos.TaskStatus_REASON_EXECUTOR_REREGISTRATION_TIMEOUT {
		t.Errorf("got reason %v", st.GetReason())
	}
	// It ended before the agent was linked, and was not registered, or after.
	eventually(t, "the master knows that the executor is gone", func() bool {
		m.mu.Lock()
		defer m.mu.Unlock()
		if len(m.registers[len(m.registers)-1].GetExecutors()) == 0 {
			return true
		}
		for _, o := range m.others {
			if o.GetExitedExecutor().GetExecutorId().GetValue() == "e" {
				return true
			}
		}
		return false
	})
}

// TestExecutorKilledWhileAgentIsDown kills a command executor, which is its own
// supervisor, with the agent away: the task has failed, and if nobody saw the
// signal, that is said and not guessed.
func TestExecutorKilledWhileAgentIsDown(t *testing.T) {
	m := newScriptedMaster(t)
	h := newMachine(t, m)
	a := h.start()
	m.waitRegistered(1)
	m.send(runTasks(framework("M-0000"), commandTask("t", "sleep 1000")))
	st := m.waitState("t", "RUNNING")
	h.stop(a)
	if err := syscall.Kill(int(st.GetContainerStatus().GetExecutorPid()), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	a = h.start()
	defer h.leave(a)
	st = m.waitState("t", "FAILED")
	if st.GetReason() != mesos.TaskStatus_REASON_EXECUTOR_TERMINATED ||
		!strings.Contains(st.GetMessage(), "signal killed") && !strings.Contains(st.GetMessage(), "status is unknown") {
		t.Errorf("got %v %q, want EXECUTOR_TERMINATED and the signal, or that it is unknown", st.GetReason(), st.GetMessage())
	}
}

// TestNonCheckpointing: tasks of a framework that did not ask for it end with
// the agent.
func TestNonCheckpointing(t *testing.T) {
	m := newScriptedMaster(t)
	h := newMachine(t, m)
	a := h.start()
	m.waitRegistered(1)
	fw := framework("M-0000")
	*fw.Checkpoint = false
	m.send(runTasks(fw, commandTask("t", "sleep 1000")))
	st := m.waitState("t", "RUNNING")
	h.stop(a)
	a = h.start()
	defer h.leave(a)
	if reg := m.waitRegistered(2); len(reg.GetTasks()) != 0 || len(reg.GetFrameworks()) != 0 {
		t.Errorf("came back with %v, want nothing", reg.GetTasks())
	}
	// The test is the parent of what its first agent started, and may not have
	// reaped it.
	eventually(t, "the executor is dead", func() bool {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", st.GetContainerStatus().GetExecutorPid()))
		return errors.Is(err, os.ErrNotExist) || strings.Contains(string(stat), ") Z ")
	})
}

func TestLaunchFailures(t *testing.T) {
	m := newScriptedMaster(t)
	h := newMachine(t, m)
	a := h.start()
	defer h.leave(a)
	m.waitRegistered(1)
	bad := customTask("nofile", "e1")
	bad.Executor.Command = &mesos.CommandInfo{Value: strp("/no/such/program"), Shell: new(bool)}
	m.send(runTasks(framework("M-0000"), bad))
	if st := m.waitState("nofile", "FAILED"); st.GetReason() != mesos.TaskStatus_REASON_CONTAINER_LAUNCH_FAILED ||
		!strings.Contains(st.GetMessage(), "/no/such/program") {
		t.Errorf("got %v %q, want the launch's failure", st.GetReason(), st.GetMessage())
	}
	nouri := commandTask("nouri", "true")
	nouri.Command.Uris = []*mesos.CommandInfo_URI{{Value: strp("/no/such/file.tgz")}}
	m.send(runTasks(framework("M-0000"), nouri))
	if st := m.waitState("nouri", "FAILED"); !strings.Contains(st.GetMessage(), "/no/such/file.tgz") {
		t.Errorf("got %q, want the fetch's failure", st.GetMessage())
	}
	if got := a.metrics.Counter("slave/container_launch_errors").Value(); got != 2 {
		t.Errorf("got %d launch errors, want 2", got)
	}
	quick := customTask("quits", "e2")
	quick.Executor.Command = &mesos.CommandInfo{Value: strp("exit 5")}
	m.send(runTasks(framework("M-0000"), quick))
	if st := m.waitState("quits", "FAILED"); st.GetReason() != mesos.TaskStatus_REASON_EXECUTOR_TERMINATED {
		t.Errorf("got %v %q, want EXECUTOR_TERMINATED", st.GetReason(), st.GetMessage())
	}
}

func TestKillDuringLaunch(t *testing.T) {
	m := newScriptedMaster(t)
	h := newMachine(t, m)
	a := h.start()
	defer h.leave(a)
	m.waitRegistered(1)
	// The fetch hangs: the executor is being launched for as long as we like.
	asked := make(chan struct{}, 1)
	srv := newHangingServer(t, asked)
	task := commandTask("t", "true")
	task.Command.Uris = []*mesos.CommandInfo_URI{{Value: strp("http://" + srv + "/file")}}
	m.send(runTasks(framework("M-0000"), task))
	<-asked
	m.send(killTask("M-0000", "t"))
	st := m.waitState("t", "KILLED")
	if st.GetReason() != mesos.TaskStatus_REASON_TASK_KILLED_DURING_LAUNCH || st.GetContainerStatus() != nil {
		t.Errorf("got %v, want KILLED_DURING_LAUNCH without a container", st)
	}
	eventually(t, "the container is gone", func() bool {
		v, err := a.View(t.Context())
		return err == nil && len(v.Frameworks) == 0 && len(a.runner.Containers()) == 0
	})
}

func newHangingServer(t *testing.T, asked chan<- struct{}) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusOK)
		_ = http.NewResponseController(w).Flush()
		asked <- struct{}{}
		<-r.Context().Done()
	})}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = srv.Serve(l)
	}()
	t.Cleanup(func() { _ = srv.Close(); <-done })
	return l.Addr().String()
}

func TestChangedConfiguration(t *testing.T) {
	m := newScriptedMaster(t)
	h := newMachine(t, m)
	a := h.start()
	eventually(t, "the agent has its id", func() bool {
		v, err := a.View(t.Context())
		return err == nil && v.Phase == "RUNNING"
	})
	h.stop(a)
	more := func(o *Options) { o.Resources = "cpus:8;mem:1024;disk:1024;ports:[31000-32000]" }
	try := func(change ...func(*Options)) error {
		o := h.options()
		for _, f := range change {
			f(&o)
		}
		a, err := New(o)
		if err == nil {
			err = a.Start(t.Context())
			if err == nil {
				h.stop(a)
			}
		}
		return err
	}
	err := try(more)
	if !errors.Is(err, core.ErrIncompatible) || !strings.Contains(err.Error(), "--reconfiguration_policy") ||
		!strings.Contains(err.Error(), filepath.Join(h.work, "meta", "clusterd.db")) {
		t.Errorf("equal: got %v, want an error that says what to do", err)
	}
	if err := try(more, func(o *Options) { o.ReconfigurationPolicy = "additive" }); err != nil {
		t.Errorf("additive: got %v, want it to be allowed", err)
	}
	if err := try(func(o *Options) { o.ReconfigurationPolicy = "additive"; o.Hostname = "other" }); !errors.Is(err, core.ErrIncompatible) {
		t.Errorf("additive, other host name: got %v, want ErrIncompatible", err)
	}
	if err := try(func(o *Options) { o.ReconfigurationPolicy = "any"; o.Hostname = "other" }); err != nil {
		t.Errorf("any: got %v, want it to be allowed", err)
	}
	// After a reboot it is a new agent.
	if err := os.WriteFile(filepath.Join(h.work, "meta", "boot_id"), []byte("before"), 0o644); err != nil {
		t.Fatal(err)
	}
	m.mu.Lock()
	n := len(m.registers)
	m.mu.Unlock()
	a = h.start(func(o *Options) { o.Resources = "cpus:1;mem:10" })
	defer h.leave(a)
	if reg := m.waitRegistered(n + 1); reg.GetAgentInfo().GetId() != nil {
		t.Errorf("after a reboot: came back as %v, want a new agent", reg.GetAgentInfo().GetId())
	}
}

func TestCorruptCheckpoint(t *testing.T) {
	m := newScriptedMaster(t)
	h := newMachine(t, m)
	path := filepath.Join(h.work, "meta", "clusterd.db")
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(strings.Repeat("x", 1<<16)), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := New(h.options()); !errors.Is(err, checkpoint.ErrCorrupt) || !strings.Contains(err.Error(), path) {
		t.Errorf("got %v, want ErrCorrupt naming the file", err)
	}
}

func TestGarbageCollection(t *testing.T) {
	m := newScriptedMaster(t)
	h := newMachine(t, m)
	a := h.start()
	m.waitRegistered(1)
	m.send(runTasks(framework("M-0000"), commandTask("t", "true")))
	m.waitState("t", "FINISHED")
	dir := filepath.Join(h.work, "slaves/M-S0/frameworks/M-0000/executors/t/runs")
	eventually(t, "the sandbox waits to be collected", func() bool { return a.gc.len() == 1 })
	a.gc.prune(time.Now().Add(-time.Hour))
	if _, err := os.Stat(dir); err != nil {
		t.Errorf("a young sandbox is gone: %v", err)
	}
	h.stop(a)
	// A restart forgets nothing.
	a = h.start()
	defer h.leave(a)
	if a.gc.len() != 1 {
		t.Fatalf("got %d sandboxes to collect after a restart, want 1", a.gc.len())
	}
	code, _, _ := request(t, a, "GET", "/files/browse?path="+mustLatest(t, dir), "", "")
	if code != http.StatusOK {
		t.Errorf("browse an old sandbox: got %d, want 200", code)
	}
	a.gc.prune(time.Now().Add(time.Hour))
	if _, err := os.Stat(filepath.Join(h.work, "slaves/M-S0")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("something is left of the sandbox: %v", err)
	}
	if len(a.files.Attached()) != 0 {
		t.Errorf("still attached: %v", a.files.Attached())
	}
}

func mustLatest(t *testing.T, runs string) string {
	t.Helper()
	id, err := os.Readlink(filepath.Join(runs, "latest"))
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(runs, id)
}

func TestAge(t *testing.T) {
	for _, c := range []struct {
		usage float64
		want  time.Duration
	}{{0, 90 * time.Hour}, {0.4, 50 * time.Hour}, {0.9, 0}, {1, 0}} {
		if got := age(100*time.Hour, 0.1, c.usage).Round(time.Second); got != c.want {
			t.Errorf("age at usage %v: got %s, want %s", c.usage, got, c.want)
		}
	}
}

func TestStopIsIdempotentAndBeforeStart(t *testing.T) {
	m := newScriptedMaster(t)
	h := newMachine(t, m)
	a, err := New(h.options())
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := a.Stop(context.Background()); err != nil {
			t.Errorf("stop: %v", err)
		}
	}
	if _, err := a.View(t.Context()); !errors.Is(err, errStopped) {
		t.Errorf("view after the end: got %v, want errStopped", err)
	}
}

func TestOptionsAreChecked(t *testing.T) {
	m := newScriptedMaster(t)
	h := newMachine(t, m)
	for name, f := range map[string]func(*Options){
		"no master":     func(o *Options) { o.Masters = nil },
		"relative":      func(o *Options) { o.WorkDir = "x" },
		"policy":        func(o *Options) { o.ReconfigurationPolicy = "some" },
		"recover":       func(o *Options) { o.Recover = "maybe" },
		"reregister":    func(o *Options) { o.ExecutorReregistrationTimeout = time.Minute },
		"headroom":      func(o *Options) { o.GCDiskHeadroom = 2 },
		"disk interval": func(o *Options) { o.DiskWatchInterval = 0 },
	} {
		o := h.options()
		f(&o)
		if _, err := New(o); !errors.Is(err, ErrInvalidOption) {
			t.Errorf("%s: got %v, want ErrInvalidOption", name, err)
		}
	}
	for name, f := range map[string]func(*Options){
		"resources":  func(o *Options) { o.Resources = "cpus:x" },
		"attributes": func(o *Options) { o.Attributes = "rack" },
		"isolation":  func(o *Options) { o.Containers.Isolation = "posix/none" },
		"launcher":   func(o *Options) { o.Containers.Launcher = "rocket" },
	} {
		o := h.options()
		f(&o)
		if a, err := New(o); err == nil {
			h.stop(a)
			t.Errorf("%s: got no error", name)
		}
	}
}
