package gossip

import (
	"bytes"
	"flag"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"clusterd/internal/testcluster"
)

func TestMain(m *testing.M) {
	_ = flag.Set("test.parallel", "8") // they wait more than they compute
	goleak.VerifyTestMain(m,
		// A probe under way outlives Close by two seconds at most; it can send nothing.
		goleak.IgnoreAnyFunction("github.com/hashicorp/memberlist.(*Memberlist).probeNode"))
}

// logBook keeps what a node has logged.
type logBook struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *logBook) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

// lines returns the lines that hold the text.
func (b *logBook) lines(text string) []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	var found []string
	for line := range strings.Lines(b.buf.String()) {
		if strings.Contains(line, text) {
			found = append(found, strings.TrimSpace(line))
		}
	}
	return found
}

type node struct {
	*Gossip
	log *logBook
}

func open(t testing.TB, o Options) node {
	t.Helper()
	log := &logBook{}
	o.Logger = zerolog.New(log).Level(zerolog.InfoLevel)
	if o.Self.Role == "" {
		o.Self.Role = Master
	}
	if o.Self.HTTP == "" {
		o.Self.HTTP = "127.0.0.1:5050"
	}
	g, err := Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := g.Close(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Logf("%s at %s logged:\n%s", o.Self.Name, g.Addr(), strings.Join(log.lines(""), "\n"))
		}
	})
	return node{g, log}
}

// address is one of loopback that stays free while nobody listens.
func address(t testing.TB) string {
	t.Helper()
	ports, err := testcluster.Ports(1)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("127.0.0.1:%d", ports[0])
}

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within a minute", what)
		}
	}
}

func names(nodes []Node) []string {
	var all []string
	for i := range nodes {
		all = append(all, nodes[i].Name)
	}
	return all
}

func (n node) find(name string) (Node, bool) {
	for _, other := range n.Nodes() {
		if other.Name == name {
			return other, true
		}
	}
	return Node{}, false
}

func sees(n node, want ...string) func() bool {
	return func() bool { return slices.Equal(names(n.Nodes()), want) }
}

var manyAgents = flag.Int("agents", 20, "how many agents find each other")

func TestFindEachOther(t *testing.T) {
	t.Parallel()
	const masters = 3
	agents := *manyAgents
	first := open(t, Options{Self: Node{Name: "m0"}})
	all := []node{first}
	for i := 1; i < masters; i++ {
		all = append(all, open(t, Options{Self: Node{Name: fmt.Sprintf("m%d", i)}, Join: []string{first.Addr()}}))
	}
	for i := range agents {
		all = append(all, open(t, Options{
			Self: Node{Name: fmt.Sprintf("a%02d", i), Role: Agent, HTTP: "127.0.0.1:5051"},
			Join: []string{all[i%masters].Addr()},
		}))
	}
	for _, n := range all {
		eventually(t, n.Self().Name+" sees all", func() bool { return len(n.Nodes()) == masters+agents })
		if got := names(n.Masters()); !slices.Equal(got, []string{"m0", "m1", "m2"}) {
			t.Errorf("masters are %v", got)
		}
		if l, ok := n.Leader(); ok {
			t.Errorf("%v leads", l)
		}
		if s := n.Stats(); s.Masters != masters || s.Agents != agents {
			t.Errorf("stats are %+v", s)
		}
	}

	// Leadership goes from one to another.
	for epoch, leader := range []int{1, 2, 0} {
		start := time.Now()
		for i := range masters {
			if err := all[i].Update(func(n *Node) {
				n.Epoch = 0
				if i == leader {
					n.Epoch = uint64(epoch + 1)
				}
			}); err != nil {
				t.Fatal(err)
			}
		}
		want := fmt.Sprintf("m%d", leader)
		for _, n := range all {
			eventually(t, "all see the leader", func() bool {
				l, ok := n.Leader()
				return ok && l.Name == want && l.Epoch == uint64(epoch+1) && n.Masters()[0] == l
			})
		}
		t.Logf("%d nodes know leader %s after %s", len(all), want, time.Since(start).Round(time.Millisecond))
	}

	// The leader dies.
	start := time.Now()
	all[0].Close()
	for _, n := range all[1:] {
		eventually(t, "the death is known", func() bool { _, ok := n.Leader(); return !ok && len(n.Nodes()) == len(all)-1 })
	}
	t.Logf("%d nodes know that the leader died after %s", len(all)-1, time.Since(start).Round(time.Millisecond))
}

func TestIPv6(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp", "[::1]:0")
	if err != nil {
		t.Skipf("no IPv6: %v", err)
	}
	ln.Close()
	a := open(t, Options{Self: Node{Name: "a"}, Bind: "[::1]:0", Key: key(3, 16)})
	_, port, err := net.SplitHostPort(a.Addr())
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(port)
	if err != nil {
		t.Fatal(err)
	}
	b := open(t, Options{Self: Node{Name: "b"}, Bind: "[::]:0", Advertise: "[::1]:0", Key: key(3, 16), Join: []string{"::1"}, JoinPort: n})
	eventually(t, "a", sees(a, "a", "b"))
	eventually(t, "b", sees(b, "a", "b"))
}
