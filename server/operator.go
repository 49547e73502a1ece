package server

import (
	"fmt"
	"net/http"
	"strings"
	"time"

	"google.golang.org/protobuf/reflect/protoreflect"

	mesos "clusterd/api/mesos/v1"
	"clusterd/api/mesos/v1/master"
	"clusterd/internal/authz"
	"clusterd/internal/httpapi"
	"clusterd/internal/version"
	"clusterd/server/core"
	"clusterd/server/render"
)

// operatorAPI is POST /api/v1, with Mesos's order of checks (src/master/http.cpp,
// Http::api).
func (s *Server) operatorAPI(w http.ResponseWriter, r *http.Request) error {
	t, err := s.leading(r)
	if err != nil {
		return err
	}
	call := new(master.Call)
	if _, err := httpapi.DecodeCall(w, r, call); err != nil {
		return err
	}
	if err := validateOperatorCall(call); err != nil {
		return httpapi.BadRequest("Failed to validate master::Call: %v", err)
	}
	media, err := httpapi.ResponseMedia(r)
	if err != nil {
		return err
	}
	switch call.GetType() {
	case master.Call_UNKNOWN:
		return httpapi.StatusError(http.StatusNotImplemented)
	case master.Call_SET_LOGGING_LEVEL:
		auditOperator(r, call)
		if err := s.permit(r, authz.SetLogLevel); err != nil {
			return err
		}
		set := call.GetSetLoggingLevel()
		if err := s.opts.Verbosity.Set(int(set.GetLevel()), time.Duration(set.GetDuration().GetNanoseconds())); err != nil {
			return err
		}
		httpapi.WriteStatus(w, http.StatusOK)
		return nil
	case master.Call_SUBSCRIBE:
		httpapi.Stream(r)
		return t.events.ServeMesos(w, r, media)
	case master.Call_LIST_FILES, master.Call_READ_FILE:
		resp, err := s.fileCall(r, call)
		if err != nil {
			return err
		}
		return httpapi.WriteMessage(w, r, media, resp)
	case master.Call_GET_METRICS:
		// Mesos lets everybody who reaches the API; the metrics name frameworks and roles.
		if !s.policy.Load().Approver(httpapi.PrincipalOf(r), authz.GetEndpoints).Allows("/metrics/snapshot") {
			return httpapi.StatusError(http.StatusForbidden)
		}
	case master.Call_GET_FLAGS:
		if err := s.permit(r, authz.ViewFlags); err != nil {
			return err
		}
	default:
	}
	if resp := s.ownResponse(call); resp != nil {
		return httpapi.WriteMessage(w, r, media, resp)
	}
	if changesSomething(call.GetType()) {
		return s.operate(t, w, r, call)
	}
	return s.readCall(t, w, r, call, media)
}

// permit answers 403 unless the principal of a request may do what is asked, whatever it is
// done to.
func (s *Server) permit(r *http.Request, action authz.Action) error {
	if s.policy.Load().Approver(httpapi.PrincipalOf(r), action).Allows("") {
		return nil
	}
	return httpapi.StatusError(http.StatusForbidden)
}

// changesSomething says whether a call is for the core to carry out.
func changesSomething(c master.Call_Type) bool {
	switch c {
	case master.Call_UPDATE_WEIGHTS,
		master.Call_UPDATE_QUOTA, master.Call_SET_QUOTA, master.Call_REMOVE_QUOTA,
		master.Call_RESERVE_RESOURCES, master.Call_UNRESERVE_RESOURCES,
		master.Call_CREATE_VOLUMES, master.Call_DESTROY_VOLUMES,
		master.Call_GROW_VOLUME, master.Call_SHRINK_VOLUME,
		master.Call_UPDATE_MAINTENANCE_SCHEDULE, master.Call_START_MAINTENANCE, master.Call_STOP_MAINTENANCE,
		master.Call_DRAIN_AGENT, master.Call_DEACTIVATE_AGENT, master.Call_REACTIVATE_AGENT,
		master.Call_MARK_AGENT_GONE, master.Call_TEARDOWN:
		return true
	default:
		return false
	}
}

