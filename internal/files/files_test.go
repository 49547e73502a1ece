package files

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"clusterd/internal/authn"
	"clusterd/internal/authz"
	"clusterd/internal/httpapi"
)

// sandbox makes a directory with the things that sandboxes hold, and one next
// to it that nothing may reach.
func sandbox(t *testing.T) (dir, outside string) {
	t.Helper()
	top, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	dir, outside = filepath.Join(top, "runs", "c1"), filepath.Join(top, "runs", "c1-other")
	for _, d := range []string{filepath.Join(dir, "containers", "n1"), filepath.Join(dir, "tasks"), outside} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, content := range map[string]string{
		filepath.Join(dir, "stdout"):                     "hello\n",
		filepath.Join(dir, "bin"):                        "a\xff\x00b",
		filepath.Join(dir, "page.html"):                  "<p>",
		filepath.Join(dir, "a b.txt"):                    "spaced",
		filepath.Join(dir, "containers", "n1", "stdout"): "nested",
		filepath.Join(outside, "secret"):                 "secret",
	} {
		if err := os.WriteFile(name, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for link, target := range map[string]string{
		filepath.Join(dir, "tasks", "relative"): "../containers/n1",
		filepath.Join(dir, "tasks", "absolute"): filepath.Join(dir, "containers", "n1"),
		filepath.Join(dir, "escape"):            "../c1-other",
		filepath.Join(dir, "escapefile"):        filepath.Join(outside, "secret"),
		filepath.Join(dir, "passwd"):            "/etc/passwd",
		filepath.Join(dir, "dangling"):          "nowhere",
		filepath.Join(dir, "loop"):              "loop",
		filepath.Join(dir, "link"):              "stdout",
		filepath.Join(top, "runs", "latest"):    "c1",
	} {
		if err := os.Symlink(target, link); err != nil {
			t.Fatal(err)
		}
	}
	if err := syscall.Mkfifo(filepath.Join(dir, "pipe"), 0o644); err != nil {
		t.Fatal(err)
	}
	return dir, outside
}

func attach(t *testing.T, f *Files, path, virtual string) {
	t.Helper()
	if err := f.Attach(path, virtual); err != nil {
		t.Fatal(err)
	}
}

func get(t *testing.T, f *Files, endpoint string, query ...string) *httptest.ResponseRecorder {
	t.Helper()
	rt := httpapi.NewRouter("slave(1)")
	f.Register(rt, authn.AgentReadonly)
	values := url.Values{}
	for i := 0; i < len(query); i += 2 {
		values.Set(query[i], query[i+1])
	}
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, endpoint+"?"+values.Encode(), nil)
	w := httptest.NewRecorder()
	rt.ServeHTTP(w, r)
	return w
}

func TestResolve(t *testing.T) {
	dir, _ := sandbox(t)
	f := New()
	attach(t, f, dir, dir)
	attach(t, f, filepath.Join(dir, "..", "latest"), "/frameworks/f/executors/e/runs/latest")
	attach(t, f, filepath.Join(dir, "stdout"), "/slave/log")
	attach(t, f, filepath.Join(dir, "containers"), dir+"/volume")
	const ok = "hello\n"
	tests := []struct {
		name, path string
		status     int
		want       string
	}{
		{"real path", dir + "/stdout", 200, ok},
		{"virtual path", "/frameworks/f/executors/e/runs/latest/stdout", 200, ok},
		{"trailing slash", "/slave/log/", 200, ok},
		{"repeated slashes", "//slave//log", 200, ok},
		{"relative spelling", "slave/log", 200, ok},
		{"link in the sandbox", dir + "/link", 200, ok},
		{"relative task link", dir + "/tasks/relative/stdout", 200, "nested"},
		{"absolute task link", dir + "/tasks/absolute/stdout", 200, "nested"},
		{"nested attachment", dir + "/volume/n1/stdout", 200, "nested"},
		{"dot dot inside", dir + "/tasks/../stdout", 200, ok},
		{"dot dot outside", dir + "/../c1-other/secret", 404, ""},
		{"far outside", "/etc/passwd", 404, ""},
		{"link to a sibling", dir + "/escape/secret", 400, "'" + dir + "/escape/secret' is inaccessible.\n"},
		{"link to a file outside", dir + "/escapefile", 400, "'" + dir + "/escapefile' is inaccessible.\n"},
		{"link to passwd", dir + "/passwd", 400, "'" + dir + "/passwd' is inaccessible.\n"},
		{"dangling link", dir + "/dangling", 404, ""},
		{"below a file", "/slave/log/x", 404, ""},
		{"below a file of the sandbox", dir + "/stdout/x", 404, ""},
		{"missing", dir + "/nosuch", 404, ""},
		{"prefix of an attachment", filepath.Dir(dir), 404, ""},
		{"name with an attached prefix", dir + "-other/secret", 404, ""},
		{"directory", dir, 400, "Cannot read a directory.\n"},
		{"pipe", dir + "/pipe", 400, "Cannot read what is no regular file.\n"},
		{"zero byte", dir + "/a\x00b", 400, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := get(t, f, "/files/read", "path", tt.path, "offset", "0")
			if w.Code != tt.status {
				t.Fatalf("status is %d (%s), want %d", w.Code, w.Body, tt.status)
			}
			if tt.status != 200 {
				if tt.want != "" && w.Body.String() != tt.want {
					t.Errorf("body is %q, want %q", w.Body, tt.want)
				}
				return
			}
			var got struct {
				Data   string
				Offset int64
			}
			if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil || got.Data != tt.want {
				t.Errorf("data is %q, %v; want %q", got.Data, err, tt.want)
			}
		})
	}
	// A link that turns into itself is an error, not an endless walk.
	if w := get(t, f, "/files/read", "path", dir+"/loop", "offset", "0"); w.Code != 400 {
		t.Errorf("loop answers %d", w.Code)
	}
}

