package mesosjson

import (
	"math"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
	"unsafe"
)

// decoder reads one JSON text. Its methods return false once err is set.
type decoder struct {
	in    []byte
	pos   int
	depth int
	err   error
	// scratch holds the last string that had escapes.
	scratch []byte
}

// syntax fails at the current position.
func (d *decoder) syntax() bool {
	d.err = syntaxErrorAt(d.in, d.pos)
	return false
}

// peek skips white space and returns the next byte, 0 at the end. (A byte 0 in
// the input begins no token either.)
func (d *decoder) peek() byte {
	for d.pos < len(d.in) {
		c := d.in[d.pos]
		if c > ' ' || c != ' ' && c != '\t' && c != '\n' && c != '\r' {
			return c
		}
		d.pos++
	}
	return 0
}

// expect skips white space and takes c.
func (d *decoder) expect(c byte) bool {
	if d.peek() != c {
		return d.syntax()
	}
	d.pos++
	return true
}

// enter begins an object or array, whose first byte is still to be taken.
func (d *decoder) enter() bool {
	d.pos++
	if d.depth == MaxDepth {
		return d.syntax()
	}
	d.depth++
	return true
}

// leave takes the last byte of an object or array.
func (d *decoder) leave() {
	d.pos++
	d.depth--
}

// next is called after an element and tells whether another one follows; end
// is the closing byte, which is taken when it comes.
func (d *decoder) next(end byte) (more, ok bool) {
	switch d.peek() {
	case ',':
		d.pos++
		return true, true
	case end:
		d.leave()
		return false, true
	default:
		return false, d.syntax()
	}
}

// literal takes null, true or false.
func (d *decoder) literal(text string) bool {
	for i := range len(text) {
		if d.pos == len(d.in) || d.in[d.pos] != text[i] {
			return d.syntax()
		}
		d.pos++
	}
	return true
}

// str takes a string and returns its bytes, which stay valid until the next
// string is taken.
func (d *decoder) str() ([]byte, bool) {
	if !d.expect('"') {
		return nil, false
	}
	start := d.pos
	in := d.in
	i := start
	for i < len(in) && (plain[in[i]] || in[i] >= utf8.RuneSelf) {
		i++
	}
	d.pos = i
	if i < len(in) && in[i] == '"' {
		d.pos++
		return in[start:i], true
	}
	d.scratch = append(d.scratch[:0], in[start:i]...)
	return d.escaped()
}

// escaped is the rest of str from the first escape on.
func (d *decoder) escaped() ([]byte, bool) {
	for d.pos < len(d.in) {
		c := d.in[d.pos]
		switch {
		case c == '"':
			d.pos++
			return d.scratch, true
		case c < ' ':
			return nil, d.syntax()
		case c != '\\':
			d.scratch = append(d.scratch, c)
			d.pos++
		default:
			d.pos++
			if !d.escape() {
				return nil, false
			}
		}
	}
	return nil, d.syntax()
}

// escape takes what follows a backslash.
func (d *decoder) escape() bool {
	if d.pos == len(d.in) {
		return d.syntax()
	}
	c := d.in[d.pos]
	d.pos++
	switch c {
	case '"', '\\', '/':
	case 'b':
		c = '\b'
	case 'f':
		c = '\f'
	case 'n':
		c = '\n'
	case 'r':
		c = '\r'
	case 't':
		c = '\t'
	case 'u':
		return d.codepoint()
	default:
		return d.syntax()
	}
	d.scratch = append(d.scratch, c)
	return true
}

// codepoint takes the digits after \u, and of a surrogate pair the second half.
// A lone surrogate is an error, as in picojson.
func (d *decoder) codepoint() bool {
	r, ok := d.hex4()
	if !ok {
		return false
	}
	if utf16.IsSurrogate(r) {
		if r >= 0xDC00 || d.pos+1 >= len(d.in) || d.in[d.pos] != '\\' || d.in[d.pos+1] != 'u' {
			return d.syntax()
		}
		d.pos += 2
		low, ok := d.hex4()
		if !ok {
			return false
		}
		if r = utf16.DecodeRune(r, low); r == utf8.RuneError {
			return d.syntax()
		}
	}
	d.scratch = utf8.AppendRune(d.scratch, r)
	return true
}

