package link

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"

	clusterdv1 "clusterd/api/clusterd/v1"
	mesos "clusterd/api/mesos/v1"
)

func TestMain(m *testing.M) {
	if addr := os.Getenv(childLinks); addr != "" {
		child(addr)
	}
	goleak.VerifyTestMain(m)
}

// master runs a Server behind a real HTTP server until the test ends.
func master(t testing.TB, opts Options, accept func(*MasterConn, *http.Request)) string {
	t.Helper()
	s := NewServer(opts, accept)
	mux := http.NewServeMux()
	mux.Handle(Path, s)
	hs := httptest.NewServer(mux)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := s.Stop(ctx, "test is over"); err != nil {
			t.Errorf("stop: %v", err)
		}
		hs.Close()
	})
	return hs.Listener.Addr().String()
}

func dial(t testing.TB, addr string, opts Options) *AgentConn {
	t.Helper()
	c, err := Dial(t.Context(), []string{addr}, DialOptions{Options: opts})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.CloseNow(); <-c.Done() })
	return c
}

func ack(id string) *clusterdv1.MasterMessage {
	return &clusterdv1.MasterMessage{Message: &clusterdv1.MasterMessage_AcknowledgeTask{AcknowledgeTask: &clusterdv1.AcknowledgeTask{
		FrameworkId: &mesos.FrameworkID{Value: new("f")}, TaskId: &mesos.TaskID{Value: new(id)}, Uuid: []byte("0123456789abcdef"),
	}}}
}

func data(size int) *clusterdv1.AgentMessage {
	return &clusterdv1.AgentMessage{Message: &clusterdv1.AgentMessage_ExecutorMessage{ExecutorMessage: &clusterdv1.ExecutorMessage{
		FrameworkId: &mesos.FrameworkID{Value: new("f")}, ExecutorId: &mesos.ExecutorID{Value: new("e")}, Data: make([]byte, size),
	}}}
}

// drain receives until the link ends.
func drain[In, Out proto.Message](c *Conn[In, Out]) error {
	for {
		if _, err := c.Receive(); err != nil {
			return err
		}
	}
}

func TestMessagesArriveInOrderBothWays(t *testing.T) {
	const n = 2000
	sizes := []int{0, 1, 100, 127, 128, 129, 5000, 16 << 10, 100_000}
	addr := master(t, Options{}, func(c *MasterConn, _ *http.Request) {
		for i := range n { // echo, so that the test reads and writes at once
			m, err := c.Receive()
			if err != nil {
				t.Errorf("message %d: %v", i, err)
				return
			}
			if got, want := len(m.GetExecutorMessage().GetData()), sizes[i%len(sizes)]; got != want {
				t.Errorf("message %d: got %d bytes, want %d", i, got, want)
			}
			if err := c.Send(ack(strings.Repeat("x", i))); err != nil {
				t.Error(err)
			}
		}
		_ = drain(c)
	})
	c := dial(t, addr, Options{MaxQueueBytes: 1 << 30})
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := range n {
			m, err := c.Receive()
			if err != nil {
				t.Errorf("echo %d: %v", i, err)
				return
			}
			if got := len(m.GetAcknowledgeTask().GetTaskId().GetValue()); got != i {
				t.Errorf("echo: got %d, want %d", got, i)
				return
			}
		}
	})
	for i := range n {
		if err := c.Send(data(sizes[i%len(sizes)])); err != nil {
			t.Fatal(err)
		}
	}
	wg.Wait()
}

