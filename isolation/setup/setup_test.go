package setup_test

import (
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rs/zerolog"

	"clusterd/isolation"
	"clusterd/isolation/isolationtest"
	"clusterd/isolation/isolators/filesystem"
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

// TestVolumeGIDsAreMeasured: groups for volumes are counted where there are some, under
// Mesos's names.
func TestVolumeGIDsAreMeasured(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root gives volumes groups")
	}
	for _, c := range []struct {
		ranges []filesystem.GIDRange
		want   map[string]float64
	}{
		{nil, map[string]float64{}},
		{[]filesystem.GIDRange{{First: 70000, Last: 70009}}, map[string]float64{"volume_gid_manager/volume_gids_total": 10, "volume_gid_manager/volume_gids_free": 10}},
	} {
		got := map[string]float64{}
		if _, err := setup.Isolators(setup.Options{
			WorkDir: t.TempDir(), VolumeGIDRange: c.ranges,
			Gauge: func(name string, value func() float64) { got[name] = value() },
		}); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%v (-want +got):\n%s", c.ranges, diff)
		}
	}
}
