package httpapi

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rs/zerolog"

	"clusterd/api/mesos/v1/agent"
	"clusterd/api/mesos/v1/master"
)

func get(t *testing.T, h http.Handler, method, target string, header ...string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), method, target, nil)
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func TestRouter(t *testing.T) {
	rt := NewRouter("slave(1)", "slave")
	for _, path := range []string{"/", "/api/v1", "/api/v1/executor", "/slaves", "/state", "/files/browse", "/system/stats.json", "/registrar(1)/registry"} {
		rt.Handle(path, Open("test"), func(w http.ResponseWriter, r *http.Request) error {
			_, _ = io.WriteString(w, path+"|"+Rest(r))
			return nil
		})
	}
	tests := map[string]string{
		"/":                             "/|",
		"/slave(1)":                     "/|",
		"/slave%281%29/state":           "/state|",
		"/slave(1)/state":               "/state|",
		"/slave/state/":                 "/state|",
		"/state.json":                   "/state|",
		"/slave(1)/state.json":          "/state|",
		"/state/x/y":                    "/state|x/y",
		"/slaves/S0":                    "/slaves|S0",
		"/slaves/":                      "/slaves|",
		"/api/v1/":                      "/api/v1|",
		"/api/v1/operator":              "/api/v1|operator",
		"/api/v1/executor":              "/api/v1/executor|",
		"/files/browse.json?path=x":     "/files/browse|",
		"/system/stats.json":            "/system/stats.json|",
		"/registrar(1)/registry":        "/registrar(1)/registry|",
		"/statex":                       "404 Not Found.",
		"/api":                          "404 Not Found.",
		"/nosuch/state":                 "404 Not Found.",
		"/state/../state":               "404 Not Found.",
		"/files/browse/%2e%2e/x":        "404 Not Found.",
		"/.json":                        "404 Not Found.",
		"/slave(2)/state":               "404 Not Found.",
		"/slavestate":                   "404 Not Found.",
		"//state":                       "/state|",
		"/slave(1)//state":              "/state|",
		"/slave(1)/slave(1)/state":      "404 Not Found.",
		"/state.json.json":              "404 Not Found.",
		"/slaves/4b4fd-S0%2Fstate.json": "/slaves|4b4fd-S0/state.json",
	}
	for path, want := range tests {
		if got := get(t, rt, http.MethodGet, path).Body.String(); got != want {
			t.Errorf("GET %s answers %q, want %q", path, got, want)
		}
	}
}

func TestRouterDisabled(t *testing.T) {
	rt := NewRouter("master")
	common().Register(rt)
	if unknown := rt.Disable("/master/flags", "/metrics/snapshot", "/nosuch", "/flags/x"); !slices.Equal(unknown, []string{"/nosuch", "/flags/x"}) {
		t.Errorf("unknown are %q", unknown)
	}
	for path, want := range map[string]int{
		"/flags": 403, "/master/flags": 403, "/metrics/snapshot": 403, "/health": 200,
		"/flags/": 403, "//flags": 403, "/master//flags": 403, "/flags.json": 403, "/flags/x": 403, "/metrics/snapshot.json": 403,
	} {
		w := get(t, rt, http.MethodGet, path)
		if w.Code != want {
			t.Errorf("GET %s answers %d, want %d", path, w.Code, want)
		}
		if want == 403 && w.Body.String() != "Endpoint '"+path+"' is disabled" {
			t.Errorf("GET %s answers %q", path, w.Body)
		}
	}
}

func TestRouterErrors(t *testing.T) {
	rt := NewRouter()
	var seen []string
	rt.OnError = func(_ *http.Request, err error) { seen = append(seen, err.Error()) }
	rt.Handle("/wrapped", Open("test"), func(http.ResponseWriter, *http.Request) error {
		return errors.Join(errors.New("outer"), Conflict("taken %d", 5))
	})
	rt.Handle("/plain", Open("test"), func(http.ResponseWriter, *http.Request) error { return errors.New("disk on fire") })
	rt.Handle("/unauthorized", Open("test"), func(http.ResponseWriter, *http.Request) error { return Unauthorized("mesos-master-readonly") })
	if w := get(t, rt, http.MethodGet, "/wrapped"); w.Code != 409 || w.Body.String() != "taken 5" {
		t.Errorf("wrapped error answers %d %q", w.Code, w.Body)
	}
	if w := get(t, rt, http.MethodGet, "/plain"); w.Code != 500 || w.Body.String() != "disk on fire" {
		t.Errorf("plain error answers %d %q", w.Code, w.Body)
	}
	w := get(t, rt, http.MethodGet, "/unauthorized")
	if w.Code != 401 || w.Body.String() != "401 Unauthorized." || w.Header().Get("WWW-Authenticate") != `Basic realm="mesos-master-readonly"` {
		t.Errorf("unauthorized answers %d %q %v", w.Code, w.Body, w.Header())
	}
	if len(seen) != 3 {
		t.Errorf("OnError saw %q, want three errors", seen)
	}
}

