// Package isolationtest holds the conformance suites of isolation's
// interfaces: what every Containerizer, Launcher and Isolator must do, tried on
// real processes. Tests of implementations import it, nothing else does.
package isolationtest

import (
	"context"
	"crypto/rand"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	mesos "clusterd/api/mesos/v1"
)

// patience is how long anything may take before a test gives up on it. Nothing
// here is expected to come near it; an emulated machine (internal/vmtest) is slow.
var patience = func() time.Duration {
	if os.Getenv("CLUSTERD_VM") != "" {
		return 3 * time.Minute
	}
	return 30 * time.Second
}()

func newID() *mesos.ContainerID {
	v := "c-" + strings.ToLower(rand.Text()[:12])
	return &mesos.ContainerID{Value: &v}
}

func testContext(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

// eventually polls until done says yes.
func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if done() {
			return
		}
	}
	t.Fatalf("still not so: %s", what)
}

// readFile waits until a file has a whole line, and returns it.
func readFile(t *testing.T, path string) string {
	t.Helper()
	var text string
	eventually(t, "a line in "+path, func() bool {
		b, err := os.ReadFile(path)
		text = string(b)
		return err == nil && strings.HasSuffix(text, "\n")
	})
	return strings.TrimSpace(text)
}

func readPID(t *testing.T, path string) int {
	t.Helper()
	pid, err := strconv.Atoi(readFile(t, path))
	if err != nil {
		t.Fatalf("process id in %s: %v", path, err)
	}
	return pid
}

// alive says whether a process runs; a zombie does not.
func alive(pid int) bool {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return false
	}
	_, rest, ok := strings.Cut(string(b), ") ")
	return ok && rest[0] != 'Z' && rest[0] != 'X'
}

func sandbox(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "sandbox")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	// Whatever a failed test leaves behind in the sandbox must end.
	t.Cleanup(func() {
		entries, err := filepath.Glob(filepath.Join(dir, "*.pid"))
		if err != nil {
			return
		}
		for _, e := range entries {
			b, err := os.ReadFile(e)
			if pid, convErr := strconv.Atoi(strings.TrimSpace(string(b))); err == nil && convErr == nil && alive(pid) {
				t.Errorf("process %d (%s) survived the test", pid, filepath.Base(e))
				_ = syscall.Kill(pid, syscall.SIGKILL)
			}
		}
	})
	return dir
}

// release lets a command go on that waits for the file "go" (see waitForGo).
func release(t *testing.T, dir string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, "go"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
}

// waitForGo is shell code that waits for release.
const waitForGo = "while [ ! -e go ]; do sleep 0.02; done; "

// daemon is shell code that leaves a process which is in another session and
// has lost its parent, as a daemon does; its process id is in daemon.pid.
const daemon = `sh -c 'setsid sh -c "echo \$\$ >daemon.tmp; mv daemon.tmp daemon.pid; exec sleep 1000" >/dev/null 2>&1 & exit 0'; while [ ! -e daemon.pid ]; do sleep 0.01; done; `