func TestAttach(t *testing.T) {
	dir, _ := sandbox(t)
	f := New()
	if err := f.Attach(filepath.Join(dir, "nosuch"), "/x"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("attaching a missing path: %v", err)
	}
	// The target of `latest` is fixed when it is attached.
	latest := filepath.Join(dir, "..", "latest")
	attach(t, f, latest, "/latest/")
	if err := os.Remove(latest); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("c1-other", latest); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(map[string]string{"/latest": dir}, f.Attached()); d != "" {
		t.Errorf("attached (-want +got):\n%s", d)
	}
	if _, data, err := f.Read(t.Context(), "/latest/stdout", 0, nil, nil); err != nil || string(data) != "hello\n" {
		t.Errorf("read %q, %v", data, err)
	}
	f.Detach("/latest")
	f.Detach("/latest")
	if w := get(t, f, "/files/read", "path", "/latest/stdout"); w.Code != 404 {
		t.Errorf("detached path answers %d", w.Code)
	}
}

func TestBrowse(t *testing.T) {
	dir, _ := sandbox(t)
	f := New()
	attach(t, f, dir, "/box")
	list, err := f.Browse(t.Context(), "/box/", nil)
	if err != nil {
		t.Fatal(err)
	}
	var paths []string
	for _, info := range list {
		paths = append(paths, info.GetPath())
	}
	// Links out of the sandbox and to nowhere are left out.
	want := []string{"/box/a b.txt", "/box/bin", "/box/containers", "/box/link", "/box/page.html", "/box/pipe", "/box/stdout", "/box/tasks"}
	if d := cmp.Diff(want, paths); d != "" {
		t.Fatalf("paths (-want +got):\n%s", d)
	}
	if link := list[3]; link.GetMode()&syscall.S_IFMT != syscall.S_IFREG || link.GetSize() != 6 {
		t.Errorf("link is shown as %v, want what it leads to", link)
	}
	w := get(t, f, "/files/browse", "path", "/box")
	var entries []map[string]any
	if err := json.Unmarshal(w.Body.Bytes(), &entries); err != nil {
		t.Fatal(err)
	}
	stdout := entries[6]
	if stdout["mode"] != "-rw-r--r--" || stdout["size"] != 6.0 || stdout["nlink"] != 1.0 || stdout["uid"] == "" {
		t.Errorf("stdout is %v", stdout)
	}
	if mtime := stdout["mtime"].(float64); mtime != float64(int64(mtime)) || time.Since(time.Unix(int64(mtime), 0)) > time.Hour {
		t.Errorf("mtime is %v, want whole seconds of now", mtime)
	}
	if entries[7]["mode"] != "drwxr-xr-x" || entries[5]["mode"] != "prw-r--r--" {
		t.Errorf("modes are %v and %v", entries[7]["mode"], entries[5]["mode"])
	}
	if w := get(t, f, "/files/browse", "path", "/box/stdout"); w.Code != 200 || w.Body.String() != "[]" {
		t.Errorf("browsing a file answers %d %q, want an empty list", w.Code, w.Body)
	}
	if w := get(t, f, "/files/browse", "path", "/box/tasks/absolute"); w.Code != 200 || !strings.Contains(w.Body.String(), `"path":"/box/tasks/absolute/stdout"`) {
		t.Errorf("browsing a link answers %d %q", w.Code, w.Body)
	}
	if w := get(t, f, "/files/browse", "path", "/box/escape"); w.Code != 400 {
		t.Errorf("browsing a link that leads out answers %d %q", w.Code, w.Body)
	}
}

