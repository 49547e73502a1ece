package cgroups

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	mesos "clusterd/api/mesos/v1"
)

// fake is a machine whose cgroups are plain directories.
type fake struct {
	dir     string
	mounts  strings.Builder
	mounted []string
	xattrs  map[string]string
	denied  bool // to write where cgroup2 is mounted
	system  system
}

func newFake(t *testing.T) *fake {
	f := &fake{dir: t.TempDir(), xattrs: make(map[string]string)}
	f.system = system{
		mountinfo: filepath.Join(f.dir, "mountinfo"), subsystems: filepath.Join(f.dir, "cgroups"), self: filepath.Join(f.dir, "self"),
		mount: func(source, target, fstype string, _ uintptr, data string) error {
			f.mounted = append(f.mounted, source+" "+strings.TrimPrefix(target, f.dir)+" "+fstype+" "+data)
			return nil
		},
		xattr: func(path, name string) (string, bool) {
			v, ok := f.xattrs[strings.TrimPrefix(path, f.dir)+" "+name]
			return v, ok
		},
		writable: func(string) bool { return !f.denied },
	}
	f.write(t, "cgroups", "#subsys_name\thierarchy\tnum_cgroups\tenabled\ncpu\t1\t1\t1\nnet_cls\t0\t1\t1\nrdma\t0\t1\t0\n")
	f.write(t, "self", "0::/\n")
	return f
}

