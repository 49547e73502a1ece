package work_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"

	"clusterd/internal/testcluster"
)

// terminal is a clusterd at a terminal.
type terminal struct {
	t    *testing.T
	cmd  *exec.Cmd
	f    *os.File
	done chan struct{}
	err  error

	mu  sync.Mutex // mu guards out.
	out bytes.Buffer
}

// command is this test's binary under the name clusterd.
func command(ctx context.Context, t *testing.T, master string, args ...string) *exec.Cmd {
	t.Helper()
	path, err := exec.LookPath("clusterd")
	if err != nil {
		t.Fatal(err) // testscript.Main has put it there
	}
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Env = append(os.Environ(), "CLUSTERD_MASTER="+master, "HOME="+t.TempDir(), "TERM=xterm")
	return cmd
}

func atTerminal(t *testing.T, master string, args ...string) *terminal {
	t.Helper()
	x := &terminal{t: t, cmd: command(context.Background(), t, master, args...), done: make(chan struct{})}
	var err error
	if x.f, err = pty.StartWithSize(x.cmd, &pty.Winsize{Rows: 33, Cols: 77}); err != nil {
		t.Fatal(err)
	}
	go func() {
		_, _ = io.Copy(x, x.f) // ends with the process
		x.err = x.cmd.Wait()
		close(x.done)
	}()
	t.Cleanup(func() {
		_ = x.cmd.Process.Kill()
		<-x.done
		_ = x.f.Close()
		if t.Failed() {
			t.Logf("at the terminal of %v:\n%s", args, x.text())
		}
	})
	return x
}

func (x *terminal) Write(b []byte) (int, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.out.Write(b)
}

func (x *terminal) text() string {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.out.String()
}

// sees waits until something is on the terminal.
func (x *terminal) sees(want string) {
	x.t.Helper()
	if err := testcluster.Poll(func() error {
		if !strings.Contains(x.text(), want) {
			return errors.New("not there: " + want)
		}
		return nil
	}); err != nil {
		x.t.Fatal(err)
	}
}

func (x *terminal) types(keys string) {
	x.t.Helper()
	if _, err := x.f.WriteString(keys); err != nil {
		x.t.Fatal(err)
	}
}

// ends waits for the process and wants an exit code.
func (x *terminal) ends(code int) {
	x.t.Helper()
	select {
	case <-x.done:
	case <-time.After(testcluster.Patience):
		x.t.Fatal("it does not end")
	}
	if got := x.cmd.ProcessState.ExitCode(); got != code {
		x.t.Errorf("exit code %d, want %d (%v)", got, code, x.err)
	}
}

// run runs a command and returns what it prints.
func run(t *testing.T, master string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), testcluster.Patience)
	defer cancel()
	out, err := command(ctx, t, master, args...).Output()
	if err != nil {
		t.Fatalf("clusterd %v: %v", args, err)
	}
	return string(out)
}

// TestTerminal is what people do at a terminal: a shell in a task, a task that is a shell,
// and leaving both.
func TestTerminal(t *testing.T) {
	c := testcluster.Start(t, testcluster.Options{AgentFlags: agentFlags})
	master := c.Master.Addr
	run(t, master, "run", "-q", "-d", "--name", "box", "--", "sleep", "1000")

	t.Run("exec", func(t *testing.T) {
		x := atTerminal(t, master, "exec", "-it", "box", "--", "sh")
		x.types("stty size; echo ready=$((1+1))\r")
		x.sees("33 77")
		x.sees("ready=2")
		if err := pty.Setsize(x.f, &pty.Winsize{Rows: 20, Cols: 55}); err != nil {
			t.Fatal(err)
		}
		// The new size is on its way.
		x.types("while [ \"$(stty size)\" != '20 55' ]; do sleep 0.1; done; echo sized=$((2+2))\r")
		x.sees("sized=4")
		// ^C is the shell's, not ours; so is ctrl-p that no ctrl-q follows.
		x.types("sh -c 'echo sleeping=$((7+7)); exec sleep 1000'\r")
		x.sees("sleeping=14") // or ^C would take the line from the shell
		x.types("\x03")
		x.types("echo on=$((3+3))\r")
		x.sees("on=6")
		x.types("exit 7\r")
		x.ends(7)
	})

	t.Run("exec, detached", func(t *testing.T) {
		x := atTerminal(t, master, "exec", "-it", "box", "--", "sh")
		x.types("echo there=$((4+4))\r")
		x.sees("there=8")
		x.types("\x10\x11")
		x.sees("detached")
		x.ends(0)
	})

	t.Run("run and attach", func(t *testing.T) {
		x := atTerminal(t, master, "run", "-it", "--name", "shell", "--", "sh")
		x.types("stty size; echo first=$((5+5))\r")
		x.sees("33 77")
		x.sees("first=10")
		x.types("\x10\x11")
		x.sees("goes on without this process")
		x.ends(0)

		y := atTerminal(t, master, "attach", "shell")
		y.sees("attached to shell.")
		y.types("echo second=$((6+6))\r")
		y.sees("second=12")
		y.types("exit 9\r")
		y.ends(9)
		w := atTerminal(t, master, "wait", "shell")
		w.sees("second=12")
		w.ends(9)
	})
}

