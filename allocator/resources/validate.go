package resources

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	mesos "clusterd/api/mesos/v1"
)

// ErrInvalid is wrapped by every error about resources, roles and operations
// that break a rule. The text is that of Mesos where Mesos has one: it goes to
// clients.
var ErrInvalid = errors.New("invalid resources")

// invalidError keeps its text free of a prefix of ours.
type invalidError string

func (e invalidError) Error() string        { return string(e) }
func (e invalidError) Is(target error) bool { return target == ErrInvalid }

func invalidf(format string, args ...any) error {
	return invalidError(fmt.Sprintf(format, args...))
}

// MaxScalar is the largest scalar value that is accepted. A few thousand of it
// can be summed up without overflow, and doubles still carry three decimals.
const MaxScalar = 1e12

func checkScalar(v float64) error {
	switch {
	case math.IsNaN(v) || math.IsInf(v, 0) || v > MaxScalar:
		return invalidf("Invalid scalar resource: value is not a number below %g", MaxScalar)
	case v != 0 && ToMilli(v) <= 0:
		return invalidf("Invalid scalar resource: value <= 0")
	}
	return nil
}

// ValidateAll checks resources one by one and names the first that is invalid.
func ValidateAll(rs []*mesos.Resource) error {
	for _, r := range rs {
		if err := Validate(r); err != nil {
			return invalidf("Resource '%s' is invalid: %s", Text(r), err)
		}
	}
	return nil
}

// Validate checks one resource in either format (Resources::validate in
// src/common/resources.cpp).
func Validate(r *mesos.Resource) error {
	if r.GetName() == "" {
		return invalidf("Empty resource name")
	}
	if r.Type == nil || r.GetType() < mesos.Value_SCALAR || r.GetType() > mesos.Value_TEXT {
		return invalidf("Invalid resource type")
	}
	if err := validateValue(r); err != nil {
		return err
	}
	if err := validateDisk(r); err != nil {
		return err
	}
	var err error
	if len(r.GetReservations()) == 0 {
		err = validateRole(r)
	} else {
		err = validateReservations(r)
	}
	if err != nil {
		return err
	}
	if r.GetShared() != nil {
		if r.GetName() != "disk" {
			return invalidf("Resource %s cannot be shared", r.GetName())
		}
		if r.GetDisk().GetPersistence() == nil {
			return invalidf("Only persistent volumes can be shared")
		}
	}
	return nil
}

func validateValue(r *mesos.Resource) error {
	scalar, ranges, set := r.Scalar != nil, r.Ranges != nil, r.Set != nil
	switch r.GetType() {
	case mesos.Value_SCALAR:
		if !scalar || ranges || set {
			return invalidf("Invalid scalar resource")
		}
		return checkScalar(r.GetScalar().GetValue())
	case mesos.Value_RANGES:
		if scalar || !ranges || set {
			return invalidf("Invalid ranges resource")
		}
		return validateRanges(r.GetRanges().GetRange())
	case mesos.Value_SET:
		if scalar || ranges || !set {
			return invalidf("Invalid set resource")
		}
		items := slices.Clone(r.GetSet().GetItem())
		slices.Sort(items)
		if len(slices.Compact(items)) != len(r.GetSet().GetItem()) {
			return invalidf("Invalid set resource: duplicated elements")
		}
		return nil
	default:
		return invalidf("Unsupported resource type")
	}
}

// validateRanges refuses every overlap; Mesos's check misses a later range that
// begins before an earlier one.
func validateRanges(rs []*mesos.Value_Range) error {
	sorted := make([]Range, 0, len(rs))
	for _, e := range rs {
		if e.GetBegin() > e.GetEnd() {
			return invalidf("Invalid ranges resource: begin > end")
		}
		sorted = append(sorted, Range{e.GetBegin(), e.GetEnd()})
	}
	slices.SortFunc(sorted, func(a, b Range) int {
		switch {
		case a.Begin < b.Begin:
			return -1
		case a.Begin > b.Begin:
			return 1
		}
		return 0
	})
	for i := 1; i < len(sorted); i++ {
		if sorted[i].Begin <= sorted[i-1].End {
			return invalidf("Invalid ranges resource: overlapping ranges")
		}
	}
	return nil
}

func validateDisk(r *mesos.Resource) error {
	if r.Disk == nil {
		return nil
	}
	if r.GetName() != "disk" {
		return invalidf("DiskInfo should not be set for %s resource", r.GetName())
	}
	s := r.GetDisk().GetSource()
	if s == nil {
		return nil
	}
	switch s.GetType() {
	case mesos.Resource_DiskInfo_Source_PATH, mesos.Resource_DiskInfo_Source_MOUNT:
	case mesos.Resource_DiskInfo_Source_BLOCK, mesos.Resource_DiskInfo_Source_RAW:
		if s.Mount != nil {
			return invalidf("Mount should not be set for %s disk source", s.GetType())
		}
		if s.Path != nil {
			return invalidf("Path should not be set for %s disk source", s.GetType())
		}
	default:
		return invalidf("Unsupported 'DiskInfo.Source.Type' in '%s'", sourceText(s))
	}
	return nil
}

