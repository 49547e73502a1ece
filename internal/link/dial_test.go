package link

import (
	"net"
	"net/http"
	"testing"
	"time"
)

// TestDialDoesNotWaitForTheDead: a master's host that is gone, so that nothing
// comes back from it, must not keep an agent from the next master.
func TestDialDoesNotWaitForTheDead(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	addr := master(t, Options{}, func(c *MasterConn, _ *http.Request) { _ = drain(c) })
	c, err := Dial(t.Context(), []string{silent.Addr().String(), silent.Addr().String(), addr}, DialOptions{
		Timeout: time.Hour, // who waits for it fails the test by its own timeout
		Stagger: time.Millisecond,
	})
	if err != nil {
		t.Fatal(err)
	}
	c.CloseNow()
	<-c.Done()
}
