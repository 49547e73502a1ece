// Package scripttest has the small programs by which the scripts of command-line tests wait for
// what they need, instead of sleeping for a time that is too short on a busy machine. Tests of
// internal/cli and of the packages below it import it; it has no state.
package scripttest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"regexp"

	"clusterd/internal/testcluster"
)

// With adds the programs to those of a package: "appears FILE REGEXP" ends when a line of the
// file matches, "eventually REGEXP COMMAND..." when one of the command's output does, and
// fails where that takes longer than [testcluster.Patience].
func With(programs map[string]func()) map[string]func() {
	out := maps.Clone(programs)
	out["appears"] = func() { exit(wait(os.Args, os.ReadFile)) }
	out["eventually"] = func() {
		exit(wait(append([]string{os.Args[0], ""}, os.Args[1:]...), func(string) ([]byte, error) {
			if len(os.Args) < 3 {
				return nil, errors.New("no command given")
			}
			return exec.CommandContext(context.Background(), os.Args[2], os.Args[3:]...).Output()
		}))
	}
	return out
}

func exit(code int) {
	os.Exit(code) //nolint:forbidigo // these are the main functions of programs
}

// wait reads what args[1] names until a line matches args[2].
func wait(args []string, read func(string) ([]byte, error)) int {
	if len(args) < 3 {
		fmt.Fprintln(os.Stderr, "usage: appears FILE REGEXP; eventually REGEXP COMMAND...")
		return 2
	}
	want, err := regexp.Compile("(?m)" + args[2])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	var got []byte
	if testcluster.Poll(func() error {
		if got, err = read(args[1]); err == nil && !want.Match(got) {
			err = errors.New("nothing matches")
		}
		return err
	}) != nil {
		fmt.Fprintf(os.Stderr, "%q: %v; there is\n%s", args[1:], err, got)
		return 1
	}
	return 0
}
