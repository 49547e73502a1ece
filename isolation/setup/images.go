package setup

import (
	"context"
	"fmt"

	"github.com/rs/zerolog"

	"clusterd/isolation"
	"clusterd/isolation/images"
)

// openImages makes the provisioner if there are to be images. The function that it
// returns undoes that.
func (o *Options) openImages(log zerolog.Logger) (undo func(), err error) {
	if o.Images == nil || o.Provisioner != nil {
		return func() {}, nil
	}
	// As Mesos, which does not start either (docs/container-image.md).
	wanted, err := o.wanted()
	if err != nil {
		return nil, err
	}
	for _, name := range []string{"filesystem/linux", "docker/runtime"} {
		if !wanted[name] {
			return nil, fmt.Errorf("image_providers: %w without %s in --isolation", isolation.ErrNotSupported, name)
		}
	}
	if o.Launcher != "linux" {
		return nil, fmt.Errorf("image_providers: %w without --launcher=linux", isolation.ErrNotSupported)
	}
	p, err := images.New(context.Background(), *o.Images, log)
	if err != nil {
		return nil, err
	}
	o.Provisioner = p
	return func() {
		if err := p.Close(); err != nil {
			log.Error().Err(err).Msg("close the store of images")
		}
	}, nil
}
