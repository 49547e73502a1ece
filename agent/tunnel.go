package agent

import (
	"context"
	"errors"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"clusterd/internal/authn"
	"clusterd/internal/authz"
	"clusterd/internal/httpapi"
	"clusterd/internal/link"
)

// Masters reach the agent's HTTP API by connections that the agent opens when they ask for one
// on the link, so that nobody else needs to reach its port. The master says who sends a
// request; it is believed, as it is in everything else.

const (
	// maxTunnels bounds the connections to masters, those that are being opened included.
	maxTunnels = 512
	// tunnelDial bounds the opening of one: the master waits as long.
	tunnelDial = 5 * time.Second
	// tunnelIdle is longer than masters keep an idle connection, so that it is they who close
	// it, and no request gets lost on the way.
	tunnelIdle = 5 * time.Minute
	// maxTunnelHeader leaves room for the claims of a principal.
	maxTunnelHeader = 256 << 10
)

// tunnels are the connections to masters.
type tunnels struct {
	server *http.Server
	accept chan net.Conn
	closed chan struct{}
	once   sync.Once

	mu sync.Mutex
	// mu guards what follows.
	open map[*tunnelConn]struct{}
	busy int // being opened, or open
}

// tunnelConn is a connection to a master.
type tunnelConn struct {
	net.Conn
	link *link.AgentConn
	once sync.Once
	done func(*tunnelConn)
}

// Close ends the connection.
func (c *tunnelConn) Close() error {
	c.once.Do(func() { c.done(c) })
	return c.Conn.Close()
}

// CloseWrite says that nothing more will be written.
func (c *tunnelConn) CloseWrite() error {
	if h, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return h.CloseWrite()
	}
	return errors.ErrUnsupported
}

// newTunnels makes the server of the tunnels.
func (a *Agent) newTunnels(rt http.Handler, server *http.Server) {
	a.tunnels = &tunnels{
		server: server, accept: make(chan net.Conn), closed: make(chan struct{}), open: map[*tunnelConn]struct{}{},
	}
	server.Handler = a.vouched(rt)
	server.ConnState = nil // counted here
	server.IdleTimeout = tunnelIdle
	server.MaxHeaderBytes = maxTunnelHeader
}

// vouched takes requests as the master says that they are. It is for tunnels only: on any
// other connection the headers are those of whoever sends them.
func (a *Agent) vouched(rt http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		v := httpapi.Vouched{
			// Executors, and resource providers, are on this machine, and come by themselves.
			Realms: []authn.Realm{authn.AgentReadonly, authn.AgentReadwrite},
		}
		if said := r.Header.Values(link.PrincipalHeader); len(said) > 0 {
			value, claims, err := link.DecodePrincipal(said[0])
			if err != nil || value == "" || len(said) > 1 {
				httpapi.WriteError(w, httpapi.BadRequest("The master's word of who sends this request cannot be read"))
				return
			}
			v.Known, v.Principal = true, &authz.Principal{Value: value, Claims: claims}
			if rules := r.Header.Get(link.RulesHeader); rules != "" && a.policy.Load() == nil {
				if v.Principal.Rules, err = a.foreign.parse(rules); err != nil {
					a.log.Error().Err(err).Msg("rules that a master passes on")
					httpapi.WriteError(w, httpapi.Forbidden("The agent has no rules (--acls), and cannot read the master's"))
					return
				}
			}
		}
		client := r.Header.Get(link.ClientHeader)
		r.Header.Del(link.PrincipalHeader)
		r.Header.Del(link.ClientHeader)
		r.Header.Del(link.RulesHeader)
		r.TLS = nil // that of the connection is about the master
		rt.ServeHTTP(w, httpapi.WithClient(httpapi.Vouch(r, v), client))
	})
}

// foreignRules are the rules of masters, for an agent that has none. The zero value is ready
// for use.
type foreignRules struct{ last atomic.Pointer[parsedRules] }

type parsedRules struct {
	text string
	acls *authz.ACLs
}

// parse reads the value of link.RulesHeader.
func (f *foreignRules) parse(text string) (*authz.ACLs, error) {
	if last := f.last.Load(); last != nil && last.text == text {
		return last.acls, nil
	}
	rules, err := link.DecodeRules(text)
	if err != nil {
		return nil, err
	}
	acls, err := authz.Parse(rules)
	if err != nil {
		return nil, err
	}
	f.last.Store(&parsedRules{text, acls})
	return acls, nil
}

// openTunnel opens a connection that the master at the other end of a link asks for.
func (a *Agent) openTunnel(l *link.AgentConn, token string) {
	t := a.tunnels
	t.mu.Lock()
	if t.busy >= maxTunnels {
		t.mu.Unlock()
		a.log.Warn().Int("limit", maxTunnels).Msg("too many connections to the master: it does not get another")
		return
	}
	t.busy++
	t.mu.Unlock()
	a.wg.Go(func() {
		ctx, cancel := context.WithTimeout(a.ctx, tunnelDial)
		defer cancel()
		nc, err := link.DialTunnel(ctx, l, token, a.linkOptions())
		if err != nil {
			t.mu.Lock()
			t.busy--
			t.mu.Unlock()
			if a.ctx.Err() == nil {
				a.log.Warn().Err(err).Msg("cannot open a connection that the master asks for")
			}
			return
		}
		c := &tunnelConn{Conn: nc, link: l, done: t.forget}
		t.mu.Lock()
		t.open[c] = struct{}{}
		t.mu.Unlock()
		select {
		case <-l.Done(): // endTunnels may have looked before
			_ = c.Close()
			return
		default:
		}
		select {
		case t.accept <- c:
		case <-t.closed:
			_ = c.Close()
		}
	})
}

func (t *tunnels) forget(c *tunnelConn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.open, c)
	t.busy--
}

// endTunnels closes the connections to the master of a link that has ended; nil: to all.
func (t *tunnels) endTunnels(l *link.AgentConn) {
	t.mu.Lock()
	var ended []*tunnelConn
	for c := range t.open {
		if l == nil || c.link == l {
			ended = append(ended, c)
		}
	}
	t.mu.Unlock()
	for _, c := range ended {
		_ = c.Close() // what was under way on it is lost
	}
}

// Accept returns the next connection.
func (t *tunnels) Accept() (net.Conn, error) {
	select {
	case c := <-t.accept:
		return c, nil
	case <-t.closed:
		return nil, net.ErrClosed
	}
}

// Close ends Accept.
func (t *tunnels) Close() error {
	t.once.Do(func() { close(t.closed) })
	return nil
}

// Addr is no address of the machine.
func (t *tunnels) Addr() net.Addr { return tunnelAddr{} }

type tunnelAddr struct{}

func (tunnelAddr) Network() string { return "tunnel" }
func (tunnelAddr) String() string  { return "masters" }

// linkOptions are how this agent opens connections to masters.
func (a *Agent) linkOptions() link.DialOptions {
	return link.DialOptions{Header: a.opts.Credential.Header(), TLS: a.opts.TLS.Client(), Downgrade: a.opts.TLS.Downgrade()}
}

var _ net.Listener = (*tunnels)(nil)
