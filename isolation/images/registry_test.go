package images

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/compression"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/types"

	mesos "clusterd/api/mesos/v1"
)

// noise does not compress.
func noise(n int) string {
	b, x := make([]byte, n), uint64(88172645463325252)
	for i := range b {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		b[i] = byte(x)
	}
	return string(b)
}

func oneLayer(tb testing.TB, files ...file) v1.Image {
	return imageOfLayers(tb, v1.Config{}, layerOf(tb, compression.GZip, files...))
}

// pulled provisions an image and returns what is in its root.
func pulled(tb testing.TB, p *Provisioner, image *mesos.Image) map[string]string {
	tb.Helper()
	got, err := p.Provision(testContext(tb), newID(), image)
	if err != nil {
		tb.Fatal(err)
	}
	var have map[string]string
	mounted(tb, got, func(root string) (err error) {
		have, err = tree(root)
		return err
	})
	return have
}

func layerDigest(tb testing.TB, img v1.Image) string {
	tb.Helper()
	m, err := img.Manifest()
	if err != nil {
		tb.Fatal(err)
	}
	return m.Layers[0].Digest.String()
}

// TestRegistryFaults breaks every step of a pull in every way once, and the pull
// succeeds all the same.
func TestRegistryFaults(t *testing.T) {
	needRoot(t)
	img := oneLayer(t, reg("file", noise(3<<20)))
	blob := "/blobs/" + layerDigest(t, img)
	cut := func(at int) func(w http.ResponseWriter, r *http.Request) {
		return func(w http.ResponseWriter, _ *http.Request) {
			l, err := img.Layers()
			if err != nil {
				panic(err)
			}
			rc, err := l[0].Compressed()
			if err != nil {
				panic(err)
			}
			defer rc.Close()
			b := make([]byte, at)
			for n := 0; n < at; {
				m, err := rc.Read(b[n:])
				if err != nil {
					panic(err)
				}
				n += m
			}
			w.Header().Set("Content-Length", "3146000")
			_, _ = w.Write(b)
			panic(http.ErrAbortHandler)
		}
	}
	status := func(code int) func(w http.ResponseWriter, r *http.Request) {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", "0")
			w.WriteHeader(code)
		}
	}
	for _, c := range []struct {
		name, part string
		times      int
		fault      func(w http.ResponseWriter, r *http.Request)
		// ranges says that the pull must go on where it was.
		ranges bool
	}{
		{"429 at the first contact", "/v2/", 2, status(429), false},
		{"503 for the manifest", "/manifests/", 2, status(503), false},
		{"500 for the configuration", "/blobs/", 1, status(500), false},
		{"429 for the layer", blob, 3, status(429), false},
		{"500 for the layer", blob, 3, status(500), false},
		{"connection lost at once", blob, 1, cut(0), false},
		{"connection lost at the beginning", blob, 1, cut(8 << 10), true},
		{"connection lost, and no ranges", blob, 1, cut(1 << 20), true},
		{"connection lost in the middle", blob, 2, cut(1 << 20), true},
		{"garbage", blob, 1, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(noise(3 << 20))) }, false},
		{"less than announced", blob, 1, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("less")) }, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRegistry(t)
			name := r.push(t, "img", img)
			var seen, ranged atomic.Int32
			r.interfere(func(w http.ResponseWriter, req *http.Request) bool {
				if !strings.Contains(req.URL.Path, c.part) || req.Method != http.MethodGet {
					return false
				}
				if req.Header.Get("Range") != "" {
					ranged.Add(1)
					if strings.Contains(c.name, "no ranges") {
						w.WriteHeader(http.StatusRequestedRangeNotSatisfiable)
						return true
					}
				}
				if int(seen.Add(1)) > c.times {
					return false
				}
				c.fault(w, req)
				return true
			})
			p := newProvisioner(t, testOptions(t))
			if have := pulled(t, p, dockerImageNamed(name)); len(have) != 1 {
				t.Errorf("root: got %d files", len(have))
			}
			if c.ranges != (ranged.Load() > 0) {
				t.Errorf("requests with a range: got %d", ranged.Load())
			}
		})
	}
}

