package hostinfo

import (
	"errors"
	"math"
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"

	mesos "clusterd/api/mesos/v1"
)

func TestDetect(t *testing.T) {
	r, err := Detect(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if r.CPUs < 1 || r.MemMB < 1 || r.DiskMB < 1 || r.Ports != "[31000-32000]" {
		t.Errorf("detected %+v", r)
	}
	for _, name := range Names() {
		if text, ok := r.Text(name); !ok || text == "" || text == "0" {
			t.Errorf("%s is %q, %t", name, text, ok)
		}
	}
	if _, ok := r.Text("gpus"); ok {
		t.Error("gpus are detected")
	}
	// What cannot be measured has Mesos's default.
	r, err = Detect("/nonexistent/work_dir")
	if !errors.Is(err, os.ErrNotExist) || r.DiskMB != 10240 || r.CPUs < 1 {
		t.Errorf("without a work_dir: %+v, %v", r, err)
	}
}

func TestUsable(t *testing.T) {
	for total, want := range map[uint64]uint64{16 << 30: 15 << 10, 2 << 30: 1 << 10, 2<<30 - 1: 1023, 1 << 20: 0, 0: 0} {
		if got := usableMemMB(total); got != want {
			t.Errorf("usableMemMB(%d) = %d, want %d", total, got, want)
		}
	}
	for total, want := range map[uint64]uint64{100 << 30: 95 << 10, 10 << 30: 5 << 10, 10<<30 - 1: 5119, 0: 0} {
		if got := usableDiskMB(total); got != want {
			t.Errorf("usableDiskMB(%d) = %d, want %d", total, got, want)
		}
	}
}

func TestBootID(t *testing.T) {
	a, err := BootID()
	if err != nil || len(a) != 36 {
		t.Fatalf("boot id is %q, %v", a, err)
	}
	if b, err := BootID(); b != a || err != nil {
		t.Errorf("boot id changed from %q to %q, %v", a, b, err)
	}
}

func TestHostname(t *testing.T) {
	ip := netip.MustParseAddr("127.0.0.1")
	for _, tt := range []struct {
		opts HostnameOptions
		want string
	}{
		{HostnameOptions{IP: ip, Hostname: "h"}, "h"},
		{HostnameOptions{IP: ip}, "127.0.0.1"},
		{HostnameOptions{IP: netip.MustParseAddr("0.0.0.0"), Hostname: "h", Lookup: true}, "h"},
	} {
		if got, err := Hostname(t.Context(), tt.opts); got != tt.want || err != nil {
			t.Errorf("Hostname(%+v) = %q, %v; want %q", tt.opts, got, err, tt.want)
		}
	}
	for _, ip := range []string{"127.0.0.1", "0.0.0.0", "::"} {
		got, err := Hostname(t.Context(), HostnameOptions{IP: netip.MustParseAddr(ip), Lookup: true})
		if err != nil || got == "" || strings.HasSuffix(got, ".") || got == "0.0.0.0" || got == "::" {
			t.Errorf("the name of %s is %q, %v", ip, got, err)
		}
	}
}

func TestPickIP(t *testing.T) {
	for in, want := range map[string]string{
		"":                                    "127.0.0.1",
		"127.0.1.1":                           "127.0.0.1",
		"::1 127.0.0.1 fe80::1":               "127.0.0.1",
		"127.0.1.1 10.0.0.5 10.0.0.6":         "10.0.0.5",
		"2001:db8::1 169.254.0.1":             "2001:db8::1",
		"2001:db8::1 ::ffff:10.0.0.5":         "10.0.0.5",
		"0.0.0.0 224.0.0.1 :: 192.168.1.1 ::": "192.168.1.1",
	} {
		var candidates []netip.Addr
		for s := range strings.FieldsSeq(in) {
			candidates = append(candidates, netip.MustParseAddr(s))
		}
		if got := pickIP(candidates).String(); got != want {
			t.Errorf("pickIP(%s) = %s, want %s", in, got, want)
		}
	}
}

func text(name, v string) *mesos.Attribute {
	return &mesos.Attribute{Name: new(name), Type: mesos.Value_TEXT.Enum(), Text: &mesos.Value_Text{Value: new(v)}}
}

func scalar(name string, v float64) *mesos.Attribute {
	return &mesos.Attribute{Name: new(name), Type: mesos.Value_SCALAR.Enum(), Scalar: &mesos.Value_Scalar{Value: new(v)}}
}

func ranges(name string, bounds ...uint64) *mesos.Attribute {
	r := &mesos.Value_Ranges{}
	for i := 0; i < len(bounds); i += 2 {
		r.Range = append(r.Range, &mesos.Value_Range{Begin: new(bounds[i]), End: new(bounds[i+1])})
	}
	return &mesos.Attribute{Name: new(name), Type: mesos.Value_RANGES.Enum(), Ranges: r}
}

func TestParseAttributes(t *testing.T) {
	tests := []struct {
		in   string
		want []*mesos.Attribute
	}{
		{"", nil},
		{";;\n;", nil},
		{"rack:r1;level:10;ports:[1-5]", []*mesos.Attribute{text("rack", "r1"), scalar("level", 10), ranges("ports", 1, 5)}},
		{"rack:a;rack:b", []*mesos.Attribute{text("rack", "a"), text("rack", "b")}},
		{"url:http://h:80/", []*mesos.Attribute{text("url", "http://h:80/")}},
		{"a:1\nb:2", []*mesos.Attribute{scalar("a", 1), scalar("b", 2)}},
		{"a: x y ", []*mesos.Attribute{text("a", "xy")}},
		{"p:[ 7 - 9 , 1-3,4-5 ]", []*mesos.Attribute{ranges("p", 1, 5, 7, 9)}},
		{"p:[1-10,2-3]", []*mesos.Attribute{ranges("p", 1, 10)}},
		{"p:[0-18446744073709551615]", []*mesos.Attribute{ranges("p", 0, 1<<64-1)}},
		{"a:1.5e3;b:+2", []*mesos.Attribute{scalar("a", 1500), scalar("b", 2)}},
		{"a:-1;b:inf;c:NaN;d:1_000;e:0x1p4;f:1e999", []*mesos.Attribute{text("a", "-1"), text("b", "inf"), text("c", "NaN"), text("d", "1_000"), text("e", "0x1p4"), text("f", "1e999")}},
		{"a:0", []*mesos.Attribute{scalar("a", 0)}},
		{"a:(x)", []*mesos.Attribute{text("a", "(x)")}},
	}
	for _, tt := range tests {
		got, err := ParseAttributes(tt.in)
		if err != nil {
			t.Errorf("ParseAttributes(%q): %v", tt.in, err)
			continue
		}
		if d := cmp.Diff(tt.want, got, protocmp.Transform()); d != "" {
			t.Errorf("ParseAttributes(%q) (-want +got):\n%s", tt.in, d)
		}
	}
	for in, want := range map[string]string{
		"rack":       "no key:value pair",
		":r1":        "no key:value pair",
		"rack:":      "no key:value pair",
		"rack:\x20":  "the value is empty",
		"s:{a,b}":    "sets are not possible",
		"p:[1-5":     "brackets do not match",
		"p:]1-5[":    "brackets do not match",
		"p:[1-]":     "expecting non-negative integers",
		"p:[]":       "expecting non-negative integers",
		"p:[5]":      "expecting non-negative integers",
		"p:[-1-5]":   "expecting non-negative integers",
		"p:[5-1]":    "ends before it begins",
		"p:[1-2]x":   "ranges look like",
		"p:x[1-2]":   "not at the beginning",
		"a:1e-310":   "too small",
		"p:[1-2][3]": "ranges look like",
		"ok:1;bad":   "'bad'",
	} {
		if got, err := ParseAttributes(in); !errors.Is(err, ErrAttributes) || !strings.Contains(err.Error(), want) {
			t.Errorf("ParseAttributes(%q) = %v, %v; want an error with %q", in, got, err, want)
		}
	}
}

func FuzzParseAttributes(f *testing.F) {
	for _, s := range []string{"rack:r1;level:10;ports:[1-5]", "a:{b}", "p:[1-2,3-4]\nq:(", "a:1e5;b::"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		list, err := ParseAttributes(s)
		if err != nil {
			return
		}
		for _, a := range list {
			if a.GetName() == "" || strings.ContainsAny(a.GetName(), ":;\n") {
				t.Fatalf("%q has an attribute named %q", s, a.GetName())
			}
			switch a.GetType() {
			case mesos.Value_RANGES:
				var last *mesos.Value_Range
				for _, r := range a.GetRanges().GetRange() {
					if r.GetEnd() < r.GetBegin() || last != nil && (last.GetEnd() == 1<<64-1 || r.GetBegin() <= last.GetEnd()+1) {
						t.Fatalf("%q has ranges %v", s, a.GetRanges())
					}
					last = r
				}
				if last == nil {
					t.Fatalf("%q has empty ranges", s)
				}
			case mesos.Value_SCALAR:
				if v := a.GetScalar().GetValue(); !(v >= 0) || math.IsInf(v, 0) {
					t.Fatalf("%q has scalar %v", s, v)
				}
			case mesos.Value_TEXT:
				if a.GetText().GetValue() == "" {
					t.Fatalf("%q has empty text", s)
				}
			default:
				t.Fatalf("%q has type %v", s, a.GetType())
			}
		}
	})
}
