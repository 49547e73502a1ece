package top

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	tea "charm.land/bubbletea/v2"
	"charm.land/lipgloss/v2"
	"google.golang.org/protobuf/proto"

	clusterdv1 "clusterd/api/clusterd/v1"
	mesos "clusterd/api/mesos/v1"
	"clusterd/api/mesos/v1/master"
	"clusterd/internal/cli/console"
)

// small is a cluster of two agents, two frameworks and four tasks, as a leader tells it.
const small = `{"token":"m:7","cluster":"prod","leader":{"hostname":"m1","port":5050},
"states":["TASK_RUNNING","TASK_FAILED","TASK_STAGING"],
"agents":[{"id":"S0","hostname":"alpha","state":"ACTIVE","total":{"cpus":4,"mem":1000}},{"id":"S1","hostname":"beta","state":"DRAINING","total":{"cpus":2,"mem":500}}],
"frameworks":[{"id":"F0","name":"marathon","user":"root","roles":["web"],"active":true,"connected":true},{"id":"F1","name":"spark","user":"bob","roles":["batch"],"active":true,"connected":false}],
"tasks":{"rows":4,"since":1700000000,"columns":{"task_id":["web.1","web.2","old.1","new.1"],"name":["web",0,"old","new"],
"framework":[0,0,1,1],"agent":[0,1,0,0],"executor_id":"","state":[0,0,1,2],"role":["web",0,"batch",1],
"cpus":[1,0.5,2,1],"mem":[100,100,200,50],"disk":0,"gpus":0,"healthy":[true,false,null,null],
"started":[0,0,0,null],"updated":[10000,20000,5000,30000],"newer":1}}}`

