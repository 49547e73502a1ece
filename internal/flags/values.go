package flags

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"strconv"
	"strings"
	"time"

	"clusterd/internal/units"
)

// maxFileValue bounds a value read through file://.
const maxFileValue = 4 << 20

// Value is the parsed value of one flag.
type Value struct {
	// Text is the value as `/flags` shows it.
	Text string

	b  bool
	i  int64
	f  float64
	d  time.Duration
	by uint64
	// file is where Text was read from, empty if it was given as it is.
	file string
}

// Bool returns the value of a Bool flag.
func (v Value) Bool() bool { return v.b }

// Int returns the value of an Int flag.
func (v Value) Int() int64 { return v.i }

// Float returns the value of a Float flag, or a Percent flag's fraction.
func (v Value) Float() float64 { return v.f }

// Duration returns the value of a Duration flag.
func (v Value) Duration() time.Duration { return v.d }

// Bytes returns the value of a Bytes flag.
func (v Value) Bytes() uint64 { return v.by }

// parseValue parses text according to the flag's type and runs its check.
func parseValue(f Flag, text string) (Value, error) {
	v := Value{Text: text}
	var err error
	switch f.Type {
	case Bool:
		switch text {
		case "true", "1":
			v.b = true
		case "false", "0":
		default:
			err = errors.New("expecting a boolean (true or false)")
		}
		v.Text = strconv.FormatBool(v.b)
	case Int:
		if v.i, err = strconv.ParseInt(text, 10, 64); err != nil {
			err = errors.New("expecting a whole number")
		}
		v.Text = strconv.FormatInt(v.i, 10)
	case Float:
		if v.f, err = strconv.ParseFloat(text, 64); err != nil || math.IsNaN(v.f) || math.IsInf(v.f, 0) {
			err = errors.New("expecting a number")
		}
		v.Text = strconv.FormatFloat(v.f, 'g', -1, 64)
	case Duration:
		v.d, err = units.ParseDuration(text)
		v.Text = units.FormatDuration(v.d)
	case Bytes:
		v.by, err = units.ParseBytes(text)
		v.Text = units.FormatBytes(v.by)
	case Percent:
		v.f, err = units.ParsePercent(text)
	case JSON:
		v.Text, err = compactJSON(text)
	case String, Path:
	}
	if err == nil && f.Check != nil {
		err = f.Check(v)
	}
	if err != nil {
		return Value{}, err
	}
	return v, nil
}

// compactJSON checks that text is one JSON object or array and strips its white space.
func compactJSON(text string) (string, error) {
	trimmed := strings.TrimSpace(text)
	if !strings.HasPrefix(trimmed, "{") && !strings.HasPrefix(trimmed, "[") {
		return "", errors.New("expecting a JSON object or array, or file:///path to one")
	}
	var out bytes.Buffer
	if err := json.Compact(&out, []byte(trimmed)); err != nil {
		return "", fmt.Errorf("JSON: %w", err)
	}
	return out.String(), nil
}

// readFileValue reads the contents that stand in for a file:// value. The line
// end that editors add is not part of the value.
func readFileValue(path string) (string, error) {
	file, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer file.Close()
	data, err := io.ReadAll(io.LimitReader(file, maxFileValue+1))
	if err != nil {
		return "", fmt.Errorf("read %s: %w", path, err)
	}
	if len(data) > maxFileValue {
		return "", fmt.Errorf("read %s: larger than %s", path, units.FormatBytes(maxFileValue))
	}
	return strings.TrimRight(string(data), "\r\n"), nil
}

// hidden is shown in place of a secret.
const hidden = "(hidden)"

// Pair is one flag as `/flags` shows it.
type Pair struct {
	Name, Value string
}

// Values holds the outcome of [Set.Parse].
type Values struct {
	set      *Set
	values   map[int]Value
	given    map[int]string // where the value came from
	args     []string
	warnings []string
}

// index returns the flag's position; asking for a flag that is not in the
// table is a mistake in the program.
func (v *Values) index(name string) int {
	i, ok := v.set.byName[name]
	if !ok {
		panic(fmt.Sprintf("flags: %s has no flag %q", v.set.Mode, name))
	}
	return i
}

// Get returns the value of a flag and whether it has one.
func (v *Values) Get(name string) (Value, bool) {
	val, ok := v.values[v.index(name)]
	return val, ok
}

// Has reports whether the flag has a value, given or by default.
func (v *Values) Has(name string) bool {
	_, ok := v.Get(name)
	return ok
}

// Given reports whether the flag was set by the user (command line or environment).
func (v *Values) Given(name string) bool {
	_, ok := v.given[v.index(name)]
	return ok
}

// String returns the text of a flag, empty if it has no value.
func (v *Values) String(name string) string {
	val, _ := v.Get(name)
	return val.Text
}

// Bool returns a Bool flag, false if it has no value.
func (v *Values) Bool(name string) bool {
	val, _ := v.Get(name)
	return val.b
}

// Int returns an Int flag, zero if it has no value.
func (v *Values) Int(name string) int {
	val, _ := v.Get(name)
	return int(val.i)
}

// Float returns a Float flag or the fraction of a Percent flag, zero if it has no value.
func (v *Values) Float(name string) float64 {
	val, _ := v.Get(name)
	return val.f
}

// Duration returns a Duration flag, zero if it has no value.
func (v *Values) Duration(name string) time.Duration {
	val, _ := v.Get(name)
	return val.d
}

// Bytes returns a Bytes flag, zero if it has no value.
func (v *Values) Bytes(name string) uint64 {
	val, _ := v.Get(name)
	return val.by
}

// Path returns a Path flag without its optional file:// prefix.
func (v *Values) Path(name string) string {
	return strings.TrimPrefix(v.String(name), "file://")
}

// File returns the file that a value was read from (file:///path), "" if it was given as it
// is.
func (v *Values) File(name string) string {
	val, _ := v.Get(name)
	return val.file
}

// List splits a comma separated flag, dropping blanks around and between commas.
func (v *Values) List(name string) []string {
	var list []string
	for item := range strings.SplitSeq(v.String(name), ",") {
		if item = strings.TrimSpace(item); item != "" {
			list = append(list, item)
		}
	}
	return list
}

// All returns every flag that has a value, sorted by name, as `/flags` and
// `/state` show them.
func (v *Values) All() []Pair {
	pairs := make([]Pair, 0, len(v.values))
	for i, f := range v.set.flags {
		if val, ok := v.values[i]; ok {
			if f.Secret && val.Text != "" {
				val.Text = hidden
			}
			pairs = append(pairs, Pair{Name: f.Name, Value: val.Text})
		}
	}
	return pairs
}

// Args returns the positional arguments, and those after `--`.
func (v *Values) Args() []string { return v.args }

// Warnings returns lines the user should see at start: deprecated names,
// flags without effect, flags that clusterd replaces.
func (v *Values) Warnings() []string { return v.warnings }
