package agent

import (
	"archive/tar"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"clusterd/agent/core"
	mesos "clusterd/api/mesos/v1"
	"clusterd/internal/authz"
	"clusterd/internal/httpapi"
)

// The archive brings files out of a container and into it:
//
//	GET /api/clusterd/v1/archive?container_id=C&path=P   a tar of the file or directory
//	PUT                                                  extracts a tar below the directory
//
// A relative path is one in the sandbox, which may be that of a container that has ended. To
// read there asks for the permission of /files, and never leads out, as there. An absolute
// path is one as the container sees it, volumes included. It needs a container that runs, and
// the permission to launch a session in it; so does writing. What is done then is done with
// the rights of the user that the session would have (`user`, else the container's), and
// with no capability that the container's own command has not: a container without a root
// file system of its own sees the host's, and whoever may run a command there as that user
// reads the same with `cat`. What the kernel shows as files (/proc, /sys) is left out, and
// neither devices nor set-user-id bits are brought in: they are no files.

// archived is a request for an archive.
type archived struct {
	door
	path string
	// own says that the agent's rights count: the sandbox is its own.
	own    bool
	rights rights
}

func (a *Agent) archive(w http.ResponseWriter, r *http.Request) error {
	if err := httpapi.RequireMethod(r, http.MethodGet, http.MethodPut); err != nil {
		return err
	}
	d, err := a.openDoor(r)
	if err != nil {
		return err
	}
	q := r.URL.Query()
	x := &archived{door: *d, path: q.Get("path")}
	if x.path == "" || strings.ContainsRune(x.path, 0) {
		return httpapi.BadRequest("Expecting 'path=value' in query")
	}
	absolute, put := path.IsAbs(x.path), r.Method == http.MethodPut
	if put || absolute {
		action := map[bool]string{true: "WRITE_FILES", false: "READ_FILES"}[put]
		httpapi.Audit(r, action, "container_id", containerText(x.id), "file", x.path)
		err = a.authorizeSession(r, d, q.Get("user"))
	} else {
		err = a.authorizeSandbox(r, d)
	}
	if err != nil {
		return err
	}
	base, err := a.archiveBase(r, x, absolute, put)
	if err != nil {
		return err
	}
	defer func() { _ = base.Close() }()
	if put {
		return a.putArchive(w, r, x, base)
	}
	return a.getArchive(w, r, x, base)
}

// authorizeSandbox is the error of who may not see the sandbox of a container.
func (a *Agent) authorizeSandbox(r *http.Request, d *door) error {
	by := a.policy.Load().Approver(httpapi.PrincipalOf(r), authz.AccessSandboxes)
	fw, e := everOf(d.v, d.id)
	if e != nil && by.Allows(core.Owner(fw.Info, e.Info)) || e == nil && by.Everything() {
		return nil
	}
	return httpapi.StatusError(http.StatusForbidden)
}

// everOf is containerOf, for executors too that have ended.
func everOf(v *core.View, id *mesos.ContainerID) (*core.FrameworkView, *core.ExecutorView) {
	if fw, e := containerOf(v, id); e != nil {
		return fw, e
	}
	root := rootOf(id).GetValue()
	for _, fws := range [][]*core.FrameworkView{v.Frameworks, v.Completed} {
		for _, fw := range fws {
			for _, e := range fw.CompletedExecutors {
				if e.ContainerID.GetValue() == root {
					return fw, e
				}
			}
		}
	}
	return nil, nil
}

