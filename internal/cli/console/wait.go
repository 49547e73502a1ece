package console

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	cliv2 "github.com/urfave/cli/v2"

	"clusterd/internal/units"
)

const (
	// leaderPatience is how long commands wait for a leader if nothing says how long.
	// Elections take a second or two.
	leaderPatience = 10 * time.Second
	// silentFor is how long they do so without a word.
	silentFor = time.Second
	// askAgain and askAgainMost bound the pauses between attempts.
	askAgain     = 100 * time.Millisecond
	askAgainMost = time.Second
)

// patienceOf is how long a leader is waited for: not longer than the command may take at all.
func patienceOf(c *cliv2.Context) (time.Duration, error) {
	limit := leaderPatience
	if text := c.String("leader_timeout"); text != "" {
		d, err := ParseDuration("--leader_timeout", text)
		if err != nil {
			return 0, err
		}
		limit = max(d, 0)
	}
	// What is wrong with --timeout says the command that has it.
	if d, err := ParseDuration("--timeout", c.String("timeout")); err == nil && d > 0 {
		limit = min(limit, d)
	}
	return limit, nil
}

// ParseDuration reads the duration of a flag as Go or as Mesos writes them.
func ParseDuration(flag, text string) (time.Duration, error) {
	if d, err := time.ParseDuration(text); err == nil {
		return d, nil
	}
	if text == "0" {
		return 0, nil
	}
	d, err := units.ParseDuration(text)
	if err != nil {
		return 0, Hint(Usagef("%s: no duration %q", flag, text), "such as 90s, 10m, 2h or 1days")
	}
	return d, nil
}

// wait is one request that waits for a leader.
type wait struct {
	env   Env
	begun time.Time
	limit time.Duration
	pause time.Duration
	// status is there when something was said.
	status *Status
}

func newWait(e Env, limit time.Duration) *wait {
	return &wait{env: e, begun: time.Now(), limit: limit, pause: askAgain}
}

// again waits a little, or until ctx ends. It is false when the time is over.
func (w *wait) again(ctx context.Context, why string) bool {
	passed := time.Since(w.begun)
	if passed+w.pause > w.limit {
		return false
	}
	if passed >= silentFor && isTerminal(w.env.Err) {
		if w.status == nil {
			w.status = NewStatus(w.env)
		}
		w.status.Set(fmt.Sprintf("clusterd: %s; waiting up to %s", why, w.limit))
	}
	pause := time.NewTimer(w.pause)
	defer pause.Stop()
	w.pause = min(2*w.pause, askAgainMost)
	select {
	case <-ctx.Done():
	case <-pause.C:
	}
	return true
}

// done takes back what was said.
func (w *wait) done() {
	if w.status != nil {
		w.status.Done()
	}
}

type harmlessKey struct{}

// Harmlessly marks what is sent with ctx as only looking, though it is a POST.
func Harmlessly(ctx context.Context) context.Context {
	return context.WithValue(ctx, harmlessKey{}, true)
}

// harmless tells whether a request only looks, so that it may be sent any number of times.
func harmless(r *http.Request) bool {
	if r.Header.Get("Upgrade") != "" {
		return false // a terminal begins something
	}
	only, _ := r.Context().Value(harmlessKey{}).(bool)
	return only || r.Method == http.MethodGet || r.Method == http.MethodHead
}

// unknown adds to an error that nobody knows whether what was asked for was done.
func unknown(r *http.Request, err error) error {
	op, ok := errors.AsType[*net.OpError](err)
	broke := ok && (op.Op == "read" || op.Op == "write") || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
	if harmless(r) || !broke {
		return err
	}
	return Hint(err, "it may have been done all the same: look before you do it again")
}
