package core

import (
	"math"
	"time"

	clusterdv1 "clusterd/api/clusterd/v1"
	mesos "clusterd/api/mesos/v1"
	"clusterd/api/mesos/v1/maintenance"
)

// With Config.AutomaticMaintenance the schedule is followed without an operator, which
// Mesos does not do: machines go down when their unavailability begins, as by
// START_MAINTENANCE, and come up and leave the schedule when its duration is over, as by
// STOP_MAINTENANCE. What operators do besides counts as it does without: a machine that was
// taken down early comes up when its time is over, one that was brought up is no longer in
// the schedule.
//
// Everything follows from the schedule and the modes, which are in the registry, and from
// the time, so that any leader can go on where the last one was.

// maintenanceLook is how often the schedule is compared with the clock at least. A clock
// that is set forward moves no timer.
const maintenanceLook = time.Minute

// begins and ends say when an unavailability does. One without a duration never ends.
func begins(u *mesos.Unavailability) time.Time {
	return time.Unix(0, u.GetStart().GetNanoseconds())
}

func ends(u *mesos.Unavailability) (time.Time, bool) {
	start, d := u.GetStart().GetNanoseconds(), u.GetDuration().GetNanoseconds()
	if u.GetDuration() == nil || start > 0 && d > math.MaxInt64-start {
		return time.Time{}, false // or not as long as clocks can count
	}
	return time.Unix(0, start+d), true
}

// over says whether an unavailability has passed by a time.
func over(u *mesos.Unavailability, now time.Time) bool {
	end, ok := ends(u)
	return ok && !now.Before(end)
}

// upcoming is when a machine changes by itself, if it does.
func upcoming(m *mesos.MachineInfo) (time.Time, bool) {
	if m.GetMode() == mesos.MachineInfo_DRAINING {
		return begins(m.GetUnavailability()), true
	}
	return ends(m.GetUnavailability())
}

// armMaintenance has the schedule looked at when the next machine is due.
func (c *Core) armMaintenance() {
	if !c.cfg.AutomaticMaintenance {
		return
	}
	wait, any := maintenanceLook, false
	c.machines.Scan(func(_ string, m *mesos.MachineInfo) bool {
		if at, ok := upcoming(m); ok {
			// By the clock on the wall, as operators mean it.
			wait, any = min(wait, max(0, at.Sub(c.now))), true
		}
		return true
	})
	if any {
		c.maintenanceGen++
		c.timers.add(c.now.Add(wait), timer{kind: maintenanceTimer, gen: c.maintenanceGen})
	}
}

// followSchedule does what is due by the schedule when no operator is changing it.
func (c *Core) followSchedule(gen uint64) {
	if gen != c.maintenanceGen {
		return
	}
	c.inTurn(maintenanceKey, func(done func()) {
		down, up := c.dueMachines()
		if len(down)+len(up) == 0 {
			c.armMaintenance()
			done()
			return
		}
		var commands []*clusterdv1.Command
		for _, change := range []*clusterdv1.SetMachineMode{
			{Machines: down, Mode: mesos.MachineInfo_DOWN.Enum()}, {Machines: up, Mode: mesos.MachineInfo_UP.Enum()},
		} {
			if len(change.Machines) > 0 {
				commands = append(commands, command(clusterdv1.Command_SET_MACHINE_MODE, change))
			}
		}
		if len(commands) > 1 {
			commands[1].WithPrevious = new(true)
		}
		c.propose(maintenanceKey, func() {
			c.takeDown(down)
			c.bringUp(up)
			c.modesChanged("schedule", down, mesos.MachineInfo_DOWN)
			c.modesChanged("schedule", up, mesos.MachineInfo_UP)
			c.announceMaintenance()
			c.armMaintenance()
			done()
		}, commands...)
	})
}

// dueMachines lists the machines whose time has come, and those whose time is over.
func (c *Core) dueMachines() (down, up []*mesos.MachineID) {
	c.machines.Scan(func(_ string, m *mesos.MachineInfo) bool {
		switch u := m.GetUnavailability(); {
		case over(u, c.now):
			// Also if it never went down, because nobody led in all that time.
			up = append(up, m.Id)
		case m.GetMode() == mesos.MachineInfo_DRAINING && !c.now.Before(begins(u)):
			down = append(down, m.Id)
		}
		return true
	})
	return down, up
}

// validateTimes refuses a schedule that would be over as soon as it is followed.
func (c *Core) validateTimes(s *maintenance.Schedule) error {
	if !c.cfg.AutomaticMaintenance {
		return nil
	}
	for _, w := range s.GetWindows() {
		if over(w.GetUnavailability(), c.now) {
			return invalidf("Unavailability of machine '%s' is over already; with --automatic_maintenance it would end at once",
				machineText(w.MachineIds[0]))
		}
	}
	return nil
}
