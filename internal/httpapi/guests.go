package httpapi

import "sync"

// guests are those whose connections last, and that a server must end itself: how many there
// are, and that they end when the server does.
type guests struct {
	mu sync.Mutex
	// mu guards what follows.
	n, limit int
	closed   bool
	done     chan struct{} // closed with the server; set by open
	wg       sync.WaitGroup
}

// open lets so many come.
func (g *guests) open(limit int) { g.limit, g.done = limit, make(chan struct{}) }

// close lets nobody in any more, and waits until all have left.
func (g *guests) close() {
	g.mu.Lock()
	if !g.closed && g.done != nil {
		close(g.done)
	}
	g.closed = true
	g.mu.Unlock()
	g.wg.Wait()
}

func (g *guests) enter() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case g.closed:
		return Unavailable("The server is shutting down")
	case g.n >= g.limit:
		return Unavailable("Too many clients watch")
	}
	g.n++
	g.wg.Add(1)
	return nil
}

func (g *guests) leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.n--
	g.wg.Done()
}
