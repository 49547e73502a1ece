package core

import (
	"math"
	"slices"
	"strings"

	"clusterd/allocator/resources"
	mesos "clusterd/api/mesos/v1"
)

// validateTask checks a task of a LAUNCH; offered is what its offers have left
// (Mesos: src/master/validation.cpp, task::validate).
func (c *Core) validateTask(t *mesos.TaskInfo, fw *framework, ag *agent, offered resources.Resources) error {
	if err := validateTaskInfo(t, fw, ag); err != nil {
		return err
	}
	if err := c.validateTaskExecutor(t, fw, ag, offered); err != nil {
		return err
	}
	if !sharesCgroups(t.Container) {
		return invalidf("Only tasks in a task group may have 'share_cgroups' set to 'false'")
	}
	return nil
}

// validateTaskInfo checks a task without its executor. The order of the checks
// matters to clients, who see the first that fails.
func validateTaskInfo(t *mesos.TaskInfo, fw *framework, ag *agent) error {
	id := t.GetTaskId().GetValue()
	return first(
		func() error { return validateID(id) },
		func() error { return validateUniqueTask(id, fw) },
		func() error {
			if have := t.GetAgentId().GetValue(); have != ag.id {
				return invalidf("Task uses invalid agent %s while agent %s is expected", have, ag.id)
			}
			return nil
		},
		func() error {
			if t.GetKillPolicy().GetGracePeriod().GetNanoseconds() < 0 {
				return invalidf("Task's 'kill_policy.grace_period' must be non-negative")
			}
			return nil
		},
		func() error {
			if t.GetMaxCompletionTime().GetNanoseconds() < 0 {
				return invalidf("Task's `max_completion_time` must be non-negative")
			}
			return nil
		},
		func() error {
			if t.Check == nil {
				return nil
			}
			return within("Task uses invalid check: ", validateCheck(t.Check))
		},
		func() error {
			if t.HealthCheck == nil {
				return nil
			}
			return within("Task uses invalid health check: ", validateHealthCheck(t.HealthCheck))
		},
		func() error { return validateTaskResources(t) },
		func() error { return within("Task's `CommandInfo` is invalid: ", validateCommand(t.Command)) },
		func() error { return within("Task's `ContainerInfo` is invalid: ", validateContainer(t.Container)) },
		func() error { return validateLimits(t, ag) },
	)
}

func validateUniqueTask(id string, fw *framework) error {
	if _, ok := fw.cells[id]; ok {
		return invalidf("Task has duplicate ID: %s", id)
	}
	if _, ok := fw.unreachable.Get(id); ok {
		return invalidf("Task reuses the ID of an unreachable task: %s", id)
	}
	return nil
}

func validateTaskResources(t *mesos.TaskInfo) error {
	if len(t.Resources) == 0 {
		return invalidf("Task uses no resources")
	}
	if err := validateResources(t.Resources); err != nil {
		return within("Task uses invalid resources: ", err)
	}
	r, err := resources.FromProto(t.Resources)
	if err != nil {
		return within("Task uses invalid resources: ", err)
	}
	if err := validateUniquePersistence(r); err != nil {
		return within("Task uses duplicate persistence ID: ", err)
	}
	if err := validateSingleAllocation(t.Resources); err != nil {
		return within("Invalid task resources: ", err)
	}
	return within("Task mixes revocable and non-revocable resources: ", validateRevocable(r))
}

// validateLimits checks the ceilings on cpus and mem; infinite ones are allowed.
func validateLimits(t *mesos.TaskInfo, ag *agent) error {
	if len(t.Limits) == 0 {
		return nil
	}
	if !ag.can(mesos.AgentInfo_Capability_TASK_RESOURCE_LIMITS) {
		return invalidf("Agent is not capable of handling task resource limits")
	}
	for name := range t.Limits {
		if name != "cpus" && name != "mem" {
			return invalidf("Only cpus and mem may be included in a task's resource limits")
		}
	}
	r, err := resources.FromProto(t.Resources)
	if err != nil {
		return err
	}
	has := func(name string) bool { return slices.Contains(r.Names(), name) }
	if l, ok := t.Limits["cpus"]; ok {
		if !has("cpus") {
			return invalidf("When a CPU limit is specified, a CPU request must also be specified")
		}
		if v := l.GetValue(); math.IsNaN(v) || v < r.CPUs() {
			return invalidf("The cpu limit must be greater than or equal to the cpu request")
		}
	}
	if l, ok := t.Limits["mem"]; ok {
		if !has("mem") {
			return invalidf("When a memory limit is specified, a memory request must also be specified")
		}
		if v := l.GetValue(); math.IsNaN(v) || v < r.Mem() {
			return invalidf("The memory limit must be greater than or equal to the memory request")
		}
	}
	return nil
}

