package isolation

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// openPidfd opens a process so that the runtime's poller can wait for its end:
// a blocked goroutine per container, not a blocked thread.
func openPidfd(pid int) (*os.File, error) {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return nil, fmt.Errorf("open process %d: %w", pid, err)
	}
	return pollablePidfd(fd)
}

func pollablePidfd(fd int) (*os.File, error) {
	unix.CloseOnExec(fd)
	if err := unix.SetNonblock(fd, true); err != nil {
		unix.Close(fd)
		return nil, err
	}
	return os.NewFile(uintptr(fd), "pidfd"), nil
}

// waitPidfd waits until the process has ended. An error says that the file was
// closed.
func waitPidfd(f *os.File) error {
	rc, err := f.SyscallConn()
	if err != nil {
		return err
	}
	return rc.Read(func(fd uintptr) bool {
		p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		for {
			n, err := unix.Poll(p, 0)
			if !errors.Is(err, unix.EINTR) {
				return n > 0
			}
		}
	})
}

// reap collects a child that has ended, or waits until it has.
func reap(pid, options int) (syscall.WaitStatus, bool) {
	var ws syscall.WaitStatus
	for {
		got, err := syscall.Wait4(pid, &ws, options, nil)
		if !errors.Is(err, syscall.EINTR) {
			return ws, err == nil && got == pid
		}
	}
}

// sendSpec writes a specification to the control socket. There is no SIGPIPE
// when the supervisor has gone.
func sendSpec(control *os.File, b []byte) error {
	_, err := control.Write(b)
	return err
}

// readReply reads what a supervisor answers, and which process it answers with.
func readReply(control *os.File) (reply []byte, sender int, err error) {
	rc, err := control.SyscallConn()
	if err != nil {
		return nil, 0, err
	}
	buf, oob := make([]byte, 4096), make([]byte, 128)
	for len(reply) < 1<<16 {
		var n, oobn int
		var recvErr error
		if err := rc.Read(func(fd uintptr) bool {
			n, oobn, _, _, recvErr = unix.Recvmsg(int(fd), buf, oob, unix.MSG_CMSG_CLOEXEC)
			return !errors.Is(recvErr, unix.EAGAIN)
		}); err != nil {
			return nil, 0, err
		}
		switch {
		case errors.Is(recvErr, unix.EINTR):
			continue
		case recvErr != nil:
			return nil, 0, recvErr
		case n == 0:
			return reply, sender, nil
		}
		reply = append(reply, buf[:n]...)
		if sender == 0 {
			sender = credentialsPID(oob[:oobn])
		}
	}
	return reply, sender, nil
}

func credentialsPID(oob []byte) int {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return 0
	}
	for i := range messages {
		if c, err := unix.ParseUnixCredentials(&messages[i]); err == nil {
			return int(c.Pid)
		}
	}
	return 0
}

// onDone makes operations on f fail once ctx is done.
func onDone(ctx context.Context, f *os.File) (stop func() bool) {
	return context.AfterFunc(ctx, func() { _ = f.SetDeadline(time.Unix(1, 0)) })
}
