package registry

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/google/uuid"
	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"clusterd/registry/state"
)

const (
	keepSnapshots = 2
	logCacheSize  = 256 // entries that followers ask for again
	raftDBName    = "raft.db"
)

// Keys of the stable store. The first two are ours, the third raft's own.
var (
	keyServerID    = []byte("clusterd_server_id")
	keyNewcomer    = []byte("clusterd_newcomer")
	keyCurrentTerm = []byte("CurrentTerm")
)

// stores are where a member keeps its log, its vote and its snapshots.
type stores struct {
	logs   *checkedLogs
	cached raft.LogStore // logs, for raft
	stable raft.StableStore
	snaps  raft.SnapshotStore
	close  func() error
}

func openStores(o *Options) (*stores, error) {
	if o.Dir == "" {
		mem := raft.NewInmemStore()
		logs := &checkedLogs{LogStore: o.wrap(mem)}
		return &stores{logs: logs, cached: logs, stable: mem, snaps: raft.NewInmemSnapshotStore(), close: func() error { return nil }}, nil
	}
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("registry directory: %w", err)
	}
	path := filepath.Join(o.Dir, raftDBName)
	opts := bbolt.Options{
		Timeout:        time.Second, // for the lock: another process has it
		NoFreelistSync: true,        // less to write each time; rebuilt at the start
		FreelistType:   bbolt.FreelistMapType,
	}
	err := checkLogFile(path, opts)
	opts.ReadOnly = o.readOnly
	var db *raftboltdb.BoltStore
	if err == nil {
		db, err = raftboltdb.New(raftboltdb.Options{Path: path, BoltOptions: &opts})
	}
	switch {
	case errors.Is(err, bolterrors.ErrTimeout):
		return nil, fmt.Errorf("registry log %s is in use by another process: stop the master that runs with this work_dir, or give this one another", path)
	case errors.Is(err, ErrCorrupt):
		return nil, fmt.Errorf("open registry log %s: %w: %s", path, err, remedy)
	case err != nil:
		return nil, fmt.Errorf("open registry log %s: %w", path, err)
	}
	snaps, err := raft.NewFileSnapshotStoreWithLogger(o.Dir, keepSnapshots, newHCLog(o.Logger))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("registry snapshots: %w", err), db.Close())
	}
	logs := &checkedLogs{LogStore: o.wrap(db)}
	cache, err := raft.NewLogCache(logCacheSize, logs)
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return &stores{logs: logs, cached: cache, stable: &checkedStable{db, o.Logger}, snaps: &checkedSnapshots{snaps, filepath.Join(o.Dir, "snapshots")}, close: db.Close}, nil
}

func (o *Options) wrap(l raft.LogStore) raft.LogStore {
	if o.wrapLog == nil {
		return l
	}
	return o.wrapLog(l)
}

// serverID returns the id of this member, made at its first start unless one is
// wanted.
func (s *stores) serverID(wanted string) (raft.ServerID, error) {
	id, err := s.stable.Get(keyServerID)
	if len(id) > 0 {
		if wanted != "" && wanted != string(id) {
			return "", fmt.Errorf("this member is %q and cannot become %q: start it under its own id, or with another directory", id, wanted)
		}
		return raft.ServerID(id), nil
	}
	if err != nil && !notFound(err) {
		return "", fmt.Errorf("read id of this member: %w", err)
	}
	// Who has snapshots has had an id: without its log, its term and its vote it is
	// not the member that it was.
	if snaps, err := s.snaps.List(); err != nil || len(snaps) > 0 {
		return "", errors.Join(err, fmt.Errorf("%w: there are snapshots, but the log is gone or empty: %s", ErrCorrupt, remedy))
	}
	if last, err := s.logs.LastIndex(); err != nil || last > 0 {
		return "", errors.Join(err, fmt.Errorf("%w: there is a log, but not the id of this member: %s", ErrCorrupt, remedy))
	}
	if id = []byte(wanted); wanted == "" {
		id = []byte(uuid.NewString())
	}
	if err := s.stable.SetUint64(keyNewcomer, uint64(blank)); err != nil {
		return "", fmt.Errorf("write that this member is new: %w", err)
	}
	if err := s.stable.Set(keyServerID, id); err != nil {
		return "", fmt.Errorf("write id of this member: %w", err)
	}
	return raft.ServerID(id), nil
}

