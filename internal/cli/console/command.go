package console

import (
	"fmt"
	"slices"
	"strings"

	cliv2 "github.com/urfave/cli/v2"

	"clusterd/internal/flags"
)

// Group makes a noun of a command that has subcommands: alone it shows help, and what is
// no verb of it is refused with what was meant.
func Group(cmd *cliv2.Command) *cliv2.Command {
	cmd.Action = func(c *cliv2.Context) error {
		if name := c.Args().First(); name != "" {
			return UnknownVerb(cmd, name)
		}
		return cliv2.ShowSubcommandHelp(c)
	}
	return cmd
}

// UnknownVerb says that a command has no such subcommand, and which may have been meant.
func UnknownVerb(cmd *cliv2.Command, name string) error {
	var names []string
	for _, sub := range cmd.Subcommands {
		if !sub.Hidden {
			names = append(names, sub.Name)
		}
	}
	err := fmt.Errorf("%w: no command %q", ErrUsage, cmd.Name+" "+name)
	if best := flags.Nearest(name, names); best != "" {
		return Hint(err, "did you mean %q? there are %s", best, strings.Join(names, ", "))
	}
	return Hint(err, "there are %s", strings.Join(names, ", "))
}

// Args returns the arguments of a command, of which there are to be between least and
// most; most < 0: any number.
func Args(c *cliv2.Context, least, most int) ([]string, error) {
	args := c.Args().Slice()
	if len(args) < least || most >= 0 && len(args) > most {
		return nil, Hint(Usagef("%d arguments", len(args)), "%s", UsageLine(c))
	}
	return args, nil
}

// UsageLine is how a command is written.
func UsageLine(c *cliv2.Context) string {
	name := strings.Join(lineage(c), " ")
	return strings.TrimSpace(name + " [FLAGS] " + c.Command.ArgsUsage)
}

// lineage are the names of a command and of those above it.
func lineage(c *cliv2.Context) []string {
	if c.Command == nil {
		return []string{"clusterd"}
	}
	return strings.Fields(c.Command.HelpName)
}

// Interspersed puts flags before arguments, wherever they were written, since the parser
// wants them first. After "--", and for commands whose arguments are another command from
// its first argument on, everything stays as it is.
func Interspersed(commands []*cliv2.Command, args []string) []string {
	at := 1
	var cmd *cliv2.Command
	for at < len(args) {
		next := find(commands, args[at])
		if next == nil {
			break
		}
		cmd, commands, at = next, next.Subcommands, at+1
	}
	if cmd == nil || len(cmd.Subcommands) > 0 || cmd.SkipFlagParsing {
		return args
	}
	var first, rest []string
	dashes := false
	for i := at; i < len(args); i++ {
		a := args[i]
		switch {
		case a == "--" && len(rest) == 0, a == "--" && !foreign(cmd):
			dashes = true
			rest = append(rest, args[i+1:]...)
			i = len(args)
		case len(rest) > 0 && foreign(cmd):
			rest = append(rest, args[i:]...)
			i = len(args)
		case len(a) < 2 || a[0] != '-':
			rest = append(rest, a)
		default:
			first = append(first, a)
			if !strings.Contains(a, "=") && takesValue(cmd, strings.TrimLeft(a, "-")) && i+1 < len(args) {
				i++
				first = append(first, args[i])
			}
		}
	}
	out := slices.Concat(args[:at], first)
	if dashes {
		out = append(out, "--")
	}
	return append(out, rest...)
}

// foreign tells whether the arguments of a command are, or end in, another command, whose
// flags are its own.
func foreign(cmd *cliv2.Command) bool { return strings.Contains(cmd.ArgsUsage, "COMMAND") }

func find(commands []*cliv2.Command, name string) *cliv2.Command {
	for _, c := range commands {
		if c.HasName(name) {
			return c
		}
	}
	return nil
}

// takesValue tells whether the word after a flag is its value.
func takesValue(cmd *cliv2.Command, name string) bool {
	for _, f := range cmd.Flags {
		if slices.Contains(f.Names(), name) {
			d, ok := f.(cliv2.DocGenerationFlag)
			return ok && d.TakesValue()
		}
	}
	return false
}

// Commas splits the values of a flag that takes several with commas between them; flags do
// not do so by themselves, since a comma may be part of a value.
func Commas(values []string) []string {
	var out []string
	for _, v := range values {
		out = append(out, strings.FieldsFunc(v, func(r rune) bool { return r == ',' })...)
	}
	return out
}
