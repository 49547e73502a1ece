package httpapi

import (
	"crypto/tls"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// overTLS is a request as a browser makes it over TLS.
func overTLS(method string) *http.Request {
	r := httptest.NewRequest(method, "https://master:5050/", nil)
	r.TLS = &tls.ConnectionState{}
	return r
}

// TestEncrypted: what the browser speaks is not what this server hears where a proxy ends TLS.
func TestEncrypted(t *testing.T) {
	for _, row := range []struct {
		name   string
		tls    bool
		header map[string]string
		want   bool
	}{
		{"in clear", false, nil, false},
		{"TLS", true, nil, true},
		{"a page behind a proxy that says nothing", false, map[string]string{"Origin": "https://Master:5050"}, true},
		{"a page in clear", false, map[string]string{"Origin": "http://master:5050"}, false},
		{"another site's page", false, map[string]string{"Origin": "https://other"}, false},
		{"a proxy says it", false, map[string]string{"X-Forwarded-Proto": "https"}, true},
		{"the first of two says it", false, map[string]string{"X-Forwarded-Proto": "https, http"}, true},
		{"the browser speaks clear with a proxy", true, map[string]string{"X-Forwarded-Proto": "http"}, false},
		{"a cookie that goes by TLS only", false, map[string]string{"Cookie": "a=b; __Host-clusterd_session=x"}, true},
		{"another's cookie", false, map[string]string{"Cookie": "__Host-other=x; clusterd_session=x"}, false},
	} {
		t.Run(row.name, func(t *testing.T) {
			r := httptest.NewRequest(http.MethodGet, "http://master:5050/", nil)
			if row.tls {
				r.TLS = &tls.ConnectionState{}
			}
			for k, v := range row.header {
				r.Header.Set(k, v)
			}
			if got := Encrypted(r); got != row.want {
				t.Errorf("got %v", got)
			}
			out := http.Header{"X-Forwarded-Proto": {"else"}}
			Forward(out, r)
			if got := out.Get("X-Forwarded-Proto") == "https"; got != row.want {
				t.Errorf("the next server is told %q", out)
			}
		})
	}
}

// TestSessionOverTLS: its cookies are this host's alone, and no other counts.
func TestSessionOverTLS(t *testing.T) {
	long := "Bearer " + strings.Repeat("k", 6000)
	in := overTLS(http.MethodPost)
	in.AddCookie(&http.Cookie{Name: SessionCookie, Value: "QmFzaWMgWVRwaQ"}) // of an older version
	rec := httptest.NewRecorder()
	if !SetSession(rec, in, long) {
		t.Fatal("it was not set")
	}
	r := overTLS(http.MethodGet)
	for _, c := range rec.Result().Cookies() {
		own := strings.HasPrefix(c.Name, HostPrefix)
		if !c.Secure || !c.HttpOnly || c.SameSite != http.SameSiteStrictMode || c.Path != "/" || c.Domain != "" || own == (c.MaxAge < 0) {
			t.Errorf("cookie %+v", c)
		}
		if own {
			r.AddCookie(c)
		}
	}
	if n := len(rec.Result().Cookies()); n != 4 {
		t.Errorf("%d cookies, want three and the end of the old one", n)
	}
	if got := Session(r); got != long {
		t.Errorf("got %d bytes, want %d", len(got), len(long))
	}

	// It ends whole, and with it what an older version has left.
	r.AddCookie(&http.Cookie{Name: SessionCookie, Value: "old"})
	rec = httptest.NewRecorder()
	EndSession(rec, r)
	ended := map[string]bool{}
	for _, c := range rec.Result().Cookies() {
		ended[c.Name] = c.MaxAge < 0 && c.Value == "" && c.Secure
	}
	for _, name := range []string{SessionCookie, HostPrefix + SessionCookie, HostPrefix + SessionCookie + ".1", HostPrefix + SessionCookie + ".2"} {
		if !ended[name] {
			t.Errorf("%s did not end: %v", name, ended)
		}
	}

	// What somebody between has set in clear is nobody's session.
	forged := overTLS(http.MethodGet)
	forged.AddCookie(&http.Cookie{Name: SessionCookie, Value: "QmFzaWMgWVRwaQ"})
	if got := Session(forged); got != "" || hasSession(forged) {
		t.Errorf("a cookie without the prefix counts: %q", got)
	}
	both := overTLS(http.MethodGet)
	both.AddCookie(&http.Cookie{Name: SessionCookie, Value: "QmFzaWMgWVRwaQ"})
	both.AddCookie(&http.Cookie{Name: HostPrefix + SessionCookie, Value: "QmVhcmVyIHg"})
	if got := Session(both); got != "Bearer x" {
		t.Errorf("got %q", got)
	}
}
