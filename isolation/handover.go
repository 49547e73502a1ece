package isolation

import (
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"clusterd/isolation/rawfork"
)

const (
	// handoverFiles is how many files a process is given at most.
	handoverFiles = 5
	// handoverBelow is the number that all descriptors which a child sees before it
	// executes its program have to stay below.
	handoverBelow = 128
)

// handover is a few low descriptors of this process that hold nothing, and, while a process
// is started, the files that it is given. An agent has some open files for each container,
// and to copy all of these for each new container, only to close them at the execution,
// would make the thousandth container dearer than the first.
type handover struct {
	null int

	mu sync.Mutex // mu guards what follows; processes are started one at a time anyway (syscall.ForkLock).
	// possible says that a child can be left low descriptors only.
	possible bool
	// places are in no use but from place to release.
	places []int
}

func newHandover(null *os.File) (*handover, error) {
	h := &handover{null: int(null.Fd()), possible: rawfork.CanKeepFiles()}
	for range handoverFiles {
		fd, err := unix.FcntlInt(uintptr(h.null), unix.F_DUPFD_CLOEXEC, handoverFiles)
		if err != nil {
			h.close()
			return nil, err
		}
		h.possible = h.possible && fd < handoverBelow
		h.places = append(h.places, fd)
	}
	return h, nil
}

// place finds the descriptors that a script, which is empty yet, hands over to a program.
// What is put into places stays there until release is called.
func (h *handover) place(script *rawfork.Script, files []*os.File, program *os.File) (fds []int, release func(), err error) {
	for _, f := range files {
		fds = append(fds, int(f.Fd()))
	}
	h.mu.Lock()
	if !h.possible || len(files) > len(h.places) || program.Fd() >= handoverBelow {
		h.mu.Unlock()
		return fds, func() {}, nil
	}
	below, used := int(program.Fd()), 0
	release = func() {
		defer h.mu.Unlock()
		for i, place := range h.places[:used] {
			// It cannot fail, as both are open. But who speaks over what lies there must see
			// its end in any case.
			if unix.Dup3(h.null, place, unix.O_CLOEXEC) != nil {
				_ = unix.Close(place)
				h.places[i], h.possible = -1, false
			}
		}
	}
	for i, fd := range fds {
		if fd >= handoverBelow {
			place := h.places[used]
			if err := unix.Dup3(fd, place, unix.O_CLOEXEC); err != nil {
				release()
				return nil, nil, err
			}
			used++
			fds[i] = place
		}
		below = max(below, fds[i])
	}
	script.KeepFiles(below + 1)
	return fds, release, nil
}

func (h *handover) close() {
	for _, fd := range h.places {
		_ = unix.Close(fd)
	}
	h.places = nil
}

// limitFiles sets the bound on open files that a program of ours starts with.
//
// The small program of a supervisor starts with no room for more files than it is given, and
// then makes itself room, as every Go program does: so what the Go runtime would read first,
// to choose how many threads it may run (the cgroup and all mounts of the machine), it cannot
// open, and goes on with the number that the environment says. That reading is a tenth of
// such a start, and more where more is mounted. A whole binary may need a loader, which opens
// files; and executors execute programs by themselves and hand the first bound on, which is
// therefore the one that the agent was started with.
func limitFiles(script *rawfork.Script, small bool, files int) {
	var own unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &own); err != nil {
		return
	}
	bound := openFiles()
	if small {
		bound = uint64(files)
	}
	if bound == 0 {
		return
	}
	limit := &unix.Rlimit{Cur: min(bound, own.Max), Max: own.Max}
	script.Try(unix.SYS_PRLIMIT64, 0, unix.RLIMIT_NOFILE, rawfork.Pointer(script, limit), 0)
}
