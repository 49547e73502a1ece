package cli

import (
	"flag"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	cliv2 "github.com/urfave/cli/v2"

	"clusterd/internal/cli/console"
	"clusterd/internal/cli/reference"
)

var update = flag.Bool("update", false, "write docs/cli.md anew")

func allCommands() []*cliv2.Command {
	return commands(console.Env{In: strings.NewReader(""), Out: io.Discard, Err: io.Discard})
}

// TestReference compares docs/cli.md with the commands.
func TestReference(t *testing.T) {
	const path = "../../docs/cli.md"
	want := reference.Markdown(allCommands())
	if *update {
		if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Errorf("docs/cli.md is not what the commands say; go test ./internal/cli -run Reference -update writes it (-want +got):\n%s", diff)
	}
}

// TestEveryCommandIsExplained wants a usage text of every command and flag, and names for
// all arguments that completion can tell apart.
func TestEveryCommandIsExplained(t *testing.T) {
	var walk func(path string, commands []*cliv2.Command)
	walk = func(path string, commands []*cliv2.Command) {
		for _, c := range commands {
			name := path + " " + c.Name
			if c.Usage == "" && !c.Hidden {
				t.Errorf("%s has no usage text", name)
			}
			for _, f := range c.VisibleFlags() {
				if d, ok := f.(cliv2.DocGenerationFlag); ok && d.GetUsage() == "" {
					t.Errorf("%s --%s has no usage text", name, f.Names()[0])
				}
			}
			walk(name, c.Subcommands)
		}
	}
	walk("clusterd", allCommands())
}

// TestManualPages has groff read every page: it warns of what it does not understand.
func TestManualPages(t *testing.T) {
	groff, err := exec.LookPath("groff")
	if err != nil {
		t.Skip("there is no groff to read manual pages")
	}
	dir := t.TempDir()
	if code, _, errOut := command("man", dir); code != console.ExitOK {
		t.Fatal(errOut)
	}
	pages, err := filepath.Glob(filepath.Join(dir, "*.1"))
	if err != nil || len(pages) < 20 {
		t.Fatalf("%d pages, %v", len(pages), err)
	}
	out, err := exec.CommandContext(t.Context(), groff, append([]string{"-man", "-Tutf8", "-ww", "-z"}, pages...)...).CombinedOutput()
	if err != nil || len(out) > 0 {
		t.Errorf("groff: %v\n%s", err, out)
	}
}

// TestComplete asks for what needs no cluster.
func TestComplete(t *testing.T) {
	t.Setenv("CLUSTERD_CONFIG", filepath.Join(t.TempDir(), "config.toml"))
	if code, _, errOut := command("context", "set", "prod", "--masters", "h:1"); code != console.ExitOK {
		t.Fatal(errOut)
	}
	for _, row := range []struct{ words, want string }{
		{"quo", "quota"},
		{"agent dra", "drain"},
		{"agent --work_d", "--work_dir="},
		{"maintenance schedule ad", "add"},
		{"task list --sort", "--sort-by"},
		{"task list -o ya", "yaml"},
		{"task list --output=ya", "--output=yaml"},
		{"task list --output = ya", "yaml"},
		{"event watch --type task_u", "task_updated"},
		{"container kill --signal US", "USR1 USR2"},
		{"context use ", "prod"},
		{"task list --context pr", "prod"},
		{"completion z", "zsh"},
		{"context use prod ", ""},
		{"nothing at ", ""},
		{"tls show ./x", ""},
	} {
		var got []string
		for _, c := range reference.Complete(t.Context(), allCommands(), strings.Split(row.words, " ")) {
			got = append(got, c.Word)
		}
		if strings.Join(got, " ") != row.want {
			t.Errorf("%q: got %q, want %q", row.words, got, row.want)
		}
	}
}
