package portmapping_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"github.com/vishvananda/netlink"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	mesos "clusterd/api/mesos/v1"
	"clusterd/isolation"
	"clusterd/isolation/cgroups"
	"clusterd/isolation/isolationtest"
	"clusterd/isolation/isolators/network/netns"
	"clusterd/isolation/isolators/network/nettest"
	"clusterd/isolation/isolators/network/portmapping"
	"clusterd/isolation/setup"
)

func TestMain(m *testing.M) {
	code := nettest.Main(m)
	isolationtest.RemovePrograms()
	if err := goleak.Find(); err != nil && code == 0 {
		_, _ = fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// The machine, and somebody outside of it.
const (
	machine = "10.77.0.1"
	outside = "10.77.0.2"
	public  = "pub0"
)

// world is a machine with a neighbour.
type world struct {
	t       testing.TB
	options portmapping.Options
	// outside is the neighbour's network namespace.
	outside string
	log     nettest.Log
}

func newWorld(t testing.TB) *world {
	t.Helper()
	nettest.Need(t)
	w := &world{t: t}
	neighbour := nettest.Process(t, syscall.CLONE_NEWNET)
	w.outside = nettest.Netns(neighbour)
	attrs := netlink.NewLinkAttrs()
	attrs.Name = public
	link := &netlink.Veth{LinkAttrs: attrs, PeerName: "out0", PeerNamespace: netlink.NsPid(neighbour)}
	if err := netlink.LinkAdd(link); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = netlink.LinkDel(link)
		if t.Failed() {
			t.Logf("log:\n%s", w.log.String())
		}
	})
	configure(t, public, machine+"/24")
	nettest.In(t, w.outside, func() error {
		configure(t, "out0", outside+"/24")
		return netns.SetLoopbackUp()
	})
	route := &netlink.Route{Gw: net.ParseIP(outside), LinkIndex: link.Attrs().Index}
	route.Dst = &net.IPNet{IP: net.IPv4zero, Mask: net.CIDRMask(0, 32)}
	if err := netlink.RouteAdd(route); err != nil {
		t.Fatal(err)
	}
	// The machine's own ephemeral ports make room.
	if err := os.WriteFile("/proc/sys/net/ipv4/ip_local_port_range", []byte("57345 61000"), 0); err != nil {
		t.Fatal(err)
	}
	w.options = portmapping.Options{
		Resources: []*mesos.Resource{
			isolationtest.Scalar("cpus", 4), ranges("ports", 31000, 32000), ranges("ephemeral_ports", 32768, 57344),
		},
		EphemeralPortsPerContainer: 1024, StateDir: filepath.Join(t.TempDir(), "port_mapping"), Log: zerolog.New(&w.log),
	}
	return w
}

func configure(t testing.TB, name, address string) {
	t.Helper()
	l, err := netlink.LinkByName(name)
	if err != nil {
		t.Fatal(err)
	}
	a, err := netlink.ParseAddr(address)
	if err != nil {
		t.Fatal(err)
	}
	if err := netlink.AddrAdd(l, a); err != nil {
		t.Fatal(err)
	}
	if err := netlink.LinkSetUp(l); err != nil {
		t.Fatal(err)
	}
}

func ranges(name string, begin, end uint64) *mesos.Resource {
	return &mesos.Resource{
		Name: &name, Type: mesos.Value_RANGES.Enum(),
		Ranges: &mesos.Value_Ranges{Range: []*mesos.Value_Range{{Begin: &begin, End: &end}}},
	}
}

func (w *world) isolator() *portmapping.PortMapping {
	w.t.Helper()
	p, err := portmapping.New(w.options)
	if err != nil {
		w.t.Fatal(err)
	}
	return p
}

// running is a container.
type running struct {
	config *isolation.ContainerConfig
	pid    int
	netns  string
}

func (w *world) launch(p *portmapping.PortMapping, resources ...*mesos.Resource) *running {
	w.t.Helper()
	c := &running{config: nettest.Config(w.t)}
	c.config.Resources = resources
	prep, err := p.Prepare(w.t.Context(), c.config)
	if err != nil {
		w.t.Fatal(err)
	}
	c.pid = nettest.Process(w.t, prep.CloneFlags)
	c.netns = nettest.Netns(c.pid)
	w.t.Cleanup(func() {
		if err := p.Cleanup(context.Background(), c.config.ID); err != nil {
			w.t.Error(err)
		}
	})
	if err := p.Isolate(w.t.Context(), c.config.ID, c.pid); err != nil {
		w.t.Fatal(err)
	}
	return c
}

