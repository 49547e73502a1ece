package cli

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/rs/zerolog"
	cliv2 "github.com/urfave/cli/v2"

	"clusterd/agent"
	"clusterd/api/client"
	"clusterd/api/client/operator"
	"clusterd/api/mesos/v1/master"
	"clusterd/internal/cli/console"
	"clusterd/internal/flags"
	"clusterd/server"
)

const (
	// devPoll is how often dev looks whether its agent has registered.
	devPoll = 10 * time.Millisecond
	// devPatience is how long it looks.
	devPatience = 30 * time.Second
)

func devCommand(e env) *cliv2.Command {
	masterFlags, agentFlags := flags.Master(), flags.Agent()
	help := func(s *flags.Set, name string) string {
		f, _ := s.Lookup(name)
		return f.Help
	}
	return &cliv2.Command{
		Name:  "dev",
		Usage: "run a whole cluster on this machine in one process, for trying things out",
		Flags: []cliv2.Flag{
			&cliv2.StringFlag{Name: "ip", Usage: "`ADDRESS` to listen on", Value: "127.0.0.1"},
			&cliv2.IntFlag{Name: "port", Usage: "`PORT` of the master; 0: any", Value: flags.DefaultMasterPort},
			&cliv2.IntFlag{Name: "agent_port", Usage: "`PORT` of the agent; 0: any", Value: flags.DefaultAgentPort},
			&cliv2.IntFlag{Name: "agents", Usage: "`NUMBER` of agents; those after the first listen on any port", Value: 1},
			&cliv2.StringFlag{Name: "work_dir", Usage: "`DIRECTORY` of everything; default: a temporary one that is removed at the end"},
			&cliv2.StringFlag{Name: "hostname", Usage: help(masterFlags, "hostname")},
			&cliv2.StringFlag{Name: "resources", Usage: help(agentFlags, "resources")},
			&cliv2.StringFlag{Name: "attributes", Usage: help(agentFlags, "attributes")},
			&cliv2.BoolFlag{Name: "example", Usage: "run an example task first and show its output"},
			&cliv2.BoolFlag{Name: "daemon_environment", Hidden: true, Usage: "read flags of master and agents from the environment, as mesos-local does"},
			&cliv2.BoolFlag{Name: "verbose", Aliases: []string{"v"}, Usage: "log what master and agent do"},
		},
		Action: func(c *cliv2.Context) error { return runDev(c, e) },
	}
}

func runDev(c *cliv2.Context, e env) (err error) {
	work, cleanup, err := devWorkDir(c.String("work_dir"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, cleanup()) }()
	log := zerolog.New(logWriter(e.Err)).Level(zerolog.WarnLevel).With().Timestamp().Logger()
	if c.Bool("verbose") {
		log = log.Level(zerolog.InfoLevel)
	}
	m, err := devMaster(c, e, work, log)
	if err != nil {
		return portTaken(err, c.Int("port"))
	}
	if err := m.Start(c.Context); err != nil {
		return errors.Join(err, stop(m))
	}
	defer func() { err = errors.Join(err, stop(m)) }()
	masterAddr := net.JoinHostPort(c.String("ip"), portOf(m.Addr().String()))
	agents, stopAgents, err := devAgents(c, e, work, masterAddr, log)
	defer func() { err = errors.Join(err, stopAgents()) }()
	if err != nil {
		return err
	}
	if err := devReady(c.Context, masterAddr, len(agents)); err != nil {
		return err
	}
	devWelcome(e, masterAddr, agents, work)
	if c.Bool("example") {
		if err := devExample(c, e, masterAddr); err != nil {
			return err
		}
	}
	flag := ""
	if masterAddr != console.DefaultMaster {
		flag = "--master=" + masterAddr + " "
	}
	fmt.Fprintf(e.Out, "try next:  %s run %s-- sh -c 'echo hello; exit 3'\n^C ends the cluster\n", self(), flag)
	select {
	case <-c.Context.Done():
		return nil
	case <-m.Done():
		return m.Err()
	case <-agents[0].Done():
		return agents[0].Err()
	}
}

// devWelcome says what there is.
func devWelcome(e env, masterAddr string, agents []*agent.Agent, work string) {
	count := "one agent"
	if len(agents) > 1 {
		count = fmt.Sprintf("%d agents", len(agents))
	}
	fmt.Fprintf(e.Out, "clusterd: a cluster of one master and %s is up\n\n  master  http://%s\n", count, masterAddr)
	for _, a := range agents {
		fmt.Fprintf(e.Out, "  agent   http://%s\n", a.Addr())
	}
	fmt.Fprintf(e.Out, "  files   %s\n\n", work)
}

// devAgents starts the agents. The function that it returns stops those that were started,
// also where others could not be.
func devAgents(c *cliv2.Context, e env, work, masterAddr string, log zerolog.Logger) (agents []*agent.Agent, stopAll func() error, err error) {
	stopAll = func() (err error) {
		for _, a := range slices.Backward(agents) {
			err = errors.Join(err, devStop(a, c.String("work_dir") == ""))
		}
		return err
	}
	n := c.Int("agents")
	if n < 1 {
		return nil, stopAll, console.Usagef("--agents=%d: there is one at least", n)
	}
	for i := range n {
		a, err := devAgent(c, e, work, masterAddr, i, log)
		if err != nil {
			return agents, stopAll, portTaken(err, c.Int("agent_port"))
		}
		if err := a.Start(c.Context); err != nil {
			return agents, stopAll, errors.Join(err, stop(a))
		}
		agents = append(agents, a)
	}
	return agents, stopAll, nil
}

