package cli

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
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
			&cliv2.StringFlag{Name: "work_dir", Usage: "`DIRECTORY` of everything; default: a temporary one that is removed at the end"},
			&cliv2.StringFlag{Name: "hostname", Usage: help(masterFlags, "hostname")},
			&cliv2.StringFlag{Name: "resources", Usage: help(agentFlags, "resources")},
			&cliv2.StringFlag{Name: "attributes", Usage: help(agentFlags, "attributes")},
			&cliv2.BoolFlag{Name: "example", Usage: "run an example task first and show its output"},
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
	m, err := devMaster(c, work, log)
	if err != nil {
		return portTaken(err, c.Int("port"))
	}
	if err := m.Start(c.Context); err != nil {
		return errors.Join(err, stop(m))
	}
	defer func() { err = errors.Join(err, stop(m)) }()
	masterAddr := net.JoinHostPort(c.String("ip"), portOf(m.Addr().String()))
	a, err := devAgent(c, work, masterAddr, log)
	if err != nil {
		return portTaken(err, c.Int("agent_port"))
	}
	if err := a.Start(c.Context); err != nil {
		return errors.Join(err, stop(a))
	}
	defer func() { err = errors.Join(err, devStop(a, c.String("work_dir") == "")) }()
	if err := devReady(c.Context, masterAddr); err != nil {
		return err
	}
	fmt.Fprintf(e.Out, "clusterd: a cluster of one master and one agent is up\n\n")
	fmt.Fprintf(e.Out, "  master  http://%s\n  agent   http://%s\n  files   %s\n\n", masterAddr, a.Addr(), work)
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
	case <-a.Done():
		return a.Err()
	}
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

func devMaster(c *cliv2.Context, work string, log zerolog.Logger) (*server.Server, error) {
	// Defaults come from the flag table, so that dev is a master like any other.
	v, err := flags.Master().Parse([]string{
		"--ip=" + c.String("ip"), "--work_dir=" + filepath.Join(work, "master"), "--cluster=dev",
	}, nil)
	if err != nil {
		return nil, err
	}
	o, err := masterOptions(c.Context, v)
	if err != nil {
		return nil, err
	}
	o.Port, o.Hostname = c.Int("port"), c.String("hostname")
	// Nobody joins this registry: any port of loopback does, and there is nobody to
	// gossip with.
	o.RaftBind, o.GossipBind = net.JoinHostPort("127.0.0.1", "0"), ""
	o.Logger = log
	return server.New(o)
}

func devAgent(c *cliv2.Context, work, master string, log zerolog.Logger) (*agent.Agent, error) {
	v, err := flags.Agent().Parse([]string{
		"--ip=" + c.String("ip"), "--master=" + master,
		"--work_dir=" + filepath.Join(work, "agent"), "--runtime_dir=" + filepath.Join(work, "run"),
	}, nil)
	if err != nil {
		return nil, err
	}
	o, err := agentOptions(c.Context, v)
	if err != nil {
		return nil, err
	}
	o.Port, o.Hostname = c.Int("agent_port"), c.String("hostname")
	o.Resources, o.Attributes = c.String("resources"), c.String("attributes")
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

// devReady waits until the agent is registered.
func devReady(ctx context.Context, masterAddr string) error {
	m, err := operator.NewMaster([]string{masterAddr}, operator.Options{})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, devPatience, errors.New("the agent does not register with the master; --verbose shows why"))
	defer cancel()
	for {
		res, err := m.Get(ctx, master.Call_GET_AGENTS)
		if err == nil && len(res.GetGetAgents().GetAgents()) > 0 {
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
