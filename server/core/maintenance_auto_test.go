package core

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	clusterdv1 "clusterd/api/clusterd/v1"
	mesos "clusterd/api/mesos/v1"
)

func automatic() Config {
	cfg := testConfig()
	cfg.AutomaticMaintenance = true
	cfg.AgentPingTimeout = 10000 * time.Hour // nobody answers pings here
	cfg.AllocationInterval = time.Hour
	return cfg
}

// window is a window from so long after the harness's time on; no end if long is negative.
func (h *harness) window(in, long time.Duration, machines ...string) string {
	var ids []string
	for _, m := range machines {
		ids = append(ids, machineJSON(m))
	}
	duration := ""
	if long >= 0 {
		duration = fmt.Sprintf(`,"duration":{"nanoseconds":%d}`, long)
	}
	return fmt.Sprintf(`{"machine_ids":[%s],"unavailability":{"start":{"nanoseconds":%d}%s}}`,
		strings.Join(ids, ","), h.now.Add(in).UnixNano(), duration)
}

func (h *harness) wantMachines(want string) {
	h.t.Helper()
	if got := h.machines(); got != want {
		h.t.Fatalf("the machines are %q, want %q", got, want)
	}
}

func (h *harness) wantAgents(want int) {
	h.t.Helper()
	if got := h.core.View().Agents.Len(); got != want {
		h.t.Fatalf("%d agents are registered, want %d", got, want)
	}
}

func TestAutomaticMaintenance(t *testing.T) {
	h := newHarness(t, automatic(), Recovered{})
	h.register(1, registerMessage("", "a1", "cpus:4"))
	h.register(2, registerMessage("", "a2", "cpus:4"))
	h.register(3, registerMessage("", "a3", "cpus:4"))
	h.wantAnswer(scheduleCall(
		h.window(time.Hour, 30*time.Minute, "a1 10.0.0.1"), h.window(90*time.Minute, time.Hour, "a2 10.0.0.2"),
		h.window(time.Hour, -1, "a3 10.0.0.3"),
	), 200, "")
	h.advance(time.Hour - time.Nanosecond)
	h.wantMachines("a1 (10.0.0.1) DRAINING, a2 (10.0.0.2) DRAINING, a3 (10.0.0.3) DRAINING")
	h.wantAgents(3)
	h.advance(time.Nanosecond)
	h.wantMachines("a1 (10.0.0.1) DOWN, a2 (10.0.0.2) DRAINING, a3 (10.0.0.3) DOWN")
	h.wantAgents(1)
	if n := h.countTold(1, func(m *clusterdv1.MasterMessage) bool { return m.GetRefused().GetShutdown() }); n != 1 {
		t.Errorf("the agent was told to end %d times, want once", n)
	}
	// One goes up in the same moment as another goes down: one write.
	before := len(h.log)
	h.advance(30 * time.Minute)
	h.wantMachines("a2 (10.0.0.2) DOWN, a3 (10.0.0.3) DOWN")
	modes := 0
	for _, c := range h.log[before:] {
		if c.GetKind() == clusterdv1.Command_SET_MACHINE_MODE {
			modes++
		}
	}
	if modes != 2 || !h.log[before+1].GetWithPrevious() {
		t.Errorf("%d commands change modes, the second together with the first: %t", modes, h.log[before+1].GetWithPrevious())
	}
	// The machine that is up may have its agent again.
	if id := h.register(4, registerMessage("", "a1", "cpus:4")); id == "" {
		t.Error("an agent may not register on a machine that came up")
	}
	// The last has no end.
	h.advance(1000 * time.Hour)
	h.wantMachines("a3 (10.0.0.3) DOWN")
	if n := len(h.core.View().Schedule.Windows); n != 1 {
		t.Errorf("the schedule has %d windows, want 1", n)
	}
}

// TestMaintenanceIsManual: without the flag nothing goes by itself, and what is over may
// be scheduled.
func TestMaintenanceIsManual(t *testing.T) {
	cfg := automatic()
	cfg.AutomaticMaintenance = false
	h := newHarness(t, cfg, Recovered{})
	h.wantAnswer(scheduleCall(h.window(-2*time.Hour, time.Hour, "a1 10.0.0.1"), h.window(time.Hour, time.Hour, "a2 10.0.0.2")), 200, "")
	h.advance(10 * time.Hour)
	h.wantMachines("a1 (10.0.0.1) DRAINING, a2 (10.0.0.2) DRAINING")
}

