package supervisor

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
)

func TestOpenIn(t *testing.T) {
	t.Run("at once", func(t *testing.T) { testOpenIn(t, openIn) })
	t.Run("walk", func(t *testing.T) { testOpenIn(t, walk) }) // as where the kernel knows no openat2
}

func testOpenIn(t *testing.T, openIn func(root int, path string, beneath bool, make MakeTarget) (int, error)) {
	base := t.TempDir()
	root := filepath.Join(base, "root")
	for _, d := range []string{"root/a/b", "outside"} {
		if err := os.MkdirAll(filepath.Join(base, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, target := range map[string]string{
		"absolute": "/a", "relative": "a/b", "up": "../../outside", "out": filepath.Join(base, "outside"), "loop": "loop",
		"dangling": "new/dir", "a/back": "../a/b", "chain": "absolute/back",
	} {
		if err := os.Symlink(target, filepath.Join(root, name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(root, "file"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	fd, err := syscall.Open(root, oPath|syscall.O_DIRECTORY|syscall.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(fd)
	for _, c := range []struct {
		path    string
		beneath bool
		make    MakeTarget
		want    string // below root
		err     error
	}{
		{"/", false, MakeNothing, "", nil},
		{"a//b/./", false, MakeNothing, "a/b", nil},
		{"/../../a/../a", false, MakeNothing, "a", nil},
		{"absolute/b", false, MakeNothing, "a/b", nil},
		{"relative", true, MakeNothing, "a/b", nil},
		{"chain", false, MakeNothing, "a/b", nil},
		{"a/back", true, MakeNothing, "a/b", nil},
		{"file", false, MakeNothing, "file", nil},
		{"up", false, MakeNothing, "", syscall.ENOENT}, // of the root's own
		{"up", true, MakeNothing, "", syscall.EXDEV},
		{"out", true, MakeNothing, "", syscall.EXDEV},
		{"absolute", true, MakeNothing, "", syscall.EXDEV},
		{"../a", true, MakeNothing, "", syscall.EXDEV},
		{"loop", false, MakeNothing, "", syscall.ELOOP},
		{"file/x", false, MakeDirectory, "", syscall.ENOTDIR},
		{"none", false, MakeNothing, "", syscall.ENOENT},
		{"made/of/directories", false, MakeDirectory, "made/of/directories", nil},
		{"made/with/file", false, MakeFile, "made/with/file", nil},
		{"dangling/deep", false, MakeDirectory, "new/dir/deep", nil},
		{"out/made", false, MakeDirectory, base[1:] + "/outside/made", nil},
	} {
		got, err := openIn(fd, c.path, c.beneath, c.make)
		if !errors.Is(err, c.err) {
			t.Errorf("%s, beneath %v: got %v, want %v", c.path, c.beneath, err, c.err)
		}
		if err != nil {
			continue
		}
		path, err := os.Readlink("/proc/self/fd/" + strconv.Itoa(got))
		syscall.Close(got)
		if err != nil || path != filepath.Join(root, c.want) {
			t.Errorf("%s, beneath %v: got %s, %v, want %s", c.path, c.beneath, path, err, c.want)
		}
	}
	if st, err := os.Stat(filepath.Join(root, "made/with/file")); err != nil || !st.Mode().IsRegular() {
		t.Errorf("made file: got %v, %v", st, err)
	}
	if entries, err := os.ReadDir(filepath.Join(base, "outside")); err != nil || len(entries) != 0 {
		t.Errorf("outside of the root: got %v, %v", entries, err)
	}
}
