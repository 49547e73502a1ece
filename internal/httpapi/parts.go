package httpapi

import (
	"net/http"
	"strconv"
)

// WriteParts is [Write] for a large body in several pieces, which is not joined
// first.
func WriteParts(w http.ResponseWriter, r *http.Request, contentType string, parts ...[]byte) {
	size := 0
	for _, p := range parts {
		size += len(p)
	}
	if Gzips(r, size) {
		WriteGzipped(w, r, contentType, Gzip(parts...)...)
		return
	}
	h := w.Header()
	h.Set("Content-Type", contentType)
	h.Set("Content-Length", strconv.Itoa(size))
	w.WriteHeader(http.StatusOK)
	if r.Method != http.MethodHead {
		writeBody(w, parts...)
	}
}

// WriteJSONParts is [WriteJSON] for a large body in several pieces.
func WriteJSONParts(w http.ResponseWriter, r *http.Request, parts ...[]byte) error {
	query := r.URL.Query()
	if !query.Has("jsonp") {
		WriteParts(w, r, JSON.String(), parts...)
		return nil
	}
	fn := query.Get("jsonp")
	if len(fn) > maxJSONP || !callback.MatchString(fn) {
		return BadRequest("Invalid name of a function in 'jsonp'.\n")
	}
	wrapped := make([][]byte, 0, len(parts)+2)
	wrapped = append(append(append(wrapped, []byte(fn+"(")), parts...), []byte(")"))
	WriteParts(w, r, "text/javascript", wrapped...)
	return nil
}
