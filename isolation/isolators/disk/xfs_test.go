package disk_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	mesos "clusterd/api/mesos/v1"
	"clusterd/isolation"
	"clusterd/isolation/isolationtest"
	"clusterd/isolation/isolators/disk"
)

// onXFS makes all temporary directories of a test lie on XFS with project quotas.
func onXFS(t *testing.T) {
	t.Helper()
	mount := os.Getenv("CLUSTERD_VM_XFS")
	if mount == "" {
		t.Skip("no XFS with project quotas: run in the machine of internal/vmtest")
	}
	t.Setenv("TMPDIR", tempDir(t, mount))
}

func newXFS(t *testing.T, options disk.XFSOptions) *disk.XFS {
	t.Helper()
	if options.Interval == 0 {
		options.Interval, options.ReclaimInterval = 10*time.Millisecond, 10*time.Millisecond
	}
	x, err := disk.NewXFS(options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = x.Close() })
	return x
}

// TestXFSMissing: whoever has no project quotas is told at the start, and what to do.
func TestXFSMissing(t *testing.T) {
	dirs := map[string]string{"/proc": "another file system"}
	if dir := os.Getenv("CLUSTERD_VM_XFS_NOQUOTA"); dir != "" {
		dirs[dir] = "prjquota"
		dirs[t.TempDir()] = "another file system"
	}
	if os.Geteuid() != 0 {
		t.Skip("setting quotas takes root")
	}
	for dir, want := range dirs {
		if _, err := disk.NewXFS(disk.XFSOptions{WorkDir: dir}); !errors.Is(err, disk.ErrNoProjectQuota) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", dir, err, want)
		}
	}
	if _, err := disk.NewXFS(disk.XFSOptions{WorkDir: "/proc", Projects: "[0-5]"}); !errors.Is(err, disk.ErrProjectRange) {
		t.Errorf("range: got %v", err)
	}
}

func TestXFS(t *testing.T) {
	onXFS(t)
	isolationtest.Isolator(t, "disk/xfs", func(t *testing.T, workDir string) isolation.Isolator {
		return newXFS(t, disk.XFSOptions{WorkDir: workDir, Enforce: true})
	})
}

func prepare(t *testing.T, i isolation.Isolator, config *isolation.ContainerConfig) {
	t.Helper()
	if _, err := i.Prepare(t.Context(), config); err != nil {
		t.Fatal(err)
	}
}

// fill writes until it is refused, and says how much that was.
func fill(t *testing.T, path string, most int) (int, error) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	written := 0
	for block := make([]byte, 64<<10); written < most; {
		n, err := f.Write(block)
		written += n
		if err != nil {
			return written, err
		}
	}
	return written, f.Sync()
}

func full(err error) bool { return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) }

// TestXFSRefuses: the kernel refuses what is too much, each for itself.
func TestXFSRefuses(t *testing.T) {
	onXFS(t)
	workDir := t.TempDir()
	x := newXFS(t, disk.XFSOptions{WorkDir: workDir, Enforce: true})
	vol, volPath := volume(t, workDir, "v1", 8)
	write(t, filepath.Join(volPath, "earlier"), 2*mb)
	upper, nestedUpper := mkdir(t, filepath.Join(workDir, "upper")), mkdir(t, filepath.Join(workDir, "nested"))
	config := &isolation.ContainerConfig{
		ID: newID(), Sandbox: mkdir(t, filepath.Join(workDir, "sandbox")), Volumes: []string{upper},
		Resources: []*mesos.Resource{isolationtest.Scalar("disk", 4), vol},
	}
	write(t, filepath.Join(config.Sandbox, "fetched"), 1*mb)
	prepare(t, x, config)
	prepare(t, x, &isolation.ContainerConfig{ID: nested(config.ID), Sandbox: mkdir(t, filepath.Join(config.Sandbox, "n")), Volumes: []string{nestedUpper}})

	expect := func(path string, least, most int) {
		t.Helper()
		got, err := fill(t, path, 64*mb)
		if !full(err) || got < least || got > most {
			t.Errorf("%s: wrote %d bytes, then %v; want %d to %d", path, got, err, least, most)
		}
	}
	expect(filepath.Join(mkdir(t, filepath.Join(config.Sandbox, "n", "sub")), "f"), 2*mb, 3*mb)
	expect(filepath.Join(upper, "f"), 0, mb/2)
	expect(filepath.Join(nestedUpper, "f"), 0, mb/2)
	expect(filepath.Join(volPath, "f"), 5*mb, 6*mb)

	u := usage(t, x, config.ID)
	if u.GetDiskLimitBytes() != 4*mb || u.GetDiskUsedBytes() < 3*mb || u.GetDiskUsedBytes() > 4*mb {
		t.Errorf("usage: got %v", u)
	}
	if len(u.DiskStatistics) != 1 || u.DiskStatistics[0].GetLimitBytes() != 8*mb || u.DiskStatistics[0].GetUsedBytes() < 7*mb || u.DiskStatistics[0].GetPersistence().GetId() != "v1" {
		t.Errorf("statistics: got %v", u.DiskStatistics)
	}
	// More is more.
	if err := x.Update(t.Context(), config.ID, []*mesos.Resource{isolationtest.Scalar("disk", 12), vol}, nil); err != nil {
		t.Fatal(err)
	}
	expect(filepath.Join(config.Sandbox, "g"), 7*mb, 9*mb)
	// Others are not concerned.
	if n, err := fill(t, filepath.Join(workDir, "others"), 16*mb); err != nil || n != 16*mb {
		t.Errorf("outside: wrote %d, %v", n, err)
	}
}

