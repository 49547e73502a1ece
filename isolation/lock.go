package isolation

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// ErrRuntimeDirInUse says that another agent keeps its containers in the same
// runtime directory. It would take ours for orphans and destroy them, and we its.
var ErrRuntimeDirInUse = errors.New("runtime directory is in use by another agent")

// lockTimeout is how long another agent may hold the lock: one that is just
// ending.
const lockTimeout = 2 * time.Second

// lockDir locks a runtime directory until the file is closed or the process
// ends, however it ends.
func lockDir(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock runtime directory: %w", err)
	}
	deadline := time.Now().Add(lockTimeout)
	for {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return f, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) || time.Now().After(deadline) {
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	f.Close()
	if errors.Is(err, unix.EWOULDBLOCK) {
		return nil, fmt.Errorf("%w: %s: give each agent on a machine a --runtime_dir of its own", ErrRuntimeDirInUse, dir)
	}
	return nil, fmt.Errorf("lock runtime directory %s: %w", dir, err)
}
