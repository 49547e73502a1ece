package cli

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"clusterd/internal/flags"
)

func TestLocalArgs(t *testing.T) {
	for _, c := range []struct{ name, args, environ, want string }{
		{"nothing", "", "", ""},
		{"arguments", "--num_slaves=3 --port=0 --ip=127.0.0.1 --work_dir=w", "", "--work_dir=w --agents=3 --port=0 --ip=127.0.0.1"},
		{"environment", "", "MESOS_NUM_SLAVES=2 MESOS_PORT=5 MESOS_OTHER=x", "--agents=2 --port=5"},
		{"both", "--port=0", "MESOS_PORT=5 MESOS_WORK_DIR=w", "--work_dir=w --port=0"},
		{"ours before Mesos's", "", "CLUSTERD_PORT=6 MESOS_PORT=5", "--port=6"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := localArgs(strings.Fields(c.args), strings.Fields(c.environ))
			if err != nil {
				t.Fatal(err)
			}
			want := append([]string{"--agent_port=0", "--daemon_environment"}, strings.Fields(c.want)...)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// TestLocalEnvironment wants nothing of the environment that would let a local cluster look
// for another one, or that looks as if it protected it.
func TestLocalEnvironment(t *testing.T) {
	environ := []string{
		"PATH=/bin", "MESOS_ALLOCATION_INTERVAL=2secs", "MESOS_BOOTSTRAP_EXPECT=3", "MESOS_MASTER=h:1", "CLUSTERD_JOIN=h", "LIBPROCESS_IP=1.2.3.4",
		"LIBPROCESS_SSL_ENABLED=0",
	}
	for _, set := range []*flags.Set{flags.Master(), flags.Agent()} {
		got, err := localEnvironment(set, environ)
		if err != nil {
			t.Fatal(err)
		}
		for _, kept := range []string{"PATH=/bin", "MESOS_ALLOCATION_INTERVAL=2secs"} {
			if !slices.Contains(got, kept) {
				t.Errorf("%s is lost", kept)
			}
		}
		for _, kv := range got {
			if strings.Contains(kv, "JOIN") || strings.Contains(kv, "_IP=") {
				t.Errorf("%s is kept", kv)
			}
		}
		for _, f := range set.Flags() {
			// Whatever the table calls a matter of who is who is refused.
			safe := !strings.Contains(f.Name, "auth") && !strings.Contains(f.Name, "tls") && !strings.Contains(f.Name, "credential") &&
				!strings.Contains(f.Name, "oidc") && !strings.Contains(f.Name, "jwt") && f.Name != "acls"
			if replaced := f.State == flags.Replaced; safe || replaced {
				continue
			}
			if _, err := localEnvironment(set, []string{"MESOS_" + strings.ToUpper(f.Name) + "=x"}); !errors.Is(err, flags.ErrInvalidValue) {
				t.Errorf("$MESOS_%s: got %v, want %v", strings.ToUpper(f.Name), err, flags.ErrInvalidValue)
			}
		}
	}
	if _, err := localEnvironment(flags.Master(), []string{"LIBPROCESS_SSL_ENABLED=1"}); err == nil {
		t.Error("TLS is taken for granted")
	}
}
