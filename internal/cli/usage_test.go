package cli

import (
	"bytes"
	"strings"
	"testing"
)

// TestWrongFlags looks at what people see who mistype a flag of any command.
func TestWrongFlags(t *testing.T) {
	for _, c := range []struct{ line, err, hint string }{
		{"clusterd agent drain --graze 3s S0", "-graze", "did you mean --grace? clusterd agent drain --help"},
		{"clusterd registry status --yes", "-yes", "clusterd registry status --help shows all flags"},
		{"clusterd task list --sort_bye name", "-sort_bye", "did you mean --sort-by?"},
		{"clusterd logs --tail many web", "many", "clusterd logs --help"},
		{"clusterd run --memm 3 -- true", "-memm", "did you mean --mem?"},
		{"clusterd doctor --hots", "-hots", "clusterd doctor --help"},
	} {
		t.Run(c.line, func(t *testing.T) {
			var out, errOut bytes.Buffer
			code := Main(strings.Fields(c.line), nil, &out, &errOut)
			if code != 2 {
				t.Errorf("got exit code %d, want 2", code)
			}
			lines := strings.Split(strings.TrimSpace(errOut.String()), "\n")
			if len(lines) != 2 || !strings.HasPrefix(lines[0], "clusterd: error: ") || !strings.Contains(lines[0], c.err) ||
				!strings.HasPrefix(lines[1], "hint: ") || !strings.Contains(lines[1], c.hint) {
				t.Errorf("got on the standard error\n%s\nwant a line with %q and a hint with %q", &errOut, c.err, c.hint)
			}
			if out.Len() > 0 {
				t.Errorf("got on the standard output %q, want nothing", &out)
			}
		})
	}
}
