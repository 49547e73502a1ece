package gossip

import (
	"bytes"
	"errors"
	"strings"
	"testing"
)

const (
	clusterX = "6f9619ff-8b86-d011-b42d-00c04fc964ff"
	clusterY = "0e37df36-f698-11e6-8dd4-cb9ced3df976"
)

// TestClustersStayApart lets two clusters meet by a join between them.
func TestClustersStayApart(t *testing.T) {
	t.Parallel()
	x1 := open(t, Options{Self: Node{Name: "x1", ClusterID: clusterX, Epoch: 1}})
	x2 := open(t, Options{Self: Node{Name: "x2", ClusterID: clusterX}, Join: []string{x1.Addr()}})
	y1 := open(t, Options{Self: Node{Name: "y1", ClusterID: clusterY, Epoch: 7}})
	y2 := open(t, Options{Self: Node{Name: "y2", ClusterID: clusterY}, Join: []string{y1.Addr()}})
	eventually(t, "x", sees(x2, "x1", "x2"))
	eventually(t, "y", sees(y2, "y1", "y2"))

	x3 := open(t, Options{Self: Node{Name: "x3", ClusterID: clusterX}, Join: []string{x2.Addr(), y1.Addr()}})
	const text = "met a node of another cluster"
	for _, n := range []node{x3, y1} { // both sides
		eventually(t, "the meeting is told", func() bool { return len(n.log.lines(text)) > 0 })
		line := n.log.lines(text)[0]
		for _, want := range []string{clusterX, clusterY, `"address":"127.0.0.1:`} {
			if !strings.Contains(line, want) {
				t.Errorf("%s is not in %s", want, line)
			}
		}
	}
	eventually(t, "x3 finds its own", sees(x3, "x1", "x2", "x3"))
	eventually(t, "x finds x3", sees(x1, "x1", "x2", "x3"))
	for range 3 { // however often they meet
		x3.try(target{addr: y1.advertise})
		y2.try(target{addr: x1.advertise})
	}
	for _, n := range []node{x1, x2, x3} {
		if got := strings.Join(names(n.Nodes()), " "); got != "x1 x2 x3" {
			t.Errorf("%s sees %s", n.Self().Name, got)
		}
		if l, _ := n.Leader(); l.Name != "x1" {
			t.Errorf("%s follows %q", n.Self().Name, l.Name)
		}
	}
	for _, n := range []node{y1, y2} {
		if got := strings.Join(names(n.Nodes()), " "); got != "y1 y2" {
			t.Errorf("%s sees %s", n.Self().Name, got)
		}
	}
	if n := len(x3.log.lines(text)); n != 1 {
		t.Errorf("it was told %d times", n)
	}
}

// TestLearnCluster has a node without a cluster meet two, then learn which is its
// own; those who met by way of it part.
func TestLearnCluster(t *testing.T) {
	t.Parallel()
	x := open(t, Options{Self: Node{Name: "x", ClusterID: clusterX, Epoch: 3}})
	y := open(t, Options{Self: Node{Name: "y", ClusterID: clusterY, Epoch: 9}})
	a := open(t, Options{Self: Node{Name: "a", Role: Agent}, Join: []string{x.Addr(), y.Addr()}})
	eventually(t, "a meets both", sees(a, "a", "x", "y"))
	eventually(t, "y meets a", sees(y, "a", "y"))
	if l, _ := a.Leader(); l.Name != "y" {
		t.Errorf("a follows %q, not the youngest leadership", l.Name)
	}
	if err := a.Update(func(n *Node) { n.ClusterID = clusterX }); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(names(a.Nodes()), " "); got != "a x" {
		t.Errorf("a sees %s", got)
	}
	if l, _ := a.Leader(); l.Name != "x" {
		t.Errorf("a follows %q", l.Name)
	}
	eventually(t, "y sees a no more", sees(y, "y"))
	eventually(t, "x sees a", func() bool { n, ok := x.find("a"); return ok && n.ClusterID == clusterX })
	for _, n := range []node{a, y} {
		eventually(t, "it is told", func() bool { return len(n.log.lines("met a node of another cluster")) == 1 })
	}
	eventually(t, "memberlist has parted too", func() bool { return a.list.NumMembers() == 2 && y.list.NumMembers() == 1 })
}

func key(b byte, n int) []byte { return bytes.Repeat([]byte{b}, n) }

