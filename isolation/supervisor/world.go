package supervisor

import (
	"errors"
	"strconv"
	"syscall"
	"unsafe"

	"clusterd/isolation/proctree"
)

// world is what a container sees, while it is made.
type world struct {
	spec *Spec
	// host and root are the root directories of the machine and of the container.
	host, root int
	// enters are the namespaces of another container that the command enters.
	enters []namespace
	// users is the user namespace that the command enters, -1 for none.
	users int
	// clones are bind mounts that stay shared with the machine.
	clones []clone
	// score is /proc/self/oom_score_adj, -1 if it is not needed.
	score int
	// empty is a directory that has nothing in it and never will, -1 as long as there is
	// none.
	empty int
}

// namespace is one that is open.
type namespace struct {
	fd   int
	flag uintptr
}

// namespaces are those that there are, but for those of users, which come last, when
// nothing else is to be done any more.
var namespaces = [...]struct {
	name string
	flag uintptr
	// thread says that a thread can enter it alone.
	thread bool
}{
	{"net", syscall.CLONE_NEWNET, true},
	{"ipc", syscall.CLONE_NEWIPC, true},
	{"uts", syscall.CLONE_NEWUTS, true},
	{"cgroup", syscall.CLONE_NEWCGROUP, true},
	{"mnt", syscall.CLONE_NEWNS, false},
	{"pid", syscall.CLONE_NEWPID, false},
}

// makeWorld makes the world of the container around this process: its namespaces are
// new already. It says on an error what could not be done. Call it on the thread that
// starts the command.
func makeWorld(spec *Spec) (w *world, what string, err error) {
	w = &world{spec: spec, host: -1, root: -1, users: -1, score: -1, empty: -1}
	defer func() {
		for _, fd := range [...]int{w.host, w.root, w.empty} {
			if fd >= 0 {
				syscall.Close(fd)
			}
		}
	}()
	if what, err := w.openNamespaces(); err != nil {
		return w, what, err
	}
	if spec.OOMScoreAdj != "" {
		if w.score, err = syscall.Open("/proc/self/oom_score_adj", syscall.O_RDWR|syscall.O_CLOEXEC, 0); err != nil {
			return w, "open /proc/self/oom_score_adj", err
		}
	}
	// Now that the agent has put this process into its cgroup.
	if spec.Namespaces&syscall.CLONE_NEWCGROUP != 0 {
		if err := unshareCgroup(); err != nil {
			return w, "make a cgroup namespace", err
		}
	}
	if spec.Hostname != "" {
		if err := syscall.Sethostname([]byte(spec.Hostname)); err != nil {
			return w, "set the hostname", err
		}
	}
	if spec.Namespaces&syscall.CLONE_NEWNS == 0 {
		return w, "", nil
	}
	what, err = w.makeRoot()
	return w, what, err
}

// unshareCgroup makes a cgroup namespace for this thread, or all where any may start
// processes of the container.
func unshareCgroup() error {
	if !Inline() {
		return syscall.Unshare(syscall.CLONE_NEWCGROUP)
	}
	if _, _, errno := syscall.AllThreadsSyscall(syscall.SYS_UNSHARE, syscall.CLONE_NEWCGROUP, 0, 0); errno != 0 {
		return errno
	}
	return nil
}

