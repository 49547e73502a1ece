package disk

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/rs/zerolog"

	mesos "clusterd/api/mesos/v1"
	"clusterd/isolation"
)

// DUOptions are what the flags say about disk/du.
type DUOptions struct {
	// WorkDir is the agent's.
	WorkDir string
	// Interval is --container_disk_watch_interval; 0: 15 seconds.
	Interval time.Duration
	// Enforce is --enforce_container_disk_quota.
	Enforce bool
	// Log hears of what cannot be measured.
	Log zerolog.Logger
}

// DU is disk/du: it measures sandboxes and persistent volumes
// (src/slave/containerizer/mesos/isolators/posix/disk.cpp).
type DU struct {
	isolation.BaseIsolator
	options   DUOptions
	collector *collector

	mu sync.Mutex
	// containers are those at the top; guarded by mu.
	containers map[string]*duContainer
}

var _ isolation.Isolator = (*DU)(nil)

// duContainer is what belongs to one container, those nested in it included.
type duContainer struct {
	sandbox string
	// volumes are directories that count like the sandbox, by the key of the
	// container that writes into them.
	volumes map[string][]string
	// resources are the disk space of the sandbox; none: it is not measured.
	resources []*mesos.Resource
	// own are the sandbox and the volumes, while they are measured, by path.
	own map[string]*duPath
	// persistent are the persistent volumes by path.
	persistent map[string]*duPath
	limitation chan isolation.Limitation
	limited    bool
}

// duPath is one directory that is measured.
type duPath struct {
	target *target
	// resource is that of a persistent volume.
	resource *mesos.Resource
	// used is what it held last; measured says whether that is known.
	used     uint64
	measured bool
	// failed is why it could not be measured, to say so once.
	failed string
}

// NewDU makes the isolator.
func NewDU(options DUOptions) *DU {
	if options.Interval <= 0 {
		options.Interval = 15 * time.Second
	}
	return &DU{options: options, collector: newCollector(options.Interval), containers: make(map[string]*duContainer)}
}

// Name is "disk/du".
func (d *DU) Name() string { return "disk/du" }

// Close stops measuring.
func (d *DU) Close() error {
	d.collector.close()
	return nil
}

// Recover measures the containers that live.
func (d *DU) Recover(_ context.Context, states []isolation.ContainerState, _ []*mesos.ContainerID) error {
	for _, s := range states {
		if err := d.take(s.Config); err != nil {
			return err
		}
	}
	return nil
}

// Prepare begins to measure. A nested container's sandbox lies in its parent's, so that
// only what it writes elsewhere is new.
func (d *DU) Prepare(_ context.Context, config *isolation.ContainerConfig) (*isolation.Preparation, error) {
	return nil, d.take(config)
}

func (d *DU) take(config *isolation.ContainerConfig) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	key := isolation.Key(config.ID)
	if config.ID.GetParent() != nil {
		if c := d.containers[root(key)]; c != nil {
			c.volumes[key] = config.Volumes
			d.apply(c)
		}
		return nil
	}
	if _, ok := d.containers[key]; ok {
		return fmt.Errorf("container %s: %w", key, isolation.ErrContainerExists)
	}
	c := &duContainer{
		sandbox: config.Sandbox, volumes: map[string][]string{key: config.Volumes},
		own: make(map[string]*duPath), persistent: make(map[string]*duPath), limitation: make(chan isolation.Limitation, 1),
	}
	if err := d.set(c, config.Resources); err != nil {
		d.forget(c)
		return err
	}
	d.containers[key] = c
	return nil
}

// root is the key of the container at the top.
func root(key string) string {
	top, _, _ := strings.Cut(key, ".")
	return top
}

// get finds a container at the top; nil for a nested one.
func (d *DU) get(id *mesos.ContainerID) (*duContainer, error) {
	c, ok := d.containers[isolation.Key(id)]
	if !ok && id.GetParent() == nil {
		return nil, fmt.Errorf("container %s: %w", isolation.Key(id), isolation.ErrUnknownContainer)
	}
	return c, nil
}

func (d *DU) known(id *mesos.ContainerID) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	_, err := d.get(id)
	return err
}

// Isolate does nothing.
func (d *DU) Isolate(_ context.Context, id *mesos.ContainerID, _ int) error { return d.known(id) }

// Watch reports a container that holds more than it may.
func (d *DU) Watch(id *mesos.ContainerID) (<-chan isolation.Limitation, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	c, err := d.get(id)
	if c == nil {
		return nil, err
	}
	return c.limitation, nil
}

// Update measures what the resources name, and nothing else.
func (d *DU) Update(_ context.Context, id *mesos.ContainerID, resources []*mesos.Resource, _ map[string]*mesos.Value_Scalar) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	c, err := d.get(id)
	if c == nil {
		return err
	}
	return d.set(c, resources)
}

// set takes new resources over.
func (d *DU) set(c *duContainer, resources []*mesos.Resource) error {
	persistent := make(map[string]*mesos.Resource)
	c.resources = nil
	for _, r := range resources {
		if !isDisk(r) {
			continue
		}
		if r.GetDisk().GetVolume() == nil {
			c.resources = append(c.resources, r)
			continue
		}
		path, err := d.pathOf(c, r)
		if err != nil {
			return err
		}
		persistent[path] = r
	}
	for path, p := range c.persistent {
		if _, ok := persistent[path]; !ok {
			d.collector.remove(p.target)
			delete(c.persistent, path)
		}
	}
	for path, r := range persistent {
		p, ok := c.persistent[path]
		if !ok {
			p = d.watchPath(c, path, isMount(r))
			c.persistent[path] = p
		}
		p.resource = r
	}
	d.apply(c)
	return nil
}

