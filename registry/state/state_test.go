package state

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/encoding/protodelim"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	clusterdv1 "clusterd/api/clusterd/v1"
	mesos "clusterd/api/mesos/v1"
	"clusterd/api/mesos/v1/maintenance"
	"clusterd/api/mesos/v1/quota"
)

var update = flag.Bool("update", false, "write the golden files of a format that has none yet")

// describe prints a state as text.
func describe(s *State) string {
	var b strings.Builder
	fmt.Fprintf(&b, "cluster=%q master=%s server=%q epoch=%d\n", s.ClusterID(), s.Master().GetId(), s.MasterServerID(), s.Epoch())
	will := func(d *mesos.DrainInfo, deactivated bool) string {
		t := ""
		if d != nil {
			t = " " + d.GetState().String()
		}
		if deactivated {
			t += " deactivated"
		}
		return t
	}
	sec := func(t *mesos.TimeInfo) string { return time.Unix(0, t.GetNanoseconds()).UTC().Format("05s") }
	for a := range s.Agents() {
		fmt.Fprintf(&b, "agent %s host=%s%s\n", a.AgentInfo.GetId().GetValue(), a.AgentInfo.GetHostname(), will(a.DrainInfo, a.GetDeactivated()))
	}
	for a := range s.Unreachable() {
		fmt.Fprintf(&b, "unreachable %s at=%s%s\n", a.AgentId.GetValue(), sec(a.Time), will(a.DrainInfo, a.GetDeactivated()))
	}
	for a := range s.Gone() {
		fmt.Fprintf(&b, "gone %s at=%s\n", a.AgentId.GetValue(), sec(a.Time))
	}
	for f := range s.Frameworks() {
		deadline := ""
		if f.Deadline != nil {
			deadline = " deadline=" + sec(f.Deadline)
		}
		fmt.Fprintf(&b, "framework %s name=%s%s\n", f.FrameworkInfo.GetId().GetValue(), f.FrameworkInfo.GetName(), deadline)
	}
	for f := range s.RemovedFrameworks() {
		fmt.Fprintf(&b, "removed %s at=%s\n", f.FrameworkId.GetValue(), sec(f.Time))
	}
	for w := range s.Weights() {
		fmt.Fprintf(&b, "weight %s=%v\n", w.GetRole(), w.GetWeight())
	}
	for q := range s.Quotas() {
		fmt.Fprintf(&b, "quota %s guarantee=%v limit=%v\n", q.GetRole(), q.Guarantees["cpus"].GetValue(), q.Limits["cpus"].GetValue())
	}
	for _, w := range s.Schedule().GetWindows() {
		fmt.Fprintf(&b, "window start=%s", sec(w.Unavailability.GetStart()))
		for _, m := range w.MachineIds {
			fmt.Fprintf(&b, " %s/%s", m.GetHostname(), m.GetIp())
		}
		b.WriteString("\n")
	}
	for m := range s.Machines() {
		fmt.Fprintf(&b, "machine %s/%s %s start=%s\n", m.Id.GetHostname(), m.Id.GetIp(), m.GetMode(), sec(m.Unavailability.GetStart()))
	}
	return b.String()
}

func agent(id, host string) *mesos.AgentInfo {
	return &mesos.AgentInfo{Id: agentID(id), Hostname: new(host)}
}

func framework(id, name string) *mesos.FrameworkInfo {
	return &mesos.FrameworkInfo{Id: frameworkID(id), User: new("root"), Name: new(name)}
}

func scalar(v float64) map[string]*mesos.Value_Scalar {
	return map[string]*mesos.Value_Scalar{"cpus": {Value: &v}}
}

func machineIDs(names []string) []*mesos.MachineID {
	var ids []*mesos.MachineID
	for _, n := range names {
		host, ip, _ := strings.Cut(n, "/")
		ids = append(ids, &mesos.MachineID{Hostname: &host, Ip: &ip})
	}
	return ids
}

