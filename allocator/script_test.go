package allocator

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"

	"clusterd/allocator/resources"
	mesos "clusterd/api/mesos/v1"
)

// script runs the commands of a file in testdata; see testdata/README.
type script struct {
	t   *testing.T
	a   *hierarchical
	now time.Time
	// last holds the offers made and not returned, by framework and agent.
	last map[string]resources.Resources
}

func TestScripts(t *testing.T) {
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		if strings.HasSuffix(path, "README") {
			t.Skip("not a script")
		}
		s := &script{t: t, a: newHierarchical(DefaultOptions()), now: epoch, last: map[string]resources.Resources{}}
		datadriven.RunTest(t, path, s.run)
	})
}

func (s *script) run(t *testing.T, d *datadriven.TestData) string {
	arg := func(key string) string {
		var v string
		d.MaybeScanArgs(t, key, &v)
		return v
	}
	list := func(key string) []string {
		if v := arg(key); v != "" {
			return strings.Split(v, "|")
		}
		return nil
	}
	id := ""
	if len(d.CmdArgs) > 0 && len(d.CmdArgs[0].Vals) == 0 {
		id = d.CmdArgs[0].Key
	}
	switch d.Cmd {
	case "options":
		opts := DefaultOptions()
		opts.RoleSorter, opts.FrameworkSorter = arg("role_sorter"), arg("framework_sorter")
		opts.Placement = arg("placement")
		if v := arg("min"); v != "" {
			opts.MinAllocatable, _ = ParseMinAllocatable(v)
		}
		if v := arg("exclude"); v != "" {
			opts.FairnessExclude = strings.Split(v, "|")
		}
		if v := arg("region"); v != "" {
			opts.Domain = testDomain(v)
		}
		s.a, s.last = newHierarchical(opts), map[string]resources.Resources{}
	case "framework", "update-framework":
		f := Framework{
			Roles: list("roles"), Suppressed: list("suppressed"), Active: true, MultiRole: true,
			ReservationRefinement: !d.HasArg("no-refinement"), GPU: d.HasArg("gpu"), Shared: d.HasArg("shared"),
			Revocable: d.HasArg("revocable"), RegionAware: d.HasArg("region-aware"),
		}
		if v := arg("min"); v != "" {
			q, err := ParseMinAllocatable(v)
			if err != nil {
				return err.Error()
			}
			f.MinAllocatable = map[string][]resources.Quantities{f.Roles[0]: q}
		}
		if d.Cmd == "framework" {
			s.a.AddFramework(id, f, nil)
		} else {
			s.a.UpdateFramework(id, f)
		}
	case "agent", "update-agent":
		a := testAgent("")
		a.Hostname = id
		total, err := parseScript(d.Input)
		if err != nil {
			return err.Error()
		}
		a.Total = total
		a.HierarchicalRole = !d.HasArg("no-hierarchical-role")
		if v := arg("region"); v != "" {
			a.Domain = testDomain(v)
		}
		if v := arg("rack"); v != "" {
			a.Attributes = []*mesos.Attribute{{
				Name: new("rack"), Type: mesos.Value_TEXT.Enum(), Text: &mesos.Value_Text{Value: &v},
			}}
		}
		if d.Cmd == "agent" {
			s.a.AddAgent(id, a, nil)
		} else {
			s.a.UpdateAgent(id, a)
		}
	case "remove-framework":
		s.a.RemoveFramework(id)
	case "remove-agent":
		s.a.RemoveAgent(id)
	case "activate-agent":
		s.a.ActivateAgent(id)
	case "deactivate-agent":
		s.a.DeactivateAgent(id)
	case "activate-framework":
		s.a.ActivateFramework(id)
	case "deactivate-framework":
		s.a.DeactivateFramework(id)
	case "whitelist":
		if d.HasArg("none") {
			s.a.SetWhitelist(nil)
		} else {
			s.a.SetWhitelist(append([]string{}, list("hosts")...))
		}
	case "suppress":
		s.a.SuppressOffers(id, list("roles"))
	case "revive":
		s.a.ReviveOffers(id, list("roles"))
	case "weight":
		w, err := strconv.ParseFloat(arg("weight"), 64)
		if err != nil {
			return err.Error()
		}
		s.a.UpdateWeights(map[string]float64{id: w})
	case "quota":
		s.quota(id, arg("guarantees"), arg("limits"))
	case "start-recovery":
		s.a.StartRecovery()
	case "finish-recovery":
		s.a.FinishRecovery()
	case "decline":
		return s.decline(id, arg("agent"), arg("refuse"), arg("only"))
	case "later":
		wait, err := time.ParseDuration(id)
		if err != nil {
			return err.Error()
		}
		s.now = s.now.Add(wait)
	case "allocate":
		return s.offers(s.a.Allocate(s.now))
	case "allocate-all":
		return s.offers(s.a.AllocateAll(s.now))
	case "deadline":
		at, ok := s.a.NextDeadline()
		if !ok {
			return "none"
		}
		return at.Sub(s.now).String()
	case "describe":
		return s.a.describe()
	default:
		out, ok := s.more(d, id, arg("refuse"))
		if !ok {
			s.t.Fatalf("unknown command %q", d.Cmd)
		}
		return out
	}
	return ""
}

// parseScript reads resources as --resources has them, or a JSON list of any.
func parseScript(text string) (resources.Resources, error) {
	if strings.HasPrefix(text, "[") {
		return anyJSON(text)
	}
	return resources.Parse(text, "*")
}

func (s *script) quota(role, guarantees, limits string) {
	g, err := resources.ParseQuantities(strings.ReplaceAll(guarantees, "|", ";"))
	if err != nil {
		s.t.Fatal(err)
	}
	l, err := resources.ParseLimits(strings.ReplaceAll(limits, "|", ";"))
	if err != nil {
		s.t.Fatal(err)
	}
	if g.Empty() && l.Empty() {
		s.a.UpdateQuota(role, nil)
		return
	}
	s.a.UpdateQuota(role, &Quota{Guarantees: g, Limits: l})
}

// decline returns what a framework was offered on an agent, or a part of it.
func (s *script) decline(framework, agent, refuse, only string) string {
	key := framework + " " + agent
	r := s.last[key]
	if only != "" {
		r = r.Get(only)
	}
	if r.Empty() {
		return "nothing to decline"
	}
	s.last[key] = s.last[key].Sub(r)
	var f *Filter
	if refuse != "" {
		d, err := time.ParseDuration(refuse)
		if err != nil {
			return err.Error()
		}
		f = &Filter{RefuseFor: d}
	}
	s.a.RecoverResources(s.now, framework, agent, r, f)
	return ""
}

func (s *script) offers(a Allocation) string {
	if len(a.Offers) == 0 {
		return "no offers\n"
	}
	var b strings.Builder
	for _, o := range a.Offers {
		key := o.FrameworkID + " " + o.AgentID
		s.last[key] = s.last[key].Add(o.Resources)
		fmt.Fprintf(&b, "%s %s %s: %s\n", o.FrameworkID, o.Role, o.AgentID, o.Resources.Unallocate())
	}
	return b.String()
}
