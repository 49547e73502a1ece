package link

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	clusterdv1 "clusterd/api/clusterd/v1"
)

type (
	agentMessage  = *clusterdv1.AgentMessage
	masterMessage = *clusterdv1.MasterMessage
)

// maxRedirects bounds how far the way to the leader is followed.
const maxRedirects = 5

// DialOptions tune [Dial]. The zero value of each field means its default.
type DialOptions struct {
	Options
	// Header is sent with the request, for authentication.
	Header http.Header
	// TLS is used for https addresses, and makes those without a scheme such.
	TLS *tls.Config
	// Downgrade goes on in clear at an address without a scheme where nobody speaks
	// TLS, for the time in which a cluster moves to it.
	Downgrade bool
	// DialContext opens the connection; the default is a net.Dialer.
	DialContext func(ctx context.Context, network, addr string) (net.Conn, error)
	// Timeout bounds each connection attempt and each answer; 10 s.
	Timeout time.Duration
	// Stagger is how long an address may be silent before the next is tried beside
	// it; 500 ms.
	Stagger time.Duration
}

// RefusedError is the answer of a master that did not open a link.
type RefusedError struct {
	Addr    string
	Status  int
	Message string
}

// Error says who refused and why.
func (e *RefusedError) Error() string {
	return fmt.Sprintf("master %s refused the link: %d %s: %s", e.Addr, e.Status, http.StatusText(e.Status), e.Message)
}

// Dial opens a link to the leading master. The addresses, host:port or a URL of
// scheme http or https (host:port means https with [DialOptions.TLS], else http), are tried in order, the next beside one that does not
// answer soon; redirects to the leader are followed. When no address leads to a
// link, the error joins all reasons.
func Dial(ctx context.Context, addrs []string, opts DialOptions) (*AgentConn, error) {
	if len(addrs) == 0 {
		return nil, errors.New("dial link: no address of a master")
	}
	opts.Options = opts.withDefaults()
	if opts.Timeout <= 0 {
		opts.Timeout = 10 * time.Second
	}
	if opts.Stagger <= 0 {
		opts.Stagger = 500 * time.Millisecond
	}
	if opts.DialContext == nil {
		opts.DialContext = new(net.Dialer).DialContext
	}
	return dialAny(ctx, addrs, &opts)
}

// dialAny tries the addresses in order. One that does not answer holds the next
// up for opts.Stagger only, so that a host that is gone does not cost its timeout.
func dialAny(ctx context.Context, addrs []string, opts *DialOptions) (*AgentConn, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type result struct {
		conn *AgentConn
		err  error
	}
	results := make(chan result, len(addrs)) // nobody waits to leave
	patience := time.NewTimer(0)
	defer patience.Stop()
	var errs []error
	for started, pending := 0, 0; ; {
		select {
		case <-patience.C:
			if started < len(addrs) {
				addr := addrs[started]
				started++
				pending++
				go func() {
					conn, err := dialFollow(ctx, addr, opts)
					results <- result{conn, err}
				}()
				patience.Reset(opts.Stagger)
			}
		case r := <-results:
			pending--
			if r.err == nil {
				go closeRest(pending, func() *AgentConn { return (<-results).conn })
				return r.conn, nil
			}
			errs = append(errs, r.err)
			if ctx.Err() == nil && started < len(addrs) {
				patience.Reset(0)
			} else if pending == 0 {
				return nil, fmt.Errorf("dial link: %w", errors.Join(errs...))
			}
		}
	}
}

// closeRest closes the links that come too late.
func closeRest(n int, next func() *AgentConn) {
	for range n {
		if c := next(); c != nil {
			c.CloseNow()
		}
	}
}

// dialFollow dials one address and follows its redirects.
func dialFollow(ctx context.Context, addr string, opts *DialOptions) (*AgentConn, error) {
	scheme := "http"
	if opts.TLS != nil {
		scheme = "https"
	}
	u, err := parseAddr(addr, scheme)
	if err != nil {
		return nil, err
	}
	downgrade := opts.Downgrade && !strings.Contains(addr, "://")
	for range maxRedirects {
		c, next, err := dialOnce(ctx, u, opts)
		if downgrade && u.Scheme == "https" && inClear(err) {
			next, err = &url.URL{Scheme: "http", Host: u.Host, Path: u.Path}, nil
		}
		if c != nil || err != nil {
			return c, err
		}
		u = next
	}
	return nil, fmt.Errorf("master %s: more than %d redirects", addr, maxRedirects)
}

// inClear says whether an error is that of a peer who does not speak TLS.
func inClear(err error) bool {
	_, ok := errors.AsType[tls.RecordHeaderError](err)
	return ok
}

