package images

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/compression"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"

	mesos "clusterd/api/mesos/v1"
	"clusterd/isolation"
)

// stored is what is in the store: layers, links, names and the rest.
func stored(tb testing.TB, dir string) (layers, names, rest []string) {
	tb.Helper()
	layers, names = leftovers(tb, filepath.Join(dir, layersDir)), leftovers(tb, filepath.Join(dir, imagesDir))
	for _, l := range layers {
		short, err := os.ReadFile(filepath.Join(dir, layersDir, l, linkName))
		if err != nil {
			tb.Error(err)
		}
		st, err := os.Stat(filepath.Join(dir, linksDir, string(short)))
		if err != nil || !st.IsDir() {
			tb.Errorf("short name of layer %s: %v", l, err)
		}
	}
	if n := len(leftovers(tb, filepath.Join(dir, linksDir))); n != len(layers) {
		tb.Errorf("%d short names of %d layers", n, len(layers))
	}
	for _, d := range []string{stagingDir, gcDir} {
		rest = append(rest, leftovers(tb, filepath.Join(dir, d))...)
	}
	return layers, names, rest
}

// TestPrune removes what nobody uses, and nothing else.
func TestPrune(t *testing.T) {
	needRoot(t)
	r := newRegistry(t)
	base := layerOf(t, compression.GZip, reg("base", "b"))
	var images []*mesos.Image
	for i := range 4 {
		own := layerOf(t, compression.GZip, reg("own", fmt.Sprint(i)))
		images = append(images, dockerImageNamed(r.push(t, fmt.Sprintf("img%d", i), imageOfLayers(t, v1.Config{}, base, own))))
	}
	o := testOptions(t)
	p := newProvisioner(t, o)
	var ids []*mesos.ContainerID
	for _, i := range images[:3] {
		ids = append(ids, newID())
		if _, err := p.Provision(testContext(t), ids[len(ids)-1], i); err != nil {
			t.Fatal(err)
		}
	}
	check := func(what string, layers, names int) {
		t.Helper()
		l, n, rest := stored(t, o.StoreDir)
		rest = slices.DeleteFunc(rest, func(s string) bool { return strings.HasPrefix(s, "pull-") && what == "one on its way" })
		if len(l) != layers || len(n) != names || len(rest) != 0 {
			t.Errorf("%s: got %d layers, %d names, and %v, want %d and %d", what, len(l), len(n), rest, layers, names)
		}
	}
	prune := func(excluded ...*mesos.Image) {
		t.Helper()
		if err := p.Prune(testContext(t), excluded); err != nil {
			t.Fatal(err)
		}
	}
	prune()
	check("all in use", 4, 3)
	if err := p.Destroy(testContext(t), ids[0]); err != nil {
		t.Fatal(err)
	}
	if err := p.Destroy(testContext(t), ids[1]); err != nil {
		t.Fatal(err)
	}
	prune(images[1], &mesos.Image{Type: mesos.Image_APPC.Enum()})
	check("one in use, one excluded", 3, 2)

	// One that is on its way: its lower layer is in the store, its own is not.
	arrived, proceed := make(chan bool, 1), make(chan bool)
	m, err := imageOfLayers(t, v1.Config{}, layerOf(t, compression.GZip, reg("own", "3"))).Manifest()
	if err != nil {
		t.Fatal(err)
	}
	r.interfere(func(_ http.ResponseWriter, req *http.Request) bool {
		if strings.HasSuffix(req.URL.Path, m.Layers[0].Digest.String()) {
			arrived <- true
			<-proceed
		}
		return false
	})
	id := newID()
	done := make(chan error, 1)
	go func() {
		_, err := p.Provision(testContext(t), id, images[3])
		done <- err
	}()
	<-arrived
	if err := p.Destroy(testContext(t), ids[2]); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the base is pinned", func() bool {
		p.store.mu.Lock()
		defer p.store.mu.Unlock()
		return len(p.store.pins) == 1
	})
	prune()
	check("one on its way", 1, 0)
	close(proceed)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	prune()
	check("it has come", 2, 1)
	if err := p.Destroy(testContext(t), id); err != nil {
		t.Fatal(err)
	}
	prune()
	check("nothing", 0, 0)
	if len(p.store.pins) != 0 {
		t.Errorf("pins: %v", p.store.pins)
	}
	if err := p.Prune(testContext(t), []*mesos.Image{dockerImageNamed("../x")}); !errors.Is(err, ErrInvalidName) {
		t.Errorf("bad name: got %v", err)
	}
}