func (w *world) usage(p *portmapping.PortMapping, c *running) *mesos.ResourceStatistics {
	w.t.Helper()
	stats := &mesos.ResourceStatistics{}
	if err := p.Usage(w.t.Context(), c.config.ID, stats); err != nil {
		w.t.Fatal(err)
	}
	return stats
}

// traces are the links and filters of a machine.
func traces(t testing.TB) []string {
	t.Helper()
	links, err := netlink.LinkList()
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, l := range links {
		out = append(out, "link "+l.Attrs().Name)
		for _, parent := range []uint32{netlink.MakeHandle(0xffff, 0), netlink.MakeHandle(1, 0)} {
			filters, err := netlink.FilterList(l, parent)
			if err != nil {
				continue
			}
			for _, f := range filters {
				out = append(out, fmt.Sprintf("filter %s %d %#x", l.Attrs().Name, f.Attrs().Priority, f.Attrs().Protocol))
			}
		}
	}
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(mounts)) {
		if strings.Contains(line, "port_mapping") {
			out = append(out, "mount "+line)
		}
	}
	slices.Sort(out)
	return out
}

// haveCodel says whether the kernel has the queue fq_codel.
func haveCodel(t testing.TB) bool {
	t.Helper()
	l, err := netlink.LinkByName(public)
	if err != nil {
		t.Fatal(err)
	}
	q := netlink.NewFqCodel(netlink.QdiscAttrs{LinkIndex: l.Attrs().Index, Parent: netlink.HANDLE_ROOT, Handle: netlink.MakeHandle(9, 0)})
	if err := netlink.QdiscAdd(q); err != nil {
		return false
	}
	_ = netlink.QdiscDel(q)
	return true
}

// clean fails the test if the machine is not as it was before.
func (w *world) clean(before []string) {
	w.t.Helper()
	if after := traces(w.t); !slices.Equal(before, after) {
		w.t.Errorf("left:\ngot  %v\nwant %v", after, before)
	}
	if entries, err := os.ReadDir(w.options.StateDir); err != nil || len(entries) > 0 {
		w.t.Errorf("left in the state directory: %v (%v)", entries, err)
	}
}

func TestConformance(t *testing.T) {
	isolationtest.Isolator(t, portmapping.Name, func(t *testing.T, _ string) isolation.Isolator {
		return stay{newWorld(t).isolator()}
	})
}

// stay keeps the suite, which isolates its own process, from being disconnected.
type stay struct{ *portmapping.PortMapping }

func (s stay) Isolate(ctx context.Context, id *mesos.ContainerID, _ int) error {
	cmd, err := os.StartProcess("/bin/sleep", []string{"sleep", "1000"}, &os.ProcAttr{Sys: &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}})
	if err != nil {
		return err
	}
	err = s.PortMapping.Isolate(ctx, id, cmd.Pid)
	_ = cmd.Kill()
	_, _ = cmd.Wait()
	return err
}

