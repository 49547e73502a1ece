// Package portmapping is the isolator network/port_mapping: every container has a
// network namespace of its own, all have the machine's one address, and ports tell
// whose a packet is (src/slave/containerizer/mesos/isolators/network/port_mapping.cpp).
//
// PortMapping is the isolator; New makes it of Options, and the machine's network fit
// for it. A container's ports are those among its resources and a block of ephemeral
// ports of its own. Filters on the machine's public interface and loopback lead packets
// to the containers whose ports they have; filters on the containers' links let out
// only what comes from those:
//
//	       container                        container
//	    eth0        lo                   eth0        lo
//	     │          │ ports of others     │
//	     │◄─────────┘ leave by eth0       │
//	─────┼────────────────────────────────┼──────────────
//	mesos32768                       mesos33792
//	     │                                │
//	     ├── to others ───► eth0 ◄────────┤   DEMUX by
//	     └── to 127/8, own ► lo ◄─────────┘   destination port
//
// What a container must be remembered by is in a directory of its own, written before
// anything is done, so that an agent that comes back finds, or removes, all of it. Its
// methods are safe for concurrent use. With Options.Rates a goroutine samples while there
// are containers; Close ends it. isolation/setup imports it.
package portmapping

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/bits"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/rs/zerolog"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	mesos "clusterd/api/mesos/v1"
	"clusterd/isolation"
	"clusterd/isolation/isolators/network/netns"
)

// Name is what --isolation knows the isolator by.
const Name = "network/port_mapping"

// minEphemeral is the fewest ephemeral ports that a container can live with.
const minEphemeral = 16

// Options are what the agent's flags say.
type Options struct {
	// Resources are the agent's: its ports are those that containers can be given,
	// of its ephemeral_ports each gets a block.
	Resources []*mesos.Resource
	// EphemeralPortsPerContainer is a power of two.
	EphemeralPortsPerContainer uint16
	// Eth0 (--eth0_name) and Lo (--lo_name) are found when they are empty.
	Eth0, Lo string
	// Egress and Ingress bound what containers send and receive.
	Egress, Ingress Limits
	// IngressOnExisting (--ingress_isolate_existing_containers) bounds also what
	// containers receive that were started without a bound.
	IngressOnExisting bool
	// LinkSpeed (--network_link_speed) in bytes per second instead of the link's own.
	LinkSpeed uint64
	// UniqueFlows (--egress_unique_flow_per_container) queues what containers send
	// fairly, in a queue below FlowParent (--egress_flow_classifier_parent).
	UniqueFlows bool
	FlowParent  string
	// SocketSummary, SocketDetails and SNMP add to statistics
	// (--network_enable_socket_statistics_summary, ..._details,
	// --network_enable_snmp_statistics).
	SocketSummary, SocketDetails, SNMP bool
	// Rates adds how fast containers sent and received.
	Rates RateStatistics
	// StateDir is where the isolator keeps what it must remember until the machine
	// stops.
	StateDir string
	Log      zerolog.Logger
}

// StateDir is the directory for Options.StateDir.
func StateDir(runtimeDir string) string {
	return filepath.Join(runtimeDir, "isolators", "network", "port_mapping")
}

// PortMapping is the isolator network/port_mapping.
type PortMapping struct {
	isolation.BaseIsolator
	o         Options
	host      *host
	ports     []Range
	ephemeral *ephemeral
	sampler   sampler

	mu sync.Mutex
	// containers is guarded by mu.
	containers map[string]*container
}

// container is what is known of one. What is exported is kept in its directory.
type container struct {
	id *mesos.ContainerID
	// dir is empty for a container without a network of its own: a nested one is in
	// its parent's, one that ran before the isolator did is in the machine's.
	dir string

	// mu is held while the container changes.
	mu        sync.Mutex
	connected bool

	Ephemeral Range   `json:"ephemeral_ports"`
	Ports     []Range `json:"ports"`
	Egress    *Rate   `json:"egress,omitempty"`
	Ingress   *Rate   `json:"ingress,omitempty"`
}

var _ isolation.Isolator = (*PortMapping)(nil)

