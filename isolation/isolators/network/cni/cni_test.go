package cni_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rs/zerolog"
	"github.com/vishvananda/netlink"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	mesos "clusterd/api/mesos/v1"
	"clusterd/isolation"
	"clusterd/isolation/isolationtest"
	"clusterd/isolation/isolators/network/cni"
	"clusterd/isolation/isolators/network/netns"
	"clusterd/isolation/isolators/network/nettest"
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

// pluginDir is where Debian's package containernetworking-plugins has them.
const pluginDir = "/usr/lib/cni"

// world is an agent's configuration.
type world struct {
	t       testing.TB
	options cni.Options
	ipam    string
	bridge  string
	log     nettest.Log
}

func newWorld(t testing.TB) *world {
	t.Helper()
	nettest.Need(t, "iptables")
	if _, err := os.Stat(filepath.Join(pluginDir, "bridge")); err != nil {
		t.Skipf("needs the CNI plugins of containernetworking-plugins: %v", err)
	}
	w := &world{t: t, ipam: t.TempDir(), bridge: "br" + strings.TrimPrefix(nettest.ID().GetValue(), "net-")[:8]}
	w.options = cni.Options{
		PluginDirs: []string{t.TempDir(), pluginDir}, ConfigDir: t.TempDir(), StateDir: filepath.Join(t.TempDir(), "cni"),
		Metrics: true, Log: zerolog.New(&w.log),
	}
	t.Cleanup(func() {
		if l, err := netlink.LinkByName(w.bridge); err == nil {
			_ = netlink.LinkDel(l)
		}
		if t.Failed() {
			t.Logf("log:\n%s", w.log.String())
		}
	})
	return w
}

func (w *world) isolator() *cni.CNI {
	w.t.Helper()
	c, err := cni.New(w.options)
	if err != nil {
		w.t.Fatal(err)
	}
	return c
}

func (w *world) write(name, content string) {
	w.t.Helper()
	if err := os.WriteFile(filepath.Join(w.options.ConfigDir, name), []byte(content), 0o644); err != nil {
		w.t.Fatal(err)
	}
}

// plugin writes a plugin of our own, a shell script.
func (w *world) plugin(name, script string) {
	w.t.Helper()
	if err := os.WriteFile(filepath.Join(w.options.PluginDirs[0], name), []byte("#!/bin/sh\n"+script), 0o755); err != nil {
		w.t.Fatal(err)
	}
}

// bridgeConf is the configuration of the plugin bridge, less name and version.
func (w *world) bridgeConf(subnet string) string {
	return fmt.Sprintf(`"type":"bridge","bridge":%q,"isGateway":true,"ipMasq":false,
	  "ipam":{"type":"host-local","dataDir":%q,"subnet":%q,"routes":[{"dst":"0.0.0.0/0"}]}`, w.bridge, w.ipam, subnet)
}

// reserved are the addresses that host-local has given out.
func (w *world) reserved(network string) []string {
	entries, _ := os.ReadDir(filepath.Join(w.ipam, network))
	var out []string
	for _, e := range entries {
		if net.ParseIP(e.Name()) != nil {
			out = append(out, e.Name())
		}
	}
	return out
}

// launch takes a container as far as Isolate.
func (w *world) launch(c *cni.CNI, config *isolation.ContainerConfig) (pid int, p *isolation.Preparation, err error) {
	w.t.Helper()
	if p, err = c.Prepare(w.t.Context(), config); err != nil {
		return 0, nil, err
	}
	var flags uintptr
	if p != nil {
		flags = p.CloneFlags
	}
	pid = nettest.Process(w.t, flags)
	return pid, p, c.Isolate(w.t.Context(), config.ID, pid)
}

func (w *world) mustLaunch(c *cni.CNI, config *isolation.ContainerConfig) (int, *isolation.Preparation) {
	w.t.Helper()
	pid, p, err := w.launch(c, config)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() {
		if err := c.Cleanup(context.Background(), config.ID); err != nil {
			w.t.Error(err)
		}
	})
	return pid, p
}

