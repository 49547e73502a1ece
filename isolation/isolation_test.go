package isolation_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"clusterd/isolation"
	"clusterd/isolation/isolationtest"
	"clusterd/isolation/supervisor"
)

// TestMain is also the supervisor, where it is a mode of the whole binary.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "supervisor" {
		os.Exit(supervisor.Main(os.Args[1:]))
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		os.RemoveAll(built.dir)
		os.Exit(code)
	}))
}

var built struct {
	once sync.Once
	dir  string
	err  error
}

// smallPrograms builds the programs that a real build embeds.
func smallPrograms(tb testing.TB) *isolation.Programs {
	tb.Helper()
	built.once.Do(func() {
		built.dir, built.err = os.MkdirTemp("", "isolation-programs-") //nolint:usetesting // shared by all tests; TestMain removes it
		if built.err != nil {
			return
		}
		cmd := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", filepath.Join(built.dir, "supervisor"), "clusterd/internal/bin/supervisor")
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			tb.Logf("%s", out)
			built.err = err
		}
	})
	if built.err != nil {
		tb.Fatal(built.err)
	}
	p, err := isolation.LoadProgramsFrom(os.DirFS(built.dir))
	if err != nil {
		tb.Fatal(err)
	}
	if d := p.Describe(); !strings.Contains(d, "supervisor from memory") {
		tb.Fatalf("programs: got %s", d)
	}
	return p
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
	}{{"small", smallPrograms}, {"whole", wholePrograms}} {
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
	programs := smallPrograms(t)
	isolationtest.Containerizer(t, func(t *testing.T, workDir, runtimeDir string) isolation.Containerizer {
		return newMesos(t, programs, workDir, runtimeDir)
	})
}

func newMesos(tb testing.TB, programs *isolation.Programs, workDir, runtimeDir string, more ...isolation.Isolator) *isolation.Mesos {
	tb.Helper()
	log := zerolog.New(zerolog.NewTestWriter(tb))
	launcher, err := isolation.NewLauncher("posix", runtimeDir, programs, log)
	if err != nil {
		tb.Fatal(err)
	}
	isolators, err := isolation.NewIsolators(isolation.DefaultIsolation, isolation.IsolatorOptions{WorkDir: workDir})
	if err != nil {
		tb.Fatal(err)
	}
	return isolation.NewMesos(launcher, append(isolators, more...), log)
}

func TestIsolators(t *testing.T) {
	for _, name := range []string{"filesystem/posix", "posix/cpu", "posix/mem"} {
		t.Run(name, func(t *testing.T) {
			isolationtest.Isolator(t, name, func(t *testing.T, workDir string) isolation.Isolator {
				isolators, err := isolation.NewIsolators(name, isolation.IsolatorOptions{WorkDir: workDir})
				if err != nil {
					t.Fatal(err)
				}
				for _, i := range isolators {
					if i.Name() == name {
						return i
					}
				}
				t.Fatalf("isolators of %q: got %v", name, isolators)
				return nil
			})
		})
	}
}

func TestNewIsolators(t *testing.T) {
	for _, c := range []struct{ isolation, want string }{
		{"", "filesystem/posix"},
		{"posix/cpu,posix/mem", "filesystem/posix posix/cpu posix/mem"},
		{"posix/mem, posix/cpu,posix/mem", "filesystem/posix posix/cpu posix/mem"},
		{"process", "filesystem/posix posix/cpu posix/mem"},
		{"filesystem/posix,posix/mem", "filesystem/posix posix/mem"},
	} {
		isolators, err := isolation.NewIsolators(c.isolation, isolation.IsolatorOptions{})
		if err != nil {
			t.Errorf("%q: %v", c.isolation, err)
		}
		var names []string
		for _, i := range isolators {
			names = append(names, i.Name())
		}
		if got := strings.Join(names, " "); got != c.want {
			t.Errorf("%q: got %s, want %s", c.isolation, got, c.want)
		}
	}
	if _, err := isolation.NewIsolators("posix/cpu,cgroups/nonesuch", isolation.IsolatorOptions{}); !errors.Is(err, isolation.ErrUnknownIsolator) || !strings.Contains(err.Error(), "cgroups/nonesuch") {
		t.Errorf("unknown isolator: got %v", err)
	}
	if _, err := isolation.NewLauncher("nonesuch", t.TempDir(), nil, zerolog.Nop()); err == nil {
		t.Error("unknown launcher: got no error")
	}
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
	if d := p.Describe(); strings.Count(d, "as a mode of this binary") != 3 || strings.Count(d, "from memory (") != 0 {
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
