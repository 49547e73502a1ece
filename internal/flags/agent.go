package flags

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"
)

// maxDomainSocketPath is what fits into sun_path (src/common/domain_sockets.hpp).
const maxDomainSocketPath = 108

// Agent returns the flags of `clusterd agent`: those of src/slave/flags.cpp
// with all build options on, the removed ones, and clusterd's own.
func Agent() *Set {
	return NewSet("agent", agentCheck, common(), agentFlags(), agentContainerFlags(), agentDockerFlags(),
		agentSecurityFlags(), agentCgroupFlags(), agentNetworkFlags(), agentRemovedFlags(), agentOwnFlags())
}

// defaultRuntimeDir follows src/slave/flags.cpp: what need not survive a
// reboot lives below /var/run for root.
func defaultRuntimeDir() string {
	if os.Geteuid() == 0 {
		return "/var/run/mesos"
	}
	return os.TempDir() + "/mesos/runtime"
}

func agentFlags() []Flag {
	return []Flag{
		{Name: "master", Help: "Masters: host:port, a comma list of them, or file:///path to one. Any of them leads to the others."},
		{Name: "master_detector", Help: "Module that detects the leader.", State: Replaced, Note: noteModules},
		{Name: "port", Type: Int, Default: "5051", Help: "Port to listen on.", Check: validPort, Env: []string{"LIBPROCESS_PORT"}},
		{Name: "ip6", Help: "IPv6 address to advertise.", Check: validIP6, State: Accepted},
		{Name: "ip6_discovery_command", Type: Path, Help: "Program that prints the IPv6 address; excludes --ip6.", State: Accepted},
		{Name: "work_dir", Type: Path, Help: "Directory of sandboxes, volumes and checkpoints. Required."},
		{Name: "runtime_dir", Type: Path, Default: defaultRuntimeDir(), Help: "Directory of state that need not survive a reboot."},
		{Name: "launcher_dir", Type: Path, Help: "Directory of helper programs.", State: Replaced, Note: noteCMesos},
		{Name: "resources", Help: "Resources of this agent, text (cpus:4;mem:2048) or JSON; what is not named is detected."},
		{Name: "default_role", Default: "*", Help: "Role of resources in --resources that name none."},
		{Name: "attributes", Help: "Attributes of this agent: rack:r1;level:10;ports:[1-5]."},
		{Name: "recover", Default: "reconnect", Help: "After a restart: reconnect with the old executors, or cleanup (kill them and exit).", Check: oneOf("reconnect", "cleanup")},
		{Name: "recovery_timeout", Type: Duration, Default: "15mins", Help: "How long executors wait for the agent before they end themselves."},
		{Name: "reconfiguration_policy", Default: "equal", Help: "Which changes of the agent's flags keep its id: equal (none), additive, or any.", Check: oneOf("equal", "additive", "any")},
		{Name: "strict", Type: Bool, Default: "true", Help: "Stop at any error of recovery; if not, recover what is readable."},
		{Name: "registration_backoff_factor", Type: Duration, Default: "1secs", Help: "First bound of the random wait before (re)registering; doubles, at most 1mins.", Check: positive},
		{Name: "executor_registration_timeout", Type: Duration, Default: "1mins", Help: "How long a new executor has to subscribe.", Check: positive},
		{Name: "executor_reregistration_timeout", Type: Duration, Default: "2secs", Help: "How long executors have to come back after a restart of the agent; at most 15secs.", Check: between(0, 15*time.Second)},
		{Name: "executor_reregistration_retry_interval", Type: Duration, Help: "How often v0 executors are asked to reconnect.", State: Replaced, Note: noteV0},
		{Name: "executor_shutdown_grace_period", Type: Duration, Default: "5secs", Help: "Time an executor has to shut down."},
		{Name: "executor_environment_variables", Type: JSON, Help: "Environment of executors, a JSON object of strings, instead of PATH alone.", Check: jsonStringMap},
		{Name: "http_command_executor", Type: Bool, Default: "false", Help: "Command executor speaks the v1 API.", State: Replaced, Note: "it always does"},
		{Name: "http_heartbeat_interval", Type: Duration, Default: "30secs", Help: "Heartbeats of container sessions.", Check: positive},
		{Name: "max_completed_executors_per_framework", Type: Int, Default: "150", Help: "Ended executors to remember for each framework.", Check: atLeast(0)},
		{Name: "frameworks_home", Type: Path, EmptyDefault: true, Help: "Directory that relative URIs of tasks are joined to."},
		{Name: "hadoop_home", Type: Path, Help: "Hadoop installation for hdfs:// URIs."},
		{Name: "fetcher_cache_size", Type: Bytes, Default: "2GB", Help: "Size of the fetcher's cache."},
		{Name: "fetcher_cache_dir", Type: Path, Default: "/tmp/mesos/fetch", Help: "Directory of the fetcher's cache."},
		{Name: "fetcher_stall_timeout", Type: Duration, Default: "1mins", Help: "Give a download up when nothing came for this long.", Check: positive},
		{Name: "switch_user", Type: Bool, Default: "true", Help: "Run tasks as the user they ask for (needs root)."},
		{Name: "gc_delay", Type: Duration, Default: "1weeks", Help: "Longest time a sandbox is kept after its executor ended."},
		{Name: "gc_disk_headroom", Type: Float, Default: "0.1", Help: "Share of the disk to keep free when ages are computed.", Check: fraction},
		{Name: "gc_non_executor_container_sandboxes", Type: Bool, Default: "false", Help: "Collect sandboxes of nested containers too."},
		{Name: "disk_watch_interval", Type: Duration, Default: "1mins", Help: "How often the disk's usage is checked.", Check: positive},
		{Name: "resource_estimator", Help: "Estimator of revocable resources.", State: Accepted},
		{Name: "oversubscribed_resources_interval", Type: Duration, Default: "15secs", Help: "How often revocable resources are reported.", State: Accepted},
		{Name: "qos_controller", Help: "QoS controller.", State: Accepted},
		{Name: "qos_correction_interval_min", Type: Duration, Default: "0ns", Help: "Least time between corrections of the QoS controller.", State: Accepted},
		{Name: "resource_provider_config_dir", Type: Path, Help: "Directory of resource provider configurations.", State: Accepted},
		{Name: "csi_plugin_config_dir", Type: Path, Help: "Directory of CSI plugin configurations.", State: Accepted},
		{Name: "disk_profile_adaptor", Help: "Module that maps disk profiles.", State: Replaced, Note: noteModules},
		{Name: "agent_features", Type: JSON, Help: "Agent capabilities to announce.", State: Accepted},
	}
}

