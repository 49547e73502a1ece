package isolation_test

import (
	"context"
	"crypto/rand"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"

	mesos "clusterd/api/mesos/v1"
	"clusterd/isolation"
	"clusterd/isolation/isolationtest"
	"clusterd/isolation/supervisor"
)

const patience = 30 * time.Second

// allNamespaces are those that a container can have of its own.
const allNamespaces = unix.CLONE_NEWPID | unix.CLONE_NEWNS | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS | unix.CLONE_NEWNET | unix.CLONE_NEWCGROUP

// linuxTest is a linux launcher with a sandbox.
type linuxTest struct {
	*isolation.LinuxLauncher
	dir, sandbox, root string
	programs           *isolation.Programs
}

func newLinux(t *testing.T) *linuxTest {
	t.Helper()
	lt := &linuxTest{dir: t.TempDir(), sandbox: t.TempDir(), programs: isolationtest.Programs(t)}
	if os.Geteuid() != 0 {
		t.Skip("only root makes namespaces")
	}
	lt.root = treeRoot(t)
	lt.open(t)
	t.Cleanup(func() {
		_ = lt.Close()
		lt.open(t)
		defer lt.Close()
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		ids, err := lt.Recover(ctx)
		for _, id := range slices.Backward(ids) {
			err = errors.Join(err, lt.Destroy(ctx, id), lt.Remove(id))
		}
		if err != nil {
			t.Error(err)
		}
	})
	return lt
}

func (lt *linuxTest) open(t *testing.T) {
	t.Helper()
	l, err := isolation.NewLinuxLauncher(lt.dir, newTree(t, lt.root), lt.programs, zerolog.New(zerolog.NewTestWriter(t)))
	if err != nil {
		t.Fatal(err)
	}
	lt.LinuxLauncher = l
}

// info is a shell script in the sandbox.
func (lt *linuxTest) info(script string) *isolation.LaunchInfo {
	return &isolation.LaunchInfo{
		Path: "/bin/sh", Argv: []string{"sh", "-c", script}, Dir: lt.sandbox,
		Env:    []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin"},
		Stdout: filepath.Join(lt.sandbox, "stdout"), Stderr: filepath.Join(lt.sandbox, "stderr"),
	}
}

func id(parent *mesos.ContainerID) *mesos.ContainerID {
	return &mesos.ContainerID{Value: new("c-" + strings.ToLower(rand.Text()[:12])), Parent: parent}
}

func (lt *linuxTest) try(t *testing.T, id *mesos.ContainerID, info *isolation.LaunchInfo) error {
	t.Helper()
	fork := &isolation.ForkInfo{Builtin: info.Builtin, Supervised: info.UserNamespace != "", CloneFlags: info.CloneFlags, EnterFlags: info.EnterFlags}
	if _, err := lt.Fork(testContext(t), id, fork); err != nil {
		return err
	}
	return lt.Start(testContext(t), id, info)
}

func (lt *linuxTest) start(t *testing.T, parent *mesos.ContainerID, info *isolation.LaunchInfo) *mesos.ContainerID {
	t.Helper()
	id := id(parent)
	if err := lt.try(t, id, info); err != nil {
		t.Fatal(err)
	}
	return id
}

// run runs a container to its end and returns what it printed.
func (lt *linuxTest) run(t *testing.T, info *isolation.LaunchInfo) string {
	t.Helper()
	id := lt.start(t, nil, info)
	status, err := lt.Wait(testContext(t), id)
	if err != nil {
		t.Fatal(err)
	}
	out, _ := os.ReadFile(info.Stdout)
	if status != (isolation.ExitStatus{Known: true}) {
		stderr, _ := os.ReadFile(info.Stderr)
		t.Fatalf("status: got %+v: %s%s", status, out, stderr)
	}
	return strings.TrimSpace(string(out))
}

func (lt *linuxTest) read(t *testing.T, name string) string {
	t.Helper()
	var text string
	eventually(t, "a line in "+name, func() bool {
		b, err := os.ReadFile(filepath.Join(lt.sandbox, name))
		text = string(b)
		return err == nil && strings.HasSuffix(text, "\n")
	})
	return strings.TrimSpace(text)
}

