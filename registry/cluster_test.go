package registry

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"clusterd/internal/testcluster"
	"clusterd/registry/state"
)

// network is what lies between the members of a test: real TCP connections whose
// bytes can be held back, link by link and direction by direction, as a partition
// does it.
type network struct {
	mu sync.Mutex
	// mu guards what follows.
	cut     map[[2]string]bool // from, to
	delay   time.Duration      // of every read
	late    map[[2]string]time.Duration
	changed chan struct{}
	names   map[string]string // by address
}

func newNetwork() *network {
	return &network{cut: map[[2]string]bool{}, late: map[[2]string]time.Duration{}, changed: make(chan struct{}), names: map[string]string{}}
}

// set cuts or mends one direction between two members.
func (n *network) set(from, to string, cut bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.cut[[2]string{from, to}] = cut
	close(n.changed)
	n.changed = make(chan struct{})
}

// isolate cuts or mends a member from and to all others.
func (n *network) isolate(who string, others []string, cut bool) {
	for _, o := range others {
		if o != who {
			n.set(who, o, cut)
			n.set(o, who, cut)
		}
	}
}

func (n *network) slow(d time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.delay = d
}

// lag delays what one member says to another.
func (n *network) lag(from, to string, d time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.late[[2]string{from, to}] = d
}

func (n *network) named(addr, name string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.names[addr] = name
}

// pass waits until a direction is open.
func (n *network) pass(from, to string, done <-chan struct{}, deadline time.Time) error {
	var expired <-chan time.Time
	if !deadline.IsZero() {
		t := time.NewTimer(time.Until(deadline))
		defer t.Stop()
		expired = t.C
	}
	for {
		n.mu.Lock()
		cut, changed := n.cut[[2]string{from, to}], n.changed
		n.mu.Unlock()
		if !cut {
			return nil
		}
		select {
		case <-changed:
		case <-done:
			return net.ErrClosed
		case <-expired:
			return os.ErrDeadlineExceeded
		}
	}
}

// dial is Options.dial of the member called from.
func (n *network) dial(from string) func(context.Context, string) (net.Conn, error) {
	return func(ctx context.Context, addr string) (net.Conn, error) {
		n.mu.Lock()
		to := n.names[addr]
		n.mu.Unlock()
		deadline, _ := ctx.Deadline()
		if err := n.pass(from, to, ctx.Done(), deadline); err != nil {
			return nil, err
		}
		c, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
		if err != nil {
			return nil, err
		}
		return &faultyConn{Conn: c, n: n, from: from, to: to, closed: make(chan struct{})}, nil
	}
}

// faultyConn is a connection over the network. Raft's answers come back over the
// connection of the question, so that the dialer's side sees both directions.
type faultyConn struct {
	net.Conn
	n        *network
	from, to string
	closed   chan struct{}
	once     sync.Once

	mu       sync.Mutex
	deadline time.Time
}

func (c *faultyConn) SetDeadline(t time.Time) error {
	c.mu.Lock()
	c.deadline = t
	c.mu.Unlock()
	return c.Conn.SetDeadline(t)
}

func (c *faultyConn) until() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.deadline
}

func (c *faultyConn) Write(b []byte) (int, error) {
	if err := c.n.pass(c.from, c.to, c.closed, c.until()); err != nil {
		return 0, err
	}
	return c.Conn.Write(b)
}

func (c *faultyConn) Read(b []byte) (int, error) {
	k, err := c.Conn.Read(b)
	if err != nil {
		return k, err
	}
	c.n.mu.Lock()
	d := c.n.delay + c.n.late[[2]string{c.to, c.from}]
	c.n.mu.Unlock()
	if d > 0 {
		t := time.NewTimer(d)
		defer t.Stop()
		select {
		case <-t.C:
		case <-c.closed:
			return 0, net.ErrClosed
		}
	}
	if err := c.n.pass(c.to, c.from, c.closed, c.until()); err != nil {
		return 0, err
	}
	return k, nil
}

func (c *faultyConn) Close() error {
	c.once.Do(func() { close(c.closed) })
	return c.Conn.Close()
}

// cluster is some members in one process, over loopback TCP and a network that
// can fail.
type cluster struct {
	t       testing.TB
	net     *network
	names   []string
	dirs    map[string]string
	adjust  func(*Options)
	mu      sync.Mutex
	members map[string]*Registry // those that run
}