// TestRegistryRefusals has faults that stay: the pull fails soon, says why, and leaves
// nothing behind.
func TestRegistryRefusals(t *testing.T) {
	needRoot(t)
	img := oneLayer(t, reg("file", noise(300<<10)))
	blob := "/blobs/" + layerDigest(t, img)
	for _, c := range []struct {
		name, part string
		most       int // requests
		fault      func(w http.ResponseWriter, r *http.Request)
		want       string
	}{
		{"no such image", "/manifests/", 1, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotFound) }, "404"},
		{"forbidden", "/manifests/", 1, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) }, "403"},
		{"no such blob", blob, 1, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotFound) }, "404"},
		{"always 500", "/manifests/", 3, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) }, "500"},
		{"another layer", blob, 2, func(w http.ResponseWriter, _ *http.Request) {
			l := layerOf(t, compression.GZip, reg("other", noise(300<<10)))
			rc, err := l.Compressed()
			if err != nil {
				panic(err)
			}
			defer rc.Close()
			b := make([]byte, 310<<10)
			for {
				n, err := rc.Read(b)
				_, _ = w.Write(b[:n])
				if err != nil {
					return
				}
			}
		}, "wrong digest"},
		{"endless", blob, 1, func(w http.ResponseWriter, _ *http.Request) {
			for range 1000 {
				if _, err := w.Write([]byte(noise(4096))); err != nil {
					return
				}
			}
		}, ""},
		{"huge manifest", "/manifests/", 1, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(make([]byte, maxManifest+1)) }, "too large"},
		{"manifest of another kind", "/manifests/", 1, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			_, _ = w.Write([]byte(`{"hello": 1}`))
		}, "not supported"},
		{"schema 1", "/manifests/", 1, func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write([]byte(`{"schemaVersion": 1, "fsLayers": []}`))
		}, "schema 1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRegistry(t)
			name := r.push(t, "img", img)
			r.interfere(func(w http.ResponseWriter, req *http.Request) bool {
				if !strings.Contains(req.URL.Path, c.part) {
					return false
				}
				c.fault(w, req)
				return true
			})
			o := testOptions(t)
			o.Attempts = 3
			p := newProvisioner(t, o)
			_, err := p.Provision(testContext(t), newID(), dockerImageNamed(name))
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
			if n := r.count(c.part); n > c.most+1 {
				t.Errorf("requests: got %d, want at most %d", n, c.most+1)
			}
			for _, d := range []string{layersDir, stagingDir, imagesDir, linksDir} {
				if rest := leftovers(t, p.store.path(d)); len(rest) != 0 {
					t.Errorf("left in %s: %v", d, rest)
				}
			}
		})
	}
}

// TestSlowPeer is about a registry that stops to send.
func TestSlowPeer(t *testing.T) {
	needRoot(t)
	img := oneLayer(t, reg("file", noise(300<<10)))
	r := newRegistry(t)
	name := r.push(t, "img", img)
	var stalled atomic.Int32
	r.interfere(func(w http.ResponseWriter, req *http.Request) bool {
		if !strings.Contains(req.URL.Path, layerDigest(t, img)) || stalled.Add(1) > 2 {
			return false
		}
		w.Header().Set("Content-Length", "307000")
		_, _ = w.Write([]byte("\x1f\x8b")) // as it begins
		_ = http.NewResponseController(w).Flush()
		<-req.Context().Done()
		return true
	})
	o := testOptions(t)
	o.StallTimeout = 200 * time.Millisecond
	p := newProvisioner(t, o)
	if have := pulled(t, p, dockerImageNamed(name)); len(have) != 1 {
		t.Errorf("root: got %d files", len(have))
	}
	if stalled.Load() < 3 {
		t.Errorf("stalled: %d", stalled.Load())
	}
}

