package filesystem_test

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"

	mesos "clusterd/api/mesos/v1"
	"clusterd/isolation"
	"clusterd/isolation/cgroups"
	"clusterd/isolation/isolationtest"
	"clusterd/isolation/mounts"
	"clusterd/isolation/setup"
)

// patience is how long anything may take before a test gives up on it.
const patience = 60 * time.Second

// trees is a provisioner: it gives every container the same root file system, as an
// overlay or as a copy.
type trees struct {
	dir, lower string
	overlay    bool
	// volume is called for an image that is a volume.
	volume func()
}

func (p *trees) Recover(context.Context, []*mesos.ContainerID) error { return nil }

func (p *trees) Provision(_ context.Context, _ *mesos.ContainerID, image *mesos.Image) (*isolation.Provisioned, error) {
	if image.Docker == nil && p.volume != nil {
		p.volume()
	}
	dir := filepath.Join(p.dir, strings.ToLower(rand.Text()[:8]))
	root := filepath.Join(dir, "root")
	for _, d := range []string{root, dir + "/changes/upper", dir + "/changes/work"} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return nil, err
		}
	}
	if p.overlay {
		data := fmt.Sprintf("lowerdir=%s,upperdir=%s/changes/upper,workdir=%s/changes/work", p.lower, dir, dir)
		return &isolation.Provisioned{RootFS: root, Mounts: []isolation.Mount{{Source: "overlay", Type: "overlay", Target: root, Host: true, Data: data}}}, nil
	}
	if out, err := exec.Command("cp", "-a", p.lower+"/.", root).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("%w: %s", err, out)
	}
	return &isolation.Provisioned{RootFS: root, Mounts: []isolation.Mount{{Source: root, Target: root, Host: true, Flags: unix.MS_BIND}}}, nil
}

func (p *trees) Destroy(context.Context, *mesos.ContainerID) error { return nil }

func (p *trees) Prune(context.Context, []*mesos.Image) error { return nil }

// tree makes a root file system of some programs of this machine.
func tree(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, d := range []string{"bin", "tmp", "etc", "proc", "sys", "dev"} {
		mkdir(t, filepath.Join(dir, d))
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"sh", "cat", "ls", "id", "mkdir", "mount", "umount", "stat", "sleep", "mknod", "chown", "readlink", "touch", "rm"} {
		path, err := exec.LookPath(name)
		if err != nil {
			t.Skip(err)
		}
		copyProgram(t, path, filepath.Join(dir, "bin", name))
		out, err := exec.CommandContext(t.Context(), "ldd", path).Output()
		if err != nil {
			t.Skipf("ldd: %v", err)
		}
		for field := range strings.FieldsSeq(string(out)) {
			if strings.HasPrefix(field, "/") {
				mkdir(t, filepath.Join(dir, filepath.Dir(field)))
				copyProgram(t, field, filepath.Join(dir, field))
			}
		}
	}
	write(t, filepath.Join(dir, "etc", "passwd"), "root:x:0:0:root:/:/bin/sh\n")
	return dir
}

func copyProgram(t *testing.T, from, to string) {
	t.Helper()
	if _, err := os.Stat(to); err == nil {
		return
	}
	in, err := os.Open(from)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY, 0o755)
	if err == nil {
		_, err = io.Copy(out, in)
	}
	if err == nil {
		err = out.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
}

// machine is an agent's containerizer with the linux launcher.
type machine struct {
	t         *testing.T
	work, run string
	options   setup.Options
	isolation.Containerizer
}

func newMachine(t *testing.T, isolators string, image bool, change ...func(*setup.Options)) *machine {
	t.Helper()
	needRoot(t)
	m := &machine{t: t, work: unmounted(t, t.TempDir()), run: unmounted(t, t.TempDir())}
	m.options = setup.Options{
		WorkDir: m.work, RuntimeDir: m.run, Launcher: "linux", Isolation: "filesystem/linux," + isolators,
		CgroupsRoot: "clusterd-test-" + strings.ToLower(rand.Text()[:12]),
	}
	if image {
		m.options.Provisioner = &trees{dir: mkdir(t, m.work+"/provisioner"), lower: tree(t), overlay: true}
	}
	for _, f := range change {
		f(&m.options)
	}
	t.Cleanup(m.removeCgroups)
	m.start(nil)
	t.Cleanup(func() { _ = m.Close() })
	return m
}

