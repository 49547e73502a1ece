package operate

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	cliv2 "github.com/urfave/cli/v2"

	"clusterd/api/client"
	"clusterd/internal/cli/console"
	"clusterd/internal/registryapi"
)

// transferPatience is how long `registry transfer` and `registry restore` wait for
// a leader afterwards.
const transferPatience = 30 * time.Second

// pollInterval is how often something is looked at that tells nobody when it changes.
const pollInterval = 100 * time.Millisecond

func registryCommand(e console.Env) *cliv2.Command {
	force := &cliv2.BoolFlag{Name: "force", Usage: "also where it is refused for good reason"}
	yes := &cliv2.BoolFlag{Name: "yes", Usage: "do it: the command asks for this because it cannot be undone"}
	workDir := func(usage string) cliv2.Flag {
		return &cliv2.StringFlag{Name: "work_dir", Aliases: []string{"work-dir"}, Usage: usage}
	}
	action := func(run func(c *cliv2.Context, e console.Env) error) cliv2.ActionFunc {
		return func(c *cliv2.Context) error { return run(c, e) }
	}
	cmd := &cliv2.Command{
		Name:  "registry",
		Usage: "look after what masters agree on, and after the masters",
		Subcommands: []*cliv2.Command{
			{
				Name: "peers", Usage: "list the masters: members of the group, and others that gossip has seen",
				Flags: console.Flags(console.OutputFlag()), Action: action(runPeers),
			},
			{
				Name: "status", Usage: "show how one master stands: the first of --master that answers",
				Flags: console.Flags(console.OutputFlag()), Action: action(runStatus),
			},
			{
				Name: "add", Usage: "let a master join that gossip does not bring", ArgsUsage: "ID HOST:RAFT_PORT",
				Flags: console.Flags(force), Action: action(runAdd),
			},
			{
				Name: "remove", Usage: "remove a master for good, by its id, the beginning of it, or an address", ArgsUsage: "ID",
				Flags: console.Flags(force, console.YesFlag()), Action: action(runRemove),
			},
			{
				Name: "transfer", Usage: "have another master lead: the one named, or whoever is furthest", ArgsUsage: "[ID]",
				Flags: console.Flags(console.YesFlag()), Action: action(runTransfer),
			},
			{
				Name: "save", Usage: "write a backup of the registry", ArgsUsage: "FILE",
				Flags:  console.Flags(&cliv2.BoolFlag{Name: "stale", Usage: "take it from any master, also where none leads; it may lack the last changes"}),
				Action: action(runSave),
			},
			{
				Name: "restore", Usage: "replace what a running cluster's registry holds by a backup, or found a new one from it (--work_dir)", ArgsUsage: "FILE",
				Flags:  console.Flags(workDir("empty `DIRECTORY` of a master that does not run"), force, yes, &cliv2.StringFlag{Name: "node_id", Usage: "with --work_dir: the master's --node_id, if it is to have one"}),
				Action: action(runRestore),
			},
			{
				Name: "found", Usage: "begin an empty registry under the id of a cluster that has lost all of its masters and backups",
				Flags: []cliv2.Flag{
					workDir("empty `DIRECTORY` of a master that does not run"),
					&cliv2.StringFlag{Name: "cluster_id", Usage: "the cluster's `ID`: agents say it where they refuse another one"},
					&cliv2.StringFlag{Name: "node_id", Usage: "the master's --node_id, if it is to have one"},
				},
				Action: action(runFound),
			},
			{
				Name: "inspect", Usage: "show what the registry holds: of a running cluster, of a backup, or of a work directory", ArgsUsage: "[FILE]",
				Flags:  console.Flags(workDir("`DIRECTORY` of a master that does not run"), console.OutputFlag()),
				Action: action(runInspect),
			},
			{
				Name: "recover", Usage: "begin anew from one surviving master when the others are lost for good",
				Flags:  []cliv2.Flag{workDir("`DIRECTORY` of the surviving master, which does not run"), yes},
				Action: action(runRecover),
			},
		},
	}
	return console.Group(cmd)
}

