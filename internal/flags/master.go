package flags

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// Ports of a cluster, one place for all defaults.
const (
	DefaultMasterPort       = 5050
	DefaultAgentPort        = 5051
	DefaultRaftPort         = 5052
	DefaultMasterGossipPort = 5053
	DefaultAgentGossipPort  = 5054
)

// Master returns the flags of `clusterd master`: those of
// src/master/flags.cpp, the removed ones, and clusterd's own.
func Master() *Set {
	return NewSet("master", masterCheck, common(), masterFlags(), masterAllocatorFlags(), masterSecurityFlags(), masterOwnFlags())
}

func masterFlags() []Flag {
	return []Flag{
		{Name: "port", Type: Int, Default: "5050", Help: "Port to listen on.", Check: validPort, Env: []string{"LIBPROCESS_PORT"}},
		{Name: "work_dir", Type: Path, Help: "Directory of the registry (Raft log and snapshots)."},
		{Name: "cluster", Help: "Name of the cluster, shown in /state and the web UI."},
		{Name: "root_submissions", Type: Bool, Default: "true", Help: "Whether frameworks and tasks may run as root."},
		{Name: "webui_dir", Type: Path, Help: "Directory of web UI files to serve instead of the built-in ones."},

		{Name: "registry", Default: "replicated_log", Help: "Where the registry lives: raft (also called replicated_log) or in_memory (for tests).", Check: oneOf("replicated_log", "raft", "in_memory")},
		{Name: "registry_fetch_timeout", Type: Duration, Default: "1mins", Help: "How long a new leader may take to apply what the registry holds.", Check: positive},
		{Name: "registry_store_timeout", Type: Duration, Default: "20secs", Help: "How long writing the registry may take.", Check: positive},
		{Name: "registry_strict", Type: Bool, Default: "false", Help: "Never finished in Mesos; only false is accepted.", State: Replaced, Note: "has no effect, as in Mesos", Check: func(v Value) error {
			if v.b {
				return errors.New("support for --registry_strict has been disabled")
			}
			return nil
		}},
		{Name: "registry_gc_interval", Type: Duration, Default: "15mins", Help: "How often unreachable and gone agents are pruned.", Check: positive},
		{Name: "registry_max_agent_age", Type: Duration, Default: "2weeks", Help: "How long unreachable and gone agents are remembered."},
		{Name: "registry_max_agent_count", Type: Int, Default: "102400", Help: "How many unreachable and gone agents are remembered.", Check: atLeast(0)},
		{Name: "log_auto_initialize", Type: Bool, Default: "true", Help: "Whether an empty replicated log initializes itself.", State: Replaced, Note: "an empty --work_dir founds a new cluster"},
		{Name: "quorum", Type: Int, Help: "Majority of the masters.", State: Replaced, Note: noteRaftLog, Check: atLeast(1)},
		{Name: "zk", Help: "ZooKeeper URL for leader election.", State: Replaced, Note: noteZooKeeper, Check: zkURL},
		{Name: "master_contender", Help: "Module that contends for leadership.", State: Replaced, Note: noteModules},
		{Name: "master_detector", Help: "Module that detects the leader.", State: Replaced, Note: noteModules},

		{Name: "agent_reregister_timeout", Type: Duration, Default: "10mins", Aliases: []string{"slave_reregister_timeout"}, Help: "How long agents have to come back before they are marked unreachable; at least 10mins.", Check: between(10*time.Minute, 100*365*24*time.Hour)},
		{Name: "recovery_agent_removal_limit", Type: Percent, Default: "100%", Aliases: []string{"recovery_slave_removal_limit"}, Help: "If more than this share of the agents does not return after a failover, the master exits rather than remove them."},
		{Name: "agent_removal_rate_limit", Aliases: []string{"slave_removal_rate_limit"}, Help: "How fast agents may be marked unreachable, such as 1/10mins.", Check: rate},
		{Name: "agent_ping_timeout", Type: Duration, Default: "15secs", Aliases: []string{"slave_ping_timeout"}, Help: "Time an agent has to answer one ping.", Check: between(time.Second, 15*time.Minute)},
		{Name: "max_agent_ping_timeouts", Type: Int, Default: "5", Aliases: []string{"max_slave_ping_timeouts"}, Help: "Unanswered pings after which an agent is unreachable.", Check: atLeast(1)},
		{Name: "max_executors_per_agent", Type: Int, Aliases: []string{"max_executors_per_slave"}, Help: "Running executors at which an agent is offered no more.", State: Accepted, Check: atLeast(0)},
		{Name: "require_agent_domain", Type: Bool, Default: "false", Help: "Refuse agents that have no --domain."},

		{Name: "max_completed_frameworks", Type: Int, Default: "50", Help: "Ended frameworks to remember.", Check: atLeast(0)},
		{Name: "max_completed_tasks_per_framework", Type: Int, Default: "1000", Help: "Ended tasks to remember for each framework.", Check: atLeast(0)},
		{Name: "max_unreachable_tasks_per_framework", Type: Int, Default: "1000", Help: "Unreachable tasks to remember for each framework.", Check: atLeast(0)},
		{Name: "max_operator_event_stream_subscribers", Type: Int, Default: "1000", Help: "Operator event streams to serve at once; the oldest is closed beyond that.", Check: atLeast(1)},
		{Name: "publish_per_framework_metrics", Type: Bool, Default: "true", Help: "Publish metrics of each framework."},
	}
}