// openNamespaces opens the namespaces to enter, and enters those that a thread can.
func (w *world) openNamespaces() (what string, err error) {
	if w.spec.UserNamespace != "" {
		if w.users, err = syscall.Open(w.spec.UserNamespace, syscall.O_RDONLY|syscall.O_CLOEXEC, 0); err != nil {
			return "open the user namespace", err
		}
	}
	if w.spec.EnterFlags == 0 {
		return "", nil
	}
	dir := "/proc/" + strconv.Itoa(int(w.spec.EnterPID)) + "/ns/"
	for _, n := range namespaces {
		if uintptr(w.spec.EnterFlags)&n.flag == 0 {
			continue
		}
		fd, err := syscall.Open(dir+n.name, syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
		if err != nil {
			return "open namespace " + n.name + " of the parent", err
		}
		w.enters = append(w.enters, namespace{fd, n.flag})
	}
	if w.spec.EnterFlags&syscall.CLONE_NEWUSER != 0 && w.users < 0 {
		if w.users, err = syscall.Open(dir+"user", syscall.O_RDONLY|syscall.O_CLOEXEC, 0); err != nil {
			return "open the user namespace of the parent", err
		}
	}
	// What is open by now is the parent's own, if the process is still that.
	if p, ok := proctree.Read(int(w.spec.EnterPID)); !ok || p.Start != w.spec.EnterStart {
		return "enter the namespaces of the parent", syscall.ESRCH
	}
	later := w.enters[:0]
	for _, n := range w.enters {
		if n.flag&(syscall.CLONE_NEWNS|syscall.CLONE_NEWPID) != 0 {
			later = append(later, n)
			continue
		}
		if _, _, errno := syscall.RawSyscall(sysSetns, uintptr(n.fd), n.flag, 0); errno != 0 {
			return "enter the namespaces of the parent", errno
		}
		syscall.Close(n.fd)
	}
	w.enters = later
	return "", nil
}

// makeRoot makes the mounts and changes the root.
func (w *world) makeRoot() (what string, err error) {
	if what, err := w.cloneShared(); err != nil {
		return what, err
	}
	// Mounts of the agent's go on to come in, but nothing goes out.
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_SLAVE, ""); err != nil {
		return "make mounts private", err
	}
	if w.host, err = syscall.Open("/", oPath|syscall.O_DIRECTORY|syscall.O_CLOEXEC, 0); err != nil {
		return "open /", err
	}
	mounts := w.spec.Mounts
	// Mounts of the machine's that come first may be what the root consists of.
	for len(mounts) > 0 && mounts[0].Host {
		if err := w.mount(&mounts[0]); err != nil {
			return "mount " + mounts[0].Target, err
		}
		mounts = mounts[1:]
	}
	if what, err := w.openRoot(); err != nil {
		return what, err
	}
	for i := range mounts {
		err := w.mount(&mounts[i])
		if err == nil {
			err = w.findEmpty(&mounts[i])
		}
		if err != nil {
			return "mount " + mounts[i].Target, err
		}
	}
	for i := range w.spec.Devices {
		if err := w.device(&w.spec.Devices[i]); err != nil {
			return "make " + w.spec.Devices[i].Path, err
		}
	}
	for _, path := range w.spec.MaskedPaths {
		if err := w.mask(path); err != nil {
			return "hide " + path, err
		}
	}
	for _, path := range w.spec.ReadonlyPaths {
		if err := w.makeReadonly(path); err != nil {
			return "make read-only " + path, err
		}
	}
	if w.spec.RootFS == "" {
		return "", nil
	}
	return "change the root to " + w.spec.RootFS, w.pivot()
}

// openRoot opens the container's root, which has to be a mount.
func (w *world) openRoot() (what string, err error) {
	if w.spec.RootFS == "" {
		w.root, err = dupFD(w.host)
		return "open /", err
	}
	mounted := false
	for i := range w.spec.Mounts {
		mounted = mounted || w.spec.Mounts[i].Host && w.spec.Mounts[i].Target == w.spec.RootFS
	}
	if !mounted {
		if err := syscall.Mount(w.spec.RootFS, w.spec.RootFS, "", syscall.MS_BIND|syscall.MS_REC, ""); err != nil {
			return "mount " + w.spec.RootFS, err
		}
	}
	w.root, err = syscall.Open(w.spec.RootFS, oPath|syscall.O_DIRECTORY|syscall.O_CLOEXEC, 0)
	return "open " + w.spec.RootFS, err
}

// pivot makes the container's root the root of this mount namespace, and lets go of the
// machine's (pivot_root(2), "pivot_root(".", ".")").
func (w *world) pivot() error {
	if err := syscall.Fchdir(w.root); err != nil {
		return err
	}
	if err := syscall.PivotRoot(".", "."); err != nil {
		return err
	}
	// The old root now lies on the new one.
	if err := syscall.Unmount(".", syscall.MNT_DETACH); err != nil {
		return err
	}
	return syscall.Chdir("/")
}

// device makes one node. Where none may be made, the machine's own is shown.
func (w *world) device(d *Device) error {
	above, name := splitLast(d.Path)
	if name == "" || name == "." || name == ".." {
		return syscall.EINVAL
	}
	dir, err := openIn(w.root, above, false, MakeDirectory)
	if err != nil {
		return err
	}
	defer syscall.Close(dir)
	if d.Mode&syscall.S_IFMT == syscall.S_IFLNK {
		err := symlinkAt(d.Link, dir, name)
		if errors.Is(err, syscall.EEXIST) {
			return nil
		}
		return err
	}
	number := d.Major&0xfff<<8 | d.Minor&0xff | d.Minor&^0xff<<12
	err = syscall.Mknodat(dir, name, d.Mode, int(number))
	if errors.Is(err, syscall.EEXIST) {
		if err = unlinkAt(dir, name, 0); err == nil {
			err = syscall.Mknodat(dir, name, d.Mode, int(number))
		}
	}
	if errors.Is(err, syscall.EPERM) {
		return w.mount(&Mount{Source: d.Path, Target: d.Path, Flags: syscall.MS_BIND, Make: MakeFile})
	}
	if err != nil {
		return err
	}
	if err := syscall.Fchownat(dir, name, int(d.UID), int(d.GID), atSymlinkNofollow); err != nil {
		return err
	}
	return syscall.Fchmodat(dir, name, d.Mode&0o7777, 0)
}

func symlinkAt(target string, dir int, name string) error {
	t, err := syscall.BytePtrFromString(target)
	if err != nil {
		return err
	}
	n, err := syscall.BytePtrFromString(name)
	if err != nil {
		return err
	}
	_, _, errno := syscall.Syscall(syscall.SYS_SYMLINKAT, uintptr(unsafe.Pointer(t)), uintptr(dir), uintptr(unsafe.Pointer(n)))
	if errno != 0 {
		return errno
	}
	return nil
}

