// Package flags is the flag engine of clusterd: it reads Mesos's flag syntax
// (`--x`, `--no-x`, `--x=true`, `--name=value`, `--name value`, `file://`
// values, durations, bytes, percentages) from the command line and from the
// environment, and it holds the tables of every master and agent flag.
//
// The main type is [Set], a fixed table of [Flag]; [Set.Parse] turns arguments
// and environment into [Values]. A Set and a Values are immutable after
// creation and safe for concurrent use. Imported by internal/cli, and by
// server and agent for the values (`/flags`, `/state`).
package flags

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Type is the syntax of a flag's value.
type Type int

// The types a flag can have.
const (
	String   Type = iota // any text
	Bool                 // --x, --no-x, --x=true|false|1|0
	Int                  // a whole number
	Float                // a decimal number
	Duration             // 500ms, 1secs, 10mins, 6hrs, 5days, 1weeks
	Bytes                // 512MB, 2GB: powers of 1024
	Percent              // 100%
	Path                 // a file name; file:// is stripped, never substituted
	JSON                 // a JSON object or array, inline or in a file
)

// placeholder is the word shown after `=` in the help text.
func (t Type) placeholder() string {
	switch t {
	case Bool:
		return ""
	case Int:
		return "N"
	case Float:
		return "NUMBER"
	case Duration:
		return "DURATION"
	case Bytes:
		return "BYTES"
	case Percent:
		return "PERCENT"
	case Path:
		return "PATH"
	case JSON:
		return "JSON"
	default:
		return "VALUE"
	}
}

// State says what giving a flag does in this build.
type State int

// The states of a flag.
const (
	// Works means that something reads the flag.
	Works State = iota
	// Accepted means that the value is checked but has no effect yet; setting
	// it to anything but its default warns.
	Accepted
	// Guarded means that the flag asks for a protection that this build cannot
	// give: setting it to anything but its default is an error, because to start
	// without the protection would be worse than not to start.
	Guarded
	// Replaced means that clusterd does the job another way; the value is
	// checked and the flag's Note is printed when it is given.
	Replaced
	// Rejected means that giving the flag is an error explained by its Note.
	Rejected
)

// Errors that [Set.Parse] wraps.
var (
	// ErrUnknownFlag is wrapped when an argument names no flag.
	ErrUnknownFlag = errors.New("unknown flag")
	// ErrInvalidValue is wrapped when a flag's value does not parse or is out of range.
	ErrInvalidValue = errors.New("invalid value")
	// ErrDuplicateFlag is wrapped when a flag is given twice, or beside its alias.
	ErrDuplicateFlag = errors.New("flag given twice")
	// ErrMissingFlag is wrapped when a required flag is absent.
	ErrMissingFlag = errors.New("required flag missing")
	// ErrRejectedFlag is wrapped when a removed flag is given.
	ErrRejectedFlag = errors.New("flag not supported")
	// ErrUnexpectedArgument is wrapped when a positional argument is given to a set that takes none.
	ErrUnexpectedArgument = errors.New("unexpected argument")
)

// Flag describes one flag.
type Flag struct {
	// Name is the flag's name as Mesos writes it, with underscores. On the
	// command line hyphens may stand for underscores.
	Name string
	Type Type
	// Default is the value when the flag is not given; empty means none,
	// unless EmptyDefault is set.
	Default string
	// EmptyDefault makes the empty string a value of its own, shown in `/flags`.
	EmptyDefault bool
	// Help is one line for the help text.
	Help string
	// Aliases are old names; using one prints a deprecation warning.
	Aliases []string
	State   State
	// Note completes State: what happens instead, or why the flag is rejected.
	Note string
	// List lets the flag be repeated; the values are joined by commas.
	List bool
	// Secret keeps the value out of [Values.All], which /flags and /state show.
	Secret bool
	// Env names environment variables that are read last, after
	// CLUSTERD_<NAME> and MESOS_<NAME> (libprocess's own variables).
	Env []string
	// Check validates the parsed value beyond its type.
	Check func(v Value) error
}

// Set is a table of flags of one mode of the binary.
type Set struct {
	// Mode names the mode in messages, such as "master".
	Mode string
	// AllowArgs accepts positional arguments, see [Values.Args].
	AllowArgs bool

	flags  []Flag // sorted by name
	byName map[string]int
	check  func(*Values) error
}

// NewSet returns the set of the given flags. It panics when the table
// contradicts itself (a name twice, a default that does not parse), because
// tables are written by us and not by users. check, which may be nil, runs
// after all flags are parsed and sees them together.
func NewSet(mode string, check func(*Values) error, tables ...[]Flag) *Set {
	s := &Set{Mode: mode, byName: make(map[string]int), check: check}
	for _, t := range tables {
		s.flags = append(s.flags, t...)
	}
	slices.SortFunc(s.flags, func(a, b Flag) int { return strings.Compare(a.Name, b.Name) })
	for i, f := range s.flags {
		for _, n := range append([]string{f.Name}, f.Aliases...) {
			if _, ok := s.byName[n]; ok || n == "" || n != canonical(n) {
				panic(fmt.Sprintf("flags: bad or repeated name %q in table %s", n, mode))
			}
			s.byName[n] = i
		}
		if f.Default == "" {
			continue
		}
		if _, err := parseValue(f, f.Default); err != nil {
			panic(fmt.Sprintf("flags: default of %s: %v", f.Name, err))
		}
	}
	return s
}

// Flags returns the table, sorted by name.
func (s *Set) Flags() []Flag { return slices.Clone(s.flags) }

// Lookup returns the flag with the given name or alias.
func (s *Set) Lookup(name string) (Flag, bool) {
	i, ok := s.byName[canonical(name)]
	if !ok {
		return Flag{}, false
	}
	return s.flags[i], true
}

// canonical lower-cases a name, as Mesos does, and turns hyphens into
// underscores, so that `--work-dir` is `--work_dir`.
func canonical(name string) string {
	return strings.ReplaceAll(strings.ToLower(name), "-", "_")
}
