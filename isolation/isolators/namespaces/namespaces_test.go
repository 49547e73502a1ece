package namespaces_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	mesos "clusterd/api/mesos/v1"
	"clusterd/isolation"
	"clusterd/isolation/isolationtest"
	"clusterd/isolation/isolators/namespaces"
	"clusterd/isolation/mounts"
)

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root can make namespaces")
	}
}

// runtimeDir is a directory with nothing mounted below it when the test has ended.
func runtimeDir(t *testing.T) string {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := mounts.UnmountBelow(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

func newIPC(t *testing.T, o namespaces.IPCOptions) *namespaces.IPC {
	t.Helper()
	needRoot(t)
	i, err := namespaces.NewIPC(o)
	if err != nil {
		t.Fatal(err)
	}
	return i
}

func newPID(t *testing.T, disallow bool) *namespaces.PID {
	t.Helper()
	needRoot(t)
	p, err := namespaces.NewPID(disallow)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// newUser skips where there are no user namespaces, and says so.
func newUser(t *testing.T, o namespaces.UserOptions) *namespaces.User {
	t.Helper()
	needRoot(t)
	u, err := namespaces.NewUser(o)
	if errors.Is(err, namespaces.ErrNoUserNamespace) && strings.Contains(err.Error(), "/proc/sys") {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func TestConformance(t *testing.T) {
	needRoot(t)
	for name, make := range map[string]isolationtest.NewIsolator{
		"namespaces/pid": func(t *testing.T, _ string) isolation.Isolator { return newPID(t, true) },
		"namespaces/ipc": func(t *testing.T, _ string) isolation.Isolator {
			return newIPC(t, namespaces.IPCOptions{RuntimeDir: runtimeDir(t)})
		},
		"namespaces/user": func(t *testing.T, _ string) isolation.Isolator {
			return newUser(t, namespaces.UserOptions{RuntimeDir: runtimeDir(t)})
		},
	} {
		t.Run(name, func(t *testing.T) { isolationtest.Isolator(t, name, make) })
	}
}

func id(values ...string) *mesos.ContainerID {
	var id *mesos.ContainerID
	for _, v := range values {
		id = &mesos.ContainerID{Value: new(v), Parent: id}
	}
	return id
}

func config(id *mesos.ContainerID, info *mesos.LinuxInfo) *isolation.ContainerConfig {
	return &isolation.ContainerConfig{ID: id, Sandbox: "/", ContainerInfo: &mesos.ContainerInfo{Type: mesos.ContainerInfo_MESOS.Enum(), LinuxInfo: info}}
}

func TestPID(t *testing.T) {
	shares := &mesos.LinuxInfo{SharePidNamespace: new(true)}
	proc := []isolation.Mount{{Source: "proc", Type: "proc", Target: "/proc", Flags: unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC}}
	for _, c := range []struct {
		name         string
		parent, info *mesos.LinuxInfo
		nested       bool
		class        isolation.Class
		rootfs       string
		want         isolation.Preparation
	}{
		{name: "own", want: isolation.Preparation{CloneFlags: unix.CLONE_NEWPID, Mounts: proc}},
		{name: "own with an image", rootfs: "/r", want: isolation.Preparation{CloneFlags: unix.CLONE_NEWPID}},
		{name: "machine's", info: shares, want: isolation.Preparation{}},
		{name: "nested own", nested: true, want: isolation.Preparation{CloneFlags: unix.CLONE_NEWPID, Mounts: proc}},
		{name: "nested shares", nested: true, info: shares, want: isolation.Preparation{EnterFlags: unix.CLONE_NEWPID, Mounts: proc}},
		{name: "nested shares the machine's", nested: true, parent: shares, info: shares, want: isolation.Preparation{EnterFlags: unix.CLONE_NEWPID}},
		{name: "nested own below the machine's", nested: true, parent: shares, want: isolation.Preparation{CloneFlags: unix.CLONE_NEWPID, Mounts: proc}},
		{name: "debug", nested: true, class: isolation.ClassDebug, want: isolation.Preparation{EnterFlags: unix.CLONE_NEWPID}},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := newPID(t, false)
			own := config(id("c"), c.info)
			if c.nested {
				if _, err := p.Prepare(t.Context(), config(id("c"), c.parent)); err != nil {
					t.Fatal(err)
				}
				own = config(id("c", "n"), c.info)
			}
			own.Class, own.RootFS = c.class, c.rootfs
			got, err := p.Prepare(t.Context(), own)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(&c.want, got); diff != "" {
				t.Errorf("preparation (-want +got):\n%s", diff)
			}
		})
	}
	if _, err := newPID(t, true).Prepare(t.Context(), config(id("c"), shares)); !errors.Is(err, namespaces.ErrSharing) {
		t.Errorf("disallowed: got %v", err)
	}
}

func TestIPC(t *testing.T) {
	mode := func(m mesos.LinuxInfo_IpcMode) *mesos.LinuxInfo { return &mesos.LinuxInfo{IpcMode: m.Enum()} }
	private, share := mode(mesos.LinuxInfo_PRIVATE), mode(mesos.LinuxInfo_SHARE_PARENT)
	const ipc = unix.CLONE_NEWIPC
	for _, c := range []struct {
		name         string
		parent, info *mesos.LinuxInfo
		parentRootfs string
		nested       bool
		class        isolation.Class
		rootfs       string
		clone, enter uintptr
		source       string // of /dev/shm
		want         string // an error
	}{
		{name: "not set", clone: ipc},
		{name: "not set, image", rootfs: "/r", clone: ipc, source: "tmpfs"},
		{name: "private", info: private, clone: ipc, source: "containers/c/shm"},
		{name: "private, image", info: private, rootfs: "/r", clone: ipc, source: "containers/c/shm"},
		{name: "machine's", info: share},
		{name: "machine's, image", info: share, rootfs: "/r", source: "/dev/shm"},

		{name: "nested not set", nested: true, parent: private, enter: ipc},
		{name: "nested not set, image", nested: true, parent: private, rootfs: "/r", enter: ipc, source: "tmpfs"},
		{name: "nested private", nested: true, info: private, clone: ipc, source: "containers/c/containers/n/shm"},
		{name: "nested shares private", nested: true, parent: private, info: share, enter: ipc, source: "containers/c/shm"},
		{name: "nested shares machine's", nested: true, parent: share, info: share, enter: ipc},
		{name: "nested shares machine's, image", nested: true, parent: share, info: share, rootfs: "/r", enter: ipc, source: "/dev/shm"},
		{name: "nested shares what is not set", nested: true, info: share, enter: ipc},
		{name: "nested shares what is not set, image", nested: true, parentRootfs: "/r", info: share, want: "mount namespace alone"},
		{name: "debug", nested: true, parent: private, class: isolation.ClassDebug, enter: ipc},
		{name: "debug of what is not set, image", nested: true, parentRootfs: "/r", class: isolation.ClassDebug, info: share, enter: ipc},
		{name: "debug private", nested: true, class: isolation.ClassDebug, info: private, want: "DEBUG"},
		{name: "size without private", info: &mesos.LinuxInfo{ShmSize: new(uint32(1))}, want: "PRIVATE"},
		{name: "unknown", info: mode(mesos.LinuxInfo_UNKNOWN), want: "unknown"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := runtimeDir(t)
			i := newIPC(t, namespaces.IPCOptions{RuntimeDir: dir})
			own := config(id("c"), c.info)
			if c.nested {
				parent := config(id("c"), c.parent)
				parent.RootFS = c.parentRootfs
				if _, err := i.Prepare(t.Context(), parent); err != nil {
					t.Fatal(err)
				}
				own = config(id("c", "n"), c.info)
			}
			own.Class, own.RootFS = c.class, c.rootfs
			got, err := i.Prepare(t.Context(), own)
			if c.want != "" {
				if err == nil || !strings.Contains(err.Error(), c.want) {
					t.Errorf("got %v, want %s", err, c.want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got.CloneFlags != c.clone || got.EnterFlags != c.enter {
				t.Errorf("flags: got clone %x and enter %x, want %x and %x", got.CloneFlags, got.EnterFlags, c.clone, c.enter)
			}
			source := ""
			for _, m := range got.Mounts {
				source = strings.TrimPrefix(m.Source, dir+"/isolators/namespaces/ipc/")
				if m.Target != "/dev/shm" {
					t.Errorf("mount: got %+v", m)
				}
			}
			if source != c.source {
				t.Errorf("source of /dev/shm: got %q, want %q", source, c.source)
			}
			for _, id := range []*mesos.ContainerID{own.ID, id("c"), own.ID} {
				if err := i.Cleanup(t.Context(), id); err != nil {
					t.Error(err)
				}
			}
			if points, err := mounts.Below(dir); err != nil || len(points) > 0 {
				t.Errorf("mounts after the end: got %v, %v", points, err)
			}
		})
	}
	i := newIPC(t, namespaces.IPCOptions{RuntimeDir: runtimeDir(t), DisallowSharing: true})
	if _, err := i.Prepare(t.Context(), config(id("c"), share)); !errors.Is(err, namespaces.ErrSharing) {
		t.Errorf("disallowed: got %v", err)
	}
}

func TestIPCMemory(t *testing.T) {
	dir := runtimeDir(t)
	o := namespaces.IPCOptions{RuntimeDir: dir, ShmSize: 1 << 20}
	i := newIPC(t, o)
	for name, want := range map[string]uint64{"own": 3 << 20, "flag": 1 << 20} {
		info := &mesos.LinuxInfo{IpcMode: mesos.LinuxInfo_PRIVATE.Enum()}
		if name == "own" {
			info.ShmSize = new(uint32(3))
		}
		p, err := i.Prepare(t.Context(), config(id(name), info))
		if err != nil {
			t.Fatal(err)
		}
		var st unix.Statfs_t
		if err := unix.Statfs(p.Mounts[0].Source, &st); err != nil || st.Blocks*uint64(st.Bsize) != want {
			t.Errorf("size of %s: got %d, %v, want %d", name, st.Blocks*uint64(st.Bsize), err, want)
		}
	}
	// Another agent keeps what lives, and unmounts what is nobody's.
	i = newIPC(t, o)
	info := &mesos.LinuxInfo{IpcMode: mesos.LinuxInfo_PRIVATE.Enum()}
	if err := i.Recover(t.Context(), []isolation.ContainerState{{Config: config(id("own"), info)}}, []*mesos.ContainerID{id("flag")}); err != nil {
		t.Fatal(err)
	}
	points, err := mounts.Below(dir)
	if err != nil || len(points) != 1 || !strings.HasSuffix(points[0], "/own/shm") {
		t.Errorf("mounts after a restart: got %v, %v", points, err)
	}
	if _, err := i.Prepare(t.Context(), config(id("own", "n"), &mesos.LinuxInfo{IpcMode: mesos.LinuxInfo_SHARE_PARENT.Enum()})); err != nil {
		t.Error(err)
	}
	for _, id := range []*mesos.ContainerID{id("own", "n"), id("own"), id("flag")} {
		if err := i.Cleanup(t.Context(), id); err != nil {
			t.Error(err)
		}
	}
	if points, err := mounts.Below(dir); err != nil || len(points) > 0 {
		t.Errorf("mounts after the end: got %v, %v", points, err)
	}
}

func TestUser(t *testing.T) {
	dir := runtimeDir(t)
	o := namespaces.UserOptions{RuntimeDir: dir, First: 1 << 20, Last: 1<<20 + 2*namespaces.BlockSize - 1}
	u := newUser(t, o)
	base := func(id *mesos.ContainerID) uint32 {
		t.Helper()
		path, base, err := u.Namespace(id)
		if err != nil {
			t.Fatal(err)
		}
		if st, err := os.Stat(path); base != 0 && (err != nil || st.Mode().IsDir()) {
			t.Errorf("namespace: got %v", err)
		}
		return base
	}
	prepare := func(id *mesos.ContainerID) error {
		_, err := u.Prepare(t.Context(), config(id, nil))
		return err
	}
	for _, id := range []*mesos.ContainerID{id("a"), id("a", "n"), id("b")} {
		if err := prepare(id); err != nil {
			t.Fatal(err)
		}
	}
	if a, n, b := base(id("a")), base(id("a", "n")), base(id("b")); a != 1<<20 || n != a || b != a+namespaces.BlockSize {
		t.Errorf("first ids: got %d, %d nested in it, %d", a, n, b)
	}
	if err := prepare(id("c")); !errors.Is(err, namespaces.ErrNoUserNamespace) || !strings.Contains(err.Error(), "--user_namespace_range") {
		t.Errorf("one too many: got %v", err)
	}

	// Another agent: b lives, a is an orphan, and c was never there.
	if err := os.WriteFile(filepath.Join(dir, "isolators/namespaces/user/7"), []byte("c"), 0o600); err != nil {
		t.Fatal(err)
	}
	u = newUser(t, o)
	if err := u.Recover(t.Context(), []isolation.ContainerState{{Config: config(id("b"), nil)}, {Config: config(id("old"), nil)}}, []*mesos.ContainerID{id("a")}); err != nil {
		t.Fatal(err)
	}
	if b, old := base(id("b")), base(id("old")); b != 1<<20+namespaces.BlockSize || old != 0 {
		t.Errorf("first ids after a restart: got %d, and %d of one without", b, old)
	}
	if err := prepare(id("d")); err == nil {
		t.Error("the ids of an orphan are free before it has gone")
	}
	if err := u.Cleanup(t.Context(), id("a")); err != nil {
		t.Fatal(err)
	}
	if err := prepare(id("d")); err != nil || base(id("d")) != 1<<20 {
		t.Errorf("a block that was given back: got %d, %v", base(id("d")), err)
	}
	for _, id := range []*mesos.ContainerID{id("b"), id("d"), id("old")} {
		if err := u.Cleanup(t.Context(), id); err != nil {
			t.Error(err)
		}
	}
	if left, err := os.ReadDir(filepath.Join(dir, "isolators/namespaces/user")); err != nil || len(left) > 0 {
		t.Errorf("files: got %v, %v", left, err)
	}
	if _, err := u.Prepare(t.Context(), config(id("e"), &mesos.LinuxInfo{SharePidNamespace: new(true)})); !errors.Is(err, namespaces.ErrNoUserNamespace) {
		t.Errorf("with the machine's processes: got %v", err)
	}
}

func TestUserRange(t *testing.T) {
	needRoot(t)
	for _, o := range []namespaces.UserOptions{{First: 0, Last: 1 << 20}, {First: 100000, Last: 100000 + namespaces.BlockSize - 2}, {First: 5, Last: 1}} {
		o.RuntimeDir = t.TempDir()
		if _, err := namespaces.NewUser(o); !errors.Is(err, namespaces.ErrNoUserNamespace) {
			t.Errorf("[%d-%d]: got %v", o.First, o.Last, err)
		}
	}
}

// Containers come and go; no file and no process stays.
func TestUserLeavesNothing(t *testing.T) {
	u := newUser(t, namespaces.UserOptions{RuntimeDir: runtimeDir(t)})
	open := func() int {
		entries, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(entries)
	}
	before := open()
	for n := range 50 {
		id := id(fmt.Sprintf("c%d", n))
		if _, err := u.Prepare(t.Context(), config(id, nil)); err != nil {
			t.Fatal(err)
		}
		if err := u.Cleanup(t.Context(), id); err != nil {
			t.Fatal(err)
		}
	}
	if after := open(); after > before {
		t.Errorf("open files: got %d, before %d", after, before)
	}
	children, err := os.ReadFile(fmt.Sprintf("/proc/self/task/%d/children", os.Getpid()))
	if err == nil && len(children) > 0 {
		t.Errorf("children: got %s", children)
	}
}