// TestRecover takes up what is known after a restart, and removes all else.
func TestRecover(t *testing.T) {
	needRoot(t)
	r := newRegistry(t)
	known := dockerImageNamed(r.push(t, "known", oneLayer(t, reg("f", "known"))))
	other := dockerImageNamed(r.push(t, "other", oneLayer(t, reg("f", "other"))))
	o := testOptions(t)
	p := newProvisioner(t, o)
	top, orphan := newID(), newID()
	nested := &mesos.ContainerID{Value: new("nested"), Parent: top}
	lost := &mesos.ContainerID{Value: new("lost"), Parent: top}
	// A parent without an image.
	bare := newID()
	inBare := &mesos.ContainerID{Value: new("nested"), Parent: bare}
	for id, image := range map[*mesos.ContainerID]*mesos.Image{top: known, nested: other, lost: other, orphan: other, inBare: known} {
		if _, err := p.Provision(testContext(t), id, image); err != nil {
			t.Fatal(err)
		}
	}
	// As a crash leaves them.
	write(t, filepath.Join(o.StoreDir, stagingDir, "pull-1", "0", "rootfs", "f"), []byte("half"))
	write(t, filepath.Join(o.StoreDir, gcDir, "layer-1", "layer", "f"), []byte("half"))
	write(t, filepath.Join(o.StoreDir, imagesDir, "torn.json"), nil)
	if err := os.Symlink("../layers/nowhere/rootfs", filepath.Join(o.StoreDir, linksDir, "zzzz")); err != nil {
		t.Fatal(err)
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	p = newRecovered(t, o, []*mesos.ContainerID{nested, inBare})
	if _, _, rest := stored(t, o.StoreDir); len(rest) != 0 {
		eventually(t, "the store is swept", func() bool { _, _, rest := stored(t, o.StoreDir); return len(rest) == 0 })
	}
	containers := filepath.Join(o.WorkDir, "provisioner", "containers")
	got := leftovers(t, containers)
	want := []string{top.GetValue(), bare.GetValue()}
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("containers: got %v, want %v", got, want)
	}
	if got := leftovers(t, filepath.Join(containers, top.GetValue(), "containers")); !slices.Equal(got, []string{"nested"}) {
		t.Errorf("nested containers: got %v", got)
	}
	if err := p.Prune(testContext(t), nil); err != nil {
		t.Fatal(err)
	}
	if l, n, _ := stored(t, o.StoreDir); len(l) != 2 || len(n) != 2 {
		t.Errorf("in use: got layers %v, names %v", l, n)
	}
	// Without the registry.
	r.interfere(func(w http.ResponseWriter, _ *http.Request) bool {
		w.WriteHeader(http.StatusInternalServerError)
		return true
	})
	if have := pulled(t, p, known); have["f"] == "" {
		t.Errorf("from the store: got %v", have)
	}
	for _, id := range []*mesos.ContainerID{nested, top, inBare} {
		if err := p.Destroy(testContext(t), id); err != nil {
			t.Fatal(err)
		}
	}
	if rest := leftovers(t, containers); len(rest) != 1 { // the one of pulled
		t.Errorf("left behind: %v", rest)
	}
}

func newRecovered(tb testing.TB, o Options, known []*mesos.ContainerID) *Provisioner {
	tb.Helper()
	p, err := New(testContext(tb), o, zerolog.Nop())
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := p.Close(); err != nil && !errors.Is(err, os.ErrClosed) {
			tb.Error(err)
		}
	})
	if err := p.Recover(testContext(tb), known); err != nil {
		tb.Fatal(err)
	}
	return p
}

