// Package ports is the isolator network/ports: it looks, every now and then, on which
// TCP ports containers listen, and ends those that listen on ports which are not
// among their resources (src/slave/containerizer/mesos/isolators/network/ports.cpp).
//
// Ports is the isolator; New makes it of Options. Only containers in the machine's
// network matter: sockets in others are not found, and take no port from anybody. Its
// methods are safe for concurrent use. A goroutine looks while there are containers;
// Close ends it. isolation/setup imports it.
package ports

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/rs/zerolog"

	mesos "clusterd/api/mesos/v1"
	"clusterd/isolation"
	"clusterd/isolation/proctree"
)

// Name is what --isolation knows the isolator by.
const Name = "network/ports"

// DefaultWatchInterval is --container_ports_watch_interval when it is not given.
const DefaultWatchInterval = 30 * time.Second

// Range is a range of ports, both ends in it.
type Range struct{ Begin, End uint64 }

// Options are what the agent's flags say.
type Options struct {
	// WatchInterval (--container_ports_watch_interval); 0 means the default.
	WatchInterval time.Duration
	// Enforce (--enforce_container_ports) ends containers; else they are only logged.
	Enforce bool
	// Isolated are the only ports that matter: those of --container_ports_isolated_range,
	// or the agent's with --check_agent_port_range_only. Nil: all.
	Isolated []Range
	// CNI says that network/cni is there: containers that join a network are left alone.
	CNI bool
	// Processes lists the processes of a container. Nil: those that descend from the
	// process above it.
	Processes func(id *mesos.ContainerID) ([]int, error)
	Log       zerolog.Logger
}

// AgentPorts are the agent's ports, for Options.Isolated: never nil, as an agent may
// have none.
func AgentPorts(resources []*mesos.Resource) []Range {
	out := []Range{}
	for _, r := range resources {
		if r.GetName() != "ports" {
			continue
		}
		for _, v := range r.GetRanges().GetRange() {
			out = append(out, Range{v.GetBegin(), v.GetEnd()})
		}
	}
	return out
}

// ErrBadRange says that --container_ports_isolated_range cannot be read.
var ErrBadRange = errors.New("bad range of ports")

// ParseRanges reads --container_ports_isolated_range: "[0-35000]".
func ParseRanges(text string) ([]Range, error) {
	inner, begins := strings.CutPrefix(strings.TrimSpace(text), "[")
	inner, ends := strings.CutSuffix(inner, "]")
	if !begins || !ends {
		return nil, fmt.Errorf("%w: %q is not like [31000-32000]", ErrBadRange, text)
	}
	out := []Range{}
	for part := range strings.SplitSeq(inner, ",") {
		var r Range
		if _, err := fmt.Sscanf(strings.ReplaceAll(part, " ", ""), "%d-%d", &r.Begin, &r.End); err != nil || r.Begin > r.End || r.End > 0xffff {
			return nil, fmt.Errorf("%w: %q is not like [31000-32000]", ErrBadRange, text)
		}
		out = append(out, r)
	}
	return out, nil
}

// Ports is the isolator network/ports.
type Ports struct {
	isolation.BaseIsolator
	o Options

	wg sync.WaitGroup

	mu sync.Mutex
	// what follows is guarded by mu.
	containers map[string]*container
	// stop ends the goroutine that looks; nil when there is none.
	stop   context.CancelFunc
	closed bool
}

type container struct {
	id  *mesos.ContainerID
	pid int
	// exempt containers are in a network of their own, or their parent is looked at.
	exempt bool
	// allocated are the container's ports; they are not known before the first Update
	// after the agent came back, and nothing is wrong until then.
	allocated []Range
	known     bool
	// reported are those found last time.
	reported []uint64
	limits   chan isolation.Limitation
}

var _ isolation.Isolator = (*Ports)(nil)

// New makes the isolator.
func New(o Options) *Ports {
	if o.WatchInterval <= 0 {
		o.WatchInterval = DefaultWatchInterval
	}
	return &Ports{o: o, containers: make(map[string]*container)}
}

// Name is "network/ports".
func (p *Ports) Name() string { return Name }

// Close ends the goroutine that looks.
func (p *Ports) Close() error {
	p.mu.Lock()
	p.closed = true
	if p.stop != nil {
		p.stop()
	}
	p.mu.Unlock()
	p.wg.Wait()
	return nil
}

// Recover takes up containers. Which ports they have is not known yet.
func (p *Ports) Recover(_ context.Context, states []isolation.ContainerState, _ []*mesos.ContainerID) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range states {
		c := p.newContainer(s.Config)
		c.pid = s.PID
		c.known = c.known && s.Config.FrameworkID == nil
		p.addLocked(c)
	}
	return nil
}

// Prepare remembers the container.
func (p *Ports) Prepare(_ context.Context, config *isolation.ContainerConfig) (*isolation.Preparation, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, ok := p.containers[isolation.Key(config.ID)]; ok {
		return nil, fmt.Errorf("container %s: %w", isolation.Key(config.ID), isolation.ErrContainerExists)
	}
	p.addLocked(p.newContainer(config))
	return nil, nil
}

func (p *Ports) newContainer(config *isolation.ContainerConfig) *container {
	c := &container{
		id: config.ID, allocated: AgentPorts(config.Resources), known: true, limits: make(chan isolation.Limitation, 1),
	}
	// A parent's processes are its nested containers' too, and the ports are the parent's.
	c.exempt = config.ID.GetParent() != nil
	for _, n := range config.ContainerInfo.GetNetworkInfos() {
		c.exempt = c.exempt || p.o.CNI && n.Name != nil
	}
	return c
}

