package isolationtest

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"

	mesos "clusterd/api/mesos/v1"
	"clusterd/isolation"
)

// NewContainerizer makes a containerizer on a work directory and a runtime
// directory; the suite closes it. Called twice with the same directories it
// stands for an agent that restarts.
type NewContainerizer func(t *testing.T, workDir, runtimeDir string) isolation.Containerizer

type containerizerTest struct {
	new               NewContainerizer
	workDir, stateDir string
	isolation.Containerizer
}

// Containerizer is the conformance suite of isolation.Containerizer.
func Containerizer(t *testing.T, newContainerizer NewContainerizer) {
	run := func(name string, f func(t *testing.T, ct *containerizerTest)) {
		t.Run(name, func(t *testing.T) {
			ct := &containerizerTest{new: newContainerizer, workDir: t.TempDir(), stateDir: t.TempDir()}
			ct.Containerizer = ct.new(t, ct.workDir, ct.stateDir)
			t.Cleanup(func() { ct.clear(t) })
			if orphans, err := ct.Recover(testContext(t), nil); err != nil || len(orphans) != 0 {
				t.Fatalf("recover of nothing: got %v, %v", orphans, err)
			}
			f(t, ct)
		})
	}
	run("Life", testLife)
	run("Terminations", testTerminations)
	run("Environment", testEnvironment)
	run("FailedLaunch", testFailedLaunch)
	run("RefusedConfig", testRefusedConfig)
	run("Destroy", testDestroy)
	run("DestroyWhileLaunching", testDestroyWhileLaunching)
	run("CancelledLaunch", testCancelledLaunch)
	run("Unknown", testUnknownContainer)
	run("Usage", testUsage)
	run("PersistentVolume", testPersistentVolume)
	run("Recover", testRecover)
	run("RecoverOrphans", testRecoverOrphans)
	run("RecoverLost", testRecoverLost)
	run("RemoveForgets", testRemoveForgets)
	run("Closed", testClosed)
	run("Nested", testNested)
	run("NestedEnd", testNestedEnd)
	run("NestedOrphans", testNestedOrphans)
	run("Debug", testDebug)
	run("Standalone", testStandalone)
	run("Kill", testKill)
}

// clear removes what the test has left.
func (ct *containerizerTest) clear(t *testing.T) {
	t.Helper()
	_ = ct.Close()
	c := ct.new(t, ct.workDir, ct.stateDir)
	defer func() { _ = c.Close() }()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if _, err := c.Recover(ctx, nil); err != nil {
		t.Error(err)
	}
	for _, id := range c.Containers() { // standalone ones
		if err := errors.Join(c.Destroy(ctx, id), c.Remove(ctx, id)); err != nil {
			t.Error(err)
		}
	}
}

