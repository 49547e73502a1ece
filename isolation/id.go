package isolation

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	mesos "clusterd/api/mesos/v1"
)

// MaxContainerIDLength is the longest value a ContainerID may have, as in
// Mesos (src/common/validation.cpp): it must be a file name with room for a
// suffix.
const MaxContainerIDLength = 242

// ErrInvalidContainerID says that a container id cannot be used.
var ErrInvalidContainerID = errors.New("invalid container id")

// Key is the text form of a container id: the values of its line of parents
// joined by dots.
func Key(id *mesos.ContainerID) string {
	if id.GetParent() == nil {
		return id.GetValue()
	}
	return Key(id.GetParent()) + "." + id.GetValue()
}

// ValidateID checks an id as src/common/validation.cpp does. A dot would make
// keys ambiguous.
func ValidateID(id *mesos.ContainerID) error {
	for ; id != nil; id = id.GetParent() {
		v := id.GetValue()
		if v == "" || len(v) > MaxContainerIDLength || strings.ContainsAny(v, "/. \t\n\x00") {
			return fmt.Errorf("%w: %q", ErrInvalidContainerID, v)
		}
		if id.GetParent() == nil {
			return nil
		}
	}
	return fmt.Errorf("%w: missing", ErrInvalidContainerID)
}

// RuntimePath is the runtime directory of a container below a directory that
// has the "containers" folder.
func RuntimePath(dir string, id *mesos.ContainerID) string {
	if id.GetParent() != nil {
		dir = RuntimePath(dir, id.GetParent())
	}
	return filepath.Join(dir, "containers", id.GetValue())
}

func containerID(value string) *mesos.ContainerID { return &mesos.ContainerID{Value: &value} }
