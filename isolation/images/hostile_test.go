package images

import (
	"archive/tar"
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"

	mesos "clusterd/api/mesos/v1"
)

// TestNoFile has pipes in the place of archives and of the files of a layout: waiting for
// somebody to write into one would hold up the launch, and the agent's end.
func TestNoFile(t *testing.T) {
	needRoot(t)
	o := testOptions(t)
	o.Registry = t.TempDir()
	p := newProvisioner(t, o)
	if err := unix.Mkfifo(filepath.Join(o.Registry, "pipe.tar"), 0o600); err != nil {
		t.Fatal(err)
	}
	layout := filepath.Join(o.Registry, "layout")
	if err := os.Mkdir(layout, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(layout, "oci-layout"), []byte(`{"imageLayoutVersion":"1.0.0"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mkfifo(filepath.Join(layout, "index.json"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"pipe", "layout"} {
		if _, err := p.Provision(testContext(t), newID(), dockerImageNamed(name)); err == nil || !strings.Contains(err.Error(), "not a file") {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

// TestHugeFile has a file of a terabyte that is all holes: what cannot fit is refused before
// it is read, which would take minutes.
func TestHugeFile(t *testing.T) {
	needRoot(t)
	entry := tar.Header{Typeflag: tar.TypeReg, Name: "big", Mode: 0o600, Size: 1 << 40}
	var b bytes.Buffer
	if err := tar.NewWriter(&b).WriteHeader(&entry); err != nil {
		t.Fatal(err)
	}
	// The content is missing, so that reading any of it is another error.
	_, err := unpack(&b, t.TempDir(), newBudget(Limits{ImageBytes: 1 << 30, ImageEntries: 10}))
	if !errors.Is(err, ErrTooLarge) {
		t.Errorf("got %v, want %v", err, ErrTooLarge)
	}
}

// TestPrivateRoots: nobody of the machine reaches what root of a container leaves in its root.
func TestPrivateRoots(t *testing.T) {
	needRoot(t)
	o := testOptions(t)
	roots := filepath.Join(o.WorkDir, "provisioner")
	if err := os.MkdirAll(roots, 0o711); err != nil { // as an earlier agent left it
		t.Fatal(err)
	}
	newProvisioner(t, o)
	st, err := os.Stat(roots)
	if err != nil {
		t.Fatal(err)
	}
	if st.Mode().Perm() != 0o700 {
		t.Errorf("mode of %s: got %v", roots, st.Mode())
	}
}

// TestPruneExcludes: what --image_gc_config excludes stays, also when an operator prunes.
func TestPruneExcludes(t *testing.T) {
	needRoot(t)
	r := newRegistry(t)
	stays := dockerImageNamed(r.push(t, "stays", oneLayer(t, reg("f", "stays"))))
	goes := dockerImageNamed(r.push(t, "goes", oneLayer(t, reg("f", "goes"))))
	o := testOptions(t)
	o.GC = &GCConfig{Headroom: 0, Interval: time.Hour, Excluded: []*mesos.Image{stays}}
	p := newProvisioner(t, o)
	for _, image := range []*mesos.Image{stays, goes} {
		id := newID()
		if _, err := p.Provision(testContext(t), id, image); err != nil {
			t.Fatal(err)
		}
		if err := p.Destroy(testContext(t), id); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.Prune(testContext(t), nil); err != nil {
		t.Fatal(err)
	}
	if got := leftovers(t, filepath.Join(o.StoreDir, layersDir)); len(got) != 1 {
		t.Errorf("layers that stay: got %v, want one", got)
	}
	o.GC.Excluded = []*mesos.Image{{Type: mesos.Image_DOCKER.Enum()}}
	if _, err := New(testContext(t), o, zerolog.Nop()); !errors.Is(err, ErrInvalidName) {
		t.Errorf("an image without a name: got %v", err)
	}
}
