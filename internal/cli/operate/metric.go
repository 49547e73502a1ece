package operate

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"

	cliv2 "github.com/urfave/cli/v2"

	"clusterd/internal/cli/console"
	"clusterd/internal/flags"
)

func metricCommand(e console.Env) *cliv2.Command {
	return noun("metric", "look at metrics of the leading master, or of an agent",
		&cliv2.Command{
			Name: "list", Aliases: []string{"ls"}, Usage: "list metrics whose names fit", ArgsUsage: "[REGEXP...]",
			Flags: console.OutputFlags(ofAgentFlag()), Action: connected(e, 0, -1, listMetrics),
		},
		&cliv2.Command{
			Name: "get", Usage: "print the values of metrics", ArgsUsage: "METRIC...",
			Flags: console.Flags(ofAgentFlag()), Action: connected(e, 1, -1, getMetrics),
		},
		&cliv2.Command{
			Name: "watch", Usage: "show metrics whose names fit as they change", ArgsUsage: "REGEXP...",
			Flags: console.Flags(append(watchFlags(ofAgentFlag()),
				&cliv2.StringFlag{Name: "interval", Usage: "how often to look, a `DURATION`", Value: "2s"})...),
			Action: connected(e, 1, -1, watchMetrics),
		},
	)
}

const snapshotPath = "/metrics/snapshot"

// metricsOf asks whom --agent names, else the leader.
func metricsOf(x *call) (map[string]float64, error) {
	out := map[string]float64{}
	ref := x.String("agent")
	if ref == "" {
		return out, x.cluster.Get(x.ctx(), snapshotPath, &out)
	}
	a, err := x.cluster.FindAgent(x.ctx(), ref)
	if err != nil {
		return nil, err
	}
	return out, x.cluster.AgentGet(x.ctx(), agentID(a), snapshotPath, &out)
}

// patterns are what names must fit one of; none: all.
func patterns(texts []string) (func(string) bool, error) {
	var list []*regexp.Regexp
	for _, text := range texts {
		re, err := regexp.Compile(text)
		if err != nil {
			return nil, console.Usagef("%w", err)
		}
		list = append(list, re)
	}
	return func(name string) bool {
		return len(list) == 0 || slices.ContainsFunc(list, func(re *regexp.Regexp) bool { return re.MatchString(name) })
	}, nil
}

func metricValue(v float64) string { return strconv.FormatFloat(v, 'f', -1, 64) }

// metric is one as JSON shows it.
type metric struct {
	Name  string  `json:"name"`
	Value float64 `json:"value"`
}

func listMetrics(x *call) error {
	fits, err := patterns(x.args)
	if err != nil {
		return err
	}
	all, err := metricsOf(x)
	if err != nil {
		return err
	}
	t := &console.Table{Header: []string{"METRIC", "VALUE"}}
	items := []metric{}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if fits(name) {
			t.Add(name, metricValue(all[name]))
			items = append(items, metric{name, all[name]})
		}
	}
	t.Items = items
	return x.print(t)
}

func getMetrics(x *call) error {
	all, err := metricsOf(x)
	if err != nil {
		return err
	}
	return console.Each(x.Env, x.args, func(n string) string { return n }, func(name string) error {
		v, ok := all[name]
		if !ok {
			err := console.Mark(console.ErrNotFound, fmt.Errorf("no metric %q", name))
			if best := flags.Nearest(name, slices.Collect(maps.Keys(all))); best != "" {
				return console.Hint(err, "did you mean %q?", best)
			}
			return console.Hint(err, "clusterd metric list shows them")
		}
		_, err := fmt.Fprintln(x.Out, metricValue(v))
		return err
	})
}

// watchMetrics reads the server's own stream of what GET answers.
func watchMetrics(x *call) error {
	fits, err := patterns(x.args)
	if err != nil {
		return err
	}
	interval, err := duration("--interval", x.String("interval"))
	if err != nil {
		return err
	}
	ctx, cancel, err := x.patience()
	if err != nil {
		return err
	}
	defer cancel()
	w := newWatch(x, "TIME", "METRIC", "VALUE", "CHANGE")
	w.widths[1], w.widths[2] = 48, 16
	was := map[string]float64{}
	show := func(data []byte) error {
		var now map[string]any
		if err := json.Unmarshal(data, &now); err != nil {
			return err
		}
		for _, name := range slices.Sorted(maps.Keys(now)) {
			v, isNumber := now[name].(float64)
			before, known := was[name]
			if !isNumber || !fits(name) || known && before == v {
				continue
			}
			was[name] = v
			change := ""
			if known {
				change = fmt.Sprintf("%+.6g", v-before)
			}
			if err := w.row(metric{name, v}, clock(zero), name, metricValue(v), change); err != nil {
				return err
			}
		}
		return nil
	}
	query := url.Values{"path": {snapshotPath}, "interval": {interval.String()}}
	err = live(ctx, x, query, show)
	if x.ctx().Err() != nil {
		return nil // ^C is how one stops to watch
	}
	return waited(ctx, err, "the time for watching is over")
}

// live calls each with what a path answers, again whenever it has changed.
func live(ctx context.Context, x *call, query url.Values, each func([]byte) error) error {
	r, err := x.cluster.Request(ctx, http.MethodGet, console.OwnPath+"live?"+query.Encode(), nil)
	if err != nil {
		return err
	}
	r.Header.Set("Accept", "text/event-stream")
	do := x.cluster.Do
	if ref := x.String("agent"); ref != "" {
		a, err := x.cluster.FindAgent(ctx, ref)
		if err != nil {
			return err
		}
		do = func(r *http.Request) (*http.Response, error) { return x.cluster.AgentDo(agentID(a), r) }
	}
	res, err := do(r)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	lines := bufio.NewScanner(res.Body)
	lines.Buffer(nil, 64<<20)
	var data []string
	for lines.Scan() {
		line := lines.Text()
		if text, ok := strings.CutPrefix(line, "data:"); ok {
			data = append(data, strings.TrimPrefix(text, " "))
			continue
		}
		if line != "" || len(data) == 0 {
			continue
		}
		text := strings.Join(data, "\n")
		data = nil
		var failed struct {
			Error *struct {
				Status  int    `json:"status"`
				Message string `json:"message"`
			} `json:"error"`
		}
		if json.Unmarshal([]byte(text), &failed) == nil && failed.Error != nil {
			return fmt.Errorf("%d %s", failed.Error.Status, failed.Error.Message)
		}
		if err := each([]byte(text)); err != nil {
			return err
		}
	}
	return cmp.Or(lines.Err(), context.Cause(ctx), fmt.Errorf("the server has ended the stream"))
}
