package cgroup_test

import (
	"errors"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	mesos "clusterd/api/mesos/v1"
	"clusterd/isolation"
	"clusterd/isolation/cgroups"
	"clusterd/isolation/isolationtest"
	"clusterd/isolation/isolators/cgroup"
)

func TestConformance(t *testing.T) {
	for _, name := range cgroup.Names() {
		t.Run(name, func(t *testing.T) {
			isolationtest.Isolator(t, name, func(t *testing.T, _ string) isolation.Isolator {
				return newSet(t, cgroup.Options{}).isolator(t, name)
			})
		})
	}
}

func TestCPU(t *testing.T) {
	f := newSet(t, cgroup.Options{RevocableLowPriority: true})
	i := f.isolator(t, "cgroups/cpu")
	v2 := f.tree.Version("cpu") == 2
	revocable := isolationtest.Scalar("cpus", 4)
	revocable.Revocable = &mesos.Resource_RevocableInfo{}
	infinite := map[string]*mesos.Value_Scalar{"cpus": {Value: new(math.Inf(1))}}
	for n, c := range []struct {
		name                  string
		resources             []*mesos.Resource
		limits                map[string]*mesos.Value_Scalar
		shares, quota         string
		weight, max           string
		thenShares, thenQuota string
	}{
		{"request", []*mesos.Resource{isolationtest.Scalar("cpus", 1.5)}, nil, "1536", "-1", "150", "max 100000", "", ""},
		{"least", []*mesos.Resource{isolationtest.Scalar("cpus", 0.001)}, nil, "2", "-1", "1", "max 100000", "", ""},
		{"nothing", nil, nil, "2", "-1", "1", "max 100000", "", ""},
		{"revocable", []*mesos.Resource{revocable}, nil, "40", "-1", "4", "max 100000", "", ""},
		{"limit", []*mesos.Resource{isolationtest.Scalar("cpus", 1)}, map[string]*mesos.Value_Scalar{"cpus": {Value: new(2.5)}}, "1024", "250000", "100", "250000 100000", "", ""},
		{"least limit", []*mesos.Resource{isolationtest.Scalar("cpus", 1)}, map[string]*mesos.Value_Scalar{"cpus": {Value: new(0.001)}}, "1024", "1000", "100", "1000 100000", "", ""},
		{"infinite", []*mesos.Resource{isolationtest.Scalar("cpus", 1)}, infinite, "1024", "-1", "100", "max 100000", "", ""},
		{"many", []*mesos.Resource{isolationtest.Scalar("cpus", 1000)}, nil, "262144", "-1", "10000", "max 100000", "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			id := newID("c" + strconv.Itoa(n))
			if _, err := i.Prepare(t.Context(), &isolation.ContainerConfig{ID: id, Resources: c.resources, Limits: c.limits}); err != nil {
				t.Fatal(err)
			}
			check := func(file, want string) {
				t.Helper()
				if got := f.file(t, id, "cpu", file); got != want {
					t.Errorf("%s: got %s, want %s", file, got, want)
				}
			}
			if v2 {
				check("cpu.weight", c.weight)
				check("cpu.max", c.max)
			} else {
				check("cpu.shares", c.shares)
				check("cpu.cfs_quota_us", c.quota)
			}
			// A limit can be taken away again.
			if err := i.Update(t.Context(), id, []*mesos.Resource{isolationtest.Scalar("cpus", 2)}, infinite); err != nil {
				t.Fatal(err)
			}
			if v2 {
				check("cpu.weight", "200")
				check("cpu.max", "max 100000")
			} else {
				check("cpu.shares", "2048")
				check("cpu.cfs_quota_us", "-1")
			}
			if err := i.Cleanup(t.Context(), id); err != nil {
				t.Fatal(err)
			}
		})
	}
}

func TestThrottling(t *testing.T) {
	f := newSet(t, cgroup.Options{EnableCFS: true, CountPIDsAndTIDs: true})
	i := f.isolator(t, "cgroups/cpu")
	c := config(t, newID("c1"), 0.05, 32)
	f.launch(t, c, "burn", i).line(t)
	var s *mesos.ResourceStatistics
	eventually(t, "the container is throttled", func() bool {
		s = usage(t, i, c.ID)
		return s.GetCpusNrThrottled() > 0 && s.GetCpusUserTimeSecs() > 0
	})
	if s.GetCpusNrPeriods() < s.GetCpusNrThrottled() || s.GetCpusThrottledTimeSecs() <= 0 || s.CpusSystemTimeSecs == nil {
		t.Errorf("statistics: got %v", s)
	}
	if s.GetProcesses() != 1 || s.GetThreads() < 2 {
		t.Errorf("processes and threads: got %v", s)
	}
}

