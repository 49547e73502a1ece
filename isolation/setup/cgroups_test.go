package setup_test

import (
	"crypto/rand"
	"errors"
	"os"
	"strings"
	"testing"

	"clusterd/isolation"
	"clusterd/isolation/cgroups"
	"clusterd/isolation/isolators/cgroup"
	"clusterd/isolation/setup"
)

func TestCgroups(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	tree, err := cgroups.Open(setup.DefaultCgroupsHierarchy, "clusterd-test-"+strings.ToLower(rand.Text()[:10]))
	if err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() {
		for _, name := range []string{"blkio", "cpu", "cpuacct", "cpuset", "devices", "hugetlb", "memory", "perf_event", "pids"} {
			if dir, err := tree.Root(name); err == nil {
				_ = os.Remove(dir)
			}
		}
	})
	names := func(o setup.Options) (string, error) {
		isolators, err := setup.Isolators(o)
		var names []string
		for _, i := range isolators {
			names = append(names, i.Name())
		}
		return strings.Join(names, " "), err
	}
	got, err := names(setup.Options{Isolation: "cgroups,environment_secret", Tree: tree})
	if err != nil || !strings.Contains(got, " cgroups/cpu cgroups/mem ") {
		t.Errorf("cgroups: got %s, %v", got, err)
	}
	if all := cgroup.Available(tree); len(all) < 5 {
		t.Errorf("available: got %v", all)
	}
	if _, err := names(setup.Options{Isolation: "cgroups/cpu"}); !errors.Is(err, cgroups.ErrUnavailable) {
		t.Errorf("without cgroups: got %v", err)
	}
	if _, err := names(setup.Options{Isolation: "cgroups/pids,gpu/nvidia", Tree: tree}); !errors.Is(err, isolation.ErrNotSupported) {
		t.Errorf("gpu/nvidia without devices: got %v", err)
	}
}