// TestAuthentication pulls from registries that want basic and token authentication.
func TestAuthentication(t *testing.T) {
	needRoot(t)
	img := oneLayer(t, reg("file", "secret"))
	basic := "Basic " + base64.StdEncoding.EncodeToString([]byte("me:pass:word"))
	config := func(host string) string {
		return fmt.Sprintf(`{"auths": {"https://%s/v2/": {"auth": %q}}}`, host, base64.StdEncoding.EncodeToString([]byte("me:pass:word")))
	}
	for _, kind := range []string{"basic", "bearer"} {
		t.Run(kind, func(t *testing.T) {
			r := newRegistry(t)
			name := r.push(t, "img", img)
			r.interfere(func(w http.ResponseWriter, req *http.Request) bool {
				want := basic
				if kind == "bearer" {
					want = "Bearer the-token"
				}
				switch {
				case req.URL.Path == "/token" && req.Header.Get("Authorization") == basic && req.URL.Query().Get("scope") == "repository:img:pull":
					_, _ = w.Write([]byte(`{"token": "the-token"}`))
				case req.URL.Path == "/token":
					w.WriteHeader(http.StatusUnauthorized)
				case req.Header.Get("Authorization") == want:
					return false
				default:
					challenge := `Basic realm="r"`
					if kind == "bearer" {
						challenge = fmt.Sprintf(`Bearer realm="http://%s/token",service="s"`, r.host)
					}
					w.Header().Set("WWW-Authenticate", challenge)
					w.WriteHeader(http.StatusUnauthorized)
				}
				return true
			})
			// By the agent's configuration, an image's, its credential; not without.
			o := testOptions(t)
			o.Config = config(r.host)
			pulled(t, newProvisioner(t, o), dockerImageNamed(name))

			p := newProvisioner(t, testOptions(t))
			start := r.count("")
			if _, err := p.Provision(testContext(t), newID(), dockerImageNamed(name)); err == nil || !strings.Contains(err.Error(), "401") {
				t.Errorf("without credentials: got %v", err)
			}
			if n := r.count("") - start; n > 4 {
				t.Errorf("without credentials: %d requests", n)
			}
			wrong := dockerImageNamed(name)
			wrong.Docker.Credential = &mesos.Credential{Principal: new("me"), Secret: new("no")}
			if _, err := p.Provision(testContext(t), newID(), wrong); err == nil {
				t.Error("wrong credential: got no error")
			}
			own := dockerImageNamed(name)
			own.Docker.Config = &mesos.Secret{Type: mesos.Secret_VALUE.Enum(), Value: &mesos.Secret_Value{Data: []byte(config(r.host))}}
			pulled(t, p, own)
			again := dockerImageNamed(name)
			again.Cached = new(false)
			again.Docker.Credential = &mesos.Credential{Principal: new("me"), Secret: new("pass:word")}
			pulled(t, p, again)
			reference := dockerImageNamed(name)
			reference.Cached = new(false)
			reference.Docker.Config = &mesos.Secret{Type: mesos.Secret_REFERENCE.Enum(), Reference: &mesos.Secret_Reference{Name: new("s")}}
			if _, err := p.Provision(testContext(t), newID(), reference); !errors.Is(err, ErrUnsupported) {
				t.Errorf("secret by reference: got %v", err)
			}
		})
	}
}

func TestCredentials(t *testing.T) {
	for _, c := range []struct{ config, host, want string }{
		{"", "r", ""},
		{`{"auths": {"r:5000": {"username": "u", "password": "p"}}}`, "r:5000", "u:p"},
		{`{"auths": {"https://index.docker.io/v1/": {"auth": "dTpw"}}}`, "docker.io", "u:p"},
		{`{"auths": {"https://index.docker.io/v1/": {"auth": "dTpw"}}}`, "registry-1.docker.io", "u:p"},
		{`{"https://r/": {"auth": "dTpw", "email": "e"}}`, "r", "u:p"},
		{`{"auths": {"r": {"identitytoken": "t"}}, "credsStore": "x"}`, "r", ":"},
		{`{"auths": {"r": {"auth": "dTpw"}}}`, "other", ""},
		{`{"auths": {"r": {"auth": "!"}}}`, "r", "error"},
		{`{"auths": {"r": {"auth": "dXA="}}}`, "r", "error"},
		{`{"auths": 1}`, "r", "error"},
		{`not json`, "r", "error"},
	} {
		got := ""
		parsed, err := parseCredentials(c.config)
		if err != nil {
			got = "error"
		} else if a, err := parsed.For(c.host).Authorization(); err != nil {
			t.Fatal(err)
		} else if a.Username != "" || a.IdentityToken != "" {
			got = a.Username + ":" + a.Password
		}
		if got != c.want {
			t.Errorf("%s for %s: got %q, want %q (%v)", c.config, c.host, got, c.want, err)
		}
		if err != nil && strings.Contains(err.Error(), "dXA") {
			t.Errorf("the error tells a secret: %v", err)
		}
	}
}

// TestPlainHTTP is about who is spoken to without TLS.
func TestPlainHTTP(t *testing.T) {
	o := Options{WorkDir: "/w", StoreDir: "/s", Registry: "http://images.example:8080/", InsecureRegistries: []string{"10.1.2.3:5000"}}
	if err := o.complete(); err != nil {
		t.Fatal(err)
	}
	for host, want := range map[string]bool{
		"localhost": true, "localhost:5000": true, "127.0.0.1:5000": true, "[::1]:5000": true, "x.example:80": true,
		"images.example:8080": true, "10.1.2.3:5000": true,
		"10.1.2.4:5000": false, "x.local": false, "x.example": false, "x.example:443": false, "localhost.example": false,
	} {
		if got := o.plainHTTP(host); got != want {
			t.Errorf("%s: got %v", host, got)
		}
	}
	// The library would fall back to http for private networks.
	s := &Store{o: o, transport: roundTripper(func(r *http.Request) (*http.Response, error) {
		if r.URL.Scheme == "http" {
			t.Errorf("plain request to %s", r.URL)
		}
		return nil, errors.New("no TLS there")
	})}
	s.o.Attempts = 1
	if _, err := s.openRepository(t.Context(), reference{registry: "10.1.2.4:5000", repository: "x"}, credentials(nil).For("")); err == nil {
		t.Error("got no error")
	}
}

