package cgroup

import (
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"

	mesos "clusterd/api/mesos/v1"
	"clusterd/isolation"
	"clusterd/isolation/cgroups"
)

// minMemory is the least that a container gets (constants.hpp).
const minMemory = 32 << 20

// unlimited is above what any limit of v1 can be: it rounds "none" to whole pages.
const unlimited = 1 << 62

// memory is cgroups/mem (src/slave/containerizer/mesos/isolators/cgroups/subsystems/
// memory.cpp, .../cgroups2/controllers/memory.cpp).
type memory struct {
	options *Options
	version int
	tree    *cgroups.Tree
	log     zerolog.Logger
	oom     *oomWatch
	// memsw says that memory and swap have a common limit, on v1.
	memsw bool
}

// memoryState is what is remembered of a container's memory.
type memoryState struct {
	// request is what was asked for, in bytes.
	request uint64
	// limited says that the hard limit was set once.
	limited bool
	// stop ends the watch for an OOM.
	stop func()
	// pressure counts the events of v1, by level.
	pressure [3]*eventCounter
}

func newMemory(s *Set) (controller, error) {
	m := &memory{options: &s.options, version: s.tree.Version("memory"), tree: s.tree, log: s.log, oom: &oomWatch{}}
	root, err := s.tree.Root("memory")
	if err != nil {
		return nil, err
	}
	if m.version == 2 {
		// A container's protection is at most that of the cgroup above it.
		if err := writeIfThere(filepath.Join(root, "memory.low"), "max"); err != nil {
			return nil, err
		}
		return m, nil
	}
	// The kernel kills; Mesos does not do it by itself either.
	if err := cgroups.Write(filepath.Join(root, "memory.oom_control"), "0"); err != nil {
		return nil, fmt.Errorf("enable the OOM killer: %w", err)
	}
	m.memsw = cgroups.Exists(filepath.Join(root, "memory.memsw.limit_in_bytes"))
	if s.options.LimitSwap && !m.memsw {
		return nil, fmt.Errorf("--cgroups_limit_swap: %w: memory.memsw.limit_in_bytes (boot the kernel with swapaccount=1)", cgroups.ErrUnavailable)
	}
	return m, nil
}

