package setup

import (
	"context"
	"fmt"
	"strings"

	"github.com/rs/zerolog"

	"clusterd/isolation"
	"clusterd/isolation/images"
)

// openImages makes the provisioner if there are to be images. The function that it
// returns undoes that.
func (o *Options) openImages(log zerolog.Logger) (undo func(), err error) {
	if len(o.ImageProviders) == 0 || o.Provisioner != nil {
		return func() {}, nil
	}
	for _, p := range o.ImageProviders {
		if strings.ToLower(p) != "docker" {
			return nil, fmt.Errorf("image_providers: %w: %q (there is docker, which takes OCI images too)", isolation.ErrNotSupported, p)
		}
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
	options := o.Images
	if options.WorkDir == "" {
		options.WorkDir = o.WorkDir
	}
	p, err := images.New(context.Background(), options, log)
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
