package console

import (
	"bytes"
	"context"
	"crypto/tls"
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
// leader: then nothing was done. Where that is so of all of them, they are asked again for a
// while, if it is a patient door. What only looks is asked again also where nobody
// knows what became of it. Masters of before these paths are asked directly.
type door struct {
	base    http.RoundTripper
	masters []*url.URL
	prefix  string
	// direct finds the address of who is meant, for masters that do not forward; nil: the
	// master itself.
	direct func(ctx context.Context) (*url.URL, error)
	shared *doorState
	// patient doors wait for a leader.
	patient bool
}

// doorState is what the doors of one cluster have learned.
type doorState struct {
	// patience is how long a leader is waited for, waiting who is told that.
	patience time.Duration
	waiting  Env

	// mu guards the fields below.
	mu      sync.Mutex
	current int          // the master that answered last
	heard   time.Time    // when it did; zero: an answer of it did not come
	plain   map[int]bool // masters by whether they do not forward
}

// RoundTrip implements http.RoundTripper.
func (d *door) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Host != d.masters[0].Host {
		return d.base.RoundTrip(r) // where a master that does not forward has led to
	}
	var w *wait
	if d.patient && d.shared.patience > 0 {
		w = newWait(d.shared.waiting, d.shared.patience)
		defer w.done()
	}
	for attempts := 0; ; {
		res, why, err := d.round(r, &attempts)
		if why == "" || w == nil || !resendable(r) || !w.again(r.Context(), why) {
			return res, err
		}
		discardAny(res)
		if r.Context().Err() != nil {
			return nil, context.Cause(r.Context())
		}
	}
}

// round asks one master after the other until one takes the request. Where none did, why
// says what is in the way, if that passes.
func (d *door) round(r *http.Request, attempts *int) (_ *http.Response, why string, _ error) {
	var refused *http.Response
	first := d.first(r.Context())
	var failed []error
	for i := range d.masters {
		at := (first + i) % len(d.masters)
		if refused != nil && !resendable(r) {
			return refused, "", nil // it has been sent, and cannot be again
		}
		again, err := rewound(r, *attempts)
		if err != nil {
			return nil, "", err
		}
		*attempts++
		res, err := d.attend(again, at)
		if err != nil {
			d.answered(at, false)
			if r.Context().Err() != nil || !unsent(err) && !harmless(r) {
				discardAny(refused)
				return nil, "", unknown(r, err)
			}
			failed = append(failed, err)
			continue
		}
		reason, elsewhere := d.refusal(r, res)
		if !elsewhere {
			d.answered(at, true)
			discardAny(refused)
			return res, "", nil
		}
		discardAny(refused)
		refused = res
		if reason != "" {
			why = reason
		}
	}
	if refused != nil {
		return refused, why, nil
	}
	return nil, "", errors.Join(failed...)
}

// refusal tells whether an answer is none, so that another master may give one, and why, if
// that passes. What masters refuse with Retry-After they have not begun.
func (d *door) refusal(r *http.Request, res *http.Response) (why string, elsewhere bool) {
	switch res.StatusCode {
	case http.StatusServiceUnavailable, http.StatusBadGateway, http.StatusGatewayTimeout:
	default:
		return "", false
	}
	text, _ := io.ReadAll(io.LimitReader(res.Body, 64<<10)) // what cannot be read says nothing
	_ = res.Body.Close()                                    // it has been read
	res.Body = io.NopCloser(bytes.NewReader(text))
	reason := strings.TrimSpace(message(text))
	atLeader := d.prefix == leaderPrefix && harmless(r)
	switch {
	case res.Header.Get("Retry-After") != "", strings.HasPrefix(reason, "No leader elected"):
		return reason, true
	case atLeader && (res.StatusCode != http.StatusServiceUnavailable || strings.HasPrefix(reason, "Master is not able to answer")):
		return reason, true // it went down with the question
	}
	return "", atLeader
}

// probeTimeout is how long a master may take to say its version, where there are others;
// probeStagger is when the next one is asked as well.
const (
	probeTimeout = 3 * time.Second
	probeStagger = 100 * time.Millisecond
	// trust is how long it is believed of a master that it still answers.
	trust = 2 * time.Second
)

