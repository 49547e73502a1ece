package e2e

import (
	"context"
	"io"
	"net/http"
	"strings"
	"testing"

	mesos "clusterd/api/mesos/v1"
	"clusterd/internal/dockertest"
	"clusterd/internal/testcluster"
)

// Of a container that a Docker engine runs the sandbox is within reach, and what it prints; the
// rest says so, and does not lead to the process on the host that stands for it.
func TestDockerDoors(t *testing.T) {
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
	f := subscribe(t, c, "docker-doors")
	f.launchIn(ctx, dockerTask("t", "echo hello; sleep 1000"))
	f.update(ctx, mesos.TaskState_TASK_STARTING)
	st := f.update(ctx, mesos.TaskState_TASK_RUNNING)
	id := st.GetContainerStatus().GetContainerId().GetValue()
	base := "http://" + c.Master.Addr + proxyPath + "/agent/" + st.GetAgentId().GetValue() + "/api/clusterd/v1/"
	get := func(door, upgrade string) (int, string) {
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, base+door+"&container_id="+id, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		if upgrade != "" {
			r.Header.Set("Connection", "Upgrade")
			r.Header.Set("Upgrade", upgrade)
		}
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(b)
	}
	for door, upgrade := range map[string]string{"archive?path=/etc/shadow": "", "forward?port=22": "tcp", "terminal?cmd=sh": "websocket"} {
		if status, body := get(door, upgrade); status != http.StatusNotImplemented || !strings.Contains(body, "Docker") {
			t.Errorf("%s: got %d %q", door, status, body)
		}
	}
	if err := testcluster.Poll(func() error {
		status, body := get("archive?path=stdout", "")
		if status != http.StatusOK || !strings.Contains(body, "hello") {
			return io.ErrUnexpectedEOF
		}
		return nil
	}); err != nil {
		t.Error("the sandbox is not within reach")
	}
}