// mask hides a path, if there is such a thing: a file behind /dev/null, a directory
// behind an empty one. Empty is the same one everywhere: a file system for each would cost
// more than all else of the mount.
func (w *world) mask(path string) error {
	fd, err := openIn(w.root, path, false, MakeNothing)
	if errors.Is(err, syscall.ENOENT) || errors.Is(err, syscall.ENOTDIR) {
		return nil
	}
	if err != nil {
		return err
	}
	defer syscall.Close(fd)
	var st syscall.Stat_t
	if err := syscall.Fstat(fd, &st); err != nil {
		return err
	}
	if st.Mode&syscall.S_IFMT != syscall.S_IFDIR {
		return syscall.Mount("/dev/null", fdPath(fd), "", syscall.MS_BIND, "")
	}
	if w.empty >= 0 {
		return syscall.Mount(fdPath(w.empty), fdPath(fd), "", syscall.MS_BIND, "")
	}
	err = syscall.Mount("clusterd", fdPath(fd), "tmpfs", syscall.MS_RDONLY|syscall.MS_NOSUID|syscall.MS_NODEV|syscall.MS_NOEXEC, "size=4k,nr_inodes=2,mode=0555")
	if err == nil {
		w.empty, err = openIn(w.root, path, false, MakeNothing)
	}
	return err
}

// findEmpty looks for an empty directory in a sysfs that was mounted for the container,
// before something covers it. It is where the kernel wants cgroups to be mounted, and is
// made in such a way that nothing ever can be in it, whoever asks. A bind mount is as
// read-only as the mount that it is made of, so that must be.
func (w *world) findEmpty(m *Mount) error {
	const quiet = syscall.MS_RDONLY | syscall.MS_NOSUID | syscall.MS_NODEV | syscall.MS_NOEXEC
	if w.empty >= 0 || m.Type != "sysfs" || m.Flags&quiet != quiet {
		return nil
	}
	sys, err := w.target(m)
	if err != nil {
		return err
	}
	defer syscall.Close(sys)
	fd, err := syscall.Openat(sys, "fs/cgroup", syscall.O_RDONLY|syscall.O_DIRECTORY|syscall.O_NOFOLLOW|syscall.O_CLOEXEC, 0)
	if err != nil { // a kernel without cgroups
		return nil // mask makes an empty one then
	}
	entries := make([]byte, 1024)
	n, err := syscall.Getdents(fd, entries)
	_, _, names := syscall.ParseDirent(entries[:max(n, 0)], 1, nil)
	if err != nil || len(names) > 0 {
		syscall.Close(fd)
		return err
	}
	w.empty = fd
	return nil
}

// makeReadonly makes a path read-only, if there is such a thing: the mount that it is, or
// else by one. Where nothing can be nothing can be written.
func (w *world) makeReadonly(path string) error {
	fd, err := openIn(w.root, path, false, MakeNothing)
	if errors.Is(err, syscall.ENOENT) || errors.Is(err, syscall.ENOTDIR) {
		return nil
	}
	if err != nil {
		return err
	}
	defer syscall.Close(fd)
	if w.empty >= 0 && sameFile(fd, w.empty) || setAttributes(fd, syscall.MS_RDONLY, true) == nil {
		return nil
	}
	if err := syscall.Mount(fdPath(fd), fdPath(fd), "", syscall.MS_BIND|syscall.MS_REC, ""); err != nil {
		return err
	}
	top, err := openIn(w.root, path, false, MakeNothing)
	if err != nil {
		return err
	}
	defer syscall.Close(top)
	return setAttributes(top, syscall.MS_RDONLY, true)
}

func sameFile(a, b int) bool {
	var first, second syscall.Stat_t
	return syscall.Fstat(a, &first) == nil && syscall.Fstat(b, &second) == nil && first.Dev == second.Dev && first.Ino == second.Ino
}

// setScore sets the badness that the command inherits, and undo gives this process its
// own back.
func (w *world) setScore() (undo func(), err error) {
	if w.score < 0 {
		return func() {}, nil
	}
	own := make([]byte, 16)
	n, err := syscall.Read(w.score, own)
	if err != nil {
		return nil, err
	}
	if _, err := syscall.Pwrite(w.score, []byte(w.spec.OOMScoreAdj), 0); err != nil {
		return nil, err
	}
	return func() {
		_, _ = syscall.Pwrite(w.score, own[:n], 0)
		syscall.Close(w.score)
		w.score = -1
	}, nil
}

// close lets go of what only the command's start needed.
func (w *world) close() {
	for _, n := range w.enters {
		syscall.Close(n.fd)
	}
	w.enters = nil
	if w.users >= 0 {
		syscall.Close(w.users)
		w.users = -1
	}
}
