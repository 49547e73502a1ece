// Package registryapi is what masters answer below [Path], in JSON: how the
// registry stands, and changes of its members. `clusterd registry` speaks it.
//
//	GET  Path             Status of the master that is asked, leader or not
//	POST Path/add         Change with id and address; leader
//	POST Path/remove      Change with id; leader
//	POST Path/transfer    Change with id, or without: whoever is furthest; leader
//	GET  Path/snapshot    a snapshot; leader, or with ?stale=true any master
//	POST Path/snapshot    restores the snapshot that is the body; leader
//
// Leader-only requests are answered 307 by others, as everywhere. ?force=true
// does what is refused otherwise because it would do harm. The package is types
// only. Imported by server, internal/cli and tests.
package registryapi

import "clusterd/registry/dump"

// Path is where the endpoints begin.
const Path = "/api/clusterd/v1/registry"

// MaxSnapshot bounds a snapshot that is restored, in bytes.
const MaxSnapshot = 512 << 20

// Status is how a master stands in the group.
type Status struct {
	// ID and Address of the master that answers.
	ID      string `json:"id"`
	Address string `json:"address"`
	// ClusterID is empty as long as it belongs to no cluster.
	ClusterID string `json:"cluster_id"`
	// State is leader, follower, candidate or shutdown.
	State string `json:"state"`
	// Leads says that it leads and its core acts.
	Leads bool `json:"leads"`
	// Leader is the id of the member that leads, empty if none is known, and
	// LeaderAddress where its HTTP API is, host:port.
	Leader        string `json:"leader"`
	LeaderAddress string `json:"leader_address"`
	// Epoch numbers the leaderships of the cluster; Term is Raft's.
	Epoch uint64 `json:"epoch"`
	Term  uint64 `json:"term"`
	// LastContactMS is how long ago the leader was heard, in milliseconds; zero on
	// the leader itself.
	LastContactMS int64  `json:"last_contact_ms"`
	LastIndex     uint64 `json:"last_index"`
	CommitIndex   uint64 `json:"commit_index"`
	AppliedIndex  uint64 `json:"applied_index"`
	SnapshotIndex uint64 `json:"snapshot_index"`
	SnapshotTerm  uint64 `json:"snapshot_term"`
	// Queued is how many calls wait to be written.
	Queued uint64 `json:"queued"`
	// Format is the registry format, Build the version of this master.
	Format uint32 `json:"format"`
	Build  string `json:"build"`
	// Tolerates is how many voters may fail, as the leader sees it.
	Tolerates int `json:"tolerates"`
	// Members are those of the Raft group.
	Members []Member `json:"members"`
	// Others are masters that gossip knows and that are no members.
	Others []Member `json:"others,omitempty"`
	// Autopilot is how the leader finds the members; only it says so.
	Autopilot []Autopilot `json:"autopilot,omitempty"`
	// Gossip is absent where there is none.
	Gossip *Gossip     `json:"gossip,omitempty"`
	Counts dump.Counts `json:"counts"`
}

// Member is a master, member of the Raft group or not.
type Member struct {
	ID      string `json:"id"`
	Address string `json:"address"`
	// HTTP is where its HTTP API is; Alive, Format and Build likewise are what
	// gossip says of it, if it knows it.
	HTTP   string `json:"http,omitempty"`
	Known  bool   `json:"known"`
	Alive  bool   `json:"alive"`
	Format uint32 `json:"format,omitempty"`
	Build  string `json:"build,omitempty"`
	// Health is Healthy if the member answers its leader, Unhealthy if it no longer
	// does, and empty where that is not known: it is on the leader only.
	Health string `json:"health,omitempty"`
	// Voter says that its vote counts; one that was just added catches up first.
	Voter bool `json:"voter"`
	Leads bool `json:"leads"`
}

// Values of Member.Health.
const (
	Healthy   = "healthy"
	Unhealthy = "unhealthy"
)

// Change is the body of requests that change the group.
type Change struct {
	ID      string `json:"id,omitempty"`
	Address string `json:"address,omitempty"`
}
