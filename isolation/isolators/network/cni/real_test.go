package cni_test

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"

	mesos "clusterd/api/mesos/v1"
	"clusterd/isolation"
	"clusterd/isolation/cgroups"
	"clusterd/isolation/isolationtest"
	"clusterd/isolation/isolators/network/nettest"
	"clusterd/isolation/mounts"
	"clusterd/isolation/setup"
)

// agent is a containerizer with the linux launcher.
type agent struct {
	isolation.Containerizer
	w       *world
	options setup.Options
}

func (w *world) agent(provisioner isolation.Provisioner) *agent {
	w.t.Helper()
	a := &agent{w: w, options: setup.Options{
		WorkDir: w.t.TempDir(), RuntimeDir: w.t.TempDir(), Launcher: "linux", Isolation: "filesystem/linux,network/cni", Provisioner: provisioner,
		CgroupsRoot: "clusterd-test-" + strings.ToLower(rand.Text()[:12]), Network: setup.NetworkOptions{CNI: w.options},
	}}
	w.options.StateDir = filepath.Join(a.options.RuntimeDir, "isolators", "network", "cni")
	w.t.Cleanup(func() {
		a.removeCgroups()
		if err := mounts.UnmountBelow(a.options.WorkDir); err != nil { // it is a mount of its own since
			w.t.Error(err)
		}
	})
	a.start(nil)
	w.t.Cleanup(func() { _ = a.Close() })
	return a
}

func (a *agent) start(known []isolation.ContainerConfig) {
	a.w.t.Helper()
	c, err := setup.New(a.options, isolationtest.Programs(a.w.t), zerolog.New(&a.w.log))
	if err != nil {
		a.w.t.Fatal(err)
	}
	if _, err := c.Recover(a.context(), known); err != nil {
		a.w.t.Fatal(err)
	}
	a.Containerizer = c
}

func (a *agent) context() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	a.w.t.Cleanup(cancel)
	return ctx
}

func (a *agent) removeCgroups() {
	tree, err := cgroups.Open(setup.DefaultCgroupsHierarchy, a.options.CgroupsRoot)
	if err != nil {
		return
	}
	if err := tree.Use(cgroups.Core); err != nil {
		return
	}
	if dir, err := tree.Root(cgroups.Core); err == nil {
		_ = os.Remove(dir)
	}
}

func (a *agent) config(command string, networks ...*mesos.NetworkInfo) *isolation.ContainerConfig {
	config := nettest.Config(a.w.t, networks...)
	config.Command = &mesos.CommandInfo{Value: &command, Shell: new(true)}
	config.Env = map[string]string{"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
	if config.ContainerInfo == nil {
		config.ContainerInfo = &mesos.ContainerInfo{Type: mesos.ContainerInfo_MESOS.Enum()}
	}
	return config
}

func (a *agent) launch(config *isolation.ContainerConfig) {
	a.w.t.Helper()
	if err := a.Launch(a.context(), config); err != nil {
		a.w.t.Fatal(err)
	}
	a.w.t.Cleanup(func() { a.end(config) })
}

func (a *agent) end(config *isolation.ContainerConfig) {
	if err := a.Destroy(a.context(), config.ID); err == nil {
		_ = a.Remove(a.context(), config.ID)
	}
}

// says waits until a container has written all of what is wanted.
func (a *agent) says(config *isolation.ContainerConfig, want ...string) {
	a.w.t.Helper()
	read := func() string {
		out, _ := os.ReadFile(filepath.Join(config.Sandbox, "stdout"))
		errs, _ := os.ReadFile(filepath.Join(config.Sandbox, "stderr"))
		return string(out) + string(errs)
	}
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline) && !strings.Contains(read(), "done\n"); time.Sleep(5 * time.Millisecond) {
	}
	text := read()
	for _, line := range append(want, "done") {
		if !strings.Contains("\n"+text, "\n"+line+"\n") {
			a.w.t.Errorf("container %s: no line %q in\n%s", isolation.Key(config.ID), line, text)
		}
	}
}

// show is what containers say about their network.
const show = `
echo "host $(cat /proc/sys/kernel/hostname) $(cat /etc/hostname)"
sed 's/^/hosts /' /etc/hosts; sed 's/^/resolv /' /etc/resolv.conf
cat /proc/net/dev | sed -n 's/^ *\([a-z0-9]*\):.*/link \1/p'
echo "ip $LIBPROCESS_IP"
echo done; `

