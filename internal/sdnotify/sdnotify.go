// Package sdnotify tells systemd how a daemon is: that it serves (READY), in one
// line what it is doing (STATUS), that its mind still works (WATCHDOG), that it
// ends (STOPPING); see sd_notify(3). Outside a unit of Type=notify it does nothing.
//
// The main type is [Notifier], which owns one goroutine from [Notifier.Ready] to
// [Notifier.Stop]. Its methods are for one goroutine. Imported by internal/cli.
package sdnotify

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/rs/zerolog"
)

// Subject is a daemon that is watched.
type Subject interface {
	// Alive returns once what matters in the daemon has answered. If it does not
	// before ctx ends, the daemon is stuck and systemd is left to restart it.
	Alive(ctx context.Context) error
	// Summary says in a few words what the daemon is doing now.
	Summary() string
}

// statusInterval is how often Summary is looked at.
const statusInterval = 2 * time.Second

// Notifier speaks to the service manager that started this process.
type Notifier struct {
	socket   string        // empty: nobody listens
	watchdog time.Duration // zero: nobody waits for signs of life
	log      zerolog.Logger

	cancel context.CancelFunc
	wg     sync.WaitGroup
	failed bool // a write has failed and was logged
}

// FromEnvironment reads what systemd has put into the environment and takes it
// out there, so that tasks of an agent do not speak in its name.
func FromEnvironment(log zerolog.Logger) (*Notifier, error) {
	n := &Notifier{socket: os.Getenv("NOTIFY_SOCKET"), log: log, cancel: func() {}}
	usec, pid := os.Getenv("WATCHDOG_USEC"), os.Getenv("WATCHDOG_PID")
	for _, name := range []string{"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"} {
		if err := os.Unsetenv(name); err != nil {
			return nil, fmt.Errorf("environment of systemd: %w", err)
		}
	}
	if usec == "" || n.socket == "" || (pid != "" && pid != strconv.Itoa(os.Getpid())) {
		return n, nil
	}
	us, err := strconv.ParseInt(usec, 10, 64)
	if err != nil || us <= 0 {
		return nil, fmt.Errorf("environment of systemd: WATCHDOG_USEC is %q, not a number of microseconds", usec)
	}
	n.watchdog = time.Duration(us) * time.Microsecond
	return n, nil
}

// Ready says that the daemon serves, and from now on what it is doing and that
// it is alive.
func (n *Notifier) Ready(s Subject) {
	if n.socket == "" {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	n.cancel = cancel
	last := s.Summary()
	n.send("READY=1", status(last))
	n.wg.Go(func() { n.watch(ctx, s, last) })
}

// Stop says that the daemon ends, and speaks no more.
func (n *Notifier) Stop() {
	n.cancel()
	n.wg.Wait()
	if n.socket != "" {
		n.send("STOPPING=1", status("stopping"))
	}
}

// watch renews status and signs of life. The latter come twice in the time after
// which systemd gives the daemon up, as sd_watchdog_enabled(3) advises.
func (n *Notifier) watch(ctx context.Context, s Subject, last string) {
	poll := time.NewTicker(statusInterval)
	defer poll.Stop()
	var beat <-chan time.Time
	if n.watchdog > 0 {
		t := time.NewTicker(n.watchdog / 2)
		defer t.Stop()
		beat = t.C
		n.beat(ctx, s)
	}
	for {
		select {
		case <-ctx.Done():
			return
		case <-beat:
			if !n.beat(ctx, s) {
				last = "" // beat has said something else
			}
		case <-poll.C:
			if now := s.Summary(); now != last {
				last = now
				n.send(status(now))
			}
		}
	}
}

// beat gives a sign of life if there is one.
func (n *Notifier) beat(ctx context.Context, s Subject) bool {
	within, cancel := context.WithTimeout(ctx, n.watchdog/2)
	defer cancel()
	err := s.Alive(within)
	switch {
	case ctx.Err() != nil:
		return true // it stops
	case err != nil:
		n.log.Error().Err(err).Dur("watchdog", n.watchdog).Msg("no sign of life: systemd restarts this process unless one comes")
		n.send(status("stuck: " + err.Error()))
		return false
	}
	n.send("WATCHDOG=1")
	return true
}

// status is the line for a summary, which must not contain another line.
func status(s string) string {
	return "STATUS=" + strings.Join(strings.Fields(s), " ")
}

// send tells systemd. That it cannot be reached is no reason to end.
func (n *Notifier) send(lines ...string) {
	err := write(n.socket, strings.Join(lines, "\n"))
	if err != nil && !n.failed {
		n.log.Warn().Err(err).Msg("systemd cannot be told")
	}
	n.failed = err != nil
}

// write sends one datagram. It does not wait for long: the manager is slow to read only
// when something is badly wrong with it, not with this daemon.
func write(socket, text string) error {
	if socket[0] != '/' && socket[0] != '@' {
		return fmt.Errorf("NOTIFY_SOCKET %q: only paths and abstract sockets are understood", socket)
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		return fmt.Errorf("notify systemd: %w", err)
	}
	_ = conn.SetWriteDeadline(time.Now().Add(time.Second)) // cannot fail on an open socket
	_, err = conn.Write([]byte(text))
	return errors.Join(err, conn.Close())
}
