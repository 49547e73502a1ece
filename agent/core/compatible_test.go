package core_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"clusterd/agent/core"
	"clusterd/allocator/resources"
	clusterdv1 "clusterd/api/clusterd/v1"
	mesos "clusterd/api/mesos/v1"
)

func attribute(name, text string) *mesos.Attribute {
	return &mesos.Attribute{Name: &name, Type: mesos.Value_TEXT.Enum(), Text: &mesos.Value_Text{Value: &text}}
}

func levels(bounds ...uint64) *mesos.Attribute {
	r := &mesos.Value_Ranges{}
	for i := 0; i < len(bounds); i += 2 {
		r.Range = append(r.Range, &mesos.Value_Range{Begin: &bounds[i], End: &bounds[i+1]})
	}
	return &mesos.Attribute{Name: new("level"), Type: mesos.Value_RANGES.Enum(), Ranges: r}
}

func domainOf(zone string) *mesos.DomainInfo {
	return &mesos.DomainInfo{FaultDomain: &mesos.DomainInfo_FaultDomain{
		Region: &mesos.DomainInfo_FaultDomain_RegionInfo{Name: new("r")},
		Zone:   &mesos.DomainInfo_FaultDomain_ZoneInfo{Name: &zone},
	}}
}

func parsed(t *testing.T, text string) []*mesos.Resource {
	t.Helper()
	r, err := resources.Parse(text, "*")
	if err != nil {
		t.Fatal(err)
	}
	return r.Proto()
}

// TestReconfigurationPolicies changes one thing at a time, under each policy
// (src/slave/compatibility.cpp).
func TestReconfigurationPolicies(t *testing.T) {
	const all = "cpus:4;mem:100;ports:[1-9];disk:10"
	for _, tc := range []struct {
		name      string
		change    func(*mesos.AgentInfo)
		permitted string // policies, most strict first
		why       string // of those that are not
	}{
		{"nothing", func(*mesos.AgentInfo) {}, "equal additive any", ""},
		{"order of attributes", func(i *mesos.AgentInfo) { slices.Reverse(i.Attributes) }, "equal additive any", ""},
		{"order of resources", func(i *mesos.AgentInfo) { slices.Reverse(i.Resources) }, "equal additive any", ""},
		{"host name", func(i *mesos.AgentInfo) { i.Hostname = new("other") }, "any", `hostname was "h" and is "other"`},
		{"port", func(i *mesos.AgentInfo) { i.Port = new(int32(1)) }, "any", "port was 5051 and is 1"},
		{"more cpus", func(i *mesos.AgentInfo) { i.Resources = parsed(t, "cpus:5;mem:100;ports:[1-9];disk:10") }, "additive any", "resources were"},
		{"more kinds", func(i *mesos.AgentInfo) { i.Resources = parsed(t, all+";gpus:1") }, "additive any", "resources were"},
		{"more ports", func(i *mesos.AgentInfo) { i.Resources = parsed(t, "cpus:4;mem:100;ports:[1-20];disk:10") }, "additive any", "resources were"},
		{"fewer cpus", func(i *mesos.AgentInfo) { i.Resources = parsed(t, "cpus:3;mem:100;ports:[1-9];disk:10") }, "any", "resources"},
		{"fewer ports", func(i *mesos.AgentInfo) { i.Resources = parsed(t, "cpus:4;mem:100;ports:[1-8];disk:10") }, "any", "resources"},
		{"no disk", func(i *mesos.AgentInfo) { i.Resources = parsed(t, "cpus:4;mem:100;ports:[1-9]") }, "any", "resources"},
		{"reserved statically", func(i *mesos.AgentInfo) { i.Resources = parsed(t, "cpus(a):4;mem:100;ports:[1-9];disk:10") }, "any", "resources"},
		{"one more attribute", func(i *mesos.AgentInfo) { i.Attributes = append(i.Attributes, attribute("x", "y")) }, "additive any", "attributes were"},
		{"the same attribute twice", func(i *mesos.AgentInfo) { i.Attributes = append(i.Attributes, attribute("rack", "r1")) }, "additive any", "attributes were"},
		{"another attribute", func(i *mesos.AgentInfo) { i.Attributes[0] = attribute("rack", "r2") }, "any", "attribute"},
		{"no attribute", func(i *mesos.AgentInfo) { i.Attributes = nil }, "any", "attribute"},
		{"a wider attribute", func(i *mesos.AgentInfo) { i.Attributes[1] = levels(1, 6) }, "additive any", "attributes were"},
		{"an attribute in parts", func(i *mesos.AgentInfo) { i.Attributes[1] = levels(4, 5, 1, 3) }, "additive any", "attributes were"},
		{"a narrower attribute", func(i *mesos.AgentInfo) { i.Attributes[1] = levels(1, 4) }, "any", "attribute"},
		{"another zone", func(i *mesos.AgentInfo) { i.Domain = domainOf("z2") }, "any", "domain was"},
		{"no domain", func(i *mesos.AgentInfo) { i.Domain = nil }, "any", "domain was"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			before := &mesos.AgentInfo{
				Id: &mesos.AgentID{Value: new("S0")}, Hostname: new("h"), Port: new(int32(5051)), Resources: parsed(t, all),
				Attributes: []*mesos.Attribute{attribute("rack", "r1"), levels(1, 5)}, Domain: domainOf("z1"),
			}
			now := proto.CloneOf(before)
			now.Id = nil
			tc.change(now)
			for _, policy := range []string{"equal", "additive", "any"} {
				cfg := newWorld().cfg
				cfg.Info, cfg.ReconfigurationPolicy = now, policy
				c, err := core.New(cfg, &core.Checkpoint{Agent: before}, epoch)
				if slices.Contains(strings.Fields(tc.permitted), policy) {
					if err != nil {
						t.Errorf("%s: got %v, want it to be permitted", policy, err)
					} else if got := c.View().Info.GetId().GetValue(); got != "S0" {
						t.Errorf("%s: the agent is %q, want S0", policy, got)
					}
					continue
				}
				if !errors.Is(err, core.ErrIncompatible) || !strings.Contains(err.Error(), tc.why) {
					t.Errorf("%s: got %v, want a refusal that says %q", policy, err, tc.why)
				}
				cfg.Rebooted = true
				if c, err = core.New(cfg, &core.Checkpoint{Agent: before}, epoch); err != nil || c.View().Info.GetId() != nil {
					t.Errorf("%s, after a reboot: got %v, want a new agent", policy, err)
				}
			}
		})
	}
}

