package cni_test

import (
	"os"
	"strings"
	"testing"

	"clusterd/isolation/isolators/network/netns"
	"clusterd/isolation/isolators/network/nettest"
)

// TestLowPorts: who is not root of the machine may have port 80 in a network of its own,
// and the machine's ports stay as they are.
func TestLowPorts(t *testing.T) {
	const file = "/proc/sys/net/ipv4/ip_unprivileged_port_start"
	lowest := func(path string) (value string) {
		t.Helper()
		if err := netns.Do(path, func() error {
			b, err := os.ReadFile(file)
			value = strings.TrimSpace(string(b))
			return err
		}); err != nil {
			t.Fatal(err)
		}
		return value
	}
	w := newWorld(t)
	before := lowest(nettest.Machine)
	w.write("net.conf", `{"cniVersion":"1.0.0","name":"net",`+w.bridgeConf("10.88.9.0/24")+`}`)
	pid, _ := w.mustLaunch(w.isolator(), nettest.Config(t, named("net")))
	if got := lowest(nettest.Netns(pid)); got != "0" {
		t.Errorf("in the container ports from %s on are for everybody, want all", got)
	}
	if after := lowest(nettest.Machine); after != before {
		t.Errorf("the machine's lowest port went from %s to %s", before, after)
	}
}
