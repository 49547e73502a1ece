package flags

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// given is one flag as a user wrote it.
type given struct {
	index  int
	name   string // as written, canonical
	text   string
	source string // "--name" or "$MESOS_NAME", for messages
}

// Parse reads the flags of the set from the command line and the environment
// (`os.Environ()` form). A flag's value is, in this order: the command line,
// CLUSTERD_<NAME>, MESOS_<NAME>, the flag's own environment variables, its
// default. Unknown flags are an error that names the nearest known one; unknown
// environment variables are ignored.
//
// It differs from stout's flags in what has bitten users: an unexpected
// positional argument is an error, `--name value` works beside `--name=value`,
// and the command line wins over the environment also when the two use
// different names of one flag.
func (s *Set) Parse(args, environ []string) (*Values, error) {
	v := &Values{set: s, values: make(map[int]Value), given: make(map[int]string)}
	fromArgs, err := s.scanArgs(args, v)
	if err != nil {
		return nil, err
	}
	for _, layer := range append([][]given{fromArgs}, s.scanEnv(environ, v)...) {
		if err := s.apply(v, layer); err != nil {
			return nil, err
		}
	}
	for i, f := range s.flags {
		if _, ok := v.values[i]; ok || (f.Default == "" && !f.EmptyDefault) {
			continue
		}
		val, err := parseValue(f, f.Default)
		if err != nil {
			return nil, fmt.Errorf("default of --%s: %w", f.Name, err)
		}
		v.values[i] = val
	}
	// --help and --version must answer whatever else is missing.
	if s.check != nil && !s.asksForHelp(v) {
		if err := s.check(v); err != nil {
			return nil, err
		}
	}
	return v, nil
}

func (s *Set) asksForHelp(v *Values) bool {
	for _, name := range []string{"help", "version"} {
		if _, ok := s.byName[name]; ok && v.Bool(name) {
			return true
		}
	}
	return false
}

// scanArgs splits the command line into flags and positional arguments.
func (s *Set) scanArgs(args []string, v *Values) ([]given, error) {
	var out []given
	for i := 0; i < len(args); i++ {
		arg := args[i]
		if arg == "--" {
			v.args = append(v.args, args[i+1:]...)
			break
		}
		if arg == "-h" {
			arg = "--help"
		}
		if !strings.HasPrefix(arg, "--") {
			v.args = append(v.args, arg)
			continue
		}
		name, text, hasText := strings.Cut(arg[2:], "=")
		g, err := s.resolve(name, text, hasText)
		if err != nil {
			return nil, err
		}
		f := s.flags[g.index]
		if f.Type != Bool && !hasText {
			if i+1 >= len(args) || strings.HasPrefix(args[i+1], "--") {
				return nil, fmt.Errorf("%w: --%s needs a value (--%s=%s)", ErrInvalidValue, f.Name, f.Name, f.Type.placeholder())
			}
			i++
			g.text = args[i]
		}
		out = append(out, g)
	}
	if len(v.args) > 0 && !s.AllowArgs {
		return nil, fmt.Errorf("%w: %q (a flag starts with --)", ErrUnexpectedArgument, v.args[0])
	}
	return out, nil
}

// resolve finds the flag that a name on the command line means.
func (s *Set) resolve(written, text string, hasText bool) (given, error) {
	name := canonical(written)
	index, ok := s.byName[name]
	negated := false
	if !ok {
		if rest, cut := strings.CutPrefix(name, "no_"); cut {
			index, ok = s.byName[rest]
			name, negated = rest, true
		}
	}
	if !ok {
		if near := s.nearest(name); near != "" {
			return given{}, fmt.Errorf("%w --%s (did you mean --%s?)", ErrUnknownFlag, written, near)
		}
		return given{}, fmt.Errorf("%w --%s", ErrUnknownFlag, written)
	}
	g := given{index: index, name: name, text: text, source: "--" + written}
	if s.flags[index].Type != Bool {
		if negated {
			return given{}, fmt.Errorf("%w: --%s is not a boolean, --%s is not possible", ErrInvalidValue, name, written)
		}
		return g, nil
	}
	switch {
	case negated && text != "":
		return given{}, fmt.Errorf("%w: --%s takes no value, got '%s'", ErrInvalidValue, written, text)
	case negated:
		g.text = "false"
	case !hasText || text == "":
		g.text = "true"
	}
	return g, nil
}

// scanEnv returns the flags found in the environment, one layer per prefix.
func (s *Set) scanEnv(environ []string, v *Values) [][]given {
	env := make(map[string]string, len(environ))
	for _, kv := range environ {
		if name, value, ok := strings.Cut(kv, "="); ok {
			env[name] = value
		}
	}
	layers := make([][]given, 3)
	add := func(layer, index int, name, variable string) {
		value, ok := env[variable]
		if !ok {
			return
		}
		if s.flags[index].Type == Bool && value == "" {
			value = "true"
		}
		layers[layer] = append(layers[layer], given{index: index, name: name, text: value, source: "$" + variable})
	}
	for i, f := range s.flags {
		for _, name := range append([]string{f.Name}, f.Aliases...) {
			upper := strings.ToUpper(name)
			add(0, i, name, "CLUSTERD_"+upper)
			add(1, i, name, "MESOS_"+upper)
		}
		for _, variable := range f.Env {
			add(2, i, f.Name, variable)
		}
	}
	s.warnMisspelt(env, v)
	return layers
}

