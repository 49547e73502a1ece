package disk_test

import (
	"crypto/rand"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	mesos "clusterd/api/mesos/v1"
	"clusterd/isolation"
	"clusterd/isolation/isolationtest"
)

func TestMain(m *testing.M) {
	code := m.Run()
	isolationtest.RemovePrograms()
	if err := goleak.Find(); err != nil && code == 0 {
		_, _ = os.Stderr.WriteString(err.Error() + "\n")
		code = 1
	}
	os.Exit(code)
}

const mb = 1 << 20

func newID() *mesos.ContainerID {
	return &mesos.ContainerID{Value: new("c-" + strings.ToLower(rand.Text()[:12]))}
}

func nested(parent *mesos.ContainerID) *mesos.ContainerID {
	id := newID()
	id.Parent = parent
	return id
}

// eventually polls until done says yes.
func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if done() {
			return
		}
	}
	t.Fatalf("still not so: %s", what)
}

func mkdir(t *testing.T, path string) string {
	t.Helper()
	if err := os.MkdirAll(path, 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

func write(t *testing.T, path string, size int) {
	t.Helper()
	if err := os.WriteFile(path, make([]byte, size), 0o644); err != nil {
		t.Fatal(err)
	}
}

// volume makes a persistent volume and its directory.
func volume(t *testing.T, workDir, id string, megabytes float64) (*mesos.Resource, string) {
	t.Helper()
	r := isolationtest.Scalar("disk", megabytes)
	r.Role = new("role")
	r.Disk = &mesos.Resource_DiskInfo{
		Persistence: &mesos.Resource_DiskInfo_Persistence{Id: &id},
		Volume:      &mesos.Volume{ContainerPath: new("data"), Mode: mesos.Volume_RW.Enum()},
	}
	path, err := isolation.PersistentVolumePath(workDir, r)
	if err != nil {
		t.Fatal(err)
	}
	return r, mkdir(t, path)
}

// launch runs a shell command in a container under one isolator, and returns how it
// ended, after at most a minute.
func launch(t *testing.T, isolator isolation.Isolator, sandbox, script string, resources ...*mesos.Resource) isolation.Termination {
	t.Helper()
	launcher, err := isolation.NewPosixLauncher(t.TempDir(), isolationtest.Programs(t), zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	containerizer := isolation.NewMesos(launcher, []isolation.Isolator{isolator}, zerolog.Nop())
	defer containerizer.Close()
	if _, err := containerizer.Recover(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	config := &isolation.ContainerConfig{
		ID: newID(), Sandbox: sandbox, Command: &mesos.CommandInfo{Value: &script},
		Env: map[string]string{"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}, Resources: resources,
	}
	if err := containerizer.Launch(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	got, err := containerizer.Wait(t.Context(), config.ID)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func tempDir(t *testing.T, parent string) string {
	t.Helper()
	dir, err := os.MkdirTemp(parent, "clusterd-disk-") //nolint:usetesting // on another file system
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return filepath.Clean(dir)
}
