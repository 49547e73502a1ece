package fetcher

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	mesos "clusterd/api/mesos/v1"
)

func newCache(t *testing.T, capacity int64) *Cache {
	t.Helper()
	c, err := NewCache(filepath.Join(t.TempDir(), "cache"), capacity)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func cached(value string) *mesos.CommandInfo_URI {
	u := uri(value)
	u.Cache = new(true)
	return u
}

// origin serves what its map has, counts what it sent whole, and knows entity tags.
type originServer struct {
	*httptest.Server
	mu    sync.Mutex
	files map[string]string
	tags  bool
	sent  map[string]int
	asked atomic.Int64
}

func newOrigin(t *testing.T, tags bool) *originServer {
	t.Helper()
	o := &originServer{files: map[string]string{}, sent: map[string]int{}, tags: tags}
	o.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		o.asked.Add(1)
		o.mu.Lock()
		body, ok := o.files[r.URL.Path]
		tags := o.tags
		o.mu.Unlock()
		if !ok {
			http.NotFound(w, r)
			return
		}
		if tags {
			tag := strconv.Quote(digest(body))
			w.Header().Set("ETag", tag)
			if r.Header.Get("If-None-Match") == tag {
				w.WriteHeader(http.StatusNotModified)
				return
			}
		}
		o.mu.Lock()
		o.sent[r.URL.Path]++
		o.mu.Unlock()
		w.Header().Set("Content-Length", strconv.Itoa(len(body)))
		_, _ = w.Write([]byte(body))
	}))
	t.Cleanup(o.Close)
	return o
}

func (o *originServer) put(path, body string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.files[path] = body
}

func (o *originServer) wantSent(t *testing.T, want map[string]int) {
	t.Helper()
	o.mu.Lock()
	defer o.mu.Unlock()
	if diff := cmp.Diff(want, o.sent); diff != "" {
		t.Errorf("files sent (-want +got):\n%s", diff)
	}
}

func digest(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:])
}

func wantFile(t *testing.T, path, want string) {
	t.Helper()
	got, err := os.ReadFile(path)
	if err != nil || string(got) != want {
		t.Errorf("%s: got %q, %v, want %q", filepath.Base(path), got, err, want)
	}
}

func mustFetch(t *testing.T, f *Fetcher, uris ...*mesos.CommandInfo_URI) (sandbox string) {
	t.Helper()
	sandbox = t.TempDir()
	if err := fetch(t, f, sandbox, uris...); err != nil {
		t.Fatal(err)
	}
	return sandbox
}

// cacheIs checks what the cache says it holds against what is on the disk.
func cacheIs(t *testing.T, c *Cache, files int, used int64) {
	t.Helper()
	entries, err := os.ReadDir(c.dir)
	if err != nil {
		t.Fatal(err)
	}
	var size int64
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			t.Fatal(err)
		}
		size += info.Size()
	}
	if _, now := c.Size(); len(entries) != files || size != used || now != used {
		t.Errorf("cache: got %d files of %d bytes, %d counted, want %d of %d", len(entries), size, now, files, used)
	}
}

func TestCacheFetchesOnce(t *testing.T) {
	o := newOrigin(t, false)
	o.put("/data", "contents")
	c := newCache(t, 1000)
	f := New(Options{Cache: c})
	var wg sync.WaitGroup
	for range 20 {
		dir := t.TempDir()
		wg.Go(func() {
			if err := f.Fetch(context.Background(), Request{URIs: []*mesos.CommandInfo_URI{cached(o.URL + "/data")}, Sandbox: dir}); err != nil {
				t.Error(err)
			}
			wantFile(t, filepath.Join(dir, "data"), "contents")
		})
	}
	wg.Wait()
	o.wantSent(t, map[string]int{"/data": 1})
	cacheIs(t, c, 1, 8)
	// A task may do to its copy what it likes.
	dir := mustFetch(t, f, cached(o.URL+"/data"))
	write(t, filepath.Join(dir, "data"), "spoilt", 0o644)
	wantFile(t, filepath.Join(mustFetch(t, f, cached(o.URL+"/data")), "data"), "contents")
	// Without cache it comes from its origin.
	mustFetch(t, f, uri(o.URL+"/data"))
	o.wantSent(t, map[string]int{"/data": 2})
}