// parse makes a command from a line of a script: a name, and key=value words.
func parse(line string) (*clusterdv1.Command, error) {
	words := strings.Fields(line)
	arg := map[string]string{}
	var rest []string
	for _, w := range words[1:] {
		if k, v, ok := strings.Cut(w, "="); ok {
			arg[k] = v
		} else {
			rest = append(rest, w)
		}
	}
	id := ""
	if len(rest) > 0 {
		id = rest[0]
	}
	at := time.Time{}
	if v, ok := arg["at"]; ok {
		n, err := strconv.Atoi(v)
		if err != nil {
			return nil, err
		}
		at = time.Unix(int64(n), 0)
	}
	number := func(k string) float64 {
		n, _ := strconv.ParseFloat(arg[k], 64) // 0 or NaN are what some lines want
		return n
	}
	switch words[0] {
	case "elect":
		return ElectMaster(&mesos.MasterInfo{Id: &id, Ip: proto.Uint32(0), Port: proto.Uint32(1)}, arg["server"], arg["cluster"]), nil
	case "admit":
		return AdmitAgent(agent(id, arg["host"])), nil
	case "update":
		return UpdateAgent(agent(id, arg["host"])), nil
	case "unreachable":
		return MarkAgentUnreachable(id, at), nil
	case "reachable":
		return MarkAgentReachable(agent(id, arg["host"])), nil
	case "gone":
		return MarkAgentGone(id, at), nil
	case "remove":
		return RemoveAgent(id), nil
	case "drain":
		var d *mesos.DrainInfo
		if s, ok := arg["state"]; ok {
			d = &mesos.DrainInfo{State: mesos.DrainState(mesos.DrainState_value[s]).Enum(), Config: &mesos.DrainConfig{}}
		}
		return SetAgentDrain(id, d), nil
	case "deactivate":
		return SetAgentDeactivated(id, true), nil
	case "activate":
		return SetAgentDeactivated(id, false), nil
	case "prune":
		return Prune(rest, rest, rest), nil
	case "admit-framework":
		return AdmitFramework(framework(id, arg["name"])), nil
	case "update-framework":
		return UpdateFramework(framework(id, arg["name"])), nil
	case "deadline":
		return SetFrameworkDeadline(id, at), nil
	case "remove-framework":
		return RemoveFramework(id, at), nil
	case "weight":
		return UpdateWeights([]*mesos.WeightInfo{{Role: &id, Weight: new(number("is"))}}), nil
	case "quota":
		q := &quota.QuotaConfig{Role: &id}
		if _, ok := arg["guarantee"]; ok {
			q.Guarantees = scalar(number("guarantee"))
		}
		if _, ok := arg["limit"]; ok {
			q.Limits = scalar(number("limit"))
		}
		return UpdateQuota([]*quota.QuotaConfig{q}), nil
	case "schedule":
		s := &maintenance.Schedule{}
		if len(rest) > 0 {
			s.Windows = []*maintenance.Window{{MachineIds: machineIDs(rest), Unavailability: &mesos.Unavailability{Start: timeInfo(at)}}}
		}
		return UpdateMaintenanceSchedule(s), nil
	case "mode":
		return SetMachineMode(machineIDs(rest[1:]), mesos.MachineInfo_Mode(mesos.MachineInfo_Mode_value[id])), nil
	case "unknown":
		_, ignorable := arg["ignorable"]
		return &clusterdv1.Command{Kind: clusterdv1.Command_Kind(99).Enum(), Payload: []byte(id), Ignorable: &ignorable}, nil
	case "garbage":
		return &clusterdv1.Command{Kind: clusterdv1.Command_ADMIT_AGENT.Enum(), Payload: []byte(id)}, nil
	}
	return nil, fmt.Errorf("unknown command %q", words[0])
}

// entry makes an entry of commands; a line that begins with + belongs to the one
// before it.
func entry(lines []string) (*clusterdv1.Entry, error) {
	e := &clusterdv1.Entry{Format: proto.Uint32(Format), ProposedAt: proto.Int64(0), BuildVersion: new("script")}
	for _, l := range lines {
		with := strings.HasPrefix(l, "+")
		c, err := parse(strings.TrimPrefix(l, "+"))
		if err != nil {
			return nil, err
		}
		if with {
			c.WithPrevious = new(true)
		}
		e.Commands = append(e.Commands, c)
	}
	return e, nil
}

