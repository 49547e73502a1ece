package top

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	tea "charm.land/bubbletea/v2"
)

// tab is what is shown.
type tab int

const (
	clusterTab tab = iota
	agentsTab
	frameworksTab
	tasksTab
)

var tabNames = []string{"Cluster", "Agents", "Frameworks", "Tasks"}

func tabNamed(name string) (tab, bool) {
	i := slices.IndexFunc(tabNames, func(n string) bool { return strings.EqualFold(n, name) })
	return tab(i), i >= 0
}

// mode is what keys are for.
type mode int

const (
	browsing mode = iota
	filtering
	confirming
	helping
	looking // at a task
	reading // its log
)

// model is the screen. Update is pure: it changes the model as messages say, and what is to
// be done in the world it returns as commands of the backend.
type model struct {
	back          backend
	may           func(action string) bool
	snap          *snapshot
	now           time.Time
	width, height int

	tab        tab
	mode       mode
	agents     grid[*agent]
	frameworks grid[*framework]
	tasks      grid[*task]
	filter     [4]string
	// only narrows the tasks to those of an agent or a framework, by id; onlyName says so.
	onlyAgent, onlyFramework, onlyName string

	task   *task // that is looked at
	log    pager
	ask    string  // the question
	answer tea.Cmd // what is done if it is answered with yes
	notice string
	lost   string // why there is no connection; empty: there is
}

// tickMsg tells the time, for ages.
type tickMsg time.Time

func newModel(back backend, open tab) *model {
	return &model{
		back: back, may: func(string) bool { return true }, tab: open, width: 80, height: 24, snap: &snapshot{}, now: time.Now(),
		agents:     grid[*agent]{columns: agentColumns, id: func(a *agent) string { return a.id }},
		frameworks: grid[*framework]{columns: frameworkColumns, id: func(f *framework) string { return f.id }},
		tasks:      grid[*task]{columns: taskColumns, id: (*task).key, by: len(taskColumns) - 1},
	}
}

// Init starts the clock.
func (m *model) Init() tea.Cmd { return tick() }

func tick() tea.Cmd { return tea.Tick(time.Second, func(t time.Time) tea.Msg { return tickMsg(t) }) }

// take shows a new snapshot.
func (m *model) take(s *snapshot) {
	m.snap = s
	if m.task != nil {
		if i := slices.IndexFunc(s.tasks, func(t *task) bool { return t.id == m.task.id && t.framework == m.task.framework }); i >= 0 {
			m.task = s.tasks[i]
		}
	}
	m.arrange()
}

// arrange sorts and filters what is shown; the rest is when it is.
func (m *model) arrange() {
	c := m.cells()
	switch m.tab {
	case agentsTab:
		m.agents.arrange(m.snap.agents, nil, m.filter[agentsTab], c)
	case frameworksTab:
		m.frameworks.arrange(m.snap.frameworks, nil, m.filter[frameworksTab], c)
	case tasksTab:
		var takes func(*task) bool
		switch {
		case m.onlyAgent != "":
			takes = func(t *task) bool { return t.agent == m.onlyAgent }
		case m.onlyFramework != "":
			takes = func(t *task) bool { return t.framework == m.onlyFramework }
		}
		m.tasks.arrange(m.snap.tasks, takes, m.filter[tasksTab], c)
	case clusterTab: // draws sums
	}
}

func (m *model) cells() *cells { return &cells{snapshot: m.snap, now: m.now} }

// Update changes the model.
func (m *model) Update(msg tea.Msg) (tea.Model, tea.Cmd) {
	switch msg := msg.(type) {
	case tea.WindowSizeMsg:
		m.width, m.height = msg.Width, msg.Height
	case tickMsg:
		m.now = time.Time(msg)
		return m, tick()
	case snapshotMsg:
		m.lost = ""
		if msg.leader != m.snap.leader && m.snap.leader != "" {
			m.notice = "master " + msg.leader + " leads now"
		}
		m.take(msg.snapshot)
	case lostMsg:
		m.lost = "events were missed, reading anew"
		if msg.err != nil {
			m.lost = firstLine(msg.err.Error())
		}
	case doneMsg:
		m.notice = msg.text
		if msg.err != nil {
			m.notice = "not done: " + firstLine(msg.err.Error())
		}
	case logMsg:
		return m, m.logged(msg)
	case moreMsg:
		if m.mode == reading && m.task != nil && m.task.key() == msg.task && m.log.file == msg.file {
			return m, m.back.read(m.task, m.log.file, m.log.next)
		}
	case tea.KeyPressMsg:
		return m.key(msg.String(), msg.Key().Text)
	}
	return m, nil
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(s, "\n")
	return line
}

// key is a key press: its name, and what it types, if anything.
func (m *model) key(key, text string) (tea.Model, tea.Cmd) {
	if key == "ctrl+c" {
		return m, tea.Quit
	}
	m.notice = ""
	switch m.mode {
	case filtering:
		m.typed(key, text)
		return m, nil
	case confirming:
		m.mode = browsing
		if m.task != nil {
			m.mode = looking
		}
		if answer := m.answer; key == "y" {
			m.answer = nil
			return m, answer
		}
		m.notice = "nothing was done"
		return m, nil
	case helping:
		m.mode = browsing
		return m, nil
	case looking:
		return m.lookKey(key)
	case reading:
		return m.readKey(key)
	case browsing:
	}
	return m.browseKey(key)
}