func (w *world) addresses(c *cni.CNI, id *mesos.ContainerID) []string {
	w.t.Helper()
	status := &mesos.ContainerStatus{}
	if err := c.Status(w.t.Context(), id, status); err != nil {
		w.t.Fatal(err)
	}
	var out []string
	for _, n := range status.GetNetworkInfos() {
		for _, a := range n.GetIpAddresses() {
			out = append(out, n.GetName()+" "+a.GetIpAddress())
		}
	}
	return out
}

// clean fails the test if anything of a network is left.
func (w *world) clean(network string) {
	w.t.Helper()
	if left := w.reserved(network); len(left) > 0 {
		w.t.Errorf("addresses left: %v", left)
	}
	entries, err := os.ReadDir(w.options.StateDir)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, e := range entries {
		if e.Name() != ".cache" {
			w.t.Errorf("left in the state directory: %s", e.Name())
		}
	}
	if left, _ := filepath.Glob(filepath.Join(w.options.StateDir, ".cache", "results", "*")); len(left) > 0 {
		w.t.Errorf("left in the cache: %v", left)
	}
	if mounts, err := os.ReadFile("/proc/self/mounts"); err != nil || strings.Contains(string(mounts), w.options.StateDir) {
		w.t.Errorf("mounts left (%v)", err)
	}
	links, err := netlink.LinkList()
	if err != nil {
		w.t.Fatal(err)
	}
	for _, l := range links {
		if l.Type() == "veth" {
			w.t.Errorf("link left: %s", l.Attrs().Name)
		}
	}
}

func named(name string, ports ...*mesos.NetworkInfo_PortMapping) *mesos.NetworkInfo {
	return &mesos.NetworkInfo{Name: &name, PortMappings: ports}
}

func TestConformance(t *testing.T) {
	isolationtest.Isolator(t, cni.Name, func(t *testing.T, _ string) isolation.Isolator {
		c, err := cni.New(cni.Options{})
		if err != nil {
			t.Fatal(err)
		}
		return c
	})
}

func TestConformanceWithNetworks(t *testing.T) {
	isolationtest.Isolator(t, cni.Name, func(t *testing.T, _ string) isolation.Isolator {
		return newWorld(t).isolator()
	})
}