func TestSteering(t *testing.T) {
	w := newWorld(t)
	w.options.UniqueFlows = haveCodel(t)
	p := w.isolator()
	before := traces(t)
	a := w.launch(p, ranges("ports", 31000, 31009))
	b := w.launch(p, ranges("ports", 31010, 31019), ranges("ports", 31100, 31100))
	nettest.Serve(t, a.netns, ":31001", []byte("a"))
	nettest.Serve(t, b.netns, ":31011", []byte("b"))
	nettest.Serve(t, b.netns, ":31100", []byte("b too"))
	nettest.Serve(t, b.netns, ":31050", []byte("nobody's port"))
	nettest.Serve(t, a.netns, ":31012", []byte("b's port in a"))
	nettest.Serve(t, nettest.Machine, ":5051", []byte("agent"))
	nettest.Serve(t, w.outside, ":80", []byte("world"))
	for _, c := range []struct{ what, from, address, want string }{
		{"outside to a", w.outside, machine + ":31001", "a"},
		{"outside to b", w.outside, machine + ":31011", "b"},
		{"outside to b's other port", w.outside, machine + ":31100", "b too"},
		{"outside to the machine", w.outside, machine + ":5051", "agent"},
		{"a to b", a.netns, machine + ":31011", "b"},
		{"a to b by loopback", a.netns, "127.0.0.1:31011", "b"},
		{"b to a", b.netns, machine + ":31001", "a"},
		{"a to itself", a.netns, machine + ":31001", "a"},
		{"a to itself by loopback", a.netns, "127.0.0.1:31001", "a"},
		{"a to the machine", a.netns, machine + ":5051", "agent"},
		{"b to the machine by loopback", b.netns, "127.0.0.1:5051", "agent"},
		{"machine to a", nettest.Machine, machine + ":31001", "a"},
		{"machine to a by loopback", nettest.Machine, "127.0.0.1:31001", "a"},
		{"a to outside", a.netns, outside + ":80", "world"},
		{"b to outside", b.netns, outside + ":80", "world"},
		{"machine to outside", nettest.Machine, outside + ":80", "world"},
		{"outside to a port of nobody", w.outside, machine + ":31050", ""},
		{"outside to b's port that a listens on", w.outside, machine + ":31012", ""},
		{"machine to a port of nobody", nettest.Machine, machine + ":31050", ""},
	} {
		got, err := nettest.Fetch(c.from, c.address)
		if got != c.want {
			t.Errorf("%s: got %q (%v), want %q", c.what, got, err, c.want)
		}
	}
	// A port that is not its own does not get out; one of its own does.
	if got, err := nettest.FetchFrom(a.netns, 31500, outside+":80"); err == nil {
		t.Errorf("from a port of nobody: got %q", got)
	}
	if got, err := nettest.FetchFrom(a.netns, 31011, outside+":80"); err == nil {
		t.Errorf("from b's port in a: got %q", got)
	}
	if got, err := nettest.FetchFrom(a.netns, 31003, outside+":80"); got != "world" {
		t.Errorf("from a port of its own: got %q (%v)", got, err)
	}
	pings(t, w, a, b)

	stats := w.usage(p, a)
	if e := stats.GetNetEphemeralPorts(); e.GetBegin() != 32768 || e.GetEnd() != 33791 {
		t.Errorf("ephemeral ports: got %v", e)
	}
	if stats.GetNetRxPackets() == 0 || stats.GetNetTxBytes() == 0 || stats.NetTxRateLimit != nil {
		t.Errorf("statistics: got %v", stats)
	}
	for _, c := range []*running{a, b} {
		if err := p.Cleanup(t.Context(), c.config.ID); err != nil {
			t.Fatal(err)
		}
	}
	w.clean(before)
	if got, err := nettest.Fetch(w.outside, machine+":31001"); err == nil {
		t.Errorf("after the end: got %q", got)
	}
}

// pings tries ICMP, which has no ports.
func pings(t *testing.T, w *world, a, b *running) {
	t.Helper()
	for _, c := range []struct{ from, to string }{
		{a.netns, outside}, {b.netns, outside}, {a.netns, machine}, {a.netns, "127.0.0.1"}, {nettest.Machine, outside}, {w.outside, machine},
	} {
		if answers, err := nettest.Ping(c.from, c.to); err != nil || answers != 2 {
			t.Errorf("ping %s from %s: got %d answers to 2 (%v)", c.to, c.from, answers, err)
		}
	}
}

// TestSpoofing sends from an address that is not the container's, on a machine that
// forwards.
func TestSpoofing(t *testing.T) {
	w := newWorld(t)
	p := w.isolator()
	c := w.launch(p, ranges("ports", 31000, 31003))
	if err := os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0); err != nil {
		t.Fatal(err)
	}
	receiver := udp(t, w.outside, &unix.SockaddrInet4{Port: 9999})
	address := [4]byte(net.ParseIP("10.77.0.99").To4())
	nettest.In(t, c.netns, func() error {
		configure(t, public, "10.77.0.99/32")
		return nil
	})
	to := &unix.SockaddrInet4{Port: 9999, Addr: [4]byte(net.ParseIP(outside).To4())}
	for _, m := range []struct {
		from *unix.SockaddrInet4
		text string
	}{
		{&unix.SockaddrInet4{Port: 31000}, "first"}, // afterwards all know where who is
		{&unix.SockaddrInet4{Port: 31001, Addr: address}, "spoofed"},
		{&unix.SockaddrInet4{Port: 31002}, "last"},
	} {
		// Only what is sent to the machine's MAC address would be forwarded.
		setNeighbour(t, w, c, m.text == "spoofed")
		if err := unix.Sendto(udp(t, c.netns, m.from), []byte(m.text), 0, to); err != nil {
			t.Fatal(err)
		}
		if m.text == "spoofed" {
			continue
		}
		buf := make([]byte, 64)
		n, err := unix.Read(receiver, buf)
		for errors.Is(err, unix.EINTR) {
			n, err = unix.Read(receiver, buf)
		}
		if got := string(buf[:max(n, 0)]); err != nil || got != m.text {
			t.Errorf("received: got %q (%v), want %q", got, err, m.text)
		}
	}
}

