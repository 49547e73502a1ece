package sdnotify

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rs/zerolog"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = 30 * time.Second

// manager is systemd's end of the socket.
type manager struct {
	t    *testing.T
	conn *net.UnixConn
}

func startManager(t *testing.T, watchdog string) *manager {
	t.Helper()
	dir, err := os.MkdirTemp("", "sd") //nolint:usetesting // t.TempDir is too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	path := filepath.Join(dir, "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	t.Setenv("NOTIFY_SOCKET", path)
	t.Setenv("WATCHDOG_USEC", watchdog)
	t.Setenv("WATCHDOG_PID", "")
	return &manager{t, conn}
}

// next is what was said next.
func (m *manager) next() string {
	m.t.Helper()
	m.conn.SetReadDeadline(time.Now().Add(patience))
	buf := make([]byte, 4096)
	n, err := m.conn.Read(buf)
	if err != nil {
		m.t.Fatalf("nothing was said: %v", err)
	}
	return string(buf[:n])
}

// until returns the first thing said that begins so.
func (m *manager) until(prefix string) string {
	m.t.Helper()
	for {
		if s := m.next(); strings.HasPrefix(s, prefix) {
			return s
		}
	}
}

// subject is a daemon whose mind may be stuck.
type subject struct {
	stuck   atomic.Bool
	asked   atomic.Int64
	summary atomic.Pointer[string]
}

func (s *subject) Alive(ctx context.Context) error {
	s.asked.Add(1)
	if !s.stuck.Load() {
		return nil
	}
	<-ctx.Done()
	return errors.New("the loop does not answer")
}

func (s *subject) Summary() string { return *s.summary.Load() }

func start(t *testing.T, s *subject) *Notifier {
	t.Helper()
	n, err := FromEnvironment(zerolog.New(zerolog.NewTestWriter(t)))
	if err != nil {
		t.Fatal(err)
	}
	n.Ready(s)
	return n
}

func newSubject(summary string) *subject {
	s := new(subject)
	s.summary.Store(&summary)
	return s
}

func TestLifeOfADaemon(t *testing.T) {
	m := startManager(t, "100000")
	s := newSubject("follows\n10.0.0.1:5050")
	n := start(t, s)
	if got, want := m.next(), "READY=1\nSTATUS=follows 10.0.0.1:5050"; got != want {
		t.Errorf("at first %q, want %q", got, want)
	}
	for _, name := range []string{"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"} {
		if v, ok := os.LookupEnv(name); ok {
			t.Errorf("children would inherit %s=%q", name, v)
		}
	}
	m.until("WATCHDOG=1")
	m.until("WATCHDOG=1")
	s.summary.Store(new("leads"))
	if got, want := m.until("STATUS"), "STATUS=leads"; got != want {
		t.Errorf("said %q, want %q", got, want)
	}
	n.Stop()
	if got, want := m.until("STOPPING=1"), "STOPPING=1\nSTATUS=stopping"; got != want {
		t.Errorf("at last %q, want %q", got, want)
	}
	m.conn.SetReadDeadline(time.Now())
	if n, err := m.conn.Read(make([]byte, 100)); err == nil {
		t.Errorf("%d bytes after the end", n)
	}
}

// TestStuckDaemonIsNotVouchedFor: no sign of life while the loop is stuck, and
// again when it has come back.
func TestStuckDaemonIsNotVouchedFor(t *testing.T) {
	m := startManager(t, "60000")
	s := newSubject("leads")
	n := start(t, s)
	defer n.Stop()
	m.until("WATCHDOG=1")
	s.stuck.Store(true)
	if got, want := m.until("STATUS=stuck"), "STATUS=stuck: the loop does not answer"; got != want {
		t.Errorf("said %q, want %q", got, want)
	}
	asked := s.asked.Load()
	for s.asked.Load() < asked+5 {
		if got := m.next(); strings.HasPrefix(got, "WATCHDOG") {
			t.Fatalf("said %q of a daemon that is stuck", got)
		}
	}
	s.stuck.Store(false)
	m.until("WATCHDOG=1")
	if got, want := m.until("STATUS"), "STATUS=leads"; got != want {
		t.Errorf("said %q, want %q", got, want)
	}
}

func TestNobodyListens(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "")
	t.Setenv("WATCHDOG_USEC", "100")
	s := newSubject("leads")
	n := start(t, s)
	n.Stop()
	if got := s.asked.Load(); got != 0 {
		t.Errorf("asked for signs of life %d times", got)
	}
	startManager(t, "0").conn.Close()
	if _, err := FromEnvironment(zerolog.Nop()); err == nil {
		t.Error("WATCHDOG_USEC=0 is accepted")
	}
	// A manager that went away stops nobody.
	startManager(t, "1000").conn.Close()
	n = start(t, s)
	n.Stop()
}

func TestEnvironment(t *testing.T) {
	tests := []struct {
		name, usec, pid string
		want            time.Duration
	}{
		{"no watchdog", "", "", 0},
		{"watchdog", "30000000", "", 30 * time.Second},
		{"mine", "30000000", "self", 30 * time.Second},
		{"of another process", "30000000", "1", 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Setenv("NOTIFY_SOCKET", "@clusterd-test")
			t.Setenv("WATCHDOG_USEC", tt.usec)
			pid := tt.pid
			if pid == "self" {
				pid = strconv.Itoa(os.Getpid())
			}
			t.Setenv("WATCHDOG_PID", pid)
			n, err := FromEnvironment(zerolog.Nop())
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, n.watchdog); diff != "" {
				t.Errorf("watchdog (-want +got):\n%s", diff)
			}
		})
	}
}
