// A process of its own per container need not look at cgroups to choose how
// many threads it may run.

//go:debug containermaxprocs=0
//go:debug updatemaxprocs=0

// Command command-executor-tls is the executor of command tasks that have an
// HTTP check, which may meet https. It is built small and embedded into
// clusterd; see package clusterd/agent/commandexecutor.
package main

import (
	"os"

	"clusterd/agent/commandexecutor"
	"clusterd/agent/commandexecutor/tlsprobe"
)

func main() {
	os.Exit(commandexecutor.Main(commandexecutor.Options{TLS: tlsprobe.Client}))
}
