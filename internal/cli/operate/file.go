package operate

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	cliv2 "github.com/urfave/cli/v2"

	"clusterd/api/client/operator"
	mesos "clusterd/api/mesos/v1"
	"clusterd/internal/cli/console"
)

func fileCommand(e console.Env) *cliv2.Command {
	const where = "WHERE is a task (paths are those of its sandbox), an agent (id or hostname), or master: FILE is\n" +
		"TASK:PATH, AGENT:/PATH or master:/PATH. What an agent shows begins with /frameworks, and with\n" +
		"/slave/log and /master/log where they log to a file."
	return noun("file", "look at sandboxes and logs",
		&cliv2.Command{
			Name: "list", Aliases: []string{"ls"}, Usage: "list a directory", ArgsUsage: "FILE", Description: where,
			Flags: console.OutputFlags(), Action: connected(e, 1, 1, listFiles),
		},
		&cliv2.Command{
			Name: "cat", Usage: "print files", ArgsUsage: "FILE...", Description: where,
			Flags: console.Flags(), Action: connected(e, 1, -1, catFiles),
		},
		&cliv2.Command{
			Name: "tail", Usage: "print the end of a file, and what comes", ArgsUsage: "FILE", Description: where,
			Flags: console.Flags(
				&cliv2.BoolFlag{Name: "follow", Aliases: []string{"f"}, Usage: "go on as the file grows, until ^C"},
				&cliv2.IntFlag{Name: "lines", Aliases: []string{"n"}, Usage: "begin with the last `N` lines", Value: 10},
			),
			Action: connected(e, 1, 1, tailFile),
		},
		&cliv2.Command{
			Name: "get", Aliases: []string{"download"}, Usage: "copy a file or a directory here", ArgsUsage: "FILE [TO]", Description: where,
			Flags: console.Flags(&cliv2.BoolFlag{Name: "force", Usage: "replace what is here"}), Action: connected(e, 1, 2, getFile),
		},
	)
}

// place is a path among the files of a server.
type place struct {
	files operator.Files
	path  string
	agent string // empty: the leading master
}

// findPlace reads WHERE:PATH.
func findPlace(x *call, text string) (place, error) {
	where, rest, ok := strings.Cut(text, ":")
	if where == "" {
		return place{}, console.Hint(console.Usagef("%q does not say whose file it is", text), "TASK:PATH, AGENT:/PATH or master:/PATH")
	}
	if where == "master" {
		return place{files: x.cluster.MasterFiles(), path: path.Clean("/" + rest)}, nil
	}
	task, taskErr := x.cluster.FindTask(x.ctx(), where)
	if taskErr == nil {
		id := task.GetAgentId().GetValue()
		return place{files: x.cluster.AgentFiles(id), path: path.Join(task.Sandbox(), path.Clean("/"+rest)), agent: id}, nil
	}
	if console.Code(taskErr) != console.ExitNotFound {
		return place{}, taskErr
	}
	a, err := x.cluster.FindAgent(x.ctx(), where)
	if err != nil {
		if !ok {
			return place{}, console.Hint(console.Usagef("%q does not say whose file it is", text), "TASK:PATH, AGENT:/PATH or master:/PATH")
		}
		return place{}, console.Hint(console.Mark(console.ErrNotFound, fmt.Errorf("neither a task nor an agent is called %q", where)), "clusterd task list --all and clusterd agent list show them")
	}
	return place{files: x.cluster.AgentFiles(agentID(a)), path: path.Clean("/" + rest), agent: agentID(a)}, nil
}

func listFiles(x *call) error {
	p, err := findPlace(x, x.args[0])
	if err != nil {
		return err
	}
	if p.path == "/" {
		return listRoots(x, p)
	}
	infos, err := p.files.ListFiles(x.ctx(), p.path)
	if err != nil {
		return x.cluster.Explain(err)
	}
	slices.SortFunc(infos, func(a, b *mesos.FileInfo) int { return strings.Compare(a.GetPath(), b.GetPath()) })
	t := &console.Table{Header: []string{"MODE", "SIZE", "CHANGED", "NAME"}, Wide: []string{"LINKS", "UID", "GID", "PATH"}, Items: infos}
	for _, f := range infos {
		name := path.Base(f.GetPath())
		if isDir(f) {
			name += "/"
		}
		t.Add(fileMode(f.GetMode()).String(), fmt.Sprint(f.GetSize()), console.Stamp(console.Time(f.GetMtime())), name,
			fmt.Sprint(f.GetNlink()), f.GetUid(), f.GetGid(), f.GetPath())
		t.Names = append(t.Names, name)
	}
	return x.print(t)
}

// listRoots lists where the files of a server begin.
func listRoots(x *call, p place) error {
	roots, err := map[string]string{}, error(nil)
	if p.agent == "" {
		err = x.cluster.Get(x.ctx(), "/files/debug", &roots)
	} else {
		err = x.cluster.AgentGet(x.ctx(), p.agent, "/files/debug", &roots)
	}
	if err != nil {
		return err
	}
	t := &console.Table{Header: []string{"NAME"}, Wide: []string{"ON DISK"}}
	for _, name := range slices.Sorted(maps.Keys(roots)) {
		t.Add(name, roots[name])
	}
	return x.print(t)
}

