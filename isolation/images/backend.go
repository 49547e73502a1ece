package images

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"clusterd/isolation"
)

// rootfs is where one root file system is made.
type rootfs struct {
	// dir becomes the root and is there. The others are not: an overlay's, for what is
	// written, to work in, and for layers that need an overlay of their own.
	dir, upper, work, base string
}

// backend makes root file systems of layers, the uppermost last.
type backend interface {
	name() string
	// provision returns the mounts that make the root, and directories that hold what
	// is written into it.
	provision(s *Store, layers []string, r rootfs) (mounts []isolation.Mount, volumes []string, err error)
}

// newBackend finds the backend that options name, and tries it. Auto is overlay where
// that works, and copy elsewhere.
func newBackend(o *Options, root string) (backend, error) {
	if err := probeLayers(o.StoreDir); err != nil {
		return nil, fmt.Errorf("images: layers cannot be kept in %s (they need root, and a file system with trusted attributes): %w", o.StoreDir, err)
	}
	switch o.Backend {
	case BackendCopy:
		return copyBackend{}, nil
	case BackendBind:
		return bindBackend{}, nil
	}
	overlay, err := probeOverlay(root, o.StoreDir)
	switch {
	case err == nil:
		return overlay, nil
	case o.Backend == BackendOverlay:
		return nil, fmt.Errorf("provisioner backend overlay: %w", err)
	}
	return copyBackend{}, nil
}