func TestAutomaticMaintenanceAtOnce(t *testing.T) {
	h := newHarness(t, automatic(), Recovered{})
	h.register(1, registerMessage("", "a1", "cpus:4"))
	h.wantAnswer(scheduleCall(h.window(-time.Hour, 2*time.Hour, "a1 10.0.0.1")), 200, "")
	h.wantMachines("a1 (10.0.0.1) DOWN")
	h.wantAgents(0)
	h.wantAnswer(scheduleCall(h.window(-time.Hour, 2*time.Hour, "a1 10.0.0.1"), h.window(-2*time.Hour, 2*time.Hour, "a2 10.0.0.2")), 400,
		`Unavailability of machine '{"hostname":"a2","ip":"10.0.0.2"}' is over already; with --automatic_maintenance it would end at once`)
	h.wantMachines("a1 (10.0.0.1) DOWN")
	// A new schedule moves the end.
	h.wantAnswer(scheduleCall(h.window(-time.Hour, 5*time.Hour, "a1 10.0.0.1")), 200, "")
	h.advance(4*time.Hour - time.Second)
	h.wantMachines("a1 (10.0.0.1) DOWN")
	h.advance(time.Second)
	h.wantMachines("")
}

// TestAutomaticMaintenanceAndOperators: what operators do by hand counts.
func TestAutomaticMaintenanceAndOperators(t *testing.T) {
	const a1 = "a1 10.0.0.1"
	t.Run("down early", func(t *testing.T) {
		h := newHarness(t, automatic(), Recovered{})
		h.wantAnswer(scheduleCall(h.window(time.Hour, time.Hour, a1)), 200, "")
		h.wantAnswer(machinesCall("START_MAINTENANCE", a1), 200, "")
		h.advance(time.Hour + time.Minute)
		h.wantMachines("a1 (10.0.0.1) DOWN")
		h.advance(time.Hour)
		h.wantMachines("")
	})
	t.Run("up early", func(t *testing.T) {
		h := newHarness(t, automatic(), Recovered{})
		h.wantAnswer(scheduleCall(h.window(time.Hour, time.Hour, a1)), 200, "")
		h.advance(time.Hour)
		h.wantAnswer(machinesCall("STOP_MAINTENANCE", a1), 200, "")
		h.wantMachines("")
		h.register(1, registerMessage("", "a1", "cpus:4"))
		h.advance(10 * time.Hour)
		h.wantMachines("")
		h.wantAgents(1)
	})
	t.Run("called off", func(t *testing.T) {
		h := newHarness(t, automatic(), Recovered{})
		h.wantAnswer(scheduleCall(h.window(time.Hour, time.Hour, a1)), 200, "")
		h.wantAnswer(scheduleCall(), 200, "")
		before := len(h.log)
		h.advance(10 * time.Hour)
		if n := len(h.log) - before; n != 0 {
			t.Errorf("%d commands follow a schedule that was called off", n)
		}
	})
	t.Run("while a call is under way", func(t *testing.T) {
		h := newHarness(t, automatic(), Recovered{})
		h.wantAnswer(scheduleCall(h.window(time.Hour, time.Hour, a1)), 200, "")
		h.hold = true
		h.operate(scheduleCall()) // not committed when the time comes
		h.advance(90 * time.Minute)
		h.hold = false
		h.commit()
		h.advance(time.Hour)
		h.wantMachines("")
		for _, c := range h.log {
			if c.GetKind() == clusterdv1.Command_SET_MACHINE_MODE {
				t.Error("a machine went down whose maintenance was called off")
			}
		}
	})
	t.Run("both at once", func(t *testing.T) {
		h := newHarness(t, automatic(), Recovered{})
		h.wantAnswer(scheduleCall(h.window(time.Hour, time.Hour, a1)), 200, "")
		h.hold = true
		h.advance(time.Hour) // it goes down by itself, and is not written yet
		h.operate(machinesCall("START_MAINTENANCE", a1))
		h.hold = false
		h.commit()
		h.wantMachines("a1 (10.0.0.1) DOWN")
		if a := h.answers[h.request]; a.Status != 400 || !strings.Contains(a.Body, "is not in DRAINING mode") {
			t.Errorf("START_MAINTENANCE of a machine that is down is answered %v", a)
		}
	})
}

