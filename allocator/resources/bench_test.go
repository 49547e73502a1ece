package resources

import (
	"fmt"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	mesos "clusterd/api/mesos/v1"
)

// The shapes are those of Mesos's resources_tests.cpp.

func benchArithmetic(b *testing.B, total, one Resources) {
	b.Run("add and subtract", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if got := total.Add(one).Sub(one); got.Len() == 0 {
				b.Fatal("nothing left")
			}
		}
	})
	b.Run("contains", func(b *testing.B) {
		sum := total.Add(one)
		b.ReportAllocs()
		for b.Loop() {
			if !sum.Contains(one) {
				b.Fatal("not contained")
			}
		}
	})
}

func BenchmarkArithmetic(b *testing.B) {
	scalars := MustParse("cpus:1;gpus:1;mem:128;disk:256")
	b.Run("scalars", func(b *testing.B) { benchArithmetic(b, scalars, scalars) })

	var labelled Resources
	for i := range 1000 {
		r := Reservation{Dynamic: true, Role: "role", Labels: &mesos.Labels{
			Labels: []*mesos.Label{{Key: new("key"), Value: new(fmt.Sprint(i))}},
		}}
		e, err := MustParse("cpus:1").PushReservation(r.Proto())
		if err != nil {
			b.Fatal(err)
		}
		labelled = labelled.Add(e)
	}
	b.Run("1000 reservations", func(b *testing.B) { benchArithmetic(b, labelled, labelled) })

	shared := MustFromProto(benchVolume())
	b.Run("shared volume", func(b *testing.B) { benchArithmetic(b, scalars.Add(shared), shared) })
}

func benchVolume() []*mesos.Resource {
	return []*mesos.Resource{{
		Name: new("disk"), Type: mesos.Value_SCALAR.Enum(),
		Scalar:       &mesos.Value_Scalar{Value: proto.Float64(256)},
		Reservations: []*mesos.Resource_ReservationInfo{Reservation{Dynamic: true, Role: "role"}.Proto()},
		Disk:         &mesos.Resource_DiskInfo{Persistence: &mesos.Resource_DiskInfo_Persistence{Id: new("v")}},
		Shared:       &mesos.Resource_SharedInfo{},
	}}
}

func BenchmarkFilter(b *testing.B) {
	r := MustParse("cpus:1;gpus:1;mem:128;disk:256;cpus(role):1;mem(role):128")
	for _, f := range []struct {
		name string
		f    func() Resources
	}{
		{"nonRevocable", r.NonRevocable},
		{"revocable", r.Revocable},
		{"unreserved", r.Unreserved},
		{"reserved", func() Resources { return r.Reserved("role") }},
	} {
		b.Run(f.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				f.f()
			}
		})
	}
}

func BenchmarkContains(b *testing.B) {
	var text strings.Builder
	for p := 1; p <= 16000; p += 2 {
		fmt.Fprintf(&text, "%d-%d,", p, p)
	}
	fragments := MustParse("ports:[" + strings.TrimSuffix(text.String(), ",") + "]")
	whole := MustParse("ports:[1-16000]")
	for _, c := range []struct {
		name string
		a, b Resources
	}{
		{"scalars", MustParse("cpus:50;mem:4096"), MustParse("cpus:1;mem:128")},
		{"fragments in whole", whole, fragments},
		{"fragments in fragments", fragments, MustFromProto(fragments.Proto())},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if !c.a.Contains(c.b) {
					b.Fatal("not contained")
				}
			}
		})
	}
}

func BenchmarkRanges(b *testing.B) {
	for _, n := range []int{10, 100, 1000} {
		var x, y []string
		for i := range n {
			x = append(x, fmt.Sprintf("%d-%d", i*10, i*10+4))
			y = append(y, fmt.Sprintf("%d-%d", i*10+3, i*10+7))
		}
		r := MustParse("ports:[" + strings.Join(x, ",") + "]")
		s := MustParse("ports:[" + strings.Join(y, ",") + "]")
		b.Run(fmt.Sprint("overlapping ", n), func(b *testing.B) {
			for b.Loop() {
				r.Add(s)
				r.Sub(s)
			}
		})
	}
}

func BenchmarkParse(b *testing.B) {
	var text []string
	for i := range 100 {
		text = append(text, fmt.Sprintf("name%d:%d", i, i+1))
	}
	all := strings.Join(text, ";")
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Parse(all, "*"); err != nil {
			b.Fatal(err)
		}
	}
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