// New checks the options against the machine and prepares its network.
func New(o Options) (*PortMapping, error) {
	if os.Geteuid() != 0 {
		return nil, errors.New("network/port_mapping needs root")
	}
	ports, err := RangesOf(o.Resources, "ports")
	if err != nil {
		return nil, err
	}
	ephemeralPorts, err := RangesOf(o.Resources, "ephemeral_ports")
	if err != nil {
		return nil, err
	}
	if err := checkPorts(&o, ports, ephemeralPorts); err != nil {
		return nil, err
	}
	h, err := findHost(&o)
	if err != nil {
		return nil, err
	}
	speed := o.LinkSpeed
	if speed == 0 {
		speed = linkSpeed(h.eth0.Attrs().Name)
	}
	var cpus float64
	for _, r := range o.Resources {
		if r.GetName() == "cpus" {
			cpus += r.GetScalar().GetValue()
		}
	}
	err = errors.Join(o.Egress.validate("egress", cpus, speed), o.Ingress.validate("ingress", cpus, speed), o.Rates.validate())
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(o.StateDir, 0o755); err != nil {
		return nil, fmt.Errorf("make the directory of network/port_mapping: %w", err)
	}
	if err := h.prepare(&o); err != nil {
		return nil, err
	}
	return &PortMapping{
		o: o, host: h, ports: ports, ephemeral: newEphemeral(ephemeralPorts, o.EphemeralPortsPerContainer),
		containers: make(map[string]*container), sampler: sampler{o: o.Rates},
	}, nil
}

// checkPorts refuses ports that several would have.
func checkPorts(o *Options, ports, ephemeralPorts []Range) error {
	size := o.EphemeralPortsPerContainer
	var begin, end uint16
	b, err := os.ReadFile(filepath.Join(sysctlDir, "ipv4/ip_local_port_range"))
	if err != nil {
		return fmt.Errorf("read the machine's ephemeral ports: %w", err)
	}
	if _, err := fmt.Sscan(string(b), &begin, &end); err != nil {
		return fmt.Errorf("read the machine's ephemeral ports %q: %w", b, err)
	}
	switch host := []Range{{begin, end}}; {
	case len(ephemeralPorts) == 0:
		return errors.New("network/port_mapping needs ephemeral_ports among the agent's resources")
	case intersects(ephemeralPorts, ports):
		return fmt.Errorf("ephemeral_ports %v and ports %v of the agent have ports in common", ephemeralPorts, ports)
	case intersects(ephemeralPorts, []Range{{0, 1023}}):
		return fmt.Errorf("ephemeral_ports %v have well-known ports among them", ephemeralPorts)
	case intersects(ephemeralPorts, host):
		return fmt.Errorf("ephemeral_ports %v are ephemeral ports of the machine, %v: change net.ipv4.ip_local_port_range", ephemeralPorts, host)
	case bits.OnesCount16(size) != 1:
		return fmt.Errorf("--ephemeral_ports_per_container %d is not a power of two", size)
	case size < minEphemeral:
		return fmt.Errorf("--ephemeral_ports_per_container %d is less than %d", size, minEphemeral)
	}
	if _, err := newEphemeral(ephemeralPorts, size).take(); err != nil {
		return fmt.Errorf("ephemeral_ports %v have no room for --ephemeral_ports_per_container=%d", ephemeralPorts, size)
	}
	return nil
}

// Name is "network/port_mapping".
func (p *PortMapping) Name() string { return Name }

// Prepare takes ephemeral ports. A nested container enters its parent's network.
func (p *PortMapping) Prepare(_ context.Context, config *isolation.ContainerConfig) (*isolation.Preparation, error) {
	key := isolation.Key(config.ID)
	if p.get(config.ID) != nil {
		return nil, fmt.Errorf("container %s: %w", key, isolation.ErrContainerExists)
	}
	own := &container{id: config.ID}
	prep := &isolation.Preparation{}
	if parent := config.ID.GetParent(); parent != nil {
		if root := p.root(config.ID); root != nil && root.dir != "" {
			prep.EnterFlags = unix.CLONE_NEWNET
		}
		p.put(own)
		return prep, nil
	}
	var err error
	if own.Ports, err = p.portsOf(config.Resources); err != nil {
		return nil, err
	}
	own.Egress, own.Ingress = p.o.Egress.rate(config.Resources), p.o.Ingress.rate(config.Resources)
	if own.Ephemeral, err = p.ephemeral.take(); err != nil {
		return nil, err
	}
	own.dir = filepath.Join(p.o.StateDir, key)
	if err := own.save(); err != nil {
		p.ephemeral.give(own.Ephemeral)
		_ = os.RemoveAll(own.dir)
		return nil, err
	}
	p.put(own)
	p.o.Log.Info().Str("container_id", key).Stringer("ephemeral_ports", own.Ephemeral).Any("ports", own.Ports).Msg("container has ports")
	prep.CloneFlags = unix.CLONE_NEWNET
	return prep, nil
}

