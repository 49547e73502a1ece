package resources

import (
	"math"
	"slices"
	"strings"
)

// Range is an interval of whole numbers, both ends included.
type Range struct{ Begin, End uint64 }

// normalize sorts and joins ranges, which overlap or touch in any way. It
// reuses the slice.
func normalize(rs []Range) []Range {
	sorted := true
	for i := 1; i < len(rs) && sorted; i++ {
		sorted = rs[i-1].Begin <= rs[i].Begin
	}
	if !sorted {
		slices.SortFunc(rs, func(a, b Range) int {
			switch {
			case a.Begin < b.Begin:
				return -1
			case a.Begin > b.Begin:
				return 1
			}
			return 0
		})
	}
	out := rs[:0]
	for _, r := range rs {
		out = appendRange(out, r)
	}
	return out
}

// appendRange appends r, which begins no earlier than the last of rs.
func appendRange(rs []Range, r Range) []Range {
	if n := len(rs); n > 0 {
		last := &rs[n-1]
		if last.End == math.MaxUint64 || r.Begin <= last.End+1 {
			last.End = max(last.End, r.End)
			return rs
		}
	}
	return append(rs, r)
}

func addRanges(a, b []Range) []Range {
	if len(a) == 0 {
		return b
	}
	if len(b) == 0 {
		return a
	}
	out := make([]Range, 0, len(a)+len(b))
	var last Range
	for i, j := 0, 0; i < len(a) || j < len(b); {
		var r Range
		if j == len(b) || i < len(a) && a[i].Begin <= b[j].Begin {
			r = a[i]
			i++
		} else {
			r = b[j]
			j++
		}
		switch {
		case i+j == 1:
			last = r
		case last.End == math.MaxUint64 || r.Begin <= last.End+1:
			last.End = max(last.End, r.End)
		default:
			out = append(out, last)
			last = r
		}
	}
	return append(out, last)
}

func subRanges(a, b []Range) []Range {
	out := make([]Range, 0, len(a)+1)
	for _, r := range a {
		for len(b) > 0 && b[0].End < r.Begin {
			b = b[1:]
		}
		gone := false
		for _, s := range b {
			if s.Begin > r.End {
				break
			}
			if s.Begin > r.Begin {
				out = append(out, Range{r.Begin, s.Begin - 1})
			}
			if s.End >= r.End {
				gone = true
				break
			}
			r.Begin = s.End + 1
		}
		if !gone {
			out = append(out, r)
		}
	}
	return out
}

func rangesContain(a, b []Range) bool {
	for _, r := range b {
		for len(a) > 0 && a[0].End < r.Begin {
			a = a[1:]
		}
		if len(a) == 0 || a[0].Begin > r.Begin || a[0].End < r.End {
			return false
		}
	}
	return true
}

// rangesWidthMilli returns how many numbers there are, in thousandths, at most
// the largest int64.
func rangesWidthMilli(rs []Range) int64 {
	var sum uint64
	const most = math.MaxInt64 / 1000
	for _, r := range rs {
		w := r.End - r.Begin
		if w >= most || sum+w+1 >= most {
			return math.MaxInt64
		}
		sum += w + 1
	}
	return int64(sum) * 1000
}

func addSets(a, b []string) []string {
	if len(a) == 0 {
		return b
	}
	if len(b) == 0 {
		return a
	}
	out := append(append(make([]string, 0, len(a)+len(b)), a...), b...)
	slices.SortFunc(out, strings.Compare)
	return slices.Compact(out)
}

func subSets(a, b []string) []string {
	out := make([]string, 0, len(a))
	for _, s := range a {
		if _, found := slices.BinarySearch(b, s); !found {
			out = append(out, s)
		}
	}
	return out
}

func setContains(a, b []string) bool {
	if len(b) > len(a) {
		return false
	}
	for _, s := range b {
		if _, found := slices.BinarySearch(a, s); !found {
			return false
		}
	}
	return true
}