func (f *fake) write(t *testing.T, path, text string) {
	t.Helper()
	path = filepath.Join(f.dir, path)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// mount makes a hierarchy; point is below the fake's folder.
func (f *fake) mount(t *testing.T, point, root, fstype, options string) {
	t.Helper()
	path := filepath.Join(f.dir, point)
	if err := os.MkdirAll(path, 0o755); err != nil {
		t.Fatal(err)
	}
	f.mounts.WriteString("36 35 0:30 " + root + " " + strings.ReplaceAll(path, " ", `\040`) + " rw,nosuid shared:9 - " + fstype + " none " + options + "\n")
	f.write(t, "mountinfo", "22 1 8:1 / / rw - ext4 /dev/sda1 rw\n"+f.mounts.String())
}

func (f *fake) open(t *testing.T) *Tree {
	t.Helper()
	tree, err := open(f.system, filepath.Join(f.dir, "cg"), "mesos")
	if err != nil {
		t.Fatal(err)
	}
	return tree
}

// where is the root directory of a subsystem, or the error.
func (f *fake) where(tree *Tree, subsystem string) string {
	if err := tree.Use(subsystem); err != nil {
		return err.Error()
	}
	dir, err := tree.Root(subsystem)
	if err != nil {
		return err.Error()
	}
	return strings.TrimPrefix(dir, f.dir)
}

func TestHierarchies(t *testing.T) {
	t.Run("v1", func(t *testing.T) {
		f := newFake(t)
		f.mount(t, "cg/cpu,cpuacct", "/", "cgroup", "rw,cpu,cpuacct")
		f.mount(t, "cg/memory", "/", "cgroup", "rw,memory")
		f.mount(t, "cg/systemd", "/", "cgroup", "rw,xattr,name=systemd")
		f.mount(t, "cg/with space", "/", "cgroup", "rw,freezer")
		f.mount(t, "elsewhere/pids", "/docker/abc", "cgroup", "rw,pids")
		f.write(t, "cg/memory/mesos/memory.use_hierarchy", "0\n")
		tree := f.open(t)
		for s, want := range map[string]string{
			"cpu": "/cg/cpu,cpuacct/mesos", "cpuacct": "/cg/cpu,cpuacct/mesos", "memory": "/cg/memory/mesos", "freezer": "/cg/with space/mesos",
			"pids": "/elsewhere/pids/mesos", "net_cls": "/cg/net_cls/mesos", "rdma": "cgroup subsystem is not available: rdma (cgroup v1)",
		} {
			if s == "net_cls" {
				if err := os.Mkdir(filepath.Join(f.dir, "cg/net_cls"), 0o755); err != nil {
					t.Fatal(err)
				}
			}
			if got := f.where(tree, s); got != want {
				t.Errorf("%s: got %s, want %s", s, got, want)
			}
		}
		if diff := cmp.Diff([]string{"net_cls /cg/net_cls cgroup net_cls"}, f.mounted); diff != "" {
			t.Errorf("mounted (-want +got):\n%s", diff)
		}
		if b, _ := os.ReadFile(filepath.Join(f.dir, "cg/memory/mesos/memory.use_hierarchy")); string(b) != "1" && string(b) != "1\n" {
			t.Errorf("memory.use_hierarchy: got %q", b)
		}
		if tree.Version("cpu") != 1 || tree.Version("rdma") != 0 {
			t.Error("version: got the wrong ones")
		}
		if got := tree.Available("cpu", "net_cls", "rdma", "hugetlb"); !slices.Equal(got, []string{"cpu", "net_cls"}) {
			t.Errorf("available: got %v", got)
		}
	})
	t.Run("v2", func(t *testing.T) {
		f := newFake(t)
		f.mount(t, "cg", "/", "cgroup2", "rw,nsdelegate")
		f.write(t, "cg/cgroup.controllers", "cpuset cpu io memory pids\n")
		f.write(t, "cg/cgroup.subtree_control", "memory\n")
		f.write(t, "cg/mesos/cgroup.subtree_control", "\n")
		f.write(t, "cg/mesos/cgroup.type", "domain\n")
		tree := f.open(t)
		for s, want := range map[string]string{
			"cpu": "/cg/mesos", "cpuacct": "/cg/mesos", "blkio": "/cg/mesos", "freezer": "/cg/mesos", "devices": "/cg/mesos",
			"hugetlb": "cgroup subsystem is not available: hugetlb (cgroup v2 at " + f.dir + "/cg)",
			// Nothing is mounted next to v2 alone.
			"net_cls": "cgroup subsystem is not available: net_cls (cgroup v2 at " + f.dir + "/cg)",
		} {
			if got := f.where(tree, s); got != want {
				t.Errorf("%s: got %s, want %s", s, got, want)
			}
		}
		if len(f.mounted) != 0 || tree.Version("blkio") != 2 {
			t.Errorf("mounted %v, version %d", f.mounted, tree.Version("blkio"))
		}
	})
	t.Run("hybrid", func(t *testing.T) {
		f := newFake(t)
		f.mount(t, "cg/memory", "/", "cgroup", "rw,memory")
		f.mount(t, "cg/freezer", "/", "cgroup", "rw,freezer")
		f.mount(t, "cg/unified", "/", "cgroup2", "rw")
		f.write(t, "cg/unified/cgroup.controllers", "hugetlb memory\n")
		f.write(t, "cg/unified/cgroup.subtree_control", "")
		f.write(t, "cg/unified/mesos/cgroup.subtree_control", "")
		tree := f.open(t)
		for s, want := range map[string]string{
			"memory": "/cg/memory/mesos", "freezer": "/cg/freezer/mesos", "hugetlb": "/cg/unified/mesos", "perf_event": "/cg/unified/mesos",
		} {
			if got := f.where(tree, s); got != want {
				t.Errorf("%s: got %s, want %s", s, got, want)
			}
		}
		for _, dir := range []string{"cg/unified", "cg/unified/mesos"} {
			if b, err := os.ReadFile(filepath.Join(f.dir, dir, "cgroup.subtree_control")); err != nil || string(b) != "+hugetlb" {
				t.Errorf("%s: got %q, %v", dir, b, err)
			}
		}
		if got := tree.ProcessDir(&mesos.ContainerID{Value: new("a")}); got != "" {
			t.Errorf("process directory: got %s", got)
		}
	})
	t.Run("threaded", func(t *testing.T) {
		f := newFake(t)
		f.mount(t, "cg", "/", "cgroup2", "rw")
		f.write(t, "cg/mesos/cgroup.type", "domain invalid\n")
		if got := f.where(f.open(t), Core); !strings.Contains(got, "threaded") {
			t.Errorf("got %s", got)
		}
	})
	t.Run("none", func(t *testing.T) {
		f := newFake(t)
		f.write(t, "mountinfo", "22 1 8:1 / / rw - ext4 /dev/sda1 rw\nnonsense\n- \n")
		if _, err := open(f.system, f.dir, "mesos"); !errors.Is(err, ErrUnavailable) {
			t.Errorf("got %v", err)
		}
		for _, root := range []string{"", "/", "..", "a/../.."} {
			if _, err := open(f.system, f.dir, root); err == nil {
				t.Errorf("root %q: got no error", root)
			}
		}
	})
}

func TestBase(t *testing.T) {
	for _, c := range []struct {
		name, root, own string
		xattrs          map[string]string
		want            string
	}{
		{"machine", "/", "/user.slice/session-1.scope", nil, "/cg"},
		{"delegated", "/", "/system.slice/agent.service", map[string]string{"/cg/system.slice/agent.service trusted.delegate": "1"}, "/cg"},
		{"denied", "/", "/system.slice/agent.service", map[string]string{"/cg/system.slice/agent.service trusted.delegate": "1"}, "/cg/system.slice/agent.service"},
		{"subgroup of a user's", "/", "/u/agent.service/x", map[string]string{"/cg/u/agent.service user.delegate": "1", "/cg/u user.delegate": "1"}, "/cg/u/agent.service"},
		{"subgroup", "/", "/a.service/main", map[string]string{"/cg/a.service trusted.delegate": "1"}, "/cg/a.service"},
		{"moved before", "/", "/a.service/mesos/agent/leaf", map[string]string{"/cg/a.service trusted.delegate": "1"}, "/cg/a.service"},
		{"not delegated", "/", "/a.service", map[string]string{"/cg/a.service trusted.delegate": "0"}, "/cg"},
		{"part of the hierarchy", "/docker/abc", "/docker/abc/x/y", map[string]string{"/cg/x trusted.delegate": "1"}, "/cg/x"},
		{"outside of the part", "/docker/abc", "/docker/abcd", nil, "/cg"},
		{"above the namespace", "/", "/../a.service", nil, "/cg"},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFake(t)
			f.xattrs, f.denied = c.xattrs, c.name == "denied"
			f.write(t, "self", "1:cpu:/other\n0::"+c.own+"\n")
			got, err := f.system.base(mount{point: filepath.Join(f.dir, "cg"), root: c.root, unified: true})
			if err != nil || strings.TrimPrefix(got, f.dir) != c.want {
				t.Errorf("got %s, %v, want %s", got, err, c.want)
			}
		})
	}
}

