package top

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"

	"charm.land/lipgloss/v2"

	"clusterd/internal/cli/console"
)

// column is a column of a table of rows of a kind.
type column[T any] struct {
	title string
	// width in cells; 0: what is left, shared among those with 0.
	width int
	right bool // aligned
	// narrow: not shown on screens of less than 120 cells.
	narrow bool
	text   func(r T, c *cells) string
	less   func(a, b T, c *cells) int
}

// cells is what cells are written with.
type cells struct {
	*snapshot
	now time.Time
}

// age is a time ago, empty if it is not known.
func (c *cells) age(t time.Time) string {
	if t.IsZero() || t.Unix() <= 0 {
		return ""
	}
	return console.Duration(max(c.now.Sub(t), 0).Round(time.Second))
}

func part(used, total float64) string { return console.Number(used) + "/" + console.Number(total) }

func byText[T any](text func(T, *cells) string) func(a, b T, c *cells) int {
	return func(a, b T, c *cells) int { return cmp.Compare(text(a, c), text(b, c)) }
}

// words is a column of text, which sorts as it reads.
func words[T any](title string, width int, narrow bool, text func(T, *cells) string) column[T] {
	return column[T]{title: title, width: width, narrow: narrow, text: text, less: byText(text)}
}

// number is a column that sorts by a number and shows a text.
func number[T any](title string, width int, narrow bool, value func(T) float64, text func(T, *cells) string) column[T] {
	return column[T]{title: title, width: width, right: true, narrow: narrow, text: text, less: func(a, b T, _ *cells) int {
		return cmp.Compare(value(a), value(b))
	}}
}

// since is a column of how long ago something was.
func since[T any](title string, narrow bool, at func(T) time.Time) column[T] {
	return column[T]{
		title: title, width: 8, right: true, narrow: narrow, text: func(r T, c *cells) string { return c.age(at(r)) },
		less: func(a, b T, _ *cells) int { return at(b).Compare(at(a)) },
	}
}

var agentColumns = []column[*agent]{
	words("HOST", 0, false, func(a *agent, _ *cells) string { return cmp.Or(a.host, a.id) }),
	words("STATE", 12, false, func(a *agent, _ *cells) string { return a.state }),
	number("TASKS", 6, false, func(a *agent) float64 { return float64(a.tasks) }, func(a *agent, _ *cells) string { return fmt.Sprint(a.tasks) }),
	number("CPUS", 12, false, func(a *agent) float64 { return a.used.cpus }, func(a *agent, _ *cells) string { return part(a.used.cpus, a.total.cpus) }),
	number("MEM MB", 16, false, func(a *agent) float64 { return a.used.mem }, func(a *agent, _ *cells) string { return part(a.used.mem, a.total.mem) }),
	number("DISK MB", 18, true, func(a *agent) float64 { return a.used.disk }, func(a *agent, _ *cells) string { return part(a.used.disk, a.total.disk) }),
	number("GPUS", 6, true, func(a *agent) float64 { return a.used.gpus }, func(a *agent, _ *cells) string { return part(a.used.gpus, a.total.gpus) }),
	since("SINCE", false, func(a *agent) time.Time { return a.since }),
	words("ID", 0, true, func(a *agent, _ *cells) string { return a.id }),
}

var frameworkColumns = []column[*framework]{
	words("NAME", 0, false, func(f *framework, _ *cells) string { return f.name }),
	words("STATE", 12, false, func(f *framework, _ *cells) string { return f.state }),
	words("ROLES", 16, false, func(f *framework, _ *cells) string { return strings.Join(f.roles, ",") }),
	words("USER", 10, true, func(f *framework, _ *cells) string { return f.user }),
	number("TASKS", 6, false, func(f *framework) float64 { return float64(f.tasks) }, func(f *framework, _ *cells) string { return fmt.Sprint(f.tasks) }),
	number("CPUS", 8, false, func(f *framework) float64 { return f.used.cpus }, func(f *framework, _ *cells) string { return console.Number(f.used.cpus) }),
	number("MEM MB", 10, false, func(f *framework) float64 { return f.used.mem }, func(f *framework, _ *cells) string { return console.Number(f.used.mem) }),
	since("SINCE", false, func(f *framework) time.Time { return f.since }),
	words("ID", 0, true, func(f *framework, _ *cells) string { return f.id }),
}

var taskColumns = []column[*task]{
	words("TASK", 0, false, func(t *task, _ *cells) string { return t.id }),
	words("STATE", 12, false, func(t *task, _ *cells) string { return t.state }),
	words("HEALTH", 10, true, func(t *task, _ *cells) string { return t.health }),
	words("FRAMEWORK", 0, true, func(t *task, c *cells) string { return cmp.Or(c.names[t.framework], t.framework) }),
	words("HOST", 16, false, func(t *task, c *cells) string { return cmp.Or(c.hosts[t.agent], t.agent) }),
	number("CPUS", 6, false, func(t *task) float64 { return t.uses.cpus }, func(t *task, _ *cells) string { return console.Number(t.uses.cpus) }),
	number("MEM MB", 8, false, func(t *task) float64 { return t.uses.mem }, func(t *task, _ *cells) string { return console.Number(t.uses.mem) }),
	since("STARTED", true, func(t *task) time.Time { return t.started }),
	since("CHANGED", false, func(t *task) time.Time { return t.updated }),
}

