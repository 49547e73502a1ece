package isolation_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"clusterd/isolation"
	"clusterd/isolation/isolationtest"
	"clusterd/isolation/setup"
	"clusterd/isolation/supervisor"
)

// TestMain is also the supervisor, where it is a mode of the whole binary.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "supervisor" {
		os.Exit(supervisor.Main(os.Args[1:]))
	}
	if os.Getenv(crashStep) != "" {
		os.Exit(crashAgent())
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		isolationtest.RemovePrograms()
		os.Exit(code)
	}))
}

// wholePrograms uses this binary for everything.
func wholePrograms(tb testing.TB) *isolation.Programs {
	tb.Helper()
	p, err := isolation.LoadProgramsFrom(os.DirFS(tb.TempDir()))
	if err != nil {
		tb.Fatal(err)
	}
	if d := p.Describe(); !strings.Contains(d, "supervisor as a mode of this binary (not embedded)") {
		tb.Fatalf("programs: got %s", d)
	}
	return p
}

func TestPosixLauncher(t *testing.T) {
	for _, mode := range []struct {
		name     string
		programs func(testing.TB) *isolation.Programs
	}{{"small", isolationtest.Programs}, {"whole", wholePrograms}} {
		t.Run(mode.name, func(t *testing.T) {
			programs := mode.programs(t)
			isolationtest.Launcher(t, func(t *testing.T, dir string) isolation.Launcher {
				l, err := isolation.NewPosixLauncher(dir, programs, zerolog.New(zerolog.NewTestWriter(t)))
				if err != nil {
					t.Fatal(err)
				}
				return l
			})
		})
	}
}

func TestMesosContainerizer(t *testing.T) {
	programs := isolationtest.Programs(t)
	isolationtest.Containerizer(t, func(t *testing.T, workDir, runtimeDir string) isolation.Containerizer {
		return newMesos(t, programs, workDir, runtimeDir)
	})
}

func newMesos(tb testing.TB, programs *isolation.Programs, workDir, runtimeDir string, more ...isolation.Isolator) *isolation.Mesos {
	tb.Helper()
	log := zerolog.New(zerolog.NewTestWriter(tb))
	launcher, err := isolation.NewPosixLauncher(runtimeDir, programs, log)
	if err != nil {
		tb.Fatal(err)
	}
	isolators, err := setup.Isolators(setup.Options{Isolation: setup.DefaultIsolation, WorkDir: workDir})
	if err != nil {
		tb.Fatal(err)
	}
	return isolation.NewMesos(launcher, append(isolators, more...), log)
}

// TestStalePrograms: what was embedded may be of an older build, or no program.
func TestStalePrograms(t *testing.T) {
	dir := t.TempDir()
	for name, body := range map[string]string{"supervisor": "#!/bin/true\n", "command-executor": "#!/bin/sh\nkill -SEGV $$\n", "command-executor-tls": "no program"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(body), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	p, err := isolation.LoadProgramsFrom(os.DirFS(dir))
	if err != nil {
		t.Fatal(err)
	}
	if d := p.Describe(); strings.Count(d, "as a mode of this binary") != 4 || strings.Count(d, "from memory (") != 0 {
		t.Errorf("programs: got %s", d)
	}
	launcher, err := isolation.NewPosixLauncher(t.TempDir(), p, zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	m := isolation.NewMesos(launcher, nil, zerolog.Nop())
	defer m.Close()
	config := script(t, "exit 3")
	if err := m.Launch(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	if got, err := m.Wait(t.Context(), config.ID); err != nil || got.Status != 3<<8 {
		t.Errorf("wait: got %+v, %v", got, err)
	}
}
