package filesystem_test

import (
	"errors"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	mesos "clusterd/api/mesos/v1"
	"clusterd/isolation"
	"clusterd/isolation/isolators/filesystem"
)

func stat(t *testing.T, path string) unix.Stat_t {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		t.Fatal(err)
	}
	return st
}

func TestVolumeGIDs(t *testing.T) {
	needRoot(t)
	work := t.TempDir()
	outside := write(t, work+"/outside", "")
	ranges := []filesystem.GIDRange{{First: 70000, Last: 70001}, {First: 70001, Last: 70001}}
	count := func(g *filesystem.VolumeGIDs, free int) {
		t.Helper()
		if total, got := g.Count(); total != 2 || got != free {
			t.Errorf("got %d groups, %d of them free, want 2 and %d", total, got, free)
		}
	}
	gids := func() *filesystem.VolumeGIDs {
		t.Helper()
		g, err := filesystem.NewVolumeGIDs(work, ranges)
		if err != nil {
			t.Fatal(err)
		}
		return g
	}
	allocate := func(g *filesystem.VolumeGIDs, path string, sandbox bool) (uint32, error) {
		t.Helper()
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		return g.Allocate(f, path, sandbox)
	}
	volume, shared := mkdir(t, work+"/volume"), mkdir(t, work+"/sandbox/shared")
	write(t, mkdir(t, volume+"/deep/er")+"/file", "")
	symlink(t, outside, volume+"/deep/link")
	g := gids()
	count(g, 2)
	for range 2 {
		if gid, err := allocate(g, volume, false); err != nil || gid != 70000 {
			t.Errorf("group of the volume: got %d, %v", gid, err)
		}
	}
	for path, mode := range map[string]uint32{"": 0o2775, "/deep": 0o2775, "/deep/er": 0o2775, "/deep/er/file": 0o644, "/deep/link": 0o777} {
		if st := stat(t, volume+path); st.Gid != 70000 || st.Mode&0o7777 != mode {
			t.Errorf("%s: got group %d, mode %o, want %o", path, st.Gid, st.Mode&0o7777, mode)
		}
	}
	if st := stat(t, outside); st.Gid != 0 {
		t.Errorf("what a link leads to: got group %d", st.Gid)
	}
	if gid, err := allocate(g, volume+"/deep", true); err != nil || gid != 70000 {
		t.Errorf("group of what has one by another name: got %d, %v", gid, err)
	}
	if gid, err := allocate(g, shared, true); err != nil || gid != 70001 {
		t.Errorf("group of the sandbox's: got %d, %v", gid, err)
	}
	third := mkdir(t, work+"/third")
	if _, err := allocate(g, third, false); !errors.Is(err, filesystem.ErrNoGID) {
		t.Errorf("one too many: got %v", err)
	}
	count(g, 0)

	// Another agent knows; the sandbox's volume ends with its container.
	g = gids()
	if err := g.Keep([]string{work + "/sandbox"}); err != nil {
		t.Fatal(err)
	}
	if st := stat(t, shared); st.Gid != 70001 {
		t.Errorf("kept: got group %d", st.Gid)
	}
	if err := g.Release(work + "/sandbox"); err != nil {
		t.Fatal(err)
	}
	count(g, 1)
	if st := stat(t, shared); st.Gid != 0 || st.Mode&0o7777 != 0o755 {
		t.Errorf("given back: got group %d, mode %o", st.Gid, st.Mode&0o7777)
	}
	if gid, err := allocate(g, third, false); err != nil || gid != 70001 {
		t.Errorf("group that was given back: got %d, %v", gid, err)
	}
	// A volume that is gone has none any more.
	if err := os.RemoveAll(volume); err != nil {
		t.Fatal(err)
	}
	if gid, err := allocate(gids(), mkdir(t, work+"/fourth"), false); err != nil || gid != 70000 {
		t.Errorf("group of what is gone: got %d, %v", gid, err)
	}
	if _, err := filesystem.NewVolumeGIDs(work, []filesystem.GIDRange{{First: 2, Last: 1}}); !errors.Is(err, filesystem.ErrNoGID) {
		t.Errorf("empty range: got %v", err)
	}
	write(t, work+"/meta/volume_gids", "nonsense\n")
	if _, err := filesystem.NewVolumeGIDs(work, ranges); err == nil || !strings.Contains(err.Error(), "volume_gids") {
		t.Errorf("malformed file: got %v", err)
	}
}

func TestGroupsOfContainers(t *testing.T) {
	needRoot(t)
	work := t.TempDir()
	g, err := filesystem.NewVolumeGIDs(work, []filesystem.GIDRange{{First: 70000, Last: 70010}})
	if err != nil {
		t.Fatal(err)
	}
	l := newLinux(t, filesystem.Options{WorkDir: work, GIDs: g})
	mkdir(t, work+"/volumes/roles/r/v")
	config := place(t, work, "c")
	if err := os.Chown(config.Sandbox, 1234, 1234); err != nil {
		t.Fatal(err)
	}
	config.Resources = []*mesos.Resource{persistentVolume("v", "r", "data", mesos.Volume_RW)}
	p, err := l.Prepare(t.Context(), config)
	if err != nil || len(p.Groups) != 1 || p.Groups[0] != 70000 {
		t.Fatalf("groups: got %+v, %v", p, err)
	}
	if st := stat(t, config.Sandbox+"/data"); st.Uid != 0 || st.Gid != 70000 {
		t.Errorf("owner of the volume: got %d:%d", st.Uid, st.Gid)
	}

	// A nested container of somebody else joins the group of what it gets.
	s := filesystem.NewSandboxPath(filesystem.Options{GIDs: g}, true)
	if _, err := s.Prepare(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	nested := place(t, work, "c", "n")
	if err := os.Chown(nested.Sandbox, 2345, 2345); err != nil {
		t.Fatal(err)
	}
	nested.User = "somebody"
	nested.ContainerInfo.Volumes = []*mesos.Volume{
		sandboxVolume(mesos.Volume_Source_SandboxPath_PARENT, "shared", "s"),
		sandboxVolume(mesos.Volume_Source_SandboxPath_PARENT, "data", "d"),
	}
	p, err = s.Prepare(t.Context(), nested)
	if err != nil || len(p.Groups) != 2 || p.Groups[0] != 70001 || p.Groups[1] != 70000 {
		t.Fatalf("groups of the nested one: got %+v, %v", p, err)
	}
	for _, c := range []*isolation.ContainerConfig{nested, config} {
		if err := s.Cleanup(t.Context(), c.ID); err != nil {
			t.Error(err)
		}
	}
	if st := stat(t, config.Sandbox+"/shared"); st.Uid != 1234 || st.Gid == 70001 {
		t.Errorf("owner of the parent's directory afterwards: got %d:%d", st.Uid, st.Gid)
	}
}