// setNeighbour tells a container the MAC address of the one outside, or a false one: that
// of the machine.
func setNeighbour(t *testing.T, w *world, c *running, wrong bool) {
	t.Helper()
	var mac net.HardwareAddr
	where, name := w.outside, "out0"
	if wrong {
		where, name = nettest.Machine, public
	}
	nettest.In(t, where, func() error {
		l, err := netlink.LinkByName(name)
		if err == nil {
			mac = l.Attrs().HardwareAddr
		}
		return err
	})
	nettest.In(t, c.netns, func() error {
		l, err := netlink.LinkByName(public)
		if err != nil {
			return err
		}
		return netlink.NeighSet(&netlink.Neigh{LinkIndex: l.Attrs().Index, State: netlink.NUD_PERMANENT, IP: net.ParseIP(outside), HardwareAddr: mac})
	})
}

// udp is a socket in a network.
func udp(t *testing.T, path string, a *unix.SockaddrInet4) (fd int) {
	t.Helper()
	nettest.In(t, path, func() (err error) {
		if fd, err = unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0); err != nil {
			return err
		}
		limit := unix.NsecToTimeval((20 * time.Second).Nanoseconds())
		if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &limit); err != nil {
			return err
		}
		return unix.Bind(fd, a)
	})
	t.Cleanup(func() { _ = unix.Close(fd) })
	return fd
}

func TestUpdate(t *testing.T) {
	w := newWorld(t)
	p := w.isolator()
	before := traces(t)
	c := w.launch(p, ranges("ports", 31000, 31003))
	nettest.Serve(t, c.netns, ":31002", []byte("stays"))
	nettest.Serve(t, c.netns, ":31000", []byte("goes"))
	nettest.Serve(t, c.netns, ":31007", []byte("comes"))
	reach := func() string {
		var out []string
		for _, port := range []int{31002, 31000, 31007} {
			got, _ := nettest.Fetch(w.outside, machine+":"+strconv.Itoa(port))
			out = append(out, got)
			self, _ := nettest.Fetch(c.netns, "127.0.0.1:"+strconv.Itoa(port))
			out = append(out, self)
		}
		return strings.Join(out, ",")
	}
	if got, want := reach(), "stays,stays,goes,goes,,"; got != want {
		t.Errorf("before: got %s, want %s", got, want)
	}
	if err := p.Update(t.Context(), c.config.ID, []*mesos.Resource{ranges("ports", 31002, 31007)}, nil); err != nil {
		t.Fatal(err)
	}
	if got, want := reach(), "stays,stays,,,comes,comes"; got != want {
		t.Errorf("after: got %s, want %s", got, want)
	}
	if err := p.Update(t.Context(), c.config.ID, []*mesos.Resource{ranges("ports", 80, 80)}, nil); err == nil {
		t.Error("a port that is not the agent's: got no error")
	}
	if err := p.Cleanup(t.Context(), c.config.ID); err != nil {
		t.Fatal(err)
	}
	w.clean(before)
}

