package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"clusterd/api/client/scheduler"
	mesos "clusterd/api/mesos/v1"
	pb "clusterd/api/mesos/v1/scheduler"
	"clusterd/internal/testcluster"
)

// soakFor is how long TestSoak goes on; $CLUSTERD_SOAK is another duration.
const soakFor = 8 * time.Second

// commands that the tasks of TestSoak run.
var commands = []string{
	"true", "exit 3", "sleep 0.3", "sleep 1000", "no such command",
	`trap "" TERM; while true; do sleep 1; done`,
	"setsid sleep 1000 & sleep 1000", "setsid sleep 1000 & sleep 0.1",
	"head -c 3000000 /dev/zero",
}

// TestSoak launches, kills and declines at random on two agents, and kills -9
// master and agents meanwhile. When all has ended nothing may be left: no
// resources in use, no processes, no more goroutines and open files than before.
func TestSoak(t *testing.T) {
	if testing.Short() {
		t.Skip("works for 8 s, then cleans up")
	}
	long := soakFor
	if v := os.Getenv("CLUSTERD_SOAK"); v != "" {
		var err error
		if long, err = time.ParseDuration(v); err != nil {
			t.Fatal(err)
		}
	}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	c := testcluster.Start(t, testcluster.Options{Agents: 2, AgentFlags: []string{
		"--resources=cpus:8;mem:4096;disk:1024;ports:[31000-31100]",
		"--registration_backoff_factor=50ms", "--executor_reregistration_timeout=5secs",
	}})
	s := &soaker{t: t, c: c, f: subscribe(t, c, "soak"), random: rand.New(rand.NewPCG(seed, 0)), live: map[string]*mesos.AgentID{}}
	before := s.footprint()
	s.work(long)
	s.clean()
	t.Logf("%d tasks, %d kills of processes, ends: %v", s.launched, s.crashes, s.ends)
	s.checkNothingLeft()
	err := testcluster.Poll(func() error {
		after := s.footprint()
		for name, n := range after {
			if n > before[name]+25 {
				return fmt.Errorf("%s: %d before, %d after", name, before[name], n)
			}
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

type soaker struct {
	t      *testing.T
	c      *testcluster.Cluster
	f      *framework
	random *rand.Rand

	live              map[string]*mesos.AgentID // tasks not known to have ended
	launched, crashes int
	ends              [20]int // by state
}

// call ignores that the master is away.
func (s *soaker) call(err error) { _ = err }

func (s *soaker) work(long time.Duration) {
	ctx, cancel := context.WithTimeout(s.t.Context(), long)
	defer cancel()
	kill, revive, crash := time.NewTicker(100*time.Millisecond), time.NewTicker(700*time.Millisecond), time.NewTicker(1300*time.Millisecond)
	defer kill.Stop()
	defer revive.Stop()
	defer crash.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case e := <-s.f.events:
			s.handle(ctx, e, true)
		case <-kill.C:
			if ids := s.ids(); len(ids) > 0 {
				id := ids[s.random.IntN(len(ids))]
				s.call(s.f.client.Kill(ctx, &mesos.TaskID{Value: &id}, s.live[id], nil))
			}
		case <-revive.C:
			s.call(s.f.client.Revive(ctx))
		case <-crash.C:
			p := slices.Concat(s.c.Agents, []*testcluster.Process{s.c.Master})[s.random.IntN(3)]
			p.Kill()
			s.crashes++
			if err := p.Start(); err != nil {
				s.t.Fatal(err)
			}
		}
	}
}

func (s *soaker) ids() []string {
	ids := make([]string, 0, len(s.live))
	for id := range s.live {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

func (s *soaker) handle(ctx context.Context, e *scheduler.Event, launch bool) {
	switch e.GetType() {
	case scheduler.OFFERS:
		for _, o := range e.GetOffers().GetOffers() {
			if !launch || s.random.IntN(4) == 0 || len(s.live) > 60 {
				s.call(s.f.client.Decline(ctx, scheduler.Refuse(s.random.Float64()/2), o.GetId()))
				continue
			}
			var tasks []*mesos.TaskInfo
			for range 1 + s.random.IntN(3) {
				id := fmt.Sprintf("s%04d", s.launched)
				s.launched++
				s.live[id] = o.GetAgentId()
				tasks = append(tasks, shellTask(id, commands[s.random.IntN(len(commands))]))
			}
			s.call(s.f.client.Launch(ctx, o, tasks...))
		}
	case scheduler.UPDATE:
		st := e.GetUpdate().GetStatus()
		s.call(s.f.client.Acknowledge(ctx, st))
		id := st.GetTaskId().GetValue()
		if st.GetState() == mesos.TaskState_TASK_LOST {
			s.t.Errorf("a partition aware framework was told %v", st)
		}
		if _, ok := s.live[id]; ok && terminal(st.GetState()) {
			s.ends[st.GetState()]++
			if st.GetState() == mesos.TaskState_TASK_GONE || st.GetState() == mesos.TaskState_TASK_ERROR {
				s.t.Logf("%s: %s %s %s", id, st.GetState(), st.GetReason(), st.GetMessage())
			}
			delete(s.live, id)
		}
		// An ACCEPT that died with the master was never heard of.
		if st.GetState() == mesos.TaskState_TASK_UNKNOWN {
			delete(s.live, id)
		}
	default:
	}
}

// clean kills what lives until the framework has heard the end of all.
func (s *soaker) clean() {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), testcluster.Patience)
	defer cancel()
	if err := s.c.WaitAgents(len(s.c.Agents)); err != nil {
		s.t.Fatal(err)
	}
	again := time.NewTicker(time.Second)
	defer again.Stop()
	for len(s.live) > 0 {
		select {
		case <-ctx.Done():
			s.t.Fatalf("no end is known of %v", s.ids())
		case e := <-s.f.events:
			s.handle(ctx, e, false)
		case <-again.C:
			var ask []*pb.Call_Reconcile_Task
			for _, id := range s.ids() {
				s.call(s.f.client.Kill(ctx, &mesos.TaskID{Value: &id}, s.live[id], nil))
				ask = append(ask, &pb.Call_Reconcile_Task{TaskId: &mesos.TaskID{Value: &id}, AgentId: s.live[id]})
			}
			s.call(s.f.client.Reconcile(ctx, ask...))
		}
	}
	// What is still on its way is acknowledged too, so that the master can forget.
	go func() {
		for {
			select {
			case <-s.t.Context().Done():
				return
			case e := <-s.f.events:
				if e.GetType() == scheduler.UPDATE {
					_ = s.f.client.Acknowledge(s.t.Context(), e.GetUpdate().GetStatus())
				}
			}
		}
	}()
}

func (s *soaker) checkNothingLeft() {
	s.t.Helper()
	err := testcluster.Poll(func() error {
		body, err := testcluster.Get("http://" + s.c.Master.Addr + "/state")
		if err != nil {
			return err
		}
		var state struct {
			Slaves []struct {
				ID   string
				Used struct{ CPUs, Mem float64 } `json:"used_resources"`
			}
			Frameworks []struct {
				Tasks     []struct{ ID, State string }
				Executors []struct{ ID string }
			}
		}
		if err := json.Unmarshal([]byte(body), &state); err != nil {
			return err
		}
		if len(state.Slaves) != len(s.c.Agents) {
			return fmt.Errorf("agents are %v", state.Slaves)
		}
		for _, a := range state.Slaves {
			if a.Used.CPUs != 0 || a.Used.Mem != 0 {
				return fmt.Errorf("resources are in use: %+v, tasks %+v", a, state.Frameworks)
			}
		}
		for _, f := range state.Frameworks {
			if len(f.Tasks) > 0 || len(f.Executors) > 0 {
				return fmt.Errorf("tasks are left: %+v", f)
			}
		}
		return s.processesLeft()
	})
	if err != nil {
		s.t.Error(err)
	}
}

func (s *soaker) processesLeft() error {
	var errs []error
	for _, a := range s.c.Agents {
		for _, pid := range testcluster.Processes(a.WorkDir) {
			if pid != a.PID() {
				cmdline, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
				errs = append(errs, fmt.Errorf("process %d is left: %q", pid, cmdline))
			}
		}
	}
	return errors.Join(errs...)
}

// footprint counts the goroutines and open files of all daemons.
func (s *soaker) footprint() map[string]int {
	sizes := map[string]int{}
	for i, p := range append([]*testcluster.Process{s.c.Master}, s.c.Agents...) {
		entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", p.PID()))
		if err != nil {
			s.t.Fatal(err)
		}
		sizes[fmt.Sprintf("files of process %d", i)] = len(entries)
		body, err := testcluster.Get("http://" + p.Addr + "/metrics/prometheus")
		if err != nil {
			s.t.Fatal(err)
		}
		for line := range strings.SplitSeq(body, "\n") {
			var n float64
			if _, err := fmt.Sscanf(line, "go_goroutines %g", &n); err == nil {
				sizes[fmt.Sprintf("goroutines of process %d", i)] = int(n)
			}
		}
	}
	return sizes
}
