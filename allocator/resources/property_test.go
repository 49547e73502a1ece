package resources

import (
	"fmt"
	"math/bits"
	"slices"
	"testing"

	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	mesos "clusterd/api/mesos/v1"
)

// model is what resources of plain scalars and ranges below 64 come to.
type model struct {
	scalars map[string]int64
	ports   uint64
}

func modelOf(r Resources) model {
	m := model{scalars: map[string]int64{}}
	for _, it := range r.items {
		if it.m.typ == mesos.Value_SCALAR {
			m.scalars[it.m.name] += it.milli
			continue
		}
		for _, e := range it.v.ranges {
			for p := e.Begin; p <= e.End; p++ {
				m.ports |= 1 << p
			}
		}
	}
	return m
}

func (m model) String() string { return fmt.Sprintf("%v %064b", m.scalars, m.ports) }

// plainResources draws resources that the model understands.
func plainResources(t *rapid.T, label string) Resources {
	var rs []*mesos.Resource
	for range rapid.IntRange(0, 6).Draw(t, label) {
		name := rapid.SampledFrom([]string{"cpus", "mem", "x", "ports", "ports"}).Draw(t, "name")
		r := &mesos.Resource{Name: &name, Type: mesos.Value_SCALAR.Enum()}
		if name == "ports" {
			r.Type = mesos.Value_RANGES.Enum()
			r.Ranges = &mesos.Value_Ranges{}
			next := uint64(0)
			for range rapid.IntRange(0, 4).Draw(t, "ranges") {
				begin := next + rapid.Uint64Range(0, 8).Draw(t, "begin")
				end := begin + rapid.Uint64Range(0, 6).Draw(t, "width")
				r.Ranges.Range = append(r.Ranges.Range, &mesos.Value_Range{Begin: &begin, End: &end})
				next = end + 1
			}
		} else {
			r.Scalar = &mesos.Value_Scalar{Value: new(float64(rapid.IntRange(1, 9000).Draw(t, "milli")) / 1000)}
		}
		rs = append(rs, r)
	}
	return MustFromProto(rs)
}

func TestAgainstModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := plainResources(t, "a"), plainResources(t, "b")
		ma, mb := modelOf(a), modelOf(b)
		sum, less := model{map[string]int64{}, ma.ports | mb.ports}, model{map[string]int64{}, ma.ports &^ mb.ports}
		contains := ma.ports&mb.ports == mb.ports
		for n, v := range ma.scalars {
			sum.scalars[n] += v
			if d := v - mb.scalars[n]; d > 0 {
				less.scalars[n] = d
			}
		}
		for n, v := range mb.scalars {
			sum.scalars[n] += v
			contains = contains && ma.scalars[n] >= v
		}
		if got := modelOf(a.Add(b)); got.String() != sum.String() {
			t.Errorf("%s + %s: got %s, want %s", a, b, got, sum)
		}
		if got := modelOf(a.Sub(b)); got.String() != less.String() {
			t.Errorf("%s - %s: got %s, want %s", a, b, got, less)
		}
		if got := a.Contains(b); got != contains {
			t.Errorf("%s contains %s: got %v", a, b, got)
		}
		want := int64(bits.OnesCount64(ma.ports)) * 1000
		for _, it := range a.items {
			if it.m.typ == mesos.Value_RANGES && it.quantity() != want {
				t.Errorf("%s: got the width %d, want %d", it, it.quantity(), want)
			}
		}
	})
}