// portsOf are the ports that a container has of the agent's.
func (p *PortMapping) portsOf(resources []*mesos.Resource) ([]Range, error) {
	ports, err := RangesOf(resources, "ports")
	if err != nil {
		return nil, err
	}
	if !contains(p.ports, ports) {
		return nil, fmt.Errorf("some of the ports %v are not among the agent's %v", ports, p.ports)
	}
	return ports, nil
}

// Isolate connects the container.
func (p *PortMapping) Isolate(_ context.Context, id *mesos.ContainerID, pid int) error {
	own, err := p.known(id)
	if err != nil || own.dir == "" {
		return err
	}
	own.mu.Lock()
	defer own.mu.Unlock()
	if err := netns.Hold(pid, own.netns()); err != nil {
		return err
	}
	if err := p.connect(own); err != nil {
		return err
	}
	own.connected = true
	p.sampler.watch(own.veth())
	return nil
}

// Watch never reports anything.
func (p *PortMapping) Watch(id *mesos.ContainerID) (<-chan isolation.Limitation, error) {
	_, err := p.known(id)
	return nil, err
}

// Update leads other ports to the container, and sets its rates. Ports that stay are
// led there all the time.
func (p *PortMapping) Update(_ context.Context, id *mesos.ContainerID, resources []*mesos.Resource, _ map[string]*mesos.Value_Scalar) error {
	own, err := p.known(id)
	if err != nil || own.dir == "" {
		return err
	}
	ports, err := p.portsOf(resources)
	if err != nil {
		return err
	}
	own.mu.Lock()
	defer own.mu.Unlock()
	old := blocks(own.all())
	egress, ingress := p.o.Egress.rate(resources), own.Ingress
	if own.Ingress != nil || p.o.IngressOnExisting {
		ingress = p.o.Ingress.rate(resources)
	}
	if slices.Equal(ports, own.Ports) && equal(egress, own.Egress) && equal(ingress, own.Ingress) {
		return nil
	}
	before := own.Ingress
	own.Ports, own.Egress, own.Ingress = ports, egress, ingress
	if err := own.save(); err != nil || !own.connected {
		return err
	}
	link, err := netlink.LinkByName(own.veth())
	if err != nil {
		return fmt.Errorf("find link %s: %w", own.veth(), err)
	}
	now := blocks(own.all())
	more := slices.DeleteFunc(slices.Clone(now), func(b block) bool { return slices.Contains(old, b) })
	less := slices.DeleteFunc(slices.Clone(old), func(b block) bool { return slices.Contains(now, b) })
	if err := netns.Do(own.netns(), func() error { return p.updateInner(more, less, egress) }); err != nil {
		return err
	}
	if err := p.addPorts(own, link, more); err != nil {
		return err
	}
	err = p.removePorts(own, link, less)
	if !equal(ingress, before) {
		err = errors.Join(err, setRate(link, ingress, true))
	}
	return err
}

func equal(a, b *Rate) bool {
	if a == nil || b == nil {
		return a == b
	}
	return *a == *b
}