// pathOf is where the agent sees a volume. Mesos looks at the place in the sandbox,
// where the agent need not see what the container sees.
func (d *DU) pathOf(c *duContainer, r *mesos.Resource) (string, error) {
	if r.GetDisk().GetPersistence() != nil {
		return isolation.PersistentVolumePath(d.options.WorkDir, r)
	}
	path := r.GetDisk().GetVolume().GetContainerPath()
	if !filepath.IsAbs(path) {
		path = filepath.Join(c.sandbox, path)
	}
	return path, nil
}

// apply begins or ends to measure the sandbox and what counts like it.
func (d *DU) apply(c *duContainer) {
	wanted := make(map[string]bool)
	if len(c.resources) > 0 {
		wanted[c.sandbox] = true
		for _, volumes := range c.volumes {
			for _, v := range volumes {
				wanted[v] = true
			}
		}
	}
	for path, p := range c.own {
		if !wanted[path] {
			d.collector.remove(p.target)
			delete(c.own, path)
		}
	}
	for path := range wanted {
		if c.own[path] == nil {
			c.own[path] = d.watchPath(c, path, false)
		}
	}
}

func (d *DU) watchPath(c *duContainer, path string, mount bool) *duPath {
	p := &duPath{}
	p.target = &target{path: path, measure: measure, done: func(bytes uint64, err error) { d.measured(c, p, bytes, err) }}
	if mount {
		p.target.measure = measureMount
	}
	d.collector.add(p.target)
	return p
}

// measured takes an outcome and compares it with what is allowed.
func (d *DU) measured(c *duContainer, p *duPath, bytes uint64, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if c.own[p.target.path] != p && c.persistent[p.target.path] != p {
		return // it is not measured any more
	}
	switch {
	case errors.Is(err, context.Canceled):
		return
	case err != nil:
		if !errors.Is(err, fs.ErrNotExist) && p.failed != err.Error() {
			p.failed = err.Error()
			d.options.Log.Error().Err(err).Str("path", p.target.path).Msg("cannot measure a directory")
		}
		return
	}
	p.used, p.measured, p.failed = bytes, true, ""
	if !d.options.Enforce || c.limited {
		return
	}
	used, resources := bytes, []*mesos.Resource{p.resource}
	if p.resource == nil {
		used, resources = c.used(), c.resources
	} else if isMount(p.resource) {
		return
	}
	if allowed := bytesOf(resources...); used > allowed {
		c.limited = true
		c.limitation <- isolation.Limitation{
			Resources: resources,
			Reason:    mesos.TaskStatus_REASON_CONTAINER_LIMITATION_DISK,
			Message:   fmt.Sprintf("Disk usage (%s) exceeds quota (%s)", formatBytes(used), formatBytes(allowed)),
		}
	}
}

// used is what the sandbox and what counts like it hold.
func (c *duContainer) used() uint64 {
	var sum uint64
	for _, p := range c.own {
		sum += p.used
	}
	return sum
}

// Usage adds one entry for each persistent volume and one for the sandbox.
func (d *DU) Usage(_ context.Context, id *mesos.ContainerID, stats *mesos.ResourceStatistics) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	c, err := d.get(id)
	if c == nil {
		return err
	}
	for _, path := range slices.Sorted(maps.Keys(c.persistent)) {
		p := c.persistent[path]
		entry := &mesos.DiskStatistics{
			Source: p.resource.GetDisk().GetSource(), Persistence: p.resource.GetDisk().GetPersistence(),
			LimitBytes: new(bytesOf(p.resource)),
		}
		if p.measured {
			entry.UsedBytes = new(p.used)
		}
		stats.DiskStatistics = append(stats.DiskStatistics, entry)
	}
	if len(c.resources) == 0 {
		return nil
	}
	stats.DiskLimitBytes, stats.DiskUsedBytes = new(bytesOf(c.resources...)), new(c.used())
	stats.DiskStatistics = append(stats.DiskStatistics, &mesos.DiskStatistics{LimitBytes: stats.DiskLimitBytes, UsedBytes: stats.DiskUsedBytes})
	return nil
}

// Status adds nothing.
func (d *DU) Status(_ context.Context, id *mesos.ContainerID, _ *mesos.ContainerStatus) error {
	return d.known(id)
}

// Cleanup stops measuring.
func (d *DU) Cleanup(_ context.Context, id *mesos.ContainerID) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	key := isolation.Key(id)
	if id.GetParent() != nil {
		if c := d.containers[root(key)]; c != nil {
			delete(c.volumes, key)
			d.apply(c)
		}
		return nil
	}
	if c := d.containers[key]; c != nil {
		d.forget(c)
		delete(d.containers, key)
	}
	return nil
}

func (d *DU) forget(c *duContainer) {
	for _, p := range c.own {
		d.collector.remove(p.target)
	}
	for _, p := range c.persistent {
		d.collector.remove(p.target)
	}
}
