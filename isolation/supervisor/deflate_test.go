package supervisor

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
)

func gunzip(tb testing.TB, b []byte) []byte {
	tb.Helper()
	r, err := gzip.NewReader(bytes.NewReader(b))
	if err != nil {
		tb.Fatal(err)
	}
	out, err := io.ReadAll(r)
	if err != nil {
		tb.Fatal(err)
	}
	return out
}

// logText is like what programs write.
func logText(size int) []byte {
	r := rand.New(rand.NewPCG(1, 2))
	var b bytes.Buffer
	for i := 0; b.Len() < size; i++ {
		fmt.Fprintf(&b, "2026-11-23T04:%02d:%02d.%06dZ INFO request handled method=GET path=/v1/items/%d status=%d duration=%dus\n",
			i/60%60, i%60, r.IntN(1e6), r.IntN(5000), []int{200, 200, 200, 404, 500}[r.IntN(5)], r.IntN(90000))
	}
	return b.Bytes()[:size]
}

func TestGzip(t *testing.T) {
	noise := make([]byte, 300<<10)
	r := rand.New(rand.NewPCG(3, 4))
	for i := range noise {
		noise[i] = byte(r.Uint32())
	}
	// Symbols whose counts are the Fibonacci numbers have the longest codes there are.
	var fibonacci []byte
	for i, a, b := 0, 1, 1; i < 24; i, a, b = i+1, b, a+b {
		fibonacci = append(fibonacci, bytes.Repeat([]byte{byte(i)}, a)...)
	}
	r.Shuffle(len(fibonacci), func(i, j int) { fibonacci[i], fibonacci[j] = fibonacci[j], fibonacci[i] })
	d := &deflater{} // used again and again
	for name, c := range map[string]struct {
		in  []byte
		max int // of the result, in thousandths
	}{
		"empty":         {nil, 0},
		"one byte":      {[]byte("x"), 0},
		"zeros":         {make([]byte, 1<<20), 20},
		"line":          {[]byte(strings.Repeat("y\n", 200_000)), 20},
		"a log":         {logText(2 << 20), 260},
		"noise":         {noise, 1010},
		"long codes":    {fibonacci, 1010},
		"one block":     {logText(deflateHistory + deflateBlock), 1000},
		"a block and 1": {logText(deflateHistory + deflateBlock + 1), 1000},
	} {
		var out bytes.Buffer
		if err := d.gzip(&out, bytes.NewReader(c.in), nil); err != nil {
			t.Fatal(err)
		}
		if got := gunzip(t, out.Bytes()); !bytes.Equal(got, c.in) {
			t.Errorf("%s: %d bytes came back as others (%d)", name, len(c.in), len(got))
		}
		if c.max > 0 && out.Len() > len(c.in)*c.max/1000 {
			t.Errorf("%s: %d bytes became %d, want at most %d thousandths", name, len(c.in), out.Len(), c.max)
		}
	}
}

func TestGzipCanceled(t *testing.T) {
	d, cancel := &deflater{}, make(chan struct{})
	close(cancel)
	if err := d.gzip(io.Discard, bytes.NewReader(make([]byte, 1<<20)), cancel); !errors.Is(err, errCanceled) {
		t.Errorf("got %v, want %v", err, errCanceled)
	}
}

func FuzzGzip(f *testing.F) {
	f.Add([]byte("abcabcabcabc"), uint16(3))
	f.Add([]byte{0, 1, 2, 255}, uint16(9999))
	f.Fuzz(func(t *testing.T, in []byte, times uint16) {
		if len(in)*int(times) < 1<<20 {
			in = bytes.Repeat(in, int(times))
		}
		var out bytes.Buffer
		d := &deflater{}
		if err := d.gzip(&out, bytes.NewReader(in), nil); err != nil {
			t.Fatal(err)
		}
		if got := gunzip(t, out.Bytes()); !bytes.Equal(got, in) {
			t.Errorf("%d bytes came back as others (%d)", len(in), len(got))
		}
	})
}

func BenchmarkGzip(b *testing.B) {
	in := logText(10 << 20)
	b.SetBytes(int64(len(in)))
	var n int
	d := &deflater{}
	for b.Loop() {
		var out bytes.Buffer
		if err := d.gzip(&out, bytes.NewReader(in), nil); err != nil {
			b.Fatal(err)
		}
		n = out.Len()
	}
	var std bytes.Buffer
	w := gzip.NewWriter(&std)
	_, _ = w.Write(in)
	w.Close()
	b.ReportMetric(float64(n)/float64(len(in)), "ratio")
	b.ReportMetric(float64(std.Len())/float64(len(in)), "gzip6ratio")
}