// operate has the core carry out a call that changes something.
func (s *Server) operate(t *term, w http.ResponseWriter, r *http.Request, call *master.Call) error {
	a, err := s.carryOut(t, r, call)
	if err != nil {
		return err
	}
	return a.write(w)
}

// carryOut hands a call that changes something to the core and waits for its answer.
func (s *Server) carryOut(t *term, r *http.Request, call *master.Call) (answer, error) {
	auditOperator(r, call)
	return t.ask(r.Context(), &request{answer: make(chan answer, 1)}, core.Operate{
		Request:   core.RequestID(s.request.Add(1)),
		Principal: httpapi.PrincipalOf(r),
		Call:      call,
	})
}

// readCall answers a call that reads the cluster's state.
func (s *Server) readCall(t *term, w http.ResponseWriter, r *http.Request, call *master.Call, media httpapi.Media) error {
	format := render.JSON
	if media == httpapi.Protobuf {
		format = render.Protobuf
	}
	what := read{name: call.GetType().String() + "/" + media.String(), media: media.String()}
	switch call.GetType() {
	case master.Call_GET_STATE, master.Call_GET_TASKS, master.Call_GET_AGENTS, master.Call_GET_FRAMEWORKS, master.Call_GET_EXECUTORS:
		what.bulk = true
	default:
	}
	hidden := s.maintenanceHidden(r, call.GetType())
	if hidden {
		what.name += " hidden"
	}
	what.render = func(v *core.View, m *render.Master, who *authz.Viewer) (render.Body, error) {
		if hidden {
			v = withoutMaintenance
		}
		body, known, err := render.Operator(format, v, m, call.GetType(), who)
		if err == nil && !known {
			err = httpapi.Errorf(http.StatusNotImplemented, "This version of clusterd does not serve the call %s", call.GetType())
		}
		return body, err
	}
	return s.share(t, w, r, what)
}

// ownResponse answers what needs no view; nil if the call is none of these.
func (s *Server) ownResponse(call *master.Call) *master.Response {
	switch call.GetType() {
	case master.Call_GET_HEALTH:
		return &master.Response{
			Type:      master.Response_GET_HEALTH.Enum(),
			GetHealth: &master.Response_GetHealth{Healthy: new(s.healthy())},
		}
	case master.Call_GET_VERSION:
		return &master.Response{
			Type:       master.Response_GET_VERSION.Enum(),
			GetVersion: &master.Response_GetVersion{VersionInfo: version.Info()},
		}
	case master.Call_GET_FLAGS:
		get := &master.Response_GetFlags{}
		for _, f := range s.opts.Flags {
			get.Flags = append(get.Flags, &mesos.Flag{Name: new(f.Name), Value: new(f.Value)})
		}
		return &master.Response{Type: master.Response_GET_FLAGS.Enum(), GetFlags: get}
	case master.Call_GET_METRICS:
		get := &master.Response_GetMetrics{}
		for _, m := range s.metrics.Snapshot(time.Duration(call.GetGetMetrics().GetTimeout().GetNanoseconds())) {
			get.Metrics = append(get.Metrics, &mesos.Metric{Name: new(m.Name), Value: new(m.Value)})
		}
		return &master.Response{Type: master.Response_GET_METRICS.Enum(), GetMetrics: get}
	case master.Call_GET_LOGGING_LEVEL:
		return &master.Response{
			Type:            master.Response_GET_LOGGING_LEVEL.Enum(),
			GetLoggingLevel: &master.Response_GetLoggingLevel{Level: new(uint32(s.opts.Verbosity.Level()))},
		}
	default:
		return nil
	}
}

// validateOperatorCall checks that a call has a type, and the member that goes
// with it: the one of the same name (src/master/validation.cpp).
func validateOperatorCall(call *master.Call) error {
	if call.Type == nil {
		return fmt.Errorf("Expecting 'type' to be present") //nolint:staticcheck // Mesos's own text, clients see it.
	}
	name := strings.ToLower(call.GetType().String())
	m := call.ProtoReflect()
	if field := m.Descriptor().Fields().ByName(protoreflect.Name(name)); field != nil && !m.Has(field) {
		return fmt.Errorf("Expecting '%s' to be present", name) //nolint:staticcheck // likewise
	}
	return nil
}
