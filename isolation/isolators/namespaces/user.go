package namespaces

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	mesos "clusterd/api/mesos/v1"
	"clusterd/isolation"
	"clusterd/isolation/isolators/known"
)

// BlockSize is how many ids a container has.
const BlockSize = 1 << 16

// ErrNoUserNamespace says why a container can have no user namespace.
var ErrNoUserNamespace = errors.New("no user namespace")

// UserOptions say how NewUser makes the isolator.
type UserOptions struct {
	// RuntimeDir is the agent's runtime directory.
	RuntimeDir string
	// First and Last (--user_namespace_range) bound the ids that containers get outside;
	// both 0: a range from 524288 on, far from people's, with room for 16,384 containers.
	First, Last uint32
}

// User is namespaces/user, which Mesos has not: root in a container, and everybody else
// there, is nobody outside.
//
// Each container at the top gets a block of 65,536 ids of the machine for itself, and
// those nested in it share it. Only the command is in the namespace: the process above
// it makes the container's mounts and devices as root of the machine, so nothing inside
// can undo them, and all other namespaces belong to the machine's users. Files of the
// container are stored with the ids that they have inside: whoever mounts them maps the
// ids to the block (mount_setattr(2), MOUNT_ATTR_IDMAP), so a volume can go to
// another container, and another block, as it is.
//
//	<runtime_dir>/isolators/namespaces/user/<first id>   the key of the container that
//	                                                     has the block
//
// The agent holds a container's namespace open. After a restart it makes another one
// with the same ids for what is to be nested in the container.
type User struct {
	known.Containers[*block]
	o   UserOptions
	dir string

	mu sync.Mutex
	// taken are the blocks in use, by their first id. Guarded by mu, as are the
	// namespaces of all blocks.
	taken map[uint32]bool
}

// block is what a container at the top has; first is 0 when it has none.
type block struct {
	first     uint32
	namespace *os.File
}

var _ isolation.Isolator = (*User)(nil)

// NewUser makes the isolator, and tries whether the kernel can do it.
func NewUser(o UserOptions) (*User, error) {
	if os.Geteuid() != 0 {
		return nil, ErrNotRoot
	}
	if o.First == 0 && o.Last == 0 {
		o.First, o.Last = 1<<19, 1<<19+1<<14*BlockSize-1
	}
	if uint64(o.Last)+1 < uint64(o.First)+BlockSize || o.First == 0 {
		return nil, fmt.Errorf("%w: --user_namespace_range=[%d-%d] has no room for %d ids, or has id 0", ErrNoUserNamespace, o.First, o.Last, BlockSize)
	}
	u := &User{o: o, dir: filepath.Join(o.RuntimeDir, "isolators", "namespaces", "user"), taken: make(map[uint32]bool)}
	if err := os.MkdirAll(u.dir, 0o700); err != nil {
		return nil, err
	}
	f, err := newUserNamespace(o.First)
	if err != nil {
		return nil, err
	}
	return u, f.Close()
}

// Name is "namespaces/user".
func (u *User) Name() string { return "namespaces/user" }

// Namespace returns a path of the namespace of a container, and what its id 0 is
// outside. The path is empty when it has none. It is good as long as the agent and the
// container live.
func (u *User) Namespace(id *mesos.ContainerID) (path string, base uint32, err error) {
	b, err := u.Get(known.Root(id))
	if err != nil || b.first == 0 {
		return "", 0, nil
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if b.namespace == nil {
		if b.namespace, err = newUserNamespace(b.first); err != nil {
			return "", 0, err
		}
	}
	return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), b.namespace.Fd()), b.first, nil
}

func (u *User) file(first uint32) string {
	return filepath.Join(u.dir, strconv.FormatUint(uint64(first), 10))
}

// Recover finds the blocks of living containers, and frees all others.
func (u *User) Recover(_ context.Context, states []isolation.ContainerState, orphans []*mesos.ContainerID) error {
	first := make(map[string]uint32)
	entries, err := os.ReadDir(u.dir)
	if err != nil {
		return err
	}
	keep := make(map[string]bool)
	for _, s := range states {
		keep[isolation.Key(s.Config.ID)] = true
	}
	// What orphans have may be used until they have gone: Cleanup comes then.
	for _, id := range orphans {
		keep[isolation.Key(id)] = true
	}
	for _, e := range entries {
		n, err := strconv.ParseUint(e.Name(), 10, 32)
		key, readErr := os.ReadFile(filepath.Join(u.dir, e.Name()))
		if err != nil || readErr != nil || !keep[string(key)] {
			if err := os.Remove(filepath.Join(u.dir, e.Name())); err != nil {
				return err
			}
			continue
		}
		first[string(key)] = uint32(n)
		u.taken[uint32(n)] = true
	}
	for _, id := range orphans {
		if n, ok := first[isolation.Key(id)]; ok {
			if err := u.Add(id, &block{first: n}); err != nil {
				return err
			}
		}
	}
	for _, s := range states {
		// A container of before the isolator was enabled has none.
		if err := u.Add(s.Config.ID, &block{first: first[isolation.Key(s.Config.ID)]}); err != nil {
			return err
		}
	}
	return nil
}

