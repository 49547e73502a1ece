package tlsconf

import (
	"container/list"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// errInClear says that a caller does not speak TLS.
var errInClear = errors.New("the caller does not speak TLS")

// recordHandshake is the first byte of TLS.
const recordHandshake = 0x16

// inClear answers callers who speak HTTP in clear, which is what most do that do not
// speak TLS.
const inClear = "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n" +
	"This port speaks TLS: use https.\n"

// Listen wraps a listener; with downgrade permitted it takes connections in clear
// too. What its Accept returns has shaken hands: a [*tls.Conn], or the connection
// in clear as it came. Handshakes go on beside each other, each has a limited time,
// and there is a limit to how many there are: beyond it, the one that has lasted
// longest is given up for the one that comes. So nobody who is slow holds others up.
func (i *Identity) Listen(l net.Listener) net.Listener {
	if i == nil {
		return l
	}
	return &listener{
		Listener: l, id: i, config: i.Server(), accepted: make(chan accepted), done: make(chan struct{}),
	}
}

type accepted struct {
	conn net.Conn
	err  error
}

type listener struct {
	net.Listener
	id     *Identity
	config *tls.Config

	start    sync.Once // of the loop, at the first Accept
	stop     sync.Once
	wg       sync.WaitGroup
	accepted chan accepted
	done     chan struct{} // closed by Close

	mu sync.Mutex
	// mu guards what follows.
	open   list.List // of net.Conn that shake hands, the oldest first
	closed bool
}

// Accept returns the next caller who has shaken hands.
func (l *listener) Accept() (net.Conn, error) {
	l.start.Do(func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if !l.closed {
			l.wg.Go(l.loop)
		}
	})
	select {
	case a := <-l.accepted:
		return a.conn, a.err
	case <-l.done:
		return nil, net.ErrClosed
	}
}

// Close ends the listener and the handshakes under way.
func (l *listener) Close() error {
	err := net.ErrClosed
	l.stop.Do(func() {
		err = l.Listener.Close()
		close(l.done)
		l.mu.Lock()
		l.closed = true
		for e := l.open.Front(); e != nil; e = e.Next() {
			_ = e.Value.(net.Conn).Close() // it had no answer yet
		}
		l.mu.Unlock()
		l.wg.Wait()
	})
	return err
}

func (l *listener) loop() {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			// Errors that pass, such as too many open files, are for who accepts to wait
			// out; the send waits for that.
			if !l.hand(accepted{err: err}) || errors.Is(err, net.ErrClosed) {
				return
			}
			continue
		}
		e := l.track(c)
		if e == nil {
			_ = c.Close() // the listener is closed
			return
		}
		l.wg.Go(func() { l.serve(c, e) })
	}
}

func (l *listener) hand(a accepted) bool {
	select {
	case l.accepted <- a:
		return true
	case <-l.done:
		return false
	}
}

// track notes who shakes hands; nil after Close.
func (l *listener) track(c net.Conn) *list.Element {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil
	}
	if l.open.Len() >= l.id.opts.MaxHandshakes {
		// One that means it well takes milliseconds.
		oldest := l.open.Front()
		l.open.Remove(oldest)
		_ = oldest.Value.(net.Conn).Close() // it had no answer yet
	}
	return l.open.PushBack(c)
}

func (l *listener) serve(c net.Conn, e *list.Element) {
	conn, err := l.shake(c)
	l.mu.Lock()
	l.open.Remove(e) // no effect if it was given up
	l.mu.Unlock()
	if err == nil && !l.hand(accepted{conn: conn}) {
		err = net.ErrClosed
	}
	if err == nil {
		return
	}
	_ = c.Close() // refused
	if tell := l.id.opts.OnRefused; tell != nil && !errors.Is(err, net.ErrClosed) {
		tell(c.RemoteAddr(), err)
	}
}

// shake makes of a connection one that may be served.
func (l *listener) shake(c net.Conn) (net.Conn, error) {
	end := time.Now().Add(l.id.opts.HandshakeTimeout)
	if err := c.SetDeadline(end); err != nil {
		return nil, err
	}
	first, whole, err := peek(c)
	if err != nil {
		return nil, fmt.Errorf("nothing came: %w", err)
	}
	if first != recordHandshake {
		return l.clear(whole)
	}
	conn := tls.Server(whole, l.config)
	ctx, cancel := context.WithDeadline(context.Background(), end)
	defer cancel()
	if err := conn.HandshakeContext(ctx); err != nil {
		linger(c)
		return nil, fmt.Errorf("TLS handshake: %w", err)
	}
	return conn, c.SetDeadline(time.Time{})
}

func (l *listener) clear(c net.Conn) (net.Conn, error) {
	if l.id.opts.Downgrade {
		return c, c.SetDeadline(time.Time{})
	}
	_, _ = io.WriteString(c, inClear) // for whom it may help
	linger(c)
	return nil, errInClear
}

// linger gives the caller the time to read why it is refused: a close with unread
// bytes would throw that away.
func linger(c net.Conn) {
	if t, ok := c.(interface{ CloseWrite() error }); ok && t.CloseWrite() == nil {
		_ = c.SetReadDeadline(time.Now().Add(time.Second))
		_, _ = io.Copy(io.Discard, io.LimitReader(c, 64<<10))
	}
}

// peek looks at the first byte. The connection that it returns has all of them; it
// is the same one where the kernel can be asked.
func peek(c net.Conn) (byte, net.Conn, error) {
	if sock, ok := c.(syscall.Conn); ok {
		if raw, err := sock.SyscallConn(); err == nil {
			b, err := peekSocket(raw)
			return b, c, err
		}
	}
	var b [1]byte
	if _, err := io.ReadFull(c, b[:]); err != nil {
		return 0, nil, err
	}
	return b[0], &prefixed{Conn: c, first: b[0], full: true}, nil
}

func peekSocket(raw syscall.RawConn) (byte, error) {
	var b [1]byte
	var n int
	var err error
	outer := raw.Read(func(fd uintptr) bool {
		for {
			n, _, err = unix.Recvfrom(int(fd), b[:], unix.MSG_PEEK)
			if !errors.Is(err, unix.EINTR) {
				return !errors.Is(err, unix.EAGAIN)
			}
		}
	})
	switch {
	case outer != nil:
		return 0, outer
	case err != nil:
		return 0, err
	case n <= 0:
		return 0, io.EOF
	}
	return b[0], nil
}

// prefixed is a connection of which one byte was read.
type prefixed struct {
	net.Conn
	first byte
	full  bool
}

// Read returns the byte first.
func (p *prefixed) Read(b []byte) (int, error) {
	if p.full && len(b) > 0 {
		p.full = false
		b[0] = p.first
		return 1, nil
	}
	return p.Conn.Read(b)
}
