package httpapi

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"google.golang.org/protobuf/proto"

	"clusterd/api/mesosjson"
)

// MaxBody is the largest request body, after decompression, that the v1 APIs
// and the form endpoints read; more is answered with 413. An ACCEPT that
// launches 10,000 tasks or a RECONCILE of 100,000 fits.
const MaxBody = 32 << 20

// bodyTimeout is how long a body may take to arrive: who sends one byte now and then
// would hold its connection, and what has arrived, for ever.
var bodyTimeout = 2 * time.Minute

// limitBody begins that time. It ends when the body has been read; what is left unread,
// net/http waits for before it answers.
func limitBody(w http.ResponseWriter) {
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(bodyTimeout)) // not every transport can
}

func tooLarge(limit int64) *Error {
	return Errorf(http.StatusRequestEntityTooLarge, "Request body is larger than %d bytes", limit)
}

// ReadBody reads the whole body, decompressing gzip as libprocess does. A body
// of more than limit bytes is a 413 [Error] and closes the connection.
func ReadBody(w http.ResponseWriter, r *http.Request, limit int64) ([]byte, error) {
	if r.ContentLength > limit {
		return nil, tooLarge(limit)
	}
	limitBody(w)
	var body io.Reader = http.MaxBytesReader(w, r.Body, limit)
	if r.Header.Get("Content-Encoding") == "gzip" {
		z, err := gzip.NewReader(body)
		if err != nil {
			return nil, bodyError(err)
		}
		body = io.LimitReader(z, limit+1)
	}
	var buf bytes.Buffer
	if r.ContentLength > 0 {
		// The announced length is believed only so far: memory follows what arrives.
		buf.Grow(int(min(r.ContentLength, 1<<20)) + bytes.MinRead)
	}
	if _, err := buf.ReadFrom(body); err != nil {
		return nil, bodyError(err)
	}
	if int64(buf.Len()) > limit {
		return nil, tooLarge(limit)
	}
	_ = http.NewResponseController(w).SetReadDeadline(time.Time{}) // the answer may go on for long
	return buf.Bytes(), nil
}

func bodyError(err error) error {
	if e, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return tooLarge(e.Limit)
	}
	return BadRequest("Failed to read the request body: %v", err)
}

// DecodeCall checks method and Content-Type, then reads and decodes a call of
// the scheduler, executor or master API into msg, with the errors of these in
// their order: 405, 400, 415, 413, 400 (src/master/http.cpp).
func DecodeCall(w http.ResponseWriter, r *http.Request, msg proto.Message) (Media, error) {
	if err := RequireMethod(r, http.MethodPost); err != nil {
		return JSON, err
	}
	media, err := RequestMedia(r)
	if err != nil {
		return media, err
	}
	body, err := ReadBody(w, r, MaxBody)
	if err != nil {
		return media, err
	}
	return media, UnmarshalCall(body, media, msg)
}

// UnmarshalCall decodes the body of a scheduler, executor or master call; the
// error is a 400 [Error] with Mesos's text.
func UnmarshalCall(body []byte, media Media, msg proto.Message) error {
	if err := checkMessages(body, media, msg); err != nil {
		return err
	}
	if media == Protobuf {
		if err := proto.Unmarshal(body, msg); err != nil {
			return BadRequest("Failed to parse body into Call protobuf")
		}
		return nil
	}
	err := mesosjson.Unmarshal(body, msg)
	if err == nil {
		return nil
	}
	if _, ok := errors.AsType[*mesosjson.SyntaxError](err); ok {
		return BadRequest("Failed to parse body into JSON: %v", err)
	}
	return BadRequest("Failed to convert JSON into Call protobuf: %v", err)
}

// DecodeAgentCall is [DecodeCall] for the agent's operator API, whose texts
// and order of checks differ (src/slave/http.cpp, src/common/http.hpp). A
// RecordIO body is left unread: the caller decodes its records.
func DecodeAgentCall(w http.ResponseWriter, r *http.Request, msg proto.Message) (AgentMedia, error) {
	if err := RequireMethod(r, http.MethodPost); err != nil {
		return AgentMedia{}, err
	}
	am, err := NegotiateAgent(r)
	if err != nil || am.Content == RecordIO {
		return am, err
	}
	body, err := ReadBody(w, r, MaxBody)
	if err != nil {
		return am, err
	}
	return am, UnmarshalAgentCall(body, am.Content, msg)
}

// UnmarshalAgentCall is [UnmarshalCall] for the agent's operator API.
func UnmarshalAgentCall(body []byte, media Media, msg proto.Message) error {
	if err := checkMessages(body, media, msg); err != nil {
		return err
	}
	if media == Protobuf {
		if err := proto.Unmarshal(body, msg); err != nil {
			return BadRequest("Failed to parse body into a protobuf object")
		}
		return nil
	}
	err := mesosjson.Unmarshal(body, msg)
	if err == nil {
		return nil
	}
	if _, ok := errors.AsType[*mesosjson.SyntaxError](err); ok {
		return BadRequest("Failed to parse body into JSON: %v", err)
	}
	return BadRequest("%v", err)
}

// Marshal encodes a message as JSON or protobuf.
func Marshal(media Media, msg proto.Message) ([]byte, error) {
	switch media {
	case JSON:
		return mesosjson.Marshal(msg)
	case Protobuf:
		return proto.Marshal(msg)
	default:
		return nil, fmt.Errorf("encode %T as %s: not possible", msg, media)
	}
}
