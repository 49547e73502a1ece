package portmapping

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/vishvananda/netlink"

	mesos "clusterd/api/mesos/v1"
)

// minimumRate is the least that a container gets, in bytes per second, unless a
// flag says otherwise (DEFAULT_MINIMUM_EGRESS_RATE_LIMIT in port_mapping.hpp).
const minimumRate = 125000

// Limits are the flags --egress_* or --ingress_*, in bytes per second; 0 means that a
// flag is not given.
type Limits struct {
	// PerContainer (..._rate_limit_per_container) or PerCPU times the whole CPUs that
	// the container has (..._rate_per_cpu; Auto shares the speed of the link out).
	PerContainer uint64
	PerCPU       uint64
	Auto         bool
	// Minimum and Maximum (..._rate_limit) bound the result.
	Minimum, Maximum uint64
	// Ceil (..._ceil_limit) may be used for Burst bytes.
	Ceil, Burst uint64
}

// Rate is what one container may send, or receive.
type Rate struct {
	Rate  uint64 `json:"rate"`
	Ceil  uint64 `json:"ceil,omitempty"`
	Burst uint64 `json:"burst,omitempty"`
}

// validate refuses what contradicts itself, and fills PerCPU in for Auto.
func (l *Limits) validate(what string, cpus float64, speed uint64) error {
	switch {
	case l.PerContainer != 0 && (l.PerCPU != 0 || l.Auto):
		return fmt.Errorf("only one of --%[1]s_rate_limit_per_container and --%[1]s_rate_per_cpu can be given", what)
	case l.Minimum != 0 && l.Maximum != 0 && l.Minimum > l.Maximum:
		return fmt.Errorf("--minimum_%[1]s_rate_limit is greater than --maximum_%[1]s_rate_limit", what)
	case speed != 0 && l.PerContainer > speed, speed != 0 && l.Minimum > speed:
		return fmt.Errorf("the %s limit of containers is greater than the speed of the link, %d bytes/s", what, speed)
	case !l.Auto:
		return nil
	case cpus < 1:
		return fmt.Errorf("--%s_rate_per_cpu=auto needs cpus among the agent's resources", what)
	case speed == 0:
		return fmt.Errorf("--%s_rate_per_cpu=auto needs to know the speed of the link: give --network_link_speed", what)
	}
	l.PerCPU = speed / uint64(cpus)
	return nil
}

// rate is a container's, nil for no limit (egressHTBConfig in port_mapping.cpp).
func (l *Limits) rate(resources []*mesos.Resource) *Rate {
	var r Rate
	switch {
	case l.PerContainer != 0:
		r.Rate = l.PerContainer
	case l.PerCPU != 0:
		var cpus float64
		for _, resource := range resources {
			if resource.GetName() == "cpus" {
				cpus += resource.GetScalar().GetValue()
			}
		}
		r.Rate = l.PerCPU * uint64(max(cpus, 0))
	default:
		return nil
	}
	if l.Minimum != 0 {
		r.Rate = max(r.Rate, l.Minimum)
	} else {
		r.Rate = max(r.Rate, minimumRate)
	}
	if l.Maximum != 0 {
		r.Rate = min(r.Rate, l.Maximum)
	}
	if l.Ceil > r.Rate {
		r.Ceil, r.Burst = l.Ceil, l.Burst
	}
	return &r
}

// The queue that bounds what leaves a link: htb with one class, and below it
// fq_codel, which keeps one connection from holding up the others.
var (
	htbHandle = netlink.MakeHandle(1, 0)
	htbClass  = netlink.MakeHandle(1, 1)
)

// setRate bounds what the link sends; nil takes the bound away. It may be called
// again, with another rate.
func setRate(link netlink.Link, r *Rate, ecn bool) error {
	index := link.Attrs().Index
	htb := netlink.NewHtb(netlink.QdiscAttrs{LinkIndex: index, Handle: htbHandle, Parent: netlink.HANDLE_ROOT})
	htb.Defcls = 1
	qdiscs, err := netlink.QdiscList(link)
	if err != nil {
		return fmt.Errorf("list the queues of %s: %w", link.Attrs().Name, err)
	}
	limited := false
	for _, q := range qdiscs {
		limited = limited || q.Type() == "htb" && q.Attrs().Handle == htbHandle
	}
	switch {
	case r == nil && limited:
		return netlink.QdiscDel(htb)
	case r == nil:
		return nil
	case !limited:
		if err := netlink.QdiscAdd(htb); err != nil {
			return fmt.Errorf("limit the rate of %s: %w", link.Attrs().Name, err)
		}
	}
	class := netlink.NewHtbClass(
		netlink.ClassAttrs{LinkIndex: index, Parent: htbHandle, Handle: htbClass},
		netlink.HtbClassAttrs{Rate: r.Rate * 8, Ceil: r.Ceil * 8, Buffer: uint32(min(r.Burst, 1<<31))}, //nolint:gosec // bounded
	)
	if err := netlink.ClassReplace(class); err != nil {
		return fmt.Errorf("limit the rate of %s: %w", link.Attrs().Name, err)
	}
	if limited {
		return nil
	}
	codel := netlink.NewFqCodel(netlink.QdiscAttrs{LinkIndex: index, Parent: htbClass, Handle: netlink.MakeHandle(2, 0)})
	codel.ECN = 0
	if ecn {
		codel.ECN = 1
	}
	// A kernel without it has the queue that came with the class, which does.
	if err := netlink.QdiscAdd(codel); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("queue on %s: %w", link.Attrs().Name, err)
	}
	return nil
}

// linkSpeed is the speed of a link in bytes per second, 0 if nobody knows.
func linkSpeed(name string) uint64 {
	b, err := os.ReadFile("/sys/class/net/" + name + "/speed")
	if err != nil {
		return 0
	}
	mbits, err := strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64)
	if err != nil || mbits <= 0 {
		return 0
	}
	return uint64(mbits) * 1e6 / 8
}
