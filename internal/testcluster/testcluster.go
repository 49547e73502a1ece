// Package testcluster runs real clusterd processes for tests and benchmarks:
// masters and agents with their own work directories on loopback ports that stay
// the same over a restart, so that a test may kill -9 one and start it again.
//
// It is imported by tests and internal/bench only. A [Cluster] is safe for use by
// one goroutine.
package testcluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Patience is how long anything in a test may take before it has failed.
const Patience = 60 * time.Second

var (
	buildOnce sync.Once
	buildPath string
	errBuild  error
)

// Binary returns the path of the clusterd under test: $CLUSTERD if set, else one
// built from this repository, once per process.
func Binary() (string, error) {
	if p := os.Getenv("CLUSTERD"); p != "" {
		return filepath.Abs(p)
	}
	buildOnce.Do(func() {
		root, err := repositoryRoot()
		if err != nil {
			errBuild = err
			return
		}
		dir, err := os.MkdirTemp("", "clusterd-bin-")
		if err != nil {
			errBuild = err
			return
		}
		buildPath = filepath.Join(dir, "clusterd")
		cmd := exec.CommandContext(context.Background(), "go", "build", "-o", buildPath, ".")
		cmd.Dir = root
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			errBuild = fmt.Errorf("build clusterd: %w\n%s", err, out)
		}
	})
	return buildPath, errBuild
}

// RemoveBinary deletes what Binary built; TestMain calls it last.
func RemoveBinary() {
	if buildPath != "" {
		os.RemoveAll(filepath.Dir(buildPath))
	}
}

// repositoryRoot is the nearest folder upwards whose go.mod is clusterd's.
func repositoryRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for ; dir != "/"; dir = filepath.Dir(dir) {
		b, err := os.ReadFile(filepath.Join(dir, "go.mod"))
		if err == nil && bytes.HasPrefix(b, []byte("module clusterd\n")) {
			return dir, nil
		}
	}
	return "", errors.New("not inside the clusterd repository")
}

// Options says what cluster to start. The zero value is a master and an agent.
type Options struct {
	// Masters is their number; 0 means 1. Several found a cluster together.
	Masters int
	// Grow has the first master found the cluster alone; the others are started by
	// the test, to join it.
	Grow bool
	// Join has agents find the masters by gossip instead of by their addresses.
	Join bool
	// Agents is their number; 0 means 1, negative none.
	Agents int
	// MasterFlags and AgentFlags are added to the command lines.
	MasterFlags []string
	AgentFlags  []string
	// EachAgent, if given, returns flags of the agent with the index i alone.
	EachAgent func(i int) []string
	// Dir holds all work directories and logs.
	Dir string
	// RuntimeDir holds the agents' runtime directories; empty: Dir does.
	RuntimeDir string
}

// Cluster is a set of clusterd processes.
type Cluster struct {
	// Master is the first of Masters.
	Master  *Process
	Masters []*Process
	Agents  []*Process
	dir     string
	grow    bool
}

// Process is one clusterd daemon: it may be killed and started again.
type Process struct {
	// Addr is its HTTP address, 127.0.0.1:port.
	Addr string
	// Gossip is its address there.
	Gossip string
	// WorkDir is its --work_dir.
	WorkDir string
	// Binary is the clusterd that Start runs; empty: that of the test.
	Binary string

	name string
	args []string
	// cgroups is the root of an agent's cgroups that nobody has named.
	cgroups string

	log  string
	cmd  *exec.Cmd
	done chan struct{}
}

// Start runs a cluster for a test and waits until the agents are registered.
// The cluster ends with the test; its logs are shown if the test failed.
func Start(t testing.TB, opts Options) *Cluster {
	t.Helper()
	opts.Dir = shortTempDir(t)
	c, err := New(opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.Stop()
		if t.Failed() {
			c.DumpLogs(t.Output())
		}
	})
	if err := c.Up(); err != nil {
		t.Fatal(err)
	}
	return c
}

