package mesosjson_test

import (
	"errors"
	"math"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"
	"google.golang.org/protobuf/types/known/durationpb"

	mesos "clusterd/api/mesos/v1"
	"clusterd/api/mesos/v1/agent"
	"clusterd/api/mesos/v1/executor"
	"clusterd/api/mesos/v1/master"
	"clusterd/api/mesos/v1/scheduler"
	"clusterd/api/mesosjson"
)

func TestMarshal(t *testing.T) {
	tests := []struct {
		name string
		m    proto.Message
		want string
	}{
		{
			"defaults are written, deprecated ones are not", &mesos.FrameworkInfo{User: new("u"), Name: new("n")},
			`{"user":"u","name":"n","failover_timeout":0.0,"checkpoint":false}`,
		},
		{
			"a deprecated field that is set", &mesos.FrameworkInfo{Role: new("*")},
			`{"failover_timeout":0.0,"checkpoint":false,"role":"*"}`,
		},
		{
			"order of declaration", &mesos.CommandInfo{Value: new("v"), Shell: new(false), Arguments: []string{"a"}},
			`{"shell":false,"value":"v","arguments":["a"]}`,
		},
		{"empty", &scheduler.Event{}, `{}`},
		{"empty message inside", &scheduler.Event{Offers: &scheduler.Event_Offers{}}, `{"offers":{}}`},
		{"nil pointer", (*scheduler.Event)(nil), `{}`},
		{"nil element", &scheduler.Event_Offers{Offers: []*mesos.Offer{nil}}, `{"offers":[{}]}`},
		{"empty repeated", &mesos.Value_Set{Item: []string{}}, `{}`},
		{"int64 as number", &mesos.TimeInfo{Nanoseconds: new(int64(math.MinInt64))}, `{"nanoseconds":-9223372036854775808}`},
		{
			"uint64 as number", &mesos.Value_Range{Begin: new(uint64(0)), End: new(uint64(math.MaxUint64))},
			`{"begin":0,"end":18446744073709551615}`,
		},
		{"bytes", &mesos.TaskStatus{Uuid: []byte{0xff, 0xfe}, Data: []byte{}}, `{"data":"","uuid":"//4="}`},
		{"enum without a name", &mesos.TaskStatus{State: mesos.TaskState(9999).Enum(), Healthy: new(true)}, `{"healthy":true}`},
		{
			"enum without a name, with default",
			&mesos.HealthCheck_TCPCheckInfo{Protocol: mesos.NetworkInfo_Protocol(77).Enum(), Port: new(uint32(1))},
			`{"protocol":"IPv4","port":1}`,
		},
		{"enums without a name only", &mesos.CapabilityInfo{Capabilities: []mesos.CapabilityInfo_Capability{5}}, `{}`},
		{
			"enums", &mesos.CapabilityInfo{Capabilities: []mesos.CapabilityInfo_Capability{0, 5, 1000, 1040}},
			`{"capabilities":["UNKNOWN","CHOWN","CHECKPOINT_RESTORE"]}`,
		},
		{"map", &mesos.Task{Limits: map[string]*mesos.Value_Scalar{
			"mem": {Value: new(math.Inf(1))}, "cpus": {Value: new(1.5)}, "nil": nil,
		}}, `{"limits":{"cpus":{"value":1.5},"mem":{"value":"Infinity"},"nil":{}}}`},
		{"oneof", &scheduler.AttributeConstraint_Selector{
			Selector: &scheduler.AttributeConstraint_Selector_AttributeName{AttributeName: "rack"},
		}, `{"attribute_name":"rack"}`},
		{"oneof enum", &scheduler.AttributeConstraint_Selector{
			Selector: &scheduler.AttributeConstraint_Selector_PseudoattributeType_{PseudoattributeType: 1},
		}, `{"pseudoattribute_type":"HOSTNAME"}`},
		{
			"duration", &master.Call_DrainAgent{AgentId: &mesos.AgentID{Value: new("a")}, MaxGracePeriod: durationpb.New(600e9)},
			`{"agent_id":{"value":"a"},"max_grace_period":{"seconds":600},"mark_gone":false}`,
		},
		{"duration of zero", &durationpb.Duration{}, `{}`},
		{
			"recursion", &mesos.ContainerID{Value: new("c"), Parent: &mesos.ContainerID{Value: new("p")}},
			`{"value":"c","parent":{"value":"p"}}`,
		},
		{
			"hand-written answers keep empty lists", &agent.Response{GetTasks: &agent.Response_GetTasks{}},
			`{"get_tasks":{"pending_tasks":[],"queued_tasks":[],"launched_tasks":[],"terminated_tasks":[],"completed_tasks":[]}}`,
		},
		{
			"but not deprecated ones", &master.Response{GetTasks: &master.Response_GetTasks{}},
			`{"get_tasks":{"tasks":[],"unreachable_tasks":[],"completed_tasks":[]}}`,
		},
		{
			"escapes", &mesos.TaskID{Value: new("a\"b\\c/d\x00\b\f\n\r\t\x1f\x7f\u2028😀 long enough for eight at a time")},
			`{"value":"a\"b\\c/d\u0000\b\f\n\r\t\u001F` + "\x7f\u2028" + `😀 long enough for eight at a time"}`,
		},
		{
			"invalid UTF-8", &mesos.TaskID{Value: new("abcdefgh\xff\xc3ijklmnop\xed\xa0\x80")},
			`{"value":"abcdefgh` + "\uFFFD\uFFFDijklmnop\uFFFD\uFFFD\uFFFD" + `"}`,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := mesosjson.Marshal(tt.m)
			if err != nil || string(got) != tt.want {
				t.Errorf("got  %s, %v\nwant %s", got, err, tt.want)
			}
		})
	}
}

