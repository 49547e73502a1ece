package mounts_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"clusterd/isolation/mounts"
)

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root can mount")
	}
}

// tempDir is a directory with nothing mounted below it when the test has ended.
func tempDir(t *testing.T) string {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := mounts.UnmountBelow(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

func mkdir(t *testing.T, dir string) string {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func below(t *testing.T, dir string) []string {
	t.Helper()
	points, err := mounts.Below(dir)
	if err != nil {
		t.Fatal(err)
	}
	return points
}

func TestBind(t *testing.T) {
	needRoot(t)
	dir := tempDir(t)
	volume, sandbox := mkdir(t, dir+"/volume"), mkdir(t, dir+"/sandbox")
	write(t, volume+"/data", "kept")
	mkdir(t, sandbox+"/v")
	if err := mounts.Bind(volume, sandbox, "v", mounts.BindOptions{ReadOnly: true}); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(sandbox + "/v/data"); err != nil || string(b) != "kept" {
		t.Errorf("data: got %q, %v", b, err)
	}
	if err := os.WriteFile(sandbox+"/v/data", nil, 0o644); !errors.Is(err, syscall.EROFS) {
		t.Errorf("write to a read-only mount: got %v", err)
	}
	if on, err := mounts.MountedOn(sandbox, "v"); !on || err != nil {
		t.Errorf("mounted: got %v, %v", on, err)
	}
	if on, err := mounts.Unmount(sandbox, "v"); !on || err != nil {
		t.Errorf("unmount: got %v, %v", on, err)
	}
	if on, err := mounts.Unmount(sandbox, "v"); on || err != nil {
		t.Errorf("unmount again: got %v, %v", on, err)
	}
	if on, err := mounts.MountedOn(sandbox, "nothing"); on || err != nil {
		t.Errorf("mounted on nothing: got %v, %v", on, err)
	}
}

// What lies where a volume goes may be a link that the task has made.
func TestBindFollowsNoLink(t *testing.T) {
	needRoot(t)
	dir := tempDir(t)
	volume, sandbox, other := mkdir(t, dir+"/volume"), mkdir(t, dir+"/sandbox"), mkdir(t, dir+"/etc")
	if err := os.Symlink(other, sandbox+"/v"); err != nil {
		t.Fatal(err)
	}
	if err := mounts.Bind(volume, sandbox, "v", mounts.BindOptions{}); err == nil {
		t.Error("bind on a link: got no error")
	}
	if got := below(t, dir); len(got) > 0 {
		t.Errorf("mounts: got %v", got)
	}
}

func TestUnmountBelow(t *testing.T) {
	needRoot(t)
	dir := tempDir(t)
	a, sibling := mkdir(t, dir+"/a"), mkdir(t, dir+"/ab")
	for range 3 { // on each other
		if err := unix.Mount("none", a, "tmpfs", 0, ""); err != nil {
			t.Fatal(err)
		}
	}
	mkdir(t, a+"/b")
	if err := unix.Mount("none", a+"/b", "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("none", sibling, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	busy, err := os.Create(a + "/b/busy")
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	if err := mounts.UnmountBelow(a); err != nil {
		t.Fatal(err)
	}
	if got := below(t, dir); len(got) != 1 || got[0] != sibling {
		t.Errorf("mounts left: got %v, want %s alone", got, sibling)
	}
	if err := mounts.UnmountBelow(dir + "/not there"); err != nil {
		t.Errorf("unmount nothing: got %v", err)
	}
}

func TestRemoveAllKeepsWhatIsMounted(t *testing.T) {
	needRoot(t)
	dir := tempDir(t)
	volume, sandbox := mkdir(t, dir+"/volume"), mkdir(t, dir+"/sandbox")
	write(t, volume+"/data", "kept")
	outside := mkdir(t, dir+"/outside")
	write(t, outside+"/file", "kept too")
	mkdir(t, sandbox+"/deep/er/v")
	for i := range 1500 { // more than one reading of the directory
		write(t, sandbox+"/deep/"+strings.Repeat("x", 1+i%7)+string(rune('a'+i%26))+"-"+string(rune('a'+i/26%26))+string(rune('a'+i/676)), "")
	}
	if err := os.Symlink(outside, sandbox+"/link"); err != nil {
		t.Fatal(err)
	}
	if err := mounts.Bind(volume, sandbox+"/deep/er", "v", mounts.BindOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := mounts.RemoveAll(sandbox); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(sandbox); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("sandbox: got %v", err)
	}
	for _, f := range []string{volume + "/data", outside + "/file"} {
		if _, err := os.Stat(f); err != nil {
			t.Errorf("%s: got %v", f, err)
		}
	}
	if err := mounts.RemoveAll(sandbox); err != nil {
		t.Errorf("remove again: got %v", err)
	}
}

func TestRemoveBeneath(t *testing.T) {
	needRoot(t)
	dir := tempDir(t)
	volume, sandbox, outside := mkdir(t, dir+"/volume"), mkdir(t, dir+"/sandbox"), mkdir(t, dir+"/outside")
	write(t, volume+"/data", "kept")
	write(t, mkdir(t, outside+"/n")+"/file", "kept too")
	if err := os.Symlink(outside, sandbox+"/containers"); err != nil {
		t.Fatal(err)
	}
	if err := mounts.RemoveBeneath(sandbox, "containers/n"); !errors.Is(err, mounts.ErrEscapes) {
		t.Errorf("below a link: got %v", err)
	}
	mkdir(t, sandbox+"/n/deep/v")
	if err := mounts.Bind(volume, sandbox+"/n/deep", "v", mounts.BindOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := mounts.RemoveBeneath(sandbox, "n"); !errors.Is(err, unix.EXDEV) {
		t.Errorf("with a mount: got %v", err)
	}
	if err := mounts.UnmountBelow(sandbox); err != nil {
		t.Fatal(err)
	}
	for _, rel := range []string{"n", "n", "not/there"} {
		if err := mounts.RemoveBeneath(sandbox, rel); err != nil {
			t.Errorf("%s: got %v", rel, err)
		}
	}
	for _, rel := range []string{".", "..", "../volume", "/etc"} {
		if err := mounts.RemoveBeneath(sandbox, rel); !errors.Is(err, mounts.ErrEscapes) {
			t.Errorf("%s: got %v", rel, err)
		}
	}
	for _, f := range []string{volume + "/data", outside + "/n/file"} {
		if _, err := os.Stat(f); err != nil {
			t.Error(err)
		}
	}
	if _, err := os.Stat(sandbox + "/n"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("n: got %v", err)
	}
}

func TestEnsureShared(t *testing.T) {
	needRoot(t)
	dir := tempDir(t)
	work := mkdir(t, dir+"/work")
	for range 100 {
		if err := mounts.EnsureShared(work); err != nil {
			t.Fatal(err)
		}
	}
	if got := below(t, dir); len(got) > 1 {
		t.Errorf("mounts after 100 starts: got %v", got)
	}
	if shared, err := mounts.Shared(work); !shared || err != nil {
		t.Errorf("shared: got %v, %v", shared, err)
	}
	// A crash between the steps leaves a private mount.
	if err := unix.Mount("", work, "", unix.MS_PRIVATE, ""); err != nil {
		t.Fatal(err)
	}
	if err := mounts.EnsureShared(work); err != nil {
		t.Fatal(err)
	}
	if got := below(t, dir); len(got) > 1 {
		t.Errorf("mounts after a crash: got %v", got)
	}
	// A bind mount of a directory in a shared mount joins the group of its parent: what
	// is mounted below would be there twice.
	inner := mkdir(t, work+"/inner")
	if err := unix.Mount(inner, inner, "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	if err := mounts.EnsureShared(inner); err != nil {
		t.Fatal(err)
	}
	mkdir(t, inner+"/v")
	before := len(below(t, dir))
	if err := unix.Mount("none", inner+"/v", "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	if got := below(t, dir); len(got) != before+1 {
		t.Errorf("one mount made %d: %v", len(got)-before, got)
	}
}

func TestMake(t *testing.T) {
	dir := tempDir(t)
	root, outside := mkdir(t, dir+"/root"), mkdir(t, dir+"/outside")
	for link, to := range map[string]string{
		"abs": outside, "up": "../outside", "in": "real", "loop": "loop", "dangling": "nothing/there",
	} {
		if err := os.Symlink(to, root+"/"+link); err != nil {
			t.Fatal(err)
		}
	}
	mkdir(t, root+"/real")
	write(t, root+"/file", "")
	uid, gid := os.Getuid(), os.Getgid()
	for _, c := range []struct {
		rel  string
		dir  bool
		want error
	}{
		{"a/b/c", true, nil},
		{"a/b/c", true, nil},
		{"a/b/f", false, nil},
		{"a/b/f", false, nil},
		{"in/x", true, nil},
		{".", true, nil},
		{"a/b/f", true, syscall.ENOTDIR},
		{"a/b", false, syscall.EISDIR},
		{"file/x", true, syscall.ENOTDIR},
		{"abs/x", true, mounts.ErrEscapes},
		{"up/x", false, mounts.ErrEscapes},
		{"abs", true, mounts.ErrEscapes},
		{"loop/x", true, mounts.ErrEscapes},
		{"../x", true, mounts.ErrEscapes},
		{"a/../../x", true, mounts.ErrEscapes},
		{"/etc/x", true, mounts.ErrEscapes},
		{"dangling", true, fs.ErrExist},
	} {
		if err := mounts.Make(root, c.rel, c.dir, uid, gid); !errors.Is(err, c.want) || (err == nil) != (c.want == nil) {
			t.Errorf("make %s (directory: %v): got %v, want %v", c.rel, c.dir, err, c.want)
		}
	}
	if st, err := os.Stat(root + "/real/x"); err != nil || !st.IsDir() {
		t.Errorf("real/x: got %v", err)
	}
	if entries, err := os.ReadDir(outside); err != nil || len(entries) != 0 {
		t.Errorf("outside: got %v, %v", entries, err)
	}
}
