package hostinfo

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	mesos "clusterd/api/mesos/v1"
)

// ErrAttributes is wrapped by every error of [ParseAttributes].
var ErrAttributes = errors.New("invalid attributes")

// ParseAttributes parses `--attributes`: `rack:r1;level:10;ports:[1-5]`. Pairs
// are separated by semicolons or line ends and split at their first colon; a
// value is ranges if it begins with `[`, a scalar if it is a number of zero or
// more, else text; blanks in values are dropped. Names may repeat. Sets, which
// abort a Mesos agent, are refused (src/common/attributes.cpp, values.cpp).
func ParseAttributes(s string) ([]*mesos.Attribute, error) {
	var list []*mesos.Attribute
	for pair := range strings.FieldsFuncSeq(s, func(r rune) bool { return r == ';' || r == '\n' }) {
		name, text, ok := strings.Cut(pair, ":")
		if !ok || name == "" || text == "" {
			return nil, fmt.Errorf("%w: '%s' is no key:value pair", ErrAttributes, pair)
		}
		a, err := parseAttribute(name, strings.ReplaceAll(text, " ", ""))
		if err != nil {
			return nil, fmt.Errorf("%w: '%s': %w", ErrAttributes, pair, err)
		}
		list = append(list, a)
	}
	return list, nil
}

func parseAttribute(name, text string) (*mesos.Attribute, error) {
	a := &mesos.Attribute{Name: new(name)}
	switch {
	case text == "":
		return nil, errors.New("the value is empty")
	case !balanced(text):
		return nil, errors.New("brackets do not match")
	case text[0] == '[':
		ranges, err := parseRanges(text)
		if err != nil {
			return nil, err
		}
		a.Type, a.Ranges = mesos.Value_RANGES.Enum(), ranges
		return a, nil
	case text[0] == '{':
		return nil, errors.New("sets are not possible as attributes")
	case strings.ContainsAny(text, "[{"):
		return nil, errors.New("a bracket is not at the beginning of the value")
	}
	if f, err := strconv.ParseFloat(text, 64); err == nil && plainNumber(text) {
		if f != 0 && math.Abs(f) < 0x1p-1022 {
			return nil, errors.New("the number is too small")
		}
		if f >= 0 && !math.IsInf(f, 0) {
			a.Type, a.Scalar = mesos.Value_SCALAR.Enum(), &mesos.Value_Scalar{Value: new(f)}
			return a, nil
		}
	}
	a.Type, a.Text = mesos.Value_TEXT.Enum(), &mesos.Value_Text{Value: new(text)}
	return a, nil
}

// plainNumber leaves out what ParseFloat takes beyond C++: underscores and
// hexadecimal fractions. Infinity and NaN are text in Mesos too.
func plainNumber(s string) bool {
	return strings.Trim(s, "0123456789.+-eE") == ""
}

// balanced reports whether each kind of bracket is closed after it is opened.
func balanced(s string) bool {
	for _, pair := range []string{"{}", "[]", "()"} {
		depth := 0
		for i := range len(s) {
			switch s[i] {
			case pair[0]:
				depth++
			case pair[1]:
				depth--
			}
			if depth < 0 {
				return false
			}
		}
		if depth != 0 {
			return false
		}
	}
	return true
}

// parseRanges parses `[1-5,7-9]`, sorted and joined where they touch.
func parseRanges(text string) (*mesos.Value_Ranges, error) {
	inner, ok := strings.CutSuffix(strings.TrimPrefix(text, "["), "]")
	if !ok || strings.ContainsAny(inner, "[]") {
		return nil, errors.New("ranges look like [1-5,7-9]")
	}
	type span struct{ begin, end uint64 }
	var spans []span
	for part := range strings.SplitSeq(inner, ",") {
		low, high, ok := strings.Cut(part, "-")
		begin, err1 := strconv.ParseUint(low, 10, 64)
		end, err2 := strconv.ParseUint(high, 10, 64)
		if !ok || err1 != nil || err2 != nil {
			return nil, fmt.Errorf("expecting non-negative integers in '%s'", part)
		}
		if end < begin {
			return nil, fmt.Errorf("range '%s' ends before it begins", part)
		}
		spans = append(spans, span{begin, end})
	}
	slices.SortFunc(spans, func(a, b span) int { return cmp.Or(cmp.Compare(a.begin, b.begin), cmp.Compare(a.end, b.end)) })
	ranges := &mesos.Value_Ranges{}
	for _, s := range spans {
		if n := len(ranges.Range); n > 0 {
			last := ranges.Range[n-1]
			if s.begin <= last.GetEnd() || s.begin == last.GetEnd()+1 {
				last.End = new(max(last.GetEnd(), s.end))
				continue
			}
		}
		ranges.Range = append(ranges.Range, &mesos.Value_Range{Begin: new(s.begin), End: new(s.end)})
	}
	return ranges, nil
}
