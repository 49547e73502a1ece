package images

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/compression"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sys/unix"
)

func unpackInto(tb testing.TB, root string, l Limits, files ...file) error {
	tb.Helper()
	needRoot(tb)
	if l.ImageBytes == 0 {
		l.ImageBytes = 1 << 30
	}
	if l.ImageEntries == 0 {
		l.ImageEntries = 1 << 20
	}
	_, err := unpack(bytes.NewReader(archiveOf(tb, files...)), root, newBudget(l))
	return err
}

// TestEvilLayers are layers that want to touch what is outside.
func TestEvilLayers(t *testing.T) {
	needRoot(t)
	whiteout := func(name string) file { return reg(name, "") }
	for _, c := range []struct {
		name  string
		files []file
		// fails says that the layer is refused; else it stays inside.
		fails bool
	}{
		{"name upwards", []file{reg("../victim/evil", "x")}, true},
		{"name upwards inside", []file{dir("a"), reg("a/../../victim/evil", "x")}, true},
		{"name with a dot dot that stays inside", []file{reg("a/../b", "x")}, true},
		{"absolute name", []file{reg("/victim/evil", "x")}, false},
		{"directory through a link", []file{link(tar.TypeSymlink, "a", "../victim"), reg("a/evil", "x")}, true},
		{"directory through an absolute link", []file{link(tar.TypeSymlink, "a", "VICTIM"), reg("a/evil", "x")}, true},
		{"link over a link", []file{link(tar.TypeSymlink, "a", "VICTIM/secret"), reg("a", "x")}, false},
		{"directory over a link", []file{link(tar.TypeSymlink, "a", "VICTIM"), dir("a"), reg("a/evil", "x")}, false},
		{"link over a directory", []file{dir("a"), reg("a/b", ""), link(tar.TypeSymlink, "a", "VICTIM"), reg("a/evil", "x")}, true},
		{"chain of links", []file{dir("d"), link(tar.TypeSymlink, "d/a", ".."), link(tar.TypeSymlink, "b", "d/a/../.."), reg("b/victim/evil", "x")}, false},
		{"hard link upwards", []file{link(tar.TypeLink, "a", "../victim/secret")}, true},
		{"hard link absolute", []file{link(tar.TypeLink, "a", "VICTIM/secret")}, true},
		{"hard link through a link", []file{link(tar.TypeSymlink, "l", "VICTIM"), link(tar.TypeLink, "a", "l/secret")}, true},
		{"hard link to a link, written to", []file{link(tar.TypeSymlink, "l", "VICTIM/secret"), link(tar.TypeLink, "a", "l"), reg("a", "x")}, false},
		{"whiteout upwards", []file{whiteout("../victim/.wh.secret")}, true},
		{"whiteout of the parent", []file{whiteout(".wh...")}, true},
		{"whiteout of itself", []file{whiteout(".wh..")}, true},
		{"whiteout of nothing", []file{whiteout(".wh.")}, true},
		{"whiteout through a link", []file{link(tar.TypeSymlink, "l", "VICTIM"), whiteout("l/.wh.secret")}, true},
		{"opaque through a link", []file{link(tar.TypeSymlink, "l", "VICTIM"), whiteout("l/.wh..wh..opq")}, true},
		{"times through a link", []file{dir("a"), link(tar.TypeSymlink, "a", "VICTIM")}, false},
		{"whiteout device", []file{{tar.Header{Typeflag: tar.TypeChar, Name: "w", Mode: 0o600}, ""}}, false},
		{"attribute of overlayfs", []file{{tar.Header{Typeflag: tar.TypeDir, Name: "o/", Mode: 0o755, PAXRecords: map[string]string{
			"SCHILY.xattr.trusted.overlay.opaque": "y", "SCHILY.xattr.trusted.overlay.redirect": "/../victim", "SCHILY.xattr.user.overlay.opaque": "y",
		}}, ""}}, false},
		{"unknown type", []file{{tar.Header{Typeflag: 'Z', Name: "z"}, ""}}, true},
		{"dangling parent", []file{link(tar.TypeSymlink, "l", "nowhere"), reg("l/x", "")}, true},
		{"a file for a parent", []file{reg("f", ""), reg("f/x", "")}, true},
		{"loop of links", []file{link(tar.TypeSymlink, "l", "l"), reg("l/x", "")}, true},
		{"process's own directory", []file{link(tar.TypeSymlink, "l", "/proc/self/root"), reg("l/x", "")}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			base := t.TempDir()
			victim, root := filepath.Join(base, "victim"), filepath.Join(base, "root")
			for _, d := range []string{victim, root} {
				if err := os.Mkdir(d, 0o755); err != nil {
					t.Fatal(err)
				}
			}
			if err := os.WriteFile(filepath.Join(victim, "secret"), []byte("s"), 0o600); err != nil {
				t.Fatal(err)
			}
			before, err := tree(victim)
			if err != nil {
				t.Fatal(err)
			}
			stat := func() unix.Stat_t {
				var st unix.Stat_t
				if err := unix.Stat(victim, &st); err != nil {
					t.Fatal(err)
				}
				return st
			}
			was := stat()
			files := slices.Clone(c.files)
			for i := range files {
				files[i].Linkname = strings.Replace(files[i].Linkname, "VICTIM", victim, 1)
			}
			err = unpackInto(t, root, Limits{}, files...)
			if c.fails != (err != nil) {
				t.Errorf("got %v", err)
			}
			after, err := tree(victim)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(before, after); d != "" {
				t.Errorf("outside: %s", d)
			}
			if now := stat(); now.Mtim != was.Mtim || now.Mode != was.Mode || now.Uid != was.Uid {
				t.Errorf("directory outside: got %+v, was %+v", now, was)
			}
			var st unix.Stat_t
			for _, attribute := range []string{"trusted.overlay.opaque", "trusted.overlay.redirect", "user.overlay.opaque"} {
				if _, err := unix.Getxattr(filepath.Join(root, "o"), attribute, make([]byte, 99)); err == nil {
					t.Errorf("attribute %s was set", attribute)
				}
			}
			if unix.Lstat(filepath.Join(root, "w"), &st) == nil {
				t.Error("a whiteout that is none was made")
			}
			if rest := leftovers(t, base); len(rest) != 2 {
				t.Errorf("beside: %v", rest)
			}
		})
	}
}

