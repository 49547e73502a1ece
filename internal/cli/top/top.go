// Package top is `clusterd top`: a cluster on a full screen, as it changes. The leader's
// summary is read once and its events are followed, so that nothing is asked for over and
// over.
//
//	leader --summary, events--> [feed] --snapshots--> [model] --> screen
//	                                    keys ------->    |
//	                                    acts <-----------+
//
// [feed] owns the connection and one goroutine; it hands out immutable snapshots, at most a
// few a second. The model is a pure function of messages (bubbletea): tests drive it
// without a terminal. internal/cli imports it.
package top

import (
	"context"
	"errors"
	"os"

	tea "charm.land/bubbletea/v2"
	cliv2 "github.com/urfave/cli/v2"

	"clusterd/internal/cli/console"
)

// Commands returns `clusterd top`.
func Commands(e console.Env) []*cliv2.Command {
	return []*cliv2.Command{{
		Name:  "top",
		Usage: "show the cluster on a full screen, live; look into agents, frameworks, tasks and their logs",
		Description: "Keys: Tab or 1-4 choose what is shown, arrows move, Enter looks into, Esc goes back, < and > choose the\n" +
			"column to sort by, r reverses, / filters, K kills a task, D drains an agent, ? shows all keys, q ends.",
		Flags: console.Flags(
			&cliv2.StringFlag{Name: "show", Usage: "what to begin with: cluster, agents, frameworks or tasks", Value: "cluster"},
		),
		Action: func(c *cliv2.Context) error { return run(c, e) },
	}}
}

func run(c *cliv2.Context, e console.Env) error {
	if _, err := console.Args(c, 0, 0); err != nil {
		return err
	}
	tab, ok := tabNamed(c.String("show"))
	if !ok {
		return console.Hint(console.Usagef("--show: there is no %q", c.String("show")), "cluster, agents, frameworks or tasks")
	}
	if !e.OutTerminal() {
		return console.Hint(errors.New("top needs a terminal"), "clusterd task list, clusterd agent list and others print once; their watch verbs go on")
	}
	cl, err := console.Connect(c)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(c.Context)
	defer cancel()
	f := newFeed(cl)
	// The first look is taken before the screen is: what goes wrong is said as always.
	if err := f.load(ctx); err != nil {
		return err
	}
	cl.AtOnce() // the screen says what it waits for
	m := newModel(&remote{ctx: ctx, cluster: cl}, tab)
	m.take(f.snapshot())
	m.may = permissions(ctx, cl)
	options := []tea.ProgramOption{tea.WithContext(ctx), tea.WithInput(e.In), tea.WithOutput(e.Out), tea.WithoutSignalHandler()}
	p := tea.NewProgram(m, append(options, tea.WithEnvironment(os.Environ()))...)
	done := make(chan struct{})
	go func() {
		defer close(done)
		f.follow(ctx, func(msg tea.Msg) { p.Send(msg) })
	}()
	_, err = p.Run()
	cancel()
	<-done
	if errors.Is(err, tea.ErrProgramKilled) && c.Context.Err() != nil {
		return nil // ended by a signal, as people do
	}
	return err
}

// permissions are the acts that who looks may take, on some objects at least. Masters that
// cannot say refuse what they do not allow.
func permissions(ctx context.Context, cl *console.Cluster) func(action string) bool {
	var session struct {
		Actions map[string]string `json:"actions"`
	}
	if err := cl.Get(ctx, console.OwnPath+"session", &session); err != nil || session.Actions == nil {
		return func(string) bool { return true }
	}
	return func(action string) bool { return session.Actions[action] != "none" }
}