// anyResources draws resources of every kind.
func anyResources(t *rapid.T, label string) Resources {
	r := plainResources(t, label)
	var rs []*mesos.Resource
	for range rapid.IntRange(0, 4).Draw(t, "others") {
		e := &mesos.Resource{
			Name: new("disk"), Type: mesos.Value_SCALAR.Enum(),
			Scalar: &mesos.Value_Scalar{Value: new(float64(rapid.IntRange(1, 3).Draw(t, "disk")))},
		}
		if role := rapid.SampledFrom([]string{"", "a", "a/b"}).Draw(t, "allocation"); role != "" {
			e.AllocationInfo = &mesos.Resource_AllocationInfo{Role: &role}
		}
		for _, role := range []string{"a", "a/b"}[:rapid.IntRange(0, 2).Draw(t, "stack")] {
			e.Reservations = append(e.Reservations, Reservation{Dynamic: len(e.Reservations) > 0, Role: role}.Proto())
		}
		source := func(typ mesos.Resource_DiskInfo_Source_Type) *mesos.Resource_DiskInfo {
			return &mesos.Resource_DiskInfo{Source: &mesos.Resource_DiskInfo_Source{Type: &typ}}
		}
		switch rapid.IntRange(0, 6).Draw(t, "kind") {
		case 0:
			e.Disk = source(mesos.Resource_DiskInfo_Source_MOUNT)
		case 1:
			e.Disk = source(mesos.Resource_DiskInfo_Source_PATH)
		case 2:
			e.Disk = source(mesos.Resource_DiskInfo_Source_RAW)
		case 3:
			e.Disk = &mesos.Resource_DiskInfo{Persistence: &mesos.Resource_DiskInfo_Persistence{Id: new(rapid.SampledFrom([]string{"v", "w"}).Draw(t, "id"))}}
			if rapid.Bool().Draw(t, "shared") {
				e.Shared = &mesos.Resource_SharedInfo{}
			}
		case 4:
			e.Revocable = &mesos.Resource_RevocableInfo{}
		case 5:
			e.Name, e.Type, e.Scalar = new("s"), mesos.Value_SET.Enum(), nil
			e.Set = &mesos.Value_Set{Item: rapid.SliceOfDistinct(rapid.SampledFrom([]string{"x", "y", "z"}), rapid.ID).Draw(t, "set")}
		}
		rs = append(rs, e)
	}
	return r.Add(MustFromProto(rs))
}

func TestProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b, c := anyResources(t, "a"), anyResources(t, "b"), anyResources(t, "c")
		sa, sb := a.String(), b.String()
		sum := a.Add(b)
		if !sum.Contains(a) || !sum.Contains(b) {
			t.Errorf("%s + %s = %s does not contain both", a, b, sum)
		}
		if !sum.Equal(b.Add(a)) {
			t.Errorf("%s + %s depends on the order", a, b)
		}
		if !sum.Add(c).Equal(a.Add(b.Add(c))) {
			t.Errorf("%s + %s + %s is not associative", a, b, c)
		}
		if a.Contains(b) && !a.Add(c).Contains(b) {
			t.Errorf("%s contains %s only until %s is added", a, b, c)
		}
		if left, ok := a.SubChecked(b); ok != a.Contains(b) || !ok && !left.Equal(a) {
			t.Errorf("SubChecked: %s - %s: got %s, %v", a, b, left, ok)
		}
		if !a.Sub(a).Empty() {
			t.Errorf("%s less itself: %s", a, a.Sub(a))
		}
		if got := a.Unreserved().Add(a.AnyReserved()); !got.Equal(a) {
			t.Errorf("the parts of %s make %s", a, got)
		}
		if got := a.FirstThose(Item.Reserved); !got.Equal(a) {
			t.Errorf("%s in another order: %s", a, got)
		}
		if a.String() != sa || b.String() != sb {
			t.Errorf("changed its operands: %s to %s, %s to %s", sa, a, sb, b)
		}
		got, err := FromProto(a.Proto())
		if err != nil {
			t.Fatalf("%s there and back: %v", a, err)
		}
		single := a.NonShared()
		if !got.NonShared().Equal(single) {
			t.Errorf("%s there and back: %s", a, got)
		}
	})
}

// TestAddSubInverse leaves sets and ranges out: there, what is added may have
// been there already.
func TestAddSubInverse(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := anyResources(t, "a").Scalars(), anyResources(t, "b").Scalars()
		if got := a.Add(b).Sub(b); !got.Equal(a) {
			t.Errorf("%s + %s - the latter: got %s", a, b, got)
		}
	})
}

