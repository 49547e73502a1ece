package doctor

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"clusterd/internal/flags"
)

// host is the machine that is looked at. Tests give it another root and other answers of
// the kernel.
type host struct {
	// root is what /proc and /sys lie below.
	root    string
	workDir string
	uid     int
	// release is the kernel's, as uname says it.
	release string
	// files is how many files a process may have open.
	files uint64
	// synchronized says whether the kernel's clock is kept right.
	synchronized func() (bool, error)
	lookup       func(ctx context.Context, name string) ([]string, error)
	name         string
}

// thisHost is the machine that the command runs on.
func thisHost(workDir string) *host {
	h := &host{root: "/", workDir: workDir, uid: os.Geteuid(), synchronized: clockSynchronized, lookup: net.DefaultResolver.LookupHost}
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		h.release = unix.ByteSliceToString(u.Release[:])
	}
	var limit unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &limit) == nil {
		h.files = limit.Max
	}
	if name, err := os.Hostname(); err == nil {
		h.name = name
	}
	return h
}

// read returns a file below the root, empty if it cannot be read.
func (h *host) read(path string) string {
	b, err := os.ReadFile(filepath.Join(h.root, path))
	if err != nil {
		return "" // what the kernel does not show is not there
	}
	return strings.TrimSpace(string(b))
}

func (h *host) has(path string) bool {
	_, err := os.Lstat(filepath.Join(h.root, path))
	return err == nil
}

// hostChecks are the checks of a host.
var hostChecks = []check[*host]{
	{"kernel", "the kernel's version", checkKernel},
	{"root", "whether tasks can be held apart at all", checkRoot},
	{"cgroups", "control groups and their controllers", checkCgroups},
	{"namespaces", "namespaces", checkNamespaces},
	{"overlay", "the file system of images", checkOverlay},
	{"seccomp", "system call filters", checkSeccomp},
	{"ports", "the ports of master and agent", checkPorts},
	{"clock", "whether the clock is kept right", checkClock},
	{"disk", "space, inodes and speed of the work directory's disk", checkDisk},
	{"limits", "how many files and processes there may be", checkLimits},
	{"memory", "memory and swap", checkMemory},
	{"hostname", "whether others find this host by its name", checkHostname},
	{"docker", "the Docker engine", checkDocker},
	{"cni", "the plugins of container networks", checkCNI},
}

// numbers reads the leading numbers of a version, such as 6.1 of 6.1.0-18-amd64.
func numbers(version string) (major, minor int) {
	_, err := fmt.Sscanf(version, "%d.%d", &major, &minor)
	if err != nil {
		return 0, 0
	}
	return major, minor
}

func checkKernel(_ context.Context, h *host) []Finding {
	major, minor := numbers(h.release)
	at := func(a, b int) bool { return major > a || major == a && minor >= b }
	switch {
	case major == 0:
		return bad(Warning, "the kernel's version "+strconv.Quote(h.release)+" cannot be read", "what it can do is not known", "uname -r")
	case !at(4, 18):
		return bad(Problem, "Linux "+h.release+" is too old", "containers need 4.18 at least (user namespaces with mounts, cgroup v2)", "upgrade the kernel; 5.14 or newer is best")
	case !at(5, 7):
		return bad(Note, "Linux "+h.release+" works", "from 5.7 on tasks are born in their control group, and cannot fork out of sight", "5.14 or newer is best")
	}
	return good("Linux %s", h.release)
}

func checkRoot(_ context.Context, h *host) []Finding {
	if h.uid != 0 {
		return bad(Note, "this is not run as root", "an agent that is not root starts tasks as itself and holds them apart by nothing but processes", "sudo clusterd doctor, to see what an agent as root would find")
	}
	return good("run as root")
}

// controllers that isolators use.
var controllers = []string{"cpu", "memory", "pids", "io", "cpuset"}

func checkCgroups(_ context.Context, h *host) []Finding {
	switch v2, named := h.unified(); {
	case v2:
		has := strings.Fields(h.read("sys/fs/cgroup/cgroup.controllers"))
		lacks := slices.DeleteFunc(slices.Clone(controllers), func(c string) bool { return slices.Contains(has, c) })
		if len(lacks) > 0 {
			return bad(Warning, "cgroup v2 without "+strings.Join(lacks, ", "), "isolators of these are refused", "remove what the kernel's command line disables, or delegate them (systemd: Delegate=yes)")
		}
		return good("cgroup v2 with %s", strings.Join(has, ", "))
	case len(named) == 0:
		return bad(Problem, "no control groups are mounted", "tasks cannot be limited, and --launcher=linux does not work", "mount -t cgroup2 none /sys/fs/cgroup")
	default:
		lacks := slices.DeleteFunc([]string{"cpu", "memory", "freezer"}, func(c string) bool { return slices.Contains(named, c) })
		if len(lacks) > 0 {
			return bad(Warning, "cgroup v1 without "+strings.Join(lacks, ", "), "isolators of these are refused", "mount them below /sys/fs/cgroup, or boot with cgroup v2")
		}
		return bad(Note, "cgroup v1 with "+strings.Join(named, ", "), "everything works; v2 has pressure and limits of input and output that hold", "boot with systemd.unified_cgroup_hierarchy=1 for v2")
	}
}

