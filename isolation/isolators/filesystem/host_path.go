package filesystem

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	mesos "clusterd/api/mesos/v1"
	"clusterd/isolation"
	"clusterd/isolation/mounts"
)

// HostPath is volume/host_path: files and directories of the machine in a container
// (src/slave/containerizer/mesos/isolators/volume/host_path.cpp). Their owners are
// the machine's, also for a container with a user namespace.
type HostPath struct {
	prepared
	o Options
}

var _ isolation.Isolator = (*HostPath)(nil)

// NewHostPath makes the isolator.
func NewHostPath(o Options) *HostPath { return &HostPath{o: o} }

// Name is "volume/host_path".
func (h *HostPath) Name() string { return "volume/host_path" }

// Recover remembers the containers.
func (h *HostPath) Recover(_ context.Context, states []isolation.ContainerState, _ []*mesos.ContainerID) error {
	return recoverAll(&h.prepared, states)
}

func recoverAll(c *prepared, states []isolation.ContainerState) error {
	for _, s := range states {
		if err := c.Add(s.Config.ID, struct{}{}); err != nil {
			return err
		}
	}
	return nil
}

// Prepare asks for the mounts.
func (h *HostPath) Prepare(_ context.Context, config *isolation.ContainerConfig) (*isolation.Preparation, error) {
	return prepareVolumes(&h.prepared, config, func(v *volume) bool { return v.kind == mesos.Volume_Source_HOST_PATH && !v.image }, h.mount, &h.o)
}

// prepareVolumes makes a preparation of those volumes of a container that are wanted.
func prepareVolumes(c *prepared, config *isolation.ContainerConfig, wanted func(*volume) bool,
	mount func(*isolation.ContainerConfig, *volume) ([]isolation.Mount, error), o *Options,
) (*isolation.Preparation, error) {
	volumes, err := volumesOf(config)
	if err != nil {
		return nil, err
	}
	if err := c.Add(config.ID, struct{}{}); err != nil {
		return nil, err
	}
	p := &isolation.Preparation{}
	for i := range volumes {
		v := &volumes[i]
		if !wanted(v) {
			continue
		}
		var made []isolation.Mount
		err := fmt.Errorf("volumes of a DEBUG container: %w", isolation.ErrNotSupported)
		if !isDebug(config) {
			made, err = mount(config, v)
		}
		if err != nil {
			c.Forget(config.ID)
			return nil, fmt.Errorf("volume at %q: %w", v.GetContainerPath(), err)
		}
		for _, m := range made {
			o.add(p, config, v, m)
		}
	}
	return p, nil
}

func (h *HostPath) mount(config *isolation.ContainerConfig, v *volume) ([]isolation.Mount, error) {
	if !filepath.IsAbs(v.path) {
		return nil, fmt.Errorf("%w: path %q of type HOST_PATH is not absolute", ErrInvalidVolume, v.path)
	}
	st, err := os.Stat(v.path)
	if errors.Is(err, fs.ErrNotExist) {
		if err := h.create(v.path); err != nil {
			return nil, err
		}
		st, err = os.Stat(v.path)
	}
	if err != nil {
		return nil, err
	}
	m, err := h.o.target(config, v, st.IsDir())
	if err != nil {
		return nil, err
	}
	m.Source, m.Flags = v.path, unix.MS_BIND|unix.MS_REC
	if v.GetSource().GetHostPath().GetMountPropagation().GetMode() == mesos.MountPropagation_BIDIRECTIONAL {
		if shared, err := mounts.Shared(v.path); err != nil {
			return nil, err
		} else if !shared {
			return nil, fmt.Errorf("%w: mounts below %s cannot propagate both ways: it is not below a shared mount", ErrInvalidVolume, v.path)
		}
		m.Flags |= unix.MS_SHARED
	}
	// A container that sees the machine's files has it there already.
	if config.RootFS == "" && m.Target == filepath.Clean(v.path) && m.Flags&unix.MS_SHARED == 0 && v.GetMode() != mesos.Volume_RO {
		return nil, nil
	}
	return []isolation.Mount{m}, nil
}

// create makes a missing source, if it lies where the operator lets that be.
func (h *HostPath) create(path string) error {
	path = filepath.Clean(path)
	for _, allowed := range h.o.ForceCreation {
		rest, err := filepath.Rel(allowed, path)
		if allowed == "" || err != nil || !filepath.IsLocal(rest) {
			continue
		}
		if err := os.MkdirAll(allowed, 0o755); err != nil {
			return err
		}
		return mounts.Make(allowed, rest, true, os.Geteuid(), os.Getegid())
	}
	return fmt.Errorf("%w: %s does not exist, and is not below --host_path_volume_force_creation=%s", ErrInvalidVolume, path, strings.Join(h.o.ForceCreation, ":"))
}
