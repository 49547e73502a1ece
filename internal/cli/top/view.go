package top

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	tea "charm.land/bubbletea/v2"

	"clusterd/internal/cli/console"
)

// View draws the screen: a line of tabs, what is shown, a line of advice.
func (m *model) View() tea.View {
	v := tea.NewView(strings.Join(m.screen(), "\n"))
	v.AltScreen = true
	v.WindowTitle = "clusterd top " + m.snap.cluster
	return v
}

// screen is the screen by lines: as many as it has, none wider than it is.
func (m *model) screen() []string {
	body := max(m.height-2, 1)
	lines := []string{m.head()}
	switch {
	case m.mode == helping:
		lines = append(lines, help...)
	case m.mode == reading:
		lines = append(lines, m.drawLog(body)...)
	case m.task != nil:
		lines = append(lines, m.drawTask()...)
	default:
		lines = append(lines, m.table(body)...)
	}
	for len(lines) < m.height-1 {
		lines = append(lines, "")
	}
	return append(lines[:max(m.height-1, 1)], m.foot())
}

func (m *model) head() string {
	var b strings.Builder
	for i, name := range tabNames {
		style := tabStyle
		if tab(i) == m.tab {
			style = openStyle
		}
		b.WriteString(style.Render(fmt.Sprintf("%d %s", i+1, name)))
	}
	if m.lost != "" {
		return b.String() + " " + badStyle.Render(fit("lost: "+m.lost, max(m.width-50, 10), false))
	}
	return b.String() + "  " + titleStyle.Render(m.snap.cluster) + quietStyle.Render(" "+m.snap.leader)
}

// foot is the last line: a question, a notice, the filter, or what keys do.
func (m *model) foot() string {
	text := "Enter look into · / filter · < > sort · r reverse · Esc back · ? keys · q end"
	switch {
	case m.mode == confirming:
		return titleStyle.Render(fit(m.ask, m.width, false))
	case m.mode == filtering:
		return fit("filter: "+m.filter[m.tab]+"▏", m.width, false)
	case m.notice != "":
		return titleStyle.Render(fit(m.notice, m.width, false))
	case m.mode == reading:
		text = "o stdout · e stderr · arrows scroll · G follow · Esc back"
	case m.mode == looking:
		text = "Enter log · e stderr · K kill · Esc back"
	case m.filter[m.tab] != "":
		text = "filter: " + m.filter[m.tab] + " (Esc removes it) · " + text
	}
	return quietStyle.Render(fit(text, m.width, false))
}

func (m *model) table(height int) []string {
	c := m.cells()
	switch m.tab {
	case agentsTab:
		return m.agents.view(m.width, height, c)
	case frameworksTab:
		return m.frameworks.view(m.width, height, c)
	case tasksTab:
		if m.onlyName == "" {
			return m.tasks.view(m.width, height, c)
		}
		line := titleStyle.Render(fit(fmt.Sprintf("%d tasks %s", len(m.tasks.rows), m.onlyName), m.width, false))
		return append([]string{line}, m.tasks.view(m.width, height-1, c)...)
	case clusterTab:
	}
	return m.drawCluster(height)
}

// drawCluster are the sums, and what happened last.
func (m *model) drawCluster(height int) []string {
	var total, used amounts
	agents, frameworks, tasks := map[string]int{}, map[string]int{}, map[string]int{}
	for _, a := range m.snap.agents {
		agents[a.state]++
		if a.state == "active" || a.state == "draining" || a.state == "deactivated" {
			total.add(a.total)
		}
		used.add(a.used)
	}
	for _, f := range m.snap.frameworks {
		frameworks[f.state]++
	}
	for _, t := range m.snap.tasks {
		tasks[t.state]++
	}
	lines := []string{
		"",
		m.bar("CPUs", used.cpus, total.cpus), m.bar("Memory", used.mem, total.mem), m.bar("Disk", used.disk, total.disk), m.bar("GPUs", used.gpus, total.gpus),
		"",
		m.counts("Agents", agents), m.counts("Frameworks", frameworks), m.counts("Tasks", tasks),
		"",
		titleStyle.Render("Since this screen was opened"),
	}
	room := max(height-len(lines), 0)
	recent := m.snap.recent[max(len(m.snap.recent)-room, 0):]
	for _, text := range slices.Backward(recent) {
		lines = append(lines, fit(text, m.width, false))
	}
	if len(recent) == 0 {
		lines = append(lines, quietStyle.Render("nothing has happened"))
	}
	return lines
}

