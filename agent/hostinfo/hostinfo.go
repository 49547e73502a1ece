// Package hostinfo finds out what an agent or a master must know of its host:
// resources to offer, host name, boot id, and the attributes that the operator
// names. Functions only, no state; all may be called concurrently. Imported by
// agent (and by server for the host name).
package hostinfo

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"clusterd/internal/metrics"
)

// Mesos's answers where something cannot be detected (src/slave/constants.hpp).
const (
	defaultCPUs   = 1
	defaultMemMB  = 1024
	defaultDiskMB = 10 * 1024
	defaultPorts  = "[31000-32000]"
)

const (
	megabyte = 1 << 20
	gigabyte = 1 << 30
)

// Resources are what an agent offers unless `--resources` says otherwise.
type Resources struct {
	CPUs   int
	MemMB  uint64
	DiskMB uint64
	// Ports is in the text form of ranges.
	Ports string
}

// Text returns the value of a resource in the syntax of `--resources`; ok is
// false for a name that is not auto-detected. Mesos adds cpus, mem, disk and
// ports that the operator left out, in this order
// (src/slave/containerizer/containerizer.cpp).
func (r Resources) Text(name string) (text string, ok bool) {
	switch name {
	case "cpus":
		return strconv.Itoa(r.CPUs), true
	case "mem":
		return strconv.FormatUint(r.MemMB, 10), true
	case "disk":
		return strconv.FormatUint(r.DiskMB, 10), true
	case "ports":
		return r.Ports, true
	default:
		return "", false
	}
}

// Names are the resources that are detected, in Mesos's order.
func Names() []string { return []string{"cpus", "mem", "disk", "ports"} }

// Detect measures the host: all processors; memory and the file system of
// workDir with something left for the host. What cannot be measured gets
// Mesos's default, and the error says so; the resources are usable all the same.
func Detect(workDir string) (Resources, error) {
	r := Resources{CPUs: defaultCPUs, MemMB: defaultMemMB, DiskMB: defaultDiskMB, Ports: defaultPorts}
	var errs []error
	if s, err := metrics.ReadSystem(); err != nil {
		errs = append(errs, fmt.Errorf("detect cpus and memory: %w", err))
	} else {
		r.CPUs, r.MemMB = s.CPUs, usableMemMB(s.MemTotalBytes)
	}
	var st syscall.Statfs_t
	if err := syscall.Statfs(workDir, &st); err != nil {
		errs = append(errs, fmt.Errorf("detect the size of the disk of %q: %w", workDir, err))
	} else {
		r.DiskMB = usableDiskMB(st.Blocks * uint64(st.Frsize))
	}
	return r, errors.Join(errs...)
}

// usableMemMB leaves 1 GB to the host, or half of less than 2 GB.
func usableMemMB(total uint64) uint64 {
	if total >= 2*gigabyte {
		return (total - gigabyte) / megabyte
	}
	return total / 2 / megabyte
}

// usableDiskMB leaves 5 GB to the host, or half of less than 10 GB.
func usableDiskMB(total uint64) uint64 {
	if total >= 10*gigabyte {
		return (total - 5*gigabyte) / megabyte
	}
	return total / 2 / megabyte
}

// BootID returns an id that changes with every boot of the machine: an agent
// that finds another one in its checkpoint knows that no executor survived.
func BootID() (string, error) {
	data, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", fmt.Errorf("read boot id: %w", err)
	}
	return strings.TrimSpace(string(data)), nil
}

// lookupTimeout bounds asking for names at start.
const lookupTimeout = 5 * time.Second

// HostnameOptions are the flags that decide a node's name and address.
type HostnameOptions struct {
	// IP is where the node listens; unspecified addresses stand for the host's own.
	IP netip.Addr
	// Hostname, if set, is taken as it is (`--hostname`).
	Hostname string
	// Lookup is `--hostname_lookup`; if false the address is the name.
	Lookup bool
}

// Hostname returns the name that a node advertises: `--hostname`, else the name
// that its address has, else the address (src/slave/slave.cpp, initialize).
func Hostname(ctx context.Context, o HostnameOptions) (string, error) {
	if o.Hostname != "" {
		return o.Hostname, nil
	}
	ip := o.IP
	if !ip.IsValid() || ip.IsUnspecified() {
		own, err := HostIP(ctx)
		if err != nil {
			return "", err
		}
		ip = own
	}
	if !o.Lookup {
		return ip.String(), nil
	}
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	names, err := net.DefaultResolver.LookupAddr(ctx, ip.String())
	if err == nil && len(names) > 0 {
		return strings.TrimSuffix(names[0], "."), nil
	}
	// An address without a name is common on bare networks; Mesos goes on
	// with the address too.
	return ip.String(), nil
}

// HostIP returns the address under which others reach this host: that of its
// own name, unless that is a loopback address while a real one exists.
func HostIP(ctx context.Context) (netip.Addr, error) {
	name, err := os.Hostname()
	if err != nil {
		return netip.Addr{}, fmt.Errorf("find this host's address: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	var candidates []netip.Addr
	if found, err := net.DefaultResolver.LookupNetIP(ctx, "ip", name); err == nil {
		candidates = found
	}
	if addrs, err := net.InterfaceAddrs(); err == nil {
		for _, a := range addrs {
			if n, ok := a.(*net.IPNet); ok {
				if ip, ok := netip.AddrFromSlice(n.IP); ok {
					candidates = append(candidates, ip)
				}
			}
		}
	}
	return pickIP(candidates), nil
}

// pickIP prefers a global IPv4 address, then a global IPv6 one, then loopback;
// among equals the first.
func pickIP(candidates []netip.Addr) netip.Addr {
	best, bestRank := netip.AddrFrom4([4]byte{127, 0, 0, 1}), 0
	for _, ip := range candidates {
		ip = ip.Unmap()
		rank := 0
		switch {
		case ip.IsLoopback() || ip.IsUnspecified() || ip.IsLinkLocalUnicast() || ip.IsMulticast():
		case ip.Is4():
			rank = 2
		default:
			rank = 1
		}
		if rank > bestRank {
			best, bestRank = ip, rank
		}
	}
	return best
}
