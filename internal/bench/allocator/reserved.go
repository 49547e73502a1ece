package main

import (
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"

	"clusterd/allocator"
	"clusterd/allocator/resources"
	mesos "clusterd/api/mesos/v1"
)

// reserve puts a dynamic reservation with labels on resources.
func reserve(r resources.Resources, role string, labels *mesos.Labels) resources.Resources {
	out, err := r.PushReservation(resources.Reservation{
		Dynamic: true, Role: role, HasPrincipal: true, Principal: "principal", Labels: labels,
	}.Proto())
	if err != nil {
		panic(fmt.Sprintf("reserve %s: %v", r, err))
	}
	return out
}

// labelled is twelve labels of which the last alone tells it from others, the
// worst case for comparing them.
func labelled(last, value string) *mesos.Labels {
	out := &mesos.Labels{}
	for i := range 11 {
		out.Labels = append(out.Labels, &mesos.Label{Key: new(fmt.Sprint("key", i)), Value: new(fmt.Sprint("value", i))})
	}
	out.Labels = append(out.Labels, &mesos.Label{Key: &last, Value: &value})
	return out
}

// resourceLabels is Mesos's ResourceLabels: DeclineOffers with two reservations
// of 8 cpus on each agent, which no two agents have in common. In Mesos's code
// the labels of the second end up on the first, and the agents' totals lack
// both; here it is as its comments say.
func resourceLabels(r *runner) error {
	const bench = "ResourceLabels"
	for _, s := range r.grid(size{10000, 1000}) {
		reservations := make([]resources.Resources, s.agents)
		for i := range reservations {
			cpus := resources.MustParse("cpus:8")
			reservations[i] = reserve(cpus, "role1", labelled("unique_key_1", fmt.Sprint("value_", i))).
				Add(reserve(cpus, "role1", labelled("unique_key_2", fmt.Sprint("value_", i))))
		}
		rest := resources.MustParse("cpus:8;mem:4096;disk:4096;ports:[31000-32000]")
		used := resources.MustParse("mem:2014;disk:1024;" + fragments(31000, 32000, 16))
		c := newCluster(allocator.SorterDRF)
		c.addFrameworks(s.frameworks, framework("role1"))
		added, offers := c.addAgentsAtOnce(s.agents,
			func(i int) resources.Resources { return rest.Add(reservations[i]) },
			func(i int) resources.Resources { return used.Add(reservations[i]).Allocate("role1") })
		if err := wantWhole(offers, s.agents, freeCPUs); err != nil {
			return fmt.Errorf("%s: %w", s, err)
		}
		declines, rounds, _, err := r.declineRounds(c, s, offers)
		if err != nil {
			return fmt.Errorf("%s: %w", s, err)
		}
		r.add(bench, s.String(), whatAddAtOnce, []time.Duration{added}, "with one Allocate")
		r.add(bench, s.String(), whatRound, rounds, fmt.Sprintf("%d rounds", len(rounds)))
		r.add(bench, s.String(), whatDeclines, declines, "")
	}
	return nil
}

// persistentVolumes is Mesos's PersistentVolumes: six rounds with agents that
// have a volume of their own each, which is shared on none, all or every second.
// What is in use is in use by role test; in Mesos's code it is by *, which
// resources reserved for test cannot be.
func persistentVolumes(r *runner) error {
	isShared := map[string]func(i int) bool{
		"regular": func(int) bool { return false },
		"shared":  func(int) bool { return true },
		"mixed":   func(i int) bool { return i%2 == 0 },
	}
	for _, s := range r.grid(size{10000, 1000}) {
		for _, kind := range []string{"regular", "shared", "mixed"} {
			if err := r.volumesCell(s, kind, isShared[kind]); err != nil {
				return fmt.Errorf("%s, %s: %w", s, kind, err)
			}
		}
	}
	return nil
}

