package mounts_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"
	"syscall"
	"testing"

	"clusterd/isolation/mounts"
)

// atOnce calls f n times at the same moment.
func atOnce(n int, f func(i int)) {
	var wg sync.WaitGroup
	begin := make(chan struct{})
	for i := range n {
		wg.Go(func() {
			<-begin
			f(i)
		})
	}
	close(begin)
	wg.Wait()
}

// TestMakeAtOnce: whoever comes second finds what the first has made.
func TestMakeAtOnce(t *testing.T) {
	root := tempDir(t)
	uid, gid := os.Getuid(), os.Getgid()
	if uid == 0 {
		uid, gid = 1234, 1234
	}
	for round := range 100 {
		path := fmt.Sprintf("%d/a/b", round)
		atOnce(8, func(i int) {
			if err := mounts.Make(root, path, i%2 == 0, uid, gid); err != nil && !errors.Is(err, syscall.ENOTDIR) && !errors.Is(err, syscall.EISDIR) {
				t.Errorf("make %s: %v", path, err)
			}
			if err := mounts.Make(root, path+"-dir", true, uid, gid); err != nil {
				t.Errorf("make a directory: %v", err)
			}
			if err := mounts.Make(root, path+"-file", false, uid, gid); err != nil {
				t.Errorf("make a file: %v", err)
			}
		})
		for _, name := range []string{"", "-dir", "-file"} {
			st, err := os.Lstat(root + "/" + path + name)
			if err != nil {
				t.Fatal(err)
			}
			if owner := st.Sys().(*syscall.Stat_t); int(owner.Uid) != uid || int(owner.Gid) != gid {
				t.Errorf("%s belongs to %d:%d, want %d:%d", st.Name(), owner.Uid, owner.Gid, uid, gid)
			}
		}
	}
}

// TestMakeBesideLinks: somebody puts links that lead out in the way while it is made.
func TestMakeBesideLinks(t *testing.T) {
	dir := tempDir(t)
	root, outside := mkdir(t, dir+"/root"), mkdir(t, dir+"/outside")
	for round := range 200 {
		name := fmt.Sprint(round)
		atOnce(3, func(i int) {
			if i == 0 {
				if err := os.Symlink([]string{outside, "nothing", outside + "/new"}[round%3], root+"/"+name); err != nil && !errors.Is(err, fs.ErrExist) {
					t.Error(err)
				}
				return
			}
			err := mounts.Make(root, name+"/below", true, os.Getuid(), os.Getgid())
			if err != nil && !errors.Is(err, mounts.ErrEscapes) && !errors.Is(err, fs.ErrExist) {
				t.Errorf("make: %v", err)
			}
			st, statErr := os.Lstat(root + "/" + name)
			if (err == nil) != (statErr == nil && st.IsDir()) {
				t.Errorf("round %d: got %v, and %v is there, %v", round, err, st, statErr)
			}
		})
	}
	if entries, err := os.ReadDir(outside); err != nil || len(entries) != 0 {
		t.Errorf("outside: got %v, %v", entries, err)
	}
}
