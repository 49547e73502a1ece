package gossip

import (
	"errors"

	"github.com/hashicorp/memberlist"
)

// delegate answers memberlist, which calls most of it with its lock held: it must
// neither block nor call memberlist.
type delegate struct{ g *Gossip }

var errRefused = errors.New("refused")

// NodeMeta returns what this node says of itself.
func (d *delegate) NodeMeta(int) []byte {
	self := d.g.Self()
	meta, err := encodeMeta(&self, d.g.opts.versions, d.g.started)
	if err != nil { // Open and Update have checked it
		return nil
	}
	return meta
}

// NotifyMsg is not used.
func (d *delegate) NotifyMsg([]byte) {}

// GetBroadcasts is not used.
func (d *delegate) GetBroadcasts(int, int) [][]byte { return nil }

// LocalState is not used.
func (d *delegate) LocalState(bool) []byte { return nil }

// MergeRemoteState is not used.
func (d *delegate) MergeRemoteState([]byte, bool) {}

// NotifyAlive decides about each message that says that a node lives, whoever
// passed it on.
func (d *delegate) NotifyAlive(n *memberlist.Node) error {
	g := d.g
	if n.Name == g.process {
		return nil
	}
	m, err := decodeMeta(n.Name, n.Meta)
	if len(n.Addr) != 4 && len(n.Addr) != 16 {
		err = errNoNode
	}
	if err != nil {
		if e := g.notices.once("stranger " + n.Addr.String()); e != nil {
			e.Str("address", n.Address()).Str("name", n.Name).Err(err).Msg("gossip of a stranger is ignored")
		}
		return err
	}
	cluster, ok := g.admit(n.Name, m)
	if ok {
		return nil
	}
	g.tellRefused(m, n.Address(), cluster)
	return errRefused
}

// NotifyJoin is told of a process that lives from now on.
func (d *delegate) NotifyJoin(n *memberlist.Node) { d.heard(n) }

// NotifyUpdate is told that a process says something new.
func (d *delegate) NotifyUpdate(n *memberlist.Node) { d.heard(n) }

// NotifyLeave is told of a process that is dead or has left.
func (d *delegate) NotifyLeave(n *memberlist.Node) {
	if n.Name == d.g.process {
		return
	}
	d.g.lose(n.Name)
	d.g.wake()
}

func (d *delegate) heard(n *memberlist.Node) {
	g := d.g
	if n.Name == g.process {
		g.table.speak(n.Meta)
		return
	}
	m, err := decodeMeta(n.Name, n.Meta)
	if err != nil {
		return // refused by NotifyAlive
	}
	p, other := g.hear(n.Name, n.Address(), m)
	if other != nil || p.Name == g.opts.Self.Name {
		g.contest(p.Name)
	}
}

// tellRefused tells the operator of a node that this one has nothing to do with.
func (g *Gossip) tellRefused(m *decoded, addr, cluster string) {
	var key, text string
	switch {
	case cluster != "":
		key, text = "cluster "+cluster, "met a node of another cluster by gossip: the clusters stay apart"
	case !g.versions.understands(m.versions):
		key, text = "protocol "+m.versions.String(),
			"met a node that speaks another gossip protocol: it is ignored until both speak one"
	default:
		key, text = "full", "too many nodes: no more are taken in by gossip"
	}
	if e := g.notices.once(key); e != nil {
		e.Str("node", m.Name).Str("role", string(m.Role)).Str("address", addr).Str("build", m.Build).
			Str("its_cluster_id", cluster).Str("cluster_id", g.Self().ClusterID).
			Stringer("its_protocol", m.versions).Stringer("protocol", g.versions).Msg(text)
	}
}
