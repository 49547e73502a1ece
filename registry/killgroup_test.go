package registry

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"clusterd/registry/state"
)

// What the test binary is to be as a child.
const (
	childOf      = "CLUSTERD_TEST_REGISTRY_GROUP"   // name=addr of all members, the child's own first
	childRestore = "CLUSTERD_TEST_REGISTRY_RESTORE" // a directory
)

// groupChild is a member of a group that founds it, admits agents while it leads,
// and takes snapshots, until it is killed.
func groupChild(dir, group string) {
	fail := func(err error) {
		fmt.Println("failed", err)
		os.Exit(1)
	}
	var members []Member
	for pair := range strings.SplitSeq(group, ",") {
		name, addr, _ := strings.Cut(pair, "=")
		members = append(members, Member{ID: name, Addr: addr, Voter: true})
	}
	self := members[0]
	r, err := Open(context.Background(), Options{
		Dir: dir, ServerID: self.ID, MasterInfo: masterInfo(self.ID), BuildVersion: "test", BindAddr: self.Addr,
		HeartbeatTimeout: 400 * time.Millisecond, SnapshotThreshold: 32, Logger: zerolog.Nop(),
	})
	if err != nil {
		fail(err)
	}
	if self.ID == "m0" {
		if err := r.Bootstrap(members); err != nil {
			fail(err)
		}
	}
	fmt.Println("started", self.ID)
	go func() { // followers take snapshots too
		for i := 0; ; i++ {
			time.Sleep(20 * time.Millisecond)
			_ = r.Snapshot() // nothing new is fine
		}
	}()
	for {
		l, err := r.AwaitLeadership(context.Background())
		if err != nil {
			fail(err)
		}
		fmt.Println("cluster", l.State().ClusterID())
		for i := 0; l.Context().Err() == nil; i++ {
			id := fmt.Sprintf("e%d-%06d", l.Epoch(), i)
			if err := l.Apply(context.Background(), state.AdmitAgent(agentInfo(id))); err == nil {
				fmt.Println("admitted", id)
			}
		}
	}
}

// group is processes that are killed and started again.
type group struct {
	t     *testing.T
	addrs []string
	dirs  []string

	mu sync.Mutex
	// mu guards what follows.
	acked    map[string]bool
	clusters map[string]bool
	leader   int // who admitted last
	cmds     []*exec.Cmd
	wg       sync.WaitGroup
}

func newGroup(t *testing.T) *group {
	g := &group{t: t, acked: map[string]bool{}, clusters: map[string]bool{}, cmds: make([]*exec.Cmd, 3)}
	for range g.cmds {
		g.addrs = append(g.addrs, address(t))
		g.dirs = append(g.dirs, t.TempDir())
	}
	t.Cleanup(func() {
		for i := range g.cmds {
			g.kill(i)
		}
		g.wg.Wait()
	})
	return g
}

func (g *group) start(i int) {
	g.t.Helper()
	var all []string
	for k := range g.addrs {
		at := (i + k) % len(g.addrs)
		all = append(all, fmt.Sprintf("m%d=%s", at, g.addrs[at]))
	}
	cmd := exec.Command(os.Args[0], "-test.run=^$")
	cmd.Env = append(os.Environ(), childDir+"="+g.dirs[i], childOf+"="+strings.Join(all, ","))
	out, err := cmd.StdoutPipe()
	if err != nil {
		g.t.Fatal(err)
	}
	if _, err := cmd.StdinPipe(); err != nil {
		g.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		g.t.Fatal(err)
	}
	g.cmds[i] = cmd
	g.wg.Go(func() {
		for sc := bufio.NewScanner(out); sc.Scan(); {
			kind, what, _ := strings.Cut(sc.Text(), " ")
			g.mu.Lock()
			switch kind {
			case "admitted":
				g.acked[what] = true
				g.leader = i
			case "cluster":
				g.clusters[what] = true
			case "failed":
				g.t.Errorf("m%d: %s", i, what)
			}
			g.mu.Unlock()
		}
		_ = cmd.Wait() // killed
	})
}

func (g *group) kill(i int) {
	if g.cmds[i] != nil {
		_ = g.cmds[i].Process.Kill() // already dead is fine
	}
}

func (g *group) admitted() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.acked)
}