// TestKeyMismatch has nodes meet that do not have the same key. Both tell.
func TestKeyMismatch(t *testing.T) {
	t.Parallel()
	const differs, none, has = "--gossip_key differs", "it has no --gossip_key", "it has a --gossip_key, this node has none"
	for _, c := range []struct {
		name            string
		old, joins      []byte
		oldTells, tells string
	}{
		{"other key", key(1, 32), key(2, 32), differs, differs},
		{"other length", key(1, 32), key(1, 16), differs, differs},
		{"only the newcomer", nil, key(1, 24), has, none},
		{"only the old one", key(1, 24), nil, none, has},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			old := open(t, Options{Self: Node{Name: "old"}, Key: c.old})
			joins := open(t, Options{Self: Node{Name: "new"}, Key: c.joins, Join: []string{old.Addr()}})
			eventually(t, "the newcomer tells", func() bool { return len(joins.log.lines(c.tells)) > 0 })
			eventually(t, "the old one tells", func() bool { return len(old.log.lines(c.oldTells)) > 0 })
			for range 20 { // a flood of it is told once
				joins.try(target{old.advertise, old.Addr()})
			}
			for _, n := range []node{old, joins} {
				if len(n.Nodes()) != 1 {
					t.Errorf("%s sees %v", n.Self().Name, names(n.Nodes()))
				}
				if lines := n.log.lines(`"warn"`); len(lines) > 2 {
					t.Errorf("%s logged %d lines:\n%s", n.Self().Name, len(lines), strings.Join(lines, "\n"))
				}
			}
		})
	}
}

// TestChangeKeys changes the key of a running cluster.
func TestChangeKeys(t *testing.T) {
	t.Parallel()
	before, after := key(1, 32), key(2, 16)
	all := []node{open(t, Options{Self: Node{Name: "m0"}, Keys: [][]byte{before}})}
	for _, name := range []string{"m1", "m2"} {
		all = append(all, open(t, Options{Self: Node{Name: name}, Key: before, Join: []string{all[0].Addr()}}))
	}
	epoch := uint64(0)
	together := func(what string) {
		t.Helper()
		for _, n := range all {
			eventually(t, what, func() bool { return len(n.Nodes()) == len(all) })
		}
		epoch++
		if err := all[0].Update(func(n *Node) { n.Epoch = epoch }); err != nil {
			t.Fatal(err)
		}
		for _, n := range all {
			eventually(t, what, func() bool { l, ok := n.Leader(); return ok && l.Epoch == epoch })
		}
	}
	together("with the old key")
	for _, keys := range [][][]byte{{before, after}, {after, before}, {after}} {
		for _, n := range all {
			if err := n.SetKeys(keys); err != nil {
				t.Fatal(err)
			}
			together("on the way")
		}
	}
	all = append(all, open(t, Options{Self: Node{Name: "m3"}, Key: after, Join: []string{all[2].Addr()}}))
	together("with the new key")
	if got := all[1].keyring.GetKeys(); len(got) != 1 || !bytes.Equal(got[0], after) {
		t.Errorf("keys are %x", got)
	}
	old := open(t, Options{Self: Node{Name: "old"}, Key: before, Join: []string{all[0].Addr()}})
	eventually(t, "the old key opens nothing", func() bool { return len(old.log.lines("--gossip_key differs")) > 0 })

	plain := open(t, Options{Self: Node{Name: "plain"}})
	if err := plain.SetKeys([][]byte{after}); err == nil {
		t.Error("encryption was switched on")
	}
	if err := all[0].SetKeys([][]byte{key(1, 31)}); err == nil || !strings.Contains(err.Error(), "31 bytes") {
		t.Errorf("a key of 31 bytes: %v", err)
	}
}

// TestOtherProtocol has nodes meet whose builds speak different protocols.
func TestOtherProtocol(t *testing.T) {
	t.Parallel()
	now := open(t, Options{Self: Node{Name: "now", Build: "2.0"}, versions: versions{2, 3}})
	for _, c := range []struct {
		name string
		v    versions
		ok   bool
	}{
		{"older", versions{1, 1}, false},
		{"newer", versions{4, 9}, false},
		{"overlaps-below", versions{1, 2}, true},
		{"overlaps-above", versions{3, 7}, true},
	} {
		other := open(t, Options{Self: Node{Name: c.name, Build: "x.y"}, versions: c.v, Join: []string{now.Addr()}})
		if c.ok {
			eventually(t, c.name, func() bool { _, a := now.find(c.name); _, b := other.find("now"); return a && b })
			continue
		}
		const text = "speaks another gossip protocol"
		for _, n := range []node{now, other} {
			eventually(t, c.name+" is told", func() bool {
				for _, line := range n.log.lines(text) {
					if strings.Contains(line, c.v.String()) && strings.Contains(line, "2 to 3") {
						return true
					}
				}
				return false
			})
		}
		if _, ok := now.find(c.name); ok {
			t.Errorf("%s was taken in", c.name)
		}
		if len(other.Nodes()) != 1 {
			t.Errorf("%s has taken in %v", c.name, names(other.Nodes()))
		}
	}
}

