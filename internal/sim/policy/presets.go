package policy

import (
	"fmt"
	"math"
	"slices"
	"time"
)

// Presets are the names of the workloads that need no file.
func Presets() []string { return []string{"mixed", "batch", "services", "greedy"} }

func duration(kind string, mean time.Duration) *Durations {
	return &Durations{Distribution{Kind: kind, Mean: mean.Seconds(), Sigma: 1}}
}

// jobs are of one task to most.
func jobs(most float64) *Numbers {
	return &Numbers{Distribution{Kind: Uniform, Min: 1, Max: most}}
}

// presetGroup is a group of a preset, and how many of its frameworks there are.
type presetGroup struct {
	share float64
	FrameworkGroup
}

// Preset returns a workload by name, for a number of frameworks that together ask for
// load of the cluster, where 1 is all of it.
//
// Jobs grow with the number of agents, so that there are about as many jobs an hour in a
// cluster of any size. A framework that gets a job asks for offers, and is offered every
// agent that has room: what a run costs is agents times jobs.
func Preset(name string, agents, frameworks int, load float64) (*Workload, error) {
	groups, ok := map[string][]presetGroup{
		"mixed":    mixedPreset(),
		"batch":    batchPreset(),
		"services": servicesPreset(),
		"greedy":   greedyPreset(),
	}[name]
	if !ok {
		return nil, fmt.Errorf("no workload %q; there are %v, or a file", name, Presets())
	}
	if load <= 0 || load > 100 {
		return nil, fmt.Errorf("load is %v; 0.8 asks for 80 %% of the cluster", load)
	}
	if frameworks < 1 || frameworks > maxFrameworks {
		return nil, fmt.Errorf("%d frameworks; 1 to %d can be simulated", frameworks, maxFrameworks)
	}
	// With few frameworks the first groups have one each and the others none; what
	// those would have asked for, the others ask for.
	groups = groups[:min(len(groups), frameworks)]
	shares := make([]float64, len(groups))
	for i := range groups {
		shares[i] = groups[i].share
	}
	counts := split(frameworks-len(groups), shares)
	w := &Workload{Agents: []AgentGroup{{Resources: "cpus:16;mem:65536", Racks: 20}}}
	var asked float64
	for i := range groups {
		asked += groups[i].Load
	}
	for i := range groups {
		g := groups[i].FrameworkGroup
		g.Count = counts[i] + 1
		if g.Kind != Greedy {
			g.Load *= load / asked
		}
		if g.JobSize != nil {
			g.JobSize.Max = max(g.JobSize.Min, math.Round(g.JobSize.Max*float64(agents)/1000))
		}
		w.Frameworks = append(w.Frameworks, g)
		if !slices.ContainsFunc(w.Roles, func(r Role) bool { return r.Name == g.Role }) {
			w.Roles = append(w.Roles, Role{Name: g.Role})
		}
	}
	return w, nil
}

func mixedPreset() []presetGroup {
	return []presetGroup{
		{0.4, FrameworkGroup{
			Name: "batch", Role: "batch", Kind: Batch, Load: 0.35, JobSize: jobs(199), Duration: duration(Exponential, 15*time.Minute),
			Tasks: []TaskSize{{CPUs: 1, Mem: 4096, Share: 3}, {CPUs: 2, Mem: 6144, Share: 1}},
		}},
		{0.3, FrameworkGroup{
			Name: "web", Role: "services", Kind: Service, Load: 0.3, Tasks: []TaskSize{{CPUs: 2, Mem: 8192}},
		}},
		{0.2, FrameworkGroup{
			Name: "analytics", Role: "analytics", Kind: Batch, Load: 0.25, JobSize: jobs(99), Duration: duration(Lognormal, 30*time.Minute),
			Tasks: []TaskSize{{CPUs: 4, Mem: 16384}},
		}},
		{0.1, FrameworkGroup{
			Name: "racked", Role: "analytics", Kind: Picky, Load: 0.04, JobSize: jobs(9), Duration: duration(Exponential, 20*time.Minute),
			Tasks: []TaskSize{{CPUs: 2, Mem: 8192}}, Attributes: map[string]string{"rack": "r1"}, Constraints: true,
		}},
	}
}

func batchPreset() []presetGroup {
	group := func(name string, size TaskSize, mean time.Duration) presetGroup {
		return presetGroup{1, FrameworkGroup{
			Name: name, Role: name, Kind: Batch, Load: 1, JobSize: jobs(99),
			Duration: duration(Exponential, mean), Tasks: []TaskSize{size},
		}}
	}
	return []presetGroup{
		group("short", TaskSize{CPUs: 1, Mem: 4096}, 5*time.Minute),
		group("medium", TaskSize{CPUs: 2, Mem: 8192}, 15*time.Minute),
		group("long", TaskSize{CPUs: 4, Mem: 16384}, time.Hour),
	}
}

func servicesPreset() []presetGroup {
	group := func(name string, size TaskSize) presetGroup {
		return presetGroup{1, FrameworkGroup{Name: name, Role: name, Kind: Service, Load: 1, Tasks: []TaskSize{size}}}
	}
	return []presetGroup{
		group("web", TaskSize{CPUs: 1, Mem: 2048}),
		group("api", TaskSize{CPUs: 2, Mem: 8192}),
		group("cache", TaskSize{CPUs: 1, Mem: 16384}),
	}
}

func greedyPreset() []presetGroup {
	group := func(name string) presetGroup {
		return presetGroup{1, FrameworkGroup{
			Name: name, Role: name, Kind: Greedy, Tasks: []TaskSize{{CPUs: 4, Mem: 16384}},
			Duration: duration(Exponential, 10*time.Minute),
		}}
	}
	return []presetGroup{group("red"), group("green"), group("blue")}
}
