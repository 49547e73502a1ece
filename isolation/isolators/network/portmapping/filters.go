package portmapping

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"unsafe"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// ingress is the handle of the queue that arriving packets pass.
var ingress = netlink.MakeHandle(0xffff, 0)

// Priorities of filters: of the machine's links, those that are there once and the
// first one of containers, which have two each; of a container's own links.
const (
	prioEcho      = 1
	prioContainer = 100

	prioARP  = 1
	prioICMP = 2
	prioOwn  = 3
	prioNear = 4
	prioFar  = 5
	prioRest = 6
)

// match is what a filter looks for: words of the IP (or ARP) header at offsets.
type match []nl.TcU32Key

func word(offset int32, value, mask uint32) nl.TcU32Key {
	return nl.TcU32Key{Off: offset, Val: value & mask, Mask: mask}
}

// plain leaves out packets whose first 20 bytes do not tell their ports: those with
// IP options, which could show a false port there, and fragments but the first.
func plain() match {
	return match{word(0, 0x45000000, 0xff000000), word(4, 0, 0x00001fff)}
}

func (m match) icmp() match                   { return append(m, word(8, unix.IPPROTO_ICMP<<16, 0x00ff0000)) }
func (m match) from(ip net.IP) match          { return append(m, word(12, ip4(ip), 0xffffffff)) }
func (m match) to(ip net.IP) match            { return append(m, word(16, ip4(ip), 0xffffffff)) }
func (m match) toLoopback() match             { return append(m, word(16, 127<<24, 0xff000000)) }
func (m match) icmpType(t uint32) match       { return append(m, word(20, t<<24, 0xff000000)) }
func (m match) sourcePort(b block) match      { return append(m, b.source()) }
func (m match) destinationPort(b block) match { return append(m, b.destination()) }

func (b block) source() nl.TcU32Key      { return word(20, uint32(b.port)<<16, uint32(b.mask)<<16) }
func (b block) destination() nl.TcU32Key { return word(20, uint32(b.port), uint32(b.mask)) }

func ip4(ip net.IP) uint32 { return binary.BigEndian.Uint32(ip.To4()) }

// filter is one on a link.
type filter struct {
	parent   uint32
	priority uint16
	protocol uint16
	match    match
	class    uint32
	actions  []netlink.Action
}

func (f filter) u32(link netlink.Link) *netlink.U32 {
	u := &netlink.U32{
		FilterAttrs: netlink.FilterAttrs{LinkIndex: link.Attrs().Index, Parent: f.parent, Priority: f.priority, Protocol: f.protocol},
		ClassId:     f.class, Actions: f.actions,
	}
	if f.parent == 0 {
		u.Parent = ingress
	}
	if f.protocol == 0 {
		u.Protocol = unix.ETH_P_IP
	}
	if len(f.match) > 0 {
		u.Sel = &netlink.TcU32Sel{Flags: nl.TC_U32_TERMINAL, Nkeys: uint8(len(f.match)), Keys: f.match}
	}
	return u
}

// redirect sends the packet out of a link; mirror sends a copy and looks further.
func redirect(link netlink.Link) []netlink.Action {
	return []netlink.Action{mirred(link, netlink.TCA_EGRESS_REDIR, netlink.TC_ACT_STOLEN)}
}

func mirror(link netlink.Link) []netlink.Action {
	return []netlink.Action{mirred(link, netlink.TCA_EGRESS_MIRROR, netlink.TC_ACT_UNSPEC)}
}

func mirred(link netlink.Link, what netlink.MirredAct, then netlink.TcAct) *netlink.MirredAction {
	return &netlink.MirredAction{
		ActionAttrs: netlink.ActionAttrs{Action: then}, MirredAction: what, Ifindex: link.Attrs().Index,
	}
}

// accepted is the class of packets that go on to the stack: a filter without an
// action ends the search (gact, which says it outright, is not in every kernel).
var accepted = ingress