// typed edits the filter.
func (m *model) typed(key, text string) {
	f := &m.filter[m.tab]
	switch key {
	case "enter":
		m.mode = browsing
	case "esc":
		m.mode, *f = browsing, ""
	case "backspace":
		if r := []rune(*f); len(r) > 0 {
			*f = string(r[:len(r)-1])
		}
	default:
		*f += text
	}
	m.arrange()
}

// browseKey moves about in what is shown.
func (m *model) browseKey(key string) (tea.Model, tea.Cmd) {
	page := max(m.height-6, 1)
	steps := map[string]int{"down": 1, "j": 1, "up": -1, "k": -1, "pgdown": page, "space": page, "pgup": -page, "home": -1 << 30, "g": -1 << 30, "end": 1 << 30, "G": 1 << 30}
	if n, ok := steps[key]; ok {
		m.move(n)
		return m, nil
	}
	switch key {
	case "q":
		return m, tea.Quit
	case "?", "h":
		m.mode = helping
	case "tab", "right", "l":
		m.open((m.tab + 1) % 4)
	case "shift+tab", "left":
		m.open((m.tab + 3) % 4)
	case "1", "2", "3", "4":
		m.open(tab(key[0] - '1'))
	case "/":
		if m.tab != clusterTab {
			m.mode = filtering
		}
	case "<", ",":
		m.sort(-1)
	case ">", ".":
		m.sort(1)
	case "r":
		m.reverse()
	case "esc":
		m.back1()
	case "enter":
		m.enter()
	case "K", "delete":
		m.askKill()
	case "D":
		m.askDrain()
	}
	return m, nil
}

func (m *model) open(t tab) {
	m.tab = t
	m.onlyAgent, m.onlyFramework, m.onlyName = "", "", ""
	m.arrange()
}

// back1 goes back one step: out of the filter, out of the tasks of one object.
func (m *model) back1() {
	switch {
	case m.filter[m.tab] != "":
		m.filter[m.tab] = ""
	case m.onlyAgent != "":
		m.open(agentsTab)
	case m.onlyFramework != "":
		m.open(frameworksTab)
	}
	m.arrange()
}

func (m *model) move(n int) {
	switch m.tab {
	case agentsTab:
		m.agents.move(n)
	case frameworksTab:
		m.frameworks.move(n)
	case tasksTab:
		m.tasks.move(n)
	case clusterTab:
	}
}

func (m *model) sort(step int) {
	switch m.tab {
	case agentsTab:
		m.agents.sort(step)
	case frameworksTab:
		m.frameworks.sort(step)
	case tasksTab:
		m.tasks.sort(step)
	case clusterTab:
	}
	m.arrange()
}

func (m *model) reverse() {
	switch m.tab {
	case agentsTab:
		m.agents.down = !m.agents.down
	case frameworksTab:
		m.frameworks.down = !m.frameworks.down
	case tasksTab:
		m.tasks.down = !m.tasks.down
	case clusterTab:
	}
	m.arrange()
}

// enter looks into the row of the cursor.
func (m *model) enter() {
	switch m.tab {
	case agentsTab:
		if a, ok := m.agents.current(); ok {
			m.open(tasksTab)
			m.onlyAgent, m.onlyName = a.id, "on "+cmp.Or(a.host, a.id)
			m.tasks.at = 0
		}
	case frameworksTab:
		if f, ok := m.frameworks.current(); ok {
			m.open(tasksTab)
			m.onlyFramework, m.onlyName = f.id, "of "+f.name
			m.tasks.at = 0
		}
	case tasksTab:
		if t, ok := m.tasks.current(); ok {
			m.task, m.mode = t, looking
		}
	case clusterTab:
	}
	m.arrange()
}

// lookKey is for the screen of one task.
func (m *model) lookKey(key string) (tea.Model, tea.Cmd) {
	switch key {
	case "esc", "left", "q", "backspace":
		m.task, m.mode = nil, browsing
	case "enter", "l", "o":
		return m, m.read("stdout")
	case "e":
		return m, m.read("stderr")
	case "K", "delete":
		m.askKill()
	case "?":
		m.mode = helping
	}
	return m, nil
}

// askKill asks whether the task is to be killed.
func (m *model) askKill() {
	t := m.task
	if t == nil && m.tab == tasksTab {
		t, _ = m.tasks.current()
	}
	switch {
	case t == nil:
		return
	case !t.live:
		m.notice = "it has ended already"
		return
	case !m.may("KILL_TASK"):
		m.notice = "you may not kill tasks"
		return
	}
	m.ask = fmt.Sprintf("Kill task %s on %s? Its framework, %s, may start another. (y/n)", t.id, cmp.Or(m.snap.hosts[t.agent], t.agent), cmp.Or(m.snap.names[t.framework], t.framework))
	m.answer, m.mode = m.back.kill(t), confirming
}

func (m *model) askDrain() {
	a, ok := m.agents.current()
	if m.tab != agentsTab || !ok {
		return
	}
	if !m.may("DRAIN_AGENT") {
		m.notice = "you may not drain agents"
		return
	}
	m.ask = fmt.Sprintf("Drain %s? Its %d tasks are killed, and nothing of it is offered until it is reactivated. (y/n)", cmp.Or(a.host, a.id), a.tasks)
	m.answer, m.mode = m.back.drain(a), confirming
}