// Prepare asks for the namespace.
func (u *User) Prepare(_ context.Context, config *isolation.ContainerConfig) (*isolation.Preparation, error) {
	if config.ContainerInfo.GetLinuxInfo().GetSharePidNamespace() && config.ID.GetParent() == nil {
		// It wants to see the machine's processes, and could do nothing with them.
		return nil, fmt.Errorf("%w for a container that shares the machine's process ids", ErrNoUserNamespace)
	}
	b := &block{}
	if err := u.Add(config.ID, b); err != nil {
		return nil, err
	}
	if config.ID.GetParent() == nil {
		if err := u.take(b, config.ID); err != nil {
			u.Forget(config.ID)
			return nil, err
		}
	}
	path, _, err := u.Namespace(config.ID)
	if err != nil {
		return nil, errors.Join(err, u.Cleanup(context.Background(), config.ID))
	}
	return &isolation.Preparation{UserNamespace: path}, nil
}

// take takes a free block.
func (u *User) take(b *block, id *mesos.ContainerID) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	for n := uint64(u.o.First); n+BlockSize-1 <= uint64(u.o.Last); n += BlockSize {
		first := uint32(n)
		if u.taken[first] {
			continue
		}
		if err := os.WriteFile(u.file(first), []byte(isolation.Key(id)), 0o600); err != nil {
			return err
		}
		u.taken[first], b.first = true, first
		return nil
	}
	return fmt.Errorf("%w: all ids of --user_namespace_range=[%d-%d] are in use", ErrNoUserNamespace, u.o.First, u.o.Last)
}

// free gives a block back.
func (u *User) free(b *block) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if b.first == 0 {
		return nil
	}
	if err := os.Remove(u.file(b.first)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err // the block stays taken
	}
	delete(u.taken, b.first)
	b.first = 0
	if b.namespace == nil {
		return nil
	}
	defer func() { b.namespace = nil }()
	return b.namespace.Close()
}

// Cleanup gives the block back.
func (u *User) Cleanup(_ context.Context, id *mesos.ContainerID) error {
	if b, err := u.Get(id); err == nil {
		if err := u.free(b); err != nil {
			return err
		}
	}
	u.Forget(id)
	return nil
}

// newUserNamespace makes a user namespace whose ids 0 to 65535 are those from first on
// outside. A process is needed to make one: it stops before it does anything.
func newUserNamespace(first uint32) (*os.File, error) {
	// Who traces a process is a thread.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	ids := []syscall.SysProcIDMap{{ContainerID: 0, HostID: int(first), Size: BlockSize}}
	process, err := os.StartProcess("/proc/self/exe", []string{"clusterd user namespace"}, &os.ProcAttr{Env: []string{}, Sys: &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWUSER, UidMappings: ids, GidMappings: ids, GidMappingsEnableSetgroups: true,
		Ptrace: true, Pdeathsig: syscall.SIGKILL,
	}})
	if err != nil {
		return nil, fmt.Errorf("%w: %w%s", ErrNoUserNamespace, err, userNamespaceHint())
	}
	defer func() {
		_ = process.Kill()
		_, _ = process.Wait()
	}()
	return os.Open(filepath.Join("/proc", strconv.Itoa(process.Pid), "ns", "user"))
}

// userNamespaceHint says what usually is the matter.
func userNamespaceHint() string {
	hints := []string{}
	for file, bad := range map[string]string{
		"/proc/sys/user/max_user_namespaces":                     "0",
		"/proc/sys/kernel/apparmor_restrict_unprivileged_userns": "1",
	} {
		if b, err := os.ReadFile(file); err == nil && strings.TrimSpace(string(b)) == bad {
			hints = append(hints, file+" is "+bad)
		}
	}
	slices.Sort(hints)
	if len(hints) == 0 {
		return ""
	}
	return " (" + strings.Join(hints, ", ") + ")"
}
