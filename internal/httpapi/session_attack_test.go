package httpapi

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"clusterd/internal/authn"
)

// TestSessionNotCached: what is read with a session is kept by no cache; what is for everybody
// may be.
func TestSessionNotCached(t *testing.T) {
	rt := NewRouter("master")
	rt.Guards = Guards{Realms: authn.Realms{authn.MasterReadonly: liveAuth{}}, Sessions: true}
	rt.Handle("/own", In(authn.MasterReadonly), func(w http.ResponseWriter, r *http.Request) error {
		return WriteJSON(w, r, []byte(`{}`))
	})
	rt.Handle("/public", Open("test"), func(w http.ResponseWriter, r *http.Request) error {
		w.Header().Set("Cache-Control", "max-age=60")
		return WriteJSON(w, r, []byte(`{}`))
	})
	for _, c := range []struct {
		path, cookie, want string
	}{
		{"/own", "QmFzaWMgYTpi", "no-store"},
		{"/own", "", ""}, // a program, which shows who it is in a header that caches know
		{"/public", "QmFzaWMgYTpi", "max-age=60"},
	} {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, c.path, http.NoBody)
		r.Header.Set("Who", "ann")
		if c.cookie != "" {
			r.AddCookie(&http.Cookie{Name: SessionCookie, Value: c.cookie})
		}
		w := httptest.NewRecorder()
		rt.ServeHTTP(w, r)
		if got := w.Header().Get("Cache-Control"); w.Code != http.StatusOK || got != c.want {
			t.Errorf("%s with %q: status %d, Cache-Control %q, want %q", c.path, c.cookie, w.Code, got, c.want)
		}
	}
}
