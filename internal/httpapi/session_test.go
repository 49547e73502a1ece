package httpapi

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// browser sends back what cookies it was given.
func browser(t *testing.T, rec *httptest.ResponseRecorder, r *http.Request) *http.Request {
	t.Helper()
	for _, c := range rec.Result().Cookies() {
		if !c.HttpOnly || c.SameSite != http.SameSiteStrictMode || c.Path != "/" || c.Domain != "" {
			t.Errorf("cookie %s is not safe: %+v", c.Name, c)
		}
		if len(c.String()) > 4096 {
			t.Errorf("cookie %s has %d bytes, more than browsers take", c.Name, len(c.String()))
		}
		if c.MaxAge >= 0 {
			r.AddCookie(c)
		}
	}
	return r
}

func TestSessionIsTheHeader(t *testing.T) {
	for _, show := range []string{
		"Basic YTpi", "Bearer x.y.z", "Bearer " + strings.Repeat("k", 3000), "Bearer " + strings.Repeat("k", 16<<10), "Bearer \xff;,\"",
	} {
		rec := httptest.NewRecorder()
		if !SetSession(rec, httptest.NewRequest(http.MethodPost, "/", nil), show) {
			t.Fatalf("%d bytes are too long", len(show))
		}
		r := browser(t, rec, httptest.NewRequest(http.MethodGet, "/", nil))
		if got := Session(r); got != show {
			t.Errorf("got %d bytes %.40q, want %d bytes %.40q", len(got), got, len(show), show)
		}
		own, err := WithSession(r)
		if err != nil || own.Header.Get("Authorization") != show {
			t.Errorf("got %.40q, %v", own.Header.Get("Authorization"), err)
		}
		if r.Header.Get("Authorization") != "" {
			t.Error("the header of the client's own request was changed")
		}
		r.Header.Set("Authorization", "Basic own")
		if own, _ = WithSession(r); own.Header.Get("Authorization") != "Basic own" {
			t.Error("a session outweighs the request's own header")
		}
	}
	if SetSession(httptest.NewRecorder(), httptest.NewRequest(http.MethodPost, "/", nil), strings.Repeat("k", 100<<10)) {
		t.Error("a session of 100 KiB was set")
	}
}

func TestSessionShrinksAndEnds(t *testing.T) {
	rec := httptest.NewRecorder()
	SetSession(rec, httptest.NewRequest(http.MethodPost, "/", nil), "Bearer "+strings.Repeat("k", 10_000))
	long := browser(t, rec, httptest.NewRequest(http.MethodGet, "/", nil))
	rec = httptest.NewRecorder()
	SetSession(rec, long, "Basic YTpi")
	kept, deleted := 0, 0
	for _, c := range rec.Result().Cookies() {
		if c.MaxAge < 0 {
			deleted++
		} else {
			kept++
		}
	}
	if kept != 1 || deleted != 3 {
		t.Errorf("kept %d cookies and deleted %d, want 1 and 3", kept, deleted)
	}
	rec = httptest.NewRecorder()
	EndSession(rec, long)
	if n := len(rec.Result().Cookies()); n != 4 {
		t.Errorf("deleted %d cookies, want 4", n)
	}
	for _, c := range rec.Result().Cookies() {
		if c.MaxAge >= 0 || c.Value != "" {
			t.Errorf("cookie is not deleted: %v", c)
		}
	}
}

func TestBrokenSessionIsNone(t *testing.T) {
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	r.AddCookie(&http.Cookie{Name: SessionCookie, Value: "!!!"})
	if own, err := WithSession(r); err != nil || own.Header.Get("Authorization") != "" {
		t.Errorf("got %q, %v", own.Header.Get("Authorization"), err)
	}
}

// TestSessionOfOtherPages: cookies do not tell ports of a host apart.
func TestSessionOfOtherPages(t *testing.T) {
	for _, row := range []struct {
		name, method string
		header       map[string]string
		refused      bool
	}{
		{"a page reads", http.MethodGet, map[string]string{"Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "cors"}, false},
		{"a page reads, in clear", http.MethodGet, nil, false},
		{"an address is typed in", http.MethodGet, map[string]string{"Sec-Fetch-Site": "none", "Sec-Fetch-Mode": "navigate"}, false},
		{"a link is followed", http.MethodGet, map[string]string{"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}, false},
		{"another port shows an image", http.MethodGet, map[string]string{"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "no-cors"}, true},
		{"a page acts", http.MethodPost, map[string]string{"Origin": "http://master:5050"}, false},
		{"a page acts, behind TLS", http.MethodPost, map[string]string{"Origin": "https://Master:5050", "Sec-Fetch-Site": "same-origin"}, false},
		{"a page acts and says less", http.MethodPost, map[string]string{"Sec-Fetch-Site": "same-origin"}, false},
		{"another port acts", http.MethodPost, map[string]string{"Origin": "http://master:8080"}, true},
		{"another port acts and says it", http.MethodPost, map[string]string{"Origin": "http://master:8080", "Sec-Fetch-Site": "same-site"}, true},
		{"a sandboxed page acts", http.MethodPost, map[string]string{"Origin": "null"}, true},
		{"nothing is said", http.MethodPost, nil, true},
		{"nothing is said, to delete", http.MethodDelete, nil, true},
		{"a page opens a socket", http.MethodGet, map[string]string{"Upgrade": "websocket", "Origin": "http://master:5050"}, false},
		{"another port opens a socket", http.MethodGet, map[string]string{"Upgrade": "websocket", "Origin": "http://master:8080"}, true},
		{"who opens a socket says nothing", http.MethodGet, map[string]string{"Upgrade": "websocket"}, true},
	} {
		t.Run(row.name, func(t *testing.T) {
			r := httptest.NewRequest(row.method, "http://master:5050/state", nil)
			for k, v := range row.header {
				r.Header.Set(k, v)
			}
			name := SessionCookie
			if strings.HasPrefix(row.header["Origin"], "https:") {
				name = HostPrefix + name
			}
			r.AddCookie(&http.Cookie{Name: name, Value: "QmFzaWMgWVRwaQ"})
			own, err := WithSession(r)
			if (err != nil) != row.refused || (own.Header.Get("Authorization") != "") == row.refused {
				t.Errorf("got %q, %v, want refused %v", own.Header.Get("Authorization"), err, row.refused)
			}
		})
	}
}