func TestCloseDeliversQueueAndReason(t *testing.T) {
	addr := master(t, Options{}, func(c *MasterConn, _ *http.Request) {
		for range 1000 {
			if err := c.Send(ack("t")); err != nil {
				t.Error(err)
			}
		}
		c.Close("agent is gone")
		if err := c.Send(ack("late")); !errors.Is(err, ErrClosed) {
			t.Errorf("send after close: got %v, want ErrClosed", err)
		}
		<-c.Done()
	})
	c := dial(t, addr, Options{})
	// The agent writes all the while: what the master has not read must not cost
	// the agent the end of what the master wrote.
	for range 100 {
		_ = c.Send(data(10_000))
	}
	got := 0
	for {
		_, err := c.Receive()
		if err != nil {
			if !errors.Is(err, ErrPeerClosed) || !strings.Contains(err.Error(), "agent is gone") {
				t.Errorf("got error %v, want the reason", err)
			}
			break
		}
		got++
	}
	if got != 1000 {
		t.Errorf("got %d messages, want 1000", got)
	}
	<-c.Done()
	if err := c.Send(data(1)); !errors.Is(err, ErrPeerClosed) {
		t.Errorf("send after the end: got %v, want ErrPeerClosed", err)
	}
}

func TestStalledPeerIsCutOffAndSendNeverBlocks(t *testing.T) {
	ended := make(chan error, 1)
	addr := master(t, Options{MaxQueueBytes: 1 << 20}, func(c *MasterConn, _ *http.Request) {
		m := ack(strings.Repeat("x", 1000))
		for {
			if err := c.Send(m); err != nil {
				<-c.Done()
				ended <- c.Err()
				return
			}
			if q := c.Queued(); q > 1<<20+4096 {
				t.Errorf("queue holds %d bytes", q)
			}
		}
	})
	c := dial(t, addr, Options{}) // and never receives
	if err := <-ended; !errors.Is(err, ErrSlowPeer) {
		t.Errorf("got %v, want ErrSlowPeer", err)
	}
	if err := drain(c); !errors.Is(err, ErrCut) {
		t.Errorf("agent: got %v, want ErrCut", err)
	}
}

func TestMessageCountIsBounded(t *testing.T) {
	ended := make(chan error, 1)
	addr := master(t, Options{MaxQueueMessages: 100}, func(c *MasterConn, _ *http.Request) {
		var err error
		for err == nil {
			err = c.Send(ack("t"))
		}
		ended <- err
	})
	dial(t, addr, Options{})
	if err := <-ended; !errors.Is(err, ErrSlowPeer) {
		t.Errorf("got %v, want ErrSlowPeer", err)
	}
}

func TestWriteStallIsNoticedWithoutFurtherSends(t *testing.T) {
	ended := make(chan error, 1)
	addr := master(t, Options{DeadAfter: 100 * time.Millisecond, Keepalive: time.Hour}, func(c *MasterConn, _ *http.Request) {
		if err := c.Send(ack(strings.Repeat("x", 12<<20))); err != nil {
			t.Error(err)
		}
		<-c.Done() // nobody receives, so only the write can notice
		ended <- c.Err()
	})
	dial(t, addr, Options{})
	if err := <-ended; !errors.Is(err, ErrSlowPeer) {
		t.Errorf("got %v, want ErrSlowPeer", err)
	}
}

func TestSilenceEndsTheLink(t *testing.T) {
	bothWays(t, func(t *testing.T, read reading) {
		ended := make(chan error, 1)
		for _, keepalive := range []time.Duration{10 * time.Millisecond, time.Hour} {
			addr := master(t, Options{DeadAfter: 50 * time.Millisecond, Keepalive: keepalive}, func(c *MasterConn, _ *http.Request) {
				read(c, ended)
			})
			dial(t, addr, Options{Keepalive: time.Hour}) // half-open: connected, but dumb
			if err := <-ended; !errors.Is(err, ErrSilent) {
				t.Errorf("got %v, want ErrSilent", err)
			}
		}
	})
}

func TestKeepalivesKeepAnIdleLink(t *testing.T) { bothWays(t, testKeepalives) }

