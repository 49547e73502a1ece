package netcluster

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"testing"

	mesos "clusterd/api/mesos/v1"
	"clusterd/internal/registryapi"
	"clusterd/internal/testcluster"
)

// registry asks a master how the registry stands.
func (n *Node) registry() (*registryapi.Status, error) {
	status, body, err := n.Get(registryapi.Path)
	if err != nil {
		return nil, err
	}
	if status != http.StatusOK {
		return nil, fmt.Errorf("%s answers %d %s", n.name, status, body)
	}
	s := new(registryapi.Status)
	return s, json.Unmarshal([]byte(body), s)
}

// awaitVoters waits until the leader counts on the votes of just those masters.
func awaitVoters(c *Cluster, want ...*Node) error {
	var names []string
	for _, n := range want {
		names = append(names, n.name)
	}
	slices.Sort(names)
	return testcluster.Poll(func() error {
		leader, err := c.Leader()
		if err != nil {
			return err
		}
		s, err := leader.registry()
		if err != nil {
			return err
		}
		var got []string
		for _, m := range s.Members {
			if m.Voter {
				got = append(got, m.ID)
			} else {
				got = append(got, m.ID+" without a vote")
			}
		}
		slices.Sort(got)
		if !slices.Equal(got, names) {
			return fmt.Errorf("members are %q, want %q", got, names)
		}
		return nil
	})
}

// addMaster starts a master more.
func (r *run) addMaster(through ...*Node) (*Node, error) {
	m, err := r.c.AddMaster(through...)
	if err != nil {
		return nil, err
	}
	r.watch.Add(m)
	return m, m.Start()
}

// replaceMasters replaces all masters one by one by others with other addresses: each
// goes when its successor is there. The first one dies, and the cluster finds that out
// by itself; the others are stopped and removed by the operator. The agents know of none of the new
// ones from their command lines and are never restarted.
func replaceMasters(r *run) error {
	before := map[*Node]int{}
	for _, a := range r.c.Agents {
		before[a] = a.PID()
	}
	for i, old := range r.c.Running() {
		// It joins through what has been there longest, which is to go next.
		m, err := r.addMaster(r.c.Running()...)
		if err != nil {
			return err
		}
		if err := awaitVoters(r.c, r.c.Running()...); err != nil {
			return err
		}
		if i == 0 {
			old.Kill()
		} else {
			if err := old.Terminate(); err != nil {
				return err
			}
			if out, err := r.c.CLI("registry", "remove", "--yes", "--master="+m.Addr, old.name); err != nil {
				return fmt.Errorf("remove %s: %w: %s", old.name, err, out)
			}
		}
		if err := awaitVoters(r.c, r.c.Running()...); err != nil {
			return err
		}
		if err := r.awaitAgents(); err != nil {
			return err
		}
		if err := r.w.AwaitWork(2); err != nil {
			return err
		}
		r.t.Logf("%s has replaced %s", m.name, old.name)
	}
	for a, pid := range before {
		if a.PID() != pid {
			return fmt.Errorf("%s was restarted", a.name)
		}
	}
	return nil
}

// TestReplace replaces all masters, and then the leader of the new ones fails over.
func TestReplace(t *testing.T) {
	t.Parallel()
	c := Start(t, Options{Masters: 3, Agents: 3})
	scenarios(t, c, WorkloadOptions{Long: 9, Short: 3, LaterMasters: 3},
		scenario{"replace all masters", replaceMasters},
		scenario{"kill the leader of the new ones", killLeader},
	)
}

// grow adds two masters while the cluster works.
func grow(r *run) error {
	for range 2 {
		if _, err := r.addMaster(r.c.Masters[0]); err != nil {
			return err
		}
	}
	return awaitVoters(r.c, r.c.Running()...)
}

// loseTwo kills the leader of five masters and one more: three are a majority.
func loseTwo(r *run) error {
	leader, err := r.c.Leader()
	if err != nil {
		return err
	}
	n := r.w.Subscriptions()
	other := r.followers(leader)[0]
	other.Kill()
	leader.Kill()
	if _, err := r.c.Leader(); err != nil {
		return err
	}
	if err := r.w.AwaitSubscription(n); err != nil {
		return err
	}
	if err := leader.Launch(); err != nil {
		return err
	}
	return other.Launch()
}

// TestGrow lets one master become three and then five, live.
func TestGrow(t *testing.T) {
	t.Parallel()
	c := Start(t, Options{Masters: 1, Agents: 3})
	scenarios(t, c, WorkloadOptions{Long: 6, Short: 2, LaterMasters: 4},
		scenario{"one to three", grow},
		scenario{"kill the leader of three", killLeader},
		scenario{"three to five", grow},
		scenario{"lose two of five", loseTwo},
	)
}

// away waits until every long task of an agent is unreachable, and no other.
func (w *Workload) away(agent string) error {
	return w.Await(func() error {
		there := 0
		for _, t := range w.tasks {
			if !t.long || over(t.state) {
				continue
			}
			here := t.agent.GetValue() == agent
			if here {
				there++
			}
			if here != (t.state == mesos.TaskState_TASK_UNREACHABLE) {
				return fmt.Errorf("%s of agent %s is %s, and %s is away", t.id, t.agent.GetValue(), t.state, agent)
			}
		}
		if there == 0 {
			return fmt.Errorf("no task is on agent %s", agent)
		}
		return nil
	})
}

// agentID is the id that the leader has given an agent.
func agentID(c *Cluster, a *Node) (string, error) {
	leader, err := c.Leader()
	if err != nil {
		return "", err
	}
	l, err := leader.asLeader()
	if err != nil {
		return "", err
	}
	for _, s := range l.Slaves {
		if s.Hostname == a.IP() {
			return s.ID, nil
		}
	}
	return "", fmt.Errorf("%s is not registered: %+v", a.name, l.Slaves)
}

// cutAgent cuts an agent off until its tasks are unreachable, lets something happen, and
// lets it come back: with the same id, and its tasks running as if nothing had been.
func cutAgent(meanwhile func(r *run) error) func(r *run) error {
	return func(r *run) error {
		a := r.c.Agents[0]
		id, err := agentID(r.c, a)
		if err != nil {
			return err
		}
		r.c.Net.Partition(a.Host)
		if err := r.w.away(id); err != nil {
			return err
		}
		r.away = 1
		if err := r.awaitAgents(); err != nil {
			return err
		}
		if err := meanwhile(r); err != nil {
			return err
		}
		r.c.Net.Between(Hosts(a), r.c.Net.Others(a.Host), Fault{})
		r.away = 0
		if err := r.awaitAgents(); err != nil {
			return err
		}
		now, err := agentID(r.c, a)
		if err == nil && now != id {
			err = fmt.Errorf("the agent was %s and is %s", id, now)
		}
		return err
	}
}

// TestUnreachable cuts agents off for longer than they may be silent.
func TestUnreachable(t *testing.T) {
	t.Parallel()
	c := Start(t, Options{Masters: 3, Agents: 3, MasterFlags: []string{"--agent_ping_timeout=1secs", "--max_agent_ping_timeouts=2"}})
	scenarios(t, c, WorkloadOptions{Long: 9, Short: 3, Unreachable: true},
		scenario{"cut an agent off", cutAgent(func(r *run) error { return r.w.AwaitWork(2) })},
		scenario{"fail over meanwhile", cutAgent(killLeader)},
	)
}
