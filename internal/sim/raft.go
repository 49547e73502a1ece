package sim

import (
	"errors"
	"time"

	clusterdv1 "clusterd/api/clusterd/v1"
	"clusterd/internal/sim/clock"
	"clusterd/registry/state"
)

// The model of the replicated log: Raft as hashicorp/raft does it, with pre-vote,
// leader stickiness and a leader's lease, but with a fixed membership, without
// snapshots, and with messages that are lost when the way is cut. What a member has
// written it keeps through any crash; of what it was just writing all or nothing, and
// of what was to be written after that nothing.
//
// As in hashicorp/raft a member goes by what is in its memory, and nobody hears of it
// before it is on the disk. There a member does nothing else while it writes; here it
// goes on, with its memory ahead of its disk.

const (
	// raftHeartbeat is how long a member hears nothing before it looks for another
	// leader, raftLease how long a leader goes on without a majority.
	raftHeartbeat = time.Second
	raftLease     = raftHeartbeat / 2
	// storeTimeout is --registry_store_timeout.
	storeTimeout = 20 * time.Second
)

var (
	errNotLeader      = errors.New("this master does not lead")
	errLeadershipLost = errors.New("leadership lost while committing")
)

// entry is one entry of the log; cmds is nil for the one with which a term begins.
type entry struct {
	term uint64
	id   uint64 // tells entries apart
	cmds []*clusterdv1.Command
}

// raftDisk is what a member has on its disk.
type raftDisk struct {
	term uint64
	vote int // -1: nobody
	log  []*entry
}

// member is one process's part in the log.
type member struct {
	w    *World
	host *host
	id   int // index among masters
	disk *raftDisk
	gen  int // grows with each start, so that what is left of an earlier one is void
	up   bool

	leads  bool // in raft's eyes
	leader int  // -1: unknown
	// heard is when a leader was last heard, or the member started: for a while after
	// it helps nobody to lead (registry/guard.go). patience is when it last saw that
	// somebody leads, or will.
	heard     time.Time
	patience  time.Time
	committed int // entries
	applied   int
	// log as the member believes it; the disk has it a little later.
	log      []*entry
	durable  int // of log, on its own disk
	diskFree time.Time
	writes   []func() // that are not on the disk yet, the first is under way
	// term and voted as the member believes them, which the disk has a little later.
	term  uint64
	voted int
	// cuts counts how often entries of log gave way to others: what was written of it
	// before says nothing about it after.
	cuts int

	// Of a candidate.
	votes   int
	round   uint64 // of elections; answers to older ones are void
	pre     bool
	seeking bool
	// Of a leader.
	next, match []int
	sent, acked []time.Time // when what was last answered had been sent
	flying      []bool
	first       int // index of the entry that began the term
	proposed    map[uint64]func(err error, results []error)
	ticker      *clock.Event
	electing    *clock.Event

	onLead func() // all that was committed is applied
	onLost func()
}

// history is what all members agree on: entries that were committed, and the states
// that follow from them.
type history struct {
	entries []*entry
	states  []*state.State // states[i] after i entries
	results [][]error
	nextID  uint64
}

func (m *member) now() time.Time { return m.w.clock.Now() }

// start begins with what is on the disk.
func (m *member) start() {
	m.gen++
	m.up = true
	m.leads, m.leader, m.seeking = false, -1, false
	m.log = append([]*entry(nil), m.disk.log...)
	m.durable = len(m.log)
	m.term, m.voted = m.disk.term, m.disk.vote
	m.committed, m.applied = 0, 0
	m.proposed = map[uint64]func(error, []error){}
	m.diskFree = m.now()
	m.heard, m.patience = m.now(), m.now()
	m.armElection()
}

// stop ends the process's part. What it was just writing is there afterwards or not, and
// that is settled before it can start again: as long as a write of its is under way a
// process has not ended, and holds the lock on its files.
func (m *member) stop() {
	if len(m.writes) > 0 && m.w.crashWrites() {
		m.writes[0]()
	}
	m.writes = nil
	m.gen++
	m.up, m.leads = false, false
	m.w.clock.Cancel(m.ticker)
	m.w.clock.Cancel(m.electing)
}

// later runs f unless the process ends before.
func (m *member) later(d time.Duration, f func()) *clock.Event {
	gen := m.gen
	return m.w.clock.After(d, func() {
		if m.gen == gen {
			f()
		}
	})
}

