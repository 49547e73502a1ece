package diskcheck

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"clusterd/internal/httpapi"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestDisk(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "work")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	d := NewDisk(dir)
	now := time.Now()
	if c := d.Check("disk", now); c.Status != httpapi.Healthy {
		t.Errorf("before the first look: %+v", c)
	}
	d.look()
	if c := d.Check("disk", now); c.Status != httpapi.Healthy || c.Name != "disk" {
		t.Errorf("good: %+v", c)
	}
	if left, _ := os.ReadDir(dir); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	if err := os.Rename(dir, dir+".away"); err != nil {
		t.Fatal(err)
	}
	d.look()
	bad := d.Check("disk", now)
	if bad.Status != httpapi.Unhealthy || !strings.Contains(bad.Reason, dir) || !strings.Contains(bad.Reason, "no such file") || bad.Since.IsZero() {
		t.Errorf("bad: %+v", bad)
	}
	d.look()
	if again := d.Check("disk", now); again.Since != bad.Since {
		t.Errorf("bad since %v, then since %v", bad.Since, again.Since)
	}
	if err := os.Rename(dir+".away", dir); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, ".health-123"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	d.Sweep()
	d.look()
	if c := d.Check("disk", now); c.Status != httpapi.Healthy {
		t.Errorf("good again: %+v", c)
	}
	if left, _ := os.ReadDir(dir); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	d.begun = now.Add(-time.Minute)
	if c := d.Check("disk", now); c.Status != httpapi.Unhealthy || !strings.Contains(c.Reason, "hangs") {
		t.Errorf("hangs: %+v", c)
	}
}

func TestWatch(t *testing.T) {
	d := NewDisk(t.TempDir())
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		d.Watch(ctx, time.Hour)
		close(done)
	}()
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
		d.mu.Lock()
		looked := !d.looked.IsZero()
		d.mu.Unlock()
		if looked {
			break
		}
		if time.Now().After(end) {
			t.Fatal("it does not look at once")
		}
	}
	cancel()
	<-done
}

// TestFull writes to a disk that is full.
func TestFull(t *testing.T) {
	if err := write("/dev/full/x"); err == nil {
		t.Error("a directory that cannot be is written to")
	}
	if os.Getuid() != 0 {
		t.Skip("only root mounts")
	}
	dir := t.TempDir()
	if err := mountSmall(dir); err != nil {
		t.Skipf("no disk to fill: %v", err)
	}
	defer unmount(dir)
	if err := write(dir); err != nil {
		t.Fatalf("with room: %v", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "full"), make([]byte, 200<<10), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := write(dir); err == nil || !strings.Contains(err.Error(), "no space left") {
		t.Errorf("without room: %v", err)
	}
}
