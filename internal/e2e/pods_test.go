package e2e

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"clusterd/api/client/scheduler"
	mesos "clusterd/api/mesos/v1"
	"clusterd/internal/testcluster"
)

// podFlags are those of an agent whose containers are held apart. Call it before the cluster
// is started, which then ends first.
func podFlags(t *testing.T) []string {
	t.Helper()
	flags := []string{"--registration_backoff_factor=50ms", "--resources=cpus:4;mem:2048;disk:1024;ports:[31000-31100]"}
	if os.Geteuid() == 0 {
		root := testcluster.CgroupsRoot("clusterd-e2e")
		t.Cleanup(func() {
			if err := testcluster.RemoveCgroups(root); err != nil {
				t.Error(err)
			}
		})
		flags = append(flags, "--launcher=linux", "--cgroups_root="+root,
			"--isolation=filesystem/linux,namespaces/pid,volume/sandbox_path,cgroups/cpu,cgroups/mem,cgroups/pids")
	}
	return flags
}

// podOf makes an operation that launches tasks together under the default executor.
func podOf(f *framework, offer *mesos.Offer, executor string, tasks ...*mesos.TaskInfo) *mesos.Offer_Operation {
	group := &mesos.TaskGroupInfo{}
	for _, task := range tasks {
		task.AgentId = offer.GetAgentId()
		group.Tasks = append(group.Tasks, task)
	}
	return &mesos.Offer_Operation{
		Type: mesos.Offer_Operation_LAUNCH_GROUP.Enum(),
		LaunchGroup: &mesos.Offer_Operation_LaunchGroup{TaskGroup: group, Executor: &mesos.ExecutorInfo{
			Type: mesos.ExecutorInfo_DEFAULT.Enum(), ExecutorId: &mesos.ExecutorID{Value: &executor},
			FrameworkId: f.client.FrameworkID(),
			Resources:   []*mesos.Resource{scalar("cpus", 0.1), scalar("mem", 32), scalar("disk", 16)},
		}},
	}
}

// shares gives a task a directory that it has in common with its pod.
func shares(task *mesos.TaskInfo, dir string) *mesos.TaskInfo {
	task.Container = &mesos.ContainerInfo{
		Type: mesos.ContainerInfo_MESOS.Enum(),
		Volumes: []*mesos.Volume{{
			Mode: mesos.Volume_RW.Enum(), ContainerPath: &dir,
			Source: &mesos.Volume_Source{
				Type:        mesos.Volume_Source_SANDBOX_PATH.Enum(),
				SandboxPath: &mesos.Volume_Source_SandboxPath{Type: mesos.Volume_Source_SandboxPath_PARENT.Enum(), Path: &dir},
			},
		}},
	}
	return task
}