func TestAccepts(t *testing.T) {
	tests := []struct {
		accept []string // nil: no header
		want   Media
		ok     bool
	}{
		{nil, JSON, true},
		{[]string{"*/*"}, JSON, true},
		{[]string{"application/*"}, JSON, true},
		{[]string{"application/x-protobuf"}, Protobuf, true},
		{[]string{"APPLICATION/JSON"}, JSON, true},
		{[]string{"application/x-protobuf, application/json"}, JSON, true},
		{[]string{"application/x-protobuf", "application/json"}, JSON, true},
		{[]string{"application/x-protobuf;q=0.9,application/json;q=0.1"}, JSON, true},
		{[]string{"application/json;q=0, application/x-protobuf"}, Protobuf, true},
		{[]string{"application/json;q=0.0,*/*"}, Protobuf, true},
		{[]string{"application/json;q=x"}, JSON, false},
		{[]string{"application/json; charset=utf-8"}, JSON, true},
		{[]string{"text/html"}, JSON, false},
		{[]string{""}, JSON, false},
		{[]string{"application/jsonx"}, JSON, false},
		{[]string{"*/*;q=0"}, JSON, false},
	}
	for _, tt := range tests {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", nil)
		if tt.accept != nil {
			r.Header["Accept"] = tt.accept
		}
		got, err := ResponseMedia(r)
		if (err == nil) != tt.ok || got != tt.want {
			t.Errorf("Accept %q: %v, %v; want %v, ok %t", tt.accept, got, err, tt.want, tt.ok)
		}
	}
}

func TestNegotiateAgent(t *testing.T) {
	tests := []struct {
		name   string
		header map[string]string
		want   AgentMedia
		err    string
	}{
		{name: "plain", header: map[string]string{"Content-Type": "application/json"}},
		{name: "streaming", header: map[string]string{"Content-Type": "application/recordio", "Message-Content-Type": "application/x-protobuf", "Accept": "application/recordio", "Message-Accept": "application/x-protobuf"}, want: AgentMedia{RecordIO, Protobuf, RecordIO, Protobuf}},
		{name: "streaming, message accept by default", header: map[string]string{"Content-Type": "application/x-protobuf", "Accept": "application/recordio"}, want: AgentMedia{Protobuf, JSON, RecordIO, JSON}},
		{name: "other type", header: map[string]string{"Content-Type": "text/plain"}, err: "415: Expecting 'Content-Type' of application/json or application/x-protobuf or application/recordio"},
		{name: "no message type", header: map[string]string{"Content-Type": "application/recordio"}, err: "400: Expecting 'Message-Content-Type' to be set for streaming requests"},
		{name: "other message type", header: map[string]string{"Content-Type": "application/recordio", "Message-Content-Type": "text/plain"}, err: "415: Expecting 'Message-Content-Type' of application/json or application/x-protobuf"},
		{name: "message type unasked", header: map[string]string{"Content-Type": "application/json", "Message-Content-Type": "application/json"}, err: "415: Expecting 'Message-Content-Type' to be not set for non-streaming requests"},
		{name: "nothing acceptable", header: map[string]string{"Content-Type": "application/json", "Accept": "text/html"}, err: "406: Expecting 'Accept' to allow application/json or application/x-protobuf or application/recordio"},
		{name: "message accept unasked", header: map[string]string{"Content-Type": "application/json", "Message-Accept": "application/json"}, err: "406: Expecting 'Message-Accept' to be not set for non-streaming responses"},
		{name: "message accept", header: map[string]string{"Content-Type": "application/json", "Accept": "application/recordio", "Message-Accept": "text/html"}, err: "406: Expecting 'Message-Accept' to allow application/json or application/x-protobuf"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", nil)
			for k, v := range tt.header {
				r.Header.Set(k, v)
			}
			got, err := NegotiateAgent(r)
			if tt.err != "" {
				if err == nil || err.Error() != tt.err {
					t.Errorf("error is %v, want %s", err, tt.err)
				}
				return
			}
			if err != nil || got != tt.want {
				t.Errorf("got %v, %v; want %v", got, err, tt.want)
			}
		})
	}
}

