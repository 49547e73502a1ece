package ports_test

import (
	"context"
	"crypto/rand"
	"fmt"
	"net"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	mesos "clusterd/api/mesos/v1"
	"clusterd/isolation"
	"clusterd/isolation/cgroups"
	"clusterd/isolation/isolationtest"
	"clusterd/isolation/isolators/network/nettest"
	"clusterd/isolation/isolators/network/ports"
	"clusterd/isolation/setup"
)

// listenOn makes the test program listen, instead of testing.
const listenOn = "CLUSTERD_PORTS_LISTEN"

func TestMain(m *testing.M) {
	if addresses := os.Getenv(listenOn); addresses != "" {
		for a := range strings.SplitSeq(addresses, ",") {
			network, address, _ := strings.Cut(a, "/")
			if _, err := (&net.ListenConfig{}).Listen(context.Background(), network, address); err != nil {
				fmt.Println(err)
				os.Exit(1)
			}
		}
		fmt.Println("listening")
		time.Sleep(time.Hour)
	}
	code := nettest.Main(m)
	isolationtest.RemovePrograms()
	if err := goleak.Find(); err != nil && code == 0 {
		_, _ = fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func TestConformance(t *testing.T) {
	isolationtest.Isolator(t, ports.Name, func(t *testing.T, _ string) isolation.Isolator {
		p := ports.New(ports.Options{})
		t.Cleanup(func() { _ = p.Close() })
		return p
	})
}

// listener is a container: a shell whose child listens.
func listener(t *testing.T, addresses string) int {
	t.Helper()
	cmd := exec.CommandContext(context.Background(), "sh", "-c", `"$0"; true`, os.Args[0])
	cmd.Env = append(os.Environ(), listenOn+"="+addresses)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if child := childOf(t, cmd.Process.Pid); child != 0 {
			_ = syscall.Kill(child, syscall.SIGKILL)
		}
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	said := make([]byte, 64)
	if n, err := out.Read(said); string(said[:n]) != "listening\n" {
		t.Fatalf("the listener says %q (%v)", said[:n], err)
	}
	return cmd.Process.Pid
}

func portsResource(ranges ...uint64) *mesos.Resource {
	r := &mesos.Resource{Name: new("ports"), Type: mesos.Value_RANGES.Enum(), Ranges: &mesos.Value_Ranges{}}
	for i := 0; i < len(ranges); i += 2 {
		r.Ranges.Range = append(r.Ranges.Range, &mesos.Value_Range{Begin: &ranges[i], End: &ranges[i+1]})
	}
	return r
}

func TestLimitation(t *testing.T) {
	nettest.Need(t)
	for _, test := range []struct {
		name, listen string
		change       func(o *ports.Options, config *isolation.ContainerConfig)
		want         string // the ports of the limitation; empty: none comes
		logged       bool
	}{
		{"its own", "tcp4/:31000,tcp4/127.0.0.1:31001", nil, "", false},
		{"others", "tcp4/:31000,tcp4/:31100,tcp4/:31101,tcp4/127.0.0.1:31200", nil, "31100-31101 31200-31200", true},
		{"IPv6", "tcp/:31100", nil, "31100-31100", true},
		{"only logged", "tcp4/:31100", func(o *ports.Options, _ *isolation.ContainerConfig) { o.Enforce = false }, "", true},
		{"outside of what is isolated", "tcp4/:8080", func(o *ports.Options, _ *isolation.ContainerConfig) {
			o.Isolated = []ports.Range{{31000, 32000}}
		}, "", false},
		{"inside of what is isolated", "tcp4/:8080,tcp4/:31999", func(o *ports.Options, _ *isolation.ContainerConfig) {
			o.Isolated = []ports.Range{{31000, 32000}}
		}, "31999-31999", true},
		{"in a network", "tcp4/:31100", func(o *ports.Options, config *isolation.ContainerConfig) {
			o.CNI = true
			config.ContainerInfo = &mesos.ContainerInfo{NetworkInfos: []*mesos.NetworkInfo{{Name: new("net")}}}
		}, "", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			l := &nettest.Log{}
			o := ports.Options{WatchInterval: 10 * time.Millisecond, Enforce: true, Log: zerolog.New(l)}
			config := nettest.Config(t)
			config.Resources = []*mesos.Resource{portsResource(31000, 31010)}
			if test.change != nil {
				test.change(&o, config)
			}
			p := ports.New(o)
			defer p.Close()
			pid := listener(t, test.listen)
			// Looked at at the same time: once it is found, the other was looked at too.
			probe := nettest.Config(t)
			for c, pid := range map[*isolation.ContainerConfig]int{config: pid, probe: listener(t, "tcp4/:31500")} {
				if _, err := p.Prepare(t.Context(), c); err != nil {
					t.Fatal(err)
				}
				if err := p.Isolate(t.Context(), c.ID, pid); err != nil {
					t.Fatal(err)
				}
			}
			limits, err := p.Watch(config.ID)
			if err != nil {
				t.Fatal(err)
			}
			if test.want != "" {
				select {
				case limitation := <-limits:
					checkLimitation(t, limitation, config, test.want)
				case <-time.After(30 * time.Second):
					t.Fatal("no limitation came")
				}
			} else {
				looked(t, p, l)
			}
			select {
			case limitation := <-limits:
				t.Errorf("got limitation %+v", limitation)
			default:
			}
			if got := strings.Count(l.String(), config.ID.GetValue()+" is listening"); got > 1 || (got == 1) != test.logged {
				t.Errorf("logged %d times:\n%s", got, l)
			}
		})
	}
}

// looked waits until a look that began after the call has ended: a second marker is
// found only in a look after that of the first.
func looked(t *testing.T, p *ports.Ports, l *nettest.Log) {
	t.Helper()
	pid := listener(t, "tcp4/127.0.0.2:31501")
	for range 2 {
		marker := nettest.Config(t)
		if _, err := p.Prepare(t.Context(), marker); err != nil {
			t.Fatal(err)
		}
		if err := p.Isolate(t.Context(), marker.ID, pid); err != nil {
			t.Fatal(err)
		}
		nettest.Eventually(t, "the marker is found", func() bool { return strings.Contains(l.String(), marker.ID.GetValue()) })
	}
}

func checkLimitation(t *testing.T, l isolation.Limitation, config *isolation.ContainerConfig, want string) {
	t.Helper()
	var got []string
	for _, r := range l.Resources[0].GetRanges().GetRange() {
		got = append(got, fmt.Sprintf("%d-%d", r.GetBegin(), r.GetEnd()))
	}
	if l.Reason != mesos.TaskStatus_REASON_CONTAINER_LIMITATION || l.Resources[0].GetName() != "ports" || strings.Join(got, " ") != want {
		t.Errorf("limitation: got %+v, want ports %s", l, want)
	}
	text := "Container " + config.ID.GetValue() + " is listening on unallocated port(s): [" + strings.ReplaceAll(want, " ", ", ") + "]"
	if l.Message != text {
		t.Errorf("message: got %q, want %q", l.Message, text)
	}
}

// TestUpdate gives ports and takes them away, also after the agent came back.
func TestUpdate(t *testing.T) {
	nettest.Need(t)
	l := &nettest.Log{}
	pid := listener(t, "tcp4/:31700")
	var asked sync.Map
	p := ports.New(ports.Options{
		WatchInterval: 10 * time.Millisecond, Enforce: true, Log: zerolog.New(l),
		Processes: func(id *mesos.ContainerID) ([]int, error) {
			asked.Store(isolation.Key(id), true)
			return []int{pid, childOf(t, pid)}, nil
		},
	})
	defer p.Close()
	config, marker := nettest.Config(t), nettest.Config(t)
	config.FrameworkID = &mesos.FrameworkID{Value: new("f")}
	if err := p.Recover(t.Context(), []isolation.ContainerState{{Config: config, PID: pid}}, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Prepare(t.Context(), marker); err != nil {
		t.Fatal(err)
	}
	if err := p.Isolate(t.Context(), marker.ID, pid); err != nil {
		t.Fatal(err)
	}
	nettest.Eventually(t, "the marker is found", func() bool { return strings.Contains(l.String(), marker.ID.GetValue()) })
	if _, ok := asked.Load(config.ID.GetValue()); ok {
		t.Error("a container whose ports are not known yet was looked at")
	}
	limits, err := p.Watch(config.ID)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Update(t.Context(), config.ID, []*mesos.Resource{portsResource(31700, 31700)}, nil); err != nil {
		t.Fatal(err)
	}
	nettest.Eventually(t, "the container is looked at", func() bool {
		_, ok := asked.Load(config.ID.GetValue())
		return ok
	})
	if len(limits) > 0 {
		t.Errorf("got %+v", <-limits)
	}
}

// TestRealContainer ends a container of the linux launcher, whose processes are those in
// its cgroup.
func TestRealContainer(t *testing.T) {
	nettest.Need(t)
	options := setup.Options{
		WorkDir: t.TempDir(), RuntimeDir: t.TempDir(), Launcher: "linux", Isolation: ports.Name,
		CgroupsRoot: "clusterd-test-" + strings.ToLower(rand.Text()[:12]),
	}
	options.Network.Ports = ports.Options{WatchInterval: 50 * time.Millisecond, Enforce: true}
	t.Cleanup(func() {
		if tree, err := cgroups.Open(setup.DefaultCgroupsHierarchy, options.CgroupsRoot); err == nil && tree.Use(cgroups.Core) == nil {
			if dir, err := tree.Root(cgroups.Core); err == nil {
				_ = os.Remove(dir)
			}
		}
	})
	c, err := setup.New(options, isolationtest.Programs(t), zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Recover(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	config := nettest.Config(t)
	config.Resources = []*mesos.Resource{portsResource(31000, 31000)}
	config.Env = map[string]string{listenOn: "tcp4/:31000,tcp/:31800", "PATH": os.Getenv("PATH")}
	config.Command = &mesos.CommandInfo{Shell: new(true), Value: new("setsid " + os.Args[0] + " & wait")}
	if err := c.Launch(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	end, err := c.Wait(t.Context(), config.ID)
	if err != nil || end.Reason == nil || len(end.Limitations) != 1 {
		t.Fatalf("got %+v (%v)", end, err)
	}
	checkLimitation(t, end.Limitations[0], config, "31800-31800")
	if err := c.Remove(t.Context(), config.ID); err != nil {
		t.Fatal(err)
	}
}

// childOf is the process that listens.
func childOf(t *testing.T, pid int) int {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	if err != nil {
		t.Error(err)
	}
	child, _ := strconv.Atoi(strings.TrimSpace(string(b)))
	return child
}

func TestParseRanges(t *testing.T) {
	got, err := ports.ParseRanges("[0-35000, 40000-40001]")
	if want := []ports.Range{{0, 35000}, {40000, 40001}}; err != nil || !slices.Equal(got, want) {
		t.Errorf("got %v (%v), want %v", got, err, want)
	}
	for _, bad := range []string{"", "0-1", "[0-1", "0-1]", "[", "[]", "[1]", "[2-1]", "[0-65536]", "[a-b]"} {
		if _, err := ports.ParseRanges(bad); err == nil {
			t.Errorf("%q: got no error", bad)
		}
	}
}
