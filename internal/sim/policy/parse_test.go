package policy

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func TestParseFailure(t *testing.T) {
	for text, want := range map[string]Failure{
		"agents:10%@2h+30m":  {Kind: FailAgents, Agents: Share{0.1, true}, At: 2 * time.Hour, For: 30 * time.Minute},
		"agents:7@90secs":    {Kind: FailAgents, Agents: Share{Amount: 7}, At: 90 * time.Second},
		"rack:r3@1hrs+1mins": {Kind: FailRack, Rack: "r3", At: time.Hour, For: time.Minute},
		"master@1h":          {Kind: FailMaster, At: time.Hour, For: DefaultMasterOutage},
		"master@1h+10s":      {Kind: FailMaster, At: time.Hour, For: 10 * time.Second},
	} {
		want.Text = text
		got, err := ParseFailure(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
		} else if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s:\n%s", text, diff)
		}
	}
	for text, want := range map[string]string{
		"":                   "does not say when",
		"master":             "does not say when",
		"master@soon":        "no duration",
		"master@1h+":         "no duration",
		"master@1h+0s":       "lasts no time",
		"master@-1h":         "not between",
		"master:1@1h":        "takes no",
		"agents@1h":          "neither a number",
		"agents:0@1h":        "neither a number",
		"agents:200%@1h":     "not between 0% and 100%",
		"rack@1h":            "which rack",
		"floods:2@1h":        "is not agents:N",
		"agents:10%@200000h": "not between",
	} {
		if _, err := ParseFailure(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %q", text, err, want)
		}
	}
}

const workloadText = `{
  "agents": [
    {"share": 3, "resources": "cpus:16;mem:65536", "racks": 10},
    {"resources": "cpus:64;mem:262144;gpus:4", "attributes": {"class": "big"}}
  ],
  "roles": [{"name": "prod", "weight": 2, "guarantee": {"cpus": "30%"}, "limit": {"mem": 100000}}],
  "frameworks": [
    {"name": "web", "count": 3, "role": "prod", "kind": "service", "instances": 10, "tasks": [{"cpus": 1, "mem": 2048}]},
    {"name": "etl", "role": "dev", "kind": "batch", "every": "30secs", "job_size": {"distribution": "uniform", "min": 1, "max": 20},
     "duration": {"distribution": "lognormal", "mean": "10mins", "sigma": 1.5, "max": "2h"},
     "tasks": [{"cpus": 1, "mem": 1024}, {"cpus": 4, "mem": 8192, "share": 0.1}],
     "latency": "50ms", "refuse": "1mins", "revive_every": 5, "suppress": true, "offer_filters": false},
    {"name": "train", "role": "dev", "kind": "picky", "load": 0.1, "duration": "20mins", "tasks": [{"cpus": 8, "mem": 32768}],
     "attributes": {"class": "big"}, "constraints": true, "start": "1mins"}
  ]
}`

func TestReadWorkload(t *testing.T) {
	w, err := ReadWorkload([]byte(workloadText))
	if err != nil {
		t.Fatal(err)
	}
	etl := w.Frameworks[1]
	want := FrameworkGroup{
		Name: "etl", Count: 1, Role: "dev", Kind: Batch,
		Every:    &Durations{Distribution{Kind: Fixed, Mean: 30}},
		JobSize:  &Numbers{Distribution{Kind: Uniform, Min: 1, Max: 20}},
		Duration: &Durations{Distribution{Kind: Lognormal, Mean: 600, Sigma: 1.5, Max: 7200}},
		Tasks:    []TaskSize{{CPUs: 1, Mem: 1024, Share: 1}, {CPUs: 4, Mem: 8192, Share: 0.1}},
		Latency:  new(Duration(50 * time.Millisecond)), Refuse: new(Duration(time.Minute)), ReviveEvery: Duration(5 * time.Second),
		Suppress: new(true), OfferFilters: new(false),
	}
	if diff := cmp.Diff(want, etl); diff != "" {
		t.Error(diff)
	}
	if w.Roles[0].Guarantee["cpus"].Of(200) != 60 || w.Roles[0].Limit["mem"].Of(1e9) != 100000 {
		t.Errorf("quota %+v", w.Roles[0])
	}
	r := simulate(t, 20, 10*time.Minute, w, nil)
	if r.Settings.CPUs != 15*16+5*64 {
		t.Errorf("%v cpus", r.Settings.CPUs)
	}
}

