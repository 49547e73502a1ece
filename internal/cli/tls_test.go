package cli

import (
	"fmt"
	"net"
	"os"
	"regexp"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"clusterd/internal/testcluster"
)

// TestTLSScripts runs the scripts of testdata/tls, which start masters and agents of
// their own.
func TestTLSScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/tls",
		Setup: func(e *testscript.Env) error {
			e.Setenv("HOME", e.WorkDir)
			for i := range 9 {
				l, err := net.Listen("tcp", "127.0.0.1:0")
				if err != nil {
					return err
				}
				e.Setenv(fmt.Sprint("PORT", i+1), fmt.Sprint(l.Addr().(*net.TCPAddr).Port))
				defer l.Close()
			}
			short, err := os.MkdirTemp("", "cd") //nolint:usetesting // the path of a socket is short
			if err != nil {
				return err
			}
			e.Setenv("SHORT", short)
			e.Defer(func() { os.RemoveAll(short) })
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"await": awaitOutput},
	})
}

// awaitOutput runs a command until it ends well and its output matches.
func awaitOutput(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: await regexp command [argument...]")
	}
	want := regexp.MustCompile("(?m)" + args[0])
	for end := time.Now().Add(testcluster.Patience); ; time.Sleep(100 * time.Millisecond) {
		out, err := tryCommand(ts, args[1:])
		if err == nil && want.MatchString(out) {
			return
		}
		if time.Now().After(end) {
			ts.Fatalf("gave up on %q: %v\n%s", args[1:], err, out)
		}
	}
}

func tryCommand(ts *testscript.TestScript, args []string) (string, error) {
	err := ts.Exec(args[0], args[1:]...)
	return ts.ReadFile("stdout"), err
}
