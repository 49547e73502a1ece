package console

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	cliv2 "github.com/urfave/cli/v2"
	"golang.org/x/term"
)

// Confirm asks whether to do what text says, unless --yes was given. Where nobody can be
// asked it refuses.
func Confirm(e Env, c *cliv2.Context, text string) error {
	if c.Bool("yes") {
		return nil
	}
	if !e.Interactive() {
		return Hint(Usagef("%s: needs --yes where nobody can be asked", text), "--yes does it without asking")
	}
	fmt.Fprintf(e.Err, "%s? [y/N] ", plainText(text))
	answer, err := bufio.NewReader(Input(c.Context, e.In)).ReadString('\n')
	if err != nil && answer == "" {
		fmt.Fprintln(e.Err)
		return err
	}
	switch strings.ToLower(strings.TrimSpace(answer)) {
	case "y", "yes":
		return nil
	}
	fmt.Fprintln(e.Err, "nothing was done")
	return ExitError(ExitFailed)
}

// Bar shows how far something is, on one line of the terminal. A nil Bar shows nothing.
type Bar struct {
	w     io.Writer
	text  string
	total int64
	width int
	start time.Time

	// mu guards the fields below.
	mu    sync.Mutex
	done  int64
	drawn time.Time
}

// redraw is how often a bar is drawn at most.
const redraw = 100 * time.Millisecond

// Progress starts a bar where messages go to a terminal; elsewhere it is nil, which may be
// used all the same. A total of 0 is not known: what was done is counted.
func Progress(e Env, text string, total int64) *Bar {
	if !isTerminal(e.Err) {
		return nil
	}
	b := &Bar{w: e.Err, text: text, total: total, width: 80, start: time.Now()}
	if f, ok := e.Err.(*os.File); ok {
		if width, _, err := term.GetSize(int(f.Fd())); err == nil && width > 20 {
			b.width = width
		}
	}
	b.draw(true)
	return b
}

// Add counts n more.
func (b *Bar) Add(n int64) {
	if b == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.done += n
	b.draw(false)
}

// Set says how much is done, and of how much.
func (b *Bar) Set(done, total int64) {
	if b == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.done, b.total = done, total
	b.draw(false)
}

// Write implements io.Writer: it counts the bytes, for io.TeeReader and io.MultiWriter.
func (b *Bar) Write(p []byte) (int, error) {
	b.Add(int64(len(p)))
	return len(p), nil
}

// Clear makes room on the terminal for a line; the bar is drawn again when more is done.
func (b *Bar) Clear() {
	if b == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.drawn = time.Time{}
	fmt.Fprintf(b.w, "\r\x1b[K")
}

// Done removes the bar: what follows says what came of it.
func (b *Bar) Done() {
	if b == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	fmt.Fprintf(b.w, "\r\x1b[K")
}

// draw is called with the lock held, or before anybody else has the bar.
func (b *Bar) draw(now bool) {
	if !now && time.Since(b.drawn) < redraw {
		return
	}
	b.drawn = time.Now()
	fmt.Fprintf(b.w, "\r\x1b[K%s", b.line())
}

// line is the bar as text.
func (b *Bar) line() string {
	if b.total <= 0 {
		return fmt.Sprintf("%.*s %d, %s", b.width-20, b.text, b.done, Age(b.start))
	}
	part := min(float64(b.done)/float64(b.total), 1)
	tail := fmt.Sprintf(" %3.0f%% %d/%d", part*100, b.done, b.total)
	room := max(b.width-len(b.text)-len(tail)-4, 10)
	full := int(part * float64(room))
	return fmt.Sprintf("%s [%s%s]%s", b.text, strings.Repeat("=", full), strings.Repeat(" ", room-full), tail)
}

// Each does something to each of several objects. It goes on after an error; errors are
// said at once, under the object's name, and the last one gives the exit code.
func Each[T any](e Env, objects []T, name func(T) string, do func(T) error) error {
	if len(objects) == 1 {
		return do(objects[0])
	}
	code, failed := ExitOK, 0
	for _, o := range objects {
		if err := do(o); err != nil {
			failed++
			code = Code(err)
			say(fmt.Errorf("%s: %w", name(o), err), e.Err)
		}
	}
	if failed > 0 {
		fmt.Fprintf(e.Err, "clusterd: %d of %d failed\n", failed, len(objects))
		if code == ExitOK {
			code = ExitFailed
		}
		return ExitError(code)
	}
	return nil
}