// TestDuplicateName has two live nodes with one name, and both tell.
func TestDuplicateName(t *testing.T) {
	t.Parallel()
	a := open(t, Options{Self: Node{Name: "a"}})
	b := open(t, Options{Self: Node{Name: "b", HTTP: "127.0.0.1:1"}, Join: []string{a.Addr()}})
	eventually(t, "a sees b", sees(a, "a", "b"))
	b.started -= 1000 // so that it is the older one by the clock, too
	if err := b.Update(func(n *Node) { n.Epoch = 4 }); err != nil {
		t.Fatal(err)
	}
	imposter := open(t, Options{Self: Node{Name: "b", HTTP: "127.0.0.1:2"}, Join: []string{a.Addr()}})
	const own = "another live node has the name of this one"
	for _, n := range []node{b, imposter} {
		eventually(t, "both tell", func() bool { return len(n.log.lines(own)) > 0 })
	}
	if line := imposter.log.lines(own)[0]; !strings.Contains(line, b.Addr()) || !strings.Contains(line, imposter.Addr()) {
		t.Errorf("it does not tell who: %s", line)
	}
	eventually(t, "a tells", func() bool { return len(a.log.lines("have one name")) == 1 })
	eventually(t, "the older counts", func() bool { n, ok := a.find("b"); return ok && n.HTTP == "127.0.0.1:1" && n.Epoch == 4 })
	if s := a.Stats(); s.Duplicates != 1 || s.Masters != 2 {
		t.Errorf("stats are %+v", s)
	}

	// The older one goes: the other is no imposter any more.
	if err := b.Leave(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.Close()
	eventually(t, "the younger counts", func() bool { n, ok := a.find("b"); return ok && n.HTTP == "127.0.0.1:2" })
}

func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	ok := Node{Name: "n", Role: Master, HTTP: "127.0.0.1:5050"}
	long := ok
	long.HTTP = strings.Repeat("h", 500) + ":5050"
	for _, c := range []struct {
		name string
		o    Options
		want string
	}{
		{"no name", Options{Self: Node{Role: Master}}, "name"},
		{"no role", Options{Self: Node{Name: "n"}}, "role"},
		{"too long", Options{Self: long}, "does not fit"},
		{"short key", Options{Self: ok, Key: key(1, 5)}, "gossip key 1 has 5 bytes"},
		{"bad join", Options{Self: ok, Join: []string{"h:port"}}, `join address "h:port"`},
		{"empty join", Options{Self: ok, Join: []string{""}}, "join address is empty"},
		{"bad bind", Options{Self: ok, Bind: "127.0.0.1"}, `gossip address "127.0.0.1"`},
		{"no port to bind", Options{Self: ok, Bind: "127.0.0.1:http-alt"}, "not a number"},
		{"not our address", Options{Self: ok, Bind: "192.0.2.1:0"}, "gossip address"},
		{"cannot be dialled", Options{Self: Node{Name: "n", Role: Master, HTTP: "0.0.0.0:5050"}, Bind: "0.0.0.0:0"}, "set the address to advertise"},
		{"bad advertise", Options{Self: ok, Advertise: "0.0.0.0:1"}, "set the address to advertise"},
	} {
		t.Run(c.name, func(t *testing.T) {
			g, err := Open(t.Context(), c.o)
			if err == nil {
				g.Close()
				t.Fatal("it was opened")
			}
			if !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
	first := open(t, Options{Self: ok})
	if g, err := Open(t.Context(), Options{Self: ok, Bind: first.Addr()}); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("a port that is taken: %v, %v", g, err)
	}
	if err := first.Update(func(n *Node) { n.Zone = strings.Repeat("z", 500) }); !errors.Is(err, ErrTooLong) {
		t.Errorf("an update that is too long: %v", err)
	}
	if first.Self().Zone != "" {
		t.Error("it took effect")
	}
}

func TestAdvertise(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ bind, advertise, http, want string }{
		{"127.0.0.1:0", "", "10.0.0.1:5050", "127.0.0.1:"},
		{"0.0.0.0:0", "", "127.0.0.9:5050", "127.0.0.9:"},
		{"0.0.0.0:0", "", "localhost:5050", ""},
		{"127.0.0.1:0", "10.9.8.7:0", "", "10.9.8.7:"},
		{"127.0.0.1:0", "10.9.8.7:99", "", "10.9.8.7:99"},
	} {
		g := open(t, Options{Self: Node{Name: "n", HTTP: c.http}, Bind: c.bind, Advertise: c.advertise})
		if !strings.HasPrefix(g.Addr(), c.want) || strings.HasSuffix(g.Addr(), ":0") {
			t.Errorf("%+v advertises %s", c, g.Addr())
		}
	}
}