// shortTempDir makes a temporary folder with a short path: socket paths are
// limited to 107 bytes.
func shortTempDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "cd") //nolint:usetesting // t.TempDir is too long
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// New describes a cluster in opts.Dir; nothing runs yet.
func New(opts Options) (*Cluster, error) {
	masters := max(opts.Masters, 1)
	if err := Watch(opts.Dir); err != nil {
		return nil, err
	}
	free, err := Ports(masters*3 + max(opts.Agents, 1)*2)
	if err != nil {
		return nil, err
	}
	port := func() int {
		p := free[0]
		free = free[1:]
		return p
	}
	if opts.RuntimeDir == "" {
		opts.RuntimeDir = opts.Dir
	}
	c := &Cluster{dir: opts.Dir, grow: opts.Grow}
	var addrs, gossips []string
	for i := range masters {
		name := "master"
		if i > 0 {
			name += strconv.Itoa(i)
		}
		m := &Process{
			name:    name,
			Addr:    loopback(port()),
			Gossip:  loopback(port()),
			WorkDir: filepath.Join(opts.Dir, name),
			log:     filepath.Join(opts.Dir, name+".log"),
		}
		m.args = []string{
			"master", "--ip=127.0.0.1", "--port=" + portOf(m.Addr), fmt.Sprintf("--raft_port=%d", port()),
			"--gossip_port=" + portOf(m.Gossip), "--hostname=localhost", "--work_dir=" + m.WorkDir,
		}
		c.Masters = append(c.Masters, m)
		addrs, gossips = append(addrs, m.Addr), append(gossips, m.Gossip)
	}
	for i, m := range c.Masters {
		switch {
		case opts.Grow && i > 0:
			m.args = append(m.args, "--join="+gossips[0])
		case masters > 1 && !opts.Grow:
			m.args = append(m.args, fmt.Sprintf("--bootstrap_expect=%d", masters), "--join="+strings.Join(gossips, ","))
		}
		m.args = append(m.args, opts.MasterFlags...)
	}
	c.Master = c.Masters[0]
	find := "--master=" + strings.Join(addrs, ",")
	if opts.Join {
		find = "--join=" + strings.Join(gossips, ",")
	}
	n := opts.Agents
	if n == 0 {
		n = 1
	}
	for i := range max(n, 0) {
		a := &Process{
			name:    fmt.Sprintf("agent%d", i),
			Addr:    loopback(port()),
			Gossip:  loopback(port()),
			WorkDir: filepath.Join(opts.Dir, fmt.Sprintf("a%d", i)),
			log:     filepath.Join(opts.Dir, fmt.Sprintf("agent%d.log", i)),
		}
		a.args = append([]string{
			"agent", find, "--ip=127.0.0.1", "--port=" + portOf(a.Addr),
			"--gossip_port=" + portOf(a.Gossip),
			"--work_dir=" + a.WorkDir, "--runtime_dir=" + filepath.Join(opts.RuntimeDir, fmt.Sprintf("r%d", i)),
		}, opts.AgentFlags...)
		if opts.EachAgent != nil {
			a.args = append(a.args, opts.EachAgent(i)...)
		}
		if !hasFlag(a.args, "--hostname") {
			a.args = append(a.args, "--hostname=localhost")
		}
		if !hasFlag(a.args, "--cgroups_root") {
			a.cgroups = CgroupsRoot("clusterd-test")
			a.args = append(a.args, "--cgroups_root="+a.cgroups)
		}
		c.Agents = append(c.Agents, a)
	}
	return c, nil
}

func hasFlag(args []string, name string) bool {
	return slices.ContainsFunc(args, func(arg string) bool { return strings.HasPrefix(arg, name+"=") })
}

