package top

import (
	"bytes"
	"slices"
	"time"

	tea "charm.land/bubbletea/v2"
)

// pager is the end of a file, which grows.
type pager struct {
	file  string
	lines []string
	rest  []byte // what is behind the last end of a line
	next  int64
	// up is how many lines the view is above the end; 0: it follows.
	up  int
	err string
}

// maxLines is how many lines are kept.
const maxLines = 10_000

// moreMsg says that it is time to look whether the file has grown.
type moreMsg struct{ task, file string }

// follow is how often a file is looked at.
const follow = 500 * time.Millisecond

// read opens a file of the task that is looked at.
func (m *model) read(file string) tea.Cmd {
	m.mode, m.log = reading, pager{file: file}
	return m.back.read(m.task, file, -1)
}

// logged shows what has come of a file, and asks for more.
func (m *model) logged(msg logMsg) tea.Cmd {
	if m.mode != reading || m.task == nil || m.task.key() != msg.task || m.log.file != msg.file {
		return nil // it has been left
	}
	m.log.err = ""
	if msg.err != nil {
		m.log.err = firstLine(msg.err.Error())
	} else {
		m.log.add(&msg)
	}
	if len(msg.data) == chunk {
		return m.back.read(m.task, m.log.file, m.log.next) // there is more
	}
	return tea.Tick(follow, func(time.Time) tea.Msg { return moreMsg{msg.task, msg.file} })
}

func (p *pager) add(msg *logMsg) {
	if msg.restarted {
		p.lines, p.rest = append(p.lines, "--- the file begins anew ---"), nil
	}
	p.next = msg.next
	data := slices.Concat(p.rest, msg.data)
	for {
		line, after, ok := bytes.Cut(data, []byte("\n"))
		if !ok {
			break
		}
		p.lines = append(p.lines, string(line))
		if p.up > 0 {
			p.up++ // what is looked at stays where it is
		}
		data = after
	}
	p.rest = bytes.Clone(data)
	if n := len(p.lines) - maxLines; n > 0 {
		p.lines = append([]string(nil), p.lines[n:]...)
	}
}

// view is the part of the lines that is seen.
func (p *pager) view(height int) []string {
	lines := p.lines
	if len(p.rest) > 0 {
		lines = append(slices.Clip(lines), string(p.rest))
	}
	p.up = max(min(p.up, len(lines)-height), 0)
	end := len(lines) - p.up
	return lines[max(end-height, 0):end]
}

// readKey is for the log.
func (m *model) readKey(key string) (tea.Model, tea.Cmd) {
	page := max(m.height-4, 1)
	switch key {
	case "esc", "q", "left", "backspace":
		m.mode = looking
	case "up", "k":
		m.log.up++
	case "down", "j":
		m.log.up = max(m.log.up-1, 0)
	case "pgup":
		m.log.up += page
	case "pgdown", "space":
		m.log.up = max(m.log.up-page, 0)
	case "home", "g":
		m.log.up = maxLines
	case "end", "G":
		m.log.up = 0
	case "e":
		return m, m.read("stderr")
	case "o":
		return m, m.read("stdout")
	}
	return m, nil
}
