package selftest_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

func requireVM(t *testing.T) {
	t.Helper()
	if os.Getenv("CLUSTERD_VM") != "1" {
		t.Skip("only in the machine of internal/vmtest")
	}
}

func TestControllers(t *testing.T) {
	requireVM(t)
	b, err := os.ReadFile("/sys/fs/cgroup/cgroup.controllers")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"cpuset", "cpu", "io", "memory", "hugetlb", "pids"} {
		if !strings.Contains(" "+strings.TrimSpace(string(b))+" ", " "+want+" ") {
			t.Errorf("controller %s is not there: %s", want, b)
		}
	}
	for _, f := range []string{"cpu", "memory", "io"} {
		if _, err := os.ReadFile("/proc/pressure/" + f); err != nil {
			t.Errorf("pressure: %v", err)
		}
	}
}

// TestPrograms: the small programs are there.
func TestPrograms(t *testing.T) {
	requireVM(t)
	for _, p := range []string{"supervisor", "command-executor"} {
		if info, err := os.Stat(filepath.Join(os.Getenv("CLUSTERD_PROGRAMS"), p)); err != nil || info.Mode().Perm()&0o111 == 0 {
			t.Errorf("program %s: got %v, %v", p, info, err)
		}
	}
}

// TestRoot: the root can be changed, unlike that of an initial RAM disk.
func TestRoot(t *testing.T) {
	requireVM(t)
	dir := t.TempDir()
	cmd := exec.CommandContext(t.Context(), "sh", "-ec", `
mount --make-rprivate /
mount -t tmpfs none `+dir+`
mkdir `+dir+`/old `+dir+`/lower `+dir+`/upper `+dir+`/work `+dir+`/merged
echo text >`+dir+`/lower/file
mount -t overlay -o lowerdir=`+dir+`/lower,upperdir=`+dir+`/upper,workdir=`+dir+`/work overlay `+dir+`/merged
cat `+dir+`/merged/file
cd `+dir+`
pivot_root . old
`)
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
	if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "text") {
		t.Errorf("%v: %s", err, out)
	}
}

// TestModules: what the kernel lacks loads by itself.
func TestModules(t *testing.T) {
	requireVM(t)
	cmd := exec.CommandContext(t.Context(), "sh", "-exc", `
ip link set lo up
ip link add name left0 type veth
ip link add name br0 type bridge
ip link set left0 master br0
ip link add dummy0 type dummy
ip addr show lo
`)
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	if out, err := cmd.CombinedOutput(); err != nil || !bytes.Contains(out, []byte("127.0.0.1")) {
		t.Errorf("%v: %s", err, out)
	}
}

func TestDisks(t *testing.T) {
	requireVM(t)
	for _, dir := range []string{os.Getenv("CLUSTERD_VM_XFS"), os.Getenv("CLUSTERD_VM_XFS_NOQUOTA")} {
		var s unix.Statfs_t
		if err := unix.Statfs(dir, &s); err != nil || s.Type != unix.XFS_SUPER_MAGIC {
			t.Errorf("statfs %q: got type %x, %v", dir, s.Type, err)
		}
	}
	swap := os.Getenv("CLUSTERD_VM_SWAP")
	if out, err := exec.CommandContext(t.Context(), "swapon", swap).CombinedOutput(); err != nil {
		t.Fatalf("swapon %s: %v: %s", swap, err, out)
	}
	if out, err := exec.CommandContext(t.Context(), "swapoff", swap).CombinedOutput(); err != nil {
		t.Fatalf("swapoff: %v: %s", err, out)
	}
}

// TestBad fails, and leaves everything behind that can be left.
func TestBad(t *testing.T) {
	requireVM(t)
	if os.Getenv("SELFTEST_BAD") == "" {
		t.Skip("only for the test of failures")
	}
	out, err := exec.CommandContext(t.Context(), "sh", "-ec", `
mkdir -p /mnt/left /sys/fs/cgroup/left/below /tmp/left
mount -t tmpfs none /mnt/left
setsid sleep 1000 >/dev/null 2>&1 &
`).CombinedOutput()
	if err != nil {
		t.Errorf("%v: %s", err, out)
	}
	t.Run("Deep", func(t *testing.T) {
		t.Run("Down", func(t *testing.T) { t.Error("down it goes") })
		t.Run("Up", func(*testing.T) {})
	})
}
