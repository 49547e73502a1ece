package reference

import (
	"fmt"
	"strings"

	cliv2 "github.com/urfave/cli/v2"

	"clusterd/internal/cli/console"
	"clusterd/internal/version"
)

// Pages are the manual pages by file name.
func Pages(commands []*cliv2.Command) map[string]string {
	out := map[string]string{"clusterd.1": overview(commands)}
	for _, c := range visible(commands) {
		out["clusterd-"+c.Name+".1"] = page(c)
	}
	return out
}

// roff escapes a text.
func roff(s string) string {
	s = strings.NewReplacer(`\`, `\e`, "-", `\-`).Replace(s)
	lines := strings.Split(s, "\n")
	for i, l := range lines {
		if strings.HasPrefix(l, ".") || strings.HasPrefix(l, "'") {
			lines[i] = `\&` + l
		}
	}
	return strings.Join(lines, "\n")
}

func heading(b *strings.Builder, name, usage string) {
	fmt.Fprintf(b, ".TH %s 1 \"\" \"clusterd %s\" \"User Commands\"\n.SH NAME\n%s \\- %s\n", strings.ToUpper(roff(name)), version.Clusterd, roff(name), roff(usage))
}

func overview(commands []*cliv2.Command) string {
	var b strings.Builder
	heading(&b, "clusterd", "one pool of many machines, shared among many frameworks")
	b.WriteString(".SH SYNOPSIS\n.B clusterd\n.I COMMAND\n[\\fIFLAGS\\fR] [\\fIARGUMENT\\fR...]\n.SH COMMANDS\n")
	for _, c := range visible(commands) {
		fmt.Fprintf(&b, ".TP\n.BR clusterd\\-%s (1)\n%s\n", roff(c.Name), roff(c.Usage))
	}
	b.WriteString(".SH WHICH CLUSTER\nThese flags are on every command that speaks to a cluster.\n")
	for _, o := range optionsOf(&cliv2.Command{Flags: console.Flags()}) {
		term(&b, o)
	}
	b.WriteString(".SH EXIT STATUS\n")
	for _, e := range console.ExitCodes {
		fmt.Fprintf(&b, ".TP\n.B %d\n%s\n", e.Code, roff(e.Meaning))
	}
	b.WriteString(".SH FILES\n.TP\n.I ~/.config/clusterd/config.toml\nnamed contexts: see\n.BR clusterd\\-context (1).\n" +
		"$CLUSTERD_CONFIG names another file.\n")
	return b.String()
}

func term(b *strings.Builder, o option) {
	fmt.Fprintf(b, ".TP\n.B %s\n%s\n", roff(o.line()), roff(o.usage+o.remarks()))
}

func page(cmd *cliv2.Command) string {
	var b strings.Builder
	heading(&b, "clusterd-"+cmd.Name, cmd.Usage)
	b.WriteString(".SH SYNOPSIS\n")
	var lines []string
	if len(visible(cmd.Subcommands)) == 0 || cmd.SkipFlagParsing {
		lines = append(lines, synopsis("clusterd "+cmd.Name, cmd))
	}
	each(cmd, "clusterd "+cmd.Name, func(path string, sub *cliv2.Command) {
		if len(visible(sub.Subcommands)) == 0 {
			lines = append(lines, synopsis(path, sub))
		}
	})
	for i, l := range lines {
		if i > 0 {
			b.WriteString(".br\n")
		}
		fmt.Fprintf(&b, ".B %s\n", roff(l))
	}
	if cmd.Description != "" {
		fmt.Fprintf(&b, ".SH DESCRIPTION\n.nf\n%s\n.fi\n", roff(cmd.Description))
	}
	if set := daemonFlags(cmd.Name); set != nil && cmd.SkipFlagParsing {
		var usage strings.Builder
		if set.Usage(&usage) == nil { // a strings.Builder does not fail
			fmt.Fprintf(&b, ".SH FLAGS\n.nf\n%s\n.fi\n", roff(usage.String()))
		}
	}
	own(&b, cmd, "FLAGS")
	each(cmd, cmd.Name, func(path string, sub *cliv2.Command) {
		if len(visible(sub.Subcommands)) > 0 {
			return
		}
		fmt.Fprintf(&b, ".SH %s\n%s.\n", roff(strings.ToUpper(path)), roff(upper(sub.Usage)))
		if sub.Description != "" {
			fmt.Fprintf(&b, ".PP\n.nf\n%s\n.fi\n", roff(sub.Description))
		}
		own(&b, sub, "")
		if text := example("clusterd " + path); text != "" {
			fmt.Fprintf(&b, ".PP\n.nf\n%s\n.fi\n", roff(text))
		}
	})
	if text := example("clusterd " + cmd.Name); text != "" {
		fmt.Fprintf(&b, ".SH EXAMPLE\n.nf\n%s\n.fi\n", roff(text))
	}
	b.WriteString(".SH SEE ALSO\n.BR clusterd (1)\nhas the flags that say which cluster is meant, and the exit codes.\n")
	return b.String()
}

// own explains the flags that not every command has.
func own(b *strings.Builder, cmd *cliv2.Command, title string) {
	for _, o := range optionsOf(cmd) {
		if o.shared {
			continue
		}
		if title != "" {
			fmt.Fprintf(b, ".SH %s\n", title)
			title = ""
		}
		term(b, o)
	}
}

// each visits all subcommands.
func each(cmd *cliv2.Command, path string, visit func(path string, sub *cliv2.Command)) {
	for _, sub := range visible(cmd.Subcommands) {
		visit(path+" "+sub.Name, sub)
		each(sub, path+" "+sub.Name, visit)
	}
}
