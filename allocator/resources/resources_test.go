package resources

import (
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	mesos "clusterd/api/mesos/v1"
	"clusterd/api/mesosjson"
)

// read makes resources of the JSON of a list of Resource.
func read(t testing.TB, text string) []*mesos.Resource {
	t.Helper()
	rs, err := mesosjson.UnmarshalList[mesos.Resource]([]byte(text))
	if err != nil {
		t.Fatalf("read %s: %v", text, err)
	}
	return rs
}

func from(t testing.TB, text string) Resources {
	t.Helper()
	r, err := FromProto(read(t, text))
	if err != nil {
		t.Fatalf("FromProto(%s): %v", text, err)
	}
	return r
}

// Resources in JSON, to be put into a list.
const (
	mountA   = `{"name":"disk","type":"SCALAR","scalar":{"value":100},"disk":{"source":{"type":"MOUNT","mount":{"root":"/a"}}}}`
	mountB   = `{"name":"disk","type":"SCALAR","scalar":{"value":100},"disk":{"source":{"type":"MOUNT","mount":{"root":"/b"}}}}`
	pathA    = `{"name":"disk","type":"SCALAR","scalar":{"value":100},"disk":{"source":{"type":"PATH","path":{"root":"/a"}}}}`
	rawPool  = `{"name":"disk","type":"SCALAR","scalar":{"value":100},"disk":{"source":{"type":"RAW","profile":"fast"}}}`
	rawDisk  = `{"name":"disk","type":"SCALAR","scalar":{"value":100},"disk":{"source":{"type":"RAW","id":"d1"}}}`
	block    = `{"name":"disk","type":"SCALAR","scalar":{"value":100},"disk":{"source":{"type":"BLOCK","id":"d1"}}}`
	reserved = `{"name":"disk","type":"SCALAR","scalar":{"value":100},"reservations":[{"type":"DYNAMIC","role":"eng","principal":"p"}]}`
	volume   = `{"name":"disk","type":"SCALAR","scalar":{"value":100},"reservations":[{"type":"DYNAMIC","role":"eng","principal":"p"}],` +
		`"disk":{"persistence":{"id":"v1","principal":"p"},"volume":{"container_path":"data","mode":"RW"}}}`
	sharedVolume = `{"name":"disk","type":"SCALAR","scalar":{"value":100},"reservations":[{"type":"DYNAMIC","role":"eng","principal":"p"}],` +
		`"disk":{"persistence":{"id":"v1","principal":"p"},"volume":{"container_path":"data","mode":"RW"}},"shared":{}}`
	revocable = `{"name":"cpus","type":"SCALAR","scalar":{"value":2},"revocable":{}}`
)

func TestParse(t *testing.T) {
	tests := []struct{ name, text, want string }{
		{"empty", "", "{}"},
		{"zero", "cpus:0", "{}"},
		{"scalars", "cpus:1.5;mem:1024", "cpus:1.5; mem:1024"},
		{"spaces", " cpus : 1 ;mem: 2 ;", "cpus:1; mem:2"},
		{"sum", "cpus:1;cpus:2.0005", "cpus:3.001"},
		{"newline at the end", "cpus:1\n", "cpus:1"},
		{"ranges", "ports:[31000-31005, 31006-31010,32000-32000]", "ports:[31000-31010, 32000-32000]"},
		{"ranges overlap", "ports:[10-20,15-30]", "ports:[10-30]"},
		{"ranges summed", "ports:[1-2];ports:[3-4]", "ports:[1-4]"},
		{"no ranges", "ports:[]", "{}"},
		{"set", "bugs:{b,a}", "bugs:{a, b}"},
		{"role", "cpus(eng):1;cpus:1", "cpus(reservations: [(STATIC,eng)]):1; cpus:1"},
		{"role *", "cpus(*):1", "cpus:1"},
		{"exponent", "cpus:1e3", "cpus:1000"},
		{"rounding", "cpus:0.0005", "cpus:0.001"},
		{"json", `[{"name":"cpus","type":"SCALAR","scalar":{"value":4},"role":"x"}]`, "cpus(reservations: [(STATIC,x)]):4"},
		{"json mount", "[" + mountA + "," + mountA + "]", "disk[MOUNT:/a]:100; disk[MOUNT:/a]:100"},
		{"json sums", "[" + pathA + "," + pathA + "]", "disk[PATH:/a]:200"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := Parse(tt.text, "*")
			if err != nil {
				t.Fatalf("Parse(%q): %v", tt.text, err)
			}
			if got.String() != tt.want {
				t.Errorf("Parse(%q): got %s, want %s", tt.text, got, tt.want)
			}
		})
	}
}

