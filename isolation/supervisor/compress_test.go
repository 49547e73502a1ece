package supervisor

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
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

func TestGzip(t *testing.T) {
	d := &deflater{} // used again and again
	for name, in := range map[string]string{
		"empty": "", "one byte": "x", "lines": strings.Repeat("y\n", 200_000), "a buffer": strings.Repeat("z", len(d.buffer)),
	} {
		var out bytes.Buffer
		if err := d.gzip(&out, strings.NewReader(in), nil); err != nil {
			t.Fatal(err)
		}
		if got := gunzip(t, out.Bytes()); string(got) != in {
			t.Errorf("%s: %d bytes came back as others (%d)", name, len(in), len(got))
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
