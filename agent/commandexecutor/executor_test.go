package commandexecutor_test

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	"clusterd/agent/commandexecutor"
	"clusterd/agent/commandexecutor/tlsprobe"
	mesos "clusterd/api/mesos/v1"
	"clusterd/api/mesos/v1/executor"
)

// TestMain is also the executor: the tests run it as a process of its own.
func TestMain(m *testing.M) {
	if os.Getenv("TEST_COMMAND_EXECUTOR") != "" {
		os.Exit(commandexecutor.Main(commandexecutor.Options{TLS: tlsprobe.Client}))
	}
	code := m.Run()
	os.RemoveAll(built.dir)
	os.Exit(code)
}

const patience = 60 * time.Second

// agent plays the agent's executor API and records what the executor says.
type agent struct {
	t       *testing.T
	mu      sync.Mutex
	changed *sync.Cond
	// calls and updates are in the order they came in.
	subscribes []*executor.Call
	updates    []*mesos.TaskStatus
	headers    []http.Header
	// stream gets events for the executor that is subscribed.
	stream chan []byte
	drop   chan struct{}

	capabilities []mesos.FrameworkInfo_Capability_Type
	// noAck keeps acknowledgements back, unready answers 503 (refused counts
	// them), and refuse so many calls with 500.
	noAck   bool
	unready bool
	refused int
	refuse  int

	server  *http.Server
	network string
	address string
}

func newAgent(t *testing.T) *agent {
	t.Helper()
	a := &agent{t: t, network: "tcp", address: "127.0.0.1:0", capabilities: []mesos.FrameworkInfo_Capability_Type{mesos.FrameworkInfo_Capability_TASK_KILLING_STATE}}
	a.changed = sync.NewCond(&a.mu)
	t.Cleanup(func() { a.stop() })
	return a
}

// start listens, on the same address as before if there was one.
func (a *agent) start() {
	a.t.Helper()
	l, err := net.Listen(a.network, a.address)
	if err != nil {
		a.t.Fatal(err)
	}
	a.mu.Lock()
	a.address = l.Addr().String()
	a.server = &http.Server{Handler: http.HandlerFunc(a.handle)}
	server := a.server
	a.mu.Unlock()
	go server.Serve(l)
}

// stop dies: no answer is finished, no connection survives.
func (a *agent) stop() {
	a.mu.Lock()
	server := a.server
	a.server = nil
	if a.drop != nil {
		close(a.drop)
		a.drop = nil
	}
	a.mu.Unlock()
	if server != nil {
		server.Close()
	}
}

func (a *agent) handle(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	call := &executor.Call{}
	if err != nil || proto.Unmarshal(body, call) != nil || r.Method != http.MethodPost || r.URL.Path != "/api/v1/executor" || r.Header.Get("Content-Type") != "application/x-protobuf" {
		a.t.Errorf("bad request: %s %s %v", r.Method, r.URL, r.Header)
		http.Error(w, "bad request", http.StatusBadRequest)
		return
	}
	a.mu.Lock()
	a.headers = append(a.headers, r.Header)
	switch {
	case a.unready:
		a.refused++
		a.changed.Broadcast()
		a.mu.Unlock()
		http.Error(w, "Agent has not finished recovery", http.StatusServiceUnavailable)
	case call.GetType() == executor.Call_SUBSCRIBE:
		a.subscribe(w, r, call)
	case call.GetType() == executor.Call_UPDATE && a.refuse > 0:
		a.refuse--
		a.mu.Unlock()
		http.Error(w, "try again", http.StatusInternalServerError)
	default:
		a.take(call.GetUpdate())
		a.mu.Unlock()
		w.WriteHeader(http.StatusAccepted)
	}
}

// take records an update, once, and acknowledges it. mu is held.
func (a *agent) take(u *executor.Call_Update) {
	if u == nil {
		return
	}
	known := false
	for _, s := range a.updates {
		known = known || bytes.Equal(s.GetUuid(), u.GetStatus().GetUuid())
	}
	if !known {
		a.updates = append(a.updates, u.GetStatus())
	}
	if !a.noAck {
		a.sendLocked(ackFor(u.GetStatus()))
	}
	a.changed.Broadcast()
}

func ackFor(s *mesos.TaskStatus) *executor.Event {
	return &executor.Event{Type: executor.Event_ACKNOWLEDGED.Enum(), Acknowledged: &executor.Event_Acknowledged{TaskId: s.GetTaskId(), Uuid: s.GetUuid()}}
}

// subscribe serves the stream. It is entered with mu held.
func (a *agent) subscribe(w http.ResponseWriter, r *http.Request, call *executor.Call) {
	if a.drop != nil {
		close(a.drop)
	}
	stream, drop := make(chan []byte, 100), make(chan struct{})
	a.stream, a.drop = stream, drop
	a.subscribes = append(a.subscribes, call)
	framework := &mesos.FrameworkInfo{User: new("u"), Name: new("n")}
	for _, c := range a.capabilities {
		framework.Capabilities = append(framework.Capabilities, &mesos.FrameworkInfo_Capability{Type: c.Enum()})
	}
	a.sendLocked(&executor.Event{Type: executor.Event_SUBSCRIBED.Enum(), Subscribed: &executor.Event_Subscribed{
		ExecutorInfo: &mesos.ExecutorInfo{ExecutorId: call.GetExecutorId()}, FrameworkInfo: framework, AgentInfo: &mesos.AgentInfo{Hostname: new("h")},
	}})
	for _, u := range call.GetSubscribe().GetUnacknowledgedUpdates() {
		a.take(u)
	}
	a.changed.Broadcast()
	a.mu.Unlock()
	w.Header().Set("Content-Type", "application/x-protobuf")
	for {
		select {
		case b := <-stream:
			fmt.Fprintf(w, "%d\n%s", len(b), b)
			w.(http.Flusher).Flush()
		case <-drop:
			panic(http.ErrAbortHandler)
		case <-r.Context().Done():
			return
		}
	}
}