func TestRealContainers(t *testing.T) {
	w := newWorld(t)
	w.write("net.conflist", `{"cniVersion":"1.0.0","name":"net","plugins":[{`+w.bridgeConf("10.88.20.0/24")+`}]}`)
	if _, err := os.Stat("/etc/hostname"); err != nil {
		t.Skip(err)
	}
	before, err := os.ReadFile("/etc/hosts")
	if err != nil {
		t.Skip(err)
	}
	a := w.agent(nil)
	parent := a.config(show+"sleep 1000", named("net"))
	parent.ContainerInfo.Hostname = new("parent.example")
	a.launch(parent)
	want := []string{
		"host parent.example parent.example", "hosts 127.0.0.1 localhost", "hosts 10.88.20.2 parent.example", "link lo", "link eth0", "ip 0.0.0.0",
	}
	a.says(parent, want...)
	if after, err := os.ReadFile("/etc/hosts"); err != nil || string(after) != string(before) {
		t.Errorf("the machine's /etc/hosts: got %q (%v), want %q", after, err, before)
	}

	// Containers nested in it share its network, or have one of their own.
	nest := func(name, command string, networks ...*mesos.NetworkInfo) *isolation.ContainerConfig {
		config := a.config(command, networks...)
		config.ID = &mesos.ContainerID{Value: &name, Parent: parent.ID}
		return config
	}
	shares, own, debug := nest("shares", show), nest("own", show, named("net")), nest("debug", show)
	debug.Class, debug.Env, debug.ContainerInfo = isolation.ClassDebug, nil, nil
	a.launch(shares)
	a.says(shares, want...)
	a.launch(debug)
	a.says(debug, want...)
	a.launch(own)
	a.says(own, "host own own", "hosts 10.88.20.3 own", "link eth0", "ip 0.0.0.0")
	for _, config := range []*isolation.ContainerConfig{shares, own, debug} {
		if _, err := a.Wait(a.context(), config.ID); err != nil {
			t.Fatal(err)
		}
	}
	status, err := a.Status(a.context(), parent.ID)
	if err != nil || len(status.GetNetworkInfos()) != 1 || status.GetNetworkInfos()[0].GetIpAddresses()[0].GetIpAddress() != "10.88.20.2" {
		t.Errorf("status: got %v (%v)", status, err)
	}

	// The agent comes back.
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	a.start([]isolation.ContainerConfig{*parent})
	status, err = a.Status(a.context(), parent.ID)
	if err != nil || len(status.GetNetworkInfos()) != 1 {
		t.Errorf("status after the restart: got %v (%v)", status, err)
	}
	stats, err := a.Usage(a.context(), parent.ID)
	if err != nil || stats.NetRxBytes == nil {
		t.Errorf("usage after the restart: got %v (%v)", stats, err)
	}
	a.end(parent)
	w.clean("net")
}

// TestRealMany starts and ends containers all at once, and counts what is left.
func TestRealMany(t *testing.T) {
	w := newWorld(t)
	w.write("net.conflist", `{"cniVersion":"1.0.0","name":"net","plugins":[{`+w.bridgeConf("10.88.23.0/24")+`}]}`)
	a := w.agent(nil)
	open := func() int {
		fds, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(fds)
	}
	before := 0
	for round := range 2 {
		var wg sync.WaitGroup
		for range 8 {
			config := a.config("true", named("net"))
			wg.Go(func() {
				if err := a.Launch(a.context(), config); err != nil {
					t.Error(err)
					return
				}
				if _, err := a.Wait(a.context(), config.ID); err != nil {
					t.Error(err)
				}
				a.end(config)
			})
		}
		wg.Wait()
		w.clean("net")
		if round == 0 {
			before = open()
		}
	}
	nettest.Eventually(t, "no more files are open than after the first round", func() bool { return open() <= before })
}

// TestRealFailure leaves nothing of a launch whose network fails.
func TestRealFailure(t *testing.T) {
	w := newWorld(t)
	w.plugin("breaks", `if [ $CNI_COMMAND = ADD ]; then echo '{"cniVersion":"1.0.0","code":11,"msg":"no more wires"}'; exit 1; fi`)
	w.write("net.conflist", `{"cniVersion":"1.0.0","name":"net","plugins":[{`+w.bridgeConf("10.88.21.0/24")+`},{"type":"breaks"}]}`)
	a := w.agent(nil)
	config := a.config("true", named("net"))
	if err := a.Launch(a.context(), config); err == nil || !strings.Contains(err.Error(), "no more wires") {
		t.Errorf("got %v", err)
	}
	if left := a.Containers(); len(left) > 0 {
		t.Errorf("containers left: %v", left)
	}
	w.clean("net")
}

