package server

import (
	"errors"
	"net/http"

	mesos "clusterd/api/mesos/v1"
	"clusterd/api/mesos/v1/maintenance"
	"clusterd/api/mesos/v1/master"
	"clusterd/api/mesosjson"
	"clusterd/internal/authn"
	"clusterd/internal/authz"
	"clusterd/internal/httpapi"
	"clusterd/server/core"
	"clusterd/server/render"
)

// maintenanceRoutes are the endpoints about maintenance that came before the operator
// API (src/master/http.cpp, from Master::Http::maintenanceSchedule on).
func (s *Server) maintenanceRoutes(rt *httpapi.Router) {
	schedule := s.read("maintenance/schedule", func(v *core.View, _ *render.Master, _ *authz.Viewer, _ *http.Request) render.Body {
		return render.MaintenanceSchedule(v)
	})
	noSchedule := s.read("maintenance/schedule hidden", func(*core.View, *render.Master, *authz.Viewer, *http.Request) render.Body {
		return render.MaintenanceSchedule(withoutMaintenance)
	})
	rt.Handle("/maintenance/schedule", httpapi.In(authn.MasterReadwrite), func(w http.ResponseWriter, r *http.Request) error {
		if r.Method == http.MethodGet || r.Method == http.MethodHead {
			if s.maintenanceHidden(r, master.Call_GET_MAINTENANCE_SCHEDULE) {
				return noSchedule(w, r)
			}
			return schedule(w, r)
		}
		return s.operateBody(w, r, []string{http.MethodGet, http.MethodPost}, func(body []byte) (*master.Call, error) {
			m := new(maintenance.Schedule)
			return &master.Call{
				Type:                      master.Call_UPDATE_MAINTENANCE_SCHEDULE.Enum(),
				UpdateMaintenanceSchedule: &master.Call_UpdateMaintenanceSchedule{Schedule: m},
			}, mesosjson.Unmarshal(body, m)
		})
	})
	status := s.read("maintenance/status", func(v *core.View, _ *render.Master, who *authz.Viewer, _ *http.Request) render.Body {
		return render.MaintenanceStatus(v, who)
	})
	noStatus := s.read("maintenance/status hidden", func(_ *core.View, _ *render.Master, who *authz.Viewer, _ *http.Request) render.Body {
		return render.MaintenanceStatus(withoutMaintenance, who)
	})
	rt.Handle("/maintenance/status", httpapi.In(authn.MasterReadonly), func(w http.ResponseWriter, r *http.Request) error {
		if _, err := s.leading(r); err != nil {
			return err
		}
		if err := httpapi.RequireMethod(r, http.MethodGet); err != nil {
			return err
		}
		if s.maintenanceHidden(r, master.Call_GET_MAINTENANCE_STATUS) {
			return noStatus(w, r)
		}
		return status(w, r)
	})
	machines := func(path string, call func([]*mesos.MachineID) *master.Call) {
		rt.Handle(path, httpapi.In(authn.MasterReadwrite), func(w http.ResponseWriter, r *http.Request) error {
			return s.operateBody(w, r, []string{http.MethodPost}, func(body []byte) (*master.Call, error) {
				ids, err := mesosjson.UnmarshalList[mesos.MachineID](body)
				return call(ids), err
			})
		})
	}
	machines("/machine/down", func(ids []*mesos.MachineID) *master.Call {
		return &master.Call{
			Type:             master.Call_START_MAINTENANCE.Enum(),
			StartMaintenance: &master.Call_StartMaintenance{Machines: ids},
		}
	})
	machines("/machine/up", func(ids []*mesos.MachineID) *master.Call {
		return &master.Call{
			Type:            master.Call_STOP_MAINTENANCE.Enum(),
			StopMaintenance: &master.Call_StopMaintenance{Machines: ids},
		}
	})
}

// withoutMaintenance is what who may not look at maintenance sees of it. The rules know
// all machines or none: Mesos hides one after the other, which comes to the same.
var withoutMaintenance = &core.View{Schedule: new(maintenance.Schedule)}

// maintenanceHidden says whether a call reads what of maintenance who calls may not see.
func (s *Server) maintenanceHidden(r *http.Request, call master.Call_Type) bool {
	switch call {
	case master.Call_GET_MAINTENANCE_SCHEDULE:
		return s.permit(r, authz.GetMaintenanceSchedules) != nil
	case master.Call_GET_MAINTENANCE_STATUS:
		return s.permit(r, authz.GetMaintenanceStatuses) != nil
	default:
		return false
	}
}

// operateBody has the core carry out a call whose content is the request's body.
func (s *Server) operateBody(w http.ResponseWriter, r *http.Request, methods []string, read func([]byte) (*master.Call, error)) error {
	t, err := s.leading(r)
	if err != nil {
		return err
	}
	if err := httpapi.RequireMethod(r, methods...); err != nil {
		return err
	}
	body, err := httpapi.ReadBody(w, r, httpapi.MaxBody)
	if err != nil {
		return err
	}
	call, err := read(body)
	if e, ok := errors.AsType[*httpapi.Error](err); ok {
		return e
	}
	if err != nil {
		return httpapi.BadRequest("%v", err)
	}
	return s.operate(t, w, r, call)
}