// TestPod: two tasks of a pod, held apart from everything else, share a directory. The agent is
// killed -9 under them and comes back.
func TestPod(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can hold containers apart")
	}
	ctx, cancel := context.WithTimeout(t.Context(), testcluster.Patience)
	defer cancel()
	c := testcluster.Start(t, testcluster.Options{AgentFlags: podFlags(t)})
	f := subscribe(t, c, "pod")
	offer := f.nextOffer(ctx)
	writer := shares(shellTask("writer", "echo from $$ >shared/said; until [ -e shared/heard ]; do sleep 0.02; done"), "shared")
	reader := shares(shellTask("reader", "until [ -s shared/said ]; do sleep 0.02; done; cat shared/said; until [ -e go ]; do sleep 0.02; done; touch shared/heard; exit 0"), "shared")
	writer.Limits = map[string]*mesos.Value_Scalar{"mem": {Value: new(64.0)}}
	writer.Container.LinuxInfo = &mesos.LinuxInfo{ShareCgroups: new(bool)}
	reader.Container.LinuxInfo = &mesos.LinuxInfo{ShareCgroups: new(bool)}
	if err := f.client.Accept(ctx, []*mesos.OfferID{offer.GetId()}, []*mesos.Offer_Operation{podOf(f, offer, "pod", writer, reader)}, nil); err != nil {
		t.Fatal(err)
	}
	for _, st := range f.bothIn(ctx, mesos.TaskState_TASK_RUNNING) {
		if st.GetContainerStatus().GetContainerId().GetParent() == nil {
			t.Errorf("status: got %v", st)
		}
	}
	var tasks string
	err := testcluster.Poll(func() error {
		found, err := filepath.Glob(filepath.Join(c.Agents[0].WorkDir, "slaves/*/frameworks/*/executors/pod/runs/latest/tasks"))
		if err != nil || len(found) != 1 {
			return fmt.Errorf("sandboxes: %v, %w", found, err)
		}
		tasks = found[0]
		b, err := os.ReadFile(filepath.Join(tasks, "reader", "stdout"))
		if err == nil && !strings.HasPrefix(string(b), "from ") {
			err = fmt.Errorf("the reader has read %q", b)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	c.Agents[0].Kill()
	if err := os.WriteFile(filepath.Join(tasks, "reader", "go"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := c.Agents[0].Start(); err != nil {
		t.Fatal(err)
	}
	f.bothIn(ctx, mesos.TaskState_TASK_FINISHED)
}

// nextStatus is that of the next update, acknowledged.
func (f *framework) nextStatus(ctx context.Context) *mesos.TaskStatus {
	f.t.Helper()
	s := f.next(ctx, scheduler.UPDATE).GetUpdate().GetStatus()
	if s.GetUuid() != nil {
		if err := f.client.Acknowledge(ctx, s); err != nil {
			f.t.Fatal(err)
		}
	}
	return s
}

// bothIn waits until two tasks are in a state, which are not in another last one.
func (f *framework) bothIn(ctx context.Context, want mesos.TaskState) []*mesos.TaskStatus {
	f.t.Helper()
	in := map[string]*mesos.TaskStatus{}
	for len(in) < 2 {
		switch s := f.nextStatus(ctx); s.GetState() {
		case want:
			in[s.GetTaskId().GetValue()] = s
		case mesos.TaskState_TASK_STARTING, mesos.TaskState_TASK_RUNNING:
		default:
			f.t.Fatalf("got %v, want %s", s, want)
		}
	}
	return slices.Collect(maps.Values(in))
}

// TestPodKillAgent kills -9 the agent somewhere in the short life of a pod, and wants the truth
// about both tasks: one fails, the other is killed for that.
func TestPodKillAgent(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*testcluster.Patience)
	defer cancel()
	c := testcluster.Start(t, testcluster.Options{AgentFlags: podFlags(t)})
	f := subscribe(t, c, "pod-kill")
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	k := &podKiller{t: t, f: f, offers: map[string]*mesos.Offer{}}
	ran, rounds := 0, 0
	for ; ran < 4 && rounds < 24; rounds++ {
		if k.round(ctx, c, rounds, time.Duration(random.IntN(250))*time.Millisecond) {
			ran++
		}
	}
	if ran < 4 {
		t.Errorf("only %d pods of %d ran", ran, rounds)
	}
}

// podKiller launches pods and kills the agent under them.
type podKiller struct {
	t      *testing.T
	f      *framework
	offers map[string]*mesos.Offer
}

// take looks at an event: offers come between updates.
func (k *podKiller) take(ctx context.Context, e *scheduler.Event) *mesos.TaskStatus {
	for _, o := range e.GetOffers().GetOffers() {
		k.offers[o.GetId().GetValue()] = o
	}
	delete(k.offers, e.GetRescind().GetOfferId().GetValue())
	s := e.GetUpdate().GetStatus()
	if s.GetUuid() != nil {
		if err := k.f.client.Acknowledge(ctx, s); err != nil {
			k.t.Fatal(err)
		}
	}
	return s
}

// offer is one that nobody has taken back, as far as has been heard by now.
func (k *podKiller) offer(ctx context.Context) *mesos.Offer {
	for {
		for len(k.f.events) > 0 {
			k.take(ctx, k.f.event(ctx, "event"))
		}
		for id, o := range k.offers {
			delete(k.offers, id)
			if amount(o, "cpus") >= 1 && amount(o, "mem") >= 256 {
				return o
			}
			// It is what the pod before had, and comes again together with the rest.
			if err := k.f.client.Decline(ctx, &mesos.Filters{RefuseSeconds: new(0.0)}, o.GetId()); err != nil {
				k.t.Fatal(err)
			}
		}
		k.take(ctx, k.f.event(ctx, "offer"))
	}
}

// round launches a pod, kills the agent after a while, and says whether the pod ran: an
// offer may have gone with the agent before, and a pod goes with the launch of its executor.
func (k *podKiller) round(ctx context.Context, c *testcluster.Cluster, i int, wait time.Duration) bool {
	t := k.t
	offer := k.offer(ctx)
	bad, good := fmt.Sprintf("bad%d", i), fmt.Sprintf("good%d", i)
	op := podOf(k.f, offer, fmt.Sprintf("pod%d", i), shellTask(bad, "sleep 0.1; exit 7"), shellTask(good, "sleep 1000"))
	if err := k.f.client.Accept(ctx, []*mesos.OfferID{offer.GetId()}, []*mesos.Offer_Operation{op}, &mesos.Filters{RefuseSeconds: new(0.0)}); err != nil {
		t.Fatal(err)
	}
	<-time.After(wait) // the moment is the test's subject
	c.Agents[0].Kill()
	if err := c.Agents[0].Start(); err != nil {
		t.Fatal(err)
	}
	running, last := map[string]bool{}, map[string]*mesos.TaskStatus{}
	for len(last) < 2 {
		s := k.take(ctx, k.f.event(ctx, "end of "+bad+" and "+good))
		task := s.GetTaskId().GetValue()
		if task != bad && task != good {
			continue // of a round before, whose acknowledgement was lost with the agent
		}
		switch s.GetState() {
		case mesos.TaskState_TASK_RUNNING:
			running[task] = true
		case mesos.TaskState_TASK_STAGING, mesos.TaskState_TASK_STARTING, mesos.TaskState_TASK_KILLING:
		default:
			last[task] = s
		}
	}
	got, other := last[bad], last[good]
	if !running[bad] {
		for _, s := range last {
			switch s.GetState() {
			case mesos.TaskState_TASK_DROPPED, mesos.TaskState_TASK_GONE, mesos.TaskState_TASK_LOST:
			default:
				t.Errorf("round %d, a task that has not run: got %v", i, s)
			}
		}
		return false
	}
	// The good one may be killed before its executor hears that it runs.
	if got.GetState() != mesos.TaskState_TASK_FAILED || got.GetMessage() != "Command exited with status 7" ||
		other.GetState() != mesos.TaskState_TASK_KILLED {
		t.Errorf("round %d: got %v", i, last)
	}
	return true
}
