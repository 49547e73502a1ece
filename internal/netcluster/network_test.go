package netcluster

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"clusterd/internal/testcluster"
)

func TestMain(m *testing.M) {
	flag.Parse()
	// Clusters wait more than they work.
	if err := flag.Set("test.parallel", "3"); err != nil {
		panic(err)
	}
	code := m.Run()
	testcluster.RemoveBinary()
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

// needNetwork skips a test where no networks can be made.
func needNetwork(t *testing.T) {
	t.Helper()
	if err := Supported(); err != nil {
		t.Skip(err)
	}
}

// hostT adds a host.
func hostT(t *testing.T, n *Network, name string, number int) *Host {
	t.Helper()
	h, err := n.Host(name, number)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// echo serves a host's port 7: each line comes back.
func echo(t *testing.T, h *Host) {
	t.Helper()
	l, err := h.Listen(t.Context(), 7)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	var conns []net.Conn
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				for _, c := range conns {
					c.Close() // the end of the other side may never arrive
				}
				return
			}
			conns = append(conns, c)
			wg.Go(func() { _, _ = io.Copy(c, c) })
		}
	})
	t.Cleanup(func() { l.Close(); wg.Wait() })
}

// line sends a line over a connection and returns how long it takes to come back.
func line(c net.Conn, patience time.Duration) (time.Duration, error) {
	start := time.Now()
	if err := c.SetDeadline(start.Add(patience)); err != nil {
		return 0, err
	}
	if _, err := c.Write([]byte("hello\n")); err != nil {
		return 0, err
	}
	_, err := bufio.NewReader(c).ReadString('\n')
	return time.Since(start), err
}

// dialT opens a connection between two hosts.
func dialT(t *testing.T, from, to *Host) net.Conn {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	c, err := from.DialContext(ctx, "tcp", to.IP()+":7")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

const (
	// never is long enough to see that nothing comes.
	never = 300 * time.Millisecond
	// soon is more than what comes needs.
	soon = 20 * time.Second
)

func wantCut(t *testing.T, c net.Conn, cut bool, what string) {
	t.Helper()
	patience := soon
	if cut {
		patience = never
	}
	_, err := line(c, patience)
	if cut && !errors.Is(err, os.ErrDeadlineExceeded) || !cut && err != nil {
		t.Errorf("%s: cut is %v, got error %v", what, cut, err)
	}
}

func TestNetworkPartition(t *testing.T) {
	needNetwork(t)
	n := New(1)
	t.Cleanup(n.Close)
	a, b, c := hostT(t, n, "a", 1), hostT(t, n, "b", 2), hostT(t, n, "c", 3)
	echo(t, b)
	ab, cb := dialT(t, a, b), dialT(t, c, b)
	wantCut(t, ab, false, "whole, a to b")
	n.Partition(a)
	wantCut(t, ab, true, "a alone, a to b")
	wantCut(t, cb, false, "a alone, c to b")
	n.Heal()
	wantCut(t, dialT(t, a, b), false, "healed, a to b")
}

// TestNetworkOneWay counts what arrives: only one direction is cut.
func TestNetworkOneWay(t *testing.T) {
	needNetwork(t)
	for _, deaf := range []bool{true, false} {
		t.Run(fmt.Sprintf("deaf=%v", deaf), func(t *testing.T) {
			n := New(1)
			t.Cleanup(n.Close)
			a, b := hostT(t, n, "a", 1), hostT(t, n, "b", 2)
			echo(t, b)
			c := dialT(t, a, b)
			wantCut(t, c, false, "whole")
			if deaf {
				n.Deafen(a, b)
			} else {
				n.Silence(a, b)
			}
			there, back := n.Delivered(a, b), n.Delivered(b, a)
			wantCut(t, c, true, "one way")
			for end := time.Now().Add(soon); deaf && n.Delivered(a, b) == there && time.Now().Before(end); {
				time.Sleep(10 * time.Millisecond) // the switch is slow today
			}
			there, back = n.Delivered(a, b)-there, n.Delivered(b, a)-back
			// From b, which is not cut off from a when a is silent, a late answer to what
			// was before may come.
			if deaf != (there > 0) || deaf && back != 0 {
				t.Errorf("%d packets from a to b and %d back", there, back)
			}
		})
	}
}

func TestNetworkSlow(t *testing.T) {
	needNetwork(t)
	n := New(1)
	t.Cleanup(n.Close)
	a, b := hostT(t, n, "a", 1), hostT(t, n, "b", 2)
	echo(t, b)
	c := dialT(t, a, b)
	n.Between([]*Host{a}, []*Host{b}, Fault{Delay: 40 * time.Millisecond, Jitter: 20 * time.Millisecond})
	if took, err := line(c, soon); err != nil || took < 80*time.Millisecond {
		t.Errorf("slow both ways: %s, %v, want at least 80ms", took, err)
	}
	// TCP makes up for what is lost.
	n.Between([]*Host{a}, []*Host{b}, Fault{Loss: 0.3})
	for range 8 {
		if _, err := line(c, soon); err != nil {
			t.Fatal(err)
		}
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.lost == 0 {
		t.Error("no packet was lost")
	}
}

func TestHostAddresses(t *testing.T) {
	needNetwork(t)
	n := New(1)
	t.Cleanup(n.Close)
	hostT(t, n, "a", 1)
	if _, err := n.Host("b", 1); err == nil {
		t.Error("two hosts have one address")
	}
	if _, err := n.Host("c", 255); err == nil {
		t.Error("a host has the address of all")
	}
}
