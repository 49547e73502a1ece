package main

import (
	"fmt"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	"clusterd/allocator/resources"
	mesos "clusterd/api/mesos/v1"
)

// The shapes of Mesos's resources_tests.cpp. Ours are immutable: what is "a += b"
// there is "a = a + b" here, as both of Mesos's are.

const ordinary = "cpus:1;gpus:1;mem:128;disk:256"

// repeat times n calls of f, three times over.
func (r *runner) repeat(bench, params, what string, n int, f func()) {
	if r.scale == tiny {
		n = 1
	}
	var samples []time.Duration
	for range 3 {
		samples = append(samples, timed(func() {
			for range n {
				f()
			}
		}))
	}
	each := median(samples) / time.Duration(n)
	r.add(bench, params, fmt.Sprintf("%s x %s", thousands(int64(n)), what), samples, duration(each)+" each")
}

func resourcesShapes(r *runner) error {
	for _, f := range []func(*runner) error{arithmetic, filters, contains, parse, ranges} {
		if err := f(r); err != nil {
			return err
		}
	}
	return nil
}

func arithmetic(r *runner) error {
	const bench = "Resources_Scalar_Arithmetic"
	scalars := resources.MustParse(ordinary)
	var reserved resources.Resources
	for i := range 1000 {
		n := fmt.Sprint(i)
		e, err := scalars.PushReservation(resources.Reservation{
			Dynamic: true, Role: n, HasPrincipal: true, Principal: "principal_" + n,
			Labels: &mesos.Labels{Labels: []*mesos.Label{{Key: new("key_" + n), Value: new("value_" + n)}}},
		}.Proto())
		if err != nil {
			return fmt.Errorf("reserve: %w", err)
		}
		reserved = reserved.Add(e)
	}
	disk := resources.MustFromProto([]*mesos.Resource{{
		Name: new("disk"), Type: mesos.Value_SCALAR.Enum(), Scalar: &mesos.Value_Scalar{Value: proto.Float64(256)},
		Reservations: []*mesos.Resource_ReservationInfo{resources.Reservation{Role: "test"}.Proto()},
		Disk: &mesos.Resource_DiskInfo{
			Persistence: &mesos.Resource_DiskInfo_Persistence{Id: new("persistentId")},
			Volume:      &mesos.Volume{ContainerPath: new("/volume"), Mode: mesos.Volume_RW.Enum()},
		},
		Shared: &mesos.Resource_SharedInfo{},
	}})
	for _, c := range []struct {
		name string
		r    resources.Resources
		n    int
	}{
		{"scalars", scalars, 50000},
		{"1,000 unique reservations", reserved, 10},
		{"shared volume", resources.MustParse("cpus:1;mem:128").Add(disk), 50000},
	} {
		// Each repetition sums and subtracts again, so that the total grows as in
		// Mesos; what was added must be gone at the end.
		n := c.n
		if r.scale == tiny {
			n = 1
		}
		var adds, subs []time.Duration
		for range 3 {
			var total resources.Resources
			adds = append(adds, timed(func() {
				for range n {
					total = total.Add(c.r)
				}
			}))
			if !total.Contains(c.r) {
				return fmt.Errorf("%s: %s does not contain %s", bench, total, c.r)
			}
			subs = append(subs, timed(func() {
				for range n {
					total = total.Sub(c.r)
				}
			}))
			if !total.Empty() {
				return fmt.Errorf("%s: %s is left", bench, total)
			}
		}
		times := thousands(int64(n)) + " x "
		r.add(bench, c.name, times+"total += r", adds, duration(median(adds)/time.Duration(n))+" each")
		r.add(bench, c.name, times+"total -= r", subs, duration(median(subs)/time.Duration(n))+" each")
	}
	return nil
}

