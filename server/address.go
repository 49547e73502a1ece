package server

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"

	mesos "clusterd/api/mesos/v1"
	"clusterd/internal/version"
)

// masterInfo says who this master is: the id, and where others reach it.
func masterInfo(ctx context.Context, o *Options, id string, listen *net.TCPAddr) (*mesos.MasterInfo, error) {
	ip := listen.IP
	if o.AdvertiseIP != "" {
		ip = net.ParseIP(o.AdvertiseIP)
	} else if ip.IsUnspecified() {
		var err error
		if ip, err = ownIP(ctx); err != nil {
			return nil, err
		}
	}
	port := listen.Port
	if o.AdvertisePort != 0 {
		port = o.AdvertisePort
	}
	hostname := o.Hostname
	if hostname == "" {
		hostname = ip.String()
		if o.HostnameLookup {
			hostname = lookup(ctx, ip)
		}
	}
	info := &mesos.MasterInfo{
		Id: &id,
		// The number is in network order as a little-endian machine reads it:
		// 127.0.0.1 is 16777343. Clients use address.ip.
		Ip:       proto.Uint32(0),
		Port:     new(uint32(port)),
		Pid:      new("master@" + net.JoinHostPort(ip.String(), strconv.Itoa(port))),
		Hostname: &hostname,
		Version:  proto.String(version.Mesos),
		Address: &mesos.Address{
			Hostname: &hostname,
			Ip:       new(ip.String()),
			Port:     new(int32(port)),
		},
		Domain: o.Domain,
	}
	if v4 := ip.To4(); v4 != nil {
		*info.Ip = binary.LittleEndian.Uint32(v4)
	}
	for _, c := range []mesos.MasterInfo_Capability_Type{
		mesos.MasterInfo_Capability_AGENT_UPDATE,
		mesos.MasterInfo_Capability_AGENT_DRAINING,
		mesos.MasterInfo_Capability_QUOTA_V2,
	} {
		info.Capabilities = append(info.Capabilities, &mesos.MasterInfo_Capability{Type: c.Enum()})
	}
	return info, nil
}

// lookupTimeout bounds how long a name server may delay the start.
const lookupTimeout = 2 * time.Second

// lookup returns the host's name, or the IP when it has none.
func lookup(ctx context.Context, ip net.IP) string {
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	names, err := net.DefaultResolver.LookupAddr(ctx, ip.String())
	if err != nil || len(names) == 0 {
		return ip.String()
	}
	return strings.TrimSuffix(names[0], ".")
}

// ownIP is the first address of this machine that others could reach it at, an
// IPv4 one if there is any; on a machine without network the loopback address.
func ownIP(ctx context.Context) (net.IP, error) {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return nil, fmt.Errorf("find this machine's address (see --advertise_ip): %w", err)
	}
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	best := net.IPv4(127, 0, 0, 1)
	for _, a := range addrs {
		n, ok := a.(*net.IPNet)
		if !ok || !n.IP.IsGlobalUnicast() {
			continue
		}
		if n.IP.To4() != nil {
			return n.IP, nil
		}
		if best.IsLoopback() {
			best = n.IP
		}
	}
	return best, nil
}

// deadPeerAfter is how long a peer may leave what it was sent unacknowledged.
const deadPeerAfter = 75 * time.Second

// noticeDeadPeers makes connections fail whose peer's machine is gone. A stream
// is written to at every heartbeat, so that the kernel's keepalive never runs, and
// its retransmissions would go on for a quarter of an hour while the dead
// scheduler holds its offers. Connections inherit the option from the listener.
func noticeDeadPeers(_, _ string, c syscall.RawConn) error {
	var failed error
	err := c.Control(func(fd uintptr) {
		failed = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(deadPeerAfter.Milliseconds()))
	})
	if err = errors.Join(err, failed); err != nil {
		return fmt.Errorf("set TCP_USER_TIMEOUT: %w", err)
	}
	return nil
}

// hostPort is where a client is sent to reach a master.
func hostPort(m *mesos.MasterInfo) string {
	return net.JoinHostPort(m.GetHostname(), strconv.FormatUint(uint64(m.GetPort()), 10))
}
