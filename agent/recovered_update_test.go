package agent

import (
	"context"
	"sync"
	"testing"

	"github.com/rs/zerolog"

	mesos "clusterd/api/mesos/v1"
	"clusterd/isolation"
	"clusterd/isolation/setup"
)

// toldRunner remembers what containers were told that they may use.
type toldRunner struct {
	isolation.Containerizer

	mu   sync.Mutex // mu guards told.
	told map[string][]*mesos.Resource
}

func (r *toldRunner) Update(ctx context.Context, id *mesos.ContainerID, resources []*mesos.Resource, limits map[string]*mesos.Value_Scalar) error {
	err := r.Containerizer.Update(ctx, id, resources, limits)
	r.mu.Lock()
	defer r.mu.Unlock()
	if err == nil {
		r.told[isolation.Key(id)] = resources
	}
	return err
}

func (r *toldRunner) of(id string) []*mesos.Resource {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.told[id]
}

// TestRecoveredContainersAreUpdated: an agent that restarted tells its containerizer what
// the containers that it took up may use, once their executors are back, although that has
// not changed: network/ports, for one, knows it from nothing else.
func TestRecoveredContainersAreUpdated(t *testing.T) {
	m := newScriptedMaster(t)
	h := newMachine(t, m)
	a := h.start()
	m.waitRegistered(1)
	m.send(runTasks(framework("f"), commandTask("stays", "sleep 1000")))
	m.waitState("stays", "RUNNING")
	id, _ := (&pod{t: t, a: a}).only()
	h.stop(a)

	programs, err := isolation.LoadPrograms()
	if err != nil {
		t.Fatal(err)
	}
	real, err := setup.New(setup.Options{WorkDir: h.work, RuntimeDir: h.run, Isolation: setup.DefaultIsolation}, programs, zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	runner := &toldRunner{Containerizer: real, told: map[string][]*mesos.Resource{}}
	a = h.start(func(o *Options) { o.Containerizer = runner })
	defer func() {
		h.leave(a)
		if err := real.Close(); err != nil {
			t.Error(err)
		}
	}()
	eventually(t, "the container was told what it may use", func() bool { return runner.of(id) != nil })
	if cpus, _ := isolation.ScalarSum(runner.of(id), "cpus"); cpus != 0.6 {
		t.Errorf("cpus: got %v, want 0.6 (0.1 of them the executor's)", cpus)
	}
	if got := m.states("stays"); got[len(got)-1] != "RUNNING" {
		t.Errorf("the task: got %v, want it to run on", got)
	}
}
