package isolation

import "github.com/rs/zerolog"

// PosixLauncher starts containers as plain processes, as the launcher named
// "posix" of Mesos does (src/slave/containerizer/mesos/launcher.cpp), but with
// a supervisor above each, so that a process that forks twice does not escape.
type PosixLauncher struct{ *launcher }

var _ Launcher = PosixLauncher{}

// NewPosixLauncher makes a launcher that keeps its containers' runtime
// directories under runtimeDir/containers.
func NewPosixLauncher(runtimeDir string, programs *Programs, log zerolog.Logger) (*PosixLauncher, error) {
	l, err := newLauncher("posix", runtimeDir, programs, log)
	if err != nil {
		return nil, err
	}
	return &PosixLauncher{l}, nil
}
