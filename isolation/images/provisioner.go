package images

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"

	mesos "clusterd/api/mesos/v1"
	"clusterd/isolation"
	"clusterd/isolation/mounts"
)

// Provisioner makes root file systems of images, below the agent's work directory where
// Mesos does (src/slave/containerizer/mesos/provisioner/paths.hpp):
//
//	provisioner/containers/<id>/layers                       what it uses of the store
//	provisioner/containers/<id>/rootfs.<n>                   its roots, from 0 on
//	provisioner/containers/<id>/{upperdir,workdir}.<n>       for overlay
//	provisioner/containers/<id>/containers/<nested id>/...
//
// Mesos has five directories more on the way to a root. Each is made and deleted for every
// container, and deleting one is a request to the disk where that is mounted with discard.
type Provisioner struct {
	o       Options
	log     zerolog.Logger
	root    string
	store   *Store
	backend backend
	cancel  context.CancelFunc
	wg      sync.WaitGroup

	mu sync.Mutex
	// containers are by isolation.Key; guarded by mu.
	containers map[string]*container
}

var _ isolation.Provisioner = (*Provisioner)(nil)

// container is what one container uses.
type container struct {
	id *mesos.ContainerID
	mu sync.Mutex
	// used, releases and gone are guarded by mu.
	used     []use
	releases []func()
	gone     bool
}

// use is one image of a container, as it is written down.
type use struct {
	Image  string
	Digest string
	Layers []string
}

const (
	containersDir = "containers"
	layersFile    = "layers"
)

// New opens the store and makes a provisioner. Close it.
func New(ctx context.Context, o Options, log zerolog.Logger) (*Provisioner, error) {
	if err := o.complete(); err != nil {
		return nil, err
	}
	if _, err := parseCredentials(o.Config); err != nil {
		return nil, err
	}
	p := &Provisioner{o: o, log: log, root: filepath.Join(o.WorkDir, "provisioner"), containers: make(map[string]*container), cancel: func() {}}
	// What root of a container makes in its root is root's on the machine as well, setuid
	// programs too. Containers are in their roots before they become somebody else.
	err := os.MkdirAll(filepath.Join(p.root, containersDir), 0o700)
	if err == nil {
		err = os.Chmod(p.root, 0o700) // 0711 once
	}
	if err != nil {
		return nil, fmt.Errorf("provisioner: %w", err)
	}
	spread(filepath.Join(p.root, containersDir))
	if err := makeStoreDir(o.StoreDir); err != nil {
		return nil, err
	}
	if p.backend, err = newBackend(&o, p.root); err != nil {
		return nil, err
	}
	if p.store, err = openStore(ctx, o, log); err != nil {
		return nil, err
	}
	log.Info().Str("backend", p.backend.name()).Str("store", o.StoreDir).Msg("images")
	return p, nil
}

// spread asks ext4 to put what lies in a directory far from each other: containers have
// nothing to do with each other (chattr(1), +T). Without a journal ext4 does not give an
// inode away again for some seconds and looks at every one of them each time that it makes
// something near by; and each mount of an overlay makes three that it deletes at once.
// A thousand roots side by side took four times as long. Other file systems know nothing of
// it.
func spread(dir string) {
	const top = 0x20000 // FS_TOPDIR_FL
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return
	}
	defer func() { _ = unix.Close(fd) }()
	if flags, err := unix.IoctlGetInt(fd, unix.FS_IOC_GETFLAGS); err == nil && flags&top == 0 {
		_ = unix.IoctlSetPointerInt(fd, unix.FS_IOC_SETFLAGS, flags|top)
	}
}

// Backend is the name of the backend that is used.
func (p *Provisioner) Backend() string { return p.backend.name() }

// Close stops pulls and the garbage collection. What containers use stays.
func (p *Provisioner) Close() error {
	p.cancel()
	p.wg.Wait()
	return p.store.Close()
}

