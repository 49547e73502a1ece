package core

import (
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"

	"clusterd/allocator/resources"
	mesos "clusterd/api/mesos/v1"
)

// validateExecutorInfo checks an executor by itself (Mesos:
// src/master/validation.cpp, executor::validate).
func validateExecutorInfo(e *mesos.ExecutorInfo) error {
	if err := validateExecutorType(e); err != nil {
		return err
	}
	if err := validateID(e.GetExecutorId().GetValue()); err != nil {
		return err
	}
	if e.GetShutdownGracePeriod().GetNanoseconds() < 0 {
		return invalidf("ExecutorInfo's 'shutdown_grace_period' must be non-negative")
	}
	if err := validateCommand(e.Command); err != nil {
		return within("Executor's `CommandInfo` is invalid: ", err)
	}
	return within("Executor's `ContainerInfo` is invalid: ", validateContainer(e.Container))
}

func validateExecutorType(e *mesos.ExecutorInfo) error {
	switch e.GetType() {
	case mesos.ExecutorInfo_DEFAULT:
		if e.Command != nil {
			return invalidf("'ExecutorInfo.command' must not be set for 'DEFAULT' executor")
		}
		if e.Container == nil {
			return nil
		}
		if e.Container.GetType() != mesos.ContainerInfo_MESOS {
			return invalidf("'ExecutorInfo.container.type' must be 'MESOS' for 'DEFAULT' executor")
		}
		if e.Container.GetMesos().GetImage() != nil {
			return invalidf("'ExecutorInfo.container.mesos.image' must not be set for 'DEFAULT' executor")
		}
	case mesos.ExecutorInfo_CUSTOM:
		if e.Command == nil {
			return invalidf("'ExecutorInfo.command' must be set for 'CUSTOM' executor")
		}
	default:
	}
	return nil
}

// validateExecutor checks an executor against its framework and agent.
func (c *Core) validateExecutor(e *mesos.ExecutorInfo, fw *framework, ag *agent) error {
	if err := validateExecutorInfo(e); err != nil {
		return err
	}
	if e.FrameworkId == nil {
		return invalidf("'ExecutorInfo.framework_id' must be set")
	}
	if id := e.FrameworkId.GetValue(); id != fw.id {
		return invalidf("ExecutorInfo has an invalid FrameworkID (Actual: %s vs Expected: %s)", id, fw.id)
	}
	if err := validateExecutorResources(e); err != nil {
		return err
	}
	have := ag.executor(fw.id, e.GetExecutorId().GetValue())
	if have != nil && !sameExecutor(have.Info, e) {
		const line = "------------------------------------------------------------\n"
		return invalidf("ExecutorInfo is not compatible with existing ExecutorInfo with same ExecutorID.\n"+
			line+"Existing ExecutorInfo:\n%s\n"+line+"ExecutorInfo:\n%s\n"+line,
			prototext.Format(have.Info), prototext.Format(e))
	}
	return nil
}

func validateExecutorResources(e *mesos.ExecutorInfo) error {
	if err := validateResources(e.Resources); err != nil {
		return within("Executor uses invalid resources: ", err)
	}
	r, err := resources.FromProto(e.Resources)
	if err != nil {
		return within("Executor uses invalid resources: ", err)
	}
	if err := validateUniquePersistence(r); err != nil {
		return within("Executor uses duplicate persistence ID: ", err)
	}
	if err := validateSingleAllocation(e.Resources); err != nil {
		return within("Invalid executor resources: ", err)
	}
	return within("Executor mixes revocable and non-revocable resources: ", validateRevocable(r))
}

// sameExecutor compares executors; the order of their resources does not matter.
func sameExecutor(a, b *mesos.ExecutorInfo) bool {
	if proto.Equal(a, b) {
		return true
	}
	x, y := proto.CloneOf(a), proto.CloneOf(b)
	x.Resources, y.Resources = nil, nil
	if !proto.Equal(x, y) {
		return false
	}
	rx, errX := resources.FromProto(a.Resources)
	ry, errY := resources.FromProto(b.Resources)
	return errX == nil && errY == nil && rx.Equal(ry)
}

// sharesCgroups says what a container's share_cgroups is; unset means true.
func sharesCgroups(c *mesos.ContainerInfo) bool {
	if l := c.GetLinuxInfo(); l != nil && l.ShareCgroups != nil {
		return l.GetShareCgroups()
	}
	return true
}

// setsShareCgroups reports whether a container asks for share_cgroups by name.
func setsShareCgroups(c *mesos.ContainerInfo) bool {
	l := c.GetLinuxInfo()
	return l != nil && l.ShareCgroups != nil && l.GetShareCgroups()
}
