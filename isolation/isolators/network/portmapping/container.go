package portmapping

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"strconv"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"clusterd/isolation"
	"clusterd/isolation/isolators/network/netns"
)

// aliasPrefix marks our links among the machine's, for an agent that has lost all
// memory, and for humans.
const aliasPrefix = "clusterd container "

// slot is a number of its own for each container that runs: that of its block of
// ephemeral ports among all blocks of that size.
func (own *container) slot() uint16 {
	return own.Ephemeral.Begin / (own.Ephemeral.End - own.Ephemeral.Begin + 1)
}

// Priorities of the container's filters on the machine's links: a protocol each.
func (own *container) prioIP() uint16  { return prioContainer + 2*own.slot() }
func (own *container) prioARP() uint16 { return own.prioIP() + 1 }

// veth is the name of the container's link on the machine.
func (own *container) veth() string { return "mesos" + strconv.Itoa(int(own.Ephemeral.Begin)) }

// connect makes the container's link and all filters. It ends with those that lead
// to the container; a crash on the way leaves what disconnect removes.
func (p *PortMapping) connect(own *container) error {
	ns, err := os.Open(own.netns())
	if err != nil {
		return fmt.Errorf("open the container's network namespace: %w", err)
	}
	defer ns.Close()
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.HardwareAddr, attrs.MTU = own.veth(), p.host.mac, p.host.mtu
	veth := &netlink.Veth{
		LinkAttrs: attrs, PeerName: p.host.eth0.Attrs().Name, PeerHardwareAddr: p.host.mac,
		PeerMTU: uint32(p.host.mtu), PeerNamespace: netlink.NsFd(int(ns.Fd())), //nolint:gosec // an MTU
	}
	if err := netlink.LinkAdd(veth); err != nil {
		return fmt.Errorf("make link %s: %w", own.veth(), err)
	}
	link, err := netlink.LinkByName(own.veth())
	if err != nil {
		return fmt.Errorf("find link %s: %w", own.veth(), err)
	}
	if err := netlink.LinkSetAlias(link, aliasPrefix+isolation.Key(own.id)); err != nil {
		return fmt.Errorf("name link %s: %w", own.veth(), err)
	}
	disableIPv6(own.veth())
	if err := netns.Do(own.netns(), func() error { return p.furnish(own) }); err != nil {
		return err
	}
	if err := p.addFixed(link); err != nil {
		return err
	}
	if own.Ingress != nil {
		if err := setRate(link, own.Ingress, true); err != nil {
			return err
		}
	}
	if err := p.addPorts(own, link, blocks(own.all())); err != nil {
		return err
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return fmt.Errorf("bring up link %s: %w", own.veth(), err)
	}
	err = addFilters(p.host.eth0,
		filter{priority: own.prioARP(), protocol: unix.ETH_P_ARP, actions: mirror(link)},
		filter{
			priority: own.prioIP(), actions: mirror(link),
			match: match{}.icmp().to(p.host.address.IP),
		})
	return err
}

// disableIPv6 is for links that carry none: it spares them addresses and packets of
// its own. A kernel without IPv6 has no such file.
func disableIPv6(link string) {
	_ = setSysctl("ipv6/conf/"+link+"/disable_ipv6", "1")
}

// addFixed filters what the container sends, but for its ports. What no filter takes
// is dropped: ports that are not the container's, and addresses too.
func (p *PortMapping) addFixed(link netlink.Link) error {
	if err := addIngress(link); err != nil {
		return err
	}
	err := addFilters(link,
		filter{priority: prioARP, protocol: unix.ETH_P_ARP, actions: redirect(p.host.eth0)},
		filter{
			priority: prioICMP, actions: redirect(p.host.eth0),
			match: match{}.icmp().from(p.host.address.IP),
		})
	if err != nil {
		return err
	}
	return addDrop(link)
}

