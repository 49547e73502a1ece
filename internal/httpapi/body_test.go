package httpapi

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"
)

// A body that never arrives whole ends the request, and one that does leaves the
// connection without a deadline: an answer may go on for long after it.
func TestSlowBody(t *testing.T) {
	defer func(d time.Duration) { bodyTimeout = d }(bodyTimeout)
	bodyTimeout = time.Second // a whole body is there before
	got := make(chan error, 2)
	rt := NewRouter("x")
	rt.Handle("/reads", Open("test"), func(w http.ResponseWriter, r *http.Request) error {
		_, err := ReadBody(w, r, MaxBody)
		if err == nil {
			select { // longer than the body may take
			case <-r.Context().Done():
				err = r.Context().Err()
			case <-time.After(bodyTimeout * 5 / 4):
			}
		}
		got <- err
		return err
	})
	rt.Handle("/does_not", Open("test"), func(w http.ResponseWriter, r *http.Request) error {
		return WriteJSON(w, r, []byte("{}"))
	})
	s := httptest.NewServer(rt)
	defer s.Close()
	send := func(path, body string) (*http.Response, error) {
		t.Helper()
		c, err := new(net.Dialer).DialContext(t.Context(), "tcp", s.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		if _, err := io.WriteString(c, "POST "+path+" HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n"+body); err != nil {
			t.Fatal(err)
		}
		if err := c.SetReadDeadline(time.Now().Add(30 * time.Second)); err != nil {
			t.Fatal(err)
		}
		return http.ReadResponse(bufio.NewReader(c), nil)
	}
	for _, path := range []string{"/reads", "/does_not", "/nowhere"} {
		resp, err := send(path, "0123")
		if err == nil {
			defer resp.Body.Close()
		}
		if ne, ok := errors.AsType[net.Error](err); ok && ne.Timeout() {
			t.Fatalf("%s: the server waits for the rest of the body", path)
		}
	}
	if err := <-got; err == nil {
		t.Error("half a body was taken for one")
	}
	whole, err := send("/reads", "0123456789")
	if err != nil {
		t.Fatal(err)
	}
	defer whole.Body.Close()
	if err := <-got; err != nil || whole.StatusCode != http.StatusOK {
		t.Errorf("after a whole body: %d, %v", whole.StatusCode, err)
	}
}
