package testcluster

import (
	"crypto/rand"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// cgroupMount is where the machine has its cgroups.
const cgroupMount = "/sys/fs/cgroup"

// CgroupsRoot makes a name for --cgroups_root that no other agent of the machine has: a
// root belongs to one agent at a time.
func CgroupsRoot(prefix string) string { return prefix + "-" + strings.ToLower(rand.Text()[:10]) }

// RemoveCgroups removes the cgroups of an agent that has ended, and kills what is still
// in them.
func RemoveCgroups(root string) error {
	dirs, err := filepath.Glob(filepath.Join(cgroupMount, "*", root))
	if err != nil {
		return err
	}
	return Poll(func() error {
		var errs []error
		for _, dir := range append(dirs, filepath.Join(cgroupMount, root)) {
			errs = append(errs, removeCgroup(dir))
		}
		return errors.Join(errs...)
	})
}

// removeCgroup removes a cgroup and those below it, and kills what is in them.
func removeCgroup(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for _, e := range entries {
		if e.IsDir() {
			err = errors.Join(err, removeCgroup(filepath.Join(dir, e.Name())))
		}
	}
	procs, readErr := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
	for pid := range strings.FieldsSeq(string(procs)) {
		if n, err := strconv.Atoi(pid); err == nil {
			_ = syscall.Kill(n, syscall.SIGKILL)
		}
	}
	return errors.Join(err, readErr, os.Remove(dir))
}