// archiveBase opens what the path is relative to: the sandbox, or the root of the container.
func (a *Agent) archiveBase(r *http.Request, x *archived, absolute, put bool) (*os.File, error) {
	p, err := a.placeOf(x.v, x.id)
	if _, e := containerOf(x.v, x.id); e == nil {
		if _, e := everOf(x.v, x.id); e != nil {
			p.root, err = e.Directory, nil
		}
	}
	if err != nil {
		return nil, httpapi.NotFound("%v", err)
	}
	x.own = !absolute && !put
	if !x.own {
		command := &mesos.CommandInfo{}
		if user := r.URL.Query().Get("user"); user != "" {
			command.User = &user
		}
		x.rights.user = a.userFor(p, &newContainer{id: newSessionID(x.id), command: command})
	}
	if !absolute {
		f, err := p.open()
		if err != nil {
			return nil, fileError(x.path, err)
		}
		return f, nil
	}
	pid, err := a.pidOf(r, &x.door)
	if err != nil {
		return nil, err
	}
	root, err := os.Open(procPath(pid, "root"))
	if err != nil {
		return nil, httpapi.Errorf(http.StatusInternalServerError, "Cannot see the files of container %s: %v", containerText(x.id), err)
	}
	err = x.rights.limit(pid)
	// The number may have become that of another process, before the files were opened.
	again, gone := a.pidOf(r, &x.door)
	switch {
	case gone != nil || again != pid:
		err = httpapi.Conflict("Container %s has ended", containerText(x.id))
	case err != nil:
		err = httpapi.Forbidden("Cannot act as the user of container %s: %v", containerText(x.id), err)
	default:
		return root, nil
	}
	_ = root.Close()
	return nil, err
}

// resolve opens what the path leads to, with O_PATH. In the container's root absolute links
// are those of the container; out of a sandbox none leads.
func (x *archived) resolve(base *os.File) (*os.File, error) {
	how := &unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_NO_MAGICLINKS | unix.RESOLVE_BENEATH}
	name := x.path
	if path.IsAbs(x.path) {
		how.Resolve = unix.RESOLVE_NO_MAGICLINKS | unix.RESOLVE_IN_ROOT
	}
	for {
		fd, err := unix.Openat2(int(base.Fd()), name, how)
		if err == nil {
			return os.NewFile(uintptr(fd), name), nil
		}
		// EAGAIN: somebody renames.
		if !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EINTR) {
			return nil, fileError(x.path, err)
		}
	}
}

// fileError is the answer to what went wrong with a file.
func fileError(name string, err error) error {
	if _, ok := errors.AsType[*httpapi.Error](err); ok {
		return err
	}
	if p, ok := errors.AsType[*fs.PathError](err); ok {
		err = p.Err // its path is one of ours, and says nothing to who asks
	}
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ENOTDIR):
		return httpapi.NotFound("There is no '%s'", name)
	case errors.Is(err, fs.ErrPermission):
		return httpapi.Forbidden("'%s' may not be read or written by the user of the container", name)
	case errors.Is(err, unix.EXDEV), errors.Is(err, unix.ELOOP):
		return httpapi.Forbidden("'%s' leads out of the sandbox", name)
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		return httpapi.Errorf(http.StatusInsufficientStorage, "'%s': %v", name, err)
	}
	if _, ok := errors.AsType[unix.Errno](err); !ok {
		// What os.Root refuses is no error of the kernel's.
		return httpapi.Forbidden("'%s' leads out of the directory", name)
	}
	return httpapi.Errorf(http.StatusInternalServerError, "'%s': %v", name, err)
}

// errNoFile says that something is shown as a file and is none.
var errNoFile = httpapi.Forbidden("What the kernel shows as files (/proc, /sys and the like) is no part of an archive")

// kernelFiles are file systems that hold no files: to write there changes the machine, to read
// may take something away.
var kernelFiles = map[int64]bool{
	unix.PROC_SUPER_MAGIC: true, unix.SYSFS_MAGIC: true, unix.CGROUP_SUPER_MAGIC: true, unix.CGROUP2_SUPER_MAGIC: true,
	unix.DEBUGFS_MAGIC: true, unix.TRACEFS_MAGIC: true, unix.SECURITYFS_MAGIC: true, unix.BPF_FS_MAGIC: true,
	unix.EFIVARFS_MAGIC: true, unix.PSTOREFS_MAGIC: true, unix.DEVPTS_SUPER_MAGIC: true, unix.BINFMTFS_MAGIC: true,
	unix.SELINUX_MAGIC: true, unix.SMACK_MAGIC: true, unix.NSFS_MAGIC: true, unix.RDTGROUP_SUPER_MAGIC: true,
	unix.XENFS_SUPER_MAGIC: true, configfsMagic: true, fusectlMagic: true, mqueueMagic: true,
}

const (
	configfsMagic = 0x62656570
	fusectlMagic  = 0x65735543
	mqueueMagic   = 0x19800202
)

