package resources

import (
	"fmt"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	mesos "clusterd/api/mesos/v1"
)

// The shapes and their parameters are those of the benchmarks of Mesos's
// resources_tests.cpp (Resources_*_BENCHMARK_Test). An operation here is one
// operation there; "ms/run" is what the number of them takes that Mesos measures.

// perRun reports what Mesos prints: the time of so many operations.
func perRun(b *testing.B, operations int) {
	b.ReportMetric(b.Elapsed().Seconds()*1000/float64(b.N)*float64(operations), "ms/run")
	b.ReportAllocs()
}

// BenchmarkArithmetic is Resources_Scalar_Arithmetic: so many sums, each on
// what came of the last, and back again.
func BenchmarkArithmetic(b *testing.B) {
	scalars := MustParse("cpus:1;gpus:1;mem:128;disk:256")
	var unique Resources
	for i := range 1000 {
		labels := &mesos.Labels{Labels: []*mesos.Label{{Key: new(fmt.Sprint("key_", i)), Value: new(fmt.Sprint("value_", i))}}}
		e, err := scalars.PushReservation(Reservation{
			Dynamic: true, Role: fmt.Sprint(i), HasPrincipal: true, Principal: fmt.Sprint("principal_", i), Labels: labels,
		}.Proto())
		if err != nil {
			b.Fatal(err)
		}
		unique = unique.Add(e)
	}
	volume := MustFromProto([]*mesos.Resource{{
		Name: new("disk"), Type: mesos.Value_SCALAR.Enum(),
		Scalar:       &mesos.Value_Scalar{Value: proto.Float64(256)},
		Reservations: []*mesos.Resource_ReservationInfo{Reservation{Role: "test"}.Proto()},
		Disk: &mesos.Resource_DiskInfo{
			Persistence: &mesos.Resource_DiskInfo_Persistence{Id: new("persistentId")},
			Volume:      &mesos.Volume{ContainerPath: new("/volume"), Mode: mesos.Volume_RW.Enum()},
		},
		Shared: &mesos.Resource_SharedInfo{},
	}})
	for _, shape := range []struct {
		name       string
		resources  Resources
		operations int
	}{
		{"scalars", scalars, 50000},
		{"1000 unique reservations", unique, 10},
		{"shared volume", MustParse("cpus:1;mem:128").Add(volume), 50000},
	} {
		r, n := shape.resources, shape.operations
		b.Run(shape.name+"/add", func(b *testing.B) {
			var total Resources
			for i := 0; b.Loop(); i++ {
				if i%n == 0 {
					total = Resources{}
				}
				total = total.Add(r)
			}
			perRun(b, n)
		})
		b.Run(shape.name+"/subtract", func(b *testing.B) {
			var whole Resources
			for range n {
				whole = whole.Add(r)
			}
			var total Resources
			b.ResetTimer()
			for i := 0; b.Loop(); i++ {
				if i%n == 0 {
					if !total.Empty() {
						b.Fatalf("%s is left", total)
					}
					total = whole
				}
				total = total.Sub(r)
			}
			perRun(b, n)
		})
	}
}

// BenchmarkUnordered is beyond Mesos's: 1,000 reservations of which no two
// merge, taken away in the opposite order.
func BenchmarkUnordered(b *testing.B) {
	var forth, back Resources
	for i := range 1000 {
		e, err := MustParse("cpus:1;mem:1").PushReservation(Reservation{Role: fmt.Sprint(i)}.Proto())
		if err != nil {
			b.Fatal(err)
		}
		forth, back = forth.Add(e), e.Add(back)
	}
	for b.Loop() {
		if !forth.Contains(back) || !forth.Sub(back).Empty() {
			b.Fatal("the order matters")
		}
	}
	b.ReportAllocs()
}

// BenchmarkFilter is Resources_Filter.
func BenchmarkFilter(b *testing.B) {
	r := MustParse("cpus:1;gpus:1;mem:128;disk:256")
	revocable := MustFromProto([]*mesos.Resource{{
		Name: new("cpus"), Type: mesos.Value_SCALAR.Enum(), Scalar: &mesos.Value_Scalar{Value: proto.Float64(1)},
		Revocable: &mesos.Resource_RevocableInfo{},
	}})
	reserved := MustParse("cpus(role):1;gpus(role):1;mem(role):128;disk(role):256")
	for _, f := range []struct {
		name string
		want int
		f    func() Resources
	}{
		{"nonRevocable", 4, r.NonRevocable},
		{"revocable", 1, revocable.Revocable},
		{"unreserved", 4, r.Unreserved},
		{"reserved", 4, func() Resources { return reserved.Reserved("role") }},
		// Beyond Mesos's: what takes something away.
		{"reserved of both", 4, func() Resources { return both(r, reserved).Reserved("role") }},
	} {
		b.Run(f.name, func(b *testing.B) {
			for b.Loop() {
				if f.f().Len() != f.want {
					b.Fatal("not what it should be")
				}
			}
			perRun(b, 50000)
		})
	}
}

