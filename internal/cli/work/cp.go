package work

import (
	"archive/tar"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	cliv2 "github.com/urfave/cli/v2"

	"clusterd/api/client"
	"clusterd/internal/cli/console"
)

// archivePath is where agents give out and take in files of containers.
const archivePath = console.OwnPath + "archive"

func cpCommand(e console.Env) *cliv2.Command {
	return &cliv2.Command{
		Name:      "cp",
		Usage:     "copy files and directories out of a task and into it",
		ArgsUsage: "TASK:PATH LOCAL | LOCAL TASK:PATH",
		Description: "A relative PATH is one in the task's sandbox, also of a task that has ended; an absolute one is\n" +
			"as the task sees it, and needs one that runs. A target that is a directory gets the source\n" +
			"into it. LOCAL may be -: a file's bytes on standard output (of a directory, a tar), or on\n" +
			"standard input.",
		Flags: console.Flags(
			&cliv2.StringFlag{Name: "user", Aliases: []string{"u"}, Usage: "`USER` whose rights count in the task; default: the task's"},
			&cliv2.BoolFlag{Name: "quiet", Aliases: []string{"q"}, Usage: "show no progress"},
		),
		Action: func(c *cliv2.Context) error {
			if c.NArg() != 2 {
				return console.Hint(console.Usagef("cp takes a source and a target"), "clusterd cp TASK:stdout . or clusterd cp FILE TASK:")
			}
			return runCp(c, e)
		},
	}
}

// place is one side of a copy: a path of a task, or, without a task, of this machine.
type place struct{ task, path string }

// placeOf reads TASK:PATH. What begins like a path of this machine is one, colon or not.
func placeOf(text string) place {
	task, at, ok := strings.Cut(text, ":")
	if !ok || task == "" || strings.HasPrefix(text, "/") || strings.HasPrefix(text, ".") || text == "-" {
		return place{path: text}
	}
	if at == "" {
		at = "."
	}
	return place{task, at}
}

// copying is one run of cp.
type copying struct {
	console.Env
	cluster *console.Cluster
	task    *console.Task
	user    string
	quiet   bool
	remote  string
}

func runCp(c *cliv2.Context, e console.Env) error {
	from, to := placeOf(c.Args().Get(0)), placeOf(c.Args().Get(1))
	x := &copying{Env: e, user: c.String("user"), quiet: c.Bool("quiet")}
	ref := from
	switch {
	case from.task != "" && to.task != "":
		return console.Hint(console.Usagef("one of source and target is on this machine"), "clusterd cp TASK:FILE - | clusterd cp - TASK:FILE")
	case to.task != "":
		ref = to
	case from.task == "":
		return console.Hint(console.Usagef("neither %q nor %q is a path of a task", from.path, to.path), "TASK:PATH is one")
	}
	x.remote = ref.path
	var err error
	if x.cluster, err = console.Connect(c); err != nil {
		return err
	}
	task, err := x.cluster.FindTask(c.Context, ref.task)
	if err != nil {
		return err
	}
	if task.Container() == nil {
		return fmt.Errorf("task %s is %s: it has no container yet", task.GetTaskId().GetValue(), task.GetState())
	}
	x.task = &task
	if from.task != "" {
		return x.download(c.Context, to.path)
	}
	return x.upload(c.Context, from.path)
}

// request asks for the archive of a path of the container.
func (x *copying) request(ctx context.Context, method, at string, body io.Reader) (*http.Response, error) {
	q := url.Values{"container_id": {containerText(x.task.Container())}, "path": {at}}
	if x.user != "" {
		q.Set("user", x.user)
	}
	r, err := x.cluster.Request(ctx, method, archivePath+"?"+q.Encode(), body)
	if err != nil {
		return nil, err
	}
	if method == http.MethodPut {
		r.Header.Set("Content-Type", "application/x-tar")
	}
	res, err := x.cluster.AgentDo(x.task.GetAgentId().GetValue(), r)
	if client.StatusCode(err) == http.StatusNotFound && strings.TrimSpace(err.Error()) == "404 Not Found" {
		return nil, console.Hint(err, "its agent is of a version that gives out no archives")
	}
	return res, err
}

func (x *copying) bar(text string, total int64) *console.Bar {
	if x.quiet {
		return nil
	}
	return console.Progress(x.Env, text, total)
}

