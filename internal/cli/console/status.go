package console

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/term"
)

// statusInterval is the shortest time between two lines of a [Status] that does not go to a
// terminal.
const statusInterval = 2 * time.Second

// Status says what is waited for: in one line of a terminal that is written over, elsewhere in
// lines of their own, which come now and then while it changes.
type Status struct {
	w        io.Writer
	terminal bool
	width    int
	interval time.Duration

	// mu guards the fields below and writes to w.
	mu      sync.Mutex
	text    string // the newest
	shown   string
	visible bool
	at      time.Time
	later   *time.Timer
	done    bool
}

// NewStatus makes a Status that says nothing yet. Call Done.
func NewStatus(e Env) *Status {
	s := &Status{w: e.Err, terminal: isTerminal(e.Err), width: 80, interval: statusInterval}
	if f, ok := e.Err.(*os.File); ok && s.terminal {
		if width, _, err := term.GetSize(int(f.Fd())); err == nil && width > 20 {
			s.width = width
		}
	}
	return s
}

// Set says what is waited for now.
func (s *Status) Set(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.text = Plain(text)
	if s.terminal {
		line := []rune(s.text)
		fmt.Fprintf(s.w, "\r\x1b[K%s", string(line[:min(len(line), s.width-1)]))
		s.visible = true
		return
	}
	if s.later != nil || s.text == s.shown {
		return
	}
	if wait := s.interval - time.Since(s.at); wait > 0 {
		s.later = time.AfterFunc(wait, func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.later = nil
			s.showLocked()
		})
		return
	}
	s.showLocked()
}

// showLocked writes the newest text as a line.
func (s *Status) showLocked() {
	if s.done || s.text == s.shown {
		return
	}
	s.shown, s.at = s.text, time.Now()
	fmt.Fprintf(s.w, "clusterd: %s\n", s.text)
}

// Say writes a line of messages that stays.
func (s *Status) Say(text string) {
	s.Clear()
	s.mu.Lock()
	defer s.mu.Unlock()
	fmt.Fprintln(s.w, plainText(text))
}

// Clear makes room on the terminal for another line.
func (s *Status) Clear() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.visible {
		fmt.Fprint(s.w, "\r\x1b[K")
		s.visible = false
	}
}

// Done ends it: the terminal's line is empty again, and nothing more is said.
func (s *Status) Done() {
	s.Clear()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.done = true
	if s.later != nil {
		s.later.Stop()
	}
}
