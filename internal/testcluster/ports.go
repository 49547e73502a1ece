package testcluster

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
)

// Ports of clusters are not those that Linux gives to who asks for any port or opens a
// connection, from 32768 on: a daemon listens some time after its port was chosen, and again
// after it was killed. Nor are they those that agents offer to tasks, from 31000 on.
const (
	firstPort = 20000
	lastPort  = 31000
	// portBlock is how many of them a process takes at once.
	portBlock = 100
)

// ports are those that this process has taken, and not yet given away.
var ports struct {
	sync.Mutex
	next, end int
	// held keeps the blocks from other processes until this one ends.
	held []net.Listener
}

// Ports returns n TCP and UDP ports of loopback that nobody listens on. No other process
// that asks here is given them, nor is this one again.
func Ports(n int) ([]int, error) {
	ports.Lock()
	defer ports.Unlock()
	var free []int
	for len(free) < n {
		if ports.next == ports.end {
			if err := takeBlock(); err != nil {
				return nil, err
			}
		}
		if port := ports.next; isFree(port) {
			free = append(free, port)
		}
		ports.next++
	}
	return free, nil
}

// takeBlock takes ports that no other process has. The mark of a block is a name among the
// abstract sockets, which like ports belong to the network namespace, and which ends with
// the process however that ends.
func takeBlock() error {
	blocks := (lastPort - firstPort) / portBlock
	start := rand.IntN(blocks) //nolint:gosec // no secret
	for i := range blocks {
		first := firstPort + (start+i)%blocks*portBlock
		l, err := new(net.ListenConfig).Listen(context.Background(), "unix", fmt.Sprintf("@clusterd-test-ports-%d", first))
		if err != nil {
			continue // another process has it
		}
		ports.held = append(ports.held, l)
		ports.next, ports.end = first, first+portBlock
		return nil
	}
	return errors.New("no ports for tests are left")
}

func isFree(port int) bool {
	addr := loopback(port)
	l, err := new(net.ListenConfig).Listen(context.Background(), "tcp", addr)
	if err != nil {
		return false
	}
	defer l.Close()
	u, err := new(net.ListenConfig).ListenPacket(context.Background(), "udp", addr)
	if err != nil {
		return false
	}
	return u.Close() == nil
}
