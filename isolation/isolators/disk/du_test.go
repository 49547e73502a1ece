package disk_test

import (
	"context"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"

	mesos "clusterd/api/mesos/v1"
	"clusterd/isolation"
	"clusterd/isolation/isolationtest"
	"clusterd/isolation/isolators/disk"
)

func newDU(t *testing.T, workDir string, enforce bool) *disk.DU {
	t.Helper()
	d := disk.NewDU(disk.DUOptions{WorkDir: workDir, Interval: 10 * time.Millisecond, Enforce: enforce})
	t.Cleanup(func() { _ = d.Close() })
	return d
}

func TestDU(t *testing.T) {
	isolationtest.Isolator(t, "disk/du", func(t *testing.T, workDir string) isolation.Isolator {
		return newDU(t, workDir, true)
	})
}

func usage(t *testing.T, i isolation.Isolator, id *mesos.ContainerID) *mesos.ResourceStatistics {
	t.Helper()
	stats := &mesos.ResourceStatistics{}
	if err := i.Usage(t.Context(), id, stats); err != nil {
		t.Fatal(err)
	}
	return stats
}

// TestDUUsage: the sandbox, what counts like it, and volumes on their own.
func TestDUUsage(t *testing.T) {
	workDir := t.TempDir()
	d := newDU(t, workDir, false)
	sandbox, upper, nestedUpper := mkdir(t, filepath.Join(workDir, "sandbox")), mkdir(t, filepath.Join(workDir, "upper")), mkdir(t, filepath.Join(workDir, "nested"))
	vol, volPath := volume(t, workDir, "v1", 64)
	write(t, filepath.Join(sandbox, "a"), 3*mb)
	write(t, filepath.Join(upper, "b"), 2*mb)
	write(t, filepath.Join(nestedUpper, "c"), 1*mb)
	write(t, filepath.Join(volPath, "d"), 7*mb)
	config := &isolation.ContainerConfig{
		ID: newID(), Sandbox: sandbox, Volumes: []string{upper},
		Resources: []*mesos.Resource{isolationtest.Scalar("disk", 5), isolationtest.Scalar("disk", 5), vol, isolationtest.Scalar("mem", 1)},
	}
	if _, err := d.Prepare(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	// Directories take a little too.
	whole := func(n uint64) uint64 { return n / mb }
	eventually(t, "all is counted", func() bool {
		u := usage(t, d, config.ID)
		return whole(u.GetDiskUsedBytes()) == 5 && len(u.DiskStatistics) == 2 && whole(u.DiskStatistics[0].GetUsedBytes()) == 7
	})
	u := usage(t, d, config.ID)
	if u.GetDiskLimitBytes() != 10*mb {
		t.Errorf("limit: got %d", u.GetDiskLimitBytes())
	}
	want := []*mesos.DiskStatistics{
		{Persistence: vol.Disk.Persistence, LimitBytes: new(uint64(64 * mb)), UsedBytes: u.DiskStatistics[0].UsedBytes},
		{LimitBytes: new(uint64(10 * mb)), UsedBytes: u.DiskUsedBytes},
	}
	if diff := cmp.Diff(want, u.DiskStatistics, protocmp.Transform()); diff != "" {
		t.Errorf("statistics (-want +got):\n%s", diff)
	}

	below := &isolation.ContainerConfig{ID: nested(config.ID), Sandbox: mkdir(t, filepath.Join(sandbox, "containers", "n")), Volumes: []string{nestedUpper}}
	if _, err := d.Prepare(t.Context(), below); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(below.Sandbox, "e"), 4*mb)
	eventually(t, "the nested container counts", func() bool { return whole(usage(t, d, config.ID).GetDiskUsedBytes()) == 10 })
	if got := usage(t, d, below.ID); got.DiskUsedBytes != nil {
		t.Errorf("usage of a nested container: got %v", got)
	}
	if err := d.Cleanup(t.Context(), below.ID); err != nil {
		t.Fatal(err)
	}
	eventually(t, "its image counts no more", func() bool { return whole(usage(t, d, config.ID).GetDiskUsedBytes()) == 9 })

	// Without a disk resource nothing is measured.
	if err := d.Update(t.Context(), config.ID, []*mesos.Resource{isolationtest.Scalar("mem", 1)}, nil); err != nil {
		t.Fatal(err)
	}
	if got := usage(t, d, config.ID); got.DiskUsedBytes != nil || len(got.DiskStatistics) != 0 {
		t.Errorf("usage without resources: got %v", got)
	}
	if err := d.Cleanup(t.Context(), config.ID); err != nil {
		t.Fatal(err)
	}
}

