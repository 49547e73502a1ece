package registry

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"clusterd/registry/state"
)

// reign is one leadership as the wall clock of the test saw it: begun is taken
// after it was handed out, ended before anything can be done about its end.
type reign struct {
	epoch        uint64
	begun, ended time.Time
}

// watchReigns notes every leadership of a member until it is closed.
func watchReigns(r *Registry, mu *sync.Mutex, reigns *[]reign) {
	for {
		l, err := r.AwaitLeadership(context.Background())
		if err != nil {
			return
		}
		begun := time.Now()
		<-l.Context().Done()
		mu.Lock()
		*reigns = append(*reigns, reign{l.Epoch(), begun, time.Now()})
		mu.Unlock()
	}
}

// TestLeadershipsDoNotOverlap cuts leaders off, in one direction or both, delays
// what they hear, hands over and restarts followers, and looks whether ever two
// members led at a time.
func TestLeadershipsDoNotOverlap(t *testing.T) {
	t.Parallel() // it waits more than it works
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 1))
	c := newCluster(t, 3, nil)
	var mu sync.Mutex
	var reigns []reign
	var wg sync.WaitGroup
	for _, r := range c.running() {
		wg.Go(func() { watchReigns(r, &mu, &reigns) })
	}
	for range 10 {
		l := c.leader()
		who := string(l.r.id)
		switch rnd.IntN(5) {
		case 0: // the leader speaks to nobody and hears nobody
			c.net.isolate(who, c.names, true)
		case 1: // its heartbeats arrive, the answers do not
			for _, o := range c.names {
				c.net.set(o, who, true)
			}
		case 2: // the other way round
			for _, o := range c.names {
				c.net.set(who, o, true)
			}
		case 3: // everything is late, then the leader is cut off
			c.net.slow(time.Duration(rnd.IntN(60)) * time.Millisecond)
			c.net.isolate(who, c.names, true)
		case 4:
			if err := l.r.TransferLeadership(t.Context(), ""); err != nil {
				t.Logf("handover: %v", err)
			}
		}
		next := c.leader(l.r)
		if next.Epoch() <= l.Epoch() {
			t.Errorf("epoch %d follows %d", next.Epoch(), l.Epoch())
		}
		c.net.slow(0)
		c.net.isolate(who, c.names, false)
	}
	c.closeAll()
	wg.Wait()
	checkReigns(t, reigns)
	t.Logf("%d leaderships", len(reigns))
	if len(reigns) < 10 {
		t.Errorf("only %d leaderships", len(reigns))
	}
}

// Answers that arrive late prolong nothing: what counts is when the question left.
func TestLateAnswersDoNotProlongTheLease(t *testing.T) {
	t.Parallel() // it waits more than it works
	const timeout, late = time.Second, 120 * time.Millisecond
	c := newCluster(t, 3, func(o *Options) { o.HeartbeatTimeout = timeout })
	l := c.leader()
	for _, o := range c.names {
		c.net.lag(o, string(l.r.id), late)
	}
	begun := time.Now()
	for time.Since(begun) < timeout {
		// Whatever was answered until now was asked before it was late, or has come late.
		until, now := l.r.leaseLeft(l), time.Now()
		if allowed := now.Add(timeout/2 - late); now.Sub(begun) > late && until.After(allowed) {
			t.Fatalf("the lease goes on %s too long", until.Sub(allowed))
		}
	}
}

func checkReigns(t *testing.T, reigns []reign) {
	t.Helper()
	slices.SortFunc(reigns, func(a, b reign) int { return int(a.epoch) - int(b.epoch) })
	for i := 1; i < len(reigns); i++ {
		if over := reigns[i-1].ended.Sub(reigns[i].begun); over > 0 {
			t.Errorf("epoch %d ended %s after epoch %d had begun", reigns[i-1].epoch, over, reigns[i].epoch)
		}
	}
}

