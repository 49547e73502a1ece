// A process of its own per container need not look at cgroups to choose how
// many threads it may run.

//go:debug containermaxprocs=0
//go:debug updatemaxprocs=0

// Command supervisor is the process above each container. It is built small
// and embedded into clusterd; see package clusterd/isolation/supervisor.
package main

import (
	"os"

	"clusterd/isolation/supervisor"
)

func main() { os.Exit(supervisor.Main(os.Args)) }