func TestParseDefaultRole(t *testing.T) {
	got, err := Parse(`cpus:1;mem(ops):2`, "eng")
	if err != nil {
		t.Fatal(err)
	}
	if want := "cpus(reservations: [(STATIC,eng)]):1; mem(reservations: [(STATIC,ops)]):2"; got.String() != want {
		t.Errorf("got %s, want %s", got, want)
	}
	got, err = Parse(`[`+mountA+`,{"name":"cpus","type":"SCALAR","scalar":{"value":4},"role":"*"}]`, "eng")
	if err != nil {
		t.Fatal(err)
	}
	if want := "disk(reservations: [(STATIC,eng)])[MOUNT:/a]:100; cpus:4"; got.String() != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestParseErrors(t *testing.T) {
	tests := []struct{ text, want string }{
		{"cpus", "Bad value for resources, missing or extra ':' in cpus"},
		{"cpus:1:2", "Bad value for resources, missing or extra ':' in cpus:1:2"},
		{"cpus(a:1", "Bad value for resources, mismatched parentheses in cpus(a:1"},
		{"cpus)a(:1", "Bad value for resources, mismatched parentheses in cpus)a(:1"},
		{"cpus:x", "Bad type for resource cpus value x type TEXT"},
		{"cpus:-1", "Bad type for resource cpus value -1 type TEXT"},
		{"cpus:nan", "Bad type for resource cpus value nan type TEXT"},
		{"cpus:inf", "Bad type for resource cpus value inf type TEXT"},
		{"cpus:1e-310", "Failed to parse resource cpus value 1e-310 error Subnormal values not supported"},
		{"cpus:0.0004", "Invalid scalar resource: value <= 0"},
		{"cpus:1e30", "Invalid scalar resource: value is not a number below 1e+12"},
		{"cpus: ", "Failed to parse resource cpus value   error Expecting non-empty string"},
		{"ports:[1-2", "Failed to parse resource ports value [1-2 error Mismatched brackets"},
		{"ports:[1-2,3]", `Failed to parse resource ports value [1-2,3] error Expecting one or more "ranges"`},
		{"ports:[a-b]", "Failed to parse resource ports value [a-b] error Expecting non-negative integers in 'a'"},
		{"ports:[2-1]", "Failed to parse resource ports value [2-1] error Invalid ranges resource: begin > end"},
		{"ports:x[1-2]", "Failed to parse resource ports value x[1-2] error Unexpected '[' found"},
		{"bugs:x{1}", "Failed to parse resource bugs value x{1} error Unexpected '{' found"},
		{"bugs:{a,a}", "Invalid set resource: duplicated elements"},
		{"cpus():1", "Role names cannot be the empty string"},
		{"cpus(a/../b):1", "Role 'a/../b' cannot include '..' as a component"},
		{":1;cpus:1", "Bad value for resources, missing or extra ':' in :1"},
		{"a:1;a:{x}", "Resources with the same name ('a') but different types are not allowed"},
		{"[" + volume + "]", "Persistent volumes cannot be specified at the command line"},
		{"[" + revocable + "]", "Revocable resources cannot be specified at the command line; do not include a 'revocable' key in the resources JSON"},
		{"[" + reserved + "]", "Dynamic reservations cannot be specified at the command line; do not include a reservation with DYNAMIC type in the resources JSON"},
	}
	for _, tt := range tests {
		got, err := Parse(tt.text, "*")
		if err == nil {
			t.Errorf("Parse(%q): got %s, want an error", tt.text, got)
			continue
		}
		if err.Error() != tt.want {
			t.Errorf("Parse(%q): got error %q, want %q", tt.text, err, tt.want)
		}
		if !errors.Is(err, ErrInvalid) {
			t.Errorf("Parse(%q): the error is not ErrInvalid", tt.text)
		}
	}
	if _, err := Parse(`[{"name":"cpus"}]`, "*"); err == nil || !strings.HasPrefix(err.Error(), "Some JSON resources were not formatted properly: ") {
		t.Errorf("JSON without a type: got error %v", err)
	}
}

func TestMentioned(t *testing.T) {
	got, err := Mentioned("mem:0;cpus(a):1;cpus:2;ports:[]")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"cpus", "mem", "ports"}, got); diff != "" {
		t.Error(diff)
	}
}

