package filesystem

import (
	"context"
	"fmt"

	"golang.org/x/sys/unix"

	mesos "clusterd/api/mesos/v1"
	"clusterd/isolation"
)

// Image is volume/image: the file system of an image as a volume
// (src/slave/containerizer/mesos/isolators/volume/image.cpp).
type Image struct {
	prepared
	o Options
}

var _ isolation.Isolator = (*Image)(nil)

// NewImage makes the isolator.
func NewImage(o Options) *Image { return &Image{o: o} }

// Name is "volume/image".
func (i *Image) Name() string { return "volume/image" }

// Recover remembers the containers.
func (i *Image) Recover(_ context.Context, states []isolation.ContainerState, _ []*mesos.ContainerID) error {
	return recoverAll(&i.prepared, states)
}

// Prepare provisions the images and asks for the mounts. They end as the container's own
// image does.
func (i *Image) Prepare(ctx context.Context, config *isolation.ContainerConfig) (*isolation.Preparation, error) {
	volumes, err := volumesOf(config)
	if err != nil {
		return nil, err
	}
	if err := i.Add(config.ID, struct{}{}); err != nil {
		return nil, err
	}
	p := &isolation.Preparation{}
	for j := range volumes {
		v := &volumes[j]
		if !v.image {
			continue
		}
		if err := i.prepare(ctx, p, config, v); err != nil {
			i.Forget(config.ID)
			return nil, fmt.Errorf("volume at %q: %w", v.GetContainerPath(), err)
		}
	}
	return p, nil
}

func (i *Image) prepare(ctx context.Context, p *isolation.Preparation, config *isolation.ContainerConfig, v *volume) error {
	if isDebug(config) {
		return fmt.Errorf("volumes of a DEBUG container: %w", isolation.ErrNotSupported)
	}
	if i.o.Provisioner == nil {
		return fmt.Errorf("images: %w without --image_providers", isolation.ErrNotSupported)
	}
	m, err := i.o.target(config, v, true)
	if err != nil {
		return err
	}
	made, err := i.o.Provisioner.Provision(ctx, config.ID, v.GetImage())
	if err != nil {
		return err
	}
	users, err := i.o.users(config.ID)
	if err != nil {
		return err
	}
	for _, layer := range made.Mounts {
		layer.IDMap = users.Namespace
		p.Mounts = append(p.Mounts, layer)
	}
	m.Source, m.Flags = made.RootFS, unix.MS_BIND|unix.MS_REC
	if len(made.Mounts) == 0 {
		m.IDMap = users.Namespace
	}
	i.o.add(p, config, v, m)
	return nil
}
