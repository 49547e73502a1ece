package work

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"

	cliv2 "github.com/urfave/cli/v2"

	"clusterd/api/client"
	mesos "clusterd/api/mesos/v1"
	"clusterd/internal/cli/console"
)

func logsCommand(e console.Env) *cliv2.Command {
	return &cliv2.Command{
		Name:      "logs",
		Usage:     "show what tasks have written to their stdout and stderr",
		ArgsUsage: "[TASK...]",
		Description: console.TasksHelp + "\nThe lines of several tasks have their\n" +
			"names before them. Tasks that have ended are shown as long as their sandboxes are kept.",
		Flags: console.Flags(
			&cliv2.BoolFlag{Name: "follow", Aliases: []string{"f"}, Usage: "go on as the tasks write, until they end or ^C"},
			&cliv2.IntFlag{Name: "tail", Aliases: []string{"n"}, Usage: "begin with the last `N` lines of each file", DefaultText: "all"},
			&cliv2.BoolFlag{Name: "stdout", Usage: "only what was written to stdout"},
			&cliv2.BoolFlag{Name: "stderr", Usage: "only what was written to stderr"},
			&cliv2.StringFlag{Name: "file", Usage: "only this `FILE` of the sandbox, instead of stdout and stderr"},
			&cliv2.StringFlag{Name: "framework", Usage: "all tasks of this `FRAMEWORK` (id or name); with -f also those to come"},
			&cliv2.StringSliceFlag{Name: "filter", Usage: "all tasks with `KEY=VALUE` (or !=, ~, !~): id, name, state, framework, host, label.KEY; repeatable"},
			&cliv2.BoolFlag{Name: "all", Aliases: []string{"a"}, Usage: "of --framework and --filter, also the tasks that have ended"},
			&cliv2.BoolFlag{Name: "no_prefix", Aliases: []string{"no-prefix"}, Usage: "write nothing before the lines"},
		),
		Action: func(c *cliv2.Context) error {
			l := &logs{Env: e, c: c, lines: &lines{out: e.OutTerminal()}}
			for _, a := range c.Args().Slice() {
				if strings.HasPrefix(a, "-") && len(a) > 1 {
					return console.Hint(console.Usagef("%s comes after an argument", a), "flags come before the task: clusterd logs -f TASK")
				}
			}
			if err := l.selection(); err != nil {
				return err
			}
			var err error
			if l.cluster, err = console.Connect(c); err != nil {
				return err
			}
			return l.run(c.Context)
		},
	}
}

// logs is one run of the command.
type logs struct {
	console.Env
	c       *cliv2.Context
	cluster *console.Cluster
	lines   *lines
	filters []func(console.Task) bool
	follow  bool
	several bool // tasks at the beginning

	wg sync.WaitGroup
	mu sync.Mutex // mu guards what follows.
	// seen are the tasks whose output is shown.
	seen   map[key]bool
	number int
	failed []error
}

// selection reads which tasks are meant.
func (l *logs) selection() error {
	c := l.c
	l.follow, l.seen = c.Bool("follow"), map[key]bool{}
	kinds := 0
	for _, name := range []string{"stdout", "stderr", "file"} {
		if c.IsSet(name) {
			kinds++
		}
	}
	if kinds > 1 {
		return console.Usagef("--stdout, --stderr and --file exclude each other")
	}
	if c.Int("tail") < 0 {
		return console.Usagef("--tail=%d", c.Int("tail"))
	}
	if f := c.String("framework"); f != "" {
		l.filters = append(l.filters, func(t console.Task) bool {
			return t.Framework == f || strings.HasPrefix(t.GetFrameworkId().GetValue(), f) || strings.HasSuffix(t.GetFrameworkId().GetValue(), "-"+f)
		})
	}
	for _, text := range console.SplitFilters(c.StringSlice("filter")) {
		test, err := taskFilter(text)
		if err != nil {
			return err
		}
		l.filters = append(l.filters, test)
	}
	switch {
	case c.NArg() == 0 && len(l.filters) == 0:
		return console.Hint(console.Usagef("no task given"), "clusterd logs TASK..., --framework or --filter; clusterd ps lists tasks")
	case c.NArg() > 0 && len(l.filters) > 0:
		return console.Usagef("tasks are given by name, or by --framework and --filter, not by both")
	}
	return nil
}

