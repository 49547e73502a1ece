package isolation_test

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/rs/zerolog"

	mesos "clusterd/api/mesos/v1"
	"clusterd/isolation"
	"clusterd/isolation/isolationtest"
)

// chooses is a containerizer that runs only containers of type DOCKER, or, if it says so
// when they are launched, none.
type chooses struct {
	*isolation.Mesos
	refuses bool
}

func (*chooses) Runs(config *isolation.ContainerConfig) bool {
	return config.ContainerInfo != nil && config.ContainerInfo.GetType() == mesos.ContainerInfo_DOCKER
}

func (c *chooses) Launch(ctx context.Context, config *isolation.ContainerConfig) error {
	if c.refuses {
		return isolation.ErrNotSupported
	}
	own := *config
	own.ContainerInfo = nil
	return c.Mesos.Launch(ctx, &own)
}

func plainMesos(t *testing.T, dir string) *isolation.Mesos {
	t.Helper()
	launcher, err := isolation.NewPosixLauncher(dir, isolationtest.Programs(t), zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	return isolation.NewMesos(launcher, nil, zerolog.Nop())
}

// TestComposing asks two containerizers, in their order, and again after a restart.
func TestComposing(t *testing.T) {
	dirs := [2]string{t.TempDir(), t.TempDir()}
	var first *chooses
	var second *isolation.Mesos
	open := func() *isolation.Composing {
		first, second = &chooses{Mesos: plainMesos(t, dirs[0])}, plainMesos(t, dirs[1])
		return isolation.NewComposing(first, second)
	}
	c := open()
	t.Cleanup(func() {
		_ = c.Close()
		c = open()
		_, _ = c.Recover(context.Background(), nil)
		_ = c.Close()
	})
	if _, err := c.Recover(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	config := func(id string, docker bool) *isolation.ContainerConfig {
		out := &isolation.ContainerConfig{
			ID: &mesos.ContainerID{Value: &id}, Sandbox: t.TempDir(), FrameworkID: &mesos.FrameworkID{Value: new("f")},
			Command: &mesos.CommandInfo{Value: new("sleep 1000")}, Env: map[string]string{"PATH": "/bin:/usr/bin"},
		}
		if docker {
			out.ContainerInfo = &mesos.ContainerInfo{Type: mesos.ContainerInfo_DOCKER.Enum()}
		}
		return out
	}
	a, b := config("a", true), config("b", false)
	for _, one := range []*isolation.ContainerConfig{b, a} {
		if err := c.Launch(t.Context(), one); err != nil {
			t.Fatal(err)
		}
		if err := c.Launch(t.Context(), one); !errors.Is(err, isolation.ErrContainerExists) {
			t.Errorf("second launch: got %v", err)
		}
	}
	owned := func() {
		t.Helper()
		for i, ids := range [][]*mesos.ContainerID{first.Containers(), second.Containers(), c.Containers()} {
			var got []string
			for _, id := range ids {
				got = append(got, id.GetValue())
			}
			if want := [][]string{{"a"}, {"b"}, {"a", "b"}}[i]; !slices.Equal(got, want) {
				t.Errorf("containers of %d: got %v, want %v", i, got, want)
			}
		}
	}
	owned()
	// Its parent's owner runs a nested one.
	nested := config("n", false)
	nested.ID.Parent = a.ID
	if err := c.Launch(t.Context(), nested); err != nil {
		t.Fatal(err)
	}
	if len(first.Containers()) != 2 {
		t.Errorf("nested: the first has %v", first.Containers())
	}
	if err := errors.Join(c.Destroy(t.Context(), nested.ID), c.Remove(t.Context(), nested.ID)); err != nil {
		t.Fatal(err)
	}

	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	c = open()
	if orphans, err := c.Recover(t.Context(), []isolation.ContainerConfig{*a, *b}); err != nil || len(orphans) > 0 {
		t.Fatalf("recover: got %v, %v", orphans, err)
	}
	owned()

	first.refuses = true
	if err := c.Launch(t.Context(), config("d", true)); !errors.Is(err, isolation.ErrNotSupported) {
		t.Errorf("refused by all: got %v", err)
	}
	if _, err := c.Wait(t.Context(), &mesos.ContainerID{Value: new("d")}); !errors.Is(err, isolation.ErrUnknownContainer) {
		t.Errorf("a container that nobody launched: got %v", err)
	}
	for _, one := range []*isolation.ContainerConfig{a, b} {
		if err := c.Destroy(t.Context(), one.ID); err != nil {
			t.Fatal(err)
		}
		if got, err := c.Wait(t.Context(), one.ID); err != nil || !got.Destroyed {
			t.Errorf("wait: got %+v, %v", got, err)
		}
		if err := c.Remove(t.Context(), one.ID); err != nil {
			t.Fatal(err)
		}
	}
	if got := c.Containers(); len(got) > 0 {
		t.Errorf("left: %v", got)
	}
	first.refuses = false
	if err := c.Launch(t.Context(), a); err != nil { // the id is free again
		t.Errorf("launch of an id that was removed: got %v", err)
	}
	_ = c.Destroy(context.Background(), a.ID)
}