func TestRates(t *testing.T) {
	w := newWorld(t)
	data := bytes.Repeat([]byte("x"), 2<<20)
	// fetch takes the time of a transfer out of, and into, a container.
	transfer := func(p *portmapping.PortMapping) (out, in time.Duration, stats *mesos.ResourceStatistics) {
		c := w.launch(p, isolationtest.Scalar("cpus", 2), ranges("ports", 31000, 31000))
		nettest.Serve(t, c.netns, ":31000", data)
		l := nettest.Serve(t, w.outside, ":80", data)
		defer l.Close()
		for _, x := range []struct {
			took          *time.Duration
			from, address string
		}{{&out, w.outside, machine + ":31000"}, {&in, c.netns, outside + ":80"}} {
			start := time.Now()
			if got, err := nettest.Fetch(x.from, x.address); len(got) != len(data) {
				t.Errorf("transfer from %s: got %d bytes (%v)", x.address, len(got), err)
			}
			*x.took = time.Since(start)
		}
		stats = w.usage(p, c)
		if err := p.Cleanup(t.Context(), c.config.ID); err != nil {
			t.Fatal(err)
		}
		return out, in, stats
	}
	freeOut, freeIn, _ := transfer(w.isolator())
	w.options.Egress = portmapping.Limits{PerCPU: 1 << 20} // two CPUs: 2 MiB/s
	w.options.Ingress = portmapping.Limits{PerContainer: 2 << 20}
	out, in, stats := transfer(w.isolator())
	t.Logf("2 MiB at 2 MiB/s: out %v (free %v), in %v (free %v)", out, freeOut, in, freeIn)
	// The first packets pass at once; a loaded machine is only slower.
	if out < 700*time.Millisecond || in < 700*time.Millisecond {
		t.Errorf("limited to 2 MiB/s, 2 MiB took %v out and %v in", out, in)
	}
	if stats.GetNetTxRateLimit() != 2<<20 || stats.GetNetRxRateLimit() != 2<<20 || stats.NetTxBurstRateLimit != nil {
		t.Errorf("limits: got %v", stats)
	}
	var ids []string
	for _, s := range stats.GetNetTrafficControlStatistics() {
		ids = append(ids, s.GetId())
		if s.GetBytes() < uint64(len(data)) || s.GetPackets() == 0 {
			t.Errorf("queue %v", s)
		}
	}
	slices.Sort(ids)
	want := "bloat_reduction bw_limit ingress_bloat_reduction ingress_bw_limit"
	if !haveCodel(t) {
		want = "bw_limit ingress_bw_limit"
	}
	if got := strings.Join(ids, " "); got != want {
		t.Errorf("queues: got %s, want %s", got, want)
	}
}

func TestStatistics(t *testing.T) {
	w := newWorld(t)
	w.options.SocketSummary, w.options.SocketDetails, w.options.SNMP = true, true, true
	p := w.isolator()
	c := w.launch(p, ranges("ports", 31000, 31000))
	nettest.Serve(t, c.netns, ":31000", []byte("x"))
	// A server that holds its connections.
	var l net.Listener
	nettest.In(t, w.outside, func() (err error) {
		l, err = (&net.ListenConfig{}).Listen(t.Context(), "tcp4", ":80")
		return err
	})
	defer l.Close()
	var fd int
	nettest.In(t, c.netns, func() (err error) {
		if fd, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0); err != nil {
			return err
		}
		return unix.Connect(fd, &unix.SockaddrInet4{Port: 80, Addr: [4]byte(net.ParseIP(outside).To4())})
	})
	defer unix.Close(fd)
	for range 3 {
		if got, err := nettest.Fetch(w.outside, machine+":31000"); got != "x" { // the server is the one who closes
			t.Fatalf("got %q (%v)", got, err)
		}
	}
	stats := w.usage(p, c)
	if stats.GetNetTcpActiveConnections() < 1 || stats.GetNetTcpTimeWaitConnections() < 1 || stats.GetNetTcpRttMicrosecsP50() <= 0 {
		t.Errorf("sockets: got %v", stats)
	}
	snmp := stats.GetNetSnmpStatistics()
	if snmp.GetTcpStats().GetPassiveOpens() != 3 || snmp.GetTcpStats().GetActiveOpens() != 1 || snmp.GetIpStats().GetInReceives() == 0 ||
		snmp.GetIpStats().Forwarding == nil || snmp.GetIcmpStats().InMsgs == nil || snmp.GetUdpStats().InDatagrams == nil {
		t.Errorf("SNMP: got %v", snmp)
	}
}

