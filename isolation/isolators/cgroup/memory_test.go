package cgroup_test

import (
	"math"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	mesos "clusterd/api/mesos/v1"
	"clusterd/isolation"
	"clusterd/isolation/cgroups"
	"clusterd/isolation/isolationtest"
	"clusterd/isolation/isolators/cgroup"
)

func TestOutOfMemory(t *testing.T) {
	f := newSet(t, cgroup.Options{})
	i := f.isolator(t, "cgroups/mem")
	c := config(t, newID("c1"), 1, 64)
	p := f.launch(t, c, "hog", i)
	l := limitation(t, i, c.ID)
	// What the memory went to is there only if the process still is when it is looked at;
	// TestConsumers has how it is written.
	if l.Reason != mesos.TaskStatus_REASON_CONTAINER_LIMITATION_MEMORY || !strings.HasPrefix(l.Message, "Memory limit exceeded: Requested: 64MB Maximum Used: 6") ||
		!strings.Contains(l.Message, "\n\nMEMORY STATISTICS: \n") {
		t.Errorf("limitation: got %v %q", l.Reason, l.Message)
	}
	if mem, ok := isolation.ScalarSum(l.Resources, "mem"); !ok || mem < 60 || mem > 65 {
		t.Errorf("resources: got %v", l.Resources)
	}
	<-p.ended
	noLimitation(t, i, c.ID) // it was reported
}

// The process is gone before anybody has heard of the OOM.
func TestOutOfMemoryPostMortem(t *testing.T) {
	f := newSet(t, cgroup.Options{})
	i := f.isolator(t, "cgroups/mem")
	c := config(t, newID("c1"), 1, 32)
	p := f.launch(t, c, "hog", i)
	<-p.ended
	var l isolation.Limitation
	eventually(t, "the limitation is known", func() bool {
		var ok bool
		l, ok = i.(isolation.PostMortem).Reached(t.Context(), c.ID)
		return ok
	})
	if !strings.HasPrefix(l.Message, "Memory limit exceeded: Requested: 32MB") {
		t.Errorf("limitation: got %q", l.Message)
	}
	limits, err := i.Watch(c.ID)
	if err != nil {
		t.Fatal(err)
	}
	select {
	case l := <-limits:
		t.Errorf("watch: got a second limitation %q", l.Message)
	default:
	}
}

// The container runs out of memory while no agent is there.
func TestOutOfMemoryWhileAway(t *testing.T) {
	f := newSet(t, cgroup.Options{})
	i := f.isolator(t, "cgroups/mem")
	c := config(t, newID("c1"), 1, 32)
	quiet := config(t, newID("c2"), 1, 32)
	p := start(t, "hog")
	for _, c := range []*isolation.ContainerConfig{c, quiet} {
		if _, err := i.Prepare(t.Context(), c); err != nil {
			t.Fatal(err)
		}
	}
	if err := i.Isolate(t.Context(), c.ID, p.cmd.Process.Pid); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	p.say(t, "go")
	<-p.ended

	f.open(t, cgroup.Options{})
	i = f.isolator(t, "cgroups/mem")
	if err := i.Recover(t.Context(), []isolation.ContainerState{{Config: c}, {Config: quiet}}, nil); err != nil {
		t.Fatal(err)
	}
	if l := limitation(t, i, c.ID); l.Reason != mesos.TaskStatus_REASON_CONTAINER_LIMITATION_MEMORY {
		t.Errorf("limitation: got %v", l)
	}
	noLimitation(t, i, quiet.ID)
	for _, c := range []*isolation.ContainerConfig{c, quiet} {
		if err := i.Cleanup(t.Context(), c.ID); err != nil {
			t.Fatal(err)
		}
	}
}

// Whose limit it was is told from whose it was not.
func TestOutOfMemoryNested(t *testing.T) {
	for _, c := range []struct {
		name           string
		parent, nested float64
	}{{"Nested", 256, 32}, {"Parent", 32, 256}} {
		t.Run(c.name, func(t *testing.T) {
			f := newSet(t, cgroup.Options{})
			i := f.isolator(t, "cgroups/mem")
			parent, nested := config(t, newID("p"), 1, c.parent), unshared(config(t, newID("p", "n"), 1, c.nested))
			f.launch(t, parent, "idle", i).line(t)
			p := f.launch(t, nested, "hog", i)
			guilty, other := nested, parent
			if c.parent < c.nested {
				guilty, other = parent, nested
			}
			limitation(t, i, guilty.ID)
			<-p.ended
			noLimitation(t, i, other.ID)
		})
	}
}