// TestAppendFloat compares with what rapidjson's Prettify makes of the shortest
// digits.
func TestAppendFloat(t *testing.T) {
	for want, f := range map[string]float64{
		"0.0": 0, "-0.0": math.Copysign(0, -1), "1.0": 1, "-1.0": -1, "0.1": 0.1, "3.3": 3.3, "1795359925.026412": 1795359925.026412,
		"1e21": 1e21, "1e22": 1e22, "100000000000000000000.0": 1e20, "123456789012345680000.0": 123456789012345680000,
		"999999999999999.0": 999999999999999, "1000000000000000.0": 1e15, "9007199254740993000.0": 9007199254740993000,
		"0.000001": 1e-6, "1e-7": 1e-7, "1.5e-7": 1.5e-7, "5e-324": 5e-324, "1.7976931348623157e308": math.MaxFloat64,
		"-1.234e25": -1.234e25, `"NaN"`: math.NaN(), `"Infinity"`: math.Inf(1), `"-Infinity"`: math.Inf(-1),
	} {
		if got := string(mesosjson.AppendFloat(nil, f)); got != want {
			t.Errorf("AppendFloat(%v): got %s, want %s", f, got, want)
		}
	}
}

func TestUnmarshal(t *testing.T) {
	scalar := func(f float64) *mesos.Value_Scalar { return &mesos.Value_Scalar{Value: &f} }
	tests := []struct {
		name string
		in   string
		want proto.Message
	}{
		{"white space", " \t\r\n{ \"value\"\n:\t\"x\" } \n", &mesos.TaskID{Value: new("x")}},
		{"unknown members", `{"a":1,"value":"x","b":{"c":[true,false,null,-1.5e+3,"\u0041",{}]},"d":[]}`, &mesos.TaskID{Value: new("x")}},
		{"escaped name", `{"val\u0075e":"x"}`, &mesos.TaskID{Value: new("x")}},
		{"escapes", `{"value":"\"\\\/\b\f\n\r\t\u00e4\ud83d\ude00"}`, &mesos.TaskID{Value: new("\"\\/\b\f\n\r\tä😀")}},
		{"raw invalid UTF-8 stays", "{\"value\":\"\xff\"}", &mesos.TaskID{Value: new("\xff")}},
		{"null is unset", `{"value":"x","parent":null}`, &mesos.ContainerID{Value: new("x")}},
		{"null in a list", `{"item":[null,"a",null]}`, &mesos.Value_Set{Item: []string{"a"}}},
		{"null list", `{"item":null}`, &mesos.Value_Set{}},
		{"number as string", `{"begin":"1","end":" 18446744073709551615 "}`, &mesos.Value_Range{Begin: new(uint64(1)), End: new(uint64(math.MaxUint64))}},
		{"double as string", `{"value":"1e3"}`, scalar(1000)},
		{"integer as double", `{"value":12345678901234567890}`, scalar(12345678901234567890)},
		{"infinity", `{"value":"Infinity"}`, scalar(math.Inf(1))},
		{"minus infinity", `{"value":"-Infinity"}`, scalar(math.Inf(-1))},
		{"nan", `{"value":"NaN"}`, scalar(math.NaN())},
		{"double for an integer", `{"nanoseconds":3.0}`, &mesos.TimeInfo{Nanoseconds: new(int64(3))}},
		{"exponent for an integer", `{"nanoseconds":-2e9}`, &mesos.TimeInfo{Nanoseconds: new(int64(-2e9))}},
		{"fraction for an integer", `{"nanoseconds":-1.9}`, &mesos.TimeInfo{Nanoseconds: new(int64(-1))}},
		{"smallest int64", `{"nanoseconds":-9223372036854775808}`, &mesos.TimeInfo{Nanoseconds: new(int64(math.MinInt64))}},
		{"bools as strings", `{"shell":"false"}`, &mesos.CommandInfo{Shell: new(false)}},
		{"lone string for a list", `{"item":"a"}`, &mesos.Value_Set{Item: []string{"a"}}},
		{
			"lone object for a list", `{"range":{"begin":1,"end":2}}`,
			&mesos.Value_Ranges{Range: []*mesos.Value_Range{{Begin: new(uint64(1)), End: new(uint64(2))}}},
		},
		{"lists in a list", `{"item":[["a",["b"]],[],"c"]}`, &mesos.Value_Set{Item: []string{"a", "b", "c"}}},
		{
			"lone number for a list", `{"port":8080,"statuses":200}`,
			&mesos.HealthCheck_HTTPCheckInfo{Port: new(uint32(8080)), Statuses: []uint32{200}},
		},
		{"unknown enum name of an optional field", `{"type":"NO_SUCH"}`, &scheduler.Event{}},
		{
			"unknown enum name in a list", `{"capabilities":["KILL","NO_SUCH","CHOWN"]}`,
			&mesos.CapabilityInfo{Capabilities: []mesos.CapabilityInfo_Capability{1005, 1000}},
		},
		{"last of two members", `{"value":"a","value":"b"}`, &mesos.TaskID{Value: new("b")}},
		{"last of two lists", `{"item":["a","b"],"item":["c"]}`, &mesos.Value_Set{Item: []string{"c"}}},
		{"last of two, being null", `{"type":"ERROR","error":{"message":"x"},"error":null}`, &scheduler.Event{Type: scheduler.Event_ERROR.Enum()}},
		{
			"last of two messages, no merge", `{"value":"c","parent":{"value":"p","parent":{"value":"g"}},"parent":{"value":"q"}}`,
			&mesos.ContainerID{Value: new("c"), Parent: &mesos.ContainerID{Value: new("q")}},
		},
		{
			"any order", `{"arguments":["a"],"value":"v","shell":true,"user":"u"}`,
			&mesos.CommandInfo{Shell: new(true), Value: new("v"), Arguments: []string{"a"}, User: new("u")},
		},
		{
			"map", `{"quantities":{"cpus":{"value":1},"mem":{"value":"Infinity"},"cpus":{"value":2}}}`,
			&mesos.OfferFilters_ResourceQuantities{Quantities: map[string]*mesos.Value_Scalar{"cpus": scalar(2), "mem": scalar(math.Inf(1))}},
		},
		{
			"map as a list of objects", `{"quantities":[{"cpus":{"value":1}},{"mem":{"value":2}}]}`,
			&mesos.OfferFilters_ResourceQuantities{Quantities: map[string]*mesos.Value_Scalar{"cpus": scalar(1), "mem": scalar(2)}},
		},
		{
			"last of two maps", `{"quantities":{"cpus":{"value":1}},"quantities":{"mem":{"value":2}}}`,
			&mesos.OfferFilters_ResourceQuantities{Quantities: map[string]*mesos.Value_Scalar{"mem": scalar(2)}},
		},
		{
			"oneof, last in the input stands", `{"attribute_name":"a","pseudoattribute_type":"ZONE"}`,
			&scheduler.AttributeConstraint_Selector{Selector: &scheduler.AttributeConstraint_Selector_PseudoattributeType_{
				PseudoattributeType: scheduler.AttributeConstraint_Selector_ZONE,
			}},
		},
		{
			"oneof, null does not count", `{"attribute_name":"a","pseudoattribute_type":null}`,
			&scheduler.AttributeConstraint_Selector{Selector: &scheduler.AttributeConstraint_Selector_AttributeName{AttributeName: "a"}},
		},
		{
			"duration", `{"agent_id":{"value":"a"},"max_grace_period":{"seconds":600,"nanos":5}}`,
			&master.Call_DrainAgent{AgentId: &mesos.AgentID{Value: new("a")}, MaxGracePeriod: &durationpb.Duration{Seconds: 600, Nanos: 5}},
		},
		{"base64 without padding", `{"data":"//4"}`, &scheduler.Event_Message{Data: []byte{0xff, 0xfe}}},
		{"base64 of the URL alphabet, with white space", `{"data":" _-\n8A\n"}`, &scheduler.Event_Message{Data: []byte{0xff, 0xef, 0x00}}},
		{"base64, empty", `{"data":""}`, &scheduler.Event_Message{Data: []byte{}}},
		{"base64, what follows the padding is not read", `{"data":"AA==!!"}`, &scheduler.Event_Message{Data: []byte{0}}},
		{"deepest", strings.Repeat(`{"x":`, mesosjson.MaxDepth-1) + `{}` + strings.Repeat(`}`, mesosjson.MaxDepth-1), &scheduler.Event{}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := tt.want.ProtoReflect().New().Interface()
			err := mesosjson.Unmarshal([]byte(tt.in), got)
			if missing, ok := errors.AsType[*mesosjson.MissingError](err); ok && len(missing.Fields) > 0 && proto.CheckInitialized(tt.want) != nil {
				err = nil // the expected message is incomplete as well
			}
			if err != nil {
				t.Fatal(err)
			}
			if !proto.Equal(tt.want, got) {
				t.Errorf("-want +got:\n%s", cmp.Diff(tt.want, got, protocmp.Transform()))
			}
		})
	}
}