func filters(r *runner) error {
	scalars := resources.MustParse(ordinary)
	p := resources.MustParse("cpus:1").Proto()
	p[0].Revocable = &mesos.Resource_RevocableInfo{}
	revocable := resources.MustFromProto(p)
	reserved := resources.MustParse("cpus(role):1;gpus(role):1;mem(role):128;disk(role):256")
	for _, c := range []struct {
		name string
		f    func() resources.Resources
		want resources.Resources
	}{
		{"r.NonRevocable()", scalars.NonRevocable, scalars},
		{"r.Revocable()", revocable.Revocable, revocable},
		{"r.Unreserved()", scalars.Unreserved, scalars},
		{"r.Reserved(role)", func() resources.Resources { return reserved.Reserved("role") }, reserved},
	} {
		if got := c.f(); !got.Equal(c.want) {
			return fmt.Errorf("%s: got %s, want %s", c.name, got, c.want)
		}
		r.repeat("Resources_Filter", "", c.name, 50000, func() { c.f() })
	}
	return nil
}

func contains(r *runner) error {
	small, big := resources.MustParse("cpus:1;mem:128"), resources.MustParse(ordinary)
	whole, broken := resources.MustParse("ports:[1-16000]"), resources.MustParse(fragments(1, 16000, 8000))
	for _, c := range []struct {
		name     string
		sub      resources.Resources
		super    resources.Resources
		n        int
		expected bool
	}{
		{"scalars, contained", small, big, 5000, true},
		{"scalars, not contained", big, small, 5000, false},
		{"scalars, equal", small, unshared(small), 5000, true},
		{"8,000 ranges in one", broken, whole, 100, true},
		{"one range in 8,000", whole, broken, 50, false},
		{"8,000 ranges, equal", broken, unshared(broken), 1, true},
		{"mixed, contained", small.Add(broken), big.Add(whole), 100, true},
		{"mixed, not contained", big.Add(whole), small.Add(broken), 50, false},
		{"mixed, equal", small.Add(broken), unshared(small.Add(broken)), 1, true},
	} {
		if got := c.super.Contains(c.sub); got != c.expected {
			return fmt.Errorf("contains, %s: got %t", c.name, got)
		}
		r.repeat("Resources_Contains", c.name, "Contains", c.n, func() { c.super.Contains(c.sub) })
	}
	return nil
}

func parse(r *runner) error {
	var parts []string
	for i := range 100 {
		parts = append(parts, fmt.Sprintf("res%d:%d", i, i))
	}
	text := strings.Join(parts, ";")
	got, err := resources.Parse(text, "*")
	if err != nil {
		return fmt.Errorf("parse: %w", err)
	}
	if err := want(got.Len(), 99, "resources parsed (res0:0 is none)"); err != nil {
		return err
	}
	counts := []int{1000}
	if r.scale == full {
		counts = []int{1000, 10000, 50000}
	}
	for _, n := range counts {
		r.repeat("Resources_Parse", "100 resources", "Parse", n, func() { _, err = resources.Parse(text, "*") })
		if err != nil {
			return fmt.Errorf("parse: %w", err)
		}
	}
	return nil
}

func ranges(r *runner) error {
	for _, n := range []int{10, 100, 1000} {
		var a, b []string
		for i := range n {
			a = append(a, fmt.Sprintf("%d-%d", 10*i+1, 10*i+6))
			b = append(b, fmt.Sprintf("%d-%d", 10*i+3, 10*i+8))
		}
		x := resources.MustParse("ports:[" + strings.Join(a, ",") + "]")
		y := resources.MustParse("ports:[" + strings.Join(b, ",") + "]")
		if err := want(len(x.Add(y).Ports()), n, "ranges of a + b"); err != nil {
			return err
		}
		if got := x.Sub(y).Ports()[0]; got != (resources.Range{Begin: 1, End: 2}) {
			return fmt.Errorf("first range of a - b: got %v, want 1-2", got)
		}
		params := fmt.Sprintf("%s sub-ranges", thousands(int64(n)))
		r.repeat("Resources_Ranges", params, "a + b", 1000, func() { x.Add(y) })
		r.repeat("Resources_Ranges", params, "a - b", 1000, func() { x.Sub(y) })
	}
	return nil
}
