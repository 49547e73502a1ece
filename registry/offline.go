package registry

import (
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/hashicorp/raft"
	"github.com/rs/zerolog"

	clusterdv1 "clusterd/api/clusterd/v1"
	"clusterd/registry/state"
)

// ErrNoRegistry says that a directory holds no registry.
var ErrNoRegistry = errors.New("there is no registry")

// ErrNotEmpty says that a directory holds a registry already.
var ErrNotEmpty = errors.New("there is a registry already")

// SnapshotInfo is one snapshot on a member's disk.
type SnapshotInfo struct {
	ID          string
	Index, Term uint64
	Size        int64
}

// Inspection is what a member keeps in its directory, read while it does not
// run. Close ends it.
type Inspection struct {
	ServerID    string
	CurrentTerm uint64
	// VotedFor is whom it voted for, in term VoteTerm; empty if it never did.
	VotedFor string
	VoteTerm uint64
	// FirstIndex and LastIndex are the log's, zero if it is empty.
	FirstIndex, LastIndex uint64
	// Snapshots are the newest first.
	Snapshots []SnapshotInfo
	// Members are those of the newest configuration, at index MembersIndex: the
	// member cannot tell alone whether that was committed.
	Members      []Member
	MembersIndex uint64
	// State is the newest snapshot and the whole log after it, uncommitted entries
	// included.
	State *State

	stores *stores
}

// LogEntry is one entry of the log.
type LogEntry struct {
	Index, Term uint64
	// Type is command, configuration, barrier or noop.
	Type string
	// AppendedAt is when the leader took it, zero in entries that raft makes.
	AppendedAt time.Time
	// Entry is set for commands, and Members for configurations.
	Entry   *clusterdv1.Entry
	Members []Member
}

// InspectDir reads the registry below a directory (Options.Dir) in which no
// master runs. It fails with ErrNoRegistry if there is none, and with ErrCorrupt
// if it is damaged.
func InspectDir(dir string) (*Inspection, error) {
	s, err := openExisting(dir, true)
	if err != nil {
		return nil, err
	}
	in := &Inspection{stores: s}
	if err := guarded(in.read); err != nil {
		return nil, errors.Join(fmt.Errorf("inspect %s: %w", dir, err), s.close())
	}
	return in, nil
}

// Close ends the inspection, after which a master may run again.
func (in *Inspection) Close() error { return in.stores.close() }

func (in *Inspection) read() error {
	s := in.stores
	id, err := s.stable.Get(keyServerID)
	if err != nil && !notFound(err) {
		return err
	}
	in.ServerID = string(id)
	for key, v := range map[string]*uint64{string(keyCurrentTerm): &in.CurrentTerm, "LastVoteTerm": &in.VoteTerm} {
		if *v, err = s.stable.GetUint64([]byte(key)); err != nil && !notFound(err) {
			return err
		}
	}
	cand, err := s.stable.Get([]byte("LastVoteCand"))
	if err != nil && !notFound(err) {
		return err
	}
	in.VotedFor = string(cand)
	if in.FirstIndex, err = s.logs.FirstIndex(); err != nil {
		return err
	}
	if in.LastIndex, err = s.logs.LastIndex(); err != nil {
		return err
	}
	snaps, err := s.snaps.List()
	if err != nil {
		return err
	}
	for i, m := range snaps {
		in.Snapshots = append(in.Snapshots, SnapshotInfo{ID: m.ID, Index: m.Index, Term: m.Term, Size: m.Size})
		if i == 0 {
			in.Members, in.MembersIndex = membersOf(m.Configuration), m.ConfigurationIndex
		}
	}
	if in.CurrentTerm == 0 && in.LastIndex > 0 {
		return fmt.Errorf("%w: there is a log, but no term", ErrCorrupt)
	}
	return in.replay()
}

// replay builds the state from the newest snapshot and the log.
func (in *Inspection) replay() error {
	st, err := in.stores.restore()
	if err != nil {
		return err
	}
	from := uint64(0)
	if len(in.Snapshots) > 0 {
		from = in.Snapshots[0].Index
	}
	for e, err := range in.Entries() {
		if err != nil {
			return err
		}
		if e.Members != nil && e.Index >= in.MembersIndex {
			in.Members, in.MembersIndex = e.Members, e.Index
		}
		if e.Entry == nil || e.Index <= from {
			continue
		}
		if st, _, err = st.Apply(e.Entry); err != nil {
			return fmt.Errorf("log index %d: %w", e.Index, err)
		}
	}
	in.State = st
	return nil
}

// Entries returns the entries of the log in their order; an error is the last
// that it yields. Indexes are missing where a snapshot was restored.
func (in *Inspection) Entries() iter.Seq2[LogEntry, error] {
	return func(yield func(LogEntry, error) bool) {
		for i := in.FirstIndex; i > 0 && i <= in.LastIndex; i++ {
			e, err := in.entry(i)
			if errors.Is(err, raft.ErrLogNotFound) {
				continue // InspectDir has refused a hole that may not be
			}
			if !yield(e, err) || err != nil {
				return
			}
		}
	}
}