func (a *agent) sendLocked(ev *executor.Event) {
	b, err := proto.Marshal(ev)
	if err != nil {
		a.t.Error(err)
	}
	if a.stream != nil {
		a.stream <- b
	}
}

func (a *agent) send(ev *executor.Event) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.sendLocked(ev)
}

// until waits until the agent has seen something.
func (a *agent) until(what string, seen func() bool) {
	a.t.Helper()
	timer := time.AfterFunc(patience, func() { a.changed.Broadcast() })
	defer timer.Stop()
	deadline := time.Now().Add(patience)
	a.mu.Lock()
	defer a.mu.Unlock()
	for !seen() {
		if time.Now().After(deadline) {
			a.t.Fatalf("did not see %s; updates: %v", what, a.updates)
		}
		a.changed.Wait()
	}
}

func (a *agent) awaitSubscribe(n int) *executor.Call {
	a.t.Helper()
	a.until("subscription "+strconv.Itoa(n), func() bool { return len(a.subscribes) >= n })
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.subscribes[n-1]
}

// awaitState returns the first update in a state.
func (a *agent) awaitState(state mesos.TaskState) *mesos.TaskStatus {
	a.t.Helper()
	return a.await(state.String(), func(s *mesos.TaskStatus) bool { return s.GetState() == state })
}

func (a *agent) await(what string, match func(*mesos.TaskStatus) bool) *mesos.TaskStatus {
	a.t.Helper()
	var found *mesos.TaskStatus
	a.until(what, func() bool {
		for _, s := range a.updates {
			if match(s) {
				found = s
				return true
			}
		}
		return false
	})
	return found
}

func (a *agent) states() []mesos.TaskState {
	a.mu.Lock()
	defer a.mu.Unlock()
	var states []mesos.TaskState
	for _, s := range a.updates {
		states = append(states, s.GetState())
	}
	return states
}

// process is a running executor.
type process struct {
	t       *testing.T
	cmd     *exec.Cmd
	sandbox string
	done    chan error
}

// run starts an executor. Its environment is the given one over the usual.
func (a *agent) run(env ...string) *process {
	a.t.Helper()
	p := &process{t: a.t, sandbox: a.t.TempDir(), done: make(chan error, 1)}
	p.cmd = exec.Command("/proc/self/exe")
	p.cmd.Args[0] = "command-executor"
	p.cmd.Dir = p.sandbox
	p.cmd.Env = append([]string{
		"TEST_COMMAND_EXECUTOR=1", "PATH=/usr/bin:/bin", "MESOS_FRAMEWORK_ID=f", "MESOS_EXECUTOR_ID=e", "MESOS_AGENT_ENDPOINT=" + a.address,
		"MESOS_CHECKPOINT=1", "MESOS_RECOVERY_TIMEOUT=15mins", "MESOS_SUBSCRIPTION_BACKOFF_MAX=2secs", "MESOS_EXECUTOR_SHUTDOWN_GRACE_PERIOD=5secs",
		"MESOS_DIRECTORY=" + p.sandbox,
	}, env...)
	var err error
	open := func(name string) *os.File {
		f, openErr := os.Create(filepath.Join(p.sandbox, name))
		if openErr != nil {
			a.t.Fatal(openErr)
		}
		return f
	}
	stdout, stderr := open("stdout"), open("stderr")
	defer stdout.Close()
	defer stderr.Close()
	p.cmd.Stdout, p.cmd.Stderr = stdout, stderr
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err = p.cmd.Start(); err != nil {
		a.t.Fatal(err)
	}
	go func() { p.done <- p.cmd.Wait() }()
	a.t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		if a.t.Failed() {
			a.t.Logf("stdout: %s\nstderr: %s", p.read("stdout"), p.read("stderr"))
		}
	})
	return p
}

func (p *process) read(name string) string {
	b, err := os.ReadFile(filepath.Join(p.sandbox, name))
	if err != nil {
		return ""
	}
	return string(b)
}

func poll(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if done() {
			return
		}
	}
	t.Fatalf("still not: %s", what)
}

// readLine waits for a whole line in a file of the sandbox.
func (p *process) readLine(name string) string {
	p.t.Helper()
	poll(p.t, "a line in "+name, func() bool { return strings.HasSuffix(p.read(name), "\n") })
	return strings.TrimSpace(p.read(name))
}

// exit waits for the executor's end and returns its exit code.
func (p *process) exit() int {
	p.t.Helper()
	select {
	case <-p.done:
		return p.cmd.ProcessState.ExitCode()
	case <-time.After(patience):
		p.t.Fatal("the executor does not end")
		return 0
	}
}

func task(script string, change ...func(*mesos.TaskInfo)) *mesos.TaskInfo {
	t := &mesos.TaskInfo{
		Name: new("n"), TaskId: &mesos.TaskID{Value: new("t1")}, AgentId: &mesos.AgentID{Value: new("a1")},
		Resources: []*mesos.Resource{{
			Name: new("cpus"), Type: mesos.Value_SCALAR.Enum(), Scalar: &mesos.Value_Scalar{Value: new(0.1)},
			AllocationInfo: &mesos.Resource_AllocationInfo{Role: new("eng")},
		}},
		Command: &mesos.CommandInfo{Value: new(script)},
	}
	for _, c := range change {
		c(t)
	}
	return t
}

func launch(t *mesos.TaskInfo) *executor.Event {
	return &executor.Event{Type: executor.Event_LAUNCH.Enum(), Launch: &executor.Event_Launch{Task: t}}
}

