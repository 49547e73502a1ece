package resources

import (
	"strconv"
	"strings"

	mesos "clusterd/api/mesos/v1"
)

// String returns r as Mesos writes it in logs and messages, such as
// "cpus:1.5; ports:[31000-32000]", or "{}" if it is empty.
func (r Resources) String() string {
	if len(r.items) == 0 {
		return "{}"
	}
	var b strings.Builder
	for i, it := range r.items {
		if i > 0 {
			b.WriteString("; ")
		}
		b.WriteString(it.String())
	}
	return b.String()
}

// String returns the item as Mesos writes it; a shared one ends in its count.
func (it Item) String() string {
	s := Text(it.Proto())
	if it.m.shared {
		s += "<" + strconv.FormatInt(it.copies, 10) + ">"
	}
	return s
}

// Text returns a resource, valid or not, as Mesos writes it.
func Text(r *mesos.Resource) string {
	var b strings.Builder
	b.WriteString(r.GetName())
	if a := r.GetAllocationInfo(); a != nil {
		b.WriteString("(allocated: " + a.GetRole() + ")")
	}
	stack := r.GetReservations()
	switch {
	case len(stack) > 0:
		b.WriteString("(reservations: [")
		for i, e := range stack {
			if i > 0 {
				b.WriteByte(',')
			}
			b.WriteString("(" + reservationText(e) + ")")
		}
		b.WriteString("])")
	case r.Role != nil && r.GetRole() != "*":
		// The older format, which Mesos prints as JSON in such places.
		b.WriteString("(" + r.GetRole() + ")")
	}
	if d := r.GetDisk(); d != nil {
		b.WriteString("[" + diskText(d) + "]")
	}
	if r.GetRevocable() != nil {
		b.WriteString("{REV}")
	}
	if r.GetShared() != nil {
		b.WriteString("<SHARED>")
	}
	b.WriteByte(':')
	switch r.GetType() {
	case mesos.Value_SCALAR:
		b.Write(appendMilli(nil, ToMilli(r.GetScalar().GetValue())))
	case mesos.Value_RANGES:
		b.WriteByte('[')
		for i, e := range r.GetRanges().GetRange() {
			if i > 0 {
				b.WriteString(", ")
			}
			b.WriteString(strconv.FormatUint(e.GetBegin(), 10) + "-" + strconv.FormatUint(e.GetEnd(), 10))
		}
		b.WriteByte(']')
	case mesos.Value_SET:
		b.WriteString("{" + strings.Join(r.GetSet().GetItem(), ", ") + "}")
	default:
		b.WriteString("?")
	}
	return b.String()
}

func reservationText(e *mesos.Resource_ReservationInfo) string {
	s := e.GetType().String() + "," + e.GetRole()
	if e.Principal != nil {
		s += "," + e.GetPrincipal()
	}
	if e.Labels != nil {
		s += "," + labelsText(e.Labels)
	}
	return s
}

func labelsText(l *mesos.Labels) string {
	var b strings.Builder
	b.WriteByte('{')
	for i, e := range l.GetLabels() {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(e.GetKey())
		if e.Value != nil {
			b.WriteString(": " + e.GetValue())
		}
	}
	b.WriteByte('}')
	return b.String()
}

func diskText(d *mesos.Resource_DiskInfo) string {
	var s string
	if d.Source != nil {
		s = sourceText(d.Source)
	}
	if d.Persistence != nil {
		if d.Source != nil {
			s += ","
		}
		s += d.Persistence.GetId()
	}
	if v := d.Volume; v != nil {
		s += ":"
		if v.HostPath != nil {
			s += v.GetHostPath() + ":"
		}
		s += v.GetContainerPath()
		if v.HostPath != nil && v.Mode != nil {
			s += ":" + strings.ToLower(v.GetMode().String())
		}
	}
	return s
}

func sourceText(s *mesos.Resource_DiskInfo_Source) string {
	name := s.GetType().String()
	if s.Id != nil || s.Profile != nil {
		return name + "(" + s.GetVendor() + "," + s.GetId() + "," + s.GetProfile() + ")"
	}
	switch {
	case s.GetType() == mesos.Resource_DiskInfo_Source_MOUNT && s.GetMount().GetRoot() != "":
		name += ":" + s.GetMount().GetRoot()
	case s.GetType() == mesos.Resource_DiskInfo_Source_PATH && s.GetPath().GetRoot() != "":
		name += ":" + s.GetPath().GetRoot()
	}
	return name
}
