package disk

import (
	"context"
	"runtime"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// target is a directory that is measured again and again.
type target struct {
	path string
	// measure is how.
	measure func(ctx context.Context, path string) (uint64, error)
	// done is told the outcome, on the collector's goroutine.
	done func(bytes uint64, err error)

	// due is when it is next looked at; guarded by collector.mu.
	due time.Time
}

// collector measures directories, one at a time, so that a million small files cost one
// thread's time and no more. The thread has the lowest priority, rests after each
// walk as long as that took, and leaves each directory alone for an interval. New
// directories do not wait for the interval.
type collector struct {
	interval time.Duration

	mu sync.Mutex
	// what follows is guarded by mu.
	targets map[*target]struct{}
	running bool
	closed  bool
	// current is being measured; abort ends that.
	current *target
	abort   context.CancelFunc

	wake chan struct{} // of size 1: something has changed
	wg   sync.WaitGroup
}

func newCollector(interval time.Duration) *collector {
	return &collector{interval: interval, targets: make(map[*target]struct{}), wake: make(chan struct{}, 1)}
}

// add measures t from now on.
func (c *collector) add(t *target) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.targets[t] = struct{}{}
	if !c.running && !c.closed {
		c.running = true
		c.wg.Go(c.run)
	}
	c.poke()
}

// remove forgets t; done may be called once more.
func (c *collector) remove(t *target) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.targets, t)
	if c.current == t {
		c.abort()
	}
	c.poke()
}

// close ends the goroutine and waits for it.
func (c *collector) close() {
	c.mu.Lock()
	c.closed = true
	if c.abort != nil {
		c.abort()
	}
	c.poke()
	c.mu.Unlock()
	c.wg.Wait()
}

func (c *collector) poke() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// run measures until there is nothing to measure.
func (c *collector) run() {
	// The thread is not given back: it ends with the goroutine, and its priority with it.
	runtime.LockOSThread()
	lowerPriority()
	var rest time.Time // nothing is measured before
	for {
		t, wait, ok := c.next(rest)
		if !ok {
			return
		}
		if t == nil {
			select {
			case <-time.After(wait):
			case <-c.wake:
			}
			continue
		}
		started := time.Now()
		bytes, err := c.one(t)
		took := time.Since(started)
		t.done(bytes, err)
		rest = time.Now().Add(min(took, c.interval))
	}
}

// next finds what is due, or how long to wait. It is not ok when the goroutine is not
// needed any more.
func (c *collector) next(rest time.Time) (t *target, wait time.Duration, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed || len(c.targets) == 0 {
		c.running = false
		return nil, 0, false
	}
	for candidate := range c.targets {
		if t == nil || candidate.due.Before(t.due) {
			t = candidate
		}
	}
	due := t.due
	if due.Before(rest) {
		due = rest
	}
	if wait := time.Until(due); wait > 0 {
		return nil, wait, true
	}
	return t, 0, true
}

func (c *collector) one(t *target) (uint64, error) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	c.mu.Lock()
	c.current, c.abort = t, cancel
	if _, ok := c.targets[t]; !ok || c.closed {
		cancel()
	}
	c.mu.Unlock()
	bytes, err := t.measure(ctx, t.path)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.current, c.abort = nil, nil
	t.due = time.Now().Add(c.interval)
	return bytes, err
}

// lowerPriority makes the calling thread the least important one for processor and
// disk. Where that is refused it works as well, only less politely.
func lowerPriority() {
	const (
		ioprioWhoProcess = 1
		lowestBestEffort = 2<<13 | 7 // not idle: that might never be its turn
	)
	_ = unix.Setpriority(unix.PRIO_PROCESS, 0, 19)
	_, _, _ = unix.Syscall(unix.SYS_IOPRIO_SET, ioprioWhoProcess, 0, lowestBestEffort)
}