// taskFilter reads KEY=VALUE and its like.
func taskFilter(text string) (func(console.Task) bool, error) {
	at, op := len(text), ""
	for _, o := range operators {
		if i := strings.Index(text, o); i >= 0 && i < at {
			at, op = i, o
		}
	}
	get, ok := taskKeys[text[:at]]
	if label, is := strings.CutPrefix(text[:at], "label."); is {
		get, ok = func(t console.Task) string {
			for _, l := range t.GetLabels().GetLabels() {
				if l.GetKey() == label {
					return l.GetValue()
				}
			}
			return ""
		}, true
	}
	if op == "" || !ok {
		return nil, console.Hint(console.Usagef("--filter %q", text), "KEY=VALUE, KEY!=VALUE, KEY~REGEXP or KEY!~REGEXP with id, name, state, framework, host or label.KEY")
	}
	value := text[at+len(op):]
	not := strings.HasPrefix(op, "!")
	if strings.HasSuffix(op, "=") {
		return func(t console.Task) bool { return strings.EqualFold(get(t), value) != not }, nil
	}
	re, err := regexp.Compile(value)
	if err != nil {
		return nil, console.Usagef("--filter %q: %w", text, err)
	}
	return func(t console.Task) bool { return re.MatchString(get(t)) != not }, nil
}

var taskKeys = map[string]func(console.Task) string{
	"id":        func(t console.Task) string { return t.GetTaskId().GetValue() },
	"name":      func(t console.Task) string { return t.GetName() },
	"state":     func(t console.Task) string { return strings.TrimPrefix(t.GetState().String(), "TASK_") },
	"framework": func(t console.Task) string { return t.Framework },
	"host":      func(t console.Task) string { return t.Hostname },
}

func (l *logs) say(format string, args ...any) { fmt.Fprintf(l.Err, "clusterd: "+format+"\n", args...) }

