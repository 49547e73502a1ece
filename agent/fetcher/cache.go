package fetcher

import (
	"container/list"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"sync"
)

// Cache keeps what was fetched, so that the next task that asks for the same URI as the
// same user does not fetch it again (src/slave/containerizer/fetcher.cpp). What was used
// longest ago makes room for what comes. A cache begins empty: nobody knows what
// happened to its files meanwhile.
//
// All methods are safe for concurrent use.
type Cache struct {
	dir      string
	capacity int64

	mu sync.Mutex
	// What follows is guarded by mu.
	files map[cacheKey]*cacheFile
	// used are the bytes of all files that are on the disk or announced; idle are those
	// files nobody reads, the one used longest ago first.
	used   int64
	idle   list.List
	serial int
}

// cacheKey tells what may be shared: Mesos keeps users apart, who may not read each
// other's files.
type cacheKey struct{ user, uri string }

// cacheFile is one file.
type cacheFile struct {
	key  cacheKey
	path string
	// ready is closed when the file is there, or will not be.
	ready chan struct{}

	// What follows is guarded by the cache's mu.
	ok        bool
	size      int64
	validator string
	digest    string
	readers   int
	// stale says that the key stands for another file by now.
	stale bool
	place *list.Element
}

// NewCache makes an empty cache of a directory, which belongs to it alone, for so many
// bytes.
func NewCache(dir string, capacity int64) (*Cache, error) {
	if err := errors.Join(os.RemoveAll(dir), os.MkdirAll(dir, 0o700)); err != nil {
		return nil, fmt.Errorf("fetcher cache: %w", err)
	}
	return &Cache{dir: dir, capacity: capacity, files: map[cacheKey]*cacheFile{}}, nil
}

// Size says how many bytes the cache may hold, and holds or has promised.
func (c *Cache) Size() (capacity, used int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.capacity, c.used
}

// get returns the file of a key for reading, and waits for it when somebody brings it
// in right now. When there is none, the caller is to bring it: mine says so.
func (c *Cache) get(ctx context.Context, key cacheKey) (f *cacheFile, mine bool, err error) {
	for {
		c.mu.Lock()
		f, ok := c.files[key]
		if !ok {
			f = c.add(key)
			c.mu.Unlock()
			return f, true, nil
		}
		c.hold(f)
		c.mu.Unlock()
		select {
		case <-f.ready:
		case <-ctx.Done():
			c.release(f)
			return nil, false, context.Cause(ctx)
		}
		c.mu.Lock()
		good := f.ok
		c.mu.Unlock()
		if good {
			return f, false, nil
		}
		c.release(f) // whoever brought it failed; perhaps only for itself
	}
}

// add makes a file that its reader is to bring. The caller holds mu.
func (c *Cache) add(key cacheKey) *cacheFile {
	c.serial++
	f := &cacheFile{key: key, path: filepath.Join(c.dir, "c"+strconv.Itoa(c.serial)), ready: make(chan struct{}), readers: 1}
	c.files[key] = f
	return f
}

// replace makes a new file in the place of one whose URI has changed; readers of the old
// one go on. It says no when somebody else has done so.
func (c *Cache) replace(old *cacheFile) (*cacheFile, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.files[old.key] != old {
		return nil, false
	}
	old.stale = true
	return c.add(old.key), true
}

// reserve makes room for a file. It says no when what is in use leaves too little.
func (c *Cache) reserve(f *cacheFile, size int64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if size > c.capacity {
		return false
	}
	// Not before it is known that it helps.
	free := c.capacity - c.used
	for e := c.idle.Front(); e != nil && free < size; e = e.Next() {
		free += e.Value.(*cacheFile).size //nolint:forcetypeassert // nothing else is in the list
	}
	if free < size {
		return false
	}
	for c.capacity-c.used < size {
		c.remove(c.idle.Front().Value.(*cacheFile)) //nolint:forcetypeassert // as above
	}
	f.size = size
	c.used += size
	return true
}

// finish says that a file is there, or that it will not be.
func (c *Cache) finish(f *cacheFile, ok bool, validator, digest string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f.ok, f.validator, f.digest = ok, validator, digest
	if !ok {
		f.stale = true
		if c.files[f.key] == f {
			delete(c.files, f.key)
		}
	}
	close(f.ready)
}

// hold keeps a file from being removed. The caller holds mu.
func (c *Cache) hold(f *cacheFile) {
	f.readers++
	if f.place != nil {
		c.idle.Remove(f.place)
		f.place = nil
	}
}

// release undoes get.
func (c *Cache) release(f *cacheFile) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if f.readers--; f.readers > 0 {
		return
	}
	if f.stale {
		c.remove(f)
		return
	}
	f.place = c.idle.PushBack(f)
}

