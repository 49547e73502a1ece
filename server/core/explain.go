package core

import (
	"time"

	"clusterd/allocator"
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
	out := &Explanation{Explanation: e, Next: next, Connected: fw.connected(), Offers: fw.offers.Len()}
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
		a.Reason = c.betterReason(c.agent(a.AgentID), a.Reason, own[a.AgentID])
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
