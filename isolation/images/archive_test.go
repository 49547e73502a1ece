package images

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/compression"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// writeLayout makes a folder with an OCI layout "img" of one image.
func writeLayout(tb testing.TB, img v1.Image) string {
	tb.Helper()
	dir := tb.TempDir()
	l, err := layout.Write(filepath.Join(dir, "img"), empty.Index)
	if err != nil {
		tb.Fatal(err)
	}
	if err := l.AppendImage(img); err != nil {
		tb.Fatal(err)
	}
	return dir
}

// legacyArchive is what `docker save` wrote before it knew OCI: a folder for each
// layer, equal ones as links.
func legacyArchive(tb testing.TB, tag string, layers ...[]file) []byte {
	tb.Helper()
	var files []file
	var names []string
	var diffs []string
	seen := make(map[string]string)
	for i, l := range layers {
		b := archiveOf(tb, l...)
		name := fmt.Sprintf("%064d/layer.tar", i)
		names, diffs = append(names, name), append(diffs, digestOf(b))
		files = append(files, dir(filepath.Dir(name)))
		if same, ok := seen[digestOf(b)]; ok {
			files = append(files, link(tar.TypeSymlink, name, "../"+same))
			continue
		}
		seen[digestOf(b)] = name
		files = append(files, reg(name, string(b)))
	}
	config, err := json.Marshal(map[string]any{
		"os": "linux", "config": map[string]any{"Cmd": []string{"/x"}}, "rootfs": map[string]any{"type": "layers", "diff_ids": diffs},
	})
	if err != nil {
		tb.Fatal(err)
	}
	manifest, err := json.Marshal([]any{map[string]any{"Config": "c.json", "RepoTags": []string{tag}, "Layers": names}})
	if err != nil {
		tb.Fatal(err)
	}
	return archiveOf(tb, append(files, reg("c.json", string(config)), reg("manifest.json", string(manifest)))...)
}

func write(tb testing.TB, p string, b []byte) {
	tb.Helper()
	if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
		tb.Fatal(err)
	}
	if err := os.WriteFile(p, b, 0o644); err != nil {
		tb.Fatal(err)
	}
}

