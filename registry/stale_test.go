package registry

import (
	"errors"
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

// A leader that was deposed may go on with its heartbeats: raft's loop for one member can
// outlive the leadership. They must not keep others from electing.
func TestStaleHeartbeatsBindNobody(t *testing.T) {
	t.Parallel() // it waits more than it works
	const timeout = time.Second
	c := newCluster(t, 3, func(o *Options) { o.HeartbeatTimeout = timeout })
	l := c.leader()
	term, old := l.term, string(l.r.id)
	var others []*Registry
	for _, name := range c.names {
		if name != old {
			others = append(others, c.get(name))
		}
	}
	for _, r := range others {
		poll(t, func() bool { return r.State().Epoch() == l.Epoch() })
	}
	c.crash(old)
	poll(t, func() bool {
		for i, r := range others {
			from := others[1-i]
			req := &raft.AppendEntriesRequest{
				RPCHeader: raft.RPCHeader{ProtocolVersion: 3, ID: []byte(old), Addr: []byte(from.Self().Addr)}, Term: term - 1,
			}
			var resp raft.AppendEntriesResponse
			if err := from.guard.innerTransport.AppendEntries(r.id, raft.ServerAddress(r.Self().Addr), req, &resp); err != nil {
				t.Fatal(err)
			}
			if resp.Success {
				t.Fatal("a heartbeat of a term that is over was accepted")
			}
		}
		return others[0].leadership() != nil || others[1].leadership() != nil
	})
}

// Raft's pipeline of entries can wait for itself for ever (see openTransport).
func TestNoPipeline(t *testing.T) {
	r := openT(t, single(t.TempDir()))
	if _, err := r.guard.AppendEntriesPipeline(r.id, raft.ServerAddress(r.Self().Addr)); !errors.Is(err, raft.ErrPipelineReplicationNotSupported) {
		t.Errorf("got %v, want %v", err, raft.ErrPipelineReplicationNotSupported)
	}
}