func (ct *containerizerTest) config(t *testing.T, script string) *isolation.ContainerConfig {
	t.Helper()
	return &isolation.ContainerConfig{
		ID: newID(), Sandbox: sandbox(t),
		FrameworkID: &mesos.FrameworkID{Value: new("f")}, ExecutorID: &mesos.ExecutorID{Value: new("e")},
		Command:   &mesos.CommandInfo{Value: &script},
		Env:       map[string]string{"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
		Resources: []*mesos.Resource{Scalar("cpus", 0.1), Scalar("cpus", 0.2), Scalar("mem", 32)},
	}
}

// Scalar makes a scalar resource.
func Scalar(name string, value float64) *mesos.Resource {
	return &mesos.Resource{Name: &name, Type: mesos.Value_SCALAR.Enum(), Scalar: &mesos.Value_Scalar{Value: &value}}
}

func (ct *containerizerTest) launch(t *testing.T, config *isolation.ContainerConfig) {
	t.Helper()
	if err := ct.Launch(testContext(t), config); err != nil {
		t.Fatal(err)
	}
}

func (ct *containerizerTest) wait(t *testing.T, config *isolation.ContainerConfig) isolation.Termination {
	t.Helper()
	got, err := ct.Wait(testContext(t), config.ID)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func (ct *containerizerTest) restart(t *testing.T, known ...*isolation.ContainerConfig) []*mesos.ContainerID {
	t.Helper()
	if err := ct.Close(); err != nil {
		t.Fatal(err)
	}
	ct.Containerizer = ct.new(t, ct.workDir, ct.stateDir)
	configs := make([]isolation.ContainerConfig, 0, len(known))
	for _, k := range known {
		configs = append(configs, *k)
	}
	orphans, err := ct.Recover(testContext(t), configs)
	if err != nil {
		t.Fatal(err)
	}
	return orphans
}

// containers fails the test when others than these are there.
func (ct *containerizerTest) containers(t *testing.T, want ...*mesos.ContainerID) {
	t.Helper()
	got := ct.Containers()
	keys := make(map[string]bool)
	for _, id := range want {
		keys[isolation.Key(id)] = true
	}
	for i, id := range got {
		if !keys[isolation.Key(id)] {
			t.Errorf("containers: %s is there", isolation.Key(id))
		}
		if i > 0 && isolation.Key(got[i-1]) >= isolation.Key(id) {
			t.Errorf("containers: not in order: %v", got)
		}
	}
	if len(got) != len(want) {
		t.Errorf("containers: got %v, want %v", got, want)
	}
}

func testLife(t *testing.T, ct *containerizerTest) {
	config := ct.config(t, "echo $$ >main.pid; pwd; echo oops >&2; "+waitForGo)
	ct.launch(t, config)
	ct.containers(t, config.ID)
	if err := ct.Launch(testContext(t), config); !errors.Is(err, isolation.ErrContainerExists) {
		t.Errorf("second launch: got %v, want %v", err, isolation.ErrContainerExists)
	}
	status, err := ct.Status(testContext(t), config.ID)
	if err != nil {
		t.Fatal(err)
	}
	want := &mesos.ContainerStatus{ContainerId: config.ID, ExecutorPid: new(uint32(readPID(t, filepath.Join(config.Sandbox, "main.pid"))))}
	if diff := cmp.Diff(want, status, protocmp.Transform()); diff != "" {
		t.Errorf("status (-want +got):\n%s", diff)
	}
	if err := ct.Remove(testContext(t), config.ID); err == nil {
		t.Error("remove of a running container: got no error")
	}
	release(t, config.Sandbox)
	if got := ct.wait(t, config); !got.StatusKnown || got.Status != 0 || got.Destroyed || got.Reason != nil {
		t.Errorf("termination: got %+v", got)
	}
	if got := readFile(t, filepath.Join(config.Sandbox, "stdout")); got != config.Sandbox {
		t.Errorf("stdout: got %q, want %q", got, config.Sandbox)
	}
	if got := readFile(t, filepath.Join(config.Sandbox, "stderr")); got != "oops" {
		t.Errorf("stderr: got %q", got)
	}
	ct.containers(t, config.ID)
	if err := ct.Remove(testContext(t), config.ID); err != nil {
		t.Fatal(err)
	}
	ct.containers(t)
	if err := ct.Remove(testContext(t), config.ID); err != nil {
		t.Errorf("second remove: got %v", err)
	}
}

func testTerminations(t *testing.T, ct *containerizerTest) {
	for _, c := range []struct {
		script  string
		status  int
		message string
	}{
		{"exit 3", 3 << 8, "Exited with status 3"},
		{"kill -TERM $$", 15, "Terminated with signal terminated"},
	} {
		config := ct.config(t, c.script)
		ct.launch(t, config)
		want := isolation.Termination{StatusKnown: true, Status: c.status, Message: c.message}
		if diff := cmp.Diff(want, ct.wait(t, config)); diff != "" {
			t.Errorf("termination of %q (-want +got):\n%s", c.script, diff)
		}
	}
}

func testEnvironment(t *testing.T, ct *containerizerTest) {
	config := ct.config(t, `echo "$A $B ${HOME-unset}"`)
	config.Env["A"], config.Env["B"] = "agent", "agent"
	config.Command.Environment = &mesos.Environment{Variables: []*mesos.Environment_Variable{{Name: new("B"), Value: new("command")}}}
	t.Setenv("HOME", "/agents/own")
	ct.launch(t, config)
	ct.wait(t, config)
	if got, want := readFile(t, filepath.Join(config.Sandbox, "stdout")), "agent command unset"; got != want {
		t.Errorf("environment: got %q, want %q", got, want)
	}
}

func testFailedLaunch(t *testing.T, ct *containerizerTest) {
	config := ct.config(t, "/no/such/program")
	config.Command.Shell = new(false)
	if err := ct.Launch(testContext(t), config); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("launch: got %v, want %v", err, fs.ErrNotExist)
	}
	ct.containers(t)
	if orphans := ct.restart(t); len(orphans) != 0 {
		t.Errorf("a failed launch left %v", orphans)
	}
	// The id is free again.
	config.Command = &mesos.CommandInfo{Value: new("exit 0")}
	ct.launch(t, config)
	ct.wait(t, config)
}

func testRefusedConfig(t *testing.T, ct *containerizerTest) {
	for name, change := range map[string]func(*isolation.ContainerConfig){
		"no id":            func(c *isolation.ContainerConfig) { c.ID = nil },
		"empty id":         func(c *isolation.ContainerConfig) { c.ID = &mesos.ContainerID{Value: new("")} },
		"id with a slash":  func(c *isolation.ContainerConfig) { c.ID = &mesos.ContainerID{Value: new("../x")} },
		"id with a dot":    func(c *isolation.ContainerConfig) { c.ID = &mesos.ContainerID{Value: new("a.b")} },
		"nested":           func(c *isolation.ContainerConfig) { c.ID.Parent = newID() },
		"relative sandbox": func(c *isolation.ContainerConfig) { c.Sandbox = "sandbox" },
		"no command":       func(c *isolation.ContainerConfig) { c.Command = nil },
		"docker": func(c *isolation.ContainerConfig) {
			c.ContainerInfo = &mesos.ContainerInfo{Type: mesos.ContainerInfo_DOCKER.Enum()}
		},
		"image": func(c *isolation.ContainerConfig) {
			c.ContainerInfo = &mesos.ContainerInfo{Type: mesos.ContainerInfo_MESOS.Enum(), Mesos: &mesos.ContainerInfo_MesosInfo{Image: &mesos.Image{}}}
		},
		"volumes": func(c *isolation.ContainerConfig) {
			c.ContainerInfo = &mesos.ContainerInfo{Type: mesos.ContainerInfo_MESOS.Enum(), Volumes: []*mesos.Volume{{
				Mode: mesos.Volume_RW.Enum(), ContainerPath: new("data"), HostPath: new("/srv/data"),
			}}}
		},
		"secret": func(c *isolation.ContainerConfig) {
			c.Command.Environment = &mesos.Environment{Variables: []*mesos.Environment_Variable{{Name: new("S"), Type: mesos.Environment_Variable_SECRET.Enum()}}}
		},
	} {
		config := ct.config(t, "exit 0")
		change(config)
		if err := ct.Launch(testContext(t), config); err == nil {
			t.Errorf("%s: got no error", name)
		}
	}
	ct.containers(t)
}

func testDestroy(t *testing.T, ct *containerizerTest) {
	config := ct.config(t, daemon+"sleep 1000")
	ct.launch(t, config)
	stray := readPID(t, filepath.Join(config.Sandbox, "daemon.pid"))
	var wg sync.WaitGroup
	for range 3 { // at the same time
		wg.Go(func() {
			if err := ct.Destroy(testContext(t), config.ID); err != nil {
				t.Error(err)
			}
			if alive(stray) {
				t.Error("daemon runs after destroy")
			}
		})
	}
	wg.Wait()
	want := isolation.Termination{StatusKnown: true, Status: int(syscall.SIGKILL), Destroyed: true, Message: "Container was destroyed"}
	if diff := cmp.Diff(want, ct.wait(t, config)); diff != "" {
		t.Errorf("termination (-want +got):\n%s", diff)
	}
	ended := ct.config(t, "exit 1")
	ct.launch(t, ended)
	ct.wait(t, ended)
	if err := ct.Destroy(testContext(t), ended.ID); err != nil {
		t.Errorf("destroy of an ended container: got %v", err)
	}
	if got := ct.wait(t, ended); got.Destroyed {
		t.Errorf("termination of a container that had ended before: got %+v", got)
	}
}

// testDestroyWhileLaunching meets a launch at all kinds of moments: either it
// fails, or the container ends.
func testDestroyWhileLaunching(t *testing.T, ct *containerizerTest) {
	for range 20 {
		config := ct.config(t, "echo $$ >main.pid; sleep 1000")
		var err error
		var wg sync.WaitGroup
		wg.Go(func() { err = ct.Launch(testContext(t), config) })
		eventually(t, "the container is known", func() bool {
			err := ct.Destroy(testContext(t), config.ID)
			return err == nil || !errors.Is(err, isolation.ErrUnknownContainer)
		})
		wg.Wait()
		if err != nil {
			if !errors.Is(err, isolation.ErrDestroyed) {
				t.Errorf("launch: got %v, want %v", err, isolation.ErrDestroyed)
			}
			ct.containers(t)
			continue
		}
		if got := ct.wait(t, config); !got.Destroyed {
			t.Errorf("termination: got %+v", got)
		}
		if err := ct.Remove(testContext(t), config.ID); err != nil {
			t.Error(err)
		}
	}
}

func testCancelledLaunch(t *testing.T, ct *containerizerTest) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	config := ct.config(t, "sleep 1000")
	if err := ct.Launch(ctx, config); !errors.Is(err, context.Canceled) {
		t.Errorf("launch: got %v, want %v", err, context.Canceled)
	}
	ct.containers(t)
	if orphans := ct.restart(t); len(orphans) != 0 {
		t.Errorf("a cancelled launch left %v", orphans)
	}
}

