package e2e

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/moby/moby/api/pkg/stdcopy"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
	"github.com/moby/moby/client"

	mesos "clusterd/api/mesos/v1"
	"clusterd/internal/dockertest"
	"clusterd/internal/testcluster"
)

// agentImage is the image that the agent of these tests runs in.
const agentImage = "clusterd-agent:1"

// importAgent makes an image of clusterd and next to nothing else.
func importAgent(ctx context.Context, t *testing.T, engine *dockertest.Engine) {
	t.Helper()
	path, err := testcluster.Binary()
	if err != nil {
		t.Fatal(err)
	}
	program, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range []struct {
		name string
		body []byte
		mode int64
	}{
		{"usr/bin/clusterd", program, 0o755},
		{"etc/passwd", []byte("root:x:0:0::/:/bin/sh\n"), 0o644},
		{"etc/group", []byte("root:x:0:\n"), 0o644},
	} {
		if err := w.WriteHeader(&tar.Header{Name: f.name, Mode: f.mode, Size: int64(len(f.body))}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(f.body); err != nil {
			t.Fatal(err)
		}
	}
	err = errors.Join(w.WriteHeader(&tar.Header{Name: "tmp/", Typeflag: tar.TypeDir, Mode: 0o1777}), w.Close())
	if err != nil {
		t.Fatal(err)
	}
	answer, err := engine.Client.ImageImport(ctx, client.ImageImportSource{Source: &b, SourceName: "-"}, agentImage,
		client.ImageImportOptions{Changes: []string{`ENTRYPOINT ["/usr/bin/clusterd"]`}})
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Close()
	if text, err := io.ReadAll(answer); err != nil || bytes.Contains(text, []byte(`"error"`)) {
		t.Fatalf("import: %v %s", err, text)
	}
}

// boxedAgent is an agent that runs in a container of an engine, as
//
//	docker run --pid=host --net=host --cap-add=SYS_ADMIN --cap-add=SYS_PTRACE -v DIR:DIR ... IMAGE agent ...
type boxedAgent struct {
	t      *testing.T
	engine *dockertest.Engine
	dir    string
	args   []string
	// pidMode is the engine's word for the processes that the agent sees.
	pidMode container.PidMode
	// hide, if set, is a directory that is another one in the agent's container.
	hide string
	runs int
	name string
}

func newBoxedAgent(t *testing.T, engine *dockertest.Engine, c *testcluster.Cluster, more ...string) *boxedAgent {
	t.Helper()
	// The path of a socket is short.
	dir, err := os.MkdirTemp("", "cda") //nolint:usetesting // t.TempDir is too long
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range []string{"w", "r"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	ports, err := testcluster.Ports(2)
	if err != nil {
		t.Fatal(err)
	}
	a := &boxedAgent{t: t, engine: engine, dir: dir, pidMode: "host", args: append([]string{
		"agent", "--master=" + c.Master.Addr, "--ip=127.0.0.1", fmt.Sprintf("--port=%d", ports[0]), fmt.Sprintf("--gossip_port=%d", ports[1]),
		"--hostname=localhost", "--work_dir=" + dir + "/w", "--runtime_dir=" + dir + "/r", "--registration_backoff_factor=50ms",
		"--resources=cpus:4;mem:2048;disk:1024", "--containerizers=docker", "--docker_socket=" + engine.Socket, "--docker_remove_delay=0ns",
	}, more...)}
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(a.log())
		}
		a.kill()
		for _, pid := range testcluster.Processes(dir) {
			t.Errorf("process %d is left", pid)
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return a
}

// run starts the agent, in a new container.
func (a *boxedAgent) run(ctx context.Context) {
	a.t.Helper()
	a.runs++
	a.name = fmt.Sprintf("agent-%s-%d", filepath.Base(a.dir), a.runs)
	var mounts []mount.Mount
	for _, path := range []string{a.dir, filepath.Dir(a.engine.Socket)} {
		mounts = append(mounts, mount.Mount{
			Type: mount.TypeBind, Source: path, Target: path, BindOptions: &mount.BindOptions{NonRecursive: true},
		})
	}
	if a.hide != "" {
		mounts = append(mounts, mount.Mount{Type: mount.TypeTmpfs, Target: a.hide})
	}
	_, err := a.engine.Client.ContainerCreate(ctx, client.ContainerCreateOptions{
		Name: a.name, Config: &container.Config{Image: agentImage, Cmd: a.args},
		HostConfig: &container.HostConfig{CapAdd: []string{"SYS_ADMIN", "SYS_PTRACE"}, PidMode: a.pidMode, NetworkMode: "host", Mounts: mounts},
	})
	if err == nil {
		_, err = a.engine.Client.ContainerStart(ctx, a.name, client.ContainerStartOptions{})
	}
	if err != nil {
		a.t.Fatal(err)
	}
}

// kill ends the agent with all that runs in its container, and removes that.
func (a *boxedAgent) kill() {
	a.t.Helper()
	if a.name == "" {
		return
	}
	_, err := a.engine.Client.ContainerRemove(context.Background(), a.name, client.ContainerRemoveOptions{Force: true})
	if err != nil {
		a.t.Error(err)
	}
	a.name = ""
}

// log is what the agent of the container that there is now has logged.
func (a *boxedAgent) log() string {
	if a.name == "" {
		return ""
	}
	answer, err := a.engine.Client.ContainerLogs(context.Background(), a.name, client.ContainerLogsOptions{ShowStdout: true, ShowStderr: true})
	if err != nil {
		return err.Error()
	}
	defer answer.Close()
	var b strings.Builder
	_, _ = stdcopy.StdCopy(&b, &b, answer)
	return b.String()
}

// end tells the task of endsWhenTold to end.
func (a *boxedAgent) end(executor string) {
	a.t.Helper()
	found, _ := filepath.Glob(filepath.Join(a.dir, "w", "slaves", "*", "frameworks", "*", "executors", executor, "runs", "latest"))
	if len(found) != 1 {
		a.t.Fatalf("sandbox of %s: got %v", executor, found)
	}
	if err := os.WriteFile(filepath.Join(found[0], "end"), nil, 0o600); err != nil {
		a.t.Fatal(err)
	}
}

const endsWhenTold = `echo begins; while ! test -e $MESOS_SANDBOX/end; do sleep 1; done; echo ends; exit 3`

func (a *boxedAgent) inspect(ctx context.Context, name string) container.InspectResponse {
	a.t.Helper()
	found, err := a.engine.Client.ContainerInspect(ctx, name, client.ContainerInspectOptions{})
	if err != nil {
		a.t.Fatal(err)
	}
	return found.Container
}

// TestDockerMesosImage: agents that run in containers of the engine.
func TestDockerMesosImage(t *testing.T) {
	engine := dockertest.Start(t)
	t.Cleanup(func() {
		if err := engine.Close(); err != nil {
			t.Error(err)
		}
	})
	importAgent(t.Context(), t, engine)
	for name, test := range map[string]func(*testing.T, *dockertest.Engine){
		"task": testBoxedTask, "executor": testBoxedExecutor, "without": testBoxedWithout, "wrong": testBoxedWrong,
	} {
		t.Run(name, func(t *testing.T) { test(t, engine) })
	}
	nothingLeft(t.Context(), t, engine)
}

// testBoxedTask: the agent's container is killed and removed with all that runs in it. A task
// goes on, its executor too, which is in another container of the agent's image, and the next
// agent has them.
func testBoxedTask(t *testing.T, engine *dockertest.Engine) {
	ctx, c := boxedWorld(t)
	f := subscribe(t, c, "boxed")
	a := newBoxedAgent(t, engine, c, "--docker_mesos_image="+agentImage)
	a.run(ctx)

	boxed := dockerTask("boxed", "httpd -p 8080 -h /tmp && "+endsWhenTold)
	// The executor enters the task's network for that.
	boxed.HealthCheck = &mesos.HealthCheck{
		Type: mesos.HealthCheck_TCP.Enum(), Tcp: &mesos.HealthCheck_TCPCheckInfo{Port: new(uint32(8080))},
		IntervalSeconds: new(0.1), DelaySeconds: new(0.0), GracePeriodSeconds: new(60.0),
	}
	f.launchIn(ctx, boxed)
	f.update(ctx, mesos.TaskState_TASK_STARTING)
	id := f.update(ctx, mesos.TaskState_TASK_RUNNING).GetContainerStatus().GetContainerId().GetValue()
	if s := f.update(ctx, mesos.TaskState_TASK_RUNNING); !s.GetHealthy() {
		t.Errorf("after the check: got %v", s)
	}
	task, executor := a.inspect(ctx, "mesos-"+id), a.inspect(ctx, "mesos-"+id+".executor")
	if executor.Config.Image != agentImage || !executor.State.Running {
		t.Errorf("the executor's container: got image %s, %+v", executor.Config.Image, executor.State)
	}

	a.kill()
	for _, was := range []container.InspectResponse{task, executor} {
		if is := a.inspect(ctx, was.ID); !is.State.Running || is.State.Pid != was.State.Pid {
			t.Errorf("%s after the end of the agent's container: got %+v, had process %d", was.Name, is.State, was.State.Pid)
		}
	}
	a.run(ctx)
	if err := c.WaitAgents(1); err != nil {
		t.Fatal(err)
	}
	a.end("boxed")
	last := f.nextStatus(ctx)
	for !terminal(last.GetState()) { // what was not acknowledged comes again
		last = f.nextStatus(ctx)
	}
	if last.GetState() != mesos.TaskState_TASK_FAILED || last.GetMessage() != "Command exited with status 3" || last.GetContainerStatus().GetContainerId().GetValue() != id {
		t.Errorf("the end: got %v, want the exit status of container %s", last, id)
	}
	if out, err := filepath.Glob(filepath.Join(a.dir, "w", "slaves", "*", "frameworks", "*", "executors", "boxed", "runs", "latest", "stdout")); err != nil || len(out) != 1 {
		t.Errorf("stdout: got %v, %v", out, err)
	} else if text, err := os.ReadFile(out[0]); err != nil || string(text) != "begins\nends\n" {
		t.Errorf("stdout: got %q, %v", text, err)
	}
	a.onlyAgentLeft(ctx)
}

// testBoxedExecutor: the same with an executor of the framework's own, which is
// told to end by the next agent.
func testBoxedExecutor(t *testing.T, engine *dockertest.Engine) {
	ctx, c := boxedWorld(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	f := subscribe(t, c, "boxed-executor")
	a := newBoxedAgent(t, engine, c, "--docker_mesos_image="+agentImage)
	a.run(ctx)
	task := ownExecutorTask(f, self)
	f.launchIn(ctx, task)
	id := f.update(ctx, mesos.TaskState_TASK_RUNNING).GetContainerStatus().GetContainerId().GetValue()
	was := a.inspect(ctx, "mesos-"+id)
	a.kill()
	a.run(ctx)
	if err := c.WaitAgents(1); err != nil {
		t.Fatal(err)
	}
	if is := a.inspect(ctx, was.ID); !is.State.Running || is.State.Pid != was.State.Pid {
		t.Errorf("after the agent's restart: got %+v, had process %d", is.State, was.State.Pid)
	}
	if err := f.client.Kill(ctx, task.GetTaskId(), task.GetAgentId(), nil); err != nil {
		t.Fatal(err)
	}
	f.killed(ctx)
	if err := f.client.Shutdown(ctx, task.GetExecutor().GetExecutorId(), task.GetAgentId()); err != nil {
		t.Fatal(err)
	}
	a.onlyAgentLeft(ctx)
}

// testBoxedWithout: without the image the executor is in the agent's container, and
// ends with it. The next agent says so, and leaves nothing of the task.
func testBoxedWithout(t *testing.T, engine *dockertest.Engine) {
	ctx, c := boxedWorld(t)
	f := subscribe(t, c, "unboxed")
	a := newBoxedAgent(t, engine, c)
	a.run(ctx)
	f.launchIn(ctx, dockerTask("unboxed", endsWhenTold))
	f.update(ctx, mesos.TaskState_TASK_STARTING)
	f.update(ctx, mesos.TaskState_TASK_RUNNING)
	a.kill()
	a.run(ctx)
	last := f.nextStatus(ctx)
	for !terminal(last.GetState()) {
		last = f.nextStatus(ctx)
	}
	if strings.Contains(last.GetMessage(), "exited with status") {
		t.Errorf("the end: got %v", last)
	}
	a.onlyAgentLeft(ctx)
}

// testBoxedWrong: an agent that cannot have containers for executors does not
// start, and says why.
func testBoxedWrong(t *testing.T, engine *dockertest.Engine) {
	ctx, c := boxedWorld(t)
	for _, test := range []struct {
		name, image, says string
		change            func(*boxedAgent)
	}{
		{"image without clusterd", dockertest.Image, "/usr/bin/clusterd", func(*boxedAgent) {}},
		{"no image", "127.0.0.1:1/no/such:image", "pull image 127.0.0.1:1/no/such:image", func(*boxedAgent) {}},
		{"processes of its own", agentImage, "docker run --pid=host", func(a *boxedAgent) { a.pidMode = "" }},
		{"directory of its own", agentImage, "bind source path does not exist: /only/here", func(a *boxedAgent) {
			a.args[slices.Index(a.args, "--runtime_dir="+a.dir+"/r")] = "--runtime_dir=/only/here"
		}},
		{"directory that is another on the machine", agentImage, "the agent's --runtime_dir is not the machine's", func(a *boxedAgent) {
			a.hide = a.dir + "/r"
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			a := newBoxedAgent(t, engine, c, "--docker_mesos_image="+test.image)
			test.change(a)
			a.run(ctx)
			ended := engine.Client.ContainerWait(ctx, a.name, client.ContainerWaitOptions{Condition: container.WaitConditionNotRunning})
			select {
			case s := <-ended.Result:
				if s.StatusCode == 0 {
					t.Errorf("exit status: got 0")
				}
			case err := <-ended.Error:
				t.Fatalf("it does not end: %v", err)
			}
			if log := a.log(); !strings.Contains(log, test.says) {
				t.Errorf("it says %s, want something about %q", log, test.says)
			}
		})
	}
}

// onlyAgentLeft waits until the engine has the agent's container alone, and the agent's
// runtime directory nothing of containers.
func (a *boxedAgent) onlyAgentLeft(ctx context.Context) {
	a.t.Helper()
	err := testcluster.Poll(func() error {
		list, err := a.engine.Client.ContainerList(ctx, client.ContainerListOptions{All: true})
		if err != nil {
			return err
		}
		for _, s := range list.Items {
			if s.Names[0] != "/"+a.name {
				return fmt.Errorf("left in the engine: %v", s.Names)
			}
		}
		for _, dir := range []string{"containers", "hold", "runs"} {
			entries, err := os.ReadDir(filepath.Join(a.dir, "r", "docker", dir))
			if err != nil {
				return err
			}
			if len(entries) > 0 {
				return fmt.Errorf("left in the runtime directory: %s/%s", dir, entries[0].Name())
			}
		}
		return nil
	})
	if err != nil {
		a.t.Error(err)
	}
}

// boxedWorld is a master.
func boxedWorld(t *testing.T) (context.Context, *testcluster.Cluster) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), testcluster.Patience)
	t.Cleanup(cancel)
	return ctx, testcluster.Start(t, testcluster.Options{Agents: -1})
}
