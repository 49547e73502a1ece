package link

import (
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// maxTurn is how many messages of one link are handled before another link has
// its turn.
const maxTurn = 64

// errNothing says that the socket holds nothing more to read.
var errNothing = errors.New("nothing to read")

// pollee is a link whose messages a poller has handled.
type pollee interface {
	// readable notes that the socket can be read; false if that is no news.
	readable() bool
	// turn handles what has arrived; true if it wants another turn.
	turn() bool
}

// poller waits for many sockets at once, so that an idle link needs no goroutine:
// the stack of one that is blocked in a read takes 8 KB, more than all the rest
// that a master keeps of an agent. What arrives is handled by a few workers.
//
// The epoll instance is itself watched by the runtime's, as an [os.File].
type poller struct {
	file  *os.File
	epoll syscall.RawConn
	wg    sync.WaitGroup

	mu sync.Mutex
	// mu guards what follows.
	wake   *sync.Cond
	ready  []pollee // links that wait for a worker
	closed bool

	slotMu sync.Mutex
	// slotMu guards what follows. An event names a slot and its generation, as
	// its link may have ended since.
	slots []slot
	free  []int32
}

type slot struct {
	p   pollee
	gen int32
}

func newPoller() (*poller, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		return nil, errors.Join(os.NewSyscallError("fcntl", err), unix.Close(fd))
	}
	p := &poller{file: os.NewFile(uintptr(fd), "epoll")}
	p.wake = sync.NewCond(&p.mu)
	if p.epoll, err = p.file.SyscallConn(); err != nil {
		return nil, errors.Join(err, p.file.Close())
	}
	p.wg.Go(p.watch)
	// Workers wait for each other's turns at whatever takes the messages; that may
	// be full, so there are more of them than there are cores.
	for range 2 * runtime.GOMAXPROCS(0) {
		p.wg.Go(p.work)
	}
	return p, nil
}

// close ends the poller's goroutines. No link may use it any more.
func (p *poller) close() {
	_ = p.file.Close() // nothing was written
	p.mu.Lock()
	p.closed = true
	p.wake.Broadcast()
	p.mu.Unlock()
	p.wg.Wait()
}

// watch hands links that have become readable to the workers.
func (p *poller) watch() {
	var events [128]unix.EpollEvent
	for {
		n := 0
		err := p.epoll.Read(func(fd uintptr) bool {
			var err error
			n, err = unix.EpollWait(int(fd), events[:], 0)
			return err == nil && n > 0
		})
		if err != nil {
			return // closed
		}
		for _, e := range events[:n] {
			if l := p.at(e.Fd, e.Pad); l != nil && l.readable() {
				p.enqueue(l)
			}
		}
	}
}

func (p *poller) at(slot, gen int32) pollee {
	p.slotMu.Lock()
	defer p.slotMu.Unlock()
	if s := &p.slots[slot]; s.gen == gen {
		return s.p
	}
	return nil
}

func (p *poller) enqueue(l pollee) {
	p.mu.Lock()
	p.ready = append(p.ready, l)
	p.mu.Unlock()
	p.wake.Signal()
}

func (p *poller) work() {
	for {
		p.mu.Lock()
		for len(p.ready) == 0 && !p.closed {
			p.wake.Wait()
		}
		if len(p.ready) == 0 {
			p.mu.Unlock()
			return
		}
		l := p.ready[0]
		p.ready[0] = nil
		if p.ready = p.ready[1:]; len(p.ready) == 0 {
			p.ready = nil
		}
		p.mu.Unlock()
		if l.turn() {
			p.enqueue(l)
		}
	}
}

// watched is a socket of a poller.
type watched struct {
	p         *poller
	raw       syscall.RawConn
	slot, gen int32
	added     bool
}

func (p *poller) add(l pollee, raw syscall.RawConn) watched {
	p.slotMu.Lock()
	defer p.slotMu.Unlock()
	var at int32
	if n := len(p.free); n > 0 {
		at, p.free = p.free[n-1], p.free[:n-1]
	} else {
		at = int32(len(p.slots))
		p.slots = append(p.slots, slot{})
	}
	p.slots[at].p = l
	return watched{p: p, raw: raw, slot: at, gen: p.slots[at].gen}
}

// arm asks to be told once when the socket can be read.
func (w *watched) arm() error {
	op := unix.EPOLL_CTL_MOD
	if !w.added {
		op = unix.EPOLL_CTL_ADD
	}
	event := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLRDHUP | unix.EPOLLONESHOT, Fd: w.slot, Pad: w.gen}
	var ctl error
	err := w.raw.Control(func(socket uintptr) {
		err := w.p.epoll.Control(func(epoll uintptr) {
			ctl = unix.EpollCtl(int(epoll), op, int(socket), &event)
		})
		ctl = errors.Join(ctl, err)
	})
	w.added = true
	if err != nil {
		return err
	}
	return ctl
}