func TestConnected(t *testing.T) {
	w := newWorld(t)
	w.write("10-net.conflist", `{"cniVersion":"1.0.0","name":"net","plugins":[{`+w.bridgeConf("10.88.1.0/24")+`},
	  {"type":"portmap","snat":true,"capabilities":{"portMappings":true}}]}`)
	c := w.isolator()
	server := nettest.Config(t, named("net", &mesos.NetworkInfo_PortMapping{HostPort: new(uint32(18080)), ContainerPort: new(uint32(80))}))
	server.ContainerInfo.Hostname = new("server.example")
	client := nettest.Config(t, named("net"))
	serverPID, p := w.mustLaunch(c, server)
	clientPID, _ := w.mustLaunch(c, client)

	if got, want := w.addresses(c, server.ID), []string{"net 10.88.1.2"}; !slices.Equal(got, want) {
		t.Fatalf("addresses: got %v, want %v", got, want)
	}
	if p.Hostname != "server.example" || p.Env["LIBPROCESS_IP"] != "0.0.0.0" {
		t.Errorf("preparation: got %+v", p)
	}
	files := make(map[string]string)
	for _, m := range p.Mounts {
		b, err := os.ReadFile(m.Source)
		if err != nil {
			t.Fatal(err)
		}
		files[m.Target] = string(b)
	}
	machine, _ := os.ReadFile("/etc/resolv.conf")
	if diff := cmp.Diff(map[string]string{
		"/etc/hosts":    "127.0.0.1 localhost\n10.88.1.2 server.example\n",
		"/etc/hostname": "server.example\n", "/etc/resolv.conf": string(machine),
	}, files); diff != "" {
		t.Errorf("files in /etc (-want +got):\n%s", diff)
	}

	nettest.Serve(t, nettest.Netns(serverPID), ":80", []byte("hello"))
	// From the machine, through the bridge and through the mapped port.
	addAddress(t, "10.99.0.1/32")
	for _, c := range []struct{ what, netns, address string }{
		{"the machine", nettest.Machine, "10.88.1.2:80"},
		{"another container", nettest.Netns(clientPID), "10.88.1.2:80"},
		{"the machine by the mapped port", nettest.Machine, "10.99.0.1:18080"},
		{"another container by the mapped port", nettest.Netns(clientPID), "10.88.1.1:18080"},
		{"itself by loopback", nettest.Netns(serverPID), "127.0.0.1:80"},
	} {
		if got, err := nettest.Fetch(c.netns, c.address); got != "hello" {
			t.Errorf("from %s: got %q (%v)", c.what, got, err)
		}
	}
	stats := &mesos.ResourceStatistics{}
	if err := c.Usage(t.Context(), server.ID, stats); err != nil {
		t.Fatal(err)
	}
	if stats.GetNetRxBytes() < 500 || stats.GetNetTxPackets() < 4 || stats.NetRxDropped == nil {
		t.Errorf("statistics: got %v", stats)
	}
	for _, config := range []*isolation.ContainerConfig{server, client} {
		if err := c.Cleanup(t.Context(), config.ID); err != nil {
			t.Fatal(err)
		}
	}
	w.clean("net")
	if got, err := nettest.Fetch(nettest.Machine, "10.99.0.1:18080"); err == nil {
		t.Errorf("mapped port after the end: got %q", got)
	}
}

// TestSeveralNetworks joins two at a time, one of the oldest version.
func TestSeveralNetworks(t *testing.T) {
	w := newWorld(t)
	w.write("a.conf", `{"name":"old",`+w.bridgeConf("10.88.2.0/24")+`}`)
	w.write("b.conf", `{"cniVersion":"0.4.0","name":"lo","type":"loopback"}`)
	w.write("c.conf", `{"cniVersion":"0.3.1","name":"six","type":"ptp","ipam":{"type":"host-local","dataDir":"`+w.ipam+
		`","ranges":[[{"subnet":"fd00:88::/64"}],[{"subnet":"10.88.3.0/24"}]]},"dns":{"nameservers":["10.0.0.53"],"search":["a.example"]}}`)
	w.write("d.conf", `not JSON`)
	w.options.DNS = &cni.ContainerDNS{Default: &cni.DNS{Nameservers: []string{"10.0.0.1"}, Domain: "example"}}
	c := w.isolator()
	config := nettest.Config(t, named("old"), named("six"))
	pid, p := w.mustLaunch(c, config)
	got := w.addresses(c, config.ID)
	if want := []string{"old 10.88.2.2", "six fd00:88::2", "six 10.88.3.2"}; !slices.Equal(got, want) {
		t.Errorf("addresses: got %v, want %v", got, want)
	}
	nettest.In(t, nettest.Netns(pid), func() error {
		for _, name := range []string{"eth0", "eth1", "lo"} {
			l, err := netlink.LinkByName(name)
			if err != nil {
				return err
			}
			if l.Attrs().Flags&net.FlagUp == 0 {
				t.Errorf("%s is down", name)
			}
		}
		return nil
	})
	b, err := os.ReadFile(p.Mounts[2].Source)
	if want := "domain example\nsearch a.example\nnameserver 10.0.0.1\nnameserver 10.0.0.53\n"; err != nil || string(b) != want {
		t.Errorf("%s: got %q (%v), want %q", p.Mounts[2].Target, b, err, want)
	}
	if err := c.Cleanup(t.Context(), config.ID); err != nil {
		t.Fatal(err)
	}
	w.clean("old")
	w.clean("six")
	if !strings.Contains(w.log.String(), "d.conf") {
		t.Error("nothing is logged about the bad configuration")
	}
}

