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
// is not used again.
func DialIn(ctx context.Context, namespace *os.File, address string) (net.Conn, error) {
	type result struct {
		conn net.Conn
		err  error
	}
	done := make(chan result, 1)
	go func() {
		runtime.LockOSThread() // for good: the thread ends with the goroutine
		if _, _, errno := syscall.RawSyscall(sysSetns, namespace.Fd(), syscall.CLONE_NEWNET, 0); errno != 0 {
			done <- result{nil, executorlink.TextError("enter the network of the task: " + errno.Error())}
			return
		}
		// One address after the other, by this goroutine alone.
		d := net.Dialer{FallbackDelay: -1}
		conn, err := d.DialContext(ctx, "tcp", address)
		done <- result{conn, err}
	}()
	r := <-done
	return r.conn, r.err
}
