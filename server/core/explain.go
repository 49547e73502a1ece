package core

import (
	"time"

	"clusterd/allocator"
	"clusterd/allocator/resources"
)

// Reasons that the allocator does not know of, see [allocator.Reason].
const (
	// AgentDisconnected says that the agent's link is down.
	AgentDisconnected allocator.Reason = "DISCONNECTED"
	// AgentDraining says that the agent drains, or has drained.
	AgentDraining allocator.Reason = "DRAINING"
	// Offered says that the framework holds an offer of the agent.
	Offered allocator.Reason = "OFFERED"
	// OfferedToOthers says that what is not in use of the agent is offered to others.
	OfferedToOthers allocator.Reason = "OFFERED_TO_OTHERS"
)

// Explain asks why a framework is offered nothing of agents. So that nobody has to wait for
// the answer, one looks at some agents only: Next of the answer is where another goes on.
type Explain struct {
	Request     RequestID
	FrameworkID string
	// After is the id of the agent after which to begin, empty for the first.
	After string
	// Limit is how many agents to look at.
	Limit int
	// AgentIDs, if set, are the agents to look at instead.
	AgentIDs []string
}

// Explained answers Explain.
type Explained struct {
	Request RequestID
	// Explanation is nil if the framework is not known.
	Explanation *Explanation
}

// Explanation is that of the allocator, and what else there is to know.
type Explanation struct {
	allocator.Explanation
	// Next is where to go on, empty at the end.
	Next string
	// Connected says that the framework's stream is up.
	Connected bool
	// Offers is how many it holds, the oldest since OldestOffer.
	Offers      int
	OldestOffer time.Time
	// Refused is what it has declined.
	Refused Refused
	// Larger is how many of the agents looked at have, in all, more of something than the
	// largest of the offers that were declined.
	Larger int
}

// Refused is what a framework has declined, or left unused, since it subscribed, launched a
// task or revived offers the last time. The master does not know what a framework would run;
// who declines whole agents, one after the other, may have tasks that are larger than any.
type Refused struct {
	// Offers is how many there were, the first at Since.
	Offers int
	Since  time.Time
	// Largest is the largest of them: the one with the most cpus, mem, disk, gpus, in this
	// order. Whole says that it was all that its agent has.
	Largest resources.Quantities
	AgentID string
	Whole   bool
}

// noteRefusal notes that an offer was declined.
func (c *Core) noteRefusal(o *offer) {
	r := &o.fw.refused
	if r.Offers++; r.Offers == 1 {
		r.Since = c.now
	} else if !larger(o.Resources, r.Largest) {
		return
	}
	r.Largest, r.AgentID = o.Resources.Quantities(), o.AgentID
	r.Whole = o.ag != nil && o.Resources.ContainsQuantities(o.ag.total.Quantities())
}

// larger compares an offer with the largest.
func larger(r resources.Resources, than resources.Quantities) bool {
	for _, name := range [...]string{"cpus", "mem", "disk", "gpus"} {
		if a, b := r.Scalar(name), than.Get(name); a != b {
			return a > b
		}
	}
	return false
}

func (Explain) input()    {}
func (Explained) effect() {}

// explain answers once all that the input before has caused was allocated.
func (c *Core) explain(in Explain) {
	ids, next := in.AgentIDs, ""
	if ids == nil {
		c.agents.Ascend(in.After, func(id string, _ *agent) bool {
			if id == in.After {
				return true
			}
			if len(ids) == in.Limit {
				next = ids[len(ids)-1]
				return false
			}
			ids = append(ids, id)
			return true
		})
	}
	fw := c.framework(in.FrameworkID)
	e, ok := c.alloc.Explain(in.FrameworkID, ids)
	if fw == nil || !ok {
		c.emit(Explained{Request: in.Request})
		return
	}
	out := &Explanation{Explanation: e, Next: next, Connected: fw.connected(), Offers: fw.offers.Len(), Refused: fw.refused}
	own := map[string]bool{}
	fw.offers.Scan(func(_ uint64, o *offer) bool {
		if out.OldestOffer.IsZero() {
			out.OldestOffer = o.MadeAt
		}
		own[o.AgentID] = true
		return true
	})
	for i := range out.Agents {
		a := &out.Agents[i]
		ag := c.agent(a.AgentID)
		a.Reason = c.betterReason(ag, a.Reason, own[a.AgentID])
		if ag != nil && out.Refused.Offers > 0 && !out.Refused.Largest.Contains(ag.total.Quantities()) {
			out.Larger++
		}
	}
	c.emit(Explained{Request: in.Request, Explanation: out})
}

// betterReason says more than the allocator, which knows neither links nor offers.
func (c *Core) betterReason(ag *agent, r allocator.Reason, own bool) allocator.Reason {
	switch {
	case ag == nil:
		return r
	case own && r != allocator.FrameworkInactive:
		return Offered
	case r == allocator.Deactivated && ag.drain != nil:
		return AgentDraining
	case r == allocator.Deactivated && !ag.deactivated && !ag.connected:
		return AgentDisconnected
	case r == allocator.NoResources && !ag.offered.Empty():
		return OfferedToOthers
	default:
		return r
	}
}
