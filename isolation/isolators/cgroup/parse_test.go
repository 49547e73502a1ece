package cgroup

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"

	mesos "clusterd/api/mesos/v1"
)

func value(op mesos.CgroupInfo_Blkio_Operation, n uint64) *mesos.CgroupInfo_Blkio_Value {
	return &mesos.CgroupInfo_Blkio_Value{Op: &op, Value: &n}
}

func TestParseIO(t *testing.T) {
	got := parseIO([]byte("8:0 Read 4096\n8:0 Discard 1\n8:16 77\nTotal 4097\nnonsense\n8:0 Read x\n"))
	want := []ioValue{
		{"8:0", mesos.CgroupInfo_Blkio_READ, 4096},
		{"8:0", mesos.CgroupInfo_Blkio_DISCARD, 1},
		{"8:16", mesos.CgroupInfo_Blkio_UNKNOWN, 77},
		{"", mesos.CgroupInfo_Blkio_TOTAL, 4097},
	}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(ioValue{})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestIOStat(t *testing.T) {
	got := throttling2([]byte("8:16 rbytes=10 wbytes=20 rios=1 wios=2 dbytes=0 dios=0\n8:0 rbytes=5 wbytes=0 rios=1 wios=0\n8:32 \nx:y rbytes=1\n"))
	want := []*mesos.CgroupInfo_Blkio_Throttling_Statistics{
		{
			Device:         &mesos.Device_Number{MajorNumber: new(uint64(8)), MinorNumber: new(uint64(0))},
			IoServiced:     []*mesos.CgroupInfo_Blkio_Value{value(mesos.CgroupInfo_Blkio_READ, 1), value(mesos.CgroupInfo_Blkio_WRITE, 0), value(mesos.CgroupInfo_Blkio_TOTAL, 1)},
			IoServiceBytes: []*mesos.CgroupInfo_Blkio_Value{value(mesos.CgroupInfo_Blkio_READ, 5), value(mesos.CgroupInfo_Blkio_WRITE, 0), value(mesos.CgroupInfo_Blkio_TOTAL, 5)},
		},
		{
			Device:         &mesos.Device_Number{MajorNumber: new(uint64(8)), MinorNumber: new(uint64(16))},
			IoServiced:     []*mesos.CgroupInfo_Blkio_Value{value(mesos.CgroupInfo_Blkio_READ, 1), value(mesos.CgroupInfo_Blkio_WRITE, 2), value(mesos.CgroupInfo_Blkio_DISCARD, 0), value(mesos.CgroupInfo_Blkio_TOTAL, 3)},
			IoServiceBytes: []*mesos.CgroupInfo_Blkio_Value{value(mesos.CgroupInfo_Blkio_READ, 10), value(mesos.CgroupInfo_Blkio_WRITE, 20), value(mesos.CgroupInfo_Blkio_DISCARD, 0), value(mesos.CgroupInfo_Blkio_TOTAL, 30)},
		},
		{
			IoServiced:     []*mesos.CgroupInfo_Blkio_Value{value(mesos.CgroupInfo_Blkio_TOTAL, 4)},
			IoServiceBytes: []*mesos.CgroupInfo_Blkio_Value{value(mesos.CgroupInfo_Blkio_TOTAL, 35)},
		},
	}
	if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestParsePressure(t *testing.T) {
	some, full := parsePressure([]byte("some avg10=0.00 avg60=0.00 avg300=0.00 total=123\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=45\n\nsome x\n"))
	if some != 123 || full != 45 {
		t.Errorf("got %d, %d", some, full)
	}
}

func TestFormatBytes(t *testing.T) {
	for n, want := range map[uint64]string{0: "0B", 1023: "1023B", 1024: "1KB", 32 << 20: "32MB", 32<<20 + 4096: "32772KB", 5 << 40: "5TB", 1 << 50: "1024TB"} {
		if got := formatBytes(n); got != want {
			t.Errorf("%d: got %s, want %s", n, got, want)
		}
	}
}

func TestConsumers(t *testing.T) {
	got := consumers([]byte("anon 100\nfile 300\npgfault 99999\nkernel 0\nslab 200\n"))
	if want := "file 300\nslab 200\nanon 100\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestRules(t *testing.T) {
	for _, r := range defaultDevices {
		if got, err := parseRule(r.String()); err != nil || got != r {
			t.Errorf("%s: got %v, %v", r, got, err)
		}
	}
	for _, text := range []string{"", "c 1:3", "x 1:3 rwm", "c 1 rwm", "c a:b rwm", "c -1:3 rwm"} {
		if r, err := parseRule(text); err == nil {
			t.Errorf("%q: got %v", text, r)
		}
	}
}

func TestParseHandles(t *testing.T) {
	for _, c := range []struct {
		primary, secondary string
		first              uint32
		bad                bool
	}{
		{"", "", 0, false},
		{"", "0x1,0x2", 0, false},
		{"0xAAAA", "", 0xaaaa0001, false},
		{"0x12", "0xffff,0xffff", 0x12ffff, false},
		{"10", "0x0100,0x0200", 0xa0100, false},
		{"0x1ffff", "", 0, true},
		{"nonsense", "", 0, true},
		{"0x1", "0x0,0x5", 0, true},
		{"0x1", "0x5", 0, true},
		{"0x1", "0x5,0x4", 0, true},
		{"0x1", "0x1,0x2,0x3", 0, true},
	} {
		h, err := parseHandles(c.primary, c.secondary)
		if c.bad {
			if !errors.Is(err, ErrBadHandle) {
				t.Errorf("%q %q: got %v", c.primary, c.secondary, err)
			}
			continue
		}
		if err != nil || (h == nil) != (c.first == 0) {
			t.Errorf("%q %q: got %v, %v", c.primary, c.secondary, h, err)
			continue
		}
		if h == nil {
			continue
		}
		first, err := h.take()
		if err != nil || first != c.first {
			t.Errorf("%q %q: got 0x%x, %v", c.primary, c.secondary, first, err)
		}
		h.give(first)
		h.note(first)
		if second, err := h.take(); err == nil && second == first {
			t.Errorf("%q %q: 0x%x was given out twice", c.primary, c.secondary, first)
		}
	}
}

func TestParsePerfEvents(t *testing.T) {
	// Every event that there is a field for has a name, and the other way round.
	fields := (*mesos.PerfStatistics)(nil).ProtoReflect().Descriptor().Fields()
	named := map[string]bool{"timestamp": true, "duration": true}
	for name := range perfNames {
		if events, err := parsePerfEvents(name); err == nil {
			named[string(events[0].field.Name())] = true
		}
	}
	for n := range fields.Len() {
		if name := string(fields.Get(n).Name()); !named[name] {
			t.Errorf("no event fills %s", name)
		}
	}
	events, err := parsePerfEvents(" cpu-cycles, cycles,LLC-load-misses,,faults")
	if err != nil || len(events) != 3 || events[1].kind != 3 || events[1].config != 2|1<<16 {
		t.Errorf("got %v, %v", events, err)
	}
	if _, err := parsePerfEvents("cycles,nonesuch"); !errors.Is(err, ErrUnknownPerfEvent) {
		t.Errorf("got %v", err)
	}
}

func TestParseList(t *testing.T) {
	for text, want := range map[string][]int{"0": {0}, "0-2,5": {0, 1, 2, 5}, "3-1": nil, "": nil, "a": nil} {
		got, ok := parseList(text)
		if ok != (want != nil) || ok && cmp.Diff(want, got) != "" {
			t.Errorf("%q: got %v, %v", text, got, ok)
		}
	}
}
