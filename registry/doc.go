// Package registry keeps what masters agree on: a replicated log (hashicorp/raft
// on raft-boltdb) under the state machine of registry/state. It is the shell
// around that core: it owns the goroutines, the disk, the clock and the sockets.
//
// [Open] starts a member and returns a [Registry]. A master waits in
// [Registry.AwaitLeadership] until it leads, builds its core from
// [Leadership.State], proposes changes with [Leadership.Apply] and stops acting
// when [Leadership.Context] ends, which is before another member can lead. Calls
// to Apply from many goroutines are merged: while one log entry is being written,
// all that is proposed meanwhile gathers for the next, so that 20,000 admissions
// cost a dozen writes.
//
// What Apply has acknowledged survives the loss of power of a minority. A
// failure that leaves it open whether something was written ends the leadership,
// never only the call.
//
// On disk, below Options.Dir:
//
//	raft.db        raft-boltdb: the log, the term, the vote, the id of this member
//	snapshots/     up to 2 snapshots, each a stream of clusterd.v1.SnapshotRecord
//
// Several members are a group: they make sure of each other at the begin of a
// connection, come and go by what gossip tells the leader, and are inspected,
// restored and recovered on the disk by [InspectDir], [RestoreDir] and
// [RecoverDir].
//
// All methods may be called from any goroutine. server imports this package.
package registry