func writeIfThere(path, value string) error {
	if err := cgroups.Write(path, value); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

func (m *memory) prepare(c *container, config *isolation.ContainerConfig) (*isolation.Preparation, error) {
	if err := m.listen(c); err != nil {
		return nil, err
	}
	return &isolation.Preparation{OOMScoreAdj: oomScoreAdj(config)}, nil
}

func (m *memory) recover(c *container, state *isolation.ContainerState) error {
	if err := m.listen(c); err != nil {
		return err
	}
	s := c.state.(*memoryState)
	s.limited = true
	request, _ := isolation.ScalarSum(state.Config.Resources, "mem")
	s.request = bytesOf(request)
	// It may have happened while no agent looked.
	if l, ok := m.reached(c); ok {
		c.reportLocked(l)
	}
	return nil
}

// oomScoreAdj makes containers that may use more than they asked for the first ones to
// go when the whole machine is out of memory, and among these the ones that asked for
// least. As in Mesos it is set for tasks only, not for executors that have others below
// them, nor for DEBUG containers.
func oomScoreAdj(config *isolation.ContainerConfig) *int {
	if config.Class == isolation.ClassDebug || config.Builtin != isolation.BuiltinCommandExecutor && config.ID.GetParent() == nil {
		return nil
	}
	mem, _ := isolation.ScalarSum(config.Resources, "mem")
	request := bytesOf(mem)
	limit, ok := limitOf(config.Limits, "mem")
	if !ok || !math.IsInf(limit, 1) && bytesOf(limit) <= request {
		return nil
	}
	var info unix.Sysinfo_t
	if unix.Sysinfo(&info) != nil || info.Totalram == 0 {
		return nil
	}
	total := info.Totalram * uint64(info.Unit)
	return new(max(1000-int(1000*min(request, total)/total), 0))
}

// bytesOf is a number of megabytes in bytes, at least the least that a container gets.
func bytesOf(mb float64) uint64 {
	if math.IsNaN(mb) || mb < minMemory>>20 {
		return minMemory
	}
	return uint64(min(mb, 1<<40) * (1 << 20))
}

func (m *memory) update(c *container, resources []*mesos.Resource, limits map[string]*mesos.Value_Scalar) error {
	s := c.state.(*memoryState)
	mem, _ := isolation.ScalarSum(resources, "mem")
	s.request = bytesOf(mem)
	limit, infinite := s.request, false
	if l, ok := limitOf(limits, "mem"); ok {
		limit, infinite = bytesOf(l), math.IsInf(l, 1)
	}
	var err error
	if m.version == 2 {
		err = m.update2(c, s, limit, infinite)
	} else {
		err = m.update1(c, s, limit, infinite)
	}
	if err == nil {
		s.limited = true
	}
	return err
}

func (m *memory) update1(c *container, s *memoryState, limit uint64, infinite bool) error {
	dir := c.dirs[0]
	if err := cgroups.Write(filepath.Join(dir, "memory.soft_limit_in_bytes"), strconv.FormatUint(s.request, 10)); err != nil {
		return err
	}
	now, err := cgroups.ReadUint(filepath.Join(dir, "memory.limit_in_bytes"))
	if err != nil {
		return err
	}
	text := "-1"
	if !infinite {
		text = strconv.FormatUint(limit, 10)
	}
	setMem := func() error { return cgroups.Write(filepath.Join(dir, "memory.limit_in_bytes"), text) }
	setSwap := func() error {
		if !m.options.LimitSwap {
			return nil
		}
		return cgroups.Write(filepath.Join(dir, "memory.memsw.limit_in_bytes"), text)
	}
	switch {
	case !s.limited:
		// From no limit down: memory first, since its limit may not be above the other.
		if err := setMem(); err != nil {
			return err
		}
		return setSwap()
	case infinite || limit > now:
		if err := setSwap(); err != nil {
			return err
		}
		return setMem()
	case limit < now && m.fits(dir, "memory.usage_in_bytes", limit):
		// Mesos never lowers a limit. Here it is done where nobody is hurt: the kernel
		// refuses to go below what is used.
		if err := setMem(); err != nil {
			return ignoreBusy(err)
		}
		return ignoreBusy(setSwap())
	}
	return nil
}

func ignoreBusy(err error) error {
	if errors.Is(err, unix.EBUSY) || errors.Is(err, unix.EINVAL) {
		return nil
	}
	return err
}

// fits says whether a limit leaves some room above what is used now.
func (m *memory) fits(dir, file string, limit uint64) bool {
	used, err := cgroups.ReadUint(filepath.Join(dir, file))
	return err == nil && used < limit-limit/8
}

func (m *memory) update2(c *container, s *memoryState, limit uint64, infinite bool) error {
	dir := c.dirs[0]
	if err := writeIfThere(filepath.Join(dir, "memory.low"), strconv.FormatUint(s.request, 10)); err != nil {
		return err
	}
	now, err := cgroups.ReadUint(filepath.Join(dir, "memory.max"))
	if err != nil {
		return err
	}
	if s.limited && !infinite && limit <= now && (limit == now || !m.fits(dir, "memory.current", limit)) {
		return nil // to lower it would call the OOM killer
	}
	text, high := "max", "max"
	if !infinite {
		text = strconv.FormatUint(limit, 10)
		if part := m.options.MemoryHigh; part >= 0 && limit > s.request {
			if part == 0 {
				part = 0.9
			}
			high = strconv.FormatUint(s.request+uint64(part*float64(limit-s.request)), 10)
		}
	}
	if err := writeIfThere(filepath.Join(dir, "memory.high"), high); err != nil {
		return err
	}
	if m.options.LimitSwap {
		// v1 bounds memory and swap together by the same number, which leaves none for
		// swap once the memory is used.
		if err := writeIfThere(filepath.Join(dir, "memory.swap.max"), "0"); err != nil {
			return err
		}
	}
	return cgroups.Write(filepath.Join(dir, "memory.max"), text)
}

func (m *memory) usage(c *container, stats *mesos.ResourceStatistics) error {
	if err := memoryUsage(c.dirs[0], m.version, m.options.LimitSwap, stats); err != nil {
		return err
	}
	if m.version == 2 {
		return pressure2(c.dirs[0], stats)
	}
	s := c.state.(*memoryState)
	for n, field := range []**uint64{&stats.MemLowPressureCounter, &stats.MemMediumPressureCounter, &stats.MemCriticalPressureCounter} {
		if s.pressure[n] != nil {
			*field = new(s.pressure[n].value())
		}
	}
	return nil
}

// memoryUsage adds what a cgroup uses. Fields that the kernel does not tell stay unset.
func memoryUsage(dir string, version int, swap bool, stats *mesos.ResourceStatistics) error {
	files := map[string]**uint64{
		"memory.usage_in_bytes": &stats.MemTotalBytes, "memory.kmem.usage_in_bytes": &stats.MemKmemUsageBytes,
		"memory.kmem.tcp.usage_in_bytes": &stats.MemKmemTcpUsageBytes,
	}
	if swap {
		files["memory.memsw.usage_in_bytes"] = &stats.MemTotalMemswBytes
	}
	if version == 2 {
		files = map[string]**uint64{"memory.current": &stats.MemTotalBytes}
	}
	for file, field := range files {
		n, err := cgroups.ReadUint(filepath.Join(dir, file))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		if err == nil {
			*field = new(n)
		}
	}
	b, err := cgroups.Read(filepath.Join(dir, "memory.stat"))
	if err != nil {
		return err
	}
	cgroups.Keyed(b, func(key []byte, n uint64) {
		k := string(key)
		switch {
		case version == 1 && k == "total_cache", version == 2 && k == "file":
			stats.MemFileBytes, stats.MemCacheBytes = new(n), new(n)
		case version == 1 && k == "total_rss", version == 2 && k == "anon":
			stats.MemAnonBytes, stats.MemRssBytes = new(n), new(n)
		case version == 1 && k == "total_mapped_file", version == 2 && k == "file_mapped":
			stats.MemMappedFileBytes = new(n)
		case version == 1 && k == "total_unevictable", version == 2 && k == "unevictable":
			stats.MemUnevictableBytes = new(n)
		case version == 1 && k == "total_swap":
			stats.MemSwapBytes = new(n)
		case version == 2 && k == "kernel":
			stats.MemKmemUsageBytes = new(n)
		case version == 2 && k == "sock":
			stats.MemKmemTcpUsageBytes = new(n)
		}
	})
	if version == 2 {
		if n, err := cgroups.ReadUint(filepath.Join(dir, "memory.swap.current")); err == nil {
			stats.MemSwapBytes = new(n)
			if swap {
				stats.MemTotalMemswBytes = new(stats.GetMemTotalBytes() + n)
			}
		}
	}
	return nil
}

func (m *memory) cleanup(c *container) {
	s, ok := c.state.(*memoryState)
	if !ok {
		return
	}
	if s.stop != nil {
		s.stop()
	}
	for _, p := range s.pressure {
		p.close()
	}
	c.state = nil
}

func (m *memory) status(*container, *mesos.ContainerStatus) error { return nil }
func (m *memory) isolate(*container) error                        { return nil }
func (m *memory) close() error                                    { return m.oom.close() }

// reached says whether the container's own limit has called the OOM killer. One that
// died because a container around it, or the machine, had no memory left is not told to
// have used too much.
func (m *memory) reached(c *container) (isolation.Limitation, bool) {
	dir := c.dirs[0]
	if m.version == 2 {
		if !oomed2(dir) {
			return isolation.Limitation{}, false
		}
		return m.limitation(c), true
	}
	kills, known := counter(filepath.Join(dir, "memory.oom_control"), "oom_kill")
	if !known || kills == 0 || !atLimit1(dir) {
		return isolation.Limitation{}, false
	}
	return m.limitation(c), true
}

// oomed2 says whether a process was killed because this very cgroup was at its limit.
func oomed2(dir string) bool {
	kills, _ := counter(filepath.Join(dir, "memory.events"), "oom_kill")
	if kills == 0 {
		return false
	}
	ooms, known := counter(filepath.Join(dir, "memory.events.local"), "oom")
	return !known || ooms > 0 // kernels before 5.3 do not tell whose limit it was
}

// atLimit1 says whether the cgroup has been at its limit, of memory or of memory and
// swap. The kernel tells of an OOM also all cgroups below the one that is at its limit.
func atLimit1(dir string) bool {
	for _, prefix := range [...]string{"memory.", "memory.memsw."} {
		limit, err := cgroups.ReadUint(filepath.Join(dir, prefix+"limit_in_bytes"))
		if err != nil || limit >= unlimited {
			continue
		}
		most, err := cgroups.ReadUint(filepath.Join(dir, prefix+"max_usage_in_bytes"))
		if err != nil || most+(1<<20) >= limit {
			return true
		}
	}
	return false
}

// counter reads one number of a file of keys.
func counter(path, key string) (value uint64, ok bool) {
	b, err := cgroups.Read(path)
	if err != nil {
		return 0, false
	}
	cgroups.Keyed(b, func(k []byte, n uint64) {
		if string(k) == key {
			value, ok = n, true
		}
	})
	return value, ok
}

// limitation describes an OOM: what was asked for, how much there was at most, and what
// it was used for. The beginning of the message is Mesos's.
func (m *memory) limitation(c *container) isolation.Limitation {
	dir := c.dirs[0]
	files := [...]string{"memory.limit_in_bytes", "memory.max_usage_in_bytes"}
	if m.version == 2 {
		files = [...]string{"memory.max", "memory.peak"} // the second one since 5.19
	}
	limit, limitErr := cgroups.ReadUint(filepath.Join(dir, files[0]))
	used, err := cgroups.ReadUint(filepath.Join(dir, files[1]))
	if err != nil {
		used = limit
	}
	var b strings.Builder
	b.WriteString("Memory limit exceeded: ")
	s := c.state.(*memoryState)
	switch {
	case limitErr != nil || s.request == limit:
		fmt.Fprintf(&b, "Requested: %s ", formatBytes(s.request))
	default:
		fmt.Fprintf(&b, "Requested: %s Limit: %s ", formatBytes(s.request), formatBytes(limit))
	}
	fmt.Fprintf(&b, "Maximum Used: %s\n", formatBytes(used))
	if stat, err := cgroups.Read(filepath.Join(dir, "memory.stat")); err == nil {
		b.WriteString("\nMEMORY STATISTICS: \n" + consumers(stat))
	}
	return isolation.Limitation{
		Resources: []*mesos.Resource{{
			Name: new("mem"), Type: mesos.Value_SCALAR.Enum(), Scalar: &mesos.Value_Scalar{Value: new(float64(used) / (1 << 20))},
		}},
		Reason:  mesos.TaskStatus_REASON_CONTAINER_LIMITATION_MEMORY,
		Message: b.String(),
	}
}

// consumers are the greatest lines of memory.stat that are amounts of memory and not
// counts of events.
func consumers(stat []byte) string {
	amounts := []string{
		"anon", "file", "kernel", "kernel_stack", "pagetables", "percpu", "sock", "shmem", "file_mapped", "file_dirty", "slab", "vmalloc", // v2
		"total_cache", "total_rss", "total_shmem", "total_mapped_file", "total_dirty", "total_swap", "total_unevictable", // v1
	}
	type line struct {
		key string
		n   uint64
	}
	var lines []line
	cgroups.Keyed(stat, func(key []byte, n uint64) {
		if n > 0 && slices.Contains(amounts, string(key)) {
			lines = append(lines, line{string(key), n})
		}
	})
	slices.SortStableFunc(lines, func(a, b line) int { return int(min(max(int64(b.n)-int64(a.n), -1), 1)) })
	var b strings.Builder
	for _, l := range lines[:min(len(lines), 8)] {
		fmt.Fprintf(&b, "%s %d\n", l.key, l.n)
	}
	return b.String()
}

// formatBytes writes bytes as Mesos does: in the greatest unit that loses nothing
// (stout's bytes.hpp).
func formatBytes(n uint64) string {
	unit := 0
	for n > 0 && n%1024 == 0 && unit < 4 {
		n, unit = n/1024, unit+1
	}
	return strconv.FormatUint(n, 10) + [...]string{"B", "KB", "MB", "GB", "TB"}[unit]
}
