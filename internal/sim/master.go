package sim

import (
	"encoding/binary"
	"fmt"
	"time"

	clusterdv1 "clusterd/api/clusterd/v1"
	mesos "clusterd/api/mesos/v1"
	opapi "clusterd/api/mesos/v1/master"
	"clusterd/api/mesos/v1/scheduler"
	"clusterd/internal/sim/clock"
	"clusterd/registry/state"
	"clusterd/server/core"
)

// master is a master's process on its host: its part in the log, and its term when
// it leads (server/server.go).
type master struct {
	w    *World
	id   int
	host *host
	raft *member
	up   bool
	gen  int
	info *mesos.MasterInfo
	term *term
	// office counts attempts to take office.
	office      int
	nextRequest uint64
	nextLink    uint64
}

func (w *World) addMaster(id int, h *host) {
	m := &master{w: w, id: id, host: h}
	m.raft = &member{w: w, host: h, id: id, disk: &raftDisk{vote: -1}}
	m.raft.onLead, m.raft.onLost = m.takeOffice, m.lost
	w.masters = append(w.masters, m)
	w.members = append(w.members, m.raft)
}

func (m *master) later(d time.Duration, f func()) *clock.Event {
	gen := m.gen
	return m.w.clock.After(d, func() {
		if m.gen == gen {
			f()
		}
	})
}

// start runs the process.
func (m *master) start() {
	if m.up || !m.host.on {
		return
	}
	m.gen++
	m.up = true
	m.info = m.newInfo()
	m.w.say("m%d starts as %s", m.id, m.info.GetId())
	m.raft.start()
}

func (m *master) newInfo() *mesos.MasterInfo {
	ip := fmt.Sprintf("10.0.0.%d", m.id+1)
	return &mesos.MasterInfo{
		Id: new(m.w.uuid()), Ip: new(uint32(m.id+1)<<24 | 10), Port: new(uint32(5050)), Hostname: new(m.host.name),
		Address: &mesos.Address{Ip: &ip, Port: new(int32(5050))},
	}
}

// crash ends the process at once; connections are reset by its kernel.
func (m *master) crash(why string) { m.die(why, true) }

func (m *master) die(why string, told bool) {
	if !m.up {
		return
	}
	m.w.say("m%d dies: %s", m.id, why)
	m.up = false
	m.gen++
	m.office++
	if t := m.term; t != nil {
		m.term = nil
		t.over = true
		m.w.clock.Cancel(t.wake)
		for _, id := range sortedKeys(t.streams) {
			t.dropStream(t.streams[id])
		}
	}
	m.raft.stop()
	m.w.net.drop(m.host, told)
	// Somebody starts it again, after a while: systemd, or a person.
	if m.host.on {
		host := m.host
		m.w.clock.After(m.w.between(200*time.Millisecond, 8*time.Second), func() {
			if host.on {
				m.start()
			}
		})
	}
}

// takeOffice is what follows an election (registry/leadership.go): who leads is
// written down, then the core starts.
func (m *master) takeOffice() {
	m.office++
	office := m.office
	m.later(0, func() {
		if m.office != office || !m.raft.leads {
			return
		}
		elect := state.ElectMaster(m.info, m.host.name, "cluster-of-"+m.host.name)
		m.raft.propose([]*clusterdv1.Command{elect}, func(err error, _ []error) {
			if err == nil && m.office == office && m.raft.leads {
				m.beginTerm()
			}
		})
	})
}

func (m *master) beginTerm() {
	s := m.raft.state()
	for _, o := range m.w.masters {
		if o.term != nil && !o.term.over {
			m.w.fail(OneLeader, "m%d begins to lead while m%d still does", m.id, o.id)
		}
	}
	m.term = newTerm(m, s)
	m.w.say("m%d leads, epoch %d, as %s", m.id, s.Epoch(), m.info.GetId())
	m.w.leaders++
	m.gossip()
}

// gossip spreads that this master leads. Nobody relies on it.
func (m *master) gossip() {
	t := m.term
	if t == nil {
		return
	}
	m.announce(t.epoch)
	m.later(m.w.between(2*time.Second, 4*time.Second), func() {
		if m.term == t {
			m.gossip()
		}
	})
}

// announce tells everybody of its leadership, or by zero that it has none.
func (m *master) announce(epoch uint64) {
	m.w.said++
	said := m.w.said
	for _, l := range m.w.listeners() {
		m.w.net.datagram(m.host, l.host, func() { l.hear(m.id, epoch, said) })
	}
}

// lost ends the leadership, the term, and what an elected leader had begun.
func (m *master) lost() {
	m.office++
	if t := m.term; t != nil {
		m.term = nil
		m.w.say("m%d leads no more", m.id)
		t.finish()
		m.announce(0)
		// Ids begin with the master's: the next term needs one of its own.
		m.info = m.newInfo()
	}
}

