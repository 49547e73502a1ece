package supervisor

import (
	"errors"
	"os"
	"strconv"
	"syscall"
)

// logFile is a file that output is appended to, bounded by a Rotation.
//
//	stdout    what is written now
//	stdout.1  the one before (stdout.1.gz once it is compressed)
//	stdout.2  the one before that
//
// The directory may belong to the container, which can do there what it likes:
// names are looked up in the directory that was open before anything ran, none is
// followed as a symbolic link, and a file that is written to is either the one that
// was open already or one that did not exist. A disk that is full costs output, never
// the container.
type logFile struct {
	path     string
	name     string
	dir      int // of a rotated file; -1
	fd       int
	rotation Rotation
	owner    bool // whether new files are given to uid and gid
	uid, gid uint32

	inode uint64
	size  uint64
	// line says that what was written last ended a line.
	line bool
	// lost counts the bytes that could not be written since the last that could.
	lost  uint64
	cause error
	// limit is the size at which the next file is due.
	limit uint64
	// wrote is called for what was written, or lost; moved when the next byte goes to
	// a place that does not follow from the last one's.
	wrote func([]byte)
	moved func()

	compress *compression
	deflater *deflater // of the next one; nil before the first
	// wake is what a compression that is done says so to.
	wake func()
}

// openLog opens, or creates, a file for output.
func openLog(spec *Spec, path string, rotation Rotation) (*logFile, error) {
	fd, err := openOutput(spec, path)
	if err != nil {
		return nil, err
	}
	l := &logFile{
		path: path, dir: -1, fd: fd, rotation: rotation,
		owner: spec.SwitchUser, uid: spec.UID, gid: spec.GID,
		line: true, limit: rotation.MaxSize,
		wrote: func([]byte) {}, moved: func() {}, wake: func() {},
	}
	if rotation.MaxSize > 0 {
		if l.dir, l.name, err = outputDir(spec, path); err != nil {
			syscall.Close(fd)
			return nil, err
		}
	}
	l.look()
	return l, nil
}

func splitName(path string) (dir, name string) {
	for i := len(path) - 1; i >= 0; i-- {
		if path[i] == '/' {
			return path[:i+1], path[i+1:]
		}
	}
	return ".", path
}

// look reads which file is written, and how large it is.
func (l *logFile) look() {
	var st syscall.Stat_t
	if syscall.Fstat(l.fd, &st) == nil {
		l.inode, l.size = st.Ino, uint64(st.Size)
	}
}

func (l *logFile) close() {
	if l.compress != nil {
		l.compress.abandon()
		l.compress = nil
	}
	syscall.Close(l.fd)
	if l.dir >= 0 {
		syscall.Close(l.dir)
	}
}

// write appends b. Where there is a bound no file grows over it, and a line is not
// torn apart unless it is longer than a file.
func (l *logFile) write(b []byte) {
	for l.rotation.MaxSize > 0 && l.size+uint64(len(b)) > l.limit {
		room := uint64(0)
		if l.size < l.limit {
			room = l.limit - l.size
		}
		n := lastLine(b[:room])
		if n == 0 && (!l.line || l.size == 0) {
			n = int(room) // a line that does not end in time
		}
		l.append(b[:n])
		b = b[n:]
		// A file that stays empty on a full disk is no reason to delete older ones.
		if l.size > 0 && !l.rotate() {
			break
		}
	}
	l.append(b)
}

// lastLine says how much of b is whole lines.
func lastLine(b []byte) int {
	for i := len(b); i > 0; i-- {
		if b[i-1] == '\n' {
			return i
		}
	}
	return 0
}

// append writes to the file that is open. What the disk does not take is lost, and
// the log says so as soon as it can.
func (l *logFile) append(b []byte) {
	if len(b) == 0 {
		return
	}
	if l.lost > 0 {
		note := "clusterd: " + strconv.FormatUint(l.lost, 10) + " bytes of output were lost here: " + l.cause.Error() + "\n"
		if !l.line {
			note = "\n" + note
		}
		n, err := l.put([]byte(note))
		if err != nil {
			// A note that is there in part must not be written again and again.
			l.cut(n)
			l.lost += uint64(len(b))
			l.wrote(b)
			l.moved()
			return
		}
		l.lost, l.line = 0, true
		l.moved()
	}
	n, err := l.put(b)
	if n > 0 {
		l.line = b[n-1] == '\n'
	}
	l.wrote(b)
	if err != nil {
		l.lost, l.cause = uint64(len(b)-n), err
		l.moved()
	}
}

// cut takes the last n bytes off again.
func (l *logFile) cut(n int) {
	if n > 0 && syscall.Ftruncate(l.fd, int64(l.size)-int64(n)) == nil {
		l.size -= uint64(n)
	}
}

func (l *logFile) put(b []byte) (n int, err error) {
	for n < len(b) {
		m, err := syscall.Write(l.fd, b[n:])
		if err == syscall.EINTR {
			continue
		}
		if err != nil {
			return n, err
		}
		if m <= 0 {
			return n, syscall.EIO
		}
		n += m
		l.size += uint64(m)
	}
	return n, nil
}

