package security

import (
	"context"
	"fmt"
	"math"

	"golang.org/x/sys/unix"

	mesos "clusterd/api/mesos/v1"
	"clusterd/isolation"
)

// Rlimits is posix/rlimits: the limits of ContainerInfo.rlimit_info
// (src/slave/containerizer/mesos/isolators/posix/rlimits.cpp).
type Rlimits struct{ isolation.BaseIsolator }

// Name is "posix/rlimits".
func (Rlimits) Name() string { return "posix/rlimits" }

// rlimits are the resources of setrlimit(2) by their names in the API.
var rlimits = map[mesos.RLimitInfo_RLimit_Type]uint32{
	mesos.RLimitInfo_RLimit_RLMT_AS:         unix.RLIMIT_AS,
	mesos.RLimitInfo_RLimit_RLMT_CORE:       unix.RLIMIT_CORE,
	mesos.RLimitInfo_RLimit_RLMT_CPU:        unix.RLIMIT_CPU,
	mesos.RLimitInfo_RLimit_RLMT_DATA:       unix.RLIMIT_DATA,
	mesos.RLimitInfo_RLimit_RLMT_FSIZE:      unix.RLIMIT_FSIZE,
	mesos.RLimitInfo_RLimit_RLMT_LOCKS:      unix.RLIMIT_LOCKS,
	mesos.RLimitInfo_RLimit_RLMT_MEMLOCK:    unix.RLIMIT_MEMLOCK,
	mesos.RLimitInfo_RLimit_RLMT_MSGQUEUE:   unix.RLIMIT_MSGQUEUE,
	mesos.RLimitInfo_RLimit_RLMT_NICE:       unix.RLIMIT_NICE,
	mesos.RLimitInfo_RLimit_RLMT_NOFILE:     unix.RLIMIT_NOFILE,
	mesos.RLimitInfo_RLimit_RLMT_NPROC:      unix.RLIMIT_NPROC,
	mesos.RLimitInfo_RLimit_RLMT_RSS:        unix.RLIMIT_RSS,
	mesos.RLimitInfo_RLimit_RLMT_RTPRIO:     unix.RLIMIT_RTPRIO,
	mesos.RLimitInfo_RLimit_RLMT_RTTIME:     unix.RLIMIT_RTTIME,
	mesos.RLimitInfo_RLimit_RLMT_SIGPENDING: unix.RLIMIT_SIGPENDING,
	mesos.RLimitInfo_RLimit_RLMT_STACK:      unix.RLIMIT_STACK,
}

// Prepare turns the limits into those of the command. One without numbers is
// unlimited; a number alone, an unknown type, and soft above hard are errors
// (src/posix/rlimits.cpp).
func (Rlimits) Prepare(_ context.Context, config *isolation.ContainerConfig) (*isolation.Preparation, error) {
	infos := config.ContainerInfo.GetRlimitInfo().GetRlimits()
	if len(infos) == 0 {
		return nil, nil
	}
	limits := make([]isolation.Rlimit, 0, len(infos))
	for _, info := range infos {
		resource, ok := rlimits[info.GetType()]
		if !ok {
			return nil, fmt.Errorf("rlimit_info: unknown type %v: %w", info.GetType(), isolation.ErrNotSupported)
		}
		limit := isolation.Rlimit{Resource: resource, Soft: math.MaxUint64, Hard: math.MaxUint64}
		if (info.Soft == nil) != (info.Hard == nil) {
			return nil, fmt.Errorf("rlimit_info: %v has one of soft and hard, it needs both or none", info.GetType())
		}
		if info.Soft != nil {
			limit.Soft, limit.Hard = info.GetSoft(), info.GetHard()
		}
		if limit.Soft > limit.Hard {
			return nil, fmt.Errorf("rlimit_info: soft limit %d of %v is above the hard limit %d", limit.Soft, info.GetType(), limit.Hard)
		}
		limits = append(limits, limit)
	}
	return &isolation.Preparation{Rlimits: limits}, nil
}
