package commandexecutor

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"strconv"
	"strings"
	"time"
)

// What a peer may send before it is taken for broken.
const (
	maxLine   = 64 << 10
	maxRecord = 64 << 20
)

var (
	errLine   = errors.New("malformed or oversized line")
	errRecord = errors.New("malformed or oversized record")
)

// response is the head of an HTTP/1.1 response; its body follows on body.
type response struct {
	status int
	// close says that the connection ends with this response.
	close    bool
	location string
	body     io.Reader
}

// readResponse reads the head of a response. net/http would do it, and take a
// good part of the time that this program has to start in.
func readResponse(r *bufio.Reader) (*response, error) {
	for {
		line, err := readLine(r)
		if err != nil {
			return nil, err
		}
		proto, rest, _ := strings.Cut(line, " ")
		code, _, _ := strings.Cut(rest, " ")
		status, err := strconv.Atoi(code)
		if !strings.HasPrefix(proto, "HTTP/1.") || err != nil || status < 100 || status > 999 {
			return nil, errLine
		}
		resp := &response{status: status, close: proto == "HTTP/1.0"}
		if err := readHeaders(r, resp); err != nil {
			return nil, err
		}
		if status >= 200 || status == 101 {
			return resp, nil
		}
	}
}

func readHeaders(r *bufio.Reader, resp *response) error {
	length, chunked := int64(-1), false
	for range 1000 {
		line, err := readLine(r)
		if err != nil {
			return err
		}
		if line == "" {
			switch {
			case chunked:
				resp.body = &chunkedReader{r: r}
			case length >= 0:
				resp.body = io.LimitReader(r, length)
			case resp.status == 204 || resp.status == 304 || resp.status < 200:
				resp.body = strings.NewReader("")
			default:
				resp.body, resp.close = r, true
			}
			return nil
		}
		name, value, _ := strings.Cut(line, ":")
		value = strings.TrimSpace(value)
		switch strings.ToLower(name) {
		case "content-length":
			if length, err = strconv.ParseInt(value, 10, 64); err != nil || length < 0 {
				return errLine
			}
		case "transfer-encoding":
			chunked = strings.EqualFold(value, "chunked")
		case "connection":
			resp.close = resp.close || strings.EqualFold(value, "close")
		case "location":
			resp.location = value
		}
	}
	return errLine
}

// readLine reads a line without its end.
func readLine(r *bufio.Reader) (string, error) {
	var line []byte
	for {
		part, err := r.ReadSlice('\n')
		line = append(line, part...)
		if len(line) > maxLine {
			return "", errLine
		}
		if errors.Is(err, bufio.ErrBufferFull) {
			continue
		}
		if err != nil {
			if errors.Is(err, io.EOF) && len(line) > 0 {
				err = io.ErrUnexpectedEOF
			}
			return "", err
		}
		return strings.TrimRight(string(line), "\r\n"), nil
	}
}

// chunkedReader reads a chunked body.
type chunkedReader struct {
	r    *bufio.Reader
	left int64
	open bool
	done bool
}

func (c *chunkedReader) Read(p []byte) (int, error) {
	for c.left == 0 {
		if c.done {
			return 0, io.EOF
		}
		if c.open { // the end of the chunk before
			if line, err := readLine(c.r); err != nil || line != "" {
				return 0, unexpected(err, errLine)
			}
		}
		line, err := readLine(c.r)
		if err != nil {
			return 0, unexpected(err, errLine)
		}
		size, _, _ := strings.Cut(line, ";")
		if c.left, err = strconv.ParseInt(strings.TrimSpace(size), 16, 64); err != nil || c.left < 0 {
			c.left = 0
			return 0, errLine
		}
		c.open = true
		if c.left == 0 {
			for c.done = true; ; { // trailers
				if line, err := readLine(c.r); err != nil || line == "" {
					break
				}
			}
		}
	}
	n, err := c.r.Read(p[:min(int64(len(p)), c.left)])
	c.left -= int64(n)
	return n, unexpected(err, nil)
}

// unexpected makes an end of file in the middle an error that says so.
func unexpected(err, other error) error {
	switch {
	case err == nil:
		return other
	case errors.Is(err, io.EOF):
		return io.ErrUnexpectedEOF
	}
	return err
}

