package render

import (
	"fmt"

	"google.golang.org/protobuf/proto"

	mesos "clusterd/api/mesos/v1"
	"clusterd/api/mesos/v1/allocator"
	"clusterd/api/mesos/v1/maintenance"
	"clusterd/api/mesosjson"
	"clusterd/internal/authz"
	"clusterd/server/core"
)

// MaintenanceSchedule is /maintenance/schedule.
func MaintenanceSchedule(v *core.View) Body { return messageBody(v.Schedule) }

// MaintenanceStatus is /maintenance/status.
func MaintenanceStatus(v *core.View, viewer *authz.Viewer) Body {
	return messageBody(maintenanceStatus(v, sight{viewer}))
}

func messageBody(m proto.Message) Body {
	b, err := mesosjson.Marshal(m)
	if err != nil {
		// Only a missing required member can be the reason, and those of a schedule
		// were checked when it came.
		panic(fmt.Sprintf("encode %T: %v", m, err))
	}
	return Body{b}
}

// maintenanceStatus lists the machines of the schedule by what is made of them, and
// for those that drain how frameworks answered (Mesos: Http::_getMaintenanceStatus).
func maintenanceStatus(v *core.View, who sight) *maintenance.ClusterStatus {
	answers := make(map[string][]*allocator.InverseOfferStatus)
	for a := range v.Agents.Values() {
		if len(a.InverseOfferStatuses) > 0 {
			k := core.MachineKey(a.Info.GetHostname(), a.IP)
			for _, s := range a.InverseOfferStatuses {
				if who.frameworkID(v, s.GetFrameworkId().GetValue()) {
					answers[k] = append(answers[k], s)
				}
			}
		}
	}
	s := &maintenance.ClusterStatus{}
	for k, m := range v.Machines.All() {
		if m.GetMode() == mesos.MachineInfo_DOWN {
			s.DownMachines = append(s.DownMachines, m.GetId())
			continue
		}
		s.DrainingMachines = append(s.DrainingMachines, &maintenance.ClusterStatus_DrainingMachine{
			Id: m.GetId(), Statuses: answers[k],
		})
	}
	return s
}
