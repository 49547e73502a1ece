package agent

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"google.golang.org/protobuf/proto"

	clusterdv1 "clusterd/api/clusterd/v1"
	mesos "clusterd/api/mesos/v1"
)

// hearsay is a Finder that a test speaks through.
type hearsay struct {
	mu      sync.Mutex
	masters []string
	epoch   uint64
	changed chan struct{}
}

func newHearsay(epoch uint64, masters ...string) *hearsay {
	return &hearsay{masters: masters, epoch: epoch, changed: make(chan struct{})}
}

// say makes it known that the first of the masters leads; epoch 0: none does.
func (h *hearsay) say(epoch uint64, masters ...string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.epoch, h.masters = epoch, masters
	close(h.changed)
	h.changed = make(chan struct{})
}

func (h *hearsay) Masters() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.masters)
}

func (h *hearsay) Leader() (addr string, epoch uint64, ok bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.epoch == 0 {
		return "", 0, false
	}
	return h.masters[0], h.epoch, true
}

func (h *hearsay) Changed() <-chan struct{} {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.changed
}

// inCluster makes a master say of which cluster it is, who its peers are and
// since when it leads.
func inCluster(id string, epoch uint64, masters ...string) func(*scriptedMaster) {
	return func(m *scriptedMaster) {
		m.elsewhere = ""
		m.registered = func(r *clusterdv1.Registered) *clusterdv1.Registered {
			r.ClusterId, r.Epoch, r.Masters = &id, &epoch, masters
			return r
		}
	}
}

func leadsNot(elsewhere string) func(*scriptedMaster) {
	return func(m *scriptedMaster) { m.elsewhere = elsewhere }
}

// TestFollowsTheLeader lets the leader freeze with its link open: the agent goes
// to the one that gossip names, with its task, and sends again, in order, what
// the old one has not acknowledged.
func TestFollowsTheLeader(t *testing.T) {
	a, b := newScriptedMaster(t), newScriptedMaster(t)
	a.set(inCluster("C", 1))
	b.set(inCluster("C", 2))
	says := newHearsay(1, a.addr(), b.addr())
	h := newMachine(t, a)
	ag := h.start(func(o *Options) { o.Masters, o.Finder = nil, says })
	defer h.leave(ag)
	a.waitRegistered(1)
	a.set(func(m *scriptedMaster) { m.mute = true })
	end := filepath.Join(t.TempDir(), "end")
	a.send(runTasks(framework("M-0000"), commandTask("t", "until [ -e "+end+" ]; do sleep 0.01; done")))
	a.waitState("t", "STARTING")

	says.say(2, b.addr(), a.addr())
	reg := b.waitRegistered(1)
	if reg.GetAgentInfo().GetId().GetValue() != "M-S0" || reg.GetClusterId() != "C" || len(reg.GetTasks()) != 1 {
		t.Errorf("came to the new leader with %v, want its id, its cluster and its task", reg)
	}
	if err := os.WriteFile(end, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	b.waitState("t", "FINISHED")
	if got, want := b.states("t"), []string{"STARTING", "RUNNING", "FINISHED"}; !slices.Equal(got, want) {
		t.Errorf("the new leader was told %v, want %v", got, want)
	}
	eventually(t, "the old link is closed", func() bool { return a.lnk.Len() == 0 })
	// An older leader is no news, and neither is none.
	says.say(1, a.addr(), b.addr())
	says.say(0, a.addr(), b.addr())
	says.say(2, b.addr(), a.addr())
	b.send(runTasks(framework("M-0000"), commandTask("u", "true")))
	b.waitState("u", "FINISHED")
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.registers) != 1 {
		t.Errorf("it went back to the old leader: %d registrations", len(a.registers))
	}
}

// TestMastersReplaced replaces every master that the agent was started with, one
// by one, and then starts the agent again with their addresses.
func TestMastersReplaced(t *testing.T) {
	a, b, c := newScriptedMaster(t), newScriptedMaster(t), newScriptedMaster(t)
	a.set(leadsNot(b.addr()))
	b.set(inCluster("C", 1, b.addr(), a.addr()))
	c.set(inCluster("C", 2, c.addr()))
	h := newMachine(t, a)
	named := func(o *Options) { o.Masters = []string{a.addr(), b.addr()} }
	ag := h.start(named)
	b.waitRegistered(1) // by a's redirect

	// A vote: nobody leads for a while, then b again, and c is new.
	a.set(leadsNot("none"))
	b.set(leadsNot("none"))
	b.cut("leads no more")
	b.set(inCluster("C", 1, b.addr(), a.addr()))
	b.waitRegistered(2)
	b.send(&clusterdv1.MasterMessage{Message: &clusterdv1.MasterMessage_Masters{Masters: &clusterdv1.Masters{
		Addresses: []string{b.addr(), c.addr()},
	}}})
	eventually(t, "the agent knows of the new master", func() bool { return slices.Contains(ag.candidates(), c.addr()) })
	a.close()
	b.close()
	c.waitRegistered(1)

	h.stop(ag)
	ag = h.start(named)
	defer h.leave(ag)
	if reg := c.waitRegistered(2); reg.GetAgentInfo().GetId().GetValue() != "M-S0" || reg.GetClusterId() != "C" {
		t.Errorf("came back as %v, want the same agent", reg)
	}
}

