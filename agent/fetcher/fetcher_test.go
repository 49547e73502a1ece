package fetcher

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/ulikunitz/xz"

	mesos "clusterd/api/mesos/v1"
)

func uri(value string) *mesos.CommandInfo_URI { return &mesos.CommandInfo_URI{Value: new(value)} }

func fetch(t *testing.T, f *Fetcher, sandbox string, uris ...*mesos.CommandInfo_URI) error {
	t.Helper()
	return f.Fetch(t.Context(), Request{URIs: uris, Sandbox: sandbox})
}

// tree returns the contents of a directory: files by their content, links as
// "-> target", directories as "/", with their modes if asked for.
func tree(t *testing.T, dir string) map[string]string {
	t.Helper()
	got := make(map[string]string)
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		switch {
		case d.IsDir():
			got[rel] = "/"
		case d.Type()&fs.ModeSymlink != 0:
			target, err := os.Readlink(path)
			if err != nil {
				return err
			}
			got[rel] = "-> " + target
		default:
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			got[rel] = string(data)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func write(t *testing.T, path, content string, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
}

func TestFetchSources(t *testing.T) {
	home := t.TempDir()
	write(t, filepath.Join(home, "tool"), "local", 0o600)
	mux := http.NewServeMux()
	mux.HandleFunc("/tool", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "remote") })
	mux.Handle("/moved", http.RedirectHandler("/tool", http.StatusFound))
	plain, secure := httptest.NewServer(mux), httptest.NewTLSServer(mux)
	defer plain.Close()
	defer secure.Close()

	f := New(Options{FrameworksHome: home})
	overTLS := New(Options{Transport: secure.Client().Transport})
	tests := []struct {
		name string
		f    *Fetcher
		uri  *mesos.CommandInfo_URI
		want map[string]string
		mode os.FileMode
	}{
		{"absolute path", f, uri(filepath.Join(home, "tool")), map[string]string{"tool": "local"}, 0o644},
		{"file", f, uri("file://" + home + "/tool"), map[string]string{"tool": "local"}, 0o644},
		{"file with host", f, uri("file://localhost" + home + "/tool"), map[string]string{"tool": "local"}, 0o644},
		{"relative", f, uri("tool"), map[string]string{"tool": "local"}, 0o644},
		{"leading blanks", f, uri("  tool"), map[string]string{"tool": "local"}, 0o644},
		{"http", f, uri(plain.URL + "/tool"), map[string]string{"tool": "remote"}, 0o644},
		{"https", overTLS, uri(secure.URL + "/tool"), map[string]string{"tool": "remote"}, 0o644},
		{"redirect keeps the name asked for", f, uri(plain.URL + "/moved"), map[string]string{"moved": "remote"}, 0o644},
		{"query is part of the name", f, uri(plain.URL + "/tool?v=1"), map[string]string{"tool?v=1": "remote"}, 0o644},
		{"executable", f, &mesos.CommandInfo_URI{Value: new(plain.URL + "/tool"), Executable: new(true)}, map[string]string{"tool": "remote"}, 0o755},
		{"output file", f, &mesos.CommandInfo_URI{Value: new("tool"), OutputFile: new("a/b/c")}, map[string]string{"a": "/", "a/b": "/", "a/b/c": "local"}, 0o644},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			sandbox := t.TempDir()
			if err := fetch(t, tt.f, sandbox, tt.uri); err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(tt.want, tree(t, sandbox)); d != "" {
				t.Errorf("sandbox (-want +got):\n%s", d)
			}
			for name, content := range tt.want {
				if info, err := os.Stat(filepath.Join(sandbox, name)); err != nil || content != "/" && info.Mode() != tt.mode {
					t.Errorf("%s: mode %v, %v; want %v", name, info.Mode(), err, tt.mode)
				}
			}
		})
	}
}

