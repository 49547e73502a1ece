package images

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

const (
	// maxManifest bounds manifests, as registries do themselves; maxConfig bounds
	// the configurations of images.
	maxManifest = 4 << 20
	maxConfig   = 16 << 20
	// maxPause bounds the pause between two attempts, whatever a registry asks for.
	maxPause = time.Minute
	// progress is what a download has to bring for its failure not to count.
	progress = 1 << 20
)

var (
	errPlainHTTP = errors.New("plain http is not allowed for this registry")
	errStalled   = errors.New("nothing came for too long")
)

// statusError is an answer that is none.
type statusError struct {
	url        string
	status     int
	retryAfter time.Duration
}

// Error says what was asked and answered.
func (e *statusError) Error() string {
	return fmt.Sprintf("GET %s: status %d %s", e.url, e.status, http.StatusText(e.status))
}

// Unwrap tells apart that there is no such thing.
func (e *statusError) Unwrap() error {
	if e.status == http.StatusNotFound {
		return ErrNotFound
	}
	return nil
}

// guard lets nobody be led from https to http.
type guard struct {
	inner http.RoundTripper
	plain bool
}

// RoundTrip refuses plain http where it is not allowed.
func (g guard) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Scheme != "https" && !g.plain {
		return nil, errPlainHTTP
	}
	return g.inner.RoundTrip(r)
}

// repository is one repository of a registry, with whom we have made acquaintance.
type repository struct {
	o      *Options
	client *http.Client
	base   string
}

// openRepository finds out how the registry of an image wants to be spoken to
// (token, basic or no authentication).
func (s *Store) openRepository(ctx context.Context, ref reference, auth authn.Authenticator) (*repository, error) {
	host, path := ref.registry, ref.repository
	if host == "" {
		u, err := url.Parse(s.o.Registry)
		if err != nil || u.Host == "" {
			return nil, fmt.Errorf("docker registry %q: %w: not a URL", s.o.Registry, ErrInvalidName)
		}
		host = u.Host
	}
	if strings.HasSuffix(host, "docker.io") && !strings.Contains(path, "/") {
		path = "library/" + path
	}
	plain := s.o.plainHTTP(host)
	options := []name.Option{name.StrictValidation}
	if plain {
		options = append(options, name.Insecure)
	}
	registry, err := name.NewRegistry(host, options...)
	if err != nil {
		return nil, fmt.Errorf("%w: registry %q: %w", ErrInvalidName, host, err)
	}
	repo := registry.Repo(path)
	var t http.RoundTripper
	err = s.o.retry(ctx, func() error {
		ctx, cancel := context.WithTimeoutCause(ctx, s.o.StallTimeout, errStalled)
		defer cancel()
		t, err = transport.NewWithContext(ctx, registry, auth, guard{s.transport, plain}, []string{repo.Scope(transport.PullScope)})
		return cause(ctx, err)
	})
	if err != nil {
		return nil, fmt.Errorf("registry %s: %w", host, err)
	}
	return &repository{o: &s.o, client: &http.Client{Transport: t}, base: "https://" + registry.RegistryStr() + "/v2/" + path}, nil
}

// plainHTTP says whether a registry is spoken to without TLS: on this machine, on
// port 80 (src/docker/spec.cpp), or where the operator says so.
func (o *Options) plainHTTP(host string) bool {
	if slices.Contains(o.InsecureRegistries, host) {
		return true
	}
	h, port, err := net.SplitHostPort(host)
	if err != nil {
		h = strings.Trim(host, "[]")
	}
	return port == "80" || h == "localhost" || net.ParseIP(h).IsLoopback()
}

// cause gives the reason why a context ended.
func cause(ctx context.Context, err error) error {
	if err != nil && errors.Is(context.Cause(ctx), errStalled) {
		return fmt.Errorf("%w: %w", errStalled, err)
	}
	return err
}

// retry does something until it works or there is no use.
func (o *Options) retry(ctx context.Context, op func() error) error {
	for attempt := 1; ; attempt++ {
		err := op()
		if err == nil || attempt >= o.Attempts || !transient(err) {
			return err
		}
		if err := o.pause(ctx, attempt, err); err != nil {
			return err
		}
	}
}

