package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"github.com/moby/moby/client"

	mesos "clusterd/api/mesos/v1"
	"clusterd/internal/dockertest"
	"clusterd/internal/testcluster"
)

func dockerTask(id, command string) *mesos.TaskInfo {
	task := shellTask(id, command)
	task.Resources[1] = scalar("mem", 64)
	task.Container = &mesos.ContainerInfo{
		Type:   mesos.ContainerInfo_DOCKER.Enum(),
		Docker: &mesos.ContainerInfo_DockerInfo{Image: new(dockertest.Image), Network: mesos.ContainerInfo_DockerInfo_BRIDGE.Enum()},
	}
	return task
}

// launchIn launches a task on an offer.
func (f *framework) launchIn(ctx context.Context, task *mesos.TaskInfo) {
	f.t.Helper()
	offer := f.nextOffer(ctx)
	task.AgentId = offer.GetAgentId()
	op := &mesos.Offer_Operation{Type: mesos.Offer_Operation_LAUNCH.Enum(), Launch: &mesos.Offer_Operation_Launch{TaskInfos: []*mesos.TaskInfo{task}}}
	if err := f.client.Accept(ctx, []*mesos.OfferID{offer.GetId()}, []*mesos.Offer_Operation{op}, nil); err != nil {
		f.t.Fatal(err)
	}
}

// killed waits for TASK_KILLED; what an agent had not acknowledged when it was killed
// comes again.
func (f *framework) killed(ctx context.Context) {
	f.t.Helper()
	for {
		s := f.nextStatus(ctx)
		if s.GetState() == mesos.TaskState_TASK_KILLED {
			return
		}
		if terminal(s.GetState()) {
			f.t.Fatalf("after the kill: got %v", s)
		}
	}
}