// TestWrongCluster points an agent to a master of another cluster: both say so,
// the tasks go on, and back at its own masters all is as before.
func TestWrongCluster(t *testing.T) {
	own, other := newScriptedMaster(t), newScriptedMaster(t)
	own.set(inCluster("C", 1))
	other.set(func(m *scriptedMaster) {
		m.registered = func(*clusterdv1.Registered) *clusterdv1.Registered { return nil }
		m.refusal = &clusterdv1.Refused{Message: new("this is cluster D, the agent is of C")}
	})
	h := newMachine(t, own)
	ag := h.start()
	own.waitRegistered(1)
	end := filepath.Join(t.TempDir(), "end")
	own.send(runTasks(framework("M-0000"), commandTask("t", "until [ -e "+end+" ]; do sleep 0.01; done")))
	own.waitState("t", "RUNNING")
	h.stop(ag)

	var log lockedBuffer
	astray := func(o *Options) {
		o.Masters = []string{other.addr()}
		o.Log = zerolog.New(&log)
	}
	ag = h.start(astray)
	if reg := other.waitRegistered(2); reg.GetClusterId() != "C" || len(reg.GetTasks()) != 1 {
		t.Errorf("it said %v, want the cluster that it is of, and its task", reg)
	}
	h.stop(ag)
	if !strings.Contains(log.String(), "this is cluster D, the agent is of C") {
		t.Errorf("the log does not say why:\n%s", log.String())
	}
	// An old master of the other cluster that does not look.
	other.set(inCluster("D", 7))
	ag = h.start(astray)
	other.waitRegistered(4)
	h.stop(ag)
	if !strings.Contains(log.String(), "the master is of the cluster D, this agent of C") {
		t.Errorf("the log does not say why:\n%s", log.String())
	}

	ag = h.start()
	defer h.leave(ag)
	own.waitRegistered(2)
	if err := os.WriteFile(end, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	own.waitState("t", "FINISHED")
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// TestPartition: no pings come after the task has begun. The agent leaves the link, its tasks go on, and
// when it is let in again it reports what happened meanwhile, in order.
func TestPartition(t *testing.T) {
	m := newScriptedMaster(t)
	m.set(func(m *scriptedMaster) {
		m.registered = func(r *clusterdv1.Registered) *clusterdv1.Registered {
			r.PingTimeout = &mesos.DurationInfo{Nanoseconds: proto.Int64(int64(3 * time.Second))}
			return r
		}
		m.mute = true
	})
	h := newMachine(t, m)
	ag := h.start()
	defer h.leave(ag)
	m.waitRegistered(1)
	m.send(runTasks(framework("M-0000"), commandTask("t", "true")))
	m.waitState("t", "STARTING")
	m.set(leadsNot("none")) // it may not come back yet
	eventually(t, "the agent gives the link up", func() bool {
		v, err := ag.View(t.Context())
		return err == nil && v.Phase == "DISCONNECTED"
	})
	eventually(t, "the task has ended", func() bool {
		v, err := ag.View(t.Context())
		return err == nil && len(v.Frameworks) == 1 && len(v.Frameworks[0].Executors[0].Terminated) == 1
	})
	m.set(func(m *scriptedMaster) { m.elsewhere, m.mute, m.registered = "", false, nil })
	m.waitState("t", "FINISHED")
	if got, want := m.states("t"), []string{"STARTING", "RUNNING", "FINISHED"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// TestGone: the master says that the agent is gone. Its executors end, and the
// next run is a new agent, which keeps nothing but where the masters are.
func TestGone(t *testing.T) {
	m := newScriptedMaster(t)
	m.set(inCluster("C", 1, m.addr()))
	h := newMachine(t, m)
	ag := h.start()
	m.waitRegistered(1)
	m.send(runTasks(framework("M-0000"), commandTask("t", "sleep 1000")))
	pid := m.waitState("t", "RUNNING").GetContainerStatus().GetExecutorPid()
	m.set(func(m *scriptedMaster) {
		m.refusal = &clusterdv1.Refused{Message: new("Agent has been marked gone"), Shutdown: new(true)}
		m.registered = func(*clusterdv1.Registered) *clusterdv1.Registered { return nil }
	})
	m.cut("leads no more")
	select {
	case <-ag.Done():
	case <-time.After(patience):
		t.Fatal("the agent does not end")
	}
	h.stop(ag)
	eventually(t, "the executor is dead", func() bool {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		return err != nil || strings.Contains(string(stat), ") Z ")
	})
	m.set(inCluster("C", 1, m.addr()))
	m.set(func(m *scriptedMaster) { m.agentID = "M-S1" })
	n := len(m.registers)
	ag = h.start(func(o *Options) { o.Masters, o.Finder = nil, newHearsay(0) })
	defer h.leave(ag)
	if reg := m.waitRegistered(n + 1); reg.GetAgentInfo().GetId() != nil || reg.ClusterId != nil || len(reg.GetTasks()) != 0 {
		t.Errorf("came back as %v, want a new agent", reg)
	}
}

// TestNodeID: the name is made once, and the operator's word counts.
func TestNodeID(t *testing.T) {
	m := newScriptedMaster(t)
	h := newMachine(t, m)
	name := func(given string) string {
		a := &Agent{opts: h.options()}
		a.opts.NodeID = given
		name, err := a.nodeID()
		if err != nil {
			t.Fatal(err)
		}
		return name
	}
	first := name("")
	if !strings.HasPrefix(first, "agent-") || name("") != first {
		t.Errorf("got %q, then %q", first, name(""))
	}
	if name("n1") != "n1" || name("") != "n1" {
		t.Errorf("the operator's name is not kept: %q", name(""))
	}
}
