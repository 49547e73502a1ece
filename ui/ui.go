// Package ui serves clusterd's web UI: pages that were built from the TypeScript beside this
// file (`make ui`) and are embedded into the binary, so that a master needs no files and the
// reader's browser no other server.
//
// Its one function is [Handler]. What it returns is safe for use by several goroutines at
// once. It is imported by package server only, and imports nothing of ours.
package ui

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path"
	"strconv"
	"strings"
	"sync"
	"time"
)

// dist is what was built, or only a placeholder.
//
//go:embed all:dist
var dist embed.FS

// index is the page that everything starts with. A folder without it was not built.
const index = "index.html"

// maxPage is how much of a file on disk is read at once; ours are far smaller.
const maxPage = 64 << 20

// policy is the content security policy of all pages: everything comes from this server, no
// script or style stands in a page, nobody frames it. Images may also be data, which the
// terminal draws; workers and frames there are none. Connections to the same host are
// those of streams and terminals.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; " +
	"connect-src 'self'; manifest-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'; " +
	"require-trusted-types-for 'script'"

// types are media types by extension: a table of our own, because that of the host may be
// anything.
var types = map[string]string{
	".css":         "text/css; charset=utf-8",
	".gif":         "image/gif",
	".htm":         "text/html; charset=utf-8",
	".html":        "text/html; charset=utf-8",
	".ico":         "image/x-icon",
	".jpg":         "image/jpeg",
	".js":          "text/javascript; charset=utf-8",
	".json":        "application/json",
	".map":         "application/json",
	".mjs":         "text/javascript; charset=utf-8",
	".png":         "image/png",
	".svg":         "image/svg+xml",
	".txt":         "text/plain; charset=utf-8",
	".wasm":        "application/wasm",
	".webmanifest": "application/manifest+json",
	".webp":        "image/webp",
	".woff":        "font/woff",
	".woff2":       "font/woff2",
}

// encodings are the forms of a file beside it, the smallest first.
var encodings = []struct{ name, ext string }{{"br", ".br"}, {"gzip", ".gz"}}

// Handler serves the UI: its page at "/", and its files by their paths. If dir is not empty it
// is served instead of what is embedded, read anew at each request, for those who build the
// UI (flag --webui_dir).
func Handler(dir string) http.Handler {
	if dir != "" {
		return &handler{open: func() (fs.FS, func(), error) {
			root, err := os.OpenRoot(dir)
			if err != nil {
				return nil, nil, err
			}
			return root.FS(), func() { _ = root.Close() }, nil
		}}
	}
	sub, err := fs.Sub(dist, "dist")
	if err != nil {
		panic(err) // the name is a constant
	}
	return newEmbedded(sub)
}

// newEmbedded serves files that do not change.
func newEmbedded(files fs.FS) *handler {
	return &handler{fixed: true, open: func() (fs.FS, func(), error) { return files, func() {}, nil }}
}

// handler is a http.Handler for a folder of built files.
type handler struct {
	// open gives the files for one request.
	open func() (fs.FS, func(), error)
	// fixed: they are always the same, and so are their tags.
	fixed bool
	// tags are ETags by name; filled as files are asked for.
	tags sync.Map
}

func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "Expecting one of { 'GET', 'HEAD' }, but received '"+r.Method+"'", http.StatusMethodNotAllowed)
		return
	}
	secure(w.Header())
	files, done, err := h.open()
	if err != nil {
		h.unbuilt(w, r, "The folder of --webui_dir cannot be opened.")
		return
	}
	defer done()
	name := strings.TrimPrefix(path.Clean("/"+r.URL.Path), "/")
	if name == "" {
		name = index
	}
	switch err := h.serve(w, r, files, name); {
	case err == nil:
	case name == index:
		h.unbuilt(w, r, "The web UI was not built into this binary.")
	case errors.Is(err, fs.ErrNotExist):
		http.Error(w, "There is no such file.", http.StatusNotFound)
	default:
		http.Error(w, "The file cannot be read.", http.StatusInternalServerError)
	}
}

