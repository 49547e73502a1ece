package gossip

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"
)

// faultyTransport is a node's transport on a network that loses packets, or that
// is parted.
type faultyTransport struct {
	*transport
	loss  float64                               // of packets
	parts *atomic.Pointer[func(to string) bool] // nil or false: goes through
}

var errParted = errors.New("the network is parted")

func (f *faultyTransport) lost(to string) bool {
	cut := f.parts.Load()
	return cut != nil && (*cut)(to) || rand.Float64() < f.loss
}

func (f *faultyTransport) WriteTo(b []byte, addr string) (time.Time, error) {
	return f.WriteToAddress(b, memberlist.Address{Addr: addr})
}

func (f *faultyTransport) WriteToAddress(b []byte, a memberlist.Address) (time.Time, error) {
	if f.lost(a.Addr) {
		return time.Now(), nil
	}
	return f.transport.WriteToAddress(b, a)
}

func (f *faultyTransport) DialTimeout(addr string, d time.Duration) (net.Conn, error) {
	return f.DialAddressTimeout(memberlist.Address{Addr: addr}, d)
}

func (f *faultyTransport) DialAddressTimeout(a memberlist.Address, d time.Duration) (net.Conn, error) {
	if cut := f.parts.Load(); cut != nil && (*cut)(a.Addr) {
		return nil, errParted
	}
	return f.transport.DialAddressTimeout(a, d)
}

// faulty makes a node's network lose packets; what the pointer says is cut off.
func faulty(o Options, loss float64) (Options, *atomic.Pointer[func(string) bool]) {
	parts := new(atomic.Pointer[func(string) bool])
	o.tune = func(c *memberlist.Config) {
		t, ok := c.Transport.(*transport)
		if !ok {
			panic(fmt.Sprintf("transport is %T", c.Transport))
		}
		c.Transport = &faultyTransport{transport: t, loss: loss, parts: parts}
	}
	return o, parts
}

func alive(n node, name string) func() bool {
	return func() bool { _, ok := n.find(name); return ok }
}

