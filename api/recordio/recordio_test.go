package recordio

import (
	"bytes"
	"errors"
	"io"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"
)

// countWriter remembers each Write call.
type countWriter struct{ calls []string }

func (w *countWriter) Write(p []byte) (int, error) {
	w.calls = append(w.calls, string(p))
	return len(p), nil
}

func TestWriterOneCallPerRecord(t *testing.T) {
	var cw countWriter
	w := NewWriter(&cw)
	big := strings.Repeat("x", keepBuffer+10)
	for _, record := range []string{"hello", "", big, `{"type":"HEARTBEAT"}`} {
		if n, err := w.Write([]byte(record)); n != len(record) || err != nil {
			t.Fatalf("Write(%d bytes): got %d, %v", len(record), n, err)
		}
	}
	want := []string{"5\nhello", "0\n", "1048586\n" + big, "20\n" + `{"type":"HEARTBEAT"}`}
	if len(cw.calls) != len(want) {
		t.Fatalf("got %d calls of Write, want %d", len(cw.calls), len(want))
	}
	for i := range want {
		if cw.calls[i] != want[i] {
			t.Errorf("call %d: got %.40q, want %.40q", i, cw.calls[i], want[i])
		}
	}
}

func TestWriterError(t *testing.T) {
	r, pw := io.Pipe()
	r.Close()
	if n, err := NewWriter(pw).Write([]byte("x")); n != 0 || !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("got %d, %v, want 0, %v", n, err, io.ErrClosedPipe)
	}
}

func TestReader(t *testing.T) {
	tests := []struct {
		name    string
		in      string
		max     int
		records []string
		err     error
	}{
		{"empty", "", 0, nil, io.EOF},
		{"two", "5\nhello3\nyou", 0, []string{"hello", "you"}, io.EOF},
		{"empty record", "0\n1\na0\n", 0, []string{"", "a", ""}, io.EOF},
		{"leading zeros", "003\nabc", 0, []string{"abc"}, io.EOF},
		{"newlines inside", "3\n\n\n\n", 0, []string{"\n\n\n"}, io.EOF},
		{"cut in record", "5\nhel", 0, nil, io.ErrUnexpectedEOF},
		{"cut before record", "5\n", 0, nil, io.ErrUnexpectedEOF},
		{"cut in length", "12", 0, nil, io.ErrUnexpectedEOF},
		{"at the limit", "5\nhello", 5, []string{"hello"}, io.EOF},
		{"over the limit", "2\nab6\nhello!", 5, []string{"ab"}, ErrTooLarge},
		{"over the default limit", "268435457\n", 0, nil, ErrTooLarge},
		{"overflow", "99999999999999999999\n", 0, nil, ErrTooLarge},
		{"too many digits", "000000000000000000001\na", 0, nil, ErrMalformed},
		{"no digits", "\nabc", 0, nil, ErrMalformed},
		{"negative", "-1\nabc", 0, nil, ErrMalformed},
		{"space", " 1\na", 0, nil, ErrMalformed},
		{"carriage return", "1\r\na", 0, nil, ErrMalformed},
		{"html", "<html>", 0, nil, ErrMalformed},
	}
	for _, tt := range tests {
		for chunks, wrap := range map[string]func(io.Reader) io.Reader{
			"whole": func(r io.Reader) io.Reader { return r },
			"bytes": iotest.OneByteReader,
		} {
			t.Run(tt.name+"/"+chunks, func(t *testing.T) {
				r := NewReader(wrap(strings.NewReader(tt.in)), tt.max)
				for i, want := range tt.records {
					got, err := r.Next()
					if string(got) != want || err != nil {
						t.Fatalf("record %d: got %q, %v, want %q", i, got, err, want)
					}
				}
				for range 2 { // the error stays
					if got, err := r.Next(); !errors.Is(err, tt.err) {
						t.Errorf("got %q, %v, want error %v", got, err, tt.err)
					}
				}
			})
		}
	}
}

func TestReaderLargeRecord(t *testing.T) {
	record := bytes.Repeat([]byte("0123456789abcdef"), 300_000) // larger than any first allocation
	r := NewReader(iotest.HalfReader(bytes.NewReader(Append(nil, record))), 0)
	got, err := r.Next()
	if err != nil || !bytes.Equal(got, record) {
		t.Fatalf("got %d bytes, %v, want %d", len(got), err, len(record))
	}
}

// TestReaderBelievesNoLength checks that a large claim alone costs no memory.
func TestReaderBelievesNoLength(t *testing.T) {
	in := "268435456\nabc"
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if _, err := NewReader(strings.NewReader(in), 0).Next(); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Fatalf("got %v", err)
	}
	runtime.ReadMemStats(&after)
	allocated := after.TotalAlloc - before.TotalAlloc
	if allocated > 4<<20 {
		t.Errorf("got %d bytes allocated for a record of 3 bytes", allocated)
	}
}

func FuzzReader(f *testing.F) {
	for _, seed := range []string{"5\nhello", "0\n", "\n", "1", "99999999999999999999\n", "3\nabc3\nab"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		r := NewReader(bytes.NewReader(in), 1<<16)
		var again []byte
		for {
			record, err := r.Next()
			if err != nil {
				break
			}
			again = Append(again, record)
		}
		// What was read, written and read again is the same.
		first, second := NewReader(bytes.NewReader(in), 1<<16), NewReader(bytes.NewReader(again), 1<<16)
		for {
			got, err := second.Next()
			if err != nil {
				if !errors.Is(err, io.EOF) {
					t.Fatalf("own output: %v", err)
				}
				return
			}
			want, err := first.Next()
			if err != nil || !bytes.Equal(got, want) {
				t.Fatalf("got %q, want %q, %v", got, want, err)
			}
		}
	})
}
