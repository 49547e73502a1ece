package vmtest_test

import (
	"context"
	"errors"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"clusterd/internal/vmtest"
)

// packages are tested in the machine, in this order.
var packages = []vmtest.Package{
	{Path: "./internal/vmtest/selftest"},
	{Path: "./isolation/isolators/disk", Run: "TestXFS|TestDU|TestMeasure"},
	// What it skips does the same whatever the kernel.
	{Path: "./isolation", Skip: "TestAttach|TestPosixLauncher|TestMesosContainerizer|TestDebugTerminal|TestStale|TestRuntimeDir"},
	{Path: "./isolation/cgroups"},
	{Path: "./isolation/isolators/cgroup"},
	// This kernel has the queues and actions that the machine may lack.
	{Path: "./isolation/isolators/network/portmapping", Run: "TestSteering|TestSpoofing|TestRates"},
}

var (
	only = flag.String("vm.pkg", "", "run the tests of this package alone and show what they write")
	live = flag.Bool("vm.live", false, "show what tests write as they write it")
	run  = flag.String("vm.run", "", "with -vm.pkg: a pattern of tests")
)

// TestVM runs the tests of all packages that need a kernel of their own in one machine.
func TestVM(t *testing.T) {
	if vmtest.InVM() {
		t.Skip("this is the machine")
	}
	m := machine(t)
	m.Packages = packages
	if *only != "" {
		m.Packages = pick(t, *only)
	}
	if *only != "" || *live {
		m.Live = os.Stderr
	}
	noteSources(t, m)
	started := time.Now()
	results, err := m.Run(bounded(t))
	t.Logf("built, booted and run in %s, of which the machine took %s of processor time",
		time.Since(started).Round(time.Second/10), m.ProcessorTime().Round(time.Second/10))
	vmtest.Report(t, results)
	if err != nil {
		t.Errorf("%v\nthe kernel's last words:\n%s", err, console(m))
	} else if t.Failed() || *only != "" {
		t.Logf("the kernel's last words:\n%s", console(m))
	}
}

// bounded ends a little before the test's time is up, so that what is known by then is
// still reported.
func bounded(t *testing.T) context.Context {
	t.Helper()
	deadline, ok := t.Deadline()
	if !ok {
		return t.Context()
	}
	ctx, cancel := context.WithDeadline(t.Context(), deadline.Add(-10*time.Second))
	t.Cleanup(cancel)
	return ctx
}

// machine makes a machine in a folder of its own, or skips.
func machine(t *testing.T) *vmtest.Machine {
	t.Helper()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	m := &vmtest.Machine{Root: root, Dir: t.TempDir()}
	if err := m.Missing(); err != nil {
		if os.Getenv("CLUSTERD_VM_REQUIRED") != "" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	return m
}

// pick finds the line of a package in the table, or makes one.
func pick(t *testing.T, path string) []vmtest.Package {
	t.Helper()
	p := vmtest.Package{Path: path}
	for _, known := range packages {
		if known.Path == strings.TrimSuffix(path, "/") {
			p = known
		}
	}
	if *run != "" {
		p.Run = *run
	}
	return []vmtest.Package{p}
}

// noteSources looks at all sources that the machine is built from, so that go test
// takes a result from its cache only while they are the same.
func noteSources(t *testing.T, m *vmtest.Machine) {
	t.Helper()
	args := []string{"list", "-deps", "-test", "-f", `{{$d := .Dir}}{{if .Module}}{{range .GoFiles}}{{$d}}/{{.}}
{{end}}{{range .TestGoFiles}}{{$d}}/{{.}}
{{end}}{{range .XTestGoFiles}}{{$d}}/{{.}}
{{end}}{{range .EmbedFiles}}{{$d}}/{{.}}
{{end}}{{range .TestEmbedFiles}}{{$d}}/{{.}}
{{end}}{{end}}`, "./internal/vmtest/vminit", "./internal/bin/..."}
	for _, p := range m.Packages {
		args = append(args, p.Path)
	}
	cmd := exec.CommandContext(t.Context(), "go", args...)
	cmd.Dir = m.Root
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	for file := range strings.FieldsSeq(string(out)) {
		// Files of other modules do not change, generated ones are not there.
		if _, err := os.Stat(file); err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
	}
}

func console(m *vmtest.Machine) string {
	const enough = 4000
	b, err := os.ReadFile(filepath.Join(m.Dir, "console.log"))
	if err != nil {
		return err.Error()
	}
	return string(b[max(0, len(b)-enough):])
}

// TestFailures: what goes wrong in a machine is seen outside.
func TestFailures(t *testing.T) {
	if testing.Short() || vmtest.InVM() || *only != "" {
		t.Skip("boots another machine")
	}
	m := machine(t)
	m.Packages = []vmtest.Package{
		{Path: "./internal/vmtest/selftest", Run: "TestBad", Env: []string{"SELFTEST_BAD=1"}, Timeout: 20 * time.Second},
	}
	noteSources(t, m)
	results, err := m.Run(bounded(t))
	if err != nil {
		t.Fatalf("%v\n%s", err, console(m))
	}
	got := results[0]
	if got.End == nil || got.End.Code != 1 {
		t.Errorf("end: got %+v, want exit status 1\n%s", got.End, got.Output)
	}
	for _, want := range []string{"--- FAIL: TestBad", "--- FAIL: TestBad/Deep/Down", "down it goes"} {
		if !strings.Contains(string(got.Output), want) {
			t.Errorf("output lacks %q:\n%s", want, got.Output)
		}
	}
	left := strings.Join(got.End.Residue, "\n")
	for _, want := range []string{"process ", "(sleep)", "mount /mnt/left", "cgroup /sys/fs/cgroup/left/below", "file /tmp/left"} {
		if !strings.Contains(left, want) {
			t.Errorf("residue lacks %q:\n%s", want, left)
		}
	}
}
