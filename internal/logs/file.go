package logs

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// bufferSize is how much is kept back at most when lines are buffered.
	bufferSize = 64 << 10
	// checkEvery is how often a file is looked for: somebody may have moved it away.
	checkEvery = time.Second
	// retryEvery is how often it is tried to begin a new file that could not be begun.
	retryEvery = 10 * time.Second
)

// file is a log file that begins anew before it is too long, and removes the oldest of
// those before it. Nothing that goes wrong with it is an error of who writes: lines that
// cannot be written are dropped and counted, and the first line that can be written
// again is preceded by one that tells how many were lost.
type file struct {
	// dir holds the files.
	dir string
	// stem begins the names of all files. With a link, it is the name of a symbolic
	// link to the present one, and each file has its time and process in its name (as
	// glog does it). Without, the present file is called stem, and those before it have
	// a time behind it.
	stem, link string
	perm       os.FileMode
	// maxSize of one file, and maxTotal of all, in bytes.
	maxSize, maxTotal int64
	// buffered keeps lines back until flush.
	buffered bool
	// lost makes the line that tells of dropped ones.
	lost func(lines uint64, err error) []byte
	// began, if set, is told the path of each file that is begun.
	began func(path string)
	now   func() time.Time
	// open opens a file; tests have it fail.
	open func(name string, flag int, perm os.FileMode) (*os.File, error)

	dropped atomic.Uint64 // since the beginning

	mu sync.Mutex
	// mu guards what follows.
	f       *os.File
	path    string
	size    int64
	buf     []byte
	cut     bool      // the last line was written in part
	pending uint64    // dropped lines that were not told yet
	err     error     // why
	checked time.Time // when the file was last seen in its place
	tried   time.Time // when a new file could not be begun
	dirty   bool      // written since the last sync
	closed  bool
}

// write takes one line. With flush it leaves at once even if lines are buffered.
func (w *file) write(line []byte, flush bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return
	}
	if !w.buffered {
		w.outLocked(line)
		return
	}
	w.buf = append(w.buf, line...)
	if flush || len(w.buf) >= bufferSize {
		w.flushLocked()
	}
}

func (w *file) flush() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.flushLocked()
}

func (w *file) flushLocked() {
	if len(w.buf) > 0 {
		w.outLocked(w.buf)
		w.buf = w.buf[:0]
	}
}

// outLocked writes whole lines to the file.
func (w *file) outLocked(lines []byte) {
	w.prepareLocked(int64(len(lines)))
	if w.f == nil || w.size > 2*w.maxSize {
		w.dropLocked(lines, errors.New("there is no file to write to"))
		return
	}
	if w.pending > 0 && w.lost != nil {
		if !w.putLocked(w.lost(w.pending, w.err)) {
			w.dropLocked(lines, w.err)
			return
		}
		w.pending, w.err = 0, nil
	}
	if !w.putLocked(lines) {
		w.dropLocked(lines, w.err)
	}
}

// putLocked writes b, behind the end of a line that was cut.
func (w *file) putLocked(b []byte) bool {
	if w.cut {
		b = append([]byte{'\n'}, b...)
	}
	n, err := w.f.Write(b)
	w.size += int64(n)
	w.dirty = true
	if err != nil {
		w.err = err
		if n > 0 {
			w.cut = b[n-1] != '\n'
		}
		return false
	}
	w.cut = false
	return true
}

// dropLocked counts lines that are lost. Of a buffer some may have been written.
func (w *file) dropLocked(lines []byte, err error) {
	n := uint64(max(1, bytes.Count(lines, []byte{'\n'})))
	w.pending += n
	w.dropped.Add(n)
	if w.err == nil {
		w.err = err
	}
}

// prepareLocked makes sure that there is a file with room for n bytes.
func (w *file) prepareLocked(n int64) {
	now := w.now()
	switch {
	case w.f == nil:
	case w.size > 0 && w.size+n > w.maxSize:
	case now.Sub(w.checked) >= checkEvery:
		w.checked = now
		if w.inPlaceLocked() {
			return
		}
	default:
		return
	}
	if now.Sub(w.tried) < retryEvery {
		return
	}
	if err := w.beginLocked(); err != nil {
		w.tried = now
		w.err = err
	}
}

// inPlaceLocked says whether the file is still where it was begun.
func (w *file) inPlaceLocked() bool {
	there, err := os.Stat(w.path)
	if err != nil {
		return false
	}
	ours, err := w.f.Stat()
	return err == nil && os.SameFile(there, ours)
}

