package netcluster

import (
	"fmt"
	"net/http"
	"syscall"
	"testing"
	"time"

	"clusterd/internal/testcluster"
)

// pass lets a fault last.
func pass(t *testing.T, d time.Duration) {
	t.Helper()
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-t.Context().Done():
	}
}

// scenario is what happens to a cluster with a workload. It returns when the cluster
// should be whole again.
type scenario struct {
	name string
	do   func(r *run) error
}

// run is a cluster on which scenarios happen one after the other.
type run struct {
	t *testing.T
	c *Cluster
	w *Workload

	watch *LeaderWatch
	away  int // agents that are cut off
}

// awaitAgents waits until all agents that are not cut off are registered.
func (r *run) awaitAgents() error { return r.c.WaitAgents(len(r.c.Agents) - r.away) }

// scenarios runs them, and after each one wants all agents back, work done, and no task
// lost, started twice or forgotten; and at no time two leaders.
func scenarios(t *testing.T, c *Cluster, work WorkloadOptions, all ...scenario) {
	t.Helper()
	watch := c.WatchLeaders(t)
	w := c.Subscribe(t, work)
	for _, s := range all {
		ok := t.Run(s.name, func(t *testing.T) {
			start := time.Now()
			if err := s.do(&run{t: t, c: c, w: w, watch: watch}); err != nil {
				t.Fatal(err)
			}
			if err := c.WaitAgents(len(c.Agents)); err != nil {
				t.Fatal(err)
			}
			if err := w.AwaitWork(2); err != nil {
				t.Fatal(err)
			}
			if err := w.Check(c); err != nil {
				t.Fatal(err)
			}
			t.Logf("%s: %s; %s", s.name, time.Since(start).Round(time.Millisecond), w)
		})
		if !ok {
			break
		}
	}
	watch.End(t)
}

// elect does something to the leader and waits until another one leads and the workload is
// subscribed there.
func (r *run) elect(disturb func(leader *Node)) (old *Node, err error) {
	if old, err = r.c.Leader(); err != nil {
		return nil, err
	}
	n := r.w.Subscriptions()
	disturb(old)
	start := time.Now()
	now, err := r.c.Leader(old)
	if err != nil {
		return old, err
	}
	took := time.Since(start)
	if err := r.w.AwaitSubscription(n); err != nil {
		return old, err
	}
	r.t.Logf("%s leads instead of %s after %s, subscribed after %s", now.Name(), old.Name(),
		took.Round(time.Millisecond), time.Since(start).Round(time.Millisecond))
	return old, nil
}

// elsewhere does something to the leader and the network until another one leads, heals the
// network, and waits until the old leader follows.
func (r *run) elsewhere(disturb func(leader *Node)) error {
	old, err := r.elect(disturb)
	r.c.Net.Heal()
	if err != nil {
		return err
	}
	return awaitFollows(old)
}

// followers are the masters that run but one.
func (r *run) followers(leader *Node) []*Node {
	var others []*Node
	for _, m := range r.c.Running() {
		if m != leader {
			others = append(others, m)
		}
	}
	return others
}

// awaitFollows waits until a master sends callers to a leader: it is back in its group.
func awaitFollows(m *Node) error {
	return testcluster.Poll(func() error {
		status, body, err := m.Get("/state")
		if err == nil && status != http.StatusTemporaryRedirect {
			err = fmt.Errorf("%s answers %d %s", m.Name(), status, body)
		}
		return err
	})
}

// leaderless waits until no master answers as the leader, and each says that there is none.
func (r *run) leaderless(nodes ...*Node) error {
	return testcluster.Poll(func() error {
		for _, m := range nodes {
			status, _, err := m.Get("/state")
			if err != nil {
				return err
			}
			if status != http.StatusServiceUnavailable {
				return fmt.Errorf("%s answers %d, want 503", m.Name(), status)
			}
		}
		return nil
	})
}

// killLeader kills the leader, and starts it again when another one leads.
func killLeader(r *run) error {
	old, err := r.elect((*Node).Kill)
	if err != nil {
		return err
	}
	return old.Start()
}

