package registry

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"os"
)

// logTree walks the pages of a log file. bbolt trusts them: a page that was made
// to point to itself keeps it busy until the memory is full, and one that says it
// has fewer elements than it has loses the others. What is checked holds for every
// file that bbolt writes (go.etcd.io/bbolt/internal/common/page.go): a page knows
// its number, its elements come right after its head, their data after them, and
// keys ascend.
type logTree struct {
	f     io.ReaderAt
	size  uint64 // of a page
	pages uint64 // in use
	seen  map[uint64]bool
}

const (
	pageHead    = 16 // id 8, flags 2, count 2, overflow 4
	elementHead = 16
	branchPage  = 1
	leafPage    = 2
	bucketFlag  = 1
	bucketHead  = 16 // root 8, sequence 8
)

func checkTree(f *os.File, pageSize, pages, root uint64) error {
	t := &logTree{f: f, size: pageSize, pages: pages, seen: map[uint64]bool{}}
	return t.walk(root)
}

func (t *logTree) bad(id uint64, what string) error {
	return fmt.Errorf("%w: page %d: %s", ErrCorrupt, id, what)
}

// walk checks a page and those below it.
func (t *logTree) walk(id uint64) error {
	if id < 2 || id >= t.pages {
		return t.bad(id, "there is no such page")
	}
	if t.seen[id] {
		return t.bad(id, "it is in two places")
	}
	t.seen[id] = true
	page := make([]byte, t.size)
	if _, err := t.f.ReadAt(page, int64(id*t.size)); err != nil {
		return t.bad(id, err.Error())
	}
	if got := binary.NativeEndian.Uint64(page); got != id {
		return t.bad(id, fmt.Sprintf("it says that it is page %d", got))
	}
	if more := uint64(binary.NativeEndian.Uint32(page[12:])); more > 0 {
		if more >= t.pages-id {
			return t.bad(id, "it is longer than the file")
		}
		page = make([]byte, t.size*(1+more))
		if _, err := t.f.ReadAt(page, int64(id*t.size)); err != nil {
			return t.bad(id, err.Error())
		}
	}
	return t.elements(id, page)
}

// elements checks what is in a page, or in a bucket that is small enough to be in
// the page of its parent.
func (t *logTree) elements(id uint64, page []byte) error {
	flags, count := binary.NativeEndian.Uint16(page[8:]), int(binary.NativeEndian.Uint16(page[10:]))
	if flags != branchPage && flags != leafPage {
		return t.bad(id, fmt.Sprintf("it is of kind %#x", flags))
	}
	next := pageHead + count*elementHead // where the data of the next element begins
	if next > len(page) {
		return t.bad(id, "it has more elements than it can hold")
	}
	var last []byte
	for i := range count {
		at := pageHead + i*elementHead
		e := page[at : at+elementHead]
		pos, ksize, vsize := binary.NativeEndian.Uint32(e), binary.NativeEndian.Uint32(e[4:]), uint32(0)
		if flags == leafPage {
			pos, ksize, vsize = binary.NativeEndian.Uint32(e[4:]), binary.NativeEndian.Uint32(e[8:]), binary.NativeEndian.Uint32(e[12:])
		}
		begin := uint64(at) + uint64(pos)
		end := begin + uint64(ksize) + uint64(vsize)
		if begin != uint64(next) || end > uint64(len(page)) {
			return t.bad(id, fmt.Sprintf("element %d is not where it should be", i))
		}
		key := page[begin : begin+uint64(ksize)]
		if i > 0 && bytes.Compare(last, key) >= 0 {
			return t.bad(id, fmt.Sprintf("the keys of elements %d and %d are not in order", i-1, i))
		}
		last, next = key, int(end)
		if err := t.below(id, flags, e, page[begin+uint64(ksize):end]); err != nil {
			return err
		}
	}
	return nil
}

// below checks what an element leads to.
func (t *logTree) below(id uint64, flags uint16, e, value []byte) error {
	if flags == branchPage {
		return t.walk(binary.NativeEndian.Uint64(e[8:]))
	}
	switch binary.NativeEndian.Uint32(e) {
	case 0:
		return nil
	case bucketFlag:
		if len(value) < bucketHead {
			return t.bad(id, "a bucket is cut")
		}
		if root := binary.NativeEndian.Uint64(value); root != 0 {
			return t.walk(root)
		}
		if len(value) < bucketHead+pageHead {
			return t.bad(id, "a bucket is cut")
		}
		return t.elements(id, value[bucketHead:])
	}
	return t.bad(id, "an element is of no known kind")
}