func TestValidate(t *testing.T) {
	const name = `"name":"cpus","type":"SCALAR","scalar":{"value":1}`
	tests := []struct{ name, json, want string }{
		{"fine", `{` + name + `}`, ""},
		{"no name", `{"name":"","type":"SCALAR","scalar":{"value":1}}`, "Empty resource name"},
		{"no value", `{"name":"a","type":"SCALAR"}`, "Invalid scalar resource"},
		{"two values", `{"name":"a","type":"SCALAR","scalar":{"value":1},"set":{"item":["a"]}}`, "Invalid scalar resource"},
		{"wrong value", `{"name":"a","type":"RANGES","scalar":{"value":1}}`, "Invalid ranges resource"},
		{"wrong set", `{"name":"a","type":"SET","scalar":{"value":1}}`, "Invalid set resource"},
		{"text", `{"name":"a","type":"TEXT"}`, "Unsupported resource type"},
		{"negative", `{"name":"a","type":"SCALAR","scalar":{"value":-1}}`, "Invalid scalar resource: value <= 0"},
		{"tiny", `{"name":"a","type":"SCALAR","scalar":{"value":0.0004}}`, "Invalid scalar resource: value <= 0"},
		{"infinite", `{"name":"a","type":"SCALAR","scalar":{"value":"Infinity"}}`, "Invalid scalar resource: value is not a number below 1e+12"},
		{"overlap", `{"name":"a","type":"RANGES","ranges":{"range":[{"begin":5,"end":9},{"begin":3,"end":5}]}}`, "Invalid ranges resource: overlapping ranges"},
		{"inverted", `{"name":"a","type":"RANGES","ranges":{"range":[{"begin":5,"end":3}]}}`, "Invalid ranges resource: begin > end"},
		{"disk info", `{` + name + `,"disk":{}}`, "DiskInfo should not be set for cpus resource"},
		{"raw with path", `{"name":"disk","type":"SCALAR","scalar":{"value":1},"disk":{"source":{"type":"RAW","path":{}}}}`, "Path should not be set for RAW disk source"},
		{"block with mount", `{"name":"disk","type":"SCALAR","scalar":{"value":1},"disk":{"source":{"type":"BLOCK","mount":{}}}}`, "Mount should not be set for BLOCK disk source"},
		{"unknown source", `{"name":"disk","type":"SCALAR","scalar":{"value":1},"disk":{"source":{"type":"UNKNOWN"}}}`, "Unsupported 'DiskInfo.Source.Type' in 'UNKNOWN'"},
		{"pre static", `{` + name + `,"role":"a"}`, ""},
		{"pre dynamic", `{` + name + `,"role":"a","reservation":{"principal":"p"}}`, ""},
		{"pre dynamic of *", `{` + name + `,"reservation":{}}`, `Invalid reservation: role "*" cannot be dynamically reserved`},
		{"pre with type", `{` + name + `,"role":"a","reservation":{"type":"DYNAMIC"}}`, "'Resource.ReservationInfo.type' must not be set for the 'Resource.reservation' field"},
		{"pre with role", `{` + name + `,"role":"a","reservation":{"role":"a"}}`, "'Resource.ReservationInfo.role' must not be set for the 'Resource.reservation' field"},
		{"bad role", `{` + name + `,"role":"-a"}`, "Role component '-a' is invalid because it starts with a dash"},
		{"post no type", `{` + name + `,"reservations":[{"role":"a"}]}`, "Invalid reservation: 'Resource.ReservationInfo.type' field must be set."},
		{"post no role", `{` + name + `,"reservations":[{"type":"STATIC"}]}`, "Invalid reservation: 'Resource.ReservationInfo.role' field must be set."},
		{"post *", `{` + name + `,"reservations":[{"type":"STATIC","role":"*"}]}`, `Invalid reservation: role "*" cannot be reserved`},
		{"refined", `{` + name + `,"reservations":[{"type":"STATIC","role":"a"},{"type":"DYNAMIC","role":"a/b"}]}`, ""},
		{"refined static", `{` + name + `,"reservations":[{"type":"STATIC","role":"a"},{"type":"STATIC","role":"a/b"}]}`, "Invalid refined reservation: A refined reservation cannot be STATIC"},
		{"refined elsewhere", `{` + name + `,"reservations":[{"type":"STATIC","role":"a"},{"type":"DYNAMIC","role":"ab"}]}`, "Invalid refined reservation: role 'ab' is not a refinement of 'a'"},
		{"both agree", `{` + name + `,"role":"a","reservation":{"principal":"p"},"reservations":[{"type":"DYNAMIC","role":"a","principal":"p"}]}`, ""},
		{"both differ", `{` + name + `,"role":"b","reservations":[{"type":"STATIC","role":"a"}]}`, "Invalid resource format: 'Resource.role' field with 'b' does not match the role 'a' in 'Resource.reservations'"},
		{"both, half set", `{` + name + `,"role":"a","reservations":[{"type":"DYNAMIC","role":"a"}]}`, "Invalid resource format: 'Resource.role' and 'Resource.reservation' must either be both set or both not set if the single reservation in 'Resource.reservations' is DYNAMIC"},
		{"both, two reservations", `{` + name + `,"role":"a","reservations":[{"type":"STATIC","role":"a"},{"type":"DYNAMIC","role":"a/b"}]}`, "Invalid resource format: 'Resource.role' must not be set if there is more than one reservation in 'Resource.reservations'"},
		{"shared cpus", `{` + name + `,"shared":{}}`, "Resource cpus cannot be shared"},
		{"shared disk", `{"name":"disk","type":"SCALAR","scalar":{"value":1},"shared":{}}`, "Only persistent volumes can be shared"},
		{"shared volume", sharedVolume, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var got string
			if err := Validate(read(t, "["+tt.json+"]")[0]); err != nil {
				got = err.Error()
			}
			if got != tt.want {
				t.Errorf("got error %q, want %q", got, tt.want)
			}
		})
	}
	if err := Validate(nil); err == nil {
		t.Error("Validate(nil): want an error")
	}
	err := ValidateAll(read(t, `[{"name":"cpus","type":"SCALAR","scalar":{"value":1}},{"name":"mem","type":"SCALAR","scalar":{"value":-2}}]`))
	if want := "Resource 'mem:-2' is invalid: Invalid scalar resource: value <= 0"; err == nil || err.Error() != want {
		t.Errorf("ValidateAll: got %v, want %s", err, want)
	}
}

