package posix_test

import (
	"errors"
	"testing"

	mesos "clusterd/api/mesos/v1"
	"clusterd/isolation"
	"clusterd/isolation/isolators/posix"
)

// A volume that nobody mounts must not be passed over.
func TestRefusedVolumes(t *testing.T) {
	f := posix.NewFilesystem(t.TempDir())
	rw := mesos.Volume_RW.Enum()
	for name, c := range map[string]struct {
		volume *mesos.Volume
		want   error
	}{
		"host":    {&mesos.Volume{Mode: rw, ContainerPath: new("v"), HostPath: new("/tmp")}, isolation.ErrNotSupported},
		"image":   {&mesos.Volume{Mode: rw, ContainerPath: new("v"), Image: &mesos.Image{}}, isolation.ErrNotSupported},
		"secret":  {&mesos.Volume{Mode: rw, ContainerPath: new("v"), Source: &mesos.Volume_Source{Type: mesos.Volume_Source_SECRET.Enum()}}, isolation.ErrNotSupported},
		"sandbox": {&mesos.Volume{Mode: rw, ContainerPath: new("v"), Source: &mesos.Volume_Source{Type: mesos.Volume_Source_SANDBOX_PATH.Enum()}}, nil},
		"old":     {&mesos.Volume{Mode: rw, ContainerPath: new("v"), HostPath: new("tmp")}, nil},
	} {
		config := &isolation.ContainerConfig{
			ID: &mesos.ContainerID{Value: &name}, Sandbox: t.TempDir(),
			ContainerInfo: &mesos.ContainerInfo{Type: mesos.ContainerInfo_MESOS.Enum(), Volumes: []*mesos.Volume{c.volume}},
		}
		if _, err := f.Prepare(t.Context(), config); !errors.Is(err, c.want) || (err == nil) != (c.want == nil) {
			t.Errorf("%s: got %v, want %v", name, err, c.want)
		}
	}
}
