package server

import (
	"clusterd/registry"
	"clusterd/server/core"
)

// Recovered is what the registry holds in the words of the core, as a new leader
// starts from it. Simulations start their masters so too.
func Recovered(s *registry.State) core.Recovered { return recovered(s) }
