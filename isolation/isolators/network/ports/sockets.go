package ports

import (
	"encoding/binary"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// tcpListen is the state of sockets that wait for connections (TCP_LISTEN).
const tcpListen = 10

// diagRequest is struct inet_diag_req_v2: sockets of a family, of TCP, that listen.
type diagRequest struct{ family byte }

// Len is the size of the structure.
func (diagRequest) Len() int { return 56 }

// Serialize renders it.
func (r diagRequest) Serialize() []byte {
	b := make([]byte, 56)
	b[0], b[1] = r.family, unix.IPPROTO_TCP
	binary.NativeEndian.PutUint32(b[4:], 1<<tcpListen)
	return b
}

// Where struct inet_diag_msg has the port, in network order, and the inode.
const (
	diagPort  = 4
	diagInode = 68
	diagSize  = 72
)

// listening asks the kernel for the TCP sockets of the machine's network that listen:
// ports by inode. Those of IPv6 count: most take IPv4 connections as well (Mesos does
// not see them).
func listening() (map[uint32]uint64, error) {
	out := make(map[uint32]uint64)
	for _, family := range []byte{unix.AF_INET, unix.AF_INET6} {
		request := nl.NewNetlinkRequest(nl.SOCK_DIAG_BY_FAMILY, unix.NLM_F_DUMP)
		request.AddData(diagRequest{family})
		answers, err := request.Execute(unix.NETLINK_INET_DIAG, 0)
		if err != nil {
			return nil, fmt.Errorf("ask for listening sockets: %w", err)
		}
		for _, a := range answers {
			if len(a) < diagSize {
				return nil, fmt.Errorf("ask for listening sockets: an answer of %d bytes", len(a))
			}
			inode := binary.NativeEndian.Uint32(a[diagInode:])
			if inode != 0 {
				out[inode] = uint64(binary.BigEndian.Uint16(a[diagPort:]))
			}
		}
	}
	return out, nil
}

// portsOf are the ports that processes have among these sockets, in order. Processes
// that end meanwhile have none.
func portsOf(pids []int, sockets map[uint32]uint64) []uint64 {
	var ports []uint64
	for _, pid := range pids {
		dir := "/proc/" + strconv.Itoa(pid) + "/fd"
		f, err := os.Open(dir)
		if err != nil {
			continue
		}
		names, _ := f.Readdirnames(-1)
		_ = f.Close()
		for _, name := range names {
			link, err := os.Readlink(dir + "/" + name)
			if err != nil {
				continue
			}
			text, ok := strings.CutPrefix(link, "socket:[")
			if !ok {
				continue
			}
			inode, err := strconv.ParseUint(strings.TrimSuffix(text, "]"), 10, 32)
			if err != nil {
				continue
			}
			if port, ok := sockets[uint32(inode)]; ok {
				ports = append(ports, port)
			}
		}
	}
	slices.Sort(ports)
	return slices.Compact(ports)
}
