package cli

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/rs/zerolog"

	"clusterd/internal/flags"
)

// TestFlagsReachOptions gives each flag that is said to work a value that is not
// its default, and wants the daemon's options to change.
func TestFlagsReachOptions(t *testing.T) {
	discovery := filepath.Join(t.TempDir(), "ip")
	if err := os.WriteFile(discovery, []byte("#!/bin/sh\necho 127.0.0.9\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	domain := `{"fault_domain":{"region":{"name":"r"},"zone":{"name":"z"}}}`
	// Read elsewhere: see TestLoggerFlags and the scripts; --allocator has one value.
	// What openSecurity reads is tried in TestSecurity.
	elsewhere := map[string]bool{
		"acls": true, "authenticate_agents": true, "authenticate_frameworks": true, "authenticate_http_executors": true, "authenticate_http_frameworks": true,
		"authenticate_http_readonly": true, "authenticate_http_readwrite": true, "authenticators": true, "credential": true, "credentials": true,
		"http_authenticators": true, "http_credentials": true, "http_framework_authenticators": true, "jwt_secret_key": true,
		"oidc_audience": true, "oidc_ca": true, "oidc_issuer": true, "oidc_principal_claim": true,
		"oidc_client_id": true, "oidc_client_secret": true, "oidc_redirect_url": true, "oidc_scopes": true,
		"tls_ca": true, "tls_cert": true, "tls_key": true, "tls_min_version": true, "tls_require_client_cert": true,
		"user_jwt_audience": true, "user_jwt_key": true, "user_jwt_principal_claim": true,
		// They only count beside --network_enable_rate_statistics, which is tried with both.
		"network_enable_rate_statistics": true, "network_rate_statistics_window": true, "network_rate_statistics_interval": true,
		"audit_log": true, "external_log_file": true, "logbufsecs": true,
		"help": true, "version": true, "quiet": true, "log_dir": true, "logging_level": true, "allocator": true,
	}
	master := map[string]string{
		"bootstrap_expect": "3", "join": "a,b:1", "gossip_port": "99", "gossip_advertise": "h:2", "gossip_key": "MDEyMzQ1Njc4OWFiY2RlZg==",
		"node_id": "m1", "raft_heartbeat_timeout": "2secs", "non_checkpointing_grace": "1mins", "recovery_agent_removal_limit": "50%",
		"advertise_ip": "10.1.1.1", "advertise_port": "99", "agent_ping_timeout": "20secs", "agent_removal_rate_limit": "1/10mins",
		"agent_reregister_timeout": "11mins", "allocation_interval": "2secs",
		"allocator_agent_recovery_factor": "0.5", "allocator_recovery_timeout": "1mins", "allocator_placement": "pack",
		"cluster": "c", "domain": domain,
		"fair_sharing_excluded_resource_names": "gpus", "filter_gpu_resources": "false", "framework_sorter": "random", "hostname": "h",
		"hostname_lookup": "false", "ip": "127.0.0.2", "ip_discovery_command": discovery, "max_agent_ping_timeouts": "6",
		"max_completed_frameworks": "51", "max_completed_tasks_per_framework": "1001", "max_unreachable_tasks_per_framework": "1001",
		"min_allocatable_resources": "cpus:1", "offer_constraints_re2_max_mem": "8KB",
		"offer_constraints_re2_max_program_size": "200", "offer_timeout": "1mins", "port": "99", "publish_per_framework_metrics": "false",
		"raft_advertise": "h:1", "raft_port": "99", "registry": "in_memory", "registry_fetch_timeout": "2mins", "registry_gc_interval": "1mins",
		"registry_max_agent_age": "1weeks", "registry_max_agent_count": "1", "registry_store_timeout": "1secs",
		"automatic_maintenance": "true", "firewall_rules": `{"disabled_endpoints":{"paths":["/files/browse"]}}`, "max_connections": "99",
		"max_event_history": "99", "max_operator_event_stream_subscribers": "99", "rate_limits": `{"limits":[{"principal":"p","qps":1}]}`,
		"read_header_timeout": "9secs", "weights": "a=2",
		"require_agent_domain": "true", "role_sorter": "random", "roles": "a,b", "root_submissions": "false", "webui_dir": "/pages", "whitelist": "/hosts", "work_dir": "/other",
	}
	agent := map[string]string{
		"http_executor_domain_sockets": "true", "domain_socket_location": "/s",
		"firewall_rules": `{"disabled_endpoints":{"paths":["/files/browse"]}}`, "max_connections": "99", "read_header_timeout": "9secs",
		"advertise_ip": "10.1.1.1", "advertise_port": "99", "attributes": "a:b", "default_container_info": `{"type":"MESOS"}`, "default_role": "r",
		"disk_watch_interval": "2mins", "domain": domain, "executor_environment_variables": `{"A":"b"}`, "executor_registration_timeout": "2mins",
		"executor_reregistration_timeout": "3secs", "executor_shutdown_grace_period": "6secs", "fetcher_stall_timeout": "2mins",
		"frameworks_home": "/h", "gossip_advertise": "h:2", "gossip_key": "MDEyMzQ1Njc4OWFiY2RlZg==", "gossip_port": "99", "node_id": "n1", "gc_delay": "2weeks", "gc_disk_headroom": "0.2", "gc_non_executor_container_sandboxes": "true", "hostname": "h", "hostname_lookup": "false", "ip": "127.0.0.2",
		"ip_discovery_command": discovery, "isolation": "posix/cpu", "join": "other", "launcher": "linux", "master": "b:2",
		"max_completed_executors_per_framework": "151", "port": "99", "reconfiguration_policy": "additive", "recover": "cleanup",
		"recovery_timeout": "16mins", "registration_backoff_factor": "2secs", "resources": "cpus:1", "runtime_dir": "/other", "strict": "false",
		"switch_user": "false", "work_dir": "/other",
		"hadoop_home": "/h", "fetcher_cache_size": "1GB", "fetcher_cache_dir": "/f", "sandbox_directory": "/s", "default_container_shm_size": "1MB",
		"disallow_sharing_agent_ipc_namespace": "true", "disallow_sharing_agent_pid_namespace": "true", "host_path_volume_force_creation": "/a:/b",
		"container_disk_watch_interval": "1mins", "enforce_container_disk_quota": "true", "xfs_project_range": "[1-2]", "xfs_kill_containers": "true",
		"xfs_quota_headroom": "1MB", "seccomp_config_dir": "/s", "seccomp_profile_name": "p", "user_namespace_range": "[100000-300000]",
		"effective_capabilities": `{"capabilities":["CHOWN"]}`, "bounding_capabilities": `{"capabilities":["CHOWN"]}`,
		"cgroups_hierarchy": "/c", "cgroups_root": "c", "cgroups_destroy_timeout": "2mins", "cgroups_enable_cfs": "true", "cgroups_limit_swap": "true",
		"cgroups_cpu_enable_pids_and_tids_count": "true", "cgroups_net_cls_primary_handle": "0x1", "cgroups_net_cls_secondary_handles": "0x1,0x2",
		"allowed_devices": `{"allowed_devices":[{"device":{"path":"/dev/null"},"access":{}}]}`, "agent_subsystems": "cpu", "revocable_cpu_low_priority": "false",
		"http_heartbeat_interval": "1secs", "container_logger": "org_apache_mesos_LogrotateContainerLogger",
		"containerizers": "docker,mesos", "docker_socket": "/d", "docker_config": "{}", "docker_kill_orphans": "false", "docker_mesos_image": "i", "docker_remove_delay": "1mins", "docker_stop_timeout": "1secs",
		"default_container_dns": `{"mesos":[{"network_mode":"CNI","network_name":"n","dns":{"nameservers":["10.0.0.1"]}}]}`,
		"volume_gid_range":      "[10000-20000]", "image_providers": "docker", "image_provisioner_backend": "copy", "image_gc_config": `{"image_disk_headroom":0.2}`,
		"nvidia_gpu_devices": "0,1", "docker_registry": "/r", "docker_store_dir": "/d", "docker_ignore_runtime": "true",
		"network_cni_plugins_dir": "/p", "network_cni_config_dir": "/c", "network_cni_root_dir_persist": "true", "network_cni_metrics": "false",
		"container_ports_watch_interval": "1secs", "check_agent_port_range_only": "true", "enforce_container_ports": "true",
		"container_ports_isolated_range": "[1000-2000]", "ephemeral_ports_per_container": "512", "eth0_name": "e", "lo_name": "l",
		"egress_rate_limit_per_container": "1MB", "egress_rate_per_cpu": "auto", "minimum_egress_rate_limit": "1MB", "maximum_egress_rate_limit": "1MB",
		"egress_ceil_limit": "1MB", "egress_burst": "1MB", "egress_unique_flow_per_container": "true", "egress_flow_classifier_parent": "p",
		"ingress_rate_limit_per_container": "1MB", "ingress_rate_per_cpu": "1MB", "minimum_ingress_rate_limit": "1MB", "maximum_ingress_rate_limit": "1MB",
		"ingress_ceil_limit": "1MB", "ingress_burst": "1MB", "ingress_isolate_existing_containers": "false", "network_link_speed": "1MB",
		"network_enable_socket_statistics_summary": "true", "network_enable_socket_statistics_details": "true", "network_enable_snmp_statistics": "true",
		"perf_events": "cycles", "perf_interval": "2mins", "perf_duration": "5secs",
	}
	for _, mode := range []struct {
		set     *flags.Set
		values  map[string]string
		options func(t *testing.T, args ...string) any
	}{
		{flags.Master(), master, func(t *testing.T, args ...string) any {
			v, err := flags.Master().Parse(with(args, "work_dir", "/w"), nil)
			if err != nil {
				t.Fatal(err)
			}
			o, err := masterOptions(t.Context(), v)
			if err != nil {
				t.Fatal(err)
			}
			o.Flags, o.Logger = nil, zerolog.Nop()
			return o
		}},
		{flags.Agent(), agent, func(t *testing.T, args ...string) any {
			if !strings.HasPrefix(strings.Join(args, " "), "--join=") {
				args = with(args, "master", "a:1")
			}
			v, err := flags.Agent().Parse(with(args, "work_dir", "/w"), nil)
			if err != nil {
				t.Fatal(err)
			}
			o, err := agentOptions(t.Context(), v)
			if err != nil {
				t.Fatal(err)
			}
			o.Flags, o.Log = nil, zerolog.Nop()
			return o
		}},
	} {
		plain := mode.options(t)
		for _, f := range mode.set.Flags() {
			value, ok := mode.values[f.Name]
			if f.State != flags.Works || elsewhere[f.Name] || (ok && value == "") {
				continue
			}
			t.Run(mode.set.Mode+"/"+f.Name, func(t *testing.T) {
				if !ok {
					t.Fatal("no value to try")
				}
				if reflect.DeepEqual(plain, mode.options(t, "--"+f.Name+"="+value)) {
					t.Errorf("--%s=%s changes nothing", f.Name, value)
				}
			})
		}
	}
}

// with adds a flag unless it is given.
func with(args []string, name, value string) []string {
	if strings.HasPrefix(strings.Join(args, " "), "--"+name+"=") {
		return args
	}
	return append(args, "--"+name+"="+value)
}

// TestJoinersFoundNothing: a master that is told whom to join founds no cluster
// of its own unless it is told to.
func TestJoinersFoundNothing(t *testing.T) {
	for args, want := range map[string]int{
		"": 1, "--join=a": 0, "--join=a --bootstrap-expect=3": 3, "--join=a --bootstrap_expect=1": 1, "--bootstrap_expect=0": 0,
	} {
		v, err := flags.Master().Parse(append([]string{"--work_dir=/w"}, strings.Fields(args)...), nil)
		if err != nil {
			t.Fatal(err)
		}
		o, err := masterOptions(t.Context(), v)
		if err != nil {
			t.Fatal(err)
		}
		if o.BootstrapExpect != want {
			t.Errorf("%q: bootstrap_expect is %d, want %d", args, o.BootstrapExpect, want)
		}
	}
}

// TestLoggerFlags looks at what --quiet, --log_dir and --logging_level do to the log.
func TestLoggerFlags(t *testing.T) {
	for _, tc := range []struct {
		args                     []string
		stderr, file, infoLogged bool
	}{
		{nil, true, false, true},
		{[]string{"--quiet"}, false, false, false},
		{[]string{"--log_dir"}, true, true, true},
		{[]string{"--quiet", "--log_dir"}, false, true, true},
		{[]string{"--logging_level=WARNING"}, true, false, false},
	} {
		t.Run(strings.Join(tc.args, " "), func(t *testing.T) {
			dir := t.TempDir()
			args := []string{"--work_dir=/w"}
			for _, a := range tc.args {
				if a == "--log_dir" {
					a += "=" + dir
				}
				args = append(args, a)
			}
			v, err := flags.Master().Parse(args, nil)
			if err != nil {
				t.Fatal(err)
			}
			var stderr strings.Builder
			journal, _, err := openLogs(env{Err: &stderr}, v, "mesos-master")
			if err != nil {
				t.Fatal(err)
			}
			log := journal.Logger()
			log.Info().Msg("news")
			log.Warn().Msg("trouble")
			if err := journal.Close(); err != nil {
				t.Fatal(err)
			}
			file, _ := os.ReadFile(filepath.Join(dir, "mesos-master.INFO"))
			for _, out := range []struct {
				name, text string
				used       bool
			}{{"stderr", stderr.String(), tc.stderr}, {"file", string(file), tc.file}} {
				if got := strings.Contains(out.text, "trouble"); got != out.used {
					t.Errorf("%s has the warning: %v, want %v", out.name, got, out.used)
				}
				if got := strings.Contains(out.text, "news"); got != (out.used && tc.infoLogged) {
					t.Errorf("%s has the news: %v, want %v", out.name, got, out.used && tc.infoLogged)
				}
			}
		})
	}
}
