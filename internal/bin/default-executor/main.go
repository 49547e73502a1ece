// A process of its own per pod need not look at cgroups to choose how
// many threads it may run.

//go:debug containermaxprocs=0
//go:debug updatemaxprocs=0

// Command default-executor is the executor of task groups. It is built small
// and embedded into clusterd; see package clusterd/agent/defaultexecutor.
package main

import (
	"os"

	"clusterd/agent/commandexecutor/tlsprobe"
	"clusterd/agent/defaultexecutor"
)

func main() { os.Exit(defaultexecutor.Main(defaultexecutor.Options{TLS: tlsprobe.Client})) }
