package isolationtest

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	mesos "clusterd/api/mesos/v1"
	"clusterd/isolation"
)

// NewIsolator makes an isolator on a work directory.
type NewIsolator func(t *testing.T, workDir string) isolation.Isolator

// Isolator is the conformance suite of isolation.Isolator. It knows nothing of
// what the isolator isolates: it calls in all the orders that are allowed, and
// for containers that are unknown. An isolator that remembers nothing of its
// containers may say nothing of unknown ones, but then it must be so in every method.
func Isolator(t *testing.T, name string, newIsolator NewIsolator) {
	config := func(t *testing.T) *isolation.ContainerConfig {
		t.Helper()
		return &isolation.ContainerConfig{
			ID: newID(), Sandbox: sandbox(t), Command: &mesos.CommandInfo{},
			Resources: []*mesos.Resource{Scalar("cpus", 1), Scalar("mem", 32)},
		}
	}
	run := func(what string, f func(t *testing.T, i isolation.Isolator)) {
		t.Run(what, func(t *testing.T) { f(t, newIsolator(t, t.TempDir())) })
	}
	run("Life", func(t *testing.T, i isolation.Isolator) {
		if i.Name() != name {
			t.Errorf("name: got %q, want %q", i.Name(), name)
		}
		c := config(t)
		ctx := testContext(t)
		if _, err := i.Prepare(ctx, c); err != nil {
			t.Fatal(err)
		}
		if _, err := i.Prepare(ctx, c); !stateless(t, i) && !errors.Is(err, isolation.ErrContainerExists) {
			t.Errorf("second prepare: got %v, want %v", err, isolation.ErrContainerExists)
		}
		// Before there is a process nothing is measured, and that is no error.
		checkKnown(t, i, c)
		if err := i.Isolate(ctx, c.ID, os.Getpid()); err != nil {
			t.Fatal(err)
		}
		checkKnown(t, i, c)
		for range 2 {
			if err := i.Cleanup(ctx, c.ID); err != nil {
				t.Fatal(err)
			}
		}
		checkUnknown(t, i, c)
		// The id may come again.
		if _, err := i.Prepare(ctx, c); err != nil {
			t.Fatal(err)
		}
		if err := i.Cleanup(ctx, c.ID); err != nil {
			t.Fatal(err)
		}
	})
	run("Unknown", func(t *testing.T, i isolation.Isolator) {
		c := config(t)
		checkUnknown(t, i, c)
		if err := i.Cleanup(testContext(t), c.ID); err != nil {
			t.Errorf("cleanup: got %v", err)
		}
	})
	run("Recover", func(t *testing.T, i isolation.Isolator) {
		running, ended, orphan := config(t), config(t), config(t)
		states := []isolation.ContainerState{{Config: running, PID: os.Getpid()}, {Config: ended}}
		if err := i.Recover(testContext(t), states, []*mesos.ContainerID{orphan.ID}); err != nil {
			t.Fatal(err)
		}
		checkKnown(t, i, running)
		checkKnown(t, i, ended)
		for _, c := range []*isolation.ContainerConfig{running, ended, orphan} {
			if err := i.Cleanup(testContext(t), c.ID); err != nil {
				t.Errorf("cleanup: got %v", err)
			}
			checkUnknown(t, i, c)
		}
	})
	run("FailedPrepare", func(t *testing.T, i isolation.Isolator) {
		c := config(t)
		c.Sandbox = filepath.Join(c.Sandbox, "not there")
		if _, err := i.Prepare(testContext(t), c); err != nil {
			checkUnknown(t, i, c)
		}
		if err := i.Cleanup(testContext(t), c.ID); err != nil {
			t.Errorf("cleanup: got %v", err)
		}
	})
}

func checkKnown(t *testing.T, i isolation.Isolator, c *isolation.ContainerConfig) {
	t.Helper()
	for what, err := range calls(t, i, c) {
		if err != nil {
			t.Errorf("%s: got %v", what, err)
		}
	}
	limits, err := i.Watch(c.ID)
	if err != nil {
		t.Fatalf("watch: got %v", err)
	}
	select {
	case l := <-limits:
		t.Errorf("watch: got %+v of a container that does nothing", l)
	default:
	}
}

func checkUnknown(t *testing.T, i isolation.Isolator, c *isolation.ContainerConfig) {
	t.Helper()
	errs := calls(t, i, c)
	errs["isolate"] = i.Isolate(testContext(t), c.ID, os.Getpid())
	_, errs["watch"] = i.Watch(c.ID)
	forgets := stateless(t, i)
	for what, err := range errs {
		if forgets && err != nil {
			t.Errorf("%s of an isolator that remembers nothing: got %v", what, err)
		}
		if !forgets && !errors.Is(err, isolation.ErrUnknownContainer) {
			t.Errorf("%s of an unknown container: got %v, want %v", what, err, isolation.ErrUnknownContainer)
		}
	}
}

// stateless says whether an isolator remembers nothing: it has nothing to say of a
// container that nobody knows.
func stateless(t *testing.T, i isolation.Isolator) bool {
	t.Helper()
	return i.Usage(testContext(t), newID(), &mesos.ResourceStatistics{}) == nil
}

func calls(t *testing.T, i isolation.Isolator, c *isolation.ContainerConfig) map[string]error {
	ctx := testContext(t)
	return map[string]error{
		"update": i.Update(ctx, c.ID, c.Resources, c.Limits),
		"usage":  i.Usage(ctx, c.ID, &mesos.ResourceStatistics{}),
		"status": i.Status(ctx, c.ID, &mesos.ContainerStatus{}),
	}
}
