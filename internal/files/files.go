// Package files gives remote clients read access to chosen files and
// directories under virtual paths: the logs of a master or an agent and the
// sandboxes of executors (Mesos's src/files/files.cpp). It serves
// `/files/browse`, `/files/read`, `/files/download` and `/files/debug`, and the
// calls LIST_FILES and READ_FILE.
//
// The main type is [Files]; it is safe for concurrent use. Imported by agent
// (and by server for the master's log).
//
// What a task puts into its sandbox is hostile: symbolic links that lead out of
// the attached directory are refused, also when they are swapped in between
// check and use (os.Root), and only regular files are opened, so that a named
// pipe cannot block a reader. Reads are limited to [MaxRead] bytes, listings to
// [MaxEntries] entries.
package files

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"

	mesos "clusterd/api/mesos/v1"
	"clusterd/internal/authz"
	"clusterd/internal/httpapi"
)

// MaxRead is the most that one read returns: 16 pages, as in Mesos.
const MaxRead = 16 * 4096

// MaxEntries is the largest directory that is listed.
const MaxEntries = 100_000

// Authorizer decides whether a principal may see what is below an attached path.
type Authorizer func(principal *authz.Principal) bool

type attachment struct {
	real      string
	authorize Authorizer
}

// Files is a set of attached paths.
type Files struct {
	mu       sync.RWMutex // mu guards attached.
	attached map[string]attachment
}

// New returns an empty set.
func New() *Files { return &Files{attached: make(map[string]attachment)} }

// Attach makes the file or directory at path readable as virtual. Links in path
// are followed now, so a later change of a `latest` link has no effect. A
// virtual path that is attached already is attached anew.
func (f *Files) Attach(path, virtual string) error {
	return f.AttachAuthorized(path, virtual, nil)
}

// AttachAuthorized is [Files.Attach] with an authorizer, which also covers what
// is attached below virtual without one of its own.
func (f *Files) AttachAuthorized(path, virtual string, authorize Authorizer) error {
	absolute, err := filepath.Abs(path)
	if err != nil {
		return fmt.Errorf("attach %q: %w", path, err)
	}
	target, err := filepath.EvalSymlinks(absolute)
	if err != nil {
		return fmt.Errorf("attach %q: %w", path, err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.attached[clean(virtual)] = attachment{real: target, authorize: authorize}
	return nil
}

// Detach forgets a virtual path; it is no error if it is not attached.
func (f *Files) Detach(virtual string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.attached, clean(virtual))
}

// Attached returns a copy of the map from virtual to real paths.
func (f *Files) Attached() map[string]string {
	f.mu.RLock()
	defer f.mu.RUnlock()
	m := make(map[string]string, len(f.attached))
	for virtual, a := range f.attached {
		m[virtual] = a.real
	}
	return m
}

// clean makes a virtual path absolute and free of `.`, `..` and repeated or
// trailing slashes, so that each has one spelling.
func clean(virtual string) string { return filepath.Clean("/" + virtual) }

// location is a resolved virtual path.
type location struct {
	base string // the attached real path
	rel  string // what is wanted below base, free of links; "." for base itself
	dir  bool   // base is a directory
}

func (l location) real() string { return filepath.Join(l.base, l.rel) }

// resolve finds the longest attached prefix of a virtual path, checks that the
// principal may see it and follows links below it.
func (f *Files) resolve(virtual string, principal *authz.Principal) (location, error) {
	virtual = clean(virtual)
	if err := f.authorized(virtual, principal); err != nil {
		return location{}, err
	}
	a, suffix, ok := f.lookup(virtual)
	if !ok {
		return location{}, httpapi.NotFound("")
	}
	info, err := os.Stat(a.real)
	if err != nil {
		return location{}, notFoundOr(err, a.real)
	}
	if !info.IsDir() {
		if suffix != "" {
			return location{}, httpapi.NotFound("")
		}
		return location{base: a.real, rel: "."}, nil
	}
	wanted := filepath.Join(a.real, suffix)
	target, err := filepath.EvalSymlinks(wanted)
	if err != nil {
		return location{}, notFoundOr(err, wanted)
	}
	rel, err := filepath.Rel(a.real, target)
	if err != nil || !filepath.IsLocal(rel) {
		return location{}, httpapi.BadRequest("'%s' is inaccessible.\n", wanted)
	}
	return location{base: a.real, rel: rel, dir: true}, nil
}

func notFoundOr(err error, path string) error {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		return httpapi.NotFound("")
	}
	if pe, ok := errors.AsType[*fs.PathError](err); ok {
		err = pe.Err
	}
	return httpapi.BadRequest("Failed to determine canonical path of '%s': %v.\n", path, err)
}

// authorized asks the authorizer nearest above the path, if there is one.
func (f *Files) authorized(virtual string, principal *authz.Principal) error {
	f.mu.RLock()
	var authorize Authorizer
	for p := virtual; ; p = filepath.Dir(p) {
		if a, ok := f.attached[p]; ok && a.authorize != nil {
			authorize = a.authorize
			break
		}
		if p == "/" {
			break
		}
	}
	f.mu.RUnlock()
	if authorize != nil && !authorize(principal) {
		return httpapi.Forbidden("")
	}
	return nil
}

// lookup splits a clean virtual path into an attachment and the rest.
func (f *Files) lookup(virtual string) (a attachment, suffix string, ok bool) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	for p := virtual; ; p = filepath.Dir(p) {
		if a, ok := f.attached[p]; ok {
			return a, strings.TrimPrefix(virtual[len(p):], "/"), true
		}
		if p == "/" {
			return attachment{}, "", false
		}
	}
}

