package setup_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/rs/zerolog"

	"clusterd/isolation"
	"clusterd/isolation/isolationtest"
	"clusterd/isolation/setup"
)

func TestIsolators(t *testing.T) {
	for _, name := range []string{"filesystem/posix", "posix/cpu", "posix/mem"} {
		t.Run(name, func(t *testing.T) {
			isolationtest.Isolator(t, name, func(t *testing.T, workDir string) isolation.Isolator {
				isolators, err := setup.Isolators(setup.Options{Isolation: name, WorkDir: workDir})
				if err != nil {
					t.Fatal(err)
				}
				for _, i := range isolators {
					if i.Name() == name {
						return i
					}
				}
				t.Fatalf("isolators of %q: got %v", name, isolators)
				return nil
			})
		})
	}
}

func TestIsolatorNames(t *testing.T) {
	for _, c := range []struct{ isolation, want string }{
		{"", "filesystem/posix network/cni environment_secret"},
		{"posix/cpu,posix/mem", "filesystem/posix posix/cpu posix/mem network/cni environment_secret"},
		{"posix/mem, posix/cpu,posix/mem", "filesystem/posix posix/cpu posix/mem network/cni environment_secret"},
		{"process", "filesystem/posix posix/cpu posix/mem network/cni environment_secret"},
		{"filesystem/posix,posix/mem", "filesystem/posix posix/mem network/cni environment_secret"},
	} {
		isolators, err := setup.Isolators(setup.Options{Isolation: c.isolation})
		if err != nil {
			t.Errorf("%q: %v", c.isolation, err)
		}
		var names []string
		for _, i := range isolators {
			names = append(names, i.Name())
		}
		if got := strings.Join(names, " "); got != c.want {
			t.Errorf("%q: got %s, want %s", c.isolation, got, c.want)
		}
	}
	if _, err := setup.Isolators(setup.Options{Isolation: "posix/cpu,cgroups/nonesuch"}); !errors.Is(err, setup.ErrUnknownIsolator) || !strings.Contains(err.Error(), "cgroups/nonesuch") {
		t.Errorf("unknown isolator: got %v", err)
	}
	if _, err := setup.Launcher(setup.Options{Launcher: "nonesuch", RuntimeDir: t.TempDir()}, nil, zerolog.Nop()); err == nil {
		t.Error("unknown launcher: got no error")
	}
}

// TestPortMappingLauncher: an agent whose launches would all fail does not start.
func TestPortMappingLauncher(t *testing.T) {
	_, err := setup.Isolators(setup.Options{Isolation: "network/port_mapping", Launcher: "posix"})
	if !errors.Is(err, setup.ErrIsolation) || !strings.Contains(err.Error(), "network/port_mapping needs --launcher=linux") {
		t.Errorf("got %v", err)
	}
}
