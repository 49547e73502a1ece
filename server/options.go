package server

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"time"

	"github.com/rs/zerolog"

	"clusterd/allocator"
	"clusterd/allocator/resources"
	mesos "clusterd/api/mesos/v1"
	"clusterd/internal/authn"
	"clusterd/internal/authz"
	"clusterd/internal/flags"
	"clusterd/internal/httpapi"
	"clusterd/internal/link"
	"clusterd/internal/metrics"
	"clusterd/internal/tlsconf"
	"clusterd/server/core"
)

// Options say how a master runs. Fields carry the name of the flag that sets
// them; start from [DefaultOptions].
type Options struct {
	// IP (--ip) and Port (--port) to listen on. An empty IP is every address,
	// port 0 any free one.
	IP   string
	Port int
	// AdvertiseIP and AdvertisePort (--advertise_ip, --advertise_port) are what
	// others reach this master at; empty: as found out from what it listens on.
	AdvertiseIP   string
	AdvertisePort int
	// Hostname (--hostname) is advertised; empty: looked up from the IP if
	// HostnameLookup (--hostname_lookup), else the IP itself.
	Hostname       string
	HostnameLookup bool
	// Domain (--domain) of this master.
	Domain *mesos.DomainInfo
	// Cluster (--cluster) is a name for people.
	Cluster string
	// WorkDir (--work_dir) holds the registry. It may be empty if InMemory.
	WorkDir string
	// InMemory (--registry=in_memory) keeps the registry in memory: for tests.
	InMemory bool
	// RegistryStoreTimeout is --registry_store_timeout.
	RegistryStoreTimeout time.Duration
	// RegistryFetchTimeout (--registry_fetch_timeout) is how long a new leader may
	// take to apply what the registry holds; zero: a minute.
	RegistryFetchTimeout time.Duration
	// Whitelist (--whitelist) is a file of the host names of the agents that are
	// offered, read every few seconds; empty: all are.
	Whitelist string
	// Weights (--weights) of roles, for a registry that has none.
	Weights map[string]float64
	// NodeID (--node_id) names this master among its peers; empty: made at the
	// first start.
	NodeID string
	// RaftBind and RaftAdvertise are addresses of the Raft protocol, host:port.
	RaftBind      string
	RaftAdvertise string
	// RaftHeartbeatTimeout is --raft_heartbeat_timeout.
	RaftHeartbeatTimeout time.Duration
	// BootstrapExpect (--bootstrap_expect) is how many masters found a cluster; 0:
	// this one waits to be joined to one.
	BootstrapExpect int
	// GossipBind and GossipAdvertise are addresses of gossip, host:port; without
	// GossipBind this master does not gossip, and stays alone.
	GossipBind      string
	GossipAdvertise string
	// GossipKeys (--gossip_key) encrypt gossip; the first is the one in use.
	GossipKeys [][]byte
	// Join (--join) are nodes through which this one finds the others.
	Join []string

	// Core holds the settings of the core; MasterInfo and Seed are filled in.
	Core core.Config
	// Allocator holds the settings of the allocator; Seed and Domain are filled in.
	Allocator allocator.Options
	// Streams bounds the queues of schedulers' streams.
	Streams StreamLimits
	// Links tunes the streams of agents.
	Links link.Options

	// Realms authenticate who sends requests; a realm that is missing asks nobody.
	Realms authn.Realms
	// Login is the login of people by an OpenID provider; nil: there is none.
	Login *authn.OIDCLogin
	// ACLs (--acls) say who may do what, until [Server.SetPolicy]; nil: all may.
	ACLs *authz.ACLs
	// MaxSubscribers (--max_operator_event_stream_subscribers) of the event streams; the
	// oldest is closed beyond that.
	MaxSubscribers int
	// MaxEventHistory (--max_event_history) is how many events are kept for subscribers who
	// were away.
	MaxEventHistory int
	// RateLimits (--rate_limits) of frameworks; nil: none.
	RateLimits *RateLimits
	// Disabled (--firewall_rules) are paths that answer 403.
	Disabled []string
	// MaxConnections (--max_connections) of HTTP clients; zero: half of the files that this
	// process may open. Agents' links do not count.
	MaxConnections int
	// ReadHeaderTimeout (--read_header_timeout) is how long a client may take to say what it
	// wants.
	ReadHeaderTimeout time.Duration
	// OnAudit, if set, is told of every request that was to change something.
	OnAudit func(r *http.Request, a httpapi.Audited)
	// TLS is how this master shows itself and checks others on every port but that of
	// gossip; nil: in clear.
	TLS *tlsconf.Identity

	// Flags are what /flags shows.
	Flags []flags.Pair
	// Described are the same with defaults and help, for /api/clusterd/v1/flags.
	Described []flags.Described
	// WebUIDir (--webui_dir) is served as the web UI; empty: what is built in.
	WebUIDir string
	// LogDir (--log_dir) and ExternalLogFile (--external_log_file) are shown by /state.
	LogDir, ExternalLogFile string
	// Logger takes what this master has to say.
	Logger zerolog.Logger
	// Verbosity is switched by /logging/toggle; nil: one that switches nothing.
	Verbosity *httpapi.Verbosity
	// Metrics is where values are published; nil: a registry of its own.
	Metrics *metrics.Registry

	whitelistInterval time.Duration // for tests: more often
	historyInterval   time.Duration // likewise
}

