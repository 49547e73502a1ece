package images_test

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/rs/zerolog"

	mesos "clusterd/api/mesos/v1"
	"clusterd/isolation"
	"clusterd/isolation/cgroups"
	"clusterd/isolation/images"
	"clusterd/isolation/isolationtest"
	"clusterd/isolation/mounts"
	"clusterd/isolation/setup"
)

// shellImage saves an image with a shell of this machine as `docker save` does.
func shellImage(t *testing.T, file string, config v1.Config) {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	seen := make(map[string]bool)
	add := func(h *tar.Header, content []byte) {
		h.Size = int64(len(content))
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(content); err != nil {
			t.Fatal(err)
		}
	}
	program := func(from, to string) {
		if seen[to] {
			return
		}
		seen[to] = true
		content, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		add(&tar.Header{Typeflag: tar.TypeReg, Name: to, Mode: 0o755}, content)
	}
	for _, tool := range []string{"sh", "id", "cat", "sleep", "stat"} {
		path, err := exec.LookPath(tool)
		if err != nil {
			t.Skip(err)
		}
		program(path, "bin/"+tool)
		out, err := exec.CommandContext(t.Context(), "ldd", path).Output()
		if err != nil {
			t.Skipf("ldd: %v", err)
		}
		for field := range strings.FieldsSeq(string(out)) {
			if to, ok := strings.CutPrefix(field, "/"); ok {
				program(field, to)
			}
		}
	}
	add(&tar.Header{Typeflag: tar.TypeDir, Name: "home/u/", Mode: 0o755, Uid: 1000, Gid: 1001}, nil)
	add(&tar.Header{Typeflag: tar.TypeReg, Name: "etc/passwd", Mode: 0o644}, []byte("root:x:0:0::/:/bin/sh\nu:x:1000:1001::/home/u:/bin/sh\n"))
	add(&tar.Header{Typeflag: tar.TypeReg, Name: "etc/group", Mode: 0o644}, []byte("root:x:0:\nu:x:1001:\nstaff:x:50:u\n"))
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b.Bytes())), nil })
	if err != nil {
		t.Fatal(err)
	}
	img, err := mutate.AppendLayers(empty.Image, layer)
	if err == nil {
		img, err = mutate.Config(img, config)
	}
	if err != nil {
		t.Fatal(err)
	}
	tag, err := name.NewTag("shell:1")
	if err != nil {
		t.Fatal(err)
	}
	if err := tarball.WriteToFile(file, tag, img); err != nil {
		t.Fatal(err)
	}
}

// machine is an agent's containerizer with images.
type machine struct {
	t       *testing.T
	options setup.Options
	isolation.Containerizer
}

func newMachine(t *testing.T, backend string, config v1.Config, isolators ...string) *machine {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("images need root")
	}
	work, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := mounts.UnmountBelow(work); err != nil {
			t.Error(err)
		}
	})
	if err := os.Mkdir(filepath.Join(work, "registry"), 0o755); err != nil {
		t.Fatal(err)
	}
	shellImage(t, filepath.Join(work, "registry", "shell:1.tar"), config)
	m := &machine{t: t, options: setup.Options{
		WorkDir: filepath.Join(work, "work"), RuntimeDir: filepath.Join(work, "run"), Launcher: "linux",
		Isolation: strings.Join(append(isolators, "filesystem/linux,docker/runtime,namespaces/pid"), ","), CgroupsRoot: "clusterd-test-" + strings.ToLower(rand.Text()[:12]),
		ImageProviders: []string{"docker"},
		Images: images.Options{
			WorkDir: filepath.Join(work, "work"), StoreDir: filepath.Join(work, "store"), Registry: filepath.Join(work, "registry"), Backend: backend,
		},
	}}
	for _, d := range []string{m.options.WorkDir, m.options.RuntimeDir} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	m.start(nil)
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
		m.removeCgroups()
	})
	return m
}

func (m *machine) start(known []isolation.ContainerConfig) {
	m.t.Helper()
	c, err := setup.New(m.options, isolationtest.Programs(m.t), zerolog.New(zerolog.NewTestWriter(m.t)))
	if err != nil {
		m.t.Fatal(err)
	}
	if _, err := c.Recover(m.context(), known); err != nil {
		m.t.Fatal(err)
	}
	m.Containerizer = c
}

