package policy

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"

	"clusterd/allocator/resources"
	"clusterd/internal/units"
)

// Workload is what the cluster consists of and what is asked of it. docs/simulation.md
// describes its JSON form.
type Workload struct {
	Agents     []AgentGroup     `json:"agents"`
	Roles      []Role           `json:"roles"`
	Frameworks []FrameworkGroup `json:"frameworks"`
}

// AgentGroup is agents that are alike.
type AgentGroup struct {
	// Share of all agents, in relation to the other groups' shares; 0 means 1.
	Share float64 `json:"share"`
	// Resources in the syntax of an agent's --resources.
	Resources string `json:"resources"`
	// Attributes of each agent, texts all.
	Attributes map[string]string `json:"attributes"`
	// Racks: the agents have the attribute rack as well, r1 to r<Racks> in turn.
	Racks int `json:"racks"`

	total amount
}

// Role is a role with a weight or a quota; others need not be named.
type Role struct {
	Name   string  `json:"name"`
	Weight float64 `json:"weight"`
	// Guarantee and Limit by resource: an amount, or "10%" of the cluster.
	Guarantee map[string]Share `json:"guarantee"`
	Limit     map[string]Share `json:"limit"`
}

// Share is an amount of a resource, or a part of what the cluster has of it.
type Share struct {
	Amount float64
	Part   bool // Amount is a fraction of the cluster
}

// UnmarshalJSON reads 12.5 or "10%".
func (s *Share) UnmarshalJSON(b []byte) error {
	var text string
	if err := json.Unmarshal(b, &text); err != nil {
		text = string(b)
	}
	v, err := ParseShare(text)
	*s = v
	return err
}

// ParseShare reads "12.5" or "10%".
func ParseShare(text string) (Share, error) {
	if strings.HasSuffix(text, "%") {
		f, err := units.ParsePercent(text)
		return Share{f, true}, err
	}
	f, err := strconv.ParseFloat(text, 64)
	if err != nil || math.IsNaN(f) || f < 0 || f > 1e12 {
		return Share{}, fmt.Errorf("%q is neither an amount nor a percentage", text)
	}
	return Share{Amount: f}, nil
}

// Of returns the amount in a cluster that has total.
func (s Share) Of(total float64) float64 {
	if s.Part {
		return s.Amount * total
	}
	return s.Amount
}

// The kinds of frameworks.
const (
	// Batch gets jobs of tasks that end by themselves.
	Batch = "batch"
	// Picky is Batch on agents with certain attributes only.
	Picky = "picky"
	// Service keeps a number of tasks running.
	Service = "service"
	// Greedy launches as many tasks as it is offered resources for.
	Greedy = "greedy"
)

// FrameworkGroup is frameworks that are alike, each with random numbers of its own.
type FrameworkGroup struct {
	Name  string `json:"name"`
	Count int    `json:"count"` // 0 means 1
	Role  string `json:"role"`  // empty: "*"
	Kind  string `json:"kind"`
	// Tasks are the sizes of tasks. A job's tasks are of one size.
	Tasks []TaskSize `json:"tasks"`
	// Duration of a task. A service's tasks need none.
	Duration *Durations `json:"duration"`
	// Every is the time between two jobs of one framework, JobSize how many tasks a
	// job has.
	Every   *Durations `json:"every"`
	JobSize *Numbers   `json:"job_size"`
	// Load, in place of Every or Instances, is the part of the cluster that all
	// frameworks of the group together ask for on the average.
	Load float64 `json:"load"`
	// Instances of a service, of each framework.
	Instances int `json:"instances"`
	// Start is when the frameworks subscribe.
	Start Duration `json:"start"`
	// Attributes that an agent must have to be accepted. With Constraints the master
	// is told, and does not offer others.
	Attributes  map[string]string `json:"attributes"`
	Constraints bool              `json:"constraints"`
	// Latency is how long a framework thinks about offers; nil means 10 ms.
	Latency *Duration `json:"latency"`
	// Refuse is how long what is declined is not wanted; nil means 5 s.
	Refuse *Duration `json:"refuse"`
	// ReviveEvery is the least time between two REVIVE calls of a framework.
	ReviveEvery Duration `json:"revive_every"`
	// Suppress: frameworks that want nothing say so; nil means true.
	Suppress *bool `json:"suppress"`
	// OfferFilters: frameworks tell the master the least that is of use to them; nil
	// means true.
	OfferFilters *bool `json:"offer_filters"`
}

