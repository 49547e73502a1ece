package allocator

import (
	"errors"
	"fmt"
	"regexp"
	"regexp/syntax"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	mesos "clusterd/api/mesos/v1"
	"clusterd/api/mesos/v1/scheduler"
)

// regexTexts are what the patterns of re2Verdicts were matched with.
var regexTexts = []string{
	"", "a", "ab", "foo", "aaa", "host1", "rack-12", "K", "ä", "日", "a.b", "x0x", "AbC", "0123", "\n", "a\nb",
}

// re2Verdicts are the answers of the RE2 that Mesos is built with (2020-07-06) under
// the limits that are Mesos's defaults: what is wrong, or which of regexTexts match.
var re2Verdicts = []struct{ pattern, verdict string }{
	{`(`, "missing ): ("},
	{`)`, "unexpected ): )"},
	{`[a`, "missing ]: [a"},
	{`a**`, "bad repetition operator: **"},
	{`*a`, "no argument for repetition operator: *"},
	{`+`, "no argument for repetition operator: +"},
	{`|*`, "no argument for repetition operator: *"},
	{`a{2,1}`, "invalid repetition size: {2,1}"},
	{`a{1001}`, "invalid repetition size: {1001}"},
	{`(a{500}){3}`, "invalid repetition size: {3}"},
	{`x{1000}{1000}`, "bad repetition operator: {1000}{1000}"},
	{`\8`, `invalid escape sequence: \8`},
	{`\Z`, `invalid escape sequence: \Z`},
	{`\E`, `invalid escape sequence: \E`},
	{`(?x)a`, "invalid perl operator: (?x"},
	{`(?=a)`, "invalid perl operator: (?="},
	{`(?:`, "missing ): (?:"},
	{`(?i`, "invalid perl operator: (?i"},
	{`(?P<n`, "invalid named capture group: (?P<n"},
	{`(?P<n>a)(?P<n>b)`, "0010000000000000"},
	{`[b-a]`, "invalid character class range: b-a"},
	{`[[:foo:]]`, "invalid character class range: [:foo:]"},
	{`\pX`, `invalid character class range: \pX`},
	{`\p{Foo}`, `invalid character class range: \p{Foo}`},
	{`a\`, `trailing \`},
	{`\pL`, "pattern too large - compile failed"},
	{`\p{Greek}`, "0000000000000000"},
	{`(a+){10}`, "0000000000000000"},
	{`(a+){50}`, "too complex"},
	{`(a+){500}`, "pattern too large - compile failed"},
	{`a{96}`, "0000000000000000"},
	{`(?:\w){30}`, "0000000000000000"},
	{`\w{1,20}`, "0111110100011100"},
	{`.{10}`, "0000000000000000"},
	{`(?:){10}`, "1000000000000000"},
	{`(?:\pN{10}){0}`, "1000000000000000"},
	{`\Qab`, "0010000000000000"},
	{`^abc$`, "0000000000000000"},
	{`192.168.(1[0-9]|3[4-7]|[1-9]|4[2-9]|[1-4][0-9]|5[3-8]|20[4-7]|53[0-5]).1`, "0000000000000000"},
	{`rack-[0-9]+`, "0000001000000000"},
	{`(?i)abc`, "0000000000001000"},
	{`(?s).*`, "1111111111111111"},
	{``, "1000000000000000"},
}

func TestRegexpVerdictsOfRE2(t *testing.T) {
	for _, tt := range re2Verdicts {
		t.Run(tt.pattern, func(t *testing.T) {
			re, err := compileRegexp(tt.pattern, RegexpLimits{})
			var got strings.Builder
			switch {
			case err != nil && strings.HasPrefix(err.Error(), "Regex '"+tt.pattern+"' is too complex: program size of "):
				got.WriteString("too complex")
			case err != nil:
				got.WriteString(strings.TrimPrefix(err.Error(), "Failed to construct regex from pattern '"+tt.pattern+"': "))
			default:
				for _, text := range regexTexts {
					got.WriteString(map[bool]string{true: "1", false: "0"}[re.MatchString(text)])
				}
			}
			if got.String() != tt.verdict {
				t.Errorf("got %s, want %s", got.String(), tt.verdict)
			}
		})
	}
}

// TestRegexpLimits looks at both sides of each limit.
func TestRegexpLimits(t *testing.T) {
	long := strings.Repeat("(?:)", 251)
	tests := []struct {
		name, pattern string
		limits        RegexpLimits
		want          string
	}{
		{"size", "a{98}", RegexpLimits{MaxMemory: 1 << 20}, ""},
		{"more than the size", "a{99}", RegexpLimits{MaxMemory: 1 << 20}, "program size of 101 is larger than maximum of 100 allowed"},
		{"the size as set", "a{99}", RegexpLimits{MaxMemory: 1 << 20, MaxProgramSize: 101}, ""},
		{"289 instructions in 4 KB", "a{289}", RegexpLimits{MaxProgramSize: 1000}, ""},
		{"290 instructions in 4 KB", "a{290}", RegexpLimits{MaxProgramSize: 1000}, "pattern too large - compile failed"},
		{"hardly any memory", "a", RegexpLimits{MaxMemory: 635}, "pattern too large - compile failed"},
		{"a little memory", "a", RegexpLimits{MaxMemory: 636}, ""},
		{"boundless memory", "a{900}", RegexpLimits{MaxMemory: 1 << 62, MaxProgramSize: 1000}, ""},
		{"1,000 bytes", long[:1000], RegexpLimits{MaxMemory: 1 << 20}, ""},
		{"1,001 bytes", long[:1000] + "a", RegexpLimits{MaxMemory: 1 << 20}, "Regex of 1001 characters is too complex: the maximum is 1000"},
		{"more with a greater size", long[:1000] + "a", RegexpLimits{MaxMemory: 1 << 20, MaxProgramSize: 101}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := compileRegexp(tt.pattern, tt.limits)
			switch {
			case tt.want == "" && err != nil:
				t.Errorf("got %v, want none", err)
			case tt.want != "" && (err == nil || !strings.HasSuffix(err.Error(), tt.want)):
				t.Errorf("got %v, want %s", err, tt.want)
			}
		})
	}
}

// TestHostileRegexps gives what a framework might send to cost the master dear: each
// must be refused without being compiled, which would take up to 10^9 instructions.
func TestHostileRegexps(t *testing.T) {
	for _, pattern := range []string{
		strings.Repeat("x{1000}", 142),
		strings.Repeat("(?:x{31}){32}", 70),
		strings.Repeat(`\pL{1000}`, 100),
		strings.Repeat(`\pL`, 333),
		`(?i)[` + strings.Repeat(`\pL\PN`, 160) + `]{1000}`,
		strings.Repeat("(", 500) + strings.Repeat(")", 500) + "",
		strings.Repeat("(?:", 200) + "x" + strings.Repeat("{2})", 95),
		strings.Repeat("(a|", 240) + "a" + strings.Repeat(")", 240),
	} {
		_, err := compileRegexp(pattern, RegexpLimits{})
		if _, ok := errors.AsType[constraintError](err); !ok {
			t.Errorf("%.40s...: got %v, want it refused", pattern, err)
		}
		tree, err := syntax.Parse(pattern, syntax.Perl)
		if err == nil && expanded(tree, 289) <= 289 {
			t.Errorf("%.40s...: compiled before it is refused", pattern)
		}
	}
}

func TestConstraintCounts(t *testing.T) {
	set := func(constraints, patterns int) *scheduler.OfferConstraints {
		var lines []string
		for i := range constraints {
			lines = append(lines, fmt.Sprintf("a: @x equals %d", i))
		}
		for i := range patterns {
			lines = append(lines, fmt.Sprintf("a: @x matches %d", i), fmt.Sprintf("b: @x not matches %d", i))
		}
		return (&command{t: t}).parseConstraints(lines)
	}
	long := func(n int) *scheduler.OfferConstraints {
		var lines []string
		for i := range n {
			lines = append(lines, fmt.Sprintf("a: @x matches %03d%s%s", i, strings.Repeat("(?:)", 249), "a"))
		}
		return (&command{t: t}).parseConstraints(lines)
	}
	tests := []struct {
		name string
		c    *scheduler.OfferConstraints
		want string
	}{
		{"most constraints", set(10_000, 0), ""},
		{"too many", set(10_001, 0), "A role a has an invalid 'AttributeConstraint': Too many constraints: the maximum is 10000"},
		{"most patterns", set(9600, 200), ""},
		{"long patterns", long(65), ""},
		{"too many long patterns", long(66), "A role a has an invalid 'AttributeConstraint': Too many regular expressions: the maximum is 65536 bytes of them"},
		{"too many patterns", set(0, 201), "A role a has an invalid 'AttributeConstraint': Too many regular expressions: the maximum is 200"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := CompileConstraints(tt.c, RegexpLimits{})
			if got := fmt.Sprint(err); tt.want == "" && err != nil || tt.want != "" && got != tt.want {
				t.Errorf("got %s, want %q", got, tt.want)
			}
		})
	}
}

func TestNoConstraints(t *testing.T) {
	for _, c := range []*scheduler.OfferConstraints{nil, {}} {
		if got, err := CompileConstraints(c, RegexpLimits{}); got != nil || err != nil {
			t.Errorf("CompileConstraints(%v): got %v %v, want none", c, got, err)
		}
	}
}

// slowWants is the rule of offer constraints, written down to be read.
func slowWants(c *scheduler.OfferConstraints, role string, a *Agent) bool {
	rc, ok := c.GetRoleConstraints()[role]
	if !ok {
		return true
	}
	for _, g := range rc.Groups {
		all := true
		for _, x := range g.AttributeConstraints {
			all = all && slowHolds(x, a)
		}
		if all {
			return true
		}
	}
	return false
}

func slowHolds(c *scheduler.AttributeConstraint, a *Agent) bool {
	there, isText, text := slowSelect(c.Selector, a)
	p := c.Predicate
	if p.GetExists() != nil {
		return there
	}
	if p.GetNotExists() != nil {
		return !there
	}
	if !there {
		return p.GetTextNotEquals() != nil || p.GetTextNotMatches() != nil
	}
	if !isText {
		return true
	}
	switch {
	case p.GetTextEquals() != nil:
		return text == p.GetTextEquals().GetValue()
	case p.GetTextNotEquals() != nil:
		return text != p.GetTextNotEquals().GetValue()
	case p.GetTextMatches() != nil:
		return slowMatch(p.GetTextMatches().GetRegex(), text)
	default:
		return !slowMatch(p.GetTextNotMatches().GetRegex(), text)
	}
}

func slowSelect(s *scheduler.AttributeConstraint_Selector, a *Agent) (there, isText bool, text string) {
	d := a.Domain.GetFaultDomain()
	if n, ok := s.Selector.(*scheduler.AttributeConstraint_Selector_AttributeName); ok {
		for _, x := range a.Attributes {
			if x.GetName() == n.AttributeName {
				return true, x.GetType() == mesos.Value_TEXT, x.GetText().GetValue()
			}
		}
		return false, false, ""
	}
	switch s.GetPseudoattributeType() {
	case scheduler.AttributeConstraint_Selector_HOSTNAME:
		return true, true, a.Hostname
	case scheduler.AttributeConstraint_Selector_REGION:
		return d != nil, true, d.GetRegion().GetName()
	default:
		return d != nil, true, d.GetZone().GetName()
	}
}

// slowMatch looks for the longest of the leftmost matches, without changing the
// pattern: if all of the text matches it is that.
func slowMatch(pattern, text string) bool {
	re := regexp.MustCompile(pattern)
	re.Longest()
	at := re.FindStringIndex(text)
	return at != nil && at[0] == 0 && at[1] == len(text)
}

// testConstraints are constraints for random histories, as they are and compiled.
var testConstraints = func() map[*Constraints]*scheduler.OfferConstraints {
	out := map[*Constraints]*scheduler.OfferConstraints{}
	for i := range constraintScripts {
		raw := (&command{}).parseConstraints(strings.Split(constraintScripts[i], "\n"))
		c, err := CompileConstraints(raw, RegexpLimits{})
		if err != nil {
			panic(err)
		}
		out[c], compiledConstraints[i] = raw, c
	}
	return out
}()

var constraintScripts = [...]string{
	"a: hostname equals h1",
	"a: hostname matches h[12]\nb: @rack not exists",
	"a/x: region equals here\na/x: @rack equals r1",
	"a: @rack not equals r1 & hostname not equals h3\nc: zone exists",
	"b: @rack matches r.*\nb: region not exists & hostname matches h2|h3\na: hostname not matches h1",
}

var compiledConstraints [len(constraintScripts)]*Constraints

// constraints draws some, mostly none.
func (s *history) constraints() *Constraints {
	i := rapid.IntRange(-len(constraintScripts), len(constraintScripts)-1).Draw(s.t, "constraints")
	if i < 0 {
		return nil
	}
	return compiledConstraints[i]
}

// attributes draws those of an agent.
func (s *history) attributes() []*mesos.Attribute {
	return (&command{}).attributes(s.pick("attributes", []string{"", "", "rack:r1", "rack:r2;rack:r1", "rack:7"}))
}

// TestConstraintsAgainstSlow compares the compiled constraints with their plain rule.
func TestConstraintsAgainstSlow(t *testing.T) {
	selectors := []string{"hostname", "region", "zone", "@a", "@b"}
	predicates := []string{
		"exists", "not exists", "equals x", "not equals x", "equals ", "matches x|y", "not matches x.*", "matches (?i)X", "matches ",
	}
	values := []string{"x", "y", "X", "xy", "", "1", "{}", "[1-2]"}
	rapid.Check(t, func(t *rapid.T) {
		pick := func(label string, from []string) string { return rapid.SampledFrom(from).Draw(t, label) }
		var lines []string
		for range rapid.IntRange(1, 4).Draw(t, "groups") {
			var g []string
			for range rapid.IntRange(1, 3).Draw(t, "constraints") {
				g = append(g, pick("selector", selectors)+" "+pick("predicate", predicates))
			}
			lines = append(lines, pick("role", []string{"r", "r", "s"})+": "+strings.Join(g, " & "))
		}
		raw := (&command{}).parseConstraints(lines)
		c, err := CompileConstraints(raw, RegexpLimits{})
		if err != nil {
			t.Fatal(err)
		}
		a := Agent{Hostname: pick("hostname", values)}
		if rapid.Bool().Draw(t, "domain") {
			a.Domain = testDomain(pick("region", values))
			a.Domain.FaultDomain.Zone.Name = new(pick("zone", values))
		}
		for range rapid.IntRange(0, 3).Draw(t, "attributes") {
			a.Attributes = append(a.Attributes, (&command{}).attributes(pick("name", []string{"a", "b"})+":"+pick("value", values))...)
		}
		for _, role := range []string{"r", "s", "t"} {
			if got, want := c.Match(role, a.Hostname, a.Domain, a.Attributes), slowWants(raw, role, &a); got != want {
				t.Fatalf("%q in role %s of %+v: got %v, want %v", lines, role, a, got, want)
			}
		}
	})
}

// FuzzConstraints takes constraints as they come from the wire.
func FuzzConstraints(f *testing.F) {
	for _, text := range constraintScripts {
		raw, err := proto.Marshal((&command{}).parseConstraints(strings.Split(text, "\n")))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw, "a", "h1")
	}
	attributes := (&command{}).attributes("rack:r1;size:3;x:")
	f.Fuzz(func(t *testing.T, raw []byte, role, hostname string) {
		var in scheduler.OfferConstraints
		if proto.Unmarshal(raw, &in) != nil {
			return
		}
		c, err := CompileConstraints(&in, RegexpLimits{})
		if err != nil {
			if c != nil {
				t.Fatal("constraints along with an error")
			}
			return
		}
		for _, g := range in.GetRoleConstraints() {
			if len(g.GetGroups()) == 0 {
				t.Fatalf("%v is taken", &in)
			}
		}
		a := &Agent{Hostname: hostname, Attributes: attributes, Domain: testDomain("here")}
		if got, want := c.Match(role, hostname, a.Domain, attributes), slowWants(&in, role, a); got != want {
			t.Errorf("%v in role %q of %q: got %v, want %v", &in, role, hostname, got, want)
		}
	})
}

// FuzzRegexps gives patterns and texts: what compiles is within the limits and
// matches what the plain pattern does.
func FuzzRegexps(f *testing.F) {
	for _, tt := range re2Verdicts {
		f.Add(tt.pattern, "ab")
	}
	f.Fuzz(func(t *testing.T, pattern, text string) {
		re, err := compileRegexp(pattern, RegexpLimits{})
		if err != nil {
			if _, ok := errors.AsType[constraintError](err); !ok {
				t.Fatalf("%q: %v", pattern, err)
			}
			return
		}
		tree, err := syntax.Parse(re.String(), syntax.Perl)
		if err != nil {
			t.Fatal(err)
		}
		prog, err := syntax.Compile(tree.Simplify())
		if err != nil {
			t.Fatal(err)
		}
		// A text behind an anchor is not counted, nor \A, \z and two of the program's
		// own; star costs an instruction more if what it repeats may be empty.
		if n := len(prog.Inst); n > 2*289+len(pattern)+4 {
			t.Errorf("%q has %d instructions", pattern, n)
		}
		if got, want := re.MatchString(text), slowMatch(pattern, text); got != want {
			t.Errorf("%q matches %q: got %v, want %v", pattern, text, got, want)
		}
	})
}

func TestConstraintsAllocateNothing(t *testing.T) {
	c, err := CompileConstraints((&command{t: t}).parseConstraints([]string{
		"a: hostname equals h2", "a: hostname matches h[0-9]+ & @rack matches (r|s)[0-9]* & region not exists",
	}), RegexpLimits{})
	if err != nil {
		t.Fatal(err)
	}
	attributes := (&command{t: t}).attributes("size:2;rack:r12")
	if n := testing.AllocsPerRun(100, func() {
		if !c.Match("a", "h17", nil, attributes) {
			t.Fatal("no match")
		}
	}); n > 0 {
		t.Errorf("got %v allocations, want 0", n)
	}
}

func BenchmarkConstraints(b *testing.B) {
	attributes := (&command{}).attributes("size:2;rack:r12")
	for _, tt := range []struct{ name, lines string }{
		{"none", ""},
		{"other role", "b: hostname equals h2"},
		{"hostname", "a: hostname equals h2"},
		{"attribute", "a: @rack equals r1"},
		{"regexp", "a: hostname matches host-[0-9]+\\.example\\.com"},
		{"alternatives", "a: hostname matches .*(x|y|z)[0-9]*\\.(com|org)"},
	} {
		b.Run(tt.name, func(b *testing.B) {
			var c *Constraints
			if tt.lines != "" {
				var err error
				c, err = CompileConstraints((&command{}).parseConstraints([]string{tt.lines}), RegexpLimits{})
				if err != nil {
					b.Fatal(err)
				}
			}
			for b.Loop() {
				c.Match("a", "host-123.example.com", nil, attributes)
			}
		})
	}
}

// BenchmarkConstrainedFrameworks frees an agent that a thousand frameworks do not
// want, and has it offered to the one that does.
func BenchmarkConstrainedFrameworks(b *testing.B) {
	for _, tt := range []struct{ name, lines string }{
		{"hostname", "a: hostname equals h2"},
		{"regexp", "a: hostname matches host-[0-9]+\\.example\\.com"},
		{"100 regexps", manyRegexps(100)},
	} {
		b.Run(tt.name, func(b *testing.B) {
			h := newHierarchical(DefaultOptions())
			c, err := CompileConstraints((&command{}).parseConstraints(strings.Split(tt.lines, "\n")), RegexpLimits{})
			if err != nil {
				b.Fatal(err)
			}
			for i := range 1000 {
				h.AddFramework(fmt.Sprintf("f%03d", i), Framework{Roles: []string{"a"}, Active: true, Constraints: c}, nil)
			}
			h.AddFramework("last", Framework{Roles: []string{"a"}, Active: true}, nil)
			a := testAgent("cpus:1;mem:64")
			a.Hostname = "agent-17.cluster.example.com"
			h.AddAgent("s", a, nil)
			for b.Loop() {
				o := h.Allocate(epoch).Offers
				if len(o) != 1 || o[0].FrameworkID != "last" {
					b.Fatal(o)
				}
				h.RecoverResources(epoch, "last", "s", o[0].Resources, nil)
			}
		})
	}
}

func manyRegexps(n int) string {
	lines := make([]string, n)
	for i := range lines {
		lines[i] = fmt.Sprintf("a: hostname matches (.*)(x|y|z)%d[0-9]*", i)
	}
	return strings.Join(lines, "\n")
}
