package supervisor

import "syscall"

// streams are a command's standard input, output and error, and what of them goes
// through this process: nothing, where the command can write into its files itself.
type streams struct {
	// files are what the command gets as 0, 1 and 2.
	files [3]int
	// task is what the task of a program that supervises itself gets instead: its
	// terminal; -1 when there is none.
	task int
	// terminal is set for Spec.TTY.
	tty  *terminal
	pump *pump
	// mine are closed when the command has its own.
	mine []int
	spec *Spec
}

// openStreams opens all that has to be opened before the root is changed. It says on
// an error what could not be done.
func openStreams(spec *Spec) (s *streams, what string, err error) {
	s = &streams{spec: spec, task: -1}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	door := spec.Door != ""
	if spec.TTY || spec.Stdin || door || spec.StdoutRotation.MaxSize > 0 || spec.StderrRotation.MaxSize > 0 {
		s.pump, err = newPump()
		if err != nil {
			return s, "make a wake-up", err
		}
	}
	// What cannot be read, attached to nobody, is at an end.
	if err := s.input(); err != nil {
		return s, "open standard input", err
	}
	// Of a terminal both go to one file; the other is made all the same, and is where
	// programs that supervise themselves complain.
	outputs := [...]struct {
		path     string
		rotation Rotation
		piped    bool
	}{
		{spec.Stdout, spec.StdoutRotation, spec.TTY || door || spec.StdoutRotation.MaxSize > 0},
		{spec.Stderr, spec.StderrRotation, door && !spec.TTY || spec.StderrRotation.MaxSize > 0},
	}
	for i, o := range outputs {
		if s.files[1+i], err = s.output(i, o.path, o.rotation, o.piped); err != nil {
			return s, "open " + o.path, err
		}
	}
	if spec.TTY {
		// The machine's, should the container have none of its own.
		if t, err := openMaster("/dev/ptmx"); err == nil {
			s.tty = &t
		}
	}
	if door {
		if err := s.pump.listen(spec.Door); err != nil {
			return s, "open the door", err
		}
	}
	return s, "", nil
}

// input opens standard input.
func (s *streams) input() (err error) {
	if !s.spec.Stdin || s.spec.TTY {
		s.files[0], err = syscall.Open("/dev/null", syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
		if err == nil {
			s.mine = append(s.mine, s.files[0])
		}
		return err
	}
	var p [2]int
	if err := s.pipe(&p, 1); err != nil {
		return err
	}
	s.files[0], s.pump.input = p[0], p[1]
	return nil
}

// pipe makes a pipe whose end of that index is ours.
func (s *streams) pipe(p *[2]int, ours int) error {
	if err := syscall.Pipe2(p[:], syscall.O_CLOEXEC); err != nil {
		return err
	}
	s.mine = append(s.mine, p[1-ours])
	err := syscall.SetNonblock(p[ours], true)
	if err == nil && s.spec.SwitchUser {
		// So that the command can open /dev/stdout.
		err = syscall.Fchown(p[1-ours], int(s.spec.UID), int(s.spec.GID))
	}
	if err != nil {
		syscall.Close(p[ours])
	}
	return err
}

// output opens what becomes the command's output number i.
func (s *streams) output(i int, path string, rotation Rotation, piped bool) (int, error) {
	if !piped {
		fd, err := openOutput(s.spec, path)
		if err == nil {
			s.mine = append(s.mine, fd)
		}
		return fd, err
	}
	log, err := openLog(s.spec, path, rotation)
	if err != nil {
		return -1, err
	}
	if i == 0 && s.spec.TTY {
		s.pump.add(i, -1, log) // the terminal will be its source
		return -1, nil
	}
	var p [2]int
	if err := s.pipe(&p, 0); err != nil {
		log.close()
		return -1, err
	}
	s.pump.add(i, p[0], log)
	return p[1], nil
}

// enter opens the terminal, once the root has been changed: one of the container's own
// devpts, where it has one, so that the terminal has a name there.
func (s *streams) enter() error {
	if !s.spec.TTY {
		return nil
	}
	t, err := terminal{-1, -1}, error(syscall.ENODEV)
	if s.spec.EnterFlags&syscall.CLONE_NEWNS != 0 {
		t, err = openParentsMaster(s.spec)
	} else if s.spec.Namespaces&syscall.CLONE_NEWNS != 0 || s.tty == nil {
		t, err = openOwnMaster()
	}
	switch {
	case err == nil:
		if s.tty != nil {
			s.tty.close()
		}
		s.tty = &t
	case s.tty == nil:
		return err
	}
	if s.spec.SwitchUser {
		if err := syscall.Fchown(s.tty.slave, int(s.spec.UID), -1); err != nil {
			return err
		}
	}
	if s.spec.Rows > 0 || s.spec.Columns > 0 {
		s.tty.resize(s.spec.Rows, s.spec.Columns)
	}
	s.pump.attach(s.tty)
	s.task = s.tty.slave
	return nil
}

// forCommand are the files of a command that gets the terminal, if there is one.
func (s *streams) forCommand() []uintptr {
	f := s.files
	if s.task >= 0 {
		f = [3]int{s.task, s.task, s.task}
	}
	return []uintptr{uintptr(f[0]), uintptr(f[1]), uintptr(f[2])}
}

// become makes these our own, where we are the command: what we say about ourselves
// does not go to the terminal of the task.
func (s *streams) become() (what string, err error) {
	own := s.files
	if s.task >= 0 {
		own[1] = own[2]
		taskTerminal = s.task
	}
	for fd := 1; fd <= 2; fd++ {
		if err := syscall.Dup3(own[fd], fd, 0); err != nil {
			return "set standard output", err
		}
	}
	return "", nil
}

// taskTerminal is set once, before the program's own part begins.
var taskTerminal = -1

// TaskTerminal is the terminal of the task of a program that supervises itself: its
// standard input, output, error and controlling terminal. It says no when the task has
// none, and gets the program's own files.
func TaskTerminal() (fd uintptr, ok bool) { return uintptr(taskTerminal), taskTerminal >= 0 }

// started lets go of what the command has by now, and begins to copy. The slave of the
// terminal stays open: without anybody who has it the master reports an end that need
// not be one.
func (s *streams) started() {
	for _, fd := range s.mine {
		syscall.Close(fd)
	}
	s.mine = nil
	if s.pump != nil {
		s.pump.start()
	}
}

// drain delivers what is left when no process of the container is.
func (s *streams) drain() {
	if s.pump != nil {
		s.pump.drain()
	}
}

// close undoes openStreams.
func (s *streams) close() {
	for _, fd := range s.mine {
		syscall.Close(fd)
	}
	s.mine = nil
	if s.pump != nil {
		s.pump.close()
	}
	if s.tty != nil {
		s.tty.close()
	}
}
