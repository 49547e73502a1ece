package agent

import (
	"os"
	"path/filepath"
	"testing"
)

// What an agent writes down at every start it need not write again, so that it starts on a
// full disk as well, and can collect garbage.
func TestWriteFileOnceOnly(t *testing.T) {
	path := filepath.Join(t.TempDir(), "meta", "boot_id")
	if err := writeFile(path, "one"); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(path+".tmp", 0o700); err != nil { // nothing can be written now
		t.Fatal(err)
	}
	if err := writeFile(path, "one"); err != nil {
		t.Errorf("the same again: got %v, want no need to write", err)
	}
	if err := writeFile(path, "two"); err == nil {
		t.Error("something else: got no error, want one")
	}
	if got, err := os.ReadFile(path); err != nil || string(got) != "one" {
		t.Errorf("the file: got %q, %v, want %q", got, err, "one")
	}
}