func kill(grace ...time.Duration) *executor.Event {
	k := &executor.Event_Kill{TaskId: &mesos.TaskID{Value: new("t1")}}
	if len(grace) > 0 {
		k.KillPolicy = &mesos.KillPolicy{GracePeriod: &mesos.DurationInfo{Nanoseconds: new(int64(grace[0]))}}
	}
	return &executor.Event{Type: executor.Event_KILL.Enum(), Kill: k}
}

// start runs an executor with a task.
func (a *agent) startTask(info *mesos.TaskInfo, env ...string) *process {
	a.t.Helper()
	a.start()
	p := a.run(env...)
	a.awaitSubscribe(1)
	a.send(launch(info))
	return p
}

func compareStatus(t *testing.T, want, got *mesos.TaskStatus) {
	t.Helper()
	if len(got.GetUuid()) != 16 || got.GetTimestamp() < 1e9 {
		t.Errorf("uuid and timestamp: got %x, %v", got.GetUuid(), got.GetTimestamp())
	}
	want.TaskId, want.ExecutorId = &mesos.TaskID{Value: new("t1")}, &mesos.ExecutorID{Value: new("e")}
	want.Source = mesos.TaskStatus_SOURCE_EXECUTOR.Enum()
	if diff := cmp.Diff(want, got, protocmp.Transform(), protocmp.IgnoreFields(&mesos.TaskStatus{}, "uuid", "timestamp")); diff != "" {
		t.Errorf("status (-want +got):\n%s", diff)
	}
}

func TestEnds(t *testing.T) {
	shell := func(b bool, argv ...string) func(*mesos.TaskInfo) {
		return func(t *mesos.TaskInfo) { t.Command.Shell, t.Command.Arguments = &b, argv }
	}
	for _, c := range []struct {
		name    string
		task    *mesos.TaskInfo
		state   mesos.TaskState
		message string
		stdout  string
	}{
		{"finished", task("echo hello"), mesos.TaskState_TASK_FINISHED, "Command exited with status 0", "hello\n"},
		{"failed", task("exit 3"), mesos.TaskState_TASK_FAILED, "Command exited with status 3", ""},
		{"killed by itself", task("kill -KILL $$"), mesos.TaskState_TASK_FAILED, "Command terminated with signal Killed", ""},
		{"segmentation fault", task("ulimit -c 0; kill -SEGV $$"), mesos.TaskState_TASK_FAILED, "Command terminated with signal Segmentation fault", ""},
		{"argv", task("/bin/echo", shell(false, "zero", "a b", "c")), mesos.TaskState_TASK_FINISHED, "Command exited with status 0", "a b c\n"},
		{"argv0", task("sh", shell(false, "zero", "-c", "echo $0")), mesos.TaskState_TASK_FINISHED, "Command exited with status 0", "zero\n"},
		{"no arguments", task("/bin/pwd", shell(false)), mesos.TaskState_TASK_FINISHED, "Command exited with status 0", "*"},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := newAgent(t)
			p := a.startTask(c.task)
			compareStatus(t, &mesos.TaskStatus{State: c.state.Enum(), Message: &c.message}, a.awaitState(c.state))
			if code := p.exit(); code != 0 {
				t.Errorf("exit code: got %d", code)
			}
			want := []mesos.TaskState{mesos.TaskState_TASK_STARTING, mesos.TaskState_TASK_RUNNING, c.state}
			if diff := cmp.Diff(want, a.states()); diff != "" {
				t.Errorf("states (-want +got):\n%s", diff)
			}
			if got := p.read("stdout"); got != c.stdout && c.stdout != "*" {
				t.Errorf("stdout: got %q, want %q", got, c.stdout)
			}
			if got := p.read("stderr"); got != "" {
				t.Errorf("stderr: got %q, want nothing of the executor's", got)
			}
		})
	}
}

func TestCannotExecute(t *testing.T) {
	a := newAgent(t)
	p := a.startTask(task("/no/such", func(t *mesos.TaskInfo) { t.Command.Shell = new(false) }))
	message := "Failed to execute '/no/such': no such file or directory"
	compareStatus(t, &mesos.TaskStatus{State: mesos.TaskState_TASK_FAILED.Enum(), Message: &message}, a.awaitState(mesos.TaskState_TASK_FAILED))
	if code := p.exit(); code != 0 {
		t.Errorf("exit code: got %d", code)
	}
	if diff := cmp.Diff([]mesos.TaskState{mesos.TaskState_TASK_STARTING, mesos.TaskState_TASK_FAILED}, a.states()); diff != "" {
		t.Errorf("states (-want +got):\n%s", diff)
	}
}

