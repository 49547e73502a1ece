// Package namespaces has the isolators namespaces/pid, namespaces/ipc and
// namespaces/user.
//
// NewPID, NewIPC and NewUser make them; all are safe for concurrent use.
// isolation/setup imports the package.
//
// Two more namespaces need no isolator of their own: that of mounts belongs to
// filesystem/linux, and that of host names to network/cni.
package namespaces

import (
	"errors"

	"clusterd/isolation"
)

// ErrSharing says that the operator lets no container share a namespace with the
// machine.
var ErrSharing = errors.New("sharing with the agent is not allowed")

// ErrNotRoot says that an isolator needs root.
var ErrNotRoot = errors.New("only root can do that")

// isDebug says whether a container looks into its parent.
func isDebug(config *isolation.ContainerConfig) bool {
	return config.ID.GetParent() != nil && config.Class == isolation.ClassDebug
}