// TestPortMapper takes a configuration that is written for Mesos's own plugin.
func TestPortMapper(t *testing.T) {
	w := newWorld(t)
	w.write("mapped.conf", `{"name":"mapped","type":"mesos-cni-port-mapper","excludeDevices":["`+w.bridge+`"],"chain":"MESOS-MAPPED",
	  "args":{"some.org":{"x":1}},"delegate":{`+w.bridgeConf("10.88.4.0/24")+`}}`)
	c := w.isolator()
	config := nettest.Config(t, named("mapped", &mesos.NetworkInfo_PortMapping{
		HostPort: new(uint32(18081)), ContainerPort: new(uint32(81)), Protocol: new("TCP"),
	}))
	pid, _ := w.mustLaunch(c, config)
	nettest.Serve(t, nettest.Netns(pid), ":81", []byte("mapped"))
	addAddress(t, "10.99.0.2/32")
	if got, err := nettest.Fetch(nettest.Machine, "10.99.0.2:18081"); got != "mapped" {
		t.Errorf("mapped port: got %q (%v)", got, err)
	}
	if err := c.Cleanup(t.Context(), config.ID); err != nil {
		t.Fatal(err)
	}
	w.clean("mapped")
}

func TestArgs(t *testing.T) {
	w := newWorld(t)
	seen := filepath.Join(t.TempDir(), "stdin")
	w.plugin("spy", `cat > `+seen+`.$CNI_COMMAND; echo '{"cniVersion":"0.3.1","ips":[{"version":"4","address":"10.1.2.3/8"}]}'`)
	w.write("spied.conf", `{"cniVersion":"0.3.1","name":"spied","type":"spy","args":{"other":{"a":1}}}`)
	c := w.isolator()
	info := named("spied", &mesos.NetworkInfo_PortMapping{HostPort: new(uint32(1)), ContainerPort: new(uint32(2))})
	info.Groups = []string{"g"}
	info.Labels = &mesos.Labels{Labels: []*mesos.Label{{Key: new("k"), Value: new("v")}}}
	config := nettest.Config(t, info)
	w.mustLaunch(c, config)
	want := `"org.apache.mesos":{"network_info":{"groups":["g"],"labels":{"labels":[{"key":"k","value":"v"}]},"name":"spied","port_mappings":[{"host_port":1,"container_port":2}]}}`
	// The file changes and disappears; DEL gets what ADD got.
	w.write("spied.conf", "")
	if err := c.Cleanup(t.Context(), config.ID); err != nil {
		t.Fatal(err)
	}
	for _, command := range []string{".ADD", ".DEL"} {
		b, err := os.ReadFile(seen + command)
		if err != nil || !sameFields(string(b), want) || !strings.Contains(string(b), `"other":{"a":1}`) {
			t.Errorf("%s: got %s (%v), want in it %s", command, b, err, want)
		}
	}
}

// sameFields says whether got has every name and value of want, in any order.
func sameFields(got, want string) bool {
	for part := range strings.FieldsFuncSeq(want, func(r rune) bool { return strings.ContainsRune("{}[],", r) }) {
		if !strings.Contains(got, part) {
			return false
		}
	}
	return true
}

