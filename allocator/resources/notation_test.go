package resources

import (
	"fmt"
	"strconv"
	"strings"

	mesos "clusterd/api/mesos/v1"
)

// notation reads resources as [Resources.String] writes them, such as
//
//	cpus:1; disk(allocated: a)(reservations: [(STATIC,a),(DYNAMIC,a/b,p,{k: v})])[PATH:/mnt,id:data]{REV}<SHARED>:64<2>
//
// and two things more: "(ROLE)" for a static reservation and "<PROVIDER ID>". A
// volume without a mode is RW.
func notation(text string) (Resources, error) {
	var b builder
	if strings.TrimSpace(text) == "{}" {
		return b.done(), nil
	}
	for _, token := range splitOutside(text, ';') {
		if strings.TrimSpace(token) == "" {
			continue
		}
		r, copies, err := notationItem(strings.TrimSpace(token))
		if err != nil {
			return Resources{}, fmt.Errorf("%s: %w", token, err)
		}
		if err := Validate(r); err != nil {
			return Resources{}, fmt.Errorf("%s: %w", token, err)
		}
		for range copies {
			b.add(toItem(r))
		}
	}
	return b.done(), nil
}

// splitOutside splits at separators that are not inside of brackets.
func splitOutside(text string, separator byte) []string {
	var out []string
	depth, from := 0, 0
	for i := range len(text) {
		switch c := text[i]; {
		case strings.IndexByte("([{", c) >= 0:
			depth++
		case strings.IndexByte(")]}", c) >= 0:
			depth--
		case c == separator && depth == 0:
			out = append(out, text[from:i])
			from = i + 1
		}
	}
	return append(out, text[from:])
}

// bracketed returns what is inside of the brackets that text begins with, and
// what follows them.
func bracketed(text string) (inside, rest string, err error) {
	closing := map[byte]byte{'(': ')', '[': ']', '{': '}', '<': '>'}[text[0]]
	depth := 0
	for i := range len(text) {
		switch text[i] {
		case text[0]:
			depth++
		case closing:
			if depth--; depth == 0 {
				return text[1:i], text[i+1:], nil
			}
		}
	}
	return "", "", fmt.Errorf("unbalanced %q", text)
}

func notationItem(text string) (r *mesos.Resource, copies int, err error) {
	end := strings.IndexAny(text, "([{<:")
	if end < 0 {
		return nil, 0, fmt.Errorf("no value in %q", text)
	}
	r = &mesos.Resource{Name: new(text[:end])}
	text = text[end:]
	for text[0] != ':' {
		open := text[0]
		var inside string
		if inside, text, err = bracketed(text); err != nil {
			return nil, 0, err
		}
		switch {
		case open == '(':
			err = notationRole(r, inside)
		case open == '[':
			r.Disk, err = notationDisk(inside)
		case inside == "REV":
			r.Revocable = &mesos.Resource_RevocableInfo{}
		case inside == "SHARED":
			r.Shared = &mesos.Resource_SharedInfo{}
		case strings.HasPrefix(inside, "PROVIDER "):
			r.ProviderId = &mesos.ResourceProviderID{Value: new(strings.TrimPrefix(inside, "PROVIDER "))}
		default:
			err = fmt.Errorf("unknown %q", inside)
		}
		if err != nil {
			return nil, 0, err
		}
		if text == "" {
			return nil, 0, fmt.Errorf("no value")
		}
	}
	copies = 1
	text = text[1:]
	if before, after, found := strings.Cut(text, "<"); found {
		text = before
		if copies, err = strconv.Atoi(strings.TrimSuffix(after, ">")); err != nil {
			return nil, 0, err
		}
	}
	return r, copies, notationValue(r, text)
}

func notationValue(r *mesos.Resource, text string) error {
	v, err := parseValue(text)
	if err != nil {
		return err
	}
	r.Type = v.typ.Enum()
	switch v.typ {
	case mesos.Value_SCALAR:
		r.Scalar = &mesos.Value_Scalar{Value: &v.scalar}
	case mesos.Value_RANGES:
		r.Ranges = &mesos.Value_Ranges{}
		for _, e := range v.ranges {
			r.Ranges.Range = append(r.Ranges.Range, &mesos.Value_Range{Begin: &e.Begin, End: &e.End})
		}
	default:
		r.Set = &mesos.Value_Set{Item: v.set}
	}
	return nil
}