// positional returns between least and most arguments of a command.
func positional(c *cliv2.Context, least, most int) ([]string, error) {
	return console.Args(c, least, most)
}

// confirmed wants --yes for what cannot be undone.
func confirmed(c *cliv2.Context, what string) error {
	if c.Bool("yes") {
		return nil
	}
	return console.Hint(fmt.Errorf("%w: this %s, and needs --yes", console.ErrUsage, what), "clusterd registry %s --yes ...", c.Command.Name)
}

func runPeers(c *cliv2.Context, e console.Env) error {
	if _, err := positional(c, 0, 0); err != nil {
		return err
	}
	st, err := newRegistryClient(c).status(c.Context)
	if err != nil {
		return err
	}
	if format, err := console.Format(c); err == nil && format != "json" && format != "yaml" {
		switch {
		case st.ClusterID == "":
			fmt.Fprintln(e.Err, "this master belongs to no cluster yet")
		case st.Leader == "":
			fmt.Fprintln(e.Err, "nobody leads")
		}
	}
	return peerTable(st).Print(e, c)
}

func peerTable(st *registryapi.Status) *console.Table {
	t := &console.Table{Header: []string{"ID", "RAFT", "ROLE", "STATE", "HTTP", "BUILD"}, Wide: []string{"FORMAT"}, Items: st}
	row := func(m *registryapi.Member, role string) {
		state := "dead"
		switch {
		case m.Alive && m.Health == registryapi.Unhealthy:
			state = "cut off" // from the leader, but not from gossip
		case m.Alive:
			state = "alive"
		case m.Health == registryapi.Healthy:
			state = "no gossip" // but it answers the leader
		case !m.Known:
			state = "unknown"
		}
		format := "-"
		if m.Format > 0 {
			format = fmt.Sprint(m.Format)
		}
		t.Rows = append(t.Rows, []string{m.ID, m.Address, role, state, cmp.Or(m.HTTP, "-"), cmp.Or(m.Build, "-"), format})
	}
	for i := range st.Members {
		role := "catching up"
		switch m := &st.Members[i]; {
		case m.Leads:
			role = "leader"
		case m.Voter:
			role = "voter"
		}
		row(&st.Members[i], role)
	}
	for i := range st.Others {
		row(&st.Others[i], "no member")
	}
	return t
}

func runStatus(c *cliv2.Context, e console.Env) error {
	if _, err := positional(c, 0, 0); err != nil {
		return err
	}
	st, err := newRegistryClient(c).status(c.Context)
	if err != nil {
		return err
	}
	t := &console.Table{Header: []string{"WHAT", "VALUE"}, Items: st}
	add := func(what string, value any) { t.Rows = append(t.Rows, []string{what, cmp.Or(fmt.Sprint(value), "-")}) }
	add("master", st.ID+" at "+st.Address)
	add("cluster", st.ClusterID)
	add("state", st.State)
	add("leader", st.Leader)
	add("leader's address", st.LeaderAddress)
	if st.State != "leader" && st.Leader != "" {
		add("leader heard", fmt.Sprintf("%d ms ago", st.LastContactMS))
	}
	add("epoch, term", fmt.Sprintf("%d, %d", st.Epoch, st.Term))
	if st.Leads {
		add("voters that may fail", st.Tolerates)
	}
	add("log: last, committed, applied", fmt.Sprintf("%d, %d, %d", st.LastIndex, st.CommitIndex, st.AppliedIndex))
	add("snapshot", fmt.Sprintf("index %d of term %d", st.SnapshotIndex, st.SnapshotTerm))
	add("calls that wait", st.Queued)
	add("format, build", fmt.Sprintf("%d, %s", st.Format, st.Build))
	for _, en := range st.Counts.Entries() {
		add(en.What, en.N)
	}
	return t.Print(e, c)
}

