package flags

import (
	"fmt"
	"io"
	"strings"
)

// usageWidth is the column at which the help text is wrapped.
const usageWidth = 100

// Usage writes the help text of every flag: first those that work, then those
// that are accepted without effect or replaced. Rejected flags are left out.
func (s *Set) Usage(w io.Writer) error {
	var b strings.Builder
	b.WriteString("Every flag can also be given as $CLUSTERD_<NAME> or $MESOS_<NAME>, and every value as\n")
	b.WriteString("file:///path to a file that holds it. Durations: 500ms, 10secs, 5mins, 1hrs, 2days, 1weeks.\n\nFlags:\n")
	var rest []Flag
	for _, f := range s.flags {
		switch f.State {
		case Works:
			writeFlag(&b, f)
		case Accepted, Guarded, Replaced:
			rest = append(rest, f)
		case Rejected:
		}
	}
	if len(rest) > 0 {
		b.WriteString("\nAccepted for Mesos's sake (checked; no effect yet, or done another way;\nthose that ask for a protection which this version lacks are refused):\n")
		for _, f := range rest {
			writeFlag(&b, f)
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func writeFlag(b *strings.Builder, f Flag) {
	if f.Type == Bool {
		fmt.Fprintf(b, "  --[no-]%s\n", f.Name)
	} else {
		fmt.Fprintf(b, "  --%s=%s\n", f.Name, f.Type.placeholder())
	}
	help := f.Help
	if f.State == Replaced && f.Note != "" {
		help += " clusterd: " + f.Note + "."
	}
	if f.Default != "" {
		help += " (default: " + f.Default + ")"
	}
	if len(f.Aliases) > 0 {
		help += " (old name: --" + strings.Join(f.Aliases, ", --") + ")"
	}
	const indent = "        "
	line := indent
	for word := range strings.FieldsSeq(help) {
		if len(line)+1+len(word) > usageWidth && line != indent {
			b.WriteString(line + "\n")
			line = indent
		}
		if line != indent {
			line += " "
		}
		line += word
	}
	b.WriteString(line + "\n")
}

// Complete returns what a shell may offer for the word being typed, sorted:
// flag names with their leading hyphens, `=` behind those that take a value.
// Old names and rejected flags are left out.
func (s *Set) Complete(word string) []string {
	var out []string
	for _, f := range s.flags {
		if f.State == Rejected {
			continue
		}
		if f.Type != Bool {
			candidate := "--" + f.Name + "="
			if strings.HasPrefix(candidate, word) {
				out = append(out, candidate)
			}
			continue
		}
		if strings.HasPrefix("--"+f.Name, word) {
			out = append(out, "--"+f.Name)
		}
		// The negations would double the list; they appear once asked for.
		if strings.HasPrefix(word, "--no") && strings.HasPrefix("--no-"+f.Name, word) {
			out = append(out, "--no-"+f.Name)
		}
	}
	return out
}