func TestContainersInFolders(t *testing.T) {
	f := newFake(t)
	f.mount(t, "cg/freezer", "/", "cgroup", "rw,freezer")
	f.mount(t, "cg/memory", "/", "cgroup", "rw,memory")
	for _, dir := range []string{
		"freezer/mesos/a", "freezer/mesos/a/mesos/b/mesos/c", "freezer/mesos/a/own/thing", "freezer/mesos/slave", "freezer/mesos/agent/leaf",
		"freezer/mesos/not.one", "memory/mesos/left-by-other-flags", "memory/mesos/a",
	} {
		if err := os.MkdirAll(filepath.Join(f.dir, "cg", dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	f.write(t, "cg/freezer/mesos/tasks", "")
	tree := f.open(t)
	if err := tree.Use(Core); err != nil {
		t.Fatal(err)
	}
	ids, err := tree.Containers()
	if err != nil {
		t.Fatal(err)
	}
	var keys []string
	for _, id := range ids {
		keys = append(keys, key(id))
	}
	if diff := cmp.Diff([]string{"a", "a.b", "a.b.c", "left-by-other-flags"}, keys); diff != "" {
		t.Errorf("containers (-want +got):\n%s", diff)
	}
}

func TestFiles(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "file")
	for text, want := range map[string]uint64{"7\n": 7, "max\n": ^uint64(0), "9223372036854771712": 9223372036854771712} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := ReadUint(path); err != nil || got != want {
			t.Errorf("%q: got %d, %v", text, got, err)
		}
	}
	if err := os.WriteFile(path, []byte("nonsense"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := ReadUint(path); err == nil {
		t.Errorf("nonsense: got %d", got)
	}
	if _, err := Read(filepath.Join(dir, "nonesuch")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("read: got %v", err)
	}
	if err := Write(filepath.Join(dir, "nonesuch"), "1"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("write makes files: got %v", err)
	}
	long := strings.Repeat("x", 10000)
	if err := os.WriteFile(path, []byte(long), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := Read(path); err != nil || string(got) != long {
		t.Errorf("read: got %d bytes, %v", len(got), err)
	}
	got := map[string]uint64{}
	Keyed([]byte("user 12\nsystem 3\nnonsense\nnegative -1\nempty \nlast 5"), func(k []byte, n uint64) { got[string(k)] = n })
	if diff := cmp.Diff(map[string]uint64{"user": 12, "system": 3, "last": 5}, got); diff != "" {
		t.Errorf("keyed (-want +got):\n%s", diff)
	}
}

func FuzzReadMounts(f *testing.F) {
	f.Add("36 35 0:30 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n")
	f.Add("36 35 0:30 / /a\\040b rw shared:1 - cgroup2 none rw\n")
	f.Fuzz(func(t *testing.T, text string) {
		path := filepath.Join(t.TempDir(), "mountinfo")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		mounts, err := readMounts(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range mounts {
			pick(mounts, m.point, func(mount) bool { return true })
		}
		ownIn([]byte(text), "cpu")
	})
}
