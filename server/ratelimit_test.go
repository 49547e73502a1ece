package server

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	mesos "clusterd/api/mesos/v1"
	"clusterd/api/mesos/v1/scheduler"
	"clusterd/internal/authz"
	"clusterd/internal/httpapi"
	"clusterd/internal/metrics"
)

func TestParseRateLimits(t *testing.T) {
	l, err := ParseRateLimits([]byte(`{"limits":[{"principal":"foo","qps":55.5,"capacity":100000},{"principal":"baz"}],
		"aggregate_default_qps":333,"aggregate_default_capacity":1000000}`))
	want := &RateLimits{
		Limits:              []RateLimit{{Principal: "foo", QPS: new(55.5), Capacity: new(uint64(100000))}, {Principal: "baz"}},
		AggregateDefaultQPS: new(333.0), AggregateDefaultCapacity: new(uint64(1000000)),
	}
	if diff := cmp.Diff(want, l); err != nil || diff != "" {
		t.Errorf("%v\n%s", err, diff)
	}
	for text, says := range map[string]string{
		`{"limits":[{"qps":1}]}`:                               "no principal",
		`{"limits":[{"principal":"a"},{"principal":"a"}]}`:     "two limits",
		`{"limits":[{"principal":"a","qps":0}]}`:               "must be positive",
		`{"limits":[{"principal":"a","qsp":1}]}`:               "qsp",
		`{"aggregate_default_qps":-1}`:                         "must be positive",
		`{"limits":[{"principal":"a","qps":1,"capacity":-1}]}`: "capacity",
		`{} {}`: "follows",
		`[`:     "EOF",
	} {
		if _, err := ParseRateLimits([]byte(text)); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v, want %q", text, err, says)
		}
	}
}

func callOf(kind scheduler.Call_Type, principal string) *scheduler.Call {
	c := &scheduler.Call{Type: &kind}
	if kind == scheduler.Call_SUBSCRIBE {
		c.Subscribe = &scheduler.Call_Subscribe{FrameworkInfo: &mesos.FrameworkInfo{Principal: &principal}}
	}
	return c
}

// On virtual time: calls within the rate go at once, those above it wait their turn, those
// above the capacity are refused; frameworks of other principals do not notice.
func TestRateLimiter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, err := ParseRateLimits([]byte(`{"limits":[{"principal":"slow","qps":2,"capacity":3},{"principal":"free"}],"aggregate_default_qps":1}`))
		if err != nil {
			t.Fatal(err)
		}
		counts := metrics.NewRegistry()
		r := newRateLimiter(l, counts)
		for _, p := range []string{"slow", "free", "other"} {
			if err := r.wait(t.Context(), callOf(scheduler.Call_SUBSCRIBE, p), "", nil); err != nil {
				t.Fatal(err)
			}
			r.opened("stream of "+p, p)
		}
		start := time.Now()
		revive := callOf(scheduler.Call_REVIVE, "")
		for range 1000 {
			if err := r.wait(t.Context(), revive, "stream of free", nil); err != nil {
				t.Fatal(err)
			}
		}
		if time.Since(start) != 0 {
			t.Error("calls without a limit wait")
		}
		refused, waited := 0, make(chan time.Duration, 10)
		_ = r.wait(t.Context(), revive, "stream of slow", nil) // the second of this second
		for range 5 {
			go func() {
				err := r.wait(t.Context(), revive, "stream of slow", nil)
				if e, ok := errors.AsType[*httpapi.Error](err); ok && e.Status == http.StatusTooManyRequests {
					waited <- -1
					return
				}
				waited <- time.Since(start)
			}()
		}
		var longest time.Duration
		for range 5 {
			switch d := <-waited; {
			case d < 0:
				refused++
			default:
				longest = max(longest, d)
			}
		}
		if refused != 2 || longest != 1500*time.Millisecond {
			t.Errorf("%d refused, the last waited %s", refused, longest)
		}
		// Unknown principals, and none, share the default.
		if err := r.wait(t.Context(), revive, "stream of other", nil); err != nil {
			t.Error(err)
		}
		begin := time.Now()
		if err := r.wait(t.Context(), revive, "no such stream", nil); err != nil || time.Since(begin) != time.Second {
			t.Errorf("%v after %s", err, time.Since(begin))
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if err := r.wait(ctx, revive, "stream of other", nil); err == nil {
			t.Error("a call waits beyond its client")
		}
		if n := counts.Counter("frameworks/free/messages_processed").Value(); n != 1001 {
			t.Errorf("%v calls of free are counted", n)
		}
		r.closed("stream of free")
		for _, s := range counts.Snapshot(0) {
			if strings.HasPrefix(s.Name, "frameworks/free/") {
				t.Errorf("%s is left", s.Name)
			}
		}
	})
}

// Who leaves its principal out, or names a stream that there is not, does not get around
// its limit: who has authenticated counts.
func TestRateLimitCannotBeAvoided(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, err := ParseRateLimits([]byte(`{"limits":[{"principal":"slow","qps":1,"capacity":0}]}`))
		if err != nil {
			t.Fatal(err)
		}
		r := newRateLimiter(l, metrics.NewRegistry())
		slow := &authz.Principal{Value: "slow"}
		if err := r.wait(t.Context(), callOf(scheduler.Call_SUBSCRIBE, ""), "", slow); err != nil {
			t.Fatal(err)
		}
		for _, call := range []*scheduler.Call{callOf(scheduler.Call_SUBSCRIBE, ""), callOf(scheduler.Call_REVIVE, "")} {
			err := r.wait(t.Context(), call, "no such stream", slow)
			if e, ok := errors.AsType[*httpapi.Error](err); !ok || e.Status != http.StatusTooManyRequests {
				t.Errorf("%s: got %v, want 429", call.GetType(), err)
			}
		}
	})
}
