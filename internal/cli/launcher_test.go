package cli

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rs/zerolog"

	"clusterd/agent"
	"clusterd/internal/flags"
	"clusterd/isolation/setup"
)

// shownLauncher reads an agent's flags and says which launcher is taken, and which ones are
// shown at /flags.
func shownLauncher(t *testing.T, args ...string) (o agent.Options, shown []string) {
	t.Helper()
	v, err := flags.Agent().Parse(append([]string{"--master=a:1", "--work_dir=/w", "--hostname=h"}, args...), nil)
	if err != nil {
		t.Fatal(err)
	}
	if o, err = agentOptions(t.Context(), v); err != nil {
		t.Fatal(err)
	}
	chooseLauncher(&o, zerolog.Nop())
	for i, p := range o.Flags {
		if p.Name == "launcher" {
			shown = append(shown, p.Value)
		}
		if i > 0 && o.Flags[i-1].Name >= p.Name {
			t.Errorf("flags are not in order: %s, %s", o.Flags[i-1].Name, p.Name)
		}
	}
	for _, d := range o.Described {
		if d.Name == "launcher" && d.Value != nil {
			shown = append(shown, *d.Value)
		}
	}
	return o, shown
}

// TestLauncher: --launcher names it; else it is chosen, and shown as if it had been named.
func TestLauncher(t *testing.T) {
	o, shown := shownLauncher(t, "--launcher=posix", "--cgroups_root=r")
	if diff := cmp.Diff([]string{"posix", "posix"}, shown); diff != "" || o.Containers.Launcher != "posix" || o.Containers.CgroupsRoot != "r" {
		t.Errorf("--launcher=posix --cgroups_root=r: got %s, %q, shown (-want +got):\n%s", o.Containers.Launcher, o.Containers.CgroupsRoot, diff)
	}
	want, why := setup.DefaultLauncher(setup.Options{})
	o, shown = shownLauncher(t)
	if diff := cmp.Diff([]string{want, want}, shown); diff != "" || o.Containers.Launcher != want || o.Containers.CgroupsRoot != "" {
		t.Errorf("none: got %s, %q, want %s (%s), shown (-want +got):\n%s", o.Containers.Launcher, o.Containers.CgroupsRoot, want, why, diff)
	}
	// Whatever comes of it, what is taken is shown.
	if o, shown = shownLauncher(t, "--cgroups_hierarchy=/nowhere"); strings.Join(shown, " ") != o.Containers.Launcher+" "+o.Containers.Launcher {
		t.Errorf("--cgroups_hierarchy=/nowhere: got %s, shown %v", o.Containers.Launcher, shown)
	}
}
