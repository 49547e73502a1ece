package images

import (
	"archive/tar"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/compression"
	v1 "github.com/google/go-containerregistry/pkg/v1"

	mesos "clusterd/api/mesos/v1"
	"clusterd/isolation"
)

// threeLayers is an image that uses most of what layers can say.
func threeLayers(t testing.TB) v1.Image {
	tmp := dir("tmp")
	tmp.Mode = 0o1777
	su := reg("bin/su", "#!suid")
	su.Mode = 0o4755
	ping := reg("bin/ping", "ping")
	ping.PAXRecords = map[string]string{
		"SCHILY.xattr.security.capability":    "\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00",
		"SCHILY.xattr.user.mime":              "text/plain",
		"SCHILY.xattr.trusted.overlay.opaque": "y",
	}
	owned := reg("home/u/file", "mine")
	owned.Uid, owned.Gid = 1000, 1001
	null := file{tar.Header{Typeflag: tar.TypeChar, Name: "dev/null", Mode: 0o666, Devmajor: 1, Devminor: 3, ModTime: someTime}, ""}
	fifo := file{tar.Header{Typeflag: tar.TypeFifo, Name: "run/fifo", Mode: 0o600, ModTime: someTime}, ""}
	return imageOfLayers(
		t, v1.Config{
			Env: []string{"PATH=/bin", "A=1"}, Entrypoint: []string{"/bin/su"}, Cmd: []string{"-c", "x"}, WorkingDir: "/home/u",
			User: "u:staff", Labels: map[string]string{"l": "v"},
		},
		layerOf(t, compression.GZip,
			tmp, dir("bin"), su, ping, dir("home"), dir("home/u"), owned, dir("dev"), null, dir("run"), fifo,
			dir("etc"), reg("etc/passwd", "root:x:0:0:root:/root:/bin/sh\nu:x:1000:1001::/home/u:/bin/sh\n"),
			reg("etc/group", "root:x:0:\nusers:x:1001:\nstaff:x:50:u\n"),
			reg("etc/gone", "gone"), dir("opt"), reg("opt/old", "old"), link(tar.TypeSymlink, "lib", "usr/lib"),
			link(tar.TypeLink, "bin/sudo", "bin/su")),
		layerOf(t, compression.ZStd, reg("etc/.wh.gone", ""), dir("opt"), reg("opt/.wh..wh..opq", ""), reg("opt/new", "new")),
		// Without entries of directories, as some builders make layers.
		layerOf(t, compression.None, reg("tmp/file", "t"), reg("usr/lib/x/y", "y")),
	)
}

var threeLayersTree = map[string]string{
	"tmp": "41777 0:0", "tmp/file": `100644 0:0 "t" @1600000000`,
	"bin": "40755 0:0", "bin/su": `104755 0:0 "#!suid" @1600000000`, "bin/sudo": `104755 0:0 "#!suid" @1600000000 = bin/su`,
	"bin/ping": `100644 0:0 "ping" @1600000000 security.capability="\x01\x00\x00\x02\x00 \x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00" user.mime="text/plain"`,
	"home":     "40755 0:0", "home/u": "40755 0:0", "home/u/file": `100644 1000:1001 "mine" @1600000000`,
	"dev": "40755 0:0", "dev/null": "20666 0:0 1,3", "run": "40755 0:0", "run/fifo": "10600 0:0",
	"etc": "40755 0:0", "etc/passwd": `100644 0:0 "root:x:0:0:root:/root:/bin/sh\nu:x:1000:1001::/home/u:/bin/sh\n" @1600000000`,
	"etc/group": `100644 0:0 "root:x:0:\nusers:x:1001:\nstaff:x:50:u\n" @1600000000`,
	"opt":       "40755 0:0", "opt/new": `100644 0:0 "new" @1600000000`,
	"lib": "120777 0:0 -> usr/lib", "usr": "40755 0:0", "usr/lib": "40755 0:0", "usr/lib/x": "40755 0:0", "usr/lib/x/y": `100644 0:0 "y" @1600000000`,
}

func TestProvision(t *testing.T) {
	needRoot(t)
	r := newRegistry(t)
	name := r.push(t, "some/image:v1", threeLayers(t))
	for _, backend := range []string{BackendOverlay, BackendCopy} {
		t.Run(backend, func(t *testing.T) {
			o := testOptions(t)
			o.Backend = backend
			p := newProvisioner(t, o)
			if p.Backend() != backend {
				t.Fatalf("backend: got %s", p.Backend())
			}
			id := newID()
			got, err := p.Provision(testContext(t), id, dockerImageNamed(name))
			if err != nil {
				t.Fatal(err)
			}
			want := isolation.ImageConfig{
				Env: []string{"PATH=/bin", "A=1"}, Entrypoint: []string{"/bin/su"}, Cmd: []string{"-c", "x"}, WorkingDir: "/home/u",
				User: "u:staff", Labels: map[string]string{"l": "v"}, Credentials: &isolation.Credentials{UID: 1000, GID: 50},
			}
			if d := cmp.Diff(want, got.Config); d != "" {
				t.Errorf("config: %s", d)
			}
			mounted(t, got, func(root string) error {
				have, err := tree(root)
				if d := cmp.Diff(threeLayersTree, have); d != "" {
					t.Errorf("root: %s", d)
				}
				if err == nil {
					err = os.WriteFile(filepath.Join(root, "written"), nil, 0o600)
				}
				return err
			})
			if len(got.Volumes) == 0 {
				t.Error("no volumes hold what is written")
			}
			if _, err := os.Stat(filepath.Join(got.Volumes[0], "written")); err != nil {
				t.Errorf("what was written is not in %s: %v", got.Volumes[0], err)
			}
			for range 2 {
				if err := p.Destroy(testContext(t), id); err != nil {
					t.Fatal(err)
				}
			}
			if rest := leftovers(t, filepath.Join(o.WorkDir, "provisioner", "containers")); len(rest) != 0 {
				t.Errorf("left behind: %v", rest)
			}
			if rest := leftovers(t, filepath.Join(o.StoreDir, stagingDir)); len(rest) != 0 {
				t.Errorf("left in staging: %v", rest)
			}
		})
	}
}

func TestRefusedImages(t *testing.T) {
	p := newProvisioner(t, testOptions(t))
	appc := &mesos.Image{Type: mesos.Image_APPC.Enum(), Appc: &mesos.Image_Appc{Name: new("x")}}
	if _, err := p.Provision(testContext(t), newID(), appc); !errors.Is(err, ErrUnsupported) {
		t.Errorf("appc: got %v", err)
	}
	for _, name := range []string{"", "/", "a//b", "../x", "a/../../x", "a:", "a@sha256:0", "a b", "a:b c", "-:-", "a@sha512:00"} {
		if _, err := p.Provision(testContext(t), newID(), dockerImageNamed(name)); !errors.Is(err, ErrInvalidName) {
			t.Errorf("%q: got %v", name, err)
		}
	}
}