// TestKill9OfAGroup kills members of three, while they found the cluster, take
// snapshots and elect, and looks for what was acknowledged.
func TestKill9OfAGroup(t *testing.T) {
	t.Parallel() // it waits more than it works
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 4))
	g := newGroup(t)
	for i := range g.cmds {
		g.start(i)
	}
	// The founder is killed while it founds, each time a little later.
	for round := range 5 {
		pause(t.Context(), time.Duration(20+60*round+rnd.IntN(60))*time.Millisecond)
		g.kill(0)
		g.restart(0)
	}
	poll(t, func() bool { return g.admitted() > 20 })
	for range 5 {
		before := g.admitted()
		g.mu.Lock()
		who := g.leader
		g.mu.Unlock()
		if rnd.IntN(3) == 0 {
			who = rnd.IntN(3)
		}
		g.kill(who)
		pause(t.Context(), time.Duration(rnd.IntN(100))*time.Millisecond)
		g.restart(who)
		poll(t, func() bool { return g.admitted() > before+10 })
	}
	for i := range g.cmds { // the lights go out
		g.kill(i)
	}
	g.wg.Wait()
	if len(g.clusters) != 1 {
		t.Errorf("there were clusters %v", g.clusters)
	}
	found := 0
	for i, dir := range g.dirs {
		in, err := InspectDir(dir)
		if err != nil {
			t.Errorf("m%d: %v", i, err)
			continue
		}
		found = max(found, in.State.AgentCount())
		if err := in.Close(); err != nil {
			t.Error(err)
		}
	}
	// A majority is enough.
	dead := rnd.IntN(3)
	for i := range g.cmds {
		if i != dead {
			g.start(i)
		}
	}
	before := g.admitted()
	poll(t, func() bool { return g.admitted() > before })
	for i := range g.cmds {
		g.kill(i)
	}
	g.wg.Wait()
	lost := map[string]bool{}
	for id := range g.acked {
		lost[id] = true
	}
	for i, dir := range g.dirs {
		if i == dead {
			continue
		}
		in := inspectT(t, dir)
		for a := range in.State.Agents() {
			delete(lost, a.AgentInfo.GetId().GetValue())
		}
	}
	if len(lost) > 0 {
		t.Errorf("of %d agents that were acknowledged %d are lost", len(g.acked), len(lost))
	}
	t.Logf("%d acknowledged, %d found before the last start", len(g.acked), found)
}

// restart starts a member that was killed, once its files are free.
func (g *group) restart(i int) {
	cmd := g.cmds[i]
	poll(g.t, func() bool {
		_, err := os.Stat(fmt.Sprintf("/proc/%d", cmd.Process.Pid))
		return err != nil
	})
	g.start(i)
}

// restoreChild restores one of two snapshots after the other until it is killed.
func restoreChild(dir string) {
	fail := func(err error) {
		fmt.Println("failed", err)
		os.Exit(1)
	}
	r, err := Open(context.Background(), single(filepath.Join(dir, "raft")))
	if err != nil {
		fail(err)
	}
	if _, err := r.AwaitLeadership(context.Background()); err != nil {
		fail(err)
	}
	for i := 0; ; i++ {
		name := []string{"a", "b"}[i%2]
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			fail(err)
		}
		l, err := r.AwaitLeadership(context.Background())
		if err != nil {
			fail(err)
		}
		if err := r.Restore(l.Context(), bytes.NewReader(b), true); err != nil {
			fail(err)
		}
		fmt.Println("restored", name)
	}
}

// TestKill9DuringRestore kills a master that restores: what is there then is one
// snapshot or the other, as a whole.
func TestKill9DuringRestore(t *testing.T) {
	t.Parallel() // it waits more than it works
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 5))
	dir := t.TempDir()
	for _, name := range []string{"a", "b"} {
		r := openT(t, single(""))
		l := leadT(t, r)
		for i := range 300 {
			applyT(t, l, state.AdmitAgent(agentInfo(fmt.Sprint(name, i))))
		}
		if err := os.WriteFile(filepath.Join(dir, name), saveT(t, r), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	epoch := uint64(0)
	restored := 0
	for range 5 {
		cmd := exec.Command(os.Args[0], "-test.run=^$")
		cmd.Env = append(os.Environ(), childDir+"="+dir, childRestore+"=1")
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := cmd.StdinPipe(); err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		after := 1 + rnd.IntN(6)
		n := 0
		for sc := bufio.NewScanner(out); sc.Scan(); {
			if strings.HasPrefix(sc.Text(), "failed") {
				t.Error(sc.Text())
			}
			if n++; n == after {
				time.AfterFunc(time.Duration(rnd.IntN(30))*time.Millisecond, func() { _ = cmd.Process.Kill() })
			}
		}
		_ = cmd.Wait() // killed
		restored += n
		in, err := InspectDir(filepath.Join(dir, "raft"))
		if err != nil {
			t.Fatal(err)
		}
		a, b := 0, 0
		for agent := range in.State.Agents() {
			if strings.HasPrefix(agent.AgentInfo.GetId().GetValue(), "a") {
				a++
			} else {
				b++
			}
		}
		if a+b != 300 || a > 0 && b > 0 {
			t.Errorf("%d agents of one snapshot and %d of the other", a, b)
		}
		if in.State.Epoch() <= epoch {
			t.Errorf("epoch %d after %d", in.State.Epoch(), epoch)
		}
		epoch = in.State.Epoch()
		if err := in.Close(); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d restores, epoch %d", restored, epoch)
}
