package policy

import (
	"bytes"
	"context"
	"flag"
	"math"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"clusterd/allocator"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func exponential(mean time.Duration) *Durations { return duration(Exponential, mean) }

// greedy is a framework that takes all that it gets.
func greedy(name, role string, mean time.Duration) FrameworkGroup {
	return FrameworkGroup{
		Name: name, Role: role, Kind: Greedy, Tasks: []TaskSize{{CPUs: 2, Mem: 8192}}, Duration: exponential(mean),
	}
}

// service is a framework s that keeps tasks running.
func service(instances int, size TaskSize) FrameworkGroup {
	return FrameworkGroup{Name: "s", Role: "s", Kind: Service, Instances: instances, Tasks: []TaskSize{size}}
}

// simulate runs a workload on agents of 8 cpus and 32 GB.
func simulate(t *testing.T, agents int, d time.Duration, w *Workload, change func(*Options)) *Result {
	t.Helper()
	if len(w.Agents) == 0 {
		w.Agents = []AgentGroup{{Resources: "cpus:8;mem:32768", Racks: 5}}
	}
	o := DefaultOptions()
	o.Agents, o.For, o.Workload = agents, d, w
	if change != nil {
		change(&o)
	}
	r, err := Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	balance(t, r)
	return r
}

// balance checks that no task is lost to the books. Those that are just being
// launched are in none of the columns.
func balance(t *testing.T, r *Result) {
	t.Helper()
	for _, g := range r.Each {
		inFlight := g.Submitted - g.Finished - g.Running - g.Waiting
		if g.Kind == Greedy {
			inFlight -= g.Lost // it does not ask for them again
		}
		if inFlight < 0 || inFlight > 50 {
			t.Errorf("%s: %d tasks are in no column: %+v", g.Name, inFlight, g.Counts)
		}
		if open := g.Offers - g.Accepted - g.Declined - g.Rescinded; open < 0 || open > r.Settings.Agents {
			t.Errorf("%s: %d offers are in no column: %+v", g.Name, open, g.Counts)
		}
	}
}

func roleOf(t *testing.T, r *Result, name string) *Shared {
	t.Helper()
	for i := range r.Roles {
		if r.Roles[i].Name == name {
			return &r.Roles[i]
		}
	}
	t.Fatalf("no role %s", name)
	return nil
}

func TestEqualWeightsConvergeToEqualShares(t *testing.T) {
	w := &Workload{Frameworks: []FrameworkGroup{
		greedy("a", "a", 2*time.Minute), greedy("b", "b", 2*time.Minute), greedy("c", "c", 2*time.Minute),
	}}
	// The first has the whole cluster before the others come.
	w.Frameworks[1].Start, w.Frameworks[2].Start = Duration(3*time.Minute), Duration(5*time.Minute)
	r := simulate(t, 50, 40*time.Minute, w, nil)
	var shares []float64
	for i := range r.Roles {
		shares = append(shares, r.Roles[i].LastShare)
	}
	if j := jain(shares); j < 0.98 {
		t.Errorf("Jain's index of %v is %v", shares, j)
	}
	if *r.Cluster.RoleFairness < 0.9 || *r.Cluster.RoleFairness > 0.9999 {
		t.Errorf("mean fairness %v: want one that shows the unfair beginning, and the fair rest", *r.Cluster.RoleFairness)
	}
	if early := r.Samples[len(r.Samples)/20]; early.Shares[0] < 0.9 || math.Abs(early.Fair[0]-early.Shares[0]) > 1e-6 {
		t.Errorf("the first was to be alone at first: %+v", early)
	}
	if r.Cluster.CPUs.Last < 0.95 {
		t.Errorf("the cluster is not full: %v", r.Cluster.CPUs.Last)
	}
}

func TestFrameworksOfARoleShareFairly(t *testing.T) {
	g := greedy("a", "a", 2*time.Minute)
	g.Count = 4
	r := simulate(t, 50, 30*time.Minute, &Workload{Frameworks: []FrameworkGroup{g}}, nil)
	if *r.Cluster.FrameworkFairness < 0.98 {
		t.Errorf("fairness %v", *r.Cluster.FrameworkFairness)
	}
	if r.Cluster.RoleFairness != nil {
		t.Errorf("fairness of a single role: %v", *r.Cluster.RoleFairness)
	}
}

func TestWeights(t *testing.T) {
	w := &Workload{
		Roles:      []Role{{Name: "a", Weight: 2}},
		Frameworks: []FrameworkGroup{greedy("a", "a", 2*time.Minute), greedy("b", "b", 2*time.Minute)},
	}
	r := simulate(t, 60, 40*time.Minute, w, nil)
	a, b := roleOf(t, r, "a"), roleOf(t, r, "b")
	if ratio := a.LastShare / b.LastShare; math.Abs(ratio-2) > 0.1 {
		t.Errorf("shares %v and %v: ratio %v, want 2", a.LastShare, b.LastShare, ratio)
	}
	if math.Abs(a.LastFair-2*b.LastFair) > 1e-6 {
		t.Errorf("fair shares %v and %v, want 2 to 1", a.LastFair, b.LastFair)
	}
}

func TestQuotaLimitHolds(t *testing.T) {
	w := &Workload{
		Roles:      []Role{{Name: "a", Limit: map[string]Share{"cpus": {Amount: 0.25, Part: true}}}},
		Frameworks: []FrameworkGroup{greedy("a", "a", 2*time.Minute), greedy("b", "b", 2*time.Minute)},
	}
	r := simulate(t, 40, 20*time.Minute, w, nil)
	most := 0.0
	for _, s := range r.Samples {
		most = max(most, s.Shares[0])
	}
	if most > 0.25+1e-9 || most < 0.24 {
		t.Errorf("the role had up to %v, want its limit, 0.25", most)
	}
	if b := roleOf(t, r, "b"); b.LastShare < 0.7 {
		t.Errorf("the other has %v, want the rest", b.LastShare)
	}
}

func TestQuotaGuaranteeIsKept(t *testing.T) {
	w := &Workload{
		Roles: []Role{{Name: "late", Guarantee: map[string]Share{"cpus": {Amount: 0.4, Part: true}, "mem": {Amount: 0.4, Part: true}}}},
		Frameworks: []FrameworkGroup{
			greedy("early", "early", 100*time.Hour), greedy("late", "late", time.Minute),
		},
	}
	w.Frameworks[1].Start = Duration(10 * time.Minute)
	r := simulate(t, 40, 20*time.Minute, w, nil)
	// Tasks of early do not end: what late has, was kept for it.
	if late := roleOf(t, r, "late"); late.LastShare < 0.39 || late.LastShare > 0.41 {
		t.Errorf("it has %v, want 0.4", late.LastShare)
	}
}

func TestPackLeavesMoreAgentsEmptyThanSpread(t *testing.T) {
	run := func(placement string) float64 {
		w := &Workload{Frameworks: []FrameworkGroup{{
			Name: "b", Role: "b", Kind: Batch, Load: 0.4, JobSize: jobs(20), Duration: exponential(5 * time.Minute),
			Tasks: []TaskSize{{CPUs: 1, Mem: 2048}},
		}}}
		return simulate(t, 50, 30*time.Minute, w, func(o *Options) { o.Allocator.Placement = placement }).Cluster.EmptyAgents
	}
	pack, spread := run(allocator.PlacementPack), run(allocator.PlacementSpread)
	if pack < spread+5 {
		t.Errorf("pack leaves %v agents empty, spread %v", pack, spread)
	}
}

func TestAgentFailureLosesExactlyItsTasks(t *testing.T) {
	for _, tc := range []struct {
		name, fail string
		back       bool
		least      time.Duration // until frameworks hear
		most       time.Duration
	}{
		{"they come back after they were given up", "agents:10%@10m+5m", true, 75 * time.Second, 91 * time.Second},
		{"they come back at once", "agents:10%@10m+10s", true, 10 * time.Second, 12 * time.Second},
		{"they never come back", "agents:2@10m", false, 75 * time.Second, 91 * time.Second},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f, err := ParseFailure(tc.fail)
			if err != nil {
				t.Fatal(err)
			}
			// Four tasks fill an agent, and there are as many as fit.
			w := &Workload{Frameworks: []FrameworkGroup{service(80, TaskSize{CPUs: 2, Mem: 8192})}}
			r := simulate(t, 20, 30*time.Minute, w, func(o *Options) { o.Failures = []Failure{f} })
			got := r.Failures[0]
			if got.Agents != 2 || got.TasksLost != 8 || r.Cluster.Lost != 8 {
				t.Errorf("%d agents failed, %d tasks were on them and %d were lost; want 2, 8, 8", got.Agents, got.TasksLost, r.Cluster.Lost)
			}
			if got.Heard == nil || *got.Heard < tc.least || *got.Heard > tc.most {
				t.Errorf("heard after %v, want between %v and %v", got.Heard, tc.least, tc.most)
			}
			if (got.Back != nil) != tc.back || (got.Recovered != nil) != tc.back {
				t.Errorf("back after %v, recovered after %v", got.Back, got.Recovered)
			}
			if want := 80; tc.back && r.Cluster.Running != want {
				t.Errorf("%d tasks run at the end, want %d", r.Cluster.Running, want)
			}
		})
	}
}

