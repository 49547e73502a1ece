// Package vmtest runs tests of other packages as root in a virtual machine that has
// what the machine itself may lack: cgroup v2 with all controllers, XFS with project
// quotas, netem, a kernel of Debian 12. One boot runs a list of packages; `go test
// ./internal/vmtest` reports each inner test as a subtest of its own.
//
// # Adding a package
//
// Add a line to the table in vm_test.go: the package, a pattern of tests (all when
// empty), and files of this machine that the tests execute or read (Files: programs
// come with their shared libraries). The tests find themselves in the package's folder
// with its testdata, and nothing else of the repository. They know the machine by
// CLUSTERD_VM=1 (InVM). Further variables:
//
//	CLUSTERD_PROGRAMS         our small programs (internal/bin), built beforehand;
//	                          isolationtest.Programs takes them: there is no Go here
//	CLUSTERD_VM_XFS           a mount of XFS with project quotas, 1 GiB
//	CLUSTERD_VM_XFS_NOQUOTA   a mount of XFS without any
//	CLUSTERD_VM_SWAP          a disk of 64 MiB that may be given to swapon(2)
//
// The root is ext4 on virtio, shared with other mount namespaces; cgroup v2 is at
// /sys/fs/cgroup with no controller given to children yet; the usual commands are
// busybox's, sh, ps and ls this machine's own; kernel modules load by themselves when
// they are needed; there is no network but lo. The kernel's threads apart, init and the tests are all that runs.
// A tenth of the machine's own speed must do: no test may rest on being quick.
//
// When a package's tests have ended whatever they left is removed: processes, mounts,
// cgroups, network links, files in /tmp. Each is a failure of the subtest Residue.
//
// # By hand
//
//	make vm PKG=./isolation/cgroups RUN=TestKill
//
// boots for one package and shows what its tests write, as they write it.
//
// What is booted lies in bin/vm and is put there by scripts/vm.sh. Where it is missing
// the test is skipped, or fails when CLUSTERD_VM_REQUIRED is set, as make test does.
//
// Machine is the main type; it is used by one goroutine. The package is imported by
// tests only.
package vmtest

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"
	"time"

	"clusterd/internal/vmtest/plan"
)

// ErrMissing says that something is not installed that a machine needs.
var ErrMissing = errors.New("missing")

// ErrMachine says that a machine ended before it had done its work.
var ErrMachine = errors.New("the virtual machine ended too early")

// InVM says whether this process runs in a machine of this package.
func InVM() bool { return os.Getenv("CLUSTERD_VM") == "1" }

// Package is one whose tests are run.
type Package struct {
	// Path is the import path, or that of a folder ("./isolation").
	Path string
	// Run and Skip are patterns as of go test.
	Run, Skip string
	// Files are paths on this machine that are there in the virtual one too.
	Files []string
	// Timeout is how long all tests of the package may take; 0: ten minutes. A machine
	// that is busy with other things makes this one many times slower.
	Timeout time.Duration
	// Env is added to the environment.
	Env []string
}

// Machine is a virtual machine with a plan of tests.
type Machine struct {
	// Root is the repository's folder.
	Root string
	// Dir is an empty folder for disks; whoever makes the machine deletes it.
	Dir string
	// Packages are tested in this order.
	Packages []Package
	// MemoryMB and CPUs of the machine; 0: 1536 and 2.
	MemoryMB, CPUs int
	// Live gets what the tests write as they write it, when it is not nil.
	Live io.Writer

	processorTime time.Duration
}

// ProcessorTime is what the machine has taken, after Run: unlike the time that passes,
// it does not depend on what else runs on this one.
func (m *Machine) ProcessorTime() time.Duration { return m.processorTime }

// Result is what became of one package's tests.
type Result struct {
	// Package is its import path.
	Package string
	// Output is what the tests wrote, for test2json.
	Output []byte
	// End is nil when the machine ended first.
	End *plan.End
}

// Missing names what a machine needs and cannot find; nil when nothing is.
func (m *Machine) Missing() error {
	if runtime.GOOS != "linux" || runtime.GOARCH != "amd64" {
		return fmt.Errorf("%w: a machine with Linux on amd64", ErrMissing)
	}
	for _, f := range []string{"vmlinuz", "busybox", "modules"} {
		if _, err := os.Stat(m.file(f)); err != nil {
			return fmt.Errorf("%w: %s (run scripts/vm.sh)", ErrMissing, m.file(f))
		}
	}
	for _, program := range []string{"qemu-system-x86_64", "mke2fs", "mkfs.xfs"} {
		if _, err := lookPath(program); err != nil {
			return fmt.Errorf("%w: %s (run scripts/vm.sh)", ErrMissing, program)
		}
	}
	return nil
}

func (m *Machine) file(name string) string { return filepath.Join(m.Root, "bin", "vm", name) }

// lookPath finds programs of administrators too, where PATH leaves them out.
func lookPath(program string) (string, error) {
	path, err := exec.LookPath(program)
	if err == nil {
		return path, nil
	}
	for _, dir := range []string{"/usr/sbin", "/sbin"} {
		if path, err := exec.LookPath(filepath.Join(dir, program)); err == nil {
			return path, nil
		}
	}
	return "", err
}

