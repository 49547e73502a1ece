package console

import (
	"bytes"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// TestStatus wants lines now and then, the newest each time, and none twice or afterwards.
func TestStatus(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out lockedBuffer
		s := NewStatus(Env{Err: &out})
		s.Set("one")
		s.Set("two")
		s.Set("three")
		s.Say("a line")
		if got, want := out.String(), "clusterd: one\na line\n"; got != want {
			t.Fatalf("at once: got %q, want %q", got, want)
		}
		time.Sleep(statusInterval)
		synctest.Wait()
		s.Set("three")
		time.Sleep(2 * statusInterval)
		s.Set("four\x1b[2J")
		s.Set("five")
		s.Done()
		time.Sleep(2 * statusInterval)
		synctest.Wait()
		if got, want := out.String(), "clusterd: one\na line\nclusterd: three\nclusterd: four?[2J\n"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	})
}

// lockedBuffer is written by a timer while the test looks at it.
type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

// Write implements io.Writer.
func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}