type roundTripper func(r *http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// TestPlatform chooses among the manifests of a list.
func TestPlatform(t *testing.T) {
	needRoot(t)
	r := newRegistry(t)
	add := func(arch, variant string) mutate.IndexAddendum {
		img := oneLayer(t, reg(arch+variant, ""))
		return mutate.IndexAddendum{Add: img, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: arch, Variant: variant}}}
	}
	windows := add("amd64", "")
	windows.Platform.OS = "windows"
	for kind, mediaType := range map[string]types.MediaType{"oci": types.OCIImageIndex, "docker": types.DockerManifestList} {
		index := mutate.IndexMediaType(mutate.AppendManifests(empty.Index, windows, add("amd64", ""), add("arm", "v5"), add("arm", "v6"), add("arm64", "v8")), mediaType)
		name := r.push(t, kind, index)
		for _, c := range []struct {
			want Platform
			file string
		}{
			{Platform{"linux", "amd64", ""}, "amd64"},
			{Platform{"linux", "arm64", "v8"}, "arm64v8"},
			{Platform{"linux", "arm", "v7"}, "armv6"},
			{Platform{"linux", "arm", "v5"}, "armv5"},
			{Platform{"linux", "s390x", ""}, ""},
		} {
			o := testOptions(t)
			o.Platform = c.want
			p := newProvisioner(t, o)
			if c.file == "" {
				if _, err := p.Provision(testContext(t), newID(), dockerImageNamed(name)); !errors.Is(err, ErrNotFound) {
					t.Errorf("%s, %v: got %v", kind, c.want, err)
				}
				continue
			}
			if have := pulled(t, p, dockerImageNamed(name)); have[c.file] == "" {
				t.Errorf("%s, %v: got %v", kind, c.want, have)
			}
		}
	}
}

// TestDigest pulls by digest, and refuses what is not of that digest.
func TestDigest(t *testing.T) {
	needRoot(t)
	r := newRegistry(t)
	img := oneLayer(t, reg("file", "x"))
	name := r.push(t, "img", img)
	d, err := img.Digest()
	if err != nil {
		t.Fatal(err)
	}
	p := newProvisioner(t, testOptions(t))
	pulled(t, p, dockerImageNamed(name+"@"+d.String()))
	pulled(t, p, dockerImageNamed(name+":latest@"+d.String()))
	r.interfere(func(w http.ResponseWriter, req *http.Request) bool {
		if !strings.Contains(req.URL.Path, "/manifests/") {
			return false
		}
		m, err := json.Marshal(map[string]any{"schemaVersion": 2, "config": map[string]any{}, "layers": []int{}})
		if err != nil {
			panic(err)
		}
		_, _ = w.Write(m)
		return true
	})
	p = newProvisioner(t, testOptions(t))
	if _, err := p.Provision(testContext(t), newID(), dockerImageNamed(name+"@"+d.String())); !errors.Is(err, ErrDigest) {
		t.Errorf("another manifest: got %v", err)
	}
}

// TestDefaultRegistry is about names without a registry, and the hub's "library/".
func TestDefaultRegistry(t *testing.T) {
	needRoot(t)
	r := newRegistry(t)
	r.push(t, "img", oneLayer(t, reg("file", "x")))
	o := testOptions(t)
	o.Registry = "http://" + r.host
	pulled(t, newProvisioner(t, o), dockerImageNamed("img"))
	for registry, want := range map[string]string{DefaultRegistry: "/v2/library/img/", "https://r.example": "/v2/img/"} {
		o.Registry = registry
		if err := o.complete(); err != nil {
			t.Fatal(err)
		}
		s := &Store{o: o, transport: roundTripper(func(*http.Request) (*http.Response, error) {
			return &http.Response{StatusCode: http.StatusOK, Body: http.NoBody, Header: http.Header{}}, nil
		})}
		repo, err := s.openRepository(t.Context(), reference{repository: "img"}, credentials(nil).For(""))
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(repo.base+"/", want) {
			t.Errorf("%s: got %s", registry, repo.base)
		}
	}
}

