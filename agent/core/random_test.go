package core_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"clusterd/agent/core"
	clusterdv1 "clusterd/api/clusterd/v1"
	"clusterd/api/mesos/v1/executor"
)

// history plays random inputs, sensible and not, with kills of the agent in
// between, and keeps book of what must come out of it.
type history struct {
	*world
	t   *testing.T
	rng *rand.Rand
	log strings.Builder

	n       int // for fresh names
	tasks   []string
	execs   []string
	open    map[string]core.StreamID // executors with a stream
	waiting []string                 // containers being launched
	resizes []string
	linked  bool
	epoch   int // of the leader that gossip knows
	// taken are the updates that were made durable, by task, in order.
	taken map[string][]string
	// sent are those that the master was sent, by task, each once.
	sent map[string][]string
	// pending is the last update of each task that waits for its acknowledgement.
	pending map[string]string
	alive   map[string]bool // containers
}

func newHistory(t *testing.T, seed uint64) *history {
	return &history{
		world: newWorld(), t: t, rng: rand.New(rand.NewPCG(seed, 1)),
		open: map[string]core.StreamID{}, taken: map[string][]string{}, sent: map[string][]string{},
		pending: map[string]string{}, alive: map[string]bool{},
	}
}

func (h *history) play(format string, a ...any) {
	line := fmt.Sprintf(format, a...)
	out := h.line(line)
	fmt.Fprintf(&h.log, "> %s\n%s", line, out)
	h.check()
}

// check looks at the effects of one input.
func (h *history) check() {
	durable := map[string]bool{}
	for _, e := range h.raw {
		switch e := e.(type) {
		case core.Persist:
			if u, ok := e.Record.(core.AppendUpdate); ok && u.Update.GetStatus() != nil {
				uuid := string(u.Update.GetStatus().GetUuid())
				durable[uuid] = true
				h.taken[u.TaskID] = append(h.taken[u.TaskID], uuid)
			}
		case core.SendMaster:
			if u, ok := e.Message.GetMessage().(*clusterdv1.AgentMessage_UpdateTask); ok {
				h.sentUpdate(u.UpdateTask)
			}
		case core.SendExecutor:
			if e.Event.GetType() == executor.Event_ACKNOWLEDGED {
				h.acknowledged(e.Event.GetAcknowledged(), durable)
			}
		case core.LaunchContainer:
			c := h.name("c", e.ContainerID.GetValue())
			h.alive[c] = true
			h.waiting = append(h.waiting, c)
		case core.UpdateContainer:
			h.resizes = append(h.resizes, fmt.Sprintf("resized container=%s token=%d", h.name("c", e.ContainerID.GetValue()), e.Token))
		case core.CloseLink:
			h.linked = false
		case core.OpenStream:
		}
	}
}

func (h *history) sentUpdate(u *clusterdv1.UpdateTask) {
	task, uuid := u.GetStatus().GetTaskId().GetValue(), string(u.GetStatus().GetUuid())
	if !slices.Contains(h.sent[task], uuid) {
		h.sent[task] = append(h.sent[task], uuid)
	}
	h.pending[task] = uuid
}

// acknowledged: what an executor was told is kept must be on the disk already,
// by this input or one before.
func (h *history) acknowledged(a *executor.Event_Acknowledged, durable map[string]bool) {
	task, uuid := a.GetTaskId().GetValue(), string(a.GetUuid())
	if durable[uuid] || slices.Contains(h.taken[task], uuid) {
		return
	}
	// Refused (the task has ended) or of no task of a checkpointing executor: the
	// transcripts show these. A task that lives may not be among them.
	for _, fw := range h.core.View().Frameworks {
		for _, e := range fw.Executors {
			for _, t := range e.Launched {
				if t.GetTaskId().GetValue() == task {
					h.t.Fatalf("acknowledged %s of %s, which is not durable\n%s", h.name("u", uuid), task, h.log.String())
				}
			}
		}
	}
}

func pick[T any](h *history, from []T) (v T, ok bool) {
	if len(from) == 0 {
		return v, false
	}
	return from[h.rng.IntN(len(from))], true
}

func (h *history) fresh(kind string) string {
	h.n++
	return fmt.Sprintf("%s%d", kind, h.n)
}