func parseAddr(addr, scheme string) (*url.URL, error) {
	if !strings.Contains(addr, "://") {
		addr = scheme + "://" + addr
	}
	u, err := url.Parse(addr)
	if err != nil {
		return nil, fmt.Errorf("address of a master: %w", err)
	}
	if (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
		return nil, fmt.Errorf("address of a master %q: expecting host:port or an http or https URL", addr)
	}
	return &url.URL{Scheme: u.Scheme, Host: u.Host, Path: Path}, nil
}

// dialOnce asks one master. It returns a link, or where to ask next, or an error.
func dialOnce(ctx context.Context, u *url.URL, opts *DialOptions) (*AgentConn, *url.URL, error) {
	ctx, cancel := context.WithTimeout(ctx, opts.Timeout)
	defer cancel()
	nc, err := connect(ctx, u, opts)
	if err != nil {
		return nil, nil, fmt.Errorf("master %s: %w", u.Host, err)
	}
	// The end of the context, early or late, ends the exchange by its deadline.
	stop := context.AfterFunc(ctx, func() { _ = nc.SetDeadline(time.Unix(1, 0)) })
	c, next, err := exchange(nc, u, opts)
	if !stop() && c != nil { // the context ended: the deadline may be spoiled
		c.CloseNow()
		c, err = nil, context.Cause(ctx)
	}
	if c == nil {
		_ = nc.Close() // nothing was sent on it that could be lost
	}
	if err != nil && ctx.Err() != nil && !errors.Is(err, ctx.Err()) {
		err = fmt.Errorf("%w: %w", context.Cause(ctx), err)
	}
	if err != nil {
		if _, ok := errors.AsType[*RefusedError](err); !ok {
			err = fmt.Errorf("master %s: %w", u.Host, err)
		}
		return nil, nil, err
	}
	return c, next, nil
}

func connect(ctx context.Context, u *url.URL, opts *DialOptions) (net.Conn, error) {
	host, port := u.Hostname(), u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	nc, err := opts.DialContext(ctx, "tcp", net.JoinHostPort(host, port))
	if err != nil || u.Scheme == "http" {
		return nc, err
	}
	conf := opts.TLS.Clone()
	if conf == nil {
		conf = &tls.Config{MinVersion: tls.VersionTLS13}
	}
	if conf.ServerName == "" {
		conf.ServerName = host
	}
	conf.NextProtos = []string{"http/1.1"} // only there is an upgrade
	tc := tls.Client(nc, conf)
	if err := tc.HandshakeContext(ctx); err != nil {
		_ = nc.Close() // the handshake's error tells
		return nil, err
	}
	return tc, nil
}

// exchange sends the request and reads the answer.
func exchange(nc net.Conn, u *url.URL, opts *DialOptions) (*AgentConn, *url.URL, error) {
	h := opts.Header.Clone()
	if h == nil {
		h = make(http.Header)
	}
	h.Set("Connection", "Upgrade")
	h.Set("Upgrade", Protocol)
	h.Set(VersionHeader, strconv.Itoa(Version))
	req := &http.Request{Method: http.MethodPost, URL: u, Host: u.Host, Header: h, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1}
	if err := req.Write(nc); err != nil {
		return nil, nil, err
	}
	br := bufio.NewReader(nc)
	res, err := http.ReadResponse(br, req)
	if err != nil {
		return nil, nil, err
	}
	defer res.Body.Close()
	switch {
	case res.StatusCode == http.StatusSwitchingProtocols:
		version, err := strconv.Atoi(res.Header.Get(VersionHeader))
		if err != nil || !hasToken(res.Header.Values("Upgrade"), Protocol) {
			return nil, nil, &RefusedError{Addr: u.Host, Status: res.StatusCode, Message: "it switched to another protocol"}
		}
		if version < MinVersion {
			return nil, nil, &RefusedError{Addr: u.Host, Status: res.StatusCode, Message: fmt.Sprintf(
				"it speaks link version %d, this agent versions %d to %d: upgrade the masters", version, MinVersion, Version,
			)}
		}
		early, err := buffered(br)
		if err != nil {
			return nil, nil, err
		}
		c := newConn[masterMessage, agentMessage](nc, early, min(version, Version), opts.Options)
		c.at = u
		return c, nil, nil
	case res.StatusCode >= 300 && res.StatusCode < 400 && res.Header.Get("Location") != "":
		next, err := u.Parse(res.Header.Get("Location")) // "//host:port" keeps the scheme
		if err != nil {
			return nil, nil, fmt.Errorf("redirect: %w", err)
		}
		if next.Scheme != u.Scheme && u.Scheme == "https" {
			return nil, nil, fmt.Errorf("redirect from https to %s is not followed", next.Scheme)
		}
		to, err := parseAddr(next.Scheme+"://"+next.Host, next.Scheme)
		return nil, to, err
	default:
		body, _ := io.ReadAll(io.LimitReader(res.Body, maxReason)) // as much of it as there is
		return nil, nil, &RefusedError{Addr: u.Host, Status: res.StatusCode, Message: strings.TrimSpace(string(body))}
	}
}