// start starts a containerizer that knows of those containers.
func (m *machine) start(known []isolation.ContainerConfig) {
	m.t.Helper()
	c, err := setup.New(m.options, isolationtest.Programs(m.t), zerolog.New(zerolog.NewTestWriter(m.t)))
	if err != nil {
		m.t.Fatal(err)
	}
	if _, err := c.Recover(m.context(), known); err != nil {
		m.t.Fatal(err)
	}
	m.Containerizer = c
}

func (m *machine) context() context.Context {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(m.t.Context()), patience)
	m.t.Cleanup(cancel)
	return ctx
}

func (m *machine) removeCgroups() {
	tree, err := cgroups.Open(setup.DefaultCgroupsHierarchy, m.options.CgroupsRoot)
	if err != nil {
		return
	}
	if err := tree.Use(cgroups.Core); err != nil {
		m.t.Error(err)
		return
	}
	if ids, err := tree.Containers(); err != nil || len(ids) > 0 {
		m.t.Errorf("cgroups left: %v, %v", ids, err)
	}
	// Isolators have roots of their own.
	dirs, err := filepath.Glob(filepath.Join(setup.DefaultCgroupsHierarchy, "*", m.options.CgroupsRoot))
	if err != nil || len(dirs) == 0 {
		m.t.Errorf("roots of cgroups: got %v, %v", dirs, err)
	}
	for _, dir := range dirs {
		if err := os.Remove(dir); err != nil {
			m.t.Error(err)
		}
	}
}

// container is a container that runs a shell command.
func (m *machine) container(command string, values ...string) *isolation.ContainerConfig {
	m.t.Helper()
	config := place(m.t, m.work, values...)
	config.Command = &mesos.CommandInfo{Value: &command, Shell: new(true)}
	config.Env = map[string]string{"PATH": "/bin:/usr/bin:/sbin:/usr/sbin"}
	if m.options.Provisioner != nil {
		config.ContainerInfo.Mesos = &mesos.ContainerInfo_MesosInfo{Image: &mesos.Image{Type: mesos.Image_DOCKER.Enum(), Docker: &mesos.Image_Docker{Name: new("tree")}}}
	}
	return config
}

// launch starts a container, which ends with the test at the latest.
func (m *machine) launch(config *isolation.ContainerConfig) {
	m.t.Helper()
	if err := m.Launch(m.context(), config); err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(func() { m.end(config) })
}

func (m *machine) end(config *isolation.ContainerConfig) {
	if err := m.Destroy(m.context(), config.ID); err == nil {
		if err := m.Remove(m.context(), config.ID); err != nil {
			m.t.Errorf("remove: %v", err)
		}
	}
}

// output runs a container to its end and returns what it wrote.
func (m *machine) output(config *isolation.ContainerConfig) string {
	m.t.Helper()
	m.launch(config)
	m.wait(config)
	return m.wrote(config)
}

func (m *machine) wait(config *isolation.ContainerConfig) isolation.Termination {
	m.t.Helper()
	end, err := m.Wait(m.context(), config.ID)
	if err != nil {
		m.t.Fatal(err)
	}
	return end
}

func (m *machine) wrote(config *isolation.ContainerConfig) string {
	m.t.Helper()
	var text strings.Builder
	for _, name := range []string{"stdout", "stderr"} {
		b, err := os.ReadFile(filepath.Join(config.Sandbox, name))
		if err != nil {
			m.t.Fatal(err)
		}
		text.Write(b)
	}
	return text.String()
}

