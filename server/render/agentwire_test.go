package render

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	"clusterd/allocator/resources"
	mesos "clusterd/api/mesos/v1"
	"clusterd/api/mesos/v1/master"
	"clusterd/api/mesosjson"
	"clusterd/internal/authz"
)

// randomResources are a few of all kinds.
func randomResources(rng *rand.Rand) resources.Resources {
	rv, _ := rareView()
	rare, _ := rv.Agents.Get("S0")
	var r resources.Resources
	for range rng.IntN(5) {
		part := resources.MustParse([]string{
			"cpus:0.5", "mem:128.125", "disk:32", "ports:[1-2,5-9]", "ports:[0-18446744073709551614]", "zones:{a,b}", "cpus(seen):1", "we\"ird:3",
		}[rng.IntN(8)])
		switch rng.IntN(5) {
		case 0:
			part = rare.Total // a volume, reserved
		case 1:
			part = resources.MustFromProto([]*mesos.Resource{reservation(roleMark), reservation("seen")})
		case 2:
			list := part.Proto()
			for _, p := range list {
				p.Revocable = &mesos.Resource_RevocableInfo{}
			}
			part = resources.MustFromProto(list)
		}
		if rng.IntN(2) == 0 {
			part = part.Allocate([]string{"seen", roleMark}[rng.IntN(2)])
		}
		r = r.Add(part)
	}
	return r
}

func TestAgentIsWhatItsMessageIs(t *testing.T) {
	rng := rand.New(rand.NewPCG(9, 10))
	some := viewerOf(t, hides("view_roles", "roles", roleMark), "p")
	for n := range 200 {
		rv, _ := rareView()
		a, _ := rv.Agents.Get("S0")
		a.Total, a.Used, a.Offered = randomResources(rng), randomResources(rng), randomResources(rng)
		a.Info.Resources = randomResources(rng).Proto()
		a.Version = fmt.Sprintf("1.%d", n)
		if rng.IntN(2) == 0 {
			a.DrainInfo, a.DrainStart, a.ReregisteredAt, a.Capabilities = nil, time.Time{}, time.Time{}, nil
		}
		a.Active, a.Deactivated = rng.IntN(2) == 0, rng.IntN(2) == 0
		for _, viewer := range []*authz.Viewer{nil, some} {
			message := AgentProto(a, viewer)
			want, err := mesosjson.Marshal(message)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), string(encodeAgent(JSON, nil, a, sight{viewer}))); diff != "" {
				t.Fatalf("agent %d, JSON: %s", n, diff)
			}
			var got master.Response_GetAgents_Agent
			if err := proto.Unmarshal(encodeAgent(Protobuf, nil, a, sight{viewer}), &got); err != nil {
				t.Fatalf("agent %d: %v", n, err)
			}
			if !proto.Equal(message, &got) {
				t.Fatalf("agent %d, protobuf: %s", n, cmp.Diff(message, &got, protocmp.Transform()))
			}
		}
	}
}
