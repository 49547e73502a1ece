// Package supervisor is the small process above each container.
//
//	agent ──fork── supervisor ──fork── command (its own session) ── ...
//	  └── control socket ──┘
//
// It outlives the agent (a session of its own, no pipe between them once the
// command runs), is the subreaper of everything in the container, and leaves
// the command's exit status in the container's runtime directory. When the
// command has ended, or on Terminate, it kills whatever is left of the container
// and ends only when nothing is: as long as the supervisor lives the container
// does, and the other way round (the command dies with its supervisor by
// PR_SET_PDEATHSIG).
//
// The life of one, with what a crash of the agent does at each point:
//
//	agent: makes the runtime directory
//	agent: starts the supervisor              supervisor: waits for a Spec
//	agent: writes down who the supervisor is    (end of file: nothing was
//	agent: isolates it                           started, it ends)
//	agent: sends the Spec                     supervisor: starts the command
//	agent: waits for the reply                supervisor: writes pid, replies
//	...                                       command ends
//	                                          supervisor: writes status, kills
//	                                            what is left, ends
//
// One is started per container, so the package imports next to nothing:
// starting a Go program costs what its packages' initialisation costs. The
// program lives in internal/bin/supervisor; isolation imports this package for
// Spec, and internal/cli for running the same as a mode of the one binary.
package supervisor

import (
	"errors"
	"os"
	"runtime"
	"strconv"
	"sync"
	"syscall"
	"time"

	"clusterd/isolation/proctree"
)

// Exit codes of Main. The container's own exit status is never among them: it
// is in StatusFile.
const (
	exitOK = 0
	// exitNotStarted says that the command was never started.
	exitNotStarted = 1
)

// Main runs the supervisor and returns its exit code. Its arguments only
// serve whoever reads a process list.
func Main([]string) int {
	if Probed() {
		return ProbeCode
	}
	// The command gets a signal when the *thread* that forked it ends.
	runtime.LockOSThread()
	prepareSignals()
	setName("supervisor")
	s := &supervisor{}
	go s.takeSignals()
	if !s.begin() {
		return exitNotStarted
	}
	if what, err := s.start(); err != nil {
		replyError(what, err)
		return exitNotStarted
	}
	s.writePID()
	s.replyStarted()
	s.watch()
	s.streams.drain()
	return exitOK
}

// begin is told what to run and readies the status file.
func (s *supervisor) begin() (ok bool) {
	closeOnExec()
	if os.Geteuid() == 0 {
		hide()
	}
	body, ok := readSpec()
	if !ok {
		return false
	}
	spec, err := DecodeSpec(body)
	if err != nil {
		reply("E0:" + err.Error())
		return false
	}
	if err := becomeSubreaper(); err != nil {
		replyError("become subreaper", err)
		return false
	}
	// Not by package os, whose files come with a poller.
	status, err := syscall.Open(spec.RuntimeDir+"/"+statusTemp, syscall.O_CREAT|syscall.O_WRONLY|syscall.O_TRUNC|syscall.O_CLOEXEC, 0o644)
	if err == nil {
		err = writeAll(status, "                ")
	}
	if err != nil {
		replyError("make the status file", err)
		return false
	}
	s.mu.Lock()
	s.spec, s.status = spec, status
	s.mu.Unlock()
	return true
}

// readSpec reads a length and so many bytes. It says no when the agent went
// away before it had sent all.
func readSpec() (body []byte, ok bool) {
	var head [4]byte
	if !readFull(head[:]) {
		return nil, false
	}
	size := int(head[0])<<24 | int(head[1])<<16 | int(head[2])<<8 | int(head[3])
	if size <= 0 || size > 64<<20 {
		return nil, false
	}
	body = make([]byte, size)
	return body, readFull(body)
}

func readFull(b []byte) bool {
	for len(b) > 0 {
		n, err := syscall.Read(ControlFD, b)
		if err == syscall.EINTR {
			continue
		}
		if err != nil || n <= 0 {
			return false
		}
		b = b[n:]
	}
	return true
}

// reply answers the agent, which may be gone, and hangs up.
func reply(text string) {
	b := []byte(text)
	for len(b) > 0 {
		n, err := syscall.Write(ControlFD, b)
		if err == syscall.EINTR {
			continue
		}
		if err != nil {
			break
		}
		b = b[n:]
	}
	syscall.Close(ControlFD)
}

