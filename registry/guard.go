package registry

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
)

// innerTransport is what the guard needs below it.
type innerTransport interface {
	raft.Transport
	raft.WithPreVote
	raft.WithClose
}

// guard stands between raft and the network and makes the leader's lease a
// promise. Raft's own is a habit: it counts from the arrival of an answer, counts
// answers of members that follow another already, lets a follower vote between a
// heartbeat and its timer, and lets a restarted one vote at once. The promise has
// two halves, measured with the clock of each process alone:
//
//   - A leader leads until half a heartbeat timeout after it sent the heartbeats
//     that a majority has answered ([guard.leaseUntil]).
//   - A member helps nobody to lead, itself included, for a whole heartbeat
//     timeout after it got a heartbeat, or after its start if it has a past.
//
// Any majority that elects shares a member with any majority that has answered,
// so the first half ends before the second; clocks may run apart by a factor of
// two. A leader that hands over, or votes for another, ends its leadership first.
type guard struct {
	innerTransport
	timeout time.Duration // raft's heartbeat timeout
	lease   time.Duration // what of it a leader counts on
	named   bool          // the transport takes addresses of the form that at returns

	// What the guard asks and tells its registry; set before raft starts.
	term      func() uint64
	lastIndex func() uint64
	newcomer  *newcomer
	commands  *atomic.Bool // the log has, or had, a command
	endLead   func(error)  // returns once the leadership, if any, has ended

	started atomic.Bool // set once the functions above are

	out  chan raft.RPC // what raft gets to see of the incoming calls
	stop chan struct{}
	wg   sync.WaitGroup
	once sync.Once

	mu sync.Mutex
	// mu guards what follows.
	heard    time.Time                      // when a leader's call was last received
	contacts map[raft.ServerID]*peerContact // what others have answered to this one as the leader
}

// peerContact is what a member has last answered to its leader.
type peerContact struct {
	term    uint64    // of this leader
	sent    time.Time // when what was answered left here
	lastLog uint64    // the index of its last entry
}

func newGuard(inner innerTransport, timeout time.Duration) *guard {
	_, named := inner.(*raft.NetworkTransport)
	return &guard{
		innerTransport: inner, named: named, timeout: timeout, lease: timeout / 2,
		out: make(chan raft.RPC), stop: make(chan struct{}),
		contacts: make(map[raft.ServerID]*peerContact),
	}
}

// start lets calls in. A member with a past may have promised something just
// before it was restarted.
func (g *guard) start(hasPast bool) {
	if hasPast {
		g.heardNow()
	}
	g.started.Store(true)
	g.wg.Go(g.pump)
}

// Close ends the transport.
func (g *guard) Close() error {
	var err error
	g.once.Do(func() {
		err = g.innerTransport.Close()
		close(g.stop)
		g.wg.Wait()
	})
	return err
}

// Consumer returns the calls that may reach raft.
func (g *guard) Consumer() <-chan raft.RPC { return g.out }

// SetHeartbeatHandler notes each heartbeat before raft may answer it.
func (g *guard) SetHeartbeatHandler(cb func(raft.RPC)) {
	if cb == nil {
		g.innerTransport.SetHeartbeatHandler(nil)
		return
	}
	g.innerTransport.SetHeartbeatHandler(func(rpc raft.RPC) {
		if req, ok := rpc.Command.(*raft.AppendEntriesRequest); ok {
			g.heardFrom(req.Term)
		}
		cb(rpc)
	})
}

// heardFrom notes a call of who led in a term. Raft refuses one of a term that is
// over, so that nothing is promised with it; and those that lead no more may go on
// with their heartbeats for a while, which must not keep this one from electing.
func (g *guard) heardFrom(term uint64) {
	if !g.started.Load() || term >= g.term() {
		g.heardNow()
	}
}

func (g *guard) heardNow() {
	g.mu.Lock()
	g.heard = time.Now()
	g.mu.Unlock()
}

// promised says whether this member has promised somebody lately not to elect
// another.
func (g *guard) promised() (at time.Time, binding bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.heard, !g.heard.IsZero() && time.Since(g.heard) < g.timeout
}

// pump passes incoming calls on.
func (g *guard) pump() {
	in := g.innerTransport.Consumer()
	for {
		select {
		case rpc := <-in:
			if rpc = g.incoming(rpc); rpc.Command == nil {
				continue
			}
			select {
			case g.out <- rpc:
			case <-g.stop:
				rpc.Respond(nil, raft.ErrTransportShutdown)
				return
			}
		case <-g.stop:
			return
		}
	}
}

// incoming returns the call as raft is to see it, or one without a command when
// it was answered here.
func (g *guard) incoming(rpc raft.RPC) raft.RPC {
	switch req := rpc.Command.(type) {
	case *raft.AppendEntriesRequest:
		g.heardFrom(req.Term)
		g.newcomer.follow(req)
	case *raft.InstallSnapshotRequest:
		g.heardFrom(req.Term)
		g.newcomer.become(catchingUp)
	case *raft.RequestPreVoteRequest:
		if _, bound := g.promised(); bound {
			rpc.Respond(&raft.RequestPreVoteResponse{RPCHeader: header(), Term: g.term()}, nil)
			return raft.RPC{}
		}
	case *raft.RequestVoteRequest:
		return g.incomingVote(rpc, req)
	case *raft.TimeoutNowRequest:
		// An old one: its sender may have taken office again since, which has written
		// an entry. Whoever has not got that entry cannot win an election any more.
		at, err := strconv.ParseUint(string(req.Addr), 10, 64)
		if err != nil || g.lastIndex() > at {
			rpc.Respond(nil, errors.New("this handover of the leadership is out of date"))
			return raft.RPC{}
		}
	}
	return rpc
}

