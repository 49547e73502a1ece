package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	mesos "clusterd/api/mesos/v1"
	"clusterd/internal/testcluster"
)

// shown is what a scrape has: the labels of each family, and its type.
type shown struct {
	kind   map[string]string
	labels map[string]map[string]bool
}

var (
	seriesLine = regexp.MustCompile(`^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? `)
	labelName  = regexp.MustCompile(`([a-zA-Z_][a-zA-Z0-9_]*)="(?:[^"\\]|\\.)*"`)
)

// scrape adds what an address shows.
func (s *shown) scrape(t *testing.T, addr string) {
	t.Helper()
	body, err := testcluster.Get("http://" + addr + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(body) {
		if rest, ok := strings.CutPrefix(line, "# TYPE "); ok {
			name, kind, _ := strings.Cut(strings.TrimSpace(rest), " ")
			s.kind[name] = kind
			if s.labels[name] == nil {
				s.labels[name] = make(map[string]bool)
			}
			continue
		}
		m := seriesLine.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		family := s.family(m[1])
		for _, l := range labelName.FindAllStringSubmatch(m[2], -1) {
			s.labels[family][l[1]] = true
		}
	}
}

// family of a series: histograms and summaries have several for each.
func (s *shown) family(series string) string {
	for _, suffix := range []string{"_bucket", "_sum", "_count"} {
		base, ok := strings.CutSuffix(series, suffix)
		if kind := s.kind[base]; ok && (kind == "histogram" || kind == "summary" && suffix != "_bucket") {
			return base
		}
	}
	return series
}

var (
	metricName = regexp.MustCompile(`\b(?:clusterd|go|process)_[a-z0-9_]+`)
	selector   = regexp.MustCompile(`\b((?:clusterd|go|process)_[a-z0-9_]+)\{([^}]*)\}`)
	matcher    = regexp.MustCompile(`([a-zA-Z_]+)\s*(?:=~|!~|!=|=)`)
	grouping   = regexp.MustCompile(`\bby \(([^)]*)\)`)
)

// check finds what an expression of PromQL says of metrics or labels that there are not.
func (s *shown) check(expr string) (problems []string) {
	names := metricName.FindAllString(expr, -1)
	if len(names) == 0 {
		return []string{"it has no metric"}
	}
	all := map[string]bool{"job": true, "instance": true} // Prometheus's own
	for _, name := range names {
		family := s.family(name)
		if s.kind[family] == "" {
			problems = append(problems, "there is no "+name)
		}
		if s.kind[family] == "histogram" && family == name {
			problems = append(problems, name+" is a histogram")
		}
		maps.Copy(all, s.labels[family])
		counts := s.kind[family] == "counter" || s.kind[family] == "histogram"
		if inRate := regexp.MustCompile(`\b(rate|increase)\(` + name + `\b`).MatchString(expr); counts != inRate {
			problems = append(problems, fmt.Sprintf("%s is a %s, rate or increase of it: %v", name, s.kind[family], inRate))
		}
	}
	for _, m := range selector.FindAllStringSubmatch(expr, -1) {
		for _, l := range matcher.FindAllStringSubmatch(m[2], -1) {
			if label := l[1]; label != "job" && label != "instance" && !s.labels[s.family(m[1])][label] {
				problems = append(problems, m[1]+" has no label "+label)
			}
		}
	}
	for _, m := range grouping.FindAllStringSubmatch(expr, -1) {
		for label := range strings.SplitSeq(m[1], ",") {
			if label = strings.TrimSpace(label); !all[label] && label != "le" {
				problems = append(problems, "no metric has the label "+label)
			}
		}
	}
	depth := 0
	for _, c := range expr {
		switch c {
		case '(', '[', '{':
			depth++
		case ')', ']', '}':
			depth--
		}
	}
	if depth != 0 {
		problems = append(problems, "its brackets do not match")
	}
	return problems
}

// TestDashboardAndAlerts checks that the dashboard and the alerts in docs speak of what
// a master and an agent really show.
func TestDashboardAndAlerts(t *testing.T) {
	c := testcluster.Start(t, testcluster.Options{})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	f := subscribe(t, c, "metrics")
	o := f.nextOffer(ctx)
	fine, wrong := shellTask("fine", "sleep 1000"), shellTask("wrong", "true")
	if err := f.client.Launch(ctx, o, fine); err != nil {
		t.Fatal(err)
	}
	f.update(ctx, mesos.TaskState_TASK_STARTING)
	f.update(ctx, mesos.TaskState_TASK_RUNNING)
	// One that asks for too much has a reason; a quota and a refusal have gauges.
	o = f.nextOffer(ctx)
	for _, r := range wrong.Resources {
		r.Scalar.Value = new(1e6)
	}
	if err := f.client.Launch(ctx, o, wrong); err != nil {
		t.Fatal(err)
	}
	f.update(ctx, mesos.TaskState_TASK_ERROR)
	callOperator(t, c.Master.Addr, `{"type":"UPDATE_QUOTA","update_quota":{"force":true,"quota_configs":[{"role":"`+role+`","guarantees":{"cpus":{"value":0.1}}}]}}`)

	s := &shown{kind: make(map[string]string), labels: make(map[string]map[string]bool)}
	s.scrape(t, c.Master.Addr)
	s.scrape(t, c.Agents[0].Addr)
	if len(s.kind) < 100 {
		t.Fatalf("only %d metrics are shown", len(s.kind))
	}
	for what, expr := range dashboard(t) {
		for _, p := range s.check(expr) {
			t.Errorf("dashboard, %s: %s: %s", what, expr, p)
		}
	}
	alerts, err := os.ReadFile("../../docs/prometheus-alerts.yml")
	if err != nil {
		t.Fatal(err)
	}
	exprs := regexp.MustCompile(`(?m)^        expr: (.*)$`).FindAllSubmatch(alerts, -1)
	if n := strings.Count(string(alerts), "- alert: "); n < 10 || n != len(exprs) {
		t.Errorf("%d alerts, %d expressions", n, len(exprs))
	}
	for _, e := range exprs {
		for _, p := range s.check(string(e[1])) {
			t.Errorf("alert: %s: %s", e[1], p)
		}
	}
	// And the check is one.
	for _, bad := range []string{
		"clusterd_master_nosuch", "clusterd_master_elected{role=\"x\"}", "rate(clusterd_master_elected[5m])",
		"sum(clusterd_master_messages_total)", "sum by (colour) (clusterd_master_elected)", "sum(clusterd_master_elected",
		"rate(clusterd_registry_commit_seconds[5m])",
	} {
		if len(s.check(bad)) == 0 {
			t.Errorf("%s is taken", bad)
		}
	}
}

// callOperator makes a call of the operator API, which must succeed.
func callOperator(t *testing.T, addr, call string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+addr+"/api/v1", strings.NewReader(call))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		body, _ := io.ReadAll(resp.Body)
		t.Fatalf("%s: %d %s", call, resp.StatusCode, body)
	}
}

