package main

import (
	"encoding/json"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"clusterd/internal/vmtest/plan"
)

// runner runs test binaries and tells of them.
type runner struct {
	// mu guards out: output comes from a goroutine of its own.
	mu       sync.Mutex
	out      *json.Encoder
	env      []string
	baseline state
}

func (r *runner) tell(rec plan.Record) {
	r.mu.Lock()
	defer r.mu.Unlock()
	// There is nobody else to tell it to; the host sees that the port is silent.
	_ = r.out.Encode(rec)
}

// run runs one binary to its end and cleans up after it.
func (r *runner) run(one plan.Run) {
	started := time.Now()
	end := plan.End{Code: -1}
	read, write, err := os.Pipe()
	if err != nil {
		r.tell(plan.Record{Package: one.Package, Output: []byte(err.Error() + "\n"), End: &end})
		return
	}
	null, err := os.Open(os.DevNull)
	if err != nil {
		r.tell(plan.Record{Package: one.Package, Output: []byte(err.Error() + "\n"), End: &end})
		return
	}
	copied := make(chan struct{})
	go func() {
		defer close(copied)
		r.copy(one.Package, read)
	}()
	pid, err := syscall.ForkExec(one.Args[0], one.Args, &syscall.ProcAttr{
		Dir: one.Dir, Env: append(append([]string{"PWD=" + one.Dir}, r.env...), one.Env...),
		Files: []uintptr{null.Fd(), write.Fd(), write.Fd()}, Sys: &syscall.SysProcAttr{Setsid: true},
	})
	null.Close()
	write.Close()
	if err != nil {
		r.tell(plan.Record{Package: one.Package, Output: []byte("start " + one.Args[0] + ": " + err.Error() + "\n")})
	} else {
		end.Code, end.TimedOut = wait(pid, time.Duration(one.Seconds)*time.Second)
		end.Seconds = time.Since(started).Seconds()
		end.Residue = clean(r.baseline)
	}
	select {
	case <-copied:
	case <-time.After(5 * time.Second): // somebody holds the pipe whom nobody can kill
		read.Close()
	}
	r.tell(plan.Record{Package: one.Package, End: &end})
}

func (r *runner) copy(pkg string, from *os.File) {
	defer from.Close()
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		if n > 0 {
			r.tell(plan.Record{Package: pkg, Output: buf[:n]})
		}
		if err != nil {
			return
		}
	}
}

// wait reaps all children, which init gets from everybody, until one of them has
// ended. When it takes too long it is asked for its stacks and, if it does not end
// then, killed.
func wait(pid int, limit time.Duration) (code int, timedOut bool) {
	late := make(chan struct{})
	quit := time.AfterFunc(limit, func() {
		close(late)
		_ = unix.Kill(pid, unix.SIGQUIT)
	})
	kill := time.AfterFunc(limit+5*time.Second, func() { _ = unix.Kill(pid, unix.SIGKILL) })
	defer quit.Stop()
	defer kill.Stop()
	for {
		var ws syscall.WaitStatus
		got, err := syscall.Wait4(-1, &ws, 0, nil)
		if err != nil || got != pid || !ws.Exited() && !ws.Signaled() {
			continue
		}
		select {
		case <-late:
			timedOut = true
		default:
		}
		if ws.Signaled() {
			return 128 + int(ws.Signal()), timedOut
		}
		return ws.ExitStatus(), timedOut
	}
}