// validateTaskExecutor checks a task together with the executor that it names.
func (c *Core) validateTaskExecutor(t *mesos.TaskInfo, fw *framework, ag *agent, offered resources.Resources) error {
	if (t.Executor != nil) == (t.Command != nil) {
		return invalidf("Task should have at least one (but not both) of CommandInfo or ExecutorInfo present")
	}
	task, err := resources.FromProto(t.Resources)
	if err != nil {
		return err
	}
	total := task
	if e := t.Executor; e != nil {
		if err := c.validateExecutor(e, fw, ag); err != nil {
			return err
		}
		if err := validateCustomExecutor(e); err != nil {
			return err
		}
		executor, err := resources.FromProto(e.Resources)
		if err != nil {
			return err
		}
		if err := validateTogether(t, task, executor); err != nil {
			return err
		}
		c.warnSmallExecutor(t, executor)
		if ag.executor(fw.id, e.GetExecutorId().GetValue()) == nil {
			total = total.Add(executor)
		}
	}
	if !offered.Contains(total) {
		return invalidf("Total resources %s required by task and its executor is more than available %s",
			total, offered)
	}
	return nil
}

// validateCustomExecutor checks an executor that a task of a LAUNCH brings.
func validateCustomExecutor(e *mesos.ExecutorInfo) error {
	if e.Type != nil && e.GetType() != mesos.ExecutorInfo_CUSTOM {
		return invalidf("'ExecutorInfo.type' must be 'CUSTOM'")
	}
	if e.Command == nil {
		return invalidf("'ExecutorInfo.command' must be set")
	}
	for _, r := range e.Resources {
		if r.Shared != nil {
			return invalidf("Executor resources %s should not contain any shared resources", resourcesText(e.Resources))
		}
	}
	if setsShareCgroups(e.Container) {
		return invalidf("The 'share_cgroups' field cannot be set to 'true' on executor containers")
	}
	return nil
}

// validateTogether checks the sum of a task and its executor.
func validateTogether(t *mesos.TaskInfo, task, executor resources.Resources) error {
	both := append(slices.Clone(t.Resources), t.Executor.Resources...)
	if err := validateResources(both); err != nil {
		return within("Task and its executor use invalid resources: ", err)
	}
	if overlapping(task, executor) {
		return invalidf("There are overlapping resources in the task resources %s and executor resources %s",
			task, executor)
	}
	total := task.Add(executor)
	if err := validateUniquePersistence(total); err != nil {
		return within("Task and its executor use duplicate persistence ID: ", err)
	}
	return within("Task and its executor mix revocable and non-revocable resources: ", validateRevocable(total))
}

// warnSmallExecutor tells of executors that a task group could not have.
func (c *Core) warnSmallExecutor(t *mesos.TaskInfo, r resources.Resources) {
	if r.Scalar("cpus") < minExecutorCPUs || r.Scalar("mem") < minExecutorMem {
		c.log(Warn, "executor_too_small",
			"task_id", t.GetTaskId().GetValue(), "executor_id", t.Executor.GetExecutorId().GetValue(),
			"resources", r.String())
	}
}

// resourcesText writes resources one after the other, as they came.
func resourcesText(rs []*mesos.Resource) string {
	var text strings.Builder
	for i, r := range rs {
		if i > 0 {
			text.WriteString("; ")
		}
		text.WriteString(resources.Text(r))
	}
	return text.String()
}