// TestDeath kills masters and agents; one that leaves is gone at once.
func TestDeath(t *testing.T) {
	t.Parallel()
	m := make([]node, 5)
	for i := range m {
		o := Options{Self: Node{Name: fmt.Sprintf("m%d", i), Epoch: uint64(i)}}
		if i > 0 {
			o.Join = []string{m[0].Addr()}
		}
		if i == 3 {
			o.Self.Role = Agent
		}
		m[i] = open(t, o)
	}
	for _, n := range m {
		eventually(t, "all", func() bool { return len(n.Nodes()) == len(m) })
	}
	changed := m[1].Changed()
	start := time.Now()
	m[4].Close() // the leader; as good as kill -9: it says nothing
	m[3].Close()
	for _, n := range m[:3] {
		eventually(t, "the death is noticed", sees(n, "m0", "m1", "m2"))
	}
	t.Logf("two dead nodes of %d known to all after %s", len(m), time.Since(start).Round(time.Millisecond))
	select {
	case <-changed:
	case <-time.After(time.Minute):
		t.Error("no change was told")
	}
	for _, n := range m[:3] {
		if l, _ := n.Leader(); l.Name != "m2" {
			t.Errorf("%s follows %q", n.Self().Name, l.Name)
		}
		var dead []string
		for _, s := range n.All() {
			if !s.Alive {
				dead = append(dead, s.Name)
				if s.Since.Before(start) || s.Addr == "" {
					t.Errorf("%+v", s)
				}
			}
		}
		if !slices.Equal(dead, []string{"m4"}) { // agents are not remembered
			t.Errorf("%s remembers %v", n.Self().Name, dead)
		}
	}

	start = time.Now()
	if err := m[2].Leave(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := m[2].Update(func(*Node) {}); !errors.Is(err, ErrClosed) {
		t.Errorf("update after leaving: %v", err)
	}
	for _, n := range m[:2] {
		eventually(t, "the leave is known", sees(n, "m0", "m1"))
	}
	t.Logf("one that left known to all after %s", time.Since(start).Round(time.Millisecond))
	for range 2 {
		if err := m[2].Close(); err != nil {
			t.Error(err)
		}
	}
	if err := m[2].Leave(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestRestart lets a killed master come back, at its address and at another one,
// before the others have noticed: it counts at once, and what its former process
// said (that it leads) does not.
func TestRestart(t *testing.T) {
	t.Parallel()
	a := open(t, Options{Self: Node{Name: "a"}})
	bind := address(t)
	b := open(t, Options{Self: Node{Name: "b", Epoch: 1}, Bind: bind, Join: []string{a.Addr()}})
	eventually(t, "a sees b", sees(a, "a", "b"))
	for i, bind := range []string{bind, bind, "127.0.0.1:0", "127.0.0.1:0"} {
		time.Sleep(2 * time.Millisecond) // a process does not start in the millisecond of the one before
		b.Close()
		start := time.Now()
		b = open(t, Options{Self: Node{Name: "b", HTTP: fmt.Sprintf("127.0.0.1:%d", i+1)}, Bind: bind, Join: []string{a.Addr()}})
		eventually(t, "a sees it at its new place", func() bool {
			n, ok := a.find("b")
			return ok && n.HTTP == fmt.Sprintf("127.0.0.1:%d", i+1) && n.Epoch == 0
		})
		t.Logf("restart %d at %s: known after %s", i, bind, time.Since(start).Round(time.Millisecond))
		eventually(t, "b sees a", sees(b, "a", "b"))
	}
	for _, n := range []node{a, b} {
		if lines := n.log.lines("have one name"); len(lines) > 0 {
			t.Errorf("taken for a duplicate: %s", lines)
		}
	}
}

// TestAllMastersRestart restarts all masters at once at their addresses; agents
// that know them and each other find them again, though they join an address that
// is long gone.
func TestAllMastersRestart(t *testing.T) {
	t.Parallel()
	gone := open(t, Options{Self: Node{Name: "gone"}})
	var masters, agents []node
	for i := range 3 {
		masters = append(masters, open(t, Options{Self: Node{Name: fmt.Sprintf("m%d", i)}, Bind: address(t), Join: []string{gone.Addr()}}))
	}
	for i := range 4 {
		agents = append(agents, open(t, Options{Self: Node{Name: fmt.Sprintf("a%d", i), Role: Agent}, Join: []string{gone.Addr()}}))
	}
	for _, n := range slices.Concat(masters, agents) {
		eventually(t, "all", func() bool { return len(n.Nodes()) == 8 })
	}
	gone.Close()
	addrs := make([]string, len(masters))
	for i, m := range masters {
		addrs[i] = m.Addr()
		m.Close()
	}
	for _, n := range agents {
		eventually(t, "no masters", func() bool { return len(n.Masters()) == 0 })
	}
	start := time.Now()
	for i := range masters {
		masters[i] = open(t, Options{Self: Node{Name: fmt.Sprintf("m%d", i), Epoch: 5}, Bind: addrs[i], Join: addrs})
	}
	for _, n := range slices.Concat(masters, agents) {
		eventually(t, "all again", func() bool { return len(n.Nodes()) == 7 })
	}
	t.Logf("all found each other after %s", time.Since(start).Round(time.Millisecond))
}

// TestPartition parts a cluster for longer than memberlist remembers the dead,
// and heals it.
func TestPartition(t *testing.T) {
	t.Parallel()
	var all []node
	var cuts []*atomic.Pointer[func(string) bool]
	for i := range 5 {
		o := Options{Self: Node{Name: fmt.Sprintf("n%d", i)}}
		if i > 0 {
			o.Join = []string{all[0].Addr()}
		}
		if i == 2 || i == 4 {
			o.Self.Role = Agent
		}
		o, cut := faulty(o, 0)
		tune := o.tune
		o.tune = func(c *memberlist.Config) {
			tune(c)
			c.GossipToTheDeadTime = time.Second // so that only joining anew can heal it
		}
		all, cuts = append(all, open(t, o)), append(cuts, cut)
	}
	for _, n := range all {
		eventually(t, "all", func() bool { return len(n.Nodes()) == len(all) })
	}
	part := func(i int) bool { return i >= 3 } // n3 and n4 are parted from the rest
	for i := range all {
		var others []string
		for j := range all {
			if part(i) != part(j) {
				others = append(others, all[j].Addr())
			}
		}
		cut := func(to string) bool { return slices.Contains(others, to) }
		cuts[i].Store(&cut)
	}
	for i, n := range all {
		want := 3
		if part(i) {
			want = 2
		}
		eventually(t, "parted", func() bool { return len(n.Nodes()) == want && n.list.NumMembers() == want })
	}
	start := time.Now()
	for _, cut := range cuts {
		cut.Store(nil)
	}
	for _, n := range all {
		eventually(t, "healed", func() bool { return len(n.Nodes()) == len(all) })
	}
	t.Logf("healed after %s", time.Since(start).Round(time.Millisecond))
}

// TestLossyNetwork loses every fifth packet: nobody is found dead, and all learn
// all.
func TestLossyNetwork(t *testing.T) {
	t.Parallel()
	var all []node
	for i := range 8 {
		o := Options{Self: Node{Name: fmt.Sprintf("n%d", i)}}
		if i > 0 {
			o.Join = []string{all[0].Addr()}
		}
		o, _ = faulty(o, 0.2)
		all = append(all, open(t, o))
	}
	for epoch := range uint64(3) {
		if err := all[epoch].Update(func(n *Node) { n.Epoch = epoch + 1 }); err != nil {
			t.Fatal(err)
		}
		for _, n := range all {
			eventually(t, "all know", func() bool {
				l, ok := n.Leader()
				return ok && l.Epoch == epoch+1 && len(n.Nodes()) == len(all)
			})
		}
	}
	for _, n := range all {
		for _, s := range n.All() {
			if !s.Alive {
				t.Errorf("%s takes %s for dead", n.Self().Name, s.Name)
			}
		}
	}
}

// TestUnreachable joins an address where nobody is, later somebody.
func TestUnreachable(t *testing.T) {
	t.Parallel()
	probe := open(t, Options{Self: Node{Name: "probe"}})
	addr := probe.Addr()
	probe.Close()
	n := open(t, Options{Self: Node{Name: "n"}, Join: []string{addr, "no-such-host.invalid"}})
	eventually(t, "it is told", func() bool {
		return len(n.log.lines("cannot reach a node by gossip")) == 1 && len(n.log.lines("cannot resolve the name")) == 1
	})
	for range 5 {
		n.tryAll(t.Context())
	}
	if got := n.log.lines(`"warn"`); len(got) != 2 {
		t.Errorf("it was told again and again: %q", got)
	}
	late := open(t, Options{Self: Node{Name: "late"}, Bind: addr})
	eventually(t, "found", alive(late, "n"))
	eventually(t, "found", alive(n, "late"))
	n.tryAll(t.Context())
	if len(n.log.lines("reached the node by gossip")) != 1 {
		t.Error("that it is reached at last is not told")
	}
	eventually(t, "it is told", func() bool { return len(n.log.lines("found other masters")) == 1 })
}
