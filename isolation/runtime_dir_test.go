package isolation_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rs/zerolog"

	"clusterd/isolation"
)

// Two agents with one runtime directory would destroy each other's containers.
func TestRuntimeDirIsLocked(t *testing.T) {
	dir := t.TempDir()
	programs := wholePrograms(t)
	first, err := isolation.NewPosixLauncher(dir, programs, zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := isolation.NewPosixLauncher(dir, programs, zerolog.Nop()); !errors.Is(err, isolation.ErrRuntimeDirInUse) ||
		!strings.Contains(err.Error(), dir) || !strings.Contains(err.Error(), "--runtime_dir") {
		t.Errorf("got %v, want ErrRuntimeDirInUse, the directory and what to do", err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	second, err := isolation.NewPosixLauncher(dir, programs, zerolog.Nop())
	if err != nil {
		t.Fatalf("after the first has gone: %v", err)
	}
	if err := second.Close(); err != nil {
		t.Error(err)
	}
}

// Something that cleans /var/run up must not leave an agent behind that takes
// tasks and fails each of them.
func TestRuntimeDirRemoved(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "run")
	launcher, err := isolation.NewPosixLauncher(dir, wholePrograms(t), zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	m := isolation.NewMesos(launcher, nil, zerolog.Nop())
	defer m.Close()
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	config := script(t, "exit 3")
	if err := m.Launch(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	if got, err := m.Wait(t.Context(), config.ID); err != nil || got.Status != 3<<8 {
		t.Errorf("got %+v, %v, want status 3", got, err)
	}
}
