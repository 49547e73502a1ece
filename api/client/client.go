// Package client is what the clients of the scheduler, executor and operator
// APIs have in common: one request, one event stream, the search for the
// leading master, and the waiting between attempts. Framework authors import
// api/client/scheduler, api/client/executor or api/client/operator, and this
// package for [Options].
//
// It needs nothing but net/http and starts no goroutine of its own. [Client]
// and [Masters] may be used by several goroutines, a [Stream] by one.
package client

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"time"

	"google.golang.org/protobuf/proto"

	"clusterd/api/mesosjson"
)

// Format is how messages are written on the wire.
type Format int

const (
	// Protobuf is application/x-protobuf, compact and fast.
	Protobuf Format = iota
	// JSON is application/json in Mesos's mapping, readable in a packet dump.
	JSON
)

// MediaType returns the value for Content-Type and Accept.
func (f Format) MediaType() string {
	if f == JSON {
		return "application/json"
	}
	return "application/x-protobuf"
}

// Marshal encodes m.
func (f Format) Marshal(m proto.Message) ([]byte, error) {
	if f == JSON {
		return mesosjson.Marshal(m)
	}
	return proto.Marshal(m)
}

// Unmarshal decodes data into m.
func (f Format) Unmarshal(data []byte, m proto.Message) error {
	if f == JSON {
		return mesosjson.Unmarshal(data, m)
	}
	return proto.Unmarshal(data, m)
}

// Credential is a principal and its secret, sent by HTTP basic authentication.
// It goes to every address given and to the leader they name, as a token does: who
// redirects is a master that was given, and it was asked by TLS if the leader is to
// be. Over TLS nobody else can name a leader, and the leader must have a certificate
// that is trusted; from TLS into the clear no redirect is followed.
type Credential struct {
	Principal string
	Secret    string
}

// Options say how to reach a server. The zero value is useful.
type Options struct {
	// Format is how messages travel; the default is Protobuf.
	Format Format
	// TLS is how servers are checked, and what they are shown. With it, addresses
	// without a scheme mean https. It has no effect on an HTTPClient that is given.
	TLS *tls.Config
	// HTTPClient sends the requests; the default is NewHTTPClient(nil). It must
	// have no Timeout, which would cut event streams off; redirects are followed
	// here and never by the client itself.
	HTTPClient *http.Client
	// Credential authenticates by HTTP basic authentication if given.
	Credential *Credential
	// Token authenticates by a bearer token if given, instead of Credential.
	Token string
	// Header is added to every request.
	Header http.Header
	// CallTimeout bounds every call but event streams, and for these the time
	// until the response begins; the default is 30 s.
	CallTimeout time.Duration
	// MaxRecord is the largest event accepted, in bytes; the default is
	// recordio.DefaultMaxSize.
	MaxRecord int
}

// DefaultCallTimeout is used where [Options] has no CallTimeout.
const DefaultCallTimeout = 30 * time.Second

// maxResponse limits the body of an answer that is not a stream, and
// maxErrorBody that of a refusal.
const (
	maxResponse  = 1 << 30
	maxErrorBody = 64 << 10
)

// DialFunc opens a connection, as net.Dialer.DialContext does.
type DialFunc func(ctx context.Context, network, address string) (net.Conn, error)

// NewHTTPClient returns a client for the APIs: without a proxy, since masters
// and agents are asked directly, without compression, which streams must not have,
// and without an overall timeout. A nil dial means a net.Dialer with keep-alive.
func NewHTTPClient(dial DialFunc) *http.Client { return NewTLSClient(dial, nil) }

// NewTLSClient is [NewHTTPClient] with a configuration for https addresses; nil means
// Go's.
func NewTLSClient(dial DialFunc, conf *tls.Config) *http.Client {
	if dial == nil {
		dial = (&net.Dialer{Timeout: 10 * time.Second, KeepAlive: 15 * time.Second}).DialContext
	}
	return &http.Client{Transport: &http.Transport{
		DialContext:         dial,
		DisableCompression:  true,
		MaxIdleConnsPerHost: 8,
		IdleConnTimeout:     90 * time.Second,
		TLSHandshakeTimeout: 10 * time.Second,
		TLSClientConfig:     conf.Clone(),
	}}
}

// Client posts calls. Use [New].
type Client struct {
	opts Options
	http *http.Client
}

// New returns a Client with defaults filled in.
func New(opts Options) *Client {
	opts.CallTimeout = cmp.Or(opts.CallTimeout, DefaultCallTimeout)
	hc := opts.HTTPClient
	if hc == nil {
		hc = NewTLSClient(nil, opts.TLS)
	}
	c := *hc // a copy: the caller's client keeps its own way with redirects
	c.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &Client{opts: opts, http: &c}
}

