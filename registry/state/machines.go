package state

import (
	"fmt"

	clusterdv1 "clusterd/api/clusterd/v1"
	mesos "clusterd/api/mesos/v1"
	"clusterd/api/mesos/v1/maintenance"
)

// The rules of this file follow src/master/maintenance.cpp.

// updateMaintenanceSchedule replaces the schedule: machines that are new in it
// start to drain, those that left it are up, the others keep their mode.
func (s *State) updateMaintenanceSchedule(m *clusterdv1.UpdateMaintenanceSchedule) error {
	scheduled := make(map[string]bool)
	for _, w := range m.Schedule.GetWindows() {
		for _, id := range w.MachineIds {
			key := machineKey(id)
			if key == "\x00" {
				return fmt.Errorf("machine without hostname and ip")
			}
			if scheduled[key] {
				return fmt.Errorf("machine %s is scheduled twice", machineName(id))
			}
			scheduled[key] = true
		}
	}
	var leaving []string
	var down *mesos.MachineID
	s.machines.Scan(func(key string, info *mesos.MachineInfo) bool {
		if !scheduled[key] {
			leaving = append(leaving, key)
			if info.GetMode() == mesos.MachineInfo_DOWN {
				down = info.Id
			}
		}
		return down == nil
	})
	if down != nil {
		return fmt.Errorf("machine %s is down and cannot leave the schedule", machineName(down))
	}
	for _, key := range leaving {
		s.machines.Delete(key)
	}
	for _, w := range m.Schedule.GetWindows() {
		for _, id := range w.MachineIds {
			info := &mesos.MachineInfo{Id: id, Mode: mesos.MachineInfo_DRAINING.Enum(), Unavailability: w.Unavailability}
			if had := get(s.machines, machineKey(id)); had != nil {
				info.Id, info.Mode = had.Id, had.Mode
			}
			s.machines.Set(machineKey(id), info)
		}
	}
	s.windows = m.Schedule.GetWindows()
	return nil
}

// setMachineMode starts or stops maintenance. Stopping takes the machines out of
// the schedule.
func (s *State) setMachineMode(m *clusterdv1.SetMachineMode) error {
	changing := make(map[string]bool)
	for _, id := range m.Machines {
		if !has(s.machines, machineKey(id)) {
			return fmt.Errorf("machine %s is not scheduled for maintenance", machineName(id))
		}
		changing[machineKey(id)] = true
	}
	for _, id := range m.Machines {
		key := machineKey(id)
		if m.GetMode() == mesos.MachineInfo_UP {
			s.machines.Delete(key)
			continue
		}
		had := get(s.machines, key)
		s.machines.Set(key, &mesos.MachineInfo{Id: had.Id, Mode: m.Mode, Unavailability: had.Unavailability})
	}
	if m.GetMode() == mesos.MachineInfo_UP {
		s.windows = without(s.windows, changing)
	}
	return nil
}

// without returns the windows less some machines, and less windows left empty.
func without(windows []*maintenance.Window, machines map[string]bool) []*maintenance.Window {
	var left []*maintenance.Window
	for _, w := range windows {
		c := &maintenance.Window{Unavailability: w.Unavailability}
		for _, id := range w.MachineIds {
			if !machines[machineKey(id)] {
				c.MachineIds = append(c.MachineIds, id)
			}
		}
		if len(c.MachineIds) > 0 {
			left = append(left, c)
		}
	}
	return left
}

func machineName(id *mesos.MachineID) string {
	return fmt.Sprintf("%q (%s)", id.GetHostname(), id.GetIp())
}
