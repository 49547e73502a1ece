package images

import (
	"context"
	"crypto/sha256"
	"encoding/base32"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"

	mesos "clusterd/api/mesos/v1"
	"clusterd/isolation"
)

// The store's folders.
//
//	layers/<name>/rootfs   a layer, unpacked for overlayfs
//	layers/<name>/link     its short name
//	layers/<name>/unsynced the boot in which it was written, until it is on the disk
//	l/<short>              links to the rootfs: the options of a mount are one page
//	images/<hash>.json     what a name stands for
//	staging/, gc/          what comes, what goes
//
// A layer's name is the digest of its content; or "chain-" and a digest of it and of
// all below it, when it depends on those: when it hides something there, or has
// directories without entries of their own, which take owner and mode from below.
const (
	layersDir  = "layers"
	linksDir   = "l"
	imagesDir  = "images"
	stagingDir = "staging"
	gcDir      = "gc"

	rootfsName   = "rootfs"
	linkName     = "link"
	unsyncedName = "unsynced"
)

// Store keeps images and their layers.
type Store struct {
	o         Options
	log       zerolog.Logger
	transport http.RoundTripper
	boot      string
	lock      *os.File
	// slots bound the downloads at one time.
	slots chan struct{}
	wg    sync.WaitGroup

	mu sync.Mutex
	// images are by reference.key(), pulls by that and whom they are pulled for,
	// unpacking by the digest of a layer
	// and all below it; pins count who needs a layer (by name) or
	// an image (by the digest of its configuration). All guarded by mu.
	images    map[string]*Record
	pulls     map[string]*pull
	unpacking map[string]chan struct{}
	pins      map[string]int
	closed    bool
}

// Record is what the store knows of an image.
type Record struct {
	// Name is the image's, Digest that of its configuration.
	Name, Digest string
	// Layers are the names of its layers, the uppermost last; each is there once.
	Layers []string
	Config isolation.ImageConfig
	Pulled time.Time
}

// lockPatience is how long a store waits for the last of an earlier agent.
const lockPatience = 5 * time.Second

// OpenStore opens the store that options name and makes it if it is not there.
// Clears away what was left half done.
func openStore(ctx context.Context, o Options, log zerolog.Logger) (*Store, error) {
	s := &Store{
		o: o, log: log, transport: o.Transport, slots: make(chan struct{}, 4),
		images: make(map[string]*Record), pulls: make(map[string]*pull),
		unpacking: make(map[string]chan struct{}), pins: make(map[string]int),
	}
	if s.transport == nil {
		s.transport = newTransport(o.StallTimeout)
	}
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return nil, err
	}
	s.boot = strings.TrimSpace(string(boot))
	for _, d := range []string{layersDir, linksDir, imagesDir, stagingDir, gcDir} {
		if err := os.MkdirAll(filepath.Join(o.StoreDir, d), 0o700); err != nil {
			return nil, fmt.Errorf("store of images: %w", err)
		}
	}
	if err := s.takeLock(ctx); err != nil {
		return nil, err
	}
	if err := s.recover(); err != nil {
		_ = s.lock.Close()
		return nil, err
	}
	return s, nil
}

// makeStoreDir makes the directory of the store, which only its owner may enter: layers
// hold set-user-id programs. Nor may others be able to put something in its place: by
// default it is below /tmp.
func makeStoreDir(dir string) error {
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return fmt.Errorf("store of images: %w", err)
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("store of images: %w", err)
	}
	real, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return fmt.Errorf("store of images: %w", err)
	}
	for at := real; ; at = filepath.Dir(at) {
		var st unix.Stat_t
		if err := unix.Stat(at, &st); err != nil {
			return &fs.PathError{Op: "stat", Path: at, Err: err}
		}
		mine := st.Uid == 0 || st.Uid == uint32(os.Geteuid())
		if !mine || at != real && st.Mode&unix.S_IWOTH != 0 && st.Mode&unix.S_ISVTX == 0 {
			return fmt.Errorf("%w: %s of %s", ErrUntrusted, at, dir)
		}
		if at == "/" {
			break
		}
	}
	if err := os.Chmod(real, 0o700); err != nil {
		return fmt.Errorf("store of images: %w", err)
	}
	return nil
}

