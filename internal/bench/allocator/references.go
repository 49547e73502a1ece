package main

import (
	"fmt"
	"time"
)

// key names a figure.
type key struct{ bench, params, what string }

// reference is what a figure is held against.
type reference struct {
	mesos     string // as published, or as measured where it says so
	mesosTime time.Duration
	target    float64 // seconds, or the figure's own unit
	atLeast   bool    // else at most
	unit      string  // of the target, empty: seconds
	slack     float64 // part of the target that is put down to noise
}

const (
	met    = "met"
	notMet = "NOT MET"
)

func (r reference) targetText() string {
	if r.target == 0 {
		return ""
	}
	sign := "<="
	if r.atLeast {
		sign = ">="
	}
	if r.unit != "" {
		return fmt.Sprintf("%s %s%s", sign, amount(r.target), r.unit)
	}
	return fmt.Sprintf("%s %s", sign, duration(time.Duration(r.target*float64(time.Second))))
}

// verdict says whether the median reaches the target.
func (r reference) verdict(f *figure) string {
	if r.target == 0 {
		return ""
	}
	v := f.number()
	switch {
	case r.atLeast && v >= r.target, !r.atLeast && v <= r.target:
		return met
	case !r.atLeast && v <= r.target*(1+r.slack):
		return fmt.Sprintf("within %.0f %%", 100*r.slack)
	}
	return notMet
}

// What the parameters of shapes with references are called.
const (
	quotaSmallest = "0: 25 + 5 roles, 30 agents, drf"
	quotaMiddle   = "1: 250 + 50 roles, 300 agents, drf"
	quotaLargest  = "2: 2,500 + 500 roles, 3,000 agents, drf"

	whatRound             = "round (AllocateAll)"
	whatFirst             = "first round, no filters yet"
	whatDeclines          = "declines of a round (RecoverResources)"
	whatAddAgents         = "add agents, offering each"
	whatAddAtOnce         = "add agents, offering all at the end"
	whatOneAgent          = "one agent changed (RecoverResources, Allocate)"
	whatAllCycle          = "cycle with all allocations"
	whatEmptyCycle        = "empty cycle"
	whatFrameworks        = "add frameworks"
	whatLaunched          = "tasks launched"
	whatRemoveAllocations = "remove allocations (RecoverResources)"
	whatAddAgentsUsed     = "add agents and allocations (AddAgent)"
	whatServed            = "frameworks that got all they want"
	whatUpdates           = "20 x UNRESERVE and RESERVE"
	whatDoubling          = "round, growth by doubling the agents"
	whatIdleGrowth        = "idle round, growth from fewest to most agents"
)

