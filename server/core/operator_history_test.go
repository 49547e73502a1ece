package core

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"pgregory.net/rapid"

	clusterdv1 "clusterd/api/clusterd/v1"
	mesos "clusterd/api/mesos/v1"
	"clusterd/api/mesos/v1/master"
	"clusterd/api/mesos/v1/scheduler"
	"clusterd/api/mesosjson"
)

// living counts the agents that may still come back.
func (w *world) living() int {
	n := 0
	for _, a := range w.agents {
		if !a.dead {
			n++
		}
	}
	return n
}

// die is the end of an agent that was told to end: nothing of it is left.
func (a *fakeAgent) die() {
	a.dead = true
	a.tasks, a.executors = map[string]*fakeTask{}, map[string]*clusterdv1.AgentExecutor{}
}

// operate makes a call of an operator; the answer may come later.
func (w *world) operate(text string) {
	call := new(master.Call)
	if err := mesosjson.Unmarshal([]byte(text), call); err != nil {
		panic(fmt.Sprintf("%s: %v", text, err))
	}
	w.h.request++
	w.operated = append(w.operated, w.h.request)
	w.h.feed(Operate{Request: w.h.request, Call: call})
}

// operator lets an operator do something.
func (w *world) operator(t *rapid.T) {
	a := w.agents[rapid.IntRange(0, len(w.agents)-1).Draw(t, "agent of the operator")]
	role := rapid.SampledFrom([]string{"eng", "ops", "ops/web"}).Draw(t, "role")
	switch rapid.IntRange(0, 3).Draw(t, "what the operator does") {
	case 0:
		w.operateResources(t, a, role)
	case 1:
		w.operateMachines(t)
	case 2:
		w.operateAgent(t, a)
	case 3:
		w.operateRoles(t, role)
	}
}

func (w *world) operateResources(t *rapid.T, a *fakeAgent, role string) {
	volume := func(value string, roles ...string) string {
		return diskJSON(fmt.Sprintf("v%d", rapid.IntRange(0, 3).Draw(t, "volume")), value, roles...)
	}
	resize := func(kind, volume, with string) string {
		return agentCall(kind, a.id, `"volume":`+volume, with)
	}
	switch rapid.IntRange(0, 7).Draw(t, "operation") {
	case 0:
		w.operate(resourcesCall("RESERVE_RESOURCES", a.id, reservedJSON("disk", "10", role), reservedJSON("cpus", "1", role)))
	case 1:
		w.operate(resourcesCall("RESERVE_RESOURCES", a.id, reservedJSON("cpus", "6", role)))
	case 2:
		w.operate(resourcesCall("UNRESERVE_RESOURCES", a.id, reservedJSON("cpus", "1", role), reservedJSON("disk", "10", role)))
	case 3:
		w.operate(resourcesCall("CREATE_VOLUMES", a.id, volume("10", role)))
	case 4:
		w.operate(resourcesCall("DESTROY_VOLUMES", a.id, volume("10", role)))
	case 5:
		w.operate(resize("GROW_VOLUME", volume("10", role), `"addition":`+reservedJSON("disk", "10", role)))
	case 6:
		w.operate(resize("SHRINK_VOLUME", volume("20", role), `"subtract":{"value":10}`))
	case 7:
		kind := volume
		if rapid.Bool().Draw(t, "plain") {
			kind = func(value string, roles ...string) string { return reservedJSON("cpus", "1", roles...) }
		}
		source := kind("10", role)
		target := strings.ReplaceAll(source, `"role":"`+role+`"`, `"role":"web"`)
		w.operate(agentCall("RESERVE_RESOURCES", a.id, `"source":[`+source+`]`, `"resources":[`+target+`]`))
	}
}