func TestRead(t *testing.T) {
	dir := t.TempDir()
	content := strings.Repeat("0123456789", 10_000)
	if err := os.WriteFile(filepath.Join(dir, "log"), []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "utf8"), []byte("äöü"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "bin"), []byte("a\xffb\x01"), 0o600); err != nil {
		t.Fatal(err)
	}
	f := New()
	attach(t, f, dir, "/d")
	tests := []struct {
		name         string
		file         string
		query        []string
		offset, size int64 // size of the data
		data         string
	}{
		{"no offset gives the size", "log", nil, 100_000, 0, ""},
		{"offset -1", "log", []string{"offset", "-1"}, 100_000, 0, ""},
		{"offset -1 ignores length", "log", []string{"offset", "-1", "length", "10"}, 100_000, 0, ""},
		{"part", "log", []string{"offset", "5", "length", "3"}, 5, 3, "567"},
		{"length 0", "log", []string{"offset", "5", "length", "0"}, 5, 0, ""},
		{"length -1 is no length", "log", []string{"offset", "0", "length", "-1"}, 0, MaxRead, ""},
		{"at most 64 KiB", "log", []string{"offset", "0", "length", "90000"}, 0, MaxRead, ""},
		{"to the end", "log", []string{"offset", "99998"}, 99_998, 2, "89"},
		{"behind the end", "log", []string{"offset", "200000"}, 200_000, 0, ""},
		{"hexadecimal", "log", []string{"offset", "0x5", "length", "0x1"}, 5, 1, "5"},
		{"half a character is left for later", "utf8", []string{"offset", "0", "length", "3"}, 0, 2, "ä"},
		{"the rest of it", "utf8", []string{"offset", "2"}, 2, 4, "öü"},
		{"bytes that are no text", "bin", []string{"offset", "0"}, 0, 6, "a\uFFFDb\x01"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := get(t, f, "/files/read", append([]string{"path", "/d/" + tt.file}, tt.query...)...)
			var got struct {
				Data   string
				Offset int64
			}
			if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil {
				t.Fatalf("%s: %v", w.Body, err)
			}
			if got.Offset != tt.offset || int64(len(got.Data)) != tt.size || tt.data != "" && got.Data != tt.data {
				t.Errorf("offset %d, %d bytes; want %d, %d", got.Offset, len(got.Data), tt.offset, tt.size)
			}
		})
	}
	for query, want := range map[string]string{
		"offset=abc":         "Failed to parse offset: Failed to convert 'abc' to number.\n",
		"offset=-2":          "Negative offset provided: -2.\n",
		"offset=0&length=x":  "Failed to parse length: Failed to convert 'x' to number.\n",
		"offset=0&length=-2": "Negative length provided: -2.\n",
	} {
		values, err := url.ParseQuery(query)
		if err != nil {
			t.Fatal(err)
		}
		args := []string{"path", "/d/log"}
		for k, v := range values {
			args = append(args, k, v[0])
		}
		if w := get(t, f, "/files/read", args...); w.Code != 400 || w.Body.String() != want {
			t.Errorf("%s answers %d %q, want %q", query, w.Code, w.Body, want)
		}
	}
	size, data, err := f.Read(t.Context(), "/d/bin", 1, new(uint64(2)), nil)
	if err != nil || size != 4 || string(data) != "\xffb" {
		t.Errorf("Read gives %d, %q, %v", size, data, err)
	}
}

func TestDownload(t *testing.T) {
	dir, _ := sandbox(t)
	f := New()
	attach(t, f, dir, "/box")
	tests := []struct{ path, disposition, contentType, body string }{
		{"/box/stdout", "attachment; filename=stdout", "application/octet-stream", "hello\n"},
		{"/box/link", "attachment; filename=stdout", "application/octet-stream", "hello\n"},
		{"/box/page.html", "attachment; filename=page.html", "text/html", "<p>"},
		{"/box/a b.txt", `attachment; filename="a b.txt"`, "text/plain", "spaced"},
		{"/box/bin", "attachment; filename=bin", "application/octet-stream", "a\xff\x00b"},
	}
	for _, tt := range tests {
		w := get(t, f, "/files/download", "path", tt.path)
		if w.Code != 200 || w.Body.String() != tt.body {
			t.Errorf("%s answers %d %q", tt.path, w.Code, w.Body)
		}
		if got := w.Header().Get("Content-Disposition"); got != tt.disposition {
			t.Errorf("%s: Content-Disposition is %q, want %q", tt.path, got, tt.disposition)
		}
		if got := w.Header().Get("Content-Type"); got != tt.contentType {
			t.Errorf("%s: Content-Type is %q, want %q", tt.path, got, tt.contentType)
		}
	}
	for path, want := range map[string]string{
		"/nosuch":   "404 404 Not Found.",
		"/box":      "400 Cannot download a directory.\n",
		"/box/pipe": "400 Cannot download what is no regular file.\n",
	} {
		w := get(t, f, "/files/download", "path", path)
		if got := strings.SplitN(w.Result().Status, " ", 2)[0] + " " + w.Body.String(); got != want {
			t.Errorf("%s answers %q, want %q", path, got, want)
		}
	}
}

