package isolation_test

import (
	"context"
	"errors"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"

	mesos "clusterd/api/mesos/v1"
	"clusterd/isolation"
	"clusterd/isolation/isolationtest"
	"clusterd/isolation/setup"
)

func TestAttachments(t *testing.T) {
	programs := isolationtest.Programs(t)
	isolationtest.Attachments(t, func(t *testing.T, workDir, runtimeDir string) isolation.Containerizer {
		return newMesos(t, programs, workDir, runtimeDir)
	})
}

// isolated makes containers with file systems and processes of their own.
func isolated(t *testing.T, programs *isolation.Programs, workDir, runtimeDir, cgroupsRoot string) isolation.Containerizer {
	t.Helper()
	c, err := setup.New(setup.Options{
		WorkDir: workDir, RuntimeDir: runtimeDir, Launcher: "linux", Isolation: "filesystem/linux,namespaces/pid",
		Tree: newTree(t, cgroupsRoot),
	}, programs, zerolog.New(zerolog.NewTestWriter(t)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { // filesystem/linux makes a mount of it
		for unix.Unmount(workDir, unix.MNT_DETACH) == nil {
		}
	})
	return c
}

func TestAttachmentsWithNamespaces(t *testing.T) {
	programs := isolationtest.Programs(t)
	roots := make(map[string]string)
	isolationtest.Attachments(t, func(t *testing.T, workDir, runtimeDir string) isolation.Containerizer {
		if roots[runtimeDir] == "" {
			roots[runtimeDir] = treeRoot(t)
		}
		return isolated(t, programs, workDir, runtimeDir, roots[runtimeDir])
	})
}

// readAll reads an attachment to its end.
func readAll(t *testing.T, a isolation.Attachment) string {
	t.Helper()
	var b strings.Builder
	for {
		_, p, err := a.Read()
		b.Write(p)
		if errors.Is(err, io.EOF) {
			return b.String()
		}
		if err != nil {
			t.Fatalf("after %q: %v", b.String(), err)
		}
	}
}

// TestDebugTerminal: a shell that looks into a container has a terminal there, and what
// the container has put in the place of its own devices is not opened.
func TestDebugTerminal(t *testing.T) {
	programs := isolationtest.Programs(t)
	for name, prepare := range map[string]string{
		"its own":  "mount -t devpts -o newinstance,ptmxmode=0666 devpts /dev/pts && stat -c %i:%d /dev/pts >devpts",
		"a trap":   "mount -t tmpfs tmpfs /dev/pts && mknod /dev/pts/ptmx c 1 9 && touch trap",
		"a link":   "mount -t tmpfs tmpfs /dev/pts && ln -s /proc/1/root/dev/null /dev/pts/ptmx && touch link",
		"nothing":  "mount -t tmpfs tmpfs /dev/pts && touch none",
		"its link": "mount -t devpts -o newinstance devpts /dev/pts && mkdir /dev/pts/x; touch plain",
	} {
		t.Run(name, func(t *testing.T) {
			root := treeRoot(t)
			m := isolated(t, programs, t.TempDir(), t.TempDir(), root)
			t.Cleanup(func() { _ = m.Close() })
			if _, err := m.Recover(t.Context(), nil); err != nil {
				t.Fatal(err)
			}
			parent := script(t, prepare+"; touch ready; while [ ! -e end ]; do sleep 0.02; done")
			parent.Env = map[string]string{"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
			if err := m.Launch(t.Context(), parent); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if err := m.Destroy(context.Background(), parent.ID); err != nil {
					t.Error(err)
				}
				if err := m.Remove(context.Background(), parent.ID); err != nil {
					t.Error(err)
				}
			})
			until(t, "the container is ready", func() bool { _, err := os.Stat(parent.Sandbox + "/ready"); return err == nil })
			debug := script(t, "read x; echo $x; tty; exit 3")
			debug.ID = &mesos.ContainerID{Value: new("debug"), Parent: parent.ID}
			debug.Class = isolation.ClassDebug
			debug.ContainerInfo = &mesos.ContainerInfo{Type: mesos.ContainerInfo_MESOS.Enum(), TtyInfo: &mesos.TTYInfo{}}
			if err := m.Launch(t.Context(), debug); err != nil {
				t.Fatal(err)
			}
			a, err := m.Attach(t.Context(), debug.ID)
			if err != nil {
				t.Fatal(err)
			}
			defer a.Close()
			if _, err := a.Write([]byte("hello\n")); err != nil {
				t.Fatal(err)
			}
			got := readAll(t, a)
			if !strings.Contains(got, "hello\r\nhello\r\n") {
				t.Errorf("got %q", got)
			}
			if own := strings.HasPrefix(name, "its"); own && !strings.Contains(got, "/dev/pts/0") {
				t.Errorf("terminal: got %q, want /dev/pts/0 of the container", got)
			}
			if w, err := m.Wait(t.Context(), debug.ID); err != nil || w.Status != 3<<8 && w.Status != 0 {
				t.Errorf("termination: got %+v, %v", w, err)
			}
		})
	}
}

func until(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !done(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("still not so: %s", what)
		}
	}
}

// TestAttachLinkedSandbox: a container that puts a link in the place of the sandbox of
// one nested in it shows nobody what is there.
func TestAttachLinkedSandbox(t *testing.T) {
	outside := t.TempDir()
	if err := os.WriteFile(outside+"/stdout", []byte("secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	m := newMesos(t, isolationtest.Programs(t), t.TempDir(), t.TempDir())
	t.Cleanup(func() { _ = m.Close() })
	if _, err := m.Recover(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	parent := script(t, "while [ ! -e end ]; do sleep 0.02; done")
	if err := m.Launch(t.Context(), parent); err != nil {
		t.Fatal(err)
	}
	nested := script(t, "while [ ! -e "+parent.Sandbox+"/go ]; do sleep 0.02; done; seq 100000")
	nested.ID = &mesos.ContainerID{Value: new("n1"), Parent: parent.ID}
	nested.Sandbox = parent.Sandbox + "/containers/n1"
	nested.StdoutRotation = isolation.Rotation{MaxSize: 64 << 10, MaxFiles: 20}
	if err := os.MkdirAll(nested.Sandbox, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := m.Launch(t.Context(), nested); err != nil {
		t.Fatal(err)
	}
	before, err := m.Attach(t.Context(), nested.ID)
	if err != nil {
		t.Fatal(err)
	}
	defer before.Close()
	if err := errors.Join(os.Rename(nested.Sandbox, nested.Sandbox+".away"), os.Symlink(outside, nested.Sandbox)); err != nil {
		t.Fatal(err)
	}
	after, err := m.Attach(t.Context(), nested.ID)
	if err != nil {
		t.Fatal(err)
	}
	defer after.Close()
	for _, name := range []string{"/go", "/end"} {
		if err := os.WriteFile(parent.Sandbox+name, nil, 0o644); err != nil {
			t.Fatal(err)
		}
		for _, a := range []isolation.Attachment{before, after} {
			if got := readAll(t, a); strings.Contains(got, "secret") {
				t.Errorf("got %q", got)
			}
		}
	}
	if _, err := m.Wait(t.Context(), parent.ID); err != nil {
		t.Error(err)
	}
	if b, err := os.ReadFile(outside + "/stdout"); err != nil || string(b) != "secret\n" {
		t.Errorf("outside: got %q, %v", b, err)
	}
	if _, err := os.Stat(outside + "/stdout.1"); err == nil {
		t.Error("the log is rotated outside")
	}
}