// TestLocalImages finds images in a folder, in all forms that there are.
func TestLocalImages(t *testing.T) {
	needRoot(t)
	img := imageOfLayers(t, v1.Config{}, layerOf(t, compression.GZip, reg("file", "x")))
	folder := t.TempDir()
	tag, err := name.NewTag("busybox:1.0")
	if err != nil {
		t.Fatal(err)
	}
	var saved bytes.Buffer
	if err := tarball.Write(tag, img, &saved); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(folder, "busybox:1.0.tar"), saved.Bytes())
	write(t, filepath.Join(folder, "untagged.tar"), legacyArchive(t, "untagged:latest", []file{reg("file", "x")}))
	write(t, filepath.Join(folder, "latest:latest.tar"), legacyArchive(t, "docker.io/library/latest:latest", []file{reg("file", "x")}))
	same := []file{reg("file", "x")}
	write(t, filepath.Join(folder, "some/where/links:v.tar"), legacyArchive(t, "some/where/links:v", same, same, []file{reg("other", "y")}))
	var zipped bytes.Buffer
	z := gzip.NewWriter(&zipped)
	if _, err := z.Write(saved.Bytes()); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(folder, "library/busybox:1.0.tar"), zipped.Bytes())
	write(t, filepath.Join(folder, "wrong:1.tar"), saved.Bytes())
	write(t, filepath.Join(folder, "ancient.tar"), archiveOf(t, reg("repositories", `{"ancient": {"latest": "0"}}`)))
	write(t, filepath.Join(folder, "cut.tar"), saved.Bytes()[:700])
	write(t, filepath.Join(folder, "broken.tar"), bytes.Replace(legacyArchive(t, "broken:latest", []file{reg("file", "right")}), []byte("right"), []byte("wrong"), 1))

	l, err := layout.Write(filepath.Join(folder, "oci"), empty.Index)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.AppendImage(img, layout.WithAnnotations(map[string]string{"org.opencontainers.image.ref.name": "v1"})); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(filepath.Join(folder, "plain"), os.DirFS(filepath.Join(writeLayout(t, img), "img"))); err != nil {
		t.Fatal(err)
	}
	digest, err := img.Digest()
	if err != nil {
		t.Fatal(err)
	}
	var packed bytes.Buffer
	w := tar.NewWriter(&packed)
	if err := w.AddFS(os.DirFS(filepath.Join(folder, "plain"))); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(folder, "packed.tar"), packed.Bytes())

	o := testOptions(t)
	o.Registry = folder
	p := newProvisioner(t, o)
	for _, c := range []struct {
		name string
		want error
	}{
		{"busybox:1.0", nil},
		{"library/busybox:1.0", nil},
		{"untagged", nil},
		{"latest", nil},
		{"latest:latest", nil},
		{"some/where/links:v", nil},
		{"oci:v1", nil},
		{"plain", nil},
		{"plain@" + digest.String(), nil},
		{"oci@" + digest.String(), nil},
		{"packed", nil},
		{"oci:v2", ErrNotFound},
		{"busybox:2.0", ErrNotFound},
		{"wrong:1", ErrNotFound},
		{"ancient", ErrUnsupported},
		{"cut", io.ErrUnexpectedEOF},
		{"broken", ErrDigest},
	} {
		got, err := p.Provision(testContext(t), newID(), dockerImageNamed(c.name))
		if !errors.Is(err, c.want) || (err == nil) != (c.want == nil) {
			t.Errorf("%s: got %v, want %v", c.name, err, c.want)
			continue
		}
		if err != nil {
			continue
		}
		mounted(t, got, func(root string) error {
			b, err := os.ReadFile(filepath.Join(root, "file"))
			if string(b) != "x" {
				t.Errorf("%s: got %q", c.name, b)
			}
			return err
		})
	}
	if rest := leftovers(t, p.store.path(stagingDir)); len(rest) != 0 {
		t.Errorf("left in staging: %v", rest)
	}
}

func TestParseReference(t *testing.T) {
	d := "sha256:" + fmt.Sprintf("%064d", 1)
	for _, c := range []struct {
		text string
		want reference
		key  string
	}{
		{"busybox", reference{"", "busybox", "", ""}, "busybox:latest"},
		{"library/busybox:1", reference{"", "library/busybox", "1", ""}, "library/busybox:1"},
		{"localhost/x", reference{"localhost", "x", "", ""}, "localhost/x:latest"},
		{"r:5000/a/b", reference{"r:5000", "a/b", "", ""}, "r:5000/a/b:latest"},
		{"r.io/a:v@" + d, reference{"r.io", "a", "v", d}, "r.io/a@" + d},
		{"[::1]:5000/a:v", reference{"[::1]:5000", "a", "v", ""}, "[::1]:5000/a:v"},
	} {
		got, err := parseReference(c.text)
		if err != nil {
			t.Errorf("%s: %v", c.text, err)
		}
		if d := cmp.Diff(c.want, got, cmp.AllowUnexported(reference{})); d != "" {
			t.Errorf("%s: %s", c.text, d)
		}
		if got.key() != c.key {
			t.Errorf("%s: key: got %s, want %s", c.text, got.key(), c.key)
		}
	}
}

func FuzzParseReference(f *testing.F) {
	f.Add("r.io:5000/a/b:v@sha256:0")
	f.Fuzz(func(t *testing.T, s string) {
		r, err := parseReference(s)
		if err != nil {
			return
		}
		p := filepath.Join("/base", r.String()+".tar")
		if rel, err := filepath.Rel("/base", p); err != nil || rel != r.String()+".tar" {
			t.Errorf("%q leads to %s", s, p)
		}
		again, err := parseReference(r.String())
		if err != nil || again.key() != r.key() {
			t.Errorf("%q: got %q, %v", s, again.key(), err)
		}
	})
}
