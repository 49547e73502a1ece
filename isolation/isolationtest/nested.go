package isolationtest

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	mesos "clusterd/api/mesos/v1"
	"clusterd/isolation"
)

// nested makes the configuration of a container in another.
func (ct *containerizerTest) nested(t *testing.T, parent *isolation.ContainerConfig, script string) *isolation.ContainerConfig {
	t.Helper()
	config := ct.config(t, script)
	config.ID.Parent = parent.ID
	config.Sandbox = filepath.Join(parent.Sandbox, "containers", config.ID.GetValue())
	if err := os.MkdirAll(config.Sandbox, 0o755); err != nil {
		t.Fatal(err)
	}
	config.Resources = nil
	return config
}

// debug makes the configuration of a container that looks into another.
func (ct *containerizerTest) debug(t *testing.T, parent *isolation.ContainerConfig, script string) *isolation.ContainerConfig {
	t.Helper()
	config := ct.nested(t, parent, script)
	config.Class, config.Env = isolation.ClassDebug, nil
	return config
}

func testNested(t *testing.T, ct *containerizerTest) {
	parent := ct.config(t, waitForGo+"exit 2")
	ct.launch(t, parent)
	child := ct.nested(t, parent, "echo $$ >main.pid; "+waitForGo+"exit 3")
	ct.launch(t, child)
	deep := ct.nested(t, child, "echo hello; "+waitForGo+"exit 4")
	ct.launch(t, deep)
	ct.containers(t, parent.ID, child.ID, deep.ID)
	if got := readFile(t, filepath.Join(deep.Sandbox, "stdout")); got != "hello" {
		t.Errorf("output of the deepest: got %q", got)
	}
	if err := ct.Launch(testContext(t), child); !errors.Is(err, isolation.ErrContainerExists) {
		t.Errorf("second launch: got %v", err)
	}
	release(t, deep.Sandbox)
	if got := ct.wait(t, deep); !got.StatusKnown || got.Status != 4<<8 || got.Destroyed {
		t.Errorf("termination of the deepest: got %+v", got)
	}
	// Over a restart, running and ended ones.
	if orphans := ct.restart(t, parent); len(orphans) != 0 {
		t.Errorf("orphans: got %v", orphans)
	}
	ct.containers(t, parent.ID, child.ID, deep.ID)
	if got := ct.wait(t, deep); !got.StatusKnown || got.Status != 4<<8 {
		t.Errorf("termination of the deepest after a restart: got %+v", got)
	}
	if err := ct.Remove(testContext(t), child.ID); err == nil {
		t.Error("remove of a running nested container: got no error")
	}
	if err := ct.Remove(testContext(t), deep.ID); err != nil {
		t.Error(err)
	}
	release(t, child.Sandbox)
	if got := ct.wait(t, child); !got.StatusKnown || got.Status != 3<<8 {
		t.Errorf("termination of the child: got %+v", got)
	}
	release(t, parent.Sandbox)
	if got := ct.wait(t, parent); !got.StatusKnown || got.Status != 2<<8 {
		t.Errorf("termination of the parent: got %+v", got)
	}
	if err := ct.Launch(testContext(t), ct.nested(t, parent, "exit 0")); !errors.Is(err, isolation.ErrUnknownContainer) {
		t.Errorf("launch in a container that has ended: got %v", err)
	}
	if err := ct.Remove(testContext(t), parent.ID); err != nil {
		t.Fatal(err)
	}
	ct.containers(t) // the child went with it
	if err := ct.Launch(testContext(t), ct.nested(t, parent, "exit 0")); !errors.Is(err, isolation.ErrUnknownContainer) {
		t.Errorf("launch in an unknown container: got %v", err)
	}
}

// testNestedEnd: nothing outlives the container that it is nested in, however that ends.
func testNestedEnd(t *testing.T, ct *containerizerTest) {
	for name, end := range map[string]func(parent *isolation.ContainerConfig){
		"by itself": func(p *isolation.ContainerConfig) { release(t, p.Sandbox) },
		"destroyed": func(p *isolation.ContainerConfig) {
			if err := ct.Destroy(testContext(t), p.ID); err != nil {
				t.Error(err)
			}
		},
	} {
		parent := ct.config(t, waitForGo)
		ct.launch(t, parent)
		child := ct.nested(t, parent, daemon+"sleep 1000")
		ct.launch(t, child)
		deep := ct.nested(t, child, "echo $$ >main.pid; sleep 1000")
		ct.launch(t, deep)
		stray, main := readPID(t, filepath.Join(child.Sandbox, "daemon.pid")), readPID(t, filepath.Join(deep.Sandbox, "main.pid"))
		end(parent)
		ct.wait(t, parent)
		if alive(stray) || alive(main) {
			t.Errorf("%s: daemon of the child runs: %v, deepest runs: %v", name, alive(stray), alive(main))
		}
		for _, c := range []*isolation.ContainerConfig{child, deep} {
			if got := ct.wait(t, c); !got.StatusKnown || got.Status != int(syscall.SIGKILL) {
				t.Errorf("%s: termination of a nested container: got %+v", name, got)
			}
		}
		if err := ct.Remove(testContext(t), parent.ID); err != nil {
			t.Error(err)
		}
		ct.containers(t)
	}
}

