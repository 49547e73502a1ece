package images

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	mesos "clusterd/api/mesos/v1"
	"clusterd/isolation"
)

// Errors that callers tell apart with errors.Is.
var (
	// ErrUnsafe says that a layer holds something that no layer should.
	ErrUnsafe = errors.New("unsafe layer")
	// ErrTooLarge says that an image reached a limit.
	ErrTooLarge = errors.New("image is too large")
	// ErrDigest says that content is not what its digest promises.
	ErrDigest = errors.New("wrong digest")
	// ErrNotFound says that there is no such image.
	ErrNotFound = errors.New("image not found")
	// ErrInvalidName says that the name of an image cannot be used.
	ErrInvalidName = errors.New("invalid image name")
	// ErrUnsupported says that an image, or a flag, asks for what there is not.
	ErrUnsupported = isolation.ErrNotSupported
	// ErrUntrusted says that others than root could change what is in the store.
	ErrUntrusted = errors.New("others can write to the store of images")
	// ErrStoreInUse says that another agent uses the store.
	ErrStoreInUse = errors.New("the store of images is in use")
)

// Names of backends (--image_provisioner_backend).
const (
	BackendAuto    = "auto"
	BackendOverlay = "overlay"
	BackendCopy    = "copy"
	BackendBind    = "bind"
)

// Options are what the flags say about images.
type Options struct {
	// WorkDir is the agent's work directory; root file systems are made below its
	// folder "provisioner".
	WorkDir string
	// StoreDir (--docker_store_dir) is where images are kept.
	StoreDir string
	// Registry (--docker_registry) is the URL of the registry for names without one,
	// or the absolute path of a folder of `docker save` archives and OCI layouts.
	Registry string
	// Config (--docker_config) is the content of a config.json with credentials, or the
	// absolute path of one.
	Config string
	// Backend (--image_provisioner_backend) is one of the names above; empty is auto.
	Backend string
	// GC (--image_gc_config), if set, prunes the store when its disk gets full.
	GC *GCConfig

	// InsecureRegistries are hosts (with their ports) that are spoken to over plain
	// http, beside those of this machine.
	InsecureRegistries []string
	// Platform is the one that images are chosen for; zero: this machine's.
	Platform Platform
	// Limits bound what an image may take.
	Limits Limits
	// StallTimeout ends a download that brings nothing for so long
	// (--fetcher_stall_timeout); it goes on where it was.
	StallTimeout time.Duration
	// Attempts is how often a request is made, and Backoff the pause after the
	// first one; it doubles.
	Attempts int
	Backoff  time.Duration
	// Transport reaches registries; nil: one of its own.
	Transport http.RoundTripper
	// Secret resolves the secret in an image's docker config; nil: secrets with a
	// value only, as Mesos's own resolver.
	Secret func(ctx context.Context, secret *mesos.Secret) ([]byte, error)
	// Pulled, if set, hears of every pull that ended.
	Pulled func(took time.Duration, err error)
}

// Platform says what machine an image is for.
type Platform struct {
	OS, Architecture, Variant string
}

// Limits bound an image. What they hold back are archives that unpack to more than
// anybody has.
type Limits struct {
	// ImageBytes and ImageEntries are for all layers of an image together, unpacked.
	ImageBytes, ImageEntries int64
	// Layers is how many an image may have.
	Layers int
	// ReserveBytes stay free on the store's disk.
	ReserveBytes int64
}

// GCConfig is Mesos's ImageGcConfig (src/messages/flags.proto).
type GCConfig struct {
	// Headroom is the part of the disk that is kept free, 0 to 1.
	Headroom float64
	// Interval is the time between two looks.
	Interval time.Duration
	// Excluded are images that stay.
	Excluded []*mesos.Image
}

// DefaultRegistry is that of Mesos's --docker_registry.
const DefaultRegistry = "https://registry-1.docker.io"

// complete fills in defaults and says what cannot be used.
func (o *Options) complete() error {
	if !filepath.IsAbs(o.WorkDir) || !filepath.IsAbs(o.StoreDir) {
		return fmt.Errorf("store of images %q, work directory %q: not absolute paths", o.StoreDir, o.WorkDir)
	}
	if o.Registry == "" {
		o.Registry = DefaultRegistry
	}
	if u, err := url.Parse(o.Registry); err != nil || !strings.HasPrefix(o.Registry, "/") && (u.Host == "" || u.Scheme != "http" && u.Scheme != "https") {
		return fmt.Errorf("docker_registry %q: %w: neither the URL of a registry nor an absolute path", o.Registry, ErrUnsupported)
	}
	if err := o.readConfig(); err != nil {
		return err
	}
	switch o.Backend {
	case "":
		o.Backend = BackendAuto
	case BackendAuto, BackendOverlay, BackendCopy, BackendBind:
	default:
		return fmt.Errorf("provisioner backend %q: %w (there are overlay, copy and bind)", o.Backend, ErrUnsupported)
	}
	if o.GC != nil && (o.GC.Headroom < 0 || o.GC.Headroom > 1 || o.GC.Interval <= 0) {
		return errors.New("image_gc_config: image_disk_headroom must be between 0 and 1, image_disk_watch_interval positive")
	}
	if o.GC != nil {
		if _, err := keysOf(o.GC.Excluded); err != nil { // else nothing would ever be pruned
			return fmt.Errorf("image_gc_config: %w", err)
		}
	}
	if o.Platform == (Platform{}) {
		o.Platform = Platform{OS: "linux", Architecture: runtime.GOARCH}
		if runtime.GOARCH == "arm64" {
			o.Platform.Variant = "v8"
		}
	}
	if o.Limits.ImageBytes <= 0 {
		o.Limits.ImageBytes = 256 << 30
	}
	if o.Limits.ImageEntries <= 0 {
		o.Limits.ImageEntries = 10_000_000
	}
	if o.Limits.Layers <= 0 {
		o.Limits.Layers = 500 // overlayfs takes no more
	}
	if o.Limits.ReserveBytes <= 0 {
		o.Limits.ReserveBytes = 128 << 20
	}
	if o.StallTimeout <= 0 {
		o.StallTimeout = time.Minute
	}
	if o.Attempts <= 0 {
		o.Attempts = 6
	}
	if o.Backoff <= 0 {
		o.Backoff = 500 * time.Millisecond
	}
	if o.Secret == nil {
		o.Secret = secretValue
	}
	o.InsecureRegistries = slices.Clone(o.InsecureRegistries)
	if host, ok := strings.CutPrefix(o.Registry, "http://"); ok {
		o.InsecureRegistries = append(o.InsecureRegistries, strings.TrimRight(host, "/"))
	}
	return nil
}

// readConfig reads the docker config if it is in a file.
func (o *Options) readConfig() error {
	p := strings.TrimPrefix(o.Config, "file://")
	if !strings.HasPrefix(p, "/") {
		return nil
	}
	b, err := os.ReadFile(p)
	if err != nil {
		return fmt.Errorf("docker_config: %w", err)
	}
	o.Config = string(b)
	return nil
}

// secretValue is Mesos's default resolver (src/secret/resolver.cpp): references
// need somebody to look them up.
func secretValue(_ context.Context, secret *mesos.Secret) ([]byte, error) {
	if secret.GetType() != mesos.Secret_VALUE {
		return nil, fmt.Errorf("secret of type %v: %w", secret.GetType(), ErrUnsupported)
	}
	return secret.GetValue().GetData(), nil
}