func (m *machine) context() context.Context {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(m.t.Context()), time.Minute)
	m.t.Cleanup(cancel)
	return ctx
}

func (m *machine) removeCgroups() {
	tree, err := cgroups.Open(setup.DefaultCgroupsHierarchy, m.options.CgroupsRoot)
	if err != nil {
		return
	}
	if err := tree.Use(cgroups.Core); err != nil {
		m.t.Error(err)
		return
	}
	dir, err := tree.Root(cgroups.Core)
	if err == nil {
		err = os.Remove(dir)
	}
	if err != nil {
		m.t.Error(err)
	}
}

func (m *machine) container(arguments ...string) *isolation.ContainerConfig {
	m.t.Helper()
	id := "c-" + rand.Text()[:12]
	sandbox := filepath.Join(m.options.WorkDir, "sandboxes", id)
	if err := os.MkdirAll(sandbox, 0o755); err != nil {
		m.t.Fatal(err)
	}
	if err := os.Chown(sandbox, 1000, 50); err != nil {
		m.t.Fatal(err)
	}
	return &isolation.ContainerConfig{
		ID: &mesos.ContainerID{Value: &id}, Sandbox: sandbox, FrameworkID: &mesos.FrameworkID{Value: new("f")},
		Command: &mesos.CommandInfo{Shell: new(false), Arguments: arguments},
		Env:     map[string]string{"B": "agent", "A": "agent"},
		ContainerInfo: &mesos.ContainerInfo{Type: mesos.ContainerInfo_MESOS.Enum(), Mesos: &mesos.ContainerInfo_MesosInfo{
			Image: &mesos.Image{Type: mesos.Image_DOCKER.Enum(), Docker: &mesos.Image_Docker{Name: new("shell:1")}},
		}},
	}
}

// end destroys a container and says what it wrote.
func (m *machine) end(config *isolation.ContainerConfig) string {
	m.t.Helper()
	if err := m.Destroy(m.context(), config.ID); err != nil {
		m.t.Fatal(err)
	}
	if err := m.Remove(m.context(), config.ID); err != nil {
		m.t.Fatal(err)
	}
	var text strings.Builder
	for _, name := range []string{"stdout", "stderr"} {
		b, err := os.ReadFile(filepath.Join(config.Sandbox, name))
		if err != nil {
			m.t.Fatal(err)
		}
		text.Write(b)
	}
	return text.String()
}

// TestRealContainer runs containers of an image as the image says, over a restart of
// the agent, and leaves nothing behind.
func TestRealContainer(t *testing.T) {
	config := v1.Config{
		Entrypoint: []string{"/bin/sh", "-c"}, Cmd: []string{`id -u; id -g; pwd; echo "$A $B"; echo x >/home/u/own; cat /home/u/own; cat /home/u/others`},
		Env: []string{"PATH=/bin", "A=image"}, WorkingDir: "/home/u", User: "u:staff",
	}
	for _, backend := range []string{images.BackendOverlay, images.BackendCopy} {
		t.Run(backend, func(t *testing.T) {
			m := newMachine(t, backend, config)
			first := m.container()
			if err := m.Launch(m.context(), first); err != nil {
				t.Fatal(err)
			}
			if _, err := m.Wait(m.context(), first.ID); err != nil {
				t.Fatal(err)
			}
			want := "1000\n50\n/home/u\nimage agent\n"
			if got := m.end(first); !strings.HasPrefix(got, want) {
				t.Errorf("got %q, want %q", got, want)
			}
			// One that lives while the agent goes and comes back.
			second := m.container(`echo y >/tmp.file 2>/dev/null; while [ ! -e "$MESOS_SANDBOX/go" ]; do sleep 0.05; done; cat /etc/passwd /home/u/own`)
			second.Env["MESOS_SANDBOX"] = "/mnt/mesos/sandbox"
			if err := m.Launch(m.context(), second); err != nil {
				t.Fatal(err)
			}
			if err := m.Close(); err != nil {
				t.Fatal(err)
			}
			m.start([]isolation.ContainerConfig{*second})
			if err := m.PruneImages(m.context(), nil); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(second.Sandbox, "go"), nil, 0o644); err != nil {
				t.Fatal(err)
			}
			if _, err := m.Wait(m.context(), second.ID); err != nil {
				t.Fatal(err)
			}
			if got := m.end(second); !strings.Contains(got, "/home/u:/bin/sh") || !strings.Contains(got, "/home/u/own: No such file") {
				t.Errorf("got %q", got)
			}
			// The image cannot be pulled again: it is still there, or gone with the last.
			if err := m.PruneImages(m.context(), nil); err != nil {
				t.Fatal(err)
			}
			for what, dir := range map[string]string{
				"root file systems": filepath.Join(m.options.WorkDir, "provisioner", "containers"),
				"layers":            filepath.Join(m.options.Images.StoreDir, "layers"),
			} {
				if entries, err := os.ReadDir(dir); err != nil || len(entries) != 0 {
					t.Errorf("%s left: %v, %v", what, entries, err)
				}
			}
			b, err := os.ReadFile("/proc/self/mountinfo")
			if err != nil {
				t.Fatal(err)
			}
			if strings.Contains(string(b), filepath.Join(m.options.WorkDir, "provisioner")) {
				t.Errorf("mounts left:\n%s", b)
			}
		})
	}
}

