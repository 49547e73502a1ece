package server

import (
	"context"
	"net/http"
	"sync"
	"time"
)

// leaderInterval is how often a master looks whether those that it passes requests on to
// still lead, while there are such requests.
const leaderInterval = 250 * time.Millisecond

// passedOn are the requests that this master passes on to the leader. One that ceases to lead
// ends its streams itself, but one that hangs, or is cut off, does not: the connection stays
// as it is, and who reads would wait for what another leader tells by now.
type passedOn struct {
	mu sync.Mutex
	// mu guards requests: by what they are ended, and the address that they are sent to.
	requests map[*context.CancelCauseFunc]string
}

// bind notes a request that is sent to a master; the function ends that.
func (p *passedOn) bind(r *http.Request, to string) (*http.Request, func()) {
	ctx, cancel := context.WithCancelCause(r.Context())
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.requests == nil {
		p.requests = make(map[*context.CancelCauseFunc]string)
	}
	p.requests[&cancel] = to
	return r.WithContext(ctx), func() {
		p.mu.Lock()
		delete(p.requests, &cancel)
		p.mu.Unlock()
		cancel(nil)
	}
}

// led ends what was sent to others than the master that leads.
func (p *passedOn) led(leader func() (string, bool)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.requests) == 0 {
		return
	}
	at, ok := leader()
	if !ok {
		return // those who lead no more may lead again
	}
	for cancel, to := range p.requests {
		if to != at {
			(*cancel)(errLeaderChanged)
		}
	}
}

// watchPassedOn goes on until the server stops.
func (s *Server) watchPassedOn() {
	t := time.NewTicker(leaderInterval)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			s.proxy.passed.led(func() (string, bool) {
				leader, ok := s.registry.Leader()
				return hostPort(leader), ok
			})
		case <-s.ctx.Done():
			return
		}
	}
}
