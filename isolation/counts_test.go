package isolation_test

import (
	"context"
	"fmt"
	"testing"

	mesos "clusterd/api/mesos/v1"
	"clusterd/isolation"
	"clusterd/isolation/isolationtest"
)

// stuckProvisioner gives images no root of their own, and cannot remove it.
type stuckProvisioner struct{ isolation.Provisioner }

func (stuckProvisioner) Provision(context.Context, *mesos.ContainerID, *mesos.Image) (*isolation.Provisioned, error) {
	return &isolation.Provisioned{}, nil
}

func (stuckProvisioner) Destroy(context.Context, *mesos.ContainerID) error { return errTest }

// TestCounts: containers with images are counted while they run, and what cannot be removed
// of them afterwards is too.
func TestCounts(t *testing.T) {
	m := newMesos(t, isolationtest.Programs(t), t.TempDir(), t.TempDir())
	defer m.Close()
	counted := make(chan string, 10)
	m.SetCount(func(name string) { counted <- name })
	m.SetProvisioner(stuckProvisioner{})
	plain, image := script(t, "read x"), script(t, "read x")
	image.ID = &mesos.ContainerID{Value: new("image")}
	image.ContainerInfo = &mesos.ContainerInfo{
		Type:  mesos.ContainerInfo_MESOS.Enum(),
		Mesos: &mesos.ContainerInfo_MesosInfo{Image: &mesos.Image{Type: mesos.Image_DOCKER.Enum(), Docker: &mesos.Image_Docker{Name: new("n")}}},
	}
	for i, config := range []*isolation.ContainerConfig{plain, image} {
		config.Stdin = true // so that it waits
		if err := m.Launch(t.Context(), config); err != nil {
			t.Fatal(err)
		}
		if got := m.RootFilesystems(); got != i {
			t.Errorf("containers with images: got %d of %d, want %d", got, i+1, i)
		}
	}
	for _, config := range []*isolation.ContainerConfig{image, plain} {
		if err := m.Destroy(t.Context(), config.ID); err != nil {
			t.Fatal(err)
		}
		if got := m.RootFilesystems(); got != 0 {
			t.Errorf("containers with images: got %d, want none", got)
		}
	}
	want := fmt.Sprint([]string{isolation.CountRemoveErrors, isolation.CountRemoveErrors})
	close(counted)
	var got []string
	for name := range counted {
		got = append(got, name)
	}
	if fmt.Sprint(got) != want {
		t.Errorf("counted: got %v, want %s", got, want)
	}
}