// addDrop ends what no filter has taken. Kernels have gact for it or, if not, can run
// a program that says it. Without either such packets come to the machine's stack,
// which drops what has its own address for a source; Mesos leaves it at that.
func addDrop(link netlink.Link) error {
	gact := filter{
		priority: prioRest, protocol: unix.ETH_P_ALL,
		actions: []netlink.Action{&netlink.GenericAction{ActionAttrs: netlink.ActionAttrs{Action: netlink.TC_ACT_SHOT}}},
	}
	err := addFilters(link, gact)
	if !errors.Is(err, os.ErrNotExist) {
		return err
	}
	fd, err := loadDrop()
	if err != nil {
		return nil // see above
	}
	defer func() { _ = unix.Close(fd) }()
	err = netlink.FilterAdd(&netlink.BpfFilter{
		FilterAttrs: netlink.FilterAttrs{LinkIndex: link.Attrs().Index, Parent: ingress, Priority: prioRest, Protocol: unix.ETH_P_ALL},
		Fd:          fd, Name: "drop", DirectAction: true,
	})
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("add a program to %s: %w", link.Attrs().Name, err)
	}
	return nil
}

// loadDrop loads a program of two instructions: r0 = TC_ACT_SHOT; exit.
func loadDrop() (int, error) {
	code := [...]uint64{uint64(netlink.TC_ACT_SHOT)<<32 | 0xb7, 0x95}
	license := [...]byte{'G', 'P', 'L', 0}
	attr := struct {
		kind, count   uint32
		code, license uint64
		unused        [8]uint64
	}{
		kind: unix.BPF_PROG_TYPE_SCHED_CLS, count: uint32(len(code)),
		code: uint64(uintptr(unsafe.Pointer(&code))), license: uint64(uintptr(unsafe.Pointer(&license))),
	}
	fd, _, errno := unix.Syscall(unix.SYS_BPF, unix.BPF_PROG_LOAD, uintptr(unsafe.Pointer(&attr)), unsafe.Sizeof(attr))
	runtime.KeepAlive(&code)
	runtime.KeepAlive(&license)
	if errno != 0 {
		return 0, errno
	}
	return int(fd), nil
}

func addFilters(link netlink.Link, filters ...filter) error {
	for _, f := range filters {
		if err := netlink.FilterAdd(f.u32(link)); err != nil {
			return fmt.Errorf("add a filter of priority %d to %s: %w", f.priority, link.Attrs().Name, err)
		}
	}
	return nil
}

// removeFilters removes all filters of a priority, if there are any (and the link is).
func removeFilters(link netlink.Link, parent uint32, priority, protocol uint16) error {
	f := filter{parent: parent, priority: priority, protocol: protocol}
	u := f.u32(link)
	err := netlink.FilterDel(u)
	if err != nil && !errors.Is(err, os.ErrNotExist) && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("remove the filters of priority %d from %s: %w", priority, link.Attrs().Name, err)
	}
	return nil
}

// removeMatching removes the filters of a priority that look for one of these words.
func removeMatching(link netlink.Link, parent uint32, priority uint16, words []nl.TcU32Key) error {
	if len(words) == 0 {
		return nil
	}
	gone := make(map[[3]uint32]bool, len(words))
	for _, w := range words {
		gone[[3]uint32{uint32(w.Off), w.Val, w.Mask}] = true
	}
	if parent == 0 {
		parent = ingress
	}
	filters, err := netlink.FilterList(link, parent)
	if err != nil {
		return fmt.Errorf("list the filters of %s: %w", link.Attrs().Name, err)
	}
	for _, f := range filters {
		u, ok := f.(*netlink.U32)
		if !ok || u.Priority != priority || u.Sel == nil {
			continue
		}
		for _, k := range u.Sel.Keys {
			if !gone[[3]uint32{uint32(k.Off), k.Val, k.Mask}] {
				continue
			}
			if err := netlink.FilterDel(u); err != nil && !errors.Is(err, os.ErrNotExist) {
				return fmt.Errorf("remove a filter of priority %d from %s: %w", priority, link.Attrs().Name, err)
			}
			break
		}
	}
	return nil
}

// addIngress gives a link the queue that filters for arriving packets hang on.
func addIngress(link netlink.Link) error {
	err := netlink.QdiscAdd(&netlink.Ingress{
		QdiscAttrs: netlink.QdiscAttrs{LinkIndex: link.Attrs().Index, Handle: ingress, Parent: netlink.HANDLE_INGRESS},
	})
	if err != nil && !errors.Is(err, os.ErrExist) {
		return fmt.Errorf("add the ingress queue of %s: %w", link.Attrs().Name, err)
	}
	return nil
}
