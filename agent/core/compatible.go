package core

import (
	"cmp"
	"fmt"
	"slices"

	"google.golang.org/protobuf/proto"

	mesos "clusterd/api/mesos/v1"
)

// compatible judges a changed configuration (src/slave/compatibility.cpp).
func compatible(policy string, before, now *mesos.AgentInfo) error {
	before = proto.CloneOf(before)
	before.Id = nil
	now = proto.CloneOf(now)
	now.Id = nil
	bad := func(format string, args ...any) error {
		return fmt.Errorf("%w: %s; not permitted under --reconfiguration_policy=%s", ErrIncompatible, fmt.Sprintf(format, args...), policy)
	}
	if policy == "any" || proto.Equal(before, now) {
		return nil
	}
	if before.GetHostname() != now.GetHostname() {
		return bad("hostname was %q and is %q", before.GetHostname(), now.GetHostname())
	}
	if before.GetPort() != now.GetPort() {
		return bad("port was %d and is %d", before.GetPort(), now.GetPort())
	}
	was, is := toResources(before.GetResources()), toResources(now.GetResources())
	if policy != "additive" {
		if !was.Equal(is) {
			return bad("resources were %s and are %s", was, is)
		}
		if !proto.Equal(before.GetDomain(), now.GetDomain()) {
			return bad("domain was %v and is %v", before.GetDomain(), now.GetDomain())
		}
		if !sameAttributes(before.GetAttributes(), now.GetAttributes()) {
			return bad("attributes were %v and are %v", before.GetAttributes(), now.GetAttributes())
		}
		return nil
	}
	if before.GetDomain() != nil && !proto.Equal(before.GetDomain(), now.GetDomain()) {
		return bad("domain was %v and is %v", before.GetDomain(), now.GetDomain())
	}
	if !is.Contains(was) {
		return bad("resources %s are not all in %s", was, is)
	}
	for _, a := range before.GetAttributes() {
		found := false
		for _, b := range now.GetAttributes() {
			found = found || attributeKept(a, b)
		}
		if !found {
			return bad("attribute %v is gone or changed", a)
		}
	}
	return nil
}

// sameAttributes compares attributes, whose order says nothing.
func sameAttributes(as, bs []*mesos.Attribute) bool {
	bs = slices.Clone(bs)
	for _, a := range as {
		i := slices.IndexFunc(bs, func(b *mesos.Attribute) bool { return proto.Equal(a, b) })
		if i < 0 {
			return false
		}
		bs = slices.Delete(bs, i, i+1)
	}
	return len(bs) == 0
}

// attributeKept says whether b says all that a said. Ranges may grow.
func attributeKept(a, b *mesos.Attribute) bool {
	if a.GetName() != b.GetName() || a.GetType() != b.GetType() {
		return false
	}
	if a.GetType() != mesos.Value_RANGES {
		return proto.Equal(a, b)
	}
	now := merged(b.GetRanges().GetRange())
	for _, ra := range a.GetRanges().GetRange() {
		inside := func(rb *mesos.Value_Range) bool { return rb.GetBegin() <= ra.GetBegin() && ra.GetEnd() <= rb.GetEnd() }
		if !slices.ContainsFunc(now, inside) {
			return false
		}
	}
	return true
}

// merged returns ranges in order, those that touch as one.
func merged(in []*mesos.Value_Range) []*mesos.Value_Range {
	sorted := slices.SortedFunc(slices.Values(in), func(a, b *mesos.Value_Range) int { return cmp.Compare(a.GetBegin(), b.GetBegin()) })
	var out []*mesos.Value_Range
	for _, r := range sorted {
		if n := len(out); n > 0 && r.GetBegin() <= out[n-1].GetEnd()+1 {
			out[n-1].End = new(max(out[n-1].GetEnd(), r.GetEnd()))
			continue
		}
		out = append(out, proto.CloneOf(r))
	}
	return out
}
