package docker

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"

	mesos "clusterd/api/mesos/v1"
	"clusterd/isolation"
	"clusterd/isolation/isolationtest"
)

// TestLife follows containers of executors from launch to removal.
func TestLife(t *testing.T) {
	w := newWorld(t)
	config := w.config(`echo "$A $B $MESOS_SANDBOX $MESOS_CONTAINER_NAME"; echo oops >&2; echo here >/mnt/mesos/sandbox/file; while [ ! -e /mnt/mesos/sandbox/go ]; do sleep 0.1; done; exit 3`)
	config.Env["A"], config.Env["B"] = "agent", "agent"
	config.Command.Environment = &mesos.Environment{Variables: []*mesos.Environment_Variable{{Name: new("B"), Value: new("command")}}}
	w.launch(config)
	name := "mesos-" + config.ID.GetValue()
	w.prints(config, "agent command /mnt/mesos/sandbox "+name)
	found := w.inspect(config).Container
	if found.Name != "/"+name || found.Config.Labels[idLabel] != config.ID.GetValue() || !found.State.Running {
		t.Errorf("engine's container: got name %s, labels %v, %+v", found.Name, found.Config.Labels, found.State)
	}
	if err := os.WriteFile(filepath.Join(config.Sandbox, "go"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	want := isolation.Termination{StatusKnown: true, Status: 3 << 8, Message: "Exited with status 3"}
	if diff := cmp.Diff(want, w.wait(config)); diff != "" {
		t.Errorf("termination (-want +got):\n%s", diff)
	}
	if got := read(t, config.Sandbox, "stderr"); got != "oops" {
		t.Errorf("stderr: got %q", got)
	}
	if got := read(t, config.Sandbox, "file"); got != "here" {
		t.Errorf("file in the sandbox: got %q", got)
	}
	eventually(t, "the engine's container is removed", func() bool { return len(w.engineContainers()) == 0 })
	if err := w.Remove(t.Context(), config.ID); err != nil {
		t.Fatal(err)
	}
	if left, _ := filepath.Glob(filepath.Join(w.options.RuntimeDir, "docker", "runs", "*")); len(left) > 0 || len(w.Containers()) > 0 {
		t.Errorf("left: %v, %v", left, w.Containers())
	}
}

// TestCommands tries what is executed, of what the image says and what the command says.
func TestCommands(t *testing.T) {
	w := newWorld(t)
	no := new(false)
	for name, c := range map[string]struct {
		image   string
		command *mesos.CommandInfo
		params  []*mesos.Parameter
		want    string
	}{
		"image's command":        {image, &mesos.CommandInfo{Shell: no}, nil, "default command"},
		"image's entry point":    {entryImage, &mesos.CommandInfo{Shell: no}, nil, "entry of image"},
		"arguments":              {entryImage, &mesos.CommandInfo{Shell: no, Arguments: []string{"a", "b c"}}, nil, "entry a b c"},
		"value and arguments":    {entryImage, &mesos.CommandInfo{Shell: no, Value: new("v"), Arguments: []string{"a"}}, nil, "entry v a"},
		"shell":                  {entryImage, &mesos.CommandInfo{Value: new("echo $((1+1))")}, nil, "2"},
		"value":                  {image, &mesos.CommandInfo{Shell: no, Value: new("/bin/echo"), Arguments: []string{"x"}}, nil, "x"},
		"parameter's entrypoint": {image, &mesos.CommandInfo{Shell: no, Arguments: []string{"y"}}, []*mesos.Parameter{{Key: new("entrypoint"), Value: new("/bin/echo")}}, "y"},
	} {
		t.Run(name, func(t *testing.T) {
			w.t = t
			config := w.config("")
			config.Command, config.ContainerInfo.Docker.Image, config.ContainerInfo.Docker.Parameters = c.command, &c.image, c.params
			if got := w.output(config); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func TestVolumes(t *testing.T) {
	w := newWorld(t)
	host := t.TempDir()
	config := w.config(`cat /data/in; echo out >/data/out; echo rel >/relative/out; echo box >/mnt/mesos/sandbox/inner/out; echo x >/ro/out 2>/dev/null || echo read-only; echo keep >/named/file; id -u`)
	volume := func(target, source string, mode mesos.Volume_Mode) *mesos.Volume {
		return &mesos.Volume{ContainerPath: &target, HostPath: &source, Mode: &mode}
	}
	config.ContainerInfo.Volumes = []*mesos.Volume{
		volume("/data", host, mesos.Volume_RW), volume("/ro", host, mesos.Volume_RO),
		volume("/relative", "below", mesos.Volume_RW), volume("inner", host, mesos.Volume_RW),
		{ContainerPath: new("/named"), Mode: mesos.Volume_RW.Enum(), Source: &mesos.Volume_Source{
			Type: mesos.Volume_Source_DOCKER_VOLUME.Enum(), DockerVolume: &mesos.Volume_Source_DockerVolume{Name: new("clusterd-volume")},
		}},
	}
	if err := os.WriteFile(filepath.Join(host, "in"), []byte("input\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(config.Sandbox, "below"), 0o755); err != nil {
		t.Fatal(err)
	}
	if got, want := w.output(config), "input\nread-only\n0"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	for path, want := range map[string]string{host + "/out": "box", config.Sandbox + "/below/out": "rel"} {
		if got := read(t, filepath.Dir(path), filepath.Base(path)); got != want {
			t.Errorf("%s: got %q, want %q", path, got, want)
		}
	}
	again := w.config("cat /named/file")
	again.ContainerInfo.Volumes = config.ContainerInfo.Volumes[4:]
	if got := w.output(again); got != "keep" {
		t.Errorf("named volume: got %q", got)
	}
}

func TestNetworks(t *testing.T) {
	w := newWorld(t)
	host, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	config := w.config("readlink /proc/self/ns/net")
	if got := w.output(config); got != host {
		t.Errorf("HOST: got %s, want %s", got, host)
	}
	config = w.config("ls /sys/class/net")
	config.ContainerInfo.Docker.Network = mesos.ContainerInfo_DockerInfo_NONE.Enum()
	if got := w.output(config); got != "lo" {
		t.Errorf("NONE: got interfaces %q", got)
	}
	made, err := w.engine.Client.NetworkCreate(t.Context(), "clusterd-net", client.NetworkCreateOptions{Driver: "bridge"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { // when its containers have gone
		eventually(t, "the network is removed", func() bool {
			_, err := w.engine.Client.NetworkRemove(context.Background(), made.ID, client.NetworkRemoveOptions{})
			return err == nil
		})
	}()
	for _, network := range []mesos.ContainerInfo_DockerInfo_Network{mesos.ContainerInfo_DockerInfo_BRIDGE, mesos.ContainerInfo_DockerInfo_USER} {
		t.Run(network.String(), func(t *testing.T) {
			w.t = t
			config := w.config("hostname >/tmp/index.html; echo ready; exec httpd -f -p 8080 -h /tmp")
			port := freePort(t)
			config.ContainerInfo.Hostname = new("inside")
			config.ContainerInfo.Docker.Network = &network
			config.ContainerInfo.Docker.PortMappings = []*mesos.ContainerInfo_DockerInfo_PortMapping{{HostPort: &port, ContainerPort: new(uint32(8080)), Protocol: new("tcp")}}
			if network == mesos.ContainerInfo_DockerInfo_USER {
				config.ContainerInfo.NetworkInfos = []*mesos.NetworkInfo{{Name: new("clusterd-net")}}
			}
			w.launch(config)
			w.prints(config, "ready")
			var body string
			eventually(t, "the port on the host answers", func() bool {
				answer, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d/index.html", port))
				if err != nil {
					return false
				}
				defer answer.Body.Close()
				b, err := io.ReadAll(answer.Body)
				body = string(b)
				return err == nil
			})
			if body != "inside\n" {
				t.Errorf("through the host: got %q", body)
			}
			status, err := w.Status(t.Context(), config.ID)
			if err != nil || len(status.GetNetworkInfos()) != 1 {
				t.Fatalf("status: got %v, %v", status, err)
			}
			ip := status.GetNetworkInfos()[0].GetIpAddresses()[0].GetIpAddress()
			conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", net.JoinHostPort(ip, "8080"))
			if err != nil {
				t.Fatalf("the address %s of the container: %v", ip, err)
			}
			_ = conn.Close()
			if err := w.Destroy(t.Context(), config.ID); err != nil {
				t.Fatal(err)
			}
		})
	}
}

func freePort(t *testing.T) uint32 {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	n, _ := strconv.ParseUint(port, 10, 32)
	return uint32(n)
}

// TestResources: what is asked for bounds the container, Update changes it, Usage tells.
func TestResources(t *testing.T) {
	w := newWorld(t)
	config := w.config("echo ready; while :; do :; done")
	w.launch(config)
	w.prints(config, "ready")
	bounds := func() [4]int64 {
		r := w.inspect(config).Container.HostConfig.Resources
		return [4]int64{r.CPUShares, r.CPUQuota, r.Memory, r.MemoryReservation}
	}
	if got, want := bounds(), [4]int64{512, 50000, 64 << 20, 0}; got != want {
		t.Errorf("resources: got %v, want %v", got, want)
	}
	eventually(t, "usage", func() bool {
		u, err := w.Usage(t.Context(), config.ID)
		if err != nil {
			t.Fatal(err)
		}
		return u.GetCpusUserTimeSecs()+u.GetCpusSystemTimeSecs() > 0.05 && u.GetMemTotalBytes() > 0 && u.GetMemRssBytes() > 0 &&
			u.GetCpusNrThrottled() > 0 && u.GetMemLimitBytes() == 64<<20
	})
	changed := []*mesos.Resource{isolationtest.Scalar("cpus", 1), isolationtest.Scalar("mem", 96)}
	limits := map[string]*mesos.Value_Scalar{"mem": {Value: new(128.0)}, "cpus": {Value: new(1.5)}}
	if err := w.Update(t.Context(), config.ID, changed, limits); err != nil {
		t.Fatal(err)
	}
	if got, want := bounds(), [4]int64{1024, 150000, 128 << 20, 96 << 20}; got != want {
		t.Errorf("resources after the update: got %v, want %v", got, want)
	}
	if err := w.Destroy(t.Context(), config.ID); err != nil {
		t.Fatal(err)
	}
}

// hog takes memory until it is stopped, as the container's first process.
const hog = `a=xxxxxxxxxxxxxxxx; while :; do a="$a$a"; done`

func TestOutOfMemory(t *testing.T) {
	w := newWorld(t, func(o *Options) { o.RemoveDelay = 3600e9 })
	config := w.config(hog)
	w.launch(config)
	got := w.wait(config)
	if got.Reason == nil || *got.Reason != mesos.TaskStatus_REASON_CONTAINER_LIMITATION_MEMORY || len(got.Limitations) != 1 {
		t.Fatalf("termination: got %+v of %+v", got, w.inspect(config).Container.State)
	}
	if l := got.Limitations[0]; l.Message != "Memory limit exceeded: Requested: 64 MB" || l.Resources[0].GetScalar().GetValue() != 64 {
		t.Errorf("limitation: got %+v", l)
	}
}

// TestSignals: what Kill sends arrives, and Destroy leaves nothing in the engine.
func TestSignals(t *testing.T) {
	w := newWorld(t, func(o *Options) { o.RemoveDelay = 3600e9 })
	config := w.config(`trap 'echo got TERM; exit 7' TERM; echo ready; while :; do sleep 0.05; done`)
	w.launch(config)
	w.prints(config, "ready")
	if err := w.Kill(t.Context(), config.ID, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if got := w.wait(config); got.Status != 7<<8 || !got.StatusKnown {
		t.Errorf("termination: got %+v", got)
	}
	if got := read(t, config.Sandbox, "stdout"); got != "ready\ngot TERM" {
		t.Errorf("output: got %q", got)
	}
	if state := w.inspect(config).Container.State; state.Running || state.ExitCode != 7 {
		t.Errorf("kept container: got %+v", state)
	}

	config = w.config(`trap '' TERM; echo ready; while :; do sleep 0.05; done`)
	w.launch(config)
	w.prints(config, "ready")
	if err := w.Destroy(t.Context(), config.ID); err != nil {
		t.Fatal(err)
	}
	if state := w.inspect(config).Container.State; state.Running {
		t.Error("the container runs after Destroy")
	}
	if got := w.wait(config); !got.Destroyed {
		t.Errorf("termination: got %+v", got)
	}
}

// TestStopTimeout: with --docker_stop_timeout a destroyed container may end by itself.
func TestStopTimeout(t *testing.T) {
	w := newWorld(t, func(o *Options) { o.StopTimeout = 30e9 })
	config := w.config(`trap 'echo goodbye >/mnt/mesos/sandbox/end; exit 0' TERM; echo ready; while :; do sleep 0.05; done`)
	w.launch(config)
	w.prints(config, "ready")
	if err := w.Destroy(t.Context(), config.ID); err != nil {
		t.Fatal(err)
	}
	if got := read(t, config.Sandbox, "end"); got != "goodbye" {
		t.Errorf("what it did at its end: got %q", got)
	}
}

// TestRunnerKilled: a container does not outlive who stands for it.
func TestRunnerKilled(t *testing.T) {
	w := newWorld(t, func(o *Options) { o.RemoveDelay = 3600e9 })
	config := w.config("echo ready; sleep 1000")
	w.launch(config)
	w.prints(config, "ready")
	status, err := w.Status(t.Context(), config.ID)
	if err != nil {
		t.Fatal(err)
	}
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", status.GetExecutorPid()))
	for line := range strings.Lines(string(b)) {
		if strings.HasPrefix(line, "Rss") {
			t.Log("runner: ", strings.TrimSpace(line))
		}
	}
	if err := syscall.Kill(int(status.GetExecutorPid()), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if got := w.wait(config); got.Status != int(syscall.SIGKILL) {
		t.Errorf("termination: got %+v", got)
	}
	if w.inspect(config).Container.State.Running {
		t.Error("the engine's container goes on")
	}
}

// TestExec runs commands in a container, as checks do.
func TestExec(t *testing.T) {
	w := newWorld(t)
	config := w.config("echo ready; sleep 1000")
	config.Env["X"] = "set"
	w.launch(config)
	w.prints(config, "ready")
	for script, want := range map[string]int{`test "$X" = set && test -e /bin/busybox`: 0, "exit 4": 4} {
		if got := ExecMain([]string{w.files.file(config.ID), "/bin/sh", "-c", script}); got != want {
			t.Errorf("%s: got %d, want %d", script, got, want)
		}
	}
}

func TestAttach(t *testing.T) {
	w := newWorld(t)
	config := w.config("while :; do echo tick; sleep 0.05; done")
	w.launch(config)
	a, err := w.Attach(t.Context(), config.ID)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	for {
		stream, data, err := a.Read()
		if err != nil {
			t.Fatal(err)
		}
		if stream == isolation.Stdout && strings.Contains(string(data), "tick") {
			return
		}
	}
}

// TestEngineRestart: with live restore, containers outlive the engine, and nothing that
// they print or do is lost.
func TestEngineRestart(t *testing.T) {
	w := newWorld(t)
	config := w.config(`i=0; while [ ! -e /mnt/mesos/sandbox/go ]; do i=$((i+1)); echo "line $i"; sleep 0.02; done; echo last; exit 5`)
	w.launch(config)
	w.prints(config, "line 5")
	meanwhile := w.config(`while [ ! -e /mnt/mesos/sandbox/go ]; do sleep 0.02; done; exit 6`)
	w.launch(meanwhile)
	eventually(t, "the second runs", func() bool {
		found, err := w.engine.Client.ContainerInspect(t.Context(), containerName(meanwhile.ID), client.ContainerInspectOptions{})
		return err == nil && found.Container.State.Running
	})
	if err := w.engine.Down(); err != nil {
		t.Fatal(err)
	}
	release(t, meanwhile)
	if err := w.engine.Up(); err != nil {
		t.Fatal(err)
	}
	if got := w.wait(meanwhile); got.Status != 6<<8 {
		t.Errorf("the one that ended meanwhile: got %+v", got)
	}
	at := strings.Count(read(t, config.Sandbox, "stdout"), "\n")
	w.prints(config, fmt.Sprintf("line %d\n", at+20))
	release(t, config)
	if got := w.wait(config); got.Status != 5<<8 {
		t.Errorf("termination: got %+v", got)
	}
	lines := strings.Split(read(t, config.Sandbox, "stdout"), "\n")
	for i, line := range lines[:len(lines)-1] {
		if want := fmt.Sprintf("line %d", i+1); line != want {
			t.Fatalf("line %d: got %q", i+1, line)
		}
	}
	if lines[len(lines)-1] != "last" {
		t.Errorf("last line: got %q", lines[len(lines)-1])
	}
}

func release(t *testing.T, config *isolation.ContainerConfig) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(config.Sandbox, "go"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestRecover: containers outlive the agent; those that it does not know go, and those
// of others are left alone.
func TestRecover(t *testing.T) {
	w := newWorld(t)
	running, ended, orphan, lost := w.config("echo ready; while [ ! -e /mnt/mesos/sandbox/go ]; do sleep 0.05; done; exit 2"),
		w.config("while [ ! -e /mnt/mesos/sandbox/go ]; do sleep 0.05; done; exit 9"), w.config("echo ready; sleep 1000"), w.config("sleep 1000")
	for _, c := range []*isolation.ContainerConfig{running, ended, orphan} {
		w.launch(c)
	}
	w.prints(running, "ready")
	w.prints(orphan, "ready")
	// What a runner has left that is gone without a trace, and what somebody else runs.
	create, err := newCreate(lost, &w.options)
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(create)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{containerName(lost.ID), "mesos-somebody-elses"} {
		var own struct {
			Config     *container.Config
			HostConfig *container.HostConfig
		}
		if err := json.Unmarshal(text, &own); err != nil {
			t.Fatal(err)
		}
		if name != containerName(lost.ID) {
			own.Config.Labels = nil
		}
		made, err := w.engine.Client.ContainerCreate(t.Context(), client.ContainerCreateOptions{Name: name, Config: own.Config, HostConfig: own.HostConfig})
		if err == nil {
			_, err = w.engine.Client.ContainerStart(t.Context(), made.ID, client.ContainerStartOptions{})
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	release(t, ended)
	orphans := w.open(running, ended)
	if len(orphans) != 1 || orphans[0].GetValue() != orphan.ID.GetValue() {
		t.Errorf("orphans: got %v, want %v", orphans, orphan.ID)
	}
	if got := w.wait(ended); !got.StatusKnown || got.Status != 9<<8 {
		t.Errorf("the one that ended meanwhile: got %+v", got)
	}
	eventually(t, "only what is known is left", func() bool { return len(w.engineContainers()) == 1 })
	if !w.inspect(running).Container.State.Running {
		t.Error("the known container does not run")
	}
	release(t, running)
	if got := w.wait(running); !got.StatusKnown || got.Status != 2<<8 {
		t.Errorf("termination: got %+v", got)
	}
	others, err := w.engine.Client.ContainerInspect(t.Context(), "mesos-somebody-elses", client.ContainerInspectOptions{})
	if err != nil || !others.Container.State.Running {
		t.Errorf("a container of somebody else's: got %+v, %v", others.Container.State, err)
	}
	_, _ = w.engine.Client.ContainerRemove(t.Context(), "mesos-somebody-elses", client.ContainerRemoveOptions{Force: true})
}
