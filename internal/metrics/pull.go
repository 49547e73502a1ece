package metrics

import (
	"sync"
	"time"
)

// pull is a function that is asked for values when somebody looks.
type pull struct {
	collect func(emit func(Sample))
	now     func() time.Time

	mu sync.Mutex // mu guards the fields below.
	// running is the call under way, next the one that follows it for those who
	// have asked meanwhile. Either may be nil.
	running, next *run
}

// run is one call of the function.
type run struct {
	began   time.Time
	done    chan struct{} // closed when samples is complete
	samples []Sample
}

// ask returns a run that begins after the question: values that were read before
// somebody asked may lack what he has just done. It returns nil if the present run
// hangs, that is, has taken as long as the asker would wait; so that one goroutine
// at most is left behind by a function that never returns.
func (p *pull) ask(timeout time.Duration) *run {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.running == nil:
		p.running = &run{began: p.now(), done: make(chan struct{})}
		go p.loop(p.running)
		return p.running
	case timeout > 0 && p.now().Sub(p.running.began) >= timeout:
		return nil
	case p.next == nil:
		p.next = &run{done: make(chan struct{})}
	}
	return p.next
}

// loop calls the function until nobody waits any more.
func (p *pull) loop(r *run) {
	for r != nil {
		p.collect(func(s Sample) { r.samples = append(r.samples, s) })
		close(r.done)
		p.mu.Lock()
		r = p.next
		if r != nil {
			r.began = p.now()
		}
		p.running, p.next = r, nil
		p.mu.Unlock()
	}
}

// collect asks the functions.
func (r *Registry) collect(timeout time.Duration) []Sample {
	r.mu.RLock()
	pulls := make([]*pull, 0, len(r.pulls))
	for _, p := range r.pulls {
		pulls = append(pulls, p)
	}
	r.mu.RUnlock()
	runs := make([]*run, 0, len(pulls))
	for _, p := range pulls {
		if run := p.ask(timeout); run != nil {
			runs = append(runs, run)
		}
	}
	var deadline <-chan time.Time
	if timeout != 0 {
		timer := time.NewTimer(timeout)
		defer timer.Stop()
		deadline = timer.C
	}
	var out []Sample
	for _, run := range runs {
		select {
		case <-run.done:
			out = append(out, run.samples...)
			continue
		default:
		}
		select {
		case <-run.done:
			out = append(out, run.samples...)
		case <-deadline:
			// Those that are done already count, however late they are looked at.
			ready := make(chan time.Time)
			close(ready)
			deadline = ready
		}
	}
	return out
}