func (in *Inspection) entry(index uint64) (LogEntry, error) {
	var l raft.Log
	if err := in.stores.logs.GetLog(index, &l); err != nil {
		return LogEntry{}, fmt.Errorf("log index %d: %w", index, err)
	}
	e := LogEntry{Index: l.Index, Term: l.Term, AppendedAt: l.AppendedAt}
	switch l.Type {
	case raft.LogCommand:
		e.Type = "command"
		entry, err := state.DecodeEntry(l.Data)
		if err != nil {
			return LogEntry{}, fmt.Errorf("log index %d: %w", index, err)
		}
		e.Entry = entry
	case raft.LogConfiguration:
		e.Type = "configuration"
		e.Members = membersOf(raft.DecodeConfiguration(l.Data))
	case raft.LogBarrier:
		e.Type = "barrier"
	case raft.LogNoop:
		e.Type = "noop"
	default:
		e.Type = l.Type.String()
	}
	return e, nil
}

func membersOf(c raft.Configuration) []Member {
	members := []Member{}
	for _, s := range c.Servers {
		members = append(members, Member{ID: string(s.ID), Addr: string(s.Address), Voter: s.Suffrage == raft.Voter})
	}
	return members
}

// RestoreDir founds a new registry, of one member, from a snapshot in a directory
// that has none: a master that starts with it leads, and others join it. The
// member is named id, or by a new id if that is empty; its address is corrected
// when it starts.
func RestoreDir(dir, id string, from io.Reader) (err error) {
	st, err := state.ReadSnapshot(from)
	if err != nil {
		return fmt.Errorf("restore into %s: %w", dir, err)
	}
	if err := mustBeEmpty(dir); err != nil {
		return err
	}
	s, err := openStores(offlineOptions(dir))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	server, err := s.serverID(id)
	if err != nil {
		return err
	}
	conf := raft.Configuration{Servers: []raft.Server{{ID: server, Address: placeholderAddr}}}
	_, trans := raft.NewInmemTransport(placeholderAddr)
	sink, err := s.snaps.Create(raft.SnapshotVersionMax, 1, 1, conf, 1, trans)
	if err != nil {
		return err
	}
	if err := (&snapshot{state: st, build: "restored"}).Persist(sink); err != nil {
		return fmt.Errorf("restore into %s: %w", dir, err)
	}
	return s.stable.SetUint64(keyCurrentTerm, 1) // the snapshot's
}

// placeholderAddr is the address of a member that has yet to start.
const placeholderAddr = "127.0.0.1:5052"

// mustBeEmpty refuses a directory that has a registry or a part of one.
func mustBeEmpty(dir string) error {
	for _, name := range []string{raftDBName, "snapshots"} {
		path := filepath.Join(dir, name)
		if _, err := os.Stat(path); err == nil {
			return fmt.Errorf("%w: %s; restore into an empty directory, or move this one away", ErrNotEmpty, path)
		} else if !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return nil
}

// RecoverDir makes a member whose fellows are lost for good go on without them:
// its members become those given, this one alone if none are. All entries of its
// log count as committed, also those that never were; what only the lost members
// had is lost. To recover with several survivors, start the others afresh from
// empty directories.
func RecoverDir(dir string, members ...Member) (err error) {
	s, err := openExisting(dir, false)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	st, err := s.restore() // raft would fall back to an older snapshot
	if err != nil {
		return fmt.Errorf("recover %s: %w", dir, err)
	}
	id, err := s.serverID("")
	if err != nil {
		return fmt.Errorf("recover %s: %w", dir, err)
	}
	if len(members) == 0 {
		members = []Member{{ID: string(id), Addr: placeholderAddr, Voter: true}}
	}
	if !slices.ContainsFunc(members, func(m Member) bool { return m.ID == string(id) && m.Voter }) {
		return fmt.Errorf("recover %s: its own member %s is not among those that are to vote", dir, id)
	}
	var conf raft.Configuration
	for _, m := range members {
		server := raft.Server{ID: raft.ServerID(m.ID), Address: raft.ServerAddress(m.Addr)}
		if !m.Voter {
			server.Suffrage = raft.Nonvoter
		}
		conf.Servers = append(conf.Servers, server)
	}
	o := offlineOptions(dir)
	o.setDefaults()
	var failed error
	f := newFSM("recover", st, func(err error) { failed = err })
	_, trans := raft.NewInmemTransport(placeholderAddr)
	if err := raft.RecoverCluster(o.raftConfig(id, nil), f, s.logs, s.stable, s.snaps, trans, conf); err != nil {
		return fmt.Errorf("recover %s: %w", dir, errors.Join(err, failed))
	}
	return nil
}

func offlineOptions(dir string) *Options { return &Options{Dir: dir, Logger: zerolog.Nop()} }

// openExisting opens the files of a member that has some.
func openExisting(dir string, readOnly bool) (*stores, error) {
	path := filepath.Join(dir, raftDBName)
	st, err := os.Stat(path)
	switch {
	case errors.Is(err, os.ErrNotExist), err == nil && st.Size() == 0:
		return nil, fmt.Errorf("%w in %s: %s does not exist or is empty", ErrNoRegistry, dir, path)
	case err != nil:
		return nil, err
	}
	o := offlineOptions(dir)
	o.readOnly = readOnly
	return openStores(o)
}
