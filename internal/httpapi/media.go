package httpapi

import (
	"net/http"
	"strconv"
	"strings"
)

// Media is a body's encoding.
type Media int

// The media types of the v1 APIs.
const (
	JSON Media = iota
	Protobuf
	RecordIO
)

// String returns the media type as it stands in headers.
func (m Media) String() string {
	switch m {
	case Protobuf:
		return "application/x-protobuf"
	case RecordIO:
		return "application/recordio"
	default:
		return "application/json"
	}
}

// contentType returns the request's media type. It is compared byte by byte,
// as in Mesos: parameters such as charset make it another type.
func contentType(r *http.Request) (m Media, present, known bool) {
	values := r.Header.Values("Content-Type")
	if len(values) == 0 {
		return JSON, false, false
	}
	for _, m := range []Media{JSON, Protobuf, RecordIO} {
		if values[0] == m.String() {
			return m, true, true
		}
	}
	return JSON, true, false
}

// RequestMedia returns the request's JSON or protobuf Content-Type, or the 400
// or 415 [Error] of the scheduler, executor and master APIs.
func RequestMedia(r *http.Request) (Media, error) {
	m, present, known := contentType(r)
	if !present {
		return m, BadRequest("Expecting 'Content-Type' to be present")
	}
	if !known || m == RecordIO {
		return m, Errorf(http.StatusUnsupportedMediaType, "Expecting 'Content-Type' of %s or %s", JSON, Protobuf)
	}
	return m, nil
}

// ResponseMedia returns what to answer in: JSON if the client accepts it, else
// protobuf, else a 406 [Error]. No Accept header means JSON, whatever the
// request was written in.
func ResponseMedia(r *http.Request) (Media, error) {
	for _, m := range []Media{JSON, Protobuf} {
		if Accepts(r.Header, "Accept", m.String()) {
			return m, nil
		}
	}
	return JSON, Errorf(http.StatusNotAcceptable, "Expecting 'Accept' to allow '%s' or '%s'", Protobuf, JSON)
}

// AgentMedia is what the agent's operator API negotiates: RecordIO bodies carry
// messages of a type of their own.
type AgentMedia struct {
	Content Media
	// MessageContent is the type of the records when Content is RecordIO.
	MessageContent Media
	Accept         Media
	// MessageAccept is the type of the records when Accept is RecordIO.
	MessageAccept Media
}

// NegotiateAgent applies the rules of the agent's `/api/v1` (src/slave/http.cpp,
// Http::api), which differ from the master's in texts and in RecordIO.
func NegotiateAgent(r *http.Request) (AgentMedia, error) {
	var am AgentMedia
	m, present, known := contentType(r)
	if !present {
		return am, BadRequest("Expecting 'Content-Type' to be present")
	}
	if !known {
		return am, Errorf(http.StatusUnsupportedMediaType, "Expecting 'Content-Type' of %s or %s or %s", JSON, Protobuf, RecordIO)
	}
	am.Content = m
	message, has := r.Header["Message-Content-Type"]
	switch {
	case m == RecordIO && !has:
		return am, BadRequest("Expecting 'Message-Content-Type' to be set for streaming requests")
	case m == RecordIO && message[0] == JSON.String():
		am.MessageContent = JSON
	case m == RecordIO && message[0] == Protobuf.String():
		am.MessageContent = Protobuf
	case m == RecordIO:
		return am, Errorf(http.StatusUnsupportedMediaType, "Expecting 'Message-Content-Type' of %s or %s", JSON, Protobuf)
	case has:
		return am, Errorf(http.StatusUnsupportedMediaType, "Expecting 'Message-Content-Type' to be not set for non-streaming requests")
	}
	accepted := false
	for _, m := range []Media{JSON, Protobuf, RecordIO} {
		if Accepts(r.Header, "Accept", m.String()) {
			am.Accept, accepted = m, true
			break
		}
	}
	if !accepted {
		return am, Errorf(http.StatusNotAcceptable, "Expecting 'Accept' to allow %s or %s or %s", JSON, Protobuf, RecordIO)
	}
	if am.Accept != RecordIO {
		if _, has := r.Header["Message-Accept"]; has {
			return am, Errorf(http.StatusNotAcceptable, "Expecting 'Message-Accept' to be not set for non-streaming responses")
		}
		return am, nil
	}
	for _, m := range []Media{JSON, Protobuf} {
		if Accepts(r.Header, "Message-Accept", m.String()) {
			am.MessageAccept = m
			return am, nil
		}
	}
	return am, Errorf(http.StatusNotAcceptable, "Expecting 'Message-Accept' to allow %s or %s", JSON, Protobuf)
}

// Accepts reports whether the named header (Accept, Message-Accept) allows the
// media type: type/subtype is looked for first, then type/*, then */*, and the
// first that is found decides by its q value alone (libprocess, http.cpp). An
// absent header allows everything.
func Accepts(h http.Header, name, mediaType string) bool {
	values, ok := h[http.CanonicalHeaderKey(name)]
	if !ok {
		return true
	}
	kind, _, _ := strings.Cut(mediaType, "/")
	return acceptable(strings.Join(values, ","), mediaType, kind+"/*", "*/*")
}

// acceptsGzip reports whether a plain answer may be compressed.
func acceptsGzip(h http.Header) bool {
	values := h.Values("Accept-Encoding")
	return len(values) > 0 && acceptable(strings.Join(values, ","), "gzip", "*")
}

func acceptable(header string, candidates ...string) bool {
	header = strings.NewReplacer(" ", "", "\t", "", "\n", "").Replace(header)
	for _, candidate := range candidates {
		for item := range strings.SplitSeq(header, ",") {
			name, params, _ := strings.Cut(item, ";")
			if name == "" || !strings.EqualFold(name, candidate) {
				continue
			}
			return quality(params)
		}
	}
	return false
}

// quality reports whether parameters leave a q value above zero; none at all,
// or more than one, counts as acceptable.
func quality(params string) bool {
	found, n := "", 0
	for p := range strings.SplitSeq(params, ";") {
		if k, v, ok := strings.Cut(p, "="); ok && k == "q" {
			found = v
			n++
		}
	}
	if n != 1 {
		return true
	}
	q, err := strconv.ParseFloat(found, 64)
	return err == nil && q > 0
}
