package server

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// operate sends an operator's call as JSON.
func operate(t testing.TB, s *Server, call string) reply {
	t.Helper()
	return do(t, http.MethodPost, endpoint(s, "/api/v1"), http.Header{"Content-Type": {"application/json"}}, []byte(call))
}

// TestGoldenMutations replays what operators changed on a real Mesos, and compares
// the answers and what the reads show afterwards.
func TestGoldenMutations(t *testing.T) {
	s := startMaster(t)
	f := subscribe(t, s, goldenInfo())
	id := strings.NewReplacer(recordedMaster+"-0000", f.id.GetValue())
	for _, name := range []string{"01_UPDATE_WEIGHTS", "02_GET_WEIGHTS", "04_UPDATE_QUOTA", "05_GET_QUOTA", "07_roles"} {
		c := goldenCase(t, "mutations/"+name+".json", id)
		t.Run(name, func(t *testing.T) {
			got := c.replay(t, s)
			c.compare(t, got)
			if c.Response.JSON == nil {
				return
			}
			want := withoutDefaultRole(decodeNumbers(t, c.Response.JSON))
			if diff := cmp.Diff(want, decodeNumbers(t, []byte(got.body))); diff != "" {
				t.Errorf("(-Mesos +clusterd):\n%s", diff)
			}
		})
	}
}

// The endpoints that came before the operator API do the same.
func TestSharesByEndpoints(t *testing.T) {
	s := startMaster(t)
	const cpus = `{"name":"cpus","type":"SCALAR","scalar":{"value":2}}`
	for _, tc := range []struct {
		method, path, body string
		status             int
		want               string
	}{
		{"GET", "/weights", "", 200, `[]`},
		{"GET", "/quota", "", 200, `{}`},
		{"PUT", "/weights", `[{"role":"a","weight":2.5},{"role":"b/c","weight":1}]`, 200, ``},
		{"GET", "/weights", "", 200, `[{"weight":2.5,"role":"a"},{"weight":1.0,"role":"b/c"}]`},
		{"PUT", "/weights", `[{"role":"a","weight":-1}]`, 400, `Failed to validate update weights request JSON for role 'a': Invalid weight '-1': Weights must be positive`},
		{"PUT", "/weights", `{`, 400, `Failed to parse update weights request JSON '{': `},
		{"POST", "/weights", `[]`, 405, `Expecting one of { 'GET', 'PUT' }, but received 'POST'`},
		{"POST", "/quota", `{"role":"a/b","guarantee":[` + cpus + `]}`, 400, `Parent role 'a' with guarantees ({})`},
		{"POST", "/quota", `{"role":"a","guarantee":[` + cpus + `]}`, 409, `Total quota guarantees 'cpus:2' exceed cluster capacity '{}'`},
		{"POST", "/quota", `{"role":"a","force":true,"guarantee":[` + cpus + `]}`, 200, ``},
		{"POST", "/quota", `{"role":"a/b","force":true,"guarantee":[` + cpus + `]}`, 200, ``},
		{"POST", "/quota", `what`, 400, `Failed to parse set quota request JSON 'what': `},
		{"PUT", "/quota", `{}`, 405, `Expecting one of { 'GET', 'POST', 'DELETE' }, but received 'PUT'`},
		{"DELETE", "/quota", ``, 400, `Failed to parse remove quota request for path '/master/quota': expected 3 tokens, found 2 tokens`},
		{"DELETE", "/quota/a", ``, 400, `Failed to remove quota for path '/master/quota/a': Invalid quota configuration. Parent role 'a'`},
		{"DELETE", "/master/quota/a/b", ``, 200, ``},
		{"GET", "/quota", "", 200, `{"infos":[{"role":"a","guarantee":[{"name":"cpus","type":"SCALAR","scalar":{"value":2.0}}]}],` +
			`"configs":[{"role":"a","guarantees":{"cpus":{"value":2.0}},"limits":{"cpus":{"value":2.0}}}]}`},
		{"DELETE", "/quota/a", ``, 200, ``},
		{"DELETE", "/quota/a", ``, 400, `Failed to remove quota for path '/master/quota/a': Role 'a' has no quota set`},
	} {
		r := do(t, tc.method, endpoint(s, tc.path), nil, []byte(tc.body))
		if r.status != tc.status || !strings.Contains(r.body, tc.want) || tc.status == 200 && r.body != tc.want {
			t.Errorf("%s %s %s: got %d %s, want %d %s", tc.method, tc.path, tc.body, r.status, r.body, tc.status, tc.want)
		}
	}
}

// withoutDefaultRole leaves out the role * that Mesos shows: its quota is none, and
// is there since somebody asked for it.
func withoutDefaultRole(v any) any {
	isDefault := func(e any) bool {
		m, _ := e.(map[string]any)
		return m["role"] == "*" || m["name"] == "*"
	}
	switch v := v.(type) {
	case map[string]any:
		for k, e := range v {
			v[k] = withoutDefaultRole(e)
		}
	case []any:
		v = slices.DeleteFunc(v, isDefault)
		for i, e := range v {
			v[i] = withoutDefaultRole(e)
		}
		return v
	}
	return v
}

// Calls that change something are checked like others, and refused with a reason.
func TestOperatorChangesAreChecked(t *testing.T) {
	s := startMaster(t)
	for _, tc := range []struct {
		call   string
		status int
		part   string
	}{
		{`{"type":"UPDATE_QUOTA"}`, 400, "Failed to validate master::Call: Expecting 'update_quota' to be present"},
		{`{"type":"UPDATE_QUOTA","update_quota":{"quota_configs":[{"limits":{}}]}}`, 400, "role"},
		{`{"type":"UPDATE_QUOTA","update_quota":{"quota_configs":[{"role":"a","guarantees":{"cpus":{"value":1}}}]}}`, 400, "exceed cluster capacity"},
		{`{"type":"UPDATE_QUOTA","update_quota":{"force":true,"quota_configs":[{"role":"a","guarantees":{"cpus":{"value":1}}}]}}`, 200, ""},
		{`{"type":"SET_QUOTA","set_quota":{"quota_request":{"role":"b","guarantee":[{"name":"cpus","type":"SCALAR","scalar":{"value":1}}]}}}`, 409, "overcommit"},
		{`{"type":"REMOVE_QUOTA","remove_quota":{"role":"a"}}`, 200, ""},
		{`{"type":"REMOVE_QUOTA","remove_quota":{"role":"a"}}`, 400, "Role 'a' has no quota set"},
		{`{"type":"UPDATE_WEIGHTS","update_weights":{"weight_infos":[{"role":"a","weight":0}]}}`, 400, "Weights must be positive"},
	} {
		if r := operate(t, s, tc.call); r.status != tc.status || !strings.Contains(r.body, tc.part) {
			t.Errorf("%s: got %d %s, want %d and %q", tc.call, r.status, r.body, tc.status, tc.part)
		}
	}
}
