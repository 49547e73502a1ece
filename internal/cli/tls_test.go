package cli

import (
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"clusterd/api/client"
	"clusterd/internal/testcluster"
)

// TestTLSScripts runs the scripts of testdata/tls, which start masters and agents of
// their own.
func TestTLSScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/tls",
		Setup: func(e *testscript.Env) error {
			e.Setenv("HOME", e.WorkDir)
			for i := range 9 {
				l, err := net.Listen("tcp", "127.0.0.1:0")
				if err != nil {
					return err
				}
				e.Setenv(fmt.Sprint("PORT", i+1), fmt.Sprint(l.Addr().(*net.TCPAddr).Port))
				defer l.Close()
			}
			short, err := os.MkdirTemp("", "cd") //nolint:usetesting // the path of a socket is short
			if err != nil {
				return err
			}
			e.Setenv("SHORT", short)
			e.Defer(func() { os.RemoveAll(short) })
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"await": awaitOutput},
	})
}

// awaitOutput runs a command until it ends well and its output matches.
func awaitOutput(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: await regexp command [argument...]")
	}
	want := regexp.MustCompile("(?m)" + args[0])
	for end := time.Now().Add(testcluster.Patience); ; time.Sleep(100 * time.Millisecond) {
		out, err := tryCommand(ts, args[1:])
		if err == nil && want.MatchString(out) {
			return
		}
		if time.Now().After(end) {
			ts.Fatalf("gave up on %q: %v\n%s", args[1:], err, out)
		}
	}
}

func tryCommand(ts *testscript.TestScript, args []string) (string, error) {
	err := ts.Exec(args[0], args[1:]...)
	return ts.ReadFile("stdout"), err
}

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
			o := &client.Options{Token: "secret", TLS: &tls.Config{InsecureSkipVerify: true}}
			hc := client.NewTLSClient(nil, o.TLS)
			hc.CheckRedirect = followLeader(o)
			defer hc.CloseIdleConnections()
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, master.URL+path, strings.NewReader("{}"))
			if err != nil {
				t.Fatal(err)
			}
			authorize(req, o)
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
