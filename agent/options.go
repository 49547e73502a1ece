package agent

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"time"

	"github.com/rs/zerolog"

	"clusterd/agent/checkpoint"
	"clusterd/agent/containerlogger"
	mesos "clusterd/api/mesos/v1"
	"clusterd/internal/authn"
	"clusterd/internal/authz"
	"clusterd/internal/flags"
	"clusterd/internal/httpapi"
	"clusterd/internal/metrics"
	"clusterd/internal/tlsconf"
	"clusterd/isolation"
	"clusterd/isolation/setup"
)

// ErrInvalidOption says that an option makes no sense.
var ErrInvalidOption = errors.New("invalid option")

// Options are what an agent is started with. DefaultOptions gives the defaults
// of the flags; fields without a default are named as required.
type Options struct {
	// Masters are addresses, host:port, of which one at least leads to the leading
	// master. Masters, Join or Finder is required.
	Masters []string
	// Join names nodes that gossip, host or host:port; through any of them the agent
	// finds the masters and follows who leads.
	Join []string
	// NodeID is the agent's name in gossip; empty: made once, kept in WorkDir.
	NodeID string
	// GossipBind is where gossip listens, host:port, and GossipAdvertise where
	// others reach it, if elsewhere.
	GossipBind      string
	GossipAdvertise string
	// GossipKeys encrypt gossip: the first encrypts, any decrypts.
	GossipKeys [][]byte
	// Finder, if set, finds the masters instead of gossip.
	Finder Finder
	// Listener serves the agent's HTTP API, and belongs to the agent from New on.
	// If nil, New listens on IP and Port.
	Listener net.Listener
	// IP and Port to listen on; empty: the address of the hostname, see
	// hostinfo. Port 0: any.
	IP   string
	Port int
	// AdvertiseIP and AdvertisePort are where others reach the agent, if elsewhere.
	AdvertiseIP   string
	AdvertisePort int
	// Hostname of the agent; empty: looked up.
	Hostname       string
	HostnameLookup bool

	// WorkDir holds sandboxes, volumes and the checkpoint. Required, absolute.
	WorkDir string
	// RuntimeDir holds what does not outlive the boot. Required, absolute.
	RuntimeDir string

	// Resources and Attributes in the syntax of their flags. What Resources does
	// not name is detected.
	Resources   string
	DefaultRole string
	Attributes  string
	Domain      *mesos.DomainInfo

	// Containerizer runs the containers and is not closed by the agent. If nil,
	// one is made of Containers (whose WorkDir and RuntimeDir are the agent's).
	Containerizer isolation.Containerizer
	Containers    setup.Options
	// ContainerLogger says what becomes of the output of containers; nil: it grows.
	ContainerLogger *containerlogger.Logger

	// MaxLaunches bounds the containers that are being launched at one time.
	MaxLaunches int

	RegistrationBackoffFactor     time.Duration
	ExecutorRegistrationTimeout   time.Duration
	ExecutorReregistrationTimeout time.Duration
	ExecutorShutdownGracePeriod   time.Duration
	RecoveryTimeout               time.Duration
	ReconfigurationPolicy         string
	Recover                       string
	Strict                        bool
	SwitchUser                    bool
	EnableCFS                     bool
	ExecutorEnvironment           map[string]string
	DefaultContainerInfo          *mesos.ContainerInfo
	MaxCompletedExecutors         int

	// HTTPHeartbeatInterval (--http_heartbeat_interval) is that of heartbeats to who reads
	// along with a container.
	HTTPHeartbeatInterval time.Duration

	FrameworksHome      string
	HadoopHome          string
	FetcherStallTimeout time.Duration
	// FetcherCacheDir holds up to FetcherCacheSize bytes of what was fetched; zero: nothing.
	FetcherCacheDir  string
	FetcherCacheSize int64

	GCDelay           time.Duration
	GCDiskHeadroom    float64
	DiskWatchInterval time.Duration
	// GCNonExecutorContainers (--gc_non_executor_container_sandboxes) collects sandboxes of
	// nested containers too, and does not wait for the end of what they are nested in.
	GCNonExecutorContainers bool

	// Realms authenticate who sends requests; a realm that is missing asks nobody.
	Realms authn.Realms
	// ACLs (--acls) say who may do what, until [Agent.SetPolicy]; nil: all may.
	ACLs *authz.ACLs
	// TLS is how this agent shows itself and checks others; nil: in clear.
	TLS *tlsconf.Identity
	// Credential (--credential) is whom the agent is to its masters; nil: nobody.
	Credential *authn.Credential
	// DomainSocket is the path of a Unix socket by which executors reach the agent
	// (--domain_socket_location). Empty: they come by TCP; but with TLS, which not all
	// executors can do, by agent.sock in RuntimeDir.
	DomainSocket string
	// ExecutorTokens makes and checks the tokens of executors (--jwt_secret_key); nil: none.
	ExecutorTokens *authn.ExecutorTokens

	// Disabled (--firewall_rules) are paths that answer 403.
	Disabled []string
	// MaxConnections (--max_connections) of HTTP clients; zero: half of the files that this
	// process may open.
	MaxConnections int
	// ReadHeaderTimeout (--read_header_timeout) is how long a client may take to say what it
	// wants; zero: for ever.
	ReadHeaderTimeout time.Duration
	// OnAudit, if set, is told of every request that was to change something.
	OnAudit func(r *http.Request, a httpapi.Audited)

	// Flags are shown by /flags and /state.
	Flags []flags.Pair
	// Described are the same with defaults and help, for /api/clusterd/v1/flags.
	Described []flags.Described
	// Log takes the log. Verbosity, if set, is what /logging/toggle switches.
	Log       zerolog.Logger
	Verbosity *httpapi.Verbosity
	// Metrics, if set, is where the agent's metrics are registered.
	Metrics *metrics.Registry

	// wrapStore lets tests break the disk.
	wrapStore func(checkpoint.Store) checkpoint.Store
}

