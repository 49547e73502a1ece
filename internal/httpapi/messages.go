package httpapi

import (
	"bytes"
	"net/http"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// maxMessages is how many messages, inner ones included, a call may hold; more is answered
// with 413. An empty one is two bytes on the wire, next to none of them compressed, and a
// hundred in memory: without a bound a body of 30 KB takes gigabytes. A RECONCILE of 262,144
// tasks has 800,000.
const maxMessages = 2 << 20

// checkMessages counts the messages of a body before it is decoded.
func checkMessages(body []byte, media Media, msg proto.Message) error {
	if len(body) < maxMessages { // there is no room for so many
		return nil
	}
	left := maxMessages
	if media == JSON {
		left -= bytes.Count(body, []byte{'{'})
	} else {
		countMessages(body, msg.ProtoReflect().Descriptor(), protowire.DefaultRecursionLimit, &left)
	}
	if left < 0 {
		return Errorf(http.StatusRequestEntityTooLarge, "The call holds more than %d messages", maxMessages)
	}
	return nil
}

// countMessages takes the messages in an encoded one off what is left. What is not valid,
// or too deep, is for the decoder to complain of.
func countMessages(b []byte, d protoreflect.MessageDescriptor, depth int, left *int) {
	fields := d.Fields()
	for len(b) > 0 && depth > 0 && *left >= 0 {
		number, kind, n := protowire.ConsumeTag(b)
		if n < 0 {
			return
		}
		b = b[n:]
		if n = protowire.ConsumeFieldValue(number, kind, b); n < 0 {
			return
		}
		if f := fields.ByNumber(number); kind == protowire.BytesType && f != nil && f.Message() != nil {
			*left--
			inner, _ := protowire.ConsumeBytes(b)
			countMessages(inner, f.Message(), depth-1, left)
		}
		b = b[n:]
	}
}
