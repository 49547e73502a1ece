package images

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/rs/zerolog"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	mesos "clusterd/api/mesos/v1"
	"clusterd/isolation"
)

// pull is one image on its way; those who want the same wait for it together.
type pull struct {
	done   chan struct{}
	cancel context.CancelFunc
	// waiters is guarded by the store's mu; when the last one leaves, the pull ends.
	waiters int
	record  *Record
	err     error
}

// get returns an image, pulled if need be, and pinned until release is called.
func (s *Store) get(ctx context.Context, want *mesos.Image) (*Record, func(), error) {
	if want.GetType() != mesos.Image_DOCKER {
		return nil, nil, fmt.Errorf("image of type %v: %w", want.GetType(), ErrUnsupported)
	}
	ref, err := parseReference(want.GetDocker().GetName())
	if err != nil {
		return nil, nil, err
	}
	s.mu.Lock()
	if r := s.images[ref.key()]; r != nil && want.GetCached() && s.complete(r) {
		s.pinLocked(r.pinned()...)
		s.mu.Unlock()
		return r, s.releaser(r), nil
	}
	s.mu.Unlock()
	auth, who, err := s.authFor(ctx, ref, want.GetDocker())
	if err != nil {
		return nil, nil, err
	}
	key := ref.key() + " " + who
	p, err := s.join(ref, key, auth)
	if err != nil {
		return nil, nil, err
	}
	select {
	case <-p.done:
	case <-ctx.Done():
		s.leave(key, p)
		return nil, nil, context.Cause(ctx)
	}
	if p.err != nil {
		return nil, nil, fmt.Errorf("pull image %s: %w", ref, p.err)
	}
	return p.record, s.releaser(p.record), nil
}

func (s *Store) releaser(r *Record) func() {
	return sync.OnceFunc(func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.unpinLocked(r.pinned()...)
	})
}

// authFor finds the credentials for an image: those it brings, else the agent's.
// Who tells apart whom it is pulled for without giving away a secret.
func (s *Store) authFor(ctx context.Context, ref reference, d *mesos.Image_Docker) (auth authn.Authenticator, who string, err error) {
	host := ref.registry
	if host == "" {
		host = registryHost(s.o.Registry)
	}
	config := s.o.Config
	switch {
	case d.GetConfig() != nil:
		secret, err := s.o.Secret(ctx, d.GetConfig())
		if err != nil {
			return nil, "", fmt.Errorf("docker config of image %s: %w", ref, err)
		}
		config = string(secret)
	case d.GetCredential() != nil:
		c := d.GetCredential()
		sum := sha256.Sum256([]byte(c.GetPrincipal() + "\x00" + c.GetSecret()))
		return &authn.Basic{Username: c.GetPrincipal(), Password: c.GetSecret()}, hex.EncodeToString(sum[:]), nil
	}
	credentials, err := parseCredentials(config)
	if err != nil {
		return nil, "", err
	}
	sum := sha256.Sum256([]byte(config))
	return credentials.For(host), hex.EncodeToString(sum[:]), nil
}

// join takes part in a pull, which starts if there is none.
func (s *Store) join(ref reference, key string, auth authn.Authenticator) (*pull, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, isolation.ErrClosed
	}
	if p := s.pulls[key]; p != nil {
		p.waiters++
		return p, nil
	}
	ctx, cancel := context.WithCancel(context.Background())
	p := &pull{done: make(chan struct{}), cancel: cancel, waiters: 1}
	s.pulls[key] = p
	s.wg.Go(func() {
		defer cancel()
		start := time.Now()
		record, pinned, err := s.pull(ctx, ref, auth)
		if s.o.Pulled != nil {
			s.o.Pulled(time.Since(start), err)
		}
		level := zerolog.InfoLevel
		if err != nil {
			level = zerolog.WarnLevel
		}
		s.log.WithLevel(level).Err(err).Str("image", ref.String()).Dur("took", time.Since(start)).Msg("pull image")
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.pulls[key] == p {
			delete(s.pulls, key)
		}
		if err == nil {
			for range p.waiters {
				s.pinLocked(record.pinned()...)
			}
		}
		s.unpinLocked(pinned...)
		p.record, p.err = record, err
		close(p.done)
	})
	return p, nil
}

// leave goes without the image. The last one to leave ends the pull.
func (s *Store) leave(key string, p *pull) {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-p.done: // it was pinned for us
		if p.err == nil {
			s.unpinLocked(p.record.pinned()...)
		}
		return
	default:
	}
	if p.waiters--; p.waiters == 0 {
		p.cancel()
		if s.pulls[key] == p {
			delete(s.pulls, key)
		}
	}
}