func (l *logs) run(ctx context.Context) error {
	if !l.follow {
		tasks, err := l.choose(ctx)
		if err != nil {
			return err
		}
		return l.once(ctx, tasks)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer l.wg.Wait()
	defer cancel()
	w := newWatcher(l.cluster)
	if len(l.filters) > 0 {
		w.added = func(t *mesos.Task) { l.wg.Go(func() { l.arrived(ctx, w, t) }) }
	}
	ready, listened := make(chan struct{}), make(chan error, 1)
	go func() { listened <- w.run(ctx, func() { close(ready) }) }()
	select {
	case <-ready:
	case err := <-listened:
		return err
	}
	tasks, err := l.choose(ctx)
	if err != nil {
		return err
	}
	l.several = len(tasks) > 1
	for _, t := range tasks {
		l.start(ctx, w, t)
	}
	all := make(chan struct{})
	if len(l.filters) == 0 {
		go func() {
			l.wg.Wait()
			close(all)
		}()
	}
	select {
	case <-all:
	case <-ctx.Done():
	case err := <-listened:
		if err != nil {
			return err
		}
	}
	cancel()
	l.wg.Wait()
	return l.result()
}

// choose finds the tasks that are meant, oldest first.
func (l *logs) choose(ctx context.Context) ([]console.Task, error) {
	if len(l.filters) == 0 {
		return l.cluster.FindTasks(ctx, l.c.Args().Slice())
	}
	all, err := l.cluster.Tasks(ctx)
	if err != nil {
		return nil, err
	}
	out := slices.DeleteFunc(all, func(t console.Task) bool { return !l.meant(t) || t.Ended && !l.c.Bool("all") })
	slices.SortStableFunc(out, func(a, b console.Task) int {
		return cmp.Or(console.Changed(a.Task).Compare(console.Changed(b.Task)), cmp.Compare(a.GetTaskId().GetValue(), b.GetTaskId().GetValue()))
	})
	if len(out) == 0 && !l.follow {
		return nil, console.Hint(console.Mark(console.ErrNotFound, errors.New("no task fits")), "--all shows those that have ended, too")
	}
	return out, nil
}

func (l *logs) meant(t console.Task) bool {
	for _, f := range l.filters {
		if !f(t) {
			return false
		}
	}
	return true
}

// tails are the files of a task, with the writers they go to.
func (l *logs) tails(ctx context.Context, t *console.Task, prefix string, index int) ([]*tail, error) {
	agent := t.GetAgentId().GetValue()
	files := l.cluster.AgentFiles(agent)
	sandbox, err := sandboxOf(ctx, files, t)
	if err != nil {
		return nil, l.gone(t, err)
	}
	kinds := map[string]console.Env{"stdout": {Out: l.Out}, "stderr": {Out: l.Err}}
	names := []string{"stdout", "stderr"}
	switch {
	case l.c.String("file") != "":
		names = []string{strings.TrimPrefix(l.c.String("file"), "/")}
		kinds = map[string]console.Env{names[0]: {Out: l.Out}}
	case l.c.Bool("stdout"):
		names = names[:1]
	case l.c.Bool("stderr"):
		names = names[1:]
		kinds["stderr"] = console.Env{Out: l.Out} // it is what was asked for
	}
	var out []*tail
	for _, name := range names {
		one := &tail{files: files, path: sandbox + "/" + name, to: unchanged{kinds[name].Out}}
		if prefix != "" {
			one.to = l.lines.prefixed(one.to, index, prefix)
		}
		if l.c.IsSet("tail") {
			if err := one.last(ctx, l.c.Int("tail")); err != nil && (!l.follow || !transient(err)) {
				if client.StatusCode(err) != http.StatusNotFound || len(names) == 1 {
					return nil, l.gone(t, err)
				}
			}
		}
		out = append(out, one)
	}
	return out, nil
}

// gone says what an error about the files of a task means.
func (l *logs) gone(t *console.Task, err error) error {
	id := t.GetTaskId().GetValue()
	if client.StatusCode(err) != http.StatusNotFound {
		return l.cluster.Explain(fmt.Errorf("task %s: %w", id, err))
	}
	if f := l.c.String("file"); f != "" {
		return console.Hint(fmt.Errorf("task %s: no file %q in its sandbox: %w", id, f, err), "clusterd file list %s shows what is there", id)
	}
	if t.Ended || console.Terminal(t.GetState()) {
		return console.Hint(fmt.Errorf("task %s: its sandbox is gone: %w", id, err),
			"agents keep sandboxes for --gc_delay, less when their disk fills; the agent was %s", t.GetAgentId().GetValue())
	}
	return fmt.Errorf("task %s is %s: it has no sandbox yet: %w", id, t.GetState(), err)
}

// prefixes are what stands before the lines of each task: its name, or its id where names
// are not enough.
func (l *logs) prefixes(tasks []console.Task) []string {
	out := make([]string, len(tasks))
	if l.c.Bool("no_prefix") || len(tasks) == 1 && len(l.filters) == 0 {
		return out
	}
	names := map[string]int{}
	for _, t := range tasks {
		names[t.GetName()]++
	}
	for i, t := range tasks {
		out[i] = t.GetName()
		if names[t.GetName()] > 1 || len(l.filters) > 0 && l.follow {
			out[i] = t.GetTaskId().GetValue()
		}
	}
	return out
}

// once shows what there is.
func (l *logs) once(ctx context.Context, tasks []console.Task) error {
	prefixes := l.prefixes(tasks)
	index := 0
	return console.Each(l.Env, tasks, func(t console.Task) string { return t.GetTaskId().GetValue() }, func(t console.Task) error {
		i := index
		index++
		tails, err := l.tails(ctx, &t, prefixes[i], i)
		if err != nil {
			return err
		}
		f := &follower{tails: tails, agent: t.GetAgentId().GetValue(), say: l.say}
		defer f.close()
		if _, err := f.drain(ctx); err != nil {
			if _, is := errors.AsType[*writeError](err); is {
				return console.ExitError(console.ExitFailed)
			}
			return l.gone(&t, err)
		}
		return nil
	})
}

// start follows a task.
func (l *logs) start(ctx context.Context, w *watcher, t console.Task) {
	k := keyOf(t.Task)
	l.mu.Lock()
	if l.seen[k] {
		l.mu.Unlock()
		return
	}
	l.seen[k] = true
	index := l.number
	l.number++
	l.mu.Unlock()
	ended := w.ended(k)
	if t.Ended || console.Terminal(t.GetState()) {
		w.close(k)
	}
	prefix := ""
	if !l.c.Bool("no_prefix") && (len(l.filters) > 0 || l.several) {
		prefix = t.GetTaskId().GetValue()
	}
	l.wg.Go(func() {
		err := l.one(ctx, &t, prefix, index, ended)
		if err == nil || ctx.Err() != nil {
			return
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		l.failed = append(l.failed, err)
	})
}

// one follows a task to its end.
func (l *logs) one(ctx context.Context, t *console.Task, prefix string, index int, ended <-chan struct{}) error {
	var tails []*tail
	for {
		var err error
		if tails, err = l.tails(ctx, t, prefix, index); err == nil {
			break
		}
		over := false
		select {
		case <-ended:
			over = true
		default:
		}
		if over || !transient(err) {
			return err
		}
		if client.Sleep(ctx, lookLongest) != nil {
			return nil //nolint:nilerr // ^C is how one stops to follow
		}
	}
	f := &follower{tails: tails, agent: t.GetAgentId().GetValue(), say: l.say}
	if err := f.follow(ctx, ended); err != nil {
		return l.gone(t, err)
	}
	return nil
}

// arrived follows a new task, if it is one of those that are meant.
func (l *logs) arrived(ctx context.Context, w *watcher, t *mesos.Task) {
	one := console.Task{Task: t}
	if names, err := l.cluster.FrameworkNames(ctx); err == nil {
		one.Framework = names[t.GetFrameworkId().GetValue()]
	}
	if hosts, err := l.cluster.Hostnames(ctx); err == nil {
		one.Hostname = hosts[t.GetAgentId().GetValue()]
	}
	if l.meant(one) {
		l.start(ctx, w, one)
	}
}

func (l *logs) result() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.failed) == 0 {
		return nil
	}
	for _, err := range l.failed[1:] {
		l.say("error: %v", err)
	}
	return l.failed[0]
}