// dir is the directory of a container.
func (p *Provisioner) dir(id *mesos.ContainerID) string { return isolation.RuntimePath(p.root, id) }

// Recover implements isolation.Provisioner. It starts the garbage collection.
func (p *Provisioner) Recover(_ context.Context, known []*mesos.ContainerID) error {
	keep := make(map[string]bool)
	for _, id := range known {
		for ; id != nil; id = id.GetParent() { // it lies in the directories of its parents
			keep[isolation.Key(id)] = true
		}
	}
	if err := p.recover(nil, keep); err != nil {
		return fmt.Errorf("recover root file systems: %w", err)
	}
	if p.o.GC != nil {
		ctx, cancel := context.WithCancel(context.Background())
		p.cancel = cancel
		p.wg.Go(func() { p.collect(ctx) })
	}
	return nil
}

// recover takes up the containers below a parent, and removes those that are not
// known.
func (p *Provisioner) recover(parent *mesos.ContainerID, keep map[string]bool) error {
	dir := p.root
	if parent != nil {
		dir = p.dir(parent)
	}
	entries, err := os.ReadDir(filepath.Join(dir, containersDir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		id := &mesos.ContainerID{Value: new(e.Name()), Parent: parent}
		if isolation.ValidateID(id) != nil {
			p.log.Warn().Str("name", e.Name()).Msg("no container's directory among root file systems")
			continue
		}
		if !keep[isolation.Key(id)] {
			p.log.Info().Str("container_id", isolation.Key(id)).Msg("remove root file systems of an unknown container")
			if err := mounts.UnmountBelow(p.dir(id)); err != nil { // none of ours, but they must not be emptied
				return err
			}
			if err := removeAll(p.dir(id)); err != nil {
				return err
			}
			continue
		}
		p.take(id)
		if err := p.recover(id, keep); err != nil {
			return err
		}
	}
	return nil
}

// take takes up a container that was there before.
func (p *Provisioner) take(id *mesos.ContainerID) {
	c := &container{id: id}
	b, err := os.ReadFile(filepath.Join(p.dir(id), layersFile))
	if err == nil {
		err = json.Unmarshal(b, &c.used)
	}
	if errors.Is(err, fs.ErrNotExist) { // it only has nested containers with images
		return
	}
	if err != nil {
		// Its layers may be pruned now; the kernel keeps what is mounted.
		p.log.Error().Err(err).Str("container_id", isolation.Key(id)).Msg("read what a container uses of the store")
	}
	for _, u := range c.used {
		c.releases = append(c.releases, p.store.pin(append([]string{u.Digest}, u.Layers...)))
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.containers[isolation.Key(id)] = c
}

// Provision implements isolation.Provisioner.
func (p *Provisioner) Provision(ctx context.Context, id *mesos.ContainerID, image *mesos.Image) (*isolation.Provisioned, error) {
	if err := isolation.ValidateID(id); err != nil {
		return nil, err
	}
	record, release, err := p.store.get(ctx, image)
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	c := p.containers[isolation.Key(id)]
	if c == nil {
		c = &container{id: id}
		p.containers[isolation.Key(id)] = c
	}
	p.mu.Unlock()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.gone {
		release()
		return nil, isolation.ErrDestroyed
	}
	c.releases = append(c.releases, release)
	c.used = append(c.used, use{Image: record.Name, Digest: record.Digest, Layers: record.Layers})
	provisioned, err := p.provision(c, record)
	if err != nil {
		return nil, fmt.Errorf("root file system of image %s: %w", record.Name, err)
	}
	return provisioned, nil
}

// provision makes one root. What it leaves when it fails, Destroy removes.
func (p *Provisioner) provision(c *container, record *Record) (*isolation.Provisioned, error) {
	dir, n := p.dir(c.id), "."+strconv.Itoa(len(c.used)-1)
	r := rootfs{dir: filepath.Join(dir, "rootfs"+n), upper: filepath.Join(dir, "upperdir"+n), work: filepath.Join(dir, "workdir"+n), base: filepath.Join(dir, "base"+n)}
	if err := p.makeDirs(r.dir); err != nil {
		return nil, err
	}
	b, err := json.Marshal(c.used)
	if err != nil {
		return nil, err
	}
	// First what it needs of the store, then the root: nothing is used that a prune
	// after a crash would not know of. (Not synced: it has to survive the agent only.)
	file := filepath.Join(dir, layersFile)
	if err := os.WriteFile(file+".tmp", b, 0o600); err != nil {
		return nil, err
	}
	if err := os.Rename(file+".tmp", file); err != nil {
		return nil, err
	}
	made, volumes, err := p.backend.provision(p.store, record.Layers, r)
	if err != nil {
		return nil, err
	}
	return &isolation.Provisioned{RootFS: r.dir, Mounts: made, Config: record.Config, Volumes: volumes}, nil
}

// makeDirs makes the directory of a root, which is the container's "/".
func (p *Provisioner) makeDirs(dir string) error {
	p.mu.Lock() // against prunes of parents
	defer p.mu.Unlock()
	if err := os.MkdirAll(filepath.Dir(dir), 0o711); err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	return os.Chmod(dir, 0o755)
}

// Destroy implements isolation.Provisioner.
func (p *Provisioner) Destroy(_ context.Context, id *mesos.ContainerID) error {
	key := isolation.Key(id)
	p.mu.Lock()
	var all []*container
	for k, c := range p.containers {
		if k == key || strings.HasPrefix(k, key+".") {
			all = append(all, c)
		}
	}
	p.mu.Unlock()
	if len(all) == 0 {
		return nil
	}
	for _, c := range all { // waits for those that are being provisioned
		c.mu.Lock()
		c.gone = true
		c.mu.Unlock()
	}
	if err := removeAll(p.dir(id)); err != nil {
		for _, c := range all {
			c.mu.Lock()
			c.gone = false
			c.mu.Unlock()
		}
		return fmt.Errorf("remove root file systems of container %s: %w", key, err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range all {
		for _, release := range c.releases {
			release()
		}
		delete(p.containers, isolation.Key(c.id))
	}
	p.removeParents(id)
	return nil
}

// removeParents removes the directories of parents that were only made for what is
// nested in them.
func (p *Provisioner) removeParents(id *mesos.ContainerID) {
	for parent := id.GetParent(); parent != nil; parent = parent.GetParent() {
		if p.containers[isolation.Key(parent)] != nil {
			return
		}
		if unix.Rmdir(filepath.Join(p.dir(parent), containersDir)) != nil || unix.Rmdir(p.dir(parent)) != nil {
			return
		}
	}
}

// Prune implements isolation.Provisioner. It does not wait for pulls, and they do not
// wait for it: what is on its way is kept. What --image_gc_config excludes stays as well
// (Http::pruneImages in src/slave/http.cpp).
func (p *Provisioner) Prune(_ context.Context, excluded []*mesos.Image) error {
	if p.o.GC != nil {
		excluded = slices.Concat(excluded, p.o.GC.Excluded)
	}
	return p.store.prune(excluded)
}

// collect prunes when the store's disk gets full (Slave::checkImageDiskUsage in
// src/slave/slave.cpp).
func (p *Provisioner) collect(ctx context.Context) {
	ticker := time.NewTicker(p.o.GC.Interval)
	defer ticker.Stop()
	for {
		if used, err := p.store.usage(); err != nil {
			p.log.Error().Err(err).Msg("usage of the store of images")
		} else if p.o.GC.Headroom+used > 1 {
			p.log.Info().Float64("used", used).Msg("prune images: the disk gets full")
			if err := p.store.prune(p.o.GC.Excluded); err != nil {
				p.log.Error().Err(err).Msg("prune images")
			}
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}
