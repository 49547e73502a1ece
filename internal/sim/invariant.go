package sim

import (
	"fmt"
	"time"
)

// Invariant is something that must hold. DESIGN.md says what each means.
type Invariant string

// The invariants.
const (
	// OneLeader: no master acts after a later one has.
	OneLeader Invariant = "at most one leader acts"
	// LogAgrees: no member has another entry than what was committed.
	LogAgrees Invariant = "a committed entry stays"
	// RegistryTakes: the registry's state machine refuses nothing that a core proposes.
	RegistryTakes Invariant = "the registry never refuses"
	// OneStanding: an agent is admitted, unreachable or gone, and never two of it.
	OneStanding Invariant = "an agent is never both admitted and gone"
	// GoneStays: an agent that is gone is not admitted again.
	GoneStays Invariant = "an agent that is gone stays gone"
	// FrameworkKept: a framework that knows its id is in the registry until it ends.
	FrameworkKept Invariant = "no registration of a framework is lost"
	// EndedStays: a framework that was torn down does not come back.
	EndedStays Invariant = "a framework that ended stays ended"
	// EndedFairly: a framework ends by its own or an operator's wish, or when nobody
	// has heard of it for its failover timeout.
	EndedFairly Invariant = "no framework ends before its time"
	// SettingsKept: what an operator was told is set is set.
	SettingsKept Invariant = "no quota, weight or removal is lost"
	// ReservationsKept: a reservation whose framework was told of is on its agent.
	ReservationsKept Invariant = "no reservation is lost"
	// OnceAllocated: what is offered and used of an agent is not more than it has.
	OnceAllocated Invariant = "no resource is allocated twice"
	// StartedOnce: no task is started a second time.
	StartedOnce Invariant = "no task is started twice"
	// LastStateHeard: in the end a framework believes of a task what is true.
	LastStateHeard Invariant = "the last state of every task reaches its framework"
	// ReportsHeard: what an executor reported last, and the agent took, the framework hears.
	ReportsHeard Invariant = "no report of a task is lost"
	// EndToldOnce: an agent does not take back how a task ended.
	EndToldOnce Invariant = "the end of a task is told once"
	// InOrder: a framework hears the updates of a task in the order in which its
	// executor sent them.
	InOrder Invariant = "updates of a task come in order"
	// NoneForgotten: the master knows of every task that runs on an admitted agent, and
	// never says otherwise.
	NoneForgotten Invariant = "no running task is forgotten"
	// EventsTell: a view and the events after it are all that there is to know.
	EventsTell Invariant = "events tell of every change"
	// NothingLeaks: in the end nothing is held by nobody.
	NothingLeaks Invariant = "no resource leaks"
	// ComesToRest: without faults all that should be connected is.
	ComesToRest Invariant = "without faults the cluster comes to rest"
	// CheckpointReads: an agent can read what it has written.
	CheckpointReads Invariant = "an agent starts from its checkpoint"
	// NoPanic: nothing panics.
	NoPanic Invariant = "nothing panics"
	// CoreGoesOn: no core stops of its own will but for good reason.
	CoreGoesOn Invariant = "no core gives up"
)

// Violation is an invariant that did not hold.
type Violation struct {
	Seed      uint64
	At        time.Duration
	Invariant Invariant
	Text      string
	// Last are the last events before it, if the run kept them.
	Last []string
}

// String says what was violated and how to see it again.
func (v *Violation) String() string {
	return fmt.Sprintf("seed %d, after %.3f s: %s: %s (go test ./internal/sim -run TestSim -seed=%d -v)",
		v.Seed, v.At.Seconds(), v.Invariant, v.Text, v.Seed)
}