// patientHeartbeat is the heartbeat timeout of members that nobody harms: a pause of the
// machine shorter than half of it deposes no leader.
const patientHeartbeat = 600 * time.Millisecond

// newCluster founds a cluster of n members, m0 and so on.
func newCluster(t testing.TB, n int, adjust func(*Options)) *cluster {
	t.Helper()
	c := &cluster{t: t, net: newNetwork(), dirs: map[string]string{}, members: map[string]*Registry{}, adjust: adjust}
	var all []Member
	for i := range n {
		name := fmt.Sprint("m", i)
		c.names = append(c.names, name)
		c.dirs[name] = t.TempDir()
		all = append(all, c.start(name, "").Self())
	}
	if err := c.members["m0"].Bootstrap(all); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.closeAll)
	return c
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

// start starts a member at an address, or at a free one.
func (c *cluster) start(name, addr string) *Registry {
	c.t.Helper()
	if addr == "" {
		addr = address(c.t)
	}
	opts := Options{
		Dir: c.dirs[name], ServerID: name, MasterInfo: masterInfo(name), BuildVersion: "test", BindAddr: addr,
		HeartbeatTimeout: patientHeartbeat, Logger: testLogger(), dial: c.net.dial(name),
	}
	if c.adjust != nil {
		c.adjust(&opts)
	}
	r, err := Open(context.Background(), opts)
	if err != nil {
		c.t.Fatal(err)
	}
	c.net.named(r.Self().Addr, name)
	c.mu.Lock()
	c.members[name] = r
	c.mu.Unlock()
	return r
}

// admit has whoever leads admit an agent, and returns it. One that loses its leadership over
// it may have done so.
func (c *cluster) admit(id string) *Leadership {
	c.t.Helper()
	for end := time.Now().Add(time.Minute); ; {
		l := c.leader()
		if l.State().Agent(id) != nil {
			return l
		}
		err := l.Apply(context.Background(), state.AdmitAgent(agentInfo(id)))
		if err == nil {
			return l
		}
		if !errors.Is(err, ErrNotLeader) && !errors.Is(err, ErrLeadershipLost) || time.Now().After(end) {
			c.t.Fatal(err)
		}
	}
}

func (c *cluster) get(name string) *Registry {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.members[name]
}

func (c *cluster) running() []*Registry {
	c.mu.Lock()
	defer c.mu.Unlock()
	var rs []*Registry
	for _, name := range c.names {
		if r := c.members[name]; r != nil {
			rs = append(rs, r)
		}
	}
	return rs
}

// crash ends a member without a goodbye: to the others it is as if it was killed.
func (c *cluster) crash(name string) {
	c.t.Helper()
	c.mu.Lock()
	r := c.members[name]
	delete(c.members, name)
	c.mu.Unlock()
	if r == nil {
		return
	}
	r.fail(ErrClosed) // Close does not hand over then
	if err := r.Close(); err != nil {
		c.t.Errorf("close %s: %v", name, err)
	}
}

func (c *cluster) closeAll() {
	var wg sync.WaitGroup
	for _, name := range c.names {
		wg.Go(func() { c.crash(name) })
	}
	wg.Wait()
}

// leader waits until one of the members that run leads.
func (c *cluster) leader(except ...*Registry) *Leadership {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	first := make(chan *Leadership, len(c.names))
	var wg sync.WaitGroup
	for _, r := range c.running() {
		if len(except) > 0 && r == except[0] {
			continue
		}
		wg.Go(func() {
			if l, err := r.AwaitLeadership(ctx); err == nil {
				first <- l
			}
		})
	}
	defer wg.Wait()
	defer cancel()
	select {
	case l := <-first:
		return l
	case <-ctx.Done():
		c.t.Fatal("nobody leads")
		return nil
	}
}

// testLogger says what raft does when CLUSTERD_TEST_LOG is set.
func testLogger() zerolog.Logger {
	if os.Getenv("CLUSTERD_TEST_LOG") == "" {
		return zerolog.Nop()
	}
	return zerolog.New(zerolog.ConsoleWriter{Out: os.Stderr, TimeFormat: "05.000"}).With().Timestamp().Logger()
}
