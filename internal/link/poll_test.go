package link

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	clusterdv1 "clusterd/api/clusterd/v1"
)

// reading takes what arrives on a link, and tells why the link ended.
type reading func(c *MasterConn, ended chan<- error)

// bothWays runs a test with links that are received from and dispatched.
func bothWays(t *testing.T, test func(*testing.T, reading)) {
	t.Run("receive", func(t *testing.T) {
		test(t, func(c *MasterConn, ended chan<- error) { ended <- drain(c) })
	})
	t.Run("dispatch", func(t *testing.T) {
		test(t, func(c *MasterConn, ended chan<- error) {
			c.Dispatch(func(_ *clusterdv1.AgentMessage, err error) {
				if err != nil {
					ended <- err
				}
			})
		})
	})
}

// until waits for a condition.
func until(t *testing.T, what string, cond func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !cond(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: waited in vain", what)
		}
	}
}

func TestDispatchKeepsOrderAndIsToldTheEndOnce(t *testing.T) {
	const links, messages = 50, 300
	type link struct {
		next  int
		busy  atomic.Bool
		wrong error
	}
	ends := make(chan *link, links+1)
	var twice atomic.Int64
	addr := master(t, Options{}, func(c *MasterConn, _ *http.Request) {
		l := new(link)
		ended := false
		c.Dispatch(func(m *clusterdv1.AgentMessage, err error) {
			if !l.busy.CompareAndSwap(false, true) {
				twice.Add(1)
				return
			}
			defer l.busy.Store(false)
			if err != nil {
				if !errors.Is(err, ErrPeerClosed) {
					l.wrong = err
				}
				if ended {
					twice.Add(1)
				}
				ended = true
				ends <- l
				return
			}
			if got := len(m.GetExecutorMessage().GetData()); got != l.next*7 && l.wrong == nil {
				l.wrong = fmt.Errorf("message %d has %d bytes", l.next, got)
			}
			l.next++
		})
	})
	for range links {
		c := dial(t, addr, Options{})
		go func() {
			for i := range messages {
				if err := c.Send(data(i * 7)); err != nil {
					t.Error(err)
				}
			}
			c.Close("done")
		}()
	}
	for range links {
		l := <-ends
		if l.wrong != nil || l.next != messages {
			t.Errorf("got %d messages, %v", l.next, l.wrong)
		}
	}
	if n := twice.Load(); n > 0 {
		t.Errorf("%d calls overlapped or came after the end", n)
	}
}

// Records may arrive in any pieces, even byte by byte.
func TestDispatchPutsPiecesTogether(t *testing.T) {
	got := make(chan int, 10)
	addr := master(t, Options{}, func(c *MasterConn, _ *http.Request) {
		c.Dispatch(func(m *clusterdv1.AgentMessage, err error) {
			if err == nil {
				got <- len(m.GetExecutorMessage().GetData())
			}
		})
	})
	nc := upgrade(t, addr)
	defer nc.Close()
	for _, size := range []int{0, 100, 300} {
		m := data(size)
		raw := encoded(t, m)
		for _, b := range append(appendHeader(nil, recordMessage, len(raw)), raw...) {
			if _, err := nc.Write([]byte{b}); err != nil {
				t.Fatal(err)
			}
			runtime.Gosched() // most bytes become segments of their own
		}
		if n := <-got; n != size {
			t.Errorf("got %d bytes, want %d", n, size)
		}
	}
}

// A handler that closes its link is told so, and the peer gets the reason.
func TestDispatchCloseFromHandlerAndFromOutside(t *testing.T) {
	for _, inside := range []bool{true, false} {
		t.Run(fmt.Sprintf("inside=%t", inside), func(t *testing.T) {
			ended := make(chan error, 2)
			addr := master(t, Options{}, func(c *MasterConn, _ *http.Request) {
				c.Dispatch(func(_ *clusterdv1.AgentMessage, err error) {
					switch {
					case err != nil:
						ended <- err
					case inside:
						c.Close("enough")
					default:
						go c.Close("enough")
					}
				})
			})
			c := dial(t, addr, Options{})
			if err := c.Send(data(1)); err != nil {
				t.Fatal(err)
			}
			if _, err := c.Receive(); !errors.Is(err, ErrPeerClosed) || !strings.Contains(err.Error(), "enough") {
				t.Errorf("agent: got %v", err)
			}
			if err := <-ended; !errors.Is(err, ErrClosed) {
				t.Errorf("master: got %v, want ErrClosed", err)
			}
		})
	}
}

// What closes a link must not have to wait for its peer to hang up.
func TestManyEndingLinksHoldUpNobody(t *testing.T) {
	got := make(chan struct{}, 1)
	ended := make(chan error, 100)
	addr := master(t, Options{Linger: 2 * time.Second}, func(c *MasterConn, _ *http.Request) {
		c.Dispatch(func(m *clusterdv1.AgentMessage, err error) {
			switch {
			case err != nil:
				ended <- err
			case len(m.GetExecutorMessage().GetData()) == 1:
				c.Close("go away")
			default:
				got <- struct{}{}
			}
		})
	})
	const bad = 50
	for range bad {
		nc := upgrade(t, addr) // never hangs up
		defer nc.Close()
		raw := encoded(t, data(1))
		if _, err := nc.Write(append(appendHeader(nil, recordMessage, len(raw)), raw...)); err != nil {
			t.Fatal(err)
		}
	}
	for range bad {
		if err := <-ended; !errors.Is(err, ErrClosed) {
			t.Errorf("got %v, want ErrClosed", err)
		}
	}
	if err := dial(t, addr, Options{}).Send(data(2)); err != nil {
		t.Fatal(err)
	}
	<-got
}

func TestIdleDispatchedLinksOwnNoGoroutine(t *testing.T) {
	const links = 100
	heard := make(chan struct{}, links)
	addr := master(t, Options{}, func(c *MasterConn, _ *http.Request) {
		c.Dispatch(func(_ *clusterdv1.AgentMessage, err error) {
			if err == nil {
				heard <- struct{}{}
			}
		})
	})
	before := runtime.NumGoroutine()
	for range links {
		if err := dial(t, addr, Options{}).Send(data(1)); err != nil {
			t.Fatal(err)
		}
	}
	for range links {
		<-heard
	}
	until(t, "goroutines end", func() bool { return runtime.NumGoroutine() < before+links/2 })
}

func encoded(t *testing.T, m *clusterdv1.AgentMessage) []byte {
	t.Helper()
	raw, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// A link over TLS has no socket of its own to watch.
func TestDispatchOverTLS(t *testing.T) {
	ended := make(chan error, 1)
	got := make(chan int, 1)
	s := NewServer(Options{}, func(c *MasterConn, _ *http.Request) {
		c.Dispatch(func(m *clusterdv1.AgentMessage, err error) {
			if err != nil {
				ended <- err
				return
			}
			got <- len(m.GetExecutorMessage().GetData())
		})
	})
	hs := httptest.NewTLSServer(s)
	defer hs.Close()
	roots := x509.NewCertPool()
	roots.AddCert(hs.Certificate())
	c, err := Dial(t.Context(), []string{hs.URL}, DialOptions{TLS: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS13}})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Send(data(5)); err != nil {
		t.Fatal(err)
	}
	if n := <-got; n != 5 {
		t.Errorf("got %d bytes", n)
	}
	c.Close("done")
	if err := <-ended; !errors.Is(err, ErrPeerClosed) {
		t.Errorf("got %v, want ErrPeerClosed", err)
	}
	if err := s.Stop(t.Context(), "over"); err != nil {
		t.Error(err)
	}
}
