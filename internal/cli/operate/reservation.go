package operate

import (
	"fmt"
	"strings"

	cliv2 "github.com/urfave/cli/v2"
	"google.golang.org/protobuf/proto"

	"clusterd/allocator/resources"
	mesos "clusterd/api/mesos/v1"
	"clusterd/api/mesos/v1/master"
	"clusterd/internal/cli/console"
)

func reservationCommand(e console.Env) *cliv2.Command {
	labelFlag := &cliv2.StringSliceFlag{Name: "label", Usage: "a `KEY=VALUE` that tells reservations apart; repeatable"}
	roleFlag := &cliv2.StringFlag{Name: "role", Usage: "`ROLE` that they are reserved for"}
	return noun("reservation", "look at reserved resources of agents, and change them",
		&cliv2.Command{
			Name: "list", Aliases: []string{"ls"}, Usage: "list reservations", Flags: console.OutputFlags(),
			Action: connected(e, 0, 0, listReservations),
		},
		&cliv2.Command{
			Name: "add", Usage: "reserve resources of an agent for a role", ArgsUsage: "AGENT RESOURCES",
			Description: "RESOURCES are written as for --resources: \"cpus:2;mem:1024;ports:[31000-31009]\". They must be\n" +
				"unused; offers that hold them are taken back.",
			Flags:  console.Flags(roleFlag, labelFlag, console.YesFlag()),
			Action: connected(e, 2, 2, func(x *call) error { return reserve(x, true) }),
		},
		&cliv2.Command{
			Name: "remove", Aliases: []string{"rm"}, Usage: "give reserved resources of an agent back to all roles", ArgsUsage: "AGENT RESOURCES",
			Flags:  console.Flags(roleFlag, labelFlag, console.YesFlag()),
			Action: connected(e, 2, 2, func(x *call) error { return reserve(x, false) }),
		},
	)
}

// reservationOf is the last reservation of a resource, nil without one.
func reservationOf(r *mesos.Resource) *mesos.Resource_ReservationInfo {
	if n := len(r.GetReservations()); n > 0 {
		return r.GetReservations()[n-1]
	}
	return nil
}

func listReservations(x *call) error {
	res, err := x.cluster.Ask(x.ctx(), master.Call_GET_AGENTS)
	if err != nil {
		return err
	}
	t := &console.Table{
		Header: []string{"AGENT", "HOST", "ROLE", "KIND", "RESOURCES"},
		Wide:   []string{"PRINCIPAL", "LABELS", "VOLUME"},
	}
	items := []any{}
	for _, a := range res.GetGetAgents().GetAgents() {
		for _, r := range a.GetTotalResources() {
			info := reservationOf(r)
			if info == nil {
				continue
			}
			t.Add(agentID(a), a.GetAgentInfo().GetHostname(), info.GetRole(), strings.ToLower(info.GetType().String()), bare(r),
				info.GetPrincipal(), labels(info.GetLabels()), r.GetDisk().GetPersistence().GetId())
			item, err := object(map[string]any{"agent_id": agentID(a), "hostname": a.GetAgentInfo().GetHostname()}, "resource", r)
			if err != nil {
				return err
			}
			items = append(items, item)
		}
	}
	t.Items = items
	return x.print(t)
}

// bare writes a resource without its reservations.
func bare(r *mesos.Resource) string {
	plain := &mesos.Resource{Name: r.Name, Type: r.Type, Scalar: r.Scalar, Ranges: r.Ranges, Set: r.Set}
	return strings.TrimPrefix(resources.Text(plain), "unreserved ")
}

// parseResources reads resources of the command line.
func parseResources(text string) ([]*mesos.Resource, error) {
	rs, err := resources.Parse(text, "*")
	if err != nil {
		return nil, console.Hint(console.Usagef("resources %q: %w", text, err), `"cpus:2;mem:1024"`)
	}
	if rs.Empty() {
		return nil, console.Usagef("no resources in %q", text)
	}
	return rs.Proto(), nil
}