// TestCacheRevalidates: what has changed at its origin is fetched again.
func TestCacheRevalidates(t *testing.T) {
	o := newOrigin(t, true)
	o.put("/data", "one")
	c := newCache(t, 1000)
	f := New(Options{Cache: c})
	for range 3 {
		wantFile(t, filepath.Join(mustFetch(t, f, cached(o.URL+"/data")), "data"), "one")
	}
	o.wantSent(t, map[string]int{"/data": 1})
	o.put("/data", "another")
	for range 2 {
		wantFile(t, filepath.Join(mustFetch(t, f, cached(o.URL+"/data")), "data"), "another")
	}
	o.wantSent(t, map[string]int{"/data": 2})
	cacheIs(t, c, 1, 7)
	// An origin that is away is no reason to fail.
	o.Close()
	wantFile(t, filepath.Join(mustFetch(t, f, cached(o.URL+"/data")), "data"), "another")

	local := filepath.Join(t.TempDir(), "file")
	write(t, local, "old", 0o644)
	mustFetch(t, f, cached(local))
	write(t, local, "newer", 0o644)
	wantFile(t, filepath.Join(mustFetch(t, f, cached(local)), "file"), "newer")
	cacheIs(t, c, 2, 12)
}

func TestDigest(t *testing.T) {
	o := newOrigin(t, true)
	o.put("/data", "right")
	c := newCache(t, 1000)
	f := New(Options{Cache: c})
	right, wrong := o.URL+"/data"+digestMark+digest("right"), o.URL+"/data"+digestMark+digest("wrong")
	for what, u := range map[string]*mesos.CommandInfo_URI{"fetched": uri(right), "cached": cached(right), "in capitals": uri(strings.Replace(right, digest("right"), strings.ToUpper(digest("right")), 1))} {
		dir := mustFetch(t, f, u)
		if diff := cmp.Diff(map[string]string{"data": "right"}, files(t, dir)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", what, diff)
		}
	}
	asked := o.asked.Load()
	mustFetch(t, f, cached(right))
	if o.asked.Load() != asked {
		t.Error("a file whose digest is known: the origin was asked again")
	}
	for what, u := range map[string]*mesos.CommandInfo_URI{"fetched": uri(wrong), "cached": cached(wrong)} {
		dir := t.TempDir()
		if err := fetch(t, f, dir, u); !errors.Is(err, ErrDigest) {
			t.Errorf("%s with a wrong digest: got %v, want %v", what, err, ErrDigest)
		}
		if got := files(t, dir); len(got) != 0 {
			t.Errorf("%s with a wrong digest: got %v", what, got)
		}
	}
	cacheIs(t, c, 1, 5)
	// What has changed is told by the digest, also without a tag.
	o.put("/data", "wrong")
	wantFile(t, filepath.Join(mustFetch(t, f, cached(wrong)), "data"), "wrong")
	// An archive with another digest is not unpacked.
	o.put("/a.tar", string(tarOf(t, member{name: "x", content: "y"})))
	dir := t.TempDir()
	if err := fetch(t, f, dir, uri(o.URL+"/a.tar"+digestMark+digest("x"))); !errors.Is(err, ErrDigest) || len(files(t, dir)) != 0 {
		t.Errorf("archive with a wrong digest: got %v, and %v", err, files(t, dir))
	}
	for _, bad := range []string{"x", digest("a")[1:], digest("a") + "0", "zz" + digest("a")[2:]} {
		if err := Validate(uri(o.URL + "/data" + digestMark + bad)); !errors.Is(err, ErrInvalidURI) {
			t.Errorf("digest %q: got %v, want %v", bad, err, ErrInvalidURI)
		}
	}
}

func files(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		b, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		out[e.Name()] = string(b)
	}
	return out
}

// TestCacheEvicts: what was used longest ago goes, what is used stays.
func TestCacheEvicts(t *testing.T) {
	o := newOrigin(t, false)
	for _, name := range []string{"a", "b", "c", "d"} {
		o.put("/"+name, strings.Repeat(name, 40))
	}
	o.put("/big", strings.Repeat("x", 101))
	c := newCache(t, 100)
	f := New(Options{Cache: c})
	get := func(name string) { mustFetch(t, f, cached(o.URL+"/"+name)) }
	get("a")
	get("b")
	get("a")
	get("c") // b goes
	cacheIs(t, c, 2, 80)
	get("a")
	o.wantSent(t, map[string]int{"/a": 1, "/b": 1, "/c": 1})
	get("b") // c goes
	get("c")
	o.wantSent(t, map[string]int{"/a": 1, "/b": 2, "/c": 2})
	get("big") // goes past the cache, and costs nobody's place
	cacheIs(t, c, 2, 80)
	// All that is there is in use: what comes goes past.
	key := func(name string) cacheKey { return cacheKey{uri: o.URL + "/" + name} }
	for _, name := range []string{"b", "c"} {
		file, mine, err := c.get(t.Context(), key(name))
		if err != nil || mine {
			t.Fatalf("%s: %v, %v", name, mine, err)
		}
		defer c.release(file)
	}
	get("d")
	get("d")
	o.wantSent(t, map[string]int{"/a": 1, "/b": 2, "/c": 2, "/d": 2, "/big": 1})
	cacheIs(t, c, 2, 80)
}

