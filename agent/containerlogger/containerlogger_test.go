package containerlogger_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"clusterd/agent/containerlogger"
	mesos "clusterd/api/mesos/v1"
	"clusterd/isolation"
)

func environment(variables ...string) *mesos.Environment {
	env := &mesos.Environment{}
	for i := 0; i < len(variables); i += 2 {
		env.Variables = append(env.Variables, &mesos.Environment_Variable{Name: &variables[i], Value: &variables[i+1]})
	}
	return env
}

func TestRotations(t *testing.T) {
	for _, c := range []struct {
		name           string
		logger         string
		parameters     map[string]string
		env            *mesos.Environment
		stdout, stderr isolation.Rotation
		warnings       int
		invalid        string
	}{
		{name: "sandbox", env: environment("CONTAINER_LOGGER_MAX_STDOUT_SIZE", "nonsense")},
		{
			name: "defaults", logger: containerlogger.Logrotate,
			stdout: isolation.Rotation{MaxSize: 10 << 20, MaxFiles: 1}, stderr: isolation.Rotation{MaxSize: 10 << 20, MaxFiles: 1},
		},
		{
			name: "parameters", logger: containerlogger.Logrotate, warnings: 2,
			parameters: map[string]string{
				"max_stdout_size": "1GB", "max_stderr_size": "4KB", "launcher_dir": "/usr/libexec/mesos",
				"logrotate_stdout_options": "rotate 9\n  compress # older ones\n\nmissingok", "logrotate_stderr_options": "compress;rotate 0;nocompress",
			},
			stdout: isolation.Rotation{MaxSize: 1 << 30, MaxFiles: 9, Compress: true}, stderr: isolation.Rotation{MaxSize: 4 << 10},
		},
		{
			name: "the task's own", logger: containerlogger.Logrotate,
			parameters: map[string]string{"max_stdout_size": "1MB", "logrotate_stdout_options": "rotate 9"},
			env:        environment("PATH", "/bin", "CONTAINER_LOGGER_MAX_STDOUT_SIZE", "2MB", "CONTAINER_LOGGER_LOGROTATE_STDERR_OPTIONS", "rotate 3"),
			stdout:     isolation.Rotation{MaxSize: 2 << 20, MaxFiles: 9}, stderr: isolation.Rotation{MaxSize: 10 << 20, MaxFiles: 3},
		},
		{
			name: "another prefix", logger: containerlogger.Logrotate,
			parameters: map[string]string{"environment_variable_prefix": "LOG_"},
			env:        environment("CONTAINER_LOGGER_MAX_STDOUT_SIZE", "2MB", "LOG_MAX_STDERR_SIZE", "3MB"),
			stdout:     isolation.Rotation{MaxSize: 10 << 20, MaxFiles: 1}, stderr: isolation.Rotation{MaxSize: 3 << 20, MaxFiles: 1},
		},
		{name: "unknown logger", logger: "org_apache_mesos_Journald", invalid: containerlogger.Logrotate},
		{name: "unknown parameter", logger: containerlogger.Logrotate, parameters: map[string]string{"max_size": "1MB"}, invalid: "max_size"},
		{name: "too small", logger: containerlogger.Logrotate, parameters: map[string]string{"max_stdout_size": "4095B"}, invalid: "at least 4096"},
		{name: "no size", logger: containerlogger.Logrotate, parameters: map[string]string{"max_stderr_size": "many"}, invalid: "max_stderr_size"},
		{name: "no number", logger: containerlogger.Logrotate, parameters: map[string]string{"logrotate_stdout_options": "rotate many"}, invalid: "rotate many"},
		{name: "too many", logger: containerlogger.Logrotate, parameters: map[string]string{"logrotate_stdout_options": "rotate 1001"}, invalid: "1000"},
		{name: "empty prefix", logger: containerlogger.Logrotate, parameters: map[string]string{"environment_variable_prefix": ""}, invalid: "prefix"},
		{name: "the task's nonsense", logger: containerlogger.Logrotate, env: environment("CONTAINER_LOGGER_MAX_STDOUT", "1MB"), invalid: "CONTAINER_LOGGER_MAX_STDOUT"},
		{name: "the task's size", logger: containerlogger.Logrotate, env: environment("CONTAINER_LOGGER_MAX_STDOUT_SIZE", "1"), invalid: "max_stdout_size"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var stdout, stderr isolation.Rotation
			l, err := containerlogger.New(c.logger, c.parameters)
			if err == nil {
				stdout, stderr, err = l.Rotations(c.env)
			}
			if c.invalid != "" {
				if !errors.Is(err, containerlogger.ErrInvalid) || !strings.Contains(err.Error(), c.invalid) {
					t.Fatalf("got %v, want an error about %s", err, c.invalid)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff([]isolation.Rotation{c.stdout, c.stderr}, []isolation.Rotation{stdout, stderr}); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if got := l.Warnings(); len(got) != c.warnings {
				t.Errorf("warnings: got %q, want %d", got, c.warnings)
			}
		})
	}
}

func TestNoLogger(t *testing.T) {
	var l *containerlogger.Logger
	if stdout, stderr, err := l.Rotations(nil); err != nil || stdout.MaxSize+stderr.MaxSize != 0 {
		t.Errorf("got %v, %v, %v", stdout, stderr, err)
	}
}

func TestModules(t *testing.T) {
	const text = `{"libraries": [{"file": "/usr/lib/mesos/modules/liblogrotate_container_logger.so", "modules": [
		{"name": "other", "parameters": [{"key": "max_stdout_size", "value": "9MB"}]},
		{"name": "org_apache_mesos_LogrotateContainerLogger", "parameters": [
			{"key": "max_stdout_size", "value": "5MB"}, {"key": "logrotate_stdout_options", "value": "rotate 9\ncompress"}]}]}]}`
	got, err := containerlogger.Modules(text, containerlogger.Logrotate)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"max_stdout_size": "5MB", "logrotate_stdout_options": "rotate 9\ncompress"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got, err := containerlogger.Modules("", containerlogger.Logrotate); err != nil || len(got) != 0 {
		t.Errorf("nothing: got %v, %v", got, err)
	}
	if _, err := containerlogger.Modules("{", containerlogger.Logrotate); !errors.Is(err, containerlogger.ErrInvalid) {
		t.Errorf("not JSON: got %v", err)
	}
}