func mustSnapshot(t rapid.TB, s *State) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := s.WriteSnapshot(&b, "test"); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// TestScripts runs testdata/scripts: "apply" applies its lines as one entry and
// prints what was refused and the state; "restore" goes through a snapshot.
func TestScripts(t *testing.T) {
	datadriven.Walk(t, "testdata/scripts", func(t *testing.T, path string) {
		s := New()
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			switch d.Cmd {
			case "apply":
				e, err := entry(strings.Split(strings.TrimSpace(d.Input), "\n"))
				if err != nil {
					d.Fatalf(t, "%v", err)
				}
				before := mustSnapshot(t, s)
				next, results, err := s.Apply(e)
				if !bytes.Equal(before, mustSnapshot(t, s)) {
					d.Fatalf(t, "apply changed the state that it was given")
				}
				if err != nil {
					// Which space stands after "proto:" changes from build to build.
					return "stop: " + strings.ReplaceAll(err.Error(), "\u00a0", " ") + "\n"
				}
				s = next
				var b strings.Builder
				for i, r := range results {
					if r != nil {
						fmt.Fprintf(&b, "%d: %v\n", i+1, r)
						if !errors.Is(r, ErrRefused) {
							d.Fatalf(t, "%v is not ErrRefused", r)
						}
					}
				}
				return b.String() + describe(s)
			case "restore":
				var err error
				if s, err = ReadSnapshot(bytes.NewReader(mustSnapshot(t, s))); err != nil {
					d.Fatalf(t, "%v", err)
				}
				return describe(s)
			}
			d.Fatalf(t, "unknown directive %q", d.Cmd)
			return ""
		})
	})
}

// anyLine generates a line of a script over few ids, so that they meet.
func anyLine(t *rapid.T) string {
	id := rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "id")
	at := rapid.IntRange(1, 9).Draw(t, "at")
	return fmt.Sprintf(rapid.SampledFrom([]string{
		"elect m%[1]s server=s%[1]s cluster=c%[2]d", "admit %[1]s host=h%[2]d", "update %[1]s host=h%[2]d", "unreachable %[1]s at=%[2]d",
		"reachable %[1]s host=h%[2]d", "gone %[1]s at=%[2]d", "remove %[1]s", "drain %[1]s state=DRAINING", "drain %[1]s", "deactivate %[1]s",
		"activate %[1]s", "prune %[1]s", "admit-framework %[1]s name=n%[2]d", "update-framework %[1]s name=n%[2]d", "deadline %[1]s at=%[2]d",
		"deadline %[1]s", "remove-framework %[1]s at=%[2]d", "weight %[1]s is=%[2]d", "quota %[1]s guarantee=%[2]d limit=%[2]d", "quota %[1]s",
		"schedule %[1]s/1 at=%[2]d", "schedule at=%[2]d", "mode DOWN %[1]s/1", "mode UP %[1]s/1", "unknown %[1]s ignorable=1",
	}).Draw(t, "line"), id, at)
}

func applyAll(t rapid.TB, s *State, lines []string) (*State, []bool) {
	e, err := entry(lines)
	if err != nil {
		t.Fatal(err)
	}
	next, results, err := s.Apply(e)
	if err != nil {
		t.Fatal(err)
	}
	refused := make([]bool, len(results))
	for i, r := range results {
		refused[i] = r != nil
	}
	return next, refused
}

