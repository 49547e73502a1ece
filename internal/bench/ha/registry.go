package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sync/errgroup"
	"google.golang.org/protobuf/proto"

	clusterdv1 "clusterd/api/clusterd/v1"
	mesos "clusterd/api/mesos/v1"
	"clusterd/internal/bench/measure"
	"clusterd/registry"
	"clusterd/registry/state"
)

// members are the registries of a group in this process; they speak over loopback and
// write to the disk.
type members struct {
	dirs    []string
	all     []*registry.Registry
	lead    *registry.Leadership
	entries atomic.Int64
}

func openMembers(ctx context.Context, dir string, n int) (*members, error) {
	m := &members{}
	for i := range n {
		m.dirs = append(m.dirs, filepath.Join(dir, fmt.Sprintf("%d-of-%d", i+1, n)))
		r, err := m.open(ctx, i, n)
		if err != nil {
			return nil, errors.Join(err, m.close())
		}
		m.all = append(m.all, r)
	}
	if n > 1 {
		var found []registry.Member
		for _, r := range m.all {
			self := r.Self()
			self.Voter = true
			found = append(found, self)
		}
		if err := m.all[0].Bootstrap(found); err != nil {
			return nil, errors.Join(err, m.close())
		}
	}
	if err := m.awaitLeader(ctx); err != nil {
		return nil, errors.Join(err, m.close())
	}
	return m, nil
}

func (m *members) open(ctx context.Context, i, n int) (*registry.Registry, error) {
	name := fmt.Sprintf("m%d", i)
	return registry.Open(ctx, registry.Options{
		// All members and all callers share this machine's processors.
		HeartbeatTimeout: 5 * time.Second,
		Dir:              m.dirs[i], ServerID: name, BuildVersion: "bench", BootstrapExpect: n, Logger: zerolog.Nop(),
		MasterInfo: &mesos.MasterInfo{Id: &name, Ip: new(uint32(1)), Port: new(uint32(5050))},
		OnStore:    func(time.Duration, int) { m.entries.Add(1) },
	})
}

func (m *members) awaitLeader(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	leads := make(chan *registry.Leadership, len(m.all))
	for _, r := range m.all {
		go func() {
			if l, err := r.AwaitLeadership(ctx); err == nil {
				leads <- l
			}
		}()
	}
	select {
	case m.lead = <-leads:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("no member leads: %w", ctx.Err())
	}
}

func (m *members) close() error {
	var errs []error
	for _, r := range m.all {
		errs = append(errs, r.Close())
	}
	return errors.Join(errs...)
}

// together proposes a command for each of n agents, all at once, as agents that register
// do, and waits until all are written.
func (m *members) together(ctx context.Context, n int, cmd func(i int) *clusterdv1.Command) (time.Duration, error) {
	start := time.Now()
	g, gctx := errgroup.WithContext(ctx)
	for i := range n {
		g.Go(func() error { return m.lead.Apply(gctx, cmd(i)) })
	}
	err := g.Wait()
	return time.Since(start), err
}

func agentInfo(i int) *mesos.AgentInfo {
	id := fmt.Sprintf("9f1b2c3d-aaaa-bbbb-cccc-123456789abc-S%d", i)
	scalar := func(name string, v float64) *mesos.Resource {
		return &mesos.Resource{Name: &name, Type: mesos.Value_SCALAR.Enum(), Scalar: &mesos.Value_Scalar{Value: &v}}
	}
	return &mesos.AgentInfo{
		Id: &mesos.AgentID{Value: &id}, Hostname: new(fmt.Sprintf("host-%d.example.org", i)), Port: proto.Int32(5051),
		Resources: []*mesos.Resource{scalar("cpus", 16), scalar("mem", 65536), scalar("disk", 1e6), {
			Name: new("ports"), Type: mesos.Value_RANGES.Enum(),
			Ranges: &mesos.Value_Ranges{Range: []*mesos.Value_Range{{Begin: proto.Uint64(31000), End: proto.Uint64(32000)}}},
		}},
		Attributes: []*mesos.Attribute{{Name: new("rack"), Type: mesos.Value_TEXT.Enum(), Text: &mesos.Value_Text{Value: new("r1")}}},
	}
}

