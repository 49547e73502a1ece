package server

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"

	"golang.org/x/time/rate"

	"clusterd/api/mesos/v1/scheduler"
	"clusterd/internal/authz"
	"clusterd/internal/httpapi"
	"clusterd/internal/metrics"
)

// RateLimits are those of --rate_limits (include/mesos/mesos.proto, RateLimits). In
// Mesos they slow frameworks of the old API only; here all calls of the scheduler API.
type RateLimits struct {
	Limits []RateLimit `json:"limits"`
	// AggregateDefaultQPS and AggregateDefaultCapacity are for all frameworks together
	// whose principal is not in Limits, or that have none.
	AggregateDefaultQPS      *float64 `json:"aggregate_default_qps"`
	AggregateDefaultCapacity *uint64  `json:"aggregate_default_capacity"`
}

// RateLimit is the limit of the frameworks of one principal.
type RateLimit struct {
	Principal string `json:"principal"`
	// QPS is how many calls a second are handled; nil: any number.
	QPS *float64 `json:"qps"`
	// Capacity is how many calls may wait; nil: any number.
	Capacity *uint64 `json:"capacity"`
}

// ParseRateLimits reads the JSON of --rate_limits.
func ParseRateLimits(text []byte) (*RateLimits, error) {
	l := new(RateLimits)
	if err := httpapi.StrictJSON(text, l); err != nil {
		return nil, err
	}
	seen := make(map[string]bool)
	for _, r := range l.Limits {
		switch {
		case r.Principal == "":
			return nil, errors.New("a limit has no principal")
		case seen[r.Principal]:
			return nil, fmt.Errorf("principal %q has two limits", r.Principal)
		case r.QPS != nil && *r.QPS <= 0:
			return nil, fmt.Errorf("qps of %q must be positive", r.Principal)
		}
		seen[r.Principal] = true
	}
	if l.AggregateDefaultQPS != nil && *l.AggregateDefaultQPS <= 0 {
		return nil, errors.New("aggregate_default_qps must be positive")
	}
	return l, nil
}

// rateLimiter slows the calls of frameworks.
type rateLimiter struct {
	limits map[string]*bucket // by principal
	rest   *bucket            // of all others
	counts *metrics.Registry

	// streams has the principal of each scheduler's stream.
	streams sync.Map
}

// bucket is the limit of one principal, or of the rest. Nil does not limit.
type bucket struct {
	rate     *rate.Limiter
	capacity int64 // of calls that wait; negative: any number
	waiting  atomic.Int64
}

func newBucket(qps *float64, capacity *uint64) *bucket {
	if qps == nil {
		return nil
	}
	b := &bucket{rate: rate.NewLimiter(rate.Limit(*qps), max(1, int(*qps))), capacity: -1}
	if capacity != nil {
		b.capacity = int64(min(*capacity, 1<<40))
	}
	return b
}

func newRateLimiter(l *RateLimits, counts *metrics.Registry) *rateLimiter {
	r := &rateLimiter{limits: make(map[string]*bucket), counts: counts}
	if l != nil {
		for _, one := range l.Limits {
			r.limits[one.Principal] = newBucket(one.QPS, one.Capacity)
		}
		r.rest = newBucket(l.AggregateDefaultQPS, l.AggregateDefaultCapacity)
	}
	return r
}

// errTooMany is the answer to a call over the capacity. Mesos ends the scheduler's driver
// with an error; here the scheduler may try again.
var errTooMany = &httpapi.Error{
	Status: http.StatusTooManyRequests,
	Body:   "Message dropped: capacity exceeded",
	Header: http.Header{"Retry-After": {"1"}},
}

// wait returns once a call may go on: at once if its framework is within its rate. who has
// authenticated.
func (r *rateLimiter) wait(ctx context.Context, call *scheduler.Call, streamID string, who *authz.Principal) error {
	principal, counted := r.principal(call, streamID)
	if principal == "" && who != nil {
		principal = who.Value // calls that name nobody, or a stream that there is not, count all the same
	}
	if counted {
		r.counts.Counter("frameworks/" + principal + "/messages_received").Inc()
	}
	b, known := r.limits[principal]
	if !known {
		b = r.rest
	}
	if err := b.wait(ctx); err != nil {
		return err
	}
	if counted {
		r.counts.Counter("frameworks/" + principal + "/messages_processed").Inc()
	}
	return nil
}

func (b *bucket) wait(ctx context.Context) error {
	if b == nil || b.rate.Allow() {
		return nil
	}
	defer b.waiting.Add(-1)
	if waiting := b.waiting.Add(1); b.capacity >= 0 && waiting > b.capacity {
		return errTooMany
	}
	if err := b.rate.Wait(ctx); err != nil {
		return httpapi.Unavailable("The call was given up while it waited for its rate limit: %v", err)
	}
	return nil
}

// principal of the framework that calls: as it says when it subscribes, and for the other
// calls as it said then. Only these are counted: else anybody could make up metrics.
func (r *rateLimiter) principal(call *scheduler.Call, streamID string) (p string, counted bool) {
	if call.GetType() == scheduler.Call_SUBSCRIBE {
		return call.GetSubscribe().GetFrameworkInfo().GetPrincipal(), false
	}
	v, ok := r.streams.Load(streamID)
	p, _ = v.(string)
	return p, ok
}

// opened notes whose a stream is.
func (r *rateLimiter) opened(streamID, principal string) {
	if principal == "" {
		return
	}
	r.streams.Store(streamID, principal)
	r.counts.Counter("frameworks/" + principal + "/messages_received").Inc()
	r.counts.Counter("frameworks/" + principal + "/messages_processed").Inc()
}

// closed forgets a stream; metrics of principals that have none left go with it.
func (r *rateLimiter) closed(streamID string) {
	p, had := r.streams.LoadAndDelete(streamID)
	if !had {
		return
	}
	others := false
	r.streams.Range(func(_, other any) bool {
		others = other == p
		return !others
	})
	if !others {
		prefix := "frameworks/" + p.(string) + "/"
		r.counts.Remove(prefix + "messages_received")
		r.counts.Remove(prefix + "messages_processed")
	}
}
