package cgroup

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"
	"unsafe"

	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	mesos "clusterd/api/mesos/v1"
	"clusterd/isolation"
	"clusterd/isolation/cgroups"
)

// Errors of --perf_events.
var (
	// ErrUnknownPerfEvent says that an event's name means nothing.
	ErrUnknownPerfEvent = errors.New("unknown perf event")
	// ErrPerfUnavailable says that the machine cannot count an event.
	ErrPerfUnavailable = errors.New("perf event is not available")
)

// What --perf_interval and --perf_duration are when they are not given.
const (
	defaultPerfInterval = time.Minute
	defaultPerfDuration = 10 * time.Second
)

// perfEvent is one event that the kernel can count.
type perfEvent struct {
	name   string
	kind   uint32
	config uint64
	field  protoreflect.FieldDescriptor
}

// perfNames are the kernel's generic events, by the names that perf(1) gives them.
var perfNames = func() map[string]perfEvent {
	m := map[string]perfEvent{}
	add := func(kind uint32, config uint64, names ...string) {
		for _, n := range names {
			m[n] = perfEvent{kind: kind, config: config}
		}
	}
	for n, names := range [][]string{
		{"cycles", "cpu-cycles"},
		{"instructions"},
		{"cache-references"},
		{"cache-misses"},
		{"branches", "branch-instructions"},
		{"branch-misses"},
		{"bus-cycles"},
		{"stalled-cycles-frontend", "idle-cycles-frontend"},
		{"stalled-cycles-backend", "idle-cycles-backend"},
		{"ref-cycles"},
	} {
		add(unix.PERF_TYPE_HARDWARE, uint64(n), names...)
	}
	for n, names := range [][]string{
		{"cpu-clock"},
		{"task-clock"},
		{"page-faults", "faults"},
		{"context-switches", "cs"},
		{"cpu-migrations", "migrations"},
		{"minor-faults"},
		{"major-faults"},
		{"alignment-faults"},
		{"emulation-faults"},
	} {
		add(unix.PERF_TYPE_SOFTWARE, uint64(n), names...)
	}
	for n, cache := range []string{"l1-dcache", "l1-icache", "llc", "dtlb", "itlb", "branch", "node"} {
		for op, what := range []string{"load", "store", "prefetch"} {
			plural := what + "s"
			if what == "prefetch" {
				plural = "prefetches"
			}
			add(unix.PERF_TYPE_HW_CACHE, uint64(n|op<<8), cache+"-"+plural)
			add(unix.PERF_TYPE_HW_CACHE, uint64(n|op<<8|1<<16), cache+"-"+what+"-misses")
		}
	}
	return m
}()

// canonical are the names under which PerfStatistics has events that have two.
var canonical = map[string]string{
	"cpu-cycles": "cycles", "branch-instructions": "branches", "idle-cycles-frontend": "stalled-cycles-frontend",
	"idle-cycles-backend": "stalled-cycles-backend", "faults": "page-faults", "cs": "context-switches", "migrations": "cpu-migrations",
}

// parsePerfEvents reads --perf_events.
func parsePerfEvents(list string) ([]perfEvent, error) {
	var events []perfEvent
	seen := make(map[string]bool)
	for name := range strings.SplitSeq(list, ",") {
		name = strings.ToLower(strings.TrimSpace(name))
		if name == "" {
			continue
		}
		e, ok := perfNames[name]
		if !ok {
			return nil, fmt.Errorf("%w: %q", ErrUnknownPerfEvent, name)
		}
		if c, ok := canonical[name]; ok {
			name = c
		}
		e.name = name
		e.field = (*mesos.PerfStatistics)(nil).ProtoReflect().Descriptor().Fields().ByName(protoreflect.Name(strings.ReplaceAll(name, "-", "_")))
		if e.field == nil {
			return nil, fmt.Errorf("%w: %q", ErrUnknownPerfEvent, name)
		}
		if !seen[name] {
			seen[name] = true
			events = append(events, e)
		}
	}
	return events, nil
}

