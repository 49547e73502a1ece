package mesosjson

import (
	"encoding/binary"
	"math"
	"slices"
	"strconv"
	"unicode/utf8"
	"unsafe"
)

// plain tells which bytes stand in a JSON string as they are. Bytes from 0x80
// on are not plain: they need the slow path that checks UTF-8.
var plain = func() (t [256]bool) {
	for c := ' '; c < utf8.RuneSelf; c++ {
		t[c] = c != '"' && c != '\\'
	}
	return t
}()

const (
	lows  = 0x0101010101010101
	highs = 0x8080808080808080
)

// plainPrefix returns the length of a prefix of s that is plain, and at least all of it
// when every byte is. Eight bytes are looked at together.
func plainPrefix(s string) int {
	i := 0
	if len(s) >= 8 {
		b := unsafe.Slice(unsafe.StringData(s), len(s))
		for ; i+8 <= len(b); i += 8 {
			w := binary.LittleEndian.Uint64(b[i:])
			quote := w ^ (lows * '"')
			slash := w ^ (lows * '\\')
			if (w|(w-lows*' ')|(quote-lows)|(slash-lows))&highs != 0 {
				break
			}
		}
	}
	for i < len(s) && plain[s[i]] {
		i++
	}
	return i
}

// AppendString appends s to b as a JSON string, with the escapes that Mesos
// writes (rapidjson's). Invalid UTF-8 becomes U+FFFD.
func AppendString(b []byte, s string) []byte {
	b = append(b, '"')
	for {
		n := plainPrefix(s)
		b = append(b, s[:n]...)
		if n == len(s) {
			return append(b, '"')
		}
		s = s[n:]
		if s[0] >= utf8.RuneSelf {
			r, size := utf8.DecodeRuneInString(s)
			b = utf8.AppendRune(b, r)
			s = s[size:]
			continue
		}
		b = appendEscape(b, s[0])
		s = s[1:]
	}
}

func appendEscape(b []byte, c byte) []byte {
	switch c {
	case '"', '\\':
		return append(b, '\\', c)
	case '\b':
		return append(b, '\\', 'b')
	case '\f':
		return append(b, '\\', 'f')
	case '\n':
		return append(b, '\\', 'n')
	case '\r':
		return append(b, '\\', 'r')
	case '\t':
		return append(b, '\\', 't')
	default:
		const hex = "0123456789ABCDEF"
		return append(b, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
	}
}

// AppendFloat appends f to b as Mesos writes a double (rapidjson's Prettify):
// the shortest digits that read back as f, always with a point or an exponent.
// NaN and the infinities become strings, see the package comment.
func AppendFloat(b []byte, f float64) []byte {
	abs := math.Abs(f)
	switch {
	case abs < 1e15 && f == math.Trunc(f) && (f != 0 || !math.Signbit(f)):
		b = strconv.AppendInt(b, int64(f), 10)
		return append(b, '.', '0')
	case math.IsNaN(f):
		return append(b, `"NaN"`...)
	case math.IsInf(f, 1):
		return append(b, `"Infinity"`...)
	case math.IsInf(f, -1):
		return append(b, `"-Infinity"`...)
	case abs != 0 && (abs < 1e-6 || abs >= 1e21):
		return appendExponent(b, f)
	}
	start := len(b)
	b = strconv.AppendFloat(b, f, 'f', -1, 64)
	if slices.Contains(b[start:], '.') {
		return b
	}
	return append(b, '.', '0')
}

// appendExponent writes 1e+21 as 1e21 and 1e-07 as 1e-7, as rapidjson does.
func appendExponent(b []byte, f float64) []byte {
	start := len(b)
	b = strconv.AppendFloat(b, f, 'e', -1, 64)
	e := start
	for b[e] != 'e' {
		e++
	}
	exp, _ := strconv.Atoi(string(b[e+1:]))
	return strconv.AppendInt(b[:e+1], int64(exp), 10)
}
