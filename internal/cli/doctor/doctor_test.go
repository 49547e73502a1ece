package doctor

import (
	"bytes"
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	mesos "clusterd/api/mesos/v1"
	"clusterd/api/mesos/v1/master"
	"clusterd/internal/cli/console"
	"clusterd/internal/registryapi"
)

// healthy is a host on which nothing is wrong, in a folder of the test.
func healthy(t *testing.T) *host {
	t.Helper()
	h := &host{
		root: t.TempDir(), workDir: t.TempDir(), uid: 0, release: "6.1.0-18-amd64", files: 1 << 20, name: "node1",
		synchronized: func() (bool, error) { return true, nil },
		lookup:       func(context.Context, string) ([]string, error) { return []string{"10.0.0.1"}, nil },
	}
	h.put(t, "proc/self/mountinfo", "30 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n")
	h.put(t, "sys/fs/cgroup/cgroup.controllers", "cpuset cpu io memory hugetlb pids rdma")
	for _, ns := range []string{"mnt", "pid", "ipc", "net", "uts", "user", "cgroup"} {
		h.put(t, "proc/self/ns/"+ns, "")
	}
	h.put(t, "proc/sys/user/max_user_namespaces", "15000")
	h.put(t, "proc/filesystems", "nodev\tsysfs\nnodev\toverlay\n")
	h.put(t, "proc/sys/kernel/seccomp/actions_avail", "kill_process allow")
	h.put(t, "proc/sys/kernel/pid_max", "4194304")
	h.put(t, "proc/meminfo", "MemTotal:       16000000 kB\nMemAvailable:    8000000 kB\nSwapTotal:             0 kB\n")
	return h
}

func (h *host) put(t *testing.T, path, text string) {
	t.Helper()
	file := filepath.Join(h.root, path)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestHost makes a healthy host ill in one way each.
func TestHost(t *testing.T) {
	tests := []struct {
		name, check string
		ill         func(t *testing.T, h *host)
		want        State
		says        string
	}{
		{"old kernel", "kernel", func(_ *testing.T, h *host) { h.release = "3.10.0-1160.el7" }, Problem, "3.10"},
		{"older kernel that works", "kernel", func(_ *testing.T, h *host) { h.release = "5.4.0" }, Note, "5.4"},
		{"strange kernel", "kernel", func(_ *testing.T, h *host) { h.release = "hurd" }, Warning, "hurd"},
		{"not root", "root", func(_ *testing.T, h *host) { h.uid = 1000 }, Note, "not run as root"},
		{"controllers disabled", "cgroups", func(t *testing.T, h *host) { h.put(t, "sys/fs/cgroup/cgroup.controllers", "cpu io pids") }, Warning, "memory, cpuset"},
		{"cgroup v1", "cgroups", func(t *testing.T, h *host) {
			h.put(t, "proc/self/mountinfo", "1 2 0:1 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n1 2 0:2 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu,cpuacct\n1 2 0:3 / /sys/fs/cgroup/freezer rw - cgroup cgroup rw,freezer\n")
		}, Note, "cpu, cpuacct, freezer, memory"},
		{"no cgroups", "cgroups", func(t *testing.T, h *host) { h.put(t, "proc/self/mountinfo", "") }, Problem, "no control groups"},
		{"no user namespaces", "namespaces", func(t *testing.T, h *host) { h.put(t, "proc/sys/user/max_user_namespaces", "0") }, Warning, "forbidden"},
		{"no overlay", "overlay", func(t *testing.T, h *host) { h.put(t, "proc/filesystems", "nodev\tsysfs\n") }, Warning, "overlayfs"},
		{"clock", "clock", func(_ *testing.T, h *host) { h.synchronized = func() (bool, error) { return false, nil } }, Warning, "clock"},
		{"files", "limits", func(_ *testing.T, h *host) { h.files = 1024 }, Warning, "1024 files"},
		{"memory", "memory", func(t *testing.T, h *host) {
			h.put(t, "proc/meminfo", "MemTotal: 16000000 kB\nMemAvailable: 100000 kB\n")
		}, Warning, "97 of 15625 MB"},
		{"swap", "memory", func(t *testing.T, h *host) {
			h.put(t, "proc/meminfo", "MemTotal: 16000000 kB\nMemAvailable: 9000000 kB\nSwapTotal: 1000000 kB\n")
		}, Note, "swap"},
		{"unknown name", "hostname", func(_ *testing.T, h *host) {
			h.lookup = func(context.Context, string) ([]string, error) { return nil, errors.New("no such host") }
		}, Warning, "no such host"},
		{"name of the loopback", "hostname", func(_ *testing.T, h *host) {
			h.lookup = func(context.Context, string) ([]string, error) { return []string{"127.0.1.1"}, nil }
		}, Note, "127.0.1.1"},
		{"dead engine", "docker", func(t *testing.T, h *host) { h.put(t, "run/docker.sock", "") }, Warning, "does not answer"},
	}
	quiet := map[string]bool{"ports": true, "disk": true} // of the real machine
	for _, f := range examine(t.Context(), pick(hostChecks, func(n string) bool { return !quiet[n] }), healthy(t), func() {}) {
		if f.State != OK {
			t.Errorf("a healthy host: %+v", f)
		}
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h := healthy(t)
			tt.ill(t, h)
			found := examine(t.Context(), pick(hostChecks, func(n string) bool { return n == tt.check }), h, func() {})
			if len(found) != 1 || found[0].State != tt.want || !strings.Contains(found[0].What, tt.says) {
				t.Fatalf("got %+v, want %s with %q", found, tt.want, tt.says)
			}
			if (tt.want == Problem || tt.want == Warning) && (found[0].Why == "" || found[0].Do == "") {
				t.Errorf("%+v does not say why and what to do", found[0])
			}
		})
	}
}