func TestForkBomb(t *testing.T) {
	f := newSet(t, cgroup.Options{PidsMax: 30})
	i := f.isolator(t, "cgroups/pids")
	c := config(t, newID("c1"), 1, 32)
	f.launch(t, c, "sh while sleep 1000 & do :; done", i).line(t)
	eventually(t, "a fork was refused", func() bool { return f.file(t, c.ID, "pids", "pids.events") != "max 0" })
	if s := usage(t, i, c.ID); s.GetThreads() == 0 || s.GetThreads() > 30 {
		t.Errorf("threads: got %d", s.GetThreads())
	}
	if err := f.tree.Kill(t.Context(), c.ID); err != nil {
		t.Fatal(err)
	}
	if err := i.Update(t.Context(), c.ID, []*mesos.Resource{isolationtest.Scalar("pids", 77)}, nil); err != nil {
		t.Fatal(err)
	}
	if got := f.file(t, c.ID, "pids", "pids.max"); got != "77" {
		t.Errorf("pids.max: got %s", got)
	}
}

func TestDevices(t *testing.T) {
	zero, kmsg := filepath.Join(t.TempDir(), "zero"), filepath.Join(t.TempDir(), "kmsg")
	f := newSet(t, cgroup.Options{})
	i := f.isolator(t, "cgroups/devices")
	for path, minor := range map[string]uint32{zero: 5, kmsg: 11} {
		if err := unix.Mknod(path, unix.S_IFCHR|0o666, int(unix.Mkdev(1, minor))); err != nil {
			t.Skip(err)
		}
		file, err := os.Open(path)
		if err != nil {
			t.Skipf("the machine itself may not use %s: %v", path, err) // a file system without devices
		}
		file.Close()
	}
	allowed := f.launch(t, config(t, newID("c1"), 1, 32), "open "+zero, i)
	c := config(t, newID("c2"), 1, 32)
	denied := f.launch(t, c, "open "+kmsg, i)
	try := func(what string, p *process, want string) {
		t.Helper()
		p.say(t, "again")
		if got := p.line(t); !strings.HasSuffix(got, want) {
			t.Errorf("%s: got %q, want %q", what, got, want)
		}
	}
	allowed.line(t)
	denied.line(t)
	try("zero", allowed, "<nil>")
	try("kmsg", denied, "operation not permitted")
	devices, ok := f.Devices()
	if !ok {
		t.Fatal("no devices")
	}
	for range 2 {
		if err := devices.Allow(t.Context(), c.ID, 1, 11); err != nil {
			t.Fatal(err)
		}
		try("kmsg that was allowed", denied, "<nil>")
	}
	// Another agent takes it back.
	f.open(t, cgroup.Options{})
	again := f.isolator(t, "cgroups/devices")
	if err := again.Recover(t.Context(), []isolation.ContainerState{{Config: c, PID: denied.cmd.Process.Pid}}, nil); err != nil {
		t.Fatal(err)
	}
	try("kmsg after a restart", denied, "<nil>")
	devices, _ = f.Devices()
	if err := devices.Deny(t.Context(), c.ID, 1, 11); err != nil {
		t.Fatal(err)
	}
	try("kmsg that was denied again", denied, "operation not permitted")
	if err := devices.Allow(t.Context(), newID("nonesuch"), 1, 11); !errors.Is(err, isolation.ErrUnknownContainer) {
		t.Errorf("allow of an unknown container: got %v", err)
	}
}

