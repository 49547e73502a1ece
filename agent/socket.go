package agent

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/user"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"

	agentv1 "clusterd/api/mesos/v1/agent"
	"clusterd/internal/authn"
	"clusterd/internal/httpapi"
	"clusterd/isolation"
)

// Executors reach the agent by TCP, or by a Unix socket. The socket is what makes TLS
// possible for executors that cannot do it, as our own (which starts in a millisecond
// because it does not carry TLS), or that nobody has given a certificate: on it the
// executor API is served in clear, and the calls on containers nested in an executor's own,
// which executors of task groups make. Executors learn of it by MESOS_DOMAIN_SOCKET, as
// Mesos's since 1.10.

// maxSocketPath is what fits into a sockaddr_un with its NUL
// (DOMAIN_SOCKET_MAX_PATH_LENGTH in src/common/domain_sockets.hpp).
const maxSocketPath = 107

// socketMode lets executors of all users connect, as they may to a port.
const socketMode = 0o666

// defaultSocket is where the socket is unless it is said.
func (o *Options) defaultSocket() string { return filepath.Join(o.RuntimeDir, "agent.sock") }

// domainSocket is what executors are told; empty: to come by TCP.
func (o *Options) domainSocket() string {
	if o.DomainSocket == "" && o.TLS != nil {
		return o.defaultSocket()
	}
	return o.DomainSocket
}

// listenSocket opens the socket, if executors are told of one, or one is there: those of
// an earlier run may know it.
func (a *Agent) listenSocket(ctx context.Context) error {
	path := a.opts.domainSocket()
	if path == "" {
		if st, err := os.Lstat(a.opts.defaultSocket()); err != nil || st.Mode().Type() != fs.ModeSocket {
			return nil //nolint:nilerr // no socket is there
		}
		path = a.opts.defaultSocket()
	}
	if st, err := os.Lstat(path); err == nil && st.Mode().Type() == fs.ModeSocket {
		if err := os.Remove(path); err != nil {
			return fmt.Errorf("remove the socket of an earlier run: %w", err)
		}
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("socket of executors: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("socket of executors: %w", err)
	}
	l, err := new(net.ListenConfig).Listen(ctx, "unix", path)
	if err != nil {
		return fmt.Errorf("socket of executors: %w", err)
	}
	if u, ok := l.(*net.UnixListener); ok {
		u.SetUnlinkOnClose(false) // so that the next run knows that there was one
	}
	if err := os.Chmod(path, socketMode); err != nil {
		return errors.Join(fmt.Errorf("socket of executors: %w", err), l.Close())
	}
	if err := linkSocket(path); err != nil {
		return errors.Join(fmt.Errorf("socket of executors: %w", err), l.Close())
	}
	a.socket = l
	a.log.Info().Str("path", path).Msg("executors can reach the agent by a socket")
	return nil
}

// linkSocket gives the socket the name by which containers with a root of their own have it.
func linkSocket(path string) error {
	name := isolation.ExecutorSocket(path)
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return os.Link(path, name)
}

// socketRoutes are what is served on the socket.
func (a *Agent) socketRoutes(guards httpapi.Guards) *httpapi.Router {
	rt := httpapi.NewRouter("slave(1)", "agent")
	rt.Guards = guards
	rt.Handle("/api/v1/executor", httpapi.In(authn.AgentExecutor), a.executorAPI)
	rt.Handle("/api/v1", httpapi.In(authn.AgentReadwrite), a.socketAPI)
	return rt
}

// peerKey is the key of who is at the other end of the socket, in the context of a request.
type peerKey struct{}

// withPeer notes which user has connected to the socket.
func withPeer(ctx context.Context, conn net.Conn) context.Context {
	u, ok := conn.(*net.UnixConn)
	if !ok {
		return ctx
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return ctx
	}
	var peer *unix.Ucred
	if err := raw.Control(func(fd uintptr) {
		peer, _ = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil || peer == nil {
		return ctx
	}
	return context.WithValue(ctx, peerKey{}, peer.Uid)
}

// socketAPI serves those calls of /api/v1 on the socket that are about a container nested in an
// executor's, to the user who runs the executor. All others are for the port, with its TLS: here
// every user of the machine can connect.
func (a *Agent) socketAPI(w http.ResponseWriter, r *http.Request) error {
	return a.serveAPI(w, r, func(c *agentv1.Call) error {
		cc := containerCallOf(c)
		if cc == nil || cc.id.GetParent() == nil {
			return httpapi.Forbidden("Call %s is not served on the socket of executors", c.GetType())
		}
		v, err := a.read(r)
		if err != nil {
			return err
		}
		uid, ok := r.Context().Value(peerKey{}).(uint32)
		_, e := containerOf(v, cc.id)
		if !ok || e == nil || !runsAs(e.User, uid) && int(uid) != os.Geteuid() {
			return httpapi.Forbidden("Container %s is not of an executor of this user", containerText(cc.id))
		}
		return nil
	})
}

// runsAs says whether a user, by name, has an id; the empty one is the agent's.
func runsAs(name string, uid uint32) bool {
	if name == "" {
		return int(uid) == os.Geteuid()
	}
	u, err := user.Lookup(name)
	return err == nil && u.Uid == strconv.FormatUint(uint64(uid), 10)
}
