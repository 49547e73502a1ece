package cgroup_test

import (
	"bufio"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	mesos "clusterd/api/mesos/v1"
	"clusterd/isolation"
	"clusterd/isolation/cgroups"
	"clusterd/isolation/isolationtest"
	"clusterd/isolation/isolators/cgroup"
)

// modeVariable makes the test program one of the programs that containers run.
const modeVariable = "CLUSTERD_CGROUP_TEST_MODE"

func TestMain(m *testing.M) {
	if mode := os.Getenv(modeVariable); mode != "" {
		os.Exit(program(mode))
	}
	var before []string
	for _, s := range subsystemNames {
		if dir := filepath.Join("/sys/fs/cgroup", s); !cgroups.Exists(dir) {
			before = append(before, dir)
		}
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		isolationtest.RemovePrograms()
		// What was mounted for the tests goes, unless others use it by now.
		for _, dir := range before {
			if unix.Unmount(dir, 0) == nil {
				_ = os.Remove(dir)
			}
		}
		os.Exit(code)
	}))
}

// program waits for a line, so that it can be put into a cgroup before, and then does
// what it is told. It says "ready" when it has begun.
func program(mode string) int {
	in := bufio.NewReader(os.Stdin)
	if _, err := in.ReadString('\n'); err != nil {
		return 1
	}
	mode, arg, _ := strings.Cut(mode, " ")
	switch mode {
	case "hog": // uses memory until it dies
		fmt.Println("ready")
		for {
			hog(1 << 20)
		}
	case "hold": // uses so much and stays
		var mb int
		_, _ = fmt.Sscan(arg, &mb)
		hog(mb << 20)
		fmt.Println("ready")
	case "burn":
		fmt.Println("ready")
		for n := 0; ; n++ {
			_ = n
		}
	case "open": // opens a device each time it is asked to
		fmt.Println("ready")
		for {
			if _, err := in.ReadString('\n'); err != nil {
				return 0
			}
			f, err := os.OpenFile(arg, os.O_RDONLY, 0)
			if err == nil {
				f.Close()
			}
			fmt.Println(err)
		}
	case "write":
		// v1 does not know whose the pages of a file are that are written later.
		f, err := os.OpenFile(arg, os.O_CREATE|os.O_RDWR|unix.O_DIRECT, 0o600)
		if err == nil {
			var b []byte
			if b, err = unix.Mmap(-1, 0, 1<<20, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS); err == nil {
				_, err = f.Write(b)
			}
		}
		fmt.Println("ready", err)
	default:
		fmt.Println("ready")
	}
	_, _ = io.Copy(io.Discard, in)
	return 0
}

// hog takes memory that it never gives back, and touches it.
func hog(size int) {
	b, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		os.Exit(2)
	}
	for n := 0; n < len(b); n += 4096 {
		b[n] = 1
	}
}

// patience is how long anything may take before a test gives up on it.
const patience = 60 * time.Second

// fixture is a Set on a root of the test's own.
type fixture struct {
	*cgroup.Set
	tree *cgroups.Tree
	root string
}

// newSet makes a Set whose cgroups are gone after the test.
func newSet(t testing.TB, o cgroup.Options) *fixture {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	f := &fixture{root: "clusterd-test-" + strings.ToLower(rand.Text()[:10])}
	t.Cleanup(func() {
		ids, err := f.tree.Containers()
		if err != nil {
			t.Error(err)
		}
		for _, id := range ids {
			if err := f.tree.Destroy(context.WithoutCancel(t.Context()), id); err != nil {
				t.Error(err)
			}
		}
		for _, s := range append(subsystemNames, o.AgentSubsystems...) {
			if dir, err := f.tree.Root(s); err == nil {
				_ = os.Remove(dir)
			}
		}
	})
	f.open(t, o)
	return f
}

var subsystemNames = []string{"freezer", "blkio", "cpu", "cpuacct", "cpuset", "devices", "hugetlb", "memory", "net_cls", "net_prio", "perf_event", "pids"}

// open is what an agent does when it starts.
func (f *fixture) open(t testing.TB, o cgroup.Options) {
	t.Helper()
	tree, err := cgroups.Open("/sys/fs/cgroup", f.root)
	if err == nil {
		err = tree.Use(cgroups.Core)
	}
	if err != nil {
		t.Skip(err)
	}
	f.tree = tree
	f.Set, err = cgroup.New(tree, o, zerolog.New(zerolog.NewTestWriter(t)))
	if err != nil {
		t.Fatal(err)
	}
	set := f.Set
	t.Cleanup(func() {
		if err := set.Close(); err != nil {
			t.Error(err)
		}
	})
}

// isolator makes an isolator, or skips the test where the machine lacks its subsystem.
func (f *fixture) isolator(t testing.TB, name string) isolation.Isolator {
	t.Helper()
	i, err := f.Isolator(name)
	if errors.Is(err, cgroups.ErrUnavailable) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	return i
}