// secure says what a browser shall not do with our pages.
func secure(h http.Header) {
	h.Set("Content-Security-Policy", policy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("X-Frame-Options", "DENY") // for browsers that know no frame-ancestors
}

// serve writes a file in the smallest form that the client takes.
func (h *handler) serve(w http.ResponseWriter, r *http.Request, files fs.FS, name string) error {
	media, known := types[path.Ext(name)]
	if !known || hidden(name) {
		return fs.ErrNotExist
	}
	header := w.Header()
	header.Add("Vary", "Accept-Encoding")
	for _, e := range encodings {
		if !accepts(r.Header, e.name) {
			continue
		}
		data, err := read(files, name+e.ext)
		if errors.Is(err, fs.ErrNotExist) || err == nil && !h.fixed && older(files, name+e.ext, name) {
			continue
		}
		if err != nil {
			return err
		}
		header.Set("Content-Encoding", e.name)
		h.write(w, r, name, media, e.ext, data)
		return nil
	}
	data, err := read(files, name)
	if err != nil {
		return err
	}
	h.write(w, r, name, media, "", data)
	return nil
}

// write answers with a file: whole, not modified, or in part.
func (h *handler) write(w http.ResponseWriter, r *http.Request, name, media, form string, data []byte) {
	header := w.Header()
	header.Set("Content-Type", media)
	header.Set("Etag", h.tag(name+form, data))
	if h.fixed && strings.HasPrefix(name, "assets/") {
		// The name holds a hash of the content: another content has another name.
		header.Set("Cache-Control", "public, max-age=31536000, immutable")
	} else {
		header.Set("Cache-Control", "no-cache")
	}
	if form != "" {
		// http.ServeContent leaves the length of what is encoded to others.
		header.Del("Accept-Ranges")
		if r.Header.Get("If-None-Match") == "" {
			header.Set("Content-Length", strconv.Itoa(len(data)))
		}
		r = r.Clone(r.Context())
		r.Header.Del("Range") // a part of an encoded file is of no use to anybody
	}
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(data))
}

// tag is the ETag of data.
func (h *handler) tag(key string, data []byte) string {
	if h.fixed {
		if t, ok := h.tags.Load(key); ok {
			return t.(string) //nolint:forcetypeassert // nothing else is stored
		}
	}
	sum := sha256.Sum256(data)
	t := `"` + hex.EncodeToString(sum[:12]) + `"`
	if h.fixed {
		h.tags.Store(key, t)
	}
	return t
}

// read is a whole regular file.
func read(files fs.FS, name string) ([]byte, error) {
	f, err := files.Open(name)
	if err != nil {
		if errors.Is(err, fs.ErrInvalid) {
			return nil, fs.ErrNotExist
		}
		return nil, err
	}
	defer f.Close() //nolint:errcheck // it was only read
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fs.ErrNotExist
	}
	return io.ReadAll(io.LimitReader(f, maxPage))
}

// older says whether file a was written before file b: then it is not made of it.
func older(files fs.FS, a, b string) bool {
	x, errA := fs.Stat(files, a)
	y, errB := fs.Stat(files, b)
	return errA != nil || errB != nil || x.ModTime().Before(y.ModTime())
}

// hidden says whether a part of the path begins with a dot: nothing that is built does.
func hidden(name string) bool {
	return strings.HasPrefix(name, ".") || strings.Contains(name, "/.")
}

// accepts says whether a client takes an encoding (RFC 9110, section 12.5.3).
func accepts(h http.Header, encoding string) bool {
	any := false
	for part := range strings.SplitSeq(strings.Join(h.Values("Accept-Encoding"), ","), ",") {
		name, params, _ := strings.Cut(part, ";")
		q := 1.0
		if v, ok := strings.CutPrefix(strings.ReplaceAll(params, " ", ""), "q="); ok {
			q, _ = strconv.ParseFloat(v, 64) // what is no number refuses
		}
		switch strings.ToLower(strings.TrimSpace(name)) {
		case encoding:
			return q > 0
		case "*":
			any = q > 0
		}
	}
	return any
}

// unbuilt is a page for people: what is missing and how to get it. Everything else works.
func (h *handler) unbuilt(w http.ResponseWriter, r *http.Request, why string) {
	header := w.Header()
	header.Set("Content-Type", types[".html"])
	header.Set("Cache-Control", "no-store")
	header.Set("Content-Length", strconv.Itoa(len(unbuiltPage(why))))
	w.WriteHeader(http.StatusOK)
	if r.Method != http.MethodHead {
		_, _ = io.WriteString(w, unbuiltPage(why))
	}
}

func unbuiltPage(why string) string {
	return `<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1"><meta name="color-scheme" content="light dark"><title>clusterd</title></head>
<body>
<main>
<h1>clusterd</h1>
<p>` + why + ` This master works without it.</p>
<p>To build it, with Node 20.19 or newer, in the source tree of clusterd:</p>
<pre>make ui build</pre>
<p>Meanwhile: <code>clusterd agent list</code>, <code>clusterd task list</code>, <code>clusterd top</code>, or
<a href="metrics/snapshot">/metrics/snapshot</a>, <a href="master/state-summary">/master/state-summary</a>,
<a href="help">/help</a>.</p>
</main>
</body>
</html>
`
}
