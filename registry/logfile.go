package registry

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"os"
	"runtime/debug"
	"syscall"
	"time"

	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

// ErrCorrupt says that what this member kept on its disk cannot be read.
var ErrCorrupt = errors.New("the registry is corrupt")

// remedy ends errors about files that cannot be read.
const remedy = "restore the registry's directory from a backup; or, if other masters have the registry, remove it and join them afresh"

// checkLogFile looks at every page of a log file before it is opened for good:
// bbolt trusts its file, and a torn one would end the process with a fault in a
// goroutine of bbolt's own, long after the start or right away.
func checkLogFile(path string, opts bbolt.Options) error {
	st, err := os.Stat(path)
	if errors.Is(err, os.ErrNotExist) || err == nil && st.Size() == 0 {
		return nil // a first start, which may have been cut short
	}
	if err != nil {
		return err
	}
	err = guarded(func() error {
		if err := checkSize(path, opts.Timeout); err != nil {
			return err
		}
		opts.ReadOnly = true
		db, err := bbolt.Open(path, 0o600, &opts)
		if err != nil {
			return err
		}
		err = db.View(func(tx *bbolt.Tx) error {
			return tx.ForEach(func(name []byte, b *bbolt.Bucket) error {
				return b.ForEach(func(key, _ []byte) error { return checkKey(string(name), key) })
			})
		})
		return errors.Join(err, db.Close())
	})
	for _, corrupt := range []error{bolterrors.ErrInvalid, bolterrors.ErrVersionMismatch, bolterrors.ErrChecksum} {
		if errors.Is(err, corrupt) {
			err = fmt.Errorf("%w: %w", ErrCorrupt, err)
		}
	}
	return err
}

// checkKey refuses what no build writes: a key that was changed is one that is
// missed elsewhere, and a term or a vote that is missed is one that is given anew.
func checkKey(bucket string, key []byte) error {
	switch bucket {
	case "logs":
		if len(key) == 8 && binary.BigEndian.Uint64(key) > 0 { // entries count from 1
			return nil
		}
	case "conf":
		switch string(key) {
		case string(keyServerID), string(keyNewcomer), string(keyCurrentTerm), "LastVoteTerm", "LastVoteCand":
			return nil
		}
	}
	return fmt.Errorf("%w: %s holds %q", ErrCorrupt, bucket, key)
}

// guarded turns what bbolt does with a file that is not its own, panics and
// faults of the mapped memory, into ErrCorrupt.
func guarded(f func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%w: %v", ErrCorrupt, r)
		}
	}()
	return f()
}

// lockShared waits until no other process writes to the file: what it has half
// written would look damaged. The lock goes when f is closed.
func lockShared(f *os.File, wait time.Duration) error {
	for end := time.Now().Add(wait); ; time.Sleep(20 * time.Millisecond) {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_SH|syscall.LOCK_NB)
		switch {
		case err == nil:
			return nil
		case !errors.Is(err, syscall.EWOULDBLOCK):
			return fmt.Errorf("lock: %w", err)
		case time.Now().After(end):
			return bolterrors.ErrTimeout
		}
	}
}

// checkSize refuses a file that was cut, and one whose meta pages are damaged:
// bbolt would take the other one, and with it the state before the last write. It
// reads both: a page header of 16 bytes, then magic, version, page size and flags
// of 4 each, then root (16), freelist, pages in use, transaction and checksum of 8
// each.
func checkSize(path string, wait time.Duration) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := lockShared(f, wait); err != nil {
		return err
	}
	st, err := f.Stat()
	if err != nil {
		return err
	}
	var pages, newest, size, root uint64
	for _, at := range []int64{0, int64(os.Getpagesize())} {
		var b [80]byte
		if _, err := f.ReadAt(b[:], at); err != nil {
			return fmt.Errorf("%w: it is only %d bytes long", ErrCorrupt, st.Size())
		}
		meta := b[16:]
		sum := fnv.New64a()
		_, _ = sum.Write(meta[:56]) // never fails
		if got := binary.NativeEndian.Uint64(meta[56:]); got != sum.Sum64() {
			return fmt.Errorf("%w: the checksum of its head at byte %d is wrong", ErrCorrupt, at)
		}
		if tx := binary.NativeEndian.Uint64(meta[48:]); pages == 0 || tx > newest {
			newest, pages = tx, binary.NativeEndian.Uint64(meta[40:])
			size = uint64(binary.NativeEndian.Uint32(meta[8:]))
			root = binary.NativeEndian.Uint64(meta[16:])
		}
	}
	if size > 0 && size <= 1<<16 && pages < 1<<40 && pages*size > uint64(st.Size()) {
		return fmt.Errorf("%w: it should be %d bytes long and has %d", ErrCorrupt, pages*size, st.Size())
	}
	return checkTree(f, size, pages, root)
}
