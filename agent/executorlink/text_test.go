package executorlink

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"math"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestParseDuration(t *testing.T) {
	for _, c := range []struct {
		in   string
		want time.Duration
		ok   bool
	}{
		{"15mins", 15 * time.Minute, true},
		{"1.5hrs", 90 * time.Minute, true},
		{"2secs", 2 * time.Second, true},
		{"0ns", 0, true},
		{"5days", 120 * time.Hour, true},
		{"1e3secs", 0, false},
		{"secs", 0, false},
		{"1", 0, false},
		{"1sec", 0, false},
		{"-1secs", 0, false},
		{"", 0, false},
		{"9999999999weeks", math.MaxInt64, true},
	} {
		got, err := ParseDuration(c.in)
		if got != c.want || (err == nil) != c.ok {
			t.Errorf("parse %q: got %v, %v, want %v", c.in, got, err, c.want)
		}
	}
}

func TestClampDuration(t *testing.T) {
	for _, c := range []struct {
		in   float64
		want time.Duration
	}{{math.NaN(), 0}, {-1, 0}, {math.Inf(1), math.MaxInt64}, {0.25, 250 * time.Millisecond}, {1e300, math.MaxInt64}} {
		if got := Seconds(c.in); got != c.want {
			t.Errorf("seconds(%v): got %v, want %v", c.in, got, c.want)
		}
	}
}

func TestDescribe(t *testing.T) {
	for ws, want := range map[syscall.WaitStatus]string{
		0:          "exited with status 0",
		255 << 8:   "exited with status 255",
		9:          "terminated with signal Killed",
		15:         "terminated with signal Terminated",
		11 | 0x80:  "terminated with signal Segmentation fault (core dumped)",
		34:         "terminated with signal Real-time signal 0",
		33:         "terminated with signal Unknown signal 33",
		0x7f | 0x9: "wait status 127",
	} {
		if got := Describe(ws); got != want {
			t.Errorf("describe(%d): got %q, want %q", ws, got, want)
		}
	}
}

func TestReadResponse(t *testing.T) {
	for _, c := range []struct {
		name, in   string
		status     int
		body       string
		close, bad bool
	}{
		{"length", "HTTP/1.1 202 Accepted\r\nContent-Length: 2\r\n\r\nabX", 202, "ab", false, false},
		{"chunks", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1;x\r\nc\r\n0\r\nT: v\r\n\r\n", 200, "abc", false, false},
		{"until the end", "HTTP/1.0 200 OK\r\n\r\nabc", 200, "abc", true, false},
		{"no body", "HTTP/1.1 204 No Content\r\n\r\n", 204, "", false, false},
		{"close", "HTTP/1.1 202 A\r\nConnection: Close\r\nContent-Length: 0\r\n\r\n", 202, "", true, false},
		{"not http", "SSH-2.0\r\n", 0, "", false, true},
		{"bad length", "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", 0, "", false, true},
		{"cut", "HTTP/1.1 200 OK\r\nContent-", 0, "", false, true},
		{"endless", "HTTP/1.1 200 " + strings.Repeat("x", maxLine+1) + "\r\n\r\n", 0, "", false, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			resp, err := ReadResponse(bufio.NewReader(strings.NewReader(c.in)))
			if (err != nil) != c.bad {
				t.Fatalf("error: got %v, want one: %v", err, c.bad)
			}
			if c.bad {
				return
			}
			body, err := io.ReadAll(resp.Body)
			if err != nil || resp.Status != c.status || string(body) != c.body || resp.Close != c.close {
				t.Errorf("got %d %q close=%v, %v", resp.Status, body, resp.Close, err)
			}
		})
	}
}

func TestReadRecord(t *testing.T) {
	r := bufio.NewReader(strings.NewReader("3\nabc0\n2\nde"))
	for _, want := range []string{"abc", "", "de"} {
		if got, err := ReadRecord(r); err != nil || string(got) != want {
			t.Errorf("record: got %q, %v, want %q", got, err, want)
		}
	}
	if _, err := ReadRecord(r); !errors.Is(err, io.EOF) {
		t.Errorf("end: got %v, want %v", err, io.EOF)
	}
	for _, bad := range []string{"x\n", "-1\n", "99999999999\n", "67108865\n", "5\nabc", "12", strings.Repeat("1", 9999)} {
		if b, err := ReadRecord(bufio.NewReaderSize(strings.NewReader(bad), 64)); err == nil || errors.Is(err, io.EOF) {
			t.Errorf("record %.20q: got %q, %v", bad, b, err)
		}
	}
}

func FuzzReadResponse(f *testing.F) {
	f.Add([]byte("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1;x\r\nc\r\n0\r\nT: v\r\n\r\n"))
	f.Add([]byte("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n3\nabc0\n2"))
	f.Fuzz(func(_ *testing.T, b []byte) {
		resp, err := ReadResponse(bufio.NewReader(bytes.NewReader(b)))
		if err != nil {
			return
		}
		r := bufio.NewReaderSize(resp.Body, 64)
		for {
			if _, err := ReadRecord(r); err != nil {
				return
			}
		}
	})
}
