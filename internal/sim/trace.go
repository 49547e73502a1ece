package sim

import (
	"fmt"
	"strings"
	"time"
)

// keptLines is how many of the last events a violation shows.
const keptLines = 400

// trace remembers what happened: always as a hash, and as text if somebody wants to
// read it.
type trace struct {
	hash  uint64
	on    bool
	print func(string) // also gets each line, at once
	lines []string
	next  int
	only  string
}

// mix adds to the hash.
func (t *trace) mix(v uint64) {
	t.hash = (t.hash ^ v) * 1099511628211
	t.hash ^= t.hash >> 29
}

func (t *trace) mixString(s string) {
	h := uint64(14695981039346656037)
	for i := range len(s) {
		h = (h ^ uint64(s[i])) * 1099511628211
	}
	t.mix(h)
}

func (t *trace) add(at time.Duration, format string, args ...any) {
	line := fmt.Sprintf("%12.6f  ", at.Seconds()) + fmt.Sprintf(format, args...)
	if t.print != nil && (t.only == "" || strings.Contains(line, t.only)) {
		t.print(line)
	}
	if len(t.lines) < keptLines {
		t.lines = append(t.lines, line)
		return
	}
	t.lines[t.next] = line
	t.next = (t.next + 1) % keptLines
}

// last returns the kept lines, oldest first.
func (t *trace) last() []string {
	return append(append([]string(nil), t.lines[t.next:]...), t.lines[:t.next]...)
}
