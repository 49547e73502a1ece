package images

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/compression"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/rs/zerolog"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	mesos "clusterd/api/mesos/v1"
	"clusterd/isolation"
	"clusterd/isolation/isolationtest"
)

const patience = 60 * time.Second

func TestMain(m *testing.M) {
	if dir := os.Getenv(crashVariable); dir != "" {
		crashMain(dir)
		return
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		isolationtest.RemovePrograms()
		os.Exit(code)
	}))
}

func needRoot(tb testing.TB) {
	tb.Helper()
	if os.Geteuid() != 0 {
		tb.Skip("images need root")
	}
}

func testContext(tb testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(tb.Context(), patience)
	tb.Cleanup(cancel)
	return ctx
}

func eventually(tb testing.TB, what string, done func() bool) {
	tb.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(2 * time.Millisecond) {
		if done() {
			return
		}
	}
	tb.Fatalf("still not so: %s", what)
}

// file is an entry of a layer in a test.
type file struct {
	tar.Header
	content string
}

var someTime = time.Unix(1_600_000_000, 0)

func reg(name, content string) file {
	return file{tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: int64(len(content)), ModTime: someTime}, content}
}

func dir(name string) file {
	return file{tar.Header{Typeflag: tar.TypeDir, Name: name + "/", Mode: 0o755, ModTime: someTime}, ""}
}

func link(kind byte, name, target string) file {
	return file{tar.Header{Typeflag: kind, Name: name, Linkname: target, Mode: 0o777, ModTime: someTime}, ""}
}

func archiveOf(tb testing.TB, files ...file) []byte {
	tb.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range files {
		h := f.Header
		h.Size = int64(len(f.content))
		if err := w.WriteHeader(&h); err != nil {
			tb.Fatalf("%s: %v", f.Name, err)
		}
		if _, err := io.WriteString(w, f.content); err != nil {
			tb.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		tb.Fatal(err)
	}
	return b.Bytes()
}

func layerOf(tb testing.TB, c compression.Compression, files ...file) v1.Layer {
	tb.Helper()
	return layerOfBytes(tb, c, archiveOf(tb, files...))
}

func layerOfBytes(tb testing.TB, c compression.Compression, b []byte) v1.Layer {
	tb.Helper()
	l, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b)), nil },
		tarball.WithCompression(c), tarball.WithCompressedCaching)
	if err != nil {
		tb.Fatal(err)
	}
	return l
}

func imageOfLayers(tb testing.TB, config v1.Config, layers ...v1.Layer) v1.Image {
	tb.Helper()
	img, err := mutate.AppendLayers(empty.Image, layers...)
	if err != nil {
		tb.Fatal(err)
	}
	c, err := img.ConfigFile()
	if err != nil {
		tb.Fatal(err)
	}
	c = c.DeepCopy()
	c.OS, c.Architecture, c.Config = "linux", runtime.GOARCH, config
	if img, err = mutate.ConfigFile(img, c); err != nil {
		tb.Fatal(err)
	}
	return img
}

// fakeRegistry is a registry on loopback, in whose way a test can stand.
type fakeRegistry struct {
	host string
	mu   sync.Mutex
	// before may answer a request in the registry's place; guarded by mu.
	before func(w http.ResponseWriter, r *http.Request) bool
	// requests are all that were made; guarded by mu.
	requests []string
}

func newRegistry(tb testing.TB) *fakeRegistry {
	tb.Helper()
	f := &fakeRegistry{}
	real := registry.New(registry.Logger(slog.NewLogLogger(slog.DiscardHandler, slog.LevelInfo)))
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f.mu.Lock()
		f.requests = append(f.requests, r.Method+" "+r.URL.Path)
		before := f.before
		f.mu.Unlock()
		if before == nil || !before(w, r) {
			real.ServeHTTP(w, r)
		}
	}))
	tb.Cleanup(server.Close)
	f.host = strings.TrimPrefix(server.URL, "http://")
	return f
}

func (f *fakeRegistry) interfere(before func(w http.ResponseWriter, r *http.Request) bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.before, f.requests = before, nil
}

func (f *fakeRegistry) count(part string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := 0
	for _, r := range f.requests {
		if strings.Contains(r, part) {
			n++
		}
	}
	return n
}

// push puts an image into the registry and returns its name.
func (f *fakeRegistry) push(tb testing.TB, repo string, img remote.Taggable) string {
	tb.Helper()
	n := f.host + "/" + repo
	ref, err := name.ParseReference(n)
	if err != nil {
		tb.Fatal(err)
	}
	switch img := img.(type) {
	case v1.Image:
		err = remote.Write(ref, img)
	case v1.ImageIndex:
		err = remote.WriteIndex(ref, img)
	}
	if err != nil {
		tb.Fatal(err)
	}
	return n
}

