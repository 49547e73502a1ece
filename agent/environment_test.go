package agent

import (
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestExecutorEnvironment compares the whole environment of an executor with
// what Mesos gives (src/slave/slave.cpp, executorEnvironment): nothing of the
// agent's own is in it.
func TestExecutorEnvironment(t *testing.T) {
	t.Setenv("SECRET_OF_THE_AGENT", "x")
	for _, tc := range []struct {
		name   string
		change func(*Options)
		want   map[string]string // beside what is always there
	}{
		{"default", func(*Options) {}, map[string]string{"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}},
		{
			"flags", func(o *Options) {
				o.ExecutorEnvironment = map[string]string{"PATH": "/usr/bin:/bin", "A": "b"}
				o.RecoveryTimeout, o.ExecutorReregistrationTimeout = time.Hour, 3*time.Second
			},
			map[string]string{"PATH": "/usr/bin:/bin", "A": "b", "MESOS_RECOVERY_TIMEOUT": "1hrs", "MESOS_SUBSCRIPTION_BACKOFF_MAX": "3secs"},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			m := newScriptedMaster(t)
			h := newMachine(t, m)
			a := h.start(tc.change)
			defer h.leave(a)
			m.waitRegistered(1)
			task := customTask("t", "e")
			task.Executor.Command.Value = strp("env > env.new; mv env.new env; exec sleep 1000")
			m.send(runTasks(framework("M-0000"), task))
			sandbox := filepath.Join(h.work, "slaves/M-S0/frameworks/M-0000/executors/e/runs/latest")
			var text string
			eventually(t, "the executor wrote its environment", func() bool {
				b, err := os.ReadFile(filepath.Join(sandbox, "env"))
				text = string(b)
				return err == nil
			})
			real, err := filepath.EvalSymlinks(sandbox)
			if err != nil {
				t.Fatal(err)
			}
			want := map[string]string{
				"MESOS_FRAMEWORK_ID": "M-0000", "MESOS_EXECUTOR_ID": "e", "MESOS_SLAVE_ID": "M-S0",
				"MESOS_DIRECTORY": real, "MESOS_SANDBOX": real,
				"MESOS_SLAVE_PID": "slave(1)@" + a.Addr(), "MESOS_AGENT_ENDPOINT": a.Addr(),
				"MESOS_CHECKPOINT": "1", "MESOS_RECOVERY_TIMEOUT": "15mins", "MESOS_SUBSCRIPTION_BACKOFF_MAX": "2secs",
				"MESOS_EXECUTOR_SHUTDOWN_GRACE_PERIOD": "200ms", "MESOS_HTTP_COMMAND_EXECUTOR": "1", "LIBPROCESS_PORT": "0",
			}
			maps.Copy(want, tc.want)
			got := map[string]string{}
			for line := range strings.SplitSeq(strings.TrimSpace(text), "\n") {
				name, value, _ := strings.Cut(line, "=")
				switch name {
				case "PWD", "_", "OLDPWD", "SHLVL": // the shell's own
				case "CLUSTERD_CONTAINER_ID":
					if value != filepath.Base(real) {
						t.Errorf("%s is %q, the container is %q", name, value, filepath.Base(real))
					}
				default:
					got[name] = value
				}
			}
			if d := cmp.Diff(want, got); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
}
