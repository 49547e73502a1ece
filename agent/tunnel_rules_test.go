package agent

import (
	"net/http"
	"testing"

	"clusterd/internal/authz"
	"clusterd/internal/link"
)

// TestTunnelRules: an agent without rules obeys those of the master that passes a request on,
// and one that has rules its own alone.
func TestTunnelRules(t *testing.T) {
	const onlyCarol = `{"set_log_level":[{"principals":{"values":["carol"]},"level":{"type":"ANY"}}],"permissive":false}`
	const onlyDave = `{"set_log_level":[{"principals":{"values":["dave"]},"level":{"type":"ANY"}}],"permissive":false}`
	own, err := authz.Parse([]byte(onlyDave))
	if err != nil {
		t.Fatal(err)
	}
	d := newDigger(t, nil)
	h := newMachine(t, d.m)
	a := h.start(func(o *Options) { o.Realms = realms(t, "carol", "dave") })
	d.m.waitRegistered(1)
	t.Cleanup(func() { h.leave(a) })
	carol := link.EncodeRules([]byte(onlyCarol))
	for _, tt := range []struct {
		name, who, rules string
		own              *authz.ACLs
		want             int
	}{
		{"no rules", "dave", "", nil, http.StatusOK},
		{"the master's allow it", "carol", carol, nil, http.StatusOK},
		{"the master's do not", "dave", carol, nil, http.StatusForbidden},
		{"the same again", "dave", carol, nil, http.StatusForbidden},
		{"other rules of the master", "dave", link.EncodeRules([]byte(onlyDave)), nil, http.StatusOK},
		{"too long to be said", "carol", "-", nil, http.StatusForbidden},
		{"of a newer master", "carol", link.EncodeRules([]byte(`{"fly":[]}`)), nil, http.StatusForbidden},
		{"its own allow it", "dave", carol, own, http.StatusOK},
		{"its own do not", "carol", carol, own, http.StatusForbidden},
		{"its own, and the master's cannot be read", "dave", "-", own, http.StatusOK},
	} {
		a.SetPolicy(tt.own)
		header := principalHeader(tt.who)
		if tt.rules != "" {
			header.Set(link.RulesHeader, tt.rules)
		}
		body := `{"type":"SET_LOGGING_LEVEL","set_logging_level":{"level":1,"duration":{"nanoseconds":1}}}`
		if status, out := d.do(http.MethodPost, "/api/v1", body, header); status != tt.want {
			t.Errorf("%s: got %d %s, want %d", tt.name, status, out, tt.want)
		}
	}
	// What lists objects shows what the rules let see.
	a.SetPolicy(nil)
	header := principalHeader("dave")
	header.Set(link.RulesHeader, link.EncodeRules([]byte(`{"permissive":false}`)))
	if status, _ := d.do(http.MethodGet, "/flags", "", header); status != http.StatusForbidden {
		t.Errorf("flags, which nobody may see: got %d", status)
	}
}
