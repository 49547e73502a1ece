package netcluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"clusterd/internal/testcluster"
)

// Numbers of the hosts of a cluster: masters from 1, agents from 101.
const (
	firstAgent = 101
	clientHost = 254
)

// Options say what cluster to start.
type Options struct {
	// Masters found the cluster. There may be more later, see AddMaster.
	Masters int
	// Agents is their number.
	Agents int
	// MasterFlags and AgentFlags are added to the command lines.
	MasterFlags []string
	AgentFlags  []string
	// Prepare, if given, is called before anything runs.
	Prepare func(c *Cluster)
}

// Cluster is a set of daemons on hosts of a network.
type Cluster struct {
	Net *Network
	// Client is the host from which the test and its frameworks speak.
	Client  *Host
	Masters []*Node
	Agents  []*Node
	// Dir holds all work directories and logs.
	Dir string

	opts Options
	from *http.Client
	next int // number of the next master's host
}

// dirPattern names the directories of clusters, with the process id of their test.
const dirPattern = "cdnet-%d-"

// Start runs a cluster for a test, and waits until it has a leader and all agents
// are registered. The cluster ends with the test; its logs are shown if the test failed.
func Start(t testing.TB, opts Options) *Cluster {
	t.Helper()
	if err := Supported(); err != nil {
		t.Skip(err)
	}
	c := newT(t, opts)
	if err := c.Up(); err != nil {
		t.Fatal(err)
	}
	return c
}

// newT describes a cluster of which nothing runs yet.
func newT(t testing.TB, opts Options) *Cluster {
	t.Helper()
	clearLeftovers()
	dir, err := os.MkdirTemp("", fmt.Sprintf(dirPattern, os.Getpid())) //nolint:usetesting // t.TempDir is too long for sockets
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := testcluster.Watch(dir); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { testcluster.Unwatch(dir) })
	c, err := Make(dir, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.Stop()
		if t.Failed() {
			c.DumpLogs(t.Output())
		}
	})
	return c
}

// Make describes a cluster in a directory; nothing runs yet.
func Make(dir string, opts Options) (*Cluster, error) {
	c := &Cluster{Net: New(1), Dir: dir, opts: opts, next: opts.Masters + 1}
	var err error
	if c.Client, err = c.Net.Host("client", clientHost); err != nil {
		c.Net.Close()
		return nil, err
	}
	c.from = c.Client.HTTP()
	c.from.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	for i := range opts.Masters {
		m, err := c.master(i+1, c.founders(), "--bootstrap_expect="+strconv.Itoa(opts.Masters))
		if err != nil {
			c.Net.Close()
			return nil, err
		}
		c.Masters = append(c.Masters, m)
	}
	for i := range opts.Agents {
		a, err := c.agent(i)
		if err != nil {
			c.Net.Close()
			return nil, err
		}
		c.Agents = append(c.Agents, a)
	}
	if opts.Prepare != nil {
		opts.Prepare(c)
	}
	return c, nil
}

// founders lists the addresses of the masters that found the cluster.
func (c *Cluster) founders() string {
	var all []string
	for i := range c.opts.Masters {
		all = append(all, prefix+strconv.Itoa(i+1))
	}
	return strings.Join(all, ",")
}

func (c *Cluster) node(name string, number, port int, args ...string) (*Node, error) {
	h, err := c.Net.Host(name, number)
	if err != nil {
		return nil, err
	}
	n := &Node{
		Host: h, Addr: fmt.Sprintf("%s:%d", h.IP(), port), WorkDir: filepath.Join(c.Dir, name),
		log: filepath.Join(c.Dir, name+".log"), from: c.from,
	}
	n.Args = slices.Concat(args, []string{"--ip=" + h.IP(), "--hostname=" + h.IP(), "--work_dir=" + n.WorkDir, "--node_id=" + name})
	return n, nil
}

func (c *Cluster) master(number int, join string, flags ...string) (*Node, error) {
	n, err := c.node(fmt.Sprintf("m%d", number), number, 5050, "master", "--join="+join)
	if err == nil {
		n.Args = slices.Concat(n.Args, flags, c.opts.MasterFlags)
	}
	return n, err
}

func (c *Cluster) agent(i int) (*Node, error) {
	n, err := c.node(fmt.Sprintf("a%d", i+1), firstAgent+i, 5051, "agent", "--join="+c.founders())
	if err == nil {
		n.cgroups = testcluster.CgroupsRoot("clusterd-net")
		n.Args = slices.Concat(n.Args, []string{
			"--cgroups_root=" + n.cgroups,
			"--runtime_dir=" + filepath.Join(c.Dir, "r"+strconv.Itoa(i+1)), "--resources=cpus:64;mem:65536;disk:10000;ports:[31000-32000]",
			"--registration_backoff_factor=100ms", "--executor_reregistration_timeout=10secs",
		}, c.opts.AgentFlags)
	}
	return n, err
}

// AddMaster makes a master on a new host that joins the cluster through the given
// nodes; it does not run yet.
func (c *Cluster) AddMaster(through ...*Node) (*Node, error) {
	var join []string
	for _, n := range through {
		join = append(join, n.IP())
	}
	m, err := c.master(c.next, strings.Join(join, ","), "--bootstrap_expect=0")
	if err != nil {
		return nil, err
	}
	c.next++
	c.Masters = append(c.Masters, m)
	return m, nil
}