func TestEnvironment(t *testing.T) {
	a := newAgent(t)
	p := a.startTask(task("env; ps -o sid= -p $$; echo $$", func(t *mesos.TaskInfo) {
		t.Command.Environment = &mesos.Environment{Variables: []*mesos.Environment_Variable{
			{Name: new("FOO"), Value: new("from task")},
			{Name: new("NEW"), Value: new("new")},
			{Name: new("SECRET"), Type: mesos.Environment_Variable_SECRET.Enum()},
		}}
	}), "FOO=from agent", "KEPT=kept", "MESOS_EXECUTOR_AUTHENTICATION_TOKEN=secret")
	a.awaitState(mesos.TaskState_TASK_FINISHED)
	lines := strings.Split(strings.TrimSpace(p.read("stdout")), "\n")
	env := make(map[string]string)
	for _, l := range lines[:len(lines)-2] {
		name, value, _ := strings.Cut(l, "=")
		env[name] = value
	}
	for name, want := range map[string]string{"FOO": "from task", "NEW": "new", "KEPT": "kept", "MESOS_ALLOCATION_ROLE": "eng", "MESOS_EXECUTOR_ID": "e"} {
		if env[name] != want {
			t.Errorf("%s: got %q, want %q", name, env[name], want)
		}
	}
	for _, name := range []string{"MESOS_EXECUTOR_AUTHENTICATION_TOKEN", "SECRET"} {
		if v, ok := env[name]; ok {
			t.Errorf("%s: got %q, want it unset", name, v)
		}
	}
	if sid, pid := strings.TrimSpace(lines[len(lines)-2]), lines[len(lines)-1]; sid != pid {
		t.Errorf("session of the task: got %s, want its own, %s", sid, pid)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, h := range a.headers {
		if got := h.Get("Authorization"); got != "Bearer secret" {
			t.Errorf("authorization: got %q", got)
		}
	}
}

func TestKill(t *testing.T) {
	const stubborn = `trap "" TERM; echo $$ >pid; while :; do sleep 0.05; done`
	policy := func(grace time.Duration) func(*mesos.TaskInfo) {
		return func(t *mesos.TaskInfo) {
			t.KillPolicy = &mesos.KillPolicy{GracePeriod: &mesos.DurationInfo{Nanoseconds: new(int64(grace))}}
		}
	}
	for _, c := range []struct {
		name    string
		task    *mesos.TaskInfo
		kills   []*executor.Event
		killing bool
		state   mesos.TaskState
		message string
		// atLeast is how long the task must have been left alone.
		atLeast time.Duration
	}{
		{"terminates", task("echo $$ >pid; exec sleep 1000"), []*executor.Event{kill()}, true, mesos.TaskState_TASK_KILLED, "Command terminated with signal Terminated", 0},
		{"without TASK_KILLING", task("echo $$ >pid; exec sleep 1000"), []*executor.Event{kill()}, false, mesos.TaskState_TASK_KILLED, "Command terminated with signal Terminated", 0},
		{"exits by itself", task(`trap "exit 0" TERM; echo $$ >pid; while :; do sleep 0.05; done`), []*executor.Event{kill()}, true, mesos.TaskState_TASK_KILLED, "Command exited with status 0", 0},
		{"kill policy of the task", task(stubborn, policy(200*time.Millisecond)), []*executor.Event{kill()}, true, mesos.TaskState_TASK_KILLED, "Command terminated with signal Killed", 200 * time.Millisecond},
		{"kill policy of the call", task(stubborn, policy(time.Hour)), []*executor.Event{kill(100 * time.Millisecond)}, true, mesos.TaskState_TASK_KILLED, "Command terminated with signal Killed", 100 * time.Millisecond},
		{"a later kill shortens", task(stubborn, policy(time.Hour)), []*executor.Event{kill(), kill(50 * time.Millisecond)}, true, mesos.TaskState_TASK_KILLED, "Command terminated with signal Killed", 50 * time.Millisecond},
		{"a later kill does not lengthen", task(stubborn, policy(300*time.Millisecond)), []*executor.Event{kill(), kill(time.Hour)}, true, mesos.TaskState_TASK_KILLED, "Command terminated with signal Killed", 300 * time.Millisecond},
		{"shutdown", task("echo $$ >pid; exec sleep 1000"), []*executor.Event{{Type: executor.Event_SHUTDOWN.Enum()}}, true, mesos.TaskState_TASK_KILLED, "Command terminated with signal Terminated", 0},
		{"launch group", task("echo $$ >pid; exec sleep 1000"), []*executor.Event{{Type: executor.Event_LAUNCH_GROUP.Enum(), LaunchGroup: &executor.Event_LaunchGroup{TaskGroup: &mesos.TaskGroupInfo{}}}}, true, mesos.TaskState_TASK_KILLED, "Command terminated with signal Terminated", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			a := newAgent(t)
			if !c.killing {
				a.capabilities = nil
			}
			p := a.startTask(c.task)
			p.readLine("pid")
			begin := time.Now()
			for _, k := range c.kills {
				a.send(k)
			}
			compareStatus(t, &mesos.TaskStatus{State: c.state.Enum(), Message: &c.message}, a.awaitState(c.state))
			if took := time.Since(begin); took < c.atLeast {
				t.Errorf("killed after %v, before its grace period of %v", took, c.atLeast)
			}
			if code := p.exit(); code != 0 {
				t.Errorf("exit code: got %d", code)
			}
			want := []mesos.TaskState{mesos.TaskState_TASK_STARTING, mesos.TaskState_TASK_RUNNING, mesos.TaskState_TASK_KILLING, c.state}
			if !c.killing {
				want = append(want[:2], c.state)
			}
			if diff := cmp.Diff(want, a.states()); diff != "" {
				t.Errorf("states (-want +got):\n%s", diff)
			}
		})
	}
}

// TestKillTree: children, and children that tried to get away, get the signal.
func TestKillTree(t *testing.T) {
	a := newAgent(t)
	p := a.startTask(task(`trap "exit 0" TERM
(trap "echo child >child; exit" TERM; echo x >ready1; while :; do sleep 0.02; done) &
setsid sh -c 'trap "echo daemon >daemon; exit" TERM; echo x >ready2; while :; do sleep 0.02; done' &
wait; while [ ! -e child ] || [ ! -e daemon ]; do sleep 0.02; done`))
	p.readLine("ready1")
	p.readLine("ready2")
	a.send(kill(patience))
	a.awaitState(mesos.TaskState_TASK_KILLED)
	if p.readLine("child") != "child" || p.readLine("daemon") != "daemon" {
		t.Error("not everybody got SIGTERM")
	}
	p.exit()
}

func TestKillBeforeLaunch(t *testing.T) {
	a := newAgent(t)
	a.start()
	p := a.run()
	a.awaitSubscribe(1)
	a.send(kill())
	if code := p.exit(); code != 1 {
		t.Errorf("exit code: got %d, want 1", code)
	}
}

func TestShutdownBeforeLaunch(t *testing.T) {
	a := newAgent(t)
	a.start()
	p := a.run()
	a.awaitSubscribe(1)
	a.send(&executor.Event{Type: executor.Event_SHUTDOWN.Enum()})
	if code := p.exit(); code != 0 {
		t.Errorf("exit code: got %d, want 0", code)
	}
}

