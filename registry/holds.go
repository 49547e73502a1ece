package registry

import "time"

// Holds says whether the leadership goes on at this moment, by the lease and the
// clock. A process that was frozen, and another elected meanwhile, may run some of its
// goroutines before the one that ends the context: they ask this.
func (l *Leadership) Holds() bool {
	return l.ctx.Err() == nil && l.r.leaseLeft(l).After(time.Now())
}