func testUnknownContainer(t *testing.T, ct *containerizerTest) {
	ctx, id := testContext(t), newID()
	_, waitErr := ct.Wait(ctx, id)
	_, statusErr := ct.Status(ctx, id)
	_, usageErr := ct.Usage(ctx, id)
	for what, err := range map[string]error{
		"wait": waitErr, "status": statusErr, "usage": usageErr, "destroy": ct.Destroy(ctx, id), "update": ct.Update(ctx, id, nil, nil),
	} {
		if !errors.Is(err, isolation.ErrUnknownContainer) {
			t.Errorf("%s: got %v, want %v", what, err, isolation.ErrUnknownContainer)
		}
	}
}

func testUsage(t *testing.T, ct *containerizerTest) {
	config := ct.config(t, "i=0; while [ $i -lt 60000 ]; do i=$((i+1)); done; echo >burnt; "+waitForGo)
	config.Limits = map[string]*mesos.Value_Scalar{"cpus": {Value: new(2.5)}}
	ct.launch(t, config)
	readFile(t, filepath.Join(config.Sandbox, "burnt"))
	usage := func() *mesos.ResourceStatistics {
		t.Helper()
		u, err := ct.Usage(testContext(t), config.ID)
		if err != nil {
			t.Fatal(err)
		}
		return u
	}
	var u *mesos.ResourceStatistics
	eventually(t, "the time is counted", func() bool { u = usage(); return u.GetCpusUserTimeSecs() > 0 })
	if u.GetMemRssBytes() < 100<<10 || u.GetTimestamp() < 1e9 || u.CpusSystemTimeSecs == nil {
		t.Errorf("usage: got %v", u)
	}
	if u.GetCpusSoftLimit() != 0.3 || u.GetCpusLimit() != 2.5 || u.GetMemLimitBytes() != 32<<20 || u.GetMemSoftLimitBytes() != 32<<20 {
		t.Errorf("allocation in usage: got %v", u)
	}
	if err := ct.Update(testContext(t), config.ID, []*mesos.Resource{Scalar("cpus", 1), Scalar("mem", 64)}, nil); err != nil {
		t.Fatal(err)
	}
	u = usage()
	if u.GetCpusSoftLimit() != 1 || u.CpusLimit != nil || u.GetMemLimitBytes() != 64<<20 {
		t.Errorf("allocation in usage after update: got %v", u)
	}
	// The next run of the agent goes on measuring.
	ct.restart(t, config)
	if again := usage(); again.GetCpusUserTimeSecs() < u.GetCpusUserTimeSecs() || again.GetMemRssBytes() == 0 {
		t.Errorf("usage after a restart: got %v, before %v", again, u)
	}
	release(t, config.Sandbox)
	ct.wait(t, config)
}