// DefaultOptions are the defaults of the master's flags.
func DefaultOptions() Options {
	return Options{
		Port:                 5050,
		HostnameLookup:       true,
		RegistryStoreTimeout: 20 * time.Second,
		RegistryFetchTimeout: time.Minute,
		BootstrapExpect:      1,
		MaxSubscribers:       1000,
		MaxEventHistory:      1 << 16,
		ReadHeaderTimeout:    30 * time.Second,
		Core: core.Config{
			AllocationInterval:           time.Second,
			AgentPingTimeout:             15 * time.Second,
			MaxAgentPingTimeouts:         5,
			AgentReregisterTimeout:       10 * time.Minute,
			AllocatorAgentRecoveryFactor: 0.8,
			AllocatorRecoveryTimeout:     10 * time.Minute,
			RootSubmissions:              true,
			MaxCompletedFrameworks:       50,
			MaxCompletedTasks:            1000,
			MaxUnreachableTasks:          1000,
			HeartbeatInterval:            15 * time.Second,
			RegistryGCInterval:           15 * time.Minute,
			RegistryMaxAgentAge:          14 * 24 * time.Hour,
			RegistryMaxAgentCount:        102400,
			PublishFrameworkMetrics:      true,
			ConstraintRegexps:            allocator.RegexpLimits{MaxMemory: 4096, MaxProgramSize: 100},
		},
		Allocator: allocator.DefaultOptions(),
		Streams:   DefaultStreamLimits(),
		Logger:    zerolog.Nop(),
	}
}

func (o *Options) validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if o.WorkDir == "" && !o.InMemory {
		bad("--work_dir is needed for the replicated registry")
	}
	for _, ip := range []struct{ flag, value string }{{"ip", o.IP}, {"advertise_ip", o.AdvertiseIP}} {
		if ip.value != "" && net.ParseIP(ip.value) == nil {
			bad("--%s: %q is no IP address", ip.flag, ip.value)
		}
	}
	if o.Port < 0 || o.Port > 65535 || o.AdvertisePort < 0 || o.AdvertisePort > 65535 {
		bad("--port %d, --advertise_port %d: ports go up to 65535", o.Port, o.AdvertisePort)
	}
	if o.BootstrapExpect < 0 {
		bad("--bootstrap_expect is %d", o.BootstrapExpect)
	}
	if o.BootstrapExpect > 1 && o.GossipBind == "" {
		bad("--bootstrap_expect=%d needs gossip", o.BootstrapExpect)
	}
	for role := range o.Weights {
		if err := resources.ValidateRole(role); err != nil {
			bad("--weights: %w", err)
		}
	}
	c := &o.Core
	if c.AllocationInterval <= 0 {
		bad("--allocation_interval must be positive")
	}
	if c.AgentPingTimeout <= 0 {
		bad("--agent_ping_timeout must be positive")
	}
	if c.MaxAgentPingTimeouts < 1 {
		bad("--max_agent_ping_timeouts must be at least 1")
	}
	if c.AgentReregisterTimeout <= 0 {
		bad("--agent_reregister_timeout must be positive")
	}
	if o.Streams.Events < 1 || o.Streams.Bytes < 1 {
		bad("limits of streams must be positive")
	}
	if len(errs) > 0 {
		return fmt.Errorf("master options: %w", errors.Join(errs...))
	}
	return nil
}

// raftDir is where the registry lives, empty for one in memory.
func (o *Options) raftDir() string {
	if o.InMemory {
		return ""
	}
	return filepath.Join(o.WorkDir, "raft")
}
