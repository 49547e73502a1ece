// Package setup puts the containerizer together that an agent's flags describe: a
// launcher, isolators in their order, a provisioner of images.
//
// Options is the main type and New the main function; a table (makers) names every
// isolator there is. Only agent/ and internal/cli import it.
package setup

import (
	"fmt"

	"github.com/rs/zerolog"

	"clusterd/isolation"
	"clusterd/isolation/isolators/security"
)

// Options are what the flags say about containers.
type Options struct {
	// WorkDir is the agent's work directory, RuntimeDir that of what ends with the boot.
	WorkDir, RuntimeDir string
	// Launcher (--launcher) and Isolation (--isolation) are names.
	Launcher, Isolation string
	// Security is for the isolators that take rights away.
	Security security.Options
}

// DefaultIsolation is what --isolation is when it is not given.
const DefaultIsolation = "posix/cpu,posix/mem"

// New makes the containerizer.
func New(o Options, programs *isolation.Programs, log zerolog.Logger) (isolation.Containerizer, error) {
	isolators, err := Isolators(o)
	if err != nil {
		return nil, err
	}
	launcher, err := Launcher(o, programs, log)
	if err != nil {
		return nil, err
	}
	return isolation.NewMesos(launcher, isolators, log), nil
}

// Launcher makes the launcher that o.Launcher names; empty means the default one.
func Launcher(o Options, programs *isolation.Programs, log zerolog.Logger) (isolation.Launcher, error) {
	switch o.Launcher {
	case "", "posix":
		return isolation.NewPosixLauncher(o.RuntimeDir, programs, log)
	case "linux":
		return nil, fmt.Errorf("launcher %q: %w", o.Launcher, isolation.ErrNotSupported)
	}
	return nil, fmt.Errorf("unknown launcher %q (there is posix)", o.Launcher)
}