// open begins to count an event: for a cgroup on one processor, or for the caller.
func (e perfEvent) open(pid, processor, flags int) (int, error) {
	attr := unix.PerfEventAttr{
		Type: e.kind, Config: e.config, Size: uint32(unsafe.Sizeof(unix.PerfEventAttr{})),
		Read_format: unix.PERF_FORMAT_TOTAL_TIME_ENABLED | unix.PERF_FORMAT_TOTAL_TIME_RUNNING,
	}
	return unix.PerfEventOpen(&attr, pid, processor, -1, flags|unix.PERF_FLAG_FD_CLOEXEC)
}

// check tries the event on the agent itself.
func (e perfEvent) check() error {
	fd, err := e.open(0, -1, 0)
	switch {
	case err == nil:
		unix.Close(fd)
		return nil
	case errors.Is(err, unix.ENOSYS):
		return fmt.Errorf("%w: %s: the kernel has no perf events", ErrPerfUnavailable, e.name)
	case errors.Is(err, unix.EACCES), errors.Is(err, unix.EPERM):
		return fmt.Errorf("%w: %s: not permitted (see /proc/sys/kernel/perf_event_paranoid): %w", ErrPerfUnavailable, e.name, err)
	}
	return fmt.Errorf("%w: %s: this processor cannot count it: %w", ErrPerfUnavailable, e.name, err)
}

// perf is cgroups/perf_event: from time to time all containers are watched for a while
// (src/slave/containerizer/mesos/isolators/cgroups/subsystems/perf_event.cpp, which runs
// perf(1)). Without events it only makes the cgroup.
type perf struct {
	nothing
	events             []perfEvent
	interval, duration time.Duration
	log                zerolog.Logger
	wg                 sync.WaitGroup

	mu sync.Mutex
	// what follows is guarded by mu.
	samples map[*container]*mesos.PerfStatistics // nil until there is one
	stop    chan struct{}
	closed  bool
}

func newPerfEvent(s *Set) (controller, error) {
	events, err := parsePerfEvents(s.options.PerfEvents)
	if err != nil {
		return nil, err
	}
	p := &perf{
		events: events, interval: s.options.PerfInterval, duration: s.options.PerfDuration,
		log: s.log, samples: make(map[*container]*mesos.PerfStatistics),
	}
	if p.interval <= 0 {
		p.interval = defaultPerfInterval
	}
	if p.duration <= 0 {
		p.duration = min(defaultPerfDuration, p.interval)
	}
	if p.duration > p.interval {
		return nil, fmt.Errorf("--perf_duration of %s is longer than --perf_interval of %s", p.duration, p.interval)
	}
	for _, e := range events {
		if err := e.check(); err != nil {
			return nil, err
		}
	}
	return p, nil
}

func (p *perf) prepare(c *container, _ *isolation.ContainerConfig) (*isolation.Preparation, error) {
	p.add(c)
	return nil, nil
}

func (p *perf) recover(c *container, _ *isolation.ContainerState) error {
	p.add(c)
	return nil
}

// add has a container sampled. The first one starts the sampling.
func (p *perf) add(c *container) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.samples[c] = nil
	if len(p.events) == 0 || p.closed || p.stop != nil {
		return
	}
	stop := make(chan struct{})
	p.stop = stop
	p.wg.Go(func() { p.run(stop) })
}

// run samples until it is stopped.
func (p *perf) run(stop <-chan struct{}) {
	ticker := time.NewTicker(p.interval)
	defer ticker.Stop()
	for {
		p.sample(stop)
		select {
		case <-ticker.C:
		case <-stop:
			return
		}
	}
}