func (h *history) step() {
	switch p := h.rng.IntN(100); {
	case p < 12 && h.linked:
		task := h.fresh("t")
		h.tasks = append(h.tasks, task)
		if h.rng.IntN(2) == 0 {
			h.execs = append(h.execs, task)
			h.play("run task=%s", task)
			return
		}
		exec := h.fresh("e")
		if e, ok := pick(h, h.execs); ok && h.rng.IntN(2) == 0 {
			h.play("run executor=%s task=%s existing", e, task)
			return
		}
		h.execs = append(h.execs, exec)
		h.play("run executor=%s task=%s", exec, task)
	case p < 20 && len(h.waiting) > 0:
		c := h.waiting[0]
		h.waiting = h.waiting[1:]
		if h.rng.IntN(8) == 0 {
			delete(h.alive, c)
			h.play("launched container=%s error=boom", c)
		} else {
			h.play("launched container=%s", c)
		}
	case p < 32:
		if e, ok := pick(h, h.execs); ok {
			h.subscribeOf(e)
		}
	case p < 60:
		h.update()
	case p < 66 && len(h.resizes) > 0:
		r := h.resizes[0]
		h.resizes = h.resizes[1:]
		if h.rng.IntN(10) == 0 {
			r += " error=cgroup"
		}
		h.play("%s", r)
	case p < 78:
		h.ackSome()
	case p < 82:
		if t, ok := pick(h, h.tasks); ok {
			h.play("kill task=%s", t)
		}
	case p < 84:
		if e, ok := pick(h, h.execs); ok {
			h.play("shutdown-executor executor=%s", e)
		}
	case p < 87:
		h.endContainer()
	case p < 91:
		h.play("advance by=%ds", h.rng.IntN(40))
	case p < 95:
		h.relink()
	case p < 96:
		h.crash()
	case p < 97:
		h.play("drain grace=%ds", h.rng.IntN(3))
		if h.rng.IntN(2) == 0 {
			h.play("cancel-drain")
		}
	case p < 98:
		h.epoch = h.rng.IntN(5)
		h.play("leader epoch=%d", h.epoch)
		h.linked = h.core.View().Phase == "RUNNING"
	default:
		h.play("ping")
	}
}

// subscribeOf: the executor knows of whatever of its tasks it may.
func (h *history) subscribeOf(e string) {
	var known []string
	for _, t := range h.tasks {
		if h.rng.IntN(3) > 0 {
			known = append(known, t)
		}
	}
	line := "subscribe executor=" + e
	if len(known) > 0 {
		line += " tasks=" + strings.Join(known, ",")
	}
	h.play("%s", line)
}

func (h *history) update() {
	task, ok := pick(h, h.tasks)
	if !ok {
		return
	}
	exec := task
	if !slices.Contains(h.execs, task) || h.rng.IntN(10) == 0 {
		exec, _ = pick(h, h.execs)
	}
	state := []string{"STARTING", "RUNNING", "RUNNING", "FINISHED", "FAILED"}[h.rng.IntN(5)]
	uuid := h.fresh("x")
	if old := h.taken[task]; len(old) > 0 && h.rng.IntN(5) == 0 {
		uuid = strings.TrimRight(old[h.rng.IntN(len(old))], "-")
		if len(uuid) == 16 {
			return // one of the agent's own
		}
	}
	h.play("update executor=%s task=%s state=%s uuid=%s", exec, task, state, uuid)
}

func (h *history) ackSome() {
	var tasks []string
	for _, t := range h.tasks {
		if _, ok := h.pending[t]; ok {
			tasks = append(tasks, t)
		}
	}
	task, ok := pick(h, tasks)
	if !ok || !h.linked {
		return
	}
	uuid := h.pending[task]
	delete(h.pending, task)
	h.play("ack task=%s uuid=%s", task, h.name("u", uuid))
}

func (h *history) endContainer() {
	var cs []string
	for c := range h.alive {
		if !slices.Contains(h.waiting, c) {
			cs = append(cs, c)
		}
	}
	slices.Sort(cs)
	if c, ok := pick(h, cs); ok {
		delete(h.alive, c)
		h.play("terminated container=%s status=%d", c, h.rng.IntN(3))
	}
}

