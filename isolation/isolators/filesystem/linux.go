package filesystem

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"

	mesos "clusterd/api/mesos/v1"
	"clusterd/isolation"
	"clusterd/isolation/isolators/known"
	"clusterd/isolation/mounts"
	"clusterd/isolation/supervisor"
)

// ErrNotRoot says that an isolator needs root.
var ErrNotRoot = errors.New("only root can do that")

// Linux is filesystem/linux: a mount namespace for each container, the root file
// system of its image, and persistent volumes as mounts in the sandbox
// (src/slave/containerizer/mesos/isolators/filesystem/linux.cpp).
//
// Persistent volumes are mounted in the machine's own namespace, below the work
// directory, which is a shared mount: so they can come and go while the container
// runs, whose namespace is a slave. They are unmounted in Cleanup, also by the next
// agent.
type Linux struct {
	known.Containers[*files]
	o Options
	// base is the lowest layer of every root; empty: there are no images.
	base string

	mu sync.Mutex
	// volumes of all containers, and the mounts of them, are guarded by mu, and so is
	// leftover: the sandboxes of unknown containers with something mounted in them.
	leftover map[string]string
}

// files are those of one container.
type files struct {
	id      *mesos.ContainerID
	info    *mesos.ContainerInfo
	sandbox string
	// volumes are the mounted ones by the names they have in the sandbox. Guarded by
	// Linux.mu.
	volumes map[string]*mesos.Resource
	gids    []uint32
}

var _ isolation.Isolator = (*Linux)(nil)

// NewLinux makes the isolator, and the work directory a shared mount.
func NewLinux(o Options) (*Linux, error) {
	if os.Geteuid() != 0 {
		return nil, ErrNotRoot
	}
	dir, err := filepath.EvalSymlinks(o.WorkDir)
	if err != nil {
		return nil, err
	}
	o.WorkDir = dir
	if err := mounts.EnsureShared(dir); err != nil {
		return nil, err
	}
	l := &Linux{o: o, leftover: make(map[string]string)}
	if o.Provisioner != nil {
		if l.base, err = makeBase(dir, []string{"/proc", "/sys", "/dev", o.sandboxDirectory()}, o.MountedFiles); err != nil {
			return nil, fmt.Errorf("lowest layer of images: %w", err)
		}
	}
	return l, nil
}

// Name is "filesystem/linux".
func (l *Linux) Name() string { return "filesystem/linux" }

