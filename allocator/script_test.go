package allocator

import (
	"fmt"
	"slices"
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
	a   *hierarchical
	now time.Time
	// held is what was offered, or in use from the start, and not returned, by
	// framework and agent. It carries the allocation role.
	held map[string]resources.Resources
}

func TestScripts(t *testing.T) {
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		if strings.HasSuffix(path, "README") || strings.HasSuffix(path, ".fail") {
			t.Skip("not a script")
		}
		if strings.HasPrefix(path, "testdata/sorter/") {
			runSorterScript(t, path)
			return
		}
		s := &script{}
		s.reset(DefaultOptions())
		datadriven.RunTest(t, path, s.run)
	})
}

func (s *script) reset(opts Options) {
	s.a, s.now, s.held = newHierarchical(opts), epoch, map[string]resources.Resources{}
}

// scriptCommands are the commands of a script. Those with much to do are
// functions further down, or in files of their own.
var scriptCommands = map[string]func(*script, *command) string{
	"options":          (*script).options,
	"framework":        (*script).framework,
	"update-framework": (*script).framework,
	"remove-framework": func(s *script, c *command) string {
		s.a.RemoveFramework(c.id)
		s.forget(func(framework, _ string) bool { return framework == c.id })
		return ""
	},
	"activate-framework":   func(s *script, c *command) string { s.a.ActivateFramework(c.id); return "" },
	"deactivate-framework": func(s *script, c *command) string { s.a.DeactivateFramework(c.id); return "" },
	"suppress":             func(s *script, c *command) string { s.a.SuppressOffers(c.id, c.list("roles")); return "" },
	"revive":               func(s *script, c *command) string { s.a.ReviveOffers(c.id, c.list("roles")); return "" },
	"request":              (*script).request,

	"agent":        (*script).agent,
	"update-agent": (*script).agent,
	"remove-agent": func(s *script, c *command) string {
		s.a.RemoveAgent(c.id)
		s.forget(func(_, agent string) bool { return agent == c.id })
		return ""
	},
	"activate-agent":   func(s *script, c *command) string { s.a.ActivateAgent(c.id); return "" },
	"deactivate-agent": func(s *script, c *command) string { s.a.DeactivateAgent(c.id); return "" },
	"whitelist": func(s *script, c *command) string {
		if c.id == "none" {
			s.a.SetWhitelist(nil)
			return ""
		}
		s.a.SetWhitelist(append([]string{}, c.list("hosts")...))
		return ""
	},

	"quota": (*script).quota,
	"weight": func(s *script, c *command) string {
		s.a.UpdateWeights(map[string]float64{c.id: c.float("weight")})
		return ""
	},
	"start-recovery":  func(s *script, _ *command) string { s.a.StartRecovery(); return "" },
	"finish-recovery": func(s *script, _ *command) string { s.a.FinishRecovery(); return "" },

	"decline":     (*script).decline,
	"decline-all": (*script).declineAll,
	"convert":     (*script).convert,
	"available":   (*script).available,

	"later":        func(s *script, c *command) string { s.now = s.now.Add(c.duration(c.id)); return "" },
	"allocate":     func(s *script, c *command) string { return s.offers(c, s.a.Allocate(s.now)) },
	"allocate-all": func(s *script, c *command) string { return s.offers(c, s.a.AllocateAll(s.now)) },
	"totals":       func(s *script, _ *command) string { return s.totals(s.a.Allocate(s.now)) },
	"totals-all":   func(s *script, _ *command) string { return s.totals(s.a.AllocateAll(s.now)) },
	"deadline": func(s *script, _ *command) string {
		at, ok := s.a.NextDeadline()
		if !ok {
			return "none"
		}
		return at.Sub(s.now).String()
	},
	"describe": func(s *script, _ *command) string { return s.a.describe() },
	"shares": func(s *script, _ *command) string {
		var b strings.Builder
		s.a.describeNode(&b, s.a.root, 0)
		return b.String()
	},
}