// TestRealUserNamespace shows a container in a user namespace the owners that its image
// has, in an overlay and in a copy.
func TestRealUserNamespace(t *testing.T) {
	for _, backend := range []string{images.BackendOverlay, images.BackendCopy} {
		t.Run(backend, func(t *testing.T) {
			m := newMachine(t, backend, v1.Config{Env: []string{"PATH=/bin"}}, "namespaces/user")
			c := m.container()
			c.User = "root"
			c.Command = &mesos.CommandInfo{Value: new(`id -u; echo x >/home/u/new && cat /home/u/new; stat -c %u:%g /home/u /bin /home/u/new`)}
			if err := m.Launch(m.context(), c); err != nil {
				t.Fatal(err)
			}
			if _, err := m.Wait(m.context(), c.ID); err != nil {
				t.Fatal(err)
			}
			if got, want := m.end(c), "0\nx\n1000:1001\n0:0\n0:0\n"; got != want {
				t.Errorf("got %q, want %q", got, want)
			}
		})
	}
}

// TestRealRefusals are launches that fail, and leave nothing.
func TestRealRefusals(t *testing.T) {
	m := newMachine(t, "", v1.Config{User: "nosuch"})
	for _, c := range []struct {
		name   string
		change func(*isolation.ContainerConfig)
	}{
		{"no such image", func(c *isolation.ContainerConfig) { c.ContainerInfo.Mesos.Image.Docker.Name = new("nosuch") }},
		{"no command", func(c *isolation.ContainerConfig) { c.User = "root" }},
		{"no such user in the image", func(c *isolation.ContainerConfig) { c.Command.Value = new("/bin/id") }},
		{"no such program", func(c *isolation.ContainerConfig) { c.User, c.Command.Value = "root", new("/bin/nosuch") }},
	} {
		config := m.container()
		c.change(config)
		if err := m.Launch(m.context(), config); err == nil {
			t.Errorf("%s: got no error", c.name)
		}
	}
	if entries, err := os.ReadDir(filepath.Join(m.options.WorkDir, "provisioner", "containers")); err != nil || len(entries) != 0 {
		t.Errorf("root file systems left: %v, %v", entries, err)
	}
	for _, change := range []func(*setup.Options){
		func(o *setup.Options) { o.Isolation = "filesystem/linux" },
		func(o *setup.Options) { o.Isolation = "docker/runtime" },
		func(o *setup.Options) { o.Launcher = "posix" },
	} {
		o := m.options
		o.CgroupsRoot += "-refused" // its own is taken
		change(&o)
		t.Cleanup((&machine{t: t, options: o}).removeCgroups)
		if _, err := setup.New(o, nil, zerolog.Nop()); !errors.Is(err, isolation.ErrNotSupported) && !errors.Is(err, setup.ErrIsolation) {
			t.Errorf("%s with %s: got %v", o.Launcher, o.Isolation, err)
		}
	}
}