// store changes the disk, after all that was to be changed before, and then does next.
// A crash meanwhile leaves all of the change under way or none (see stop).
func (m *member) store(change, next func()) {
	begin := m.now()
	if m.diskFree.After(begin) {
		begin = m.diskFree
	}
	m.diskFree = begin.Add(m.host.write())
	m.writes = append(m.writes, change)
	gen := m.gen
	m.w.crashWriting(m.diskFree.Sub(m.now()), func() {
		if m.gen == gen {
			m.w.masters[m.id].crash("killed while it writes")
		}
	}, func() {
		// Who leads is away longest: the others must do without its disk.
		for _, o := range m.w.masters {
			if o.raft.leads {
				o.unplug(m.w.between(5*time.Second, 40*time.Second))
			} else {
				o.unplug(m.w.between(100*time.Millisecond, 2*time.Second))
			}
		}
	})
	m.w.clock.At(m.diskFree, func() {
		if m.gen != gen {
			return
		}
		m.writes = m.writes[1:]
		change()
		next()
	})
}

// enter begins a term, in which the member has given its vote to one or to none, -1, and
// ends what it did in the one before. next follows when it is written.
func (m *member) enter(term uint64, voted int, next func()) {
	m.stepDown()
	m.term, m.voted = term, voted
	m.store(func() { m.disk.term, m.disk.vote = term, voted }, next)
}

func (m *member) armElection() {
	m.w.clock.Cancel(m.electing)
	m.electing = m.later(m.w.between(raftHeartbeat, 2*raftHeartbeat), func() {
		if m.leads {
			return
		}
		if m.now().Sub(m.patience) >= raftHeartbeat {
			m.leader = -1
			if m.free() {
				m.campaign(true)
			}
		}
		m.armElection()
	})
}

// free says that the member may help another to lead: every leader that it has
// answered knows by now that it must not count on that any more.
func (m *member) free() bool {
	return m.now().Sub(m.heard) >= raftHeartbeat || m.w.cfg.Break == BreakVotesEarly || len(m.log) == 0
}

func (m *member) others(f func(i int, o *member)) {
	for i, o := range m.w.members {
		if i != m.id {
			f(i, o)
		}
	}
}

func (m *member) quorum() int { return len(m.w.members)/2 + 1 }

func lastTerm(log []*entry) uint64 {
	if len(log) == 0 {
		return 0
	}
	return log[len(log)-1].term
}

// campaign asks for votes: first whether there would be any, which disturbs nobody.
func (m *member) campaign(pre bool) {
	m.round++
	round, term := m.round, m.term+1
	ask := func() {
		if m.round != round || !m.seeking {
			return
		}
		m.vote(round)
		n, last := m.durable, lastTerm(m.log[:m.durable])
		m.others(func(_ int, o *member) {
			m.w.net.message(m.host, o.host, func() { o.asked(m, pre, term, n, last, round) })
		})
	}
	if !pre {
		m.enter(term, m.id, ask)
	}
	m.seeking, m.pre, m.votes = true, pre, 0
	if pre {
		ask()
	}
}

// asked answers a candidate.
func (m *member) asked(from *member, pre bool, term uint64, n int, last, round uint64) {
	if !m.up {
		return
	}
	if m.leader >= 0 && m.leader != from.id || !m.free() {
		return // it knows a leader, or has known one just now
	}
	mine := lastTerm(m.log)
	fresh := last > mine || last == mine && n >= len(m.log)
	answer := func() {
		gen := from.gen
		m.w.net.message(m.host, from.host, func() {
			if from.gen == gen {
				from.vote(round)
			}
		})
	}
	switch {
	case term < m.term:
		m.tell(from)
		return
	case pre:
		if fresh {
			answer()
		}
		return
	}
	if term > m.term {
		m.enter(term, -1, func() {})
	}
	if !fresh || m.voted >= 0 && m.voted != from.id {
		return
	}
	m.voted = from.id
	m.store(func() { m.disk.vote = from.id }, func() {
		if m.term == term {
			m.patience = m.now()
			answer()
		}
	})
}

// tell lets a member know of a newer term.
func (m *member) tell(to *member) {
	term, gen := m.term, to.gen
	m.w.net.message(m.host, to.host, func() {
		if to.gen == gen && term > to.term {
			to.enter(term, -1, func() {})
		}
	})
}

