package registry

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
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

// streamLayer carries the Raft protocol over TCP, inside TLS if that is
// configured, after a handshake in which both sides make sure of the other. It is
// ours for that, so that the address bound is known beside the one advertised,
// and so that closing ends the connections, which raft leaves to the other side.
type streamLayer struct {
	net.Listener
	identity  *identity
	advertise net.Addr
	tls       *tls.Config // nil: without
	clientTLS func() *tls.Config
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

func (s *streamLayer) track(nc net.Conn) (*trackedConn, error) {
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

// acceptedConn shakes hands at its first read, which is in a goroutine of its own:
// who connects and is silent holds nobody up.
type acceptedConn struct {
	net.Conn
	layer *streamLayer
	once  sync.Once
	err   error
}

// Read shakes hands if that was not done, and reads.
func (c *acceptedConn) Read(b []byte) (int, error) {
	c.once.Do(func() {
		if c.err = c.layer.identity.receive(c.layer.ctx, c.Conn); c.err != nil {
			c.err = io.EOF // which raft takes in silence: receive has told
			_ = c.Close()  // refused
		}
	})
	if c.err != nil {
		return 0, c.err
	}
	return c.Conn.Read(b)
}

// Accept takes a connection of another member.
func (s *streamLayer) Accept() (net.Conn, error) {
	nc, err := s.Listener.Accept()
	if err != nil {
		return nil, err
	}
	c, err := s.track(nc)
	if err != nil {
		return nil, err
	}
	a := &acceptedConn{Conn: c, layer: s}
	if s.tls != nil {
		a.Conn = tls.Server(c, s.tls)
	}
	return a, nil
}

// Dial connects to another member, whose id is before its address; see guard.at.
// If the master is known to be at another address by now, that is tried first:
// after a start of all members at new addresses nobody could tell the others.
func (s *streamLayer) Dial(target raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(s.ctx, timeout)
	defer cancel()
	select {
	case <-s.identity.ready:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	id, addr := "", string(target)
	if at := strings.LastIndexByte(addr, '@'); at >= 0 {
		id, addr = addr[:at], addr[at+1:]
	}
	if newer, ok := s.identity.whereIs(raft.ServerID(id)); ok && newer != addr {
		if c, err := s.connect(ctx, id, newer); err == nil {
			return c, nil
		}
	}
	return s.connect(ctx, id, addr)
}

func (s *streamLayer) connect(ctx context.Context, id, addr string) (net.Conn, error) {
	nc, err := s.dial(ctx, addr)
	if err != nil {
		return nil, err
	}
	c, err := s.track(nc)
	if err != nil {
		return nil, err
	}
	var conn net.Conn = c
	if s.tls != nil {
		conn = tls.Client(c, clientTLS(s.clientTLS(), addr))
	}
	deadline, _ := ctx.Deadline() // Dial has set it
	if limit := time.Now().Add(handshakeTimeout); limit.Before(deadline) {
		deadline = limit
	}
	err = conn.SetDeadline(deadline)
	if err == nil {
		err = s.identity.greet(conn, id)
	}
	if err == nil {
		err = conn.SetDeadline(time.Time{})
	}
	if err != nil {
		_ = c.Close() // refused, or cut
		return nil, s.identity.refused(id, addr, err)
	}
	return conn, nil
}

// clientTLS names the server whose certificate is expected.
func clientTLS(c *tls.Config, addr string) *tls.Config {
	if c.ServerName != "" {
		return c
	}
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		host = addr
	}
	c = c.Clone()
	c.ServerName = host
	return c
}

// tlsHint says what errors of TLS mean that come from one side being without it.
func tlsHint(err error) error {
	if record, ok := errors.AsType[tls.RecordHeaderError](err); ok && record.Conn != nil {
		return fmt.Errorf("it does not speak TLS, this master does: %w", err)
	}
	return err
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
func openTransport(ctx context.Context, o *Options, who *identity) (innerTransport, func() error, raft.ServerAddress, error) {
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
	layer := &streamLayer{
		Listener: ln, identity: who, advertise: advertise, tls: o.TLS, clientTLS: o.ClientTLS, dial: o.dial,
		conns: make(map[net.Conn]struct{}),
	}
	if layer.clientTLS == nil {
		layer.clientTLS = func() *tls.Config { return o.TLS }
	}
	if layer.dial == nil {
		layer.dial = dialTCP
	}
	layer.ctx, layer.cancel = context.WithCancel(context.Background())
	if a, ok := layer.Addr().(*net.TCPAddr); !ok || a.IP.IsUnspecified() {
		layer.closeAll()
		_ = ln.Close() // nothing came of it
		return nil, nil, "", fmt.Errorf("raft address %s is not one that other masters can dial: set the address to advertise", layer.Addr())
	}
	// One entry is under way at a time, so that a pipeline of them gains nothing; and
	// raft's can wait for itself for ever: when its reader has met a newer term and
	// its writer sends once more, neither ends, the old leader's heartbeats go on, and
	// so does Shutdown.
	trans := raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
		Stream: layer, MaxPool: 3, MaxRPCsInFlight: 1, Timeout: rpcTimeout, Logger: newHCLog(o.Logger),
	})
	closeTransport := func() error {
		err := trans.Close()
		layer.closeAll()
		return err
	}
	return trans, closeTransport, raft.ServerAddress(ln.Addr().String()), nil
}
