package supervisor

import (
	"io"
	"syscall"
)

// errCanceled says that a compression was given up.
const errCanceled = syscall.ECANCELED

// gzipTo compresses in to out in the gzip format (RFC 1951 and 1952) until it is told
// not to. Package compress/gzip would do better and brings reflect and a tenth of a
// millisecond along for every container, most of which never compress anything.
func gzipTo(out io.Writer, in io.Reader, cancel <-chan struct{}) error {
	d := &deflater{out: out}
	d.b = append(d.b, 0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255)
	table := crcTable()
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
			crc = table[byte(crc)^c] ^ crc>>8
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
	deflateBlock   = 64 << 10
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
}

// block compresses the n bytes from d.start on.
func (d *deflater) block(n int, final bool) error {
	d.find(d.start + n)
	d.litLen[endOfBlock]++
	litBits, distBits := codeLengths(d.litLen[:]), codeLengths(d.dist[:])
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
	for _, bits := range [...][]uint8{litBits, distBits} {
		for _, l := range bits {
			d.bits(reverse(uint32(l), 4), 4)
		}
	}
	d.write(litBits, distBits)
	clear(d.litLen[:])
	clear(d.dist[:])
	d.slide(d.start + n)
	if len(d.b) >= deflateBlock/2 {
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
func (d *deflater) write(litBits, distBits []uint8) {
	litCodes, distCodes := codes(litBits), codes(distBits)
	for _, t := range d.tokens {
		if t < 256 {
			d.bits(litCodes[t], uint(litBits[t]))
			continue
		}
		code, extra, n := lengthCode(int(t >> 16))
		d.bits(litCodes[code], uint(litBits[code]))
		d.bits(extra, n)
		code, extra, n = distanceCode(int(t & 0xffff))
		d.bits(distCodes[code], uint(distBits[code]))
		d.bits(extra, n)
	}
	d.bits(litCodes[endOfBlock], uint(litBits[endOfBlock]))
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

// codeLengths gives every symbol the length of its Huffman code, of at most
// maxCodeBits. At least two symbols get one: some readers want a whole code.
func codeLengths(counts []uint32) []uint8 {
	type node struct {
		count       uint32
		left, right int // -1: a symbol, which is in left
	}
	lengths := make([]uint8, len(counts))
	for {
		var nodes []node
		var open []int // roots, by falling count
		for s, n := range counts {
			if n > 0 || s < 2 {
				nodes = append(nodes, node{max(n, 1), s, -1})
			}
		}
		for i := range nodes {
			open = append(open, i)
		}
		insertion := func(i int) {
			j := len(open)
			open = append(open, i)
			for ; j > 0 && nodes[open[j-1]].count < nodes[i].count; j-- {
				open[j] = open[j-1]
			}
			open[j] = i
		}
		unsorted := open
		open = nil
		for _, i := range unsorted {
			insertion(i)
		}
		for len(open) > 1 {
			a, b := open[len(open)-1], open[len(open)-2]
			open = open[:len(open)-2]
			nodes = append(nodes, node{nodes[a].count + nodes[b].count, a, b})
			insertion(len(nodes) - 1)
		}
		// Nodes come after their children: depths from the root down.
		depth := make([]uint8, len(nodes))
		longest := uint8(0)
		for i := len(nodes) - 1; i >= 0; i-- {
			n := nodes[i]
			if n.right < 0 {
				lengths[n.left] = depth[i]
				longest = max(longest, depth[i])
				continue
			}
			depth[n.left], depth[n.right] = depth[i]+1, depth[i]+1
		}
		if longest <= maxCodeBits {
			return lengths
		}
		// Flatter counts make shorter codes.
		for i, n := range counts {
			if n > 0 {
				counts[i] = n/2 + 1
			}
		}
	}
}

// codes gives the codes of given lengths, their bits in the order in which they are
// written.
func codes(lengths []uint8) []uint32 {
	out := make([]uint32, len(lengths))
	var count, next [maxCodeBits + 1]uint32
	for _, l := range lengths {
		count[l]++
	}
	count[0] = 0
	code := uint32(0)
	for bits := 1; bits <= maxCodeBits; bits++ {
		code = (code + count[bits-1]) << 1
		next[bits] = code
	}
	for s, l := range lengths {
		if l > 0 {
			out[s] = reverse(next[l], uint(l))
			next[l]++
		}
	}
	return out
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
