package commandexecutor_test

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	mesos "clusterd/api/mesos/v1"
	"clusterd/isolation"
)

// reader reads an attachment along.
type reader struct {
	isolation.Attachment
	t    *testing.T
	done chan struct{}
	mu   sync.Mutex
	text strings.Builder
	err  error
}

func attach(t *testing.T, c isolation.Containerizer, id *mesos.ContainerID) *reader {
	t.Helper()
	a, err := c.Attach(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	r := &reader{Attachment: a, t: t, done: make(chan struct{})}
	go func() {
		defer close(r.done)
		for {
			_, b, err := a.Read()
			r.mu.Lock()
			r.text.Write(b)
			r.err = err
			r.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	t.Cleanup(func() {
		a.Close()
		<-r.done
	})
	return r
}

func (r *reader) read() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.text.String()
}

func (r *reader) until(text string) {
	r.t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !strings.Contains(r.read(), text); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			r.t.Fatalf("%q was not read: %q", text, r.read())
		}
	}
}

func (r *reader) write(text string) {
	r.t.Helper()
	if _, err := r.Write([]byte(text)); err != nil {
		r.t.Fatal(err)
	}
}

// TestTaskTerminal: the task has the terminal; what the executor and the checks have to
// say goes elsewhere.
func TestTaskTerminal(t *testing.T) {
	for _, user := range []string{"", "nobody"} {
		t.Run("user "+user, func(t *testing.T) {
			if user != "" && os.Geteuid() != 0 {
				t.Skip("only root can switch users")
			}
			c := containerizer(t)
			a := newAgent(t)
			a.start()
			config := executorConfig(isolation.BuiltinCommandExecutor, "c1", t.TempDir(), a.address)
			config.User = user
			openUp(t, config.Sandbox)
			config.ContainerInfo = &mesos.ContainerInfo{
				Type:    mesos.ContainerInfo_MESOS.Enum(),
				TtyInfo: &mesos.TTYInfo{WindowSize: &mesos.TTYInfo_WindowSize{Rows: new(uint32(33)), Columns: new(uint32(99))}},
			}
			if err := c.Launch(t.Context(), config); err != nil {
				t.Fatal(err)
			}
			a.awaitSubscribe(1)
			r := attach(t, c, config.ID)
			a.send(launch(task("echo one=$((40+2)); PS1= exec sh -i", func(info *mesos.TaskInfo) {
				info.Check = &mesos.CheckInfo{
					Type: mesos.CheckInfo_COMMAND.Enum(), DelaySeconds: new(0.0), IntervalSeconds: new(0.05),
					Command: &mesos.CheckInfo_Command{Command: &mesos.CommandInfo{Value: new("echo checked; exit 9")}},
				}
			})))
			r.until("one=42")
			r.write("stty size; id -un; echo two=$((40+2)) >/dev/tty\n")
			r.until("two=42")
			want := user
			if user == "" {
				want = "root"
			}
			if got := r.read(); !strings.Contains(got, "33 99") || os.Geteuid() == 0 && !strings.Contains(got, want+"\r\n") {
				t.Errorf("terminal: got %q", got)
			}
			if err := r.Resize(50, 100); err != nil {
				t.Error(err)
			}
			r.write("stty size; sh -c 'echo three=$((40+2)); exec sleep 1000'\n")
			r.until("three=42")
			r.write("\x03")
			a.await("a check", func(s *mesos.TaskStatus) bool { return s.GetCheckStatus().GetCommand().GetExitCode() == 9 })
			r.write("exit 5\n")
			if got := a.awaitState(mesos.TaskState_TASK_FAILED); got.GetMessage() != "Command exited with status 5" {
				t.Errorf("message: got %q", got.GetMessage())
			}
			if got, err := c.Wait(t.Context(), config.ID); err != nil || !got.StatusKnown || got.Status != 0 {
				t.Errorf("executor: got %+v, %v", got, err)
			}
			<-r.done
			if !errors.Is(r.err, io.EOF) {
				t.Errorf("end: got %v", r.err)
			}
			log := sandboxFile(t, config, "stdout")
			if log != r.read() || !strings.Contains(log, "50 100") || strings.Contains(log, "checked") {
				t.Errorf("stdout: got %q, want %q", log, r.read())
			}
			if got := sandboxFile(t, config, "stderr"); !strings.Contains(got, "checked\n") || strings.Contains(got, "42") {
				t.Errorf("stderr: got %q", got)
			}
		})
	}
}