func masterAllocatorFlags() []Flag {
	return []Flag{
		{Name: "allocation_interval", Type: Duration, Default: "1secs", Help: "Time between full allocations; changes are offered at once without waiting for one.", Check: positive},
		{Name: "allocator", Default: "hierarchical", Help: "Allocator: hierarchical (also called HierarchicalDRF).", Check: oneOf("hierarchical", "HierarchicalDRF")},
		{Name: "role_sorter", Default: "drf", Aliases: []string{"user_sorter"}, Help: "Order between roles: drf or random.", Check: oneOf("drf", "random")},
		{Name: "framework_sorter", Default: "drf", Help: "Order of the frameworks of one role: drf or random.", Check: oneOf("drf", "random")},
		{Name: "allocator_agent_recovery_factor", Type: Float, Default: "0.8", Help: "Share of the known agents that must return after a failover before roles with a quota are offered what counts towards it.", Check: fraction},
		{Name: "allocator_recovery_timeout", Type: Duration, Default: "10mins", Help: "Longest wait for that share."},
		{Name: "fair_sharing_excluded_resource_names", Help: "Resources that do not count for fair shares, such as gpus."},
		{Name: "filter_gpu_resources", Type: Bool, Default: "true", Help: "Offer agents with GPUs to frameworks with GPU_RESOURCES only."},
		{Name: "min_allocatable_resources", Default: "cpus:0.01|mem:32", Help: "Least resources worth offering; alternatives separated by |."},
		{Name: "offer_timeout", Type: Duration, Help: "Rescind offers older than this.", Check: positive},
		{Name: "offer_constraints_re2_max_mem", Type: Bytes, Default: "4KB", Help: "Memory limit of a regular expression in offer constraints.", Check: func(v Value) error {
			if v.by == 0 {
				return errors.New("must be positive")
			}
			return nil
		}},
		{Name: "offer_constraints_re2_max_program_size", Type: Int, Default: "100", Help: "Size limit of a compiled regular expression in offer constraints.", Check: atLeast(1)},
		{Name: "roles", Help: "Roles that may be used; unset: any. Deprecated."},
		{Name: "weights", Help: "role=weight,role=weight for a registry that has none. Deprecated: use /weights.", Check: weights},
		{Name: "whitelist", Type: Path, Help: "File of host names that may get offers, read every 5 s."},
	}
}

func masterSecurityFlags() []Flag {
	return []Flag{
		{Name: "oidc_client_id", Help: "What the OpenID provider (--oidc_issuer) knows the web UI as; with it people log in there. Must be among what --oidc_audience takes."},
		{Name: "oidc_client_secret", Type: Path, Help: "File of the client's secret; unset: a public client, which PKCE is enough for."},
		{Name: "oidc_redirect_url", Help: "Where the provider sends people back to, as it is registered there: .../api/clusterd/v1/session/oidc/callback; unset: at the address that they came to."},
		{Name: "oidc_scopes", List: true, Help: "Scopes asked for besides openid; unset: profile and email."},
		{Name: "rate_limits", Type: JSON, Help: "Calls a second of frameworks by principal, a RateLimits; calls above wait, and are answered 429 beyond the capacity."},
		{Name: "authenticate_frameworks", Type: Bool, Default: "false", Aliases: []string{"authenticate"}, Help: "Ask frameworks who they are: as --authenticate_http_frameworks, for there are no others."},
		{Name: "authenticate_agents", Type: Bool, Default: "false", Aliases: []string{"authenticate_slaves"}, Help: "Ask agents who they are."},
		{Name: "authentication_v0_timeout", Type: Duration, Default: "15secs", Help: "Time for the CRAM-MD5 handshake.", State: Replaced, Note: noteV0},
		{Name: "authenticate_http_frameworks", Type: Bool, Default: "false", Help: "Ask frameworks who they are; it must be the principal of their FrameworkInfo."},
		{Name: "authenticators", Default: "crammd5", List: true, Help: "How agents may show who they are: those of --http_authenticators; crammd5 stands for basic."},
		{Name: "http_framework_authenticators", List: true, Help: "How frameworks may show who they are; unset: as --http_authenticators."},
		{Name: "credentials", Type: Path, Help: "JSON file of principals and secrets, in clear or bcrypt; read again when it changes."},
		{Name: "authorizers", Default: "local", Help: "Authorizer: local.", Check: oneOf("local"), State: Replaced, Note: "there is one authorizer, and --acls are its rules"},
	}
}

