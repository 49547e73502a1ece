package gossip

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
)

const (
	// maxStreams is how many connections are served at once; others wait.
	maxStreams = 128
	// dialTimeout is for one connection: on a LAN who does not answer sooner is dead.
	dialTimeout = 3 * time.Second
	// udpBuffer is what the kernel is asked to hold back for us.
	udpBuffer = 2 << 20
)

var errShunned = errors.New("belongs to another cluster")

// transport carries gossip over UDP and TCP. It is ours, not memberlist's, so
// that nothing is sent to strangers, so that what strangers send is screened
// before memberlist reads it, and so that closing ends every connection.
type transport struct {
	udp       *net.UDPConn
	tcp       *net.TCPListener
	bound     netip.AddrPort
	advertise netip.AddrPort
	notices   *notices
	shunned   func(process string) bool
	encrypted bool

	packets chan *memberlist.Packet
	streams chan net.Conn
	slots   chan struct{} // one per accepted connection
	ctx     context.Context
	cancel  context.CancelFunc
	wg      sync.WaitGroup

	mu sync.Mutex
	// mu guards what follows.
	conns map[*guardedConn]struct{}
}

var _ memberlist.NodeAwareTransport = (*transport)(nil)

// listen binds TCP and UDP at one port.
func listen(ctx context.Context, bind netip.AddrPort, n *notices) (*transport, error) {
	t := &transport{
		notices: n, packets: make(chan *memberlist.Packet), streams: make(chan net.Conn),
		slots: make(chan struct{}, maxStreams), conns: make(map[*guardedConn]struct{}),
	}
	tries := 1
	if bind.Port() == 0 {
		tries = 20 // the kernel's choice for TCP may be taken for UDP
	}
	var err error
	for range tries {
		if err = t.bind(ctx, bind); err == nil {
			break
		}
	}
	if err != nil {
		return nil, fmt.Errorf("gossip address: %w", err)
	}
	t.ctx, t.cancel = context.WithCancel(context.Background())
	return t, nil
}

func (t *transport) bind(ctx context.Context, bind netip.AddrPort) error {
	ln, err := new(net.ListenConfig).Listen(ctx, "tcp", bind.String())
	if err != nil {
		return err
	}
	tcp := ln.(*net.TCPListener)
	bound := tcp.Addr().(*net.TCPAddr).AddrPort()
	bound = netip.AddrPortFrom(bind.Addr(), bound.Port())
	pc, err := new(net.ListenConfig).ListenPacket(ctx, "udp", bound.String())
	if err != nil {
		_ = tcp.Close() // nothing came of it
		return err
	}
	t.tcp, t.udp, t.bound = tcp, pc.(*net.UDPConn), bound
	_ = t.udp.SetReadBuffer(udpBuffer) // the kernel gives what it may
	return nil
}

// start begins to receive; before it advertise, shunned and encrypted are set.
func (t *transport) start() {
	t.wg.Go(t.receive)
	t.wg.Go(t.accept)
}

// FinalAdvertiseAddr returns the address that others are told.
func (t *transport) FinalAdvertiseAddr(string, int) (net.IP, int, error) {
	return t.advertise.Addr().AsSlice(), int(t.advertise.Port()), nil
}

// PacketCh returns where packets arrive.
func (t *transport) PacketCh() <-chan *memberlist.Packet { return t.packets }

// StreamCh returns where connections arrive.
func (t *transport) StreamCh() <-chan net.Conn { return t.streams }

// WriteTo sends a packet.
func (t *transport) WriteTo(b []byte, addr string) (time.Time, error) {
	return t.WriteToAddress(b, memberlist.Address{Addr: addr})
}

// WriteToAddress sends a packet, unless it goes to a stranger.
func (t *transport) WriteToAddress(b []byte, addr memberlist.Address) (time.Time, error) {
	if addr.Name != "" && t.shunned(addr.Name) {
		return time.Now(), nil
	}
	to, err := netip.ParseAddrPort(addr.Addr)
	if err != nil {
		return time.Time{}, fmt.Errorf("gossip to %q: %w", addr.Addr, err)
	}
	_, err = t.udp.WriteToUDPAddrPort(b, to)
	return time.Now(), err
}

// DialTimeout connects to another node.
func (t *transport) DialTimeout(addr string, timeout time.Duration) (net.Conn, error) {
	return t.DialAddressTimeout(memberlist.Address{Addr: addr}, timeout)
}

