package httpapi

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"net/url"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"

	"clusterd/internal/units"
)

// LivePath is where other paths are watched.
const LivePath = "/api/clusterd/v1/live"

const (
	// liveInterval is how often a path is looked at unless the client says, and
	// minLiveInterval how often at most.
	liveInterval    = 2 * time.Second
	minLiveInterval = 500 * time.Millisecond
	maxLiveInterval = time.Hour
	// maxLivePaths and maxLivePath bound what one client may watch.
	maxLivePaths = 64
	maxLivePath  = 4 << 10
	// maxLiveBody is the largest answer that is watched: more is a read, not a look.
	maxLiveBody = 32 << 20
	// liveTimeout is how long an answer may take.
	liveTimeout = 10 * time.Second
	// liveHeartbeat is how often something is sent, so that clients and what is between us
	// know that we live.
	liveHeartbeat = 15 * time.Second
	// maxLive bounds the clients.
	maxLive = 1024
	// smallLook is how large an answer may be of which a client may have as many as it watches
	// paths. Of larger ones each client has one in memory at a time, and all have maxLarge.
	smallLook = 512 << 10
	maxLarge  = 32
)

var (
	// errNotWatched says that an answer is none that can be watched.
	errNotWatched = errors.New("it streams, or is too large")
	// errManyLarge says that an answer was large while too many others were.
	errManyLarge = errors.New("too many large answers are watched at the moment")
)

var errLiveInLive = BadRequest("What is live already cannot be watched")

// withinLive is in the context of what is asked for on behalf of a client.
type withinLive struct{}

// Live has clients watch what GET answers on other paths of the same server, without asking
// again and again: a path is asked for on their behalf, and what comes is sent when it has
// changed, as a server-sent event of the path's name. The zero value is ready for use.
type Live struct {
	large  chan struct{} // as many as there are large answers
	guests guests
}

// Register adds [LivePath] to a router.
func (l *Live) Register(rt *Router) {
	l.guests.open(maxLive)
	l.large = make(chan struct{}, maxLarge)
	rt.Handle(LivePath, Open("each path that is watched asks by itself"), func(w http.ResponseWriter, r *http.Request) error {
		return l.serve(rt, w, r)
	})
}

// Close ends all streams, and waits for them.
func (l *Live) Close() { l.guests.close() }

// liveStream is what one client gets.
type liveStream struct {
	live     *Live
	rt       *Router
	r        *http.Request
	interval time.Duration
	large    chan struct{}   // size 1: has a large answer
	ctx      context.Context // of all watches; set before the first

	mu sync.Mutex // mu guards what follows: paths are asked for at the same time.
	w  http.ResponseWriter
	rc *http.ResponseController
}

func (l *Live) serve(rt *Router, w http.ResponseWriter, r *http.Request) error {
	if err := RequireMethod(r, http.MethodGet); err != nil {
		return err
	}
	if r.Context().Value(withinLive{}) != nil {
		return errLiveInLive
	}
	query := r.URL.Query()
	interval, err := liveEvery(query.Get("interval"))
	if err != nil {
		return err
	}
	paths := query["path"]
	slices.Sort(paths)
	paths = slices.Compact(paths)
	if err := checkLive(paths); err != nil {
		return err
	}
	if err := l.guests.enter(); err != nil {
		return err
	}
	defer l.guests.leave()
	Stream(r)
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	r = r.WithContext(ctx)
	stop := make(chan struct{})
	defer close(stop)
	go func() {
		select {
		case <-l.guests.done:
			cancel()
		case <-stop:
		}
	}()
	s := &liveStream{
		live: l, rt: rt, r: r, ctx: ctx, interval: interval, large: make(chan struct{}, 1), w: w, rc: http.NewResponseController(w),
	}
	return s.run(ctx, paths)
}

func liveEvery(text string) (time.Duration, error) {
	if text == "" {
		return liveInterval, nil
	}
	d, err := units.ParseDuration(text)
	if err != nil {
		var goErr error
		if d, goErr = time.ParseDuration(text); goErr != nil {
			return 0, BadRequest("Invalid interval '%s': %v", text, err)
		}
	}
	return min(max(d, minLiveInterval), maxLiveInterval), nil
}

func checkLive(paths []string) error {
	if len(paths) == 0 {
		return BadRequest("Expecting 'path=value' in query")
	}
	if len(paths) > maxLivePaths {
		return BadRequest("At most %d paths can be watched at once", maxLivePaths)
	}
	for _, p := range paths {
		if !strings.HasPrefix(p, "/") || len(p) > maxLivePath || strings.ContainsFunc(p, func(c rune) bool { return c <= ' ' || c == 0x7f }) {
			return BadRequest("'%.100s' is no path", p)
		}
		// However it is written: one that is sent on to another master would be decoded there.
		u, err := url.ParseRequestURI(p)
		if err != nil {
			return BadRequest("'%.100s' is no path", p)
		}
		if strings.Contains(p, LivePath) || strings.Contains(u.Path, LivePath) {
			return errLiveInLive
		}
	}
	return nil
}

