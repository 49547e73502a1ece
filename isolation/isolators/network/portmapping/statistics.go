package portmapping

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	mesos "clusterd/api/mesos/v1"
	"clusterd/isolation/isolators/network/netns"
)

// Usage adds what the container sent and received, as its own interface counts it.
func (p *PortMapping) Usage(_ context.Context, id *mesos.ContainerID, stats *mesos.ResourceStatistics) error {
	own, err := p.known(id)
	if err != nil || own.dir == "" {
		return err
	}
	own.mu.Lock()
	defer own.mu.Unlock()
	if !own.connected {
		return nil
	}
	stats.NetEphemeralPorts = &mesos.Value_Range{
		Begin: new(uint64(own.Ephemeral.Begin)), End: new(uint64(own.Ephemeral.End)),
	}
	p.sampler.addTo(stats, own.veth())
	if r := own.Egress; r != nil {
		stats.NetTxRateLimit, stats.NetTxBurstRateLimit, stats.NetTxBurstSize = &r.Rate, optional(r.Ceil), optional(r.Burst)
	}
	if r := own.Ingress; r != nil {
		stats.NetRxRateLimit, stats.NetRxBurstRateLimit, stats.NetRxBurstSize = &r.Rate, optional(r.Ceil), optional(r.Burst)
		link, err := netlink.LinkByName(own.veth())
		if err != nil {
			return fmt.Errorf("find link %s: %w", own.veth(), err)
		}
		if err := addQueues(stats, link, "ingress_"); err != nil {
			return err
		}
	}
	return netns.Do(own.netns(), func() error { return p.measure(own, stats) })
}

func optional(n uint64) *uint64 {
	if n == 0 {
		return nil
	}
	return &n
}

// measure runs in the container's network namespace.
func (p *PortMapping) measure(own *container, stats *mesos.ResourceStatistics) error {
	eth0, err := netlink.LinkByName(p.host.eth0.Attrs().Name)
	if err != nil {
		return fmt.Errorf("find the container's interface: %w", err)
	}
	netns.AddLinkStatistics(stats, eth0.Attrs().Statistics)
	if own.Egress != nil {
		if err := addQueues(stats, eth0, ""); err != nil {
			return err
		}
	}
	if p.o.SocketSummary {
		if err := addSocketSummary(stats); err != nil {
			return err
		}
	}
	if p.o.SocketDetails {
		if err := addRoundTrips(stats); err != nil {
			return err
		}
	}
	if p.o.SNMP {
		return addSNMP(stats)
	}
	return nil
}

// addQueues adds what the queues that bound a link did.
func addQueues(stats *mesos.ResourceStatistics, link netlink.Link, prefix string) error {
	qdiscs, err := netlink.QdiscList(link)
	if err != nil {
		return fmt.Errorf("list the queues of %s: %w", link.Attrs().Name, err)
	}
	for _, q := range qdiscs {
		a := q.Attrs()
		var id string
		switch {
		case q.Type() == "htb" && a.Handle == htbHandle:
			id = prefix + "bw_limit"
		case q.Type() == "fq_codel" && a.Parent == htbClass:
			id = prefix + "bloat_reduction"
		default:
			continue
		}
		s := &mesos.TrafficControlStatistics{Id: &id}
		if a.Statistics != nil && a.Statistics.Basic != nil {
			s.Bytes, s.Packets = new(a.Statistics.Basic.Bytes), new(uint64(a.Statistics.Basic.Packets))
		}
		if a.Statistics != nil && a.Statistics.Queue != nil {
			queue := a.Statistics.Queue
			s.Backlog, s.Drops = new(uint64(queue.Backlog)), new(uint64(queue.Drops))
			s.Overlimits, s.Qlen, s.Requeues = new(uint64(queue.Overlimits)), new(uint64(queue.Qlen)), new(uint64(queue.Requeues))
		}
		// The kernel has no estimator on them; Mesos shows zeros too.
		s.Ratebps, s.Ratepps = new(uint64), new(uint64)
		stats.NetTrafficControlStatistics = append(stats.NetTrafficControlStatistics, s)
	}
	return nil
}

