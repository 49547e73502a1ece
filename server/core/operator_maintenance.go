package core

import (
	"fmt"
	"net/netip"
	"strings"

	"google.golang.org/protobuf/proto"

	clusterdv1 "clusterd/api/clusterd/v1"
	mesos "clusterd/api/mesos/v1"
	"clusterd/api/mesos/v1/maintenance"
	"clusterd/api/mesosjson"
	"clusterd/internal/authz"
)

// maintenanceKey is the turn of changes of the maintenance schedule.
const maintenanceKey = "maintenance"

// MachineKey is the key of a machine in View.Machines. It makes equal those that are the
// same: hostnames are compared without case, and both must be given
// (include/mesos/type_utils.hpp).
func MachineKey(hostname, ip string) string { return strings.ToLower(hostname) + "\x00" + ip }

func keyOf(id *mesos.MachineID) string { return MachineKey(id.GetHostname(), id.GetIp()) }

// machineOf is the machine of an agent; nil if it is simply up.
func (c *Core) machineOf(ag *agent) *mesos.MachineInfo {
	m, _ := c.machines.Get(MachineKey(ag.info.GetHostname(), ag.ip))
	return m
}

// recoverMaintenance takes the schedule over from the registry.
func (c *Core) recoverMaintenance(rec Recovered) {
	c.windows = rec.Schedule.GetWindows()
	for _, m := range rec.Machines {
		c.machines.Set(keyOf(m.GetId()), m)
	}
	c.armMaintenance()
}

// updateSchedule replaces the schedule of maintenance (src/master/http.cpp,
// Master::Http::_updateMaintenanceSchedule).
func (c *Core) updateSchedule(in Operate) {
	schedule := in.Call.GetUpdateMaintenanceSchedule().GetSchedule()
	c.inTurn(maintenanceKey, func(done func()) {
		err := c.validateSchedule(schedule)
		if err == nil {
			err = c.validateTimes(schedule)
		}
		if err != nil {
			c.refuseCall(in, err)
			done()
			return
		}
		// Mesos asks once for each machine, and so nobody who empties the schedule.
		if !c.permits(in.Principal, authz.UpdateMaintenanceSchedules, "") {
			c.forbid(in)
			done()
			return
		}
		c.propose(maintenanceKey, func() {
			c.schedule(schedule)
			c.log(Info, "maintenance_scheduled", "machines", fmt.Sprint(c.machines.Len()))
			c.answer(in.Request, 200, "")
			done()
		}, command(clusterdv1.Command_UPDATE_MAINTENANCE_SCHEDULE, &clusterdv1.UpdateMaintenanceSchedule{Schedule: schedule}))
	})
}

// validateSchedule checks a new schedule: machines may begin and stop to drain by it,
// one that is down must stay in it (src/master/maintenance.cpp).
func (c *Core) validateSchedule(s *maintenance.Schedule) error {
	scheduled := map[string]bool{}
	for _, w := range s.GetWindows() {
		if len(w.GetMachineIds()) == 0 {
			return invalidf("List of machines in the maintenance window is empty")
		}
		if w.GetUnavailability().GetDuration().GetNanoseconds() < 0 {
			return invalidf("Unavailability 'duration' is negative")
		}
		if err := distinctMachines(w.GetMachineIds(), scheduled); err != nil {
			return err
		}
	}
	var problem error
	c.machines.Scan(func(key string, m *mesos.MachineInfo) bool {
		if m.GetMode() == mesos.MachineInfo_DOWN && !scheduled[key] {
			problem = invalidf("Machine '%s' is deactivated and cannot be removed from the schedule", machineText(m.GetId()))
		}
		return problem == nil
	})
	return problem
}

// distinctMachines checks the ids of machines and adds them to seen.
func distinctMachines(ids []*mesos.MachineID, seen map[string]bool) error {
	for _, id := range ids {
		if id.GetHostname() == "" && id.GetIp() == "" {
			return invalidf("Both 'hostname' and 'ip' for a machine are empty")
		}
		if id.GetIp() != "" {
			// Mesos knows IPv4 alone.
			if _, err := netip.ParseAddr(id.GetIp()); err != nil {
				return invalidf("Failed to parse IPv4: %s", id.GetIp())
			}
		}
		if seen[keyOf(id)] {
			return invalidf("Machine '%s' appears more than once in the schedule", machineText(id))
		}
		seen[keyOf(id)] = true
	}
	return nil
}

