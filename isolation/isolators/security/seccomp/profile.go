// Package seccomp reads seccomp profiles of Docker's format and compiles them to the
// programs that the kernel filters system calls with.
//
// Parse gives a Profile, which is immutable; Profile.Compile the program for this
// machine and a set of capabilities. isolation/isolators/security imports it.
package seccomp

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	mesos "clusterd/api/mesos/v1"
)

// ErrProfile says that a profile cannot be used.
var ErrProfile = errors.New("invalid seccomp profile")

// Profile is a profile in Docker's format, old and new
// (src/linux/seccomp/seccomp_parser.cpp reads a part of it).
type Profile struct {
	def   uint32
	archs []string
	rules []rule
}

// rule is one entry of "syscalls".
type rule struct {
	names              []string
	action             uint32
	args               []argument
	includes, excludes filter
}

// filter says where a rule counts.
type filter struct {
	arches []string
	// caps counts when anyCaps is set.
	caps    uint64
	anyCaps bool
}

// argument is one condition on an argument of a system call.
type argument struct {
	index       uint32
	op          string
	value, mask uint64
}

// The JSON of a profile.
type (
	profileJSON struct {
		DefaultAction   string   `json:"defaultAction"`
		DefaultErrnoRet *uint32  `json:"defaultErrnoRet"`
		Architectures   []string `json:"architectures"`
		ArchMap         []struct {
			Architecture     string   `json:"architecture"`
			SubArchitectures []string `json:"subArchitectures"`
		} `json:"archMap"`
		Syscalls []ruleJSON `json:"syscalls"`
	}
	ruleJSON struct {
		Name     string     `json:"name"`
		Names    []string   `json:"names"`
		Action   string     `json:"action"`
		ErrnoRet *uint32    `json:"errnoRet"`
		Args     []argJSON  `json:"args"`
		Includes filterJSON `json:"includes"`
		Excludes filterJSON `json:"excludes"`
	}
	argJSON struct {
		Index    *uint32 `json:"index"`
		Value    uint64  `json:"value"`
		ValueTwo uint64  `json:"valueTwo"`
		Op       string  `json:"op"`
	}
	filterJSON struct {
		Arches    []string `json:"arches"`
		Caps      []string `json:"caps"`
		MinKernel string   `json:"minKernel"`
	}
)

// What a filter may return (linux/seccomp.h).
const (
	retKillProcess = 0x80000000
	retKillThread  = 0x00000000
	retTrap        = 0x00030000
	retErrno       = 0x00050000
	retTrace       = 0x7ff00000
	retLog         = 0x7ffc0000
	retAllow       = 0x7fff0000

	eperm  = 1
	enosys = 38
	// maxErrno is the largest that the kernel returns.
	maxErrno = 4095
)

var actions = map[string]uint32{
	"SCMP_ACT_KILL":         retKillThread,
	"SCMP_ACT_KILL_THREAD":  retKillThread,
	"SCMP_ACT_KILL_PROCESS": retKillProcess,
	"SCMP_ACT_TRAP":         retTrap,
	"SCMP_ACT_ERRNO":        retErrno,
	"SCMP_ACT_TRACE":        retTrace,
	"SCMP_ACT_LOG":          retLog,
	"SCMP_ACT_ALLOW":        retAllow,
}

var operators = []string{
	"SCMP_CMP_NE", "SCMP_CMP_LT", "SCMP_CMP_LE", "SCMP_CMP_EQ", "SCMP_CMP_GE", "SCMP_CMP_GT", "SCMP_CMP_MASKED_EQ",
}

// Parse reads a profile. What would make a container less safe than its author
// thinks (an unknown action, operator, architecture or capability) is an error; names
// of system calls that this machine does not have are not.
func Parse(text []byte) (*Profile, error) {
	var in profileJSON
	if err := json.Unmarshal(text, &in); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrProfile, err)
	}
	def, err := action(in.DefaultAction, in.DefaultErrnoRet)
	if err != nil {
		return nil, fmt.Errorf("%w: defaultAction: %w", ErrProfile, err)
	}
	p := &Profile{def: def, archs: slices.Clone(in.Architectures)}
	for _, m := range in.ArchMap {
		if m.Architecture != native.scmp {
			continue
		}
		p.archs = append(append(p.archs, m.Architecture), m.SubArchitectures...)
	}
	for _, a := range p.archs {
		if !strings.HasPrefix(a, "SCMP_ARCH_") {
			return nil, fmt.Errorf("%w: architecture %q", ErrProfile, a)
		}
	}
	for i, r := range in.Syscalls {
		out, err := parseRule(&r)
		if err != nil {
			return nil, fmt.Errorf("%w: entry %d of syscalls: %w", ErrProfile, i, err)
		}
		p.rules = append(p.rules, split(out)...)
	}
	return p, nil
}

