package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"

	cliv2 "github.com/urfave/cli/v2"
	"golang.org/x/term"

	"clusterd/internal/cli/console"
	"clusterd/internal/flags"
	"clusterd/internal/sim/policy"
)

// simMasterFlags are the master's flags that a simulation takes: those that decide.
var simMasterFlags = []string{
	"allocation_interval", "role_sorter", "framework_sorter", "allocator_placement", "offer_timeout", "min_allocatable_resources",
	"fair_sharing_excluded_resource_names", "allocator_agent_recovery_factor", "allocator_recovery_timeout",
	"agent_ping_timeout", "max_agent_ping_timeouts", "agent_reregister_timeout", "agent_removal_rate_limit",
}

// simProgress is how often the progress of a simulation is shown.
const simProgress = 500 * time.Millisecond

// What a simulation may take of the machine, unless $GOGC and $GOMEMLIMIT say otherwise:
// it has much that lives long, so that it is worth to collect seldom.
const (
	simGC     = 300
	simMemory = 3700 << 20
)

func simFlags() *flags.Set {
	positive := func(v flags.Value) error {
		if v.Float() <= 0 && v.Int() <= 0 && v.Duration() <= 0 {
			return errors.New("must be greater than 0")
		}
		return nil
	}
	table := []flags.Flag{
		{Name: "help", Type: flags.Bool, Default: "false", Help: "Print this text."},
		{Name: "agents", Type: flags.Int, Default: "1000", Help: "Number of agents, up to 100,000.", Check: positive},
		{Name: "frameworks", Type: flags.Int, Default: "20", Help: "Number of frameworks of a workload that comes with clusterd.", Check: positive},
		{Name: "hours", Type: flags.Float, Default: "1", Help: "Length of the simulation in virtual hours.", Check: positive},
		{Name: "load", Type: flags.Float, Default: "0.8", Help: "Part of the cluster that a workload that comes with clusterd asks for; 1 is all of it.", Check: positive},
		{Name: "workload", Type: flags.Path, Default: "mixed", Help: "What is run: " + strings.Join(policy.Presets(), ", ") + ", or a JSON file (docs/simulation.md)."},
		{Name: "resources", Help: "Resources of each agent, as of an agent's flag. Default: the workload's, or cpus:16;mem:65536."},
		{Name: "racks", Type: flags.Int, Help: "Racks that the agents are in: the attribute rack is r1, r2, ... Default: the workload's, or 20."},
		{Name: "weights", List: true, Help: "Weights of roles, ROLE=WEIGHT; a comma list, repeatable."},
		{Name: "quota", List: true, Help: "Quota of a role, ROLE:GUARANTEES:LIMITS, each such as cpus=100,mem=50%; either may be empty; repeatable."},
		{Name: "fail", List: true, Help: "What goes wrong, WHAT@TIME[+DURATION] with agents:N, agents:P%, rack:NAME or master, such as agents:10%@2h+30m; repeatable."},
		{Name: "seed", Type: flags.Int, Default: "1", Help: "Seed of all randomness: the same seed gives the same result."},
		{Name: "output", Default: "table", Help: "Form of the result: table, wide (every framework) or json. Short: -o."},
		{Name: "plot", Type: flags.Path, Help: "File to draw the result into, as SVG."},
		{Name: "commit_latency", Type: flags.Duration, Default: "5ms", Help: "How long the registry takes to commit."},
		{Name: "link_latency", Type: flags.Duration, Default: "500us", Help: "How long a message takes to or from the master."},
		{Name: "task_start", Type: flags.Duration, Default: "25ms", Help: "How long an agent takes to start a task."},
		{Name: "registration_backoff_factor", Type: flags.Duration, Default: "1secs", Help: "Longest that agents and frameworks wait before they come back to a new master."},
	}
	master := flags.Master()
	for _, name := range simMasterFlags {
		f, _ := master.Lookup(name)
		table = append(table, f)
	}
	return flags.NewSet("sim", nil, table)
}

func simCommand(e env) *cliv2.Command {
	const usage = "try an allocation policy or a failure on a virtual cluster"
	set := simFlags()
	return &cliv2.Command{
		Name:            "sim",
		Usage:           usage,
		SkipFlagParsing: true,
		HideHelp:        true,
		BashComplete: func(c *cliv2.Context) {
			for _, s := range set.Complete(c.Args().Get(c.NArg() - 1)) {
				fmt.Fprintln(e.Out, s)
			}
		},
		Action: func(c *cliv2.Context) error {
			v, err := set.Parse(longOutput(c.Args().Slice()), os.Environ())
			if err != nil {
				return console.Hint(err, "clusterd sim --help lists the flags")
			}
			if v.Bool("help") {
				fmt.Fprintf(e.Out, "clusterd sim - %s\n\n", usage)
				return set.Usage(e.Out)
			}
			for _, w := range v.Warnings() {
				fmt.Fprintf(e.Err, "clusterd: warning: %s\n", w)
			}
			return runSim(c.Context, e, v)
		},
	}
}

