package server

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"clusterd/internal/httpapi"
	"clusterd/internal/tlsconf"
	"clusterd/registry"
)

const (
	// leaderPath and agentPath are where any master serves what the leader, or an agent,
	// serves below.
	leaderPath = "/api/clusterd/v1/proxy/leader"
	agentPath  = "/api/clusterd/v1/proxy/agent"

	// proxyHeader marks a request that one master passes on to another, which must not pass
	// it on again. It holds the address of the client. What a master takes for the client's
	// certificate is never that of the connection then.
	proxyHeader = "Clusterd-Proxy"
	// certHeader holds the certificate that the client has shown to the master that passes
	// its request on: DER in base64, those between it and an authority after commas.
	certHeader = "Clusterd-Client-Cert"

	// proxyDialTimeout bounds the way to another master.
	proxyDialTimeout = 5 * time.Second
	// maxCertHeader bounds certHeader.
	maxCertHeader = 32 << 10
)

// proxy passes requests on to the leader and to agents.
type proxy struct {
	leader, agent *httputil.ReverseProxy
	rules         encodedRules // for agents
	transport     *http.Transport
	passed        passedOn
	live          httpapi.Live
	streams       httpapi.Streams

	mu sync.Mutex
	// mu guards what follows.
	running int
	stopped bool
	idle    chan struct{} // closed when stopped and nothing is running
}

// begin notes a request that is passed on; the context ends with the server. Those that have
// become streams or other protocols are not seen by http.Server.Shutdown.
func (p *proxy) begin(s *Server, r *http.Request) (*http.Request, func(), error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stopped {
		return nil, nil, httpapi.Unavailable("The master is shutting down")
	}
	p.running++
	ctx, cancel := context.WithCancel(r.Context())
	stop := context.AfterFunc(s.ctx, cancel)
	return r.WithContext(ctx), func() {
		stop()
		cancel()
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.running--; p.running == 0 && p.stopped {
			close(p.idle)
		}
	}, nil
}

