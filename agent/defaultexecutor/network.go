package defaultexecutor

import (
	"bytes"
	"context"
	"errors"
	"net"
	"os"
	"strconv"
	"sync"

	"clusterd/agent/checks"
	"clusterd/agent/executorlink"
)

// markVariable is in the environment of everything that runs in a container: the container's
// key (isolation's launchers put it there).
const markVariable = "CLUSTERD_CONTAINER_ID"

// network is the network namespace of a task that has one of its own.
type network struct {
	mu sync.Mutex // mu guards what follows.
	// file is an open /proc/PID/ns/net, nil before it is needed.
	file   *os.File
	closed bool
}

var errNoNetwork = errors.New("no process of the task was found, whose network could be entered")

// open finds the namespace by a process of the container. It works in a process namespace as
// well, where ids are others than the agent's.
func (n *network) open(key string) (*os.File, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.file != nil || n.closed {
		return n.file, nil
	}
	dir, err := os.Open("/proc")
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	entry := []byte("\x00" + markVariable + "=" + key + "\x00")
	for _, name := range names {
		if _, err := strconv.Atoi(name); err != nil {
			continue
		}
		env, err := os.ReadFile("/proc/" + name + "/environ")
		if err != nil || !bytes.Contains(append([]byte{0}, append(env, 0)...), entry) {
			continue
		}
		if f, err := os.Open("/proc/" + name + "/ns/net"); err == nil {
			n.file = f
			return f, nil
		}
	}
	return nil, errNoNetwork
}

func (n *network) close() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.closed = true
	if n.file != nil {
		n.file.Close()
		n.file = nil
	}
}

// dial connects from within the namespace.
func (n *network) dial(ctx context.Context, key, address string) (net.Conn, error) {
	ns, err := n.open(key)
	if err != nil {
		return nil, err
	}
	if ns == nil {
		return nil, errNoNetwork
	}
	return checks.DialIn(ctx, ns, address)
}

// containerIP is the address of the executor's container, which tasks are told: the agent's,
// unless the container has a network of its own.
func containerIP(agent executorlink.Address, env []string) string {
	if ip := value(env, "LIBPROCESS_IP"); ip != "" {
		return ip
	}
	endpoint := value(env, "MESOS_AGENT_ENDPOINT")
	host, _, err := net.SplitHostPort(endpoint)
	if err != nil {
		host, _, _ = net.SplitHostPort(agent.Host)
	}
	theirs := net.ParseIP(host)
	if theirs.IsLoopback() && agent.Network != "unix" {
		return host // we reach the agent there: it is the same network
	}
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		return host
	}
	first := ""
	for _, a := range addresses {
		ipnet, ok := a.(*net.IPNet)
		if !ok || !ipnet.IP.IsGlobalUnicast() {
			continue
		}
		if ipnet.IP.Equal(theirs) {
			return host
		}
		if first == "" || net.ParseIP(first).To4() == nil && ipnet.IP.To4() != nil {
			first = ipnet.IP.String()
		}
	}
	if first == "" {
		return host
	}
	return first
}
