package cli

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"math"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/rs/zerolog"
	cliv2 "github.com/urfave/cli/v2"
	"golang.org/x/term"

	"clusterd/agent"
	"clusterd/allocator"
	"clusterd/allocator/resources"
	mesos "clusterd/api/mesos/v1"
	"clusterd/api/mesosjson"
	"clusterd/internal/cli/console"
	"clusterd/internal/flags"
	"clusterd/internal/httpapi"
	"clusterd/internal/logs"
	"clusterd/internal/metrics"
	"clusterd/internal/units"
	"clusterd/internal/version"
	"clusterd/server"
	"clusterd/server/core"
)

// stopPatience bounds the orderly end of a daemon.
const stopPatience = 10 * time.Second

// daemon is a master or an agent.
type daemon interface {
	Start(ctx context.Context) error
	Stop(ctx context.Context) error
	Done() <-chan struct{}
	Err() error
}

func masterCommand(e env) *cliv2.Command {
	return daemonCommand(e, "master", "run a master", flags.Master(), nil, func(ctx context.Context, e env, v *flags.Values) error {
		journal, verbosity, err := openLogs(e, v, "mesos-master")
		if err != nil {
			return err
		}
		defer closing(journal)
		log := journal.Logger()
		opts, err := masterOptions(ctx, v)
		if err != nil {
			return err
		}
		opts.Logger, opts.Verbosity, opts.Metrics = log, verbosity, metrics.NewRegistry()
		journal.Publish(opts.Metrics)
		sec, err := masterSecurity(v, os.Environ(), log, opts.Metrics)
		if err != nil {
			return err
		}
		defer sec.close()
		opts.Realms, opts.Login, opts.ACLs, opts.TLS, opts.OnAudit = sec.Realms, sec.Login, sec.acls, sec.tls, sec.audit.Record
		s, err := server.New(opts)
		if err != nil {
			return err
		}
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		sec.watch(ctx, journal, s)
		return serve(ctx, log, s)
	})
}

// agentCommand runs an agent, or with a verb looks at those of a cluster.
func agentCommand(e env, verbs []*cliv2.Command) *cliv2.Command {
	return daemonCommand(e, "agent", "run an agent; with a verb: look at agents of a cluster, drain and remove them", flags.Agent(), verbs, func(ctx context.Context, e env, v *flags.Values) error {
		journal, verbosity, err := openLogs(e, v, "mesos-slave")
		if err != nil {
			return err
		}
		defer closing(journal)
		log := journal.Logger()
		opts, err := agentOptions(ctx, v)
		if err != nil {
			return err
		}
		opts.Log, opts.Verbosity, opts.Metrics = log, verbosity, metrics.NewRegistry()
		journal.Publish(opts.Metrics)
		chooseLauncher(&opts, log)
		sec, err := agentSecurity(v, os.Environ(), log, opts.Metrics)
		if err != nil {
			return err
		}
		defer sec.close()
		opts.OnAudit = sec.audit.Record
		opts.Realms, opts.ACLs, opts.TLS, opts.ExecutorTokens = sec.Realms, sec.acls, sec.tls, sec.ExecutorTokens
		if opts.Credential, err = agentCredential(v, log); err != nil {
			return err
		}
		a, err := agent.New(opts)
		if err != nil {
			return err
		}
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		sec.watch(ctx, journal, a)
		leave := make(chan os.Signal, 1)
		signal.Notify(leave, syscall.SIGUSR1)
		defer signal.Stop(leave)
		go func() {
			select {
			case <-leave:
				a.Leave("asked to leave by SIGUSR1")
			case <-a.Done():
			}
		}()
		return serve(ctx, log, a)
	})
}

// daemonCommand makes a command whose flags are Mesos's, read by our own engine.
func daemonCommand(e env, name, usage string, set *flags.Set, verbs []*cliv2.Command, run func(context.Context, env, *flags.Values) error) *cliv2.Command {
	return &cliv2.Command{
		Name:            name,
		Usage:           usage,
		SkipFlagParsing: true,
		HideHelp:        true,
		Subcommands:     verbs,
		BashComplete: func(c *cliv2.Context) {
			word := c.Args().Get(c.NArg() - 1)
			for _, s := range set.Complete(word) {
				fmt.Fprintln(e.Out, s)
			}
		},
		Action: func(c *cliv2.Context) error {
			if word := c.Args().First(); len(verbs) > 0 && word != "" && !strings.HasPrefix(word, "-") {
				return console.UnknownVerb(c.Command, word)
			}
			v, err := set.Parse(c.Args().Slice(), os.Environ())
			if err != nil {
				return console.Hint(err, "clusterd %s --help lists the flags", name)
			}
			switch {
			case v.Bool("help"):
				fmt.Fprintf(e.Out, "clusterd %s - %s\n\n", name, usage)
				for _, verb := range verbs {
					fmt.Fprintf(e.Out, "  clusterd %s %-14s %s\n", name, verb.Name, verb.Usage)
				}
				if len(verbs) > 0 {
					fmt.Fprintln(e.Out)
				}
				return set.Usage(e.Out)
			case v.Bool("version"):
				fmt.Fprintln(e.Out, version.String())
				return nil
			}
			for _, w := range v.Warnings() {
				fmt.Fprintf(e.Err, "clusterd: warning: %s\n", w)
			}
			return run(c.Context, e, v)
		},
	}
}