// TestDeterminism: however a history is cut into entries, and wherever a snapshot
// is restored in it, the same bytes come out, and the promises hold at each step.
func TestDeterminism(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var groups [][]string // each takes effect together
		for range rapid.IntRange(1, 30).Draw(t, "groups") {
			var g []string
			for i := range rapid.IntRange(1, 3).Draw(t, "size") {
				g = append(g, []string{"", "+", "+"}[i]+anyLine(t))
			}
			groups = append(groups, g)
		}
		var lines []string
		one, two := New(), New()
		var refusedOne, refusedTwo []bool
		for _, g := range groups {
			lines = append(lines, g...)
			before := describe(one)
			next, r := applyAll(t, one, g)
			checkInvariants(t, next)
			if r[0] && describe(next) != before {
				t.Fatalf("refused %q had an effect:\n%s\n%s", g, before, describe(next))
			}
			one, refusedOne = next, append(refusedOne, r...)
			if rapid.Bool().Draw(t, "restore") {
				var err error
				if one, err = ReadSnapshot(bytes.NewReader(mustSnapshot(t, one))); err != nil {
					t.Fatal(err)
				}
			}
		}
		two, refusedTwo = applyAll(t, two, lines)
		if d := cmp.Diff(refusedOne, refusedTwo); d != "" {
			t.Fatalf("results differ:\n%s", d)
		}
		if !bytes.Equal(mustSnapshot(t, one), mustSnapshot(t, two)) {
			t.Fatalf("states differ:\n%s\n%s", describe(one), describe(two))
		}
	})
}

func checkInvariants(t rapid.TB, s *State) {
	for _, id := range []string{"a", "b", "c"} {
		places := 0
		for _, is := range []bool{s.Agent(id) != nil, s.UnreachableAgent(id) != nil, s.GoneAgent(id) != nil} {
			if is {
				places++
			}
		}
		if places > 1 {
			t.Fatalf("agent %s is in %d places:\n%s", id, places, describe(s))
		}
		if s.Framework(id) != nil && s.RemovedFramework(id) != nil {
			t.Fatalf("framework %s is admitted and removed", id)
		}
	}
	for _, w := range s.Schedule().GetWindows() {
		for _, m := range w.MachineIds {
			if s.Machine(m) == nil {
				t.Fatalf("scheduled machine %s has no record", m.GetHostname())
			}
		}
	}
}

// history is what the golden files of format 1 were made of: every kind once.
var history = [][]string{
	{"elect m1 server=s1 cluster=c1"},
	{"admit a1 host=h1", "admit a2 host=h2", "admit a3 host=h3", "admit a4 host=h4", "admit a5 host=h5", "admit a6 host=h6"},
	{"update a1 host=h1b", "drain a1 state=DRAINING", "+deactivate a1", "unreachable a2 at=2", "drain a2 state=DRAINED", "unreachable a3 at=3", "reachable a3 host=h3b"},
	{"gone a4 at=4", "remove a5", "unreachable a6 at=6", "prune a6 f9", "unknown x ignorable=1"},
	{"admit-framework f1 name=n1", "admit-framework f2 name=n2", "update-framework f1 name=n1b", "deadline f1 at=11", "remove-framework f2 at=12", "remove-framework f3 at=13"},
	{"weight r1 is=1.5", "quota r1 guarantee=2 limit=3", "quota r2 limit=0"},
	{"schedule h1/1 h2/2 h3/3 at=21", "mode DOWN h1/1", "mode UP h3/3"},
	{"elect m2 server=s2 cluster=c2"},
}

// TestGoldenFormats restores the log and the snapshot of every format that was
// ever written. Their files are never changed, only new ones added.
func TestGoldenFormats(t *testing.T) {
	if *update {
		writeGolden(t)
	}
	for format := 1; format <= Format; format++ {
		t.Run(strconv.Itoa(format), func(t *testing.T) {
			base := filepath.Join("testdata", "golden", fmt.Sprintf("format%d", format))
			want, err := os.ReadFile(base + ".txt")
			if err != nil {
				t.Fatal(err)
			}
			log, err := os.ReadFile(base + ".log")
			if err != nil {
				t.Fatal(err)
			}
			s := New()
			for r := bytes.NewReader(log); ; {
				e := new(clusterdv1.Entry)
				if err := protodelim.UnmarshalFrom(r, e); errors.Is(err, io.EOF) {
					break
				} else if err != nil {
					t.Fatal(err)
				}
				if s, _, err = s.Apply(e); err != nil {
					t.Fatal(err)
				}
			}
			if d := cmp.Diff(string(want), describe(s)); d != "" {
				t.Errorf("log (-want +got):\n%s", d)
			}
			f, err := os.Open(base + ".snapshot")
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			if s, err = ReadSnapshot(f); err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(string(want), describe(s)); d != "" {
				t.Errorf("snapshot (-want +got):\n%s", d)
			}
		})
	}
}