// TestListener finds out who listens, in the tables of a kernel and on the real machine.
func TestListener(t *testing.T) {
	h := healthy(t)
	h.put(t, "proc/net/tcp", "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"+
		"   0: 0100007F:13BA 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1 0 100 0 0 10 0\n"+
		"   1: 0100007F:13BB 0100007F:13BA 01 00000000:00000000 00:00000000 00000000     0        0 4712 1 0 100 0 0 10 0\n")
	h.put(t, "proc/42/comm", "clusterd\n")
	h.put(t, "proc/42/fd/.keep", "")
	if err := os.Symlink("socket:[4711]", filepath.Join(h.root, "proc/42/fd/7")); err != nil {
		t.Fatal(err)
	}
	for port, want := range map[int]string{5050: "clusterd", 5051: "", 5052: ""} {
		if got := h.listener(port); got != want {
			t.Errorf("port %d: got %q, want %q", port, got, want)
		}
	}
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if got := thisHost(t.TempDir()).listener(l.Addr().(*net.TCPAddr).Port); !strings.HasPrefix(got, "doctor") {
		t.Errorf("on this machine: got %q, want this test", got)
	}
}

// TestThisHost: every check has an answer on the machine that the tests run on.
func TestThisHost(t *testing.T) {
	ended := make(chan bool, len(hostChecks))
	found := examine(t.Context(), hostChecks, thisHost(t.TempDir()), func() { ended <- true })
	if len(ended) != len(hostChecks) {
		t.Errorf("%d of %d checks told that they ended", len(ended), len(hostChecks))
	}
	seen := map[string]bool{}
	for _, f := range found {
		seen[f.Check] = true
	}
	for _, c := range hostChecks {
		if !seen[c.name] {
			t.Errorf("%s says nothing", c.name)
		}
	}
}

// fine is a cluster in which nothing is wrong.
func fine() *picture {
	now := time.Unix(1_700_000_000, 0)
	member := func(id string) registryapi.Member {
		return registryapi.Member{ID: id, Address: id + ":5052", Known: true, Alive: true, Voter: true, Build: "1.0", Health: registryapi.Healthy}
	}
	agent := &master.Response_GetAgents_Agent{
		AgentInfo: &mesos.AgentInfo{Id: console.AgentID("S0"), Hostname: new("h0")}, Active: new(true), Version: new("1.0"),
	}
	return &picture{
		now: now, registry: registryapi.Status{Members: []registryapi.Member{member("a"), member("b"), member("c")}, Tolerates: 1},
		agents: &master.Response_GetAgents{Agents: []*master.Response_GetAgents_Agent{agent}},
		tasks:  &master.Response_GetTasks{}, frameworks: &master.Response_GetFrameworks{}, metrics: map[string]float64{},
		expires:    now.Add(365 * 24 * time.Hour),
		agentClock: func(context.Context, string) (time.Duration, error) { return 0, nil },
		ask:        func(context.Context, string) (explanation, error) { return explanation{}, nil },
	}
}

