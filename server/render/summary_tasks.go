package render

import (
	"runtime"
	"slices"
	"strconv"

	mesos "clusterd/api/mesos/v1"
	"clusterd/server/core"
)

// Tasks are the most of a summary: a hundred thousand of them. They are written by columns:
//
//	"tasks":{"rows":N,"since":S,"columns":{"task_id":[...],"name":[...],...}}
//
// A column is a list of N values, or, instead of a list, the one value that all tasks have.
// What would be long is written short:
//
//	name, executor_id, role   a text, or the number of one that stands before: the n-th text
//	                          that is written out in this column, from 0
//	name                      null: it is the task's id
//	framework, agent, state   places in the lists of these
//	started                   milliseconds since S (in seconds); null: never
//	updated                   milliseconds since the task was started, or else since S
//
// Whether a task is active follows from its state; its container's id, of which there are no
// two alike, is with the task itself (GET task).

// summaryTask is what is written of a task. It is gathered once: the columns are written one
// after the other, and tasks lie about in memory.
type summaryTask struct {
	*core.Task
	id                   string
	framework, agent     int32 // places
	state                mesos.TaskState
	name, executor, role code
	health               health
	sums                 [len(always)]int64
	started, updated     known // since 1970
}

// code stands for a text in a column.
type code int32

const (
	// asText is written out, asID is left to the task's id. Others are numbers of texts.
	asText code = -1
	asID   code = -2
)

// columnBlock is how many values of a column one goroutine writes at a time: they are small.
const columnBlock = 8 * blockWeight

// maxTexts bounds how many texts of a column are remembered, and so found again.
const maxTexts = 1 << 15

// texts numbers those of a column as they are written out.
type texts struct {
	known   map[string]code
	written int
	last    string
	at      code
}

// code returns what is written for a text.
func (t *texts) code(text string) code {
	if t.written > 0 && text == t.last {
		return t.at
	}
	n, ok := t.known[text]
	if ok {
		t.last, t.at = text, n
		return n
	}
	t.last, t.at = text, code(t.written) //nolint:gosec // there are not so many tasks
	if len(t.known) < maxTexts {
		t.known[text] = t.at
	}
	t.written++
	return asText
}

// taskTable is the tasks of a summary.
type taskTable struct {
	tasks                  []summaryTask
	names, executors, role texts
	since                  int64 // when the first was started, in milliseconds; 0: none was
}

func newTaskTable(room int) *taskTable {
	return &taskTable{
		tasks: make([]summaryTask, 0, room),
		names: texts{known: map[string]code{}}, executors: texts{known: map[string]code{}}, role: texts{known: map[string]code{}},
	}
}

// add adds a task, with the places of its framework and its agent.
func (l *taskTable) add(t *core.Task, framework, agent int) {
	s := summaryTask{
		Task: t, id: t.ID, framework: int32(framework), agent: int32(agent), state: t.State, //nolint:gosec // places in lists in memory
		name: asID, executor: l.executors.code(t.ExecutorID), role: l.role.code(t.Role()),
		health: healthOf(t), sums: scalars(t.Resources), started: started(t),
	}
	if t.Name != t.ID {
		s.name = l.names.code(t.Name)
	}
	if last := t.Latest(); last != nil {
		s.updated = millis(last.Timestamp)
	}
	if s.started.ok && (l.since == 0 || s.started.millis < l.since) {
		l.since = s.started.millis
	}
	l.tasks = append(l.tasks, s)
}

// write writes the tasks by columns.
func (l *taskTable) write(p *plan) {
	since := l.since - l.since%1000
	p.text(`{"rows":` + strconv.Itoa(len(l.tasks)) + `,"since":` + strconv.FormatInt(since/1000, 10) + `,"columns":{"task_id":`)
	taskColumn(p, l.tasks, func(t *summaryTask) string { return t.id }, appendString)
	p.text(`,"name":`)
	textColumn(p, l.tasks, func(t *summaryTask) code { return t.name }, func(t *summaryTask) string { return t.Name })
	p.text(`,"framework":`)
	taskColumn(p, l.tasks, func(t *summaryTask) int32 { return t.framework }, appendInt)
	p.text(`,"agent":`)
	taskColumn(p, l.tasks, func(t *summaryTask) int32 { return t.agent }, appendInt)
	p.text(`,"executor_id":`)
	textColumn(p, l.tasks, func(t *summaryTask) code { return t.executor }, func(t *summaryTask) string { return t.ExecutorID })
	p.text(`,"state":`)
	taskColumn(p, l.tasks, func(t *summaryTask) mesos.TaskState { return t.state }, appendInt)
	p.text(`,"role":`)
	textColumn(p, l.tasks, func(t *summaryTask) code { return t.role }, func(t *summaryTask) string { return t.Role() })
	for _, r := range [...]struct {
		name string
		at   int
	}{{"cpus", atCPUs}, {"mem", atMem}, {"disk", atDisk}, {"gpus", atGPUs}} {
		p.text(`,"` + r.name + `":`)
		taskColumn(p, l.tasks, func(t *summaryTask) int64 { return t.sums[r.at] }, appendAmount)
	}
	p.text(`,"healthy":`)
	taskColumn(p, l.tasks, func(t *summaryTask) health { return t.health }, func(dst []byte, h health) []byte { return append(dst, healths[h]...) })
	p.text(`,"started":`)
	taskColumn(p, l.tasks, func(t *summaryTask) known { return t.started.after(known{since, true}) }, appendKnown)
	p.text(`,"updated":`)
	taskColumn(p, l.tasks, func(t *summaryTask) known {
		if t.started.ok {
			return t.updated.after(t.started)
		}
		return t.updated.after(known{since, true})
	}, appendKnown)
	p.text("}}")
}