// pull brings an image into the store. Pinned are the layers that it has pinned.
func (s *Store) pull(ctx context.Context, ref reference, auth authn.Authenticator) (r *Record, pinned []string, err error) {
	staging, err := os.MkdirTemp(s.path(stagingDir), "pull-")
	if err != nil {
		return nil, nil, err
	}
	defer func() { s.sweep([]string{staging}) }()
	img, closer, err := s.find(ctx, ref, auth, staging)
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = closer.Close() }()
	var total int64
	for _, l := range img.layers {
		total += max(l.size, 0)
	}
	if total > s.o.Limits.ImageBytes || total < 0 {
		return nil, nil, fmt.Errorf("%w: %d bytes", ErrTooLarge, total)
	}
	names, fresh, err := s.fetchLayers(ctx, img, staging)
	for _, n := range names {
		if n != "" {
			pinned = append(pinned, n)
		}
	}
	if err != nil {
		return nil, pinned, err
	}
	r = &Record{Name: ref.key(), Digest: img.configDigest, Layers: s.visible(uppermost(names)), Pulled: time.Now().UTC()}
	c := &img.config.Config
	r.Config = isolation.ImageConfig{
		Env: c.Env, Entrypoint: c.Entrypoint, Cmd: c.Cmd, WorkingDir: c.WorkingDir, User: c.User, Labels: c.Labels,
		Credentials: credentialsOf(s.layerDirs(r.Layers), c.User),
	}
	if err := s.save(r); err != nil {
		return nil, pinned, err
	}
	s.syncLater(fresh)
	return r, pinned, nil
}

// uppermost keeps of layers that are there more than once the last: it has the same
// to say as the others, and overlayfs takes none twice.
func uppermost(names []string) []string {
	var kept []string
	for i, n := range names {
		if !slices.Contains(names[i+1:], n) {
			kept = append(kept, n)
		}
	}
	return kept
}

// visible leaves out the layers below one that hides all of them: overlayfs shows
// what is in the root directories of all layers.
func (s *Store) visible(names []string) []string {
	for i := len(names) - 1; i > 0; i-- {
		fd, err := unix.Open(s.layerDir(names[i]), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			continue // the mount will say so
		}
		opaque := isOpaque(fd)
		_ = unix.Close(fd)
		if opaque {
			return names[i:]
		}
	}
	return names
}

// find finds out what an image consists of.
func (s *Store) find(ctx context.Context, ref reference, auth authn.Authenticator, staging string) (*image, io.Closer, error) {
	if strings.HasPrefix(s.o.Registry, "/") && ref.registry == "" {
		return openLocal(ctx, &s.o, ref, staging)
	}
	if strings.HasPrefix(s.o.Registry, "/") {
		// What is in the folder goes before a registry (Mesos looks nowhere else).
		img, closer, err := openLocal(ctx, &s.o, ref, staging)
		if !errors.Is(err, ErrNotFound) {
			return img, closer, err
		}
	}
	repo, err := s.openRepository(ctx, ref, auth)
	if err != nil {
		return nil, nil, err
	}
	img, err := resolve(ctx, &s.o, repo, ref.version())
	return img, io.NopCloser(nil), err
}

// fetchLayers brings all layers of an image into the store, several at a time, and
// returns their names, "" where one failed, and which of them are new.
func (s *Store) fetchLayers(ctx context.Context, img *image, staging string) (names, fresh []string, err error) {
	f := &fetch{
		s: s, img: img, staging: staging, budget: newBudget(s.o.Limits),
		names: make([]string, len(img.layers)), ready: make([]chan struct{}, len(img.layers)), fresh: make([]bool, len(img.layers)),
	}
	chain := ""
	for i, l := range img.layers {
		f.ready[i] = make(chan struct{})
		if i == 0 {
			chain = l.diffID
		} else {
			chain = digestOf([]byte(chain + " " + l.diffID))
		}
		f.chains = append(f.chains, chain)
	}
	group, ctx := errgroup.WithContext(ctx)
	for i := range img.layers {
		group.Go(func() error {
			if err := f.layer(ctx, i); err != nil {
				return fmt.Errorf("layer %s: %w", img.layers[i].diffID, err)
			}
			close(f.ready[i])
			return nil
		})
	}
	err = group.Wait()
	for i, n := range f.names {
		if f.fresh[i] {
			fresh = append(fresh, n)
		}
	}
	return f.names, fresh, err
}

// fetch is the fetching of one image's layers.
type fetch struct {
	s       *Store
	img     *image
	staging string
	budget  *budget
	chains  []string
	// names and fresh of a layer are set before its ready is closed.
	names []string
	fresh []bool
	ready []chan struct{}
}

func hexOf(digest string) string {
	_, h, _ := strings.Cut(digest, ":")
	return h
}

