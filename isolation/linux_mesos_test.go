package isolation_test

import (
	"os"
	"testing"

	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"

	"clusterd/isolation"
	"clusterd/isolation/isolationtest"
	"clusterd/isolation/setup"
)

// TestLinuxContainerizer runs the conformance suite on the linux launcher, with isolators
// that change nothing of what a container sees and with those that change most.
func TestLinuxContainerizer(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root makes namespaces")
	}
	programs := isolationtest.Programs(t)
	sets := []string{setup.DefaultIsolation, "filesystem/linux,namespaces/ipc,posix/cpu,posix/mem"}
	if os.Getenv("CLUSTERD_VM") != "" { // slow
		sets = sets[1:]
	}
	for _, isolators := range sets {
		t.Run(isolators, func(t *testing.T) {
			roots := make(map[string]string)
			isolationtest.Containerizer(t, func(t *testing.T, workDir, runtimeDir string) isolation.Containerizer {
				if roots[runtimeDir] == "" {
					roots[runtimeDir] = treeRoot(t)
					// filesystem/linux makes it a mount.
					t.Cleanup(func() { _ = unix.Unmount(workDir, unix.MNT_DETACH) })
				}
				c, err := setup.New(setup.Options{
					WorkDir: workDir, RuntimeDir: runtimeDir, Launcher: "linux", Isolation: isolators, Tree: newTree(t, roots[runtimeDir]),
				}, programs, zerolog.New(zerolog.NewTestWriter(t)))
				if err != nil {
					t.Fatal(err)
				}
				return c
			})
		})
	}
}