// longOutput writes -o, which other commands have, as --output.
func longOutput(args []string) []string {
	out := slices.Clone(args)
	for i, a := range out {
		if a == "-o" {
			out[i] = "--output"
		} else if rest, ok := strings.CutPrefix(a, "-o="); ok {
			out[i] = "--output=" + rest
		}
	}
	return out
}

func runSim(ctx context.Context, e env, v *flags.Values) error {
	format := v.String("output")
	if !slices.Contains([]string{"table", "wide", "json"}, format) {
		return fmt.Errorf("%w: no output format %q (table, wide, json)", console.ErrUsage, format)
	}
	o, err := simOptions(v)
	if err != nil {
		return err
	}
	var plot *os.File
	if path := v.Path("plot"); path != "" {
		// Before the long run, not after it.
		if plot, err = os.Create(path); err != nil {
			return err
		}
		defer plot.Close()
	}
	done := showProgress(e.Err, &o)
	if os.Getenv("GOGC") == "" && os.Getenv("GOMEMLIMIT") == "" {
		debug.SetGCPercent(simGC)
		debug.SetMemoryLimit(simMemory)
	}
	r, err := policy.Run(ctx, o)
	done()
	if err != nil {
		return err
	}
	if plot != nil {
		if err := r.WriteSVG(plot); err != nil {
			return err
		}
	}
	if format == "json" {
		return r.WriteJSON(e.Out)
	}
	return r.WriteTable(e.Out, format == "wide")
}

// showProgress shows how far the run is, if somebody watches; the function that it
// returns ends that.
func showProgress(w io.Writer, o *policy.Options) func() {
	f, ok := w.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return func() {}
	}
	var last time.Duration
	o.Progress = func(p policy.Progress) {
		if p.Real-last < simProgress {
			return
		}
		last = p.Real
		fmt.Fprintf(w, "\r\x1b[K%3.0f%%  %s of %s in %s, %d tasks run, %d wait",
			100*p.Virtual.Seconds()/p.For.Seconds(), p.Virtual.Round(time.Second), p.For, p.Real.Round(time.Second), p.Running, p.Waiting)
	}
	return func() { fmt.Fprint(w, "\r\x1b[K") }
}

// simOptions reads the flags.
func simOptions(v *flags.Values) (policy.Options, error) {
	o := policy.DefaultOptions()
	args := []string{"--registry=in_memory"}
	for _, name := range simMasterFlags {
		if v.Given(name) {
			args = append(args, "--"+name+"="+v.String(name))
		}
	}
	m, err := flags.Master().Parse(args, nil)
	if err != nil {
		return o, err
	}
	if err := coreOptions(m, &o.Core); err != nil {
		return o, err
	}
	if err := allocatorOptions(m, &o.Allocator); err != nil {
		return o, err
	}
	o.Agents, o.Seed = v.Int("agents"), uint64(v.Int("seed"))
	o.For = time.Duration(min(v.Float("hours"), 1e6) * float64(time.Hour))
	o.CommitLatency, o.LinkLatency = v.Duration("commit_latency"), v.Duration("link_latency")
	o.TaskStart, o.Backoff = v.Duration("task_start"), v.Duration("registration_backoff_factor")
	for _, text := range v.List("fail") {
		f, err := policy.ParseFailure(text)
		if err != nil {
			return o, fmt.Errorf("--fail: %w: %w", flags.ErrInvalidValue, err)
		}
		o.Failures = append(o.Failures, f)
	}
	if o.Workload, err = simWorkload(v); err != nil {
		return o, err
	}
	return o, simRoles(v, o.Workload)
}