// closing ends the log; there is nowhere to say that it failed.
func closing(journal *logs.Logs) { _ = journal.Close() }

func stop(d daemon) error {
	ctx, cancel := context.WithTimeout(context.Background(), stopPatience)
	defer cancel()
	return d.Stop(ctx)
}

// openLogs begins to log: for people on a terminal, else one JSON object a line.
func openLogs(e env, v *flags.Values, program string) (*logs.Logs, *httpapi.Verbosity, error) {
	o := logs.Options{
		Program: program, Dir: v.Path("log_dir"), Level: v.String("logging_level"),
		Buffer: time.Duration(v.Int("logbufsecs")) * time.Second, External: v.Path("external_log_file"),
		Verbosity: httpapi.NewVerbosity(0),
	}
	if !v.Bool("quiet") {
		o.Stderr = logWriter(e.Err)
	}
	l, err := logs.Open(o)
	return l, o.Verbosity, err
}

func logWriter(w io.Writer) io.Writer {
	if f, ok := w.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		return zerolog.ConsoleWriter{Out: w, TimeFormat: "15:04:05.000"}
	}
	return w
}

// listenIP is --ip, or what --ip_discovery_command prints.
func listenIP(ctx context.Context, v *flags.Values) (string, error) {
	command := v.Path("ip_discovery_command")
	if command == "" {
		return v.String("ip"), nil
	}
	out, err := exec.CommandContext(ctx, "sh", "-c", command).Output()
	if err != nil {
		return "", fmt.Errorf("--ip_discovery_command: %w", err)
	}
	ip := strings.TrimSpace(string(out))
	if net.ParseIP(ip) == nil {
		return "", fmt.Errorf("--ip_discovery_command: %w: it printed %q, not an IP address", flags.ErrInvalidValue, ip)
	}
	return ip, nil
}

func domain(v *flags.Values) (*mesos.DomainInfo, error) {
	text := v.String("domain")
	if text == "" {
		return nil, nil
	}
	d := &mesos.DomainInfo{}
	if err := mesosjson.Unmarshal([]byte(text), d); err != nil {
		return nil, fmt.Errorf("--domain: %w: %w", flags.ErrInvalidValue, err)
	}
	return d, nil
}

func masterOptions(ctx context.Context, v *flags.Values) (server.Options, error) {
	o := server.DefaultOptions()
	var err error
	if o.IP, err = listenIP(ctx, v); err != nil {
		return o, err
	}
	if o.Domain, err = domain(v); err != nil {
		return o, err
	}
	o.Port = v.Int("port")
	o.AdvertiseIP, o.AdvertisePort = v.String("advertise_ip"), v.Int("advertise_port")
	o.Hostname, o.HostnameLookup = v.String("hostname"), v.Bool("hostname_lookup")
	o.Cluster = v.String("cluster")
	o.WorkDir, o.InMemory = v.Path("work_dir"), v.String("registry") == "in_memory"
	o.RegistryStoreTimeout = v.Duration("registry_store_timeout")
	o.RegistryFetchTimeout = v.Duration("registry_fetch_timeout")
	o.Whitelist = v.Path("whitelist")
	if err := groupOptions(v, &o); err != nil {
		return o, err
	}
	if err := limitOptions(v, &o); err != nil {
		return o, err
	}
	o.LogDir, o.ExternalLogFile = v.Path("log_dir"), v.Path("external_log_file")
	for _, p := range v.All() {
		o.Flags = append(o.Flags, flags.Pair{Name: p.Name, Value: p.Value})
	}
	o.Described = v.Describe()
	if err := coreOptions(v, &o.Core); err != nil {
		return o, err
	}
	return o, allocatorOptions(v, &o.Allocator)
}

