// Package nettest gives the tests of network isolators a machine's network to play
// with: a network and a mount namespace that the whole test program lives in, so
// that nothing they do, or leave behind, is seen by the machine or by other tests.
//
// Main is called by each TestMain. Only tests import this package.
package nettest

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	mesos "clusterd/api/mesos/v1"
	"clusterd/isolation"
	"clusterd/isolation/isolators/network/netns"
)

// inside tells the program that it is in namespaces of its own.
const inside = "CLUSTERD_NETTEST_INSIDE"

// Main runs the tests in namespaces of their own, if it may.
func Main(m *testing.M) int {
	if os.Geteuid() != 0 {
		return m.Run() // Need skips
	}
	if os.Getenv(inside) == "" {
		cmd := exec.CommandContext(context.Background(), "/proc/self/exe", os.Args[1:]...)
		cmd.Args[0] = os.Args[0]
		cmd.Env = append(os.Environ(), inside+"=1")
		cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
		cmd.SysProcAttr = &syscall.SysProcAttr{
			Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS, Unshareflags: syscall.CLONE_NEWNS,
			Pdeathsig: syscall.SIGKILL,
		}
		err := cmd.Run()
		if exit, ok := errors.AsType[*exec.ExitError](err); ok {
			return exit.ExitCode()
		}
		if err != nil {
			_, _ = os.Stderr.WriteString("run the tests in namespaces of their own: " + err.Error() + "\n")
			return 1
		}
		return 0
	}
	if err := netns.SetLoopbackUp(); err != nil {
		_, _ = os.Stderr.WriteString(err.Error() + "\n")
		return 1
	}
	return m.Run()
}

// Need skips a test that cannot run here.
func Need(tb testing.TB, programs ...string) {
	tb.Helper()
	if os.Getenv(inside) == "" {
		tb.Skip("needs root, for network namespaces")
	}
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			tb.Skipf("needs %s", p)
		}
	}
}

// ID makes a container's id.
func ID() *mesos.ContainerID {
	return &mesos.ContainerID{Value: new("net-" + strings.ToLower(rand.Text()[:12]))}
}

// Process starts a process in new namespaces, which does nothing until the test ends.
func Process(tb testing.TB, flags uintptr) int {
	tb.Helper()
	cmd := exec.CommandContext(context.Background(), "sleep", "1000") // the test's context ends before its cleanups
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: flags, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return cmd.Process.Pid
}

// Netns is the network namespace of a process, for netns.Do.
func Netns(pid int) string { return "/proc/" + strconv.Itoa(pid) + "/ns/net" }

// In runs f in a network namespace.
func In(tb testing.TB, path string, f func() error) {
	tb.Helper()
	if err := netns.Do(path, f); err != nil {
		tb.Fatal(err)
	}
}

// Machine is the network namespace that the tests take for the machine's.
const Machine = "/proc/self/ns/net"

// Serve answers every TCP connection to an address in a network namespace with a
// text, until the test ends.
func Serve(tb testing.TB, path, address string, text []byte) net.Listener {
	tb.Helper()
	var l net.Listener
	In(tb, path, func() (err error) {
		l, err = (&net.ListenConfig{}).Listen(context.Background(), "tcp4", address)
		return err
	})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
				_, _ = conn.Write(text)
				_ = conn.Close()
			})
		}
	})
	tb.Cleanup(func() {
		_ = l.Close()
		wg.Wait()
	})
	return l
}

// Fetch reads all that a server says, from a network namespace.
func Fetch(path, address string) (string, error) { return FetchFrom(path, 0, address) }

// FetchFrom does it from a port.
func FetchFrom(path string, port int, address string) (string, error) {
	var text []byte
	err := netns.Do(path, func() (err error) {
		// A plain socket: package net may look on another thread.
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		limit := unix.NsecToTimeval((2 * time.Second).Nanoseconds())
		for _, option := range []int{unix.SO_SNDTIMEO, unix.SO_RCVTIMEO} {
			if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, option, &limit); err != nil {
				return err
			}
		}
		if port != 0 {
			if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
				return err
			}
			if err := unix.Bind(fd, &unix.SockaddrInet4{Port: port}); err != nil {
				return err
			}
		}
		a, err := netip.ParseAddrPort(address)
		if err != nil {
			return err
		}
		err = again(func() error { return unix.Connect(fd, &unix.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().As4()}) })
		if err != nil && !errors.Is(err, unix.EISCONN) {
			return fmt.Errorf("connect: %w", err)
		}
		buf := make([]byte, 64<<10)
		for {
			var n int
			err := again(func() (err error) {
				n, err = unix.Read(fd, buf)
				return err
			})
			if err != nil {
				return fmt.Errorf("read: %w", err)
			}
			if n <= 0 {
				return nil
			}
			text = append(text, buf[:n]...)
		}
	})
	return string(text), err
}

// Log keeps what is logged, for tests to read.
type Log struct {
	mu sync.Mutex
	b  bytes.Buffer
}

// Write appends.
func (l *Log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

// String is all that was logged.
func (l *Log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// again repeats a system call that the runtime's own signals interrupt.
func again(call func() error) error {
	for {
		if err := call(); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// Ping pings an address twice, from a network namespace, and says how many answers
// came until the second had one.
func Ping(path, address string) (int, error) {
	answers := 0
	err := netns.Do(path, func() error {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_ICMP)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		limit := unix.NsecToTimeval((5 * time.Second).Nanoseconds())
		if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &limit); err != nil {
			return err
		}
		a, err := netip.ParseAddr(address)
		if err != nil {
			return err
		}
		id := []byte(rand.Text()[:2])
		for sequence := byte(1); sequence <= 2; sequence++ {
			request := []byte{8, 0, 0, 0, id[0], id[1], 0, sequence}
			sum := ^(8<<8 + uint32(id[0])<<8 + uint32(id[1]) + uint32(sequence))
			sum = ^((^sum & 0xffff) + (^sum >> 16))
			request[2], request[3] = byte(sum>>8), byte(sum)
			if err := unix.Sendto(fd, request, 0, &unix.SockaddrInet4{Addr: a.As4()}); err != nil {
				return err
			}
			for {
				packet := make([]byte, 1500)
				var n int
				err := again(func() (err error) {
					n, err = unix.Read(fd, packet)
					return err
				})
				if err != nil {
					return fmt.Errorf("answer to ping %d: %w", sequence, err)
				}
				if n < 28 || packet[20] != 0 || packet[24] != id[0] || packet[25] != id[1] {
					continue
				}
				answers++
				if packet[27] == sequence {
					break
				}
			}
		}
		return nil
	})
	return answers, err
}

// Eventually polls until done says yes.
func Eventually(tb testing.TB, what string, done func() bool) {
	tb.Helper()
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if done() {
			return
		}
	}
	tb.Fatalf("still not so: %s", what)
}

// Config is a container's, in a sandbox of its own.
func Config(tb testing.TB, networks ...*mesos.NetworkInfo) *isolation.ContainerConfig {
	tb.Helper()
	dir := filepath.Join(tb.TempDir(), "sandbox")
	if err := os.Mkdir(dir, 0o755); err != nil {
		tb.Fatal(err)
	}
	config := &isolation.ContainerConfig{ID: ID(), Sandbox: dir, Command: &mesos.CommandInfo{}}
	if len(networks) > 0 {
		config.ContainerInfo = &mesos.ContainerInfo{
			Type: mesos.ContainerInfo_MESOS.Enum(), NetworkInfos: networks,
		}
	}
	return config
}
