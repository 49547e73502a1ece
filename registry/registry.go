package registry

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/hashicorp/raft"
	autopilot "github.com/hashicorp/raft-autopilot"
	"github.com/rs/zerolog"

	clusterdv1 "clusterd/api/clusterd/v1"
	mesos "clusterd/api/mesos/v1"
	"clusterd/registry/state"
)

// State is the registry at one entry of the log; see registry/state.
type State = state.State

var (
	// ErrRefused says that a command is not possible in the state that it met.
	// Nothing was changed, and the leadership goes on.
	ErrRefused = state.ErrRefused
	// ErrNotLeader says that this master does not lead; nothing was written.
	ErrNotLeader = errors.New("this master does not lead")
	// ErrLeadershipLost says that the leadership ended while a write was under
	// way: whether it takes effect is for the next leader to see.
	ErrLeadershipLost = errors.New("leadership was lost")
	// ErrStoreTimeout says that a write took longer than Options.StoreTimeout.
	ErrStoreTimeout = errors.New("registry store timed out")
	// ErrClosed says that the registry was closed.
	ErrClosed = errors.New("registry is closed")
)

// Registry is one member of the replicated registry.
type Registry struct {
	opts  Options
	log   zerolog.Logger
	id    raft.ServerID
	raft  *raft.Raft
	fsm   *fsm
	conf  *raft.Config
	guard *guard
	who   *identity

	closeTransport func() error
	stores         *stores
	notify         chan bool     // raft's word on leadership, read by follow
	resumed        chan struct{} // holds a token after suspended fell, read by follow

	ctx    context.Context // ends with Close, or with the failure that is its cause
	cancel context.CancelCauseFunc
	wg     sync.WaitGroup
	once   sync.Once
	closed error

	proposals queue

	hasLed   bool                                 // belongs to takeOffice, of which one runs at a time
	formatOf func(clusterdv1.Command_Kind) uint32 // state.KindFormat, but in tests

	mu sync.Mutex
	// mu guards what follows.
	lead      *Leadership
	changed   chan struct{} // closed and replaced when lead changes
	office    *office       // nil unless raft says that this member leads
	suspended int           // while positive, no office is taken
	health    *autopilot.State
	builds    map[raft.ServerID]build // of the masters that this one has met
}

// Open starts this member: it restores its newest snapshot, replays its log and
// founds the cluster when it is to and none exists. It returns before a leader is
// elected. ctx bounds the opening only.
func Open(ctx context.Context, opts Options) (*Registry, error) {
	opts.setDefaults()
	if err := opts.validate(); err != nil {
		return nil, err
	}
	if err := context.Cause(ctx); err != nil {
		return nil, fmt.Errorf("open registry: %w", err)
	}
	s, err := openStores(&opts)
	if err != nil {
		return nil, err
	}
	r, err := open(ctx, opts, s)
	if err != nil {
		return nil, errors.Join(err, s.close())
	}
	return r, nil
}

func open(ctx context.Context, opts Options, s *stores) (*Registry, error) {
	var id raft.ServerID
	var restored *state.State
	err := guarded(func() (err error) {
		if id, err = s.serverID(opts.ServerID); err != nil {
			return err
		}
		restored, err = s.restore()
		return err
	})
	if err != nil {
		return nil, err
	}
	who := newIdentity(id, &opts)
	trans, closeTransport, self, err := openTransport(ctx, &opts, who)
	if err != nil {
		return nil, err
	}
	g := newGuard(trans, opts.HeartbeatTimeout)
	r := &Registry{
		opts: opts, log: opts.Logger, id: id, guard: g, who: who, closeTransport: closeTransport, stores: s,
		notify: make(chan bool, 1), resumed: make(chan struct{}, 1), changed: make(chan struct{}),
		builds: make(map[raft.ServerID]build), formatOf: state.KindFormat,
	}
	r.proposals.init()
	r.ctx, r.cancel = context.WithCancelCause(context.Background())
	r.fsm = newFSM(opts.BuildVersion, restored, r.fail)
	r.conf = opts.raftConfig(id, r.notify)
	if opts.BootstrapExpect == 1 {
		only := raft.Configuration{Servers: []raft.Server{{ID: id, Address: trans.LocalAddr()}}}
		if err := s.bootstrap(r.conf, g, only); err != nil {
			return nil, errors.Join(fmt.Errorf("bootstrap registry: %w", err), closeTransport())
		}
	}
	hasPast, err := raft.HasExistingState(s.logs, s.stable, s.snaps)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open registry: %w", err), closeTransport())
	}
	r.raft, err = raft.NewRaft(r.conf, r.fsm, s.cached, s.stable, s.snaps, g)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start raft: %w", err), closeTransport())
	}
	g.term, g.lastIndex, g.endLead = r.raft.CurrentTerm, r.raft.LastIndex, r.endLeadership
	g.commands = &s.logs.commands
	g.newcomer = &newcomer{stable: s.stable, lastIndex: r.raft.LastIndex, applied: r.raft.AppliedIndex, elected: func() string { return r.State().MasterServerID() }, failed: r.fail}
	if err := g.newcomer.load(); err != nil {
		return nil, errors.Join(fmt.Errorf("open registry: %w", err), r.raft.Shutdown().Error(), closeTransport())
	}
	r.introduce(who)
	g.start(hasPast)
	r.wg.Go(r.follow)
	r.wg.Go(r.propose)
	r.wg.Go(r.hasten)
	r.wg.Go(func() { r.electSelf(self) })
	return r, nil
}