// addPorts leads packets from ports out of the container, and packets to them in.
func (p *PortMapping) addPorts(own *container, link netlink.Link, ports []block) error {
	for _, b := range ports {
		err := addFilters(link,
			filter{priority: prioNear, match: plain().sourcePort(b).to(p.host.address.IP), actions: redirect(p.host.lo)},
			filter{priority: prioNear, match: plain().sourcePort(b).toLoopback(), actions: redirect(p.host.lo)},
			filter{priority: prioFar, match: plain().sourcePort(b).from(p.host.address.IP), actions: redirect(p.host.eth0)})
		if err != nil {
			return err
		}
	}
	for _, b := range ports {
		err := addFilters(p.host.eth0, filter{
			priority: own.prioIP(), match: plain().destinationPort(b).to(p.host.address.IP), actions: redirect(link),
		})
		if err != nil {
			return err
		}
		if err := addFilters(p.host.lo, filter{priority: own.prioIP(), match: plain().destinationPort(b), actions: redirect(link)}); err != nil {
			return err
		}
		if p.host.flows == 0 {
			continue
		}
		// Unlike filters for what arrives, these are in one list with the machine's.
		f := filter{parent: p.host.flows, priority: own.prioIP(), match: plain().sourcePort(b), class: p.host.flow(flowContainer + own.slot()%1000)}
		if err := addFilters(p.host.eth0, f); err != nil {
			return err
		}
	}
	return nil
}

// removePorts is the reverse of addPorts, for some of the ports.
func (p *PortMapping) removePorts(own *container, link netlink.Link, ports []block) error {
	var sources, destinations []nl.TcU32Key
	for _, b := range ports {
		sources = append(sources, b.source())
		destinations = append(destinations, b.destination())
	}
	errs := []error{
		removeMatching(p.host.eth0, 0, own.prioIP(), destinations),
		removeMatching(p.host.lo, 0, own.prioIP(), destinations),
		removeMatching(link, 0, prioNear, sources),
		removeMatching(link, 0, prioFar, sources),
	}
	if p.host.flows != 0 {
		errs = append(errs, removeMatching(p.host.eth0, p.host.flows, own.prioIP(), sources))
	}
	return errors.Join(errs...)
}

// furnish runs in the container's network namespace: its interfaces look like the
// machine's (scripts in port_mapping.cpp).
func (p *PortMapping) furnish(own *container) error {
	disableIPv6("all")
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("find the container's loopback interface: %w", err)
	}
	eth0, err := netlink.LinkByName(p.host.eth0.Attrs().Name)
	if err != nil {
		return fmt.Errorf("find the container's interface: %w", err)
	}
	name := eth0.Attrs().Name
	for _, s := range []struct{ name, value string }{
		{"ipv4/ip_local_port_range", fmt.Sprintf("%d %d", own.Ephemeral.Begin, own.Ephemeral.End)},
		// Packets from other containers, and from the machine, come from the address that
		// is this container's as well.
		{"ipv4/conf/" + name + "/accept_local", "1"},
		{"ipv4/conf/lo/accept_local", "1"},
		{"ipv4/conf/lo/route_localnet", "1"},
		{"ipv4/conf/" + name + "/route_localnet", "1"},
		{"ipv4/conf/all/rp_filter", "0"},
		{"ipv4/conf/" + name + "/rp_filter", "0"},
		// The machine answers for the address; a container only learns.
		{"ipv4/conf/" + name + "/arp_ignore", "8"},
	} {
		if err := setSysctl(s.name, s.value); err != nil {
			return err
		}
	}
	for name, value := range p.host.sysctls {
		// Not every setting is one of the namespace's: the machine's then counts.
		if err := setSysctl(name, value); err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrPermission) {
			return err
		}
	}
	if err := p.setAddresses(lo, eth0); err != nil {
		return err
	}
	for _, l := range []netlink.Link{lo, eth0} {
		if err := addIngress(l); err != nil {
			return err
		}
	}
	// What goes to the machine's address, or to loopback, leaves the container unless
	// it is for a port of its own.
	err = addFilters(lo,
		filter{priority: prioICMP, match: match{}.icmp().to(p.host.address.IP), class: accepted},
		filter{priority: prioICMP, match: match{}.icmp().toLoopback(), class: accepted},
		filter{priority: prioNear, match: match{}.to(p.host.address.IP), actions: redirect(eth0)},
		filter{priority: prioNear, match: match{}.toLoopback(), actions: redirect(eth0)})
	if err != nil {
		return err
	}
	if err := addInner(lo, eth0, blocks(own.all())); err != nil {
		return err
	}
	if own.Egress == nil {
		return nil
	}
	return setRate(eth0, own.Egress, false)
}

