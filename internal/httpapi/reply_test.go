package httpapi

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"
)

// A client that asks for much and does not read is cut off; one that reads gets
// all, and may ask again on the same connection.
func TestStalledReaderIsCutOff(t *testing.T) {
	defer func(d time.Duration) { writeTimeout = d }(writeTimeout)
	writeTimeout = time.Second // who reads is not held up for so long
	body := bytes.Repeat([]byte("x"), 64<<20)
	done := make(chan struct{}, 10)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		WriteParts(w, r, "text/plain", body[:3<<20], body[3<<20:])
		done <- struct{}{}
	}))
	defer s.Close()
	conn, err := net.Dial("tcp", s.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprint(conn, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	select {
	case <-done:
	case <-time.After(30 * time.Second):
		t.Fatal("the answer waits for a client that does not read")
	}
	for i := range 2 {
		if i > 0 {
			<-time.After(writeTimeout * 5 / 4) // the connection outlives the deadline of its last answer
		}
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Accept-Encoding", "identity")
		resp, err := s.Client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		n, err := io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		if err != nil || n != int64(len(body)) {
			t.Fatalf("got %d bytes, %v, want %d", n, err, len(body))
		}
		<-done
	}
}
