package console

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

// yamlOf turns JSON into YAML, alone or as an element of a list. It does not go by way of a
// tree: lists have 100,000 elements. What is written is as JSON has it, in its order.
func yamlOf(b []byte, within bool) ([]byte, error) {
	if !json.Valid(b) {
		return nil, errors.New("no JSON: " + string(b[:min(len(b), 40)]))
	}
	w := yamlWriter{in: b}
	w.out.Grow(len(b))
	if within {
		w.out.WriteString("- ")
		w.value(2, true)
	} else {
		w.value(0, true)
	}
	if out := w.out.Bytes(); len(out) > 0 && out[len(out)-1] != '\n' {
		w.out.WriteByte('\n')
	}
	return w.out.Bytes(), w.err
}

// yamlWriter reads JSON that is known to be good, and writes YAML.
type yamlWriter struct {
	in  []byte
	out bytes.Buffer
	err error
}

// next skips blanks, and what stands between values, and gives the character that follows.
func (w *yamlWriter) next(skip string) byte {
	for len(w.in) > 0 && (w.in[0] <= ' ' || strings.IndexByte(skip, w.in[0]) >= 0) {
		w.in = w.in[1:]
	}
	if len(w.in) == 0 {
		return 0
	}
	return w.in[0]
}

// value writes a value whose lines have an indentation. One that begins a line of a list,
// or the document, has its first line there; else it has lines of its own.
func (w *yamlWriter) value(indent int, here bool) {
	switch w.next("") {
	case '{':
		w.nested('}', "{}", indent, here, func() {
			w.scalar()
			w.out.WriteByte(':')
			w.next(":")
			w.value(indent+2, false)
		})
	case '[':
		w.nested(']', "[]", indent, here, func() {
			w.out.WriteString("- ")
			w.value(indent+2, true)
		})
	default:
		if !here {
			w.out.WriteByte(' ')
		}
		w.scalar()
		w.out.WriteByte('\n')
	}
}

// nested writes an object or a list.
func (w *yamlWriter) nested(end byte, empty string, indent int, here bool, element func()) {
	w.in = w.in[1:]
	if w.next("") == end {
		w.in = w.in[1:]
		if !here {
			w.out.WriteByte(' ')
		}
		w.out.WriteString(empty)
		w.out.WriteByte('\n')
		return
	}
	if !here {
		w.out.WriteByte('\n')
	}
	for first := true; w.next(",") != end && len(w.in) > 0; first = false {
		if !first || !here {
			for range indent {
				w.out.WriteByte(' ')
			}
		}
		element()
	}
	if len(w.in) > 0 {
		w.in = w.in[1:]
	}
}

// scalar writes a text, a number, or what else is no object and no list.
func (w *yamlWriter) scalar() {
	if w.next("") != '"' {
		n := bytes.IndexAny(w.in, ",]} \t\r\n")
		if n < 0 {
			n = len(w.in)
		}
		w.out.Write(w.in[:n])
		w.in = w.in[n:]
		return
	}
	n := 1
	for escaped := false; escaped || w.in[n] != '"'; n++ {
		escaped = !escaped && w.in[n] == '\\'
	}
	text := w.in[:n+1]
	w.in = w.in[n+1:]
	switch {
	case plainYAML(text[1:n]):
		w.out.Write(text[1:n])
	case bytes.Contains(text, []byte(`\u`)), bytes.ContainsFunc(text, func(r rune) bool { return r >= 0x7f }):
		w.escaped(text)
	default:
		w.out.Write(text) // what JSON writes between quotes YAML reads as the same
	}
}

// escaped writes a text with characters that the two do not write alike.
func (w *yamlWriter) escaped(text []byte) {
	var s string
	if err := json.Unmarshal(text, &s); err != nil {
		w.err = err
		return
	}
	w.out.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"', r == '\\':
			w.out.WriteByte('\\')
			w.out.WriteRune(r)
		case r == '\n':
			w.out.WriteString(`\n`)
		case r < ' ', r >= 0x7f && r < 0xa0, r == 0x2028, r == 0x2029, r == 0xfeff, r == 0xfffe, r == 0xffff:
			fmt.Fprintf(&w.out, `\u%04x`, r)
		default:
			w.out.WriteRune(r)
		}
	}
	w.out.WriteByte('"')
}

// yamlWords are words that mean something else than text, to YAML or to older versions of it.
var yamlWords = map[string]bool{
	"y": true, "n": true, "yes": true, "no": true, "on": true, "off": true, "true": true, "false": true, "null": true, "nan": true, "inf": true,
}

// plainYAML tells whether a text is nothing but text in YAML without quotes, too.
func plainYAML(text []byte) bool {
	if len(text) == 0 || text[len(text)-1] == ' ' {
		return false
	}
	for i, c := range text {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z':
		case c == '/' || c == '_':
		case i == 0:
			return false
		case c >= '0' && c <= '9', strings.IndexByte("-.@+=(), ", c) >= 0:
		default:
			return false
		}
	}
	return len(text) > len("false") || !yamlWords[strings.ToLower(string(text))]
}
