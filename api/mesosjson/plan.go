package mesosjson

import (
	"encoding/base64"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"unsafe"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/runtime/protoimpl"
	"google.golang.org/protobuf/types/descriptorpb"
)

// kind is the type of a single value of a field.
type kind uint8

const (
	kindBool kind = iota
	kindInt32
	kindInt64
	kindUint32
	kindUint64
	kindFloat
	kindDouble
	kindString
	kindBytes
	kindEnum
	kindMessage
)

// shape is how the generated struct holds the values of a field.
type shape uint8

const (
	// shapePtr is a pointer to the value: proto2 scalars and all messages.
	shapePtr shape = iota
	// shapeBare is the value itself: bytes, and proto3 scalars, for which zero
	// means unset.
	shapeBare
	// shapeSlice is a slice of values; of messages, a slice of pointers.
	shapeSlice
	// shapeMap is a Go map.
	shapeMap
	// shapeOneof is an interface that holds a pointer to a struct of one field.
	shapeOneof
)

// plan is the compiled form of one message type.
type plan struct {
	name   protoreflect.FullName
	goType reflect.Type
	fields []field
	byName map[string]int
	// byNumber holds indexes into fields in the order of field numbers, the
	// order in which missing fields of submessages are reported.
	byNumber []int
	// checked is whether this message or one below it has required fields.
	checked bool
}

// field is the compiled form of one field.
type field struct {
	offset   uintptr
	shape    shape
	kind     kind
	required bool
	// proto3 bytes are unset when empty, proto2 bytes when nil.
	implicit bool
	// empties is whether an empty repeated field is written, see keepsEmpty.
	empties bool
	name    string
	// key is `,"name":`.
	key []byte
	// def is key and the default value, when it is to be written for an unset
	// field.
	def  []byte
	msg  *plan
	enum *enumPlan

	goType  reflect.Type // of the struct's field, for maps and oneofs
	wrapper reflect.Type // of the oneof's wrapper, not the pointer to it
	mapKey  *field
	mapVal  *field
}

// enumPlan holds the names of an enum, quoted, and the way back.
type enumPlan struct {
	byNumber map[int32][]byte
	// dense is byNumber for numbers 0 to 63, which is nearly all of them.
	dense  [64][]byte
	byName map[string]int32
}

// quoted returns the name of number n in quotes, or nil.
func (e *enumPlan) quoted(n int32) []byte {
	if uint32(n) < uint32(len(e.dense)) {
		return e.dense[n]
	}
	return e.byNumber[n]
}

// keepsEmpty names the messages whose empty repeated fields are written as [],
// unless deprecated: Mesos writes the JSON of these by hand
// (src/master/readonly_handler.cpp, src/slave/http.cpp).
var keepsEmpty = map[protoreflect.FullName]bool{
	"mesos.v1.master.Response.GetAgents":     true,
	"mesos.v1.master.Response.GetExecutors":  true,
	"mesos.v1.master.Response.GetFrameworks": true,
	"mesos.v1.master.Response.GetTasks":      true,
	"mesos.v1.agent.Response.GetExecutors":   true,
	"mesos.v1.agent.Response.GetFrameworks":  true,
	"mesos.v1.agent.Response.GetTasks":       true,
}

// plans caches *plan by the message's reflect.Type (a pointer type).
var plans sync.Map

// compileMu lets one goroutine compile at a time, so that plans which refer to
// each other become visible together.
var compileMu sync.Mutex

// planOf returns the plan of m and the address of its struct, nil when m is a
// nil pointer.
func planOf(m proto.Message) (*plan, unsafe.Pointer, error) {
	if m == nil {
		return nil, nil, fmt.Errorf("%w: nil", ErrUnsupported)
	}
	t := reflect.TypeOf(m)
	p, ok := plans.Load(t)
	if !ok {
		compiled, err := compileType(m, t)
		if err != nil {
			return nil, nil, err
		}
		p = compiled
	}
	// The data word of an interface that holds a pointer is that pointer.
	return p.(*plan), reflect.ValueOf(m).UnsafePointer(), nil
}

// zero returns the address of a new, empty message.
func (p *plan) zero() unsafe.Pointer {
	return reflect.New(p.goType).UnsafePointer()
}

// compiler collects the plans of a message and of all messages below it.
type compiler struct {
	fresh map[reflect.Type]*plan
}

func compileType(m proto.Message, t reflect.Type) (*plan, error) {
	compileMu.Lock()
	defer compileMu.Unlock()
	if t.Kind() != reflect.Pointer || t.Elem().Kind() != reflect.Struct {
		return nil, fmt.Errorf("%w: %T", ErrUnsupported, m)
	}
	c := &compiler{fresh: map[reflect.Type]*plan{}}
	p, err := c.compile(m.ProtoReflect().Type(), t)
	if err != nil {
		return nil, err
	}
	c.markChecked()
	for t, p := range c.fresh {
		plans.Store(t, p)
	}
	return p, nil
}