// image is a provisioner of one root file system, which has the programs of the machine
// and a resolv.conf that leads nowhere.
type image struct{ dir string }

func (i image) Recover(context.Context, []*mesos.ContainerID) error { return nil }

func (i image) Provision(context.Context, *mesos.ContainerID, *mesos.Image) (*isolation.Provisioned, error) {
	return &isolation.Provisioned{RootFS: i.dir, Mounts: []isolation.Mount{{Source: i.dir, Target: i.dir, Host: true, Flags: unix.MS_BIND}}}, nil
}
func (i image) Destroy(context.Context, *mesos.ContainerID) error { return nil }
func (i image) Prune(context.Context, []*mesos.Image) error       { return nil }

func newImage(t *testing.T) image {
	t.Helper()
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, d := range []string{"bin", "tmp", "etc", "proc", "sys", "dev"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("/run/resolve/stub.conf", filepath.Join(dir, "etc", "resolv.conf")); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"sh", "cat", "sed", "sleep"} {
		path, err := exec.LookPath(name)
		if err != nil {
			t.Skip(err)
		}
		out, err := exec.CommandContext(t.Context(), "ldd", path).Output()
		if err != nil {
			t.Skipf("ldd: %v", err)
		}
		copyFile(t, path, filepath.Join(dir, "bin", name))
		for field := range strings.FieldsSeq(string(out)) {
			if strings.HasPrefix(field, "/") {
				copyFile(t, field, filepath.Join(dir, field))
			}
		}
	}
	return image{dir}
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		t.Fatal(err)
	}
	in, err := os.Open(from)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o755)
	if err == nil {
		_, err = io.Copy(out, in)
	}
	if err == nil {
		err = out.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestRealImages(t *testing.T) {
	w := newWorld(t)
	w.write("net.conflist", `{"cniVersion":"1.0.0","name":"net","plugins":[{`+w.bridgeConf("10.88.22.0/24")+`}]}`)
	i := newImage(t)
	a := w.agent(i)
	joined, plain := a.config(show, named("net")), a.config(show+"(echo x >>/etc/hosts) 2>/dev/null || echo readonly")
	for _, config := range []*isolation.ContainerConfig{joined, plain} {
		config.ContainerInfo.Mesos = &mesos.ContainerInfo_MesosInfo{Image: &mesos.Image{Type: mesos.Image_DOCKER.Enum(), Docker: &mesos.Image_Docker{Name: new("x")}}}
	}
	a.launch(joined)
	a.says(joined, "hosts 10.88.22.2 "+joined.ID.GetValue(), "link eth0")
	a.launch(plain)
	hosts, err := os.ReadFile("/etc/hosts")
	if err != nil {
		t.Skip(err)
	}
	var lines []string
	for line := range strings.Lines(string(hosts)) {
		lines = append(lines, "hosts "+strings.TrimSuffix(line, "\n"))
	}
	if _, err := a.Wait(a.context(), plain.ID); err != nil {
		t.Fatal(err)
	}
	a.says(plain, append(lines, "readonly")...)
	a.end(joined)
	a.end(plain)
	w.clean("net")
}

// BenchmarkReal is a container from launch to removal, with a network and without.
func BenchmarkReal(b *testing.B) {
	for _, n := range []int{0, 1} {
		b.Run(fmt.Sprintf("networks=%d", n), func(b *testing.B) {
			w := newWorld(b)
			w.write("net.conflist", `{"cniVersion":"1.0.0","name":"net","plugins":[{`+w.bridgeConf("10.88.0.0/16")+`}]}`)
			a := w.agent(nil)
			for b.Loop() {
				config := a.config("true")
				if n > 0 {
					config.ContainerInfo.NetworkInfos = []*mesos.NetworkInfo{named("net")}
				}
				if err := a.Launch(a.context(), config); err != nil {
					b.Fatal(err)
				}
				if _, err := a.Wait(a.context(), config.ID); err != nil {
					b.Fatal(err)
				}
				a.end(config)
			}
		})
	}
}
