package docker

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/moby/moby/client"
	"github.com/rs/zerolog"

	mesos "clusterd/api/mesos/v1"
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
		}
	}
	code := m.Run()
	if err := shared.close(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	isolationtest.RemovePrograms()
	os.Exit(code)
}

// Images that the engine has: a busybox, and one with an entry point.
const (
	image      = "clusterd-test:1"
	entryImage = "clusterd-entry:1"
)

const patience = 60 * time.Second

// engine is a dockerd of the tests' own, which the machine's network does not notice.
type engine struct {
	once   sync.Once
	err    error
	dir    string
	socket string
	bridge string
	cmd    *exec.Cmd
	client *client.Client
}

var shared engine

// startEngine gives the one engine of all tests.
func startEngine(tb testing.TB) *engine {
	tb.Helper()
	if os.Geteuid() != 0 {
		tb.Skip("a Docker engine needs root")
	}
	if _, err := exec.LookPath("dockerd"); err != nil {
		tb.Skip("no dockerd here: scripts/docker.sh installs it")
	}
	box := busybox()
	if box == "" {
		tb.Skip("no static busybox here: scripts/vm.sh unpacks it")
	}
	e := &shared
	e.once.Do(func() { e.err = e.open(box) })
	if e.err != nil {
		tb.Fatal(e.err)
	}
	return e
}

func busybox() string {
	for _, p := range []string{"../../bin/vm/busybox", "/bin/busybox", "/usr/bin/busybox"} {
		if _, err := os.Stat(p); err == nil {
			return p
		}
	}
	return ""
}

func (e *engine) open(box string) (err error) {
	// The path of a socket is short.
	if e.dir, err = os.MkdirTemp("/tmp", "cdk"); err != nil {
		return err
	}
	e.socket = filepath.Join(e.dir, "s")
	e.bridge = "cd" + strings.TrimPrefix(filepath.Base(e.dir), "cdk")
	if e.client, err = dial(e.socket); err != nil {
		return err
	}
	if err := e.mountCgroups(); err != nil {
		return err
	}
	subnet := os.Getpid() % 250
	for _, args := range [][]string{
		{"link", "add", e.bridge, "type", "bridge"},
		{"address", "add", fmt.Sprintf("10.213.%d.1/24", subnet), "dev", e.bridge},
		{"link", "set", e.bridge, "up"},
	} {
		if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
			return fmt.Errorf("ip %v: %w: %s", args, err, out)
		}
	}
	if err := e.up(); err != nil {
		return err
	}
	if err := e.importImage(box, image, `CMD ["/bin/sh","-c","echo default command"]`); err != nil {
		return err
	}
	return e.importImage(box, entryImage, `ENTRYPOINT ["/bin/echo","entry"]`, `CMD ["of","image"]`)
}

// mountCgroups mounts what hierarchies (v1) there are that nobody has mounted: containerd
// measures nothing and sees no lack of memory where it does not find one.
func (e *engine) mountCgroups() error {
	there, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return err
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(there)) {
		parts := strings.Split(line, ":")
		if len(parts) < 3 || parts[1] == "" || strings.Contains(parts[1], "=") || strings.Contains(string(mounts), "rw,"+parts[1]+"\n") {
			continue
		}
		dir := filepath.Join(e.dir, "cgroup", parts[1])
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		if err := syscall.Mount("cgroup", dir, "cgroup", 0, parts[1]); err != nil {
			return fmt.Errorf("mount hierarchy %s: %w", parts[1], err)
		}
	}
	return nil
}