// pause waits after an attempt that failed: longer every time, and as long as the
// registry asks for.
func (o *Options) pause(ctx context.Context, attempt int, err error) error {
	d := min(o.Backoff<<min(attempt-1, 16), maxPause)
	d = d/2 + rand.N(d/2+1) // so that agents do not come back all at once
	if status, ok := errors.AsType[*statusError](err); ok {
		d = max(d, min(status.retryAfter, maxPause))
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// transient says whether it may be otherwise the next time.
func transient(err error) bool {
	var (
		status *statusError
		answer *transport.Error
		dns    *net.DNSError
		verify *tls.CertificateVerificationError
		record tls.RecordHeaderError
		host   x509.HostnameError
	)
	code := 0
	switch {
	case errors.Is(err, errStalled):
		return true
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded), errors.Is(err, errPlainHTTP),
		errors.As(err, &verify), errors.As(err, &record), errors.As(err, &host),
		errors.Is(err, ErrUnsafe), errors.Is(err, ErrTooLarge), errors.Is(err, ErrUnsupported), errors.Is(err, ErrInvalidName):
		return false
	case errors.As(err, &dns):
		return !dns.IsNotFound
	case errors.As(err, &status):
		code = status.status
	case errors.As(err, &answer):
		code = answer.StatusCode
	}
	switch {
	case code >= 500, code == http.StatusTooManyRequests, code == http.StatusRequestTimeout:
		return true
	case code != 0:
		return false
	}
	return true // the network
}

// get makes one request, whose answer must have one of two states.
func (r *repository) get(ctx context.Context, path string, header http.Header) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, r.base+path, nil)
	if err != nil {
		return nil, err
	}
	maps.Copy(req.Header, header)
	resp, err := r.client.Do(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode == http.StatusOK || resp.StatusCode == http.StatusPartialContent {
		return resp, nil
	}
	_ = resp.Body.Close()
	e := &statusError{url: r.base + path, status: resp.StatusCode}
	after := resp.Header.Get("Retry-After")
	if n, err := strconv.Atoi(after); err == nil && n > 0 {
		e.retryAfter = time.Duration(min(n, 3600)) * time.Second
	} else if t, err := http.ParseTime(after); err == nil {
		e.retryAfter = time.Until(t)
	}
	return nil, e
}

// acceptedManifests are the media types that manifests may have, best first.
var acceptedManifests = []string{strings.Join([]string{
	string(types.OCIImageIndex), string(types.DockerManifestList), string(types.OCIManifestSchema1), string(types.DockerManifestSchema2),
}, ", ")}

// small gets something that is read whole. The caller checks its digest.
func (r *repository) small(ctx context.Context, path string, header http.Header, limit int64) (b []byte, mediaType string, err error) {
	err = r.o.retry(ctx, func() error {
		ctx, cancel := context.WithTimeoutCause(ctx, r.o.StallTimeout, errStalled)
		defer cancel()
		resp, err := r.get(ctx, path, header)
		if err != nil {
			return cause(ctx, err)
		}
		defer func() { _ = resp.Body.Close() }()
		if b, err = io.ReadAll(io.LimitReader(resp.Body, limit+1)); err != nil {
			return cause(ctx, err)
		}
		if int64(len(b)) > limit {
			return fmt.Errorf("GET %s: %w", r.base+path, ErrTooLarge)
		}
		mediaType, _, _ = strings.Cut(resp.Header.Get("Content-Type"), ";")
		return nil
	})
	return b, strings.TrimSpace(mediaType), err
}

// manifest implements source.
func (r *repository) manifest(ctx context.Context, version string) ([]byte, string, error) {
	return r.small(ctx, "/manifests/"+version, http.Header{"Accept": acceptedManifests}, maxManifest)
}

// config implements source.
func (r *repository) config(ctx context.Context, digest string) ([]byte, error) {
	b, _, err := r.small(ctx, "/blobs/"+digest, nil, maxConfig)
	return b, err
}

// blob implements source.
func (r *repository) blob(ctx context.Context, digest string, size int64) (io.ReadCloser, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	d := &download{ctx: ctx, cancel: cancel, r: r, path: "/blobs/" + digest, size: size}
	return d, nil
}