// TestWorkloadMistakes: who writes a file by hand is told what is wrong, and where.
func TestWorkloadMistakes(t *testing.T) {
	for name, tc := range map[string]struct{ old, with, want string }{
		"syntax":                 {`"share": 3,`, `"share": 3`, "line 3"},
		"type":                   {`"share": 3`, `"share": "three"`, "line 3"},
		"unknown member":         {`"instances"`, `"instancs"`, `unknown field "instancs"`},
		"behind the end":         {"\n}", "\n} x", "behind the end"},
		"no frameworks":          {workloadText, `{}`, "frameworks: there is none"},
		"no kind":                {`"kind": "service", `, ``, `frameworks[0] "web": kind is needed`},
		"wrong kind":             {`"service"`, `"servce"`, `no kind "servce"`},
		"no name":                {`"name": "web", `, ``, "needs a name"},
		"same name":              {`"name": "etl"`, `"name": "web"`, `the name "web" is there twice`},
		"no tasks":               {`, "tasks": [{"cpus": 1, "mem": 2048}]`, ``, "size of tasks"},
		"tiny task":              {`"cpus": 1, "mem": 2048`, `"cpus": 0, "mem": 2048`, "tasks[0]: cpus 0"},
		"no instances":           {`"instances": 10, `, ``, "instances or load"},
		"every and load":         {`"every": "30secs"`, `"load": 1, "every": "30secs"`, "either every or load"},
		"no duration":            {`"duration": "20mins", `, ``, "duration is needed"},
		"bad duration":           {`"20mins"`, `"20 parsecs"`, `"20 parsecs" is no duration`},
		"no such shape":          {`"lognormal"`, `"poisson"`, `no distribution "poisson"`},
		"negative mean":          {`"mean": "10mins"`, `"mean": -1`, "between 0 and 1e12"},
		"min over max":           {`"min": 1`, `"min": 30`, "min is greater"},
		"wrong role":             {`"role": "prod"`, `"role": "-prod"`, "starts with a dash"},
		"bad weight":             {`"weight": 2`, `"weight": -2`, "weight"},
		"bad quota":              {`"30%"`, `"130%"`, "not between 0% and 100%"},
		"quota of disks":         {`{"cpus": "30%"}`, `{"disk": 1}`, "neither cpus nor mem"},
		"bad resources":          {`cpus:16;`, `cpus=16;`, "agents[0]: resources"},
		"no memory":              {`cpus:16;mem:65536`, `cpus:16`, "cpus and mem are needed"},
		"picky about nothing":    {`"attributes": {"class": "big"}, "constraints": true, `, ``, "what it is picky about"},
		"constrained by nothing": {`"offer_filters": false`, `"constraints": true`, "constraints need attributes"},
	} {
		t.Run(name, func(t *testing.T) {
			text := strings.Replace(workloadText, tc.old, tc.with, 1)
			if text == workloadText {
				t.Fatal("nothing was replaced")
			}
			if _, err := ReadWorkload([]byte(text)); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
		})
	}
}

func TestRunMistakes(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(*Options)
		want   string
	}{
		"no agents":       {func(o *Options) { o.Agents = 0 }, "0 agents"},
		"too many agents": {func(o *Options) { o.Agents = 100_001 }, "100001 agents"},
		"no time":         {func(o *Options) { o.For = 0 }, "a run of 0s"},
		"no workload":     {func(o *Options) { o.Workload = nil }, "no workload"},
		"late failure":    {func(o *Options) { o.Failures[0].At = o.For }, "the run is over"},
		"too many failed": {func(o *Options) { o.Failures[0].Agents = Share{Amount: 11} }, "there are 10 agents"},
		"no such rack":    {func(o *Options) { o.Failures[0].Kind, o.Failures[0].Rack = FailRack, "r9" }, "(r1, r2)"},
		"task too big":    {func(o *Options) { o.Workload.Frameworks[0].Tasks[1].CPUs = 9 }, "no agent has cpus 9"},
		"nowhere":         {func(o *Options) { o.Workload.Frameworks[0].Attributes = map[string]string{"rack": "r9"} }, "no agent has"},
		"quota over parent": {func(o *Options) {
			o.Workload.Roles = []Role{{Name: "dev", Limit: map[string]Share{"cpus": {Amount: 1}}}, {Name: "dev/x", Limit: map[string]Share{"cpus": {Amount: 2}}}}
		}, "the master answered 400"},
	} {
		t.Run(name, func(t *testing.T) {
			o := tiny(1)
			tc.change(&o)
			if _, err := Run(t.Context(), o); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
		})
	}
}

