// Package fetcher brings the URIs of a task's CommandInfo into its sandbox
// (Mesos's src/launcher/fetcher.cpp, without the cache): local files, http and
// https; archives are unpacked unless the URI says otherwise.
//
// The main type is [Fetcher]; it is safe for concurrent use, each fetch runs on
// a thread of its own. Imported by agent only.
//
// # Hostile input
//
// The fetch acts with the file system identity of the task's user, so that a
// task can name only files that its user may read, and everything it brings
// belongs to that user. All writing goes through an os.Root of the sandbox.
// Archives may hold directories, regular files, and symbolic and hard links that
// stay inside; absolute names, `..`, devices, pipes, links that lead out and
// entries below a symbolic link are errors. Limits: [Options.MaxBytes] for each
// download and for what each archive unpacks to, [Options.MaxEntries] for each
// archive, [maxURIs] for each fetch.
package fetcher

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	mesos "clusterd/api/mesos/v1"
)

// Errors that [Fetcher.Fetch] wraps.
var (
	// ErrInvalidURI is wrapped when a URI or its output file cannot be accepted.
	ErrInvalidURI = errors.New("invalid URI")
	// ErrStalled is wrapped when a download gave no data for the stall timeout.
	ErrStalled = errors.New("download stalled")
	// ErrTooLarge is wrapped when a limit on size or number is exceeded.
	ErrTooLarge = errors.New("too large")
	// ErrUnsafeArchive is wrapped when an archive holds what must not be unpacked.
	ErrUnsafeArchive = errors.New("unsafe archive")
)

// maxURIs bounds one fetch; a list beyond it is a mistake.
const maxURIs = 10_000

// Options configure a Fetcher.
type Options struct {
	// FrameworksHome is prepended to relative URIs (`--frameworks_home`).
	FrameworksHome string
	// StallTimeout ends a download that gives nothing for so long
	// (`--fetcher_stall_timeout`).
	StallTimeout time.Duration
	// MaxBytes bounds one download and what one archive unpacks to.
	MaxBytes int64
	// MaxEntries bounds the entries of one archive.
	MaxEntries int
	// Transport makes HTTP requests; nil is one that honours the proxy
	// environment variables.
	Transport http.RoundTripper
}

// DefaultOptions returns Mesos's stall timeout and generous limits.
func DefaultOptions() Options {
	return Options{StallTimeout: time.Minute, MaxBytes: 64 << 30, MaxEntries: 1_000_000}
}

// Fetcher fetches URIs.
type Fetcher struct {
	opts   Options
	client *http.Client
}

