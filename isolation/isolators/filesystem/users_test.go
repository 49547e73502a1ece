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
	"clusterd/isolation/mounts"
	"clusterd/isolation/setup"
)

// users are the ids that containers of these tests get.
func users(o *setup.Options) { o.Users.First, o.Users.Last = 1<<20, 1<<20+8*65536-1 }

func TestUserNamespace(t *testing.T) {
	for name, c := range map[string]struct{ image, overlay bool }{"machine's files": {}, "overlay": {true, true}, "copy": {true, false}} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t, "namespaces/user,namespaces/pid,namespaces/ipc,volume/secret", c.image, users)
			if c.image {
				m.options.Provisioner.(*trees).overlay = c.overlay
			}
			mkdir(t, m.work+"/volumes/roles/r/v")
			mkdir(t, m.work+"/volumes/roles/r/late")
			for _, dir := range []string{filepath.Dir(m.work), m.work} { // all may pass
				if err := os.Chmod(dir, 0o755); err != nil {
					t.Fatal(err)
				}
			}
			host := t.TempDir()
			if err := os.Chmod(host, 0o700); err != nil {
				t.Fatal(err)
			}
			v, late := persistentVolume("v", "r", "volume", mesos.Volume_RW), persistentVolume("late", "r", "late", mesos.Volume_RW)
			config := m.container(`
cd ${MESOS_SANDBOX:-.}
echo "id $(id -u):$(id -g)"
while read i o n; do echo "map $i $o $n"; done </proc/self/uid_map
echo x >new; chown 7:8 new; echo "new $(stat -c %u:%g new)"
echo x >volume/new; echo "volume $(stat -c %u:%g volume volume/new | while read l; do echo -n "$l "; done)"
echo "secret $(cat secret) $(stat -c %u:%g:%a secret)"
echo "null $(stat -c %u /dev/null)"; echo x >/dev/null && echo "null works"
mount -t tmpfs none /tmp 2>/dev/null || echo "no mount"
mount -o remount,rw /sys 2>/dev/null || echo "no remount"
umount /proc 2>/dev/null || echo "no umount"
mknod mem c 1 1 2>/dev/null || echo "no device"
ls host >/dev/null 2>&1 || echo "no host"
(echo 1 >/proc/sys/kernel/panic) 2>/dev/null || echo "no /proc/sys"
[ -w /etc/passwd ] && echo "passwd $(stat -c %u /etc/passwd)" && echo more >>/etc/passwd && echo "image written"
echo "shm $(echo x >/dev/shm/x && stat -c %u /dev/shm/x)"
while [ ! -d late ] || ! (echo x >late/new) 2>/dev/null; do sleep 0.05; done; echo "late $(stat -c %u late/new)"
echo ready; while :; do sleep 1; done`, "c")
			if err := os.Chmod(config.Sandbox, 0o750); err != nil { // as the agent makes it
				t.Fatal(err)
			}
			config.Resources = []*mesos.Resource{v}
			config.ContainerInfo.Volumes = []*mesos.Volume{secretVolume("psst", "secret"), hostVolume(mesos.Volume_RW, host, "host")}
			m.launch(config)
			m.eventually(config, "shm")
			if err := m.Update(m.context(), config.ID, []*mesos.Resource{v, late}, nil); err != nil {
				t.Fatal(err)
			}
			m.eventually(config, "ready\n")
			got := m.wrote(config)
			contains(t, got, "id 0:0", "map 0 1048576 65536", "new 7:8", "volume 0:0 0:0 ", "secret psst 0:0:600", "null works",
				"no mount", "no remount", "no umount", "no device", "no host", "no /proc/sys", "shm 0", "late 0")
			if c.image {
				contains(t, got, "passwd 0", "image written")
			}
			// On the disk everybody is who they are inside.
			for path, want := range map[string]uint32{config.Sandbox + "/new": 7, m.work + "/volumes/roles/r/v/new": 0, m.work + "/volumes/roles/r/late/new": 0} {
				if st := stat(t, path); st.Uid != want {
					t.Errorf("owner of %s on the disk: got %d, want %d", path, st.Uid, want)
				}
			}
			// The command is nobody of the machine's.
			status, err := m.Status(m.context(), config.ID)
			if err != nil {
				t.Fatal(err)
			}
			var st unix.Stat_t
			if err := unix.Stat(fmt.Sprintf("/proc/%d", status.GetExecutorPid()), &st); err != nil || st.Uid != 1<<20 {
				t.Errorf("owner of the command: got %d, %v", st.Uid, err)
			}

			// Nested containers have the same ids, and others have not, also with another agent.
			known := []isolation.ContainerConfig{*config}
			known[0].Resources = []*mesos.Resource{v, late}
			if err := m.Close(); err != nil {
				t.Fatal(err)
			}
			m.start(known)
			nested := m.container(`cat /proc/self/uid_map; stat -c "shared %u" /s/new; echo x >/s/mine; stat -c "mine %u" /s/mine; stat -c "volume %u" /v/new; echo x >/v/nested && echo "written"`, "c", "n")
			if !c.image {
				nested.Command.Value = new(strings.NewReplacer("/s/", "s/", "/v/", "v/").Replace(nested.Command.GetValue()))
			}
			for path, source := range map[string]string{"s": ".", "v": "volume"} {
				if c.image {
					path = "/" + path
				}
				nested.ContainerInfo.Volumes = append(nested.ContainerInfo.Volumes, sandboxVolume(mesos.Volume_Source_SandboxPath_PARENT, source, path))
			}
			got = m.output(nested)
			contains(t, got, "         0    1048576      65536", "shared 7", "mine 0", "volume 0", "written")
			other := m.container(`cat /proc/self/uid_map`, "other")
			contains(t, m.output(other), "         0    1114112      65536")
			for _, c := range []*isolation.ContainerConfig{nested, other, config} {
				m.end(c)
			}
			for _, dir := range []string{m.work + "/slaves", m.run} {
				if points, err := mounts.Below(dir); err != nil || len(points) > 0 {
					t.Errorf("mounts left: %v, %v", points, err)
				}
			}
		})
	}
}