func notationRole(r *mesos.Resource, inside string) error {
	if role, found := strings.CutPrefix(inside, "allocated: "); found {
		r.AllocationInfo = &mesos.Resource_AllocationInfo{Role: &role}
		return nil
	}
	stack, found := strings.CutPrefix(inside, "reservations: ")
	if !found {
		r.Reservations = append(r.Reservations, Reservation{Role: inside}.Proto())
		return nil
	}
	stack, _, err := bracketed(stack)
	if err != nil {
		return err
	}
	for _, e := range splitOutside(stack, ',') {
		info, err := notationReservation(e)
		if err != nil {
			return err
		}
		r.Reservations = append(r.Reservations, info)
	}
	return nil
}

// notationReservation reads "(TYPE,ROLE,PRINCIPAL,{KEY: VALUE, KEY})", of which
// the last two may be missing.
func notationReservation(text string) (*mesos.Resource_ReservationInfo, error) {
	inside, _, err := bracketed(strings.TrimSpace(text))
	if err != nil {
		return nil, err
	}
	fields := splitOutside(inside, ',')
	if len(fields) < 2 {
		return nil, fmt.Errorf("reservation %q has no role", text)
	}
	e := Reservation{Dynamic: fields[0] == "DYNAMIC", Role: fields[1]}
	for _, f := range fields[2:] {
		if !strings.HasPrefix(f, "{") {
			e.HasPrincipal, e.Principal = true, f
			continue
		}
		e.Labels = &mesos.Labels{}
		for l := range strings.SplitSeq(strings.Trim(f, "{}"), ", ") {
			key, value, found := strings.Cut(l, ": ")
			label := &mesos.Label{Key: &key}
			if found {
				label.Value = &value
			}
			e.Labels.Labels = append(e.Labels.Labels, label)
		}
	}
	return e.Proto(), nil
}

// notationDisk reads "SOURCE,ID:HOST_PATH:CONTAINER_PATH:MODE", of which most
// may be missing.
func notationDisk(text string) (*mesos.Resource_DiskInfo, error) {
	d := &mesos.Resource_DiskInfo{}
	for _, name := range []string{"MOUNT", "PATH", "RAW", "BLOCK"} {
		rest, found := strings.CutPrefix(text, name)
		if !found || rest != "" && !strings.ContainsAny(rest[:1], ":(,") {
			continue
		}
		d.Source = &mesos.Resource_DiskInfo_Source{Type: new(mesos.Resource_DiskInfo_Source_Type(
			mesos.Resource_DiskInfo_Source_Type_value[name],
		))}
		var err error
		if text, err = notationSource(d.Source, rest); err != nil {
			return nil, err
		}
		break
	}
	if text == "" {
		return d, nil
	}
	fields := strings.Split(text, ":")
	if fields[0] != "" {
		d.Persistence = &mesos.Resource_DiskInfo_Persistence{Id: &fields[0]}
	}
	v := &mesos.Volume{Mode: mesos.Volume_RW.Enum()}
	switch len(fields) {
	case 1:
		return d, nil
	case 2:
		v.ContainerPath = &fields[1]
	case 4:
		v.HostPath, v.ContainerPath = &fields[1], &fields[2]
		v.Mode = mesos.Volume_Mode(mesos.Volume_Mode_value[strings.ToUpper(fields[3])]).Enum()
	default:
		return nil, fmt.Errorf("disk %q", text)
	}
	d.Volume = v
	return d, nil
}

// notationSource reads what follows the type of a source and returns what
// follows the source.
func notationSource(s *mesos.Resource_DiskInfo_Source, text string) (string, error) {
	if strings.HasPrefix(text, "(") {
		inside, rest, err := bracketed(text)
		if err != nil {
			return "", err
		}
		fields := strings.Split(inside, ",")
		if len(fields) != 3 {
			return "", fmt.Errorf("disk source (%s) has not three fields", inside)
		}
		for i, to := range []**string{&s.Vendor, &s.Id, &s.Profile} {
			if fields[i] != "" {
				*to = new(fields[i])
			}
		}
		return strings.TrimPrefix(rest, ","), nil
	}
	root, rest, _ := strings.Cut(text, ",")
	if root = strings.TrimPrefix(root, ":"); root == "" {
		return rest, nil
	}
	switch s.GetType() {
	case mesos.Resource_DiskInfo_Source_MOUNT:
		s.Mount = &mesos.Resource_DiskInfo_Source_Mount{Root: &root}
	case mesos.Resource_DiskInfo_Source_PATH:
		s.Path = &mesos.Resource_DiskInfo_Source_Path{Root: &root}
	default:
		return "", fmt.Errorf("a %s disk has no root", s.GetType())
	}
	return rest, nil
}
