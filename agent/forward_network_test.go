package agent

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"testing"

	mesos "clusterd/api/mesos/v1"
)

// listenEnv has the test binary listen, in a network of its own.
const listenEnv = "CLUSTERD_TEST_LISTEN"

// TestListenInside is what runs in the container of TestForwardIntoNetwork.
func TestListenInside(t *testing.T) {
	addr := os.Getenv(listenEnv)
	if addr == "" {
		t.Skip("for another test")
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Println("listening")
	for {
		c, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(c, "from inside")
		_ = c.Close()
	}
}

// TestForwardIntoNetwork: a port is one of the container's network, which nobody outside
// reaches.
func TestForwardIntoNetwork(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	for _, program := range []string{"unshare", "ip"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skip(err)
		}
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p := newPod(t)
	task := commandTask("t", "exec unshare -n sh -c 'ip link set lo up && exec "+self+" -test.run=TestListenInside -test.timeout=10m'")
	task.Command.Environment = &mesos.Environment{Variables: []*mesos.Environment_Variable{
		{Name: strp(listenEnv), Value: strp("[::1]:31999")}, {Name: strp("PATH"), Value: strp(os.Getenv("PATH"))},
	}}
	p.m.send(runGroup(framework("F"), defaultExecutor("d"), true, task))
	id := p.m.waitState("t", "RUNNING").GetContainerStatus().GetContainerId()
	var got string
	eventually(t, "what listens inside is reached", func() bool {
		nc, err := net.Dial("tcp", p.a.Addr())
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
		fmt.Fprintf(nc, "GET %s?container_id=%s&port=31999 HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n", forwardPath, containerText(id))
		br := bufio.NewReader(nc)
		resp, err := http.ReadResponse(br, nil)
		if err != nil {
			return false
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusSwitchingProtocols {
			return false // not yet
		}
		b, _ := io.ReadAll(br)
		got = string(b)
		return true
	})
	if got != "from inside" {
		t.Errorf("got %q", got)
	}
	if c, err := net.Dial("tcp", "[::1]:31999"); err == nil {
		c.Close()
		t.Error("it is not in a network of its own")
	}
}
