package main

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// state is what a test could leave behind, by kind.
type state struct {
	mounts, cgroups, links, files map[string]bool
}

func look() state {
	return state{mounts: mounts(), cgroups: cgroups(), links: names("/sys/class/net"), files: names("/tmp")}
}

// clean kills and removes what is there and was not in the baseline, and names it. A
// test may rely on nothing that another has left, and be blamed for nothing either.
func clean(base state) []string {
	residue := cleanProcesses()
	for m := range mounts() {
		if !base.mounts[m] {
			_, target, _ := strings.Cut(m, " ")
			residue = append(residue, "mount "+target)
			_ = unix.Unmount(target, unix.MNT_DETACH)
		}
	}
	left := make([]string, 0)
	for c := range cgroups() {
		if !base.cgroups[c] {
			left = append(left, c)
		}
	}
	slices.Sort(left)
	for _, c := range slices.Backward(left) { // children before parents
		residue = append(residue, "cgroup "+c)
		_ = os.Remove(c)
	}
	for l := range names("/sys/class/net") {
		if !base.links[l] {
			residue = append(residue, "link "+l)
		}
	}
	for f := range names("/tmp") {
		if !base.files[f] {
			residue = append(residue, "file /tmp/"+f)
			_ = os.RemoveAll(filepath.Join("/tmp", f))
		}
	}
	slices.Sort(residue)
	return residue
}

// cleanProcesses gives what is about to end a second, and kills the rest.
func cleanProcesses() []string {
	deadline := time.Now().Add(time.Second)
	for {
		reap()
		left := processes()
		if len(left) == 0 {
			return nil
		}
		if time.Now().Before(deadline) {
			time.Sleep(20 * time.Millisecond)
			continue
		}
		var residue []string
		for pid, name := range left {
			residue = append(residue, fmt.Sprintf("process %d %s", pid, name))
			thaw(pid)
			_ = unix.Kill(pid, unix.SIGKILL)
		}
		for gone := time.Now().Add(5 * time.Second); len(processes()) > 0 && time.Now().Before(gone); time.Sleep(20 * time.Millisecond) {
			reap()
		}
		return residue
	}
}

// thaw lets a frozen process die; in cgroup v2 the kernel does that by itself, but
// not what a tracer has stopped.
func thaw(pid int) { _ = unix.Kill(pid, unix.SIGCONT) }

func reap() {
	for {
		if pid, err := syscall.Wait4(-1, nil, syscall.WNOHANG, nil); err != nil || pid <= 0 {
			return
		}
	}
}

// processes are all but this one and the kernel's own threads.
func processes() map[int]string {
	found := make(map[int]string)
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid <= 2 {
			continue
		}
		stat, err := os.ReadFile(filepath.Join("/proc", e.Name(), "stat"))
		if err != nil {
			continue
		}
		end := bytes.LastIndexByte(stat, ')')
		fields := strings.Fields(string(stat[end+1:]))
		if end < 0 || len(fields) < 2 || fields[1] == "2" { // the parent of the kernel's threads
			continue
		}
		found[pid] = string(stat[bytes.IndexByte(stat, '('):end+1]) + " " + fields[0]
	}
	return found
}

// mounts are known by their id and target.
func mounts() map[string]bool {
	found := make(map[string]bool)
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil
	}
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) > 4 {
			found[f[0]+" "+f[4]] = true
		}
	}
	return found
}

func cgroups() map[string]bool {
	found := make(map[string]bool)
	_ = filepath.WalkDir("/sys/fs/cgroup", func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			found[path] = true
		}
		return nil
	})
	return found
}

func names(dir string) map[string]bool {
	found := make(map[string]bool)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return found
	}
	for _, e := range entries {
		found[e.Name()] = true
	}
	return found
}
