package httpapi

import (
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"clusterd/internal/units"
)

// Verbosity is the level of debug output, glog's v: 0 shows none, 1 shows
// debug, 2 and more show trace events. `/logging/toggle` and
// SET_LOGGING_LEVEL raise it for a while. It is a [zerolog.Sampler]: give the
// logger level Trace and `logger.Sample(verbosity)`.
type Verbosity struct {
	level    atomic.Int32
	original int32

	mu     sync.Mutex // mu guards revert.
	revert *time.Timer
}

var _ zerolog.Sampler = (*Verbosity)(nil)

// NewVerbosity returns a Verbosity at its original level.
func NewVerbosity(original int) *Verbosity {
	v := &Verbosity{original: int32(original)}
	v.level.Store(int32(original))
	return v
}

// Sample reports whether events of this level are to be logged.
func (v *Verbosity) Sample(lvl zerolog.Level) bool {
	switch lvl {
	case zerolog.DebugLevel:
		return v.level.Load() >= 1
	case zerolog.TraceLevel:
		return v.level.Load() >= 2
	default:
		return true
	}
}

// Level returns the current level.
func (v *Verbosity) Level() int { return int(v.level.Load()) }

// Set changes the level and, unless it is the original one, sets it back after
// d. A level below the original is refused with a 400 [Error]
// (libprocess, logging.cpp).
func (v *Verbosity) Set(level int, d time.Duration) error {
	switch {
	case level < 0:
		return BadRequest("Invalid level '%d'.\n", level)
	case level < int(v.original):
		return BadRequest("'%d' < original level.\n", level)
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.revert != nil {
		v.revert.Stop()
		v.revert = nil
	}
	v.level.Store(int32(min(level, 1<<30)))
	if level != int(v.original) {
		var mine *time.Timer
		mine = time.AfterFunc(d, func() {
			v.mu.Lock()
			defer v.mu.Unlock()
			if v.revert == mine { // not replaced meanwhile
				v.level.Store(v.original)
				v.revert = nil
			}
		})
		v.revert = mine
	}
	return nil
}

func (v *Verbosity) toggle(w http.ResponseWriter, r *http.Request) error {
	query := r.URL.Query()
	hasLevel, hasDuration := query.Has("level"), query.Has("duration")
	switch {
	case !hasLevel && !hasDuration:
		Write(w, r, textPlain, []byte(strconv.Itoa(v.Level())+"\n"))
		return nil
	case !hasDuration:
		return BadRequest("Expecting 'duration=value' in query.\n")
	case !hasLevel:
		return BadRequest("Expecting 'level=value' in query.\n")
	}
	level, err := Numify(query.Get("level"))
	if err != nil || level != int64(int32(level)) {
		return BadRequest("Failed to convert '%s' to number.\n", query.Get("level"))
	}
	d, err := units.ParseDuration(query.Get("duration"))
	if err != nil {
		return BadRequest("%v.\n", err)
	}
	Audit(r, "SET_LOGGING_LEVEL", "level", strconv.FormatInt(level, 10), "duration", d.String())
	if err := v.Set(int(level), d); err != nil {
		return err
	}
	WriteStatus(w, http.StatusOK)
	return nil
}
