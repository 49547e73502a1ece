package ui

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"testing/fstest"
	"time"
)

const page = "<!doctype html><title>built</title>"

func built(t *testing.T) fstest.MapFS {
	t.Helper()
	var zipped bytes.Buffer
	z := gzip.NewWriter(&zipped)
	if _, err := io.WriteString(z, page); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return fstest.MapFS{
		".keep":               {},
		"index.html":          {Data: []byte(page)},
		"index.html.gz":       {Data: zipped.Bytes()},
		"assets/a-1234.js":    {Data: []byte("let a = 1")},
		"assets/a-1234.js.br": {Data: []byte("brotli of a")},
		"assets/a-1234.js.gz": {Data: []byte("gzip of a")},
		"icon.svg":            {Data: []byte("<svg/>")},
		"secret.pem":          {Data: []byte("key")},
		".git/config.json":    {Data: []byte("{}")},
	}
}

// answer is what a handler said.
type answer struct {
	status int
	header http.Header
	body   string
}

func ask(t *testing.T, h http.Handler, method, target string, header ...string) answer {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), method, target, nil)
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return answer{w.Code, w.Header(), w.Body.String()}
}

func TestFiles(t *testing.T) {
	h := newEmbedded(built(t))
	for _, c := range []struct {
		name, target, accept         string
		status                       int
		media, encoding, cache, body string
	}{
		{"index", "/", "", 200, "text/html; charset=utf-8", "", "no-cache", page},
		{"index by name", "/index.html", "", 200, "text/html; charset=utf-8", "", "no-cache", page},
		{"index in brotli is not there", "/", "br", 200, "text/html; charset=utf-8", "", "no-cache", page},
		{"brotli first", "/assets/a-1234.js", "gzip, deflate, br, zstd", 200, "text/javascript; charset=utf-8", "br", "public, max-age=31536000, immutable", "brotli of a"},
		{"gzip", "/assets/a-1234.js", "gzip", 200, "text/javascript; charset=utf-8", "gzip", "public, max-age=31536000, immutable", "gzip of a"},
		{"any", "/assets/a-1234.js", "*", 200, "text/javascript; charset=utf-8", "br", "public, max-age=31536000, immutable", "brotli of a"},
		{"brotli refused", "/assets/a-1234.js", "br;q=0, gzip;q=0.5", 200, "text/javascript; charset=utf-8", "gzip", "public, max-age=31536000, immutable", "gzip of a"},
		{"plain", "/assets/a-1234.js", "identity", 200, "text/javascript; charset=utf-8", "", "public, max-age=31536000, immutable", "let a = 1"},
		{"svg", "/icon.svg", "br", 200, "image/svg+xml", "", "no-cache", "<svg/>"},
		{"the form itself is no file", "/assets/a-1234.js.br", "", 404, "text/plain; charset=utf-8", "", "", ""},
		{"unknown", "/assets/b.js", "", 404, "text/plain; charset=utf-8", "", "", ""},
		{"folder", "/assets/", "", 404, "text/plain; charset=utf-8", "", "", ""},
		{"unknown type", "/secret.pem", "", 404, "text/plain; charset=utf-8", "", "", ""},
		{"hidden", "/.git/config.json", "", 404, "text/plain; charset=utf-8", "", "", ""},
		{"upwards", "/assets/../../ui.go", "", 404, "text/plain; charset=utf-8", "", "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			res := ask(t, h, http.MethodGet, c.target, "Accept-Encoding", c.accept)
			if res.status != c.status {
				t.Fatalf("got %d %s, want %d", res.status, res.body, c.status)
			}
			for name, want := range map[string]string{"Content-Type": c.media, "Content-Encoding": c.encoding, "Cache-Control": c.cache} {
				if got := res.header.Get(name); got != want {
					t.Errorf("%s: got %q, want %q", name, got, want)
				}
			}
			if c.body != "" && res.body != c.body {
				t.Errorf("got %q, want %q", res.body, c.body)
			}
			if got := res.header.Get("Content-Security-Policy"); !strings.Contains(got, "default-src 'none'") || strings.Contains(got, "unsafe") {
				t.Errorf("policy: %q", got)
			}
			if got := res.header.Get("X-Content-Type-Options"); got != "nosniff" {
				t.Errorf("X-Content-Type-Options: %q", got)
			}
		})
	}
}

// TestNotModified has a browser ask again for each form of a file.
func TestNotModified(t *testing.T) {
	h := newEmbedded(built(t))
	tags := map[string]bool{}
	for _, accept := range []string{"br", "gzip", "identity"} {
		res := ask(t, h, http.MethodGet, "/assets/a-1234.js", "Accept-Encoding", accept)
		tag := res.header.Get("Etag")
		if tag == "" || tags[tag] {
			t.Errorf("%s: tag %q, others: %v", accept, tag, tags)
		}
		tags[tag] = true
		again := ask(t, h, http.MethodGet, "/assets/a-1234.js", "Accept-Encoding", accept, "If-None-Match", tag)
		if again.status != http.StatusNotModified || again.body != "" {
			t.Errorf("%s: got %d", accept, again.status)
		}
		other := ask(t, h, http.MethodGet, "/assets/a-1234.js", "Accept-Encoding", accept, "If-None-Match", `"other"`)
		if other.status != http.StatusOK {
			t.Errorf("%s: got %d for another tag", accept, other.status)
		}
	}
}

func TestHead(t *testing.T) {
	for name, h := range map[string]http.Handler{"built": newEmbedded(built(t)), "not built": newEmbedded(fstest.MapFS{".keep": {}})} {
		full := ask(t, h, http.MethodGet, "/")
		res := ask(t, h, http.MethodHead, "/")
		if body := res.body; res.status != http.StatusOK || body != "" {
			t.Errorf("%s: got %d %q", name, res.status, body)
		}
		if got, want := res.header.Get("Content-Length"), full.header.Get("Content-Length"); got != want || got == "" {
			t.Errorf("%s: length %q, want %q", name, got, want)
		}
	}
}