func testDebug(t *testing.T, ct *containerizerTest) {
	parent := ct.config(t, "cd /; echo ready; "+strings.ReplaceAll(waitForGo, " go ", " $MESOS_SANDBOX/go "))
	parent.Env["MESOS_SANDBOX"], parent.Env["A"] = parent.Sandbox, "parent's"
	parent.Command.Environment = &mesos.Environment{Variables: []*mesos.Environment_Variable{{Name: new("B"), Value: new("command's")}}}
	ct.launch(t, parent)
	readFile(t, filepath.Join(parent.Sandbox, "stdout"))
	for _, when := range []string{"before", "after"} {
		debug := ct.debug(t, parent, `echo "$A $B $C $MESOS_SANDBOX"; pwd; env | grep -c ^CLUSTERD`)
		debug.Command.Environment = &mesos.Environment{Variables: []*mesos.Environment_Variable{{Name: new("C"), Value: new("own")}}}
		ct.launch(t, debug)
		if got := ct.wait(t, debug); !got.StatusKnown || got.Status != 0 {
			t.Errorf("%s a restart: termination: got %+v", when, got)
		}
		want := "parent's command's own " + parent.Sandbox + "\n" + parent.Sandbox + "\n1"
		if got := readFile(t, filepath.Join(debug.Sandbox, "stdout")); got != want {
			t.Errorf("%s a restart: got %q, want %q", when, got, want)
		}
		if when == "before" {
			ct.restart(t, parent)
		}
	}
	// Nobody is attached to one after a restart.
	debug := ct.debug(t, parent, "echo $$ >$MESOS_SANDBOX/debug.pid; sleep 1000")
	ct.launch(t, debug)
	pid := readPID(t, filepath.Join(parent.Sandbox, "debug.pid"))
	orphans := ct.restart(t, parent)
	found := false
	for _, id := range orphans {
		found = found || isolation.Key(id) == isolation.Key(debug.ID)
	}
	if !found || alive(pid) {
		t.Errorf("a DEBUG container after a restart: orphans %v, runs: %v", orphans, alive(pid))
	}
	if _, err := ct.Wait(testContext(t), debug.ID); !errors.Is(err, isolation.ErrUnknownContainer) {
		t.Errorf("wait for it: got %v", err)
	}
	alone := ct.config(t, "exit 0")
	alone.Class = isolation.ClassDebug
	if err := ct.Launch(testContext(t), alone); err == nil {
		t.Error("DEBUG without a parent: got no error")
	}
	release(t, parent.Sandbox)
	ct.wait(t, parent)
}

// testStandalone: what belongs to no framework is remembered without the agent.
func testStandalone(t *testing.T, ct *containerizerTest) {
	alone := ct.config(t, waitForGo+"exit 5")
	alone.FrameworkID, alone.ExecutorID = nil, nil
	ct.launch(t, alone)
	child := ct.nested(t, alone, waitForGo+"exit 6")
	child.FrameworkID, child.ExecutorID = nil, nil
	ct.launch(t, child)
	if orphans := ct.restart(t); len(orphans) != 0 {
		t.Errorf("orphans: got %v", orphans)
	}
	ct.containers(t, alone.ID, child.ID)
	release(t, child.Sandbox)
	if got := ct.wait(t, child); !got.StatusKnown || got.Status != 6<<8 {
		t.Errorf("termination of the child: got %+v", got)
	}
	release(t, alone.Sandbox)
	if got := ct.wait(t, alone); !got.StatusKnown || got.Status != 5<<8 {
		t.Errorf("termination: got %+v", got)
	}
	ct.restart(t)
	if got := ct.wait(t, alone); got.Status != 5<<8 {
		t.Errorf("termination after another restart: got %+v", got)
	}
	if err := ct.Remove(testContext(t), alone.ID); err != nil {
		t.Error(err)
	}
	ct.containers(t)
	ct.restart(t)
	ct.containers(t)
}

// testNestedOrphans: the children of a container that nobody knows go with it.
func testNestedOrphans(t *testing.T, ct *containerizerTest) {
	parent := ct.config(t, "sleep 1000")
	ct.launch(t, parent)
	child := ct.nested(t, parent, "echo $$ >main.pid; sleep 1000")
	ct.launch(t, child)
	main := readPID(t, filepath.Join(child.Sandbox, "main.pid"))
	if orphans := ct.restart(t); len(orphans) != 2 {
		t.Errorf("orphans: got %v", orphans)
	}
	if alive(main) {
		t.Error("a nested container of an orphan runs")
	}
	ct.containers(t)
	if orphans := ct.restart(t); len(orphans) != 0 {
		t.Errorf("orphans of the next recovery: got %v", orphans)
	}
}

func testKill(t *testing.T, ct *containerizerTest) {
	config := ct.config(t, "trap 'echo got; exit 7' USR1; echo ready; while :; do sleep 0.02; done")
	ct.launch(t, config)
	readFile(t, filepath.Join(config.Sandbox, "stdout"))
	if err := ct.Kill(testContext(t), config.ID, syscall.SIGUSR1); err != nil {
		t.Fatal(err)
	}
	if got := ct.wait(t, config); !got.StatusKnown || got.Status != 7<<8 || got.Destroyed {
		t.Errorf("termination: got %+v", got)
	}
	if err := ct.Kill(testContext(t), config.ID, syscall.SIGUSR1); err != nil {
		t.Errorf("kill of an ended container: got %v", err)
	}
	if err := ct.Kill(testContext(t), newID(), syscall.SIGUSR1); !errors.Is(err, isolation.ErrUnknownContainer) {
		t.Errorf("kill of an unknown container: got %v", err)
	}
}
