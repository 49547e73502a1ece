// Command builtin stands, in tests, for a program of ours that runs in containers: it
// runs the script that the variable SCRIPT holds. The tests of package isolation build it.
package main

import (
	"errors"
	"os"
	"os/exec"
	"strings"
	"syscall"

	"clusterd/isolation/supervisor"
)

func main() {
	os.Exit(builtin()) //nolint:forbidigo // this is a main
}

func builtin() int {
	switch {
	case supervisor.Probed():
		return supervisor.ProbeCode
	case supervisor.Inline():
		return supervisor.RunInline("builtin", run)
	default:
		return syscall.WaitStatus(run(os.Environ())).ExitStatus()
	}
}

func run(env []string) (status int) {
	script := ""
	for _, e := range env {
		if s, ok := strings.CutPrefix(e, "SCRIPT="); ok {
			script = s
		}
	}
	cmd := exec.Command("/bin/sh", "-c", script) //nolint:noctx // it ends with this program
	cmd.Env, cmd.Stdout, cmd.Stderr = env, os.Stdout, os.Stderr
	err := cmd.Run()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		if ws, ok := exit.Sys().(syscall.WaitStatus); ok {
			return int(ws)
		}
	}
	if err != nil {
		_, _ = os.Stderr.WriteString(err.Error() + "\n")
		return 99 << 8
	}
	return 0
}