func agentContainerFlags() []Flag {
	return []Flag{
		{Name: "containerizers", Default: "mesos", Help: "Containerizers, comma list: mesos, docker. They are asked in this order."},
		{Name: "isolation", Default: "posix/cpu,posix/mem", Help: "Isolators, comma list."},
		{Name: "launcher", Help: "Launcher of containers: linux or posix. Unset: linux for root where containers can have cgroups, else posix.", Check: oneOf("linux", "posix")},
		{Name: "container_logger", Help: "What takes the output of tasks: nothing (files that grow), or org_apache_mesos_LogrotateContainerLogger, which bounds them; its parameters are those of --modules."},
		{Name: "sandbox_directory", Type: Path, Default: "/mnt/mesos/sandbox", Aliases: []string{"docker_sandbox_directory"}, Help: "Where a container with its own root sees its sandbox."},
		{Name: "default_container_info", Type: JSON, Help: "ContainerInfo of executors that have none."},
		{Name: "default_container_dns", Type: JSON, Help: "DNS settings by network."},
		{Name: "default_container_shm_size", Type: Bytes, Help: "Size of /dev/shm of containers."},
		{Name: "disallow_sharing_agent_ipc_namespace", Type: Bool, Default: "false", Help: "Refuse containers that share the agent's IPC namespace."},
		{Name: "disallow_sharing_agent_pid_namespace", Type: Bool, Default: "false", Help: "Refuse containers that share the agent's PID namespace."},
		{Name: "host_path_volume_force_creation", Help: "Directories (colon list) in which missing HOST_PATH sources are created."},
		{Name: "volume_gid_range", Help: "Range of group ids for shared volumes, [10000-20000]."},
		{Name: "image_providers", Help: "Image kinds: docker, which takes OCI images too."},
		{Name: "image_provisioner_backend", Help: "How root file systems are made: overlay, bind, copy."},
		{Name: "image_gc_config", Type: JSON, Help: "When unused image layers are removed."},
		{Name: "appc_simple_discovery_uri_prefix", Default: "http://", Help: "Prefix of appc discovery.", State: Accepted},
		{Name: "appc_store_dir", Type: Path, Default: "/tmp/mesos/store/appc", Help: "Store of appc images.", State: Accepted},
		{Name: "container_disk_watch_interval", Type: Duration, Default: "15secs", Help: "How often the disk usage of containers is measured.", Check: positive},
		{Name: "enforce_container_disk_quota", Type: Bool, Default: "false", Help: "Kill containers above their disk resource."},
		{Name: "xfs_project_range", Default: "[5000-10000]", Help: "XFS project ids to use."},
		{Name: "xfs_kill_containers", Type: Bool, Default: "false", Help: "Kill containers above their XFS quota."},
		{Name: "xfs_quota_headroom", Type: Bytes, Default: "10MB", Help: "Distance of the hard XFS quota from the soft one."},
		{Name: "nvidia_gpu_devices", Help: "GPUs to offer, by index."},
		{Name: "secret_resolver", Help: "Module that resolves secrets.", State: Replaced, Note: noteModules},
		{Name: "seccomp_config_dir", Type: Path, Help: "Directory of seccomp profiles."},
		{Name: "seccomp_profile_name", Help: "Default seccomp profile."},
		{Name: "effective_capabilities", Type: JSON, Aliases: []string{"allowed_capabilities"}, Help: "Linux capabilities tasks get unless they ask otherwise."},
		{Name: "bounding_capabilities", Type: JSON, Help: "Linux capabilities tasks may get at most."},
		{Name: "systemd_enable_support", Type: Bool, Default: "true", Help: "Move executors out of the agent's systemd unit.", State: Accepted},
		{Name: "systemd_runtime_directory", Type: Path, Default: "/run/systemd/system", Help: "Directory of systemd's run time units.", State: Accepted},
	}
}