// TestMachineCrash is about layers that were not on the disk yet.
func TestMachineCrash(t *testing.T) {
	needRoot(t)
	r := newRegistry(t)
	image := dockerImageNamed(r.push(t, "img", oneLayer(t, reg("f", "x"))))
	o := testOptions(t)
	p := newProvisioner(t, o)
	pulled(t, p, image)
	layers, _, _ := stored(t, o.StoreDir)
	mark := filepath.Join(o.StoreDir, layersDir, layers[0], unsyncedName)
	eventually(t, "the layer is on the disk", func() bool { _, err := os.Stat(mark); return err != nil })
	restart := func() int {
		if err := p.Close(); err != nil {
			t.Fatal(err)
		}
		p = newRecovered(t, o, nil)
		l, names, _ := stored(t, o.StoreDir)
		if len(l) != len(names) {
			t.Errorf("layers %v, names %v", l, names)
		}
		return len(l)
	}
	if n := restart(); n != 1 {
		t.Errorf("synced: got %d layers", n)
	}
	write(t, mark, []byte(p.store.boot))
	if n := restart(); n != 1 {
		t.Errorf("of this boot: got %d layers", n)
	}
	eventually(t, "the layer is on the disk", func() bool { _, err := os.Stat(mark); return err != nil })
	if err := os.Remove(filepath.Join(o.StoreDir, linksDir, leftovers(t, filepath.Join(o.StoreDir, linksDir))[0])); err != nil {
		t.Fatal(err)
	}
	if n := restart(); n != 0 {
		t.Errorf("without a short name: got %d layers", n)
	}
	pulled(t, p, image)
	eventually(t, "the layer is on the disk", func() bool { _, err := os.Stat(mark); return err != nil })
	for _, boot := range []string{"another boot", ""} {
		write(t, mark, []byte(boot))
		if n := restart(); n != 0 {
			t.Errorf("unsynced, of boot %q: got %d layers", boot, n)
		}
		pulled(t, p, image)
		eventually(t, "the layer is on the disk", func() bool { _, err := os.Stat(mark); return err != nil })
	}
}

func TestStoreInUse(t *testing.T) {
	o := testOptions(t)
	newProvisioner(t, o)
	ctx, cancel := contextWithCancel(t)
	cancel()
	if _, err := New(ctx, o, zerolog.Nop()); !errors.Is(err, ErrStoreInUse) {
		t.Errorf("got %v", err)
	}
}