// introduce lets this member speak with others.
func (r *Registry) introduce(who *identity) {
	who.cluster = func() string { return r.State().ClusterID() }
	who.founded = func() bool { return r.raft.LastIndex() > 0 }
	who.isMember = func(id raft.ServerID) bool {
		f := r.raft.GetConfiguration()
		return f.Error() == nil && slices.ContainsFunc(f.Configuration().Servers, func(s raft.Server) bool { return s.ID == id })
	}
	who.met = r.met
	who.whereIs = r.whereIs
	close(who.ready)
}

// electSelf makes the only member of a cluster lead at once. Raft would wait for
// one to two heartbeat timeouts for a leader that cannot exist; the message by
// which a leader hands over to a chosen follower skips that. If it does not
// arrive, the timeout elects all the same.
func (r *Registry) electSelf(addr raft.ServerAddress) {
	members, err := r.Members()
	if err != nil || len(members) != 1 || members[0].ID != string(r.id) {
		return
	}
	req := &raft.TimeoutNowRequest{RPCHeader: raft.RPCHeader{
		ProtocolVersion: r.conf.ProtocolVersion, ID: []byte(r.id), Addr: []byte(addr),
	}}
	if err := r.guard.TimeoutNow(r.id, addr, req, new(raft.TimeoutNowResponse)); err != nil {
		r.log.Debug().Err(err).Msg("registry waits for the election timeout")
	}
	if t, ok := r.guard.innerTransport.(*raft.NetworkTransport); ok {
		t.CloseStreams() // half a megabyte of buffers that nobody needs again
	}
}

// State returns what this member has applied; on one that does not lead, it may
// lag behind.
func (r *Registry) State() *State { return r.fsm.state.Load() }

// Leader returns the master that leads, if one is known. It is meant for
// redirects: by the time it is used, another may lead.
func (r *Registry) Leader() (*mesos.MasterInfo, bool) {
	_, id := r.raft.LeaderWithID()
	s := r.State()
	if id == "" || s.MasterServerID() != string(id) {
		return nil, false // none, or one that has not introduced itself yet
	}
	if id == r.id && r.leadership() == nil {
		return nil, false // this one, but not ready, or the last leader's word is meant
	}
	return s.Master(), true
}

// Done returns a channel that is closed when the registry was closed or failed
// for good; Err says why. A master must stop then.
func (r *Registry) Done() <-chan struct{} { return r.ctx.Done() }

// Err returns why the registry is done: ErrClosed, ErrStoreTimeout, or that this
// build cannot follow the log. It is nil before.
func (r *Registry) Err() error { return context.Cause(r.ctx) }

// fail gives the registry up.
func (r *Registry) fail(err error) { r.cancel(err) }

// Snapshot takes a snapshot now.
func (r *Registry) Snapshot() error {
	err := r.raft.Snapshot().Error()
	if err != nil && !errors.Is(err, raft.ErrNothingNewToSnapshot) {
		return fmt.Errorf("snapshot registry: %w", err)
	}
	return nil
}

// Close ends the leadership, if any, and this member; a leader hands over first,
// if it can do so quickly. It may be called again.
func (r *Registry) Close() error {
	r.once.Do(func() {
		if r.Err() == nil {
			ctx, cancel := context.WithTimeout(context.Background(), 2*r.opts.HeartbeatTimeout)
			if err := r.resign(ctx, ErrClosed); err != nil {
				r.log.Debug().Err(err).Msg("the others will elect a leader by themselves")
			}
			cancel()
		}
		r.cancel(ErrClosed)
		down := r.raft.Shutdown()
		err := r.closeTransport() // raft waits for calls under way, some of them to members that are gone
		err = errors.Join(err, down.Error(), r.guard.Close())
		r.wg.Wait()
		r.closed = errors.Join(err, r.stores.close())
	})
	return r.closed
}

// Apply proposes commands under the leadership of the moment; see
// [Leadership.Apply]. Whoever acts on what it has read should use that one.
func (r *Registry) Apply(ctx context.Context, cmds ...*clusterdv1.Command) error {
	l := r.leadership()
	if l == nil {
		return ErrNotLeader
	}
	return l.Apply(ctx, cmds...)
}