func TestRackFailure(t *testing.T) {
	f, _ := ParseFailure("rack:r2@5m+20m")
	w := &Workload{Frameworks: []FrameworkGroup{service(40, TaskSize{CPUs: 2, Mem: 8192})}}
	r := simulate(t, 20, 10*time.Minute, w, func(o *Options) { o.Failures = []Failure{f} })
	if r.Failures[0].Agents != 4 {
		t.Errorf("%d of 20 agents are in one of 5 racks", r.Failures[0].Agents)
	}
	if last := r.Samples[len(r.Samples)-1]; math.Abs(last.Up-0.8) > 1e-9 {
		t.Errorf("%v of the cluster is up, want 0.8", last.Up)
	}
}

func TestMasterFailureLosesNoTask(t *testing.T) {
	var failures []Failure
	// The second hits while agents are away, and before they are given up.
	for _, text := range []string{"master@10m", "agents:10%@20m+5m", "master@20m30s+5s", "master@25m+30s"} {
		f, err := ParseFailure(text)
		if err != nil {
			t.Fatal(err)
		}
		failures = append(failures, f)
	}
	w := &Workload{Frameworks: []FrameworkGroup{
		service(20, TaskSize{CPUs: 2, Mem: 8192}),
		{Name: "b", Kind: Batch, Load: 0.5, JobSize: jobs(9), Duration: exponential(2 * time.Minute), Tasks: []TaskSize{{CPUs: 1, Mem: 4096}}},
	}}
	r := simulate(t, 20, 45*time.Minute, w, func(o *Options) { o.Failures = failures })
	for _, f := range r.Failures {
		if f.Failure == "agents:10%@20m+5m" {
			if f.TasksLost != r.Cluster.Lost {
				t.Errorf("%d tasks were on the agents that died, %d were lost", f.TasksLost, r.Cluster.Lost)
			}
			continue
		}
		if f.Back == nil || f.FirstOffer == nil || f.TasksLost != 0 {
			t.Errorf("%s: %+v", f.Failure, f)
		}
	}
	if first := r.Failures[0]; *first.Back < 2*time.Second || *first.Back > 4*time.Second || first.Agents != 20 {
		t.Errorf("%d agents were back after %v", first.Agents, *first.Back)
	}
	if s := roleOf(t, r, "s"); s.Running != 20 {
		t.Errorf("%d of 20 instances run", s.Running)
	}
	if r.Cluster.Finished < 500 {
		t.Errorf("only %d tasks finished", r.Cluster.Finished)
	}
}

