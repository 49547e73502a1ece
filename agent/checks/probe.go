package checks

import (
	"bufio"
	"context"
	"net"
	"strconv"
	"strings"
	"time"

	"clusterd/agent/executorlink"
	"clusterd/agent/executorlink/wire"
)

// TLS puts TLS on a connection, without verifying the peer's certificate.
type TLS func(ctx context.Context, conn net.Conn, host string) (net.Conn, error)

// Dial opens a TCP connection; the address may be a name.
type Dial func(ctx context.Context, address string) (net.Conn, error)

// dialHere is the Dial of this process's own network.
func dialHere(ctx context.Context, address string) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, "tcp", address)
}

// maxRedirects is how many redirects a probe follows, as many as curl, which
// Mesos runs (src/checks/checker_process.cpp).
const maxRedirects = 50

// probe is one HTTP or TCP probe.
type probe struct {
	check  *wire.Check
	dial   Dial
	tls    TLS
	ctx    context.Context //nolint:containedctx // lives as long as the probe
	cancel context.CancelFunc
}

func newProbe(check *wire.Check, dial Dial, tls TLS, timeout time.Duration) *probe {
	p := &probe{check: check, dial: dial, tls: tls}
	if p.dial == nil {
		p.dial = dialHere
	}
	if timeout > 0 {
		// The checker's own timer comes first: this only bounds a goroutine.
		p.ctx, p.cancel = context.WithTimeout(context.Background(), timeout+time.Second)
	} else {
		p.ctx, p.cancel = context.WithCancel(context.Background())
	}
	return p
}

func (p *probe) host() string {
	if p.check.IPv6 {
		return "::1"
	}
	return "127.0.0.1"
}

func (p *probe) run() (int32, error) {
	defer p.cancel()
	address := net.JoinHostPort(p.host(), strconv.FormatUint(uint64(p.check.Port), 10))
	if p.check.Type == wire.CheckTCP {
		conn, err := p.dial(p.ctx, address)
		if err != nil {
			return 0, nil
		}
		conn.Close()
		return 1, nil
	}
	scheme := p.check.Scheme
	if scheme == "" {
		scheme = "http"
	}
	target := scheme + "://" + address + p.check.Path
	for range maxRedirects + 1 {
		status, location, err := p.get(target)
		if err != nil {
			return 0, err
		}
		if status < 301 || status > 308 || status == 304 || status == 305 || status == 306 || location == "" {
			return int32(status), nil
		}
		target = resolve(target, location)
	}
	return 0, executorlink.TextError("more than " + strconv.Itoa(maxRedirects) + " redirects")
}

func (p *probe) connect(secure bool, address string) (net.Conn, error) {
	if secure && p.tls == nil {
		return nil, executorlink.TextError("this executor cannot probe https")
	}
	conn, err := p.dial(p.ctx, address)
	if err != nil || !secure {
		return conn, err
	}
	host, _, _ := net.SplitHostPort(address)
	secured, err := p.tls(p.ctx, conn, host)
	if err != nil {
		conn.Close()
	}
	return secured, err
}

// get asks for one page and reads no more than the head of the answer.
func (p *probe) get(target string) (status int, location string, err error) {
	scheme, rest, ok := strings.Cut(target, "://")
	secure := strings.EqualFold(scheme, "https")
	if !ok || !secure && !strings.EqualFold(scheme, "http") {
		return 0, "", executorlink.TextError("cannot probe " + target)
	}
	host, path := rest, "/"
	if i := strings.IndexAny(rest, "/?#"); i >= 0 {
		host, path = rest[:i], rest[i:]
		if path[0] != '/' {
			path = "/" + path
		}
		path, _, _ = strings.Cut(path, "#")
	}
	if i := strings.LastIndexByte(host, '@'); i >= 0 {
		host = host[i+1:]
	}
	address := host
	if _, _, err := net.SplitHostPort(address); err != nil {
		port := "80"
		if secure {
			port = "443"
		}
		address = net.JoinHostPort(strings.Trim(host, "[]"), port)
	}
	if strings.ContainsAny(host+path, " \r\n\t") {
		return 0, "", executorlink.TextError("cannot probe " + strconv.Quote(target))
	}
	conn, err := p.connect(secure, address)
	if err != nil {
		return 0, "", err
	}
	defer conn.Close()
	defer context.AfterFunc(p.ctx, func() { conn.Close() })()
	request := "GET " + path + " HTTP/1.1\r\nHost: " + host + "\r\nUser-Agent: clusterd\r\nAccept: */*\r\nConnection: close\r\n\r\n"
	if _, err := conn.Write([]byte(request)); err != nil {
		return 0, "", err
	}
	resp, err := executorlink.ReadResponse(bufio.NewReader(conn))
	if err != nil {
		return 0, "", executorlink.Unexpected(err, nil)
	}
	return resp.Status, resp.Location, nil
}

// resolve makes an absolute URL of a redirect's location.
func resolve(base, location string) string {
	if strings.Contains(location, "://") {
		return location
	}
	scheme, rest, _ := strings.Cut(base, "://")
	if strings.HasPrefix(location, "//") {
		return scheme + ":" + location
	}
	host, path := rest, "/"
	if i := strings.IndexAny(rest, "/?#"); i >= 0 {
		host, path = rest[:i], rest[i:]
	}
	if !strings.HasPrefix(location, "/") {
		path, _, _ = strings.Cut(path, "?")
		path, _, _ = strings.Cut(path, "#")
		location = path[:strings.LastIndexByte(path, '/')+1] + location
		if !strings.HasPrefix(location, "/") {
			location = "/" + location
		}
	}
	return scheme + "://" + host + location
}