// dashboard returns the expressions of the dashboard's panels, and checks what Grafana
// needs to load it.
func dashboard(t *testing.T) map[string]string {
	t.Helper()
	data, err := os.ReadFile("../../docs/grafana/clusterd.json")
	if err != nil {
		t.Fatal(err)
	}
	type source struct{ Type, UID string }
	var d struct {
		ID            *int
		UID, Title    string
		SchemaVersion int
		Templating    struct {
			List []struct {
				Name, Type string
				Query      json.RawMessage
			}
		}
		Panels []struct {
			ID          int
			Type, Title string
			Datasource  source
			GridPos     struct{ X, Y, W, H int }
			Targets     []struct {
				RefID, Expr string
				Datasource  source
			}
		}
	}
	if err := json.Unmarshal(data, &d); err != nil {
		t.Fatal(err)
	}
	if d.ID != nil || d.UID != "clusterd" || d.Title == "" || d.SchemaVersion < 36 {
		t.Errorf("the dashboard has id %v, uid %q, title %q, schema %d", d.ID, d.UID, d.Title, d.SchemaVersion)
	}
	var variables []string
	for _, v := range d.Templating.List {
		variables = append(variables, v.Name+" "+v.Type)
	}
	if !slices.Equal(variables, []string{"datasource datasource", "job query"}) {
		t.Errorf("variables: %v", variables)
	}
	exprs := make(map[string]string)
	ids := make(map[int]bool)
	filled := make(map[[2]int]string)
	for _, p := range d.Panels {
		if ids[p.ID] || p.ID == 0 {
			t.Errorf("panel %q: id %d is not its own", p.Title, p.ID)
		}
		ids[p.ID] = true
		if p.GridPos.X+p.GridPos.W > 24 || p.GridPos.W*p.GridPos.H == 0 {
			t.Errorf("panel %q lies at %+v", p.Title, p.GridPos)
		}
		for x := p.GridPos.X; x < p.GridPos.X+p.GridPos.W; x++ {
			for y := p.GridPos.Y; y < p.GridPos.Y+p.GridPos.H; y++ {
				if other := filled[[2]int{x, y}]; other != "" {
					t.Fatalf("panels %q and %q overlap", p.Title, other)
				}
				filled[[2]int{x, y}] = p.Title
			}
		}
		if p.Type == "row" {
			continue
		}
		if len(p.Targets) == 0 {
			t.Errorf("panel %q is empty", p.Title)
		}
		for _, target := range p.Targets {
			if target.Datasource.UID != "${datasource}" || p.Datasource.UID != "${datasource}" {
				t.Errorf("panel %q has its own data source", p.Title)
			}
			key := p.Title + " " + target.RefID
			if exprs[key] != "" {
				t.Errorf("two panels are called %q", p.Title)
			}
			exprs[key] = target.Expr
		}
	}
	for _, row := range []string{"Leader", "Agents", "Resources", "Offers", "Registry", "HTTP", "Processes"} {
		if !strings.Contains(string(data), `"title": "`+row) {
			t.Errorf("there is no row %s", row)
		}
	}
	return exprs
}
