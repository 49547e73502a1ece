package server

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// deadlines notes how long a body may take.
type deadlines struct {
	*httptest.ResponseRecorder
	last time.Time
}

func (d *deadlines) SetReadDeadline(t time.Time) error {
	d.last = t
	return nil
}

// A call that is refused before its body is read leaves the bound of the body's time as it
// is: net/http waits for the rest of the body before it sends the answer.
func TestRefusedCallKeepsDeadline(t *testing.T) {
	s := startMaster(t)
	for _, path := range []string{"/api/v1", "/api/v1/scheduler"} {
		w := &deadlines{ResponseRecorder: httptest.NewRecorder()}
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, path, strings.NewReader("a body that is not read"))
		r.Header.Set("Content-Type", "text/plain")
		s.router.ServeHTTP(w, r)
		if w.Code != http.StatusUnsupportedMediaType || w.last.IsZero() {
			t.Errorf("%s: got %d, and the body has time until %s", path, w.Code, w.last)
		}
	}
}
