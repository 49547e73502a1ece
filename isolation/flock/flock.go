// Package flock waits a while for the lock of a file or directory: whoever holds it may
// just be ending.
//
// Lock does, and Try does not wait. Both are safe for concurrent use. isolation and
// isolation/cgroups import it.
package flock

import (
	"errors"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Patience is how long another process may hold the lock.
const Patience = 2 * time.Second

// Lock locks f until it is closed or the process ends, however it ends. The error is
// unix.EWOULDBLOCK when somebody else still has it after Patience.
func Lock(f *os.File) error {
	for deadline := time.Now().Add(Patience); ; time.Sleep(20 * time.Millisecond) {
		err := Try(f)
		if !errors.Is(err, unix.EWOULDBLOCK) || time.Now().After(deadline) {
			return err
		}
	}
}

// Try is Lock without patience.
func Try(f *os.File) error {
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}
