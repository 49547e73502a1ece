package registry

import (
	"fmt"

	"github.com/hashicorp/go-hclog"
	"github.com/rs/zerolog"
)

// hcLog lets raft log through zerolog. Raft speaks to itself a lot: what it says
// at info level goes to debug, since the registry reports what matters itself.
type hcLog struct {
	hclog.Logger // null: all that raft does not use
	log          zerolog.Logger
}

func newHCLog(log zerolog.Logger) hclog.Logger {
	return &hcLog{Logger: hclog.NewNullLogger(), log: log.With().Str("component", "raft").Logger()}
}

func (h *hcLog) Log(level hclog.Level, msg string, args ...any) {
	var e *zerolog.Event
	switch {
	case level >= hclog.Error:
		e = h.log.Error()
	case level == hclog.Warn:
		e = h.log.Warn()
	case level == hclog.Info:
		e = h.log.Debug()
	default:
		e = h.log.Trace()
	}
	if !e.Enabled() {
		return
	}
	for i := 0; i+1 < len(args); i += 2 {
		e.Str(fmt.Sprint(args[i]), fmt.Sprint(args[i+1]))
	}
	e.Msg(msg)
}

func (h *hcLog) Trace(msg string, args ...any) { h.Log(hclog.Trace, msg, args...) }
func (h *hcLog) Debug(msg string, args ...any) { h.Log(hclog.Debug, msg, args...) }
func (h *hcLog) Info(msg string, args ...any)  { h.Log(hclog.Info, msg, args...) }
func (h *hcLog) Warn(msg string, args ...any)  { h.Log(hclog.Warn, msg, args...) }
func (h *hcLog) Error(msg string, args ...any) { h.Log(hclog.Error, msg, args...) }

func (h *hcLog) With(args ...any) hclog.Logger {
	c := h.log.With()
	for i := 0; i+1 < len(args); i += 2 {
		c = c.Str(fmt.Sprint(args[i]), fmt.Sprint(args[i+1]))
	}
	return &hcLog{Logger: h.Logger, log: c.Logger()}
}
func (h *hcLog) Named(string) hclog.Logger      { return h }
func (h *hcLog) ResetNamed(string) hclog.Logger { return h }