func TestPickyFrameworksGetWhatTheyWant(t *testing.T) {
	for _, constraints := range []bool{false, true} {
		w := &Workload{Frameworks: []FrameworkGroup{{
			Name: "p", Kind: Picky, Every: exponential(time.Minute), Duration: exponential(time.Minute), JobSize: jobs(5),
			Tasks: []TaskSize{{CPUs: 1, Mem: 1024}}, Attributes: map[string]string{"rack": "r3"}, Constraints: constraints,
		}}}
		r := simulate(t, 20, 20*time.Minute, w, nil)
		if r.Cluster.Finished == 0 || r.Cluster.Wait.Max > 10*time.Second {
			t.Errorf("constraints %v: %d finished, the longest wait was %v", constraints, r.Cluster.Finished, r.Cluster.Wait.Max)
		}
		// Told of the constraint, the master offers 4 of 20 agents.
		if perJob := r.Cluster.DeclinedPart(); constraints && perJob > 0.9 || !constraints && perJob < 0.9 {
			t.Errorf("constraints %v: %v of the offers were declined", constraints, perJob)
		}
	}
}

// tiny is a run that shows everything, and is soon over.
func tiny(seed uint64) Options {
	o := DefaultOptions()
	o.Agents, o.For, o.Seed, o.Sample = 10, 10*time.Minute, seed, 20*time.Second
	o.Workload = &Workload{
		Agents: []AgentGroup{{Resources: "cpus:8;mem:32768", Racks: 2}},
		Roles:  []Role{{Name: "dev", Weight: 2}},
		Frameworks: []FrameworkGroup{
			{Name: "b", Count: 2, Role: "dev", Kind: Batch, Load: 0.6, JobSize: jobs(9), Duration: exponential(time.Minute), Tasks: []TaskSize{{CPUs: 1, Mem: 4096}, {CPUs: 2, Mem: 2048}}},
			service(8, TaskSize{CPUs: 2, Mem: 4096}),
		},
	}
	for _, text := range []string{"agents:2@4m+3m", "master@8m"} {
		f, _ := ParseFailure(text)
		o.Failures = append(o.Failures, f)
	}
	return o
}