// devStop stops the agent. Tasks go on without it, for the next run to take up;
// if there will be none, because the work directory goes, they end with it.
func devStop(a *agent.Agent, forGood bool) error {
	if forGood {
		a.Leave("the dev cluster ends")
		select {
		case <-a.Done():
		case <-time.After(stopPatience):
		}
	}
	return stop(a)
}

// self is how the user called this program.
func self() string {
	if len(os.Args) > 0 && os.Args[0] != "" {
		return os.Args[0]
	}
	return "clusterd"
}

// devWorkDir makes the work directory, and says how to remove a temporary one.
func devWorkDir(dir string) (string, func() error, error) {
	if dir == "" {
		dir, err := os.MkdirTemp("", "clusterd-dev-")
		return dir, func() error { return os.RemoveAll(dir) }, err
	}
	dir, err := filepath.Abs(dir)
	if err == nil {
		err = os.MkdirAll(dir, 0o755)
	}
	return dir, func() error { return nil }, err
}

// devFlags reads flags of a daemon. Defaults come from the flag table, so that dev is a cluster
// like any other; the environment counts for mesos-local only, and dev's own flags above it.
func devFlags(c *cliv2.Context, e env, set *flags.Set, args ...string) (*flags.Values, error) {
	var environ []string
	if c.Bool("daemon_environment") {
		var err error
		if environ, err = localEnvironment(set, os.Environ()); err != nil {
			return nil, err
		}
	}
	for _, name := range []string{"hostname", "resources", "attributes"} {
		if _, has := set.Lookup(name); has && c.IsSet(name) {
			args = append(args, "--"+name+"="+c.String(name))
		}
	}
	v, err := set.Parse(args, environ)
	if err != nil {
		return nil, err
	}
	for _, w := range v.Warnings() {
		fmt.Fprintf(e.Err, "clusterd: warning: %s\n", w)
	}
	return v, nil
}

func devMaster(c *cliv2.Context, e env, work string, log zerolog.Logger) (*server.Server, error) {
	args := []string{"--ip=" + c.String("ip"), "--work_dir=" + filepath.Join(work, "master")}
	if !c.Bool("daemon_environment") {
		args = append(args, "--cluster=dev")
	}
	v, err := devFlags(c, e, flags.Master(), args...)
	if err != nil {
		return nil, err
	}
	o, err := masterOptions(c.Context, v)
	if err != nil {
		return nil, err
	}
	o.Port = c.Int("port")
	// Nobody joins this registry: any port of loopback does, and there is nobody to
	// gossip with.
	o.RaftBind, o.GossipBind = net.JoinHostPort("127.0.0.1", "0"), ""
	o.Logger = log
	return server.New(o)
}

func devAgent(c *cliv2.Context, e env, work, master string, i int, log zerolog.Logger) (*agent.Agent, error) {
	suffix, port := "", c.Int("agent_port")
	if i > 0 {
		suffix, port = strconv.Itoa(i+1), 0
	}
	v, err := devFlags(c, e, flags.Agent(), "--ip="+c.String("ip"), "--master="+master,
		"--work_dir="+filepath.Join(work, "agent"+suffix), "--runtime_dir="+filepath.Join(work, "run"+suffix))
	if err != nil {
		return nil, err
	}
	o, err := agentOptions(c.Context, v)
	if err != nil {
		return nil, err
	}
	o.Port = port
	// Register at once: there is no herd of agents to spread.
	o.RegistrationBackoffFactor = devPoll
	o.Log = log
	return agent.New(o)
}

func portOf(address string) string {
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return ""
	}
	return port
}

func portTaken(err error, port int) error {
	var op *net.OpError
	if errors.As(err, &op) && op.Op == "listen" {
		return console.Hint(err, "is another clusterd running? --port and --agent_port choose others than %s", strconv.Itoa(port))
	}
	return err
}

// devReady waits until the agents are registered.
func devReady(ctx context.Context, masterAddr string, agents int) error {
	m, err := operator.NewMaster([]string{masterAddr}, operator.Options{})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, devPatience, errors.New("the agent does not register with the master; --verbose shows why"))
	defer cancel()
	for {
		res, err := m.Get(ctx, master.Call_GET_AGENTS)
		if err == nil && len(res.GetGetAgents().GetAgents()) >= agents {
			return nil
		}
		if client.Sleep(ctx, devPoll) != nil {
			return context.Cause(ctx)
		}
	}
}

// exampleScript is what the example task runs.
const exampleScript = `echo "hello from task $(basename "$(dirname "$(dirname "$PWD")")")"; echo "sandbox: $PWD"`

// devExample runs a task as `clusterd run` would.
func devExample(c *cliv2.Context, e env, masterAddr string) error {
	fmt.Fprintf(e.Out, "running an example task: sh -c '...'\n")
	app := newApp(e)
	if err := app.RunContext(c.Context, []string{"clusterd", "run", "--master=" + masterAddr, "--name=example", "--", "sh", "-c", exampleScript}); err != nil {
		return fmt.Errorf("example task: %w", err)
	}
	fmt.Fprintln(e.Out)
	return nil
}
