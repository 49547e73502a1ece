package isolation_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	mesos "clusterd/api/mesos/v1"
	"clusterd/isolation"
	"clusterd/isolation/isolationtest"
)

// gate is an isolator that holds the launch of containers at the top up once they run.
type gate struct {
	isolation.BaseIsolator
	reached, open chan struct{}
	err           error
}

func (g *gate) Name() string { return "gate" }

func (g *gate) SupportsNesting() bool { return false }

func (g *gate) Prepare(context.Context, *isolation.ContainerConfig) (*isolation.Preparation, error) {
	return nil, nil
}

// Watch is called when the container's command runs already.
func (g *gate) Watch(*mesos.ContainerID) (<-chan isolation.Limitation, error) {
	close(g.reached)
	<-g.open
	return nil, g.err
}

// TestNestedWhileParentIsLaunched: an executor runs before the call that launches it has
// returned, and may ask for a nested container at once. That waits.
func TestNestedWhileParentIsLaunched(t *testing.T) {
	for _, c := range []struct {
		name         string
		parent, want error
		impatient    bool
	}{
		{name: "parent is launched"},
		{name: "parent fails", parent: errTest, want: isolation.ErrUnknownContainer},
		{name: "caller goes", want: context.Canceled, impatient: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := &gate{reached: make(chan struct{}), open: make(chan struct{}), err: c.parent}
			m := newMesos(t, isolationtest.Programs(t), t.TempDir(), t.TempDir(), g)
			parent := script(t, "sleep 1000")
			t.Cleanup(func() {
				if err := m.Destroy(context.WithoutCancel(t.Context()), parent.ID); err != nil && !errors.Is(err, isolation.ErrUnknownContainer) {
					t.Error(err)
				}
				m.Close()
			})
			launched := make(chan error, 1)
			go func() { launched <- m.Launch(t.Context(), parent) }()
			<-g.reached
			nested := script(t, "exit 0")
			nested.ID = &mesos.ContainerID{Value: new("n"), Parent: parent.ID}
			nested.Sandbox = filepath.Join(parent.Sandbox, "containers", "n")
			if err := os.MkdirAll(nested.Sandbox, 0o755); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			answer := make(chan error, 1)
			go func() { answer <- m.Launch(ctx, nested) }()
			if c.impatient {
				cancel()
				if err := <-answer; !errors.Is(err, c.want) {
					t.Errorf("got %v, want %v", err, c.want)
				}
				close(g.open)
				<-launched
				return
			}
			select {
			case err := <-answer:
				t.Errorf("the nested container did not wait: %v", err)
				answer <- err
			case <-time.After(20 * time.Millisecond): // long enough for a refusal, which is what is not wanted
			}
			close(g.open)
			if err := <-launched; !errors.Is(err, c.parent) {
				t.Errorf("parent: got %v, want %v", err, c.parent)
			}
			if err := <-answer; !errors.Is(err, c.want) || (err == nil) != (c.want == nil) {
				t.Errorf("nested: got %v, want %v", err, c.want)
			}
		})
	}
}