func TestValidateRole(t *testing.T) {
	for _, role := range []string{"*", "a", "a/b", "a.b", "a/...", "ä", "a-b"} {
		if err := ValidateRole(role); err != nil {
			t.Errorf("ValidateRole(%q): %v", role, err)
		}
	}
	for _, role := range []string{"", "/", "/a", "a/", "a//b", ".", "..", "a/.", "a/*", "-a", "a/-b", "a b", "a\tb", "a\x7f", "a\n"} {
		if err := ValidateRole(role); err == nil {
			t.Errorf("ValidateRole(%q): want an error", role)
		}
	}
}

func TestMergeRules(t *testing.T) {
	tests := []struct {
		name, a, b string
		want       string // their sum
	}{
		{"mounts", mountA, mountA, "disk[MOUNT:/a]:100; disk[MOUNT:/a]:100"},
		{"paths", pathA, pathA, "disk[PATH:/a]:200"},
		{"raw pool", rawPool, rawPool, "disk[RAW(,,fast)]:200"},
		{"raw disk", rawDisk, rawDisk, "disk[RAW(,d1,)]:100; disk[RAW(,d1,)]:100"},
		{"block", block, block, "disk[BLOCK(,d1,)]:100; disk[BLOCK(,d1,)]:100"},
		{"different reservations", reserved, `{"name":"disk","type":"SCALAR","scalar":{"value":1}}`, "disk(reservations: [(DYNAMIC,eng,p)]):100; disk:1"},
		{"same reservations", reserved, reserved, "disk(reservations: [(DYNAMIC,eng,p)]):200"},
		{"volumes", volume, volume, "disk(reservations: [(DYNAMIC,eng,p)])[v1:data]:100; disk(reservations: [(DYNAMIC,eng,p)])[v1:data]:100"},
		{"shared volumes", sharedVolume, sharedVolume, "disk(reservations: [(DYNAMIC,eng,p)])[v1:data]<SHARED>:100<2>"},
		{"revocable", revocable, `{"name":"cpus","type":"SCALAR","scalar":{"value":1}}`, "cpus{REV}:2; cpus:1"},
		{
			"allocation", `{"name":"cpus","type":"SCALAR","scalar":{"value":1},"allocation_info":{"role":"a"}}`,
			`{"name":"cpus","type":"SCALAR","scalar":{"value":1},"allocation_info":{"role":"b"}}`, "cpus(allocated: a):1; cpus(allocated: b):1",
		},
		{
			"labels", strings.Replace(reserved, `"principal":"p"`, `"labels":{"labels":[{"key":"a"},{"key":"b","value":"1"}]}`, 1),
			strings.Replace(reserved, `"principal":"p"`, `"labels":{"labels":[{"key":"b","value":"1"},{"key":"a"}]}`, 1),
			"disk(reservations: [(DYNAMIC,eng,{a, b: 1})]):200",
		},
		{
			"other labels", strings.Replace(reserved, `"principal":"p"`, `"labels":{"labels":[{"key":"a"}]}`, 1),
			strings.Replace(reserved, `"principal":"p"`, `"labels":{"labels":[{"key":"a","value":""}]}`, 1),
			"disk(reservations: [(DYNAMIC,eng,{a})]):100; disk(reservations: [(DYNAMIC,eng,{a: })]):100",
		},
		{"provider", strings.Replace(pathA, "{", `{"provider_id":{"value":"x"},`, 1), pathA, "disk[PATH:/a]:100; disk[PATH:/a]:100"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a, b := from(t, "["+tt.a+"]"), from(t, "["+tt.b+"]")
			sum := a.Add(b)
			if sum.String() != tt.want {
				t.Errorf("sum: got %s, want %s", sum, tt.want)
			}
			if got := sum.Sub(b); !got.Equal(a) {
				t.Errorf("sum less the second: got %s, want %s", got, a)
			}
			if !sum.Contains(a) || !sum.Contains(b) {
				t.Errorf("%s does not contain its parts", sum)
			}
			if a.Contains(sum) {
				t.Errorf("%s contains %s", a, sum)
			}
		})
	}
}

