package agent

import (
	"container/heap"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"clusterd/agent/core"
	"clusterd/isolation/mounts"
)

// collector removes the sandboxes of ended executors when they are older than
// --gc_delay, and sooner the fuller the disk is (src/slave/gc.cpp,
// Slave::checkDiskUsage). What it is to remove it finds again after a restart:
// every sandbox that no executor lives in.
type collector struct {
	a *Agent

	mu sync.Mutex // guards what follows
	// pending is what is to be removed, removing what is just being removed of nested
	// containers' sandboxes, by directory; closed when it is.
	pending  garbage
	removing map[string]chan struct{}
}

type garbageItem struct {
	dir     string
	virtual []string
	since   time.Time
	// nested is set for the sandbox of a nested container.
	nested *nestedSandbox
}

type garbage []garbageItem

func (g garbage) Len() int           { return len(g) }
func (g garbage) Less(i, j int) bool { return g[i].since.Before(g[j].since) }
func (g garbage) Swap(i, j int)      { g[i], g[j] = g[j], g[i] }
func (g *garbage) Push(x any)        { *g = append(*g, x.(garbageItem)) }
func (g *garbage) Pop() any {
	old := *g
	x := old[len(old)-1]
	*g = old[:len(old)-1]
	return x
}

func newCollector(a *Agent) *collector {
	return &collector{a: a, removing: map[string]chan struct{}{}}
}

func (g *collector) schedule(dir string, virtual []string, since time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	heap.Push(&g.pending, garbageItem{dir: dir, virtual: virtual, since: since})
}

func (g *collector) len() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.pending)
}

// scan schedules the sandboxes that earlier runs left behind.
func (g *collector) scan(live []core.LaunchContainer) {
	keep := map[string]bool{}
	for _, l := range live {
		keep[l.Directory] = true
	}
	runs, err := filepath.Glob(filepath.Join(g.a.opts.WorkDir, "slaves", "*", "frameworks", "*", "executors", "*", "runs", "*"))
	if err != nil {
		g.a.log.Error().Err(err).Msg("cannot look for old sandboxes")
	}
	for _, dir := range runs {
		st, err := os.Lstat(dir)
		if err != nil || !st.IsDir() || keep[dir] {
			continue
		}
		g.a.attachForeign(dir)
		g.schedule(dir, []string{dir}, st.ModTime())
	}
}

// run collects until the agent stops.
func (g *collector) run() {
	tick := time.NewTicker(g.a.opts.DiskWatchInterval)
	defer tick.Stop()
	for {
		g.prune(time.Now().Add(-g.maxAge()))
		select {
		case <-g.a.ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// maxAge is how old a sandbox may become now (Slave::age).
func (g *collector) maxAge() time.Duration {
	usage, err := diskUsage(g.a.opts.WorkDir)
	if err != nil {
		g.a.log.Warn().Err(err).Msg("cannot measure the disk")
	}
	return age(g.a.opts.GCDelay, g.a.opts.GCDiskHeadroom, usage)
}

func age(delay time.Duration, headroom, usage float64) time.Duration {
	return time.Duration(float64(delay) * max(0, 1-headroom-usage))
}

func diskUsage(dir string) (float64, error) {
	var st syscall.Statfs_t
	if err := syscall.Statfs(dir, &st); err != nil {
		return 0, err
	}
	if st.Blocks == 0 {
		return 0, nil
	}
	return float64(st.Blocks-st.Bfree) / float64(st.Blocks), nil
}

// prune removes what is older than the limit, the oldest first.
func (g *collector) prune(limit time.Time) {
	for g.a.ctx.Err() == nil {
		g.mu.Lock()
		if len(g.pending) == 0 || g.pending[0].since.After(limit) {
			g.mu.Unlock()
			return
		}
		item := g.takeLocked()
		g.mu.Unlock()
		if item.nested != nil {
			g.removeNested(item)
			continue
		}
		g.remove(item)
	}
}

func (g *collector) remove(item garbageItem) {
	attached := g.a.files.Attached()
	for _, v := range item.virtual {
		// A later run of the executor may have taken over its `latest`.
		if attached[v] == item.dir {
			g.a.files.Detach(v)
		}
	}
	// A volume that is still mounted in the sandbox keeps its data.
	if err := mounts.RemoveAll(item.dir); err != nil {
		g.a.metrics.Counter("gc/path_removals_failed").Inc()
		g.a.log.Error().Err(err).Str("path", item.dir).Msg("cannot remove an old sandbox")
		return
	}
	g.a.metrics.Counter("gc/path_removals_succeeded").Inc()
	g.a.log.Info().Str("path", item.dir).Msg("removed an old sandbox")
	// runs (once nothing but a `latest` that leads nowhere is in it), the
	// executor, executors, the framework, frameworks and an old agent.
	runs := filepath.Dir(item.dir)
	latest := filepath.Join(runs, "latest")
	if _, err := os.Stat(latest); errors.Is(err, fs.ErrNotExist) {
		_ = os.Remove(latest)
	}
	for dir, n := runs, 0; n < 6; dir, n = filepath.Dir(dir), n+1 {
		if os.Remove(dir) != nil { // not empty
			return
		}
	}
}
