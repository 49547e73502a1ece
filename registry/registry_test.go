package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"github.com/rs/zerolog"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"

	clusterdv1 "clusterd/api/clusterd/v1"
	mesos "clusterd/api/mesos/v1"
	"clusterd/registry/state"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(childDir); dir != "" {
		go func() { // a test that is gone kills nobody
			_, _ = io.Copy(io.Discard, os.Stdin)
			os.Exit(1)
		}()
		switch {
		case os.Getenv(childOf) != "":
			groupChild(dir, os.Getenv(childOf))
		case os.Getenv(childRestore) != "":
			restoreChild(dir)
		default:
			child(dir)
		}
		return
	}
	goleak.VerifyTestMain(m)
}

func masterInfo(id string) *mesos.MasterInfo {
	return &mesos.MasterInfo{
		Id: new(id), Ip: proto.Uint32(0x100007f), Port: proto.Uint32(5050), Hostname: new("host-" + id),
	}
}

func agentInfo(id string) *mesos.AgentInfo {
	return &mesos.AgentInfo{
		Id: &mesos.AgentID{Value: new(id)}, Hostname: new("host-" + id), Port: proto.Int32(5051),
		Resources: []*mesos.Resource{
			{Name: new("cpus"), Type: mesos.Value_SCALAR.Enum(), Scalar: &mesos.Value_Scalar{Value: proto.Float64(16)}},
			{Name: new("mem"), Type: mesos.Value_SCALAR.Enum(), Scalar: &mesos.Value_Scalar{Value: proto.Float64(65536)}},
			{Name: new("ports"), Type: mesos.Value_RANGES.Enum(), Ranges: &mesos.Value_Ranges{
				Range: []*mesos.Value_Range{{Begin: proto.Uint64(31000), End: proto.Uint64(32000)}},
			}},
		},
		Attributes: []*mesos.Attribute{{Name: new("rack"), Type: mesos.Value_TEXT.Enum(), Text: &mesos.Value_Text{Value: new("r1")}}},
	}
}

func frameworkInfo(id string) *mesos.FrameworkInfo {
	return &mesos.FrameworkInfo{Id: &mesos.FrameworkID{Value: new(id)}, User: new("root"), Name: new("name-" + id)}
}

func single(dir string) Options {
	return Options{Dir: dir, MasterInfo: masterInfo("m1"), BuildVersion: "test", BootstrapExpect: 1, Logger: zerolog.Nop()}
}