// markChecked finds the plans that have required fields at or below them.
func (c *compiler) markChecked() {
	for changed := true; changed; {
		changed = false
		for _, p := range c.fresh {
			if p.checked {
				continue
			}
			p.checked = slices.ContainsFunc(p.fields, func(f field) bool {
				return f.required ||
					f.msg != nil && f.msg.checked ||
					f.mapVal != nil && f.mapVal.msg != nil && f.mapVal.msg.checked
			})
			changed = changed || p.checked
		}
	}
}

func (c *compiler) compile(mt protoreflect.MessageType, t reflect.Type) (*plan, error) {
	if p, ok := plans.Load(t); ok {
		return p.(*plan), nil
	}
	if p, ok := c.fresh[t]; ok {
		return p, nil
	}
	info, ok := mt.(*protoimpl.MessageInfo)
	if !ok {
		return nil, fmt.Errorf("%w: %s is not generated", ErrUnsupported, mt.Descriptor().FullName())
	}
	md := mt.Descriptor()
	p := &plan{name: md.FullName(), goType: t.Elem(), byName: map[string]int{}}
	c.fresh[t] = p
	places, err := structPlaces(t.Elem(), info.OneofWrappers)
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrUnsupported, p.name, err)
	}
	fds := md.Fields()
	p.fields = make([]field, fds.Len())
	for i := range fds.Len() {
		fd := fds.Get(i)
		place, ok := places[fd.Number()]
		if !ok {
			return nil, fmt.Errorf("%w: no Go field for %s", ErrUnsupported, fd.FullName())
		}
		f := &p.fields[i]
		f.offset, f.goType, f.wrapper = place.offset, place.goType, place.wrapper
		if err := c.field(f, fd, mt); err != nil {
			return nil, err
		}
		p.byName[f.name] = i
		p.byNumber = append(p.byNumber, i)
	}
	slices.SortFunc(p.byNumber, func(a, b int) int {
		return int(fds.Get(a).Number()) - int(fds.Get(b).Number())
	})
	return p, nil
}

// place is where a field lies in its struct.
type place struct {
	offset  uintptr
	goType  reflect.Type
	wrapper reflect.Type
}

// structPlaces reads the field numbers from the tags that protoc-gen-go leaves
// on the fields of a struct and of its oneof wrappers.
func structPlaces(t reflect.Type, wrappers []any) (map[protoreflect.FieldNumber]place, error) {
	places := map[protoreflect.FieldNumber]place{}
	var oneofs []reflect.StructField
	for sf := range t.Fields() {
		if sf.Tag.Get("protobuf_oneof") != "" {
			oneofs = append(oneofs, sf)
			continue
		}
		tag := sf.Tag.Get("protobuf")
		if parts := strings.Split(tag, ","); len(parts) > 1 {
			n, err := strconv.Atoi(parts[1])
			if err != nil {
				return nil, err
			}
			places[protoreflect.FieldNumber(n)] = place{offset: sf.Offset, goType: sf.Type}
		}
	}
	for _, w := range wrappers {
		wt := reflect.TypeOf(w)
		parts := strings.Split(wt.Elem().Field(0).Tag.Get("protobuf"), ",")
		if len(parts) < 2 {
			return nil, fmt.Errorf("oneof wrapper %v has no tag", wt)
		}
		n, err := strconv.Atoi(parts[1])
		if err != nil {
			return nil, err
		}
		for _, sf := range oneofs {
			if wt.Implements(sf.Type) {
				places[protoreflect.FieldNumber(n)] = place{offset: sf.Offset, goType: sf.Type, wrapper: wt.Elem()}
			}
		}
	}
	return places, nil
}

