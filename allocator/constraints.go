package allocator

import (
	"errors"

	mesos "clusterd/api/mesos/v1"
	"clusterd/api/mesos/v1/scheduler"
)

// Constraints are the offer constraints of a framework, compiled.
type Constraints struct{}

// RegexpLimits bound the regular expressions in offer constraints.
type RegexpLimits struct {
	// MaxMemory is --offer_constraints_re2_max_mem, in bytes.
	MaxMemory int64
	// MaxProgramSize is --offer_constraints_re2_max_program_size.
	MaxProgramSize int
}

// CompileConstraints checks and compiles offer constraints.
func CompileConstraints(*scheduler.OfferConstraints, RegexpLimits) (*Constraints, error) {
	return nil, errors.New("offer constraints do not act yet")
}

// match reports whether the framework wants offers of the agent in the role.
func (c *Constraints) match(role, hostname string, domain *mesos.DomainInfo, attributes []*mesos.Attribute) bool {
	return true
}
