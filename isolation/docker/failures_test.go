package docker

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"

	mesos "clusterd/api/mesos/v1"
	"clusterd/isolation"
)

// TestPull brings images in from a registry that wants credentials.
func TestPull(t *testing.T) {
	e := startEngine(t)
	var manifests atomic.Int32
	images := registry.New(registry.Logger(slog.NewLogLogger(slog.DiscardHandler, slog.LevelInfo)))
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if user, password, _ := r.BasicAuth(); user != "u" || password != "p" {
			w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		if strings.Contains(r.URL.Path, "/manifests/") && (r.Method == http.MethodGet || r.Method == http.MethodHead) {
			manifests.Add(1)
		}
		images.ServeHTTP(w, r)
	}))
	defer server.Close()
	host := strings.TrimPrefix(server.URL, "http://")
	name := host + "/test/busybox:1"
	config := func(password string) string {
		return `{"auths":{"` + host + `":{"username":"u","password":"` + password + `"}}}`
	}
	if _, err := e.Client.ImageTag(t.Context(), client.ImageTagOptions{Source: image, Target: name}); err != nil {
		t.Fatal(err)
	}
	auth, err := registryAuth(config("p"), name)
	if err != nil {
		t.Fatal(err)
	}
	push, err := e.Client.ImagePush(t.Context(), name, client.ImagePushOptions{RegistryAuth: auth})
	if err == nil {
		err = push.Wait(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	forget := func() {
		if _, err := e.Client.ImageRemove(t.Context(), name, client.ImageRemoveOptions{Force: true}); err != nil {
			t.Fatal(err)
		}
	}
	forget()
	start := func(t *testing.T, password string, force bool) error {
		t.Helper()
		w := newWorld(t, func(o *Options) { o.Config = config(password) })
		c := w.config("echo pulled")
		c.ContainerInfo.Docker.Image, c.ContainerInfo.Docker.ForcePullImage = &name, &force
		if err := w.Launch(t.Context(), c); err != nil {
			if len(w.Containers()) > 0 || len(w.engineContainers()) > 0 {
				t.Errorf("a failed launch left %v, %v", w.Containers(), w.engineContainers())
			}
			return err
		}
		w.wait(c)
		if got := read(t, c.Sandbox, "stdout"); got != "pulled" {
			t.Errorf("output: got %q", got)
		}
		return nil
	}
	if err := start(t, "wrong", false); err == nil || !strings.Contains(err.Error(), name) {
		t.Errorf("wrong credentials: got %v", err)
	}
	if err := start(t, "p", false); err != nil {
		t.Fatal(err)
	}
	before := manifests.Load()
	if err := start(t, "p", false); err != nil || manifests.Load() != before {
		t.Errorf("an image that is there: got %v, asked the registry %d times", err, manifests.Load()-before)
	}
	if err := start(t, "p", true); err != nil || manifests.Load() == before {
		t.Errorf("force pull: got %v, asked the registry %d times", err, manifests.Load()-before)
	}
	forget()
}

// fakeEngine answers on a socket as a test says.
func fakeEngine(t *testing.T, handle http.HandlerFunc) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "cdf") //nolint:usetesting // the path of a socket is short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	socket := filepath.Join(dir, "s")
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/_ping") {
			w.Header().Set("Api-Version", "1.41")
			return
		}
		handle(w, r)
	}))
	_ = s.Listener.Close()
	s.Listener = l
	s.Start()
	t.Cleanup(func() {
		s.CloseClientConnections()
		s.Close()
	})
	return socket
}

// TestFailures: an engine that does not do what it should fails the launch, with a
// message, and leaves nothing.
func TestFailures(t *testing.T) {
	answer := func(status int, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(status)
			_, _ = io.WriteString(w, body)
		}
	}
	for name, c := range map[string]struct {
		handle http.HandlerFunc
		want   string
	}{
		"broken":      {answer(500, `{"message":"disk on fire"}`), "disk on fire"},
		"no such API": {answer(404, "page not found"), "pull image"},
		"pull breaks off": {func(w http.ResponseWriter, r *http.Request) {
			if strings.Contains(r.URL.Path, "/images/create") {
				_, _ = io.WriteString(w, `{"status":"pulling"}{"errorDetail":{"message":"toomanyrequests"},"error":"toomanyrequests"}`)
				return
			}
			answer(404, `{"message":"no such image"}`)(w, r)
		}, "toomanyrequests"},
		"no JSON": {answer(200, "{"), "look for image"},
	} {
		t.Run(name, func(t *testing.T) {
			w := offline(t, fakeEngine(t, c.handle))
			config := w.config("true")
			if err := w.Launch(t.Context(), config); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("launch: got %v, want %q", err, c.want)
			}
			if len(w.Containers()) > 0 {
				t.Errorf("left: %v", w.Containers())
			}
		})
	}
}

// offline is a world without an engine that works.
func offline(t *testing.T, socket string) *world {
	t.Helper()
	w := &world{t: t, options: Options{RuntimeDir: t.TempDir(), Socket: socket, SandboxDirectory: "/mnt/mesos/sandbox", KillOrphans: true}}
	w.open()
	t.Cleanup(func() { _ = w.Close() })
	return w
}