func TestRefused(t *testing.T) {
	w := newWorld(t)
	w.write("ok.conf", `{"cniVersion":"0.4.0","name":"ok","type":"loopback"}`)
	w.write("reserved.conf", `{"cniVersion":"0.4.0","name":"reserved","type":"loopback","args":{"org.apache.mesos":{}}}`)
	w.write("gone.conf", `{"cniVersion":"0.4.0","name":"gone","type":"no-such-plugin"}`)
	w.write("ipam.conf", `{"cniVersion":"0.4.0","name":"ipam","type":"bridge","ipam":{"type":"no-such-ipam"}}`)
	c := w.isolator()
	for _, test := range []struct {
		name  string
		infos []*mesos.NetworkInfo
		kind  mesos.ContainerInfo_Type
		want  string
	}{
		{"unknown", []*mesos.NetworkInfo{named("nonesuch")}, mesos.ContainerInfo_MESOS, `unknown CNI network "nonesuch"`},
		{"path", []*mesos.NetworkInfo{named("../ok")}, mesos.ContainerInfo_MESOS, `unknown CNI network "../ok"`},
		{"twice", []*mesos.NetworkInfo{named("ok"), named("ok")}, mesos.ContainerInfo_MESOS, "multiple times"},
		{"docker", []*mesos.NetworkInfo{named("ok")}, mesos.ContainerInfo_DOCKER, "type MESOS"},
		{"reserved", []*mesos.NetworkInfo{named("reserved")}, mesos.ContainerInfo_MESOS, "org.apache.mesos"},
		{"no plugin", []*mesos.NetworkInfo{named("gone")}, mesos.ContainerInfo_MESOS, "no-such-plugin"},
		{"no IPAM plugin", []*mesos.NetworkInfo{named("ipam")}, mesos.ContainerInfo_MESOS, "no-such-ipam"},
	} {
		t.Run(test.name, func(t *testing.T) {
			config := nettest.Config(t, test.infos...)
			config.ContainerInfo.Type = &test.kind
			if _, err := c.Prepare(t.Context(), config); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %q", err, test.want)
			}
			if err := c.Usage(t.Context(), config.ID, &mesos.ResourceStatistics{}); err == nil {
				t.Error("the container is known")
			}
		})
	}
	w.write("later.conf", `{"cniVersion":"0.4.0","name":"nonesuch","type":"loopback"}`)
	config := nettest.Config(t, named("nonesuch"))
	w.mustLaunch(c, config) // a network that came while the agent ran
	if err := c.Cleanup(t.Context(), config.ID); err != nil {
		t.Fatal(err)
	}
	w.clean("ok")
}

func TestFailedAdd(t *testing.T) {
	w := newWorld(t)
	w.plugin("breaks", `if [ $CNI_COMMAND = ADD ]; then echo '{"cniVersion":"1.0.0","code":11,"msg":"no more wires"}'; exit 1; fi`)
	w.write("net.conflist", `{"cniVersion":"1.0.0","name":"net","plugins":[{`+w.bridgeConf("10.88.5.0/24")+`}]}`)
	w.write("bad.conflist", `{"cniVersion":"1.0.0","name":"bad","plugins":[{"type":"breaks"}]}`)
	c := w.isolator()
	config := nettest.Config(t, named("net"), named("bad"))
	_, _, err := w.launch(c, config)
	if err == nil || !strings.Contains(err.Error(), "no more wires") || !strings.Contains(err.Error(), `"bad"`) {
		t.Errorf("got %v", err)
	}
	if len(w.reserved("net")) == 0 {
		t.Error("the first network was not joined, so the test shows nothing")
	}
	if err := c.Cleanup(t.Context(), config.ID); err != nil {
		t.Fatal(err)
	}
	w.clean("net")
}

