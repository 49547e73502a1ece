package security

import (
	"context"
	"errors"
	"fmt"
	"math/bits"
	"os"
	"strings"

	"github.com/moby/sys/capability"
	"golang.org/x/sys/unix"

	mesos "clusterd/api/mesos/v1"
	"clusterd/isolation"
)

// ErrCapabilities says that capabilities are asked for that may not be had.
var ErrCapabilities = errors.New("capabilities not allowed")

// Capabilities is linux/capabilities: what rights of root a container's command has
// (src/slave/containerizer/mesos/isolators/linux/capabilities.cpp).
type Capabilities struct {
	isolation.BaseIsolator
	// effective and bounding are the operator's.
	effective, bounding *mesos.CapabilityInfo
	// all are those that this kernel knows.
	all uint64
	// cgroups is Options.Cgroups.
	cgroups string
}

// NewCapabilities makes the isolator; the default effective capabilities must lie
// within the bounding ones, and the agent must be root.
func NewCapabilities(o Options) (*Capabilities, error) {
	if os.Geteuid() != 0 {
		return nil, errors.New("it needs root")
	}
	all, err := supportedCapabilities()
	if err != nil {
		return nil, err
	}
	c := &Capabilities{effective: o.Effective, bounding: o.Bounding, all: all, cgroups: o.Cgroups}
	// What holds for a container that asks for nothing is the check of the flags.
	if _, err := c.sets(nil); err != nil {
		return nil, err
	}
	return c, nil
}

func supportedCapabilities() (uint64, error) {
	last, err := capability.LastCap()
	if err != nil {
		return 0, fmt.Errorf("which capabilities the kernel knows: %w", err)
	}
	return 1<<(uint(last)+1) - 1, nil
}

// Name is "linux/capabilities".
func (*Capabilities) Name() string { return "linux/capabilities" }

// Prepare says which sets the command gets.
func (c *Capabilities) Prepare(_ context.Context, config *isolation.ContainerConfig) (*isolation.Preparation, error) {
	sets, err := c.sets(config.ContainerInfo.GetLinuxInfo())
	if err != nil || sets == nil {
		return nil, err
	}
	p := &isolation.Preparation{Capabilities: sets}
	// The files of cgroups are root's: who is root and sees the machine's could raise the own
	// limits. Who has CAP_SYS_ADMIN could mount them anew in any case. (With an image only the
	// own ones are seen, and nobody may write there.)
	if (sets.Bounding|sets.Permitted)&(1<<unix.CAP_SYS_ADMIN) == 0 && c.cgroups != "" && config.RootFS == "" && config.Class != isolation.ClassDebug {
		p.ReadonlyPaths = []string{c.cgroups}
	}
	return p, nil
}

// sets computes the sets of a container: nil when nobody restricts them. A framework's
// wish comes before the operator's default, and must lie within the bounding set: its
// own, which must lie within the operator's, or else the operator's.
func (c *Capabilities) sets(info *mesos.LinuxInfo) (*isolation.Capabilities, error) {
	if info.GetCapabilityInfo() != nil && info.GetEffectiveCapabilities() != nil {
		return nil, fmt.Errorf("%w: only one of capability_info and effective_capabilities may be given", ErrCapabilities)
	}
	effective := c.effective
	for _, wish := range []*mesos.CapabilityInfo{info.GetCapabilityInfo(), info.GetEffectiveCapabilities()} {
		if wish != nil {
			effective = wish
		}
	}
	bounding := info.GetBoundingCapabilities()
	if bounding != nil && c.bounding != nil {
		if err := within("bounding", bounding, c.bounding); err != nil {
			return nil, err
		}
	}
	if bounding == nil {
		bounding = c.bounding
	}
	if bounding == nil {
		bounding = effective
	}
	if bounding == nil {
		return nil, nil
	}
	bound, err := mask(bounding)
	if err != nil {
		return nil, err
	}
	if effective == nil {
		// Whoever is root stays root, within the bounds; ambient capabilities would
		// make everybody root.
		bound &= c.all
		return &isolation.Capabilities{Effective: bound, Permitted: bound, Inheritable: bound, Bounding: bound}, nil
	}
	if err := within("effective", effective, bounding); err != nil {
		return nil, err
	}
	have, err := mask(effective)
	if err != nil {
		return nil, err
	}
	if unknown := (have | bound) &^ c.all; unknown != 0 {
		return nil, fmt.Errorf("%w: this kernel does not know %s", ErrCapabilities, names(unknown))
	}
	return &isolation.Capabilities{Effective: have, Permitted: have, Inheritable: have, Bounding: bound, Ambient: have}, nil
}

// within says whether the capabilities of a are all in b.
func within(what string, a, b *mesos.CapabilityInfo) error {
	requested, err1 := mask(a)
	allowed, err2 := mask(b)
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	if requested&^allowed != 0 {
		return fmt.Errorf("%w: %s capabilities %s are asked for, but only %s are allowed", ErrCapabilities, what, names(requested), names(allowed))
	}
	return nil
}

// firstCapability is how Mesos numbers CAP_CHOWN.
const firstCapability = int32(mesos.CapabilityInfo_CHOWN)

// mask turns a list into a set of bits.
func mask(info *mesos.CapabilityInfo) (uint64, error) {
	var m uint64
	for _, c := range info.GetCapabilities() {
		n := int32(c) - firstCapability
		if n < 0 || n > 63 {
			return 0, fmt.Errorf("%w: unknown capability %v", ErrCapabilities, c)
		}
		m |= 1 << uint(n)
	}
	return m, nil
}

func names(m uint64) string {
	var all []string
	for ; m != 0; m &= m - 1 {
		all = append(all, mesos.CapabilityInfo_Capability(firstCapability+int32(bits.TrailingZeros64(m))).String())
	}
	return "[" + strings.Join(all, ", ") + "]"
}
