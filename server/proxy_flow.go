package server

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"
)

const (
	// maxEarlyAnswer is how much of a refusal is kept that comes before the end of the
	// request.
	maxEarlyAnswer = 64 << 10
	// lateBody is how long the rest of a body may take whose answer is there already.
	lateBody = 10 * time.Second
)

// flow is a request that is passed on as it comes. Who answers it bounds how long its body may
// take: here it may go on for ever, as what people type into a container does. But when the
// answer comes before the body has ended, net/http would wait for the rest of that before it
// sends the answer, and the client may wait for the answer before it sends more.
type flow struct {
	w    http.ResponseWriter
	body *notedBody // nil: none
}

type flowKey struct{}

// newFlow returns the request that is to be given to a proxy.
func newFlow(w http.ResponseWriter, r *http.Request) *http.Request {
	f := &flow{w: w}
	r = r.WithContext(context.WithValue(r.Context(), flowKey{}, f))
	if r.ContentLength != 0 && r.Body != nil {
		f.body = &notedBody{ReadCloser: r.Body, left: r.ContentLength}
		r.Body = f.body
		f.deadline(time.Time{})
		// An answer that comes before the end of the body is sent at once, and the client has time
		// to read it: were the connection just closed, a refusal would often be lost.
		_ = http.NewResponseController(w).EnableFullDuplex() // not every transport can
	}
	return r
}

func flowOf(r *http.Request) *flow {
	f, _ := r.Context().Value(flowKey{}).(*flow)
	return f
}

func (f *flow) deadline(at time.Time) {
	_ = http.NewResponseController(f.w).SetReadDeadline(at) // not every transport can
}

func (f *flow) bodyRemains() bool { return f != nil && f.body != nil && !f.body.ended.Load() }

// cutBody is for an answer of our own: what the client still sends is not waited for.
func (f *flow) cutBody() {
	if f.bodyRemains() {
		f.deadline(time.Unix(1, 0))
	}
}

// answered is told of the answer before any of it is written.
func (f *flow) answered(r *http.Response) error {
	if !f.bodyRemains() || r.StatusCode == http.StatusSwitchingProtocols {
		return nil
	}
	if r.StatusCode < http.StatusBadRequest {
		f.deadline(time.Now().Add(lateBody))
		return nil
	}
	// Who answers so does not read on, and the connection that the answer comes by may end with
	// what is still written to it.
	text, err := io.ReadAll(io.LimitReader(r.Body, maxEarlyAnswer))
	if err != nil {
		return err
	}
	_ = r.Body.Close() // all that is wanted of it was read
	r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(text)), int64(len(text))
	r.Header.Set("Content-Length", strconv.Itoa(len(text)))
	r.Header.Del("Transfer-Encoding")
	f.deadline(time.Now().Add(lateBody))
	return nil
}

// notedBody knows whether the whole body was read.
type notedBody struct {
	io.ReadCloser
	left  int64 // negative: not announced; owned by who reads
	ended atomic.Bool
}

// Read reads from the body.
func (b *notedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if b.left > 0 {
		b.left -= int64(n)
	}
	if err == io.EOF || b.left == 0 {
		b.ended.Store(true)
	}
	return n, err
}