func loopback(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

func portOf(addr string) string {
	_, port, _ := net.SplitHostPort(addr) // made by loopback
	return port
}

// Up starts all that does not run, and waits until the agents are registered.
func (c *Cluster) Up() error {
	founders := c.Masters
	if c.grow {
		founders = founders[:1]
	}
	for _, m := range founders {
		if err := m.Start(); err != nil {
			return err
		}
	}
	for _, a := range c.Agents {
		if err := a.Start(); err != nil {
			return err
		}
	}
	return c.WaitAgents(len(c.Agents))
}

// WaitAgents waits until n agents are active at the master.
func (c *Cluster) WaitAgents(n int) error {
	want := fmt.Sprintf(`"activated_slaves":%d.0,`, n)
	return Poll(func() error {
		body, err := c.State()
		if err != nil {
			return err
		}
		if !strings.Contains(strings.ReplaceAll(body, " ", ""), want) {
			return fmt.Errorf("fewer than %d agents active", n)
		}
		return nil
	})
}

// State returns what the leading master's /state says.
func (c *Cluster) State() (string, error) {
	err := errors.New("no master runs")
	for _, m := range c.Masters {
		if m.cmd == nil {
			continue
		}
		var body string
		if body, err = Get("http://" + m.Addr + "/state"); err == nil {
			return body, nil
		}
	}
	return "", err
}

// Leader waits until a master leads, and returns it.
func (c *Cluster) Leader() (*Process, error) {
	var leader *Process
	err := Poll(func() error {
		for _, m := range c.Masters {
			if m.cmd == nil {
				continue
			}
			body, err := Get("http://" + m.Addr + "/metrics/snapshot")
			if err == nil && strings.Contains(strings.ReplaceAll(body, " ", ""), `"master/elected":1.0`) {
				leader = m
				return nil
			}
		}
		return errors.New("no master leads")
	})
	return leader, err
}

// Stop kills every process of the cluster and every container below it.
func (c *Cluster) Stop() {
	for _, a := range c.Agents {
		a.Kill()
	}
	for _, m := range c.Masters {
		m.Kill()
	}
	killBelow(c.dir)
	Unwatch(c.dir)
	for _, a := range c.Agents {
		if a.cgroups == "" {
			continue // they are the test's own affair
		}
		if err := RemoveCgroups(a.cgroups); err != nil {
			fmt.Fprintf(os.Stderr, "remove the cgroups of %s: %v\n", a.name, err)
		}
	}
}

// DumpLogs writes the daemons' logs to w.
func (c *Cluster) DumpLogs(w io.Writer) {
	for _, p := range slices.Concat(c.Masters, c.Agents) {
		b, err := os.ReadFile(p.log)
		if err != nil {
			continue
		}
		fmt.Fprintf(w, "---- %s ----\n%s\n", p.name, b)
	}
}

// SetFlags gives flags, --name=value, to the next Start: each replaces one of its
// name.
func (p *Process) SetFlags(flags ...string) {
	for _, f := range flags {
		name, _, _ := strings.Cut(f, "=")
		p.args = slices.DeleteFunc(p.args, func(old string) bool { return strings.HasPrefix(old, name+"=") })
		p.args = append(p.args, f)
	}
}

// DropFlag takes a flag, --name, from the next Start.
func (p *Process) DropFlag(name string) {
	p.args = slices.DeleteFunc(p.args, func(f string) bool { return f == name || strings.HasPrefix(f, name+"=") })
}

// Start runs the process if it does not run, and waits until it answers.
func (p *Process) Start() error {
	if p.cmd != nil {
		return nil
	}
	if err := p.Launch(); err != nil {
		return err
	}
	return Poll(func() error {
		select {
		case <-p.done:
			b, _ := os.ReadFile(p.log)
			return fatal{fmt.Errorf("%s ended at start: %v\n%s", p.name, p.cmd.ProcessState, b)}
		default:
		}
		_, err := Get("http://" + p.Addr + "/health")
		return err
	})
}

// Launch runs the process and does not wait until it answers.
func (p *Process) Launch() error {
	bin, err := p.Binary, error(nil)
	if bin == "" {
		bin, err = Binary()
	}
	if err != nil {
		return err
	}
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.CommandContext(context.Background(), bin, p.args...)
	cmd.Stdout, cmd.Stderr = log, log
	// Not one process group with the test: ^C is for the test to handle.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return err
	}
	p.cmd, p.done = cmd, make(chan struct{})
	go func() {
		_ = cmd.Wait()
		close(p.done)
	}()
	return nil
}

// Kill ends the process with SIGKILL and waits for it; containers live on.
func (p *Process) Kill() { p.Signal(syscall.SIGKILL, true) }

// Signal sends a signal and, if wait is set, waits until the process has ended.
func (p *Process) Signal(sig syscall.Signal, wait bool) {
	if p.cmd == nil {
		return
	}
	_ = p.cmd.Process.Signal(sig)
	if wait {
		<-p.done
		p.cmd = nil
	}
}

// PID is the process id, 0 if it does not run.
func (p *Process) PID() int {
	if p.cmd == nil {
		return 0
	}
	return p.cmd.Process.Pid
}

// Done is closed when the process has ended by itself or was killed.
func (p *Process) Done() <-chan struct{} { return p.done }

// Log returns what the process has logged so far.
func (p *Process) Log() string {
	b, _ := os.ReadFile(p.log)
	return string(b)
}

type fatal struct{ error }

// Poll calls f until it returns nil, an error made fatal, or Patience is over.
func Poll(f func() error) error {
	deadline := time.Now().Add(Patience)
	for {
		err := f()
		var stop fatal
		if err == nil || errors.As(err, &stop) {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("gave up after %s: %w", Patience, err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// Get returns the body of a 200 answer, which must be whole before Patience is over.
func Get(url string) (string, error) { return get(url, Patience) }

func get(url string, timeout time.Duration) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err == nil && res.StatusCode != http.StatusOK {
		err = fmt.Errorf("GET %s: %s: %s", url, res.Status, b)
	}
	return string(b), err
}

// Processes returns the ids of the processes that live below a folder: those
// whose environment or command line names it.
func Processes(dir string) []int {
	var pids []int
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		var pid int
		if _, err := fmt.Sscanf(e.Name(), "%d", &pid); err != nil || pid == os.Getpid() {
			continue
		}
		for _, f := range []string{"cmdline", "environ"} {
			b, err := os.ReadFile(filepath.Join("/proc", e.Name(), f))
			if err == nil && bytes.Contains(b, []byte(dir+"/")) {
				pids = append(pids, pid)
				break
			}
		}
	}
	return pids
}

// killBelow ends the processes below dir; twice, since one may just fork.
func killBelow(dir string) {
	for range 3 {
		for _, pid := range Processes(dir) {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	}
}
