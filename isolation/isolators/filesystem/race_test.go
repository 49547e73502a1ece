package filesystem_test

import (
	"fmt"
	"os"
	"sync"
	"testing"

	mesos "clusterd/api/mesos/v1"
	"clusterd/isolation"
	"clusterd/isolation/isolators/filesystem"
)

// TestPodSharesNewDirectory: the containers of a pod are prepared at once, and all name a
// directory of the pod's that is not there yet. It is made once, and nobody meets it before
// it is its owner's: who does takes it for somebody else's and joins a group for it.
func TestPodSharesNewDirectory(t *testing.T) {
	for _, linux := range []bool{true, false} {
		t.Run(fmt.Sprintf("linux=%v", linux), func(t *testing.T) { sharesNewDirectory(t, linux) })
	}
}

func sharesNewDirectory(t *testing.T, linux bool) {
	work := t.TempDir()
	options := filesystem.Options{}
	owner := os.Getuid()
	if owner == 0 {
		owner = 1234
		var err error
		if options.GIDs, err = filesystem.NewVolumeGIDs(work, []filesystem.GIDRange{{First: 70000, Last: 70999}}); err != nil {
			t.Fatal(err)
		}
	}
	own := func(config *isolation.ContainerConfig) *isolation.ContainerConfig {
		if err := os.Chown(config.Sandbox, owner, -1); err != nil {
			t.Fatal(err)
		}
		config.User = "somebody"
		return config
	}
	s := filesystem.NewSandboxPath(options, linux)
	for round := range 50 {
		top := own(place(t, work, fmt.Sprint(round)))
		if _, err := s.Prepare(t.Context(), top); err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		begin := make(chan struct{})
		for i := range 8 {
			nested := own(place(t, work, fmt.Sprint(round), fmt.Sprint(i)))
			nested.ContainerInfo.Volumes = []*mesos.Volume{sandboxVolume(mesos.Volume_Source_SandboxPath_PARENT, "all/shared", "here/v")}
			wg.Go(func() {
				<-begin
				p, err := s.Prepare(t.Context(), nested)
				if err != nil {
					t.Errorf("round %d: %v", round, err)
					return
				}
				if linux != (len(p.Mounts) == 1) || len(p.Groups) > 0 {
					t.Errorf("round %d: got mounts %v, groups %v", round, p.Mounts, p.Groups)
				}
			})
		}
		close(begin)
		wg.Wait()
		if st := stat(t, top.Sandbox+"/all/shared"); int(st.Uid) != owner {
			t.Errorf("round %d: the directory belongs to %d, want %d", round, st.Uid, owner)
		}
	}
}
