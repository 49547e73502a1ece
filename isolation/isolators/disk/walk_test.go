package disk

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// du asks the real one.
func du(t *testing.T, dir string) uint64 {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "du", "-s", "-k", dir).Output()
	if err != nil {
		t.Fatalf("du: %v", err)
	}
	n, err := strconv.ParseUint(strings.Fields(string(out))[0], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n << 10
}

func check(t *testing.T, dir string) uint64 {
	t.Helper()
	got, err := measure(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	if want := du(t, dir); got>>10 != want>>10 {
		t.Errorf("%s: got %d bytes, du says %d", dir, got, want)
	}
	return got
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestMeasure compares with du.
func TestMeasure(t *testing.T) {
	dir := t.TempDir()
	check(t, dir)
	for i := range 300 {
		sub := filepath.Join(dir, "d"+strconv.Itoa(i%7), "e"+strconv.Itoa(i%3))
		must(t, os.MkdirAll(sub, 0o755))
		must(t, os.WriteFile(filepath.Join(sub, "f"+strconv.Itoa(i)), make([]byte, i*777), 0o644))
	}
	check(t, dir)
	// Another name costs nothing, in another directory neither.
	must(t, os.Link(filepath.Join(dir, "d0/e0/f147"), filepath.Join(dir, "d1/e0/again")))
	// Holes cost nothing.
	must(t, os.WriteFile(filepath.Join(dir, "hole"), nil, 0o644))
	must(t, os.Truncate(filepath.Join(dir, "hole"), 1<<40))
	// Links are not followed, sockets and pipes not opened.
	must(t, os.Symlink("/usr", filepath.Join(dir, "usr")))
	must(t, os.Symlink(".", filepath.Join(dir, "loop")))
	must(t, unix.Mkfifo(filepath.Join(dir, "pipe"), 0o644))
	if got := check(t, dir); got < 300*150*777 || got > 300*150*777*2 {
		t.Errorf("got %d bytes", got)
	}
	must(t, os.Symlink(dir, dir+".link"))
	if _, err := measure(t.Context(), dir+".link"); err == nil {
		t.Error("a link in the place of the directory was followed")
	}
	if _, err := measure(t.Context(), filepath.Join(dir, "not there")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a directory that is not there: got %v", err)
	}
}

// TestMeasureDeep: a task cannot hide files where paths are too long.
func TestMeasureDeep(t *testing.T) {
	dir := t.TempDir()
	name := strings.Repeat("n", 200)
	fd, err := unix.Open(dir, unix.O_DIRECTORY|unix.O_RDONLY|unix.O_CLOEXEC, 0)
	must(t, err)
	const depth = 60
	for range depth {
		must(t, unix.Mkdirat(fd, name, 0o755))
		next, err := unix.Openat(fd, name, unix.O_DIRECTORY|unix.O_RDONLY|unix.O_CLOEXEC, 0)
		must(t, err)
		unix.Close(fd)
		fd = next
	}
	f, err := unix.Openat(fd, "hidden", unix.O_CREAT|unix.O_WRONLY|unix.O_CLOEXEC, 0o644)
	must(t, err)
	_, err = unix.Write(f, make([]byte, 1<<20))
	must(t, err)
	unix.Close(f)
	unix.Close(fd)
	before := openFiles(t)
	if got, err := measure(t.Context(), dir); err != nil || got < 1<<20 {
		t.Errorf("got %d bytes, %v, want more than a megabyte", got, err)
	}
	if after := openFiles(t); after != before {
		t.Errorf("open files: got %d, before there were %d", after, before)
	}
}

func openFiles(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	must(t, err)
	return len(entries)
}

// TestMeasureMounts: what is mounted in a directory does not count.
func TestMeasureMounts(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("mounting takes root")
	}
	dir, other := t.TempDir(), t.TempDir()
	must(t, os.WriteFile(filepath.Join(other, "big"), make([]byte, 8<<20), 0o644))
	for _, d := range []string{"tmpfs", "bind"} {
		must(t, os.Mkdir(filepath.Join(dir, d), 0o755))
	}
	must(t, os.WriteFile(filepath.Join(dir, "file"), nil, 0o644))
	for target, m := range map[string]struct {
		source, kind string
		flags        uintptr
	}{
		"tmpfs": {"none", "tmpfs", 0},
		"bind":  {other, "", unix.MS_BIND},
		"file":  {filepath.Join(other, "big"), "", unix.MS_BIND},
	} {
		target = filepath.Join(dir, target)
		must(t, unix.Mount(m.source, target, m.kind, m.flags, ""))
		t.Cleanup(func() { _ = unix.Unmount(target, unix.MNT_DETACH) })
	}
	must(t, os.WriteFile(filepath.Join(dir, "tmpfs", "big"), make([]byte, 8<<20), 0o644))
	got, err := measure(t.Context(), dir)
	must(t, err)
	if got > 1<<20 {
		t.Errorf("got %d bytes, and nothing is there", got)
	}
	if got, err := measureMount(t.Context(), filepath.Join(dir, "tmpfs")); err != nil || got < 8<<20 || got > 9<<20 {
		t.Errorf("a disk of its own: got %d bytes, %v", got, err)
	}
}

// TestWalkHostile: whoever moves things about cannot lead a walk out of the tree.
func TestWalkHostile(t *testing.T) {
	dir, outside := t.TempDir(), t.TempDir()
	must(t, os.WriteFile(filepath.Join(outside, "secret"), nil, 0o644))
	for i := range 50 {
		must(t, os.MkdirAll(filepath.Join(dir, strconv.Itoa(i), "below"), 0o755))
	}
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			one := filepath.Join(dir, strconv.Itoa(i%50))
			_ = os.Rename(one, one+".away")
			_ = os.Symlink(outside, one)
			_ = os.Remove(one)
			_ = os.Rename(one+".away", one)
		}
	})
	for range 50 {
		err := walk(t.Context(), dir, visitor{file: func(_ int, name string, _ *unix.Statx_t) error {
			if name == "secret" {
				return errors.New("it got out")
			}
			return nil
		}})
		if err != nil {
			t.Error(err)
			break
		}
	}
	close(stop)
	wg.Wait()
}

