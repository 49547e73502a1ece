package core

import "time"

// Two things are limited by --agent_removal_rate_limit, each for itself:
//
//   - lostLimiter: marking an agent unreachable that has registered with this master
//     and then fell silent, whether its pings went unanswered or it did not come back
//     after its link broke;
//   - missingLimiter: marking one unreachable that is known from the registry only and
//     has not come back since the failover.
//
// In Mesos one limiter does for both (Master::slaves.limiter), so that an agent which
// dies after a failover waits behind all that the failover has lost (MESOS-7721). What
// operators and agents themselves ask for (MARK_AGENT_GONE, unregistration, a new agent
// at an old one's address) is never limited, there or here.
type limiterKind uint64

const (
	lostLimiter limiterKind = iota
	missingLimiter
)

const limiterKinds = 2

// ticket waits for a limiter's permission. It is void if it is of an older generation
// than the agent.
type ticket struct {
	id  string
	gen uint64
}

// limiter lets tickets through in their order, evenly spaced. A ticket that has become
// void costs nothing: agents that came back do not slow the others down (MESOS-8386).
type limiter struct {
	limit *RateLimit
	queue []ticket
	next  time.Time // the earliest time for the first of the queue
}

// await has a ticket honoured as soon as the limit permits, which may be at once.
func (c *Core) await(kind limiterKind, t ticket) {
	l := &c.limiters[kind]
	l.queue = append(l.queue, t)
	if len(l.queue) == 1 {
		c.permit(kind)
	}
}

// permit honours the tickets whose time has come. While some are left there is one
// timer for the first of them.
func (c *Core) permit(kind limiterKind) {
	l := &c.limiters[kind]
	for len(l.queue) > 0 {
		if l.next.After(c.now) {
			c.timers.add(l.next, timer{kind: limiterTimer, gen: uint64(kind)})
			return
		}
		t := l.queue[0]
		l.queue = l.queue[1:]
		used := false
		switch kind {
		case lostLimiter:
			used = c.unreachablePermitted(t)
		case missingLimiter:
			used = c.missingPermitted(t)
		}
		if used && l.limit != nil && l.limit.N > 0 && l.limit.Per > 0 {
			l.next = c.now.Add(l.limit.Per / time.Duration(l.limit.N))
		}
	}
	l.queue = nil
}
