package isolation

import (
	"os"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// follower reads a file that a container's output is appended to, from a place on, over
// rotations. The container may do with the file what it likes: only a regular file is
// read that has no other name, and no symbolic link is followed.
type follower struct {
	path string
	// within is a directory that nothing on the path leads out of, when what is below
	// it is somebody else's; see outputIn.
	within string
	// rotated is how many older files of that name are kept; rotates says that there are
	// any.
	rotated int
	rotates bool
	// none says that there is nothing to follow.
	none bool
	// known says that inode and offset say where the reader is.
	known  bool
	inode  uint64
	offset int64
	file   *os.File // of that inode; nil when it is not open
}

func newFollower(path, within string, r Rotation) *follower {
	if r.MaxSize == 0 {
		return &follower{path: path, within: within}
	}
	return &follower{path: path, within: within, rotates: true, rotated: int(min(r.MaxFiles, 10_000))}
}

// open opens the i-th older file, which a container can replace.
func (f *follower) open(i int) (file *os.File, inode uint64, size int64) {
	const flags = unix.O_RDONLY | unix.O_NOFOLLOW | unix.O_NONBLOCK | unix.O_NOCTTY
	var err error
	if f.within == "" {
		file, err = os.OpenFile(f.name(i), flags, 0)
	} else {
		var root *os.Root
		if root, err = os.OpenRoot(f.within); err == nil {
			defer func() { _ = root.Close() }()
			file, err = root.OpenFile(f.below(i), flags, 0)
		}
	}
	if err != nil {
		return nil, 0, 0
	}
	fi, err := file.Stat()
	if err == nil && fi.Mode().IsRegular() {
		if st, ok := fi.Sys().(*syscall.Stat_t); ok && st.Nlink <= 1 {
			return file, st.Ino, st.Size
		}
	}
	file.Close()
	return nil, 0, 0
}

// stat describes the i-th older file; nil when there is none.
func (f *follower) stat(i int) os.FileInfo {
	var fi os.FileInfo
	var err error
	if f.within == "" {
		fi, err = os.Lstat(f.name(i))
	} else {
		var root *os.Root
		if root, err = os.OpenRoot(f.within); err == nil {
			defer func() { _ = root.Close() }()
			fi, err = root.Lstat(f.below(i))
		}
	}
	if err != nil {
		return nil
	}
	return fi
}

// inodeOf is that of the i-th older file, 0 when there is none.
func (f *follower) inodeOf(i int) uint64 {
	if fi := f.stat(i); fi != nil {
		if st, ok := fi.Sys().(*syscall.Stat_t); ok {
			return st.Ino
		}
	}
	return 0
}

// name is that of the i-th older file, below is the same in the directory within.
func (f *follower) name(i int) string {
	if i == 0 {
		return f.path
	}
	return f.path + "." + strconv.Itoa(i)
}

func (f *follower) below(i int) string { return strings.TrimPrefix(f.name(i), f.within+"/") }

func (f *follower) set(file *os.File, inode uint64, offset int64) {
	if f.file != nil {
		f.file.Close()
	}
	f.file, f.inode, f.offset, f.known = file, inode, offset, true
}

// toEnd goes to the end of the file that is there.
func (f *follower) toEnd() {
	if file, inode, size := f.open(0); file != nil {
		f.set(file, inode, size)
	}
}

// toStart goes to the beginning of the file that is there.
func (f *follower) toStart() {
	if file, inode, _ := f.open(0); file != nil {
		f.set(file, inode, 0)
	}
}

// jump goes to a place. The file is opened right away, so that it stays what it is,
// whatever happens to its name.
func (f *follower) jump(p place) {
	if f.known && f.file != nil && f.inode == p.inode {
		f.offset = p.offset
		return
	}
	for i := 0; i <= f.rotated; i++ { // it may be older by now
		if file, inode, _ := f.open(i); inode == p.inode && file != nil {
			f.set(file, inode, p.offset)
			return
		} else if file != nil {
			file.Close()
		}
	}
	f.set(nil, p.inode, p.offset)
}

// read reads what there is; 0 means nothing for now.
func (f *follower) read(b []byte) int {
	if f.none {
		return 0
	}
	if f.file == nil {
		file, inode, _ := f.open(0)
		if file == nil {
			return 0
		}
		f.set(file, inode, 0)
	}
	for {
		if n := f.readHere(b); n > 0 {
			return n
		}
		if !f.rotates || !f.passed() {
			return 0
		}
		// Nothing is written to it any more, but something may have been just before.
		if n := f.readHere(b); n > 0 {
			return n
		}
		if !f.next() {
			return 0
		}
	}
}

func (f *follower) readHere(b []byte) int {
	n, _ := f.file.ReadAt(b, f.offset)
	if n == 0 {
		// Somebody has truncated it, and what comes is written at its new end.
		if fi, err := f.file.Stat(); err == nil && fi.Size() < f.offset {
			f.offset = fi.Size()
		}
	}
	f.offset += int64(n)
	return n
}

// passed says that another file has the name now.
func (f *follower) passed() bool {
	inode := f.inodeOf(0)
	return inode != 0 && inode != f.inode
}

// next goes on to the file that came after this one. When this one is gone already (or
// compressed) that is the oldest that is younger: what was in between is lost to this
// reader.
func (f *follower) next() bool {
	for range 100 { // files may move on meanwhile
		// A file only ever moves on, so none is missed that is looked for in this order;
		// while they move there are gaps.
		at, after := 0, 0
		for i := 1; i <= f.rotated; i++ {
			if f.inodeOf(i) == f.inode {
				at, after = i, i-1
				break
			}
		}
		if at == 0 {
			after = f.oldest()
		}
		file, inode, _ := f.open(after)
		if file == nil {
			return false
		}
		if inode != f.inode && (at == 0 || f.inodeOf(at) == f.inode) {
			f.set(file, inode, 0)
			return true
		}
		file.Close()
	}
	return false
}

// oldest is the oldest file that was written after this one.
func (f *follower) oldest() int {
	fi, err := f.file.Stat()
	for i := f.rotated; err == nil && i > 0; i-- {
		if older := f.stat(i); older != nil && older.ModTime().After(fi.ModTime()) {
			return i
		}
	}
	return 0
}

// readTo reads what lies before a place. 0 means that the place is reached, or that
// what is before it is gone.
func (f *follower) readTo(b []byte, p place) int {
	for f.file != nil {
		if f.inode == p.inode {
			left := p.offset - f.offset
			if left <= 0 {
				break
			}
			if n := f.readHere(b[:min(int64(len(b)), left)]); n > 0 {
				return n
			}
			break
		}
		if n := f.readHere(b); n > 0 {
			return n
		}
		if !f.rotates || !f.next() {
			break
		}
	}
	f.jump(p)
	return 0
}

func (f *follower) close() {
	if f.file != nil {
		f.file.Close()
		f.file = nil
	}
}
