package isolation

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/rs/zerolog"

	"clusterd/isolation/cgroups"
)

// LinuxLauncher starts containers in namespaces and cgroups of their own
// (src/slave/containerizer/mesos/linux_launcher.cpp). The supervisor is born in the
// container's new namespaces, the first process of its pid namespace if it has one, and
// in its cgroup, or is put there while it still waits to be told what to run.
type LinuxLauncher struct {
	*launcher
	// root is locked; nil without cgroups.
	root io.Closer
}

var _ Launcher = LinuxLauncher{}

// NewLinuxLauncher makes a launcher that keeps its containers' runtime directories under
// runtimeDir/containers, and their cgroups in tree. Without a tree containers have no
// cgroup of the launcher's.
func NewLinuxLauncher(runtimeDir string, tree *cgroups.Tree, programs *Programs, log zerolog.Logger) (*LinuxLauncher, error) {
	var root io.Closer
	if tree != nil {
		err := tree.Use(cgroups.Core)
		if err == nil {
			root, err = tree.Lock()
		}
		if err != nil {
			return nil, fmt.Errorf("make the linux launcher's cgroups: %w", err)
		}
	}
	l, err := newLauncher("linux", runtimeDir, programs, log)
	if err != nil {
		if root != nil {
			err = errors.Join(err, root.Close())
		}
		return nil, err
	}
	l.namespaces, l.tree = true, tree
	return &LinuxLauncher{l, root}, nil
}

// Close implements Launcher.
func (l LinuxLauncher) Close() error {
	err := l.launcher.Close()
	if l.root == nil {
		return err
	}
	if closeErr := l.root.Close(); !errors.Is(closeErr, os.ErrClosed) {
		err = errors.Join(err, closeErr)
	}
	return err
}