// incomingVote lets raft decide about a vote that this member is free to give,
// and takes it back before it is sent if a heartbeat came meanwhile. Before it
// leaves, this member leads no more.
func (g *guard) incomingVote(rpc raft.RPC, req *raft.RequestVoteRequest) raft.RPC {
	before, bound := g.promised()
	if bound && !req.LeadershipTransfer || g.newcomer.abstains(req) {
		rpc.Respond(&raft.RequestVoteResponse{RPCHeader: header(), Term: g.term()}, nil)
		return raft.RPC{}
	}
	answers := make(chan raft.RPCResponse, 1)
	decided := raft.RPC{Command: rpc.Command, Reader: rpc.Reader, RespChan: answers}
	g.wg.Go(func() {
		var a raft.RPCResponse
		select {
		case a = <-answers:
		case <-g.stop:
			a.Error = raft.ErrTransportShutdown
		}
		if resp, ok := a.Response.(*raft.RequestVoteResponse); ok && resp.Granted {
			if now, _ := g.promised(); now != before && !req.LeadershipTransfer {
				resp.Granted = false
			} else {
				g.endLead(fmt.Errorf("%w: this member has voted for another", ErrLeadershipLost))
			}
		}
		rpc.Respond(a.Response, a.Error)
	})
	return decided
}

// header is that of an answer that raft has not made.
func header() raft.RPCHeader { return raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax} }

var errPromised = errors.New("this member still follows a leader")

// RequestVote asks for a vote, unless this member has followed another too lately.
// Raft has entered the new term by now, so that no heartbeat of the old one is
// answered any more.
func (g *guard) RequestVote(id raft.ServerID, target raft.ServerAddress, args *raft.RequestVoteRequest, resp *raft.RequestVoteResponse) error {
	if _, bound := g.promised(); bound && !args.LeadershipTransfer {
		return errPromised
	}
	if g.newcomer.stage() == catchingUp {
		return errNewcomer
	}
	return g.innerTransport.RequestVote(id, g.at(id, target), withClaim(args, g.commands.Load()), resp)
}

// at puts the id of the member that is meant before its address, for
// streamLayer.Dial, which learns no more than that.
func (g *guard) at(id raft.ServerID, target raft.ServerAddress) raft.ServerAddress {
	if !g.named {
		return target
	}
	return raft.ServerAddress(string(id) + "@" + string(target))
}

// RequestPreVote asks whether a vote would be given.
func (g *guard) RequestPreVote(id raft.ServerID, target raft.ServerAddress, args *raft.RequestPreVoteRequest, resp *raft.RequestPreVoteResponse) error {
	return g.innerTransport.RequestPreVote(id, g.at(id, target), args, resp)
}

// InstallSnapshot sends a snapshot to a member that lacks what the log has no more.
func (g *guard) InstallSnapshot(id raft.ServerID, target raft.ServerAddress, args *raft.InstallSnapshotRequest, resp *raft.InstallSnapshotResponse, data io.Reader) error {
	return g.innerTransport.InstallSnapshot(id, g.at(id, target), args, resp, data)
}

// AppendEntriesPipeline opens a stream of entries; heartbeats go beside it.
func (g *guard) AppendEntriesPipeline(id raft.ServerID, target raft.ServerAddress) (raft.AppendPipeline, error) {
	return g.innerTransport.AppendEntriesPipeline(id, g.at(id, target))
}

// TimeoutNow hands the leadership over, after it has ended here.
func (g *guard) TimeoutNow(id raft.ServerID, target raft.ServerAddress, args *raft.TimeoutNowRequest, resp *raft.TimeoutNowResponse) error {
	g.endLead(handedOver(string(id)))
	// The address in it is of no use; see incoming.
	req := &raft.TimeoutNowRequest{RPCHeader: args.RPCHeader}
	req.Addr = strconv.AppendUint(nil, g.lastIndex(), 10)
	return g.innerTransport.TimeoutNow(id, g.at(id, target), req, resp)
}

// AppendEntries notes who has answered.
func (g *guard) AppendEntries(id raft.ServerID, target raft.ServerAddress, args *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	sent := time.Now()
	// Raft uses an answer's memory again, and an absent member is false.
	*resp = raft.AppendEntriesResponse{}
	err := g.innerTransport.AppendEntries(id, g.at(id, target), args, resp)
	if err == nil && resp.Term == args.Term && resp.Success {
		g.mu.Lock()
		c := g.contacts[id]
		if c == nil || c.term != args.Term {
			c = &peerContact{term: args.Term}
			g.contacts[id] = c
		}
		if sent.After(c.sent) {
			c.sent, c.lastLog = sent, resp.LastLog
		}
		g.mu.Unlock()
	}
	return err
}

// contact returns what a member has last answered in a term of this leader.
func (g *guard) contact(id raft.ServerID, term uint64) (peerContact, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	c := g.contacts[id]
	if c == nil || c.term != term {
		return peerContact{}, false
	}
	return *c, true
}

// leaseUntil returns until when this member may lead in a term: no majority has
// promised it more.
func (g *guard) leaseUntil(self raft.ServerID, term uint64, conf raft.Configuration) time.Time {
	now := time.Now()
	var sent []time.Time // by voters
	for _, s := range conf.Servers {
		if s.Suffrage != raft.Voter {
			continue
		}
		if s.ID == self {
			sent = append(sent, now)
			continue
		}
		c, _ := g.contact(s.ID, term)
		sent = append(sent, c.sent)
	}
	if len(sent) == 0 {
		return time.Time{}
	}
	slices.SortFunc(sent, func(a, b time.Time) int { return b.Compare(a) })
	return sent[len(sent)/2].Add(g.lease)
}