func TestAllowedDevices(t *testing.T) {
	access := &mesos.DeviceAccess_Access{Read: new(true), Write: new(true)}
	list := func(path string, a *mesos.DeviceAccess_Access) *mesos.DeviceWhitelist {
		return &mesos.DeviceWhitelist{AllowedDevices: []*mesos.DeviceAccess{{Device: &mesos.Device{Path: &path}, Access: a}}}
	}
	kmsg := filepath.Join(t.TempDir(), "kmsg")
	if err := unix.Mknod(kmsg, unix.S_IFCHR|0o666, int(unix.Mkdev(1, 11))); err != nil {
		t.Skip(err)
	}
	f := newSet(t, cgroup.Options{AllowedDevices: list(kmsg, access)})
	p := f.launch(t, config(t, newID("c1"), 1, 32), "open "+kmsg, f.isolator(t, "cgroups/devices"))
	p.line(t)
	p.say(t, "again")
	if got := p.line(t); got != "<nil>" {
		t.Errorf("allowed device: got %q", got)
	}
	for name, l := range map[string]*mesos.DeviceWhitelist{
		"no path": list("", access), "no access": list(kmsg, &mesos.DeviceAccess_Access{}), "no device": list(t.TempDir(), access),
		"not there": list(kmsg+"x", access),
	} {
		if _, err := newSet(t, cgroup.Options{AllowedDevices: l}).Isolator("cgroups/devices"); !errors.Is(err, cgroup.ErrBadDevice) && !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestBlkio(t *testing.T) {
	f := newSet(t, cgroup.Options{})
	i := f.isolator(t, "cgroups/blkio")
	c := config(t, newID("c1"), 1, 32)
	path := filepath.Join(t.TempDir(), "data")
	if f.tree.Version("blkio") == 1 {
		startCounting(t, filepath.Dir(path), f)
	}
	if got := f.launch(t, c, "write "+path, i).line(t); got != "ready <nil>" {
		t.Fatalf("write: got %q", got)
	}
	s := usage(t, i, c.ID).GetBlkioStatistics()
	n := len(s.GetThrottling())
	if n == 0 || s.Throttling[n-1].Device != nil || len(s.Cfq) == 0 || len(s.CfqRecursive) == 0 {
		t.Fatalf("statistics: got %v", s)
	}
	if _, ok := deviceOf(path); !ok {
		t.Skip("the file is on no disk")
	}
	if n < 2 || s.Throttling[0].Device == nil {
		t.Fatalf("statistics: got %v", s)
	}
	var wrote uint64
	for _, v := range s.Throttling[0].IoServiceBytes {
		if v.GetOp() == mesos.CgroupInfo_Blkio_WRITE {
			wrote = v.GetValue()
		}
	}
	if wrote < 1<<20 {
		t.Errorf("bytes written: got %d of %v", wrote, s)
	}
}

// startCounting sets a limit that nobody reaches: since Linux 6.10 the statistics of v1
// begin with the first limit on a device.
func startCounting(t *testing.T, path string, f *fixture) {
	t.Helper()
	root, err := f.tree.Root("blkio")
	if err != nil {
		t.Fatal(err)
	}
	if device, ok := deviceOf(path); ok {
		if err := cgroups.Write(filepath.Join(root, "blkio.throttle.write_bps_device"), device+" 1000000000000"); err != nil {
			t.Fatal(err)
		}
	}
}

// deviceOf is the disk that a file is on.
func deviceOf(path string) (string, bool) {
	var st unix.Stat_t
	if unix.Stat(path, &st) != nil || unix.Major(st.Dev) == 0 {
		return "", false
	}
	return strconv.Itoa(int(unix.Major(st.Dev))) + ":" + strconv.Itoa(int(unix.Minor(st.Dev))), true
}

func TestIOMax(t *testing.T) {
	f := newSet(t, cgroup.Options{})
	f.isolator(t, "cgroups/blkio")
	if f.tree.Version("blkio") != 2 {
		t.Skip("needs cgroup v2")
	}
	device, ok := deviceOf(t.TempDir())
	if !ok {
		t.Skip("there is no disk")
	}
	f.open(t, cgroup.Options{IOMax: []string{device + " wiops=1000"}})
	i := f.isolator(t, "cgroups/blkio")
	c := config(t, newID("c1"), 1, 32)
	if _, err := i.Prepare(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	if got := f.file(t, c.ID, "blkio", "io.max"); !strings.HasPrefix(got, device) || !strings.Contains(got, "wiops=1000") {
		t.Errorf("io.max: got %q", got)
	}
}

// Nested containers that share their parent's cgroups, and one that does not.
func TestSharing(t *testing.T) {
	f := newSet(t, cgroup.Options{})
	cpu, mem := f.isolator(t, "cgroups/cpu"), f.isolator(t, "cgroups/mem")
	parent := config(t, newID("p"), 1, 128)
	shared := config(t, newID("p", "shared"), 0.5, 32)
	debug := unshared(config(t, newID("p", "debug"), 0, 0))
	debug.Class = isolation.ClassDebug
	own := unshared(config(t, newID("p", "own"), 0.5, 32))
	deep := unshared(config(t, newID("p", "shared", "deep"), 0.25, 32))
	for _, c := range []*isolation.ContainerConfig{parent, shared, debug, own, deep} {
		f.launch(t, c, "hold 8", cpu, mem).line(t)
	}
	all := usage(t, mem, parent.ID).GetMemTotalBytes()
	if all < 40<<20 {
		t.Errorf("the parent uses %d bytes, less than all its children", all)
	}
	for _, c := range []*isolation.ContainerConfig{shared, debug} {
		if got := usage(t, mem, c.ID).GetMemTotalBytes(); got < 40<<20 {
			t.Errorf("%s: uses %d bytes, less than its parent", isolation.Key(c.ID), got)
		}
		if err := mem.Update(t.Context(), c.ID, []*mesos.Resource{isolationtest.Scalar("mem", 1024)}, nil); err != nil {
			t.Error(err)
		}
	}
	for _, c := range []*isolation.ContainerConfig{own, deep} {
		if got := usage(t, mem, c.ID).GetMemTotalBytes(); got == 0 || got > 32<<20 {
			t.Errorf("%s: uses %d bytes, want its own", isolation.Key(c.ID), got)
		}
	}
	file := "memory.limit_in_bytes"
	if f.tree.Version("memory") == 2 {
		file = "memory.max"
	}
	for _, c := range []struct {
		id   *mesos.ContainerID
		want int
	}{{parent.ID, 128}, {own.ID, 32}, {deep.ID, 32}} {
		if got := f.file(t, c.id, "memory", file); got != strconv.Itoa(c.want<<20) {
			t.Errorf("%s: limit: got %s", isolation.Key(c.id), got)
		}
	}
	for _, c := range []*isolation.ContainerConfig{deep, own, debug, shared, parent} {
		if err := f.tree.Kill(t.Context(), c.ID); err != nil {
			t.Error(err)
		}
		for _, i := range []isolation.Isolator{mem, cpu} {
			if err := i.Cleanup(t.Context(), c.ID); err != nil {
				t.Error(err)
			}
		}
		if err := f.tree.Destroy(t.Context(), c.ID); err != nil {
			t.Error(err)
		}
	}
	if ids, err := f.tree.Containers(); err != nil || len(ids) != 0 {
		t.Errorf("left: got %v, %v", ids, err)
	}
}

// Containers with a root file system see their own cgroups, read only.
func TestMounts(t *testing.T) {
	f := newSet(t, cgroup.Options{})
	c := config(t, newID("c1"), 1, 32)
	c.RootFS = t.TempDir()
	var mounts []isolation.Mount
	for _, name := range []string{"cgroups/cpu", "cgroups/mem"} {
		p, err := f.isolator(t, name).Prepare(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		mounts = append(mounts, p.Mounts...)
	}
	var got []string
	for _, m := range mounts {
		got = append(got, m.Target)
		if m.Type == "" && (m.Flags&unix.MS_RDONLY == 0 || !strings.HasSuffix(m.Source, f.root+"/c1")) {
			t.Errorf("mount: got %+v", m)
		}
	}
	want := "/sys/fs/cgroup /sys/fs/cgroup/cpu /sys/fs/cgroup/cpuacct /sys/fs/cgroup/memory"
	if f.tree.Version("memory") == 2 {
		want = "/sys/fs/cgroup"
	}
	if strings.Join(got, " ") != want {
		t.Errorf("mounts: got %v, want %s", got, want)
	}
}

// Orphans and containers that are older than a flag.
func TestRecover(t *testing.T) {
	f := newSet(t, cgroup.Options{})
	mem := f.isolator(t, "cgroups/mem")
	known, orphan := config(t, newID("known"), 1, 32), config(t, newID("orphan"), 1, 32)
	p := f.launch(t, known, "idle", mem)
	p.line(t)
	f.launch(t, orphan, "idle", mem).line(t)
	unknown := config(t, newID("unknown"), 1, 32)
	forgotten := f.launch(t, unknown, "idle", mem)
	forgotten.line(t)

	f.open(t, cgroup.Options{EnableCFS: true})
	mem, cpu := f.isolator(t, "cgroups/mem"), f.isolator(t, "cgroups/cpu")
	for _, i := range []isolation.Isolator{cpu, mem} {
		if err := i.Recover(t.Context(), []isolation.ContainerState{{Config: known, PID: p.cmd.Process.Pid}}, []*mesos.ContainerID{orphan.ID}); err != nil {
			t.Fatal(err)
		}
	}
	<-forgotten.ended
	if _, _, ok := f.tree.Dir(unknown.ID, "memory"); ok {
		t.Error("an unknown container still has a cgroup")
	}
	if got := usage(t, mem, known.ID).GetMemTotalBytes(); got == 0 {
		t.Error("the recovered container uses nothing")
	}
	if err := cpu.Update(t.Context(), known.ID, known.Resources, nil); err != nil {
		t.Errorf("update of a container without that cgroup: got %v", err)
	}
	for _, id := range []*mesos.ContainerID{orphan.ID, known.ID} {
		if err := f.tree.Kill(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		for _, i := range []isolation.Isolator{mem, cpu} {
			if err := i.Cleanup(t.Context(), id); err != nil {
				t.Error(err)
			}
		}
	}
	if f.tree.Version("memory") == 1 {
		for _, name := range []string{"known", "orphan"} {
			root, err := f.tree.Root("memory")
			if err != nil {
				t.Fatal(err)
			}
			if cgroups.Exists(filepath.Join(root, name)) {
				t.Errorf("the cgroup of %s is still there", name)
			}
		}
	}
}

func TestAgentSubsystems(t *testing.T) {
	home := func() (restore func()) {
		b, err := os.ReadFile("/proc/self/cgroup")
		if err != nil {
			t.Fatal(err)
		}
		return func() {
			// The test program goes back to where it was.
			for line := range strings.Lines(string(b)) {
				part := strings.SplitN(strings.TrimSpace(line), ":", 3)
				if len(part) != 3 {
					continue
				}
				for _, dir := range []string{filepath.Join("/sys/fs/cgroup", part[1], part[2]), filepath.Join("/sys/fs/cgroup/unified", part[2])} {
					if part[1] == "" || part[1] == "cpuacct" || part[1] == "memory" {
						_ = cgroups.Write(filepath.Join(dir, "cgroup.procs"), strconv.Itoa(os.Getpid()))
					}
				}
			}
		}
	}()
	f := newSet(t, cgroup.Options{})
	root := f.root
	t.Cleanup(func() {
		for _, s := range []string{"cpuacct", "memory"} {
			if dir, ok := f.tree.AgentDir(s); ok {
				_ = os.Remove(filepath.Join(dir, "leaf"))
				if err := os.Remove(dir); err != nil && !os.IsNotExist(err) {
					t.Errorf("%s: %v", root, err)
				}
			}
		}
	})
	t.Cleanup(home)
	f.open(t, cgroup.Options{AgentSubsystems: []string{"cpuacct", "memory"}})
	s, err := f.AgentUsage()
	if err != nil {
		t.Fatal(err)
	}
	if s.CpusUserTimeSecs == nil || s.MemTotalBytes == nil {
		t.Errorf("usage: got %v", s)
	}
	b, err := os.ReadFile("/proc/self/cgroup")
	if err != nil || !strings.Contains(string(b), root) {
		t.Errorf("the agent's cgroups: got %s, %v", b, err)
	}
	if ids, err := f.tree.Containers(); err != nil || len(ids) != 0 {
		t.Errorf("containers: got %v, %v", ids, err)
	}
}

func TestUnknown(t *testing.T) {
	f := newSet(t, cgroup.Options{})
	if _, err := f.Isolator("cgroups/nonesuch"); !errors.Is(err, cgroup.ErrUnknownIsolator) {
		t.Errorf("got %v", err)
	}
	if all := cgroup.Available(f.tree); len(all) < 3 {
		t.Errorf("cgroups/all: got %v", all)
	}
}

func TestNetCls(t *testing.T) {
	o := cgroup.Options{NetClsPrimaryHandle: "0x0012", NetClsSecondaryHandles: "0x0011,0x0012"}
	f := newSet(t, o)
	i := f.isolator(t, "cgroups/net_cls")
	a, b, c := config(t, newID("a"), 1, 32), config(t, newID("b"), 1, 32), config(t, newID("c"), 1, 32)
	shared := config(t, newID("a", "n"), 1, 32)
	for _, c := range []*isolation.ContainerConfig{a, b, shared} {
		f.launch(t, c, "idle", i).line(t)
	}
	check := func(id *mesos.ContainerID, want uint32) {
		t.Helper()
		status := &mesos.ContainerStatus{}
		if err := i.Status(t.Context(), id, status); err != nil {
			t.Fatal(err)
		}
		if got := status.GetCgroupInfo().GetNetCls().GetClassid(); got != want {
			t.Errorf("status of %s: got 0x%x, want 0x%x", isolation.Key(id), got, want)
		}
	}
	check(a.ID, 0x120011)
	check(b.ID, 0x120012)
	check(shared.ID, 0x120011)
	if got := f.file(t, a.ID, "net_cls", "net_cls.classid"); got != strconv.Itoa(0x120011) {
		t.Errorf("classid: got %s", got)
	}
	if _, err := i.Prepare(t.Context(), c); !errors.Is(err, cgroup.ErrNoHandle) {
		t.Errorf("a third container: got %v", err)
	}
	// The next agent knows which are taken.
	f.open(t, o)
	i = f.isolator(t, "cgroups/net_cls")
	if err := i.Recover(t.Context(), []isolation.ContainerState{{Config: a}, {Config: b}}, nil); err != nil {
		t.Fatal(err)
	}
	check(b.ID, 0x120012)
	if _, err := i.Prepare(t.Context(), c); !errors.Is(err, cgroup.ErrNoHandle) {
		t.Errorf("a third container after a restart: got %v", err)
	}
	if err := i.Cleanup(t.Context(), a.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := i.Prepare(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	check(c.ID, 0x120011)
}

func TestPerf(t *testing.T) {
	f := newSet(t, cgroup.Options{PerfEvents: "task-clock,context-switches,cpu-clock,page-faults", PerfInterval: 100 * time.Millisecond, PerfDuration: 50 * time.Millisecond})
	i, err := f.Isolator("cgroups/perf_event")
	if errors.Is(err, cgroups.ErrUnavailable) || errors.Is(err, cgroup.ErrPerfUnavailable) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	busy, idle := config(t, newID("busy"), 1, 32), config(t, newID("idle"), 1, 32)
	f.launch(t, idle, "idle", i).line(t)
	f.launch(t, busy, "burn", i).line(t)
	eventually(t, "the busy one is counted", func() bool { return usage(t, i, busy.ID).GetPerf().GetTaskClock() > 1 })
	eventually(t, "the idle one is counted", func() bool {
		p := usage(t, i, idle.ID).GetPerf()
		return p != nil && p.TaskClock != nil && p.GetTaskClock() == 0
	})
	if p := usage(t, i, busy.ID).GetPerf(); p.GetDuration() != 0.05 || p.GetTimestamp() < 1e9 || p.ContextSwitches == nil || p.PageFaults == nil || p.Cycles != nil {
		t.Errorf("statistics: got %v", p)
	}
}

func TestPerfEventsAreChecked(t *testing.T) {
	for _, c := range []struct {
		o    cgroup.Options
		want error
	}{
		{cgroup.Options{PerfEvents: "task-clock,nonesuch"}, cgroup.ErrUnknownPerfEvent},
		{cgroup.Options{PerfEvents: "task-clock", PerfInterval: 1, PerfDuration: 2}, nil},
	} {
		_, err := newSet(t, c.o).Isolator("cgroups/perf_event")
		if errors.Is(err, cgroups.ErrUnavailable) {
			t.Skip(err)
		}
		if err == nil || c.want != nil && !errors.Is(err, c.want) {
			t.Errorf("%+v: got %v, want %v", c.o, err, c.want)
		}
	}
}
