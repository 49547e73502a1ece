package agent

import (
	"context"

	"clusterd/agent/core"
	mesos "clusterd/api/mesos/v1"
	agentv1 "clusterd/api/mesos/v1/agent"
	"clusterd/internal/authz"
)

// getContainers answers GET_CONTAINERS: executors' containers, and nested and standalone ones
// if they are wanted (Http::__containers in src/slave/http.cpp). What is nested is seen by who
// sees the container around it.
func (a *Agent) getContainers(ctx context.Context, v *core.View, x access, which *agentv1.Call_GetContainers) *agentv1.Response_GetContainers {
	by := x.acls.Viewer(x.who)
	seen := map[string]bool{}
	var out []*agentv1.Response_GetContainers_Container
	for _, m := range a.measure(ctx, v, seenContainers(by)) {
		seen[m.e.ContainerID.GetValue()] = true
		out = append(out, &agentv1.Response_GetContainers_Container{
			FrameworkId: m.fw.Info.GetId(), ExecutorId: m.e.Info.GetExecutorId(), ExecutorName: strp(m.e.Info.GetName()),
			ContainerId: m.e.ContainerID, ContainerStatus: m.status, ResourceStatistics: m.usage,
		})
	}
	if which.GetShowNested() || which.GetShowStandalone() {
		others := a.others(v, x, which, seen)
		some(len(others), func(i int) {
			o := others[i]
			o.ResourceStatistics, _ = a.runner.Usage(ctx, o.ContainerId)
			o.ContainerStatus, _ = a.runner.Status(ctx, o.ContainerId)
		})
		out = append(out, others...)
	}
	if out == nil {
		return nil // which Mesos leaves out when there are none
	}
	return &agentv1.Response_GetContainers{Containers: out}
}

// others lists the containers that are no executors', in order of id. Seen are the executors'
// containers that the caller sees.
func (a *Agent) others(v *core.View, x access, which *agentv1.Call_GetContainers, seen map[string]bool) (out []*agentv1.Response_GetContainers_Container) {
	executors := map[string]bool{}
	for _, e := range executorsOf(v, false) {
		executors[e.ContainerID.GetValue()] = true
	}
	standalone := map[string]bool{}
	maySee := func(root *mesos.ContainerID) bool {
		may, ok := standalone[root.GetValue()]
		if !ok {
			may = x.acls.AllowsContainer(x.who, authz.ViewStandaloneContainers, authz.Container{ID: root.GetValue(), Root: root.GetValue()})
			standalone[root.GetValue()] = may
		}
		return may
	}
	for _, id := range a.runner.Containers() {
		nested, root := id.GetParent() != nil, rootOf(id)
		ofExecutor := executors[root.GetValue()]
		switch {
		case !nested && (ofExecutor || !which.GetShowStandalone()),
			nested && !which.GetShowNested(),
			ofExecutor && !seen[root.GetValue()],
			!ofExecutor && !maySee(root):
			continue
		}
		out = append(out, &agentv1.Response_GetContainers_Container{ContainerId: id})
	}
	return out
}
