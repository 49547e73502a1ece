package operate

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	mesos "clusterd/api/mesos/v1"
	"clusterd/api/mesosjson"
	"clusterd/internal/cli/console"
)

// rawJSON keeps an answer as it came, for -o json.
type rawJSON struct{ text json.RawMessage }

// UnmarshalJSON implements json.Unmarshaler.
func (r *rawJSON) UnmarshalJSON(b []byte) error {
	r.text = append(r.text[:0], b...)
	return nil
}

// into decodes it.
func (r *rawJSON) into(v any) error {
	if err := json.Unmarshal(r.text, v); err != nil {
		return fmt.Errorf("the answer is not that of a clusterd master: %w", err)
	}
	return nil
}

// value is what is printed as JSON or YAML.
func (r *rawJSON) value() json.RawMessage { return r.text }

// amounts writes quantities as --resources does.
func amounts(m map[string]float64) string {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(m)) {
		parts = append(parts, name+":"+console.Number(m[name]))
	}
	return strings.Join(parts, ";")
}

// protoAmounts is amounts of the API's quantities.
func protoAmounts(m map[string]*mesos.Value_Scalar) string {
	plain := map[string]float64{}
	for name, v := range m {
		plain[name] = v.GetValue()
	}
	return amounts(plain)
}

// object is a JSON object with a message of the API as one of its members.
func object(fields map[string]any, name string, m proto.Message) (map[string]any, error) {
	b, err := mesosjson.Marshal(m)
	if err != nil {
		return nil, err
	}
	fields[name] = json.RawMessage(b)
	return fields, nil
}