// layer makes sure that a layer is in the store, and pins it.
func (f *fetch) layer(ctx context.Context, i int) error {
	s, diffID, chain := f.s, f.img.layers[i].diffID, f.chains[i]
	for {
		s.mu.Lock()
		for _, name := range []string{hexOf(diffID), chained(chain)} {
			if s.has(name) {
				s.pinLocked(name)
				s.mu.Unlock()
				f.names[i] = name
				return nil
			}
		}
		// By the chain: a layer may have to wait for those below it, and in this order
		// nobody waits in a circle.
		busy, ok := s.unpacking[chain]
		if !ok {
			busy = make(chan struct{})
			s.unpacking[chain] = busy
			s.mu.Unlock()
			err := f.bring(ctx, i)
			s.mu.Lock()
			defer s.mu.Unlock()
			delete(s.unpacking, chain)
			close(busy)
			return err
		}
		s.mu.Unlock()
		select { // another image has it as well
		case <-busy:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func chained(chain string) string { return "chain-" + hexOf(chain) }

// bring downloads, unpacks and installs a layer.
func (f *fetch) bring(ctx context.Context, i int) error {
	staged := filepath.Join(f.staging, fmt.Sprint(i))
	depends, err := f.unpack(ctx, i, staged)
	if err != nil {
		return err
	}
	name := hexOf(f.img.layers[i].diffID)
	if depends.any() {
		for _, ready := range f.ready[:i] {
			select {
			case <-ready:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
		if err := depends.adjust(filepath.Join(staged, rootfsName), f.s.layerDirs(f.names[:i])); err != nil {
			return err
		}
		name = chained(f.chains[i])
	}
	if err := f.s.install(staged, name); err != nil {
		return err
	}
	f.names[i], f.fresh[i] = name, true
	return nil
}

// unpack downloads a layer and unpacks it meanwhile. When what comes is broken it
// tries once more from the beginning.
func (f *fetch) unpack(ctx context.Context, i int, staged string) (*dependence, error) {
	select {
	case f.s.slots <- struct{}{}:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	defer func() { <-f.s.slots }()
	for attempt := 1; ; attempt++ {
		rootfs := filepath.Join(staged, rootfsName)
		if err := os.MkdirAll(rootfs, 0o755); err != nil {
			return nil, err
		}
		if err := os.Chmod(rootfs, 0o755); err != nil { // whatever the umask
			return nil, err
		}
		depends, err := f.stream(ctx, &f.img.layers[i], rootfs)
		if err == nil || attempt == 2 || ctx.Err() != nil || !broken(err) {
			return depends, err
		}
		f.s.log.Warn().Err(err).Str("layer", f.img.layers[i].diffID).Msg("fetch a layer again")
		if err := removeAll(staged); err != nil {
			return nil, err
		}
	}
}

// broken says whether a layer may be whole the next time.
func broken(err error) bool {
	var status *statusError
	return !errors.Is(err, ErrUnsafe) && !errors.Is(err, ErrTooLarge) && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.ENOSPC) && !errors.As(err, &status)
}

// stream unpacks a layer while it comes, and checks both of its digests.
func (f *fetch) stream(ctx context.Context, l *layer, rootfs string) (*dependence, error) {
	blob, err := l.open(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { _ = blob.Close() }()
	packed := newDigester(interruptible{ctx, blob})
	coming := readAhead(packed)
	defer func() { _ = blob.Close(); _ = coming.Close() }()
	content, packedAtAll, err := decompress(coming)
	if err != nil {
		return nil, err
	}
	defer func() { _ = content.Close() }()
	// What is not compressed needs to be hashed once only.
	plain, ready := packed, io.Reader(content)
	if packedAtAll {
		// Hashed by who writes: the one who decompresses has more to do.
		decompressed := readAhead(content)
		defer func() { _ = blob.Close(); _ = decompressed.Close() }()
		plain = newDigester(decompressed)
		ready = plain
	}
	depends, err := unpack(ready, rootfs, f.budget)
	if err != nil {
		return nil, err
	}
	// Digests are of all there is, also of what follows the end of the archive.
	if err := drain(ready, f.budget); err != nil {
		return nil, err
	}
	if err := drain(coming, f.budget); err != nil {
		return nil, err
	}
	if l.digest != "" {
		if err := packed.check(l.digest); err != nil {
			return nil, err
		}
	}
	return depends, plain.check(l.diffID)
}

// drain reads the rest, as far as the budget goes.
func drain(r io.Reader, b *budget) error {
	buf := make([]byte, 32<<10)
	for {
		n, err := r.Read(buf)
		if b.bytes.Add(int64(-n)) < 0 {
			return fmt.Errorf("%w: too many bytes", ErrTooLarge)
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}
