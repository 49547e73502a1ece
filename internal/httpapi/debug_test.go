package httpapi

import (
	"bytes"
	"compress/gzip"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"clusterd/internal/authn"
	"clusterd/internal/authz"
	"clusterd/internal/metrics"
)

// anybody authenticates everybody as the same principal.
type anybody struct{}

func (anybody) Authenticate(*http.Request, authn.Realm) (*authz.Principal, error) {
	return &authz.Principal{Value: "ops"}, nil
}

func debugRouter(t *testing.T) (*Router, *Debug) {
	t.Helper()
	rt, d := NewRouter("master"), &Debug{Realm: authn.MasterReadwrite}
	d.Register(rt)
	t.Cleanup(d.Close)
	return rt, d
}

// ask sends a request from an address.
func ask(t *testing.T, rt *Router, from, path string, header ...string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil)
	r.RemoteAddr, r.Host = from, "localhost:5050"
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
		if header[i] == "Host" {
			r.Host = header[i+1]
		}
	}
	w := httptest.NewRecorder()
	rt.ServeHTTP(w, r)
	return w
}

const (
	here  = "127.0.0.1:1234"
	there = "192.0.2.7:1234"
)

func TestDebugIsGuarded(t *testing.T) {
	rt, _ := debugRouter(t)
	for _, path := range []string{"/debug/pprof", "/debug/pprof/heap", "/debug/pprof/profile?seconds=1", "/debug/flight", "/master/debug/pprof/goroutine?debug=2"} {
		if w := ask(t, rt, there, path); w.Code != http.StatusForbidden {
			t.Errorf("%s from elsewhere: %d", path, w.Code)
		}
		if w := ask(t, rt, here, path, "Origin", "http://evil.example"); w.Code != http.StatusForbidden {
			t.Errorf("%s from a page: %d", path, w.Code)
		}
		if w := ask(t, rt, here, path, "Host", "evil.example"); w.Code != http.StatusForbidden {
			t.Errorf("%s by a name that leads here: %d", path, w.Code)
		}
	}
	for _, from := range []string{here, "[::1]:1234"} {
		if w := ask(t, rt, from, "/debug/pprof"); w.Code != http.StatusOK || !strings.Contains(w.Body.String(), "goroutine (") {
			t.Errorf("from %s: %d %s", from, w.Code, w.Body)
		}
	}
	// Where people authenticate, it does not matter where from; but the rules do.
	rt.Realms = authn.Realms{authn.MasterReadwrite: anybody{}}
	if w := ask(t, rt, there, "/debug/pprof/heap"); w.Code != http.StatusOK {
		t.Errorf("authenticated: %d %s", w.Code, w.Body)
	}
	acls, err := authz.Parse([]byte(`{"permissive": false, "get_endpoints": [{"principals": {"values": ["ops"]}, "paths": {"values": ["/debug/flight"]}}]}`))
	if err != nil {
		t.Fatal(err)
	}
	rt.Policy = func() *authz.ACLs { return acls }
	if w := ask(t, rt, there, "/debug/pprof/heap"); w.Code != http.StatusForbidden {
		t.Errorf("without the permission: %d", w.Code)
	}
	if w := ask(t, rt, there, "/debug/flight"); w.Code != http.StatusAccepted {
		t.Errorf("with the permission: %d %s", w.Code, w.Body)
	}
}

func TestDebugProfiles(t *testing.T) {
	rt, d := debugRouter(t)
	w := ask(t, rt, here, "/debug/pprof/goroutine")
	z, err := gzip.NewReader(w.Body)
	if err != nil {
		t.Fatalf("a profile is not gzipped: %v", err)
	}
	if raw, err := io.ReadAll(z); err != nil || !bytes.Contains(raw, []byte("TestDebugProfiles")) {
		t.Errorf("the profile does not show this test: %v", err)
	}
	if w := ask(t, rt, here, "/debug/pprof/goroutine?debug=1"); !strings.HasPrefix(w.Body.String(), "goroutine profile: total ") {
		t.Errorf("as text: %s", w.Body)
	}
	for _, bad := range []string{
		"/debug/pprof/profile?seconds=0", "/debug/pprof/profile?seconds=61", "/debug/pprof/trace?seconds=-1",
		"/debug/pprof/profile?seconds=many", "/debug/pprof/heap?debug=3",
	} {
		if w := ask(t, rt, here, bad); w.Code != http.StatusBadRequest {
			t.Errorf("%s: %d", bad, w.Code)
		}
	}
	for _, none := range []string{"/debug/pprof/nosuch", "/debug/flight/x", "/debug", "/debug/pprof/heap/x"} {
		if w := ask(t, rt, here, none); w.Code != http.StatusNotFound {
			t.Errorf("%s: %d", none, w.Code)
		}
	}
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/debug/pprof/heap", nil)
	r.RemoteAddr = here
	post := httptest.NewRecorder()
	if rt.ServeHTTP(post, r); post.Code != http.StatusMethodNotAllowed {
		t.Errorf("POST: %d", post.Code)
	}
	// One at a time.
	d.measuring.Lock()
	for _, path := range []string{"/debug/pprof/profile", "/debug/pprof/trace", "/debug/pprof/heap"} {
		if w := ask(t, rt, here, path); w.Code != http.StatusTooManyRequests {
			t.Errorf("%s while another is taken: %d", path, w.Code)
		}
	}
	d.measuring.Unlock()
	// Who goes ends it.
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	r = httptest.NewRequestWithContext(ctx, http.MethodGet, "/debug/pprof/profile?seconds=60", nil)
	r.RemoteAddr = here
	rt.ServeHTTP(httptest.NewRecorder(), r)
	if !d.measuring.TryLock() {
		t.Fatal("still measuring")
	}
	d.measuring.Unlock()
	if w := ask(t, rt, here, "/debug/pprof/profile?seconds=1"); w.Code != http.StatusOK || !bytes.HasPrefix(w.Body.Bytes(), []byte{0x1f, 0x8b}) {
		t.Errorf("profile: %d, %d bytes", w.Code, w.Body.Len())
	}
}

