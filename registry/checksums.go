package registry

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"sync/atomic"

	"github.com/hashicorp/raft"
	"github.com/rs/zerolog"
)

// bbolt keeps checksums of its two meta pages only. What must not change by itself
// has its own: each entry of the log, and each value of the stable store (term,
// vote, id). Raft keeps one of a snapshot, but not of what it says of it: which
// entries are in it, and who the members are. What builds wrote without checksums
// is taken as it is.

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// checkedLogs is a log store that notices changed bits. The checksum is in the
// entry's Extensions on disk, and nowhere else.
type checkedLogs struct {
	raft.LogStore
	commands atomic.Bool // one was read or written; see newcomer
}

// checksum covers all that raft reads of an entry but its time.
func checksum(l *raft.Log) []byte {
	var head [17]byte
	binary.BigEndian.PutUint64(head[:], l.Index)
	binary.BigEndian.PutUint64(head[8:], l.Term)
	head[16] = byte(l.Type)
	return binary.BigEndian.AppendUint32(nil, crc32.Update(crc32.Checksum(head[:], castagnoli), castagnoli, l.Data))
}

// GetLog reads and checks an entry.
func (c *checkedLogs) GetLog(index uint64, l *raft.Log) error {
	if err := c.LogStore.GetLog(index, l); err != nil {
		return err
	}
	if l.Index != index || len(l.Extensions) > 0 && string(l.Extensions) != string(checksum(l)) {
		return fmt.Errorf("%w: log entry %d was changed: its checksum is wrong", ErrCorrupt, index)
	}
	l.Extensions = nil
	c.note(l)
	return nil
}

func (c *checkedLogs) note(l *raft.Log) {
	if l.Type == raft.LogCommand && !c.commands.Load() {
		c.commands.Store(true)
	}
}

// StoreLog writes an entry.
func (c *checkedLogs) StoreLog(l *raft.Log) error { return c.StoreLogs([]*raft.Log{l}) }

// StoreLogs writes entries. They are raft's and stay as they are.
func (c *checkedLogs) StoreLogs(logs []*raft.Log) error {
	copies := make([]raft.Log, len(logs))
	checked := make([]*raft.Log, len(logs))
	for i, l := range logs {
		copies[i] = *l
		copies[i].Extensions = checksum(l)
		checked[i] = &copies[i]
		c.note(l)
	}
	return c.LogStore.StoreLogs(checked)
}

// checkedStable is a stable store that notices changed bits. A value is a mark,
// then the value, then the checksum of key and value. The mark is of two bytes,
// neither of which is in an id, so that one of them is left when a bit changes.
type checkedStable struct {
	raft.StableStore
	log zerolog.Logger
}

const checkedMark = 1

func valueSum(key, v []byte) uint32 {
	return crc32.Update(crc32.Checksum(key, castagnoli), castagnoli, v)
}

// Set writes a value. When that is not possible raft panics, since a term or a
// vote that is not on the disk must not be acted on; the log says why before.
func (c *checkedStable) Set(key, v []byte) error {
	b := append([]byte{checkedMark, checkedMark}, v...)
	err := c.StableStore.Set(key, binary.BigEndian.AppendUint32(b, valueSum(key, v)))
	if err != nil {
		c.log.Error().Err(err).Str("key", string(key)).Msg("registry cannot write to its disk: this master stops")
	}
	return err
}

// Get reads and checks a value.
func (c *checkedStable) Get(key []byte) ([]byte, error) {
	b, err := c.StableStore.Get(key)
	if err != nil || len(b) < 2 || b[0] != checkedMark && b[1] != checkedMark {
		return b, err
	}
	if len(b) < 6 || b[0] != b[1] {
		return nil, fmt.Errorf("%w: %s was changed", ErrCorrupt, key)
	}
	v, sum := b[2:len(b)-4], binary.BigEndian.Uint32(b[len(b)-4:])
	if sum != valueSum(key, v) {
		return nil, fmt.Errorf("%w: %s was changed: its checksum is wrong", ErrCorrupt, key)
	}
	return v, nil
}

// SetUint64 writes a number.
func (c *checkedStable) SetUint64(key []byte, v uint64) error {
	return c.Set(key, binary.BigEndian.AppendUint64(nil, v))
}

// GetUint64 reads and checks a number, which is eight bytes in the old form too.
func (c *checkedStable) GetUint64(key []byte) (uint64, error) {
	b, err := c.StableStore.Get(key)
	if err != nil {
		return 0, err
	}
	if len(b) != 8 {
		if b, err = c.Get(key); err != nil {
			return 0, err
		}
	}
	if len(b) != 8 {
		return 0, fmt.Errorf("%w: %s has %d bytes", ErrCorrupt, key, len(b))
	}
	return binary.BigEndian.Uint64(b), nil
}

// checkedSnapshots is a store of snapshots that notices changed bits in raft's
// description of them.
type checkedSnapshots struct {
	raft.SnapshotStore
	dir string
}

const (
	metaName = "meta.json" // raft's
	sumName  = "meta.crc32c"
)

// List returns the snapshots, the newest first.
func (c *checkedSnapshots) List() ([]*raft.SnapshotMeta, error) {
	all, err := c.SnapshotStore.List()
	if err != nil {
		return nil, err
	}
	for _, m := range all {
		want, err := os.ReadFile(filepath.Join(c.dir, m.ID, sumName))
		if errors.Is(err, fs.ErrNotExist) {
			continue // an older build's, or the process was killed before it
		}
		if err != nil {
			return nil, err
		}
		meta, err := os.ReadFile(filepath.Join(c.dir, m.ID, metaName))
		if err != nil {
			return nil, err
		}
		if got := metaSum(meta); got != string(want) {
			return nil, fmt.Errorf("%w: the description of snapshot %s was changed: its checksum is %s instead of %s: %s", ErrCorrupt, m.ID, got, want, remedy)
		}
	}
	return all, nil
}

func metaSum(meta []byte) string { return fmt.Sprintf("%08x", crc32.Checksum(meta, castagnoli)) }

// Create begins a snapshot.
func (c *checkedSnapshots) Create(version raft.SnapshotVersion, index, term uint64, conf raft.Configuration, confIndex uint64, trans raft.Transport) (raft.SnapshotSink, error) {
	sink, err := c.SnapshotStore.Create(version, index, term, conf, confIndex, trans)
	if err != nil {
		return nil, err
	}
	return &checkedSink{sink, c.dir}, nil
}

type checkedSink struct {
	raft.SnapshotSink
	dir string
}

// Close makes the snapshot last, and then its description's checksum.
func (s *checkedSink) Close() error {
	if err := s.SnapshotSink.Close(); err != nil {
		return err
	}
	dir := filepath.Join(s.dir, s.ID())
	meta, err := os.ReadFile(filepath.Join(dir, metaName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil // cancelled before, or removed already by a newer one
	}
	if err != nil {
		return err
	}
	// Under its name at once or not at all; without it, the snapshot is good too.
	tmp := filepath.Join(dir, sumName+".tmp")
	if err := os.WriteFile(tmp, []byte(metaSum(meta)), 0o600); err != nil {
		return err
	}
	return os.Rename(tmp, filepath.Join(dir, sumName))
}