func TestWalkCancelled(t *testing.T) {
	dir := t.TempDir()
	for i := range 100 {
		must(t, os.MkdirAll(filepath.Join(dir, fmt.Sprint("d", i)), 0o755))
	}
	ctx, cancel := context.WithCancel(t.Context())
	seen := 0
	before := openFiles(t)
	err := walk(ctx, dir, visitor{
		directory: func(int, *unix.Statx_t) error {
			if seen++; seen == 10 {
				cancel()
			}
			return nil
		},
		file: func(int, string, *unix.Statx_t) error { return nil },
	})
	if !errors.Is(err, context.Canceled) || seen != 10 {
		t.Errorf("got %v after %d directories", err, seen)
	}
	if after := openFiles(t); after != before {
		t.Errorf("open files: got %d, before there were %d", after, before)
	}
}

func TestFormatBytes(t *testing.T) {
	for n, want := range map[uint64]string{0: "0B", 1: "1B", 1024: "1KB", 1025: "1025B", 5 << 20: "5MB", 3 << 30: "3GB", 2048 << 40: "2048TB"} {
		if got := formatBytes(n); got != want {
			t.Errorf("%d: got %s, want %s", n, got, want)
		}
	}
}

func TestParseRange(t *testing.T) {
	for _, s := range []string{"[5000-10000]", "[ 7-8 , 1-2 ]", "[5-5]"} {
		if _, err := parseRange(s); err != nil {
			t.Errorf("%s: got %v", s, err)
		}
	}
	for _, s := range []string{"", "5000-10000", "[]", "[5]", "[0-10]", "[10-5]", "[1-4294967296]", "[a-b]", "[1-2", "[-3--1]"} {
		if _, err := parseRange(s); !errors.Is(err, ErrProjectRange) {
			t.Errorf("%q: got %v", s, err)
		}
	}
}

// TestProjectsNext: the lowest id that is free, over all ranges.
func TestProjectsNext(t *testing.T) {
	ranges, err := parseRange("[20-21,10-10]")
	must(t, err)
	p := newProjects(ranges)
	p.take(21, "/")
	p.take(99, "/") // of a range that was given once
	for _, want := range []uint32{10, 20} {
		if got, err := p.next("/"); err != nil || got.id != want {
			t.Errorf("got %v, %v, want %d", got, err, want)
		}
	}
	if _, err := p.next("/"); !errors.Is(err, ErrNoProjects) {
		t.Errorf("got %v", err)
	}
	if total, free := p.counts(); total != 3 || free != 0 {
		t.Errorf("got %d of %d free", free, total)
	}
}
