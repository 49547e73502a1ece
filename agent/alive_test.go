package agent

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"clusterd/agent/checkpoint"
	"clusterd/agent/core"
)

// holdable is a store whose writes can be held up.
type holdable struct {
	checkpoint.Store
	hold *atomic.Pointer[chan struct{}]
}

func (h holdable) Write(records []core.Record) error {
	if wait := h.hold.Load(); wait != nil {
		<-*wait
	}
	return h.Store.Write(records)
}

// TestAlive: a watchdog's question is answered by the agent's loop, and not while
// a disk that is stuck holds it up.
func TestAlive(t *testing.T) {
	m := newScriptedMaster(t)
	h := newMachine(t, m)
	var hold atomic.Pointer[chan struct{}]
	a := h.start(func(o *Options) {
		o.wrapStore = func(s checkpoint.Store) checkpoint.Store { return holdable{s, &hold} }
	})
	t.Cleanup(func() { h.leave(a) })
	m.waitRegistered(1)
	if err := a.Alive(t.Context()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the agent says that it is registered", func() bool {
		return strings.HasPrefix(a.Summary(), "registered with ") && strings.HasSuffix(a.Summary(), ", 0 executors")
	})

	wait := make(chan struct{})
	hold.Store(&wait)
	m.send(runTasks(framework("M-0000"), customTask("t", "e")))
	eventually(t, "the loop is stuck", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		return errors.Is(a.Alive(ctx), context.DeadlineExceeded)
	})
	if got := a.Summary(); got != "busy" {
		t.Errorf("summary of a loop that is stuck: %q", got)
	}
	hold.Store(nil)
	close(wait)
	eventually(t, "the loop goes on with the executor", func() bool {
		return strings.HasSuffix(a.Summary(), ", 1 executor")
	})
}