// run asks for all paths, and goes on with each by itself: what takes long holds nothing else
// up. Who is refused on all of them is told so by the status.
func (s *liveStream) run(ctx context.Context, paths []string) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s.ctx = ctx
	var wg sync.WaitGroup
	first := make(chan look, len(paths)) // without their bodies
	opened := make(chan struct{})
	for _, p := range paths {
		wg.Go(func() {
			defer cancel() // with one the whole ends
			now := s.look(ctx, p)
			defer func() { s.release(&now) }()
			first <- look{status: now.status, challenges: now.challenges}
			select {
			case <-opened:
				s.watch(ctx, p, &now)
			case <-ctx.Done():
			}
		})
	}
	if refused := awaitFirst(first, len(paths)); refused != nil {
		cancel()
		wg.Wait()
		return refused
	}
	h := s.w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-cache")
	h.Set("X-Accel-Buffering", "no") // a proxy between us is not to collect it
	s.w.WriteHeader(http.StatusOK)
	_ = s.rc.SetReadDeadline(time.Time{})
	// A write to a client who does not read ends with the stream.
	defer context.AfterFunc(ctx, func() { _ = s.rc.SetWriteDeadline(time.Unix(1, 0)) })()
	close(opened)
	wg.Go(func() {
		defer cancel()
		s.beat(ctx)
	})
	wg.Wait()
	return nil
}

// awaitFirst waits until a path has answered something else than that it is not known who
// asks. If none does, that is the error.
func awaitFirst(first <-chan look, paths int) error {
	var challenges []string
	for range paths {
		l := <-first
		if l.status != http.StatusUnauthorized {
			return nil
		}
		if len(challenges) == 0 {
			challenges = l.challenges
		}
	}
	e := StatusError(http.StatusUnauthorized)
	if len(challenges) > 0 {
		e.Header = http.Header{"Www-Authenticate": challenges}
	}
	return e
}

// watch sends what a path answers when it has changed, until the client or ctx ends.
func (s *liveStream) watch(ctx context.Context, path string, now *look) {
	var last [sha256.Size]byte
	t := time.NewTimer(0)
	defer t.Stop()
	<-t.C
	for sent := false; ; sent = true {
		if sum := sha256.Sum256(now.body); !sent || sum != last {
			last = sum
			if s.send(path, now.body) != nil {
				return // the client has gone
			}
		}
		s.release(now) // its memory is not needed while it is waited
		t.Reset(s.interval)
		select {
		case <-t.C:
		case <-ctx.Done():
			return
		}
		if *now = s.look(ctx, path); ctx.Err() != nil {
			return
		}
	}
}

func (s *liveStream) beat(ctx context.Context) {
	t := time.NewTicker(liveHeartbeat)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			if s.write([]byte(":\n\n")) != nil {
				return
			}
		case <-ctx.Done():
			return
		}
	}
}

func (s *liveStream) send(path string, body []byte) error {
	b := make([]byte, 0, len(body)+len(path)+32)
	b = append(append(append(b, "event: "...), path...), '\n')
	for line := range bytes.SplitSeq(body, []byte("\n")) {
		b = append(append(append(b, "data: "...), bytes.TrimSuffix(line, []byte("\r"))...), '\n')
	}
	return s.write(append(b, '\n'))
}

func (s *liveStream) write(b []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for piece := range slices.Chunk(b, writePiece) {
		_ = s.rc.SetWriteDeadline(time.Now().Add(writeTimeout)) // not every transport can
		if err := context.Cause(s.ctx); err != nil {
			return err
		}
		if _, err := s.w.Write(piece); err != nil {
			return err
		}
	}
	return s.rc.Flush()
}

// look is what a path has answered: JSON, and an object with `error` if it was no success.
type look struct {
	status     int
	body       []byte
	challenges []string
	large      bool // has a place among those that are, until it is released
}

// admitLarge waits until another large answer may be held.
func (s *liveStream) admitLarge(ctx context.Context) error {
	select {
	case s.large <- struct{}{}:
	case <-ctx.Done():
		return errManyLarge
	}
	select {
	case s.live.large <- struct{}{}:
		return nil
	case <-ctx.Done():
		<-s.large
		return errManyLarge
	}
}

// release forgets an answer.
func (s *liveStream) release(l *look) {
	if l.large {
		<-s.live.large
		<-s.large
	}
	*l = look{}
}