func TestMemoryLimits(t *testing.T) {
	f := newSet(t, cgroup.Options{})
	i := f.isolator(t, "cgroups/mem")
	v2 := f.tree.Version("memory") == 2
	id := newID("c1")
	c := config(t, id, 1, 64)
	p := f.launch(t, c, "hold 40", i)
	if got := p.line(t); got != "ready" {
		t.Fatalf("got %q", got)
	}
	check := func(what string, soft, hard int64) {
		t.Helper()
		softFile, hardFile := "memory.soft_limit_in_bytes", "memory.limit_in_bytes"
		if v2 {
			softFile, hardFile = "memory.low", "memory.max"
		}
		if got := f.file(t, id, "memory", softFile); got != strconv.FormatInt(soft<<20, 10) {
			t.Errorf("%s: %s: got %s, want %d MB", what, softFile, got, soft)
		}
		if got := f.file(t, id, "memory", hardFile); got != strconv.FormatInt(hard<<20, 10) && (hard >= 0 || got != "max" && len(got) < 19) {
			t.Errorf("%s: %s: got %s, want %d MB", what, hardFile, got, hard)
		}
	}
	update := func(mem, limit float64) {
		t.Helper()
		var limits map[string]*mesos.Value_Scalar
		if limit != 0 {
			limits = map[string]*mesos.Value_Scalar{"mem": {Value: &limit}}
		}
		if err := i.Update(t.Context(), id, []*mesos.Resource{isolationtest.Scalar("mem", mem)}, limits); err != nil {
			t.Fatal(err)
		}
	}
	check("prepared", 64, 64)
	update(128, 0)
	check("raised", 128, 128)
	update(128, 256)
	check("with a limit", 128, 256)
	if v2 {
		if got, want := f.file(t, id, "memory", "memory.high"), strconv.Itoa((128<<20+128<<20*9/10)&^4095); got != want {
			t.Errorf("memory.high: got %s, want %s", got, want)
		}
	}
	update(96, math.Inf(1))
	check("without end", 96, -1)
	update(96, 0)
	check("lowered where there is room", 96, 96)
	update(36, 0)
	check("not lowered to what is used", 36, 96)
	update(1, 0)
	check("the least", 32, 96)
	s := usage(t, i, id)
	if s.GetMemTotalBytes() < 40<<20 || s.GetMemRssBytes() < 40<<20 || s.GetMemAnonBytes() != s.GetMemRssBytes() || s.MemFileBytes == nil || s.MemCacheBytes == nil ||
		s.MemMappedFileBytes == nil || s.MemUnevictableBytes == nil || s.MemKmemUsageBytes == nil || s.MemKmemTcpUsageBytes == nil {
		t.Errorf("statistics: got %v", s)
	}
	if s.MemLowPressureCounter == nil || s.MemMediumPressureCounter == nil || s.MemCriticalPressureCounter == nil {
		t.Errorf("pressure counters: got %v", s)
	}
	noLimitation(t, i, id)
}

// The kernel takes back what it can, and that is counted.
func TestMemoryPressure(t *testing.T) {
	f := newSet(t, cgroup.Options{})
	i := f.isolator(t, "cgroups/mem")
	c := config(t, newID("c1"), 1, 32)
	f.launch(t, c, "hog", i)
	limitation(t, i, c.ID)
	eventually(t, "pressure is counted", func() bool {
		s := usage(t, i, c.ID)
		return s.GetMemLowPressureCounter()+s.GetMemMediumPressureCounter()+s.GetMemCriticalPressureCounter() > 0
	})
}

func TestLimitSwap(t *testing.T) {
	f := newSet(t, cgroup.Options{LimitSwap: true})
	i := f.isolator(t, "cgroups/mem")
	c := config(t, newID("c1"), 1, 64)
	if _, err := i.Prepare(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	for _, mem := range []float64{64, 128, 48} {
		if err := i.Update(t.Context(), c.ID, []*mesos.Resource{isolationtest.Scalar("mem", mem)}, nil); err != nil {
			t.Fatal(err)
		}
		file, want := "memory.memsw.limit_in_bytes", strconv.Itoa(int(mem)<<20)
		if f.tree.Version("memory") == 2 {
			file, want = "memory.swap.max", "0"
			if dir, _, _ := f.tree.Dir(c.ID, "memory"); !cgroups.Exists(filepath.Join(dir, file)) {
				t.Skip("the kernel counts no swap")
			}
		}
		if got := f.file(t, c.ID, "memory", file); got != want {
			t.Errorf("%s: got %s, want %s", file, got, want)
		}
	}
	if usage(t, i, c.ID).MemTotalMemswBytes == nil {
		t.Error("statistics: got no mem_total_memsw_bytes")
	}
}

func TestOOMScoreAdj(t *testing.T) {
	f := newSet(t, cgroup.Options{})
	i := f.isolator(t, "cgroups/mem")
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		t.Fatal(err)
	}
	total := info.Totalram * uint64(info.Unit)
	more := map[string]*mesos.Value_Scalar{"mem": {Value: new(math.Inf(1))}}
	for n, c := range []struct {
		name    string
		builtin isolation.Builtin
		limits  map[string]*mesos.Value_Scalar
		want    bool
	}{
		{"command task", isolation.BuiltinCommandExecutor, more, true},
		{"without a limit", isolation.BuiltinCommandExecutor, nil, false},
		{"executor", isolation.BuiltinNone, more, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			config := config(t, newID("c"+strconv.Itoa(n)), 1, 64)
			config.Builtin, config.Limits = c.builtin, c.limits
			p, err := i.Prepare(t.Context(), config)
			if err != nil {
				t.Fatal(err)
			}
			want := 1000 - int(1000*(64<<20)/total)
			if got := p.OOMScoreAdj; (got != nil) != c.want || got != nil && *got != want {
				t.Errorf("got %v, want %d (%v)", got, want, c.want)
			}
			if err := i.Cleanup(t.Context(), config.ID); err != nil {
				t.Fatal(err)
			}
		})
	}
}