func replyError(what string, err error) {
	var errno syscall.Errno
	switch e := err.(type) { //nolint:errorlint // errors.As costs more to start than this program does
	case syscall.Errno:
		errno = e
	case *os.PathError:
		if n, ok := e.Err.(syscall.Errno); ok { //nolint:errorlint // as above
			errno = n
		}
	}
	reply("E" + strconv.Itoa(int(errno)) + ":" + what + ": " + err.Error())
}

// start makes the container's world and starts the command. It says on an error what
// could not be done.
func (s *supervisor) start() (what string, err error) {
	s.streams, what, err = openStreams(s.spec)
	if err != nil {
		return what, err
	}
	defer func() {
		if err != nil {
			s.streams.close()
		}
	}()
	w, what, err := makeWorld(s.spec)
	if err != nil {
		return what, err
	}
	s.findKillers()
	if err := s.streams.enter(); err != nil {
		return "open a terminal", err
	}
	if s.pid, what, err = s.startCommand(w); err != nil {
		return what, err
	}
	w.close()
	if s.spec.ProgramFD != 0 {
		syscall.Close(int(s.spec.ProgramFD))
	}
	s.streams.started()
	return "", nil
}

func tail(argv []string) []string {
	if len(argv) == 0 {
		return nil
	}
	return argv[1:]
}

// openOutput opens a file for the command's output. The sandbox may hold what
// a stranger fetched into it, so a symbolic link is not followed.
func openOutput(spec *Spec, path string) (int, error) {
	dir, name, err := outputDir(spec, path)
	if err != nil {
		return -1, err
	}
	defer syscall.Close(dir)
	fd, err := syscall.Openat(dir, name, syscall.O_WRONLY|syscall.O_APPEND|syscall.O_CREAT|syscall.O_NOFOLLOW|syscall.O_CLOEXEC|syscall.O_NOCTTY, 0o644)
	if err != nil {
		return -1, err
	}
	if spec.SwitchUser {
		if err := syscall.Fchown(fd, int(spec.UID), int(spec.GID)); err != nil {
			syscall.Close(fd)
			return -1, err
		}
	}
	return fd, nil
}

// outputDir opens the directory that a file of output lies in.
func outputDir(spec *Spec, path string) (fd int, name string, err error) {
	dir, name := splitName(path)
	if spec.OutputIn == "" {
		fd, err = syscall.Open(dir, oPath|syscall.O_DIRECTORY|syscall.O_CLOEXEC, 0)
		return fd, name, err
	}
	root, err := syscall.Open("/", oPath|syscall.O_DIRECTORY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return -1, "", err
	}
	defer syscall.Close(root)
	fd, err = openBelow(root, spec.OutputIn, dir, MakeNothing)
	return fd, name, err
}

// LookPath finds a program as execvp(3) does: a name with a slash is taken as
// it is, any other is searched for in the PATH of env.
func LookPath(name string, env []string) (string, error) {
	for i := range len(name) {
		if name[i] == '/' {
			return name, nil
		}
	}
	err := error(syscall.ENOENT)
	for file := range eachCandidate(name, env) {
		var st syscall.Stat_t
		if syscall.Stat(file, &st) != nil || st.Mode&syscall.S_IFMT == syscall.S_IFDIR {
			continue
		}
		if st.Mode&0o111 == 0 {
			err = syscall.EACCES
			continue
		}
		return file, nil
	}
	return "", err
}

type supervisor struct {
	spec   *Spec
	pid    int
	status int
	// mu keeps what kills from what reaps: a process id that was reaped may be another's.
	// It guards what follows, and spec until begin has returned.
	mu      sync.Mutex
	ended   bool
	killing bool
	// running says that the command was started.
	running bool
	// streams are what the command reads and writes.
	streams *streams
	// unprivileged says that the runtime directory is not ours to change.
	unprivileged bool
	// first says that this is the first process of a pid namespace, and blind that it
	// cannot see its children.
	first, blind bool
}

// findKillers finds out how what is left of the container will be killed.
func (s *supervisor) findKillers() {
	if s.first = s.spec.Namespaces&syscall.CLONE_NEWPID != 0 && os.Getpid() == 1; s.first {
		return
	}
	self, err := os.Readlink("/proc/self")
	s.blind = err != nil || self != strconv.Itoa(os.Getpid())
}

