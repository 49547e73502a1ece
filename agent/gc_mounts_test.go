package agent

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/rs/zerolog"

	"clusterd/internal/files"
	"clusterd/internal/metrics"
	"clusterd/isolation/mounts"
)

// An agent that crashed can leave a persistent volume mounted in a sandbox.
func TestCollectorKeepsVolumes(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can mount")
	}
	a := &Agent{files: files.New(), metrics: metrics.NewRegistry(), log: zerolog.Nop()}
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := mounts.UnmountBelow(dir); err != nil {
			t.Error(err)
		}
	})
	volume, sandbox := filepath.Join(dir, "volume"), filepath.Join(dir, "sandbox")
	for _, d := range []string{volume, filepath.Join(sandbox, "data")} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	data := filepath.Join(volume, "file")
	if err := os.WriteFile(data, []byte("kept"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := mounts.Bind(volume, sandbox, "data", mounts.BindOptions{}); err != nil {
		t.Fatal(err)
	}
	newCollector(a).remove(garbageItem{dir: sandbox})
	if _, err := os.Stat(sandbox); err == nil {
		t.Error("the sandbox is still there")
	}
	if b, err := os.ReadFile(data); err != nil || string(b) != "kept" {
		t.Errorf("data of the volume: got %q, %v", b, err)
	}
}