// stopLeader freezes the leader until another one leads. When it goes on, it must not
// believe that it still leads.
func stopLeader(r *run) error {
	old, err := r.elect(func(l *Node) { l.Signal(syscall.SIGSTOP) })
	if err != nil {
		return err
	}
	old.Signal(syscall.SIGCONT)
	return awaitFollows(old)
}

// cutLeader leaves the leader alone: it must stop to lead although nobody tells it.
func cutLeader(r *run) error {
	return r.elsewhere(func(l *Node) { r.c.Net.Partition(l.Host) })
}

// cutLeaderFromMasters leaves the leader with all agents and frameworks, which cannot
// tell that it leads no more but by its word.
func cutLeaderFromMasters(r *run) error {
	return r.elsewhere(func(l *Node) {
		r.c.Net.Between(Hosts(l), Hosts(r.followers(l)...), Fault{Drop: true})
	})
}

// deafLeader can send to the other masters, and so keeps them from electing another,
// but hears nothing of them.
func deafLeader(r *run) error {
	return r.elsewhere(func(l *Node) { r.c.Net.Deafen(l.Host, Hosts(r.followers(l)...)...) })
}

// silentLeader hears the other masters and cannot send to them.
func silentLeader(r *run) error {
	return r.elsewhere(func(l *Node) { r.c.Net.Silence(l.Host, Hosts(r.followers(l)...)...) })
}

// loseMajority kills two of three masters: the third must not lead, and tasks go on.
func loseMajority(r *run) error {
	leader, err := r.c.Leader()
	if err != nil {
		return err
	}
	n := r.w.Subscriptions()
	others := r.followers(leader)
	for _, m := range others {
		m.Kill()
	}
	if err := r.leaderless(leader); err != nil {
		return err
	}
	for _, m := range others {
		if err := m.Launch(); err != nil {
			return err
		}
	}
	if _, err := r.c.Leader(); err != nil {
		return err
	}
	return r.w.AwaitSubscription(n)
}

// scatter cuts every master from every other: nobody may lead.
func scatter(r *run) error {
	n := r.w.Subscriptions()
	hosts := Hosts(r.c.Masters...)
	r.c.Net.Between(hosts, hosts, Fault{Drop: true})
	if err := r.leaderless(r.c.Running()...); err != nil {
		return err
	}
	r.c.Net.Heal()
	if _, err := r.c.Leader(); err != nil {
		return err
	}
	return r.w.AwaitSubscription(n)
}

// restartMasters restarts one master after the other, the way an upgrade does.
func restartMasters(r *run) error {
	for _, m := range r.c.Running() {
		if err := m.Terminate(); err != nil {
			return err
		}
		if err := m.Start(); err != nil {
			return err
		}
		if _, err := r.c.Leader(); err != nil {
			return err
		}
		if err := r.awaitAgents(); err != nil {
			return err
		}
		if err := r.w.AwaitWork(2); err != nil {
			return err
		}
	}
	return nil
}

// restartAgents kills and restarts one agent after the other.
func restartAgents(r *run) error {
	for _, a := range r.c.Agents {
		a.Kill()
		if err := a.Start(); err != nil {
			return err
		}
		if err := r.awaitAgents(); err != nil {
			return err
		}
	}
	return nil
}

// killAllMasters kills all masters at once.
func killAllMasters(r *run) error {
	n := r.w.Subscriptions()
	masters := r.c.Running()
	for _, m := range masters {
		m.Signal(syscall.SIGKILL)
	}
	for _, m := range masters {
		m.Kill()
	}
	for _, m := range masters {
		if err := m.Launch(); err != nil {
			return err
		}
	}
	if _, err := r.c.Leader(); err != nil {
		return err
	}
	return r.w.AwaitSubscription(n)
}

// slowNetwork delays and loses packets between all nodes.
func slowNetwork(r *run) error {
	all := Hosts(r.c.Nodes()...)
	r.c.Net.Between(all, all, Fault{Delay: 20 * time.Millisecond, Jitter: 10 * time.Millisecond, Loss: 0.01})
	defer r.c.Net.Heal()
	return r.w.AwaitWork(6)
}