// ParseAddress is [ParseAddress], but that host:port means https with [Options.TLS].
func (c *Client) ParseAddress(address string) (*url.URL, error) {
	if c.opts.TLS != nil {
		return parseAddress(address, "https")
	}
	return ParseAddress(address)
}

// CloseIdle closes the connections that are kept for reuse.
func (c *Client) CloseIdle() {
	c.http.CloseIdleConnections()
}

// Call posts req to u and, when the answer has a body, decodes it into resp,
// which may be nil. It reports whether there was a body. An answer other than 2xx is a
// [*StatusError].
func (c *Client) Call(ctx context.Context, u *url.URL, header http.Header, req, resp proto.Message) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, c.opts.CallTimeout)
	defer cancel()
	res, err := c.post(ctx, u, header, req)
	if err != nil {
		return false, err
	}
	defer res.Body.Close()
	if res.StatusCode/100 != 2 {
		return false, statusError(res)
	}
	body, err := io.ReadAll(io.LimitReader(res.Body, maxResponse+1))
	if err != nil {
		return false, fmt.Errorf("read the answer of %s: %w", u.Host, err)
	}
	if len(body) > maxResponse {
		return false, fmt.Errorf("read the answer of %s: more than %d bytes", u.Host, maxResponse)
	}
	if len(body) == 0 || resp == nil {
		return false, nil
	}
	if err := c.opts.Format.Unmarshal(body, resp); err != nil {
		return false, fmt.Errorf("decode the answer of %s: %w", u.Host, err)
	}
	return true, nil
}

// Stream posts req to u and returns the stream of events that answers it. The
// stream ends with ctx.
func (c *Client) Stream(ctx context.Context, u *url.URL, header http.Header, req proto.Message) (*Stream, error) {
	return c.stream(ctx, u, header, req)
}

// Session is Stream for the calls whose records are process output: they are
// asked for as application/recordio, the format of the records standing in
// Message-Accept.
func (c *Client) Session(ctx context.Context, u *url.URL, req proto.Message) (*Stream, error) {
	return c.stream(ctx, u, http.Header{
		"Accept":         {"application/recordio"},
		"Message-Accept": {c.opts.Format.MediaType()},
	}, req)
}

// Watch is Stream for what is subscribed to by GET, with a query.
func (c *Client) Watch(ctx context.Context, u *url.URL, query url.Values) (*Stream, error) {
	target := *u
	target.RawQuery = query.Encode()
	return c.begin(ctx, u, func(ctx context.Context) (*http.Response, error) {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, target.String(), http.NoBody)
		if err != nil {
			return nil, err
		}
		return c.send(req, nil)
	})
}

func (c *Client) stream(ctx context.Context, u *url.URL, header http.Header, req proto.Message) (*Stream, error) {
	return c.begin(ctx, u, func(ctx context.Context) (*http.Response, error) {
		return c.post(ctx, u, header, req)
	})
}

// begin sends the request that is answered by a stream.
func (c *Client) begin(ctx context.Context, u *url.URL, send func(context.Context) (*http.Response, error)) (*Stream, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	guard := time.AfterFunc(c.opts.CallTimeout, func() { cancel(ErrStalled) })
	res, err := send(ctx)
	guard.Stop()
	if err != nil {
		if cause := context.Cause(ctx); cause != nil {
			err = fmt.Errorf("subscribe at %s: %w", u.Host, cause)
		}
		cancel(nil)
		return nil, err
	}
	if res.StatusCode != http.StatusOK {
		defer cancel(nil)
		defer res.Body.Close()
		return nil, statusError(res)
	}
	return newStream(ctx, cancel, u, res, c.opts), nil
}

// post sends one request.
func (c *Client) post(ctx context.Context, u *url.URL, header http.Header, m proto.Message) (*http.Response, error) {
	body, err := c.opts.Format.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", m.ProtoReflect().Descriptor().FullName(), err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, u.String(), bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	return c.send(req, header)
}

// send completes a request with what is in all of them, and sends it.
func (c *Client) send(req *http.Request, header http.Header) (*http.Response, error) {
	maps.Copy(req.Header, c.opts.Header)
	if req.Method == http.MethodPost {
		req.Header.Set("Content-Type", c.opts.Format.MediaType())
	}
	req.Header.Set("Accept", c.opts.Format.MediaType())
	maps.Copy(req.Header, header)
	switch {
	case c.opts.Token != "":
		req.Header.Set("Authorization", "Bearer "+c.opts.Token)
	case c.opts.Credential != nil:
		req.SetBasicAuth(c.opts.Credential.Principal, c.opts.Credential.Secret)
	}
	return c.http.Do(req)
}