// TaskSize is what a task takes.
type TaskSize struct {
	CPUs float64 `json:"cpus"`
	Mem  float64 `json:"mem"` // MB
	// Share of the jobs that have such tasks, in relation to the others'; 0 means 1.
	Share float64 `json:"share"`
}

// ReadWorkload reads a workload's JSON form and checks it. Unknown members are an
// error.
func ReadWorkload(b []byte) (*Workload, error) {
	w := new(Workload)
	if err := strictUnmarshal(b, w); err != nil {
		return nil, located(b, err)
	}
	if err := w.validate(); err != nil {
		return nil, err
	}
	return w, nil
}

func strictUnmarshal(b []byte, to any) error {
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(to); err != nil {
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("there is something behind the end")
	}
	return nil
}

// located says in which line an error of the JSON is, where that is known.
func located(b []byte, err error) error {
	var offset int64
	if e, ok := errors.AsType[*json.SyntaxError](err); ok {
		offset = e.Offset
	} else if e, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		offset = e.Offset
	}
	if offset <= 0 || offset > int64(len(b)) {
		return err
	}
	return fmt.Errorf("line %d: %w", 1+bytes.Count(b[:offset], []byte("\n")), err)
}

// validate checks a workload and fills in what may be left out.
func (w *Workload) validate() error {
	if len(w.Frameworks) == 0 {
		return errors.New("frameworks: there is none")
	}
	for i := range w.Agents {
		if err := w.Agents[i].validate(); err != nil {
			return fmt.Errorf("agents[%d]: %w", i, err)
		}
	}
	roles := map[string]bool{}
	for i := range w.Roles {
		r := &w.Roles[i]
		if err := r.validate(); err != nil {
			return fmt.Errorf("roles[%d]: %w", i, err)
		}
		if roles[r.Name] {
			return fmt.Errorf("roles[%d]: %q is there twice", i, r.Name)
		}
		roles[r.Name] = true
	}
	names := map[string]bool{}
	for i := range w.Frameworks {
		f := &w.Frameworks[i]
		if err := f.validate(); err != nil {
			return fmt.Errorf("frameworks[%d] %q: %w", i, f.Name, err)
		}
		if names[f.Name] {
			return fmt.Errorf("frameworks[%d]: the name %q is there twice", i, f.Name)
		}
		names[f.Name] = true
	}
	return nil
}

func (a *AgentGroup) validate() error {
	if a.Share < 0 || math.IsNaN(a.Share) {
		return fmt.Errorf("share is %v", a.Share)
	}
	if a.Share == 0 {
		a.Share = 1
	}
	if a.Racks < 0 {
		return fmt.Errorf("racks is %d", a.Racks)
	}
	r, err := resources.Parse(a.Resources, "*")
	if err != nil {
		return fmt.Errorf("resources: %w", err)
	}
	a.total = amount{r.Scalar("cpus"), r.Scalar("mem")}
	if a.total.cpus <= 0 || a.total.mem <= 0 {
		return fmt.Errorf("resources %q: cpus and mem are needed", a.Resources)
	}
	return nil
}

func (r *Role) validate() error {
	if err := resources.ValidateRole(r.Name); err != nil {
		return err
	}
	if r.Weight < 0 || math.IsNaN(r.Weight) || math.IsInf(r.Weight, 0) {
		return fmt.Errorf("weight of %q is %v", r.Name, r.Weight)
	}
	for _, m := range []map[string]Share{r.Guarantee, r.Limit} {
		for name := range m {
			if name != "cpus" && name != "mem" {
				return fmt.Errorf("quota of %q: %q is neither cpus nor mem", r.Name, name)
			}
		}
	}
	return nil
}

