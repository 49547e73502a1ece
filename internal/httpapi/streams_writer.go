package httpapi

import (
	"context"
	"encoding/binary"
	"mime"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/coder/websocket"
)

// streamWriter is the answer to one request of a [Streams] client.
type streamWriter struct {
	client   *streamsClient
	followed *followed
	ctx      context.Context // of the request
	cancel   context.CancelFunc
	header   http.Header
	deadline deadline

	// What follows is the handler's alone.
	status  int
	streams bool   // it is a stream, and has begun
	buf     []byte // of a stream: what is not sent yet; else the refusal
	aborted bool
}

// Header returns the header of the answer.
func (w *streamWriter) Header() http.Header { return w.header }

// WriteHeader takes the status. An answer that is no stream, and no refusal, is ended at once.
func (w *streamWriter) WriteHeader(status int) {
	if w.status != 0 || status < http.StatusOK {
		return
	}
	w.status = status
	if status >= http.StatusMultipleChoices {
		return
	}
	media, _, err := mime.ParseMediaType(w.header.Get("Content-Type"))
	if status != http.StatusOK || err != nil || media != "text/event-stream" {
		w.status = http.StatusNotAcceptable
		w.buf = []byte("It is no stream of events")
		w.cancel()
		return
	}
	w.streams = true
	w.client.tell(w.followed, &streamControl{Status: status}, false)
}

// Write takes a part of the body.
func (w *streamWriter) Write(b []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	if !w.streams {
		if err := w.ctx.Err(); err != nil {
			return 0, err
		}
		w.buf = append(w.buf, b[:min(len(b), maxRefusal-len(w.buf))]...)
		return len(b), nil
	}
	for n := 0; n < len(b); {
		part := b[n:min(len(b), n+streamFrame-len(w.buf))]
		w.buf = append(w.buf, part...)
		n += len(part)
		if len(w.buf) >= streamFrame {
			if err := w.FlushError(); err != nil {
				return n, err
			}
		}
	}
	return len(b), nil
}

// FlushError sends what was written.
func (w *streamWriter) FlushError() error {
	w.WriteHeader(http.StatusOK)
	if !w.streams || len(w.buf) == 0 {
		return w.ctx.Err()
	}
	frame := append(binary.BigEndian.AppendUint32(make([]byte, 0, 4+len(w.buf)), w.followed.id), w.buf...)
	w.buf = w.buf[:0]
	select {
	case w.client.out <- streamMessage{w.followed, websocket.MessageBinary, frame, false}:
		return nil
	case <-w.deadline.passed():
		return os.ErrDeadlineExceeded
	case <-w.ctx.Done():
		return w.ctx.Err()
	}
}

// SetWriteDeadline bounds how long a write may wait for the client to read.
func (w *streamWriter) SetWriteDeadline(t time.Time) error {
	w.deadline.set(t)
	return nil
}

// end returns what is to be said when the handler has returned.
func (w *streamWriter) end() streamControl {
	var last streamControl
	switch {
	case w.streams:
		if w.FlushError() != nil || w.aborted {
			last.Error = "The stream broke off."
		}
		last.End = true
	case w.aborted || w.status == 0:
		last.Status, last.Body = http.StatusBadGateway, "The answer broke off"
	default:
		last.Status, last.Body, last.RetryAfter = w.status, string(w.buf), w.header.Get("Retry-After")
	}
	return last
}

// deadline is a time after which something is given up, which may be moved while it is
// waited for. (That of net.Pipe is of this kind.)
type deadline struct {
	mu sync.Mutex
	// mu guards what follows.
	timer   *time.Timer
	expired chan struct{}
}

func (d *deadline) set(t time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.timer != nil && !d.timer.Stop() {
		<-d.expired // it is closing
	}
	d.timer = nil
	select {
	case <-d.expired:
		d.expired = make(chan struct{})
	default:
	}
	if t.IsZero() {
		return
	}
	if left := time.Until(t); left > 0 {
		expired := d.expired
		d.timer = time.AfterFunc(left, func() { close(expired) })
		return
	}
	close(d.expired)
}

func (d *deadline) passed() <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.expired
}
