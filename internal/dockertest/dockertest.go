// Package dockertest starts Docker engines for tests, real ones that the machine's network
// does not notice: no rule of a firewall, a bridge of their own, all files in one folder.
//
// Engine is the main type; it is for one goroutine. Only tests import the package.
package dockertest

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/moby/moby/client"
)

// Images that an engine has: a busybox, and one with an entry point.
const (
	Image      = "clusterd-test:1"
	EntryImage = "clusterd-entry:1"
)

// patience is how long an engine may take to answer.
const patience = 60 * time.Second

// Engine is a dockerd of a test's own.
type Engine struct {
	// Socket is the path of its socket, Client speaks to it.
	Socket string
	Client *client.Client

	dir, bridge string
	cmd         *exec.Cmd
}

// Start starts an engine. It skips the test where there can be none.
func Start(tb testing.TB) *Engine {
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
	e := &Engine{}
	if err := e.open(box); err != nil {
		tb.Fatal(errors.Join(err, e.Close()))
	}
	return e
}

func busybox() string {
	for _, p := range []string{"../../bin/vm/busybox", "../bin/vm/busybox", "/bin/busybox", "/usr/bin/busybox"} {
		if _, err := os.Stat(p); err == nil {
			return p
		}
	}
	return ""
}

func (e *Engine) open(box string) (err error) {
	// The path of a socket is short.
	if e.dir, err = os.MkdirTemp("/tmp", "cdk"); err != nil {
		return err
	}
	e.Socket = filepath.Join(e.dir, "s")
	e.bridge = "cd" + strings.TrimPrefix(filepath.Base(e.dir), "cdk")
	if e.Client, err = client.New(client.WithHost("unix://" + e.Socket)); err != nil {
		return err
	}
	if err := e.mountCgroups(); err != nil {
		return err
	}
	// Other engines of other tests run at the same time.
	subnet := fmt.Sprintf("10.%d.%d.1/24", 192+rand.IntN(60), rand.IntN(256)) //nolint:gosec // no secret
	for _, args := range [][]string{
		{"link", "add", e.bridge, "type", "bridge"},
		{"address", "add", subnet, "dev", e.bridge},
		{"link", "set", e.bridge, "up"},
	} {
		if out, err := exec.CommandContext(context.Background(), "ip", args...).CombinedOutput(); err != nil {
			return fmt.Errorf("ip %v: %w: %s", args, err, out)
		}
	}
	if err := e.Up(); err != nil {
		return err
	}
	if err := e.importImage(box, Image, `CMD ["/bin/sh","-c","echo default command"]`); err != nil {
		return err
	}
	return e.importImage(box, EntryImage, `ENTRYPOINT ["/bin/echo","entry"]`, `CMD ["of","image"]`)
}

// mountCgroups mounts what hierarchies (v1) there are that nobody has mounted: containerd
// measures nothing and sees no lack of memory where it does not find one.
func (e *Engine) mountCgroups() error {
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

// Up starts the engine and waits for it.
func (e *Engine) Up() error {
	log, err := os.OpenFile(filepath.Join(e.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	e.cmd = exec.CommandContext(
		context.Background(), "dockerd", "--host=unix://"+e.Socket, "--data-root="+e.dir+"/d", "--exec-root="+e.dir+"/e", "--pidfile="+e.dir+"/p",
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
		if _, err = e.Client.Ping(context.Background(), client.PingOptions{}); err == nil {
			return nil
		}
	}
	text, _ := os.ReadFile(log.Name())
	return fmt.Errorf("dockerd does not answer: %w\n%s", err, text)
}

// Down ends the engine, whose containers go on.
func (e *Engine) Down() error {
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

// Close ends the engine and leaves nothing of it.
func (e *Engine) Close() error {
	if e.dir == "" {
		return nil
	}
	var errs []error
	if e.cmd != nil {
		errs = append(errs, e.removeAll())
		networks, err := e.Client.NetworkList(context.Background(), client.NetworkListOptions{Filters: client.Filters{}.Add("type", "custom")})
		errs = append(errs, err)
		for _, n := range networks.Items {
			_, err := e.Client.NetworkRemove(context.Background(), n.ID, client.NetworkRemoveOptions{})
			errs = append(errs, err)
		}
		errs = append(errs, e.Down())
	}
	if e.bridge != "" {
		_ = exec.CommandContext(context.Background(), "ip", "link", "delete", e.bridge).Run()
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

// removeAll removes the containers; the engine may be about to remove some by itself.
func (e *Engine) removeAll() error {
	for end := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		list, err := e.Client.ContainerList(context.Background(), client.ContainerListOptions{All: true})
		if err == nil && len(list.Items) == 0 {
			return nil
		}
		if time.Now().After(end) {
			return fmt.Errorf("remove all containers: %d are left: %w", len(list.Items), err)
		}
		for _, c := range list.Items {
			_, _ = e.Client.ContainerRemove(context.Background(), c.ID, client.ContainerRemoveOptions{Force: true})
		}
	}
}

// importImage makes an image of the static busybox.
func (e *Engine) importImage(box, name string, changes ...string) error {
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
	for applet := range strings.FieldsSeq("sh sleep echo cat env id nc httpd wget hostname ls kill stat head tail readlink touch true") {
		add(&tar.Header{Name: "bin/" + applet, Typeflag: tar.TypeSymlink, Linkname: "busybox", Mode: 0o777}, nil)
	}
	add(&tar.Header{Name: "etc/passwd", Mode: 0o644}, []byte("root:x:0:0::/:/bin/sh\nsomeone:x:1234:1234::/:/bin/sh\n"))
	add(&tar.Header{Name: "tmp/", Typeflag: tar.TypeDir, Mode: 0o1777}, nil)
	if err := errors.Join(err, w.Close()); err != nil {
		return err
	}
	answer, err := e.Client.ImageImport(context.Background(), client.ImageImportSource{Source: &b, SourceName: "-"}, name, client.ImageImportOptions{Changes: changes})
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
