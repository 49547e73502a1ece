package sim

import (
	"time"

	agentcore "clusterd/agent/core"
)

// misfortune makes one thing go wrong, for a while, and comes again.
func (w *World) misfortune() {
	if w.peace {
		return
	}
	w.clock.After(w.between(300*time.Millisecond, 25*time.Second), w.misfortune)
	faults := []struct {
		name   string
		weight int
		do     func()
	}{
		{"master killed", 10, w.killMaster},
		{"master loses power", 4, w.unplugMaster},
		{"all masters lose power", 1, w.unplugMasters},
		{"agent killed", 12, w.killAgent},
		{"machine reboots", 5, w.reboot},
		{"scheduler killed", 8, w.killScheduler},
		{"scheduler started twice", 2, w.secondScheduler},
		{"container killed", 6, w.killContainer},
		{"connection broken", 12, w.breakConnection},
		{"host cut off", 6, w.isolate},
		{"partition", 5, w.partition},
		{"one way cut", 8, w.oneWay},
		{"slow way", 6, w.slowWay},
		{"slow disk", 6, w.slowDisk},
		{"clock set", 4, w.setClock},
		{"gossip lost", 2, w.loseGossip},
		{"leader flaps", 3, w.flap},
		{"agent leaves", 1, w.leave},
		{"agent's disk lost", 1, w.loseDisk},
		{"restart beside a cut", 4, w.restartBesideCut},
	}
	total := 0
	for _, f := range faults {
		total += f.weight
	}
	roll := w.rng.IntN(total)
	for _, f := range faults {
		if roll -= f.weight; roll < 0 {
			w.faults[f.name]++
			w.trace.mixString(f.name)
			f.do()
			return
		}
	}
}

func (w *World) anyMaster() *master {
	// More often than not the one that leads: that is where it hurts.
	if w.rng.IntN(2) == 0 {
		for _, m := range w.masters {
			if m.term != nil {
				return m
			}
		}
	}
	return w.masters[w.rng.IntN(len(w.masters))]
}

func (w *World) anyMachine() *machine { return w.machines[w.rng.IntN(len(w.machines))] }

func (w *World) anyHost() *host {
	if w.rng.IntN(2) == 0 {
		return w.anyMaster().host
	}
	return w.hosts[w.rng.IntN(len(w.hosts))]
}

func (w *World) killMaster() { w.anyMaster().crash("killed") }

// unplugMaster turns a master's host off and on again: its peers hear nothing.
func (w *World) unplugMaster() {
	m := w.anyMaster()
	m.unplug(w.between(time.Second, 40*time.Second))
}

func (m *master) unplug(d time.Duration) {
	if !m.host.on {
		return
	}
	m.host.on = false
	m.die("its host loses power", false)
	m.w.clock.After(d, func() {
		if !m.host.on {
			m.host.on = true
			m.start()
		}
	})
}

func (w *World) unplugMasters() {
	for _, m := range w.masters {
		m.unplug(w.between(time.Second, 30*time.Second))
	}
}

func (w *World) killAgent() {
	m := w.anyMachine()
	if a := m.agent; a != nil && a.up {
		w.say("a%d is killed", m.index)
		a.die(true)
	}
	w.clock.After(w.downtime(), m.start)
}

// downtime is mostly short, and sometimes longer than anybody waits.
func (w *World) downtime() time.Duration {
	if w.rng.IntN(5) == 0 {
		return w.between(30*time.Second, 2*time.Minute)
	}
	return w.between(10*time.Millisecond, 8*time.Second)
}

// reboot ends all that runs on a machine.
func (w *World) reboot() { w.anyMachine().unplug(w.downtime()) }

func (m *machine) unplug(d time.Duration) {
	if !m.host.on {
		return
	}
	m.w.say("machine a%d loses power", m.index)
	m.host.on = false
	if m.agent != nil {
		m.agent.die(false)
	}
	m.clear()
	m.w.clock.After(d, func() {
		if !m.host.on {
			m.booted++
			m.host.on = true
			m.start()
		}
	})
}

func (w *World) killScheduler() {
	f := w.frameworks[w.rng.IntN(len(w.frameworks))]
	f.die(w.rng.IntN(3) > 0)
	w.clock.After(w.downtime(), f.start)
}

// secondScheduler starts a scheduler while the old one lives: the old one's stream
// ends with an error, which here is as if it had ended by itself.
func (w *World) secondScheduler() {
	f := w.frameworks[w.rng.IntN(len(w.frameworks))]
	if !f.up {
		return
	}
	// The old stream stays open at the master; nobody reads it any more.
	f.up = false
	f.gen++
	f.stream, f.connected = nil, false
	clear(f.offers)
	f.start()
}

// leave asks an agent to end for good (SIGUSR1); the next run is a new agent.
func (w *World) leave() {
	if a := w.anyMachine().agent; a != nil && a.up && a.started {
		a.post(agentcore.Shutdown{Message: "told to leave"})
	}
}

// loseDisk replaces a machine's disk by an empty one.
func (w *World) loseDisk() {
	m := w.anyMachine()
	m.unplug(w.downtime())
	if !m.host.on {
		// The next agent may be given the old one's id, by a master that still
		// believes it to be linked.
		w.wiped[m.agentID()] = true
		m.disk = &agentDisk{}
	}
}

func (w *World) killContainer() {
	m := w.anyMachine()
	if len(m.order) == 0 {
		return
	}
	c := m.order[w.rng.IntN(len(m.order))]
	w.say("a container on a%d is killed", m.index)
	c.end(9)
}

