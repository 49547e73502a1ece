package agent

import (
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	mesos "clusterd/api/mesos/v1"
	"clusterd/internal/authz"
	"clusterd/internal/httpapi"
)

// TestAudit: whoever wants to change something is told of, with what came of it; who only
// reads is not.
func TestAudit(t *testing.T) {
	m := newScriptedMaster(t)
	h := newMachine(t, m)
	var mu sync.Mutex
	var told []string
	a := h.start(func(o *Options) {
		o.Realms = realms(t, "carol", "dave")
		o.ACLs = rules(t, true, nothing("set_log_level", "level"), nothing("prune_images", "images"))
		o.OnAudit = func(_ *http.Request, e httpapi.Audited) {
			mu.Lock()
			defer mu.Unlock()
			line := e.Principal.String() + " " + e.Action + " " + strings.Join(e.Fields, "=")
			if e.Err != nil {
				line += ": " + e.Err.Error()
			}
			told = append(told, line)
		}
	})
	defer h.leave(a)
	m.waitRegistered(1)
	g := &guarded{t: t, a: a, m: m}
	nested := `{"container_id":{"value":"n","parent":{"value":"p"}}}`
	for _, c := range []struct{ who, body string }{
		{"carol", call("GET_STATE", "")},
		{"carol", call("SET_LOGGING_LEVEL", `{"level":0,"duration":{"nanoseconds":1}}`)},
		{"dave", call("SET_LOGGING_LEVEL", `{"level":0,"duration":{"nanoseconds":1}}`)},
		{"carol", call("PRUNE_IMAGES", "{}")},
		{"carol", call("WAIT_CONTAINER", nested)},
		{"dave", call("KILL_CONTAINER", nested)},
		{"dave", call("KILL_CONTAINER", "{}")},
		{"mallory", call("KILL_CONTAINER", nested)},
	} {
		g.do(c.who, "POST", "/api/v1", c.body, "")
	}
	want := []string{
		"carol SET_LOGGING_LEVEL level=0: 403: 403 Forbidden.",
		"dave SET_LOGGING_LEVEL level=0",
		"carol PRUNE_IMAGES : 403: 403 Forbidden.",
		"dave KILL_CONTAINER container_id=p.n: 404: Container 'p.n' cannot be found (or is already killed)",
	}
	mu.Lock()
	defer mu.Unlock()
	if d := cmp.Diff(want, told); d != "" {
		t.Errorf("audited (-want +got):\n%s", d)
	}
}

// TestVisibleOperation: one role that is not seen hides an operation, wherever it stands.
func TestVisibleOperation(t *testing.T) {
	acls, err := authz.Parse([]byte(`{"permissive":false,"view_roles":[{"principals":{"type":"ANY"},"roles":{"values":["a","a/%","*"]}}]}`))
	if err != nil {
		t.Fatal(err)
	}
	by := acls.Viewer(&authz.Principal{Value: "carol"})
	plain := func() *mesos.Resource { r := scalar("cpus", 1); r.AllocationInfo = nil; return r }
	reservedTo := func(roles ...string) *mesos.Resource {
		r := plain()
		for _, role := range roles {
			r.Reservations = append(r.Reservations, &mesos.Resource_ReservationInfo{Type: mesos.Resource_ReservationInfo_DYNAMIC.Enum(), Role: &role})
		}
		return r
	}
	allocated := func(role string) *mesos.Resource {
		r := plain()
		r.AllocationInfo = &mesos.Resource_AllocationInfo{Role: &role}
		return r
	}
	old := func(role string) *mesos.Resource { r := plain(); r.Role = &role; return r }
	reserve := func(r *mesos.Resource) *mesos.Offer_Operation {
		return &mesos.Offer_Operation{Reserve: &mesos.Offer_Operation_Reserve{Resources: []*mesos.Resource{r}}}
	}
	for _, c := range []struct {
		name string
		op   *mesos.Operation
		want bool
	}{
		{"of nobody", &mesos.Operation{Info: reserve(plain())}, true},
		{"of a role that is seen", &mesos.Operation{Info: reserve(reservedTo("a", "a/b"))}, true},
		{"of another", &mesos.Operation{Info: reserve(reservedTo("b"))}, false},
		{"refined below it", &mesos.Operation{Info: reserve(reservedTo("a", "b"))}, false},
		{"allocated to another", &mesos.Operation{Info: reserve(allocated("b"))}, false},
		{"allocated to one that is seen", &mesos.Operation{Info: reserve(allocated("a"))}, true},
		{"in the old form", &mesos.Operation{Info: reserve(old("b"))}, false},
		{"of everybody in the old form", &mesos.Operation{Info: reserve(old("*"))}, true},
		{"a disk", &mesos.Operation{Info: &mesos.Offer_Operation{CreateDisk: &mesos.Offer_Operation_CreateDisk{Source: reservedTo("b")}}}, false},
		{"what came of it", &mesos.Operation{Info: reserve(plain()), LatestStatus: &mesos.OperationStatus{
			ConvertedResources: []*mesos.Resource{reservedTo("b")},
		}}, false},
	} {
		if got := visibleOperation(c.op, by); got != c.want {
			t.Errorf("%s: seen is %v, want %v", c.name, got, c.want)
		}
	}
}
