package agent

import (
	"net"
	"os"
	"path/filepath"
	"testing"

	"clusterd/isolation"
)

// TestSocketForImages: a container that was given the directory finds the socket of the
// next agent in it.
func TestSocketForImages(t *testing.T) {
	path := filepath.Join(t.TempDir(), "agent.sock")
	for run := range 2 {
		if err := os.RemoveAll(path); err != nil {
			t.Fatal(err)
		}
		l, err := new(net.ListenConfig).Listen(t.Context(), "unix", path)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		l.(*net.UnixListener).SetUnlinkOnClose(false)
		if err := linkSocket(path); err != nil {
			t.Fatalf("run %d: %v", run, err)
		}
		c, err := new(net.Dialer).DialContext(t.Context(), "unix", isolation.ExecutorSocket(path))
		if err != nil {
			t.Fatalf("run %d: %v", run, err)
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	}
}
