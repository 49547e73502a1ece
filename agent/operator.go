package agent

import (
	"net/http"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/reflect/protoreflect"

	"clusterd/agent/core"
	mesos "clusterd/api/mesos/v1"
	agentv1 "clusterd/api/mesos/v1/agent"
	"clusterd/internal/authz"
	"clusterd/internal/files"
	"clusterd/internal/httpapi"
	"clusterd/internal/version"
)

// needs are the calls that carry a message of their own name
// (src/slave/validation.cpp, agent::call::validate).
var needs = map[agentv1.Call_Type]protoreflect.Name{
	agentv1.Call_GET_METRICS:                     "get_metrics",
	agentv1.Call_SET_LOGGING_LEVEL:               "set_logging_level",
	agentv1.Call_LIST_FILES:                      "list_files",
	agentv1.Call_READ_FILE:                       "read_file",
	agentv1.Call_LAUNCH_NESTED_CONTAINER:         "launch_nested_container",
	agentv1.Call_WAIT_NESTED_CONTAINER:           "wait_nested_container",
	agentv1.Call_KILL_NESTED_CONTAINER:           "kill_nested_container",
	agentv1.Call_REMOVE_NESTED_CONTAINER:         "remove_nested_container",
	agentv1.Call_LAUNCH_NESTED_CONTAINER_SESSION: "launch_nested_container_session",
	agentv1.Call_ATTACH_CONTAINER_INPUT:          "attach_container_input",
	agentv1.Call_ATTACH_CONTAINER_OUTPUT:         "attach_container_output",
	agentv1.Call_LAUNCH_CONTAINER:                "launch_container",
	agentv1.Call_WAIT_CONTAINER:                  "wait_container",
	agentv1.Call_KILL_CONTAINER:                  "kill_container",
	agentv1.Call_REMOVE_CONTAINER:                "remove_container",
	agentv1.Call_ADD_RESOURCE_PROVIDER_CONFIG:    "add_resource_provider_config",
	agentv1.Call_UPDATE_RESOURCE_PROVIDER_CONFIG: "update_resource_provider_config",
	agentv1.Call_REMOVE_RESOURCE_PROVIDER_CONFIG: "remove_resource_provider_config",
	agentv1.Call_MARK_RESOURCE_PROVIDER_GONE:     "mark_resource_provider_gone",
}

func validateCall(c *agentv1.Call) error {
	bad := func(what protoreflect.Name) error {
		return httpapi.BadRequest("Failed to validate agent::Call: Expecting '%s' to be present", what)
	}
	if c.Type == nil {
		return bad("type")
	}
	n, ok := needs[c.GetType()]
	if !ok {
		return nil
	}
	m := c.ProtoReflect()
	if !m.Has(m.Descriptor().Fields().ByName(n)) {
		return bad(n)
	}
	if c.GetType() == agentv1.Call_ATTACH_CONTAINER_INPUT {
		switch in := c.GetAttachContainerInput(); {
		case in.Type == nil:
			return bad("attach_container_input.type")
		case in.GetType() == agentv1.Call_AttachContainerInput_UNKNOWN:
			return httpapi.BadRequest("Failed to validate agent::Call: 'attach_container_input.type' is unknown")
		case in.GetType() != agentv1.Call_AttachContainerInput_CONTAINER_ID:
			return nil
		}
	}
	if cc := containerCallOf(c); cc != nil {
		if why := validateContainerID(cc.id); why != "" || cc.id == nil {
			if cc.id == nil {
				why = "ID must not be empty"
			}
			return httpapi.BadRequest("Failed to validate agent::Call: '%s.container_id' is invalid: %s", n, why)
		}
		if strings.Contains(string(n), "_nested_") && cc.id.GetParent() == nil {
			return bad(n + ".container_id.parent")
		}
	}
	if why := validateLaunch(c); why != "" {
		return httpapi.BadRequest("Failed to validate agent::Call: %s", why)
	}
	return nil
}

