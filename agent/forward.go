package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"clusterd/agent/checks"
	"clusterd/internal/httpapi"
)

// forwardProtocol is the token of the Upgrade header of a forwarded port.
const forwardProtocol = "tcp"

// forwardDial is how long a container may take to take a connection.
const forwardDial = 10 * time.Second

// forward makes of a request a connection to a port inside of a container:
//
//	GET /api/clusterd/v1/forward?container_id=C&port=P, Connection: Upgrade, Upgrade: tcp
//
// In the container's network it goes to 127.0.0.1, and to ::1 if nobody listens there. A
// container without a network of its own is on the host's, so that this reaches what listens
// there for the machine alone, as a session in the container does: it asks for the permission
// of one.
func (a *Agent) forward(w http.ResponseWriter, r *http.Request) error {
	if err := httpapi.RequireMethod(r, http.MethodGet); err != nil {
		return err
	}
	d, err := a.openDoor(r)
	if err != nil {
		return err
	}
	port, err := strconv.ParseUint(r.URL.Query().Get("port"), 10, 16)
	if err != nil || port == 0 {
		return httpapi.BadRequest("'port' is none: '%.100s'", r.URL.Query().Get("port"))
	}
	httpapi.Audit(r, "FORWARD_PORT", "container_id", containerText(d.id), "port", strconv.FormatUint(port, 10))
	if err := a.authorizeSession(r, d, ""); err != nil {
		return err
	}
	if err := sameOrigin(r); err != nil {
		return err
	}
	if !strings.EqualFold(r.Header.Get("Upgrade"), forwardProtocol) {
		e := httpapi.Errorf(http.StatusUpgradeRequired, "Expecting 'Upgrade: %s'", forwardProtocol)
		e.Header = http.Header{"Upgrade": {forwardProtocol}, "Connection": {"Upgrade"}}
		return e
	}
	pid, err := a.pidOf(r, d)
	if err != nil {
		return err
	}
	to, err := a.dialInside(r, d, pid, uint16(port))
	if err != nil {
		return err
	}
	defer func() { _ = to.Close() }() // what was written has been, or is lost
	nc, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return httpapi.Errorf(http.StatusHTTPVersionNotSupported, "This connection cannot be upgraded: %v", err)
	}
	defer func() { _ = nc.Close() }()
	a.doors.rt.Report(r, nil)
	a.throughDoor(func() {
		_ = nc.SetWriteDeadline(time.Now().Add(streamWriteTimeout))
		if _, err := fmt.Fprintf(nc, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: %s\r\n\r\n", forwardProtocol); err != nil {
			return
		}
		_ = nc.SetWriteDeadline(time.Time{})
		join(a.ctx, nc, rw, to)
	})
	return nil
}

// sameOrigin refuses an upgrade that a page of another site asks for.
func sameOrigin(r *http.Request) error {
	if !httpapi.FromHere(r) {
		return httpapi.Forbidden("Refused: the request comes from another site (%s)", r.Header.Get("Origin"))
	}
	return nil
}

// dialInside connects from within a container's network.
func (a *Agent) dialInside(r *http.Request, d *door, pid int, port uint16) (net.Conn, error) {
	ns, err := os.Open(procPath(pid, "ns/net"))
	if err != nil {
		return nil, httpapi.Errorf(http.StatusInternalServerError, "Cannot enter the network of container %s: %v", containerText(d.id), err)
	}
	defer func() { _ = ns.Close() }()
	// The number may have become that of another process, before the file was opened.
	if again, err := a.pidOf(r, d); err != nil || again != pid {
		return nil, httpapi.Conflict("Container %s has ended", containerText(d.id))
	}
	own, err := sameNamespace(ns)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(r.Context(), forwardDial)
	defer cancel()
	defer context.AfterFunc(a.ctx, cancel)()
	var last error
	for _, host := range []string{"127.0.0.1", "::1"} {
		addr := net.JoinHostPort(host, strconv.Itoa(int(port)))
		var conn net.Conn
		if own {
			conn, err = (&net.Dialer{}).DialContext(ctx, "tcp", addr)
		} else {
			conn, err = checks.DialIn(ctx, ns, addr)
		}
		if err == nil {
			return conn, nil
		}
		if last == nil {
			last = err
		}
		if !errors.Is(err, syscall.ECONNREFUSED) {
			break
		}
	}
	if errors.Is(last, syscall.ECONNREFUSED) {
		return nil, httpapi.Errorf(http.StatusBadGateway, "Nobody listens on port %d of container %s", port, containerText(d.id))
	}
	return nil, httpapi.Errorf(http.StatusBadGateway, "Cannot connect to port %d of container %s: %v", port, containerText(d.id), last)
}

// sameNamespace says whether a network is this process's own.
func sameNamespace(ns *os.File) (bool, error) {
	theirs, err := ns.Stat()
	if err != nil {
		return false, err
	}
	ours, err := os.Stat("/proc/self/ns/net")
	if err != nil {
		return false, err
	}
	return os.SameFile(theirs, ours), nil
}

// join copies between a client and a container until both have ended, or one has failed.
func join(ctx context.Context, client net.Conn, fromClient io.Reader, inside net.Conn) {
	both := func() {
		_ = client.Close()
		_ = inside.Close()
	}
	defer context.AfterFunc(ctx, both)()
	var wg sync.WaitGroup
	half := func(to net.Conn, from io.Reader) {
		if _, err := io.Copy(to, from); err != nil {
			both()
			return
		}
		h, ok := to.(interface{ CloseWrite() error })
		if !ok || h.CloseWrite() != nil {
			both()
		}
	}
	wg.Go(func() { half(inside, fromClient) })
	wg.Go(func() { half(client, inside) })
	wg.Wait()
}