func TestMaxCompletionTime(t *testing.T) {
	a := newAgent(t)
	p := a.startTask(task(`trap "" TERM; while :; do sleep 0.05; done`, func(t *mesos.TaskInfo) {
		t.MaxCompletionTime = &mesos.DurationInfo{Nanoseconds: proto.Int64(int64(300 * time.Millisecond))}
	}))
	got := a.awaitState(mesos.TaskState_TASK_FAILED)
	compareStatus(t, &mesos.TaskStatus{
		State: mesos.TaskState_TASK_FAILED.Enum(), Reason: mesos.TaskStatus_REASON_MAX_COMPLETION_TIME_REACHED.Enum(), Message: new("Command terminated with signal Killed"),
	}, got)
	if diff := cmp.Diff([]mesos.TaskState{mesos.TaskState_TASK_STARTING, mesos.TaskState_TASK_RUNNING, mesos.TaskState_TASK_FAILED}, a.states()); diff != "" {
		t.Errorf("states (-want +got):\n%s", diff)
	}
	p.exit()
}

func TestSecondTask(t *testing.T) {
	a := newAgent(t)
	p := a.startTask(task("while [ ! -e go ]; do sleep 0.02; done"))
	a.awaitState(mesos.TaskState_TASK_RUNNING)
	a.send(launch(task("true"))) // once more the same: ignored
	a.send(launch(task("true", func(t *mesos.TaskInfo) { t.TaskId.Value = new("t2") })))
	got := a.awaitState(mesos.TaskState_TASK_FAILED)
	if want := `Attempted to run multiple tasks using a "command" executor`; got.GetTaskId().GetValue() != "t2" || got.GetMessage() != want {
		t.Errorf("second task: got %v", got)
	}
	if err := os.WriteFile(filepath.Join(p.sandbox, "go"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if got := a.awaitState(mesos.TaskState_TASK_FINISHED); got.GetTaskId().GetValue() != "t1" {
		t.Errorf("first task: got %v", got)
	}
	p.exit()
}

// TestAgentRestart: while the agent is away the task ends; nothing is lost.
func TestAgentRestart(t *testing.T) {
	a := newAgent(t)
	p := a.startTask(task("while [ ! -e go ]; do sleep 0.02; done; echo done >ended; exit 5"))
	a.awaitState(mesos.TaskState_TASK_RUNNING)
	a.stop()
	if err := os.WriteFile(filepath.Join(p.sandbox, "go"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	p.readLine("ended")
	a.mu.Lock()
	a.unready = true
	a.mu.Unlock()
	a.start()
	a.until("two subscriptions refused", func() bool { return a.refused >= 2 })
	a.mu.Lock()
	a.unready = false
	a.mu.Unlock()
	a.awaitSubscribe(2)
	got := a.awaitState(mesos.TaskState_TASK_FAILED)
	compareStatus(t, &mesos.TaskStatus{State: mesos.TaskState_TASK_FAILED.Enum(), Message: new("Command exited with status 5")}, got)
	if code := p.exit(); code != 0 {
		t.Errorf("exit code: got %d", code)
	}
}

// TestResubscribe looks at what a SUBSCRIBE carries.
func TestResubscribe(t *testing.T) {
	a := newAgent(t)
	a.noAck = true
	info := task("while [ ! -e go ]; do sleep 0.02; done")
	p := a.startTask(info)
	first := a.awaitSubscribe(1)
	if s := first.GetSubscribe(); s == nil || len(s.UnacknowledgedTasks) != 0 || len(s.UnacknowledgedUpdates) != 0 {
		t.Errorf("first subscribe: got %v", first)
	}
	running := a.awaitState(mesos.TaskState_TASK_RUNNING)
	starting := a.awaitState(mesos.TaskState_TASK_STARTING)
	a.stop()
	a.start()
	second := a.awaitSubscribe(2)
	if diff := cmp.Diff(&executor.Call_Subscribe{
		UnacknowledgedTasks:   []*mesos.TaskInfo{info},
		UnacknowledgedUpdates: []*executor.Call_Update{{Status: starting}, {Status: running}},
	}, second.GetSubscribe(), protocmp.Transform()); diff != "" {
		t.Errorf("second subscribe (-want +got):\n%s", diff)
	}
	// An acknowledgement takes the update and the task away.
	a.send(ackFor(starting))
	a.mu.Lock()
	a.noAck = false
	a.mu.Unlock()
	if err := os.WriteFile(filepath.Join(p.sandbox, "go"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	a.awaitState(mesos.TaskState_TASK_FINISHED)
	p.exit()
}

func TestCallsAreRetried(t *testing.T) {
	a := newAgent(t)
	a.refuse = 3
	p := a.startTask(task("exit 0"))
	a.awaitState(mesos.TaskState_TASK_FINISHED)
	p.exit()
	if diff := cmp.Diff([]mesos.TaskState{mesos.TaskState_TASK_STARTING, mesos.TaskState_TASK_RUNNING, mesos.TaskState_TASK_FINISHED}, a.states()); diff != "" {
		t.Errorf("states (-want +got):\n%s", diff)
	}
}

// TestAgentGone: without checkpointing the executor ends with the agent, with
// it after the recovery timeout; either way it kills its task.
func TestAgentGone(t *testing.T) {
	for name, env := range map[string][]string{
		"no checkpoint":    {"MESOS_CHECKPOINT=0", "MESOS_EXECUTOR_SHUTDOWN_GRACE_PERIOD=2secs"},
		"recovery timeout": {"MESOS_RECOVERY_TIMEOUT=200ms"},
	} {
		t.Run(name, func(t *testing.T) {
			a := newAgent(t)
			p := a.startTask(task("echo $$ >pid; exec sleep 1000"), env...)
			pid, err := strconv.Atoi(p.readLine("pid"))
			if err != nil {
				t.Fatal(err)
			}
			a.awaitState(mesos.TaskState_TASK_RUNNING)
			a.stop()
			if code := p.exit(); code != 1 {
				t.Errorf("exit code: got %d, want 1", code)
			}
			if err := syscall.Kill(pid, 0); err == nil {
				t.Errorf("task %d runs", pid)
			}
		})
	}
}

func TestNoAgent(t *testing.T) {
	a := newAgent(t)
	a.start()
	a.stop()
	p := a.run("MESOS_CHECKPOINT=0")
	if code := p.exit(); code != 1 {
		t.Errorf("exit code: got %d, want 1", code)
	}
}

func TestRefusedSubscription(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "Framework cannot be found", http.StatusBadRequest)
	}))
	defer server.Close()
	a := newAgent(t)
	a.address = server.Listener.Addr().String()
	p := a.run()
	if code := p.exit(); code != 1 {
		t.Errorf("exit code: got %d, want 1", code)
	}
	if got := p.read("stderr"); !strings.Contains(got, "agent answered 400: Framework cannot be found") {
		t.Errorf("stderr: got %q", got)
	}
}

func TestTermSignal(t *testing.T) {
	a := newAgent(t)
	p := a.startTask(task("echo $$ >pid; exec sleep 1000"))
	p.readLine("pid")
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	a.awaitState(mesos.TaskState_TASK_KILLED)
	p.exit()
}

func TestDomainSocket(t *testing.T) {
	a := newAgent(t)
	a.network, a.address = "unix", filepath.Join(t.TempDir(), "agent.sock")
	p := a.startTask(task("exit 0"), "MESOS_AGENT_ENDPOINT=127.0.0.1:1", "MESOS_DOMAIN_SOCKET="+a.address)
	a.awaitState(mesos.TaskState_TASK_FINISHED)
	p.exit()
}

func TestBadEnvironment(t *testing.T) {
	for _, c := range []struct{ env, want string }{
		{"MESOS_FRAMEWORK_ID=", "MESOS_FRAMEWORK_ID"},
		{"MESOS_EXECUTOR_ID=", "MESOS_EXECUTOR_ID"},
		{"MESOS_AGENT_ENDPOINT=nowhere", "MESOS_AGENT_ENDPOINT"},
		{"MESOS_RECOVERY_TIMEOUT=soon", "MESOS_RECOVERY_TIMEOUT"},
	} {
		t.Run(c.want, func(t *testing.T) {
			a := newAgent(t)
			a.address = "127.0.0.1:1"
			p := a.run(c.env)
			if code := p.exit(); code != 1 {
				t.Errorf("exit code: got %d, want 1", code)
			}
			if got := p.read("stderr"); !strings.Contains(got, c.want) {
				t.Errorf("stderr: got %q, want it to name %s", got, c.want)
			}
		})
	}
}

// flag is a file that a test's check depends on.
func set(t *testing.T, p *process, name string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(p.sandbox, name), nil, 0o644); err != nil {
		t.Fatal(err)
	}
}

// port starts a server for HTTP or TCP checks.
func testPort(t *testing.T, useTLS bool, handler http.HandlerFunc) uint32 {
	t.Helper()
	server := httptest.NewUnstartedServer(handler)
	if useTLS {
		server.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
		server.StartTLS()
	} else {
		server.Start()
	}
	t.Cleanup(server.Close)
	return uint32(server.Listener.Addr().(*net.TCPAddr).Port)
}

func TestHealthCheckTypes(t *testing.T) {
	var mu sync.Mutex
	status, paths := http.StatusOK, []string{}
	handler := func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		paths = append(paths, r.URL.String())
		switch r.URL.Path {
		case "/redirect":
			http.Redirect(w, r, "/health?x=1", http.StatusFound)
		default:
			w.WriteHeader(status)
		}
	}
	httpPort, httpsPort := testPort(t, false, handler), testPort(t, true, handler)
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closedPort := uint32(closed.Addr().(*net.TCPAddr).Port)
	closed.Close()
	for _, c := range []struct {
		name    string
		check   *mesos.HealthCheck
		healthy bool
	}{
		{"command", &mesos.HealthCheck{Type: mesos.HealthCheck_COMMAND.Enum(), Command: &mesos.CommandInfo{Value: new(`test "$A" = 1 && test -z "$B"`), Environment: &mesos.Environment{Variables: []*mesos.Environment_Variable{{Name: new("A"), Value: new("1")}}}}}, true},
		{"command argv", &mesos.HealthCheck{Type: mesos.HealthCheck_COMMAND.Enum(), Command: &mesos.CommandInfo{Shell: new(false), Value: new("test"), Arguments: []string{"test", "1", "=", "2"}}}, false},
		{"command not there", &mesos.HealthCheck{Type: mesos.HealthCheck_COMMAND.Enum(), Command: &mesos.CommandInfo{Shell: new(false), Value: new("/no/such")}}, false},
		{"command timeout", &mesos.HealthCheck{Type: mesos.HealthCheck_COMMAND.Enum(), TimeoutSeconds: new(0.1), Command: &mesos.CommandInfo{Value: new("sleep 1000")}}, false},
		{"http", &mesos.HealthCheck{Type: mesos.HealthCheck_HTTP.Enum(), Http: &mesos.HealthCheck_HTTPCheckInfo{Port: &httpPort, Path: new("/health?x=1")}}, true},
		{"http redirect", &mesos.HealthCheck{Type: mesos.HealthCheck_HTTP.Enum(), Http: &mesos.HealthCheck_HTTPCheckInfo{Port: &httpPort, Path: new("/redirect")}}, true},
		{"https", &mesos.HealthCheck{Type: mesos.HealthCheck_HTTP.Enum(), Http: &mesos.HealthCheck_HTTPCheckInfo{Port: &httpsPort, Scheme: new("https")}}, true},
		{"http refused", &mesos.HealthCheck{Type: mesos.HealthCheck_HTTP.Enum(), Http: &mesos.HealthCheck_HTTPCheckInfo{Port: &closedPort}}, false},
		{"tcp", &mesos.HealthCheck{Type: mesos.HealthCheck_TCP.Enum(), Tcp: &mesos.HealthCheck_TCPCheckInfo{Port: &httpPort}}, true},
		{"tcp refused", &mesos.HealthCheck{Type: mesos.HealthCheck_TCP.Enum(), Tcp: &mesos.HealthCheck_TCPCheckInfo{Port: &closedPort}}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			a := newAgent(t)
			c.check.DelaySeconds, c.check.IntervalSeconds, c.check.GracePeriodSeconds, c.check.ConsecutiveFailures = proto.Float64(0), new(0.05), proto.Float64(0), proto.Uint32(1000)
			p := a.startTask(task("B=2 sleep 1000", func(t *mesos.TaskInfo) { t.HealthCheck = c.check }))
			got := a.await("a health status", func(s *mesos.TaskStatus) bool { return s.Healthy != nil })
			compareStatus(t, &mesos.TaskStatus{
				State: mesos.TaskState_TASK_RUNNING.Enum(), Healthy: &c.healthy, Reason: mesos.TaskStatus_REASON_TASK_HEALTH_CHECK_STATUS_UPDATED.Enum(),
			}, got)
			a.send(kill())
			p.exit()
		})
	}
}

