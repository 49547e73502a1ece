package gossip

import (
	"bytes"
	"cmp"
	"slices"
	"sync"
	"time"
)

const (
	// rememberDead is how long a dead master is remembered.
	rememberDead = 72 * time.Hour
	// maxDead and maxPeers bound what strangers can make this node remember.
	maxDead, maxPeers, maxRefused = 128, 100_000, 10_000
	// refuseFor is how long after the last refusal nothing is sent to a stranger.
	refuseFor = 10 * time.Minute

	// News of a master is passed on at once, that of agents gathers.
	masterNews, agentNews = 5 * time.Millisecond, 200 * time.Millisecond
)

// Seen is a node and whether it lives.
type Seen struct {
	Node
	// Addr is where it gossips.
	Addr string
	// Alive says whether it answers.
	Alive bool
	// Since is when it was first seen alive, or found dead.
	Since time.Time
}

// Stats are the figures of a node's gossip.
type Stats struct {
	// Masters and Agents are alive, this node included.
	Masters, Agents int
	// DeadMasters are remembered.
	DeadMasters int
	// Refused are those of other clusters or protocols met lately.
	Refused int
	// Duplicates are names that more than one live node bears.
	Duplicates int
	// Health is zero when this node keeps up; memberlist's score.
	Health int
}

// peer is a process of another node.
type peer struct {
	decoded
	process string
	addr    string
	alive   bool // as memberlist finds
	since   time.Time
	// gone: it has the name of a younger process and does not answer. usurper: it
	// has the name of an older one that does.
	gone, usurper bool
}

// refusal is a process that this node has nothing to do with.
type refusal struct {
	cluster string // empty: for another reason
	at      time.Time
}

// table is what is known of all nodes.
type table struct {
	process  string // of this node; constant, as are the next three
	addr     string
	versions versions
	since    time.Time

	mu sync.Mutex
	// mu guards what follows. No method of memberlist may be called under it.
	self    Node
	spoken  []byte             // what memberlist last told of this node
	peers   map[string]*peer   // by process
	names   map[string][]*peer // the same by name
	masters map[string]bool    // the names of masters, dead ones too
	refused map[string]refusal
	current *view  // nil: to be made anew
	leaders []Node // the live masters, the leader first; nil: to be made anew
	changed chan struct{}
	news    *time.Timer // nil: nothing to tell
	newsAt  time.Time
	stopped bool
}

// view is the table as others see it.
type view struct {
	nodes []Node
	seen  []Seen
	stats Stats
}

func (t *table) init(o *Options, process string) {
	t.process, t.self, t.versions, t.since = process, o.Self, o.versions, time.Now()
	t.peers, t.names = make(map[string]*peer), make(map[string][]*peer)
	t.masters, t.refused = make(map[string]bool), make(map[string]refusal)
	t.changed = make(chan struct{})
}

// Self returns what this node says of itself.
func (t *table) Self() Node {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.self
}

// Nodes returns all live nodes of the cluster, this one included, by name.
func (t *table) Nodes() []Node { return slices.Clone(t.viewNow().nodes) }

// All returns all live nodes, this one included, and dead masters for three days,
// by name.
func (t *table) All() []Seen { return slices.Clone(t.viewNow().seen) }

// Masters returns the live masters, this one included, the leader first.
func (t *table) Masters() []Node { return slices.Clone(t.mastersNow()) }

// Leader returns the live master that leads, as far as is known: of several that
// say so the one with the youngest leadership.
func (t *table) Leader() (Node, bool) {
	masters := t.mastersNow()
	if len(masters) == 0 || masters[0].Epoch == 0 {
		return Node{}, false
	}
	return masters[0], true
}

// mastersNow does not depend on the number of agents.
func (t *table) mastersNow() []Node {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.leaders != nil {
		return t.leaders
	}
	t.leaders = []Node{}
	if t.self.Role == Master {
		t.leaders = append(t.leaders, t.self)
	}
	for name := range t.masters {
		if p := t.bestLocked(name); p != nil && p.Role == Master && p.lives() {
			t.leaders = append(t.leaders, p.Node)
		}
	}
	slices.SortFunc(t.leaders, func(a, b Node) int {
		return cmp.Or(cmp.Compare(b.Epoch, a.Epoch), cmp.Compare(a.Name, b.Name))
	})
	return t.leaders
}

// Changed returns a channel that is closed at the next change of what the other
// methods return. Ask for it before them, so that nothing is missed.
func (t *table) Changed() <-chan struct{} {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.changed
}

