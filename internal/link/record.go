package link

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"
)

// Types of records.
const (
	recordMessage   = 1
	recordKeepalive = 2
	recordClose     = 3
)

const (
	// smallBuffer is what an idle link keeps to read into: most records of a
	// quiet cluster (pings, acknowledgements) fit.
	smallBuffer = 128
	// pooledBuffer is what a link borrows while more is coming in.
	pooledBuffer = 16 << 10
	// maxHeader is the type and the longest length.
	maxHeader = 1 + binary.MaxVarintLen64
)

var readBuffers = sync.Pool{New: func() any { return new([pooledBuffer]byte) }}

// recordReader cuts a byte stream into records. While the stream is idle it
// holds smallBuffer bytes; under load it borrows a larger buffer, and a record
// that does not fit gets one that grows with what has arrived, never with what
// a header announces.
type recordReader struct {
	src    io.Reader
	limit  int
	buf    []byte // what is in use: small, pooled or large
	r, w   int    // buf[r:w] is unread
	pooled *[pooledBuffer]byte
	small  [smallBuffer]byte
}

func (d *recordReader) init(src io.Reader, limit int, early []byte) {
	d.src, d.limit = src, limit
	d.buf = d.small[:]
	if len(early) > len(d.buf) {
		d.buf = make([]byte, len(early))
	}
	d.w = copy(d.buf, early)
}

// next returns the next record; its payload is valid until the call after. The
// error is io.EOF if the stream ended between records.
func (d *recordReader) next() (kind byte, payload []byte, err error) {
	if d.r == d.w {
		d.rest()
	}
	kind, size, head, err := d.header()
	if err != nil {
		return 0, nil, err
	}
	// Nothing is taken before all of it is there: the source may say that it has
	// nothing more for now.
	if err := d.fill(head + size); err != nil {
		return 0, nil, err
	}
	payload = d.buf[d.r+head : d.r+head+size]
	d.r += head + size
	return kind, payload, nil
}

// header reads a record's type and length and says how many bytes they took.
func (d *recordReader) header() (kind byte, size, head int, err error) {
	for need := 2; ; need++ {
		if err := d.fill(need); err != nil {
			if errors.Is(err, io.ErrUnexpectedEOF) && d.r == d.w {
				err = io.EOF
			}
			return 0, 0, 0, err
		}
		b := d.buf[d.r:d.w]
		kind = b[0]
		if kind < recordMessage || kind > recordClose {
			return 0, 0, 0, fmt.Errorf("%w: record of unknown type %d", ErrProtocol, kind)
		}
		n, k := binary.Uvarint(b[1:])
		switch {
		case k < 0 || (k == 0 && len(b) > maxHeader):
			return 0, 0, 0, fmt.Errorf("%w: length of a record does not end", ErrProtocol)
		case k == 0:
			need = max(need, len(b))
			continue
		case n > uint64(d.limit):
			return 0, 0, 0, fmt.Errorf("%w: %d bytes, the limit is %d", ErrTooLarge, n, d.limit)
		}
		return kind, int(n), 1 + k, nil
	}
}

// fill makes at least n unread bytes available at d.buf[d.r:].
func (d *recordReader) fill(n int) error {
	for d.w-d.r < n {
		d.room(n)
		k, err := d.src.Read(d.buf[d.w:])
		d.w += k
		if d.w-d.r >= n {
			return nil
		}
		if err == io.EOF {
			return io.ErrUnexpectedEOF
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// room makes space to read into after d.w when n bytes are wanted at d.r.
func (d *recordReader) room(n int) {
	if d.r+n <= len(d.buf) && d.w < len(d.buf) {
		return
	}
	have := d.w - d.r
	switch {
	case n <= len(d.buf) && have < len(d.buf):
		copy(d.buf, d.buf[d.r:d.w])
	case d.pooled == nil:
		d.pooled = readBuffers.Get().(*[pooledBuffer]byte)
		copy(d.pooled[:], d.buf[d.r:d.w])
		d.buf = d.pooled[:]
	default:
		large := make([]byte, min(max(n, maxHeader), max(2*len(d.buf), 2*have)))
		copy(large, d.buf[d.r:d.w])
		d.buf = large
	}
	d.r, d.w = 0, have
}

// rest gives back what was borrowed, once nothing is left unread.
func (d *recordReader) rest() {
	d.r, d.w = 0, 0
	d.buf = d.small[:]
	if d.pooled != nil {
		readBuffers.Put(d.pooled)
		d.pooled = nil
	}
}

// appendHeader appends a record's type and length.
func appendHeader(dst []byte, kind byte, size int) []byte {
	return binary.AppendUvarint(append(dst, kind), uint64(size))
}