func testOptions(tb testing.TB) Options {
	work := tb.TempDir()
	return Options{
		WorkDir: work, StoreDir: filepath.Join(work, "store"), StallTimeout: 20 * time.Second, Backoff: time.Millisecond,
		Limits: Limits{ReserveBytes: 1},
	}
}

func newProvisioner(tb testing.TB, o Options) *Provisioner {
	tb.Helper()
	needRoot(tb)
	p, err := New(testContext(tb), o, zerolog.Nop())
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := p.Close(); err != nil && !errors.Is(err, os.ErrClosed) {
			tb.Error(err)
		}
	})
	if err := p.Recover(testContext(tb), nil); err != nil {
		tb.Fatal(err)
	}
	return p
}

func dockerImageNamed(name string) *mesos.Image {
	return &mesos.Image{Type: mesos.Image_DOCKER.Enum(), Docker: &mesos.Image_Docker{Name: &name}}
}

func newID() *mesos.ContainerID { return &mesos.ContainerID{Value: new("c-" + rand.Text()[:12])} }

// onThread runs f on a thread of its own, which ends with it, in a mount namespace
// of its own, which ends as well.
func onThread(f func() error) error {
	result := make(chan error)
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() { // the first thread does not end
			result <- onThread(f)
			runtime.UnlockOSThread()
			return
		}
		err := unix.Unshare(unix.CLONE_NEWNS | unix.CLONE_FS)
		if err == nil {
			err = unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "")
		}
		if err == nil {
			err = f()
		}
		result <- err
	}()
	return <-result
}

// mounted shows f a root as its container would see it.
func mounted(tb testing.TB, p *isolation.Provisioned, f func(root string) error) {
	tb.Helper()
	if err := onThread(func() error {
		for _, m := range p.Mounts {
			propagation := uintptr(0)
			if err := unix.Mount(m.Source, m.Target, m.Type, uintptr(m.Flags)|propagation, m.Data); err != nil {
				return fmt.Errorf("mount %+v: %w", m, err)
			}
			if m.Flags&unix.MS_BIND != 0 {
				if err := unix.Mount("", m.Target, "", uintptr(m.Flags)|unix.MS_REMOUNT, ""); err != nil {
					return fmt.Errorf("mount again %+v: %w", m, err)
				}
			}
		}
		return f(p.RootFS)
	}); err != nil {
		tb.Fatal(err)
	}
}

// tree describes all that is in a directory, by path.
func tree(root string) (map[string]string, error) {
	t := make(map[string]string)
	inodes := make(map[uint64]string)
	err := filepath.WalkDir(root, func(p string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(root, p)
		if err != nil || name == "." {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(p, &st); err != nil {
			return err
		}
		text := fmt.Sprintf("%o %d:%d", st.Mode, st.Uid, st.Gid)
		switch st.Mode & unix.S_IFMT {
		case unix.S_IFREG:
			b, err := os.ReadFile(p)
			if err != nil {
				return err
			}
			text += fmt.Sprintf(" %q @%d", b, st.Mtim.Sec)
			if st.Nlink > 1 {
				if first, ok := inodes[st.Ino]; ok {
					text += " = " + first
				} else {
					inodes[st.Ino] = name
				}
			}
		case unix.S_IFLNK:
			target, err := os.Readlink(p)
			if err != nil {
				return err
			}
			text += " -> " + target
		case unix.S_IFCHR, unix.S_IFBLK:
			text += fmt.Sprintf(" %d,%d", unix.Major(st.Rdev), unix.Minor(st.Rdev))
		}
		if st.Mode&unix.S_IFMT != unix.S_IFLNK {
			names, err := listXattrs(p)
			if err != nil {
				return err
			}
			slices.Sort(names)
			for _, n := range names {
				v := make([]byte, 1024)
				n2, err := unix.Lgetxattr(p, n, v)
				if err != nil {
					return err
				}
				text += fmt.Sprintf(" %s=%q", n, v[:n2])
			}
		}
		t[name] = text
		return nil
	})
	return t, err
}

// leftovers are what tests look for in the end.
func leftovers(tb testing.TB, dir string) []string {
	tb.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		tb.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func contextWithCancel(tb testing.TB) (context.Context, context.CancelFunc) {
	return context.WithCancel(tb.Context())
}
