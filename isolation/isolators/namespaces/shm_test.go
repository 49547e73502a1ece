package namespaces_test

import (
	"testing"

	"clusterd/isolation/isolators/namespaces"
)

// TestDefaultShmSize: the operator's size is that of every /dev/shm that a container has for
// itself, also when its IPC mode is not set.
func TestDefaultShmSize(t *testing.T) {
	for size, want := range map[uint64]string{0: "mode=1777", 8 << 20: "mode=1777,size=8388608"} {
		i := newIPC(t, namespaces.IPCOptions{RuntimeDir: runtimeDir(t), ShmSize: size})
		own := config(id("c"), nil)
		own.RootFS = "/r"
		p, err := i.Prepare(t.Context(), own)
		if err != nil {
			t.Fatal(err)
		}
		if len(p.Mounts) != 1 || p.Mounts[0].Data != want {
			t.Errorf("size %d: got %+v, want %s", size, p.Mounts, want)
		}
	}
}
