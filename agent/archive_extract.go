package agent

import (
	"archive/tar"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"

	"clusterd/agent/fetcher"
	"clusterd/internal/httpapi"
)

// rights are those with which files are read and written on behalf of somebody.
type rights struct {
	user string // empty: the agent's own
	// mapped are who the user is outside of a user namespace; nil: himself.
	mapped *ids
	// capabilities are the most that remain; nil: all.
	capabilities *uint64
}

// do runs f with the rights of the request.
func (x *archived) do(f func() error) error {
	if x.own {
		return f()
	}
	return x.rights.do(f)
}

// do runs f on a thread of its own, which has the rights and ends with f.
func (r rights) do(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: so it ends
		err := errors.New("the archive broke off")
		defer func() {
			if p := recover(); p != nil {
				err = fmt.Errorf("archive: panic: %v", p)
			}
			done <- err
		}()
		if err = r.assume(); err == nil {
			err = f()
		}
	}()
	return <-done
}

func (r rights) assume() error {
	err := fetcher.Assume(r.user)
	if r.mapped != nil {
		err = fetcher.AssumeIDs(r.mapped.uid, r.mapped.gid)
	}
	if err != nil {
		return httpapi.Errorf(http.StatusInternalServerError, "%v", err)
	}
	if r.capabilities == nil {
		return nil
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return fmt.Errorf("capabilities: %w", err)
	}
	for i := range data {
		most := uint32(*r.capabilities >> (32 * i))
		data[i].Effective &= most
		data[i].Permitted &= most
		data[i].Inheritable = 0
	}
	if err := unix.Capset(&header, &data[0]); err != nil {
		return fmt.Errorf("capabilities: %w", err)
	}
	return nil
}

// extracted counts what an archive has brought.
type extracted struct {
	Files int64 `json:"files"`
	Bytes int64 `json:"bytes"`
}

// extract writes what a tar holds below a directory. What is there already is replaced if it is
// a file or a link, and stays if it is a directory.
func (x *extracted) extract(root *os.Root, r *tar.Reader) error {
	for {
		h, err := r.Next()
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return httpapi.BadRequest("Failed to read the archive: %v", err)
		}
		name := path.Clean(h.Name)
		if !isBelow(name) {
			return httpapi.BadRequest("The archive holds '%s', which leads out of the directory", h.Name)
		}
		if name == "." {
			continue
		}
		if err := x.one(root, name, h, r); err != nil {
			if r, ok := errors.AsType[*readError](err); ok {
				return httpapi.BadRequest("Failed to read the archive: %v", r.err)
			}
			return fileError(h.Name, err)
		}
	}
}

func isBelow(name string) bool {
	return !path.IsAbs(name) && name != ".." && !strings.HasPrefix(name, "../") && !strings.ContainsRune(name, 0)
}

// readError is one of the archive, not of the file that is written.
type readError struct{ err error }

func (e *readError) Error() string { return e.err.Error() }

// one writes one entry. Its directory is opened first, and looked at: other file systems may be
// mounted below.
func (x *extracted) one(root *os.Root, name string, h *tar.Header, r io.Reader) error {
	parent, base := path.Split(name)
	dir, err := openParent(root, path.Clean(parent+"."))
	if err != nil {
		return err
	}
	defer func() { _ = dir.Close() }()
	perm := fs.FileMode(h.Mode).Perm()
	switch h.Typeflag {
	case tar.TypeDir:
		if err := dir.Mkdir(base, perm|0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		if info, err := dir.Lstat(base); err != nil || !info.IsDir() {
			return errors.Join(err, unix.ENOTDIR)
		}
		x.Files++
		return nil
	case tar.TypeReg:
		if isSparse(h) {
			break
		}
		return x.file(dir, base, perm, r)
	case tar.TypeSymlink:
		if err := removeOld(dir, base); err != nil {
			return err
		}
		x.Files++
		return dir.Symlink(h.Linkname, base)
	case tar.TypeXGlobalHeader:
		return nil
	}
	return httpapi.BadRequest("The archive holds '%s', which is neither a file nor a directory nor a symbolic link, or is sparse", h.Name)
}

// isSparse says whether a file is longer than what the archive holds of it. A few bytes would
// fill the disk, on and on when the client has gone.
func isSparse(h *tar.Header) bool {
	for name := range h.PAXRecords {
		if strings.HasPrefix(name, "GNU.sparse.") {
			return true
		}
	}
	return false
}

// file writes a file beside its place, which it takes when it is whole: an archive that is cut
// short, or too large for the disk, leaves what was there.
func (x *extracted) file(dir *os.Root, base string, perm fs.FileMode, r io.Reader) error {
	if info, err := dir.Lstat(base); err == nil && info.IsDir() {
		return unix.EISDIR
	}
	beside := ".clusterd-" + strings.ToLower(rand.Text()[:13])
	f, err := dir.OpenFile(beside, os.O_WRONLY|os.O_CREATE|os.O_EXCL, perm&0o700)
	if err != nil {
		return err
	}
	n, err := io.Copy(f, &markedReader{r})
	x.Bytes += n
	x.Files++
	if err == nil {
		err = f.Chmod(perm) // as it is in the archive, whatever the agent's umask is
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = dir.Rename(beside, base)
	}
	if err != nil {
		_ = dir.Remove(beside) // the error tells
	}
	return err
}

// markedReader tells the errors of the archive from those of the disk.
type markedReader struct{ r io.Reader }

// Read reads from the archive.
func (m *markedReader) Read(p []byte) (int, error) {
	n, err := m.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = &readError{err}
	}
	return n, err
}

// openParent opens the directory of an entry, and makes what archives leave out. It goes from
// one directory to the next, so that nothing is made where no files are.
func openParent(root *os.Root, name string) (*os.Root, error) {
	at, err := openFiles(root, ".")
	if name == "." || err != nil {
		return at, err
	}
	for part := range strings.SplitSeq(name, "/") {
		next, err := openFiles(at, part)
		if errors.Is(err, fs.ErrNotExist) {
			if err = at.Mkdir(part, 0o755); err == nil || errors.Is(err, fs.ErrExist) {
				next, err = openFiles(at, part)
			}
		}
		if err = errors.Join(err, at.Close()); err != nil {
			return nil, err
		}
		at = next
	}
	return at, nil
}

// openFiles opens a directory, if it holds files.
func openFiles(root *os.Root, name string) (*os.Root, error) {
	dir, err := root.OpenRoot(name)
	if err != nil {
		return nil, err
	}
	f, err := dir.Open(".")
	if err == nil {
		err = errors.Join(holdsFiles(f), f.Close())
	}
	if err != nil {
		return nil, errors.Join(err, dir.Close())
	}
	return dir, nil
}

// removeOld makes place for a file.
func removeOld(dir *os.Root, name string) error {
	info, err := dir.Lstat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case info.IsDir():
		return unix.EISDIR
	}
	return dir.Remove(name)
}
