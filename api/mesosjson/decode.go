package mesosjson

import (
	"errors"
	"math"
	"reflect"
	"strconv"
	"strings"
	"unsafe"
)

// document reads the whole input into the message at ptr.
func (d *decoder) document(p *plan, ptr unsafe.Pointer) error {
	if d.peek() != '{' {
		return d.verdict(d.skip() && d.end() && d.wrong("", "Expecting a JSON object"))
	}
	if !d.object(p, ptr) || !d.end() {
		return d.verdict(false)
	}
	return p.missing(ptr)
}

// list reads the whole input as an array and calls element for each element,
// which must be an object.
func (d *decoder) list(element func() bool) error {
	if d.peek() != '[' {
		return d.verdict(d.skip() && d.end() && d.wrong("", "Expecting a JSON array"))
	}
	ok := d.array(func() bool {
		if d.peek() != '{' {
			return d.skip() && d.wrong("", "Expecting a JSON object")
		}
		return element()
	})
	return d.verdict(ok && d.end())
}

// verdict returns the error to report. Mesos parses the whole input before it
// converts anything, so that a syntax error anywhere counts first.
func (d *decoder) verdict(ok bool) error {
	if ok {
		return nil
	}
	if _, syntax := errors.AsType[*SyntaxError](d.err); !syntax {
		check := decoder{in: d.in}
		if !check.skip() || !check.end() {
			return check.err
		}
	}
	return d.err
}

// wrong fails with a conversion error.
func (d *decoder) wrong(field, text string) bool {
	d.err = &ConversionError{Field: field, text: text}
	return false
}

// unexpected fails because a kind of JSON value does not suit the field.
func (d *decoder) unexpected(what string, f *field) bool {
	return d.wrong(f.name, "Not expecting a JSON "+what+" for field '"+f.name+"'")
}

// array takes an array and calls element at each element.
func (d *decoder) array(element func() bool) bool {
	if !d.enter() {
		return false
	}
	if d.peek() == ']' {
		d.leave()
		return true
	}
	var ok bool
	for more := true; more; {
		if !element() {
			return false
		}
		if more, ok = d.next(']'); !ok {
			return false
		}
	}
	return true
}

// object takes an object into the message at ptr; the brace is the next byte.
func (d *decoder) object(p *plan, ptr unsafe.Pointer) bool {
	if !d.enter() {
		return false
	}
	if d.peek() == '}' {
		d.leave()
		return true
	}
	guess := 0
	var ok bool
	for more := true; more; {
		name, ok2 := d.str()
		if !ok2 {
			return false
		}
		// Writers keep the order of declaration, so the next field is nearly
		// always one of those that follow.
		var f *field
		for ; guess < len(p.fields); guess++ {
			if p.fields[guess].name == string(name) {
				f = &p.fields[guess]
				guess++
				break
			}
		}
		if f == nil {
			if i, known := p.byName[string(name)]; known {
				f = &p.fields[i]
				guess = i + 1
			} else {
				guess = 0
			}
		}
		if !d.expect(':') {
			return false
		}
		if f == nil {
			ok = d.skip()
		} else {
			ok = d.member(f, unsafe.Add(ptr, f.offset))
		}
		if !ok {
			return false
		}
		if more, ok = d.next('}'); !ok {
			return false
		}
	}
	return true
}

// member takes the value of field f; at is the address of the struct's field.
func (d *decoder) member(f *field, at unsafe.Pointer) bool {
	switch f.shape {
	case shapePtr:
		*(*unsafe.Pointer)(at) = nil // an earlier member of the same name does not count
		return d.pointer(f, at)
	case shapeSlice:
		f.clearSlice(at)
		return d.elements(f, at)
	case shapeMap:
		m := reflect.NewAt(f.goType, at).Elem()
		m.SetZero()
		return d.mapEntries(f, m)
	case shapeOneof:
		return d.oneof(f, reflect.NewAt(f.goType, at).Elem())
	default:
		reflect.NewAt(f.goType, at).Elem().SetZero()
		_, ok := d.value(f, at)
		return ok
	}
}

