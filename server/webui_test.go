package server

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestWebUI gets the page and its files, below the old prefix too, from what is embedded and
// from --webui_dir.
func TestWebUI(t *testing.T) {
	s := startMaster(t)
	for _, path := range []string{"/", "/master/"} {
		got := do(t, http.MethodGet, endpoint(s, path), nil, nil)
		if got.status != http.StatusOK || !strings.Contains(got.body, "clusterd") {
			t.Errorf("%s: got %d %s", path, got.status, got.body)
		}
		if p := got.header.Get("Content-Security-Policy"); !strings.Contains(p, "default-src 'none'") {
			t.Errorf("%s: policy %q", path, p)
		}
	}
	for _, path := range []string{"/assets", "/assets/none.js", "/nothing"} {
		if got := do(t, http.MethodGet, endpoint(s, path), nil, nil); got.status != http.StatusNotFound {
			t.Errorf("%s: got %d", path, got.status)
		}
	}
	dir := t.TempDir()
	for name, text := range map[string]string{"index.html": "my page", "assets/my.js": "my()"} {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	own := startMaster(t, func(o *Options) { o.WebUIDir = dir })
	for path, want := range map[string]string{"/": "my page", "/assets/my.js": "my()", "/master/assets/my.js": "my()"} {
		if got := do(t, http.MethodGet, endpoint(own, path), nil, nil); got.status != http.StatusOK || got.body != want {
			t.Errorf("%s: got %d %q, want %q", path, got.status, got.body, want)
		}
	}
}