var sumOfBoth Resources

// both sums two up, once.
func both(r, s Resources) Resources {
	if sumOfBoth.Empty() {
		sumOfBoth = r.Add(s)
	}
	return sumOfBoth
}

// fragments returns bounds cut into so many ranges, as many as may be of one
// number each (fragment in Mesos's src/tests/resources_utils.cpp).
func fragments(begin, end uint64, n int) Resources {
	ranges := make([]*mesos.Value_Range, n)
	for i := range ranges {
		at := begin + uint64(i)*2
		ranges[i] = &mesos.Value_Range{Begin: new(at), End: new(at)}
	}
	ranges[n-1].End = &end
	return portsOf(ranges)
}

func portsOf(ranges []*mesos.Value_Range) Resources {
	return MustFromProto([]*mesos.Resource{{
		Name: new("ports"), Type: mesos.Value_RANGES.Enum(), Ranges: &mesos.Value_Ranges{Range: ranges},
	}})
}

// BenchmarkContains is Resources_Contains, in Mesos's order. Subset and superset
// share no memory, so that nothing is found equal by its address.
func BenchmarkContains(b *testing.B) {
	fewer, more := MustParse("cpus:1;mem:128"), MustParse("cpus:1;gpus:1;mem:128;disk:256")
	whole, cut := MustParse("ports:[1-16000]"), fragments(1, 16000, 8000)
	for _, c := range []struct {
		name             string
		subset, superset Resources
		operations       int
		want             bool
	}{
		{"scalars in more", fewer, more, 5000, true},
		{"scalars in fewer", more, fewer, 5000, false},
		{"scalars in the same", fewer, fewer, 5000, true},
		{"8000 ranges in one", cut, whole, 100, true},
		{"one range in 8000", whole, cut, 50, false},
		{"8000 ranges in the same", cut, cut, 1, true},
		{"mixed in more", fewer.Add(cut), more.Add(whole), 100, true},
		{"mixed in fewer", more.Add(whole), fewer.Add(cut), 50, false},
		{"mixed in the same", fewer.Add(cut), fewer.Add(cut), 1, true},
	} {
		superset := MustFromProto(c.superset.Proto())
		b.Run(c.name, func(b *testing.B) {
			for b.Loop() {
				if superset.Contains(c.subset) != c.want {
					b.Fatal("not what it should be")
				}
			}
			perRun(b, c.operations)
		})
	}
}

// BenchmarkRanges is Resources_Ranges.ArithmeticOverlapping: [1-6, 11-16, ...]
// and [3-8, 13-18, ...].
func BenchmarkRanges(b *testing.B) {
	for _, n := range []int{10, 100, 1000} {
		var x, y []*mesos.Value_Range
		for i := range uint64(n) {
			x = append(x, &mesos.Value_Range{Begin: new(1 + i*10), End: new(6 + i*10)})
			y = append(y, &mesos.Value_Range{Begin: new(3 + i*10), End: new(8 + i*10)})
		}
		r, s := portsOf(x), portsOf(y)
		b.Run(fmt.Sprint(n, "/add"), func(b *testing.B) {
			for b.Loop() {
				r.Add(s)
			}
			perRun(b, 1000)
		})
		b.Run(fmt.Sprint(n, "/subtract"), func(b *testing.B) {
			for b.Loop() {
				r.Sub(s)
			}
			perRun(b, 1000)
		})
	}
}

// BenchmarkParse is Resources_Parse with the first of its three numbers of
// iterations; the others are 10,000 and 50,000.
func BenchmarkParse(b *testing.B) {
	var text []string
	for i := range 100 {
		text = append(text, fmt.Sprintf("res%d:%d", i, i))
	}
	all := strings.Join(text, ";")
	for b.Loop() {
		if r, err := Parse(all, "*"); err != nil || r.Len() != 99 {
			b.Fatal(r, err)
		}
	}
	perRun(b, 1000)
}

func BenchmarkProto(b *testing.B) {
	r := MustParse("cpus:1;mem:128;disk:256;ports:[31000-32000]").Allocate("role")
	p := r.Proto()
	b.Run("from", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			MustFromProto(p)
		}
	})
	b.Run("to", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			r.Proto()
		}
	})
}