// TestXFSCounts: without --enforce_container_disk_quota nothing is refused.
func TestXFSCounts(t *testing.T) {
	onXFS(t)
	workDir := t.TempDir()
	x := newXFS(t, disk.XFSOptions{WorkDir: workDir})
	config := &isolation.ContainerConfig{ID: newID(), Sandbox: mkdir(t, filepath.Join(workDir, "sandbox")), Resources: []*mesos.Resource{isolationtest.Scalar("disk", 1)}}
	prepare(t, x, config)
	if _, err := fill(t, filepath.Join(config.Sandbox, "f"), 5*mb); err != nil {
		t.Fatal(err)
	}
	if u := usage(t, x, config.ID); u.GetDiskLimitBytes() != mb || u.GetDiskUsedBytes() < 5*mb {
		t.Errorf("usage: got %v", u)
	}
}

// TestXFSFiller: a task that fills the disk gets an error, or is killed, by the flags.
func TestXFSFiller(t *testing.T) {
	onXFS(t)
	const filler = "dd if=/dev/zero of=f bs=64k count=800 2>/dev/null && exit 4; sleep ${WAIT-0}; exit 3"
	t.Run("refused", func(t *testing.T) {
		workDir := t.TempDir()
		sandbox := mkdir(t, filepath.Join(workDir, "sandbox"))
		got := launch(t, newXFS(t, disk.XFSOptions{WorkDir: workDir, Enforce: true}), sandbox, filler, isolationtest.Scalar("disk", 6))
		if got.Reason != nil || got.Status != 3<<8 {
			t.Errorf("got %+v", got)
		}
		if info, err := os.Stat(filepath.Join(sandbox, "f")); err != nil || info.Size() < 4*mb || info.Size() > 6*mb {
			t.Errorf("the file: got %v, %v", info, err)
		}
	})
	t.Run("killed", func(t *testing.T) {
		workDir := t.TempDir()
		x := newXFS(t, disk.XFSOptions{WorkDir: workDir, Enforce: true, Kill: true, Headroom: 2 * mb})
		got := launch(t, x, mkdir(t, filepath.Join(workDir, "sandbox")), "WAIT=1000; "+filler, isolationtest.Scalar("disk", 6))
		if got.Reason == nil || *got.Reason != mesos.TaskStatus_REASON_CONTAINER_LIMITATION_DISK || !strings.Contains(got.Message, "exceeded quota (6MB)") {
			t.Errorf("got %+v", got)
		}
	})
	t.Run("volume", func(t *testing.T) {
		workDir := t.TempDir()
		vol, path := volume(t, workDir, "v9", 3)
		x := newXFS(t, disk.XFSOptions{WorkDir: workDir, Enforce: true, Kill: true, Headroom: 2 * mb})
		got := launch(t, x, mkdir(t, filepath.Join(workDir, "sandbox")), "cd "+path+"; WAIT=1000; "+filler, isolationtest.Scalar("disk", 6), vol)
		if got.Reason == nil || !strings.Contains(got.Message, "exceeded quota (3MB) for volume 'v9'") {
			t.Errorf("got %+v", got)
		}
	})
}

// sandboxOf makes a sandbox where the agent makes them.
func sandboxOf(t *testing.T, workDir string, id *mesos.ContainerID) string {
	t.Helper()
	return mkdir(t, filepath.Join(workDir, "slaves", "S", "frameworks", "F", "executors", "E", "runs", id.GetValue()))
}