func writeGolden(t *testing.T) {
	base := filepath.Join("testdata", "golden", fmt.Sprintf("format%d", Format))
	if _, err := os.Stat(base + ".log"); err == nil {
		t.Fatalf("%s exists: what was written once stays readable", base)
	}
	if err := os.MkdirAll(filepath.Dir(base), 0o755); err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	s := New()
	for _, lines := range history {
		e, err := entry(lines)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := protodelim.MarshalTo(&log, e); err != nil {
			t.Fatal(err)
		}
		if s, _, err = s.Apply(e); err != nil {
			t.Fatal(err)
		}
	}
	for name, data := range map[string][]byte{".log": log.Bytes(), ".snapshot": mustSnapshot(t, s), ".txt": []byte(describe(s))} {
		if err := os.WriteFile(base+name, data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func TestBadSnapshotsAreRefused(t *testing.T) {
	s := New()
	for _, lines := range history {
		s, _ = applyAll(t, s, lines)
	}
	good := mustSnapshot(t, s)
	// Every cut is noticed.
	for n := range good {
		_, err := ReadSnapshot(bytes.NewReader(good[:n]))
		if ce := new(CorruptError); !errors.As(err, &ce) {
			t.Fatalf("cut after %d of %d bytes: got %v", n, len(good), err)
		}
	}
	delimited := func(recs ...*clusterdv1.SnapshotRecord) []byte {
		var b bytes.Buffer
		for _, r := range recs {
			if _, err := protodelim.MarshalTo(&b, r); err != nil {
				t.Fatal(err)
			}
		}
		return b.Bytes()
	}
	header := func(format uint32) *clusterdv1.SnapshotRecord {
		return &clusterdv1.SnapshotRecord{Record: &clusterdv1.SnapshotRecord_Header{Header: &clusterdv1.SnapshotHeader{Format: &format, BuildVersion: new("9.9")}}}
	}
	trailer := func(n uint64) *clusterdv1.SnapshotRecord {
		return &clusterdv1.SnapshotRecord{Record: &clusterdv1.SnapshotRecord_Trailer{Trailer: &clusterdv1.SnapshotTrailer{Records: &n}}}
	}
	weight := &clusterdv1.SnapshotRecord{Record: &clusterdv1.SnapshotRecord_Weight{Weight: &mesos.WeightInfo{Role: new("r"), Weight: proto.Float64(1)}}}
	if _, err := ReadSnapshot(bytes.NewReader(delimited(header(Format), weight, trailer(1)))); err != nil {
		t.Errorf("a good one: %v", err)
	}
	for name, test := range map[string]struct {
		data []byte
		want string
	}{
		"empty":        {nil, "ends before its trailer"},
		"headless":     {delimited(weight, trailer(1)), "does not begin with a header"},
		"newer":        {delimited(header(Format+1), trailer(0)), fmt.Sprintf("format %d (written by build \"9.9\"), this build knows formats up to %d", Format+1, Format)},
		"record lost":  {delimited(header(Format), trailer(1)), "has 0 records, its trailer says 1"},
		"two headers":  {delimited(header(Format), header(Format), trailer(1)), "unknown type"},
		"unknown":      {delimited(header(Format), &clusterdv1.SnapshotRecord{}, trailer(1)), "unknown type"},
		"goes on":      {append(delimited(header(Format), trailer(0)), 0), "goes on after its trailer"},
		"oversize":     {[]byte("\xff\xff\xff\xff\x0f"), "snapshot: "},
		"not protobuf": {[]byte("\x03abc"), "snapshot: "},
	} {
		if _, err := ReadSnapshot(bytes.NewReader(test.data)); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got %v, want %q", name, err, test.want)
		}
	}
	if err := CheckSnapshot(bytes.NewReader(good)); err != nil {
		t.Error(err)
	}
}

// full is a disk without space.
type full struct{ left int }

func (f *full) Write(p []byte) (int, error) {
	if len(p) > f.left {
		return 0, errors.New("no space left on device")
	}
	f.left -= len(p)
	return len(p), nil
}

func TestSnapshotReportsAFullDisk(t *testing.T) {
	s := New()
	for i := range 2000 {
		s, _ = applyAll(t, s, []string{fmt.Sprintf("admit a%d host=%s", i, strings.Repeat("h", 100))})
	}
	for _, left := range []int{0, 100_000} {
		if err := s.WriteSnapshot(&full{left}, "test"); err == nil || !strings.Contains(err.Error(), "no space left") {
			t.Errorf("%d bytes left: got %v", left, err)
		}
	}
}

func TestEntriesSurviveTheLog(t *testing.T) {
	cmds := Together(AdmitAgent(agent("a", "h")), SetAgentDeactivated("a", true))
	data, err := EncodeEntry(time.Unix(3, 4), "b1", cmds)
	if err != nil {
		t.Fatal(err)
	}
	e, err := DecodeEntry(data)
	if err != nil {
		t.Fatal(err)
	}
	if e.GetProposedAt() != 3e9+4 || e.GetBuildVersion() != "b1" || e.GetFormat() != Format || e.Commands[0].GetWithPrevious() || !e.Commands[1].GetWithPrevious() {
		t.Errorf("got %v", e)
	}
	if _, err := DecodeEntry([]byte("\xff")); !errors.As(err, new(*CorruptError)) {
		t.Errorf("got %v, want corrupt", err)
	}
}

// TestEveryKindIsKnown fails when a kind is added to the envelope alone.
func TestEveryKindIsKnown(t *testing.T) {
	for n, name := range clusterdv1.Command_Kind_name {
		_, err := New().applyCommand(&clusterdv1.Command{Kind: clusterdv1.Command_Kind(n).Enum()})
		if unknown := errors.As(err, new(*UnknownKindError)); unknown != (n == 0) {
			t.Errorf("kind %s: unknown is %v", name, unknown)
		}
	}
}

func FuzzReadSnapshot(f *testing.F) {
	s := New()
	for _, lines := range history {
		s, _ = applyAll(f, s, lines)
	}
	f.Add(mustSnapshot(f, s))
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := ReadSnapshot(bytes.NewReader(data))
		if err != nil {
			return
		}
		_ = describe(s)
		again, err := ReadSnapshot(bytes.NewReader(mustSnapshot(t, s)))
		if err != nil || describe(again) != describe(s) {
			t.Errorf("a restored state does not survive another snapshot: %v", err)
		}
	})
}

func FuzzApply(f *testing.F) {
	for _, lines := range history {
		e, err := entry(lines)
		if err != nil {
			f.Fatal(err)
		}
		data, err := proto.Marshal(e)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	base := New()
	for _, lines := range history[:6] {
		base, _ = applyAll(f, base, lines)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		e, err := DecodeEntry(data)
		if err != nil {
			return
		}
		s, _, err := base.Apply(e)
		if err == nil {
			_ = mustSnapshot(t, s)
		}
	})
}

func BenchmarkAdmit20000(b *testing.B) {
	for _, grouped := range []bool{false, true} {
		b.Run(fmt.Sprintf("grouped=%v", grouped), func(b *testing.B) {
			e := &clusterdv1.Entry{}
			for i := range 20000 {
				id := fmt.Sprintf("9f1b2c3d-aaaa-bbbb-cccc-123456789abc-S%d", i)
				cmds := []*clusterdv1.Command{AdmitAgent(agent(id, id))}
				if grouped {
					cmds = Together(cmds[0], SetAgentDeactivated(id, true))
				}
				e.Commands = append(e.Commands, cmds...)
			}
			for b.Loop() {
				if _, _, err := New().Apply(e); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