func TestFlightRecorder(t *testing.T) {
	rt, d := debugRouter(t)
	if w := ask(t, rt, here, "/debug/flight"); w.Code != http.StatusAccepted || !strings.Contains(w.Body.String(), "Ask again") {
		t.Fatalf("the first time: %d %s", w.Code, w.Body)
	}
	w := ask(t, rt, here, "/debug/flight")
	if w.Code != http.StatusOK || !bytes.HasPrefix(w.Body.Bytes(), []byte("go 1.")) {
		t.Fatalf("then: %d, begins with %.20q", w.Code, w.Body)
	}
	d.Close()
	if err := d.Record(); err != nil {
		t.Fatal(err)
	}
	if w := ask(t, rt, here, "/debug/flight"); w.Code != http.StatusOK {
		t.Errorf("recorded from the start: %d", w.Code)
	}
}

func TestHealth(t *testing.T) {
	var checks []Check
	rt := NewRouter("master")
	Common{
		Metrics: metrics.NewRegistry(), Verbosity: NewVerbosity(0), Readonly: authn.MasterReadonly, Readwrite: authn.MasterReadwrite,
		Health: func() []Check { return checks },
	}.Register(rt)
	since := time.Date(2026, 11, 23, 1, 2, 3, 0, time.UTC)
	for _, tt := range []struct {
		name    string
		checks  []Check
		status  int
		body    string
		verbose string
	}{
		{"nothing is looked at", nil, 200, "", `{"checks":[],"status":"healthy"}`},
		{
			"degraded",
			[]Check{{Name: "core"}, {Name: "leader", Status: Degraded, Reason: "None is known."}},
			200, "",
			`{"checks":[{"name":"core","status":"healthy"},{"name":"leader","status":"degraded","reason":"None is known."}],"status":"degraded"}`,
		},
		{
			"unhealthy",
			[]Check{
				{Name: "core", Status: Unhealthy, Reason: "It does not answer.", Since: since},
				{Name: "leader", Status: Degraded, Reason: "x"},
				{Name: "disk", Status: Unhealthy, Reason: "It is full."},
			},
			503, "core: It does not answer.\ndisk: It is full.\n",
			`{"checks":[{"name":"core","status":"unhealthy","reason":"It does not answer.","since":"2026-11-23T01:02:03Z"},` +
				`{"name":"leader","status":"degraded","reason":"x"},{"name":"disk","status":"unhealthy","reason":"It is full."}],"status":"unhealthy"}`,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			checks = tt.checks
			if w := get(t, rt, http.MethodGet, "/master/health"); w.Code != tt.status || w.Body.String() != tt.body {
				t.Errorf("got %d %q, want %d %q", w.Code, w.Body, tt.status, tt.body)
			}
			if w := get(t, rt, http.MethodGet, "/health?verbose"); w.Code != tt.status || w.Body.String() != tt.verbose || w.Header().Get("Content-Type") != "application/json" {
				t.Errorf("got %d %s, want %d %s", w.Code, w.Body, tt.status, tt.verbose)
			}
			if w := get(t, rt, http.MethodHead, "/health?verbose"); w.Code != tt.status || w.Body.Len() != 0 {
				t.Errorf("HEAD: %d %s", w.Code, w.Body)
			}
		})
	}
}

func TestMeasure(t *testing.T) {
	m, rt := metrics.NewRegistry(), NewRouter("master")
	rt.Measure(m)
	rt.Handle("/a", Open("a test"), func(w http.ResponseWriter, _ *http.Request) error {
		WriteStatus(w, http.StatusAccepted)
		return nil
	})
	rt.Handle("/b", Open("a test"), func(http.ResponseWriter, *http.Request) error { return BadRequest("no") })
	rt.Handle("/c", Open("a test"), func(_ http.ResponseWriter, r *http.Request) error {
		Stream(r)
		return nil
	})
	for _, path := range []string{"/a", "/master/a/b", "/b", "/c", "/nosuch"} {
		get(t, rt, http.MethodGet, path)
	}
	get(t, rt, "BREW", "/a")
	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", nil))
	var got []string
	for line := range strings.SplitSeq(w.Body.String(), "\n") {
		if rest, ok := strings.CutPrefix(line, "clusterd_http_request_duration_seconds_count"); ok {
			got = append(got, rest)
		}
	}
	want := `{code="2xx",method="GET",route="/a"} 2 {code="2xx",method="other",route="/a"} 1 {code="4xx",method="GET",route="/b"} 1`
	if s := strings.Join(got, " "); s != want {
		t.Errorf("got %s, want %s", s, want)
	}
}
