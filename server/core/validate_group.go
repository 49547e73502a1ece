package core

import (
	"slices"
	"strconv"
	"strings"

	"clusterd/allocator/resources"
	mesos "clusterd/api/mesos/v1"
)

// validateGroup checks a LAUNCH_GROUP as a whole (Mesos:
// src/master/validation.cpp, task::group::validate).
func (c *Core) validateGroup(g *mesos.Offer_Operation_LaunchGroup, fw *framework, ag *agent, offered resources.Resources) error {
	tasks, executor := g.GetTaskGroup().GetTasks(), g.GetExecutor()
	// Mesos does not ask; without the check a group of nothing but an executor,
	// or one with the same task twice, would be launched.
	if len(tasks) == 0 {
		return invalidf("Task group has no tasks")
	}
	seen := map[string]bool{}
	for _, t := range tasks {
		id := t.GetTaskId().GetValue()
		err := validateGroupTask(t, fw, ag)
		if err == nil && seen[id] {
			err = invalidf("Task has duplicate ID: %s", id)
		}
		if err != nil {
			return invalidf("Task '%s' is invalid: %s", id, err)
		}
		seen[id] = true
	}
	if err := c.validateGroupExecutor(tasks, executor, fw, ag, offered); err != nil {
		return err
	}
	return validateGroupCgroups(tasks, executor, fw, ag)
}

func validateGroupTask(t *mesos.TaskInfo, fw *framework, ag *agent) error {
	if err := validateTaskInfo(t, fw, ag); err != nil {
		return err
	}
	if t.Executor == nil {
		return invalidf("'TaskInfo.executor' must be set")
	}
	if t.Container != nil {
		kind := t.GetHealthCheck().GetType()
		if len(t.Container.NetworkInfos) > 0 && t.HealthCheck != nil &&
			(kind == mesos.HealthCheck_HTTP || kind == mesos.HealthCheck_TCP) {
			return invalidf("HTTP and TCP health checks are not supported for " +
				"nested containers not joining parent's network")
		}
		if t.Container.GetType() == mesos.ContainerInfo_DOCKER {
			return invalidf("Docker ContainerInfo is not supported on the task")
		}
	}
	if len(t.Limits) > 0 && sharesCgroups(t.Container) {
		return invalidf("Resource limits may only be set for tasks within a task group when " +
			"the 'share_cgroups' field is set to 'false'.")
	}
	return nil
}

func (c *Core) validateGroupExecutor(tasks []*mesos.TaskInfo, e *mesos.ExecutorInfo, fw *framework, ag *agent, offered resources.Resources) error {
	if err := c.validateExecutor(e, fw, ag); err != nil {
		return err
	}
	switch {
	case e.Type == nil:
		return invalidf("'ExecutorInfo.type' must be set")
	case e.GetType() == mesos.ExecutorInfo_UNKNOWN:
		return invalidf("Unknown executor type")
	case e.Container != nil && e.Container.GetType() == mesos.ContainerInfo_DOCKER:
		return invalidf("Docker ContainerInfo is not supported on the executor")
	}
	id := e.GetExecutorId().GetValue()
	for _, t := range tasks {
		if t.Executor != e && !sameExecutor(t.Executor, e) {
			return invalidf("The `ExecutorInfo` of task '%s' is different from executor '%s'",
				t.GetTaskId().GetValue(), id)
		}
	}
	own, err := resources.FromProto(e.Resources)
	if err != nil {
		return err
	}
	if err := validateGroupMinimum(id, own); err != nil {
		return err
	}
	total, err := validateGroupResources(tasks, own)
	if err != nil {
		return err
	}
	if ag.executor(fw.id, id) == nil {
		total = total.Add(own)
	}
	if !offered.Contains(total) {
		return invalidf("Total resources %s required by task group and its executor are more than available %s",
			total, offered)
	}
	return nil
}

// validateGroupMinimum checks what an executor of a group needs at least.
func validateGroupMinimum(id string, r resources.Resources) error {
	names := r.Names()
	used := func(name, value string) string {
		if !slices.Contains(names, name) {
			return "None"
		}
		return value
	}
	if r.Scalar("cpus") < minExecutorCPUs {
		return invalidf("Executor '%s' uses less CPUs (%s) than the minimum required (0.01)", id,
			used("cpus", strconv.FormatFloat(r.CPUs(), 'g', -1, 64)))
	}
	if r.Scalar("mem") < minExecutorMem {
		return invalidf("Executor '%s' uses less memory (%s) than the minimum required (32MB)", id,
			used("mem", strconv.FormatFloat(r.Mem(), 'g', -1, 64)+"MB"))
	}
	if !slices.Contains(names, "disk") {
		return invalidf("Executor '%s' uses no disk", id)
	}
	return nil
}

// validateGroupResources checks the sum of a group and its executor, and returns
// that of the tasks.
func validateGroupResources(tasks []*mesos.TaskInfo, own resources.Resources) (resources.Resources, error) {
	var total resources.Resources
	parts := []resources.Resources{own}
	for _, t := range tasks {
		r, err := resources.FromProto(t.Resources)
		if err != nil {
			return total, err
		}
		total = total.Add(r)
		parts = append(parts, r)
	}
	all := total.Add(own)
	if err := validateUniquePersistence(all); err != nil {
		return total, within("Task group and executor use duplicate persistence ID: ", err)
	}
	if err := validateRevocable(all); err != nil {
		return total, within("Task group and executor mix revocable and non-revocable resources: ", err)
	}
	if overlapping(parts...) {
		texts := make([]string, 0, len(tasks))
		for _, p := range parts[1:] {
			texts = append(texts, p.String())
		}
		return total, invalidf("There are overlapping resources in the task group's task resources "+
			"[ %s ] and/or executor resources %s", strings.Join(texts, ", "), own)
	}
	return total, nil
}

// validateGroupCgroups checks that all tasks of an executor, those that it has
// and those that it gets, agree on share_cgroups.
func validateGroupCgroups(tasks []*mesos.TaskInfo, e *mesos.ExecutorInfo, fw *framework, ag *agent) error {
	if setsShareCgroups(e.Container) {
		return invalidf("The 'share_cgroups' field cannot be set to 'true' on executor containers")
	}
	differs := invalidf("If set, the value of 'share_cgroups' must be the same for all " +
		"tasks in each task group and under a single executor")
	want := sharesCgroups(tasks[0].Container)
	for _, t := range tasks[1:] {
		if sharesCgroups(t.Container) != want {
			return differs
		}
	}
	id := e.GetExecutorId().GetValue()
	if ag.executor(fw.id, id) == nil {
		return nil
	}
	agrees := func(t *Task) bool {
		if t.AgentID != ag.id || t.ExecutorID != id {
			return true
		}
		var container *mesos.ContainerInfo
		if t.Extra != nil {
			container = t.Extra.Container
		}
		return sharesCgroups(container) == want
	}
	ok := true
	for _, cl := range ag.cells {
		ok = ok && (cl.fw != fw || agrees(cl.rec))
	}
	fw.unreachable.Scan(func(_ string, t *Task) bool { ok = ok && agrees(t); return ok })
	if !ok {
		return differs
	}
	return nil
}
