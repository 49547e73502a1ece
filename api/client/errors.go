package client

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
)

// ErrStalled is why a stream was dropped on which nothing arrived for too long,
// not even heartbeats, or whose response did not begin.
var ErrStalled = errors.New("no sign of life from the server")

// ErrRedirects is returned when masters name each other as the leader.
var ErrRedirects = errors.New("too many redirects")

// StatusError is an answer that is not a success.
type StatusError struct {
	// Code is the HTTP status code.
	Code int
	// Body is the beginning of the body: Mesos explains refusals there.
	Body string
	// Header is the header of the answer.
	Header http.Header
}

// Error returns the status and the body.
func (e *StatusError) Error() string {
	text := strconv.Itoa(e.Code)
	if s := http.StatusText(e.Code); s != "" {
		text += " " + s
	}
	if body := strings.TrimSpace(e.Body); body != "" {
		text += ": " + body
	}
	return text
}

func statusError(res *http.Response) *StatusError {
	// The status is the error; a body that cannot be read adds nothing to it.
	body, _ := io.ReadAll(io.LimitReader(res.Body, maxErrorBody))
	return &StatusError{Code: res.StatusCode, Body: string(body), Header: res.Header}
}

// StatusCode returns the HTTP status that err stands for, 0 when it is not a
// [*StatusError].
func StatusCode(err error) int {
	if e, ok := errors.AsType[*StatusError](err); ok {
		return e.Code
	}
	return 0
}

// Permanent tells whether a request that failed with err would fail again if it were
// sent again unchanged: the server understood it and refused.
func Permanent(err error) bool {
	switch code := StatusCode(err); code {
	case http.StatusRequestTimeout, http.StatusTooManyRequests:
		return false
	default:
		return code >= 400 && code < 500 || code == http.StatusNotImplemented
	}
}

// unsent tells whether err means that the server never saw the request.
func unsent(err error) bool {
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return true
	}
	if _, ok := errors.AsType[tls.RecordHeaderError](err); ok {
		return true
	}
	op, ok := errors.AsType[*net.OpError](err)
	return ok && op.Op == "dial"
}