func TestExclusiveDisks(t *testing.T) {
	whole, half := from(t, "["+mountA+"]"), from(t, "["+strings.Replace(mountA, "100", "50", 1)+"]")
	if whole.Contains(half) {
		t.Error("a MOUNT disk contains half of itself")
	}
	if got := whole.Sub(half); !got.Equal(whole) {
		t.Errorf("a MOUNT disk less half of it: got %s", got)
	}
	if from(t, "["+mountA+"]").Contains(from(t, "["+mountB+"]")) {
		t.Error("a MOUNT disk contains another")
	}
	path := from(t, "["+pathA+"]")
	if !path.Contains(from(t, "["+strings.Replace(pathA, "100", "50", 1)+"]")) {
		t.Error("a PATH disk does not contain half of itself")
	}
	// How a volume is used is not what it is.
	if !from(t, "["+volume+"]").Equal(from(t, "["+strings.Replace(volume, `"data"`, `"other"`, 1)+"]")) {
		t.Error("the path of a volume in a container makes a difference")
	}
	if from(t, "["+volume+"]").Equal(from(t, "["+strings.Replace(volume, `"v1"`, `"v2"`, 1)+"]")) {
		t.Error("the id of a volume makes no difference")
	}
}

func TestFixedPoint(t *testing.T) {
	var sum Resources
	for range 10 {
		sum = sum.Add(MustParse("cpus:0.1"))
	}
	if got := sum.CPUs(); got != 1 {
		t.Errorf("ten times 0.1: got %v, want 1", got)
	}
	tests := []struct {
		v    float64
		want int64
	}{
		{0.0005, 1},
		{0.0004999, 0},
		{-0.0005, -1},
		{1.0004, 1000},
		{2.5, 2500},
		{math.NaN(), 0},
		{math.Inf(1), math.MaxInt64},
		{math.Inf(-1), math.MinInt64},
	}
	for _, tt := range tests {
		if got := ToMilli(tt.v); got != tt.want {
			t.Errorf("ToMilli(%v): got %d, want %d", tt.v, got, tt.want)
		}
	}
	for _, m := range []int64{1, 999, 1000, 3300, 123456789, -1500} {
		if got := ToMilli(FromMilli(m)); got != m {
			t.Errorf("there and back: got %d, want %d", got, m)
		}
	}
	if got := FromMilli(3300); got != 3.3 {
		t.Errorf("got %v, want 3.3", got)
	}
}

// TestManyOperations adds and subtracts as often as Mesos's
// ResourcesTest.PrecisionManyOps and PrecisionManyConsecutiveOps.
func TestManyOperations(t *testing.T) {
	start := MustParse("cpus:1.001")
	current := start
	for i := range 2500 {
		current = current.Add(current).Add(current).Sub(current).Sub(current)
		if !current.Equal(start) || current.CPUs() != 1.001 {
			t.Fatalf("after %d times: got %s, want %s", i+1, current, start)
		}
	}
	for range 100000 {
		current = current.Add(start)
	}
	if got, want := current.CPUs(), 100101.001; got != want {
		t.Errorf("100,000 times 1.001 added: got %v, want %v", got, want)
	}
	for range 100000 {
		current = current.Sub(start)
	}
	if !current.Equal(start) {
		t.Errorf("there and back: got %s, want %s", current, start)
	}
}

func TestRangesAtTheEnds(t *testing.T) {
	const most = math.MaxUint64
	all := []Range{{0, most}}
	if diff := cmp.Diff([]Range{{1, most - 1}}, subRanges(all, []Range{{0, 0}, {most, most}})); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(all, addRanges([]Range{{0, most - 1}}, []Range{{most, most}})); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(all, normalize([]Range{{5, most}, {0, 9}, {7, 7}})); diff != "" {
		t.Error(diff)
	}
	if got := subRanges(all, all); len(got) != 0 {
		t.Errorf("got %v, want none", got)
	}
	if got := rangesWidthMilli(all); got != math.MaxInt64 {
		t.Errorf("width of all numbers: got %d", got)
	}
}

