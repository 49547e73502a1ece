package core

import (
	"fmt"
	"math"
	"strings"

	mesos "clusterd/api/mesos/v1"
)

// invalid is what is wrong with something that a client sent. The text goes to
// the client, word for word as Mesos says it; hence the capitals.
type invalid string

// Error implements error.
func (e invalid) Error() string { return string(e) }

func invalidf(format string, args ...any) error {
	return invalid(fmt.Sprintf(format, args...))
}

// validateID checks an id that may become a directory's name (Mesos:
// src/common/validation.cpp).
func validateID(id string) error {
	switch {
	case id == "":
		return invalidf("ID must not be empty")
	case len(id) > 255:
		return invalidf("ID must not be greater than 255 characters")
	case id == "." || id == "..":
		return invalidf("'%s' is disallowed", id)
	}
	for i := range len(id) {
		if b := id[i]; b < 0x20 || b == 0x7f || b == '/' || b == '\\' {
			return invalidf("'%s' contains invalid characters", id)
		}
	}
	return nil
}

// within puts a sentence before what went wrong.
func within(prefix string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s%w", prefix, err)
}

// first returns the first error of checks run in order.
func first(checks ...func() error) error {
	for _, check := range checks {
		if err := check(); err != nil {
			return err
		}
	}
	return nil
}

// setText writes a set as Mesos prints one.
func setText(items []string) string {
	return "{ " + strings.Join(items, ", ") + " }"
}

func validateSecret(s *mesos.Secret) error {
	switch s.GetType() {
	case mesos.Secret_REFERENCE:
		if s.Reference == nil {
			return invalidf("Secret of type REFERENCE must have the 'reference' field set")
		}
		if s.Value != nil {
			return invalidf("Secret '%s' of type REFERENCE must not have the 'value' field set", s.Reference.GetName())
		}
	case mesos.Secret_VALUE:
		if s.Value == nil {
			return invalidf("Secret of type VALUE must have the 'value' field set")
		}
		if s.Reference != nil {
			return invalidf("Secret of type VALUE must not have the 'reference' field set")
		}
	default:
	}
	return nil
}

func validateEnvironment(env *mesos.Environment) error {
	for _, v := range env.GetVariables() {
		if err := validateVariable(v); err != nil {
			return err
		}
	}
	return nil
}

func validateVariable(v *mesos.Environment_Variable) error {
	name := v.GetName()
	switch v.GetType() {
	case mesos.Environment_Variable_SECRET:
		if v.Secret == nil {
			return invalidf("Environment variable '%s' of type 'SECRET' must have a secret set", name)
		}
		if v.Value != nil {
			return invalidf("Environment variable '%s' of type 'SECRET' must not have a value set", name)
		}
		if err := validateSecret(v.Secret); err != nil {
			return invalidf("Environment variable '%s' specifies an invalid secret: %s", name, err)
		}
		if strings.ContainsRune(string(v.Secret.GetValue().GetData()), 0) {
			return invalidf("Environment variable '%s' specifies a secret containing null bytes, "+
				"which is not allowed in the environment", name)
		}
	case mesos.Environment_Variable_VALUE:
		if v.Value == nil {
			return invalidf("Environment variable '%s' of type 'VALUE' must have a value set", name)
		}
		if v.Secret != nil {
			return invalidf("Environment variable '%s' of type 'VALUE' must not have a secret set", name)
		}
	default:
		return invalidf("Environment variable of type 'UNKNOWN' is not allowed")
	}
	return nil
}

func validateCommand(cmd *mesos.CommandInfo) error {
	return validateEnvironment(cmd.GetEnvironment())
}

func validateVolume(v *mesos.Volume) error {
	set := 0
	for _, present := range []bool{v.HostPath != nil, v.Image != nil, v.Source != nil} {
		if present {
			set++
		}
	}
	if set != 1 {
		return invalidf("Only one of them should be set: 'host_path', 'image' and 'source'")
	}
	if v.Source == nil {
		return nil
	}
	unset := func(absent bool, field, kind string) error {
		if absent {
			return invalidf("'source.%s' is not set for %s volume", field, kind)
		}
		return nil
	}
	switch s := v.Source; s.GetType() {
	case mesos.Volume_Source_DOCKER_VOLUME:
		return unset(s.DockerVolume == nil, "docker_volume", "DOCKER_VOLUME")
	case mesos.Volume_Source_HOST_PATH:
		return unset(s.HostPath == nil, "host_path", "HOST_PATH")
	case mesos.Volume_Source_SANDBOX_PATH:
		return unset(s.SandboxPath == nil, "sandbox_path", "SANDBOX_PATH")
	case mesos.Volume_Source_SECRET:
		return unset(s.Secret == nil, "secret", "SECRET")
	case mesos.Volume_Source_CSI_VOLUME:
		if err := unset(s.CsiVolume == nil, "csi_volume", "CSI"); err != nil {
			return err
		}
		return unset(s.CsiVolume.GetStaticProvisioning() == nil, "csi_volume.static_provisioning", "CSI")
	default:
		return invalidf("'source.type' is unknown")
	}
}