// unified tells whether /sys/fs/cgroup is cgroup v2, and which controllers v1 has mounted.
func (h *host) unified() (v2 bool, v1 []string) {
	for line := range strings.Lines(h.read("proc/self/mountinfo")) {
		left, right, ok := strings.Cut(strings.TrimSpace(line), " - ")
		before, after := strings.Fields(left), strings.Fields(right)
		if !ok || len(before) < 5 || len(after) < 3 {
			continue
		}
		switch after[0] {
		case "cgroup2":
			v2 = v2 || before[4] == "/sys/fs/cgroup"
		case "cgroup":
			for option := range strings.SplitSeq(after[2], ",") {
				if option != "rw" && option != "ro" && !strings.Contains(option, "=") && !slices.Contains(v1, option) {
					v1 = append(v1, option)
				}
			}
		}
	}
	slices.Sort(v1)
	return v2, v1
}

func checkNamespaces(_ context.Context, h *host) []Finding {
	var lacks []string
	for _, ns := range []string{"mnt", "pid", "ipc", "net", "uts", "user", "cgroup"} {
		if !h.has("proc/self/ns/" + ns) {
			lacks = append(lacks, ns)
		}
	}
	if len(lacks) > 0 {
		return bad(Problem, "the kernel has no namespaces of "+strings.Join(lacks, ", "), "isolators that need them are refused", "use a kernel that has them")
	}
	if h.read("proc/sys/user/max_user_namespaces") == "0" {
		return bad(Warning, "user namespaces are forbidden", "--isolation=namespaces/user does not work: root in a task is root of the host", "sysctl user.max_user_namespaces=15000")
	}
	return good("mnt, pid, ipc, net, uts, user, cgroup")
}

func checkOverlay(_ context.Context, h *host) []Finding {
	if strings.Contains(h.read("proc/filesystems"), "\toverlay") {
		return good("overlayfs is there")
	}
	return bad(Warning, "overlayfs is not there", "images are copied for each container (--image_provisioner_backend=copy), which is slow", "modprobe overlay")
}

func checkSeccomp(_ context.Context, h *host) []Finding {
	if h.has("proc/sys/kernel/seccomp/actions_avail") {
		return good("filters can be set")
	}
	return bad(Warning, "the kernel has no seccomp filters", "--isolation=linux/seccomp is refused", "use a kernel with CONFIG_SECCOMP_FILTER")
}

func checkClock(_ context.Context, h *host) []Finding {
	ok, err := h.synchronized()
	switch {
	case err != nil:
		return bad(Note, "it cannot be told whether the clock is kept right: "+err.Error(), "", "")
	case !ok:
		return bad(Warning, "nothing keeps the clock right", "clocks that differ make tokens and certificates invalid, and times in logs useless", "install chrony or systemd-timesyncd")
	}
	return good("the clock is kept right")
}

// clockSynchronized asks the kernel (adjtimex).
func clockSynchronized() (bool, error) {
	const unsynchronized = 0x40 // STA_UNSYNC
	var t unix.Timex
	if _, err := unix.Adjtimex(&t); err != nil {
		return false, err
	}
	return t.Status&unsynchronized == 0, nil
}

func checkLimits(_ context.Context, h *host) []Finding {
	var found []Finding
	if h.files < 65536 {
		found = append(found, bad(Warning, fmt.Sprintf("a process may open %d files", h.files), "a master has one for every agent, framework and reader", "systemd: LimitNOFILE=1048576; by hand: ulimit -n 1048576")...)
	}
	pids, err := strconv.Atoi(h.read("proc/sys/kernel/pid_max"))
	if err == nil && pids < 65536 {
		found = append(found, bad(Note, fmt.Sprintf("there may be %d processes and threads", pids), "a thousand containers with many threads need more", "sysctl kernel.pid_max=4194304")...)
	}
	if found == nil {
		return good("%d open files, pid_max %d", h.files, pids)
	}
	return found
}

func checkMemory(_ context.Context, h *host) []Finding {
	mem := map[string]uint64{}
	for line := range strings.Lines(h.read("proc/meminfo")) {
		name, value, _ := strings.Cut(line, ":")
		if kb, err := strconv.ParseUint(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 10, 64); err == nil {
			mem[name] = kb >> 10
		}
	}
	total, available := mem["MemTotal"], mem["MemAvailable"]
	switch {
	case total == 0:
		return bad(Note, "it cannot be told how much memory there is", "", "")
	case available*20 < total:
		return bad(Warning, fmt.Sprintf("%d of %d MB of memory are available", available, total), "the kernel will soon end processes", "look at what uses it, or drain this agent: clusterd agent drain "+h.name)
	case mem["SwapTotal"] > 0:
		return bad(Note, fmt.Sprintf("%d of %d MB of memory are available; there is swap", available, total), "tasks beyond their memory slow the host down instead of being ended", "agents: --cgroups_limit_swap")
	}
	return good("%d of %d MB are available, no swap", available, total)
}

