package supervisor

import (
	"os"
	"syscall"
	"unsafe"

	"clusterd/isolation/rawfork"
)

// Terminate is the signal that tells the supervisor to end its container. (A supervisor that
// ends by SIGTERM takes the container along as well, but then nobody knows how that ended.)
const Terminate = syscall.SIGUSR1

// BlockedSignals is Terminate as a set of rt_sigprocmask(2), of SignalSetSize bytes. Who
// starts a supervisor blocks it beforehand, so that every thread of it has it blocked, and
// one of them waits for it. (Of SIGTERM Go does not allow that.)
//
// Package os/signal would need two threads more, and what a supervisor costs is above all
// its threads: each is made, scheduled and ended, and every change of a root on the machine
// looks at each of them (pivot_root(2) goes through all that there are).
const (
	BlockedSignals uint64 = 1 << (Terminate - 1)
	SignalSetSize         = 8
)

// How rt_sigprocmask(2) changes a mask.
const (
	sigBlock   = 0
	sigUnblock = 1
)

// waitid(2).
const (
	idAll   = 0
	wExited = 0x4
	wNoWait = 0x1000000
)

// action is struct sigaction of rt_sigaction(2).
type action struct {
	handler, flags, restorer uintptr
	mask                     uint64
}

// ignore is SIG_IGN; SIG_DFL is zero.
const ignore = 1

// prepareSignals makes sure that Terminate is blocked in all threads: where somebody has
// not done it beforehand, by starting this program again. A terminal that goes away is of
// no concern to us. Call it on a thread that the caller keeps.
func prepareSignals() {
	hangup := action{handler: ignore}
	_, _, _ = syscall.RawSyscall6(syscall.SYS_RT_SIGACTION, uintptr(syscall.SIGHUP), uintptr(unsafe.Pointer(&hangup)), 0, SignalSetSize, 0, 0)

	set, before := BlockedSignals, uint64(0)
	if _, _, errno := syscall.RawSyscall6(syscall.SYS_RT_SIGPROCMASK, sigBlock, uintptr(unsafe.Pointer(&set)), uintptr(unsafe.Pointer(&before)), SignalSetSize, 0, 0); errno != 0 {
		return
	}
	if before&BlockedSignals != BlockedSignals {
		_ = syscall.Exec("/proc/self/exe", os.Args, os.Environ()) // if not: a signal ends the container without its status
	}
}

// takeSignals waits for the order to end the container. From then on, or once the command
// has ended, it kills what is left, again every second: what was not to be seen for a
// moment is seen then. A command that is just being started is killed by watch.
func (s *supervisor) takeSignals() {
	set, again := BlockedSignals, (*syscall.Timespec)(nil)
	for {
		_, _, errno := syscall.Syscall6(syscall.SYS_RT_SIGTIMEDWAIT, uintptr(unsafe.Pointer(&set)), 0, uintptr(unsafe.Pointer(again)), SignalSetSize, 0, 0)
		if errno == syscall.EINTR {
			continue
		}
		if errno != 0 && errno != syscall.EAGAIN {
			return
		}
		again = &syscall.Timespec{Sec: 1}
		s.mu.Lock()
		s.killing = true
		switch {
		case s.spec == nil: // nobody has said what to run
			os.Exit(exitNotStarted) //nolint:forbidigo // main waits in a read that nothing else ends
		case s.running:
			s.kill()
		}
		s.mu.Unlock()
	}
}

// remind has takeSignals kill what is left, again and again.
func remind() { _ = syscall.Kill(os.Getpid(), Terminate) }

// awaitChild waits until a child has ended, or there is none. It reaps nothing.
func awaitChild() {
	for {
		_, _, errno := syscall.Syscall6(syscall.SYS_WAITID, idAll, 0, 0, wExited|wNoWait, 0, 0)
		if errno != syscall.EINTR {
			return
		}
	}
}

// commandSignals lets the command have its signals as any program expects to: none blocked
// by us, and none ignored, also where who started us ignores some.
func commandSignals(script *rawfork.Script) {
	blocked, normal := BlockedSignals, action{}
	for _, sig := range [...]syscall.Signal{syscall.SIGHUP, syscall.SIGINT} {
		script.Do("reset signals", syscall.SYS_RT_SIGACTION, uintptr(sig), rawfork.Pointer(script, &normal), 0, SignalSetSize)
	}
	script.Do("unblock signals", syscall.SYS_RT_SIGPROCMASK, sigUnblock, rawfork.Pointer(script, &blocked), 0, SignalSetSize)
}
