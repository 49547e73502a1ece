package core

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	clusterdv1 "clusterd/api/clusterd/v1"
	mesos "clusterd/api/mesos/v1"
	"clusterd/api/mesos/v1/quota"
)

// ofRoles is a framework that is subscribed to roles.
func ofRoles(name string, roles ...string) *mesos.FrameworkInfo {
	info := multiRole(name, 60)
	info.Roles = roles
	return info
}

// quotaJSON writes an UPDATE_QUOTA; each config is "role guarantees limits" with
// amounts such as "cpus=1,mem=32" or "-".
func quotaJSON(force bool, configs ...string) string {
	amounts := func(text string) string {
		var parts []string
		for part := range strings.SplitSeq(text, ",") {
			if name, value, ok := strings.Cut(part, "="); ok {
				parts = append(parts, fmt.Sprintf("%q:{\"value\":%s}", name, value))
			}
		}
		return "{" + strings.Join(parts, ",") + "}"
	}
	var out []string
	for _, c := range configs {
		f := strings.Fields(c)
		out = append(out, fmt.Sprintf(`{"role":%q,"guarantees":%s,"limits":%s}`, f[0], amounts(f[1]), amounts(f[2])))
	}
	return fmt.Sprintf(`{"type":"UPDATE_QUOTA","update_quota":{"force":%t,"quota_configs":[%s]}}`, force, strings.Join(out, ","))
}

// quotasOf prints the quotas of a view.
func quotasOf(v *View) string {
	var parts []string
	for role, q := range v.Quotas.All() {
		parts = append(parts, role+" "+scalarsText(q.Guarantees)+" "+scalarsText(q.Limits))
	}
	return strings.Join(parts, "\n")
}

func (h *harness) mustOperate(text string) {
	h.t.Helper()
	if a := h.operate(text); a.Status != 200 || a.Body != "" {
		h.t.Fatalf("%s: got %d %q, want 200", text, a.Status, a.Body)
	}
}

