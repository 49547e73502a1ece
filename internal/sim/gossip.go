package sim

import "time"

// gossipMemory is how long a listener believes a master that it hears nothing of:
// about as long as it takes memberlist to hold a node for dead.
const gossipMemory = 10 * time.Second

// listener is what a host knows by gossip of who leads. It may be old or wrong.
type listener struct {
	w     *World
	host  *host
	known []heardOf // by master
	// changed is called when the belief about who leads changes.
	changed func()
	epoch   uint64
}

type heardOf struct {
	epoch, said uint64
	at          time.Time
}

func (w *World) newListener(h *host, changed func()) *listener {
	l := &listener{w: w, host: h, known: make([]heardOf, w.cfg.Masters), changed: changed}
	l.refresh()
	return l
}

// hear takes a master's word, unless a later one is known.
func (l *listener) hear(master int, epoch, said uint64) {
	if k := &l.known[master]; said > k.said {
		*k = heardOf{epoch: epoch, said: said, at: l.w.clock.Now()}
		l.look()
	}
}

// leader is the master that seems to lead, and since when; -1 if none does.
func (l *listener) leader() (master int, epoch uint64) {
	master = -1
	for i, k := range l.known {
		if k.epoch > epoch && l.w.clock.Now().Sub(k.at) < gossipMemory {
			master, epoch = i, k.epoch
		}
	}
	return master, epoch
}

func (l *listener) look() {
	_, epoch := l.leader()
	if epoch != l.epoch {
		l.epoch = epoch
		if l.changed != nil {
			l.changed()
		}
	}
}

func (l *listener) refresh() {
	l.w.clock.After(gossipMemory/2, func() {
		l.look()
		l.refresh()
	})
}

// listeners are all that hear gossip.
func (w *World) listeners() []*listener {
	var out []*listener
	for _, m := range w.machines {
		out = append(out, m.ears)
	}
	for _, f := range w.frameworks {
		out = append(out, f.ears)
	}
	return append(out, w.op.ears)
}