func machineText(id *mesos.MachineID) string {
	b, err := mesosjson.Marshal(id)
	if err != nil {
		return machineName(id) // it has no required members, so that this cannot be
	}
	return string(b)
}

// machineName is how Mesos prints a machine (src/common/type_utils.cpp).
func machineName(id *mesos.MachineID) string {
	switch {
	case id.Hostname != nil && id.Ip != nil:
		return id.GetHostname() + " (" + id.GetIp() + ")"
	case id.Hostname != nil:
		return id.GetHostname()
	}
	return "(" + id.GetIp() + ")"
}

// schedule does what the registry has done (registry/state, updateMaintenanceSchedule),
// and lets frameworks know.
func (c *Core) schedule(s *maintenance.Schedule) {
	scheduled := map[string]*mesos.MachineInfo{}
	for _, w := range s.GetWindows() {
		for _, id := range w.GetMachineIds() {
			m := &mesos.MachineInfo{Id: id, Mode: mesos.MachineInfo_DRAINING.Enum(), Unavailability: w.Unavailability}
			if had, ok := c.machines.Get(keyOf(id)); ok {
				m.Id, m.Mode = had.Id, had.Mode
			}
			scheduled[keyOf(id)] = m
		}
	}
	for _, key := range c.machines.Keys() {
		if scheduled[key] == nil {
			c.machines.Delete(key)
		}
	}
	for _, key := range sortedKeys(scheduled) {
		c.machines.Set(key, scheduled[key])
	}
	c.windows = s.GetWindows()
	c.publish.changed = true
	c.announceMaintenance()
	c.heedMachines()
	c.armMaintenance()
}

// heedMachines brings the unavailability of all agents up to date.
func (c *Core) heedMachines() {
	for _, ag := range c.agents.Values() {
		c.setUnavailability(ag, c.machineOf(ag).GetUnavailability())
	}
}

// setUnavailability changes when an agent will be maintained. Offers are rescinded so
// that new ones say so, inverse offers so that new ones ask for the right time
// (Mesos: Master::updateUnavailability, which does so even if nothing changes).
func (c *Core) setUnavailability(ag *agent, u *mesos.Unavailability) {
	if ag.unavailability == nil && u == nil || ag.unavailability != nil && proto.Equal(ag.unavailability, u) {
		return
	}
	c.rescindAgent(ag)
	ag.unavailability = u
	c.alloc.UpdateUnavailability(ag.id, u)
	c.touchAgent(ag)
	c.log(Info, "agent_unavailability", "agent_id", ag.id, "hostname", ag.info.GetHostname(), "scheduled", fmt.Sprint(u != nil))
}

// startMaintenance takes machines down: their agents are removed, and refused until
// the machine is up again (src/master/http.cpp, Master::Http::_startMaintenance).
func (c *Core) startMaintenance(in Operate) {
	ids := in.Call.GetStartMaintenance().GetMachines()
	c.changeMode(in, ids, mesos.MachineInfo_DRAINING, "cannot be brought down", mesos.MachineInfo_DOWN, func() { c.takeDown(ids) })
}

// takeDown ends the agents of machines.
func (c *Core) takeDown(ids []*mesos.MachineID) {
	for _, id := range ids {
		had, _ := c.machines.Get(keyOf(id))
		c.machines.Set(keyOf(id), &mesos.MachineInfo{Id: had.Id, Mode: mesos.MachineInfo_DOWN.Enum(), Unavailability: had.Unavailability})
	}
	if len(ids) == 0 {
		return
	}
	for _, ag := range c.agents.Values() {
		if c.machineOf(ag).GetMode() == mesos.MachineInfo_DOWN {
			c.shutDown(ag)
		}
	}
}

