package httpapi

import (
	"bytes"
	"compress/gzip"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"
)

// GzipMinimum is the smallest body worth compressing (libprocess, gzip.hpp).
const GzipMinimum = 1024

// maxJSONP is the longest name of a JSONP function.
const maxJSONP = 128

var gzipWriters = sync.Pool{New: func() any {
	z, _ := gzip.NewWriterLevel(nil, gzip.BestSpeed)
	return z
}}

// callback is what a JSONP function may be called. Mesos takes anything; we do
// not put arbitrary text of a link into a script.
var callback = regexp.MustCompile(`^[A-Za-z_$][A-Za-z0-9_$.\[\]]*$`)

// Write answers 200 with a plain body, gzipped if it is large enough and the
// client asked for it. Streams must not go through here: they stay uncompressed.
func Write(w http.ResponseWriter, r *http.Request, contentType string, body []byte) {
	h := w.Header()
	h.Set("Content-Type", contentType)
	if len(body) >= GzipMinimum && acceptsGzip(r.Header) {
		var buf bytes.Buffer
		z := gzipWriters.Get().(*gzip.Writer)
		z.Reset(&buf)
		_, _ = z.Write(body)
		_ = z.Close() // to memory: cannot fail
		gzipWriters.Put(z)
		body = buf.Bytes()
		h.Set("Content-Encoding", "gzip")
		h.Add("Vary", "Accept-Encoding")
	}
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(http.StatusOK)
	if r.Method != http.MethodHead {
		writeBody(w, body)
	}
}

// writeTimeout is how long writePiece bytes of an answer may take to leave this
// machine. Who reads more slowly is cut off: else a client that does not read
// would keep its answer, a hundred megabytes of state, in memory for ever.
var writeTimeout = time.Minute

const writePiece = 1 << 20

// writeBody writes an answer, as long as the client reads it.
func writeBody(w http.ResponseWriter, parts ...[]byte) {
	rc := http.NewResponseController(w)
	defer func() { _ = rc.SetWriteDeadline(time.Time{}) }() // not every transport can
	for _, p := range parts {
		for piece := range slices.Chunk(p, writePiece) {
			_ = rc.SetWriteDeadline(time.Now().Add(writeTimeout))
			if _, err := w.Write(piece); err != nil {
				return // the client has gone
			}
		}
	}
	_ = rc.SetWriteDeadline(time.Now().Add(writeTimeout))
	_ = rc.Flush() // what is buffered must leave under the deadline, too
}

// WriteJSON answers 200 with JSON, or with `fn(JSON)` if the query asks for
// JSONP.
func WriteJSON(w http.ResponseWriter, r *http.Request, body []byte) error {
	query := r.URL.Query()
	if !query.Has("jsonp") {
		Write(w, r, JSON.String(), body)
		return nil
	}
	fn := query.Get("jsonp")
	if len(fn) > maxJSONP || !callback.MatchString(fn) {
		return BadRequest("Invalid name of a function in 'jsonp'.\n")
	}
	script := make([]byte, 0, len(fn)+len(body)+2)
	script = append(script, fn...)
	script = append(script, '(')
	script = append(script, body...)
	script = append(script, ')')
	Write(w, r, "text/javascript", script)
	return nil
}

// WriteMessage answers 200 with a message of a v1 API.
func WriteMessage(w http.ResponseWriter, r *http.Request, media Media, msg proto.Message) error {
	body, err := Marshal(media, msg)
	if err != nil {
		return err
	}
	Write(w, r, media.String(), body)
	return nil
}

// WriteStatus answers with a status and no body at all, such as 202 for a call.
func WriteStatus(w http.ResponseWriter, status int) {
	w.Header().Set("Content-Length", "0")
	w.WriteHeader(status)
}
