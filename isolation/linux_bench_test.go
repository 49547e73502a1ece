package isolation_test

import (
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"

	mesos "clusterd/api/mesos/v1"
	"clusterd/isolation"
	"clusterd/isolation/isolationtest"
	"clusterd/isolation/supervisor"
)

// BenchmarkLaunchers runs /bin/true in containers of several kinds, from Fork to the
// removal of the last trace, with one launcher at a time: what children-cpu-ms/op says
// compares also on a busy machine.
func BenchmarkLaunchers(b *testing.B) {
	if os.Geteuid() != 0 {
		b.Skip("only root makes namespaces")
	}
	programs := isolationtest.Programs(b)
	root := filepath.Join(b.TempDir(), "rootfs")
	if err := os.MkdirAll(filepath.Join(root, "bin"), 0o755); err != nil {
		b.Fatal(err)
	}
	proc := []isolation.Mount{procMount}
	image := append([]isolation.Mount{
		{Source: "/bin", Target: "/bin", Flags: unix.MS_BIND, Make: supervisor.MakeDirectory},
		{Source: "/usr", Target: "/usr", Flags: unix.MS_BIND, Make: supervisor.MakeDirectory},
		{Source: "/lib", Target: "/lib", Flags: unix.MS_BIND, Make: supervisor.MakeDirectory},
		{Source: "/lib64", Target: "/lib64", Flags: unix.MS_BIND, Make: supervisor.MakeDirectory},
	}, proc...)
	limits := &isolation.Capabilities{Bounding: 1, Permitted: 1, Effective: 1}
	for _, c := range []struct {
		name  string
		linux bool
		p     isolation.Preparation
	}{
		{"posix", false, isolation.Preparation{}},
		{"posix,rights", false, isolation.Preparation{Capabilities: limits, NoNewPrivileges: true, Seccomp: allowAll}},
		{"linux", true, isolation.Preparation{}},
		{"linux,mnt+pid", true, isolation.Preparation{CloneFlags: unix.CLONE_NEWNS | unix.CLONE_NEWPID, Mounts: proc}},
		{"linux,mnt+pid+ipc+uts+cgroup", true, isolation.Preparation{
			CloneFlags: unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS | unix.CLONE_NEWCGROUP, Mounts: proc,
		}},
		{"linux,rootfs", true, isolation.Preparation{CloneFlags: unix.CLONE_NEWNS | unix.CLONE_NEWPID, Mounts: image, RootFS: root}},
	} {
		b.Run(c.name, func(b *testing.B) {
			dir := b.TempDir()
			var l isolation.Launcher
			var err error
			if c.linux {
				l, err = isolation.NewLinuxLauncher(dir, newTree(b, treeRoot(b)), programs, zerolog.Nop())
			} else {
				l, err = isolation.NewPosixLauncher(dir, programs, zerolog.Nop())
			}
			if err != nil {
				b.Fatal(err)
			}
			defer l.Close()
			each(b, 1, func(i int) {
				id := &mesos.ContainerID{Value: new("c" + strconv.Itoa(i))}
				info := &isolation.LaunchInfo{
					Path: "/bin/true", Argv: []string{"true"}, Dir: "/", Stdout: filepath.Join(dir, "o"), Stderr: filepath.Join(dir, "e"),
					Preparation: c.p,
				}
				if _, err := l.Fork(b.Context(), id, &isolation.ForkInfo{CloneFlags: c.p.CloneFlags}); err != nil {
					b.Fatal(err)
				}
				if err := l.Start(b.Context(), id, info); err != nil {
					b.Fatal(err)
				}
				if status, err := l.Wait(b.Context(), id); err != nil || status != (isolation.ExitStatus{Known: true}) {
					b.Fatal(status, err)
				}
				if err := l.Remove(id); err != nil {
					b.Fatal(err)
				}
			})
		})
	}
}