// TestAutomaticMaintenanceAfterFailover: a new leader goes on where the last one was.
func TestAutomaticMaintenanceAfterFailover(t *testing.T) {
	start := func(t *testing.T) *harness {
		h := newHarness(t, automatic(), Recovered{})
		h.wantAnswer(scheduleCall(h.window(time.Hour, time.Hour, "a1 10.0.0.1")), 200, "")
		return h
	}
	for _, one := range []struct {
		name            string
		first, between  time.Duration // that the first leads, and that nobody does
		want, wantLater string
	}{
		{"before it begins", time.Minute, 0, "a1 (10.0.0.1) DRAINING", "a1 (10.0.0.1) DOWN"},
		{"it begins while nobody leads", time.Minute, 70 * time.Minute, "a1 (10.0.0.1) DOWN", "a1 (10.0.0.1) DOWN"},
		{"while it is down", 70 * time.Minute, 0, "a1 (10.0.0.1) DOWN", "a1 (10.0.0.1) DOWN"},
		{"it ends while nobody leads", 70 * time.Minute, time.Hour, "", ""},
		{"all of it while nobody leads", time.Minute, 3 * time.Hour, "", ""},
	} {
		t.Run(one.name, func(t *testing.T) {
			h := start(t)
			h.advance(one.first)
			h.now = h.now.Add(one.between)
			next := h.failover(automatic())
			next.advance(0)
			next.wantMachines(one.want)
			next.advance(max(0, 80*time.Minute-one.first-one.between))
			next.wantMachines(one.wantLater)
			next.advance(3 * time.Hour)
			next.wantMachines("")
		})
	}
	t.Run("killed before it acts", func(t *testing.T) {
		h := start(t)
		h.hold = true // the registry takes the machine down, the core never hears
		h.advance(time.Hour)
		next := h.failover(automatic())
		next.wantMachines("a1 (10.0.0.1) DOWN")
		next.register(1, registerMessage("", "a1", "cpus:4"))
		next.wantAgents(0)
		next.advance(time.Hour)
		next.wantMachines("")
	})
	t.Run("leadership lost while it is written", func(t *testing.T) {
		h := start(t)
		h.hold = true
		h.advance(time.Hour)
		h.feed(Committed{Proposal: h.waiting[0], Err: errors.New("no longer the leader")})
		if !h.core.stopped {
			t.Error("the core goes on")
		}
	})
}

// TestAutomaticMaintenanceFollowsTheWallClock: the time that counts is what the clock says,
// also when it was set.
func TestAutomaticMaintenanceFollowsTheWallClock(t *testing.T) {
	h := newHarness(t, automatic(), Recovered{})
	h.now = time.Now() // with the reading of the clock that nobody sets
	h.feed(Tick{})
	h.wantAnswer(scheduleCall(h.window(10*time.Hour, time.Hour, "a1 10.0.0.1")), 200, "")
	h.advance(time.Minute)
	h.wantMachines("a1 (10.0.0.1) DRAINING")
	if wake, _ := h.core.NextWake(); wake.Sub(h.now) > maintenanceLook {
		t.Errorf("the core wants to be woken in %v: whoever sets the clock would not be noticed", wake.Sub(h.now))
	}
	// Set forward by 11 hours less 2 minutes, as a new reading shows it.
	h.now = time.Unix(0, h.now.Add(11*time.Hour-2*time.Minute).UnixNano())
	h.feed(Tick{})
	h.wantMachines("a1 (10.0.0.1) DOWN")
}

// TestUnavailabilityNeverOverflows: numbers come from operators.
func TestUnavailabilityNeverOverflows(t *testing.T) {
	h := newHarness(t, automatic(), Recovered{})
	huge := fmt.Sprintf(`{"machine_ids":[{"hostname":"a1"}],"unavailability":{"start":{"nanoseconds":%d},"duration":{"nanoseconds":%d}}}`,
		h.now.UnixNano(), int64(math.MaxInt64))
	h.wantAnswer(scheduleCall(huge), 200, "")
	h.wantMachines("a1 DOWN")
	h.advance(1000 * time.Hour)
	h.wantMachines("a1 DOWN")

	h = newHarness(t, automatic(), Recovered{})
	h.wantAnswer(scheduleCall(`{"machine_ids":[{"hostname":"a1"}],"unavailability":{"start":{"nanoseconds":-9223372036854775808}}}`,
		`{"machine_ids":[{"hostname":"a2"}],"unavailability":{"start":{"nanoseconds":9223372036854775807},"duration":{"nanoseconds":1}}}`), 200, "")
	h.wantMachines("a1 DOWN, a2 DRAINING")
	if _, ok := ends(&mesos.Unavailability{Start: &mesos.TimeInfo{Nanoseconds: new(int64(math.MaxInt64))}, Duration: &mesos.DurationInfo{Nanoseconds: new(int64(1))}}); ok {
		t.Error("what begins at the end of time has an end")
	}
}