// DefaultOptions returns the defaults of the flags (src/slave/flags.cpp).
func DefaultOptions() Options {
	return Options{
		Port:           5051,
		HostnameLookup: true,
		DefaultRole:    "*",
		Containers:     setup.Options{Launcher: "posix", Isolation: setup.DefaultIsolation},
		MaxLaunches:    16,

		RegistrationBackoffFactor:     time.Second,
		ExecutorRegistrationTimeout:   time.Minute,
		ExecutorReregistrationTimeout: 2 * time.Second,
		ExecutorShutdownGracePeriod:   5 * time.Second,
		RecoveryTimeout:               15 * time.Minute,
		ReconfigurationPolicy:         "equal",
		Recover:                       "reconnect",
		Strict:                        true,
		SwitchUser:                    true,
		MaxCompletedExecutors:         150,

		FetcherStallTimeout: time.Minute,

		HTTPHeartbeatInterval: DefaultHTTPHeartbeatInterval,

		ReadHeaderTimeout: 30 * time.Second,

		GCDelay:           7 * 24 * time.Hour,
		GCDiskHeadroom:    0.1,
		DiskWatchInterval: time.Minute,

		Log: zerolog.Nop(),
	}
}

func (o *Options) validate() error {
	bad := func(format string, args ...any) error {
		return fmt.Errorf("%w: %s", ErrInvalidOption, fmt.Sprintf(format, args...))
	}
	switch {
	case len(o.Masters)+len(o.Join) == 0 && o.Finder == nil:
		return bad("no address of a master")
	case !filepath.IsAbs(o.WorkDir):
		return bad("work_dir %q is not an absolute path", o.WorkDir)
	case !filepath.IsAbs(o.RuntimeDir):
		return bad("runtime_dir %q is not an absolute path", o.RuntimeDir)
	case len(o.domainSocket()) > maxSocketPath:
		return bad("the path of the socket of executors, %q, is longer than %d bytes: name another with domain_socket_location",
			o.domainSocket(), maxSocketPath)
	case o.DomainSocket != "" && !filepath.IsAbs(o.DomainSocket):
		return bad("domain_socket_location %q is not an absolute path", o.DomainSocket)
	case o.FetcherCacheSize > 0 && !filepath.IsAbs(o.FetcherCacheDir):
		return bad("fetcher_cache_dir %q is not an absolute path", o.FetcherCacheDir)
	case o.MaxLaunches <= 0:
		return bad("at least one container must be allowed to launch at a time")
	case o.RegistrationBackoffFactor <= 0 || o.ExecutorRegistrationTimeout <= 0:
		return bad("registration_backoff_factor and executor_registration_timeout must be positive")
	case o.ExecutorReregistrationTimeout < 0 || o.ExecutorReregistrationTimeout > 15*time.Second:
		return bad("executor_reregistration_timeout %s is not between 0secs and 15secs", o.ExecutorReregistrationTimeout)
	case o.ExecutorShutdownGracePeriod < 0 || o.RecoveryTimeout < 0 || o.GCDelay < 0:
		return bad("a duration is negative")
	case o.HTTPHeartbeatInterval <= 0:
		return bad("http_heartbeat_interval must be positive")
	case o.DiskWatchInterval <= 0:
		return bad("disk_watch_interval must be positive")
	case o.GCDiskHeadroom < 0 || o.GCDiskHeadroom > 1:
		return bad("gc_disk_headroom %v is not between 0 and 1", o.GCDiskHeadroom)
	case o.MaxCompletedExecutors < 0:
		return bad("max_completed_executors_per_framework is negative")
	}
	switch o.ReconfigurationPolicy {
	case "equal", "additive", "any":
	default:
		return bad("reconfiguration_policy %q is none of equal, additive, any", o.ReconfigurationPolicy)
	}
	switch o.Recover {
	case "reconnect", "cleanup":
	default:
		return bad("recover %q is neither reconnect nor cleanup", o.Recover)
	}
	return nil
}
