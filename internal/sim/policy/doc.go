// Package policy is a virtual cluster to try allocation policies and failures on
// (`clusterd sim`): the real server/core and the real allocator, as a master runs them,
// on virtual time, with agents and frameworks that are models.
//
// [Run] takes [Options] and returns a [Result]. What is real: every decision of the
// master, each call and message that it is handed and each that it answers, the registry's
// state machine behind it. What is modelled: agents (they start what they are told to start
// and end it when its time is over), frameworks ([Workload] says what they want), and how
// long messages, commits and starts take. There is no network that loses anything: for
// faults of that kind there is internal/sim.
//
// The same options give the same result, to the last byte, but for what [Real] holds. A run
// uses one goroutine, the caller's. internal/cli imports it.
package policy