func TestHTTPStatusCodes(t *testing.T) {
	for code, healthy := range map[int]bool{200: true, 204: true, 299: true, 304: true, 399: true, 400: false, 404: false, 500: false} {
		t.Run(strconv.Itoa(code), func(t *testing.T) {
			t.Parallel()
			port := testPort(t, false, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) })
			a := newAgent(t)
			p := a.startTask(task("sleep 1000", func(t *mesos.TaskInfo) {
				t.HealthCheck = &mesos.HealthCheck{
					Type: mesos.HealthCheck_HTTP.Enum(), DelaySeconds: proto.Float64(0), IntervalSeconds: new(0.05), GracePeriodSeconds: proto.Float64(0), ConsecutiveFailures: proto.Uint32(1000),
					Http: &mesos.HealthCheck_HTTPCheckInfo{Port: &port},
				}
			}))
			got := a.await("a health status", func(s *mesos.TaskStatus) bool { return s.Healthy != nil })
			if got.GetHealthy() != healthy {
				t.Errorf("healthy: got %v, want %v", got.GetHealthy(), healthy)
			}
			a.send(kill())
			p.exit()
		})
	}
}

// TestHealthCheckLife: healthy, unhealthy, healthy again, and then killed.
func TestHealthCheckLife(t *testing.T) {
	a := newAgent(t)
	p := a.startTask(task("sleep 1000", func(t *mesos.TaskInfo) {
		t.HealthCheck = &mesos.HealthCheck{
			Type: mesos.HealthCheck_COMMAND.Enum(), DelaySeconds: proto.Float64(0), IntervalSeconds: new(0.02), GracePeriodSeconds: proto.Float64(1000), ConsecutiveFailures: proto.Uint32(3),
			// Fails until "up" is there; then each "down" takes one success away.
			Command: &mesos.CommandInfo{Value: new(`echo x >>checks; test -e up || exit 1; rm down1 2>/dev/null && exit 2; test ! -e down`)},
		}
	}))
	// Failures before the first success, within the grace period, do not count.
	poll(t, "five checks", func() bool { return len(p.read("checks")) >= 10 })
	if diff := cmp.Diff([]mesos.TaskState{mesos.TaskState_TASK_STARTING, mesos.TaskState_TASK_RUNNING}, a.states()); diff != "" {
		t.Errorf("states within the grace period (-want +got):\n%s", diff)
	}
	seen := func(n int) []bool {
		var healthy []bool
		a.until(strconv.Itoa(n)+" health statuses", func() bool {
			healthy = nil
			for _, s := range a.updates {
				if s.GetReason() == mesos.TaskStatus_REASON_TASK_HEALTH_CHECK_STATUS_UPDATED {
					healthy = append(healthy, s.GetHealthy())
				}
			}
			return len(healthy) >= n
		})
		return healthy
	}
	set(t, p, "up")
	seen(1)
	set(t, p, "down1")
	seen(3)
	set(t, p, "down")
	got := a.awaitState(mesos.TaskState_TASK_KILLED)
	if got.Healthy == nil || got.GetHealthy() {
		t.Errorf("last status: got %v, want healthy=false", got)
	}
	if diff := cmp.Diff([]bool{true, false, true, false, false, false}, seen(6)); diff != "" {
		t.Errorf("healthy (-want +got):\n%s", diff)
	}
	p.exit()
}

