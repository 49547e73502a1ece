package events

import (
	"strconv"

	"google.golang.org/protobuf/proto"

	"clusterd/api/mesosjson"
	"clusterd/server/core"
)

// face is one of the two streams.
type face int

const (
	mesosFace face = iota // SUBSCRIBE
	ownFace               // GET /api/clusterd/v1/events
)

// media is how a stream is written.
type media int

const (
	asJSON     media = iota // JSON in RecordIO
	asProtobuf              // protobuf in RecordIO
	asSSE                   // JSON in server-sent events
)

// format is the form of a stream.
type format struct {
	face  face
	media media
	// chunked: every record stands in an HTTP chunk of its own, which is written here and
	// not by net/http.
	chunked bool
}

// payload returns an event as one message, nil if this stream does not show it.
func (f format) payload(master string, e *core.Event, s sight) []byte {
	var m proto.Message
	if f.face == mesosFace {
		if p := mesosMessage(e, s); p != nil {
			m = p
		}
	} else if p := ownMessage(e, s, token{master, e.Serial}.String()); p != nil {
		m = p
	}
	if m == nil {
		return nil
	}
	return f.marshal(m)
}

// marshal encodes a message that the core has made or accepted. It cannot fail; should
// something required be missing after all, it is left out.
func (f format) marshal(m proto.Message) []byte {
	if f.media == asProtobuf {
		b, _ := proto.MarshalOptions{AllowPartial: true}.Marshal(m)
		return b
	}
	b, _ := mesosjson.Marshal(m)
	return b
}

// record is what is known of a record besides its bytes.
type record struct {
	size int
	name string // its type, for server-sent events
	id   token
}

// open appends what stands before a record, shut what stands behind it.
func (f format) open(dst []byte, r record) []byte {
	if f.media != asSSE {
		var digits [20]byte
		size := strconv.AppendInt(digits[:0], int64(r.size), 10)
		if f.chunked {
			dst = strconv.AppendInt(dst, int64(len(size)+1+r.size), 16)
			dst = append(dst, "\r\n"...)
		}
		return append(append(dst, size...), '\n')
	}
	var room [192]byte
	head := r.id.append(append(room[:0], "id: "...))
	head = append(append(append(head, "\nevent: "...), r.name...), "\ndata: "...)
	if f.chunked {
		dst = strconv.AppendInt(dst, int64(len(head)+r.size+2), 16)
		dst = append(dst, "\r\n"...)
	}
	return append(dst, head...)
}

func (f format) shut(dst []byte) []byte {
	if f.media == asSSE {
		dst = append(dst, "\n\n"...)
	}
	if f.chunked {
		dst = append(dst, "\r\n"...)
	}
	return dst
}

// wrap appends a whole record.
func (f format) wrap(dst, payload []byte, r record) []byte {
	r.size = len(payload)
	return f.shut(append(f.open(dst, r), payload...))
}

// plain appends text that is no record: of server-sent events only.
func (f format) plain(dst []byte, text string) []byte {
	if !f.chunked {
		return append(dst, text...)
	}
	dst = append(strconv.AppendInt(dst, int64(len(text)), 16), "\r\n"...)
	return append(append(dst, text...), "\r\n"...)
}