// away says that the runtime directory is no longer where it was.
func (s *supervisor) away() bool { return s.spec.RootFS != "" }

// replyStarted tells the agent which process the command is. In a pid namespace that is
// told by credentials, which the kernel translates.
func (s *supervisor) replyStarted() {
	text := "K" + strconv.Itoa(s.pid)
	if s.first {
		oob := syscall.UnixCredentials(&syscall.Ucred{Pid: int32(s.pid), Uid: uint32(os.Getuid()), Gid: uint32(os.Getgid())})
		if syscall.Sendmsg(ControlFD, []byte(text), oob, nil, 0) == nil {
			syscall.Close(ControlFD)
			return
		}
	}
	reply(text)
}

// writePID leaves the command's process id for an agent that comes back. It is
// needed only for telling people, and for clearing up when the supervisor
// itself was killed, so a full disk does not stop the container.
func (s *supervisor) writePID() {
	if s.first || s.away() {
		return // the agent does it
	}
	fd, err := syscall.Open(s.spec.RuntimeDir+"/"+PIDFile, syscall.O_CREAT|syscall.O_WRONLY|syscall.O_TRUNC|syscall.O_CLOEXEC, 0o644)
	if err != nil {
		return
	}
	_ = writeAll(fd, strconv.Itoa(s.pid)+"\n")
	syscall.Close(fd)
}

// watch returns when nothing of the container is left.
//
// Whatever in the container loses its parent becomes our child, so killing our
// children until there are none kills everything. A process can come to us
// only by the death of one of our descendants, and of all deaths the last one
// in any line is a child of ours, for which there is a SIGCHLD.
func (s *supervisor) watch() {
	reminded := false
	for {
		s.mu.Lock()
		s.running = true
		left := s.reap()
		if left && (s.ended || s.killing) {
			s.killing = true
			s.kill()
		}
		ended, killing := s.ended, s.killing
		s.mu.Unlock()
		switch {
		case !left, ended && s.blind: // the agent kills the rest
			return
		case killing && !reminded:
			reminded = true
			remind()
		}
		awaitChild()
	}
}

// reap collects the children that have ended, and says whether there are
// others.
func (s *supervisor) reap() bool {
	for {
		var ws syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &ws, syscall.WNOHANG, nil)
		switch {
		case err == syscall.EINTR:
		case err != nil:
			return false
		case pid == 0:
			return true
		case pid == s.pid && !s.ended:
			s.ended = true
			s.writeStatus(ws)
		}
	}
}

// writeStatus leaves the exit status. While that cannot be done the supervisor
// stays and tries again: to the agent the container is not over yet, which is
// better than an end that nobody knows about. Only when the runtime directory
// is gone is there nobody to tell.
func (s *supervisor) writeStatus(ws syscall.WaitStatus) {
	text := strconv.Itoa(int(ws))
	for len(text) < statusSize {
		text += "\n"
	}
	dir := s.spec.RuntimeDir + "/"
	for first := true; ; first = false {
		_, err := syscall.Pwrite(s.status, []byte(text), 0)
		if err == nil && !s.away() {
			err = os.Rename(dir+statusTemp, dir+StatusFile)
		}
		if err == nil || s.unprivileged && (errors.Is(err, syscall.EACCES) || errors.Is(err, syscall.EPERM)) {
			return
		}
		var st syscall.Stat_t
		if !s.away() && (syscall.Stat(s.spec.RuntimeDir, &st) != nil || syscall.Stat(dir+statusTemp, &st) != nil) {
			return
		}
		if first {
			_, _ = os.Stderr.WriteString("supervisor: write the exit status " + strconv.Itoa(int(ws)) + ": " + err.Error() + "\n")
		}
		time.Sleep(time.Second)
	}
}

// kill kills what there is of the container, as far as it can be seen from here.
func (s *supervisor) kill() {
	switch {
	case s.first:
		// All in this pid namespace but us, and no fork escapes it.
		_ = syscall.Kill(-1, syscall.SIGKILL)
	case s.blind:
		if !s.ended {
			_ = syscall.Kill(s.pid, syscall.SIGKILL)
		}
	default:
		killChildren()
	}
}

// killChildren kills every child. No process id can be reused meanwhile: who reaps
// waits.
func killChildren() {
	table, err := proctree.ReadTable()
	if err != nil {
		return
	}
	for _, pid := range table.Children(os.Getpid()) {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
}
