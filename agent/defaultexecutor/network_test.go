package defaultexecutor

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"clusterd/agent/executorlink"
)

// listenEnv makes the test's binary a task in a network of its own.
const listenEnv = "CLUSTERD_TEST_LISTEN"

func TestMain(m *testing.M) {
	if os.Getenv(listenEnv) != "" {
		if err := listen(); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// listen brings the loopback interface up, listens, says where, and answers until it is killed.
func listen() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	req, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	req.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, req); err != nil {
		return err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println(l.Addr())
	for {
		c, err := l.Accept()
		if err != nil {
			return err
		}
		fmt.Fprintln(c, "from inside")
		c.Close()
	}
}

// TestDialInNetwork: probes reach what listens in a task's own network, and only they do.
func TestDialInNetwork(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can enter networks")
	}
	key := "pod." + executorlink.UUIDText(executorlink.NewUUID())
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe")
	cmd.Env = []string{listenEnv + "=1", markVariable + "=" + key}
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	address := strings.TrimSpace(line)
	if _, _, splitErr := net.SplitHostPort(address); err != nil || splitErr != nil {
		t.Fatalf("listener: got %q, %v, %v", line, err, splitErr)
	}
	before, err := os.Readlink("/proc/thread-self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	var n network
	for range 20 { // no thread that has been there serves others
		conn, err := n.dial(t.Context(), key, address)
		if err != nil {
			t.Fatal(err)
		}
		got, err := bufio.NewReader(conn).ReadString('\n')
		conn.Close()
		if got != "from inside\n" {
			t.Fatalf("answer: got %q, %v", got, err)
		}
		if now, err := os.Readlink("/proc/thread-self/ns/net"); err != nil || now != before {
			t.Fatalf("this thread is in %s, %v, and was in %s", now, err, before)
		}
	}
	if conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", address); err == nil {
		conn.Close()
		t.Error("the listener is reached from outside")
	}
	n.close()
	if _, err := n.dial(t.Context(), key, address); !errors.Is(err, errNoNetwork) {
		t.Errorf("after the task's end: got %v", err)
	}
	var other network
	if _, err := other.dial(t.Context(), key+"x", address); !errors.Is(err, errNoNetwork) {
		t.Errorf("of no task: got %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var late network
	defer late.close()
	if _, err := late.dial(ctx, key, address); !errors.Is(err, context.Canceled) {
		t.Errorf("too late: got %v", err)
	}
}

// TestContainerIP: tasks are told the agent's address, unless their pod has another.
func TestContainerIP(t *testing.T) {
	tcp := executorlink.Address{Network: "tcp"}
	for _, c := range []struct {
		agent executorlink.Address
		env   []string
		want  string
	}{
		{tcp, []string{"MESOS_AGENT_ENDPOINT=127.0.0.1:5051"}, "127.0.0.1"},
		{tcp, []string{"MESOS_AGENT_ENDPOINT=[::1]:5051"}, "::1"},
		{tcp, []string{"MESOS_AGENT_ENDPOINT=127.0.0.1:5051", "LIBPROCESS_IP=10.1.2.3"}, "10.1.2.3"},
	} {
		if got := containerIP(c.agent, c.env); got != c.want {
			t.Errorf("%v: got %s, want %s", c.env, got, c.want)
		}
	}
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range addresses {
		ipnet, ok := a.(*net.IPNet)
		if !ok || !ipnet.IP.IsGlobalUnicast() {
			continue
		}
		own := ipnet.IP.String()
		if got := containerIP(tcp, []string{"MESOS_AGENT_ENDPOINT=" + net.JoinHostPort(own, "5051")}); got != own {
			t.Errorf("an address of this machine: got %s, want %s", got, own)
		}
		// It is not of this network, so this is another.
		if got := net.ParseIP(containerIP(tcp, []string{"MESOS_AGENT_ENDPOINT=192.0.2.77:5051"})); !got.IsGlobalUnicast() || got.String() == "192.0.2.77" {
			t.Errorf("of a network of its own: got %s", got)
		}
		return
	}
}
