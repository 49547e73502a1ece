package disk

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/rs/zerolog"

	mesos "clusterd/api/mesos/v1"
	"clusterd/isolation"
)

// XFSOptions are what the flags say about disk/xfs.
type XFSOptions struct {
	// WorkDir is the agent's, on XFS mounted with prjquota.
	WorkDir string
	// PathDisks are the roots of the agent's disks of type PATH.
	PathDisks []string
	// Projects is --xfs_project_range; empty: [5000-10000].
	Projects string
	// Enforce is --enforce_container_disk_quota: without it space is counted only.
	Enforce bool
	// Kill is --xfs_kill_containers: a container that holds more than it may is
	// destroyed, instead of its writes being refused.
	Kill bool
	// Headroom is --xfs_quota_headroom: how much more a container can write until
	// that is seen; 0: 10 MB.
	Headroom uint64
	// Interval is --container_disk_watch_interval, how often that is looked at; 0: 15 seconds.
	Interval time.Duration
	// ReclaimInterval is --disk_watch_interval, how often it is looked at which
	// directories are gone; 0: a minute.
	ReclaimInterval time.Duration
	// Log hears of what goes wrong by itself.
	Log zerolog.Logger
}

// XFS is disk/xfs: projects of XFS's quotas
// (src/slave/containerizer/mesos/isolators/xfs/disk.cpp).
type XFS struct {
	isolation.BaseIsolator
	options XFSOptions

	mu sync.Mutex
	// what follows is guarded by mu.
	projects   *projects
	containers map[string]*xfsContainer
	running    bool
	closed     bool

	wake chan struct{} // closed by Close
	wg   sync.WaitGroup
}

var _ isolation.Isolator = (*XFS)(nil)

// xfsContainer is a container at the top.
type xfsContainer struct {
	sandbox string
	// project is nil for one that was there before the isolator and could get none.
	project *project
	// quota of the sandbox; limited says whether there is one.
	quota   uint64
	limited bool
	// volumes are the persistent volumes by path.
	volumes    map[string]*xfsVolume
	limitation chan isolation.Limitation
	reported   bool
}

type xfsVolume struct {
	resource *mesos.Resource
	// project is nil for a disk of type MOUNT.
	project *project
}

// NewXFS makes the isolator, if the work directory is fit for it.
func NewXFS(options XFSOptions) (*XFS, error) {
	if options.Projects == "" {
		options.Projects = "[5000-10000]"
	}
	if options.Headroom == 0 {
		options.Headroom = 10 << 20
	}
	if options.Interval <= 0 {
		options.Interval = 15 * time.Second
	}
	if options.ReclaimInterval <= 0 {
		options.ReclaimInterval = time.Minute
	}
	ranges, err := parseRange(options.Projects)
	if err != nil {
		return nil, err
	}
	if os.Geteuid() != 0 {
		return nil, fmt.Errorf("%w: setting quotas takes root", isolation.ErrNotSupported)
	}
	for _, dir := range append([]string{options.WorkDir}, options.PathDisks...) {
		if err := checkProjectQuota(dir, options.Enforce); err != nil {
			return nil, err
		}
	}
	return &XFS{options: options, projects: newProjects(ranges), containers: make(map[string]*xfsContainer), wake: make(chan struct{})}, nil
}

// Name is "disk/xfs".
func (x *XFS) Name() string { return "disk/xfs" }

// Projects are how many project ids there are, and how many are free.
func (x *XFS) Projects() (total, free uint64) {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.projects.counts()
}

// Close stops looking.
func (x *XFS) Close() error {
	x.mu.Lock()
	if !x.closed {
		x.closed = true
		close(x.wake)
	}
	x.mu.Unlock()
	x.wg.Wait()
	return nil
}

// Prepare gives the sandbox to a project of its own, as early as can be: what is made
// in it later belongs to the project by itself.
func (x *XFS) Prepare(ctx context.Context, config *isolation.ContainerConfig) (*isolation.Preparation, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	key := isolation.Key(config.ID)
	if config.ID.GetParent() != nil {
		// Its sandbox lies in its parent's; what its image writes elsewhere counts there too.
		if c := x.containers[root(key)]; c != nil && c.project != nil {
			return nil, x.give(ctx, c.project, config.Volumes...)
		}
		return nil, nil
	}
	if _, ok := x.containers[key]; ok {
		return nil, fmt.Errorf("container %s: %w", key, isolation.ErrContainerExists)
	}
	p, err := x.projects.next(x.options.WorkDir)
	if err != nil {
		return nil, err
	}
	c := newXFSContainer(config.Sandbox, p)
	x.start()
	if err := x.fill(ctx, c, config); err != nil {
		x.release(c)
		return nil, err
	}
	x.containers[key] = c
	return nil, nil
}

func newXFSContainer(sandbox string, p *project) *xfsContainer {
	if p != nil {
		p.users++
	}
	return &xfsContainer{sandbox: sandbox, project: p, volumes: make(map[string]*xfsVolume), limitation: make(chan isolation.Limitation, 1)}
}

