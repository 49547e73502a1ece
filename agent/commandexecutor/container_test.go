package commandexecutor_test

import (
	"fmt"
	"io"
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

	"github.com/google/go-cmp/cmp"
	"github.com/rs/zerolog"
	"google.golang.org/protobuf/proto"

	mesos "clusterd/api/mesos/v1"
	"clusterd/api/mesos/v1/executor"
	"clusterd/isolation"
	"clusterd/isolation/proctree"
	"clusterd/isolation/setup"
	"clusterd/isolation/supervisor"
)

var built struct {
	once sync.Once
	dir  string
	err  error
}

// containerizer runs containers with the small programs of a real build.
func containerizer(tb testing.TB) isolation.Containerizer {
	tb.Helper()
	return containerizerOn(tb, tb.TempDir())
}

func containerizerOn(tb testing.TB, runtimeDir string) isolation.Containerizer {
	tb.Helper()
	built.once.Do(func() {
		built.dir, built.err = os.MkdirTemp("", "command-executor-") //nolint:usetesting // shared by all tests; TestMain removes it
		if built.err != nil {
			return
		}
		cmd := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", built.dir+"/", "clusterd/internal/bin/...")
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			tb.Logf("%s", out)
			built.err = err
		}
	})
	if built.err != nil {
		tb.Fatal(built.err)
	}
	programs, err := isolation.LoadProgramsFrom(os.DirFS(built.dir))
	if err != nil {
		tb.Fatal(err)
	}
	if d := programs.Describe(); strings.Count(d, "from memory") != 4 {
		tb.Fatalf("programs: got %s", d)
	}
	launcher, err := isolation.NewPosixLauncher(runtimeDir, programs, zerolog.Nop())
	if err != nil {
		tb.Fatal(err)
	}
	isolators, err := setup.Isolators(setup.Options{Isolation: setup.DefaultIsolation, WorkDir: tb.TempDir()})
	if err != nil {
		tb.Fatal(err)
	}
	c := isolation.NewMesos(launcher, isolators, zerolog.Nop())
	tb.Cleanup(func() { c.Close() })
	return c
}

func executorConfig(builtin isolation.Builtin, id, sandbox, endpoint string) *isolation.ContainerConfig {
	return &isolation.ContainerConfig{
		ID: &mesos.ContainerID{Value: &id}, Sandbox: sandbox, Builtin: builtin,
		Env: map[string]string{
			"PATH": "/usr/bin:/bin", "MESOS_FRAMEWORK_ID": "f", "MESOS_EXECUTOR_ID": "e", "MESOS_AGENT_ENDPOINT": endpoint,
			"MESOS_CHECKPOINT": "1", "MESOS_SANDBOX": sandbox,
		},
	}
}

// TestInContainer runs the executor as an agent does: from memory, under a
// supervisor, and as another user.
func TestInContainer(t *testing.T) {
	for _, builtin := range []isolation.Builtin{isolation.BuiltinCommandExecutor, isolation.BuiltinCommandExecutorTLS} {
		for _, user := range []string{"", "nobody"} {
			t.Run(string(builtin)+"/"+user, func(t *testing.T) {
				if user != "" && os.Geteuid() != 0 {
					t.Skip("only root can switch users")
				}
				c := containerizer(t)
				a := newAgent(t)
				a.start()
				config := executorConfig(builtin, "c1", t.TempDir(), a.address)
				config.User = user
				openUp(t, config.Sandbox)
				if err := c.Launch(t.Context(), config); err != nil {
					t.Fatal(err)
				}
				a.awaitSubscribe(1)
				a.send(launch(task("id -un; exit 3")))
				a.awaitState(mesos.TaskState_TASK_FAILED)
				if got, err := c.Wait(t.Context(), config.ID); err != nil || !got.StatusKnown || got.Status != 0 {
					t.Errorf("executor: got %+v, %v", got, err)
				}
				want := user
				if user == "" {
					want = "root"
				}
				b, err := os.ReadFile(filepath.Join(config.Sandbox, "stdout"))
				if got := strings.TrimSpace(string(b)); err != nil || os.Geteuid() == 0 && got != want {
					t.Errorf("stdout: got %q, %v, want %q", got, err, want)
				}
			})
		}
	}
}

// TestTaskSeesNothingOfUs: the task inherits what the agent gave its container,
// and neither files nor variables of the programs above it.
func TestTaskSeesNothingOfUs(t *testing.T) {
	c := containerizer(t)
	a := newAgent(t)
	_, p := startInContainer(t, c, a, "env | sort; ls /proc/self/fd | wc -l")
	a.awaitState(mesos.TaskState_TASK_FINISHED)
	lines := strings.Split(strings.TrimSpace(p.read("stdout")), "\n")
	var names []string
	for _, l := range lines[:len(lines)-1] {
		switch name, _, _ := strings.Cut(l, "="); name {
		case "PWD", "OLDPWD", "SHLVL", "_": // the shell's own
		default:
			names = append(names, name)
		}
	}
	want := []string{
		"CLUSTERD_CONTAINER_ID", "MESOS_AGENT_ENDPOINT", "MESOS_ALLOCATION_ROLE", "MESOS_CHECKPOINT", "MESOS_EXECUTOR_ID",
		"MESOS_FRAMEWORK_ID", "MESOS_SANDBOX", "PATH",
	}
	if diff := cmp.Diff(want, names); diff != "" {
		t.Errorf("environment (-want +got):\n%s", diff)
	}
	if got := lines[len(lines)-1]; got != "4" { // 0, 1, 2 and that of ls
		t.Errorf("open files: got %s, want 4", got)
	}
}