// nothingLeft waits until an engine has no container any more.
func nothingLeft(ctx context.Context, t *testing.T, engine *dockertest.Engine) {
	t.Helper()
	err := testcluster.Poll(func() error {
		list, err := engine.Client.ContainerList(ctx, client.ContainerListOptions{All: true})
		if err == nil && len(list.Items) > 0 {
			err = fmt.Errorf("left in the engine: %v", list.Items[0].Names)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// TestDocker: tasks in containers of a real Docker engine, beside those of the Mesos
// containerizer. The agent is killed -9 under one and comes back.
func TestDocker(t *testing.T) {
	engine := dockertest.Start(t)
	t.Cleanup(func() {
		if err := engine.Close(); err != nil {
			t.Error(err)
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), testcluster.Patience)
	defer cancel()
	const port = 31007
	c := testcluster.Start(t, testcluster.Options{AgentFlags: []string{
		"--registration_backoff_factor=50ms", "--resources=cpus:4;mem:2048;disk:1024;ports:[31000-31100]",
		"--containerizers=docker,mesos", "--docker_socket=" + engine.Socket, "--docker_remove_delay=0ns",
	}})
	f := subscribe(t, c, "docker")

	task := dockerTask("web", `echo $MESOS_SANDBOX >/tmp/index.html; echo ready; exec httpd -f -p 8080 -h /tmp`)
	task.Resources = append(task.Resources, &mesos.Resource{
		Name: new("ports"), Type: mesos.Value_RANGES.Enum(), AllocationInfo: &mesos.Resource_AllocationInfo{Role: new(role)},
		Ranges: &mesos.Value_Ranges{Range: []*mesos.Value_Range{{Begin: new(uint64(port)), End: new(uint64(port))}}},
	})
	task.Container.Docker.PortMappings = []*mesos.ContainerInfo_DockerInfo_PortMapping{{HostPort: new(uint32(port)), ContainerPort: new(uint32(8080))}}
	task.HealthCheck = &mesos.HealthCheck{
		Type: mesos.HealthCheck_HTTP.Enum(), Http: &mesos.HealthCheck_HTTPCheckInfo{Port: new(uint32(8080)), Path: new("/index.html")},
		IntervalSeconds: new(0.1), DelaySeconds: new(0.0), GracePeriodSeconds: new(30.0),
	}
	f.launchIn(ctx, task)
	f.update(ctx, mesos.TaskState_TASK_STARTING)
	running := f.update(ctx, mesos.TaskState_TASK_RUNNING)
	id := running.GetContainerStatus().GetContainerId().GetValue()
	found, err := engine.Client.ContainerInspect(ctx, "mesos-"+id, client.ContainerInspectOptions{})
	if err != nil {
		t.Fatal(err)
	}
	ip := found.Container.NetworkSettings.Networks["bridge"].IPAddress.String()
	if infos := running.GetContainerStatus().GetNetworkInfos(); len(infos) != 1 || infos[0].GetIpAddresses()[0].GetIpAddress() != ip {
		t.Errorf("running: got addresses %v, want %s", infos, ip)
	}
	var inspected []struct {
		ID              string `json:"Id"`
		NetworkSettings struct {
			Networks map[string]struct{ IPAddress string }
		}
	}
	if err := json.Unmarshal(running.GetData(), &inspected); err != nil || len(inspected) != 1 || inspected[0].ID != found.Container.ID ||
		inspected[0].NetworkSettings.Networks["bridge"].IPAddress != ip {
		t.Errorf("running: its data is not what docker inspect prints: %v, %.200q", err, running.GetData())
	}
	healthy := f.update(ctx, mesos.TaskState_TASK_RUNNING)
	if healthy.GetData() != nil {
		t.Errorf("after the HTTP check: got data %.200q, want none", healthy.GetData())
	}
	if !healthy.GetHealthy() {
		t.Errorf("after the HTTP check: got %v", healthy)
	}
	answer, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d/index.html", port))
	if err != nil {
		t.Fatalf("through the mapped port: %v", err)
	}
	_ = answer.Body.Close()

	c.Agents[0].Kill()
	if err := c.Agents[0].Start(); err != nil {
		t.Fatal(err)
	}
	if err := c.WaitAgents(1); err != nil {
		t.Fatal(err)
	}
	after, err := engine.Client.ContainerInspect(ctx, "mesos-"+id, client.ContainerInspectOptions{})
	if err != nil || after.Container.State.Pid != found.Container.State.Pid {
		t.Errorf("after the agent's restart: got %+v, %v", after.Container.State, err)
	}
	if err := f.client.Kill(ctx, task.GetTaskId(), task.GetAgentId(), nil); err != nil {
		t.Fatal(err)
	}
	f.killed(ctx)
	nothingLeft(ctx, t, engine)
}

// TestDockerTasks: ends of tasks, checks by commands, and tasks of the other containerizer.
func TestDockerTasks(t *testing.T) {
	engine := dockertest.Start(t)
	t.Cleanup(func() {
		if err := engine.Close(); err != nil {
			t.Error(err)
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), testcluster.Patience)
	defer cancel()
	c := testcluster.Start(t, testcluster.Options{AgentFlags: []string{
		"--registration_backoff_factor=50ms", "--resources=cpus:4;mem:2048;disk:1024",
		"--containerizers=docker,mesos", "--docker_socket=" + engine.Socket, "--docker_remove_delay=0ns",
	}})
	f := subscribe(t, c, "docker-tasks")

	fails := dockerTask("fails", "echo out; exit 3")
	f.launchIn(ctx, fails)
	f.update(ctx, mesos.TaskState_TASK_STARTING)
	f.update(ctx, mesos.TaskState_TASK_RUNNING)
	if s := f.update(ctx, mesos.TaskState_TASK_FAILED); s.GetMessage() != "Command exited with status 3" {
		t.Errorf("fails: got %v", s)
	}
	if b, err := os.ReadFile(filepath.Join(sandbox(c, "fails"), "stdout")); err != nil || string(b) != "out\n" {
		t.Errorf("stdout: got %q, %v", b, err)
	}

	hog := dockerTask("hog", `a=xxxxxxxxxxxxxxxx; while :; do a="$a$a"; done`)
	f.launchIn(ctx, hog)
	f.update(ctx, mesos.TaskState_TASK_STARTING)
	f.update(ctx, mesos.TaskState_TASK_RUNNING)
	if s := f.update(ctx, mesos.TaskState_TASK_FAILED); s.GetReason() != mesos.TaskStatus_REASON_CONTAINER_LIMITATION_MEMORY {
		t.Errorf("hog: got %v", s)
	}

	checked := dockerTask("checked", "touch /inside; sleep 1000")
	checked.HealthCheck = &mesos.HealthCheck{
		Type: mesos.HealthCheck_COMMAND.Enum(), Command: &mesos.CommandInfo{Value: new(`test -e /inside -a "$MESOS_SANDBOX" = /mnt/mesos/sandbox`)},
		IntervalSeconds: new(0.1), DelaySeconds: new(0.0), GracePeriodSeconds: new(30.0),
	}
	f.launchIn(ctx, checked)
	f.update(ctx, mesos.TaskState_TASK_STARTING)
	f.update(ctx, mesos.TaskState_TASK_RUNNING)
	if s := f.update(ctx, mesos.TaskState_TASK_RUNNING); !s.GetHealthy() {
		t.Errorf("checked: got %v", s)
	}
	if err := f.client.Kill(ctx, checked.GetTaskId(), checked.GetAgentId(), nil); err != nil {
		t.Fatal(err)
	}
	f.update(ctx, mesos.TaskState_TASK_KILLED)

	missing := dockerTask("missing", "true")
	missing.Container.Docker.Image = new("127.0.0.1:1/no/such:image")
	f.launchIn(ctx, missing)
	if s := f.update(ctx, mesos.TaskState_TASK_FAILED); s.GetReason() != mesos.TaskStatus_REASON_CONTAINER_LAUNCH_FAILED {
		t.Errorf("missing image: got %v", s)
	}

	f.launchIn(ctx, shellTask("plain", "exit 0"))
	f.update(ctx, mesos.TaskState_TASK_STARTING)
	f.update(ctx, mesos.TaskState_TASK_RUNNING)
	f.update(ctx, mesos.TaskState_TASK_FINISHED)
}

// ownExecutorTask is a task for an executor of the framework's own, in a container of the
// engine: a program that the machine has.
func ownExecutorTask(f *framework, program string) *mesos.TaskInfo {
	task := shellTask("own", "")
	task.Command = nil
	task.Executor = &mesos.ExecutorInfo{
		Type: mesos.ExecutorInfo_CUSTOM.Enum(), ExecutorId: &mesos.ExecutorID{Value: new("in-docker")}, FrameworkId: f.client.FrameworkID(),
		Resources: []*mesos.Resource{scalar("cpus", 0.1), scalar("mem", 256)},
		Command: &mesos.CommandInfo{
			Shell: new(bool), Value: new("/executor"),
			Environment: &mesos.Environment{Variables: []*mesos.Environment_Variable{{Name: new(executorEnv), Value: new("1")}}},
		},
		Container: &mesos.ContainerInfo{
			Type: mesos.ContainerInfo_DOCKER.Enum(), Docker: &mesos.ContainerInfo_DockerInfo{Image: new(dockertest.Image)},
			Volumes: []*mesos.Volume{{Mode: mesos.Volume_RO.Enum(), HostPath: &program, ContainerPath: new("/executor")}},
		},
	}
	return task
}

// TestDockerExecutor: an executor of the framework's own runs in a container of the
// engine, and goes on under an agent that was killed -9.
func TestDockerExecutor(t *testing.T) {
	engine := dockertest.Start(t)
	t.Cleanup(func() {
		if err := engine.Close(); err != nil {
			t.Error(err)
		}
	})
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), testcluster.Patience)
	defer cancel()
	c := testcluster.Start(t, testcluster.Options{AgentFlags: []string{
		"--registration_backoff_factor=50ms", "--resources=cpus:4;mem:2048;disk:1024",
		"--containerizers=docker,mesos", "--docker_socket=" + engine.Socket, "--docker_remove_delay=0ns",
	}})
	f := subscribe(t, c, "docker-executor")
	task := ownExecutorTask(f, self)
	f.launchIn(ctx, task)
	id := f.update(ctx, mesos.TaskState_TASK_RUNNING).GetContainerStatus().GetContainerId().GetValue()
	found, err := engine.Client.ContainerInspect(ctx, "mesos-"+id, client.ContainerInspectOptions{})
	if err != nil || !found.Container.State.Running {
		t.Fatalf("the engine's container: got %+v, %v", found.Container.State, err)
	}
	c.Agents[0].Kill()
	if err := c.Agents[0].Start(); err != nil {
		t.Fatal(err)
	}
	if err := c.WaitAgents(1); err != nil {
		t.Fatal(err)
	}
	if err := f.client.Kill(ctx, task.GetTaskId(), task.GetAgentId(), nil); err != nil {
		t.Fatal(err)
	}
	f.killed(ctx)
	if err := f.client.Shutdown(ctx, task.GetExecutor().GetExecutorId(), task.GetAgentId()); err != nil {
		t.Fatal(err)
	}
	nothingLeft(ctx, t, engine)
}