func (p *Ports) addLocked(c *container) {
	p.containers[isolation.Key(c.id)] = c
	if p.stop != nil || p.closed || c.exempt {
		return
	}
	ctx, stop := context.WithCancel(context.Background())
	p.stop = stop
	p.wg.Go(func() { p.run(ctx) })
}

// Isolate remembers the process above the container.
func (p *Ports) Isolate(_ context.Context, id *mesos.ContainerID, pid int) error {
	return p.with(id, func(c *container) { c.pid = pid })
}

// Watch reports ports that are not the container's, if they are enforced.
func (p *Ports) Watch(id *mesos.ContainerID) (limits <-chan isolation.Limitation, err error) {
	err = p.with(id, func(c *container) { limits = c.limits })
	return limits, err
}

// Update sets which ports the container has.
func (p *Ports) Update(_ context.Context, id *mesos.ContainerID, resources []*mesos.Resource, _ map[string]*mesos.Value_Scalar) error {
	return p.with(id, func(c *container) { c.allocated, c.known = AgentPorts(resources), true })
}

// Usage adds nothing.
func (p *Ports) Usage(_ context.Context, id *mesos.ContainerID, _ *mesos.ResourceStatistics) error {
	return p.with(id, func(*container) {})
}

// Status adds nothing.
func (p *Ports) Status(_ context.Context, id *mesos.ContainerID, _ *mesos.ContainerStatus) error {
	return p.with(id, func(*container) {})
}

// Cleanup forgets the container.
func (p *Ports) Cleanup(_ context.Context, id *mesos.ContainerID) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.containers, isolation.Key(id))
	for _, c := range p.containers {
		if !c.exempt {
			return nil
		}
	}
	if p.stop != nil {
		p.stop()
		p.stop = nil
	}
	return nil
}

func (p *Ports) with(id *mesos.ContainerID, f func(*container)) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	c, ok := p.containers[isolation.Key(id)]
	if !ok {
		return fmt.Errorf("container %s: %w", isolation.Key(id), isolation.ErrUnknownContainer)
	}
	f(c)
	return nil
}

func (p *Ports) run(ctx context.Context) {
	ticker := time.NewTicker(p.o.WatchInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		p.look(ctx)
	}
}

// look finds out who listens where, and judges.
func (p *Ports) look(ctx context.Context) {
	p.mu.Lock()
	var targets []target
	for _, c := range p.containers {
		if !c.exempt && c.known && c.pid != 0 {
			targets = append(targets, target{c.id, c.pid})
		}
	}
	p.mu.Unlock()
	sockets, err := listening()
	if err != nil {
		p.o.Log.Error().Err(err).Msg("list listening sockets")
		return
	}
	if len(sockets) == 0 || len(targets) == 0 {
		return
	}
	list := p.lister()
	for _, t := range targets {
		if ctx.Err() != nil {
			return
		}
		pids, err := list(t)
		if err != nil {
			p.o.Log.Error().Err(err).Str("container_id", isolation.Key(t.id)).Msg("list processes of a container")
			continue
		}
		p.judge(t.id, portsOf(pids, sockets))
	}
}

// target is a container to look at.
type target struct {
	id  *mesos.ContainerID
	pid int
}

// lister lists containers' processes; one table of processes is good for one look.
func (p *Ports) lister() func(target) ([]int, error) {
	if p.o.Processes != nil {
		return func(t target) ([]int, error) { return p.o.Processes(t.id) }
	}
	var table proctree.Table
	return func(t target) (pids []int, err error) {
		if table == nil {
			if table, err = proctree.ReadTable(); err != nil {
				return nil, err
			}
		}
		pids = append(pids, t.pid)
		for _, process := range table.Below(t.pid) {
			pids = append(pids, process.PID)
		}
		return pids, nil
	}
}

// judge compares the ports that a container listens on with those that it has.
func (p *Ports) judge(id *mesos.ContainerID, found []uint64) {
	found = slices.DeleteFunc(found, func(port uint64) bool { return p.o.Isolated != nil && !within(p.o.Isolated, port) })
	p.mu.Lock()
	defer p.mu.Unlock()
	c, ok := p.containers[isolation.Key(id)]
	if !ok || !c.known {
		return
	}
	bad := slices.DeleteFunc(slices.Clone(found), func(port uint64) bool { return within(c.allocated, port) })
	if len(bad) == 0 || slices.Equal(c.reported, found) {
		c.reported = found
		return
	}
	c.reported = found
	resource := &mesos.Resource{Name: new("ports"), Type: mesos.Value_RANGES.Enum(), Ranges: &mesos.Value_Ranges{}}
	var names []string
	for _, r := range join(bad) {
		resource.Ranges.Range = append(resource.Ranges.Range, &mesos.Value_Range{Begin: &r.Begin, End: &r.End})
		names = append(names, fmt.Sprintf("%d-%d", r.Begin, r.End))
	}
	message := fmt.Sprintf("Container %s is listening on unallocated port(s): [%s]", isolation.Key(id), strings.Join(names, ", "))
	p.o.Log.Warn().Str("container_id", isolation.Key(id)).Bool("enforced", p.o.Enforce).Msg(message)
	if !p.o.Enforce {
		return
	}
	select {
	case c.limits <- isolation.Limitation{
		Resources: []*mesos.Resource{resource}, Reason: mesos.TaskStatus_REASON_CONTAINER_LIMITATION, Message: message,
	}:
	default: // one is enough
	}
}

func within(ranges []Range, port uint64) bool {
	return slices.ContainsFunc(ranges, func(r Range) bool { return r.Begin <= port && port <= r.End })
}

// join makes ranges of sorted ports.
func join(ports []uint64) []Range {
	var out []Range
	for _, port := range ports {
		if n := len(out); n > 0 && out[n-1].End+1 == port {
			out[n-1].End = port
			continue
		}
		out = append(out, Range{port, port})
	}
	return out
}