// bar is how much of a resource tasks use.
func (m *model) bar(name string, used, total float64) string {
	share := 0.0
	if total > 0 {
		share = min(used/total, 1)
	}
	width := max(m.width-44, 10)
	n := int(share*float64(width) + 0.5)
	style := goodStyle
	switch {
	case share > 0.95:
		style = badStyle
	case share > 0.8:
		style = busyStyle
	}
	return fmt.Sprintf("%-8s%s%s %3.0f%% %s", name, style.Render(strings.Repeat("█", n)), quietStyle.Render(strings.Repeat("░", width-n)), share*100, part(used, total))
}

// counts are the states and how many are in each, the most first.
func (m *model) counts(name string, by map[string]int) string {
	states := slices.Sorted(maps.Keys(by))
	slices.SortStableFunc(states, func(a, b string) int { return by[b] - by[a] })
	parts := make([]string, len(states))
	for i, s := range states {
		parts[i] = stateStyle(s).Render(fmt.Sprintf("%d %s", by[s], s))
	}
	return fmt.Sprintf("%-12s%s", name, cmp.Or(strings.Join(parts, "  "), "none"))
}

// drawTask is all that is known of a task.
func (m *model) drawTask() []string {
	t, c := m.task, m.cells()
	lines := []string{"", titleStyle.Render(fit(t.id, m.width, false)), ""}
	for _, f := range []struct{ name, value string }{
		{"Name", t.name},
		{"State", t.state},
		{"Health", t.health},
		{"Framework", cmp.Or(m.snap.names[t.framework], "") + "  " + t.framework},
		{"Role", t.role},
		{"Agent", cmp.Or(m.snap.hosts[t.agent], "") + "  " + t.agent},
		{"Executor", t.executor},
		{"CPUs", console.Number(t.uses.cpus)},
		{"Memory", console.Number(t.uses.mem) + " MB"},
		{"Disk", console.Number(t.uses.disk) + " MB"},
		{"GPUs", console.Number(t.uses.gpus)},
		{"Started", ago(c.age(t.started))},
		{"Changed", ago(c.age(t.updated))},
	} {
		if strings.TrimSpace(f.value) != "" {
			lines = append(lines, fit(fmt.Sprintf("  %-11s%s", f.name, f.value), m.width, false))
		}
	}
	return lines
}

func ago(age string) string {
	if age == "" {
		return ""
	}
	return age + " ago"
}

func (m *model) drawLog(height int) []string {
	where := "following"
	if m.log.up > 0 {
		where = fmt.Sprintf("%d lines above the end", m.log.up)
	}
	lines := []string{titleStyle.Render(fit(fmt.Sprintf("%s of %s, %s", m.log.file, m.task.id, where), m.width, false))}
	if m.log.err != "" {
		lines = append(lines, badStyle.Render(fit(m.log.err, m.width, false)))
	}
	for _, line := range m.log.view(max(height-len(lines), 1)) {
		lines = append(lines, fit(strings.ReplaceAll(line, "\t", "    "), m.width, false))
	}
	return lines
}

var help = []string{
	"",
	"  Tab, 1-4            what is shown: cluster, agents, frameworks, tasks",
	"  arrows, j k         move; PgUp PgDn, g G further",
	"  Enter               look into: an agent's or framework's tasks, a task, its log",
	"  Esc                 back, or without the filter",
	"  /                   show only what has the text in any column",
	"  < >                 the column to sort by;  r reverses",
	"  K                   kill the task (asks first)",
	"  D                   drain the agent (asks first)",
	"  o e                 of a task: its stdout, its stderr",
	"  q, Ctrl-C           end",
}
