package mesosjson_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"sort"
	"strconv"
	"testing"
	"unicode/utf8"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"

	"clusterd/api/mesos/v1/agent"
	"clusterd/api/mesos/v1/executor"
	"clusterd/api/mesos/v1/master"
	resourceprovider "clusterd/api/mesos/v1/resource_provider"
	"clusterd/api/mesos/v1/scheduler"
	"clusterd/api/mesosjson"
)

// roots are the messages that travel; all others are below them.
func roots() []proto.Message {
	return []proto.Message{
		&scheduler.Call{}, &scheduler.Event{}, &executor.Call{}, &executor.Event{},
		&master.Call{}, &master.Response{}, &master.Event{},
		&agent.Call{}, &agent.Response{}, &agent.ProcessIO{},
		&resourceprovider.Call{}, &resourceprovider.Event{},
	}
}

// fill sets fields of m at random: required ones always, others with a chance
// that falls with the depth, but always at least one per message at depth 0.
func fill(r *rand.Rand, m protoreflect.Message, depth int) {
	fds := m.Descriptor().Fields()
	for i := range fds.Len() {
		fd := fds.Get(i)
		deep := fd.Message() != nil && !fd.IsMap() || fd.IsMap() && fd.MapValue().Message() != nil
		switch {
		case fd.Cardinality() == protoreflect.Required:
		case deep && (depth > 12 || r.IntN(4+2*depth) != 0):
			continue
		case r.IntN(2) == 0:
			continue
		}
		switch {
		case fd.IsMap():
			for range r.IntN(4) {
				key := randomScalar(r, fd.MapKey()).MapKey()
				if fd.MapValue().Message() != nil {
					v := m.Mutable(fd).Map().NewValue()
					fill(r, v.Message(), depth+1)
					m.Mutable(fd).Map().Set(key, v)
				} else {
					m.Mutable(fd).Map().Set(key, randomScalar(r, fd.MapValue()))
				}
			}
		case fd.IsList():
			for range r.IntN(4) {
				if fd.Message() != nil {
					fill(r, m.Mutable(fd).List().AppendMutable().Message(), depth+1)
				} else {
					m.Mutable(fd).List().Append(randomScalar(r, fd))
				}
			}
		case fd.Message() != nil:
			fill(r, m.Mutable(fd).Message(), depth+1)
		default:
			m.Set(fd, randomScalar(r, fd))
		}
	}
}

func randomScalar(r *rand.Rand, fd protoreflect.FieldDescriptor) protoreflect.Value {
	u := r.Uint64() >> r.IntN(64)
	switch fd.Kind() {
	case protoreflect.BoolKind:
		return protoreflect.ValueOfBool(u&1 == 0)
	case protoreflect.Int32Kind:
		return protoreflect.ValueOfInt32(int32(r.Uint32()) >> r.IntN(32))
	case protoreflect.Int64Kind:
		return protoreflect.ValueOfInt64(int64(r.Uint64()) >> r.IntN(64))
	case protoreflect.Uint32Kind:
		return protoreflect.ValueOfUint32(uint32(u))
	case protoreflect.Uint64Kind:
		return protoreflect.ValueOfUint64(u)
	case protoreflect.FloatKind:
		return protoreflect.ValueOfFloat32(float32(r.NormFloat64()))
	case protoreflect.DoubleKind:
		return protoreflect.ValueOfFloat64(randomFloat(r))
	case protoreflect.StringKind:
		return protoreflect.ValueOfString(randomString(r))
	case protoreflect.BytesKind:
		b := make([]byte, r.IntN(20))
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		return protoreflect.ValueOfBytes(b)
	case protoreflect.EnumKind:
		values := fd.Enum().Values()
		return protoreflect.ValueOfEnum(values.Get(r.IntN(values.Len())).Number())
	default:
		panic(fd.Kind()) // not in the contract
	}
}

func randomFloat(r *rand.Rand) float64 {
	switch r.IntN(8) {
	case 0:
		return float64(r.IntN(100_000))
	case 1:
		return float64(r.IntN(100_000)) / 1000
	case 2:
		return math.Inf(1 - 2*r.IntN(2))
	case 3:
		return math.NaN()
	default:
		for {
			if f := math.Float64frombits(r.Uint64()); !math.IsNaN(f) && !math.IsInf(f, 0) {
				return f
			}
		}
	}
}

