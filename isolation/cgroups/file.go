package cgroups

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// Read reads a control file. It does without os.File, whose polling costs as many
// system calls again as the reading.
func Read(path string) ([]byte, error) {
	fd, err := openFile(path, unix.O_RDONLY)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	defer unix.Close(fd)
	b := make([]byte, 0, 1024)
	for {
		n, err := unix.Read(fd, b[len(b):cap(b)])
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return nil, &os.PathError{Op: "read", Path: path, Err: err}
		}
		if n == 0 {
			return b, nil
		}
		b = b[:len(b)+n]
		if len(b) == cap(b) {
			b = append(b, make([]byte, len(b))...)[:len(b)]
		}
	}
}

// Write writes a control file that is there, in one call: the kernel takes each write
// as one command.
func Write(path, value string) error {
	fd, err := openFile(path, unix.O_WRONLY)
	if err != nil {
		return &os.PathError{Op: "open", Path: path, Err: err}
	}
	defer unix.Close(fd)
	for {
		_, err = unix.Write(fd, []byte(value))
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	if err != nil {
		return fmt.Errorf("write %q to %s: %w", value, path, err)
	}
	return nil
}

func openFile(path string, flags int) (int, error) {
	for {
		fd, err := unix.Open(path, flags|unix.O_CLOEXEC, 0)
		if !errors.Is(err, unix.EINTR) {
			return fd, err
		}
	}
}

// Exists says whether there is a file or directory of that name.
func Exists(path string) bool {
	var st unix.Stat_t
	return unix.Stat(path, &st) == nil
}

// ReadUint reads a control file that holds one number. "max" is the greatest there is.
func ReadUint(path string) (uint64, error) {
	b, err := Read(path)
	if err != nil {
		return 0, err
	}
	b = bytes.TrimSpace(b)
	if string(b) == "max" {
		return ^uint64(0), nil
	}
	n, err := strconv.ParseUint(string(b), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", path, err)
	}
	return n, nil
}

// Keyed calls f for each line "key number" of b. Lines of another shape are passed
// over. The key is good until f returns.
func Keyed(b []byte, f func(key []byte, value uint64)) {
	for line := range bytes.Lines(b) {
		key, value, ok := bytes.Cut(bytes.TrimRight(line, "\n"), []byte{' '})
		if !ok {
			continue
		}
		if n, ok := number(value); ok {
			f(key, n)
		}
	}
}

// number reads digits without an allocation.
func number(b []byte) (n uint64, ok bool) {
	for _, c := range b {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + uint64(c-'0')
	}
	return n, len(b) > 0
}

// pidsOf reads a file of process ids. A process that the agent's pid namespace does not
// know is 0 there; it is passed over.
func pidsOf(path string, pids []int) ([]int, error) {
	b, err := Read(path)
	if err != nil {
		return pids, err
	}
	for line := range bytes.Lines(b) {
		if n, ok := number(bytes.TrimRight(line, "\n")); ok && n > 0 {
			pids = append(pids, int(n))
		}
	}
	return pids, nil
}

// WriteEach writes values one after the other, each in a call of its own, and opens the
// file once.
func WriteEach(path string, values ...string) error {
	fd, err := openFile(path, unix.O_WRONLY)
	if err != nil {
		return &os.PathError{Op: "open", Path: path, Err: err}
	}
	defer unix.Close(fd)
	for _, v := range values {
		if _, err := unix.Write(fd, []byte(v)); err != nil {
			return fmt.Errorf("write %q to %s: %w", v, path, err)
		}
	}
	return nil
}

// Count counts the processes and threads of a cgroup and of all below it.
func Count(dir string) (processes, threads int, err error) {
	for _, file := range [...]struct {
		name string
		n    *int
	}{{"cgroup.procs", &processes}, {"tasks", &threads}, {"cgroup.threads", &threads}} {
		b, err := Read(dir + "/" + file.name)
		switch {
		case errors.Is(err, os.ErrNotExist): // v1 has tasks, v2 has threads
		case errors.Is(err, unix.EOPNOTSUPP): // a threaded cgroup's processes are those of the one above
		case err != nil:
			return 0, 0, err
		}
		*file.n += bytes.Count(b, []byte{'\n'})
	}
	for _, child := range children(dir) {
		p, t, err := Count(child)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return 0, 0, err
		}
		processes, threads = processes+p, threads+t
	}
	return processes, threads, nil
}
