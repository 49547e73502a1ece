package httpapi

import (
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
)

// Pages of other sites change and read nothing with their reader's browser; programs, pages
// of this site and links are not concerned.
func TestOtherOrigins(t *testing.T) {
	rt := NewRouter("master")
	rt.Handle("/x", Open("test"), func(w http.ResponseWriter, _ *http.Request) error {
		_, err := io.WriteString(w, "ok")
		return err
	})
	for _, tc := range []struct {
		what, method string
		header       map[string]string
		status       int
	}{
		{"a program", "POST", nil, 200},
		{"a page of this site", "POST", map[string]string{"Origin": "http://m:5050", "Sec-Fetch-Site": "same-origin"}, 200},
		{"a form of another site", "POST", map[string]string{"Origin": "http://evil", "Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}, 403},
		{"one in an old browser", "POST", map[string]string{"Origin": "http://evil"}, 403},
		{"one of a neighbour", "POST", map[string]string{"Origin": "http://m:80", "Sec-Fetch-Site": "same-site"}, 403},
		{"an old browser, at home", "DELETE", map[string]string{"Origin": "http://m:5050"}, 200},
		{"a link", "GET", map[string]string{"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}, 200},
		{"JSONP of another site", "GET", map[string]string{"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}, 403},
		{"JSONP of a neighbour", "GET", map[string]string{"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "no-cors"}, 200},
		{"typed by hand", "GET", map[string]string{"Sec-Fetch-Site": "none", "Sec-Fetch-Mode": "navigate"}, 200},
	} {
		r := httptest.NewRequest(tc.method, "http://m:5050/x", nil)
		for k, v := range tc.header {
			r.Header.Set(k, v)
		}
		w := httptest.NewRecorder()
		rt.ServeHTTP(w, r)
		if w.Code != tc.status {
			t.Errorf("%s: got %d, want %d", tc.what, w.Code, tc.status)
		}
	}
}