// serveCall answers a call. Those that are not built yet answer 501, to those who would
// be permitted them. Body is what follows the call, if that was the first of a stream.
func (a *Agent) serveCall(w http.ResponseWriter, r *http.Request, c *agentv1.Call, body *callStream, media httpapi.AgentMedia) error {
	if err := streamable(c, media); err != nil {
		return err
	}
	if cc := containerCallOf(c); cc != nil {
		return a.serveContainerCall(w, r, c, cc, body, media)
	}
	x := a.access(r)
	if action, ok := unbuilt[c.GetType()]; ok {
		httpapi.Audit(r, c.GetType().String())
		if err := x.need(action, ""); err != nil {
			return err
		}
		return notYet(c)
	}
	res := &agentv1.Response{}
	switch c.GetType() {
	case agentv1.Call_PRUNE_IMAGES:
		httpapi.Audit(r, c.GetType().String())
		if err := x.need(authz.PruneImages, ""); err != nil {
			return err
		}
		return a.pruneImages(w, r, c)
	case agentv1.Call_GET_HEALTH:
		res.Type = agentv1.Response_GET_HEALTH.Enum()
		res.GetHealth = &agentv1.Response_GetHealth{Healthy: new(a.healthy())}
	case agentv1.Call_GET_VERSION:
		res.Type = agentv1.Response_GET_VERSION.Enum()
		res.GetVersion = &agentv1.Response_GetVersion{VersionInfo: version.Info()}
	case agentv1.Call_GET_FLAGS:
		if err := x.need(authz.ViewFlags, ""); err != nil {
			return err
		}
		res.Type = agentv1.Response_GET_FLAGS.Enum()
		res.GetFlags = &agentv1.Response_GetFlags{}
		for _, f := range a.opts.Flags {
			res.GetFlags.Flags = append(res.GetFlags.Flags, &mesos.Flag{Name: strp(f.Name), Value: strp(f.Value)})
		}
	case agentv1.Call_GET_METRICS:
		// Mesos lets everybody who reaches the API.
		if err := x.need(authz.GetEndpoints, "/metrics/snapshot"); err != nil {
			return err
		}
		res.Type = agentv1.Response_GET_METRICS.Enum()
		res.GetMetrics = &agentv1.Response_GetMetrics{}
		timeout := time.Duration(c.GetGetMetrics().GetTimeout().GetNanoseconds())
		for _, s := range a.metrics.Snapshot(timeout) {
			res.GetMetrics.Metrics = append(res.GetMetrics.Metrics, &mesos.Metric{Name: strp(s.Name), Value: new(s.Value)})
		}
	case agentv1.Call_GET_LOGGING_LEVEL:
		res.Type = agentv1.Response_GET_LOGGING_LEVEL.Enum()
		res.GetLoggingLevel = &agentv1.Response_GetLoggingLevel{Level: new(uint32(a.opts.Verbosity.Level()))}
	case agentv1.Call_SET_LOGGING_LEVEL:
		set := c.GetSetLoggingLevel()
		httpapi.Audit(r, c.GetType().String(), "level", strconv.FormatUint(uint64(set.GetLevel()), 10))
		if err := x.need(authz.SetLogLevel, ""); err != nil {
			return err
		}
		if err := a.opts.Verbosity.Set(int(set.GetLevel()), time.Duration(set.GetDuration().GetNanoseconds())); err != nil {
			return err
		}
		httpapi.WriteStatus(w, http.StatusOK)
		return nil
	case agentv1.Call_LIST_FILES:
		infos, err := a.files.Browse(r.Context(), c.GetListFiles().GetPath(), httpapi.PrincipalOf(r))
		if err != nil {
			return files.CallError(err)
		}
		res.Type = agentv1.Response_LIST_FILES.Enum()
		res.ListFiles = &agentv1.Response_ListFiles{FileInfos: infos}
	case agentv1.Call_READ_FILE:
		read := c.GetReadFile()
		size, data, err := a.files.Read(r.Context(), read.GetPath(), read.GetOffset(), read.Length, httpapi.PrincipalOf(r))
		if err != nil {
			return files.CallError(err)
		}
		if data == nil {
			data = []byte{}
		}
		res.Type = agentv1.Response_READ_FILE.Enum()
		res.ReadFile = &agentv1.Response_ReadFile{Size: new(size), Data: data}
	case agentv1.Call_UNKNOWN:
		return httpapi.NotImplemented()
	default:
		return a.serveRead(w, r, c, media)
	}
	return writeResponse(w, r, media, res)
}

