package registry

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"clusterd/registry/state"
)

// A log file that was cut or overwritten is refused by name and with a way out.
// bbolt alone ends the process with a fault.
func TestDamagedLogIsRefused(t *testing.T) {
	t.Parallel() // it waits more than it works
	random := rand.NewChaCha8([32]byte{1})
	noise := func(b []byte) { _, _ = random.Read(b) }
	for name, damage := range map[string]func([]byte) []byte{
		"third":       func(b []byte) []byte { return b[:len(b)/3] },
		"page":        func(b []byte) []byte { return b[:4096] },
		"bytes":       func(b []byte) []byte { return b[:100] },
		"noise":       func(b []byte) []byte { noise(b); return b },
		"metas":       func(b []byte) []byte { noise(b[:8192]); return b },
		"all but":     func(b []byte) []byte { noise(b[8192:]); return b },
		"zeros":       func(b []byte) []byte { clear(b[8192:]); return b },
		"second half": func(b []byte) []byte { noise(b[len(b)/2:]); return b },
		"not at all":  func(b []byte) []byte { return b },
		"emptied":     func([]byte) []byte { return nil },
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			r := openT(t, single(dir))
			l := leadT(t, r)
			for i := range 200 {
				applyT(t, l, state.AdmitAgent(agentInfo(fmt.Sprint("a", i))))
			}
			if name == "emptied" {
				if err := r.Snapshot(); err != nil {
					t.Fatal(err)
				}
			}
			if err := r.Close(); err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(dir, raftDBName)
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, damage(b), 0o600); err != nil {
				t.Fatal(err)
			}
			r, err = Open(t.Context(), single(dir))
			if r != nil {
				defer r.Close()
			}
			if name == "not at all" {
				if err != nil {
					t.Errorf("a whole file is refused: %v", err)
				}
				return
			}
			if !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), "restore the registry's directory") {
				t.Errorf("got %v, want ErrCorrupt and what to do", err)
			}
			if name != "emptied" && (err == nil || !strings.Contains(err.Error(), path)) {
				t.Errorf("got %v, want the file's name", err)
			}
		})
	}
}
