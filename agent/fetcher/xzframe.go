package fetcher

import (
	"bufio"
	"errors"
	"fmt"
	"io"
)

// maxXZDictionary is the largest dictionary we decode with; `xz -9` needs 64
// MB. The format allows 4 GB, which a file of a few bytes can ask for.
const maxXZDictionary = 256 << 20

var errXZFrame = errors.New("xz: damaged framing")

// checkXZ walks the framing of an xz file without decompressing it and refuses
// dictionaries above [maxXZDictionary]. The library allocates what a block's
// header asks for, so every header must be seen before it is used. Anything
// the walk does not understand is refused too. (https://tukaani.org/xz/xz-file-format.txt)
func checkXZ(in io.Reader) error {
	x := xzWalk{r: bufio.NewReaderSize(in, 64<<10)}
	for first := true; ; first = false {
		head, err := x.r.Peek(12)
		if !first && len(head) == 0 && errors.Is(err, io.EOF) {
			return nil
		}
		if !first && len(head) >= 4 && string(head[:4]) == "\x00\x00\x00\x00" {
			x.skip(4) // padding between streams
			continue
		}
		if err != nil || string(head[:6]) != "\xfd7zXZ\x00" {
			return errXZFrame
		}
		check := xzCheckSize(head[7] & 0x0f)
		x.skip(12)
		if err := x.stream(check); err != nil {
			return err
		}
	}
}

// xzCheckSize is the size of the integrity check behind each block.
func xzCheckSize(id byte) int64 {
	if id == 0 {
		return 0
	}
	return int64(4) << ((id - 1) / 3)
}

// xzWalk reads bytes and remembers the first failure.
type xzWalk struct {
	r   *bufio.Reader
	pos int64
	err error
}

func (x *xzWalk) byte() byte {
	if x.err != nil {
		return 0
	}
	b, err := x.r.ReadByte()
	if err != nil {
		x.err = errXZFrame
	}
	x.pos++
	return b
}

func (x *xzWalk) skip(n int64) {
	for n > 0 && x.err == nil {
		step := int(min(n, 1<<30))
		if _, err := x.r.Discard(step); err != nil {
			x.err = errXZFrame
		}
		x.pos += int64(step)
		n -= int64(step)
	}
}

// vint reads a variable-length integer.
func (x *xzWalk) vint() (v uint64) {
	for shift := 0; shift < 63; shift += 7 {
		b := x.byte()
		v |= uint64(b&0x7f) << shift
		if b&0x80 == 0 {
			return v
		}
	}
	x.err = errXZFrame
	return 0
}

// stream walks blocks, index and footer.
func (x *xzWalk) stream(check int64) error {
	x.pos = 0
	for x.err == nil {
		size := x.byte()
		if size == 0 {
			return x.index()
		}
		if err := x.header(int64(size)*4 + 4); err != nil {
			return err
		}
		x.chunks()
		x.skip((4 - x.pos%4) % 4)
		x.skip(check)
	}
	return x.err
}

// header reads a block header of length bytes, the first of which is read.
func (x *xzWalk) header(length int64) error {
	end := x.pos - 1 + length
	flags := x.byte()
	if flags&0x40 != 0 {
		x.vint() // compressed size
	}
	if flags&0x80 != 0 {
		x.vint() // uncompressed size
	}
	filter, properties, dictionary := x.vint(), x.vint(), x.byte()
	if x.err != nil || flags&0x3f != 0 || filter != 0x21 || properties != 1 || dictionary > 40 || x.pos > end {
		return errXZFrame // more than one filter, or not LZMA2
	}
	size := uint64(1)<<32 - 1
	if dictionary < 40 {
		size = (2 | uint64(dictionary&1)) << (dictionary/2 + 11)
	}
	if size > maxXZDictionary {
		return fmt.Errorf("%w: xz dictionary of %d bytes", ErrTooLarge, size)
	}
	x.skip(end - x.pos)
	return x.err
}

// chunks walks the LZMA2 chunks of one block.
func (x *xzWalk) chunks() {
	for x.err == nil {
		control := x.byte()
		switch {
		case control == 0:
			return
		case control <= 2: // stored
			x.skip(int64(x.byte())<<8 + int64(x.byte()) + 1)
		case control >= 0x80:
			x.skip(2) // unpacked size
			packed := int64(x.byte())<<8 + int64(x.byte()) + 1
			if control >= 0xc0 {
				x.skip(1) // properties
			}
			x.skip(packed)
		default:
			x.err = errXZFrame
		}
	}
}

// index walks the index, whose first byte is read, and the stream's footer.
func (x *xzWalk) index() error {
	for records := x.vint(); records > 0 && x.err == nil; records-- {
		x.vint()
		x.vint()
	}
	x.skip((4 - x.pos%4) % 4)
	x.skip(4 + 12) // CRC and footer
	return x.err
}
