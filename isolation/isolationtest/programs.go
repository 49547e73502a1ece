package isolationtest

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"clusterd/isolation"
)

var built struct {
	once sync.Once
	dir  string
	// programs are loaded once too: they are tried by being run, and never change.
	programs *isolation.Programs
	// given says that somebody else has built them.
	given bool
	err   error
}

// Programs builds the programs that a real build embeds, once for all tests of a
// package; call RemovePrograms at the end of its TestMain. Where there is no Go they
// are taken from the folder that CLUSTERD_PROGRAMS names.
func Programs(tb testing.TB) *isolation.Programs {
	tb.Helper()
	built.once.Do(func() {
		defer func() {
			if built.err == nil {
				built.programs, built.err = isolation.LoadProgramsFrom(os.DirFS(built.dir))
			}
		}()
		if built.dir = os.Getenv("CLUSTERD_PROGRAMS"); built.dir != "" {
			built.given = true
			return
		}
		built.dir, built.err = os.MkdirTemp("", "isolation-programs-") //nolint:usetesting // all tests share it; RemovePrograms deletes it
		if built.err != nil {
			return
		}
		cmd := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", filepath.Join(built.dir, "supervisor"), "clusterd/internal/bin/supervisor") //nolint:noctx // all tests share what it makes
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			tb.Logf("%s", out)
			built.err = err
		}
	})
	if built.err != nil {
		tb.Fatal(built.err)
	}
	if d := built.programs.Describe(); !strings.Contains(d, "supervisor from memory") {
		tb.Fatalf("programs: got %s", d)
	}
	return built.programs
}

// RemovePrograms deletes what Programs has built.
func RemovePrograms() {
	if !built.given {
		_ = os.RemoveAll(built.dir)
	}
}
