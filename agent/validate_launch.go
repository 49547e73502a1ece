package agent

import (
	"fmt"
	"strings"

	"clusterd/allocator/resources"
	mesos "clusterd/api/mesos/v1"
	agentv1 "clusterd/api/mesos/v1/agent"
)

// validateLaunch says what is wrong with what a launch wants; empty: nothing, or it is no
// launch (agent::call::validate in src/slave/validation.cpp).
func validateLaunch(c *agentv1.Call) string {
	switch c.GetType() {
	case agentv1.Call_LAUNCH_CONTAINER:
		l := c.GetLaunchContainer()
		if why := validateLaunchResources(l); why != "" {
			return why
		}
		if why := validateWhat("launch_container", l.Command, l.Container); why != "" {
			return why
		}
		return validateSharing(l)
	case agentv1.Call_LAUNCH_NESTED_CONTAINER:
		l := c.GetLaunchNestedContainer()
		if why := validateWhat("launch_nested_container", l.Command, l.Container); why != "" {
			return why
		}
		if twiceNested(l.GetContainerId()) && !sharesCgroups(l.GetContainer()) {
			return "'launch_nested_container' is invalid: containers nested at the second level or greater cannot set 'share_cgroups' to 'false'"
		}
	case agentv1.Call_LAUNCH_NESTED_CONTAINER_SESSION:
		l := c.GetLaunchNestedContainerSession()
		if why := validateWhat("launch_nested_container_session", l.Command, l.Container); why != "" {
			return why
		}
		if !sharesCgroups(l.GetContainer()) {
			return "'launch_nested_container_session.container.linux_info' is invalid: 'share_cgroups' cannot be set to 'false' for nested container sessions"
		}
	default:
	}
	return ""
}

func twiceNested(id *mesos.ContainerID) bool { return id.GetParent().GetParent() != nil }

// sharesCgroups is what a container wants, which is true when it does not say.
func sharesCgroups(c *mesos.ContainerInfo) bool {
	info := c.GetLinuxInfo()
	return info == nil || info.ShareCgroups == nil || info.GetShareCgroups()
}

func validateLaunchResources(l *agentv1.Call_LaunchContainer) string {
	if err := resources.ValidateAll(l.GetResources()); err != nil {
		return "Invalid resources: " + err.Error()
	}
	var gpus int64
	for _, r := range l.GetResources() {
		if r.GetName() == "gpus" {
			gpus += resources.ToMilli(r.GetScalar().GetValue())
		}
	}
	if gpus%1000 != 0 {
		return "Invalid GPU resources: The 'gpus' resource must be an unsigned integer"
	}
	if l.GetContainerId().GetParent() != nil {
		return ""
	}
	for _, r := range l.GetResources() {
		switch {
		case len(r.GetReservations()) > 0 || r.Role != nil && r.GetRole() != "*":
			return "'launch_container.resources' must be unreserved"
		case r.GetDisk().GetPersistence() != nil:
			return "'launch_container.resources' may not use persistent volumes"
		case r.Revocable != nil:
			return "'launch_container.resources' must be non-revocable"
		}
	}
	return ""
}

func validateSharing(l *agentv1.Call_LaunchContainer) string {
	info := l.GetContainer().GetLinuxInfo()
	const twice = "'launch_container' is invalid: containers nested at the second level or greater cannot "
	if twiceNested(l.GetContainerId()) {
		switch {
		case len(l.GetResources()) > 0:
			return twice + "specify resources"
		case len(l.GetLimits()) > 0:
			return twice + "specify resource limits"
		case !sharesCgroups(l.GetContainer()):
			return twice + "set 'share_cgroups' to 'false'"
		}
	}
	if l.GetContainerId().GetParent() == nil && info != nil && info.ShareCgroups != nil && info.GetShareCgroups() {
		return "'launch_container' is invalid: containers without a parent cannot set 'share_cgroups' to 'true'"
	}
	return ""
}

// validateWhat checks what to run and in what.
func validateWhat(call string, cmd *mesos.CommandInfo, container *mesos.ContainerInfo) string {
	if why := validateEnvironment(cmd.GetEnvironment()); why != "" {
		return "'" + call + ".command' is invalid: " + why
	}
	if why := validateContainer(container); why != "" {
		return "'" + call + ".container' is invalid: " + why
	}
	return ""
}