// DialAddressTimeout connects to another node, unless it is a stranger.
func (t *transport) DialAddressTimeout(addr memberlist.Address, timeout time.Duration) (net.Conn, error) {
	if addr.Name != "" && t.shunned(addr.Name) {
		return nil, errShunned
	}
	d := net.Dialer{Timeout: min(timeout, dialTimeout)}
	nc, err := d.DialContext(t.ctx, "tcp", addr.Addr)
	if err != nil {
		return nil, err
	}
	return t.guard(nc, nil)
}

// Shutdown ends it, and every connection.
func (t *transport) Shutdown() error {
	t.cancel()
	_ = t.tcp.Close()
	_ = t.udp.Close() // nothing is lost that gossip had promised
	t.mu.Lock()
	conns := t.conns
	t.conns = nil
	t.mu.Unlock()
	for c := range conns {
		c.Conn.Close()
	}
	t.wg.Wait()
	return nil
}

func (t *transport) receive() {
	buf := make([]byte, 64<<10)
	for {
		n, from, err := t.udp.ReadFromUDPAddrPort(buf)
		at := time.Now()
		if t.ctx.Err() != nil {
			return
		}
		if err != nil || n == 0 {
			continue // ICMP's answer to what was sent; the probes notice
		}
		if !t.encrypted {
			if err := screenPacket(buf[:n]); err != nil {
				t.drop(from.String(), err)
				continue
			}
		}
		p := &memberlist.Packet{Buf: bytes.Clone(buf[:n]), From: net.UDPAddrFromAddrPort(from), Timestamp: at}
		select {
		case t.packets <- p:
		case <-t.ctx.Done():
			return
		}
	}
}

// drop tells of what was not handed to memberlist.
func (t *transport) drop(from string, err error) {
	if t.notices.mismatch(err.Error(), from) {
		return
	}
	t.notices.log.Trace().Str("address", from).Err(err).Msg("gossip dropped")
}

func (t *transport) accept() {
	delay := time.Duration(0)
	for {
		select {
		case t.slots <- struct{}{}:
		case <-t.ctx.Done():
			return
		}
		nc, err := t.tcp.AcceptTCP()
		if err == nil {
			delay = 0
			t.serve(nc)
			continue
		}
		<-t.slots
		delay = min(max(2*delay, 5*time.Millisecond), time.Second)
		if t.ctx.Err() == nil { // most likely out of file descriptors
			if e := t.notices.once("accept"); e != nil {
				e.Err(err).Msg("accept gossip connection")
			}
		}
		select {
		case <-time.After(delay):
		case <-t.ctx.Done():
			return
		}
	}
}

// serve hands an accepted connection over; its slot comes back when it is closed.
func (t *transport) serve(nc net.Conn) {
	c, err := t.guard(nc, func() { <-t.slots })
	if err != nil {
		<-t.slots
		return
	}
	select {
	case t.streams <- c:
	case <-t.ctx.Done():
		c.Close()
	}
}

// guardedConn is a connection whose first message is screened.
type guardedConn struct {
	net.Conn
	t       *transport
	release func() // nil: this node has dialled
	once    sync.Once

	// Of the one goroutine that reads:
	screened bool
	ahead    bytes.Buffer // read, and found good
	err      error
}

func (t *transport) guard(nc net.Conn, release func()) (net.Conn, error) {
	c := &guardedConn{Conn: nc, t: t, release: release}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.conns == nil {
		nc.Close()
		return nil, net.ErrClosed
	}
	t.conns[c] = struct{}{}
	return c, nil
}

// Read reads, once the whole first message was found to be one that we send.
func (c *guardedConn) Read(p []byte) (int, error) {
	if !c.screened {
		c.screened = true
		if !c.t.encrypted {
			c.err = screenStream(c.Conn, c.release != nil, &c.ahead)
		}
		if c.err != nil {
			c.ahead.Reset()
			c.t.drop(c.RemoteAddr().String(), c.err)
		}
	}
	switch {
	case c.err != nil:
		return 0, c.err
	case c.ahead.Len() > 0:
		return c.ahead.Read(p)
	}
	return c.Conn.Read(p)
}

// Close closes the connection.
func (c *guardedConn) Close() error {
	c.once.Do(func() {
		c.t.mu.Lock()
		delete(c.t.conns, c)
		c.t.mu.Unlock()
		if c.release != nil {
			c.release()
		}
	})
	return c.Conn.Close()
}

// hostPort joins what memberlist knows of an address.
func hostPort(addr netip.AddrPort) string {
	return net.JoinHostPort(addr.Addr().String(), strconv.Itoa(int(addr.Port())))
}
