package supervisor

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestMain(m *testing.M) {
	if os.Getenv("TEST_SUPERVISOR") != "" {
		os.Exit(Main(os.Args))
	}
	os.Exit(m.Run())
}

func TestSpec(t *testing.T) {
	for _, want := range []*Spec{
		{},
		{
			RuntimeDir: "/r", Path: "/p", Argv: []string{"a", "", "c"}, Env: []string{"A=1"}, Dir: "/d", Stdout: "/o", Stderr: "/e",
			SwitchUser: true, UID: 65534, GID: 1, Groups: []uint32{1, 4294967295},
		},
	} {
		b := want.Encode()
		got, err := DecodeSpec(b[4:])
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("spec (-want +got):\n%s", diff)
		}
		for n := range b[4:] {
			if _, err := DecodeSpec(b[4 : 4+n]); !errors.Is(err, ErrMalformed) {
				t.Errorf("first %d bytes: got %v, want %v", n, err, ErrMalformed)
			}
		}
	}
}

func FuzzDecodeSpec(f *testing.F) {
	f.Add((&Spec{Argv: []string{"a"}, Groups: []uint32{1}}).Encode()[4:])
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := DecodeSpec(b)
		if err != nil {
			return
		}
		if _, err := DecodeSpec(s.Encode()[4:]); err != nil {
			t.Errorf("decode what was encoded: %v", err)
		}
	})
}

func TestLookPath(t *testing.T) {
	dir := t.TempDir()
	for name, mode := range map[string]os.FileMode{"program": 0o755, "plain": 0o644} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, mode); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		name string
		env  []string
		want string
		err  error
	}{
		{"/a/b", nil, "/a/b", nil},
		{"./x", nil, "./x", nil},
		{"program", []string{"PATH=/none:" + dir}, dir + "/program", nil},
		{"program", []string{"PATH=/none"}, "", fs.ErrNotExist},
		{"plain", []string{"PATH=" + dir + ":/none"}, "", fs.ErrPermission},
		{"sh", nil, "/bin/sh", nil},
		{"", nil, "", fs.ErrNotExist},
	} {
		got, err := LookPath(c.name, c.env)
		if got != c.want || !errors.Is(err, c.err) {
			t.Errorf("%q with %v: got %q, %v, want %q, %v", c.name, c.env, got, err, c.want, c.err)
		}
	}
}

// run starts a supervisor and hands it a specification.
func run(t testing.TB, spec *Spec) *exec.Cmd {
	t.Helper()
	pair, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	ours, theirs := os.NewFile(uintptr(pair[0]), "ours"), os.NewFile(uintptr(pair[1]), "theirs")
	defer ours.Close()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = []string{"TEST_SUPERVISOR=1"}
	cmd.ExtraFiles = []*os.File{theirs}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if cmd.ProcessState == nil {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		}
	})
	theirs.Close()
	if _, err := ours.Write(spec.Encode()); err != nil {
		t.Fatal(err)
	}
	reply := make([]byte, 100)
	n, err := ours.Read(reply)
	if err != nil || reply[0] != 'K' {
		t.Fatalf("reply: got %q, %v", reply[:n], err)
	}
	return cmd
}

func eventually(t testing.TB, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if done() {
			return
		}
	}
	t.Fatalf("still not so: %s", what)
}

// TestStatusOnFullDisk: the disk of the runtime directory fills up while the
// container runs.
func TestStatusOnFullDisk(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can mount a small file system")
	}
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=64k"); err != nil {
		t.Skipf("mount a small file system: %v", err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) })
	sandbox := t.TempDir()
	cmd := run(t, &Spec{
		RuntimeDir: dir, Path: "/bin/sh", Argv: []string{"sh", "-c", "while [ ! -e go ]; do sleep 0.02; done; exit 42"},
		Env: []string{"PATH=/bin:/usr/bin"}, Dir: sandbox, Stdout: sandbox + "/o", Stderr: sandbox + "/e",
	})
	f, err := os.Create(filepath.Join(dir, "full"))
	if err != nil {
		t.Fatal(err)
	}
	for err == nil {
		_, err = f.Write(make([]byte, 4096))
	}
	f.Close()
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("fill the disk: got %v", err)
	}
	if err := os.WriteFile(filepath.Join(sandbox, "go"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(dir, StatusFile))
	if err != nil || strings.TrimSpace(string(b)) != strconv.Itoa(42<<8) {
		t.Errorf("status: got %q, %v", b, err)
	}
}

// TestStatusIsRetried: while the status cannot be written the supervisor stays.
func TestStatusIsRetried(t *testing.T) {
	dir, sandbox := t.TempDir(), t.TempDir()
	// A directory of that name that is not empty cannot be replaced.
	blocked := filepath.Join(dir, StatusFile, "x")
	if err := os.MkdirAll(blocked, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := run(t, &Spec{
		RuntimeDir: dir, Path: "/bin/sh", Argv: []string{"sh", "-c", "exit 7"},
		Env: []string{"PATH=/bin:/usr/bin"}, Dir: sandbox, Stdout: sandbox + "/o", Stderr: sandbox + "/e",
	})
	eventually(t, "the command has ended and its status waits", func() bool {
		b, err := os.ReadFile(filepath.Join(dir, statusTemp))
		return err == nil && strings.TrimSpace(string(b)) == strconv.Itoa(7<<8)
	})
	if err := cmd.Process.Signal(syscall.Signal(0)); err != nil {
		t.Errorf("the supervisor went: %v", err)
	}
	if err := os.RemoveAll(filepath.Join(dir, StatusFile)); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(dir, StatusFile))
	if err != nil || strings.TrimSpace(string(b)) != strconv.Itoa(7<<8) {
		t.Errorf("status: got %q, %v", b, err)
	}
}

// TestAgentGone: nobody says what to run.
func TestAgentGone(t *testing.T) {
	for name, sent := range map[string][]byte{"nothing": nil, "half": (&Spec{Path: "/bin/true"}).Encode()[:9]} {
		pair, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		ours, theirs := os.NewFile(uintptr(pair[0]), "ours"), os.NewFile(uintptr(pair[1]), "theirs")
		cmd := exec.Command("/proc/self/exe")
		cmd.Env = []string{"TEST_SUPERVISOR=1"}
		cmd.ExtraFiles = []*os.File{theirs}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		theirs.Close()
		if _, err := ours.Write(sent); err != nil {
			t.Fatal(err)
		}
		ours.Close()
		_ = cmd.Wait()
		if code := cmd.ProcessState.ExitCode(); code != exitNotStarted {
			t.Errorf("%s: exit code: got %d, want %d", name, code, exitNotStarted)
		}
	}
}

// TestHangup: neither the supervisor nor its container minds a terminal that
// goes away.
func TestHangup(t *testing.T) {
	dir, sandbox := t.TempDir(), t.TempDir()
	cmd := run(t, &Spec{
		RuntimeDir: dir, Path: "/bin/sh", Argv: []string{"sh", "-c", "while [ ! -e go ]; do sleep 0.02; done; kill -HUP $$"},
		Env: []string{"PATH=/bin:/usr/bin"}, Dir: sandbox, Stdout: sandbox + "/o", Stderr: sandbox + "/e",
	})
	if err := cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(sandbox, "go"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(dir, StatusFile))
	if err != nil || strings.TrimSpace(string(b)) != fmt.Sprint(int(syscall.SIGHUP)) {
		t.Errorf("status: got %q, %v: the command must die of its own SIGHUP", b, err)
	}
}
