package registry

import (
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/hashicorp/raft"
)

// newcomer keeps a member from voting before it knows what its vote is about.
// A member whose disk was lost and that comes back under its old id has the vote
// that it had, but not the entries that it has acknowledged: with it, members that
// have never seen those could elect one of them, and what was committed would be
// gone. Raft cannot tell it from one that never was there.
//
// So a member that starts with an empty disk helps to elect nobody but a leader of
// a cluster that is just being founded, until it has all that its leader has
// committed. Such a leader has no command in its log: for the first one it needs
// a majority that has got entries before. The stage is on the disk.
type newcomer struct {
	stable    raft.StableStore
	lastIndex func() uint64
	applied   func() uint64
	elected   func() string // id of the leader whose election was applied last
	failed    func(error)
	at        atomic.Uint64

	// What follow remembers, which one goroutine calls: the first that the leader of
	// a term said to be committed.
	term, target uint64
}

// The stages.
const (
	established = iota // it may vote
	blank              // it has never had an entry
	catchingUp         // it has a leader who has more than it
)

var errNewcomer = errors.New("this member has yet to catch up after it lost its disk, or was added")

// load reads the stage. Entries in the log of a blank member are those with which
// it founds the cluster itself: others arrive after a change of its stage.
func (n *newcomer) load() error {
	stage, err := n.stable.GetUint64(keyNewcomer)
	if err != nil && !notFound(err) {
		return fmt.Errorf("read whether this member is new: %w", err)
	}
	n.at.Store(stage)
	if stage == blank && n.lastIndex() > 0 {
		n.become(established)
	}
	return nil
}

func (n *newcomer) stage() uint64 { return n.at.Load() }

// become enters a stage. It is called for each call of a leader.
func (n *newcomer) become(stage uint64) {
	was := n.at.Load()
	if was == stage || was == established {
		return
	}
	if err := n.stable.SetUint64(keyNewcomer, stage); err != nil {
		n.failed(fmt.Errorf("write whether this member is new: %w", err))
		return
	}
	n.at.Store(stage)
}

// follow learns from entries of a leader. To a blank member the leader offers
// first what comes after its own last entry: after the first in a new cluster.
func (n *newcomer) follow(req *raft.AppendEntriesRequest) {
	switch n.at.Load() {
	case blank:
		if n.lastIndex() > 0 || req.PrevLogEntry <= 1 {
			n.become(established) // it founds, or takes part in it
		} else {
			n.become(catchingUp)
		}
	case catchingUp:
		if req.Term != n.term {
			n.term, n.target = req.Term, 0
		}
		if n.target == 0 { // what comes later was not acknowledged by a disk that is lost
			n.target = req.LeaderCommitIndex
		}
		if n.target > 0 && n.applied() >= n.target && n.elected() == string(req.ID) {
			n.become(established)
		}
	}
}

// abstains says whether this member must not vote for a candidate.
func (n *newcomer) abstains(req *raft.RequestVoteRequest) bool {
	said := req.Candidate //nolint:staticcheck // see withClaim
	return n.at.Load() != established && string(said) != noCommands
}

// noCommands is what a candidate without a command in its log says of itself.
const noCommands = "no commands"

// withClaim returns the request with what abstains asks for.
func withClaim(args *raft.RequestVoteRequest, commands bool) *raft.RequestVoteRequest {
	req := *args
	claim := []byte(noCommands)
	if commands {
		claim = nil
	}
	req.Candidate = claim //nolint:staticcheck // raft uses it no more: room for what the request does not say
	return &req
}