func gzipped(t *testing.T, data []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	if _, err := z.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestReadBody(t *testing.T) {
	const limit = 1000
	tests := []struct {
		name    string
		body    []byte
		gzip    bool
		chunked bool
		status  int // 0: read
	}{
		{name: "empty", body: nil},
		{name: "at the limit", body: bytes.Repeat([]byte("a"), limit)},
		{name: "announced above it", body: bytes.Repeat([]byte("a"), limit+1), status: 413},
		{name: "chunked above it", body: bytes.Repeat([]byte("a"), limit+1), chunked: true, status: 413},
		{name: "gzip at the limit", body: gzipped(t, bytes.Repeat([]byte("a"), limit)), gzip: true},
		{name: "gzip bomb", body: gzipped(t, bytes.Repeat([]byte("a"), 1<<20)), gzip: true, status: 413},
		{name: "not gzip", body: []byte("hello"), gzip: true, status: 400},
		{name: "gzip cut short", body: gzipped(t, bytes.Repeat([]byte("a"), limit))[:15], gzip: true, status: 400},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := make(chan error, 1)
			var read []byte
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				var err error
				read, err = ReadBody(w, r, limit)
				if err != nil {
					WriteError(w, err)
				}
				got <- err
			}))
			defer srv.Close()
			var body io.Reader = bytes.NewReader(tt.body)
			if tt.chunked {
				body = io.MultiReader(body)
			}
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, srv.URL, body)
			if err != nil {
				t.Fatal(err)
			}
			if tt.gzip {
				req.Header.Set("Content-Encoding", "gzip")
			}
			resp, err := srv.Client().Do(req)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			err = <-got
			if tt.status == 0 {
				if err != nil || len(read) > limit {
					t.Errorf("read %d bytes, error %v", len(read), err)
				}
				return
			}
			if resp.StatusCode != tt.status {
				t.Errorf("status is %d (%v), want %d", resp.StatusCode, err, tt.status)
			}
		})
	}
}

func TestDecodeCall(t *testing.T) {
	decode := func(media Media, body string) error {
		return UnmarshalCall([]byte(body), media, new(master.Call))
	}
	for _, tt := range []struct {
		body, want string
	}{
		{`{"type":"GET_HEALTH"}`, ""},
		{`{"type":"GET_HEALTH"`, "400: Failed to parse body into JSON: syntax error at line 1 near: "},
		{`[]`, "400: Failed to convert JSON into Call protobuf: "},
		{`{"type":"TEARDOWN","teardown":{}}`, "400: Failed to convert JSON into Call protobuf: Missing required fields: teardown.framework_id"},
	} {
		err := decode(JSON, tt.body)
		if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.HasPrefix(err.Error(), tt.want)) {
			t.Errorf("%s: error %v, want %q", tt.body, err, tt.want)
		}
	}
	if err := decode(Protobuf, "\x01\x02x"); err == nil || err.Error() != "400: Failed to parse body into Call protobuf" {
		t.Errorf("bad protobuf: %v", err)
	}
	// The agent's API does not say "Failed to convert".
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", strings.NewReader(`{"type":"KILL_CONTAINER","kill_container":{}}`))
	r.Header.Set("Content-Type", "application/json")
	_, err := DecodeAgentCall(httptest.NewRecorder(), r, new(agent.Call))
	if err == nil || err.Error() != "400: Missing required fields: kill_container.container_id" {
		t.Errorf("agent call: %v", err)
	}
}

