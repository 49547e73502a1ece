package agent

import (
	"archive/tar"
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestArchiveCutShort: what an archive brings has its name when it is whole, and not before.
func TestArchiveCutShort(t *testing.T) {
	text := strings.Repeat("new ", 10_000)
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "file", Size: int64(len(text)), Mode: 0o640}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	path := filepath.Join(dir, "file")
	if err := os.WriteFile(path, []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = root.Close() }()
	x := new(extracted)
	if err := x.extract(root, tar.NewReader(bytes.NewReader(b.Bytes()[:b.Len()/2]))); err == nil {
		t.Error("half an archive was taken without an error")
	}
	if got, err := os.ReadFile(path); err != nil || string(got) != "old" {
		t.Errorf("after half an archive: %q, %v", got[:min(len(got), 20)], err)
	}
	if err := x.extract(root, tar.NewReader(&b)); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(path); err != nil || string(got) != text {
		t.Errorf("got %d bytes, %v", len(got), err)
	}
	if info, err := os.Lstat(path); err != nil || info.Mode() != 0o640 {
		t.Errorf("got %v, %v", info, err)
	}
	if names, err := fs.Glob(root.FS(), "*"); err != nil || len(names) != 1 {
		t.Errorf("there is %q, %v", names, err)
	}
}
