package events

import (
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

// TestEndsBetweenRecords: a stream that is closed while it writes ends properly unless a
// record is cut.
func TestEndsBetweenRecords(t *testing.T) {
	const record, end = "5\r\nhello\r\n", "0\r\n\r\n"
	late := func(c *conn) { // the deadline passes when the write has been given its time
		c.deadline = time.Now().Add(c.timeout)
		_ = c.w.SetWriteDeadline(time.Now().Add(-time.Second))
	}
	for _, test := range []struct {
		name   string
		inside bool
		stop   func(*conn)
		want   string
	}{
		{"before the write", false, (*conn).interrupt, record + end},
		{"in the write", false, late, record + end},
		{"before the rest of a record", true, (*conn).interrupt, record},
		{"in the rest of a record", true, late, record},
	} {
		t.Run(test.name, func(t *testing.T) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			client, err := net.Dial("tcp", l.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer client.Close()
			server, err := l.Accept()
			if err != nil {
				t.Fatal(err)
			}
			c := &conn{w: server, chunked: true, timeout: time.Hour}
			if err := c.write([]byte(record)); err != nil {
				t.Fatal(err)
			}
			c.inside = test.inside
			test.stop(c)
			if err := c.write([]byte(record)); !slow(err) {
				t.Errorf("got %v", err)
			}
			c.close(ErrOldest)
			_ = client.SetReadDeadline(time.Now().Add(patience))
			if got, err := io.ReadAll(client); err != nil || string(got) != test.want {
				t.Errorf("got %q, %v, want %q", strings.TrimSpace(string(got)), err, test.want)
			}
		})
	}
}