func (s *script) run(t *testing.T, d *datadriven.TestData) string {
	f := scriptCommands[d.Cmd]
	if f == nil {
		d.Fatalf(t, "unknown command %q", d.Cmd)
	}
	c := newCommand(t, d)
	out := f(s, c)
	c.finish()
	return out
}

// command is one command of a script. What it says and nobody reads is an error,
// lest a misspelt argument make a script that cannot fail.
type command struct {
	t  *testing.T
	d  *datadriven.TestData
	id string // the word after the command's name, if it has no value
	// read are the arguments asked for, and the input.
	read      map[string]bool
	inputRead bool
}

func newCommand(t *testing.T, d *datadriven.TestData) *command {
	c := &command{t: t, d: d, read: map[string]bool{}}
	if len(d.CmdArgs) > 0 && len(d.CmdArgs[0].Vals) == 0 {
		c.id = d.CmdArgs[0].Key
		c.read[c.id] = true
	}
	return c
}

func (c *command) finish() {
	for _, a := range c.d.CmdArgs {
		if !c.read[a.Key] {
			c.fatalf("%s does not know %q", c.d.Cmd, a.Key)
		}
	}
	if c.d.Input != "" && !c.inputRead {
		c.fatalf("%s takes no input", c.d.Cmd)
	}
}

func (c *command) fatalf(format string, args ...any) { c.d.Fatalf(c.t, format, args...) }

func (c *command) check(err error) {
	if err != nil {
		c.fatalf("%v", err)
	}
}

func (c *command) has(key string) bool {
	c.read[key] = true
	return c.d.HasArg(key)
}

func (c *command) arg(key string) string {
	if !c.has(key) {
		return ""
	}
	var v string
	c.d.ScanArgs(c.t, key, &v)
	return v
}

func (c *command) list(key string) []string {
	if v := c.arg(key); v != "" {
		return strings.Split(v, "|")
	}
	return nil
}

func (c *command) float(key string) float64 {
	v, err := strconv.ParseFloat(c.arg(key), 64)
	c.check(err)
	return v
}

func (c *command) duration(text string) time.Duration {
	d, err := time.ParseDuration(text)
	c.check(err)
	return d
}

// filter is what refuse= says; nil if it is not there.
func (c *command) filter() *Filter {
	if !c.has("refuse") {
		return nil
	}
	return &Filter{RefuseFor: c.duration(c.arg("refuse"))}
}

func (c *command) lines() []string {
	c.inputRead = true
	if c.d.Input == "" {
		return nil
	}
	return strings.Split(c.d.Input, "\n")
}

// resources reads lines of resources; see testdata/README.
func (c *command) resources(lines []string) resources.Resources {
	var sum resources.Resources
	for _, line := range lines {
		r, err := parseScript(line)
		c.check(err)
		sum = sum.Add(r)
	}
	return sum
}

// used takes the lines that begin with "used" out: what is in use, by framework
// or agent.
func (c *command) used() (used map[string]resources.Resources, rest []string) {
	for _, line := range c.lines() {
		text, ok := strings.CutPrefix(line, "used ")
		if !ok {
			rest = append(rest, line)
			continue
		}
		head, text, _ := strings.Cut(text, ": ")
		id, role, ok := strings.Cut(head, " ")
		if !ok {
			c.fatalf("want \"used ID ROLE: RESOURCES\", got %q", line)
		}
		if used == nil {
			used = map[string]resources.Resources{}
		}
		used[id] = used[id].Add(c.resources([]string{text}).Allocate(role))
	}
	return used, rest
}