func TestFetchErrors(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mkfifo(filepath.Join(dir, "pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/short":
			w.Header().Set("Content-Length", "100")
			_, _ = io.WriteString(w, "only this")
		case "/big":
			_, _ = w.Write(make([]byte, 5000))
		default:
			http.NotFound(w, r)
		}
	}))
	defer srv.Close()
	f := New(Options{MaxBytes: 1000})
	tests := []struct {
		name string
		uri  *mesos.CommandInfo_URI
		is   error
		text string
	}{
		{"empty", uri(""), ErrInvalidURI, "names no file"},
		{"quote", uri("/tmp/a'b"), ErrInvalidURI, "illegal characters"},
		{"no path", uri("http://host"), ErrInvalidURI, "missing path"},
		{"no path but a slash", uri("http://host/"), ErrInvalidURI, "missing path"},
		{"directory of a URI", uri("http://host/a/"), ErrInvalidURI, "names no file"},
		{"parent", uri("/tmp/.."), ErrInvalidURI, "names no file"},
		{"parent of a URI", uri("http://host/a/.."), ErrInvalidURI, "names no file"},
		{"relative without home", uri("tool"), ErrInvalidURI, "--frameworks_home"},
		{"relative file", uri("file://a/tool"), ErrInvalidURI, "absolute"},
		{"other scheme", uri("hdfs://host/a"), ErrInvalidURI, "'hdfs' is not supported"},
		{"output outside", &mesos.CommandInfo_URI{Value: new("/bin/sh"), OutputFile: new("../x")}, ErrInvalidURI, "within the sandbox"},
		{"output absolute", &mesos.CommandInfo_URI{Value: new("/bin/sh"), OutputFile: new("/x")}, ErrInvalidURI, "within the sandbox"},
		{"output empty", &mesos.CommandInfo_URI{Value: new("/bin/sh"), OutputFile: new("")}, ErrInvalidURI, "path is empty"},
		{"missing file", uri(dir + "/nosuch"), os.ErrNotExist, ""},
		{"directory", uri(dir), nil, "not a regular file"},
		{"pipe", uri(dir + "/pipe"), nil, "not a regular file"},
		{"device", uri("/dev/zero"), nil, "not a regular file"},
		{"proc", uri("/proc/self/environ"), ErrInvalidURI, "/proc"},
		{"proc by a link", uri("/dev/fd/../environ"), ErrInvalidURI, "/proc"},
		{"status", uri(srv.URL + "/nosuch"), nil, "HTTP return code 404"},
		{"cut short", uri(srv.URL + "/short"), io.ErrUnexpectedEOF, ""},
		{"too large", uri(srv.URL + "/big"), ErrTooLarge, ""},
		{"nobody listens", uri("http://127.0.0.1:1/x"), syscall.ECONNREFUSED, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			sandbox := t.TempDir()
			err := fetch(t, f, sandbox, tt.uri)
			if err == nil || tt.is != nil && !errors.Is(err, tt.is) || !strings.Contains(err.Error(), tt.text) {
				t.Errorf("error is %v, want %v with %q", err, tt.is, tt.text)
			}
		})
	}
}

func TestFetchStopsAtTheFirstFailure(t *testing.T) {
	sandbox := t.TempDir()
	home := t.TempDir()
	write(t, filepath.Join(home, "a"), "a", 0o644)
	write(t, filepath.Join(home, "b"), "b", 0o644)
	err := fetch(t, New(Options{FrameworksHome: home}), sandbox, uri("a"), uri("nosuch"), uri("b"))
	if err == nil || !strings.Contains(err.Error(), "fetch 'nosuch'") {
		t.Errorf("error is %v", err)
	}
	if d := cmp.Diff(map[string]string{"a": "a"}, tree(t, sandbox)); d != "" {
		t.Errorf("sandbox (-want +got):\n%s", d)
	}
}

// stalling sends a few bytes and then nothing until the client goes.
func stalling(t *testing.T) *httptest.Server {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "begin")
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	}))
	t.Cleanup(srv.Close)
	return srv
}

func TestFetchStall(t *testing.T) {
	err := fetch(t, New(Options{StallTimeout: 50 * time.Millisecond}), t.TempDir(), uri(stalling(t).URL+"/x"))
	if !errors.Is(err, ErrStalled) {
		t.Errorf("error is %v, want ErrStalled", err)
	}
}

func TestFetchCancel(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	sandbox := t.TempDir()
	go func() {
		// As soon as the first bytes are there, the task is killed.
		for {
			if info, err := os.Stat(filepath.Join(sandbox, "x")); err == nil && info.Size() > 0 || t.Context().Err() != nil {
				cancel()
				return
			}
			time.Sleep(time.Millisecond)
		}
	}()
	err := New(Options{}).Fetch(ctx, Request{URIs: []*mesos.CommandInfo_URI{uri(stalling(t).URL + "/x")}, Sandbox: sandbox})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error is %v, want context.Canceled", err)
	}
}