// A follower that has just been restarted does not remember whom it has promised
// to follow; it must not help to elect another within the leader's lease.
func TestRestartedFollowerKeepsItsPromise(t *testing.T) {
	const timeout = 500 * time.Millisecond
	c := newCluster(t, 3, func(o *Options) { o.HeartbeatTimeout = timeout })
	l := c.leader()
	var others []string
	for _, name := range c.names {
		if name != string(l.r.id) {
			others = append(others, name)
		}
	}
	candidate, voter := c.get(others[0]), others[1]
	addr := c.get(voter).Self().Addr
	poll(t, func() bool { return c.get(voter).State().Epoch() == l.Epoch() })
	c.crash(string(l.r.id)) // its lease might go on for all that the others know
	c.crash(voter)
	begun := time.Now() // its promise begins later, and ends a timeout after that
	r := c.start(voter, addr)
	ask := func() bool {
		req := &raft.RequestVoteRequest{
			RPCHeader: raft.RPCHeader{ProtocolVersion: 3, ID: []byte(candidate.id), Addr: []byte(candidate.Self().Addr)},
			Term:      r.raft.CurrentTerm() + 1, LastLogIndex: 1000, LastLogTerm: 1000,
		}
		var resp raft.RequestVoteResponse
		if err := candidate.guard.innerTransport.RequestVote(r.id, raft.ServerAddress(addr), req, &resp); err != nil {
			return false // over a connection to who it was before
		}
		return resp.Granted
	}
	poll(t, func() bool {
		helped := ask() || candidate.leadership() != nil || r.leadership() != nil
		if after := time.Since(begun); helped && after < timeout {
			t.Fatalf("it voted %s after its start", after)
		}
		return helped
	})
}

func TestHandover(t *testing.T) {
	t.Parallel() // it waits more than it works
	c := newCluster(t, 3, func(o *Options) { o.HeartbeatTimeout = time.Second })
	l := c.leader()
	start := time.Now()
	if err := l.r.Resign(t.Context()); err != nil {
		t.Fatal(err)
	}
	if l.Context().Err() == nil {
		t.Error("who resigned still leads")
	}
	next := c.leader(l.r)
	t.Logf("next leader after %s", time.Since(start))
	if next.r == l.r || next.Epoch() <= l.Epoch() {
		t.Errorf("epoch %d by %s", next.Epoch(), next.r.id)
	}
	if err := next.r.TransferLeadership(t.Context(), string(l.r.id)); err != nil {
		t.Fatal(err)
	}
	again := leadT(t, l.r)
	if again.Epoch() <= next.Epoch() || next.Context().Err() == nil {
		t.Errorf("epoch %d after %d", again.Epoch(), next.Epoch())
	}
	if err := again.r.TransferLeadership(t.Context(), "nobody"); !errors.Is(err, ErrNoMember) {
		t.Errorf("to nobody: got %v", err)
	}
	if err := next.r.TransferLeadership(t.Context(), ""); !errors.Is(err, ErrNotLeader) {
		t.Errorf("by a follower: got %v", err)
	}
	if again.Context().Err() != nil {
		t.Error("handovers that were refused have ended the leadership")
	}
}

// A handover to a member that cannot take it leaves a leader.
func TestHandoverThatFails(t *testing.T) {
	c := newCluster(t, 3, nil)
	l := c.leader()
	applyT(t, l, state.AdmitAgent(agentInfo("a1")))
	other := c.names[0]
	if string(l.r.id) == other {
		other = c.names[1]
	}
	c.crash(other)
	err := l.r.TransferLeadership(t.Context(), other)
	if err == nil {
		t.Error("the leadership went to a member that does not run")
	}
	t.Logf("got %v", err)
	next := c.leader()
	if next.Epoch() <= l.Epoch() || l.Context().Err() == nil {
		t.Errorf("epoch %d after %d", next.Epoch(), l.Epoch())
	}
	applyT(t, next, state.AdmitAgent(agentInfo("a2")))
	if next.r.State().Agent("a1") == nil {
		t.Error("an agent is lost")
	}
}