func TestChecks(t *testing.T) {
	var connections atomic.Int32
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) }))
	server.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			connections.Add(1)
		}
	}
	server.Start()
	defer server.Close()
	httpPort := uint32(server.Listener.Addr().(*net.TCPAddr).Port)
	kind := func(t mesos.CheckInfo_Type) *mesos.CheckInfo_Type { return t.Enum() }
	for _, c := range []struct {
		name  string
		check *mesos.CheckInfo
		empty *mesos.CheckStatusInfo
		want  *mesos.CheckStatusInfo
	}{
		{
			"command", &mesos.CheckInfo{Type: kind(mesos.CheckInfo_COMMAND), Command: &mesos.CheckInfo_Command{Command: &mesos.CommandInfo{Value: new("echo x >>checks; exit 7")}}},
			&mesos.CheckStatusInfo{Type: kind(mesos.CheckInfo_COMMAND), Command: &mesos.CheckStatusInfo_Command{}},
			&mesos.CheckStatusInfo{Type: kind(mesos.CheckInfo_COMMAND), Command: &mesos.CheckStatusInfo_Command{ExitCode: proto.Int32(7)}},
		},
		{
			"http", &mesos.CheckInfo{Type: kind(mesos.CheckInfo_HTTP), Http: &mesos.CheckInfo_Http{Port: &httpPort, Path: new("/x")}},
			&mesos.CheckStatusInfo{Type: kind(mesos.CheckInfo_HTTP), Http: &mesos.CheckStatusInfo_Http{}},
			&mesos.CheckStatusInfo{Type: kind(mesos.CheckInfo_HTTP), Http: &mesos.CheckStatusInfo_Http{StatusCode: proto.Uint32(418)}},
		},
		{
			"tcp", &mesos.CheckInfo{Type: kind(mesos.CheckInfo_TCP), Tcp: &mesos.CheckInfo_Tcp{Port: &httpPort}},
			&mesos.CheckStatusInfo{Type: kind(mesos.CheckInfo_TCP), Tcp: &mesos.CheckStatusInfo_Tcp{}},
			&mesos.CheckStatusInfo{Type: kind(mesos.CheckInfo_TCP), Tcp: &mesos.CheckStatusInfo_Tcp{Succeeded: new(true)}},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := newAgent(t)
			before := connections.Load()
			c.check.DelaySeconds, c.check.IntervalSeconds = proto.Float64(0), new(0.02)
			p := a.startTask(task("sleep 1000", func(t *mesos.TaskInfo) { t.Check = c.check }))
			first := a.await("a check status", func(s *mesos.TaskStatus) bool {
				return s.GetReason() == mesos.TaskStatus_REASON_TASK_CHECK_STATUS_UPDATED
			})
			compareStatus(t, &mesos.TaskStatus{State: mesos.TaskState_TASK_RUNNING.Enum(), Reason: mesos.TaskStatus_REASON_TASK_CHECK_STATUS_UPDATED.Enum(), CheckStatus: c.want}, first)
			compareStatus(t, &mesos.TaskStatus{State: mesos.TaskState_TASK_STARTING.Enum(), CheckStatus: c.empty}, a.awaitState(mesos.TaskState_TASK_STARTING))
			poll(t, "five checks", func() bool { return len(p.read("checks")) >= 10 || connections.Load()-before >= 5 })
			a.send(kill())
			p.exit()
			// One update for one result, however often it was found.
			n := 0
			a.mu.Lock()
			defer a.mu.Unlock()
			for _, s := range a.updates {
				if s.GetReason() == mesos.TaskStatus_REASON_TASK_CHECK_STATUS_UPDATED {
					n++
				}
			}
			if n != 1 {
				t.Errorf("check updates: got %d, want 1", n)
			}
		})
	}
}