func TestUnmarshalResets(t *testing.T) {
	m := &mesos.ContainerID{Value: new("old"), Parent: &mesos.ContainerID{Value: new("old")}}
	if err := mesosjson.Unmarshal([]byte(`{"value":"new"}`), m); err != nil {
		t.Fatal(err)
	}
	if m.GetValue() != "new" || m.GetParent() != nil {
		t.Errorf("got %v", m)
	}
}

func TestUnmarshalErrors(t *testing.T) {
	var (
		syntax     = func(err error) bool { _, ok := errors.AsType[*mesosjson.SyntaxError](err); return ok }
		conversion = func(err error) bool { _, ok := errors.AsType[*mesosjson.ConversionError](err); return ok }
		missing    = func(err error) bool { _, ok := errors.AsType[*mesosjson.MissingError](err); return ok }
	)
	tests := []struct {
		name string
		in   string
		m    proto.Message
		kind func(error) bool
		want string
	}{
		{"empty", ``, &scheduler.Call{}, syntax, `syntax error at line 1 near: `},
		{"white space only", " \n ", &scheduler.Call{}, syntax, `syntax error at line 2 near: `},
		{"not JSON", `hello`, &scheduler.Call{}, syntax, `syntax error at line 1 near: hello`},
		{"cut", `{"type":`, &scheduler.Call{}, syntax, `syntax error at line 1 near: `},
		{"cut name", `{"ty`, &scheduler.Call{}, syntax, `syntax error at line 1 near: `},
		{"second line", "{\n\"type\" x}\nz", &scheduler.Call{}, syntax, `syntax error at line 2 near: x}`},
		{"trailing comma", `{"item":["a",]}`, &mesos.Value_Set{}, syntax, `syntax error at line 1 near: ]}`},
		{"trailing comma in object", `{"item":"a",}`, &mesos.Value_Set{}, syntax, `syntax error at line 1 near: }`},
		{"no comma", `{"item":["a" "b"]}`, &mesos.Value_Set{}, syntax, `syntax error at line 1 near: "b"]}`},
		{"literal", `{"item":nul}`, &mesos.Value_Set{}, syntax, `syntax error at line 1 near: }`},
		{"control character", "{\"item\":\"a\x01b\"}", &mesos.Value_Set{}, syntax, `syntax error at line 1 near: b"}`},
		{"lone surrogate", `{"item":"\ud800"}`, &mesos.Value_Set{}, syntax, `syntax error at line 1 near: "}`},
		{"low surrogate", `{"item":"\udc00"}`, &mesos.Value_Set{}, syntax, `syntax error at line 1 near: "}`},
		{"bad escape", `{"item":"\x"}`, &mesos.Value_Set{}, syntax, `syntax error at line 1 near: "}`},
		{"bad hex", `{"item":"\u00g0"}`, &mesos.Value_Set{}, syntax, `syntax error at line 1 near: g0"}`},
		{"leading zero", `{"value":01}`, &mesos.Value_Scalar{}, syntax, `syntax error at line 1 near: }`},
		{"no digits", `{"value":-}`, &mesos.Value_Scalar{}, syntax, `syntax error at line 1 near: }`},
		{"no fraction", `{"value":1.}`, &mesos.Value_Scalar{}, syntax, `syntax error at line 1 near: }`},
		{"plus", `{"value":+1}`, &mesos.Value_Scalar{}, syntax, `syntax error at line 1 near: +1}`},
		{"bare infinity", `{"value":Infinity}`, &mesos.Value_Scalar{}, syntax, `syntax error at line 1 near: Infinity}`},
		{"number too large", `{"value":1e999}`, &mesos.Value_Scalar{}, syntax, `Value out of range`},
		{"trailing", `{} x`, &scheduler.Call{}, syntax, `Parsed JSON included non-whitespace trailing characters: x`},
		{"too deep", strings.Repeat(`[`, 201), &scheduler.Call{}, syntax, `syntax error at line 1 near: `},
		{
			"too deep in an ignored member", `{"x":` + strings.Repeat(`[`, 200) + strings.Repeat(`]`, 200) + `}`, &scheduler.Call{}, syntax,
			`syntax error at line 1 near: ` + strings.Repeat("]", 128),
		},
		{"too deep in a message", strings.Repeat(`{"parent":`, 201), &mesos.ContainerID{}, syntax, `syntax error at line 1 near: "parent":`},

		{"a string", `"x"`, &scheduler.Call{}, conversion, `Expecting a JSON object`},
		{"a list", `[]`, &scheduler.Call{}, conversion, `Expecting a JSON object`},
		{"null", `null`, &scheduler.Call{}, conversion, `Expecting a JSON object`},
		{"number for string", `{"value":1}`, &mesos.TaskID{}, conversion, `Not expecting a JSON number for field 'value'`},
		{"bool for string", `{"value":true}`, &mesos.TaskID{}, conversion, `Not expecting a JSON boolean for field 'value'`},
		{"object for string", `{"value":{}}`, &mesos.TaskID{}, conversion, `Not expecting a JSON object for field 'value'`},
		{"array for string", `{"value":[]}`, &mesos.TaskID{}, conversion, `Not expecting a JSON array for field 'value'`},
		{"string for message", `{"subscribe":"x"}`, &scheduler.Call{}, conversion, `Not expecting a JSON string for field 'subscribe'`},
		{"array for message", `{"subscribe":[]}`, &scheduler.Call{}, conversion, `Not expecting a JSON array for field 'subscribe'`},
		{"number for enum", `{"type":1}`, &scheduler.Call{}, conversion, `Not expecting a JSON number for field 'type'`},
		{"number for bool", `{"shell":1}`, &mesos.CommandInfo{}, conversion, `Not expecting a JSON number for field 'shell'`},
		{"number for map", `{"quantities":1}`, &mesos.OfferFilters_ResourceQuantities{}, conversion, `Not expecting a JSON number for field 'quantities'`},
		{"unknown name of a required enum", `{"name":"a","type":"NO_SUCH"}`, &mesos.Resource{}, conversion, `Failed to find enum for 'NO_SUCH'`},
		{
			"text for number", `{"value":"abc"}`, &mesos.Value_Scalar{}, conversion,
			`Failed to parse 'abc' as a JSON number for field 'value': syntax error at line 1 near: abc`,
		},
		{
			"bool in a string for number", `{"value":"true"}`, &mesos.Value_Scalar{}, conversion,
			`Failed to parse 'true' as a JSON number for field 'value': Unexpected JSON type parsed`,
		},
		{
			"text for bool", `{"shell":"yes"}`, &mesos.CommandInfo{}, conversion,
			`Failed to parse 'yes' as a JSON boolean for field 'shell': syntax error at line 1 near: yes`,
		},
		{"base64", `{"data":"a?b"}`, &scheduler.Event_Message{}, conversion, `Failed to base64 decode bytes field 'data': Invalid character '?'`},
		{"out of range", `{"port":4294967296}`, &mesos.CheckInfo_Tcp{}, conversion, `Number 4.294967296e+09 is out of range for field 'port'`},
		{"negative for unsigned", `{"port":-1}`, &mesos.CheckInfo_Tcp{}, conversion, `Number -1 is out of range for field 'port'`},
		{"int32 out of range", `{"port":2147483648}`, &mesos.Address{}, conversion, `Number 2.147483648e+09 is out of range for field 'port'`},
		{"int64 out of range", `{"nanoseconds":9223372036854775808}`, &mesos.TimeInfo{}, conversion, `Number 9.223372036854776e+18 is out of range for field 'nanoseconds'`},
		{
			"infinity for integer", `{"nanoseconds":"Infinity"}`, &mesos.TimeInfo{}, conversion,
			`Failed to parse 'Infinity' as a JSON number for field 'nanoseconds': syntax error at line 1 near: Infinity`,
		},
		{"syntax errors come before others", `{"value":1,"x":[}`, &mesos.TaskID{}, syntax, `syntax error at line 1 near: }`},

		{"missing", `{}`, &mesos.TaskID{}, missing, `Missing required fields: value`},
		{"missing, being null", `{"value":null}`, &mesos.TaskID{}, missing, `Missing required fields: value`},
		{"missing, in order", `{}`, &executor.Call{}, missing, `Missing required fields: executor_id, framework_id`},
		{
			"missing below", `{"type":"SUBSCRIBE","subscribe":{"framework_info":{"name":"n"}}}`, &scheduler.Call{}, missing,
			`Missing required fields: subscribe.framework_info.user`,
		},
		{
			"missing in a list", `{"range":[{"begin":1,"end":2},{"begin":1},{}]}`, &mesos.Value_Ranges{}, missing,
			`Missing required fields: range[1].end, range[2].begin, range[2].end`,
		},
		{
			"missing in a map", `{"quantities":{"b":{"value":1},"c":{},"a":null}}`, &mesos.OfferFilters_ResourceQuantities{}, missing,
			`Missing required fields: quantities[0].value.value, quantities[2].value.value`,
		},
		{
			"missing here before missing below, that by number", `{"executor":{},"resources":{}}`, &mesos.TaskInfo{}, missing,
			`Missing required fields: name, task_id, agent_id, resources[0].name, resources[0].type, executor.executor_id`,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := mesosjson.Unmarshal([]byte(tt.in), tt.m)
			if err == nil || err.Error() != tt.want || !tt.kind(err) {
				t.Errorf("got  %T %v\nwant %s", err, err, tt.want)
			}
		})
	}
}

