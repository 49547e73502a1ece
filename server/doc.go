// Package server is the master: the shell around server/core. It owns the HTTP
// front, the streams of schedulers, the links of agents, the registry and the
// clock, and decides nothing.
//
// [New] takes [Options] and binds the port, [Server.Start] opens the registry
// and serves, [Server.Stop] ends everything in the reverse order. While this
// master leads there is a term: one goroutine that hands the core one input at a
// time and performs its effects in order.
//
//	schedulers --HTTP--\                         /--> streams (bounded queues)
//	agents -----links---+--> inputs --> [ core ] +--> links   (bounded queues)
//	registry, timer ---/     bounded     1 goroutine  \--> registry proposals
//	                                        |
//	                       View (immutable) +--> /state, /api/v1, metrics
//
// The core never waits: what it sends goes into bounded queues whose overflow
// cuts off the reader; proposals come back as inputs; reads are served from
// views. A term ends with the leadership's context: from then on nothing is
// fed to the core and no effect is performed.
//
// All exported methods may be called from any goroutine. internal/cli imports
// this package.
//
// Limits, all of which cut off or refuse the one who exceeds them: bodies
// [httpapi.MaxBody], headers 64 KiB, queues of streams [StreamLimits], records
// and queues of links [link.Options], inputs waiting for the core 4,096.
package server