func agentDockerFlags() []Flag {
	return []Flag{
		{Name: "docker", Default: "docker", Help: "Docker's command line program.", State: Replaced, Note: "the engine is spoken to by its socket (--docker_socket); no program is run"},
		{Name: "docker_socket", Type: Path, Default: "/var/run/docker.sock", Aliases: []string{"docker_sock"}, Help: "Socket of the Docker daemon."},
		{Name: "docker_config", Type: JSON, Help: "Docker's config.json with registry credentials."},
		{Name: "docker_registry", Default: "https://registry-1.docker.io", Help: "Registry images are pulled from."},
		{Name: "docker_store_dir", Type: Path, Default: "/tmp/mesos/store/docker", Help: "Store of docker images."},
		{Name: "docker_ignore_runtime", Type: Bool, Default: "false", Help: "Ignore environment and entry point of images."},
		{Name: "docker_kill_orphans", Type: Bool, Default: "true", Help: "Stop containers of this agent that it does not know when it starts."},
		{Name: "docker_mesos_image", Help: "Image the agent itself runs in: executors of Docker tasks get containers of it, which outlive the agent's."},
		{Name: "docker_remove_delay", Type: Duration, Default: "6hrs", Help: "How long ended Docker containers are kept."},
		{Name: "docker_stop_timeout", Type: Duration, Default: "0ns", Help: "Time docker stop gives a container."},
		{Name: "docker_volume_checkpoint_dir", Type: Path, Default: "/var/run/mesos/isolators/docker/volume", Help: "Checkpoints of docker volumes.", State: Accepted},
		{Name: "docker_volume_chown", Type: Bool, Default: "false", Help: "Give docker volumes to the task's user.", State: Accepted},
	}
}