// New returns a Fetcher; zero limits and timeouts are those of [DefaultOptions].
func New(opts Options) *Fetcher {
	def := DefaultOptions()
	if opts.StallTimeout <= 0 {
		opts.StallTimeout = def.StallTimeout
	}
	if opts.MaxBytes <= 0 {
		opts.MaxBytes = def.MaxBytes
	}
	if opts.MaxEntries <= 0 {
		opts.MaxEntries = def.MaxEntries
	}
	if opts.Transport == nil {
		opts.Transport = &http.Transport{
			Proxy:       http.ProxyFromEnvironment,
			DialContext: (&net.Dialer{Timeout: 30 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
			// A .tar.gz must arrive as it is, not unpacked on the way.
			DisableCompression:  true,
			ForceAttemptHTTP2:   true,
			TLSHandshakeTimeout: 10 * time.Second,
			// A fetch leaves nothing open behind.
			DisableKeepAlives: true,
		}
	}
	return &Fetcher{opts: opts, client: &http.Client{Transport: opts.Transport}}
}

// Request is one fetch.
type Request struct {
	// URIs are fetched in order; the first failure ends the fetch.
	URIs []*mesos.CommandInfo_URI
	// Sandbox is the directory they are brought into.
	Sandbox string
	// User is the task's user; empty means the agent's own. It is honoured
	// when the agent runs as root and must be the agent's own otherwise.
	User string
	// Log, if set, gets a line for each step (the sandbox's stderr in Mesos).
	Log io.Writer
}

// Fetch brings all URIs of the request into its sandbox. What was fetched
// before a failure stays there.
func (f *Fetcher) Fetch(ctx context.Context, req Request) error {
	if len(req.URIs) == 0 {
		return nil
	}
	if len(req.URIs) > maxURIs {
		return fmt.Errorf("%w: %d URIs", ErrTooLarge, len(req.URIs))
	}
	for _, uri := range req.URIs {
		if err := Validate(uri); err != nil {
			return err
		}
	}
	who, err := lookupIdentity(req.User)
	if err != nil {
		return err
	}
	root, err := os.OpenRoot(req.Sandbox)
	if err != nil {
		return fmt.Errorf("open sandbox: %w", err)
	}
	defer func() { _ = root.Close() }()
	if err := who.takeOver(root); err != nil {
		return err
	}
	return who.do(func() error {
		for _, uri := range req.URIs {
			job := job{f: f, root: root, uri: uri, log: req.Log}
			if err := job.run(ctx); err != nil {
				return fmt.Errorf("fetch '%s': %w", uri.GetValue(), err)
			}
		}
		return nil
	})
}

// Validate checks a URI the way Mesos does before a task is launched
// (src/slave/containerizer/fetcher.cpp, validateUri and validateOutputFile).
func Validate(uri *mesos.CommandInfo_URI) error {
	if _, err := basename(uri.GetValue()); err != nil {
		return err
	}
	if uri.OutputFile == nil {
		return nil
	}
	name := uri.GetOutputFile()
	switch {
	case name == "":
		return fmt.Errorf("%w: URI output file path is empty", ErrInvalidURI)
	case strings.HasPrefix(name, "/") || !filepath.IsLocal(name) || filepath.Clean(name) == ".":
		return fmt.Errorf("%w: URI output file must be within the sandbox directory: '%s'", ErrInvalidURI, name)
	case strings.ContainsRune(name, 0):
		return fmt.Errorf("%w: illegal characters in output file", ErrInvalidURI)
	}
	return nil
}

// basename is the name a URI's contents get. Like Mesos it takes what is
// behind the last slash, a query included.
func basename(uri string) (string, error) {
	if strings.ContainsAny(uri, "\\'\x00") {
		return "", fmt.Errorf("%w: illegal characters in URI", ErrInvalidURI)
	}
	uri = strings.TrimLeft(uri, " \t\r\n")
	name := path.Base(uri)
	if i := strings.Index(uri, "://"); i > 1 {
		rest := uri[i+3:]
		slash := strings.IndexByte(rest, '/')
		if slash < 0 || slash == len(rest)-1 {
			return "", fmt.Errorf("%w: malformed URI (missing path): %s", ErrInvalidURI, uri)
		}
		name = rest[strings.LastIndexByte(rest, '/')+1:]
	}
	if name == "" || name == "." || name == ".." || name == "/" {
		return "", fmt.Errorf("%w: '%s' names no file", ErrInvalidURI, uri)
	}
	return name, nil
}

// localPath returns the path that a URI without a scheme, or with file://,
// means; ok is false for other schemes.
func (f *Fetcher) localPath(uri string) (local string, ok bool, err error) {
	local, isFile := strings.CutPrefix(uri, "file://")
	if !isFile && strings.Contains(uri, "://") {
		return "", false, nil
	}
	if isFile {
		local = strings.TrimPrefix(local, "localhost")
	}
	if filepath.IsAbs(local) {
		return local, true, nil
	}
	if isFile {
		return "", true, fmt.Errorf("%w: file URI only supports absolute paths", ErrInvalidURI)
	}
	if f.opts.FrameworksHome == "" {
		return "", true, fmt.Errorf("%w: a relative path needs --frameworks_home", ErrInvalidURI)
	}
	return filepath.Join(f.opts.FrameworksHome, local), true, nil
}

// job is the fetch of one URI.
type job struct {
	f    *Fetcher
	root *os.Root
	uri  *mesos.CommandInfo_URI
	log  io.Writer
}

func (j *job) logf(format string, args ...any) {
	if j.log != nil {
		fmt.Fprintf(j.log, "fetcher: "+format+"\n", args...)
	}
}

func (j *job) run(ctx context.Context) error {
	source := strings.TrimLeft(j.uri.GetValue(), " \t\r\n")
	name, err := basename(source)
	if err != nil {
		return err
	}
	if j.uri.OutputFile != nil {
		name = filepath.Clean(j.uri.GetOutputFile())
		if dir := filepath.Dir(name); dir != "." {
			if err := j.root.MkdirAll(dir, 0o755); err != nil {
				return fmt.Errorf("create directory for '%s': %w", name, err)
			}
		}
	}
	j.logf("fetching '%s' into the sandbox", source)
	mode := os.FileMode(0o644)
	if j.uri.GetExecutable() {
		mode = 0o755
	}
	local, isLocal, err := j.f.localPath(source)
	switch {
	case err != nil:
		return err
	case isLocal:
		err = j.copyFile(ctx, local, name, mode)
	case strings.HasPrefix(source, "http://") || strings.HasPrefix(source, "https://"):
		err = j.download(ctx, source, name, mode)
	default:
		scheme, _, _ := strings.Cut(source, "://")
		err = fmt.Errorf("%w: scheme '%s' is not supported", ErrInvalidURI, scheme)
	}
	if err != nil {
		return err
	}
	if j.uri.GetExecutable() || !j.uri.GetExtract() {
		return nil
	}
	return j.extract(ctx, name)
}

// write creates name anew and fills it from r.
func (j *job) write(name string, mode os.FileMode, r io.Reader) error {
	// Whatever has the name (a link unpacked from an earlier archive, say) is
	// replaced, not written through.
	if err := j.root.Remove(name); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	file, err := j.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	n, err := io.Copy(file, io.LimitReader(r, j.f.opts.MaxBytes+1))
	if err == nil && n > j.f.opts.MaxBytes {
		err = fmt.Errorf("%w: more than %d bytes", ErrTooLarge, j.f.opts.MaxBytes)
	}
	if err == nil {
		// The mode at creation is subject to the umask.
		err = file.Chmod(mode)
	}
	return errors.Join(err, file.Close())
}

func (j *job) copyFile(ctx context.Context, source, name string, mode os.FileMode) error {
	// What /proc shows depends on who asks; the agent's memory and environment
	// are nobody's business.
	resolved, err := filepath.EvalSymlinks(source)
	if err != nil {
		return err
	}
	if resolved == "/proc" || strings.HasPrefix(resolved, "/proc/") {
		return fmt.Errorf("%w: files of /proc cannot be fetched", ErrInvalidURI)
	}
	in, err := openRegular(resolved)
	if err != nil {
		return err
	}
	defer in.Close()
	return j.write(name, mode, contextReader{ctx, in})
}

// contextReader ends reading when its context ends.
type contextReader struct {
	ctx context.Context //nolint:containedctx // lives for one copy
	r   io.Reader
}

func (c contextReader) Read(p []byte) (int, error) {
	if err := context.Cause(c.ctx); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}

func (j *job) download(ctx context.Context, source, name string, mode os.FileMode) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	timeout := j.f.opts.StallTimeout
	stall := time.AfterFunc(timeout, func() { cancel(fmt.Errorf("%w: nothing came for %s", ErrStalled, timeout)) })
	defer stall.Stop()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, source, http.NoBody)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrInvalidURI, err)
	}
	resp, err := j.f.client.Do(req)
	if err != nil {
		return causeOf(ctx, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("error downloading resource, received HTTP return code %d", resp.StatusCode)
	}
	if resp.ContentLength > j.f.opts.MaxBytes {
		return fmt.Errorf("%w: %d bytes", ErrTooLarge, resp.ContentLength)
	}
	return causeOf(ctx, j.write(name, mode, progressReader{resp.Body, stall, timeout}))
}

// causeOf names the reason when err came of the end of the context.
func causeOf(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); err != nil && cause != nil && !errors.Is(err, cause) {
		return fmt.Errorf("%w (%w)", cause, err)
	}
	return err
}

// progressReader puts the stall timer off whenever data comes.
type progressReader struct {
	r       io.Reader
	stall   *time.Timer
	timeout time.Duration
}

func (p progressReader) Read(b []byte) (int, error) {
	n, err := p.r.Read(b)
	if n > 0 {
		p.stall.Reset(p.timeout)
	}
	return n, err
}