func newID(values ...string) *mesos.ContainerID {
	var id *mesos.ContainerID
	for _, v := range values {
		id = &mesos.ContainerID{Value: &v, Parent: id}
	}
	return id
}

// config is a container with some of everything.
func config(t *testing.T, id *mesos.ContainerID, cpus, mem float64) *isolation.ContainerConfig {
	t.Helper()
	return &isolation.ContainerConfig{
		ID: id, Sandbox: t.TempDir(), Command: &mesos.CommandInfo{},
		Resources: []*mesos.Resource{isolationtest.Scalar("cpus", cpus), isolationtest.Scalar("mem", mem)},
	}
}

// unshared makes a nested container one with cgroups of its own.
func unshared(c *isolation.ContainerConfig) *isolation.ContainerConfig {
	c.ContainerInfo = &mesos.ContainerInfo{Type: mesos.ContainerInfo_MESOS.Enum(), LinuxInfo: &mesos.LinuxInfo{ShareCgroups: new(false)}}
	return c
}

// process is a program in a container.
type process struct {
	cmd   *exec.Cmd
	stdin io.WriteCloser
	out   *bufio.Reader
	ended chan struct{}
}

// launch prepares a container by all the isolators, makes its core as the linux launcher
// does, and starts a program in it.
func (f *fixture) launch(t *testing.T, c *isolation.ContainerConfig, mode string, isolators ...isolation.Isolator) *process {
	t.Helper()
	for _, i := range isolators {
		if _, err := i.Prepare(t.Context(), c); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.tree.Create(c.ID); err != nil {
		t.Fatal(err)
	}
	p := start(t, mode)
	for _, i := range isolators {
		if err := i.Isolate(t.Context(), c.ID, p.cmd.Process.Pid); err != nil {
			t.Fatal(err)
		}
	}
	if len(isolators) == 0 {
		if err := f.tree.Assign(c.ID, p.cmd.Process.Pid); err != nil {
			t.Fatal(err)
		}
	}
	p.say(t, "go")
	return p
}

func start(t *testing.T, mode string) *process {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p := &process{cmd: exec.Command(self), ended: make(chan struct{})}
	if script, ok := strings.CutPrefix(mode, "sh "); ok {
		p.cmd = exec.Command("/bin/sh", "-c", "read x; echo ready; "+script)
	}
	p.cmd.Env = append(os.Environ(), modeVariable+"="+mode)
	p.cmd.Stderr = os.Stderr
	if p.stdin, err = p.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.out = bufio.NewReader(stdout)
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(p.ended)
		_, _ = p.cmd.Process.Wait()
	}()
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		<-p.ended
		stdout.Close()
		p.stdin.Close()
	})
	return p
}

// say writes a line to the program.
func (p *process) say(t *testing.T, line string) {
	t.Helper()
	if _, err := fmt.Fprintln(p.stdin, line); err != nil && !errors.Is(err, syscall.EPIPE) {
		t.Fatal(err)
	}
}

// line reads one.
func (p *process) line(t *testing.T) string {
	t.Helper()
	s, err := p.out.ReadString('\n')
	if err != nil {
		t.Fatalf("output: got %q, %v", s, err)
	}
	return strings.TrimSpace(s)
}

func eventually(t testing.TB, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if done() {
			return
		}
	}
	t.Fatalf("still not so: %s", what)
}

// file reads a file of a container's cgroup.
func (f *fixture) file(t testing.TB, id *mesos.ContainerID, subsystem, name string) string {
	t.Helper()
	dir, owner, ok := f.tree.Dir(id, subsystem)
	if !ok || isolation.Key(owner) != isolation.Key(id) {
		t.Fatalf("container %s has no cgroup of %s", isolation.Key(id), subsystem)
	}
	b, err := cgroups.Read(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(b))
}

// limitation waits for one.
func limitation(t *testing.T, i isolation.Isolator, id *mesos.ContainerID) isolation.Limitation {
	t.Helper()
	limits, err := i.Watch(id)
	if err != nil {
		t.Fatal(err)
	}
	select {
	case l := <-limits:
		return l
	case <-time.After(patience):
		t.Fatal("no limitation was reported")
	}
	return isolation.Limitation{}
}

func noLimitation(t *testing.T, i isolation.Isolator, id *mesos.ContainerID) {
	t.Helper()
	if l, ok := i.(isolation.PostMortem).Reached(t.Context(), id); ok {
		t.Errorf("container %s: got limitation %q", isolation.Key(id), l.Message)
	}
}

func usage(t *testing.T, i isolation.Isolator, id *mesos.ContainerID) *mesos.ResourceStatistics {
	t.Helper()
	stats := &mesos.ResourceStatistics{}
	if err := i.Usage(t.Context(), id, stats); err != nil {
		t.Fatal(err)
	}
	return stats
}
