// Package sim runs a whole cluster in one process on virtual time: the real cores
// of master and agent, the real allocator and the real state machine of the
// registry, and around them models of what the shells own: clocks, links, disks,
// processes, containers, the replicated log, schedulers and operators. One seed
// decides everything, so that a failing run can be had again to the last byte.
//
// [Run] makes a [World], lets it live under faults, then in peace, and returns the
// first [Violation] of an invariant. DESIGN.md lists invariants and faults, and
// what the models leave out.
//
// A World belongs to one goroutine; any number of them may run side by side. Only
// tests import this package.
package sim
