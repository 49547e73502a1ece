package isolation_test

import (
	"context"
	"crypto/rand"
	"os"
	"strings"
	"testing"

	"github.com/rs/zerolog"

	"clusterd/isolation"
	"clusterd/isolation/cgroups"
	"clusterd/isolation/isolationtest"
)

// newTree makes cgroups of the test's own.
func newTree(tb testing.TB, root string) *cgroups.Tree {
	tb.Helper()
	if os.Geteuid() != 0 {
		tb.Skip("only root makes cgroups")
	}
	tree, err := cgroups.Open("/sys/fs/cgroup", root)
	if err != nil {
		tb.Fatal(err)
	}
	return tree
}

// treeRoot is a name for the cgroups of one test, which are removed at its end.
func treeRoot(tb testing.TB) string {
	tb.Helper()
	root := "clusterd-test-" + strings.ToLower(rand.Text()[:12])
	tb.Cleanup(func() { removeRoot(tb, root) })
	return root
}

func removeRoot(tb testing.TB, root string) {
	tb.Helper()
	tree, err := cgroups.Open("/sys/fs/cgroup", root)
	if err != nil {
		tb.Error(err)
		return
	}
	if err := tree.Use(cgroups.Core); err != nil {
		tb.Error(err)
		return
	}
	ids, err := tree.Containers()
	if err != nil || len(ids) != 0 {
		tb.Errorf("cgroups left: %v, %v", ids, err)
	}
	for _, id := range ids {
		if err := tree.Destroy(context.Background(), id); err != nil {
			tb.Error(err)
		}
	}
	dir, err := tree.Root(cgroups.Core)
	if err == nil {
		err = os.Remove(dir)
	}
	if err != nil {
		tb.Error(err)
	}
}

func TestLinuxLauncher(t *testing.T) {
	programs := isolationtest.Programs(t)
	roots := make(map[string]string)
	isolationtest.Launcher(t, func(t *testing.T, dir string) isolation.Launcher {
		if roots[dir] == "" {
			roots[dir] = treeRoot(t)
		}
		l, err := isolation.NewLinuxLauncher(dir, newTree(t, roots[dir]), programs, zerolog.New(zerolog.NewTestWriter(t)))
		if err != nil {
			t.Fatal(err)
		}
		return l
	})
}
