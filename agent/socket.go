package agent

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"

	"clusterd/internal/authn"
	"clusterd/internal/httpapi"
)

// Executors reach the agent by TCP, or by a Unix socket. The socket is what makes TLS
// possible for executors that cannot do it, as our own (which starts in a millisecond
// because it does not carry TLS), or that nobody has given a certificate: on it the
// executor API is served in clear, and nothing else. Executors learn of it by
// MESOS_DOMAIN_SOCKET, as Mesos's since 1.10.

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
	a.socket = l
	a.log.Info().Str("path", path).Msg("executors can reach the agent by a socket")
	return nil
}

// socketRoutes are what is served on the socket.
func (a *Agent) socketRoutes(guards httpapi.Guards) *httpapi.Router {
	rt := httpapi.NewRouter("slave(1)", "agent")
	rt.Guards = guards
	rt.Handle("/api/v1/executor", httpapi.In(authn.AgentExecutor), a.executorAPI)
	return rt
}
