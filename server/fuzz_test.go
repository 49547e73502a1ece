package server

import (
	"bytes"
	"context"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"
)

// FuzzBodies sends any body to any endpoint of a real master that takes one. Whatever it is,
// the answer is no internal error, and the master goes on.
func FuzzBodies(f *testing.F) {
	targets := []struct{ method, path, media string }{
		{"POST", "/api/v1", "application/json"},
		{"POST", "/api/v1", "application/x-protobuf"},
		{"POST", "/api/v1/scheduler", "application/json"},
		{"POST", "/api/v1/scheduler", "application/x-protobuf"},
		{"PUT", "/weights", "application/json"},
		{"POST", "/quota", "application/json"},
		{"POST", "/maintenance/schedule", "application/json"},
		{"POST", "/machine/down", "application/json"},
		{"POST", "/machine/up", "application/json"},
		{"POST", "/reserve", ""},
		{"POST", "/unreserve", ""},
		{"POST", "/create-volumes", ""},
		{"POST", "/destroy-volumes", ""},
		{"POST", "/teardown", ""},
		{"POST", "/api/clusterd/v1/agents/cancel_drain", "application/json"},
		{"POST", "/api/clusterd/v1/registry/add", "application/json"},
		{"POST", "/api/clusterd/v1/registry/remove", "application/json"},
		{"POST", "/api/clusterd/v1/registry/snapshot", "application/octet-stream"},
	}
	const resource = `{"name":"cpus","type":"SCALAR","scalar":{"value":1},"reservations":[{"type":"DYNAMIC","role":"r"}]}`
	for i, body := range []string{
		`{"type":"GET_STATE"}`, "\b\x09", `{"type":"DECLINE","framework_id":{"value":"x"},"decline":{"offer_ids":[{"value":"y"}]}}`, "\b\x03",
		`[{"role":"a","weight":2}]`, `{"role":"a","guarantee":[{"name":"cpus","type":"SCALAR","scalar":{"value":1}}]}`,
		`{"windows":[{"machine_ids":[{"hostname":"h","ip":"1.2.3.4"}],"unavailability":{"start":{"nanoseconds":1}}}]}`, `[{"hostname":"h"}]`, `{"hostname":"h"}`,
		"slaveId=S0&resources=[" + resource + "]", "slaveId=S0&resources=x", "slaveId=S0&volumes=[]", "volumes=%5B%5D", "frameworkId=x",
		`{"agent_id":{"value":"S0"}}`, `{"id":"m","address":"127.0.0.1:1"}`, `{"id":"m"}`, "clusterd",
	} {
		f.Add(uint8(i), []byte(body))
	}
	f.Add(uint8(0), []byte(`{"type":"RESERVE_RESOURCES","reserve_resources":{"agent_id":{"value":"S0"},"resources":[`+resource+`]}}`))
	f.Add(uint8(0), []byte(`{"type":"UPDATE_QUOTA","update_quota":{"quota_configs":[{"role":"a/b","limits":{"cpus":{"value":1e300}}}]}}`))
	f.Add(uint8(0), []byte(`{"type":"SUBSCRIBE"}`))
	f.Add(uint8(2), []byte(`{"type":"SUBSCRIBE","subscribe":{"framework_info":{"user":"u","name":"n","roles":["r"]}}}`))
	s := startMaster(f)
	startAgent(f, s, agentInfo())
	f.Fuzz(func(t *testing.T, which uint8, body []byte) {
		to := targets[int(which)%len(targets)]
		// A stream that opens is left again.
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		r := httptest.NewRequestWithContext(ctx, to.method, to.path, bytes.NewReader(body))
		r.ProtoMajor = 2 // a recorder cannot be taken over
		if to.media != "" {
			r.Header.Set("Content-Type", to.media)
		}
		w := httptest.NewRecorder()
		func() {
			defer func() {
				if p := recover(); p != nil && p != http.ErrAbortHandler { //nolint:errorlint // as net/http compares it
					panic(p)
				}
			}()
			s.router.ServeHTTP(w, r)
		}()
		if w.Code == http.StatusInternalServerError {
			t.Errorf("%s %s %q: %s", to.method, to.path, body, w.Body)
		}
		if s.Err() != nil || s.term.Load() == nil {
			t.Fatalf("%s %s %q: the master is over: %v", to.method, to.path, body, s.Err())
		}
	})
}