// TestCacheFailures: what fails leaves nothing, and others try for themselves.
func TestCacheFailures(t *testing.T) {
	c := newCache(t, 1000)
	f := New(Options{Cache: c})
	var first atomic.Bool
	entered, leave := make(chan struct{}), make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "10")
		if !first.Swap(true) {
			_, _ = w.Write([]byte("01234"))
			w.(http.Flusher).Flush() //nolint:forcetypeassert // the server's own
			close(entered)
			<-leave
			return // and breaks off
		}
		_, _ = w.Write([]byte("0123456789"))
	}))
	t.Cleanup(server.Close)
	ctx, cancel := context.WithCancel(t.Context())
	one, two := t.TempDir(), t.TempDir()
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := f.Fetch(ctx, Request{URIs: []*mesos.CommandInfo_URI{cached(server.URL + "/x")}, Sandbox: one}); !errors.Is(err, context.Canceled) {
			t.Errorf("the one that was cancelled: got %v", err)
		}
	})
	<-entered
	wg.Go(func() {
		if err := f.Fetch(t.Context(), Request{URIs: []*mesos.CommandInfo_URI{cached(server.URL + "/x")}, Sandbox: two}); err != nil {
			t.Error(err)
		}
	})
	cancel()
	wg.Wait()
	close(leave)
	wantFile(t, filepath.Join(two, "x"), "0123456789")
	cacheIs(t, c, 1, 10)

	// Of unknown size.
	server2 := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.(http.Flusher).Flush() //nolint:forcetypeassert // the server's own
		_, _ = w.Write([]byte("streamed"))
	}))
	t.Cleanup(server2.Close)
	wantFile(t, filepath.Join(mustFetch(t, f, cached(server2.URL+"/y")), "y"), "streamed")
	// Not there at all.
	if err := fetch(t, f, t.TempDir(), cached(newOrigin(t, false).URL+"/nothing")); err == nil {
		t.Error("what is not there: got no error")
	}
	cacheIs(t, c, 1, 10)
}

// TestCachedArchive leaves only what is in it.
func TestCachedArchive(t *testing.T) {
	o := newOrigin(t, false)
	o.put("/a.tar", string(tarOf(t, member{name: "inside", content: "text"})))
	f := New(Options{Cache: newCache(t, 1<<20)})
	for range 2 {
		if diff := cmp.Diff(map[string]string{"inside": "text"}, files(t, mustFetch(t, f, cached(o.URL+"/a.tar")))); diff != "" {
			t.Errorf("sandbox (-want +got):\n%s", diff)
		}
	}
	whole := cached(o.URL + "/a.tar")
	whole.Extract = new(false)
	if got := files(t, mustFetch(t, f, whole)); len(got) != 1 || got["a.tar"] == "" {
		t.Errorf("not extracted: got %d files", len(got))
	}
	run := cached(o.URL + "/a.tar")
	run.Executable, run.OutputFile = new(true), new("bin/run")
	info, err := os.Stat(filepath.Join(mustFetch(t, f, run), "bin/run"))
	if err != nil || info.Mode().Perm() != 0o755 {
		t.Errorf("executable: got %v, %v", info, err)
	}
	o.wantSent(t, map[string]int{"/a.tar": 1})
}

// TestCacheByUser keeps users apart, and lets them take from files that are not theirs.
func TestCacheByUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	o := newOrigin(t, false)
	o.put("/data", "contents")
	c := newCache(t, 16)
	f := New(Options{Cache: c})
	for range 2 {
		for _, name := range []string{"nobody", ""} {
			dir := t.TempDir()
			for up := dir; up != os.TempDir(); up = filepath.Dir(up) {
				if err := os.Chmod(up, 0o755); err != nil { //nolint:gosec // the user passes through
					t.Fatal(err)
				}
			}
			if err := f.Fetch(t.Context(), Request{URIs: []*mesos.CommandInfo_URI{cached(o.URL + "/data")}, Sandbox: dir, User: name}); err != nil {
				t.Fatal(err)
			}
			wantFile(t, filepath.Join(dir, "data"), "contents")
		}
	}
	o.wantSent(t, map[string]int{"/data": 2})
	// A file that goes while a user's thread lets go of it.
	o.put("/more", "0123456789")
	dir := t.TempDir()
	if err := f.Fetch(t.Context(), Request{URIs: []*mesos.CommandInfo_URI{cached(o.URL + "/more")}, Sandbox: dir, User: "nobody"}); err != nil {
		t.Fatal(err)
	}
	cacheIs(t, c, 1, 10)
}

