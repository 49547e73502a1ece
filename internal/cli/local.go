package cli

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"clusterd/internal/cli/console"
	"clusterd/internal/flags"
)

// localHint says what mesos-local takes.
const localHint = "mesos-local takes --work_dir=DIR, --num_slaves=N, --port=PORT and --ip=IP; flags of master and agents are read from $MESOS_NAME"

// localFlags are the flags of mesos-local (src/local/flags.hpp, main.cpp) and what they are of
// dev.
var localFlags = []struct{ name, dev string }{
	{"work_dir", "work_dir"}, {"num_slaves", "agents"}, {"num_agents", "agents"}, {"port", "port"}, {"ip", "ip"},
}

// localArgs turns the arguments and the environment of mesos-local into arguments of dev: its
// own flags, which both may give, the arguments first. Those of master and agents dev reads
// itself.
func localArgs(args, environ []string) ([]string, error) {
	given := map[string]string{}
	for _, prefix := range []string{"MESOS_", "CLUSTERD_"} {
		for _, f := range localFlags {
			for _, kv := range environ {
				if value, ok := strings.CutPrefix(kv, prefix+strings.ToUpper(f.name)+"="); ok && value != "" {
					given[f.dev] = value
				}
			}
		}
	}
	for _, a := range args {
		name, value, ok := strings.Cut(strings.TrimLeft(a, "-"), "=")
		if name == "help" || name == "h" {
			return []string{"--help"}, nil
		}
		if !strings.HasPrefix(a, "-") || !ok {
			return nil, console.Hint(console.Usagef("%q", a), localHint)
		}
		at := slices.IndexFunc(localFlags, func(f struct{ name, dev string }) bool { return f.name == name })
		if at < 0 {
			return nil, console.Hint(console.Usagef("unknown flag --%s", name), localHint)
		}
		given[localFlags[at].dev] = value
	}
	out := []string{"--agent_port=0", "--daemon_environment"}
	for _, name := range []string{"work_dir", "agents", "port", "ip"} {
		if value, ok := given[name]; ok {
			out = append(out, "--"+name+"="+value)
		}
	}
	return out, nil
}

// localOwn are flags of masters and agents that a cluster in one process sets itself. For a
// machine's real daemons the environment may well say them.
var localOwn = []string{
	"master", "join", "bootstrap_expect", "node_id", "zk", "quorum", "ip", "port", "work_dir", "runtime_dir", "ip_discovery_command",
	"raft_port", "raft_advertise", "gossip_port", "gossip_advertise", "gossip_key", "advertise_ip", "advertise_port",
}

// localUnsafe are flags that say who may do what, or that nobody is to listen in. A cluster in
// one process does nothing of that, and must not look as if it did.
var localUnsafe = regexp.MustCompile(`^(acls|audit_log|credentials?|http_credentials|jwt_secret_key|authenticate_.*|(http_|http_framework_)?authenticators|tls_.*|user_jwt_.*|oidc_.*)$`)

// localEnvironment is what the environment says of flags of masters or agents in a cluster in
// one process.
func localEnvironment(set *flags.Set, environ []string) ([]string, error) {
	var out []string
	drop := map[string]bool{}
	for _, f := range set.Flags() {
		for _, name := range append([]string{f.Name}, f.Aliases...) {
			for _, prefix := range []string{"MESOS_", "CLUSTERD_"} {
				variable := prefix + strings.ToUpper(name)
				drop[variable] = slices.Contains(localOwn, f.Name)
				if localUnsafe.MatchString(f.Name) && slices.ContainsFunc(environ, func(kv string) bool { return strings.HasPrefix(kv, variable+"=") }) {
					return nil, localRefusal(variable)
				}
			}
		}
		for _, variable := range f.Env {
			drop[variable] = slices.Contains(localOwn, f.Name)
		}
	}
	for _, kv := range environ {
		name, value, _ := strings.Cut(kv, "=")
		if name == "LIBPROCESS_SSL_ENABLED" && value != "" && value != "0" && value != "false" {
			return nil, localRefusal(name)
		}
		if !drop[name] {
			out = append(out, kv)
		}
	}
	return out, nil
}

func localRefusal(variable string) error {
	return console.Hint(fmt.Errorf("%w: $%s: a cluster in one process lets everybody do everything", flags.ErrInvalidValue, variable),
		"unset it, or run clusterd master and clusterd agent, which obey it")
}