// TestOnce pulls one image for many at one time, and another with the same layer.
func TestOnce(t *testing.T) {
	needRoot(t)
	r := newRegistry(t)
	shared := layerOf(t, compression.GZip, reg("shared", noise(1<<20)))
	digest, err := shared.Digest()
	if err != nil {
		t.Fatal(err)
	}
	var images []*mesos.Image
	for i := range 3 {
		own := layerOf(t, compression.GZip, reg("own", strconv.Itoa(i)))
		images = append(images, dockerImageNamed(r.push(t, fmt.Sprintf("img%d", i), imageOfLayers(t, v1.Config{}, shared, own))))
	}
	r.interfere(nil)
	p := newProvisioner(t, testOptions(t))
	var wg sync.WaitGroup
	for i := range 12 {
		wg.Go(func() {
			if _, err := p.Provision(testContext(t), newID(), images[i%3]); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n := r.count(digest.String()); n != 1 {
		t.Errorf("the shared layer was downloaded %d times", n)
	}
	for i := range 3 {
		if n := r.count(fmt.Sprintf("/img%d/manifests/", i)); n != 1 {
			t.Errorf("image %d was pulled %d times", i, n)
		}
	}
	// From the store, without the registry; and again when it must not be cached.
	r.interfere(nil)
	if _, err := p.Provision(testContext(t), newID(), images[0]); err != nil || r.count("") != 0 {
		t.Errorf("cached: got %v, %d requests", err, r.count(""))
	}
	images[0].Cached = new(false)
	if _, err := p.Provision(testContext(t), newID(), images[0]); err != nil || r.count("/manifests/") != 1 || r.count(digest.String()) != 0 {
		t.Errorf("not cached: got %v, requests %v", err, r.requests)
	}
	p.store.mu.Lock()
	defer p.store.mu.Unlock()
	if len(p.store.pulls) != 0 || len(p.store.unpacking) != 0 {
		t.Errorf("left: pulls %v, layers %v", p.store.pulls, p.store.unpacking)
	}
}

// TestGivenUp ends a pull when nobody waits for it any more, and not before.
func TestGivenUp(t *testing.T) {
	needRoot(t)
	r := newRegistry(t)
	img := oneLayer(t, reg("file", noise(100<<10)))
	name := r.push(t, "img", img)
	arrived, proceed := make(chan bool, 9), make(chan bool)
	var gone atomic.Int32
	r.interfere(func(_ http.ResponseWriter, req *http.Request) bool {
		if strings.Contains(req.URL.Path, layerDigest(t, img)) {
			arrived <- true
			select {
			case <-proceed:
			case <-req.Context().Done():
				gone.Add(1)
				panic(http.ErrAbortHandler)
			}
		}
		return false
	})
	p := newProvisioner(t, testOptions(t))
	start := func() (context.CancelFunc, chan error) {
		ctx, cancel := context.WithCancel(testContext(t))
		done := make(chan error, 1)
		go func() {
			_, err := p.Provision(ctx, newID(), dockerImageNamed(name))
			done <- err
		}()
		return cancel, done
	}
	waiting := func(n int) func() bool {
		return func() bool {
			p.store.mu.Lock()
			defer p.store.mu.Unlock()
			for _, pull := range p.store.pulls {
				return pull.waiters == n
			}
			return n == 0
		}
	}
	cancel1, done1 := start()
	cancel2, done2 := start()
	<-arrived
	eventually(t, "two wait", waiting(2))
	cancel1()
	if err := <-done1; !errors.Is(err, context.Canceled) {
		t.Errorf("first: got %v", err)
	}
	cancel2()
	if err := <-done2; !errors.Is(err, context.Canceled) {
		t.Errorf("second: got %v", err)
	}
	eventually(t, "the download ended", func() bool { return gone.Load() == 1 })
	eventually(t, "staging is empty", func() bool { return len(leftovers(t, p.store.path(stagingDir))) == 0 })
	cancel1, done1 = start()
	_, done2 = start()
	<-arrived
	eventually(t, "two wait", waiting(2))
	cancel1()
	<-done1
	close(proceed)
	if err := <-done2; err != nil {
		t.Errorf("the one who stayed: got %v", err)
	}
	eventually(t, "pins of one container", func() bool {
		p.store.mu.Lock()
		defer p.store.mu.Unlock()
		for _, n := range p.store.pins {
			if n != 1 {
				return false
			}
		}
		return len(p.store.pins) == 2
	})
}
