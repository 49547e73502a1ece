package render

import (
	"google.golang.org/protobuf/proto"

	"clusterd/api/mesosjson"
)

func unmarshal(f Format, body []byte, m proto.Message) error {
	if f == Protobuf {
		return proto.Unmarshal(body, m)
	}
	return mesosjson.Unmarshal(body, m)
}
