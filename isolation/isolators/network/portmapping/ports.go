package portmapping

import (
	"errors"
	"fmt"
	"slices"
	"sync"

	mesos "clusterd/api/mesos/v1"
)

// ErrNoEphemeralPorts says that as many containers run as there are blocks of
// ephemeral ports.
var ErrNoEphemeralPorts = errors.New("no ephemeral ports are left")

// Range is a range of ports, both ends in it.
type Range struct {
	Begin uint16 `json:"begin"`
	End   uint16 `json:"end"`
}

func (r Range) String() string { return fmt.Sprintf("%d-%d", r.Begin, r.End) }

// RangesOf are the ports among resources of that name ("ports" or
// "ephemeral_ports"), put together and in order.
func RangesOf(resources []*mesos.Resource, name string) ([]Range, error) {
	var ranges []Range
	for _, r := range resources {
		if r.GetName() != name {
			continue
		}
		for _, v := range r.GetRanges().GetRange() {
			if v.GetBegin() > v.GetEnd() || v.GetEnd() > 0xffff {
				return nil, fmt.Errorf("%s %d-%d are no ports", name, v.GetBegin(), v.GetEnd())
			}
			ranges = append(ranges, Range{uint16(v.GetBegin()), uint16(v.GetEnd())})
		}
	}
	return merge(ranges), nil
}

// merge sorts ranges and joins those that touch.
func merge(ranges []Range) []Range {
	slices.SortFunc(ranges, func(a, b Range) int { return int(a.Begin) - int(b.Begin) })
	var out []Range
	for _, r := range ranges {
		if n := len(out); n > 0 && int(r.Begin) <= int(out[n-1].End)+1 {
			out[n-1].End = max(out[n-1].End, r.End)
			continue
		}
		out = append(out, r)
	}
	return out
}

// contains says whether every port of inner is in outer; both are merged.
func contains(outer, inner []Range) bool {
	for _, i := range inner {
		if !slices.ContainsFunc(outer, func(o Range) bool { return o.Begin <= i.Begin && i.End <= o.End }) {
			return false
		}
	}
	return true
}

func intersects(a, b []Range) bool {
	for _, x := range a {
		if slices.ContainsFunc(b, func(y Range) bool { return x.Begin <= y.End && y.Begin <= x.End }) {
			return true
		}
	}
	return false
}

// block is 2^n ports that a filter matches with one value and mask.
type block struct{ port, mask uint16 }

// blocks cuts ranges into blocks (getPortRanges in Mesos's port_mapping.cpp).
func blocks(ranges []Range) []block {
	var out []block
	for _, r := range ranges {
		for low := uint32(r.Begin); low <= uint32(r.End); {
			size := uint32(1)
			for low%(2*size) == 0 && low+2*size-1 <= uint32(r.End) && size < 1<<15 {
				size *= 2
			}
			out = append(out, block{uint16(low), uint16(0x10000 - size)})
			low += size
		}
	}
	return out
}

// ephemeral hands out blocks of ephemeral ports, each aligned to its size.
type ephemeral struct {
	ranges []Range
	size   uint32

	mu sync.Mutex
	// used is guarded by mu: the first ports of blocks in use.
	used map[uint16]bool
}

func newEphemeral(ranges []Range, size uint16) *ephemeral {
	return &ephemeral{ranges: ranges, size: uint32(size), used: make(map[uint16]bool)}
}

// take takes the lowest free block.
func (e *ephemeral) take() (Range, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, r := range e.ranges {
		low := (uint32(r.Begin) + e.size - 1) / e.size * e.size
		for ; low+e.size-1 <= uint32(r.End); low += e.size {
			if !e.used[uint16(low)] {
				e.used[uint16(low)] = true
				return Range{uint16(low), uint16(low + e.size - 1)}, nil
			}
		}
	}
	return Range{}, fmt.Errorf("%w: %d containers have %d each", ErrNoEphemeralPorts, len(e.used), e.size)
}

// keep marks the ports of a recovered container, which may be of another size, as
// taken: all blocks that they touch.
func (e *ephemeral) keep(r Range) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.each(r, func(low uint16) { e.used[low] = true })
}

func (e *ephemeral) give(r Range) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.each(r, func(low uint16) { delete(e.used, low) })
}

func (e *ephemeral) each(r Range, f func(low uint16)) {
	for low := uint32(r.Begin) / e.size * e.size; low <= uint32(r.End); low += e.size {
		f(uint16(low))
	}
}