// validateEnvironment is that of src/common/validation.cpp.
func validateEnvironment(env *mesos.Environment) string {
	for _, v := range env.GetVariables() {
		which := fmt.Sprintf("Environment variable '%s' ", v.GetName())
		switch v.GetType() {
		case mesos.Environment_Variable_SECRET:
			switch {
			case v.Secret == nil:
				return which + "of type 'SECRET' must have a secret set"
			case v.Value != nil:
				return which + "of type 'SECRET' must not have a value set"
			case strings.ContainsRune(string(v.GetSecret().GetValue().GetData()), 0):
				return which + "specifies a secret containing null bytes, which is not allowed in the environment"
			}
			if why := validateSecret(v.GetSecret()); why != "" {
				return which + "specifies an invalid secret: " + why
			}
		case mesos.Environment_Variable_VALUE:
			switch {
			case v.Value == nil:
				return which + "of type 'VALUE' must have a value set"
			case v.Secret != nil:
				return which + "of type 'VALUE' must not have a secret set"
			}
		default:
			return "Environment variable of type 'UNKNOWN' is not allowed"
		}
	}
	return ""
}

func validateSecret(s *mesos.Secret) string {
	switch s.GetType() {
	case mesos.Secret_REFERENCE:
		if s.Reference == nil {
			return "Secret of type REFERENCE must have the 'reference' field set"
		}
		if s.Value != nil {
			return "Secret '" + s.GetReference().GetName() + "' of type REFERENCE must not have the 'value' field set"
		}
	case mesos.Secret_VALUE:
		if s.Value == nil {
			return "Secret of type VALUE must have the 'value' field set"
		}
		if s.Reference != nil {
			return "Secret of type VALUE must not have the 'reference' field set"
		}
	default:
		return "Secret of type UNKNOWN is not allowed"
	}
	return ""
}

// validateContainer is validateContainerInfo of src/common/validation.cpp.
func validateContainer(c *mesos.ContainerInfo) string {
	for _, v := range c.GetVolumes() {
		if why := validateVolume(v); why != "" {
			return "Invalid volume: " + why
		}
	}
	if c == nil || c.GetType() != mesos.ContainerInfo_DOCKER {
		return ""
	}
	if c.Docker == nil {
		return "DockerInfo 'docker' is not set for DOCKER typed ContainerInfo"
	}
	for _, p := range c.GetDocker().GetParameters() {
		if p.GetKey() == "name" {
			return "Parameter in DockerInfo must not be 'name'"
		}
	}
	return ""
}

func validateVolume(v *mesos.Volume) string {
	set := 0
	for _, there := range []bool{v.HostPath != nil, v.Image != nil, v.Source != nil} {
		if there {
			set++
		}
	}
	if set != 1 {
		return "Only one of them should be set: 'host_path', 'image' and 'source'"
	}
	if v.Source == nil {
		return ""
	}
	s := v.GetSource()
	there, field := false, ""
	switch s.GetType() {
	case mesos.Volume_Source_DOCKER_VOLUME:
		there, field = s.DockerVolume != nil, "docker_volume' is not set for DOCKER_VOLUME volume"
	case mesos.Volume_Source_HOST_PATH:
		there, field = s.HostPath != nil, "host_path' is not set for HOST_PATH volume"
	case mesos.Volume_Source_SANDBOX_PATH:
		there, field = s.SandboxPath != nil, "sandbox_path' is not set for SANDBOX_PATH volume"
	case mesos.Volume_Source_SECRET:
		there, field = s.Secret != nil, "secret' is not set for SECRET volume"
	case mesos.Volume_Source_CSI_VOLUME:
		there, field = s.CsiVolume != nil, "csi_volume' is not set for CSI volume"
		if there && s.GetCsiVolume().StaticProvisioning == nil {
			there, field = false, "csi_volume.static_provisioning' is not set for CSI volume"
		}
	default:
		return "'source.type' is unknown"
	}
	if !there {
		return "'source." + field
	}
	return ""
}
