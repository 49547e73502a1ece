package httpapi

import (
	"compress/gzip"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestWriteParts(t *testing.T) {
	long := strings.Repeat("x", GzipMinimum)
	for name, c := range map[string]struct {
		query, accept string
		want, media   string
		gzipped       bool
	}{
		"plain": {"", "", `{"a":"` + long + `"}`, "application/json", false},
		"gzip":  {"", "gzip, deflate", `{"a":"` + long + `"}`, "application/json", true},
		"jsonp": {"?jsonp=cb", "", `cb({"a":"` + long + `"})`, "text/javascript", false},
	} {
		t.Run(name, func(t *testing.T) {
			r := httptest.NewRequest(http.MethodGet, "/state"+c.query, nil)
			if c.accept != "" {
				r.Header.Set("Accept-Encoding", c.accept)
			}
			w := httptest.NewRecorder()
			if err := WriteJSONParts(w, r, []byte(`{"a":"`), []byte(long), []byte(`"}`)); err != nil {
				t.Fatal(err)
			}
			var body io.Reader = w.Body
			if got := w.Header().Get("Content-Encoding") == "gzip"; got != c.gzipped {
				t.Fatalf("gzipped: %v", got)
			}
			if c.gzipped {
				z, err := gzip.NewReader(w.Body)
				if err != nil {
					t.Fatal(err)
				}
				body = z
			}
			got, err := io.ReadAll(body)
			if err != nil || string(got) != c.want || w.Header().Get("Content-Type") != c.media {
				t.Errorf("got %.40q (%d bytes) %v, %v", got, len(got), w.Header(), err)
			}
		})
	}
	if err := WriteJSONParts(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/state?jsonp=a(b", nil), nil); err == nil {
		t.Error("a function name with a bracket was taken")
	}
}
