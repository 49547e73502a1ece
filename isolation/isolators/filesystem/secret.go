package filesystem

import (
	"context"

	"golang.org/x/sys/unix"

	mesos "clusterd/api/mesos/v1"
	"clusterd/isolation"
	"clusterd/isolation/isolators/secret"
)

// Secret is volume/secret: secrets as files
// (src/slave/containerizer/mesos/isolators/volume/secret.cpp). Each is a file in
// memory, made and seen in its container alone, which its user alone can read; no
// disk of the machine ever holds it.
type Secret struct {
	prepared
	o Options
}

var _ isolation.Isolator = (*Secret)(nil)

// NewSecret makes the isolator.
func NewSecret(o Options) *Secret { return &Secret{o: o} }

// Name is "volume/secret".
func (s *Secret) Name() string { return "volume/secret" }

// SupportsStandalone says no, as Mesos does.
func (s *Secret) SupportsStandalone() bool { return false }

// Recover remembers the containers.
func (s *Secret) Recover(_ context.Context, states []isolation.ContainerState, _ []*mesos.ContainerID) error {
	return recoverAll(&s.prepared, states)
}

// Prepare asks for the files.
func (s *Secret) Prepare(_ context.Context, config *isolation.ContainerConfig) (*isolation.Preparation, error) {
	return prepareVolumes(&s.prepared, config, func(v *volume) bool { return v.kind == mesos.Volume_Source_SECRET && !v.image }, s.mount, &s.o)
}

func (s *Secret) mount(config *isolation.ContainerConfig, v *volume) ([]isolation.Mount, error) {
	data, err := secret.Resolve(v.GetSource().GetSecret())
	if err != nil {
		return nil, err
	}
	m, err := s.o.target(config, v, false)
	if err != nil {
		return nil, err
	}
	uid, gid, err := owner(config.Sandbox)
	if err != nil {
		return nil, err
	}
	if config.User == "" && config.Image != nil && config.Image.Credentials != nil {
		uid, gid = int(config.Image.Credentials.UID), int(config.Image.Credentials.GID)
	}
	users, err := s.o.users(config.ID)
	if err != nil {
		return nil, err
	}
	m.Source, m.Type, m.Content = "secret", "file", string(data)
	m.UID, m.GID = users.Base+uint32(uid), users.Base+uint32(gid)
	m.Flags = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC
	return []isolation.Mount{m}, nil
}
