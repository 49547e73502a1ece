package render

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"clusterd/allocator"
	"clusterd/allocator/resources"
	"clusterd/internal/authz"
	"clusterd/server/core"
)

// explainExamples is how many agents are named for each reason.
const explainExamples = 5

// reasonCount is how often a reason was given.
type reasonCount struct {
	reason   allocator.Reason
	agents   int
	examples []string
	// until is the first end of a filter.
	until time.Time
}

// Explanation writes why a framework is offered what it is.
func Explanation(v *core.View, f *core.Framework, e *core.Explanation, viewer *authz.Viewer) Body {
	who := sight{viewer}
	reasons := countReasons(e.Agents)
	eligible := 0
	for _, r := range reasons {
		if r.reason == allocator.Eligible || r.reason == core.Offered {
			eligible += r.agents
		}
	}
	o := open(nil)
	o.str("framework_id", f.ID)
	o.str("name", f.Info.GetName())
	o.boolean("active", e.Active)
	o.boolean("connected", e.Connected)
	o.integer("offers", int64(e.Offers))
	o.known("oldest_offer", Seconds(e.OldestOffer))
	o.key("suppressed_roles")
	o.buf = append(o.buf, '[')
	first := true
	for _, r := range e.Roles {
		if r.Suppressed {
			if !first {
				o.buf = append(o.buf, ',')
			}
			first = false
			o.buf = appendString(o.buf, r.Role)
		}
	}
	o.buf = append(o.buf, ']')
	o.key("roles")
	o.buf = append(o.buf, '[')
	for i, r := range e.Roles {
		if i > 0 {
			o.buf = append(o.buf, ',')
		}
		o.buf = appendRoleExplanation(o.buf, r, who)
	}
	o.buf = append(o.buf, ']')
	o.key("agents")
	in := open(o.buf)
	in.integer("total", int64(len(e.Agents)))
	in.integer("eligible", int64(eligible))
	in.key("reasons")
	in.buf = append(in.buf, '[')
	for i, r := range reasons {
		if i > 0 {
			in.buf = append(in.buf, ',')
		}
		one := open(in.buf)
		one.str("reason", string(r.reason))
		one.integer("agents", int64(r.agents))
		one.strings("examples", r.examples)
		one.known("until", Seconds(r.until))
		in.buf = one.close()
	}
	in.buf = append(in.buf, ']')
	o.buf = in.close()
	o.key("declined")
	if r := e.Refused; r.Offers == 0 {
		o.buf = append(o.buf, "null"...)
	} else {
		in := open(o.buf)
		in.integer("offers", int64(r.Offers))
		in.known("since", Seconds(r.Since))
		in.namedAmounts("largest", r.Largest)
		in.str("largest_agent_id", r.AgentID)
		in.boolean("whole_agent", r.Whole)
		in.integer("larger_agents", int64(e.Larger))
		o.buf = in.close()
	}
	o.key("requested")
	o.buf = append(o.buf, '[')
	for i, n := range e.Needs {
		if i > 0 {
			o.buf = append(o.buf, ',')
		}
		one := open(o.buf)
		if n.AgentID != "" {
			one.str("agent_id", n.AgentID)
		}
		one.amounts("resources", n.Resources)
		one.str("resources_text", n.Resources.String())
		o.buf = one.close()
	}
	o.buf = append(o.buf, ']')
	o.str("hint", strings.Join(append([]string{explainHint(e, reasons, v.Taken)}, sizeHints(v, e)...), " "))
	return Body{o.close()}
}

func appendRoleExplanation(dst []byte, r allocator.RoleExplanation, who sight) []byte {
	o := open(dst)
	o.str("role", r.Role)
	o.boolean("suppressed", r.Suppressed)
	o.double("weight", r.Weight)
	o.double("share", r.Share)
	o.double("framework_share", r.FrameworkShare)
	o.key("quota")
	if q := r.Quota; q != nil && who.quota(q.Role) {
		in := open(o.buf)
		in.str("role", q.Role)
		for _, a := range []struct {
			name string
			of   map[string]float64
		}{{"guarantee", q.Guarantee}, {"limit", q.Limit}, {"consumed", q.Consumed}} {
			in.key(a.name)
			amounts := open(in.buf)
			for _, name := range sortedKeys(a.of) {
				amounts.name(name)
				amounts.buf = appendDouble(amounts.buf, a.of[name])
			}
			in.buf = amounts.close()
		}
		o.buf = in.close()
	} else {
		o.buf = append(o.buf, "null"...)
	}
	o.strings("limited_by", slices.DeleteFunc(slices.Clone(r.LimitedBy), func(role string) bool { return !who.quota(role) }))
	return o.close()
}

// namedAmounts writes amounts by name.
func (o *object) namedAmounts(name string, q resources.Quantities) {
	o.key(name)
	in := open(o.buf)
	for i := range q.Len() {
		in.name(q.At(i).Name)
		in.buf = appendDouble(in.buf, resources.FromMilli(q.At(i).Milli))
	}
	o.buf = in.close()
}