// Browse lists a directory, sorted by name. A path that is a file has an empty
// listing, as in Mesos; so have entries that cannot be looked at, such as links
// that lead nowhere or outside, no place in the listing.
func (f *Files) Browse(_ context.Context, virtual string, principal *authz.Principal) ([]*mesos.FileInfo, error) {
	l, err := f.resolve(virtual, principal)
	if err != nil {
		return nil, err
	}
	if !l.dir {
		return nil, nil
	}
	root, err := os.OpenRoot(l.base)
	if err != nil {
		return nil, notFoundOr(err, l.base)
	}
	defer func() { _ = root.Close() }()
	dir, err := root.OpenFile(l.rel, os.O_RDONLY|syscall.O_DIRECTORY|syscall.O_NONBLOCK, 0)
	if errors.Is(err, syscall.ENOTDIR) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("browse %q: %w", l.real(), err)
	}
	defer dir.Close()
	names, err := dir.Readdirnames(MaxEntries + 1)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("browse %q: %w", l.real(), err)
	}
	if len(names) > MaxEntries {
		return nil, fmt.Errorf("browse %q: more than %d entries", l.real(), MaxEntries)
	}
	slices.Sort(names)
	owners := newOwners()
	var list []*mesos.FileInfo
	for _, name := range names {
		st, err := statInside(root, l, name)
		if err != nil {
			continue
		}
		list = append(list, &mesos.FileInfo{
			Path:  new(filepath.Join(virtual, name)),
			Nlink: new(int32(st.Nlink)),
			Size:  new(uint64(st.Size)),
			Mtime: &mesos.TimeInfo{Nanoseconds: new(st.Mtim.Sec * 1_000_000_000)},
			Mode:  new(st.Mode),
			Uid:   new(owners.user(st.Uid)),
			Gid:   new(owners.group(st.Gid)),
		})
	}
	return list, nil
}

// statInside describes an entry; a link is followed if it stays inside.
func statInside(root *os.Root, l location, name string) (*syscall.Stat_t, error) {
	rel := filepath.Join(l.rel, name)
	info, err := root.Lstat(rel)
	if err == nil && info.Mode()&fs.ModeSymlink != 0 {
		var target string
		if target, err = filepath.EvalSymlinks(filepath.Join(l.base, rel)); err != nil {
			return nil, err
		}
		if rel, err = filepath.Rel(l.base, target); err != nil {
			return nil, err
		}
		info, err = root.Lstat(rel)
	}
	if err != nil {
		return nil, err
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return nil, errors.ErrUnsupported
	}
	return st, nil
}

// owners remembers the names of users and groups for one listing.
type owners struct{ users, groups map[uint32]string }

func newOwners() owners {
	return owners{users: make(map[uint32]string), groups: make(map[uint32]string)}
}

func (o owners) user(id uint32) string {
	name, ok := o.users[id]
	if !ok {
		name = strconv.FormatUint(uint64(id), 10)
		if u, err := user.LookupId(name); err == nil {
			name = u.Username
		}
		o.users[id] = name
	}
	return name
}

func (o owners) group(id uint32) string {
	name, ok := o.groups[id]
	if !ok {
		name = strconv.FormatUint(uint64(id), 10)
		if g, err := user.LookupGroupId(name); err == nil {
			name = g.Name
		}
		o.groups[id] = name
	}
	return name
}

// open opens a regular file; what says which verb the error text uses.
func (f *Files) open(virtual string, principal *authz.Principal, what string) (*os.File, os.FileInfo, error) {
	l, err := f.resolve(virtual, principal)
	if err != nil {
		return nil, nil, err
	}
	// Without O_NONBLOCK opening a named pipe waits for a writer.
	const flags = os.O_RDONLY | syscall.O_NONBLOCK | syscall.O_CLOEXEC
	var file *os.File
	if l.dir {
		var root *os.Root
		if root, err = os.OpenRoot(l.base); err != nil {
			return nil, nil, notFoundOr(err, l.base)
		}
		defer func() { _ = root.Close() }()
		file, err = root.OpenFile(l.rel, flags, 0)
	} else {
		file, err = os.OpenFile(l.base, flags, 0)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, httpapi.NotFound("")
	}
	if err != nil {
		return nil, nil, fmt.Errorf("Failed to open file at '%s': %w", l.real(), err) //nolint:staticcheck // Mesos's own text.
	}
	info, err := file.Stat()
	switch {
	case err != nil:
		err = fmt.Errorf("open %q: %w", l.real(), err)
	case info.IsDir():
		err = httpapi.BadRequest("Cannot %s a directory.\n", what)
	case !info.Mode().IsRegular():
		err = httpapi.BadRequest("Cannot %s what is no regular file.\n", what)
	}
	if err != nil {
		_ = file.Close()
		return nil, nil, err
	}
	return file, info, nil
}

// Read returns the size of a file and up to length bytes from offset, at most
// [MaxRead]; a nil length means as much as that. Behind the end, and for length
// zero, there is no data.
func (f *Files) Read(_ context.Context, virtual string, offset uint64, length *uint64, principal *authz.Principal) (size uint64, data []byte, err error) {
	file, info, err := f.open(virtual, principal, "read")
	if err != nil {
		return 0, nil, err
	}
	defer file.Close()
	size = uint64(info.Size())
	if offset >= size {
		return size, nil, nil
	}
	n := min(size-offset, MaxRead)
	if length != nil {
		n = min(n, *length)
	}
	data = make([]byte, n)
	got, err := file.ReadAt(data, int64(offset))
	if err != nil && !errors.Is(err, io.EOF) { // the file may have shrunk since
		return 0, nil, fmt.Errorf("read %q: %w", virtual, err)
	}
	return size, data[:got], nil
}

// sortedAttached returns the virtual paths in order.
func sortedAttached(m map[string]string) []string { return slices.Sorted(maps.Keys(m)) }
