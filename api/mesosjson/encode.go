package mesosjson

import (
	"cmp"
	"encoding/base64"
	"reflect"
	"slices"
	"strconv"
	"unsafe"
)

// append appends the message at ptr. Every member is written with a comma
// before it; the first comma is then made the opening brace.
func (p *plan) append(b []byte, ptr unsafe.Pointer) []byte {
	start := len(b)
	for i := range p.fields {
		f := &p.fields[i]
		at := unsafe.Add(ptr, f.offset)
		if f.shape != shapePtr {
			b = f.appendOther(b, at)
			continue
		}
		v := *(*unsafe.Pointer)(at)
		if v == nil {
			b = append(b, f.def...)
			continue
		}
		switch f.kind {
		case kindMessage:
			b = append(b, f.key...)
			b = f.msg.append(b, v)
		case kindString:
			b = append(b, f.key...)
			b = AppendString(b, *(*string)(v))
		case kindEnum:
			if name := f.enum.quoted(*(*int32)(v)); name != nil {
				b = append(append(b, f.key...), name...)
			} else {
				b = append(b, f.def...)
			}
		default:
			b = append(b, f.key...)
			b = f.appendValue(b, v)
		}
	}
	if len(b) == start {
		return append(b, '{', '}')
	}
	b[start] = '{'
	return append(b, '}')
}

// appendOther appends a field that is not held by a plain pointer; at is the
// address of the struct's field.
func (f *field) appendOther(b []byte, at unsafe.Pointer) []byte {
	switch f.shape {
	case shapeSlice:
		// All slice headers look the same; the length is the second word.
		if len(*(*[]struct{})(at)) == 0 {
			if f.empties {
				b = append(append(b, f.key...), '[', ']')
			}
			return b
		}
		return f.appendSlice(b, at)
	case shapeMap:
		if *(*unsafe.Pointer)(at) == nil {
			return b
		}
		return f.appendMap(b, reflect.NewAt(f.goType, at).Elem())
	case shapeOneof:
		v := reflect.NewAt(f.goType, at).Elem().Elem()
		if !v.IsValid() || v.Type().Elem() != f.wrapper || v.IsNil() {
			return append(b, f.def...)
		}
		return f.appendMember(b, v.UnsafePointer())
	default:
		if f.isUnsetBare(at) {
			return append(b, f.def...)
		}
		return f.appendMember(b, at)
	}
}

// isUnsetBare tells whether a field without a pointer is unset.
func (f *field) isUnsetBare(at unsafe.Pointer) bool {
	switch f.kind {
	case kindBytes:
		v := *(*[]byte)(at)
		return v == nil || f.implicit && len(v) == 0
	case kindString:
		return *(*string)(at) == ""
	case kindBool:
		return !*(*bool)(at)
	case kindInt32, kindUint32, kindFloat, kindEnum:
		return *(*uint32)(at) == 0
	default:
		return *(*uint64)(at) == 0
	}
}

// appendMember appends key and value; v is the address of the value, for a
// message that of the pointer to it.
func (f *field) appendMember(b []byte, v unsafe.Pointer) []byte {
	switch f.kind {
	case kindMessage:
		b = append(b, f.key...)
		return f.msg.appendOrEmpty(b, *(*unsafe.Pointer)(v))
	case kindEnum:
		name := f.enum.quoted(*(*int32)(v))
		if name == nil {
			return append(b, f.def...)
		}
		return append(append(b, f.key...), name...)
	default:
		b = append(b, f.key...)
		return f.appendValue(b, v)
	}
}

// appendOrEmpty is append for a pointer that may be nil, which stands for an
// empty message.
func (p *plan) appendOrEmpty(b []byte, ptr unsafe.Pointer) []byte {
	if ptr == nil {
		ptr = p.zero()
	}
	return p.append(b, ptr)
}

