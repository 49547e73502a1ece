package api_test

import (
	"bytes"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestGenerated runs the generator on a copy of the .proto files and compares what it
// writes with what is committed.
func TestGenerated(t *testing.T) {
	if testing.Short() {
		t.Skip("builds the generator")
	}
	tools := filepath.Join("..", "internal", "tools")
	if out, err := exec.Command("go", "-C", tools, "mod", "download").CombinedOutput(); err != nil {
		t.Skipf("the generator's modules cannot be had: %v\n%s", err, out)
	}
	generator := filepath.Join(t.TempDir(), "protogen")
	if out, err := exec.Command("go", "-C", tools, "build", "-o", generator, "./protogen").CombinedOutput(); err != nil {
		t.Fatalf("build the generator: %v\n%s", err, out)
	}
	fresh := t.TempDir()
	copyProtos(t, ".", fresh)
	if out, err := exec.Command(generator, fresh).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	want, got := generated(t, fresh), generated(t, ".")
	if len(want) < 11 {
		t.Fatalf("the generator wrote only %d files", len(want))
	}
	for name, text := range want {
		if !bytes.Equal(got[name], text) {
			t.Errorf("%s is stale: run go generate ./api", name)
		}
		delete(got, name)
	}
	for name := range got {
		t.Errorf("%s has no .proto file any more", name)
	}
}

func copyProtos(t *testing.T, from, to string) {
	t.Helper()
	walk(t, from, ".proto", func(name string, text []byte) {
		if err := os.MkdirAll(filepath.Join(to, filepath.Dir(name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(to, name), text, 0o644); err != nil {
			t.Fatal(err)
		}
	})
}

// generated returns the generated files below root.
func generated(t *testing.T, root string) map[string][]byte {
	t.Helper()
	files := map[string][]byte{}
	walk(t, root, ".pb.go", func(name string, text []byte) { files[name] = text })
	return files
}

func walk(t *testing.T, root, suffix string, fn func(name string, text []byte)) {
	t.Helper()
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, suffix) {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		name, err := filepath.Rel(root, path)
		fn(name, text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