// stop waits for what is running, whose contexts have ended.
func (p *proxy) stop(ctx context.Context) error {
	p.mu.Lock()
	if !p.stopped {
		p.stopped = true
		if p.running == 0 {
			close(p.idle)
		}
	}
	p.mu.Unlock()
	p.streams.Close()
	p.live.Close()
	defer p.transport.CloseIdleConnections()
	select {
	case <-p.idle:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// proxyRoutes are those by which one address is enough.
func (s *Server) proxyRoutes(rt *httpapi.Router) {
	s.proxy.idle = make(chan struct{})
	s.proxy.transport = &http.Transport{
		DialContext:         (&net.Dialer{Timeout: proxyDialTimeout}).DialContext,
		DialTLSContext:      s.dialMaster,
		DisableCompression:  true, // what the client wants goes on to it as it is
		MaxIdleConnsPerHost: 64,
		IdleConnTimeout:     90 * time.Second,
		// ResponseHeaderTimeout: none, since answers may wait for the end of a container.
	}
	s.proxy.leader = &httputil.ReverseProxy{
		Transport: s.proxy.transport, FlushInterval: -1, ErrorLog: newErrorLog(s.log),
		Rewrite: s.toOtherMaster, ModifyResponse: fromOtherMaster, ErrorHandler: s.leaderFails,
	}
	s.proxy.live.Register(rt)
	s.proxy.streams.Register(rt)
	rt.Handle(leaderPath, httpapi.Open("the path below asks, at the leader"), s.proxyLeader)
	s.agentProxyRoutes(rt)
}

// below returns what follows a route in the path of a request, as the client has written it:
// a decoded path would have lost which slashes are a name's own.
func below(r *http.Request, route string) (string, error) {
	escaped := r.URL.EscapedPath()
	before, after, ok := strings.Cut(escaped, route)
	if !ok || strings.Trim(before, "/") != "" && strings.Trim(before, "/") != "master" || after != "" && after[0] != '/' {
		return "", httpapi.StatusError(http.StatusNotFound)
	}
	if after == "" {
		after = "/"
	}
	return after, nil
}

// withQuery adds a request's query to a path.
func withQuery(r *http.Request, path string) string {
	if r.URL.RawQuery != "" || r.URL.ForceQuery {
		return path + "?" + r.URL.RawQuery
	}
	return path
}

// proxyLeader serves a path of the leader on any master. The leader asks for credentials and
// decides: a follower only passes on.
func (s *Server) proxyLeader(w http.ResponseWriter, r *http.Request) error {
	httpapi.Stream(r) // what is below it is measured
	path, err := below(r, leaderPath)
	if err != nil {
		return err
	}
	if strings.HasPrefix(path, leaderPath) || proxiesAround(r) >= maxProxies {
		return httpapi.NotFound("A proxy below a proxy leads nowhere")
	}
	passedOn := r.Header.Get(proxyHeader) != ""
	if t := s.term.Load(); t != nil && t.lead.Holds() {
		in, err := httpapi.Inner(r, withQuery(r, path))
		if err != nil {
			return err
		}
		s.router.ServeHTTP(w, s.unwrap(in, passedOn))
		return nil
	}
	if passedOn {
		return noLeader("The leader has just changed")
	}
	return s.passOn(w, r, path)
}

// passOn has the leader, who is another, serve a path.
func (s *Server) passOn(w http.ResponseWriter, r *http.Request, path string) error {
	leader, ok := s.registry.Leader()
	if !ok || hostPort(leader) == hostPort(s.info) {
		return noLeader("No leader elected")
	}
	u, err := url.ParseRequestURI(withQuery(r, leaderPath+path))
	if err != nil {
		return httpapi.BadRequest("%v", err)
	}
	u.Scheme, u.Host = s.opts.TLS.Scheme(), hostPort(leader)
	r, done, err := s.proxy.begin(s, r)
	if err != nil {
		return err
	}
	defer done()
	r, unbind := s.proxy.passed.bind(r, u.Host)
	defer unbind()
	s.proxy.leader.ServeHTTP(w, newFlow(w, r.WithContext(context.WithValue(r.Context(), targetKey{}, u))))
	return nil
}

// targetKey is where a request that is passed on carries where to.
type targetKey struct{}

// toOtherMaster makes the request that the leader gets.
func (s *Server) toOtherMaster(p *httputil.ProxyRequest) {
	p.Out.URL, _ = p.In.Context().Value(targetKey{}).(*url.URL)
	p.Out.Host = p.In.Host // what browsers say of an origin is compared with it
	p.SetXForwarded()
	httpapi.Forward(p.Out.Header, p.In) // what proxies before this one have said goes on
	p.Out.Header.Set(proxyHeader, p.In.RemoteAddr)
	p.Out.Header.Del(certHeader)
	if p.In.TLS != nil && len(p.In.TLS.VerifiedChains) > 0 {
		if text := encodeCerts(p.In.TLS.PeerCertificates); len(text) <= maxCertHeader {
			p.Out.Header.Set(certHeader, text)
		}
	}
}

// fromOtherMaster keeps from clients where the leader is: they may not reach it.
func fromOtherMaster(r *http.Response) error {
	if r.StatusCode == http.StatusTemporaryRedirect && strings.HasPrefix(r.Header.Get("Location"), "//") {
		return errLeaderChanged
	}
	return flowOf(r.Request).answered(r)
}

var errLeaderChanged = errors.New("the leader has just changed")

func (s *Server) leaderFails(w http.ResponseWriter, r *http.Request, err error) {
	u, _ := r.Context().Value(targetKey{}).(*url.URL)
	if u == nil {
		u = r.URL
	}
	s.log.Debug().Err(err).Str("leader", u.Host).Msg("request to the leader failed")
	if errors.Is(context.Cause(r.Context()), errLeaderChanged) {
		flowOf(r).cutBody()
		if r.Method == http.MethodGet || r.Method == http.MethodHead {
			httpapi.WriteError(w, noLeader("The leader has just changed"))
			return
		}
		httpapi.WriteError(w, jsonError(http.StatusBadGateway,
			fmt.Sprintf("Another master than %s leads since: whether it has done what was asked of it is not known", u.Host)))
		return
	}
	if r.Context().Err() != nil {
		panic(http.ErrAbortHandler) // the client is gone, or this master stops
	}
	flowOf(r).cutBody()
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "dial" || errors.Is(err, errLeaderChanged) {
		httpapi.WriteError(w, noLeader(fmt.Sprintf("The leader %s does not answer: %v", u.Host, err)))
		return
	}
	httpapi.WriteError(w, jsonError(http.StatusBadGateway, fmt.Sprintf("The leader %s does not answer: %v", u.Host, err)))
}

// noLeader is the answer where nobody leads, at present.
func noLeader(message string) *httpapi.Error {
	e := jsonError(http.StatusServiceUnavailable, message)
	e.Header.Set("Retry-After", "1")
	return e
}

// jsonError is an error with a body that pages and the command line understand.
func jsonError(status int, message string) *httpapi.Error {
	body, err := json.Marshal(map[string]any{"error": map[string]any{"status": status, "message": message}})
	if err != nil {
		body = []byte("{}") // never: it is a number and a string
	}
	return &httpapi.Error{Status: status, Body: string(body), Header: http.Header{"Content-Type": {httpapi.JSON.String()}}}
}

// dialMaster opens a connection to another master, in clear where TLS is being introduced
// and the other does not speak it yet.
func (s *Server) dialMaster(ctx context.Context, network, addr string) (net.Conn, error) {
	d := &net.Dialer{Timeout: proxyDialTimeout}
	nc, err := d.DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	conf := s.opts.TLS.Client()
	if conf.ServerName, _, err = net.SplitHostPort(addr); err != nil {
		return nil, errors.Join(err, nc.Close())
	}
	conf.NextProtos = []string{"http/1.1"} // only there is an upgrade
	tc := tls.Client(nc, conf)
	ctx, cancel := context.WithTimeout(ctx, proxyDialTimeout)
	defer cancel()
	err = tc.HandshakeContext(ctx)
	if err == nil {
		return tc, nil
	}
	_ = nc.Close() // the handshake's error tells
	if _, ok := errors.AsType[tls.RecordHeaderError](err); ok && s.opts.TLS.Downgrade() {
		return d.DialContext(ctx, network, addr)
	}
	return nil, &net.OpError{Op: "dial", Net: network, Err: err}
}

// unwrap prepares a request for the leader's own routes. One that another master passes on
// comes by that master's connection: its certificate is not the client's. The client's is
// what that master says, if it is a master.
func (s *Server) unwrap(r *http.Request, passedOn bool) *http.Request {
	if !passedOn {
		r.Header.Del(certHeader)
		return withinProxy(r)
	}
	r = httpapi.WithClient(r, r.Header.Get(proxyHeader))
	shown := r.Header.Get(certHeader)
	r.Header.Del(proxyHeader)
	r.Header.Del(certHeader)
	if r.TLS != nil {
		peer := r.TLS
		own := *peer
		own.PeerCertificates, own.VerifiedChains = nil, nil
		r.TLS = &own
		if shown != "" {
			s.takeCertificate(peer, &own, shown)
		}
	}
	return withinProxy(r)
}

func (s *Server) takeCertificate(peer, own *tls.ConnectionState, shown string) {
	if !s.isMaster(peer) {
		s.log.Warn().Msg("a request came with a client's certificate from one who is no master: it does not count")
		return
	}
	certs, err := decodeCerts(shown)
	if err == nil {
		var chains [][]*x509.Certificate
		if chains, err = s.opts.TLS.VerifyClient(certs); err == nil {
			own.PeerCertificates, own.VerifiedChains = certs, chains
			return
		}
	}
	s.log.Debug().Err(err).Msg("certificate of a client that a master has passed on is not good")
}

// isMaster says whether the other end of a connection has shown the certificate of a master:
// one that is good for the host of a member of the registry, as is asked for where Raft is
// dialled.
func (s *Server) isMaster(c *tls.ConnectionState) bool {
	if len(c.VerifiedChains) == 0 || len(c.PeerCertificates) == 0 || !tlsconf.ForServers(c.PeerCertificates[0]) {
		return false
	}
	members, err := s.registry.Members()
	if err != nil {
		return false
	}
	return slices.ContainsFunc(members, func(m registry.Member) bool {
		host, _, err := net.SplitHostPort(m.Addr)
		return err == nil && c.PeerCertificates[0].VerifyHostname(host) == nil
	})
}

func encodeCerts(certs []*x509.Certificate) string {
	parts := make([]string, len(certs))
	for i, c := range certs {
		parts[i] = base64.StdEncoding.EncodeToString(c.Raw)
	}
	return strings.Join(parts, ",")
}

func decodeCerts(text string) (certs []*x509.Certificate, err error) {
	if len(text) > maxCertHeader {
		return nil, errors.New("it is too long")
	}
	for part := range strings.SplitSeq(text, ",") {
		der, err := base64.StdEncoding.DecodeString(part)
		if err != nil {
			return nil, err
		}
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, err
		}
		certs = append(certs, c)
	}
	return certs, nil
}

// withinKey is in the context of requests that must not be sent elsewhere.
type withinKey struct{}

// withinProxy has a request answered with 503 where it would be sent to the leader: whoever
// sends it to a proxy may not reach that.
func withinProxy(r *http.Request) *http.Request {
	return r.WithContext(context.WithValue(r.Context(), withinKey{}, proxiesAround(r)+1))
}

// maxProxies bounds how many proxies may be around another. There is one around what is
// watched live by way of a proxy. Without a bound a path could be written that is worked off
// a thousand times.
const maxProxies = 2

func proxiesAround(r *http.Request) int {
	n, _ := r.Context().Value(withinKey{}).(int)
	return n
}

func isWithinProxy(r *http.Request) bool { return proxiesAround(r) > 0 }
