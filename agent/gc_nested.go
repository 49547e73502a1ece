package agent

import (
	"container/heap"
	"context"
	"os"
	"slices"
	"time"

	"clusterd/agent/core"
	mesos "clusterd/api/mesos/v1"
	"clusterd/isolation"
	"clusterd/isolation/mounts"
)

// nestedSandbox is the sandbox of a nested container, which may be launched again under
// the same id.
type nestedSandbox struct {
	id    *mesos.ContainerID
	place *place
}

// collectNested schedules the sandbox of a nested container once it has ended
// (--gc_non_executor_container_sandboxes, MesosContainerizerProcess::______destroy in
// src/slave/containerizer/mesos/containerizer.cpp). Sandboxes of standalone containers stay
// until they are removed, as in Mesos.
func (a *Agent) collectNested(id *mesos.ContainerID, p *place) {
	if !a.opts.GCNonExecutorContainers || id.GetParent() == nil {
		return
	}
	a.wg.Go(func() {
		if _, err := a.runner.Wait(a.ctx, id); err != nil {
			return // it is removed already, or the next run looks at it
		}
		a.gc.scheduleNested(id, p, time.Now())
	})
}

// collectFormer goes on for the containers that an earlier run launched.
func (a *Agent) collectFormer(v *core.View) {
	if !a.opts.GCNonExecutorContainers {
		return
	}
	for _, id := range a.runner.Containers() {
		if id.GetParent() == nil {
			continue
		}
		p, err := a.placeOf(v, id)
		if err != nil {
			continue // its executor is over: the sandbox goes with that one's
		}
		if !a.ended(a.ctx, id) {
			a.collectNested(id, p)
			continue
		}
		if st, err := os.Lstat(p.sandbox()); err == nil {
			a.gc.scheduleNested(id, p, st.ModTime())
		}
	}
}

func (g *collector) scheduleNested(id *mesos.ContainerID, p *place, since time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	heap.Push(&g.pending, garbageItem{dir: p.sandbox(), since: since, nested: &nestedSandbox{id, p}})
}

// unschedule makes sure that a sandbox is not removed any more: it is gone, or a new
// container is to have it. It waits for a removal under way.
func (g *collector) unschedule(p *place) {
	dir := p.sandbox()
	g.mu.Lock()
	if i := slices.IndexFunc(g.pending, func(item garbageItem) bool { return item.dir == dir }); i >= 0 {
		heap.Remove(&g.pending, i)
	}
	busy := g.removing[dir]
	g.mu.Unlock()
	if busy != nil {
		<-busy
	}
}

// takeLocked takes the oldest item, and says of a nested one that it is being removed.
func (g *collector) takeLocked() garbageItem {
	item := heap.Pop(&g.pending).(garbageItem)
	if item.nested != nil {
		g.removing[item.dir] = make(chan struct{})
	}
	return item
}

// removeNested removes the sandbox of a nested container. It lies in that of a task, which
// may have put anything there: no symbolic link is followed, and what is mounted, a
// persistent volume say, stays and is an error.
func (g *collector) removeNested(item garbageItem) {
	defer func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		close(g.removing[item.dir])
		delete(g.removing, item.dir)
	}()
	n := item.nested
	if g.a.runs(n.id) {
		return // another container has it now, whose end schedules it again
	}
	if err := mounts.RemoveBeneath(n.place.root, n.place.sub); err != nil {
		g.a.metrics.Counter("gc/path_removals_failed").Inc()
		g.a.log.Error().Err(err).Str("path", item.dir).Msg("cannot remove the sandbox of a nested container")
		return
	}
	g.a.metrics.Counter("gc/path_removals_succeeded").Inc()
	g.a.log.Info().Str("path", item.dir).Str("container_id", isolation.Key(n.id)).Msg("removed the sandbox of a nested container")
}

// runs says whether the containerizer has a container that has not ended.
func (a *Agent) runs(id *mesos.ContainerID) bool {
	ctx := context.WithoutCancel(a.ctx)
	return a.exists(ctx, id) && !a.ended(ctx, id)
}