// grid is a table that is sorted, filtered and moved about in. It is a value of the model.
type grid[T any] struct {
	columns []column[T]
	id      func(T) string
	by      int
	down    bool // descending
	at      int  // the row of the cursor
	top     int  // the first row that is shown
	held    string
	rows    []T // as they are shown
}

// arrange filters and sorts; the cursor stays with its row.
func (g *grid[T]) arrange(all []T, takes func(T) bool, filter string, c *cells) {
	rows := make([]T, 0, len(all))
	filter = strings.ToLower(filter)
	for _, r := range all {
		if (takes == nil || takes(r)) && g.matches(r, filter, c) {
			rows = append(rows, r)
		}
	}
	less := g.columns[g.by].less
	slices.SortFunc(rows, func(a, b T) int {
		order := less(a, b, c)
		if g.down {
			order = -order
		}
		if order == 0 {
			return cmp.Compare(g.id(a), g.id(b))
		}
		return order
	})
	g.rows = rows
	if g.held != "" {
		if i := slices.IndexFunc(rows, func(r T) bool { return g.id(r) == g.held }); i >= 0 {
			g.at = i
		}
	}
	g.move(0)
}

func (g *grid[T]) matches(r T, filter string, c *cells) bool {
	if filter == "" {
		return true
	}
	for i := range g.columns {
		if strings.Contains(strings.ToLower(g.columns[i].text(r, c)), filter) {
			return true
		}
	}
	return false
}

// move moves the cursor by n rows.
func (g *grid[T]) move(n int) {
	g.at = max(min(g.at+n, len(g.rows)-1), 0)
	g.held = ""
	if g.at > 0 && len(g.rows) > 0 { // at the first row it stays the first, whatever comes
		g.held = g.id(g.rows[g.at])
	}
}

// current is the row of the cursor.
func (g *grid[T]) current() (row T, ok bool) {
	if g.at < len(g.rows) {
		return g.rows[g.at], true
	}
	return row, false
}

// sort chooses the next column to sort by, or the one before.
func (g *grid[T]) sort(step int) {
	g.by = (g.by + step + len(g.columns)) % len(g.columns)
	g.down = g.columns[g.by].right && g.columns[g.by].width != 8 // the largest first, but the latest first
}

// shown are the columns that a screen has room for, and how wide each is.
func (g *grid[T]) shown(width int) (columns, widths []int) {
	rest, flexible := width, 0
	for i, c := range g.columns {
		if c.narrow && width < 120 {
			continue
		}
		columns = append(columns, i)
		rest -= c.width + 1
		if c.width == 0 {
			flexible++
		}
	}
	for _, i := range columns {
		w := g.columns[i].width
		if w == 0 {
			w = max(rest/flexible, 8)
		}
		widths = append(widths, w)
	}
	return columns, widths
}

// view draws the header and as many rows as there is room for.
func (g *grid[T]) view(width, height int, c *cells) []string {
	columns, widths := g.shown(width)
	head := make([]string, len(columns))
	for i, col := range columns {
		title := g.columns[col].title
		if col == g.by {
			title += map[bool]string{false: "↑", true: "↓"}[g.down]
		}
		head[i] = fit(title, widths[i], g.columns[col].right)
	}
	lines := []string{headStyle.Render(fit(strings.Join(head, " "), width, false))}
	height--
	if g.at < g.top {
		g.top = g.at
	}
	if g.at >= g.top+height {
		g.top = g.at - height + 1
	}
	g.top = max(min(g.top, len(g.rows)-height), 0)
	for i := g.top; i < min(g.top+height, len(g.rows)); i++ {
		row := make([]string, len(columns))
		for k, col := range columns {
			text := fit(g.columns[col].text(g.rows[i], c), widths[k], g.columns[col].right)
			if g.columns[col].title == "STATE" && i != g.at {
				text = stateStyle(strings.TrimSpace(text)).Render(text)
			}
			row[k] = text
		}
		line := strings.Join(row, " ")
		if i == g.at {
			line = cursorStyle.Render(fit(line, width, false))
		}
		lines = append(lines, line)
	}
	if len(g.rows) == 0 {
		lines = append(lines, quietStyle.Render("  nothing to show"))
	}
	return lines
}

// fit makes a text exactly as wide. What was printed by others' programs is in it: control
// characters would move the cursor.
func fit(text string, width int, right bool) string {
	text = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return -1
		}
		return r
	}, text)
	w := lipgloss.Width(text)
	if w > width {
		runes := []rune(text)
		for len(runes) > 0 && lipgloss.Width(string(runes)) > width-1 {
			runes = runes[:len(runes)-1]
		}
		text = string(runes) + "…"
		w = lipgloss.Width(text)
	}
	pad := strings.Repeat(" ", max(width-w, 0))
	if right {
		return pad + text
	}
	return text + pad
}