func TestAuthorize(t *testing.T) {
	dir, _ := sandbox(t)
	f := New()
	allow := func(who string) Authorizer {
		return func(p *authz.Principal) bool { return p != nil && p.Value == who }
	}
	if err := f.AttachAuthorized(dir, "/box", allow("alice")); err != nil {
		t.Fatal(err)
	}
	attach(t, f, filepath.Join(dir, "containers"), "/box/volume")
	if err := f.AttachAuthorized(filepath.Join(dir, "tasks"), "/box/tasks", allow("bob")); err != nil {
		t.Fatal(err)
	}
	attach(t, f, filepath.Join(dir, "stdout"), "/log")
	for _, tt := range []struct {
		path, principal string
		status          int
	}{
		{"/box", "alice", 0},
		{"/box", "bob", 403},
		{"/box/", "", 403},
		{"/box/volume", "alice", 0},
		{"/box/volume", "bob", 403}, // covered by the authorizer above it
		{"/box/volume/../../box", "bob", 403},
		{"/box/tasks", "bob", 0},
		{"/box/tasks", "alice", 403},
		{"/box/nosuch", "bob", 403}, // what exists is nobody's business either
		{"/log", "", 0},
	} {
		var p *authz.Principal
		if tt.principal != "" {
			p = &authz.Principal{Value: tt.principal}
		}
		_, err := f.Browse(t.Context(), tt.path, p)
		var e *httpapi.Error
		if got := errors.As(err, &e); got != (tt.status != 0) || got && e.Status != tt.status {
			t.Errorf("%s for %q: %v, want status %d", tt.path, tt.principal, err, tt.status)
		}
	}
}

func TestDebug(t *testing.T) {
	dir, _ := sandbox(t)
	f := New()
	attach(t, f, dir, "/z")
	attach(t, f, filepath.Join(dir, "stdout"), "/a/log")
	want := `{"/a/log":"` + dir + `/stdout","/z":"` + dir + `"}`
	if got := get(t, f, "/files/debug").Body.String(); got != want {
		t.Errorf("debug answers %s, want %s", got, want)
	}
	if got := get(t, f, "/files/debug", "jsonp", "f").Body.String(); got != "f("+want+")" {
		t.Errorf("debug with JSONP answers %s", got)
	}
}

// TestRace swaps a directory for a link that leads out while readers read.
func TestRace(t *testing.T) {
	dir, outside := sandbox(t)
	f := New()
	attach(t, f, dir, "/box")
	inner, aside := filepath.Join(dir, "swap"), filepath.Join(dir, "aside")
	if err := os.Mkdir(inner, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(inner, "secret"), []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			select {
			case <-done:
				return
			default:
			}
			if os.Rename(inner, aside) == nil && os.Symlink(outside, inner) == nil {
				_ = os.Remove(inner)
			}
			_ = os.Rename(aside, inner)
		}
	}()
	for range 2000 {
		if _, data, err := f.Read(t.Context(), "/box/swap/secret", 0, nil, nil); err == nil && string(data) != "mine" {
			t.Errorf("read %q from outside", data)
			break
		}
	}
	close(done)
	<-stopped
}

func TestGoldenErrors(t *testing.T) {
	recordings, err := filepath.Glob("../../../shared/golden/errors/http_files_*.json")
	if err != nil || len(recordings) == 0 {
		t.Skip("no recorded answers")
	}
	dir, _ := sandbox(t)
	f := New()
	attach(t, f, filepath.Join(dir, "stdout"), "/slave/log")
	rt := httpapi.NewRouter("slave(1)")
	f.Register(rt, authn.AgentReadonly)
	srv := httptest.NewServer(rt)
	defer srv.Close()
	for _, path := range recordings {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		var rec struct {
			Request  struct{ Path string }
			Response struct {
				Status  int
				Headers []string
				Body    string
			}
		}
		if err := json.Unmarshal(data, &rec); err != nil {
			t.Fatal(err)
		}
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, srv.URL+rec.Request.Path, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := srv.Client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		var headers []string
		for k := range resp.Header {
			if k != "Date" {
				headers = append(headers, k+": "+resp.Header.Get(k))
			}
		}
		slices.Sort(headers)
		slices.Sort(rec.Response.Headers)
		if err != nil || resp.StatusCode != rec.Response.Status || string(body) != rec.Response.Body || !slices.Equal(headers, rec.Response.Headers) {
			t.Errorf("%s answers %d %q %q, %v; want %d %q %q", rec.Request.Path, resp.StatusCode, headers, body, err,
				rec.Response.Status, rec.Response.Headers, rec.Response.Body)
		}
	}
}
