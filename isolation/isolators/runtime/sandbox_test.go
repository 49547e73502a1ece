package runtime_test

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	mesos "clusterd/api/mesos/v1"
	"clusterd/isolation"
	"clusterd/isolation/isolators/runtime"
	"clusterd/isolation/mounts"
)

// TestSandboxOfImagesUser: who the image runs as can use its sandbox, and a link that a
// task has put in the way of a nested one gives nothing else away.
func TestSandboxOfImagesUser(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can give files away")
	}
	image := &isolation.ImageConfig{Cmd: []string{"c"}, User: "u", Credentials: &isolation.Credentials{UID: 7, GID: 8}}
	owner := func(path string) (uid, gid uint32) {
		t.Helper()
		st, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		sys := st.Sys().(*syscall.Stat_t)
		return sys.Uid, sys.Gid
	}
	prepare := func(id *mesos.ContainerID, sandbox, user string) error {
		_, err := runtime.New(runtime.Options{}).Prepare(t.Context(), &isolation.ContainerConfig{
			ID: id, Command: command(false, ""), Image: image, Sandbox: sandbox, User: user,
		})
		return err
	}
	top, outside := t.TempDir(), t.TempDir()
	parent := &mesos.ContainerID{Value: new("p")}
	child := &mesos.ContainerID{Value: new("c"), Parent: parent}
	nested := filepath.Join(top, "containers", "c")
	if err := os.MkdirAll(nested, 0o750); err != nil {
		t.Fatal(err)
	}
	if err := prepare(parent, top, "somebody"); err != nil {
		t.Fatal(err)
	}
	if uid, gid := owner(top); uid != 0 || gid != 0 {
		t.Errorf("a framework named a user: the sandbox belongs to %d:%d", uid, gid)
	}
	for id, sandbox := range map[*mesos.ContainerID]string{parent: top, child: nested} {
		if err := prepare(id, sandbox, ""); err != nil {
			t.Fatal(err)
		}
		if uid, gid := owner(sandbox); uid != 7 || gid != 8 {
			t.Errorf("%s belongs to %d:%d, not to the image's user", sandbox, uid, gid)
		}
	}
	if err := os.Remove(nested); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(outside, nested); err != nil {
		t.Fatal(err)
	}
	if err := prepare(child, nested, ""); !errors.Is(err, mounts.ErrEscapes) {
		t.Errorf("a link leads out: got %v", err)
	}
	if uid, gid := owner(outside); uid != 0 || gid != 0 {
		t.Errorf("what the link leads to belongs to %d:%d now", uid, gid)
	}
}

// TestDebugRunsAsParent: who looks into a container has its user, and not root's rights,
// unless a user was named.
func TestDebugRunsAsParent(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can give files away")
	}
	image := &isolation.ImageConfig{Env: []string{"A=1"}, WorkingDir: "/w", User: "u", Credentials: &isolation.Credentials{UID: 7, GID: 8, Groups: []uint32{9}}}
	id := &mesos.ContainerID{Value: new("d"), Parent: &mesos.ContainerID{Value: new("p")}}
	for user, want := range map[string]*isolation.Credentials{"": image.Credentials, "root": nil} {
		sandbox := filepath.Join(t.TempDir(), "containers", "d")
		if err := os.MkdirAll(sandbox, 0o750); err != nil {
			t.Fatal(err)
		}
		p, err := runtime.New(runtime.Options{}).Prepare(t.Context(), &isolation.ContainerConfig{
			ID: id, Class: isolation.ClassDebug, Command: command(true, "id"), Image: image, Sandbox: sandbox, User: user,
		})
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(&isolation.Preparation{Credentials: want}, p); diff != "" {
			t.Errorf("user %q (-want +got):\n%s", user, diff)
		}
	}
	noUser := *image
	noUser.Credentials = nil
	if _, err := runtime.New(runtime.Options{}).Prepare(t.Context(), &isolation.ContainerConfig{
		ID: id, Class: isolation.ClassDebug, Command: command(true, "id"), Image: &noUser, Sandbox: t.TempDir(),
	}); !errors.Is(err, runtime.ErrNoUser) {
		t.Errorf("an image without its user: got %v, want %v", err, runtime.ErrNoUser)
	}
}
