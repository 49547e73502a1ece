package docker

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/moby/moby/client"
	"github.com/rs/zerolog"

	mesos "clusterd/api/mesos/v1"
	"clusterd/internal/dockertest"
	"clusterd/isolation"
	"clusterd/isolation/isolationtest"
)

// The tests' own binary is the runner, too.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case RunMode:
			os.Exit(RunMain(os.Args[2:]))
		case ExecMode:
			os.Exit(ExecMain(os.Args[2:]))
		case HoldMode:
			os.Exit(HoldMain(os.Args[2:]))
		}
	}
	code := m.Run()
	if shared.Engine != nil {
		if err := shared.Close(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	isolationtest.RemovePrograms()
	os.Exit(code)
}

// Images that the engine has: a busybox, and one with an entry point.
const (
	image      = dockertest.Image
	entryImage = dockertest.EntryImage
)

const patience = 60 * time.Second

// shared is the one engine of all tests.
var shared struct {
	sync.Mutex
	*dockertest.Engine
}

func startEngine(tb testing.TB) *dockertest.Engine {
	tb.Helper()
	shared.Lock()
	defer shared.Unlock()
	if shared.Engine == nil {
		shared.Engine = dockertest.Start(tb)
	}
	return shared.Engine
}

// world is a containerizer of a test's own, by the engine that all share.
type world struct {
	*Containerizer
	t       *testing.T
	engine  *dockertest.Engine
	options Options
}

func newWorld(t *testing.T, change ...func(*Options)) *world {
	t.Helper()
	e := startEngine(t)
	w := &world{t: t, engine: e, options: Options{
		RuntimeDir: t.TempDir(), Socket: e.Socket, SandboxDirectory: "/mnt/mesos/sandbox", KillOrphans: true, EnableCFS: true,
	}}
	for _, c := range change {
		c(&w.options)
	}
	w.open()
	t.Cleanup(func() {
		_ = w.Close()
		// As an agent that knows of nothing: all goes.
		w.options.KillOrphans = true
		w.open()
		_ = w.Close()
		for _, s := range w.engineContainers() {
			_, _ = e.Client.ContainerRemove(context.Background(), s, client.ContainerRemoveOptions{Force: true})
		}
	})
	return w
}

// open stands for an agent that starts and knows of some containers.
func (w *world) open(known ...*isolation.ContainerConfig) []*mesos.ContainerID {
	w.t.Helper()
	c, err := New(w.options, isolationtest.Programs(w.t), zerolog.New(zerolog.NewTestWriter(w.t)))
	if err != nil {
		w.t.Fatal(err)
	}
	w.Containerizer = c
	configs := make([]isolation.ContainerConfig, 0, len(known))
	for _, k := range known {
		configs = append(configs, *k)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	orphans, err := c.Recover(ctx, configs)
	if err != nil {
		w.t.Fatal(err)
	}
	return orphans
}

// engineContainers are those of this world.
func (w *world) engineContainers() []string {
	w.t.Helper()
	list, err := w.engine.Client.ContainerList(context.Background(), client.ContainerListOptions{
		All: true, Filters: client.Filters{}.Add("label", agentLabel+"="+w.options.owner()),
	})
	if err != nil {
		w.t.Fatal(err)
	}
	ids := make([]string, 0, len(list.Items))
	for _, s := range list.Items {
		ids = append(ids, s.ID)
	}
	return ids
}

func (w *world) inspect(config *isolation.ContainerConfig) client.ContainerInspectResult {
	w.t.Helper()
	found, err := w.engine.Client.ContainerInspect(context.Background(), containerName(config.ID), client.ContainerInspectOptions{})
	if err != nil {
		w.t.Fatal(err)
	}
	return found
}

var ids struct {
	sync.Mutex
	n int
}

// config is a container that runs a script in the host's network.
func (w *world) config(script string) *isolation.ContainerConfig {
	w.t.Helper()
	ids.Lock()
	ids.n++
	id := fmt.Sprintf("c%d-%d", os.Getpid(), ids.n)
	ids.Unlock()
	return &isolation.ContainerConfig{
		ID: &mesos.ContainerID{Value: &id}, Sandbox: w.t.TempDir(),
		FrameworkID: &mesos.FrameworkID{Value: new("f")}, ExecutorID: &mesos.ExecutorID{Value: new("e")},
		Command:   &mesos.CommandInfo{Value: &script},
		Env:       map[string]string{"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
		Resources: []*mesos.Resource{isolationtest.Scalar("cpus", 0.5), isolationtest.Scalar("mem", 64)},
		ContainerInfo: &mesos.ContainerInfo{
			Type: mesos.ContainerInfo_DOCKER.Enum(), Docker: &mesos.ContainerInfo_DockerInfo{Image: new(image)},
		},
	}
}

func (w *world) launch(config *isolation.ContainerConfig) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := w.Launch(ctx, config); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) wait(config *isolation.ContainerConfig) isolation.Termination {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	got, err := w.Wait(ctx, config.ID)
	if err != nil {
		w.t.Fatal(err)
	}
	return got
}

// output runs a container to its end and returns what it has printed.
func (w *world) output(config *isolation.ContainerConfig) string {
	w.t.Helper()
	w.launch(config)
	if got := w.wait(config); got.Status != 0 || !got.StatusKnown {
		w.t.Errorf("termination: got %+v; stderr: %s", got, read(w.t, config.Sandbox, "stderr"))
	}
	return read(w.t, config.Sandbox, "stdout")
}

// read returns a file of a sandbox, without space around it.
func read(t *testing.T, dir, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(b))
}

func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !f(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never: %s", what)
		}
	}
}

// prints waits until a container has printed a line.
func (w *world) prints(config *isolation.ContainerConfig, text string) {
	w.t.Helper()
	eventually(w.t, "prints "+text, func() bool {
		if strings.Contains(read(w.t, config.Sandbox, "stdout"), text) {
			return true
		}
		ended, cancel := context.WithCancel(context.Background())
		cancel()
		if got, err := w.Wait(ended, config.ID); err == nil {
			w.t.Fatalf("it ended before it printed %s: %+v; stderr: %s", text, got, read(w.t, config.Sandbox, "stderr"))
		}
		return false
	})
}
