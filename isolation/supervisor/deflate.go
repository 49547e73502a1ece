package supervisor

import (
	"io"
	"slices"
	"syscall"
)

// errCanceled says that a compression was given up.
const errCanceled = syscall.ECANCELED

// gzip compresses in to out in the gzip format (RFC 1951 and 1952) until it is told not
// to. Package compress/gzip would do better and brings reflect and a tenth of a
// millisecond along for every container, most of which never compress anything. All that
// is needed is in the deflater: what is used again makes no garbage, and so less memory.
func (d *deflater) gzip(out io.Writer, in io.Reader, cancel <-chan struct{}) error {
	d.out, d.start, d.acc, d.nbits = out, 0, 0, 0
	clear(d.heads[:])
	clear(d.litLen[:])
	clear(d.dist[:])
	d.b = append(d.b[:0], 0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255)
	if d.crc[1] == 0 {
		d.crc = *crcTable()
	}
	crc, size := ^uint32(0), uint32(0)
	for final := false; !final; {
		select {
		case <-cancel:
			return errCanceled
		default:
		}
		n, err := io.ReadFull(in, d.window[d.start:])
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			final = true
		} else if err != nil {
			return err
		}
		for _, c := range d.window[d.start : d.start+n] {
			crc = d.crc[byte(crc)^c] ^ crc>>8
		}
		size += uint32(n)
		if err := d.block(n, final); err != nil {
			return err
		}
	}
	d.flushBits()
	for _, v := range [...]uint32{^crc, size} {
		d.b = append(d.b, byte(v), byte(v>>8), byte(v>>16), byte(v>>24))
	}
	return d.flush()
}

func crcTable() *[256]uint32 {
	var t [256]uint32
	for i := range t {
		c := uint32(i)
		for range 8 {
			if c&1 == 1 {
				c = c>>1 ^ 0xedb88320
			} else {
				c >>= 1
			}
		}
		t[i] = c
	}
	return &t
}

const (
	deflateHistory = 32 << 10
	deflateBlock   = 32 << 10
	hashBits       = 15
	maxMatch       = 258
	maxCodeBits    = 15
	endOfBlock     = 256
	// lengthCodes and distanceCodes are how many of either alphabet there are.
	lengthCodes   = 286
	distanceCodes = 30
)

// deflater compresses block by block. The window holds the history of a block, and
// the block behind it.
type deflater struct {
	out   io.Writer
	b     []byte // bytes that wait for out
	acc   uint64 // bits that wait for b
	nbits uint

	window [deflateHistory + deflateBlock]byte
	start  int                                  // of the block, in window
	heads  [1 << hashBits]int32                 // last place of a hash, +1; of the window
	chain  [deflateHistory + deflateBlock]int32 // the place before it with the same hash, +1
	tokens []uint32                             // of one block: a literal, or length<<16 | distance
	litLen [lengthCodes]uint32                  // how often
	dist   [distanceCodes]uint32                // how often

	literals, distances huffman
	crc                 [256]uint32
}

// block compresses the n bytes from d.start on.
func (d *deflater) block(n int, final bool) error {
	d.find(d.start + n)
	d.litLen[endOfBlock]++
	d.literals.make(d.litLen[:])
	d.distances.make(d.dist[:])
	if final {
		d.bits(1, 1)
	} else {
		d.bits(0, 1)
	}
	d.bits(2, 2) // codes of its own
	d.bits(lengthCodes-257, 5)
	d.bits(distanceCodes-1, 5)
	// The lengths of the codes are written in a code of four bits each, 0 to 15.
	d.bits(19-4, 4)
	for _, symbol := range [19]int{16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15} {
		if symbol < 16 {
			d.bits(4, 3)
		} else {
			d.bits(0, 3)
		}
	}
	for _, lengths := range [...][]uint8{d.literals.lengths[:], d.distances.lengths[:distanceCodes]} {
		for _, l := range lengths {
			d.bits(reverse(uint32(l), 4), 4)
		}
	}
	d.write()
	d.slide(d.start + n)
	if len(d.b) >= 8<<10 {
		return d.flush()
	}
	return nil
}

// find looks for repetitions and notes what is to be written.
func (d *deflater) find(end int) {
	const depth = 16 // how many earlier places are looked at
	w := d.window[:end]
	d.tokens = d.tokens[:0]
	for i := d.start; i < end; {
		best, at := 0, 0
		if i+4 <= end {
			h := hash4(w[i:])
			candidate := int(d.heads[h]) - 1
			for range depth {
				if candidate < 0 || i-candidate > deflateHistory {
					break
				}
				if l := matchLength(w[candidate:], w[i:]); l > best {
					best, at = l, candidate
					if l == maxMatch {
						break
					}
				}
				candidate = int(d.chain[candidate]) - 1
			}
		}
		if best < 4 {
			d.tokens = append(d.tokens, uint32(w[i]))
			d.litLen[w[i]]++
			d.insert(w, i)
			i++
			continue
		}
		distance := i - at
		d.tokens = append(d.tokens, uint32(best)<<16|uint32(distance))
		code, _, _ := lengthCode(best)
		d.litLen[code]++
		code, _, _ = distanceCode(distance)
		d.dist[code]++
		for range best {
			d.insert(w, i)
			i++
		}
	}
}

func (d *deflater) insert(w []byte, i int) {
	if i+4 > len(w) {
		return
	}
	h := hash4(w[i:])
	d.chain[i] = d.heads[h]
	d.heads[h] = int32(i + 1)
}