func (m *member) vote(round uint64) {
	if !m.up || !m.seeking || round != m.round {
		return
	}
	if m.votes++; m.votes < m.quorum() {
		return
	}
	m.seeking = false
	if m.pre {
		m.campaign(false)
		return
	}
	m.lead()
}

// lead begins a term.
func (m *member) lead() {
	n := len(m.w.members)
	m.leads, m.leader = true, m.id
	m.next, m.match = make([]int, n), make([]int, n)
	m.sent, m.acked, m.flying = make([]time.Time, n), make([]time.Time, n), make([]bool, n)
	for i := range n {
		m.next[i] = len(m.log)
		m.acked[i] = m.now()
	}
	m.w.say("m%d wins the election for term %d", m.id, m.term)
	m.first = len(m.log)
	m.append(nil)
	m.tick()
}

// stepDown ends a term or a candidacy.
func (m *member) stepDown() {
	m.seeking = false
	if !m.leads {
		return
	}
	m.leads, m.leader = false, -1
	m.w.clock.Cancel(m.ticker)
	m.patience = m.now()
	m.armElection()
	waiting := m.proposed
	m.proposed = map[uint64]func(error, []error){}
	m.w.say("m%d steps down", m.id)
	m.onLost()
	for _, id := range sortedIDs(waiting) {
		waiting[id](errLeadershipLost, nil)
	}
}

// tick sends heartbeats and looks whether a majority answers.
func (m *member) tick() {
	if !m.leads {
		return
	}
	fresh := 1
	m.others(func(i int, _ *member) {
		if m.now().Sub(m.acked[i]) < raftLease {
			fresh++
		}
	})
	if fresh < m.quorum() {
		m.stepDown()
		return
	}
	m.others(func(i int, o *member) { m.replicate(i, o) })
	m.ticker = m.later(m.w.between(raftHeartbeat/10, raftHeartbeat/5), m.tick)
}

// append writes an entry to the leader's own log and sends it out.
func (m *member) append(cmds []*clusterdv1.Command) *entry {
	m.w.past.nextID++
	e := &entry{term: m.term, id: m.w.past.nextID, cmds: cmds}
	m.log = append(m.log, e)
	term := m.term
	m.write(m.log, func() {
		if m.leads && m.term == term {
			m.match[m.id] = m.durable
			m.advance()
			m.others(func(i int, o *member) { m.replicate(i, o) })
		}
	})
	return e
}

// write brings the log onto the disk as it is now, and then does next, unless another
// leader has put something else there meanwhile.
func (m *member) write(log []*entry, next func()) {
	if m.w.cfg.Break == BreakLogSync {
		m.durable = len(log)
		m.later(2*time.Second, func() { m.disk.log = log }) // whenever the kernel likes
		m.later(0, next)
		return
	}
	cuts := m.cuts
	m.store(func() { m.disk.log = log }, func() {
		if m.cuts == cuts {
			m.durable = max(m.durable, len(log))
			next()
		}
	})
}

// replicate sends what a follower lacks, or a heartbeat.
func (m *member) replicate(i int, o *member) {
	if m.flying[i] && m.now().Sub(m.sent[i]) < 200*time.Millisecond && m.next[i] < m.durable {
		return // on its way
	}
	from := m.next[i]
	var prev uint64
	if from > 0 {
		prev = m.log[from-1].term
	}
	entries := append([]*entry(nil), m.log[from:m.durable]...)
	term, commit, at := m.term, m.committed, m.now()
	m.sent[i], m.flying[i] = at, true
	gen := m.gen
	reply := func(newer uint64, ok bool, match int) {
		m.w.net.message(o.host, m.host, func() {
			if m.gen == gen && m.leads && m.term == term {
				m.answered(i, o, newer, ok, match, at)
			}
		})
	}
	m.w.net.message(m.host, o.host, func() { o.appendEntries(m, term, from, prev, entries, commit, reply) })
}

func (m *member) answered(i int, o *member, newer uint64, ok bool, match int, at time.Time) {
	m.flying[i] = false
	if newer > m.term {
		m.enter(newer, -1, func() {})
		return
	}
	// The lease counts from when the follower was asked, not from its answer.
	if at.After(m.acked[i]) {
		m.acked[i] = at
	}
	if !ok {
		m.next[i] = max(0, min(m.next[i]-1, match))
		m.replicate(i, o)
		return
	}
	m.match[i] = max(m.match[i], match)
	m.next[i] = max(m.next[i], m.match[i])
	m.advance()
	if m.next[i] < m.durable {
		m.replicate(i, o)
	}
}