// TestNotation reads what is printed, as scripts do.
func TestNotation(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a := anyResources(t, "a")
		got, err := notation(a.String())
		if err != nil || !got.Equal(a) {
			t.Errorf("got %s, %v, want %s", got, err, a)
		}
	})
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{
		"cpus:1;mem:2", "ports(a):[1-2,4-5]", "s:{a,b}", "[" + mountA + "]", "cpus(*):0.5; disk : 1e3", "a:[1-18446744073709551615]",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		r, err := Parse(text, "*")
		if err != nil {
			return
		}
		again, err := FromProto(r.Proto())
		if err != nil {
			t.Fatalf("Parse(%q) = %s, which is invalid: %v", text, r, err)
		}
		if !again.Equal(r) || !r.Contains(r) || !r.Sub(r).Empty() {
			t.Errorf("Parse(%q) = %s, there and back %s", text, r, again)
		}
		if _, err := Mentioned(text); err != nil {
			t.Errorf("Mentioned(%q): %v", text, err)
		}
	})
}

func FuzzFromProto(f *testing.F) {
	for _, s := range []string{"cpus:1;ports:[1-2];s:{x}", "[" + mountA + "," + pathA + "]"} {
		r := MustParse(s)
		for _, p := range r.Proto() {
			b, _ := proto.Marshal(p)
			f.Add(b)
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		p := &mesos.Resource{}
		if proto.Unmarshal(data, p) != nil {
			return
		}
		_ = Text(p)
		before := proto.CloneOf(p)
		r, err := FromProto([]*mesos.Resource{p, p})
		if !proto.Equal(before, p) {
			t.Fatal("FromProto changed its input")
		}
		if err != nil {
			return
		}
		again, err := FromProto(r.Proto())
		if err != nil || !again.NonShared().Equal(r.NonShared()) {
			t.Fatalf("%s there and back: %s, %v", r, again, err)
		}
		ToPostRefinement(p)
		if once := MustFromProto([]*mesos.Resource{p}); !r.Contains(once) {
			t.Fatalf("%s does not contain %s of the other format", r, once)
		}
	})
}

// TestManyItems compares what is done by index with what is done by looking
// through.
func TestManyItems(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var rs []*mesos.Resource
		for i := range rapid.IntRange(manyItems, 3*manyItems).Draw(t, "n") {
			name := fmt.Sprint("n", rapid.IntRange(0, 2*manyItems).Draw(t, "name"))
			r := &mesos.Resource{
				Name: &name, Type: mesos.Value_SCALAR.Enum(),
				Scalar: &mesos.Value_Scalar{Value: new(float64(1 + i%3))},
			}
			if i%4 == 0 {
				r.Name = new("disk")
				typ := mesos.Resource_DiskInfo_Source_MOUNT
				r.Disk = &mesos.Resource_DiskInfo{Source: &mesos.Resource_DiskInfo_Source{Type: &typ}}
			}
			rs = append(rs, r)
		}
		cut := rapid.IntRange(0, len(rs)).Draw(t, "cut")
		a, b := MustFromProto(rs[:cut]), MustFromProto(rs[cut:])
		all := MustFromProto(rs)
		// One at a time, nothing is ever looked up.
		var slow Resources
		for _, it := range append(slices.Clone(a.items), b.items...) {
			found := false
			items := slices.Clone(slow.items)
			for i := range items {
				if !it.m.exclusive && items[i].like(&it) {
					items[i].milli += it.milli
					found = true
				}
			}
			if !found {
				items = append(items, it)
			}
			slow = Resources{items: items}
		}
		if !all.Equal(slow) || !a.Add(b).Equal(slow) {
			t.Errorf("got %s, want %s", all, slow)
		}
		if !all.Contains(a) || !all.Contains(b) || !all.Sub(b).Equal(a) {
			t.Errorf("%s and its part %s: %s left, want %s", all, b, all.Sub(b), a)
		}
		if more := all.Add(b); b.Len() > 0 && all.Contains(more) {
			t.Errorf("%s contains %s", all, more)
		}
	})
}