func checkHostname(ctx context.Context, h *host) []Finding {
	addrs, err := h.lookup(ctx, h.name)
	if err != nil {
		return bad(Warning, fmt.Sprintf("%q has no address: %v", h.name, err), "masters and agents tell others their name", "an entry in DNS or /etc/hosts, or --hostname and --advertise_ip")
	}
	for _, a := range addrs {
		if ip := net.ParseIP(a); ip != nil && !ip.IsLoopback() {
			return good("%s is %s", h.name, strings.Join(addrs, ", "))
		}
	}
	return bad(Note, fmt.Sprintf("%q is %s, to this host itself", h.name, strings.Join(addrs, ", ")), "clusterd looks for the address of a network instead", "--ip or --advertise_ip where there are several")
}

func checkDocker(ctx context.Context, h *host) []Finding {
	const socket = "run/docker.sock"
	if !h.has(socket) {
		return good("no engine; --containerizers=docker is not possible here, mesos is")
	}
	c := http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", filepath.Join(h.root, socket))
	}}}
	defer c.CloseIdleConnections()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://docker/_ping", http.NoBody)
	if err == nil {
		var res *http.Response
		if res, err = c.Do(r); err == nil {
			_ = res.Body.Close() // a ping says nothing but its status
			if res.StatusCode == http.StatusOK {
				return good("the engine answers, API %s", res.Header.Get("Api-Version"))
			}
			err = fmt.Errorf("it answers %s", res.Status)
		}
	}
	return bad(Warning, "the engine does not answer: "+err.Error(), "agents with --containerizers=docker do not start", "systemctl status docker")
}

func checkCNI(_ context.Context, h *host) []Finding {
	for _, dir := range []string{"opt/cni/bin", "usr/lib/cni", "usr/libexec/cni"} {
		if h.has(filepath.Join(dir, "bridge")) {
			return good("plugins in /%s", dir)
		}
	}
	return good("none; --isolation=network/cni would need them (package containernetworking-plugins)")
}

// wellKnown are the ports that are listened on by default.
var wellKnown = []struct {
	port int
	of   string
}{
	{flags.DefaultMasterPort, "master"},
	{flags.DefaultAgentPort, "agent"},
	{flags.DefaultRaftPort, "Raft"},
	{flags.DefaultMasterGossipPort, "gossip of a master"},
	{flags.DefaultAgentGossipPort, "gossip of an agent"},
}

func checkPorts(ctx context.Context, h *host) []Finding {
	var found []Finding
	var free, held []string
	for _, p := range wellKnown {
		port := strconv.Itoa(p.port)
		l, err := new(net.ListenConfig).Listen(ctx, "tcp", ":"+port)
		if err == nil {
			_ = l.Close() // it was free
			free = append(free, port)
			continue
		}
		switch who := h.listener(p.port); who {
		case "clusterd":
			held = append(held, port)
		default:
			found = append(found, bad(Warning, fmt.Sprintf("%s (%s) is in use by %s", port, p.of, cmp.Or(who, "another program")), "a daemon that is given no other port will not start",
				fmt.Sprintf("ss -ltnp 'sport = :%s', or give the daemon another port", port))...)
		}
	}
	if len(held) > 0 {
		found = append(found, good("clusterd listens on %s", strings.Join(held, ", "))...)
	}
	if len(free) > 0 {
		found = append(found, good("free: %s", strings.Join(free, ", "))...)
	}
	return found
}

// listener is the name of the program that listens on a port; empty if it cannot be told,
// which needs root for those of others.
func (h *host) listener(port int) string {
	sockets := map[string]bool{}
	for _, table := range []string{"proc/net/tcp", "proc/net/tcp6"} {
		for line := range strings.Lines(h.read(table)) {
			// sl local_address rem_address st ... inode; 0A is LISTEN.
			f := strings.Fields(line)
			if len(f) > 9 && f[3] == "0A" && strings.HasSuffix(f[1], fmt.Sprintf(":%04X", port)) {
				sockets["socket:["+f[9]+"]"] = true
			}
		}
	}
	fds, err := filepath.Glob(filepath.Join(h.root, "proc/[0-9]*/fd/*"))
	if err != nil || len(sockets) == 0 {
		return ""
	}
	for _, fd := range fds {
		if to, err := os.Readlink(fd); err == nil && sockets[to] {
			name, err := os.ReadFile(filepath.Join(filepath.Dir(filepath.Dir(fd)), "comm"))
			if err != nil {
				return "" // it has ended
			}
			return strings.TrimSpace(string(name))
		}
	}
	return ""
}
