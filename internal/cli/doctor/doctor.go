// Package doctor is `clusterd doctor`: it looks at a host and at a cluster for what keeps
// them from working well, and says what to do. Every check is a small function in the
// tables [hostChecks] and [clusterChecks]; what they find are [Finding]s.
//
// Checks change nothing but for a file that is written and removed to measure a disk. They
// run at once, each in a goroutine that is waited for. internal/cli imports it.
package doctor

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	cliv2 "github.com/urfave/cli/v2"

	"clusterd/internal/cli/console"
)

// State is how bad a finding is.
type State string

// States of findings, from good to bad.
const (
	OK      State = "ok"
	Note    State = "note"    // worth knowing; nothing is wrong
	Warning State = "warning" // works, but will hurt some day
	Problem State = "problem" // does not work, or is about to fail
)

// rank orders states, the worst first.
var rank = map[State]int{Problem: 0, Warning: 1, Note: 2, OK: 3}

// Finding is what a check says of one thing.
type Finding struct {
	// Check is the name of the check.
	Check string `json:"check"`
	State State  `json:"state"`
	// What was found; Why it matters; Do says what helps, mostly a command. The last two
	// are empty where all is well.
	What string `json:"what"`
	Why  string `json:"why,omitempty"`
	Do   string `json:"do,omitempty"`
}

// good is a finding that all is well.
func good(format string, args ...any) []Finding {
	return []Finding{{State: OK, What: fmt.Sprintf(format, args...)}}
}

// bad is a single finding that something is not.
func bad(s State, what, why, do string) []Finding {
	return []Finding{{State: s, What: what, Why: why, Do: do}}
}

// check looks at one thing of a subject.
type check[T any] struct {
	name  string
	about string
	run   func(ctx context.Context, of T) []Finding
}

// patience bounds one check: a disk or a server may hang.
const patience = 20 * time.Second

// examine runs checks at once and gives their findings in the order of the checks. done is
// told of each that has ended.
func examine[T any](ctx context.Context, checks []check[T], of T, done func()) []Finding {
	found := make([][]Finding, len(checks))
	var wg sync.WaitGroup
	for i, c := range checks {
		wg.Go(func() {
			defer done()
			found[i] = bounded(ctx, c, of)
			for j := range found[i] {
				found[i][j].Check = c.name
			}
		})
	}
	wg.Wait()
	return slices.Concat(found...)
}

// bounded runs a check and gives up after patience. What hangs in the kernel is left behind.
func bounded[T any](ctx context.Context, c check[T], of T) []Finding {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	result := make(chan []Finding, 1) // the check may end when nobody waits any more
	go func() { result <- c.run(ctx, of) }()
	select {
	case f := <-result:
		return f
	case <-ctx.Done():
		return bad(Problem, "it could not be told within "+patience.String(), "what is that slow to look at is slow to use", "look at it by hand, and at the kernel's log")
	}
}

// Commands returns `clusterd doctor`.
func Commands(e console.Env) []*cliv2.Command {
	return []*cliv2.Command{{
		Name:      "doctor",
		Usage:     "look for what is wrong with this host and with a cluster, and say what to do",
		ArgsUsage: "[host|cluster]",
		Description: "Without an argument this host is looked at, and the cluster, if one is named or one answers on this\n" +
			"machine. Exit code: 0, or 1 if there is a problem (with --strict: or a warning).\n\nChecks of a host: " + names(hostChecks) +
			".\nChecks of a cluster: " + names(clusterChecks) + ".",
		Flags: console.Flags(
			&cliv2.StringFlag{Name: "work-dir", Usage: "`DIRECTORY` whose disk is looked at: the --work_dir of master or agent", Value: "/var/lib/clusterd"},
			&cliv2.StringSliceFlag{Name: "only", Usage: "only the check with the `NAME`; repeatable"},
			&cliv2.StringSliceFlag{Name: "skip", Usage: "not the check with the `NAME`; repeatable"},
			&cliv2.BoolFlag{Name: "strict", Usage: "a warning counts as a problem for the exit code"},
			&cliv2.BoolFlag{Name: "quiet", Aliases: []string{"q"}, Usage: "show only what is not well"},
			console.OutputFlag(),
		),
		Action: func(c *cliv2.Context) error { return run(c, e) },
	}}
}

func names[T any](checks []check[T]) string {
	all := make([]string, len(checks))
	for i, c := range checks {
		all[i] = c.name
	}
	return strings.Join(all, ", ")
}