func testKeepalives(t *testing.T, read reading) {
	t.Parallel() // it waits more than it works
	opts := Options{DeadAfter: 2 * time.Second, Keepalive: 20 * time.Millisecond}
	release := make(chan struct{})
	addr := master(t, opts, func(c *MasterConn, _ *http.Request) {
		go func() { <-release; _ = c.Send(ack("t")) }()
		read(c, make(chan error, 1))
	})
	c := dial(t, addr, opts)
	timer := time.AfterFunc(opts.DeadAfter*3/2, func() { close(release) })
	defer timer.Stop()
	if _, err := c.Receive(); err != nil {
		t.Errorf("an idle link ended: %v", err)
	}
}

func TestCut(t *testing.T) { bothWays(t, testCut) }

func testCut(t *testing.T, read reading) {
	ended := make(chan error, 1)
	addr := master(t, Options{}, func(c *MasterConn, _ *http.Request) { read(c, ended) })
	for name, write := range map[string]string{
		"between records": "",
		"in a header":     "\x01",
		"in a length":     "\x01\x80",
		"in a payload":    "\x01\x7fabc",
	} {
		t.Run(name, func(t *testing.T) {
			nc := upgrade(t, addr)
			if _, err := io.WriteString(nc, write); err != nil {
				t.Fatal(err)
			}
			_ = nc.Close()
			if err := <-ended; !errors.Is(err, ErrCut) {
				t.Errorf("got %v, want ErrCut", err)
			}
		})
	}
}

func TestGarbageIsRefusedWithAReason(t *testing.T) { bothWays(t, testGarbage) }

func testGarbage(t *testing.T, read reading) {
	ended := make(chan error, 1)
	addr := master(t, Options{MaxRecord: 1000}, func(c *MasterConn, _ *http.Request) { read(c, ended) })
	for name, test := range map[string]struct {
		write, reason string
		want          error
	}{
		"http":           {"GET / HTTP/1.1\r\n\r\n", "unknown type 71", ErrProtocol},
		"zero":           {"\x00\x00", "unknown type 0", ErrProtocol},
		"endless length": {"\x01" + strings.Repeat("\xff", 11), "length of a record does not end", ErrProtocol},
		"oversize":       {"\x01\xe9\x07", "1001 bytes, the limit is 1000", ErrTooLarge},
		"huge":           {"\x01\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", "the limit is 1000", ErrTooLarge},
		"no message":     {"\x01\x03abc", "decode message", ErrProtocol},
		"missing fields": {"\x01\x02\x0a\x00", "decode message", ErrProtocol},
		// An ExecutorMessage whose ids have no value.
		"missing deeper":  {"\x01\x06\x22\x04\x0a\x00\x12\x00", "decode message", ErrProtocol},
		"keepalive filed": {"\x02\x01a", "keepalive of 1 bytes", ErrProtocol},
	} {
		t.Run(name, func(t *testing.T) {
			nc := upgrade(t, addr)
			defer nc.Close()
			if _, err := io.WriteString(nc, test.write); err != nil {
				t.Fatal(err)
			}
			if err := <-ended; !errors.Is(err, test.want) {
				t.Errorf("got %v, want %v", err, test.want)
			}
			answer, err := io.ReadAll(nc)
			if err != nil {
				t.Fatal(err)
			}
			if len(answer) < 2 || answer[0] != recordClose || !strings.Contains(string(answer), test.reason) {
				t.Errorf("got %q, want a close record with %q", answer, test.reason)
			}
		})
	}
}

func TestSendRefusesWhatThePeerWould(t *testing.T) {
	addr := master(t, Options{}, func(c *MasterConn, _ *http.Request) { _ = drain(c) })
	c := dial(t, addr, Options{MaxRecord: 1000})
	if err := c.Send(data(1001)); !errors.Is(err, ErrTooLarge) {
		t.Errorf("got %v, want ErrTooLarge", err)
	}
	incomplete := &clusterdv1.AgentMessage{Message: &clusterdv1.AgentMessage_Register{Register: &clusterdv1.RegisterAgent{}}}
	if err := c.Send(incomplete); err == nil {
		t.Error("a message without its required fields was sent")
	}
	if err := c.Send(data(1)); err != nil {
		t.Errorf("the link did not survive: %v", err)
	}
}

