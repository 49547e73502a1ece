package images

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"sync"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// maxWindow bounds the memory that a zstd stream may ask for. It is what the
// command line tool accepts without being told otherwise.
const maxWindow = 128 << 20

// decompress reads gzip, zstd or nothing of the kind, by the first bytes: the media
// types in manifests are not always right. It says whether there is anything to
// decompress.
func decompress(r io.Reader) (content io.ReadCloser, compressed bool, err error) {
	b := bufio.NewReaderSize(r, aheadSize)
	magic, err := b.Peek(4)
	if err != nil && err != io.EOF {
		return nil, false, err
	}
	switch {
	case bytes.HasPrefix(magic, []byte{0x1f, 0x8b}):
		z, err := gzip.NewReader(b)
		if err != nil {
			return nil, true, fmt.Errorf("gzip: %w", noEOF(err))
		}
		return z, true, nil
	case bytes.Equal(magic, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		z, err := zstd.NewReader(b, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxWindow))
		if err != nil {
			return nil, true, fmt.Errorf("zstd: %w", err)
		}
		return z.IOReadCloser(), true, nil
	}
	return io.NopCloser(b), false, nil
}

const (
	aheadSize  = 256 << 10
	aheadCount = 4
)

// ahead reads from another reader in a goroutine of its own, some buffers ahead, so
// that download, decompression and writing go on at the same time.
type ahead struct {
	full   chan []byte
	free   chan []byte
	done   chan struct{}
	once   sync.Once
	wg     sync.WaitGroup
	now    []byte // what is left of buf
	buf    []byte
	failed error // why full was closed; set before it is
}

func readAhead(r io.Reader) *ahead {
	a := &ahead{full: make(chan []byte, aheadCount), free: make(chan []byte, aheadCount), done: make(chan struct{})}
	for range aheadCount {
		a.free <- make([]byte, aheadSize)
	}
	a.wg.Go(func() {
		defer close(a.full)
		for {
			var buf []byte
			select {
			case buf = <-a.free:
			case <-a.done:
				return
			}
			n, err := io.ReadAtLeast(r, buf, len(buf)/2)
			if n > 0 {
				select {
				case a.full <- buf[:n]:
				case <-a.done:
					return
				}
			}
			if err == io.ErrUnexpectedEOF && n > 0 {
				continue
			}
			if err != nil {
				a.failed = err
				return
			}
		}
	})
	return a
}

// Read reads what was read ahead.
func (a *ahead) Read(p []byte) (int, error) {
	for len(a.now) == 0 {
		if a.buf != nil {
			a.free <- a.buf[:cap(a.buf)]
			a.buf = nil
		}
		b, ok := <-a.full
		if !ok {
			return 0, a.failed
		}
		a.now, a.buf = b, b
	}
	n := copy(p, a.now)
	a.now = a.now[n:]
	return n, nil
}

// Close waits for the goroutine, which is in a Read of the reader at most.
func (a *ahead) Close() error {
	a.once.Do(func() { close(a.done) })
	a.wg.Wait()
	return nil
}

// digester counts and hashes what is read.
type digester struct {
	r    io.Reader
	hash hash.Hash
	n    int64
}

func newDigester(r io.Reader) *digester { return &digester{r: r, hash: sha256.New()} }

// Read reads and hashes.
func (d *digester) Read(p []byte) (int, error) {
	n, err := d.r.Read(p)
	d.hash.Write(p[:n])
	d.n += int64(n)
	return n, err
}

// check compares with a digest.
func (d *digester) check(want string) error {
	if got := "sha256:" + hex.EncodeToString(d.hash.Sum(nil)); got != want {
		return fmt.Errorf("%w: got %s, want %s", ErrDigest, got, want)
	}
	return nil
}

func digestOf(b []byte) string {
	sum := sha256.Sum256(b)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// interruptible ends reading when a context does.
type interruptible struct {
	ctx context.Context //nolint:containedctx // of one call
	r   io.Reader
}

// Read reads unless the context is over.
func (i interruptible) Read(p []byte) (int, error) {
	if err := i.ctx.Err(); err != nil {
		return 0, err
	}
	return i.r.Read(p)
}
