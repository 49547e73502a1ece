package link

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	clusterdv1 "clusterd/api/clusterd/v1"
)

// MasterConn is the master's end of a link: it receives what agents say.
type MasterConn = Conn[*clusterdv1.AgentMessage, *clusterdv1.MasterMessage]

// AgentConn is the agent's end of a link.
type AgentConn = Conn[*clusterdv1.MasterMessage, *clusterdv1.AgentMessage]

// Conn is one end of a link on which In arrives and Out is sent.
type Conn[In, Out proto.Message] struct {
	nc      net.Conn
	opts    Options
	version int
	at      *url.URL     // where the master was found; nil at the master's end
	records recordReader // owned by the goroutine in Receive
	done    chan struct{}
	timer   *time.Timer // sends keepalives, and minds the peer's if dispatched
	server  *Server     // nil at the agent's end

	dispatched bool // Dispatch was called

	mu sync.Mutex
	// mu guards what follows.
	pending  []byte        // records that wait to be written
	messages int           // messages in pending and in the write under way
	inflight int           // bytes of the write under way
	flushing bool          // a goroutine is in flush
	wrote    bool          // something was written since the last keepalive tick
	closing  bool          // the last record is queued; nothing may follow
	dead     bool          // the socket is closed
	ended    bool          // done is closed
	err      error         // why the link ended; set once, with closing or dead
	dispatch *dispatch[In] // set once, by Dispatch
}

func newConn[In, Out proto.Message](nc net.Conn, early []byte, version int, opts Options) *Conn[In, Out] {
	c := &Conn[In, Out]{nc: nc, opts: opts, version: version, done: make(chan struct{})}
	c.records.init(deadlineReader[In, Out]{c}, opts.MaxRecord, early)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.timer = time.AfterFunc(opts.Keepalive, c.keepalive)
	return c
}

// Version returns the version that both sides speak.
func (c *Conn[In, Out]) Version() int { return c.version }

// RemoteAddr returns the peer's address.
func (c *Conn[In, Out]) RemoteAddr() net.Addr { return c.nc.RemoteAddr() }

// LocalAddr returns the address of this side.
func (c *Conn[In, Out]) LocalAddr() net.Addr { return c.nc.LocalAddr() }

// Done returns a channel that is closed when the link has ended and nothing of
// it is left: no goroutine, no socket.
func (c *Conn[In, Out]) Done() <-chan struct{} { return c.done }

// Err returns why the link ended, nil as long as it has not.
func (c *Conn[In, Out]) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// Queued returns how many bytes wait to be written.
func (c *Conn[In, Out]) Queued() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.pending) + c.inflight
}