func writeResponse(w http.ResponseWriter, r *http.Request, media httpapi.AgentMedia, res *agentv1.Response) error {
	return httpapi.WriteMessage(w, r, media.Accept, res)
}

// serveRead answers from a view of the core.
func (a *Agent) serveRead(w http.ResponseWriter, r *http.Request, c *agentv1.Call, media httpapi.AgentMedia) error {
	all, err := a.read(r)
	if err != nil {
		return err
	}
	x := a.access(r)
	by := x.acls.Viewer(x.who)
	v := visible(all, by)
	res := &agentv1.Response{}
	switch c.GetType() {
	case agentv1.Call_GET_STATE:
		res.Type = agentv1.Response_GET_STATE.Enum()
		res.GetState = &agentv1.Response_GetState{
			GetTasks: getTasks(v), GetExecutors: getExecutors(v), GetFrameworks: getFrameworks(v),
		}
	case agentv1.Call_GET_TASKS:
		res.Type, res.GetTasks = agentv1.Response_GET_TASKS.Enum(), getTasks(v)
	case agentv1.Call_GET_EXECUTORS:
		res.Type, res.GetExecutors = agentv1.Response_GET_EXECUTORS.Enum(), getExecutors(v)
	case agentv1.Call_GET_FRAMEWORKS:
		res.Type, res.GetFrameworks = agentv1.Response_GET_FRAMEWORKS.Enum(), getFrameworks(v)
	case agentv1.Call_GET_OPERATIONS:
		res.Type = agentv1.Response_GET_OPERATIONS.Enum()
		res.GetOperations = &agentv1.Response_GetOperations{Operations: v.Operations}
	case agentv1.Call_GET_AGENT:
		res.Type = agentv1.Response_GET_AGENT.Enum()
		res.GetAgent = &agentv1.Response_GetAgent{AgentInfo: visibleInfo(v.Info, by), DrainConfig: v.DrainConfig}
		if v.DrainConfig != nil {
			res.GetAgent.EstimatedDrainStartTime = &mesos.TimeInfo{Nanoseconds: new(v.DrainStart.UnixNano())}
		}
	case agentv1.Call_GET_RESOURCE_PROVIDERS:
		res.Type = agentv1.Response_GET_RESOURCE_PROVIDERS.Enum()
		res.GetResourceProviders = &agentv1.Response_GetResourceProviders{}
	case agentv1.Call_GET_CONTAINERS:
		res.Type = agentv1.Response_GET_CONTAINERS.Enum()
		res.GetContainers = a.getContainers(r.Context(), all, x, c.GetGetContainers())
	default:
		return notYet(c)
	}
	if media.Accept == httpapi.JSON {
		if b := stateJSON(res); b != nil {
			httpapi.Write(w, r, httpapi.JSON.String(), b)
			return nil
		}
	}
	return writeResponse(w, r, media, res)
}

func getTasks(v *core.View) *agentv1.Response_GetTasks {
	out := &agentv1.Response_GetTasks{}
	for _, e := range executorsOf(v, true) {
		for _, t := range e.Queued {
			out.QueuedTasks = append(out.QueuedTasks, core.StagingTask(t, e.Info.GetFrameworkId()))
		}
		out.LaunchedTasks = append(out.LaunchedTasks, e.Launched...)
		out.TerminatedTasks = append(out.TerminatedTasks, e.Terminated...)
		out.CompletedTasks = append(out.CompletedTasks, e.Completed...)
	}
	return out
}

// executorsOf lists the executors of all frameworks, completed ones if wanted
// after the others.
func executorsOf(v *core.View, completed bool) (out []*core.ExecutorView) {
	for _, fw := range v.Frameworks {
		out = append(out, fw.Executors...)
	}
	if completed {
		out = append(out, completedExecutors(v)...)
	}
	return out
}

func completedExecutors(v *core.View) (out []*core.ExecutorView) {
	for _, fws := range [][]*core.FrameworkView{v.Frameworks, v.Completed} {
		for _, fw := range fws {
			out = append(out, fw.CompletedExecutors...)
		}
	}
	return out
}