// up starts the engine and waits for it.
func (e *engine) up() error {
	log, err := os.OpenFile(filepath.Join(e.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	e.cmd = exec.Command(
		"dockerd", "--host=unix://"+e.socket, "--data-root="+e.dir+"/d", "--exec-root="+e.dir+"/e", "--pidfile="+e.dir+"/p",
		"--bridge="+e.bridge, "--iptables=false", "--ip6tables=false", "--ip-masq=false", "--ip-forward=false",
		"--cgroup-parent=/"+e.bridge, "--live-restore", "--config-file="+e.dir+"/daemon.json",
	)
	if err := os.WriteFile(e.dir+"/daemon.json", []byte("{}"), 0o600); err != nil {
		return err
	}
	e.cmd.Stdout, e.cmd.Stderr = log, log
	if err := e.cmd.Start(); err != nil {
		return err
	}
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if _, err = e.client.Ping(context.Background(), client.PingOptions{}); err == nil {
			return nil
		}
	}
	text, _ := os.ReadFile(log.Name())
	return fmt.Errorf("dockerd does not answer: %w\n%s", err, text)
}

// down ends the engine, whose containers go on.
func (e *engine) down() error {
	if e.cmd == nil {
		return nil
	}
	err := e.cmd.Process.Signal(syscall.SIGTERM)
	if err == nil {
		err = e.cmd.Wait()
	}
	e.cmd = nil
	return err
}

// close ends the engine and leaves nothing of it.
func (e *engine) close() error {
	if e.dir == "" {
		return nil
	}
	var errs []error
	if e.cmd != nil {
		list, err := e.client.ContainerList(context.Background(), client.ContainerListOptions{All: true})
		errs = append(errs, err)
		for _, c := range list.Items {
			_, err := e.client.ContainerRemove(context.Background(), c.ID, client.ContainerRemoveOptions{Force: true})
			errs = append(errs, err)
		}
		list2, err := e.client.NetworkList(context.Background(), client.NetworkListOptions{Filters: client.Filters{}.Add("type", "custom")})
		errs = append(errs, err)
		for _, n := range list2.Items {
			_, err := e.client.NetworkRemove(context.Background(), n.ID, client.NetworkRemoveOptions{})
			errs = append(errs, err)
		}
		errs = append(errs, e.down())
	}
	if e.bridge != "" {
		_ = exec.Command("ip", "link", "delete", e.bridge).Run()
	}
	groups, _ := filepath.Glob("/sys/fs/cgroup/*/" + e.bridge)
	more, _ := filepath.Glob(e.dir + "/cgroup/*/" + e.bridge)
	for _, g := range append(groups, more...) {
		errs = append(errs, os.Remove(g))
	}
	mounts, _ := os.ReadFile("/proc/self/mounts")
	for line := range strings.Lines(string(mounts)) {
		if f := strings.Fields(line); len(f) > 1 && strings.HasPrefix(f[1], e.dir+"/") {
			_ = syscall.Unmount(f[1], syscall.MNT_DETACH)
		}
	}
	return errors.Join(append(errs, os.RemoveAll(e.dir))...)
}

// importImage makes an image of the static busybox.
func (e *engine) importImage(box, name string, changes ...string) error {
	body, err := os.ReadFile(box)
	if err != nil {
		return err
	}
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	add := func(h *tar.Header, body []byte) {
		h.Size = int64(len(body))
		err = errors.Join(err, w.WriteHeader(h))
		_, werr := w.Write(body)
		err = errors.Join(err, werr)
	}
	add(&tar.Header{Name: "bin/busybox", Mode: 0o755}, body)
	for _, applet := range strings.Fields("sh sleep echo cat env id nc httpd wget hostname ls kill stat head tail readlink touch true") {
		add(&tar.Header{Name: "bin/" + applet, Typeflag: tar.TypeSymlink, Linkname: "busybox", Mode: 0o777}, nil)
	}
	add(&tar.Header{Name: "etc/passwd", Mode: 0o644}, []byte("root:x:0:0::/:/bin/sh\nsomeone:x:1234:1234::/:/bin/sh\n"))
	add(&tar.Header{Name: "tmp/", Typeflag: tar.TypeDir, Mode: 0o1777}, nil)
	if err := errors.Join(err, w.Close()); err != nil {
		return err
	}
	answer, err := e.client.ImageImport(context.Background(), client.ImageImportSource{Source: &b, SourceName: "-"}, name, client.ImageImportOptions{Changes: changes})
	if err != nil {
		return err
	}
	defer answer.Close()
	text, err := io.ReadAll(answer)
	if err == nil && bytes.Contains(text, []byte(`"error"`)) {
		err = fmt.Errorf("import: %s", text)
	}
	return err
}

// world is a containerizer of a test's own, by the engine that all share.
type world struct {
	*Containerizer
	t       *testing.T
	engine  *engine
	options Options
}

func newWorld(t *testing.T, change ...func(*Options)) *world {
	t.Helper()
	e := startEngine(t)
	w := &world{t: t, engine: e, options: Options{
		RuntimeDir: t.TempDir(), Socket: e.socket, SandboxDirectory: "/mnt/mesos/sandbox", KillOrphans: true, EnableCFS: true,
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
			_, _ = e.client.ContainerRemove(context.Background(), s, client.ContainerRemoveOptions{Force: true})
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
	list, err := w.engine.client.ContainerList(context.Background(), client.ContainerListOptions{
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
	found, err := w.engine.client.ContainerInspect(context.Background(), containerName(config.ID), client.ContainerInspectOptions{})
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
	eventually(w.t, "prints "+text, func() bool { return strings.Contains(read(w.t, config.Sandbox, "stdout"), text) })
}
