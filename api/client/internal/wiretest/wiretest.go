// Package wiretest is the server's side of the APIs for the tests of the
// clients: enough to decode a call and to write a stream on a real net/http
// server, and to break it in all the ways that servers break.
package wiretest

import (
	"fmt"
	"io"
	"net/http"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"clusterd/api/client"
	"clusterd/api/recordio"
)

// formatOf returns the format that a media type stands for.
func formatOf(media string) (client.Format, error) {
	for _, f := range []client.Format{client.JSON, client.Protobuf} {
		if media == f.MediaType() {
			return f, nil
		}
	}
	return 0, fmt.Errorf("media type %q", media)
}

// Read decodes the body of r into m. A request that a real server would not take
// fails the test.
func Read(t testing.TB, r *http.Request, m proto.Message) {
	t.Helper()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		t.Errorf("body: %v", err)
	}
	f, err := formatOf(r.Header.Get("Content-Type"))
	if err != nil {
		t.Errorf("Content-Type: %v", err)
	}
	if r.Method != http.MethodPost {
		t.Errorf("method %s", r.Method)
	}
	if err := f.Unmarshal(body, m); err != nil {
		t.Errorf("body: %v", err)
	}
}

// Write answers r with m.
func Write(t testing.TB, w http.ResponseWriter, r *http.Request, m proto.Message) {
	t.Helper()
	f, err := formatOf(r.Header.Get("Accept"))
	if err != nil {
		t.Errorf("Accept: %v", err)
	}
	body, err := f.Marshal(m)
	if err != nil {
		t.Errorf("answer: %v", err)
	}
	w.Header().Set("Content-Type", f.MediaType())
	_, _ = w.Write(body) // the client may have gone
}

// Stream is an open answer to a subscription.
type Stream struct {
	t       testing.TB
	w       http.ResponseWriter
	records *recordio.Writer
	format  client.Format
	// Done is closed when the client has gone.
	Done <-chan struct{}
}

// Open begins a stream in the format that r accepts, or that its Message-Accept names.
func Open(t testing.TB, w http.ResponseWriter, r *http.Request) *Stream {
	t.Helper()
	accept := r.Header.Get("Accept")
	if accept == "application/recordio" {
		accept = r.Header.Get("Message-Accept")
	}
	f, err := formatOf(accept)
	if err != nil {
		t.Errorf("Accept: %v", err)
	}
	w.Header().Set("Content-Type", r.Header.Get("Accept"))
	w.WriteHeader(http.StatusOK)
	s := &Stream{t: t, w: w, records: recordio.NewWriter(w), format: f, Done: r.Context().Done()}
	s.Flush()
	return s
}

// Send writes one event.
func (s *Stream) Send(m proto.Message) {
	s.t.Helper()
	record, err := s.format.Marshal(m)
	if err != nil {
		s.t.Errorf("event: %v", err)
	}
	_, _ = s.records.Write(record) // the client may have gone
	s.Flush()
}

// SendRaw writes bytes as they are.
func (s *Stream) SendRaw(data string) {
	_, _ = io.WriteString(s.w, data)
	s.Flush()
}

// Flush pushes out what was written.
func (s *Stream) Flush() {
	_ = http.NewResponseController(s.w).Flush()
}

// Wait blocks until the client has gone.
func (s *Stream) Wait() { <-s.Done }

// Eventually polls until ok returns true.
func Eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("still not: %s", what)
		}
		time.Sleep(2 * time.Millisecond)
	}
}
