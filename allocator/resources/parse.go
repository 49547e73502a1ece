package resources

import (
	"math"
	"slices"
	"strconv"
	"strings"

	mesos "clusterd/api/mesos/v1"
	"clusterd/api/mesosjson"
)

// Parse reads resources as they are given to an agent's --resources: text such
// as "cpus:4;mem:1024;ports(role):[31000-32000];bugs:{a,b}", or a JSON array of
// Resource. What names no role gets defaultRole. Repeated names are summed up;
// persistent volumes, revocable resources, dynamic reservations and one name with
// two types are refused (Resources::parse in src/common/resources.cpp).
func Parse(text, defaultRole string) (Resources, error) {
	rs, err := parseAll(text, defaultRole)
	if err != nil {
		return Resources{}, err
	}
	var b builder
	for _, r := range rs {
		if err := Validate(r); err != nil {
			return Resources{}, err
		}
		b.add(toItem(r))
	}
	r := b.done()
	return r, validateFlag(r)
}

// MustParse is Parse with the default role "*" for text that is known to be
// valid; it panics if it is not.
func MustParse(text string) Resources {
	r, err := Parse(text, "*")
	if err != nil {
		panic("resources: " + err.Error())
	}
	return r
}

// Mentioned returns the names in text of --resources, sorted, those included
// that are empty, such as "cpus:0". An agent detects what is not mentioned.
func Mentioned(text string) ([]string, error) {
	rs, err := parseAll(text, "*")
	if err != nil {
		return nil, err
	}
	names := make([]string, 0, len(rs))
	for _, r := range rs {
		names = append(names, r.GetName())
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

func parseAll(text, defaultRole string) ([]*mesos.Resource, error) {
	if strings.HasPrefix(strings.TrimSpace(text), "[") {
		return parseJSON(text, defaultRole)
	}
	var out []*mesos.Resource
	for _, token := range tokenize(text, ";") {
		if strings.TrimSpace(token) == "" {
			continue
		}
		r, err := parseOne(token, defaultRole)
		if err != nil {
			return nil, err
		}
		out = append(out, r)
	}
	return out, nil
}

func parseJSON(text, defaultRole string) ([]*mesos.Resource, error) {
	rs, err := mesosjson.UnmarshalList[mesos.Resource]([]byte(text))
	if err != nil {
		return nil, invalidf("Some JSON resources were not formatted properly: %s", err)
	}
	for _, r := range rs {
		if r.Role == nil && len(r.Reservations) == 0 {
			r.Role = new(defaultRole)
		}
	}
	return rs, nil
}

// parseOne reads "name(role):value".
func parseOne(token, defaultRole string) (*mesos.Resource, error) {
	pair := tokenize(token, ":")
	if len(pair) != 2 {
		return nil, invalidf("Bad value for resources, missing or extra ':' in %s", token)
	}
	name, role := strings.TrimSpace(pair[0]), defaultRole
	if before, after, found := strings.Cut(pair[0], "("); found {
		inner, _, found := strings.Cut(after, ")")
		if !found || strings.Contains(before, ")") {
			return nil, invalidf("Bad value for resources, mismatched parentheses in %s", token)
		}
		name, role = strings.TrimSpace(before), strings.TrimSpace(inner)
	}
	v, err := parseValue(pair[1])
	if err != nil {
		return nil, invalidf("Failed to parse resource %s value %s error %s", name, pair[1], err)
	}
	r := &mesos.Resource{Name: &name, Type: v.typ.Enum()}
	switch v.typ {
	case mesos.Value_SCALAR:
		r.Scalar = &mesos.Value_Scalar{Value: &v.scalar}
	case mesos.Value_RANGES:
		r.Ranges = &mesos.Value_Ranges{}
		for _, e := range v.ranges {
			r.Ranges.Range = append(r.Ranges.Range, &mesos.Value_Range{Begin: &e.Begin, End: &e.End})
		}
	case mesos.Value_SET:
		r.Set = &mesos.Value_Set{Item: v.set}
	default:
		return nil, invalidf("Bad type for resource %s value %s type %s", name, pair[1], v.typ)
	}
	if role != "*" {
		r.Reservations = []*mesos.Resource_ReservationInfo{Reservation{Role: role}.Proto()}
	}
	return r, nil
}

// parsed is the value of one resource in text.
type parsed struct {
	typ    mesos.Value_Type
	scalar float64
	ranges []Range
	set    []string
}

// parseValue tells ranges, sets, scalars and text apart
// (values::parse in src/common/values.cpp).
func parseValue(text string) (parsed, error) {
	text = strings.ReplaceAll(strings.TrimSpace(text), " ", "")
	if text == "" {
		return parsed{}, invalidf("Expecting non-empty string")
	}
	if !balanced(text, '{', '}') || !balanced(text, '[', ']') || !balanced(text, '(', ')') {
		return parsed{}, invalidf("Mismatched brackets")
	}
	switch i, j := strings.IndexByte(text, '['), strings.IndexByte(text, '{'); {
	case i == 0:
		rs, err := parseRanges(text)
		return parsed{typ: mesos.Value_RANGES, ranges: rs}, err
	case i > 0:
		return parsed{}, invalidf("Unexpected '[' found")
	case j == 0:
		return parsed{typ: mesos.Value_SET, set: tokenize(text, "{},\n")}, nil
	case j > 0:
		return parsed{}, invalidf("Unexpected '{' found")
	}
	v, err := strconv.ParseFloat(text, 64)
	if err == nil && v != 0 && math.Abs(v) < 0x1p-1022 {
		return parsed{}, invalidf("Subnormal values not supported")
	}
	if number := err == nil && !math.IsNaN(v) && !math.IsInf(v, 0) && v >= 0; !number {
		return parsed{typ: mesos.Value_TEXT}, nil
	}
	return parsed{typ: mesos.Value_SCALAR, scalar: v}, nil
}

func parseRanges(text string) ([]Range, error) {
	tokens := tokenize(text, "[]-,\n")
	if len(tokens)%2 != 0 {
		return nil, invalidf("Expecting one or more \"ranges\"")
	}
	var rs []Range
	for i := 0; i < len(tokens); i += 2 {
		begin, err1 := strconv.ParseUint(tokens[i], 10, 64)
		end, err2 := strconv.ParseUint(tokens[i+1], 10, 64)
		if err1 != nil || err2 != nil {
			return nil, invalidf("Expecting non-negative integers in '%s'", tokens[i])
		}
		if begin > end {
			return nil, invalidf("Invalid ranges resource: begin > end")
		}
		rs = append(rs, Range{begin, end})
	}
	return normalize(rs), nil
}

func balanced(text string, open, shut byte) bool {
	depth := 0
	for i := range len(text) {
		switch text[i] {
		case open:
			depth++
		case shut:
			depth--
		}
		if depth < 0 {
			return false
		}
	}
	return depth == 0
}

// tokenize splits text at any of the delimiters and leaves out empty tokens.
func tokenize(text, delimiters string) []string {
	return strings.FieldsFunc(text, func(c rune) bool { return strings.ContainsRune(delimiters, c) })
}

func validateFlag(r Resources) error {
	types := make(map[string]mesos.Value_Type)
	for _, it := range r.items {
		switch {
		case it.PersistentVolume():
			return invalidf("Persistent volumes cannot be specified at the command line")
		case it.Revocable():
			return invalidf("Revocable resources cannot be specified at the command line;" +
				" do not include a 'revocable' key in the resources JSON")
		case it.DynamicallyReserved():
			return invalidf("Dynamic reservations cannot be specified at the command line;" +
				" do not include a reservation with DYNAMIC type in the resources JSON")
		}
		if t, ok := types[it.m.name]; ok && t != it.m.typ {
			return invalidf("Resources with the same name ('%s') but different types are not allowed", it.m.name)
		}
		types[it.m.name] = it.m.typ
	}
	return nil
}