// holdsFiles is an error for what is on a file system of the kernel's.
func holdsFiles(f *os.File) error {
	var st unix.Statfs_t
	if err := unix.Fstatfs(int(f.Fd()), &st); err != nil {
		return err
	}
	if kernelFiles[st.Type] {
		return errNoFile
	}
	return nil
}

// reopened is the path by which what was opened with O_PATH is opened for real.
func reopened(f *os.File) string { return fmt.Sprintf("/proc/self/fd/%d", f.Fd()) }

// getArchive answers with a tar.
func (a *Agent) getArchive(w http.ResponseWriter, r *http.Request, x *archived, base *os.File) error {
	began := false
	err := x.do(func() error {
		at, err := x.resolve(base)
		if err != nil {
			return err
		}
		defer func() { _ = at.Close() }()
		if err := holdsFiles(at); err != nil {
			return fileError(x.path, err)
		}
		info, err := at.Stat()
		if err != nil {
			return fileError(x.path, err)
		}
		t := &tarWriter{tar: tar.NewWriter(&slowWriter{w, http.NewResponseController(w)}), agent: a}
		begin := func() {
			began = true
			a.doors.rt.Report(r, nil)
			w.Header().Set("Content-Type", "application/x-tar")
			w.Header().Set("X-Content-Type-Options", "nosniff")
			w.WriteHeader(http.StatusOK)
		}
		name := path.Base(path.Clean(x.path))
		switch {
		case info.IsDir():
			dir, err := os.OpenRoot(reopened(at))
			if err != nil {
				return fileError(x.path, err)
			}
			defer func() { _ = dir.Close() }()
			// That it may be read is known before anything is answered.
			if first, err := dir.Open("."); err != nil {
				return fileError(x.path, err)
			} else if err := first.Close(); err != nil {
				return err
			}
			begin()
			if name == "/" || name == "." {
				name = ""
			}
			if err := t.directory(dir, ".", name, info); err != nil {
				return err
			}
		case info.Mode().IsRegular():
			f, err := os.Open(reopened(at))
			if err != nil {
				return fileError(x.path, err)
			}
			defer func() { _ = f.Close() }()
			w.Header().Set("Clusterd-Archive-Size", strconv.FormatInt(info.Size(), 10))
			begin()
			if err := t.file(f, name, info); err != nil {
				return err
			}
		default:
			return httpapi.BadRequest("'%s' is neither a file nor a directory", x.path)
		}
		return t.tar.Close()
	})
	if err != nil && began {
		a.log.Debug().Err(err).Str("path", x.path).Msg("an archive was not sent to its end")
		panic(http.ErrAbortHandler) // so that the client does not take it for the end
	}
	return err
}

// slowWriter cuts a client off who does not read.
type slowWriter struct {
	w  http.ResponseWriter
	rc *http.ResponseController
}

// Write sends a piece.
func (s *slowWriter) Write(b []byte) (int, error) {
	_ = s.rc.SetWriteDeadline(time.Now().Add(streamWriteTimeout)) // not every transport can
	return s.w.Write(b)
}

// tarWriter writes files and directories.
type tarWriter struct {
	tar   *tar.Writer
	agent *Agent
}

// entry writes a header. Who owns it is told by number alone: names are those of the host.
func (t *tarWriter) entry(name, link string, info fs.FileInfo) (*tar.Header, error) {
	h, err := tar.FileInfoHeader(info, link)
	if err != nil {
		return nil, err
	}
	h.Name, h.Uname, h.Gname, h.Format = name, "", "", tar.FormatPAX
	h.AccessTime, h.ChangeTime = time.Time{}, time.Time{}
	if info.IsDir() {
		h.Name += "/"
	}
	return h, t.tar.WriteHeader(h)
}

// file writes a file. One that shrinks meanwhile is filled up with zeroes, as tar does, and what
// it grows by is left out: it is as large as the header says.
func (t *tarWriter) file(f *os.File, name string, info fs.FileInfo) error {
	h, err := t.entry(name, "", info)
	if err != nil {
		return err
	}
	n, err := io.Copy(t.tar, io.LimitReader(f, h.Size))
	if err != nil {
		return err
	}
	_, err = io.CopyN(t.tar, zeroes{}, h.Size-n)
	return err
}

type zeroes struct{}