func (s *script) options(c *command) string {
	opts := DefaultOptions()
	opts.RoleSorter, opts.FrameworkSorter = c.arg("role_sorter"), c.arg("framework_sorter")
	opts.Placement = c.arg("placement")
	opts.FairnessExclude = c.list("exclude")
	opts.FilterGPUResources = !c.has("no-gpu-filter")
	if c.has("min") {
		var err error
		opts.MinAllocatable, err = ParseMinAllocatable(c.arg("min"))
		c.check(err)
	}
	if v := c.arg("region"); v != "" {
		opts.Domain = testDomain(v)
	}
	if v := c.arg("interval"); v != "" {
		opts.Interval = c.duration(v)
	}
	if c.has("seed") {
		opts.Seed = uint64(c.float("seed"))
	}
	s.reset(opts)
	return ""
}

func (s *script) framework(c *command) string {
	f := Framework{
		Roles: c.list("roles"), Suppressed: c.list("suppressed"),
		Active: !c.has("inactive"), MultiRole: !c.has("no-multi-role"),
		ReservationRefinement: !c.has("no-refinement"), GPU: c.has("gpu"), Shared: c.has("shared"),
		Revocable: c.has("revocable"), RegionAware: c.has("region-aware"),
	}
	if c.has("min") {
		q, err := ParseMinAllocatable(c.arg("min"))
		c.check(err)
		f.MinAllocatable = map[string][]resources.Quantities{f.Roles[0]: q}
	}
	if c.d.Cmd == "update-framework" {
		s.a.UpdateFramework(c.id, f)
		return ""
	}
	used, rest := c.used()
	if len(rest) > 0 {
		c.fatalf("what is %q?", rest)
	}
	for agent, r := range used {
		s.uses(c.id, agent, r)
	}
	s.a.AddFramework(c.id, f, used)
	return ""
}

func (s *script) agent(c *command) string {
	used, rest := c.used()
	a := Agent{
		Hostname: c.id, Total: c.resources(rest), Active: !c.has("inactive"),
		MultiRole: !c.has("no-multi-role"), HierarchicalRole: !c.has("no-hierarchical-role"),
	}
	a.Unavailability = c.unavailability("unavailable")
	if v := c.arg("region"); v != "" {
		a.Domain = testDomain(v)
	}
	if v := c.arg("rack"); v != "" {
		a.Attributes = []*mesos.Attribute{{
			Name: new("rack"), Type: mesos.Value_TEXT.Enum(), Text: &mesos.Value_Text{Value: &v},
		}}
	}
	if c.d.Cmd == "update-agent" {
		if used != nil {
			c.fatalf("update-agent takes no use")
		}
		s.a.UpdateAgent(c.id, a)
		return ""
	}
	for framework, r := range used {
		s.uses(framework, c.id, r)
	}
	s.a.AddAgent(c.id, a, used)
	return ""
}

// request notes the needs of a framework, one a line: "cpus:1" or "on AGENT cpus:1".
func (s *script) request(c *command) string {
	var requests []*mesos.Request
	for _, line := range c.lines() {
		r := &mesos.Request{}
		if rest, ok := strings.CutPrefix(line, "on "); ok {
			var agent string
			agent, line, _ = strings.Cut(rest, " ")
			r.AgentId = &mesos.AgentID{Value: &agent}
		}
		if line != "" {
			r.Resources = c.resources([]string{line}).Proto()
		}
		requests = append(requests, r)
	}
	s.a.RequestResources(c.id, requests)
	return ""
}

// quota sets guarantees and limits, or by both= the same for both.
func (s *script) quota(c *command) string {
	text := func(key string) string {
		return strings.ReplaceAll(c.arg("both")+c.arg(key), "|", ";")
	}
	g, err := resources.ParseQuantities(text("guarantees"))
	c.check(err)
	l, err := resources.ParseLimits(text("limits"))
	c.check(err)
	if g.Empty() && l.Empty() {
		s.a.UpdateQuota(c.id, nil)
		return ""
	}
	s.a.UpdateQuota(c.id, &Quota{Guarantees: g, Limits: l})
	return ""
}

func heldKey(framework, agent string) string { return framework + " " + agent }

