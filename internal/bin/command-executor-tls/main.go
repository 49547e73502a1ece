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
	os.Exit(commandexecutor.Main(commandexecutor.Options{DialTLS: tlsprobe.Dial}))
}