func TestRecover(t *testing.T) {
	w := newWorld(t)
	w.options.UniqueFlows = haveCodel(t)
	first := w.isolator()
	before := traces(t)
	kept := w.launch(first, ranges("ports", 31000, 31000))
	orphan := w.launch(first)
	w.launch(first) // unknown later
	half := nettest.Config(t)
	if _, err := first.Prepare(t.Context(), half); err != nil { // the agent dies before it forks
		t.Fatal(err)
	}
	nettest.Serve(t, kept.netns, ":31000", []byte("kept"))
	nested := nettest.Config(t)
	nested.ID = &mesos.ContainerID{Value: new("n"), Parent: kept.config.ID}
	if prep, err := first.Prepare(t.Context(), nested); err != nil || prep.EnterFlags != unix.CLONE_NEWNET {
		t.Errorf("nested: got %+v (%v)", prep, err)
	}

	again := w.isolator()
	foreign := nettest.Config(t) // ran before the isolator was there
	states := []isolation.ContainerState{{Config: kept.config, PID: kept.pid}, {Config: nested}, {Config: foreign}}
	if err := again.Recover(t.Context(), states, []*mesos.ContainerID{orphan.config.ID}); err != nil {
		t.Fatal(err)
	}
	if got, err := nettest.Fetch(w.outside, machine+":31000"); got != "kept" {
		t.Errorf("after the restart: got %q (%v)", got, err)
	}
	if e := w.usage(again, kept).GetNetEphemeralPorts(); e.GetBegin() != 32768 {
		t.Errorf("ephemeral ports: got %v", e)
	}
	// The unknown one's ports are free, the others' not.
	next := w.launch(again)
	if e := w.usage(again, next).GetNetEphemeralPorts(); e.GetBegin() != 32768+2*1024 {
		t.Errorf("ephemeral ports of the next: got %v", e)
	}
	for _, config := range []*isolation.ContainerConfig{nested, kept.config, foreign, next.config} {
		if err := again.Cleanup(t.Context(), config.ID); err != nil {
			t.Errorf("cleanup: %v", err)
		}
	}
	if err := again.Cleanup(t.Context(), orphan.config.ID); err != nil {
		t.Errorf("cleanup: %v", err)
	}
	w.clean(before)

	// The runtime directory is lost, with a container still there.
	lost := w.launch(again)
	if err := netns.Release(filepath.Join(w.options.StateDir, lost.config.ID.GetValue(), "ns")); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(w.options.StateDir); err != nil {
		t.Fatal(err)
	}
	if err := w.isolator().Recover(t.Context(), nil, nil); err != nil {
		t.Fatal(err)
	}
	w.clean(before)
}

func TestRateStatistics(t *testing.T) {
	w := newWorld(t)
	w.options.Rates = portmapping.RateStatistics{Window: time.Minute, Interval: 20 * time.Millisecond}
	p := w.isolator()
	defer p.Close()
	c := w.launch(p, ranges("ports", 31000, 31000))
	nettest.Serve(t, c.netns, ":31000", bytes.Repeat([]byte("x"), 1<<20))
	var r *mesos.ResourceStatistics_RateStatistics
	sampled := func(more uint64) func() bool {
		return func() bool {
			r = w.usage(p, c).GetNetRateStatistics()
			return r.GetTxRate().GetSamples() >= more
		}
	}
	nettest.Eventually(t, "samples", sampled(2))
	quiet := r.GetTxRate()
	if got, err := nettest.Fetch(w.outside, machine+":31000"); len(got) != 1<<20 {
		t.Fatalf("got %d bytes (%v)", len(got), err)
	}
	nettest.Eventually(t, "more samples", sampled(quiet.GetSamples()+2))
	// A MiB in a few intervals; on a loaded machine in more.
	tx, rx := r.GetTxRate(), r.GetRxRate()
	if tx.GetMax() < 100<<10 || tx.GetMax() <= quiet.GetMax() || tx.GetMin() > tx.GetP50() || tx.GetP50() > tx.GetP99() || tx.GetP9999() > tx.GetMax() {
		t.Errorf("what the container sent: got %v", tx)
	}
	if rx.GetMax() == 0 || rx.GetMax() > tx.GetMax() || r.GetTxPacketRate().GetMax() == 0 || r.GetTxErrorRate().GetMax() != 0 {
		t.Errorf("rates: got %v", r)
	}
	if r.GetSamplingWindowSecs() != 60 || r.GetSamplingIntervalSecs() != 0.02 {
		t.Errorf("sampling: got %v", r)
	}
}