// The texts are those of src/master/quota_handler.cpp and src/master/quota.cpp; two
// lines about children and parents are our own, for Mesos has no quotas below the
// top level.
func TestUpdateQuotaIsChecked(t *testing.T) {
	cfg := testConfig()
	cfg.Roles = []string{"eng", "eng/a", "eng/b", "eng/a/x", "ops"}
	const force, mind = true, false
	for name, tc := range map[string]struct {
		force   bool
		configs []string
		want    string
	}{
		"fits":           {mind, []string{"eng cpus=4 cpus=6"}, ""},
		"limit only":     {mind, []string{"eng - cpus=1000"}, ""},
		"nothing":        {mind, nil, ""},
		"default role":   {mind, []string{"* - cpus=2"}, ""},
		"whitelist":      {force, []string{"qa - cpus=1"}, "Invalid QuotaConfig: 'qa' is not on the roles whitelist"},
		"negative":       {force, []string{"eng cpus=-1 -"}, "Invalid QuotaConfig: Invalid guarantee configuration {'cpus': -1}: Negative values not supported"},
		"negative limit": {force, []string{"eng - mem=-0.5"}, "Invalid QuotaConfig: Invalid limit configuration {'mem': -0.5}: Negative values not supported"},
		"too large": {force, []string{"eng - mem=1099511627777"}, "Invalid QuotaConfig: Invalid 'QuotaConfig.limits': " +
			"{'mem': 1099511627777} is invalid: values greater than 1 exabyte (1099511627776) are not supported"},
		"as large as can be": {force, []string{"eng - mem=1099511627776,cpus=1000000000000"}, ""},
		"too many": {force, []string{"eng cpus=1000000000001 -"}, "Invalid QuotaConfig: Invalid 'QuotaConfig.guarantees': " +
			"{'cpus': 1000000000001} is invalid: values greater than 1 trillion (1000000000000) are not supported"},
		"guarantee above limit": {force, []string{"eng cpus=2,mem=1 cpus=1.5"}, "Invalid QuotaConfig: " +
			"'QuotaConfig.guarantees' { cpus: 2, mem: 1 } is not contained within the 'QuotaConfig.limits' { cpus: 1.5 }"},
		"overcommit": {mind, []string{"eng cpus=6 -", "ops cpus=4.5,mem=1 -"}, "Invalid QuotaConfig: total quota guarantees " +
			"'cpus:10.5; mem:1' exceed cluster capacity 'cpus:10; mem:1000' (use 'force' flag to bypass this check)"},
		"forced overcommit": {force, []string{"eng cpus=6 -", "ops cpus=4.5 -"}, ""},
		"below consumption": {mind, []string{"ops - cpus=0.5"}, "Invalid QuotaConfig: Role 'ops' is already consuming 'cpus:1'; " +
			"this is more than the requested limits 'cpus:0.5' (use 'force' flag to bypass this check)"},
		"forced below":     {force, []string{"ops - cpus=0.5"}, ""},
		"last one counts":  {mind, []string{"eng cpus=100 -", "eng cpus=1 -"}, ""},
		"child alone":      {force, []string{"eng/a cpus=1 -"}, "Invalid QuotaConfig: Invalid quota configuration. Parent role 'eng' with guarantees ({}) does not contain the sum of its children's guarantees (cpus:1)"},
		"child inside":     {mind, []string{"eng/a cpus=1 -", "eng cpus=1 -"}, ""},
		"children outside": {mind, []string{"eng cpus=3 -", "eng/a cpus=2 -", "eng/b cpus=1.5 -"}, "Invalid QuotaConfig: Invalid quota configuration. Parent role 'eng' with guarantees (cpus:3) does not contain the sum of its children's guarantees (cpus:3.5)"},
		"grandchild skips": {mind, []string{"eng cpus=3 -", "eng/a/x cpus=1 -"}, "Invalid QuotaConfig: Invalid quota configuration. Parent role 'eng/a' with guarantees ({}) does not contain the sum of its children's guarantees (cpus:1)"},
		"counted once":     {mind, []string{"eng cpus=8 -", "eng/a cpus=8 -", "eng/a/x cpus=8 -"}, ""},
		"limit inside":     {mind, []string{"eng - cpus=3", "eng/a - cpus=3"}, ""},
		"limit of another": {mind, []string{"eng - cpus=3", "eng/a - mem=3"}, ""},
		"limit outside":    {force, []string{"eng - cpus=3", "eng/a - cpus=3.5"}, "Invalid QuotaConfig: Invalid quota configuration. Role 'eng/a' with limits (cpus:3.5) exceeds the limits (cpus:3) of its parent role 'eng'"},
		"limit above that": {force, []string{"eng - cpus=3", "eng/a/x - cpus=4"}, "Invalid QuotaConfig: Invalid quota configuration. Role 'eng/a/x' with limits (cpus:4) exceeds the limits (cpus:3) of its parent role 'eng'"},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHarness(t, cfg, Recovered{})
			h.register(1, registerMessage("", "a1", "cpus:10;mem:1000"))
			h.subscribe("s", ofRoles("f", "ops"))
			h.launch("t") // holds 1 cpu in ops
			was := h.core.View()
			a := h.operate(quotaJSON(tc.force, tc.configs...))
			if tc.want == "" {
				if a.Status != 200 || a.Body != "" {
					t.Fatalf("got %d %q, want 200", a.Status, a.Body)
				}
				return
			}
			if a.Status != 400 || a.Body != tc.want {
				t.Errorf("got %d\n%s\nwant 400\n%s", a.Status, a.Body, tc.want)
			}
			if now := quotasOf(h.core.View()); now != quotasOf(was) {
				t.Errorf("refused, and the quotas are\n%s", now)
			}
		})
	}
}

// An update must fit what is there already, below and above.
func TestQuotaUpdatesFitTheTree(t *testing.T) {
	h := newHarness(t, testConfig(), Recovered{})
	h.register(1, registerMessage("", "a1", "cpus:10"))
	h.mustOperate(quotaJSON(false, "eng cpus=4 cpus=8", "eng/a cpus=3 cpus=5"))
	for _, tc := range []struct {
		configs []string
		ok      bool
	}{
		{[]string{"eng cpus=2 cpus=8"}, false},                       // the child has 3
		{[]string{"eng cpus=4 cpus=4"}, false},                       // its limit is 5
		{[]string{"eng - -"}, false},                                 // removal leaves the child outside
		{[]string{"eng/b cpus=2 -"}, false},                          // 3 + 2
		{[]string{"eng/b cpus=1 -"}, true},                           // 3 + 1
		{[]string{"eng cpus=3 cpus=8"}, false},                       // now 4 are needed
		{[]string{"eng cpus=3 cpus=8", "eng/b - -"}, true},           // both at once
		{[]string{"eng/a - -", "eng - -"}, true},                     // both go
		{[]string{"eng cpus=10 -", "eng/a cpus=5 -"}, true},          // and come
		{[]string{"ops cpus=0.1 -"}, false},                          // there is no more
		{[]string{"eng cpus=9 -", "ops cpus=0.0004 -"}, true},        // rounds to nothing
		{[]string{"eng/a cpus=9.0004 -", "ops cpus=1 cpus=1"}, true}, // as all amounts are rounded
	} {
		before := quotasOf(h.core.View())
		a := h.operate(quotaJSON(false, tc.configs...))
		if ok := a.Status == 200; ok != tc.ok {
			t.Fatalf("%v on\n%s\ngot %d %s, want ok: %t", tc.configs, before, a.Status, a.Body, tc.ok)
		}
	}
	if got, want := quotasOf(h.core.View()), "eng { cpus: 9 } {  }\neng/a { cpus: 9 } {  }\nops { cpus: 1 } { cpus: 1 }"; got != want {
		t.Errorf("in the end there is\n%s\nwant\n%s", got, want)
	}
}