// eventually waits until a container has written something.
func (m *machine) eventually(config *isolation.ContainerConfig, want string) {
	m.t.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if strings.Contains(m.wrote(config), want) {
			return
		}
	}
	m.t.Fatalf("container %s did not write %q but %q", isolation.Key(config.ID), want, m.wrote(config))
}

// contains checks what a container wrote, line by line.
func contains(t *testing.T, got string, want ...string) {
	t.Helper()
	lines := make(map[string]bool)
	for l := range strings.Lines(got) {
		lines[strings.TrimSuffix(l, "\n")] = true
	}
	for _, w := range want {
		if !lines[w] {
			t.Errorf("no line %q in what it wrote:\n%s", w, got)
		}
	}
}

func TestRootFileSystem(t *testing.T) {
	m := newMachine(t, "namespaces/pid,namespaces/ipc", true)
	got := m.output(m.container(`
echo "sandbox $MESOS_SANDBOX $(readlink /proc/self/cwd)"
echo "first $(cat /proc/1/comm)"
set -- /proc/[0-9]*; [ $# -lt 9 ] && echo "few processes"
echo "devices $(for d in null zero full random urandom tty; do stat -c %t:%T:%a /dev/$d; done | while read d; do echo -n "$d "; done)"
echo "links $(readlink /dev/fd) $(readlink /dev/stdin) $(readlink /dev/ptmx)"
echo "shm $(stat -f -c %T /dev/shm) $(stat -c %a /dev/shm)"
echo x >/dev/null && echo "null works"
(echo 1 >/proc/sys/kernel/panic) 2>/dev/null || echo "no /proc/sys"
(echo b >/proc/sysrq-trigger) 2>/dev/null || echo "no sysrq"
(echo 1 >/sys/kernel/x) 2>/dev/null || echo "no /sys"
echo "interrupts $(cat /proc/interrupts)"
echo "firmware $(ls /sys/firmware)"
echo "cgroup $(ls /sys/fs/cgroup)"
(mkdir /sys/fs/cgroup/x) 2>/dev/null || echo "no cgroup"
echo "etc $(ls -d /etc/passwd /etc/group 2>/dev/null)"
echo in >$MESOS_SANDBOX/written
echo changed >/etc/new && cat /etc/new
ls / `, "c"))
	contains(t, got,
		"sandbox /mnt/mesos/sandbox /mnt/mesos/sandbox",
		"first supervisor", "few processes",
		"devices 1:3:666 1:5:666 1:7:666 1:8:666 1:9:666 5:0:666 ",
		"links /proc/self/fd /proc/self/fd/0 pts/ptmx", "shm tmpfs 1777", "null works",
		"no /proc/sys", "no sysrq", "no /sys", "firmware ", "cgroup ", "no cgroup", "interrupts ", "etc /etc/passwd", "changed")
	if b, err := os.ReadFile(filepath.Join(m.work, "slaves/A/frameworks/F/executors/E/runs/c/written")); err != nil || string(b) != "in\n" {
		t.Errorf("file in the sandbox: got %q, %v", b, err)
	}
	if strings.Contains(got, "home") {
		t.Errorf("the machine's root is seen:\n%s", got)
	}
}

func TestMachinesFiles(t *testing.T) {
	m := newMachine(t, "namespaces/pid", false)
	config := m.container(`
echo "first $(cat /proc/1/comm)"
echo "cwd $(readlink /proc/self/cwd)"
mount -t tmpfs none /mnt && echo "mounted $(stat -f -c %T /mnt)"`, "c")
	got := m.output(config)
	contains(t, got, "first supervisor", "cwd "+config.Sandbox, "mounted tmpfs")
	var st unix.Statfs_t
	if err := unix.Statfs("/mnt", &st); err != nil || st.Type == unix.TMPFS_MAGIC {
		t.Errorf("a mount of the container's is seen outside: %v", err)
	}
}