// Send queues a message. It never blocks: when the queue is full the link ends
// with ErrSlowPeer. A message over MaxRecord is refused with ErrTooLarge and the
// link goes on. After Close, and when the link has ended, Send returns why.
func (c *Conn[In, Out]) Send(m Out) error {
	size := proto.Size(m)
	if size > c.opts.MaxRecord {
		return fmt.Errorf("%w: %d bytes, the limit is %d", ErrTooLarge, size, c.opts.MaxRecord)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closing || c.dead {
		return c.err
	}
	queued := len(c.pending) + c.inflight
	if c.messages >= c.opts.MaxQueueMessages || (queued > 0 && queued+size > c.opts.MaxQueueBytes) {
		c.abortLocked(ErrSlowPeer)
		return c.err
	}
	before := len(c.pending)
	buf := appendHeader(c.pending, recordMessage, size)
	// UseCachedSize would save a pass but needs m not to be shared between links.
	buf, err := proto.MarshalOptions{}.MarshalAppend(buf, m)
	if err != nil {
		c.pending = c.pending[:before]
		return fmt.Errorf("encode message: %w", err)
	}
	c.pending = buf
	c.messages++
	c.flushLocked()
	return nil
}

// Receive returns the next message. It returns an error once the link has ended,
// the same as Err. Only one goroutine may be in Receive, and one should always
// be: nobody else notices that the peer is silent.
func (c *Conn[In, Out]) Receive() (In, error) {
	var zero In
	for {
		kind, payload, err := c.nextRecord()
		if err != nil {
			return zero, err
		}
		switch kind {
		case recordMessage:
			m, err := c.decode(payload)
			if err != nil {
				return zero, c.reject(fmt.Errorf("%w: decode message: %w", ErrProtocol, err))
			}
			return m, nil
		case recordKeepalive:
			if len(payload) != 0 {
				return zero, c.reject(fmt.Errorf("%w: keepalive of %d bytes", ErrProtocol, len(payload)))
			}
		case recordClose:
			return zero, c.abort(fmt.Errorf("%w: %q", ErrPeerClosed, payload[:min(len(payload), maxReason)]))
		}
	}
}

func (c *Conn[In, Out]) decode(payload []byte) (In, error) {
	if decode, ok := any(c.opts.Decode).(func([]byte) (In, error)); ok && decode != nil {
		return decode(payload)
	}
	var zero In
	m := zero.ProtoReflect().New().Interface().(In)
	err := proto.Unmarshal(payload, m)
	if err == nil {
		// Unmarshal overlooks some required members that are missing below a
		// oneof (protobuf-go v1.36).
		err = proto.CheckInitialized(m)
	}
	return m, err
}

func (c *Conn[In, Out]) nextRecord() (kind byte, payload []byte, err error) {
	kind, payload, err = c.records.next()
	c.mu.Lock()
	ended := c.closing || c.dead
	cause := c.err
	c.mu.Unlock()
	switch {
	case ended:
		return 0, nil, cause
	case err == nil:
		return kind, payload, nil
	case errors.Is(err, errNothing):
		return 0, nil, errNothing
	case errors.Is(err, ErrProtocol), errors.Is(err, ErrTooLarge):
		return 0, nil, c.reject(err)
	case errors.Is(err, os.ErrDeadlineExceeded):
		return 0, nil, c.abort(fmt.Errorf("%w for %s", ErrSilent, c.opts.DeadAfter))
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return 0, nil, c.abort(ErrCut)
	default:
		return 0, nil, c.abort(fmt.Errorf("%w: %w", ErrCut, err))
	}
}

// deadlineReader reads from the socket and gives up when nothing comes at all
// for DeadAfter.
type deadlineReader[In, Out proto.Message] struct{ c *Conn[In, Out] }

func (r deadlineReader[In, Out]) Read(p []byte) (int, error) {
	c := r.c
	c.mu.Lock()
	if c.closing || c.dead { // the deadline is that of linger
		defer c.mu.Unlock()
		return 0, c.err
	}
	if d := c.dispatch; d != nil {
		c.mu.Unlock()
		return d.read(p)
	}
	_ = c.nc.SetReadDeadline(time.Now().Add(c.opts.DeadAfter)) // the read tells
	c.mu.Unlock()
	return c.nc.Read(p)
}

// Close ends the link after what is queued on it, and tells the peer the reason.
// It returns at once; Done says when the end has come, within Linger.
func (c *Conn[In, Out]) Close(reason string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closeLocked(ErrClosed, reason)
}

// CloseNow ends the link at once; what is queued is lost.
func (c *Conn[In, Out]) CloseNow() { _ = c.abort(ErrClosed) }

// reject ends the link because of what the peer did, and tells it.
func (c *Conn[In, Out]) reject(err error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closeLocked(err, err.Error())
	return c.err
}

func (c *Conn[In, Out]) closeLocked(err error, reason string) {
	if c.closing || c.dead {
		return
	}
	c.closing, c.err = true, err
	c.timer.Stop()
	c.endedLocked()
	reason = reason[:min(len(reason), maxReason)]
	c.pending = append(appendHeader(c.pending, recordClose, len(reason)), reason...)
	_ = c.nc.SetWriteDeadline(time.Now().Add(c.opts.Linger)) // also for a write under way
	c.flushLocked()
}

// abort ends the link at once and returns why it ended, which is err unless it
// had ended before.
func (c *Conn[In, Out]) abort(err error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.abortLocked(err)
	return c.err
}

func (c *Conn[In, Out]) abortLocked(err error) {
	if c.dead {
		return
	}
	c.dead = true
	if c.err == nil {
		c.err = err
	}
	c.timer.Stop()
	c.pending = nil
	_ = c.nc.Close() // wakes Receive and a write under way
	c.endedLocked()
	c.endLocked()
}

// endLocked closes done once the socket is closed and no goroutine is left.
func (c *Conn[In, Out]) endLocked() {
	if c.dead && !c.flushing && !c.ended {
		c.ended = true
		close(c.done)
	}
}

func (c *Conn[In, Out]) keepalive() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closing || c.dead {
		return
	}
	if !c.wrote && !c.flushing {
		c.pending = appendHeader(c.pending, recordKeepalive, 0)
		c.flushLocked()
	}
	c.wrote = false
	left := c.silentLocked()
	if left <= 0 {
		c.abortLocked(fmt.Errorf("%w for %s", ErrSilent, c.opts.DeadAfter))
		return
	}
	c.timer.Reset(min(c.opts.Keepalive, left))
}

// flushLocked makes sure that a goroutine writes what is pending. It lives only
// as long as there is something to write, so an idle link has none.
func (c *Conn[In, Out]) flushLocked() {
	if c.flushing {
		return
	}
	c.flushing = true
	go c.flush()
}

func (c *Conn[In, Out]) flush() {
	var spare []byte
	c.mu.Lock()
	defer c.mu.Unlock()
	for !c.dead && len(c.pending) > 0 {
		batch, n := c.pending, c.messages
		c.pending, c.inflight = spare, len(batch)
		if !c.closing {
			_ = c.nc.SetWriteDeadline(time.Now().Add(c.opts.DeadAfter)) // the write tells
		}
		c.mu.Unlock()
		_, err := c.nc.Write(batch)
		c.mu.Lock()
		c.inflight, c.wrote = 0, true
		c.messages -= n
		spare = batch[:0]
		if err != nil {
			if errors.Is(err, os.ErrDeadlineExceeded) {
				err = ErrSlowPeer
			} else {
				err = fmt.Errorf("%w: %w", ErrCut, err)
			}
			c.abortLocked(err)
		}
	}
	if !c.dead {
		c.pending = nil // an idle link holds no buffer
	}
	if c.closing && !c.dead {
		c.mu.Unlock()
		c.linger()
		c.mu.Lock()
		c.abortLocked(c.err)
	}
	c.flushing = false
	c.endLocked()
}

// linger gives the peer time to take the last records. Closing at once would
// answer whatever it is still sending with a reset, which throws away what it
// has not read yet: the reason of the close, or a Refused.
func (c *Conn[In, Out]) linger() {
	_ = c.nc.SetReadDeadline(time.Now().Add(c.opts.Linger))
	if h, ok := c.nc.(interface{ CloseWrite() error }); ok {
		if h.CloseWrite() != nil {
			return
		}
	}
	// Whether the peer closed or the time ran out, the link ends.
	_, _ = io.Copy(io.Discard, c.nc)
}

// wait waits for the end of the link or of the context.
func (c *Conn[In, Out]) wait(ctx context.Context) error {
	select {
	case <-c.done:
		return nil
	case <-ctx.Done():
		c.CloseNow()
		<-c.done
		return context.Cause(ctx)
	}
}