// pointer takes a value for a field that is a pointer.
func (d *decoder) pointer(f *field, at unsafe.Pointer) bool {
	switch f.kind {
	case kindMessage:
		v, ok := d.message(f)
		*(*unsafe.Pointer)(at) = v
		return ok
	case kindString:
		s := new(string)
		set, ok := d.value(f, unsafe.Pointer(s))
		if set {
			*(**string)(at) = s
		}
		return ok
	default:
		return d.number32or64(f, at)
	}
}

// number32or64 is pointer for the kinds without pointers inside.
func (d *decoder) number32or64(f *field, at unsafe.Pointer) bool {
	var v unsafe.Pointer
	switch f.kind {
	case kindBool:
		v = unsafe.Pointer(new(bool))
	case kindInt32, kindUint32, kindFloat, kindEnum:
		v = unsafe.Pointer(new(uint32))
	default:
		v = unsafe.Pointer(new(uint64))
	}
	set, ok := d.value(f, v)
	if set {
		*(*unsafe.Pointer)(at) = v
	}
	return ok
}

// message takes an object as a new message; nil for null.
func (d *decoder) message(f *field) (unsafe.Pointer, bool) {
	switch d.peek() {
	case '{':
		v := f.msg.zero()
		return v, d.object(f.msg, v)
	case 'n':
		return nil, d.literal("null")
	default:
		return nil, d.skipUnexpected(f)
	}
}

// skipUnexpected takes a value and fails because it does not suit the field.
func (d *decoder) skipUnexpected(f *field) bool {
	what := ""
	switch d.peek() {
	case '{':
		what = "object"
	case '[':
		what = "array"
	case '"':
		what = "string"
	case 't', 'f':
		what = "boolean"
	default:
		what = "number"
	}
	return d.skip() && d.unexpected(what, f)
}

// clearSlice sets a repeated field to nil.
func (f *field) clearSlice(at unsafe.Pointer) {
	if *(*unsafe.Pointer)(at) != nil {
		reflect.NewAt(f.goType, at).Elem().SetZero()
	}
}

// elements takes the values of a repeated field: an array, whose arrays count
// as if their elements stood in their place (stout's visitor does so), or a
// lone value.
func (d *decoder) elements(f *field, at unsafe.Pointer) bool {
	switch d.peek() {
	case '[':
		return d.array(func() bool { return d.elements(f, at) })
	case 'n':
		return d.literal("null")
	}
	switch f.kind {
	case kindMessage:
		v, ok := d.message(f)
		if ok {
			list := (*[]unsafe.Pointer)(at)
			*list = append(*list, v)
		}
		return ok
	case kindBool:
		return appendElement[bool](d, f, at)
	case kindInt32, kindUint32, kindFloat, kindEnum:
		return appendElement[uint32](d, f, at)
	case kindString:
		return appendElement[string](d, f, at)
	case kindBytes:
		return appendElement[[]byte](d, f, at)
	default:
		return appendElement[uint64](d, f, at)
	}
}

// appendElement takes one value and appends it to the slice at the address; T
// is a type of the same layout as the elements.
func appendElement[T any](d *decoder, f *field, at unsafe.Pointer) bool {
	var v T
	set, ok := d.value(f, unsafe.Pointer(&v))
	if set {
		list := (*[]T)(at)
		*list = append(*list, v)
	}
	return ok
}

// mapEntries takes the entries of a map: an object, or an array of objects.
func (d *decoder) mapEntries(f *field, m reflect.Value) bool {
	switch d.peek() {
	case '[':
		return d.array(func() bool { return d.mapEntries(f, m) })
	case 'n':
		return d.literal("null")
	case '{':
	default:
		return d.skipUnexpected(f)
	}
	if m.IsNil() {
		m.Set(reflect.MakeMap(f.goType))
	}
	if !d.enter() {
		return false
	}
	if d.peek() == '}' {
		d.leave()
		return true
	}
	var ok bool
	for more := true; more; {
		if !d.mapEntry(f, m) {
			return false
		}
		if more, ok = d.next('}'); !ok {
			return false
		}
	}
	return true
}

