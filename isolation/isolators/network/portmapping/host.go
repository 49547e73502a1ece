package portmapping

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// host is the machine's network, as containers get a copy of it.
type host struct {
	eth0, lo netlink.Link
	mac      net.HardwareAddr
	mtu      int
	address  *netlink.Addr
	gateway  net.IP
	// sysctls are what containers get from the machine.
	sysctls map[string]string
	// flows is the handle of the queue of eth0 where each container has a flow of its
	// own; 0: none.
	flows uint32
}

// copied are settings of the machine's network that a new namespace does not have
// (port_mapping.cpp).
var copied = []string{
	"core/somaxconn", "core/netdev_max_backlog", "core/rmem_max", "core/wmem_max",
	"ipv4/tcp_ecn", "ipv4/tcp_ecn_fallback", "ipv4/tcp_keepalive_time", "ipv4/tcp_keepalive_intvl",
	"ipv4/tcp_keepalive_probes", "ipv4/tcp_max_syn_backlog", "ipv4/tcp_rmem", "ipv4/tcp_retries2",
	"ipv4/tcp_synack_retries", "ipv4/tcp_wmem",
	"ipv4/neigh/default/gc_thresh1", "ipv4/neigh/default/gc_thresh2", "ipv4/neigh/default/gc_thresh3",
}

const sysctlDir = "/proc/sys/net"

// findHost looks at the machine's network and changes nothing.
func findHost(o *Options) (*host, error) {
	h := &host{sysctls: make(map[string]string)}
	route, err := defaultRoute()
	if err != nil {
		return nil, err
	}
	name := o.Eth0
	switch {
	case name != "":
		if h.eth0, err = netlink.LinkByName(name); err != nil {
			return nil, fmt.Errorf("--eth0_name %s: %w", name, err)
		}
	case route == nil:
		return nil, errors.New("no default route tells which interface is the public one: give --eth0_name")
	default:
		if h.eth0, err = netlink.LinkByIndex(route.LinkIndex); err != nil {
			return nil, fmt.Errorf("the public interface: %w", err)
		}
	}
	if h.lo, err = loopback(o.Lo); err != nil {
		return nil, err
	}
	h.mac, h.mtu = h.eth0.Attrs().HardwareAddr, h.eth0.Attrs().MTU
	if len(h.mac) != 6 {
		return nil, fmt.Errorf("the public interface %s has no MAC address", h.eth0.Attrs().Name)
	}
	addresses, err := netlink.AddrList(h.eth0, netlink.FAMILY_V4)
	if err != nil {
		return nil, fmt.Errorf("addresses of %s: %w", h.eth0.Attrs().Name, err)
	}
	if len(addresses) == 0 {
		return nil, fmt.Errorf("the public interface %s has no IPv4 address", h.eth0.Attrs().Name)
	}
	h.address = &addresses[0]
	if route != nil && route.LinkIndex == h.eth0.Attrs().Index {
		h.gateway = route.Gw
	}
	for _, name := range copied {
		if b, err := os.ReadFile(filepath.Join(sysctlDir, name)); err == nil {
			h.sysctls[name] = strings.TrimSpace(string(b))
		}
	}
	return h, nil
}

func defaultRoute() (*netlink.Route, error) {
	routes, err := netlink.RouteList(nil, netlink.FAMILY_V4)
	if err != nil {
		return nil, fmt.Errorf("list the machine's routes: %w", err)
	}
	for _, r := range routes {
		if r.Dst == nil || r.Dst.IP.IsUnspecified() && r.Dst.Mask.String() == "00000000" {
			return &r, nil
		}
	}
	return nil, nil
}

func loopback(name string) (netlink.Link, error) {
	if name != "" {
		l, err := netlink.LinkByName(name)
		if err != nil {
			return nil, fmt.Errorf("--lo_name %s: %w", name, err)
		}
		// Another would get the public one's MAC address, and be lost to the machine.
		if l.Attrs().Flags&net.FlagLoopback == 0 {
			return nil, fmt.Errorf("--lo_name %s is no loopback interface", name)
		}
		return l, nil
	}
	links, err := netlink.LinkList()
	if err != nil {
		return nil, fmt.Errorf("list the machine's links: %w", err)
	}
	for _, l := range links {
		if l.Attrs().Flags&net.FlagLoopback != 0 {
			return l, nil
		}
	}
	return nil, errors.New("there is no loopback interface: give --lo_name")
}