// benchRegistry runs the shapes of Mesos's Registrar benchmarks (Performance and
// MarkUnreachableThenReachable, src/tests/registrar_tests.cpp), for which no figures are
// published, on groups of one and of three members.
func benchRegistry(ctx context.Context, s *settings) ([]measure.Row, error) {
	var rows []measure.Row
	for _, n := range []int{1, 3} {
		r, err := benchMembers(ctx, s, n)
		if err != nil {
			return nil, fmt.Errorf("%d members: %w", n, err)
		}
		rows = append(rows, r...)
	}
	return rows, nil
}

// oneByOne is how many commands are written each after the other.
const oneByOne = 500

func benchMembers(ctx context.Context, s *settings, n int) (_ []measure.Row, err error) {
	m, err := openMembers(ctx, s.dir, n)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, m.close()) }()
	var rows []measure.Row
	name := fmt.Sprintf("registry of %d: ", n)
	add := func(what, value, note string) {
		rows = append(rows, measure.Row{What: name + what, Value: value, Note: note})
	}
	start := time.Now()
	for i := range oneByOne {
		if err := m.lead.Apply(ctx, state.AdmitAgent(agentInfo(-1-i))); err != nil {
			return nil, err
		}
	}
	took := time.Since(start)
	add("commits one by one", rate(oneByOne, took), seconds(took/oneByOne*1000)+" for a thousand")
	for _, step := range []struct {
		what string
		cmd  func(i int) *clusterdv1.Command
	}{
		{"admit", func(i int) *clusterdv1.Command { return state.AdmitAgent(agentInfo(i)) }},
		{"mark unreachable", func(i int) *clusterdv1.Command {
			return state.MarkAgentUnreachable(agentInfo(i).GetId().GetValue(), time.Now())
		}},
		{"mark reachable", func(i int) *clusterdv1.Command { return state.MarkAgentReachable(agentInfo(i)) }},
	} {
		before := m.entries.Load()
		took, err := m.together(ctx, s.registry, step.cmd)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", step.what, err)
		}
		add(fmt.Sprintf("%s %d agents", step.what, s.registry), seconds(took),
			fmt.Sprintf("%s, batched into %d entries of the log", rate(s.registry, took), m.entries.Load()-before))
	}
	if n == 1 {
		more, err := m.recover(ctx, s, n, add)
		if err != nil {
			return nil, err
		}
		add("recover from log and snapshot", seconds(more), fmt.Sprintf("%d agents, until it leads again", s.registry+oneByOne))
	}
	return rows, nil
}

// recover closes the only member and opens it again.
func (m *members) recover(ctx context.Context, s *settings, n int, add func(what, value, note string)) (time.Duration, error) {
	start := time.Now()
	if err := m.all[0].Snapshot(); err != nil {
		return 0, err
	}
	add("snapshot", seconds(time.Since(start)), "on disk")
	if err := m.close(); err != nil {
		return 0, err
	}
	snapshots, err := filepath.Glob(filepath.Join(m.dirs[0], "snapshots", "*", "state.bin"))
	if err != nil {
		return 0, err
	}
	var size int64
	for _, path := range snapshots {
		if fi, err := os.Stat(path); err == nil {
			size = max(size, fi.Size())
		}
	}
	if size > 0 {
		add("size of the snapshot", fmt.Sprintf("%.1f MB", float64(size)/1e6), fmt.Sprintf("%d bytes an agent", size/int64(s.registry+oneByOne)))
	}
	start = time.Now()
	if m.all[0], err = m.open(ctx, 0, n); err != nil {
		m.all = nil
		return 0, err
	}
	if err := m.awaitLeader(ctx); err != nil {
		return 0, err
	}
	return time.Since(start), nil
}