func appendInt[N ~int32](dst []byte, n N) []byte { return strconv.AppendInt(dst, int64(n), 10) }

// taskColumn writes the values of all tasks, or the one that they all have.
func taskColumn[V comparable](p *plan, tasks []summaryTask, value func(*summaryTask) V, write func([]byte, V) []byte) {
	same := len(tasks) > 0
	for i := 1; same && i < len(tasks); i++ {
		same = value(&tasks[i]) == value(&tasks[0])
	}
	if same {
		p.do(1, func(to *sink) { to.buf = write(to.buf, value(&tasks[0])) })
		return
	}
	p.text("[")
	first := true
	for part := range slices.Chunk(tasks, columnBlock) {
		comma := !first
		first = false
		p.do(blockWeight, func(to *sink) {
			for i := range part {
				if to.roll(); comma || i > 0 {
					to.buf = append(to.buf, ',')
				}
				to.buf = write(to.buf, value(&part[i]))
				if i%(8*yieldEvery) == 0 {
					runtime.Gosched()
				}
			}
		})
	}
	p.text("]")
}

// coded is a text, or what stands for it.
type coded struct {
	code code
	text string // only of asText
}

// textColumn writes texts by their codes; the one text of all is written out.
func textColumn(p *plan, tasks []summaryTask, of func(*summaryTask) code, text func(*summaryTask) string) {
	alike := len(tasks) > 0
	for i := 1; alike && i < len(tasks); i++ {
		// The first is written out, or is its id; the others are that once more if they are alike.
		first, c := of(&tasks[0]), of(&tasks[i])
		alike = first == asText && c == 0 || first == asID && c == asID
	}
	if alike {
		tasks = tasks[:1]
	}
	taskColumn(p, tasks, func(t *summaryTask) coded {
		if c := of(t); c != asText {
			return coded{code: c}
		}
		return coded{asText, text(t)}
	}, appendCoded)
}

func appendCoded(dst []byte, c coded) []byte {
	switch c.code {
	case asText:
		return appendString(dst, c.text)
	case asID:
		return append(dst, "null"...)
	default:
		return strconv.AppendInt(dst, int64(c.code), 10)
	}
}

// known is a time in milliseconds, if it is known.
type known struct {
	millis int64
	ok     bool
}

// after is how much later a time is than another.
func (k known) after(o known) known {
	if !k.ok {
		return known{}
	}
	return known{k.millis - o.millis, true}
}

func appendKnown(dst []byte, k known) []byte {
	if !k.ok {
		return append(dst, "null"...)
	}
	return strconv.AppendInt(dst, k.millis, 10)
}

// millis are seconds as milliseconds, unless they are not known, or no number at all.
func millis(seconds float64) known {
	if seconds > 0 && seconds < 1<<40 {
		return known{int64(seconds*1000 + 0.5), true}
	}
	return known{}
}

// started is when a task began to run, or else when it was first heard of.
func started(t *core.Task) known {
	for i := range t.Statuses {
		if t.Statuses[i].State == mesos.TaskState_TASK_RUNNING {
			return millis(t.Statuses[i].Timestamp)
		}
	}
	if len(t.Statuses) > 0 {
		return millis(t.Statuses[0].Timestamp)
	}
	return known{}
}

// health is what the last health check said.
type health uint8

const (
	unknown health = iota
	sick
	well
)

var healths = [...]string{unknown: "null", sick: "false", well: "true"}

func healthOf(t *core.Task) health {
	last := t.Latest()
	switch {
	case last == nil || !last.HasHealth:
		return unknown
	case last.Healthy:
		return well
	default:
		return sick
	}
}
