package rawfork

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// TestKeepFiles: a child has the low descriptors only, and what it does with them is
// nothing to its parent, though they began as the same.
func TestKeepFiles(t *testing.T) {
	if !CanKeepFiles() {
		t.Skip("needs close_range(2)")
	}
	const high = 700
	var lim syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &lim); err != nil || lim.Cur <= high {
		t.Skipf("needs %d open files: %v", high, err)
	}
	f, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	// Not closed on exec: only KeepFiles keeps it from the child.
	if err := syscall.Dup3(int(f.Fd()), high, 0); err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(high)
	var s Script
	s.KeepFiles(int(f.Fd()) + 1)
	s.Do("hand over files", syscall.SYS_DUP3, f.Fd(), 1, 0)
	s.Do("close", syscall.SYS_CLOSE, 0)
	s.Signals()
	s.Exec("/bin/sh", []string{"sh", "-c", "test -e /proc/self/fd/" + strconv.Itoa(high) + " && echo high; test -e /proc/self/fd/0 && echo input; echo done"}, nil)
	stdin, err := os.Readlink("/proc/self/fd/0")
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := os.Readlink("/proc/self/fd/1")
	if err != nil {
		t.Fatal(err)
	}
	pid, err := s.Start(0, -1)
	if err != nil {
		t.Fatal(err)
	}
	if code := waitFor(t, pid); code != 0 {
		t.Errorf("exit code: got %d, want 0", code)
	}
	b, err := os.ReadFile(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Fields(string(b)); len(got) != 1 || got[0] != "done" {
		t.Errorf("the child sees: got %q, want nothing but done", got)
	}
	for fd, want := range map[string]string{"0": stdin, "1": stdout, strconv.Itoa(high): f.Name()} {
		if got, err := os.Readlink("/proc/self/fd/" + fd); err != nil || got != want {
			t.Errorf("descriptor %s of the parent: got %q, %v, want %q", fd, got, err, want)
		}
	}
	noChildren(t)
}
