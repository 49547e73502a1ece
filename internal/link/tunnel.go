package link

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

const (
	// TunnelPath is where a master takes the connections that it has asked agents for, and
	// sends HTTP requests on them: the agent is the client until the upgrade, and the server
	// after it.
	TunnelPath = "/api/clusterd/v1/tunnel"
	// TunnelProtocol is the token of the Upgrade header.
	TunnelProtocol = "clusterd-tunnel"
	// TunnelTokenHeader carries the token of the master's message.
	TunnelTokenHeader = "Clusterd-Tunnel-Token"
)

// DialTunnel opens a connection to the master at the other end of the link, for the token
// that it has sent. The options should be those of the link.
func DialTunnel(ctx context.Context, c *AgentConn, token string, opts DialOptions) (net.Conn, error) {
	if c.at == nil {
		return nil, errors.New("dial tunnel: the link was not dialled")
	}
	opts.Options = opts.withDefaults()
	if opts.Timeout <= 0 {
		opts.Timeout = 10 * time.Second
	}
	if opts.DialContext == nil {
		opts.DialContext = new(net.Dialer).DialContext
	}
	ctx, cancel := context.WithTimeout(ctx, opts.Timeout)
	defer cancel()
	u := &url.URL{Scheme: c.at.Scheme, Host: c.at.Host, Path: TunnelPath}
	nc, err := connect(ctx, u, &opts)
	if err != nil {
		return nil, fmt.Errorf("dial tunnel to master %s: %w", u.Host, err)
	}
	stop := context.AfterFunc(ctx, func() { _ = nc.SetDeadline(time.Unix(1, 0)) })
	early, err := openTunnel(nc, u, opts.Header, token)
	if !stop() && err == nil { // the deadline may be spoiled
		err = context.Cause(ctx)
	}
	if err != nil {
		_ = nc.Close() // nothing was sent on it that could be lost
		return nil, fmt.Errorf("dial tunnel to master %s: %w", u.Host, err)
	}
	return newTunnel(nc, early), nil
}

