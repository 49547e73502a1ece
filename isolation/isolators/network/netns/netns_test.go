package netns_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"clusterd/isolation/isolators/network/netns"
	"clusterd/isolation/isolators/network/nettest"
)

func TestMain(m *testing.M) {
	code := nettest.Main(m)
	if err := goleak.Find(); err != nil && code == 0 {
		_, _ = fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func current(t *testing.T) string {
	t.Helper()
	name, err := os.Readlink("/proc/thread-self/ns/net")
	if err != nil {
		t.Error(err)
	}
	return name
}

// TestHold keeps a namespace after its process has gone, and lets go of it although
// another mount namespace has a copy of the mount.
func TestHold(t *testing.T) {
	nettest.Need(t)
	path := filepath.Join(t.TempDir(), "ns")
	pid := nettest.Process(t, unix.CLONE_NEWNET)
	want, err := os.Readlink(nettest.Netns(pid))
	if err != nil {
		t.Fatal(err)
	}
	if err := netns.Hold(pid, path); err != nil {
		t.Fatal(err)
	}
	if err := netns.Hold(pid, path); !errors.Is(err, fs.ErrExist) {
		t.Errorf("a second time: got %v", err)
	}
	copied := nettest.Process(t, unix.CLONE_NEWNS)
	_ = unix.Kill(pid, unix.SIGKILL)
	var got string
	if err := netns.Do(path, func() error { got = current(t); return nil }); err != nil || got != want {
		t.Errorf("in the namespace: got %s (%v), want %s", got, err, want)
	}
	mounts := func() string {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/mounts", copied))
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	if !strings.Contains(mounts(), path) {
		t.Error("the other mount namespace has no copy, so the test shows nothing")
	}
	for range 2 {
		if err := netns.Release(path); err != nil {
			t.Fatal(err)
		}
	}
	if netns.Held(path) || strings.Contains(mounts(), path) {
		t.Error("the namespace is still held")
	}
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the file: got %v", err)
	}
	if err := netns.Do(path, func() error { t.Error("ran"); return nil }); err == nil {
		t.Error("a namespace that is gone: got no error")
	}
}

// TestDo works in many namespaces at once; no thread stays in one.
func TestDo(t *testing.T) {
	nettest.Need(t)
	own := current(t)
	var wg sync.WaitGroup
	for range 8 {
		path := nettest.Netns(nettest.Process(t, unix.CLONE_NEWNET))
		want, err := os.Readlink(path)
		if err != nil {
			t.Fatal(err)
		}
		for range 8 {
			wg.Go(func() {
				for range 20 {
					err := netns.Do(path, func() error {
						if unix.Gettid() == unix.Getpid() {
							t.Error("the main thread is in a container's namespace")
						}
						if got := current(t); got != want {
							t.Errorf("got %s, want %s", got, want)
						}
						return fs.ErrClosed
					})
					if !errors.Is(err, fs.ErrClosed) {
						t.Errorf("got %v", err)
					}
				}
			})
		}
	}
	wg.Wait()
	threads, err := filepath.Glob("/proc/self/task/*/ns/net")
	if err != nil || len(threads) == 0 {
		t.Fatal(err)
	}
	for _, thread := range threads {
		if got, err := os.Readlink(thread); err == nil && got != own {
			t.Errorf("%s is in %s", thread, got)
		}
	}
}
