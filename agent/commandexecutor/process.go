package commandexecutor

import (
	"os"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"clusterd/agent/executorlink"
	"clusterd/agent/executorlink/wire"
	"clusterd/isolation/proctree"
	"clusterd/isolation/supervisor"
)

// environment is that of the executor with a command's own over it.
func environment(base []string, command *wire.Command, extra ...wire.Variable) []string {
	variables := append(append([]wire.Variable(nil), command.Env...), extra...)
	at := make(map[string]int, len(base)+len(variables))
	env := make([]string, 0, len(base)+len(variables))
	for _, e := range base {
		name, _, _ := strings.Cut(e, "=")
		at[name] = len(env)
		env = append(env, e)
	}
	for _, v := range variables {
		e := v.Name + "=" + v.Value
		if i, ok := at[v.Name]; ok {
			env[i] = e
			continue
		}
		at[v.Name] = len(env)
		env = append(env, e)
	}
	return env
}

// files are the standard files of a process: input, output and error.
type files struct {
	fds [3]uintptr
	// terminal says that they are one, which is to control the process's session.
	terminal bool
	// foreground says that they are the terminal of the executor's own session.
	foreground bool
	// report, if not 0, is what the process reports over, its supervisor.TaskReportFD.
	report uintptr
}

// all are in the order of their descriptors.
func (f *files) all() []uintptr {
	if f.report == 0 {
		return f.fds[:]
	}
	return append(f.fds[:], f.report)
}

// handedTo is a command that another is handed to, as its last arguments.
func handedTo(argv []string, command *wire.Command) *wire.Command {
	var own []string
	switch {
	case command.Shell:
		own = []string{"/bin/sh", "-c", command.Value}
	case len(command.Arguments) == 0:
		own = []string{command.Value}
	default:
		own = append([]string{command.Value}, command.Arguments[1:]...)
	}
	out := *command
	out.Shell, out.HasValue, out.Value = false, true, argv[0]
	out.Arguments = append(append([]string(nil), argv...), own...)
	return &out
}

// taskFiles are those of the task: its terminal, if it asked for one, or those that its
// container was started with. Those may be a terminal as well, where the executor does
// not supervise itself: then the task shall get what is typed, ^C above all.
func taskFiles() files {
	if t, ok := supervisor.TaskTerminal(); ok {
		return files{fds: [3]uintptr{t, t, t}, terminal: true}
	}
	f := files{fds: [3]uintptr{0, 1, 2}}
	if session, err := unix.Getsid(0); err == nil && session == os.Getpid() {
		_, err := unix.IoctlGetTermios(0, unix.TCGETS)
		f.foreground = err == nil
	}
	return f
}

// startProcess starts a command in a session of its own, with the executor's
// working directory.
func startProcess(command *wire.Command, env []string, std files) (int, error) {
	if command == nil || !command.HasValue {
		return 0, executorlink.TextError("execute the command: it has no value")
	}
	name, argv := command.Value, command.Arguments
	if command.Shell {
		name, argv = "sh", []string{"sh", "-c", command.Value}
	} else if len(argv) == 0 {
		argv = []string{name}
	}
	path, err := supervisor.LookPath(name, env)
	if command.Shell && err != nil {
		path, err = "/bin/sh", nil
	}
	if err != nil {
		return 0, executorlink.TextError("execute '" + name + "': " + err.Error())
	}
	attr := &syscall.ProcAttr{
		Env:   env,
		Files: std.all(),
		// The task does not outlive its executor. (The signal comes when the
		// thread ends that forked; Go's threads do not end before their process.)
		Sys: &syscall.SysProcAttr{
			Setsid: !std.foreground, Setctty: std.terminal, Foreground: std.foreground, Pdeathsig: syscall.SIGKILL,
		},
	}
	pid, err := syscall.ForkExec(path, argv, attr)
	if err == syscall.ENOEXEC { //nolint:errorlint // ForkExec returns it bare
		// As execvp(3) does, which Mesos uses.
		pid, err = syscall.ForkExec("/bin/sh", append([]string{"sh", path}, argv[min(1, len(argv)):]...), attr)
	}
	if err != nil {
		return 0, executorlink.TextError("execute '" + name + "': " + err.Error())
	}
	return pid, nil
}

// killTree signals a process and everything below it. Ids cannot be reused
// meanwhile for our own children, which only the calling goroutine reaps.
func killTree(pid int, sig syscall.Signal) {
	table, err := proctree.ReadTable()
	if err == nil {
		for _, p := range table.Below(pid) {
			_ = syscall.Kill(p.PID, sig)
		}
	}
	_ = syscall.Kill(pid, sig)
}

// killBelow signals everything below this process. As it is a subreaper, that
// is all of the task, daemons that forked twice included.
func killBelow(sig syscall.Signal) {
	table, err := proctree.ReadTable()
	if err != nil {
		return
	}
	for _, p := range table.Below(os.Getpid()) {
		_ = syscall.Kill(p.PID, sig)
	}
}

// childrenLeft collects the children that have ended, and says whether there
// are others.
func childrenLeft() bool {
	for {
		pid, err := syscall.Wait4(-1, nil, syscall.WNOHANG, nil)
		if err == syscall.EINTR || pid > 0 {
			continue
		}
		return err == nil
	}
}

// killRest kills whatever is left below this process: a task that is told to
// end may just have forked, and daemons do not always listen.
func killRest() {
	for childrenLeft() {
		killBelow(syscall.SIGKILL)
		time.Sleep(time.Millisecond)
	}
}
