package netcluster

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"clusterd/api/client"
)

// prefix is the network of all hosts.
const prefix = "10.77.0."

// Supported returns why networks cannot be made here, nil if they can.
func Supported() error {
	if os.Geteuid() != 0 {
		return errors.New("network namespaces need root")
	}
	n := New(0)
	defer n.Close()
	_, err := n.Host("probe", 1)
	return err
}

// Host is a machine in small: a network namespace with the interfaces lo and eth0.
type Host struct {
	name string
	ip   netip.Addr
	tun  *os.File // the other end of eth0
	ns   *os.File

	// work is done by a thread inside the namespace, which lives as long as the
	// host: the death of a thread would kill the processes that it has started.
	work chan func()
}

// Host adds a host with the address 10.77.0.number.
func (n *Network) Host(name string, number int) (*Host, error) {
	if number < 1 || number > 254 {
		return nil, fmt.Errorf("host %s: no address %s%d", name, prefix, number)
	}
	h := &Host{name: name, ip: netip.MustParseAddr(fmt.Sprint(prefix, number)), work: make(chan func())}
	ready := make(chan error)
	go h.live(ready)
	if err := <-ready; err != nil {
		return nil, fmt.Errorf("host %s: %w", name, err)
	}
	if err := n.add(h); err != nil {
		h.close()
		return nil, err
	}
	return h, nil
}

// Name returns the host's name, which only tests know.
func (h *Host) Name() string { return h.name }

// IP returns its address.
func (h *Host) IP() string { return h.ip.String() }

// live is the thread inside the namespace.
func (h *Host) live(ready chan<- error) {
	runtime.LockOSThread() // never unlocked: the thread ends with this function
	err := unix.Unshare(unix.CLONE_NEWNET)
	if err == nil {
		err = h.connect()
	}
	ready <- err
	if err != nil {
		return
	}
	for f := range h.work {
		f()
	}
}

// connect makes the interfaces, in the namespace of the calling thread.
func (h *Host) connect() error {
	var err error
	if h.ns, err = os.Open("/proc/thread-self/ns/net"); err != nil {
		return err
	}
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		h.ns.Close()
		return fmt.Errorf("open /dev/net/tun: %w", err)
	}
	if err := configure(fd, h.ip); err != nil {
		h.ns.Close()
		return errors.Join(err, unix.Close(fd))
	}
	h.tun = os.NewFile(uintptr(fd), "tun of "+h.name)
	return nil
}

// configure makes eth0, of which fd is the other end, and brings it and lo up.
func configure(fd int, ip netip.Addr) error {
	eth, err := unix.NewIfreq("eth0")
	if err != nil {
		return err
	}
	eth.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, eth); err != nil {
		return fmt.Errorf("make eth0: %w", err)
	}
	sock, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(sock)
	for _, set := range []struct {
		request uint
		addr    netip.Addr
	}{{unix.SIOCSIFADDR, ip}, {unix.SIOCSIFNETMASK, netip.AddrFrom4([4]byte{255, 255, 255, 0})}} {
		if eth, err = unix.NewIfreq("eth0"); err != nil {
			return err
		}
		if err := eth.SetInet4Addr(set.addr.AsSlice()); err != nil {
			return err
		}
		if err := unix.IoctlIfreq(sock, set.request, eth); err != nil {
			return fmt.Errorf("address of eth0: %w", err)
		}
	}
	for _, name := range []string{"lo", "eth0"} {
		up, err := unix.NewIfreq(name)
		if err != nil {
			return err
		}
		up.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
		if err := unix.IoctlIfreq(sock, unix.SIOCSIFFLAGS, up); err != nil {
			return fmt.Errorf("bring %s up: %w", name, err)
		}
	}
	return nil
}

// deliver hands the host a packet. One that it does not take is lost, as on a wire.
func (h *Host) deliver(p []byte) { _, _ = h.tun.Write(p) }

func (h *Host) close() {
	close(h.work)
	h.tun.Close()
	h.ns.Close()
}

// Run starts a command on the host, where it dies with this process. The caller waits
// for it.
func (h *Host) Run(cmd *exec.Cmd) error {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Setpgid = true // ^C is for the test to handle
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	done := make(chan error, 1)
	h.work <- func() { done <- cmd.Start() }
	return <-done
}

// inside runs f on a thread of its own in the host's namespace. A socket that f
// makes stays there.
func (h *Host) inside(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends here
		if err := unix.Setns(int(h.ns.Fd()), unix.CLONE_NEWNET); err != nil {
			done <- fmt.Errorf("enter the namespace of %s: %w", h.name, err)
			return
		}
		done <- f()
	}()
	return <-done
}

// DialContext dials from the host. It takes addresses, no names.
func (h *Host) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	if _, err := netip.ParseAddrPort(address); err != nil {
		return nil, err // looking names up would leave the namespace
	}
	var conn net.Conn
	err := h.inside(func() (err error) {
		// What is cut off is noticed soon, as a framework in a hurry would have it.
		d := net.Dialer{Timeout: 5 * time.Second, KeepAliveConfig: net.KeepAliveConfig{
			Enable: true, Idle: time.Second, Interval: time.Second, Count: 3,
		}}
		conn, err = d.DialContext(ctx, network, address)
		return err
	})
	return conn, err
}

// Listen listens on a port of the host.
func (h *Host) Listen(ctx context.Context, port int) (net.Listener, error) {
	var l net.Listener
	err := h.inside(func() (err error) {
		l, err = new(net.ListenConfig).Listen(ctx, "tcp", fmt.Sprintf("%s:%d", h.ip, port))
		return err
	})
	return l, err
}

// HTTP returns a client that speaks from the host.
func (h *Host) HTTP() *http.Client { return client.NewHTTPClient(h.DialContext) }
