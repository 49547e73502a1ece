package sim

import (
	"slices"
	"testing"
	"time"
)

// alone is a world in which nothing goes wrong and only one member of the log runs.
func alone(seed, term uint64) (*World, *member) {
	w := newWorld(NewConfig(seed))
	w.peace = true
	m := w.members[0]
	m.disk.term = term
	m.start()
	return w, m
}

// TestWritesEndWithTheirProcess: of what a process was writing when it ended nothing comes
// onto the disk once the next one has read it. It once did, and overwrote what that one
// had acknowledged: an entry that was committed was lost.
func TestWritesEndWithTheirProcess(t *testing.T) {
	seen := map[int]bool{}
	for seed := uint64(1); seed <= 20; seed++ {
		w, m := alone(seed, 1)
		m.host.slow = 5 * time.Second
		for range 4 {
			m.append(nil)
		}
		w.run(6 * time.Second) // the first is written, the second under way
		m.stop()
		m.start()
		found := slices.Clone(m.disk.log)
		seen[len(found)] = true
		w.run(time.Minute)
		if !slices.Equal(m.disk.log, found) || !slices.Equal(m.log, found) {
			t.Errorf("seed %d: the process found %d entries on its disk; later there are %d, and it believes in %d",
				seed, len(found), len(m.disk.log), len(m.log))
		}
		if w.violation != nil {
			t.Error(w.violation)
		}
	}
	if len(seen) != 2 || !seen[1] || !seen[2] {
		t.Errorf("entries on the disk after the crash: %v, want 1 or 2, each now and then", seen)
	}
}

// TestVoterRefusesOlderLeader: who is about to vote acknowledges nothing of the term
// before any more, however slow its disk is: the candidate may lack it.
func TestVoterRefusesOlderLeader(t *testing.T) {
	w, m := alone(1, 1)
	w.run(3 * time.Second) // no leader has its promise any more
	old, candidate := w.members[1], w.members[2]
	m.host.slow = time.Second
	m.asked(candidate, false, 2, 0, 0, 1)
	answered := false
	m.appendEntries(old, 1, 0, 0, []*entry{{term: 1, id: 1}}, 0, func(newer uint64, ok bool, _ int) {
		answered = true
		if ok || newer != 2 {
			t.Errorf("answered %v, term %d; want a refusal, term 2", ok, newer)
		}
	})
	w.run(5 * time.Second)
	if !answered {
		t.Error("the old leader has no answer")
	}
	if m.disk.term != 2 || m.disk.vote != candidate.id {
		t.Errorf("on the disk: term %d, vote for %d; want 2, %d", m.disk.term, m.disk.vote, candidate.id)
	}
}

// TestVoteIsWrittenBeforeItIsGiven: a crash at any time leaves a vote that was given on
// the disk.
func TestVoteIsWrittenBeforeItIsGiven(t *testing.T) {
	given := 0
	for seed := uint64(1); seed <= 40; seed++ {
		w, m := alone(seed, 1)
		w.run(3 * time.Second)
		candidate := w.members[2]
		// It has nothing else in mind than the answer.
		candidate.up, candidate.leader = true, candidate.id
		candidate.seeking, candidate.round = true, 7
		m.host.slow = time.Second
		m.asked(candidate, false, 2, 0, 0, 7)
		w.clock.After(w.between(0, 3*time.Second), m.stop)
		w.run(4 * time.Second)
		given += candidate.votes
		if candidate.votes > 0 && (m.disk.term != 2 || m.disk.vote != candidate.id) {
			t.Errorf("seed %d: a vote was given; on the disk are term %d and a vote for %d", seed, m.disk.term, m.disk.vote)
		}
	}
	if given == 0 || given == 40 {
		t.Errorf("%d votes of 40 were given before the crash; want some and not all", given)
	}
}
