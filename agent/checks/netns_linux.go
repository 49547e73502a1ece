package checks

import (
	"context"
	"net"
	"os"
	"runtime"
	"syscall"

	"clusterd/agent/executorlink"
)

// DialIn connects from within a network namespace, an open /proc/PID/ns/net. A socket
// belongs to the namespace of the thread that makes it, so a thread goes there, dials, and
// comes back. It must not end instead: an executor's task dies with the thread that started
// it (PR_SET_PDEATHSIG), which may be any.
func DialIn(ctx context.Context, namespace *os.File, address string) (net.Conn, error) {
	type result struct {
		conn net.Conn
		err  error
	}
	done := make(chan result, 1)
	go func() {
		runtime.LockOSThread()
		conn, back, err := dialIn(ctx, namespace, address)
		done <- result{conn, err}
		if !back {
			select {} // a thread too many is better than a task too few
		}
		runtime.UnlockOSThread()
	}()
	r := <-done
	return r.conn, r.err
}

// dialIn says whether the thread is back where it was.
func dialIn(ctx context.Context, namespace *os.File, address string) (conn net.Conn, back bool, err error) {
	home, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return nil, true, err
	}
	defer home.Close()
	if err := setns(namespace); err != nil {
		return nil, true, executorlink.TextError("enter the network of the task: " + err.Error())
	}
	// One address after the other, by this goroutine alone.
	d := net.Dialer{FallbackDelay: -1}
	conn, err = d.DialContext(ctx, "tcp", address)
	return conn, setns(home) == nil, err
}

func setns(namespace *os.File) error {
	if _, _, errno := syscall.RawSyscall(sysSetns, namespace.Fd(), syscall.CLONE_NEWNET, 0); errno != 0 {
		return errno
	}
	return nil
}