func TestWriteJSON(t *testing.T) {
	small, large := []byte(`{"a":1}`), []byte(`{"a":"`+strings.Repeat("x", 2000)+`"}`)
	rt := NewRouter()
	rt.Handle("/small", Open("test"), func(w http.ResponseWriter, r *http.Request) error { return WriteJSON(w, r, small) })
	rt.Handle("/large", Open("test"), func(w http.ResponseWriter, r *http.Request) error { return WriteJSON(w, r, large) })

	w := get(t, rt, http.MethodGet, "/small?jsonp=angular.callbacks._0")
	if got := w.Body.String(); got != `angular.callbacks._0({"a":1})` || w.Header().Get("Content-Type") != "text/javascript" {
		t.Errorf("JSONP answers %q, %v", got, w.Header())
	}
	for _, bad := range []string{"", "alert(1)//", "a;b", "<script>", strings.Repeat("a", 200)} {
		if w := get(t, rt, http.MethodGet, "/small?jsonp="+strings.NewReplacer(";", "%3B", "<", "%3C", ">", "%3E").Replace(bad)); w.Code != 400 {
			t.Errorf("JSONP function %q answers %d %q", bad, w.Code, w.Body)
		}
	}
	for _, tt := range []struct {
		path, accept string
		want         bool
	}{
		{"/large", "gzip", true},
		{"/large", "deflate, gzip;q=0.5", true},
		{"/large", "*", true},
		{"/large", "gzip;q=0", false},
		{"/large", "identity", false},
		{"/small", "gzip", false},
	} {
		w := get(t, rt, http.MethodGet, tt.path, "Accept-Encoding", tt.accept)
		if got := w.Header().Get("Content-Encoding") == "gzip"; got != tt.want {
			t.Errorf("%s with Accept-Encoding %q: gzipped %t, want %t", tt.path, tt.accept, got, tt.want)
		}
		if tt.want {
			z, err := gzip.NewReader(w.Body)
			if err != nil {
				t.Fatal(err)
			}
			if data, err := io.ReadAll(z); err != nil || !bytes.Equal(data, large) {
				t.Errorf("%s: unpacked to %d bytes, %v", tt.path, len(data), err)
			}
		}
	}
	if w := get(t, rt, http.MethodGet, "/large"); w.Header().Get("Content-Encoding") != "" {
		t.Error("gzipped without being asked")
	}
	if w := get(t, rt, http.MethodHead, "/large"); w.Body.Len() != 0 || w.Header().Get("Content-Length") != "2008" {
		t.Errorf("HEAD answers %d bytes, Content-Length %s", w.Body.Len(), w.Header().Get("Content-Length"))
	}
}

func TestCommon(t *testing.T) {
	c := common()
	c.Metrics.Counter("master/dropped_messages").Add(3)
	c.Metrics.CollectSystem()
	rt := NewRouter("master")
	c.Register(rt)

	if got, want := get(t, rt, http.MethodGet, "/master/flags").Body.String(), `{"flags":{"ip":"127.0.0.1","quiet":"false"}}`; got != want {
		t.Errorf("/flags answers %s, want %s", got, want)
	}
	var snapshot map[string]float64
	if err := json.Unmarshal(get(t, rt, http.MethodGet, "/metrics/snapshot?timeout=5secs").Body.Bytes(), &snapshot); err != nil {
		t.Fatal(err)
	}
	if snapshot["master/dropped_messages"] != 3 || snapshot["system/mem_total_bytes"] <= 0 {
		t.Errorf("/metrics/snapshot answers %v", snapshot)
	}
	if w := get(t, rt, http.MethodGet, "/metrics/snapshot?timeout=5"); w.Code != 400 || w.Body.String() != "Invalid timeout '5': Invalid duration '5'.\n" {
		t.Errorf("bad timeout answers %d %q", w.Code, w.Body)
	}
	if w := get(t, rt, http.MethodGet, "/metrics/prometheus"); w.Code != 200 || !strings.Contains(w.Body.String(), "\nclusterd_master_dropped_messages_total 3\n") {
		t.Errorf("/metrics/prometheus answers %d:\n%s", w.Code, w.Body)
	}
	var stats map[string]float64
	if err := json.Unmarshal(get(t, rt, http.MethodGet, "/system/stats.json").Body.Bytes(), &stats); err != nil {
		t.Fatal(err)
	}
	for _, k := range []string{"avg_load_1min", "avg_load_5min", "avg_load_15min", "cpus_total", "mem_total_bytes", "mem_free_bytes"} {
		if _, ok := stats[k]; !ok {
			t.Errorf("/system/stats.json lacks %s", k)
		}
	}
	help := get(t, rt, http.MethodGet, "/help")
	if want := "## HELP\n> [/help][help]\n> [/logging][logging]\n> [/master][master]\n"; !strings.HasPrefix(help.Body.String(), want) || help.Header().Get("Content-Type") != "text/x-markdown" {
		t.Errorf("/help answers %q", help.Body)
	}
	if w := get(t, rt, http.MethodGet, "/help/nosuch"); w.Code != 400 {
		t.Errorf("/help/nosuch answers %d", w.Code)
	}
	if w := get(t, rt, http.MethodPost, "/flags"); w.Code != 405 {
		t.Errorf("POST /flags answers %d", w.Code)
	}
}

