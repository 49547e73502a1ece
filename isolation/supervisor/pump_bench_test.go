package supervisor

import (
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
)

// BenchmarkOutput is 64 MiB of output a time, and what a supervisor needs that copies it.
func BenchmarkOutput(b *testing.B) {
	const size = 64 << 20
	for _, c := range []struct {
		name string
		spec Spec
	}{
		{"plain", Spec{}},
		{"rotated", Spec{StdoutRotation: Rotation{MaxSize: 10 << 20, MaxFiles: 2}}},
		{"compressed", Spec{StdoutRotation: Rotation{MaxSize: 10 << 20, MaxFiles: 2, Compress: true}}},
		{"terminal", Spec{TTY: true}},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.SetBytes(size)
			private := 0
			for b.Loop() {
				dir := b.TempDir()
				spec := c.spec
				spec.RuntimeDir, spec.Dir, spec.Stdout, spec.Stderr = dir, dir, dir+"/stdout", dir+"/stderr"
				spec.Path, spec.Argv = "/bin/sh", []string{"sh", "-c", "stty -opost 2>/dev/null; yes 0123456789012345678901234567890123456789 | head -c " + strconv.Itoa(size) + "; touch done; while [ ! -e end ]; do sleep 0.01; done"}
				spec.Env = []string{"PATH=/usr/bin:/bin"}
				cmd := run(b, &spec)
				eventually(b, "it is printed", func() bool { _, err := os.Stat(dir + "/done"); return err == nil })
				private = max(private, privateKB(b, cmd))
				touch(b, dir, "end")
				if err := cmd.Wait(); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(private), "private-KB")
		})
	}
}

// privateKB is the memory that a process has for itself alone.
func privateKB(b *testing.B, cmd *exec.Cmd) (kb int) {
	b.Helper()
	text, err := os.ReadFile("/proc/" + strconv.Itoa(cmd.Process.Pid) + "/smaps_rollup")
	if err != nil {
		b.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); strings.HasPrefix(line, "Private_") && len(f) == 3 {
			n, err := strconv.Atoi(f[1])
			if err != nil {
				b.Fatal(err)
			}
			kb += n
		}
	}
	return kb
}
