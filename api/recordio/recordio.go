// Package recordio frames the records of Mesos's event streams: the length of
// the record in decimal digits, a newline, the bytes of the record (stout's
// recordio.hpp). It exists because every SUBSCRIBE response, and the body of
// ATTACH_CONTAINER_INPUT, is such a stream.
//
// [Writer] and [Reader] are for one goroutine each; they start none. Imported
// by the HTTP fronts of master and agent, by api/client and by the command line.
package recordio

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
)

// DefaultMaxSize is the largest record that a [Reader] takes unless told
// otherwise: 256 MiB. A GET_STATE snapshot of a large cluster, the first event
// of an operator's stream, stays well below it.
const DefaultMaxSize = 256 << 20

// maxDigits is how long the decimal form of a length may be.
const maxDigits = 20

// ErrTooLarge is returned by a [Reader] for a record longer than its limit.
var ErrTooLarge = errors.New("recordio: record too large")

// ErrMalformed is returned by a [Reader] for a length that is not a number.
var ErrMalformed = errors.New("recordio: malformed record length")

// Append appends record with its frame to dst.
func Append(dst, record []byte) []byte {
	dst = strconv.AppendInt(dst, int64(len(record)), 10)
	dst = append(dst, '\n')
	return append(dst, record...)
}

// Writer writes records to a stream, each with exactly one call of Write: with
// net/http underneath, flushed after each record, one record is one HTTP chunk,
// on which simple clients rely.
type Writer struct {
	w   io.Writer
	buf []byte
}

// keepBuffer is the largest buffer that a Writer keeps between records.
const keepBuffer = 1 << 20

// NewWriter returns a Writer on w.
func NewWriter(w io.Writer) *Writer {
	return &Writer{w: w}
}

// Write writes one record. It implements io.Writer: on success it returns the
// length of the record, without the frame, otherwise 0.
func (w *Writer) Write(record []byte) (int, error) {
	w.buf = Append(w.buf[:0], record)
	_, err := w.w.Write(w.buf)
	if cap(w.buf) > keepBuffer {
		w.buf = nil
	}
	if err != nil {
		return 0, err
	}
	return len(record), nil
}

// Reader reads records from a stream.
type Reader struct {
	r   *bufio.Reader
	max int
	err error
}

// NewReader returns a Reader on r that refuses records longer than
// maxSize bytes; zero means [DefaultMaxSize].
func NewReader(r io.Reader, maxSize int) *Reader {
	if maxSize <= 0 {
		maxSize = DefaultMaxSize
	}
	return &Reader{r: bufio.NewReader(r), max: maxSize}
}

// Next returns the next record in a new slice. At the end of the stream the
// error is io.EOF when it ends between records and io.ErrUnexpectedEOF
// when it ends within one. After an error every call returns that error: the
// place where the next record begins is not known any more.
func (r *Reader) Next() ([]byte, error) {
	if r.err != nil {
		return nil, r.err
	}
	record, err := r.next()
	r.err = err
	return record, err
}

func (r *Reader) next() ([]byte, error) {
	size, err := r.length()
	if err != nil {
		return nil, err
	}
	// The length is a claim of the other side: memory is taken as bytes come.
	const step = 1 << 20
	record := make([]byte, 0, min(size, step))
	for len(record) < size {
		if len(record) == cap(record) {
			record = append(record, make([]byte, min(size-len(record), len(record)))...)[:len(record)]
		}
		n, err := io.ReadFull(r.r, record[len(record):min(size, cap(record))])
		record = record[:len(record)+n]
		if err != nil {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return nil, err
		}
	}
	return record, nil
}

// length reads the digits before a record.
func (r *Reader) length() (int, error) {
	size := 0
	for digits := 0; ; digits++ {
		c, err := r.r.ReadByte()
		if err != nil {
			if digits > 0 && errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return 0, err
		}
		switch {
		case c == '\n' && digits > 0:
			if size > r.max {
				return 0, fmt.Errorf("%w: %d bytes, the limit is %d", ErrTooLarge, size, r.max)
			}
			return size, nil
		case c < '0' || c > '9':
			return 0, fmt.Errorf("%w: byte %q", ErrMalformed, c)
		case digits == maxDigits:
			return 0, fmt.Errorf("%w: more than %d digits", ErrMalformed, maxDigits)
		}
		if digit := int(c - '0'); size > (math.MaxInt-digit)/10 {
			size = math.MaxInt // too large in any case, but read on: it may be malformed
		} else {
			size = size*10 + digit
		}
	}
}