func TestRecover(t *testing.T) {
	w := newWorld(t)
	w.write("net.conflist", `{"cniVersion":"1.0.0","name":"net","plugins":[{`+w.bridgeConf("10.88.6.0/24")+`}]}`)
	c := w.isolator()
	running, ended, orphan, unknown, half := nettest.Config(t, named("net")), nettest.Config(t, named("net")), nettest.Config(t, named("net")), nettest.Config(t, named("net")), nettest.Config(t, named("net"))
	machine := nettest.Config(t)
	pids := make(map[*isolation.ContainerConfig]int)
	for _, config := range []*isolation.ContainerConfig{running, ended, orphan, unknown, machine} {
		pids[config], _ = w.mustLaunch(c, config)
	}
	if _, err := c.Prepare(t.Context(), half); err != nil { // the agent dies before it forks
		t.Fatal(err)
	}
	_ = syscall.Kill(pids[ended], syscall.SIGKILL)
	nested := &isolation.ContainerConfig{ID: &mesos.ContainerID{Value: new("nested"), Parent: running.ID}, Sandbox: running.Sandbox}
	if _, err := c.Prepare(t.Context(), nested); err != nil {
		t.Fatal(err)
	}
	want := w.addresses(c, running.ID)

	again := w.isolator()
	states := []isolation.ContainerState{
		{Config: running, PID: pids[running]}, {Config: nested, PID: pids[running]}, {Config: ended}, {Config: machine, PID: pids[machine]},
	}
	if err := again.Recover(t.Context(), states, []*mesos.ContainerID{orphan.ID}); err != nil {
		t.Fatal(err)
	}
	if got := w.addresses(again, running.ID); len(got) != 1 || !slices.Equal(got, want) {
		t.Errorf("addresses: got %v, want %v", got, want)
	}
	if got := w.addresses(again, nested.ID); !slices.Equal(got, want) {
		t.Errorf("addresses of the nested container: got %v, want %v", got, want)
	}
	if got := len(w.reserved("net")); got != 3 {
		t.Errorf("reserved addresses: got %d, want 3: those of the unknown are back", got)
	}
	if err := again.Usage(t.Context(), running.ID, &mesos.ResourceStatistics{}); err != nil {
		t.Error(err)
	}
	for _, config := range []*isolation.ContainerConfig{nested, running, ended, orphan, machine} {
		if err := again.Cleanup(t.Context(), config.ID); err != nil {
			t.Errorf("cleanup: %v", err)
		}
	}
	w.clean("net")
}

// TestReboot finds the state of containers whose namespaces are gone.
func TestReboot(t *testing.T) {
	w := newWorld(t)
	w.write("net.conflist", `{"cniVersion":"1.0.0","name":"net","plugins":[{`+w.bridgeConf("10.88.7.0/24")+`}]}`)
	config := nettest.Config(t, named("net"))
	w.mustLaunch(w.isolator(), config)
	if err := netns.Release(filepath.Join(w.options.StateDir, config.ID.GetValue(), "ns")); err != nil {
		t.Fatal(err)
	}
	again := w.isolator()
	if err := again.Recover(t.Context(), nil, nil); err != nil {
		t.Fatal(err)
	}
	if left := w.reserved("net"); len(left) > 0 {
		t.Errorf("addresses left: %v", left)
	}
}

func TestCheckAndCollect(t *testing.T) {
	w := newWorld(t)
	calls := filepath.Join(t.TempDir(), "calls")
	w.plugin("spy", `{ echo $CNI_COMMAND${CNI_CONTAINERID:+ $CNI_CONTAINERID}; [ $CNI_COMMAND = GC ] && cat; } >> `+calls+`
case $CNI_COMMAND in
VERSION) echo '{"cniVersion":"1.1.0","supportedVersions":["1.0.0","1.1.0"]}';;
ADD) echo '{"cniVersion":"1.1.0","ips":[{"address":"10.1.2.3/8"}]}';;
CHECK) echo '{"cniVersion":"1.1.0","code":100,"msg":"the wire is cut"}'; exit 1;;
esac`)
	w.write("new.conflist", `{"cniVersion":"1.1.0","name":"new","plugins":[{"type":"spy"}]}`)
	config := nettest.Config(t, named("new"))
	pid, _ := w.mustLaunch(w.isolator(), config)
	again := w.isolator()
	if err := again.Recover(t.Context(), []isolation.ContainerState{{Config: config, PID: pid}}, nil); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(calls)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"CHECK " + config.ID.GetValue(), "GC\n", `"cni.dev/valid-attachments":[{"containerID":"` + config.ID.GetValue() + `","ifname":"eth0"}]`} {
		if !strings.Contains(string(b), want) {
			t.Errorf("calls: got\n%s\nwant %q", b, want)
		}
	}
	if !strings.Contains(w.log.String(), "the wire is cut") {
		t.Error("the failed check is not logged")
	}
	if err := again.Cleanup(t.Context(), config.ID); err != nil {
		t.Fatal(err)
	}
	w.clean("new")
}

