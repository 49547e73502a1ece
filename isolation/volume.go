package isolation

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	mesos "clusterd/api/mesos/v1"
)

// ErrInvalidVolume says that a resource is no persistent volume that could be
// found on disk.
var ErrInvalidVolume = errors.New("invalid persistent volume")

// PersistentVolumePath is the directory of a persistent volume: below the work
// directory, below the root of a PATH disk, or the root of a MOUNT disk itself
// (src/slave/paths.cpp). A slash in the role becomes a space, which no role
// may contain.
func PersistentVolumePath(workDir string, volume *mesos.Resource) (string, error) {
	id := volume.GetDisk().GetPersistence().GetId()
	reservations := volume.GetReservations()
	role := volume.GetRole()
	if len(reservations) > 0 {
		role = reservations[len(reservations)-1].GetRole()
	}
	if !IsFileName(id) || role == "" || role == "*" || !IsFileName(strings.ReplaceAll(role, "/", " ")) {
		return "", fmt.Errorf("%w: id %q of role %q", ErrInvalidVolume, id, role)
	}
	root := workDir
	if source := volume.GetDisk().GetSource(); source != nil {
		switch source.GetType() {
		case mesos.Resource_DiskInfo_Source_PATH:
			root = source.GetPath().GetRoot()
		case mesos.Resource_DiskInfo_Source_MOUNT:
			root = source.GetMount().GetRoot()
		default:
			return "", fmt.Errorf("%w: disk source %v", ErrInvalidVolume, source.GetType())
		}
		if root == "" {
			return "", fmt.Errorf("%w: disk source without a root", ErrInvalidVolume)
		}
		if !filepath.IsAbs(root) {
			root = filepath.Join(workDir, root)
		}
		if source.GetType() == mesos.Resource_DiskInfo_Source_MOUNT {
			return root, nil
		}
	}
	return filepath.Join(root, "volumes", "roles", strings.ReplaceAll(role, "/", " "), id), nil
}

// IsFileName says whether s can be the name of a file in a directory.
func IsFileName(s string) bool {
	return s != "" && s != "." && s != ".." && len(s) <= 255 && !strings.ContainsAny(s, "/\x00")
}
