package operate

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
	"time"

	cliv2 "github.com/urfave/cli/v2"

	"clusterd/api/client/operator"
	clusterdv1 "clusterd/api/clusterd/v1"
	"clusterd/internal/cli/console"
)

// errEnough ends a watch well.
var errEnough = errors.New("enough")

// mapsKeys is maps.Keys, which slices.Sorted takes.
func mapsKeys[K comparable, V any](m map[K]V) iter.Seq[K] { return maps.Keys(m) }

// watchFlags are on every verb that shows events as they come.
func watchFlags(own ...cliv2.Flag) []cliv2.Flag {
	return append(own,
		&cliv2.StringFlag{Name: "output", Aliases: []string{"o"}, Usage: "`FORMAT` of the events: table, or json, one event a line", DefaultText: "table"},
		&cliv2.BoolFlag{Name: "no-headers", Usage: "print no line with the names of the columns"},
		&cliv2.StringFlag{Name: "timeout", Usage: "end after this `DURATION`; exit code 124", DefaultText: "none"},
	)
}

// watch shows events as they come.
type watch struct {
	x      *call
	json   bool
	header []string
	widths []int
	begun  bool
}

// width of a column of a watch: rows come one by one, so it cannot follow from them.
var watchWidths = map[string]int{"TIME": 8, "TASK": 36, "STATE": 16, "FRAMEWORK": 24, "HOST": 20, "AGENT": 44, "EVENT": 20, "NAME": 24}

func newWatch(x *call, header ...string) *watch {
	w := &watch{x: x, header: header, json: x.String("output") == "json"}
	for _, h := range header {
		w.widths = append(w.widths, watchWidths[h])
	}
	return w
}

// row shows one event.
func (w *watch) row(event any, cells ...string) error {
	if w.json {
		return w.line(event)
	}
	if !w.begun && !w.x.Bool("no-headers") {
		if err := w.write(w.header); err != nil {
			return err
		}
	}
	w.begun = true
	return w.write(cells)
}

func (w *watch) write(cells []string) error {
	var line strings.Builder
	for i, cell := range cells {
		if i > 0 {
			line.WriteString("  ")
		}
		fmt.Fprintf(&line, "%-*s", w.widths[i], console.Plain(cell))
	}
	_, err := fmt.Fprintln(w.x.Out, strings.TrimRight(line.String(), " "))
	return err
}

// line writes an event as one line of JSON.
func (w *watch) line(event any) error {
	b, err := console.JSON(event)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(w.x.Out, "%s\n", b)
	return err
}

// run calls each with all events until it returns errEnough or another error, the time
// given is over, or ^C. first tells the first SUBSCRIBED from those after a loss.
func (w *watch) run(o operator.EventsOptions, each func(ev *clusterdv1.OperatorEvent, first bool) error) error {
	switch w.x.String("output") {
	case "", "table", "wide", "json":
	default:
		return console.Usagef("no output format %q of events (table, json)", w.x.String("output"))
	}
	ctx, cancel, err := w.x.patience()
	if err != nil {
		return err
	}
	defer cancel()
	first := true
	for ev, err := range w.x.cluster.Events(ctx, o) {
		if err != nil {
			if w.x.ctx().Err() != nil {
				return nil // ^C is how one stops to watch
			}
			return waited(ctx, err, "the time for watching is over")
		}
		err = each(ev, first)
		if ev.GetType() == clusterdv1.OperatorEvent_SUBSCRIBED {
			first = false
		}
		if errors.Is(err, errEnough) {
			return nil
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// patience is a context that ends with the time that --timeout gives.
func (x *call) patience() (context.Context, context.CancelFunc, error) {
	text := x.String("timeout")
	if text == "" {
		ctx, cancel := context.WithCancel(x.ctx())
		return ctx, cancel, nil
	}
	d, err := duration("--timeout", text)
	if err != nil {
		return nil, nil, err
	}
	ctx, cancel := context.WithTimeoutCause(x.ctx(), d, fmt.Errorf("%w after %s", console.ErrTimeout, d))
	return ctx, cancel, nil
}

// waited says what was waited for in vain, where the time given is the reason.
func waited(ctx context.Context, err error, what string) error {
	if ctx.Err() != nil && errors.Is(context.Cause(ctx), console.ErrTimeout) {
		return fmt.Errorf("%s: %w", what, context.Cause(ctx))
	}
	return err
}

// clock is when something was, within a day or so.
func clock(t time.Time) string {
	if t.IsZero() {
		t = time.Now()
	}
	return t.Local().Format("15:04:05")
}

// names are what frameworks and agents are called, learned from events.
type names struct{ frameworks, hosts map[string]string }

func newNames() *names { return &names{frameworks: map[string]string{}, hosts: map[string]string{}} }

func (n *names) learn(ev *clusterdv1.OperatorEvent) {
	state := ev.GetSubscribed().GetGetState()
	for _, f := range slices.Concat(state.GetGetFrameworks().GetFrameworks(), state.GetGetFrameworks().GetCompletedFrameworks()) {
		n.frameworks[f.GetFrameworkInfo().GetId().GetValue()] = f.GetFrameworkInfo().GetName()
	}
	for _, a := range state.GetGetAgents().GetAgents() {
		n.hosts[a.GetAgentInfo().GetId().GetValue()] = a.GetAgentInfo().GetHostname()
	}
	for _, info := range state.GetGetAgents().GetRecoveredAgents() {
		n.hosts[info.GetId().GetValue()] = info.GetHostname()
	}
	for _, f := range []interface{ GetName() string }{
		ev.GetFrameworkAdded().GetFramework().GetFrameworkInfo(), ev.GetFrameworkUpdated().GetFramework().GetFrameworkInfo(),
	} {
		if f.GetName() == "" {
			continue
		}
		id := cmp.Or(ev.GetFrameworkAdded().GetFramework().GetFrameworkInfo().GetId().GetValue(),
			ev.GetFrameworkUpdated().GetFramework().GetFrameworkInfo().GetId().GetValue())
		n.frameworks[id] = f.GetName()
	}
	if info := ev.GetAgentAdded().GetAgent().GetAgentInfo(); info != nil {
		n.hosts[info.GetId().GetValue()] = info.GetHostname()
	}
}

// zero stands for now, in clock.
var zero time.Time
