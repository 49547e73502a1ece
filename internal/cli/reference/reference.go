// Package reference makes what explains the command line out of the command tree itself:
// completion for shells, manual pages, and docs/cli.md. [Commands] are the commands that
// print them, [Markdown] is the document.
//
// Nothing of it keeps state; completion asks the cluster for names and remembers them in a
// small file for some seconds. internal/cli imports it.
package reference

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	cliv2 "github.com/urfave/cli/v2"

	"clusterd/internal/cli/console"
	"clusterd/internal/flags"
)

// Tree returns all commands of the program.
type Tree func() []*cliv2.Command

// Commands are completion, man, and the hidden ones behind completion and docs/cli.md.
func Commands(e console.Env, tree Tree) []*cliv2.Command {
	return []*cliv2.Command{
		{
			Name: "completion", Usage: "print a completion script for bash, zsh or fish", ArgsUsage: "SHELL",
			Description: "The script asks clusterd itself for the words that fit; ids of tasks, agents, frameworks and so on\n" +
				"come from the cluster that the command line, the environment or the context names.\n\n" +
				"  bash  clusterd completion bash > /etc/bash_completion.d/clusterd\n" +
				"  zsh   clusterd completion zsh > \"${fpath[1]}/_clusterd\"\n" +
				"  fish  clusterd completion fish > ~/.config/fish/completions/clusterd.fish",
			Action: func(c *cliv2.Context) error {
				script, ok := completions[c.Args().First()]
				if !ok {
					return console.Hint(console.Usagef("no completion for shell %q", c.Args().First()),
						"try: clusterd completion bash > /etc/bash_completion.d/clusterd")
				}
				_, err := io.WriteString(e.Out, script)
				return err
			},
		},
		{
			Name: "man", Usage: "write manual pages into a directory", ArgsUsage: "DIRECTORY",
			Description: "One page for each command, such as clusterd-task.1, and clusterd.1. Below a directory of\n" +
				"$MANPATH they go into man1: clusterd man /usr/local/share/man/man1",
			Action: func(c *cliv2.Context) error {
				args, err := console.Args(c, 1, 1)
				if err != nil {
					return err
				}
				n, err := writePages(args[0], tree())
				if err != nil {
					return err
				}
				_, err = fmt.Fprintf(e.Out, "wrote %d pages to %s\n", n, args[0])
				return err
			},
		},
		{
			Name: "__complete", Hidden: true, SkipFlagParsing: true, HideHelp: true,
			Action: func(c *cliv2.Context) error {
				words := c.Args().Slice()
				if len(words) == 0 {
					return nil
				}
				return printCandidates(e.Out, words[0], Complete(c.Context, tree(), words[1:]))
			},
		},
		{
			Name: "__markdown", Hidden: true, HideHelp: true,
			Action: func(*cliv2.Context) error {
				_, err := io.WriteString(e.Out, Markdown(tree()))
				return err
			},
		},
	}
}

// visible are the commands that are shown, in their order.
func visible(commands []*cliv2.Command) []*cliv2.Command {
	return slices.DeleteFunc(slices.Clone(commands), func(c *cliv2.Command) bool { return c.Hidden || c.Name == "help" })
}

// option is a flag as it is explained.
type option struct {
	names    []string // with dashes
	value    string   // empty for switches
	usage    string
	fallback string
	env      []string
	shared   bool // one of those that say which cluster is meant
}

// optionsOf are the flags of a command; those of daemons are in `clusterd NAME --help`.
func optionsOf(cmd *cliv2.Command) []option {
	var out []option
	for _, f := range cmd.VisibleFlags() {
		d, ok := f.(cliv2.DocGenerationFlag)
		if !ok || slices.Contains(f.Names(), "help") {
			continue
		}
		o := option{env: d.GetEnvVars()}
		for _, n := range f.Names() {
			if len(n) == 1 {
				o.names = append(o.names, "-"+n)
			} else {
				o.names = append(o.names, "--"+n)
			}
		}
		o.value, o.usage = unquote(d.GetUsage())
		if !d.TakesValue() {
			o.value = ""
		} else {
			if o.value == "" {
				o.value = "VALUE"
			}
			o.fallback = strings.Trim(d.GetDefaultText(), `"`)
		}
		if c, ok := f.(cliv2.CategorizableFlag); ok {
			o.shared = c.GetCategory() == console.Category
		}
		out = append(out, o)
	}
	slices.SortStableFunc(out, func(a, b option) int { return strings.Compare(a.names[0], b.names[0]) })
	return out
}

// unquote takes the name of the value out of the back quotes of a usage text.
func unquote(usage string) (value, text string) {
	before, rest, ok := strings.Cut(usage, "`")
	if !ok {
		return "", usage
	}
	value, after, ok := strings.Cut(rest, "`")
	if !ok {
		return "", usage
	}
	return value, before + value + after
}

// line is a flag on a line.
func (o option) line() string {
	text := strings.Join(o.names, ", ")
	if o.value != "" {
		text += " " + o.value
	}
	return text
}

// remarks are the default and the variables.
func (o option) remarks() string {
	var parts []string
	if o.fallback != "" {
		parts = append(parts, "default: "+o.fallback)
	}
	for _, v := range o.env {
		parts = append(parts, "$"+v)
	}
	if len(parts) == 0 {
		return ""
	}
	return " (" + strings.Join(parts, "; ") + ")"
}

// daemonFlags are the flags of a command that is a daemon, nil of others.
func daemonFlags(name string) *flags.Set {
	switch name {
	case "master":
		return flags.Master()
	case "agent":
		return flags.Agent()
	}
	return nil
}

// synopsis is how a command is written.
func synopsis(path string, cmd *cliv2.Command) string {
	text := path
	if len(cmd.Flags) > 0 || cmd.SkipFlagParsing {
		text += " [FLAGS]"
	}
	if len(visible(cmd.Subcommands)) > 0 && !cmd.SkipFlagParsing {
		return path + " COMMAND"
	}
	return strings.TrimSpace(text + " " + cmd.ArgsUsage)
}

// writePages writes all manual pages.
func writePages(dir string, commands []*cliv2.Command) (int, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return 0, err
	}
	pages := Pages(commands)
	var errs []error
	for name, text := range pages {
		errs = append(errs, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644))
	}
	return len(pages), errors.Join(errs...)
}
