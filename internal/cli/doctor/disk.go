package doctor

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"clusterd/internal/cli/console"
)

const (
	// syncs is how many writes the speed of a disk is measured by.
	syncs = 16
	// slowSync is from when on a disk is too slow for a master's log.
	slowSync = 20 * time.Millisecond
)

func checkDisk(_ context.Context, h *host) []Finding {
	dir := existing(h.workDir)
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return bad(Problem, fmt.Sprintf("%s: %v", dir, err), "checkpoints and sandboxes are there", "see that the disk is mounted")
	}
	var found []Finding
	block := uint64(st.Bsize) //nolint:gosec // no file system has a negative one
	free, total := st.Bavail*block, st.Blocks*block
	what := fmt.Sprintf("%s: %s of %s free", dir, console.Bytes(free), console.Bytes(total))
	switch {
	case total > 0 && free*50 < total:
		found = append(found, bad(Problem, what, "a full disk stops checkpoints: no task is launched, and masters stop leading", "remove what is not needed; agents: --gc_disk_headroom, --gc_delay")...)
	case total > 0 && free*10 < total:
		found = append(found, bad(Warning, what, "sandboxes are removed earlier the fuller the disk is", "remove what is not needed; agents: --gc_delay")...)
	default:
		found = append(found, good("%s", what)...)
	}
	if st.Files > 0 && st.Ffree*20 < st.Files {
		found = append(found, bad(Warning, fmt.Sprintf("%s: %d of %d inodes free", dir, st.Ffree, st.Files), "without inodes no file can be made, however much space there is", "look for directories of many small files")...)
	}
	return append(found, speed(dir)...)
}

// existing is the nearest directory upwards that exists.
func existing(dir string) string {
	for ; dir != "/" && dir != "."; dir = filepath.Dir(dir) {
		if info, err := os.Stat(dir); err == nil && info.IsDir() {
			return dir
		}
	}
	return dir
}

// speed measures how long it takes until a small write is on the disk.
func speed(dir string) []Finding {
	f, err := os.CreateTemp(dir, ".clusterd-doctor-*")
	if err != nil {
		return bad(Note, fmt.Sprintf("the speed of %s is not measured: %v", dir, err), "", "")
	}
	defer func() {
		_ = f.Close() // it is removed anyhow
		_ = os.Remove(f.Name())
	}()
	took := make([]time.Duration, 0, syncs)
	for range syncs {
		begin := time.Now()
		if _, err := f.Write(make([]byte, 4096)); err != nil {
			return bad(Problem, fmt.Sprintf("write to %s: %v", dir, err), "checkpoints cannot be written", "df "+dir)
		}
		if err := unix.Fdatasync(int(f.Fd())); err != nil {
			return bad(Problem, fmt.Sprintf("sync %s: %v", dir, err), "checkpoints cannot be written", "look at the kernel's log for errors of the disk")
		}
		took = append(took, time.Since(begin))
	}
	slices.Sort(took)
	median := took[len(took)/2].Round(10 * time.Microsecond)
	if median > slowSync {
		return bad(Warning, fmt.Sprintf("%s: %s until a write is on the disk", dir, median), "every change of the registry and every task waits for it", "put --work_dir on a faster disk, away from what writes much")
	}
	return good("%s: %s until a write is on the disk", dir, median)
}