// openTunnel asks for the upgrade and returns what came after the answer.
func openTunnel(nc net.Conn, u *url.URL, header http.Header, token string) (early []byte, err error) {
	h := header.Clone()
	if h == nil {
		h = make(http.Header)
	}
	h.Set("Connection", "Upgrade")
	h.Set("Upgrade", TunnelProtocol)
	h.Set(TunnelTokenHeader, token)
	req := &http.Request{Method: http.MethodPost, URL: u, Host: u.Host, Header: h, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1}
	if err := req.Write(nc); err != nil {
		return nil, err
	}
	br := bufio.NewReader(nc)
	res, err := http.ReadResponse(br, req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusSwitchingProtocols || !hasToken(res.Header.Values("Upgrade"), TunnelProtocol) {
		body, _ := io.ReadAll(io.LimitReader(res.Body, maxReason)) // as much of it as there is
		return nil, &RefusedError{Addr: u.Host, Status: res.StatusCode, Message: strings.TrimSpace(string(body))}
	}
	return buffered(br)
}

// TunnelToken returns the token that a request for a tunnel shows, or the status and the
// reason to refuse it with.
func TunnelToken(r *http.Request) (token string, status int, err error) {
	token = r.Header.Get(TunnelTokenHeader)
	switch {
	case r.Method != http.MethodPost:
		return "", http.StatusMethodNotAllowed, fmt.Errorf("expecting POST, received %s", r.Method)
	case !hasToken(r.Header.Values("Connection"), "upgrade") || !hasToken(r.Header.Values("Upgrade"), TunnelProtocol):
		return "", http.StatusUpgradeRequired, fmt.Errorf("this address takes connections of agents only: expecting 'Upgrade: %s'", TunnelProtocol)
	case r.ContentLength != 0:
		return "", http.StatusBadRequest, errors.New("a request for a tunnel has no body")
	case token == "":
		return "", http.StatusBadRequest, fmt.Errorf("header %s is missing", TunnelTokenHeader)
	}
	return token, 0, nil
}

// AcceptTunnel takes the connection of a request for a tunnel over. On an error nothing is
// left of it.
func AcceptTunnel(w http.ResponseWriter, timeout time.Duration) (net.Conn, error) {
	nc, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		http.Error(w, "this connection cannot be upgraded: "+err.Error(), http.StatusHTTPVersionNotSupported)
		return nil, err
	}
	early, err := buffered(rw.Reader)
	if err == nil {
		err = nc.SetDeadline(time.Now().Add(timeout))
	}
	if err == nil {
		_, err = fmt.Fprintf(nc, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: %s\r\n\r\n", TunnelProtocol)
	}
	if err == nil {
		err = nc.SetDeadline(time.Time{})
	}
	if err != nil {
		_ = nc.Close() // the agent is gone; there is nobody to tell
		return nil, err
	}
	return newTunnel(nc, early), nil
}

// tunnel is the connection after the upgrade. It is no [tls.Conn], even where it runs on one:
// an HTTP server on it must not take the peer's certificate, the master's, for a caller's.
type tunnel struct {
	net.Conn
	early bytes.Reader // owned by who reads
}

func newTunnel(nc net.Conn, early []byte) net.Conn {
	t := &tunnel{Conn: nc}
	t.early.Reset(early)
	return t
}

// Read returns first what came with the answer.
func (t *tunnel) Read(b []byte) (int, error) {
	if t.early.Len() > 0 && len(b) > 0 {
		return t.early.Read(b)
	}
	return t.Conn.Read(b)
}

// CloseWrite says that nothing more will be written.
func (t *tunnel) CloseWrite() error {
	if h, ok := t.Conn.(interface{ CloseWrite() error }); ok {
		return h.CloseWrite()
	}
	return errors.ErrUnsupported
}

// Close ends the connection at once. A TLS connection is not told first, which may take
// seconds with a peer that does not read; HTTP says by itself where its messages end.
func (t *tunnel) Close() error {
	if inner, ok := t.Conn.(interface{ NetConn() net.Conn }); ok {
		return inner.NetConn().Close()
	}
	return t.Conn.Close()
}

const (
	// PrincipalHeader says on a tunnel who sends a request, if the master has authenticated
	// them; see [EncodePrincipal].
	PrincipalHeader = "Clusterd-Principal"
	// ClientHeader says on a tunnel from which address the request has come to the masters.
	ClientHeader = "Clusterd-Client"
	// RulesHeader has on a tunnel the masters' rules of who may do what, where there are any
	// and the master has authenticated who sends the request; see [EncodeRules]. They are for
	// agents that have no rules of their own.
	RulesHeader = "Clusterd-Rules"
)

type principal struct {
	Value  string            `json:"value,omitempty"`
	Claims map[string]string `json:"claims,omitempty"`
}

// EncodePrincipal makes the value of PrincipalHeader.
func EncodePrincipal(value string, claims map[string]string) string {
	b, err := json.Marshal(principal{value, claims})
	if err != nil {
		return "" // never: they are strings
	}
	return base64.RawURLEncoding.EncodeToString(b)
}

// DecodePrincipal reads the value of PrincipalHeader.
func DecodePrincipal(text string) (value string, claims map[string]string, err error) {
	b, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil {
		return "", nil, fmt.Errorf("header %s: %w", PrincipalHeader, err)
	}
	var p principal
	if err := json.Unmarshal(b, &p); err != nil {
		return "", nil, fmt.Errorf("header %s: %w", PrincipalHeader, err)
	}
	return p.Value, p.Claims, nil
}

// maxRules bounds rules that are passed on, decoded.
const maxRules = 8 << 20

// EncodeRules makes the value of RulesHeader of a JSON text.
func EncodeRules(rules []byte) string {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	_, _ = z.Write(rules) // to memory
	_ = z.Close()
	return base64.RawURLEncoding.EncodeToString(b.Bytes())
}

// DecodeRules reads the value of RulesHeader.
func DecodeRules(text string) ([]byte, error) {
	z, err := gzip.NewReader(base64.NewDecoder(base64.RawURLEncoding, strings.NewReader(text)))
	if err != nil {
		return nil, fmt.Errorf("header %s: %w", RulesHeader, err)
	}
	rules, err := io.ReadAll(io.LimitReader(z, maxRules+1))
	if err == nil && len(rules) > maxRules {
		err = errors.New("too long")
	}
	if err != nil {
		return nil, fmt.Errorf("header %s: %w", RulesHeader, err)
	}
	return rules, nil
}