// appendEntries takes what a leader sends. Heartbeats are answered at once, entries
// when they are on the disk.
func (m *member) appendEntries(from *member, term uint64, at int, prev uint64, entries []*entry, commit int, reply func(uint64, bool, int)) {
	switch {
	case !m.up:
		return
	case term < m.term:
		reply(m.term, false, 0)
		return
	case term > m.term:
		m.enter(term, -1, func() {})
	case m.seeking:
		m.stepDown()
	}
	m.hear(from)
	if term > m.disk.term {
		return // a later heartbeat finds the term written
	}
	if at > len(m.log) || at > 0 && m.log[at-1].term != prev {
		reply(0, false, min(at, len(m.log)))
		return
	}
	changed := false
	for i, e := range entries {
		if at+i < len(m.log) && m.log[at+i] == e {
			continue
		}
		if at+i < len(m.log) {
			m.cuts++
		}
		m.log = append(m.log[:at+i:at+i], entries[i:]...)
		m.durable = min(m.durable, at+i)
		changed = true
		break
	}
	match := at + len(entries)
	done := func() {
		if m.term == term {
			reply(0, true, match)
			m.learn(min(commit, match))
		}
	}
	if !changed {
		if m.durable >= match {
			done()
		}
		return
	}
	m.write(m.log, done)
}

func (m *member) hear(leader *member) {
	m.leader, m.heard, m.patience = leader.id, m.now(), m.now()
}

// advance commits what a majority has, of the leader's own term.
func (m *member) advance() {
	for n := m.durable; n > m.committed; n-- {
		if m.log[n-1].term != m.term {
			return
		}
		have := 0
		for _, k := range m.match {
			if k >= n {
				have++
			}
		}
		if have >= m.quorum() {
			m.learn(n)
			return
		}
	}
}

// learn applies what is committed.
func (m *member) learn(commit int) {
	m.committed = max(m.committed, commit)
	gen := m.gen
	for m.applied < m.committed && m.gen == gen {
		e := m.log[m.applied]
		m.applied++
		results := m.w.commit(m.applied, e)
		if done := m.proposed[e.id]; done != nil {
			delete(m.proposed, e.id)
			done(nil, results)
		}
		if m.gen == gen && m.leads && m.applied == m.first+1 {
			m.onLead()
		}
	}
}

// propose writes commands; done gets the outcome, unless the process ends first.
func (m *member) propose(cmds []*clusterdv1.Command, done func(error, []error)) {
	if !m.leads {
		done(errNotLeader, nil)
		return
	}
	e := m.append(cmds)
	m.proposed[e.id] = done
}

// state is what the member has applied.
func (m *member) state() *state.State { return m.w.past.states[m.applied] }

// commit notes that an entry is committed at a place of the log, and applies it
// once for all members. No member may find another entry there.
func (w *World) commit(n int, e *entry) []error {
	p := &w.past
	if n <= len(p.entries) {
		if p.entries[n-1] != e {
			w.fail(LogAgrees, "entry %d is committed twice: of terms %d and %d", n, p.entries[n-1].term, e.term)
		}
		return p.results[n-1]
	}
	w.checkWritten(n, e)
	before := p.states[n-1]
	after, results := before, []error(nil)
	if e.cmds != nil {
		data, err := state.EncodeEntry(w.clock.Now(), "sim", e.cmds)
		if err == nil {
			var decoded *clusterdv1.Entry
			if decoded, err = state.DecodeEntry(data); err == nil {
				after, results, err = before.Apply(decoded)
			}
		}
		if err != nil {
			w.fail(RegistryTakes, "entry %d cannot be applied: %v", n, err)
			after = before
		}
	}
	p.entries = append(p.entries, e)
	p.states = append(p.states, after)
	p.results = append(p.results, results)
	w.checkCommit(after, e, results)
	return results
}

// checkWritten wants what is committed on the disks of a majority, so that a fault of the
// model shows before it has lost anything.
func (w *World) checkWritten(n int, e *entry) {
	if w.cfg.Break == BreakLogSync {
		return // what it leads to is to be noticed, not this
	}
	have := 0
	for _, m := range w.members {
		if len(m.disk.log) >= n && m.disk.log[n-1] == e {
			have++
		}
	}
	if have < len(w.members)/2+1 {
		w.fail(LogAgrees, "entry %d of term %d is committed, and on %d disks of %d only", n, e.term, have, len(w.members))
	}
}
