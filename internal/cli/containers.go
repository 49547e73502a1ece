package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/rs/zerolog"
	"google.golang.org/protobuf/proto"

	"clusterd/agent"
	"clusterd/agent/containerlogger"
	mesos "clusterd/api/mesos/v1"
	"clusterd/api/mesosjson"
	"clusterd/internal/flags"
	"clusterd/internal/units"
	"clusterd/isolation/images"
	"clusterd/isolation/isolators/cgroup"
	"clusterd/isolation/isolators/disk"
	"clusterd/isolation/isolators/filesystem"
	"clusterd/isolation/isolators/namespaces"
	"clusterd/isolation/isolators/network/cni"
	"clusterd/isolation/isolators/network/portmapping"
	"clusterd/isolation/isolators/network/ports"
	rights "clusterd/isolation/isolators/security"
	"clusterd/isolation/setup"
)

// containerOptions reads the flags about containers.
func containerOptions(v *flags.Values) (setup.Options, error) {
	o := setup.Options{
		Launcher: v.String("launcher"), Isolation: v.String("isolation"),
		CgroupsHierarchy:      v.Path("cgroups_hierarchy"),
		CgroupsDestroyTimeout: v.Duration("cgroups_destroy_timeout"),
		DiskDU:                disk.DUOptions{Interval: v.Duration("container_disk_watch_interval"), Enforce: v.Bool("enforce_container_disk_quota")},
		DiskXFS: disk.XFSOptions{
			Projects: v.String("xfs_project_range"), Enforce: v.Bool("enforce_container_disk_quota"), Kill: v.Bool("xfs_kill_containers"),
			Headroom: v.Bytes("xfs_quota_headroom"), Interval: v.Duration("container_disk_watch_interval"), ReclaimInterval: v.Duration("disk_watch_interval"),
		},
		Filesystem: filesystem.Options{SandboxDirectory: v.Path("sandbox_directory"), ForceCreation: split(v.String("host_path_volume_force_creation"), ":")},
		IPC: namespaces.IPCOptions{
			ShmSize: v.Bytes("default_container_shm_size"), DisallowSharing: v.Bool("disallow_sharing_agent_ipc_namespace"),
		},
		DisallowSharingPID: v.Bool("disallow_sharing_agent_pid_namespace"),
	}
	if v.Given("cgroups_root") {
		o.CgroupsRoot = v.String("cgroups_root") // else there is a choice
	}
	var err error
	if o.Users.First, o.Users.Last, err = idRange(v, "user_namespace_range"); err != nil {
		return o, err
	}
	devices, err := jsonFlag(v, "allowed_devices", &mesos.DeviceWhitelist{})
	if err != nil {
		return o, err
	}
	if o.Security, err = rightsOptions(v, devices); err != nil {
		return o, err
	}
	o.Cgroups = cgroupOptions(v, devices)
	if o.VolumeGIDRange, err = gidRanges(v); err != nil {
		return o, err
	}
	if o.GPU.Devices, err = indexes(v, "nvidia_gpu_devices"); err != nil {
		return o, err
	}
	o.ImageProviders = v.List("image_providers")
	if o.Images, err = imageOptions(v); err != nil {
		return o, err
	}
	o.Runtime.Ignore = v.Bool("docker_ignore_runtime")
	if o.Network, err = networkOptions(v); err != nil {
		return o, err
	}
	o.Docker = dockerOptions(v, o.Network.CNI.DNS)
	o.Containerizers, err = containerizers(v)
	return o, err
}

// containerLogger reads --container_logger, whose parameters Mesos has in --modules.
func containerLogger(v *flags.Values) (*containerlogger.Logger, error) {
	name := v.String("container_logger")
	parameters, err := containerlogger.Modules(v.String("modules"), name)
	if err != nil {
		return nil, fmt.Errorf("--modules: %w: %w", flags.ErrInvalidValue, err)
	}
	l, err := containerlogger.New(name, parameters)
	if err != nil {
		return nil, fmt.Errorf("--container_logger: %w: %w", flags.ErrInvalidValue, err)
	}
	return l, nil
}

