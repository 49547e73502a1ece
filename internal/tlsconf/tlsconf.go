// Package tlsconf is how a node shows itself and checks others by TLS: files of
// certificates, Mesos's environment (`LIBPROCESS_SSL_*`), and certificates that are
// replaced while the node runs.
//
// The main type is [Identity]; it is safe for concurrent use. Imported by
// internal/cli, server and agent.
package tlsconf

import (
	"crypto/tls"
	"net"
)

// Identity is a node's certificate and the authorities that it trusts.
type Identity struct{}

// Server is the configuration of a node that is called. It follows reloads.
func (i *Identity) Server() *tls.Config { return nil }

// Client is the configuration of a node that calls. It follows reloads.
func (i *Identity) Client() *tls.Config { return nil }

// Listen wraps a listener; with downgrade permitted it takes connections in clear too.
func (i *Identity) Listen(l net.Listener) net.Listener { return l }