func (w *World) breakConnection() {
	if len(w.net.conns) > 0 {
		w.net.snap(w.net.conns[w.rng.IntN(len(w.net.conns))])
	}
}

func (w *World) outage() time.Duration {
	switch w.rng.IntN(6) {
	case 0:
		return w.between(30*time.Second, 2*time.Minute)
	case 1, 2:
		return w.between(5*time.Second, 30*time.Second)
	default:
		return w.between(100*time.Millisecond, 5*time.Second)
	}
}

// isolate cuts one host off from all others.
func (w *World) isolate() {
	h := w.anyHost()
	w.say("%s is cut off", h.name)
	d := w.outage()
	for _, o := range w.hosts {
		if o != h {
			w.cutFor(h, o, d)
			w.cutFor(o, h, d)
		}
	}
}

// partition splits all hosts in two.
func (w *World) partition() {
	w.say("partition")
	d := w.outage()
	side := make([]bool, len(w.hosts))
	for i := range side {
		side[i] = w.rng.IntN(2) == 0
	}
	for i, a := range w.hosts {
		for j, b := range w.hosts {
			if side[i] != side[j] {
				w.cutFor(a, b, d)
			}
		}
	}
}

func (w *World) oneWay() {
	a, b := w.anyHost(), w.anyHost()
	if a == b {
		return
	}
	w.say("nothing passes from %s to %s", a.name, b.name)
	w.cutFor(a, b, w.outage())
}

func (w *World) cutFor(from, to *host, d time.Duration) {
	w.net.sever(from, to)
	w.clock.After(d, func() { w.net.mend(from, to) })
}

func (w *World) slowWay() {
	a, b := w.anyHost(), w.anyHost()
	d := w.between(50*time.Millisecond, 3*time.Second)
	w.net.extra[a.id][b.id] = d
	w.say("the way from %s to %s takes %s", a.name, b.name, d)
	w.clock.After(w.outage(), func() { w.net.extra[a.id][b.id] = 0 })
}

func (w *World) slowDisk() {
	h := w.anyHost()
	if w.rng.IntN(2) == 0 {
		h = w.anyMachine().host
	}
	h.slow = w.between(10*time.Millisecond, 2*time.Second)
	w.say("the disk of %s takes %s", h.name, h.slow)
	w.clock.After(w.outage(), func() { h.slow = 0 })
}

// setClock moves a host's wall clock: a little, or by hours.
func (w *World) setClock() {
	h := w.anyHost()
	d := w.between(-5*time.Second, 5*time.Second)
	if w.rng.IntN(3) == 0 {
		d = w.between(-3*time.Hour, 3*time.Hour)
	}
	h.skew += d
	w.say("the clock of %s is set by %s", h.name, d)
	w.clock.After(w.between(time.Second, time.Minute), func() { h.skew -= d })
}

func (w *World) loseGossip() {
	w.net.loss = 100 + w.rng.IntN(800)
	w.clock.After(w.outage(), func() { w.net.loss = 0 })
}

// crashWriting sometimes lets a write of the given length end in a crash: of the
// process, or of more than that.
func (w *World) crashWriting(length time.Duration, process, more func()) {
	if w.peace || w.rng.IntN(500) > 0 {
		return
	}
	what, name := process, "killed while writing"
	if w.rng.IntN(4) == 0 {
		what, name = more, "power lost while writing"
	}
	w.faults[name]++
	w.clock.After(w.between(0, length), what)
}

// restartBesideCut cuts the leader off from one follower and restarts the other,
// which then knows of no leader: its vote may come while the old one's lease runs.
func (w *World) restartBesideCut() {
	for _, m := range w.masters {
		if m.term == nil {
			continue
		}
		for i, o := range w.masters {
			switch {
			case o == m:
			case i%2 == (m.id+1)%2:
				w.cutFor(m.host, o.host, 6*time.Second)
				w.cutFor(o.host, m.host, 6*time.Second)
			default:
				w.clock.After(w.between(1200*time.Millisecond, 3*time.Second), func() {
					if o.up {
						o.crash("restarted")
						w.clock.After(w.between(10*time.Millisecond, 100*time.Millisecond), o.start)
						if w.rng.IntN(2) == 0 {
							w.cutFor(m.host, o.host, time.Second)
						}
					}
				})
			}
		}
		return
	}
}

// flap deposes whoever leads, again and again.
func (w *World) flap() {
	for i := range 2 + w.rng.IntN(4) {
		w.clock.After(time.Duration(i)*w.between(time.Second, 4*time.Second), func() {
			for _, m := range w.masters {
				if m.term != nil && !w.peace {
					for _, o := range w.masters {
						if o != m {
							w.cutFor(m.host, o.host, w.between(500*time.Millisecond, 2*time.Second))
						}
					}
					return
				}
			}
		})
	}
}

// makePeace ends all faults and has everything run.
func (w *World) makePeace() {
	w.say("peace")
	w.peace = true
	w.net.loss = 0
	for _, a := range w.hosts {
		a.slow = 0
		for _, b := range w.hosts {
			w.net.extra[a.id][b.id] = 0
			w.net.mend(a, b)
		}
	}
	for _, m := range w.masters {
		m.host.on = true
		m.start()
	}
	for _, m := range w.machines {
		if !m.host.on {
			m.booted++
			m.host.on = true
		}
		m.start()
	}
	for _, f := range w.frameworks {
		f.start()
		f.quiet = true
		f.call(suppress())
	}
	w.op.pacify(func() { w.op.reactivate(func() { w.pacified = true }) })
}