func TestFilters(t *testing.T) {
	all := from(t, `[{"name":"cpus","type":"SCALAR","scalar":{"value":1}},
		{"name":"cpus","type":"SCALAR","scalar":{"value":2},"role":"eng"},
		{"name":"mem","type":"SCALAR","scalar":{"value":3},"reservations":[{"type":"STATIC","role":"eng"},{"type":"DYNAMIC","role":"eng/web"}]},
		{"name":"ports","type":"RANGES","ranges":{"range":[{"begin":1,"end":2}]}},`+volume+`,`+strings.ReplaceAll(sharedVolume, "v1", "v2")+`,`+revocable+`]`)
	tests := []struct {
		name string
		got  Resources
		want string
	}{
		{"Reserved", all.Reserved("eng/web"), "mem(reservations: [(STATIC,eng),(DYNAMIC,eng/web)]):3"},
		{"Unreserved", all.Unreserved(), "cpus:1; ports:[1-2]; cpus{REV}:2"},
		{"ReservedToSubtree", all.ReservedToSubtree("eng/web"), "mem(reservations: [(STATIC,eng),(DYNAMIC,eng/web)]):3"},
		{"AllocatableTo parent", all.AllocatableTo("eng").Get("mem"), "{}"},
		{"AllocatableTo child", all.AllocatableTo("eng/web").Get("cpus"), "cpus:1; cpus(reservations: [(STATIC,eng)]):2; cpus{REV}:2"},
		{"AllocatableTo other", all.AllocatableTo("engine"), "cpus:1; ports:[1-2]; cpus{REV}:2"},
		{"Revocable", all.Revocable(), "cpus{REV}:2"},
		{"PersistentVolumes and NonShared", all.PersistentVolumes().NonShared(), "disk(reservations: [(DYNAMIC,eng,p)])[v1:data]:100"},
		{"Shared", all.Shared(), "disk(reservations: [(DYNAMIC,eng,p)])[v2:data]<SHARED>:100<1>"},
		{"Refined", all.Refined(), "mem(reservations: [(STATIC,eng),(DYNAMIC,eng/web)]):3"},
		{"DynamicallyReserved", all.DynamicallyReserved().Get("mem"), "mem(reservations: [(STATIC,eng),(DYNAMIC,eng/web)]):3"},
	}
	for _, tt := range tests {
		if tt.got.String() != tt.want {
			t.Errorf("%s: got %s, want %s", tt.name, tt.got, tt.want)
		}
	}
	if got := all.CPUs(); got != 5 {
		t.Errorf("CPUs: got %v, want 5", got)
	}
	q, _ := ParseQuantities("cpus:5;ports:2;disk:200")
	if !all.ContainsQuantities(q) {
		t.Errorf("%s does not contain %s", all, q)
	}
	q, _ = ParseQuantities("ports:3")
	if all.ContainsQuantities(q) {
		t.Errorf("%s contains %s", all, q)
	}
}

func TestAllocations(t *testing.T) {
	r := MustParse("cpus:1;mem:2")
	both := r.Allocate("b").Add(r.Allocate("a"))
	got := both.Allocations()
	if len(got) != 2 || got[0].Role != "a" || got[1].Role != "b" || !got[0].Resources.Equal(r.Allocate("a")) {
		t.Errorf("got %v", got)
	}
	if got, want := both.Unallocate(), MustParse("cpus:2;mem:4"); !got.Equal(want) {
		t.Errorf("Unallocate: got %s, want %s", got, want)
	}
	if got := both.Allocate("c"); got.Len() != 2 {
		t.Errorf("Allocate does not merge: %s", got)
	}
	if !r.Equal(MustParse("cpus:1;mem:2")) {
		t.Error("Allocate changed its receiver")
	}
}

func TestReservations(t *testing.T) {
	r := MustParse("cpus:2")
	eng, err := r.PushReservation(Reservation{Role: "eng"}.Proto())
	if err != nil {
		t.Fatal(err)
	}
	web, err := eng.PushReservation(Reservation{Dynamic: true, Role: "eng/web"}.Proto())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := web.PushReservation(Reservation{Dynamic: true, Role: "ops"}.Proto()); err == nil {
		t.Error("pushed a reservation that refines nothing")
	}
	back, err := web.PopReservation()
	if err != nil || !back.Equal(eng) {
		t.Errorf("PopReservation: got %s, %v, want %s", back, err, eng)
	}
	if _, err := r.PopReservation(); err == nil {
		t.Error("popped from what is not reserved")
	}
	if got := web.ToUnreserved(); !got.Equal(r) {
		t.Errorf("ToUnreserved: got %s, want %s", got, r)
	}
	other, _ := eng.PushReservation(Reservation{Dynamic: true, Role: "eng/db"}.Proto())
	if got, err := ReservationAncestor(web, other); err != nil || !got.Equal(eng) {
		t.Errorf("ReservationAncestor: got %s, %v, want %s", got, err, eng)
	}
}

func TestFind(t *testing.T) {
	total := MustParse("cpus(r1):1;cpus:2;cpus(r2):3;ports:[1-9]")
	tests := []struct{ target, want string }{
		{"cpus:2", "cpus:2"},
		{"cpus(r1):1", "cpus(reservations: [(STATIC,r1)]):1"},
		{"cpus(r1):3", "cpus(reservations: [(STATIC,r1)]):1; cpus:2"},
		{"cpus(r1):4", "cpus(reservations: [(STATIC,r1)]):1; cpus:2; cpus(reservations: [(STATIC,r2)]):1"},
		{"cpus(r9):1", "cpus:1"},
		{"ports:[2-3]", "ports:[2-3]"},
		{"ports:[9-10]", ""},
		{"cpus:7", ""},
	}
	for _, tt := range tests {
		got, ok := total.Find(MustParse(tt.target))
		if ok != (tt.want != "") || ok && got.String() != tt.want {
			t.Errorf("Find(%s): got %s, %v, want %s", tt.target, got, ok, tt.want)
		}
	}
}

