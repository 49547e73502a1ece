package isolation_test

import (
	"testing"

	"github.com/rs/zerolog"

	"clusterd/isolation"
	"clusterd/isolation/isolationtest"
)

// TestLauncherChanges: containers that an agent with the posix launcher has started are taken
// up, watched and killed by one with the linux launcher, which has no cgroups of them.
func TestLauncherChanges(t *testing.T) {
	programs := isolationtest.Programs(t)
	roots := make(map[string]string)
	isolationtest.Launcher(t, func(t *testing.T, dir string) isolation.Launcher {
		log := zerolog.New(zerolog.NewTestWriter(t))
		var l isolation.Launcher
		var err error
		if roots[dir] == "" {
			roots[dir] = treeRoot(t)
			newTree(t, roots[dir]) // skips where there are none
			l, err = isolation.NewPosixLauncher(dir, programs, log)
		} else {
			l, err = isolation.NewLinuxLauncher(dir, newTree(t, roots[dir]), programs, log)
		}
		if err != nil {
			t.Fatal(err)
		}
		return l
	})
}
