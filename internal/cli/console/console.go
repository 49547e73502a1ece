// Package console is what every client command of clusterd works with: the
// terminal, the flags and the config file that say which cluster is meant and who
// asks, the connection to it, tables in several formats, questions, progress, and
// errors with advice and an exit code. [Connect] makes a [Cluster] of a command's
// flags; [Table] prints what came of it.
//
// A Cluster may be used by several goroutines; all else belongs to one command.
// internal/cli and the packages of commands below it import it.
package console

import (
	"io"
	"os"

	"golang.org/x/term"
)

// Env is what a command works with besides its flags.
type Env struct {
	In       io.Reader
	Out, Err io.Writer
}

// Interactive tells whether a person can be asked: input and messages are a terminal's.
func (e Env) Interactive() bool { return isTerminal(e.In) && isTerminal(e.Err) }

// OutTerminal tells whether the output goes to a terminal.
func (e Env) OutTerminal() bool { return isTerminal(e.Out) }

// isTerminal tells whether a reader or writer is a terminal.
func isTerminal(v any) bool {
	f, ok := v.(*os.File)
	return ok && f != nil && term.IsTerminal(int(f.Fd()))
}