func (d *decoder) hex4() (rune, bool) {
	var r rune
	for range 4 {
		if d.pos == len(d.in) {
			return 0, d.syntax()
		}
		switch c := d.in[d.pos]; {
		case '0' <= c && c <= '9':
			r = r<<4 | rune(c-'0')
		case 'a' <= c && c <= 'f':
			r = r<<4 | rune(c-'a'+10)
		case 'A' <= c && c <= 'F':
			r = r<<4 | rune(c-'A'+10)
		default:
			return 0, d.syntax()
		}
		d.pos++
	}
	return r, true
}

// number is a JSON number: an integer that fits 64 bits exactly, or a double.
type number struct {
	integer  bool
	negative bool
	abs      uint64
	float    float64
}

// number takes a number.
func (d *decoder) number() (n number, ok bool) {
	start := d.pos
	in := d.in
	if d.pos < len(in) && in[d.pos] == '-' {
		n.negative = true
		d.pos++
	}
	first := d.pos
	n.integer = true
	for ; d.pos < len(in) && in[d.pos]-'0' <= 9; d.pos++ {
		digit := uint64(in[d.pos] - '0')
		if n.abs > (math.MaxUint64-digit)/10 {
			n.integer = false
		}
		n.abs = n.abs*10 + digit
	}
	digits := d.pos - first
	if digits == 0 || digits > 1 && in[first] == '0' {
		return n, d.syntax()
	}
	if d.pos < len(in) && in[d.pos] == '.' {
		n.integer = false
		d.pos++
		if !d.digits() {
			return n, false
		}
	}
	if d.pos < len(in) && in[d.pos]|0x20 == 'e' {
		n.integer = false
		d.pos++
		if d.pos < len(in) && (in[d.pos] == '+' || in[d.pos] == '-') {
			d.pos++
		}
		if !d.digits() {
			return n, false
		}
	}
	if n.integer {
		n.float = float64(n.abs)
		if n.negative {
			n.float = -n.float
		}
		return n, true
	}
	text := in[start:d.pos]
	f, err := strconv.ParseFloat(unsafe.String(unsafe.SliceData(text), len(text)), 64)
	if err != nil {
		e := syntaxErrorAt(d.in, start)
		e.text = "Value out of range" // Mesos: stout json.hpp
		d.err = e
		return n, false
	}
	n.float = f
	return n, true
}

// digits takes one digit or more.
func (d *decoder) digits() bool {
	start := d.pos
	for d.pos < len(d.in) && d.in[d.pos]-'0' <= 9 {
		d.pos++
	}
	if d.pos == start {
		return d.syntax()
	}
	return true
}

// skip takes any value.
func (d *decoder) skip() bool {
	switch c := d.peek(); c {
	case 'n':
		return d.literal("null")
	case 't':
		return d.literal("true")
	case 'f':
		return d.literal("false")
	case '"':
		_, ok := d.str()
		return ok
	case '[':
		return d.skipArray()
	case '{':
		return d.skipObject()
	default:
		if c != '-' && c-'0' > 9 {
			return d.syntax()
		}
		_, ok := d.number()
		return ok
	}
}

func (d *decoder) skipArray() bool {
	if !d.enter() {
		return false
	}
	if d.peek() == ']' {
		d.leave()
		return true
	}
	var ok bool
	for more := true; more; {
		if !d.skip() {
			return false
		}
		if more, ok = d.next(']'); !ok {
			return false
		}
	}
	return true
}

func (d *decoder) skipObject() bool {
	if !d.enter() {
		return false
	}
	if d.peek() == '}' {
		d.leave()
		return true
	}
	var ok bool
	for more := true; more; {
		if _, ok := d.str(); !ok {
			return false
		}
		if !d.expect(':') || !d.skip() {
			return false
		}
		if more, ok = d.next('}'); !ok {
			return false
		}
	}
	return true
}

// end checks that only white space is left.
func (d *decoder) end() bool {
	if d.peek(); d.pos == len(d.in) {
		return true
	}
	e := syntaxErrorAt(d.in, d.pos)
	rest := d.in[d.pos:min(len(d.in), d.pos+maxNear)]
	e.text = "Parsed JSON included non-whitespace trailing characters: " + validUTF8(rest)
	d.err = e
	return false
}
