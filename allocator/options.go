package allocator

import (
	"fmt"
	"strings"
	"time"

	"clusterd/allocator/resources"
	mesos "clusterd/api/mesos/v1"
)

// The sorters that Options names.
const (
	// SorterDRF orders by dominant resource share, the smallest first.
	SorterDRF = "drf"
	// SorterRandom orders at random, weights being relative chances.
	SorterRandom = "random"
)

// The placements that Options names: in which order agents are given out.
const (
	// PlacementRandom takes agents in random order, as Mesos does.
	PlacementRandom = "random"
	// PlacementSpread takes the agents with the smallest part in use first.
	PlacementSpread = "spread"
	// PlacementPack takes the agents with the largest part in use first.
	PlacementPack = "pack"
)

// Options are the settings of an allocator, named after the master's flags.
type Options struct {
	// Interval is --allocation_interval: filters last at least that long. Zero
	// means one second.
	Interval time.Duration
	// RoleSorter and FrameworkSorter are --role_sorter and --framework_sorter;
	// empty means SorterDRF.
	RoleSorter      string
	FrameworkSorter string
	// Placement is --allocator_placement; empty means PlacementRandom. It is a
	// choice among agents, never among frameworks: who is next is for the sorters.
	Placement string
	// Seed feeds the order of agents and the random sorters.
	Seed uint64
	// MinAllocatable is --min_allocatable_resources: an offer must contain one of
	// them. Empty accepts anything.
	MinAllocatable []resources.Quantities
	// FairnessExclude is --fair_sharing_excluded_resource_names.
	FairnessExclude []string
	// FilterGPUResources is --filter_gpu_resources: agents with GPUs are hidden
	// from frameworks without GPU_RESOURCES.
	FilterGPUResources bool
	// Domain is the master's: agents of other regions are hidden from frameworks
	// without REGION_AWARE.
	Domain *mesos.DomainInfo
}

// DefaultOptions returns the defaults of the master's flags.
func DefaultOptions() Options {
	return Options{
		Interval: time.Second,
		MinAllocatable: []resources.Quantities{
			resources.NewQuantities(map[string]float64{"cpus": 0.01}),
			resources.NewQuantities(map[string]float64{"mem": 32}),
		},
		FilterGPUResources: true,
	}
}

// ParseMinAllocatable reads --min_allocatable_resources: alternatives separated
// by "|", such as "cpus:0.01|mem:32". Empty text accepts anything.
func ParseMinAllocatable(text string) ([]resources.Quantities, error) {
	var out []resources.Quantities
	for alternative := range strings.SplitSeq(text, "|") {
		if alternative == "" {
			continue
		}
		q, err := resources.ParseQuantities(alternative)
		if err != nil {
			return nil, fmt.Errorf("min_allocatable_resources %q: %w", text, err)
		}
		out = append(out, q)
	}
	return out, nil
}
