package isolation

import (
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	mesos "clusterd/api/mesos/v1"
	"clusterd/isolation/supervisor"
)

// BuiltinCommandExecutorTLS is the command executor with TLS, for tasks whose
// checks speak HTTP and so may meet https; see CommandExecutorFor.
const BuiltinCommandExecutorTLS Builtin = "command-executor-tls"

// builtinSupervisor is the process above each container.
const builtinSupervisor Builtin = "supervisor"

// builtins are all of them.
var builtins = []Builtin{builtinSupervisor, BuiltinCommandExecutor, BuiltinCommandExecutorTLS, BuiltinDefaultExecutor}

// CommandExecutorFor chooses the command executor for a task: the one with TLS
// takes half a millisecond longer to start, so only tasks with an HTTP check
// or health check get it (a redirect may lead to https at any time).
func CommandExecutorFor(task *mesos.TaskInfo) Builtin {
	if task.GetHealthCheck().GetType() == mesos.HealthCheck_HTTP || task.GetCheck().GetType() == mesos.CheckInfo_HTTP {
		return BuiltinCommandExecutorTLS
	}
	return BuiltinCommandExecutor
}

//go:embed all:embedded
var embedded embed.FS

// Programs are the executables that are started beside and in containers:
// small ones of their own, embedded in the binary and run from memory, or the
// binary itself in another mode where they were not embedded.
type Programs struct {
	programs map[Builtin]program
}

type program struct {
	// file is what is executed, through /proc/self/fd.
	file *os.File
	// argv is its name and, for the whole binary, its mode.
	argv []string
	// embedded says that it is a program of its own.
	embedded bool
	// why says why not.
	why string
}

// LoadPrograms readies the programs. It fails only when this process's own
// executable cannot be opened.
func LoadPrograms() (*Programs, error) {
	sub, err := fs.Sub(embedded, "embedded")
	if err != nil {
		return nil, err
	}
	return LoadProgramsFrom(sub)
}

// LoadProgramsFrom is LoadPrograms with other files than the embedded ones: a
// file for each program, by its name.
func LoadProgramsFrom(files fs.FS) (*Programs, error) {
	// /proc/self/exe would be another program in a child; an open file is this
	// very build, even when the file on disk is replaced.
	exe, err := unix.Open("/proc/self/exe", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open own executable: %w", err)
	}
	self, err := highFile(exe, "clusterd")
	if err != nil {
		return nil, err
	}
	p := &Programs{programs: make(map[Builtin]program)}
	for _, b := range builtins {
		file, err := fromMemory(files, b)
		if err == nil {
			p.programs[b] = program{file: file, argv: []string{"clusterd-" + string(b)}, embedded: true}
			continue
		}
		why := err.Error()
		if errors.Is(err, fs.ErrNotExist) {
			why = "not embedded"
		}
		p.programs[b] = program{file: self, argv: []string{"clusterd", string(b)}, why: why}
	}
	return p, nil
}

// fromMemory puts an embedded program into a sealed file in memory and tries
// whether the system lets it run (noexec policies).
func fromMemory(files fs.FS, b Builtin) (*os.File, error) {
	body, err := fs.ReadFile(files, string(b))
	if err != nil {
		return nil, err
	}
	fd, err := unix.MemfdCreate("clusterd-"+string(b), unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING|unix.MFD_EXEC)
	if errors.Is(err, unix.EINVAL) { // MFD_EXEC came with Linux 6.3
		fd, err = unix.MemfdCreate("clusterd-"+string(b), unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	}
	if err != nil {
		return nil, fmt.Errorf("memfd_create: %w", err)
	}
	file, err := highFile(fd, "clusterd-"+string(b))
	if err != nil {
		return nil, err
	}
	if err := func() error {
		if _, err := file.Write(body); err != nil {
			return fmt.Errorf("write to memory file: %w", err)
		}
		const seals = unix.F_SEAL_SEAL | unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_WRITE
		if _, err := unix.FcntlInt(file.Fd(), unix.F_ADD_SEALS, seals); err != nil {
			return fmt.Errorf("seal memory file: %w", err)
		}
		return probe(file)
	}(); err != nil {
		file.Close()
		return nil, err
	}
	return file, nil
}

// highFile moves a descriptor out of the way of those that a child is given: it
// executes /proc/self/fd/N after N files were put in their places.
func highFile(fd int, name string) (*os.File, error) {
	const lowest = 64
	high, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, lowest)
	unix.Close(fd)
	if err != nil {
		return nil, fmt.Errorf("move the descriptor of %s: %w", name, err)
	}
	return os.NewFile(uintptr(high), name), nil
}

// probe tries whether a program runs and is of this build, or near enough to it.
func probe(file *os.File) error {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer null.Close()
	pid, err := syscall.ForkExec(fdPath(file), []string{file.Name()}, &syscall.ProcAttr{
		Env:   []string{supervisor.ProbeEnv},
		Files: []uintptr{null.Fd(), null.Fd(), null.Fd(), null.Fd()},
	})
	if err != nil {
		return fmt.Errorf("execute from memory: %w", err)
	}
	ws, ok := reap(pid, 0)
	switch {
	case !ok:
		return errors.New("execute from memory: its end was not seen")
	case ws.Signaled():
		return fmt.Errorf("execute from memory: %v", ws.Signal())
	case ws.ExitStatus() != supervisor.ProbeCode:
		return errors.New("the embedded program is of another build: run make embedded")
	}
	return nil
}

// Describe says in one line which programs are used, for the log.
func (p *Programs) Describe() string {
	var b strings.Builder
	for _, name := range builtins {
		if b.Len() > 0 {
			b.WriteString(", ")
		}
		b.WriteString(string(name))
		if pr := p.programs[name]; pr.embedded {
			b.WriteString(" from memory")
		} else {
			b.WriteString(" as a mode of this binary (" + pr.why + ")")
		}
	}
	return b.String()
}

func (p *Programs) get(b Builtin) (program, error) {
	pr, ok := p.programs[b]
	if !ok {
		return program{}, fmt.Errorf("program %q: %w", b, ErrNotSupported)
	}
	return pr, nil
}

// fdPath is how a child executes a file of ours. The file closes on exec, so
// the child does not keep it.
func fdPath(f *os.File) string { return fmt.Sprintf("/proc/self/fd/%d", f.Fd()) }