// TestCluster makes a cluster ill in one way each.
func TestCluster(t *testing.T) {
	framework := func(p *picture, name string, connected bool) {
		id := console.FrameworkID("F-" + name)
		p.frameworks.Frameworks = append(p.frameworks.Frameworks, &master.Response_GetFrameworks_Framework{
			FrameworkInfo: &mesos.FrameworkInfo{Id: id, Name: &name, FailoverTimeout: proto.Float64(600)}, Active: &connected, Connected: &connected,
		})
	}
	tests := []struct {
		name, check string
		ill         func(p *picture)
		want        State
		says        string
	}{
		{"one master", "quorum", func(p *picture) { p.registry.Members = p.registry.Members[:1]; p.registry.Tolerates = 0 }, Warning, "one master"},
		{"a dead master", "quorum", func(p *picture) { p.registry.Members[1].Alive = false }, Problem, "b (b:5052)"},
		{"a member that is none", "quorum", func(p *picture) { p.registry.Others = []registryapi.Member{{ID: "d", Address: "d:1"}} }, Warning, "no member"},
		{"an upgrade", "versions", func(p *picture) { p.registry.Members[1].Build = "1.1" }, Warning, "1.0 (2), 1.1 (1)"},
		{"clocks of agents", "skew", func(p *picture) {
			p.agentClock = func(context.Context, string) (time.Duration, error) { return time.Minute, nil }
		}, Warning, "h0 by 1m0s"},
		{"the leader's clock", "skew", func(p *picture) {
			p.skew = -time.Minute
			p.agentClock = func(context.Context, string) (time.Duration, error) { return -time.Minute, nil }
		}, Warning, "this host's differ"},
		{"an agent away", "agents", func(p *picture) { p.agents.Agents[0].Active = new(false) }, Warning, "disconnected: h0"},
		{"no agents", "agents", func(p *picture) { p.agents.Agents = nil }, Warning, "no agents"},
		{"unreachable agents", "agents", func(p *picture) { p.metrics["master/slaves_unreachable"] = 2 }, Warning, "2 unreachable agents"},
		{"draining for ever", "agents", func(p *picture) {
			a := p.agents.Agents[0]
			a.DrainInfo = &mesos.DrainInfo{State: mesos.DrainState_DRAINING.Enum()}
			a.EstimatedDrainStartTime = &mesos.TimeInfo{Nanoseconds: new(p.now.Add(-3 * time.Hour).UnixNano())}
		}, Warning, "draining for long: h0"},
		{"a framework away", "frameworks", func(p *picture) { framework(p, "marathon", false) }, Warning, "marathon (failover_timeout 10m"},
		{"a framework that starves", "starving", func(p *picture) {
			framework(p, "spark", true)
			p.ask = func(context.Context, string) (e explanation, err error) {
				e.Hint = "its quota is used up"
				e.Agents.Reasons = append(e.Agents.Reasons, struct {
					Reason string `json:"reason"`
					Agents int    `json:"agents"`
				}{"QUOTA_LIMIT", 1})
				return e, nil
			}
		}, Warning, "spark is offered nothing: its quota is used up"},
		{"a hoarder", "offers", func(p *picture) {
			p.offers = []offer{{Framework: "storm", Since: float64(p.now.Add(-time.Hour).Unix())}}
		}, Warning, "storm (1)"},
		{"a task that does not start", "tasks", func(p *picture) {
			p.tasks.Tasks = []*mesos.Task{{
				TaskId: &mesos.TaskID{Value: new("t1")}, State: mesos.TaskState_TASK_STAGING.Enum(),
				Statuses: []*mesos.TaskStatus{{State: mesos.TaskState_TASK_STAGING.Enum(), Timestamp: new(float64(p.now.Add(-time.Hour).Unix()))}},
			}}
		}, Warning, "staging for long: t1"},
		{"no TLS", "certificate", func(p *picture) { p.expires = time.Time{} }, Note, "without TLS"},
		{"an old certificate", "certificate", func(p *picture) { p.expires = p.now.Add(-time.Hour) }, Problem, "has expired"},
		{"a certificate of a week", "certificate", func(p *picture) { p.expires = p.now.Add(7 * 24 * time.Hour) }, Warning, "expires in 7d"},
		{"a slow registry", "registry", func(p *picture) { p.registry.Queued = 5000 }, Warning, "5000 changes"},
		{"slow readers", "readers", func(p *picture) { p.metrics["master/operator_event_stream_subscribers_dropped"] = 1 }, Note, "1 reader of events"},
	}
	asks := map[string]bool{"quota": true} // of a real cluster, see TestRealCluster
	for _, f := range examine(t.Context(), pick(clusterChecks, func(n string) bool { return !asks[n] }), fine(), func() {}) {
		if f.State != OK {
			t.Errorf("a healthy cluster: %+v", f)
		}
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := fine()
			tt.ill(p)
			found := examine(t.Context(), pick(clusterChecks, func(n string) bool { return n == tt.check }), p, func() {})
			if len(found) == 0 || found[0].State != tt.want || !strings.Contains(found[0].What, tt.says) {
				t.Fatalf("got %+v, want %s with %q", found, tt.want, tt.says)
			}
		})
	}
}

// TestWilling: a framework that wants nothing does not starve.
func TestWilling(t *testing.T) {
	var e explanation
	for _, tt := range []struct {
		reason string
		want   bool
	}{{"SUPPRESSED", true}, {"FILTERED", true}, {"QUOTA_LIMIT", false}} {
		e.Agents.Reasons = append(e.Agents.Reasons, struct {
			Reason string `json:"reason"`
			Agents int    `json:"agents"`
		}{tt.reason, 1})
		if got := e.willing(); got != tt.want {
			t.Errorf("after %s: got %v, want %v", tt.reason, got, tt.want)
		}
	}
}

// TestWrite shows what people read.
func TestWrite(t *testing.T) {
	var out bytes.Buffer
	write(console.Env{Out: &out}, []Finding{
		{Check: "kernel", State: OK, What: "Linux 6.1"},
		{Check: "clock", State: Warning, What: "nothing keeps it right", Why: "times differ", Do: "chrony"},
	})
	const want = `ok       kernel  Linux 6.1
warning  clock   nothing keeps it right
                 why: times differ
                 do: chrony

0 problems, 1 warning, 0 notes, 1 ok
`
	if out.String() != want {
		t.Errorf("got\n%s\nwant\n%s", out.String(), want)
	}
}