// upgrade opens a link by hand.
func upgrade(t *testing.T, addr string) net.Conn {
	t.Helper()
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	res := request(t, nc, "POST "+Path+" HTTP/1.1\r\nHost: m\r\nConnection: keep-alive, Upgrade\r\nUpgrade: clusterd-link\r\nClusterd-Link-Version: 1\r\n\r\n")
	if !strings.HasPrefix(res, "HTTP/1.1 101 ") || !strings.HasSuffix(res, "\r\n\r\n") {
		t.Fatalf("got %q", res)
	}
	return nc
}

func request(t *testing.T, nc net.Conn, req string) string {
	t.Helper()
	if _, err := io.WriteString(nc, req); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 4096)
	n, err := nc.Read(buf)
	if err != nil {
		t.Fatal(err)
	}
	return string(buf[:n])
}

func TestRequestsThatAreRefused(t *testing.T) {
	addr := master(t, Options{}, func(*MasterConn, *http.Request) { t.Error("accepted") })
	up := "Connection: Upgrade\r\nUpgrade: clusterd-link\r\n"
	for name, test := range map[string]struct{ req, status, body string }{
		"get":         {"GET " + Path + " HTTP/1.1\r\nHost: m\r\n" + up + "\r\n", "405", "expecting POST, received GET"},
		"no upgrade":  {"POST " + Path + " HTTP/1.1\r\nHost: m\r\nContent-Length: 0\r\n\r\n", "426", "takes links of agents only"},
		"other":       {"POST " + Path + " HTTP/1.1\r\nHost: m\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", "426", "Upgrade: clusterd-link"},
		"no version":  {"POST " + Path + " HTTP/1.1\r\nHost: m\r\n" + up + "\r\n", "400", `is no version: ""`},
		"bad version": {"POST " + Path + " HTTP/1.1\r\nHost: m\r\n" + up + "Clusterd-Link-Version: x\r\n\r\n", "400", `is no version: "x"`},
		"zero":        {"POST " + Path + " HTTP/1.1\r\nHost: m\r\n" + up + "Clusterd-Link-Version: 0\r\n\r\n", "400", `is no version: "0"`},
		"body":        {"POST " + Path + " HTTP/1.1\r\nHost: m\r\n" + up + "Clusterd-Link-Version: 1\r\nContent-Length: 1\r\n\r\na", "400", "no body"},
	} {
		t.Run(name, func(t *testing.T) {
			nc, err := net.Dial("tcp", addr)
			if err != nil {
				t.Fatal(err)
			}
			defer nc.Close()
			res := request(t, nc, test.req)
			if !strings.HasPrefix(res, "HTTP/1.1 "+test.status+" ") || !strings.Contains(res, test.body) {
				t.Errorf("got %q, want status %s and %q", res, test.status, test.body)
			}
		})
	}
}

func TestYoungerAgentSpeaksOlderVersion(t *testing.T) {
	got := make(chan int, 1)
	addr := master(t, Options{}, func(c *MasterConn, _ *http.Request) { got <- c.Version() })
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	res := request(t, nc, "POST "+Path+" HTTP/1.1\r\nHost: m\r\nConnection: Upgrade\r\nUpgrade: clusterd-link\r\nClusterd-Link-Version: 99\r\n\r\n")
	if !strings.Contains(res, VersionHeader+": 1\r\n") {
		t.Errorf("got %q, want version 1 in the answer", res)
	}
	if v := <-got; v != Version {
		t.Errorf("got version %d, want %d", v, Version)
	}
}

