package supervisor

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// collect puts a rotated log together again, oldest first.
func collect(t *testing.T, path string, files int) []byte {
	t.Helper()
	var all []byte
	for i := files; i >= 0; i-- {
		name := path
		if i > 0 {
			name = fmt.Sprintf("%s.%d", path, i)
		}
		b, err := os.ReadFile(name)
		if errors.Is(err, os.ErrNotExist) {
			if b, err = os.ReadFile(name + ".gz"); err == nil {
				b = gunzip(t, b)
			}
		}
		if err == nil {
			all = append(all, b...)
		} else if !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
	}
	return all
}

func newLog(t *testing.T, path string, rotation Rotation) *logFile {
	t.Helper()
	l, err := openLog(&Spec{}, path, rotation)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.close)
	return l
}

func names(t *testing.T, dir string) string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return strings.Join(names, " ")
}

func TestRotate(t *testing.T) {
	for _, c := range []struct {
		name   string
		writes []string
		max    uint64
		files  uint32
		want   []string // the file, .1, .2, ...
	}{
		{"fits", []string{"aa\n", "bb\n"}, 6, 2, []string{"aa\nbb\n"}},
		{"next", []string{"aa\n", "bb\n", "c\n"}, 6, 2, []string{"c\n", "aa\nbb\n"}},
		{"whole lines", []string{"aa\nbbb\ncc\n"}, 6, 3, []string{"cc\n", "bbb\n", "aa\n"}},
		{"a line in pieces", []string{"aa\nb", "b", "b\n", "c\n"}, 6, 3, []string{"\nc\n", "aa\nbbb"}},
		{"a line longer than a file", []string{"123456789012345\nx\n"}, 6, 4, []string{"345\nx\n", "789012", "123456"}},
		{"no end of line", []string{"1234", "5678"}, 6, 2, []string{"78", "123456"}},
		{"the oldest goes", []string{"1\n", "2\n", "3\n", "4\n", "5\n"}, 2, 2, []string{"5\n", "4\n", "3\n"}},
		{"none is kept", []string{"1\n", "2\n", "3\n"}, 2, 0, []string{"3\n"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "stdout")
			l := newLog(t, path, Rotation{MaxSize: c.max, MaxFiles: c.files})
			for _, w := range c.writes {
				l.write([]byte(w))
			}
			var got []string
			for i := range 10 {
				name := path
				if i > 0 {
					name = fmt.Sprintf("%s.%d", path, i)
				}
				b, err := os.ReadFile(name)
				if err != nil {
					break
				}
				got = append(got, string(b))
			}
			if fmt.Sprintf("%q", got) != fmt.Sprintf("%q", c.want) {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

// TestRotateGoesOn: a log that is there already is continued.
func TestRotateGoesOn(t *testing.T) {
	path := filepath.Join(t.TempDir(), "stdout")
	if err := os.WriteFile(path, []byte("fetched\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	l := newLog(t, path, Rotation{MaxSize: 10, MaxFiles: 2})
	l.write([]byte("a\n"))
	l.write([]byte("b\n"))
	if got := string(collect(t, path, 1)); got != "fetched\na\nb\n" {
		t.Errorf("got %q", got)
	}
	if fi, err := os.Stat(path); err != nil || fi.Size() != 2 {
		t.Errorf("file: %v, %v, want 2 bytes", fi, err)
	}
}

// TestRotateCompressed: what is compressed is whole, whatever happens meanwhile.
func TestRotateCompressed(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "stdout")
	l := newLog(t, path, Rotation{MaxSize: 100 << 10, MaxFiles: 50, Compress: true})
	var want []byte
	for i := range 40_000 {
		line := fmt.Appendf(nil, "line %d of the log\n", i)
		want = append(want, line...)
		l.write(line)
		l.compressed()
	}
	eventually(t, "the last compression is done", func() bool { l.compressed(); return l.compress == nil })
	if got := collect(t, path, 50); !bytes.Equal(got, want) {
		t.Errorf("%d bytes came back as others (%d)", len(want), len(got))
	}
	got := names(t, dir)
	if !strings.Contains(got, ".gz") || strings.Contains(got, "next") {
		t.Errorf("files: got %s", got)
	}
	for i := range 40_000 { // and the oldest go
		l.write(fmt.Appendf(nil, "line %d of the next log, which is a longer one than the first, so that all of that is gone: %0300d\n", i, 0))
		l.compressed()
	}
	l.close()
	l.compress, l.fd, l.dir = nil, -1, -1
	if got := strings.Fields(names(t, dir)); len(got) != 51 {
		t.Errorf("files: got %d of them: %v, want 51", len(got), got)
	}
}

// TestRotateHostile: the container does with its sandbox what it likes.
func TestRotateHostile(t *testing.T) {
	outside := filepath.Join(t.TempDir(), "outside")
	check := func(t *testing.T) {
		t.Helper()
		if b, err := os.ReadFile(outside); err != nil || string(b) != "untouched" {
			t.Errorf("outside: got %q, %v", b, err)
		}
	}
	for _, name := range []string{"stdout", "stdout.1", "stdout.2", "stdout.next", "stdout.gz.next", "stdout.1.gz"} {
		for what, replace := range map[string]func(path string) error{
			"symbolic link":    func(path string) error { return os.Symlink(outside, path) },
			"hard link":        func(path string) error { return os.Link(outside, path) },
			"directory":        func(path string) error { return os.Mkdir(path, 0o755) },
			"full directory":   func(path string) error { return os.MkdirAll(path+"/x", 0o755) },
			"fifo":             func(path string) error { return syscall.Mkfifo(path, 0o666) },
			"nothing":          func(string) error { return nil },
			"link to nowhere":  func(path string) error { return os.Symlink("/nonesuch/x", path) },
			"link to a folder": func(path string) error { return os.Symlink(filepath.Dir(outside), path) },
		} {
			t.Run(name+"/"+what, func(t *testing.T) {
				if err := os.WriteFile(outside, []byte("untouched"), 0o644); err != nil {
					t.Fatal(err)
				}
				dir := t.TempDir()
				path := filepath.Join(dir, name)
				l := newLog(t, filepath.Join(dir, "stdout"), Rotation{MaxSize: 8, MaxFiles: 2, Compress: true})
				for i := range 10 {
					if i == 5 {
						_ = os.RemoveAll(path)
						if err := replace(path); err != nil {
							t.Fatal(err)
						}
					}
					l.write(fmt.Appendf(nil, "line %d\n", i))
					l.compressed()
				}
				eventually(t, "the last compression is done", func() bool { l.compressed(); return l.compress == nil })
				check(t)
				var st syscall.Stat_t
				if err := syscall.Fstat(l.fd, &st); err != nil || st.Size > 8 && what != "full directory" {
					t.Errorf("file: got %d bytes, %v, want at most 8", st.Size, err)
				}
			})
		}
	}
}

// TestRotateOnFullDisk: the log loses what does not fit, and says so.
func TestRotateOnFullDisk(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can mount a small file system")
	}
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=64k"); err != nil {
		t.Skipf("mount a small file system: %v", err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) })
	path := filepath.Join(dir, "stdout")
	l := newLog(t, path, Rotation{MaxSize: 1 << 20, MaxFiles: 2})
	hog := filepath.Join(dir, "hog")
	if err := os.WriteFile(hog, make([]byte, 48<<10), 0o644); err != nil {
		t.Fatal(err)
	}
	line := []byte(strings.Repeat("x", 1023) + "\n")
	for range 100 {
		l.write(line)
	}
	if err := os.Remove(hog); err != nil {
		t.Fatal(err)
	}
	l.write([]byte("after\n"))
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	kept := bytes.Count(b, []byte("x"))
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	if kept == 0 || len(lines) < 2 || lines[len(lines)-1] != "after" {
		t.Fatalf("got %d lines, the last %q", len(lines), lines[len(lines)-1])
	}
	var lost int
	if _, err := fmt.Sscanf(lines[len(lines)-2], "clusterd: %d bytes of output were lost here: no space left on device", &lost); err != nil {
		t.Fatalf("note: got %q", lines[len(lines)-2])
	}
	whole := kept / 1023 * 1024
	if rest := kept % 1023; rest > 0 {
		whole += rest
	}
	if whole+lost != 100*1024 {
		t.Errorf("%d bytes written and %d lost are not %d", whole, lost, 100*1024)
	}
}

// TestRotateRealOutput: a fast program, all of whose lines are there, once.
func TestRotateRealOutput(t *testing.T) {
	dir, sandbox := t.TempDir(), t.TempDir()
	cmd := run(t, &Spec{
		RuntimeDir: dir, Path: "/bin/sh", Argv: []string{"sh", "-c", "seq 1 400000; seq 1 2000 >&2; exit 3"},
		Env: []string{"PATH=/bin:/usr/bin"}, Dir: sandbox, Stdout: sandbox + "/stdout", Stderr: sandbox + "/stderr",
		StdoutRotation: Rotation{MaxSize: 256 << 10, MaxFiles: 100}, StderrRotation: Rotation{MaxSize: 4 << 10, MaxFiles: 1},
	})
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	if status, ok := ReadStatus(dir); !ok || status != 3<<8 {
		t.Errorf("status: got %d, %v", status, ok)
	}
	var want []byte
	for i := range 400_000 {
		want = fmt.Appendf(want, "%d\n", i+1)
	}
	if got := collect(t, sandbox+"/stdout", 100); !bytes.Equal(got, want) {
		t.Errorf("stdout: got %d bytes, want %d", len(got), len(want))
	}
	entries, err := os.ReadDir(sandbox)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if fi, err := e.Info(); err != nil || fi.Size() > 256<<10 {
			t.Errorf("%s: got %d bytes, %v", e.Name(), fi.Size(), err)
		}
	}
	if b, err := os.ReadFile(sandbox + "/stderr"); err != nil || !strings.HasSuffix(string(b), "1999\n2000\n") {
		t.Errorf("stderr: %v", err)
	}
	if got := names(t, sandbox); !strings.HasPrefix(got, "stderr stderr.1 stdout stdout.1 ") {
		t.Errorf("files: got %s", got)
	}
}
