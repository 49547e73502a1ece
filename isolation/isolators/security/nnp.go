package security

import (
	"context"

	"clusterd/isolation"
)

// NoNewPrivileges is linux/nnp: no program that a container executes gets rights by
// its set-user-id bit or file capabilities
// (src/slave/containerizer/mesos/isolators/linux/nnp.cpp).
type NoNewPrivileges struct{ isolation.BaseIsolator }

// Name is "linux/nnp".
func (NoNewPrivileges) Name() string { return "linux/nnp" }

// Prepare asks for PR_SET_NO_NEW_PRIVS.
func (NoNewPrivileges) Prepare(context.Context, *isolation.ContainerConfig) (*isolation.Preparation, error) {
	return &isolation.Preparation{NoNewPrivileges: true}, nil
}
