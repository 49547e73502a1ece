package cli

import (
	"fmt"
	"strconv"
	"strings"

	"google.golang.org/protobuf/proto"

	mesos "clusterd/api/mesos/v1"
	"clusterd/api/mesosjson"
	"clusterd/internal/flags"
	"clusterd/isolation/isolators/cgroup"
	"clusterd/isolation/isolators/disk"
	"clusterd/isolation/isolators/filesystem"
	"clusterd/isolation/isolators/namespaces"
	rights "clusterd/isolation/isolators/security"
	"clusterd/isolation/setup"
)

// containerOptions reads the flags about containers.
func containerOptions(v *flags.Values) (setup.Options, error) {
	o := setup.Options{
		Launcher: v.String("launcher"), Isolation: v.String("isolation"),
		CgroupsHierarchy: v.Path("cgroups_hierarchy"), CgroupsRoot: v.String("cgroups_root"),
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
	return o, nil
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