func (t *table) viewNow() *view {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.current == nil {
		t.current = t.makeViewLocked()
	}
	return t.current
}

// bestLocked chooses the process that stands for a name: the youngest that lives
// and may bear it, else the one that died last. It is nil if none may.
func (t *table) bestLocked(name string) *peer {
	if name == t.self.Name {
		return nil
	}
	var best *peer
	for _, p := range t.names[name] {
		if !t.foreignLocked(p) && (!p.alive || !p.usurper) && (best == nil || p.before(best)) {
			best = p
		}
	}
	return best
}

func (t *table) makeViewLocked() *view {
	v := &view{stats: Stats{Refused: len(t.refused)}}
	all := []*peer{{decoded: decoded{Node: t.self}, addr: t.addr, since: t.since, alive: true}}
	for name, processes := range t.names {
		if p := t.bestLocked(name); p != nil {
			all = append(all, p)
		}
		if slices.ContainsFunc(processes, func(p *peer) bool { return p.alive && p.usurper }) {
			v.stats.Duplicates++
		}
	}
	slices.SortFunc(all, func(a, b *peer) int { return cmp.Compare(a.Name, b.Name) })
	v.nodes, v.seen = make([]Node, 0, len(all)), make([]Seen, 0, len(all))
	for _, p := range all {
		v.seen = append(v.seen, Seen{Node: p.Node, Addr: p.addr, Alive: p.lives(), Since: p.since})
		if !p.lives() {
			v.stats.DeadMasters++
			continue
		}
		v.nodes = append(v.nodes, p.Node)
		switch p.Role {
		case Master:
			v.stats.Masters++
		case Agent:
			v.stats.Agents++
		}
	}
	return v
}

func (p *peer) lives() bool { return p.alive && !p.gone }

// before says whether p rather than q stands for their name.
func (p *peer) before(q *peer) bool {
	if p.lives() != q.lives() {
		return p.lives()
	}
	if p.started != q.started {
		return p.started > q.started
	}
	return p.process > q.process
}

func (t *table) foreignLocked(p *peer) bool {
	if _, refused := t.refused[p.process]; refused {
		return true
	}
	return t.otherClusterLocked(p.ClusterID)
}

func (t *table) otherClusterLocked(id string) bool {
	return id != "" && t.self.ClusterID != "" && id != t.self.ClusterID
}

// tellLocked lets those know who wait for a change.
func (t *table) tellLocked(role Role) {
	t.current = nil
	if role != Agent {
		t.leaders = nil
	}
	if t.stopped {
		return
	}
	wait := agentNews
	if role != Agent {
		wait = masterNews
	}
	at := time.Now().Add(wait)
	switch {
	case t.news == nil:
		t.news, t.newsAt = time.AfterFunc(wait, t.tell), at
	case at.Before(t.newsAt) && t.news.Reset(wait): // else it tells just now
		t.newsAt = at
	}
}

func (t *table) tell() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.news = nil
	if !t.stopped {
		close(t.changed)
		t.changed = make(chan struct{})
	}
}

func (t *table) stop() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.stopped = true
	if t.news != nil {
		t.news.Stop()
	}
}

// setSelf changes what this node says of itself. Who turns out to belong to
// another cluster than this node vanishes; those are returned.
func (t *table) setSelf(n Node) (strangers []*peer) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if n.ClusterID != t.self.ClusterID {
		for process, r := range t.refused {
			if r.cluster == n.ClusterID {
				delete(t.refused, process)
			}
		}
	}
	learned := n.ClusterID != t.self.ClusterID
	t.self = n
	role := n.Role
	if learned {
		role = Master // some may vanish or appear
	}
	t.tellLocked(role)
	for _, p := range t.peers {
		if learned && t.otherClusterLocked(p.ClusterID) {
			q := *p
			strangers = append(strangers, &q)
		}
	}
	return strangers
}

func (t *table) hasSpoken(meta []byte) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return bytes.Equal(t.spoken, meta)
}

// shunned says whether nothing may be sent to a process. Two clusters that have
// met by way of a node that belonged to none yet part again: neither answers the
// other, so each finds the other dead.
func (t *table) shunned(process string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, ok := t.refused[process]; ok {
		return true
	}
	p := t.peers[process]
	return p != nil && t.otherClusterLocked(p.ClusterID)
}

