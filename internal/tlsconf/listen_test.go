package tlsconf

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"clusterd/api/client"
)

// poll waits until something holds.
func poll(t testing.TB, what string, good func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for !good() {
		if client.Sleep(ctx, time.Millisecond) != nil {
			t.Fatalf("%s: not within 30 s", what)
		}
	}
}

func TestDowngrade(t *testing.T) {
	a := newTestAuthority(t)
	addr := serve(t, node(t, a, func(o *Options) { o.Downgrade = true }))
	if got, err := get(t, "https://"+addr, node(t, a, nil).Client()); got != "node HTTP/2.0 TLS 1.3" {
		t.Errorf("TLS: got %q, %v", got, err)
	}
	if got, err := get(t, "http://"+addr, nil); got != "nobody HTTP/1.1 clear" {
		t.Errorf("clear: got %q, %v", got, err)
	}
	h2c := new(http.Protocols)
	h2c.SetUnencryptedHTTP2(true)
	tr := &http.Transport{Protocols: h2c}
	defer tr.CloseIdleConnections()
	res, err := (&http.Client{Transport: tr}).Get("http://" + addr)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if b, err := io.ReadAll(res.Body); string(b) != "nobody HTTP/2.0 clear" {
		t.Errorf("h2c: got %q, %v", b, err)
	}
}

// Who speaks HTTP to a port of TLS is told so.
func TestClearRefused(t *testing.T) {
	a := newTestAuthority(t)
	var mu sync.Mutex
	var refused []error
	addr := serve(t, node(t, a, func(o *Options) {
		o.OnRefused = func(_ net.Addr, err error) {
			mu.Lock()
			defer mu.Unlock()
			refused = append(refused, err)
		}
	}))
	res, err := http.Post("http://"+addr+"/api/v1", "application/json", strings.NewReader(strings.Repeat("x", 10000)))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if b, _ := io.ReadAll(res.Body); res.StatusCode != http.StatusBadRequest || !strings.Contains(string(b), "use https") {
		t.Errorf("got %d %q", res.StatusCode, b)
	}
	poll(t, "refusal is told", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(refused) == 1 && errors.Is(refused[0], errInClear)
	})
}

// Callers who say nothing, or stop in the middle of a handshake, hold nobody up, and
// are cut off in the end.
func TestSlowHandshakes(t *testing.T) {
	a := newTestAuthority(t)
	for name, downgrade := range map[string]bool{"TLS only": false, "downgrade": true} {
		t.Run(name, func(t *testing.T) {
			long := node(t, a, func(o *Options) { o.Downgrade = downgrade })
			addr := serve(t, long)
			for range 50 {
				for _, first := range []string{"", "\x16", "\x16\x03\x01\x02\x00"} {
					c, err := net.Dial("tcp", addr)
					if err != nil {
						t.Fatal(err)
					}
					defer c.Close()
					io.WriteString(c, first)
				}
			}
			if got, err := get(t, "https://"+addr, node(t, a, nil).Client()); err != nil {
				t.Errorf("behind slow ones: got %q, %v", got, err)
			}
			short := serve(t, node(t, a, func(o *Options) { o.Downgrade, o.HandshakeTimeout = downgrade, 20*time.Millisecond }))
			for _, first := range []string{"", "\x16", "\x16\x03\x01\x02\x00"} {
				c, err := net.Dial("tcp", short)
				if err != nil {
					t.Fatal(err)
				}
				defer c.Close()
				io.WriteString(c, first)
				c.SetReadDeadline(time.Now().Add(30 * time.Second))
				if _, err := io.ReadAll(c); errors.Is(err, context.DeadlineExceeded) || isTimeout(err) {
					t.Errorf("%q: it is not cut off", first)
				}
			}
		})
	}
}

// However many begin a handshake and leave it, there are never more than the limit, and
// who means it well comes through.
func TestMaxHandshakes(t *testing.T) {
	a := newTestAuthority(t)
	addr := serve(t, node(t, a, func(o *Options) { o.MaxHandshakes = 10 }))
	var conns []net.Conn
	for range 50 {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		io.WriteString(c, "\x16\x03\x01")
		conns = append(conns, c)
	}
	for i := range 5 {
		if got, err := get(t, "https://"+addr, node(t, a, nil).Client()); err != nil {
			t.Errorf("%d: got %q, %v", i, got, err)
		}
	}
	for i, c := range conns[:40] {
		c.SetReadDeadline(time.Now().Add(20 * time.Second)) // less than a handshake may take
		if _, err := c.Read(make([]byte, 1)); isTimeout(err) {
			t.Fatalf("connection %d is not given up", i)
		}
	}
}

