package events

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"os"
	"slices"
	"sync"
	"time"
)

// errSlowWrite means that the client did not take what was written in time.
var errSlowWrite = errors.New("the reader is too slow: a write has timed out")

// farewell is how long the end of a stream may take to leave this machine.
const farewell = time.Second

// piece is how much must leave this machine within the write timeout.
const piece = 1 << 20

// conn is the way to a client: a connection taken over from net/http, or a stream of
// HTTP/2.
//
// It is taken over because net/http would join several small records into one chunk, which
// simple clients take for one record, unless each is flushed by a system call of its own:
// with a thousand subscribers that is what everything costs.
type conn struct {
	w       net.Conn            // HTTP/1; nil: h
	h       http.ResponseWriter // HTTP/2
	chunked bool
	timeout time.Duration
	inside  bool // what was written ends inside a record
	broken  bool // and so will the stream

	// mu guards what follows: lest a deadline that is set undoes an interruption.
	mu          sync.Mutex
	deadline    time.Time
	interrupted bool
	over        bool // nothing of it may be used any more
}

// chunks says whether the answer to a request is sent in chunks.
func chunks(r *http.Request) bool { return r.ProtoMajor == 1 && r.ProtoAtLeast(1, 1) }

// answer begins the answer. From then on the status is sent: nothing must be answered any
// more but by the conn.
func answer(w http.ResponseWriter, r *http.Request, header http.Header, timeout time.Duration, buffer int) (*conn, error) {
	maps.Copy(w.Header(), header)
	if r.ProtoMajor != 1 {
		w.WriteHeader(http.StatusOK)
		return &conn{h: w, timeout: timeout}, nil
	}
	all := w.Header().Clone()
	nc, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return nil, fmt.Errorf("take the connection over: %w", err)
	}
	c := &conn{w: nc, chunked: chunks(r), timeout: timeout}
	status := "HTTP/1.1 200 OK\r\n"
	if c.chunked {
		all.Set("Transfer-Encoding", "chunked")
	} else {
		status = "HTTP/1.0 200 OK\r\n"
		all.Set("Connection", "close")
	}
	all.Set("Date", time.Now().UTC().Format(http.TimeFormat))
	head := []byte(status)
	for _, k := range slices.Sorted(maps.Keys(all)) {
		for _, v := range all[k] {
			head = append(append(append(append(head, k...), ": "...), v...), "\r\n"...)
		}
	}
	if b, ok := base(nc).(interface{ SetWriteBuffer(int) error }); ok {
		_ = b.SetWriteBuffer(buffer) // a bound on memory: the stream works without
	}
	if err := c.write(append(head, "\r\n"...)); err != nil {
		c.close(err)
		return nil, err
	}
	return c, nil
}

// base is the connection below TLS.
func base(nc net.Conn) net.Conn {
	for {
		below, ok := nc.(interface{ NetConn() net.Conn })
		if !ok {
			return nc
		}
		nc = below.NetConn()
	}
}

// watch ends ctx when the client goes, and interrupts a write when ctx ends. What it
// returns undoes that.
func (c *conn) watch(ctx context.Context, cancel context.CancelCauseFunc) (done func()) {
	stop := context.AfterFunc(ctx, c.interrupt)
	over := func() {
		stop()
		c.mu.Lock()
		defer c.mu.Unlock()
		c.over = true
	}
	if c.w == nil {
		return over // the context of the request ends when the client goes
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		// A subscriber has nothing more to say; who talks on is not listened to for ever.
		var buf [256]byte
		for range 256 {
			if _, err := c.w.Read(buf[:]); err != nil {
				break
			}
		}
		cancel(errGone)
	})
	return func() {
		over()
		wg.Wait()
	}
}

// interrupt fails all writes but the one under way, which may end its record if that takes no
// longer than a farewell.
func (c *conn) interrupt() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.over {
		c.interrupted = true
		c.setDeadline(time.Now().Add(farewell))
	}
}

func (c *conn) setDeadline(t time.Time) {
	if c.w != nil {
		_ = c.w.SetWriteDeadline(t) // fails when closed: then writes fail, too
		return
	}
	_ = http.NewResponseController(c.h).SetWriteDeadline(t)
}

// arm gives the next write its time. Setting a deadline costs as much as a small write:
// one that is still good for most of the time is left.
func (c *conn) arm() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.interrupted {
		return os.ErrDeadlineExceeded
	}
	if now := time.Now(); c.deadline.Sub(now) < c.timeout*3/4 {
		c.deadline = now.Add(c.timeout)
		c.setDeadline(c.deadline)
	}
	return nil
}

// write writes buffers, a piece at a time.
func (c *conn) write(bufs ...[]byte) error {
	for len(bufs) > 0 {
		var now net.Buffers
		size := 0
		for len(bufs) > 0 && size < piece {
			n := min(piece-size, len(bufs[0]))
			now = append(now, bufs[0][:n])
			size += n
			if bufs[0] = bufs[0][n:]; len(bufs[0]) == 0 {
				bufs = bufs[1:]
			}
		}
		if err := c.writePiece(now); err != nil {
			return err
		}
		c.inside = len(bufs) > 0 // a piece may end anywhere
	}
	return nil
}

func (c *conn) writePiece(bufs net.Buffers) error {
	if err := c.arm(); err != nil {
		c.broken = c.inside
		return errSlowWrite
	}
	var written int64
	var err error
	if c.w != nil {
		written, err = bufs.WriteTo(c.w)
	} else {
		for _, b := range bufs {
			if _, err = c.h.Write(b); err != nil {
				break
			}
		}
		if err == nil {
			err = http.NewResponseController(c.h).Flush()
		}
	}
	if err == nil {
		return nil
	}
	c.broken = c.inside || written > 0 // an interruption may come before the first byte
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return errSlowWrite
	}
	return fmt.Errorf("%w: %w", errGone, err)
}

// close ends the stream: properly if the cause is ours and no record was cut.
func (c *conn) close(cause error) {
	if c.w == nil {
		return // the handler returns
	}
	below := base(c.w)
	if slow(cause) {
		// What the kernel still holds for this reader is thrown away.
		if b, ok := below.(interface{ SetLinger(int) error }); ok {
			_ = b.SetLinger(0)
		}
		c.broken = true
	}
	if c.chunked && !c.broken && !errors.Is(cause, errGone) {
		c.mu.Lock()
		if !c.interrupted { // else the farewell has begun
			_ = c.w.SetWriteDeadline(time.Now().Add(farewell))
		}
		c.mu.Unlock()
		_, err := c.w.Write([]byte("0\r\n\r\n"))
		c.broken = err != nil
	}
	if c.broken {
		_ = below.Close() // TLS would try to say goodbye for seconds
	}
	_ = c.w.Close()
}

// slow says whether a stream was cut off since its reader is too slow.
func slow(err error) bool { return errors.Is(err, errSlowWrite) || errors.Is(err, errFellBehind) }