// appendValue appends a scalar; v is the address of the value.
func (f *field) appendValue(b []byte, v unsafe.Pointer) []byte {
	switch f.kind {
	case kindBool:
		return strconv.AppendBool(b, *(*bool)(v))
	case kindInt32:
		return strconv.AppendInt(b, int64(*(*int32)(v)), 10)
	case kindInt64:
		return strconv.AppendInt(b, *(*int64)(v), 10)
	case kindUint32:
		return strconv.AppendUint(b, uint64(*(*uint32)(v)), 10)
	case kindUint64:
		return strconv.AppendUint(b, *(*uint64)(v), 10)
	case kindFloat:
		return AppendFloat(b, float64(*(*float32)(v)))
	case kindDouble:
		return AppendFloat(b, *(*float64)(v))
	case kindString:
		return AppendString(b, *(*string)(v))
	case kindBytes:
		b = append(b, '"')
		b = base64.StdEncoding.AppendEncode(b, *(*[]byte)(v))
		return append(b, '"')
	default:
		panic("mesosjson: appendValue of a " + f.name)
	}
}

// appendSlice appends a repeated field that has elements. Elements are written
// with a comma before them, and the first comma is made the bracket.
func (f *field) appendSlice(b []byte, at unsafe.Pointer) []byte {
	before := len(b)
	b = append(b, f.key...)
	start := len(b)
	switch f.kind {
	case kindMessage:
		for _, v := range *(*[]unsafe.Pointer)(at) {
			b = f.msg.appendOrEmpty(append(b, ','), v)
		}
	case kindString:
		for _, s := range *(*[]string)(at) {
			b = AppendString(append(b, ','), s)
		}
	case kindEnum:
		for _, n := range *(*[]int32)(at) {
			if name := f.enum.quoted(n); name != nil {
				b = append(append(b, ','), name...)
			}
		}
	default:
		size := f.goType.Elem().Size()
		n := len(*(*[]struct{})(at))
		data := *(*unsafe.Pointer)(at)
		for i := range n {
			b = f.appendValue(append(b, ','), unsafe.Add(data, uintptr(i)*size))
		}
	}
	if len(b) == start {
		return b[:before] // nothing but enum numbers without a name
	}
	b[start] = '['
	return append(b, ']')
}

// appendMap appends a map as an object with sorted keys. Maps are rare enough
// in the contract for reflection.
func (f *field) appendMap(b []byte, m reflect.Value) []byte {
	if m.Len() == 0 {
		return b
	}
	keys := m.MapKeys()
	slices.SortFunc(keys, compareKeys)
	b = append(b, f.key...)
	start := len(b)
	value := reflect.New(f.goType.Elem())
	for _, k := range keys {
		value.Elem().Set(m.MapIndex(k))
		v := value.UnsafePointer()
		var name []byte
		if f.mapVal.kind == kindEnum {
			if name = f.mapVal.enum.quoted(*(*int32)(v)); name == nil {
				continue
			}
		}
		b = append(b, ',')
		if k.Kind() == reflect.String {
			b = AppendString(b, k.String())
		} else {
			b = append(b, '"')
			b = f.mapKey.appendValue(b, addressOf(k))
			b = append(b, '"')
		}
		b = append(b, ':')
		switch f.mapVal.kind {
		case kindMessage:
			b = f.mapVal.msg.appendOrEmpty(b, *(*unsafe.Pointer)(v))
		case kindEnum:
			b = append(b, name...)
		default:
			b = f.mapVal.appendValue(b, v)
		}
	}
	if len(b) == start {
		return append(b, '{', '}')
	}
	b[start] = '{'
	return append(b, '}')
}

// addressOf returns the address of a copy of v.
func addressOf(v reflect.Value) unsafe.Pointer {
	c := reflect.New(v.Type())
	c.Elem().Set(v)
	return c.UnsafePointer()
}

func compareKeys(a, b reflect.Value) int {
	switch {
	case a.Kind() == reflect.String:
		return cmp.Compare(a.String(), b.String())
	case a.Kind() == reflect.Bool:
		return cmp.Compare(strconv.FormatBool(a.Bool()), strconv.FormatBool(b.Bool()))
	case a.CanInt():
		return cmp.Compare(a.Int(), b.Int())
	default:
		return cmp.Compare(a.Uint(), b.Uint())
	}
}