// groupOptions are how a master finds the others and agrees with them.
func groupOptions(v *flags.Values, o *server.Options) (err error) {
	o.BootstrapExpect = v.Int("bootstrap_expect")
	o.Join = v.List("join")
	if len(o.Join) > 0 && !v.Given("bootstrap_expect") {
		o.BootstrapExpect = 0 // there is a cluster to join
	}
	o.NodeID = v.String("node_id")
	o.RaftBind = net.JoinHostPort(o.IP, strconv.Itoa(v.Int("raft_port")))
	o.RaftAdvertise = v.String("raft_advertise")
	o.RaftHeartbeatTimeout = v.Duration("raft_heartbeat_timeout")
	if o.InMemory {
		return nil // alone, for a test
	}
	o.GossipBind = net.JoinHostPort(o.IP, strconv.Itoa(v.Int("gossip_port")))
	o.GossipAdvertise = v.String("gossip_advertise")
	if o.GossipKeys, err = flags.ParseGossipKeys(v.String("gossip_key")); err != nil {
		return fmt.Errorf("--gossip_key: %w", err)
	}
	return nil
}

// limitOptions are what protects a master from too much.
func limitOptions(v *flags.Values, o *server.Options) (err error) {
	if o.Disabled, err = disabled(v); err != nil {
		return err
	}
	if text := v.String("rate_limits"); text != "" {
		if o.RateLimits, err = server.ParseRateLimits([]byte(text)); err != nil {
			return fmt.Errorf("--rate_limits: %w: %w", flags.ErrInvalidValue, err)
		}
	}
	o.MaxConnections, o.ReadHeaderTimeout = v.Int("max_connections"), v.Duration("read_header_timeout")
	o.WebUIDir = v.String("webui_dir")
	o.MaxSubscribers, o.MaxEventHistory = v.Int("max_operator_event_stream_subscribers"), v.Int("max_event_history")
	o.Weights, err = flags.ParseWeights(v.String("weights"))
	return err
}

// disabled are the endpoints that --firewall_rules refuses.
func disabled(v *flags.Values) ([]string, error) {
	text := v.String("firewall_rules")
	if text == "" {
		return nil, nil
	}
	paths, err := httpapi.ParseFirewall([]byte(text))
	if err != nil {
		return nil, fmt.Errorf("--firewall_rules: %w: %w", flags.ErrInvalidValue, err)
	}
	return paths, nil
}

func coreOptions(v *flags.Values, c *core.Config) error {
	c.AutomaticMaintenance = v.Bool("automatic_maintenance")
	c.AllocationInterval = v.Duration("allocation_interval")
	c.OfferTimeout = v.Duration("offer_timeout")
	c.AgentPingTimeout = v.Duration("agent_ping_timeout")
	c.MaxAgentPingTimeouts = v.Int("max_agent_ping_timeouts")
	c.AgentReregisterTimeout = v.Duration("agent_reregister_timeout")
	c.AllocatorAgentRecoveryFactor = v.Float("allocator_agent_recovery_factor")
	c.AllocatorRecoveryTimeout = v.Duration("allocator_recovery_timeout")
	c.ConstraintRegexps = allocator.RegexpLimits{
		MaxMemory:      int64(min(v.Bytes("offer_constraints_re2_max_mem"), math.MaxInt64)),
		MaxProgramSize: v.Int("offer_constraints_re2_max_program_size"),
	}
	c.RecoveryAgentRemovalLimit = new(v.Float("recovery_agent_removal_limit"))
	if v.Has("non_checkpointing_grace") {
		c.NonCheckpointingGrace = new(v.Duration("non_checkpointing_grace"))
	}
	if text := v.String("agent_removal_rate_limit"); text != "" {
		n, per, err := units.ParseRate(text)
		if err != nil {
			return fmt.Errorf("--agent_removal_rate_limit: %w", err)
		}
		c.AgentRemovalRateLimit = &core.RateLimit{N: n, Per: per}
	}
	if v.Has("roles") {
		c.Roles = v.List("roles")
	}
	c.RootSubmissions = v.Bool("root_submissions")
	c.RequireAgentDomain = v.Bool("require_agent_domain")
	c.MaxCompletedFrameworks = v.Int("max_completed_frameworks")
	c.MaxCompletedTasks = v.Int("max_completed_tasks_per_framework")
	c.MaxUnreachableTasks = v.Int("max_unreachable_tasks_per_framework")
	c.RegistryGCInterval = v.Duration("registry_gc_interval")
	c.RegistryMaxAgentAge = v.Duration("registry_max_agent_age")
	c.RegistryMaxAgentCount = v.Int("registry_max_agent_count")
	c.PublishFrameworkMetrics = v.Bool("publish_per_framework_metrics")
	return nil
}

func allocatorOptions(v *flags.Values, o *allocator.Options) error {
	o.Interval = v.Duration("allocation_interval")
	o.RoleSorter, o.FrameworkSorter = v.String("role_sorter"), v.String("framework_sorter")
	o.Placement = v.String("allocator_placement")
	o.FairnessExclude = v.List("fair_sharing_excluded_resource_names")
	o.FilterGPUResources = v.Bool("filter_gpu_resources")
	var err error
	if o.MinAllocatable, err = allocator.ParseMinAllocatable(v.String("min_allocatable_resources")); err != nil {
		return fmt.Errorf("--min_allocatable_resources: %w: %w", flags.ErrInvalidValue, err)
	}
	return nil
}