// fakeHadoop is a program that knows one command and one file.
func fakeHadoop(t *testing.T, script string) string {
	t.Helper()
	home := t.TempDir()
	if err := os.Mkdir(filepath.Join(home, "bin"), 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(home, "bin", "hadoop"), "#!/bin/sh\n"+script, 0o755)
	return home
}

func TestHadoop(t *testing.T) {
	home := fakeHadoop(t, `[ "$1 $2 $3" = "fs -copyToLocal hdfs://name:9000/dir/file.txt" ] || { echo "no such file: $3" >&2; exit 3; }
[ "$HADOOP_HOME" != "" ] || exit 4
echo "$SECRET$(echo run >>"$HADOOP_HOME/runs")from hadoop" >"$4"`)
	t.Setenv("SECRET", "agent's own")
	f := New(Options{HadoopHome: home, Cache: newCache(t, 1000)})
	dir := mustFetch(t, f, uri("hdfs://name:9000/dir/file.txt"))
	if diff := cmp.Diff(map[string]string{"file.txt": "from hadoop\n"}, files(t, dir)); diff != "" {
		t.Errorf("sandbox (-want +got):\n%s", diff)
	}
	for range 3 {
		wantFile(t, filepath.Join(mustFetch(t, f, cached("hdfs://name:9000/dir/file.txt")), "file.txt"), "from hadoop\n")
	}
	wantFile(t, filepath.Join(home, "runs"), "run\nrun\n")
	dir = t.TempDir()
	if err := fetch(t, f, dir, uri("hdfs://name:9000/other")); err == nil || !strings.Contains(err.Error(), "no such file: hdfs://name:9000/other") {
		t.Errorf("a file that is not there: got %v", err)
	}
	if got := files(t, dir); len(got) != 0 {
		t.Errorf("a file that is not there: got %v", got)
	}
	t.Setenv("HADOOP_HOME", "")
	t.Setenv("PATH", t.TempDir())
	if err := fetch(t, New(Options{}), t.TempDir(), uri("hdfs://name/file")); !errors.Is(err, ErrInvalidURI) {
		t.Errorf("without the program: got %v, want %v", err, ErrInvalidURI)
	}
	// One that hangs, with a child, ends with the task.
	f = New(Options{HadoopHome: fakeHadoop(t, "echo >\"$4\"; sleep 1000 & wait")})
	ctx, cancel := context.WithCancel(t.Context())
	dir = t.TempDir()
	t.Setenv("PATH", "/usr/bin:/bin")
	done := make(chan error, 1)
	go func() {
		done <- f.Fetch(ctx, Request{URIs: []*mesos.CommandInfo_URI{uri("hdfs://name/file")}, Sandbox: dir})
	}()
	eventually(t, func() bool { e, _ := os.ReadDir(dir); return len(e) > 0 })
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: got %v", err)
	}
	if got := files(t, dir); len(got) != 0 {
		t.Errorf("cancelled: got %v", got)
	}
}

// BenchmarkCache compares a hit with a fetch from a server on this machine.
func BenchmarkCache(b *testing.B) {
	for _, size := range []int{1 << 10, 1 << 20, 64 << 20} {
		body := bytes.Repeat([]byte("x"), size)
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", strconv.Itoa(size))
			_, _ = w.Write(body)
		}))
		c, err := NewCache(filepath.Join(b.TempDir(), "cache"), 1<<30)
		if err != nil {
			b.Fatal(err)
		}
		f := New(Options{Cache: c})
		for name, u := range map[string]*mesos.CommandInfo_URI{"fetch": uri(server.URL + "/x"), "hit": cached(server.URL + "/x")} {
			b.Run(fmt.Sprintf("%dKiB/%s", size>>10, name), func(b *testing.B) {
				b.SetBytes(int64(size))
				dir := b.TempDir()
				for b.Loop() {
					if err := f.Fetch(b.Context(), Request{URIs: []*mesos.CommandInfo_URI{u}, Sandbox: dir}); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
		server.Close()
	}
}

func eventually(t *testing.T, holds func() bool) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for !holds() {
		if time.Now().After(deadline) {
			t.Fatal("it does not come about")
		}
		time.Sleep(5 * time.Millisecond)
	}
}