// notFound recognises a key that was never set: each store has an error of its own.
func notFound(err error) bool { return err.Error() == raftboltdb.ErrKeyNotFound.Error() }

// restore reads the newest snapshot. Raft would fall back to an older one when
// the newest cannot be read, and so lose what was truncated since.
func (s *stores) restore() (*state.State, error) {
	snaps, err := s.snaps.List()
	if err != nil {
		return nil, fmt.Errorf("list registry snapshots: %w", err)
	}
	var index uint64
	st := state.New()
	if len(snaps) > 0 {
		index = snaps[0].Index
		if st, err = s.read(snaps[0].ID); err != nil {
			if _, newer := errors.AsType[*state.NewerFormatError](err); !newer && !errors.Is(err, os.ErrPermission) {
				err = fmt.Errorf("%w: %w: %s", ErrCorrupt, err, remedy)
			}
			return nil, fmt.Errorf("restore registry snapshot %s: %w", snaps[0].ID, err)
		}
		s.logs.commands.Store(true) // they are in the snapshot
	}
	first, err := s.logs.FirstIndex()
	if err != nil {
		return nil, fmt.Errorf("read registry log: %w", err)
	}
	if first > index+1 {
		return nil, fmt.Errorf("%w: the log begins at index %d but the newest snapshot ends at %d: a snapshot is missing; %s", ErrCorrupt, first, index, remedy)
	}
	return st, s.checkLog(first, index)
}

// checkLog reads the whole log: raft would find a damaged entry only when a
// follower asks for it. What is in the snapshot may be missing: a snapshot that
// was restored on a live cluster leaves a hole before it.
func (s *stores) checkLog(first, snapshot uint64) error {
	last, err := s.logs.LastIndex()
	if err != nil {
		return fmt.Errorf("read registry log: %w", err)
	}
	for i := first; i > 0 && i <= last; i++ {
		var l raft.Log
		err := guarded(func() error { return s.logs.GetLog(i, &l) })
		if err == nil || i <= snapshot && errors.Is(err, raft.ErrLogNotFound) {
			continue
		}
		if !errors.Is(err, ErrCorrupt) { // it is missing, or no entry at all
			err = fmt.Errorf("%w: log entry %d of %d to %d: %w", ErrCorrupt, i, first, last, err)
		}
		return fmt.Errorf("registry log: %w: %s", err, remedy)
	}
	return nil
}

func (s *stores) read(id string) (*state.State, error) {
	_, r, err := s.snaps.Open(id)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return state.ReadSnapshot(io.Reader(r))
}

// bootstrap founds the cluster with the given members, unless this one has
// belonged to a cluster already.
func (s *stores) bootstrap(conf *raft.Config, trans raft.Transport, members raft.Configuration) error {
	err := raft.BootstrapCluster(conf, s.logs, s.stable, s.snaps, trans, members)
	if !errors.Is(err, raft.ErrCantBootstrap) {
		return err
	}
	// A crash between the two writes of a bootstrap leaves term 1 without a log,
	// which is a member of nothing for ever. No other way leads to that state: the
	// first election after a bootstrap is for term 2.
	term, err := s.stable.GetUint64(keyCurrentTerm)
	if err != nil || term != 1 {
		return nil //nolint:nilerr // a member, or told by NewRaft what is broken
	}
	last, err := s.logs.LastIndex()
	if err != nil || last > 0 {
		return err
	}
	return s.logs.StoreLog(&raft.Log{Index: 1, Term: 1, Type: raft.LogConfiguration, Data: raft.EncodeConfiguration(members)})
}