func randomString(r *rand.Rand) string {
	var b []byte
	for range r.IntN(24) {
		switch r.IntN(12) {
		case 0:
			b = append(b, byte(r.IntN(0x20)))
		case 1:
			b = append(b, `"\/`[r.IntN(3)])
		case 2:
			b = utf8.AppendRune(b, []rune("äπ漢😀\u2028\u007f\ufffd\u0080")[r.IntN(8)])
		default:
			b = append(b, byte('a'+r.IntN(26)))
		}
	}
	return string(b)
}

// setDefaults does to m what encoding and decoding does: explicit defaults that
// are not deprecated are set.
func setDefaults(m protoreflect.Message) {
	fds := m.Descriptor().Fields()
	for i := range fds.Len() {
		fd := fds.Get(i)
		options := fd.Options().(*descriptorpb.FieldOptions)
		switch {
		case !m.Has(fd):
			if fd.HasDefault() && !options.GetDeprecated() {
				m.Set(fd, fd.Default())
			}
		case fd.IsMap():
			if fd.MapValue().Message() != nil {
				m.Get(fd).Map().Range(func(_ protoreflect.MapKey, v protoreflect.Value) bool {
					setDefaults(v.Message())
					return true
				})
			}
		case fd.Message() == nil:
		case fd.IsList():
			for j := range m.Get(fd).List().Len() {
				setDefaults(m.Get(fd).List().Get(j).Message())
			}
		default:
			setDefaults(m.Mutable(fd).Message())
		}
	}
}

// reference encodes m the slow and obvious way.
func reference(m protoreflect.Message) string {
	members := ""
	fds := m.Descriptor().Fields()
	for i := range fds.Len() {
		fd := fds.Get(i)
		options := fd.Options().(*descriptorpb.FieldOptions)
		value := ""
		switch {
		case fd.IsMap():
			var entries []string
			m.Get(fd).Map().Range(func(k protoreflect.MapKey, v protoreflect.Value) bool {
				entries = append(entries, referenceString(k.String())+":"+referenceValue(fd.MapValue(), v))
				return true
			})
			sort.Strings(entries)
			for _, e := range entries {
				value += "," + e
			}
			if value != "" {
				value = "{" + value[1:] + "}"
			}
		case fd.IsList():
			list := m.Get(fd).List()
			for j := range list.Len() {
				value += "," + referenceValue(fd, list.Get(j))
			}
			switch name := m.Descriptor().FullName(); {
			case value != "":
				value = "[" + value[1:] + "]"
			case options.GetDeprecated():
			case name.Parent() == "mesos.v1.master.Response" || name.Parent() == "mesos.v1.agent.Response":
				switch name.Name() {
				case "GetAgents", "GetExecutors", "GetFrameworks", "GetTasks":
					value = "[]"
				}
			}
		case m.Has(fd), fd.HasDefault() && !options.GetDeprecated():
			value = referenceValue(fd, m.Get(fd))
		}
		if value != "" {
			members += `,"` + string(fd.Name()) + `":` + value
		}
	}
	if members == "" {
		return "{}"
	}
	return "{" + members[1:] + "}"
}

func referenceValue(fd protoreflect.FieldDescriptor, v protoreflect.Value) string {
	switch v := v.Interface().(type) {
	case protoreflect.Message:
		return reference(v)
	case protoreflect.EnumNumber:
		return `"` + string(fd.Enum().Values().ByNumber(v).Name()) + `"`
	case []byte:
		return `"` + base64.StdEncoding.EncodeToString(v) + `"`
	case string:
		return referenceString(v)
	case float64:
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return map[string]string{"NaN": `"NaN"`, "+Inf": `"Infinity"`, "-Inf": `"-Infinity"`}[fmt.Sprint(v)]
		}
		return string(mesosjson.AppendFloat(nil, v)) // has a test of its own
	default:
		return fmt.Sprint(v)
	}
}

func referenceString(s string) string {
	out := `"`
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			out += `\` + string(r)
		case r < 0x20:
			switch r {
			case '\b', '\f', '\n', '\r', '\t':
				out += strconv.QuoteRune(r)[1:3]
			default:
				out += fmt.Sprintf(`\u%04X`, r)
			}
		default:
			out += string(r)
		}
	}
	return out + `"`
}

