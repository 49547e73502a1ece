// Package state is what masters agree on: the registry as a value, and the
// commands that change it. It is a pure core: [State.Apply] takes an entry of
// the replicated log and returns the next state, without clock, goroutine, I/O,
// logger or randomness, so that every master that applies the same log holds the
// same bytes.
//
// A [State] is immutable. Apply shares with its predecessor all that did not
// change, so that keeping an old one (for a snapshot, for a reader) costs
// nothing. Reading is safe from any number of goroutines; Apply on states that
// descend from one another must come from one goroutine at a time.
//
// Commands are refused, never half done: a refusal is a result ([ErrRefused])
// that all masters reach alike. Commands that a new leader may repeat, since it
// cannot know whether its predecessor's arrived, succeed without effect the
// second time. What an entry means never changes; see [Format].
//
// registry imports it to replicate it, server to build the core from it.
package state
