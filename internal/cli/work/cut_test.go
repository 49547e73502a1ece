package work

import (
	"archive/tar"
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// archiveOf is a tar of one file.
func archiveOf(t *testing.T, name, text string, mode int64, at time.Time) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Size: int64(len(text)), Mode: mode, ModTime: at, Format: tar.FormatPAX}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// TestCopyCutShort copies over what is there, to the end and not: a part never has the name of
// the whole, and nothing lies about.
func TestCopyCutShort(t *testing.T) {
	text := strings.Repeat("new ", 10_000)
	at := time.Unix(1_700_000_000, 0)
	archive := archiveOf(t, "file", text, 0o640, at)
	for _, row := range []struct {
		name  string
		there func(t *testing.T, path string)
		want  string // what is there after a copy that was cut short; empty: nothing
	}{
		{"nothing", func(*testing.T, string) {}, ""},
		{"a file", func(t *testing.T, path string) {
			if err := os.WriteFile(path, []byte("old"), 0o600); err != nil {
				t.Fatal(err)
			}
		}, "old"},
		{"a file that may not be written", func(t *testing.T, path string) {
			if err := os.WriteFile(path, []byte("old"), 0o400); err != nil {
				t.Fatal(err)
			}
		}, "old"},
		{"a link", func(t *testing.T, path string) {
			other := filepath.Join(t.TempDir(), "other")
			if err := os.WriteFile(other, []byte("other"), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.Symlink(other, path); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if b, err := os.ReadFile(other); err != nil || string(b) != "other" {
					t.Errorf("the link was followed: %q, %v", b, err)
				}
			})
		}, "other"},
	} {
		t.Run(row.name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "file")
			row.there(t, path)
			root, err := os.OpenRoot(dir)
			if err != nil {
				t.Fatal(err)
			}
			defer root.Close()
			if err := extract(tar.NewReader(bytes.NewReader(archive[:len(archive)/2])), root, "file", "file"); err == nil {
				t.Error("half an archive was copied without an error")
			}
			if b, err := os.ReadFile(path); string(b) != row.want || (err != nil) != (row.want == "") {
				t.Errorf("after half an archive: %q, %v, want %q", b[:min(len(b), 20)], err, row.want)
			}
			if err := extract(tar.NewReader(bytes.NewReader(archive)), root, "file", "file"); err != nil {
				t.Fatal(err)
			}
			info, err := os.Lstat(path)
			if err != nil || info.Mode() != 0o640 || !info.ModTime().Equal(at) {
				t.Errorf("got %v, %v", info, err)
			}
			if b, err := os.ReadFile(path); err != nil || string(b) != text {
				t.Errorf("got %d bytes, %v", len(b), err)
			}
			if names, err := fs.Glob(root.FS(), "*"); err != nil || len(names) != 1 {
				t.Errorf("there is %q, %v", names, err)
			}
		})
	}
}

// TestCopyIntoPipe writes into what is no file and stays what it is.
func TestCopyIntoPipe(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "file")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	read := make(chan string, 1)
	go func() {
		b, _ := os.ReadFile(path)
		read <- string(b)
	}()
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	if err := extract(tar.NewReader(bytes.NewReader(archiveOf(t, "file", "through", 0o644, time.Now()))), root, "file", "file"); err != nil {
		t.Fatal(err)
	}
	if got := <-read; got != "through" {
		t.Errorf("got %q", got)
	}
	if info, err := os.Lstat(path); err != nil || info.Mode().Type() != fs.ModeNamedPipe {
		t.Errorf("it is %v now, %v", info, err)
	}
}