func (x *XFS) fill(ctx context.Context, c *xfsContainer, config *isolation.ContainerConfig) error {
	if err := x.give(ctx, c.project, append([]string{config.Sandbox}, config.Volumes...)...); err != nil {
		return err
	}
	return x.set(ctx, c, config.Resources)
}

// give hands directories over to a project.
func (x *XFS) give(ctx context.Context, p *project, dirs ...string) error {
	for _, dir := range dirs {
		p.dirs[dir] = true
		if err := setProject(ctx, dir, p.id); err != nil {
			return fmt.Errorf("give %s to project %d: %w", dir, p.id, err)
		}
	}
	return nil
}

// limit sets what a project may hold.
func (x *XFS) limit(p *project, bytes uint64) error {
	switch {
	case !x.options.Enforce:
		return setQuota(p.disk, p.id, 0, 0)
	case bytes == 0: // which the kernel takes for no limit
		return fmt.Errorf("project %d: a quota of 0 bytes cannot be enforced", p.id)
	case x.options.Kill:
		return setQuota(p.disk, p.id, bytes, bytes+x.options.Headroom)
	default:
		return setQuota(p.disk, p.id, bytes, bytes)
	}
}

// set takes new resources over.
func (x *XFS) set(ctx context.Context, c *xfsContainer, resources []*mesos.Resource) error {
	var own []*mesos.Resource
	volumes := make(map[string]*mesos.Resource)
	for _, r := range resources {
		switch {
		case !isDisk(r):
		case r.GetDisk() == nil:
			own = append(own, r)
		case r.GetDisk().GetPersistence() != nil:
			path, err := isolation.PersistentVolumePath(x.options.WorkDir, r)
			if err != nil {
				return err
			}
			volumes[path] = r
		}
	}
	if len(own) > 0 {
		c.quota, c.limited = bytesOf(own...), true
		if c.project != nil {
			if err := x.limit(c.project, c.quota); err != nil {
				return err
			}
		}
	}
	for path, v := range c.volumes {
		if _, ok := volumes[path]; !ok {
			v.release()
			delete(c.volumes, path)
		}
	}
	for _, path := range slices.Sorted(maps.Keys(volumes)) {
		if err := x.setVolume(ctx, c, path, volumes[path]); err != nil {
			return fmt.Errorf("persistent volume %s: %w", path, err)
		}
	}
	return nil
}

func (v *xfsVolume) release() {
	if v.project != nil {
		v.project.users--
	}
}

// setVolume gives a persistent volume its project, which it keeps until it is destroyed,
// and its limit.
func (x *XFS) setVolume(ctx context.Context, c *xfsContainer, path string, r *mesos.Resource) error {
	v := c.volumes[path]
	if v == nil {
		v = &xfsVolume{}
		if !isMount(r) { // those bound themselves, and may be of any kind
			p, err := x.volumeProject(ctx, path, r)
			if err != nil {
				return err
			}
			p.users++
			v.project = p
		}
		c.volumes[path] = v
	}
	v.resource = r
	if v.project == nil {
		return nil
	}
	return x.limit(v.project, bytesOf(r))
}

func (x *XFS) volumeProject(ctx context.Context, path string, r *mesos.Resource) (*project, error) {
	id, err := projectOf(path)
	if err != nil {
		return nil, err
	}
	disk := x.options.WorkDir
	if source := r.GetDisk().GetSource(); source != nil {
		disk = source.GetPath().GetRoot()
		if !filepath.IsAbs(disk) {
			disk = filepath.Join(x.options.WorkDir, disk)
		}
	}
	if id != 0 {
		p := x.projects.take(id, disk)
		p.dirs[path] = true
		return p, nil
	}
	if err := checkProjectQuota(path, x.options.Enforce); err != nil {
		return nil, err
	}
	p, err := x.projects.next(disk)
	if err != nil {
		return nil, err
	}
	return p, x.give(ctx, p, path)
}

// get finds a container at the top; nil for a nested one.
func (x *XFS) get(id *mesos.ContainerID) (*xfsContainer, error) {
	c, ok := x.containers[isolation.Key(id)]
	if !ok && id.GetParent() == nil {
		return nil, fmt.Errorf("container %s: %w", isolation.Key(id), isolation.ErrUnknownContainer)
	}
	return c, nil
}

func (x *XFS) known(id *mesos.ContainerID) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	_, err := x.get(id)
	return err
}

// Isolate does nothing: the sandbox has its project since Prepare.
func (x *XFS) Isolate(_ context.Context, id *mesos.ContainerID, _ int) error { return x.known(id) }

// Watch reports, with Kill, a container that holds more than it may.
func (x *XFS) Watch(id *mesos.ContainerID) (<-chan isolation.Limitation, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	c, err := x.get(id)
	if c == nil {
		return nil, err
	}
	return c.limitation, nil
}