func (w *world) operateMachines(t *rapid.T) {
	var some []string
	choose := func(all []string) {
		for _, m := range all {
			if rapid.IntRange(0, 2).Draw(t, "machine") == 0 {
				some = append(some, m)
			}
		}
	}
	in := func(mode mesos.MachineInfo_Mode) (out []string) {
		for m := range w.h.core.View().Machines.Values() {
			if m.GetMode() == mode {
				out = append(out, m.Id.GetHostname()+" "+m.Id.GetIp())
			}
		}
		return out
	}
	switch rapid.IntRange(0, 4).Draw(t, "maintenance") {
	case 0, 1:
		some = in(mesos.MachineInfo_DOWN) // which may not leave
		for i := range w.hosts {
			if m := fmt.Sprintf("a%d 10.0.0.%d", i+1, i+1); !slices.Contains(some, m) {
				choose([]string{m})
			}
		}
		if len(some) == 0 {
			w.operate(scheduleCall())
			return
		}
		w.operate(scheduleCall(w.window(t, some...)))
	case 2:
		w.operate(scheduleCall())
	case 3:
		choose(in(mesos.MachineInfo_DRAINING))
		w.operate(machinesCall("START_MAINTENANCE", some...))
	case 4:
		choose(in(mesos.MachineInfo_DOWN))
		w.operate(machinesCall("STOP_MAINTENANCE", some...))
	}
}

func (w *world) window(t *rapid.T, machines ...string) string {
	if !w.automatic {
		return windowJSON(rapid.IntRange(1, 2).Draw(t, "start"), machines...)
	}
	seconds := func(what string, from ...int) time.Duration {
		return time.Duration(rapid.SampledFrom(from).Draw(t, what)) * time.Second
	}
	return w.h.window(seconds("start", -20, 0, 5, 60), seconds("duration", -1, 10, 30, 200), machines...)
}

func (w *world) operateAgent(t *rapid.T, a *fakeAgent) {
	switch rapid.IntRange(0, 10).Draw(t, "agent call") {
	case 0, 1:
		w.operate(agentCall("DEACTIVATE_AGENT", a.id))
	case 2, 3, 4:
		w.operate(agentCall("REACTIVATE_AGENT", a.id))
	case 5, 6:
		w.operate(agentCall("DRAIN_AGENT", a.id))
	case 7:
		w.operate(agentCall("DRAIN_AGENT", a.id, `"mark_gone":true`))
	case 8:
		w.operate(agentCall("MARK_AGENT_GONE", a.id))
	case 9, 10:
		w.h.request++
		w.operated = append(w.operated, w.h.request)
		w.h.feed(CancelDrain{Request: w.h.request, AgentID: a.id})
	}
}

func (w *world) operateRoles(t *rapid.T, role string) {
	switch rapid.IntRange(0, 3).Draw(t, "role call") {
	case 0:
		w.operate(fmt.Sprintf(`{"type":"UPDATE_WEIGHTS","update_weights":{"weight_infos":[{"role":%q,"weight":%d}]}}`,
			role, rapid.IntRange(1, 3).Draw(t, "weight")))
	case 1:
		w.operate(quotaJSON(true, role+" - -"))
	case 2:
		w.operate(quotaJSON(true, fmt.Sprintf("%s - cpus=%d", role, rapid.IntRange(0, 9).Draw(t, "limit"))))
	case 3:
		w.operate(quotaJSON(true, fmt.Sprintf("%s cpus=%d -", role, rapid.IntRange(0, 9).Draw(t, "guarantee"))))
	}
}

