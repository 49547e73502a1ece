package e2e

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"clusterd/api/client/scheduler"
	mesos "clusterd/api/mesos/v1"
	"clusterd/internal/testcluster"
)

// TestFullDisk fills the disk under an agent's work_dir: the agent says so and
// ends, its tasks go on, it refuses to start as long as there is no space, and
// once there is, the true end of a task that ended meanwhile arrives.
func TestFullDisk(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*testcluster.Patience)
	defer cancel()
	dir, err := os.MkdirTemp("", "cd") //nolint:usetesting // t.TempDir is too long for a socket, and is removed before the disk is unmounted
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	c, err := testcluster.New(testcluster.Options{Dir: dir, AgentFlags: []string{
		"--resources=cpus:8;mem:4096;disk:1024", "--registration_backoff_factor=50ms",
	}})
	if err != nil {
		t.Fatal(err)
	}
	agent := c.Agents[0]
	disk := agent.WorkDir
	if err := os.Mkdir(disk, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", disk, "tmpfs", 0, "size=6m"); err != nil {
		t.Skipf("mounting a small disk needs root: %v", err)
	}
	t.Cleanup(func() {
		c.Stop()
		if t.Failed() {
			c.DumpLogs(t.Output())
		}
		_ = unix.Unmount(disk, unix.MNT_DETACH)
	})
	if err := c.Up(); err != nil {
		t.Fatal(err)
	}
	f := subscribe(t, c, "full-disk")
	trigger := filepath.Join(t.TempDir(), "end")
	f.launch(ctx, shellTask("ends", "until [ -e "+trigger+" ]; do sleep 0.1; done; exit 5"))
	f.await(ctx, "ends", mesos.TaskState_TASK_RUNNING)

	fill := filepath.Join(disk, "fill")
	write(t, fill)
	// Launches make the checkpoint grow until it does not fit.
	for ended := agent.Done(); ended != nil; {
		select {
		case <-ctx.Done():
			t.Fatal("the agent goes on with a full disk")
		case <-ended:
			ended = nil
		case e := <-f.events:
			if e.GetType() == scheduler.OFFERS {
				task := shellTask("more-"+e.GetOffers().GetOffers()[0].GetId().GetValue(), "true")
				task.Data = make([]byte, 200_000)
				_ = f.client.Launch(ctx, e.GetOffers().GetOffers()[0], task)
			} else if e.GetType() == scheduler.UPDATE {
				_ = f.client.Acknowledge(ctx, e.GetUpdate().GetStatus())
				_ = f.client.Revive(ctx)
			}
		}
	}
	if log := agent.Log(); !strings.Contains(log, "no space left on device") || !strings.Contains(log, "clusterd: error: the checkpoint cannot be written") {
		t.Errorf("the agent does not say what is wrong: %s", log)
	}
	agent.Kill()
	if err := os.WriteFile(trigger, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	// It may start, to collect garbage, or say why not.
	if err := agent.Start(); err != nil && !strings.Contains(err.Error(), "no space left on device") {
		t.Errorf("started on a full disk: %v", err)
	}
	agent.Kill()
	if err := os.Remove(fill); err != nil {
		t.Fatal(err)
	}
	if err := agent.Start(); err != nil {
		t.Fatal(err)
	}
	if st := f.await(ctx, "ends", mesos.TaskState_TASK_FAILED); !strings.Contains(st.GetMessage(), "exited with status 5") {
		t.Errorf("got %v, want the truth", st)
	}
}

// write fills a disk up.
func write(t *testing.T, path string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for err == nil {
		_, err = f.Write(make([]byte, 4096))
	}
	if !errors.Is(err, unix.ENOSPC) {
		t.Fatal(err)
	}
}
