package mesosjson

import (
	"reflect"
	"slices"
	"strconv"
	"unsafe"
)

// missing returns a *MissingError when required fields at or below ptr are
// unset, in the order of protobuf's FindInitializationErrors: the message's own
// first, in order of declaration, then those of its submessages by number.
func (p *plan) missing(ptr unsafe.Pointer) error {
	if p.complete(ptr) {
		return nil
	}
	return &MissingError{Fields: p.collect(nil, "", ptr)}
}

// complete tells whether nothing required is missing.
func (p *plan) complete(ptr unsafe.Pointer) bool {
	if !p.checked {
		return true
	}
	for i := range p.fields {
		f := &p.fields[i]
		if f.required && f.unset(ptr) {
			return false
		}
		complete := true
		f.eachMessage(ptr, func(_ int, sub *plan, v unsafe.Pointer) bool {
			complete = sub.complete(v)
			return complete
		})
		if !complete {
			return false
		}
	}
	return true
}

// collect appends the paths of what is missing.
func (p *plan) collect(paths []string, prefix string, ptr unsafe.Pointer) []string {
	for i := range p.fields {
		if f := &p.fields[i]; f.required && f.unset(ptr) {
			paths = append(paths, prefix+f.name)
		}
	}
	for _, i := range p.byNumber {
		f := &p.fields[i]
		f.eachMessage(ptr, func(index int, sub *plan, v unsafe.Pointer) bool {
			name := prefix + f.name
			if index >= 0 {
				name += "[" + strconv.Itoa(index) + "]"
			}
			if f.shape == shapeMap {
				name += ".value"
			}
			paths = sub.collect(paths, name+".", v)
			return true
		})
	}
	return paths
}

// unset tells whether a required field has no value. Required fields are always
// pointers or bytes, for both of which the first word says so.
func (f *field) unset(ptr unsafe.Pointer) bool {
	return *(*unsafe.Pointer)(unsafe.Add(ptr, f.offset)) == nil
}

// eachMessage calls fn for the messages in field f that need a check, until fn
// returns false. The index is -1 unless there may be several.
func (f *field) eachMessage(ptr unsafe.Pointer, fn func(index int, sub *plan, v unsafe.Pointer) bool) {
	if f.shape == shapeMap {
		f.eachMapMessage(ptr, fn)
		return
	}
	if f.kind != kindMessage || !f.msg.checked {
		return
	}
	at := unsafe.Add(ptr, f.offset)
	switch f.shape {
	case shapePtr:
		if v := *(*unsafe.Pointer)(at); v != nil {
			fn(-1, f.msg, v)
		}
	case shapeSlice:
		for i, v := range *(*[]unsafe.Pointer)(at) {
			if v != nil && !fn(i, f.msg, v) {
				return
			}
		}
	case shapeOneof:
		e := reflect.NewAt(f.goType, at).Elem().Elem()
		if e.IsValid() && e.Type().Elem() == f.wrapper && !e.IsNil() {
			if v := *(*unsafe.Pointer)(e.UnsafePointer()); v != nil {
				fn(-1, f.msg, v)
			}
		}
	default: // messages have no other shape
	}
}

// eachMapMessage is eachMessage for maps, whose entries protobuf takes for
// messages with the fields key and value.
func (f *field) eachMapMessage(ptr unsafe.Pointer, fn func(index int, sub *plan, v unsafe.Pointer) bool) {
	if f.mapVal.kind != kindMessage || !f.mapVal.msg.checked {
		return
	}
	m := reflect.NewAt(f.goType, unsafe.Add(ptr, f.offset)).Elem()
	if m.Len() == 0 {
		return
	}
	keys := m.MapKeys()
	slices.SortFunc(keys, compareKeys)
	for i, k := range keys {
		v := m.MapIndex(k).UnsafePointer()
		if v != nil && !fn(i, f.mapVal.msg, v) {
			return
		}
	}
}
