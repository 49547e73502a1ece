package runtime_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	mesos "clusterd/api/mesos/v1"
	"clusterd/isolation"
	"clusterd/isolation/isolationtest"
	"clusterd/isolation/isolators/runtime"
)

func TestConformance(t *testing.T) {
	isolationtest.Isolator(t, "docker/runtime", func(*testing.T, string) isolation.Isolator { return runtime.New(runtime.Options{}) })
}

func command(shell bool, value string, arguments ...string) *mesos.CommandInfo {
	c := &mesos.CommandInfo{Shell: &shell, Arguments: arguments}
	if value != "" {
		c.Value = &value
	}
	return c
}

// TestCommand is the table of src/slave/containerizer/mesos/isolators/docker/
// runtime.cpp, every cell of it.
func TestCommand(t *testing.T) {
	images := []isolation.ImageConfig{
		{},
		{Cmd: []string{"c0", "c1"}},
		{Entrypoint: []string{"e0", "e1"}},
		{Entrypoint: []string{"e0", "e1"}, Cmd: []string{"c0", "c1"}},
	}
	for _, c := range []struct {
		name    string
		command *mesos.CommandInfo
		want    [4]string // "": stays as it is, "!": error
	}{
		{"nothing", command(false, ""), [4]string{"!", "c0 c1", "e0 e1", "e0 e1 c0 c1"}},
		{"arguments", command(false, "", "a"), [4]string{"!", "c0 a", "e0 e1 a", "e0 e1 a"}},
		{"value", command(false, "v"), [4]string{}},
		{"value and arguments", command(false, "v", "v", "a"), [4]string{}},
		{"shell", command(true, ""), [4]string{"!", "!", "!", "!"}},
		{"shell and arguments", command(true, "", "a"), [4]string{"!", "!", "!", "!"}},
		{"shell and value", command(true, "v"), [4]string{}},
		{"shell, value and arguments", command(true, "v", "a"), [4]string{}},
	} {
		for n, image := range images {
			for _, builtin := range []isolation.Builtin{isolation.BuiltinNone, isolation.BuiltinCommandExecutor, isolation.BuiltinCommandExecutorTLS} {
				config := &isolation.ContainerConfig{ID: &mesos.ContainerID{Value: new("c")}, Image: &image, Builtin: builtin, User: "root"}
				if builtin == isolation.BuiltinNone {
					config.Command = c.command
				} else {
					config.TaskCommand = c.command
				}
				p, err := runtime.New(runtime.Options{}).Prepare(t.Context(), config)
				got := ""
				switch {
				case errors.Is(err, runtime.ErrNoCommand):
					got = "!"
				case err != nil:
					t.Fatal(err)
				case p.Command != nil:
					got = strings.Join(p.Command.GetArguments(), " ")
					if p.Command.GetValue() != p.Command.GetArguments()[0] || p.Command.GetShell() {
						t.Errorf("%s, image %d: got %v", c.name, n, p.Command)
					}
				}
				if got != c.want[n] {
					t.Errorf("%s, image %d, %q: got %q, want %q", c.name, n, builtin, got, c.want[n])
				}
			}
		}
	}
}

func TestImage(t *testing.T) {
	image := &isolation.ImageConfig{
		Env: []string{"A=1", "B=x=y", "broken", "=z"}, Cmd: []string{"c"}, WorkingDir: "/w", User: "u",
		Credentials: &isolation.Credentials{UID: 7, GID: 8, Groups: []uint32{9}},
	}
	env := map[string]string{"A": "1", "B": "x=y"}
	c := &mesos.CommandInfo{Value: new("c"), Arguments: []string{"c"}, Shell: new(false)}
	for _, test := range []struct {
		name   string
		config isolation.ContainerConfig
		want   *isolation.Preparation
	}{
		{
			"custom executor",
			isolation.ContainerConfig{Command: command(false, "")},
			&isolation.Preparation{Env: env, WorkingDirectory: "/w", Command: c, Credentials: image.Credentials},
		},
		{
			"command executor",
			isolation.ContainerConfig{Builtin: isolation.BuiltinCommandExecutor, TaskCommand: command(false, ""), User: "somebody"},
			&isolation.Preparation{TaskEnv: env, WorkingDirectory: "/w", Command: c},
		},
		{
			"default executor",
			isolation.ContainerConfig{Builtin: isolation.BuiltinDefaultExecutor, User: "somebody"},
			&isolation.Preparation{Env: env, WorkingDirectory: "/w"},
		},
		{"debug", isolation.ContainerConfig{Class: isolation.ClassDebug, Command: command(false, "")}, &isolation.Preparation{Credentials: image.Credentials}},
	} {
		test.config.ID, test.config.Image = &mesos.ContainerID{Value: new("c")}, image
		got, err := runtime.New(runtime.Options{}).Prepare(t.Context(), &test.config)
		if err != nil {
			t.Errorf("%s: %v", test.name, err)
			continue
		}
		if d := cmp.Diff(test.want, got, cmp.Comparer(func(a, b *mesos.CommandInfo) bool { return a.String() == b.String() })); d != "" {
			t.Errorf("%s: %s", test.name, d)
		}
		ignored, err := runtime.New(runtime.Options{Ignore: true}).Prepare(t.Context(), &test.config)
		if ignored != nil || err != nil {
			t.Errorf("%s: docker_ignore_runtime: got %+v, %v", test.name, ignored, err)
		}
	}
	nobody := &isolation.ContainerConfig{
		ID: &mesos.ContainerID{Value: new("c")}, Command: command(true, "true"), Image: &isolation.ImageConfig{User: "nosuch"},
	}
	if _, err := runtime.New(runtime.Options{}).Prepare(t.Context(), nobody); !errors.Is(err, runtime.ErrNoUser) {
		t.Errorf("unknown user: got %v", err)
	}
	nobody.User = "root"
	if _, err := runtime.New(runtime.Options{}).Prepare(t.Context(), nobody); err != nil {
		t.Errorf("unknown user that does not matter: got %v", err)
	}
}