// simWorkload makes the workload, with the agents that the flags want.
func simWorkload(v *flags.Values) (*policy.Workload, error) {
	name := v.Path("workload")
	var w *policy.Workload
	var err error
	if slices.Contains(policy.Presets(), name) {
		if w, err = policy.Preset(name, v.Int("agents"), v.Int("frameworks"), v.Float("load")); err != nil {
			return nil, fmt.Errorf("%w: %w", flags.ErrInvalidValue, err)
		}
	} else {
		for _, flag := range []string{"frameworks", "load"} {
			if v.Given(flag) {
				return nil, fmt.Errorf("--%s: %w: what a workload's file asks for is in the file", flag, flags.ErrInvalidValue)
			}
		}
		b, err := os.ReadFile(name)
		if err != nil {
			return nil, console.Hint(fmt.Errorf("--workload: %w", err), "a file, or one of %s", strings.Join(policy.Presets(), ", "))
		}
		if w, err = policy.ReadWorkload(b); err != nil {
			return nil, fmt.Errorf("%s: %w: %w", name, flags.ErrInvalidValue, err)
		}
	}
	if len(w.Agents) == 0 {
		w.Agents = []policy.AgentGroup{{Resources: "cpus:16;mem:65536", Racks: 20}}
	}
	for _, flag := range []string{"resources", "racks"} {
		if v.Given(flag) && len(w.Agents) > 1 {
			return nil, fmt.Errorf("--%s: %w: the workload has several groups of agents", flag, flags.ErrInvalidValue)
		}
	}
	if v.Given("resources") {
		w.Agents[0].Resources = v.String("resources")
	}
	if v.Given("racks") {
		w.Agents[0].Racks = v.Int("racks")
	}
	return w, nil
}

// simRoles adds the weights and quotas of the flags.
func simRoles(v *flags.Values, w *policy.Workload) error {
	role := func(name string) *policy.Role {
		for i := range w.Roles {
			if w.Roles[i].Name == name {
				return &w.Roles[i]
			}
		}
		w.Roles = append(w.Roles, policy.Role{Name: name})
		return &w.Roles[len(w.Roles)-1]
	}
	for _, text := range v.List("weights") {
		name, number, _ := strings.Cut(text, "=")
		weight, err := strconv.ParseFloat(number, 64)
		if err != nil || !(weight > 0) {
			return fmt.Errorf("--weights=%s: %w: ROLE=WEIGHT, the weight greater than 0", text, flags.ErrInvalidValue)
		}
		role(name).Weight = weight
	}
	for _, text := range splitQuotas(v.List("quota")) {
		parts := strings.Split(text, ":")
		guarantee, limit, err := parseQuota(parts)
		if err != nil {
			return fmt.Errorf("--quota=%s: %w: %w", text, flags.ErrInvalidValue, err)
		}
		r := role(parts[0])
		r.Guarantee, r.Limit = guarantee, limit
	}
	for i := range w.Roles {
		r := &w.Roles[i]
		if !slices.ContainsFunc(w.Frameworks, func(f policy.FrameworkGroup) bool { return below(f.Role, r.Name) }) {
			return console.Hint(fmt.Errorf("role %s: %w: no framework is in it", r.Name, flags.ErrInvalidValue), "%s", simRoleNames(w))
		}
	}
	return nil
}

// below reports whether a role is another, or a part of it.
func below(role, of string) bool { return role == of || strings.HasPrefix(role, of+"/") }

func simRoleNames(w *policy.Workload) string {
	var names []string
	for i := range w.Frameworks {
		names = append(names, w.Frameworks[i].Role)
	}
	slices.Sort(names)
	return "the roles of this workload are " + strings.Join(slices.Compact(names), ", ")
}

// splitQuotas undoes the commas that lists of flags are joined by: a quota begins with
// a role, which has no "=".
func splitQuotas(items []string) []string {
	var out []string
	for _, item := range items {
		first, _, _ := strings.Cut(item, ":")
		if len(out) > 0 && strings.Contains(first, "=") {
			out[len(out)-1] += "," + item
		} else {
			out = append(out, item)
		}
	}
	return out
}

func parseQuota(parts []string) (guarantee, limit map[string]policy.Share, err error) {
	if len(parts) < 2 || len(parts) > 3 || parts[0] == "" {
		return nil, nil, errors.New("ROLE:GUARANTEES:LIMITS, such as prod:cpus=100,mem=50%:cpus=200 or dev::cpus=25%")
	}
	if guarantee, err = parseShares(parts[1]); err == nil && len(parts) == 3 {
		limit, err = parseShares(parts[2])
	}
	return guarantee, limit, err
}

func parseShares(text string) (map[string]policy.Share, error) {
	m := map[string]policy.Share{}
	for item := range strings.SplitSeq(text, ",") {
		if item == "" {
			continue
		}
		name, amount, ok := strings.Cut(item, "=")
		if !ok || name != "cpus" && name != "mem" {
			return nil, fmt.Errorf("%q is neither cpus=AMOUNT nor mem=AMOUNT", item)
		}
		s, err := policy.ParseShare(amount)
		if err != nil {
			return nil, err
		}
		m[name] = s
	}
	return m, nil
}
