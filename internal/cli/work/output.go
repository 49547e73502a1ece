package work

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"sync"
)

// maxLine is the longest line that is held back until its end has come.
const maxLine = 64 << 10

// colours of prefixes: of those that are read well on dark and on light.
var colours = []int{36, 33, 32, 35, 34, 31, 96, 93, 92, 95, 94, 91}

// lines brings the lines of many tasks to one writer, each whole.
type lines struct {
	mu  sync.Mutex // mu guards the writers behind it.
	out bool       // colours are seen
}

// prefixed is a writer that puts a prefix before every line; the index picks its colour.
// Close writes what has no end of line.
func (l *lines) prefixed(w io.Writer, index int, prefix string) io.WriteCloser {
	prefix = "[" + prefix + "] "
	if l.out && os.Getenv("NO_COLOR") == "" {
		prefix = fmt.Sprintf("\x1b[%dm%s\x1b[0m", colours[index%len(colours)], prefix)
	}
	return &prefixWriter{lines: l, w: w, prefix: prefix}
}

type prefixWriter struct {
	lines  *lines
	w      io.Writer
	prefix string
	rest   []byte // the beginning of a line
}

// Write implements io.Writer.
func (p *prefixWriter) Write(b []byte) (int, error) {
	p.rest = append(p.rest, b...)
	end := bytes.LastIndexByte(p.rest, '\n') + 1
	if end == 0 && len(p.rest) < maxLine {
		return len(b), nil
	}
	if end == 0 {
		end = len(p.rest)
	}
	err := p.print(p.rest[:end])
	p.rest = append(p.rest[:0], p.rest[end:]...)
	return len(b), err
}

// print writes lines, which may not end in one.
func (p *prefixWriter) print(b []byte) error {
	var out bytes.Buffer
	for line := range bytes.Lines(b) {
		out.WriteString(p.prefix)
		out.Write(line)
	}
	if !bytes.HasSuffix(b, []byte("\n")) {
		out.WriteByte('\n')
	}
	p.lines.mu.Lock()
	defer p.lines.mu.Unlock()
	_, err := p.w.Write(out.Bytes())
	return err
}

// Close implements io.Closer.
func (p *prefixWriter) Close() error {
	if len(p.rest) == 0 {
		return nil
	}
	b := p.rest
	p.rest = nil
	return p.print(b)
}

// unchanged is a writer that is not closed.
type unchanged struct{ io.Writer }

// Close implements io.Closer.
func (unchanged) Close() error { return nil }