// redirect answers who leads, if this master knows: 307, or 503.
func (m *master) redirect() (status, leader int) {
	l := m.raft.leader
	if l < 0 || l == m.id || m.raft.state().MasterServerID() != m.w.masters[l].host.name {
		return 503, -1
	}
	return 307, l
}

// dial opens a connection to the master's port, or says that nobody listens.
func (n *network) dial(from *host, to *master, done func(client, server *end)) {
	over := false
	finish := func(c, s *end) {
		if !over {
			over = true
			done(c, s)
		}
	}
	// An address that is silent is given up for the next one soon.
	n.clock.After(700*time.Millisecond, func() { finish(nil, nil) })
	n.message(from, to.host, func() {
		up := to.up
		n.message(to.host, from, func() {
			if !up || !to.up {
				finish(nil, nil)
				return
			}
			if over {
				return
			}
			finish(n.connect(from, to.host))
		})
	})
}

// openLink is an agent's request for a link: the agent learns over the connection
// that it is open, or where to go. What follows it goes to the term that was
// leading then.
func (m *master) openLink(s *end) {
	t := m.term
	if t == nil || t.over {
		status, leader := m.redirect()
		s.send(linkAnswer{status: status, redirect: leader})
		s.close("no leader here")
		return
	}
	m.nextLink++
	id := core.LinkID(m.nextLink)
	known := false
	s.deliver = func(v any) {
		msg := v.(*clusterdv1.AgentMessage)
		if t.over {
			s.close("this master leads no more")
			return
		}
		if !known {
			known = true
			t.links[id] = s
		} else if t.links[id] == nil {
			return
		}
		m.w.trace.mix(uint64(id))
		t.feed(core.AgentMessage{Link: id, Message: clone(msg)})
	}
	s.closed = func(reason string) {
		if known && !t.over && t.links[id] != nil {
			delete(t.links, id)
			t.feed(core.LinkClosed{Link: id, Reason: reason})
		}
	}
	s.send(linkAnswer{status: 101})
}

// linkAnswer is the answer to a request for a link.
type linkAnswer struct{ status, redirect int }

// subscribe is a scheduler's SUBSCRIBE on a fresh connection (server/scheduler.go).
func (m *master) subscribe(s *end, call *scheduler.Call) {
	t := m.term
	if t == nil || t.over {
		status, leader := m.redirect()
		s.send(streamMessage{status: status, redirect: leader})
		s.close("no leader here")
		return
	}
	m.nextRequest++
	st := &masterStream{id: m.w.uuid(), conn: s, owner: m.w.owner[s]}
	delete(m.w.owner, s)
	open := core.RequestID(m.nextRequest)
	t.pending[open] = &pendingRequest{stream: st, answer: func(status int, body string) {
		s.send(streamMessage{status: status, body: body})
		s.close("answered")
	}}
	s.closed = func(string) {
		st.gone = true
		t.streamClosed(st.id)
	}
	t.feed(core.Subscribe{Request: open, StreamID: st.id, Call: clone(call)})
}

// answer is the answer to a call.
type answer struct {
	status   int
	body     string
	redirect int
}

// call is any other call of a scheduler.
func (m *master) call(c *scheduler.Call, stream string, reply func(any)) {
	m.ask(reply, func(id core.RequestID) core.Input {
		return core.Call{Request: id, StreamID: stream, Call: clone(c)}
	})
}

// operate is a call of an operator that changes something.
func (m *master) operate(c *opapi.Call, reply func(any)) {
	m.ask(reply, func(id core.RequestID) core.Input { return core.Operate{Request: id, Call: clone(c)} })
}

// cancelDrain is a call of an operator that Mesos does not have.
func (m *master) cancelDrain(agent string, reply func(any)) {
	m.ask(reply, func(id core.RequestID) core.Input { return core.CancelDrain{Request: id, AgentID: agent} })
}

func (m *master) ask(reply func(any), in func(core.RequestID) core.Input) {
	t := m.term
	if t == nil || t.over {
		status, leader := m.redirect()
		reply(answer{status: status, redirect: leader})
		return
	}
	m.nextRequest++
	id := core.RequestID(m.nextRequest)
	t.pending[id] = &pendingRequest{answer: func(status int, body string) { reply(answer{status: status, body: body}) }}
	t.feed(in(id))
}

// drop ends all connections of a host's process.
func (n *network) drop(h *host, told bool) {
	var mine []*end
	for _, c := range n.conns {
		for _, e := range c.ends {
			if e.host == h {
				mine = append(mine, e)
			}
		}
	}
	for _, e := range mine {
		e.vanish(told)
	}
}

// uuid makes the text of a random UUID.
func (w *World) uuid() string {
	var b [16]byte
	binary.LittleEndian.PutUint64(b[:8], w.rng.Uint64())
	binary.LittleEndian.PutUint64(b[8:], w.rng.Uint64())
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