// limited waits for a limitation.
func limited(t *testing.T, i isolation.Isolator, id *mesos.ContainerID) isolation.Limitation {
	t.Helper()
	limits, err := i.Watch(id)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	select {
	case l := <-limits:
		return l
	case <-ctx.Done():
		t.Fatal("no limitation")
	}
	return isolation.Limitation{}
}

// TestDULimits: sandboxes and volumes each against their own; disks of type MOUNT
// are left to themselves.
func TestDULimits(t *testing.T) {
	for _, c := range []struct {
		name                         string
		inSandbox, inVolume, inMount int
		want                         string // of the message; empty: none
	}{
		{"within", 3 * mb, 3 * mb, 0, ""},
		{"sandbox", 5 * mb, 0, 0, "exceeds quota (4MB)"},
		{"volume", 0, 9 * mb, 0, "exceeds quota (8MB)"},
		{"mount", 0, 0, 3 * mb, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			workDir := t.TempDir()
			d := newDU(t, workDir, true)
			vol, volPath := volume(t, workDir, "v1", 8)
			mount, _ := volume(t, workDir, "v2", 1)
			mountPath := mkdir(t, filepath.Join(workDir, "disk"))
			mount.Disk.Source = &mesos.Resource_DiskInfo_Source{
				Type: mesos.Resource_DiskInfo_Source_MOUNT.Enum(), Mount: &mesos.Resource_DiskInfo_Source_Mount{Root: &mountPath},
			}
			config := &isolation.ContainerConfig{
				ID: newID(), Sandbox: mkdir(t, filepath.Join(workDir, "sandbox")),
				Resources: []*mesos.Resource{isolationtest.Scalar("disk", 4), vol, mount},
			}
			write(t, filepath.Join(config.Sandbox, "f"), c.inSandbox)
			write(t, filepath.Join(volPath, "f"), c.inVolume)
			write(t, filepath.Join(mountPath, "f"), c.inMount)
			if err := d.Recover(t.Context(), []isolation.ContainerState{{Config: config}}, nil); err != nil {
				t.Fatal(err)
			}
			if c.want == "" {
				eventually(t, "all is counted", func() bool {
					u := usage(t, d, config.ID)
					return u.GetDiskUsedBytes() >= uint64(c.inSandbox) && len(u.DiskStatistics) == 3 &&
						u.DiskStatistics[0].UsedBytes != nil && u.DiskStatistics[1].UsedBytes != nil &&
						u.DiskStatistics[0].GetUsedBytes()+u.DiskStatistics[1].GetUsedBytes() >= uint64(c.inVolume+c.inMount)
				})
				limits, err := d.Watch(config.ID)
				if err != nil {
					t.Fatal(err)
				}
				select {
				case l := <-limits:
					t.Errorf("got %+v", l)
				default:
				}
				return
			}
			got := limited(t, d, config.ID)
			if got.Reason != mesos.TaskStatus_REASON_CONTAINER_LIMITATION_DISK || !strings.Contains(got.Message, c.want) || len(got.Resources) != 1 {
				t.Errorf("got %+v, want %q", got, c.want)
			}
		})
	}
}

// TestDUFiller: who fills the disk is killed.
func TestDUFiller(t *testing.T) {
	d := newDU(t, t.TempDir(), true)
	sandbox := t.TempDir()
	got := launch(t, d, sandbox, "i=0; while true; do i=$((i+1)); dd if=/dev/zero of=f$i bs=64k count=16 2>/dev/null; sleep 0.01; [ $i -gt 500 ] && sleep 1000; done", isolationtest.Scalar("disk", 6))
	if got.Reason == nil || *got.Reason != mesos.TaskStatus_REASON_CONTAINER_LIMITATION_DISK || !got.Destroyed || !strings.Contains(got.Message, "exceeds quota (6MB)") {
		t.Errorf("got %+v", got)
	}
}

// TestDUCounts: without --enforce_container_disk_quota nobody is killed.
func TestDUCounts(t *testing.T) {
	d := newDU(t, t.TempDir(), false)
	got := launch(t, d, t.TempDir(), "dd if=/dev/zero of=f bs=64k count=64 2>/dev/null; sleep 0.3; exit 7", isolationtest.Scalar("disk", 1))
	if got.Reason != nil || got.Status != 7<<8 {
		t.Errorf("got %+v", got)
	}
}