// TestMany starts and ends containers all at once.
func TestMany(t *testing.T) {
	w := newWorld(t)
	w.options.EphemeralPortsPerContainer, w.options.Log = 64, zerolog.Nop()
	w.options.Egress.PerContainer = 1 << 20
	p := w.isolator()
	before := traces(t)
	const many = 24
	configs := make([]*isolation.ContainerConfig, many)
	pids := make([]int, many)
	for i := range many {
		configs[i] = nettest.Config(t)
		configs[i].Resources = []*mesos.Resource{ranges("ports", uint64(31000+10*i), uint64(31000+10*i+9))}
		pids[i] = nettest.Process(t, syscall.CLONE_NEWNET)
	}
	each := func(f func(i int) error) {
		t.Helper()
		var wg sync.WaitGroup
		for i := range many {
			wg.Go(func() {
				if err := f(i); err != nil {
					t.Errorf("container %d: %v", i, err)
				}
			})
		}
		wg.Wait()
	}
	each(func(i int) error {
		if _, err := p.Prepare(t.Context(), configs[i]); err != nil {
			return err
		}
		return p.Isolate(t.Context(), configs[i].ID, pids[i])
	})
	for i := range many {
		nettest.Serve(t, nettest.Netns(pids[i]), ":"+strconv.Itoa(31000+10*i), []byte(strconv.Itoa(i)))
	}
	each(func(i int) error {
		if got, err := nettest.Fetch(w.outside, machine+":"+strconv.Itoa(31000+10*i)); got != strconv.Itoa(i) {
			return fmt.Errorf("from outside: got %q: %w", got, err)
		}
		other := (i + 1) % many
		if got, err := nettest.Fetch(nettest.Netns(pids[i]), machine+":"+strconv.Itoa(31000+10*other)); got != strconv.Itoa(other) {
			return fmt.Errorf("from container %d: got %q: %w", other, got, err)
		}
		if err := p.Usage(t.Context(), configs[i].ID, &mesos.ResourceStatistics{}); err != nil {
			return err
		}
		return p.Update(t.Context(), configs[i].ID, []*mesos.Resource{ranges("ports", uint64(31000+10*i), uint64(31000+10*i+3))}, nil)
	})
	each(func(i int) error { return p.Cleanup(t.Context(), configs[i].ID) })
	w.clean(before)
}

func TestFailedIsolate(t *testing.T) {
	w := newWorld(t)
	p := w.isolator()
	before := traces(t)
	c := nettest.Config(t)
	if _, err := p.Prepare(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	// Somebody's link has the name that the container's is to have.
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "mesos32768"
	other := &netlink.Veth{LinkAttrs: attrs, PeerName: "other0"}
	if err := netlink.LinkAdd(other); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = netlink.LinkDel(other) }()
	if err := p.Isolate(t.Context(), c.ID, nettest.Process(t, syscall.CLONE_NEWNET)); err == nil {
		t.Fatal("got no error")
	}
	if err := p.Cleanup(t.Context(), c.ID); err != nil {
		t.Fatal(err)
	}
	w.clean(before)
	// Ports of somebody else.
	c.Resources = []*mesos.Resource{ranges("ports", 1, 2)}
	if _, err := p.Prepare(t.Context(), c); err == nil || !strings.Contains(err.Error(), "1-2") {
		t.Errorf("got %v", err)
	}
	w.clean(before)
}

func TestOptions(t *testing.T) {
	for name, change := range map[string]func(o *portmapping.Options){
		"no ephemeral ports":     func(o *portmapping.Options) { o.Resources = nil },
		"the machine's":          func(o *portmapping.Options) { o.Resources = []*mesos.Resource{ranges("ephemeral_ports", 57000, 58000)} },
		"well-known":             func(o *portmapping.Options) { o.Resources = []*mesos.Resource{ranges("ephemeral_ports", 512, 4096)} },
		"in common":              func(o *portmapping.Options) { o.Resources = append(o.Resources, ranges("ports", 33000, 33000)) },
		"no power of two":        func(o *portmapping.Options) { o.EphemeralPortsPerContainer = 1000 },
		"too few":                func(o *portmapping.Options) { o.EphemeralPortsPerContainer = 8 },
		"too many":               func(o *portmapping.Options) { o.EphemeralPortsPerContainer = 32768 },
		"no such interface":      func(o *portmapping.Options) { o.Eth0 = "nonesuch" },
		"no such loopback":       func(o *portmapping.Options) { o.Lo = "nonesuch" },
		"loopback that is none":  func(o *portmapping.Options) { o.Lo = public },
		"rates without a window": func(o *portmapping.Options) { o.Rates.Interval = time.Second },
		"a window too short":     func(o *portmapping.Options) { o.Rates = portmapping.RateStatistics{Window: 1e9, Interval: 1e9} },
		"an interval too short":  func(o *portmapping.Options) { o.Rates = portmapping.RateStatistics{Window: 1e9, Interval: 1e6} },
		"two rates":              func(o *portmapping.Options) { o.Egress = portmapping.Limits{PerContainer: 1, PerCPU: 1} },
		"minimum above maximum":  func(o *portmapping.Options) { o.Ingress = portmapping.Limits{Minimum: 2, Maximum: 1} },
		"auto without any cpus": func(o *portmapping.Options) {
			o.Egress.Auto = true
			o.LinkSpeed = 1 << 30
			o.Resources = o.Resources[1:]
		},
		"faster than the link":     func(o *portmapping.Options) { o.Egress.PerContainer = 2 << 30; o.LinkSpeed = 1 << 30 },
		"a parent that is nothing": func(o *portmapping.Options) { o.UniqueFlows = true; o.FlowParent = "x" },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			change(&w.options)
			if _, err := portmapping.New(w.options); err == nil {
				t.Error("got no error")
			}
		})
	}
}