func volume(id, path string) *mesos.Resource {
	r := Scalar("disk", 10)
	r.Reservations = []*mesos.Resource_ReservationInfo{{Type: mesos.Resource_ReservationInfo_DYNAMIC.Enum(), Role: new("eng/dev")}}
	r.Disk = &mesos.Resource_DiskInfo{
		Persistence: &mesos.Resource_DiskInfo_Persistence{Id: &id},
		Volume:      &mesos.Volume{Mode: mesos.Volume_RW.Enum(), ContainerPath: &path},
	}
	return r
}

func testPersistentVolume(t *testing.T, ct *containerizerTest) {
	dir := filepath.Join(ct.workDir, "volumes", "roles", "eng dev", "vol1")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	config := ct.config(t, "echo kept >data/file; "+waitForGo)
	config.Resources = append(config.Resources, volume("vol1", "data"))
	ct.launch(t, config)
	if got := readFile(t, filepath.Join(dir, "file")); got != "kept" {
		t.Errorf("file in the volume: got %q", got)
	}
	ct.restart(t, config)
	if err := ct.Update(testContext(t), config.ID, config.Resources, nil); err != nil {
		t.Errorf("update with the same volume: %v", err)
	}
	if err := ct.Update(testContext(t), config.ID, nil, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(filepath.Join(config.Sandbox, "data")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("link after its volume went: %v", err)
	}
	if got := readFile(t, filepath.Join(dir, "file")); got != "kept" {
		t.Errorf("file in the volume: got %q", got)
	}
	release(t, config.Sandbox)
	ct.wait(t, config)
	missing := ct.config(t, "exit 0")
	missing.Resources = append(missing.Resources, volume("vol2", "data"))
	if err := ct.Launch(testContext(t), missing); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("launch with a volume that is not there: got %v", err)
	}
}