// member is one entry of a test archive.
type member struct {
	name, content, link string
	kind                byte
	mode                int64
}

func tarOf(t *testing.T, members ...member) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, m := range members {
		if m.kind == 0 {
			m.kind = tar.TypeReg
		}
		if m.mode == 0 {
			m.mode = 0o644
		}
		h := &tar.Header{Name: m.name, Linkname: m.link, Typeflag: m.kind, Mode: m.mode, Size: int64(len(m.content))}
		if m.kind == tar.TypeXGlobalHeader { // git archive writes one
			h = &tar.Header{Typeflag: m.kind, PAXRecords: map[string]string{"comment": "x"}}
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, m.content); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func gzipped(t *testing.T, data []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func xzOf(t *testing.T, data []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := xz.NewWriter(&b)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func zipOf(t *testing.T, members ...member) []byte {
	t.Helper()
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	for _, m := range members {
		h := &zip.FileHeader{Name: m.name, Method: zip.Deflate}
		mode := fs.FileMode(0o644)
		switch m.kind {
		case tar.TypeDir:
			mode = fs.ModeDir | 0o755
		case tar.TypeSymlink:
			mode, m.content = fs.ModeSymlink|0o777, m.link
		case tar.TypeChar:
			mode = fs.ModeDevice | fs.ModeCharDevice | 0o666
		}
		h.SetMode(mode)
		e, err := w.CreateHeader(h)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(e, m.content); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// external compresses with a program of the host.
func external(t *testing.T, data []byte, program string, args ...string) []byte {
	t.Helper()
	path, err := exec.LookPath(program)
	if err != nil {
		t.Skipf("no %s here", program)
	}
	cmd := exec.CommandContext(t.Context(), path, args...)
	cmd.Stdin = bytes.NewReader(data)
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestExtract(t *testing.T) {
	members := []member{
		{name: "./"},
		{name: "dir/", kind: tar.TypeDir, mode: 0o500},
		{name: "dir/file", content: "x", mode: 0o4755},
		{name: "deep/er/file", content: "y"},
		{name: "dir/link", kind: tar.TypeSymlink, link: "../deep/er/file"},
	}
	members[0].kind = tar.TypeDir
	zipMembers := []member{members[1], members[2], members[3], members[4]}
	want := map[string]string{
		"dir": "/", "dir/file": "x", "dir/link": "-> ../deep/er/file", "deep": "/", "deep/er": "/", "deep/er/file": "y",
	}
	data := tarOf(t, members...)
	tests := map[string]func(t *testing.T) []byte{
		"a.tar":         func(*testing.T) []byte { return data },
		"a.tgz":         func(t *testing.T) []byte { return gzipped(t, data) },
		"a.b.tar.gz":    func(t *testing.T) []byte { return gzipped(t, data) },
		"a.tar.xz":      func(t *testing.T) []byte { return xzOf(t, data) },
		"a.txz":         func(t *testing.T) []byte { return xzOf(t, data) },
		"real.tar.xz":   func(t *testing.T) []byte { return external(t, data, "xz", "-9", "-c") },
		"blocks.tar.xz": func(t *testing.T) []byte { return external(t, data, "xz", "--block-size=1024", "-C", "sha256", "-c") },
		"a.tbz2":        func(t *testing.T) []byte { return external(t, data, "bzip2", "-c") },
		"a.tar.bz2":     func(t *testing.T) []byte { return external(t, data, "bzip2", "-c") },
		"a.zip":         func(t *testing.T) []byte { return zipOf(t, zipMembers...) },
	}
	for name, archive := range tests {
		t.Run(name, func(t *testing.T) {
			content := archive(t)
			home, sandbox := t.TempDir(), t.TempDir()
			write(t, filepath.Join(home, name), string(content), 0o644)
			if err := fetch(t, New(Options{FrameworksHome: home}), sandbox, uri(name)); err != nil {
				t.Fatal(err)
			}
			got := tree(t, sandbox)
			if got[name] != string(content) {
				t.Error("the archive itself is gone")
			}
			delete(got, name)
			if d := cmp.Diff(want, got); d != "" {
				t.Errorf("sandbox (-want +got):\n%s", d)
			}
			if info, err := os.Stat(filepath.Join(sandbox, "dir/file")); err != nil || info.Mode()&(fs.ModeSetuid|fs.ModeSetgid) != 0 {
				t.Errorf("mode is %v, %v; want no setuid", info.Mode(), err)
			}
			if info, err := os.Stat(filepath.Join(sandbox, "dir")); err != nil || info.Mode().Perm()&0o700 != 0o700 {
				t.Errorf("mode of the directory is %v, %v; want it open to its owner", info.Mode(), err)
			}
		})
	}
}

func TestExtractOthers(t *testing.T) {
	home := t.TempDir()
	write(t, filepath.Join(home, "text.gz"), string(gzipped(t, []byte("hello"))), 0o644)
	write(t, filepath.Join(home, "hard.tar"), string(tarOf(t,
		member{name: "a", content: "1"}, member{name: "b", kind: tar.TypeLink, link: "a"},
		member{name: "a", content: "2"}, // the last one counts, and does not change b
		member{kind: tar.TypeXGlobalHeader},
	)), 0o644)
	write(t, filepath.Join(home, "plain.txt"), "plain", 0o644)
	f := New(Options{FrameworksHome: home})
	sandbox := t.TempDir()
	no := &mesos.CommandInfo_URI{Value: new("hard.tar"), Extract: new(false), OutputFile: new("kept.tar")}
	run := &mesos.CommandInfo_URI{Value: new("hard.tar"), Executable: new(true), OutputFile: new("run.tar")}
	var log bytes.Buffer
	err := f.Fetch(t.Context(), Request{URIs: []*mesos.CommandInfo_URI{uri("text.gz"), uri("plain.txt"), no, run}, Sandbox: sandbox, Log: &log})
	if err != nil {
		t.Fatal(err)
	}
	got := tree(t, sandbox)
	if got["text"] != "hello" || got["plain.txt"] != "plain" || len(got) != 5 {
		t.Errorf("sandbox holds %q", got)
	}
	if !strings.Contains(log.String(), "'plain.txt' is copied, not extracted") {
		t.Errorf("log is %q", log.String())
	}
	if err := fetch(t, f, sandbox, uri("hard.tar")); err != nil {
		t.Fatal(err)
	}
	if got := tree(t, sandbox); got["a"] != "2" || got["b"] != "1" {
		t.Errorf("a is %q, b is %q; want 2 and 1", got["a"], got["b"])
	}
}

func TestHostileArchives(t *testing.T) {
	many := make([]member, 0, 60)
	for i := range 60 {
		many = append(many, member{name: "f" + strconv.Itoa(i), content: "x"})
	}
	good := gzipped(t, tarOf(t, member{name: "f", content: strings.Repeat("x", 900)}))
	badSum := bytes.Clone(good)
	badSum[len(badSum)-5] ^= 0xff
	// A valid xz whose block header asks for a dictionary of 1.5 GB: byte 16 of
	// the file (behind the stream header, the header's size, flags, filter and
	// the size of its properties) is the dictionary.
	hugeDictionary := xzOf(t, tarOf(t, member{name: "f", content: "x"}))
	hugeDictionary[16] = 37
	tests := []struct {
		name, file string
		data       []byte
		is         error
	}{
		{"dot dot", "a.tar", tarOf(t, member{name: "../evil", content: "x"}), ErrUnsafeArchive},
		{"dot dot inside", "a.tar", tarOf(t, member{name: "a/../../evil", content: "x"}), ErrUnsafeArchive},
		{"absolute", "a.tar", tarOf(t, member{name: "/evil", content: "x"}), ErrUnsafeArchive},
		{"absolute link", "a.tar", tarOf(t, member{name: "l", kind: tar.TypeSymlink, link: "/etc"}), ErrUnsafeArchive},
		{"link out", "a.tar", tarOf(t, member{name: "d/l", kind: tar.TypeSymlink, link: "../../evil"}), ErrUnsafeArchive},
		{"link to nothing", "a.zip", zipOf(t, member{name: "l", kind: tar.TypeSymlink, link: ""}), ErrUnsafeArchive},
		{"link by a link", "a.tar", tarOf(t,
			member{name: "q", kind: tar.TypeSymlink, link: "."},
			member{name: "p", kind: tar.TypeSymlink, link: "q/.."}), ErrUnsafeArchive},
		{"link placed by a link", "a.tar", tarOf(t,
			member{name: "d/", kind: tar.TypeDir},
			member{name: "d/up", kind: tar.TypeSymlink, link: ".."},
			member{name: "d/up/out", kind: tar.TypeSymlink, link: ".."}), ErrUnsafeArchive},
		{"write through a link", "a.tar", tarOf(t,
			member{name: "d/", kind: tar.TypeDir},
			member{name: "l", kind: tar.TypeSymlink, link: "d"},
			member{name: "l/evil", content: "x"}), ErrUnsafeArchive},
		{"hard link out", "a.tar", tarOf(t, member{name: "l", kind: tar.TypeLink, link: "../outside"}), ErrUnsafeArchive},
		{"hard link absolute", "a.tar", tarOf(t, member{name: "l", kind: tar.TypeLink, link: "/etc/passwd"}), ErrUnsafeArchive},
		{"hard link to a link", "a.tar", tarOf(t,
			member{name: "s", kind: tar.TypeSymlink, link: "x"},
			member{name: "l", kind: tar.TypeLink, link: "s"}), ErrUnsafeArchive},
		{"device", "a.tar", tarOf(t, member{name: "d", kind: tar.TypeChar}), ErrUnsafeArchive},
		{"pipe", "a.tar", tarOf(t, member{name: "p", kind: tar.TypeFifo}), ErrUnsafeArchive},
		{"zip slip", "a.zip", zipOf(t, member{name: "../evil", content: "x"}), ErrUnsafeArchive},
		{"zip absolute", "a.zip", zipOf(t, member{name: "/evil", content: "x"}), ErrUnsafeArchive},
		{"zip link out", "a.zip", zipOf(t, member{name: "l", kind: tar.TypeSymlink, link: "../evil"}), ErrUnsafeArchive},
		{"zip device", "a.zip", zipOf(t, member{name: "d", kind: tar.TypeChar}), ErrUnsafeArchive},
		{"huge entry", "a.tgz", gzipped(t, tarOf(t, member{name: "f", content: strings.Repeat("x", 60_000)})), ErrTooLarge},
		{"huge in sum", "a.tgz", gzipped(t, tarOf(t, member{name: "f", content: strings.Repeat("x", 30_000)}, member{name: "g", content: strings.Repeat("x", 30_000)})), ErrTooLarge},
		{"zip bomb", "a.zip", zipOf(t, member{name: "f", content: strings.Repeat("x", 60_000)}), ErrTooLarge},
		{"gzip bomb", "f.gz", gzipped(t, make([]byte, 60_000)), ErrTooLarge},
		{"many entries", "a.tgz", gzipped(t, tarOf(t, many...)), ErrTooLarge},
		{"xz dictionary", "a.tar.xz", hugeDictionary, ErrTooLarge},
		{"truncated tar", "a.tar", tarOf(t, member{name: "f", content: strings.Repeat("x", 900)})[:800], io.ErrUnexpectedEOF},
		{"truncated gzip", "a.tgz", good[:len(good)-12], io.ErrUnexpectedEOF},
		{"wrong checksum", "a.tgz", badSum, gzip.ErrChecksum},
		{"truncated xz", "a.tar.xz", xzOf(t, tarOf(t, member{name: "f", content: "x"}))[:60], errXZFrame},
		{"not an archive", "a.tar", []byte(strings.Repeat("hello ", 200)), tar.ErrHeader},
		{"not gzip", "a.tgz", []byte("hello, this is not gzip"), gzip.ErrHeader},
		{"not zip", "a.zip", []byte("hello, this is not zip"), zip.ErrFormat},
		{"not xz", "a.txz", []byte("hello, this is not xz"), errXZFrame},
		{"no name left", ".gz", gzipped(t, []byte("x")), ErrUnsafeArchive},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			top := t.TempDir()
			home, sandbox := filepath.Join(top, "home"), filepath.Join(top, "sandbox")
			for _, dir := range []string{home, sandbox} {
				if err := os.Mkdir(dir, 0o755); err != nil {
					t.Fatal(err)
				}
			}
			write(t, filepath.Join(top, "outside"), "secret", 0o644)
			write(t, filepath.Join(home, tt.file), string(tt.data), 0o644)
			err := fetch(t, New(Options{FrameworksHome: home, MaxBytes: 50_000, MaxEntries: 50}), sandbox, uri(tt.file))
			if !errors.Is(err, tt.is) {
				t.Errorf("error is %v, want %v", err, tt.is)
			}
			entries, err := os.ReadDir(top)
			if err != nil || len(entries) != 3 {
				t.Errorf("the sandbox's parent holds %v, %v", entries, err)
			}
			if data, err := os.ReadFile(filepath.Join(top, "outside")); err != nil || string(data) != "secret" {
				t.Errorf("outside is %q, %v", data, err)
			}
			if _, err := os.Lstat("/evil"); err == nil {
				t.Error("/evil exists")
			}
		})
	}
}

// TestFetchReplacesLinks fetches a file whose name an earlier archive has made a link.
func TestFetchReplacesLinks(t *testing.T) {
	home, sandbox := t.TempDir(), t.TempDir()
	write(t, filepath.Join(home, "a.tar"), string(tarOf(t, member{name: "victim", content: "old"}, member{name: "tool", kind: tar.TypeSymlink, link: "victim"})), 0o644)
	write(t, filepath.Join(home, "tool"), "new", 0o644)
	if err := fetch(t, New(Options{FrameworksHome: home}), sandbox, uri("a.tar"), uri("tool")); err != nil {
		t.Fatal(err)
	}
	if got := tree(t, sandbox); got["tool"] != "new" || got["victim"] != "old" {
		t.Errorf("tool is %q, victim is %q; want new and old", got["tool"], got["victim"])
	}
}

func TestFetchAsUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root to act as another user")
	}
	nobody, err := user.Lookup("nobody")
	if err != nil {
		t.Skipf("no user nobody: %v", err)
	}
	// t.TempDir is below a directory that only root may enter.
	home, err := os.MkdirTemp("", "fetcher") //nolint:usetesting // as the comment above says
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(home)
	if err := os.Chmod(home, 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(home, "open.tar"), string(tarOf(t, member{name: "d/f", content: "x"})), 0o644)
	write(t, filepath.Join(home, "secret"), "root's", 0o600)
	sandbox := t.TempDir()
	f := New(Options{FrameworksHome: home})
	if err := f.Fetch(t.Context(), Request{URIs: []*mesos.CommandInfo_URI{uri("open.tar")}, Sandbox: sandbox, User: "nobody"}); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{".", "open.tar", "d", "d/f"} {
		info, err := os.Stat(filepath.Join(sandbox, name))
		if err != nil {
			t.Fatal(err)
		}
		st := info.Sys().(*syscall.Stat_t)
		if got := strconv.Itoa(int(st.Uid)) + ":" + strconv.Itoa(int(st.Gid)); got != nobody.Uid+":"+nobody.Gid {
			t.Errorf("%s belongs to %s, want %s:%s", name, got, nobody.Uid, nobody.Gid)
		}
	}
	err = f.Fetch(t.Context(), Request{URIs: []*mesos.CommandInfo_URI{uri("secret")}, Sandbox: sandbox, User: "nobody"})
	if !errors.Is(err, os.ErrPermission) {
		t.Errorf("a file of root's was fetched for nobody: %v", err)
	}
	// The rest of the process is still root.
	if data, err := os.ReadFile(filepath.Join(home, "secret")); err != nil || string(data) != "root's" {
		t.Errorf("the test itself reads %q, %v", data, err)
	}
	if err := f.Fetch(t.Context(), Request{URIs: []*mesos.CommandInfo_URI{uri("secret")}, Sandbox: sandbox, User: "no such user"}); err == nil {
		t.Error("an unknown user was accepted")
	}
}

func FuzzCheckXZ(f *testing.F) {
	f.Add([]byte("hello hello hello"), 3, []byte("\xfd7zXZ\x00\x00\x04\xe6\xd6\xb4\x46"))
	f.Add(bytes.Repeat([]byte("0123456789abcdef"), 10_000), 40, []byte{})
	f.Fuzz(func(t *testing.T, payload []byte, cut int, junk []byte) {
		_ = checkXZ(bytes.NewReader(junk)) // must end, must not panic
		data := xzOf(t, payload)
		twice := append(append(bytes.Clone(data), 0, 0, 0, 0), data...)
		if err := checkXZ(bytes.NewReader(twice)); err != nil {
			t.Fatalf("two good streams are refused: %v", err)
		}
		if cut > 0 && cut < len(data) {
			if err := checkXZ(bytes.NewReader(data[:cut])); err == nil {
				t.Fatalf("a stream cut at %d of %d bytes passes", cut, len(data))
			}
		}
	})
}