func openT(t testing.TB, opts Options) *Registry {
	t.Helper()
	r, err := Open(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return r
}

func leadT(t testing.TB, r *Registry) *Leadership {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	l, err := r.AwaitLeadership(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func applyT(t testing.TB, l *Leadership, cmds ...*clusterdv1.Command) {
	t.Helper()
	if err := l.Apply(t.Context(), cmds...); err != nil {
		t.Fatal(err)
	}
}

func TestRestartKeepsEverything(t *testing.T) {
	for _, snapshot := range []bool{false, true} {
		t.Run(fmt.Sprintf("snapshot=%v", snapshot), func(t *testing.T) {
			dir := t.TempDir()
			r := openT(t, single(dir))
			l := leadT(t, r)
			clusterID := l.State().ClusterID()
			if clusterID == "" || l.Epoch() != 1 {
				t.Fatalf("got cluster id %q, epoch %d", clusterID, l.Epoch())
			}
			applyT(t, l, state.AdmitAgent(agentInfo("a1")))
			applyT(t, l, state.AdmitAgent(agentInfo("a2")))
			applyT(t, l, state.MarkAgentGone("a2", time.Unix(5, 0)))
			if snapshot {
				if err := r.Snapshot(); err != nil {
					t.Fatal(err)
				}
			}
			applyT(t, l, state.AdmitFramework(frameworkInfo("f1")))
			applyT(t, l, state.SetFrameworkDeadline("f1", time.Unix(100, 0)))
			applyT(t, l, state.RemoveFramework("f2", time.Unix(7, 0)))
			if err := r.Close(); err != nil {
				t.Fatal(err)
			}

			opts := single(dir)
			opts.MasterInfo = masterInfo("m2")
			r = openT(t, opts)
			l = leadT(t, r)
			s := l.State()
			if s.ClusterID() != clusterID || s.Epoch() != 2 || s.Master().GetId() != "m2" {
				t.Errorf("got cluster %q, epoch %d, master %q", s.ClusterID(), s.Epoch(), s.Master().GetId())
			}
			if a := s.Agent("a1"); a == nil || !proto.Equal(a.AgentInfo, agentInfo("a1")) {
				t.Errorf("got agent %v", a)
			}
			if s.Agent("a2") != nil || s.GoneAgent("a2") == nil {
				t.Error("the agent that was gone is back")
			}
			if f := s.Framework("f1"); f.GetDeadline().GetNanoseconds() != 100e9 {
				t.Errorf("got framework %v", f)
			}
			if s.RemovedFramework("f2") == nil {
				t.Error("the removed framework is forgotten")
			}
			if err := l.Apply(t.Context(), state.AdmitAgent(agentInfo("a2"))); !errors.Is(err, ErrRefused) {
				t.Errorf("admit an agent that is gone: got %v, want ErrRefused", err)
			}
		})
	}
}

func TestSingleMemberLeadsAtOnce(t *testing.T) {
	t.Parallel() // it waits more than it works
	// The heartbeat timeout would elect after 20 s at the earliest.
	for name, dir := range map[string]string{"tcp": t.TempDir(), "memory": ""} {
		t.Run(name, func(t *testing.T) {
			opts := single(dir)
			opts.HeartbeatTimeout = 20 * time.Second
			start := time.Now()
			l := leadT(t, openT(t, opts))
			t.Logf("leads after %s", time.Since(start))
			applyT(t, l, state.AdmitAgent(agentInfo("a1")))
		})
	}
}

func TestLeader(t *testing.T) {
	r := openT(t, single(t.TempDir()))
	l := leadT(t, r)
	if m, ok := r.Leader(); !ok || m.GetId() != "m1" {
		t.Errorf("got %v, %v", m, ok)
	}
	if same := leadT(t, r); same != l {
		t.Error("one leadership has two values")
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if !errors.Is(context.Cause(l.Context()), ErrClosed) || !errors.Is(r.Err(), ErrClosed) {
		t.Errorf("after close: leadership ended by %v, registry by %v", context.Cause(l.Context()), r.Err())
	}
	if _, ok := r.Leader(); ok {
		t.Error("a closed registry knows a leader")
	}
	if err := l.Apply(t.Context(), state.RemoveAgent("x")); !errors.Is(err, ErrClosed) {
		t.Errorf("apply after close: got %v, want ErrClosed", err)
	}
	if err := r.Apply(t.Context(), state.RemoveAgent("x")); !errors.Is(err, ErrNotLeader) {
		t.Errorf("apply after close: got %v, want ErrNotLeader", err)
	}
	if _, err := r.AwaitLeadership(t.Context()); !errors.Is(err, ErrClosed) {
		t.Errorf("await after close: got %v, want ErrClosed", err)
	}
}

func TestCallsAreMergedAndKeepTheirOwnResults(t *testing.T) {
	const n = 5000
	var entries, commands atomic.Int64
	opts := single(t.TempDir())
	opts.OnStore = func(_ time.Duration, c int) { entries.Add(1); commands.Add(int64(c)) }
	l := leadT(t, openT(t, opts))
	applyT(t, l, state.AdmitAgent(agentInfo("taken")))
	other := agentInfo("taken")
	other.Hostname = new("another")
	entries.Store(0)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			id := fmt.Sprintf("a%05d", i)
			cmds := []*clusterdv1.Command{state.AdmitAgent(agentInfo(id)), state.SetAgentDeactivated(id, true)}
			refuse := i%10 == 0
			if refuse { // the third command fails and takes the first two with it
				cmds = append(cmds, state.AdmitAgent(other))
			}
			if err := l.Apply(t.Context(), cmds...); refuse != errors.Is(err, ErrRefused) || !refuse && err != nil {
				t.Errorf("%s: got %v", id, err)
			}
		})
	}
	wg.Wait()
	if got, want := l.r.State().AgentCount(), n-n/10+1; got != want {
		t.Errorf("got %d agents, want %d", got, want)
	}
	if l.r.State().Agent("a00010") != nil || !l.r.State().Agent("a00011").GetDeactivated() {
		t.Error("a group took effect by halves")
	}
	t.Logf("%d calls, %d commands, %d log entries", n, commands.Load(), entries.Load())
	if entries.Load() > n/10 {
		t.Errorf("%d calls cost %d log entries", n, entries.Load())
	}
}

func TestBadCommandsAreNotLogged(t *testing.T) {
	var entries atomic.Int64
	opts := single("")
	opts.OnStore = func(time.Duration, int) { entries.Add(1) }
	l := leadT(t, openT(t, opts))
	entries.Store(0)
	huge := agentInfo("huge")
	huge.Hostname = new(strings.Repeat("x", maxCallBytes))
	for name, c := range map[string]*clusterdv1.Command{
		"unknown kind": {Kind: clusterdv1.Command_Kind(99).Enum()},
		"no kind":      {},
		"garbage":      {Kind: clusterdv1.Command_ADMIT_AGENT.Enum(), Payload: []byte("\xff\xff")},
		"incomplete":   state.AdmitAgent(nil),
		"too large":    state.AdmitAgent(huge),
	} {
		if err := l.Apply(t.Context(), c); !errors.Is(err, ErrRefused) {
			t.Errorf("%s: got %v, want ErrRefused", name, err)
		}
	}
	if entries.Load() != 0 {
		t.Errorf("%d entries were written", entries.Load())
	}
}

// rawApply puts bytes into the log that no build of ours would.
func rawApply(t *testing.T, r *Registry, e *clusterdv1.Entry) error {
	t.Helper()
	data, err := proto.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	f := r.raft.Apply(data, time.Second)
	if err := f.Error(); err != nil {
		t.Fatal(err)
	}
	if err, ok := f.Response().(error); ok {
		return err
	}
	return nil
}

func TestUnknownKindStopsTheNode(t *testing.T) {
	dir := t.TempDir()
	r := openT(t, single(dir))
	l := leadT(t, r)
	e := &clusterdv1.Entry{Format: proto.Uint32(7), ProposedAt: proto.Int64(1), BuildVersion: new("9.9"), Commands: []*clusterdv1.Command{
		{Kind: clusterdv1.Command_Kind(99).Enum(), Payload: []byte("x"), Ignorable: new(true)},
	}}
	if err := rawApply(t, r, e); err != nil {
		t.Errorf("an ignorable command: got %v", err)
	}
	applyT(t, l, state.AdmitAgent(agentInfo("a1")))
	e.Commands[0].Ignorable = nil
	check := func(err error) {
		t.Helper()
		for _, want := range []string{"log index", `this build: "test"`, "unknown kind 99", "format 7", `build "9.9"`, "run a build at least as new"} {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("got %v, want %q in it", err, want)
			}
		}
	}
	check(rawApply(t, r, e))
	<-r.Done()
	check(r.Err())
	check(context.Cause(l.Context()))
	check(l.Apply(t.Context(), state.AdmitAgent(agentInfo("a2"))))
	if err := r.Snapshot(); err == nil {
		t.Error("a snapshot was taken without the entry")
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	// The same after a restart: it does not lead.
	r = openT(t, single(dir))
	_, err := r.AwaitLeadership(t.Context())
	check(err)
	if r.State().Agent("a1") == nil {
		t.Error("what came before is not there")
	}
}

func TestNewerSnapshotIsRefused(t *testing.T) {
	dir := t.TempDir()
	r := openT(t, single(dir))
	applyT(t, leadT(t, r), state.AdmitAgent(agentInfo("a1")))
	if err := r.Snapshot(); err != nil {
		t.Fatal(err)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	// A newer build writes a snapshot of its own format after ours.
	snaps, err := raft.NewFileSnapshotStoreWithLogger(dir, 2, newHCLog(zerolog.Nop()))
	if err != nil {
		t.Fatal(err)
	}
	list, err := snaps.List()
	if err != nil || len(list) != 1 {
		t.Fatal(list, err)
	}
	_, trans := raft.NewInmemTransport("")
	sink, err := snaps.Create(1, list[0].Index+1, list[0].Term, list[0].Configuration, 1, trans)
	if err != nil {
		t.Fatal(err)
	}
	header, err := proto.Marshal(&clusterdv1.SnapshotRecord{Record: &clusterdv1.SnapshotRecord_Header{
		Header: &clusterdv1.SnapshotHeader{Format: proto.Uint32(state.Format + 1), BuildVersion: new("9.9")},
	}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := sink.Write(append([]byte{byte(len(header))}, header...)); err != nil {
		t.Fatal(err)
	}
	if err := sink.Close(); err != nil {
		t.Fatal(err)
	}
	_, err = Open(t.Context(), single(dir))
	var newer *state.NewerFormatError
	if !errors.As(err, &newer) || newer.Build != "9.9" {
		t.Errorf("got %v, want the newer format refused", err)
	}
}

func TestMissingOrCorruptSnapshotIsRefused(t *testing.T) {
	for _, damage := range []string{"remove", "corrupt"} {
		t.Run(damage, func(t *testing.T) {
			dir := t.TempDir()
			opts := single(dir)
			opts.SnapshotThreshold = 2
			r := openT(t, opts)
			l := leadT(t, r)
			for i := range 10 {
				applyT(t, l, state.AdmitAgent(agentInfo(fmt.Sprint("a", i))))
			}
			if err := r.Snapshot(); err != nil {
				t.Fatal(err)
			}
			if err := r.Close(); err != nil {
				t.Fatal(err)
			}
			files, err := filepath.Glob(filepath.Join(dir, "snapshots", "*", "state.bin"))
			if err != nil || len(files) != 1 {
				t.Fatal(files, err)
			}
			want := "a snapshot is missing"
			if damage == "remove" {
				err = os.RemoveAll(filepath.Dir(files[0]))
			} else {
				want = "restore registry snapshot"
				var b []byte
				if b, err = os.ReadFile(files[0]); err == nil {
					b[len(b)/2] ^= 0xff
					err = os.WriteFile(files[0], b, 0o600)
				}
			}
			if err != nil {
				t.Fatal(err)
			}
			if _, err := Open(t.Context(), opts); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("got %v, want %q", err, want)
			}
		})
	}
}

func TestDirectoryIsLocked(t *testing.T) {
	t.Parallel() // it waits more than it works
	dir := t.TempDir()
	openT(t, single(dir))
	if _, err := Open(t.Context(), single(dir)); err == nil || !strings.Contains(err.Error(), "in use by another process") {
		t.Errorf("got %v", err)
	}
}

func TestOptionsAreChecked(t *testing.T) {
	for name, change := range map[string]func(*Options){
		"without an id":        func(o *Options) { o.MasterInfo = nil },
		"bootstrap_expect":     func(o *Options) { o.BootstrapExpect = -1 },
		"heartbeat timeout":    func(o *Options) { o.HeartbeatTimeout = 1 },
		"raft address":         func(o *Options) { o.BindAddr = "256.0.0.1:1" },
		"address to advertise": func(o *Options) { o.BindAddr = "0.0.0.0:0" },
		"to advertise: ":       func(o *Options) { o.AdvertiseAddr = "nowhere" },
	} {
		opts := single(t.TempDir())
		change(&opts)
		if _, err := Open(t.Context(), opts); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("got %v, want %q", err, name)
		}
	}
}

// disk is a log store that can be made to hang or to fail.
type disk struct {
	raft.LogStore
	hang chan struct{} // nil: does not
	fail atomic.Bool
}

func (d *disk) StoreLogs(logs []*raft.Log) error {
	if d.fail.Load() {
		return errors.New("no space left on device")
	}
	for _, l := range logs {
		if d.hang != nil && strings.Contains(string(l.Data), "hang") {
			<-d.hang
		}
	}
	return d.LogStore.StoreLogs(logs)
}

func TestStoreTimeoutIsFatal(t *testing.T) {
	t.Parallel() // it waits more than it works
	d := &disk{hang: make(chan struct{})}
	opts := single(t.TempDir())
	opts.StoreTimeout = 3 * time.Second // no disk is as slow that works
	opts.wrapLog = func(l raft.LogStore) raft.LogStore { d.LogStore = l; return d }
	r := openT(t, opts)
	t.Cleanup(func() { close(d.hang) }) // before Close, which waits for the disk
	l := leadT(t, r)
	if err := l.Apply(t.Context(), state.AdmitAgent(agentInfo("hang"))); !errors.Is(err, ErrStoreTimeout) {
		t.Errorf("got %v, want ErrStoreTimeout", err)
	}
	<-l.Context().Done()
	if err := context.Cause(l.Context()); !errors.Is(err, ErrStoreTimeout) {
		t.Errorf("leadership ended by %v, want ErrStoreTimeout", err)
	}
	if !errors.Is(r.Err(), ErrStoreTimeout) {
		t.Errorf("registry ended by %v, want ErrStoreTimeout", r.Err())
	}
}

// slowToLead is a disk that takes the entry with which a leader begins only when
// it is let.
type slowToLead struct {
	raft.LogStore
	let chan struct{}
}

func (d *slowToLead) StoreLogs(logs []*raft.Log) error {
	for _, l := range logs {
		if l.Type == raft.LogNoop {
			<-d.let
		}
	}
	return d.LogStore.StoreLogs(logs)
}

func TestFetchTimeout(t *testing.T) {
	d := &slowToLead{let: make(chan struct{})}
	opts := single(t.TempDir())
	opts.FetchTimeout = 50 * time.Millisecond
	opts.wrapLog = func(l raft.LogStore) raft.LogStore { d.LogStore = l; return d }
	r := openT(t, opts)
	t.Cleanup(func() { close(d.let) }) // before Close, which waits for the disk
	if _, err := r.AwaitLeadership(t.Context()); !errors.Is(err, ErrStoreTimeout) {
		t.Errorf("got %v, want ErrStoreTimeout", err)
	}
	if err := r.Err(); !errors.Is(err, ErrStoreTimeout) {
		t.Errorf("registry ended by %v, want ErrStoreTimeout", err)
	}
}

func TestFullDiskEndsTheLeadership(t *testing.T) {
	d := &disk{}
	opts := single(t.TempDir())
	opts.wrapLog = func(l raft.LogStore) raft.LogStore { d.LogStore = l; return d }
	r := openT(t, opts)
	l := leadT(t, r)
	applyT(t, l, state.AdmitAgent(agentInfo("a1")))
	d.fail.Store(true)
	err := l.Apply(t.Context(), state.AdmitAgent(agentInfo("a2")))
	if !errors.Is(err, ErrLeadershipLost) || !strings.Contains(err.Error(), "no space left") {
		t.Errorf("got %v, want ErrLeadershipLost and why", err)
	}
	<-l.Context().Done()
	if err := l.Apply(t.Context(), state.AdmitAgent(agentInfo("a3"))); err == nil {
		t.Error("an ended leadership writes")
	}
	// With space again the member leads again, under a new leadership, and the old
	// one stays dead.
	d.fail.Store(false)
	again := leadT(t, r)
	if again == l || again.Epoch() != 2 || again.State().Agent("a1") == nil {
		t.Errorf("got epoch %d", again.Epoch())
	}
	if err := l.Apply(t.Context(), state.AdmitAgent(agentInfo("a4"))); !errors.Is(err, ErrNotLeader) {
		t.Errorf("an ended leadership: got %v, want ErrNotLeader", err)
	}
}

func TestCallerMayGiveUp(t *testing.T) {
	d := &disk{hang: make(chan struct{})}
	opts := single(t.TempDir())
	opts.wrapLog = func(l raft.LogStore) raft.LogStore { d.LogStore = l; return d }
	r := openT(t, opts)
	l := leadT(t, r)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := l.Apply(ctx, state.AdmitAgent(agentInfo("hang"))); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, want the context's end", err)
	}
	close(d.hang)
	applyT(t, l, state.AdmitAgent(agentInfo("a1")))
	if r.State().Agent("hang") == nil {
		t.Error("what had been proposed did not take effect")
	}
}

func TestBootstrapInterruptedByCrash(t *testing.T) {
	dir := t.TempDir()
	opts := single(dir)
	opts.setDefaults()
	s, err := openStores(&opts)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.stable.SetUint64(keyCurrentTerm, 1); err != nil { // the first half of raft.BootstrapCluster
		t.Fatal(err)
	}
	if err := s.close(); err != nil {
		t.Fatal(err)
	}
	applyT(t, leadT(t, openT(t, opts)), state.AdmitAgent(agentInfo("a1")))
}

func TestMemberWithoutClusterWaits(t *testing.T) {
	opts := single(t.TempDir())
	opts.BootstrapExpect = 0
	opts.HeartbeatTimeout = 20 * time.Millisecond
	r := openT(t, opts)
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if _, err := r.AwaitLeadership(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, want to wait", err)
	}
	if _, ok := r.Leader(); ok {
		t.Error("it knows a leader")
	}
}

func TestThreeMembersFailOver(t *testing.T) {
	rs := make([]*Registry, 3)
	var members []Member
	for i := range rs {
		opts := single(t.TempDir())
		opts.BootstrapExpect = 3
		opts.HeartbeatTimeout = 200 * time.Millisecond
		opts.MasterInfo = masterInfo(fmt.Sprint("m", i))
		rs[i] = openT(t, opts)
		members = append(members, rs[i].Self())
	}
	for range 2 { // the second time does nothing
		for _, r := range rs {
			if err := r.Bootstrap(members); err != nil {
				t.Fatal(err)
			}
		}
	}
	awaitAny := func(rs []*Registry) (int, *Leadership) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		type won struct {
			i int
			l *Leadership
		}
		first := make(chan won, len(rs))
		var wg sync.WaitGroup
		for i, r := range rs {
			wg.Go(func() {
				if l, err := r.AwaitLeadership(ctx); err == nil {
					first <- won{i, l}
				}
			})
		}
		select {
		case w := <-first:
			cancel()
			wg.Wait()
			return w.i, w.l
		case <-ctx.Done():
			t.Fatal("nobody leads")
			return 0, nil
		}
	}
	i, l := awaitAny(rs)
	id := l.State().ClusterID()
	applyT(t, l, state.AdmitAgent(agentInfo("a1")))
	leader := l.State().Master().GetId()
	for _, r := range rs {
		poll(t, func() bool { m, ok := r.Leader(); return ok && m.GetId() == leader })
		if r != rs[i] {
			if err := r.Apply(t.Context(), state.RemoveAgent("a1")); !errors.Is(err, ErrNotLeader) {
				t.Errorf("a follower wrote: %v", err)
			}
		}
	}
	if err := rs[i].Close(); err != nil {
		t.Fatal(err)
	}
	if l.Context().Err() == nil {
		t.Error("the leadership of a closed member goes on")
	}
	left := append(append([]*Registry(nil), rs[:i]...), rs[i+1:]...)
	start := time.Now()
	_, next := awaitAny(left)
	t.Logf("next leader after %s", time.Since(start))
	if next.Epoch() <= l.Epoch() || next.State().ClusterID() != id || next.State().Agent("a1") == nil {
		t.Errorf("the next leader knows epoch %d, cluster %q, agent %v", next.Epoch(), next.State().ClusterID(), next.State().Agent("a1"))
	}
	applyT(t, next, state.AdmitAgent(agentInfo("a2")))
}

func TestMovedMemberTellsItsAddress(t *testing.T) {
	dir := t.TempDir()
	r := openT(t, single(dir))
	leadT(t, r)
	before := r.Self()
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	r = openT(t, single(dir)) // another port
	leadT(t, r)
	if r.Self().ID != before.ID || r.Self().Addr == before.Addr {
		t.Skipf("the port is the same by chance: %v, %v", before, r.Self())
	}
	poll(t, func() bool {
		m, err := r.Members()
		return err == nil && len(m) == 1 && m[0].Addr == r.Self().Addr
	})
}

// poll waits until a condition holds.
func poll(t testing.TB, cond func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !cond(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("condition does not hold")
		}
	}
}
