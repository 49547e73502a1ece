package agent

import (
	"fmt"
	"strings"

	"clusterd/agent/core"
	mesos "clusterd/api/mesos/v1"
	agentv1 "clusterd/api/mesos/v1/agent"
	"clusterd/internal/authz"
	"clusterd/internal/httpapi"
)

// containerCall is what the calls on containers have in common.
type containerCall struct {
	id *mesos.ContainerID
	// cmd is what a launch is to run; nil: nothing, or this is no launch.
	cmd    *mesos.CommandInfo
	action authz.Action
	// known says that the container's executor must be there.
	known bool
	// changes says that the call is to be found in the audit log.
	changes bool
}

// containerCallOf returns nil for calls that are about no container.
func containerCallOf(c *agentv1.Call) *containerCall {
	either := func(id *mesos.ContainerID, standalone, nested authz.Action) authz.Action {
		if id.GetParent() != nil {
			return nested
		}
		return standalone
	}
	switch c.GetType() {
	case agentv1.Call_LAUNCH_NESTED_CONTAINER:
		m := c.GetLaunchNestedContainer()
		return &containerCall{id: m.GetContainerId(), cmd: m.GetCommand(), action: authz.LaunchNestedContainersAsUser, changes: true}
	case agentv1.Call_LAUNCH_NESTED_CONTAINER_SESSION:
		m := c.GetLaunchNestedContainerSession()
		return &containerCall{id: m.GetContainerId(), cmd: m.GetCommand(), action: authz.LaunchNestedContainerSessionsAsUser, changes: true}
	case agentv1.Call_LAUNCH_CONTAINER:
		m := c.GetLaunchContainer()
		return &containerCall{
			id: m.GetContainerId(), cmd: m.GetCommand(), changes: true,
			action: either(m.GetContainerId(), authz.LaunchStandaloneContainers, authz.LaunchNestedContainersAsUser),
		}
	case agentv1.Call_WAIT_NESTED_CONTAINER:
		return &containerCall{id: c.GetWaitNestedContainer().GetContainerId(), action: authz.WaitNestedContainers}
	case agentv1.Call_WAIT_CONTAINER:
		id := c.GetWaitContainer().GetContainerId()
		return &containerCall{id: id, action: either(id, authz.WaitStandaloneContainers, authz.WaitNestedContainers)}
	case agentv1.Call_KILL_NESTED_CONTAINER:
		return &containerCall{id: c.GetKillNestedContainer().GetContainerId(), action: authz.KillNestedContainers, changes: true}
	case agentv1.Call_KILL_CONTAINER:
		id := c.GetKillContainer().GetContainerId()
		return &containerCall{id: id, action: either(id, authz.KillStandaloneContainers, authz.KillNestedContainers), changes: true}
	case agentv1.Call_REMOVE_NESTED_CONTAINER:
		return &containerCall{id: c.GetRemoveNestedContainer().GetContainerId(), action: authz.RemoveNestedContainers, changes: true}
	case agentv1.Call_REMOVE_CONTAINER:
		id := c.GetRemoveContainer().GetContainerId()
		return &containerCall{id: id, action: either(id, authz.RemoveStandaloneContainers, authz.RemoveNestedContainers), changes: true}
	case agentv1.Call_ATTACH_CONTAINER_INPUT:
		return &containerCall{id: c.GetAttachContainerInput().GetContainerId(), action: authz.AttachContainersInput, known: true, changes: true}
	case agentv1.Call_ATTACH_CONTAINER_OUTPUT:
		return &containerCall{id: c.GetAttachContainerOutput().GetContainerId(), action: authz.AttachContainersOutput, known: true}
	default:
		return nil
	}
}

// authorizeContainer is the error of who may not make a call on a container
// (_launchContainer, _waitContainer and so on in src/slave/http.cpp).
// Standalone says whether a container is there that no executor runs in.
func (x access) authorizeContainer(v *core.View, c *containerCall, standalone func(*mesos.ContainerID) bool) error {
	of := authz.Container{ID: c.id.GetValue(), Root: rootOf(c.id).GetValue()}
	if fw, e := containerOf(v, c.id); e != nil {
		of.User = strp(core.Owner(fw.Info, e.Info))
	} else if c.known && !standalone(c.id) {
		return httpapi.NotFound("Container %s cannot be found", containerText(c.id))
	}
	if c.cmd != nil {
		of.Command, of.CommandUser = true, c.cmd.User
	}
	return x.onContainer(c.action, of)
}

// unbuilt are the calls that are about no container and not built yet, with what they
// need.
var unbuilt = map[agentv1.Call_Type]authz.Action{
	agentv1.Call_ADD_RESOURCE_PROVIDER_CONFIG:    authz.ModifyResourceProviderConfigs,
	agentv1.Call_UPDATE_RESOURCE_PROVIDER_CONFIG: authz.ModifyResourceProviderConfigs,
	agentv1.Call_REMOVE_RESOURCE_PROVIDER_CONFIG: authz.ModifyResourceProviderConfigs,
	agentv1.Call_MARK_RESOURCE_PROVIDER_GONE:     authz.MarkResourceProvidersGone,
}

// maxContainerID is the longest id of a container (MAX_CONTAINER_ID_LENGTH in
// src/slave/constants.hpp).
const maxContainerID = 242

// validateContainerID is validateContainerId of src/slave/validation.cpp; empty if the id
// is valid.
func validateContainerID(id *mesos.ContainerID) string {
	under := ""
	for ; id != nil; id = id.GetParent() {
		value := id.GetValue()
		why := ""
		switch {
		case value == "":
			why = "ID must not be empty"
		case len(value) > 255:
			why = "ID must not be greater than 255 characters"
		case value == "." || value == "..":
			why = fmt.Sprintf("'%s' is disallowed", value)
		case strings.ContainsFunc(value, func(r rune) bool { return r < ' ' || r == 0x7f || r == '/' || r == '\\' }):
			why = fmt.Sprintf("'%s' contains invalid characters", value)
		case len(value) > maxContainerID:
			why = fmt.Sprintf("'ContainerID.value' '%s' exceeds the maximum length (%d)", value, maxContainerID)
		case strings.ContainsAny(value, ". "):
			why = fmt.Sprintf("'ContainerID.value' '%s' contains invalid characters", value)
		}
		if why != "" {
			return under + why
		}
		under += "'ContainerID.parent' is invalid: "
	}
	return ""
}