// first is the master to begin with. One that hangs takes connections and answers nothing:
// what was sent to it could not be sent to another. So they are asked for something small
// first, unless one has answered just now.
func (d *door) first(ctx context.Context) int {
	d.shared.mu.Lock()
	first, sure := d.shared.current, time.Since(d.shared.heard) < trust
	d.shared.mu.Unlock()
	if sure || len(d.masters) == 1 {
		return first
	}
	order := make([]int, len(d.masters))
	for i := range order {
		order[i] = (first + i) % len(d.masters)
	}
	if at := d.quickest(ctx, order); at >= 0 {
		d.answered(at, true)
		return at
	}
	return first
}

// quickest is the first of several masters that answers, -1 if none does. Each is given a
// little time before the next one is asked too.
func (d *door) quickest(ctx context.Context, order []int) int {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	var asked sync.WaitGroup
	defer asked.Wait()
	defer cancel()
	answers := make(chan int, len(order))
	next, running := 0, 0
	begin := time.NewTimer(0)
	defer begin.Stop()
	for {
		select {
		case <-begin.C:
			if next < len(order) {
				at := order[next]
				next, running = next+1, running+1
				asked.Go(func() {
					if !d.answers(ctx, at) {
						at = -1
					}
					answers <- at
				})
				begin.Reset(probeStagger)
			}
		case at := <-answers:
			if at >= 0 {
				return at
			}
			if running--; running == 0 && next == len(order) {
				return -1
			}
			begin.Reset(0)
		}
	}
}

func (d *door) answers(ctx context.Context, at int) bool {
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
	d.shared.current, d.shared.heard = at, time.Time{}
	if sure {
		d.shared.heard = time.Now()
	}
}

// errHangs says that a master takes requests and answers none, while others do.
var errHangs = errors.New("it takes requests and answers none")

// attend asks one master. If that says nothing for long, it is asked whether it still
// lives; where it does not, and another does, what only looks is not waited for any more.
func (d *door) attend(r *http.Request, at int) (*http.Response, error) {
	if len(d.masters) == 1 || !harmless(r) {
		return d.ask(r, at)
	}
	ctx, cancel := context.WithCancel(r.Context())
	type answer struct {
		res *http.Response
		err error
	}
	answers := make(chan answer, 1)
	go func() {
		res, err := d.ask(r.WithContext(ctx), at) //nolint:bodyclose // who takes it from the channel does
		answers <- answer{res, err}
	}()
	silence := time.NewTicker(probeTimeout)
	defer silence.Stop()
	for {
		select {
		case a := <-answers:
			if a.err != nil {
				cancel()
				return nil, a.err
			}
			a.res.Body = &ending{a.res.Body, cancel}
			return a.res, nil
		case <-silence.C:
			if d.quickest(ctx, []int{at}) == at || d.quickest(ctx, d.others(at)) < 0 {
				continue
			}
			cancel()
			if a := <-answers; a.res != nil {
				discard(a.res)
			}
			return nil, fmt.Errorf("%s: %w", d.masters[at].Host, errHangs)
		}
	}
}

// others are all masters but one.
func (d *door) others(than int) (out []int) {
	for i := range d.masters[1:] {
		out = append(out, (than+1+i)%len(d.masters))
	}
	return out
}

// ending is a body that ends the context of its request when it is closed.
type ending struct {
	io.ReadCloser
	end context.CancelFunc
}

// Close implements io.Closer.
func (e *ending) Close() error {
	defer e.end()
	return e.ReadCloser.Close()
}

// resendable tells whether a request can be sent more than once.
func resendable(r *http.Request) bool {
	return r.Body == nil || r.Body == http.NoBody || r.GetBody != nil
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

func discardAny(res *http.Response) {
	if res != nil {
		discard(res)
	}
}

// unsent tells whether err means that the server never saw the request.
func unsent(err error) bool {
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return true
	}
	if _, ok := errors.AsType[tls.RecordHeaderError](err); ok {
		return true
	}
	op, ok := errors.AsType[*net.OpError](err)
	return ok && op.Op == "dial"
}