func runAdd(c *cliv2.Context, e console.Env) error {
	args, err := positional(c, 2, 2)
	if err != nil {
		return err
	}
	st, err := newRegistryClient(c).change(c.Context, "add", registryapi.Change{ID: args[0], Address: args[1]}, c.Bool("force"))
	if err != nil {
		return err
	}
	fmt.Fprintf(e.Out, "added %s at %s: it votes once it has caught up\n", args[0], args[1])
	return peerTable(st).Write(e.Out)
}

func runRemove(c *cliv2.Context, e console.Env) error {
	args, err := positional(c, 1, 1)
	if err != nil {
		return err
	}
	rc := newRegistryClient(c)
	m, err := rc.member(c.Context, args[0])
	if err != nil {
		return err
	}
	if err := console.Confirm(e, c, fmt.Sprintf("remove master %s at %s for good", m.ID, m.Address)); err != nil {
		return err
	}
	st, err := rc.change(c.Context, "remove", registryapi.Change{ID: m.ID}, c.Bool("force"))
	if err != nil {
		return err
	}
	fmt.Fprintf(e.Out, "removed %s at %s\n", m.ID, m.Address)
	if m.Alive {
		fmt.Fprintln(e.Err, "clusterd: warning: it still runs, and joins again as soon as the leader hears of it: stop it")
	}
	return peerTable(st).Write(e.Out)
}

// member finds the member that a person means.
func (rc *registryClient) member(ctx context.Context, name string) (*registryapi.Member, error) {
	st, err := rc.status(ctx)
	if err != nil {
		return nil, err
	}
	var found []*registryapi.Member
	for i := range st.Members {
		m := &st.Members[i]
		if m.ID == name {
			return m, nil
		}
		if strings.HasPrefix(m.ID, name) || m.Address == name || m.HTTP == name {
			found = append(found, m)
		}
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return nil, console.Hint(fmt.Errorf("no member %q of the registry", name), "clusterd registry peers lists them")
	}
	return nil, console.Hint(fmt.Errorf("%q may be %s or %s", name, found[0].ID, found[1].ID), "give more of the id")
}

func runTransfer(c *cliv2.Context, e console.Env) error {
	args, err := positional(c, 0, 1)
	if err != nil {
		return err
	}
	rc := newRegistryClient(c)
	before, err := rc.status(c.Context)
	if err != nil {
		return err
	}
	var change registryapi.Change
	next := "the master that is furthest"
	if len(args) > 0 {
		m, err := rc.member(c.Context, args[0])
		if err != nil {
			return err
		}
		if m.Leads {
			return fmt.Errorf("%s leads already", m.ID)
		}
		change.ID, next = m.ID, "master "+m.ID
	}
	if err := console.Confirm(e, c, fmt.Sprintf("have %s lead in place of %s; calls wait meanwhile, and connections to the leader are lost", next, cmp.Or(before.Leader, "nobody"))); err != nil {
		return err
	}
	if _, err := rc.change(c.Context, "transfer", change, false); err != nil {
		return err
	}
	after, err := rc.awaitLeader(c.Context, before.Epoch)
	if err != nil {
		return err
	}
	fmt.Fprintf(e.Out, "%s at %s leads, epoch %d\n", after.Leader, after.LeaderAddress, after.Epoch)
	return nil
}

// awaitLeader waits for a leader later than an epoch.
func (rc *registryClient) awaitLeader(ctx context.Context, epoch uint64) (*registryapi.Status, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, transferPatience, errors.New("it was done, but nobody leads yet; clusterd registry peers shows the masters"))
	defer cancel()
	for {
		st, err := rc.status(ctx)
		if err == nil && st.LeaderAddress != "" && st.Epoch > epoch {
			return st, nil
		}
		if client.Sleep(ctx, pollInterval) != nil {
			return nil, context.Cause(ctx)
		}
	}
}

// isFile says whether something is a file that can be read, for clear errors.
func isFile(path string) error {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return err
	case info.IsDir():
		return console.Hint(fmt.Errorf("%s is a directory", path), "--work_dir=%s reads the work directory of a master", path)
	}
	return nil
}