func isTimeout(err error) bool {
	ne, ok := errors.AsType[net.Error](err)
	return ok && ne.Timeout()
}

// A connection that was taken has no deadline left of its handshake.
func TestDeadlineIsTakenOff(t *testing.T) {
	t.Parallel() // it waits more than it works
	a := newTestAuthority(t)
	id := node(t, a, func(o *Options) { o.Downgrade, o.HandshakeTimeout = true, 2*time.Second })
	raw, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := id.Listen(raw)
	defer l.Close()
	for name, dial := range map[string]func() (net.Conn, error){
		"clear": func() (net.Conn, error) { return net.Dial("tcp", l.Addr().String()) },
		"TLS": func() (net.Conn, error) {
			conf := node(t, a, nil).Client()
			conf.ServerName = "localhost"
			return tls.Dial("tcp", l.Addr().String(), conf)
		},
	} {
		served := make(chan net.Conn, 1)
		go func() { // nobody shakes hands before an Accept
			s, err := l.Accept()
			if err != nil {
				t.Error(name, err)
			}
			served <- s
		}()
		c, err := dial()
		if err != nil {
			t.Fatal(name, err)
		}
		io.WriteString(c, "a")
		s := <-served
		if s == nil {
			t.FailNow()
		}
		_, isTLS := s.(*tls.Conn)
		_, isSocket := s.(syscall.Conn)
		if isTLS == isSocket || isTLS != (name == "TLS") {
			t.Errorf("%s: got a %T", name, s)
		}
		b := make([]byte, 1)
		if _, err := io.ReadFull(s, b); err != nil {
			t.Fatal(name, err)
		}
		client.Sleep(t.Context(), 2200*time.Millisecond) // longer than the handshake may take
		io.WriteString(c, "b")
		if _, err := io.ReadFull(s, b); err != nil || b[0] != 'b' {
			t.Errorf("%s: got %q, %v", name, b, err)
		}
		c.Close()
		s.Close()
	}
}

// wrapped hides the socket of a connection, as a listener that counts does.
type wrapped struct{ net.Listener }

func (w wrapped) Accept() (net.Conn, error) {
	c, err := w.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return struct{ net.Conn }{c}, nil
}

func TestWrappedListener(t *testing.T) {
	a := newTestAuthority(t)
	id := node(t, a, func(o *Options) { o.Downgrade = true })
	raw, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.Method) })}
	done := make(chan struct{})
	go func() { defer close(done); s.Serve(id.Listen(wrapped{raw})) }()
	defer func() { s.Close(); <-done }()
	for _, scheme := range []string{"http", "https"} {
		if got, err := get(t, scheme+"://"+raw.Addr().String(), node(t, a, nil).Client()); got != "GET" {
			t.Errorf("%s: got %q, %v", scheme, got, err)
		}
	}
}

// Close ends an Accept and the handshakes under way, and leaves no goroutine (TestMain).
func TestCloseListener(t *testing.T) {
	id := node(t, newTestAuthority(t), nil)
	raw, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := id.Listen(raw)
	ended := make(chan error, 1)
	go func() { _, err := l.Accept(); ended <- err }()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	poll(t, "handshake begins", func() bool {
		l := l.(*listener)
		l.mu.Lock()
		defer l.mu.Unlock()
		return l.open.Len() == 1
	})
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if err := <-ended; !errors.Is(err, net.ErrClosed) {
		t.Errorf("got %v", err)
	}
	if _, err := bufio.NewReader(c).ReadByte(); err == nil {
		t.Error("the handshake goes on")
	}
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("got %v", err)
	}
	if err := l.Close(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("a second time: got %v", err)
	}
	unused := id.Listen(wrapped{raw})
	unused.Close()
}

// failing is a listener whose first Accepts fail for a while.
type failing struct {
	net.Listener
	left int
}

func (f *failing) Accept() (net.Conn, error) {
	if f.left > 0 {
		f.left--
		return nil, syscall.EMFILE
	}
	return f.Listener.Accept()
}

func TestAcceptErrors(t *testing.T) {
	a := newTestAuthority(t)
	raw, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := node(t, a, nil).Listen(&failing{raw, 3})
	defer l.Close()
	for range 3 {
		if _, err := l.Accept(); !errors.Is(err, syscall.EMFILE) {
			t.Fatalf("got %v", err)
		}
	}
	go func() {
		conf := node(t, a, nil).Client()
		conf.ServerName = "localhost"
		if c, err := tls.Dial("tcp", raw.Addr().String(), conf); err == nil {
			c.Close()
		}
	}()
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
}
