// Package proctree reads the process table from /proc: who stands below whom,
// and what a process has used.
//
// The programs that are started for every container use it as well as the
// agent, so it imports next to nothing. All functions are safe for concurrent
// use; isolation, isolation/supervisor and agent/commandexecutor import it.
package proctree

import (
	"os"
	"slices"
	"strconv"
	"syscall"
)

// TicksPerSecond is the unit of times in /proc: USER_HZ, which is 100 on every
// architecture that Go runs on.
const TicksPerSecond = 100

// Process is one line of the process table: fields of /proc/PID/stat.
type Process struct {
	PID, Parent, Session int
	// State is one letter: Z is a zombie.
	State byte
	// User and System are in ticks; ChildUser and ChildSystem are those of
	// children that have ended and were waited for.
	User, System, ChildUser, ChildSystem uint64
	// Start is in ticks since the machine booted.
	Start uint64
	// ResidentPages is the resident set size.
	ResidentPages uint64
}

// Read reads one process.
func Read(pid int) (Process, bool) {
	var buf [1024]byte
	return read(strconv.Itoa(pid), pid, buf[:])
}

func read(name string, pid int, buf []byte) (Process, bool) {
	fd, err := syscall.Open("/proc/"+name+"/stat", syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return Process{}, false
	}
	n, err := syscall.Read(fd, buf)
	syscall.Close(fd)
	if err != nil || n <= 0 {
		return Process{}, false
	}
	return parse(pid, buf[:n])
}

// parse parses /proc/PID/stat. Its second field, the name, may hold anything,
// so the rest is looked for behind the last parenthesis.
func parse(pid int, b []byte) (Process, bool) {
	i := len(b) - 1
	for i >= 0 && b[i] != ')' {
		i--
	}
	if i < 0 || i+2 >= len(b) {
		return Process{}, false
	}
	p := Process{PID: pid, State: b[i+2]}
	var fields [25]uint64
	// The third field, the state, is at i+2; numbers follow.
	field, number, digits := 3, uint64(0), false
	for _, c := range b[i+2:] {
		switch {
		case c >= '0' && c <= '9':
			number, digits = number*10+uint64(c-'0'), true
		case c == '-':
			number, digits = 0, false
		case c == ' ' || c == '\n':
			if digits && field < len(fields) {
				fields[field] = number
			}
			field, number, digits = field+1, 0, false
		}
	}
	if field < len(fields) {
		return Process{}, false
	}
	p.Parent, p.Session = int(fields[4]), int(fields[6])
	p.User, p.System, p.ChildUser, p.ChildSystem = fields[14], fields[15], fields[16], fields[17]
	p.Start, p.ResidentPages = fields[22], fields[24]
	return p, true
}

// Table is the process table at one moment, roughly: Linux has no way to read
// it at once.
type Table map[int]Process

// ReadTable reads all processes.
func ReadTable() (Table, error) {
	dir, err := os.Open("/proc")
	if err != nil {
		return nil, err
	}
	names, err := dir.Readdirnames(-1)
	dir.Close()
	if err != nil {
		return nil, err
	}
	t := make(Table, len(names))
	buf := make([]byte, 1024)
	for _, name := range names {
		pid, err := strconv.Atoi(name)
		if err != nil {
			continue
		}
		if p, ok := read(name, pid, buf); ok {
			t[pid] = p
		}
	}
	return t, nil
}

// Below returns the processes below one, in order of their ids, without
// itself.
func (t Table) Below(pid int) []Process {
	children := make(map[int][]int, len(t))
	for _, p := range t {
		children[p.Parent] = append(children[p.Parent], p.PID)
	}
	seen := map[int]bool{pid: true}
	var below []Process
	for queue := []int{pid}; len(queue) > 0; queue = queue[1:] {
		for _, c := range children[queue[0]] {
			if !seen[c] {
				seen[c] = true
				below = append(below, t[c])
				queue = append(queue, c)
			}
		}
	}
	slices.SortFunc(below, func(a, b Process) int { return a.PID - b.PID })
	return below
}

// Children returns the ids of a process's children, in order.
func (t Table) Children(pid int) []int {
	var children []int
	for _, p := range t {
		if p.Parent == pid {
			children = append(children, p.PID)
		}
	}
	slices.Sort(children)
	return children
}
