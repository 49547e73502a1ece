package registry

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	mesos "clusterd/api/mesos/v1"
	"clusterd/registry/state"
)

// A register is the weight of a role. Writes that were refused because there was
// no leader did not happen; others that failed may have, at any time from then on.
type regOp struct {
	write bool
	role  string
	value float64
}

type regResult struct {
	value float64
	open  bool // nobody knows
}

var registers = porcupine.Model{
	Partition: func(history []porcupine.Operation) [][]porcupine.Operation {
		by := map[string][]porcupine.Operation{}
		for _, op := range history {
			role := op.Input.(regOp).role
			by[role] = append(by[role], op)
		}
		var parts [][]porcupine.Operation
		for _, ops := range by {
			parts = append(parts, ops)
		}
		return parts
	},
	Init: func() any { return 0.0 },
	Step: func(st, input, output any) (bool, any) {
		in, out := input.(regOp), output.(regResult)
		if in.write {
			return true, in.value
		}
		return out.open || out.value == st.(float64), st
	},
	DescribeOperation: func(input, output any) string {
		in, out := input.(regOp), output.(regResult)
		if in.write {
			return fmt.Sprintf("%s = %v (open: %v)", in.role, in.value, out.open)
		}
		return fmt.Sprintf("%s is %v", in.role, out.value)
	},
}

// client writes and reads registers at whoever leads, until the context ends.
type client struct {
	id    int
	begun time.Time
	rnd   *rand.Rand
	ops   []porcupine.Operation
}

func (c *client) run(ctx context.Context, members func() []*Registry) {
	for n := 0; ctx.Err() == nil; n++ {
		var l *Leadership
		for _, r := range members() {
			if got := r.leadership(); got != nil && (l == nil || c.rnd.IntN(2) == 0) {
				l = got // one that was deposed may still think that it leads
			}
		}
		if l == nil {
			pause(ctx, time.Millisecond)
			continue
		}
		role := fmt.Sprint("r", c.rnd.IntN(3))
		op := porcupine.Operation{ClientId: c.id, Call: time.Since(c.begun).Nanoseconds()}
		var result regResult
		switch c.rnd.IntN(3) {
		case 0:
			value := float64(c.id*1_000_000 + n + 1)
			op.Input = regOp{write: true, role: role, value: value}
			err := l.Apply(ctx, state.UpdateWeights([]*mesos.WeightInfo{{Role: &role, Weight: &value}}))
			if errors.Is(err, ErrNotLeader) {
				continue // not written
			}
			result.open = err != nil
		default:
			op.Input = regOp{role: role}
			st := l.r.State()
			if !l.Holds() { // what a master checks before it answers
				continue
			}
			for w := range st.Weights() {
				if w.GetRole() == role {
					result.value = float64(w.GetWeight())
				}
			}
		}
		op.Output = result
		op.Return = time.Since(c.begun).Nanoseconds()
		if result.open {
			op.Return = int64(time.Hour) // it may take effect yet
		}
		c.ops = append(c.ops, op)
		if result.open {
			c.id += 1000 // whoever has an operation under way does nothing else
		}
		pause(ctx, time.Duration(c.rnd.IntN(3))*time.Millisecond)
	}
}

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// TestLinearizable writes and reads under partitions in one and both directions,
// slow links, crashes, restarts and handovers, and lets porcupine look for an
// order in which it could have happened one after the other.
func TestLinearizable(t *testing.T) {
	t.Parallel() // it waits more than it works
	for _, n := range []int{3, 5} {
		t.Run(fmt.Sprint(n, " members"), func(t *testing.T) {
			seed := uint64(time.Now().UnixNano())
			t.Logf("seed %d", seed)
			rnd := rand.New(rand.NewPCG(seed, 3))
			c := newCluster(t, n, func(o *Options) { o.HeartbeatTimeout, o.SnapshotThreshold = 200*time.Millisecond, 64 })
			c.leader()
			ctx, stop := context.WithCancel(t.Context())
			defer stop()
			begun := time.Now()
			clients := make([]*client, 5)
			var wg sync.WaitGroup
			for i := range clients {
				clients[i] = &client{id: i, begun: begun, rnd: rand.New(rand.NewPCG(seed, uint64(10+i)))}
				wg.Go(func() { clients[i].run(ctx, c.running) })
			}
			torment(t, c, rnd, 7)
			c.leader()
			pause(ctx, 100*time.Millisecond)
			stop()
			wg.Wait()
			var history []porcupine.Operation
			open := 0
			for _, cl := range clients {
				history = append(history, cl.ops...)
			}
			for _, op := range history {
				if op.Output.(regResult).open {
					open++
				}
			}
			result, info := porcupine.CheckOperationsVerbose(registers, history, time.Minute)
			if result != porcupine.Ok {
				path := t.ArtifactDir() + "/history.html"
				if err := porcupine.VisualizePath(registers, info, path); err != nil {
					t.Error(err)
				}
				t.Errorf("porcupine says %s: %s", result, path)
			}
			t.Logf("%d operations, %d of them with an open end", len(history), open)
			if len(history) < 50 {
				t.Errorf("only %d operations", len(history))
			}
		})
	}
}

// torment does a number of bad things to a cluster, one after the other.
func torment(t *testing.T, c *cluster, rnd *rand.Rand, rounds int) {
	addrs := map[string]string{}
	for _, name := range c.names {
		addrs[name] = c.get(name).Self().Addr
	}
	for range rounds {
		l := c.leader()
		who := c.names[rnd.IntN(len(c.names))]
		if rnd.IntN(3) > 0 {
			who = string(l.r.id)
		}
		hurt := time.Duration(50+rnd.IntN(400)) * time.Millisecond
		switch rnd.IntN(6) {
		case 0:
			c.net.isolate(who, c.names, true)
			pause(t.Context(), hurt)
			c.net.isolate(who, c.names, false)
		case 1:
			for _, o := range c.names {
				c.net.set(o, who, true)
			}
			pause(t.Context(), hurt)
			c.net.isolate(who, c.names, false)
		case 2:
			for _, o := range c.names {
				c.net.set(who, o, true)
			}
			pause(t.Context(), hurt)
			c.net.isolate(who, c.names, false)
		case 3:
			c.net.slow(time.Duration(rnd.IntN(30)) * time.Millisecond)
			pause(t.Context(), hurt)
			c.net.slow(0)
		case 4:
			c.crash(who)
			pause(t.Context(), hurt)
			c.start(who, addrs[who])
		case 5:
			if err := l.r.TransferLeadership(t.Context(), ""); err != nil {
				t.Logf("handover: %v", err)
			}
		}
	}
}
