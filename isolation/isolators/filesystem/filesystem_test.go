package filesystem_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	mesos "clusterd/api/mesos/v1"
	"clusterd/isolation"
	"clusterd/isolation/isolationtest"
	"clusterd/isolation/isolators/filesystem"
	"clusterd/isolation/isolators/secret"
	"clusterd/isolation/mounts"
)

func TestMain(m *testing.M) {
	code := m.Run()
	isolationtest.RemovePrograms()
	os.Exit(code)
}

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root can mount")
	}
}

// unmounted unmounts what a test leaves below a directory.
func unmounted(t *testing.T, dir string) string {
	t.Helper()
	dir, err := filepath.EvalSymlinks(dir)
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

func newLinux(t *testing.T, o filesystem.Options) *filesystem.Linux {
	t.Helper()
	needRoot(t)
	o.WorkDir = unmounted(t, o.WorkDir)
	l, err := filesystem.NewLinux(o)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestConformance(t *testing.T) {
	needRoot(t)
	for name, make := range map[string]isolationtest.NewIsolator{
		"filesystem/linux": func(t *testing.T, dir string) isolation.Isolator {
			return newLinux(t, filesystem.Options{WorkDir: dir})
		},
		"filesystem/shared": func(t *testing.T, _ string) isolation.Isolator {
			s, err := filesystem.NewShared()
			if err != nil {
				t.Fatal(err)
			}
			return s
		},
		"volume/host_path": func(*testing.T, string) isolation.Isolator {
			return filesystem.NewHostPath(filesystem.Options{})
		},
		"volume/sandbox_path": func(*testing.T, string) isolation.Isolator {
			return filesystem.NewSandboxPath(filesystem.Options{}, true)
		},
		"volume/image": func(*testing.T, string) isolation.Isolator {
			return filesystem.NewImage(filesystem.Options{})
		},
		"volume/secret": func(*testing.T, string) isolation.Isolator {
			return filesystem.NewSecret(filesystem.Options{})
		},
		"environment_secret": func(*testing.T, string) isolation.Isolator { return secret.NewEnvironment() },
	} {
		t.Run(name, func(t *testing.T) { isolationtest.Isolator(t, name, make) })
	}
}

// place is a container's id, with its sandbox in a work directory.
func place(t *testing.T, workDir string, values ...string) *isolation.ContainerConfig {
	t.Helper()
	dir := filepath.Join(workDir, "slaves", "A", "frameworks", "F", "executors", "E", "runs", values[0])
	id := &mesos.ContainerID{Value: new(values[0])}
	for _, v := range values[1:] {
		id, dir = &mesos.ContainerID{Value: new(v), Parent: id}, filepath.Join(dir, "containers", v)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return &isolation.ContainerConfig{
		ID: id, Sandbox: dir, FrameworkID: &mesos.FrameworkID{Value: new("F")},
		ContainerInfo: &mesos.ContainerInfo{Type: mesos.ContainerInfo_MESOS.Enum()},
	}
}

func hostVolume(mode mesos.Volume_Mode, source, target string) *mesos.Volume {
	return &mesos.Volume{Mode: mode.Enum(), ContainerPath: &target, HostPath: &source}
}

func sandboxVolume(kind mesos.Volume_Source_SandboxPath_Type, source, target string) *mesos.Volume {
	return &mesos.Volume{Mode: mesos.Volume_RW.Enum(), ContainerPath: &target, Source: &mesos.Volume_Source{
		Type:        mesos.Volume_Source_SANDBOX_PATH.Enum(),
		SandboxPath: &mesos.Volume_Source_SandboxPath{Type: kind.Enum(), Path: &source},
	}}
}

func secretVolume(text, target string) *mesos.Volume {
	return &mesos.Volume{Mode: mesos.Volume_RO.Enum(), ContainerPath: &target, Source: &mesos.Volume_Source{
		Type:   mesos.Volume_Source_SECRET.Enum(),
		Secret: &mesos.Secret{Type: mesos.Secret_VALUE.Enum(), Value: &mesos.Secret_Value{Data: []byte(text)}},
	}}
}

func mkdir(t *testing.T, path string) string {
	t.Helper()
	if err := os.MkdirAll(path, 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

func write(t *testing.T, path, text string) string {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func symlink(t *testing.T, to, path string) {
	t.Helper()
	if err := os.Symlink(to, path); err != nil {
		t.Fatal(err)
	}
}

func TestHostPath(t *testing.T) {
	dir := t.TempDir()
	source, file := mkdir(t, dir+"/source"), write(t, dir+"/file", "")
	allowed := mkdir(t, dir+"/allowed")
	outside := mkdir(t, dir+"/outside")
	symlink(t, outside, allowed+"/out")
	h := filesystem.NewHostPath(filesystem.Options{ForceCreation: []string{allowed}})
	bind := uint64(unix.MS_BIND | unix.MS_REC)
	for _, c := range []struct {
		name   string
		rootfs string
		user   string
		volume *mesos.Volume
		want   string // an error, or
		mount  isolation.Mount
		nnp    bool
	}{
		{name: "image", rootfs: "/r", volume: hostVolume(mesos.Volume_RW, source, "/a/../../b"), mount: isolation.Mount{Target: "/b", Source: source, Flags: bind, Make: 1}},
		{name: "file", rootfs: "/r", volume: hostVolume(mesos.Volume_RO, file, "/b"), mount: isolation.Mount{Target: "/b", Source: file, Flags: bind | unix.MS_RDONLY, Make: 2}},
		{name: "sandbox", volume: hostVolume(mesos.Volume_RW, source, "v/w"), mount: isolation.Mount{Target: "SANDBOX/v/w", TargetIn: "SANDBOX", Source: source, Flags: bind}},
		{name: "sandbox and image", rootfs: "/r", volume: hostVolume(mesos.Volume_RW, source, "v"), mount: isolation.Mount{Target: "/mnt/mesos/sandbox/v", TargetIn: "/mnt/mesos/sandbox", Source: source, Flags: bind}},
		{name: "machine's files", volume: hostVolume(mesos.Volume_RW, source, outside), mount: isolation.Mount{Target: outside, Source: source, Flags: bind}},
		{name: "machine's files and user", user: "nobody", volume: hostVolume(mesos.Volume_RW, source, outside), mount: isolation.Mount{Target: outside, Source: source, Flags: bind}, nnp: true},
		{name: "made", rootfs: "/r", volume: hostVolume(mesos.Volume_RW, allowed+"/x/y", "/b"), mount: isolation.Mount{Target: "/b", Source: allowed + "/x/y", Flags: bind, Make: 1}},

		{name: "missing", rootfs: "/r", volume: hostVolume(mesos.Volume_RW, dir+"/missing", "/b"), want: "does not exist"},
		{name: "made by a link", rootfs: "/r", volume: hostVolume(mesos.Volume_RW, allowed+"/out/x", "/b"), want: "leads out"},
		{name: "made outside", rootfs: "/r", volume: hostVolume(mesos.Volume_RW, allowed+"/../x", "/b"), want: "does not exist"},
		{name: "made beside", rootfs: "/r", volume: hostVolume(mesos.Volume_RW, allowed+"x", "/b"), want: "does not exist"},
		{name: "missing target", volume: hostVolume(mesos.Volume_RW, source, dir+"/nothing"), want: "must exist"},
		{name: "up", volume: hostVolume(mesos.Volume_RW, source, "../v"), want: "leads out"},
		{name: "by a link", volume: hostVolume(mesos.Volume_RW, source, "link/v"), want: "leads out"},
		{name: "root", rootfs: "/r", volume: hostVolume(mesos.Volume_RW, source, "/x/.."), want: "root directory"},
		{name: "no path", rootfs: "/r", volume: hostVolume(mesos.Volume_RW, source, ""), want: "container_path is empty"},
		{name: "two sources", volume: func() *mesos.Volume {
			v := sandboxVolume(mesos.Volume_Source_SandboxPath_SELF, "a", "/b")
			v.HostPath = &source
			return v
		}(), want: "one of host_path, image and source"},
		{name: "relative", rootfs: "/r", volume: &mesos.Volume{Mode: mesos.Volume_RW.Enum(), ContainerPath: new("/b"), Source: &mesos.Volume_Source{
			Type: mesos.Volume_Source_HOST_PATH.Enum(), HostPath: &mesos.Volume_Source_HostPath{Path: new("a")},
		}}, want: "not absolute"},
		{name: "not shared", rootfs: "/r", volume: &mesos.Volume{Mode: mesos.Volume_RW.Enum(), ContainerPath: new("/b"), Source: &mesos.Volume_Source{
			Type: mesos.Volume_Source_HOST_PATH.Enum(), HostPath: &mesos.Volume_Source_HostPath{Path: new("/proc/sys"), MountPropagation: &mesos.MountPropagation{Mode: mesos.MountPropagation_BIDIRECTIONAL.Enum()}},
		}}, want: "not below a shared mount"},
	} {
		t.Run(c.name, func(t *testing.T) {
			config := place(t, t.TempDir(), "c")
			config.RootFS, config.User = c.rootfs, c.user
			config.ContainerInfo.Volumes = []*mesos.Volume{c.volume}
			symlink(t, outside, config.Sandbox+"/link")
			p, err := h.Prepare(t.Context(), config)
			if c.want != "" {
				if err == nil || !strings.Contains(err.Error(), c.want) {
					t.Errorf("got %v, want %s", err, c.want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			defer h.Cleanup(t.Context(), config.ID)
			c.mount.Target = strings.Replace(c.mount.Target, "SANDBOX", config.Sandbox, 1)
			c.mount.TargetIn = strings.Replace(c.mount.TargetIn, "SANDBOX", config.Sandbox, 1)
			if diff := cmp.Diff([]isolation.Mount{c.mount}, p.Mounts); diff != "" {
				t.Errorf("mounts (-want +got):\n%s", diff)
			}
			if p.NoNewPrivileges != c.nnp {
				t.Errorf("no new privileges: got %v, want %v", p.NoNewPrivileges, c.nnp)
			}
		})
	}
	if entries, err := os.ReadDir(outside); err != nil || len(entries) > 0 {
		t.Errorf("outside: got %v, %v", entries, err)
	}
}

func TestSandboxPath(t *testing.T) {
	const self, parent = mesos.Volume_Source_SandboxPath_SELF, mesos.Volume_Source_SandboxPath_PARENT
	for _, c := range []struct {
		name   string
		nested bool
		rootfs string
		links  bool
		volume *mesos.Volume
		want   string
		mount  isolation.Mount
	}{
		{name: "self", rootfs: "/r", volume: sandboxVolume(self, "tmp", "/tmp"), mount: isolation.Mount{Source: "TOP/tmp", SourceIn: "TOP", Target: "/tmp", Make: 1}},
		{name: "self of a nested one", nested: true, rootfs: "/r", volume: sandboxVolume(self, "tmp", "/tmp"), mount: isolation.Mount{Source: "TOP/containers/n/tmp", SourceIn: "TOP", Target: "/tmp", Make: 1}},
		{name: "old way", rootfs: "/r", volume: hostVolume(mesos.Volume_RW, "tmp", "/tmp"), mount: isolation.Mount{Source: "TOP/tmp", SourceIn: "TOP", Target: "/tmp", Make: 1}},
		{name: "parent", nested: true, volume: sandboxVolume(parent, "shared", "v"), mount: isolation.Mount{Source: "TOP/shared", SourceIn: "TOP", Target: "TOP/containers/n/v", TargetIn: "TOP/containers/n"}},
		{name: "parent and image", nested: true, rootfs: "/r", volume: sandboxVolume(parent, "file", "v"), mount: isolation.Mount{Source: "TOP/file", SourceIn: "TOP", Target: "/mnt/mesos/sandbox/v", TargetIn: "/mnt/mesos/sandbox"}},
		{name: "link within", nested: true, volume: sandboxVolume(parent, "within", "v"), mount: isolation.Mount{Source: "TOP/within", SourceIn: "TOP", Target: "TOP/containers/n/v", TargetIn: "TOP/containers/n"}},
		{name: "as a link", nested: true, links: true, volume: sandboxVolume(parent, "shared", "v")},

		{name: "no parent", rootfs: "/r", volume: sandboxVolume(parent, "a", "/v"), want: "no parent"},
		{name: "relative", rootfs: "/r", volume: sandboxVolume(self, "a", "v"), want: "container_path of type SELF is relative"},
		{name: "absolute source", rootfs: "/r", volume: sandboxVolume(self, "/etc", "/v"), want: "leads out"},
		{name: "up", rootfs: "/r", volume: sandboxVolume(self, "a/../../b", "/v"), want: "leads out"},
		{name: "link out", rootfs: "/r", volume: sandboxVolume(self, "out", "/v"), want: "leads out"},
		{name: "below a link out", nested: true, volume: sandboxVolume(parent, "out/new", "v"), want: "leads out"},
		{name: "target out", nested: true, volume: sandboxVolume(parent, "shared", "../../v/../../../x"), want: "leads out"},
		{name: "unknown type", rootfs: "/r", volume: sandboxVolume(mesos.Volume_Source_SandboxPath_UNKNOWN, "a", "/v"), want: "unknown"},
		{name: "absolute link", links: true, volume: sandboxVolume(self, "a", "/v"), want: "without the linux launcher"},
		{name: "link target out", nested: true, links: true, volume: sandboxVolume(parent, "a", "../v"), want: "leads out"},
	} {
		t.Run(c.name, func(t *testing.T) {
			work := t.TempDir()
			outside := mkdir(t, work+"/outside")
			top := place(t, work, "c")
			mkdir(t, top.Sandbox+"/real")
			write(t, top.Sandbox+"/file", "")
			symlink(t, outside, top.Sandbox+"/out")
			symlink(t, "real", top.Sandbox+"/within")
			s := filesystem.NewSandboxPath(filesystem.Options{}, !c.links)
			config := top
			if c.nested {
				if _, err := s.Prepare(t.Context(), top); err != nil {
					t.Fatal(err)
				}
				config = place(t, work, "c", "n")
			}
			config.RootFS = c.rootfs
			config.ContainerInfo.Volumes = []*mesos.Volume{c.volume}
			p, err := s.Prepare(t.Context(), config)
			if entries, readErr := os.ReadDir(outside); readErr != nil || len(entries) > 0 {
				t.Errorf("outside: got %v, %v", entries, readErr)
			}
			if c.want != "" {
				if err == nil || !strings.Contains(err.Error(), c.want) {
					t.Errorf("got %v, want %s", err, c.want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if c.links {
				if to, err := os.Readlink(config.Sandbox + "/v"); err != nil || to != top.Sandbox+"/shared" || len(p.Mounts) != 0 {
					t.Errorf("link: got %q, %v, and mounts %v", to, err, p.Mounts)
				}
				return
			}
			for _, path := range []*string{&c.mount.Source, &c.mount.SourceIn, &c.mount.Target, &c.mount.TargetIn} {
				*path = strings.Replace(*path, "TOP", top.Sandbox, 1)
			}
			c.mount.Flags = unix.MS_BIND | unix.MS_REC
			if diff := cmp.Diff([]isolation.Mount{c.mount}, p.Mounts); diff != "" {
				t.Errorf("mounts (-want +got):\n%s", diff)
			}
		})
	}
}

func TestRefusedVolumes(t *testing.T) {
	work := t.TempDir()
	l := newLinux(t, filesystem.Options{WorkDir: work})
	docker := &mesos.Volume{Mode: mesos.Volume_RW.Enum(), ContainerPath: new("v"), Source: &mesos.Volume_Source{
		Type: mesos.Volume_Source_DOCKER_VOLUME.Enum(), DockerVolume: &mesos.Volume_Source_DockerVolume{Name: new("n")},
	}}
	image := &mesos.Volume{Mode: mesos.Volume_RW.Enum(), ContainerPath: new("v"), Image: &mesos.Image{Type: mesos.Image_DOCKER.Enum()}}
	for name, v := range map[string]*mesos.Volume{"docker": docker, "image": image, "secret": secretVolume("s", "v")} {
		config := place(t, work, "c-"+name)
		config.ContainerInfo.Volumes = []*mesos.Volume{v}
		if _, err := l.Prepare(t.Context(), config); !errors.Is(err, isolation.ErrNotSupported) {
			t.Errorf("%s: got %v, want %v", name, err, isolation.ErrNotSupported)
		}
	}
	standalone := place(t, work, "s")
	standalone.FrameworkID = nil
	standalone.Resources = []*mesos.Resource{persistentVolume("v", "role", "data", mesos.Volume_RW)}
	if _, err := l.Prepare(t.Context(), standalone); !errors.Is(err, isolation.ErrNotSupported) {
		t.Errorf("standalone: got %v", err)
	}
	debug := place(t, work, "c", "d")
	debug.Class = isolation.ClassDebug
	p, err := l.Prepare(t.Context(), debug)
	if err != nil || p.EnterFlags != unix.CLONE_NEWNS || p.CloneFlags != 0 {
		t.Errorf("debug: got %+v, %v", p, err)
	}
}

func persistentVolume(id, role, path string, mode mesos.Volume_Mode) *mesos.Resource {
	return &mesos.Resource{
		Name: new("disk"), Type: mesos.Value_SCALAR.Enum(), Scalar: &mesos.Value_Scalar{Value: new(1.0)},
		Reservations: []*mesos.Resource_ReservationInfo{{Role: &role}},
		Disk: &mesos.Resource_DiskInfo{
			Persistence: &mesos.Resource_DiskInfo_Persistence{Id: &id},
			Volume:      &mesos.Volume{Mode: mode.Enum(), ContainerPath: &path},
		},
	}
}

func TestPersistentVolumes(t *testing.T) {
	work := t.TempDir()
	l := newLinux(t, filesystem.Options{WorkDir: work})
	for _, id := range []string{"v1", "v2"} {
		write(t, mkdir(t, work+"/volumes/roles/r/"+id)+"/data", id)
	}
	v1, v2 := persistentVolume("v1", "r", "one", mesos.Volume_RW), persistentVolume("v2", "r", "two", mesos.Volume_RO)
	config := place(t, work, "c")
	config.Resources = []*mesos.Resource{v1}
	if _, err := l.Prepare(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	read := func(path, want string) {
		t.Helper()
		b, err := os.ReadFile(filepath.Join(config.Sandbox, path))
		if want == "" && !errors.Is(err, os.ErrNotExist) || want != "" && string(b) != want {
			t.Errorf("%s: got %q, %v, want %q", path, b, err, want)
		}
	}
	read("one/data", "v1")
	for range 2 {
		if err := l.Update(t.Context(), config.ID, []*mesos.Resource{v1, v2}, nil); err != nil {
			t.Fatal(err)
		}
	}
	read("one/data", "v1")
	read("two/data", "v2")
	if err := os.WriteFile(config.Sandbox+"/two/data", nil, 0o644); !errors.Is(err, unix.EROFS) {
		t.Errorf("write to a read-only volume: got %v", err)
	}

	// Another agent takes it up, mounts nothing twice, and unmounts what is not asked
	// for any more.
	before, err := mounts.Below(work)
	if err != nil {
		t.Fatal(err)
	}
	l = newLinux(t, filesystem.Options{WorkDir: work})
	config.Resources = []*mesos.Resource{v1, v2}
	if err := l.Recover(t.Context(), []isolation.ContainerState{{Config: config}}, nil); err != nil {
		t.Fatal(err)
	}
	if err := l.Update(t.Context(), config.ID, []*mesos.Resource{v1, v2}, nil); err != nil {
		t.Fatal(err)
	}
	if after, err := mounts.Below(work); err != nil || !cmp.Equal(before, after) {
		t.Errorf("mounts after a restart: got %v, %v, want %v", after, err, before)
	}
	if err := l.Update(t.Context(), config.ID, []*mesos.Resource{v2}, nil); err != nil {
		t.Fatal(err)
	}
	read("one", "")
	read("two/data", "v2")

	// In use: it stays.
	busy, err := os.Open(config.Sandbox + "/two/data")
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Update(t.Context(), config.ID, nil, nil); !errors.Is(err, unix.EBUSY) {
		t.Errorf("unmount of a volume in use: got %v", err)
	}
	// At the end it does not.
	if err := l.Cleanup(t.Context(), config.ID); err != nil {
		t.Fatal(err)
	}
	busy.Close()
	if after, err := mounts.Below(config.Sandbox); err != nil || len(after) > 0 {
		t.Errorf("mounts after the end: got %v, %v", after, err)
	}
	for _, id := range []string{"v1", "v2"} {
		if b, err := os.ReadFile(work + "/volumes/roles/r/" + id + "/data"); err != nil || string(b) != id {
			t.Errorf("data of %s: got %q, %v", id, b, err)
		}
	}
}

// An agent that is killed leaves mounts; the next one knows the containers as orphans,
// or not at all.
func TestLeftoverMounts(t *testing.T) {
	work := t.TempDir()
	l := newLinux(t, filesystem.Options{WorkDir: work})
	var configs []*isolation.ContainerConfig
	for _, name := range []string{"orphan", "unknown", "running"} {
		mkdir(t, work+"/volumes/roles/r/"+name)
		config := place(t, work, name)
		config.Resources = []*mesos.Resource{persistentVolume(name, "r", "data", mesos.Volume_RW)}
		if _, err := l.Prepare(t.Context(), config); err != nil {
			t.Fatal(err)
		}
		configs = append(configs, config)
	}
	l = newLinux(t, filesystem.Options{WorkDir: work})
	if err := l.Recover(t.Context(), []isolation.ContainerState{{Config: configs[2], PID: 1}}, []*mesos.ContainerID{configs[0].ID}); err != nil {
		t.Fatal(err)
	}
	for i, config := range configs {
		for range 2 {
			if err := l.Cleanup(t.Context(), config.ID); err != nil {
				t.Fatal(err)
			}
		}
		for j, c := range configs {
			points, err := mounts.Below(c.Sandbox)
			if err != nil {
				t.Fatal(err)
			}
			if got, want := len(points), 1; j <= i && got != 0 || j > i && got != want {
				t.Errorf("mounts of %s after the end of %s: got %v", c.ID.GetValue(), config.ID.GetValue(), points)
			}
		}
	}
}

// The task may have put something else where a volume goes.
func TestVolumeGoesThroughNoLink(t *testing.T) {
	work := t.TempDir()
	l := newLinux(t, filesystem.Options{WorkDir: work})
	outside := mkdir(t, work+"/outside")
	mkdir(t, work+"/volumes/roles/r/v")
	config := place(t, work, "c")
	if _, err := l.Prepare(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	symlink(t, outside, config.Sandbox+"/data")
	before, err := mounts.Below(work)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Update(t.Context(), config.ID, []*mesos.Resource{persistentVolume("v", "r", "data", mesos.Volume_RW)}, nil); err == nil {
		t.Error("got no error")
	}
	if after, err := mounts.Below(work); err != nil || !cmp.Equal(before, after) {
		t.Errorf("mounts: got %v, %v, want %v", after, err, before)
	}
	if err := l.Cleanup(t.Context(), config.ID); err != nil {
		t.Error(err)
	}
}

func TestVolumeOwner(t *testing.T) {
	work := t.TempDir()
	l := newLinux(t, filesystem.Options{WorkDir: work})
	dir := mkdir(t, work+"/volumes/roles/r/v")
	volume := persistentVolume("v", "r", "data", mesos.Volume_RW)
	volume.Shared = &mesos.Resource_SharedInfo{}
	for i, want := range []uint32{1234, 1234} {
		config := place(t, work, "c"+string(rune('0'+i)))
		if err := os.Chown(config.Sandbox, 1234+i, 1234+i); err != nil {
			t.Fatal(err)
		}
		config.Resources = []*mesos.Resource{volume}
		if _, err := l.Prepare(t.Context(), config); err != nil {
			t.Fatal(err)
		}
		var st unix.Stat_t
		if err := unix.Stat(dir, &st); err != nil || st.Uid != want || st.Gid != want {
			t.Errorf("owner of the volume for container %d: got %d:%d, %v", i, st.Uid, st.Gid, err)
		}
	}
}

func TestEnvironmentSecret(t *testing.T) {
	variable := func(name string, s *mesos.Secret) *mesos.Environment_Variable {
		return &mesos.Environment_Variable{Name: &name, Type: mesos.Environment_Variable_SECRET.Enum(), Secret: s}
	}
	value := func(text string) *mesos.Secret {
		return &mesos.Secret{Type: mesos.Secret_VALUE.Enum(), Value: &mesos.Secret_Value{Data: []byte(text)}}
	}
	reference := &mesos.Secret{Type: mesos.Secret_REFERENCE.Enum(), Reference: &mesos.Secret_Reference{Name: new("vault")}}
	e := secret.NewEnvironment()
	config := place(t, t.TempDir(), "c")
	command := func(variables ...*mesos.Environment_Variable) *mesos.CommandInfo {
		return &mesos.CommandInfo{Environment: &mesos.Environment{Variables: variables}}
	}
	config.Command = command(variable("A", value("a")), &mesos.Environment_Variable{Name: new("PLAIN"), Value: new("p")})
	config.TaskCommand = command(variable("B", value("b")))
	p, err := e.Prepare(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]string{"A": "a"}, p.Env); diff != "" {
		t.Errorf("environment (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(map[string]string{"A": "a", "B": "b"}, p.TaskEnv); diff != "" {
		t.Errorf("environment of the task (-want +got):\n%s", diff)
	}
	for name, s := range map[string]*mesos.Secret{
		"cannot resolve references": reference,
		"NUL byte":                  value("a\x00b"),
		"has no value":              {Type: mesos.Secret_VALUE.Enum()},
		"is not set":                nil,
		"both":                      {Type: mesos.Secret_VALUE.Enum(), Reference: reference.Reference, Value: value("a").Value},
	} {
		config := place(t, t.TempDir(), "c2")
		config.Command = command(variable("A", s))
		if _, err := e.Prepare(t.Context(), config); !errors.Is(err, secret.ErrSecret) || !strings.Contains(err.Error(), name) || !strings.Contains(err.Error(), `"A"`) {
			t.Errorf("got %v, want %s", err, name)
		}
	}
}
