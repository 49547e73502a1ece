package docker

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"clusterd/isolation"
	"clusterd/isolation/proctree"
)

// startHold starts a holder as a plain process, and returns its connection.
func startHold(t *testing.T) (*exec.Cmd, *net.UnixConn) {
	t.Helper()
	// The path may be longer than a socket's.
	dir := filepath.Join(t.TempDir(), strings.Repeat("long", 30))
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "s")
	listener, closeListener, err := listen(path)
	if err != nil {
		t.Fatal(err)
	}
	defer closeListener()
	if err := listener.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], HoldMode, path)
	cmd.Stderr = t.Output()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	conn, err := listener.AcceptUnix()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return cmd, conn
}

// shell is the birth of a shell, and what it reads from and writes to.
func shell(t *testing.T, script string) (b *isolation.Birth, in, out *os.File) {
	t.Helper()
	program, err := os.Open("/bin/sh")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = program.Close() })
	pipe := func() (r, w *os.File) {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { closeFiles([]*os.File{r, w}) })
		return r, w
	}
	theirIn, in := pipe()
	out, theirOut := pipe()
	return &isolation.Birth{
		Argv: []string{"sh", "-c", script}, Env: []string{"A=b"}, Program: program, Files: []*os.File{theirIn, theirOut, theirOut},
	}, in, out
}

// exitCode waits for the end of a holder.
func exitCode(t *testing.T, cmd *exec.Cmd) int {
	t.Helper()
	var exit *exec.ExitError
	if err := cmd.Wait(); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode()
}

// TestHoldBirth: a process is a child of the holder, with the files and the environment that
// the agent says, and the holder ends with it.
func TestHoldBirth(t *testing.T) {
	cmd, conn := startHold(t)
	b, in, out := shell(t, `echo "$A" $PPID; read line; exit 7`)
	pid, err := orderBirth(conn, b)
	if err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if want := fmt.Sprintf("b %d\n", cmd.Process.Pid); err != nil || line != want {
		t.Errorf("its environment and parent: got %q, %v, want %q", line, err, want)
	}
	if p, ok := proctree.Read(pid); !ok || p.Parent != cmd.Process.Pid || p.Session != pid {
		t.Errorf("process %d: got %+v, want a child of %d in a session of its own", pid, p, cmd.Process.Pid)
	}
	if _, err := in.WriteString("go on\n"); err != nil {
		t.Fatal(err)
	}
	if got := exitCode(t, cmd); got != 7 {
		t.Errorf("the holder's exit status: got %d, want the process's, 7", got)
	}
}

// TestHoldAgentGone: an agent that is killed while a container is launched leaves no holder,
// whatever it had come to.
func TestHoldAgentGone(t *testing.T) {
	t.Run("before the order", func(t *testing.T) {
		cmd, conn := startHold(t)
		var hello holdHello
		if _, err := receiveMessage(conn, &hello); err != nil {
			t.Fatal(err)
		}
		if err := conn.Close(); err != nil {
			t.Fatal(err)
		}
		if got := exitCode(t, cmd); got != exitFailed {
			t.Errorf("exit status: got %d, want %d", got, exitFailed)
		}
	})
	t.Run("after the order", func(t *testing.T) {
		cmd, conn := startHold(t)
		// As a supervisor that waits for what the agent tells it.
		b, in, _ := shell(t, "read line && exit 1; exit 5")
		if _, err := orderBirth(conn, b); err != nil {
			t.Fatal(err)
		}
		closeFiles([]*os.File{in, b.Files[0]})
		if err := conn.Close(); err != nil {
			t.Fatal(err)
		}
		if got := exitCode(t, cmd); got != 5 {
			t.Errorf("exit status: got %d, want 5: the process does not see the agent's end", got)
		}
	})
}

// TestHoldErrors: what cannot be started is said to the agent.
func TestHoldErrors(t *testing.T) {
	cmd, conn := startHold(t)
	b, _, _ := shell(t, "")
	text := filepath.Join(t.TempDir(), "text")
	if err := os.WriteFile(text, []byte("no program"), 0o600); err != nil {
		t.Fatal(err)
	}
	file, err := os.Open(text)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	b.Program = file
	if _, err := orderBirth(conn, b); err == nil || !strings.Contains(err.Error(), "permission denied") {
		t.Errorf("a file that is no program: got %v", err)
	}
	if got := exitCode(t, cmd); got != exitFailed {
		t.Errorf("exit status: got %d, want %d", got, exitFailed)
	}
	alone := exec.CommandContext(t.Context(), os.Args[0], HoldMode, filepath.Join(t.TempDir(), "none"))
	if out, err := alone.CombinedOutput(); alone.ProcessState.ExitCode() != exitFailed || !strings.Contains(string(out), "--runtime_dir") {
		t.Errorf("without an agent: got %v, %s", err, out)
	}
}

// TestHoldNamespace: a process id of another pid namespace would be another process's.
func TestHoldNamespace(t *testing.T) {
	listener, closeListener, err := listen(filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer closeListener()
	addr, _ := listener.Addr().(*net.UnixAddr)
	holder, err := net.DialUnix("unixpacket", nil, addr)
	if err != nil {
		t.Fatal(err)
	}
	defer holder.Close()
	conn, err := listener.AcceptUnix()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := sendMessage(holder, holdHello{Namespace: "pid:[1]"}); err != nil {
		t.Fatal(err)
	}
	b, _, _ := shell(t, "")
	if _, err := orderBirth(conn, b); !errors.Is(err, isolation.ErrNotSupported) {
		t.Errorf("got %v, want %v", err, isolation.ErrNotSupported)
	}
}

// TestHolderOrphan: a holder that an agent has left, which was killed when it had it
// started, is removed by the next at once, whatever the time that containers are kept.
func TestHolderOrphan(t *testing.T) {
	w := newWorld(t, func(o *Options) { o.RemoveDelay = time.Hour })
	w.files.c.options.MesosImage, w.files.c.options.Program = image, "/bin/echo"
	config := w.config("exit 0")
	h := w.files.holder(config)
	ended, err := h.run(t.Context(), "/no/socket")
	if err != nil {
		t.Fatal(err)
	}
	select {
	case <-ended.Result:
	case err := <-ended.Error:
		t.Fatal(err)
	}
	if got := w.engineContainers(); len(got) != 1 {
		t.Fatalf("containers: got %v, want the holder", got)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	w.open()
	eventually(t, "the holder is removed", func() bool { return len(w.engineContainers()) == 0 })
}

// TestHolderFails: a launch whose holder does not do what it should fails with what that
// has said, and leaves nothing.
func TestHolderFails(t *testing.T) {
	w := newWorld(t)
	w.files.c.options.MesosImage, w.files.c.options.Program = image, "/bin/cat"
	config := w.config("exit 0")
	err := w.Launch(t.Context(), config)
	if err == nil || !strings.Contains(err.Error(), "cat: can't open") || !strings.Contains(err.Error(), holderName(config.ID)) {
		t.Errorf("got %v", err)
	}
	eventually(t, "nothing is left", func() bool { return len(w.engineContainers()) == 0 })
}