// TestExecutorKilled: whoever kills the executor, its task ends with it.
func TestExecutorKilled(t *testing.T) {
	c := containerizer(t)
	a := newAgent(t)
	a.start()
	config := executorConfig(isolation.BuiltinCommandExecutor, "c1", t.TempDir(), a.address)
	if err := c.Launch(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	a.awaitSubscribe(1)
	a.send(launch(task("echo $$ >pid; exec sleep 1000")))
	p := &process{t: t, sandbox: config.Sandbox}
	pid := p.pid("pid")
	status, err := c.Status(t.Context(), config.ID)
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(int(status.GetExecutorPid()), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if got, err := c.Wait(t.Context(), config.ID); err != nil || !got.StatusKnown || got.Status != int(syscall.SIGKILL) {
		t.Errorf("executor: got %+v, %v", got, err)
	}
	if alive(pid) {
		t.Errorf("task %d runs", pid)
	}
}

// alive says whether a process runs; a zombie does not.
func alive(pid int) bool {
	p, ok := proctree.Read(pid)
	return ok && p.State != 'Z'
}

// daemonTask has a child that got away from it, in a session of its own.
const daemonTask = `sh -c 'setsid sh -c "echo \$\$ >daemon.tmp; mv daemon.tmp daemon; exec sleep 1000" >/dev/null 2>&1 & exit 0'
while [ ! -e daemon ]; do sleep 0.01; done; trap "" TERM; echo $$ >pid; while [ ! -e go ]; do sleep 0.02; done; exit 6`

func startInContainer(t *testing.T, c isolation.Containerizer, a *agent, text string) (*isolation.ContainerConfig, *process) {
	t.Helper()
	a.start()
	config := executorConfig(isolation.BuiltinCommandExecutor, "c1", t.TempDir(), a.address)
	if err := c.Launch(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	a.awaitSubscribe(1)
	a.send(launch(task(text)))
	return config, &process{t: t, sandbox: config.Sandbox}
}

func (p *process) pid(name string) int {
	p.t.Helper()
	pid, err := strconv.Atoi(p.readLine(name))
	if err != nil {
		p.t.Fatal(err)
	}
	return pid
}

// TestDestroyed: destroying the container of an executor is not a shutdown.
func TestDestroyed(t *testing.T) {
	c := containerizer(t)
	a := newAgent(t)
	config, p := startInContainer(t, c, a, daemonTask)
	pid, daemon := p.pid("pid"), p.pid("daemon")
	if err := c.Destroy(t.Context(), config.ID); err != nil {
		t.Fatal(err)
	}
	if alive(pid) || alive(daemon) {
		t.Errorf("after destroy: task runs: %v, daemon runs: %v", alive(pid), alive(daemon))
	}
	if got, err := c.Wait(t.Context(), config.ID); err != nil || !got.StatusKnown || got.Status != int(syscall.SIGKILL) || !got.Destroyed {
		t.Errorf("executor: got %+v, %v", got, err)
	}
}

// TestNothingOutlivesExecutor: the task's daemon ends with the executor.
func TestNothingOutlivesExecutor(t *testing.T) {
	c := containerizer(t)
	a := newAgent(t)
	config, p := startInContainer(t, c, a, daemonTask)
	daemon := p.pid("daemon")
	p.pid("pid")
	if err := os.WriteFile(filepath.Join(config.Sandbox, "go"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if got := a.awaitState(mesos.TaskState_TASK_FAILED); got.GetMessage() != "Command exited with status 6" {
		t.Errorf("last status: got %v", got)
	}
	if got, err := c.Wait(t.Context(), config.ID); err != nil || !got.StatusKnown || got.Status != 0 {
		t.Errorf("executor: got %+v, %v", got, err)
	}
	if alive(daemon) {
		t.Error("the daemon runs")
	}
}

// TestBothAway: the agent dies, the task and its executor's container go on, end,
// and the next agent learns all of it.
func TestBothAway(t *testing.T) {
	for _, user := range []string{"", "nobody"} {
		t.Run(user, func(t *testing.T) {
			if user != "" && os.Geteuid() != 0 {
				t.Skip("only root can switch users")
			}
			dir := t.TempDir()
			c := containerizerOn(t, dir)
			a := newAgent(t)
			a.start()
			config := executorConfig(isolation.BuiltinCommandExecutor, "c1", t.TempDir(), a.address)
			config.User = user
			openUp(t, config.Sandbox)
			if err := c.Launch(t.Context(), config); err != nil {
				t.Fatal(err)
			}
			a.awaitSubscribe(1)
			a.send(launch(task("while [ ! -e go ]; do sleep 0.02; done; exit 7")))
			a.awaitState(mesos.TaskState_TASK_RUNNING)
			a.stop()
			if err := c.Close(); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(config.Sandbox, "go"), nil, 0o644); err != nil {
				t.Fatal(err)
			}
			a.start()
			if got := a.awaitState(mesos.TaskState_TASK_FAILED); got.GetMessage() != "Command exited with status 7" {
				t.Errorf("last status: got %v", got)
			}
			// The executor has ended meanwhile, unseen.
			poll(t, "a status in the runtime directory", func() bool {
				_, ok := supervisor.ReadStatus(filepath.Join(dir, "containers", "c1"))
				return ok
			})
			c = containerizerOn(t, dir)
			if orphans, err := c.Recover(t.Context(), []isolation.ContainerConfig{*config}); err != nil || len(orphans) != 0 {
				t.Fatalf("recover: got %v, %v", orphans, err)
			}
			if got, err := c.Wait(t.Context(), config.ID); err != nil || !got.StatusKnown || got.Status != 0 {
				t.Errorf("executor: got %+v, %v", got, err)
			}
		})
	}
}

// openUp lets everybody reach a directory of the test.
func openUp(t *testing.T, dir string) {
	t.Helper()
	for ; dir != os.TempDir(); dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o777); err != nil {
			t.Fatal(err)
		}
	}
}

// BenchmarkTasks runs command tasks in containers against an agent's API that
// answers at once: what a task costs before the agent and the master do
// anything.
func BenchmarkTasks(b *testing.B) {
	for _, workers := range []int{1, 8} {
		b.Run(fmt.Sprintf("workers=%d", workers), func(b *testing.B) {
			c := containerizer(b)
			server := newQuickAgent(b)
			sandbox := b.TempDir()
			var next atomic.Int64
			var wg sync.WaitGroup
			self, children := cpuTime(b, syscall.RUSAGE_SELF), cpuTime(b, syscall.RUSAGE_CHILDREN)
			b.ResetTimer()
			for range workers {
				wg.Go(func() {
					for i := next.Add(1); i <= int64(b.N); i = next.Add(1) {
						id := "c" + strconv.Itoa(int(i))
						config := executorConfig(isolation.BuiltinCommandExecutor, id, sandbox, server)
						config.Env["MESOS_EXECUTOR_ID"] = id
						if err := c.Launch(b.Context(), config); err != nil {
							b.Error(err)
							return
						}
						if got, err := c.Wait(b.Context(), config.ID); err != nil || got.Status != 0 || !got.StatusKnown {
							b.Error(got, err)
						}
						if err := c.Remove(b.Context(), config.ID); err != nil {
							b.Error(err)
						}
					}
				})
			}
			wg.Wait()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "tasks/s")
			b.ReportMetric((cpuTime(b, syscall.RUSAGE_SELF)-self)*1000/float64(b.N), "self-cpu-ms/op")
			b.ReportMetric((cpuTime(b, syscall.RUSAGE_CHILDREN)-children)*1000/float64(b.N), "children-cpu-ms/op")
		})
	}
}

func cpuTime(b *testing.B, who int) float64 {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(who, &u); err != nil {
		b.Fatal(err)
	}
	return float64(u.Utime.Nano()+u.Stime.Nano()) / 1e9
}

// newQuickAgent gives every executor that subscribes the task "true" and
// acknowledges what it says.
func newQuickAgent(b *testing.B) (address string) {
	b.Helper()
	encode := func(ev *executor.Event) []byte {
		m, err := proto.Marshal(ev)
		if err != nil {
			b.Error(err)
		}
		return fmt.Appendf(nil, "%d\n%s", len(m), m)
	}
	greeting := append(encode(&executor.Event{Type: executor.Event_SUBSCRIBED.Enum(), Subscribed: &executor.Event_Subscribed{
		ExecutorInfo: &mesos.ExecutorInfo{ExecutorId: &mesos.ExecutorID{Value: new("e")}}, FrameworkInfo: &mesos.FrameworkInfo{User: new("u"), Name: new("n")}, AgentInfo: &mesos.AgentInfo{Hostname: new("h")},
	}}), encode(launch(task("true")))...)
	var streams sync.Map
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		call := &executor.Call{}
		if err != nil || proto.Unmarshal(body, call) != nil {
			http.Error(w, "bad request", http.StatusBadRequest)
			return
		}
		id := call.GetExecutorId().GetValue()
		if call.GetType() == executor.Call_UPDATE {
			w.WriteHeader(http.StatusAccepted)
			if stream, ok := streams.Load(id); ok {
				stream.(chan []byte) <- encode(ackFor(call.GetUpdate().GetStatus()))
			}
			return
		}
		stream := make(chan []byte, 10)
		streams.Store(id, stream)
		defer streams.Delete(id)
		for out := greeting; ; {
			_, _ = w.Write(out)
			w.(http.Flusher).Flush()
			select {
			case out = <-stream:
			case <-r.Context().Done():
				return
			}
		}
	}))
	b.Cleanup(server.Close)
	return server.Listener.Addr().String()
}