// forget gives the slot back. The kernel forgets a socket that is closed.
func (w *watched) forget() {
	w.p.slotMu.Lock()
	defer w.p.slotMu.Unlock()
	s := &w.p.slots[w.slot]
	s.p = nil
	s.gen++
	w.p.free = append(w.p.free, w.slot)
}

// read reads what is there, without waiting: not even for whoever else may be in
// a read, as linger is.
func (w *watched) read(b []byte) (n int, err error) {
	outer := w.raw.Control(func(fd uintptr) {
		for {
			if n, err = unix.Read(int(fd), b); !errors.Is(err, unix.EINTR) {
				return
			}
		}
	})
	switch {
	case outer != nil:
		return 0, outer
	case errors.Is(err, unix.EAGAIN):
		return 0, errNothing
	case err != nil:
		return 0, os.NewSyscallError("read", err)
	case n == 0:
		return 0, io.EOF
	}
	return n, nil
}

// dispatch is what a link has whose messages are handled by a poller.
type dispatch[In any] struct {
	watched
	handle func(In, error)
	// armed: the socket is watched, since then. Guarded by the mu of the link.
	armed bool
	since time.Time
}

// Dispatch has handle called with each message that arrives, one after the other,
// and last with the reason why the link ended. The goroutines that call it are
// shared by all links of a [Server]: an idle link owns none. It takes the place
// of Receive, and is called at most once, by the function that accepts the link;
// the link goes on when that returns. A link that has no socket of its own, such
// as one over TLS, gets a goroutine.
func (c *Conn[In, Out]) Dispatch(handle func(In, error)) {
	c.dispatched = true // read by the caller's goroutine only
	sock, ok := c.nc.(syscall.Conn)
	if !ok || c.server == nil {
		go c.receiveAll(handle)
		return
	}
	p, err := c.server.sharedPoller()
	if err != nil {
		_ = c.abort(fmt.Errorf("%w: %w", ErrCut, err))
		go c.receiveAll(handle)
		return
	}
	raw, err := sock.SyscallConn()
	if err != nil {
		_ = c.abort(fmt.Errorf("%w: %w", ErrCut, err))
		go c.receiveAll(handle)
		return
	}
	d := &dispatch[In]{handle: handle}
	d.watched = p.add(c, raw)
	c.mu.Lock()
	_ = c.nc.SetReadDeadline(time.Time{}) // the timer minds silence
	c.dispatch = d
	if !c.closing && !c.dead {
		c.timer.Reset(min(c.opts.Keepalive, c.opts.DeadAfter))
	}
	c.mu.Unlock()
	p.enqueue(c) // something may have come with the request
}

func (c *Conn[In, Out]) receiveAll(handle func(In, error)) {
	for {
		m, err := c.Receive()
		handle(m, err)
		if err != nil {
			c.finished()
			return
		}
	}
}

// finished has the server forget the link, whose handler knows that it has ended.
func (c *Conn[In, Out]) finished() {
	if m, ok := any(c).(*MasterConn); ok && c.server != nil {
		go c.server.await(m)
	}
}

// readable is called by the poller, and when the link ends.
func (c *Conn[In, Out]) readable() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.dispatch.armed {
		return false
	}
	c.dispatch.armed = false
	return true
}

// turn handles what has arrived. Only one worker at a time is in here.
func (c *Conn[In, Out]) turn() bool {
	d := c.dispatch
	for range maxTurn {
		m, err := c.Receive()
		if errors.Is(err, errNothing) {
			if c.arm() {
				return false
			}
			continue // it has ended meanwhile
		}
		d.handle(m, err)
		if err != nil {
			d.forget()
			c.finished()
			return false
		}
	}
	return true
}

// arm has the socket watched; false if the link has ended.
func (c *Conn[In, Out]) arm() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closing || c.dead {
		return false
	}
	if err := c.dispatch.arm(); err != nil {
		c.abortLocked(fmt.Errorf("%w: %w", ErrCut, err))
		return false
	}
	c.dispatch.armed, c.dispatch.since = true, time.Now()
	return true
}

// endedLocked has the handler of a link that just ended told.
func (c *Conn[In, Out]) endedLocked() {
	if d := c.dispatch; d != nil && d.armed {
		d.armed = false
		d.p.enqueue(c)
	}
}

// silentLocked says how long the link may still be silent.
func (c *Conn[In, Out]) silentLocked() time.Duration {
	if d := c.dispatch; d != nil && d.armed {
		return time.Until(d.since.Add(c.opts.DeadAfter))
	}
	return c.opts.DeadAfter
}

// await ends the bookkeeping of a link once it has ended.
func (s *Server) await(c *MasterConn) {
	<-c.Done()
	s.mu.Lock()
	delete(s.conns, c)
	s.mu.Unlock()
	s.wg.Done()
}

// sharedPoller returns the poller of the server's links.
func (s *Server) sharedPoller() (*poller, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.poller == nil {
		p, err := newPoller()
		if err != nil {
			return nil, err
		}
		s.poller = p
	}
	return s.poller, nil
}

var _ pollee = (*MasterConn)(nil)
