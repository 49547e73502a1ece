package filesystem_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	mesos "clusterd/api/mesos/v1"
	"clusterd/isolation"
	"clusterd/isolation/isolationtest"
	"clusterd/isolation/mounts"
	"clusterd/isolation/setup"
)

// open lets everybody pass to what is in a test's directory.
func open(t *testing.T, dir string) {
	t.Helper()
	for _, d := range []string{filepath.Dir(dir), dir} {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
}

// A task that is not root owns its sandbox and its secrets, and nothing else.
func TestOtherUser(t *testing.T) {
	const nobody = 65534
	for _, image := range []bool{false, true} {
		for _, isolators := range []string{"volume/secret", "volume/secret,namespaces/user,namespaces/pid"} {
			t.Run(fmt.Sprintf("image=%v %s", image, strings.ReplaceAll(isolators, ",", " ")), func(t *testing.T) {
				m := newMachine(t, isolators, image, users)
				open(t, m.work)
				if image {
					write(t, m.options.Provisioner.(*trees).lower+"/etc/passwd", "root:x:0:0:root:/:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n")
				}
				mkdir(t, m.work+"/volumes/roles/r/v")
				config := m.container(`
cd ${MESOS_SANDBOX:-.}
echo "id $(id -u)"
echo x >mine && echo "mine $(stat -c %u mine)"
echo x >volume/mine && echo "volume $(stat -c %u volume/mine)"
echo "secret $(cat secret) $(stat -c %a:%u secret)"
(echo x >/etc/passwd) 2>/dev/null || echo "no /etc/passwd"
echo "privileges $(while read k v; do [ $k = NoNewPrivs: ] && echo $v; done </proc/self/status)"`, "c")
				config.User = "nobody"
				if err := os.Chown(config.Sandbox, nobody, nobody); err != nil {
					t.Fatal(err)
				}
				config.Resources = []*mesos.Resource{persistentVolume("v", "r", "volume", mesos.Volume_RW)}
				config.ContainerInfo.Volumes = []*mesos.Volume{secretVolume("psst", "secret")}
				want := "privileges 0"
				if !image {
					// Whoever may hide /opt from setuid programs must not gain by it.
					want = "privileges 1"
					config.ContainerInfo.Volumes = append(config.ContainerInfo.Volumes, sandboxVolume(mesos.Volume_Source_SandboxPath_SELF, "opt", "/opt"))
				}
				contains(t, m.output(config), "id 65534", "mine 65534", "volume 65534", "secret psst 600:65534", "no /etc/passwd", want)
				for _, f := range []string{config.Sandbox + "/mine", m.work + "/volumes/roles/r/v/mine"} {
					if st := stat(t, f); st.Uid != nobody {
						t.Errorf("owner of %s: got %d", f, st.Uid)
					}
				}
			})
		}
	}
}

// Programs look for their limits in cgroups.
func TestCgroupsAreSeen(t *testing.T) {
	m := newMachine(t, "cgroups/cpu,cgroups/mem", true)
	config := m.container(`for f in memory/memory.limit_in_bytes memory.max; do cat /sys/fs/cgroup/$f; done 2>/dev/null
mkdir /sys/fs/cgroup/x 2>/dev/null || mkdir /sys/fs/cgroup/memory/x 2>/dev/null || echo "none made"`, "c")
	config.Resources = []*mesos.Resource{isolationtest.Scalar("cpus", 1), isolationtest.Scalar("mem", 64)}
	contains(t, m.output(config), "67108864", "none made")
}

func TestSharedMemory(t *testing.T) {
	m := newMachine(t, "namespaces/ipc,namespaces/pid", true)
	linux := func(mode mesos.LinuxInfo_IpcMode, mb uint32) *mesos.LinuxInfo {
		info := &mesos.LinuxInfo{IpcMode: mode.Enum()}
		if mb > 0 {
			info.ShmSize = &mb
		}
		return info
	}
	top := m.container(`echo top >/dev/shm/x; stat -f -c "blocks %b of %s" /dev/shm; echo ready; while :; do sleep 1; done`, "c")
	top.ContainerInfo.LinuxInfo = linux(mesos.LinuxInfo_PRIVATE, 2)
	m.launch(top)
	m.eventually(top, "ready\n")
	contains(t, m.wrote(top), "blocks 512 of 4096")
	share := m.container(`cat /dev/shm/x; readlink /proc/self/ns/ipc`, "c", "share")
	share.ContainerInfo.LinuxInfo = linux(mesos.LinuxInfo_SHARE_PARENT, 0)
	own := m.container(`ls /dev/shm; readlink /proc/self/ns/ipc`, "c", "own")
	own.ContainerInfo.LinuxInfo = linux(mesos.LinuxInfo_PRIVATE, 0)
	debug := m.container(`cat /dev/shm/x; readlink /proc/self/ns/ipc; readlink /proc/1/exe >/dev/null; cat /proc/1/comm; echo $MESOS_SANDBOX; ls -d $MESOS_SANDBOX`, "c", "debug")
	debug.ContainerInfo = nil
	debug.Class = isolation.ClassDebug
	status, err := m.Status(m.context(), top.ID)
	if err != nil {
		t.Fatal(err)
	}
	namespace, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/ipc", status.GetExecutorPid()))
	if err != nil {
		t.Fatal(err)
	}
	if got := m.output(share); got != "top\n"+namespace+"\n" {
		t.Errorf("shares the parent's: got %q", got)
	}
	if got := m.output(own); strings.Contains(got, "x") || strings.Contains(got, namespace) {
		t.Errorf("has its own: got %q", got)
	}
	contains(t, m.output(debug), "top", namespace, "supervisor", "/mnt/mesos/sandbox")
	for _, c := range []*isolation.ContainerConfig{share, own, debug, top} {
		m.end(c)
	}
	if points, err := mounts.Below(m.run); err != nil || len(points) > 0 {
		t.Errorf("mounts left: %v, %v", points, err)
	}
}

// What the container mounts in a volume that propagates both ways, the machine sees.
func TestMountPropagation(t *testing.T) {
	for _, image := range []bool{false, true} {
		t.Run(fmt.Sprintf("image=%v", image), func(t *testing.T) {
			m := newMachine(t, "", image)
			host := unmounted(t, t.TempDir())
			if err := mounts.EnsureShared(host); err != nil {
				t.Fatal(err)
			}
			mkdir(t, host+"/in")
			mkdir(t, host+"/out")
			config := m.container(`[ -n "$MESOS_SANDBOX" ] && cd $MESOS_SANDBOX
mount -t tmpfs none both/in && echo mounted; while [ ! -e both/out/x ]; do sleep 0.02; done; echo seen; while :; do sleep 1; done`, "c")
			config.ContainerInfo.Volumes = []*mesos.Volume{{Mode: mesos.Volume_RW.Enum(), ContainerPath: new("both"), Source: &mesos.Volume_Source{
				Type: mesos.Volume_Source_HOST_PATH.Enum(),
				HostPath: &mesos.Volume_Source_HostPath{
					Path: &host, MountPropagation: &mesos.MountPropagation{Mode: mesos.MountPropagation_BIDIRECTIONAL.Enum()},
				},
			}}}
			m.launch(config)
			m.eventually(config, "mounted\n")
			if on, err := mounts.MountedOn(host, "in"); !on || err != nil {
				t.Errorf("what the container mounted: got %v, %v", on, err)
			}
			if err := unix.Mount("none", host+"/out", "tmpfs", 0, ""); err != nil {
				t.Fatal(err)
			}
			write(t, host+"/out/x", "")
			m.eventually(config, "seen\n")
		})
	}
}

func TestSharedFilesystem(t *testing.T) {
	m := newMachine(t, "", false, func(o *setup.Options) { o.Isolation = "filesystem/shared" })
	config := m.container(`echo x >/mnt/new; ls /mnt; stat -c %a /mnt`, "c")
	config.ContainerInfo.Volumes = []*mesos.Volume{hostVolume(mesos.Volume_RW, "private", "/mnt")}
	contains(t, m.output(config), "new", "755")
	if _, err := os.Stat(config.Sandbox + "/private/new"); err != nil {
		t.Error(err)
	}
	for name, v := range map[string]*mesos.Volume{
		"under the sandbox": hostVolume(mesos.Volume_RW, "/tmp", config.Sandbox),
		"relative":          hostVolume(mesos.Volume_RW, "/tmp", "v"),
		"out":               hostVolume(mesos.Volume_RW, "../x", "/mnt"),
		"nothing":           hostVolume(mesos.Volume_RW, "/tmp", "/does/not/exist"),
		"secret":            secretVolume("s", "/mnt"),
	} {
		config := m.container("true", "c-"+strings.ReplaceAll(name, " ", "-"))
		config.ContainerInfo.Volumes = []*mesos.Volume{v}
		if name == "under the sandbox" {
			config.Sandbox = *v.ContainerPath
		}
		if err := m.Launch(m.context(), config); err == nil {
			t.Errorf("%s: got no error", name)
			m.end(config)
		}
	}
}
