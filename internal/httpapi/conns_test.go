package httpapi

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/rs/zerolog"
)

// What comes above the limit is closed, and those who were there are served.
func TestConns(t *testing.T) {
	conns := NewConns(2, zerolog.Nop())
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok") }))
	s.Config.ConnState = conns.Watch
	s.Start()
	defer s.Close()
	ask := func(c net.Conn) error {
		if _, err := fmt.Fprintf(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
			return err
		}
		_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
		r, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			return err
		}
		defer r.Body.Close()
		_, err = io.Copy(io.Discard, r.Body)
		return err
	}
	var open []net.Conn
	for i := range 5 {
		c, err := net.Dial("tcp", s.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if err := ask(c); (err == nil) != (i < 2) {
			t.Errorf("connection %d: %v", i, err)
		}
		open = append(open, c)
	}
	if err := ask(open[0]); err != nil {
		t.Errorf("the first connection is not served any more: %v", err)
	}
	if conns.Refused() != 3 {
		t.Errorf("%d are refused", conns.Refused())
	}
	for _, c := range open {
		c.Close()
	}
	for conns.Open() > 0 { // ends with the test's deadline
		time.Sleep(time.Millisecond)
	}
	c, err := net.Dial("tcp", s.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := ask(c); err != nil {
		t.Errorf("after the others have gone: %v", err)
	}
}
