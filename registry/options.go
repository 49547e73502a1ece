package registry

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/hashicorp/raft"
	"github.com/rs/zerolog"

	mesos "clusterd/api/mesos/v1"
	"clusterd/registry/state"
)

// Options say how a member of the registry runs.
type Options struct {
	// Dir holds log and snapshots, <work_dir>/raft. Empty: everything is kept in
	// memory and lost at the end (--registry=in_memory).
	Dir string
	// ServerID names this member at its first start (--node_id); empty: it makes
	// an id. The id stays in Dir.
	ServerID string
	// MasterInfo of this master; what others learn of it while it leads. From its
	// second leadership on the id is a new one each time.
	MasterInfo *mesos.MasterInfo
	// BuildVersion of this binary, written into entries and snapshots.
	BuildVersion string

	// BindAddr is where the Raft protocol listens, host:port; 127.0.0.1:0 if empty.
	BindAddr string
	// AdvertiseAddr is what other members dial; the address bound if empty.
	AdvertiseAddr string
	// BootstrapExpect is how many members found the cluster, once, when Dir is
	// empty. 1: this one alone, at once. More: it waits for [Registry.Bootstrap].
	// 0: it waits to be joined to an existing cluster.
	BootstrapExpect int

	// Peers, if set, says which masters there are, as gossip tells it. While this
	// one leads, live ones that are no members join, and dead ones are removed.
	Peers func() []Peer
	// Autopilot says when that happens.
	Autopilot AutopilotOptions
	// TLS, if set, wraps the connections of the Raft protocol, both ways: it is
	// presented by whoever dials and whoever is dialled, and should ask for
	// certificates (ClientAuth).
	TLS *tls.Config
	// ClientTLS, if set, is asked before each dial instead of TLS, so that those who
	// are trusted may change.
	ClientTLS func() *tls.Config

	// StoreTimeout is how long a write may take before the registry gives up for
	// good (--registry_store_timeout); 20 s if zero.
	StoreTimeout time.Duration
	// FetchTimeout is how long a new leader may take to apply what is committed
	// (--registry_fetch_timeout); 1 min if zero.
	FetchTimeout time.Duration
	// HeartbeatTimeout is how long members hear nothing of a leader before they
	// elect another; 1 s if zero. A leader that hears nothing of a majority for
	// half of it leads no more. All members must have the same.
	HeartbeatTimeout time.Duration
	// SnapshotThreshold is after how many log entries a snapshot is taken, and
	// how many entries stay behind it for members that lag; 2,048 if zero.
	SnapshotThreshold uint64

	// Logger takes what Raft has to say.
	Logger zerolog.Logger
	// OnStore, if set, is told of each log entry written: how long it took and
	// how many commands it held.
	OnStore func(took time.Duration, commands int)

	readOnly bool // for InspectDir

	// For tests: a newer build, a slow or failing disk, and a network that fails.
	format  uint32
	wrapLog func(raft.LogStore) raft.LogStore
	dial    func(ctx context.Context, addr string) (net.Conn, error)
}

func (o *Options) setDefaults() {
	if o.BindAddr == "" {
		o.BindAddr = "127.0.0.1:0"
	}
	if o.StoreTimeout <= 0 {
		o.StoreTimeout = 20 * time.Second
	}
	if o.FetchTimeout <= 0 {
		o.FetchTimeout = time.Minute
	}
	if o.HeartbeatTimeout <= 0 {
		o.HeartbeatTimeout = time.Second
	}
	if o.SnapshotThreshold == 0 {
		o.SnapshotThreshold = 2048
	}
	o.Autopilot.setDefaults()
	if o.format == 0 {
		o.format = state.Format
	}
	if o.OnStore == nil {
		o.OnStore = func(time.Duration, int) {}
	}
}

func (o *Options) validate() error {
	if o.MasterInfo == nil || o.MasterInfo.GetId() == "" {
		return errors.New("registry: MasterInfo without an id")
	}
	if o.BootstrapExpect < 0 {
		return fmt.Errorf("registry: bootstrap_expect is %d", o.BootstrapExpect)
	}
	if o.HeartbeatTimeout < 20*time.Millisecond {
		return fmt.Errorf("registry: heartbeat timeout %s is less than 20ms", o.HeartbeatTimeout)
	}
	return nil
}

func (o *Options) raftConfig(id raft.ServerID, notify chan<- bool) *raft.Config {
	c := raft.DefaultConfig()
	c.LocalID = id
	c.HeartbeatTimeout = o.HeartbeatTimeout
	c.ElectionTimeout = o.HeartbeatTimeout + 1 // may not be less than what lookForLeader sets
	c.LeaderLeaseTimeout = o.HeartbeatTimeout / 2
	c.CommitTimeout = min(c.CommitTimeout, o.HeartbeatTimeout/20)
	c.SnapshotThreshold = o.SnapshotThreshold
	c.TrailingLogs = o.SnapshotThreshold
	c.NotifyCh = notify
	c.ShutdownOnRemove = false // a member that was removed may be added again while it runs
	c.Logger = newHCLog(o.Logger)
	c.NoSnapshotRestoreOnStart = true // openStores restores, and says clearly why not
	c.NoLegacyTelemetry = true
	return c
}

// advertise resolves what other members dial, nil for the address bound.
func (o *Options) advertise() (net.Addr, error) {
	if o.AdvertiseAddr == "" {
		return nil, nil
	}
	addr, err := net.ResolveTCPAddr("tcp", o.AdvertiseAddr)
	if err != nil {
		return nil, fmt.Errorf("raft address to advertise: %w", err)
	}
	return addr, nil
}