// TestRealContainer runs a command in a container of the linux launcher.
func TestRealContainer(t *testing.T) {
	w := newWorld(t)
	options := setup.Options{
		WorkDir: t.TempDir(), RuntimeDir: t.TempDir(), Launcher: "linux", Isolation: "network/port_mapping,network/ports",
		CgroupsRoot: "clusterd-test-" + strings.ToLower(rand.Text()[:12]),
	}
	options.Network.PortMapping, options.Resources = w.options, w.options.Resources
	w.options.StateDir = portmapping.StateDir(options.RuntimeDir)
	t.Cleanup(func() {
		if tree, err := cgroups.Open(setup.DefaultCgroupsHierarchy, options.CgroupsRoot); err == nil && tree.Use(cgroups.Core) == nil {
			if dir, err := tree.Root(cgroups.Core); err == nil {
				_ = os.Remove(dir)
			}
		}
	})
	start := func(known ...isolation.ContainerConfig) isolation.Containerizer {
		c, err := setup.New(options, isolationtest.Programs(t), zerolog.Nop())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Recover(t.Context(), known); err != nil {
			t.Fatal(err)
		}
		return c
	}
	c := start()
	before := traces(t)
	config := nettest.Config(t)
	config.Resources = []*mesos.Resource{ranges("ports", 31000, 31001)}
	config.Env = map[string]string{"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
	config.Command = &mesos.CommandInfo{Shell: new(true), Value: new("cat /proc/sys/net/ipv4/ip_local_port_range; echo done; sleep 1000")}
	if err := c.Launch(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	var text string
	nettest.Eventually(t, "the container speaks", func() bool {
		b, _ := os.ReadFile(filepath.Join(config.Sandbox, "stdout"))
		text = string(b)
		return strings.HasSuffix(text, "done\n")
	})
	if text != "32768\t33791\ndone\n" {
		t.Errorf("got %q", text)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	c = start(*config)
	defer c.Close()
	stats, err := c.Usage(t.Context(), config.ID)
	if err != nil || stats.GetNetEphemeralPorts().GetBegin() != 32768 || stats.NetRxBytes == nil {
		t.Errorf("usage after the restart: got %v (%v)", stats, err)
	}
	if err := c.Destroy(t.Context(), config.ID); err != nil {
		t.Fatal(err)
	}
	if err := c.Remove(t.Context(), config.ID); err != nil {
		t.Fatal(err)
	}
	w.clean(before)
}

// BenchmarkContainer is what the isolation of one container costs, with n others there.
func BenchmarkContainer(b *testing.B) {
	for _, n := range []int{0, 100} {
		b.Run(strconv.Itoa(n), func(b *testing.B) {
			w := newWorld(b)
			w.options.EphemeralPortsPerContainer, w.options.Log = 32, zerolog.Nop()
			p := w.isolator()
			for range n {
				w.launch(p)
			}
			b.ResetTimer()
			for b.Loop() {
				config := nettest.Config(b)
				if _, err := p.Prepare(b.Context(), config); err != nil {
					b.Fatal(err)
				}
				if err := p.Isolate(b.Context(), config.ID, nettest.Process(b, syscall.CLONE_NEWNET)); err != nil {
					b.Fatal(err)
				}
				if err := p.Cleanup(b.Context(), config.ID); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