func agentSecurityFlags() []Flag {
	return []Flag{
		{Name: "authenticatee", Default: "crammd5", Help: "How the agent authenticates with the master.", State: Replaced, Note: noteAuthenticatee},
		{Name: "authentication_backoff_factor", Type: Duration, Default: "1secs", Help: "First bound of the random wait before authenticating again.", State: Replaced, Note: noteAuthenticatee},
		{Name: "authentication_timeout_min", Type: Duration, Default: "5secs", Help: "Least time for an authentication.", State: Replaced, Note: noteAuthenticatee},
		{Name: "authentication_timeout_max", Type: Duration, Default: "1mins", Help: "Longest time for an authentication.", State: Replaced, Note: noteAuthenticatee},
		{Name: "credential", Type: Path, Help: "JSON file of the principal and secret that the agent shows its masters."},
		{Name: "authorizer", Default: "local", Help: "Authorizer: local.", Check: oneOf("local"), State: Replaced, Note: "there is one authorizer, and --acls are its rules"},
		{Name: "http_credentials", Type: Path, Help: "JSON file of principals and secrets for the agent's HTTP endpoints; read again when it changes."},
		{Name: "authenticate_http_executors", Type: Bool, Default: "false", Help: "Ask executors for the token they were started with."},
		{Name: "jwt_secret_key", Type: Path, Aliases: []string{"executor_secret_key"}, Help: "File of the key that signs executors' tokens."},
		{Name: "http_executor_domain_sockets", Type: Bool, Default: "false", Help: "Executors reach the agent by a Unix socket; with TLS they always do."},
		{Name: "domain_socket_location", Help: "Path of that socket; unset: agent.sock in --runtime_dir.", Check: domainSocket},
	}
}

func agentCgroupFlags() []Flag {
	return []Flag{
		{Name: "cgroups_hierarchy", Type: Path, Default: "/sys/fs/cgroup", Help: "Where cgroups are mounted."},
		{Name: "cgroups_root", Default: "mesos", Help: "Name of the agent's root cgroup. Unset, and another agent's already: mesos- and a number of this one's work_dir."},
		{Name: "cgroups_destroy_timeout", Type: Duration, Default: "1mins", Help: "How long destroying a cgroup may take.", Check: positive},
		{Name: "cgroups_enable_cfs", Type: Bool, Default: "false", Help: "Cap CPU time, not only share it."},
		{Name: "cgroups_limit_swap", Type: Bool, Default: "false", Help: "Limit memory and swap together."},
		{Name: "cgroups_cpu_enable_pids_and_tids_count", Type: Bool, Default: "false", Help: "Count processes and threads in statistics."},
		{Name: "cgroups_net_cls_primary_handle", Help: "Primary net_cls handle, 0xAAAA."},
		{Name: "cgroups_net_cls_secondary_handles", Help: "Range of secondary net_cls handles, 0xAAAA,0xBBBB."},
		{Name: "allowed_devices", Type: JSON, Help: "Devices containers may use beside the default ones."},
		{Name: "agent_subsystems", Aliases: []string{"slave_subsystems"}, Help: "Cgroup subsystems the agent itself runs in."},
		{Name: "revocable_cpu_low_priority", Type: Bool, Default: "true", Help: "Give revocable CPUs few shares."},
		{Name: "perf_events", Help: "perf events to sample."},
		{Name: "perf_interval", Type: Duration, Default: "1mins", Help: "Time between perf samples."},
		{Name: "perf_duration", Type: Duration, Default: "10secs", Help: "Length of a perf sample, at most --perf_interval."},
	}
}