func TestNested(t *testing.T) {
	w := newWorld(t)
	w.write("net.conflist", `{"cniVersion":"1.0.0","name":"net","plugins":[{`+w.bridgeConf("10.88.8.0/24")+`}]}`)
	c := w.isolator()
	parent, machine := nettest.Config(t, named("net")), nettest.Config(t)
	_, parentMounts := w.mustLaunch(c, parent)
	w.mustLaunch(c, machine)
	nest := func(name string, parent *isolation.ContainerConfig, networks ...*mesos.NetworkInfo) *isolation.ContainerConfig {
		config := nettest.Config(t, networks...)
		config.ID = &mesos.ContainerID{Value: &name, Parent: parent.ID}
		return config
	}
	const all = unix.CLONE_NEWNS | unix.CLONE_NEWNET | unix.CLONE_NEWUTS
	shares, own, onMachine := nest("shares", parent), nest("own", parent, named("net")), nest("own", machine, named("net"))
	deeper := nest("deeper", own)
	debug := nest("debug", parent, named("net"))
	debug.Class = isolation.ClassDebug
	var kept []*isolation.ContainerConfig
	for _, test := range []struct {
		name         string
		config       *isolation.ContainerConfig
		clone, enter uintptr
		mounts       int
		address      string
	}{
		{"shares", shares, unix.CLONE_NEWNS, unix.CLONE_NEWNET | unix.CLONE_NEWUTS, 3, "net 10.88.8.2"},
		{"debug", debug, 0, all, 0, "net 10.88.8.2"},
		{"own", own, all, 0, 3, "net 10.88.8.3"},
		{"deeper", deeper, unix.CLONE_NEWNS, unix.CLONE_NEWNET | unix.CLONE_NEWUTS, 3, "net 10.88.8.3"},
		{"own on the machine", onMachine, all, 0, 3, "net 10.88.8.4"},
		{"on the machine", nest("plain", machine), 0, 0, 0, ""},
	} {
		_, p := w.mustLaunch(c, test.config)
		if p == nil {
			p = &isolation.Preparation{}
		}
		if p.CloneFlags != test.clone || p.EnterFlags != test.enter || len(p.Mounts) != test.mounts {
			t.Errorf("%s: got clone %#x, enter %#x, %d mounts", test.name, p.CloneFlags, p.EnterFlags, len(p.Mounts))
		}
		if got := strings.Join(w.addresses(c, test.config.ID), " "); got != test.address {
			t.Errorf("%s: got address %q, want %q", test.name, got, test.address)
		}
		if test.name == "shares" && p.Mounts[0] != parentMounts.Mounts[0] {
			t.Errorf("%s: got mount %v, want that of the parent", test.name, p.Mounts[0])
		}
		kept = append(kept, test.config)
	}
	for _, config := range slices.Backward(append([]*isolation.ContainerConfig{parent, machine}, kept...)) {
		if err := c.Cleanup(t.Context(), config.ID); err != nil {
			t.Fatal(err)
		}
	}
	w.clean("net")
}

