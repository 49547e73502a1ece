package console

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	cliv2 "github.com/urfave/cli/v2"
)

// run parses a command line and calls do with what came of it.
func run(t *testing.T, args []string, do func(c *cliv2.Context) error) error {
	t.Helper()
	t.Setenv("CLUSTERD_CONFIG", t.TempDir()+"/none.toml")
	t.Setenv("CLUSTERD_MASTER", "")
	app := &cliv2.App{Flags: OutputFlags(YesFlag()), Action: do, DisableSliceFlagSeparator: true, ExitErrHandler: func(*cliv2.Context, error) {}, Writer: io.Discard}
	return app.RunContext(t.Context(), append([]string{"test"}, args...))
}

func TestTable(t *testing.T) {
	for _, row := range []struct{ args, want string }{
		{"", "NAME   CPUS   AGE\nweb    10/16  2h5m\ndb     9/16   50s\ncache  -      1d3h\n"},
		{"--no-headers --sort-by cpus", "cache  -      1d3h\ndb     9/16   50s\nweb    10/16  2h5m\n"},
		{"--no-headers --sort-by -age", "cache  -      1d3h\nweb    10/16  2h5m\ndb     9/16   50s\n"},
		{"-o name --filter age>10m --filter name!=cache", "web\n"},
		{"-o name --filter name~^(web|db),cpus<10", "db\n"},
		{"-o name --filter size<1.5GB --sort-by size", "cache\nweb\n"},
		{"-o wide --filter name=db", "NAME  CPUS  AGE  SIZE\ndb    9/16  50s  3 GB\n"},
		{"-o json --filter name=db", "[\n  \"second\"\n]\n"},
		{"-o yaml --sort-by name", "- third\n- second\n- \"1\"\n"},
	} {
		var out bytes.Buffer
		err := run(t, strings.Fields(row.args), func(c *cliv2.Context) error {
			table := &Table{Header: []string{"NAME", "CPUS", "AGE"}, Wide: []string{"SIZE"}, Items: []string{"1", "second", "third"}}
			table.Add("web", "10/16", "2h5m", "1 GB")
			table.Add("db", "9/16", "50s", "3 GB")
			table.Add("cache", "-", "1d3h", "900 MB")
			return table.Print(Env{Out: &out}, c)
		})
		if err != nil || out.String() != row.want {
			t.Errorf("%s: %v\n%swant\n%s", row.args, err, out.String(), row.want)
		}
	}
}

// What a task calls itself does not steer the terminal.
func TestPlain(t *testing.T) {
	if got := Plain("a\x1b[31mb\nc\u009bd"); got != "a?[31mb?c?d" {
		t.Errorf("got %q", got)
	}
}

func TestInterspersed(t *testing.T) {
	value := &cliv2.StringFlag{Name: "grace", Aliases: []string{"g"}}
	yes := &cliv2.BoolFlag{Name: "yes"}
	commands := []*cliv2.Command{
		{Name: "task", Subcommands: []*cliv2.Command{{Name: "kill", ArgsUsage: "TASK...", Flags: []cliv2.Flag{value, yes}}}},
		{Name: "exec", ArgsUsage: "TASK [--] COMMAND", Flags: []cliv2.Flag{yes}},
		{Name: "agent", SkipFlagParsing: true},
	}
	for _, row := range []struct{ args, want string }{
		{"task kill a --yes b -g 3s c", "task kill --yes -g 3s a b c"},
		{"task kill a --grace=3s", "task kill --grace=3s a"},
		{"task kill a -- --yes", "task kill -- a --yes"},
		{"exec --yes t ls --yes", "exec --yes t ls --yes"},
		{"exec t -- ls -l", "exec t -- ls -l"},
		{"agent x --yes", "agent x --yes"},
		{"task --yes kill", "task --yes kill"},
	} {
		got := Interspersed(commands, append([]string{"clusterd"}, strings.Fields(row.args)...))
		if text := strings.Join(got[1:], " "); text != row.want {
			t.Errorf("%s: got %s, want %s", row.args, text, row.want)
		}
	}
}

// TestWaysToTheLeader sends a request to groups of masters: by the path of theirs that leads
// to the leader, past those that are down or know no leader, and directly where a master has
// no such path.
func TestWaysToTheLeader(t *testing.T) {
	var seen []string
	serve := func(name string, handler func(path string) (int, string)) string {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			if r.URL.Path == "/version" {
				return // whether it answers is asked where there are several
			}
			seen = append(seen, fmt.Sprintf("%s %s %s", name, r.URL.Path, body))
			code, text := handler(r.URL.Path)
			w.WriteHeader(code)
			io.WriteString(w, text)
		}))
		t.Cleanup(s.Close)
		return s.URL
	}
	forwards := func(path string) (int, string) {
		switch path {
		case leaderPrefix + "/thing":
			return 200, `{"a":1}`
		case leaderPrefix + "/version":
			return 200, "{}"
		}
		return 404, "nothing here"
	}
	good := serve("good", forwards)
	leaderless := serve("leaderless", func(string) (int, string) { return 503, "No leader elected" })
	old := serve("old", func(path string) (int, string) {
		if path == "/thing" {
			return 200, `{"a":1}`
		}
		return 404, ""
	})
	for name, row := range map[string]struct {
		masters, path string
		code          int // of exit
		want          []string
	}{
		"one":                 {good, "/thing", ExitOK, []string{"good " + leaderPrefix + "/thing 7"}},
		"one is down":         {"127.0.0.1:1," + good, "/thing", ExitOK, []string{"good " + leaderPrefix + "/thing 7"}},
		"one knows no leader": {leaderless + "," + good, "/thing", ExitOK, []string{"leaderless " + leaderPrefix + "/thing 7", "good " + leaderPrefix + "/thing 7"}},
		"none knows a leader": {leaderless, "/thing", ExitUnreachable, []string{"leaderless " + leaderPrefix + "/thing 7"}},
		"all are down":        {"127.0.0.1:1,127.0.0.1:2", "/thing", ExitUnreachable, nil},
		"it is not there":     {good, "/other", ExitNotFound, []string{"good " + leaderPrefix + "/other 7", "good " + leaderPrefix + "/version "}},
		"an old master":       {old, "/thing", ExitOK, []string{"old " + leaderPrefix + "/thing 7", "old " + leaderPrefix + "/version ", "old /thing 7"}},
	} {
		t.Run(name, func(t *testing.T) {
			seen = nil
			var got struct{ A int }
			err := run(t, []string{"--master", row.masters, "--leader_timeout", "0"}, func(c *cliv2.Context) error {
				cl, err := Connect(c)
				if err != nil {
					return err
				}
				defer cl.http.CloseIdleConnections()
				return cl.Post(t.Context(), row.path, 7, &got)
			})
			if Code(err) != row.code || (err == nil) != (got.A == 1) {
				t.Errorf("got %+v, %v (exit %d), want exit %d", got, err, Code(err), row.code)
			}
			if strings.Join(seen, "\n") != strings.Join(row.want, "\n") {
				t.Errorf("asked %q, want %q", seen, row.want)
			}
		})
	}
}
