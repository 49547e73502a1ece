package registry

import (
	"context"
	"fmt"
	"net"
	"sync"
	"syscall"
	"time"

	"github.com/hashicorp/raft"
	"golang.org/x/sys/unix"
)

const (
	rpcTimeout     = 10 * time.Second // of one call of the Raft protocol, a slow disk included
	unacknowledged = 2 * time.Second  // how long sent bytes may be; then the connection is given up
)

// streamLayer carries the Raft protocol over TCP. It is ours so that the address
// bound is known beside the one advertised, and so that closing ends the
// connections, which raft leaves to the other side.
type streamLayer struct {
	net.Listener
	advertise net.Addr
	dial      func(ctx context.Context, addr string) (net.Conn, error)
	ctx       context.Context // ends with closeAll, and with it a dial under way
	cancel    context.CancelFunc

	mu sync.Mutex
	// mu guards what follows.
	conns  map[net.Conn]struct{}
	closed bool
}

// trackedConn forgets itself in its layer when it is closed.
type trackedConn struct {
	net.Conn
	layer *streamLayer
}

// Close closes the connection.
func (c *trackedConn) Close() error {
	c.layer.mu.Lock()
	delete(c.layer.conns, c)
	c.layer.mu.Unlock()
	return c.Conn.Close()
}

func (s *streamLayer) track(nc net.Conn) (net.Conn, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		_ = nc.Close() // nothing was sent
		return nil, net.ErrClosed
	}
	c := &trackedConn{Conn: nc, layer: s}
	s.conns[c] = struct{}{}
	return c, nil
}

// Accept takes a connection of another member.
func (s *streamLayer) Accept() (net.Conn, error) {
	nc, err := s.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return s.track(nc)
}

// Dial connects to another member.
func (s *streamLayer) Dial(addr raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(s.ctx, timeout)
	defer cancel()
	nc, err := s.dial(ctx, string(addr))
	if err != nil {
		return nil, err
	}
	return s.track(nc)
}

// dialTCP gives a connection up when what it sent is not acknowledged in time:
// after a partition the retries of the kernel may be far apart.
func dialTCP(ctx context.Context, addr string) (net.Conn, error) {
	d := net.Dialer{Control: func(_, _ string, c syscall.RawConn) error {
		var err error
		if e := c.Control(func(fd uintptr) {
			err = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(unacknowledged.Milliseconds()))
		}); e != nil {
			return e
		}
		return err
	}}
	return d.DialContext(ctx, "tcp", addr)
}

// closeAll ends what is left after the transport was closed.
func (s *streamLayer) closeAll() {
	s.cancel()
	s.mu.Lock()
	s.closed = true
	var conns []net.Conn
	for c := range s.conns {
		conns = append(conns, c)
	}
	s.mu.Unlock()
	for _, c := range conns {
		_ = c.Close() // the other side reconnects if it lives
	}
}

// Addr returns the address that others are told.
func (s *streamLayer) Addr() net.Addr {
	if s.advertise != nil {
		return s.advertise
	}
	return s.Listener.Addr()
}

// openTransport returns the transport, how to close it, and the address at which
// this process reaches itself.
func openTransport(ctx context.Context, o *Options) (innerTransport, func() error, raft.ServerAddress, error) {
	if o.Dir == "" && o.BootstrapExpect == 1 && o.AdvertiseAddr == "" {
		addr, mem := raft.NewInmemTransport("")
		mem.Connect(addr, mem) // see Registry.electSelf
		return mem, mem.Close, addr, nil
	}
	advertise, err := o.advertise()
	if err != nil {
		return nil, nil, "", err
	}
	ln, err := new(net.ListenConfig).Listen(ctx, "tcp", o.BindAddr)
	if err != nil {
		return nil, nil, "", fmt.Errorf("raft address: %w", err)
	}
	layer := &streamLayer{Listener: ln, advertise: advertise, dial: o.dial, conns: make(map[net.Conn]struct{})}
	if layer.dial == nil {
		layer.dial = dialTCP
	}
	layer.ctx, layer.cancel = context.WithCancel(context.Background())
	if a, ok := layer.Addr().(*net.TCPAddr); !ok || a.IP.IsUnspecified() {
		layer.closeAll()
		_ = ln.Close() // nothing came of it
		return nil, nil, "", fmt.Errorf("raft address %s is not one that other masters can dial: set the address to advertise", layer.Addr())
	}
	trans := raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
		Stream: layer, MaxPool: 3, Timeout: rpcTimeout, Logger: newHCLog(o.Logger),
	})
	closeTransport := func() error {
		err := trans.Close()
		layer.closeAll()
		return err
	}
	return trans, closeTransport, raft.ServerAddress(ln.Addr().String()), nil
}