func TestDialFollowsTheLeader(t *testing.T) {
	leader := master(t, Options{}, func(c *MasterConn, _ *http.Request) {
		_ = c.Send(ack("t"))
		_ = drain(c)
	})
	follower := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Location", "//"+leader+r.URL.Path) // as Mesos writes it
		w.WriteHeader(http.StatusTemporaryRedirect)
	}))
	defer follower.Close()
	electing := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "No leader elected", http.StatusServiceUnavailable)
	}))
	defer electing.Close()
	loop := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "http://"+r.Host+"/", http.StatusTemporaryRedirect)
	}))
	defer loop.Close()
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = closed.Close()

	bad := []string{closed.Addr().String(), electing.URL, loop.URL, "ftp://x", "http://"}
	c, err := Dial(t.Context(), append(bad, follower.URL), DialOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Receive(); err != nil {
		t.Error(err)
	}
	c.Close("done")
	<-c.Done()

	_, err = Dial(t.Context(), bad, DialOptions{})
	var refused *RefusedError
	if !errors.As(err, &refused) || refused.Status != http.StatusServiceUnavailable || refused.Message != "No leader elected" {
		t.Errorf("got %v, want the refusal among the reasons", err)
	}
	for _, want := range []string{"connection refused", "more than 5 redirects", "expecting host:port"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want also %q", err, want)
		}
	}
}

func TestDialEndsWithItsContext(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0") // takes connections, never answers
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()
	if _, err := Dial(ctx, []string{ln.Addr().String()}, DialOptions{}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, want the context's end", err)
	}
	if _, err := Dial(t.Context(), []string{ln.Addr().String()}, DialOptions{Timeout: 30 * time.Millisecond}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, want the timeout's end", err)
	}
}

func TestStopCutsOffWhoDoesNotListen(t *testing.T) {
	accepted := make(chan struct{})
	s := NewServer(Options{Linger: time.Hour}, func(c *MasterConn, _ *http.Request) {
		close(accepted)
		_ = drain(c)
	})
	hs := httptest.NewServer(s)
	defer hs.Close()
	dial(t, hs.Listener.Addr().String(), Options{}) // does not receive
	<-accepted
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := s.Stop(ctx, "bye"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, want the context's end", err)
	}
	if err := s.Stop(t.Context(), "again"); err != nil {
		t.Error(err)
	}
	if n := s.Len(); n != 0 {
		t.Errorf("%d links are left", n)
	}
	_, err := Dial(t.Context(), []string{hs.URL}, DialOptions{})
	var refused *RefusedError
	if !errors.As(err, &refused) || refused.Status != http.StatusServiceUnavailable {
		t.Errorf("got %v, want 503", err)
	}
}

func TestTLS(t *testing.T) {
	s := NewServer(Options{}, func(c *MasterConn, _ *http.Request) {
		for range 100 {
			_ = c.Send(ack("t"))
		}
		c.Close("enough")
		<-c.Done()
	})
	hs := httptest.NewUnstartedServer(s)
	hs.EnableHTTP2 = true // what browsers get must not get in the way
	hs.StartTLS()
	defer hs.Close()
	defer func() { _ = s.Stop(context.Background(), "over") }()

	roots := x509.NewCertPool()
	roots.AddCert(hs.Certificate())
	c, err := Dial(t.Context(), []string{hs.URL}, DialOptions{TLS: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS13}})
	if err != nil {
		t.Fatal(err)
	}
	got := 0
	for ; err == nil; got++ {
		_, err = c.Receive()
	}
	if got != 101 || !errors.Is(err, ErrPeerClosed) {
		t.Errorf("got %d messages, then %v", got-1, err)
	}
	<-c.Done()

	if _, err := Dial(t.Context(), []string{hs.URL}, DialOptions{}); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("a certificate nobody vouches for: got %v", err)
	}
	plain := httptest.NewTLSServer(http.RedirectHandler("http://127.0.0.1:1"+Path, http.StatusTemporaryRedirect))
	defer plain.Close()
	roots.AddCert(plain.Certificate())
	if _, err := Dial(t.Context(), []string{plain.URL}, DialOptions{TLS: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS13}}); err == nil || !strings.Contains(err.Error(), "from https to http is not followed") {
		t.Errorf("a downgrade: got %v", err)
	}
}
