package server

import (
	"net/http"

	"google.golang.org/protobuf/proto"

	"clusterd/api/mesos/v1/master"
	"clusterd/api/mesos/v1/scheduler"
	"clusterd/api/mesosjson"
	"clusterd/internal/httpapi"
)

// maxAudited is how much of a call the audit log shows, in bytes.
const maxAudited = 4096

// auditOperator notes a call of an operator that changes something, with its content.
func auditOperator(r *http.Request, call *master.Call) {
	httpapi.Audit(r, call.GetType().String(), "call", auditText(call))
}

// auditScheduler notes a call of a framework that changes something. Calls that only say
// what the framework has heard or wants are not noted.
func auditScheduler(r *http.Request, call *scheduler.Call) {
	switch call.GetType() {
	case scheduler.Call_SUBSCRIBE:
		httpapi.Audit(r, "SUBSCRIBE", "framework_id", call.GetFrameworkId().GetValue(),
			"framework", call.GetSubscribe().GetFrameworkInfo().GetName())
	case scheduler.Call_ACCEPT:
		if len(call.GetAccept().GetOperations()) > 0 {
			httpapi.Audit(r, "ACCEPT", "framework_id", call.GetFrameworkId().GetValue(), "operations", operationTypesOf(call.GetAccept()))
		}
	case scheduler.Call_KILL:
		httpapi.Audit(r, "KILL", "framework_id", call.GetFrameworkId().GetValue(), "task_id", call.GetKill().GetTaskId().GetValue())
	case scheduler.Call_SHUTDOWN:
		httpapi.Audit(r, "SHUTDOWN", "framework_id", call.GetFrameworkId().GetValue(),
			"executor_id", call.GetShutdown().GetExecutorId().GetValue(), "agent_id", call.GetShutdown().GetAgentId().GetValue())
	case scheduler.Call_TEARDOWN, scheduler.Call_UPDATE_FRAMEWORK:
		httpapi.Audit(r, call.GetType().String(), "framework_id", call.GetFrameworkId().GetValue())
	default:
	}
}

// operationTypesOf lists the types of operations: "LAUNCH,RESERVE".
func operationTypesOf(a *scheduler.Call_Accept) string {
	b := make([]byte, 0, 64)
	for i, op := range a.GetOperations() {
		if len(b) > maxAudited {
			return string(append(b, "..."...))
		}
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, op.GetType().String()...)
	}
	return string(b)
}

// auditText is the beginning of a call as JSON.
func auditText(m proto.Message) string {
	b, err := mesosjson.Append(nil, m)
	if err != nil {
		return err.Error()
	}
	if len(b) > maxAudited {
		b = append(b[:maxAudited:maxAudited], "..."...)
	}
	return string(b)
}