// probeLayers tries what unpacking needs.
func probeLayers(dir string) error {
	probe, err := os.MkdirTemp(dir, "probe-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(probe) }()
	if err := unix.Mknod(filepath.Join(probe, "whiteout"), unix.S_IFCHR, 0); err != nil {
		return fmt.Errorf("make a whiteout: %w", err)
	}
	if err := unix.Setxattr(probe, opaqueAttribute, []byte("y"), 0); err != nil {
		return fmt.Errorf("set %s: %w", opaqueAttribute, err)
	}
	return nil
}

// overlayBackend stacks layers with overlayfs.
type overlayBackend struct {
	// volatile says that the kernel can leave out to sync what is written: a root
	// does not outlive its container, and a container does not outlive the machine.
	volatile bool
}

func (overlayBackend) name() string { return BackendOverlay }

// maxMountData is how long the options of a mount may be: a page, with the final NUL.
const maxMountData = 4096 - 1

func (b overlayBackend) provision(s *Store, layers []string, r rootfs) ([]isolation.Mount, []string, error) {
	lower := make([]string, 0, len(layers)+1)
	for _, l := range layers {
		short, err := s.shortDir(l)
		if err != nil {
			return nil, nil, err
		}
		lower = append(lower, short)
	}
	upper, work, base := r.upper, r.work, r.base
	for _, d := range []string{upper, work} {
		if err := os.Mkdir(d, 0o755); err != nil {
			return nil, nil, err
		}
	}
	if err := os.Chmod(upper, 0o755); err != nil { // the root's mode, whatever the umask
		return nil, nil, err
	}
	options := ",upperdir=" + upper + ",workdir=" + work
	if b.volatile {
		options += ",volatile"
	}
	mounts, err := stack(lower, options, base)
	if err != nil {
		return nil, nil, err
	}
	if len(mounts) > 0 {
		if err := os.Mkdir(base, 0o755); err != nil {
			return nil, nil, err
		}
	}
	data := lowerdir(lower)
	if len(mounts) > 0 {
		data = lowerdir(append([]string{base}, lower[split(lower, options, base):]...))
	}
	mounts = append(mounts, isolation.Mount{
		Source: "overlay", Target: r.dir, Type: "overlay", Data: data + options, Flags: unix.MS_NODEV, Host: true,
	})
	return mounts, []string{upper, work}, nil
}

// stack makes the overlay that the lowest layers need of their own, when the options
// of one mount cannot hold them all. (Overlays may be stacked twice.)
func stack(lower []string, options, base string) ([]isolation.Mount, error) {
	at := split(lower, options, base)
	if at == 0 {
		return nil, nil
	}
	data := lowerdir(lower[:at])
	if len(data) > maxMountData || at < 2 {
		return nil, fmt.Errorf("overlay of %d layers: %w", len(lower), ErrTooLarge)
	}
	return []isolation.Mount{{
		Source: "overlay", Target: base, Type: "overlay", Data: data, Flags: unix.MS_NODEV | unix.MS_RDONLY, Host: true,
	}}, nil
}

// split is how many of the lowest layers do not fit.
func split(lower []string, options, base string) int {
	if len(lowerdir(lower))+len(options) <= maxMountData {
		return 0
	}
	room := maxMountData - len(options) - len("lowerdir=") - len(base)
	at := len(lower)
	for at > 0 && room >= len(lower[at-1])+1 {
		at--
		room -= len(lower[at]) + 1
	}
	return max(at, 2)
}

// lowerdir is the option for layers; the uppermost comes first there.
func lowerdir(lower []string) string {
	var b strings.Builder
	b.WriteString("lowerdir=")
	for i, l := range slices.Backward(lower) {
		b.WriteString(l)
		if i > 0 {
			b.WriteByte(':')
		}
	}
	return b.String()
}

// probeOverlay mounts a small overlay, without a place in the tree of mounts, and
// hides a file in it.
func probeOverlay(root, store string) (overlayBackend, error) {
	if strings.ContainsAny(root+store, ",:\\") { // they separate and escape options
		return overlayBackend{}, fmt.Errorf("comma, colon or backslash in %s or %s: %w", root, store, ErrUnsupported)
	}
	lower, err := os.MkdirTemp(store, "probe-")
	if err != nil {
		return overlayBackend{}, err
	}
	defer func() { _ = os.RemoveAll(lower) }()
	if err := os.WriteFile(filepath.Join(lower, "file"), nil, 0o600); err != nil {
		return overlayBackend{}, err
	}
	for _, volatile := range []bool{true, false} {
		if err = tryOverlay(root, lower, volatile); err == nil {
			return overlayBackend{volatile: volatile}, nil
		}
	}
	if errors.Is(err, unix.ENOSYS) { // Linux before 5.2; it has overlayfs since 3.18
		return overlayBackend{}, nil
	}
	return overlayBackend{}, err
}

func tryOverlay(root, lower string, volatile bool) error {
	scratch, err := os.MkdirTemp(root, "probe-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(scratch) }()
	upper, work := filepath.Join(scratch, "upper"), filepath.Join(scratch, "work")
	fs, err := unix.Fsopen("overlay", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return fmt.Errorf("overlay: %w", err)
	}
	defer func() { _ = unix.Close(fs) }()
	options := [][2]string{{"lowerdir", lower}, {"upperdir", upper}, {"workdir", work}}
	for i, o := range options {
		if err := os.MkdirAll(o[1], 0o700); err != nil {
			return err
		}
		// A value may have 256 bytes.
		fd, err := unix.Open(o[1], unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer func() { _ = unix.Close(fd) }()
		options[i][1] = "/proc/self/fd/" + strconv.Itoa(fd)
	}
	for _, o := range options {
		if err := unix.FsconfigSetString(fs, o[0], o[1]); err != nil {
			return fmt.Errorf("overlay: %s: %w", o[0], err)
		}
	}
	if volatile {
		if err := unix.FsconfigSetFlag(fs, "volatile"); err != nil {
			return fmt.Errorf("overlay: volatile: %w", err)
		}
	}
	if err := unix.FsconfigCreate(fs); err != nil {
		return fmt.Errorf("overlay on %s: %w", root, err)
	}
	mount, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("overlay on %s: %w", root, err)
	}
	defer func() { _ = unix.Close(mount) }()
	if err := unix.Unlinkat(mount, "file", 0); err != nil {
		return fmt.Errorf("overlay on %s: hide a file: %w", root, err)
	}
	return nil
}

// bindBackend shows the one layer of an image, read-only.
type bindBackend struct{}

func (bindBackend) name() string { return BackendBind }

func (bindBackend) provision(s *Store, layers []string, r rootfs) ([]isolation.Mount, []string, error) {
	if len(layers) != 1 {
		return nil, nil, fmt.Errorf("bind backend with an image of %d layers: %w", len(layers), ErrUnsupported)
	}
	return []isolation.Mount{{
		Source: s.layerDir(layers[0]), Target: r.dir, Flags: unix.MS_BIND | unix.MS_RDONLY | unix.MS_NODEV, Host: true,
	}}, nil, nil
}

// copyBackend copies the layers over each other.
type copyBackend struct{}

func (copyBackend) name() string { return BackendCopy }

func (copyBackend) provision(s *Store, layers []string, r rootfs) ([]isolation.Mount, []string, error) {
	for _, l := range layers {
		if err := copyLayer(s.layerDir(l), r.dir); err != nil {
			return nil, nil, fmt.Errorf("copy layer %s: %w", l, err)
		}
	}
	// Mounted on itself, so that devices of the image count for nothing.
	return []isolation.Mount{{
		Source: r.dir, Target: r.dir, Flags: unix.MS_BIND | unix.MS_NODEV, Host: true,
	}}, []string{r.dir}, nil
}
