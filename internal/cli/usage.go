package cli

import (
	"fmt"
	"strings"

	cliv2 "github.com/urfave/cli/v2"

	"clusterd/internal/cli/console"
	"clusterd/internal/flags"
)

// refuseUsage has every command say in two lines what was wrong with its flags, and end with the
// exit code of a wrong command line; else the library prints the whole help, and the error is
// lost above it.
func refuseUsage(path string, commands []*cliv2.Command) {
	for _, c := range commands {
		at := path + " " + c.Name
		if c.OnUsageError == nil {
			c.OnUsageError = func(_ *cliv2.Context, err error, _ bool) error {
				err = fmt.Errorf("%w: %w", console.ErrUsage, err)
				if best := nearestFlag(c, err.Error()); best != "" {
					return console.Hint(err, "did you mean --%s? %s --help shows all flags", best, at)
				}
				return console.Hint(err, "%s --help shows all flags", at)
			}
		}
		refuseUsage(at, c.Subcommands)
	}
}

// nearestFlag returns the flag of a command that an unknown one, as package flag words it, was
// probably meant to be, or "".
func nearestFlag(c *cliv2.Command, said string) string {
	_, name, ok := strings.Cut(said, "flag provided but not defined: -")
	if !ok {
		return ""
	}
	var names []string
	for _, f := range c.Flags {
		for _, n := range f.Names() {
			if len(n) > 1 {
				names = append(names, n)
			}
		}
	}
	return flags.Nearest(name, names)
}