// imageOptions reads the flags about images.
func imageOptions(v *flags.Values) (images.Options, error) {
	o := images.Options{
		WorkDir: v.Path("work_dir"), StoreDir: v.Path("docker_store_dir"), Registry: v.String("docker_registry"), Config: v.String("docker_config"),
		Backend: v.String("image_provisioner_backend"), StallTimeout: v.Duration("fetcher_stall_timeout"),
	}
	var err error
	o.GC, err = imageGC(v.String("image_gc_config"))
	return o, err
}

// imageGC reads --image_gc_config (ImageGcConfig in Mesos's include/mesos/mesos.proto).
func imageGC(text string) (*images.GCConfig, error) {
	if text == "" {
		return nil, nil
	}
	in := struct {
		Headroom float64 `json:"image_disk_headroom"`
		Interval struct {
			Nanoseconds int64 `json:"nanoseconds"`
		} `json:"image_disk_watch_interval"`
		Excluded []json.RawMessage `json:"excluded_images"`
	}{Headroom: 0.1}
	in.Interval.Nanoseconds = int64(time.Hour)
	bad := func(err error) (*images.GCConfig, error) {
		return nil, fmt.Errorf("--image_gc_config: %w: %w", flags.ErrInvalidValue, err)
	}
	decoder := json.NewDecoder(strings.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&in); err != nil {
		return bad(err)
	}
	if in.Headroom < 0 || in.Headroom > 1 || in.Interval.Nanoseconds <= 0 {
		return bad(errors.New("the headroom is between 0 and 1, the interval positive"))
	}
	out := &images.GCConfig{Headroom: in.Headroom, Interval: time.Duration(in.Interval.Nanoseconds)}
	for _, raw := range in.Excluded {
		image := &mesos.Image{}
		if err := mesosjson.Unmarshal(raw, image); err != nil {
			return bad(err)
		}
		out.Excluded = append(out.Excluded, image)
	}
	return out, nil
}

// chooseLauncher chooses the launcher if nobody has, and shows it among the flags as if it had
// been given, as Mesos does.
func chooseLauncher(o *agent.Options, log zerolog.Logger) {
	if o.Containers.Launcher != "" {
		return
	}
	name, why := setup.DefaultLauncher(o.Containers)
	log.Info().Str("launcher", name).Str("because", why).Msg("chose the launcher of containers; --launcher names another")
	o.Containers.Launcher = name
	at, _ := slices.BinarySearchFunc(o.Flags, "launcher", func(p flags.Pair, name string) int { return strings.Compare(p.Name, name) })
	o.Flags = slices.Insert(o.Flags, at, flags.Pair{Name: "launcher", Value: name})
	for i := range o.Described {
		if d := &o.Described[i]; d.Name == "launcher" {
			d.Value, d.Default = &name, &name
		}
	}
}