// TestDomainMayBeAdded is the one change of the domain that additive permits.
func TestDomainMayBeAdded(t *testing.T) {
	before := &mesos.AgentInfo{Id: &mesos.AgentID{Value: new("S0")}, Hostname: new("h")}
	now := &mesos.AgentInfo{Hostname: new("h"), Domain: domainOf("z")}
	for policy, want := range map[string]bool{"equal": false, "additive": true, "any": true} {
		cfg := newWorld().cfg
		cfg.Info, cfg.ReconfigurationPolicy = now, policy
		if _, err := core.New(cfg, &core.Checkpoint{Agent: before}, epoch); (err == nil) != want {
			t.Errorf("%s: got %v, want permitted: %v", policy, err, want)
		}
	}
}

// TestAnyChange moves an agent to another port with less than its task has: the
// task goes on, the operator is told, and the former port is served. What is
// reserved must fit even so.
func TestAnyChange(t *testing.T) {
	w := newWorld()
	for _, line := range []string{"new", "recovered", "up", "registered", "run task=t", "launched container=c1"} {
		w.line(line)
	}
	w.cfg.ReconfigurationPolicy = "any"
	w.cfg.Info = &mesos.AgentInfo{Hostname: new("h"), Port: new(int32(7)), Resources: parsed(t, "cpus:1;mem:64;disk:1000")}
	if out := w.line("crash"); out != "recover c1 of t\n" {
		t.Fatalf("got %q, want the container", out)
	}
	if got := w.core.FormerPorts(); !slices.Equal(got, []int32{5051}) {
		t.Errorf("former ports are %v, want 5051", got)
	}
	w.line("recovered")
	told := slices.ContainsFunc(w.raw, func(e core.Effect) bool {
		l, ok := e.(core.Log)
		return ok && l.Event == "resources_overcommitted" && l.Level == core.Warn
	})
	if !told {
		t.Error("nobody is told of the over-commitment")
	}
	// The next port: the executor still knows the first one only.
	for _, line := range []string{"subscribe executor=t", "up", "registered"} {
		w.line(line)
	}
	w.cfg.Info = &mesos.AgentInfo{Hostname: new("h"), Port: new(int32(8)), Resources: parsed(t, "cpus:9;mem:640;disk:1000")}
	w.line("crash")
	if got := w.core.FormerPorts(); !slices.Equal(got, []int32{5051}) {
		t.Errorf("former ports are %v, want 5051", got)
	}
	w.line("recovered")
	if slices.ContainsFunc(w.raw, func(e core.Effect) bool { l, ok := e.(core.Log); return ok && l.Event == "resources_overcommitted" }) {
		t.Error("over-committed, with more than is used")
	}

	reserved := proto.CloneOf(plain("disk", 500))
	reserved.Reservations = []*mesos.Resource_ReservationInfo{{Type: mesos.Resource_ReservationInfo_DYNAMIC.Enum(), Role: new("r")}}
	kept := &core.Checkpoint{
		Agent:     &mesos.AgentInfo{Id: &mesos.AgentID{Value: new("S0")}, Hostname: new("h"), Resources: parsed(t, "disk:1000")},
		Resources: &clusterdv1.ResourcesRecord{Resources: []*mesos.Resource{reserved}},
	}
	w.cfg.Info = &mesos.AgentInfo{Hostname: new("h"), Resources: parsed(t, "disk:400")}
	if _, err := core.New(w.cfg, kept, time.Unix(0, 0)); !errors.Is(err, core.ErrIncompatible) {
		t.Errorf("got %v, want a refusal: a reservation does not fit", err)
	}
}