// hear takes in what a process says of itself, or that it lives again. It returns
// a live process that bears its name already.
func (t *table) hear(process, addr string, d *decoded) (p, other *peer) {
	t.mu.Lock()
	defer t.mu.Unlock()
	p = t.peers[process]
	if p == nil {
		p = &peer{process: process}
		t.peers[process] = p
		t.names[d.Name] = append(t.names[d.Name], p)
	}
	if !p.alive {
		p.since = time.Now()
	}
	p.decoded, p.addr, p.alive = *d, addr, true
	if d.Role == Master {
		t.masters[d.Name] = true
	}
	for _, q := range slices.Clone(t.names[p.Name]) {
		switch {
		case q == p:
		case !q.alive: // the dead make room for the living
			t.dropLocked(q)
		case q.addr == p.addr: // of two processes with one address the older is dead
			older := q
			if q.before(p) {
				older = p
			}
			older.gone = true
		default:
			other = q
		}
	}
	t.tellLocked(p.Role)
	return p, other
}

// lose takes in that a process is dead. Agents are forgotten: the master knows
// them better.
func (t *table) lose(process string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	p := t.peers[process]
	if p == nil {
		return
	}
	p.alive, p.since = false, time.Now()
	keep := p.Role == Master && !t.foreignLocked(p)
	for _, q := range t.names[p.Name] {
		if q != p && q.alive { // its successor
			keep, q.usurper = false, false
		}
	}
	if !keep {
		t.dropLocked(p)
	}
	t.tellLocked(p.Role)
}

func (t *table) dropLocked(p *peer) {
	delete(t.peers, p.process)
	rest := slices.DeleteFunc(slices.Clone(t.names[p.Name]), func(q *peer) bool { return q == p })
	if len(rest) == 0 {
		delete(t.names, p.Name)
		delete(t.masters, p.Name)
		return
	}
	t.names[p.Name] = rest
}

// contested returns the live processes of a name at different addresses, the
// oldest first, this one among them if it is its own name.
func (t *table) contested(name string) []peer {
	t.mu.Lock()
	defer t.mu.Unlock()
	var all []peer
	for _, p := range t.names[name] {
		if p.alive && !t.foreignLocked(p) {
			all = append(all, *p)
		}
	}
	slices.SortFunc(all, func(a, b peer) int {
		return cmp.Or(cmp.Compare(a.started, b.started), cmp.Compare(a.process, b.process))
	})
	return all
}

// judge takes in whether the older one of two with one name answers.
func (t *table) judge(older, younger string, answers bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	o, y := t.peers[older], t.peers[younger]
	if o == nil || y == nil || o.gone == !answers && y.usurper == answers {
		return
	}
	o.gone, y.usurper = !answers, answers
	t.tellLocked(o.Role)
}

// admit says whether a process that is heard of belongs here; if not, why not,
// and whether that is news. One that has told its cluster once does not take it
// back: what it said earlier may arrive later.
func (t *table) admit(process string, d *decoded) (cluster string, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	r, refused := t.refused[process]
	id := d.ClusterID
	if refused && id == "" {
		id = r.cluster
	}
	if t.otherClusterLocked(id) {
		t.refuseLocked(process, id)
		return id, false
	}
	if !t.versions.understands(d.versions) || t.peers[process] == nil && len(t.peers) >= maxPeers {
		t.refuseLocked(process, "")
		return "", false
	}
	if refused {
		delete(t.refused, process)
		t.tellLocked(d.Role)
	}
	return "", true
}

func (t *table) refuseLocked(process, cluster string) {
	if _, known := t.refused[process]; !known && len(t.refused) >= maxRefused {
		return
	}
	if p := t.peers[process]; p != nil {
		t.tellLocked(p.Role)
	}
	t.refused[process] = refusal{cluster: cluster, at: time.Now()}
}

// forget drops what is too old to matter.
func (t *table) forget(now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for process, r := range t.refused {
		if now.Sub(r.at) > refuseFor {
			delete(t.refused, process)
		}
	}
	var dead []*peer
	for _, p := range t.peers {
		if !p.alive {
			dead = append(dead, p)
		}
	}
	slices.SortFunc(dead, func(a, b *peer) int { return b.since.Compare(a.since) })
	for i, p := range dead {
		if i >= maxDead || now.Sub(p.since) > rememberDead {
			t.dropLocked(p)
			t.tellLocked(p.Role)
		}
	}
}

// speak takes in what memberlist tells of this node.
func (t *table) speak(meta []byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.spoken = meta
}