// procNet is /proc/net of the calling thread; /proc/net is that of the process.
const procNet = "/proc/thread-self/net/"

// addSocketSummary counts TCP connections.
func addSocketSummary(stats *mesos.ResourceStatistics) error {
	b, err := os.ReadFile(procNet + "sockstat")
	if err != nil {
		return fmt.Errorf("count a container's sockets: %w", err)
	}
	for line := range strings.Lines(string(b)) {
		fields := strings.Fields(line)
		if len(fields) == 0 || fields[0] != "TCP:" {
			continue
		}
		for i := 1; i+1 < len(fields); i += 2 {
			n, err := strconv.ParseFloat(fields[i+1], 64)
			if err != nil {
				return fmt.Errorf("count a container's sockets: %w", err)
			}
			switch fields[i] {
			case "inuse":
				stats.NetTcpActiveConnections = &n
			case "tw":
				stats.NetTcpTimeWaitConnections = &n
			}
		}
	}
	return nil
}

// addRoundTrips adds percentiles of the round trip times of TCP connections.
func addRoundTrips(stats *mesos.ResourceStatistics) error {
	sockets, err := netlink.SocketDiagTCPInfo(unix.AF_INET)
	if err != nil {
		return fmt.Errorf("ask for a container's connections: %w", err)
	}
	var times []uint32
	for _, s := range sockets {
		if s.TCPInfo != nil && s.TCPInfo.Rtt != 0 {
			times = append(times, s.TCPInfo.Rtt)
		}
	}
	if len(times) == 0 {
		return nil
	}
	slices.Sort(times)
	percentile := func(n int) *float64 { return new(float64(times[len(times)*n/100])) }
	stats.NetTcpRttMicrosecsP50, stats.NetTcpRttMicrosecsP90 = percentile(50), percentile(90)
	stats.NetTcpRttMicrosecsP95, stats.NetTcpRttMicrosecsP99 = percentile(95), percentile(99)
	return nil
}

// addSNMP adds the kernel's counters of IP, ICMP, TCP and UDP, whose names are those of
// the fields.
func addSNMP(stats *mesos.ResourceStatistics) error {
	b, err := os.ReadFile(procNet + "snmp")
	if err != nil {
		return fmt.Errorf("read a container's network counters: %w", err)
	}
	s := &mesos.SNMPStatistics{
		IpStats: &mesos.IpStatistics{}, IcmpStats: &mesos.IcmpStatistics{},
		TcpStats: &mesos.TcpStatistics{}, UdpStats: &mesos.UdpStatistics{},
	}
	into := map[string]proto.Message{"Ip:": s.GetIpStats(), "Icmp:": s.GetIcmpStats(), "Tcp:": s.GetTcpStats(), "Udp:": s.GetUdpStats()}
	names := make(map[string][]string)
	for line := range strings.Lines(string(b)) {
		fields := strings.Fields(line)
		if len(fields) == 0 || into[fields[0]] == nil {
			continue
		}
		header, second := names[fields[0]]
		if !second {
			names[fields[0]] = fields[1:]
			continue
		}
		m := into[fields[0]].ProtoReflect()
		for i, value := range fields[1:] {
			if i >= len(header) {
				break
			}
			n, err := strconv.ParseInt(value, 10, 64)
			if err != nil {
				return fmt.Errorf("read a container's network counters: %w", err)
			}
			if f := m.Descriptor().Fields().ByName(protoreflect.Name(header[i])); f != nil {
				m.Set(f, protoreflect.ValueOfInt64(n))
			}
		}
	}
	stats.NetSnmpStatistics = s
	return nil
}

// Status adds nothing: the container's address is the agent's.
func (p *PortMapping) Status(_ context.Context, id *mesos.ContainerID, _ *mesos.ContainerStatus) error {
	_, err := p.known(id)
	return err
}
