// Package security has the isolators that take rights away from a container's
// command: posix/rlimits, linux/capabilities, linux/nnp, linux/seccomp and
// linux/devices.
//
// Each turns what the operator's flags (Options) and the framework's LinuxInfo say
// into a Preparation; the supervisor applies it between fork and exec, so none of them
// keeps state, and all are safe for concurrent use. isolation/setup imports it.
package security

import (
	mesos "clusterd/api/mesos/v1"
)

// Options are what the flags say.
type Options struct {
	// Effective (--effective_capabilities) are what a container gets that asks for
	// nothing; Bounding (--bounding_capabilities) is the most that one may get. Nil:
	// the flag was not given.
	Effective, Bounding *mesos.CapabilityInfo
	// Cgroups is where a container with a mount namespace of its own sees the machine's
	// cgroups: who lacks CAP_SYS_ADMIN gets them read-only. Empty: there are no such
	// namespaces. It is not a flag of its own.
	Cgroups string
	// SeccompDir (--seccomp_config_dir) holds profiles; SeccompProfile
	// (--seccomp_profile_name) is the one of containers that name none.
	SeccompDir, SeccompProfile string
	// Devices (--allowed_devices) appear in the /dev of containers with an image.
	Devices *mesos.DeviceWhitelist
}
