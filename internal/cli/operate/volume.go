package operate

import (
	"fmt"
	"slices"
	"strings"

	cliv2 "github.com/urfave/cli/v2"
	"google.golang.org/protobuf/proto"

	"clusterd/allocator/resources"
	mesos "clusterd/api/mesos/v1"
	"clusterd/api/mesos/v1/master"
	"clusterd/internal/cli/console"
)

func volumeCommand(e console.Env) *cliv2.Command {
	return noun("volume", "look at persistent volumes, and change them",
		&cliv2.Command{
			Name: "list", Aliases: []string{"ls"}, Usage: "list persistent volumes, and who uses them", Flags: console.OutputFlags(),
			Action: connected(e, 0, 0, listVolumes),
		},
		&cliv2.Command{
			Name: "create", Usage: "create a persistent volume on reserved disk of an agent", ArgsUsage: "AGENT MB",
			Flags: console.Flags(
				&cliv2.StringFlag{Name: "role", Usage: "`ROLE` that the disk is reserved for"},
				&cliv2.StringFlag{Name: "id", Usage: "`ID` of the volume, unique for the role on this agent"},
				&cliv2.StringFlag{Name: "path", Usage: "`PATH` in the containers that use it", Value: "volume"},
				&cliv2.BoolFlag{Name: "shared", Usage: "several tasks may use it at a time"},
				&cliv2.StringSliceFlag{Name: "label", Usage: "the `KEY=VALUE` of the reservation; repeatable"},
				console.YesFlag(),
			),
			Action: connected(e, 2, 2, createVolume),
		},
		&cliv2.Command{
			Name: "destroy", Usage: "destroy persistent volumes and the data in them", ArgsUsage: "AGENT ID...",
			Flags: console.Flags(console.YesFlag()), Action: connected(e, 2, -1, destroyVolumes),
		},
		&cliv2.Command{
			Name: "grow", Usage: "add reserved disk to a persistent volume that is not in use", ArgsUsage: "AGENT ID MB",
			Flags: console.Flags(console.YesFlag()), Action: connected(e, 3, 3, func(x *call) error { return resize(x, true) }),
		},
		&cliv2.Command{
			Name: "shrink", Usage: "take disk from a persistent volume that is not in use", ArgsUsage: "AGENT ID MB",
			Flags: console.Flags(console.YesFlag()), Action: connected(e, 3, 3, func(x *call) error { return resize(x, false) }),
		},
	)
}

func volumesOf(a *agentInfo) (out []*mesos.Resource) {
	for _, r := range a.GetTotalResources() {
		if r.GetDisk().GetPersistence() != nil {
			out = append(out, r)
		}
	}
	return out
}

func listVolumes(x *call) error {
	res, err := x.cluster.Ask(x.ctx(), master.Call_GET_AGENTS)
	if err != nil {
		return err
	}
	var tasks []console.Task
	if slices.ContainsFunc(res.GetGetAgents().GetAgents(), func(a *agentInfo) bool { return len(volumesOf(a)) > 0 }) {
		if tasks, err = x.cluster.Tasks(x.ctx()); err != nil {
			return err
		}
	}
	t := &console.Table{
		Header: []string{"VOLUME", "HOST", "ROLE", "MB", "SHARED", "USED BY"},
		Wide:   []string{"PATH", "PRINCIPAL", "LABELS", "SOURCE", "AGENT"},
	}
	items := []any{}
	for _, a := range res.GetGetAgents().GetAgents() {
		for _, v := range volumesOf(a) {
			id, info := v.GetDisk().GetPersistence().GetId(), reservationOf(v)
			users := []string{}
			for _, task := range tasks {
				if !task.Ended && task.GetAgentId().GetValue() == agentID(a) && slices.ContainsFunc(task.GetResources(), func(r *mesos.Resource) bool {
					return r.GetDisk().GetPersistence().GetId() == id && reservationOf(r).GetRole() == info.GetRole()
				}) {
					users = append(users, task.GetTaskId().GetValue())
				}
			}
			t.Add(id, a.GetAgentInfo().GetHostname(), info.GetRole(), console.Number(v.GetScalar().GetValue()), yesNo(v.GetShared() != nil), strings.Join(users, " "),
				v.GetDisk().GetVolume().GetContainerPath(), v.GetDisk().GetPersistence().GetPrincipal(), labels(info.GetLabels()), source(v), agentID(a))
			item, err := object(map[string]any{"agent_id": agentID(a), "hostname": a.GetAgentInfo().GetHostname(), "used_by": users}, "volume", v)
			if err != nil {
				return err
			}
			items = append(items, item)
		}
	}
	t.Items = items
	return x.print(t)
}

func source(r *mesos.Resource) string {
	s := r.GetDisk().GetSource()
	if s == nil {
		return ""
	}
	return strings.TrimSpace(strings.ToLower(s.GetType().String()) + " " + s.GetPath().GetRoot() + s.GetMount().GetRoot())
}

// megabytes reads an amount of disk: 512, 512MB, 2GB.
func megabytes(text string) (float64, error) {
	rs, err := resources.Parse("disk:"+strings.TrimSuffix(strings.ToUpper(text), "MB"), "*")
	if err == nil && rs.Disk() > 0 {
		return rs.Disk(), nil
	}
	return 0, console.Hint(console.Usagef("%q is no amount of megabytes", text), "512")
}