// download copies out of the task.
func (x *copying) download(ctx context.Context, to string) error {
	res, err := x.request(ctx, http.MethodGet, x.remote, nil)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	// Without the header it is a directory, whose size nobody knows before its end.
	size, _ := strconv.ParseInt(res.Header.Get("Clusterd-Archive-Size"), 10, 64)
	isFile := res.Header.Get("Clusterd-Archive-Size") != ""
	bar := x.bar(path.Base(x.remote), size)
	defer bar.Done()
	body := io.TeeReader(res.Body, bar)
	if to == "-" {
		if !isFile {
			_, err := io.Copy(x.Out, body)
			return err
		}
		t := tar.NewReader(body)
		if _, err := t.Next(); err != nil {
			return fmt.Errorf("read the archive: %w", err)
		}
		_, err := io.Copy(x.Out, t)
		return err
	}
	base := path.Base(path.Clean(x.remote))
	whole := base == "." || base == "/"
	dir, name := filepath.Split(filepath.Clean(to))
	if whole {
		// What is in it comes into the target.
		dir, name = to, ""
		if err := os.MkdirAll(to, 0o755); err != nil {
			return err
		}
	} else if info, err := os.Stat(to); err == nil && info.IsDir() {
		dir, name = to, base
	} else if strings.HasSuffix(to, "/") {
		return fmt.Errorf("there is no directory %s", to)
	}
	if dir == "" {
		dir = "."
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer func() { _ = root.Close() }() // nothing is written by that
	return extract(tar.NewReader(body), root, base, name)
}

// extract writes an archive below root, what is called base in it as name; an empty name
// takes all as it is called. Nothing is written outside of root, whatever the archive says:
// a task made it.
func extract(t *tar.Reader, root *os.Root, base, name string) error {
	type mode struct {
		name string
		mode fs.FileMode
	}
	var dirs []mode
	for {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fmt.Errorf("the archive is cut off: %w", err)
		}
		at := path.Clean(h.Name)
		if name != "" {
			rest, ok := strings.CutPrefix(at, base)
			if !ok || rest != "" && rest[0] != '/' {
				return fmt.Errorf("the archive has %q, which was not asked for", h.Name)
			}
			at = path.Clean(name + rest)
		}
		if !filepath.IsLocal(at) {
			return fmt.Errorf("the archive leads out of the target: %q", h.Name)
		}
		if err := extractOne(t, root, h, at); err != nil {
			return err
		}
		if h.Typeflag == tar.TypeDir {
			dirs = append(dirs, mode{at, h.FileInfo().Mode().Perm()})
		}
	}
	// Only now, or there would be no writing into those that are read only.
	for _, d := range dirs {
		if d.name == "." {
			continue
		}
		if err := root.Chmod(d.name, d.mode); err != nil {
			return err
		}
	}
	return nil
}

func extractOne(t *tar.Reader, root *os.Root, h *tar.Header, at string) error {
	if dir := path.Dir(at); dir != "." {
		if err := root.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	// A link that is there is replaced, not followed.
	if info, err := root.Lstat(at); err == nil && info.Mode().Type() == fs.ModeSymlink && h.Typeflag == tar.TypeSymlink {
		if err := root.Remove(at); err != nil {
			return err
		}
	}
	switch h.Typeflag {
	case tar.TypeDir:
		if err := root.MkdirAll(at, 0o755); err != nil || at == "." {
			return err
		}
		return root.Chmod(at, h.FileInfo().Mode().Perm()|0o700)
	case tar.TypeReg:
		return extractFile(t, root, h, at)
	case tar.TypeSymlink:
		return root.Symlink(h.Linkname, at)
	}
	return nil // no file
}

// extractFile writes a file beside its place, which it takes when it is whole: a copy that is
// cut short leaves what was there.
func extractFile(t *tar.Reader, root *os.Root, h *tar.Header, at string) error {
	perm := h.FileInfo().Mode().Perm()
	old, err := root.Lstat(at)
	there := err == nil && old.Mode().IsRegular()
	switch {
	case err == nil && old.IsDir():
		return fmt.Errorf("%s is a directory here, and a file there", at)
	case err == nil && !there && old.Mode().Type() != fs.ModeSymlink: // a device or a pipe: what is written goes through
		return overwrite(t, root, at, 0)
	}
	beside := path.Join(path.Dir(at), ".clusterd-"+strings.ToLower(rand.Text()[:13]))
	f, err := root.OpenFile(beside, os.O_CREATE|os.O_WRONLY|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrPermission) && there {
		return overwrite(t, root, at, os.O_TRUNC) // the file may be written to, its directory not
	}
	if err != nil {
		return err
	}
	_, err = io.Copy(f, t)
	if err == nil && there {
		// It stays whose it was, where that may be said.
		if s, ok := old.Sys().(*syscall.Stat_t); ok {
			_ = f.Chown(int(s.Uid), int(s.Gid))
		}
	}
	if err = errors.Join(err, f.Chmod(perm), f.Close()); err == nil {
		if err = root.Chtimes(beside, h.ModTime, h.ModTime); err == nil {
			err = root.Rename(beside, at)
		}
	}
	if err != nil {
		return errors.Join(err, root.Remove(beside))
	}
	return nil
}

// overwrite writes into what is there.
func overwrite(t *tar.Reader, root *os.Root, at string, flag int) error {
	f, err := root.OpenFile(at, os.O_WRONLY|flag, 0)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, t)
	return errors.Join(err, f.Close())
}

