package work

import (
	"context"
	"sync"
	"time"

	"clusterd/api/client/operator"
	clusterdv1 "clusterd/api/clusterd/v1"
	mesos "clusterd/api/mesos/v1"
	"clusterd/api/mesos/v1/master"
	"clusterd/internal/cli/console"
)

const (
	// absence is for how long a task must be unknown to a new leader before it counts as ended:
	// its agent may yet bring it.
	absence = time.Minute
	// lookAgain is how often a new leader is asked in that time.
	lookAgain = 5 * time.Second
)

// key is a task: ids are those of one framework.
type key struct{ framework, task string }

func keyOf(t *mesos.Task) key { return key{t.GetFrameworkId().GetValue(), t.GetTaskId().GetValue()} }

// watcher hears of the end of tasks, by the leader's events.
type watcher struct {
	cluster *console.Cluster
	// added, if given, is called for every task that is new.
	added func(t *mesos.Task)

	mu   sync.Mutex // mu guards ends.
	ends map[key]chan struct{}
}

func newWatcher(cl *console.Cluster) *watcher {
	return &watcher{cluster: cl, ends: map[key]chan struct{}{}}
}

// ended is closed when the task has ended.
func (w *watcher) ended(k key) <-chan struct{} { return w.end(k) }

func (w *watcher) end(k key) chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ends[k] == nil {
		w.ends[k] = make(chan struct{})
	}
	return w.ends[k]
}

func (w *watcher) close(k key) {
	c := w.end(k)
	select {
	case <-c:
	default:
		close(c)
	}
}

// waiting are the tasks that somebody waits for.
func (w *watcher) waiting() map[key]bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := map[key]bool{}
	for k, c := range w.ends {
		select {
		case <-c:
		default:
			out[k] = true
		}
	}
	return out
}

// events are what there is to hear.
var events = []clusterdv1.OperatorEvent_Type{
	clusterdv1.OperatorEvent_TASK_ADDED, clusterdv1.OperatorEvent_TASK_UPDATED, clusterdv1.OperatorEvent_FRAMEWORK_REMOVED,
}

// run listens until ctx is done. ready is called once it does: what is asked of the
// cluster after it misses nothing.
func (w *watcher) run(ctx context.Context, ready func()) error {
	// A stream is tried for ever; somebody waits to hear that there is nobody.
	if _, err := w.cluster.Ask(ctx, master.Call_GET_VERSION); err != nil {
		return err
	}
	started := false
	again := time.NewTimer(0)
	again.Stop()
	defer again.Stop()
	var since time.Time
	heard := make(chan *clusterdv1.OperatorEvent)
	failed := make(chan error, 1)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		for e, err := range w.cluster.Events(ctx, operator.EventsOptions{Types: events, Bare: true}) {
			if err != nil {
				failed <- err
				return
			}
			select {
			case heard <- e:
			case <-ctx.Done():
				return
			}
		}
	}()
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-failed:
			if ctx.Err() != nil {
				return nil
			}
			return err
		case <-again.C:
			if !w.check(ctx, time.Since(since) > absence) {
				again.Reset(lookAgain)
			}
		case e := <-heard:
			if e.GetType() == clusterdv1.OperatorEvent_SUBSCRIBED {
				if !started {
					started = true
					ready()
				} else if !e.GetSubscribed().GetResumed() {
					since = time.Now() // what happened in between is not told
					again.Reset(0)
				}
				continue
			}
			w.hear(e)
		}
	}
}

func (w *watcher) hear(e *clusterdv1.OperatorEvent) {
	switch e.GetType() {
	case clusterdv1.OperatorEvent_TASK_ADDED:
		if w.added != nil {
			w.added(e.GetTaskAdded().GetTask())
		}
	case clusterdv1.OperatorEvent_TASK_UPDATED:
		u := e.GetTaskUpdated()
		if console.Terminal(u.GetState()) || console.Terminal(u.GetStatus().GetState()) {
			w.close(key{u.GetFrameworkId().GetValue(), u.GetStatus().GetTaskId().GetValue()})
		}
	case clusterdv1.OperatorEvent_FRAMEWORK_REMOVED:
		id := e.GetFrameworkRemoved().GetFrameworkInfo().GetId().GetValue()
		for k := range w.waiting() {
			if k.framework == id {
				w.close(k)
			}
		}
	default:
	}
}

// check asks for the tasks that are waited for, and tells whether all are known.
func (w *watcher) check(ctx context.Context, last bool) bool {
	tasks, err := w.cluster.Tasks(ctx)
	if err != nil {
		return false
	}
	waiting := w.waiting()
	for _, t := range tasks {
		k := keyOf(t.Task)
		if waiting[k] && (t.Ended || console.Terminal(t.GetState())) {
			w.close(k)
		}
		delete(waiting, k)
	}
	if last {
		for k := range waiting {
			w.close(k)
		}
	}
	return len(waiting) == 0 || last
}
