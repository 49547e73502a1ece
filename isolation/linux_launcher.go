package isolation

import (
	"fmt"

	"github.com/rs/zerolog"

	"clusterd/isolation/cgroups"
)

// LinuxLauncher starts containers in namespaces and cgroups of their own
// (src/slave/containerizer/mesos/linux_launcher.cpp). The supervisor is born in the
// container's new namespaces, the first process of its pid namespace if it has one, and
// in its cgroup, or is put there while it still waits to be told what to run.
type LinuxLauncher struct{ *launcher }

var _ Launcher = LinuxLauncher{}

// NewLinuxLauncher makes a launcher that keeps its containers' runtime directories under
// runtimeDir/containers, and their cgroups in tree. Without a tree containers have no
// cgroup of the launcher's.
func NewLinuxLauncher(runtimeDir string, tree *cgroups.Tree, programs *Programs, log zerolog.Logger) (*LinuxLauncher, error) {
	if tree != nil {
		if err := tree.Use(cgroups.Core); err != nil {
			return nil, fmt.Errorf("make the linux launcher's cgroups: %w", err)
		}
	}
	l, err := newLauncher("linux", runtimeDir, programs, log)
	if err != nil {
		return nil, err
	}
	l.namespaces, l.tree = true, tree
	return &LinuxLauncher{l}, nil
}