// TestImages gives containers with an image and no network the machine's files.
func TestImages(t *testing.T) {
	c, err := cni.New(cni.Options{})
	if err != nil {
		t.Fatal(err)
	}
	config := nettest.Config(t)
	config.RootFS = "/image"
	p, err := c.Prepare(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	if p.CloneFlags != 0 || len(p.Mounts) == 0 {
		t.Fatalf("got %+v", p)
	}
	for _, m := range p.Mounts {
		if m.Flags&unix.MS_RDONLY == 0 || m.Host {
			t.Errorf("got mount %+v", m)
		}
	}
}

func TestOptions(t *testing.T) {
	for _, o := range []cni.Options{
		{ConfigDir: "/etc"},
		{PluginDirs: []string{"/"}},
		{ConfigDir: "/nonesuch", PluginDirs: []string{"/"}},
		{ConfigDir: "/etc/passwd", PluginDirs: []string{"/"}},
	} {
		if _, err := cni.New(o); err == nil {
			t.Errorf("%+v: got no error", o)
		}
	}
}

func TestParseContainerDNS(t *testing.T) {
	got, err := cni.ParseContainerDNS([]byte(`{
	  "mesos":[{"network_mode":"CNI","network_name":"net1","dns":{"nameservers":["8.8.8.8"],"options":["ndots:2"]}},
	           {"network_mode":"CNI","dns":{"nameservers":["8.8.4.4"],"domain":"d","search":["s"]}}],
	  "docker":[{"network_mode":"BRIDGE","dns":{"nameservers":["1.1.1.1"]}},{"network_mode":"USER","network_name":"u","dns":{}},
	            {"network_mode":"USER","dns":{"search":["x"]}}]}`))
	want := &cni.ContainerDNS{
		Networks: map[string]cni.DNS{"net1": {Nameservers: []string{"8.8.8.8"}, Options: []string{"ndots:2"}}},
		Default:  &cni.DNS{Nameservers: []string{"8.8.4.4"}, Domain: "d", Search: []string{"s"}},
		Docker: []cni.DockerDNS{
			{Bridge: true, DNS: cni.DNS{Nameservers: []string{"1.1.1.1"}}}, {Network: "u"}, {DNS: cni.DNS{Search: []string{"x"}}},
		},
	}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	for _, bad := range []string{
		``, `{"mesos":[{"network_mode":"HOST","dns":{}}]}`, `{"mesos":[{"dns":{}}]}`, `{"mesos":[{"network_mode":"CNI"}]}`,
		`{"mesos":[{"network_mode":"CNI","dns":{}},{"network_mode":"CNI","dns":{}}]}`,
		`{"mesos":[{"network_mode":"CNI","network_name":"a","dns":{}},{"network_mode":"CNI","network_name":"a","dns":{}}]}`,
		`{"docker":[{"network_mode":"HOST","dns":{}}]}`, `{"docker":[{"network_mode":"X","dns":{}}]}`,
		`{"docker":[{"network_mode":"BRIDGE","dns":{}},{"network_mode":"BRIDGE","dns":{}}]}`,
	} {
		if _, err := cni.ParseContainerDNS([]byte(bad)); err == nil {
			t.Errorf("%s: got no error", bad)
		}
	}
}

// BenchmarkContainer is what a network costs a container.
func BenchmarkContainer(b *testing.B) {
	w := newWorld(b)
	w.write("net.conflist", `{"cniVersion":"1.0.0","name":"net","plugins":[{`+w.bridgeConf("10.88.0.0/16")+`}]}`)
	c := w.isolator()
	for b.Loop() {
		config := nettest.Config(b, named("net"))
		if _, _, err := w.launch(c, config); err != nil {
			b.Fatal(err)
		}
		if err := c.Cleanup(b.Context(), config.ID); err != nil {
			b.Fatal(err)
		}
	}
}

// addAddress gives the machine one more address.
func addAddress(t *testing.T, address string) {
	t.Helper()
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		t.Fatal(err)
	}
	a, err := netlink.ParseAddr(address)
	if err != nil {
		t.Fatal(err)
	}
	if err := netlink.AddrAdd(lo, a); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = netlink.AddrDel(lo, a) })
}
