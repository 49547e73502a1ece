package registry

import (
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/rs/zerolog"
)

// hcLog lets raft log through zerolog. Raft speaks to itself a lot: what it says
// at info level goes to debug, since the registry reports what matters itself.
//
// Raft says of a member that it does not reach so several times a second, for as
// long as that lasts: one such line in a while is enough, the others are for debug.
type hcLog struct {
	hclog.Logger // null: all that raft does not use
	log          zerolog.Logger
	said         *sayings
}

// sayings remembers what was said lately.
type sayings struct {
	mu sync.Mutex
	// mu guards what follows.
	last map[string]time.Time
}

const (
	sayAgainAfter = 30 * time.Second
	maxSayings    = 1000
)

// again says whether something was said lately, and that it is being said now.
func (s *sayings) again(key string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	if last, ok := s.last[key]; ok && now.Sub(last) < sayAgainAfter {
		return true
	}
	if s.last == nil || len(s.last) >= maxSayings {
		s.last = make(map[string]time.Time)
	}
	s.last[key] = now
	return false
}

func newHCLog(log zerolog.Logger) hclog.Logger {
	return &hcLog{Logger: hclog.NewNullLogger(), log: log.With().Str("component", "raft").Logger(), said: new(sayings)}
}

// about returns whom a line is about: the same of another member is something else.
func about(msg string, args []any) string {
	for i := 0; i+1 < len(args); i += 2 {
		switch args[i] {
		case "peer", "target", "server-id", "from", "candidate", "id":
			msg += fmt.Sprint(" ", args[i+1])
		}
	}
	return msg
}

func (h *hcLog) Log(level hclog.Level, msg string, args ...any) {
	if level >= hclog.Warn && h.said.again(about(msg, args)) {
		level = hclog.Info
	}
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
	return &hcLog{Logger: h.Logger, log: c.Logger(), said: h.said}
}
func (h *hcLog) Named(string) hclog.Logger      { return h }
func (h *hcLog) ResetNamed(string) hclog.Logger { return h }