// rotate makes the file NAME.1 and starts another. It says no when that cannot be
// done: the file goes on then, and rotation is tried again later.
//
// The next file is made first, under another name: on a disk without room for it
// nothing changes.
func (l *logFile) rotate() bool {
	next := l.name + ".next"
	fd, err := l.create(next)
	if err != nil {
		// Not for every line.
		l.limit = l.size + l.rotation.MaxSize/8 + 1
		return false
	}
	l.shift()
	if l.rotation.MaxFiles > 0 {
		first := l.name + ".1"
		if errors.Is(renameAt(l.dir, l.name, first), syscall.EISDIR) {
			// The container's own doing; the bound counts for more.
			_ = unlinkAt(l.dir, first, atRemoveDir)
			_ = renameAt(l.dir, l.name, first)
		}
	}
	if errors.Is(renameAt(l.dir, next, l.name), syscall.EISDIR) {
		_ = unlinkAt(l.dir, l.name, atRemoveDir)
		_ = renameAt(l.dir, next, l.name)
	}
	l.startCompression()
	syscall.Close(l.fd)
	l.fd = fd
	l.look()
	l.limit = l.rotation.MaxSize
	l.moved()
	return true
}

// shift makes NAME.i NAME.i+1, compressed or not, and deletes the last.
func (l *logFile) shift() {
	for i := int(l.rotation.MaxFiles); i > 0; i-- {
		name, next := l.name+"."+strconv.Itoa(i), l.name+"."+strconv.Itoa(i+1)
		for _, suffix := range [...]string{"", ".gz"} {
			if i == int(l.rotation.MaxFiles) {
				_ = unlinkAt(l.dir, name+suffix, 0)
				continue
			}
			_ = renameAt(l.dir, name+suffix, next+suffix)
		}
	}
	if l.compress != nil {
		l.compress.index++
	}
}

// create makes a file that did not exist: whatever has the name is removed, not
// opened, for it may be a link to anything.
func (l *logFile) create(name string) (fd int, err error) {
	for range 10 {
		fd, err = syscall.Openat(l.dir, name, syscall.O_WRONLY|syscall.O_APPEND|syscall.O_CREAT|syscall.O_EXCL|syscall.O_NOFOLLOW|syscall.O_CLOEXEC|syscall.O_NOCTTY, 0o644)
		if err != syscall.EEXIST {
			break
		}
		if errors.Is(unlinkAt(l.dir, name, 0), syscall.EISDIR) {
			_ = unlinkAt(l.dir, name, atRemoveDir)
		}
	}
	if err != nil {
		return -1, err
	}
	if l.owner {
		if err := syscall.Fchown(fd, int(l.uid), int(l.gid)); err != nil {
			syscall.Close(fd)
			_ = unlinkAt(l.dir, name, 0)
			return -1, err
		}
	}
	return fd, nil
}

// compression is one older file on its way to a compressed one. Its goroutine only
// reads one open file and writes another; names are the logFile's.
type compression struct {
	log    *logFile
	index  int // of the file now
	inode  uint64
	temp   string
	out    *os.File
	done   chan error
	cancel chan struct{}
	gone   chan struct{} // closed when the goroutine touches nothing any more
}

// startCompression compresses NAME.1. One that still runs is not waited for, so that
// a container which prints faster than that is not held up: the file stays as it is.
func (l *logFile) startCompression() {
	if !l.rotation.Compress || l.rotation.MaxFiles == 0 || l.compress != nil {
		return
	}
	fd, err := syscall.Openat(l.dir, l.name+".1", syscall.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_CLOEXEC|syscall.O_NONBLOCK|syscall.O_NOCTTY, 0)
	if err != nil {
		return
	}
	var st syscall.Stat_t
	if syscall.Fstat(fd, &st) != nil || st.Ino != l.inode { // not what we have written
		syscall.Close(fd)
		return
	}
	temp := l.name + ".gz.next"
	out, err := l.create(temp)
	if err != nil {
		syscall.Close(fd)
		return
	}
	c := &compression{
		log: l, index: 1, inode: l.inode, temp: temp, out: os.NewFile(uintptr(out), temp),
		done: make(chan error, 1), cancel: make(chan struct{}), gone: make(chan struct{}),
	}
	l.compress = c
	if l.deflater == nil {
		l.deflater = &deflater{}
	}
	deflater, wake := l.deflater, l.wake
	go func() {
		defer close(c.gone)
		in := os.NewFile(uintptr(fd), l.name)
		err := deflater.gzip(c.out, in, c.cancel)
		in.Close()
		c.out.Close()
		c.done <- err
		wake()
	}()
}

// compressed puts a compressed file in the place of the plain one, if one is ready.
func (l *logFile) compressed() {
	c := l.compress
	if c == nil {
		return
	}
	var err error
	select {
	case err = <-c.done:
	default:
		return
	}
	l.compress = nil
	plain := l.name + "." + strconv.Itoa(c.index)
	if err == nil && c.index <= int(l.rotation.MaxFiles) && inodeAt(l.dir, plain) == c.inode &&
		renameAt(l.dir, c.temp, plain+".gz") == nil {
		_ = unlinkAt(l.dir, plain, 0)
		return
	}
	_ = unlinkAt(l.dir, c.temp, 0)
}

// abandon ends a compression; the plain file stays.
func (c *compression) abandon() {
	close(c.cancel)
	<-c.gone
	_ = unlinkAt(c.log.dir, c.temp, 0)
}
