package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"clusterd/internal/bench/measure"
)

// query is a question to the master.
type query struct {
	name   string
	path   string
	body   string // POST, JSON
	accept string
	gzip   bool
}

// call is a question to the operator API that consists of its type.
func call(name, accept string) query {
	media := "application/json"
	if accept == "protobuf" {
		media = "application/x-protobuf"
	}
	body := `{"type":"` + name + `"}`
	if name == "GET_METRICS" {
		body = `{"type":"GET_METRICS","get_metrics":{}}`
	}
	return query{name: name + " " + accept, path: "/api/v1", body: body, accept: media}
}

// newHTTP makes a client that costs little: the machine's processors are the master's, too.
func newHTTP() *http.Client {
	return &http.Client{Transport: &http.Transport{
		DisableCompression: true, MaxIdleConns: 1000, MaxIdleConnsPerHost: 1000, ReadBufferSize: 256 << 10,
	}}
}

func (w *world) open(ctx context.Context, q query) (*http.Response, error) {
	method := http.MethodGet
	if q.body != "" {
		method = http.MethodPost
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://"+w.c.Master.Addr+q.path, strings.NewReader(q.body))
	if err != nil {
		return nil, err
	}
	if q.body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	if q.accept != "" {
		req.Header.Set("Accept", q.accept)
	}
	if q.gzip {
		req.Header.Set("Accept-Encoding", "gzip")
	}
	res, err := w.http.Do(req)
	if err != nil {
		return nil, err
	}
	if res.StatusCode != http.StatusOK {
		defer res.Body.Close()
		text, _ := io.ReadAll(io.LimitReader(res.Body, 200))
		return nil, fmt.Errorf("%s %s%s: %s: %s", method, q.path, q.body, res.Status, text)
	}
	if q.gzip && res.Header.Get("Content-Encoding") != "gzip" {
		res.Body.Close()
		return nil, fmt.Errorf("%s is not compressed", q.path)
	}
	return res, nil
}

// fetch asks, and says how many bytes came.
func (w *world) fetch(ctx context.Context, q query) (int64, error) {
	res, err := w.open(ctx, q)
	if err != nil {
		return 0, err
	}
	defer res.Body.Close()
	return io.Copy(io.Discard, res.Body)
}

func (w *world) body(ctx context.Context, q query) ([]byte, error) {
	res, err := w.open(ctx, q)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	return io.ReadAll(res.Body)
}

// sample has one client ask n times, or for as long as s.length three times over, and
// returns how long it took, and how many bytes the last answer had.
func (w *world) sample(ctx context.Context, q query, n int) (took []time.Duration, size int64, err error) {
	if _, err = w.fetch(ctx, q); err != nil { // opens the connection
		return nil, 0, err
	}
	begin := time.Now()
	for len(took) < n && (len(took) < 3 || time.Since(begin) < 3*w.s.length) {
		start := time.Now()
		if size, err = w.fetch(ctx, q); err != nil {
			return nil, 0, err
		}
		took = append(took, time.Since(start))
	}
	return took, size, nil
}

// load is what many clients saw.
type load struct {
	took  []time.Duration
	bytes int64
	rate  float64 // requests a second
}

func (l load) String() string {
	return fmt.Sprintf("%.1f/s, %.0f MB/s; %s", l.rate, float64(l.bytes)/1e6*l.rate/float64(max(len(l.took), 1)), measure.Quantiles(l.took, ms))
}

// poll has clients ask again and again, until finish is called, which waits for the last
// answers.
func (w *world) poll(ctx context.Context, q query, clients int) (finish func() (load, error)) {
	var mu sync.Mutex // guards all
	var all load
	var over atomic.Bool
	g, gctx := errgroup.WithContext(ctx)
	begin := time.Now()
	for range clients {
		g.Go(func() error {
			for !over.Load() {
				start := time.Now()
				n, err := w.fetch(gctx, q)
				if err != nil {
					return err
				}
				mu.Lock()
				all.took = append(all.took, time.Since(start))
				all.bytes += n
				mu.Unlock()
			}
			return nil
		})
	}
	return func() (load, error) {
		over.Store(true)
		err := g.Wait()
		all.rate = float64(len(all.took)) / time.Since(begin).Seconds()
		return all, err
	}
}

// pollFor has clients ask for s.length.
func (w *world) pollFor(ctx context.Context, q query, clients int) (load, error) {
	finish := w.poll(ctx, q, clients)
	wait(ctx, w.s.length)
	return finish()
}

// wait waits, or until there is no need to.
func wait(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
