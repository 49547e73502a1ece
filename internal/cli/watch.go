package cli

import (
	"context"
	"errors"

	"github.com/rs/zerolog"

	"clusterd/internal/sdnotify"
)

// watched is a daemon that systemd may ask how it is.
type watched interface {
	daemon
	sdnotify.Subject
}

// serve starts a daemon and stops it when ctx ends or it fails. The service
// manager, if there is one, hears of it.
func serve(ctx context.Context, log zerolog.Logger, d watched) error {
	manager, err := sdnotify.FromEnvironment(log)
	if err != nil {
		return errors.Join(err, stop(d))
	}
	if err := d.Start(ctx); err != nil {
		return errors.Join(err, stop(d))
	}
	manager.Ready(d)
	select {
	case <-ctx.Done():
		manager.Stop()
		return stop(d)
	case <-d.Done():
		manager.Stop()
		return errors.Join(d.Err(), stop(d))
	}
}