func agentOptions(ctx context.Context, v *flags.Values) (agent.Options, error) {
	o := agent.DefaultOptions()
	var err error
	if o.IP, err = listenIP(ctx, v); err != nil {
		return o, err
	}
	if o.Domain, err = domain(v); err != nil {
		return o, err
	}
	o.Masters, o.Join, o.NodeID = v.List("master"), v.List("join"), v.String("node_id")
	o.GossipBind = net.JoinHostPort(o.IP, strconv.Itoa(v.Int("gossip_port")))
	o.GossipAdvertise = v.String("gossip_advertise")
	if o.GossipKeys, err = flags.ParseGossipKeys(v.String("gossip_key")); err != nil {
		return o, fmt.Errorf("--gossip_key: %w", err)
	}
	for _, dir := range []struct {
		flag string
		to   *string
	}{{"work_dir", &o.WorkDir}, {"runtime_dir", &o.RuntimeDir}} {
		if *dir.to, err = filepath.Abs(v.Path(dir.flag)); err != nil {
			return o, fmt.Errorf("--%s: %w", dir.flag, err)
		}
	}
	if v.Bool("http_executor_domain_sockets") || v.Has("domain_socket_location") {
		o.DomainSocket = cmp.Or(v.String("domain_socket_location"), filepath.Join(o.RuntimeDir, "agent.sock"))
	}
	if _, err = resources.Parse(v.String("resources"), v.String("default_role")); err != nil {
		return o, fmt.Errorf("--resources: %w: %w", flags.ErrInvalidValue, err)
	}
	if text := v.String("default_container_info"); text != "" {
		o.DefaultContainerInfo = &mesos.ContainerInfo{}
		if err := mesosjson.Unmarshal([]byte(text), o.DefaultContainerInfo); err != nil {
			return o, fmt.Errorf("--default_container_info: %w: %w", flags.ErrInvalidValue, err)
		}
	}
	if o.ExecutorEnvironment, err = flags.ParseStringMap(v.String("executor_environment_variables")); err != nil {
		return o, fmt.Errorf("--executor_environment_variables: %w", err)
	}
	o.Port = v.Int("port")
	o.AdvertiseIP, o.AdvertisePort = v.String("advertise_ip"), v.Int("advertise_port")
	o.Hostname, o.HostnameLookup = v.String("hostname"), v.Bool("hostname_lookup")
	o.Resources, o.DefaultRole, o.Attributes = v.String("resources"), v.String("default_role"), v.String("attributes")
	if o.Containers, err = containerOptions(v); err != nil {
		return o, err
	}
	if o.ContainerLogger, err = containerLogger(v); err != nil {
		return o, err
	}
	o.HTTPHeartbeatInterval = v.Duration("http_heartbeat_interval")
	o.RegistrationBackoffFactor = v.Duration("registration_backoff_factor")
	o.ExecutorRegistrationTimeout = v.Duration("executor_registration_timeout")
	o.ExecutorReregistrationTimeout = v.Duration("executor_reregistration_timeout")
	o.ExecutorShutdownGracePeriod = v.Duration("executor_shutdown_grace_period")
	o.RecoveryTimeout = v.Duration("recovery_timeout")
	o.ReconfigurationPolicy, o.Recover, o.Strict = v.String("reconfiguration_policy"), v.String("recover"), v.Bool("strict")
	o.SwitchUser = v.Bool("switch_user")
	o.MaxCompletedExecutors = v.Int("max_completed_executors_per_framework")
	if o.Disabled, err = disabled(v); err != nil {
		return o, err
	}
	o.MaxConnections, o.ReadHeaderTimeout = v.Int("max_connections"), v.Duration("read_header_timeout")
	o.FrameworksHome, o.HadoopHome, o.FetcherStallTimeout = v.Path("frameworks_home"), v.Path("hadoop_home"), v.Duration("fetcher_stall_timeout")
	o.FetcherCacheDir, o.FetcherCacheSize = v.Path("fetcher_cache_dir"), int64(min(v.Bytes("fetcher_cache_size"), math.MaxInt64))
	o.GCDelay, o.GCDiskHeadroom, o.DiskWatchInterval = v.Duration("gc_delay"), v.Float("gc_disk_headroom"), v.Duration("disk_watch_interval")
	o.GCNonExecutorContainers = v.Bool("gc_non_executor_container_sandboxes")
	o.Flags, o.Described = v.All(), v.Describe()
	return o, nil
}
