package console

import (
	"crypto/tls"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"clusterd/api/client"
)

// Who asks is told to the leader that a master names, and to nobody else. Go by
// itself would tell nobody at another host.
func TestFollowLeader(t *testing.T) {
	var seen []string
	handler := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		seen = append(seen, r.Method+" "+r.URL.Path+" "+r.Header.Get("Authorization"))
	})
	leader, secure := httptest.NewServer(handler), httptest.NewTLSServer(handler)
	defer leader.Close()
	defer secure.Close()
	redirect := func(to string) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Location", to)
			w.WriteHeader(http.StatusTemporaryRedirect)
		})
	}
	const path = "/registry/add"
	for name, row := range map[string]struct {
		start string // scheme of the master that redirects
		to    string
		want  string // who is told, or the error after a !
	}{
		"without a scheme":          {"http", strings.TrimPrefix(leader.URL, "http:") + path, "POST " + path + " Bearer secret"},
		"another name of the host":  {"http", strings.Replace(leader.URL, "127.0.0.1", "localhost", 1) + path, "POST " + path + " Bearer secret"},
		"into TLS":                  {"http", secure.URL + path, "POST " + path + " Bearer secret"},
		"in TLS, without a scheme":  {"https", strings.TrimPrefix(secure.URL, "https:") + path, "POST " + path + " Bearer secret"},
		"out of TLS":                {"https", leader.URL + path, "!leads out of TLS"},
		"to another path":           {"http", leader.URL + "/other", "!is not what was asked for"},
		"to another path, in TLS":   {"https", secure.URL + "/", "!is not what was asked for"},
		"to another kind of scheme": {"http", "ftp://127.0.0.1" + path, "!unsupported protocol scheme"},
	} {
		t.Run(name, func(t *testing.T) {
			seen = nil
			serve := httptest.NewServer
			if row.start == "https" {
				serve = httptest.NewTLSServer
			}
			master := serve(redirect(row.to))
			defer master.Close()
			cl := &Cluster{
				target: &target{opts: client.Options{Token: "secret"}},
				base:   client.NewTLSClient(nil, &tls.Config{InsecureSkipVerify: true}).Transport,
			}
			hc := cl.Direct()
			defer hc.CloseIdleConnections()
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, master.URL+path, strings.NewReader("{}"))
			if err != nil {
				t.Fatal(err)
			}
			cl.Authorize(req)
			res, err := hc.Do(req)
			if err == nil {
				res.Body.Close()
			}
			want, fails := strings.CutPrefix(row.want, "!")
			switch {
			case fails && (err == nil || !strings.Contains(err.Error(), want) || len(seen) > 0):
				t.Errorf("got %v, told %q, want %q", err, seen, want)
			case !fails && (err != nil || len(seen) != 1 || seen[0] != want):
				t.Errorf("got %v, told %q, want %q", err, seen, want)
			}
		})
	}
}