// warnMisspelt warns of CLUSTERD_ variables that look like a misspelt flag.
// Others are ignored silently: the same environment serves several programs.
func (s *Set) warnMisspelt(env map[string]string, v *Values) {
	for _, variable := range slices.Sorted(maps.Keys(env)) {
		name, ok := strings.CutPrefix(variable, "CLUSTERD_")
		if !ok {
			continue
		}
		name = strings.ToLower(name)
		if _, known := s.byName[name]; known {
			continue
		}
		if near := s.nearest(name); near != "" && distance(name, near) <= 2 {
			v.warnings = append(v.warnings, fmt.Sprintf(
				"ignoring $%s, which names no flag (did you mean $CLUSTERD_%s?)", variable, strings.ToUpper(near),
			))
		}
	}
}

// apply parses the flags of one layer into v; flags that an earlier layer has
// set are left alone.
func (s *Set) apply(v *Values, layer []given) error {
	merged := make([]given, 0, len(layer))
	at := make(map[int]int)
	for _, g := range layer {
		f := s.flags[g.index]
		if prev, ok := at[g.index]; ok {
			if !f.List {
				return fmt.Errorf("%w: %s and %s", ErrDuplicateFlag, merged[prev].source, g.source)
			}
			merged[prev].text += "," + g.text
			continue
		}
		if _, ok := v.given[g.index]; ok {
			continue
		}
		at[g.index] = len(merged)
		merged = append(merged, g)
	}
	for _, g := range merged {
		if err := s.set(v, g); err != nil {
			return err
		}
	}
	return nil
}

// set parses one flag, substituting file contents, and notes its warnings.
func (s *Set) set(v *Values, g given) error {
	f := s.flags[g.index]
	if f.State == Rejected {
		return fmt.Errorf("%w: %s: %s", ErrRejectedFlag, g.source, f.Note)
	}
	text, file := g.text, ""
	if path, ok := strings.CutPrefix(text, "file://"); ok && f.Type != Path {
		contents, err := readFileValue(path)
		if err != nil {
			return fmt.Errorf("%w of %s: %w", ErrInvalidValue, g.source, err)
		}
		text, file = contents, path
	} else if f.Type == JSON && strings.HasPrefix(text, "/") {
		contents, err := readFileValue(text)
		if err != nil {
			return fmt.Errorf("%w of %s: %w", ErrInvalidValue, g.source, err)
		}
		v.warnings = append(v.warnings, fmt.Sprintf("%s names a file without file://, which is deprecated", g.source))
		text, file = contents, text
	}
	val, err := parseValue(f, text)
	if err != nil {
		return fmt.Errorf("%w '%s' of %s: %w", ErrInvalidValue, abbreviate(text), g.source, err)
	}
	if f.State == Guarded && !isDefault(f, val) {
		return fmt.Errorf("%w: %s: this version cannot enforce it and does not start without the protection", ErrRejectedFlag, g.source)
	}
	val.file = file
	v.values[g.index] = val
	v.given[g.index] = g.source
	s.warn(v, f, g, val)
	return nil
}

func isDefault(f Flag, val Value) bool {
	def, err := parseValue(f, f.Default)
	return err == nil && def.Text == val.Text
}

func (s *Set) warn(v *Values, f Flag, g given, val Value) {
	if g.name != f.Name {
		v.warnings = append(v.warnings, fmt.Sprintf("%s is deprecated, use --%s", g.source, f.Name))
	}
	switch f.State {
	case Accepted:
		if !isDefault(f, val) {
			note := f.Note
			if note == "" {
				note = "accepted but has no effect in this version"
			}
			v.warnings = append(v.warnings, fmt.Sprintf("%s: %s", g.source, note))
		}
	case Replaced:
		v.warnings = append(v.warnings, fmt.Sprintf("%s: %s", g.source, f.Note))
	case Works, Guarded, Rejected:
	}
}

func abbreviate(s string) string {
	const limit = 120
	if len(s) > limit {
		return s[:limit] + "..."
	}
	return s
}

// nearest returns the known name closest to an unknown one, or "" if none is close.
func (s *Set) nearest(name string) string {
	var known []string
	for _, f := range s.flags {
		if f.State != Rejected {
			known = append(append(known, f.Name), f.Aliases...)
		}
	}
	return Nearest(name, known)
}

// Nearest returns the first of the known words that is fewest edits away from a
// word, or "" if none is close enough to be meant.
func Nearest(word string, known []string) string {
	best, bestDistance := "", max(2, len(word)/3)+1
	for _, candidate := range known {
		if d := distance(word, candidate); d < bestDistance {
			best, bestDistance = candidate, d
		}
	}
	return best
}

// maxDistanceLength bounds the work of distance on hostile arguments.
const maxDistanceLength = 128

// distance is the edit distance with transpositions (optimal string alignment).
func distance(a, b string) int {
	if len(a) > maxDistanceLength || len(b) > maxDistanceLength {
		return max(len(a), len(b))
	}
	before := make([]int, len(b)+1)
	prev := make([]int, len(b)+1)
	cur := make([]int, len(b)+1)
	for j := range prev {
		prev[j] = j
	}
	for i := 1; i <= len(a); i++ {
		cur[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			cur[j] = min(prev[j]+1, cur[j-1]+1, prev[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				cur[j] = min(cur[j], before[j-2]+1)
			}
		}
		before, prev, cur = prev, cur, before
	}
	return prev[len(b)]
}