func networkOptions(v *flags.Values) (o setup.NetworkOptions, err error) {
	o.CNI = cni.Options{
		PluginDirs: split(v.String("network_cni_plugins_dir"), ":"), ConfigDir: v.Path("network_cni_config_dir"), Metrics: v.Bool("network_cni_metrics"),
	}
	o.CNIRootDirPersist = v.Bool("network_cni_root_dir_persist")
	if text := v.String("default_container_dns"); text != "" {
		if o.CNI.DNS, err = cni.ParseContainerDNS([]byte(text)); err != nil {
			return o, fmt.Errorf("--default_container_dns: %w: %w", flags.ErrInvalidValue, err)
		}
	}
	o.AgentPortsOnly = v.Bool("check_agent_port_range_only")
	o.Ports = ports.Options{WatchInterval: v.Duration("container_ports_watch_interval"), Enforce: v.Bool("enforce_container_ports")}
	if text := v.String("container_ports_isolated_range"); text != "" {
		if o.Ports.Isolated, err = ports.ParseRanges(text); err != nil {
			return o, fmt.Errorf("--container_ports_isolated_range: %w: %w", flags.ErrInvalidValue, err)
		}
	}
	ephemeral := v.Int("ephemeral_ports_per_container")
	if ephemeral > math.MaxUint16 {
		return o, fmt.Errorf("--ephemeral_ports_per_container=%d: %w: there are %d ports", ephemeral, flags.ErrInvalidValue, math.MaxUint16+1)
	}
	sockets := v.Bool("network_enable_socket_statistics") // its old name was for both
	o.PortMapping = portmapping.Options{
		EphemeralPortsPerContainer: uint16(ephemeral),
		Eth0:                       v.String("eth0_name"), Lo: v.String("lo_name"),
		IngressOnExisting: v.Bool("ingress_isolate_existing_containers"), LinkSpeed: v.Bytes("network_link_speed"),
		UniqueFlows: v.Bool("egress_unique_flow_per_container"), FlowParent: v.String("egress_flow_classifier_parent"),
		SocketSummary: sockets || v.Bool("network_enable_socket_statistics_summary"), SocketDetails: sockets || v.Bool("network_enable_socket_statistics_details"),
		SNMP: v.Bool("network_enable_snmp_statistics"),
	}
	if v.Bool("network_enable_rate_statistics") {
		o.PortMapping.Rates = portmapping.RateStatistics{
			Window: v.Duration("network_rate_statistics_window"), Interval: v.Duration("network_rate_statistics_interval"),
		}
		if o.PortMapping.Rates == (portmapping.RateStatistics{}) {
			return o, fmt.Errorf("--network_enable_rate_statistics without a window and an interval: %w", flags.ErrInvalidValue)
		}
	}
	if o.PortMapping.Egress, err = egress(v); err != nil {
		return o, err
	}
	o.PortMapping.Ingress, err = ingress(v)
	return o, err
}

// egress and ingress read what bounds the traffic of containers.
func egress(v *flags.Values) (portmapping.Limits, error) {
	return perCPU(v, "egress_rate_per_cpu", portmapping.Limits{
		PerContainer: v.Bytes("egress_rate_limit_per_container"),
		Minimum:      v.Bytes("minimum_egress_rate_limit"), Maximum: v.Bytes("maximum_egress_rate_limit"),
		Ceil: v.Bytes("egress_ceil_limit"), Burst: v.Bytes("egress_burst"),
	})
}

func ingress(v *flags.Values) (portmapping.Limits, error) {
	return perCPU(v, "ingress_rate_per_cpu", portmapping.Limits{
		PerContainer: v.Bytes("ingress_rate_limit_per_container"),
		Minimum:      v.Bytes("minimum_ingress_rate_limit"), Maximum: v.Bytes("maximum_ingress_rate_limit"),
		Ceil: v.Bytes("ingress_ceil_limit"), Burst: v.Bytes("ingress_burst"),
	})
}

// perCPU adds a rate that grows with the container's CPUs; auto shares the link out.
func perCPU(v *flags.Values, name string, l portmapping.Limits) (portmapping.Limits, error) {
	var err error
	switch text := v.String(name); text {
	case "":
	case "auto":
		l.Auto = true
	default:
		if l.PerCPU, err = units.ParseBytes(text); err != nil {
			return l, fmt.Errorf("--%s: %w: %w", name, flags.ErrInvalidValue, err)
		}
	}
	return l, nil
}