func TestOtherMethods(t *testing.T) {
	res := ask(t, newEmbedded(built(t)), http.MethodPost, "/")
	if res.status != http.StatusMethodNotAllowed || res.header.Get("Allow") != "GET, HEAD" {
		t.Errorf("got %d %v", res.status, res.header)
	}
}

// TestUnbuilt has a binary without the UI say how to get one.
func TestUnbuilt(t *testing.T) {
	res := ask(t, newEmbedded(fstest.MapFS{".keep": {}}), http.MethodGet, "/", "Accept-Encoding", "br")
	body := res.body
	if res.status != http.StatusOK || !strings.Contains(body, "make ui") || strings.Contains(body, "<script") || strings.Contains(body, "style=") {
		t.Errorf("got %d %s", res.status, body)
	}
	if got := res.header.Get("Cache-Control"); got != "no-store" {
		t.Errorf("Cache-Control: %q", got)
	}
}

// TestDir serves a folder as it is now, and nothing outside of it.
func TestDir(t *testing.T) {
	dir := t.TempDir()
	write := func(name, data string, age time.Duration) {
		t.Helper()
		file := filepath.Join(dir, "ui", name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(data), 0o600); err != nil {
			t.Fatal(err)
		}
		at := time.Now().Add(-age)
		if err := os.Chtimes(file, at, at); err != nil {
			t.Fatal(err)
		}
	}
	h := Handler(filepath.Join(dir, "ui"))
	if body := ask(t, h, http.MethodGet, "/").body; !strings.Contains(body, "--webui_dir") {
		t.Errorf("a folder that is not there: %s", body)
	}
	write("index.html", "one", time.Hour)
	if body := ask(t, h, http.MethodGet, "/").body; body != "one" {
		t.Errorf("got %q", body)
	}
	write("assets/a.js", "plain", time.Hour)
	write("assets/a.js.gz", "zipped", time.Hour)
	res := ask(t, h, http.MethodGet, "/assets/a.js", "Accept-Encoding", "gzip")
	if body := res.body; body != "zipped" || res.header.Get("Cache-Control") != "no-cache" {
		t.Errorf("got %q, %v", body, res.header)
	}
	// What was edited after it was compressed is served as it is.
	write("assets/a.js", "edited", 0)
	if body := ask(t, h, http.MethodGet, "/assets/a.js", "Accept-Encoding", "gzip").body; body != "edited" {
		t.Errorf("got %q", body)
	}
	if err := os.WriteFile(filepath.Join(dir, "secret.json"), []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("../secret.json", filepath.Join(dir, "ui", "link.json")); err != nil {
		t.Fatal(err)
	}
	for _, target := range []string{"/../secret.json", "/%2e%2e/secret.json", "/link.json"} {
		if res := ask(t, h, http.MethodGet, target); res.status == http.StatusOK {
			t.Errorf("%s: got %d %q", target, res.status, res.body)
		}
	}
}

// TestEmbedded serves what is in this binary: the UI, or how to build it.
func TestEmbedded(t *testing.T) {
	res := ask(t, Handler(""), http.MethodGet, "/")
	if body := res.body; res.status != http.StatusOK || !strings.Contains(body, "clusterd") {
		t.Errorf("got %d %s", res.status, body)
	}
}

// maxScript is how much compressed script the UI may have besides the terminal.
const maxScript = 250 << 10

// TestBuilt looks at what was built, if it was: no script or style stands in the page, all
// that it names is there, in all forms, and it is not too much.
func TestBuilt(t *testing.T) {
	b, err := dist.ReadFile("dist/" + index)
	if errors.Is(err, fs.ErrNotExist) {
		t.Skip("the UI was not built (make ui)")
	}
	if err != nil {
		t.Fatal(err)
	}
	if inline := regexp.MustCompile(`(?s)<script[^>]*>[^<]|<style|\sstyle=|\son[a-z]+=|javascript:`).Find(b); inline != nil {
		t.Errorf("%s: the policy forbids %s", index, inline)
	}
	h := Handler("")
	links := regexp.MustCompile(`(?:src|href)="\./([^"]+)"`).FindAllSubmatch(b, -1)
	if len(links) < 3 {
		t.Errorf("%s names only %d files", index, len(links))
	}
	for _, l := range links {
		if res := ask(t, h, http.MethodGet, "/"+string(l[1]), "Accept-Encoding", "br, gzip"); res.status != http.StatusOK {
			t.Errorf("%s: got %d", l[1], res.status)
		}
	}
	if foreign := regexp.MustCompile(`(?:src|href)="(?:[a-z]+:)?//`).Find(b); foreign != nil {
		t.Errorf("%s loads from elsewhere: %s", index, foreign)
	}
	scripts, err := fs.Glob(dist, "dist/assets/*.js")
	if err != nil {
		t.Fatal(err)
	}
	total := 0
	for _, name := range scripts {
		code, err := dist.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range encodings {
			if _, err := dist.ReadFile(name + e.ext); err != nil && len(code) >= 256 {
				t.Errorf("no %s of %s", e.name, name)
			}
		}
		if bytes.Contains(code, []byte("xterm-helper-textarea")) {
			continue // the terminal
		}
		if form, err := dist.ReadFile(name + ".br"); err == nil {
			code = form
		}
		total += len(code)
	}
	t.Logf("%d bytes of compressed script in %d files, without the terminal", total, len(scripts))
	if total > maxScript {
		t.Errorf("%d bytes of compressed script, want at most %d", total, maxScript)
	}
}