func worldOf(t *testing.T, text string) *world {
	t.Helper()
	var s summary
	if err := json.Unmarshal([]byte(text), &s); err != nil {
		t.Fatal(err)
	}
	w, err := newWorld(&s)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// acts is a backend that remembers what was asked for.
type acts struct{ asked []string }

func (a *acts) note(format string, args ...any) tea.Cmd {
	text := fmt.Sprintf(format, args...)
	return func() tea.Msg {
		a.asked = append(a.asked, text)
		return doneMsg{text: text}
	}
}

func (a *acts) kill(t *task) tea.Cmd   { return a.note("kill %s", t.id) }
func (a *acts) drain(g *agent) tea.Cmd { return a.note("drain %s", g.host) }
func (a *acts) read(t *task, file string, offset int64) tea.Cmd {
	return a.note("read %s of %s at %d", file, t.id, offset)
}

// screenOf is what a person would read.
func screenOf(m *model) string {
	var b strings.Builder
	for _, line := range m.screen() {
		b.WriteString(strings.TrimRight(plain(line), " ") + "\n")
	}
	return b.String()
}

// plain takes styles out.
func plain(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == 0x1b {
			for i < len(s) && s[i] != 'm' {
				i++
			}
			continue
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// presses sends keys by their names; commands that they give are run, and their messages
// taken, but for the clock's.
func presses(m *model, keys ...string) {
	for _, k := range keys {
		key := tea.Key{Code: []rune(k)[0], Text: k}
		switch k {
		case "enter":
			key = tea.Key{Code: tea.KeyEnter}
		case "esc":
			key = tea.Key{Code: tea.KeyEscape}
		case "tab":
			key = tea.Key{Code: tea.KeyTab}
		case "down":
			key = tea.Key{Code: tea.KeyDown}
		case "backspace":
			key = tea.Key{Code: tea.KeyBackspace}
		}
		_, cmd := m.Update(tea.KeyPressMsg(key))
		if cmd != nil {
			if msg := cmd(); msg != nil {
				m.Update(msg)
			}
		}
	}
}

func opened(t *testing.T) (*model, *acts) {
	t.Helper()
	a := &acts{}
	m := newModel(a, clusterTab)
	m.now = time.Unix(1700000060, 0)
	m.Update(tea.WindowSizeMsg{Width: 90, Height: 14})
	m.take(worldOf(t, small).snapshot())
	return m, a
}

func TestClusterScreen(t *testing.T) {
	m, _ := opened(t)
	m.Update(tea.WindowSizeMsg{Width: 90, Height: 16})
	got := screenOf(m)
	for _, want := range []string{
		" 1 Cluster  2 Agents  3 Frameworks  4 Tasks   prod m1:5050\n",
		"CPUs    ███████████████████░░░░░░░░░░░░░░░░░░░░░░░░░░░  42% 2.5/6\n",
		"Agents      1 active  1 draining\n",
		"Frameworks  1 active  1 disconnected\n",
		"Tasks       2 running  1 failed  1 staging\n",
		"nothing has happened\n",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("it lacks %q:\n%s", want, got)
		}
	}
}

// TestTables shows each table, sorted in both directions.
func TestTables(t *testing.T) {
	m, _ := opened(t)
	presses(m, "2")
	want := ` 1 Cluster  2 Agents  3 Frameworks  4 Tasks   prod m1:5050
HOST↑                          STATE         TASKS         CPUS           MEM MB    SINCE
alpha                          active            2          2/4         150/1000
beta                           draining          1        0.5/2          100/500
`
	if got := screenOf(m); !strings.HasPrefix(got, want) {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	presses(m, ">", ">", "r") // by tasks, the fewest first
	if got := screenOf(m); strings.Index(got, "beta") > strings.Index(got, "alpha") {
		t.Errorf("not sorted by tasks:\n%s", got)
	}
	presses(m, "tab")
	if got := screenOf(m); !strings.Contains(got, "marathon") || !strings.Contains(got, "disconnected") {
		t.Errorf("frameworks:\n%s", got)
	}
	presses(m, "4")
	// The latest change first.
	if got := screenOf(m); strings.Index(got, "new.1") > strings.Index(got, "web.2") || strings.Index(got, "web.2") > strings.Index(got, "web.1") {
		t.Errorf("tasks are not sorted by change:\n%s", got)
	}
}

func TestFilterAndDrillDown(t *testing.T) {
	m, _ := opened(t)
	presses(m, "4", "/", "w", "e", "b", "x", "backspace", "enter")
	if got := screenOf(m); strings.Contains(got, "old.1") || !strings.Contains(got, "web.1") || !strings.Contains(got, "filter: web") {
		t.Errorf("filtered:\n%s", got)
	}
	presses(m, "esc")
	if got := screenOf(m); !strings.Contains(got, "old.1") {
		t.Errorf("the filter is still there:\n%s", got)
	}
	presses(m, "2", "down", "enter") // the tasks of beta
	if got := screenOf(m); !strings.Contains(got, "1 tasks on beta") || strings.Contains(got, "web.1") || !strings.Contains(got, "web.2") {
		t.Errorf("tasks of an agent:\n%s", got)
	}
	m.Update(tea.WindowSizeMsg{Width: 90, Height: 24})
	presses(m, "enter")
	got := screenOf(m)
	for _, want := range []string{"web.2", "State      running", "Health     unhealthy", "Framework  marathon  F0", "Agent      beta  S1", "Changed    40s ago"} {
		if !strings.Contains(got, want) {
			t.Errorf("the task lacks %q:\n%s", want, got)
		}
	}
	presses(m, "esc", "esc")
	if m.tab != agentsTab {
		t.Errorf("back from an agent's tasks is tab %d", m.tab)
	}
}

// TestActs: nothing is done before the answer, nor with another answer than y, nor without
// the right to.
func TestActs(t *testing.T) {
	m, a := opened(t)
	presses(m, "4", "/", "w", "e", "b", ".", "1", "enter", "K")
	if got := screenOf(m); !strings.Contains(got, "Kill task web.1 on alpha? Its framework, marathon, may start another. (y/n)") {
		t.Errorf("the question:\n%s", got)
	}
	presses(m, "n")
	if len(a.asked) != 0 {
		t.Fatalf("done without a yes: %q", a.asked)
	}
	presses(m, "K", "y")
	presses(m, "2", "D", "y")
	if got := fmt.Sprint(a.asked); got != "[kill web.1 drain alpha]" {
		t.Errorf("asked for %s", got)
	}
	m.may = func(string) bool { return false }
	presses(m, "D", "y", "4", "K", "y")
	if len(a.asked) != 2 {
		t.Errorf("done without the right: %q", a.asked)
	}
	m.may = func(string) bool { return true }
	presses(m, "esc", "/", "o", "l", "d", "enter", "K")
	if got := screenOf(m); !strings.Contains(got, "it has ended already") {
		t.Errorf("a task that has ended:\n%s", got)
	}
	m.Update(doneMsg{"kill", errors.New("403 Forbidden\nmore")})
	if got := screenOf(m); !strings.Contains(got, "not done: 403 Forbidden") {
		t.Errorf("a refusal:\n%s", got)
	}
}

// TestLog follows a file, across its being replaced, and holds still while one reads above.
func TestLog(t *testing.T) {
	m, a := opened(t)
	presses(m, "4", "/", "w", "e", "b", ".", "1", "enter", "enter", "enter")
	if got := fmt.Sprint(a.asked); got != "[read stdout of web.1 at -1]" {
		t.Fatalf("asked for %s", got)
	}
	bring := func(text string, next int64, restarted bool) {
		m.Update(logMsg{task: m.task.key(), file: "stdout", data: []byte(text), next: next, restarted: restarted})
	}
	bring("one\ntwo\x1b[2J\nthr", 11, false)
	got := screenOf(m)
	for _, want := range []string{"stdout of web.1, following\n", "one\n", "thr\n"} {
		if !strings.Contains(got, want) {
			t.Errorf("it lacks %q:\n%s", want, got)
		}
	}
	if strings.Contains(strings.Join(m.screen(), ""), "\x1b[2J") {
		t.Error("a log clears the screen")
	}
	bring("ee\n"+strings.Repeat("more\n", 40), 300, false)
	presses(m, "g")
	if got := screenOf(m); !strings.Contains(got, "\none\n") || !strings.Contains(got, "above the end") {
		t.Errorf("at the beginning:\n%s", got)
	}
	bring("last\n", 305, false)
	if got := screenOf(m); !strings.Contains(got, "\none\n") {
		t.Errorf("it moved under the reader:\n%s", got)
	}
	presses(m, "G")
	bring("", 0, true)
	bring("anew\n", 5, false)
	if got := screenOf(m); !strings.Contains(got, "begins anew") || !strings.Contains(got, "\nanew\n") {
		t.Errorf("a file that was replaced:\n%s", got)
	}
	m.Update(logMsg{task: m.task.key(), file: "stdout", err: errors.New("404 Not Found")})
	if got := screenOf(m); !strings.Contains(got, "404 Not Found") {
		t.Errorf("an error:\n%s", got)
	}
	m.Update(logMsg{task: "another", file: "stdout", data: []byte("wrong\n")})
	if got := screenOf(m); strings.Contains(got, "wrong") {
		t.Errorf("another task's log:\n%s", got)
	}
}

// TestEvents: the world follows events.
func TestEvents(t *testing.T) {
	w := worldOf(t, small)
	now := time.Unix(1700000100, 0)
	apply := func(e *clusterdv1.OperatorEvent) {
		t.Helper()
		if !w.apply(e, now) {
			t.Fatalf("%v: too much was missed", e.GetType())
		}
	}
	apply(&clusterdv1.OperatorEvent{Type: clusterdv1.OperatorEvent_TASK_UPDATED.Enum(), Token: new("m:8"), TaskUpdated: &master.Event_TaskUpdated{
		FrameworkId: console.FrameworkID("F0"), State: mesos.TaskState_TASK_FINISHED.Enum(),
		Status: &mesos.TaskStatus{TaskId: &mesos.TaskID{Value: new("web.1")}, State: mesos.TaskState_TASK_FINISHED.Enum()},
	}})
	apply(&clusterdv1.OperatorEvent{Type: clusterdv1.OperatorEvent_TASK_ADDED.Enum(), TaskAdded: &master.Event_TaskAdded{Task: &mesos.Task{
		Name: new("x"), TaskId: &mesos.TaskID{Value: new("x.1")}, FrameworkId: console.FrameworkID("F0"), AgentId: console.AgentID("S1"), State: mesos.TaskState_TASK_STAGING.Enum(),
		Resources: []*mesos.Resource{{Name: new("cpus"), Type: mesos.Value_SCALAR.Enum(), Scalar: &mesos.Value_Scalar{Value: proto.Float64(1)}}},
	}}})
	apply(&clusterdv1.OperatorEvent{Type: clusterdv1.OperatorEvent_AGENT_REMOVED.Enum(), AgentRemoved: &master.Event_AgentRemoved{AgentId: console.AgentID("S0")}})
	apply(&clusterdv1.OperatorEvent{Type: clusterdv1.OperatorEvent_FRAMEWORK_REMOVED.Enum(), FrameworkRemoved: &master.Event_FrameworkRemoved{
		FrameworkInfo: &mesos.FrameworkInfo{Id: console.FrameworkID("F1"), Name: new("spark"), User: new("bob")},
	}})
	s := w.snapshot()
	if w.token != "m:8" || len(s.agents) != 1 || len(s.tasks) != 5 || s.frameworks[1].state != "completed" {
		t.Errorf("got token %s, %d agents, %d tasks, spark %s", w.token, len(s.agents), len(s.tasks), s.frameworks[1].state)
	}
	if got := s.agents[0]; got.tasks != 2 || got.used.cpus != 1.5 {
		t.Errorf("beta has %d tasks with %v cpus, want 2 with 1.5", got.tasks, got.used.cpus)
	}
	if len(s.recent) != 3 || !strings.HasSuffix(s.recent[0], "task web.1 is finished") {
		t.Errorf("told: %q", s.recent)
	}
	if w.apply(&clusterdv1.OperatorEvent{Type: clusterdv1.OperatorEvent_SUBSCRIBED.Enum(), Subscribed: &clusterdv1.OperatorEvent_Subscribed{}}, now) {
		t.Error("a stream that was not resumed goes on")
	}
}

// TestLost: what is shown stays while the leader is away, and says so.
func TestLost(t *testing.T) {
	m, _ := opened(t)
	presses(m, "4")
	m.Update(lostMsg{errors.New("no master answers\nmore")})
	if got := screenOf(m); !strings.Contains(got, "lost: no master answers") || !strings.Contains(got, "web.1") {
		t.Errorf("lost:\n%s", got)
	}
	s := worldOf(t, strings.Replace(small, `"m1"`, `"m2"`, 1)).snapshot()
	m.Update(snapshotMsg{s})
	if got := screenOf(m); !strings.Contains(got, "master m2:5050 leads now") || strings.Contains(got, "lost:") {
		t.Errorf("found again:\n%s", got)
	}
}

// TestSizes: no screen has a line too many or too wide, down to the smallest.
func TestSizes(t *testing.T) {
	m, _ := opened(t)
	for _, size := range [][2]int{{300, 100}, {100, 30}, {80, 24}, {40, 8}, {20, 3}} {
		m.Update(tea.WindowSizeMsg{Width: size[0], Height: size[1]})
		for _, key := range []string{"1", "2", "3", "4"} {
			presses(m, key)
			lines := m.screen()
			if len(lines) > size[1] {
				t.Errorf("tab %s at %v has %d lines", key, size, len(lines))
			}
			if size[0] < 80 {
				continue // the terminal cuts off what is wider
			}
			for _, line := range lines {
				if w := lipgloss.Width(line); w > size[0] {
					t.Errorf("tab %s at %v has a line of %d: %q", key, size, w, plain(line))
				}
			}
		}
	}
}

// TestHostileNames: names are other people's.
func TestHostileNames(t *testing.T) {
	m := newModel(&acts{}, tasksTab)
	m.take(worldOf(t, strings.ReplaceAll(small, "web.1", `\u001b[31mred\u0007\n`)).snapshot())
	for _, line := range m.screen() {
		if strings.ContainsAny(plain(line), "\x07\n") || strings.Contains(line, "\x1b[31mred") {
			t.Errorf("a name reaches the terminal: %q", line)
		}
	}
}

// BenchmarkScreen is what a change costs at 10,000 agents and 100,000 tasks.
func BenchmarkScreen(b *testing.B) {
	w := &world{agents: map[string]*agent{}, frameworks: map[string]*framework{"F": {id: "F"}}, tasks: map[string]*task{}}
	for i := range 10_000 {
		id := fmt.Sprint("S", i)
		w.agents[id] = &agent{id: id, host: id, state: "active"}
	}
	for i := range 100_000 {
		t := &task{id: fmt.Sprint("t", i), framework: "F", agent: fmt.Sprint("S", i%10_000), state: "running", live: true, updated: time.Unix(int64(i), 0)}
		w.tasks[t.key()] = t
	}
	m := newModel(&acts{}, tasksTab)
	for b.Loop() {
		m.take(w.snapshot())
		_ = m.screen()
	}
}