// TestUntrusted refuses a store that others could change.
func TestUntrusted(t *testing.T) {
	needRoot(t)
	for name, change := range map[string]func(parent string) error{
		"parent of somebody":       func(p string) error { return os.Chown(p, 1000, 0) },
		"parent open to everybody": func(p string) error { return os.Chmod(p, 0o777) },
	} {
		o := testOptions(t)
		parent := filepath.Join(o.WorkDir, "parent")
		o.StoreDir = filepath.Join(parent, "store")
		if err := os.Mkdir(parent, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := change(parent); err != nil {
			t.Fatal(err)
		}
		if _, err := New(testContext(t), o, zerolog.Nop()); !errors.Is(err, ErrUntrusted) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	o := testOptions(t)
	o.StoreDir = filepath.Join(o.WorkDir, "a", "b")
	if err := os.MkdirAll(o.StoreDir, 0o777); err != nil {
		t.Fatal(err)
	}
	newProvisioner(t, o)
	if st, err := os.Stat(o.StoreDir); err != nil || st.Mode().Perm() != 0o700 {
		t.Errorf("store: got %v, %v", st.Mode(), err)
	}
}

// TestOptions is about what flags may say.
func TestOptions(t *testing.T) {
	file := filepath.Join(t.TempDir(), "config.json")
	write(t, file, []byte(`{"auths": {}}`))
	for _, c := range []struct {
		change func(*Options)
		fails  bool
	}{
		{func(o *Options) { o.Registry = "/some/where" }, false},
		{func(o *Options) { o.Registry = "https://r.example:5000" }, false},
		{func(o *Options) { o.Registry = "hdfs://x/y" }, true},
		{func(o *Options) { o.Registry = "r.example" }, true},
		{func(o *Options) { o.Config = file }, false},
		{func(o *Options) { o.Config = "file://" + file }, false},
		{func(o *Options) { o.Config = "/no/such/file" }, true},
		{func(o *Options) { o.Backend = "aufs" }, true},
		{func(o *Options) { o.StoreDir = "relative" }, true},
	} {
		o := Options{WorkDir: "/w", StoreDir: "/s"}
		c.change(&o)
		if err := o.complete(); c.fails != (err != nil) {
			t.Errorf("%+v: got %v", o, err)
		}
		if strings.HasSuffix(o.Config, "config.json") {
			t.Errorf("config: got %q", o.Config)
		}
	}
}

// TestCollect prunes by itself when the disk is too full.
func TestCollect(t *testing.T) {
	needRoot(t)
	r := newRegistry(t)
	o := testOptions(t)
	o.GC = &GCConfig{Headroom: 1, Interval: 5 * time.Millisecond}
	p := newProvisioner(t, o)
	id := newID()
	if _, err := p.Provision(testContext(t), id, dockerImageNamed(r.push(t, "img", oneLayer(t, reg("f", "x"))))); err != nil {
		t.Fatal(err)
	}
	if err := p.Destroy(testContext(t), id); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the store is empty", func() bool { return len(leftovers(t, filepath.Join(o.StoreDir, layersDir))) == 0 })
	if _, err := New(testContext(t), Options{WorkDir: "/w", StoreDir: "/s", GC: &GCConfig{Headroom: 2, Interval: 1}}, zerolog.Nop()); err == nil {
		t.Error("headroom of 2: got no error")
	}
}

// TestManyLayers has more of them than the options of one mount can name.
func TestManyLayers(t *testing.T) {
	needRoot(t)
	var layers []v1.Layer
	for i := range 140 {
		files := []file{dir("d"), reg(fmt.Sprintf("d/%d", i), fmt.Sprint(i)), reg("top", fmt.Sprint(i))}
		if i > 0 {
			files = append(files, reg(fmt.Sprintf("d/.wh.%d", i-1), ""))
		}
		layers = append(layers, layerOf(t, compression.None, files...))
	}
	o := testOptions(t)
	o.Registry = writeLayout(t, imageOfLayers(t, v1.Config{}, layers...))
	p := newProvisioner(t, o)
	got, err := p.Provision(testContext(t), newID(), dockerImageNamed("img"))
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Mounts) != 2 {
		t.Errorf("mounts: got %d, want 2: %d bytes of options", len(got.Mounts), len(got.Mounts[0].Data))
	}
	mounted(t, got, func(root string) error {
		have, err := tree(root)
		if len(have) != 3 || have["d/139"] == "" || !strings.Contains(have["top"], `"139"`) {
			t.Errorf("root: got %v", have)
		}
		return err
	})
	o = testOptions(t)
	o.Registry, o.Limits.Layers = p.o.Registry, 100
	if _, err := newProvisioner(t, o).Provision(testContext(t), newID(), dockerImageNamed("img")); !errors.Is(err, ErrTooLarge) {
		t.Errorf("with a limit: got %v", err)
	}
}

// TestSplit checks the arithmetic of stacked overlays for all numbers of layers.
func TestSplit(t *testing.T) {
	options, base := ",upperdir=/some/where/upper,workdir=/some/where/work", "/some/where/base"
	for n := 1; n < 400; n++ {
		var lower []string
		for i := range n {
			lower = append(lower, fmt.Sprintf("/var/lib/clusterd/store/l/%05d", i))
		}
		at := split(lower, options, base)
		mounts, err := stack(lower, options, base)
		switch {
		case at == 0:
			if err != nil || mounts != nil || len(lowerdir(lower))+len(options) > maxMountData {
				t.Errorf("%d layers: got %v, %v", n, mounts, err)
			}
		case err != nil:
			if n < 200 {
				t.Errorf("%d layers: %v", n, err)
			}
		default:
			top := lowerdir(append([]string{base}, lower[at:]...)) + options
			if len(top) > maxMountData || len(mounts[0].Data) > maxMountData || at < 2 || at > n {
				t.Errorf("%d layers, split at %d: %d and %d bytes", n, at, len(top), len(mounts[0].Data))
			}
		}
	}
}

// TestBind shows one layer, and refuses two.
func TestBind(t *testing.T) {
	needRoot(t)
	o := testOptions(t)
	o.Backend = BackendBind
	l := layerOf(t, compression.GZip, reg("f", "x"), reg(".wh.gone", ""))
	o.Registry = writeLayout(t, imageOfLayers(t, v1.Config{}, l))
	got, err := newProvisioner(t, o).Provision(testContext(t), newID(), dockerImageNamed("img"))
	if err != nil {
		t.Fatal(err)
	}
	mounted(t, got, func(root string) error {
		if err := os.WriteFile(filepath.Join(root, "w"), nil, 0o600); !errors.Is(err, unix.EROFS) {
			t.Errorf("write: got %v", err)
		}
		have, err := tree(root)
		if len(have) != 1 {
			t.Errorf("root: got %v", have)
		}
		return err
	})
	o = testOptions(t)
	o.Backend = BackendBind
	o.Registry = writeLayout(t, imageOfLayers(t, v1.Config{}, l, layerOf(t, compression.GZip, reg("g", ""))))
	if _, err := newProvisioner(t, o).Provision(testContext(t), newID(), dockerImageNamed("img")); !errors.Is(err, ErrUnsupported) {
		t.Errorf("two layers: got %v", err)
	}
}

// TestImmutable removes a root in which a container has made a file immutable.
func TestImmutable(t *testing.T) {
	needRoot(t)
	dir := filepath.Join(t.TempDir(), "d")
	write(t, filepath.Join(dir, "sub", "f"), nil)
	for _, n := range []string{"sub/f", "sub"} {
		f, err := os.Open(filepath.Join(dir, n))
		if err != nil {
			t.Fatal(err)
		}
		if err := unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, unix.STATX_ATTR_IMMUTABLE); err != nil {
			t.Skip("no immutable files here: ", err)
		}
		_ = f.Close()
	}
	if os.RemoveAll(dir) == nil {
		t.Fatal("not immutable")
	}
	if err := removeAll(dir); err != nil {
		t.Error(err)
	}
}

// TestDestroyed provisions for a container that goes meanwhile.
func TestDestroyed(t *testing.T) {
	needRoot(t)
	o := testOptions(t)
	o.Registry = writeLayout(t, oneLayer(t, reg("f", "x")))
	p := newProvisioner(t, o)
	if err := p.Destroy(testContext(t), newID()); err != nil {
		t.Errorf("unknown: got %v", err)
	}
	for range 20 {
		id := newID()
		done := make(chan error, 1)
		go func() {
			_, err := p.Provision(testContext(t), id, dockerImageNamed("img"))
			done <- err
		}()
		if err := p.Destroy(testContext(t), id); err != nil {
			t.Fatal(err)
		}
		if err := <-done; err != nil && !errors.Is(err, isolation.ErrDestroyed) {
			t.Fatal(err)
		}
		if err := p.Destroy(testContext(t), id); err != nil {
			t.Fatal(err)
		}
	}
	if rest := leftovers(t, filepath.Join(o.WorkDir, "provisioner", "containers")); len(rest) != 0 {
		t.Errorf("left behind: %v", rest)
	}
	p.store.mu.Lock()
	defer p.store.mu.Unlock()
	if len(p.store.pins) != 0 {
		t.Errorf("pins: %v", p.store.pins)
	}
}
