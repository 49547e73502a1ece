//go:build !amd64 && !arm64

package rawfork

import (
	"syscall"
	"unsafe"
)

// sharedMemory is nothing: sharing needs an assembly function.
const sharedMemory = 0

//go:norace
//go:nosplit
func rawVfork(number, a1, a2, a3 uintptr) (value uintptr, errno syscall.Errno) {
	value, _, errno = syscall.RawSyscall6(number, a1, a2, a3, 0, 0, 0)
	return value, errno
}

// newResult makes memory that a child shares though it shares no other.
func newResult() (r *result, free func(), err error) {
	b, err := syscall.Mmap(-1, 0, int(unsafe.Sizeof(result{})), syscall.PROT_READ|syscall.PROT_WRITE, mmapShared)
	if err != nil {
		return nil, nil, err
	}
	return (*result)(unsafe.Pointer(&b[0])), func() { _ = syscall.Munmap(b) }, nil
}