// field fills f from its descriptor; its place is already set.
func (c *compiler) field(f *field, fd protoreflect.FieldDescriptor, mt protoreflect.MessageType) error {
	f.name = string(fd.Name())
	f.key = append(AppendString([]byte{','}, f.name), ':')
	f.required = fd.Cardinality() == protoreflect.Required
	switch {
	case fd.IsMap():
		f.shape = shapeMap
		f.kind = kindMessage
		return c.mapField(f, fd, mt)
	case f.wrapper != nil:
		f.shape = shapeOneof
	case fd.IsList():
		f.shape = shapeSlice
	case f.goType.Kind() == reflect.Pointer:
		f.shape = shapePtr
	default:
		f.shape = shapeBare
		f.implicit = !fd.HasPresence()
	}
	goType := f.goType
	element := func() protoreflect.MessageType { return mt.New().NewField(fd).Message().Type() }
	switch f.shape {
	case shapeOneof:
		goType = f.wrapper.Field(0).Type
	case shapeSlice:
		goType = f.goType.Elem()
		element = func() protoreflect.MessageType {
			return mt.New().NewField(fd).List().NewElement().Message().Type()
		}
	default:
	}
	if err := c.value(f, fd, goType, element); err != nil {
		return err
	}
	if options, ok := fd.Options().(*descriptorpb.FieldOptions); ok && options.GetDeprecated() {
		return nil
	}
	if fd.HasDefault() {
		f.def = appendDefault(slices.Clone(f.key), fd)
	}
	f.empties = f.shape == shapeSlice && keepsEmpty[mt.Descriptor().FullName()]
	return nil
}

// value sets the kind of f and what belongs to it; goType is the Go type of one
// value, and element makes the type of the message, if it is one.
func (c *compiler) value(f *field, fd protoreflect.FieldDescriptor, goType reflect.Type, element func() protoreflect.MessageType) error {
	switch fd.Kind() {
	case protoreflect.BoolKind:
		f.kind = kindBool
	case protoreflect.Int32Kind, protoreflect.Sint32Kind, protoreflect.Sfixed32Kind:
		f.kind = kindInt32
	case protoreflect.Int64Kind, protoreflect.Sint64Kind, protoreflect.Sfixed64Kind:
		f.kind = kindInt64
	case protoreflect.Uint32Kind, protoreflect.Fixed32Kind:
		f.kind = kindUint32
	case protoreflect.Uint64Kind, protoreflect.Fixed64Kind:
		f.kind = kindUint64
	case protoreflect.FloatKind:
		f.kind = kindFloat
	case protoreflect.DoubleKind:
		f.kind = kindDouble
	case protoreflect.StringKind:
		f.kind = kindString
	case protoreflect.BytesKind:
		f.kind = kindBytes
	case protoreflect.EnumKind:
		f.kind = kindEnum
		f.enum = compileEnum(fd.Enum())
	case protoreflect.MessageKind:
		f.kind = kindMessage
		p, err := c.compile(element(), goType)
		if err != nil {
			return err
		}
		f.msg = p
	default:
		return fmt.Errorf("%w: %s is a %s", ErrUnsupported, fd.FullName(), fd.Kind())
	}
	return nil
}

func (c *compiler) mapField(f *field, fd protoreflect.FieldDescriptor, mt protoreflect.MessageType) error {
	f.mapKey = &field{name: "key"}
	if err := c.value(f.mapKey, fd.MapKey(), f.goType.Key(), nil); err != nil {
		return err
	}
	f.mapVal = &field{name: "value"}
	return c.value(f.mapVal, fd.MapValue(), f.goType.Elem(), func() protoreflect.MessageType {
		return mt.New().NewField(fd).Map().NewValue().Message().Type()
	})
}

func compileEnum(ed protoreflect.EnumDescriptor) *enumPlan {
	e := &enumPlan{byNumber: map[int32][]byte{}, byName: map[string]int32{}}
	values := ed.Values()
	for i := range values.Len() {
		v := values.Get(i)
		n, name := int32(v.Number()), string(v.Name())
		e.byName[name] = n
		if e.byNumber[n] != nil {
			continue // an alias: the first name is written
		}
		e.byNumber[n] = AppendString(nil, name)
		if uint32(n) < uint32(len(e.dense)) {
			e.dense[n] = e.byNumber[n]
		}
	}
	return e
}

// appendDefault appends the explicit default value of fd.
func appendDefault(b []byte, fd protoreflect.FieldDescriptor) []byte {
	v := fd.Default()
	switch fd.Kind() {
	case protoreflect.BoolKind:
		return strconv.AppendBool(b, v.Bool())
	case protoreflect.FloatKind, protoreflect.DoubleKind:
		return AppendFloat(b, v.Float())
	case protoreflect.Uint32Kind, protoreflect.Fixed32Kind, protoreflect.Uint64Kind, protoreflect.Fixed64Kind:
		return strconv.AppendUint(b, v.Uint(), 10)
	case protoreflect.EnumKind:
		return AppendString(b, string(fd.DefaultEnumValue().Name()))
	case protoreflect.StringKind:
		return AppendString(b, v.String())
	case protoreflect.BytesKind:
		b = append(b, '"')
		b = base64.StdEncoding.AppendEncode(b, v.Bytes())
		return append(b, '"')
	default:
		return strconv.AppendInt(b, v.Int(), 10)
	}
}