func agentNetworkFlags() []Flag {
	return []Flag{
		{Name: "network_cni_plugins_dir", Type: Path, Help: "Directories (colon list) of CNI plugins."},
		{Name: "network_cni_config_dir", Type: Path, Help: "Directory of CNI configurations."},
		{Name: "network_cni_root_dir_persist", Type: Bool, Default: "false", Help: "Keep CNI state over reboots."},
		{Name: "network_cni_metrics", Type: Bool, Default: "true", Help: "Publish CNI metrics."},
		{Name: "container_ports_watch_interval", Type: Duration, Default: "30secs", Help: "How often listening ports are checked.", Check: positive},
		{Name: "check_agent_port_range_only", Type: Bool, Default: "false", Help: "Check ports within the agent's resources only."},
		{Name: "enforce_container_ports", Type: Bool, Default: "false", Help: "Kill containers that listen on ports they do not hold."},
		{Name: "container_ports_isolated_range", Help: "Ports to check."},
		{Name: "ephemeral_ports_per_container", Type: Int, Default: "1024", Help: "Ephemeral ports of each container; a power of two.", Check: powerOfTwo},
		{Name: "eth0_name", Help: "Name of the public network interface."},
		{Name: "lo_name", Help: "Name of the loopback interface."},
		{Name: "egress_rate_limit_per_container", Type: Bytes, Help: "Outbound bandwidth of each container."},
		{Name: "egress_rate_per_cpu", Help: "Outbound bandwidth for each CPU."},
		{Name: "minimum_egress_rate_limit", Type: Bytes, Help: "Least outbound bandwidth."},
		{Name: "maximum_egress_rate_limit", Type: Bytes, Help: "Most outbound bandwidth."},
		{Name: "egress_ceil_limit", Type: Bytes, Help: "Ceiling of outbound bursts."},
		{Name: "egress_burst", Type: Bytes, Help: "Size of outbound bursts."},
		{Name: "egress_unique_flow_per_container", Type: Bool, Default: "false", Help: "One fq_codel flow for each container."},
		{Name: "egress_flow_classifier_parent", Default: "root", Help: "Parent of the flow classifier."},
		{Name: "ingress_rate_limit_per_container", Type: Bytes, Help: "Inbound bandwidth of each container."},
		{Name: "ingress_rate_per_cpu", Help: "Inbound bandwidth for each CPU."},
		{Name: "minimum_ingress_rate_limit", Type: Bytes, Help: "Least inbound bandwidth."},
		{Name: "maximum_ingress_rate_limit", Type: Bytes, Help: "Most inbound bandwidth."},
		{Name: "ingress_ceil_limit", Type: Bytes, Help: "Ceiling of inbound bursts."},
		{Name: "ingress_burst", Type: Bytes, Help: "Size of inbound bursts."},
		{Name: "ingress_isolate_existing_containers", Type: Bool, Default: "true", Help: "Apply inbound limits to recovered containers."},
		{Name: "network_link_speed", Type: Bytes, Help: "Speed of the link, instead of detecting it."},
		{Name: "network_enable_socket_statistics_summary", Type: Bool, Default: "false", Help: "Collect socket statistics of each container."},
		{Name: "network_enable_socket_statistics_details", Type: Bool, Default: "false", Help: "Collect TCP statistics of each connection."},
		{Name: "network_enable_snmp_statistics", Type: Bool, Default: "false", Help: "Collect SNMP statistics of each container."},
		{Name: "network_enable_rate_statistics", Type: Bool, Default: "false", Help: "Collect network rates of each container."},
		{Name: "network_rate_statistics_window", Type: Duration, Help: "Window of those rates."},
		{Name: "network_rate_statistics_interval", Type: Duration, Help: "How often those rates are sampled."},
	}
}

func agentRemovedFlags() []Flag {
	return []Flag{
		{Name: "containerizer_path", Help: "External containerizer.", State: Rejected, Note: "the external containerizer was removed in Mesos 1.1"},
		{Name: "default_container_image", Help: "Image of the external containerizer.", State: Rejected, Note: "removed with the external containerizer in Mesos 1.1; use --default_container_info"},
		{Name: "resource_monitoring_interval", Type: Duration, Help: "Sampling interval of old Mesos.", State: Replaced, Note: "usage is sampled when asked for"},
		{Name: "network_enable_socket_statistics", Type: Bool, Help: "Old name of two flags.", State: Replaced, Note: "turns on --network_enable_socket_statistics_summary and --network_enable_socket_statistics_details"},
	}
}

func agentOwnFlags() []Flag {
	return []Flag{
		{Name: "join", List: true, Help: "Nodes that gossip, masters best (host, host:port; comma list, repeatable; port 5053 if not given): through any of them the agent finds the masters and follows who leads."},
		{Name: "user_namespace_range", Help: "User ids that containers get with namespaces/user, [524288-1073741823]; each takes 65536 of them."},
		{Name: "gossip_port", Type: Int, Default: "5054", Help: "Port of gossip, which only agents with --join listen on.", Check: validPort},
	}
}