// validateRole checks the format without a stack of reservations.
func validateRole(r *mesos.Resource) error {
	if err := ValidateRole(r.GetRole()); err != nil {
		return err
	}
	if r.Reservation == nil {
		return nil
	}
	switch {
	case r.Reservation.Type != nil:
		return invalidf("'Resource.ReservationInfo.type' must not be set for the 'Resource.reservation' field")
	case r.Reservation.Role != nil:
		return invalidf("'Resource.ReservationInfo.role' must not be set for the 'Resource.reservation' field")
	case r.GetRole() == "*":
		return invalidf("Invalid reservation: role \"*\" cannot be dynamically reserved")
	}
	return nil
}

func validateReservations(r *mesos.Resource) error {
	for _, e := range r.Reservations {
		if e.Type == nil {
			return invalidf("Invalid reservation: 'Resource.ReservationInfo.type' field must be set.")
		}
		if e.Role == nil {
			return invalidf("Invalid reservation: 'Resource.ReservationInfo.role' field must be set.")
		}
		if err := ValidateRole(e.GetRole()); err != nil {
			return err
		}
		if e.GetRole() == "*" {
			return invalidf("Invalid reservation: role \"*\" cannot be reserved")
		}
		if t := e.GetType(); t != mesos.Resource_ReservationInfo_STATIC && t != mesos.Resource_ReservationInfo_DYNAMIC {
			return invalidf("Unsupported 'Resource.ReservationInfo.Type'")
		}
	}
	for i, e := range r.Reservations[1:] {
		if e.GetType() == mesos.Resource_ReservationInfo_STATIC {
			return invalidf("Invalid refined reservation: A refined reservation cannot be STATIC")
		}
		if above := r.Reservations[i].GetRole(); !IsStrictSubrole(e.GetRole(), above) {
			return invalidf("Invalid refined reservation: role '%s' is not a refinement of '%s'", e.GetRole(), above)
		}
	}
	if len(r.Reservations) == 1 {
		return validateBothFormats(r, r.Reservations[0])
	}
	if r.Role != nil {
		return invalidf("Invalid resource format: 'Resource.role' must not be set if" +
			" there is more than one reservation in 'Resource.reservations'")
	}
	if r.Reservation != nil {
		return invalidf("Invalid resource format: 'Resource.reservation' must not be set if" +
			" there is more than one reservation in 'Resource.reservations'")
	}
	return nil
}

// validateBothFormats checks that the older fields, where set beside a single
// reservation, say the same.
func validateBothFormats(r *mesos.Resource, e *mesos.Resource_ReservationInfo) error {
	const format = "Invalid resource format: "
	if r.Role != nil && r.GetRole() != e.GetRole() {
		return invalidf(format+"'Resource.role' field with '%s' does not match the role '%s' in 'Resource.reservations'",
			r.GetRole(), e.GetRole())
	}
	if e.GetType() == mesos.Resource_ReservationInfo_STATIC {
		if r.Reservation != nil {
			return invalidf(format + "'Resource.reservation' must not be set if" +
				" the single reservation in 'Resource.reservations' is STATIC")
		}
		return nil
	}
	if (r.Role != nil) != (r.Reservation != nil) {
		return invalidf(format + "'Resource.role' and 'Resource.reservation' must either be both set or both not" +
			" set if the single reservation in 'Resource.reservations' is DYNAMIC")
	}
	if r.Reservation == nil {
		return nil
	}
	if a, b := r.Reservation.GetPrincipal(), e.GetPrincipal(); a != b {
		return invalidf(format+"'Resource.reservation.principal' field with '%s' does not match the principal '%s'"+
			" in 'Resource.reservations'", a, b)
	}
	if a, b := r.Reservation.GetLabels(), e.GetLabels(); labelsText(a) != labelsText(b) && !sameLabels(a, b) {
		return invalidf(format+"'Resource.reservation.labels' field with '%s' does not match the labels '%s'"+
			" in 'Resource.reservations'", labelsText(a), labelsText(b))
	}
	return nil
}

func sameLabels(a, b *mesos.Labels) bool {
	key := func(l *mesos.Labels) string {
		var sb strings.Builder
		if len(l.GetLabels()) > 0 {
			labelsKey(&sb, func(s string) { fmt.Fprintf(&sb, "%d:%s", len(s), s) }, l)
		}
		return sb.String()
	}
	return key(a) == key(b)
}
