package render

import (
	"math"
	"strconv"
	"time"
	"unicode/utf8"
)

// appendDouble writes a number as Mesos does: the shortest form that reads back
// the same, always with a fraction or an exponent.
func appendDouble(dst []byte, v float64) []byte {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		// JSON has no such numbers; Mesos writes them bare, which breaks readers.
		return append(dst, '0', '.', '0')
	}
	// Times in microseconds and amounts in thousandths are nearly all there is.
	// If the decimal of six digits reads back as v, then the shortest that does
	// is the same less its trailing zeros: below 2^32 doubles lie closer together
	// than microseconds.
	if v >= 0 && v < 1<<32 {
		micro := uint64(v*1e6 + 0.5)
		if float64(micro)/1e6 == v {
			return appendMicro(dst, micro)
		}
	}
	start := len(dst)
	format := byte('f')
	if abs := math.Abs(v); abs != 0 && (abs < 1e-6 || abs >= 1e21) {
		format = 'e'
	}
	dst = strconv.AppendFloat(dst, v, format, -1, 64)
	for _, c := range dst[start:] {
		if c == '.' || c == 'e' {
			return dst
		}
	}
	return append(dst, '.', '0')
}

// appendMicro writes a fixed-point number of millionths as a double.
func appendMicro(dst []byte, micro uint64) []byte {
	dst = strconv.AppendUint(dst, micro/1e6, 10)
	rest := uint32(micro % 1e6)
	if rest == 0 {
		return append(dst, '.', '0')
	}
	var digits [7]byte
	digits[0] = '.'
	for i := 6; i > 0; i-- {
		digits[i] = byte('0' + rest%10)
		rest /= 10
	}
	n := len(digits)
	for digits[n-1] == '0' {
		n--
	}
	return append(dst, digits[:n]...)
}

// appendMilli writes a fixed-point number of thousandths as a double.
func appendMilli(dst []byte, milli int64) []byte {
	if milli < 0 {
		dst = append(dst, '-')
		milli = -milli
	}
	dst = strconv.AppendInt(dst, milli/1000, 10)
	rest := milli % 1000
	dst = append(dst, '.', byte('0'+rest/100))
	if rest %= 100; rest != 0 {
		dst = append(dst, byte('0'+rest/10))
		if rest %= 10; rest != 0 {
			dst = append(dst, byte('0'+rest))
		}
	}
	return dst
}

// appendSeconds writes a time as seconds since the epoch, as precise as a double
// is: Mesos's own clock is one of nanoseconds, shown through a double. The zero
// time is 0.0.
func appendSeconds(dst []byte, t time.Time) []byte {
	return appendDouble(dst, Seconds(t))
}

// Seconds is the time as seconds since the epoch; the zero time is 0.
func Seconds(t time.Time) float64 {
	if t.IsZero() {
		return 0
	}
	return float64(t.UnixNano()) / 1e9
}

const hexDigits = "0123456789abcdef"

// plain marks the bytes that stand for themselves in a JSON string.
var plain = func() (t [256]bool) {
	for c := 0x20; c < utf8.RuneSelf; c++ {
		t[c] = c != '"' && c != '\\'
	}
	return t
}()

// appendString writes a JSON string; bytes that are not UTF-8 become U+FFFD.
func appendString(dst []byte, s string) []byte {
	dst = append(dst, '"')
	if allPlain(s) {
		return append(append(dst, s...), '"')
	}
	return append(appendEscaped(dst, s), '"')
}

// allPlain reports whether every byte of s stands for itself, eight at a time.
func allPlain(s string) bool {
	const ones, tops = 0x0101010101010101, 0x8080808080808080
	i := 0
	for ; i+8 <= len(s); i += 8 {
		w := uint64(s[i]) | uint64(s[i+1])<<8 | uint64(s[i+2])<<16 | uint64(s[i+3])<<24 |
			uint64(s[i+4])<<32 | uint64(s[i+5])<<40 | uint64(s[i+6])<<48 | uint64(s[i+7])<<56
		quote, slash := w^(ones*'"'), w^(ones*'\\')
		// A byte is zero, or below 0x20, where subtracting borrows from its top bit.
		if (w|(w-ones*0x20)|(quote-ones)|(slash-ones))&tops != 0 {
			return plainBytes(s[i:])
		}
	}
	return plainBytes(s[i:])
}

func plainBytes(s string) bool {
	for i := range len(s) {
		if !plain[s[i]] {
			return false
		}
	}
	return true
}

func appendEscaped(dst []byte, s string) []byte {
	start := 0
	for i := 0; i < len(s); {
		c := s[i]
		if plain[c] {
			i++
			continue
		}
		if c >= utf8.RuneSelf {
			r, n := utf8.DecodeRuneInString(s[i:])
			if r != utf8.RuneError || n > 1 {
				i += n
				continue
			}
			dst = append(append(dst, s[start:i]...), "\uFFFD"...)
			i++
			start = i
			continue
		}
		dst = append(append(dst, s[start:i]...), '\\')
		switch c {
		case '"', '\\':
			dst = append(dst, c)
		case '\b':
			dst = append(dst, 'b')
		case '\f':
			dst = append(dst, 'f')
		case '\n':
			dst = append(dst, 'n')
		case '\r':
			dst = append(dst, 'r')
		case '\t':
			dst = append(dst, 't')
		default:
			dst = append(dst, 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
		}
		i++
		start = i
	}
	return append(dst, s[start:]...)
}

// object writes the members of one JSON object into buf. It knows whether a
// comma is due; keys are literals of this package and need no escaping.
type object struct {
	buf   []byte
	comma bool
}

func open(dst []byte) object { return object{buf: append(dst, '{')} }

func (o *object) close() []byte { return append(o.buf, '}') }

func (o *object) key(k string) {
	if o.comma {
		o.buf = append(o.buf, ',')
	}
	o.comma = true
	o.buf = append(append(append(o.buf, '"'), k...), '"', ':')
}

// name is key for names that come from outside.
func (o *object) name(k string) {
	if o.comma {
		o.buf = append(o.buf, ',')
	}
	o.comma = true
	o.buf = append(appendString(o.buf, k), ':')
}

func (o *object) str(k, v string) {
	o.key(k)
	o.buf = appendString(o.buf, v)
}

// raw writes a string that is known to need no escaping: names of enums, ids.
func (o *object) raw(k, v string) {
	o.key(k)
	o.buf = append(append(append(o.buf, '"'), v...), '"')
}

func (o *object) double(k string, v float64) {
	o.key(k)
	o.buf = appendDouble(o.buf, v)
}

func (o *object) integer(k string, v int64) {
	o.key(k)
	o.buf = strconv.AppendInt(o.buf, v, 10)
}

func (o *object) boolean(k string, v bool) {
	o.key(k)
	o.buf = strconv.AppendBool(o.buf, v)
}

func (o *object) time(k string, t time.Time) {
	o.key(k)
	o.buf = appendSeconds(o.buf, t)
}