// TestKilledClient leaves nothing of a session behind, and all of a task.
func TestKilledClient(t *testing.T) {
	c := testcluster.Start(t, testcluster.Options{AgentFlags: agentFlags})
	master := c.Master.Addr
	run(t, master, "run", "-q", "-d", "--name", "box", "--", "sh", "-c", "echo $$ > pid; sleep 1000")
	for _, args := range [][]string{
		{"exec", "box", "--", "sh", "-c", "echo pid=$$; sleep 1000 & wait"},
		{"exec", "-it", "box", "--", "sh", "-c", "echo pid=$$; sleep 1000 & wait"},
	} {
		x := atTerminal(t, master, args...)
		x.sees("pid=")
		x.sees("\n")
		_, rest, _ := strings.Cut(x.text(), "pid=")
		pid, err := strconv.Atoi(strings.TrimSpace(strings.SplitN(rest, "\n", 2)[0]))
		if err != nil {
			t.Fatal(err)
		}
		if syscall.Kill(pid, 0) != nil {
			t.Fatalf("process %d of the session is not there", pid)
		}
		if err := x.cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		if err := testcluster.Poll(func() error {
			if syscall.Kill(pid, 0) == nil {
				return errors.New("the session goes on without its client")
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	task, err := strconv.Atoi(strings.TrimSpace(run(t, master, "cp", "box:pid", "-")))
	if err != nil {
		t.Fatal(err)
	}
	if syscall.Kill(task, 0) != nil {
		t.Error("the task has ended with a session")
	}
}

// TestAgentGone wants one ^C to be enough when the task's agent is not there to kill it.
func TestAgentGone(t *testing.T) {
	c := testcluster.Start(t, testcluster.Options{AgentFlags: agentFlags})
	x := atTerminal(t, c.Master.Addr, "run", "--grace", "100ms", "--", "sh", "-c", "echo up; sleep 1000")
	x.sees("up")
	c.Agents[0].Kill()
	x.types("\x03")
	x.sees("the framework is torn down")
	x.ends(130)
}

// TestFollowsAgentRestart wants no line to be lost or doubled when the agent starts again.
func TestFollowsAgentRestart(t *testing.T) {
	c := testcluster.Start(t, testcluster.Options{AgentFlags: agentFlags})
	x := atTerminal(t, c.Master.Addr, "run", "-q", "--", "sh", "-c",
		"for i in 1 2 3; do echo line $i; done; until [ -e go ]; do sleep 0.1; done; for i in 4 5 6; do echo line $i; done; exit 3")
	x.sees("line 3")
	c.Agents[0].Kill()
	if err := c.Agents[0].Start(); err != nil {
		t.Fatal(err)
	}
	if err := testcluster.Poll(func() error {
		ctx, cancel := context.WithTimeout(t.Context(), testcluster.Patience)
		defer cancel()
		err := command(ctx, t, c.Master.Addr, "exec", "sh", "touch", "go").Run()
		if strings.Contains(x.text(), "line 6") {
			return nil // the task may take the session along before that says how it ended
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	x.ends(3)
	want := "line 1\r\nline 2\r\nline 3\r\nline 4\r\nline 5\r\nline 6\r\n"
	if got := x.text(); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
