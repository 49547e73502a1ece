package cgroup

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	mesos "clusterd/api/mesos/v1"
	"clusterd/isolation"
	"clusterd/isolation/cgroups"
)

// listen begins to watch for an OOM, and on v1 for pressure.
func (m *memory) listen(c *container) error {
	s := &memoryState{}
	c.state = s
	if m.version == 2 {
		stop, err := m.oom.add(c.dirs[0], func() { m.oomed(c, func() bool { return oomed2(c.dirs[0]) }) })
		s.stop = stop
		return err
	}
	events, err := register1(c.dirs[0], "memory.oom_control", "")
	if err != nil {
		return fmt.Errorf("listen for OOM events: %w", err)
	}
	s.stop = m.oom.follow(os.NewFile(uintptr(events), "memory.oom_control"), func() { m.oomed(c, func() bool { return cgroups.Exists(c.dirs[0]) && atLimit1(c.dirs[0]) }) })
	for n, level := range [...]string{"low", "medium", "critical"} {
		fd, err := register1(c.dirs[0], "memory.pressure_level", level)
		if err != nil {
			// As in Mesos a container lives without its counters.
			m.log.Warn().Err(err).Str("container_id", isolation.Key(c.id)).Msg("listen for memory pressure")
			break
		}
		s.pressure[n] = &eventCounter{fd: fd}
	}
	return nil
}

// oomed reports an OOM, if it is one of this container.
func (m *memory) oomed(c *container, mine func() bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.gone && c.state != nil && mine() {
		c.reportLocked(m.limitation(c))
	}
}

// register1 makes an eventfd that the kernel writes to when there is something in a file
// of cgroup v1.
func register1(dir, file, args string) (fd int, err error) {
	target, err := unix.Open(filepath.Join(dir, file), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, &os.PathError{Op: "open", Path: filepath.Join(dir, file), Err: err}
	}
	defer unix.Close(target)
	fd, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return -1, fmt.Errorf("eventfd: %w", err)
	}
	command := strings.TrimSpace(strconv.Itoa(fd) + " " + strconv.Itoa(target) + " " + args)
	if err := cgroups.Write(filepath.Join(dir, "cgroup.event_control"), command); err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// eventCounter counts what an eventfd has counted. A nil one is closed.
type eventCounter struct {
	fd int
	n  uint64
}

// value is called by one goroutine at a time.
func (e *eventCounter) value() uint64 {
	var b [8]byte
	if n, err := unix.Read(e.fd, b[:]); err == nil && n == len(b) {
		e.n += binary.NativeEndian.Uint64(b[:])
	}
	return e.n
}

func (e *eventCounter) close() {
	if e != nil {
		unix.Close(e.fd)
	}
}

// oomWatch waits for OOMs: on v1 a goroutine for each container on an eventfd of its own
// (none of them holds a thread), on v2 one on an inotify for all.
type oomWatch struct {
	wg sync.WaitGroup

	mu sync.Mutex
	// what follows is guarded by mu.
	closed  bool
	inotify *os.File
	fd      int // of inotify: File.Fd would make it block
	watches map[int32]func()
	open    map[*os.File]bool
}

var errClosed = errors.New("isolator is closed")

// follow calls f for each event of v1 until stop is called.
func (w *oomWatch) follow(events *os.File, f func()) (stop func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.open == nil {
		w.open = make(map[*os.File]bool)
	}
	w.open[events] = true
	w.wg.Go(func() {
		var b [8]byte
		for {
			if _, err := events.Read(b[:]); err != nil {
				return
			}
			f()
		}
	})
	return func() {
		w.mu.Lock()
		delete(w.open, events)
		w.mu.Unlock()
		events.Close()
	}
}

// add calls f after each change of a cgroup's memory.events until stop is called.
func (w *oomWatch) add(dir string, f func()) (stop func(), err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return nil, errClosed
	}
	if w.inotify == nil {
		fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
		if err != nil {
			return nil, fmt.Errorf("inotify: %w", err)
		}
		w.inotify, w.fd = os.NewFile(uintptr(fd), "inotify"), fd
		w.watches = make(map[int32]func())
		w.wg.Go(func() { w.read(w.inotify) })
	}
	wd, err := unix.InotifyAddWatch(w.fd, filepath.Join(dir, "memory.events"), unix.IN_MODIFY)
	if err != nil {
		return nil, fmt.Errorf("watch %s/memory.events: %w", dir, err)
	}
	w.watches[int32(wd)] = f
	return func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.watches[int32(wd)] != nil && !w.closed {
			delete(w.watches, int32(wd))
			_, _ = unix.InotifyRmWatch(w.fd, uint32(wd))
		}
	}, nil
}

func (w *oomWatch) read(inotify *os.File) {
	b := make([]byte, 4096)
	for {
		n, err := inotify.Read(b)
		if err != nil {
			return
		}
		for at := 0; at+unix.SizeofInotifyEvent <= n; {
			wd := int32(binary.NativeEndian.Uint32(b[at:]))
			at += unix.SizeofInotifyEvent + int(binary.NativeEndian.Uint32(b[at+12:]))
			w.mu.Lock()
			f := w.watches[wd]
			w.mu.Unlock()
			if f != nil {
				f()
			}
		}
	}
}

// close ends all and waits for it.
func (w *oomWatch) close() error {
	w.mu.Lock()
	if !w.closed {
		w.closed = true
		if w.inotify != nil {
			w.inotify.Close()
		}
		for f := range w.open {
			f.Close()
		}
	}
	w.mu.Unlock()
	w.wg.Wait()
	return nil
}

// pressure2 fills the counters of v1 from what v2 has. Stalled time (PSI) is counted in
// tenths of a second: "low" those in which some task waited for memory, "medium" those in
// which all did; "critical" is how often the limit was reached with nothing left to take.
func pressure2(dir string, stats *mesos.ResourceStatistics) error {
	b, err := cgroups.Read(filepath.Join(dir, "memory.pressure"))
	switch {
	case errors.Is(err, os.ErrNotExist), errors.Is(err, unix.EOPNOTSUPP): // a kernel without, or booted with psi=0
	case err != nil:
		return err
	default:
		some, full := parsePressure(b)
		stats.MemLowPressureCounter, stats.MemMediumPressureCounter = new(some/100_000), new(full/100_000)
	}
	if n, ok := counter(filepath.Join(dir, "memory.events"), "oom"); ok {
		stats.MemCriticalPressureCounter = new(n)
	}
	return nil
}

// parsePressure reads the totals of a pressure file, in microseconds.
func parsePressure(b []byte) (some, full uint64) {
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if len(f) < 2 {
			continue
		}
		text, ok := strings.CutPrefix(f[len(f)-1], "total=")
		n, err := strconv.ParseUint(text, 10, 64)
		switch {
		case !ok || err != nil:
		case f[0] == "some":
			some = n
		case f[0] == "full":
			full = n
		}
	}
	return some, full
}
