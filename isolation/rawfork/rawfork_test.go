package rawfork

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
)

const (
	sysUnshare  = syscall.SYS_UNSHARE
	cloneNewUTS = syscall.CLONE_NEWUTS
	cloneNewPID = syscall.CLONE_NEWPID
)

// waitFor waits for a child and returns its exit code.
func waitFor(t *testing.T, pid int) int {
	t.Helper()
	var ws syscall.WaitStatus
	for {
		got, err := syscall.Wait4(pid, &ws, 0, nil)
		if errors.Is(err, syscall.EINTR) {
			continue
		}
		if err != nil || got != pid || !ws.Exited() {
			t.Fatalf("wait for %d: got %d, %v, %v", pid, got, ws, err)
		}
		return ws.ExitStatus()
	}
}

func noChildren(t *testing.T) {
	t.Helper()
	if pid, err := syscall.Wait4(-1, nil, syscall.WNOHANG, nil); !errors.Is(err, syscall.ECHILD) {
		t.Errorf("children: got %d, %v, want none", pid, err)
	}
}

func TestStart(t *testing.T) {
	out := filepath.Join(t.TempDir(), "out")
	f, err := os.Create(out)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var s Script
	s.Do("set session", syscall.SYS_SETSID)
	s.Do("set output", syscall.SYS_DUP3, f.Fd(), 1, 0)
	s.Do("change directory", syscall.SYS_CHDIR, s.String("/proc"))
	s.Want("find the parent", uintptr(os.Getpid()), syscall.SYS_GETPPID)
	s.Signals()
	s.Exec("/bin/sh", []string{"sh", "-c", "pwd; echo $A; exit 7"}, []string{"A=b c"})
	pid, err := s.Start(0, -1)
	if err != nil {
		t.Fatal(err)
	}
	if code := waitFor(t, pid); code != 7 {
		t.Errorf("exit code: got %d, want 7", code)
	}
	if b, err := os.ReadFile(out); err != nil || string(b) != "/proc\nb c\n" {
		t.Errorf("output: got %q, %v", b, err)
	}
}

func TestErrors(t *testing.T) {
	for name, c := range map[string]struct {
		change func(s *Script)
		want   syscall.Errno
		what   string
	}{
		"call":  {func(s *Script) { s.Do("change directory", syscall.SYS_CHDIR, s.String("/no/such")) }, syscall.ENOENT, "change directory"},
		"want":  {func(s *Script) { s.Want("find the parent", 1, syscall.SYS_GETPID) }, syscall.ESRCH, "find the parent"},
		"exec":  {func(s *Script) { s.Exec("/no/such", []string{"x"}, nil) }, syscall.ENOENT, "execute /no/such"},
		"fork":  {func(s *Script) { s.Fork("fork again", syscall.CLONE_THREAD, -1) }, syscall.EINVAL, "fork again"},
		"later": {func(s *Script) { s.Fork("fork again", 0, -1); s.Exec("/", []string{"x"}, nil) }, syscall.EACCES, "execute /"},
	} {
		var s Script
		c.change(&s)
		s.Exec("/bin/true", []string{"true"}, nil)
		_, err := s.Start(0, -1)
		var failed *Error
		if !errors.As(err, &failed) || failed.What != c.what || !errors.Is(err, c.want) {
			t.Errorf("%s: got %v, want %s: %v", name, err, c.what, c.want)
		}
		noChildren(t)
	}
	var s Script
	s.Exec("/bin/true", []string{"true"}, nil)
	if _, err := s.Start(syscall.CLONE_THREAD, -1); !errors.Is(err, syscall.EINVAL) {
		t.Errorf("bad flags: got %v", err)
	}
	s = Script{}
	s.Try(syscall.SYS_CHDIR, s.String("/no/such"))
	s.Exec("/bin/true", []string{"true"}, nil)
	pid, err := s.Start(0, -1)
	if err != nil {
		t.Fatal(err)
	}
	waitFor(t, pid)
}

// TestSecondFork is how a process gets into a pid namespace of the first's making and
// stays a child of ours.
func TestSecondFork(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root makes namespaces")
	}
	out := filepath.Join(t.TempDir(), "out")
	f, err := os.Create(out)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var s Script
	s.Do("unshare", sysUnshare, cloneNewPID)
	s.Fork("fork again", cloneNewUTS, -1)
	s.Do("set output", syscall.SYS_DUP3, f.Fd(), 1, 0)
	s.Signals()
	s.Exec("/bin/sh", []string{"sh", "-c", "echo $$"}, nil)
	pid, err := s.Start(0, -1)
	if err != nil {
		t.Fatal(err)
	}
	if code := waitFor(t, pid); code != 0 {
		t.Errorf("exit code: got %d", code)
	}
	noChildren(t)
	if b, err := os.ReadFile(out); err != nil || string(b) != "1\n" {
		t.Errorf("process id inside: got %q, %v", b, err)
	}
}

// TestMany starts from several goroutines while others allocate.
func TestMany(t *testing.T) {
	stop := make(chan struct{})
	var busy, starters sync.WaitGroup
	busy.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				_ = strings.Repeat("x", 100000)
			}
		}
	})
	for range 4 {
		starters.Go(func() {
			for range 50 {
				var s Script
				s.Fork("fork again", 0, -1)
				s.Signals()
				s.Exec("/bin/true", []string{"true"}, nil)
				pid, err := s.Start(0, -1)
				if err != nil {
					t.Error(err)
					return
				}
				if code := waitFor(t, pid); code != 0 {
					t.Errorf("exit code: got %d", code)
				}
			}
		})
	}
	starters.Wait()
	close(stop)
	busy.Wait()
}

func BenchmarkStart(b *testing.B) {
	b.Run("script", func(b *testing.B) {
		for range b.N {
			var s Script
			s.Signals()
			s.Exec("/bin/true", []string{"true"}, nil)
			pid, err := s.Start(0, -1)
			if err != nil {
				b.Fatal(err)
			}
			wait(pid)
		}
	})
	b.Run("ForkExec", func(b *testing.B) {
		for range b.N {
			pid, err := syscall.ForkExec("/bin/true", []string{"true"}, &syscall.ProcAttr{})
			if err != nil {
				b.Fatal(err)
			}
			wait(pid)
		}
	})
}
