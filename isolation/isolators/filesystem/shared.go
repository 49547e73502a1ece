package filesystem

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	mesos "clusterd/api/mesos/v1"
	"clusterd/isolation"
	"clusterd/isolation/mounts"
)

// Shared is filesystem/shared: containers see the machine's files, and volumes that
// are given as host_path privately mounted over them. It is deprecated in Mesos for
// filesystem/linux, and knows no persistent volumes
// (src/slave/containerizer/mesos/isolators/filesystem/shared.cpp).
type Shared struct {
	prepared
}

var _ isolation.Isolator = (*Shared)(nil)

// NewShared makes the isolator.
func NewShared() (*Shared, error) {
	if os.Geteuid() != 0 {
		return nil, ErrNotRoot
	}
	return &Shared{}, nil
}

// Name is "filesystem/shared".
func (s *Shared) Name() string { return "filesystem/shared" }

// SupportsNesting says no, as Mesos does.
func (s *Shared) SupportsNesting() bool { return false }

// SupportsStandalone says no, as Mesos does.
func (s *Shared) SupportsStandalone() bool { return false }

// Recover remembers the containers.
func (s *Shared) Recover(_ context.Context, states []isolation.ContainerState, _ []*mesos.ContainerID) error {
	return recoverAll(&s.prepared, states)
}

// Prepare asks for a mount namespace when there are volumes.
func (s *Shared) Prepare(_ context.Context, config *isolation.ContainerConfig) (*isolation.Preparation, error) {
	if config.RootFS != "" {
		return nil, fmt.Errorf("image: %w by filesystem/shared", isolation.ErrNotSupported)
	}
	if len(persistent(config.Resources)) > 0 {
		return nil, fmt.Errorf("persistent volumes: %w by filesystem/shared", isolation.ErrNotSupported)
	}
	if err := s.Add(config.ID, struct{}{}); err != nil {
		return nil, err
	}
	if len(config.ContainerInfo.GetVolumes()) == 0 {
		return nil, nil
	}
	p := &isolation.Preparation{CloneFlags: unix.CLONE_NEWNS}
	taken := []string{filepath.Clean(config.Sandbox)}
	for _, v := range config.ContainerInfo.GetVolumes() {
		m, err := shared(config, v)
		for _, t := range taken {
			if err == nil && (under(m.Target, t) || under(t, m.Target)) {
				err = fmt.Errorf("%w: one of it and %s would hide the other", ErrInvalidVolume, t)
			}
		}
		if err != nil {
			s.Forget(config.ID)
			return nil, fmt.Errorf("volume at %q: %w", v.GetContainerPath(), err)
		}
		taken = append(taken, m.Target)
		p.Mounts = append(p.Mounts, *m)
	}
	return p, nil
}

func under(path, dir string) bool { return path == dir || strings.HasPrefix(path, dir+"/") }

func shared(config *isolation.ContainerConfig, v *mesos.Volume) (*isolation.Mount, error) {
	if v.HostPath == nil || v.Image != nil || v.Source != nil {
		return nil, fmt.Errorf("volume without host_path: %w by filesystem/shared", isolation.ErrNotSupported)
	}
	target := filepath.Clean(v.GetContainerPath())
	if !filepath.IsAbs(target) {
		return nil, fmt.Errorf("%w: container_path is not absolute", ErrInvalidVolume)
	}
	var st unix.Stat_t
	if err := unix.Stat(target, &st); err != nil {
		return nil, fmt.Errorf("%w: container_path must exist on the machine: %w", ErrInvalidVolume, err)
	}
	m := &isolation.Mount{Source: v.GetHostPath(), Target: target, Flags: unix.MS_BIND | unix.MS_REC}
	if v.GetMode() == mesos.Volume_RO {
		m.Flags |= unix.MS_RDONLY
	}
	if filepath.IsAbs(m.Source) {
		_, err := os.Stat(m.Source)
		return m, err
	}
	if !filepath.IsLocal(m.Source) {
		return nil, fmt.Errorf("%w: host_path %q: %w", ErrInvalidVolume, m.Source, mounts.ErrEscapes)
	}
	// It takes the place of container_path: so shall its owner and mode.
	rest := m.Source
	m.Source, m.SourceIn = filepath.Join(config.Sandbox, rest), config.Sandbox
	if err := mounts.Make(config.Sandbox, rest, true, int(st.Uid), int(st.Gid)); err != nil {
		return nil, err
	}
	f, err := mounts.OpenBeneath(config.Sandbox, rest)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	path := fmt.Sprintf("/proc/self/fd/%d", f.Fd())
	if err := os.Chown(path, int(st.Uid), int(st.Gid)); err != nil {
		return nil, err
	}
	return m, unix.Chmod(path, st.Mode&0o7777)
}