func (d *decoder) mapEntry(f *field, m reflect.Value) bool {
	name, ok := d.str()
	if !ok {
		return false
	}
	key := reflect.New(f.goType.Key())
	if f.mapKey.kind == kindString {
		key.Elem().SetString(string(name))
	} else if !d.fromString(f.mapKey, key.UnsafePointer(), name) {
		return false
	}
	if !d.expect(':') {
		return false
	}
	value := reflect.New(f.goType.Elem())
	if f.mapVal.kind == kindMessage {
		v, ok := d.message(f.mapVal)
		if !ok {
			return false
		}
		if v == nil {
			v = f.mapVal.msg.zero() // null: the entry exists, its value is empty
		}
		*(*unsafe.Pointer)(value.UnsafePointer()) = v
	} else if _, ok := d.value(f.mapVal, value.UnsafePointer()); !ok {
		return false
	}
	m.SetMapIndex(key.Elem(), value.Elem())
	return true
}

// oneof takes the value of one member of a oneof, whose interface is in. The
// member that comes last in the input stands.
func (d *decoder) oneof(f *field, in reflect.Value) bool {
	if e := in.Elem(); e.IsValid() && e.Type().Elem() == f.wrapper {
		in.SetZero()
	}
	w := reflect.New(f.wrapper)
	if f.kind == kindMessage {
		v, ok := d.message(f)
		if v != nil {
			*(*unsafe.Pointer)(w.UnsafePointer()) = v
			in.Set(w)
		}
		return ok
	}
	set, ok := d.value(f, w.UnsafePointer())
	if set {
		in.Set(w)
	}
	return ok
}

// value takes a scalar and stores it at v. It reports whether there was one to
// store: null and unknown enum names are not.
func (d *decoder) value(f *field, v unsafe.Pointer) (set, ok bool) {
	switch c := d.peek(); c {
	case '"':
		text, ok := d.str()
		if !ok {
			return false, false
		}
		switch f.kind {
		case kindString:
			*(*string)(v) = string(text)
			return true, true
		case kindEnum:
			return d.enumValue(f, v, text)
		default:
			ok = d.fromString(f, v, text)
			return ok, ok
		}
	case 'n':
		return false, d.literal("null")
	case 't', 'f':
		if f.kind != kindBool {
			return false, d.skipUnexpected(f)
		}
		if c == 't' {
			ok = d.literal("true")
		} else {
			ok = d.literal("false")
		}
		*(*bool)(v) = c == 't'
		return ok, ok
	case '{', '[':
		return false, d.skipUnexpected(f)
	default:
		if c != '-' && c-'0' > 9 {
			return false, d.syntax()
		}
		n, ok := d.number()
		if !ok {
			return false, false
		}
		ok = d.storeNumber(f, v, n)
		return ok, ok
	}
}

func (d *decoder) enumValue(f *field, v unsafe.Pointer, name []byte) (set, ok bool) {
	n, known := f.enum.byName[string(name)]
	if !known {
		if f.required {
			return false, d.wrong(f.name, "Failed to find enum for '"+validUTF8(name)+"'")
		}
		return false, true
	}
	*(*int32)(v) = n
	return true, true
}

// storeNumber stores n at v in the type of the field.
func (d *decoder) storeNumber(f *field, v unsafe.Pointer, n number) bool {
	ok := true
	switch f.kind {
	case kindDouble:
		*(*float64)(v) = n.float
	case kindFloat:
		*(*float32)(v) = float32(n.float)
	case kindInt32:
		var i int64
		i, ok = n.signed(math.MinInt32, math.MaxInt32)
		*(*int32)(v) = int32(i)
	case kindInt64:
		*(*int64)(v), ok = n.signed(math.MinInt64, math.MaxInt64)
	case kindUint32:
		var u uint64
		u, ok = n.unsigned(math.MaxUint32)
		*(*uint32)(v) = uint32(u)
	case kindUint64:
		*(*uint64)(v), ok = n.unsigned(math.MaxUint64)
	default:
		return d.unexpected("number", f)
	}
	if !ok {
		text := strconv.FormatFloat(n.float, 'g', -1, 64)
		return d.wrong(f.name, "Number "+text+" is out of range for field '"+f.name+"'")
	}
	return true
}