// TestCheckChanges: a result that changes is reported, and one that cannot be
// had is an empty one.
func TestCheckChanges(t *testing.T) {
	a := newAgent(t)
	p := a.startTask(task("sleep 1000", func(t *mesos.TaskInfo) {
		t.Check = &mesos.CheckInfo{
			Type: mesos.CheckInfo_COMMAND.Enum(), DelaySeconds: proto.Float64(0), IntervalSeconds: new(0.02), TimeoutSeconds: new(0.3),
			Command: &mesos.CheckInfo_Command{Command: &mesos.CommandInfo{Value: new(`test -e hang && { echo $$ >hanging; sleep 1000; }; test -e one`)}},
		}
	}))
	code := func(want *int32) {
		t.Helper()
		a.until("a check status", func() bool {
			last := a.updates[len(a.updates)-1]
			c := last.GetCheckStatus().GetCommand()
			return last.GetReason() == mesos.TaskStatus_REASON_TASK_CHECK_STATUS_UPDATED && c != nil && cmp.Equal(c.ExitCode, want)
		})
	}
	a.awaitState(mesos.TaskState_TASK_RUNNING)
	code(proto.Int32(1))
	set(t, p, "one")
	code(proto.Int32(0))
	set(t, p, "hang")
	code(nil)
	a.send(kill())
	p.exit()
}

// TestStreamInPieces: records do not come one per read.
func TestStreamInPieces(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	subscribed, err := proto.Marshal(&executor.Event{Type: executor.Event_SUBSCRIBED.Enum(), Subscribed: &executor.Event_Subscribed{
		ExecutorInfo: &mesos.ExecutorInfo{ExecutorId: &mesos.ExecutorID{Value: new("e")}}, FrameworkInfo: &mesos.FrameworkInfo{User: new("u"), Name: new("n")}, AgentInfo: &mesos.AgentInfo{Hostname: new("h")},
	}})
	if err != nil {
		t.Fatal(err)
	}
	down, err := proto.Marshal(&executor.Event{Type: executor.Event_SHUTDOWN.Enum()})
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		if _, err := http.ReadRequest(bufio.NewReader(conn)); err != nil {
			t.Error(err)
		}
		body := fmt.Sprintf("%d\n%s%d\n%s", len(subscribed), subscribed, len(down), down)
		out := "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\nX: y\r\n\r\n"
		for i := 0; i < len(body); i += 7 {
			part := body[i:min(i+7, len(body))]
			out += fmt.Sprintf("%x;ext=1\r\n%s\r\n", len(part), part)
		}
		for i := range len(out) {
			if _, err := conn.Write([]byte{out[i]}); err != nil {
				return // it leaves at the end of the last record, before that of its chunk
			}
		}
		_, _ = io.Copy(io.Discard, conn)
	}()
	a := newAgent(t)
	a.address = l.Addr().String()
	if code := a.run().exit(); code != 0 {
		t.Errorf("exit code: got %d, want 0", code)
	}
}
