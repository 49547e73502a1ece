// Package reload keeps what was read from files up to date: on demand (SIGHUP), and
// when a file has changed. What is bad is said and leaves the old in place.
//
// [File] holds the parsed content of one file, [Watcher] looks after many. Both are
// safe for concurrent use. Imported by internal/cli, authn and tlsconf.
package reload

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"
)

// Source is something that can be read again.
type Source interface {
	// Reload reads again, and says whether anything has changed. After an error the
	// old content stays.
	Reload() (changed bool, err error)
}

// File is the parsed content of a file.
type File[T any] struct {
	path  string
	parse func([]byte) (T, error)
	value atomic.Pointer[T]

	mu  sync.Mutex // mu guards raw, and orders reloads.
	raw []byte
}

// Open reads and parses a file.
func Open[T any](path string, parse func([]byte) (T, error)) (*File[T], error) {
	f := &File[T]{path: path, parse: parse}
	if _, err := f.Reload(); err != nil {
		return nil, err
	}
	return f, nil
}

// Get returns what the file held when it was last read without an error.
func (f *File[T]) Get() T { return *f.value.Load() }

// Path is where the file lies.
func (f *File[T]) Path() string { return f.path }

// Reload reads the file again; one whose bytes are the same has not changed.
func (f *File[T]) Reload() (changed bool, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	raw, err := os.ReadFile(f.path)
	if err != nil {
		return false, fmt.Errorf("read again: %w", err)
	}
	if f.value.Load() != nil && bytes.Equal(raw, f.raw) {
		return false, nil
	}
	v, err := f.parse(raw)
	if err != nil {
		return false, fmt.Errorf("%s: %w", f.path, err)
	}
	f.raw = raw
	f.value.Store(&v)
	return true, nil
}

// Interval is how often files are looked at.
const Interval = 5 * time.Second

// Watcher reloads its sources now and then.
type Watcher struct {
	log   zerolog.Logger
	every time.Duration
	now   chan struct{} // size 1

	mu sync.Mutex
	// mu guards what follows.
	watched []watched
}

type watched struct {
	name   string
	source Source
	then   func()
	failed *string // the error that was said last
}

// NewWatcher returns a watcher that looks every so often; zero: [Interval].
func NewWatcher(log zerolog.Logger, every time.Duration) *Watcher {
	if every <= 0 {
		every = Interval
	}
	return &Watcher{log: log, every: every, now: make(chan struct{}, 1)}
}

// Add has a source looked after; then, if not nil, is called after each change.
func (w *Watcher) Add(name string, s Source, then func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.watched = append(w.watched, watched{name: name, source: s, then: then, failed: new(string)})
}

// Poke has all sources reloaded soon.
func (w *Watcher) Poke() {
	select {
	case w.now <- struct{}{}:
	default:
	}
}

// Run looks after the sources until ctx ends.
func (w *Watcher) Run(ctx context.Context) {
	tick := time.NewTicker(w.every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			w.look(false)
		case <-w.now:
			w.look(true)
		}
	}
}

// look reloads everything. An error is said once, or whenever somebody asked.
func (w *Watcher) look(asked bool) {
	w.mu.Lock()
	all := append([]watched(nil), w.watched...)
	w.mu.Unlock()
	for _, s := range all {
		changed, err := s.source.Reload()
		switch {
		case err != nil:
			if asked || *s.failed != err.Error() {
				w.log.Error().Err(err).Str("source", s.name).Msg("not reloaded: what was read before stays in force")
			}
			*s.failed = err.Error()
			continue
		case changed:
			w.log.Info().Str("source", s.name).Msg("reloaded")
			if s.then != nil {
				s.then()
			}
		}
		*s.failed = ""
	}
}
