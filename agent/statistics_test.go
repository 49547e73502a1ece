package agent

import (
	"context"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	mesos "clusterd/api/mesos/v1"
	"clusterd/isolation"
)

// counting counts how often containers are measured.
type counting struct {
	isolation.Containerizer
	n atomic.Int32
}

func (c *counting) Usage(ctx context.Context, id *mesos.ContainerID) (*mesos.ResourceStatistics, error) {
	c.n.Add(1)
	return c.Containerizer.Usage(ctx, id)
}

// TestStatisticsAreShared: a crowd that asks for /monitor/statistics has the containers
// measured once, and who asks later gets what is measured later.
func TestStatisticsAreShared(t *testing.T) {
	m := newScriptedMaster(t)
	h := newMachine(t, m)
	a := h.start()
	defer h.leave(a)
	m.waitRegistered(1)
	m.send(runTasks(framework("F"), commandTask("t", "sleep 1000")))
	m.waitState("t", "RUNNING")
	c := &counting{Containerizer: a.runner}
	crowd := &Agent{opts: a.opts, runner: c, views: a.views, done: a.done, ctx: a.ctx}
	crowd.recovered.Store(true)
	ask := func() string {
		all, err := crowd.measureAll(httptestRequest(t))
		if err != nil || len(all) != 1 || all[0].usage == nil {
			t.Errorf("got %+v, %v", all, err)
			return ""
		}
		return all[0].e.Info.GetExecutorId().GetValue()
	}
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			if got := ask(); got != "t" {
				t.Errorf("got %q", got)
			}
		})
	}
	wg.Wait()
	first := c.n.Load()
	if first == 0 || first > 25 { // once in each half a second, however slow this machine
		t.Errorf("measured %d times", first)
	}
	crowd.measured.mu.Lock()
	crowd.measured.at = time.Now().Add(-time.Hour)
	crowd.measured.mu.Unlock()
	if ask(); c.n.Load() == first {
		t.Error("not measured again")
	}
	if status, _, body := request(t, a, "GET", "/monitor/statistics", "", ""); status != http.StatusOK || !strings.Contains(body, `"executor_id":"t"`) {
		t.Errorf("got %d %s", status, body)
	}
	if status, _, _ := request(t, a, "POST", "/monitor/statistics", "", ""); status != http.StatusMethodNotAllowed {
		t.Errorf("POST: got %d", status)
	}
}

func httptestRequest(t *testing.T) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "/", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	return r
}