// Cleanup disconnects the container. What fails is tried again by the next Cleanup,
// or when the agent starts again.
func (p *PortMapping) Cleanup(_ context.Context, id *mesos.ContainerID) error {
	own := p.get(id)
	if own == nil {
		return nil
	}
	if own.dir != "" {
		if err := p.remove(own); err != nil {
			return err
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.containers, isolation.Key(id))
	return nil
}

// remove leaves nothing of a container.
func (p *PortMapping) remove(own *container) error {
	own.mu.Lock()
	defer own.mu.Unlock()
	own.connected = false
	p.sampler.forget(own.veth())
	if err := p.disconnect(own); err != nil {
		return err
	}
	if err := netns.Release(own.netns()); err != nil {
		return err
	}
	if err := os.RemoveAll(own.dir); err != nil {
		return fmt.Errorf("remove the directory of a container's network: %w", err)
	}
	p.ephemeral.give(own.Ephemeral)
	return nil
}

// Recover takes up containers, and removes what is left of those that nobody knows.
func (p *PortMapping) Recover(_ context.Context, states []isolation.ContainerState, orphans []*mesos.ContainerID) error {
	known := make(map[string]*mesos.ContainerID, len(states)+len(orphans))
	for _, s := range states {
		known[isolation.Key(s.Config.ID)] = s.Config.ID
		p.put(&container{id: s.Config.ID})
	}
	for _, id := range orphans {
		known[isolation.Key(id)] = id
	}
	entries, err := os.ReadDir(p.o.StateDir)
	if err != nil {
		return fmt.Errorf("list containers with networks: %w", err)
	}
	links := make(map[string]bool)
	for _, e := range entries {
		own, err := load(filepath.Join(p.o.StateDir, e.Name()))
		if errors.Is(err, fs.ErrNotExist) {
			// The agent died before it had written down what it was about to do.
			_ = os.RemoveAll(filepath.Join(p.o.StateDir, e.Name()))
			continue
		}
		if err != nil {
			return err
		}
		p.ephemeral.keep(own.Ephemeral)
		links[own.veth()] = true
		if id := known[e.Name()]; id != nil {
			own.id = id
			p.put(own)
			p.resume(own)
			continue
		}
		p.o.Log.Info().Str("container_id", e.Name()).Msg("remove network of an unknown container")
		if err := p.remove(own); err != nil {
			p.o.Log.Error().Err(err).Str("container_id", e.Name()).Msg("remove network of an unknown container")
		}
	}
	return p.removeStrays(links)
}

// removeStrays removes links of ours that no directory tells of: the runtime
// directory was lost.
func (p *PortMapping) removeStrays(known map[string]bool) error {
	links, err := netlink.LinkList()
	// Links that come or go meanwhile are somebody else's.
	if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
		return fmt.Errorf("list the machine's links: %w", err)
	}
	for _, l := range links {
		a := l.Attrs()
		var begin uint16
		if _, err := fmt.Sscanf(a.Name, "mesos%d", &begin); err != nil || known[a.Name] || !strings.HasPrefix(a.Alias, aliasPrefix) {
			continue
		}
		p.o.Log.Info().Str("link", a.Name).Str("alias", a.Alias).Msg("remove link of an unknown container")
		stray := &container{Ephemeral: Range{begin, begin + p.o.EphemeralPortsPerContainer - 1}}
		if err := p.disconnect(stray); err != nil {
			return err
		}
	}
	return nil
}

// all are the container's ports, ephemeral ones and others. They are not merged:
// the filters of ephemeral ports never change.
func (own *container) all() []Range {
	return append([]Range{own.Ephemeral}, own.Ports...)
}

func (own *container) netns() string { return filepath.Join(own.dir, "ns") }

// save writes what must be known of the container, whole or not at all.
func (own *container) save() error {
	b, err := json.Marshal(own)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(own.dir, 0o755); err != nil {
		return fmt.Errorf("keep a container's ports: %w", err)
	}
	path := filepath.Join(own.dir, "state")
	if err := os.WriteFile(path+".tmp", b, 0o600); err != nil {
		return fmt.Errorf("keep a container's ports: %w", err)
	}
	if err := os.Rename(path+".tmp", path); err != nil {
		return fmt.Errorf("keep a container's ports: %w", err)
	}
	return nil
}

func load(dir string) (*container, error) {
	b, err := os.ReadFile(filepath.Join(dir, "state"))
	if err != nil {
		return nil, err
	}
	own := &container{dir: dir}
	if err := json.Unmarshal(b, own); err != nil {
		return nil, fmt.Errorf("read %s: %w", filepath.Join(dir, "state"), err)
	}
	if own.Ephemeral.End <= own.Ephemeral.Begin {
		return nil, fmt.Errorf("read %s: ephemeral ports %v", filepath.Join(dir, "state"), own.Ephemeral)
	}
	own.connected = netns.Held(own.netns())
	return own, nil
}

// root is the container at the top, nil if that is unknown.
func (p *PortMapping) root(id *mesos.ContainerID) *container {
	for id.GetParent() != nil {
		id = id.GetParent()
	}
	return p.get(id)
}

func (p *PortMapping) put(own *container) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.containers[isolation.Key(own.id)] = own
}

func (p *PortMapping) get(id *mesos.ContainerID) *container {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.containers[isolation.Key(id)]
}

func (p *PortMapping) known(id *mesos.ContainerID) (*container, error) {
	own := p.get(id)
	if own == nil {
		return nil, fmt.Errorf("container %s: %w", isolation.Key(id), isolation.ErrUnknownContainer)
	}
	return own, nil
}