// sample counts all events of all containers for the duration.
func (p *perf) sample(stop <-chan struct{}) {
	processors := onlineProcessors()
	begin := time.Now()
	p.mu.Lock()
	containers := maps.Clone(p.samples)
	p.mu.Unlock()
	counting := make(map[*container][][]int)
	defer func() {
		for _, fds := range counting {
			closeAll(fds)
		}
	}()
	for c := range containers {
		fds, err := p.openAll(c.dirs[0], processors)
		if err != nil && !errors.Is(err, unix.ENOENT) {
			p.log.Warn().Err(err).Str("container_id", isolation.Key(c.id)).Msg("sample perf events")
		}
		if err == nil {
			counting[c] = fds
		}
	}
	timer := time.NewTimer(p.duration)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-stop:
		return
	}
	for c, fds := range counting {
		stats := &mesos.PerfStatistics{Timestamp: new(float64(begin.UnixMicro()) / 1e6), Duration: new(p.duration.Seconds())}
		for n, e := range p.events {
			e.set(stats, fds[n])
		}
		p.mu.Lock()
		if _, ok := p.samples[c]; ok {
			p.samples[c] = stats
		}
		p.mu.Unlock()
	}
}

// openAll begins to count all events of one cgroup, on each processor.
func (p *perf) openAll(dir string, processors []int) (fds [][]int, err error) {
	cgroup, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(cgroup)
	for _, e := range p.events {
		var list []int
		for _, processor := range processors {
			fd, err := e.open(cgroup, processor, unix.PERF_FLAG_PID_CGROUP)
			if err != nil {
				closeAll(append(fds, list))
				return nil, fmt.Errorf("%s on processor %d: %w", e.name, processor, err)
			}
			list = append(list, fd)
		}
		fds = append(fds, list)
	}
	return fds, nil
}

func closeAll(fds [][]int) {
	for _, list := range fds {
		for _, fd := range list {
			unix.Close(fd)
		}
	}
}

// set adds up what the processors have counted. Where there are fewer counters than
// events the kernel counts each one for a part of the time only; what it would have been
// is reckoned from that, as perf(1) does.
func (e perfEvent) set(stats *mesos.PerfStatistics, fds []int) {
	var sum float64
	for _, fd := range fds {
		var b [24]byte
		if n, err := unix.Read(fd, b[:]); err != nil || n != len(b) {
			continue
		}
		value, enabled, running := binary.NativeEndian.Uint64(b[:]), binary.NativeEndian.Uint64(b[8:]), binary.NativeEndian.Uint64(b[16:])
		if running > 0 {
			sum += float64(value) * float64(enabled) / float64(running)
		}
	}
	if e.field.Kind() == protoreflect.DoubleKind { // clocks, in milliseconds
		stats.ProtoReflect().Set(e.field, protoreflect.ValueOfFloat64(sum/1e6))
		return
	}
	stats.ProtoReflect().Set(e.field, protoreflect.ValueOfUint64(uint64(sum)))
}

// onlineProcessors lists the processors that are there now.
func onlineProcessors() []int {
	b, err := cgroups.Read("/sys/devices/system/cpu/online")
	if list, ok := parseList(strings.TrimSpace(string(b))); err == nil && ok {
		return list
	}
	list := make([]int, runtime.NumCPU())
	for n := range list {
		list[n] = n
	}
	return list
}

// parseList reads "0-3,5".
func parseList(s string) (list []int, ok bool) {
	for part := range strings.SplitSeq(s, ",") {
		from, to, isRange := strings.Cut(part, "-")
		if !isRange {
			to = from
		}
		a, errA := strconv.Atoi(from)
		b, errB := strconv.Atoi(to)
		if errA != nil || errB != nil || a < 0 || b < a || b > 1<<16 {
			return nil, false
		}
		for ; a <= b; a++ {
			list = append(list, a)
		}
	}
	return list, true
}

func (p *perf) usage(c *container, stats *mesos.ResourceStatistics) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if s := p.samples[c]; s != nil {
		stats.Perf = proto.CloneOf(s)
	}
	return nil
}

func (p *perf) cleanup(c *container) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.samples, c)
}

func (p *perf) close() error {
	p.mu.Lock()
	p.closed = true
	if p.stop != nil {
		close(p.stop)
		p.stop = nil
	}
	p.mu.Unlock()
	p.wg.Wait()
	return nil
}
