package console

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"
)

// Paths at which any master forwards to the leader, and to an agent over the agent's own
// connection: one address is all that a person needs to reach.
const (
	leaderPrefix = "/api/clusterd/v1/proxy/leader"
	agentPrefix  = "/api/clusterd/v1/proxy/agent/"
)

// door is a RoundTripper that sends requests to whichever master can be reached, by the
// paths above. A request goes to the next master when one cannot be reached or knows no
// leader: then nothing was done. Masters of before these paths are asked directly.
type door struct {
	base    http.RoundTripper
	masters []*url.URL
	prefix  string
	// direct finds the address of who is meant, for masters that do not forward; nil: the
	// master itself.
	direct func(ctx context.Context) (*url.URL, error)
	shared *doorState
}

// doorState is what the doors of one cluster have learned.
type doorState struct {
	// mu guards the fields below.
	mu      sync.Mutex
	current int          // the master that answered last
	sure    bool         // current has answered, and no answer has failed to come since
	plain   map[int]bool // masters by whether they do not forward
}

// RoundTrip implements http.RoundTripper.
func (d *door) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Host != d.masters[0].Host {
		return d.base.RoundTrip(r) // where a master that does not forward has led to
	}
	first := d.first(r.Context())
	var failed []error
	for i := range d.masters {
		at := (first + i) % len(d.masters)
		again, err := rewound(r, i)
		if err != nil {
			return nil, err
		}
		res, err := d.ask(again, at)
		last := i == len(d.masters)-1
		switch {
		case err == nil && res.StatusCode == http.StatusServiceUnavailable && !last:
			failed = append(failed, fmt.Errorf("%s: %s", d.masters[at].Host, res.Status))
			discard(res)
			continue
		case err == nil:
			d.answered(at, true)
			return res, nil
		case !unsent(err) || r.Context().Err() != nil:
			d.answered(at, false)
			return nil, err
		}
		failed = append(failed, err)
	}
	return nil, errors.Join(failed...)
}

// probeTimeout is how long a master may take to say its version, where there are others.
const probeTimeout = 3 * time.Second

// first is the master to begin with. One that hangs takes connections and answers nothing:
// what was sent to it could not be sent to another. So each is asked for something small first.
func (d *door) first(ctx context.Context) int {
	d.shared.mu.Lock()
	first, sure := d.shared.current, d.shared.sure
	d.shared.mu.Unlock()
	if sure || len(d.masters) == 1 {
		return first
	}
	for i := range d.masters {
		at := (first + i) % len(d.masters)
		if d.answers(ctx, at) {
			d.answered(at, true)
			return at
		}
	}
	return first
}

func (d *door) answers(ctx context.Context, at int) bool {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, d.masters[at].JoinPath("version").String(), nil)
	if err != nil {
		return false
	}
	res, err := d.base.RoundTrip(r)
	if err != nil {
		return false
	}
	discard(res)
	return true
}

// answered notes the master that has answered, or that an answer of it did not come.
func (d *door) answered(at int, sure bool) {
	d.shared.mu.Lock()
	defer d.shared.mu.Unlock()
	d.shared.current, d.shared.sure = at, sure
}

// rewound is the request for another attempt.
func rewound(r *http.Request, attempt int) (*http.Request, error) {
	again := r.Clone(r.Context())
	if attempt == 0 || r.Body == nil || r.Body == http.NoBody {
		return again, nil
	}
	if r.GetBody == nil {
		return nil, errors.New("what was being sent cannot be sent again to another master")
	}
	body, err := r.GetBody()
	again.Body = body
	return again, err
}

// ask sends a request to one master.
func (d *door) ask(r *http.Request, at int) (*http.Response, error) {
	d.shared.mu.Lock()
	plain, known := d.shared.plain[at]
	d.shared.mu.Unlock()
	if plain {
		return d.askDirectly(r, at)
	}
	original := r.Clone(r.Context())
	d.aim(r, d.masters[at], d.prefix)
	res, err := d.base.RoundTrip(r)
	if err != nil || known || res.StatusCode != http.StatusNotFound {
		if err == nil && res.StatusCode != http.StatusUnauthorized && res.StatusCode != http.StatusServiceUnavailable {
			d.learn(at, false)
		}
		return res, err
	}
	// Is it the path itself that is not there, or what it leads to?
	forwards, err := d.forwards(r, at)
	if err != nil || forwards {
		d.learn(at, !forwards && err == nil)
		return res, nil // the first answer stands
	}
	d.learn(at, true)
	discard(res)
	if original, err = rewound(original, 1); err != nil {
		return nil, err
	}
	return d.askDirectly(original, at)
}

func (d *door) learn(at int, plain bool) {
	d.shared.mu.Lock()
	defer d.shared.mu.Unlock()
	d.shared.plain[at] = plain
}

// forwards asks a master for what every leader has.
func (d *door) forwards(like *http.Request, at int) (bool, error) {
	r, err := http.NewRequestWithContext(like.Context(), http.MethodGet, d.masters[at].JoinPath(leaderPrefix, "/version").String(), nil)
	if err != nil {
		return false, err
	}
	r.Header.Set("Authorization", like.Header.Get("Authorization"))
	res, err := d.base.RoundTrip(r)
	if err != nil {
		return false, err
	}
	discard(res)
	return res.StatusCode != http.StatusNotFound, nil
}

func (d *door) askDirectly(r *http.Request, at int) (*http.Response, error) {
	to := d.masters[at]
	if d.direct != nil {
		var err error
		if to, err = d.direct(r.Context()); err != nil {
			return nil, err
		}
	}
	d.aim(r, to, "")
	return d.base.RoundTrip(r)
}

// aim sends a request to a server, below a prefix.
func (d *door) aim(r *http.Request, to *url.URL, prefix string) {
	u := *r.URL
	u.Scheme, u.Host = to.Scheme, to.Host
	// The path of the first master's address stands before that of the request.
	own := strings.TrimSuffix(d.masters[0].EscapedPath(), "/")
	escaped := strings.TrimSuffix(to.EscapedPath(), "/") + prefix + strings.TrimPrefix(r.URL.EscapedPath(), own)
	u.RawPath = escaped
	if path, err := url.PathUnescape(escaped); err == nil {
		u.Path = path
	}
	r.URL, r.Host = &u, u.Host
}

func discard(res *http.Response) {
	_, _ = io.Copy(io.Discard, io.LimitReader(res.Body, 64<<10)) // only so that the connection can be used again
	_ = res.Body.Close()                                         // nothing is to be had of it
}

// unsent tells whether err means that the server never saw the request.
func unsent(err error) bool {
	op, ok := errors.AsType[*net.OpError](err)
	return ok && op.Op == "dial"
}
