package server

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	mesos "clusterd/api/mesos/v1"
	"clusterd/api/mesos/v1/scheduler"
	"clusterd/internal/httpapi"
)

func message(size int) *outEvent {
	return newOutEvent(&scheduler.Event{
		Type: scheduler.Event_MESSAGE.Enum(),
		Message: &scheduler.Event_Message{
			AgentId:    &mesos.AgentID{Value: new("a")},
			ExecutorId: &mesos.ExecutorID{Value: new("e")},
			Data:       make([]byte, size),
		},
	})
}

// serveStream runs a stream behind a real HTTP server and returns the raw
// connection of a client that has sent its request, and what run returned.
func serveStream(t *testing.T, s *stream) (net.Conn, <-chan error) {
	t.Helper()
	result := make(chan error, 1)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		err := s.run(r.Context(), w)
		result <- err
		if err != nil {
			panic(http.ErrAbortHandler)
		}
	}))
	t.Cleanup(srv.Close)
	conn, err := net.Dial("tcp", srv.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	fmt.Fprint(conn, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	return conn, result
}

func TestEveryRecordIsOneChunk(t *testing.T) {
	s := newStream("s", httpapi.JSON, DefaultStreamLimits())
	var want []string
	for _, size := range []int{0, 10, 1500, 5000, 100_000} {
		e := message(size)
		record, err := e.bytes(httpapi.JSON)
		if err != nil {
			t.Fatal(err)
		}
		want = append(want, string(record))
		if !s.send(e) {
			t.Fatal("send cut the stream")
		}
	}
	s.end()
	conn, result := serveStream(t, s)
	r := bufio.NewReader(conn)
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		if line == "\r\n" {
			break
		}
	}
	for i, w := range want {
		var n int
		if _, err := fmt.Fscanf(r, "%x\r\n", &n); err != nil {
			t.Fatalf("chunk %d: %v", i, err)
		}
		chunk := make([]byte, n+2)
		if _, err := io.ReadFull(r, chunk); err != nil {
			t.Fatal(err)
		}
		if got := string(chunk[:n]); got != w {
			t.Errorf("chunk %d: got %d bytes starting %.40q, want %d starting %.40q", i, n, got, len(w), w)
		}
	}
	if line, err := r.ReadString('\n'); err != nil || line != "0\r\n" {
		t.Errorf("got %q, %v, want the last chunk", line, err)
	}
	if err := <-result; err != nil {
		t.Errorf("run: %v", err)
	}
}

func TestRecordHoldsLengthAndEvent(t *testing.T) {
	for _, m := range []httpapi.Media{httpapi.JSON, httpapi.Protobuf} {
		record, err := message(3).bytes(m)
		if err != nil {
			t.Fatal(err)
		}
		length, body, _ := strings.Cut(string(record), "\n")
		if length != fmt.Sprint(len(body)) {
			t.Errorf("%s: length %q of a body of %d", m, length, len(body))
		}
		var ev scheduler.Event
		if err := httpapi.UnmarshalCall([]byte(body), m, &ev); err != nil || len(ev.GetMessage().GetData()) != 3 {
			t.Errorf("%s: got %v, %v", m, &ev, err)
		}
	}
}

// A reader that stalls is cut off although its socket is blocked in a write, and
// send never waits for it.
func TestStalledReaderIsCutOff(t *testing.T) {
	for _, limits := range []StreamLimits{
		{Events: 50, Bytes: 1 << 30, WriteTimeout: time.Hour},
		{Events: 1 << 20, Bytes: 8 << 20, WriteTimeout: time.Hour},
	} {
		s := newStream("s", httpapi.Protobuf, limits)
		_, result := serveStream(t, s)
		sent := 0
		for s.send(message(1 << 20)) {
			if sent++; sent > 10_000 {
				t.Fatal("10 GB are queued")
			}
		}
		select {
		case err := <-result:
			if !errors.Is(err, errSlowReader) {
				t.Errorf("run: got %v, want %v", err, errSlowReader)
			}
		case <-time.After(30 * time.Second):
			t.Fatal("the writer is still blocked")
		}
		if s.send(message(1)) {
			t.Error("send after the cut reported true")
		}
	}
}

// One event larger than the whole limit still passes when nothing else waits.
func TestOversizeEventPasses(t *testing.T) {
	s := newStream("s", httpapi.JSON, StreamLimits{Events: 10, Bytes: 1000})
	if !s.send(message(5000)) {
		t.Error("the first event was refused")
	}
	if s.send(message(1)) {
		t.Error("the second one was taken")
	}
}

func TestWriteTimeoutEndsStream(t *testing.T) {
	s := newStream("s", httpapi.Protobuf, StreamLimits{Events: 100, Bytes: 1 << 30, WriteTimeout: 50 * time.Millisecond})
	_, result := serveStream(t, s)
	for range 64 {
		if !s.send(message(1 << 20)) {
			break // it has ended already; by the queue's limit is told apart below
		}
	}
	if err := <-result; err == nil || errors.Is(err, errSlowReader) {
		t.Errorf("got %v, want a timeout of the write", err)
	}
}

func TestAbortAndClientGone(t *testing.T) {
	s := newStream("s", httpapi.JSON, DefaultStreamLimits())
	_, result := serveStream(t, s)
	s.abort(errStopping)
	if err := <-result; !errors.Is(err, errStopping) {
		t.Errorf("got %v, want %v", err, errStopping)
	}

	s = newStream("s", httpapi.JSON, DefaultStreamLimits())
	conn, result := serveStream(t, s)
	conn.Close()
	if err := <-result; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want %v", err, context.Canceled)
	}
}
