package work

import (
	"fmt"
	"slices"
	"strconv"

	"google.golang.org/protobuf/proto"

	"clusterd/allocator/resources"
	mesos "clusterd/api/mesos/v1"
)

// placement is a unit on an offer: the operations that launch it, and what it leaves.
type placement struct {
	operations []*mesos.Offer_Operation
	tasks      []*mesos.TaskInfo
	left       resources.Resources
}

// poolOf is what may be used of an offer: what is not taken back at any time.
func poolOf(o *mesos.Offer) (resources.Resources, error) {
	rs, err := resources.FromProto(o.GetResources())
	if err != nil {
		return resources.Resources{}, fmt.Errorf("offer %s: %w", o.GetId().GetValue(), err)
	}
	return rs.Unallocate().NonRevocable(), nil
}

// placer places units for a role.
type placer struct {
	role      string
	principal *string
}

// place finds in a pool what a unit wants. why says what is missing when it does not fit;
// an error is one that no offer changes.
func (p *placer) place(u *unit, agent *mesos.AgentID, pool resources.Resources) (out *placement, why string, err error) {
	out = &placement{left: pool}
	for _, t := range u.tasks {
		t = proto.CloneOf(t)
		t.AgentId = proto.CloneOf(agent)
		if why, err = p.fill(out, &t.Resources); why != "" || err != nil {
			return nil, why, err
		}
		if u.container != nil {
			if why, err = p.dress(out, u, t); why != "" || err != nil {
				return nil, why, err
			}
		}
		out.tasks = append(out.tasks, t)
	}
	if u.executor == nil {
		out.operations = append(out.operations, &mesos.Offer_Operation{
			Type: mesos.Offer_Operation_LAUNCH.Enum(), Launch: &mesos.Offer_Operation_Launch{TaskInfos: out.tasks},
		})
		return out, "", nil
	}
	e := proto.CloneOf(u.executor)
	if why, err = p.fill(out, &e.Resources); why != "" || err != nil {
		return nil, why, err
	}
	out.operations = append(out.operations, &mesos.Offer_Operation{
		Type: mesos.Offer_Operation_LAUNCH_GROUP.Enum(),
		LaunchGroup: &mesos.Offer_Operation_LaunchGroup{
			Executor: e, TaskGroup: &mesos.TaskGroupInfo{Tasks: out.tasks},
		},
	})
	return out, "", nil
}

// fill replaces what is wanted by as much of the pool: of the role's own first, then of
// what is not reserved (src/cli/execute.cpp).
func (p *placer) fill(out *placement, wanted *[]*mesos.Resource) (string, error) {
	all, err := resources.FromProto(*wanted)
	if err != nil {
		return "", err
	}
	all = all.Unallocate()
	var got resources.Resources
	for i := range all.Len() {
		item := all.At(i)
		want := item.AsResources()
		if !item.Reserved() && !item.PersistentVolume() && p.role != "*" {
			// Which is how Find is told whose comes first.
			if want, err = want.PushReservation(&mesos.Resource_ReservationInfo{
				Type: mesos.Resource_ReservationInfo_STATIC.Enum(), Role: &p.role,
			}); err != nil {
				return "", err
			}
		}
		found, ok := out.left.Find(want)
		if item.PersistentVolume() || item.Reserved() {
			found, ok = want, out.left.Contains(want)
		}
		if !ok {
			return fmt.Sprintf("%s of %s", item, orNothing(out.left.Get(item.Name()))), nil
		}
		out.left, got = out.left.Sub(found), got.Add(found)
	}
	*wanted = got.Allocate(p.role).Proto()
	return "", nil
}

func orNothing(rs resources.Resources) string {
	if rs.Empty() {
		return "none"
	}
	return rs.String()
}

// dress gives a task its ports, volumes, and check.
func (p *placer) dress(out *placement, u *unit, t *mesos.TaskInfo) (string, error) {
	ports, why, err := p.ports(out, u.container.ports, t)
	if why != "" || err != nil {
		return why, err
	}
	for i, n := range ports {
		setenv(t, "PORT"+strconv.Itoa(i), strconv.FormatUint(n, 10))
		if i == 0 {
			setenv(t, "PORT", strconv.FormatUint(n, 10))
		}
	}
	if len(ports) > 0 && t.Container != nil {
		u.container.withPorts(t.Container, ports)
	}
	for _, v := range u.container.volumes {
		if why, err := p.volume(out, v, t); why != "" || err != nil {
			return why, err
		}
	}
	if ports == nil {
		ports = []uint64{}
	}
	t.HealthCheck, err = u.health.proto(ports)
	return "", err
}

