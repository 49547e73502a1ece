// Package fetcher brings the URIs of a task's CommandInfo into its sandbox
// (Mesos's src/launcher/fetcher.cpp and src/slave/containerizer/fetcher.cpp): local
// files, http and https, and by the hadoop program what only that knows; archives are
// unpacked unless the URI says otherwise. A URI that ends in #sha256=DIGEST must have
// that content.
//
// What a URI with cache asks for comes from the [Cache], which fetches it once.
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
	"crypto/sha256"
	"encoding/hex"
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
	// ErrDigest is wrapped when the content is not what #sha256= says.
	ErrDigest = errors.New("wrong digest")
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
	// Cache keeps what is fetched; nil: nothing is kept.
	Cache *Cache
	// HadoopHome is where Hadoop is installed (`--hadoop_home`); empty: the environment
	// variable HADOOP_HOME says it, or PATH.
	HadoopHome string
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
			job := job{f: f, root: root, sandbox: req.Sandbox, who: who, uri: uri, log: req.Log}
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
	source, _, err := cutDigest(uri.GetValue())
	if err != nil {
		return err
	}
	if _, err := basename(source); err != nil {
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
	f       *Fetcher
	root    *os.Root
	sandbox string
	who     identity
	uri     *mesos.CommandInfo_URI
	log     io.Writer
	// source is the URI without its digest, which is digest; empty: any content will do.
	source, digest string
	// name is where it goes in the sandbox.
	name string
	mode os.FileMode
}

func (j *job) logf(format string, args ...any) {
	if j.log != nil {
		fmt.Fprintf(j.log, "fetcher: "+format+"\n", args...)
	}
}

func (j *job) run(ctx context.Context) error {
	if err := j.prepare(); err != nil {
		return err
	}
	j.logf("fetching '%s' into the sandbox", j.source)
	if j.uri.GetCache() && j.f.opts.Cache != nil {
		if done, err := j.runCached(ctx); done || err != nil {
			return err
		}
	}
	c, err := j.open(ctx, "")
	if err != nil {
		return err
	}
	return j.take(ctx, c)
}

// take brings content into the sandbox that does not come from the cache.
func (j *job) take(ctx context.Context, c *content) error {
	defer c.Close()
	if err := j.write(j.name, j.mode, c); err != nil {
		return causeOf(c.ctx, err)
	}
	if j.uri.GetExecutable() || !j.uri.GetExtract() {
		return nil
	}
	in, err := j.root.Open(j.name)
	if err != nil {
		return err
	}
	defer in.Close()
	_, err = j.extract(ctx, in, j.name)
	return err
}

// prepare reads the URI.
func (j *job) prepare() error {
	var err error
	if j.source, j.digest, err = cutDigest(strings.TrimLeft(j.uri.GetValue(), " \t\r\n")); err != nil {
		return err
	}
	if j.name, err = basename(j.source); err != nil {
		return err
	}
	j.mode = 0o644
	if j.uri.GetExecutable() {
		j.mode = 0o755
	}
	if j.uri.OutputFile == nil {
		return nil
	}
	j.name = filepath.Clean(j.uri.GetOutputFile())
	if dir := filepath.Dir(j.name); dir != "." {
		if err := j.root.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("create directory for '%s': %w", j.name, err)
		}
	}
	return nil
}

// digestMark separates a URI from the digest of its content.
const digestMark = "#sha256="

// cutDigest takes the digest off a URI. Any other fragment belongs to it.
func cutDigest(uri string) (source, digest string, err error) {
	source, digest, ok := strings.Cut(uri, digestMark)
	if !ok {
		return uri, "", nil
	}
	digest = strings.ToLower(digest)
	if b, err := hex.DecodeString(digest); err != nil || len(b) != sha256.Size {
		return "", "", fmt.Errorf("%w: what follows %s is no SHA-256 in hexadecimal digits", ErrInvalidURI, digestMark)
	}
	return source, digest, nil
}

// write creates name anew and fills it from r. The digest is checked on the way; the
// file is removed when it is another.
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
	err = j.fill(file, r)
	if err == nil {
		// The mode at creation is subject to the umask.
		err = file.Chmod(mode)
	}
	err = errors.Join(err, file.Close())
	if errors.Is(err, ErrDigest) {
		err = errors.Join(err, j.root.Remove(name))
	}
	return err
}

// fill writes what r has, within the limit, and checks its digest.
func (j *job) fill(file *os.File, r io.Reader) error {
	limited := &io.LimitedReader{R: r, N: j.f.opts.MaxBytes + 1}
	var err error
	if j.digest == "" {
		_, err = file.ReadFrom(limited) // the kernel may copy
	} else {
		_, _, err = j.copySummed(file, limited)
	}
	if err == nil && limited.N == 0 {
		return fmt.Errorf("%w: more than %d bytes", ErrTooLarge, j.f.opts.MaxBytes)
	}
	return err
}

// copySummed copies and checks the digest.
func (j *job) copySummed(w io.Writer, r io.Reader) (n int64, digest string, err error) {
	sum := sha256.New()
	if n, err = io.Copy(io.MultiWriter(w, sum), r); err != nil {
		return n, "", err
	}
	digest = hex.EncodeToString(sum.Sum(nil))
	if j.digest != "" && digest != j.digest {
		err = fmt.Errorf("%w: the SHA-256 is %s, not %s", ErrDigest, digest, j.digest)
	}
	return n, digest, err
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

// causeOf names the reason when err came of the end of the context.
func causeOf(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); err != nil && cause != nil && !errors.Is(err, cause) {
		return fmt.Errorf("%w (%w)", cause, err)
	}
	return err
}