// TestRandomMessages encodes random messages of all types, compares with the
// reference and decodes again.
func TestRandomMessages(t *testing.T) {
	for _, root := range roots() {
		t.Run(string(root.ProtoReflect().Descriptor().FullName()), func(t *testing.T) {
			for seed := range uint64(150) {
				r := rand.New(rand.NewPCG(seed, 1))
				m := root.ProtoReflect().New()
				fill(r, m, 0)
				text, err := mesosjson.Append([]byte("x"), m.Interface())
				if err != nil {
					t.Fatal(err)
				}
				text = text[1:]
				if want := reference(m); string(text) != want {
					t.Fatalf("seed %d:\ngot  %s\nwant %s", seed, text, want)
				}
				if !json.Valid(text) {
					t.Fatalf("seed %d: not JSON: %s", seed, text)
				}
				back := root.ProtoReflect().New().Interface()
				if err := mesosjson.Unmarshal(text, back); err != nil {
					t.Fatalf("seed %d: %v in %s", seed, err, text)
				}
				setDefaults(m)
				if !proto.Equal(m.Interface(), back) {
					t.Fatalf("seed %d: not equal after the round trip:\n%s", seed, text)
				}
			}
		})
	}
}

// FuzzRoundTrip takes protobuf from the fuzzer through JSON and back.
func FuzzRoundTrip(f *testing.F) {
	for i, root := range roots() {
		r := rand.New(rand.NewPCG(uint64(i), 2))
		m := root.ProtoReflect().New()
		fill(r, m, 0)
		b, err := proto.Marshal(m.Interface())
		if err != nil {
			f.Fatal(err)
		}
		f.Add(byte(i), b)
	}
	f.Fuzz(func(t *testing.T, which byte, b []byte) {
		root := roots()[int(which)%len(roots())]
		m := root.ProtoReflect().New().Interface()
		partial := proto.UnmarshalOptions{AllowPartial: true, DiscardUnknown: true}
		if partial.Unmarshal(b, m) != nil {
			return
		}
		text, err := mesosjson.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		if !json.Valid(text) || !utf8.Valid(text) {
			t.Fatalf("not JSON: %q", text)
		}
		back := root.ProtoReflect().New().Interface()
		err = mesosjson.Unmarshal(text, back)
		if err != nil {
			return // incomplete, has unnamed enum numbers, or nests too deep
		}
		again, err := mesosjson.Marshal(back)
		if err != nil || string(again) != string(text) {
			t.Fatalf("got  %s, %v\nwant %s", again, err, text)
		}
	})
}

// FuzzUnmarshal gives the decoder arbitrary input.
func FuzzUnmarshal(f *testing.F) {
	for i := range roots() {
		for _, seed := range []string{
			`{"type":"SUBSCRIBE","subscribe":{"framework_info":{"user":"u","name":"n","roles":"a","offer_filters":{"a":{"min_allocatable_resources":{"quantities":[{"quantities":{"cpus":{"value":"Infinity"}}}]}}}}}}`,
			`{"type":"UPDATE","update":{"status":{"uuid":"AA==","state":"TASK_LOST","healthy":"true","timestamp":1e3}}}`,
			`{"a":[{"b":null},-1.5e-3,"\ud83d\ude00"],"type":null}`,
			"{\"x\":\xff\"\\u00", `{"length":"18446744073709551615"}`, `[]`, ``, `{} x`,
		} {
			f.Add(byte(i), []byte(seed))
		}
	}
	f.Fuzz(func(t *testing.T, which byte, in []byte) {
		m := roots()[int(which)%len(roots())]
		err := mesosjson.Unmarshal(in, m)
		if _, syntax := err.(*mesosjson.SyntaxError); !syntax && !json.Valid(in) { //nolint:errorlint // documented
			t.Fatalf("got %v for something that is not JSON", err)
		}
		if err != nil {
			if !utf8.ValidString(err.Error()) {
				t.Fatalf("error is not UTF-8: %q", err)
			}
			return
		}
		first, err := mesosjson.Marshal(m)
		if err != nil || !json.Valid(first) {
			t.Fatalf("got %s, %v", first, err)
		}
		if err := mesosjson.Unmarshal(first, m); err != nil {
			t.Fatalf("%v in own output %s", err, first)
		}
		if second, _ := mesosjson.Marshal(m); string(second) != string(first) {
			t.Fatalf("got  %s\nwant %s", second, first)
		}
	})
}