// Read fills p with zeroes.
func (zeroes) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// directory writes what is below a directory. What may not be read, and what is neither file
// nor directory nor link, is left out.
func (t *tarWriter) directory(root *os.Root, at, name string, info fs.FileInfo) error {
	d, err := root.Open(at)
	if err != nil {
		return t.leftOut(name, err)
	}
	defer func() { _ = d.Close() }()
	if err := holdsFiles(d); err != nil {
		return t.leftOut(name, err)
	}
	if name != "" {
		if _, err := t.entry(name, "", info); err != nil {
			return err
		}
	}
	for {
		entries, err := d.ReadDir(256)
		for _, e := range entries {
			if err := t.child(root, path.Join(at, e.Name()), path.Join(name, e.Name())); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return t.leftOut(name, err)
		}
	}
}

func (t *tarWriter) child(root *os.Root, at, name string) error {
	if strings.Count(at, "/") > maxDepth {
		return t.leftOut(name, errors.New("too deep"))
	}
	if t.agent.ctx.Err() != nil {
		return t.agent.ctx.Err()
	}
	info, err := root.Lstat(at)
	if err != nil {
		return t.leftOut(name, err)
	}
	switch {
	case info.IsDir():
		return t.directory(root, at, name, info)
	case info.Mode().IsRegular():
		// It may have become something else since.
		f, err := root.OpenFile(at, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOFOLLOW, 0)
		if err != nil {
			return t.leftOut(name, err)
		}
		defer func() { _ = f.Close() }()
		if info, err = f.Stat(); err != nil || !info.Mode().IsRegular() || holdsFiles(f) != nil {
			return t.leftOut(name, err)
		}
		return t.file(f, name, info)
	case info.Mode().Type() == fs.ModeSymlink:
		link, err := root.Readlink(at)
		if err != nil {
			return t.leftOut(name, err)
		}
		_, err = t.entry(name, link, info)
		return err
	}
	return nil
}

// maxDepth bounds how deep directories are followed.
const maxDepth = 256

func (t *tarWriter) leftOut(name string, err error) error {
	t.agent.log.Debug().Err(err).Str("path", name).Msg("left out of an archive")
	return nil
}

// putArchive extracts a tar.
func (a *Agent) putArchive(w http.ResponseWriter, r *http.Request, x *archived, base *os.File) error {
	var done extracted
	err := x.do(func() error {
		at, err := x.resolve(base)
		if err != nil {
			return err
		}
		defer func() { _ = at.Close() }()
		root, err := os.OpenRoot(reopened(at))
		if err != nil {
			return fileError(x.path, err)
		}
		defer func() { _ = root.Close() }()
		return done.extract(root, tar.NewReader(&slowReader{r.Body, http.NewResponseController(w)}))
	})
	if err != nil {
		a.refuseArchive(w, r, err)
		return nil
	}
	body, err := json.Marshal(done)
	if err != nil {
		return err
	}
	return httpapi.WriteJSON(w, r, body)
}

const (
	// lingerFor and lingerBytes bound what is read of an archive that was refused.
	lingerFor   = 10 * time.Second
	lingerBytes = 256 << 20
)

// refuseArchive answers while the client still sends. Were the connection closed instead of
// read for a while, the answer would be lost on the way: who fills a disk would be told of a
// connection that was reset.
func (a *Agent) refuseArchive(w http.ResponseWriter, r *http.Request, err error) {
	a.doors.rt.Report(r, err)
	rc := http.NewResponseController(w)
	_ = rc.EnableFullDuplex()             // or the answer waits for the body
	w.Header().Set("Connection", "close") // it is of no use after this
	httpapi.WriteError(w, err)
	_ = rc.Flush()
	_ = rc.SetReadDeadline(time.Now().Add(lingerFor))
	_, _ = io.CopyN(io.Discard, r.Body, lingerBytes) // until the client has seen the answer
}

// slowReader cuts a client off who does not go on sending.
type slowReader struct {
	r  io.Reader
	rc *http.ResponseController
}

// Read receives a piece.
func (s *slowReader) Read(b []byte) (int, error) {
	_ = s.rc.SetReadDeadline(time.Now().Add(streamWriteTimeout)) // not every transport can
	return s.r.Read(b)
}