// Recover remembers the containers, and finds what is mounted in sandboxes of others:
// Cleanup unmounts that.
func (l *Linux) Recover(_ context.Context, states []isolation.ContainerState, _ []*mesos.ContainerID) error {
	points, err := mountinfo.GetMounts(func(i *mountinfo.Info) (skip, stop bool) {
		return !strings.HasPrefix(i.Mountpoint, l.o.WorkDir+"/"), false
	})
	if err != nil {
		return fmt.Errorf("read the mount table: %w", err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, i := range points {
		if key, sandbox, ok := sandboxOf(l.o.WorkDir, i.Mountpoint); ok {
			l.leftover[key] = sandbox
		}
	}
	for _, s := range states {
		f := &files{id: s.Config.ID, info: s.Config.ContainerInfo, sandbox: s.Config.Sandbox}
		if s.Config.ID.GetParent() == nil {
			f.volumes = persistent(s.Config.Resources)
			delete(l.leftover, isolation.Key(s.Config.ID))
		}
		if err := l.Add(s.Config.ID, f); err != nil {
			return err
		}
	}
	return nil
}

// sandboxOf finds the top-level container in whose sandbox a path lies
// (src/slave/paths.cpp, parseExecutorRunPath).
func sandboxOf(workDir, path string) (key, sandbox string, ok bool) {
	rest, ok := strings.CutPrefix(path, workDir+"/slaves/")
	if !ok {
		return "", "", false
	}
	// AGENT/frameworks/FRAMEWORK/executors/EXECUTOR/runs/CONTAINER/...
	parts := strings.SplitN(rest, "/", 8)
	if len(parts) < 7 || parts[1] != "frameworks" || parts[3] != "executors" || parts[5] != "runs" || parts[6] == "latest" {
		return "", "", false
	}
	return parts[6], filepath.Join(workDir, "slaves", filepath.Join(parts[:7]...)), true
}

// Prepare asks for a mount namespace and all that belongs into it.
func (l *Linux) Prepare(_ context.Context, config *isolation.ContainerConfig) (*isolation.Preparation, error) {
	if err := l.check(config); err != nil {
		return nil, err
	}
	f := &files{id: config.ID, info: config.ContainerInfo, sandbox: config.Sandbox}
	if err := l.Add(config.ID, f); err != nil {
		return nil, err
	}
	p := &isolation.Preparation{}
	if config.RootFS != "" {
		p.Env = map[string]string{"MESOS_SANDBOX": l.o.sandboxDirectory()}
		if config.Image == nil || config.Image.WorkingDir == "" {
			p.WorkingDirectory = l.o.sandboxDirectory()
		}
	}
	if isDebug(config) {
		p.EnterFlags = unix.CLONE_NEWNS
		return p, nil
	}
	p.CloneFlags = unix.CLONE_NEWNS
	users, err := l.o.users(config.ID)
	if err != nil {
		l.Forget(config.ID)
		return nil, err
	}
	root, _ := trusted(config.ID, config.Sandbox)
	sandbox := isolation.Mount{Source: config.Sandbox, SourceIn: root, Flags: unix.MS_BIND | unix.MS_REC, IDMap: users.Namespace}
	switch {
	case config.RootFS != "":
		p.RootFS = config.RootFS
		l.root(p, config, users)
		sandbox.Target, sandbox.Make = l.o.sandboxDirectory(), supervisor.MakeDirectory
		p.Mounts = append(p.Mounts, sandbox)
		socketOfAgent(p, config)
	case users.Namespace != "":
		// The sandbox of a nested container lies in one that is for its owner only: all of
		// it is mapped, or there would be no way in.
		sandbox.Source, sandbox.SourceIn = root, root
		sandbox.Target, sandbox.TargetIn = root, root
		p.Mounts = append(p.Mounts, sandbox)
	}
	// What a nested container gets of a volume it gets of its parent's.
	if config.ID.GetParent() != nil {
		return p, nil
	}
	if err := l.mount(f, config.Resources); err != nil {
		err = errors.Join(err, l.release(f))
		l.Forget(config.ID)
		return nil, err
	}
	p.Groups = f.gids
	return p, nil
}

// socketOfAgent shows an executor with a root of its own the socket that it is to reach the
// agent by. (Mesos's own executors stay outside of images.)
func socketOfAgent(p *isolation.Preparation, config *isolation.ContainerConfig) {
	socket := config.Env["MESOS_DOMAIN_SOCKET"]
	if socket == "" || config.ID.GetParent() != nil {
		return
	}
	name := isolation.ExecutorSocket(socket)
	p.Env["MESOS_DOMAIN_SOCKET"] = filepath.Join(isolation.ContainerSocketDirectory, filepath.Base(name))
	p.Mounts = append(p.Mounts, isolation.Mount{
		Source: filepath.Dir(name), Target: isolation.ContainerSocketDirectory, Make: supervisor.MakeDirectory,
		Flags: unix.MS_BIND | unix.MS_RDONLY | unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC,
	})
}

// check refuses what would be a container without its data.
func (l *Linux) check(config *isolation.ContainerConfig) error {
	volumes, err := volumesOf(config)
	if err != nil {
		return err
	}
	if isDebug(config) && len(volumes) > 0 {
		return fmt.Errorf("volumes of a DEBUG container: %w", isolation.ErrNotSupported)
	}
	for _, v := range volumes {
		switch {
		case v.kind == mesos.Volume_Source_DOCKER_VOLUME || v.kind == mesos.Volume_Source_CSI_VOLUME:
			return fmt.Errorf("volume of type %v: %w", v.kind, isolation.ErrNotSupported)
		case v.kind == mesos.Volume_Source_SECRET && !l.o.Secrets:
			return fmt.Errorf("volume of type SECRET: %w without the isolator volume/secret", isolation.ErrNotSupported)
		case v.image && l.o.Provisioner == nil:
			return fmt.Errorf("volume that is an image: %w without --image_providers", isolation.ErrNotSupported)
		}
	}
	if config.ID.GetParent() == nil && config.FrameworkID == nil && len(persistent(config.Resources)) > 0 {
		return fmt.Errorf("persistent volumes of a standalone container: %w", isolation.ErrNotSupported)
	}
	_, err = os.Stat(config.Sandbox)
	return err
}

// Update makes the mounted persistent volumes those of the resources.
func (l *Linux) Update(_ context.Context, id *mesos.ContainerID, resources []*mesos.Resource, _ map[string]*mesos.Value_Scalar) error {
	f, err := l.Get(id)
	if err != nil || id.GetParent() != nil {
		return err
	}
	return l.mount(f, resources)
}

// Cleanup unmounts what is left in the sandbox, in use or not: otherwise whoever
// deletes the sandbox would find the data of volumes in it (MESOS-7366).
func (l *Linux) Cleanup(_ context.Context, id *mesos.ContainerID) error {
	f, err := l.Get(id)
	l.mu.Lock()
	left, isLeft := l.leftover[isolation.Key(id)]
	l.mu.Unlock()
	switch {
	case err == nil && id.GetParent() == nil:
		err = l.release(f)
	case isLeft:
		err = mounts.UnmountBelow(left)
	default:
		err = nil
	}
	if err != nil {
		return err
	}
	l.Forget(id)
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.leftover, isolation.Key(id))
	return nil
}

// release unmounts a container's volumes.
func (l *Linux) release(f *files) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(f.volumes) == 0 {
		return nil
	}
	if err := mounts.UnmountBelow(f.sandbox); err != nil {
		return err
	}
	f.volumes = nil
	return nil
}

