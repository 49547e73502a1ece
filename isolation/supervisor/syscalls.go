package supervisor

import (
	"os"
	"syscall"
	"unsafe"
)

const (
	prSetName           = 15
	prSetChildSubreaper = 36
)

// setName sets what ps shows: a program run from memory has none of its own.
func setName(name string) {
	var b [16]byte
	copy(b[:15], name)
	_, _, _ = syscall.RawSyscall(syscall.SYS_PRCTL, prSetName, uintptr(unsafe.Pointer(&b[0])), 0)
}

// becomeSubreaper makes the processes below that lose their parent ours.
func becomeSubreaper() error {
	_, _, errno := syscall.RawSyscall(syscall.SYS_PRCTL, prSetChildSubreaper, 1, 0)
	if errno != 0 {
		return errno
	}
	return nil
}

// closeOnExec keeps from the command what this program was started with.
func closeOnExec() {
	syscall.CloseOnExec(ControlFD)
	if os.Getenv(programVariable) != "" {
		syscall.CloseOnExec(ProgramFD)
	}
}

const (
	prSetDumpable     = 4
	atSymlinkNofollow = 0x100
)

// hide keeps this process's memory, and the files that it has open, from whoever has
// the same user. Only root still sees them, outside of user namespaces.
func hide() { _, _, _ = syscall.RawSyscall(syscall.SYS_PRCTL, prSetDumpable, 0, 0) }