// remove deletes a file that nobody reads. The caller holds mu.
func (c *Cache) remove(f *cacheFile) {
	if f.place != nil {
		c.idle.Remove(f.place)
		f.place = nil
	}
	if c.files[f.key] == f {
		delete(c.files, f.key)
	}
	c.used -= f.size
	f.size = 0
	// Whoever lets go of it last may act as a task's user.
	_ = asAgent(func() error { return os.Remove(f.path) })
}

// runCached fetches by way of the cache. Done is false when the cache cannot have it:
// then nothing was fetched.
func (j *job) runCached(ctx context.Context) (done bool, err error) {
	cache := j.f.opts.Cache
	f, mine, err := cache.get(ctx, cacheKey{j.who.name, j.source})
	if err != nil {
		return false, err
	}
	defer func() { cache.release(f) }()
	if !mine {
		fresh, c, err := j.fresh(ctx, f)
		if err != nil {
			return false, err
		}
		if fresh {
			j.logf("'%s' is in the cache", j.source)
			return true, j.takeCached(ctx, f)
		}
		next, ok := cache.replace(f)
		if !ok {
			return true, j.take(ctx, c)
		}
		cache.release(f)
		f = next
		return j.bring(ctx, f, c)
	}
	c, err := j.open(ctx, "")
	if err != nil {
		cache.finish(f, false, "", "")
		return false, err
	}
	return j.bring(ctx, f, c)
}

// fresh says whether a file still is what its URI stands for; if not, c is what it
// stands for now. A file with the digest that is asked for needs no asking, and one
// whose origin is away is better than none.
func (j *job) fresh(ctx context.Context, f *cacheFile) (fresh bool, c *content, err error) {
	cache := j.f.opts.Cache
	cache.mu.Lock()
	validator, digest := f.validator, f.digest
	cache.mu.Unlock()
	if j.digest != "" && j.digest == digest {
		return true, nil, nil
	}
	if validator == "" && j.digest == "" {
		return true, nil, nil // as Mesos, which never asks
	}
	c, err = j.open(ctx, validator)
	switch {
	case err != nil && (ctx.Err() != nil || j.digest != ""):
		return false, nil, err
	case err != nil:
		j.logf("cannot ask whether '%s' has changed (%v): what is in the cache is taken", j.source, err)
		return true, nil, nil
	case c.unchanged:
		c.Close()
		// Asked for by a digest, it must have that one; what is unchanged has not.
		if j.digest != "" && digest != "" {
			return false, nil, fmt.Errorf("%w: the SHA-256 is %s, not %s", ErrDigest, digest, j.digest)
		}
		return true, nil, nil
	}
	return false, c, nil
}

// bring fills a file of the cache and goes on from there; or leaves the cache alone
// when the file does not fit.
func (j *job) bring(ctx context.Context, f *cacheFile, c *content) (done bool, err error) {
	cache := j.f.opts.Cache
	if c.size < 0 || !cache.reserve(f, c.size) {
		cache.finish(f, false, "", "")
		j.logf("'%s' goes past the cache: its size is not known, or there is no room", j.source)
		return true, j.take(ctx, c)
	}
	digest, err := j.store(f, c)
	c.Close()
	cache.finish(f, err == nil, c.validator, digest)
	if err != nil {
		return false, causeOf(c.ctx, err)
	}
	return true, j.takeCached(ctx, f)
}

// store writes content into the cache. The reading is done with the user's rights, for
// which it is called; the file is the agent's.
func (j *job) store(f *cacheFile, c *content) (digest string, err error) {
	var file *os.File
	if err := asAgent(func() (err error) {
		file, err = os.OpenFile(f.path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		return err
	}); err != nil {
		return "", fmt.Errorf("fetcher cache: %w", err)
	}
	// One byte more than was announced is an error, as is one less.
	n, digest, err := j.copySummed(file, io.LimitReader(c, c.size+1))
	if err == nil && n != c.size {
		err = fmt.Errorf("%d bytes were announced and %d came: %w", c.size, n, io.ErrUnexpectedEOF)
	}
	return digest, errors.Join(err, file.Close())
}

// takeCached brings a file from the cache into the sandbox: the contents of an archive
// only, as in Mesos.
func (j *job) takeCached(ctx context.Context, f *cacheFile) error {
	var in *os.File
	if err := asAgent(func() (err error) {
		in, err = os.Open(f.path)
		return err
	}); err != nil {
		return fmt.Errorf("fetcher cache: %w", err)
	}
	defer in.Close()
	if !j.uri.GetExecutable() && j.uri.GetExtract() {
		if archive, err := j.extract(ctx, in, j.name); archive || err != nil {
			return err
		}
	}
	j.digest = "" // it was checked when it came
	return j.write(j.name, j.mode, in)
}
