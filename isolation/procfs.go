package isolation

import (
	"bytes"
	"os"
	"sort"
	"strconv"
	"strings"
	"sync"
	"time"
)

// proc is one line of the process table: fields of /proc/PID/stat.
type proc struct {
	pid, ppid, session   int
	state                byte
	utime, stime         uint64 // clock ticks
	childUser, childSyst uint64 // of children that were waited for
	threads              int
	start                uint64 // clock ticks since boot
	rssPages             uint64
}

// ticksPerSecond is USER_HZ, which is 100 on every architecture Go runs on.
const ticksPerSecond = 100

func readProc(pid int) (proc, bool) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return proc{}, false
	}
	return parseStat(pid, b)
}

// parseStat parses /proc/PID/stat. The second field, the name, may hold
// anything, so the rest is looked for behind the last parenthesis.
func parseStat(pid int, b []byte) (proc, bool) {
	i := bytes.LastIndexByte(b, ')')
	if i < 0 {
		return proc{}, false
	}
	f := bytes.Fields(b[i+1:])
	// f[0] is field 3 of proc(5).
	const first = 3
	if len(f) < 24-first+1 || len(f[0]) != 1 {
		return proc{}, false
	}
	ok := true
	num := func(field int) uint64 {
		n, err := strconv.ParseInt(string(f[field-first]), 10, 64)
		if err != nil {
			u, err := strconv.ParseUint(string(f[field-first]), 10, 64)
			ok = ok && err == nil
			return u
		}
		return uint64(max(n, 0))
	}
	p := proc{
		pid: pid, state: f[0][0], ppid: int(num(4)), session: int(num(6)),
		utime: num(14), stime: num(15), childUser: num(16), childSyst: num(17),
		threads: int(num(20)), start: num(22), rssPages: num(24),
	}
	return p, ok
}

// procTable is the process table at one moment, roughly: Linux has no way to
// read it in one go.
type procTable struct {
	procs    map[int]proc
	children map[int][]int
}

func readProcTable() (*procTable, error) {
	dir, err := os.Open("/proc")
	if err != nil {
		return nil, err
	}
	names, err := dir.Readdirnames(-1)
	dir.Close()
	if err != nil {
		return nil, err
	}
	t := &procTable{procs: make(map[int]proc, len(names)), children: make(map[int][]int, len(names))}
	for _, name := range names {
		pid, err := strconv.Atoi(name)
		if err != nil {
			continue
		}
		if p, ok := readProc(pid); ok {
			t.procs[pid] = p
			t.children[p.ppid] = append(t.children[p.ppid], pid)
		}
	}
	return t, nil
}

// below returns what stands below a process, in order, without itself.
func (t *procTable) below(pid int) []proc {
	var found []proc
	seen := map[int]bool{pid: true}
	for queue := []int{pid}; len(queue) > 0; queue = queue[1:] {
		for _, c := range t.children[queue[0]] {
			if !seen[c] {
				seen[c] = true
				found = append(found, t.procs[c])
				queue = append(queue, c)
			}
		}
	}
	sort.Slice(found, func(i, j int) bool { return found[i].pid < found[j].pid })
	return found
}

// sharedTable hands out process tables no older than a moment, so that
// measuring a thousand containers does not read /proc a thousand times.
type sharedTable struct {
	mu    sync.Mutex
	table *procTable
	read  time.Time
}

const tableAge = 200 * time.Millisecond

// get returns a table in which pid occurs, if it does at all: a container
// younger than the last table gets a new one.
func (s *sharedTable) get(pid int) (*procTable, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.table != nil && time.Since(s.read) < tableAge {
		if _, ok := s.table.procs[pid]; ok {
			return s.table, nil
		}
	}
	t, err := readProcTable()
	if err != nil {
		return nil, err
	}
	s.table, s.read = t, time.Now()
	return t, nil
}

// bootID tells one boot of the machine from another.
func bootID() string {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(b))
}

// hasEnv says whether a process was started with an environment entry.
func hasEnv(pid int, entry string) bool {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/environ")
	if err != nil {
		return false
	}
	for e := range bytes.SplitSeq(b, []byte{0}) {
		if string(e) == entry {
			return true
		}
	}
	return false
}
