package netcluster

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"
)

// LeaderWatch asks all masters again and again whether they lead, from the outside, to
// find out whether two ever did at the same time.
type LeaderWatch struct {
	stop chan struct{}
	wg   sync.WaitGroup

	mu sync.Mutex
	// mu guards what follows.
	terms []*reign
	asked int
}

// reign is one leadership, as seen from outside. It lasted at least from the end of
// the first question that was answered to the beginning of the last one.
type reign struct {
	master      string
	elected     float64
	first, last time.Time
}

// WatchLeaders asks until the test ends, or End.
func (c *Cluster) WatchLeaders(t testing.TB) *LeaderWatch {
	w := &LeaderWatch{stop: make(chan struct{})}
	for _, m := range c.Masters {
		w.Add(m)
	}
	t.Cleanup(func() { w.End(t) })
	return w
}

// Add asks one master more.
func (w *LeaderWatch) Add(m *Node) {
	w.wg.Go(func() {
		tick := time.NewTicker(30 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-w.stop:
				return
			case <-tick.C:
				asked := time.Now()
				if l, err := m.asLeader(); err == nil {
					w.note(m.name, l.ElectedTime, asked, time.Now())
				}
			}
		}
	})
}

func (w *LeaderWatch) note(master string, elected float64, asked, answered time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.asked++
	i := slices.IndexFunc(w.terms, func(r *reign) bool { return r.master == master && r.elected == elected })
	if i < 0 {
		w.terms = append(w.terms, &reign{master: master, elected: elected, first: answered, last: asked})
		return
	}
	w.terms[i].last = asked
}

// End stops asking, and fails the test if two masters led at the same time.
func (w *LeaderWatch) End(t testing.TB) {
	t.Helper()
	select {
	case <-w.stop:
		return
	default:
	}
	close(w.stop)
	w.wg.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	slices.SortFunc(w.terms, func(a, b *reign) int { return a.first.Compare(b.first) })
	var said []string
	for i, a := range w.terms {
		said = append(said, fmt.Sprintf("%s for %s", a.master, a.last.Sub(a.first).Round(time.Millisecond)))
		for _, b := range w.terms[i+1:] {
			if b.first.Before(a.last) {
				t.Errorf("%s led from %s to %s, and %s from %s", a.master, clock(a.first), clock(a.last), b.master, clock(b.first))
			}
		}
	}
	t.Logf("leaders, by %d answers: %v", w.asked, said)
}

func clock(t time.Time) string { return t.Format("15:04:05.000") }
