// Command supervisor is the process above each container. It is built small
// and embedded into clusterd; see package clusterd/isolation/supervisor.
package main

import (
	"os"

	"clusterd/isolation/supervisor"
)

func main() { os.Exit(supervisor.Main(os.Args)) }