func (s *Store) takeLock(ctx context.Context) error {
	var err error
	if s.lock, err = os.OpenFile(filepath.Join(s.o.StoreDir, "lock"), os.O_RDWR|os.O_CREATE, 0o600); err != nil {
		return fmt.Errorf("store of images: %w", err)
	}
	for deadline := time.Now().Add(lockPatience); ; {
		err := unix.Flock(int(s.lock.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return nil
		}
		if time.Now().After(deadline) || ctx.Err() != nil {
			_ = s.lock.Close()
			return fmt.Errorf("%w: %s: give each agent on a machine a --docker_store_dir of its own", ErrStoreInUse, s.o.StoreDir)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// recover takes up what an earlier agent left.
func (s *Store) recover() error {
	layers, err := os.ReadDir(s.path(layersDir))
	if err != nil {
		return err
	}
	var unsynced []string
	for _, l := range layers {
		if !s.hasShort(l.Name()) {
			s.log.Warn().Str("layer", l.Name()).Msg("remove a layer that has lost its short name")
			if err := s.discardLocked(l.Name()); err != nil {
				return err
			}
			continue
		}
		boot, err := os.ReadFile(s.path(layersDir, l.Name(), unsyncedName))
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case err == nil && string(boot) == s.boot:
			unsynced = append(unsynced, l.Name())
		default:
			// The machine went down before all of it was on the disk.
			s.log.Warn().Str("layer", l.Name()).Msg("remove a layer that may have lost content")
			if err := s.discardLocked(l.Name()); err != nil {
				return err
			}
		}
	}
	if err := s.recoverImages(); err != nil {
		return err
	}
	links, err := os.ReadDir(s.path(linksDir))
	if err != nil {
		return err
	}
	for _, l := range links {
		if _, err := os.Stat(s.path(linksDir, l.Name())); err != nil {
			if err := os.Remove(s.path(linksDir, l.Name())); err != nil {
				return err
			}
		}
	}
	var rest []string
	for _, d := range []string{stagingDir, gcDir} {
		entries, err := os.ReadDir(s.path(d))
		if err != nil {
			return err
		}
		for _, e := range entries {
			rest = append(rest, s.path(d, e.Name()))
		}
	}
	s.wg.Go(func() { s.sweep(rest) })
	s.syncLater(unsynced)
	return nil
}

// recoverImages reads what names stand for. What cannot be read, or lacks a layer, is
// pulled again when it is needed.
func (s *Store) recoverImages() error {
	files, err := os.ReadDir(s.path(imagesDir))
	if err != nil {
		return err
	}
	for _, f := range files {
		p := s.path(imagesDir, f.Name())
		r := &Record{}
		b, err := os.ReadFile(p)
		if err != nil || json.Unmarshal(b, r) != nil || imageFile(r.Name) != f.Name() || !s.complete(r) {
			s.log.Info().Str("image", r.Name).Msg("forget an image that is not complete")
			if err := os.Remove(p); err != nil {
				return err
			}
			continue
		}
		s.images[r.Name] = r
	}
	return nil
}

// Close stops what the store does on its own, pulls included.
func (s *Store) Close() error {
	s.mu.Lock()
	s.closed = true
	for _, p := range s.pulls {
		p.cancel()
	}
	s.mu.Unlock()
	s.wg.Wait()
	return s.lock.Close()
}

func (s *Store) path(elements ...string) string {
	return filepath.Join(append([]string{s.o.StoreDir}, elements...)...)
}

// LayerDir is where the content of a layer is.
func (s *Store) layerDir(name string) string { return s.path(layersDir, name, rootfsName) }

func (s *Store) layerDirs(names []string) []string {
	dirs := make([]string, 0, len(names))
	for _, n := range names {
		dirs = append(dirs, s.layerDir(n))
	}
	return dirs
}

// shortDir is a shorter way to the same place.
func (s *Store) shortDir(name string) (string, error) {
	b, err := os.ReadFile(s.path(layersDir, name, linkName))
	if err != nil {
		return "", err
	}
	return s.path(linksDir, string(b)), nil
}

// hasShort says whether a layer's short name leads to it.
func (s *Store) hasShort(name string) bool {
	short, err := s.shortDir(name)
	if err != nil {
		return false
	}
	target, err := os.Readlink(short)
	return err == nil && target == linkTarget(name)
}

func linkTarget(name string) string { return filepath.Join("..", layersDir, name, rootfsName) }

func imageFile(name string) string {
	sum := sha256.Sum256([]byte(name))
	return hex.EncodeToString(sum[:]) + ".json"
}

// complete says whether all layers of an image are there.
func (s *Store) complete(r *Record) bool {
	for _, l := range r.Layers {
		if !s.has(l) {
			return false
		}
	}
	return len(r.Layers) > 0
}

func (s *Store) has(layer string) bool {
	if layer == "" || filepath.Base(layer) != layer {
		return false
	}
	_, err := os.Lstat(s.layerDir(layer))
	return err == nil
}

// pinLocked keeps layers and the image from being pruned.
func (s *Store) pinLocked(names ...string) {
	for _, n := range names {
		s.pins[n]++
	}
}

func (s *Store) unpinLocked(names ...string) {
	for _, n := range names {
		if s.pins[n]--; s.pins[n] <= 0 {
			delete(s.pins, n)
		}
	}
}

// Pin keeps what containers use that were there before. The function that is
// returned ends it.
func (s *Store) pin(names []string) (release func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pinLocked(names...)
	return sync.OnceFunc(func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.unpinLocked(names...)
	})
}

// pinned are the names under which an image is pinned.
func (r *Record) pinned() []string { return append([]string{r.Digest}, r.Layers...) }

// save makes a name stand for an image.
func (s *Store) save(r *Record) error {
	b, err := json.Marshal(r)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	// Not synced: a file that is lost or empty means another pull.
	tmp := s.path(stagingDir, imageFile(r.Name))
	if err := os.WriteFile(tmp, b, 0o600); err != nil {
		return err
	}
	if err := os.Rename(tmp, s.path(imagesDir, imageFile(r.Name))); err != nil {
		return err
	}
	s.images[r.Name] = r
	return nil
}

// install moves a layer from staging to its place, pins it, and gives it a short
// name. It may be there already: then this one is not needed.
func (s *Store) install(staged, name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.has(name) {
		s.pinLocked(name)
		return nil
	}
	sum := sha256.Sum256([]byte(name))
	long := strings.ToLower(base32.HexEncoding.WithPadding(base32.NoPadding).EncodeToString(sum[:]))
	target := linkTarget(name)
	short := ""
	for n := 5; n <= len(long); n++ {
		short = long[:n]
		err := os.Symlink(target, s.path(linksDir, short))
		if errors.Is(err, fs.ErrExist) {
			if have, err := os.Readlink(s.path(linksDir, short)); err != nil || have != target {
				continue
			}
			err = nil
		}
		if err != nil {
			return err
		}
		break
	}
	for file, content := range map[string]string{linkName: short, unsyncedName: s.boot} {
		if err := os.WriteFile(filepath.Join(staged, file), []byte(content), 0o600); err != nil {
			return err
		}
	}
	if err := os.Rename(staged, s.path(layersDir, name)); err != nil {
		return err
	}
	s.pinLocked(name)
	return nil
}

// syncLater lets the disk have layers, after which they survive the machine.
func (s *Store) syncLater(names []string) {
	if len(names) == 0 {
		return
	}
	s.wg.Go(func() {
		if err := unix.Syncfs(int(s.lock.Fd())); err != nil {
			s.log.Error().Err(err).Msg("sync the store of images")
			return
		}
		for _, n := range names {
			if err := os.Remove(s.path(layersDir, n, unsyncedName)); err != nil && !errors.Is(err, fs.ErrNotExist) {
				s.log.Error().Err(err).Msg("sync the store of images")
			}
		}
	})
}

// discardLocked takes a layer out of the store; sweep deletes it. The layer goes before
// its short name: recover removes names that lead nowhere.
func (s *Store) discardLocked(name string) error {
	short, shortErr := s.shortDir(name)
	to, err := os.MkdirTemp(s.path(gcDir), "layer-")
	if err != nil {
		return err
	}
	if err := os.Rename(s.path(layersDir, name), filepath.Join(to, "layer")); err != nil {
		return err
	}
	if shortErr == nil && filepath.Dir(short) == s.path(linksDir) {
		if err := os.Remove(short); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// sweep deletes what was taken out.
func (s *Store) sweep(paths []string) {
	for _, p := range paths {
		if err := removeAll(p); err != nil {
			s.log.Error().Err(err).Msg("clear away in the store of images")
		}
	}
}

// prune removes the images that nobody uses and that are not excluded, and the
// layers of which nobody is left.
func (s *Store) prune(excluded []*mesos.Image) error {
	keep, err := keysOf(excluded)
	if err != nil {
		return err
	}
	gone, err := s.take(keep)
	s.sweep(gone)
	return err
}

// keysOf are the images of the store that must stay.
func keysOf(excluded []*mesos.Image) (map[string]bool, error) {
	keep := make(map[string]bool)
	for _, e := range excluded {
		if e.GetType() != mesos.Image_DOCKER {
			continue
		}
		ref, err := parseReference(e.GetDocker().GetName())
		if err != nil {
			return nil, fmt.Errorf("excluded image: %w", err)
		}
		keep[ref.key()] = true
	}
	return keep, nil
}

// take moves what is to be pruned out of the way.
func (s *Store) take(keep map[string]bool) (gone []string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	needed := make(map[string]bool)
	for name, r := range s.images {
		if keep[name] || s.pins[r.Digest] > 0 {
			for _, l := range r.Layers {
				needed[l] = true
			}
			continue
		}
		// First the name: an image that lacks a layer is no image.
		if err := os.Remove(s.path(imagesDir, imageFile(name))); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		delete(s.images, name)
		s.log.Info().Str("image", name).Msg("prune image")
	}
	layers, err := os.ReadDir(s.path(layersDir))
	if err != nil {
		return nil, err
	}
	for _, l := range layers {
		if needed[l.Name()] || s.pins[l.Name()] > 0 {
			continue
		}
		if err := s.discardLocked(l.Name()); err != nil {
			return s.garbage(), err
		}
	}
	return s.garbage(), nil
}

func (s *Store) garbage() []string {
	entries, err := os.ReadDir(s.path(gcDir))
	if err != nil {
		s.log.Error().Err(err).Msg("list what was pruned")
	}
	var paths []string
	for _, e := range entries {
		paths = append(paths, s.path(gcDir, e.Name()))
	}
	return paths
}

// usage is the used part of the store's disk.
func (s *Store) usage() (float64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(s.o.StoreDir, &st); err != nil {
		return 0, fmt.Errorf("store of images: %w", err)
	}
	if st.Blocks == 0 {
		return 0, nil
	}
	return float64(st.Blocks-st.Bfree) / float64(st.Blocks), nil
}
