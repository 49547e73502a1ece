package server

import (
	"bytes"
	"log" //nolint:depguard // the type that net/http wants its logger in

	"github.com/rs/zerolog"
)

// newErrorLog lets net/http log through zerolog: what it has to say is about
// clients that misbehave.
func newErrorLog(l zerolog.Logger) *log.Logger { return log.New(errorLog{l}, "", 0) }

type errorLog struct{ log zerolog.Logger }

// Write logs a line.
func (e errorLog) Write(p []byte) (int, error) {
	e.log.Debug().Str("component", "http").Msg(string(bytes.TrimSpace(p)))
	return len(p), nil
}