func (r *runner) volumesCell(s size, kind string, isShared func(i int) bool) error {
	const bench = "PersistentVolumes"
	total := resources.MustParse("cpus(test):24;mem(test):4096;disk(test):3072;ports(test):[31000-32000]")
	used := resources.MustParse("cpus(test):16;mem(test):1024;disk(test):1024;ports(test)" +
		fragments(31000, 32000, 16)[len("ports"):]).Allocate("test")
	info := framework("test")
	info.Shared = kind != "regular"
	c := newCluster(allocator.SorterDRF)
	frameworks := c.addFrameworks(s.frameworks, info)
	added, offers := c.addAgentsAtOnce(s.agents, func(i int) resources.Resources { return total.Add(volume(i, isShared(i))) }, always(used))
	var returns, rounds []time.Duration
	for range 6 {
		returns = append(returns, c.recoverAll(offers, nil))
		var took time.Duration
		took, offers = c.round()
		if err := wantWhole(offers, s.agents, freeCPUs); err != nil {
			return err
		}
		for i := range offers {
			if got := len(offers[i].Resources.PersistentVolumes().Names()); got != 1 {
				return fmt.Errorf("offer of %s has %d volumes, want 1: %s", offers[i].AgentID, got, offers[i].Resources)
			}
		}
		rounds = append(rounds, took)
	}
	params := s.String() + ", " + kind
	r.add(bench, params, whatFrameworks, []time.Duration{frameworks}, "")
	r.add(bench, params, whatAddAtOnce, []time.Duration{added}, "with one Allocate")
	r.add(bench, params, whatRound, rounds, "6 rounds")
	r.add(bench, params, "returns of a round (RecoverResources)", returns, "Mesos does not count them either")
	return nil
}

// volume is the persistent volume of the i-th agent.
func volume(i int, shared bool) resources.Resources {
	v := &mesos.Resource{
		Name: new("disk"), Type: mesos.Value_SCALAR.Enum(), Scalar: &mesos.Value_Scalar{Value: proto.Float64(1024)},
		Reservations: []*mesos.Resource_ReservationInfo{resources.Reservation{Role: "test"}.Proto()},
		Disk: &mesos.Resource_DiskInfo{
			Persistence: &mesos.Resource_DiskInfo_Persistence{Id: new(fmt.Sprint("id", i))},
			Volume: &mesos.Volume{
				ContainerPath: new(fmt.Sprint("path", i)), Mode: mesos.Volume_RW.Enum(),
			},
		},
	}
	if shared {
		v.Shared = &mesos.Resource_SharedInfo{}
	}
	return resources.MustFromProto([]*mesos.Resource{v})
}

// updateAllocation is Mesos's UpdateAllocation: one agent on which every role
// has four reservations with a label; one framework unreserves its own and
// reserves them again, twenty times.
func updateAllocation(r *runner) error {
	roles := []int{50, 100, 200}
	if r.scale == tiny {
		roles = []int{5}
	}
	for _, n := range roles {
		if err := r.updateCell(n); err != nil {
			return fmt.Errorf("%d roles: %w", n, err)
		}
	}
	return nil
}

func (r *runner) updateCell(roles int) error {
	state := uint64(1)
	letters := func() string { // random enough, and the same every time
		b := make([]byte, 36)
		for i := range b {
			state = state*6364136223846793005 + 1442695040888963407
			b[i] = 'a' + byte(state>>33%26)
		}
		return string(b)
	}
	c := newCluster(allocator.SorterDRF)
	var total resources.Resources
	used := make(map[string]resources.Resources)
	for i := range roles {
		role := "role-" + letters()
		var own resources.Resources
		for _, text := range []string{"cpus:100", "mem:100", "disk:100", "ports:[2-2]"} {
			own = own.Add(reserve(resources.MustParse(text), role, &mesos.Labels{
				Labels: []*mesos.Label{{Key: new("Label"), Value: new(letters())}},
			}))
		}
		id := fmt.Sprint("framework", i)
		c.AddFramework(id, framework(role), nil)
		used[id] = unshared(own.Allocate(role))
		total = total.Add(own)
	}
	c.AddAgent("agent0", agent("agent0", total), used)
	const looping = "framework0"
	reserved := used[looping]
	free := reserved.ToUnreserved()
	took := timed(func() {
		for range 20 {
			c.UpdateAllocation(looping, "agent0", reserved, free)
			c.UpdateAllocation(looping, "agent0", free, reserved)
		}
	})
	params := fmt.Sprintf("%d roles", roles)
	note := fmt.Sprintf("%d resources on the agent", total.Len())
	r.add("UpdateAllocation", params, whatUpdates, []time.Duration{took}, note)

	// What was unreserved and reserved is what its role may be offered at last.
	c.RecoverResources(c.now, looping, "agent0", reserved, nil)
	offers := c.Allocate(c.now).Offers
	if len(offers) != 1 || offers[0].FrameworkID != looping || !offers[0].Resources.Equal(reserved) {
		return fmt.Errorf("got offers %v, want %s for %s", offers, reserved, looping)
	}
	return nil
}