// Run builds everything, boots, runs the plan and returns a result for each package,
// also when it returns an error. The kernel's messages are in console.log in Dir.
func (m *Machine) Run(ctx context.Context) ([]Result, error) {
	p, err := m.build(ctx)
	if err != nil {
		return nil, err
	}
	socket := filepath.Join(m.Dir, "port")
	listener, err := (&net.ListenConfig{}).Listen(ctx, "unix", socket)
	if err != nil {
		return nil, err
	}
	defer listener.Close()
	outer := ctx
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ended := make(chan error, 1)
	go func() {
		err := m.qemu(ctx, socket)
		listener.Close() // qemu may never have come to it
		ended <- err
	}()
	results, done, err := m.collect(ctx, listener, p)
	cancel() // there is nothing in it that must be shut down
	qemuErr := <-ended
	if done {
		return results, nil
	}
	return results, fmt.Errorf("%w: %w", ErrMachine, errors.Join(outer.Err(), err, qemuErr))
}

// qemu runs until the machine switches itself off.
func (m *Machine) qemu(ctx context.Context, socket string) error {
	// The process must not outlive this one, however it ends; the signal is bound to
	// the thread that starts it.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	accel := os.Getenv("CLUSTERD_VM_ACCEL")
	if accel == "" {
		accel = "tcg,thread=multi" // kvm hangs where machines are nested
	}
	memory, cpus := m.MemoryMB, m.CPUs
	if memory == 0 {
		memory = 1536
	}
	if cpus == 0 {
		cpus = 2
	}
	args := []string{
		"-nodefaults", "-no-user-config", "-no-reboot", "-display", "none", "-machine", "q35", "-accel", accel,
		"-cpu", "max,-erms,-fsrm", // emulated, those copy byte by byte
		"-m", strconv.Itoa(memory), "-smp", strconv.Itoa(cpus),
		"-kernel", m.file("vmlinuz"), "-initrd", filepath.Join(m.Dir, "initrd"),
		"-append", "console=ttyS0 loglevel=4 panic=-1 reboot=t cgroup_no_v1=all random.trust_cpu=on mitigations=off hugepages=8 audit=0 tsc=reliable no_timer_check",
		"-serial", "file:" + filepath.Join(m.Dir, "console.log"),
		"-chardev", "socket,id=port,path=" + socket,
		"-device", "virtio-serial-pci", "-device", "virtserialport,chardev=port,name=" + plan.Port,
		"-device", "virtio-rng-pci",
	}
	for i, disk := range []string{"root.img", "xfs.img", "xfs-noquota.img", "swap.img"} {
		id := "disk" + strconv.Itoa(i)
		args = append(args, "-drive", "id="+id+",if=none,format=raw,cache=unsafe,file="+filepath.Join(m.Dir, disk), "-device", "virtio-blk-pci,drive="+id)
	}
	cmd := exec.CommandContext(ctx, "qemu-system-x86_64", args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := cmd.CombinedOutput()
	if s := cmd.ProcessState; s != nil {
		m.processorTime = s.UserTime() + s.SystemTime()
	}
	if err != nil {
		return fmt.Errorf("qemu: %w: %s", err, out)
	}
	return nil
}

// bootTime is how long the machine may be silent beside running tests. It boots in five
// seconds when it has a processor for itself.
const bootTime = time.Minute

// collect reads what the machine tells until it is done or gone.
func (m *Machine) collect(ctx context.Context, listener net.Listener, p *plan.Plan) (results []Result, done bool, err error) {
	byName := make(map[string]*Result)
	results = make([]Result, len(p.Runs))
	for i, r := range p.Runs {
		results[i].Package = r.Package
		byName[r.Package] = &results[i]
	}
	conn, err := listener.Accept()
	if err != nil {
		return results, false, fmt.Errorf("wait for qemu: %w", err)
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	left := p.Runs
	for dec := json.NewDecoder(bufio.NewReaderSize(conn, 1<<16)); ; {
		// The machine kills runs that take too long; when it does not, it hangs.
		limit := bootTime
		if len(left) > 0 {
			limit += time.Duration(left[0].Seconds) * time.Second
		}
		if err := conn.SetReadDeadline(time.Now().Add(limit)); err != nil {
			return results, false, err
		}
		var rec plan.Record
		if err := dec.Decode(&rec); err != nil {
			return results, false, fmt.Errorf("read what the machine says: %w", err)
		}
		if rec.Done {
			return results, true, nil
		}
		r := byName[rec.Package]
		if r == nil {
			return results, false, fmt.Errorf("the machine speaks of package %q", rec.Package)
		}
		r.Output = append(r.Output, rec.Output...)
		if rec.End != nil {
			r.End = rec.End
			left = left[1:]
		}
		if m.Live != nil {
			if err := m.live(rec); err != nil {
				return results, false, err
			}
		}
	}
}

func (m *Machine) live(rec plan.Record) error {
	if rec.End != nil {
		_, err := fmt.Fprintf(m.Live, "%s: exit status %d after %.1f s; left behind: %q\n", rec.Package, rec.End.Code, rec.End.Seconds, rec.End.Residue)
		return err
	}
	_, err := m.Live.Write(removeMarks(rec.Output))
	return err
}

// removeMarks removes what -test.v=test2json puts before lines that it means.
func removeMarks(b []byte) []byte {
	kept := make([]byte, 0, len(b))
	for _, c := range b {
		if c != 0x16 {
			kept = append(kept, c)
		}
	}
	return kept
}