func getExecutors(v *core.View) *agentv1.Response_GetExecutors {
	out := &agentv1.Response_GetExecutors{}
	for _, e := range executorsOf(v, false) {
		out.Executors = append(out.Executors, &agentv1.Response_GetExecutors_Executor{ExecutorInfo: e.Info})
	}
	for _, e := range completedExecutors(v) {
		out.CompletedExecutors = append(out.CompletedExecutors, &agentv1.Response_GetExecutors_Executor{ExecutorInfo: e.Info})
	}
	return out
}

func getFrameworks(v *core.View) *agentv1.Response_GetFrameworks {
	out := &agentv1.Response_GetFrameworks{}
	for _, fw := range v.Frameworks {
		out.Frameworks = append(out.Frameworks, &agentv1.Response_GetFrameworks_Framework{FrameworkInfo: fw.Info})
	}
	for _, fw := range v.Completed {
		out.CompletedFrameworks = append(out.CompletedFrameworks, &agentv1.Response_GetFrameworks_Framework{FrameworkInfo: fw.Info})
	}
	return out
}

// stateJSON writes the answers in which Mesos's agent shows empty lists, which
// elsewhere in the API are left out; nil for all others.
func stateJSON(res *agentv1.Response) []byte {
	o := &object{}
	o.begin('{')
	o.str("type", res.GetType().String())
	switch res.GetType() {
	case agentv1.Response_GET_STATE:
		o.name("get_state")
		o.begin('{')
		o.getTasks(res.GetGetState().GetGetTasks())
		o.getExecutors(res.GetGetState().GetGetExecutors())
		o.getFrameworks(res.GetGetState().GetGetFrameworks())
		o.end('}')
	case agentv1.Response_GET_TASKS:
		o.getTasks(res.GetGetTasks())
	case agentv1.Response_GET_EXECUTORS:
		o.getExecutors(res.GetGetExecutors())
	case agentv1.Response_GET_FRAMEWORKS:
		o.getFrameworks(res.GetGetFrameworks())
	default:
		return nil
	}
	o.end('}')
	return o.b
}

func (o *object) getTasks(t *agentv1.Response_GetTasks) {
	o.name("get_tasks")
	o.begin('{')
	messages(o, "pending_tasks", t.GetPendingTasks())
	messages(o, "queued_tasks", t.GetQueuedTasks())
	messages(o, "launched_tasks", t.GetLaunchedTasks())
	messages(o, "terminated_tasks", t.GetTerminatedTasks())
	messages(o, "completed_tasks", t.GetCompletedTasks())
	o.end('}')
}

func (o *object) getExecutors(e *agentv1.Response_GetExecutors) {
	o.name("get_executors")
	o.begin('{')
	messages(o, "executors", e.GetExecutors())
	messages(o, "completed_executors", e.GetCompletedExecutors())
	o.end('}')
}

func (o *object) getFrameworks(f *agentv1.Response_GetFrameworks) {
	o.name("get_frameworks")
	o.begin('{')
	messages(o, "frameworks", f.GetFrameworks())
	messages(o, "completed_frameworks", f.GetCompletedFrameworks())
	o.end('}')
}

// notYet is the answer to calls that are not built.
func notYet(c *agentv1.Call) error {
	return httpapi.Errorf(http.StatusNotImplemented, "Call %s is not supported by this agent yet", c.GetType())
}

// streamable checks that the call is one that streams, if the request or the answer is to
// be a stream (Http::_api in src/slave/http.cpp).
func streamable(c *agentv1.Call, media httpapi.AgentMedia) error {
	input := c.GetType() == agentv1.Call_ATTACH_CONTAINER_INPUT
	switch {
	case media.Content == httpapi.RecordIO && !input:
		return httpapi.Errorf(http.StatusUnsupportedMediaType, "Streaming 'Content-Type' %s is not supported for %s call", media.Content, c.GetType())
	case media.Content != httpapi.RecordIO && input:
		return httpapi.Errorf(http.StatusUnsupportedMediaType, "Expecting 'Content-Type' to be %s for %s call", httpapi.RecordIO, c.GetType())
	case media.Accept == httpapi.RecordIO && c.GetType() != agentv1.Call_ATTACH_CONTAINER_OUTPUT &&
		c.GetType() != agentv1.Call_LAUNCH_NESTED_CONTAINER_SESSION:
		return httpapi.Errorf(http.StatusNotAcceptable, "Streaming response is not supported for %s call", c.GetType())
	}
	return nil
}