func createVolume(x *call) error {
	for _, flag := range []string{"role", "id"} {
		if _, err := x.needed(flag); err != nil {
			return err
		}
	}
	mb, err := megabytes(x.args[1])
	if err != nil {
		return err
	}
	tags, err := parseLabels(x.StringSlice("label"))
	if err != nil {
		return err
	}
	a, err := x.cluster.FindAgent(x.ctx(), x.args[0])
	if err != nil {
		return err
	}
	disk := &mesos.Resource{Name: new("disk"), Type: mesos.Value_SCALAR.Enum(), Scalar: &mesos.Value_Scalar{Value: &mb}}
	reserved, err := reservedOn(a, []*mesos.Resource{disk}, x.String("role"), tags)
	if err != nil {
		return err
	}
	v := reserved[0]
	mode := mesos.Volume_RW
	persistence := &mesos.Resource_DiskInfo_Persistence{Id: new(x.String("id"))}
	if p := x.cluster.Principal(); p != "" {
		persistence.Principal = &p
	}
	v.Disk = &mesos.Resource_DiskInfo{
		Persistence: persistence, Volume: &mesos.Volume{ContainerPath: new(x.String("path")), Mode: &mode}, Source: v.GetDisk().GetSource(),
	}
	if x.Bool("shared") {
		v.Shared = &mesos.Resource_SharedInfo{}
	}
	if err := x.confirm("create volume %s of %s MB for role %s on agent %s", x.String("id"), console.Number(mb), x.String("role"), agentName(a)); err != nil {
		return err
	}
	_, err = x.cluster.Call(x.ctx(), &master.Call{
		Type:          master.Call_CREATE_VOLUMES.Enum(),
		CreateVolumes: &master.Call_CreateVolumes{AgentId: a.GetAgentInfo().GetId(), Volumes: []*mesos.Resource{v}},
	})
	return x.done(err, "created volume %s on %s", x.String("id"), agentName(a))
}

// findVolume finds a volume of an agent by its id; ROLE/ID where several roles have it.
func findVolume(a *agentInfo, ref string) (*mesos.Resource, error) {
	var found []*mesos.Resource
	for _, v := range volumesOf(a) {
		id := v.GetDisk().GetPersistence().GetId()
		if id == ref || reservationOf(v).GetRole()+"/"+id == ref {
			found = append(found, v)
		}
	}
	switch len(found) {
	case 0:
		return nil, console.Hint(console.Mark(console.ErrNotFound, fmt.Errorf("agent %s has no volume %q", agentName(a), ref)), "clusterd volume list shows them")
	case 1:
		return proto.CloneOf(found[0]), nil
	}
	return nil, console.Hint(console.Usagef("%d roles have a volume %q on agent %s", len(found), ref, agentName(a)), "ROLE/ID says which")
}

func destroyVolumes(x *call) error {
	a, err := x.cluster.FindAgent(x.ctx(), x.args[0])
	if err != nil {
		return err
	}
	var doomed []*mesos.Resource
	for _, ref := range x.args[1:] {
		v, err := findVolume(a, ref)
		if err != nil {
			return err
		}
		doomed = append(doomed, v)
	}
	if err := x.confirm("destroy volume %s on agent %s and the data in it", strings.Join(x.args[1:], ", "), agentName(a)); err != nil {
		return err
	}
	return console.Each(x.Env, doomed, func(v *mesos.Resource) string { return v.GetDisk().GetPersistence().GetId() }, func(v *mesos.Resource) error {
		_, err := x.cluster.Call(x.ctx(), &master.Call{
			Type:           master.Call_DESTROY_VOLUMES.Enum(),
			DestroyVolumes: &master.Call_DestroyVolumes{AgentId: a.GetAgentInfo().GetId(), Volumes: []*mesos.Resource{v}},
		})
		return x.done(err, "destroyed volume %s on %s", v.GetDisk().GetPersistence().GetId(), agentName(a))
	})
}

func resize(x *call, grow bool) error {
	mb, err := megabytes(x.args[2])
	if err != nil {
		return err
	}
	a, err := x.cluster.FindAgent(x.ctx(), x.args[0])
	if err != nil {
		return err
	}
	v, err := findVolume(a, x.args[1])
	if err != nil {
		return err
	}
	size := v.GetScalar().GetValue() + mb
	message := &master.Call{Type: master.Call_GROW_VOLUME.Enum()}
	if grow {
		addition := proto.CloneOf(v)
		addition.Scalar, addition.Shared, addition.Disk = &mesos.Value_Scalar{Value: &mb}, nil, nil
		if s := v.GetDisk().GetSource(); s != nil {
			addition.Disk = &mesos.Resource_DiskInfo{Source: s}
		}
		message.GrowVolume = &master.Call_GrowVolume{AgentId: a.GetAgentInfo().GetId(), Volume: v, Addition: addition}
	} else {
		size -= 2 * mb
		message.Type = master.Call_SHRINK_VOLUME.Enum()
		message.ShrinkVolume = &master.Call_ShrinkVolume{AgentId: a.GetAgentInfo().GetId(), Volume: v, Subtract: &mesos.Value_Scalar{Value: &mb}}
	}
	if err := x.confirm("change volume %s on agent %s from %s to %s MB", x.args[1], agentName(a), console.Number(v.GetScalar().GetValue()), console.Number(size)); err != nil {
		return err
	}
	_, err = x.cluster.Call(x.ctx(), message)
	return x.done(err, "volume %s has %s MB", x.args[1], console.Number(size))
}
