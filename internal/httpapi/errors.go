// Package httpapi is what the HTTP fronts of master and agent have in common:
// routing as libprocess does it, content negotiation, reading and decoding
// bodies, errors with Mesos's exact texts, JSONP and gzip, and the endpoints
// that every process serves (`/version`, `/flags`, `/health`, `/metrics/snapshot`,
// `/system/stats.json`, `/logging/toggle`, `/help`).
//
// The main types are [Router], which dispatches to a [Handler], and [Error],
// the answer a Handler returns instead of writing one. A Router is safe for
// concurrent use once its routes are set up. Imported by server, agent and
// internal/files.
package httpapi

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

const textPlain = "text/plain; charset=utf-8"

// Error is an answer that is not a success: a status and a plain text body.
type Error struct {
	Status int
	Body   string
	// Header is added to the answer; it may be nil.
	Header http.Header
}

// Error returns the status and the body.
func (e *Error) Error() string {
	if e.Body == "" {
		return fmt.Sprintf("%d %s", e.Status, http.StatusText(e.Status))
	}
	return fmt.Sprintf("%d: %s", e.Status, e.Body)
}

// Errorf returns an [Error] with a formatted body.
func Errorf(status int, format string, args ...any) *Error {
	if len(args) == 0 {
		return &Error{Status: status, Body: format}
	}
	return &Error{Status: status, Body: fmt.Sprintf(format, args...)}
}

// StatusError returns an [Error] with the body that libprocess gives a status
// when the handler says nothing: "404 Not Found.".
func StatusError(status int) *Error {
	return &Error{Status: status, Body: strconv.Itoa(status) + " " + http.StatusText(status) + "."}
}

// BadRequest returns status 400.
func BadRequest(format string, args ...any) *Error {
	return Errorf(http.StatusBadRequest, format, args...)
}

// Forbidden returns status 403.
func Forbidden(format string, args ...any) *Error {
	return Errorf(http.StatusForbidden, format, args...)
}

// NotFound returns status 404; the body may be empty, as Mesos's is at times.
func NotFound(format string, args ...any) *Error {
	return Errorf(http.StatusNotFound, format, args...)
}

// Conflict returns status 409.
func Conflict(format string, args ...any) *Error {
	return Errorf(http.StatusConflict, format, args...)
}

// NotImplemented returns status 501 with the body of libprocess.
func NotImplemented() *Error { return StatusError(http.StatusNotImplemented) }

// Unavailable returns status 503.
func Unavailable(format string, args ...any) *Error {
	return Errorf(http.StatusServiceUnavailable, format, args...)
}

// Unauthorized returns status 401 for a realm of Basic authentication.
func Unauthorized(realm string) *Error {
	e := StatusError(http.StatusUnauthorized)
	e.Header = http.Header{"Www-Authenticate": {`Basic realm="` + realm + `"`}}
	return e
}

// Redirect returns status 307 to the same path on another host (host:port).
// The Location has no scheme, as Mesos's: the client keeps the one it used
// (src/master/http.cpp, redirect).
func Redirect(hostPort, path string) *Error {
	return &Error{Status: http.StatusTemporaryRedirect, Header: http.Header{"Location": {"//" + hostPort + path}}}
}

// MethodNotAllowed returns status 405.
func MethodNotAllowed(received string, allowed ...string) *Error {
	return &Error{
		Status: http.StatusMethodNotAllowed,
		Body: fmt.Sprintf("405 Method Not Allowed. Expecting one of { '%s' }, but received '%s'.",
			strings.Join(allowed, "', '"), received),
		Header: http.Header{"Allow": {strings.Join(allowed, ", ")}},
	}
}

// RequireMethod returns a 405 [Error] unless the request has one of the
// methods. HEAD is allowed where GET is.
func RequireMethod(r *http.Request, allowed ...string) error {
	if slices.Contains(allowed, r.Method) || (r.Method == http.MethodHead && slices.Contains(allowed, http.MethodGet)) {
		return nil
	}
	return MethodNotAllowed(r.Method, allowed...)
}

// asError maps any error to the answer it stands for; what is not an [Error]
// or an exceeded body limit is an internal error.
func asError(err error) *Error {
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	if e, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return tooLarge(e.Limit)
	}
	return &Error{Status: http.StatusInternalServerError, Body: err.Error()}
}

// StatusOf is the status that an error is answered with.
func StatusOf(err error) int { return asError(err).Status }

// WriteError answers with the status and body of err, see [Error].
func WriteError(w http.ResponseWriter, err error) {
	e := asError(err)
	h := w.Header()
	maps.Copy(h, e.Header)
	// Mesos labels even an empty 4xx body, but not redirects.
	if (e.Body != "" || e.Status >= http.StatusBadRequest) && e.Header.Get("Content-Type") == "" {
		h.Set("Content-Type", textPlain)
	}
	h.Set("Content-Length", strconv.Itoa(len(e.Body)))
	w.WriteHeader(e.Status)
	_, _ = w.Write([]byte(e.Body))
}

// Numify parses a whole number as stout's numify does, hexadecimal with 0x
// included; its error has the text that clients of Mesos see.
func Numify(s string) (int64, error) {
	n, err := strconv.ParseInt(s, 10, 64)
	if digits, negative := strings.CutPrefix(s, "-"); err != nil && (strings.HasPrefix(digits, "0x") || strings.HasPrefix(digits, "0X")) {
		var u uint64
		if u, err = strconv.ParseUint(digits[2:], 16, 63); err == nil {
			n = int64(u)
			if negative {
				n = -n
			}
		}
	}
	if err != nil {
		return 0, fmt.Errorf("Failed to convert '%s' to number", s) //nolint:staticcheck // Mesos's own text, clients see it.
	}
	return n, nil
}
