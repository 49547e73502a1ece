package namespaces

import (
	"context"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	mesos "clusterd/api/mesos/v1"
	"clusterd/isolation"
	"clusterd/isolation/isolators/known"
)

// PID is namespaces/pid: containers see no processes but their own, and all of these
// end with the first one (src/slave/containerizer/mesos/isolators/namespaces/pid.cpp).
// A nested container that does not share its parent's has a namespace that the parent
// cannot see into; in Mesos it can.
type PID struct {
	// The value says whether the container's process ids are the machine's.
	known.Containers[bool]
	disallowSharing bool
}

var _ isolation.Isolator = (*PID)(nil)

// NewPID makes the isolator. With disallowSharing
// (--disallow_sharing_agent_pid_namespace) every container at the top has process ids
// of its own.
func NewPID(disallowSharing bool) (*PID, error) {
	if os.Geteuid() != 0 {
		return nil, ErrNotRoot
	}
	return &PID{disallowSharing: disallowSharing}, nil
}

// Name is "namespaces/pid".
func (p *PID) Name() string { return "namespaces/pid" }

// Recover remembers the containers, parents first.
func (p *PID) Recover(_ context.Context, states []isolation.ContainerState, _ []*mesos.ContainerID) error {
	for _, s := range states {
		if err := p.Add(s.Config.ID, p.machines(s.Config)); err != nil {
			return err
		}
	}
	return nil
}

// machines says whether a container uses the machine's process ids: if it shares
// those of its parent, and that does.
func (p *PID) machines(config *isolation.ContainerConfig) bool {
	if !config.ContainerInfo.GetLinuxInfo().GetSharePidNamespace() && !isDebug(config) {
		return false
	}
	if config.ID.GetParent() == nil {
		return true
	}
	parent, err := p.Get(config.ID.GetParent())
	return err == nil && parent
}

// Prepare asks for a namespace, and for /proc to show it. With a root file system of
// its own filesystem/linux has mounted /proc.
func (p *PID) Prepare(_ context.Context, config *isolation.ContainerConfig) (*isolation.Preparation, error) {
	share := config.ContainerInfo.GetLinuxInfo().GetSharePidNamespace()
	if share && config.ID.GetParent() == nil && p.disallowSharing {
		return nil, fmt.Errorf("process ids: %w", ErrSharing)
	}
	machines := p.machines(config)
	if err := p.Add(config.ID, machines); err != nil {
		return nil, err
	}
	prep := &isolation.Preparation{}
	switch {
	case isDebug(config):
		prep.EnterFlags = unix.CLONE_NEWPID
		return prep, nil
	case !share:
		prep.CloneFlags = unix.CLONE_NEWPID
	case config.ID.GetParent() != nil:
		prep.EnterFlags = unix.CLONE_NEWPID
	}
	// Mounting the machine's own once more on itself is refused (MESOS-9529).
	if config.RootFS == "" && !machines {
		prep.Mounts = []isolation.Mount{{Source: "proc", Type: "proc", Target: "/proc", Flags: unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC}}
	}
	return prep, nil
}