func testContext(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if done() {
			return
		}
	}
	t.Fatalf("still not so: %s", what)
}

func alive(pid int) bool {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	_, rest, ok := strings.Cut(string(b), ") ")
	return err == nil && ok && rest[0] != 'Z' && rest[0] != 'X'
}

var procMount = isolation.Mount{Source: "proc", Target: "/proc", Type: "proc", Flags: unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC, Make: supervisor.MakeDirectory}

// rootFS makes a root file system of the machine's programs.
func rootFS(t *testing.T) (root string, mounts []isolation.Mount) {
	t.Helper()
	root = filepath.Join(t.TempDir(), "rootfs")
	if err := os.MkdirAll(filepath.Join(root, "etc"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(root, "etc", "own"), []byte("of the image\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{"/bin", "/sbin", "/lib", "/lib64", "/usr"} {
		st, err := os.Lstat(dir)
		if err != nil {
			continue
		}
		if st.Mode()&os.ModeSymlink != 0 {
			target, err := os.Readlink(dir)
			if err == nil {
				err = os.Symlink(target, filepath.Join(root, dir))
			}
			if err != nil {
				t.Fatal(err)
			}
			continue
		}
		mounts = append(mounts, isolation.Mount{Source: dir, Target: dir, Flags: unix.MS_BIND | unix.MS_RDONLY, Make: supervisor.MakeDirectory})
	}
	return root, mounts
}

func TestNamespaces(t *testing.T) {
	lt := newLinux(t)
	info := lt.info(`echo $$; hostname; grep -c . /proc/mounts >/dev/null; ls /proc | grep -c '^[0-9]*$'; for n in pid mnt ipc uts net cgroup; do readlink /proc/self/ns/$n; done; echo ready >ready; sleep 1000`)
	info.CloneFlags, info.Hostname, info.Mounts = allNamespaces, "inside", []isolation.Mount{procMount}
	before := mountTable(t)
	id := lt.start(t, nil, info)
	lt.read(t, "ready")
	out := strings.Split(lt.read(t, "stdout"), "\n")
	if len(out) != 9 || out[1] != "inside" {
		t.Fatalf("output: got %q", out)
	}
	if n, err := strconv.Atoi(out[2]); err != nil || n > 5 {
		t.Errorf("processes in /proc: got %s", out[2])
	}
	for _, ns := range out[3:] {
		kind, _, _ := strings.Cut(ns, ":")
		if own, err := os.Readlink("/proc/self/ns/" + kind); err != nil || own == ns {
			t.Errorf("namespace %s is the machine's", ns)
		}
	}
	if after := mountTable(t); after != before {
		t.Errorf("mounts of the machine changed:\n%s\nbefore:\n%s", after, before)
	}
	status, err := lt.Status(id)
	if err != nil {
		t.Fatal(err)
	}
	inside, err := os.ReadFile("/proc/" + strconv.Itoa(status.PID) + "/status")
	if err != nil || !strings.Contains(string(inside), "NSpid:\t"+strconv.Itoa(status.PID)+"\t"+out[0]+"\n") {
		t.Errorf("process id of the command: got %d, which is %s", status.PID, inside)
	}
	// The next agent knows it, too.
	if err := lt.Close(); err != nil {
		t.Fatal(err)
	}
	lt.open(t)
	if _, err := lt.Recover(testContext(t)); err != nil {
		t.Fatal(err)
	}
	if again, err := lt.Status(id); err != nil || again != status {
		t.Errorf("status after a restart: got %+v, %v, want %+v", again, err, status)
	}
	if err := lt.Destroy(testContext(t), id); err != nil {
		t.Fatal(err)
	}
	if got, err := lt.Wait(testContext(t), id); err != nil || got != (isolation.ExitStatus{Known: true, Status: int(syscall.SIGKILL)}) {
		t.Errorf("status: got %+v, %v", got, err)
	}
}

func itoa(n int) string { return strconv.Itoa(n) }

func mountTable(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	// Tests beside this one mount as well, but not what ours would.
	var ours []string
	for line := range strings.Lines(string(b)) {
		if strings.Contains(line, t.Name()) || strings.HasPrefix(line, "proc ") {
			ours = append(ours, line)
		}
	}
	return strings.Join(ours, "")
}

func TestRoot(t *testing.T) {
	lt := newLinux(t)
	root, mounts := rootFS(t)
	secret := filepath.Join(t.TempDir(), "machine")
	if err := os.WriteFile(secret, []byte("of the machine\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	// The image tries to lead a mount out.
	for name, target := range map[string]string{"etc/out": secret, "leads": filepath.Dir(secret), "up": "../../../../../.." + filepath.Dir(secret)} {
		if err := os.Symlink(target, filepath.Join(root, name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.MkdirAll(filepath.Join(root, "hidden"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, f := range []string{"hidden/x", "masked", "kept"} {
		if err := os.WriteFile(filepath.Join(root, f), []byte("x\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	own := filepath.Join(lt.sandbox, "volume")
	if err := os.Mkdir(own, 0o755); err != nil {
		t.Fatal(err)
	}
	info := lt.info(`pwd; cat /etc/own; ls / | tr '\n' ' '; echo
		echo x >/mnt/sandbox/written; (echo x >/usr/x) 2>/dev/null || echo read-only; (echo x >/kept) 2>/dev/null || echo kept
		wc -c </masked; ls /hidden | wc -l; head -c 3 /dev/zero | wc -c; readlink /dev/fd; ls -ln /dev/zero | cut -d' ' -f1,3,4
		echo v >/leads/in; echo v >/up/in2; cat /proc/1/root/etc/own; ls -d ` + secret + ` 2>/dev/null || :`)
	info.CloneFlags, info.RootFS, info.Dir = unix.CLONE_NEWPID|unix.CLONE_NEWNS, root, "/mnt/sandbox"
	info.Mounts = slices.Concat(mounts, []isolation.Mount{
		procMount,
		{Source: lt.sandbox, Target: "/mnt/sandbox", Flags: unix.MS_BIND | unix.MS_REC, Make: supervisor.MakeDirectory},
		{Source: own, Target: "/leads", Flags: unix.MS_BIND, Make: supervisor.MakeDirectory},
		{Source: own, Target: "/up", Flags: unix.MS_BIND, Make: supervisor.MakeDirectory},
	})
	info.Devices = []isolation.Device{
		{Path: "/dev/zero", Mode: unix.S_IFCHR | 0o666, Major: 1, Minor: 5, UID: 7, GID: 8},
		{Path: "/dev/fd", Mode: unix.S_IFLNK, Link: "/proc/self/fd"},
	}
	info.MaskedPaths, info.ReadonlyPaths = []string{"/masked", "/hidden", "/not/there"}, []string{"/kept", "/not/there"}
	out := strings.Split(lt.run(t, info), "\n")
	want := []string{"/mnt/sandbox", "of the image", "", "read-only", "kept", "0", "0", "3", "/proc/self/fd", "crw-rw-rw- 7 8", "of the image"}
	if len(out) != len(want) {
		t.Fatalf("output: got %q", out)
	}
	for i, w := range want {
		if w != "" && strings.Join(strings.Fields(out[i]), " ") != w {
			t.Errorf("line %d: got %q, want %q", i, out[i], w)
		}
	}
	if b, err := os.ReadFile(secret); err != nil || string(b) != "of the machine\n" {
		t.Errorf("file of the machine: got %q, %v", b, err)
	}
	entries, err := os.ReadDir(filepath.Dir(secret))
	if err != nil || len(entries) != 1 {
		t.Errorf("directory of the machine: got %v, %v", entries, err)
	}
	for _, name := range []string{"written", "volume/in", "volume/in2"} {
		if _, err := os.Stat(filepath.Join(lt.sandbox, name)); err != nil {
			t.Error(err)
		}
	}
}

// TestRootErrors: what cannot be made is said, and nothing is left.
func TestRootErrors(t *testing.T) {
	lt := newLinux(t)
	root, mounts := rootFS(t)
	for name, c := range map[string]struct {
		change func(*isolation.LaunchInfo)
		want   error
		text   string
	}{
		"no target":    {func(i *isolation.LaunchInfo) { i.Mounts[0].Make = supervisor.MakeNothing; i.Mounts[0].Target = "/none" }, syscall.ENOENT, "mount /none"},
		"no source":    {func(i *isolation.LaunchInfo) { i.Mounts[0].Source = "/none" }, syscall.ENOENT, "mount "},
		"no root":      {func(i *isolation.LaunchInfo) { i.RootFS = "/none" }, syscall.ENOENT, "/none"},
		"no type":      {func(i *isolation.LaunchInfo) { i.Mounts[0] = isolation.Mount{Target: "/etc", Type: "nonesuch"} }, syscall.ENODEV, "mount /etc"},
		"no program":   {func(i *isolation.LaunchInfo) { i.Path = "/none" }, syscall.ENOENT, "execute /none"},
		"no directory": {func(i *isolation.LaunchInfo) { i.Dir = lt.sandbox }, syscall.ENOENT, "working directory " + lt.sandbox},
		"source escapes": {func(i *isolation.LaunchInfo) {
			i.Mounts[0].SourceIn = lt.sandbox
			i.Mounts[0].Source = lt.sandbox + "/../x"
		}, syscall.EXDEV, "mount "},
	} {
		info := lt.info("echo ran")
		info.CloneFlags, info.RootFS, info.Dir, info.Mounts = unix.CLONE_NEWNS, root, "/", slices.Clone(mounts)
		c.change(info)
		err := lt.try(t, id(nil), info)
		if !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%s: got %v, want %v about %q", name, err, c.want, c.text)
		}
	}
	info := lt.info("echo ran")
	info.RootFS = root
	if err := lt.try(t, id(nil), info); !errors.Is(err, isolation.ErrNotSupported) {
		t.Errorf("root without a mount namespace: got %v", err)
	}
	if _, err := os.Stat(info.Stdout); err == nil {
		b, _ := os.ReadFile(info.Stdout)
		if len(b) > 0 {
			t.Errorf("a container ran: %q", b)
		}
	}
}

func TestRights(t *testing.T) {
	lt := newLinux(t)
	const script = `ulimit -S -n; ulimit -H -n; ulimit -c; cat /proc/self/oom_score_adj; grep -E '^(Cap|NoNewPrivs|Seccomp:)' /proc/self/status | tr '\t\n' '  '; echo; id -u; id -G`
	bit := func(bits ...uint) (set uint64) {
		for _, b := range bits {
			set |= 1 << b
		}
		return set
	}
	for name, c := range map[string]struct {
		change func(*isolation.LaunchInfo)
		want   string
	}{
		"root with some": {func(i *isolation.LaunchInfo) {
			set := bit(unix.CAP_CHOWN, unix.CAP_SETUID, unix.CAP_NET_BIND_SERVICE)
			i.Capabilities = &isolation.Capabilities{Effective: set, Permitted: set, Inheritable: 0, Bounding: set}
			i.NoNewPrivileges = true
		}, "100\n200\n0\n33\nCapInh: 0000000000000000 CapPrm: 0000000000000481 CapEff: 0000000000000481 CapBnd: 0000000000000481 CapAmb: 0000000000000000 NoNewPrivs: 1 Seccomp: 0\n0\n"},
		"user with some": {func(i *isolation.LaunchInfo) {
			set := bit(unix.CAP_NET_BIND_SERVICE)
			i.Capabilities = &isolation.Capabilities{Effective: set, Permitted: set, Inheritable: set, Bounding: set, Ambient: set}
			i.User = "nobody"
		}, "100\n200\n0\n33\nCapInh: 0000000000000400 CapPrm: 0000000000000400 CapEff: 0000000000000400 CapBnd: 0000000000000400 CapAmb: 0000000000000400 NoNewPrivs: 0 Seccomp: 0\n65534\n"},
		"filtered": {func(i *isolation.LaunchInfo) {
			i.Capabilities = &isolation.Capabilities{}
			i.NoNewPrivileges, i.Seccomp = true, allowAll
			i.Credentials = &isolation.Credentials{UID: 77, GID: 78, Groups: []uint32{79}}
			i.Groups = []uint32{80}
		}, "100\n200\n0\n33\nCapInh: 0000000000000000 CapPrm: 0000000000000000 CapEff: 0000000000000000 CapBnd: 0000000000000000 CapAmb: 0000000000000000 NoNewPrivs: 1 Seccomp: 2\n77\n78 79 80"},
		"filtered as it is": {func(i *isolation.LaunchInfo) { i.Seccomp = allowAll }, "Seccomp: 2\n0\n"},
	} {
		t.Run(name, func(t *testing.T) {
			info := lt.info(script)
			info.Rlimits = []isolation.Rlimit{{Resource: unix.RLIMIT_NOFILE, Soft: 100, Hard: 200}, {Resource: unix.RLIMIT_CORE}}
			info.OOMScoreAdj = new(33)
			c.change(info)
			_ = os.Remove(info.Stdout)
			chmodUp(t, lt.sandbox)
			if out := lt.run(t, info); !strings.Contains(strings.ReplaceAll(out, " \n", "\n"), c.want) {
				t.Errorf("got\n%s\nwant\n%s", out, c.want)
			}
		})
	}
	// Without any, all is as the agent was started.
	info := lt.info("ulimit -S -n; cat /proc/self/oom_score_adj")
	_ = os.Remove(info.Stdout)
	own, err := os.ReadFile("/proc/self/oom_score_adj")
	if err != nil {
		t.Fatal(err)
	}
	if out, want := lt.run(t, info), softLimit(t)+"\n"+strings.TrimSpace(string(own)); out != want {
		t.Errorf("limits of a plain container: got %q, want %q", out, want)
	}
}

// allowAll is a seccomp program: return SECCOMP_RET_ALLOW.
var allowAll = []byte{0x06, 0, 0, 0, 0, 0, 0xff, 0x7f}

func softLimit(t *testing.T) string {
	t.Helper()
	pid, out := 0, filepath.Join(t.TempDir(), "out")
	f, err := os.Create(out)
	if err == nil {
		defer f.Close()
		pid, err = syscall.ForkExec("/bin/sh", []string{"sh", "-c", "ulimit -S -n"}, &syscall.ProcAttr{Files: []uintptr{0, f.Fd(), 2}})
	}
	if err == nil {
		_, err = syscall.Wait4(pid, nil, 0, nil)
	}
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(b))
}

// chmodUp lets everybody reach a directory below the test's own ones.
func chmodUp(t *testing.T, dir string) {
	t.Helper()
	for ; dir != os.TempDir() && dir != "/"; dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
}

// TestSupervisorIsNoWayOut: the process above a container keeps nothing open that leads
// out of it, and cannot be looked into by who has the same user.
func TestSupervisorIsNoWayOut(t *testing.T) {
	lt := newLinux(t)
	root, mounts := rootFS(t)
	info := lt.info(`echo ready >/mnt/ready; kill -KILL 1; kill -STOP 1; echo survived >/mnt/survived; cat /proc/1/environ >/mnt/environ; (ls /proc/1/fd; ls /proc/1/root/; cat /proc/1/mem) >/mnt/look 2>&1; echo done >/mnt/done; sleep 1000`)
	info.CloneFlags, info.RootFS, info.Dir = unix.CLONE_NEWPID|unix.CLONE_NEWNS, root, "/"
	info.Mounts = slices.Concat(mounts, []isolation.Mount{procMount, {Source: lt.sandbox, Target: "/mnt", Flags: unix.MS_BIND, Make: supervisor.MakeDirectory}})
	// As root, but without rights over others.
	info.Capabilities = &isolation.Capabilities{}
	id := lt.start(t, nil, info)
	lt.read(t, "done")
	lt.read(t, "survived")
	if b := lt.read(t, "look"); strings.Count(b, "ermission denied") < 2 {
		t.Errorf("a look into the supervisor: got %s", b)
	}
	status, err := lt.Status(id)
	if err != nil {
		t.Fatal(err)
	}
	above := "/proc/" + strconv.Itoa(status.Supervisor)
	entries, err := os.ReadDir(above + "/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		target, err := os.Readlink(above + "/fd/" + e.Name())
		if err != nil {
			continue
		}
		flags, err := os.ReadFile(above + "/fdinfo/" + e.Name())
		if err != nil {
			continue
		}
		switch {
		case target == "/dev/null", strings.HasPrefix(target, "anon_inode:"): // the runtime's poller
		case strings.Contains(string(flags), "flags:\t02") || strings.Contains(string(flags), "flags:\t010") || strings.Contains(string(flags), "1\n"):
			if !strings.HasPrefix(target, lt.dir) {
				t.Errorf("descriptor %s is %s: %s", e.Name(), target, flags)
			}
		default:
			t.Errorf("descriptor %s is %s: %s", e.Name(), target, flags)
		}
	}
	if exe, err := os.Readlink(above + "/exe"); err != nil || !strings.HasPrefix(exe, "/memfd:") {
		t.Errorf("program of the supervisor: got %q, %v", exe, err)
	}
	if r, err := os.Readlink(above + "/root"); err != nil || r != "/" {
		t.Errorf("root of the supervisor: got %q, %v", r, err)
	}
	if _, err := os.Stat(above + "/root/etc/own"); err != nil {
		t.Errorf("root of the supervisor is not the container's: %v", err)
	}
}

func TestNestedNamespaces(t *testing.T) {
	lt := newLinux(t)
	root, mounts := rootFS(t)
	info := lt.info(`mkdir -p /only; echo here >/only/inside; echo $$ >/mnt/parent.pid; exec sleep 1000`)
	info.CloneFlags, info.RootFS, info.Dir, info.Hostname = allNamespaces, root, "/", "inside"
	info.Mounts = slices.Concat(mounts, []isolation.Mount{procMount, {Source: lt.sandbox, Target: "/mnt", Flags: unix.MS_BIND, Make: supervisor.MakeDirectory}})
	parent := lt.start(t, nil, info)
	lt.read(t, "parent.pid")
	// Without PATH in the root of the agent's: the lookup happens inside.
	debug := lt.info("")
	debug.Path, debug.Argv = "sh", []string{"sh", "-c", `echo $$; cat /only/inside; hostname; cat /proc/1/comm; pwd; ls -l /proc/self/fd | grep -c -- '->'; (setsid sleep 1000 & echo $! >/mnt/stray.pid); echo done >/mnt/done; sleep 1000`}
	debug.Dir, debug.EnterFlags = "/only", allNamespaces
	child := lt.start(t, parent, debug)
	lt.read(t, "done")
	out := strings.Split(lt.read(t, "stdout"), "\n")
	if len(out) != 6 || out[1] != "here" || out[2] != "inside" || out[3] != "supervisor" || out[4] != "/only" || out[5] != "4" {
		t.Errorf("output: got %q", out)
	}
	p, err := lt.Status(parent)
	if err != nil {
		t.Fatal(err)
	}
	c, err := lt.Status(child)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range []string{"pid", "mnt", "ipc", "uts", "net", "cgroup"} {
		a, err1 := os.Readlink("/proc/" + strconv.Itoa(p.PID) + "/ns/" + n)
		b, err2 := os.Readlink("/proc/" + strconv.Itoa(c.PID) + "/ns/" + n)
		if err1 != nil || err2 != nil || a != b {
			t.Errorf("namespace %s: got %s, %v, want %s, %v", n, b, err2, a, err1)
		}
	}
	if err := lt.Kill(child, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if got, err := lt.Wait(testContext(t), child); err != nil || got != (isolation.ExitStatus{Known: true, Status: int(syscall.SIGTERM)}) {
		t.Errorf("status of the child: got %+v, %v", got, err)
	}
	// What it left in its parent's pid namespace went with it.
	b, err := os.ReadFile("/proc/" + strconv.Itoa(p.PID) + "/status")
	if err != nil || !alive(p.PID) {
		t.Fatalf("the parent ended: %s, %v", b, err)
	}
	if n := processesIn(t, p.PID); n != 2 {
		t.Errorf("processes in the parent's pid namespace: got %d, want 2", n)
	}
	// And a deeper one goes with the parent.
	deep := lt.info("sleep 1000")
	deep.EnterFlags, deep.Dir = allNamespaces, "/"
	middle := lt.start(t, parent, deep)
	bottom := lt.start(t, middle, deep)
	if err := lt.Destroy(testContext(t), parent); err != nil {
		t.Fatal(err)
	}
	for _, id := range []*mesos.ContainerID{middle, bottom, parent} {
		if got, err := lt.Wait(testContext(t), id); err != nil || got != (isolation.ExitStatus{Known: true, Status: int(syscall.SIGKILL)}) {
			t.Errorf("status of %s: got %+v, %v", isolation.Key(id), got, err)
		}
	}
	if err := lt.Remove(parent); err != nil {
		t.Fatal(err)
	}
	if _, err := lt.Status(bottom); !errors.Is(err, isolation.ErrUnknownContainer) {
		t.Errorf("status after remove: %v", err)
	}
}

// processesIn counts the processes of a pid namespace.
func processesIn(t *testing.T, pid int) (n int) {
	t.Helper()
	own, err := os.Readlink("/proc/" + strconv.Itoa(pid) + "/ns/pid")
	if err != nil {
		t.Fatal(err)
	}
	all, err := filepath.Glob("/proc/[0-9]*/ns/pid")
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range all {
		if ns, err := os.Readlink(p); err == nil && ns == own {
			n++
		}
	}
	return n
}

// TestForkBomb: a container that forks without end is ended, with a pid namespace of its
// own and without.
func TestForkBomb(t *testing.T) {
	for name, flags := range map[string]uintptr{"own pid namespace": unix.CLONE_NEWPID | unix.CLONE_NEWNS, "none": 0} {
		t.Run(name, func(t *testing.T) {
			lt := newLinux(t)
			// Bounded only so that a failure leaves the machine usable.
			info := lt.info(`ulimit -u 4000; echo ready >ready; while :; do (while :; do (sleep 0.2 & sleep 0.2 &) & sleep 0.01; done) & sleep 0.05; done`)
			info.CloneFlags = flags
			if flags != 0 {
				info.Mounts = []isolation.Mount{procMount}
			}
			id := lt.start(t, nil, info)
			lt.read(t, "ready")
			s, err := lt.Status(id)
			if err != nil {
				t.Fatal(err)
			}
			if err := lt.Destroy(testContext(t), id); err != nil {
				t.Fatal(err)
			}
			if got, err := lt.Wait(testContext(t), id); err != nil || got != (isolation.ExitStatus{Known: true, Status: int(syscall.SIGKILL)}) {
				t.Errorf("status: got %+v, %v", got, err)
			}
			if alive(s.Supervisor) || alive(s.PID) {
				t.Error("the container survived")
			}
		})
	}
}

// TestSupervisorStopped: the process above a container is stopped, and what it left runs
// in another session.
func TestSupervisorStopped(t *testing.T) {
	lt := newLinux(t)
	info := lt.info(`setsid sleep 1000 & echo $! >stray.pid; echo $$ >main.pid; sleep 1000`)
	id := lt.start(t, nil, info)
	stray, err := strconv.Atoi(lt.read(t, "stray.pid"))
	if err != nil {
		t.Fatal(err)
	}
	s, err := lt.Status(id)
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(s.Supervisor, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	if err := lt.Destroy(testContext(t), id); err != nil {
		t.Fatal(err)
	}
	if got, err := lt.Wait(testContext(t), id); err != nil || got != (isolation.ExitStatus{Known: true, Status: int(syscall.SIGKILL)}) {
		t.Errorf("status: got %+v, %v", got, err)
	}
	if alive(stray) || alive(s.PID) || alive(s.Supervisor) {
		t.Error("something survived")
	}
}

// TestOrphanCgroup: the runtime directory of a container was lost, and it lives.
func TestOrphanCgroup(t *testing.T) {
	lt := newLinux(t)
	id := lt.start(t, nil, lt.info("echo ready >ready; sleep 1000"))
	lt.read(t, "ready")
	s, err := lt.Status(id)
	if err != nil {
		t.Fatal(err)
	}
	if err := lt.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(s.RuntimeDir); err != nil {
		t.Fatal(err)
	}
	lt.open(t)
	ids, err := lt.Recover(testContext(t))
	if err != nil || len(ids) != 1 || isolation.Key(ids[0]) != isolation.Key(id) {
		t.Fatalf("recovered: got %v, %v", ids, err)
	}
	if err := lt.Destroy(testContext(t), id); err != nil {
		t.Fatal(err)
	}
	if alive(s.PID) {
		t.Error("it runs")
	}
	if err := lt.Remove(id); err != nil {
		t.Fatal(err)
	}
}
