// Command command-executor is the executor of command tasks. It is built small
// and embedded into clusterd; see package clusterd/agent/commandexecutor.
package main

import (
	"os"

	"clusterd/agent/commandexecutor"
)

func main() { os.Exit(commandexecutor.Main(commandexecutor.Options{})) }