func (h *history) relink() {
	if h.linked {
		h.linked = false
		h.play("down")
		return
	}
	h.play("advance by=2m")
	h.play("up")
	if epoch := h.rng.IntN(5); epoch > 0 && h.rng.IntN(2) == 0 {
		// It may be a leader that was deposed, which the agent leaves again.
		h.play("registered cluster=C masters=m%d epoch=%d", epoch, epoch)
		if got, want := h.core.View().Phase == "RUNNING", epoch >= h.epoch; got != want {
			h.t.Fatalf("registered with leadership %d while gossip knows %d: running is %v, want %v\n%s",
				epoch, h.epoch, got, want, h.log.String())
		}
	} else {
		h.play("registered")
	}
	h.linked = h.core.View().Phase == "RUNNING"
}

// crash kills the agent: containers go on, or have ended meanwhile; launches and
// resizes that were under way are nobody's any more.
func (h *history) crash() {
	for _, c := range h.waiting {
		if h.rng.IntN(2) == 0 {
			delete(h.alive, c)
		}
	}
	h.waiting, h.resizes, h.linked, h.epoch = nil, nil, false, 0
	h.play("crash")
	h.play("recovered")
	// The containerizer reports the end of what it does not find.
	for _, l := range h.core.Containers() {
		if c := h.name("c", l.ContainerID.GetValue()); !h.alive[c] {
			h.play("terminated container=%s", c)
		}
	}
}

// settle lets everything end: all containers, all acknowledgements.
func (h *history) settle() {
	for range 200 {
		if !h.linked {
			h.relink()
		}
		for len(h.waiting) > 0 {
			c := h.waiting[0]
			h.waiting = h.waiting[1:]
			h.play("launched container=%s", c)
		}
		for len(h.resizes) > 0 {
			r := h.resizes[0]
			h.resizes = h.resizes[1:]
			h.play("%s", r)
		}
		for len(h.alive) > 0 {
			h.endContainer()
		}
		h.play("ping")
		h.play("advance by=30s")
		for range h.tasks {
			h.ackSome()
		}
		if len(h.core.View().Frameworks) == 0 && len(h.pending) == 0 && h.linked {
			return
		}
	}
	h.t.Fatalf("it does not come to rest:\n%s\n%s", describe(h.core.View()), h.log.String())
}

func (h *history) run(steps int) {
	h.play("new")
	h.play("recovered")
	h.relink()
	for range steps {
		h.step()
	}
	h.settle()
}

// TestRandomHistories checks, through kills of the agent, that what was
// acknowledged to an executor is durable, that everything durable reaches the
// master, in order for each task, and that nothing is left when all have ended.
func TestRandomHistories(t *testing.T) {
	seeds := 300
	if testing.Short() {
		seeds = 50
	}
	for seed := range uint64(seeds) {
		h := newHistory(t, seed)
		h.run(150)
		for task, taken := range h.taken {
			// What the agent reported on its own and was not durable may be between.
			var got []string
			for _, uuid := range h.sent[task] {
				if slices.Contains(taken, uuid) {
					got = append(got, uuid)
				}
			}
			// After a terminal status that was acknowledged nothing follows.
			if len(got) > len(taken) || !slices.Equal(got, taken[:len(got)]) {
				t.Fatalf("seed %d: task %s: durable %q, sent %q\n%s", seed, task, taken, got, h.log.String())
			}
			if len(got) < len(taken) {
				t.Fatalf("seed %d: task %s: durable %q, of which only %q reached the master\n%s", seed, task, taken, got, h.log.String())
			}
		}
		kept, _, err := h.disk.Load(true)
		if err != nil || len(kept.Tasks)+len(kept.Executors)+len(kept.Frameworks) != 0 {
			t.Fatalf("seed %d: left on the disk: %+v, %v\n%s", seed, kept, err, h.log.String())
		}
	}
}

// TestDeterminism plays histories twice: the same inputs give the same effects.
func TestDeterminism(t *testing.T) {
	for seed := range uint64(20) {
		a, b := newHistory(t, seed), newHistory(t, seed)
		a.run(200)
		b.run(200)
		if a.log.String() != b.log.String() {
			t.Fatalf("seed %d: two runs differ", seed)
		}
	}
}