// signed returns n as an integer, without its fraction.
func (n number) signed(lowest, highest int64) (int64, bool) {
	if !n.integer {
		f := math.Trunc(n.float)
		if f < float64(lowest) || f > float64(highest) || f >= 1<<63 {
			return 0, false
		}
		return int64(f), true
	}
	if n.negative {
		if n.abs > 1<<63 {
			return 0, false
		}
		i := int64(-n.abs)
		return i, i >= lowest
	}
	return int64(n.abs), n.abs <= uint64(highest)
}

// unsigned returns n as an unsigned integer, without its fraction.
func (n number) unsigned(highest uint64) (uint64, bool) {
	if !n.integer {
		f := math.Trunc(n.float)
		if f < 0 || f > float64(highest) || f >= 1<<64 {
			return 0, false
		}
		return uint64(f), true
	}
	return n.abs, n.abs <= highest && (!n.negative || n.abs == 0)
}

// fromString stores a value that is written as a string: base64 for bytes, JSON
// in a string for numbers and bools.
func (d *decoder) fromString(f *field, v unsafe.Pointer, text []byte) bool {
	switch f.kind {
	case kindBytes:
		data, bad, ok := decodeBase64(text)
		if !ok {
			return d.wrong(f.name, "Failed to base64 decode bytes field '"+f.name+"': Invalid character '"+
				validUTF8([]byte{bad})+"'")
		}
		*(*[]byte)(v) = data
		return true
	case kindMessage:
		return d.unexpected("string", f)
	case kindDouble, kindFloat:
		if special, ok := specialFloat(string(text)); ok {
			return d.storeNumber(f, v, number{float: special})
		}
	default:
	}
	what, inner := "number", decoder{in: text}
	if f.kind == kindBool {
		what = "boolean"
	}
	c := inner.peek()
	isBool := c == 't' || c == 'f'
	isNumber := c == '-' || c-'0' <= 9
	var n number
	ok := false
	if isNumber {
		n, ok = inner.number()
	} else {
		ok = inner.skip()
	}
	ok = ok && inner.end()
	if ok && (isBool && f.kind == kindBool || isNumber && f.kind != kindBool) {
		if isBool {
			*(*bool)(v) = c == 't'
			return true
		}
		return d.storeNumber(f, v, n)
	}
	reason := "Unexpected JSON type parsed"
	if !ok {
		reason = inner.err.Error()
	}
	return d.wrong(f.name, "Failed to parse '"+validUTF8(text)+"' as a JSON "+what+" for field '"+f.name+"': "+reason)
}

func specialFloat(s string) (float64, bool) {
	switch s {
	case "Infinity":
		return math.Inf(1), true
	case "-Infinity":
		return math.Inf(-1), true
	case "NaN":
		return math.NaN(), true
	}
	return 0, false
}

// sextets maps the letters of both base64 alphabets to their values plus one,
// and white space to skipped.
var sextets = func() (t [256]uint8) {
	const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
	for i := range len(letters) {
		t[letters[i]] = uint8(i + 1)
	}
	t['-'], t['_'] = t['+'], t['/']
	for _, c := range " \t\n\v\f\r" {
		t[c] = skipped
	}
	return t
}()

const skipped = 0xff

// decodeBase64 decodes text up to the first '='; bad is the byte that does not
// belong there. Bits left over are dropped.
func decodeBase64(text []byte) (data []byte, bad byte, ok bool) {
	data = make([]byte, 0, len(text)*3/4)
	var bits uint32
	n := 0
	for _, c := range text {
		if c == '=' {
			break
		}
		s := sextets[c]
		switch s {
		case skipped:
			continue
		case 0:
			return nil, c, false
		}
		bits = bits<<6 | uint32(s-1)
		if n++; n == 4 {
			data = append(data, byte(bits>>16), byte(bits>>8), byte(bits))
			bits, n = 0, 0
		}
	}
	switch n {
	case 2:
		data = append(data, byte(bits>>4))
	case 3:
		data = append(data, byte(bits>>10), byte(bits>>2))
	}
	return data, 0, true
}

func validUTF8(b []byte) string {
	return strings.ToValidUTF8(string(b), "\uFFFD")
}
