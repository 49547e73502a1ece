// Package diskcheck finds out whether a directory can still be written to, for `/health`:
// a disk that is full or has become read-only is told before something that matters
// fails on it.
//
// The main type is [Disk], which is safe for concurrent use. Imported by server and
// agent.
package diskcheck

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"clusterd/internal/httpapi"
)

// size is how much is written: a disk with less is as good as full.
const size = 64 << 10

// Disk is a directory that is looked after.
type Disk struct {
	dir string

	mu sync.Mutex
	// mu guards what follows.
	begun  time.Time // when the present look began; zero: none is under way
	err    error     // of the last look
	since  time.Time // when err became what it is
	looked time.Time // when the last look ended
}

// NewDisk looks after a directory; it does nothing before [Disk.Watch].
func NewDisk(dir string) *Disk { return &Disk{dir: dir} }

// Watch looks at once and then at intervals, until ctx ends. A look that hangs, as on a
// network's disk it may, is not repeated, and keeps Watch from returning.
func (d *Disk) Watch(ctx context.Context, interval time.Duration) {
	t := time.NewTicker(interval)
	defer t.Stop()
	for {
		d.look()
		select {
		case <-t.C:
		case <-ctx.Done():
			return
		}
	}
}

func (d *Disk) look() {
	d.mu.Lock()
	d.begun = time.Now()
	d.mu.Unlock()
	err := write(d.dir)
	d.mu.Lock()
	defer d.mu.Unlock()
	now := time.Now()
	d.begun, d.looked = time.Time{}, now
	if (err == nil) != (d.err == nil) {
		d.since = now
	}
	d.err = err
}

// write writes a file and removes it.
func write(dir string) error {
	f, err := os.CreateTemp(dir, ".health-*")
	if err != nil {
		return fmt.Errorf("create a file: %w", err)
	}
	_, err = f.Write(make([]byte, size))
	return errors.Join(err, f.Close(), os.Remove(f.Name()))
}

// Sweep removes what looks that were killed have left behind.
func (d *Disk) Sweep() {
	left, err := filepath.Glob(filepath.Join(d.dir, ".health-*"))
	if err != nil {
		return
	}
	for _, path := range left {
		_ = os.Remove(path)
	}
}

// hangs is how long a look may take.
const hangs = 30 * time.Second

// Check says what was found.
func (d *Disk) Check(name string, now time.Time) httpapi.Check {
	d.mu.Lock()
	defer d.mu.Unlock()
	c := httpapi.Check{Name: name, Since: d.since}
	switch {
	case !d.begun.IsZero() && now.Sub(d.begun) > hangs:
		c.Status, c.Since = httpapi.Unhealthy, d.begun
		c.Reason = fmt.Sprintf("Writing to %s hangs.", d.dir)
	case d.err != nil:
		c.Status = httpapi.Unhealthy
		c.Reason = fmt.Sprintf("%s cannot be written to: %v.", d.dir, d.err)
	}
	return c
}
