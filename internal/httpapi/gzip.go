package httpapi

import (
	"bytes"
	"compress/flate"
	"encoding/binary"
	"hash/crc32"
	"net/http"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
)

// gzipChunk is how much is compressed at a time: by any goroutine, for the chunks of a
// body do not refer to each other.
const gzipChunk = 512 << 10

var flateWriters = sync.Pool{New: func() any {
	z, _ := flate.NewWriter(nil, flate.BestSpeed)
	return z
}}

// Gzips says whether an answer of that size is compressed for who asks.
func Gzips(r *http.Request, size int) bool { return size >= GzipMinimum && acceptsGzip(r.Header) }

// Gzip compresses a body in pieces into one gzip member, on all processors. A hundred
// megabytes of state take a second on one: it lets others run every few milliseconds.
func Gzip(parts ...[]byte) [][]byte {
	var chunks [][]byte
	sum, size := uint32(0), uint32(0)
	for _, p := range parts {
		size += uint32(len(p)) //nolint:gosec // modulo 2^32 by RFC 1952
		for c := range slices.Chunk(p, gzipChunk) {
			chunks = append(chunks, c)
		}
	}
	// Small pieces go together, for each chunk costs a few bytes and forgets what came
	// before.
	groups := gather(chunks)
	out := make([][]byte, len(groups)+2)
	out[0] = []byte{0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 4, 255} // deflate, no name or time, fastest
	var next atomic.Int64
	work := func() {
		z := flateWriters.Get().(*flate.Writer)
		defer flateWriters.Put(z)
		for {
			i := int(next.Add(1)) - 1
			if i >= len(groups) {
				return
			}
			out[i+1] = deflate(z, groups[i], i == len(groups)-1)
			runtime.Gosched()
		}
	}
	var wg sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), len(groups)) - 1 {
		wg.Go(work)
	}
	for _, p := range parts {
		sum = crc32.Update(sum, crc32.IEEETable, p)
	}
	work()
	wg.Wait()
	tail := binary.LittleEndian.AppendUint32(nil, sum)
	out[len(out)-1] = binary.LittleEndian.AppendUint32(tail, size)
	return out
}

// gather puts neighbours together up to the size of a chunk. There is at least one group.
func gather(chunks [][]byte) [][][]byte {
	groups := [][][]byte{nil}
	size := 0
	for _, c := range chunks {
		if last := len(groups) - 1; size+len(c) <= gzipChunk || size == 0 {
			groups[last] = append(groups[last], c)
			size += len(c)
			continue
		}
		groups = append(groups, [][]byte{c})
		size = len(c)
	}
	return groups
}

// deflate compresses one group; only the last ends the stream, the others end on a byte.
func deflate(z *flate.Writer, group [][]byte, last bool) []byte {
	var buf bytes.Buffer
	z.Reset(&buf)
	for _, p := range group {
		_, _ = z.Write(p) // to memory: cannot fail
	}
	if last {
		_ = z.Close()
	} else {
		_ = z.Flush()
	}
	return buf.Bytes()
}

// WriteGzipped answers 200 with a body that [Gzip] has made.
func WriteGzipped(w http.ResponseWriter, r *http.Request, contentType string, parts ...[]byte) {
	h := w.Header()
	h.Set("Content-Type", contentType)
	h.Set("Content-Encoding", "gzip")
	h.Add("Vary", "Accept-Encoding")
	size := 0
	for _, p := range parts {
		size += len(p)
	}
	h.Set("Content-Length", strconv.Itoa(size))
	w.WriteHeader(http.StatusOK)
	if r.Method != http.MethodHead {
		writeBody(w, parts...)
	}
}