// readRecord reads one RecordIO record: its length in decimal, a newline, and
// so many bytes.
func readRecord(r *bufio.Reader) ([]byte, error) {
	line, err := r.ReadSlice('\n')
	if err != nil {
		if errors.Is(err, bufio.ErrBufferFull) {
			return nil, errRecord
		}
		if errors.Is(err, io.EOF) && len(line) > 0 {
			return nil, io.ErrUnexpectedEOF
		}
		return nil, err
	}
	size, err := strconv.ParseUint(string(line[:len(line)-1]), 10, 32)
	if err != nil || size > maxRecord {
		return nil, errRecord
	}
	b := make([]byte, size)
	_, err = io.ReadFull(r, b)
	return b, unexpected(err, nil)
}

// agentAddress is where the agent listens.
type agentAddress struct {
	network, address string
	// host is for the Host header.
	host  string
	token string
}

const callTimeout = 30 * time.Second

func (a agentAddress) dial() (net.Conn, error) {
	d := net.Dialer{Timeout: callTimeout}
	return d.DialContext(context.Background(), a.network, a.address)
}

// request renders a call of the executor API.
func (a agentAddress) request(body []byte) []byte {
	b := make([]byte, 0, 256+len(body))
	b = append(b, "POST /api/v1/executor HTTP/1.1\r\nHost: "...)
	b = append(b, a.host...)
	b = append(b, "\r\nContent-Type: application/x-protobuf\r\nAccept: application/x-protobuf\r\nContent-Length: "...)
	b = strconv.AppendInt(b, int64(len(body)), 10)
	if a.token != "" {
		b = append(b, "\r\nAuthorization: Bearer "...)
		b = append(b, a.token...)
	}
	b = append(b, "\r\n\r\n"...)
	return append(b, body...)
}

// statusError says that the agent answered with another status than it should.
type statusError struct {
	status int
	text   string
}

func (e *statusError) Error() string {
	return "agent answered " + strconv.Itoa(e.status) + ": " + e.text
}

func newStatusError(resp *response) error {
	text, err := io.ReadAll(io.LimitReader(resp.body, 1024))
	if err != nil && len(text) == 0 {
		text = []byte(err.Error())
	}
	return &statusError{status: resp.status, text: strings.TrimSpace(string(text))}
}

// caller sends calls over one connection, one after the other. It is used by
// one goroutine.
type caller struct {
	agent agentAddress
	conn  net.Conn
	r     *bufio.Reader
}

// call sends one call and waits for its 202. On a connection that has been
// used before an error may only mean that the agent has closed it, so the call
// is sent once more: a status update is known by its uuid, the agent drops the
// second of two.
func (c *caller) call(body []byte) error {
	used := c.conn != nil
	err := c.try(body)
	var status *statusError
	if err != nil && used && !errors.As(err, &status) {
		err = c.try(body)
	}
	return err
}

func (c *caller) try(body []byte) error {
	if c.conn == nil {
		conn, err := c.agent.dial()
		if err != nil {
			return err
		}
		c.conn, c.r = conn, bufio.NewReaderSize(conn, 1024)
	}
	_ = c.conn.SetDeadline(time.Now().Add(callTimeout))
	resp, err := c.exchange(body)
	if err != nil || resp.close {
		c.close()
	}
	if err != nil {
		return err
	}
	if resp.status != 202 {
		return newStatusError(resp)
	}
	return nil
}

func (c *caller) exchange(body []byte) (*response, error) {
	if _, err := c.conn.Write(c.agent.request(body)); err != nil {
		return nil, err
	}
	resp, err := readResponse(c.r)
	if err != nil {
		return nil, err
	}
	text, err := io.ReadAll(io.LimitReader(resp.body, 64<<10))
	if err != nil {
		return nil, err
	}
	if n, _ := io.CopyN(io.Discard, resp.body, 1); n > 0 {
		resp.close = true // more than anybody should say to a call
	}
	resp.body = strings.NewReader(string(text))
	return resp, nil
}

func (c *caller) close() {
	if c.conn != nil {
		c.conn.Close()
		c.conn = nil
	}
}