// gidRanges reads --volume_gid_range.
func gidRanges(v *flags.Values) ([]filesystem.GIDRange, error) {
	text := v.String("volume_gid_range")
	if text == "" {
		return nil, nil
	}
	parsed, err := ports.ParseRanges(text)
	if err != nil {
		return nil, fmt.Errorf("--volume_gid_range: %w: %w", flags.ErrInvalidValue, err)
	}
	out := make([]filesystem.GIDRange, 0, len(parsed))
	for _, r := range parsed {
		if r.Begin == 0 || r.End >= math.MaxUint32 {
			return nil, fmt.Errorf("--volume_gid_range: %w: %d is no group that volumes can have", flags.ErrInvalidValue, r.Begin)
		}
		out = append(out, filesystem.GIDRange{First: uint32(r.Begin), Last: uint32(r.End)})
	}
	return out, nil
}

// indexes reads a list of numbers; nil when it is not given.
func indexes(v *flags.Values, name string) ([]int, error) {
	var out []int
	for _, text := range split(v.String(name), ",") {
		n, err := strconv.Atoi(strings.TrimSpace(text))
		if err != nil || n < 0 {
			return nil, fmt.Errorf("--%s: %w: '%s' is no index", name, flags.ErrInvalidValue, text)
		}
		out = append(out, n)
	}
	return out, nil
}

func rightsOptions(v *flags.Values, devices *mesos.DeviceWhitelist) (o rights.Options, err error) {
	o = rights.Options{SeccompDir: v.Path("seccomp_config_dir"), SeccompProfile: v.String("seccomp_profile_name"), Devices: devices}
	if o.Effective, err = jsonFlag(v, "effective_capabilities", &mesos.CapabilityInfo{}); err != nil {
		return o, err
	}
	o.Bounding, err = jsonFlag(v, "bounding_capabilities", &mesos.CapabilityInfo{})
	return o, err
}

func cgroupOptions(v *flags.Values, devices *mesos.DeviceWhitelist) cgroup.Options {
	return cgroup.Options{
		EnableCFS: v.Bool("cgroups_enable_cfs"), CountPIDsAndTIDs: v.Bool("cgroups_cpu_enable_pids_and_tids_count"),
		RevocableLowPriority: v.Bool("revocable_cpu_low_priority"), LimitSwap: v.Bool("cgroups_limit_swap"),
		AllowedDevices: devices, AgentSubsystems: v.List("agent_subsystems"),
		NetClsPrimaryHandle: v.String("cgroups_net_cls_primary_handle"), NetClsSecondaryHandles: v.String("cgroups_net_cls_secondary_handles"),
		PerfEvents: v.String("perf_events"), PerfInterval: v.Duration("perf_interval"), PerfDuration: v.Duration("perf_duration"),
	}
}

// jsonFlag reads a flag whose value is a message in JSON; nil when it is not given.
func jsonFlag[M proto.Message](v *flags.Values, name string, into M) (M, error) {
	var none M
	text := v.String(name)
	if text == "" {
		return none, nil
	}
	if err := mesosjson.Unmarshal([]byte(text), into); err != nil {
		return none, fmt.Errorf("--%s: %w: %w", name, flags.ErrInvalidValue, err)
	}
	return into, nil
}

// idRange reads a flag that is a range of user or group ids, [10000-20000]; zeros when
// it is not given.
func idRange(v *flags.Values, name string) (first, last uint32, err error) {
	text := v.String(name)
	if text == "" {
		return 0, 0, nil
	}
	begin, end, ok := strings.Cut(strings.TrimSuffix(strings.TrimPrefix(text, "["), "]"), "-")
	if ok && strings.HasPrefix(text, "[") && strings.HasSuffix(text, "]") {
		if first, err = parseID(begin); err == nil {
			last, err = parseID(end)
		}
		if err == nil && first > 0 && first <= last {
			return first, last, nil
		}
	}
	return 0, 0, fmt.Errorf("--%s: %w: expecting a range of ids such as [10000-20000]", name, flags.ErrInvalidValue)
}

func parseID(s string) (uint32, error) {
	n, err := strconv.ParseUint(s, 10, 32)
	return uint32(n), err
}

// split cuts a list, of which nothing makes no elements.
func split(text, separator string) []string {
	if text == "" {
		return nil
	}
	return strings.Split(text, separator)
}
