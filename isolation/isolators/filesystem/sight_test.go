package filesystem_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	mesos "clusterd/api/mesos/v1"
	"clusterd/isolation/cgroups"
	"clusterd/isolation/isolationtest"
	"clusterd/isolation/setup"
)

// mountsOf renders the lines of a mountinfo as "POINT TYPE FLAGS", sorted. A file that is
// hidden is only "POINT hidden": the flags are those of the machine's /dev. What is the
// machine's file system has no type: that may be any.
func mountsOf(t *testing.T, text string) []string {
	t.Helper()
	var all []string
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		dash := slices.Index(f, "-")
		if len(f) < 8 || dash < 6 || !strings.HasPrefix(f[4], "/") {
			continue
		}
		if f[3] == "/null" {
			all = append(all, f[4]+" hidden")
			continue
		}
		var flags []string
		for _, flag := range []string{"ro", "rw", "nosuid", "nodev", "noexec"} {
			if slices.Contains(strings.Split(f[5], ","), flag) {
				flags = append(flags, flag)
			}
		}
		kind := f[dash+1]
		if f[4] == "/mnt/mesos/sandbox" || strings.HasPrefix(f[4], "/etc/") {
			kind = "any"
		}
		all = append(all, f[4]+" "+kind+" "+strings.Join(flags, ","))
	}
	slices.Sort(all)
	return all
}

// wantMounts are those of a container with an image, on this machine.
func wantMounts(t *testing.T) []string {
	t.Helper()
	const quiet = "nosuid,nodev,noexec"
	want := []string{
		"/ overlay rw", "/proc proc rw," + quiet, "/sys sysfs ro," + quiet, "/mnt/mesos/sandbox any rw",
		"/dev tmpfs rw,nosuid,noexec", "/dev/pts devpts rw,nosuid,noexec", "/dev/shm tmpfs rw,nosuid,nodev",
	}
	tree, err := cgroups.Open(setup.DefaultCgroupsHierarchy, "unused")
	if err != nil {
		t.Skip(err)
	}
	if err := tree.Use("memory"); err != nil {
		t.Skip(err)
	}
	if tree.Version("memory") == 2 {
		want = append(want, "/sys/fs/cgroup cgroup2 ro,"+quiet)
	} else {
		want = append(want, "/sys/fs/cgroup tmpfs ro,"+quiet)
		for _, s := range []string{"cpu", "cpuacct", "memory"} {
			want = append(want, "/sys/fs/cgroup/"+s+" cgroup ro,"+quiet)
		}
	}
	for _, path := range []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"} {
		if _, err := os.Lstat(path); err == nil {
			want = append(want, path+" proc ro,"+quiet)
		}
	}
	for _, path := range []string{"/etc/hosts", "/etc/hostname", "/etc/resolv.conf"} { // by network/cni
		if _, err := os.Stat(path); err == nil {
			want = append(want, path+" any ro,"+quiet)
		}
	}
	for _, path := range hidden {
		switch st, err := os.Lstat(path); {
		case err != nil:
		case st.IsDir():
			want = append(want, path+" sysfs ro,"+quiet)
		default:
			want = append(want, path+" hidden")
		}
	}
	slices.Sort(want)
	return want
}

var hidden = []string{
	"/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/key-users", "/proc/latency_stats",
	"/proc/sched_debug", "/proc/scsi", "/proc/timer_list", "/proc/timer_stats", "/sys/devices/virtual/powercap", "/sys/firmware",
}

// What a container with an image sees mounted is what is listed here, and root in it writes
// only where it is meant to. Where nothing is to be seen nothing can be put either, also by
// root who may mount: what hides is not the container's own.
func TestSightOfAnImage(t *testing.T) {
	m := newMachine(t, "namespaces/pid,namespaces/ipc,cgroups/cpu,cgroups/mem", true)
	config := m.container(`cat /proc/self/mountinfo
for d in / /tmp /proc /sys /dev /dev/pts /dev/shm $MESOS_SANDBOX /proc/bus /proc/fs /proc/irq /proc/sys/kernel /sys/kernel /sys/fs /sys/fs/cgroup /sys/fs/cgroup/* `+strings.Join(hidden, " ")+`; do
  [ -d $d ] || continue
  (: >$d/probe-by-root) 2>/dev/null && echo "made in $d"
done
for f in /proc/sys/kernel/domainname /proc/sysrq-trigger /proc/irq/default_smp_affinity /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max; do
  [ -e $f ] && { (echo 0 >$f) 2>/dev/null && echo "wrote $f"; }
done
for h in `+strings.Join(hidden, " ")+`; do
  [ -d $h ] && { [ -z "$(ls -A $h)" ] || echo "seen in $h"; }
  [ -f $h ] && echo "a file at $h"
  [ -c $h ] && { [ -z "$(cat $h)" ] || echo "read $h"; }
  [ -d $h ] && mount -o remount,bind,rw $h 2>/dev/null && { mkdir $h/x || (: >$h/x); } 2>/dev/null && echo "put into $h"
done
echo done`, "c")
	config.Resources = []*mesos.Resource{isolationtest.Scalar("cpus", 1), isolationtest.Scalar("mem", 64)}
	got := m.output(config)
	if diff := cmp.Diff(wantMounts(t), mountsOf(t, got)); diff != "" {
		t.Errorf("mounts (-want +got):\n%s", diff)
	}
	var rest []string
	for line := range strings.Lines(got) {
		if f := strings.Fields(line); !slices.Contains(f, "-") {
			rest = append(rest, strings.TrimSpace(line))
		}
	}
	want := []string{"made in /", "made in /tmp", "made in /dev", "made in /dev/shm", "made in /mnt/mesos/sandbox", "done"}
	if diff := cmp.Diff(want, rest); diff != "" {
		t.Errorf("what was written (-want +got):\n%s", diff)
	}
}

// What is mounted on is not made in each root.
func TestRootHoldsNoMountPoints(t *testing.T) {
	for name, isolators := range map[string]string{"root": "namespaces/pid,namespaces/ipc", "users": "namespaces/pid,namespaces/user"} {
		t.Run(name, func(t *testing.T) { // overlayfs takes no commas in paths
			m := newMachine(t, isolators, true, users)
			open(t, m.work)
			for _, d := range []string{"proc", "sys", "dev"} {
				if err := os.Remove(filepath.Join(m.options.Provisioner.(*trees).lower, d)); err != nil {
					t.Fatal(err)
				}
			}
			config := m.container(`echo "$(stat -c '%a %u %g' /mnt /mnt/mesos)"; echo x >/own`, "c")
			got := m.output(config)
			if got != "755 0 0\n755 0 0\n" {
				t.Errorf("above the sandbox: got %q", got)
			}
			uppers, err := filepath.Glob(m.work + "/provisioner/*/changes/upper")
			if err != nil || len(uppers) != 1 {
				t.Fatalf("roots: got %v, %v", uppers, err)
			}
			entries, err := os.ReadDir(uppers[0])
			if err != nil || len(entries) != 1 || entries[0].Name() != "own" {
				t.Errorf("what was written: got %v, %v, want what the container wrote", entries, err)
			}
		})
	}
}
