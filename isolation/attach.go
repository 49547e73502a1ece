package isolation

import (
	"path/filepath"

	"clusterd/isolation/supervisor"
)

// doorFile is the socket, in a container's runtime directory, at which the process
// above it lets the agent read along, type, and resize the terminal. Containers that
// have neither a terminal nor an input have none.
const doorFile = "door"

// setStreams says what a container reads and writes.
func (c *ContainerConfig) setStreams(info *LaunchInfo) {
	info.TTY, info.Stdin = c.ContainerInfo.GetTtyInfo(), c.Stdin
	info.Door = info.TTY != nil || info.Stdin
	info.StdoutRotation, info.StderrRotation = c.StdoutRotation, c.StderrRotation
}

// setStreams tells the process above the container the same. Its runtime directory is
// set already.
func (i *LaunchInfo) setStreams(spec *supervisor.Spec) {
	spec.StdoutRotation, spec.StderrRotation = i.StdoutRotation, i.StderrRotation
	spec.Stdin = i.Stdin
	if i.TTY != nil {
		spec.TTY = true
		spec.Rows, spec.Columns = i.TTY.GetWindowSize().GetRows(), i.TTY.GetWindowSize().GetColumns()
	}
	if i.Door {
		spec.Door = filepath.Join(spec.RuntimeDir, doorFile)
	}
}