func hash4(b []byte) uint32 {
	v := uint32(b[0]) | uint32(b[1])<<8 | uint32(b[2])<<16 | uint32(b[3])<<24
	return v * 2654435761 >> (32 - hashBits)
}

// matchLength says how many bytes a and b have in common at their beginnings, which
// may overlap.
func matchLength(a, b []byte) int {
	n := min(len(b), maxMatch)
	for i := range n {
		if a[i] != b[i] {
			return i
		}
	}
	return n
}

// slide keeps the last bytes of the window as the history of the next block.
func (d *deflater) slide(end int) {
	if end <= deflateHistory {
		d.start = end
		return
	}
	by := end - deflateHistory
	copy(d.window[:], d.window[by:end])
	d.start = deflateHistory
	for i := range d.heads {
		d.heads[i] = max(0, d.heads[i]-int32(by))
	}
	for i := range deflateHistory {
		d.chain[i] = max(0, d.chain[i+by]-int32(by))
	}
}

// write writes the tokens.
func (d *deflater) write() {
	put := func(h *huffman, symbol int) { d.bits(h.codes[symbol], uint(h.lengths[symbol])) }
	for _, t := range d.tokens {
		if t < 256 {
			put(&d.literals, int(t))
			continue
		}
		code, extra, n := lengthCode(int(t >> 16))
		put(&d.literals, code)
		d.bits(extra, n)
		code, extra, n = distanceCode(int(t & 0xffff))
		put(&d.distances, code)
		d.bits(extra, n)
	}
	put(&d.literals, endOfBlock)
}

// lengthCode gives the code of a length, and the bits after it.
func lengthCode(length int) (code int, extra uint32, bits uint) {
	if length == maxMatch {
		return 285, 0, 0
	}
	v := uint32(length - 3)
	for v>>bits >= 8 {
		bits++
	}
	if v < 8 {
		return 257 + int(v), 0, 0
	}
	return 257 + int(4*bits) + int(v>>bits), v & (1<<bits - 1), bits
}

// distanceCode gives the code of a distance, and the bits after it.
func distanceCode(distance int) (code int, extra uint32, bits uint) {
	v := uint32(distance - 1)
	for v>>bits >= 4 {
		bits++
	}
	if v < 4 {
		return int(v), 0, 0
	}
	return int(2*bits) + int(v>>bits), v & (1<<bits - 1), bits
}

// huffman makes the codes of an alphabet of up to lengthCodes symbols.
type huffman struct {
	lengths [lengthCodes]uint8
	codes   [lengthCodes]uint32
	nodes   [2 * lengthCodes]huffmanNode
	open    [lengthCodes]int // roots, by falling count
}

type huffmanNode struct {
	count       uint32
	left, right int // right is -1 for a symbol, which is in left
	depth       uint8
}

// make gives every symbol a code of at most maxCodeBits, by how often it comes, and
// forgets how often. At least two symbols get one: some readers want a whole code.
func (h *huffman) make(counts []uint32) {
	for !h.tree(counts) {
		// Flatter counts make shorter codes.
		for i, n := range counts {
			if n > 0 {
				counts[i] = n/2 + 1
			}
		}
	}
	clear(counts)
	var count, next [maxCodeBits + 1]uint32
	for _, l := range h.lengths {
		count[l]++
	}
	count[0] = 0
	code := uint32(0)
	for bits := 1; bits <= maxCodeBits; bits++ {
		code = (code + count[bits-1]) << 1
		next[bits] = code
	}
	for s, l := range h.lengths {
		if l > 0 {
			h.codes[s] = reverse(next[l], uint(l))
			next[l]++
		}
	}
}

// tree finds the lengths of codes. It says no when one is too long.
func (h *huffman) tree(counts []uint32) bool {
	nodes, open := h.nodes[:0], h.open[:0]
	insert := func(i int) {
		open = append(open, i)
		j := len(open) - 1
		for ; j > 0 && nodes[open[j-1]].count < nodes[i].count; j-- {
			open[j] = open[j-1]
		}
		open[j] = i
	}
	for s, n := range counts {
		if n > 0 || s < 2 {
			nodes = append(nodes, huffmanNode{count: max(n, 1), left: s, right: -1})
			insert(len(nodes) - 1)
		}
	}
	for len(open) > 1 {
		a, b := open[len(open)-1], open[len(open)-2]
		open = open[:len(open)-2]
		nodes = append(nodes, huffmanNode{count: nodes[a].count + nodes[b].count, left: a, right: b})
		insert(len(nodes) - 1)
	}
	// Nodes come after their children: depths from the root down.
	clear(h.lengths[:])
	for _, n := range slices.Backward(nodes) {
		switch {
		case n.right >= 0:
			nodes[n.left].depth, nodes[n.right].depth = n.depth+1, n.depth+1
		case n.depth > maxCodeBits:
			return false
		default:
			h.lengths[n.left] = n.depth
		}
	}
	return true
}

func reverse(v uint32, bits uint) uint32 {
	var r uint32
	for range bits {
		r = r<<1 | v&1
		v >>= 1
	}
	return r
}

func (d *deflater) bits(v uint32, n uint) {
	d.acc |= uint64(v) << d.nbits
	d.nbits += n
	for d.nbits >= 8 {
		d.b = append(d.b, byte(d.acc))
		d.acc >>= 8
		d.nbits -= 8
	}
}

func (d *deflater) flushBits() {
	if d.nbits > 0 {
		d.b = append(d.b, byte(d.acc))
		d.acc, d.nbits = 0, 0
	}
}

func (d *deflater) flush() error {
	_, err := d.out.Write(d.b)
	d.b = d.b[:0]
	return err
}
