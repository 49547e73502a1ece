package allocator

import (
	"fmt"
	"strings"
	"time"

	mesos "clusterd/api/mesos/v1"
)

func init() {
	scriptCommands["unavailable"] = (*script).unavailable
	scriptCommands["answer"] = (*script).answer
	scriptCommands["rescind-inverse"] = func(s *script, c *command) string {
		s.a.RescindInverseOffer(c.id, c.arg("agent"))
		return ""
	}
	scriptCommands["answers"] = func(s *script, c *command) string {
		var b strings.Builder
		for _, a := range s.a.InverseOfferStatuses(c.id) {
			at := time.Duration(a.GetTimestamp().GetNanoseconds() - epoch.UnixNano())
			fmt.Fprintf(&b, "%s %s at %s\n", a.GetFrameworkId().GetValue(), a.GetStatus(), at)
		}
		return b.String()
	}
}

// unavailability is what unavailable= or from= says: when, from the beginning of the
// script, an agent is to be maintained.
func (c *command) unavailability(key string) *mesos.Unavailability {
	if !c.has(key) {
		return nil
	}
	start := epoch.Add(c.duration(c.arg(key))).UnixNano()
	return &mesos.Unavailability{Start: &mesos.TimeInfo{Nanoseconds: &start}}
}

// unavailable schedules the maintenance of an agent from from=, or none.
func (s *script) unavailable(c *command) string {
	s.a.UpdateUnavailability(c.id, c.unavailability("from"))
	return ""
}

// answer answers the framework's inverse offer for agent=.
func (s *script) answer(c *command) string {
	s.a.UpdateInverseOffer(s.now, c.id, c.arg("agent"), !c.has("decline"), c.filter())
	return ""
}

// inverse prints inverse offers.
func inverse(a Allocation) string {
	var b strings.Builder
	for _, o := range a.InverseOffers {
		start := time.Duration(o.Unavailability.GetStart().GetNanoseconds() - epoch.UnixNano())
		fmt.Fprintf(&b, "%s is asked to leave %s by %s\n", o.FrameworkID, o.AgentID, start)
	}
	return b.String()
}