// prepare makes the machine's network fit to hand packets to containers. All of it is
// what Mesos does, may be done again, and stays when the agent ends.
func (h *host) prepare(o *Options) error {
	// Packets go between lo and containers as they are: with a MAC address that the
	// container's interface takes for its own, and no longer than it can carry.
	if err := netlink.LinkSetHardwareAddr(h.lo, h.mac); err != nil {
		return fmt.Errorf("set the MAC address of %s: %w", h.lo.Attrs().Name, err)
	}
	if err := netlink.LinkSetMTU(h.lo, h.mtu); err != nil {
		return fmt.Errorf("set the MTU of %s: %w", h.lo.Attrs().Name, err)
	}
	lo := h.lo.Attrs().Name
	for _, s := range []struct{ name, value string }{
		// What containers send to 127.0.0.1, or to the machine, comes back in by lo with
		// an address of the machine itself.
		{"ipv4/conf/" + lo + "/route_localnet", "1"},
		{"ipv4/conf/" + lo + "/accept_local", "1"},
		{"ipv4/conf/all/rp_filter", "0"},
		{"ipv4/conf/" + lo + "/rp_filter", "0"},
		{"ipv4/conf/all/send_redirects", "0"},
		{"ipv4/conf/" + lo + "/send_redirects", "0"},
	} {
		if err := setSysctl(s.name, s.value); err != nil {
			return err
		}
	}
	for _, l := range []netlink.Link{h.eth0, h.lo} {
		if err := addIngress(l); err != nil {
			return err
		}
	}
	// All containers have the machine's address. It alone answers pings.
	if err := removeFilters(h.eth0, 0, prioEcho, unix.ETH_P_IP); err != nil {
		return err
	}
	err := addFilters(h.eth0, filter{
		priority: prioEcho, class: accepted,
		match: match{word(0, 0x45000000, 0xff000000)}.icmp().to(h.address.IP).icmpType(8),
	})
	if err != nil || !o.UniqueFlows {
		return err
	}
	return h.prepareFlows(o)
}

// Flows of the queue on eth0: the machine's own packets, ARP and ICMP of all, and
// then one for each container.
const (
	flowHost = 1 + iota
	flowControl
	flowContainer
)

func (h *host) prepareFlows(o *Options) error {
	parent := uint32(netlink.HANDLE_ROOT)
	h.flows = netlink.MakeHandle(1, 0)
	if o.FlowParent != "" && o.FlowParent != "root" {
		var major, minor uint16
		if _, err := fmt.Sscanf(o.FlowParent, "%x:%x", &major, &minor); err != nil {
			return fmt.Errorf("--egress_flow_classifier_parent %q is no handle: %w", o.FlowParent, err)
		}
		parent, h.flows = netlink.MakeHandle(major, minor), netlink.MakeHandle(major+1, 0)
	}
	codel := netlink.NewFqCodel(netlink.QdiscAttrs{LinkIndex: h.eth0.Attrs().Index, Parent: parent, Handle: h.flows})
	// What is there since the last run has filters of containers that live.
	qdiscs, err := netlink.QdiscList(h.eth0)
	if err != nil {
		return fmt.Errorf("list the queues of %s: %w", h.eth0.Attrs().Name, err)
	}
	there := false
	for _, q := range qdiscs {
		there = there || q.Type() == "fq_codel" && q.Attrs().Handle == h.flows
	}
	if !there {
		if err := netlink.QdiscReplace(codel); err != nil {
			return fmt.Errorf("add the queue of flows to %s: %w", h.eth0.Attrs().Name, err)
		}
	}
	for _, f := range []filter{
		{priority: prioARP, protocol: unix.ETH_P_ARP, class: h.flow(flowControl)},
		{priority: prioICMP, match: match{}.icmp(), class: h.flow(flowControl)},
		{priority: 0xfff0, protocol: unix.ETH_P_ALL, class: h.flow(flowHost)},
	} {
		f.parent = h.flows
		if f.protocol == 0 {
			f.protocol = unix.ETH_P_IP
		}
		if err := removeFilters(h.eth0, h.flows, f.priority, f.protocol); err != nil {
			return err
		}
		if err := addFilters(h.eth0, f); err != nil {
			return err
		}
	}
	return nil
}

func (h *host) flow(n uint16) uint32 { return h.flows | uint32(n) }

func setSysctl(name, value string) error {
	if err := os.WriteFile(filepath.Join(sysctlDir, name), []byte(value), 0); err != nil {
		return fmt.Errorf("set net/%s to %s: %w", name, value, err)
	}
	return nil
}