func (f *FrameworkGroup) validate() error {
	if f.Name == "" {
		return errors.New("it needs a name")
	}
	if f.Count < 0 || f.Count > maxFrameworks {
		return fmt.Errorf("count is %d", f.Count)
	}
	if f.Count == 0 {
		f.Count = 1
	}
	if f.Role == "" {
		f.Role = "*"
	}
	if err := resources.ValidateRole(f.Role); err != nil {
		return err
	}
	if len(f.Tasks) == 0 {
		return errors.New("tasks: it needs a size of tasks, such as [{\"cpus\": 1, \"mem\": 1024}]")
	}
	for i := range f.Tasks {
		if err := f.Tasks[i].validate(); err != nil {
			return fmt.Errorf("tasks[%d]: %w", i, err)
		}
	}
	for _, d := range []struct {
		name string
		d    *Durations
	}{{"duration", f.Duration}, {"every", f.Every}} {
		if d.d == nil {
			continue
		}
		if err := d.d.validate(); err != nil {
			return fmt.Errorf("%s: %w", d.name, err)
		}
	}
	if f.JobSize != nil {
		if err := f.JobSize.validate(); err != nil {
			return fmt.Errorf("job_size: %w", err)
		}
	}
	if f.Load < 0 || f.Load > 1000 || math.IsNaN(f.Load) {
		return fmt.Errorf("load is %v; 0.5 is half of the cluster", f.Load)
	}
	if f.Constraints && len(f.Attributes) == 0 {
		return errors.New("constraints need attributes")
	}
	return f.validateKind()
}

func (t *TaskSize) validate() error {
	if t.Share < 0 || math.IsNaN(t.Share) {
		return fmt.Errorf("share is %v", t.Share)
	}
	if t.Share == 0 {
		t.Share = 1
	}
	if !(t.CPUs >= 0.01 && t.CPUs <= 1e6) || !(t.Mem >= 1 && t.Mem <= 1e9) {
		return fmt.Errorf("cpus %v and mem %v: at least 0.01 and 1 (MB) are needed", t.CPUs, t.Mem)
	}
	return nil
}

func (f *FrameworkGroup) validateKind() error {
	switch f.Kind {
	case Batch, Picky:
		if f.Duration == nil {
			return errors.New("duration is needed")
		}
		if (f.Every == nil) == (f.Load == 0) {
			return errors.New("either every or load is needed: how often jobs come, or how much they ask for")
		}
		if f.Kind == Picky && len(f.Attributes) == 0 {
			return errors.New("attributes are needed: what it is picky about")
		}
	case Service:
		if f.Every != nil || f.JobSize != nil {
			return errors.New("every and job_size are for batch: a service has instances")
		}
		if (f.Instances <= 0) == (f.Load == 0) {
			return errors.New("either instances or load is needed")
		}
	case Greedy:
		if f.Duration == nil {
			return errors.New("duration is needed: it would never give anything back")
		}
		if f.Every != nil || f.JobSize != nil || f.Load != 0 || f.Instances != 0 {
			return errors.New("every, job_size, load and instances are not for greedy: it takes all that it gets")
		}
		if len(f.Tasks) > 1 {
			return errors.New("tasks: greedy has one size")
		}
	case "":
		return fmt.Errorf("kind is needed (%s, %s, %s, %s)", Batch, Service, Greedy, Picky)
	default:
		return fmt.Errorf("no kind %q (%s, %s, %s, %s)", f.Kind, Batch, Service, Greedy, Picky)
	}
	return nil
}

// size draws the size of a job's tasks.
func (f *FrameworkGroup) weights() []float64 {
	w := make([]float64, len(f.Tasks))
	for i := range f.Tasks {
		w[i] = f.Tasks[i].Share
	}
	return w
}

// split divides n in proportion to shares; what does not divide goes to the largest
// rests, the first of equals.
func split(n int, shares []float64) []int {
	var sum float64
	for _, s := range shares {
		sum += s
	}
	out, order, left := make([]int, len(shares)), make([]int, len(shares)), n
	rest := make([]float64, len(shares))
	for i, s := range shares {
		exact := float64(n) * s / sum
		out[i] = int(exact)
		rest[i], order[i] = exact-float64(out[i]), i
		left -= out[i]
	}
	slices.SortStableFunc(order, func(a, b int) int {
		switch {
		case rest[a] > rest[b]:
			return -1
		case rest[a] < rest[b]:
			return 1
		}
		return 0
	})
	for _, i := range order[:max(0, min(left, len(order)))] {
		out[i]++
	}
	return out
}