func TestRealVolumes(t *testing.T) {
	for _, image := range []bool{false, true} {
		t.Run(fmt.Sprintf("image=%v", image), func(t *testing.T) {
			m := newMachine(t, "volume/secret", image)
			host := mkdir(t, t.TempDir()+"/host")
			write(t, mkdir(t, host+"/below")+"/x", "")
			write(t, host+"/file", "of the machine")
			if err := unix.Mount("none", mkdir(t, host+"/submount"), "tmpfs", 0, ""); err != nil {
				t.Fatal(err)
			}
			defer func() {
				if err := mounts.UnmountBelow(host); err != nil {
					t.Error(err)
				}
			}()
			mkdir(t, m.work+"/volumes/roles/r/v")
			config := m.container(`
[ -n "$MESOS_SANDBOX" ] && cd $MESOS_SANDBOX
echo "file $(cat ro/file)"
for f in ro/file ro/submount/new ro/new rov/new; do (echo >$f) 2>/dev/null || echo "no $f"; done
echo >rw/new && echo >volume/data && echo "written"
echo "secret $(cat secret) $(stat -c %a:%u secret) $(stat -f -c %T secret)"
(echo >secret) 2>/dev/null || echo "secret stays"
echo "ls $(ls -A)"`, "c")
			config.ContainerInfo.Volumes = []*mesos.Volume{
				hostVolume(mesos.Volume_RO, host, "ro"), hostVolume(mesos.Volume_RW, host, "rw"), secretVolume("psst", "secret"),
			}
			config.Resources = []*mesos.Resource{persistentVolume("v", "r", "volume", mesos.Volume_RW), persistentVolume("v", "r", "rov", mesos.Volume_RO)}
			got := m.output(config)
			contains(t, got, "file of the machine", "no ro/file", "no ro/submount/new", "no ro/new", "no rov/new", "written", "secret psst 600:0 ramfs", "secret stays")
			for _, f := range []string{host + "/new", m.work + "/volumes/roles/r/v/data"} {
				if _, err := os.Stat(f); err != nil {
					t.Error(err)
				}
			}
			// No disk has the secret.
			for _, dir := range []string{m.work, m.run} {
				out, err := exec.CommandContext(t.Context(), "grep", "-r", "-l", "--exclude=stdout", "psst", dir).Output()
				if err == nil {
					t.Errorf("the secret is in %s", out)
				}
			}
			m.end(config)
			for _, dir := range []string{m.work + "/slaves", m.run} {
				if points, err := mounts.Below(dir); err != nil || len(points) > 0 {
					t.Errorf("mounts left: %v, %v", points, err)
				}
			}
		})
	}
}

// Volumes come and go while the container runs, also after the agent has been away.
func TestVolumesOfRunning(t *testing.T) {
	for _, image := range []bool{false, true} {
		t.Run(fmt.Sprintf("image=%v", image), func(t *testing.T) {
			m := newMachine(t, "", image)
			for _, v := range []string{"v1", "v2"} {
				write(t, mkdir(t, m.work+"/volumes/roles/r/"+v)+"/name", v)
			}
			v1, v2 := persistentVolume("v1", "r", "one", mesos.Volume_RW), persistentVolume("v2", "r", "two", mesos.Volume_RW)
			config := m.container(`echo started
while [ ! -e two/name ]; do sleep 0.02; done; echo "two is $(cat two/name)"
while [ -e one/name ]; do sleep 0.02; done; echo "one has gone"
while :; do sleep 1; done`, "c")
			config.Resources = []*mesos.Resource{v1}
			m.launch(config)
			m.eventually(config, "started\n")
			if err := m.Update(m.context(), config.ID, []*mesos.Resource{v1, v2}, nil); err != nil {
				t.Fatal(err)
			}
			m.eventually(config, "two is v2\n")
			config.Resources = []*mesos.Resource{v1, v2}
			if err := m.Close(); err != nil {
				t.Fatal(err)
			}
			m.start([]isolation.ContainerConfig{*config})
			if err := m.Update(m.context(), config.ID, []*mesos.Resource{v2}, nil); err != nil {
				t.Fatal(err)
			}
			m.eventually(config, "one has gone\n")
			m.end(config)
			if points, err := mounts.Below(m.work + "/slaves"); err != nil || len(points) > 0 {
				t.Errorf("mounts left: %v, %v", points, err)
			}
			for _, v := range []string{"v1", "v2"} {
				if b, err := os.ReadFile(m.work + "/volumes/roles/r/" + v + "/name"); err != nil || string(b) != v {
					t.Errorf("data of %s: got %q, %v", v, b, err)
				}
			}
		})
	}
}

