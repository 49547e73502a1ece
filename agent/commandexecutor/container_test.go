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

	"github.com/rs/zerolog"
	"google.golang.org/protobuf/proto"

	mesos "clusterd/api/mesos/v1"
	"clusterd/api/mesos/v1/executor"
	"clusterd/isolation"
)

var built struct {
	once sync.Once
	dir  string
	err  error
}

// containerizer runs containers with the small programs of a real build.
func containerizer(tb testing.TB) isolation.Containerizer {
	tb.Helper()
	built.once.Do(func() {
		built.dir, built.err = os.MkdirTemp("", "command-executor-")
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
	if d := programs.Describe(); strings.Count(d, "from memory") != 3 {
		tb.Fatalf("programs: got %s", d)
	}
	launcher, err := isolation.NewLauncher("posix", tb.TempDir(), programs, zerolog.Nop())
	if err != nil {
		tb.Fatal(err)
	}
	isolators, err := isolation.NewIsolators(isolation.DefaultIsolation, isolation.IsolatorOptions{WorkDir: tb.TempDir()})
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
				if user != "" {
					for dir := config.Sandbox; dir != os.TempDir(); dir = filepath.Dir(dir) {
						if err := os.Chmod(dir, 0o777); err != nil {
							t.Fatal(err)
						}
					}
				}
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
	pid, err := strconv.Atoi(p.readLine("pid"))
	if err != nil {
		t.Fatal(err)
	}
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
	if err := syscall.Kill(pid, 0); err == nil {
		t.Errorf("task %d runs", pid)
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
		ExecutorInfo: &mesos.ExecutorInfo{ExecutorId: &mesos.ExecutorID{Value: proto.String("e")}}, FrameworkInfo: &mesos.FrameworkInfo{User: proto.String("u"), Name: proto.String("n")}, AgentInfo: &mesos.AgentInfo{Hostname: proto.String("h")},
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