// SET_QUOTA and REMOVE_QUOTA (src/master/quota_handler.cpp, _set and remove).
func TestDeprecatedQuotaCalls(t *testing.T) {
	set := func(force bool, rest string) string {
		return fmt.Sprintf(`{"type":"SET_QUOTA","set_quota":{"quota_request":{"force":%t,%s}}}`, force, rest)
	}
	const cpus = `{"name":"cpus","type":"SCALAR","scalar":{"value":2}}`
	h := newHarness(t, testConfig(), Recovered{})
	h.register(1, registerMessage("", "a1", "cpus:3"))
	for _, tc := range []struct {
		call   string
		status int
		body   string
	}{
		{set(false, `"role":"eng","guarantee":[`+cpus+`]`), 200, ""},
		{set(false, `"role":"eng","guarantee":[`+cpus+`]`), 400, "Failed to validate set quota request: Cannot set quota for role 'eng' which already has quota"},
		{set(false, `"guarantee":[`+cpus+`]`), 400, "Failed to validate set quota request: QuotaInfo must specify a role"},
		{set(false, `"role":"-x","guarantee":[`+cpus+`]`), 400, "Failed to validate set quota request: QuotaInfo with invalid role: Role component '-x' is invalid because it starts with a dash"},
		{set(false, `"role":"ops"`), 400, "Failed to validate set quota request: QuotaInfo with empty 'guarantee'"},
		{set(false, `"role":"ops","guarantee":[`+cpus+`,`+cpus+`]`), 400, "Failed to validate set quota request: QuotaInfo contains duplicate resource name 'cpus'"},
		{set(false, `"role":"ops","guarantee":[{"name":"ports","type":"RANGES","ranges":{"range":[{"begin":1,"end":2}]}}]`), 400, "Failed to validate set quota request: QuotaInfo must not include non-scalar resources"},
		{set(false, `"role":"ops","guarantee":[{"name":"cpus","type":"SCALAR","scalar":{"value":1},"revocable":{}}]`), 400, "Failed to validate set quota request: QuotaInfo must not contain RevocableInfo"},
		{set(false, `"role":"ops","guarantee":[{"name":"cpus","type":"SCALAR","scalar":{"value":1},"role":"ops"}]`), 400, "Failed to validate set quota request: QuotaInfo must not contain any ReservationInfo"},
		{set(false, `"role":"ops","guarantee":[`+cpus+`]`), 409, "Quota guarantees overcommit the cluster (use 'force' to bypass this check): Total quota guarantees 'cpus:4' exceed cluster capacity 'cpus:3'"},
		{set(true, `"role":"ops","guarantee":[`+cpus+`]`), 200, ""},
		{set(true, `"role":"eng/a","guarantee":[`+cpus+`]`), 200, ""}, // Mesos: "not supported yet"
		{`{"type":"REMOVE_QUOTA","remove_quota":{"role":"eng"}}`, 400, "Failed to remove quota: Invalid quota configuration. Parent role 'eng' with guarantees ({}) does not contain the sum of its children's guarantees (cpus:2)"},
		{`{"type":"REMOVE_QUOTA","remove_quota":{"role":"eng/a"}}`, 200, ""},
		{`{"type":"REMOVE_QUOTA","remove_quota":{"role":"eng"}}`, 200, ""},
		{`{"type":"REMOVE_QUOTA","remove_quota":{"role":"eng"}}`, 400, "Failed to remove quota: Role 'eng' has no quota set"},
	} {
		if a := h.operate(tc.call); a.Status != tc.status || a.Body != tc.body {
			t.Errorf("%s\ngot %d %q\nwant %d %q", tc.call, a.Status, a.Body, tc.status, tc.body)
		}
	}
	if got := quotasOf(h.core.View()); got != "ops { cpus: 2 } { cpus: 2 }" {
		t.Errorf("in the end there is %s", got)
	}
}