func run(c *cliv2.Context, e console.Env) error {
	args, err := console.Args(c, 0, 1)
	if err != nil {
		return err
	}
	subject := ""
	if len(args) == 1 {
		subject = args[0]
	}
	if subject != "" && subject != "host" && subject != "cluster" {
		return console.Hint(console.Usagef("no subject %q", subject), "clusterd doctor host, or clusterd doctor cluster")
	}
	if _, err := console.Format(c); err != nil {
		return err
	}
	hosts, clusters, err := chosen(c, subject)
	if err != nil {
		return err
	}
	bar := console.Progress(e, "checks", int64(len(hosts)+len(clusters)))
	defer bar.Done()
	found := examine(c.Context, hosts, thisHost(c.String("work-dir")), func() { bar.Add(1) })
	if len(clusters) > 0 {
		found = append(found, cluster(c, subject, clusters, func() { bar.Add(1) })...)
	}
	bar.Done()
	if err := c.Context.Err(); err != nil {
		return err
	}
	return report(c, e, found)
}

// chosen are the checks that --only, --skip and the subject leave.
func chosen(c *cliv2.Context, subject string) ([]check[*host], []check[*picture], error) {
	only, skip := console.Commas(c.StringSlice("only")), console.Commas(c.StringSlice("skip"))
	for _, name := range slices.Concat(only, skip) {
		if !known(hostChecks, name) && !known(clusterChecks, name) {
			return nil, nil, console.Hint(console.Usagef("no check %q", name), "the checks are %s, %s", names(hostChecks), names(clusterChecks))
		}
	}
	takes := func(name string) bool {
		return (len(only) == 0 || slices.Contains(only, name)) && !slices.Contains(skip, name)
	}
	hosts, clusters := pick(hostChecks, takes), pick(clusterChecks, takes)
	switch subject {
	case "host":
		clusters = nil
	case "cluster":
		hosts = nil
	}
	return hosts, clusters, nil
}

func known[T any](checks []check[T], name string) bool {
	return slices.ContainsFunc(checks, func(c check[T]) bool { return c.name == name })
}

func pick[T any](checks []check[T], takes func(string) bool) []check[T] {
	return slices.DeleteFunc(slices.Clone(checks), func(c check[T]) bool { return !takes(c.name) })
}

// cluster looks at the cluster that the flags name. If none is named and none answers, that
// is only worth a note.
func cluster(c *cliv2.Context, subject string, checks []check[*picture], done func()) []Finding {
	cl, err := console.Connect(c)
	if err != nil {
		return []Finding{{Check: "leader", State: Problem, What: err.Error(), Why: "no cluster is looked at", Do: console.HintOf(err)}}
	}
	pic, err := take(c.Context, cl.AtOnce())
	if err == nil {
		return examine(c.Context, checks, pic, done)
	}
	named := subject == "cluster" || c.IsSet("master") || cl.Context() != ""
	if !named && errors.Is(err, console.ErrUnreachable) {
		return []Finding{{
			Check: "leader", State: Note, What: "no cluster is looked at: none is named, and none answers at " + strings.Join(cl.Masters(), ", "),
			Do: "clusterd doctor --master=HOST:5050",
		}}
	}
	return []Finding{{
		Check: "leader", State: Problem, What: err.Error(), Why: "without a leader nothing is launched, and agents and frameworks wait",
		Do: cmp.Or(console.HintOf(err), "clusterd doctor host on each master, and the masters' logs"),
	}}
}

// report prints the findings and gives the exit code.
func report(c *cliv2.Context, e console.Env, found []Finding) error {
	worst := OK
	for _, f := range found {
		if rank[f.State] < rank[worst] {
			worst = f.State
		}
	}
	if c.Bool("quiet") {
		found = slices.DeleteFunc(found, func(f Finding) bool { return f.State == OK })
	}
	format, err := console.Format(c)
	if err != nil {
		return err
	}
	if format == "table" || format == "wide" {
		write(e, found)
	} else if err := list(found).Print(e, c); err != nil {
		return err
	}
	if worst == Problem || worst == Warning && c.Bool("strict") {
		return console.ExitError(console.ExitFailed)
	}
	return nil
}

// list is for -o json, yaml and name.
func list(found []Finding) *console.Table {
	t := &console.Table{Header: []string{"CHECK", "STATE", "WHAT"}, Items: found}
	for _, f := range found {
		t.Add(f.Check, string(f.State), f.What)
	}
	return t
}

// write is for people: a line each, and below what is not well why and what to do.
func write(e console.Env, found []Finding) {
	counts := map[State]int{}
	width := 0
	for _, f := range found {
		width = max(width, len(f.Check))
	}
	for _, f := range found {
		counts[f.State]++
		fmt.Fprintf(e.Out, "%-7s  %-*s  %s\n", f.State, width, f.Check, f.What)
		for _, more := range []struct{ label, text string }{{"why", f.Why}, {"do", f.Do}} {
			if more.text != "" {
				fmt.Fprintf(e.Out, "%*s%s: %s\n", 7+2+width+2, "", more.label, more.text)
			}
		}
	}
	fmt.Fprintf(e.Out, "\n%s, %s, %s, %d ok\n", console.Plural(counts[Problem], "problem"), console.Plural(counts[Warning], "warning"), console.Plural(counts[Note], "note"), counts[OK])
}