// stopMaintenance brings machines back up, and takes them out of the schedule.
func (c *Core) stopMaintenance(in Operate) {
	ids := in.Call.GetStopMaintenance().GetMachines()
	c.changeMode(in, ids, mesos.MachineInfo_DOWN, "cannot be brought up", mesos.MachineInfo_UP, func() { c.bringUp(ids) })
}

// bringUp takes machines out of the schedule.
func (c *Core) bringUp(ids []*mesos.MachineID) {
	if len(ids) == 0 {
		return
	}
	up := map[string]bool{}
	for _, id := range ids {
		up[keyOf(id)] = true
		c.machines.Delete(keyOf(id))
	}
	c.windows = withoutMachines(c.windows, up)
	c.heedMachines()
}

// modesChanged notes who has changed the mode of machines.
func (c *Core) modesChanged(by string, ids []*mesos.MachineID, to mesos.MachineInfo_Mode) {
	c.publish.changed = true
	for _, id := range ids {
		c.log(Info, "machine_mode", "machine", machineName(id), "mode", to.String(), "by", by)
	}
}

// changeMode checks that machines are in one mode, has the registry put them into
// another, and then does the same here.
func (c *Core) changeMode(in Operate, ids []*mesos.MachineID, from mesos.MachineInfo_Mode, cannot string,
	to mesos.MachineInfo_Mode, apply func(),
) {
	c.inTurn(maintenanceKey, func(done func()) {
		if err := c.validateMachines(ids, from, cannot); err != nil {
			c.refuseCall(in, err)
			done()
			return
		}
		action := authz.StartMaintenances
		if to == mesos.MachineInfo_UP {
			action = authz.StopMaintenances
		}
		if !c.permits(in.Principal, action, "") {
			c.forbid(in)
			done()
			return
		}
		c.propose(maintenanceKey, func() {
			apply()
			c.modesChanged("operator", ids, to)
			c.announceMaintenance()
			c.armMaintenance()
			c.answer(in.Request, 200, "")
			done()
		}, command(clusterdv1.Command_SET_MACHINE_MODE, &clusterdv1.SetMachineMode{Machines: ids, Mode: to.Enum()}))
	})
}

func (c *Core) validateMachines(ids []*mesos.MachineID, mode mesos.MachineInfo_Mode, cannot string) error {
	if len(ids) == 0 {
		return invalidf("List of machines is empty")
	}
	if err := distinctMachines(ids, map[string]bool{}); err != nil {
		return err
	}
	for _, id := range ids {
		m, ok := c.machines.Get(keyOf(id))
		switch {
		case !ok:
			return invalidf("Machine '%s' is not part of a maintenance schedule", machineText(id))
		case m.GetMode() != mode:
			return invalidf("Machine '%s' is not in %s mode and %s", machineText(id), mode, cannot)
		}
	}
	return nil
}

// withoutMachines returns the windows less some machines, and less those left empty.
func withoutMachines(windows []*maintenance.Window, gone map[string]bool) []*maintenance.Window {
	var left []*maintenance.Window
	for _, w := range windows {
		rest := &maintenance.Window{Unavailability: w.Unavailability}
		for _, id := range w.GetMachineIds() {
			if !gone[keyOf(id)] {
				rest.MachineIds = append(rest.MachineIds, id)
			}
		}
		if len(rest.MachineIds) > 0 {
			left = append(left, rest)
		}
	}
	return left
}

// shutDown ends the agent of a machine that is down. It is removed at once, in case
// it does not hear.
func (c *Core) shutDown(ag *agent) {
	const why = "Operator initiated 'Machine DOWN'"
	c.tellToEnd(ag, why)
	c.removeAgent(ag, why, "")
}

// tellToEnd tells an agent to end its executors, and itself for good.
func (c *Core) tellToEnd(ag *agent, why string) {
	c.tell(ag, &clusterdv1.MasterMessage{Message: &clusterdv1.MasterMessage_Refused{
		Refused: &clusterdv1.Refused{Message: &why, Shutdown: new(true)},
	}})
}
