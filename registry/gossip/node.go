// Package gossip is how the nodes of a cluster find each other: masters their
// peers, agents the leading master (hashicorp/memberlist). It hints and never
// decides: who leads is Raft's word, who is dead the link's and the registry's.
//
// [Open] joins, [Gossip.Update] says something new of this node,
// [Gossip.Nodes] and [Gossip.Leader] tell what is known, and [Gossip.Changed]
// when it changes. All methods may be called from any goroutine. server, agent
// and internal/cli import this package.
package gossip

// Role is what a node is.
type Role string

// The roles.
const (
	Master Role = "master"
	Agent  Role = "agent"
)

// Node is what a node says of itself to all others. It must stay small: it
// travels in UDP packets.
type Node struct {
	// Name is unique: the Raft id of a master, or the id that an agent has made for
	// itself at its first start.
	Name string
	Role Role
	// HTTP is where its HTTP API is reached, host:port.
	HTTP string
	// Raft is where a master's Raft protocol is reached, host:port.
	Raft string
	// ClusterID is the cluster that it belongs to, empty until it knows. Nodes of
	// different clusters do not merge.
	ClusterID string
	// Epoch is set while a master leads: the number of its leadership.
	Epoch uint64
	// Expect is the --bootstrap_expect of a master that belongs to no cluster yet,
	// and Endorses the name of the master that it lets found one; see server.
	Expect   int
	Endorses string
	// Format is the newest registry format that a master understands.
	Format uint32
	// Build is the version of its binary.
	Build string
	// Region and Zone are its fault domain.
	Region, Zone string
}