// An update is checked against those that the registry has not committed yet, and is
// answered only when it has itself.
func TestQuotaUpdatesWaitForEachOther(t *testing.T) {
	h := newHarness(t, testConfig(), Recovered{})
	h.register(1, registerMessage("", "a1", "cpus:10"))
	h.hold = true
	calls := []string{
		quotaJSON(false, "eng cpus=6 -"),
		quotaJSON(false, "ops cpus=6 -"), // together too much
		quotaJSON(false, "ops cpus=4 -"),
		`{"type":"REMOVE_QUOTA","remove_quota":{"role":"eng"}}`,
		`{"type":"REMOVE_QUOTA","remove_quota":{"role":"eng"}}`,
	}
	first := h.request + 1
	for _, call := range calls {
		if a := h.operate(call); a.Status != 0 {
			t.Fatalf("%s was answered before the registry had it: %d %s", call, a.Status, a.Body)
		}
	}
	if n := len(h.waiting); n != 1 {
		t.Errorf("%d changes of quotas are under way at once", n)
	}
	h.hold = false
	h.commit()
	for i, want := range []int{200, 400, 200, 200, 400} {
		if a := h.answers[first+RequestID(i)]; a.Status != want {
			t.Errorf("%s: got %d %s, want %d", calls[i], a.Status, a.Body, want)
		}
	}
}

// offered sums the cpus in the offers that are outstanding, by role.
func (h *harness) offered(role string) float64 {
	sum := 0.0
	for f := range h.core.View().Frameworks.Values() {
		for _, o := range f.Offers {
			if o.Role == role {
				sum += o.Resources.CPUs()
			}
		}
	}
	return sum
}

// Offers are taken back for a new guarantee, and given to the role that has it.
func TestGuaranteeTakesOffersBack(t *testing.T) {
	h := newHarness(t, testConfig(), Recovered{})
	h.subscribe("greedy", ofRoles("greedy", "greedy"))
	for i := range 4 {
		h.register(LinkID(i+1), registerMessage("", fmt.Sprint("a", i+1), "cpus:2"))
	}
	if got := h.offered("greedy"); got != 8 {
		t.Fatalf("greedy has %v cpus, want all 8", got)
	}
	h.subscribe("modest", ofRoles("modest", "modest"))
	before := len(h.streams["greedy"])
	h.mustOperate(quotaJSON(false, "modest cpus=3 -"))
	if rescinded := len(rescinds(h.streams["greedy"][before:])); rescinded != 2 {
		t.Errorf("%d offers were rescinded for 3 cpus, want 2 of 2 cpus each", rescinded)
	}
	if got := h.offered("modest"); got < 3 {
		t.Errorf("modest is offered %v cpus, want its 3 at least", got)
	}
	if got := h.offered("greedy") + h.offered("modest"); got != 8 {
		t.Errorf("%v cpus are offered, want all", got)
	}
}

// Offers that pass a new limit are taken back, and not made again.
func TestLimitTakesOffersBack(t *testing.T) {
	h := newHarness(t, testConfig(), Recovered{})
	h.subscribe("s", ofRoles("f", "eng/a"))
	h.subscribe("o", ofRoles("other", "other"))
	for i := range 8 {
		h.register(LinkID(i+1), registerMessage("", fmt.Sprint("a", i+1), "cpus:2;mem:64;ports:[1-2]"))
	}
	others := h.offered("other")
	if others+h.offered("eng/a") != 16 || others == 16 || others == 0 {
		t.Fatalf("eng/a is offered %v, other %v: want 16 between them", h.offered("eng/a"), others)
	}
	h.mustOperate(quotaJSON(false, "eng - cpus=3"))
	h.advance(5 * time.Second)
	if got := h.offered("eng/a"); got > 3 {
		t.Errorf("eng/a is offered %v cpus, its parent's limit is 3", got)
	}
	if got := h.offered("other"); got < others {
		t.Errorf("other had offers of %v cpus, now %v", others, got)
	}
}

// What the registry was told is what a later master knows.
func TestQuotaIsRecovered(t *testing.T) {
	h := newHarness(t, testConfig(), Recovered{})
	h.register(1, registerMessage("", "a1", "cpus:10"))
	h.mustOperate(quotaJSON(false, "eng cpus=1,mem=0 cpus=2,gpus=0"))
	var configs []*quota.QuotaConfig
	for _, c := range h.log {
		if c.GetKind() == clusterdv1.Command_UPDATE_QUOTA {
			m := new(clusterdv1.UpdateQuota)
			if err := proto.Unmarshal(c.Payload, m); err != nil {
				t.Fatal(err)
			}
			configs = append(configs, m.Configs...)
		}
	}
	h2 := newHarness(t, testConfig(), Recovered{Quotas: configs})
	if got, want := quotasOf(h2.core.View()), "eng { cpus: 1 } { cpus: 2, gpus: 0 }"; got != want {
		t.Errorf("recovered %q, want %q", got, want)
	}
	h2.subscribe("s", ofRoles("f", "eng"))
	h2.register(1, registerMessage("", "a1", "cpus:10"))
	if got := h2.offered("eng"); got > 2 {
		t.Errorf("after the failover %v cpus are offered, the limit is 2", got)
	}
}
