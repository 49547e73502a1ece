package core

import (
	"fmt"
	"math"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"pgregory.net/rapid"
)

// TestHostileInputs feeds the core messages that are well-formed on the wire and
// senseless otherwise: real ones, of any sender and age, with members dropped,
// doubled and replaced. It must neither panic nor lose its books.
func TestHostileInputs(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t)
		w.alloc.liars = true
		w.addAgent(t)
		w.addFramework(t)
		var seen []recordedInput
		t.Repeat(map[string]func(*rapid.T){
			"":         func(t *rapid.T) { w.check(t) },
			"accept":   func(t *rapid.T) { w.settle(); w.accept(t) },
			"call":     w.frameworkCall,
			"agent":    w.agentEvent,
			"addAgent": w.addAgent,
			"addFw":    w.addFramework,
			"time":     func(*rapid.T) { w.h.advance(20 * time.Second) },
			"hostile": func(t *rapid.T) {
				if n := len(w.inputs); n > 0 && len(seen) < 500 {
					seen = append(seen, w.inputs[rapid.IntRange(0, n-1).Draw(t, "which")])
				}
				if len(seen) > 0 {
					w.attack(t, seen[rapid.IntRange(0, len(seen)-1).Draw(t, "input")].in)
				}
			},
		})
	})
}

// attack corrupts an input and feeds it.
func (w *world) attack(t *rapid.T, in Input) {
	in = cloneInput(in)
	switch x := in.(type) {
	case Subscribe:
		corrupt(t, x.Call.ProtoReflect(), 0)
		if x.Call.Subscribe == nil {
			return // the front does not let it through
		}
		w.nextStream++
		x.StreamID = fmt.Sprintf("attack-%d", w.nextStream)
		w.h.request++
		x.Request = w.h.request
		in = x
	case Call:
		corrupt(t, x.Call.ProtoReflect(), 0)
		w.h.request++
		x.Request = w.h.request
		in = x
	case AgentMessage:
		corrupt(t, x.Message.ProtoReflect(), 0)
		if x.Message.GetRegister() != nil {
			w.nextLink++
			x.Link = w.nextLink
		} else if a, ok := pick(t, "victim", w.agents, func(a *fakeAgent) bool { return a.link != 0 }); ok {
			x.Link = a.link
		}
		in = x
	case Committed:
		return
	}
	w.h.feed(in)
}

var hostileStrings = []string{"", "t1", "t2", "M-S0", "M-S1", "M-0000", "M-0001", "e0", "default", "eng", "*", "..", "a/b", "\x00", "cpus", "mem", "ports"}

// corrupt changes a message here and there. Required members stay.
func corrupt(t *rapid.T, m protoreflect.Message, depth int) {
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		fd := fields.Get(i)
		if !m.Has(fd) || rapid.IntRange(0, 3).Draw(t, "touch") != 0 {
			continue
		}
		if fd.Cardinality() != protoreflect.Required && fd.ContainingOneof() == nil && rapid.IntRange(0, 4).Draw(t, "drop") == 0 {
			m.Clear(fd)
			continue
		}
		switch {
		case fd.IsMap():
		case fd.IsList():
			l := m.Mutable(fd).List()
			if n := l.Len(); n > 0 && fd.Message() != nil {
				e := l.Get(rapid.IntRange(0, n-1).Draw(t, "element"))
				if rapid.Bool().Draw(t, "double") {
					l.Append(protoreflect.ValueOfMessage(proto.Clone(e.Message().Interface()).ProtoReflect()))
				} else if depth < 8 {
					corrupt(t, e.Message(), depth+1)
				}
			}
		case fd.Message() != nil:
			if depth < 8 {
				corrupt(t, m.Mutable(fd).Message(), depth+1)
			}
		default:
			if v := hostileValue(t, fd); v.IsValid() {
				m.Set(fd, v)
			}
		}
	}
}

func hostileValue(t *rapid.T, fd protoreflect.FieldDescriptor) protoreflect.Value {
	switch fd.Kind() {
	case protoreflect.StringKind:
		return protoreflect.ValueOfString(rapid.SampledFrom(hostileStrings).Draw(t, "string"))
	case protoreflect.BytesKind:
		return protoreflect.ValueOfBytes(make([]byte, rapid.SampledFrom([]int{0, 1, 16, 17}).Draw(t, "bytes")))
	case protoreflect.DoubleKind:
		return protoreflect.ValueOfFloat64(rapid.SampledFrom([]float64{0, -1, 1, 1e9, 1e300, 0.0001, math.NaN(), math.Inf(1), math.Inf(-1)}).Draw(t, "double"))
	case protoreflect.Int64Kind:
		return protoreflect.ValueOfInt64(rapid.SampledFrom([]int64{0, -1, math.MaxInt64, math.MinInt64}).Draw(t, "int64"))
	case protoreflect.Uint64Kind:
		return protoreflect.ValueOfUint64(rapid.SampledFrom([]uint64{0, 1005, math.MaxUint64}).Draw(t, "uint64"))
	case protoreflect.BoolKind:
		return protoreflect.ValueOfBool(rapid.Bool().Draw(t, "bool"))
	case protoreflect.EnumKind:
		values := fd.Enum().Values()
		return protoreflect.ValueOfEnum(values.Get(rapid.IntRange(0, values.Len()-1).Draw(t, "enum")).Number())
	default:
		return protoreflect.Value{}
	}
}
