package isolation

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"clusterd/isolation/flock"
)

// ErrRuntimeDirInUse says that another agent keeps its containers in the same
// runtime directory. It would take ours for orphans and destroy them, and we its.
var ErrRuntimeDirInUse = errors.New("runtime directory is in use by another agent")

// lockDir locks a runtime directory until the file is closed or the process
// ends, however it ends.
func lockDir(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock runtime directory: %w", err)
	}
	if err = flock.Lock(f); err == nil {
		return f, nil
	}
	f.Close()
	if errors.Is(err, unix.EWOULDBLOCK) {
		return nil, fmt.Errorf("%w: %s: give each agent on a machine a --runtime_dir of its own, and a --docker_store_dir", ErrRuntimeDirInUse, dir)
	}
	return nil, fmt.Errorf("lock runtime directory %s: %w", dir, err)
}