// sizeHints say what can be known of how large the framework's tasks are: what it has asked
// for, and what it has declined although there is no more.
func sizeHints(v *core.View, e *core.Explanation) (hints []string) {
	wants := slices.ContainsFunc(e.Roles, func(r allocator.RoleExplanation) bool { return !r.Suppressed })
	if !e.Active || !e.Connected || !wants || len(e.Agents) == 0 {
		return nil
	}
	fit := slices.ContainsFunc(e.Agents, func(a allocator.AgentExplanation) bool { return !a.Unfit })
	if len(e.Needs) > 0 && !fit {
		asked := e.Needs[0].Resources.String()
		if n := len(e.Needs) - 1; n > 0 {
			asked += fmt.Sprintf(", or %d more", n)
		}
		hints = append(hints, fmt.Sprintf("It has asked for %s (REQUEST), which no agent has, or not the agent that it named, even if all of it were free: others come first everywhere.", asked))
	}
	r := e.Refused
	if r.Offers == 0 {
		return hints
	}
	host := r.AgentID
	if a, ok := v.Agents.Get(r.AgentID); ok {
		host = a.Info.GetHostname()
	}
	text := fmt.Sprintf("It has launched nothing and declined %s in %s; the largest was %s of %s", some(r.Offers, "offer"),
		max(time.Second, v.Taken.Sub(r.Since).Round(time.Second)), r.Largest, host)
	if r.Whole {
		text += ", all that this agent has"
	}
	switch {
	case e.Larger > 0:
		text += fmt.Sprintf("; %s would have more if all of it were free. If it has work, a task of it needs more than was offered, or something else.", some(e.Larger, "agent"))
	default:
		text += ", and no agent has more. If it has work, a task of it is larger than any agent, or needs something that none has."
	}
	return append(hints, text)
}

// countReasons counts reasons, the most frequent first.
func countReasons(agents []allocator.AgentExplanation) []*reasonCount {
	var all []*reasonCount
	by := map[allocator.Reason]*reasonCount{}
	for _, a := range agents {
		r := by[a.Reason]
		if r == nil {
			r = &reasonCount{reason: a.Reason}
			by[a.Reason] = r
			all = append(all, r)
		}
		r.agents++
		if len(r.examples) < explainExamples {
			r.examples = append(r.examples, a.AgentID)
		}
		if !a.Until.IsZero() && (r.until.IsZero() || a.Until.Before(r.until)) {
			r.until = a.Until
		}
	}
	slices.SortStableFunc(all, func(a, b *reasonCount) int {
		return cmp.Or(cmp.Compare(b.agents, a.agents), cmp.Compare(a.reason, b.reason))
	})
	return all
}

// explainHint says in one sentence what matters most.
func explainHint(e *core.Explanation, reasons []*reasonCount, now time.Time) string {
	switch {
	case !e.Connected:
		return "It is not connected: nothing is offered to it until it subscribes again."
	case !e.Active:
		return "It is deactivated: nothing is offered to it."
	case len(e.Roles) == 0:
		return "It is subscribed to no role: it must name one to be offered anything."
	case !slices.ContainsFunc(e.Roles, func(r allocator.RoleExplanation) bool { return !r.Suppressed }):
		return "It has suppressed offers in all of its roles: it is offered nothing until it revives them."
	case len(reasons) == 0:
		return "There are no agents."
	case e.Offers > 0:
		since := "just now"
		if d := now.Sub(e.OldestOffer).Round(time.Second); d > time.Second {
			since = d.String() + " ago"
		}
		return fmt.Sprintf("It holds %s, the oldest made %s: what it holds is not offered again until it answers.", some(e.Offers, "offer"), since)
	}
	top := reasons[0]
	on := func(text string) string { return fmt.Sprintf(text, some(top.agents, "agent")) }
	switch top.reason {
	case allocator.Filtered:
		if top.until.IsZero() {
			return on("It has just declined what is free on %s.")
		}
		return on("It has declined what is free on %s") + fmt.Sprintf("; the first of its filters ends in %s, or when it revives offers.",
			max(0, top.until.Sub(now)).Round(time.Second))
	case allocator.NoResources:
		return on("Everything is in use on %s.")
	case core.OfferedToOthers:
		return on("What is free on %s is offered to other frameworks, which come first as their share is smaller.")
	case allocator.QuotaLimit:
		return on("The limit of its quota leaves nothing that could be offered, of %s.")
	case allocator.GuaranteesOfOthers:
		return on("What is free on %s is kept for roles whose guarantee is not met.")
	case allocator.ReservedForOthers:
		return on("What is free on %s is reserved for other roles.")
	case allocator.ConstraintsUnmet:
		return on("Its own offer constraints exclude %s.")
	case allocator.BelowMinAllocatable:
		return on("Too little is free on %s to be worth an offer (--min_allocatable_resources).")
	case allocator.AgentTooSmall:
		return on("It wants more in an offer than all that %s have, or they have less than is ever offered (min_allocatable_resources).")
	case allocator.NoGPU:
		return on("%s with GPUs are kept for frameworks with the capability GPU_RESOURCES.")
	case allocator.OtherRegion:
		return on("%s are in another region, and it lacks the capability REGION_AWARE.")
	case allocator.LacksCapability:
		return on("It lacks a capability that it takes to use what is free on %s, or they lack one to serve its role.")
	case allocator.Recovering:
		return "A new leader waits for agents to come back: until then nothing that counts towards a quota is offered."
	case allocator.NotWhitelisted:
		return on("%s are not in the whitelist (--whitelist).")
	case allocator.Deactivated:
		return on("%s are deactivated.")
	case core.AgentDraining:
		return on("%s are draining, or are drained.")
	case core.AgentDisconnected:
		return on("%s are disconnected.")
	default:
		return on("Nothing keeps %s from being offered to it: it will be in the next run.")
	}
}

func some(n int, what string) string {
	if n != 1 {
		what += "s"
	}
	return fmt.Sprintf("%d %s", n, what)
}
