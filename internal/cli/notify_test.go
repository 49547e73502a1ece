package cli

import (
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"clusterd/internal/testcluster"
)

// watchdogUsec is what the tests' units would say: short, for the tests' sake.
const (
	watchdogUsec     = "400000"
	watchdogInterval = 400 * time.Millisecond
)

// notified starts a daemon as systemd would, and returns what it says.
func notified(t *testing.T, args ...string) (*exec.Cmd, *net.UnixConn) {
	t.Helper()
	bin, err := testcluster.Binary()
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "sd") //nolint:usetesting // t.TempDir is too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	path := filepath.Join(dir, "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	cmd := exec.CommandContext(t.Context(), bin, args...)
	cmd.Env = append(os.Environ(), "NOTIFY_SOCKET="+path, "WATCHDOG_USEC="+watchdogUsec)
	cmd.Stderr = t.Output()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return cmd, conn
}

// hear waits for a message that begins so.
func hear(t *testing.T, conn *net.UnixConn, prefix string) string {
	t.Helper()
	conn.SetReadDeadline(time.Now().Add(testcluster.Patience))
	buf := make([]byte, 4096)
	for {
		n, err := conn.Read(buf)
		if err != nil {
			t.Fatalf("waited in vain for %q: %v", prefix, err)
		}
		if s := string(buf[:n]); strings.HasPrefix(s, prefix) {
			return s
		}
	}
}

// TestMasterSpeaksToSystemd: ready, alive, silent while it is stopped, alive again,
// stopping.
func TestMasterSpeaksToSystemd(t *testing.T) {
	cmd, conn := notified(t, "master", "--ip=127.0.0.1", "--port=0", "--hostname=localhost", "--registry=in_memory", "--logging_level=WARNING")
	hear(t, conn, "READY=1\nSTATUS=")
	hear(t, conn, "WATCHDOG=1")
	hear(t, conn, "STATUS=leads cluster ")
	hear(t, conn, "WATCHDOG=1")

	if err := cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	// What was said before, then nothing for as long as systemd would wait.
	buf := make([]byte, 4096)
	for silent := false; !silent; {
		conn.SetReadDeadline(time.Now().Add(2 * watchdogInterval))
		_, err := conn.Read(buf)
		silent = errors.Is(err, os.ErrDeadlineExceeded)
		if err != nil && !silent {
			t.Fatal(err)
		}
	}
	if err := cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	hear(t, conn, "WATCHDOG=1")
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	hear(t, conn, "STOPPING=1")
	if err := cmd.Wait(); err != nil {
		t.Errorf("the master ended with %v", err)
	}
}

// TestAgentSpeaksToSystemd: the same, and its tasks do not hear of the socket.
func TestAgentSpeaksToSystemd(t *testing.T) {
	c := testcluster.Start(t, testcluster.Options{Agents: -1})
	cmd, conn := notified(t, "agent", "--master="+c.Master.Addr, "--ip=127.0.0.1", "--port=0", "--hostname=localhost",
		"--resources=cpus:2;mem:512;disk:512", "--work_dir="+t.TempDir(), "--runtime_dir="+t.TempDir(), "--logging_level=WARNING")
	hear(t, conn, "READY=1\nSTATUS=")
	hear(t, conn, "WATCHDOG=1")
	if got := hear(t, conn, "STATUS=registered with localhost:"); !strings.HasSuffix(got, "0 executors") {
		t.Errorf("status %q, want one without executors", got)
	}
	out, err := exec.CommandContext(t.Context(), mustBinary(t), "run", "-q", "--master="+c.Master.Addr, "--", "env").Output()
	if err != nil {
		t.Fatalf("run env: %v\n%s", err, out)
	}
	for _, name := range []string{"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"} {
		if strings.Contains(string(out), name) {
			t.Errorf("a task sees %s in\n%s", name, out)
		}
	}
	if !strings.Contains(string(out), "MESOS_SANDBOX") {
		t.Errorf("a task's environment is\n%s", out)
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	hear(t, conn, "STOPPING=1")
	if err := cmd.Wait(); err != nil {
		t.Errorf("the agent ended with %v", err)
	}
}

func mustBinary(t *testing.T) string {
	t.Helper()
	bin, err := testcluster.Binary()
	if err != nil {
		t.Fatal(err)
	}
	return bin
}