func TestProtoFormats(t *testing.T) {
	tests := []struct{ name, post, pre, endpoint string }{
		{"unreserved", `{}`, `{"role":"*"}`, `{"role":"*"}`},
		{"static", `{"reservations":[{"type":"STATIC","role":"a"}]}`, `{"role":"a"}`, `{"role":"a","reservations":[{"type":"STATIC","role":"a"}]}`},
		{
			"dynamic", `{"reservations":[{"type":"DYNAMIC","role":"a","principal":"p"}]}`, `{"role":"a","reservation":{"principal":"p"}}`,
			`{"role":"a","reservation":{"principal":"p"},"reservations":[{"type":"DYNAMIC","role":"a","principal":"p"}]}`,
		},
	}
	parse := func(s string) *mesos.Resource {
		s = strings.Replace(s, "{", `{"name":"cpus","type":"SCALAR","scalar":{"value":1},`, 1)
		return read(t, "["+strings.Replace(s, ",}", "}", 1)+"]")[0]
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			post := parse(tt.post)
			got := proto.CloneOf(post)
			if err := ToPreRefinement(got); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(parse(tt.pre), got, protocmp.Transform()); diff != "" {
				t.Errorf("older format: %s", diff)
			}
			if a, b := MustFromProto([]*mesos.Resource{got}), MustFromProto([]*mesos.Resource{post}); !a.Equal(b) {
				t.Errorf("got %s of the older format, want %s", a, b)
			}
			ToPostRefinement(got)
			if diff := cmp.Diff(post, got, protocmp.Transform()); diff != "" {
				t.Errorf("there and back: %s", diff)
			}
			got = proto.CloneOf(post)
			ToEndpoint(got)
			if diff := cmp.Diff(parse(tt.endpoint), got, protocmp.Transform()); diff != "" {
				t.Errorf("for operators: %s", diff)
			}
			if err := Validate(got); err != nil {
				t.Errorf("for operators: %v", err)
			}
			ToPostRefinement(got)
			if diff := cmp.Diff(post, got, protocmp.Transform()); diff != "" {
				t.Errorf("from operators: %s", diff)
			}
		})
	}
	refined := parse(`{"reservations":[{"type":"STATIC","role":"a"},{"type":"DYNAMIC","role":"a/b"}]}`)
	before := proto.CloneOf(refined)
	if err := ToPreRefinement(refined); err == nil {
		t.Error("downgraded a refined reservation")
	}
	if diff := cmp.Diff(before, refined, protocmp.Transform()); diff != "" {
		t.Errorf("a failed downgrade changed the resource: %s", diff)
	}
}

func TestMessageFormats(t *testing.T) {
	cpus := func(role string) *mesos.Resource {
		return &mesos.Resource{
			Name: new("cpus"), Type: mesos.Value_SCALAR.Enum(),
			Scalar: &mesos.Value_Scalar{Value: proto.Float64(1)}, Role: &role,
		}
	}
	op := &mesos.Offer_Operation{
		Type: mesos.Offer_Operation_LAUNCH.Enum(),
		Launch: &mesos.Offer_Operation_Launch{TaskInfos: []*mesos.TaskInfo{{
			Resources: []*mesos.Resource{cpus("a")},
			Executor:  &mesos.ExecutorInfo{Resources: []*mesos.Resource{cpus("*")}},
		}}},
	}
	before := proto.CloneOf(op)
	if err := ValidateAndUpgrade(op); err != nil {
		t.Fatal(err)
	}
	task := op.Launch.TaskInfos[0]
	if task.Resources[0].Role != nil || task.Resources[0].Reservations[0].GetRole() != "a" || task.Executor.Resources[0].Role != nil {
		t.Errorf("got %v", op)
	}
	if err := DowngradeMessage(op); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, op, protocmp.Transform()); diff != "" {
		t.Errorf("there and back: %s", diff)
	}
	EndpointMessage(op)
	for _, kind := range []mesos.Offer_Operation_Type{1, 2, 3, 4, 5, 6, 11, 12, 13, 14, 0} {
		if err := ValidateAndUpgrade(&mesos.Offer_Operation{Type: kind.Enum()}); err == nil {
			t.Errorf("an empty %s passes", kind)
		}
	}
	op.Launch.TaskInfos[0].Executor.Resources[0].Scalar.Value = proto.Float64(-1)
	if err := ValidateAndUpgrade(op); err == nil {
		t.Error("a negative resource of an executor passes")
	}
}