// look asks for a path on behalf of the client.
func (s *liveStream) look(ctx context.Context, path string) look {
	ctx, cancel := context.WithTimeout(ctx, liveTimeout)
	defer cancel()
	r, err := Inner(s.r.WithContext(context.WithValue(ctx, withinLive{}, true)), path)
	if err != nil {
		return failedLook(http.StatusBadRequest, err.Error())
	}
	r.Method, r.Body, r.ContentLength = http.MethodGet, http.NoBody, 0
	for _, name := range []string{"Accept", "Accept-Encoding", "Last-Event-Id", "Content-Type", "Content-Length", "Connection", "Upgrade"} {
		r.Header.Del(name)
	}
	r.Header.Set("Accept", JSON.String())
	a := &answer{header: http.Header{}, cancel: cancel, admit: func() error { return s.admitLarge(ctx) }}
	s.serveInner(a, r)
	out := a.look(ctx)
	if out.large = a.large; a.large && len(out.body) <= smallLook {
		s.release(&look{large: true})
		out.large = false
	}
	return out
}

// look is what has become of an answer.
func (a *answer) look(ctx context.Context) look {
	switch {
	case errors.Is(a.err, errManyLarge):
		return failedLook(http.StatusServiceUnavailable, a.err.Error())
	case a.err != nil:
		return failedLook(http.StatusRequestEntityTooLarge, a.err.Error())
	case ctx.Err() != nil && (a.status == 0 || a.status >= http.StatusInternalServerError):
		return failedLook(http.StatusGatewayTimeout, "There was no answer in time")
	case a.aborted:
		return failedLook(http.StatusBadGateway, "The answer broke off")
	case a.status >= http.StatusBadRequest || a.status/100 == 3:
		out := failedLook(a.status, message(a.body.Bytes()))
		out.challenges = a.header.Values("Www-Authenticate")
		return out
	}
	body := bytes.TrimSpace(a.body.Bytes())
	if media, _, err := mime.ParseMediaType(a.header.Get("Content-Type")); err != nil || media != JSON.String() || len(body) == 0 {
		body = AppendString(nil, a.body.String())
	}
	return look{status: http.StatusOK, body: body}
}

// serveInner has a handler answer. What net/http does with a panic is done here: this is a
// goroutine of our own.
func (s *liveStream) serveInner(a *answer, r *http.Request) {
	defer func() {
		p := recover()
		if p == nil {
			return
		}
		a.aborted = true
		if err, ok := p.(error); (!ok || !errors.Is(err, http.ErrAbortHandler)) && s.rt.OnError != nil {
			s.rt.OnError(r, fmt.Errorf("panic: %v\n%s", p, debug.Stack()))
		}
	}()
	s.rt.ServeHTTP(a, r)
}

// message is the text of an error, which some of our own endpoints wrap in JSON.
func message(body []byte) string {
	var e struct {
		Error struct {
			Message string `json:"message"`
		} `json:"error"`
	}
	if json.Unmarshal(body, &e) == nil && e.Error.Message != "" {
		return e.Error.Message
	}
	return strings.TrimSpace(string(body))
}

func failedLook(status int, why string) look {
	b, err := json.Marshal(map[string]any{"error": map[string]any{"status": status, "message": why}})
	if err != nil {
		b = []byte(`{"error":{}}`) // never: it is a number and a string
	}
	return look{status: status, body: b}
}

// answer keeps what a handler writes.
type answer struct {
	header  http.Header
	status  int
	body    bytes.Buffer
	err     error
	aborted bool
	large   bool
	admit   func() error // waits until it may be large
	cancel  context.CancelFunc
}

// Header returns the header of the answer.
func (a *answer) Header() http.Header { return a.header }

// WriteHeader takes the status. An answer that goes on is ended at once.
func (a *answer) WriteHeader(status int) {
	if a.status != 0 || status < http.StatusOK {
		return
	}
	a.status = status
	if media, _, err := mime.ParseMediaType(a.header.Get("Content-Type")); err == nil &&
		(media == "text/event-stream" || media == RecordIO.String()) {
		a.fail(errNotWatched)
	}
}

func (a *answer) fail(err error) {
	a.err = err
	a.body.Reset()
	a.cancel()
}

// Write takes a part of the body.
func (a *answer) Write(b []byte) (int, error) {
	a.WriteHeader(http.StatusOK)
	size := a.body.Len() + len(b)
	if a.err == nil && size > maxLiveBody {
		a.fail(errNotWatched)
	}
	if a.err == nil && size > smallLook && !a.large {
		if err := a.admit(); err != nil {
			a.fail(err)
		} else {
			a.large = true
		}
	}
	if a.err != nil {
		return 0, a.err
	}
	return a.body.Write(b)
}

// FlushError does nothing: nobody waits for parts.
func (a *answer) FlushError() error { return nil }
