package e2e

import (
	"bytes"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"clusterd/internal/testcluster"
)

// TestExamples runs the frameworks of examples/ as their readers would.
func TestExamples(t *testing.T) {
	c := testcluster.Start(t, testcluster.Options{})
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Fatalf("the Python example needs python3: %v", err)
	}
	goExample := filepath.Join(t.TempDir(), "framework")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", goExample, "../../examples/go").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	for _, example := range []struct {
		name string
		argv []string
	}{
		{"go", []string{goExample}},
		{"python", []string{python, "../../examples/python/framework.py"}},
	} {
		t.Run(example.name, func(t *testing.T) {
			for _, tc := range []struct {
				command string
				code    int
				want    string
			}{
				{"exit 0", 0, "TASK_FINISHED"},
				{"exit 4", 1, "Command exited with status 4"},
			} {
				argv := slices.Concat(example.argv, []string{"--master=" + c.Master.Addr, "--tasks=3", "--", "sh", "-c", tc.command})
				var out bytes.Buffer
				cmd := exec.CommandContext(t.Context(), argv[0], argv[1:]...)
				cmd.Stdout, cmd.Stderr = &out, &out
				_ = cmd.Run()
				if got := cmd.ProcessState.ExitCode(); got != tc.code {
					t.Errorf("%s: exit code %d, want %d\n%s", tc.command, got, tc.code, &out)
				}
				if n := strings.Count(out.String(), tc.want); n != 3 {
					t.Errorf("%s: %q stands %d times in the output, want 3\n%s", tc.command, tc.want, n, &out)
				}
			}
		})
	}
}