// fileMode turns a mode of stat(2) into Go's.
func fileMode(mode uint32) fs.FileMode {
	m := fs.FileMode(mode & 0o777)
	switch mode & 0o170000 {
	case 0o040000:
		m |= fs.ModeDir
	case 0o120000:
		m |= fs.ModeSymlink
	case 0o010000:
		m |= fs.ModeNamedPipe
	case 0o140000:
		m |= fs.ModeSocket
	}
	return m
}

func isDir(f *mesos.FileInfo) bool { return fileMode(f.GetMode()).IsDir() }

func catFiles(x *call) error {
	return console.Each(x.Env, x.args, func(a string) string { return a }, func(a string) error {
		p, err := findPlace(x, a)
		if err != nil {
			return err
		}
		_, err = operator.CopyFile(x.ctx(), p.files, x.Out, p.path, 0)
		return x.cluster.Explain(err)
	})
}

func tailFile(x *call) error {
	p, err := findPlace(x, x.args[0])
	if err != nil {
		return err
	}
	offset, err := lastLines(x, p, x.Int("lines"))
	if err != nil {
		return x.cluster.Explain(err)
	}
	if offset, err = operator.CopyFile(x.ctx(), p.files, x.Out, p.path, offset); err != nil || !x.Bool("follow") {
		return x.cluster.Explain(err)
	}
	for data, err := range operator.Follow(x.ctx(), p.files, p.path, offset, pollInterval) {
		if err != nil {
			if x.ctx().Err() != nil {
				return nil // ^C is how one stops to follow
			}
			return x.cluster.Explain(err)
		}
		if _, err := x.Out.Write(data); err != nil {
			return err
		}
	}
	return nil
}

// lastLines is where the last n lines of a file begin. It is read from its end.
func lastLines(x *call, p place, n int) (uint64, error) {
	_, size, err := p.files.ReadFile(x.ctx(), p.path, 0, 0)
	if err != nil || n <= 0 {
		return size, err
	}
	const step = 64 << 10
	for end := size; end > 0; {
		begin := end - min(end, step)
		data, _, err := p.files.ReadFile(x.ctx(), p.path, begin, end-begin)
		if err != nil {
			return 0, err
		}
		if end == size {
			data = bytes.TrimSuffix(data, []byte("\n"))
		}
		for {
			i := bytes.LastIndexByte(data, '\n')
			if i < 0 {
				break
			}
			if n--; n == 0 {
				return begin + uint64(i) + 1, nil
			}
			data = data[:i]
		}
		end = begin
	}
	return 0, nil
}

func getFile(x *call) error {
	p, err := findPlace(x, x.args[0])
	if err != nil {
		return err
	}
	to := path.Base(p.path)
	if len(x.args) > 1 {
		to = x.args[1]
		if info, err := os.Stat(to); err == nil && info.IsDir() {
			to = filepath.Join(to, path.Base(p.path))
		}
	}
	d := &download{x: x, files: p.files, force: x.Bool("force")}
	if err := d.get(p.path, to); err != nil {
		return x.cluster.Explain(err)
	}
	x.say("copied %s, %s, to %s", console.Plural(d.count, "file"), console.Bytes(uint64(d.size)), to)
	return nil
}

// download copies files here.
type download struct {
	x     *call
	files operator.Files
	force bool
	count int
	size  int64
}

// get copies a file, or a directory with all that is in it.
func (d *download) get(from, to string) error {
	if d.isDirectory(from) {
		infos, err := d.files.ListFiles(d.x.ctx(), from)
		if err != nil {
			return err
		}
		if err := os.MkdirAll(to, 0o755); err != nil {
			return err
		}
		for _, f := range infos {
			name := path.Base(f.GetPath())
			if !filepath.IsLocal(name) {
				return fmt.Errorf("%s: %q is no name for a file here", from, name)
			}
			mode := fileMode(f.GetMode())
			switch {
			case mode.IsDir(), mode.IsRegular():
			default:
				fmt.Fprintf(d.x.Err, "clusterd: warning: %s is neither a file nor a directory (%s): left out\n", f.GetPath(), mode)
				continue
			}
			if err := d.get(path.Join(from, name), filepath.Join(to, name)); err != nil {
				return err
			}
		}
		return nil
	}
	return d.file(from, to)
}

// isDirectory asks what lies above, since a file is listed as an empty directory is. Where
// nothing lies above, it is one.
func (d *download) isDirectory(name string) bool {
	above, err := d.files.ListFiles(d.x.ctx(), path.Dir(name))
	if err != nil {
		infos, err := d.files.ListFiles(d.x.ctx(), name)
		return err == nil && len(infos) > 0
	}
	return slices.ContainsFunc(above, func(f *mesos.FileInfo) bool { return path.Base(f.GetPath()) == path.Base(name) && isDir(f) })
}

// file copies one file; what is here under its name stays until it is whole.
func (d *download) file(from, to string) (err error) {
	if _, err := os.Lstat(to); err == nil && !d.force {
		return console.Hint(fmt.Errorf("%s is here already", to), "--force replaces it")
	}
	_, size, err := d.files.ReadFile(d.x.ctx(), from, 0, 0)
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(to), "."+filepath.Base(to)+".*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	bar := console.Progress(d.x.Env, path.Base(from), int64(size))
	_, err = operator.CopyFile(d.x.ctx(), d.files, io.MultiWriter(f, bar), from, 0)
	bar.Done()
	if err = errors.Join(err, f.Chmod(0o644), f.Close()); err != nil {
		return err
	}
	d.count, d.size = d.count+1, d.size+int64(size)
	return os.Rename(f.Name(), to)
}