// ports takes ports: the ones that are asked for by their number, then any.
func (p *placer) ports(out *placement, wanted []port, t *mesos.TaskInfo) ([]uint64, string, error) {
	if len(wanted) == 0 {
		return nil, "", nil
	}
	got := make([]uint64, len(wanted))
	var taken []uint64
	for i, w := range wanted {
		if w.host > 0 {
			got[i] = uint64(w.host)
			taken = append(taken, got[i])
		}
	}
	offered := out.left.Ports()
	for i := range got {
		if got[i] > 0 {
			continue
		}
		n, ok := anyPort(offered, taken)
		if !ok {
			return nil, fmt.Sprintf("%d ports of %s", len(wanted), orNothing(out.left.Get("ports"))), nil
		}
		got[i] = n
		taken = append(taken, n)
	}
	rs := &mesos.Resource{Name: new("ports"), Type: mesos.Value_RANGES.Enum(), Ranges: &mesos.Value_Ranges{}}
	for _, n := range taken {
		rs.Ranges.Range = append(rs.Ranges.Range, &mesos.Value_Range{Begin: &n, End: &n})
	}
	list := []*mesos.Resource{rs}
	why, err := p.fill(out, &list)
	if why == "" && err == nil {
		t.Resources = append(t.Resources, list...)
	}
	return got, why, err
}

func anyPort(offered []resources.Range, taken []uint64) (uint64, bool) {
	for _, r := range offered {
		for n := r.Begin; n <= r.End; n++ {
			if n > 0 && !slices.Contains(taken, n) {
				return n, true
			}
		}
	}
	return 0, false
}

// volume takes a persistent volume, or makes it, if it has a size.
func (p *placer) volume(out *placement, v *persistent, t *mesos.TaskInfo) (string, error) {
	for i := range out.left.Len() {
		item := out.left.At(i)
		if item.PersistenceID() != v.id {
			continue
		}
		m := item.AsResources().Allocate(p.role).Proto()
		if path := m[0].GetDisk().GetVolume().GetContainerPath(); path != v.path {
			return "", fmt.Errorf("the volume %s is one for the path %s, not %s", v.id, path, v.path)
		}
		out.left = out.left.Sub(item.AsResources())
		t.Resources = append(t.Resources, m...)
		return "", nil
	}
	if v.size == 0 {
		return "the volume " + v.id, nil
	}
	disk := func(rs resources.Resources) resources.Resources {
		return rs.Filter(func(it resources.Item) bool {
			return it.Name() == "disk" && !it.PersistentVolume() && it.DiskSource() == mesos.Resource_DiskInfo_Source_UNKNOWN
		})
	}
	plain := resources.MustParse("disk:" + strconv.FormatFloat(v.size, 'f', 3, 64))
	// Reserved already, by the role: reserve no more.
	own := disk(out.left.Reserved(p.role))
	found := resources.Resources{}
	for i := range own.Len() {
		it := own.At(i)
		if it.DynamicallyReserved() && it.Milli() >= resources.ToMilli(v.size) {
			found = it.AsResources().Shrink(plain.Quantities())
			break
		}
	}
	if found.Empty() {
		if !disk(out.left.Unreserved()).Contains(plain) {
			return fmt.Sprintf("disk:%v of %s", v.size, orNothing(disk(out.left.Unreserved()))), nil
		}
		reserved, err := plain.PushReservation(&mesos.Resource_ReservationInfo{
			Type: mesos.Resource_ReservationInfo_DYNAMIC.Enum(), Role: &p.role, Principal: p.principal,
		})
		if err != nil {
			return "", err
		}
		out.left, found = out.left.Sub(plain), reserved
		out.operations = append(out.operations, &mesos.Offer_Operation{
			Type: mesos.Offer_Operation_RESERVE.Enum(), Reserve: &mesos.Offer_Operation_Reserve{Resources: found.Allocate(p.role).Proto()},
		})
	} else {
		out.left = out.left.Sub(found)
	}
	made := found.Allocate(p.role).Proto()
	for _, m := range made {
		m.Disk = &mesos.Resource_DiskInfo{
			Persistence: &mesos.Resource_DiskInfo_Persistence{Id: &v.id, Principal: p.principal},
			Volume:      &mesos.Volume{Mode: mesos.Volume_RW.Enum(), ContainerPath: &v.path},
		}
	}
	out.operations = append(out.operations, &mesos.Offer_Operation{
		Type: mesos.Offer_Operation_CREATE.Enum(), Create: &mesos.Offer_Operation_Create{Volumes: made},
	})
	t.Resources = append(t.Resources, made...)
	return "", nil
}