func TestProtoIsACopy(t *testing.T) {
	r := from(t, "["+volume+"]")
	want := r.String()
	p := r.Proto()
	p[0].Disk.Persistence.Id = new("other")
	p[0].Reservations[0].Role = new("other")
	if r.String() != want {
		t.Errorf("changing a message changed the resources: %s", r)
	}
}

func TestQuantities(t *testing.T) {
	q, err := ParseQuantities("mem:32; cpus:1;cpus:0.5;gpus:0")
	if err != nil {
		t.Fatal(err)
	}
	if want := "cpus:1.5; mem:32"; q.String() != want {
		t.Errorf("got %s, want %s", q, want)
	}
	for _, bad := range []string{"cpus", "cpus:a", "cpus:[1-2]", "cpus:-1", "cpus:0.0001", "cpus:1:2"} {
		if got, err := ParseQuantities(bad); err == nil {
			t.Errorf("ParseQuantities(%q): got %s, want an error", bad, got)
		}
	}
	limits, err := ParseLimits("cpus:0;mem:64")
	if err != nil || !limits.Has("cpus") || limits.Has("gpus") {
		t.Errorf("ParseLimits: got %s, %v", limits, err)
	}
	if _, err := ParseLimits("cpus:1;cpus:2"); err == nil {
		t.Error("ParseLimits accepts a name twice")
	}
	if limits.LimitsContain(q) || !limits.LimitsContain(NewQuantities(map[string]float64{"mem": 64, "gpus": 9})) {
		t.Error("LimitsContain")
	}
	if got := q.Sub(NewQuantities(map[string]float64{"cpus": 9, "mem": 2})); got.String() != "mem:30" {
		t.Errorf("Sub: got %s", got)
	}
	if got := limits.SubFromLimits(q); got.String() != "cpus:0; mem:32" {
		t.Errorf("SubFromLimits: got %s", got)
	}
	if got := q.Add(q).Sub(q); !got.Equal(q) {
		t.Errorf("Add and Sub: got %s, want %s", got, q)
	}
	if got := QuantitiesFromProto(q.Proto()); !got.Equal(q) {
		t.Errorf("there and back: got %s, want %s", got, q)
	}
}

func TestShrink(t *testing.T) {
	r := from(t, `[{"name":"cpus","type":"SCALAR","scalar":{"value":4}},{"name":"mem","type":"SCALAR","scalar":{"value":64}},`+mountA+`]`)
	q := NewQuantities(map[string]float64{"cpus": 3, "disk": 50})
	if got, want := r.Shrink(q).String(), "cpus:3"; got != want {
		t.Errorf("Shrink: got %s, want %s", got, want)
	}
}

func TestCut(t *testing.T) {
	tests := []struct {
		name, have, want string
		room, left       map[string]int64
	}{
		{"nothing to cut", "cpus:4;mem:64", "cpus:4; mem:64", map[string]int64{"cpus": 9000}, map[string]int64{"cpus": 5000}},
		{"to size", "cpus:4;mem:64", "cpus:3; mem:64", map[string]int64{"cpus": 3000}, map[string]int64{"cpus": 0}},
		{"no room", "cpus:4;mem:64", "mem:64", map[string]int64{"cpus": 0}, map[string]int64{"cpus": 0}},
		{"less than no room", "cpus:4;cpus(a):1", "{}", map[string]int64{"cpus": -5}, map[string]int64{"cpus": -5}},
		{"nothing is left", "cpus:4", "{}", map[string]int64{"cpus": 0}, map[string]int64{"cpus": 0}},
		{"in order", "cpus:4;mem:1;cpus(a):4", "cpus:4; mem:1; cpus(reservations: [(STATIC,a)]):2", map[string]int64{"cpus": 6000}, map[string]int64{"cpus": 0}},
		{"a disk that does not fit", "disk[MOUNT:/a]:9;disk:9", "disk:5", map[string]int64{"disk": 5000}, map[string]int64{"disk": 0}},
		{"a disk that fits", "disk:3;disk[MOUNT:/a]:9;disk(a):3", "disk:3; disk[MOUNT:/a]:9; disk(reservations: [(STATIC,a)]):1", map[string]int64{"disk": 13000}, map[string]int64{"disk": 0}},
		{"a shared volume", "disk(a)[v:p]<SHARED>:9<2>;ports:[1-2]", "ports:[1-2]", map[string]int64{"disk": 5000}, map[string]int64{"disk": 5000}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r, err := notation(tt.have)
			if err != nil {
				t.Fatal(err)
			}
			before, room := r.String(), map[string]*int64{}
			for name, v := range tt.room {
				room[name] = &v
			}
			got := r.Cut(func(it Item) *int64 { return room[it.Name()] })
			if got.String() != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
			for name, v := range tt.left {
				if *room[name] != v {
					t.Errorf("room left of %s: got %d, want %d", name, *room[name], v)
				}
			}
			if r.String() != before {
				t.Errorf("changed its receiver to %s", r)
			}
		})
	}
}