func agentCheck(v *Values) error {
	if err := commonCheck(v); err != nil {
		return err
	}
	if err := exclusive(v, "ip6", "ip6_discovery_command"); err != nil {
		return err
	}
	if v.Path("work_dir") == "" {
		return fmt.Errorf("%w: --work_dir", ErrMissingFlag)
	}
	if strings.HasPrefix(v.String("master"), "zk://") {
		return fmt.Errorf("%w: --master=%s: %s", ErrInvalidValue, abbreviate(v.String("master")), noteZooKeeper)
	}
	for _, m := range v.List("master") {
		if err := hostPort(Value{Text: m}); err != nil {
			return fmt.Errorf("%w of --master: %w", ErrInvalidValue, err)
		}
	}
	if len(v.List("master"))+len(v.List("join")) == 0 {
		return fmt.Errorf("%w: --master=HOST:PORT or --join=HOST says where the cluster is", ErrMissingFlag)
	}
	if v.Duration("perf_duration") > v.Duration("perf_interval") {
		return fmt.Errorf("%w: --perf_duration is longer than --perf_interval", ErrInvalidValue)
	}
	warnUnprotected(v)
	return nil
}

// protections are flags that ask for something that only certain isolators give.
var protections = map[string][]string{
	"cgroups_enable_cfs":           {"cgroups/cpu", "cgroups/all", "cgroups"},
	"cgroups_limit_swap":           {"cgroups/mem", "cgroups/all", "cgroups"},
	"allowed_devices":              {"cgroups/devices", "cgroups/all"},
	"enforce_container_disk_quota": {"disk/du", "disk/xfs", "posix/disk"},
	"xfs_kill_containers":          {"disk/xfs"},
	"seccomp_profile_name":         {"linux/seccomp"},
	"effective_capabilities":       {"linux/capabilities"},
	"bounding_capabilities":        {"linux/capabilities"},
	"user_namespace_range":         {"namespaces/user"},
	"enforce_container_ports":      {"network/ports"},

	"egress_rate_limit_per_container":  {"network/port_mapping"},
	"ingress_rate_limit_per_container": {"network/port_mapping"},

	"disallow_sharing_agent_ipc_namespace": {"namespaces/ipc"},
	"disallow_sharing_agent_pid_namespace": {"namespaces/pid"},
}

// warnUnprotected warns of protections that --isolation leaves out. Mesos says nothing
// of them; who runs its flags unchanged shall know, but go on.
func warnUnprotected(v *Values) {
	isolation := v.List("isolation")
	names := slices.Sorted(maps.Keys(protections))
	for _, name := range names {
		given, ok := v.Get(name)
		if !ok || !v.Given(name) || given.Text == "false" {
			continue
		}
		if !slices.ContainsFunc(isolation, func(i string) bool { return slices.Contains(protections[name], i) }) {
			v.warnings = append(v.warnings, fmt.Sprintf("--%s does nothing without %s in --isolation", name, strings.Join(protections[name], " or ")))
		}
	}
}

func validIP6(v Value) error {
	addr, err := netip.ParseAddr(v.Text)
	if err == nil && !addr.Is6() {
		return fmt.Errorf("'%s' is not an IPv6 address", v.Text)
	}
	return err
}

func domainSocket(v Value) error {
	if !strings.HasPrefix(v.Text, "systemd:") && len(v.Text) >= maxDomainSocketPath {
		return fmt.Errorf("the path of a Unix socket is shorter than %d characters", maxDomainSocketPath)
	}
	return nil
}

func powerOfTwo(v Value) error {
	if v.i < 1 || v.i&(v.i-1) != 0 {
		return errors.New("must be a power of two")
	}
	return nil
}

// jsonStringMap demands a JSON object whose members are all strings
// (src/slave/flags.cpp, executor_environment_variables).
func jsonStringMap(v Value) error {
	_, err := ParseStringMap(v.Text)
	return err
}

// ParseStringMap reads a JSON object whose members are all strings; empty text is
// a nil map.
func ParseStringMap(text string) (map[string]string, error) {
	var m map[string]string
	if text == "" {
		return m, nil
	}
	if err := json.Unmarshal([]byte(text), &m); err != nil {
		return nil, fmt.Errorf("%w: expecting a JSON object whose members are strings", ErrInvalidValue)
	}
	return m, nil
}