func TestLimits(t *testing.T) {
	needRoot(t)
	big := reg("big", strings.Repeat("\x00", 4<<20))
	for _, c := range []struct {
		name   string
		limits Limits
		files  []file
	}{
		{"bytes", Limits{ImageBytes: 1 << 20}, []file{big}},
		{"files", Limits{ImageEntries: 2}, []file{reg("1", ""), reg("2", ""), reg("3", "")}},
		{"disk", Limits{ReserveBytes: 1 << 62}, []file{reg("big", noise(spaceInterval))}},
	} {
		if err := unpackInto(t, t.TempDir(), c.limits, c.files...); !errors.Is(err, ErrTooLarge) {
			t.Errorf("%s: got %v", c.name, err)
		}
	}
	// A bomb: little to download, much to unpack. It may also hide behind the end of
	// the archive.
	bomb := layerOfBytes(t, compression.GZip, append(archiveOf(t, reg("f", "")), make([]byte, 16<<20)...))
	r := newRegistry(t)
	for name, l := range map[string]v1.Layer{"bomb": layerOf(t, compression.GZip, reg("f", strings.Repeat("\x00", 16<<20))), "tail": bomb, "zstd": layerOf(t, compression.ZStd, reg("f", strings.Repeat("\x00", 16<<20)))} {
		image := r.push(t, name, imageOfLayers(t, v1.Config{}, l))
		o := testOptions(t)
		o.Limits.ImageBytes = 4 << 20
		p := newProvisioner(t, o)
		if _, err := p.Provision(testContext(t), newID(), dockerImageNamed(image)); !errors.Is(err, ErrTooLarge) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

// TestSparse keeps holes.
func TestSparse(t *testing.T) {
	root := t.TempDir()
	content := strings.Repeat("\x00", 8<<20) + "end" + strings.Repeat("\x00", 8<<20)
	if err := unpackInto(t, root, Limits{}, reg("f", content)); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(root, "f"))
	if err != nil || string(b) != content {
		t.Errorf("content: got %d bytes, %v", len(b), err)
	}
	var st unix.Stat_t
	if err := unix.Stat(filepath.Join(root, "f"), &st); err != nil || st.Blocks*512 > 1<<20 {
		t.Errorf("the file takes %d bytes, %v", st.Blocks*512, err)
	}
	to := t.TempDir()
	if err := copyLayer(root, to); err != nil {
		t.Fatal(err)
	}
	b, err = os.ReadFile(filepath.Join(to, "f"))
	if err != nil || string(b) != content {
		t.Errorf("copied: got %d bytes, %v", len(b), err)
	}
	if err := unix.Stat(filepath.Join(to, "f"), &st); err != nil || st.Blocks*512 > 1<<20 {
		t.Errorf("the copy takes %d bytes, %v", st.Blocks*512, err)
	}
}

// node is a file in the plain model of what layers mean.
type node struct {
	kind byte
	mode int64
	uid  int
	text string // content, or where a link leads
}

// apply is what the OCI image specification says of a layer: first what is removed
// below, then what is added.
func apply(state map[string]node, files []file) map[string]node {
	below := func(dir string) {
		for p := range state {
			if strings.HasPrefix(p, dir+"/") || dir == "" {
				delete(state, p)
			}
		}
	}
	for _, f := range files {
		dir, base := path.Split(strings.TrimSuffix(f.Name, "/"))
		dir = strings.TrimSuffix(dir, "/")
		switch {
		case base == opaqueWhiteout:
			below(dir)
		case strings.HasPrefix(base, whiteoutPrefix):
			gone := path.Join(dir, strings.TrimPrefix(base, whiteoutPrefix))
			delete(state, gone)
			below(gone)
		}
	}
	var imply func(dir string)
	imply = func(dir string) {
		if dir == "" || state[dir].kind == tar.TypeDir {
			return
		}
		imply(strings.TrimSuffix(first(path.Split(dir)), "/"))
		state[dir] = node{kind: tar.TypeDir, mode: 0o755}
	}
	own := make(map[string]bool) // what hard links of this layer may lead to
	for _, f := range files {
		name := strings.TrimSuffix(f.Name, "/")
		dir, base := path.Split(name)
		imply(strings.TrimSuffix(dir, "/"))
		if strings.HasPrefix(base, whiteoutPrefix) {
			continue
		}
		if f.Typeflag != tar.TypeDir || state[name].kind != tar.TypeDir {
			delete(state, name)
			below(name)
		}
		n := node{kind: f.Typeflag, mode: f.Mode, uid: f.Uid, text: f.content + f.Linkname}
		if f.Typeflag == tar.TypeLink && own[f.Linkname] {
			n = state[f.Linkname]
		}
		own[name] = true
		state[name] = n
	}
	return state
}

func first(a, _ string) string { return a }

// randomLayer makes a layer that may use everything, over few names, so that layers
// meet each other.
func randomLayer(r *rand.Rand) []file {
	names := []string{"a", "b", "a/a", "a/b", "b/a", "a/a/a", "a/a/b", "a/b/a", "b/a/b"}
	chosen := make(map[string]file)
	var order []string
	add := func(f file) {
		name := strings.TrimSuffix(f.Name, "/")
		for up := path.Dir(name); up != "."; up = path.Dir(up) {
			if p, ok := chosen[up]; ok && p.Typeflag != tar.TypeDir {
				return // a parent that is no directory
			}
		}
		for p := range chosen {
			if f.Typeflag != tar.TypeDir && strings.HasPrefix(p, name+"/") {
				return
			}
		}
		if _, ok := chosen[name]; ok {
			return
		}
		chosen[name] = f
		order = append(order, name)
	}
	for range 1 + r.IntN(8) {
		name := names[r.IntN(len(names))]
		parent, base := path.Split(name)
		var f file
		switch r.IntN(9) {
		case 0, 1, 2:
			f = reg(name, fmt.Sprint("content ", r.IntN(100)))
		case 3, 4:
			f = dir(name)
			f.Mode = []int64{0o755, 0o700, 0o1777}[r.IntN(3)]
		case 5:
			f = link(tar.TypeSymlink, name, []string{"a", "../b", "/a/b", "nowhere"}[r.IntN(4)])
		case 6:
			f = reg(parent+whiteoutPrefix+base, "")
		case 7:
			f = reg(parent+opaqueWhiteout, "")
		case 8:
			for _, o := range order {
				if chosen[o].Typeflag == tar.TypeReg && !strings.HasPrefix(path.Base(o), whiteoutPrefix) {
					f = link(tar.TypeLink, name, o)
				}
			}
			if f.Name == "" {
				continue
			}
			add(f)
			continue
		}
		f.Uid = r.IntN(2) * 1000
		add(f)
	}
	var files []file
	for _, o := range order {
		files = append(files, chosen[o])
	}
	// Whiteouts may stand anywhere; links after what they lead to.
	if r.IntN(2) == 0 {
		slices.SortStableFunc(files, func(a, b file) int { return boolInt(isWh(a)) - boolInt(isWh(b)) })
	}
	return files
}

func isWh(f file) bool { return strings.HasPrefix(path.Base(f.Name), whiteoutPrefix) }

func boolInt(b bool) int {
	if b {
		return 1
	}
	return 0
}

// TestLayersMeanTheSame compares overlay and copy with the plain model, on layers made
// at random.
func TestLayersMeanTheSame(t *testing.T) {
	needRoot(t)
	seed := rand.Uint64()
	rounds := 25
	if testing.Short() {
		rounds = 10
	}
	for round := range rounds {
		r := rand.New(rand.NewPCG(seed, uint64(round)))
		var layers [][]file
		for range 1 + r.IntN(4) {
			layers = append(layers, randomLayer(r))
		}
		t.Run(fmt.Sprintf("%d-%d", seed, round), func(t *testing.T) { compareLayers(t, layers) })
		if t.Failed() {
			return
		}
	}
}

func compareLayers(t *testing.T, layers [][]file) {
	state := make(map[string]node)
	var made []v1.Layer
	for _, l := range layers {
		state = apply(state, l)
		made = append(made, layerOf(t, compression.None, l...))
	}
	want := make(map[string]string)
	kinds := map[byte]int64{tar.TypeReg: unix.S_IFREG, tar.TypeDir: unix.S_IFDIR, tar.TypeSymlink: unix.S_IFLNK}
	for p, n := range state {
		want[p] = fmt.Sprintf("%o %d:0", kinds[n.kind]|n.mode, n.uid)
		switch n.kind {
		case tar.TypeReg:
			want[p] += fmt.Sprintf(" %q", n.text)
		case tar.TypeSymlink:
			want[p] += " -> " + n.text
		}
	}
	img := imageOfLayers(t, v1.Config{}, made...)
	o := testOptions(t)
	o.StoreDir = filepath.Join(o.WorkDir, "s")
	o.Registry = writeLayout(t, img)
	for _, backend := range []string{BackendOverlay, BackendCopy} {
		o.Backend = backend
		p := newProvisioner(t, o)
		have := pulled(t, p, dockerImageNamed("img"))
		for path, text := range have { // links and times are compared elsewhere
			text, _, _ = strings.Cut(text, " @")
			have[path] = text
		}
		if d := cmp.Diff(want, have); d != "" {
			var b strings.Builder
			for i, l := range layers {
				for _, f := range l {
					fmt.Fprintf(&b, "layer %d: %c %s -> %s %o\n", i, f.Typeflag, f.Name, f.Linkname, f.Mode)
				}
			}
			t.Errorf("%s:\n%s\n%s\n%v", backend, b.String(), d, slices.Sorted(maps.Keys(have)))
		}
		if err := p.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
