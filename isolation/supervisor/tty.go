package supervisor

import (
	"syscall"
	"unsafe"
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
	if _, err = ioctl(t.master, syscall.TIOCSPTLCK, unsafe.Pointer(&unlock)); err == nil {
		t.slave, err = openSlave(t.master)
	}
	if err != nil {
		t.close()
	}
	return t, err
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
	_, _ = ioctl(t.master, syscall.TIOCSWINSZ, unsafe.Pointer(&size))
}