// beginLocked begins a new file; the old one goes on if that fails.
func (w *file) beginLocked() error {
	f, path, err := w.createLocked()
	if err != nil {
		return fmt.Errorf("begin a log file: %w", err)
	}
	info, err := f.Stat()
	if err != nil {
		return errors.Join(fmt.Errorf("begin a log file: %w", err), f.Close())
	}
	if w.f != nil {
		_ = w.f.Close() // what it holds is written
	}
	w.f, w.path, w.size, w.cut, w.checked = f, path, info.Size(), false, w.now()
	if w.link != "" {
		// A link that cannot be made is not worth a log that is not written.
		tmp := filepath.Join(w.dir, "."+w.link+"."+strconv.Itoa(os.Getpid()))
		if err := os.Symlink(filepath.Base(path), tmp); err == nil {
			_ = os.Rename(tmp, filepath.Join(w.dir, w.link))
		}
	}
	w.removeOldLocked()
	if w.began != nil {
		w.began(path)
	}
	return nil
}

func (w *file) createLocked() (*os.File, string, error) {
	stamp := w.now().UTC().Format("20060102-150405")
	if w.link == "" {
		path := filepath.Join(w.dir, w.stem)
		if info, err := os.Stat(path); err == nil && info.Size() >= w.maxSize || w.f != nil && w.inPlaceLocked() {
			if err := moveAside(path, path+"."+stamp); err != nil {
				return nil, "", err
			}
		}
		f, err := w.open(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, w.perm)
		return f, path, err
	}
	name := filepath.Join(w.dir, w.stem+"."+stamp+"."+strconv.Itoa(os.Getpid()))
	for try := 0; ; try++ {
		path := name
		if try > 0 {
			path += "-" + strconv.Itoa(try)
		}
		f, err := w.open(path, os.O_CREATE|os.O_EXCL|os.O_APPEND|os.O_WRONLY, w.perm)
		if !errors.Is(err, fs.ErrExist) || try == 1000 {
			return f, path, err
		}
	}
}

// moveAside renames a file to a name that is free.
func moveAside(path, to string) error {
	free := to
	for try := 1; try < 1000; try++ {
		if _, err := os.Lstat(free); errors.Is(err, fs.ErrNotExist) {
			return os.Rename(path, free)
		}
		free = to + "-" + strconv.Itoa(try)
	}
	return fmt.Errorf("move %s aside: %w", path, fs.ErrExist)
}

// removeOldLocked removes the oldest files until the rest leaves room for a whole one.
func (w *file) removeOldLocked() {
	type old struct {
		path string
		at   time.Time
		size int64
	}
	entries, err := os.ReadDir(w.dir)
	if err != nil {
		return
	}
	var all []old
	var sum int64
	for _, e := range entries {
		rest, ok := strings.CutPrefix(e.Name(), w.stem+".")
		if !ok || !dated(rest) || e.Name() == filepath.Base(w.path) {
			continue
		}
		if info, err := e.Info(); err == nil && info.Mode().IsRegular() {
			all = append(all, old{filepath.Join(w.dir, e.Name()), info.ModTime(), info.Size()})
			sum += info.Size()
		}
	}
	slices.SortFunc(all, func(a, b old) int {
		if c := a.at.Compare(b.at); c != 0 {
			return c
		}
		return cmp.Compare(a.path, b.path)
	})
	for _, o := range all {
		if sum <= w.maxTotal-w.maxSize {
			return
		}
		if os.Remove(o.path) == nil {
			sum -= o.size
		}
	}
}

// dated says whether the end of a name begins with a time of ours: nothing else in the
// directory is removed.
func dated(s string) bool {
	const layout = "20060102-150405"
	if len(s) < len(layout) {
		return false
	}
	_, err := time.Parse(layout, s[:len(layout)])
	return err == nil
}

// reopen looks for the file now; if it was moved away a new one is begun.
func (w *file) reopen() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return nil
	}
	w.flushLocked()
	w.tried = time.Time{}
	if w.f != nil && w.inPlaceLocked() {
		return nil
	}
	return w.beginLocked()
}

// sync brings what was written to the disk.
func (w *file) sync() error {
	w.mu.Lock()
	f, dirty := w.f, w.dirty
	w.dirty = false
	w.mu.Unlock()
	if f == nil || !dirty {
		return nil
	}
	// Without the lock: writers need not wait for the disk. The file may be closed
	// meanwhile, for a new one.
	if err := f.Sync(); err != nil && !errors.Is(err, os.ErrClosed) {
		return fmt.Errorf("sync %s: %w", f.Name(), err)
	}
	return nil
}

func (w *file) close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return nil
	}
	w.flushLocked()
	w.closed = true
	if w.f == nil {
		return nil
	}
	return w.f.Close()
}

// current is the path of the present file.
func (w *file) current() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.path
}