func TestSyntaxErrorPlace(t *testing.T) {
	err := mesosjson.Unmarshal([]byte("{\n \"type\": ?}"), &scheduler.Call{})
	e, ok := errors.AsType[*mesosjson.SyntaxError](err)
	if !ok || e.Offset != 11 || e.Line != 2 {
		t.Errorf("got %#v, want offset 11 in line 2", err)
	}
}

func TestUnmarshalList(t *testing.T) {
	list, err := mesosjson.UnmarshalList[mesos.TaskID]([]byte(` [ {"value":"a"}, {"value":"b"} ] `))
	if err != nil || len(list) != 2 || list[0].GetValue() != "a" || list[1].GetValue() != "b" {
		t.Errorf("got %v, %v", list, err)
	}
	if list, err := mesosjson.UnmarshalList[mesos.TaskID]([]byte(`[]`)); err != nil || len(list) != 0 {
		t.Errorf("empty: got %v, %v", list, err)
	}
	for in, want := range map[string]string{
		`{}`:               `Expecting a JSON array`,
		`[1]`:              `Expecting a JSON object`,
		`[{}]`:             `Missing required fields: value`,
		`[{"value":"a"}`:   `syntax error at line 1 near: `,
		`[{"value":"a"}]]`: `Parsed JSON included non-whitespace trailing characters: ]`,
	} {
		if list, err := mesosjson.UnmarshalList[mesos.TaskID]([]byte(in)); err == nil || err.Error() != want {
			t.Errorf("%s: got %v, %v, want %s", in, list, err, want)
		}
	}
}

