package executorlink

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
	maxAnswer = 1 << 20
)

var (
	errLine   = errors.New("malformed or oversized line")
	errRecord = errors.New("malformed or oversized record")
)

// Response is the head of an HTTP/1.1 response; its body follows on body.
type Response struct {
	Status int
	// Close says that the connection ends with this response.
	Close bool
	// Location is that header, Body what follows the head.
	Location string
	Body     io.Reader
}

// ReadResponse reads the head of a response. net/http would do it, and take a
// good part of the time that this program has to start in.
func ReadResponse(r *bufio.Reader) (*Response, error) {
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
		resp := &Response{Status: status, Close: proto == "HTTP/1.0"}
		if err := readHeaders(r, resp); err != nil {
			return nil, err
		}
		if status >= 200 || status == 101 {
			return resp, nil
		}
	}
}

func readHeaders(r *bufio.Reader, resp *Response) error {
	length, chunked := int64(-1), false
	for range 1000 {
		line, err := readLine(r)
		if err != nil {
			return err
		}
		if line == "" {
			switch {
			case chunked:
				resp.Body = &chunkedReader{r: r}
			case length >= 0:
				resp.Body = io.LimitReader(r, length)
			case resp.Status == 204 || resp.Status == 304 || resp.Status < 200:
				resp.Body = strings.NewReader("")
			default:
				resp.Body, resp.Close = r, true
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
			resp.Close = resp.Close || strings.EqualFold(value, "close")
		case "location":
			resp.Location = value
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
				return 0, Unexpected(err, errLine)
			}
		}
		line, err := readLine(c.r)
		if err != nil {
			return 0, Unexpected(err, errLine)
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
	return n, Unexpected(err, nil)
}

// Unexpected makes an end of file in the middle an error that says so.
func Unexpected(err, other error) error {
	switch {
	case err == nil:
		return other
	case errors.Is(err, io.EOF):
		return io.ErrUnexpectedEOF
	}
	return err
}

// ReadRecord reads one RecordIO record: its length in decimal, a newline, and
// so many bytes.
func ReadRecord(r *bufio.Reader) ([]byte, error) {
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
	return b, Unexpected(err, nil)
}

// Address is where the agent listens.
type Address struct {
	Network, Address string
	// Host is for the Host header.
	Host string
	// Token is shown to the agent, if there is one.
	Token string
}

const callTimeout = 30 * time.Second

// AcceptProtobuf is the header line for an answer in protobuf.
const AcceptProtobuf = "Accept: application/x-protobuf\r\n"

// Dial connects.
func (a Address) Dial() (net.Conn, error) {
	d := net.Dialer{Timeout: callTimeout}
	return d.DialContext(context.Background(), a.Network, a.Address)
}

// Request renders a call of an API of the agent: a POST of a protobuf message to a path,
// with further header lines.
func (a Address) Request(path, header string, body []byte) []byte {
	b := make([]byte, 0, 256+len(body))
	b = append(b, "POST "...)
	b = append(b, path...)
	b = append(b, " HTTP/1.1\r\nHost: "...)
	b = append(b, a.Host...)
	b = append(b, "\r\nContent-Type: application/x-protobuf\r\n"...)
	b = append(b, header...)
	b = append(b, "Content-Length: "...)
	b = strconv.AppendInt(b, int64(len(body)), 10)
	if a.Token != "" {
		b = append(b, "\r\nAuthorization: Bearer "...)
		b = append(b, a.Token...)
	}
	b = append(b, "\r\n\r\n"...)
	return append(b, body...)
}

// StatusError says that the agent answered with another status than it should.
type StatusError struct {
	Status int
	Text   string
}

func (e *StatusError) Error() string {
	return "agent answered " + strconv.Itoa(e.Status) + ": " + e.Text
}

// NewStatusError makes the error of a response.
func NewStatusError(resp *Response) error {
	text, err := io.ReadAll(io.LimitReader(resp.Body, 1024))
	if err != nil && len(text) == 0 {
		text = []byte(err.Error())
	}
	return &StatusError{Status: resp.Status, Text: strings.TrimSpace(string(text))}
}

// Caller sends calls to one API over one connection, one after the other. It is used by
// one goroutine.
type Caller struct {
	Agent Address
	// Path is that of the API.
	Path string
	// Patient says that an answer may take any time.
	Patient bool

	conn net.Conn
	r    *bufio.Reader
}

// Call sends one call and returns the body of its answer, which must have the status
// want. On a connection that has been
// used before an error may only mean that the agent has closed it, so the call
// is sent once more: a status update is known by its uuid, the agent drops the
// second of two.
func (c *Caller) Call(body []byte, want int) ([]byte, error) {
	used := c.conn != nil
	out, err := c.try(body, want)
	var status *StatusError
	if err != nil && used && !errors.As(err, &status) {
		out, err = c.try(body, want)
	}
	return out, err
}

func (c *Caller) try(body []byte, want int) ([]byte, error) {
	if c.conn == nil {
		conn, err := c.Agent.Dial()
		if err != nil {
			return nil, err
		}
		c.conn, c.r = conn, bufio.NewReaderSize(conn, 1024)
	}
	if !c.Patient {
		_ = c.conn.SetDeadline(time.Now().Add(callTimeout))
	}
	resp, err := c.exchange(body)
	if err != nil || resp.Close {
		c.Close()
	}
	if err != nil {
		return nil, err
	}
	if resp.Status != want {
		return nil, NewStatusError(resp)
	}
	return io.ReadAll(resp.Body)
}

func (c *Caller) exchange(body []byte) (*Response, error) {
	if _, err := c.conn.Write(c.Agent.Request(c.Path, AcceptProtobuf, body)); err != nil {
		return nil, err
	}
	resp, err := ReadResponse(c.r)
	if err != nil {
		return nil, err
	}
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return nil, err
	}
	if n, _ := io.CopyN(io.Discard, resp.Body, 1); n > 0 {
		resp.Close = true // more than anybody should say to a call
	}
	resp.Body = strings.NewReader(string(text))
	return resp, nil
}

// Close closes the connection.
func (c *Caller) Close() {
	if c.conn != nil {
		c.conn.Close()
		c.conn = nil
	}
}