// persistent finds the persistent volumes among resources. As in Mesos those that do
// not lie right in the sandbox are passed over.
func persistent(resources []*mesos.Resource) map[string]*mesos.Resource {
	volumes := make(map[string]*mesos.Resource)
	for _, r := range resources {
		if r.GetDisk().GetPersistence() == nil || r.GetDisk().GetVolume() == nil {
			continue
		}
		if path := r.GetDisk().GetVolume().GetContainerPath(); isolation.IsFileName(path) {
			volumes[path] = r
		}
	}
	return volumes
}

// mount makes the mounted volumes those of resources. What it has mounted it
// remembers at once, so that a failure leaves nothing unknown.
func (l *Linux) mount(f *files, resources []*mesos.Resource) error {
	wanted := persistent(resources)
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(wanted) == 0 && len(f.volumes) == 0 {
		return nil
	}
	for _, name := range sorted(f.volumes) {
		if w, ok := wanted[name]; ok && proto.Equal(w, f.volumes[name]) {
			continue
		}
		// This fails while the task uses it.
		mounted, err := mounts.Unmount(f.sandbox, name)
		if err != nil {
			return fmt.Errorf("unmount persistent volume: %w", err)
		}
		delete(f.volumes, name)
		if mounted {
			// Whatever is there else is the task's.
			_ = unix.Rmdir(filepath.Join(f.sandbox, name))
		}
	}
	for _, name := range sorted(wanted) {
		if err := l.mountOne(f, name, wanted[name]); err != nil {
			return fmt.Errorf("mount persistent volume: %w", err)
		}
	}
	return nil
}

func (l *Linux) mountOne(f *files, name string, volume *mesos.Resource) error {
	source, err := isolation.PersistentVolumePath(l.o.WorkDir, volume)
	if err != nil {
		return err
	}
	if st, err := os.Stat(source); err != nil {
		return err
	} else if !st.IsDir() {
		return &os.PathError{Op: "mount", Path: source, Err: unix.ENOTDIR}
	}
	// After a restart of the agent it may be there already.
	mounted, err := mounts.MountedOn(f.sandbox, name)
	if err != nil {
		return err
	}
	if mounted {
		if f.volumes == nil {
			f.volumes = make(map[string]*mesos.Resource)
		}
		f.volumes[name] = volume
		return nil
	}
	if err := l.own(f, source, volume); err != nil {
		return err
	}
	uid, gid, err := owner(f.sandbox)
	if err != nil {
		return err
	}
	if err := mounts.Make(f.sandbox, name, true, uid, gid); err != nil {
		return err
	}
	if f.volumes == nil {
		f.volumes = make(map[string]*mesos.Resource)
	}
	f.volumes[name] = volume
	users, err := l.o.users(f.id)
	if err != nil {
		return err
	}
	return mounts.Bind(source, f.sandbox, name, mounts.BindOptions{
		ReadOnly: volume.GetDisk().GetVolume().GetMode() == mesos.Volume_RO,
		IDMap:    users.Namespace,
	})
}

// own gives a volume to the user that owns the sandbox, unless it is shared and used
// by another container; with --volume_gid_range it gets a group instead.
func (l *Linux) own(f *files, source string, volume *mesos.Resource) error {
	uid, gid, err := owner(f.sandbox)
	if err != nil || uid == 0 {
		return err
	}
	if l.o.GIDs != nil && volume.GetProviderId() == nil {
		dir, err := os.Open(source)
		if err != nil {
			return err
		}
		defer dir.Close()
		group, err := l.o.GIDs.Allocate(dir, source, false)
		if err != nil {
			return err
		}
		if !slices.Contains(f.gids, group) {
			f.gids = append(f.gids, group)
		}
		return nil
	}
	if volume.GetShared() != nil && l.Any(f.id, func(other *files) bool {
		for _, v := range other.volumes {
			if proto.Equal(v, volume) {
				return true
			}
		}
		return false
	}) {
		return nil
	}
	return os.Chown(source, uid, gid)
}

func sorted(volumes map[string]*mesos.Resource) []string {
	names := make([]string, 0, len(volumes))
	for name := range volumes {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}