// download reads a blob. When the connection fails it makes another one and goes on
// where it was.
type download struct {
	ctx    context.Context //nolint:containedctx // of the one who reads
	cancel context.CancelCauseFunc
	r      *repository
	path   string
	size   int64 // -1: unknown

	at      int64 // what was read
	body    io.ReadCloser
	abort   context.CancelCauseFunc // of the connection
	stall   *time.Timer             // ends the connection
	failed  int                     // attempts that brought nothing
	started int64                   // at when the connection was made
}

// Read reads on.
func (d *download) Read(p []byte) (int, error) {
	for {
		n, err := d.try(p)
		if n > 0 {
			return n, nil // the error comes again
		}
		if err == nil || err == io.EOF { //nolint:errorlint // try makes it bare
			return 0, err
		}
		d.disconnect()
		if d.ctx.Err() != nil || !transient(err) {
			return 0, err
		}
		if d.at-d.started >= progress {
			d.failed = 0
		}
		if d.failed++; d.failed >= d.r.o.Attempts {
			return 0, err
		}
		if err := d.r.o.pause(d.ctx, d.failed, err); err != nil {
			return 0, err
		}
	}
}

// try reads from the connection, and makes one if there is none.
func (d *download) try(p []byte) (int, error) {
	if d.body == nil {
		if err := d.connect(); err != nil {
			return 0, err
		}
	}
	d.stall.Reset(d.r.o.StallTimeout)
	n, err := d.body.Read(p)
	d.stall.Stop()
	d.at += int64(n)
	switch {
	case d.size >= 0 && d.at > d.size:
		return 0, fmt.Errorf("%w: the blob is longer than its manifest says", ErrTooLarge)
	case err != nil && d.at == d.size:
		return n, io.EOF
	case err == io.EOF && d.size >= 0:
		return n, io.ErrUnexpectedEOF
	case err != nil && err != io.EOF:
		return n, fmt.Errorf("read blob: %w", err)
	}
	return n, err
}

func (d *download) connect() error {
	ctx, abort := context.WithCancelCause(d.ctx)
	d.abort = abort
	d.started = d.at
	d.stall = time.AfterFunc(d.r.o.StallTimeout, func() { abort(errStalled) })
	defer d.stall.Stop()
	var header http.Header
	if d.at > 0 {
		until := ""
		if d.size > 0 {
			until = strconv.FormatInt(d.size-1, 10)
		}
		header = http.Header{"Range": {"bytes=" + strconv.FormatInt(d.at, 10) + "-" + until}}
	}
	resp, err := d.r.get(ctx, d.path, header) //nolint:bodyclose // disconnect does
	if status, ok := errors.AsType[*statusError](err); ok && status.status == http.StatusRequestedRangeNotSatisfiable {
		resp, err = d.r.get(ctx, d.path, nil) //nolint:bodyclose // disconnect does
	}
	if err != nil {
		return cause(ctx, err)
	}
	d.body = &causeBody{resp.Body, ctx}
	if d.at > 0 && resp.StatusCode == http.StatusOK { // it starts all over
		if _, err := io.CopyN(io.Discard, resp.Body, d.at); err != nil {
			return cause(ctx, noEOF(err))
		}
	}
	return nil
}

func (d *download) disconnect() {
	if d.body != nil {
		_ = d.body.Close()
		d.body = nil
	}
	if d.abort != nil {
		d.stall.Stop()
		d.abort(nil)
	}
}

// Close ends the connection. It may be called while another goroutine reads.
func (d *download) Close() error {
	d.cancel(nil)
	return nil
}

// causeBody names the reason when a body ends because its context did.
type causeBody struct {
	io.ReadCloser
	ctx context.Context //nolint:containedctx // of the connection
}

// Read reads.
func (b *causeBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil && err != io.EOF { //nolint:errorlint // readers return it bare
		err = cause(b.ctx, err)
	}
	return n, err
}

// newTransport is how registries are reached.
func newTransport(stall time.Duration) *http.Transport {
	return &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           (&net.Dialer{Timeout: 30 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
		ForceAttemptHTTP2:     true,
		MaxIdleConnsPerHost:   8,
		IdleConnTimeout:       time.Minute,
		TLSHandshakeTimeout:   15 * time.Second,
		ResponseHeaderTimeout: stall,
		DisableCompression:    true,
	}
}
