package link

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"sync"
	"testing"
	"testing/iotest"
	"time"
)

// childLinks makes the test binary an agent of many links, to an address, until
// its standard input ends.
const childLinks = "CLUSTERD_TEST_LINKS"

func child(addr string) {
	n, err := strconv.Atoi(os.Args[1])
	if err != nil {
		panic(err)
	}
	for range n {
		c, err := Dial(context.Background(), []string{addr}, DialOptions{})
		if err != nil {
			panic(err)
		}
		go func() { _ = drain(c) }()
	}
	_, _ = io.Copy(io.Discard, os.Stdin)
	os.Exit(0)
}

// BenchmarkIdleLinks reports what a link that has carried a few messages costs
// the master: heap and stacks, the agents being another process.
func BenchmarkIdleLinks(b *testing.B) {
	const links = 1000
	for b.Loop() {
		var open sync.WaitGroup
		open.Add(links)
		before := memory()
		addr := master(b, Options{}, func(c *MasterConn, _ *http.Request) {
			for range 10 {
				if err := c.Send(ack("a-task-with-some-name")); err != nil {
					b.Error(err)
				}
			}
			open.Done()
			_ = drain(c)
		})
		cmd := exec.Command(os.Args[0], strconv.Itoa(links))
		cmd.Env = append(os.Environ(), childLinks+"="+addr)
		cmd.Stderr = os.Stderr
		in, err := cmd.StdinPipe()
		if err != nil {
			b.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			b.Fatal(err)
		}
		open.Wait()
		time.Sleep(300 * time.Millisecond) // what opened the links winds down
		b.ReportMetric(float64(memory()-before)/links, "bytes/link")
		_ = in.Close() // ends the agents
		_ = cmd.Wait()
	}
}

func memory() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc + m.StackInuse
}

// BenchmarkSend measures messages through one link, one way.
func BenchmarkSend(b *testing.B) {
	for _, size := range []int{100, 10_000} {
		b.Run(fmt.Sprintf("%d bytes", size), func(b *testing.B) {
			total := 0
			done := make(chan struct{})
			addr := master(b, Options{}, func(c *MasterConn, _ *http.Request) {
				for range total {
					if _, err := c.Receive(); err != nil {
						b.Error(err)
						break
					}
				}
				close(done)
				_ = drain(c)
			})
			total = b.N
			c := dial(b, addr, Options{MaxQueueMessages: 1 << 30, MaxQueueBytes: 1 << 40})
			m := data(size)
			b.SetBytes(int64(size))
			b.ResetTimer()
			for range b.N {
				if err := c.Send(m); err != nil {
					b.Fatal(err)
				}
				for c.Queued() > 8<<20 {
					runtime.Gosched()
				}
			}
			<-done
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "messages/s")
		})
	}
}

// BenchmarkRoundTrip measures a message there and back.
func BenchmarkRoundTrip(b *testing.B) {
	addr := master(b, Options{}, func(c *MasterConn, _ *http.Request) {
		for {
			if _, err := c.Receive(); err != nil {
				return
			}
			_ = c.Send(ack("t"))
		}
	})
	c := dial(b, addr, Options{})
	m := data(100)
	for b.Loop() {
		if err := c.Send(m); err != nil {
			b.Fatal(err)
		}
		if _, err := c.Receive(); err != nil {
			b.Fatal(err)
		}
	}
}

// FuzzRecords: whatever comes in, in whatever pieces, the reader ends with an
// error, never holds much more than has arrived, and what it cuts out is what a
// simple reader of the whole would.
func FuzzRecords(f *testing.F) {
	big := append(appendHeader(nil, recordMessage, 40_000), make([]byte, 40_000)...)
	f.Add([]byte("\x01\x03abc\x02\x00\x03\x04done"))
	f.Add(append(append([]byte("\x02\x00"), big...), "\x01\x80\x01"+string(make([]byte, 128))...))
	f.Add([]byte("\x01\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"))
	const limit = 100_000
	f.Fuzz(func(t *testing.T, in []byte) {
		var want [][]byte
		var first error
		pieces := []io.Reader{bytes.NewReader(in), iotest.HalfReader(bytes.NewReader(in)), iotest.DataErrReader(bytes.NewReader(in))}
		if len(in) < 1000 {
			pieces = append(pieces, iotest.OneByteReader(bytes.NewReader(in)))
		}
		for i, src := range pieces {
			var d recordReader
			early := in[:0]
			d.init(src, limit, early)
			var got [][]byte
			used := 0
			for {
				kind, payload, err := d.next()
				if len(d.buf) > pooledBuffer+2*len(in)+maxHeader {
					t.Fatalf("holds %d bytes for an input of %d", len(d.buf), len(in))
				}
				if err != nil {
					if i == 0 {
						first, want = err, got
					} else if !sameError(err, first) {
						t.Errorf("reader %d: got %v, want %v", i, err, first)
					}
					break
				}
				if kind < recordMessage || kind > recordClose || len(payload) > limit {
					t.Fatalf("got a record of type %d, %d bytes", kind, len(payload))
				}
				used += 2 + len(payload)
				got = append(got, append([]byte{kind}, payload...))
			}
			if used > len(in) {
				t.Errorf("%d bytes from an input of %d", used, len(in))
			}
			if i > 0 && !equal(got, want) {
				t.Errorf("reader %d: got %d records, want %d", i, len(got), len(want))
			}
		}
	})
}

func equal(a, b [][]byte) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if !bytes.Equal(a[i], b[i]) {
			return false
		}
	}
	return true
}

func sameError(a, b error) bool {
	for _, e := range []error{ErrProtocol, ErrTooLarge, io.ErrUnexpectedEOF, io.EOF} {
		if errors.Is(a, e) != errors.Is(b, e) {
			return false
		}
	}
	return true
}

// TestEarlyBytes: what came with the request is the beginning of the stream.
func TestEarlyBytes(t *testing.T) {
	stream := append(appendHeader(nil, recordMessage, 5000), make([]byte, 5000)...)
	stream = append(stream, recordKeepalive, 0)
	for _, cut := range []int{0, 1, 2, 3, 100, 200, 4096, len(stream)} {
		var d recordReader
		d.init(bytes.NewReader(stream[cut:]), 1<<20, stream[:cut])
		for i, want := range []int{5000, 0} {
			if _, p, err := d.next(); err != nil || len(p) != want {
				t.Fatalf("cut at %d, record %d: got %d bytes, %v", cut, i, len(p), err)
			}
		}
		if _, _, err := d.next(); !errors.Is(err, io.EOF) {
			t.Fatalf("cut at %d: got %v, want the end", cut, err)
		}
	}
}