// references are Mesos's figures, as blog posts and commit messages give them
// (the blog of 2018-10-08 for the chart of the allocation cycle; commits
// 86653356d, 6abe32f08, 73033130d, 3f753e77a), those that were measured on two
// cores like ours, and the targets.
var references = map[key]reference{
	{"DeclineOffers", "1,000 agents x 100 frameworks", whatFirst}:    {mesos: "0.05 s (1.8)", mesosTime: 50 * time.Millisecond},
	{"DeclineOffers", "5,000 agents x 500 frameworks", whatFirst}:    {mesos: "0.4 s (1.8)", mesosTime: 400 * time.Millisecond},
	{"DeclineOffers", "10,000 agents x 1,000 frameworks", whatFirst}: {mesos: "1.1 s (1.8), 1.4 s (1.7.1)", mesosTime: 1100 * time.Millisecond},
	{"DeclineOffers", "20,000 agents x 2,000 frameworks", whatFirst}: {mesos: "3.8 s (1.8)", mesosTime: 3800 * time.Millisecond},

	{"DeclineOffers", "10,000 agents x 1,000 frameworks", whatRound}:      {mesos: "1.06 s", mesosTime: 1060 * time.Millisecond, target: 0.050},
	{"DeclineOffers", "10,000 agents x 1,000 frameworks", whatAddAgents}:  {mesos: "1.61 s", mesosTime: 1610 * time.Millisecond},
	{"DeclineOffers", "10,000 agents x 1,000 frameworks", whatOneAgent}:   {target: 0.001},
	{"DeclineOffers", "10,000 agents x 1,000 frameworks", whatFrameworks}: {mesos: "40 ms", mesosTime: 40 * time.Millisecond},
	{"DeclineOffers", "10,000 agents x 3,000 frameworks", whatFrameworks}: {mesos: "171 ms", mesosTime: 171 * time.Millisecond},
	{"DeclineOffers", "10,000 agents x 3,000 frameworks", whatRound}:      {mesos: "2.6 s", mesosTime: 2600 * time.Millisecond},
	{"DeclineOffers", "10,000 agents x 3,000 frameworks", whatAddAgents}:  {mesos: "3.3 s", mesosTime: 3300 * time.Millisecond},
	{"DeclineOffers", "50,000 agents x 6,000 frameworks", whatRound}:      {target: 1},
	{"DeclineOffers", "50,000 agents x 6,000 frameworks", whatFirst}:      {target: 1},

	{"Growth", "5,000 -> 10,000 agents", whatDoubling}:   {target: 2, unit: "x", slack: 0.1},
	{"Growth", "10,000 -> 20,000 agents", whatDoubling}:  {target: 2, unit: "x", slack: 0.1},
	{"Growth", "20,000 -> 40,000 agents", whatDoubling}:  {target: 2, unit: "x", slack: 0.1},
	{"Growth", "5,000 -> 40,000 agents", whatIdleGrowth}: {target: 1, unit: "x", slack: 0.25},

	{"LargeAndSmallQuota", quotaMiddle, whatAllCycle}:    {mesos: "140 ms (2 cores)", mesosTime: 140 * time.Millisecond},
	{"LargeAndSmallQuota", quotaMiddle, whatEmptyCycle}:  {mesos: "133 ms (2 cores)", mesosTime: 133 * time.Millisecond},
	{"LargeAndSmallQuota", quotaLargest, whatAllCycle}:   {mesos: "15.39 s", mesosTime: 15390 * time.Millisecond, target: 0.150},
	{"LargeAndSmallQuota", quotaLargest, whatEmptyCycle}: {mesos: "13.72 s", mesosTime: 13720 * time.Millisecond, target: 0.001},
	{"LargeAndSmallQuota", quotaLargest, whatFrameworks}: {mesos: "40 s (2 cores), 17-19 s", mesosTime: 17 * time.Second},

	{"MultiFrameworkAllocations", multiParams, whatLaunched}: {mesos: "5,132 (2 cores), 4,205", target: 19500, atLeast: true, unit: " tasks"},
	{"MultiFrameworkAllocations", multiParams, whatServed}:   {target: 554, atLeast: true, unit: " frameworks"},

	{"FullSort", "50,000 agents x 1,000 clients, drf", whatRemoveAllocations}:    {mesos: "12.2 s", mesosTime: 12200 * time.Millisecond},
	{"FullSort", "50,000 agents x 1,000 clients, random", whatRemoveAllocations}: {mesos: "12.2 s", mesosTime: 12200 * time.Millisecond},
	{"FullSort", "50,000 agents x 1,000 clients, drf", whatAddAgentsUsed}:        {mesos: "0.18 s for allocations alone"},
	{"FullSort", "50,000 agents x 1,000 clients, random", whatAddAgentsUsed}:     {mesos: "0.19 s for allocations alone"},

	{"UpdateAllocation", "50 roles", whatUpdates}:  {mesos: "0.47 s", mesosTime: 470 * time.Millisecond},
	{"UpdateAllocation", "100 roles", whatUpdates}: {mesos: "0.93 s", mesosTime: 930 * time.Millisecond},
	{"UpdateAllocation", "200 roles", whatUpdates}: {mesos: "2.11 s", mesosTime: 2110 * time.Millisecond},
}
