package resources

import (
	"fmt"
	"math"
	"slices"
	"strings"

	mesos "clusterd/api/mesos/v1"
)

// Quantity is an amount of the scalar resource of a name.
type Quantity struct {
	Name  string
	Milli int64
}

// Quantities are amounts of scalar resources by name, whatever they are
// reserved for: an immutable value, sorted by name, the zero value empty
// (src/common/resource_quantities.cpp).
//
// As quantities, a name that is absent and one with zero are the same, and zero
// is never kept. Limits, made by [NewLimits] and [ParseLimits], keep a zero, for
// there an absent name has no limit; they are read with [Quantities.Has] and
// reduced with [Quantities.SubFromLimits].
type Quantities struct{ q []Quantity }

// NewQuantities makes quantities; zeros and negative amounts are left out.
func NewQuantities(amounts map[string]float64) Quantities {
	return NewLimits(amounts).dropZeros()
}

// NewLimits makes limits; zeros are kept, negative amounts count as zero.
func NewLimits(amounts map[string]float64) Quantities {
	var q Quantities
	for name, v := range amounts {
		q.q = append(q.q, Quantity{name, max(0, ToMilli(v))})
	}
	slices.SortFunc(q.q, func(a, b Quantity) int { return strings.Compare(a.Name, b.Name) })
	return q
}

// QuantitiesFromProto makes quantities of a map such as
// OfferFilters.ResourceQuantities has it.
func QuantitiesFromProto(m map[string]*mesos.Value_Scalar) Quantities {
	return LimitsFromProto(m).dropZeros()
}

// LimitsFromProto makes limits of a map such as QuotaConfig has it.
func LimitsFromProto(m map[string]*mesos.Value_Scalar) Quantities {
	amounts := make(map[string]float64, len(m))
	for name, v := range m {
		amounts[name] = v.GetValue()
	}
	return NewLimits(amounts)
}

// ParseQuantities reads the likes of "cpus:1;mem:32". Repeated names are summed.
func ParseQuantities(text string) (Quantities, error) {
	var q Quantities
	err := parseQuantities(text, func(name string, milli int64) error {
		q.add(name, milli)
		return nil
	})
	return q, err
}

// ParseLimits reads the same, but keeps zeros and refuses repeated names.
func ParseLimits(text string) (Quantities, error) {
	var q Quantities
	err := parseQuantities(text, func(name string, milli int64) error {
		i, found := q.find(name)
		if found {
			return fmt.Errorf("duplicate name %q", name)
		}
		q.q = slices.Insert(q.q, i, Quantity{name, milli})
		return nil
	})
	return q, err
}

func parseQuantities(text string, each func(string, int64) error) error {
	for _, token := range tokenize(text, ";") {
		pair := tokenize(token, ":")
		if len(pair) != 2 {
			return invalidf("Failed to parse '%s': missing or extra ':'", token)
		}
		v, err := parseValue(pair[1])
		if err != nil {
			return invalidf("Failed to parse '%s' to quantity: %s", pair[1], err)
		}
		if v.typ != mesos.Value_SCALAR {
			return invalidf("Failed to parse '%s' to quantity: only scalar values are allowed", pair[1])
		}
		if err := checkScalar(v.scalar); err != nil {
			return invalidf("Failed to parse '%s' to quantity: %s", pair[1], err)
		}
		if err := each(strings.TrimSpace(pair[0]), ToMilli(v.scalar)); err != nil {
			return invalidf("Failed to parse '%s' to quantity: %s", pair[1], err)
		}
	}
	return nil
}

func (q Quantities) find(name string) (int, bool) {
	// There are few; no binary search.
	for i := range q.q {
		if q.q[i].Name >= name {
			return i, q.q[i].Name == name
		}
	}
	return len(q.q), false
}

// add is for quantities that are still being built.
func (q *Quantities) add(name string, milli int64) {
	if milli <= 0 {
		return
	}
	i, found := q.find(name)
	if found {
		q.q[i].Milli += milli
		return
	}
	q.q = slices.Insert(q.q, i, Quantity{name, milli})
}

func (q Quantities) dropZeros() Quantities {
	if !slices.ContainsFunc(q.q, func(e Quantity) bool { return e.Milli <= 0 }) {
		return q
	}
	var out Quantities
	for _, e := range q.q {
		if e.Milli > 0 {
			out.q = append(out.q, e)
		}
	}
	return out
}