func validateContainer(c *mesos.ContainerInfo) error {
	for _, v := range c.GetVolumes() {
		if err := validateVolume(v); err != nil {
			return within("Invalid volume: ", err)
		}
	}
	if c == nil || c.GetType() != mesos.ContainerInfo_DOCKER {
		return nil
	}
	if c.Docker == nil {
		return invalidf("DockerInfo 'docker' is not set for DOCKER typed ContainerInfo")
	}
	for _, p := range c.Docker.Parameters {
		if p.GetKey() == "name" {
			return invalidf("Parameter in DockerInfo must not be 'name'")
		}
	}
	return nil
}

// seconds checks the times of a check: pairs of a name and an optional value.
func validateSeconds(names []string, values ...*float64) error {
	for i, v := range values {
		if v != nil && (*v < 0 || math.IsNaN(*v)) {
			return invalidf("Expecting '%s' to be non-negative", names[i])
		}
	}
	return nil
}

// commandKind says what a command's value is.
func commandKind(cmd *mesos.CommandInfo) string {
	if cmd.GetShell() {
		return "'shell command'"
	}
	return "'executable path'"
}

func validateHealthCheck(h *mesos.HealthCheck) error {
	if h.Type == nil {
		return invalidf("HealthCheck must specify 'type'")
	}
	switch h.GetType() {
	case mesos.HealthCheck_COMMAND:
		if h.Command == nil {
			return invalidf("Expecting 'command' to be set for COMMAND health check")
		}
		if h.Command.Value == nil {
			return invalidf("Command health check must contain %s", commandKind(h.Command))
		}
		if err := validateCommand(h.Command); err != nil {
			return within("Health check's `CommandInfo` is invalid: ", err)
		}
	case mesos.HealthCheck_HTTP:
		if h.Http == nil {
			return invalidf("Expecting 'http' to be set for HTTP health check")
		}
		if s := h.Http.GetScheme(); h.Http.Scheme != nil && s != "http" && s != "https" {
			return invalidf("Unsupported HTTP health check scheme: '%s'", s)
		}
		if h.Http.Path != nil && !strings.HasPrefix(h.Http.GetPath(), "/") {
			return invalidf("The path '%s' of HTTP health check must start with '/'", h.Http.GetPath())
		}
	case mesos.HealthCheck_TCP:
		if h.Tcp == nil {
			return invalidf("Expecting 'tcp' to be set for TCP health check")
		}
	default:
		return invalidf("'UNKNOWN' is not a valid health check type")
	}
	return validateSeconds(
		[]string{"delay_seconds", "grace_period_seconds", "interval_seconds", "timeout_seconds"},
		h.DelaySeconds, h.GracePeriodSeconds, h.IntervalSeconds, h.TimeoutSeconds,
	)
}

func validateCheck(c *mesos.CheckInfo) error {
	if c.Type == nil {
		return invalidf("CheckInfo must specify 'type'")
	}
	switch c.GetType() {
	case mesos.CheckInfo_COMMAND:
		if c.Command == nil {
			return invalidf("Expecting 'command' to be set for COMMAND check")
		}
		cmd := c.Command.GetCommand()
		if cmd == nil || cmd.Value == nil {
			return invalidf("Command check must contain %s", commandKind(cmd))
		}
		if err := validateCommand(cmd); err != nil {
			return within("Check's `CommandInfo` is invalid: ", err)
		}
	case mesos.CheckInfo_HTTP:
		if c.Http == nil {
			return invalidf("Expecting 'http' to be set for HTTP check")
		}
		if c.Http.Path != nil && !strings.HasPrefix(c.Http.GetPath(), "/") {
			return invalidf("The path '%s' of HTTP check must start with '/'", c.Http.GetPath())
		}
	case mesos.CheckInfo_TCP:
		if c.Tcp == nil {
			return invalidf("Expecting 'tcp' to be set for TCP check")
		}
	default:
		return invalidf("'UNKNOWN' is not a valid check type")
	}
	return validateSeconds(
		[]string{"delay_seconds", "interval_seconds", "timeout_seconds"},
		c.DelaySeconds, c.IntervalSeconds, c.TimeoutSeconds,
	)
}