func testRecover(t *testing.T, ct *containerizerTest) {
	running, ended := ct.config(t, waitForGo+"exit 4"), ct.config(t, waitForGo+"exit 5")
	ct.launch(t, running)
	ct.launch(t, ended)
	if err := ct.Close(); err != nil {
		t.Fatal(err)
	}
	release(t, ended.Sandbox)
	if orphans := ct.restart(t, running, ended); len(orphans) != 0 {
		t.Errorf("orphans: got %v", orphans)
	}
	ct.containers(t, running.ID, ended.ID)
	if got := ct.wait(t, ended); !got.StatusKnown || got.Status != 5<<8 {
		t.Errorf("termination of the one that ended: got %+v", got)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if got, err := ct.Wait(ctx, running.ID); !errors.Is(err, context.Canceled) {
		t.Errorf("wait for the one that runs: got %+v, %v", got, err)
	}
	release(t, running.Sandbox)
	if got := ct.wait(t, running); !got.StatusKnown || got.Status != 4<<8 {
		t.Errorf("termination of the one that ran: got %+v", got)
	}
}

func testRecoverOrphans(t *testing.T, ct *containerizerTest) {
	known, orphan, ended := ct.config(t, "sleep 1000"), ct.config(t, daemon+"sleep 1000"), ct.config(t, "exit 0")
	for _, c := range []*isolation.ContainerConfig{known, orphan, ended} {
		ct.launch(t, c)
	}
	stray := readPID(t, filepath.Join(orphan.Sandbox, "daemon.pid"))
	ct.wait(t, ended)
	orphans := ct.restart(t, known)
	want := map[string]bool{isolation.Key(orphan.ID): true, isolation.Key(ended.ID): true}
	if len(orphans) != 2 || !want[isolation.Key(orphans[0])] || !want[isolation.Key(orphans[1])] {
		t.Errorf("orphans: got %v, want %v", orphans, want)
	}
	if alive(stray) {
		t.Error("an orphan's daemon runs")
	}
	ct.containers(t, known.ID)
	if orphans := ct.restart(t, known); len(orphans) != 0 {
		t.Errorf("orphans of the next recovery: got %v", orphans)
	}
	if err := ct.Destroy(testContext(t), known.ID); err != nil {
		t.Error(err)
	}
}

// testRecoverLost: the agent knows a container of which nothing is left, as
// after a reboot, or when it died before it had launched it.
func testRecoverLost(t *testing.T, ct *containerizerTest) {
	config := ct.config(t, "exit 0")
	ct.restart(t, config)
	if got := ct.wait(t, config); got.StatusKnown || got.Message == "" {
		t.Errorf("termination: got %+v", got)
	}
	if err := ct.Destroy(testContext(t), config.ID); err != nil {
		t.Error(err)
	}
	if err := ct.Remove(testContext(t), config.ID); err != nil {
		t.Error(err)
	}
	ct.containers(t)
}

func testRemoveForgets(t *testing.T, ct *containerizerTest) {
	config := ct.config(t, "exit 9")
	ct.launch(t, config)
	ct.wait(t, config)
	ct.restart(t, config)
	if got := ct.wait(t, config); got.Status != 9<<8 {
		t.Errorf("termination before remove: got %+v", got)
	}
	if err := ct.Remove(testContext(t), config.ID); err != nil {
		t.Fatal(err)
	}
	if orphans := ct.restart(t); len(orphans) != 0 {
		t.Errorf("after remove there is still %v", orphans)
	}
	if _, err := os.Stat(config.Sandbox); err != nil {
		t.Errorf("sandbox: %v", err)
	}
}

func testClosed(t *testing.T, ct *containerizerTest) {
	config := ct.config(t, "echo $$ >main.pid; "+waitForGo)
	ct.launch(t, config)
	main := readPID(t, filepath.Join(config.Sandbox, "main.pid"))
	waited := make(chan error)
	go func() {
		_, err := ct.Wait(testContext(t), config.ID)
		waited <- err
	}()
	if err := ct.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-waited; !errors.Is(err, isolation.ErrClosed) {
		t.Errorf("wait: got %v, want %v", err, isolation.ErrClosed)
	}
	if err := ct.Launch(testContext(t), ct.config(t, "exit 0")); !errors.Is(err, isolation.ErrClosed) {
		t.Errorf("launch: got %v, want %v", err, isolation.ErrClosed)
	}
	if !alive(main) {
		t.Error("the container ended with its containerizer")
	}
	release(t, config.Sandbox)
	ct.restart(t, config)
	ct.wait(t, config)
}