func sandboxFile(t *testing.T, config *isolation.ContainerConfig, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(config.Sandbox, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestTaskLogRotates: without a process of its own the log of a task is bounded, and
// who reads along misses nothing.
func TestTaskLogRotates(t *testing.T) {
	for _, user := range []string{"", "nobody"} {
		t.Run("user "+user, func(t *testing.T) {
			if user != "" && os.Geteuid() != 0 {
				t.Skip("only root can switch users")
			}
			c := containerizer(t)
			a := newAgent(t)
			a.start()
			config := executorConfig(isolation.BuiltinCommandExecutor, "c1", t.TempDir(), a.address)
			config.User = user
			openUp(t, config.Sandbox)
			config.StdoutRotation = isolation.Rotation{MaxSize: 64 << 10, MaxFiles: 40}
			config.StderrRotation = isolation.Rotation{MaxSize: 64 << 10, MaxFiles: 1, Compress: true}
			if err := c.Launch(t.Context(), config); err != nil {
				t.Fatal(err)
			}
			a.awaitSubscribe(1)
			r := attach(t, c, config.ID)
			const lines = 200_000
			a.send(launch(task(fmt.Sprintf("seq %d; exit 3", lines))))
			a.awaitState(mesos.TaskState_TASK_FAILED)
			if got, err := c.Wait(t.Context(), config.ID); err != nil || !got.StatusKnown || got.Status != 0 {
				t.Errorf("executor: got %+v, %v", got, err)
			}
			<-r.done
			var want, log []byte
			for i := range lines {
				want = fmt.Appendf(want, "%d\n", i+1)
			}
			for i := 40; i >= 0; i-- {
				name := "stdout"
				if i > 0 {
					name += "." + strconv.Itoa(i)
				}
				b, err := os.ReadFile(filepath.Join(config.Sandbox, name))
				if err == nil && len(b) > 64<<10 {
					t.Errorf("%s: got %d bytes", name, len(b))
				}
				log = append(log, b...)
			}
			if string(log) != string(want) {
				t.Errorf("log: got %d bytes, want %d", len(log), len(want))
			}
			if got := r.read(); got != string(want) {
				t.Errorf("attached: got %d bytes, want %d", len(got), len(want))
			}
		})
	}
}

// TestTaskTerminalSurvivesAgent: the agent's side goes and comes again, and the terminal
// is as it was.
func TestTaskTerminalSurvivesAgent(t *testing.T) {
	dir := t.TempDir()
	c := containerizerOn(t, dir)
	a := newAgent(t)
	a.start()
	config := executorConfig(isolation.BuiltinCommandExecutor, "c1", t.TempDir(), a.address)
	config.ContainerInfo = &mesos.ContainerInfo{Type: mesos.ContainerInfo_MESOS.Enum(), TtyInfo: &mesos.TTYInfo{}}
	if err := c.Launch(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	a.awaitSubscribe(1)
	a.send(launch(task("read x; echo got=$x; read y; echo and=$y")))
	before := attach(t, c, config.ID)
	before.write("one\n")
	before.until("got=one")
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	<-before.done
	c = containerizerOn(t, dir)
	if _, err := c.Recover(t.Context(), []isolation.ContainerConfig{*config}); err != nil {
		t.Fatal(err)
	}
	after := attach(t, c, config.ID)
	after.write("two\n")
	a.awaitState(mesos.TaskState_TASK_FINISHED)
	<-after.done
	if got := after.read(); got != "two\r\nand=two\r\n" {
		t.Errorf("got %q", got)
	}
	if _, err := c.Wait(t.Context(), config.ID); err != nil {
		t.Error(err)
	}
}

// TestTerminalOfExecutor: an executor that has a supervisor above it has the terminal
// itself, and hands it on.
func TestTerminalOfExecutor(t *testing.T) {
	c := containerizer(t)
	a := newAgent(t)
	a.start()
	config := executorConfig(isolation.BuiltinNone, "c1", t.TempDir(), a.address)
	config.Command = &mesos.CommandInfo{Value: new(filepath.Join(built.dir, "command-executor")), Shell: new(false)}
	config.ContainerInfo = &mesos.ContainerInfo{Type: mesos.ContainerInfo_MESOS.Enum(), TtyInfo: &mesos.TTYInfo{}}
	if err := c.Launch(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	a.awaitSubscribe(1)
	r := attach(t, c, config.ID)
	a.send(launch(task("echo one=$((40+2)); PS1= exec bash --norc --noprofile -i")))
	r.until("one=42")
	r.write("bash -c 'echo two=$((40+2)); exec sleep 1000'\n")
	r.until("two=42")
	r.write("\x03")
	r.write("bash -c 'echo three=$((40+2)); exec sleep 1000'\n")
	r.until("three=42")
	r.write("\x1a")
	r.until("Stopped")
	r.write("kill -9 %1; fg; exit 5\n")
	if got := a.awaitState(mesos.TaskState_TASK_FAILED); got.GetMessage() != "Command exited with status 5" {
		t.Errorf("message: got %q", got.GetMessage())
	}
	if got, err := c.Wait(t.Context(), config.ID); err != nil || !got.StatusKnown || got.Status != 0 {
		t.Errorf("executor: got %+v, %v", got, err)
	}
}
