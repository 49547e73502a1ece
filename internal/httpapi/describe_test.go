package httpapi

import (
	"encoding/json"
	"net/http"
	"testing"

	"clusterd/internal/authz"
	"clusterd/internal/flags"
	"clusterd/internal/metrics"
)

func TestDescriptions(t *testing.T) {
	c := common()
	c.Described = []flags.Described{{Name: "ip", Type: "string", Help: "Where to listen.", Value: new("127.0.0.1"), Changed: true}}
	c.Metrics.Gauge("master/elected").Set(1)
	rt := NewRouter("master")
	c.Register(rt)

	var f struct {
		Flags []flags.Described `json:"flags"`
	}
	w := get(t, rt, http.MethodGet, "/api/clusterd/v1/flags")
	if err := json.Unmarshal(w.Body.Bytes(), &f); err != nil || len(f.Flags) != 1 || f.Flags[0].Help != "Where to listen." {
		t.Errorf("flags: got %d %s, %v", w.Code, w.Body, err)
	}
	var m struct {
		Metrics []metrics.Description `json:"metrics"`
	}
	w = get(t, rt, http.MethodGet, "/api/clusterd/v1/metrics")
	if err := json.Unmarshal(w.Body.Bytes(), &m); err != nil || len(m.Metrics) != 1 || m.Metrics[0].PromQL != "clusterd_master_elected" {
		t.Errorf("metrics: got %d %s, %v", w.Code, w.Body, err)
	}
	for _, path := range []string{"/api/clusterd/v1/flags", "/api/clusterd/v1/metrics"} {
		if w := get(t, rt, http.MethodPost, path); w.Code != http.StatusMethodNotAllowed {
			t.Errorf("POST %s: got %d, want 405", path, w.Code)
		}
	}

	// Who may not read the values may not read what they mean.
	acls, err := authz.Parse([]byte(`{"permissive":false}`))
	if err != nil {
		t.Fatal(err)
	}
	rt.Guards = Guards{Policy: func() *authz.ACLs { return acls }}
	for _, path := range []string{"/api/clusterd/v1/flags", "/api/clusterd/v1/metrics"} {
		if w := get(t, rt, http.MethodGet, path); w.Code != http.StatusForbidden {
			t.Errorf("GET %s without the right: got %d, want 403", path, w.Code)
		}
	}
}