func action(name string, errno *uint32) (uint32, error) {
	ret, ok := actions[name]
	if !ok {
		return 0, fmt.Errorf("unknown action %q", name)
	}
	data := uint32(eperm)
	if errno != nil {
		data = *errno
	}
	if ret == retErrno || ret == retTrace {
		if data > maxErrno {
			return 0, fmt.Errorf("error number %d", data)
		}
		ret |= data
	}
	return ret, nil
}

func parseRule(in *ruleJSON) (*rule, error) {
	out := &rule{names: in.Names}
	if in.Name != "" { // as Docker wrote it before 1.13
		out.names = append(slices.Clone(in.Names), in.Name)
	}
	if len(out.names) == 0 {
		return nil, errors.New("no names")
	}
	var err error
	if out.action, err = action(in.Action, in.ErrnoRet); err != nil {
		return nil, err
	}
	for _, a := range in.Args {
		switch {
		case a.Index == nil || *a.Index > 5:
			return nil, errors.New("the index of an argument is not from 0 to 5")
		case !slices.Contains(operators, a.Op):
			return nil, fmt.Errorf("unknown operator %q", a.Op)
		}
		arg := argument{index: *a.Index, op: a.Op, value: a.Value}
		if a.Op == "SCMP_CMP_MASKED_EQ" {
			arg.mask, arg.value = a.Value, a.ValueTwo
		}
		out.args = append(out.args, arg)
	}
	if out.includes, err = parseFilter(&in.Includes); err != nil {
		return nil, fmt.Errorf("includes: %w", err)
	}
	if out.excludes, err = parseFilter(&in.Excludes); err != nil {
		return nil, fmt.Errorf("excludes: %w", err)
	}
	return out, nil
}

func parseFilter(in *filterJSON) (filter, error) {
	f := filter{arches: in.Arches, anyCaps: len(in.Caps) > 0}
	for _, name := range in.Caps {
		c, ok := mesos.CapabilityInfo_Capability_value[strings.TrimPrefix(name, "CAP_")]
		if !ok || !strings.HasPrefix(name, "CAP_") || c < int32(mesos.CapabilityInfo_CHOWN) {
			return f, fmt.Errorf("unknown capability %q", name)
		}
		f.caps |= 1 << uint(c-int32(mesos.CapabilityInfo_CHOWN))
	}
	if in.MinKernel != "" {
		var major, minor int
		if n, err := fmt.Sscanf(in.MinKernel, "%d.%d", &major, &minor); n != 2 || err != nil {
			return f, fmt.Errorf("minKernel %q", in.MinKernel)
		}
		if !kernelAtLeast(major, minor) {
			f.arches = []string{"none"}
		}
	}
	return f, nil
}

// counts says whether a rule counts for a container of these capabilities here.
func (r *rule) counts(caps uint64) bool {
	if len(r.includes.arches) > 0 && !slices.Contains(r.includes.arches, native.docker) {
		return false
	}
	if slices.Contains(r.excludes.arches, native.docker) {
		return false
	}
	if r.includes.anyCaps && r.includes.caps&^caps != 0 {
		return false
	}
	return !r.excludes.anyCaps || r.excludes.caps&^caps != 0
}

// split makes rules of one whose conditions name an argument twice: the conditions are
// alternatives then, as libseccomp cannot have two on one argument and the tools that
// use it agreed on that.
func split(r *rule) []rule {
	seen := map[uint32]bool{}
	for _, a := range r.args {
		if !seen[a.index] {
			seen[a.index] = true
			continue
		}
		out := make([]rule, 0, len(r.args))
		for _, one := range r.args {
			part := *r
			part.args = []argument{one}
			out = append(out, part)
		}
		return out
	}
	return []rule{*r}
}