// upload copies into the task.
func (x *copying) upload(ctx context.Context, from string) error {
	var file *os.File
	var info fs.FileInfo
	var err error
	if from == "-" {
		// An archive says the size of a file before its bytes.
		if file, err = spool(console.Input(ctx, x.In)); err != nil {
			return err
		}
		defer file.Close()
		info, err = file.Stat()
	} else {
		info, err = os.Stat(from)
	}
	if err != nil {
		return err
	}
	dir, name, err := x.target(ctx, from)
	if err != nil {
		return err
	}
	total, err := sizeBelow(from, info)
	if err != nil {
		return err
	}
	bar := x.bar(name, total)
	defer bar.Done()
	pr, pw := io.Pipe()
	defer func() { _ = pr.Close() }() // ends the writer
	go func() {
		t := tar.NewWriter(io.MultiWriter(pw, bar))
		var err error
		switch {
		case file != nil:
			err = addFile(t, file, info, name, 0o644)
		case info.IsDir():
			err = addDir(t, from, name)
		default:
			var f *os.File
			if f, err = os.Open(from); err == nil {
				err = addFile(t, f, info, name, info.Mode().Perm())
				_ = f.Close() // it was read
			}
		}
		pw.CloseWithError(errors.Join(err, t.Close()))
	}()
	res, err := x.request(ctx, http.MethodPut, dir, pr)
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, res.Body)
	return errors.Join(err, res.Body.Close())
}

// target is the directory that an archive goes to, and how what is in it is called.
func (x *copying) target(ctx context.Context, from string) (dir, name string, err error) {
	base := filepath.Base(from)
	if abs, err := filepath.Abs(from); err == nil && from != "-" {
		base = filepath.Base(abs) // . and .. have a name
	}
	isDir, err := x.isDirectory(ctx)
	if err != nil {
		return "", "", err
	}
	if isDir || strings.HasSuffix(x.remote, "/") {
		if from == "-" {
			return "", "", console.Hint(console.Usagef("%s is a directory: what is standard input to be called?", x.remote), "TASK:%s", path.Join(x.remote, "NAME"))
		}
		return x.remote, base, nil
	}
	clean := path.Clean(x.remote)
	return path.Dir(clean), path.Base(clean), nil
}

// isDirectory asks whether the path is a directory of the task, by the beginning of its
// archive.
func (x *copying) isDirectory(ctx context.Context) (bool, error) {
	if x.remote == "." || x.remote == "/" {
		return true, nil
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // the rest is not read
	res, err := x.request(ctx, http.MethodGet, x.remote, nil)
	switch client.StatusCode(err) {
	case 0:
	case http.StatusNotFound, http.StatusForbidden, http.StatusBadRequest:
		return false, nil // who may only write is told so when writing
	}
	if err != nil {
		return false, err
	}
	defer res.Body.Close()
	return res.Header.Get("Clusterd-Archive-Size") == "", nil
}

// spool keeps what comes in in a file without a name.
func spool(in io.Reader) (*os.File, error) {
	f, err := os.CreateTemp("", "clusterd-cp-")
	if err != nil {
		return nil, err
	}
	_, err = io.Copy(f, in)
	_, seekErr := f.Seek(0, io.SeekStart)
	if err := errors.Join(os.Remove(f.Name()), err, seekErr); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// sizeBelow is how large a file is, or all files of a directory are.
func sizeBelow(from string, info fs.FileInfo) (int64, error) {
	if !info.IsDir() {
		return info.Size(), nil
	}
	var sum int64
	err := filepath.WalkDir(from, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		info, err := d.Info()
		if err == nil {
			sum += info.Size()
		}
		return err
	})
	return sum, err
}

func addFile(t *tar.Writer, f *os.File, info fs.FileInfo, name string, mode fs.FileMode) error {
	h := &tar.Header{
		Typeflag: tar.TypeReg, Name: name, Size: info.Size(), Mode: int64(mode), ModTime: info.ModTime(), Format: tar.FormatPAX,
	}
	if err := t.WriteHeader(h); err != nil {
		return err
	}
	n, err := io.Copy(t, io.LimitReader(f, h.Size))
	if err == nil && n < h.Size {
		err = fmt.Errorf("%s has become shorter while it was copied", f.Name())
	}
	return err
}

// addDir adds a directory with what is below it. What is neither file, directory nor link is
// left out.
func addDir(t *tar.Writer, from, name string) error {
	return filepath.WalkDir(from, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, p)
		if err != nil {
			return err
		}
		at := path.Join(name, filepath.ToSlash(rel))
		info, err := d.Info()
		if err != nil {
			return err
		}
		switch {
		case d.IsDir():
			return t.WriteHeader(&tar.Header{
				Typeflag: tar.TypeDir, Name: at + "/", Mode: int64(info.Mode().Perm()), ModTime: info.ModTime(), Format: tar.FormatPAX,
			})
		case d.Type() == fs.ModeSymlink:
			link, err := os.Readlink(p)
			if err != nil {
				return err
			}
			return t.WriteHeader(&tar.Header{
				Typeflag: tar.TypeSymlink, Name: at, Linkname: link, Mode: 0o777, ModTime: info.ModTime(), Format: tar.FormatPAX,
			})
		case d.Type().IsRegular():
			f, err := os.Open(p)
			if err != nil {
				return err
			}
			defer f.Close()
			return addFile(t, f, info, at, info.Mode().Perm())
		}
		return nil
	})
}