func TestPresets(t *testing.T) {
	for _, name := range Presets() {
		for _, n := range []int{1, 2, 7} {
			w, err := Preset(name, 30, n, 0.7)
			if err != nil {
				t.Fatal(err)
			}
			total := 0
			for _, g := range w.Frameworks {
				total += g.Count
			}
			if total != n {
				t.Errorf("%s: %d frameworks, want %d", name, total, n)
			}
			if r := simulate(t, 30, 20*time.Minute, w, nil); r.Cluster.CPUs.Last < 0.2 {
				t.Errorf("%s with %d frameworks uses %v of the cluster", name, n, r.Cluster.CPUs.Last)
			}
		}
	}
	for _, tc := range []struct {
		name       string
		frameworks int
		load       float64
	}{{"mexed", 1, 1}, {"mixed", 0, 1}, {"mixed", 1, 0}} {
		if _, err := Preset(tc.name, 10, tc.frameworks, tc.load); err == nil {
			t.Errorf("%+v is taken", tc)
		}
	}
}

// TestLoadIsWhatIsUsed: a workload that asks for half of the cluster uses half.
func TestLoadIsWhatIsUsed(t *testing.T) {
	w := &Workload{Frameworks: []FrameworkGroup{{
		Name: "b", Count: 5, Kind: Batch, Load: 0.5, JobSize: jobs(5), Duration: exponential(time.Minute),
		Tasks: []TaskSize{{CPUs: 1, Mem: 1024, Share: 3}, {CPUs: 2, Mem: 2048, Share: 1}},
	}}}
	r := simulate(t, 60, time.Hour, w, nil)
	if got := r.Cluster.CPUs.Mean; math.Abs(got-0.5) > 0.05 {
		t.Errorf("%v of the cpus were used", got)
	}
}

func TestFairShares(t *testing.T) {
	inf := math.Inf(1)
	for name, tc := range map[string]struct {
		total  float64
		claims []claim
		want   []float64
	}{
		"equal":                        {0.9, []claim{{1, 0, inf}, {1, 0, inf}, {1, 0, inf}}, []float64{0.3, 0.3, 0.3}},
		"weights":                      {0.9, []claim{{2, 0, inf}, {1, 0, inf}}, []float64{0.6, 0.3}},
		"small want":                   {0.9, []claim{{1, 0, 0.1}, {1, 0, inf}, {1, 0, inf}}, []float64{0.1, 0.4, 0.4}},
		"guarantee":                    {0.9, []claim{{1, 0.5, inf}, {1, 0, inf}, {1, 0, inf}}, []float64{0.5, 0.2, 0.2}},
		"guarantee that is not wanted": {0.9, []claim{{1, 0.5, 0.1}, {1, 0, inf}}, []float64{0.1, 0.8}},
		"nothing":                      {0, []claim{{1, 0, inf}, {1, 0, inf}}, []float64{0, 0}},
	} {
		got := fairShares(tc.total, tc.claims)
		if diff := cmp.Diff(tc.want, got, cmpopts.EquateApprox(0, 1e-6)); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
	if j := jain([]float64{1, 0, 0, 0}); j != 0.25 {
		t.Errorf("one has all: %v", j)
	}
	if j, ok := fairness([]float64{0.2, 0.4, 0}, []float64{0.3, 0.6, 0}); !ok || math.Abs(j-1) > 1e-12 {
		t.Errorf("all have two thirds: %v %v", j, ok)
	}
	if _, ok := fairness([]float64{0.2, 0}, []float64{0.3, 0}); ok {
		t.Error("one alone is judged")
	}
}

func TestHistogram(t *testing.T) {
	var h, rest histogram
	for i := range 10_000 {
		to := &h
		if i%3 == 0 {
			to = &rest
		}
		to.add(time.Duration(i+1) * time.Millisecond)
	}
	h.merge(&rest)
	got := h.quantiles()
	want := Quantiles{
		Count: 10_000, Mean: 5000500 * time.Microsecond, P50: 5 * time.Second, P90: 9 * time.Second,
		P99: 9900 * time.Millisecond, Max: 10 * time.Second,
	}
	if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b time.Duration) bool {
		return math.Abs(float64(a-b)) <= 0.011*float64(max(a, b))
	})); diff != "" {
		t.Error(diff)
	}
	if got.Max != 10*time.Second {
		t.Errorf("the maximum is %v", got.Max)
	}
}

func TestSplit(t *testing.T) {
	for _, tc := range []struct {
		n      int
		shares []float64
		want   []int
	}{
		{10, []float64{1}, []int{10}},
		{10, []float64{1, 1, 1}, []int{4, 3, 3}},
		{7, []float64{0.4, 0.3, 0.2, 0.1}, []int{3, 2, 1, 1}},
		{0, []float64{1, 2}, []int{0, 0}},
	} {
		if diff := cmp.Diff(tc.want, split(tc.n, tc.shares)); diff != "" {
			t.Errorf("%d by %v: %s", tc.n, tc.shares, diff)
		}
	}
}
