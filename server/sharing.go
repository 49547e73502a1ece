package server

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"runtime"
	"sync"
	"sync/atomic"

	"clusterd/internal/authz"
	"clusterd/internal/httpapi"
	"clusterd/server/core"
	"clusterd/server/render"
)

// errNotRendered is for who shares an answer whose making failed.
var errNotRendered = errors.New("the answer was not rendered")

// sharing has many readers of the same served by few renderings. Who asks while a
// rendering is under way waits for the next one, together with all others who do: the
// answer is never older than the question, and however many ask, there is one rendering
// of a kind at a time. Mesos batches requests likewise (src/master/http.cpp,
// Http::deferBatchedRequest), but has the actor that makes offers wait meanwhile.
//
// The zero value is ready for use.
type sharing struct {
	mu    sync.Mutex
	lines map[string]*line

	once sync.Once
	// bulk bounds how many answers as large as the cluster are written at once, so
	// that a processor is left for what cannot wait; small bounds the others.
	bulk, small chan struct{}

	// starts is what /tasks remembers.
	starts render.Starts
}

// line is a queue for one kind of answer. sharing.mu guards its fields but turn.
type line struct {
	turn  sync.Mutex // held by who renders
	next  *shared    // who waits for the next rendering; nil: nobody
	users int        // renderings under way or waiting
}

// shared is an answer and those who share it.
type shared struct {
	done chan struct{}
	// What follows is set when done is closed.
	body render.Body
	gzip [][]byte // instead of body
	err  error

	readers atomic.Int32
}

// leave says that a reader needs the answer no more. The last one gives its memory back.
func (a *shared) leave() {
	if a.readers.Add(-1) == 0 {
		a.body.Release()
	}
}

// wanted is what is to be rendered.
type wanted struct {
	// key of what is the same for all who share it.
	key string
	// bulk says that the answer is as large as the cluster.
	bulk bool
	// gzip says that an answer that is large enough is to be compressed.
	gzip bool
	// render makes it; it begins with a view that is taken then.
	render func(context.Context) (render.Body, error)
}

// get returns the answer, and whether another request had it rendered. The caller must
// leave it when it has been sent.
func (s *sharing) get(ctx context.Context, w wanted) (a *shared, hit bool, err error) {
	s.mu.Lock()
	l := s.lines[w.key]
	if l == nil {
		if s.lines == nil {
			s.lines = make(map[string]*line)
		}
		l = new(line)
		s.lines[w.key] = l
	}
	if a = l.next; a != nil {
		a.readers.Add(1)
		s.mu.Unlock()
		select {
		case <-a.done:
			if a.err != nil {
				a.leave()
				return nil, true, a.err
			}
			return a, true, nil
		case <-ctx.Done():
			// Should it come yet, its memory is collected: it may be in the making.
			return nil, true, context.Cause(ctx)
		}
	}
	a = &shared{done: make(chan struct{})}
	a.readers.Store(1)
	l.next = a
	l.users++
	s.mu.Unlock()
	s.lead(ctx, l, a, w)
	if a.err != nil {
		a.leave()
		return nil, false, a.err
	}
	return a, false, nil
}

// lead renders for a and those who join it until its turn comes.
func (s *sharing) lead(ctx context.Context, l *line, a *shared, w wanted) {
	l.turn.Lock()
	defer l.turn.Unlock()
	slot := s.slots(w.bulk)
	slot <- struct{}{}
	defer func() { <-slot }()
	s.mu.Lock()
	l.next = nil
	alone := a.readers.Load() == 1
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if l.users--; l.users == 0 {
			delete(s.lines, w.key)
		}
	}()
	defer close(a.done)
	if alone && ctx.Err() != nil {
		// Who asks and goes away, again and again, must not have others wait for renderings
		// that nobody reads.
		a.err = context.Cause(ctx)
		return
	}
	a.err = errNotRendered // for those who share it, should this panic
	// Others may have joined: this goes on though the one who began may go.
	body, err := w.render(context.WithoutCancel(ctx))
	if err == nil && w.gzip && body.Len() >= httpapi.GzipMinimum {
		a.gzip = httpapi.Gzip(body...)
		body.Release()
		body = nil
	}
	a.body, a.err = body, err
}

func (s *sharing) slots(bulk bool) chan struct{} {
	s.once.Do(func() {
		n := runtime.GOMAXPROCS(0)
		s.bulk, s.small = make(chan struct{}, max(1, n-1)), make(chan struct{}, n)
	})
	if bulk {
		return s.bulk
	}
	return s.small
}

// read is a read of the view, for one who asks.
type read struct {
	// name tells apart what is rendered, all that changes it included.
	name   string
	bulk   bool
	json   bool // may be wrapped for JSONP
	media  string
	render func(v *core.View, m *render.Master, who *authz.Viewer) (render.Body, error)
}

// share answers a request with what it reads. Requests for the same that wait at the same
// time, by those who see the same, are answered by one rendering.
func (s *Server) share(t *term, w http.ResponseWriter, r *http.Request, what read) error {
	who := s.policy.Load().Viewer(httpapi.PrincipalOf(r))
	gzip := httpapi.Gzips(r, math.MaxInt) && !r.URL.Query().Has("jsonp")
	a, hit, err := s.reads.get(r.Context(), wanted{
		key:  fmt.Sprintf("%s@%s/%s/%v", what.name, t.info.GetId(), who.Key(), gzip),
		bulk: what.bulk,
		gzip: gzip,
		render: func(ctx context.Context) (render.Body, error) {
			v, err := t.view(ctx)
			if err != nil {
				return nil, unavailable(err)
			}
			return what.render(v, t.describe(), who)
		},
	})
	if hit {
		s.metrics.Counter("master/http_cache_hits").Inc() // Mesos calls it so
	}
	if err != nil {
		return err
	}
	defer a.leave()
	switch {
	case a.gzip != nil:
		httpapi.WriteGzipped(w, r, what.media, a.gzip...)
	case what.json:
		return httpapi.WriteJSONParts(w, r, a.body...)
	default:
		httpapi.WriteParts(w, r, what.media, a.body...)
	}
	return nil
}