// print is everything but what the run really cost.
func printed(t *testing.T, r *Result) (table, json, svg string) {
	t.Helper()
	r.Real = Real{}
	var b [3]bytes.Buffer
	for _, err := range []error{r.WriteTable(&b[0], true), r.WriteJSON(&b[1]), r.WriteSVG(&b[2])} {
		if err != nil {
			t.Fatal(err)
		}
	}
	return b[0].String(), b[1].String(), b[2].String()
}

func TestSameSeedSameBytes(t *testing.T) {
	run := func(seed uint64) [3]string {
		r, err := Run(t.Context(), tiny(seed))
		if err != nil {
			t.Fatal(err)
		}
		a, b, c := printed(t, r)
		return [3]string{a, b, c}
	}
	first, second, other := run(7), run(7), run(8)
	for i := range first {
		if first[i] != second[i] {
			t.Errorf("two runs of one seed differ:\n%s", cmp.Diff(first[i], second[i]))
		}
		if first[i] == other[i] {
			t.Error("another seed gives the same")
		}
	}
}

func TestGolden(t *testing.T) {
	r, err := Run(t.Context(), tiny(1))
	if err != nil {
		t.Fatal(err)
	}
	table, _, svg := printed(t, r)
	for name, got := range map[string]string{"tiny.txt": table, "tiny.svg": svg} {
		path := filepath.Join("testdata", name)
		if *update {
			if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if got != string(want) {
			t.Errorf("%s (go test -update rewrites it):\n%s", path, cmp.Diff(string(want), got))
		}
	}
}

func TestStoppedRunIsPartial(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	o := tiny(1)
	o.For = 24 * time.Hour
	o.Sample = 0
	o.Progress = func(p Progress) {
		if p.Virtual > time.Hour {
			cancel()
		}
	}
	r, err := Run(ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	if !r.Partial || r.For < time.Hour || r.For > 20*time.Hour || r.Cluster.Finished == 0 {
		t.Errorf("partial %v after %v, %d tasks finished", r.Partial, r.For, r.Cluster.Finished)
	}
}