func TestLoggingToggle(t *testing.T) {
	for _, tt := range []struct {
		query, want string
		status      int
	}{
		{"", "1\n", 200},
		{"?level=2", "Expecting 'duration=value' in query.\n", 400},
		{"?duration=1secs", "Expecting 'level=value' in query.\n", 400},
		{"?level=x&duration=1secs", "Failed to convert 'x' to number.\n", 400},
		{"?level=99999999999&duration=1secs", "Failed to convert '99999999999' to number.\n", 400},
		{"?level=-1&duration=1secs", "Invalid level '-1'.\n", 400},
		{"?level=0&duration=1secs", "'0' < original level.\n", 400},
		{"?level=2&duration=x", "Failed to convert '' to number.\n", 400},
		{"?level=2&duration=1hrs", "", 200},
	} {
		rt := NewRouter()
		c := common()
		c.Verbosity = NewVerbosity(1)
		c.Register(rt)
		w := get(t, rt, http.MethodGet, "/logging/toggle"+tt.query)
		if w.Code != tt.status || w.Body.String() != tt.want {
			t.Errorf("/logging/toggle%s answers %d %q, want %d %q", tt.query, w.Code, w.Body, tt.status, tt.want)
		}
	}
}

func TestVerbosityReverts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := NewVerbosity(0)
		var out bytes.Buffer
		log := zerolog.New(&out).Level(zerolog.TraceLevel).Sample(v)
		log.Debug().Msg("hidden")
		log.Info().Msg("shown")
		if err := v.Set(1, time.Minute); err != nil {
			t.Fatal(err)
		}
		log.Debug().Msg("debug")
		log.Trace().Msg("hidden")
		if err := v.Set(2, time.Minute*2); err != nil {
			t.Fatal(err)
		}
		log.Trace().Msg("trace")
		time.Sleep(90 * time.Second) // the first revert must not cut the second short
		synctest.Wait()
		if v.Level() != 2 {
			t.Errorf("level after 90s is %d, want 2", v.Level())
		}
		time.Sleep(31 * time.Second)
		synctest.Wait()
		if v.Level() != 0 {
			t.Errorf("level after 121s is %d, want 0", v.Level())
		}
		log.Debug().Msg("hidden")
		if s := out.String(); strings.Contains(s, "hidden") || strings.Count(s, "\n") != 3 {
			t.Errorf("log is:\n%s", s)
		}
	})
}

func TestNumify(t *testing.T) {
	for in, want := range map[string]int64{"0": 0, "-1": -1, "+7": 7, "0x10": 16, "-0x10": -16, "0XfF": 255} {
		if got, err := Numify(in); err != nil || got != want {
			t.Errorf("Numify(%q) = %d, %v; want %d", in, got, err, want)
		}
	}
	for _, in := range []string{"", "abc", "1.5", "0x", "0x1.8", " 1", "99999999999999999999", "0x-1", "--1"} {
		if got, err := Numify(in); err == nil {
			t.Errorf("Numify(%q) = %d, want an error", in, got)
		} else if err.Error() != "Failed to convert '"+in+"' to number" {
			t.Errorf("Numify(%q): error %q", in, err)
		}
	}
}

func FuzzAppendString(f *testing.F) {
	f.Add("a\"b\\c\n\x00\x7f\xff\u2028é")
	f.Fuzz(func(t *testing.T, s string) {
		var back string
		if err := json.Unmarshal(AppendString(nil, s), &back); err != nil {
			t.Fatalf("AppendString(%q) = %s: %v", s, AppendString(nil, s), err)
		}
		if d := cmp.Diff(strings.ToValidUTF8(s, "\uFFFD"), back); d != "" && strings.ToValidUTF8(s, "") == s {
			t.Fatalf("AppendString(%q) reads as %q", s, back)
		}
	})
}
