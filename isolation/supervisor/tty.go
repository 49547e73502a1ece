package supervisor

import (
	"strconv"
	"syscall"
	"unsafe"

	"clusterd/isolation/proctree"
)

// terminal is a pseudo terminal: the command has the slave, we the master.
type terminal struct {
	master, slave int
}

// openMaster opens a new terminal in the devpts that path belongs to. The slave is
// opened through the master, so no path can be made to lead elsewhere.
func openMaster(path string) (terminal, error) {
	t := terminal{-1, -1}
	var err error
	t.master, err = syscall.Open(path, syscall.O_RDWR|syscall.O_NOCTTY|syscall.O_CLOEXEC|syscall.O_NONBLOCK, 0)
	if err != nil {
		return t, err
	}
	var unlock int32
	if err = ioctl(t.master, syscall.TIOCSPTLCK, unsafe.Pointer(&unlock)); err == nil {
		t.slave, err = openSlave(t.master)
	}
	if err != nil {
		t.close()
	}
	return t, err
}

// ptmx is where a container has its multiplexer of terminals, if it has one.
var ptmx = [...]string{"/dev/pts/ptmx", "/dev/ptmx"}

// openOwnMaster opens a terminal in the devpts of the root that is ours by now. What an
// image may have put there instead is not opened.
func openOwnMaster() (t terminal, err error) {
	for _, path := range ptmx {
		var st syscall.Stat_t
		if err = syscall.Stat(path, &st); err == nil {
			err = checkPtmx(&st)
		}
		if err == nil {
			t, err = openMaster(path)
		}
		if err == nil {
			return t, nil
		}
	}
	return terminal{-1, -1}, err
}

// openParentsMaster opens a terminal in the devpts of the container that the command
// enters, which runs and may change its files at any time.
func openParentsMaster(spec *Spec) (terminal, error) {
	t := terminal{-1, -1}
	root, err := syscall.Open("/proc/"+strconv.Itoa(int(spec.EnterPID))+"/root", oPath|syscall.O_DIRECTORY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return t, err
	}
	defer syscall.Close(root)
	if p, ok := proctree.Read(int(spec.EnterPID)); !ok || p.Start != spec.EnterStart {
		return t, syscall.ESRCH
	}
	for _, path := range ptmx {
		var fd int
		if fd, err = openIn(root, path, false, MakeNothing); err != nil {
			continue
		}
		var st syscall.Stat_t
		if err = syscall.Fstat(fd, &st); err == nil {
			err = checkPtmx(&st)
		}
		if err == nil {
			t, err = openMaster("/proc/self/fd/" + strconv.Itoa(fd))
		}
		syscall.Close(fd)
		if err == nil {
			break
		}
	}
	return t, err
}

// checkPtmx says whether that is the device that makes terminals.
func checkPtmx(st *syscall.Stat_t) error {
	if st.Mode&syscall.S_IFMT != syscall.S_IFCHR || st.Rdev != 5<<8|2 {
		return syscall.ENODEV
	}
	return nil
}

// openSlave uses TIOCGPTPEER (Linux 4.13).
func openSlave(master int) (int, error) {
	n, _, errno := syscall.Syscall(syscall.SYS_IOCTL, uintptr(master), tiocgptpeer, syscall.O_RDWR|syscall.O_NOCTTY|syscall.O_CLOEXEC)
	if errno != 0 {
		return -1, errno
	}
	return int(n), nil
}

const tiocgptpeer = 0x5441

func (t *terminal) close() {
	for _, fd := range [...]*int{&t.master, &t.slave} {
		if *fd >= 0 {
			syscall.Close(*fd)
			*fd = -1
		}
	}
}

// resize sets the size of the window, which tells the command (SIGWINCH).
func (t *terminal) resize(rows, columns uint32) {
	size := [4]uint16{uint16(min(rows, 1<<16-1)), uint16(min(columns, 1<<16-1))}
	_ = ioctl(t.master, syscall.TIOCSWINSZ, unsafe.Pointer(&size))
}
