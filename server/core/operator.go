package core

import "clusterd/api/mesos/v1/master"

// operate takes a call of an operator that changes something. Each ends in exactly
// one answer, at once or when the registry has the change.
func (c *Core) operate(in Operate) {
	switch in.Call.GetType() {
	case master.Call_UPDATE_WEIGHTS:
		c.updateWeights(in)
	case master.Call_UPDATE_QUOTA:
		c.updateQuota(in)
	case master.Call_SET_QUOTA:
		c.setQuota(in)
	case master.Call_REMOVE_QUOTA:
		c.removeQuota(in)
	case master.Call_RESERVE_RESOURCES, master.Call_UNRESERVE_RESOURCES, master.Call_CREATE_VOLUMES,
		master.Call_DESTROY_VOLUMES, master.Call_GROW_VOLUME, master.Call_SHRINK_VOLUME:
		c.operateResources(in)
	case master.Call_UPDATE_MAINTENANCE_SCHEDULE:
		c.updateSchedule(in)
	case master.Call_START_MAINTENANCE:
		c.startMaintenance(in)
	case master.Call_STOP_MAINTENANCE:
		c.stopMaintenance(in)
	case master.Call_DEACTIVATE_AGENT:
		c.deactivateCall(in)
	case master.Call_REACTIVATE_AGENT:
		c.reactivateCall(in)
	case master.Call_DRAIN_AGENT:
		c.drainCall(in)
	case master.Call_MARK_AGENT_GONE:
		c.markGoneCall(in)
	case master.Call_TEARDOWN:
		c.teardownCall(in)
	default:
		c.answer(in.Request, 501, "This version of clusterd does not serve the call "+in.Call.GetType().String())
	}
}

// answer ends a request. No body means the words that belong to the status.
func (c *Core) answer(request RequestID, status int, body string) {
	c.emit(Respond{Request: request, Status: status, Body: body})
}

// refuseCall answers 400 with what is wrong.
func (c *Core) refuseCall(in Operate, err error) { c.answer(in.Request, 400, err.Error()) }

// inTurn runs f once everything that was begun earlier under the same key has
// called its done. A change that is checked against the state must wait for those
// that the registry has not committed yet.
func (c *Core) inTurn(key string, f func(done func())) {
	c.turns[key] = append(c.turns[key], f)
	if len(c.turns[key]) == 1 {
		f(func() { c.nextTurn(key) })
	}
}

func (c *Core) nextTurn(key string) {
	rest := c.turns[key][1:]
	if len(rest) == 0 {
		delete(c.turns, key)
		return
	}
	c.turns[key] = rest
	rest[0](func() { c.nextTurn(key) })
}