// Up starts all that does not run, and waits until there is a leader at which all agents
// are registered.
func (c *Cluster) Up() error {
	for _, n := range c.Nodes() {
		if err := n.Launch(); err != nil {
			return err
		}
	}
	for _, n := range c.Nodes() {
		if err := n.WaitAnswers(); err != nil {
			return err
		}
	}
	return c.WaitAgents(len(c.Agents))
}

// Nodes returns all masters and agents.
func (c *Cluster) Nodes() []*Node { return slices.Concat(c.Masters, c.Agents) }

// Running returns the masters that run.
func (c *Cluster) Running() []*Node {
	return slices.DeleteFunc(slices.Clone(c.Masters), func(n *Node) bool { return !n.Runs() })
}

// Hosts returns the hosts of nodes.
func Hosts(nodes ...*Node) []*Host {
	var hosts []*Host
	for _, n := range nodes {
		hosts = append(hosts, n.Host)
	}
	return hosts
}

// Stop kills every process of the cluster and every container below it.
func (c *Cluster) Stop() {
	for _, n := range c.Nodes() {
		n.Signal(syscall.SIGCONT)
		n.Kill()
	}
	killBelow(c.Dir)
	for _, a := range c.Agents {
		if err := testcluster.RemoveCgroups(a.cgroups); err != nil {
			fmt.Fprintf(os.Stderr, "remove the cgroups of %s: %v\n", a.name, err)
		}
	}
	c.from.CloseIdleConnections()
	c.Net.Close()
}

// killBelow ends the processes below dir; again, since one may just fork.
func killBelow(dir string) {
	for range 3 {
		for _, pid := range testcluster.Processes(dir) {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	}
}

// clearLeftovers ends what tests that were killed have left: containers, which
// outlive their agents, and directories.
func clearLeftovers() {
	dirs, err := filepath.Glob(filepath.Join(os.TempDir(), strings.ReplaceAll(dirPattern, "%d", "*")+"*"))
	if err != nil {
		return
	}
	for _, dir := range dirs {
		var pid int
		if _, err := fmt.Sscanf(filepath.Base(dir), dirPattern, &pid); err != nil {
			continue
		}
		if err := syscall.Kill(pid, 0); errors.Is(err, syscall.ESRCH) {
			killBelow(dir)
			os.RemoveAll(dir)
		}
	}
}

// DumpLogs writes the daemons' logs to w.
func (c *Cluster) DumpLogs(w io.Writer) {
	for _, n := range c.Nodes() {
		fmt.Fprintf(w, "---- %s (%s) ----\n%s\n", n.name, n.IP(), n.Log())
	}
}

// leads is what a master that answers as the leader says.
type leads struct {
	ID          string  `json:"id"`
	Cluster     string  `json:"cluster"`
	ElectedTime float64 `json:"elected_time"`
	Activated   float64 `json:"activated_slaves"`
	Unreachable float64 `json:"unreachable_slaves"`
	Slaves      []struct {
		ID       string
		Hostname string
	}
	Frameworks []struct {
		ID        string
		Connected bool
		Tasks     []struct{ ID, State string }
	}
}

// errNotLeading is the answer of a master that does not lead.
var errNotLeading = errors.New("does not lead")

// asLeader asks a master for what only the leader answers.
func (n *Node) asLeader() (*leads, error) {
	status, body, err := n.Get("/state")
	if err != nil {
		return nil, err
	}
	if status != http.StatusOK {
		return nil, fmt.Errorf("%s %w: %d", n.name, errNotLeading, status)
	}
	l := new(leads)
	return l, json.Unmarshal([]byte(body), l)
}

// Leader waits until a master among those that run answers as the leader, and
// returns it.
func (c *Cluster) Leader(but ...*Node) (*Node, error) {
	var found *Node
	err := testcluster.Poll(func() error {
		var errs []error
		for _, m := range c.Running() {
			if slices.Contains(but, m) {
				continue
			}
			_, err := m.asLeader()
			if err == nil {
				found = m
				return nil
			}
			errs = append(errs, err)
		}
		return errors.Join(errs...)
	})
	if err != nil {
		return nil, fmt.Errorf("no leader: %w", err)
	}
	return found, nil
}

// WaitAgents waits until n agents are active at a leader.
func (c *Cluster) WaitAgents(n int) error {
	return testcluster.Poll(func() error {
		err := errors.New("no master runs")
		for _, m := range c.Running() {
			var l *leads
			if l, err = m.asLeader(); err == nil {
				if int(l.Activated) == n {
					return nil
				}
				return fmt.Errorf("%d of %d agents are active at %s", int(l.Activated), n, m.name)
			}
		}
		return err
	})
}

// CLI runs a clusterd command on the test's own host and returns what it prints.
func (c *Cluster) CLI(args ...string) (string, error) {
	bin, err := testcluster.Binary()
	if err != nil {
		return "", err
	}
	var out strings.Builder
	cmd := exec.CommandContext(context.Background(), bin, args...)
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := c.Client.Run(cmd); err != nil {
		return "", err
	}
	err = cmd.Wait()
	return out.String(), err
}
