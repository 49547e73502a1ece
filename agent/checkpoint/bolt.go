package checkpoint

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"time"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"clusterd/agent/core"
)

// migrations[i] takes a file from version i+1 to i+2. A file of a version for
// which there is no way is refused. Steps are never changed once released.
var migrations []func(*bolt.Tx) error

// lockTimeout is how long another process may hold the file: an agent that is
// just ending.
const lockTimeout = 2 * time.Second

var headerBucket, versionKey = []byte("header"), []byte("version")

// Bolt is the Store on disk.
type Bolt struct {
	db   *bolt.DB
	path string
}

// Open opens the file, creates it, or migrates it. Errors name the file and say
// what can be done.
func Open(path string) (*Bolt, error) { return open(path, migrations) }

func open(path string, steps []func(*bolt.Tx) error) (b *Bolt, err error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("create directory of the checkpoint: %w", err)
	}
	err = guarded(func() error {
		if err := checkSize(path); err != nil {
			return err
		}
		// The list of free pages is kept in the file: reading it is safe in this
		// goroutine, collecting it anew happens in one of bbolt's own, where a fault
		// would end the process.
		db, err := bolt.Open(path, 0o600, &bolt.Options{Timeout: lockTimeout, FreelistType: bolt.FreelistMapType})
		if err != nil {
			return err
		}
		b = &Bolt{db: db, path: path}
		if err := b.prepare(steps); err != nil {
			_ = db.Close()
			return err
		}
		return nil
	})
	if err != nil {
		return nil, explain(path, err)
	}
	return b, nil
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

// checkSize refuses a file that was cut: bbolt would map what is not there. It
// reads the two meta pages (page header of 16 bytes, then magic, version, page
// size, flags: uint32; root: two uint64; freelist, pages in use, txid: uint64).
func checkSize(path string) error {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil || st.Size() == 0 {
		return err
	}
	var pages, txid, size uint64
	for _, at := range []int64{0, int64(os.Getpagesize())} {
		var b [80]byte
		if _, err := f.ReadAt(b[:], at); err != nil {
			return fmt.Errorf("%w: it is only %d bytes long", ErrCorrupt, st.Size())
		}
		m := b[16:]
		if id := binary.NativeEndian.Uint64(m[48:]); pages == 0 || id > txid {
			txid, pages = id, binary.NativeEndian.Uint64(m[40:])
			size = uint64(binary.NativeEndian.Uint32(m[8:]))
		}
	}
	// Metas that are garbage are bbolt's to refuse: by magic and checksum.
	if size > 0 && size <= 1<<16 && pages < 1<<40 && pages*size > uint64(st.Size()) {
		return fmt.Errorf("%w: it should be %d bytes long and has %d", ErrCorrupt, pages*size, st.Size())
	}
	return nil
}

// walk reads every key and value that can be reached.
func walk(tx *bolt.Tx) error {
	return tx.ForEach(func(_ []byte, b *bolt.Bucket) error {
		return b.ForEach(func(_, _ []byte) error { return nil })
	})
}

// explain names the file and the way out.
func explain(path string, err error) error {
	switch {
	case errors.Is(err, bolterrors.ErrTimeout):
		return fmt.Errorf("%w: %s: stop the agent that runs with this work_dir, or give this one another", ErrLocked, path)
	case errors.Is(err, ErrNewer):
		return fmt.Errorf("%w: %s: start that version again, or move the file away to begin as a new agent (running executors will be destroyed)", err, path)
	case errors.Is(err, bolterrors.ErrInvalid), errors.Is(err, bolterrors.ErrVersionMismatch), errors.Is(err, bolterrors.ErrChecksum):
		err = fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	if errors.Is(err, ErrCorrupt) {
		return fmt.Errorf("%w: %s: restore it, or move it away to begin as a new agent (running executors will be destroyed)", err, path)
	}
	return fmt.Errorf("checkpoint %s: %w", path, err)
}

func (b *Bolt) prepare(steps []func(*bolt.Tx) error) error {
	newest := uint64(len(steps) + 1)
	// A look at every page before the first is trusted: a torn or overwritten
	// file shows here and not at three in the morning.
	err := b.db.View(func(tx *bolt.Tx) error {
		if err := walk(tx); err != nil {
			return err
		}
		var first error
		for err := range tx.Check() {
			if first == nil {
				first = fmt.Errorf("%w: %w", ErrCorrupt, err)
			}
		}
		return first
	})
	if err != nil {
		return err
	}
	return b.db.Update(func(tx *bolt.Tx) error {
		header, err := tx.CreateBucketIfNotExists(headerBucket)
		if err != nil {
			return err
		}
		version := newest
		switch v := header.Get(versionKey); {
		case v == nil:
		case len(v) != 8:
			return fmt.Errorf("%w: its version is %d bytes long", ErrCorrupt, len(v))
		default:
			version = binary.BigEndian.Uint64(v)
		}
		if version > newest {
			return fmt.Errorf("%w: version %d, this one knows %d", ErrNewer, version, newest)
		}
		if version == 0 {
			return fmt.Errorf("%w: version 0", ErrCorrupt)
		}
		for _, step := range steps[version-1:] {
			if err := step(tx); err != nil {
				return fmt.Errorf("migrate from version %d: %w", version, err)
			}
			version++
		}
		for _, name := range buckets {
			if _, err := tx.CreateBucketIfNotExists([]byte(name)); err != nil {
				return err
			}
		}
		return header.Put(versionKey, binary.BigEndian.AppendUint64(nil, newest))
	})
}

// Load returns all that is kept.
func (b *Bolt) Load(strict bool) (*core.Checkpoint, int, error) {
	l := &loader{strict: strict, tasks: map[string]int{}}
	err := guarded(func() error {
		return b.db.View(func(tx *bolt.Tx) error {
			for _, name := range buckets {
				err := tx.Bucket([]byte(name)).ForEach(func(k, v []byte) error { return l.row(name, k, v) })
				if err != nil {
					return err
				}
			}
			return nil
		})
	})
	if err != nil {
		return nil, 0, explain(b.path, err)
	}
	return l.done(), l.skipped, nil
}

// Write makes the records durable in one transaction.
func (b *Bolt) Write(records []core.Record) error {
	err := guarded(func() error {
		return b.db.Update(func(tx *bolt.Tx) error {
			for _, r := range records {
				if err := apply(boltTables{tx}, r); err != nil {
					return err
				}
			}
			return nil
		})
	})
	if err != nil {
		return explain(b.path, err)
	}
	return nil
}

// Close closes the file.
func (b *Bolt) Close() error { return b.db.Close() }

type boltTables struct{ tx *bolt.Tx }

func (t boltTables) put(bucket string, k, v []byte) error {
	return t.tx.Bucket([]byte(bucket)).Put(k, v)
}

func (t boltTables) del(bucket string, k []byte) error { return t.tx.Bucket([]byte(bucket)).Delete(k) }

func (t boltTables) delPrefix(bucket string, prefix []byte) error {
	b := t.tx.Bucket([]byte(bucket))
	var keys [][]byte
	c := b.Cursor()
	for k, _ := c.Seek(prefix); bytes.HasPrefix(k, prefix); k, _ = c.Next() {
		keys = append(keys, bytes.Clone(k))
	}
	for _, k := range keys {
		if err := b.Delete(k); err != nil {
			return err
		}
	}
	return nil
}

func (t boltTables) clear(bucket string) error {
	if err := t.tx.DeleteBucket([]byte(bucket)); err != nil {
		return err
	}
	_, err := t.tx.CreateBucket([]byte(bucket))
	return err
}