// answerInverse lets a framework answer an inverse offer.
func (w *world) answerInverse(t *rapid.T) {
	f, ok := pick(t, "framework", w.frameworks, func(f *fakeFramework) bool { return f.stream != "" && len(w.h.inverseOffers(f.stream)) > 0 })
	if !ok {
		return
	}
	open := w.h.inverseOffers(f.stream)
	ids := []*mesos.OfferID{open[rapid.IntRange(0, len(open)-1).Draw(t, "inverse offer")].Id}
	if rapid.Bool().Draw(t, "accepts") {
		f.call(&scheduler.Call{
			Type:                scheduler.Call_ACCEPT_INVERSE_OFFERS.Enum(),
			AcceptInverseOffers: &scheduler.Call_AcceptInverseOffers{InverseOfferIds: ids},
		})
		return
	}
	f.call(&scheduler.Call{
		Type:                 scheduler.Call_DECLINE_INVERSE_OFFERS.Enum(),
		DeclineInverseOffers: &scheduler.Call_DeclineInverseOffers{InverseOfferIds: ids},
	})
}

// auditOperators looks for offers that should not be, and for what is remembered in
// vain.
func (c *Core) auditOperators() error {
	var problems []error
	fail := func(format string, args ...any) { problems = append(problems, fmt.Errorf(format, args...)) }
	for id, o := range c.inverse {
		if o.ag.unavailability == nil || !o.ag.active || !o.fw.active || c.agent(o.AgentID) != o.ag || c.framework(o.FrameworkID) != o.fw {
			fail("inverse offer %s is of an agent or a framework that should have none", id)
		}
	}
	c.agents.Scan(func(id string, ag *agent) bool {
		w := c.wills[id]
		m := c.machineOf(ag)
		switch {
		case ag.active && (w.deactivated || w.drain != nil || !ag.connected):
			fail("agent %s is active, though operators want %+v and it is connected: %t", id, w, ag.connected)
		case !ag.active && ag.connected && w == (will{}):
			fail("agent %s is connected and not active, for no reason", id)
		case ag.drain != w.drain || ag.deactivated != (w.deactivated || w.drain != nil):
			fail("agent %s does not heed that operators want %+v", id, w)
		case m.GetMode() == mesos.MachineInfo_DOWN && c.busy[id] == settled:
			fail("agent %s is there though its machine is down", id)
		case m.GetUnavailability() != ag.unavailability && !slices.Equal([]byte(jsonText(m.GetUnavailability())), []byte(jsonText(ag.unavailability))):
			fail("agent %s is unavailable at %v, its machine at %v", id, ag.unavailability, m.GetUnavailability())
		}
		return true
	})
	for id := range c.wills {
		if _, admitting := c.queued[id]; !admitting && !c.known(id) && !c.pruning[id] {
			fail("what operators want of agent %s is remembered, though it is not known", id)
		}
	}
	for id := range c.waiting {
		if c.busy[id] == settled {
			fail("something waits for agent %s, with which nothing happens", id)
		}
	}
	wake, armed := c.timers.next()
	if down, up := c.dueMachines(); c.cfg.AutomaticMaintenance && len(c.turns[maintenanceKey]) == 0 && len(down)+len(up) > 0 &&
		(!armed || wake.After(c.now)) { // a new master that has not had its first Tick
		fail("machines %v should be down and %v up by now", down, up)
	}
	for id := range c.cancelling {
		if len(c.queued[id]) == 0 {
			fail("a drain of agent %s is being cancelled, and nothing is proposed", id)
		}
	}
	if len(c.drainChecks) > 0 {
		fail("agents wait to be looked at: %v", sortedKeys(c.drainChecks))
	}
	return errors.Join(problems...)
}

// checkOperators looks at what must be so once the registry is idle: all calls have
// been answered, and agents without tasks are drained.
func (w *world) checkOperators(t *rapid.T) {
	for _, id := range w.operated {
		if w.h.answers[id].Status == 0 {
			t.Fatalf("request %d of an operator is not answered", id)
		}
	}
	w.h.core.agents.Scan(func(id string, ag *agent) bool {
		if ag.connected && ag.drain.GetState() == mesos.DrainState_DRAINING && len(ag.cells) == 0 && ag.operations.Len() == 0 {
			t.Fatalf("agent %s drains, and nothing is left on it", id)
		}
		return true
	})
}
