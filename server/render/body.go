package render

import (
	"runtime"
	"slices"
	"sync"
	"sync/atomic"

	"google.golang.org/protobuf/encoding/protowire"
)

// Body is an answer in pieces, to be sent one after the other: joining the pieces
// of a large one would cost as much as writing them did.
type Body [][]byte

// Len is the length of the whole.
func (b Body) Len() int {
	n := 0
	for _, p := range b {
		n += len(p)
	}
	return n
}

// Bytes joins the pieces.
func (b Body) Bytes() []byte {
	if len(b) == 1 {
		return b[0]
	}
	return slices.Concat(b...)
}

// Release gives the memory of a body back, for other bodies. Nobody may look at the
// body after that. It need not be called: what is not given back is collected.
func (b Body) Release() {
	for i, p := range b {
		if cap(p) == pieceSize {
			pieces.Put((*[pieceSize]byte)(p[:pieceSize]))
		}
		b[i] = nil
	}
}

const (
	// pieceSize is the memory of a piece. New memory must be cleared and mapped,
	// which for a hundred megabytes takes as long as writing them: pieces are used
	// again and again.
	pieceSize = 256 << 10
	// pieceRoom is what is left of a piece when the next one is begun.
	pieceRoom = 8 << 10
	// blockWeight is the number of elements that one goroutine writes at a time.
	blockWeight = 512
	// yieldEvery is after how many elements who writes lets others run: frameworks
	// shall not wait for their offers because somebody looks at the state.
	yieldEvery = 32
)

var pieces = sync.Pool{New: func() any { return new([pieceSize]byte) }}

// sink takes the bytes of a body.
type sink struct {
	buf  []byte
	done Body
}

// roll begins another piece when the present one is nearly full.
func (s *sink) roll() {
	if cap(s.buf)-len(s.buf) >= pieceRoom {
		return
	}
	if len(s.buf) > 0 {
		s.done = append(s.done, s.buf)
	}
	s.buf = pieces.Get().(*[pieceSize]byte)[:0]
}

// end returns what was written. What does not need a piece of its own goes into
// memory of its size.
func (s *sink) end() Body {
	switch {
	case len(s.buf) == 0:
	case len(s.buf) < pieceSize/8 && cap(s.buf) == pieceSize:
		s.done = append(s.done, slices.Clone(s.buf))
		pieces.Put((*[pieceSize]byte)(s.buf[:pieceSize]))
	default:
		s.done = append(s.done, s.buf)
	}
	s.buf = nil
	return s.done
}

// plan is the work of writing a body: steps in the order of what they write. They are
// gathered to blocks of about the same weight, which any goroutine may carry out.
type plan struct {
	blocks []*block
	weight int
}

type block struct {
	steps []func(*sink)
	body  Body
}

// do adds a step of about so many elements.
func (p *plan) do(weight int, step func(*sink)) {
	if len(p.blocks) == 0 || p.weight+weight > blockWeight {
		p.blocks = append(p.blocks, new(block))
		p.weight = 0
	}
	p.weight += weight
	b := p.blocks[len(p.blocks)-1]
	b.steps = append(b.steps, step)
}

// text adds what is the same in all bodies.
func (p *plan) text(s string) {
	p.do(0, func(to *sink) { to.buf = append(to.buf, s...) })
}

// object adds what is written as members of an object that is open already.
func (p *plan) object(weight int, write func(*object)) {
	p.do(weight, func(to *sink) {
		o := object{buf: to.buf}
		write(&o)
		to.buf = o.buf
	})
}

// list adds the elements of a JSON list, with the commas between them.
func list[T any](p *plan, elems []T, write func([]byte, T) []byte) {
	run(p, elems, func(dst []byte, first bool, e T) []byte {
		if !first {
			dst = append(dst, ',')
		}
		return write(dst, e)
	})
}

// fields adds the elements of a repeated field of a protobuf message.
func fields[T any](p *plan, number protowire.Number, elems []T, write func([]byte, T) []byte) {
	run(p, elems, func(dst []byte, _ bool, e T) []byte {
		return protoMessage(dst, number, func(dst []byte) []byte { return write(dst, e) })
	})
}

// run adds elements, in as many blocks as it takes.
func run[T any](p *plan, elems []T, write func(dst []byte, first bool, e T) []byte) {
	for from := 0; from < len(elems); {
		n := min(blockWeight-p.weight, len(elems)-from)
		if n <= 0 {
			n = min(blockWeight, len(elems)-from)
		}
		first, part := from == 0, elems[from:from+n]
		from += n
		p.do(n, func(to *sink) {
			for i, e := range part {
				to.roll()
				to.buf = write(to.buf, first && i == 0, e)
				if i%yieldEvery == yieldEvery-1 {
					runtime.Gosched()
				}
			}
		})
	}
}

// write carries the plan out and returns the body.
func (p *plan) write() Body {
	var next atomic.Int64
	work := func() {
		for {
			i := int(next.Add(1)) - 1
			if i >= len(p.blocks) {
				return
			}
			b := p.blocks[i]
			var to sink
			for _, step := range b.steps {
				to.roll()
				step(&to)
			}
			b.body, b.steps = to.end(), nil
			runtime.Gosched()
		}
	}
	var wg sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), len(p.blocks)) - 1 {
		wg.Go(work)
	}
	work()
	wg.Wait()
	if len(p.blocks) == 1 {
		return p.blocks[0].body
	}
	var body Body
	for _, b := range p.blocks {
		body = append(body, b.body...)
	}
	return body
}