// A container that is nested gets what its parent shares, and nothing else, whatever
// the parent does meanwhile.
func TestNestedVolumes(t *testing.T) {
	m := newMachine(t, "namespaces/pid,namespaces/ipc", true)
	top := m.container(`echo started; while :; do sleep 1; done`, "c")
	m.launch(top)
	m.eventually(top, "started\n")
	write(t, mkdir(t, top.Sandbox+"/shared")+"/file", "of the parent")
	nested := m.container(`cat /s/file; cat $MESOS_SANDBOX/s/file; echo >/s/new; ls /tmp; mount -t tmpfs none /s && echo mounted`, "c", "n")
	nested.ContainerInfo.Volumes = []*mesos.Volume{
		sandboxVolume(mesos.Volume_Source_SandboxPath_PARENT, "shared", "/s"),
		sandboxVolume(mesos.Volume_Source_SandboxPath_PARENT, "shared", "s"),
	}
	got := m.output(nested)
	if strings.Count(got, "of the parent") != 2 || !strings.Contains(got, "mounted") {
		t.Errorf("got %q", got)
	}
	if _, err := os.Stat(top.Sandbox + "/shared/new"); err != nil {
		t.Error(err)
	}

	// Links that appear after everything was looked at are not followed out, neither
	// for what is mounted nor for where.
	outside := mkdir(t, m.work+"/outside")
	write(t, outside+"/secret", "of the machine")
	for name, swap := range map[string]func(sandbox string){
		"source": func(string) { symlink(t, outside, top.Sandbox+"/swapped") },
		"target": func(sandbox string) {
			if err := os.Rename(sandbox+"/v", sandbox+"/old"); err != nil {
				t.Fatal(err)
			}
			symlink(t, outside, sandbox+"/v")
		},
		"sandbox": func(sandbox string) {
			if err := os.Rename(sandbox, sandbox+"-old"); err != nil {
				t.Fatal(err)
			}
			symlink(t, outside, sandbox)
		},
	} {
		t.Run(name, func(t *testing.T) {
			nested := m.container(`ls -R . /v; cat /v/secret v/secret secret`, "c", "n-"+name)
			source := "shared"
			if name == "source" {
				source = "swapped"
				mkdir(t, top.Sandbox+"/swapped")
			}
			nested.ContainerInfo.Volumes = []*mesos.Volume{
				sandboxVolume(mesos.Volume_Source_SandboxPath_PARENT, source, "/v"),
				sandboxVolume(mesos.Volume_Source_SandboxPath_PARENT, source, "v"),
			}
			// Volumes of images are prepared last.
			nested.ContainerInfo.Volumes = append(nested.ContainerInfo.Volumes, &mesos.Volume{
				Mode: mesos.Volume_RW.Enum(), ContainerPath: new("/image"), Image: &mesos.Image{Type: mesos.Image_DOCKER.Enum()},
			})
			provisioner := m.options.Provisioner.(*trees)
			provisioner.volume = func() {
				if name == "source" {
					if err := os.Remove(top.Sandbox + "/swapped"); err != nil {
						t.Error(err)
					}
				}
				swap(nested.Sandbox)
			}
			defer func() { provisioner.volume = nil }()
			err := m.Launch(m.context(), nested)
			if err == nil {
				m.wait(nested)
				if got := m.wrote(nested); strings.Contains(got, "of the machine") {
					t.Errorf("the container reads: %s", got)
				}
				m.end(nested)
			} else {
				t.Log(err)
			}
			if entries, err := os.ReadDir(outside); err != nil || len(entries) != 1 {
				t.Errorf("outside: got %v, %v", entries, err)
			}
		})
	}
}