func TestUnsupported(t *testing.T) {
	md := protodesc.ToDescriptorProto((&mesos.TaskID{}).ProtoReflect().Descriptor())
	file, err := protodesc.NewFile(&descriptorpb.FileDescriptorProto{
		Name: new("x.proto"), MessageType: []*descriptorpb.DescriptorProto{md},
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	dynamic := dynamicpb.NewMessage(file.Messages().Get(0))
	for name, m := range map[string]proto.Message{"nil": nil, "dynamic": dynamic} {
		if got, err := mesosjson.Append([]byte("x"), m); !errors.Is(err, mesosjson.ErrUnsupported) || string(got) != "x" {
			t.Errorf("%s: Append: got %q, %v", name, got, err)
		}
		if err := mesosjson.Unmarshal([]byte(`{}`), m); !errors.Is(err, mesosjson.ErrUnsupported) {
			t.Errorf("%s: Unmarshal: got %v", name, err)
		}
	}
	if err := mesosjson.Unmarshal([]byte(`{}`), (*mesos.TaskID)(nil)); !errors.Is(err, mesosjson.ErrUnsupported) {
		t.Errorf("nil pointer: got %v", err)
	}
}

// TestConcurrentFirstUse lets many goroutines meet types that no other test of
// this package uses first; the race detector watches the cache.
func TestConcurrentFirstUse(t *testing.T) {
	var wg sync.WaitGroup
	for range 8 {
		for _, m := range roots() {
			wg.Go(func() {
				if _, err := mesosjson.Marshal(m); err != nil {
					t.Error(err)
				}
			})
		}
	}
	wg.Wait()
}