// Len returns the number of names.
func (q Quantities) Len() int { return len(q.q) }

// Empty reports whether there are no names.
func (q Quantities) Empty() bool { return len(q.q) == 0 }

// At returns the i-th quantity by name.
func (q Quantities) At(i int) Quantity { return q.q[i] }

// Names returns the names, sorted.
func (q Quantities) Names() []string {
	names := make([]string, len(q.q))
	for i, e := range q.q {
		names[i] = e.Name
	}
	return names
}

// Get returns the amount of name in thousandths, 0 if absent.
func (q Quantities) Get(name string) int64 {
	if i, found := q.find(name); found {
		return q.q[i].Milli
	}
	return 0
}

// Has reports whether the name is present.
func (q Quantities) Has(name string) bool {
	_, found := q.find(name)
	return found
}

// Add returns the sum of both.
func (q Quantities) Add(that Quantities) Quantities {
	if len(that.q) == 0 {
		return q
	}
	if len(q.q) == 0 {
		return that
	}
	out := Quantities{q: make([]Quantity, len(q.q), len(q.q)+len(that.q))}
	copy(out.q, q.q)
	for _, e := range that.q {
		out.add(e.Name, e.Milli)
	}
	return out
}

// Sub returns q without that; what would become zero or less is left out.
func (q Quantities) Sub(that Quantities) Quantities {
	return q.SubFromLimits(that).dropZeros()
}

// SubFromLimits returns the limits q less that; what would become negative is
// zero.
func (q Quantities) SubFromLimits(that Quantities) Quantities {
	if len(that.q) == 0 || len(q.q) == 0 {
		return q
	}
	out := Quantities{q: slices.Clone(q.q)}
	for i := range out.q {
		out.q[i].Milli = max(0, out.q[i].Milli-that.Get(out.q[i].Name))
	}
	return out
}

// Contains reports whether q has at least that of every name.
func (q Quantities) Contains(that Quantities) bool {
	for _, e := range that.q {
		if q.Get(e.Name) < e.Milli {
			return false
		}
	}
	return true
}

// LimitsContain reports whether that stays within the limits q.
func (q Quantities) LimitsContain(that Quantities) bool {
	for _, e := range that.q {
		if i, found := q.find(e.Name); found && q.q[i].Milli < e.Milli {
			return false
		}
	}
	return true
}

// Equal reports whether both are the same.
func (q Quantities) Equal(that Quantities) bool { return slices.Equal(q.q, that.q) }

// Proto returns q as a map of scalars.
func (q Quantities) Proto() map[string]*mesos.Value_Scalar {
	out := make(map[string]*mesos.Value_Scalar, len(q.q))
	for _, e := range q.q {
		v := FromMilli(e.Milli)
		out[e.Name] = &mesos.Value_Scalar{Value: &v}
	}
	return out
}

// String returns the likes of "cpus:1; mem:32", or "{}".
func (q Quantities) String() string {
	if len(q.q) == 0 {
		return "{}"
	}
	var b []byte
	for i, e := range q.q {
		if i > 0 {
			b = append(b, "; "...)
		}
		b = append(append(b, e.Name...), ':')
		b = appendMilli(b, e.Milli)
	}
	return string(b)
}

// ToMilli turns a scalar into thousandths, rounding half away from zero as
// Mesos's llround does. NaN is zero; what does not fit is the largest or
// smallest int64.
func ToMilli(v float64) int64 {
	v = math.Round(v * 1000)
	switch {
	case math.IsNaN(v):
		return 0
	case v >= math.MaxInt64:
		return math.MaxInt64
	case v <= math.MinInt64:
		return math.MinInt64
	}
	return int64(v)
}

// FromMilli turns thousandths into a scalar, through whole numbers and the
// remainder as Mesos does, so that the double is the same to the last bit.
func FromMilli(m int64) float64 {
	return float64(m/1000) + float64(m%1000)/1000
}

// appendMilli writes thousandths with as few decimals as needed.
func appendMilli(b []byte, m int64) []byte {
	if m < 0 {
		b = append(b, '-')
		m = -m
	}
	b = fmt.Append(b, m/1000)
	if f := m % 1000; f != 0 {
		s := fmt.Sprintf(".%03d", f)
		b = append(b, strings.TrimRight(s, "0")...)
	}
	return b
}
