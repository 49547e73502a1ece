package reference

import (
	"embed"
	"fmt"
	"strings"

	cliv2 "github.com/urfave/cli/v2"

	"clusterd/internal/cli/console"
)

// examples are sessions that were recorded on a real cluster, by the command they show.
//
//go:embed examples/*.txt
var examples embed.FS

// example is the session that shows a command, empty without one.
func example(path string) string {
	b, err := examples.ReadFile("examples/" + strings.ReplaceAll(strings.TrimPrefix(path, "clusterd "), " ", "-") + ".txt")
	if err != nil {
		return ""
	}
	return strings.TrimRight(string(b), "\n")
}

// intro is what comes before the commands.
const intro = `# The command line

This page is made from the commands themselves (` + "`go test ./internal/cli -run Reference -update`" + `). ` + "`clusterd COMMAND --help`" + ` says the
same, and ` + "`clusterd man DIRECTORY`" + ` writes it as manual pages. Sessions are shown as they were on a real cluster.

Commands are a noun and a verb: ` + "`clusterd task kill`, `clusterd agent drain`, `clusterd quota set`" + `. Flags may stand before or
after arguments; after ` + "`--`" + ` nothing is a flag. Objects are named by their ids, by the beginning of one that is unique, or by
their names: tasks and frameworks by theirs, agents by hostname or the end of the id (` + "`S3`" + `). What changes something asks
first; ` + "`--yes`" + ` answers, and is needed where nobody can be asked. Of several objects the others are done when one fails.

## Which cluster, and who asks

`

const contexts = `
Every master does: it forwards to the leader and to agents, so one address is all that needs to be reached.

A config file keeps this under names: ` + "`~/.config/clusterd/config.toml`" + ` (` + "`$XDG_CONFIG_HOME`" + `; ` + "`$CLUSTERD_CONFIG`" + ` names another file).

` + "```toml" + `
current = "prod"

[contexts.prod]
masters = ["m1.example.com:5050", "m2.example.com:5050"]
principal = "ops"
secret_file = "~/.config/clusterd/prod.secret" # or secret = "...", or token_file
output = "wide"

[contexts.prod.tls]
ca = "/etc/clusterd/ca.pem"
cert = "/etc/clusterd/ops.pem"
key = "/etc/clusterd/ops-key.pem"
server_name = "master.example.com"
` + "```" + `

A flag comes before the environment, the environment before the context. A context's credentials and TLS go to its own
masters alone: where ` + "`--master`" + ` or ` + "`$CLUSTERD_MASTER`" + ` names others, they are used only if ` + "`--context`" + ` is given, too. Files with
secrets, the config file among them, must be readable by their owner alone. Keys that are not known are an error.

## Output

` + "`-o table|wide|json|yaml|name`" + `: ` + "`wide`" + ` has more columns, ` + "`json` and `yaml`" + ` the objects as the API has them, ` + "`name`" + ` a name a line, for
` + "`xargs`" + `. ` + "`--filter KEY=VALUE`" + ` (also ` + "`!=`, `~` and `!~`" + ` with a regular expression, ` + "`>` and `<`" + `) keeps what fits, by the columns of ` + "`wide`" + `;
several must all fit. ` + "`--sort-by COLUMN`" + ` sorts, ` + "`-COLUMN`" + ` backwards. ` + "`--no-headers`" + ` leaves the first line out. ` + "`watch`" + ` verbs show
events as they come, without asking again and again, and go on after a failover.

## Errors and exit codes

Errors are one line ` + "`clusterd: error: ...`" + ` on the standard error, and mostly a second, ` + "`hint: ...`" + `, that says what to do.

| code | meaning |
|---|---|
`

// Markdown is docs/cli.md.
func Markdown(commands []*cliv2.Command) string {
	var b strings.Builder
	b.WriteString(intro)
	b.WriteString("| flag | |\n|---|---|\n")
	for _, o := range optionsOf(&cliv2.Command{Flags: console.Flags()}) {
		fmt.Fprintf(&b, "| `%s` | %s |\n", o.line(), escape(o.usage+o.remarks()))
	}
	b.WriteString(contexts)
	for _, e := range console.ExitCodes {
		fmt.Fprintf(&b, "| %d | %s |\n", e.Code, e.Meaning)
	}
	b.WriteString("\n`clusterd run` and `exec` pass on the exit code of their command, 128+n if signal n ended it.\n")
	category := ""
	for _, c := range visible(commands) {
		if title := strings.TrimLeft(c.Category, "0123456789. "); title != category {
			category = title
			fmt.Fprintf(&b, "\n## %s\n", title)
		}
		section(&b, "###", "clusterd "+c.Name, c)
	}
	return b.String()
}

// section explains a command and its verbs.
func section(b *strings.Builder, level, path string, cmd *cliv2.Command) {
	fmt.Fprintf(b, "\n%s %s\n\n%s.\n", level, path, upper(cmd.Usage))
	fmt.Fprintf(b, "\n```\n%s\n```\n", synopsis(path, cmd))
	if cmd.Description != "" {
		if strings.Contains(cmd.Description, "\n  ") {
			fmt.Fprintf(b, "\n```text\n%s\n```\n", cmd.Description)
		} else {
			fmt.Fprintf(b, "\n%s\n", cmd.Description)
		}
	}
	if cmd.SkipFlagParsing && daemonFlags(cmd.Name) != nil {
		b.WriteString("\n`clusterd " + cmd.Name + " --help` lists its flags.\n")
	}
	rows := 0
	for _, o := range optionsOf(cmd) {
		if o.shared {
			continue
		}
		if rows++; rows == 1 {
			b.WriteString("\n| flag | |\n|---|---|\n")
		}
		fmt.Fprintf(b, "| `%s` | %s |\n", o.line(), escape(o.usage+o.remarks()))
	}
	if text := example(path); text != "" {
		fmt.Fprintf(b, "\n```console\n%s\n```\n", text)
	}
	for _, sub := range visible(cmd.Subcommands) {
		section(b, level+"#", path+" "+sub.Name, sub)
	}
}

func upper(s string) string {
	if s == "" {
		return s
	}
	return strings.ToUpper(s[:1]) + s[1:]
}

// escape keeps a text in its cell.
func escape(s string) string {
	return strings.NewReplacer("|", "\\|", "\n", " ", "<", "&lt;").Replace(s)
}