// uses notes what is in use when a framework or an agent comes. Both may say so.
func (s *script) uses(framework, agent string, r resources.Resources) {
	if key := heldKey(framework, agent); s.held[key].Empty() {
		s.held[key] = r
	}
}

func (s *script) forget(gone func(framework, agent string) bool) {
	for key := range s.held {
		if framework, agent, _ := strings.Cut(key, " "); gone(framework, agent) {
			delete(s.held, key)
		}
	}
}

// holdings is what the command is about: the framework's on agent=, of role= if
// that is named.
func (s *script) holdings(c *command) resources.Resources {
	r := s.held[heldKey(c.id, c.arg("agent"))]
	if c.has("role") {
		r = r.OfRole(c.arg("role"))
	}
	return r
}

// roleOf is the role of the holdings, which must be in one only.
func (s *script) roleOf(c *command) string {
	roles := s.holdings(c).Allocations()
	if len(roles) != 1 {
		c.fatalf("%s holds resources on %s in %d roles: name one", c.id, c.arg("agent"), len(roles))
	}
	return roles[0].Role
}

// decline returns what a framework holds on an agent, or the part of it that is
// named by role=, only= or the input.
func (s *script) decline(c *command) string {
	r := s.holdings(c)
	if only := c.arg("only"); only != "" {
		r = r.Get(only)
	}
	if lines := c.lines(); len(lines) > 0 {
		r = c.resources(lines).Allocate(s.roleOf(c))
	}
	if r.Empty() {
		return "nothing to decline"
	}
	s.convertHeld(c, r, resources.Resources{})
	s.a.RecoverResources(s.now, c.id, c.arg("agent"), r, c.filter())
	return ""
}

func (s *script) convertHeld(c *command, consumed, converted resources.Resources) {
	key := heldKey(c.id, c.arg("agent"))
	left, ok := s.held[key].SubChecked(consumed)
	if !ok {
		c.fatalf("%s holds %s on %s, which is without %s", c.id, s.held[key], c.arg("agent"), consumed)
	}
	s.held[key] = left.Add(converted)
}

// conversion reads what is consumed and, below a line "->", what it turns into.
func (c *command) conversion() (consumed, converted resources.Resources) {
	lines := c.lines()
	at := slices.Index(lines, "->")
	if at < 0 {
		c.fatalf("%s wants a line ->", c.d.Cmd)
	}
	return c.resources(lines[:at]), c.resources(lines[at+1:])
}

// convert applies an operation of a framework on what it holds.
func (s *script) convert(c *command) string {
	consumed, converted := c.conversion()
	role := s.roleOf(c)
	consumed, converted = consumed.Allocate(role), converted.Allocate(role)
	s.convertHeld(c, consumed, converted)
	s.a.UpdateAllocation(c.id, c.arg("agent"), consumed, converted)
	return ""
}

// available applies an operation of an operator on what is free.
func (s *script) available(c *command) string {
	if consumed, converted := c.conversion(); !s.a.UpdateAvailable(c.id, consumed, converted) {
		return "not enough is free"
	}
	return ""
}

// hold notes what was offered.
func (s *script) hold(a Allocation) {
	for _, o := range a.Offers {
		key := heldKey(o.FrameworkID, o.AgentID)
		s.held[key] = s.held[key].Add(o.Resources)
	}
}

// offers prints a run's outcome; sorted: not in the order of the decisions.
func (s *script) offers(c *command, a Allocation) string {
	s.hold(a)
	var lines []string
	for _, o := range a.Offers {
		lines = append(lines, fmt.Sprintf("%s %s %s: %s\n", o.FrameworkID, o.Role, o.AgentID, o.Resources.Unallocate()))
	}
	if c.has("sorted") || c.id == "sorted" {
		slices.Sort(lines)
	}
	if len(lines) == 0 {
		return "no offers\n" + inverse(a)
	}
	return strings.Join(lines, "") + inverse(a)
}
