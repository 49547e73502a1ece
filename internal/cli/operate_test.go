package cli

import (
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"clusterd/internal/testcluster"
)

// TestOperate runs the scripts of testdata/operate: every noun and verb, against a real
// master and agents called left, right and spare. What takes an agent out of service is done
// to the right one, and the spare one is marked gone.
func TestOperate(t *testing.T) {
	hosts := []string{"left", "right", "spare"}
	c := testcluster.Start(t, testcluster.Options{
		Agents:     3,
		AgentFlags: []string{"--attributes=rack:r1"},
		EachAgent: func(i int) []string {
			role := ""
			if i > 0 {
				role = "(apart)" // so that no task of another script runs there
			}
			return []string{"--hostname=" + hosts[i], strings.NewReplacer("ROLE", role).Replace("--resources=cpusROLE:4;memROLE:4096;diskROLE:4096")}
		},
	})
	testscript.Run(t, testscript.Params{
		Dir: "testdata/operate",
		Setup: func(e *testscript.Env) error {
			e.Setenv("CLUSTERD_MASTER", c.Master.Addr)
			e.Setenv("CLUSTERD_COMPLETION_TIMEOUT", "30s")
			e.Setenv("AGENT_ADDRESS", c.Agents[0].Addr)
			e.Setenv("HOME", e.WorkDir)
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"await": awaitOutput, "code": exitCode},
	})
}

// exitCode runs a command that must end with a certain code: code 3 clusterd ...
func exitCode(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: code N command [argument...]")
	}
	got := "0"
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		exit, ok := errors.AsType[*exec.ExitError](err)
		if !ok {
			ts.Fatalf("%v", err)
		}
		got = fmt.Sprint(exit.ExitCode())
	}
	if got != args[0] {
		ts.Fatalf("exit code %s, want %s\n%s", got, args[0], ts.ReadFile("stderr"))
	}
}
