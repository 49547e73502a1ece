package core

import (
	"google.golang.org/protobuf/proto"

	"clusterd/allocator/resources"
	mesos "clusterd/api/mesos/v1"
)

// readResources reads resources that an agent reports, in either format.
func readResources(rs []*mesos.Resource) (resources.Resources, error) {
	if err := resources.ValidateAll(rs); err != nil {
		return resources.Resources{}, err
	}
	upgraded := make([]*mesos.Resource, len(rs))
	for i, r := range rs {
		if r.Role != nil || r.Reservation != nil {
			r = proto.CloneOf(r)
			resources.ToPostRefinement(r)
		}
		upgraded[i] = r
	}
	return resources.FromProto(upgraded)
}

// validate checks a RegisterAgent, and computes the agent's total (Mesos:
// src/master/validation.cpp, registerSlave and reregisterSlave). A link is
// trusted to be an agent's, but not to make sense.
func (r *registration) validate() error {
	info := r.msg.GetAgentInfo()
	if info == nil {
		return invalidf("'agent_info' must be set")
	}
	if info.Id != nil {
		if err := validateID(info.Id.GetValue()); err != nil {
			return err
		}
	}
	if r.msg.GetIp() == "" {
		return invalidf("'ip' must be set")
	}
	total, err := readTotal(info.Resources)
	if err != nil {
		return err
	}
	checkpointed, err := readResources(r.msg.CheckpointedResources)
	if err != nil {
		return err
	}
	if r.total, err = total.ApplyCheckpointed(checkpointed); err != nil {
		return err
	}
	frameworks, err := r.validateFrameworks()
	if err != nil {
		return err
	}
	executors, err := r.validateExecutors(frameworks)
	if err != nil {
		return err
	}
	if err := r.validateTasks(frameworks, executors); err != nil {
		return err
	}
	return r.validateOperations()
}

// readTotal reads what an agent says that it has. Who it is for is not the
// agent's to say: offered on, the allocator would lose count of it.
func readTotal(rs []*mesos.Resource) (resources.Resources, error) {
	total, err := readResources(rs)
	for i := range total.Len() {
		if it := total.At(i); err == nil && it.Role() != "" {
			err = invalidf("Agent's resource %s is allocated to role '%s'", it, it.Role())
		}
	}
	return total, err
}

func (r *registration) validateFrameworks() (map[string]bool, error) {
	ids := map[string]bool{}
	for _, f := range r.frameworks {
		if err := f.validate(); err != nil {
			return nil, err
		}
		id := f.info.GetId().GetValue()
		if id == "" {
			return nil, invalidf("Framework has no FrameworkID")
		}
		if ids[id] {
			return nil, invalidf("Framework has a duplicate FrameworkID: '%s'", id)
		}
		ids[id] = true
	}
	return ids, nil
}

func (r *registration) validateExecutors(frameworks map[string]bool) (map[string]bool, error) {
	keys := map[string]bool{}
	for _, e := range r.msg.Executors {
		if e.GetExecutorInfo() == nil {
			return nil, invalidf("Executor has no ExecutorInfo")
		}
		if err := validateExecutorInfo(e.ExecutorInfo); err != nil {
			return nil, err
		}
		if _, err := readResources(e.ExecutorInfo.Resources); err != nil {
			return nil, err
		}
		framework, id := e.GetFrameworkId().GetValue(), e.ExecutorInfo.GetExecutorId().GetValue()
		if !frameworks[framework] {
			return nil, invalidf("Executor has an invalid FrameworkID '%s'", framework)
		}
		if key := executorKey(framework, id); keys[key] {
			return nil, invalidf("Framework '%s' has a duplicate ExecutorID '%s'", framework, id)
		}
		keys[executorKey(framework, id)] = true
	}
	return keys, nil
}

func (r *registration) validateTasks(frameworks, executors map[string]bool) error {
	agentID := r.id()
	r.reported = make(map[taskRef]bool, len(r.tasks))
	for i := range r.tasks {
		t := &r.tasks[i]
		if err := validateID(t.ID); err != nil {
			return within("Task has an invalid TaskID: ", err)
		}
		if t.AgentID != agentID {
			return invalidf("Task has an invalid AgentID '%s'", t.AgentID)
		}
		// One that has ended holds nothing: the agent may know no more of its
		// framework than that the master asked for it (reconcile_tasks).
		if !frameworks[t.FrameworkID] && !t.Terminal() {
			return invalidf("Task has an invalid FrameworkID '%s'", t.FrameworkID)
		}
		ref := taskRef{t.FrameworkID, t.ID}
		if r.reported[ref] {
			return invalidf("Framework '%s' has a duplicate TaskID '%s'", t.FrameworkID, t.ID)
		}
		r.reported[ref] = true
		if t.named && t.State == mesos.TaskState_TASK_RUNNING && !executors[executorKey(t.FrameworkID, t.ExecutorID)] {
			return invalidf("Task has an invalid ExecutorID '%s'", t.ExecutorID)
		}
		if t.err != nil {
			return within("Task uses invalid resources: ", t.err)
		}
	}
	return nil
}

func (r *registration) validateOperations() error {
	for _, op := range r.msg.Operations {
		if len(op.GetUuid().GetValue()) != 16 {
			return invalidf("Operation has an invalid UUID")
		}
		if op.Info == nil || op.LatestStatus == nil {
			return invalidf("Operation has no info or no status")
		}
		if err := resources.ValidateAndUpgrade(op.Info); err != nil {
			return within("Operation uses invalid resources: ", err)
		}
	}
	return nil
}
