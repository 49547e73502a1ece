package main

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/reflect/protoreflect"

	mesos "clusterd/api/mesos/v1"
	agentv1 "clusterd/api/mesos/v1/agent"
	"clusterd/api/mesos/v1/executor"
	"clusterd/api/mesos/v1/master"
	"clusterd/api/mesos/v1/scheduler"
	"clusterd/internal/flags"
)

var update = flag.Bool("update", false, "rewrite the generated parts of the documents")

const compatibility = "docs/compatibility.md"

func readText(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// shownBy names a test in which a flag's value, or the option that it sets, is
// other than its default and makes a difference. Of other flags it is only shown
// that they reach the daemon's options (internal/cli.TestFlagsReachOptions).
var shownBy = map[string]string{
	"help":          "internal/flags.TestModeChecks",
	"version":       "internal/flags.TestModeChecks",
	"quiet":         "internal/cli.TestLoggerFlags",
	"log_dir":       "internal/cli.TestLoggerFlags",
	"logging_level": "internal/cli.TestLoggerFlags",
	"domain":        "allocator.TestScripts/gates",

	"gossip_advertise": "registry/gossip.TestAdvertise",
	"gossip_key":       "registry/gossip.TestKeyMismatch",
	"gossip_port":      "internal/e2e.TestFailover",
	"join":             "internal/e2e.TestFailover",

	"master --bootstrap_expect":                       "internal/e2e.TestAllMastersAtOnce",
	"master --node_id":                                "registry/gossip.TestDuplicateName",
	"master --raft_heartbeat_timeout":                 "registry.TestLeadershipsDoNotOverlap",
	"master --advertise_ip":                           "server.TestMasterInfo",
	"master --advertise_port":                         "server.TestMasterInfo",
	"master --agent_ping_timeout":                     "server/core.TestTranscripts/agents",
	"master --max_agent_ping_timeouts":                "server/core.TestTranscripts/agents",
	"master --agent_removal_rate_limit":               "server/core.TestLimitersAreApart",
	"master --recovery_agent_removal_limit":           "server/core.TestRecoveryRemovalLimit",
	"master --non_checkpointing_grace":                "server/core.TestGrace",
	"master --agent_reregister_timeout":               "server/core.TestTranscripts/master_failover",
	"master --allocation_interval":                    "allocator.TestScripts/filters",
	"master --fair_sharing_excluded_resource_names":   "allocator.TestAgainstReference",
	"master --filter_gpu_resources":                   "allocator.TestScripts/gates",
	"master --allocator_agent_recovery_factor":        "server/core.TestAllocatorRecovery",
	"master --allocator_recovery_timeout":             "server/core.TestAllocatorRecovery",
	"master --allocator_placement":                    "allocator.TestScripts/placement",
	"master --framework_sorter":                       "allocator.TestAgainstReference",
	"master --role_sorter":                            "allocator.TestRandomSorterWeights",
	"master --hostname":                               "server.TestMasterInfo",
	"master --hostname_lookup":                        "server.TestMasterInfo",
	"master --ip":                                     "server.TestTaskLife",
	"master --port":                                   "server.TestTaskLife",
	"master --max_completed_frameworks":               "server/core.TestHistoryIsBounded",
	"master --max_completed_tasks_per_framework":      "server/core.TestHistoryIsBounded",
	"master --max_unreachable_tasks_per_framework":    "server/core.TestHistoryIsBounded",
	"master --registry_gc_interval":                   "server/core.TestRegistryForgets",
	"master --registry_max_agent_age":                 "server/core.TestRegistryForgets",
	"master --registry_max_agent_count":               "server/core.TestRegistryForgets",
	"master --require_agent_domain":                   "server/core.TestAgentDomainIsRequired",
	"master --min_allocatable_resources":              "allocator.TestScripts/minimum",
	"master --offer_constraints_re2_max_mem":          "server/core.TestOfferConstraintRegexpsAreLimited",
	"master --offer_constraints_re2_max_program_size": "server/core.TestOfferConstraintRegexpsAreLimited",
	"master --offer_timeout":                          "server/core.TestTranscripts/kill_and_executors",
	"master --registry":                               "server.TestTaskLife",
	"master --registry_fetch_timeout":                 "registry.TestFetchTimeout",
	"master --registry_store_timeout":                 "registry.TestStoreTimeoutIsFatal",
	"master --raft_advertise":                         "registry.TestMovedMemberTellsItsAddress",
	"master --roles":                                  "server/core.TestTranscripts/calls",
	"master --raft_port":                              "internal/e2e.TestRestartKeeps",
	"master --root_submissions":                       "server/core.TestTranscripts/calls",
	"master --whitelist":                              "server.TestWhitelist",
	"master --work_dir":                               "internal/e2e.TestRestartKeeps",

	"agent --attributes":                               "internal/conformance.TestGoldenStream",
	"agent --disk_watch_interval":                      "agent.TestGarbageCollection",
	"agent --gc_delay":                                 "agent.TestAge",
	"agent --gc_disk_headroom":                         "agent.TestAge",
	"agent --gc_non_executor_container_sandboxes":      "agent.TestCollectNestedSandboxes",
	"agent --default_role":                             "allocator/resources.TestParseDefaultRole",
	"agent --executor_environment_variables":           "agent.TestExecutorEnvironment",
	"agent --executor_registration_timeout":            "agent/core.TestTranscripts/failures",
	"agent --executor_reregistration_timeout":          "agent.TestExecutorThatDoesNotComeBack",
	"agent --executor_shutdown_grace_period":           "agent/core.TestTranscripts/failures",
	"agent --fetcher_stall_timeout":                    "agent/fetcher.TestFetchStall",
	"agent --frameworks_home":                          "agent/fetcher.TestFetchSources",
	"agent --hostname":                                 "internal/conformance.TestGoldenStream",
	"agent --hostname_lookup":                          "agent/hostinfo.TestHostname",
	"agent --ip":                                       "agent/hostinfo.TestPickIP",
	"agent --isolation":                                "isolation/setup.TestIsolatorNames",
	"agent --master":                                   "agent.TestMastersReplaced",
	"agent --port":                                     "internal/e2e.TestRestartKeeps",
	"agent --recovery_timeout":                         "internal/e2e.TestRecoveryTimeout",
	"agent --recover":                                  "internal/e2e.TestRecoverCleanup",
	"agent --reconfiguration_policy":                   "internal/e2e.TestReconfiguration",
	"agent --registration_backoff_factor":              "agent/core.TestHerd",
	"agent --resources":                                "internal/conformance.TestGoldenStream",
	"agent --runtime_dir":                              "isolation.TestMesosContainerizer",
	"agent --strict":                                   "internal/e2e.TestDamagedCheckpoint",
	"agent --switch_user":                              "agent/fetcher.TestFetchAsUser",
	"agent --join":                                     "agent.TestJoin",
	"agent --agent_subsystems":                         "isolation/isolators/cgroup.TestAgentSubsystems",
	"agent --allowed_devices":                          "isolation/isolators/cgroup.TestAllowedDevices",
	"agent --bounding_capabilities":                    "isolation/isolators/security.TestCapabilities",
	"agent --cgroups_cpu_enable_pids_and_tids_count":   "isolation/isolators/cgroup.TestCPU",
	"agent --cgroups_enable_cfs":                       "isolation/isolators/cgroup.TestThrottling",
	"agent --cgroups_hierarchy":                        "isolation/cgroups.TestHierarchies",
	"agent --cgroups_limit_swap":                       "isolation/isolators/cgroup.TestLimitSwap",
	"agent --cgroups_net_cls_primary_handle":           "isolation/isolators/cgroup.TestNetCls",
	"agent --cgroups_net_cls_secondary_handles":        "isolation/isolators/cgroup.TestNetCls",
	"agent --cgroups_root":                             "isolation/cgroups.TestHierarchies",
	"agent --container_disk_watch_interval":            "isolation/isolators/disk.TestDUFiller",
	"agent --container_logger":                         "agent.TestContainerLogger",
	"agent --container_ports_isolated_range":           "isolation/isolators/network/ports.TestLimitation",
	"agent --container_ports_watch_interval":           "isolation/isolators/network/ports.TestLimitation",
	"agent --containerizers":                           "isolation.TestComposing",
	"agent --default_container_dns":                    "isolation/isolators/network/cni.TestSeveralNetworks",
	"agent --default_container_shm_size":               "isolation/isolators/namespaces.TestIPC",
	"agent --disallow_sharing_agent_ipc_namespace":     "isolation/isolators/namespaces.TestIPC",
	"agent --disallow_sharing_agent_pid_namespace":     "isolation/isolators/namespaces.TestPID",
	"agent --docker_config":                            "isolation/docker.TestRegistryAuth",
	"agent --docker_ignore_runtime":                    "isolation/isolators/runtime.TestCommand",
	"agent --docker_mesos_image":                       "internal/e2e.TestDockerMesosImage",
	"agent --docker_registry":                          "isolation/images.TestLocalImages",
	"agent --docker_socket":                            "isolation/docker.TestLife",
	"agent --docker_stop_timeout":                      "isolation/docker.TestStopTimeout",
	"agent --docker_store_dir":                         "isolation/images.TestStoreInUse",
	"agent --effective_capabilities":                   "isolation/isolators/security.TestCapabilities",
	"agent --egress_rate_limit_per_container":          "isolation/isolators/network/portmapping.TestRates",
	"agent --egress_unique_flow_per_container":         "isolation/isolators/network/portmapping.TestSteering",
	"agent --enforce_container_disk_quota":             "isolation/isolators/disk.TestDUFiller",
	"agent --enforce_container_ports":                  "isolation/isolators/network/ports.TestLimitation",
	"agent --ephemeral_ports_per_container":            "isolation/isolators/network/portmapping.TestSteering",
	"agent --eth0_name":                                "isolation/isolators/network/portmapping.TestSteering",
	"agent --fetcher_cache_dir":                        "agent/fetcher.TestCacheEvicts",
	"agent --fetcher_cache_size":                       "agent/fetcher.TestCacheEvicts",
	"agent --hadoop_home":                              "agent/fetcher.TestHadoop",
	"agent --host_path_volume_force_creation":          "isolation/isolators/filesystem.TestHostPath",
	"agent --http_heartbeat_interval":                  "agent.TestSession",
	"agent --image_gc_config":                          "isolation/images.TestCollect",
	"agent --image_providers":                          "isolation/images.TestRealContainer",
	"agent --image_provisioner_backend":                "isolation/images.TestProvision",
	"agent --ingress_rate_limit_per_container":         "isolation/isolators/network/portmapping.TestRates",
	"agent --launcher":                                 "isolation.TestLinuxLauncher",
	"agent --lo_name":                                  "isolation/isolators/network/portmapping.TestSteering",
	"agent --network_cni_config_dir":                   "isolation/isolators/network/cni.TestConnected",
	"agent --network_cni_plugins_dir":                  "isolation/isolators/network/cni.TestConnected",
	"agent --network_enable_rate_statistics":           "isolation/isolators/network/portmapping.TestRateStatistics",
	"agent --network_enable_snmp_statistics":           "isolation/isolators/network/portmapping.TestStatistics",
	"agent --network_enable_socket_statistics_details": "isolation/isolators/network/portmapping.TestStatistics",
	"agent --network_enable_socket_statistics_summary": "isolation/isolators/network/portmapping.TestStatistics",
	"agent --network_rate_statistics_interval":         "isolation/isolators/network/portmapping.TestRateStatistics",
	"agent --network_rate_statistics_window":           "isolation/isolators/network/portmapping.TestRateStatistics",
	"agent --nvidia_gpu_devices":                       "isolation/isolators/gpu.TestDiscover",
	"agent --perf_duration":                            "isolation/isolators/cgroup.TestPerf",
	"agent --perf_events":                              "isolation/isolators/cgroup.TestPerf",
	"agent --perf_interval":                            "isolation/isolators/cgroup.TestPerf",
	"agent --revocable_cpu_low_priority":               "isolation/isolators/cgroup.TestCPU",
	"agent --seccomp_config_dir":                       "isolation/isolators/security.TestSeccomp",
	"agent --seccomp_profile_name":                     "isolation/isolators/security.TestSeccomp",
	"agent --user_namespace_range":                     "isolation/isolators/namespaces.TestUser",
	"agent --volume_gid_range":                         "isolation/isolators/filesystem.TestVolumeGIDs",
	"agent --xfs_kill_containers":                      "isolation/isolators/disk.TestXFSFiller",
	"agent --xfs_project_range":                        "isolation/isolators/disk.TestXFSIDs",
	"agent --xfs_quota_headroom":                       "isolation/isolators/disk.TestXFSFiller",
	"agent --gossip_port":                              "agent.TestJoin",
	"agent --gossip_key":                               "agent.TestJoinFails",
	"agent --node_id":                                  "agent.TestNodeID",
	"agent --work_dir":                                 "internal/e2e.TestRestartKeeps",
	"acls":                                             "internal/e2e.TestSecureCluster",
	"audit_log":                                        "internal/e2e.TestSecureCluster",
	"authenticate_agents":                              "internal/e2e.TestSecureCluster",
	"authenticate_frameworks":                          "internal/cli.TestSecurity",
	"authenticate_http_executors":                      "internal/e2e.TestSecureCluster",
	"authenticate_http_frameworks":                     "internal/e2e.TestSecureCluster",
	"authenticate_http_readonly":                       "internal/e2e.TestSecureCluster",
	"authenticate_http_readwrite":                      "internal/e2e.TestSecureCluster",
	"authenticators":                                   "internal/cli.TestSecurity",
	"automatic_maintenance":                            "server/core.TestAutomaticMaintenance",
	"credential":                                       "internal/e2e.TestSecureCluster",
	"credentials":                                      "internal/e2e.TestSecureCluster",
	"external_log_file":                                "internal/logs.TestLogFile",
	"firewall_rules":                                   "server.TestFirewall",
	"http_authenticators":                              "internal/cli.TestSecurity",
	"http_credentials":                                 "internal/e2e.TestSecureCluster",
	"http_framework_authenticators":                    "internal/cli.TestSecurity",
	"jwt_secret_key":                                   "internal/e2e.TestSecureCluster",
	"logbufsecs":                                       "internal/logs.TestBuffer",
	"max_connections":                                  "internal/httpapi.TestConns",
	"max_event_history":                                "server/events.TestFallenBehind",
	"max_operator_event_stream_subscribers":            "server/events.TestOldestIsClosed",
	"oidc_audience":                                    "internal/authn.TestOIDC",
	"oidc_ca":                                          "internal/authn.TestOIDC",
	"oidc_client_id":                                   "server.TestOIDCLogin",
	"oidc_client_secret":                               "internal/authn.TestOIDCClientSettings",
	"oidc_issuer":                                      "internal/authn.TestOIDC",
	"oidc_principal_claim":                             "internal/authn.TestOIDCSettings",
	"oidc_redirect_url":                                "internal/authn.TestOIDCClientSettings",
	"oidc_scopes":                                      "internal/authn.TestOIDCClientSettings",
	"rate_limits":                                      "server.TestRateLimiter",
	"read_header_timeout":                              "agent.TestSlowClients",
	"webui_dir":                                        "ui.TestDir",
	"tls_ca":                                           "internal/e2e.TestSecureCluster",
	"tls_cert":                                         "internal/e2e.TestSecureCluster",
	"tls_key":                                          "internal/e2e.TestSecureCluster",
	"tls_min_version":                                  "internal/cli.TestSecurity",
	"tls_require_client_cert":                          "internal/cli.TestSecurity",
	"user_jwt_audience":                                "internal/authn.TestClaimsOfUserTokens",
	"user_jwt_key":                                     "internal/authn.TestUserTokens",
	"user_jwt_principal_claim":                         "internal/authn.TestClaimsOfUserTokens",
	"weights":                                          "server.TestFirstWeights",
	"http_executor_domain_sockets":                     "agent.TestTLS",
	"domain_socket_location":                           "agent.TestTLS",
}

// flagTable writes the table of a mode's flags.
func flagTable(s *flags.Set, used map[string]bool) string {
	var b strings.Builder
	b.WriteString("| flag | default | state | here |\n|---|---|---|---|\n")
	for _, f := range s.Flags() {
		def := f.Default
		if f.Name == "runtime_dir" {
			def = "/var/run/mesos" // as root; other users have theirs in the temporary directory
		}
		if def != "" {
			def = "`" + strings.ReplaceAll(def, "|", `\|`) + "`"
		}
		name := "`--" + f.Name + "`"
		for _, a := range f.Aliases {
			name += " (`--" + a + "`)"
		}
		here := strings.ReplaceAll(f.Help, "|", `\|`)
		if f.Note != "" {
			here += " *" + f.Note + "*"
		}
		state := "works"
		switch f.State {
		case flags.Accepted:
			state = "not yet"
		case flags.Guarded:
			state = "not yet, refused"
		case flags.Replaced:
			state = "differs"
		case flags.Rejected:
			state = "refused"
		case flags.Works:
			state = "untested"
			for _, key := range []string{s.Mode + " --" + f.Name, f.Name} {
				if test := shownBy[key]; test != "" {
					used[key] = true
					state = "works"
					here += " `" + test + "`"
					break
				}
			}
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", name, def, state, here)
	}
	return b.String()
}

// TestDocumentedFlags compares the tables of flags in docs/compatibility.md with
// those of internal/flags; go test -run TestDocumentedFlags -update . rewrites them.
func TestDocumentedFlags(t *testing.T) {
	text := readText(t, compatibility)
	used := map[string]bool{}
	for _, s := range []*flags.Set{flags.Master(), flags.Agent()} {
		begin, end := "<!-- generated: flags of "+s.Mode+" -->\n", "<!-- end -->\n"
		before, rest, ok := strings.Cut(text, begin)
		if !ok {
			t.Fatalf("%s lacks %q", compatibility, begin)
		}
		got, after, ok := strings.Cut(rest, end)
		if !ok {
			t.Fatalf("%s lacks %q after %q", compatibility, end, begin)
		}
		want := flagTable(s, used)
		if *update {
			text = before + begin + want + end + after
			continue
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("flags of the %s (-tables +document):\n%s", s.Mode, d)
		}
	}
	for key := range shownBy {
		if !used[key] {
			t.Errorf("shownBy has %q, which is no flag that works", key)
		}
	}
	if *update {
		if err := os.WriteFile(compatibility, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// section returns the part of a document below a heading, up to the next one of
// the same or a higher level.
func section(t *testing.T, text, heading string) string {
	t.Helper()
	_, rest, ok := strings.Cut(text, "\n"+heading+"\n")
	if !ok {
		t.Fatalf("%s has no heading %q", compatibility, heading)
	}
	level, _, _ := strings.Cut(heading, " ")
	for n := len(level); n > 1; n-- {
		if i := strings.Index(rest, "\n"+strings.Repeat("#", n)+" "); i >= 0 {
			rest = rest[:i]
		}
	}
	return rest
}

// row is a line of a table: its cells, trimmed.
func rows(text string) [][]string {
	var out [][]string
	for line := range strings.SplitSeq(text, "\n") {
		if !strings.HasPrefix(line, "|") || strings.HasPrefix(line, "|---") {
			continue
		}
		line = strings.ReplaceAll(strings.Trim(line, "|"), `\|`, "\x00")
		cells := strings.Split(line, "|")
		for i := range cells {
			cells[i] = strings.TrimSpace(strings.ReplaceAll(cells[i], "\x00", "|"))
		}
		out = append(out, cells)
	}
	return out
}

// TestDocumentedCalls wants a row for every call, event, operation, capability,
// state and reason of the contract, and no row for one that is not there.
func TestDocumentedCalls(t *testing.T) {
	text := readText(t, compatibility)
	for heading, enum := range map[string]protoreflect.EnumDescriptor{
		"### Scheduler calls":        scheduler.Call_UNKNOWN.Descriptor(),
		"### Scheduler events":       scheduler.Event_UNKNOWN.Descriptor(),
		"### Operations":             mesos.Offer_Operation_UNKNOWN.Descriptor(),
		"### Framework capabilities": mesos.FrameworkInfo_Capability_UNKNOWN.Descriptor(),
		"### Task states":            mesos.TaskState_TASK_STAGING.Descriptor(),
		"### Reasons":                mesos.TaskStatus_REASON_RECONCILIATION.Descriptor(),
		"### Executor calls":         executor.Call_UNKNOWN.Descriptor(),
		"### Executor events":        executor.Event_UNKNOWN.Descriptor(),
		"### Master calls":           master.Call_UNKNOWN.Descriptor(),
		"### Master events":          master.Event_UNKNOWN.Descriptor(),
		"### Agent calls":            agentv1.Call_UNKNOWN.Descriptor(),
		"### Agent capabilities":     mesos.AgentInfo_Capability_UNKNOWN.Descriptor(),
	} {
		var want, got []string
		for i := range enum.Values().Len() {
			if name := string(enum.Values().Get(i).Name()); name != "UNKNOWN" {
				want = append(want, name)
			}
		}
		for _, cells := range rows(section(t, text, heading))[1:] {
			for name := range strings.FieldsSeq(strings.ReplaceAll(cells[0], ",", " ")) {
				got = append(got, strings.Trim(name, "`"))
			}
		}
		slices.Sort(want)
		slices.Sort(got)
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s (-contract +document):\n%s", heading, d)
		}
	}
}

// TestDocumentedStates wants each row of docs/compatibility.md that has a state
// to have one of the few that there are, and each that says "works" to name a
// test.
func TestDocumentedStates(t *testing.T) {
	states := []string{"works", "untested", "differs", "not yet", "not yet, refused", "refused"}
	text := readText(t, compatibility)
	state := -1
	n := 0
	for _, cells := range rows(text) {
		if i := slices.Index(cells, "state"); i >= 0 || cells[0] == "where" {
			state = i
			continue
		}
		if state < 0 {
			continue
		}
		n++
		if len(cells) <= state || !slices.Contains(states, cells[state]) {
			t.Errorf("row %q has no state", cells)
			continue
		}
		if isFlag := strings.HasPrefix(cells[0], "`--"); !isFlag && cells[state] == "works" && len(namedTests(strings.Join(cells, " "))) == 0 {
			t.Errorf("%s is said to work, but no test is named", cells[0])
		}
	}
	if n < 300 {
		t.Errorf("only %d rows", n)
	}
}

var testName = regexp.MustCompile("`([a-z0-9/_]+)\\.((?:Test|Fuzz|Benchmark)\\w+)((?:/[\\w.-]+)*)`")

// namedTests finds references such as `server/core.TestTranscripts/calls`.
func namedTests(text string) [][]string { return testName.FindAllStringSubmatch(text, -1) }

// TestDocumentedTests wants every test that a document names to be there.
func TestDocumentedTests(t *testing.T) {
	sources := map[string]string{} // of all tests of a package, and the names of its test data
	for _, doc := range documents(t) {
		for _, ref := range namedTests(readText(t, doc)) {
			dir, name, sub := ref[1], ref[2], strings.Trim(ref[3], "/")
			if _, ok := sources[dir]; !ok {
				sources[dir] = testSources(t, dir)
			}
			if !strings.Contains(sources[dir], "\nfunc "+name+"(") {
				t.Errorf("%s names %s, which is not there", doc, ref[0])
			}
			for part := range strings.SplitSeq(sub, "/") {
				if !strings.Contains(sources[dir], part) {
					t.Errorf("%s names %s: there is no %q", doc, ref[0], part)
				}
			}
		}
	}
}

func testSources(t *testing.T, dir string) string {
	var b strings.Builder
	files, err := filepath.Glob(filepath.Join(dir, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		b.WriteString(readText(t, f))
	}
	for _, pattern := range []string{"testdata/*", "testdata/*/*"} {
		data, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil {
			t.Fatal(err)
		}
		b.WriteString(strings.Join(data, "\n"))
	}
	return b.String()
}

// documents are all that is written for people.
func documents(t *testing.T) []string {
	var out []string
	for _, pattern := range []string{"*.md", "docs/*.md", "examples/*.md", "*/*.md", "*/*/*.md"} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, found...)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

var (
	link     = regexp.MustCompile(`\]\(([^)#:]+)(#[^)]*)?\)`)
	codePath = regexp.MustCompile("`([a-z][\\w.-]*(?:/[\\w.-]+)+)`")
)

// TestDocumentLinks wants the files that documents link to, and the paths of the
// repository that they name, to be there.
func TestDocumentLinks(t *testing.T) {
	tops := map[string]bool{}
	entries, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		tops[e.Name()] = e.IsDir() && e.Name() != "bin"
	}
	for _, doc := range documents(t) {
		text := readText(t, doc)
		for _, m := range link.FindAllStringSubmatch(text, -1) {
			if _, err := os.Stat(filepath.Join(filepath.Dir(doc), m[1])); err != nil {
				t.Errorf("%s links to %s: %v", doc, m[1], err)
			}
		}
		for _, m := range codePath.FindAllStringSubmatch(text, -1) {
			top, _, _ := strings.Cut(m[1], "/")
			// agent/core.TestX is a test, agent/metrics.go a file.
			if !tops[top] || testName.MatchString(m[0]) {
				continue
			}
			if _, err := os.Stat(m[1]); err != nil {
				t.Errorf("%s names %s: %v", doc, m[1], err)
			}
		}
	}
}

// TestDocumentedEndpoints wants a row for each endpoint that a router knows, as
// found in the sources.
func TestDocumentedEndpoints(t *testing.T) {
	text := readText(t, compatibility)
	handle := regexp.MustCompile(`\.Handle\("(/[^"]+)"`)
	for heading, files := range map[string][]string{
		"### Endpoints of the master": {"server/reads.go"},
		"### Endpoints of the agent":  {"agent/http.go"},
		"### Endpoints of both":       {"internal/httpapi/common.go", "internal/files/http.go"},
	} {
		named := map[string]bool{}
		for _, cells := range rows(section(t, text, heading)) {
			for name := range strings.FieldsSeq(strings.ReplaceAll(cells[0], ",", " ")) {
				named[strings.Trim(name, "`")] = true
			}
		}
		served := map[string]bool{}
		for _, f := range files {
			for _, m := range handle.FindAllStringSubmatch(readText(t, f), -1) {
				served[m[1]] = true
			}
		}
		if len(served) < 4 {
			t.Errorf("%s: found only %v in %v", heading, served, files)
		}
		for _, path := range slices.Sorted(maps.Keys(served)) {
			if strings.HasPrefix(path, "/files/") && heading != "### Endpoints of both" {
				continue
			}
			if !named[path] {
				t.Errorf("%s: no row for %s", heading, path)
			}
		}
	}
}
