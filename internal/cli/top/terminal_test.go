package top_test

import (
	"bytes"
	"context"
	"io"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/creack/pty"

	"clusterd/internal/testcluster"
)

// screen gathers what a program writes to its terminal.
type screen struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.buf.Write(p)
}

// forget drops what was written.
func (s *screen) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.buf.Reset()
}

// has tells whether all texts were written since the last forget.
func (s *screen) has(texts ...string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, text := range texts {
		if !strings.Contains(s.buf.String(), text) {
			return false
		}
	}
	return true
}

// TestTerminal runs the program on a pseudo-terminal, against a real cluster: a task comes,
// is looked into, its log is read, and it is killed by keys.
func TestTerminal(t *testing.T) {
	bin, err := testcluster.Binary()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(testcluster.RemoveBinary)
	c := testcluster.Start(t, testcluster.Options{})
	ctx, cancel := context.WithTimeout(t.Context(), 3*testcluster.Patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, bin, "top", "--master="+c.Master.Addr)
	cmd.Env = append(cmd.Environ(), "TERM=xterm-256color", "HOME="+t.TempDir())
	tty, err := pty.StartWithSize(cmd, &pty.Winsize{Rows: 30, Cols: 110})
	if err != nil {
		t.Fatal(err)
	}
	defer tty.Close()
	var s screen
	go func() { _, _ = io.Copy(&s, tty) }() // ends with the terminal
	rows := uint16(30)
	wait := func(what string, texts ...string) {
		t.Helper()
		for begin, n := time.Now(), 1; !s.has(texts...); n++ {
			if time.Since(begin) > testcluster.Patience {
				s.mu.Lock()
				defer s.mu.Unlock()
				t.Fatalf("%s: the screen lacks %q; written was\n%q", what, texts, s.buf.String())
			}
			time.Sleep(50 * time.Millisecond)
			if n%20 != 0 {
				continue
			}
			// Only cells that change are written: of a "killing" that became "killed" just
			// the end. Another size has the whole screen written again.
			s.forget()
			rows ^= 1
			if err := pty.Setsize(tty, &pty.Winsize{Rows: rows, Cols: 110}); err != nil {
				t.Fatal(err)
			}
		}
	}
	typed := func(keys string) {
		t.Helper()
		if _, err := tty.WriteString(keys); err != nil {
			t.Fatal(err)
		}
	}
	wait("the first screen", "1 Cluster", "CPUs", "1 active")
	typed("4")
	wait("no tasks", "nothing to show")
	run := exec.CommandContext(ctx, bin, "run", "--master="+c.Master.Addr, "--quiet", "--name=looked-at", "--shell", "--", "echo from the task; exec sleep 1000")
	if err := run.Start(); err != nil {
		t.Fatal(err)
	}
	wait("the task comes by itself", "looked-at.", "running")
	typed("\r")
	wait("the task", "Memory ", "Started ")
	typed("o")
	wait("its log", "from the task")
	typed("q")
	typed("K")
	wait("the question", "Kill task looked-at.")
	typed("y")
	wait("the answer", "asked the agent to kill")
	if err := run.Wait(); err == nil {
		t.Error("the task was not killed")
	}
	wait("its end", "killed")
	typed("\x03")
	if err := cmd.Wait(); err != nil {
		t.Errorf("top ended with %v", err)
	}
}