// TestNoEngine: an agent starts without its engine; what needs it fails.
func TestNoEngine(t *testing.T) {
	w := offline(t, "/no/such/socket")
	if err := w.Launch(t.Context(), w.config("true")); err == nil || !strings.Contains(err.Error(), "/no/such/socket") {
		t.Errorf("launch: got %v", err)
	}
}

// TestHangingEngine: who launches need not wait for an engine that says nothing.
func TestHangingEngine(t *testing.T) {
	asked := make(chan struct{}, 100)
	w := offline(t, fakeEngine(t, func(_ http.ResponseWriter, r *http.Request) {
		if strings.Contains(r.URL.Path, "/images/") {
			asked <- struct{}{}
		}
		<-r.Context().Done()
	}))
	config := w.config("true")
	result := make(chan error, 1)
	go func() { result <- w.Launch(context.WithoutCancel(t.Context()), config) }()
	<-asked
	if err := w.Destroy(t.Context(), config.ID); err != nil {
		t.Fatal(err)
	}
	if err := <-result; !errors.Is(err, isolation.ErrDestroyed) {
		t.Errorf("launch: got %v, want %v", err, isolation.ErrDestroyed)
	}
	ctx, cancel := context.WithCancel(t.Context())
	go func() { result <- w.Launch(ctx, w.config("true")) }()
	<-asked
	cancel()
	if err := <-result; !errors.Is(err, context.Canceled) {
		t.Errorf("launch: got %v, want %v", err, context.Canceled)
	}
}

// TestNotForDocker: what the containerizer leaves to others, and what it refuses.
func TestNotForDocker(t *testing.T) {
	w := offline(t, "/no/such/socket")
	for name, c := range map[string]struct {
		change func(*isolation.ContainerConfig)
		want   error
	}{
		"no info":     {func(c *isolation.ContainerConfig) { c.ContainerInfo = nil }, isolation.ErrNotSupported},
		"MESOS":       {func(c *isolation.ContainerConfig) { c.ContainerInfo.Type = mesos.ContainerInfo_MESOS.Enum() }, isolation.ErrNotSupported},
		"nested":      {func(c *isolation.ContainerConfig) { c.ID.Parent = &mesos.ContainerID{Value: new("p")} }, isolation.ErrNotSupported},
		"terminal":    {func(c *isolation.ContainerConfig) { c.ContainerInfo.TtyInfo = &mesos.TTYInfo{} }, ErrInvalid},
		"GPU":         {func(c *isolation.ContainerConfig) { c.Resources[0].Name = new("gpus") }, ErrInvalid},
		"secret":      {func(c *isolation.ContainerConfig) { c.Command.Environment = secretly() }, ErrInvalid},
		"bad network": {func(c *isolation.ContainerConfig) { c.ContainerInfo.Hostname = new("h") }, ErrInvalid},
	} {
		config := w.config("true")
		c.change(config)
		if err := w.Launch(t.Context(), config); !errors.Is(err, c.want) {
			t.Errorf("%s: got %v, want %v", name, err, c.want)
		}
	}
	if len(w.Containers()) > 0 {
		t.Errorf("left: %v", w.Containers())
	}
}

func secretly() *mesos.Environment {
	return &mesos.Environment{Variables: []*mesos.Environment_Variable{{Name: new("S"), Type: mesos.Environment_Variable_SECRET.Enum()}}}
}

// TestBadEntryPoint: what the engine cannot start says why.
func TestBadEntryPoint(t *testing.T) {
	w := newWorld(t)
	config := w.config("")
	config.Command = &mesos.CommandInfo{Shell: new(false), Value: new("/no/such/program")}
	w.launch(config)
	if got := w.wait(config); !got.StatusKnown || got.Status != exitFailed<<8 {
		t.Errorf("termination: got %+v", got)
	}
	if got := read(t, config.Sandbox, "stderr"); !strings.Contains(got, "/no/such/program") {
		t.Errorf("stderr: got %q", got)
	}
	eventually(t, "nothing is left in the engine", func() bool { return len(w.engineContainers()) == 0 })
}

// TestUsageFigures reads an engine's figures of both versions of cgroups.
func TestUsageFigures(t *testing.T) {
	for name, c := range map[string]struct {
		stats map[string]uint64
		rss   uint64
	}{"v1": {map[string]uint64{"rss": 1, "total_rss": 5}, 5}, "v2": {map[string]uint64{"anon": 6}, 6}} {
		got := &mesos.ResourceStatistics{}
		addUsage(got, &container.StatsResponse{
			MemoryStats: container.MemoryStats{Usage: 9, Stats: c.stats},
			CPUStats:    container.CPUStats{CPUUsage: container.CPUUsage{UsageInUsermode: 15e8, UsageInKernelmode: 5e8}},
			Networks:    map[string]container.NetworkStats{"a": {RxBytes: 1, TxPackets: 3}, "b": {RxBytes: 2}},
		})
		if got.GetMemRssBytes() != c.rss || got.GetMemTotalBytes() != 9 || got.GetCpusUserTimeSecs() != 1.5 || got.GetCpusSystemTimeSecs() != 0.5 ||
			got.GetNetRxBytes() != 3 || got.GetNetTxPackets() != 3 {
			t.Errorf("%s: got %v", name, got)
		}
	}
}
