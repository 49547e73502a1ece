package policy

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
)

// manyFrameworks is the number of frameworks up to which a table has a line for each;
// beyond, there is one for each group.
const manyFrameworks = 20

// WriteJSON writes the whole result as JSON.
func (r *Result) WriteJSON(w io.Writer) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(r)
}

// WriteTable writes the result for people; wide has a line for every framework,
// however many there are.
func (r *Result) WriteTable(out io.Writer, wide bool) error {
	t := &table{w: tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)}
	r.heading(t)
	r.cluster(t)
	r.roles(t)
	t.line("")
	if wide || len(r.Each) <= manyFrameworks {
		frameworks(t, "FRAMEWORK", r.Each)
	} else {
		frameworks(t, "FRAMEWORKS", r.Groups)
	}
	r.failures(t)
	t.line("")
	t.line("REAL TIME\t" + r.cost())
	return t.flush()
}

// table writes lines of cells and keeps the first error.
type table struct{ w *tabwriter.Writer }

func (t *table) line(cells ...string) { fmt.Fprintln(t.w, strings.Join(cells, "\t")) }

func (t *table) flush() error { return t.w.Flush() }

func (r *Result) heading(t *table) {
	s := &r.Settings
	t.line(fmt.Sprintf("%s agents with %s cpus and %s MB, %s frameworks, %s, seed %d",
		number(s.Agents), amountText(s.CPUs), amountText(s.Mem), number(s.Frameworks), short(r.For), s.Seed))
	t.line(fmt.Sprintf("role sorter %s, framework sorter %s, placement %s", s.RoleSorter, s.FrameworkSorter, s.Placement))
	if r.Partial {
		t.line(fmt.Sprintf("stopped after %s of %s: what follows is of that part", short(r.For), short(s.For)))
	}
	t.line("")
}

func (r *Result) cluster(t *table) {
	c := &r.Cluster
	t.line("CLUSTER", "MEAN", "P95", "END")
	for _, u := range []struct {
		name string
		Use
	}{{"cpus used", c.CPUs}, {"mem used", c.Mem}} {
		t.line(u.name, percent(u.Mean), percent(u.P95), percent(u.Last))
	}
	t.line("agents without tasks", fmt.Sprintf("%.1f", c.EmptyAgents))
	t.line("fairness of roles", index(c.RoleFairness))
	t.line("fairness of frameworks", index(c.FrameworkFairness))
	t.line("")
	t.line("LATENCY", "P50", "P90", "P99", "MAX", "COUNT")
	for _, q := range []struct {
		name string
		Quantiles
	}{{"free to offered", c.OfferLatency}, {"submitted to running", c.Wait}} {
		t.line(q.name, short(q.P50), short(q.P90), short(q.P99), short(q.Max), number(q.Count))
	}
	t.line("")
	t.line("OFFERS", "ACCEPTED", "DECLINED", "RESCINDED", "PER LAUNCH")
	t.line(number(c.Offers), percent(float64(c.Accepted)/float64(c.Offers)), percent(c.DeclinedPart()), number(c.Rescinded),
		fixed(c.OffersPerLaunch()))
}

func (r *Result) roles(t *table) {
	t.line("")
	t.line("ROLE", "WEIGHT", "SHARE", "FAIR", "AT THE END", "FAIR", "SUBMITTED", "FINISHED", "LOST", "RUNNING", "WAITING", "WAIT P50", "P90", "P99", "MAX")
	for i := range r.Roles {
		s := &r.Roles[i]
		t.line(append([]string{
			s.Name, strconv.FormatFloat(s.Weight, 'g', -1, 64), percent(s.Share), percent(s.Fair),
			percent(s.LastShare), percent(s.LastFair),
		}, s.cells()...)...)
	}
}

func (c *Counts) cells() []string {
	return []string{
		number(c.Submitted), number(c.Finished), number(c.Lost), number(c.Running), number(c.Waiting),
		short(c.Wait.P50), short(c.Wait.P90), short(c.Wait.P99), short(c.Wait.Max),
	}
}

func frameworks(t *table, title string, groups []Group) {
	t.line(title, "ROLE", "KIND", "SHARE", "SUBMITTED", "FINISHED", "LOST", "RUNNING", "WAITING", "WAIT P50", "P90", "P99", "MAX",
		"OFFERS/LAUNCH", "DECLINED")
	for i := range groups {
		g := &groups[i]
		name := g.Name
		if g.Count > 1 {
			name += " x " + number(g.Count)
		}
		cells := append([]string{name, g.Role, g.Kind, percent(g.Share)}, g.cells()...)
		t.line(append(cells, fixed(g.OffersPerLaunch()), percent(g.DeclinedPart()))...)
	}
}

func (r *Result) failures(t *table) {
	if len(r.Failures) == 0 {
		return
	}
	t.line("")
	t.line("FAILURE", "AGENTS", "TASKS LOST", "HEARD AFTER", "FIRST OFFER", "AGENTS BACK", "CPUS BEFORE", "LEAST", "RECOVERED AFTER")
	for i := range r.Failures {
		f := &r.Failures[i]
		t.line(f.Failure, number(f.Agents), number(f.TasksLost), reached(f.Heard), reached(f.FirstOffer), reached(f.Back),
			percent(f.Before), percent(f.Least), reached(f.Recovered))
	}
}

func (r *Result) cost() string {
	c := &r.Real
	speed := r.For.Hours() / max(c.Took.Seconds(), 1e-9)
	return fmt.Sprintf("%s, %s of the processor, %.3g virtual hours a second; the master thought for %s, %s of the virtual time: %s inputs, p50 %s, p99 %s, max %s",
		short(c.Took), short(c.CPU), speed, short(c.Master), percent(c.Master.Seconds()/max(r.For.Seconds(), 1e-9)),
		number(c.Input.Count), short(c.Input.P50), short(c.Input.P99), short(c.Input.Max))
}

// number writes 1234567 as 1,234,567.
func number(n int) string {
	s := strconv.Itoa(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

func amountText(v float64) string { return number(int(math.Round(v))) }

func percent(v float64) string {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return "-"
	}
	return fmt.Sprintf("%.1f%%", v*100)
}

func fixed(v float64) string {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return "-"
	}
	return fmt.Sprintf("%.2f", v)
}

func index(v *float64) string {
	if v == nil {
		return "-"
	}
	return fmt.Sprintf("%.4f", *v)
}

func reached(d *time.Duration) string {
	if d == nil {
		return "-"
	}
	return short(*d)
}

// short writes a duration with three digits or so.
func short(d time.Duration) string {
	switch {
	case d >= 100*time.Hour:
		return fmt.Sprintf("%.0fh", d.Hours())
	case d >= time.Hour:
		return trim(fmt.Sprintf("%.1f", d.Hours())) + "h"
	case d >= 100*time.Second:
		return trim(fmt.Sprintf("%.1f", d.Minutes())) + "min"
	case d >= time.Second:
		return trim(fmt.Sprintf("%.2f", d.Seconds())) + "s"
	case d >= time.Millisecond:
		return trim(fmt.Sprintf("%.1f", float64(d)/1e6)) + "ms"
	case d > 0:
		return trim(fmt.Sprintf("%.1f", float64(d)/1e3)) + "us"
	}
	return "0"
}

func trim(s string) string { return strings.TrimSuffix(strings.TrimRight(s, "0"), ".") }
