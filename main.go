// Command clusterd turns many machines into one pool and shares it among many
// frameworks. It is one static binary: master, agent, command line and the small
// programs that live beside containers are all modes of it.
//
// main hands the command line to internal/cli and exits with its code; nothing
// else happens here.
package main

import (
	"os"

	"clusterd/internal/cli"
)

func main() {
	os.Exit(cli.Main(os.Args, os.Stdin, os.Stdout, os.Stderr))
}