// Update sets new limits.
func (x *XFS) Update(ctx context.Context, id *mesos.ContainerID, resources []*mesos.Resource, _ map[string]*mesos.Value_Scalar) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	c, err := x.get(id)
	if c == nil {
		return err
	}
	return x.set(ctx, c, resources)
}

// Usage asks the kernel.
func (x *XFS) Usage(ctx context.Context, id *mesos.ContainerID, stats *mesos.ResourceStatistics) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	c, err := x.get(id)
	if c == nil {
		return err
	}
	if c.project != nil {
		q, err := getQuota(c.project.disk, c.project.id)
		if err != nil {
			return err
		}
		stats.DiskUsedBytes = new(q.used)
	}
	if c.limited {
		stats.DiskLimitBytes = new(c.quota)
	}
	for _, path := range slices.Sorted(maps.Keys(c.volumes)) {
		v := c.volumes[path]
		entry := &mesos.DiskStatistics{Source: v.resource.GetDisk().GetSource(), Persistence: v.resource.GetDisk().GetPersistence()}
		if v.project == nil {
			used, err := measureMount(ctx, path)
			if err != nil {
				return err
			}
			entry.UsedBytes = new(used)
		} else {
			q, err := getQuota(v.project.disk, v.project.id)
			if err != nil {
				return err
			}
			entry.UsedBytes, entry.LimitBytes = new(q.used), new(bytesOf(v.resource))
		}
		stats.DiskStatistics = append(stats.DiskStatistics, entry)
	}
	return nil
}

// Status adds nothing.
func (x *XFS) Status(_ context.Context, id *mesos.ContainerID, _ *mesos.ContainerStatus) error {
	return x.known(id)
}

// Cleanup lets the project go on until the sandbox is deleted: it is still full.
func (x *XFS) Cleanup(_ context.Context, id *mesos.ContainerID) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	key := isolation.Key(id)
	if c := x.containers[key]; c != nil {
		x.release(c)
		delete(x.containers, key)
	}
	return nil
}

func (x *XFS) release(c *xfsContainer) {
	if c.project != nil {
		c.project.users--
	}
	for _, v := range c.volumes {
		v.release()
	}
}

// start starts the goroutine that looks after containers and projects.
func (x *XFS) start() {
	if !x.running && !x.closed {
		x.running = true
		x.wg.Go(x.run)
	}
}

// run looks until no project is left, or Close.
func (x *XFS) run() {
	check, reclaim := time.NewTicker(x.options.Interval), time.NewTicker(x.options.ReclaimInterval)
	defer check.Stop()
	defer reclaim.Stop()
	for {
		select {
		case <-x.wake:
			return
		case <-check.C:
			if x.options.Enforce && x.options.Kill {
				x.check()
			}
		case <-reclaim.C:
			if !x.reclaim() {
				return
			}
		}
	}
}

// reclaim frees projects; it says whether any is left.
func (x *XFS) reclaim() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	if err := x.projects.reclaim(); err != nil {
		x.options.Log.Error().Err(err).Msg("cannot free XFS projects")
	}
	x.running = len(x.projects.used) > 0
	return x.running
}

// check reports containers that hold more than they may.
func (x *XFS) check() {
	x.mu.Lock()
	defer x.mu.Unlock()
	for key, c := range x.containers {
		if c.reported {
			continue
		}
		if err := x.checkOne(c); err != nil {
			x.options.Log.Error().Err(err).Str("container_id", key).Msg("cannot check the disk usage")
		}
	}
}

func (x *XFS) checkOne(c *xfsContainer) error {
	var errs []error
	if c.project != nil && c.limited {
		errs = append(errs, x.compare(c, c.project, nil))
	}
	for _, path := range slices.Sorted(maps.Keys(c.volumes)) {
		if v := c.volumes[path]; v.project != nil {
			errs = append(errs, x.compare(c, v.project, v.resource))
		}
	}
	return errors.Join(errs...)
}

// compare reports c when a project of it holds more than its soft limit.
func (x *XFS) compare(c *xfsContainer, p *project, volume *mesos.Resource) error {
	q, err := getQuota(p.disk, p.id)
	if err != nil || q.soft == 0 || q.used <= q.soft || c.reported {
		return err
	}
	message := fmt.Sprintf("Disk usage (%s) exceeded quota (%s)", formatBytes(q.used), formatBytes(q.soft))
	disk := &mesos.Resource{
		Name: new("disk"), Type: mesos.Value_SCALAR.Enum(), Disk: volume.GetDisk(),
		Scalar: &mesos.Value_Scalar{Value: new(float64(q.used >> 20))},
	}
	if volume != nil {
		message += " for volume '" + volume.GetDisk().GetPersistence().GetId() + "'"
	}
	c.reported = true
	c.limitation <- isolation.Limitation{Resources: []*mesos.Resource{disk}, Reason: mesos.TaskStatus_REASON_CONTAINER_LIMITATION_DISK, Message: message}
	return nil
}