// TestXFSIDs: an id is free again when the sandbox is gone, not before, and over any
// number of restarts.
func TestXFSIDs(t *testing.T) {
	onXFS(t)
	workDir := t.TempDir()
	options := disk.XFSOptions{WorkDir: workDir, Enforce: true, Projects: "[7000-7001]"}
	x := newXFS(t, options)
	free := func(want uint64) {
		t.Helper()
		eventually(t, fmt.Sprintf("%d ids are free", want), func() bool {
			total, free := x.Projects()
			return total == 2 && free == want
		})
	}
	config := func() *isolation.ContainerConfig {
		id := newID()
		return &isolation.ContainerConfig{ID: id, Sandbox: sandboxOf(t, workDir, id), Resources: []*mesos.Resource{isolationtest.Scalar("disk", 2)}}
	}
	a, b, c := config(), config(), config()
	prepare(t, x, a)
	prepare(t, x, b)
	if _, err := x.Prepare(t.Context(), c); !errors.Is(err, disk.ErrNoProjects) {
		t.Fatalf("third: got %v", err)
	}
	write(t, filepath.Join(a.Sandbox, "f"), mb)
	// a ends; its sandbox stays and so does its id, which the next agent sees too.
	if err := x.Cleanup(t.Context(), a.ID); err != nil {
		t.Fatal(err)
	}
	if err := x.Close(); err != nil {
		t.Fatal(err)
	}
	x = newXFS(t, options)
	if err := x.Recover(t.Context(), []isolation.ContainerState{{Config: b, PID: os.Getpid()}}, nil); err != nil {
		t.Fatal(err)
	}
	free(0)
	if n, err := fill(t, filepath.Join(b.Sandbox, "f"), 8*mb); !full(err) || n > 2*mb {
		t.Errorf("after a restart: wrote %d, %v", n, err)
	}
	if err := os.RemoveAll(a.Sandbox); err != nil {
		t.Fatal(err)
	}
	free(1)
	prepare(t, x, c)
	free(0)
	if u := usage(t, x, c.ID); u.GetDiskUsedBytes() >= mb {
		t.Errorf("a new container has inherited %d bytes", u.GetDiskUsedBytes())
	}
	for _, one := range []*isolation.ContainerConfig{b, c} {
		if err := x.Cleanup(t.Context(), one.ID); err != nil {
			t.Fatal(err)
		}
		if err := os.RemoveAll(one.Sandbox); err != nil {
			t.Fatal(err)
		}
	}
	free(2)
	// And the kernel has forgotten the limits: who gets an id next is not bound by them.
	x2 := newXFS(t, disk.XFSOptions{WorkDir: workDir, Projects: "[7000-7001]"})
	d := config()
	prepare(t, x2, d)
	if _, err := fill(t, filepath.Join(d.Sandbox, "f"), 4*mb); err != nil {
		t.Errorf("limits of an old container: %v", err)
	}
}

// TestXFSVolumeKeepsProject: a persistent volume outlives containers, and its limit too.
func TestXFSVolumeKeepsProject(t *testing.T) {
	onXFS(t)
	workDir := t.TempDir()
	options := disk.XFSOptions{WorkDir: workDir, Enforce: true, Projects: "[7000-7009]"}
	x := newXFS(t, options)
	vol, path := volume(t, workDir, "v1", 3)
	first := &isolation.ContainerConfig{ID: newID(), Sandbox: sandboxOf(t, workDir, newID()), Resources: []*mesos.Resource{vol}}
	prepare(t, x, first)
	if _, err := fill(t, filepath.Join(path, "f"), 8*mb); !full(err) {
		t.Errorf("first container: got %v", err)
	}
	if err := x.Cleanup(t.Context(), first.ID); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(first.Sandbox); err != nil {
		t.Fatal(err)
	}
	x = newXFS(t, options)
	if err := x.Recover(t.Context(), nil, nil); err != nil {
		t.Fatal(err)
	}
	if _, free := x.Projects(); free != 9 {
		t.Errorf("free ids: got %d, want 9", free)
	}
	second := &isolation.ContainerConfig{ID: newID(), Sandbox: sandboxOf(t, workDir, newID()), Resources: []*mesos.Resource{vol}}
	prepare(t, x, second)
	u := usage(t, x, second.ID)
	if len(u.DiskStatistics) != 1 || u.DiskStatistics[0].GetUsedBytes() < 2*mb {
		t.Errorf("second container: got %v", u)
	}
}

// TestXFSRecoverUnmanaged: containers from before the isolator are limited too, and one
// whose sandbox is gone does no harm.
func TestXFSRecoverUnmanaged(t *testing.T) {
	onXFS(t)
	workDir := t.TempDir()
	id := newID()
	config := &isolation.ContainerConfig{ID: id, Sandbox: sandboxOf(t, workDir, id), Resources: []*mesos.Resource{isolationtest.Scalar("disk", 2)}}
	write(t, filepath.Join(config.Sandbox, "before"), mb)
	gone := &isolation.ContainerConfig{ID: newID(), Sandbox: filepath.Join(workDir, "gone")}
	x := newXFS(t, disk.XFSOptions{WorkDir: workDir, Enforce: true})
	if err := x.Recover(t.Context(), []isolation.ContainerState{{Config: config, PID: os.Getpid()}, {Config: gone}}, nil); err != nil {
		t.Fatal(err)
	}
	if u := usage(t, x, config.ID); u.GetDiskUsedBytes() < mb || u.GetDiskLimitBytes() != 2*mb {
		t.Errorf("usage: got %v", u)
	}
	if n, err := fill(t, filepath.Join(config.Sandbox, "f"), 8*mb); !full(err) || n > mb {
		t.Errorf("wrote %d, %v", n, err)
	}
	usage(t, x, gone.ID)
}
