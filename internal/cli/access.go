package cli

import (
	cliv2 "github.com/urfave/cli/v2"

	"clusterd/api/client"
	"clusterd/internal/cli/console"
)

// defaultMaster is where client commands look for a master.
const defaultMaster = console.DefaultMaster

// clientFlags are on every command that speaks to masters or agents, before its own.
func clientFlags(own ...cliv2.Flag) []cliv2.Flag { return console.Flags(own...) }

func outputFlag() cliv2.Flag { return console.OutputFlag() }

// masters are the addresses that the flags, the environment or the context name.
func masters(c *cliv2.Context) []string {
	cl, err := console.Connect(c)
	if err != nil {
		return nil // clientOptions says why
	}
	return cl.Masters()
}

// clientOptions say how a command speaks to one certain server.
func clientOptions(c *cliv2.Context) (client.Options, error) {
	cl, err := console.Connect(c)
	if err != nil {
		return client.Options{}, err
	}
	return cl.DirectOptions(), nil
}

// explain adds advice to errors of requests.
func explain(err error, c *cliv2.Context) error {
	cl, connectErr := console.Connect(c)
	if connectErr != nil {
		return err
	}
	return cl.Explain(err)
}