func masterOwnFlags() []Flag {
	return []Flag{
		{Name: "join", List: true, Help: "Addresses of other nodes (host, host:port; comma list, repeatable) through which this one finds the cluster."},
		{Name: "bootstrap_expect", Type: Int, Default: "1", Help: "Masters that must see each other before they found a new cluster, once; 0: found none, join one. With --join the default is 0.", Check: expectation},
		{Name: "automatic_maintenance", Type: Bool, Default: "false", Help: "Take machines down when their window of the maintenance schedule begins, and up when it ends."},
		{Name: "max_event_history", Type: Int, Default: "65536", Help: "Events that are kept for those who watch the cluster and were away.", Check: atLeast(1)},
		{Name: "allocator_placement", Default: "random", Help: "In which order agents are given out, whoever is next: random, spread (the least used first) or pack (the most used first).", Check: oneOf("random", "spread", "pack")},
		{Name: "non_checkpointing_grace", Type: Duration, Help: "How long tasks of frameworks that do not checkpoint are kept when the link to their agent breaks; 0secs: not at all, as in Mesos; unset: --agent_ping_timeout times --max_agent_ping_timeouts.", Check: between(0, 100*365*24*time.Hour)},
		{Name: "raft_port", Type: Int, Default: "5052", Help: "Port of the Raft transport.", Check: validPort},
		{Name: "raft_advertise", Help: "host:port under which other masters reach this one's Raft.", Check: hostPort},
		{Name: "raft_heartbeat_timeout", Type: Duration, Default: "1secs", Help: "How long masters hear nothing of the leader before they elect another; longer where the network between them is slow. The same on all masters.", Check: between(20*time.Millisecond, time.Minute)},
		{Name: "gossip_port", Type: Int, Default: "5053", Help: "Port of gossip.", Check: validPort},
	}
}

// expectation accepts a number of masters: odd ones survive as much as the even
// ones above them, more than nine only cost.
func expectation(v Value) error {
	if v.i < 0 || v.i > 9 {
		return errors.New("a cluster is founded by 1 to 9 masters, best 3 or 5")
	}
	return nil
}

func masterCheck(v *Values) error {
	if err := commonCheck(v); err != nil {
		return err
	}
	if v.String("registry") == "in_memory" && (v.Int("bootstrap_expect") > 1 || v.Given("join")) {
		return fmt.Errorf("%w: --registry=in_memory is for one master alone: several masters need a disk to keep their votes", ErrInvalidValue)
	}
	if v.String("registry") != "in_memory" && v.String("work_dir") == "" {
		return fmt.Errorf("%w: --work_dir is needed for the registry (or --registry=in_memory for a test)", ErrMissingFlag)
	}
	if v.Given("zk") {
		if err := exclusive(v, "zk", "master_contender"); err != nil {
			return err
		}
		if err := exclusive(v, "zk", "master_detector"); err != nil {
			return err
		}
	}
	if v.Given("master_contender") != v.Given("master_detector") {
		return fmt.Errorf("%w: --master_contender and --master_detector go together", ErrInvalidValue)
	}
	if v.Given("quorum") && v.Given("bootstrap_expect") && 2*v.Int("quorum")-1 < v.Int("bootstrap_expect") {
		return fmt.Errorf("%w: --quorum=%d is no majority of %d masters", ErrInvalidValue, v.Int("quorum"), v.Int("bootstrap_expect"))
	}
	return nil
}

// weights accepts role=weight,role=weight.
func weights(v Value) error {
	_, err := ParseWeights(v.Text)
	return err
}

// ParseWeights reads the value of --weights.
func ParseWeights(text string) (map[string]float64, error) {
	out := make(map[string]float64)
	for pair := range strings.SplitSeq(text, ",") {
		if pair == "" {
			continue
		}
		role, value, ok := strings.Cut(pair, "=")
		w, err := strconv.ParseFloat(value, 64)
		switch _, twice := out[role]; {
		case !ok || role == "" || err != nil || !(w > 0) || math.IsInf(w, 1):
			return nil, fmt.Errorf("'%s' is not role=weight with a positive weight", pair)
		case twice:
			return nil, fmt.Errorf("role '%s' has two weights", role)
		}
		out[role] = w
	}
	return out, nil
}