// parseLabels reads KEY=VALUE texts, nil of none.
func parseLabels(texts []string) (*mesos.Labels, error) {
	if len(texts) == 0 {
		return nil, nil
	}
	out := &mesos.Labels{}
	for _, text := range texts {
		k, v, ok := strings.Cut(text, "=")
		if !ok || k == "" {
			return nil, console.Usagef("--label %q is not KEY=VALUE", text)
		}
		out.Labels = append(out.Labels, &mesos.Label{Key: &k, Value: &v})
	}
	return out, nil
}

// reserve makes reservations, or takes them away: those that the agent has are matched by
// role, labels and name, since a principal need not be known.
func reserve(x *call, add bool) error {
	role, err := x.needed("role")
	if err != nil {
		return err
	}
	if err := resources.ValidateRole(role); err != nil {
		return console.Usagef("--role: %w", err)
	}
	rs, err := parseResources(x.args[1])
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
	text := strings.TrimSpace(x.args[1])
	if !add {
		if rs, err = reservedOn(a, rs, role, tags); err != nil {
			return err
		}
		if err := x.confirm("give %s of agent %s, reserved for %s, back to all roles", text, agentName(a), role); err != nil {
			return err
		}
		_, err = x.cluster.Call(x.ctx(), &master.Call{
			Type:               master.Call_UNRESERVE_RESOURCES.Enum(),
			UnreserveResources: &master.Call_UnreserveResources{AgentId: a.GetAgentInfo().GetId(), Resources: rs},
		})
		return x.done(err, "unreserved %s of %s", text, agentName(a))
	}
	for _, r := range rs {
		info := &mesos.Resource_ReservationInfo{Type: mesos.Resource_ReservationInfo_DYNAMIC.Enum(), Role: &role, Labels: tags}
		if p := x.cluster.Principal(); p != "" {
			info.Principal = &p
		}
		r.Role, r.Reservations = nil, []*mesos.Resource_ReservationInfo{info}
	}
	if err := x.confirm("reserve %s of agent %s for role %s", text, agentName(a), role); err != nil {
		return err
	}
	_, err = x.cluster.Call(x.ctx(), &master.Call{
		Type:             master.Call_RESERVE_RESOURCES.Enum(),
		ReserveResources: &master.Call_ReserveResources{AgentId: a.GetAgentInfo().GetId(), Resources: rs},
	})
	return x.done(err, "reserved %s of %s for %s", text, agentName(a), role)
}

// reservedOn turns plain amounts into those that an agent has reserved for a role.
func reservedOn(a *agentInfo, want []*mesos.Resource, role string, tags *mesos.Labels) ([]*mesos.Resource, error) {
	var out []*mesos.Resource
	for _, w := range want {
		var found []*mesos.Resource
		for _, r := range a.GetTotalResources() {
			info := reservationOf(r)
			if info.GetType() != mesos.Resource_ReservationInfo_DYNAMIC || info.GetRole() != role || r.GetName() != w.GetName() || r.GetDisk().GetPersistence() != nil {
				continue
			}
			if tags == nil || proto.Equal(tags, info.GetLabels()) {
				found = append(found, r)
			}
		}
		switch len(found) {
		case 0:
			return nil, console.Hint(console.Mark(console.ErrNotFound, fmt.Errorf("agent %s has no %s reserved for %s", agentName(a), w.GetName(), role)), "clusterd reservation list shows what is")
		case 1:
		default:
			return nil, console.Hint(console.Usagef("agent %s has %d reservations of %s for %s", agentName(a), len(found), w.GetName(), role), "--label says which")
		}
		r := proto.CloneOf(found[0])
		r.Scalar, r.Ranges, r.Set = w.Scalar, w.Ranges, w.Set
		out = append(out, r)
	}
	return out, nil
}