// setAddresses gives the container's interfaces the machine's addresses.
func (p *PortMapping) setAddresses(lo, eth0 netlink.Link) error {
	steps := []struct {
		what string
		f    func() error
	}{
		{"set the MAC address of lo", func() error { return netlink.LinkSetHardwareAddr(lo, p.host.mac) }},
		{"set the MTU of lo", func() error { return netlink.LinkSetMTU(lo, p.host.mtu) }},
		{"bring up lo", func() error { return netlink.LinkSetUp(lo) }},
		{"bring up the interface", func() error { return netlink.LinkSetUp(eth0) }},
		{"set the address", func() error {
			return netlink.AddrAdd(eth0, &netlink.Addr{IPNet: p.host.address.IPNet})
		}},
	}
	if p.host.gateway != nil {
		steps = append(steps, struct {
			what string
			f    func() error
		}{"set the default route", func() error {
			return netlink.RouteAdd(&netlink.Route{LinkIndex: eth0.Attrs().Index, Gw: p.host.gateway, Dst: &net.IPNet{IP: net.IPv4zero, Mask: net.CIDRMask(0, 32)}})
		}})
	}
	for _, s := range steps {
		if err := s.f(); err != nil {
			return fmt.Errorf("%s of the container: %w", s.what, err)
		}
	}
	return nil
}

// addInner keeps packets for the container's own ports in it.
func addInner(lo, eth0 netlink.Link, ports []block) error {
	for _, b := range ports {
		if err := addFilters(lo, filter{priority: prioOwn, match: plain().destinationPort(b), class: accepted}); err != nil {
			return err
		}
		if err := addFilters(eth0, filter{priority: prioOwn, match: plain().destinationPort(b).toLoopback(), actions: redirect(lo)}); err != nil {
			return err
		}
	}
	return nil
}

// updateInner runs in the container's network namespace.
func (p *PortMapping) updateInner(more, less []block, egress *Rate) error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("find the container's loopback interface: %w", err)
	}
	eth0, err := netlink.LinkByName(p.host.eth0.Attrs().Name)
	if err != nil {
		return fmt.Errorf("find the container's interface: %w", err)
	}
	if err := addInner(lo, eth0, more); err != nil {
		return err
	}
	var words []nl.TcU32Key
	for _, b := range less {
		words = append(words, b.destination())
	}
	return errors.Join(
		removeMatching(lo, 0, prioOwn, words),
		removeMatching(eth0, 0, prioOwn, words),
		setRate(eth0, egress, false),
	)
}

// disconnect removes what connect made, whatever there is of it. What leads to the
// container goes first: the machine's links must never lead nowhere.
func (p *PortMapping) disconnect(own *container) error {
	errs := []error{
		removeFilters(p.host.eth0, 0, own.prioIP(), unix.ETH_P_IP),
		removeFilters(p.host.eth0, 0, own.prioARP(), unix.ETH_P_ARP),
		removeFilters(p.host.lo, 0, own.prioIP(), unix.ETH_P_IP),
	}
	if p.host.flows != 0 {
		errs = append(errs, removeFilters(p.host.eth0, p.host.flows, own.prioIP(), unix.ETH_P_IP))
	}
	errs = append(errs, removeLink(own.veth()))
	return errors.Join(errs...)
}

func removeLink(name string) error {
	link, err := netlink.LinkByName(name)
	if err == nil {
		err = netlink.LinkDel(link)
	}
	if _, gone := errors.AsType[netlink.LinkNotFoundError](err); gone || errors.Is(err, unix.ENODEV) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("remove link %s: %w", name, err)
	}
	return nil
}
